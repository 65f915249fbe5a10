//! English and Chinese. Pages are written in English; the table has what each sentence is in Chinese, and a test holds that none is missing.

use std::collections::HashMap;
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    #[default]
    En,
    Zh,
}

impl Lang {
    /// For `lang` of a page, and the cookie.
    pub fn code(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Zh => "zh-CN",
        }
    }

    /// The language of a cookie, or the first known one that a browser asks for (RFC 9110, section 12.5.4, without weights).
    pub fn of(cookie: Option<&str>, accepted: Option<&str>) -> Lang {
        let known = |t: &str| match t.trim().get(..2) {
            Some(l) if l.eq_ignore_ascii_case("zh") => Some(Lang::Zh),
            Some(l) if l.eq_ignore_ascii_case("en") => Some(Lang::En),
            _ => None,
        };
        cookie.and_then(known).or_else(|| accepted.and_then(|a| a.split(',').find_map(known))).unwrap_or_default()
    }

    /// The sentence in this language.
    pub fn t(self, english: &'static str) -> &'static str {
        static TABLE: OnceLock<HashMap<&str, &str>> = OnceLock::new();
        match self {
            Lang::En => english,
            Lang::Zh => TABLE.get_or_init(|| rows().collect()).get(english).copied().unwrap_or(english),
        }
    }
}

/// `English = 中文`, a line each.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("zh.txt").lines().filter_map(|l| l.split_once(" = "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn sources(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|e| e == "rs") {
                all.push_str(std::fs::read_to_string(&path).unwrap().split("#[cfg(test)]\nmod tests").next().unwrap());
            }
        }
    }

    #[test]
    fn every_sentence_has_its_translation_and_no_other_is_there() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let call = [".t(", "\""].concat();
        let used: BTreeSet<&str> = text.match_indices(&call).map(|(at, c)| text[at + c.len()..].split('"').next().unwrap()).collect();
        let table: BTreeSet<&str> = rows().map(|r| r.0).collect();
        assert_eq!(rows().count(), table.len(), "a sentence comes twice");
        let missing: Vec<_> = used.difference(&table).collect();
        let unused: Vec<_> = table.difference(&used).collect();
        assert!(missing.is_empty() && unused.is_empty(), "zh.txt lacks {missing:#?}, and has for nobody {unused:#?}");
    }

    #[test]
    fn the_cookie_goes_before_the_browser() {
        let cases = [
            (None, None, Lang::En),
            (None, Some("de, zh;q=0.8, en;q=0.7"), Lang::Zh),
            (None, Some("fr"), Lang::En),
            (Some("en"), Some("zh"), Lang::En),
            (Some("zh-CN"), None, Lang::Zh),
            (Some("\u{4e2d}"), Some("z"), Lang::En),
        ];
        for (cookie, accepted, want) in cases {
            assert_eq!(Lang::of(cookie, accepted), want, "{cookie:?} {accepted:?}");
        }
    }
}
