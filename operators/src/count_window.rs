use crate::check;
use millrace_expr::{Aggregates, EvalError};
use millrace_sdk::config::{Duration, ExprText, Ordered, Size};
use millrace_sdk::operator::{Keyed, Port, TimeCharacteristic};
use millrace_sdk::{
    Bind, Bound, Context, Demand, Edge, Exec, Fault, Field, Key, KeyedOperator, Meta, NO_TIME, OperatorSpec, Part, Place, Problem, Record,
    Reject, RowBuf, Schema, SchemaRef, Slot, State, StateDesc, StateId, StateKind, TimeDomain, Type, json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Gathers rows of one key until there are `count` of them or `timeout` is over, whichever comes first.
///
/// A window opens with the first row of its key to arrive; the row's time is t0. It needs a `KeyBy` before it.
///
/// In event time (and ingestion time) membership is decided by the rows' times alone. A row with time <= t0 + timeout joins,
/// also one earlier than t0. A later row first closes the window (`why: timeout`), then opens its own. The `count`th row joins
/// and closes the window at once (`why: count`). A window is also closed once the watermark says that no further row can join
/// it, and at the end of the input (`why: timeout` both). Late rows (at or below their partition's watermark) join nothing: they
/// leave by the port `late`. In processing time a row's time is the clock's when it arrives, and no row is late.
///
/// The output has the key's fields, `window_start` (t0) and `window_last` (the time of the row that came last), both bigint in
/// epoch milliseconds, `why`, and then the aggregates, or without `aggregates` the rows themselves as an array of objects, in the
/// order in which they came. That list has a limit, `max_bytes`: the row that exceeds it closes the window at once, `why: size`.
///
/// The event time of an output row is t0, and the output watermark stays below the t0 of all open windows. The output is keyed
/// as the input. A row that an aggregate cannot take (a sum that overflows) is rejected and is not part of the window.
///
/// Ports: the main output; `late` (to the dead letter unless it is read). Counters: `closed_by_count`, `closed_by_timeout`,
/// `closed_by_size`.
///
/// # Example
/// ```yaml
/// name: count-window
/// run_env: {time_characteristic: EventTime}
/// streams:
///   clicks:
///     config:
///       source:
///         type: Inline
///         config:
///           lines:
///             - '{"mid":"m1","ts":1000,"cents":5}'
///             - '{"mid":"m1","ts":2000,"cents":7}'
///             - '{"mid":"m1","ts":3000,"cents":1}'
///             - '{"mid":"m1","ts":9000,"cents":2}'
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {mid: string, ts: bigint, cents: bigint}}}
///       watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 0s}
/// transforms:
///   - {type: KeyBy, config: {keys: [mid]}}
///   - {type: CountWindowWithTimeOut, config: {count: 2, timeout: 5s, aggregates: {n: count(*), sum: sum(cents)}}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"mid":"m1","window_start":1000,"window_last":2000,"why":"count","n":2,"sum":12}
/// {"mid":"m1","window_start":3000,"window_last":3000,"why":"timeout","n":1,"sum":1}
/// {"mid":"m1","window_start":9000,"window_last":9000,"why":"timeout","n":1,"sum":2}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountWindowWithTimeOut {
    /// Rows that close a window, 1 or more.
    #[schemars(range(min = 1))]
    count: u64,
    /// How far a row's time may lie after the window's first, end included; more than 0.
    timeout: Duration,
    /// Output fields and the aggregates that give them: `count(*)`, `sum(x)`, `min`, `max`, `avg`, `first`, `last`,
    /// `count(distinct x)`, and expressions over them. NULLs are left out. Default: none, the output is the list of rows.
    #[serde(default)]
    aggregates: Ordered<ExprText>,
    /// The field of the list of rows, where there are no aggregates. Default: `rows`.
    rows: Option<String>,
    /// The most that a list of rows may hold, as JSON. Default: 16MiB.
    #[serde(default = "sixteen_mib")]
    max_bytes: Size,
}

fn sixteen_mib() -> Size {
    Size::bytes(16 << 20)
}

millrace_sdk::inventory::submit! { Part::operator::<CountWindowWithTimeOut>("CountWindowWithTimeOut", &["CountWindow"]) }

const OWN_FIELDS: [(&str, Type); 3] = [("window_start", Type::Bigint), ("window_last", Type::Bigint), ("why", Type::String)];

const LATE: usize = 1;

impl OperatorSpec for CountWindowWithTimeOut {
    fn ports(&self) -> Vec<Port> {
        vec![Port::main(), Port::dead("late")]
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        if self.aggregates.is_empty() {
            return vec![Demand::all()];
        }
        let mut demand = check::joined(outputs);
        demand.all = outputs[LATE].all;
        for name in OWN_FIELDS.iter().map(|(n, _)| *n).chain(self.aggregates.iter().map(|(n, _)| &**n)) {
            demand = demand.without(name);
        }
        self.aggregates.iter().for_each(|(_, text)| demand.add(Aggregates::fields(text)));
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        if self.count == 0 {
            problems.push(Problem::error("out-of-range", Place::at(["count"]), "a window has at least one row"));
        }
        if self.timeout.micros <= 0 {
            problems.push(Problem::error("out-of-range", Place::at(["timeout"]), "the timeout must be longer than nothing"));
        }
        let key: Vec<Slot> = match &input.key {
            Some(names) => names.iter().filter_map(|n| input.schema.slot(n)).collect(),
            None => {
                problems.push(
                    Problem::error("window-without-key", Place::default(), "the rows that come here have no key")
                        .hint("put a KeyBy before the window: `- {type: KeyBy, config: {keys: [...]}}`"),
                );
                vec![]
            }
        };
        let key_fields = key.iter().map(|s| Field::new(&*input.schema.field(*s).name, input.schema.field(*s).ty));
        let key_schema = Schema::new(key_fields.collect());
        let content = self.content(bind, &mut problems);
        let Some(content) = content else { return Err(problems) };
        let mut fields = key_schema.fields().to_vec();
        fields.extend(OWN_FIELDS.iter().map(|(name, ty)| Field::new(*name, *ty)));
        for (field, at) in content.fields() {
            if fields.iter().any(|f| f.name == field.name) {
                let message = format!("the window has a field `{}` already", field.name);
                problems.push(Problem::error("field-clash", at, message).hint("choose another name"));
            }
            fields.push(field);
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let layout = self.layout(&key_schema, &content);
        let output = Edge { schema: Schema::new(fields), key: input.key.clone() };
        let plan = Arc::new(Plan {
            count: self.count,
            timeout: self.timeout.micros,
            processing: bind.env.time == TimeCharacteristic::ProcessingTime,
            key: key.clone(),
            key_schema,
            input: input.schema.clone(),
            content,
        });
        let make = move || Box::new(Run { plan: plan.clone(), key_row: RowBuf::new() }) as Box<dyn KeyedOperator>;
        let keyed = Keyed {
            keys: vec![Key::new(key)],
            states: vec![StateDesc::new("window", StateKind::Value).layout(layout)],
            stores: vec![],
            max_holds: None,
            make: Arc::new(make),
        };
        Ok(Bound::new(vec![output, Edge::new(input.schema.clone())], Exec::Keyed(keyed)))
    }
}

impl CountWindowWithTimeOut {
    /// What a window's bytes depend on: the key's fields, and the aggregates as written with their types.
    fn layout(&self, key: &Schema, content: &Content) -> String {
        let mut parts: Vec<String> = key.fields().iter().map(|f| format!("{} {}", f.name, f.ty)).collect();
        match content {
            Content::Rows { .. } => parts.push("rows".into()),
            Content::Aggregates(a) => parts
                .extend(a.outputs().iter().zip(self.aggregates.iter()).map(|(f, (_, text))| format!("{} {} = {}", f.name, f.ty, &**text))),
        }
        parts.join(", ")
    }

    fn content(&self, bind: &Bind<'_>, problems: &mut Vec<Problem>) -> Option<Content> {
        if self.aggregates.is_empty() {
            let name = self.rows.clone().unwrap_or_else(|| "rows".into());
            check::output_name(&name, "a field", &Place::at(["rows"]), problems);
            return Some(Content::Rows { name, max_bytes: self.max_bytes.bytes.clamp(1, 256 << 20) as usize });
        }
        if self.rows.is_some() {
            problems.push(
                Problem::error("rows-and-aggregates", Place::at(["rows"]).key(), "a window gives aggregates or the list of rows, not both")
                    .hint("take away `rows` or `aggregates`"),
            );
        }
        for (name, _) in self.aggregates.iter() {
            check::output_name(name, "a field", &Place::at(["aggregates", name]), problems);
        }
        let named: Vec<(String, String)> = self.aggregates.iter().map(|(n, t)| (n.clone(), t.to_string())).collect();
        match Aggregates::compile(&named, &bind.input().schema, bind.env) {
            Ok(a) => Some(Content::Aggregates(a)),
            Err(issues) => {
                problems.extend(issues.into_iter().map(|(i, issue)| issue.at(&Place::at(["aggregates", &named[i].0]))));
                None
            }
        }
    }
}

enum Content {
    Aggregates(Aggregates),
    Rows { name: String, max_bytes: usize },
}

impl Content {
    fn fields(&self) -> Vec<(Field, Place)> {
        match self {
            Content::Aggregates(a) => a.outputs().into_iter().map(|f| (f.clone(), Place::at(["aggregates", &f.name]).key())).collect(),
            Content::Rows { name, .. } => vec![(Field::new(&**name, Type::Array), Place::at(["rows"]))],
        }
    }
}

struct Plan {
    count: u64,
    /// Microseconds.
    timeout: i64,
    processing: bool,
    key: Vec<Slot>,
    key_schema: SchemaRef,
    input: SchemaRef,
    content: Content,
}

const WINDOW: StateId = StateId(0);
/// Closes the window when its time is over.
const TIMEOUT: u32 = 0;
/// Closes the window at the end of the input, where the clock decides otherwise.
const END: u32 = 1;

/// The state of an open window: last time (8 bytes), rows so far (8), length of the key's row (4), the key's row whose meta is
/// that of the first row with t0 as its time, accumulators or the rows as JSON with commas between them.
mod layout {
    const KEY: usize = 20;

    pub fn open(window: &mut Vec<u8>, key_row: impl FnOnce(&mut Vec<u8>)) {
        window.clear();
        window.resize(KEY, 0);
        key_row(window);
        let len = (window.len() - KEY) as u32;
        window[16..20].copy_from_slice(&len.to_le_bytes());
    }
    fn word(window: &[u8], at: usize) -> [u8; 8] {
        window[at..at + 8].try_into().expect("8 bytes")
    }
    pub fn last(window: &[u8]) -> i64 {
        i64::from_le_bytes(word(window, 0))
    }
    pub fn rows(window: &[u8]) -> u64 {
        u64::from_le_bytes(word(window, 8))
    }
    /// The time of the first row: the first word of the key row's meta.
    pub fn start(window: &[u8]) -> i64 {
        i64::from_le_bytes(word(window, KEY))
    }
    pub fn set(window: &mut [u8], last: i64, rows: u64) {
        window[0..8].copy_from_slice(&last.to_le_bytes());
        window[8..16].copy_from_slice(&rows.to_le_bytes());
    }
    pub fn content_at(window: &[u8]) -> usize {
        KEY + u32::from_le_bytes(window[16..20].try_into().expect("4 bytes")) as usize
    }
    pub fn key_row(window: &[u8]) -> &[u8] {
        &window[KEY..content_at(window)]
    }
}

struct Run {
    plan: Arc<Plan>,
    /// Room for the key's row, to be read when the window closes.
    key_row: RowBuf,
}

impl KeyedOperator for Run {
    fn on_record(&mut self, _input: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let meta = *row.meta();
        let time = if plan.processing { cx.now() } else { meta.time };
        if !plan.processing {
            if time == NO_TIME {
                cx.reject(Reject::row("no-event-time", "the row has no event time", &row, &plan.input));
                return Ok(());
            }
            if meta.late() {
                let late = cx.out(LATE);
                late.push_record(&row);
                late.end_row(meta);
                return Ok(());
            }
        }

        let window = state.update(WINDOW);
        if !window.is_empty() && time > layout::start(window).saturating_add(plan.timeout) {
            plan.close(window, &mut self.key_row, "timeout", "closed_by_timeout", cx)?;
            window.clear();
        }
        let opens = window.is_empty();
        if opens {
            layout::open(window, |out| row.encode_fields(&Meta { time, ..meta }, &plan.key, out));
            if let Content::Aggregates(a) = &plan.content {
                a.init(window);
            }
        }
        let rows = layout::rows(window) + 1;
        match plan.add(window, rows, &row) {
            Err(e) => {
                cx.reject(Reject::row(e.reason, e.message, &row, &plan.input));
                if opens {
                    state.clear(WINDOW);
                }
                return Ok(());
            }
            Ok(full) => {
                layout::set(window, time, rows);
                if opens {
                    plan.watch(time, cx);
                }
                if rows >= plan.count {
                    plan.close(window, &mut self.key_row, "count", "closed_by_count", cx)?;
                } else if full {
                    plan.close(window, &mut self.key_row, "size", "closed_by_size", cx)?;
                } else {
                    return Ok(());
                }
                state.clear(WINDOW);
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, domain: TimeDomain, time: i64, tag: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let _ = domain;
        let window = state.update(WINDOW);
        let plan = &*self.plan;
        let over = !window.is_empty() && (tag == END || layout::start(window).saturating_add(plan.timeout) <= time);
        if over {
            plan.close(window, &mut self.key_row, "timeout", "closed_by_timeout", cx)?;
        }
        if over || window.is_empty() {
            state.clear(WINDOW);
        }
        Ok(())
    }
}

impl Plan {
    /// Takes a row into the window's content; true: the content has reached its limit.
    fn add(&self, window: &mut Vec<u8>, rows: u64, row: &Record<'_>) -> Result<bool, EvalError> {
        let at = layout::content_at(window);
        match &self.content {
            Content::Aggregates(a) => a.update(window, at, row).map(|()| false),
            Content::Rows { max_bytes, .. } => {
                if rows > 1 {
                    window.push(b',');
                }
                json::write_row(row, &self.input, window);
                Ok(window.len() - at >= *max_bytes)
            }
        }
    }

    /// Timers and the hold of a window that has opened.
    fn watch(&self, start: i64, cx: &mut dyn Context) {
        let end = start.saturating_add(self.timeout);
        if self.processing {
            cx.set_timer(TimeDomain::Processing, end, TIMEOUT);
            cx.set_timer(TimeDomain::Event, i64::MAX, END);
        } else {
            cx.hold(start);
            cx.set_timer(TimeDomain::Event, end, TIMEOUT);
        }
    }

    fn unwatch(&self, start: i64, cx: &mut dyn Context) {
        let end = start.saturating_add(self.timeout);
        if self.processing {
            cx.delete_timer(TimeDomain::Processing, end, TIMEOUT);
            cx.delete_timer(TimeDomain::Event, i64::MAX, END);
        } else {
            cx.release(start);
            cx.delete_timer(TimeDomain::Event, end, TIMEOUT);
        }
    }

    fn close(
        &self,
        window: &[u8],
        key_row: &mut RowBuf,
        why: &'static str,
        counter: &'static str,
        cx: &mut dyn Context,
    ) -> Result<(), Fault> {
        let key = key_row.decode(self.key.len(), layout::key_row(window)).map_err(|e| Fault::bug(e.to_string()))?;
        let start = layout::start(window);
        let content = &window[layout::content_at(window)..];
        let out = cx.out(0);
        out.push_record(&key);
        out.push_int(start.div_euclid(1000));
        out.push_int(layout::last(window).div_euclid(1000));
        out.push_str(why);
        let pushed = match &self.content {
            Content::Aggregates(a) => a.push(content, out),
            Content::Rows { .. } => {
                let begun = out.begin_text();
                let text = out.text_mut();
                text.push(b'[');
                text.extend_from_slice(content);
                text.push(b']');
                out.end_json(begun);
                Ok(())
            }
        };
        match pushed {
            Ok(()) => out.end_row(*key.meta()),
            Err(e) => {
                out.abandon_row();
                cx.reject(Reject::row(e.reason, e.message, &key, &self.key_schema));
            }
        }
        cx.count(counter, 1);
        self.unwatch(start, cx);
        Ok(())
    }
}

#[cfg(test)]
#[path = "count_window_tests.rs"]
mod tests;
