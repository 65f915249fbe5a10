//! Operators: from a typed config, through binding to schemas, to something that runs.

use crate::batch::Batch;
use crate::clock::Clock;
use crate::key::Key;
use crate::keyed::{KeyedOperator, StateDesc};
use crate::problem::Problem;
use crate::reached::Reached;
use crate::record::{Meta, Record};
use crate::schema::{Field, Schema, SchemaRef, Type};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What the readers of an output want of it: names and paths (`client.os`), or everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub fields: BTreeSet<String>,
    /// All visible fields, those that nobody names too.
    pub all: bool,
}

impl Demand {
    pub fn none() -> Demand {
        Demand::default()
    }
    pub fn all() -> Demand {
        Demand { all: true, ..Demand::default() }
    }
    pub fn of<S: Into<String>>(fields: impl IntoIterator<Item = S>) -> Demand {
        Demand { fields: fields.into_iter().map(Into::into).collect(), all: false }
    }
    pub fn add<S: Into<String>>(&mut self, fields: impl IntoIterator<Item = S>) {
        self.fields.extend(fields.into_iter().map(Into::into));
    }
    /// What either wants.
    pub fn join(&mut self, other: &Demand) {
        self.fields.extend(other.fields.iter().cloned());
        self.all |= other.all;
    }
    /// Whether `name`, or a path below it, is asked for by name.
    pub fn names(&self, name: &str) -> bool {
        self.fields.iter().any(|f| f == name || f.strip_prefix(name).is_some_and(|r| r.starts_with('.')))
    }
    /// Without `name` and the paths below it.
    pub fn without(mut self, name: &str) -> Demand {
        self.fields.retain(|f| f != name && !f.strip_prefix(name).is_some_and(|r| r.starts_with('.')));
        self
    }
}

/// What flows along an edge of the plan.
#[derive(Clone, Debug)]
pub struct Edge {
    pub schema: SchemaRef,
    /// The fields by which the rows are keyed, set by KeyBy and kept by operators that change neither these fields nor the order.
    pub key: Option<Vec<String>>,
}

impl Edge {
    pub fn new(schema: SchemaRef) -> Edge {
        Edge { schema, key: None }
    }
}

/// Which time decides in windows and joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeCharacteristic {
    #[default]
    ProcessingTime,
    IngestionTime,
    EventTime,
}

/// What an expression that overflows or divides by zero gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    #[default]
    DeadLetter,
    Null,
}

/// What the whole job says.
#[derive(Clone, Debug)]
pub struct Env {
    pub job: String,
    pub time: TimeCharacteristic,
    /// IANA name.
    pub time_zone: String,
    pub on_error: OnError,
    /// The topology file's folder: relative paths start here.
    pub base_dir: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// Longest record that a source may hold, bytes.
    pub max_record: usize,
    /// Bytes that the process has to do with: parts with buffers keep them to a small share.
    pub memory: usize,
    /// Wall time, for parts that have no [`crate::Context`]; virtual in tests.
    pub clock: Clock,
    /// Where ways through expressions and templates are counted. None: nowhere, and at no cost.
    pub reached: Option<Reached>,
}

impl Default for Env {
    fn default() -> Self {
        Env {
            job: "job".into(),
            time: TimeCharacteristic::default(),
            time_zone: "UTC".into(),
            on_error: OnError::default(),
            base_dir: PathBuf::from("."),
            state_dir: PathBuf::from("state"),
            max_record: 16 << 20,
            memory: 4 << 30,
            clock: Clock::System,
            reached: None,
        }
    }
}

/// A store that the topology declares, as a part that uses it must know it.
#[derive(Clone, Debug)]
pub struct StoreInfo {
    pub name: String,
    /// The key template of the store's config, over the asking row's fields.
    pub key: Option<String>,
}

/// What a part is bound to.
pub struct Bind<'a> {
    /// One edge an input: one, or left, right, retry, or as many as the wiring names.
    pub inputs: &'a [Edge],
    /// What is wanted of each output port, in the order of [`OperatorSpec::ports`].
    pub demands: &'a [Demand],
    pub env: &'a Env,
    pub stores: &'a [StoreInfo],
}

impl Bind<'_> {
    pub fn input(&self) -> &Edge {
        &self.inputs[0]
    }
    pub fn store(&self, name: &str) -> Option<&StoreInfo> {
        self.stores.iter().find(|s| s.name == name)
    }
}

/// Which inputs a part takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    One,
    /// `input: [a, b]`.
    Many,
    /// `left:`, `right:` and, where `retry` is true, optionally `retry:`.
    LeftRight {
        retry: bool,
    },
}

/// An output port. The first one of a part is its main output and has the empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// Rows here go to the dead letter unless the port is wired (`late`).
    pub dead: bool,
}

impl Port {
    pub fn main() -> Port {
        Port { name: String::new(), dead: false }
    }
    pub fn named(name: impl Into<String>) -> Port {
        Port { name: name.into(), dead: false }
    }
    pub fn dead(name: impl Into<String>) -> Port {
        Port { name: name.into(), dead: true }
    }
}

/// An operator's config, read and checked by itself. It opens nothing.
pub trait OperatorSpec: Send + Sync {
    fn inputs(&self) -> Inputs {
        Inputs::One
    }

    /// Output ports. Every operator also has `errors` for the rows it rejects; that one is not listed.
    fn ports(&self) -> Vec<Port> {
        vec![Port::main()]
    }

    /// The store that it asks by the store's own key template: the fields in that are needed of input 0 as well.
    fn store(&self) -> Option<&str> {
        None
    }

    /// What this part needs of each input (the last one's counts for all that follow), given what is wanted of each output.
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand>;

    /// Checks the config against the inputs' schemas and makes the part ready to run.
    ///
    /// # Errors
    /// Every problem there is, each with its place in the config.
    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>>;
}

/// A part bound to its inputs.
pub struct Bound {
    /// One edge an output port.
    pub outputs: Vec<Edge>,
    pub exec: Exec,
    /// Warnings and notes.
    pub problems: Vec<Problem>,
}

impl Bound {
    pub fn new(outputs: Vec<Edge>, exec: Exec) -> Bound {
        Bound { outputs, exec, problems: vec![] }
    }
}

/// Makes a fresh instance for each worker.
pub type MakeOperator = Arc<dyn Fn() -> Box<dyn Operator> + Send + Sync>;
pub type MakeKeyed = Arc<dyn Fn() -> Box<dyn KeyedOperator> + Send + Sync>;
pub type MakeLookup = Arc<dyn Fn() -> Box<dyn Lookup> + Send + Sync>;

/// How a part runs.
#[derive(Clone)]
pub enum Exec {
    /// Rows pass as they are (KeyBy, Union, SelectStream).
    Pass,
    /// A batch in, batches out. The engine fuses chains of these.
    Stateless(MakeOperator),
    /// State per key; the engine exchanges rows by key group first.
    Keyed(Keyed),
    /// Asks a store for every row, without state.
    Lookup(LookupExec),
}

#[derive(Clone)]
pub struct Keyed {
    /// One key an input; equal bytes meet in one state.
    pub keys: Vec<Key>,
    pub states: Vec<StateDesc>,
    /// Stores that `ask` names by index.
    pub stores: Vec<StoreUse>,
    /// While a worker has more holds open than this, it takes no more rows of input 0.
    pub max_holds: Option<usize>,
    pub make: MakeKeyed,
}

#[derive(Clone)]
pub struct LookupExec {
    pub store: StoreUse,
    pub make: MakeLookup,
    /// Output keeps input order per key (false: as answers come).
    pub ordered: bool,
    pub on_store_error: OnStoreError,
}

/// A store as one part uses it: the answer's rows have the schema [`StoreUse::schema`].
#[derive(Clone, Debug)]
pub struct StoreUse {
    pub name: String,
    /// The store's columns that are wanted, in answer order, with the types to read them as.
    pub fields: Vec<Field>,
    pub on_error: OnStoreError,
}

impl StoreUse {
    pub fn schema(&self) -> SchemaRef {
        Schema::new(self.fields.clone())
    }
}

/// What happens to a row whose store stays down past the store's `timeout`, retries included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreError {
    /// Wait, with backpressure to the sources.
    #[default]
    Wait,
    /// Send the row to the dead letter.
    DeadLetter,
    /// Go on as if the store did not have the key.
    Unmatched,
}

/// A stateless operator: one instance a worker.
pub trait Operator: Send {
    /// Takes a batch whole; what it makes of it goes to `out`, in input order. What is more than a batch or two is put out in
    /// pieces: see [`Outputs::unfinished`].
    fn process(&mut self, batch: Batch, out: &mut Outputs);
    /// Goes on with the batch that it left unfinished. Called before the next batch comes, once the pieces that were put out have
    /// been taken.
    fn resume(&mut self, out: &mut Outputs) {
        let _ = out;
    }
}

/// A stateless look-up: the engine batches, caches, retries and keeps the order.
pub trait Lookup: Send {
    /// Appends the store key of a row; false: this row asks nothing and gets no row.
    fn key(&mut self, row: Record<'_>, key: &mut Vec<u8>) -> bool;
    /// Answers for all rows of a batch, in row order: None = not found.
    fn merge(&mut self, batch: Batch, answers: &[Option<&[u8]>], out: &mut Outputs);
}

/// How much of a rejected record's bytes is kept.
pub const MAX_REJECT_BYTES: usize = 64 << 10;

/// A record that a part could not use, on its way to the dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// `errors`, or the dead port it left by (`late`).
    pub port: &'static str,
    /// Stable and kebab-case: `invalid-json`.
    pub reason: &'static str,
    /// For people: "expected `,` or `}` at byte 17".
    pub message: String,
    pub meta: Meta,
    /// The original bytes, or once the row has been exchanged the row as JSON; at most [`MAX_REJECT_BYTES`].
    pub body: Vec<u8>,
    /// `body` is the row as JSON rather than the original bytes.
    pub is_row: bool,
    /// Full length and xxh3 of the bytes before cutting.
    pub length: u64,
    pub hash: u64,
}

impl Reject {
    pub fn new(reason: &'static str, message: impl Into<String>, meta: Meta, bytes: &[u8]) -> Reject {
        Reject {
            port: "errors",
            reason,
            message: message.into(),
            meta,
            body: bytes[..bytes.len().min(MAX_REJECT_BYTES)].to_vec(),
            is_row: false,
            length: bytes.len() as u64,
            hash: xxhash_rust::xxh3::xxh3_64(bytes),
        }
    }

    /// A row: its original bytes if it still has them, else the row as JSON.
    pub fn row(reason: &'static str, message: impl Into<String>, row: &Record<'_>, schema: &Schema) -> Reject {
        match row.original() {
            Some(bytes) => Reject::new(reason, message, *row.meta(), bytes),
            None => {
                let mut json = Vec::new();
                crate::json::write_row(row, schema, &mut json);
                Reject { is_row: true, ..Reject::new(reason, message, *row.meta(), &json) }
            }
        }
    }

    /// Fields of a dead letter's row, in order. `body` is text where it is UTF-8, else base64 with `encoding: base64`.
    pub fn schema() -> SchemaRef {
        Schema::new(vec![
            Field::new("job", Type::String),
            Field::new("part", Type::String),
            Field::new("port", Type::String),
            Field::new("reason", Type::String),
            Field::new("message", Type::String),
            Field::new("stream", Type::String),
            Field::new("partition", Type::String),
            Field::new("offset", Type::Bigint),
            Field::new("event_time", Type::Timestamp),
            Field::new("length", Type::Bigint),
            Field::new("hash", Type::String),
            Field::new("encoding", Type::String),
            Field::new("body", Type::String),
        ])
    }
}

/// Where a stateless operator puts what it made.
#[derive(Default)]
pub struct Outputs {
    pub batches: Vec<(usize, Batch)>,
    pub rejects: Vec<Reject>,
    /// Rows that were meant to go, by reason: (`filtered`, 12).
    pub dropped: Vec<(&'static str, u64)>,
    /// The operator keeps the rest of its batch and wants [`Operator::resume`]: so that one row that becomes millions never lies
    /// in memory as millions.
    pub unfinished: bool,
}

impl Outputs {
    /// Empty batches vanish.
    #[inline]
    pub fn emit(&mut self, port: usize, batch: Batch) {
        if !batch.is_empty() {
            self.batches.push((port, batch));
        }
    }
    #[inline]
    pub fn reject(&mut self, reject: Reject) {
        self.rejects.push(reject);
    }
    #[inline]
    pub fn dropped(&mut self, reason: &'static str, rows: u64) {
        if rows > 0 {
            self.dropped.push((reason, rows));
        }
    }
}
