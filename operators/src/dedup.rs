use crate::check;
use millrace_sdk::config::{Duration, FieldName, OneOrMany};
use millrace_sdk::operator::{Keyed, Port, TimeCharacteristic};
use millrace_sdk::{
    Bind, Bound, Context, Demand, Edge, Exec, Fault, Key, KeyedOperator, NO_TIME, OperatorSpec, Part, Place, Problem, Record, Reject,
    SchemaRef, Slot, State, StateDesc, StateId, StateKind, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Keeps the first row of each key.
///
/// The first row of a key to arrive passes at once; later ones are dropped and counted, reason `duplicate`. The key is that of
/// `keys`, or of the `KeyBy` before it.
///
/// Without `within` a key is remembered for ever: eight bytes and the key itself for each. With `within` a row is a
/// duplicate if its time is at most that much after the time of the row that was kept (or before it); a later row is kept in its
/// turn. In event time it is the rows' times that count, and late rows, whose key may be forgotten, leave by the port `late`; in
/// processing time it is the clock.
///
/// The output is keyed by the same fields. Ports: the main output; `late` (to the dead letter unless it is read).
///
/// # Example
/// ```yaml
/// name: dedup
/// streams:
///   orders:
///     config:
///       source:
///         type: Inline
///         config: {lines: ['{"id":1,"n":1}', '{"id":2,"n":2}', '{"id":1,"n":3}']}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {id: bigint, n: bigint}}}
/// transforms:
///   - {type: Dedup, config: {keys: [id]}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"id":1,"n":1}
/// {"id":2,"n":2}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedup {
    /// The fields of the key. Default: those of the KeyBy before it.
    #[serde(default)]
    keys: OneOrMany<FieldName>,
    /// Which row of a key is kept: `first`, the only choice.
    #[serde(default)]
    #[allow(dead_code)]
    keep: Keep,
    /// How long a key is remembered, from the time of the row that was kept; more than 0. Default: for ever.
    within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Keep {
    #[default]
    First,
}

millrace_sdk::inventory::submit! { Part::operator::<Dedup>("Dedup", &[]) }

const LATE: usize = 1;

impl Dedup {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.as_slice().iter().map(|k| &**k)
    }
}

impl OperatorSpec for Dedup {
    fn ports(&self) -> Vec<Port> {
        vec![Port::main(), Port::dead("late")]
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        demand.add(self.names());
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        let schema = &input.schema;
        let own = self.names().next().is_some();
        let (names, slots): (Vec<String>, Vec<Slot>) = match &input.key {
            Some(key) if !own => (key.clone(), key.iter().filter_map(|k| schema.slot(k)).collect()),
            None if !own => {
                problems.push(
                    Problem::error("dedup-without-key", Place::default(), "it is not said which rows are the same")
                        .hint("name the fields, `keys: [id]`, or put a KeyBy before it"),
                );
                (vec![], vec![])
            }
            _ => {
                let one = matches!(self.keys, OneOrMany::One(_));
                (self.names().map(String::from).collect(), check::key_slots(self.names(), schema, &Place::at(["keys"]), one, &mut problems))
            }
        };
        if self.within.is_some_and(|w| w.micros <= 0) {
            problems.push(Problem::error("out-of-range", Place::at(["within"]), "the time must be longer than nothing"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let plan = Arc::new(Plan {
            within: self.within.map(|w| w.micros),
            processing: bind.env.time == TimeCharacteristic::ProcessingTime,
            schema: schema.clone(),
        });
        let keyed = Keyed {
            keys: vec![Key::new(slots)],
            states: vec![StateDesc::new("seen", StateKind::Value)],
            stores: vec![],
            max_holds: None,
            make: Arc::new(move || Box::new(Run { plan: plan.clone() }) as Box<dyn KeyedOperator>),
        };
        let output = Edge { schema: schema.clone(), key: Some(names) };
        Ok(Bound::new(vec![output, Edge::new(schema.clone())], Exec::Keyed(keyed)))
    }
}

struct Plan {
    /// Microseconds.
    within: Option<i64>,
    processing: bool,
    schema: SchemaRef,
}

/// The time of the row that was kept.
const SEEN: StateId = StateId(0);

struct Run {
    plan: Arc<Plan>,
}

impl KeyedOperator for Run {
    fn on_record(&mut self, _input: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let meta = *row.meta();
        let time = if self.plan.processing { cx.now() } else { meta.time };
        if self.plan.within.is_some() && !self.plan.processing {
            if time == NO_TIME {
                cx.reject(Reject::row("no-event-time", "the row has no event time", &row, &self.plan.schema));
                return Ok(());
            }
            if meta.late() {
                let late = cx.out(LATE);
                late.push_record(&row);
                late.end_row(meta);
                return Ok(());
            }
        }
        if let Some(seen) = state.get(SEEN).and_then(|b| b.try_into().ok()).map(i64::from_le_bytes) {
            if self.plan.within.is_none_or(|w| time <= seen.saturating_add(w)) {
                cx.drop_row("duplicate");
                return Ok(());
            }
            self.plan.timer(seen).inspect(|(domain, at)| cx.delete_timer(*domain, *at, 0));
        }
        state.put(SEEN, &time.to_le_bytes());
        self.plan.timer(time).inspect(|(domain, at)| cx.set_timer(*domain, *at, 0));
        let out = cx.out(0);
        out.push_record(&row);
        out.end_row(meta);
        Ok(())
    }

    fn on_timer(&mut self, _: TimeDomain, _: i64, _: u32, state: &mut dyn State, _: &mut dyn Context) -> Result<(), Fault> {
        state.clear(SEEN);
        Ok(())
    }
}

impl Plan {
    /// When a key seen at `time` may be forgotten.
    fn timer(&self, time: i64) -> Option<(TimeDomain, i64)> {
        let at = time.saturating_add(self.within?);
        // With the clock as time, a moment is over only once the next has begun.
        Some(if self.processing { (TimeDomain::Processing, at.saturating_add(1)) } else { (TimeDomain::Event, at) })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Harness, Setup, schema};
    use millrace_sdk::Edge;
    use millrace_sdk::operator::TimeCharacteristic;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    fn setup(config: Json, key: bool) -> Setup {
        let edge = Edge { schema: schema(&[("k", "string"), ("n", "bigint")]), key: key.then(|| vec!["k".into()]) };
        Setup::new("Dedup", config, vec![edge])
    }

    fn kept(h: &Harness) -> String {
        h.out().column("", "n").to_string()
    }

    #[test]
    fn the_first_of_a_key_for_all_time() {
        for s in [setup(json!({"keys": ["k"]}), false), setup(json!({"keep": "first"}), true)] {
            let mut h = Harness::new(&s);
            for (n, k) in ["a", "b", "a", "c", "b"].into_iter().enumerate() {
                h.row(0, json!({"k": k, "n": n, "@time": n, "@late": n == 3}));
                h.watermark(0, n as i64);
            }
            h.row(0, json!({"k": "d", "n": 5}));
            assert_eq!(kept(&h), "[0,1,3,5]");
            assert_eq!(h.out().dropped("duplicate"), 2);
            assert_eq!(h.keys(), 4);
        }
    }

    #[test]
    fn within_a_time_of_the_row_that_was_kept() {
        let mut h = Harness::new(&setup(json!({"keys": "k", "within": "10ms"}), false));
        for (n, ms) in [100, 105, 110, 95, 111, 115, 121, 122].into_iter().enumerate() {
            h.row(0, json!({"k": "a", "n": n, "@time": ms * 1000}));
        }
        assert_eq!(kept(&h), "[0,4,7]");
        h.row(0, json!({"k": "a", "n": 8, "@time": 1, "@late": true}));
        assert_eq!(h.out().column("late", "n").to_string(), "[8]");
        h.watermark(0, 131_999);
        assert_eq!(h.keys(), 1);
        h.watermark(0, 132_000);
        assert_eq!((h.keys(), h.timers()), (0, 0));
    }

    #[test]
    fn by_the_clock() {
        let mut s = setup(json!({"within": "10ms"}), true);
        s.env.time = TimeCharacteristic::ProcessingTime;
        let mut h = Harness::new(&s);
        for (n, ms) in [100, 110, 111].into_iter().enumerate() {
            h.now(ms * 1000);
            h.row(0, json!({"k": "a", "n": n, "@late": true}));
        }
        h.now(111_001);
        h.row(0, json!({"k": "a", "n": 3}));
        assert_eq!(kept(&h), "[0,2]");
        h.now(200_000);
        assert_eq!((h.keys(), h.timers()), (0, 0));
    }

    #[test]
    fn problems() {
        let ids = |config, key| setup(config, key).bind().err().expect("a problem").iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(json!({}), false), ["dedup-without-key"]);
        assert_eq!(ids(json!({"keys": ["z"]}), true), ["unknown-field"]);
        assert_eq!(ids(json!({"within": "0s"}), true), ["out-of-range"]);
        assert_eq!(ids(json!({"keep": "last"}), true), ["invalid-config"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
        /// Forgetting by the watermark changes nothing: the kept rows are those of the definition.
        #[test]
        fn forgetting_changes_nothing(steps in prop::collection::vec((0..2usize, 0..10i64, 0..8i64, any::<bool>()), 1..80), within in 1..30i64) {
            let mut h = Harness::new(&setup(json!({"within": format!("{within}ms")}), true));
            let (mut clock, mut expect, mut last) = (0, vec![], [None; 2]);
            for (n, (key, ahead, behind, mark)) in steps.into_iter().enumerate() {
                clock += ahead;
                let time = clock - behind;
                h.row(0, json!({"k": key.to_string(), "n": n, "@time": time * 1000}));
                if last[key].is_none_or(|seen| time > seen + within) {
                    last[key] = Some(time);
                    expect.push(n);
                }
                if mark {
                    h.watermark(0, (clock - 8) * 1000);
                }
            }
            prop_assert_eq!(kept(&h), serde_json::to_string(&expect).expect("numbers"));
        }
    }
}
