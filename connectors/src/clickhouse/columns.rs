//! Columns of a table: which fields fit, and a value as JSON that the server reads as exactly that value.
//!
//! What the server itself would bend in silence (an integer that wraps, a decimal's digits that are cut, a time out of range) is checked
//! here; what it refuses aloud (an unknown name of an enum, a wrong UUID) is left to it.

use crate::format::cell;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use millrace_sdk::{Record, Slot, Type, Val, convert, json};

/// What a column takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Least and greatest.
    Integer(i128, i128),
    /// Of more than 64 bits: the server checks.
    Wide,
    Float,
    Decimal(u8, u8),
    Bool,
    Text,
    /// Bytes.
    Fixed(usize),
    /// Least and greatest, seconds since 1970.
    Date(i64, i64),
    DateTime,
    /// Digits after the point.
    DateTime64(u32),
    /// `Enum`: a name, or its number.
    Enum,
    /// Text of a form that the server checks: `UUID`, `IPv4`.
    Word,
    Array,
    Map,
    /// Any container: `Tuple`, `JSON`.
    Container,
}

const DAY: i64 = 86_400;
/// 1900-01-01 and 2299-12-31T23:59:59, the span of `Date32` and `DateTime64`.
const WIDE_TIMES: (i64, i64) = (-2_208_988_800, 10_413_791_999);

/// A type as `DESCRIBE TABLE` shows it; None: the sink does not write it.
pub fn parse(text: &str) -> Option<Kind> {
    let text = text.trim();
    let (name, args) = match text.split_once('(') {
        Some((name, args)) => (name, args.strip_suffix(')')?),
        None => (text, ""),
    };
    let bits = |unsigned: bool, bits: u32| {
        if unsigned { Kind::Integer(0, (1i128 << bits) - 1) } else { Kind::Integer(-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) }
    };
    Some(match name {
        "Nullable" | "LowCardinality" => return parse(args),
        "SimpleAggregateFunction" => return parse(args.split_once(',')?.1),
        "Int8" | "Int16" | "Int32" | "Int64" => bits(false, name[3..].parse().ok()?),
        "UInt8" | "UInt16" | "UInt32" | "UInt64" => bits(true, name[4..].parse().ok()?),
        "Int128" | "Int256" | "UInt128" | "UInt256" => Kind::Wide,
        "Float32" | "Float64" | "BFloat16" => Kind::Float,
        "Decimal" => {
            let (p, s) = args.split_once(',')?;
            Kind::Decimal(p.trim().parse().ok()?, s.trim().parse().ok()?)
        }
        "Bool" => Kind::Bool,
        "String" => Kind::Text,
        "FixedString" => Kind::Fixed(args.parse().ok()?),
        "Date" => Kind::Date(0, 65_536 * DAY - 1),
        "Date32" => Kind::Date(WIDE_TIMES.0, WIDE_TIMES.1),
        "DateTime" => Kind::DateTime,
        "DateTime64" => Kind::DateTime64(args.split(',').next()?.trim().parse().ok().filter(|p| *p <= 9)?),
        "Enum8" | "Enum16" => Kind::Enum,
        "UUID" | "IPv4" | "IPv6" => Kind::Word,
        "Array" => Kind::Array,
        "Map" => Kind::Map,
        "Tuple" | "Nested" | "JSON" | "Object" | "Variant" | "Dynamic" => Kind::Container,
        _ => return None,
    })
}

impl Kind {
    /// Whether values of a field's type can be values of the column.
    pub fn takes(&self, ty: Type) -> bool {
        let container = matches!(ty, Type::Array | Type::Map | Type::Json);
        match (self, ty) {
            (_, Type::Any) | (Kind::Text, _) => true,
            (Kind::Integer(..) | Kind::Wide, _) => matches!(ty, Type::Bigint | Type::Boolean | Type::Decimal(_, 0)),
            (Kind::Float | Kind::Decimal(..), _) => ty.is_number(),
            (Kind::Bool, _) => ty == Type::Boolean,
            (Kind::Fixed(_), _) => !container,
            (Kind::Date(..) | Kind::DateTime | Kind::DateTime64(_), _) => matches!(ty, Type::Timestamp | Type::String),
            (Kind::Enum, _) => matches!(ty, Type::String | Type::Bigint),
            (Kind::Word, _) => ty == Type::String,
            (Kind::Array, _) => matches!(ty, Type::Array | Type::Json),
            (Kind::Map, _) => matches!(ty, Type::Map | Type::Json),
            (Kind::Container, _) => container,
        }
    }

    /// Appends a field's value, which is neither null nor missing.
    ///
    /// # Errors
    /// Why the column cannot hold it; `out` may have grown.
    pub fn write(&self, row: &Record<'_>, slot: Slot, zone: &TimeZone, out: &mut Vec<u8>) -> Result<(), String> {
        let value = row.get(slot);
        let no = || Err(format!("{} is not what it takes", value.kind()));
        match self {
            Kind::Text => text(row, slot, usize::MAX, out)?,
            Kind::Fixed(bytes) => text(row, slot, *bytes, out)?,
            Kind::Integer(least, greatest) => match integer(value) {
                Some(n) if (*least..=*greatest).contains(&n) => out.extend_from_slice(n.to_string().as_bytes()),
                Some(n) => return Err(format!("{n} is out of range")),
                None => return no(),
            },
            Kind::Wide => match value {
                Val::Num(t) if json::is_integer(t.as_bytes()) => out.extend_from_slice(t.as_bytes()),
                _ => match integer(value) {
                    Some(n) => out.extend_from_slice(n.to_string().as_bytes()),
                    None => return no(),
                },
            },
            Kind::Float => match value {
                Val::Float(f) if f.is_nan() => out.extend_from_slice(b"\"nan\""),
                Val::Float(f) if f.is_infinite() => out.extend_from_slice(if f > 0.0 { b"\"inf\"" } else { b"\"-inf\"" }),
                Val::Int(_) | Val::Float(_) | Val::Num(_) => json::write_val(value, out),
                Val::Str(t) if json::is_number(t.trim_ascii().as_bytes()) => out.extend_from_slice(t.trim_ascii().as_bytes()),
                _ => return no(),
            },
            Kind::Decimal(precision, scale) => {
                let Some(d) = convert::decimal(value) else { return no() };
                match d.fit(*precision, *scale) {
                    Some(d) => d.write(out),
                    None => return Err("the number has too many digits".into()),
                }
            }
            Kind::Bool => match (value, integer(value)) {
                (Val::Bool(_), _) => json::write_val(value, out),
                (_, Some(n @ 0..=1)) => json::write_val(Val::Bool(n == 1), out),
                (Val::Str(t @ ("true" | "false")), _) => out.extend_from_slice(t.as_bytes()),
                _ => return no(),
            },
            Kind::Date(..) | Kind::DateTime | Kind::DateTime64(_) => self.write_time(value, zone, out)?,
            Kind::Enum => match value {
                Val::Str(_) | Val::Int(_) => json::write_val(value, out),
                Val::Num(t) if json::is_integer(t.as_bytes()) => out.extend_from_slice(t.as_bytes()),
                _ => return no(),
            },
            Kind::Word => match value {
                Val::Str(_) => json::write_val(value, out),
                _ => return no(),
            },
            Kind::Array | Kind::Map | Kind::Container => match value {
                Val::Json(t) if *self == Kind::Container || t.starts_with('[') == (*self == Kind::Array) => json::write_val(value, out),
                Val::Split(..) if *self != Kind::Array => json::write_val(value, out),
                _ => return no(),
            },
        }
        Ok(())
    }

    /// Dates as `YYYY-MM-DD` in the job's zone, times as seconds since 1970 or, with a fraction, as ISO 8601 in UTC (what a plain
    /// number means there depends on the server's release).
    fn write_time(&self, value: Val<'_>, zone: &TimeZone, out: &mut Vec<u8>) -> Result<(), String> {
        let micros = match value {
            Val::Time(t) => t,
            Val::Str(t) => convert::iso8601(t, zone).map_err(|e| e.0)?,
            v => return Err(format!("{} is no time", v.kind())),
        };
        let seconds = micros.div_euclid(1_000_000);
        let (least, greatest) = match self {
            Kind::Date(least, greatest) => (*least, *greatest),
            Kind::DateTime => (0, i64::from(u32::MAX)),
            // Nanoseconds fill 64 bits before the span ends.
            Kind::DateTime64(9) => (WIDE_TIMES.0, i64::MAX / 1_000_000_000 - 1),
            _ => WIDE_TIMES,
        };
        if !(least..=greatest).contains(&seconds) {
            let mut shown = vec![];
            convert::write_scalar(Val::Time(micros), &mut shown);
            return Err(format!("{} is out of range", String::from_utf8_lossy(&shown)));
        }
        match self {
            Kind::Date(..) => {
                let date = Timestamp::from_second(seconds).map_err(|e| e.to_string())?.to_zoned(zone.clone()).date();
                out.extend_from_slice(format!("\"{date}\"").as_bytes());
            }
            Kind::DateTime64(digits) => {
                let unit = 10i64.pow(6u32.saturating_sub(*digits));
                json::write_val(Val::Time(micros - micros.rem_euclid(unit)), out);
            }
            _ => json::write_val(Val::Int(seconds), out),
        }
        Ok(())
    }
}

/// The number of a whole number, however it is written.
fn integer(value: Val<'_>) -> Option<i128> {
    match value {
        Val::Bool(b) => Some(i128::from(b)),
        Val::Num(t) if json::is_integer(t.as_bytes()) => t.parse().ok(),
        Val::Str(t) => t.trim_ascii().parse().ok(),
        v => v.as_int().map(i128::from),
    }
}

/// Any value as a string: bytes as they are, containers as JSON.
fn text(row: &Record<'_>, slot: Slot, most: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let mut scratch = vec![];
    let bytes = match row.get(slot) {
        Val::Str(t) => t.as_bytes(),
        Val::Bytes(b) => b,
        _ => {
            cell(row, slot, &mut scratch);
            &scratch
        }
    };
    if bytes.len() > most {
        return Err(format!("{} bytes are too long", bytes.len()));
    }
    json::quote(bytes, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{BatchBuilder, Field, Meta, Schema};

    #[test]
    fn types_are_read() {
        for (text, kind) in [
            ("Int8", Some(Kind::Integer(-128, 127))),
            ("UInt64", Some(Kind::Integer(0, u64::MAX as i128))),
            ("Int64", Some(Kind::Integer(i64::MIN as i128, i64::MAX as i128))),
            ("UInt256", Some(Kind::Wide)),
            ("LowCardinality(Nullable(String))", Some(Kind::Text)),
            ("Decimal(18, 2)", Some(Kind::Decimal(18, 2))),
            ("FixedString(16)", Some(Kind::Fixed(16))),
            ("DateTime('Asia/Shanghai')", Some(Kind::DateTime)),
            ("Nullable(DateTime64(3, 'UTC'))", Some(Kind::DateTime64(3))),
            ("Enum8('a' = 1, 'b(' = 2)", Some(Kind::Enum)),
            ("SimpleAggregateFunction(sum, UInt64)", Some(Kind::Integer(0, u64::MAX as i128))),
            ("Array(Array(UInt8))", Some(Kind::Array)),
            ("Map(String, UInt64)", Some(Kind::Map)),
            ("JSON(max_dynamic_paths=4)", Some(Kind::Container)),
            ("AggregateFunction(uniq, UInt64)", None),
            ("Point", None),
        ] {
            assert_eq!(parse(text), kind, "{text}");
        }
    }

    #[test]
    fn which_fields_fit() {
        let decimal = Type::Decimal(9, 2);
        for (column, takes, not) in [
            ("UInt8", vec![Type::Bigint, Type::Boolean, Type::Any, Type::Decimal(4, 0)], vec![Type::String, Type::Double, decimal]),
            ("Float32", vec![Type::Bigint, Type::Double, decimal], vec![Type::String, Type::Boolean]),
            ("Decimal(9, 2)", vec![Type::Bigint, Type::Double, decimal], vec![Type::String, Type::Timestamp]),
            ("Bool", vec![Type::Boolean], vec![Type::Bigint, Type::String]),
            ("String", vec![Type::Map, Type::Bytes, decimal, Type::Timestamp], vec![]),
            ("DateTime64(3)", vec![Type::Timestamp, Type::String], vec![Type::Bigint]),
            ("UUID", vec![Type::String], vec![Type::Bytes, Type::Bigint]),
            ("Array(String)", vec![Type::Array, Type::Json], vec![Type::Map, Type::String]),
            ("Map(String, String)", vec![Type::Map], vec![Type::Array]),
            ("Tuple(a UInt8)", vec![Type::Map, Type::Array], vec![Type::String]),
        ] {
            let kind = parse(column).unwrap();
            assert!(takes.iter().all(|t| kind.takes(*t)), "{column}");
            assert!(!not.iter().any(|t| kind.takes(*t)), "{column}");
        }
    }

    /// A value as the column writes it, or why not.
    fn written(column: &str, value: Val<'_>) -> String {
        let mut rows = BatchBuilder::new(Schema::new(vec![Field::new("f", Type::Any)]));
        rows.push_val(value);
        rows.end_row(Meta::default());
        let batch = rows.finish();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let mut out = vec![];
        match parse(column).unwrap().write(&batch.row(0), Slot(0), &zone, &mut out) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(why) => format!("no: {why}"),
        }
    }

    #[test]
    fn values() {
        let day = 86_400_000_000;
        for (column, value, want) in [
            ("UInt8", Val::Int(255), "255"),
            ("UInt8", Val::Int(256), "no: 256 is out of range"),
            ("UInt8", Val::Int(-1), "no: -1 is out of range"),
            ("UInt8", Val::Bool(true), "1"),
            ("Int64", Val::Num("9223372036854775808"), "no: 9223372036854775808 is out of range"),
            ("UInt64", Val::Num("18446744073709551615"), "18446744073709551615"),
            ("Int32", Val::Num("1e3"), "1000"),
            ("Int32", Val::Num("1.5"), "no: a number is not what it takes"),
            ("Int32", Val::Str(" 12 "), "12"),
            ("Int32", Val::Str("x"), "no: a string is not what it takes"),
            ("Int256", Val::Num("1000000000000000000000000000000000000000000"), "1000000000000000000000000000000000000000000"),
            ("Decimal(4, 2)", Val::Num("1.005"), "1.01"),
            ("Decimal(4, 2)", Val::Int(99), "99.00"),
            ("Decimal(4, 2)", Val::Int(100), "no: the number has too many digits"),
            ("Float64", Val::Num("1.25e300"), "1.25e300"),
            ("Float64", Val::Float(f64::NAN), "\"nan\""),
            ("Float64", Val::Float(f64::NEG_INFINITY), "\"-inf\""),
            ("Bool", Val::Bool(false), "false"),
            ("Bool", Val::Int(2), "no: a number is not what it takes"),
            ("String", Val::Str("a\"b\n"), r#""a\"b\n""#),
            ("String", Val::Num("1.50"), r#""1.50""#),
            ("String", Val::Json(r#"{"a":[1]}"#), r#""{\"a\":[1]}""#),
            ("String", Val::Bytes(b"ab"), r#""ab""#),
            ("FixedString(2)", Val::Str("abc"), "no: 3 bytes are too long"),
            ("Date", Val::Time(0), r#""1970-01-01""#),
            ("Date", Val::Time(day - 1), r#""1970-01-02""#),
            ("Date", Val::Time(-1), "no: 1969-12-31T23:59:59.999999Z is out of range"),
            ("Date32", Val::Time(-day), r#""1969-12-31""#),
            ("DateTime", Val::Time(1_999_999), "1"),
            ("DateTime", Val::Str("1970-01-01T08:00:05"), "5"),
            ("DateTime", Val::Time(-1), "no: 1969-12-31T23:59:59.999999Z is out of range"),
            ("DateTime64(3)", Val::Time(1_999_999), r#""1970-01-01T00:00:01.999Z""#),
            ("DateTime64(3)", Val::Time(-1), r#""1969-12-31T23:59:59.999Z""#),
            ("DateTime64(9)", Val::Time(1_000_001), r#""1970-01-01T00:00:01.000001Z""#),
            ("DateTime64(3)", Val::Int(5), "no: a number is no time"),
            ("Enum8('a' = 1)", Val::Str("a"), r#""a""#),
            ("Enum8('a' = 1)", Val::Num("1"), "1"),
            ("Array(UInt8)", Val::Json("[1, 2]"), "[1,2]"),
            ("Array(UInt8)", Val::Json("{}"), "no: a map is not what it takes"),
            ("Map(String, String)", Val::Split("a=1|b=2", b'|', b'='), r#"{"a":"1","b":"2"}"#),
            ("Map(String, String)", Val::Json("[]"), "no: an array is not what it takes"),
            ("JSON", Val::Json(r#"{"a":1}"#), r#"{"a":1}"#),
            ("UUID", Val::Int(1), "no: a number is not what it takes"),
        ] {
            assert_eq!(written(column, value), want, "{column} {value:?}");
        }
    }
}
