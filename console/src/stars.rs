//! The values of secrets are starred wherever a job's own words are shown, kept or sent: log lines, reasons, dead letters, previews.

use crate::{App, Refusal, tasks};
use std::collections::BTreeSet;

/// Shorter secrets stand in every line by chance: they are not starred.
const SHORTEST_SECRET: usize = 4;
/// Shorter lines of a secret of several lines stand anywhere by chance.
const SHORTEST_LINE: usize = 8;

/// Text without the values of secrets.
pub fn starred(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_string(), |t, s| if t.contains(s.as_str()) { t.replace(s.as_str(), "***") } else { t })
}

/// What to star of a task, the longest first.
///
/// # Errors
/// The database.
pub fn values(app: &App, task: i64) -> Result<Vec<String>, Refusal> {
    let (now, before) = app.store.run(|db| Ok((tasks::secrets(app, db, task)?, tasks::former_secrets(app, db, task)?)))?;
    Ok(forms(now.values().chain(&before)))
}

/// A job's words without the values of its task's secrets.
pub fn hidden(app: &App, task: i64, text: &str) -> String {
    match values(app, task) {
        _ if text.is_empty() => String::new(),
        Ok(secrets) => starred(text, &secrets),
        Err(_) => "what was said is not shown, as the task's secrets cannot be opened".into(),
    }
}

/// The values as they are, and as JSON, URLs and single lines have them; the longest first.
pub fn forms<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all = BTreeSet::new();
    for value in values.filter(|v| v.len() >= SHORTEST_SECRET) {
        let json = serde_json::to_string(value).unwrap_or_default();
        all.insert(json.trim_start_matches('"').strip_suffix('"').unwrap_or(&json).to_string());
        all.insert(percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string());
        // Those that URLs need not escape (RFC 3986, section 2.3).
        const KEPT: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        all.insert(percent_encoding::utf8_percent_encode(value, &KEPT).to_string());
        all.extend(value.lines().map(str::trim).filter(|l| l.len() >= SHORTEST_LINE && value.trim() != *l).map(String::from));
        all.insert(value.clone());
    }
    let mut all: Vec<String> = all.into_iter().filter(|v| v.len() >= SHORTEST_SECRET).collect();
    all.sort_by_key(|v| std::cmp::Reverse(v.len()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_starred_in_every_form_in_which_a_line_may_have_it() {
        let secrets = ["p\"a\\ss:w@rd".to_string(), "-----BEGIN KEY-----\nMIIEvAIBADANBg\nab\n".to_string(), "ab".to_string()];
        let forms = forms(secrets.iter());
        for (line, want) in [
            ("password p\"a\\ss:w@rd!", "password ***!"),
            (r#"{"k":"p\"a\\ss:w@rd"}"#, r#"{"k":"***"}"#),
            ("redis://:p%22a%5Css%3Aw%40rd@host", "redis://:***@host"),
            ("MIIEvAIBADANBg", "***"),
            (r#""-----BEGIN KEY-----\nMIIEvAIBADANBg\nab\n""#, "\"***\""),
            ("drab", "drab"),
        ] {
            assert_eq!(starred(line, &forms), want, "{line}");
        }
    }
}
