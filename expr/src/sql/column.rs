//! Evaluation of all rows of a batch at once: one decision a node instead of one a row.
//!
//! What a column says of a row is what [`Node::val`] gives for it, or nothing: whatever is not common (an error above all) is
//! [`Unknown`](Found::Unknown), and the row is evaluated by itself. So columns need no errors, and a part that a row would not have evaluated
//! may be evaluated all the same, provided that it costs little.

use super::node::{Cmp, Const, Cx, Kind, Node, Settings, field};
use super::pool::Pool;
use super::value::{self, Op, V};
use crate::function::characters;
use millrace_sdk::json::{self, plain_integer};
use millrace_sdk::{Batch, Cell, Columns, Slot, Strings, Type, Val, convert, same_text};
use std::ops::Range;

/// What is known of a row's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<T> {
    Value(T),
    Null,
    /// To be asked of the row itself.
    Unknown,
}

impl<T> From<Option<T>> for Found<T> {
    #[inline(always)]
    fn from(found: Option<T>) -> Found<T> {
        found.map_or(Found::Unknown, Found::Value)
    }
}

impl<T> Found<T> {
    #[inline(always)]
    fn then<U>(self, f: impl FnOnce(T) -> Found<U>) -> Found<U> {
        match self {
            Found::Value(v) => f(v),
            Found::Null => Found::Null,
            Found::Unknown => Found::Unknown,
        }
    }
}

/// One value a row.
pub struct Column<T>(pub Vec<Found<T>>);

impl<T: Copy> Column<T> {
    #[inline(always)]
    fn map<U>(&self, f: impl Fn(T) -> Found<U>) -> Column<U> {
        Column(self.0.iter().map(|v| v.then(&f)).collect())
    }

    /// Null where one of them is, and unknown where one of them is.
    #[inline(always)]
    fn zip<B: Copy, U>(&self, other: &Column<B>, f: impl Fn(T, B) -> Found<U>) -> Column<U> {
        let both = self.0.iter().zip(&other.0).map(|(a, b)| match (*a, *b) {
            (Found::Value(a), Found::Value(b)) => f(a, b),
            (Found::Unknown, _) | (_, Found::Unknown) => Found::Unknown,
            _ => Found::Null,
        });
        Column(both.collect())
    }
}

/// What an evaluation works on.
pub struct Rows<'a> {
    pub batch: &'a Batch,
    /// These rows of the batch.
    pub rows: Range<usize>,
    pub pool: &'a Pool,
    pub settings: &'a Settings,
}

impl<'a> Rows<'a> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// What the `i`th of the rows is evaluated by.
    #[inline]
    fn cx(&self, i: usize) -> Cx<'a> {
        Cx { row: self.batch.row(self.rows.start + i), pool: self.pool, accs: &[], settings: self.settings }
    }

    #[inline(always)]
    fn field<T>(&self, slot: Slot, f: impl Fn(Val<'a>) -> Found<T>) -> Column<T> {
        Column(self.batch.column(slot, self.rows.clone()).map(|v| if v.is_null() { Found::Null } else { f(v) }).collect())
    }

    fn constant<T: Copy>(&self, value: T) -> Column<T> {
        Column(vec![Found::Value(value); self.len()])
    }
}

impl<'a> Rows<'a> {
    /// What `f` makes of a field's strings.
    #[inline(always)]
    fn strings<T>(&self, slot: Slot, f: impl Fn(&'a str) -> Found<T>) -> Column<T> {
        let found = self.batch.strings(slot, self.rows.clone()).map(|t| match t {
            Strings::Clean(t) | Strings::Text(t) => f(t),
            Strings::Null => Found::Null,
            Strings::Other => Found::Unknown,
        });
        Column(found.collect())
    }
}

/// A scalar kind that has columns of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Int,
    Float,
    Text,
    Truth,
}

impl Node {
    /// What the node's values are, if they are nothing else.
    fn of(&self) -> Option<Of> {
        let typed = |ty: Type| match ty {
            Type::Bigint => Some(Of::Int),
            Type::Double => Some(Of::Float),
            Type::String => Some(Of::Text),
            Type::Boolean => Some(Of::Truth),
            _ => None,
        };
        match self {
            Node::Const(Const::Int(_)) | Node::Arith(_, Kind::Int, _) | Node::Length(..) => Some(Of::Int),
            Node::Const(Const::Float(_)) | Node::Arith(_, Kind::Float, _) => Some(Of::Float),
            Node::Const(Const::Str(_)) | Node::Concat(_) | Node::Part(..) => Some(Of::Text),
            Node::Field(_, ty) | Node::Cast(_, ty) => typed(*ty),
            Node::Whole(_, n) => n.of().filter(|of| matches!(of, Of::Int | Of::Float)),
            Node::Case(arms, other) => {
                let of = other.of()?;
                arms.iter().all(|(_, result)| result.of() == Some(of)).then_some(of)
            }
            Node::Coalesce(all) => {
                let of = all.first()?.of()?;
                all.iter().all(|n| n.of() == Some(of)).then_some(of)
            }
            Node::FieldCompare(..) | Node::Compare(..) | Node::And(_) | Node::Or(_) | Node::Not(_) | Node::IsNull(_) => Some(Of::Truth),
            Node::Between(_) | Node::InTexts(..) | Node::Like(..) => Some(Of::Truth),
            _ => None,
        }
    }

    /// Whether it costs little to evaluate it for rows that have no use for it.
    fn is_light(&self) -> bool {
        match self {
            Node::Const(_) | Node::Field(..) | Node::Length(..) | Node::FieldCompare(..) => true,
            Node::Arith(_, Kind::Int | Kind::Float, ab) | Node::Compare(_, ab) => ab.iter().all(Node::is_light),
            Node::Not(n) | Node::IsNull(n) | Node::InTexts(n, ..) | Node::Whole(_, n) => n.is_light(),
            Node::Cast(n, Type::Bigint | Type::Double) => n.is_light(),
            Node::Part(_, call) => call.first().is_light(),
            Node::And(all) | Node::Or(all) | Node::Coalesce(all) => all.iter().all(Node::is_light),
            Node::Case(arms, other) => arms.iter().all(|(c, r)| c.is_light() && r.is_light()) && other.is_light(),
            _ => false,
        }
    }

    /// A call's first argument.
    fn first(&self) -> &Node {
        match self {
            Node::Call { args, .. } if let Some(first) = args.first() => first,
            n => n,
        }
    }

    fn ints<'a>(&'a self, rows: &Rows<'a>) -> Column<i64> {
        match self {
            Node::Const(Const::Int(i)) => rows.constant(*i),
            Node::Field(slot, Type::Bigint) => ints_of(*slot, rows),
            Node::Arith(op, Kind::Int, ab) => {
                let (a, b) = (ab[0].ints(rows), ab[1].ints(rows));
                match op {
                    Op::Add => a.zip(&b, |a, b| a.checked_add(b).into()),
                    Op::Mul => a.zip(&b, |a, b| a.checked_mul(b).into()),
                    op => a.zip(&b, |a, b| value::checked_int(*op, a, b).into()),
                }
            }
            Node::Cast(n, Type::Bigint) => match n.of() {
                Some(Of::Text) => n.of_text(rows, |t| convert::bigint(t).into()),
                Some(Of::Int) => n.ints(rows),
                _ => self.each(rows, as_int),
            },
            Node::Length(slot, _) => rows.strings(*slot, |t| Found::Value(characters(t) as i64)),
            Node::Whole(_, n) if n.of() == Some(Of::Int) => n.ints(rows),
            Node::Case(arms, other) if self.is_light() => case(arms, other, rows, |n| n.ints(rows)),
            Node::Coalesce(all) if self.is_light() => coalesce(all, |n| n.ints(rows)),
            _ => self.each(rows, as_int),
        }
    }

    fn floats<'a>(&'a self, rows: &Rows<'a>) -> Column<f64> {
        match self {
            Node::Const(Const::Float(f)) => rows.constant(*f),
            Node::Field(slot, Type::Double) => rows.field(*slot, |v| match v {
                Val::Float(f) => Found::Value(f),
                Val::Int(i) => Found::Value(i as f64),
                Val::Num(t) => match json::number(t.as_bytes()) {
                    json::Number::Float(f) if t.len() < 18 => Found::Value(f),
                    json::Number::Int(i) => Found::Value(i as f64),
                    _ => Found::Unknown,
                },
                _ => Found::Unknown,
            }),
            Node::Arith(op, Kind::Float, ab) => {
                let (a, b) = (ab[0].widened(rows), ab[1].widened(rows));
                a.zip(&b, |a, b| value::float_op(*op, a, b).ok().into())
            }
            Node::Cast(n, Type::Double) => match n.of() {
                Some(Of::Text) => n.of_text(rows, |t| convert::double(t).into()),
                Some(Of::Int | Of::Float) => n.widened(rows),
                _ => self.each(rows, as_float),
            },
            Node::Whole(up, n) if n.of() == Some(Of::Float) => n.floats(rows).map(|f| Found::Value(value::whole(f, *up))),
            Node::Case(arms, other) if self.is_light() => case(arms, other, rows, |n| n.floats(rows)),
            Node::Coalesce(all) if self.is_light() => coalesce(all, |n| n.floats(rows)),
            _ => self.each(rows, as_float),
        }
    }

    /// What `f` makes of the node's texts; a field's are looked at where they lie.
    #[inline(always)]
    fn of_text<'a, T>(&'a self, rows: &Rows<'a>, f: impl Fn(&'a str) -> Found<T>) -> Column<T> {
        match self {
            Node::Field(slot, _) => rows.strings(*slot, f),
            n => n.texts(rows).map(f),
        }
    }

    /// Any numbers as doubles.
    fn widened<'a>(&'a self, rows: &Rows<'a>) -> Column<f64> {
        match self.of() {
            Some(Of::Float) => self.floats(rows),
            Some(Of::Int) => self.ints(rows).map(|i| Found::Value(i as f64)),
            _ => self.values(rows).map(|v| v.float().ok().into()),
        }
    }

    fn texts<'a>(&'a self, rows: &Rows<'a>) -> Column<&'a str> {
        match self {
            Node::Const(Const::Str(t)) => rows.constant(&**t),
            Node::Field(slot, _) => rows.strings(*slot, Found::Value),
            Node::Part(part, call) if call.first().of() == Some(Of::Text) => call.first().of_text(rows, |t| Found::Value(part.of(t))),
            Node::Cast(n, Type::String) if n.of() == Some(Of::Text) => n.texts(rows),
            Node::Case(arms, other) if self.is_light() => case(arms, other, rows, |n| n.texts(rows)),
            Node::Coalesce(all) if self.is_light() => coalesce(all, |n| n.texts(rows)),
            _ => self.each(rows, |v| if let V::Str(t) = v { Found::Value(t) } else { Found::Unknown }),
        }
    }

    fn truths<'a>(&'a self, rows: &Rows<'a>) -> Column<bool> {
        match self {
            Node::FieldCompare(slot, Type::String | Type::Any, op, Const::Str(c)) => match op {
                Cmp::Eq => rows.strings(*slot, |t| Found::Value(same_text(t, c))),
                Cmp::Ne => rows.strings(*slot, |t| Found::Value(!same_text(t, c))),
                op => rows.strings(*slot, |t| Found::Value(op.holds(t.cmp(c)))),
            },
            Node::FieldCompare(slot, Type::Bigint | Type::Any, op, Const::Int(c)) => {
                ints_of(*slot, rows).map(|i| Found::Value(op.holds(i.cmp(c))))
            }
            Node::Compare(op, ab) => compare(*op, &ab[0], &ab[1], rows),
            Node::Between(abc) if abc[2].is_light() => {
                let (low, high) = (compare(Cmp::Ge, &abc[0], &abc[1], rows), compare(Cmp::Le, &abc[0], &abc[2], rows));
                both(low, high, true)
            }
            Node::And(all) | Node::Or(all) if all[1..].iter().all(Node::is_light) => {
                let and = matches!(self, Node::And(_));
                all.iter().map(|n| n.truths(rows)).reduce(|a, b| both(a, b, and)).unwrap_or_else(|| rows.constant(and))
            }
            Node::Not(n) => n.truths(rows).map(|b| Found::Value(!b)),
            Node::IsNull(n) => {
                let is_null = |found| match found {
                    Found::Unknown => Found::Unknown,
                    found => Found::Value(found == Found::Null),
                };
                match &**n {
                    Node::Field(slot, _) => {
                        Column(rows.batch.column(*slot, rows.rows.clone()).map(|v| Found::Value(v.is_null())).collect())
                    }
                    n => Column(n.values(rows).0.into_iter().map(|v| is_null(v.then(|_| Found::Value(())))).collect()),
                }
            }
            Node::InTexts(n, set, null) => n.of_text(rows, |t| match set.contains(t) {
                false if *null => Found::Null,
                is => Found::Value(is),
            }),
            Node::Like(n, like) => n.of_text(rows, |t| Found::Value(like.matches(t))),
            _ => self.each(rows, |v| if let V::Bool(b) = v { Found::Value(b) } else { Found::Unknown }),
        }
    }

    /// Values of any kind.
    fn values<'a>(&'a self, rows: &Rows<'a>) -> Column<V<'a>> {
        match (self.of(), self) {
            (_, Node::Const(c)) => match c.view() {
                V::Null => Column(vec![Found::Null; rows.len()]),
                v => rows.constant(v),
            },
            (Some(Of::Int), _) => self.ints(rows).map(|i| Found::Value(V::Int(i))),
            (Some(Of::Float), _) => self.floats(rows).map(|f| Found::Value(V::Float(f))),
            (Some(Of::Text), _) => self.texts(rows).map(|t| Found::Value(V::Str(t))),
            (Some(Of::Truth), _) => self.truths(rows).map(|b| Found::Value(V::Bool(b))),
            (None, Node::Field(slot, ty)) => {
                let found = (0..rows.len()).map(|i| match field(&rows.cx(i), *slot, *ty) {
                    Ok(V::Null) => Found::Null,
                    v => v.ok().into(),
                });
                Column(found.collect())
            }
            (None, n) => n.each(rows, Found::Value),
        }
    }

    /// A call with columns for arguments, or whatever it is, row by row.
    #[inline(always)]
    fn each<'a, T>(&'a self, rows: &Rows<'a>, pick: impl Fn(V<'a>) -> Found<T>) -> Column<T> {
        let found = |v: value::R<V<'a>>| match v {
            Ok(V::Null) => Found::Null,
            Ok(v) => pick(v),
            Err(_) => Found::Unknown,
        };
        let node = if let Node::Part(_, call) = self { &**call } else { self };
        let Node::Call { call, args, prepared, strict } = node else {
            return Column((0..rows.len()).map(|i| found(self.val(&rows.cx(i)))).collect());
        };
        let columns: Vec<_> = args.iter().map(|arg| arg.values(rows)).collect();
        let mut values = vec![V::Null; args.len()];
        let mut one = |i: usize| {
            let mut null = false;
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = match column.0[i] {
                    Found::Value(v) => v,
                    Found::Null => V::Null,
                    Found::Unknown => return Found::Unknown,
                };
                null |= value.is_null();
            }
            if null && *strict { Found::Null } else { found(call(&values, &rows.cx(i), prepared)) }
        };
        Column((0..rows.len()).map(&mut one).collect())
    }
}

fn as_int(v: V<'_>) -> Found<i64> {
    if let V::Int(i) = v { Found::Value(i) } else { Found::Unknown }
}

fn as_float(v: V<'_>) -> Found<f64> {
    if let V::Float(f) = v { Found::Value(f) } else { Found::Unknown }
}

fn ints_of(slot: Slot, rows: &Rows<'_>) -> Column<i64> {
    rows.field(slot, |v| match v {
        Val::Int(i) => Found::Value(i),
        Val::Num(t) => match json::number(t.as_bytes()) {
            json::Number::Int(i) => Found::Value(i),
            _ => Found::Unknown,
        },
        _ => Found::Unknown,
    })
}

fn compare<'a>(op: Cmp, a: &'a Node, b: &'a Node, rows: &Rows<'a>) -> Column<bool> {
    match (a.of(), b.of()) {
        (Some(Of::Int), Some(Of::Int)) => a.ints(rows).zip(&b.ints(rows), |a, b| Found::Value(op.holds(a.cmp(&b)))),
        (Some(Of::Text), Some(Of::Text)) => a.texts(rows).zip(&b.texts(rows), |a, b| Found::Value(op.holds(a.cmp(b)))),
        _ => a.values(rows).zip(&b.values(rows), |a, b| match value::compare(a, b) {
            Ok(Some(o)) => Found::Value(op.holds(o)),
            _ => Found::Unknown,
        }),
    }
}

/// AND, or OR, of three values; what is unknown matters only where the first one does not decide.
fn both(a: Column<bool>, b: Column<bool>, and: bool) -> Column<bool> {
    let both = a.0.iter().zip(&b.0).map(|(a, b)| match (*a, *b) {
        (Found::Unknown, _) => Found::Unknown,
        (Found::Value(a), _) if a != and => Found::Value(a),
        (_, Found::Unknown) => Found::Unknown,
        (_, Found::Value(b)) if b != and => Found::Value(b),
        (Found::Value(_), Found::Value(_)) => Found::Value(and),
        _ => Found::Null,
    });
    Column(both.collect())
}

/// The result of the first condition that is true: from the last one to the first, each true one takes over.
#[inline(always)]
fn case<'a, T: Copy>(arms: &'a [(Node, Node)], other: &'a Node, rows: &Rows<'a>, of: impl Fn(&'a Node) -> Column<T>) -> Column<T> {
    let mut all = of(other);
    for (condition, result) in arms.iter().rev() {
        let (holds, results) = (condition.truths(rows), of(result));
        for ((value, holds), result) in all.0.iter_mut().zip(holds.0).zip(results.0) {
            match holds {
                Found::Value(true) => *value = result,
                Found::Value(false) | Found::Null => {}
                Found::Unknown => *value = Found::Unknown,
            }
        }
    }
    all
}

#[inline(always)]
fn coalesce<'a, T: Copy>(nodes: &'a [Node], of: impl Fn(&'a Node) -> Column<T>) -> Column<T> {
    let mut columns = nodes.iter().map(of).rev();
    let mut all = columns.next().expect("it has an argument");
    for first in columns {
        for (value, first) in all.0.iter_mut().zip(first.0) {
            if !matches!(first, Found::Null) {
                *value = first;
            }
        }
    }
    all
}

/// Fills a field with the values of an expression of type `ty`, as `wanted`, as far as columns have them.
pub fn fill<'a>(node: &'a Node, ty: Type, wanted: Type, rows: &Rows<'a>, columns: &mut Columns<'_>, to: Slot) {
    macro_rules! fill {
        ($column:expr, $cell:expr) => {{
            let (column, cell) = ($column, $cell);
            let cells = column.0.iter().map(|found| match *found {
                Found::Value(v) => cell(v),
                Found::Null => Cell::Null,
                Found::Unknown => Cell::Later,
            });
            columns.fill(to, cells)
        }};
    }
    match (ty, wanted) {
        (Type::Bigint, Type::Bigint) => fill!(node.ints(rows), Cell::Int),
        (Type::Double, Type::Double) => fill!(node.floats(rows), Cell::Float),
        (Type::Double, Type::Bigint) => fill!(node.floats(rows), |f: f64| match f as i64 as f64 == f && f.abs() < 9e15 {
            true => Cell::Int(f as i64),
            false => Cell::Later,
        }),
        (Type::Boolean, Type::Boolean) => fill!(node.truths(rows), Cell::Bool),
        (Type::String, Type::String) => fill!(node.texts(rows), Cell::Text),
        (Type::String, Type::Bigint) => fill!(node.texts(rows), |t: &'a str| match plain_integer(t.as_bytes()) {
            true => Cell::Num(t),
            false => Cell::Later,
        }),
        _ => columns.leave(),
    }
}

/// Fills a field with another one, as `wanted`: text that is an integer as JSON writes it stays where it is.
pub fn fill_field(slot: Slot, wanted: Type, columns: &mut Columns<'_>, to: Slot) {
    if wanted != Type::Bigint {
        return columns.leave();
    }
    let cells = columns.batch().column(slot, columns.rows()).map(|v| match v {
        Val::Str(t) if plain_integer(t.as_bytes()) => Cell::Num(t),
        Val::Int(i) => Cell::Int(i),
        _ => Cell::Later,
    });
    columns.fill(to, cells);
}

/// The values of a condition.
pub fn truths<'a>(node: &'a Node, rows: &Rows<'a>) -> Column<bool> {
    node.truths(rows)
}
