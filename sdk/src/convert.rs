//! From one type to another: what declared fields, target types and time fields mean.

use crate::batch::BatchBuilder;
use crate::decimal::Decimal;
use crate::json::{self, Number};
use crate::schema::Type;
use crate::value::Val;
use std::fmt;

mod pattern;
mod text;
mod time;

pub use pattern::strftime;
pub use text::{bigint, boolean, double, json as json_value, split_to_json, write_float, write_time};
pub use time::{MAX_TIME, MIN_TIME, TimeFormat, TimeReader, iso8601};

/// The names of the time zones that are known here.
pub fn time_zones() -> impl Iterator<Item = String> {
    jiff::tz::db().available().map(|name| name.as_str().to_string())
}

/// A value that is not of the type it must have: "`abc` is no bigint".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError(pub String);

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for ConvertError {}

/// The error of a value that does not convert; long values are shown in part.
#[cold]
pub fn refuse(value: Val<'_>, ty: impl fmt::Display) -> ConvertError {
    let shown = match value {
        Val::Str(t) | Val::Num(t) => {
            let end = t.char_indices().nth(60).map_or(t.len(), |(i, _)| i);
            format!("`{}{}`", t[..end].escape_debug(), if end < t.len() { " …" } else { "" })
        }
        Val::Int(i) => format!("`{i}`"),
        Val::Float(f) => format!("`{f}`"),
        Val::Bool(b) => format!("`{b}`"),
        v => v.kind().into(),
    };
    ConvertError(format!("{shown} is no {ty}"))
}

/// Pushes `value` as a value of type `ty`. Missing stays Missing and Null stays Null. Strings are parsed (bigint, double,
/// decimal rounded half up to its scale, boolean `true|false|1|0`, timestamp ISO 8601, json/map/array as JSON text), numbers and
/// booleans are rendered for `string`; `any` takes everything as it is. Spaces around a string that is parsed do not count.
///
/// # Errors
/// What does not fit: not a number, out of range, a fraction where an integer is wanted, a map where a scalar is wanted.
#[inline]
pub fn push(value: Val<'_>, ty: Type, out: &mut BatchBuilder) -> Result<(), ConvertError> {
    match (ty, value) {
        (_, Val::Missing) => out.push_missing(),
        (_, Val::Null) => out.push_null(),
        (Type::Any, v) => out.push_val(v),
        (Type::String, Val::Str(t)) => out.push_str(t),
        (Type::Bigint, Val::Int(i)) => out.push_int(i),
        (Type::Bigint, Val::Float(f)) if f as i64 as f64 == f && f.abs() < 9e15 => out.push_int(f as i64),
        (Type::Bigint, Val::Str(t)) => out.push_int(bigint(t).ok_or_else(|| refuse(value, ty))?),
        (Type::Double, Val::Float(f)) => out.push_float(f),
        (Type::Double, Val::Str(t)) => out.push_float(double(t).ok_or_else(|| refuse(value, ty))?),
        _ => return push_other(value, ty, out),
    }
    Ok(())
}

fn push_other(value: Val<'_>, ty: Type, out: &mut BatchBuilder) -> Result<(), ConvertError> {
    let no = || refuse(value, ty);
    match ty {
        Type::Any => out.push_val(value),
        Type::String => {
            let begun = out.begin_text();
            match value {
                Val::Bytes(b) => {
                    out.push_str(std::str::from_utf8(b).map_err(|_| ConvertError("bytes that are not UTF-8 are no string".into()))?)
                }
                Val::Split(t, ..) => out.push_str(t),
                Val::Json(t) => out.push_str(t),
                v => {
                    write_scalar(v, out.text_mut());
                    out.end_str(begun, true);
                }
            }
        }
        Type::Bigint => out.push_int(value.as_int().ok_or_else(no)?),
        Type::Double => out.push_float(value.as_float().filter(|f| f.is_finite()).ok_or_else(no)?),
        Type::Decimal(p, s) => {
            let d = decimal(value).ok_or_else(no)?;
            let d = d.fit(p, s).ok_or_else(no)?;
            let begun = out.begin_text();
            d.write(out.text_mut());
            out.end_num(begun);
        }
        Type::Boolean => out.push_bool(match value {
            Val::Bool(b) => b,
            Val::Str(t) => boolean(t).ok_or_else(no)?,
            v => match v.as_int() {
                Some(i @ 0..=1) => i == 1,
                _ => return Err(no()),
            },
        }),
        Type::Timestamp => out.push_time(match value {
            Val::Time(t) => t,
            Val::Str(t) => iso8601(t.trim_ascii(), &jiff::tz::TimeZone::UTC)?,
            _ => return Err(no()),
        }),
        Type::Bytes => match value {
            Val::Bytes(b) => out.push_bytes(b),
            Val::Str(t) => out.push_bytes(t.as_bytes()),
            _ => return Err(no()),
        },
        Type::Array | Type::Map | Type::Json => push_container(value, ty, out)?,
    }
    Ok(())
}

/// Any number, or a string that is one, exactly as written; a double as its shortest text.
pub fn decimal(value: Val<'_>) -> Option<Decimal> {
    match value {
        Val::Int(i) => Some(i.into()),
        Val::Float(f) => Decimal::from_f64(f),
        Val::Num(t) => Decimal::parse(t).or_else(|| long_decimal(t)),
        Val::Str(t) => Decimal::parse(t.trim_ascii()).or_else(|| long_decimal(t.trim_ascii())),
        _ => None,
    }
}

/// A number with more digits after the point than 38 can hold: the digits beyond are dropped before it is rounded to its type.
#[cold]
fn long_decimal(text: &str) -> Option<Decimal> {
    if !json::is_number(text.as_bytes()) || text.bytes().any(|c| c | 32 == b'e') {
        return double(text).and_then(Decimal::from_f64);
    }
    let dot = text.find('.')?;
    let whole = text[..dot].trim_start_matches('-').len();
    let digits = 38usize.checked_sub(whole)?;
    Decimal::parse(text.get(..(dot + 1 + digits).min(text.len()))?)
}

fn push_container(value: Val<'_>, ty: Type, out: &mut BatchBuilder) -> Result<(), ConvertError> {
    let begun = out.begin_text();
    match value {
        Val::Split(..) if ty == Type::Map => out.push_val(value),
        Val::Split(t, pair, key) if ty == Type::Json => {
            split_to_json(t, pair, key, out.text_mut());
            out.end_json(begun);
        }
        Val::Json(t) if ty == Type::Json || t.starts_with('[') == (ty == Type::Array) => out.push_json(t),
        Val::Str(t) => {
            let t = t.trim_ascii();
            let first = t.as_bytes().first();
            let container = match ty {
                Type::Array => first == Some(&b'['),
                Type::Map => first == Some(&b'{'),
                _ => true,
            };
            let mut string = String::new();
            let parsed = if container { text::json(t, &mut string) } else { None };
            match parsed {
                None => return Err(refuse(value, ty)),
                Some(v) => out.push_val(v),
            }
        }
        Val::Bytes(b) => return push_container(Val::Str(std::str::from_utf8(b).map_err(|_| refuse(value, ty))?), ty, out),
        Val::Time(_) if ty == Type::Json => {
            write_scalar(value, out.text_mut());
            out.end_str(begun, true);
        }
        Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Num(_) if ty == Type::Json => out.push_val(value),
        v => return Err(refuse(v, ty)),
    }
    Ok(())
}

/// Appends a scalar as text: integers plain, doubles in shortest form, numbers as written, timestamps ISO 8601 in UTC. Nothing for a
/// value that is not there; texts and containers as they are.
pub fn write_scalar(value: Val<'_>, out: &mut Vec<u8>) {
    match value {
        Val::Missing | Val::Null => {}
        Val::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Val::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        Val::Float(f) => write_float(f, out),
        Val::Time(t) => write_time(t, out),
        Val::Num(t) | Val::Str(t) | Val::Json(t) | Val::Split(t, ..) => out.extend_from_slice(t.as_bytes()),
        Val::Bytes(b) => out.extend_from_slice(b),
    }
}

/// A number in its canonical kind, for those who compute with what JSON wrote.
#[inline]
pub fn number(value: Val<'_>) -> Number {
    match value {
        Val::Int(i) => Number::Int(i),
        Val::Float(f) => Number::Float(f),
        Val::Num(t) => json::number(t.as_bytes()),
        _ => Number::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::record::Meta;
    use crate::schema::{Field, Schema, Slot};

    /// What `value` becomes, as text with the kind before it.
    fn become_(value: Val<'_>, ty: Type) -> String {
        let mut out = BatchBuilder::new(Schema::new(vec![Field::new("x", ty)]));
        if let Err(e) = push(value, ty, &mut out) {
            assert_eq!(out.pending(), 0, "an error pushes nothing");
            return e.0;
        }
        out.end_row(Meta::default());
        let batch = out.finish();
        format!("{:?}", batch.row(0).get(Slot(0)))
    }

    #[test]
    fn conversions() {
        use Type::*;
        use Val::{Bool, Float, Int, Json as J, Num, Split, Str, Time};
        for (value, ty, want) in [
            (Str("12"), Bigint, "Int(12)"),
            (Str(" -7 "), Bigint, "Int(-7)"),
            (Str("+7"), Bigint, "Int(7)"),
            (Str("9223372036854775807"), Bigint, "Int(9223372036854775807)"),
            (Str("-9223372036854775808"), Bigint, "Int(-9223372036854775808)"),
            (Str("9223372036854775808"), Bigint, "`9223372036854775808` is no bigint"),
            (Str("12.5"), Bigint, "`12.5` is no bigint"),
            (Str(""), Bigint, "`` is no bigint"),
            (Str("1x"), Bigint, "`1x` is no bigint"),
            (Num("1e3"), Bigint, "Int(1000)"),
            (Num("12.5"), Bigint, "`12.5` is no bigint"),
            (Float(3.0), Bigint, "Int(3)"),
            (Bool(true), Bigint, "`true` is no bigint"),
            (J("{}"), Bigint, "a map is no bigint"),
            (Str("0.1"), Double, "Float(0.1)"),
            (Str("1e400"), Double, "`1e400` is no double"),
            (Str("NaN"), Double, "`NaN` is no double"),
            (Str("inf"), Double, "`inf` is no double"),
            (Num("1e999"), Double, "`1e999` is no double"),
            (Int(2), Double, "Float(2.0)"),
            (Str("0.105"), Decimal(18, 2), "Num(\"0.11\")"),
            (Str("7"), Decimal(18, 2), "Num(\"7.00\")"),
            (Num("12.345"), Decimal(5, 2), "Num(\"12.35\")"),
            (Num("12345.1"), Decimal(5, 2), "`12345.1` is no decimal(5,2)"),
            (Float(0.1), Decimal(10, 1), "Num(\"0.1\")"),
            (Num("0.3333333333333333333333333333333333333333333333"), Decimal(10, 4), "Num(\"0.3333\")"),
            (Num("1e999"), Decimal(10, 4), "`1e999` is no decimal(10,4)"),
            (Str("true"), Boolean, "Bool(true)"),
            (Str("0"), Boolean, "Bool(false)"),
            (Str("yes"), Boolean, "`yes` is no boolean"),
            (Int(1), Boolean, "Bool(true)"),
            (Int(2), Boolean, "`2` is no boolean"),
            (Int(12), String, "Str(\"12\")"),
            (Float(0.1), String, "Str(\"0.1\")"),
            (Num("1.10"), String, "Str(\"1.10\")"),
            (Bool(false), String, "Str(\"false\")"),
            (Time(1_500_000), String, "Str(\"1970-01-01T00:00:01.500Z\")"),
            (Val::Bytes(b"ab"), String, "Str(\"ab\")"),
            (Val::Bytes(b"\xff"), String, "bytes that are not UTF-8 are no string"),
            (Str("1970-01-01T00:00:01Z"), Timestamp, "Time(1000000)"),
            (Str("1970-01-01T08:00:00.25+08:00"), Timestamp, "Time(250000)"),
            (Str("1970-01-01 00:00:02"), Timestamp, "Time(2000000)"),
            (Str("1970-01-02"), Timestamp, "Time(86400000000)"),
            (Int(5), Timestamp, "`5` is no timestamp"),
            (Str("{\"a\": [1, 2]}"), Json, "Json(\"{\\\"a\\\":[1,2]}\")"),
            (Str(" 12 "), Json, "Num(\"12\")"),
            (Str("\"x\\ny\""), Json, "Str(\"x\\ny\")"),
            (Str("null"), Json, "Null"),
            (Str("{"), Json, "`{` is no json"),
            (Str("[1]"), Map, "`[1]` is no map"),
            (Str("[1]"), Array, "Json(\"[1]\")"),
            (J("[1]"), Map, "an array is no map"),
            (Split("a=1|b|=|a=2", b'|', b'='), Map, "Split(\"a=1|b|=|a=2\", 124, 61)"),
            (Split("a=1|b", b'|', b'='), Json, "Json(\"{\\\"a\\\":\\\"1\\\",\\\"b\\\":\\\"\\\"}\")"),
            (Split("a=1", b'|', b'='), String, "Str(\"a=1\")"),
            (Val::Missing, Bigint, "Missing"),
            (Val::Null, Map, "Null"),
            (Str("x"), Any, "Str(\"x\")"),
        ] {
            assert_eq!(become_(value, ty), want, "{value:?} as {ty}");
        }
    }

    #[test]
    fn deep_json_is_refused_not_followed() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(become_(Val::Str(&deep), Type::Json).ends_with("is no json"));
        assert!(become_(Val::Str(&"é".repeat(1000)), Type::Bigint).len() < 200);
    }
}
