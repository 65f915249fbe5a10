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
                    // Digits that an i64 cannot hold: two ids of 20 digits must stay two keys.
                    _ if json::is_integer(t.as_bytes()) => text(6, t.as_bytes(), out),
                    Number::Float(f) => float(f, out),
                    Number::Bad => text(6, t.as_bytes(), out),
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
    if f.fract() == 0.0 && f.abs() < 9e15 {
        word(4, (f as i64).to_be_bytes(), out);
    } else {
        word(5, f.to_be_bytes(), out);
    }
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
