//! What handlebars makes of values: their text, their truth, their equality and order.

use millrace_sdk::Val;
use millrace_sdk::json;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A number as handlebars holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    Int(i64),
    /// Above i64.
    Uint(u64),
    Float(f64),
}

impl Num {
    pub fn float(self) -> f64 {
        match self {
            Num::Int(i) => i as f64,
            Num::Uint(u) => u as f64,
            Num::Float(f) => f,
        }
    }

    fn of_text(t: &str) -> Option<Num> {
        match json::number(t.as_bytes()) {
            json::Number::Int(i) => Some(Num::Int(i)),
            json::Number::Float(f) => Some(t.parse::<u64>().map_or(Num::Float(f), Num::Uint)),
            json::Number::Bad => None,
        }
    }

    pub fn compare(self, other: Num) -> Option<Ordering> {
        let int = |n: Num| match n {
            Num::Int(i) => Some(i128::from(i)),
            Num::Uint(u) => Some(i128::from(u)),
            Num::Float(_) => None,
        };
        match (int(self), int(other)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            (Some(a), None) => compare_int_float(a, other.float()),
            (None, Some(b)) => compare_int_float(b, self.float()).map(Ordering::reverse),
            (None, None) => self.float().partial_cmp(&other.float()),
        }
    }
}

/// Exact, where converting the integer to f64 would round.
fn compare_int_float(i: i128, f: f64) -> Option<Ordering> {
    if f.is_nan() {
        return None;
    }
    if f.abs() >= 1e30 {
        return Some(if f > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = f.trunc();
    Some(i.cmp(&(whole as i128)).then_with(|| 0.0.partial_cmp(&(f - whole)).unwrap_or(Ordering::Equal)))
}

/// The number of a numeric value; None for anything else, strings too.
#[inline]
pub fn number(v: Val<'_>) -> Option<Num> {
    match v {
        Val::Int(i) => Some(Num::Int(i)),
        Val::Float(f) => Some(Num::Float(f)),
        Val::Num(t) => Num::of_text(t),
        _ => None,
    }
}

/// The number of a numeric value or of a string that is written as one.
#[inline]
pub fn number_or_text(v: Val<'_>) -> Option<Num> {
    match v {
        Val::Str(t) => Num::of_text(t.trim_ascii()),
        v => number(v),
    }
}

/// Appends a value as handlebars prints it: numbers canonical (1.10 is `1.1`), nothing for missing and null, `[object]` for maps,
/// `[a, b]` for arrays. Timestamps are ISO 8601, bytes text, or base64 if they are not UTF-8.
#[inline]
pub fn render(v: Val<'_>, out: &mut Vec<u8>) {
    match v {
        Val::Missing | Val::Null => {}
        Val::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Val::Str(s) => out.extend_from_slice(s.as_bytes()),
        Val::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        Val::Num(t) if is_canonical(t) => out.extend_from_slice(t.as_bytes()),
        v => render_other(v, out),
    }
}

/// Digits that print as they are written.
#[inline]
fn is_canonical(t: &str) -> bool {
    t.len() < 18 && t != "-0" && t.bytes().all(|c| c.is_ascii_digit() || c == b'-')
}

fn render_other(v: Val<'_>, out: &mut Vec<u8>) {
    match v {
        Val::Num(t) => match Num::of_text(t) {
            Some(Num::Int(i)) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
            Some(Num::Uint(u)) => out.extend_from_slice(itoa::Buffer::new().format(u).as_bytes()),
            Some(Num::Float(f)) => float(f, out),
            None => out.extend_from_slice(t.as_bytes()),
        },
        Val::Float(f) => float(f, out),
        Val::Time(t) => json::write_time(t, out),
        Val::Bytes(b) => match std::str::from_utf8(b) {
            Ok(_) => out.extend_from_slice(b),
            Err(_) => {
                use base64::Engine;
                out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(b).as_bytes());
            }
        },
        Val::Split(..) => out.extend_from_slice(b"[object]"),
        Val::Json(t) if is_array(t) => {
            out.push(b'[');
            let mut scratch = String::new();
            for (i, m) in json::members(t).enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                render(m.value(&mut scratch), out);
            }
            out.push(b']');
        }
        Val::Json(_) => out.extend_from_slice(b"[object]"),
        v => render(v, out),
    }
}

/// As serde_json prints it, and with it handlebars: `0.1`, `1e+16`; nothing for what is not finite.
fn float(f: f64, out: &mut Vec<u8>) {
    use std::io::Write;
    if let Some(n) = serde_json::Number::from_f64(f) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{n}");
    }
}

pub fn is_array(json: &str) -> bool {
    json.trim_ascii_start().starts_with('[')
}

/// The text that [`render`] gives, borrowed where it can be.
#[inline]
pub fn text(v: Val<'_>) -> Cow<'_, str> {
    match v {
        Val::Str(s) => Cow::Borrowed(s),
        Val::Num(t) if is_canonical(t) => Cow::Borrowed(t),
        Val::Missing | Val::Null => Cow::Borrowed(""),
        v => {
            let mut out = Vec::new();
            render(v, &mut out);
            Cow::Owned(String::from_utf8(out).unwrap_or_default())
        }
    }
}

/// What `{{#if}}` takes for true: not missing, null, false, zero, "" or an empty container. Subnormal numbers are false.
#[inline]
pub fn truth(v: Val<'_>) -> bool {
    match v {
        Val::Missing | Val::Null => false,
        Val::Bool(b) => b,
        Val::Str(s) => !s.is_empty(),
        Val::Bytes(b) => !b.is_empty(),
        Val::Time(_) => true,
        Val::Int(i) => i != 0,
        Val::Float(_) | Val::Num(_) => number(v).is_some_and(|n| n.float().is_normal()),
        Val::Json(t) => json::members(t).next().is_some(),
        Val::Split(t, pair, _) => t.bytes().any(|c| c != pair),
    }
}

/// `eq`: of the same kind and equal. Missing and null are the same; 1 and 1.0 are not, nor 1 and "1"; timestamps are their text.
pub fn same(a: Val<'_>, b: Val<'_>) -> bool {
    match (a, b) {
        (Val::Str(a), Val::Str(b)) => a == b,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Missing | Val::Null, Val::Missing | Val::Null) => true,
        (Val::Json(_) | Val::Split(..), Val::Json(_) | Val::Split(..)) => super::fallback::to_json(a) == super::fallback::to_json(b),
        (Val::Time(_) | Val::Bytes(_), Val::Time(_) | Val::Bytes(_) | Val::Str(_)) | (Val::Str(_), Val::Time(_) | Val::Bytes(_)) => {
            text(a) == text(b)
        }
        (a, b) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

/// `lt`, `gt` and so on: numbers with numbers and numeric strings, strings with strings, booleans with booleans; None for the rest.
pub fn compare(a: Val<'_>, b: Val<'_>) -> Option<Ordering> {
    match (a, b) {
        (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(&b)),
        (Val::Time(a), Val::Time(b)) => Some(a.cmp(&b)),
        (Val::Time(_) | Val::Bytes(_), Val::Str(_) | Val::Bytes(_)) | (Val::Str(_), Val::Time(_) | Val::Bytes(_)) => {
            Some(text(a).cmp(&text(b)))
        }
        (Val::Str(t), b) => Num::of_text(t)?.compare(number(b)?),
        (a, Val::Str(t)) => number(a)?.compare(Num::of_text(t)?),
        (a, b) => number(a)?.compare(number(b)?),
    }
}
