//! Encodings: URLs, base64, hexadecimal, HTML and JSON escapes.

use super::{Args, Done, Example, HelperDef, shown};
use crate::EvalError;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use millrace_sdk::{Type, Val, json};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use std::borrow::Cow;

const THEME: &str = "decoding";
/// What RFC 3986 (section 2.3) leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
fn not_utf8(a: &Args<'_, '_>) -> EvalError {
    a.fail("invalid-utf8", format!("{} does not decode to UTF-8 text", shown(a.val(0))))
}

/// Percent escapes and `+`; None if that is not UTF-8.
fn unescape_url(t: &str) -> Option<Cow<'_, str>> {
    if !t.bytes().any(|c| matches!(c, b'%' | b'+')) {
        return Some(Cow::Borrowed(t));
    }
    let spaced = t.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(|t| Cow::Owned(t.into_owned()))
}

inventory::submit!(HelperDef::new(
    "url_decode",
    THEME,
    "url_decode TEXT",
    1..=1,
    Type::String,
    "With `%41` and `+` (a space) decoded.",
    &[Example("{{url_decode a}}", r#"{"a":"a%20b+c%E4%B8%AD"}"#, "a b c中")],
    url_decode
));
fn url_decode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.push_str(&unescape_url(&t).ok_or_else(|| not_utf8(a))?);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "url_encode",
    THEME,
    "url_encode TEXT",
    1..=1,
    Type::String,
    "With everything but letters, digits and `-._~` written as `%41`.",
    &[Example("{{url_encode a}}", r#"{"a":"a b/中"}"#, "a%20b%2F%E4%B8%AD")],
    url_encode
));
fn url_encode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.extend(utf8_percent_encode(&t, ENCODED));
    Ok(Val::Str(out))
}

/// The parts of a URL (RFC 3986, appendix B): authority, path, query. A text without a scheme or `//` starts with its path.
fn parts(url: &str) -> (Option<&str>, &str, Option<&str>) {
    let url = url.split_once('#').map_or(url, |(u, _)| u);
    let (before, query) = match url.split_once('?') {
        Some((b, q)) => (b, Some(q)),
        None => (url, None),
    };
    let scheme = before.find("//").filter(|n| before[..*n].ends_with(':') && !before[..*n].contains('/') || *n == 0);
    let (authority, path) = match scheme {
        Some(n) => {
            let rest = &before[n + 2..];
            let slash = rest.find('/').unwrap_or(rest.len());
            (Some(&rest[..slash]), &rest[slash..])
        }
        None => (None, before),
    };
    (authority, path, query)
}

/// A part of argument 0; null if it has none.
fn part<'a>(a: &Args<'a, '_>, out: &'a mut String, f: impl for<'t> Fn(&'t str) -> Option<&'t str>) -> Done<'a> {
    match a.some_text(0) {
        None => Ok(Val::Null),
        Some(Cow::Borrowed(t)) => Ok(f(t).map_or(Val::Null, Val::Str)),
        Some(Cow::Owned(t)) => Ok(match f(&t) {
            None => Val::Null,
            Some(p) => {
                out.push_str(p);
                Val::Str(out)
            }
        }),
    }
}

inventory::submit!(HelperDef::new(
    "url_host",
    THEME,
    "url_host URL",
    1..=1,
    Type::String,
    "The host, without user and port; null if there is none.",
    &[
        Example("{{url_host a}}", r#"{"a":"https://me@www.example.com:8080/x?y=1"}"#, "www.example.com"),
        Example("{{url_host a}}", r#"{"a":"/x"}"#, "")
    ],
    url_host
));
fn url_host<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    part(a, out, |t| {
        let authority = parts(t).0?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
        match host.strip_prefix('[') {
            Some(v6) => v6.split_once(']').map(|(h, _)| h),
            None => Some(host.split_once(':').map_or(host, |(h, _)| h)),
        }
    })
}

inventory::submit!(HelperDef::new(
    "url_path",
    THEME,
    "url_path URL",
    1..=1,
    Type::String,
    "The path, as it is escaped.",
    &[Example("{{url_path a}}", r#"{"a":"https://example.com/a/b%20c?y=1#z"}"#, "/a/b%20c")],
    url_path
));
fn url_path<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    part(a, out, |t| Some(parts(t).1))
}

inventory::submit!(HelperDef::new(
    "url_query",
    THEME,
    "url_query URL",
    1..=1,
    Type::String,
    "What follows the `?`; null if there is none.",
    &[Example("{{url_query a}}", r#"{"a":"/x?y=1&z=2#top"}"#, "y=1&z=2")],
    url_query
));
fn url_query<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    part(a, out, |t| parts(t).2)
}

inventory::submit!(HelperDef::new(
    "query_param",
    THEME,
    "query_param URL NAME",
    2..=2,
    Type::String,
    "The decoded value of a parameter in a URL, or in a bare query string; the first of several, null if there is none.",
    &[
        Example(r#"{{query_param a "q"}}"#, r#"{"a":"/s?p=1&q=a+b%21"}"#, "a b!"),
        Example(r#"{{query_param a "p"}}"#, r#"{"a":"p=1&q=2"}"#, "1")
    ],
    query_param
));
fn query_param<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let name = a.text(1);
    let query = parts(&t).2.unwrap_or(&t);
    for pair in query.split('&') {
        let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
        if unescape_url(k).is_some_and(|k| k == name) {
            out.push_str(&unescape_url(v).ok_or_else(|| not_utf8(a))?);
            return Ok(Val::Str(out));
        }
    }
    Ok(Val::Null)
}

const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

inventory::submit!(HelperDef::new(
    "base64_decode",
    THEME,
    "base64_decode TEXT",
    1..=1,
    Type::String,
    "Decoded to text; the URL-safe alphabet is understood too, padding may be missing.",
    &[Example("{{base64_decode a}}", r#"{"a":"aGkg5Lit"}"#, "hi 中")],
    base64_decode
));
fn base64_decode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let engine = if t.bytes().any(|c| matches!(c, b'-' | b'_')) { &URL_SAFE } else { &STANDARD };
    let bytes = engine.decode(t.trim_ascii()).map_err(|_| a.fail("invalid-base64", format!("{} is not base64", shown(a.val(0)))))?;
    *out = String::from_utf8(bytes).map_err(|_| not_utf8(a))?;
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "base64_encode",
    THEME,
    "base64_encode TEXT",
    1..=1,
    Type::String,
    "The base64 of the text's UTF-8, with padding.",
    &[Example("{{base64_encode a}}", r#"{"a":"hi"}"#, "aGk=")],
    base64_encode
));
fn base64_encode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    STANDARD.encode_string(t.as_bytes(), out);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "hex_decode",
    THEME,
    "hex_decode TEXT",
    1..=1,
    Type::String,
    "Pairs of hexadecimal digits decoded to text.",
    &[Example("{{hex_decode a}}", r#"{"a":"6869"}"#, "hi")],
    hex_decode
));
fn hex_decode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let bytes = hex::decode(t.trim_ascii()).map_err(|_| a.fail("invalid-hex", format!("{} is not hexadecimal", shown(a.val(0)))))?;
    *out = String::from_utf8(bytes).map_err(|_| not_utf8(a))?;
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "hex_encode",
    THEME,
    "hex_encode TEXT",
    1..=1,
    Type::String,
    "The text's UTF-8 in hexadecimal digits.",
    &[Example("{{hex_encode a}}", r#"{"a":"hi"}"#, "6869")],
    hex_encode
));
fn hex_encode<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    out.push_str(&hex::encode(t.as_bytes()));
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "html_unescape",
    THEME,
    "html_unescape TEXT",
    1..=1,
    Type::String,
    "With `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;`, `&nbsp;`, `&#65;` and `&#x41;` decoded; other entities stay.",
    &[Example("{{html_unescape a}}", r#"{"a":"&lt;b&gt; &amp;amp; &#20013;&#x41; &who;"}"#, "<b> &amp; 中A &who;")],
    html_unescape
));
fn html_unescape<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    let mut rest = &*t;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest[1..].find(';').filter(|n| *n <= 8).map(|n| &rest[1..=n]);
        let decoded = entity.and_then(|e| match e {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            e => {
                let code = e.strip_prefix('#')?;
                let code = match code.strip_prefix(['x', 'X']) {
                    Some(h) => u32::from_str_radix(h, 16).ok()?,
                    None => code.parse().ok()?,
                };
                char::from_u32(code)
            }
        });
        match (decoded, entity) {
            (Some(c), Some(e)) => {
                out.push(c);
                rest = &rest[e.len() + 2..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "json_unescape",
    THEME,
    "json_unescape TEXT",
    1..=1,
    Type::String,
    r"With the escapes of JSON strings decoded: `\n`, `\u4e2d`.",
    &[Example("{{json_unescape a}}", r#"{"a":"x\\u4e2d\\\"y"}"#, "x中\"y")],
    json_unescape
));
fn json_unescape<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = a.some_text(0) else { return Ok(Val::Null) };
    json::unescape(&t, out).map_err(|e| a.fail("invalid-escape", format!("{} at byte {} of {}", e.what, e.at, shown(a.val(0)))))?;
    Ok(Val::Str(out))
}
