//! Arithmetic: integers stay integers and are checked, anything else is a double. Strings that are written as numbers count as numbers.

use super::{Args, Done, Example, HelperDef, MANY, shown};
use crate::EvalError;
use crate::template::value::Num;
use millrace_sdk::{Type, Val};
use std::cmp::Ordering;

const THEME: &str = "arithmetic";

/// The value of a result; doubles must be finite.
fn give<'a>(a: &Args<'_, '_>, n: Num) -> Done<'a> {
    match n {
        Num::Int(i) => Ok(Val::Int(i)),
        Num::Uint(u) => Ok(Val::Float(u as f64)),
        Num::Float(f) if f.is_finite() => Ok(Val::Float(f)),
        Num::Float(_) => Err(overflow(a)),
    }
}

#[cold]
fn overflow(a: &Args<'_, '_>) -> EvalError {
    let operands: Vec<String> = a.vals.iter().map(|v| shown(*v)).collect();
    a.fail("overflow", format!("the result of {} is out of range", operands.join(" and ")))
}

/// Both operands, or null if one is.
fn binary<'a>(a: &Args<'a, '_>, ints: fn(i64, i64) -> Option<i64>, floats: fn(f64, f64) -> f64) -> Done<'a> {
    let mut total = match a.number(0)? {
        Some(n) => n,
        None => return Ok(Val::Null),
    };
    for i in 1..a.vals.len() {
        let Some(n) = a.number(i)? else { return Ok(Val::Null) };
        total = match (total, n) {
            (Num::Int(x), Num::Int(y)) => Num::Int(ints(x, y).ok_or_else(|| overflow(a))?),
            (x, y) => Num::Float(floats(x.float(), y.float())),
        };
    }
    give(a, total)
}

inventory::submit!(HelperDef::new(
    "add",
    THEME,
    "add A B …",
    2..=MANY,
    Type::Any,
    "The sum.",
    &[Example("{{add a 1}}", r#"{"a":41}"#, "42"), Example("{{add a b}}", r#"{"a":"1","b":0.5}"#, "1.5")],
    add
));
fn add<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    binary(a, i64::checked_add, |x, y| x + y)
}

inventory::submit!(HelperDef::new(
    "sub",
    THEME,
    "sub A B",
    2..=2,
    Type::Any,
    "The difference.",
    &[Example("{{sub end start}}", r#"{"start":40,"end":100}"#, "60")],
    sub
));
fn sub<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    binary(a, i64::checked_sub, |x, y| x - y)
}

inventory::submit!(HelperDef::new(
    "mul",
    THEME,
    "mul A B …",
    2..=MANY,
    Type::Any,
    "The product.",
    &[Example("{{mul price 100}}", r#"{"price":1.5}"#, "150.0"), Example("{{mul 6 7}}", "{}", "42")],
    mul
));
fn mul<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    binary(a, i64::checked_mul, |x, y| x * y)
}

inventory::submit!(HelperDef::new(
    "div",
    THEME,
    "div A B",
    2..=2,
    Type::Any,
    "The quotient; of two integers rounded down to an integer (write `1000.0` to get a fraction).",
    &[
        Example("{{div ts 1000}}", r#"{"ts":1763600000083}"#, "1763600000"),
        Example("{{div -7 2}}", "{}", "-4"),
        Example("{{div a 4.0}}", r#"{"a":1}"#, "0.25")
    ],
    div
));
fn div<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    divisor(a)?;
    binary(a, floor_div, |x, y| x / y)
}

inventory::submit!(HelperDef::new(
    "mod",
    THEME,
    "mod A B",
    2..=2,
    Type::Any,
    "What `div` leaves: it has the sign of B.",
    &[Example("{{mod n 10}}", r#"{"n":42}"#, "2"), Example("{{mod -7 2}}", "{}", "1")],
    modulo
));
fn modulo<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    divisor(a)?;
    binary(a, floor_mod, |x, y| x - y * (x / y).floor())
}

fn floor_div(x: i64, y: i64) -> Option<i64> {
    let q = x.checked_div(y)?;
    Some(if x % y != 0 && (x < 0) != (y < 0) { q - 1 } else { q })
}

fn floor_mod(x: i64, y: i64) -> Option<i64> {
    let r = if y == 0 { return None } else { x.wrapping_rem(y) };
    Some(if r != 0 && (r < 0) != (y < 0) { r + y } else { r })
}

fn divisor(a: &Args<'_, '_>) -> Result<(), EvalError> {
    match a.number(1)? {
        Some(n) if n.float() == 0.0 => Err(a.fail("division-by-zero", "division by zero")),
        _ => Ok(()),
    }
}

/// One operand turned into an integer, where it is not one already.
fn to_int<'a>(a: &Args<'a, '_>, f: fn(f64) -> f64) -> Done<'a> {
    match a.number(0)? {
        None => Ok(Val::Null),
        Some(Num::Int(i)) => Ok(Val::Int(i)),
        Some(n) => {
            let f = f(n.float());
            // 2^63 is the first double above i64.
            if f >= -9_223_372_036_854_775_808.0 && f < 9_223_372_036_854_775_808.0 { Ok(Val::Int(f as i64)) } else { Err(overflow(a)) }
        }
    }
}

inventory::submit!(HelperDef::new(
    "round",
    THEME,
    "round A [DIGITS]",
    1..=2,
    Type::Any,
    "The nearest integer, halves away from zero; with DIGITS (0 to 15), to that many decimals.",
    &[
        Example("{{round a}}", r#"{"a":2.5}"#, "3"),
        Example("{{round a}}", r#"{"a":-2.5}"#, "-3"),
        Example("{{round a 2}}", r#"{"a":3.14159}"#, "3.14")
    ],
    round
));
fn round<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    match (a.number(0)?, a.int(1)?) {
        (_, None) => to_int(a, f64::round),
        (Some(Num::Float(f)), Some(d @ 0..=15)) => {
            let scale = 10f64.powi(d as i32);
            let scaled = f * scale;
            give(a, Num::Float(if scaled.abs() < 9e15 { scaled.round() / scale } else { f }))
        }
        (None, _) => Ok(Val::Null),
        (Some(n), Some(0..=15)) => give(a, n),
        (_, Some(d)) => Err(a.fail("not-a-number", format!("{d} decimals are not between 0 and 15"))),
    }
}

inventory::submit!(HelperDef::new(
    "floor",
    THEME,
    "floor A",
    1..=1,
    Type::Bigint,
    "The next integer below.",
    &[Example("{{floor a}}", r#"{"a":-1.5}"#, "-2"), Example("{{floor (add (mul price 100) 0.5)}}", r#"{"price":771.16}"#, "77116")],
    floor
));
fn floor<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    to_int(a, f64::floor)
}

inventory::submit!(HelperDef::new(
    "ceil",
    THEME,
    "ceil A",
    1..=1,
    Type::Bigint,
    "The next integer above.",
    &[Example("{{ceil a}}", r#"{"a":1.2}"#, "2")],
    ceil
));
fn ceil<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    to_int(a, f64::ceil)
}

inventory::submit!(HelperDef::new(
    "abs",
    THEME,
    "abs A",
    1..=1,
    Type::Any,
    "Without its sign.",
    &[Example("{{abs a}}", r#"{"a":-3}"#, "3")],
    abs
));
fn abs<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    match a.number(0)? {
        None => Ok(Val::Null),
        Some(Num::Int(i)) => i.checked_abs().map(Val::Int).ok_or_else(|| overflow(a)),
        Some(n) => give(a, Num::Float(n.float().abs())),
    }
}

fn extreme<'a>(a: &Args<'a, '_>, wanted: Ordering) -> Done<'a> {
    let mut best: Option<Num> = None;
    for i in 0..a.vals.len() {
        if let Some(n) = a.number(i)?
            && best.is_none_or(|b| n.compare(b) == Some(wanted))
        {
            best = Some(n);
        }
    }
    best.map_or(Ok(Val::Null), |n| give(a, n))
}

inventory::submit!(HelperDef::new(
    "min",
    THEME,
    "min A B …",
    1..=MANY,
    Type::Any,
    "The least number; missing and null do not count.",
    &[Example("{{min a b 7}}", r#"{"a":9,"b":null}"#, "7")],
    min
));
fn min<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    extreme(a, Ordering::Less)
}

inventory::submit!(HelperDef::new(
    "max",
    THEME,
    "max A B …",
    1..=MANY,
    Type::Any,
    "The greatest number; missing and null do not count.",
    &[Example("{{max a 0}}", r#"{"a":-9}"#, "0")],
    max
));
fn max<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    extreme(a, Ordering::Greater)
}

inventory::submit!(HelperDef::new(
    "int",
    THEME,
    "int A",
    1..=1,
    Type::Bigint,
    "A number or a numeric text as an integer, without its fraction.",
    &[Example("{{add (int a) 1}}", r#"{"a":"41.9"}"#, "42"), Example("{{default (int a) 0}}", r#"{"a":"-"}"#, "0")],
    int
));
fn int<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    to_int(a, f64::trunc)
}

inventory::submit!(HelperDef::new(
    "number",
    THEME,
    "number A",
    1..=1,
    Type::Any,
    "A number or a numeric text as a number.",
    &[Example("{{json (number a)}}", r#"{"a":"1.5"}"#, "1.5")],
    number
));
fn number<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    a.number(0)?.map_or(Ok(Val::Null), |n| give(a, n))
}
