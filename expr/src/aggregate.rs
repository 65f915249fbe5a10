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
        let mut read = None;
        // All that can fail comes first, so that a rejected row leaves no trace.
        for (i, call) in self.calls.iter().enumerate() {
            if let Some(f) = &call.filter
                && f.truth(cx)? != Some(true)
            {
                continue;
            }
            let v = match &call.argument {
                None => V::Bool(true),
                // sum, min and max of one field: it is read once.
                Some(n @ Node::Field(slot, ty)) => match read {
                    Some((s, t, v)) if (s, t) == (*slot, *ty) => v,
                    _ => {
                        let v = n.val(cx)?;
                        read = Some((*slot, *ty, v));
                        v
                    }
                },
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
        Settings { zone: TimeZone::UTC, null_on_error: false, reached: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::record::Meta;
    use millrace_sdk::{Batch, Slot, Val};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn schema() -> millrace_sdk::SchemaRef {
        Schema::new(vec![
            Field::new("i", Type::Bigint),
            Field::new("f", Type::Double),
            Field::new("d", Type::Decimal(18, 2)),
            Field::new("s", Type::String),
            Field::new("x", Type::Any),
        ])
    }

    type Row<'a> = [Val<'a>; 5];

    fn batch(rows: &[Row<'_>]) -> Batch {
        let mut b = BatchBuilder::new(schema());
        for r in rows {
            r.iter().for_each(|v| b.push_val(*v));
            b.end_row(Meta::default());
        }
        b.finish()
    }

    fn text(v: Val<'_>) -> String {
        let mut out = String::new();
        if v.is_null() {
            return "NULL".into();
        }
        V::from(v).write(&mut out).unwrap();
        out
    }

    /// All results, or the reason of the first error; the accumulators start behind bytes that belong to others.
    fn run(exprs: &[&str], rows: &[Row<'_>]) -> Vec<String> {
        let named: Vec<(String, String)> = exprs.iter().enumerate().map(|(i, e)| (format!("r{i}"), e.to_string())).collect();
        let a = match Aggregates::compile(&named, &schema(), &Env::default()) {
            Ok(a) => a,
            Err(issues) => return issues.into_iter().map(|(i, issue)| format!("{i}:{}", issue.id)).collect(),
        };
        let mut acc = b"prefix".to_vec();
        a.init(&mut acc);
        let batch = batch(rows);
        for row in batch.rows() {
            let before = acc.clone();
            if let Err(e) = a.update(&mut acc, 6, &row) {
                assert_eq!(acc, before, "a failed update leaves no trace");
                return vec![format!("!{}", e.reason)];
            }
        }
        assert!(acc.starts_with(b"prefix"));
        let mut out = BatchBuilder::new(Schema::new(a.outputs()));
        if let Err(e) = a.push(&acc[6..], &mut out) {
            assert_eq!(out.pending(), 0);
            return vec![format!("!{}", e.reason)];
        }
        out.end_row(Meta::default());
        let out = out.finish();
        (0..exprs.len()).map(|i| text(out.row(0).get(Slot(i as u16)))).collect()
    }

    const N: Val<'static> = Val::Null;

    #[test]
    fn results() {
        use Val::{Float as F, Int as I, Num, Str as S};
        let rows: &[Row<'_>] = &[
            [I(3), F(0.5), Num("1.10"), S("b"), Num("1")],
            [I(1), N, Num("2.25"), S("a much longer text"), Num("2.5")],
            [N, F(2.5), N, N, N],
            [I(3), F(1.0), Num("-0.35"), S("c"), I(4)],
        ];
        for (e, want) in [
            ("count(*)", "4"),
            ("count(i)", "3"),
            ("count(distinct i)", "2"),
            ("count(distinct s)", "3"),
            ("sum(i)", "7"),
            ("sum(f)", "4.0"),
            ("sum(d)", "3.00"),
            ("sum(x)", "7.5"),
            ("avg(i)", "2.3333333333333335"),
            ("avg(d)", "1.000000"),
            ("avg(x)", "2.5"),
            ("min(i)", "1"),
            ("max(i)", "3"),
            ("min(s)", "a much longer text"),
            ("max(s)", "c"),
            ("max(d)", "2.25"),
            ("max(x)", "4"),
            ("first(i)", "3"),
            ("last(i)", "3"),
            ("first(s)", "b"),
            ("last(s)", "c"),
            ("first(d)", "1.10"),
            ("sum(i) / count(*)", "1"),
            ("round(sum(d) / count(*), 2)", "0.75"),
            ("sum(i * 2) + 1", "15"),
            ("count(*) FILTER (WHERE i > 2)", "2"),
            ("sum(f) FILTER (WHERE s = 'b')", "0.5"),
            ("coalesce(max(i) FILTER (WHERE s = 'zz'), 0)", "0"),
            ("CASE WHEN count(*) > 3 THEN 'many' ELSE 'few' END", "many"),
            ("max(i) - min(i)", "2"),
            ("1 + 1", "2"),
        ] {
            assert_eq!(run(&[e], rows), [want], "{e}");
        }
        assert_eq!(
            run(&["first(s)", "count(distinct i)", "last(s)", "min(s)", "count(*)", "max(s)", "sum(i)"], rows),
            ["b", "2", "c", "a much longer text", "4", "c", "7"]
        );
        assert_eq!(
            run(&["count(*)", "sum(i)", "avg(f)", "min(s)", "count(distinct i)", "first(x)"], &[]),
            ["0", "NULL", "NULL", "NULL", "0", "NULL"]
        );
    }

    #[test]
    fn what_does_not_go() {
        use Val::{Int as I, Num, Str as S};
        for (e, want) in [
            ("i + count(*)", "0:not-aggregated"),
            ("sum(s)", "0:wrong-type"),
            ("sum(count(*))", "0:aggregate-not-allowed"),
            ("sum(*)", "0:unsupported-expression"),
            ("sum()", "0:wrong-argument-count"),
            ("sum(i, f)", "0:wrong-argument-count"),
            ("sum(distinct i)", "0:unsupported-expression"),
            ("summ(i)", "0:unknown-function"),
            ("sum(zzz)", "0:unknown-field"),
            ("count(", "0:expression-syntax"),
        ] {
            let got = run(&[e], &[]);
            assert!(got.contains(&want.to_string()), "{e}: {got:?}");
        }
        for (e, want) in [
            ("summ(i)", &["0:unknown-function"][..]),
            ("sum(smu(i))", &["0:unknown-function"]),
            ("summ(upper(s))", &["0:unknown-function"]),
            ("summ(zzz)", &["0:unknown-function"]),
            ("summ(i) + i", &["0:unknown-function", "0:not-aggregated"]),
        ] {
            assert_eq!(run(&[e], &[]), want, "{e}: what follows from an unknown name is not told");
        }
        let max = [I(i64::MAX), N, N, N, N];
        assert_eq!(run(&["count(*)", "sum(i)"], &[max, max]), ["!overflow"]);
        assert_eq!(run(&["avg(i)"], &[max, max]), ["9.223372036854776e18"]);
        assert_eq!(run(&["min(x)"], &[[N, N, N, N, S("a")], [N, N, N, N, Num("1")]]), ["!wrong-type"]);
        assert_eq!(run(&["sum(x)"], &[[N, N, N, N, S("a")]]), ["!wrong-type"]);
        assert_eq!(run(&["sum(x)"], &[[N, N, N, N, Num("12345678901234567890")], [N, N, N, N, I(1)]]), ["12345678901234567891"]);
        assert_eq!(run(&["sum(i) / sum(i)"], &[[I(0), N, N, N, N]]), ["!division-by-zero"]);
        assert_eq!(Aggregates::fields("sum(a * b) / count(distinct c)"), ["a", "b", "c"]);
    }

    proptest! {
        #[test]
        fn as_defined(rows in prop::collection::vec((prop::option::of(-50i64..50), prop::option::of("[a-c]{0,3}")), 0..80)) {
            let data: Vec<Row<'_>> = rows.iter().map(|(i, s)| [i.map_or(N, Val::Int), N, N, s.as_deref().map_or(N, Val::Str), i.map_or(N, Val::Int)]).collect();
            let ints: Vec<i64> = rows.iter().filter_map(|r| r.0).collect();
            let texts: Vec<&String> = rows.iter().filter_map(|r| r.1.as_ref()).collect();
            let or_null = |v: Option<String>| v.unwrap_or("NULL".into());
            let got = run(&["count(distinct s)", "max(s)", "sum(i)", "first(s)", "count(distinct x)", "last(s)", "min(i)", "count(i)"], &data);
            prop_assert_eq!(got, [
                texts.iter().collect::<HashSet<_>>().len().to_string(),
                or_null(texts.iter().max().map(|t| t.to_string())),
                or_null((!ints.is_empty()).then(|| ints.iter().sum::<i64>().to_string())),
                or_null(texts.first().map(|t| t.to_string())),
                ints.iter().collect::<HashSet<_>>().len().to_string(),
                or_null(texts.last().map(|t| t.to_string())),
                or_null(ints.iter().min().map(|i| i.to_string())),
                ints.len().to_string(),
            ]);
        }

        #[test]
        fn damaged_accumulators_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let named = [("a".to_string(), "max(s)".to_string()), ("b".into(), "sum(d)".into()), ("c".into(), "count(distinct i)".into())];
            let a = Aggregates::compile(&named, &schema(), &Env::default()).unwrap();
            let mut out = BatchBuilder::new(Schema::new(a.outputs()));
            let _ = a.push(&bytes, &mut out);
        }
    }
}
