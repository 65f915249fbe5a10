//! CAST. A number with a fraction loses it when it becomes a bigint, as in Flink; declared fields are stricter.

use super::node::Cx;
use super::value::{Num, R, V, decimal, fail, overflow};
use millrace_sdk::convert::{self, iso8601};
use millrace_sdk::{Decimal, Type, Val};

#[cold]
fn refuse<'a, T>(v: V<'a>, ty: Type, cx: &Cx<'a>) -> R<T> {
    fail("invalid-cast", convert::refuse(v.to_val(cx.pool), ty).0)
}

/// NULL stays NULL.
///
/// # Errors
/// `invalid-cast` for what is not of the type, `overflow` for what does not fit.
pub fn cast<'a>(v: V<'a>, ty: Type, cx: &Cx<'a>) -> R<V<'a>> {
    if v.is_null() {
        return Ok(V::Null);
    }
    match ty {
        Type::Any => Ok(v),
        Type::String => match v {
            V::Str(_) => Ok(v),
            v => {
                let s = cx.pool.string();
                v.write(s)?;
                Ok(V::Str(s))
            }
        },
        Type::Bigint => match (v, v.number()) {
            (V::Bool(b), _) => Ok(V::Int(b.into())),
            (V::Str(t), _) => match convert::bigint(t) {
                Some(i) => Ok(V::Int(i)),
                None => refuse(v, ty, cx),
            },
            (_, Some(Num::Int(i))) => Ok(V::Int(i)),
            (_, Some(Num::Float(f))) if f.abs() < 9.223_372_036_854_775e18 => Ok(V::Int(f as i64)),
            (_, Some(Num::Float(f))) => overflow(f),
            (_, Some(Num::Dec(d))) => match d.truncate(0).to_i64() {
                Some(i) => Ok(V::Int(i)),
                None => overflow(d),
            },
            _ => refuse(v, ty, cx),
        },
        Type::Double => match v {
            V::Bool(b) => Ok(V::Float(b.into())),
            V::Str(t) => match convert::double(t) {
                Some(f) => Ok(V::Float(f)),
                None => refuse(v, ty, cx),
            },
            v => match v.number() {
                Some(n) => Ok(V::Float(n.float())),
                None => refuse(v, ty, cx),
            },
        },
        Type::Decimal(p, s) => {
            let d = match v {
                V::Dec(hi, lo, scale) => Some(decimal(hi, lo, scale)),
                V::Bool(b) => Some(Decimal::from(i64::from(b))),
                v => convert::decimal(v.to_val(cx.pool)),
            };
            match d {
                None => refuse(v, ty, cx),
                Some(d) => match d.fit(p, s) {
                    Some(d) => Ok(V::dec(d)),
                    None => overflow(format_args!("{d} as {ty}")),
                },
            }
        }
        Type::Boolean => match v {
            V::Bool(_) => Ok(v),
            V::Str(t) => match convert::boolean(t) {
                Some(b) => Ok(V::Bool(b)),
                None => refuse(v, ty, cx),
            },
            v => match v.number() {
                Some(n) => Ok(V::Bool(n.float() != 0.0)),
                None => refuse(v, ty, cx),
            },
        },
        Type::Timestamp => match v {
            V::Time(_) => Ok(v),
            V::Str(t) => Ok(V::Time(iso8601(t.trim_ascii(), &cx.settings.zone)?)),
            v => refuse(v, ty, cx),
        },
        Type::Bytes => match v {
            V::Bytes(_) => Ok(v),
            V::Str(t) => Ok(V::Bytes(t.as_bytes())),
            v => refuse(v, ty, cx),
        },
        Type::Json | Type::Map | Type::Array => container(v, ty, cx),
    }
}

fn container<'a>(v: V<'a>, ty: Type, cx: &Cx<'a>) -> R<V<'a>> {
    let is = |t: &str| match ty {
        Type::Array => t.starts_with('['),
        Type::Map => t.starts_with('{'),
        _ => true,
    };
    match v {
        V::Json(t) if is(t) => Ok(v),
        V::Split(..) if ty == Type::Map => Ok(v),
        V::Split(..) | V::Time(_) if ty == Type::Json => {
            let mut out = vec![];
            millrace_sdk::json::write_val(v.to_val(cx.pool), &mut out);
            let t = cx.pool.keep(String::from_utf8(out).unwrap_or_default());
            Ok(if t.starts_with('{') { V::Json(t) } else { V::Str(t.trim_matches('"')) })
        }
        V::Str(t) => match convert::json_value(t.trim_ascii(), cx.pool.string()) {
            Some(Val::Json(j)) if is(j) => Ok(V::Json(j)),
            Some(scalar) if ty == Type::Json => Ok(scalar.into()),
            _ => refuse(v, ty, cx),
        },
        V::Bool(_) | V::Int(_) | V::Float(_) | V::Num(_) | V::Dec(..) if ty == Type::Json => Ok(v),
        v => refuse(v, ty, cx),
    }
}
