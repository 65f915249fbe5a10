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

impl Lang {
    /// Words that programs know by their English form, operations and refusals, for people. What is not known stays English.
    pub fn words(self, english: &str) -> String {
        let told = || patterns().find_map(|(pattern, chinese)| Some(filled(chinese, &gaps(pattern, english)?)));
        match self {
            Lang::En => english.into(),
            Lang::Zh => told().unwrap_or_else(|| english.into()),
        }
    }
}

fn patterns() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("zh_words.txt").lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(" = "))
}

/// What stands where the pattern has `{}`.
fn gaps<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut all = vec![];
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let at = if last {
            rest.len().checked_sub(part.len()).filter(|at| rest.is_char_boundary(*at) && &rest[*at..] == part)?
        } else {
            rest.find(part)?
        };
        all.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty().then_some(all)
}

fn filled(pattern: &str, gaps: &[&str]) -> String {
    let mut gaps = gaps.iter();
    pattern
        .split("{}")
        .enumerate()
        .map(|(i, part)| if i == 0 { part.to_string() } else { gaps.next().map_or(String::new(), ToString::to_string) + part })
        .collect()
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
    fn words_are_those_of_the_sources_and_what_differs_is_kept() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../plan/src"), &mut text);
        for (english, chinese) in patterns() {
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{english}");
            for part in english.split("{}").filter(|p| p.len() > 3) {
                assert!(text.contains(part), "nobody says `{part}`");
            }
        }
        for (english, want) in [
            ("the job runs already", "作业已在运行"),
            ("this needs the role `editor`, you have `viewer`", "此操作需要角色 `editor`，您的角色是 `viewer`"),
            ("a password has 12 to 200 characters", "密码应为 12 到 200 个字符"),
            ("the version has errors: edit the task (line 3: x)", "该版本有错误：请编辑任务 (line 3: x)"),
            ("there is a task `中` already", "已有任务 `中`"),
            ("the job runs already, it does", "the job runs already, it does"),
            ("stop", "停止"),
            ("", ""),
        ] {
            assert_eq!(Lang::Zh.words(english), want);
            assert_eq!(Lang::En.words(english), english);
        }
    }

    /// A refusal that is written as one text has its Chinese: whoever adds one is told so here.
    #[test]
    fn every_refusal_has_its_translation() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let (mut seen, mut missing) = (0, vec![]);
        for call in ["bad(", "conflict(", "forbidden("].map(|c| ["Refusal::", c].concat()) {
            for (at, _) in text.match_indices(&call) {
                let rest = text[at + call.len()..].trim_start().trim_start_matches("format!(");
                let Some(message) = rest.trim_start().strip_prefix('"').and_then(|r| r.split("\"").next()) else { continue };
                // A gap may have a name.
                let pieces: Vec<&str> = message.split(['{', '}']).enumerate().map(|(i, p)| if i % 2 == 0 { p } else { "7" }).collect();
                seen += 1;
                if Lang::Zh.words(&pieces.concat()) == pieces.concat() {
                    missing.push(message);
                }
            }
        }
        assert!(seen > 50 && missing.is_empty(), "zh_words.txt lacks {missing:#?} of {seen}");
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
