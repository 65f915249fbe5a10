//! Text to scalars and back.

use crate::json::{self, Number};
use crate::value::Val;
use serde::de::IgnoredAny;

/// An integer written in digits, with an optional sign.
#[inline]
pub fn bigint(text: &str) -> Option<i64> {
    let t = text.as_bytes();
    if let Some(n) = few_digits(t) {
        return Some(n as i64);
    }
    let (neg, digits) = match t.first()? {
        b'-' => (true, &t[1..]),
        b'+' => (false, &t[1..]),
        _ => (false, t),
    };
    if digits.is_empty() || digits.len() > 18 {
        return slow_bigint(text);
    }
    let mut n = 0i64;
    for c in digits {
        let d = c.wrapping_sub(b'0');
        if d > 9 {
            return slow_bigint(text);
        }
        n = n * 10 + d as i64;
    }
    Some(if neg { -n } else { n })
}

/// The number that up to eight digits are, without a loop; None for anything else.
#[inline]
fn few_digits(t: &[u8]) -> Option<u64> {
    // Right-aligned: the last digit is the highest byte, and what is in front reads as zeros. Loads overlap.
    let word = |t: &[u8; 4]| u64::from(u32::from_le_bytes(*t));
    let n = t.len();
    let x = match n {
        1 => u64::from(t[0]) << 56,
        2 | 3 => u64::from(t[0]) << (64 - 8 * n) | u64::from(t[1]) << (72 - 8 * n) | u64::from(t[n - 1]) << 56,
        4..=8 => word(t.first_chunk()?) << (64 - 8 * n) | word(t.last_chunk()?) << 32,
        _ => return None,
    };
    let zeros = 0x3030_3030_3030_3030u64.checked_shr(8 * n as u32).unwrap_or(0);
    json::eight_digits(&(x | zeros).to_le_bytes())
}

#[cold]
fn slow_bigint(text: &str) -> Option<i64> {
    text.trim_ascii().parse().ok()
}

/// A finite number in decimal notation, with an optional sign and exponent.
#[inline]
pub fn double(text: &str) -> Option<f64> {
    match json::number(text.as_bytes()) {
        Number::Int(i) => Some(i as f64),
        Number::Float(f) => Some(f),
        Number::Bad => slow_double(text),
    }
}

#[cold]
fn slow_double(text: &str) -> Option<f64> {
    let t = text.trim_ascii();
    // `parse` takes `inf` and `nan` as well.
    t.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.' | b'e' | b'E')).then_some(())?;
    t.parse().ok().filter(|f: &f64| f.is_finite())
}

/// `true|false|1|0`, in any case.
pub fn boolean(text: &str) -> Option<bool> {
    let t = text.trim_ascii();
    match t {
        "1" => Some(true),
        "0" => Some(false),
        _ if t.eq_ignore_ascii_case("true") => Some(true),
        _ if t.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Deepest nesting of JSON that is taken.
const MAX_DEPTH: usize = 128;

/// The value that a JSON text denotes, containers without spaces; `scratch` holds what is not in `text` as it is. None: not JSON,
/// deeper than 128, or a number beyond f64.
pub fn json<'a>(text: &'a str, scratch: &'a mut String) -> Option<Val<'a>> {
    match text.trim_ascii().as_bytes().first()? {
        b'{' | b'[' => {
            serde_json::from_str::<IgnoredAny>(text).ok()?;
            let (mut from, mut string, mut escaped, mut depth) = (0, false, false, 0usize);
            for (i, c) in text.bytes().enumerate() {
                match c {
                    _ if escaped => escaped = false,
                    b'\\' if string => escaped = true,
                    b'"' => string = !string,
                    _ if string => {}
                    b'{' | b'[' => {
                        depth += 1;
                        if depth > MAX_DEPTH {
                            return None;
                        }
                    }
                    b'}' | b']' => depth -= 1,
                    c if c.is_ascii_whitespace() => {
                        scratch.push_str(&text[from..i]);
                        from = i + 1;
                    }
                    _ => {}
                }
            }
            if from == 0 {
                return Some(Val::Json(text));
            }
            scratch.push_str(&text[from..]);
            Some(Val::Json(scratch))
        }
        b'"' => {
            *scratch = serde_json::from_str(text).ok()?;
            Some(Val::Str(scratch))
        }
        b't' | b'f' | b'n' => match text.trim_ascii() {
            "true" => Some(Val::Bool(true)),
            "false" => Some(Val::Bool(false)),
            "null" => Some(Val::Null),
            _ => None,
        },
        _ => {
            let t = text.trim_ascii();
            (json::number(t.as_bytes()) != Number::Bad).then_some(Val::Num(t))
        }
    }
}

/// Appends a map kept as text as the JSON text of an object. Of equal keys the last wins; it keeps the place of the first.
pub fn split_to_json(text: &str, pair: u8, key: u8, out: &mut Vec<u8>) {
    let pieces = |t: &'_ str| -> Vec<(Vec<u8>, Vec<u8>)> {
        t.as_bytes()
            .split(|c| *c == pair)
            .filter(|p| !p.is_empty())
            .map(|p| match memchr::memchr(key, p) {
                Some(at) => (p[..at].to_vec(), p[at + 1..].to_vec()),
                None => (p.to_vec(), vec![]),
            })
            .collect()
    };
    let mut members: Vec<(Vec<u8>, Vec<u8>)> = vec![];
    for (k, v) in pieces(text) {
        match members.iter_mut().find(|(name, _)| *name == k) {
            Some(member) => member.1 = v,
            None => members.push((k, v)),
        }
    }
    out.push(b'{');
    for (i, (k, v)) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::quote(k, out);
        out.push(b':');
        json::quote(v, out);
    }
    out.push(b'}');
}

/// Appends a double in its shortest form, `0.1`, `1e300`; `null` for what is not finite.
pub fn write_float(f: f64, out: &mut Vec<u8>) {
    if f.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(f).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends a timestamp (microseconds) as ISO 8601 in UTC, with 0, 3 or 6 decimals as it needs.
pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    use std::io::Write;
    let Ok(time) = jiff::Timestamp::from_microsecond(micros) else {
        // Beyond the years -9999 to 9999: the number itself.
        out.extend_from_slice(itoa::Buffer::new().format(micros).as_bytes());
        return;
    };
    let d = jiff::tz::Offset::UTC.to_datetime(time);
    let sub = micros.rem_euclid(1_000_000);
    let year = d.year();
    let _ = write!(
        out,
        "{}{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        if year < 0 { "-00" } else { "" },
        year.unsigned_abs(),
        d.month(),
        d.day(),
        d.hour(),
        d.minute(),
        d.second()
    );
    if sub % 1000 != 0 {
        let _ = write!(out, ".{sub:06}");
    } else if sub != 0 {
        let _ = write!(out, ".{:03}", sub / 1000);
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_are_those_of_the_standard_library(t in "[ +-]?[0-9]{0,10}[:/a ]?[0-9]{0,10}") {
            prop_assert_eq!(bigint(&t), t.trim_ascii().parse().ok(), "{}", t);
        }

        #[test]
        fn few_digits_are_a_number(n in any::<u64>(), len in 1..9usize, at in 0..8usize, odd in prop::sample::select(vec![b'/', b':', b' ', 0, 0xb0])) {
            let mut t = format!("{:0len$}", n % 10u64.pow(len as u32)).into_bytes();
            prop_assert_eq!(few_digits(&t), Some(n % 10u64.pow(len as u32)));
            t[at % len] = odd;
            prop_assert_eq!(few_digits(&t), None);
        }
    }
}
