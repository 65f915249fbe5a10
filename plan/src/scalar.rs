//! Scalars: what a plain one means, and where each byte of its text stands in the file.

use crate::source::Span;
use crate::yaml::Scalar;
use saphyr_parser::ScalarStyle;
use serde_json::Value;

/// A replaced variable: `new` bytes of the new text stand for `old` bytes of the text as parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub new: std::ops::Range<usize>,
    pub old: std::ops::Range<usize>,
}

/// An offset in the text after replacing, in the text before; inside a replaced variable it is the variable.
pub fn before_replacing(pieces: &[Piece], offset: usize, end: bool) -> usize {
    let mut shift = 0isize;
    for p in pieces {
        if offset < p.new.start || (offset == p.new.start && end) {
            break;
        }
        if offset < p.new.end || (offset == p.new.end && end) {
            return if end { p.old.end } else { p.old.start };
        }
        shift = p.old.end as isize - p.new.end as isize;
    }
    (offset as isize + shift).max(0) as usize
}

/// A plain scalar by the core schema of YAML 1.2; a quoted one is text.
pub fn resolve(s: &Scalar) -> Value {
    if !s.plain {
        return Value::String(s.text.clone());
    }
    core(&s.text)
}

/// Where a number or a boolean is wanted: inside braces a variable must be quoted, and the quotes say nothing then.
pub fn unquoted(s: &Scalar) -> Value {
    if s.variable { core(&s.text) } else { resolve(s) }
}

pub fn core(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_string()), Value::Number)
}

/// A number of the core schema; `.inf` and `.nan` are none that a config can use.
pub fn number(text: &str) -> Option<serde_json::Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
    if let Some(v) = text.strip_prefix("0x").and_then(|d| radix(d, 16)).or_else(|| text.strip_prefix("0o").and_then(|d| radix(d, 8))) {
        return Some(v.into());
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let t = text.strip_prefix('+').unwrap_or(text);
        return t.parse::<i64>().map(Into::into).or_else(|_| t.parse::<u64>().map(Into::into)).ok().or_else(|| float(t));
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + part.len() == 0 || exponent.is_empty() || !digits(whole) || !digits(part) || !digits(exponent) {
        return None;
    }
    float(text)
}

fn float(text: &str) -> Option<serde_json::Number> {
    serde_json::Number::from_f64(text.strip_prefix('+').unwrap_or(text).parse().ok()?)
}

/// For each byte of a scalar's text (and its end) the byte of the source it comes from.
pub fn positions(source: &str, span: Span, style: ScalarStyle) -> Vec<usize> {
    let Some(raw) = source.get(span.start..span.end) else { return vec![span.start] };
    match style {
        // Quotes that were missing and are read as if they stood there.
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if !raw.starts_with(['"', '\'']) => flow(raw, span.start, None),
        ScalarStyle::Plain => flow(raw, span.start, None),
        ScalarStyle::SingleQuoted => flow(inner(raw), span.start + 1, Some('\'')),
        ScalarStyle::DoubleQuoted => flow(inner(raw), span.start + 1, Some('"')),
        ScalarStyle::Literal => block(source, span, false),
        ScalarStyle::Folded => block(source, span, true),
    }
}

fn inner(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1).max(1)).unwrap_or("")
}

/// Plain and quoted scalars: folded lines, doubled quotes, escapes.
fn flow(raw: &str, base: usize, quote: Option<char>) -> Vec<usize> {
    let mut out = Vec::with_capacity(raw.len() + 1);
    let mut i = 0;
    while let Some(c) = raw[i..].chars().next() {
        let at = base + i;
        if c == '\\' && quote == Some('"') {
            let next = raw[i + 1..].chars().next().unwrap_or('\\');
            let (skip, bytes) = match next {
                'x' => (4, char_len(raw, i + 2, 2)),
                'u' => (6, char_len(raw, i + 2, 4)),
                'U' => (10, char_len(raw, i + 2, 8)),
                '\n' | '\r' => {
                    // An escaped line end gives nothing, and the next line's indentation goes.
                    let rest = &raw[i + 1..];
                    i += 1 + rest.len() - rest.trim_start().len();
                    continue;
                }
                'N' | '_' => (2, 2),
                'L' | 'P' => (2, 3),
                n => (1 + n.len_utf8(), 1),
            };
            out.extend(std::iter::repeat_n(at, bytes));
            i = (i + skip).min(raw.len());
            while !raw.is_char_boundary(i) {
                i += 1;
            }
            continue;
        }
        if c == '\'' && quote == Some('\'') && raw[i + 1..].starts_with('\'') {
            out.push(at);
            i += 2;
            continue;
        }
        if c == '\n' || ((c == ' ' || c == '\t' || c == '\r') && raw[i..].trim_start_matches([' ', '\t', '\r']).starts_with('\n')) {
            // One line end is a space, more of them are themselves less one.
            let rest = &raw[i..];
            let blank = &rest[..rest.len() - rest.trim_start().len()];
            let ends = blank.bytes().filter(|b| *b == b'\n').count();
            out.extend(std::iter::repeat_n(at, (ends - 1).max(1)));
            i += blank.len();
            continue;
        }
        out.extend(std::iter::repeat_n(at, c.len_utf8()));
        i += c.len_utf8();
    }
    out.push(base + raw.len());
    out
}

fn char_len(raw: &str, from: usize, digits: usize) -> usize {
    let code = raw.get(from..from + digits).and_then(|h| u32::from_str_radix(h, 16).ok());
    code.and_then(char::from_u32).map_or(1, char::len_utf8)
}

/// Block scalars: the indentation of the first line with text goes from every line.
fn block(source: &str, span: Span, folded: bool) -> Vec<usize> {
    let line_start = source[..span.start].rfind('\n').map_or(0, |i| i + 1);
    let indent = source[line_start..span.start].len();
    let mut out = Vec::new();
    let mut i = span.start;
    let mut at_start = false;
    let bytes = source.as_bytes();
    while i < span.end {
        if at_start {
            let spaces = bytes[i..span.end].iter().take(indent).take_while(|b| **b == b' ').count();
            i += spaces;
            at_start = false;
            continue;
        }
        if bytes[i] == b'\r' && bytes.get(i + 1) == Some(&b'\n') {
            i += 1;
            continue;
        }
        if bytes[i] == b'\n' {
            let rest = &source[i..span.end];
            let blank = &rest[..rest.len() - rest.trim_start().len()];
            let ends = blank.bytes().filter(|b| *b == b'\n').count();
            let spaces_after = blank.len() - blank.rfind('\n').map_or(0, |n| n + 1);
            if folded && spaces_after <= indent {
                out.extend(std::iter::repeat_n(i, ends.saturating_sub(1).max(1)));
                i += blank.len();
                continue;
            }
            at_start = true;
        }
        out.push(i);
        i += 1;
    }
    out.push(span.end);
    out
}
