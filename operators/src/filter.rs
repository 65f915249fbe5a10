use crate::check;
use millrace_expr::{Expr, Scratch};
use millrace_sdk::config::ExprText;
use millrace_sdk::operator::Outputs;
use millrace_sdk::{Batch, Bind, Bound, Demand, Exec, Operator, OperatorSpec, Part, Place, Problem, Reject};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Keeps the rows for which a condition is true.
///
/// A condition that is NULL is not true. Rows that do not pass are counted as dropped, reason `filtered`; with `otherwise: reject`
/// they are rejected instead, reason `filtered`, and go to the dead letter with their bytes. A row for which the condition cannot
/// be evaluated (overflow, a value of the wrong type) is rejected in any case.
///
/// Order and key of the rows stay as they are.
///
/// # Example
/// ```yaml
/// name: filter
/// streams:
///   orders:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"id":1,"price":5}', '{"id":2}', '{"id":3,"price":50}']
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {id: bigint, price: bigint}}}
/// transforms:
///   - {type: Filter, config: {where: price > 10}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"id":3,"price":50}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The condition: an expression over the row.
    r#where: ExprText,
    /// What becomes of the other rows: `drop` (default) or `reject`.
    #[serde(default)]
    otherwise: Otherwise,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Otherwise {
    /// Gone, and counted.
    #[default]
    Drop,
    /// To the dead letter.
    Reject,
}

millrace_sdk::inventory::submit! { Part::operator::<Filter>("Filter", &[]) }

impl OperatorSpec for Filter {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        demand.add(Expr::fields(&self.r#where));
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        let condition = check::condition(&self.r#where, &input.schema, bind.env, &Place::at(["where"]), &mut problems);
        let Some(condition) = condition.map(Arc::new) else { return Err(problems) };
        let reject = self.otherwise == Otherwise::Reject;
        let make =
            move || Box::new(Run { condition: condition.clone(), reject, scratch: Scratch::default(), keep: vec![] }) as Box<dyn Operator>;
        Ok(Bound::new(vec![input.clone()], Exec::Stateless(Arc::new(make))))
    }
}

struct Run {
    condition: Arc<Expr>,
    reject: bool,
    scratch: Scratch,
    keep: Vec<bool>,
}

impl Operator for Run {
    fn process(&mut self, mut batch: Batch, out: &mut Outputs) {
        let rows = batch.len();
        let (mut kept, mut filtered) = (0, 0);
        self.keep.clear();
        let refuse = |i, reason, message: String| Reject::row(reason, message, &batch.row(i), batch.schema());
        self.condition.decide(&batch, &mut self.scratch, |i, verdict| {
            match &verdict {
                Ok(true) => kept += 1,
                Ok(false) if self.reject => out.reject(refuse(i, "filtered", "the condition of the filter is not true".into())),
                Ok(false) => filtered += 1,
                Err(e) => out.reject(refuse(i, e.reason, e.message.clone())),
            }
            self.keep.push(verdict == Ok(true));
        });
        out.dropped("filtered", filtered);
        if kept < rows {
            batch.retain(|i| self.keep[i]);
            // Few rows should not keep the text of many in memory.
            if kept * 4 < rows {
                batch = batch.compact();
            }
        }
        out.emit(0, batch);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Job, Setup, rows, schema};
    use millrace_sdk::{Edge, Place};

    #[test]
    fn keeps_what_is_true_and_counts_the_rest() {
        for (condition, kept, filtered) in [
            ("n > 1", "[2,3]", 3),
            ("n is null", "[null,null]", 3),
            ("n = n", "[1,2,3]", 2),
            ("n <> 2 or n is null", "[1,3,null,null]", 1),
            ("true", "[1,2,3,null,null]", 0),
            ("null", "[]", 5),
        ] {
            let mut job = Job::operator("Filter", serde_json::json!({ "where": condition }), &[("n", "bigint")]);
            let out = job.run(rows(r#"[{"n":1},{"n":2},{"n":3},{"n":null},{}]"#));
            assert_eq!(out.column("", "n").to_string(), kept, "{condition}");
            assert_eq!(out.dropped("filtered"), filtered, "{condition}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_judged_is_rejected() {
        let mut job = Job::operator("Filter", serde_json::json!({ "where": "1 / n > 0" }), &[("n", "bigint")]);
        let out = job.run(rows(r#"[{"n":1},{"n":0}]"#));
        assert_eq!(out.column("", "n").to_string(), "[1]");
        assert_eq!(out.reasons(), ["division-by-zero"]);
    }

    #[test]
    fn rows_that_do_not_pass_can_be_rejected() {
        let mut job = Job::operator("Filter", serde_json::json!({ "where": "n > 1", "otherwise": "reject" }), &[("n", "bigint")]);
        let out = job.run(rows(r#"[{"n":1},{"n":2},{"n":null}]"#));
        assert_eq!(out.column("", "n").to_string(), "[2]");
        assert_eq!(out.reasons(), ["filtered", "filtered"]);
        assert_eq!(out.dropped("filtered"), 0);
    }

    #[test]
    fn problems_have_their_place() {
        let p = Job::problems("Filter", serde_json::json!({ "where": "prise > 1" }), &[("price", "bigint")]);
        assert_eq!(p[0].id, "unknown-field");
        assert_eq!(p[0].suggestion.as_deref(), Some("price"));
        assert_eq!(p[0].place.path, millrace_sdk::Place::at(["where"]).path);
    }

    #[test]
    fn a_condition_is_a_boolean() {
        let fields = [("a", "bigint"), ("s", "string"), ("t", "timestamp"), ("b", "boolean"), ("x", "any"), ("m", "map")];
        let cases = [
            ("a + 1", Some("a bigint")),
            ("a", Some("a bigint")),
            ("'true'", Some("a string")),
            ("s", Some("a string")),
            ("upper(s)", Some("a string")),
            ("t", Some("a timestamp")),
            ("m", Some("a map")),
            ("case when b then a else 0 end", Some("a bigint")),
            ("case when a then b end", Some("a bigint")),
            ("b and a", Some("a bigint")),
            ("if(a, b, b)", Some("a bigint")),
            ("b", None),
            ("x", None),
            ("m['k']", None),
            ("cast(s as boolean)", None),
            ("coalesce(b, false)", None),
            ("case when b then a > 0 end", None),
            ("null", None),
        ];
        for (part, at) in [("Filter", Place::at(["where"])), ("SplitStream", Place::at(["ports", "p"]))] {
            for (text, found) in cases {
                let config =
                    if part == "Filter" { serde_json::json!({ "where": text }) } else { serde_json::json!({"ports": {"p": text}}) };
                let setup = Setup::new(part, config, vec![Edge::new(schema(&fields))]);
                let problems = setup.bind().err().unwrap_or_default();
                let told: Vec<_> = problems.iter().map(|p| (p.id, p.message.clone(), &p.place.path)).collect();
                let want: Vec<_> = found.iter().map(|f| ("wrong-type", format!("expected a condition, found {f}"), &at.path)).collect();
                assert_eq!(told, want, "{part} {text}");
            }
        }
    }
}
