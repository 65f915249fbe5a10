//! Regular expressions, in the syntax of the regex crate (no backtracking, so no look-around). Constant patterns are compiled once.

use super::{FunctionDef, Param::*, Prepared};
use crate::sql::node::Settings;
use crate::sql::value::{R, V, fail};
use millrace_sdk::Type;
use millrace_sdk::inventory::submit;
use regex::Regex;
use std::cell::RefCell;
use std::collections::HashMap;

/// Patterns made at run time that are remembered per thread.
const REMEMBERED: usize = 64;

submit! { FunctionDef::new("regexp_like", &[Text, Text], Type::Boolean, "regexp_like(text, pattern) -> boolean", "whether the pattern matches somewhere in the text", "regexp_like('abc1', '[0-9]$') => true",
|a, _, p| { let t = a[0].text()?; with(a[1], p, |r| Ok(V::Bool(r.is_match(t)))) }).prepare(1, regex).alias(&["regexp_matches", "regexp"]) }
submit! { FunctionDef::new("regexp_replace", &[Text, Text, Text], Type::String, "regexp_replace(text, pattern, to) -> string", "with every match replaced; `$1` or `${name}` is a group", "regexp_replace('a1b22', '[0-9]+', '#') => 'a#b#'",
|a, cx, p| { let (t, to) = (a[0].text()?, a[2].text()?); with(a[1], p, |r| Ok(match r.replace_all(t, to) { std::borrow::Cow::Borrowed(_) => a[0], std::borrow::Cow::Owned(s) => V::Str(cx.pool.keep(s)) })) }).prepare(1, regex) }
submit! { FunctionDef::new("regexp_extract", &[Text, Text, Int], Type::String, "regexp_extract(text, pattern[, group]) -> string", "a group of the first match (1 if the pattern has groups, else the whole match); NULL without match", "regexp_extract('id=42;', 'id=([0-9]+)', 1) => '42'",
|a, _, p| {
    let t = a[0].text()?;
    let group = a.get(2).map(|g| g.int()).transpose()?;
    with(a[1], p, |r| {
        let group = group.unwrap_or(i64::from(r.captures_len() > 1));
        let Some(g) = usize::try_from(group).ok().filter(|g| *g < r.captures_len()) else {
            return fail("invalid-argument", format!("the pattern has {} groups, not {group}", r.captures_len() - 1));
        };
        let found = if g == 0 { r.find(t) } else { r.captures(t).and_then(|c| c.get(g)) };
        Ok(found.map_or(V::Null, |m| V::Str(m.as_str())))
    })
}).optional(1).prepare(1, regex).alias(&["regexp_substr"]) }
submit! { FunctionDef::new("regexp_count", &[Text, Text], Type::Bigint, "regexp_count(text, pattern) -> bigint", "number of matches that don't overlap", "regexp_count('a1b22c', '[0-9]+') => 2",
|a, _, p| { let t = a[0].text()?; with(a[1], p, |r| Ok(V::Int(r.find_iter(t).count() as i64))) }).prepare(1, regex) }

/// The first group that a replacement names and the pattern does not have: as it is written, and as it is read.
pub fn missing_group<'t>(regex: &Regex, to: &'t str) -> Option<(&'t str, &'t str)> {
    let known = |name: &str| match name.parse::<usize>() {
        Ok(n) => n < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|n| n == name),
    };
    let mut at = 0;
    while let Some(start) = to[at..].find('$').map(|i| at + i) {
        let rest = &to[start + 1..];
        let (name, end) = if rest.starts_with('$') {
            ("", start + 2)
        } else if let Some(braced) = rest.strip_prefix('{') {
            let Some(len) = braced.find('}') else { return None };
            (&braced[..len], start + len + 3)
        } else {
            let len = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
            (&rest[..len], start + 1 + len)
        };
        if !name.is_empty() && !known(name) {
            return Some((&to[start..end], name));
        }
        at = end;
    }
    None
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| {
        let text = e.to_string();
        let reason = text.lines().last().unwrap_or(&text).trim_start_matches("error: ");
        format!("`{pattern}` is no regular expression: {reason}")
    })
}

fn regex(pattern: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    compile(pattern).map(Prepared::Regex).map_err(|e| ("invalid-regex", e))
}

fn with<'a>(pattern: V<'a>, prepared: &'a Prepared, f: impl FnOnce(&Regex) -> R<V<'a>>) -> R<V<'a>> {
    if let Prepared::Regex(r) = prepared {
        return f(r);
    }
    thread_local! {
        static MADE: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    let pattern = pattern.text()?;
    let known = MADE.with_borrow(|m| m.get(pattern).cloned());
    let regex = match known {
        Some(r) => r,
        None => match compile(pattern) {
            Err(e) => return fail("invalid-argument", e),
            Ok(r) => MADE.with_borrow_mut(|m| {
                if m.len() >= REMEMBERED {
                    m.clear();
                }
                m.insert(pattern.into(), r.clone());
                r
            }),
        },
    };
    f(&regex)
}
