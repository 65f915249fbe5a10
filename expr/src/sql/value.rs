//! Values while they are computed, and what the operators do with them.

use super::pool::Pool;
use crate::EvalError;
use millrace_sdk::convert::{self, ConvertError};
use millrace_sdk::json::{self, Number};
use millrace_sdk::{Decimal, Type, Val};
use std::cmp::Ordering;

/// Boxed, because results travel through every node.
pub type R<T> = Result<T, Box<EvalError>>;

#[cold]
pub fn fail<T>(reason: &'static str, message: impl Into<String>) -> R<T> {
    Err(Box::new(EvalError { reason, message: message.into() }))
}

impl From<ConvertError> for Box<EvalError> {
    fn from(e: ConvertError) -> Box<EvalError> {
        Box::new(EvalError { reason: "invalid-cast", message: e.0 })
    }
}

/// A [`Val`] with decimals as numbers. `Num` is a number as JSON wrote it: an integer counts as bigint (as decimal where an i64
/// does not hold it), anything else as double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum V<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// High and low half of the mantissa, scale: in halves a `V` takes 24 bytes. Made by [`V::dec`].
    Dec(i64, u64, u8),
    Time(i64),
    Num(&'a str),
    Str(&'a str),
    Bytes(&'a [u8]),
    Json(&'a str),
    Split(&'a str, u8, u8),
}
const _: () = assert!(size_of::<R<V<'_>>>() == 24);

/// A number ready to be computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    Int(i64),
    Float(f64),
    Dec(Decimal),
}

impl<'a> From<Val<'a>> for V<'a> {
    #[inline]
    fn from(v: Val<'a>) -> V<'a> {
        match v {
            Val::Missing | Val::Null => V::Null,
            Val::Bool(b) => V::Bool(b),
            Val::Int(i) => V::Int(i),
            Val::Float(f) => V::Float(f),
            Val::Time(t) => V::Time(t),
            Val::Num(t) => V::Num(t),
            Val::Str(t) => V::Str(t),
            Val::Bytes(b) => V::Bytes(b),
            Val::Json(t) => V::Json(t),
            Val::Split(t, p, k) => V::Split(t, p, k),
        }
    }
}

impl<'a> V<'a> {
    #[inline]
    pub fn dec(d: Decimal) -> V<'a> {
        V::Dec((d.mantissa >> 64) as i64, d.mantissa as u64, d.scale)
    }

    #[inline]
    pub fn is_null(self) -> bool {
        matches!(self, V::Null)
    }

    pub fn to_val(self, pool: &'a Pool) -> Val<'a> {
        match self {
            V::Null => Val::Null,
            V::Bool(b) => Val::Bool(b),
            V::Int(i) => Val::Int(i),
            V::Float(f) => Val::Float(f),
            V::Time(t) => Val::Time(t),
            V::Num(t) => Val::Num(t),
            V::Str(t) => Val::Str(t),
            V::Bytes(b) => Val::Bytes(b),
            V::Json(t) => Val::Json(t),
            V::Split(t, p, k) => Val::Split(t, p, k),
            V::Dec(hi, lo, scale) => {
                use std::fmt::Write;
                let s = pool.string();
                let _ = write!(s, "{}", decimal(hi, lo, scale));
                Val::Num(s)
            }
        }
    }

    /// In the words of a message.
    pub fn kind(self) -> &'static str {
        match self {
            V::Null => "null",
            V::Bool(_) => "a boolean",
            V::Int(_) | V::Float(_) | V::Num(_) | V::Dec(..) => "a number",
            V::Time(_) => "a timestamp",
            V::Str(_) => "a string",
            V::Bytes(_) => "bytes",
            V::Json(t) if t.starts_with('[') => "an array",
            V::Json(_) | V::Split(..) => "a map",
        }
    }

    /// None: not a number.
    #[inline]
    pub fn number(self) -> Option<Num> {
        match self {
            V::Int(i) => Some(Num::Int(i)),
            V::Float(f) => Some(Num::Float(f)),
            V::Dec(hi, lo, s) => Some(Num::Dec(decimal(hi, lo, s))),
            V::Num(t) => match json::number(t.as_bytes()) {
                Number::Int(i) => Some(Num::Int(i)),
                Number::Float(f) => Some(long_integer(t).map_or(Num::Float(f), Num::Dec)),
                Number::Bad => None,
            },
            _ => None,
        }
    }

    #[cold]
    pub fn not_a<T>(self, wanted: &str) -> R<T> {
        fail("wrong-type", format!("expected {wanted}, found {}", self.kind()))
    }

    #[inline]
    pub fn float(self) -> R<f64> {
        match self.number() {
            Some(n) => Ok(n.float()),
            None => self.not_a("a number"),
        }
    }

    /// An integer, however it is held; a number with a fraction is none.
    #[inline]
    pub fn int(self) -> R<i64> {
        match self.number() {
            Some(Num::Int(i)) => Ok(i),
            Some(Num::Float(f)) if f.fract() == 0.0 && f.abs() < 9e15 => Ok(f as i64),
            Some(Num::Dec(d)) => match d.to_i64() {
                Some(i) => Ok(i),
                None => fail("wrong-type", format!("expected an integer, found {d}")),
            },
            Some(Num::Float(f)) => fail("wrong-type", format!("expected an integer, found {f}")),
            None => self.not_a("an integer"),
        }
    }

    #[inline]
    pub fn text(self) -> R<&'a str> {
        match self {
            V::Str(t) => Ok(t),
            v => v.not_a("a string"),
        }
    }

    #[inline]
    pub fn time(self) -> R<i64> {
        match self {
            V::Time(t) => Ok(t),
            v => v.not_a("a timestamp"),
        }
    }

    pub fn truth(self) -> R<Option<bool>> {
        match self {
            V::Bool(b) => Ok(Some(b)),
            V::Null => Ok(None),
            v => v.not_a("a boolean"),
        }
    }

    /// Strings as their bytes too.
    pub fn blob(self) -> R<&'a [u8]> {
        match self {
            V::Bytes(b) => Ok(b),
            V::Str(t) => Ok(t.as_bytes()),
            v => v.not_a("bytes or a string"),
        }
    }

    /// Appends a scalar as text, as [`convert::write_scalar`]; containers as their text.
    pub fn write(self, out: &mut String) -> R<()> {
        match self {
            V::Str(t) | V::Num(t) | V::Json(t) | V::Split(t, ..) => out.push_str(t),
            V::Dec(hi, lo, s) => {
                use std::fmt::Write;
                let _ = write!(out, "{}", decimal(hi, lo, s));
            }
            V::Bytes(b) => match std::str::from_utf8(b) {
                Ok(t) => out.push_str(t),
                Err(_) => return fail("invalid-cast", "bytes that are not UTF-8 are no string"),
            },
            V::Int(i) => out.push_str(itoa::Buffer::new().format(i)),
            V::Bool(b) => out.push_str(if b { "true" } else { "false" }),
            V::Float(f) => out.push_str(ryu::Buffer::new().format(f)),
            V::Time(t) => {
                let mut text = Vec::with_capacity(32);
                convert::write_time(t, &mut text);
                out.push_str(std::str::from_utf8(&text).unwrap_or_default());
            }
            V::Null => {}
        }
        Ok(())
    }
}

#[inline]
pub fn decimal(hi: i64, lo: u64, scale: u8) -> Decimal {
    Decimal { mantissa: ((hi as i128) << 64) | lo as i128, scale }
}

/// 20-digit ids stay exact.
#[cold]
fn long_integer(text: &str) -> Option<Decimal> {
    if text.len() > 17 && json::is_integer(text.as_bytes()) { Decimal::parse(text) } else { None }
}

impl Num {
    #[inline]
    pub fn float(self) -> f64 {
        match self {
            Num::Int(i) => i as f64,
            Num::Float(f) => f,
            Num::Dec(d) => d.to_f64(),
        }
    }

    pub fn exact(self) -> Option<Decimal> {
        match self {
            Num::Int(i) => Some(i.into()),
            Num::Dec(d) => Some(d),
            Num::Float(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Op {
    pub fn sign(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Sub => "-",
            Op::Mul => "*",
            Op::Div => "/",
            Op::Rem => "%",
        }
    }
}

#[cold]
pub fn overflow<T>(what: impl std::fmt::Display) -> R<T> {
    fail("overflow", format!("{what} is out of range"))
}

#[cold]
pub fn zero_division<T>() -> R<T> {
    fail("division-by-zero", "division by zero")
}

/// Bigint arithmetic: checked; division truncates toward zero, the remainder has the dividend's sign.
#[inline]
pub fn int_op(op: Op, a: i64, b: i64) -> R<i64> {
    match checked_int(op, a, b) {
        Some(r) => Ok(r),
        None if b == 0 && matches!(op, Op::Div | Op::Rem) => zero_division(),
        None => overflow(format_args!("{a} {} {b}", op.sign())),
    }
}

/// As [`int_op`]; None where that fails.
#[inline]
pub fn checked_int(op: Op, a: i64, b: i64) -> Option<i64> {
    match op {
        Op::Add => a.checked_add(b),
        Op::Sub => a.checked_sub(b),
        Op::Mul => a.checked_mul(b),
        Op::Div => a.checked_div(b),
        // i64::MIN % -1 is 0, though the processor's division overflows.
        Op::Rem => (b != 0).then(|| a.wrapping_rem(b)),
    }
}

/// The next whole number above or below, without a call for what an i64 holds.
#[inline]
pub fn whole(f: f64, up: bool) -> f64 {
    if f.abs() < 4.5e15 {
        let t = f as i64 as f64;
        let t = if up { t + f64::from(t < f) } else { t - f64::from(t > f) };
        // Zero keeps its sign.
        return t.copysign(f);
    }
    if up { f.ceil() } else { f.floor() }
}

/// Double arithmetic: no infinities and no NaN come out.
#[inline]
pub fn float_op(op: Op, a: f64, b: f64) -> R<f64> {
    let r = match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div | Op::Rem if b == 0.0 => return zero_division(),
        Op::Div => a / b,
        Op::Rem => a % b,
    };
    if r.is_finite() { Ok(r) } else { overflow(format_args!("{a} {} {b}", op.sign())) }
}

/// Exact arithmetic; products and quotients are rounded to `scale` digits, which None chooses by the operands.
pub fn decimal_op(op: Op, a: Decimal, b: Decimal, scale: Option<u8>) -> R<Decimal> {
    let r = match op {
        Op::Div | Op::Rem if b.mantissa == 0 => return zero_division(),
        Op::Add => a.checked_add(b),
        Op::Sub => a.checked_sub(b),
        Op::Rem => a.checked_rem(b),
        Op::Mul => a.checked_mul(b, scale.unwrap_or((a.scale + b.scale).min(38))),
        Op::Div => a.checked_div(b, scale.unwrap_or((a.scale.max(b.scale) + 6).min(38))),
    };
    let r = r.and_then(|r| match scale {
        Some(s) => r.rescale(s),
        None => Some(r),
    });
    match r {
        Some(r) => Ok(r),
        None => overflow(format_args!("{a} {} {b}", op.sign())),
    }
}

/// Arithmetic on what turns up at run time.
#[inline]
pub fn any_op<'a>(op: Op, a: V<'a>, b: V<'a>) -> R<V<'a>> {
    match (a, b) {
        (V::Int(x), V::Int(y)) => return int_op(op, x, y).map(V::Int),
        (V::Float(x), V::Int(y)) => return float_op(op, x, y as f64).map(V::Float),
        (V::Float(x), V::Dec(hi, lo, s)) => return float_op(op, x, decimal(hi, lo, s).to_f64()).map(V::Float),
        _ => {}
    }
    if a.is_null() || b.is_null() {
        return Ok(V::Null);
    }
    let Some(x) = a.number() else { return a.not_a("a number") };
    let Some(y) = b.number() else { return b.not_a("a number") };
    match (x, y) {
        (Num::Int(x), Num::Int(y)) => int_op(op, x, y).map(V::Int),
        (Num::Float(x), y) => float_op(op, x, y.float()).map(V::Float),
        (x, Num::Float(y)) => float_op(op, x.float(), y).map(V::Float),
        (x, y) => match (x.exact(), y.exact()) {
            (Some(x), Some(y)) => decimal_op(op, x, y, None).map(V::dec),
            _ => float_op(op, x.float(), y.float()).map(V::Float),
        },
    }
}

/// Numbers by value, whatever they are held as.
pub fn compare_numbers(a: Num, b: Num) -> Ordering {
    match (a, b) {
        (Num::Int(a), Num::Int(b)) => a.cmp(&b),
        (Num::Float(a), Num::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Num::Int(a), Num::Float(b)) => compare_int(a, b),
        (Num::Float(a), Num::Int(b)) => compare_int(b, a).reverse(),
        (Num::Float(a), b) => a.partial_cmp(&b.float()).unwrap_or(Ordering::Equal),
        (a, Num::Float(b)) => a.float().partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => match (a.exact(), b.exact()) {
            (Some(a), Some(b)) => a.compare(&b),
            _ => a.float().total_cmp(&b.float()),
        },
    }
}

/// An i64 with an f64, exactly: beyond 2^53 not every integer is a double.
fn compare_int(a: i64, b: f64) -> Ordering {
    if b >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if b < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    a.cmp(&(b as i64)).then_with(|| 0.0.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
}

/// None if one of them is null.
#[inline]
pub fn compare(a: V<'_>, b: V<'_>) -> R<Option<Ordering>> {
    Ok(Some(match (a, b) {
        (V::Str(a), V::Str(b)) => a.cmp(b),
        (V::Int(a), V::Int(b)) => a.cmp(&b),
        (V::Null, _) | (_, V::Null) => return Ok(None),
        (V::Time(a), V::Time(b)) => a.cmp(&b),
        (V::Bool(a), V::Bool(b)) => a.cmp(&b),
        (V::Bytes(a), V::Bytes(b)) => a.cmp(b),
        (V::Bytes(a), V::Str(b)) => a.cmp(b.as_bytes()),
        (V::Str(a), V::Bytes(b)) => a.as_bytes().cmp(b),
        (V::Json(a), V::Json(b)) => a.cmp(b),
        (V::Split(a, ..), V::Split(b, ..)) => a.cmp(b),
        (a, b) => match (a.number(), b.number()) {
            (Some(x), Some(y)) => compare_numbers(x, y),
            _ => return fail("wrong-type", format!("{} cannot be compared with {}", a.kind(), b.kind())),
        },
    }))
}

/// The type that both can be taken as; None: they don't go together.
pub fn common(a: Type, b: Type) -> Option<Type> {
    use Type::*;
    Some(match (a, b) {
        (a, b) if a == b => a,
        (Any, _) | (_, Any) => Any,
        (Double, n) | (n, Double) if n.is_number() => Double,
        (Decimal(p1, s1), Decimal(p2, s2)) => {
            let s = s1.max(s2);
            Decimal((p1 - s1).max(p2 - s2).saturating_add(s).min(38), s)
        }
        (Decimal(p, s), Bigint) | (Bigint, Decimal(p, s)) => Decimal((p - s).max(19).saturating_add(s).min(38), s),
        (Json, Map | Array) | (Map | Array, Json) => Json,
        (Map, Array) | (Array, Map) => Json,
        _ => return None,
    })
}

/// Result type of arithmetic on decimals, as SQL Server and Flink define it: what does not fit in 38 digits loses places, but no more
/// than down to 6.
pub fn decimal_type(op: Op, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> (u8, u8) {
    let (p1, s1, p2, s2) = (p1 as i32, s1 as i32, p2 as i32, s2 as i32);
    let (p, s) = match op {
        Op::Add | Op::Sub => {
            let s = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + s + 1, s)
        }
        Op::Mul => (p1 + p2 + 1, s1 + s2),
        Op::Div => {
            let s = (s1 + p2 + 1).max(6);
            (p1 - s1 + s2 + s, s)
        }
        Op::Rem => ((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
    };
    if p <= 38 {
        return (p.max(1) as u8, s as u8);
    }
    (38, (38 - (p - s)).max(s.min(6)) as u8)
}
