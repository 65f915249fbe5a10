//! Values as cells of HBase: text, or the bytes of its Java class `Bytes`.

use crate::format::cell;
use crate::lookup::Answers;
use millrace_sdk::{Fault, Record, Slot, Type, Val};
use schemars::JsonSchema;
use serde::Deserialize;

/// What the bytes of a cell are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Text in UTF-8: numbers in decimal, timestamps in ISO 8601, containers as JSON.
    #[default]
    Text,
    /// As Java's `Bytes.toBytes`: bigint 8 bytes, double 8 bytes, boolean one byte, timestamp a long of milliseconds, all big endian;
    /// everything else is text.
    Binary,
}

/// `family:qualifier` of a name, which may bring a family of its own.
pub fn column(family: &str, name: &str) -> String {
    if name.contains(':') { name.into() } else { format!("{family}:{name}") }
}

/// The family of a column.
pub fn family(column: &str) -> &str {
    column.split(':').next().unwrap_or_default()
}

impl Encoding {
    /// Appends a field's value, which is neither null nor missing.
    pub fn write(self, row: &Record<'_>, slot: Slot, ty: Type, out: &mut Vec<u8>) {
        let value = row.get(slot);
        if self == Encoding::Binary {
            match (ty, value) {
                (Type::Bigint, v) if v.as_int().is_some() => return out.extend_from_slice(&v.as_int().unwrap_or_default().to_be_bytes()),
                (Type::Double, v) if v.as_float().is_some() => {
                    return out.extend_from_slice(&v.as_float().unwrap_or_default().to_be_bytes());
                }
                (_, Val::Int(i)) => return out.extend_from_slice(&i.to_be_bytes()),
                (_, Val::Float(f)) => return out.extend_from_slice(&f.to_be_bytes()),
                (_, Val::Bool(b)) => return out.push(if b { 0xff } else { 0 }),
                (_, Val::Time(t)) => return out.extend_from_slice(&t.div_euclid(1000).to_be_bytes()),
                _ => {}
            }
        }
        match value {
            Val::Bytes(b) => out.extend_from_slice(b),
            _ => cell(row, slot, out),
        }
    }

    /// Pushes a cell as the next field, of type `ty`.
    pub fn read(self, bytes: &[u8], ty: Type, answers: &mut Answers) -> Result<(), Fault> {
        if self == Encoding::Text {
            return answers.push(Val::Bytes(bytes));
        }
        answers.push(match (ty, bytes) {
            (Type::Bigint, &[a, b, c, d, e, f, g, h]) => Val::Int(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (Type::Bigint, &[a, b, c, d]) => Val::Int(i32::from_be_bytes([a, b, c, d]) as i64),
            (Type::Bigint, &[a, b]) => Val::Int(i16::from_be_bytes([a, b]) as i64),
            (Type::Double, &[a, b, c, d, e, f, g, h]) => Val::Float(f64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (Type::Double, &[a, b, c, d]) => Val::Float(f32::from_be_bytes([a, b, c, d]) as f64),
            (Type::Boolean, &[b]) => Val::Bool(b != 0),
            (Type::Timestamp, &[a, b, c, d, e, f, g, h]) => {
                let millis = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
                Val::Time(millis.checked_mul(1000).ok_or_else(|| Fault::data(format!("the time {millis} of a cell is out of range")))?)
            }
            (_, bytes) => Val::Bytes(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::codec::RowBuf;
    use millrace_sdk::{BatchBuilder, Field, Meta, Schema};

    #[test]
    fn there_and_back() {
        let types = [
            ("i", Type::Bigint),
            ("f", Type::Double),
            ("b", Type::Boolean),
            ("t", Type::Timestamp),
            ("s", Type::String),
            ("d", Type::Decimal(9, 2)),
            ("x", Type::Bytes),
        ];
        let fields: Vec<Field> = types.iter().map(|(n, t)| Field::new(*n, *t)).collect();
        let mut rows = BatchBuilder::new(Schema::new(fields.clone()));
        for v in [Val::Int(-2), Val::Float(1.5), Val::Bool(true), Val::Time(1_709_164_800_123_000), Val::Str("ü\"")] {
            rows.push_val(v);
        }
        rows.push_num("1.50");
        rows.push_bytes(b"\xff\0");
        rows.end_row(Meta::default());
        let batch = rows.finish();
        let row = batch.row(0);
        for (encoding, want) in [
            (Encoding::Text, [&b"-2"[..], b"1.5", b"true", b"2024-02-29T00:00:00.123Z", "ü\"".as_bytes(), b"1.50", b"\xff\0"]),
            (
                Encoding::Binary,
                [
                    &b"\xff\xff\xff\xff\xff\xff\xff\xfe"[..],
                    b"\x3f\xf8\0\0\0\0\0\0",
                    b"\xff",
                    &1_709_164_800_123i64.to_be_bytes(),
                    "ü\"".as_bytes(),
                    b"1.50",
                    b"\xff\0",
                ],
            ),
        ] {
            let mut answers = Answers::new(&fields);
            for (i, want) in want.iter().enumerate() {
                let mut cell = vec![];
                encoding.write(&row, Slot(i as u16), fields[i].ty, &mut cell);
                assert_eq!(cell, *want, "{encoding:?} {}", fields[i].name);
                encoding.read(&cell, fields[i].ty, &mut answers).unwrap();
            }
            let bytes = answers.row();
            let mut buf = RowBuf::new();
            let back = buf.decode(fields.len(), &bytes).unwrap();
            for i in 0..fields.len() {
                assert_eq!(back.get(Slot(i as u16)), row.get(Slot(i as u16)), "{encoding:?} {}", fields[i].name);
            }
        }
        let mut answers = Answers::new(&fields);
        let fault = Encoding::Text.read(b"abc", Type::Bigint, &mut answers).unwrap_err();
        assert_eq!((fault.message.as_str(), fault.retry), ("stored field `i` is no bigint", false));
    }
}
