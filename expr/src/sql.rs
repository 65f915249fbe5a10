//! SQL scalar expressions.
//!
//! - Arithmetic of two bigints is checked; `/` of two bigints is a bigint, cut toward zero, and `%` has the dividend's sign, as in
//!   Flink. Decimals are exact, their result types those of Flink and SQL Server; a literal like `0.5` is a decimal. With a double
//!   everything is double.
//! - A value of undeclared type is taken as it turns up: a JSON number without fraction is a bigint, any other a double.
//! - Conditions have three values; NULL is not true. AND, OR, CASE, COALESCE and IF leave out what does not matter.
//! - `a[1]` is an array's first element; in a dotted path (`a.0.name`) and in JSON paths (`$.a[0]`) the first is 0, as JSON has it.
//! - Strings are never taken for numbers by themselves: CAST says so.

use crate::{EvalError, Issue, Scratch};
use check::{Compiler, Typed};
use column::{Found, Rows};
use jiff::tz::TimeZone;
use millrace_sdk::batch::AT_ONCE;
use millrace_sdk::operator::{Env, OnError};
use millrace_sdk::{Batch, BatchBuilder, Columns, Record, Schema, Slot, Type, Val};
use node::{Cx, Node, Settings};
use value::{R, V, decimal};

mod call;
mod cast;
pub(crate) mod check;
pub(crate) mod column;
mod condition;
pub(crate) mod like;
pub(crate) mod node;
mod parse;
pub(crate) mod pool;
#[cfg(test)]
mod tests;
pub(crate) mod time;
pub(crate) mod value;

/// A compiled expression over rows of one schema.
pub struct Expr {
    node: Node,
    ty: Type,
    settings: Settings,
    keeps: Option<Slot>,
}

impl Settings {
    pub(crate) fn new(env: &Env) -> Settings {
        // The planner has checked the zone's name.
        let zone = TimeZone::get(&env.time_zone).unwrap_or(TimeZone::UTC);
        Settings { zone, null_on_error: env.on_error == OnError::Null, reached: env.reached.clone() }
    }
}

thread_local! {
    static SCRATCH: std::cell::Cell<Option<Box<Scratch>>> = const { std::cell::Cell::new(None) };
}

/// A scratch of this thread.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

impl Expr {
    /// Names and paths that the expression reads; empty where it does not parse (compiling says why).
    pub fn fields(text: &str) -> Vec<String> {
        let settings = Settings { zone: TimeZone::UTC, null_on_error: false, reached: None };
        let mut c = Compiler::new(text, None, &settings);
        c.run();
        let mut seen = vec![];
        for name in c.seen {
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
        seen
    }

    /// # Errors
    /// All issues: syntax, unknown fields and functions (with suggestions), types that do not fit.
    pub fn compile(text: &str, schema: &Schema, env: &Env) -> Result<Expr, Vec<Issue>> {
        Expr::checked(text, schema, env, |_, typed| Some(typed))
    }

    /// What [`is_true`](Self::is_true) decides by: it must be a boolean, or of a type that is known at run time only.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn condition(text: &str, schema: &Schema, env: &Env) -> Result<Expr, Vec<Issue>> {
        Expr::checked(text, schema, env, |c, typed| c.boolean(typed))
    }

    fn checked(
        text: &str,
        schema: &Schema,
        env: &Env,
        check: impl FnOnce(&mut Compiler<'_>, Typed) -> Option<Typed>,
    ) -> Result<Expr, Vec<Issue>> {
        let settings = Settings::new(env);
        let mut c = Compiler::new(text, Some(schema), &settings);
        let Some(typed) = c.run().and_then(|typed| check(&mut c, typed)) else { return Err(c.issues) };
        let keeps = match typed.node {
            Node::Field(slot, _) => Some(slot),
            _ => None,
        };
        Ok(Expr { node: typed.node, ty: typed.ty, settings, keeps })
    }

    /// The type of what [`push`](Self::push) gives; `any` where it is known at run time only.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The slot, if the expression is nothing but a field: who rewrites a batch can keep its value.
    pub fn slot(&self) -> Option<Slot> {
        self.keeps
    }

    #[inline]
    fn with<'a>(&'a self, row: &Record<'a>, scratch: &'a mut Scratch) -> Cx<'a> {
        scratch.pool.reset();
        Cx { row: *row, pool: &scratch.pool, accs: &[], settings: &self.settings }
    }

    /// The value for a row, borrowed from the row, from `scratch` or from a constant of the expression.
    pub fn eval<'a>(&'a self, row: &Record<'a>, scratch: &'a mut Scratch) -> Result<Val<'a>, EvalError> {
        if let Some(slot) = self.keeps {
            return Ok(row.get(slot));
        }
        let cx = self.with(row, scratch);
        match self.node.val(&cx).and_then(|v| fitted(v, self.ty, self.settings.null_on_error)) {
            Ok(v) => Ok(v.to_val(cx.pool)),
            Err(e) => Err(*e),
        }
    }

    /// Appends the value as the next field of a row being built. `out` is new, or was made over the row's own batch: then a field
    /// is kept without copying.
    pub fn push(&self, row: &Record<'_>, out: &mut BatchBuilder) -> Result<(), EvalError> {
        if let Some(slot) = self.keeps {
            out.keep(row, slot);
            return Ok(());
        }
        if self.ty == Type::Bigint
            && let Some(i) = self.node.int(row)
        {
            out.push_int(i);
            return Ok(());
        }
        with_scratch(|scratch| {
            let cx = self.with(row, scratch);
            let v = self.node.val(&cx).and_then(|v| fitted(v, self.ty, self.settings.null_on_error)).map_err(|e| *e)?;
            push_value(v, out);
            Ok(())
        })
    }

    /// Fills a field of all rows of a batch with the values, as `wanted`, where that takes no look at single rows: the others are left to
    /// [`push`](Self::push).
    pub fn fill(&self, wanted: Type, columns: &mut Columns<'_>, to: Slot) {
        match self.keeps {
            Some(slot) if wanted == self.ty => return columns.keep(to, slot),
            Some(slot) => return column::fill_field(slot, wanted, columns, to),
            None => {}
        }
        with_scratch(|scratch| {
            scratch.pool.reset();
            let rows = Rows { batch: columns.batch(), rows: columns.rows(), pool: &scratch.pool, settings: &self.settings };
            column::fill(&self.node, self.ty, wanted, &rows, columns, to);
        });
    }

    /// Whether the condition is true, for one row of the batch after the other.
    pub fn decide(&self, batch: &Batch, scratch: &mut Scratch, mut verdict: impl FnMut(usize, Result<bool, EvalError>)) {
        for begin in (0..batch.len()).step_by(AT_ONCE) {
            let rows = begin..batch.len().min(begin + AT_ONCE);
            scratch.pool.reset();
            let all = Rows { batch, rows: rows.clone(), pool: &scratch.pool, settings: &self.settings };
            for (i, holds) in rows.zip(column::truths(&self.node, &all).0) {
                match holds {
                    Found::Value(holds) => verdict(i, Ok(holds)),
                    Found::Null => verdict(i, Ok(false)),
                    Found::Unknown => verdict(i, self.is_true(&batch.row(i), scratch)),
                }
            }
        }
    }

    /// For conditions: NULL is not true.
    #[inline]
    pub fn is_true(&self, row: &Record<'_>, scratch: &mut Scratch) -> Result<bool, EvalError> {
        let cx = self.with(row, scratch);
        match self.node.truth(&cx) {
            Ok(b) => Ok(b == Some(true)),
            Err(e) => Err(*e),
        }
    }
}

/// A decimal as its type wants it written.
#[inline]
pub(crate) fn fitted<'a>(v: V<'a>, ty: Type, null_on_error: bool) -> R<V<'a>> {
    match (v, ty) {
        (V::Dec(hi, lo, s), Type::Decimal(precision, scale)) => match decimal(hi, lo, s).fit(precision, scale) {
            Some(d) => Ok(V::dec(d)),
            None if null_on_error => Ok(V::Null),
            None => value::overflow(format_args!("{} as {ty}", decimal(hi, lo, s))),
        },
        (V::Int(i), Type::Decimal(..)) => fitted(V::dec(i.into()), ty, null_on_error),
        (v, _) => Ok(v),
    }
}

pub(crate) fn push_value(v: V<'_>, out: &mut BatchBuilder) {
    match v {
        V::Null => out.push_null(),
        V::Bool(b) => out.push_bool(b),
        V::Int(i) => out.push_int(i),
        V::Float(f) => out.push_float(f),
        V::Time(t) => out.push_time(t),
        V::Str(t) => out.push_str(t),
        V::Dec(hi, lo, s) => {
            let begun = out.begin_text();
            decimal(hi, lo, s).write(out.text_mut());
            out.end_num(begun);
        }
        V::Num(t) => out.push_num(t),
        V::Bytes(b) => out.push_bytes(b),
        V::Json(t) => out.push_json(t),
        V::Split(t, p, k) => out.push_val(Val::Split(t, p, k)),
    }
}
