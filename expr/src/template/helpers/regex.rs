//! Regular expressions, in the syntax of the regex crate (no look-around, linear time).

use super::cache::Cache;
use super::{Args, Done, Example, HelperDef, give};
use crate::EvalError;
use millrace_sdk::{Type, Val};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::rc::Rc;

const THEME: &str = "regex";
/// Largest compiled pattern, bytes.
const MAX_SIZE: usize = 8 << 20;

thread_local! {
    static COMPILED: Cache<Regex> = const { Cache::new() };
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_SIZE).build().map_err(|e| {
        let text = e.to_string();
        let last = text.lines().last().unwrap_or("").trim_start_matches("error: ").to_string();
        format!("`{pattern}` is no regular expression: {last}")
    })
}

fn compiled(a: &Args<'_, '_>) -> Result<Rc<Regex>, EvalError> {
    let pattern = a.text(1);
    COMPILED.with(|c| c.get(&pattern, "", || build(&pattern))).map_err(|e| a.fail("invalid-regex", e))
}

/// Argument 1 is a pattern.
fn check(index: usize, literal: &str) -> Result<(), (&'static str, String)> {
    if index != 1 {
        return Ok(());
    }
    build(literal).map(drop).map_err(|e| ("invalid-regex", e))
}

inventory::submit!(
    HelperDef::new(
        "regex_match",
        THEME,
        "regex_match TEXT PATTERN",
        2..=2,
        Type::Boolean,
        "Whether PATTERN is found in TEXT; anchor it with `^` and `$` to match the whole.",
        &[
            Example(r#"{{regex_match a "^u\\d+$"}}"#, r#"{"a":"u17"}"#, "true"),
            Example(r#"{{#regex_match a "x"}}y{{else}}n{{/regex_match}}"#, r#"{"a":"u17"}"#, "n")
        ],
        regex_match
    )
    .check(check)
);
fn regex_match<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let regex = compiled(a)?;
    Ok(Val::Bool(a.some_text(0).is_some_and(|t| regex.is_match(&t))))
}

inventory::submit!(
    HelperDef::new(
        "regex_capture",
        THEME,
        "regex_capture TEXT PATTERN [GROUP]",
        2..=3,
        Type::String,
        "What GROUP (a number or a name; the first by default, 0 is the whole match) matched; null if nothing did.",
        &[
            Example(r#"{{regex_capture a "v(\\d+)\\.(\\d+)" 2}}"#, r#"{"a":"app v12.3"}"#, "3"),
            Example(r#"{{regex_capture a "uid=(?<uid>\\d+)" "uid"}}"#, r#"{"a":"/x?uid=42&y"}"#, "42"),
            Example(r#"{{default (regex_capture a "[0-9]+") "none"}}"#, r#"{"a":"abc"}"#, "none"),
        ],
        regex_capture
    )
    .check(check)
);
fn regex_capture<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let regex = compiled(a)?;
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let group = match a.val(2) {
        v if v.is_null() => usize::from(regex.captures_len() > 1),
        v => {
            let name = a.text(2);
            let number = match v {
                Val::Str(_) => regex.capture_names().position(|n| n == Some(&*name)).or_else(|| name.parse().ok()),
                _ => a.int(2)?.and_then(|n| usize::try_from(n).ok()),
            };
            number
                .filter(|n| *n < regex.captures_len())
                .ok_or_else(|| a.fail("wrong-argument", format!("the pattern has no group `{name}`")))?
        }
    };
    let range =
        if group == 0 { regex.find(&t).map(|m| m.range()) } else { regex.captures(&t).and_then(|c| c.get(group)).map(|m| m.range()) };
    let Some(range) = range else { return Ok(Val::Null) };
    match t {
        Cow::Borrowed(t) => Ok(Val::Str(&t[range])),
        Cow::Owned(t) => {
            out.push_str(&t[range]);
            Ok(Val::Str(out))
        }
    }
}

inventory::submit!(
    HelperDef::new(
        "regex_replace",
        THEME,
        "regex_replace TEXT PATTERN TO",
        3..=3,
        Type::String,
        "With every match replaced; in TO, `$1` or `${name}` is what a group matched and `$$` a dollar sign.",
        &[
            Example(r##"{{regex_replace a "\\d+" "#"}}"##, r#"{"a":"a1b22"}"#, "a#b#"),
            Example(r#"{{regex_replace a "(\\w+)@(\\w+)" "$2 at $1"}}"#, r#"{"a":"me@home"}"#, "home at me"),
        ],
        regex_replace
    )
    .check(check)
);
fn regex_replace<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let regex = compiled(a)?;
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let to = a.text(2);
    match t {
        Cow::Borrowed(t) => Ok(give(regex.replace_all(t, &*to), out)),
        Cow::Owned(t) => {
            *out = regex.replace_all(&t, &*to).into_owned();
            Ok(Val::Str(out))
        }
    }
}
