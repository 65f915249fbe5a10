//! Aggregates over the rows of a window: `count(*)`, `sum(x)`, `min`, `max`, `avg`, `first`, `last`, `count(distinct x)`, each also
//! with `FILTER (WHERE …)`, and expressions that combine them: `sum(a) / count(*)`.
//!
//! NULLs are left out, as in SQL; over no value at all every aggregate but `count` is NULL. The sum of bigints is a checked bigint, of
//! decimals exact; of values of undeclared type it is a bigint until a fraction appears, then a double. `avg` of bigints is a double, of
//! decimals a decimal with at least 6 places.

use crate::sql::check::{Compiler, NO_ROW, describe, loose};
use crate::sql::node::{Cx, Node, Settings};
use crate::sql::value::{R, V};
use crate::sql::{fitted, push_value, with_scratch};
use crate::{EvalError, Issue};
use accumulator::{Layout, Step};
use jiff::tz::TimeZone;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Field, Record, Schema, Type};

mod accumulator;

/// The aggregates' names.
pub const NAMES: &[&str] = &["count", "sum", "min", "max", "avg", "first", "last"];

/// Whether a function's name, lower case, is an aggregate's.
pub fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name) || matches!(name, "first_value" | "last_value" | "count_distinct" | "mean")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
    Distinct,
}

/// One aggregate with what it takes.
pub struct AggregateCall {
    function: Function,
    argument: Option<Node>,
    filter: Option<Node>,
    ty: Type,
}

impl AggregateCall {
    pub(crate) fn new(
        name: &str,
        mut args: Vec<(Node, Type)>,
        star: bool,
        distinct: bool,
        filter: Option<Node>,
    ) -> Result<AggregateCall, (&'static str, String)> {
        let function = match name {
            "count" if distinct => Function::Distinct,
            "count_distinct" => Function::Distinct,
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" | "mean" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            "first" | "first_value" => Function::First,
            _ => Function::Last,
        };
        if star && (function != Function::Count || !args.is_empty()) {
            return Err(("unsupported-expression", format!("`{name}` does not take `*`; only count(*) does")));
        }
        let want = usize::from(!(star || (function == Function::Count && args.is_empty())));
        if args.len() != want || (args.is_empty() && !star) {
            return Err(("wrong-argument-count", format!("`{name}` takes 1 argument, found {}", args.len())));
        }
        if distinct && matches!(function, Function::Sum | Function::Avg | Function::First | Function::Last) {
            return Err(("unsupported-expression", format!("DISTINCT goes with count, not with `{name}`")));
        }
        let (argument, of) = args.pop().map_or((None, Type::Any), |(n, t)| (Some(n), t));
        let ty = match (function, of) {
            (Function::Count | Function::Distinct, _) => Type::Bigint,
            (Function::Sum | Function::Avg, t) if !loose(t) && !t.is_number() => {
                return Err(("wrong-type", format!("`{name}` takes numbers, found {}", describe(t))));
            }
            (Function::Min | Function::Max, Type::Map | Type::Array) => {
                return Err(("wrong-type", format!("`{name}` takes values with an order, found {}", describe(of))));
            }
            (Function::Sum, Type::Decimal(_, s)) => Type::Decimal(38, s),
            (Function::Avg, Type::Bigint | Type::Double) => Type::Double,
            (Function::Avg, Type::Decimal(_, s)) => Type::Decimal(38, s.max(6)),
            (_, Type::Json) => Type::Any,
            (_, t) => t,
        };
        Ok(AggregateCall { function, argument, filter, ty })
    }

    pub(crate) fn ty(&self) -> Type {
        self.ty
    }
}

/// Compiled aggregates; accumulators are bytes, so that they can be state.
pub struct Aggregates {
    calls: Vec<AggregateCall>,
    layout: Layout,
    outputs: Vec<(Field, Node)>,
    settings: Settings,
}

impl Aggregates {
    /// Names and paths that one aggregate expression reads.
    pub fn fields(text: &str) -> Vec<String> {
        crate::Expr::fields(text)
    }

    /// `named`: output name and expression, in output order. An expression may combine aggregates: `sum(a) / count(*)`.
    ///
    /// # Errors
    /// Issues with the index of the expression they are in.
    pub fn compile(named: &[(String, String)], schema: &Schema, env: &Env) -> Result<Aggregates, Vec<(usize, Issue)>> {
        let settings = Settings::new(env);
        let (mut calls, mut outputs, mut issues) = (vec![], vec![], vec![]);
        for (i, (name, text)) in named.iter().enumerate() {
            let mut c = Compiler::new(text, Some(schema), &settings);
            c.aggregates = Some(std::mem::take(&mut calls));
            let typed = c.run();
            calls = c.aggregates.take().unwrap_or_default();
            issues.extend(c.issues.into_iter().map(|issue| (i, issue)));
            if let Some(t) = typed {
                outputs.push((Field::new(name.as_str(), t.ty), t.node));
            }
        }
        if !issues.is_empty() {
            return Err(issues);
        }
        let layout = Layout::new(calls.iter().map(|c| c.function));
        Ok(Aggregates { calls, layout, outputs, settings })
    }

    /// Names and types of the results.
    pub fn outputs(&self) -> Vec<Field> {
        self.outputs.iter().map(|(f, _)| f.clone()).collect()
    }

    /// Appends the bytes of empty accumulators.
    pub fn init(&self, acc: &mut Vec<u8>) {
        self.layout.init(acc);
    }

    /// Takes a row into accumulators that start at byte `at` of `acc` and end with it; they may grow.
    ///
    /// # Errors
    /// The accumulators are then as they were: overflow of a sum, a value of the wrong type.
    pub fn update(&self, acc: &mut Vec<u8>, at: usize, row: &Record<'_>) -> Result<(), EvalError> {
        with_scratch(|scratch| {
            scratch.pool.reset();
            let cx = Cx { row: *row, pool: &scratch.pool, accs: &[], settings: &self.settings };
            self.take(acc, at, &cx)
        })
        .map_err(|e| *e)
    }

    fn take<'a>(&'a self, acc: &mut Vec<u8>, at: usize, cx: &Cx<'a>) -> R<()> {
        let mut room = [Step::None; 4];
        let mut many;
        let steps: &mut [Step<'a>] = if self.calls.len() <= room.len() {
            &mut room[..self.calls.len()]
        } else {
            many = vec![Step::None; self.calls.len()];
            &mut many
        };
        // All that can fail comes first, so that a rejected row leaves no trace.
        for (i, call) in self.calls.iter().enumerate() {
            if let Some(f) = &call.filter
                && f.truth(cx)? != Some(true)
            {
                continue;
            }
            let v = match &call.argument {
                None => V::Bool(true),
                Some(n) => n.val(cx)?,
            };
            if !v.is_null() {
                steps[i] = self.layout.plan(i, &acc[at..], v, call.ty)?;
            }
        }
        for (i, step) in steps.iter().enumerate() {
            self.layout.apply(i, acc, at, *step);
        }
        Ok(())
    }

    /// Pushes the results as the next fields of a row being built.
    ///
    /// # Errors
    /// What goes wrong when results are combined: division by zero, overflow. Nothing is pushed then.
    pub fn push(&self, acc: &[u8], out: &mut BatchBuilder) -> Result<(), EvalError> {
        with_scratch(|scratch| {
            scratch.pool.reset();
            let results: Vec<V<'_>> = (0..self.calls.len()).map(|i| self.layout.result(i, acc, self.calls[i].ty)).collect();
            let cx = Cx { row: NO_ROW.row(0), pool: &scratch.pool, accs: &results, settings: &self.settings };
            let mut values = Vec::with_capacity(self.outputs.len());
            for (field, node) in &self.outputs {
                values.push(fitted(node.val(&cx)?, field.ty, self.settings.null_on_error)?);
            }
            values.into_iter().for_each(|v| push_value(v, out));
            Ok(())
        })
        .map_err(|e: Box<EvalError>| *e)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { zone: TimeZone::UTC, null_on_error: false }
    }
}
