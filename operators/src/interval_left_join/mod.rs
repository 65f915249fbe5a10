use crate::check;
use millrace_sdk::config::{Duration, FieldName, OneOrMany, Ordered};
use millrace_sdk::convert::{TimeFormat, TimeReader};
use millrace_sdk::operator::{Inputs, Keyed, OnStoreError, Port, StoreUse, TimeCharacteristic};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{
    Bind, Bound, Demand, Edge, Exec, Field, Key, KeyedOperator, OperatorSpec, Part, Place, Problem, Schema, SchemaRef, Slot, StateDesc,
    StateKind, Type,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

mod run;
#[cfg(test)]
mod tests;

/// Joins each left row with the right rows of its key whose time lies in an interval around its own, and looks up in a store
/// what has no partner.
///
/// A pair is a left and a right row with equal `keys` and `left.ts + lower <= right.ts <= left.ts + upper`, both ends included. The
/// joined row has the left row's fields as they are, then `right_fields`; its event time is the left row's. As in SQL, NULL
/// equals nothing: a row with NULL in its key, or without the field, is in no pair, and does not wait for one.
///
/// `matches` says what becomes of pairs:
/// - `all` (default): each pair is a row, at once. The left row stays, marked matched, until the right watermark reaches
///   left.ts + upper.
/// - `first`: a left row goes out with the first right row of its interval in arrival order, and is forgotten.
/// - `latest`: a left row waits for the end of its interval and goes out with the right row of the greatest time (of equal
///   ones that of the greatest partition, then offset).
///
/// A left row without a partner waits while the right watermark is below left.ts + upper. Then it is looked up in the store that
/// `fallback` names, by the store's own key template over the left row; what is found takes the place of the right row, whether
/// or not it lies in the interval (`check_interval` demands that). What is still without a partner is unmatched: `unmatched: emit`
/// puts it into the main output with NULL in the right fields, `port` sends it as it is to the port `unmatched`, `drop` drops
/// it, counted. While the store is asked the row stays in state, is asked again after a restore, and right rows still find it.
///
/// A row is late only when it can have no effect. A left row never is: however old, it is matched with what state holds. A right
/// row is kept until the left watermark reaches right.ts - lower; a late one (at or below its partition's watermark) that neither
/// matches nor is kept leaves by the port `late`. The output watermark stays below every left row that waits or is being looked up.
/// In processing time a row's time is the clock's when it arrives.
///
/// Rows that come in by `retry:` have no part in the watermark and are looked up in the store only. On the port `unmatched`
/// rows carry the hidden fields `_attempts` and `_first_seen` for `Requeue`. Without a broker `retry: {delay: 1m,
/// max_attempts: 5}` in the config does the same in state: a left row that the store does not have is asked for again after the delay;
/// it no longer holds the watermark then. At the end of the input nothing waits: each such row is asked for a last time.
///
/// The output has no key and no order across left rows. Left in = `matched` + `by_fallback` + `unmatched` + rows that wait + rows
/// rejected because of the store (`on_store_error: dead_letter`); all counters count left rows, retried ones apart.
///
/// Ports: the main output; `unmatched` (with `unmatched: port`); `late` (to the dead letter unless it is read).
/// Counters: `left`, `matched`, `by_fallback`, `unmatched`, `pairs`, `lookups`, `lookups_saved` (left rows that matched, so that the
/// store was not asked), `without_store_key` (no key can be made of the row, as a field of it is null; it is unmatched), `outside_interval` (what the store
/// has may not be taken), `store_unavailable` (with `on_store_error: unmatched`), `retried`, `retried_by_fallback`,
/// `retried_unmatched`. Dropped: `unmatched` (with `unmatched: drop`),
/// `right_unmatched` (right rows on time that no left row wanted).
///
/// # Example
/// ```yaml
/// name: interval-left-join
/// run_env: {time_characteristic: EventTime}
/// streams:
///   clicks:
///     config:
///       source:
///         type: Inline
///         config: {lines: ['{"uid":"u1","ts":10000}', '{"uid":"u2","ts":11000}']}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, ts: bigint}}}
///       watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 0s}
///   shows:
///     config:
///       source:
///         type: Inline
///         config: {lines: ['{"uid":"u1","at":9000,"pos":3}', '{"uid":"u2","at":20000,"pos":4}']}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, at: bigint, pos: bigint}}}
///       watermark: {field: at, format: epoch_ms, max_out_of_orderness: 0s}
/// transforms:
///   - type: IntervalLeftJoin
///     left: clicks
///     right: shows
///     config: {keys: [uid], lower: -5s, upper: 1s, right_fields: {pos: pos, shown: at}, unmatched: emit}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","ts":10000,"pos":3,"shown":9000}
/// {"uid":"u2","ts":11000,"pos":null,"shown":null}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntervalLeftJoin {
    /// The fields that must be equal: names that both inputs have, or `left` and `right` with as many names each.
    keys: JoinKeys,
    /// Start of the interval, relative to the left row's time; negative: before it.
    lower: Duration,
    /// End of the interval, relative to the left row's time, included; not below `lower`.
    upper: Duration,
    /// Which pairs become rows: `all` (default), `first`, `latest`.
    #[serde(default)]
    matches: Matches,
    /// The right row's fields in the output: `{output name: right field}`, or a list of right fields.
    right_fields: RightFields,
    /// What becomes of a left row without a partner: `emit`, `port` or `drop`.
    unmatched: Unmatched,
    /// The store that is asked for left rows without a partner. It must have a `key` template. Default: none.
    fallback: Option<String>,
    /// Whether a row that the store gives must lie in the interval; needs `right_time`. Default: false.
    #[serde(default)]
    check_interval: bool,
    /// The right row's time as the store has it, for `check_interval`.
    right_time: Option<RightTime>,
    /// When the store stays down past its `timeout`: `wait` (default), `dead_letter`, or `unmatched`: go on as if it did not have
    /// the row.
    #[serde(default)]
    on_store_error: OnStoreError,
    /// The most left rows that a worker lets wait in event time; beyond it the left input is read no further until some have gone.
    /// Default: 10000000.
    #[serde(default = "ten_million")]
    max_waiting: usize,
    /// Looks up again what the store does not have, in state, without a retry topic. Default: none.
    retry: Option<Retry>,
}

fn ten_million() -> usize {
    10_000_000
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum JoinKeys {
    /// The same names on both sides.
    Same(OneOrMany<FieldName>),
    Each(SideKeys),
}

/// The key's fields of each side, in the same order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SideKeys {
    /// Fields of the left input.
    left: OneOrMany<FieldName>,
    /// Fields of the right input.
    right: OneOrMany<FieldName>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum RightFields {
    /// Right fields that keep their names.
    List(Vec<FieldName>),
    /// Output names and the right fields.
    Named(Ordered<FieldName>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Matches {
    #[default]
    All,
    First,
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Unmatched {
    Emit,
    Port,
    Drop,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RightTime {
    /// The store's column.
    field: FieldName,
    /// `epoch_ms`, `epoch_s`, `iso8601` or a pattern.
    format: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Retry {
    /// How long until a row is asked for again; more than 0.
    delay: Duration,
    /// How often at most; 1 or more.
    #[schemars(range(min = 1))]
    max_attempts: u32,
}

millrace_sdk::inventory::submit! { Part::operator::<IntervalLeftJoin>("IntervalLeftJoin", &[]) }

const LEFT: usize = 0;
const RIGHT: usize = 1;
const RETRY: usize = 2;

impl IntervalLeftJoin {
    fn key_names(&self, side: usize) -> &OneOrMany<FieldName> {
        match &self.keys {
            JoinKeys::Same(names) => names,
            JoinKeys::Each(each) if side == RIGHT => &each.right,
            JoinKeys::Each(each) => &each.left,
        }
    }

    fn key_place(&self, side: usize) -> Place {
        match &self.keys {
            JoinKeys::Same(_) => Place::at(["keys"]),
            JoinKeys::Each(_) => Place::at(["keys", if side == RIGHT { "right" } else { "left" }]),
        }
    }

    /// Output name, right field, place.
    fn picked(&self) -> Vec<(&str, &str, Place)> {
        let at = || Place::at(["right_fields"]);
        match &self.right_fields {
            RightFields::List(names) => names.iter().enumerate().map(|(i, n)| (&**n, &**n, at().then(i))).collect(),
            RightFields::Named(named) => named.iter().map(|(out, n)| (&**out, &**n, at().then(&**out))).collect(),
        }
    }
}

impl OperatorSpec for IntervalLeftJoin {
    fn inputs(&self) -> Inputs {
        Inputs::LeftRight { retry: true }
    }

    fn ports(&self) -> Vec<Port> {
        let mut ports = vec![Port::main()];
        if self.unmatched == Unmatched::Port {
            ports.push(Port::named("unmatched"));
        }
        ports.push(Port::dead("late"));
        ports
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let (late, others) = outputs.split_last().expect("there is always the port `late`");
        let mut left = check::joined(others);
        for (out, ..) in self.picked() {
            left = left.without(out);
        }
        left = left.without("_attempts").without("_first_seen");
        left.add(self.key_names(LEFT).as_slice().iter().map(|n| &**n));
        let mut right = Demand::of(self.picked().iter().map(|(_, n, _)| *n));
        right.add(self.key_names(RIGHT).as_slice().iter().map(|n| &**n));
        right.join(late);
        let mut retry = left.clone();
        retry.add(["_attempts", "_first_seen"]);
        vec![left, right, retry]
    }

    fn store(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        if self.lower > self.upper {
            let message = format!("the interval ends ({}) before it begins ({})", self.upper, self.lower);
            problems.push(Problem::error("empty-interval", Place::at(["upper"]), message));
        }
        let (left, right) = (&bind.inputs[LEFT].schema, &bind.inputs[RIGHT].schema);
        let keys = self.bind_keys(bind, &mut problems);
        let columns = self.columns(left, right, &mut problems);
        let processing = bind.env.time == TimeCharacteristic::ProcessingTime;
        let fallback = self.bind_fallback(bind, &columns, &mut problems);
        let retried = bind.inputs.get(RETRY).and_then(|e| self.bind_retried(left, &e.schema, &mut problems));
        if bind.inputs.len() > RETRY && self.fallback.is_none() {
            problems.push(
                Problem::error(
                    "retry-without-fallback",
                    Place::default(),
                    "retried rows are looked up in the fallback store, and there is none",
                )
                .hint("name one: `fallback: <store>`"),
            );
        }
        if bind.inputs.len() > RETRY && self.retry.is_some() {
            let message = "rows are retried either by the `retry:` input or in state, not both";
            problems.push(Problem::error("two-retries", Place::at(["retry"]).key(), message));
        }
        let reserved = |name: &&str| left.slot(name).is_some();
        if self.unmatched == Unmatched::Port
            && let Some(name) = ["_attempts", "_first_seen"].iter().find(|n| reserved(n))
        {
            problems.push(Problem::error(
                "field-clash",
                Place::default(),
                format!("the left input has a field `{name}`, which is Millrace's own"),
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let added = columns.out.iter().map(|(name, ty, _)| Field::new(&**name, *ty)).collect();
        let mut outputs = vec![Edge::new(check::extended(left, added))];
        if self.unmatched == Unmatched::Port {
            let hidden = vec![Field::hidden("_attempts", Type::Bigint), Field::hidden("_first_seen", Type::Timestamp)];
            outputs.push(Edge::new(check::extended(left, hidden)));
        }
        outputs.push(Edge::new(right.clone()));

        let (store, fallback) = fallback.map_or((None, None), |(s, f)| (Some(s), Some(f)));
        let state = |name, kind, schema: Option<&SchemaRef>| StateDesc { schema: schema.cloned(), ..StateDesc::new(name, kind) };
        let stored_right = Schema::new(columns.store_fields());
        let mut states = vec![
            state("left", StateKind::Rows, Some(left)),
            state("right", StateKind::Rows, Some(&stored_right)),
            state("asked", StateKind::Map, None),
            state("again", StateKind::Rows, Some(left)),
            state("due", StateKind::Rows, Some(left)),
        ];
        // Every key pays for every state.
        states.truncate(match &fallback {
            None => 2,
            Some(f) if f.retry.is_none() => 4,
            Some(_) => 5,
        });
        let plan = Arc::new(run::Plan {
            lower: self.lower.micros,
            upper: self.upper.micros,
            matches: self.matches,
            unmatched: self.unmatched,
            processing,
            before_tail: left.width() - usize::from(left.tail().is_some()),
            left: left.clone(),
            right: right.clone(),
            columns: columns.stored.iter().map(|(_, _, slot)| *slot).collect(),
            picks: columns.out.iter().map(|(_, _, column)| Slot(*column as u16)).collect(),
            right_picks: columns.out.iter().map(|(_, _, column)| columns.stored[*column].2).collect(),
            keys: [keys[LEFT].clone(), keys[RIGHT].clone()],
            late: outputs.len() - 1,
            retried,
            fallback,
        });
        let keyed = Keyed {
            keys: keys.into_iter().map(Key::new).collect(),
            states,
            stores: store.into_iter().collect(),
            max_holds: (!processing).then_some(self.max_waiting.max(1)),
            make: Arc::new(move || Box::new(run::Join::new(plan.clone())) as Box<dyn KeyedOperator>),
        };
        Ok(Bound::new(outputs, Exec::Keyed(keyed)))
    }
}

/// The right row's columns that are kept, and how output fields are made of them.
struct Columns {
    /// Name, type, slot in the right input; each once.
    stored: Vec<(String, Type, Slot)>,
    /// Output name, type, index into `stored`.
    out: Vec<(String, Type, usize)>,
}

impl Columns {
    fn store_fields(&self) -> Vec<Field> {
        self.stored.iter().map(|(name, ty, _)| Field::new(&**name, *ty)).collect()
    }
}

impl IntervalLeftJoin {
    /// The key's slots, one list an input.
    fn bind_keys(&self, bind: &Bind<'_>, problems: &mut Vec<Problem>) -> Vec<Vec<Slot>> {
        let before = problems.len();
        let mut keys = vec![];
        for (side, edge) in bind.inputs.iter().enumerate() {
            let names = self.key_names(side);
            let one = matches!(names, OneOrMany::One(_));
            let mut found = vec![];
            let slots = check::key_slots(names.as_slice().iter().map(|n| &**n), &edge.schema, &self.key_place(side), one, &mut found);
            let input = ["left", "right", "retry"][side];
            for p in found {
                // A name that neither input has is one slip.
                let twin =
                    |q: &&mut Problem| side == RIGHT && q.place == p.place && q.message == format!("{} in the left input", p.message);
                match problems.iter_mut().find(twin) {
                    Some(q) => {
                        q.message = format!("{} in both inputs", p.message);
                        q.suggestion = q.suggestion.take().or(p.suggestion);
                    }
                    None => problems.push(Problem { message: format!("{} in the {input} input", p.message), ..p }),
                }
            }
            keys.push(slots);
        }
        if problems.len() > before {
            return keys;
        }
        if keys[LEFT].len() != keys[RIGHT].len() {
            let message = format!("the left key has {} fields, the right key {}", keys[LEFT].len(), keys[RIGHT].len());
            problems.push(Problem::error("keys-differ", self.key_place(RIGHT), message));
            return keys;
        }
        for (l, r) in keys[LEFT].iter().zip(&keys[RIGHT]) {
            let (l, r) = (bind.inputs[LEFT].schema.field(*l), bind.inputs[RIGHT].schema.field(*r));
            let comparable = l.ty == r.ty || l.ty == Type::Any || r.ty == Type::Any || (l.ty.is_number() && r.ty.is_number());
            if !comparable {
                let message =
                    format!("`{}` is {} on the left and `{}` is {} on the right: they are never equal", l.name, l.ty, r.name, r.ty);
                problems.push(Problem::error("keys-differ", self.key_place(RIGHT), message).hint("give both the same type"));
            }
        }
        keys
    }

    fn columns(&self, left: &Schema, right: &Schema, problems: &mut Vec<Problem>) -> Columns {
        let mut columns = Columns { stored: vec![], out: vec![] };
        for (out, name, place) in self.picked() {
            check::output_name(out, "a field", &place, problems);
            if left.slot(out).is_some() || columns.out.iter().any(|(o, ..)| o == out) {
                problems.push(
                    Problem::error("field-clash", place.clone(), format!("the joined row has a field `{out}` already"))
                        .hint(format!("give it another name: `right_fields: {{right_{out}: {name}}}`")),
                );
            }
            match check::slot(name, right, place) {
                Ok(slot) => {
                    let ty = right.field(slot).ty;
                    let column = columns.stored.iter().position(|(n, ..)| n == name).unwrap_or_else(|| {
                        columns.stored.push((name.into(), ty, slot));
                        columns.stored.len() - 1
                    });
                    columns.out.push((out.into(), ty, column));
                }
                Err(p) => problems.push(Problem { message: format!("{} in the right input", p.message), ..p }),
            }
        }
        columns
    }

    fn bind_fallback(&self, bind: &Bind<'_>, columns: &Columns, problems: &mut Vec<Problem>) -> Option<(StoreUse, run::Fallback)> {
        let at = Place::at(["fallback"]);
        let Some(name) = &self.fallback else {
            for (given, key) in
                [(self.check_interval, "check_interval"), (self.right_time.is_some(), "right_time"), (self.retry.is_some(), "retry")]
            {
                if given {
                    let message = format!("`{key}` is about the fallback store, and there is none");
                    problems
                        .push(Problem::error("without-fallback", Place::at([key]).key(), message).hint("name one: `fallback: <store>`"));
                }
            }
            return None;
        };
        let Some(info) = bind.store(name) else {
            let names = bind.stores.iter().map(|s| &*s.name);
            problems.push(
                Problem::error("unknown-store", at, format!("no store is called `{name}`"))
                    .suggest(did_you_mean(name, names))
                    .hint("stores are declared under `stores:`"),
            );
            return None;
        };
        let Some(text) = &info.key else {
            problems.push(
                Problem::error("store-without-key", at, format!("the store `{name}` has no `key` template to be asked by"))
                    .hint("add `key: \"{{...}}\"` to the store's config"),
            );
            return None;
        };
        let key = check::store_key(name, text, &bind.inputs[LEFT].schema, bind.env, problems);

        let mut fields = columns.store_fields();
        let check = match (&self.right_time, self.check_interval) {
            (None, true) => {
                problems.push(
                    Problem::error("check-without-time", Place::at(["check_interval"]), "the store's rows have no known time")
                        .hint("say which column it is: `right_time: {field: ts, format: epoch_ms}`"),
                );
                None
            }
            (Some(_), false) | (None, false) => None,
            (Some(time), true) => {
                let place = Place::at(["right_time", "format"]);
                let reader = TimeFormat::parse(&time.format).and_then(|f| TimeReader::new(&f, &bind.env.time_zone));
                let column = fields.iter().position(|f| *f.name == *time.field).unwrap_or_else(|| {
                    fields.push(Field::new(&*time.field, Type::String));
                    fields.len() - 1
                });
                reader.map_err(|e| problems.push(Problem::error("invalid-time-format", place, e))).ok().map(|r| (Slot(column as u16), r))
            }
        };
        if let Some(retry) = &self.retry {
            if retry.delay.micros <= 0 {
                problems.push(Problem::error("out-of-range", Place::at(["retry", "delay"]), "the delay must be longer than nothing"));
            }
            if retry.max_attempts == 0 {
                problems.push(Problem::error("out-of-range", Place::at(["retry", "max_attempts"]), "a row is retried at least once"));
            }
        }
        let width = fields.len();
        let store = StoreUse { name: name.clone(), fields, on_error: self.on_store_error };
        let retry = self.retry.as_ref().map(|r| (r.delay.micros, r.max_attempts));
        Some((store, run::Fallback { key: key?, width, check, retry, dead_letter: self.on_store_error == OnStoreError::DeadLetter }))
    }

    fn bind_retried(&self, left: &Schema, retry: &Schema, problems: &mut Vec<Problem>) -> Option<run::Retried> {
        let mut slots = vec![];
        for f in left.fields() {
            let slot = retry.slot(&f.name);
            if slot.is_none() && !f.hidden {
                let message = format!("the retry input has no field `{}`, the left input has", f.name);
                problems
                    .push(Problem::error("field-clash", Place::default(), message).hint("retried rows are those of the port `unmatched`"));
            }
            slots.push(slot);
        }
        Some(run::Retried { slots, attempts: retry.slot("_attempts"), first_seen: retry.slot("_first_seen") })
    }
}
