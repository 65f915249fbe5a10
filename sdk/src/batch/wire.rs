//! Batches between processes: rows one after the other, each with the original bytes that it still has.
//!
//! Layout of a row: meta (as the row codec), length of the original bytes (u32; `u32::MAX`: there are none), these bytes, then each value:
//! tag and payload as the row codec, or, for a text that lies in the original bytes, the tag with bit 6 set, offset there and length (u32
//! each, little endian), and the separators of a split text. So what was parsed from a line travels once.

use super::{Batch, span_of, text_id};
use crate::codec::{CUT, META, RowError, encode_meta, read_meta, read_u32, read_value, textual};
use crate::pool::Pooled;
use crate::record::Meta;
use crate::schema::SchemaRef;
use crate::value::{Span, Value};
use std::sync::Arc;

/// The text lies in the row's original bytes.
const INSIDE: u8 = 64;

fn tag(v: &Value) -> u8 {
    match v {
        Value::Num(_) => 6,
        Value::Str(_) => 7,
        Value::Text(_) => 8,
        Value::Json(_) => 9,
        Value::Split(..) => 10,
        _ => 11,
    }
}

impl Batch {
    /// Appends all rows to `out`, to be read by [`read_rows`](Self::read_rows).
    pub fn write_rows(&self, out: &mut Vec<u8>) {
        for row in self.rows() {
            let raw = row.meta().raw;
            encode_meta(row.meta(), out);
            out.extend_from_slice(&(if raw == Meta::NO_RAW { u32::MAX } else { raw.len }).to_le_bytes());
            out.extend_from_slice(row.original().unwrap_or_default());
            for v in row.raw_values() {
                match span_of(v).filter(|s| raw != Meta::NO_RAW && s.off >= raw.off && s.off - raw.off + s.len <= raw.len) {
                    None => row.encode_value(*v, out),
                    Some(s) => {
                        out.push(tag(v) | INSIDE);
                        out.extend_from_slice(&(s.off - raw.off).to_le_bytes());
                        out.extend_from_slice(&s.len.to_le_bytes());
                        if let Value::Split(_, pair, key) = v {
                            out.extend_from_slice(&[*pair, *key]);
                        }
                    }
                }
            }
        }
    }

    /// Reads what [`write_rows`](Self::write_rows) wrote for a schema of this width: exactly `rows` rows.
    ///
    /// # Errors
    /// Bytes that it did not write. Every length and all UTF-8 is checked.
    pub fn read_rows(schema: SchemaRef, rows: usize, bytes: &[u8]) -> Result<Batch, RowError> {
        let width = schema.width();
        if bytes.len() >= u32::MAX as usize {
            return Err(RowError("it is longer than 4 GiB"));
        }
        if rows.checked_mul(META + 4 + width).is_none_or(|least| least > bytes.len()) {
            return Err(CUT);
        }
        let mut vals = Pooled::<Value>::with_capacity(rows * width);
        let mut metas = Pooled::<Meta>::with_capacity(rows);
        let mut p = 0;
        for _ in 0..rows {
            let mut meta = read_meta(bytes, &mut p)?;
            let raw = match read_u32(bytes, &mut p)? {
                u32::MAX => None,
                len => Some(Span { off: p as u32, len }),
            };
            let original = match raw {
                Some(s) => bytes.get(p..p + s.len as usize).ok_or(CUT)?,
                None => &[],
            };
            p += original.len();
            meta.raw = raw.unwrap_or(Meta::NO_RAW);
            let whole = simdutf8::basic::from_utf8(original).ok();
            for _ in 0..width {
                let tag = *bytes.get(p).ok_or(CUT)?;
                p += 1;
                if tag & INSIDE == 0 {
                    vals.push(read_value(tag, bytes, &mut p)?);
                    continue;
                }
                let (kind, off, len) = (tag & !INSIDE, read_u32(bytes, &mut p)? as usize, read_u32(bytes, &mut p)? as usize);
                let text = original.get(off..).and_then(|t| t.get(..len)).ok_or(CUT)?;
                let right = kind == 11
                    || match whole {
                        Some(t) => t.is_char_boundary(off) && t.is_char_boundary(off + len),
                        None => simdutf8::basic::from_utf8(text).is_ok(),
                    };
                if !right {
                    return Err(RowError("a text is not UTF-8"));
                }
                let span = Span { off: meta.raw.off + off as u32, len: len as u32 };
                vals.push(textual(kind, span, bytes, &mut p)?);
            }
            metas.push(meta);
        }
        if p != bytes.len() {
            return Err(RowError("it is too long"));
        }
        let mut text = Pooled::<u8>::with_capacity(bytes.len());
        text.extend_from_slice(bytes);
        Ok(Batch { text: Arc::new(text), id: text_id(), vals: vals.fitted(), meta: metas.fitted(), schema, padded: false })
    }
}

#[cfg(test)]
mod tests {
    use super::super::BatchBuilder;
    use super::*;
    use crate::value::Val;
    use crate::{Field, Schema, Slot, Type};
    use proptest::prelude::*;

    fn schema(width: usize) -> SchemaRef {
        Schema::new((0..width).map(|i| Field::new(format!("f{i}"), Type::Any)).collect())
    }

    /// Rows with values inside and outside their original bytes, and rows without any.
    fn sample(lines: &[(String, usize, usize, i64)]) -> Batch {
        let mut b = BatchBuilder::new(schema(1));
        for (i, (line, ..)) in lines.iter().enumerate() {
            let raw = b.push_line(line.as_bytes());
            let raw = if i % 3 == 2 { Meta::NO_RAW } else { raw };
            b.end_source_row(Meta { raw, time: i as i64, offset: 7, partition: i as u32 % 5, source: 3, flags: i as u16 % 2 });
        }
        let below = b.finish();
        let mut b = BatchBuilder::over(&below, schema(9));
        for (row, (line, from, to, n)) in below.rows().zip(lines) {
            let Val::Bytes(bytes) = row.get(Slot(0)) else { panic!("a line") };
            let text = std::str::from_utf8(bytes).unwrap();
            let cut = |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            let (from, to) = (cut(*from.min(to)), cut(*from.max(to)));
            b.keep(&row, Slot(0));
            b.keep_str(&row, &text[from..to], false);
            b.keep_val(&row, Val::Split(&text[from..to], b'|', b'='));
            b.push_str(line);
            b.push_int(*n);
            b.push_float(*n as f64);
            b.push_missing();
            b.push_val(Val::Json("{}"));
            b.push_time(*n);
            b.end_row(*row.meta());
        }
        below.replaced_by(b)
    }

    fn shown(b: &Batch) -> Vec<String> {
        let row = |r: crate::Record<'_>| {
            let m = r.meta();
            let vals: Vec<String> = (0..r.width()).map(|i| format!("{:?}", r.get(Slot(i as u16)))).collect();
            format!("{vals:?} {:?} {:?}", r.original(), (m.time, m.offset, m.partition, m.source, m.flags))
        };
        b.rows().map(row).collect()
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(lines in prop::collection::vec((".{0,300}", 0usize..400, 0usize..400, any::<i64>()), 0..20)) {
            let batch = sample(&lines);
            let mut bytes = vec![];
            batch.write_rows(&mut bytes);
            let back = Batch::read_rows(batch.schema().clone(), batch.len(), &bytes).unwrap();
            prop_assert_eq!(shown(&back), shown(&batch));
            // Also what was picked out of a batch.
            let odd: Vec<u32> = (0..batch.len() as u32).filter(|i| i % 2 == 1).collect();
            let some = batch.select(&odd).compact();
            let mut bytes = vec![];
            some.write_rows(&mut bytes);
            prop_assert_eq!(shown(&Batch::read_rows(some.schema().clone(), some.len(), &bytes).unwrap()), shown(&some));
        }

        #[test]
        fn damaged_bytes_make_an_error_or_rows_that_can_be_read(at in 0usize..2000, to in any::<u8>(), cut in 0usize..2000, rows in 0usize..9) {
            let lines: Vec<_> = (0..6).map(|i| (format!("a=é{i}|中=b 🦀"), i, 3 * i, i as i64)).collect();
            let batch = sample(&lines);
            let mut bytes = vec![];
            batch.write_rows(&mut bytes);
            prop_assert!(Batch::read_rows(batch.schema().clone(), batch.len(), &bytes[..cut % bytes.len()]).is_err());
            prop_assert_eq!(Batch::read_rows(batch.schema().clone(), rows, &bytes).is_ok(), rows == batch.len());
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(b) = Batch::read_rows(batch.schema().clone(), batch.len(), &bytes) {
                shown(&b);
            }
        }
    }
}
