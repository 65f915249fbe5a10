//! The row codec: what state and the wire hold.
//!
//! Layout: meta (time i64, offset u64, partition u32, source u16, flags u16, little endian: 24 bytes), then each value as
//! a tag byte and its payload; texts are tag, length (one byte, or with the tag's top bit four bytes little endian), bytes.
//! The schema is not in the row: whoever keeps rows keeps the schema's id and names once beside them.

use crate::record::{Meta, Record};
use crate::schema::Slot;
use crate::value::{Span, Value};
use std::fmt;

pub(crate) const META: usize = 24;

/// A stored row that does not decode: damaged bytes, or a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowError(pub &'static str);

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored row is damaged: {}", self.0)
    }
}
impl std::error::Error for RowError {}

impl Record<'_> {
    /// Appends the row to `out`: 24 bytes of meta, 1 to 9 bytes a scalar, 2 or 5 bytes plus its length a text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_meta(self.meta(), out);
        for &v in self.raw_values() {
            self.encode_value(v, out);
        }
    }

    /// As [`encode`](Self::encode), with the fields at `slots` only, in that order, and another meta.
    pub fn encode_fields(&self, meta: &Meta, slots: &[Slot], out: &mut Vec<u8>) {
        encode_meta(meta, out);
        for &s in slots {
            self.encode_value(self.raw(s), out);
        }
    }

    /// Appends one value to `out`, in the form that [`RowBuf::decode`] reads.
    #[inline]
    pub fn encode_value(&self, v: Value, out: &mut Vec<u8>) {
        match v {
            Value::Missing => out.push(0),
            Value::Null => out.push(1),
            Value::Bool(b) => out.push(2 + b as u8),
            Value::Int(i) => scalar(4, i.to_le_bytes(), out),
            Value::Float(f) => scalar(5, f.to_le_bytes(), out),
            Value::Time(t) => scalar(12, t.to_le_bytes(), out),
            Value::Num(s) => text(6, self.bytes(s), out),
            Value::Str(s) => text(7, self.bytes(s), out),
            Value::Text(s) => text(8, self.bytes(s), out),
            Value::Json(s) => text(9, self.bytes(s), out),
            Value::Split(s, pair, key) => {
                text(10, self.bytes(s), out);
                out.extend_from_slice(&[pair, key]);
            }
            Value::Bytes(s) => text(11, self.bytes(s), out),
        }
    }
}

#[inline]
pub(crate) fn encode_meta(m: &Meta, out: &mut Vec<u8>) {
    let mut head = [0; META];
    head[0..8].copy_from_slice(&m.time.to_le_bytes());
    head[8..16].copy_from_slice(&m.offset.to_le_bytes());
    head[16..20].copy_from_slice(&m.partition.to_le_bytes());
    head[20..22].copy_from_slice(&m.source.to_le_bytes());
    head[22..24].copy_from_slice(&m.flags.to_le_bytes());
    out.extend_from_slice(&head);
}

#[inline]
fn scalar(tag: u8, payload: [u8; 8], out: &mut Vec<u8>) {
    let mut b = [tag; 9];
    b[1..].copy_from_slice(&payload);
    out.extend_from_slice(&b);
}

#[inline]
fn text(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.len() < 256 {
        out.extend_from_slice(&[tag, bytes.len() as u8]);
    } else {
        out.push(tag | 128);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Encodes a row that lies in no batch: values given one by one, in schema order (a store's answer, an accumulator's row).
#[derive(Default)]
pub struct RowWriter {
    out: Vec<u8>,
}

impl RowWriter {
    pub fn new(meta: Meta) -> RowWriter {
        let mut w = RowWriter { out: Vec::with_capacity(128) };
        // SAFETY: no values, and the text is empty as the raw span is not encoded.
        unsafe { Record::new(&[], &[], &meta) }.encode(&mut w.out);
        w
    }

    pub fn push(&mut self, v: crate::Val<'_>) {
        use crate::Val;
        match v {
            Val::Missing => self.out.push(0),
            Val::Null => self.out.push(1),
            Val::Bool(b) => self.out.push(2 + b as u8),
            Val::Int(i) => scalar(4, i.to_le_bytes(), &mut self.out),
            Val::Float(f) => scalar(5, f.to_le_bytes(), &mut self.out),
            Val::Time(t) => scalar(12, t.to_le_bytes(), &mut self.out),
            Val::Num(s) => text(6, s.as_bytes(), &mut self.out),
            Val::Str(s) => text(if crate::json::clean(s.as_bytes()) { 7 } else { 8 }, s.as_bytes(), &mut self.out),
            Val::Bytes(b) => text(11, b, &mut self.out),
            Val::Json(j) => text(9, j.as_bytes(), &mut self.out),
            Val::Split(s, pair, key) => {
                text(10, s.as_bytes(), &mut self.out);
                self.out.extend_from_slice(&[pair, key]);
            }
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

pub(crate) const CUT: RowError = RowError("it is cut short");

/// The meta at `p`, which moves behind it.
#[inline]
pub(crate) fn read_meta(bytes: &[u8], p: &mut usize) -> Result<Meta, RowError> {
    let head: &[u8; META] = bytes.get(*p..).and_then(|b| b.first_chunk()).ok_or(CUT)?;
    *p += META;
    Ok(Meta {
        time: i64::from_le_bytes(head[0..8].try_into().expect("8 bytes")),
        offset: u64::from_le_bytes(head[8..16].try_into().expect("8 bytes")),
        partition: u32::from_le_bytes(head[16..20].try_into().expect("4 bytes")),
        source: u16::from_le_bytes(head[20..22].try_into().expect("2 bytes")),
        flags: u16::from_le_bytes(head[22..24].try_into().expect("2 bytes")),
        raw: Meta::NO_RAW,
    })
}

/// The number at `p`, which moves behind it.
#[inline]
pub(crate) fn read_u32(bytes: &[u8], p: &mut usize) -> Result<u32, RowError> {
    let n = bytes.get(*p..).and_then(|b| b.first_chunk()).ok_or(CUT)?;
    *p += 4;
    Ok(u32::from_le_bytes(*n))
}

/// A value whose tag has been read. Its span, if it has one, lies in `bytes`, which are shorter than 4 GiB, and is UTF-8 if it is textual.
#[inline]
pub(crate) fn read_value(tag: u8, bytes: &[u8], p: &mut usize) -> Result<Value, RowError> {
    let word = |p: &mut usize| -> Result<[u8; 8], RowError> {
        let w = bytes.get(*p..).and_then(|b| b.first_chunk()).ok_or(CUT)?;
        *p += 8;
        Ok(*w)
    };
    Ok(match tag & 127 {
        0 => Value::Missing,
        1 => Value::Null,
        2 => Value::Bool(false),
        3 => Value::Bool(true),
        4 => Value::Int(i64::from_le_bytes(word(p)?)),
        5 => Value::Float(f64::from_le_bytes(word(p)?)),
        12 => Value::Time(i64::from_le_bytes(word(p)?)),
        kind @ 6..=11 => {
            let len = if tag & 128 == 0 {
                let n = *bytes.get(*p).ok_or(CUT)? as usize;
                *p += 1;
                n
            } else {
                read_u32(bytes, p)? as usize
            };
            let text = bytes.get(*p..*p + len).ok_or(CUT)?;
            let s = Span { off: *p as u32, len: len as u32 };
            *p += len;
            if kind != 11 && simdutf8::basic::from_utf8(text).is_err() {
                return Err(RowError("a text is not UTF-8"));
            }
            textual(kind, s, bytes, p)?
        }
        _ => return Err(RowError("unknown tag")),
    })
}

/// A value of a tag from 6 to 11, whose span is known to be right.
#[inline]
pub(crate) fn textual(kind: u8, s: Span, bytes: &[u8], p: &mut usize) -> Result<Value, RowError> {
    Ok(match kind {
        6 => Value::Num(s),
        7 => Value::Str(s),
        8 => Value::Text(s),
        9 => Value::Json(s),
        10 => {
            let e = bytes.get(*p..*p + 2).ok_or(CUT)?;
            *p += 2;
            if !e.is_ascii() {
                return Err(RowError("a separator is not ASCII"));
            }
            Value::Split(s, e[0], e[1])
        }
        11 => Value::Bytes(s),
        _ => return Err(RowError("unknown tag")),
    })
}

/// Room for decoded values, reused: a stored row is read in place, its text stays where it is.
#[derive(Default)]
pub struct RowBuf {
    vals: Vec<Value>,
    meta: Meta,
}

impl RowBuf {
    pub fn new() -> RowBuf {
        RowBuf::default()
    }

    /// Reads a row of `width` fields at the start of `bytes`, and checks every length and all UTF-8.
    ///
    /// # Errors
    /// Bytes that [`Record::encode`] did not write for that width.
    pub fn decode<'a>(&'a mut self, width: usize, bytes: &'a [u8]) -> Result<Record<'a>, RowError> {
        self.decode_from(width, bytes).map(|(r, _)| r)
    }

    /// As [`decode`](Self::decode), and how many bytes the row took.
    pub fn decode_from<'a>(&'a mut self, width: usize, bytes: &'a [u8]) -> Result<(Record<'a>, usize), RowError> {
        if bytes.len() > u32::MAX as usize {
            return Err(RowError("it is longer than 4 GiB"));
        }
        let mut p = 0;
        self.meta = read_meta(bytes, &mut p)?;
        self.vals.clear();
        for _ in 0..width {
            let tag = *bytes.get(p).ok_or(CUT)?;
            p += 1;
            self.vals.push(read_value(tag, bytes, &mut p)?);
        }
        // SAFETY: every span was taken from `bytes`, textual ones were checked to be UTF-8.
        Ok((unsafe { Record::new(bytes, &self.vals, &self.meta) }, p))
    }
}
