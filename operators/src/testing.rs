//! Runs parts in tests without an engine: batches through stateless ones, and keyed ones on state, timers, holds and watermarks
//! kept in plain maps.

use millrace_sdk::operator::{Exec, Keyed, Outputs, TimeCharacteristic};
use millrace_sdk::{
    Answer, Batch, BatchBuilder, Bind, Bound, Context, Demand, Edge, Fault, Field, Key, KeyedOperator, Kind, Make, Meta, NO_TIME, Operator,
    OperatorSpec, Part, Problem, Record, Reject, RowBuf, Schema, SchemaRef, State, StateId, TimeDomain, Type, Val, Visit,
    codec::RowWriter,
    operator::{Env, StoreInfo},
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

pub(crate) fn rows(text: &str) -> Vec<Json> {
    serde_json::from_str(text).expect("the test's rows are a JSON array")
}

pub(crate) fn schema(fields: &[(&str, &str)]) -> SchemaRef {
    let field = |(name, ty): &(&str, &str)| {
        let ty = Type::parse(ty).expect("a type");
        if name.starts_with('_') { Field::hidden(*name, ty) } else { Field::new(*name, ty) }
    };
    match fields.split_last() {
        Some((("...", _), fields)) => Schema::open(fields.iter().map(field).collect()),
        _ => Schema::new(fields.iter().map(field).collect()),
    }
}

/// Pushes a JSON object as a row; `@time` (microseconds), `@late` and `@offset` are its meta, `...` the tail.
pub(crate) fn push(row: &Json, out: &mut BatchBuilder) {
    let schema = out.schema().clone();
    for (i, f) in schema.fields().iter().enumerate() {
        let tail = schema.tail().is_some_and(|t| t.index() == i);
        match row.get(if tail { "..." } else { &f.name }) {
            None if tail => out.push_json("{}"),
            None => out.push_missing(),
            Some(Json::Null) => out.push_null(),
            Some(Json::Bool(b)) => out.push_bool(*b),
            Some(Json::Number(n)) => match (f.ty, n.as_i64()) {
                (Type::Bigint, Some(i)) => out.push_int(i),
                (Type::Timestamp, Some(i)) => out.push_time(i),
                (Type::Double, _) => out.push_float(n.as_f64().expect("a double")),
                _ => out.push_num(&n.to_string()),
            },
            Some(Json::String(s)) if matches!(f.ty, Type::Decimal(..)) => out.push_num(s),
            Some(Json::String(s)) if f.ty == Type::Bytes => out.push_bytes(s.as_bytes()),
            Some(Json::String(s)) => out.push_str(s),
            Some(container) => out.push_json(&container.to_string()),
        }
    }
    let mut meta = Meta { time: row.get("@time").and_then(Json::as_i64).unwrap_or(NO_TIME), ..Meta::default() };
    meta.offset = row.get("@offset").and_then(Json::as_u64).unwrap_or(0);
    meta.set_late(row.get("@late").is_some());
    out.end_row(meta);
}

pub(crate) fn batch(schema: &SchemaRef, rows: &[Json]) -> Batch {
    let mut out = BatchBuilder::new(schema.clone());
    rows.iter().for_each(|r| push(r, &mut out));
    out.finish()
}

/// A value as JSON, for comparison: times as their microseconds, decimals as strings.
pub(crate) fn json(v: Val<'_>, ty: Type) -> Json {
    match v {
        Val::Missing | Val::Null => Json::Null,
        Val::Bool(b) => b.into(),
        Val::Int(i) | Val::Time(i) => i.into(),
        Val::Float(f) => f.into(),
        Val::Num(n) if matches!(ty, Type::Decimal(..)) => n.into(),
        Val::Num(n) => serde_json::from_str(n).expect("a number"),
        Val::Str(s) => s.into(),
        Val::Bytes(b) => String::from_utf8_lossy(b).into(),
        Val::Json(j) => serde_json::from_str(j).expect("JSON"),
        Val::Split(s, ..) => s.into(),
    }
}

/// A row with all fields that are there, hidden ones too.
pub(crate) fn object(row: &Record<'_>, schema: &Schema) -> Json {
    let mut map = Map::new();
    for (i, f) in schema.fields().iter().enumerate() {
        let v = row.get(millrace_sdk::Slot(i as u16));
        if v != Val::Missing && Some(i) != schema.tail().map(|t| t.index()) {
            map.insert(f.name.to_string(), json(v, f.ty));
        }
    }
    map.into()
}

/// What came out of a part.
#[derive(Default, Debug)]
pub(crate) struct Out {
    pub rows: Vec<(String, Json, Meta)>,
    pub rejects: Vec<Reject>,
    pub dropped: BTreeMap<&'static str, u64>,
    pub counts: BTreeMap<&'static str, u64>,
    /// Rows on each port that were at or below the output watermark when they were emitted.
    pub emitted_late: BTreeMap<String, u64>,
}

impl Out {
    pub fn port(&self, port: &str) -> Vec<&Json> {
        self.rows.iter().filter(|(p, ..)| p == port).map(|(_, r, _)| r).collect()
    }
    pub fn lines(&self, port: &str) -> Vec<String> {
        self.port(port).into_iter().map(Json::to_string).collect()
    }
    pub fn column(&self, port: &str, field: &str) -> Json {
        self.port(port).into_iter().map(|r| r.get(field).cloned().unwrap_or(Json::Null)).collect()
    }
    pub fn dropped(&self, reason: &str) -> u64 {
        self.dropped.get(reason).copied().unwrap_or(0)
    }
    pub fn count(&self, counter: &str) -> u64 {
        self.counts.get(counter).copied().unwrap_or(0)
    }
    pub fn reasons(&self) -> Vec<&'static str> {
        self.rejects.iter().map(|r| r.reason).collect()
    }
}

/// How a test sets a part up.
pub(crate) struct Setup {
    pub name: &'static str,
    pub config: Json,
    pub inputs: Vec<Edge>,
    pub env: Env,
    pub stores: Vec<StoreInfo>,
}

impl Setup {
    pub fn new(name: &'static str, config: Json, inputs: Vec<Edge>) -> Setup {
        Setup { name, config, inputs, env: Env { time: TimeCharacteristic::EventTime, ..Env::default() }, stores: vec![] }
    }

    pub fn spec(&self) -> Result<Box<dyn OperatorSpec>, Vec<Problem>> {
        let part = Part::find(Kind::Operator, self.name).expect("a registered operator");
        let Make::Operator(make) = part.make else { unreachable!("it was found among the operators") };
        make(self.config.clone())
    }

    pub fn bind(&self) -> Result<(Vec<String>, Bound), Vec<Problem>> {
        let spec = self.spec()?;
        let ports: Vec<String> = spec.ports().into_iter().map(|p| p.name).collect();
        let demands = vec![Demand::all(); ports.len()];
        assert!(!spec.demand(&demands).is_empty(), "a demand for the input");
        let bound = spec.bind(&Bind { inputs: &self.inputs, demands: &demands, env: &self.env, stores: &self.stores })?;
        assert_eq!(bound.outputs.len(), ports.len(), "an edge for each port");
        Ok((ports, bound))
    }
}

/// A stateless part, ready to run.
pub(crate) struct Job {
    ports: Vec<String>,
    bound: Bound,
    input: SchemaRef,
}

impl Job {
    pub fn operator(name: &'static str, config: Json, fields: &[(&str, &str)]) -> Job {
        let input = schema(fields);
        let (ports, bound) = Setup::new(name, config, vec![Edge::new(input.clone())]).bind().unwrap_or_else(|p| panic!("{p:?}"));
        Job { ports, bound, input }
    }

    pub fn problems(name: &'static str, config: Json, fields: &[(&str, &str)]) -> Vec<Problem> {
        Setup::new(name, config, vec![Edge::new(schema(fields))]).bind().err().expect("the part has problems")
    }

    pub fn keyed_edge(name: &'static str, config: Json, fields: &[(&str, &str)], key: &[&str]) -> Option<Vec<String>> {
        let key = (!key.is_empty()).then(|| key.iter().map(|k| k.to_string()).collect());
        let setup = Setup::new(name, config, vec![Edge { schema: schema(fields), key }]);
        setup.bind().unwrap_or_else(|p| panic!("{p:?}")).1.outputs.remove(0).key
    }

    pub fn run(&mut self, rows: Vec<Json>) -> Out {
        self.run_batch(batch(&self.input, &rows))
    }

    pub fn run_batch(&mut self, batch: Batch) -> Out {
        let Exec::Stateless(make) = &self.bound.exec else { panic!("not a stateless part") };
        run_operator(&mut *make(), batch, &self.ports)
    }
}

pub(crate) fn run_operator(operator: &mut dyn Operator, batch: Batch, ports: &[String]) -> Out {
    let mut outputs = Outputs::default();
    operator.process(batch, &mut outputs);
    collect(outputs, ports)
}

pub(crate) fn collect(outputs: Outputs, ports: &[String]) -> Out {
    let mut out = Out::default();
    for (port, batch) in outputs.batches {
        for row in batch.rows() {
            out.rows.push((ports[port].clone(), object(&row, batch.schema()), *row.meta()));
        }
    }
    out.rejects = outputs.rejects;
    for (reason, n) in outputs.dropped {
        *out.dropped.entry(reason).or_default() += n;
    }
    out
}

#[derive(Default)]
struct KeyState {
    values: HashMap<usize, Vec<u8>>,
    rows: HashMap<usize, BTreeMap<(i64, u64), Vec<u8>>>,
    maps: HashMap<usize, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl KeyState {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.rows.values().all(|r| r.is_empty()) && self.maps.values().all(|m| m.is_empty())
    }
}

impl State for KeyState {
    fn get(&mut self, id: StateId) -> Option<&[u8]> {
        self.values.get(&id.0).map(|v| &v[..])
    }
    fn put(&mut self, id: StateId, value: &[u8]) {
        self.values.insert(id.0, value.to_vec());
    }
    fn update(&mut self, id: StateId) -> &mut Vec<u8> {
        self.values.entry(id.0).or_default()
    }
    fn clear(&mut self, id: StateId) {
        self.values.remove(&id.0);
        self.rows.remove(&id.0);
        self.maps.remove(&id.0);
    }
    fn insert(&mut self, id: StateId, time: i64, seq: u64, row: &[u8]) {
        self.rows.entry(id.0).or_default().insert((time, seq), row.to_vec());
    }
    fn scan(&mut self, id: StateId, from: i64, to: i64, visit: &mut dyn FnMut(i64, u64, &mut [u8]) -> Visit) {
        let Some(rows) = self.rows.get_mut(&id.0) else { return };
        if from > to {
            return;
        }
        let mut gone = vec![];
        for (&(time, seq), row) in rows.range_mut((from, 0)..=(to, u64::MAX)) {
            match visit(time, seq, row) {
                Visit::Keep | Visit::Changed => {}
                Visit::Remove => gone.push((time, seq)),
                Visit::Stop => break,
            }
        }
        gone.iter().for_each(|k| drop(rows.remove(k)));
    }
    fn row(&mut self, id: StateId, time: i64, seq: u64) -> Option<&[u8]> {
        self.rows.get(&id.0)?.get(&(time, seq)).map(|r| &r[..])
    }
    fn remove(&mut self, id: StateId, time: i64, seq: u64) -> bool {
        self.rows.get_mut(&id.0).is_some_and(|r| r.remove(&(time, seq)).is_some())
    }
    fn map_get(&mut self, id: StateId, key: &[u8]) -> Option<&[u8]> {
        self.maps.get(&id.0)?.get(key).map(|v| &v[..])
    }
    fn map_put(&mut self, id: StateId, key: &[u8], value: &[u8]) {
        self.maps.entry(id.0).or_default().insert(key.to_vec(), value.to_vec());
    }
    fn map_remove(&mut self, id: StateId, key: &[u8]) -> bool {
        self.maps.get_mut(&id.0).is_some_and(|m| m.remove(key).is_some())
    }
    fn map_scan(&mut self, id: StateId, visit: &mut dyn FnMut(&[u8], &mut [u8]) -> Visit) {
        let Some(map) = self.maps.get_mut(&id.0) else { return };
        let mut gone = vec![];
        for (key, value) in map.range_mut::<[u8], _>((Unbounded, Unbounded)) {
            match visit(key, value) {
                Visit::Keep | Visit::Changed => {}
                Visit::Remove => gone.push(key.clone()),
                Visit::Stop => break,
            }
        }
        gone.iter().for_each(|k| drop(map.remove(k)));
    }
}

/// A question that is on its way to a store.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    key: Vec<u8>,
    pub store_key: String,
    token: u64,
}

struct Cx {
    key: Vec<u8>,
    watermarks: Vec<i64>,
    /// Inputs that have a part in the watermark.
    timed: usize,
    now: i64,
    timers: BTreeSet<(TimeDomain, i64, Vec<u8>, u32)>,
    outs: Vec<BatchBuilder>,
    ports: Vec<String>,
    out: Out,
    asked: Vec<Asked>,
    holds: BTreeMap<i64, u64>,
    output_watermark: i64,
    sequence: u64,
}

impl Context for Cx {
    fn key(&self) -> &[u8] {
        &self.key
    }
    fn watermark(&self) -> i64 {
        self.watermarks[..self.timed].iter().copied().min().unwrap_or(i64::MIN)
    }
    fn input_watermark(&self, input: usize) -> i64 {
        self.watermarks[input]
    }
    fn now(&self) -> i64 {
        self.now
    }
    fn set_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        self.timers.insert((domain, time, self.key.clone(), tag));
    }
    fn delete_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        self.timers.remove(&(domain, time, self.key.clone(), tag));
    }
    fn out(&mut self, port: usize) -> &mut BatchBuilder {
        &mut self.outs[port]
    }
    fn reject(&mut self, reject: Reject) {
        self.out.rejects.push(reject);
    }
    fn drop_row(&mut self, reason: &'static str) {
        *self.out.dropped.entry(reason).or_default() += 1;
    }
    fn count(&mut self, counter: &'static str, n: u64) {
        *self.out.counts.entry(counter).or_default() += n;
    }
    fn ask(&mut self, _store: usize, store_key: &[u8], token: u64) {
        self.asked.push(Asked { key: self.key.clone(), store_key: String::from_utf8_lossy(store_key).into(), token });
    }
    fn hold(&mut self, time: i64) {
        *self.holds.entry(time).or_default() += 1;
    }
    fn release(&mut self, time: i64) {
        let n = self.holds.get_mut(&time).expect("only what is held is released");
        *n -= 1;
        if *n == 0 {
            self.holds.remove(&time);
        }
    }
    fn sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// A keyed part on plain maps. A new instance of it is made before every call, so it can keep nothing outside its state.
pub(crate) struct Harness {
    keyed: Keyed,
    inputs: Vec<SchemaRef>,
    answer: SchemaRef,
    states: HashMap<Vec<u8>, KeyState>,
    cx: Cx,
}

impl Harness {
    pub fn new(setup: &Setup) -> Harness {
        let (ports, bound) = setup.bind().unwrap_or_else(|p| panic!("{p:?}"));
        let Exec::Keyed(keyed) = bound.exec else { panic!("not a keyed part") };
        assert_eq!(keyed.keys.len(), setup.inputs.len());
        let inputs: Vec<SchemaRef> = setup.inputs.iter().map(|e| e.schema.clone()).collect();
        let cx = Cx {
            key: vec![],
            watermarks: vec![i64::MIN; inputs.len()],
            timed: inputs.len().min(2),
            now: 0,
            timers: BTreeSet::new(),
            outs: bound.outputs.iter().map(|e| BatchBuilder::new(e.schema.clone())).collect(),
            ports,
            out: Out::default(),
            asked: vec![],
            holds: BTreeMap::new(),
            output_watermark: i64::MIN,
            sequence: 0,
        };
        let answer = keyed.stores.first().map_or_else(|| Schema::new(vec![]), |s| s.schema());
        Harness { keyed, inputs, answer, states: HashMap::new(), cx }
    }

    fn call(&mut self, key: Vec<u8>, f: impl FnOnce(&mut dyn KeyedOperator, &mut dyn State, &mut dyn Context) -> Result<(), Fault>) {
        let state = self.states.entry(key.clone()).or_default();
        self.cx.key = key;
        f(&mut *(self.keyed.make)(), state, &mut self.cx).unwrap_or_else(|e| panic!("{e}"));
        if state.is_empty() {
            self.states.remove(&self.cx.key);
        }
        for (port, out) in self.cx.outs.iter_mut().enumerate() {
            let batch = out.take();
            let name = &self.cx.ports[port];
            for row in batch.rows() {
                if row.meta().time <= self.cx.output_watermark {
                    *self.cx.out.emitted_late.entry(name.clone()).or_default() += 1;
                }
                self.cx.out.rows.push((name.clone(), object(&row, batch.schema()), *row.meta()));
            }
        }
    }

    pub fn row(&mut self, input: usize, row: Json) {
        let batch = batch(&self.inputs[input], &[row]);
        let mut key = vec![];
        self.keyed.keys[input].write(&batch.row(0), &mut key);
        assert!(Key::group(&key) < millrace_sdk::key::KEY_GROUPS);
        self.call(key, |op, state, cx| op.on_record(input, batch.row(0), state, cx));
    }

    fn fire(&mut self, domain: TimeDomain, upto: i64) {
        loop {
            let from = (domain, i64::MIN, vec![], 0);
            let Some(timer) = self.cx.timers.range((Included(from), Excluded((domain, upto.saturating_add(1), vec![], 0)))).next().cloned()
            else {
                // The last moment of all has no moment after it.
                if upto == i64::MAX
                    && let Some(last) = self.cx.timers.iter().find(|t| t.0 == domain && t.1 == i64::MAX).cloned()
                {
                    self.fire_one(last);
                    continue;
                }
                return;
            };
            self.fire_one(timer);
        }
    }

    fn fire_one(&mut self, timer: (TimeDomain, i64, Vec<u8>, u32)) {
        self.cx.timers.remove(&timer);
        let (domain, time, key, tag) = timer;
        self.call(key, |op, state, cx| op.on_timer(domain, time, tag, state, cx));
    }

    /// Moves an input's watermark, fires timers, then lets the output watermark follow.
    pub fn watermark(&mut self, input: usize, time: i64) {
        assert!(time >= self.cx.watermarks[input], "watermarks never fall");
        self.cx.watermarks[input] = time;
        self.fire(TimeDomain::Event, self.cx.watermark());
        if let Some(right) = self.cx.watermarks.get(1).copied() {
            self.fire(TimeDomain::Right, right);
        }
        self.settle();
    }

    /// The output watermark follows the inputs' and the holds.
    pub fn settle(&mut self) {
        let held = self.cx.holds.keys().next().map_or(i64::MAX, |t| t.saturating_sub(1));
        self.cx.output_watermark = self.cx.output_watermark.max(held.min(self.cx.watermark()));
    }

    pub fn output_watermark(&self) -> i64 {
        self.cx.output_watermark
    }

    pub fn now(&mut self, time: i64) {
        self.cx.now = time;
        self.fire(TimeDomain::Processing, time);
    }

    pub fn end(&mut self) {
        for input in 0..self.inputs.len() {
            self.watermark(input, i64::MAX);
        }
    }

    pub fn asked(&self) -> &[Asked] {
        &self.cx.asked
    }

    /// Answers the `i`th open question with a row of the store, or with what an error handler says.
    pub fn answer(&mut self, i: usize, answer: Result<Option<Json>, Fault>) {
        let asked = self.cx.asked.remove(i);
        let bytes = answer.map(|row| {
            row.map(|row| {
                let one = batch(&self.answer, &[row]);
                let mut w = RowWriter::new(Meta::default());
                (0..self.answer.width()).for_each(|i| w.push(one.row(0).get(millrace_sdk::Slot(i as u16))));
                let bytes = w.finish();
                RowBuf::new().decode(self.answer.width(), &bytes).expect("what was written is read");
                bytes
            })
        });
        let answer = match &bytes {
            Ok(Some(b)) => Answer::Found(b),
            Ok(None) => Answer::NotFound,
            Err(fault) => Answer::Failed(fault),
        };
        self.call(asked.key, |op, state, cx| op.on_answer(asked.token, answer, state, cx));
        self.settle();
    }

    pub fn holds(&self) -> usize {
        self.cx.holds.values().sum::<u64>() as usize
    }

    pub fn timers(&self) -> usize {
        self.cx.timers.len()
    }

    /// Keys that still have state.
    pub fn keys(&self) -> usize {
        self.states.len()
    }

    pub fn into_out(self) -> Out {
        self.cx.out
    }

    pub fn out(&self) -> &Out {
        &self.cx.out
    }
}
