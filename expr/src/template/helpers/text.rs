//! Text.

use super::{Args, Done, Example, HelperDef, MANY, give};
use crate::EvalError;
use millrace_sdk::json::clean;
use millrace_sdk::{Type, Val};
use std::borrow::Cow;

const THEME: &str = "text";
/// Longest text that a helper may make out of nothing, bytes.
const MAX_TEXT: usize = 16 << 20;

fn too_long(a: &Args<'_, '_>) -> EvalError {
    a.fail("overflow", format!("the result is longer than {MAX_TEXT} bytes"))
}

inventory::submit! { HelperDef::new("lower", THEME, "lower TEXT", 1..=1, Type::String, "In lower case.",
    &[Example("{{lower os}}", r#"{"os":"IOS"}"#, "ios"), Example("{{lower os}}", "{}", "")], lower) }
fn lower<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    if t.is_ascii() {
        if !t.bytes().any(|c| c.is_ascii_uppercase()) {
            return Ok(give(t, out));
        }
        out.push_str(&t);
        out.make_ascii_lowercase();
    } else {
        out.push_str(&t.to_lowercase());
    }
    Ok(Val::Str(out))
}

inventory::submit! { HelperDef::new("upper", THEME, "upper TEXT", 1..=1, Type::String, "In upper case.",
    &[Example("{{upper os}}", r#"{"os":"iOS é"}"#, "IOS É")], upper) }
fn upper<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    if t.is_ascii() {
        out.push_str(&t);
        out.make_ascii_uppercase();
    } else {
        out.push_str(&t.to_uppercase());
    }
    Ok(Val::Str(out))
}

inventory::submit! { HelperDef::new("title", THEME, "title TEXT", 1..=1, Type::String, "The first letter of each word in upper case, the others in lower case.",
    &[Example("{{title \"san JOSE\"}}", "{}", "San Jose"), Example("{{title}}", r#"{"title":"a field"}"#, "a field")], title) }
fn title<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let mut inside = false;
    for c in t.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || (inside && c == '\'');
    }
    Ok(Val::Str(out))
}

/// A part of an argument's text.
fn part<'a>(a: &Args<'a, '_>, out: &'a mut String, f: impl for<'t> FnOnce(&'t str) -> &'t str) -> Done<'a> {
    match a.some_text(0) {
        None => Ok(Val::Null),
        Some(Cow::Borrowed(t)) => Ok(Val::Str(f(t))),
        Some(Cow::Owned(t)) => {
            out.push_str(f(&t));
            Ok(Val::Str(out))
        }
    }
}

inventory::submit! { HelperDef::new("trim", THEME, "trim TEXT", 1..=1, Type::String, "Without blanks at both ends.",
    &[Example("[{{trim a}}]", r#"{"a":"  x y\n"}"#, "[x y]")], trim) }
fn trim<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    part(a, out, str::trim)
}

inventory::submit! { HelperDef::new("replace", THEME, "replace TEXT FROM TO", 3..=3, Type::String, "With every FROM replaced by TO.",
    &[Example("{{replace version \".\" \"_\"}}", r#"{"version":"10.0.1"}"#, "10_0_1"), Example("{{replace a \"\" \"x\"}}", r#"{"a":"ab"}"#, "ab")], replace) }
fn replace<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let (from, to) = (a.text(1), a.text(2));
    // Nothing lies between two characters: an empty FROM replaces nothing.
    let Some(first) = (if from.is_empty() { None } else { t.find(&*from) }) else { return Ok(give(t, out)) };
    let (mut at, mut next) = (0, Some(first));
    while let Some(n) = next {
        out.push_str(&t[at..at + n]);
        out.push_str(&to);
        if out.len() > MAX_TEXT {
            return Err(too_long(a));
        }
        at += n + from.len();
        next = t[at..].find(&*from);
    }
    out.push_str(&t[at..]);
    Ok(Val::Str(out))
}

inventory::submit! { HelperDef::new("concat", THEME, "concat A B …", 1..=MANY, Type::String, "All one after the other.",
    &[Example("{{concat a \"-\" b}}", r#"{"a":"x","b":1}"#, "x-1")], concat) }
fn concat<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    for i in 0..a.vals.len() {
        out.push_str(&a.text(i));
    }
    Ok(Val::Str(out))
}

inventory::submit! { HelperDef::new("split", THEME, "split TEXT SEP [KEYSEP]", 2..=3, Type::Any,
    "An array of the pieces between SEP; with KEYSEP a map: empty pieces are skipped, a piece is split at its first KEYSEP, one without it has the value \"\".",
    &[
        Example("{{json (split tags \",\")}}", r#"{"tags":"a,b"}"#, r#"["a","b"]"#),
        Example("{{json (split ext \"|\" \"=\")}}", r#"{"ext":"a=1||b=2=3|c"}"#, r#"{"a":"1","b":"2=3","c":""}"#),
    ], split) }
fn split<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let sep = a.text(1);
    if sep.is_empty() {
        return Err(a.fail("wrong-argument", "the separator is empty"));
    }
    let mut json = std::mem::take(out).into_bytes();
    if a.vals.len() == 2 {
        json.push(b'[');
        if !t.is_empty() {
            for (i, piece) in t.split(&*sep).enumerate() {
                if i > 0 {
                    json.push(b',');
                }
                millrace_sdk::json::quote(piece.as_bytes(), &mut json);
            }
        }
        json.push(b']');
    } else {
        let key = a.text(2);
        if key.is_empty() {
            return Err(a.fail("wrong-argument", "the separator of key and value is empty"));
        }
        if let (Cow::Borrowed(t), [p], [k]) = (&t, sep.as_bytes(), key.as_bytes())
            && p.is_ascii_graphic() | (*p == b' ')
            && clean(&[*p])
            && clean(&[*k])
            && clean(t.as_bytes())
        {
            return Ok(Val::Split(t, *p, *k));
        }
        let mut members: Vec<(&str, &str)> = vec![];
        for piece in t.split(&*sep).filter(|p| !p.is_empty()) {
            let (k, v) = piece.split_once(&*key).unwrap_or((piece, ""));
            members.push((k, v));
        }
        json.push(b'{');
        for (i, (k, v)) in members.iter().enumerate() {
            if i > 0 {
                json.push(b',');
            }
            millrace_sdk::json::quote(k.as_bytes(), &mut json);
            json.push(b':');
            millrace_sdk::json::quote(v.as_bytes(), &mut json);
        }
        json.push(b'}');
    }
    *out = String::from_utf8(json).unwrap_or_default();
    Ok(Val::Json(out))
}
