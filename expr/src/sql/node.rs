//! The compiled program: a tree of nodes over slots.

use super::cast::cast;
use super::like::Like;
use super::pool::Pool;
use super::time::shift;
use super::value::{self, Op, R, V};
use crate::EvalError;
use crate::function::{Call, Part, Prepared, characters};
use ahash::AHashSet;
use jiff::tz::TimeZone;
use millrace_sdk::convert;
use millrace_sdk::reached::{Reached, Rows};
use millrace_sdk::{Access, Decimal, Record, Slot, Type, Val, Value, json, same_text};
use std::cmp::Ordering;

/// What the job says about evaluation.
#[derive(Clone)]
pub struct Settings {
    pub zone: TimeZone,
    /// Errors become NULL.
    pub null_on_error: bool,
    pub reached: Option<Reached>,
}

/// What an evaluation works on.
pub struct Cx<'a> {
    pub row: Record<'a>,
    pub pool: &'a Pool,
    /// Results of aggregates, in an expression that combines them.
    pub accs: &'a [V<'a>],
    pub settings: &'a Settings,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Const {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Dec(Decimal),
    Time(i64),
    Str(Box<str>),
    Bytes(Box<[u8]>),
    Num(Box<str>),
    Json(Box<str>),
}

impl Const {
    #[inline]
    pub fn view(&self) -> V<'_> {
        match self {
            Const::Null => V::Null,
            Const::Bool(b) => V::Bool(*b),
            Const::Int(i) => V::Int(*i),
            Const::Float(f) => V::Float(*f),
            Const::Dec(d) => V::dec(*d),
            Const::Time(t) => V::Time(*t),
            Const::Str(t) => V::Str(t),
            Const::Bytes(b) => V::Bytes(b),
            Const::Num(t) => V::Num(t),
            Const::Json(t) => V::Json(t),
        }
    }

    pub fn of(v: V<'_>) -> Option<Const> {
        Some(match v {
            V::Null => Const::Null,
            V::Bool(b) => Const::Bool(b),
            V::Int(i) => Const::Int(i),
            V::Float(f) => Const::Float(f),
            V::Dec(hi, lo, s) => Const::Dec(value::decimal(hi, lo, s)),
            V::Time(t) => Const::Time(t),
            V::Str(t) => Const::Str(t.into()),
            V::Bytes(b) => Const::Bytes(b.into()),
            V::Num(t) => Const::Num(t.into()),
            V::Json(t) => Const::Json(t.into()),
            V::Split(..) => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Cmp {
    #[inline]
    pub fn holds(self, o: Ordering) -> bool {
        match self {
            Cmp::Eq => o.is_eq(),
            Cmp::Ne => o.is_ne(),
            Cmp::Lt => o.is_lt(),
            Cmp::Le => o.is_le(),
            Cmp::Gt => o.is_gt(),
            Cmp::Ge => o.is_ge(),
        }
    }

    pub fn flipped(self) -> Cmp {
        match self {
            Cmp::Lt => Cmp::Gt,
            Cmp::Le => Cmp::Ge,
            Cmp::Gt => Cmp::Lt,
            Cmp::Ge => Cmp::Le,
            c => c,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    And,
    Or,
    Xor,
    Left,
    Right,
}

/// How an arithmetic node computes, by the types of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Float,
    /// Exact, with the scale of the result.
    Dec(u8),
    /// Decided at run time.
    Any,
}

/// A set of texts.
pub enum Texts {
    /// So few that looking at each is quicker than hashing.
    Few(Box<[Box<str>]>),
    Many(AHashSet<Box<str>>),
}

impl Texts {
    pub fn new(texts: Vec<Box<str>>) -> Texts {
        if texts.len() <= 8 { Texts::Few(texts.into()) } else { Texts::Many(texts.into_iter().collect()) }
    }

    #[inline]
    pub fn contains(&self, text: &str) -> bool {
        match self {
            Texts::Few(all) => all.iter().any(|t| same_text(t, text)),
            Texts::Many(set) => set.contains(text),
        }
    }
}

pub enum Node {
    Const(Const),
    Field(Slot, Type),
    Path(Access),
    /// The result of an aggregate.
    Acc(usize),
    Arith(Op, Kind, Box<[Node; 2]>),
    Neg(Box<Node>),
    Bits(Bits, Box<[Node; 2]>),
    Compare(Cmp, Box<[Node; 2]>),
    /// A field with a constant: the commonest condition.
    FieldCompare(Slot, Type, Cmp, Const),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    /// `IS TRUE`, `IS FALSE`, `IS UNKNOWN`.
    Is(Option<bool>, Box<Node>),
    /// `IS NOT DISTINCT FROM`.
    Same(Box<[Node; 2]>),
    Between(Box<[Node; 3]>),
    In(Box<Node>, Box<[Node]>),
    /// `IN` over string constants; whether NULL is among them.
    InTexts(Box<Node>, Texts, bool),
    Like(Box<Node>, Box<Like>),
    /// `LIKE` with a pattern that is no constant: text, pattern, escape, ignoring case.
    LikeBy(Box<[Node; 2]>, Option<char>, bool),
    /// Conditions and results, then ELSE.
    Case(Box<[(Node, Node)]>, Box<Node>),
    /// The operand, values and results, then ELSE.
    CaseOf(Box<Node>, Box<[(Node, Node)]>, Box<Node>),
    /// A result of a CASE, with the count of rows that take it: where coverage is asked for.
    Seen(Rows, Box<Node>),
    Coalesce(Box<[Node]>),
    NullIf(Box<[Node; 2]>),
    Cast(Box<Node>, Type),
    TryCast(Box<Node>, Type),
    Concat(Box<[Node]>),
    /// A key of a map, an element of an array counted from 1.
    Index(Box<[Node; 2]>),
    /// Months, then microseconds, added to a timestamp.
    Shift(Box<Node>, i64, i64),
    /// `floor` and `ceil`, apart from other calls as they are in every rounding of money.
    Whole(bool, Box<Node>),
    /// Characters of a field; the call does what is no text.
    Length(Slot, Box<Node>),
    /// A call that gives a part of its first argument, told by constants: columns need no call for it.
    Part(Part, Box<Node>),
    Call {
        call: Call,
        args: Box<[Node]>,
        prepared: Box<Prepared>,
        strict: bool,
    },
}

impl Node {
    pub fn null() -> Node {
        Node::Const(Const::Null)
    }

    /// The value; what fails is NULL where the job wants it so.
    #[inline]
    pub fn val<'a>(&'a self, cx: &Cx<'a>) -> R<V<'a>> {
        match self {
            Node::Const(c) => Ok(c.view()),
            Node::Field(slot, ty) => field(cx, *slot, *ty).or_else(|e| forgive(cx, e, V::Null)),
            _ => self.compute(cx).or_else(|e| forgive(cx, e, V::Null)),
        }
    }

    fn compute<'a>(&'a self, cx: &Cx<'a>) -> R<V<'a>> {
        match self {
            Node::Const(c) => Ok(c.view()),
            Node::Field(slot, ty) => field(cx, *slot, *ty),
            Node::Arith(op, kind, ab) => match kind {
                Kind::Float => Ok(float_arith(*op, ab, cx)?.map_or(V::Null, V::Float)),
                Kind::Int => match (ab[0].int(&cx.row), ab[1].int(&cx.row)) {
                    (Some(a), Some(b)) => value::int_op(*op, a, b).map(V::Int),
                    _ => value::any_op(*op, ab[0].val(cx)?, ab[1].val(cx)?),
                },
                Kind::Any => value::any_op(*op, ab[0].val(cx)?, ab[1].val(cx)?),
                Kind::Dec(scale) => exact(*op, *scale, ab, cx),
            },
            Node::Case(arms, other) => {
                for (condition, result) in arms {
                    if condition.truth(cx)? == Some(true) {
                        return result.val(cx);
                    }
                }
                other.val(cx)
            }
            Node::Coalesce(all) => {
                for n in all {
                    let v = n.val(cx)?;
                    if !v.is_null() {
                        return Ok(v);
                    }
                }
                Ok(V::Null)
            }
            Node::Cast(n, ty) => match (n.val(cx)?, ty) {
                (v @ V::Str(t), Type::Bigint) => match convert::bigint(t) {
                    Some(i) => Ok(V::Int(i)),
                    None => cast(v, Type::Bigint, cx),
                },
                (v, ty) => cast(v, *ty, cx),
            },
            Node::Whole(up, n) => match n.val(cx)? {
                V::Float(f) => Ok(V::Float(value::whole(f, *up))),
                V::Null => Ok(V::Null),
                v => match v.number() {
                    Some(value::Num::Int(i)) => Ok(V::Int(i)),
                    Some(value::Num::Float(f)) => Ok(V::Float(value::whole(f, *up))),
                    Some(value::Num::Dec(d)) => Ok(V::dec(if *up { d.ceil() } else { d.floor() })),
                    None => v.not_a("a number"),
                },
            },
            Node::Length(slot, call) => match cx.row.str(*slot) {
                Some(t) => Ok(V::Int(characters(t) as i64)),
                None => call.val(cx),
            },
            Node::Part(_, call) => call.val(cx),
            Node::Call { call, args, prepared, strict } => call_function(*call, args, prepared, *strict, cx),
            _ => self.compute_rare(cx),
        }
    }

    // Apart from the others, which are in most rows: all arms together make every call save many registers.
    #[inline(never)]
    fn compute_rare<'a>(&'a self, cx: &Cx<'a>) -> R<V<'a>> {
        match self {
            Node::Seen(rows, result) => {
                rows.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                result.val(cx)
            }
            Node::Path(access) => Ok(json::lookup(cx.row.get(access.slot), &access.rest, cx.pool.string()).into()),
            Node::Acc(i) => Ok(cx.accs[*i]),
            Node::Neg(a) => match a.val(cx)? {
                V::Null => Ok(V::Null),
                v => match v.number() {
                    Some(value::Num::Int(i)) => match i.checked_neg() {
                        Some(i) => Ok(V::Int(i)),
                        None => value::overflow(format_args!("-({i})")),
                    },
                    Some(value::Num::Float(f)) => Ok(V::Float(-f)),
                    Some(value::Num::Dec(d)) => Ok(d.checked_neg().map_or(V::Null, V::dec)),
                    None => v.not_a("a number"),
                },
            },
            Node::Bits(op, ab) => {
                let (a, b) = (ab[0].val(cx)?, ab[1].val(cx)?);
                if a.is_null() || b.is_null() {
                    return Ok(V::Null);
                }
                let (a, b) = (a.int()?, b.int()?);
                let shift = |f: fn(i64, u32) -> Option<i64>| u32::try_from(b).ok().and_then(|n| f(a, n)).unwrap_or(0);
                Ok(V::Int(match op {
                    Bits::And => a & b,
                    Bits::Or => a | b,
                    Bits::Xor => a ^ b,
                    Bits::Left => shift(i64::checked_shl),
                    Bits::Right => shift(i64::checked_shr),
                }))
            }
            Node::CaseOf(operand, arms, other) => {
                let v = operand.val(cx)?;
                for (candidate, result) in arms {
                    if value::compare(v, candidate.val(cx)?)? == Some(Ordering::Equal) {
                        return result.val(cx);
                    }
                }
                other.val(cx)
            }
            Node::NullIf(ab) => {
                let a = ab[0].val(cx)?;
                Ok(if value::compare(a, ab[1].val(cx)?)? == Some(Ordering::Equal) { V::Null } else { a })
            }
            Node::TryCast(n, ty) => Ok(cast(n.val(cx)?, *ty, cx).unwrap_or(V::Null)),
            Node::Concat(parts) => {
                let out = cx.pool.string();
                for p in parts {
                    match p.val(cx)? {
                        V::Null => return Ok(V::Null),
                        v => v.write(out)?,
                    }
                }
                Ok(V::Str(out))
            }
            Node::Index(ab) => index(ab[0].val(cx)?, ab[1].val(cx)?, cx.pool),
            Node::Shift(n, months, micros) => match n.val(cx)? {
                V::Null => Ok(V::Null),
                v => shift(v.time()?, *months, *micros, &cx.settings.zone).map(V::Time),
            },
            _ => Ok(self.truth(cx)?.map_or(V::Null, V::Bool)),
        }
    }

    /// A bigint, where it is at hand; None says nothing.
    #[inline]
    pub fn int(&self, row: &Record<'_>) -> Option<i64> {
        match self {
            Node::Const(Const::Int(i)) => Some(*i),
            Node::Field(slot, _) => int_field(row, *slot),
            Node::Arith(op, Kind::Int, ab) => value::checked_int(*op, ab[0].plain_int(row)?, ab[1].plain_int(row)?),
            Node::Cast(n, Type::Bigint) => match **n {
                Node::Field(slot, _) => match row.get(slot) {
                    Val::Str(t) => convert::bigint(t),
                    _ => int_field(row, slot),
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// As [`int`](Self::int), looking into no nodes within.
    #[inline]
    fn plain_int(&self, row: &Record<'_>) -> Option<i64> {
        match self {
            Node::Const(Const::Int(i)) => Some(*i),
            Node::Field(slot, _) => int_field(row, *slot),
            _ => self.int_within(row),
        }
    }

    #[inline(never)]
    fn int_within(&self, row: &Record<'_>) -> Option<i64> {
        self.int(row)
    }

    /// The value as a double.
    #[inline]
    pub fn float<'a>(&'a self, cx: &Cx<'a>) -> R<Option<f64>> {
        match self {
            Node::Const(Const::Float(f)) => return Ok(Some(*f)),
            Node::Field(slot, _) => match cx.row.raw(*slot) {
                Value::Float(f) => return Ok(Some(f)),
                Value::Num(span) => {
                    if let json::Number::Float(f) = json::number(cx.row.bytes(span)) {
                        return Ok(Some(f));
                    }
                }
                _ => {}
            },
            Node::Arith(op, Kind::Float, ab) => return float_arith(*op, ab, cx).or_else(|e| forgive(cx, e, None)),
            _ => {}
        }
        match self.val(cx)? {
            V::Float(f) => Ok(Some(f)),
            V::Null => Ok(None),
            v => v.float().map(Some).or_else(|e| forgive(cx, e, None)),
        }
    }

    /// The value, quickly where it is a field's text.
    #[inline]
    fn text<'a>(&'a self, cx: &Cx<'a>) -> R<V<'a>> {
        match self {
            Node::Field(slot, _) if let Some(t) = cx.row.str(*slot) => Ok(V::Str(t)),
            n => n.val(cx),
        }
    }

    /// The value as a condition; None is unknown.
    #[inline]
    pub fn truth<'a>(&'a self, cx: &Cx<'a>) -> R<Option<bool>> {
        self.condition(cx).or_else(|e| forgive(cx, e, None))
    }

    fn condition<'a>(&'a self, cx: &Cx<'a>) -> R<Option<bool>> {
        match self {
            Node::FieldCompare(slot, ty, op, c) => match (cx.row.get(*slot), c) {
                (Val::Str(s), Const::Str(c)) => Ok(Some(match op {
                    Cmp::Eq => s == &**c,
                    Cmp::Ne => s != &**c,
                    op => op.holds(s.cmp(c)),
                })),
                (Val::Int(a), Const::Int(b)) => Ok(Some(op.holds(a.cmp(b)))),
                _ => Ok(value::compare(field(cx, *slot, *ty)?, c.view())?.map(|o| op.holds(o))),
            },
            Node::Compare(op, ab) if let (Some(a), Some(b)) = (ab[0].counted(&cx.row), ab[1].counted(&cx.row)) => {
                Ok(Some(op.holds(a.cmp(&b))))
            }
            Node::Compare(op, ab) => Ok(value::compare(ab[0].val(cx)?, ab[1].val(cx)?)?.map(|o| op.holds(o))),
            Node::And(all) => {
                let mut unknown = false;
                for n in all {
                    match n.truth(cx)? {
                        Some(false) => return Ok(Some(false)),
                        None => unknown = true,
                        Some(true) => {}
                    }
                }
                Ok((!unknown).then_some(true))
            }
            Node::Or(all) => {
                let mut unknown = false;
                for n in all {
                    match n.truth(cx)? {
                        Some(true) => return Ok(Some(true)),
                        None => unknown = true,
                        Some(false) => {}
                    }
                }
                Ok((!unknown).then_some(false))
            }
            Node::Not(n) => Ok(n.truth(cx)?.map(|b| !b)),
            Node::IsNull(n) => Ok(Some(match &**n {
                Node::Field(slot, _) => cx.row.get(*slot).is_null(),
                n => n.val(cx)?.is_null(),
            })),
            Node::Is(want, n) => Ok(Some(n.truth(cx)? == *want)),
            Node::Same(ab) => {
                let (a, b) = (ab[0].val(cx)?, ab[1].val(cx)?);
                Ok(Some(match (a.is_null(), b.is_null()) {
                    (true, true) => true,
                    (false, false) => value::compare(a, b)? == Some(Ordering::Equal),
                    _ => false,
                }))
            }
            Node::Between(abc) => {
                let v = abc[0].val(cx)?;
                let low = value::compare(v, abc[1].val(cx)?)?.map(Ordering::is_ge);
                if low == Some(false) {
                    return Ok(low);
                }
                let high = value::compare(v, abc[2].val(cx)?)?.map(Ordering::is_le);
                Ok(match (low, high) {
                    (_, Some(false)) => high,
                    (None, _) | (_, None) => None,
                    _ => Some(true),
                })
            }
            Node::In(n, list) => {
                let v = n.val(cx)?;
                let mut unknown = false;
                for candidate in list {
                    match value::compare(v, candidate.val(cx)?)? {
                        Some(Ordering::Equal) => return Ok(Some(true)),
                        None => unknown = true,
                        _ => {}
                    }
                }
                Ok((!unknown).then_some(false))
            }
            Node::InTexts(n, set, null) => match n.text(cx)? {
                V::Str(t) if set.contains(t) => Ok(Some(true)),
                V::Str(_) => Ok((!null).then_some(false)),
                V::Null => Ok(None),
                v => value::fail("wrong-type", format!("{} cannot be compared with a string", v.kind())),
            },
            Node::Like(n, like) => match n.val(cx)? {
                V::Null => Ok(None),
                v => Ok(Some(like.matches(v.text()?))),
            },
            Node::LikeBy(ab, escape, fold) => {
                let (a, b) = (ab[0].val(cx)?, ab[1].val(cx)?);
                if a.is_null() || b.is_null() {
                    return Ok(None);
                }
                match Like::new(b.text()?, *escape, *fold) {
                    Ok(like) => Ok(Some(like.matches(a.text()?))),
                    Err(e) => value::fail("invalid-argument", e),
                }
            }
            n => n.compute(cx)?.truth(),
        }
    }

    /// A bigint that the row gives at once; None says nothing.
    #[inline]
    fn counted(&self, row: &Record<'_>) -> Option<i64> {
        match self {
            Node::Const(Const::Int(i)) => Some(*i),
            Node::Length(slot, _) => row.str(*slot).map(|t| characters(t) as i64),
            Node::Cast(n, Type::Bigint) => match **n {
                Node::Field(slot, _) => row.str(slot).and_then(convert::bigint),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn is_const(&self) -> bool {
        matches!(self, Node::Const(_))
    }
}

#[cold]
fn forgive<T>(cx: &Cx<'_>, e: Box<EvalError>, null: T) -> R<T> {
    if cx.settings.null_on_error { Ok(null) } else { Err(e) }
}

/// A field as its declared type says; numbers lie in a row as they were written.
#[inline]
pub fn field<'a>(cx: &Cx<'a>, slot: Slot, ty: Type) -> R<V<'a>> {
    let v = cx.row.get(slot);
    match (v, ty) {
        (Val::Num(t), Type::Bigint) => match json::int(t.as_bytes()) {
            Some(i) => Ok(V::Int(i)),
            None => value::fail("wrong-type", format!("expected a bigint, found {t}")),
        },
        (Val::Num(_) | Val::Int(_), Type::Double) => V::from(v).float().map(V::Float),
        (Val::Num(_) | Val::Int(_) | Val::Float(_), Type::Decimal(..)) => match millrace_sdk::convert::decimal(v) {
            Some(d) => Ok(V::dec(d)),
            None => value::fail("overflow", "a decimal has at most 38 digits"),
        },
        _ => Ok(v.into()),
    }
}

#[inline]
fn int_field(row: &Record<'_>, slot: Slot) -> Option<i64> {
    match row.raw(slot) {
        Value::Int(i) => Some(i),
        Value::Num(span) => match json::number(row.bytes(span)) {
            json::Number::Int(i) => Some(i),
            _ => None,
        },
        _ => None,
    }
}

fn float_arith<'a>(op: Op, ab: &'a [Node; 2], cx: &Cx<'a>) -> R<Option<f64>> {
    match (ab[0].float(cx)?, ab[1].float(cx)?) {
        (Some(a), Some(b)) => value::float_op(op, a, b).map(Some),
        _ => Ok(None),
    }
}

/// Decimal arithmetic.
#[inline(never)]
fn exact<'a>(op: Op, scale: u8, ab: &'a [Node; 2], cx: &Cx<'a>) -> R<V<'a>> {
    let (a, b) = (ab[0].val(cx)?, ab[1].val(cx)?);
    if a.is_null() || b.is_null() {
        return Ok(V::Null);
    }
    match (a.number().and_then(value::Num::exact), b.number().and_then(value::Num::exact)) {
        (Some(a), Some(b)) => value::decimal_op(op, a, b, Some(scale)).map(V::dec),
        _ => a.not_a("a decimal"),
    }
}

/// A map's value by key, an array's element by its number from 1 (from the end if negative); NULL where there is none.
pub fn index<'a>(base: V<'a>, at: V<'a>, pool: &'a Pool) -> R<V<'a>> {
    if base.is_null() || at.is_null() {
        return Ok(V::Null);
    }
    let step: Box<str> = match (base, at) {
        (V::Json(t), at) if t.starts_with('[') => {
            let i = at.int()?;
            let i = if i < 0 { i + json::members(t).count() as i64 } else { i - 1 };
            if i < 0 {
                return Ok(V::Null);
            }
            i.to_string().into()
        }
        (V::Json(_) | V::Split(..), V::Str(k)) => k.into(),
        (V::Json(_) | V::Split(..), at) => {
            let key = pool.string();
            at.write(key)?;
            key.as_str().into()
        }
        (b, _) => return b.not_a("a map or an array"),
    };
    Ok(json::lookup(base.to_val(pool), &[step], pool.string()).into())
}

/// Apart from the other nodes: its room for arguments would make every frame large.
#[inline(never)]
fn call_function<'a>(call: Call, args: &'a [Node], prepared: &'a Prepared, strict: bool, cx: &Cx<'a>) -> R<V<'a>> {
    let mut room = [V::Null; 4];
    let many;
    let values: &[V<'a>] = if args.len() <= room.len() {
        for (r, a) in room.iter_mut().zip(args) {
            *r = a.val(cx)?;
        }
        &room[..args.len()]
    } else {
        many = args.iter().map(|a| a.val(cx)).collect::<R<Vec<V<'a>>>>()?;
        &many
    };
    if strict && values.iter().any(|v| v.is_null()) {
        return Ok(V::Null);
    }
    call(values, cx, prepared)
}
