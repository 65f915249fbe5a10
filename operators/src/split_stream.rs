use crate::check;
use millrace_expr::{Expr, Scratch};
use millrace_sdk::config::{ExprText, Ordered};
use millrace_sdk::operator::{Outputs, Port};
use millrace_sdk::{Batch, Bind, Bound, Demand, Exec, Operator, OperatorSpec, Part, Place, Problem, Reject};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Sends each row to the port whose condition it meets.
///
/// Each port has a condition; they are tried in the order in which they are written. With `match: first` (the default) a row
/// goes to the first port whose condition is true, with `match: all` a copy goes to every such port. NULL is not true. A row that
/// meets no condition goes to the port `rest`, or with `rest: drop` is dropped and counted, reason `no_port`.
///
/// There is no main output: readers name a port (`input: split.apple`), or a `SelectStream` takes it. A row for which a condition
/// cannot be evaluated is rejected and goes to no port. Order within a port and the rows' key stay.
///
/// # Example
/// ```yaml
/// name: split-stream
/// streams:
///   visits:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"uid":"u1","os":"ios"}', '{"uid":"u2","os":"android"}', '{"uid":"u3"}']
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, os: string}}}
/// transforms:
///   - type: SplitStream
///     name: by_os
///     config:
///       ports: {apple: os = 'ios', google: os = 'android'}
///       rest: drop
/// sink:
///   - {type: Stdout, input: by_os.google, config: {format: json}}
///   - {type: Null, input: by_os.apple}
/// ```
/// ```json
/// {"uid":"u2","os":"android"}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitStream {
    /// Port names and their conditions, in the order in which they are tried.
    ports: Ordered<ExprText>,
    /// `first`: a row goes to the first port that fits (default); `all`: to every port that fits.
    #[serde(default)]
    r#match: Match,
    /// `port`: rows that fit nowhere go to the port `rest` (default); `drop`: they are dropped and counted.
    #[serde(default)]
    rest: Rest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Match {
    #[default]
    First,
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Rest {
    #[default]
    Port,
    Drop,
}

millrace_sdk::inventory::submit! { Part::operator::<SplitStream>("SplitStream", &[]) }

impl OperatorSpec for SplitStream {
    fn ports(&self) -> Vec<Port> {
        let mut ports: Vec<Port> = self.ports.iter().map(|(name, _)| Port::named(name)).collect();
        if self.rest == Rest::Port {
            ports.push(Port::named("rest"));
        }
        ports
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        self.ports.iter().for_each(|(_, text)| demand.add(Expr::fields(text)));
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        if self.ports.is_empty() {
            problems.push(Problem::error("nothing-to-do", Place::at(["ports"]), "no port is named"));
        }
        let mut conditions = vec![];
        for (name, text) in self.ports.iter() {
            let at = Place::at(["ports", name]);
            check::output_name(name, "a port", &at, &mut problems);
            if matches!(&**name, "rest" | "errors") || name.contains('.') {
                problems.push(
                    Problem::error("invalid-name", at.clone().key(), format!("`{name}` is no name for a port"))
                        .hint("`rest` and `errors` are there already, and a point divides a part's name from its port's"),
                );
            }
            conditions.extend(check::condition(text, &input.schema, bind.env, &at, &mut problems));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let outputs = vec![input.clone(); self.ports().len()];
        let plan = Arc::new(Plan { conditions, all: self.r#match == Match::All, rest: self.rest });
        let lists = outputs.len();
        let make =
            move || Box::new(Run { plan: plan.clone(), scratch: Scratch::default(), rows: vec![vec![]; lists] }) as Box<dyn Operator>;
        Ok(Bound::new(outputs, Exec::Stateless(Arc::new(make))))
    }
}

struct Plan {
    conditions: Vec<Expr>,
    all: bool,
    rest: Rest,
}

struct Run {
    plan: Arc<Plan>,
    scratch: Scratch,
    /// Row numbers by port.
    rows: Vec<Vec<u32>>,
}

impl Operator for Run {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let mut unwanted = 0;
        self.rows.iter_mut().for_each(Vec::clear);
        'rows: for (i, row) in batch.rows().enumerate() {
            let mut met = false;
            for (port, condition) in self.plan.conditions.iter().enumerate() {
                match condition.is_true(&row, &mut self.scratch) {
                    Ok(true) => {
                        self.rows[port].push(i as u32);
                        met = true;
                        if !self.plan.all {
                            continue 'rows;
                        }
                    }
                    Ok(false) => {}
                    Err(e) => {
                        // It may have been put down for earlier ports already.
                        self.rows.iter_mut().filter(|r| r.last() == Some(&(i as u32))).for_each(|r| r.truncate(r.len() - 1));
                        out.reject(Reject::row(e.reason, e.message, &row, batch.schema()));
                        continue 'rows;
                    }
                }
            }
            match self.plan.rest {
                _ if met => {}
                Rest::Port => self.rows[self.plan.conditions.len()].push(i as u32),
                Rest::Drop => unwanted += 1,
            }
        }
        out.dropped("no_port", unwanted);
        if let Some(port) = self.rows.iter().position(|r| r.len() == batch.len())
            && !self.plan.all
        {
            return out.emit(port, batch);
        }
        for (port, rows) in self.rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let part = batch.select(rows);
            // Few rows should not keep the text of many in memory.
            out.emit(port, if rows.len() * 4 < batch.len() { part.compact() } else { part });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Job, rows};
    use serde_json::json;

    #[test]
    fn first_match_wins_and_all_copies() {
        let ports = json!({"small": "n < 3", "even": "n % 2 = 0"});
        for (config, small, even, rest, dropped) in [
            (json!({"ports": ports}), "[1,2]", "[4]", "[3,null]", 0),
            (json!({"ports": ports, "match": "all"}), "[1,2]", "[2,4]", "[3,null]", 0),
            (json!({"ports": ports, "rest": "drop"}), "[1,2]", "[4]", "[]", 2),
        ] {
            let mut job = Job::operator("SplitStream", config.clone(), &[("n", "bigint")]);
            let out = job.run(rows(r#"[{"n":1},{"n":2},{"n":3},{"n":4},{"n":null}]"#));
            let got = ["small", "even", "rest"].map(|p| out.column(p, "n").to_string());
            assert_eq!(got, [small, even, rest], "{config}");
            assert_eq!(out.dropped("no_port"), dropped, "{config}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_judged_goes_to_no_port() {
        let config = json!({"ports": {"any": "n >= 0", "big": "1 / n > 0"}, "match": "all"});
        let out = Job::operator("SplitStream", config, &[("n", "bigint")]).run(rows(r#"[{"n":1},{"n":0}]"#));
        assert_eq!(out.column("any", "n").to_string(), "[1]");
        assert_eq!(out.reasons(), ["division-by-zero"]);
    }

    #[test]
    fn problems() {
        let ids =
            |ports| Job::problems("SplitStream", json!({ "ports": ports }), &[("n", "bigint")]).iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(json!({})), ["nothing-to-do"]);
        assert_eq!(ids(json!({"rest": "true"})), ["invalid-name"]);
        assert_eq!(ids(json!({"a.b": "true"})), ["invalid-name"]);
        assert_eq!(ids(json!({"a": "m > 1"})), ["unknown-field"]);
        assert_eq!(Job::problems("SplitStream", json!({}), &[])[0].id, "invalid-config");
    }
}
