//! Small real parts: a source over rows in memory, a collecting sink, and plans put together by hand.

use millrace_plan::plan::*;
use millrace_sdk::convert::TimeFormat;
use millrace_sdk::operator::{Env, Port, TimeCharacteristic};
use millrace_sdk::sink::Acks;
use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{
    Assignment, Batch, BatchBuilder, Edge, Exec, Fault, Field, Guarantee, Meta, Operator, Outbox, Outputs, PartitionInfo, Poll, Position,
    Reject, Schema, SchemaRef, Sink, SinkContext, SinkFactory, Slot, Source, SourceContext, SourceFactory, Ticket, Type, Val,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A test row: key, event time in milliseconds, number.
pub type Row = (&'static str, i64, i64);

pub fn schema() -> SchemaRef {
    Schema::new(vec![Field::new("k", Type::String), Field::new("ts", Type::Bigint), Field::new("v", Type::Bigint)])
}

/// Partitions of rows; `chunk` rows a poll, an unbounded one stays open for `linger` after its rows.
#[derive(Clone)]
pub struct Rows {
    pub partitions: Arc<Vec<Vec<Row>>>,
    pub chunk: usize,
    pub open_for: Duration,
    /// Partitions that are never told of, though it is known that there are more.
    pub untold: Vec<usize>,
    /// The partitions are told only after this time.
    pub listed_after: Duration,
    /// Partition number -> polls that find nothing before each row is given.
    pub slow: BTreeMap<usize, u32>,
    /// (Partition, row, time): from that row on nothing is given before this time after the opening.
    pub held: Vec<(usize, usize, Duration)>,
    /// It knows that a slow or held partition has more to give.
    pub knows: bool,
    /// As if a connection was lost then: from now on it knows.
    pub unsure_from: Option<Duration>,
    pub acked: Arc<Mutex<BTreeMap<u32, u64>>>,
    pub missing: Option<&'static str>,
    /// Rows that were given, in all runs.
    pub given: Arc<AtomicUsize>,
    /// Polls after which the source fails.
    pub polls_left: Option<Arc<AtomicI64>>,
}

impl Rows {
    pub fn new(partitions: Vec<Vec<Row>>) -> Rows {
        Rows {
            partitions: Arc::new(partitions),
            chunk: 7,
            open_for: Duration::ZERO,
            untold: vec![],
            listed_after: Duration::ZERO,
            slow: BTreeMap::new(),
            held: vec![],
            knows: false,
            acked: Arc::default(),
            missing: None,
            given: Arc::default(),
            polls_left: None,
            unsure_from: None,
        }
    }
}

impl SourceFactory for Rows {
    fn check(&self) -> Result<(), Fault> {
        self.missing.map_or(Ok(()), |m| Err(Fault::refused(m)))
    }
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        let opened = std::time::Instant::now();
        Ok(Box::new(Open {
            rows: self.clone(),
            at: BTreeMap::new(),
            polls: BTreeMap::new(),
            assignment: cx.assignment,
            source: cx.source,
            opened,
            told: false,
        }))
    }
}

struct Open {
    rows: Rows,
    at: BTreeMap<u32, usize>,
    polls: BTreeMap<u32, u32>,
    assignment: Assignment,
    source: u16,
    opened: std::time::Instant,
    told: bool,
}

impl Source for Open {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        if self.opened.elapsed() < self.rows.listed_after {
            return Ok(Discovery::default());
        }
        let mine = (0..self.rows.partitions.len()).filter(|&p| self.assignment.mine(p as u64) && !self.rows.untold.contains(&p));
        let new: Vec<PartitionInfo> = match std::mem::replace(&mut self.told, true) {
            true => vec![],
            false => mine.map(|p| PartitionInfo { id: p as u32, name: format!("p{p}") }).collect(),
        };
        self.at.extend(new.iter().map(|p| (p.id, 0)));
        Ok(Discovery { new, complete: self.rows.untold.is_empty() })
    }
    fn listed(&self) -> bool {
        self.told && self.rows.untold.is_empty()
    }
    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault> {
        let bytes: [u8; 8] = position.0[..].try_into().map_err(|_| Fault::bug("position"))?;
        self.at.insert(partition, u64::from_le_bytes(bytes) as usize);
        Ok(())
    }
    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        if self.rows.polls_left.as_ref().is_some_and(|n| n.fetch_sub(1, SeqCst) <= 0) {
            return Err(Fault::down("the source has broken down"));
        }
        let polls = self.polls.entry(partition).or_default();
        *polls += 1;
        let rows = &self.rows.partitions[partition as usize];
        let at = self.at.get_mut(&partition).ok_or_else(|| Fault::bug("unknown partition"))?;
        let slow = self.rows.slow.get(&(partition as usize)).copied().unwrap_or(0);
        if slow > 0 && !polls.is_multiple_of(slow) && *at < rows.len() {
            return Ok(Poll::Pending);
        }
        let until = |&&(p, _, time): &&(usize, usize, Duration)| p == partition as usize && self.opened.elapsed() < time;
        let given = self.rows.held.iter().filter(until).map(|(_, row, _)| *row).min().unwrap_or(rows.len());
        if *at >= given && *at < rows.len() {
            return Ok(Poll::Pending);
        }
        let end = given.min(*at + self.rows.chunk.min(pull.max_rows));
        for (i, (k, ts, v)) in rows.iter().enumerate().take(end).skip(*at) {
            pull.rows.push_str(k);
            pull.rows.push_int(*ts);
            pull.rows.push_int(*v);
            pull.rows.end_source_row(Meta { offset: i as u64, partition, source: self.source, ..Meta::default() });
        }
        self.rows.given.fetch_add(end - *at, SeqCst);
        *at = end;
        Ok(match end == rows.len() {
            true if self.opened.elapsed() >= self.rows.open_for => Poll::Ended,
            true => Poll::Pending,
            false => Poll::Ready,
        })
    }
    fn drained(&mut self, partition: u32) -> bool {
        let unsure = self.rows.unsure_from.is_some_and(|t| self.opened.elapsed() >= t);
        !(self.rows.knows || unsure) || self.at[&partition] == self.rows.partitions[partition as usize].len()
    }
    fn position(&mut self, partition: u32) -> Position {
        Position((self.at[&partition] as u64).to_le_bytes().to_vec())
    }
    fn acknowledged(&mut self, positions: &[(u32, Position)]) -> Result<(), Fault> {
        let mut acked = self.rows.acked.lock().unwrap();
        for (p, position) in positions {
            let at = u64::from_le_bytes(position.0[..].try_into().unwrap());
            let old = acked.insert(*p, at).unwrap_or(0);
            assert!(old <= at, "acknowledged positions grow");
        }
        Ok(())
    }
}

/// Collects rows as text: field values joined by `,`, a `!` before late ones.
#[derive(Clone, Default)]
pub struct Collect {
    pub rows: Arc<Mutex<Vec<String>>>,
    pub single: bool,
    /// Writes are acknowledged only when this many polls have passed.
    pub delay: u32,
    pub in_flight: Arc<AtomicUsize>,
    pub most: Arc<AtomicUsize>,
    pub closed: Arc<AtomicUsize>,
    /// Rows whose first field is this are refused by the "server".
    pub refuse: Option<&'static str>,
    /// A server that is away for good: so many writes are acknowledged, and its `patience`.
    pub away: Option<(usize, Duration)>,
    /// Where its outbox publishes to.
    pub place: Option<Arc<Mutex<Place>>>,
}

/// A server with transactions: rows become visible together with the marker, or not at all.
#[derive(Default)]
pub struct Place {
    pub rows: Vec<String>,
    pub markers: BTreeMap<String, u64>,
    /// A row of these is refused for good.
    pub refuse: Option<&'static str>,
    /// Calls that fail before one works, each time.
    pub flaky: u32,
    pub calls: u32,
}

struct Published(Arc<Mutex<Place>>);

impl Outbox for Published {
    fn fence(&mut self, _: &[String]) -> Result<(), Fault> {
        Ok(())
    }
    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        Ok(self.0.lock().unwrap().markers.get(writer).copied())
    }
    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        let mut place = self.0.lock().unwrap();
        place.calls += 1;
        if place.flaky > 0 && !place.calls.is_multiple_of(place.flaky + 1) {
            return Err(Fault::down("not now"));
        }
        if place.markers.get(writer).is_some_and(|m| *m >= marker) {
            return Err(Fault::bug(format!("{writer} publishes {marker:x} again")));
        }
        for line in std::str::from_utf8(chunk).unwrap().lines() {
            match place.refuse {
                Some(key) if line.starts_with(key) => rejects.push(Reject::new("refused", "no", Meta::default(), line.as_bytes())),
                _ => place.rows.push(line.to_string()),
            }
        }
        place.markers.insert(writer.to_string(), marker);
        Ok(())
    }
}

impl Collect {
    pub fn sorted(&self) -> Vec<String> {
        let mut rows = self.rows.lock().unwrap().clone();
        rows.sort();
        rows
    }
}

struct Collector {
    c: Collect,
    open: VecDeque<(Ticket, u32)>,
    rejects: Vec<Reject>,
}

impl SinkFactory for Collect {
    fn single_writer(&self) -> bool {
        self.single
    }
    fn outbox(&self, _: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        Ok(self.place.clone().map(|p| Box::new(Published(p)) as Box<dyn Outbox>))
    }
    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        assert!(cx.worker < cx.workers);
        Ok(Box::new(Collector { c: self.clone(), open: VecDeque::new(), rejects: vec![] }))
    }
}

pub fn text(v: Val<'_>) -> String {
    match v {
        Val::Missing | Val::Null => "null".into(),
        Val::Int(i) => i.to_string(),
        Val::Time(t) => t.to_string(),
        Val::Num(s) | Val::Str(s) | Val::Json(s) => s.to_string(),
        v => format!("{v:?}"),
    }
}

impl Sink for Collector {
    fn ready(&mut self) -> bool {
        self.c.delay == 0 || self.open.len() < 2
    }
    fn write(&mut self, _: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let now = self.c.in_flight.fetch_add(1, SeqCst) + 1;
        self.c.most.fetch_max(now, SeqCst);
        let mut rows = self.c.rows.lock().unwrap();
        for r in batch.rows() {
            if self.c.refuse.is_some() && r.str(Slot(0)) == self.c.refuse {
                self.rejects.push(Reject::row("refused", "no", &r, batch.schema()));
                continue;
            }
            let fields: Vec<String> = (0..r.width()).map(|i| text(r.get(Slot(i as u16)))).collect();
            rows.push(format!("{}{}", if r.meta().late() { "!" } else { "" }, fields.join(",")));
        }
        self.open.push_back((ticket, self.c.delay));
        Ok(())
    }
    fn encode(&mut self, _: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        for r in batch.rows() {
            let fields: Vec<String> = (0..r.width()).map(|i| text(r.get(Slot(i as u16)))).collect();
            chunk.extend_from_slice(fields.join(",").as_bytes());
            chunk.push(b'\n');
        }
        Some(Ok(()))
    }
    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        for o in &mut self.open {
            o.1 = o.1.saturating_sub(1);
        }
        while self.open.front().is_some_and(|o| o.1 == 0 && self.c.away.is_none_or(|(n, _)| o.0.0 < n as u64)) {
            acks.done.extend(self.open.pop_front().map(|o| o.0));
            self.c.in_flight.fetch_sub(1, SeqCst);
        }
        acks.rejects.append(&mut self.rejects);
        Ok(())
    }
    fn patience(&self) -> Option<Duration> {
        self.c.away.map(|(_, patience)| patience)
    }
    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        assert!(self.c.away.is_none() || self.open.is_empty(), "a sink with patience is closed when all is settled");
        acks.done.extend(self.open.drain(..).map(|o| o.0));
        acks.rejects.append(&mut self.rejects);
        self.c.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// Puts a plan together node by node.
pub struct PlanBuilder {
    pub nodes: Vec<Node>,
    pub env: Env,
    pub dead: Collect,
    pub checkpoint: Option<CheckpointPlan>,
    pub guards: Vec<GuardPlan>,
    sources: u16,
}

pub fn at(node: usize, port: usize) -> PortRef {
    PortRef { node: NodeId(node), port }
}

impl PlanBuilder {
    pub fn new(time: TimeCharacteristic) -> PlanBuilder {
        let state_dir = std::env::temp_dir().join("millrace-engine-tests");
        let env = Env { job: "test".into(), time, state_dir, ..Env::default() };
        PlanBuilder {
            nodes: vec![],
            env,
            dead: Collect { single: true, ..Collect::default() },
            checkpoint: None,
            guards: vec![],
            sources: 0,
        }
    }

    fn add(&mut self, name: &str, kind: NodeKind, inputs: Vec<Input>, mut ports: Vec<(Port, Edge)>) -> usize {
        if !matches!(kind, NodeKind::Sink(_)) {
            ports.push((Port::named("errors"), Edge::new(Reject::schema())));
        }
        self.nodes.push(Node { name: name.into(), part: "Test", kind, inputs, ports, parallelism: None });
        self.nodes.len() - 1
    }

    pub fn source(&mut self, name: &str, rows: &Rows, bound_ms: u64, idle: Option<Duration>) -> usize {
        let number = self.sources;
        self.sources += 1;
        let node = SourceNode {
            number,
            factory: Arc::new(rows.clone()),
            schema: schema(),
            bounded: true,
            replayable: true,
            retry: false,
            operates: vec![],
            watermark: Some(WatermarkPlan {
                field: Slot(1),
                format: TimeFormat::EpochMs,
                max_out_of_orderness: Duration::from_millis(bound_ms),
                max_future: Duration::from_secs(86400),
                idle_after: idle,
            }),
        };
        self.add(name, NodeKind::Source(node), vec![], vec![(Port::main(), Edge::new(schema()))])
    }

    pub fn operator(&mut self, name: &str, exec: Exec, inputs: &[PortRef], ports: &[(Port, SchemaRef)]) -> usize {
        self.stored(name, exec, vec![], inputs, ports)
    }

    pub fn stored(&mut self, name: &str, exec: Exec, stores: Vec<StorePlan>, inputs: &[PortRef], ports: &[(Port, SchemaRef)]) -> usize {
        let inputs = inputs.iter().enumerate().map(|(index, &from)| Input { from, index }).collect();
        let ports = ports.iter().map(|(p, s)| (p.clone(), Edge::new(s.clone()))).collect();
        self.add(name, NodeKind::Operator(OperatorNode { exec, stores }), inputs, ports)
    }

    pub fn stateless<O: Operator + 'static>(&mut self, name: &str, from: PortRef, ports: &[&str], make: fn() -> O) -> usize {
        let exec = Exec::Stateless(Arc::new(move || Box::new(make())));
        let ports: Vec<_> = ports.iter().map(|p| (Port::named(*p), schema())).collect();
        self.operator(name, exec, &[from], &ports)
    }

    pub fn sink(&mut self, name: &str, sink: &Collect, inputs: &[PortRef]) -> usize {
        let inputs = inputs.iter().enumerate().map(|(index, &from)| Input { from, index }).collect();
        let kind = NodeKind::Sink(SinkNode { factory: Arc::new(sink.clone()), guarantee: Guarantee::AtLeastOnce });
        self.add(name, kind, inputs, vec![])
    }

    pub fn build(mut self) -> Plan {
        let dead = self.dead.clone();
        let dead_letter = NodeId(self.sink("dead_letter", &dead, &[]));
        Plan {
            guards: self.guards,
            alerts: None,
            env: Arc::new(self.env),
            parallelism: 1,
            checkpoint: self.checkpoint,
            restart: None,
            memory: None,
            metrics: None,
            nodes: self.nodes,
            dead_letter,
            hash: 0,
        }
    }
}

/// Splits by the number's parity: even to port 0, odd to port 1; multiples of 100 are rejected, of 7 dropped.
pub struct Parity;

impl Operator for Parity {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let mut ports = [vec![], vec![]];
        for (i, r) in batch.rows().enumerate() {
            match r.int(Slot(2)).unwrap_or(0) {
                v if v % 100 == 0 => out.reject(Reject::row("round", "a round number", &r, batch.schema())),
                v if v % 7 == 0 => out.dropped("seven", 1),
                v => ports[(v % 2) as usize].push(i as u32),
            }
        }
        for (p, rows) in ports.iter().enumerate() {
            out.emit(p, batch.select(rows));
        }
    }
}

/// Adds one to the number.
pub struct Increment;

impl Operator for Increment {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let mut b = BatchBuilder::over(&batch, batch.schema().clone());
        for r in batch.rows() {
            b.keep(&r, Slot(0));
            b.keep(&r, Slot(1));
            b.push_int(r.int(Slot(2)).unwrap_or(0) + 1);
            b.end_row(*r.meta());
        }
        out.emit(0, batch.replaced_by(b));
    }
}
