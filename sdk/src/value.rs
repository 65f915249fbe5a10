//! A field's value: 16 bytes that can be copied, and the view of it that authors see.

/// A stretch of a batch's text: offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub off: u32,
    pub len: u32,
}

/// A field as it lies in a batch. Spans point into the text that belongs to the record's batch.
///
/// Numbers stay as written and text split into a map stays text until somebody looks, which is what makes washing cheap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// The field is not there (JSON without the key).
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A timestamp: microseconds since 1970-01-01T00:00:00Z.
    Time(i64),
    /// A number as it was written: a valid JSON number. Decimals are always held this way.
    Num(Span),
    /// UTF-8 text in which nothing needs a JSON escape.
    Str(Span),
    /// UTF-8 text that may need escapes.
    Text(Span),
    /// Bytes that need not be UTF-8.
    Bytes(Span),
    /// The JSON text of an object or an array.
    Json(Span),
    /// Text that is a map, `a=1|b=2`: the span, the separator between pairs, the one between key and value.
    /// The text needs no JSON escape. A pair without the inner separator has the value "", empty pieces are skipped.
    Split(Span, u8, u8),
}
const _: () = assert!(size_of::<Value>() == 16);

/// A field as an operator's author sees it: borrowed from wherever its record lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Val<'a> {
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Time(i64),
    /// A number as written (a valid JSON number); decimals too.
    Num(&'a str),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// The JSON text of an object or an array.
    Json(&'a str),
    /// A map kept as text: text, pair separator, key separator.
    Split(&'a str, u8, u8),
}

impl<'a> Val<'a> {
    /// Missing and Null are both "nothing there" to SQL.
    #[inline]
    pub fn is_null(self) -> bool {
        matches!(self, Val::Missing | Val::Null)
    }

    /// The text of a string; None for anything else.
    #[inline]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Val::Str(s) => Some(s),
            _ => None,
        }
    }

    /// An integer: `Int`, or a number written as one that fits (also `1.0` and `1e3`); None for anything else.
    #[inline]
    pub fn as_int(self) -> Option<i64> {
        match self {
            Val::Int(i) => Some(i),
            Val::Num(t) => crate::json::int(t.as_bytes()),
            Val::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(f as i64),
            _ => None,
        }
    }

    /// A number as f64; None for what is no number or does not fit.
    #[inline]
    pub fn as_float(self) -> Option<f64> {
        match self {
            Val::Int(i) => Some(i as f64),
            Val::Float(f) => Some(f),
            Val::Num(t) => match crate::json::number(t.as_bytes()) {
                crate::json::Number::Int(i) => Some(i as f64),
                crate::json::Number::Float(f) => Some(f),
                crate::json::Number::Bad => None,
            },
            _ => None,
        }
    }

    /// What it is, in the words of a message to a user.
    pub fn kind(self) -> &'static str {
        match self {
            Val::Missing => "missing",
            Val::Null => "null",
            Val::Bool(_) => "a boolean",
            Val::Int(_) | Val::Float(_) | Val::Num(_) => "a number",
            Val::Time(_) => "a timestamp",
            Val::Str(_) => "a string",
            Val::Bytes(_) => "bytes",
            Val::Json(t) if t.starts_with('[') => "an array",
            Val::Json(_) | Val::Split(..) => "a map",
        }
    }
}

/// Whether two texts are equal, without a call for the short ones that most fields hold.
#[inline]
pub fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    // Two loads that overlap have all bytes.
    fn ends<const N: usize>(t: &[u8]) -> Option<([u8; N], [u8; N])> {
        t.first_chunk().copied().zip(t.last_chunk().copied())
    }
    match a.len() {
        0 => true,
        1..4 => (a[0], a[a.len() / 2], a[a.len() - 1]) == (b[0], b[a.len() / 2], b[a.len() - 1]),
        4..8 => ends::<4>(a) == ends(b),
        8..=16 => ends::<8>(a) == ends(b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_are_the_same_where_they_are_equal(a in "[ab]{0,20}", at in any::<usize>(), cut in 0..3usize) {
            prop_assert!(same_text(&a, &a.clone()));
            let mut b = a.clone().into_bytes();
            if let Some(c) = b.get_mut(at % a.len().max(1)) {
                *c ^= 1;
            }
            b.truncate(b.len() - cut.min(b.len()));
            let b = String::from_utf8(b).unwrap();
            prop_assert_eq!(same_text(&a, &b), a == b);
        }
    }
}
