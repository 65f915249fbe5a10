//! Whether a value is of a type as it stands, so that nothing has to be converted.

use millrace_sdk::json::{Number, number};
use millrace_sdk::{Span, Type, Value};

/// How a value and a type get on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fit {
    Same,
    Convert,
    /// Containers that are no scalars, maps that are no arrays.
    Wrong,
}

/// `bytes` gives the text of a span.
#[inline]
pub(crate) fn fit<'a>(value: Value, ty: Type, bytes: impl Fn(Span) -> &'a [u8]) -> Fit {
    let same = |is| if is { Fit::Same } else { Fit::Convert };
    match (value, ty) {
        (Value::Missing | Value::Null, _) | (_, Type::Any | Type::Json) => Fit::Same,
        (Value::Str(_) | Value::Text(_), Type::String) | (Value::Bool(_), Type::Boolean) => Fit::Same,
        (Value::Int(_), Type::Bigint) | (Value::Float(_), Type::Double) => Fit::Same,
        (Value::Time(_), Type::Timestamp) | (Value::Bytes(_), Type::Bytes) | (Value::Split(..), Type::Map) => Fit::Same,
        (Value::Num(s), Type::Bigint) => same(s.len <= 18 && bytes(s).iter().all(|c| c.is_ascii_digit() || *c == b'-')),
        (Value::Num(s), Type::Double) => {
            let small = s.len < 300 && !bytes(s).iter().any(|c| c | 32 == b'e');
            same(small || number(bytes(s)) != Number::Bad)
        }
        (Value::Num(s), Type::Decimal(precision, scale)) => same(exact(bytes(s), precision as usize, scale as usize)),
        (Value::Json(s), Type::Map) if bytes(s).first() == Some(&b'{') => Fit::Same,
        (Value::Json(s), Type::Array) if bytes(s).first() == Some(&b'[') => Fit::Same,
        (Value::Json(_), Type::Map | Type::Array) => Fit::Wrong,
        _ => Fit::Convert,
    }
}

/// Whether a positive JSON number is written exactly as a decimal of that precision and scale is.
fn exact(number: &[u8], precision: usize, scale: usize) -> bool {
    let digits = |t: &[u8]| !t.is_empty() && t.iter().all(u8::is_ascii_digit);
    let (whole, fraction) = match number.iter().position(|c| *c == b'.') {
        Some(dot) => (&number[..dot], &number[dot + 1..]),
        None => (number, &[][..]),
    };
    digits(whole) && fraction.len() == scale && (scale == 0 || digits(fraction)) && whole.len() + scale <= precision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_decimals() {
        for (t, p, s, want) in [
            ("0.10", 18, 2, true),
            ("12", 2, 0, true),
            ("123", 2, 0, false),
            ("0.1", 18, 2, false),
            ("-0.10", 18, 2, false),
            ("1e2", 18, 2, false),
            ("1.5e3", 18, 3, false),
            ("1", 18, 2, false),
        ] {
            assert_eq!(exact(t.as_bytes(), p, s), want, "{t}");
        }
    }
}
