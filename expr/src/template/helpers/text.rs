//! Text.

use super::{Args, Done, Example, HelperDef, MANY, give};
use crate::EvalError;
use crate::function::MAX_TEXT;
use millrace_sdk::json::clean;
use millrace_sdk::{Type, Val};
use std::borrow::Cow;

const THEME: &str = "text";

fn too_long(a: &Args<'_, '_>) -> EvalError {
    a.fail("overflow", format!("the result is longer than {MAX_TEXT} bytes"))
}

inventory::submit!(HelperDef::new(
    "lower",
    THEME,
    "lower TEXT",
    1..=1,
    Type::String,
    "In lower case.",
    &[Example("{{lower os}}", r#"{"os":"IOS"}"#, "ios"), Example("{{lower os}}", "{}", "")],
    lower
));
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

inventory::submit!(HelperDef::new(
    "upper",
    THEME,
    "upper TEXT",
    1..=1,
    Type::String,
    "In upper case.",
    &[Example("{{upper os}}", r#"{"os":"iOS é"}"#, "IOS É")],
    upper
));
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

inventory::submit!(HelperDef::new(
    "title",
    THEME,
    "title TEXT",
    1..=1,
    Type::String,
    "The first letter of each word in upper case, the others in lower case.",
    &[Example("{{title \"san JOSE\"}}", "{}", "San Jose"), Example("{{title}}", r#"{"title":"a field"}"#, "a field")],
    title
));
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

inventory::submit!(HelperDef::new(
    "trim",
    THEME,
    "trim TEXT",
    1..=1,
    Type::String,
    "Without blanks at both ends.",
    &[Example("[{{trim a}}]", r#"{"a":"  x y\n"}"#, "[x y]")],
    trim
));
fn trim<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    part(a, out, str::trim)
}

inventory::submit!(HelperDef::new(
    "replace",
    THEME,
    "replace TEXT FROM TO",
    3..=3,
    Type::String,
    "With every FROM replaced by TO.",
    &[
        Example("{{replace version \".\" \"_\"}}", r#"{"version":"10.0.1"}"#, "10_0_1"),
        Example("{{replace a \"\" \"x\"}}", r#"{"a":"ab"}"#, "ab")
    ],
    replace
));
fn replace<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let (from, to) = (a.text(1), a.text(2));
    let find = |t: &str| match from.as_bytes() {
        // Nothing lies between two characters: an empty FROM replaces nothing.
        [] => None,
        [byte] => memchr::memchr(*byte, t.as_bytes()),
        _ => t.find(&*from),
    };
    let Some(first) = find(&t) else { return Ok(give(t, out)) };
    let (mut at, mut next) = (0, Some(first));
    while let Some(n) = next {
        out.push_str(&t[at..at + n]);
        out.push_str(&to);
        if out.len() > MAX_TEXT {
            return Err(too_long(a));
        }
        at += n + from.len();
        next = find(&t[at..]);
    }
    out.push_str(&t[at..]);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "concat",
    THEME,
    "concat A B …",
    1..=MANY,
    Type::String,
    "All one after the other.",
    &[Example("{{concat a \"-\" b}}", r#"{"a":"x","b":1}"#, "x-1")],
    concat
));
fn concat<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    for i in 0..a.vals.len() {
        out.push_str(&a.text(i));
    }
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "split",
    THEME,
    "split TEXT SEP [KEYSEP]",
    2..=3,
    Type::Any,
    "An array of the pieces between SEP; with KEYSEP a map: empty pieces are skipped, a piece is split at its first KEYSEP, one without it has the value \"\".",
    &[
        Example("{{json (split tags \",\")}}", r#"{"tags":"a,b"}"#, r#"["a","b"]"#),
        Example("{{json (split ext \"|\" \"=\")}}", r#"{"ext":"a=1||b=2=3|c"}"#, r#"{"a":"1","b":"2=3","c":""}"#),
    ],
    split
));
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
            && p != k
            && clean(&[*p, *k])
            && clean(t.as_bytes())
        {
            return Ok(Val::Split(t, *p, *k));
        }
        let mut members: Vec<(&str, &str)> = vec![];
        for piece in t.split(&*sep).filter(|p| !p.is_empty()) {
            let (k, v) = piece.split_once(&*key).unwrap_or((piece, ""));
            // Of equal keys the last value wins, in the place of the first.
            match members.iter_mut().find(|(name, _)| *name == k) {
                Some(member) => member.1 = v,
                None => members.push((k, v)),
            }
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

/// Byte offsets of `[from, to)` counted in characters; negative ones count from the end.
fn span(t: &str, from: i64, to: Option<i64>) -> std::ops::Range<usize> {
    let ascii = t.is_ascii();
    let chars = if ascii { t.len() } else { t.chars().count() } as i64;
    let place = |n: i64| (if n < 0 { n.saturating_add(chars) } else { n }).clamp(0, chars) as usize;
    let byte = |n: usize| if ascii { n } else { t.char_indices().nth(n).map_or(t.len(), |(i, _)| i) };
    let (from, to) = (place(from), to.map_or(chars as usize, place));
    byte(from)..byte(to.max(from))
}

inventory::submit!(HelperDef::new(
    "substring",
    THEME,
    "substring TEXT START [LENGTH]",
    2..=3,
    Type::String,
    "LENGTH characters from START on, counted from 0, or from the end if negative; without LENGTH all of the rest.",
    &[
        Example("{{substring a 1 3}}", r#"{"a":"a中bcd"}"#, "中bc"),
        Example("{{substring a -2}}", r#"{"a":"abcd"}"#, "cd"),
        Example("{{substring a 9 2}}", r#"{"a":"abcd"}"#, ""),
    ],
    substring
));
fn substring<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(from), length) = (a.int(1)?, a.int(2)?) else { return Ok(Val::Null) };
    part(a, out, |t| {
        let rest = &t[span(t, from, None)];
        match length {
            None => rest,
            Some(n) => &rest[span(rest, 0, Some(n.max(0)))],
        }
    })
}

inventory::submit!(HelperDef::new(
    "slice",
    THEME,
    "slice TEXT START [END]",
    2..=3,
    Type::String,
    "The characters from START up to, not including, END; negative places count from the end.",
    &[Example("{{slice a 1 -1}}", r#"{"a":"[abc]"}"#, "abc"), Example("{{slice a 2}}", r#"{"a":"abcd"}"#, "cd")],
    slice
));
fn slice<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(from), to) = (a.int(1)?, a.int(2)?) else { return Ok(Val::Null) };
    part(a, out, |t| &t[span(t, from, to)])
}

inventory::submit!(HelperDef::new(
    "truncate",
    THEME,
    "truncate TEXT N [SUFFIX]",
    2..=3,
    Type::String,
    "The first N characters; SUFFIX follows if that is not all.",
    &[Example("{{truncate a 3 \"…\"}}", r#"{"a":"abcdef"}"#, "abc…"), Example("{{truncate a 3 \"…\"}}", r#"{"a":"abc"}"#, "abc")],
    truncate
));
fn truncate<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(t), Some(n)) = (a.some_text(0), a.int(1)?) else { return Ok(Val::Null) };
    let end = span(&t, 0, Some(n.max(0))).end;
    if end == t.len() {
        return Ok(give(t, out));
    }
    out.push_str(&t[..end]);
    out.push_str(&a.text(2));
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "starts_with",
    THEME,
    "starts_with TEXT PREFIX",
    2..=2,
    Type::Boolean,
    "Whether TEXT begins with PREFIX.",
    &[Example("{{starts_with a \"ab\"}}", r#"{"a":"abc"}"#, "true"), Example("{{starts_with a \"\"}}", "{}", "false")],
    starts_with
));
fn starts_with<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(a.some_text(0).is_some_and(|t| t.starts_with(&*a.text(1)))))
}

inventory::submit!(HelperDef::new(
    "ends_with",
    THEME,
    "ends_with TEXT SUFFIX",
    2..=2,
    Type::Boolean,
    "Whether TEXT ends with SUFFIX.",
    &[Example("{{#ends_with a \".gz\"}}zip{{else}}plain{{/ends_with}}", r#"{"a":"x.gz"}"#, "zip")],
    ends_with
));
fn ends_with<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(a.some_text(0).is_some_and(|t| t.ends_with(&*a.text(1)))))
}

inventory::submit!(HelperDef::new(
    "before",
    THEME,
    "before TEXT SEP",
    2..=2,
    Type::String,
    "What stands before the first SEP; all of it if there is none.",
    &[Example("{{before a \":\"}}", r#"{"a":"host:80:x"}"#, "host")],
    before
));
fn before<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let sep = a.text(1);
    part(a, out, |t| t.split_once(&*sep).map_or(t, |(b, _)| b))
}

inventory::submit!(HelperDef::new(
    "after",
    THEME,
    "after TEXT SEP",
    2..=2,
    Type::String,
    "What stands behind the first SEP; nothing if there is none.",
    &[Example("{{after a \":\"}}", r#"{"a":"host:80:x"}"#, "80:x")],
    after
));
fn after<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let sep = a.text(1);
    part(a, out, |t| t.split_once(&*sep).map_or("", |(_, r)| r))
}

/// The fill that makes `t` as wide as argument 1 says.
fn padding(a: &Args<'_, '_>, t: &str) -> Result<String, EvalError> {
    let width = a.int(1)?.unwrap_or(0);
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(t.chars().count());
    let fill = match a.val(2) {
        Val::Missing | Val::Null => " ".into(),
        _ => a.text(2),
    };
    if fill.is_empty() {
        return Err(a.fail("wrong-argument", "there is nothing to pad with"));
    }
    if missing > MAX_TEXT / 4 {
        return Err(too_long(a));
    }
    Ok(fill.chars().cycle().take(missing).collect())
}

inventory::submit!(HelperDef::new(
    "pad_left",
    THEME,
    "pad_left TEXT WIDTH [FILL]",
    2..=3,
    Type::String,
    "FILL (a space by default) put in front until it has WIDTH characters.",
    &[Example("{{pad_left a 5 \"0\"}}", r#"{"a":42}"#, "00042")],
    pad_left
));
fn pad_left<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.push_str(&padding(a, &t)?);
    out.push_str(&t);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "pad_right",
    THEME,
    "pad_right TEXT WIDTH [FILL]",
    2..=3,
    Type::String,
    "FILL (a space by default) put behind until it has WIDTH characters.",
    &[Example("[{{pad_right a 5}}]", r#"{"a":"ab"}"#, "[ab   ]")],
    pad_right
));
fn pad_right<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.push_str(&t);
    out.push_str(&padding(a, &t)?);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "repeat",
    THEME,
    "repeat TEXT N",
    2..=2,
    Type::String,
    "N times one after the other (16 MiB at most).",
    &[Example("{{repeat a 3}}", r#"{"a":"ab"}"#, "ababab")],
    repeat
));
fn repeat<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(t), Some(n)) = (a.some_text(0), a.int(1)?) else { return Ok(Val::Null) };
    let n = usize::try_from(n).unwrap_or(0);
    if t.len().checked_mul(n).is_none_or(|l| l > MAX_TEXT) {
        return Err(too_long(a));
    }
    for _ in 0..n {
        out.push_str(&t);
    }
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "reverse",
    THEME,
    "reverse TEXT",
    1..=1,
    Type::String,
    "Its characters in reverse order: row keys that grow become row keys that spread.",
    &[Example("{{reverse a}}", r#"{"a":"1234"}"#, "4321")],
    reverse
));
fn reverse<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.extend(t.chars().rev());
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "string",
    THEME,
    "string A",
    1..=1,
    Type::String,
    "As text: what `{{A}}` prints.",
    &[Example("{{json (string a)}}", r#"{"a":12}"#, "\"12\"")],
    string
));
fn string<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    Ok(a.some_text(0).map_or(Val::Null, |t| give(t, out)))
}
