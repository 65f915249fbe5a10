//! The sink `HBase`.

use super::cells::{Encoding, column, family};
use super::client::{Client, check_address};
use super::outbox::{Cells, Encoder};
use super::store::{MAX_KEY, check_names};
use super::writer::{Load, Row, Shared, Writer};
use crossbeam_channel::{Sender, unbounded};
use millrace_expr::Template;
use millrace_sdk::config::{Duration, FieldName, Ordered, TemplateText};
use millrace_sdk::operator::Reject;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::schema::Access;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, BatchBuilder, Bind, Demand, Edge, Fault, Field, Guarantee, NO_TIME, Outbox, Part, Place, Problem, Schema, SchemaRef, Sink,
    SinkContext, SinkFactory, SinkSpec, Slot, Ticket, Val, inventory,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

/// Rows that may wait in one writer before it says that it is not ready.
const MAX_WAITING: usize = 20_000;

/// Writes rows to an HBase table, through HBase's Thrift gateway (Thrift1, buffered, binary protocol).
///
/// A row of the stream becomes cells of the table row that `key` names, a cell a column. A field that is null deletes its cell; one
/// that is missing leaves it as it is; a row of which all are missing is not written, and counted as dropped (`no-cells`). `op: delete` deletes all columns of `family`, or the named `columns`.
///
/// Rows are written in their order: what is gathered while the last call ran is sent together, up to 1,000 rows a call, per row and
/// column only the last mutation, all with one timestamp that is greater than any before it. A key that is empty or longer than
/// 32,767 bytes is rejected (`invalid-row-key`), as is a row that HBase refuses (`refused-by-hbase`).
///
/// While the gateway or HBase is down rows wait and are sent again with growing pauses for as long as it takes, with backpressure
/// to the job's sources. Only the end of a job without checkpoints waits no longer than `close_timeout`.
///
/// Guarantee: exactly once in a job with checkpoints. Rows get their timestamp when their checkpoint is made, one that is greater than
/// any that a writer of the job has used, and are written once it is complete: what is written again, after a crash or by a process that
/// woke too late, is the same cell of the same age, and changes nothing that is newer. How far each writer has come is a column of
/// `marker_row`, which is replaced by compare-and-put, so that a process that was taken over from fails. The family's time to live must
/// exceed any pause of the job, and clocks of machines that the job moves between must agree to within the time of a restart. As HBase
/// forgets deletes at a major compaction, a process that sleeps from before its last look at `marker_row` until after one may bring back
/// cells that were deleted meanwhile.
///
/// Without checkpoints, idempotent: a row counts as written when HBase has acknowledged it; after a crash it may be written again, to
/// the same effect.
///
/// # Example
/// Needs a gateway and a table `exposures` with the column family `d`.
///
/// ```yaml
/// name: fill-exposures
/// streams:
///   imps:
///     config:
///       source: {type: Inline, config: {rows: [{uid: u1, mid: m1, pos: 3, ts: 900}]}}
/// sink:
///   - type: HBase
///     config: {thrift: "${HBASE:-localhost:9090}", table: exposures, key: "{{md5_prefix mid 2}}_{{uid}}_{{mid}}", family: d, columns: [pos, ts]}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HBaseSink {
    /// The gateway, `host:port`.
    #[schemars(extend("x-address" = true))]
    thrift: String,
    /// The table, `namespace:table` outside the default namespace. It must exist.
    table: String,
    /// The row key.
    key: TemplateText,
    /// The column family of columns that do not name one themselves.
    family: String,
    /// A list of fields, each written to the column of its name, or a map of columns (`name` or `family:name`) to fields. Default:
    /// all fields.
    columns: Option<Columns>,
    /// `put` or `delete`.
    #[serde(default)]
    op: Op,
    /// What cells hold.
    #[serde(default)]
    encoding: Encoding,
    /// For each step of a call. Default 10s.
    #[serde(default = "ten_seconds")]
    timeout: Duration,
    /// How long the end of a job without checkpoints waits for an acknowledgement, counted from the last one. Then what is left counts
    /// as lost, and the job fails. Default 2m.
    #[serde(default = "two_minutes")]
    close_timeout: Duration,
    /// A row that says how new the table is, written after each group of rows: `event_time.WORKER`, the newest event time, and
    /// `wall_time.WORKER`, both in microseconds since 1970. Default: none.
    heartbeat: Option<String>,
    /// The row that holds the markers of exactly-once: a column of `family` for each writer. Default `~millrace`.
    #[serde(default = "marker_row")]
    marker_row: String,
}

inventory::submit! { Part::sink::<HBaseSink>("HBase", &["Hbase"]) }

fn marker_row() -> String {
    "~millrace".into()
}
fn ten_seconds() -> Duration {
    Duration::secs(10)
}
fn two_minutes() -> Duration {
    Duration::secs(120)
}

/// Fields as columns.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    List(Vec<FieldName>),
    Map(Ordered<FieldName>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Write cells.
    #[default]
    Put,
    /// Delete cells.
    Delete,
}

impl HBaseSink {
    /// Columns and their fields as configured; none: all.
    fn named(&self) -> Vec<(String, String)> {
        match &self.columns {
            None => vec![],
            Some(Columns::List(names)) => names.iter().map(|n| (n.0.clone(), n.0.clone())).collect(),
            Some(Columns::Map(map)) => map.iter().map(|(column, field)| (column.clone(), field.0.clone())).collect(),
        }
    }

    fn bind_input(&self, edge: &Edge, env: &millrace_sdk::operator::Env, problems: &mut Vec<Problem>) -> Option<Input> {
        let schema = &edge.schema;
        let key = Template::compile(&self.key, schema, env)
            .map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(&Place::at(["key"])))))
            .ok();
        let mut named = self.named();
        if self.columns.is_none() && self.op == Op::Put {
            if schema.tail().is_some() {
                let p =
                    Problem::error("columns-needed", Place::default(), "these rows have fields that nobody declared: name the `columns`");
                problems.push(p.hint("write `columns: [a, b]`, or declare the fields where the rows are parsed"));
            }
            named = schema.visible().map(|(_, f)| (f.name.to_string(), f.name.to_string())).collect();
        }
        let mut fields = vec![];
        for (i, (_, name)) in named.iter().enumerate() {
            let place = match &self.columns {
                Some(Columns::Map(_)) => Place::at(["columns"]).then(named[i].0.as_str()),
                _ => Place::at(["columns"]).then(i),
            };
            match schema.resolve(name) {
                Some(access) => fields.push((Field::new(name.as_str(), access.ty), access)),
                None => {
                    let suggestion = did_you_mean(name, schema.names());
                    problems.push(Problem::error("unknown-field", place, format!("unknown field `{name}`")).suggest(suggestion));
                }
            }
        }
        let (wanted, accesses): (Vec<Field>, Vec<Access>) = fields.into_iter().unzip();
        let columns: Arc<[String]> = named.iter().map(|(c, _)| column(&self.family, c)).collect();
        Some(Input { key: key?, schema: schema.clone(), wanted: Schema::new(wanted), accesses, columns })
    }
}

impl SinkSpec for HBaseSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn demand(&self) -> Demand {
        let all = (self.columns.is_none() && self.op == Op::Put) || Template::needs_all(&self.key);
        let mut demand = if all { Demand::all() } else { Demand::none() };
        demand.add(Template::fields(&self.key));
        demand.add(self.named().into_iter().map(|(_, field)| field));
        demand
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut problems = vec![];
        check_address(&self.thrift, &mut problems);
        check_names(&self.table, &self.family, &mut problems);
        if self.marker_row.is_empty() || self.marker_row.len() > MAX_KEY {
            problems.push(Problem::error("invalid-row-key", Place::at(["marker_row"]), "`marker_row` must have 1 to 32,767 bytes"));
        }
        for (key, value) in [("timeout", &self.timeout), ("close_timeout", &self.close_timeout)] {
            if value.micros <= 0 {
                problems.push(Problem::error("out-of-range", Place::at([key]), format!("`{key}` must be more than 0")));
            }
        }
        if self.columns.is_some() && self.named().is_empty() {
            problems.push(Problem::error("missing-columns", Place::at(["columns"]), "`columns` names no column"));
        }
        let mut inputs: Vec<Input> = vec![];
        for edge in bind.inputs {
            let mut here = vec![];
            inputs.extend(self.bind_input(edge, bind.env, &mut here));
            problems.extend(here.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>());
        }
        // Cells are numbered alike over all inputs.
        let mut names: Vec<String> = inputs.iter().flat_map(|i| i.columns.iter().cloned()).collect();
        names.sort();
        names.dedup();
        if names.len() > u16::MAX as usize {
            problems.push(Problem::error("too-many-columns", Place::at(["columns"]), "a table row may have 65,535 columns"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let numbers =
            inputs.iter().map(|i| i.columns.iter().map(|c| names.binary_search(c).unwrap_or_default() as u16).collect()).collect();
        let bound = Bound {
            thrift: self.thrift.clone(),
            table: self.table.clone(),
            family: self.family.clone(),
            timeout: self.timeout.std(),
            close_timeout: self.close_timeout.std(),
            heartbeat: self.heartbeat.clone(),
            marker_row: self.marker_row.clone(),
            delete: self.op == Op::Delete,
            encoding: self.encoding,
            inputs,
            numbers,
            names: names.into(),
        };
        Ok(Arc::new(Factory { bound: Arc::new(bound), floor: Arc::default() }))
    }
}

/// How rows of one input are written.
struct Input {
    key: Template,
    schema: SchemaRef,
    /// The fields to write, alone.
    wanted: SchemaRef,
    accesses: Vec<Access>,
    columns: Arc<[String]>,
}

impl Input {
    /// The rows with the wanted fields only.
    fn project(&self, batch: &Batch) -> Batch {
        let mut out = BatchBuilder::over(batch, self.wanted.clone());
        let mut scratch = String::new();
        for row in batch.rows() {
            for access in &self.accesses {
                if access.rest.is_empty() {
                    out.keep(&row, access.slot);
                } else {
                    out.push_val(row.find(access, &mut scratch));
                }
            }
            out.end_row(*row.meta());
        }
        batch.select(&[]).replaced_by(out)
    }
}

pub struct Bound {
    pub thrift: String,
    pub table: String,
    pub family: String,
    pub timeout: std::time::Duration,
    close_timeout: std::time::Duration,
    pub heartbeat: Option<String>,
    pub marker_row: String,
    delete: bool,
    encoding: Encoding,
    inputs: Vec<Input>,
    /// Per input the numbers of its columns in `names`.
    numbers: Vec<Vec<u16>>,
    pub names: Arc<[String]>,
}

impl Bound {
    /// The rows of one input, keyed; those that HBase would not take go to `rejects`, those in which every field is missing are counted.
    pub fn rows(&self, input: usize, batch: &Batch, rejects: &mut Vec<Reject>, without_cells: &mut u64) -> Vec<Row> {
        let (from, numbers) = (&self.inputs[input], &self.numbers[input]);
        let projected = from.project(batch);
        let mut rows = Vec::with_capacity(batch.len());
        for (number, (row, cells_of)) in batch.rows().zip(projected.rows()).enumerate() {
            let mut key = vec![];
            let wrong = match from.key.render(&row, &mut key) {
                Err(e) => Some((e.reason, e.message)),
                Ok(()) if key.is_empty() => Some(("invalid-row-key", "the row key is empty".into())),
                Ok(()) if key.len() > MAX_KEY => {
                    Some(("invalid-row-key", format!("the row key has {} bytes, HBase takes {MAX_KEY}", key.len())))
                }
                Ok(()) => None,
            };
            if let Some((reason, message)) = wrong {
                rejects.push(Reject::row(reason, message, &row, &from.schema));
                continue;
            }
            let mut cells = Vec::with_capacity(numbers.len());
            for (slot, column) in numbers.iter().enumerate() {
                let slot = Slot(slot as u16);
                let value = match cells_of.get(slot) {
                    _ if self.delete => None,
                    Val::Missing => continue,
                    Val::Null => None,
                    _ => {
                        let mut bytes = vec![];
                        self.encoding.write(&cells_of, slot, from.wanted.field(slot).ty, &mut bytes);
                        Some(bytes)
                    }
                };
                cells.push((*column, value));
            }
            // Nothing to write is not "delete all".
            if cells.is_empty() && !self.delete {
                *without_cells += 1;
                continue;
            }
            rows.push(Row { key, cells, number });
        }
        rows
    }
}

struct Factory {
    bound: Arc<Bound>,
    /// The greatest timestamp that an outbox of this process knows of.
    floor: Arc<AtomicI64>,
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        let b = &self.bound;
        let mut families: Vec<&str> = b.names.iter().map(|c| family(c)).chain([b.family.as_str()]).collect();
        families.sort();
        families.dedup();
        Client::new(&b.thrift, b.timeout).check(&b.table, &families)
    }

    fn overwrites(&self) -> bool {
        true
    }

    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let b = self.bound.clone();
        let shared = Arc::new(Shared::default());
        // Bounded by the number of rows that wait, which `ready` looks at.
        let (loads, queue) = unbounded();
        let writer = Writer {
            client: Client::new(&b.thrift, b.timeout),
            table: b.table.clone(),
            family: b.family.clone(),
            columns: b.names.clone(),
            heartbeat: b.heartbeat.clone(),
            worker: cx.worker,
            clock: cx.clock,
            waker: cx.waker,
            shared: shared.clone(),
            last: 0,
            newest: NO_TIME,
        };
        let thread = std::thread::Builder::new()
            .name("hbase-sink".into())
            .spawn(move || writer.run(queue))
            .map_err(|e| Fault::refused("cannot start a thread for an HBase sink").detail(e.to_string()))?;
        Ok(Box::new(HBase { bound: b, shared, loads: Some(loads), thread: Some(thread), rejects: vec![], without_cells: 0 }))
    }

    fn encoder(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Encoder::new(self.bound.clone(), self.floor.clone(), cx.worker, cx.clock)))
    }

    fn outbox(&self, _: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        Ok(Some(Box::new(Cells::new(self.bound.clone(), self.floor.clone()))))
    }
}

struct HBase {
    bound: Arc<Bound>,
    shared: Arc<Shared>,
    loads: Option<Sender<Load>>,
    thread: Option<JoinHandle<()>>,
    rejects: Vec<Reject>,
    /// Rows of which every field is missing, since the last poll.
    without_cells: u64,
}

impl HBase {
    fn collect(&mut self, acks: &mut Acks) {
        let mut done = self.shared.done.lock().unwrap_or_else(|e| e.into_inner());
        acks.done.append(&mut done.0);
        acks.rejects.append(&mut done.1);
        acks.rejects.append(&mut self.rejects);
        if self.without_cells > 0 {
            acks.dropped.push(("no-cells", std::mem::take(&mut self.without_cells)));
        }
    }
}

impl Sink for HBase {
    fn ready(&mut self) -> bool {
        self.shared.waiting.load(Ordering::SeqCst) < MAX_WAITING
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let bound = self.bound.clone();
        let rows = bound.rows(input, batch, &mut self.rejects, &mut self.without_cells);
        self.shared.waiting.fetch_add(rows.len(), Ordering::SeqCst);
        let load = Load { rows, ticket, batch: Arc::new(batch.clone()), schema: bound.inputs[input].schema.clone() };
        let sent = self.loads.as_ref().is_some_and(|l| l.send(load).is_ok());
        if sent { Ok(()) } else { Err(Fault::bug("the thread of an HBase sink has ended")) }
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.collect(acks);
        Ok(())
    }

    fn patience(&self) -> Option<std::time::Duration> {
        Some(self.bound.close_timeout)
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.loads = None;
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        self.collect(acks);
        ended.map_err(|_| Fault::bug("the thread of an HBase sink has panicked"))
    }
}

impl Drop for HBase {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
