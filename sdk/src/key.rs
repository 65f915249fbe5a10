//! A row's key as bytes that are the same in every process and release.

use crate::json::{self, Number};
use crate::record::Record;
use crate::schema::Slot;
use crate::value::Val;

/// State and exchange are cut into this many key groups; a worker owns a contiguous range of them.
pub const KEY_GROUPS: u64 = 1024;

/// The fields of a key, in order. 1, 1.0 and 1e0 are one key; 1 and "1" are two; Null and Missing are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    slots: Vec<Slot>,
}

impl Key {
    pub fn new(slots: Vec<Slot>) -> Key {
        Key { slots }
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Appends the canonical bytes of the record's key: for each field a tag and its value, texts with their length before them.
    #[inline]
    pub fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        for &s in &self.slots {
            match record.get(s) {
                Val::Missing | Val::Null => out.push(0),
                Val::Bool(b) => out.push(2 + b as u8),
                Val::Str(t) => text(7, t.as_bytes(), out),
                Val::Bytes(b) => text(8, b, out),
                Val::Int(i) => word(4, i.to_be_bytes(), out),
                Val::Time(t) => word(9, t.to_be_bytes(), out),
                Val::Float(f) => float(f, out),
                Val::Num(t) => match json::number(t.as_bytes()) {
                    Number::Int(i) => word(4, i.to_be_bytes(), out),
                    Number::Float(f) if f.is_finite() => written(t, f, out),
                    _ => text(6, t.as_bytes(), out),
                },
                Val::Json(j) => text(10, j.as_bytes(), out),
                Val::Split(t, pair, key) => {
                    text(11, t.as_bytes(), out);
                    out.extend_from_slice(&[pair, key]);
                }
            }
        }
    }

    /// xxh3 of key bytes.
    #[inline]
    pub fn hash(bytes: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64(bytes)
    }

    /// The key group of key bytes, below [`KEY_GROUPS`].
    #[inline]
    pub fn group(bytes: &[u8]) -> u64 {
        Self::hash(bytes) % KEY_GROUPS
    }

    /// The worker that owns a key group: contiguous ranges (Flink's formula, `group * workers / groups`).
    #[inline]
    pub fn worker(group: u64, workers: usize) -> usize {
        (group * workers as u64 / KEY_GROUPS) as usize
    }
}

#[inline]
fn float(f: f64, out: &mut Vec<u8>) {
    if f.fract() == 0.0 && f.abs() < i64::MAX as f64 {
        word(4, (f as i64).to_be_bytes(), out);
    } else {
        word(5, f.to_be_bytes(), out);
    }
}

/// A number that is no plain integer: the double nearest to it, unless it has digits which that lacks. Ids of 20 digits and large
/// decimals stay apart, 1.50 and 1.5 do not.
fn written(t: &str, nearest: f64, out: &mut Vec<u8>) {
    if t.len() <= EXACT_DIGITS {
        return float(nearest, out);
    }
    let (digits, exponent) = significant(t);
    if digits.len() <= EXACT_DIGITS || (digits.clone(), exponent) == significant(&format!("{nearest:e}")) {
        return float(nearest, out);
    }
    let sign = if t.starts_with('-') { "-" } else { "" };
    match exponent {
        0..=3 => match format!("{sign}{digits}{:0<1$}", "", exponent as usize).parse::<i64>() {
            Ok(i) => word(4, i.to_be_bytes(), out),
            Err(_) => text(6, format!("{sign}{digits}e{exponent}").as_bytes(), out),
        },
        _ => text(6, format!("{sign}{digits}e{exponent}").as_bytes(), out),
    }
}

/// So many decimal digits identify a double.
const EXACT_DIGITS: usize = 15;

/// The digits of a number as JSON writes it, without zeros at either end, and the power of ten that they are to be multiplied by.
fn significant(t: &str) -> (String, i64) {
    let (mantissa, exponent) = t.split_once(['e', 'E']).unwrap_or((t, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let mut exponent = exponent.parse::<i64>().unwrap_or(0) - fraction.len() as i64;
    while digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    digits.drain(..zeros);
    (digits, exponent)
}

#[inline]
fn word(tag: u8, payload: [u8; 8], out: &mut Vec<u8>) {
    let mut b = [tag; 9];
    b[1..].copy_from_slice(&payload);
    out.extend_from_slice(&b);
}

#[inline]
fn text(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let mut b = [tag; 5];
    b[1..].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(&b);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Field, Meta, Schema, Type, Val};

    fn bytes(v: Val<'_>) -> Vec<u8> {
        let mut b = BatchBuilder::new(Schema::new(vec![Field::new("x", Type::Any)]));
        b.push_val(v);
        b.end_row(Meta::default());
        let mut out = vec![];
        Key::new(vec![Slot(0)]).write(&b.finish().row(0), &mut out);
        out
    }

    #[test]
    fn equal_numbers_are_one_key_however_written() {
        use Val::{Bool, Float, Int, Null, Num, Str};
        let keys: &[&[Val<'_>]] = &[
            &[Int(1), Num("1"), Num("1.0"), Num("1e0"), Num("10e-1"), Num("1.000000000000000000"), Float(1.0)],
            &[Int(0), Num("0"), Num("-0"), Num("-0.0"), Num("0e99"), Float(-0.0), Num("0.000000000000000000")],
            &[Float(0.1), Num("0.1"), Num("1e-1"), Num("0.1000000000000000000")],
            &[Float(0.1 + 0.2), Num("0.30000000000000004")],
            &[Num("0.30000000000000005")],
            &[Num("123456789012345678.01"), Num("123456789012345678.010"), Num("12345678901234567801e-2")],
            &[Num("123456789012345678.02")],
            &[Num("-123456789012345678.02")],
            &[Num("12345678901234567890")],
            &[Num("12345678901234567891")],
            &[Int(9_007_199_254_740_993), Num("9007199254740993"), Num("9007199254740993.0")],
            &[Int(9_007_199_254_740_992), Float(9_007_199_254_740_992.0), Num("9007199254740992.0")],
            &[Int(10_000_000_000_000_000), Float(1e16), Num("1e16")],
            &[Int(1_234_567_890_123_456_000), Num("1234567890123456e3")],
            &[Int(i64::MAX), Num("9223372036854775807.0")],
            &[Float(1e19), Num("1e19"), Num("10000000000000000000")],
            &[Num("1e999")],
            &[Num("1e9999999999999999999")],
            &[Str("1")],
            &[Str("1.0")],
            &[Bool(true)],
            &[Null, Val::Missing],
        ];
        for (i, same) in keys.iter().enumerate() {
            for v in *same {
                assert_eq!(bytes(*v), bytes(same[0]), "{v:?}");
                for other in &keys[i + 1..] {
                    assert_ne!(bytes(*v), bytes(other[0]), "{v:?} {:?}", other[0]);
                }
            }
        }
    }
}
