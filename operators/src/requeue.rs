use crate::check;
use millrace_sdk::config::Duration;
use millrace_sdk::operator::{Outputs, Port};
use millrace_sdk::{
    Batch, BatchBuilder, Bind, Bound, Clock, Demand, Edge, Exec, Field, Operator, OperatorSpec, Part, Place, Problem, Schema, SchemaRef,
    Slot, Type, Val,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Sends rows round again, or gives them up.
///
/// It stands behind a join's port `unmatched` and before a sink that writes to a retry topic; a stream with `role: retry` reads
/// that topic into the join's `retry:` input. A row that has been tried `max_attempts` times, or was first seen `max_age` ago,
/// whichever comes first, leaves by the port `given_up`, any other by the port `again`.
///
/// Rows on both ports carry hidden fields, which a Kafka sink writes as headers and a Kafka source reads back: `_attempts`
/// (`millrace-attempts`), the times it has been sent round, `_first_seen` (`millrace-first-seen`), and with `delay` `_due`
/// (`millrace-due`), the time before which it should not be tried. Without `delay` the retry source's own delay counts.
/// A row that brings none of them is seen for the first time. Ages go by the wall clock.
///
/// It keeps no state; order stays. Counters are those of its ports. There is no main output.
///
/// # Example
/// ```yaml
/// name: requeue
/// streams:
///   failed:
///     config:
///       source: {type: Inline, config: {lines: ['{"uid":"u1"}']}}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string}}}
/// transforms:
///   - {type: Requeue, name: requeue, config: {max_attempts: 5, max_age: 24h}}
/// sink:
///   - {type: Stdout, input: requeue.again, config: {format: json}}
///   - {type: Null, input: requeue.given_up}
/// ```
/// ```json
/// {"uid":"u1"}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requeue {
    /// How often a row is sent round at most. Default: no limit but `max_age`.
    max_attempts: Option<u32>,
    /// How long after it was first seen a row is still sent round. Default: no limit but `max_attempts`.
    max_age: Option<Duration>,
    /// How long to wait until a row is tried again, said in its `_due`. Default: the retry source's `delay` decides.
    delay: Option<Duration>,
}

millrace_sdk::inventory::submit! { Part::operator::<Requeue>("Requeue", &[]) }

const AGAIN: usize = 0;
const GIVEN_UP: usize = 1;
const OWN_FIELDS: [(&str, Type); 3] = [("_attempts", Type::Bigint), ("_first_seen", Type::Timestamp), ("_due", Type::Timestamp)];

impl OperatorSpec for Requeue {
    fn ports(&self) -> Vec<Port> {
        vec![Port::named("again"), Port::named("given_up")]
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        demand.add(["_attempts", "_first_seen"]);
        vec![demand.without("_due")]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        if self.max_attempts.is_none() && self.max_age.is_none() {
            problems.push(
                Problem::error("endless-retry", Place::default(), "a row that never succeeds would go round for ever")
                    .hint("say `max_attempts` or `max_age`"),
            );
        }
        if self.max_attempts == Some(0) {
            problems.push(Problem::error("out-of-range", Place::at(["max_attempts"]), "a row is sent round at least once"));
        }
        for (key, time) in [("max_age", self.max_age), ("delay", self.delay)] {
            if time.is_some_and(|t| t.micros <= 0) {
                problems.push(Problem::error("out-of-range", Place::at([key]), format!("`{key}` must be longer than nothing")));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let input = &bind.input().schema;
        let own = |f: &Field| OWN_FIELDS.iter().any(|(name, _)| *f.name == **name);
        let mut kept: Vec<Slot> = vec![];
        let mut fields: Vec<Field> = vec![];
        for (i, f) in input.fields().iter().enumerate() {
            if input.tail() != Some(Slot(i as u16)) && !own(f) {
                kept.push(Slot(i as u16));
                fields.push(f.clone());
            }
        }
        fields.extend(OWN_FIELDS.iter().map(|(name, ty)| Field::hidden(*name, *ty)));
        let schema = if input.tail().is_some() { Schema::open(fields) } else { Schema::new(fields) };
        let edge = Edge { schema: schema.clone(), key: bind.input().key.clone() };
        let plan = Arc::new(Plan {
            kept,
            tail: input.tail(),
            attempts: input.slot("_attempts"),
            first_seen: input.slot("_first_seen"),
            max_attempts: self.max_attempts.map_or(i64::MAX, i64::from),
            max_age: self.max_age.map(|d| d.micros),
            delay: self.delay.map(|d| d.micros),
            schema,
            clock: bind.env.clock.clone(),
        });
        let make = move || Box::new(Run { plan: plan.clone() }) as Box<dyn Operator>;
        Ok(Bound::new(vec![edge.clone(), edge], Exec::Stateless(Arc::new(make))))
    }
}

struct Plan {
    kept: Vec<Slot>,
    tail: Option<Slot>,
    attempts: Option<Slot>,
    first_seen: Option<Slot>,
    max_attempts: i64,
    /// Microseconds.
    max_age: Option<i64>,
    delay: Option<i64>,
    schema: SchemaRef,
    clock: Clock,
}

struct Run {
    plan: Arc<Plan>,
}

impl Operator for Run {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let plan = &*self.plan;
        let now = plan.clock.now();
        let mut rows = BatchBuilder::over(&batch, plan.schema.clone());
        let mut ports: [Vec<u32>; 2] = Default::default();
        for (i, row) in batch.rows().enumerate() {
            let attempts = plan.attempts.and_then(|s| row.int(s)).unwrap_or(0).max(0);
            let first_seen = match plan.first_seen.map(|s| row.get(s)) {
                Some(Val::Time(t)) => t,
                _ => now,
            };
            let old = plan.max_age.is_some_and(|age| now.saturating_sub(first_seen) >= age);
            let given_up = old || attempts >= plan.max_attempts;
            plan.kept.iter().for_each(|s| rows.keep(&row, *s));
            rows.push_int(if given_up { attempts } else { attempts.saturating_add(1) });
            rows.push_time(first_seen);
            match plan.delay {
                Some(delay) if !given_up => rows.push_time(now.saturating_add(delay)),
                _ => rows.push_missing(),
            }
            plan.tail.iter().for_each(|s| rows.keep(&row, *s));
            rows.end_row(*row.meta());
            ports[if given_up { GIVEN_UP } else { AGAIN }].push(i as u32);
        }
        let all = batch.replaced_by(rows);
        match &ports {
            [_, given_up] if given_up.is_empty() => out.emit(AGAIN, all),
            [again, _] if again.is_empty() => out.emit(GIVEN_UP, all),
            [again, given_up] => {
                out.emit(AGAIN, all.select(again));
                out.emit(GIVEN_UP, all.select(given_up));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Out, Setup, batch, rows, run_operator, schema};
    use millrace_sdk::{Clock, Edge, Exec};
    use serde_json::{Value as Json, json};

    const FIELDS: &[(&str, &str)] = &[("u", "string"), ("_attempts", "bigint"), ("_first_seen", "timestamp")];

    fn run(config: Json, fields: &[(&str, &str)], input: &str) -> Out {
        let mut s = Setup::new("Requeue", config, vec![Edge::new(schema(fields))]);
        s.env.clock = Clock::fixed(10_000_000);
        let (ports, bound) = s.bind().unwrap_or_else(|p| panic!("{p:?}"));
        let Exec::Stateless(make) = bound.exec else { panic!("not stateless") };
        run_operator(&mut *make(), batch(&schema(fields), &rows(input)), &ports)
    }

    #[test]
    fn a_row_seen_for_the_first_time() {
        let out = run(json!({"max_attempts": 5, "delay": "2s"}), &[("u", "string")], r#"[{"u":"a"}]"#);
        assert_eq!(out.lines("again"), [r#"{"u":"a","_attempts":1,"_first_seen":10000000,"_due":12000000}"#]);
    }

    #[test]
    fn whichever_comes_first() {
        for (attempts, first_seen, port) in [
            (0, 9_000_000, "again"),
            (2, 9_000_000, "again"),
            (3, 9_000_000, "given_up"),
            (0, 5_000_001, "again"),
            (0, 5_000_000, "given_up"),
            (7, 0, "given_up"),
        ] {
            let input = format!(r#"[{{"u":"a","_attempts":{attempts},"_first_seen":{first_seen}}}]"#);
            let out = run(json!({"max_attempts": 3, "max_age": "5s"}), FIELDS, &input);
            let sent = if port == "again" { attempts + 1 } else { attempts };
            assert_eq!(out.lines(port), [format!(r#"{{"u":"a","_attempts":{sent},"_first_seen":{first_seen}}}"#)]);
            assert_eq!(out.rows.len(), 1);
        }
    }

    #[test]
    fn a_batch_is_divided_in_order() {
        let out = run(
            json!({"max_attempts": 1}),
            FIELDS,
            r#"[{"u":"a"},{"u":"b","_attempts":1},{"u":"c","_attempts":0},{"u":"d","_attempts":9}]"#,
        );
        assert_eq!(out.column("again", "u").to_string(), r#"["a","c"]"#);
        assert_eq!(out.column("given_up", "u").to_string(), r#"["b","d"]"#);
    }

    #[test]
    fn problems() {
        let ids = |config| {
            Setup::new("Requeue", config, vec![Edge::new(schema(FIELDS))])
                .bind()
                .err()
                .expect("a problem")
                .iter()
                .map(|p| p.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(json!({})), ["endless-retry"]);
        assert_eq!(ids(json!({"max_attempts": 0, "max_age": "0s"})), ["out-of-range", "out-of-range"]);
    }
}
