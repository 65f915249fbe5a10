//! Writing rows and values as canonical JSON: no spaces, only `"`, `\` and control characters escaped, numbers as written.

use super::pen::{Pen, STEP};
use super::quote;
use super::read::{Member, members, unescape};
use super::split::blocks;
use crate::batch::Batch;
use crate::record::Record;
use crate::schema::{Schema, Slot};
use crate::value::{Span, Val, Value};

/// Writes rows of one schema: names are quoted once, clean text is copied without looking at it.
#[derive(Clone)]
pub struct JsonWriter {
    heads: Vec<Head>,
    tail: Option<Slot>,
    /// Names that cover the tail's members; with a slot only where that is Missing.
    covers: Vec<(Box<str>, Option<Slot>)>,
    /// Members of the tail being written: a list to see repeated keys by.
    seen: Vec<(usize, usize)>,
}

/// What stands before a field's value.
#[derive(Clone)]
struct Head {
    slot: Slot,
    /// Length of `,"name":`, without the quote that begins a string.
    len: usize,
    /// `,"name":"`, if that is no longer.
    short: [u8; STEP],
    /// `,"name":"`, if it is.
    long: Box<[u8]>,
}

impl Head {
    fn new(slot: Slot, name: &str) -> Head {
        let mut text = vec![b','];
        quote(name.as_bytes(), &mut text);
        text.extend_from_slice(b":\"");
        let (len, mut short) = (text.len() - 1, [0; STEP]);
        let long = match short.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(&text);
                [].into()
            }
            None => text.into(),
        };
        Head { slot, len, short, long }
    }

    /// Appends it, with so many quotes, 0 or 1.
    ///
    /// # Safety
    /// There is room for it and a step behind it.
    #[inline(always)]
    unsafe fn put(&self, quotes: usize, pen: &mut Pen<'_>) {
        let len = self.len + quotes;
        // SAFETY: the caller's promise.
        unsafe {
            match self.len < STEP {
                true => pen.put_some(&self.short, len),
                false => pen.copy(&self.long, 0, len),
            }
        }
    }
}

impl JsonWriter {
    pub fn new(schema: &Schema) -> JsonWriter {
        let heads = schema.visible().map(|(slot, field)| Head::new(slot, &field.name)).collect();
        let fields = schema.fields().iter().enumerate();
        let covers = fields.map(|(i, f)| (f.name.clone(), f.hidden.then_some(Slot(i as u16)))).collect();
        JsonWriter { heads, tail: schema.tail(), covers, seen: vec![] }
    }

    /// Appends the row as an object, as [`write_row`] says.
    pub fn row(&mut self, row: &Record<'_>, out: &mut Vec<u8>) {
        self.object(row, &mut Pen::new(out), write_split);
    }

    /// Appends a line for each row of the batch.
    pub fn lines(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has what it takes.
            return unsafe { self.lines_wide(batch, out) };
        }
        self.lines_by(batch, out, write_split);
    }

    /// A step is copied by one instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn lines_wide(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        self.lines_by(batch, out, |arena, off, len, by, out| write_split_wide(arena, off, len, by, out));
    }

    #[inline(always)]
    fn lines_by(&mut self, batch: &Batch, out: &mut Vec<u8>, split: impl Fn(&[u8], usize, usize, (u8, u8), &mut Vec<u8>)) {
        let mut pen = Pen::new(out);
        for row in batch.rows() {
            self.object(&row, &mut pen, &split);
            pen.room(1);
            // SAFETY: there is room for a byte.
            unsafe { pen.put(b"\n") };
        }
    }

    #[inline(always)]
    fn object(&mut self, row: &Record<'_>, pen: &mut Pen<'_>, split: impl Fn(&[u8], usize, usize, (u8, u8), &mut Vec<u8>)) {
        let (arena, values) = (row.arena(), row.raw_values());
        let begun = pen.len();
        for head in &self.heads {
            let value = &values[head.slot.index()];
            // A number is written as a string is, without the quotes. All else is done elsewhere, so that the registers suffice here.
            let (span, quotes) = match value {
                Value::Str(s) => (*s, 1),
                Value::Num(s) => (*s, 0),
                Value::Missing => continue,
                _ => {
                    pen.with(|out| field(head, arena, value, &split, out));
                    continue;
                }
            };
            let (off, len) = (span.off as usize, span.len as usize);
            pen.room(head.len + len + 2 * STEP);
            // SAFETY: there is room for the head, the text and a step behind them, of which the quote takes one byte.
            unsafe {
                head.put(quotes, pen);
                pen.copy(arena, off, len);
                pen.put_if(b'"', quotes);
            }
        }
        if let Some(tail) = self.tail
            && let Val::Json(object) = row.get(tail)
        {
            pen.with(|out| self.tail(row, object, out));
        }
        pen.room(2);
        // SAFETY: there is room for two bytes.
        unsafe {
            // The brace takes the place of the first comma.
            match pen.len() == begun {
                true => pen.put(b"{"),
                false => pen.replace(begun, b'{'),
            }
            pen.put(b"}");
        }
    }

    /// The tail's members that nothing covers, each after a comma; of equal keys the last one.
    fn tail(&mut self, row: &Record<'_>, object: &str, out: &mut Vec<u8>) {
        let all = || members(object).filter(|m| m.raw_key.is_some());
        self.seen.clear();
        let mut bloom = [0u64; 8];
        let mut repeated = false;
        let base = object.as_ptr() as usize;
        for m in all() {
            let key = m.raw_key.unwrap_or("");
            let h = hash(key.as_bytes());
            let (word, bit) = ((h >> 6) as usize & 7, 1u64 << (h & 63));
            repeated |= bloom[word] & bit != 0 || key.contains('\\');
            bloom[word] |= bit;
            self.seen.push((key.as_ptr() as usize - base, m.raw.as_ptr() as usize - base));
        }
        for (i, m) in all().enumerate() {
            let covered =
                |(name, hidden): &(Box<str>, Option<Slot>)| m.key_is(name) && hidden.is_none_or(|slot| row.raw(slot) == Value::Missing);
            if self.covers.iter().any(covered) || (repeated && later(&m, object, &self.seen[i + 1..])) {
                continue;
            }
            let key = m.raw_key.unwrap_or("");
            out.push(b',');
            if key.contains('\\') {
                quote(m.key(&mut String::new()).as_bytes(), out);
            } else {
                out.push(b'"');
                out.extend_from_slice(key.as_bytes());
                out.push(b'"');
            }
            out.push(b':');
            canonical(m.raw, out);
        }
    }
}

/// Whether a later member has the key of `m`; `rest` holds where their keys and values begin.
fn later(m: &Member<'_>, object: &str, rest: &[(usize, usize)]) -> bool {
    let mut scratch = String::new();
    let key = m.key(&mut scratch);
    rest.iter().any(|&(k, v)| {
        let between = object.get(k..v).unwrap_or("");
        let raw_key = between.rfind('"').map(|e| &between[..e]);
        Member { raw_key, raw: "" }.key_is(key)
    })
}

/// A cheap hash of a key, good enough to say "surely new" of most keys.
fn hash(key: &[u8]) -> u64 {
    let n = key.len();
    let at = |i: usize| key.get(i).copied().unwrap_or(0) as u64;
    let word = at(0) | at(n / 2) << 8 | at(n.wrapping_sub(1)) << 16 | at(n.wrapping_sub(2)) << 24 | (n as u64) << 32 | at(1) << 40;
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55
}

/// Appends the row's visible fields as a JSON object in schema order, without spaces; then, for an open schema, the members of
/// the tail that no visible field names, nor a hidden one that is Missing (it was dropped). Missing fields are left out, Null is `null`, floats in shortest form, timestamps as
/// ISO 8601 UTC strings with as many decimals (0, 3 or 6) as they need, bytes as text if UTF-8 else base64.
///
/// Whoever writes many rows keeps a [`JsonWriter`].
pub fn write_row(row: &Record<'_>, schema: &Schema, out: &mut Vec<u8>) {
    JsonWriter::new(schema).row(row, out);
}

/// Appends one value as JSON; Missing as `null`.
pub fn write_value(row: &Record<'_>, value: Value, out: &mut Vec<u8>) {
    write_in(row.arena(), &value, out);
}

/// Appends a borrowed value as JSON; Missing as `null`.
pub fn write_val(value: Val<'_>, out: &mut Vec<u8>) {
    match value {
        Val::Missing | Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Val::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        Val::Float(f) => write_float(f, out),
        Val::Time(t) => write_quoted_time(t, out),
        Val::Num(s) => out.extend_from_slice(s.as_bytes()),
        Val::Str(s) => quote(s.as_bytes(), out),
        Val::Bytes(b) => write_bytes(b, out),
        Val::Json(j) => canonical(j, out),
        Val::Split(s, pair, key) => write_split(s.as_bytes(), 0, s.len(), (pair, key), out),
    }
}

/// Appends a field that is neither a clean string nor a number as written.
#[inline(never)]
fn field(head: &Head, arena: &[u8], value: &Value, split: &impl Fn(&[u8], usize, usize, (u8, u8), &mut Vec<u8>), out: &mut Vec<u8>) {
    let mut pen = Pen::new(out);
    pen.room(head.len + 2 * STEP);
    // SAFETY: there is room for the head and two steps behind it.
    unsafe {
        head.put(0, &mut pen);
        if let Value::Int(i) = value {
            return put_int(*i, &mut pen);
        }
    }
    drop(pen);
    match *value {
        Value::Split(s, pair, key) => split(arena, s.off as usize, s.len as usize, (pair, key), out),
        _ => write_in(arena, value, out),
    }
}

/// Appends an integer.
///
/// # Safety
/// There is room for two steps.
#[inline(always)]
unsafe fn put_int(i: i64, pen: &mut Pen<'_>) {
    const EIGHT: u64 = 100_000_000;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let n = i.unsigned_abs();
    // SAFETY: a sign and 16 digits, or 20 characters, are less than a step.
    unsafe {
        pen.put_if(b'-', usize::from(i < 0));
        let first = match n {
            0..EIGHT => n,
            EIGHT..10_000_000_000_000_000 => n / EIGHT,
            _ => {
                let mut text = [0; STEP];
                let mut room = itoa::Buffer::new();
                let digits = room.format(n).as_bytes();
                text[..digits.len()].copy_from_slice(digits);
                return pen.put_some(&text, digits.len());
            }
        };
        let digits = eight_digits(first);
        // The lowest byte is the first digit. Of zeros in front the last one stays where there is nothing else.
        let zeros = (digits.trailing_zeros() / 8).min(7);
        pen.put_word((digits | ZEROS) >> (8 * zeros), 8 - zeros as usize);
        if n >= EIGHT {
            pen.put_word(eight_digits(n % EIGHT) | ZEROS, 8);
        }
    }
}

/// The eight digits of a number below 100,000,000, a byte each, the first one lowest: fours, pairs, then digits of all parts at once.
#[inline(always)]
fn eight_digits(n: u64) -> u64 {
    let fours = (n / 10_000) | (n % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (pairs - 10 * tens) << 8
}

// Not inlined: what is commoner needs the registers.
#[inline(never)]
fn write_in(arena: &[u8], value: &Value, out: &mut Vec<u8>) {
    let text = |s: Span| &arena[s.off as usize..][..s.len as usize];
    match *value {
        Value::Split(s, pair, key) => write_split(arena, s.off as usize, s.len as usize, (pair, key), out),
        Value::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        Value::Num(s) => out.extend_from_slice(text(s)),
        Value::Str(s) | Value::Text(s) => quote(text(s), out),
        Value::Json(s) => canonical(utf8(text(s)), out),
        Value::Float(f) => write_float(f, out),
        Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::Missing | Value::Null => out.extend_from_slice(b"null"),
        Value::Time(t) => write_quoted_time(t, out),
        Value::Bytes(s) => write_bytes(text(s), out),
    }
}

/// Text of a textual span; what is not UTF-8 against the contract reads as "null".
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("null")
}

/// Appends the text map `arena[off..off + len]` as an object: what lies between two separators is copied, then the quotes, the
/// colon or comma that stand for the separator.
// Not inlined: its loop needs the registers.
#[inline(never)]
fn write_split(arena: &[u8], off: usize, len: usize, by: (u8, u8), out: &mut Vec<u8>) {
    write_split_by(arena, off, len, by, out);
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn write_split_wide(arena: &[u8], off: usize, len: usize, by: (u8, u8), out: &mut Vec<u8>) {
    write_split_by(arena, off, len, by, out);
}

#[inline(always)]
fn write_split_by(arena: &[u8], off: usize, len: usize, (pair, key): (u8, u8), out: &mut Vec<u8>) {
    let begun = out.len();
    let text = &arena[off..];
    // A step can be read from every place of the text if there is one behind it.
    let short = if text.len() >= len + STEP { STEP } else { 0 };
    let mut pen = Pen::new(out);
    let (mut from, mut in_value) = (0, false);
    // Every member begins with a comma, the first of which becomes the brace.
    pen.room(STEP);
    // SAFETY: there is room for a step here, and in the loop for what is not yet copied, for 6 bytes at each of 64 places and for a
    // step. `from` is at most `len`, so that a step is there where pieces are short.
    unsafe {
        pen.put(b",\"");
        for (block, first, mut all) in blocks(arena, off, len, pair, key) {
            pen.room(block + 64 - from + 6 * 64 + STEP);
            while all != 0 {
                let bit = all.trailing_zeros();
                all &= all - 1;
                let (at, ends) = (block + bit as usize, first >> bit & 1 != 0);
                if ends != in_value {
                    // A separator within a value belongs to it, an empty piece is none, and a piece without value is all key.
                    if ends {
                        if at > from {
                            pen.copy(text, from, at - from);
                            pen.put(b"\":\"\",\"");
                        }
                        from = at + 1;
                    }
                    continue;
                }
                match at - from {
                    n if n <= short => pen.step(text.as_ptr().add(from), n),
                    n => pen.copy(text, from, n),
                }
                pen.put_three(if ends { *b"\",\"\0" } else { *b"\":\"\0" });
                (from, in_value) = (at + 1, !in_value);
            }
        }
        // The bracket takes the place of a comma and a quote of a member that does not come.
        pen.back(2);
        pen.room(2);
        match pen.len() == begun {
            true => pen.put(b"{"),
            false => pen.replace(begun, b'{'),
        }
        pen.put(b"}");
    }
}

fn write_float(f: f64, out: &mut Vec<u8>) {
    if f.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(f).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn write_quoted_time(t: i64, out: &mut Vec<u8>) {
    out.push(b'"');
    write_time(t, out);
    out.push(b'"');
}

/// Appends microseconds since 1970 UTC as ISO 8601: `2024-05-01T12:00:00Z`, with 3 or 6 decimals where needed; years before 0
/// or after 9999 have a sign and six digits.
pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    use std::io::Write;
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    // Civil date of a day number: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    // Writing to a Vec cannot fail.
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        _ => write!(out, "{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    let _ = write!(out, "-{month:02}-{day:02}T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = match (fraction, fraction % 1000) {
        (0, _) => Ok(()),
        (_, 0) => write!(out, ".{:03}", fraction / 1000),
        _ => write!(out, ".{fraction:06}"),
    };
    out.push(b'Z');
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        return quote(bytes, out);
    }
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            out.push(if i <= three.len() { DIGITS[(word >> (18 - 6 * i)) as usize & 63] } else { b'=' });
        }
    }
    out.push(b'"');
}

/// Whether the JSON text has neither a blank nor an escape, and so is canonical already. Eight bytes a step.
fn compact(s: &[u8]) -> bool {
    const L: u64 = 0x0101_0101_0101_0101;
    const H: u64 = 0x8080_8080_8080_8080;
    let bad = |x: u64| {
        let y = x ^ (u64::from(b'\\') * L);
        (x.wrapping_sub(0x21 * L) & !x & H) | (y.wrapping_sub(L) & !y & H)
    };
    let mut words = s.chunks_exact(8);
    let m = (&mut words).fold(0, |m, w| m | bad(u64::from_le_bytes(w.try_into().expect("8 bytes"))));
    m == 0 && !words.remainder().iter().any(|c| *c <= b' ' || *c == b'\\')
}

/// Appends valid JSON text without its blanks, and its strings with only the escapes that they need.
pub fn canonical(json: &str, out: &mut Vec<u8>) {
    let t = json.as_bytes();
    if compact(t) {
        return out.extend_from_slice(t);
    }
    let mut scratch = String::new();
    let mut p = 0;
    while let Some(&c) = t.get(p) {
        match c {
            b' ' | b'\t' | b'\n' | b'\r' => p += 1,
            b'"' => {
                let mut e = p + 1;
                while t.get(e).is_some_and(|c| *c != b'"') {
                    e += 1 + usize::from(t[e] == b'\\');
                }
                let raw = json.get(p + 1..e).unwrap_or("");
                if raw.contains('\\') {
                    scratch.clear();
                    match unescape(raw, &mut scratch) {
                        Ok(()) => quote(scratch.as_bytes(), out),
                        // Not valid after all: kept as it is.
                        Err(_) => out.extend_from_slice(&t[p..(e + 1).min(t.len())]),
                    }
                } else {
                    out.extend_from_slice(&t[p..(e + 1).min(t.len())]);
                }
                p = e + 1;
            }
            _ => {
                out.push(c);
                p += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::record::Meta;
    use crate::schema::{Field, SchemaRef, Type};
    use proptest::prelude::*;

    fn one(schema: &SchemaRef, values: &[Val<'_>]) -> Batch {
        let mut b = BatchBuilder::new(schema.clone());
        for v in values {
            b.push_val(*v);
        }
        b.end_row(Meta::default());
        b.finish()
    }

    fn text(batch: &Batch) -> String {
        let mut out = vec![];
        write_row(&batch.row(0), batch.schema(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_every_kind_of_value() {
        let cases: &[(Val<'_>, &str)] = &[
            (Val::Missing, "{}"),
            (Val::Null, r#"{"a":null}"#),
            (Val::Bool(true), r#"{"a":true}"#),
            (Val::Int(-7), r#"{"a":-7}"#),
            (Val::Float(1.0), r#"{"a":1.0}"#),
            (Val::Float(0.1), r#"{"a":0.1}"#),
            (Val::Float(f64::NAN), r#"{"a":null}"#),
            (Val::Num("1.10"), r#"{"a":1.10}"#),
            (Val::Str("é/x"), r#"{"a":"é/x"}"#),
            (Val::Str("a\"b\\c\n\u{1}"), r#"{"a":"a\"b\\c\n\u0001"}"#),
            (Val::Bytes(b"ok"), r#"{"a":"ok"}"#),
            (Val::Bytes(b"\xff"), r#"{"a":"/w=="}"#),
            (Val::Bytes(b"\xff\xfe"), r#"{"a":"//4="}"#),
            (Val::Bytes(b"\xff\xfe\xfd"), r#"{"a":"//79"}"#),
            (Val::Json(r#"{"x":[1,2]}"#), r#"{"a":{"x":[1,2]}}"#),
            (Val::Json("{ \"x y\" : [ 1 ,\t2 ],\n\"z\":\"\\u00e9\\/\\\"\" }"), r#"{"a":{"x y":[1,2],"z":"é/\""}}"#),
            (Val::Split("a=1||b|=c|d=e=f", b'|', b'='), r#"{"a":{"a":"1","b":"","":"c","d":"e=f"}}"#),
            (Val::Split("", b'|', b'='), r#"{"a":{}}"#),
            (Val::Time(0), r#"{"a":"1970-01-01T00:00:00Z"}"#),
            (Val::Time(951_782_400_000_000), r#"{"a":"2000-02-29T00:00:00Z"}"#),
            (Val::Time(1_700_000_000_120_000), r#"{"a":"2023-11-14T22:13:20.120Z"}"#),
            (Val::Time(-1), r#"{"a":"1969-12-31T23:59:59.999999Z"}"#),
            (Val::Time(253_402_300_800_000_000), r#"{"a":"+010000-01-01T00:00:00Z"}"#),
        ];
        let schema = Schema::new(vec![Field::new("a", Type::Any)]);
        for (v, want) in cases {
            assert_eq!(text(&one(&schema, &[*v])), *want);
            let mut out = vec![];
            write_val(*v, &mut out);
            let alone = want.strip_prefix("{\"a\":").and_then(|w| w.strip_suffix('}')).unwrap_or("null");
            assert_eq!(String::from_utf8(out).unwrap(), alone);
        }
    }

    #[test]
    fn integers_at_the_edges() {
        let schema = Schema::new(vec![Field::new("a", Type::Bigint)]);
        let powers = (0..19).flat_map(|p| [10i64.pow(p) - 1, 10i64.pow(p), -10i64.pow(p)]);
        for i in powers.chain([i64::MIN, i64::MAX]) {
            assert_eq!(text(&one(&schema, &[Val::Int(i)])), format!(r#"{{"a":{i}}}"#));
        }
    }

    #[test]
    fn an_open_row_writes_visible_fields_then_the_rest() {
        let schema = Schema::open(vec![
            Field::new("b", Type::Any),
            Field::hidden("c", Type::Any),
            Field::new("gone", Type::Any),
            Field::hidden("e", Type::Any),
        ]);
        let tail = r#"{ "a":1, "b":2, "c":{"x": 3}, "gone":4, "dup":5, "d\"q":6, "\u0064up":7, "e":"x y" }"#;
        let b = one(&schema, &[Val::Str("B"), Val::Int(9), Val::Missing, Val::Missing, Val::Json(tail)]);
        assert_eq!(text(&b), r#"{"b":"B","a":1,"c":{"x":3},"d\"q":6,"dup":7}"#);
        assert_eq!(text(&one(&Schema::open(vec![]), &[Val::Json("{}")])), "{}");
    }

    #[test]
    fn many_repeated_keys() {
        let tail = format!("{{{}}}", (0..300).map(|i| format!("\"k{}\":{i}", i % 100)).collect::<Vec<_>>().join(","));
        let got = text(&one(&Schema::open(vec![]), &[Val::Json(&tail)]));
        let want = format!("{{{}}}", (200..300).map(|i| format!("\"k{}\":{i}", i - 200)).collect::<Vec<_>>().join(","));
        assert_eq!(got, want);
    }

    proptest! {
        #[test]
        fn text_maps_are_their_pairs(t in "[ab|=é]{0,200}", behind in "[x]{0,99}") {
            let arena = format!("{t}{behind}");
            let mut out = vec![];
            write_split(arena.as_bytes(), 0, t.len(), (b'|', b'='), &mut out);
            let schema = Schema::new(vec![Field::new("a", Type::Any)]);
            let mut line = vec![];
            JsonWriter::new(&schema).lines(&one(&schema, &[Val::Split(&t, b'|', b'=')]), &mut line);
            prop_assert_eq!(line, [b"{\"a\":", &out[..], b"}\n"].concat());
            let pairs: Vec<String> = crate::json::Pairs::new(&t, b'|', b'=').map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{{{}}}", pairs.join(",")));
        }

        #[test]
        fn integers_are_those_of_the_standard_library(i in any::<i64>(), shift in 0..64u32) {
            let schema = Schema::new(vec![Field::new("a", Type::Bigint)]);
            let i = i >> shift;
            prop_assert_eq!(text(&one(&schema, &[Val::Int(i)])), format!(r#"{{"a":{i}}}"#));
        }

        #[test]
        fn strings_come_back(a in any::<String>(), b in "[ -~]{0,300}", c in any::<f64>().prop_filter("finite", |f| f.is_finite()), d in any::<i64>()) {
            let schema = Schema::new(vec![Field::new(a.as_str(), Type::Any), Field::new("\0b", Type::Any), Field::new("\0c", Type::Any), Field::new("\0d", Type::Any)]);
            let batch = one(&schema, &[Val::Str(&a), Val::Str(&b), Val::Float(c), Val::Int(d)]);
            let back: serde_json::Value = serde_json::from_str(&text(&batch)).unwrap();
            prop_assert_eq!(back[a.as_str()].as_str(), Some(a.as_str()));
            prop_assert_eq!(back["\0b"].as_str(), Some(b.as_str()));
            prop_assert_eq!(back["\0c"].as_f64(), Some(c));
            prop_assert_eq!(back["\0d"].as_i64(), Some(d));
        }

        #[test]
        fn canonical_keeps_the_meaning(blanks in proptest::collection::vec(" |\t|\n|", 12), s in any::<String>()) {
            let q = serde_json::to_string(&s).unwrap();
            let b = &blanks;
            let t = format!("{}{{{}{q}{}:{}[{}1.50{},{}{q}{}]{}}}{}{}", b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10]);
            let mut out = vec![];
            canonical(&t, &mut out);
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), serde_json::from_str::<serde_json::Value>(&t).unwrap());
            let mut want = vec![b'{'];
            quote(s.as_bytes(), &mut want);
            want.extend_from_slice(b":[1.50,");
            quote(s.as_bytes(), &mut want);
            want.extend_from_slice(b"]}");
            prop_assert_eq!(out.as_bytes(), &want[..]);
        }
    }
}
