//! JSON text as values of records hold it: numbers as written, look-ups in unopened containers, canonical writing.

mod pen;
mod read;
mod split;
mod write;

pub use read::{MAX_DEPTH, Member, Members, UnescapeError, lookup, members, unescape, view};
pub use split::{Pairs, positions, split_pairs};
pub use write::{JsonWriter, canonical, write_row, write_time, write_val, write_value};

/// A JSON number's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Written as an integer, and fits.
    Int(i64),
    /// Everything else that is finite.
    Float(f64),
    /// Not a number, or beyond f64.
    Bad,
}

const POW: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

/// Reads a number: i64 when it is written as an integer and fits, else f64 by Clinger's exact path (up to 2^53 and 22
/// decimals; W. D. Clinger, "How to read floating point numbers accurately", 1990), else by the standard library.
#[inline]
pub fn number(text: &[u8]) -> Number {
    let (neg, d) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        _ => (false, text),
    };
    if d.len() > 18 || d.is_empty() {
        return slow_number(text);
    }
    let (mut m, mut dot, mut done) = (0u64, usize::MAX, 0);
    if let Some(first) = d.first_chunk::<8>()
        && let Some(n) = eight_digits(first)
    {
        (m, done) = (n, 8);
    }
    for (i, c) in d.iter().enumerate().skip(done) {
        if c.is_ascii_digit() {
            m = m * 10 + (c - b'0') as u64;
        } else if *c == b'.' && dot == usize::MAX {
            dot = i;
        } else {
            return slow_number(text);
        }
    }
    if dot == usize::MAX {
        if neg && m == 0 {
            return Number::Float(-0.0);
        }
        return Number::Int(if neg { -(m as i64) } else { m as i64 });
    }
    let k = d.len() - dot - 1;
    if m >> 53 != 0 || k == 0 || dot == 0 {
        return slow_number(text);
    }
    let f = m as f64 / POW[k];
    Number::Float(if neg { -f } else { f })
}

/// The value of eight digits, by multiplications of neighbours: pairs, then fours, then eight.
#[inline]
pub(crate) fn eight_digits(text: &[u8; 8]) -> Option<u64> {
    let x = u64::from_le_bytes(*text);
    let high = 0xF0F0_F0F0_F0F0_F0F0;
    let zeros = 0x3030_3030_3030_3030;
    // Above `9` the addition carries into the high half.
    if (x & high) | ((x.wrapping_add(0x0606_0606_0606_0606) & high) >> 4) != zeros | zeros >> 4 {
        return None;
    }
    let x = (x & 0x0F0F_0F0F_0F0F_0F0F).wrapping_mul(2561) >> 8;
    let x = (x & 0x00FF_00FF_00FF_00FF).wrapping_mul(6_553_601) >> 16;
    Some((x & 0x0000_FFFF_0000_FFFF).wrapping_mul(42_949_672_960_001) >> 32)
}

#[cold]
fn slow_number(text: &[u8]) -> Number {
    if !is_number(text) {
        return Number::Bad;
    }
    let s = std::str::from_utf8(text).unwrap_or("");
    if s != "-0"
        && let Ok(i) = s.parse::<i64>()
    {
        return Number::Int(i);
    }
    s.parse::<f64>().ok().filter(|f| f.is_finite()).map_or(Number::Bad, Number::Float)
}

/// An integer however it is written: `1`, `1.0`, `1e3`.
#[inline]
pub fn int(text: &[u8]) -> Option<i64> {
    match number(text) {
        Number::Int(i) => Some(i),
        Number::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(f as i64),
        _ => None,
    }
}

/// Whether the text is a number of the JSON grammar (RFC 8259, section 6).
pub fn is_number(t: &[u8]) -> bool {
    let mut p = usize::from(t.first() == Some(&b'-'));
    let digits = |p: &mut usize| {
        let s = *p;
        while t.get(*p).is_some_and(u8::is_ascii_digit) {
            *p += 1;
        }
        *p - s
    };
    let first = p;
    let n = digits(&mut p);
    if n == 0 || (t[first] == b'0' && n > 1) {
        return false;
    }
    if t.get(p) == Some(&b'.') {
        p += 1;
        if digits(&mut p) == 0 {
            return false;
        }
    }
    if t.get(p).is_some_and(|c| c | 32 == b'e') {
        p += 1;
        if matches!(t.get(p), Some(b'+' | b'-')) {
            p += 1;
        }
        if digits(&mut p) == 0 {
            return false;
        }
    }
    p == t.len()
}

/// Digits with an optional minus, nothing else.
pub fn is_integer(t: &[u8]) -> bool {
    let d = t.strip_prefix(b"-").unwrap_or(t);
    !d.is_empty() && d.iter().all(u8::is_ascii_digit)
}

/// Whether it is an integer without sign as JSON writes it, of at most 18 digits.
#[inline]
pub fn plain_integer(t: &[u8]) -> bool {
    matches!(t, [b'0'] | [b'1'..=b'9', ..]) && t.len() <= 18 && digits(t)
}

/// Whether it is a number as JSON writes it that is not beyond f64.
#[inline]
pub fn plain_number(t: &[u8]) -> bool {
    let unsigned = t.strip_prefix(b"-").unwrap_or(t);
    !matches!(unsigned, [b'0', b'0'..=b'9', ..]) && number(t) != Number::Bad
}

/// Eight bytes a step.
#[inline]
fn digits(t: &[u8]) -> bool {
    let eight = |t: &[u8; 8]| {
        let x = u64::from_le_bytes(*t);
        const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
        const ZEROS: u64 = 0x3030_3030_3030_3030;
        // 0x30 to 0x3f, and still so when 6 is added.
        (x & HIGH) == ZEROS && (x.wrapping_add(0x0606_0606_0606_0606) & HIGH) == ZEROS
    };
    match (t.first_chunk(), t.last_chunk()) {
        (Some(first), Some(last)) => eight(first) && eight(last) && (t.len() <= 16 || t[8..t.len() - 8].iter().all(u8::is_ascii_digit)),
        _ => t.iter().all(u8::is_ascii_digit),
    }
}

/// Whether nothing in the bytes needs a JSON escape: no control character, quote or backslash. Eight bytes a step.
#[inline]
pub fn clean(s: &[u8]) -> bool {
    const L: u64 = 0x0101_0101_0101_0101;
    const H: u64 = 0x8080_8080_8080_8080;
    #[inline]
    fn bad(x: u64) -> u64 {
        let zero = |y: u64| y.wrapping_sub(L) & !y & H;
        (x.wrapping_sub(0x20 * L) & !x & H) | zero(x ^ (b'"' as u64 * L)) | zero(x ^ (b'\\' as u64 * L))
    }
    let word = |i: usize| u64::from_le_bytes(s[i..i + 8].try_into().expect("8 bytes"));
    let n = s.len();
    if n >= 8 {
        let mut i = 0;
        let mut m = bad(word(n - 8));
        while i + 8 < n {
            m |= bad(word(i));
            i += 8;
        }
        return m == 0;
    }
    if n >= 4 {
        let half = |i: usize| u64::from(u32::from_le_bytes(s[i..i + 4].try_into().expect("4 bytes")));
        return bad(half(0) | half(n - 4) << 32) == 0;
    }
    !s.iter().any(|c| *c < 0x20 || *c == b'"' || *c == b'\\')
}

/// Appends a JSON string of the text: only `"`, `\` and control characters are escaped, non-ASCII stays raw.
pub fn quote(s: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if clean(s) {
        out.extend_from_slice(s);
    } else {
        for &c in s {
            match c {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                8 => out.extend_from_slice(b"\\b"),
                12 => out.extend_from_slice(b"\\f"),
                0..32 => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    out.extend_from_slice(b"\\u00");
                    out.push(HEX[(c >> 4) as usize]);
                    out.push(HEX[(c & 15) as usize]);
                }
                c => out.push(c),
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_what_the_standard_library_reads(t in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?") {
            let want = match t.parse::<i64>() {
                Ok(i) if t != "-0" => Number::Int(i),
                _ => Number::Float(t.parse().unwrap()),
            };
            prop_assert_eq!(number(t.as_bytes()), want);
        }

        #[test]
        fn plain_numbers_are_those_of_the_grammar(t in "-?[0-9]{0,12}[.eE+ ]?[0-9]{0,3}") {
            prop_assert_eq!(plain_number(t.as_bytes()), is_number(t.as_bytes()) && t.parse::<f64>().is_ok_and(f64::is_finite));
        }

        #[test]
        fn what_is_no_number_is_none(t in "-?[1-9][0-9]{0,9}[:/a -][0-9]{0,9}") {
            prop_assert_eq!(number(t.as_bytes()), Number::Bad);
        }

        #[test]
        fn clean_finds_what_needs_an_escape(t in prop::collection::vec(prop::sample::select(vec![b'a', b' ', b'"', b'\\', 31, 0, 127, 200]), 0..40)) {
            for len in 0..t.len() {
                let part = &t[..len];
                prop_assert_eq!(clean(part), !part.iter().any(|c| *c < 32 || *c == b'"' || *c == b'\\'));
            }
        }
    }
}
