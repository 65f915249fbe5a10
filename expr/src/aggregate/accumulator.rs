//! Accumulators as bytes.
//!
//! Each aggregate has a head of fixed size at a fixed offset; what varies in size follows all heads, in the order of the aggregates,
//! its length is in the head. Little endian.
//!
//! - count: the number, 8 bytes.
//! - sum, avg: kind (0 nothing yet, 1 integer, 2 double, 3 decimal), scale, the sum in 16 bytes, the number of values in 8.
//! - min, max, first, last: the tag of the value (0 nothing yet), then 8 bytes: the value, or the length of its text.
//! - count distinct: number of values in 8 bytes, length in 4; then a hash table with open addressing of 16-byte hashes (xxh3),
//!   at most 3/4 full. Two values of one hash would count once: to be expected among 2^64 values.

use super::Function;
use crate::sql::value::{Num, R, V, compare, decimal, overflow};
use millrace_sdk::json::is_number;
use millrace_sdk::{Decimal, Type};
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_128;

const SUM: usize = 26;
const VALUE: usize = 9;
const DISTINCT: usize = 12;

pub(super) struct Layout {
    heads: Vec<(Function, usize)>,
    size: usize,
}

/// What a row changes; made before anything is changed.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    None,
    Count,
    Sum(Sum),
    Replace(V<'a>),
    Hash(u128),
}

#[derive(Clone, Copy)]
pub(super) struct Sum {
    kind: u8,
    scale: u8,
    bits: [u8; 16],
    n: u64,
}

impl Layout {
    pub(super) fn new(functions: impl Iterator<Item = Function>) -> Layout {
        let mut size = 0;
        let heads = functions
            .map(|f| {
                let at = size;
                size += match f {
                    Function::Count => 8,
                    Function::Sum | Function::Avg => SUM,
                    Function::Min | Function::Max | Function::First | Function::Last => VALUE,
                    Function::Distinct => DISTINCT,
                };
                (f, at)
            })
            .collect();
        Layout { heads, size }
    }

    pub(super) fn init(&self, acc: &mut Vec<u8>) {
        acc.resize(acc.len() + self.size, 0);
    }

    /// Length of what the `i`th aggregate keeps behind the heads.
    #[inline]
    fn tail_len(&self, i: usize, acc: &[u8]) -> usize {
        let (f, at) = self.heads[i];
        match f {
            Function::Count | Function::Sum | Function::Avg => 0,
            Function::Distinct => u32::from_le_bytes(array(acc, at + 8)) as usize,
            _ if acc.get(at).is_some_and(|tag| *tag >= TEXT) => u64::from_le_bytes(array(acc, at + 1)) as usize,
            _ => 0,
        }
    }

    fn tail_at(&self, i: usize, acc: &[u8]) -> usize {
        self.size + (0..i).map(|j| self.tail_len(j, acc)).sum::<usize>()
    }

    fn tail<'a>(&self, i: usize, acc: &'a [u8]) -> &'a [u8] {
        let at = self.tail_at(i, acc);
        acc.get(at..at + self.tail_len(i, acc)).unwrap_or_default()
    }

    /// What `v`, which is not NULL, would change.
    #[inline]
    pub(super) fn plan<'a>(&self, i: usize, acc: &[u8], v: V<'a>, ty: Type) -> R<Step<'a>> {
        let (f, at) = self.heads[i];
        Ok(match f {
            Function::Count => Step::Count,
            Function::Sum | Function::Avg => Step::Sum(add(read_sum(acc, at), v, f, ty)?),
            Function::Last => Step::Replace(v),
            Function::First if acc[at] == 0 => Step::Replace(v),
            Function::First => Step::None,
            Function::Distinct => Step::Hash(hash(v)),
            Function::Min | Function::Max => {
                let have = self.value(i, acc);
                let wanted = if f == Function::Min { Ordering::Less } else { Ordering::Greater };
                let better = match (v, have) {
                    (V::Int(v), V::Int(have)) => v.cmp(&have) == wanted,
                    _ => compare(v, have)?.is_none_or(|o| o == wanted),
                };
                if better { Step::Replace(v) } else { Step::None }
            }
        })
    }

    #[inline]
    pub(super) fn apply(&self, i: usize, acc: &mut Vec<u8>, base: usize, step: Step<'_>) {
        let at = base + self.heads[i].1;
        match step {
            Step::None => {}
            Step::Count => {
                let n = u64::from_le_bytes(array(acc, at)).wrapping_add(1);
                acc[at..at + 8].copy_from_slice(&n.to_le_bytes());
            }
            Step::Sum(s) => {
                acc[at] = s.kind;
                acc[at + 1] = s.scale;
                acc[at + 2..at + 18].copy_from_slice(&s.bits);
                acc[at + 18..at + 26].copy_from_slice(&s.n.to_le_bytes());
            }
            Step::Replace(v) => self.replace(i, acc, base, v),
            Step::Hash(h) => self.insert(i, acc, base, h),
        }
    }

    fn replace(&self, i: usize, acc: &mut Vec<u8>, base: usize, v: V<'_>) {
        let at = base + self.heads[i].1;
        let tail = self.tail_len(i, &acc[base..]);
        if let (V::Int(n), 0) = (v, tail) {
            acc[at] = INT;
            acc[at + 1..at + 9].copy_from_slice(&n.to_le_bytes());
            return;
        }
        let start = base + self.tail_at(i, &acc[base..]);
        let old = start..start + tail;
        let mut written = vec![];
        let (tag, word) = match v {
            V::Int(n) => (INT, n.to_le_bytes()),
            V::Float(f) => (FLOAT, f.to_le_bytes()),
            V::Time(t) => (TIME, t.to_le_bytes()),
            V::Bool(b) => (BOOL, u64::from(b).to_le_bytes()),
            V::Null => (0, [0; 8]),
            v => {
                let (tag, text): (u8, &[u8]) = match v {
                    V::Str(t) => (TEXT, t.as_bytes()),
                    V::Num(t) => (NUM, t.as_bytes()),
                    V::Json(t) => (JSON, t.as_bytes()),
                    V::Bytes(b) => (BYTES, b),
                    V::Split(t, pair, key) => {
                        written.extend_from_slice(&[pair, key]);
                        written.extend_from_slice(t.as_bytes());
                        (SPLIT, &written)
                    }
                    V::Dec(hi, lo, s) => {
                        decimal(hi, lo, s).write(&mut written);
                        (DEC, &written)
                    }
                    _ => (TEXT, &[]),
                };
                acc.splice(old.clone(), text.iter().copied());
                acc[at] = tag;
                acc[at + 1..at + 9].copy_from_slice(&(text.len() as u64).to_le_bytes());
                return;
            }
        };
        acc.drain(old);
        acc[at] = tag;
        acc[at + 1..at + 9].copy_from_slice(&word);
    }

    fn insert(&self, i: usize, acc: &mut Vec<u8>, base: usize, h: u128) {
        let at = base + self.heads[i].1;
        let start = base + self.tail_at(i, &acc[base..]);
        let len = self.tail_len(i, &acc[base..]);
        let n = u64::from_le_bytes(array(acc, at));
        if len > 0 && !put(&mut acc[start..start + len], h) {
            return;
        }
        acc[at..at + 8].copy_from_slice(&(n + 1).to_le_bytes());
        if len > 0 && (n + 1) * 4 <= (len as u64 / 16) * 3 {
            return;
        }
        let mut table = vec![0; (len * 2).max(64)];
        for old in acc[start..start + len].chunks_exact(16) {
            let old = u128::from_le_bytes(array(old, 0));
            if old != 0 {
                put(&mut table, old);
            }
        }
        put(&mut table, h);
        acc[at + 8..at + 12].copy_from_slice(&(table.len() as u32).to_le_bytes());
        acc.splice(start..start + len, table);
    }

    /// The value of min, max, first or last.
    fn value<'a>(&self, i: usize, acc: &'a [u8]) -> V<'a> {
        let at = self.heads[i].1;
        let word: [u8; 8] = array(acc, at + 1);
        let text = |b: &'a [u8]| std::str::from_utf8(b).unwrap_or_default();
        match acc.get(at).copied().unwrap_or(0) {
            INT => V::Int(i64::from_le_bytes(word)),
            FLOAT => V::Float(f64::from_le_bytes(word)),
            TIME => V::Time(i64::from_le_bytes(word)),
            BOOL => V::Bool(word[0] != 0),
            TEXT => V::Str(text(self.tail(i, acc))),
            NUM => Some(text(self.tail(i, acc))).filter(|t| is_number(t.as_bytes())).map_or(V::Null, V::Num),
            JSON => V::Json(text(self.tail(i, acc))),
            BYTES => V::Bytes(self.tail(i, acc)),
            DEC => Decimal::parse(text(self.tail(i, acc))).map_or(V::Null, V::dec),
            SPLIT => match self.tail(i, acc) {
                [pair, key, t @ ..] => V::Split(text(t), *pair, *key),
                _ => V::Null,
            },
            _ => V::Null,
        }
    }

    pub(super) fn result<'a>(&self, i: usize, acc: &'a [u8], ty: Type) -> V<'a> {
        let (f, at) = self.heads[i];
        match f {
            Function::Count | Function::Distinct => V::Int(i64::try_from(u64::from_le_bytes(array(acc, at))).unwrap_or(i64::MAX)),
            Function::Sum => {
                let s = read_sum(acc, at);
                match s.kind {
                    1 => i64::try_from(s.int()).map_or(V::Null, V::Int),
                    2 => V::Float(s.float()),
                    3 => V::dec(s.decimal()),
                    _ => V::Null,
                }
            }
            Function::Avg => {
                let s = read_sum(acc, at);
                let mean =
                    |d: Decimal, scale: u8| d.checked_div(Decimal { mantissa: s.n as i128, scale: 0 }, scale).map_or(V::Null, V::dec);
                match (s.kind, ty) {
                    (1, _) => V::Float(s.int() as f64 / s.n as f64),
                    (2, _) => V::Float(s.float() / s.n as f64),
                    (3, Type::Decimal(_, scale)) => mean(s.decimal(), scale),
                    (3, _) => mean(s.decimal(), s.scale.max(6)),
                    _ => V::Null,
                }
            }
            _ => self.value(i, acc),
        }
    }
}

const INT: u8 = 1;
const FLOAT: u8 = 2;
const TIME: u8 = 3;
const BOOL: u8 = 4;
/// Tags from here on have their bytes behind the heads.
const TEXT: u8 = 16;
const NUM: u8 = 17;
const JSON: u8 = 18;
const BYTES: u8 = 19;
const SPLIT: u8 = 20;
const DEC: u8 = 21;

/// Zeros where the bytes are cut short.
#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

#[inline]
fn read_sum(acc: &[u8], at: usize) -> Sum {
    let head: [u8; SUM] = array(acc, at);
    let s = Sum { kind: head[0], scale: head[1], bits: array(&head, 2), n: u64::from_le_bytes(array(&head, 18)) };
    // What is no decimal was not written here: damaged state counts as empty.
    let damaged = s.kind == 3 && s.decimal().rescale(s.scale.min(38)).is_none_or(|d| d.digits() > 38 || d.scale != s.scale);
    if damaged { Sum { kind: 0, scale: 0, bits: [0; 16], n: 0 } } else { s }
}

impl Sum {
    fn int(&self) -> i128 {
        i128::from_le_bytes(self.bits)
    }

    fn float(&self) -> f64 {
        f64::from_le_bytes(array(&self.bits, 0))
    }

    fn decimal(&self) -> Decimal {
        Decimal { mantissa: self.int(), scale: self.scale }
    }

    fn number(&self) -> Option<Num> {
        match self.kind {
            1 => i64::try_from(self.int()).ok().map(Num::Int),
            3 => Some(Num::Dec(self.decimal())),
            2 => Some(Num::Float(self.float())),
            _ => None,
        }
    }
}

#[inline]
fn add(s: Sum, v: V<'_>, f: Function, ty: Type) -> R<Sum> {
    let Some(x) = v.number() else { return v.not_a("a number") };
    let n = s.n.wrapping_add(1);
    let int = |i: i128| Sum { kind: 1, scale: 0, bits: i.to_le_bytes(), n };
    let float = |f: f64| {
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&f.to_le_bytes());
        Sum { kind: 2, scale: 0, bits, n }
    };
    let dec = |d: Decimal| Sum { kind: 3, scale: d.scale, bits: d.mantissa.to_le_bytes(), n };
    match (s.kind, x) {
        (0 | 1, Num::Int(i)) => {
            let sum = s.int().wrapping_add(i as i128);
            // An average has room for sums that a bigint has not.
            if f == Function::Sum && i64::try_from(sum).is_err() {
                return overflow(format_args!("a sum of bigints, {sum},"));
            }
            Ok(int(sum))
        }
        (0, Num::Float(x)) => Ok(float(x)),
        (0, Num::Dec(x)) => Ok(dec(x)),
        (2, x) => finite(s.float() + x.float()).map(float),
        (_, Num::Float(x)) => {
            let so_far = s.number().map_or(s.int() as f64, Num::float);
            finite(so_far + x).map(float)
        }
        (_, x) => {
            let so_far = if s.kind == 1 { Decimal { mantissa: s.int(), scale: 0 } } else { s.decimal() };
            match x.exact().and_then(|x| so_far.checked_add(x)) {
                Some(d) => Ok(dec(d)),
                None => overflow(format_args!("a sum of {ty}")),
            }
        }
    }
}

fn finite(f: f64) -> R<f64> {
    if f.is_finite() { Ok(f) } else { overflow("a sum of doubles") }
}

/// False: it was there. The table has room.
fn put(table: &mut [u8], h: u128) -> bool {
    let slots = table.len() / 16;
    let mut at = (h as usize) & (slots - 1);
    loop {
        let cell = &mut table[at * 16..at * 16 + 16];
        let have = u128::from_le_bytes(array(cell, 0));
        if have == h {
            return false;
        }
        if have == 0 {
            cell.copy_from_slice(&h.to_le_bytes());
            return true;
        }
        at = (at + 1) & (slots - 1);
    }
}

/// Of the canonical value: 1, 1.0 and 1e0 are one, 1 and '1' are two. Never 0.
fn hash(v: V<'_>) -> u128 {
    let mut bytes = Vec::new();
    let tagged = |tag: u8, body: &[u8], bytes: &mut Vec<u8>| {
        bytes.push(tag);
        bytes.extend_from_slice(body);
    };
    let number = |f: f64, bytes: &mut Vec<u8>| {
        if f.fract() == 0.0 && f.abs() < 9e15 {
            tagged(4, &(f as i64).to_be_bytes(), bytes);
        } else {
            tagged(5, &f.to_be_bytes(), bytes);
        }
    };
    match v {
        V::Str(t) => tagged(7, t.as_bytes(), &mut bytes),
        V::Bytes(b) => tagged(8, b, &mut bytes),
        V::Bool(b) => bytes.push(2 + u8::from(b)),
        V::Time(t) => tagged(9, &t.to_be_bytes(), &mut bytes),
        V::Json(t) => tagged(10, t.as_bytes(), &mut bytes),
        V::Split(t, pair, key) => {
            tagged(11, &[pair, key], &mut bytes);
            bytes.extend_from_slice(t.as_bytes());
        }
        V::Null => bytes.push(0),
        v => match v.number() {
            Some(Num::Int(i)) => tagged(4, &i.to_be_bytes(), &mut bytes),
            Some(Num::Float(f)) => number(f, &mut bytes),
            Some(Num::Dec(d)) => match d.to_i64() {
                Some(i) => tagged(4, &i.to_be_bytes(), &mut bytes),
                // A decimal of few digits equals the double of the same text.
                None if d.digits() <= 15 => number(d.to_f64(), &mut bytes),
                None => tagged(6, d.normalized().to_string().as_bytes(), &mut bytes),
            },
            None => {}
        },
    }
    xxh3_128(&bytes).max(1)
}
