//! Functions of numbers. What has no result (a root of a negative number) or is out of range is an error, never NaN.

use super::{FunctionDef, Param::*};
use crate::sql::value::{Num, Op, R, V, any_op, compare, fail, overflow};
use millrace_sdk::inventory::submit;
use millrace_sdk::{Decimal, Type};
use std::cmp::Ordering;

const D: Type = Type::Double;
const I: Type = Type::Bigint;
const A: Type = Type::Any;

submit! { FunctionDef::new("abs", &[Number], A, "abs(x) -> type of x", "without its sign", "abs(-2.5) => 2.5",
|a, _, _| match number(a[0])? {
    Num::Int(i) => match i.checked_abs() { Some(i) => Ok(V::Int(i)), None => overflow(format_args!("abs({i})")) },
    Num::Float(f) => Ok(V::Float(f.abs())),
    Num::Dec(d) => Ok(V::dec(d.abs())),
}).returns(same) }
submit! { FunctionDef::new("floor", &[Number], A, "floor(x) -> x's type without fraction", "the next whole number below", "floor(-1.5) => -2",
|a, _, _| match number(a[0])? {
    Num::Int(i) => Ok(V::Int(i)),
    Num::Float(f) => Ok(V::Float(f.floor())),
    Num::Dec(d) => Ok(V::dec(d.floor())),
}).returns(whole) }
submit! { FunctionDef::new("ceil", &[Number], A, "ceil(x) -> x's type without fraction", "the next whole number above", "ceil(1.2) => 2",
|a, _, _| match number(a[0])? {
    Num::Int(i) => Ok(V::Int(i)),
    Num::Float(f) => Ok(V::Float(f.ceil())),
    Num::Dec(d) => Ok(V::dec(d.ceil())),
}).returns(whole).alias(&["ceiling"]) }
submit! { FunctionDef::new("round", &[Number, Int], A, "round(x[, places]) -> type of x", "rounded half away from zero; negative places round before the point", "round(2.345, 2) => 2.35",
|a, _, _| {
    let places = places(a)?;
    match number(a[0])? {
        Num::Int(i) if places >= 0 => Ok(V::Int(i)),
        Num::Int(i) => match Decimal::from(i).round(places).and_then(|d| d.to_i64()) { Some(i) => Ok(V::Int(i)), None => overflow(format_args!("round({i}, {places})")) },
        // By the shortest text of the double: round(2.675, 2) is 2.68, as it is written.
        Num::Float(f) => Ok(V::Float(if places == 0 { f.round() } else { Decimal::from_f64(f).and_then(|d| d.round(places)).map_or(f, |d| d.to_f64()) })),
        Num::Dec(d) => match d.round(places) { Some(d) => Ok(V::dec(d)), None => overflow(format_args!("round({d}, {places})")) },
    }
}).optional(1).returns(same) }
submit! { FunctionDef::new("truncate", &[Number, Int], A, "truncate(x[, places]) -> type of x", "with the digits after a place cut off", "truncate(-2.789, 1) => -2.7",
|a, _, _| {
    let places = places(a)?;
    match number(a[0])? {
        Num::Int(i) => Ok(Decimal::from(i).truncate(places).to_i64().map_or(V::Null, V::Int)),
        Num::Float(f) => Ok(V::Float(if places == 0 { f.trunc() } else { Decimal::from_f64(f).map_or(f, |d| d.truncate(places).to_f64()) })),
        Num::Dec(d) => Ok(V::dec(d.truncate(places))),
    }
}).optional(1).returns(same).alias(&["trunc"]) }
submit! { FunctionDef::new("sign", &[Number], I, "sign(x) -> bigint", "-1, 0 or 1", "sign(-3.5) => -1",
|a, _, _| { let s = compare(a[0], V::Int(0))?; Ok(V::Int(s.map_or(0, |o| o as i64))) }) }
submit! { FunctionDef::new("mod", &[Number, Number], A, "mod(a, b) -> number", "the remainder of a / b, with the sign of a", "mod(-7, 3) => -1",
|a, _, _| any_op(Op::Rem, a[0], a[1])).returns(|t| crate::sql::value::common(t[0], t[1]).unwrap_or(Type::Any)) }
submit! { FunctionDef::new("sqrt", &[Number], D, "sqrt(x) -> double", "the square root", "sqrt(9) => 3.0",
|a, _, _| real("sqrt", a, |x| x.sqrt())) }
submit! { FunctionDef::new("power", &[Number, Number], D, "power(x, y) -> double", "x to the power of y", "power(2, 10) => 1024.0",
|a, _, _| { let y = a[1].float()?; real("power", a, |x| x.powf(y)) }).alias(&["pow"]) }
submit! { FunctionDef::new("exp", &[Number], D, "exp(x) -> double", "e to the power of x", "exp(0) => 1.0",
|a, _, _| real("exp", a, f64::exp)) }
submit! { FunctionDef::new("ln", &[Number], D, "ln(x) -> double", "the natural logarithm", "ln(1) => 0.0",
|a, _, _| real("ln", a, f64::ln)) }
submit! { FunctionDef::new("log", &[Number, Number], D, "log([base, ]x) -> double", "the logarithm to a base, the natural one without", "log(2, 8) => 3.0",
|a, _, _| match a { [base, x] => { let base = base.float()?; real("log", &[*x], |x| x.ln() / base.ln()) }, _ => real("log", a, f64::ln) }).optional(1) }
submit! { FunctionDef::new("log10", &[Number], D, "log10(x) -> double", "the logarithm to base 10", "log10(1000) => 3.0",
|a, _, _| real("log10", a, f64::log10)) }
submit! { FunctionDef::new("log2", &[Number], D, "log2(x) -> double", "the logarithm to base 2", "log2(8) => 3.0",
|a, _, _| real("log2", a, f64::log2)) }
submit! { FunctionDef::new("sin", &[Number], D, "sin(x) -> double", "the sine of an angle in radians", "sin(0) => 0.0", |a, _, _| real("sin", a, f64::sin)) }
submit! { FunctionDef::new("cos", &[Number], D, "cos(x) -> double", "the cosine of an angle in radians", "cos(0) => 1.0", |a, _, _| real("cos", a, f64::cos)) }
submit! { FunctionDef::new("atan2", &[Number, Number], D, "atan2(y, x) -> double", "the angle of a point, in radians", "atan2(0, 1) => 0.0",
|a, _, _| { let x = a[1].float()?; real("atan2", a, |y| y.atan2(x)) }) }
submit! { FunctionDef::new("radians", &[Number], D, "radians(x) -> double", "degrees as radians", "radians(0) => 0.0", |a, _, _| real("radians", a, f64::to_radians)) }
submit! { FunctionDef::new("pi", &[], D, "pi() -> double", "the number pi", "truncate(pi(), 4) => 3.1415", |_, _, _| Ok(V::Float(std::f64::consts::PI))) }
submit! { FunctionDef::new("greatest", &[Any], A, "greatest(a, b, …) -> the common type", "the greatest of the arguments that are not NULL", "greatest(1, 3, 2) => 3",
|a, _, _| extreme(a, Ordering::Greater)).variadic().takes_null().returns(all) }
submit! { FunctionDef::new("least", &[Any], A, "least(a, b, …) -> the common type", "the least of the arguments that are not NULL", "least('b', 'a') => 'a'",
|a, _, _| extreme(a, Ordering::Less)).variadic().takes_null().returns(all) }
submit! { FunctionDef::new("bit_count", &[Int], I, "bit_count(n) -> bigint", "number of bits that are set", "bit_count(7) => 3",
|a, _, _| Ok(V::Int(a[0].int()?.count_ones().into()))) }

fn same(t: &[Type]) -> Type {
    if t[0].is_number() { t[0] } else { Type::Any }
}

fn whole(t: &[Type]) -> Type {
    match t[0] {
        Type::Decimal(p, s) => Type::Decimal((p - s + 1).min(38), 0),
        _ => same(t),
    }
}

fn all(t: &[Type]) -> Type {
    let first = t[0];
    if t.iter().all(|x| *x == first) && first != Type::Json { first } else { Type::Any }
}

fn number(v: V<'_>) -> R<Num> {
    match v.number() {
        Some(n) => Ok(n),
        None => v.not_a("a number"),
    }
}

fn places(a: &[V<'_>]) -> R<i32> {
    Ok(match a.get(1) {
        Some(p) => p.int()?.clamp(-400, 400) as i32,
        None => 0,
    })
}

fn real<'a>(name: &str, a: &[V<'a>], f: impl Fn(f64) -> f64) -> R<V<'a>> {
    let x = a[0].float()?;
    let y = f(x);
    if y.is_finite() { Ok(V::Float(y)) } else { fail("invalid-argument", format!("{name}({x}) is not a number")) }
}

fn extreme<'a>(a: &[V<'a>], wanted: Ordering) -> R<V<'a>> {
    let mut best = V::Null;
    for v in a.iter().copied().filter(|v| !v.is_null()) {
        if compare(v, best)?.is_none_or(|o| o == wanted) {
            best = v;
        }
    }
    Ok(best)
}
