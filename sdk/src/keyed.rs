//! Operators with state per key, in the shape of Flink's KeyedProcessFunction.

use crate::batch::BatchBuilder;
use crate::fault::Fault;
use crate::operator::Reject;
use crate::record::Record;
use crate::schema::SchemaRef;

/// A declared state of an operator, by its index in [`crate::operator::Keyed::states`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateId(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// One byte string a key.
    Value,
    /// Byte strings ordered by (time, sequence number).
    Rows,
    /// Byte strings by sub-key, ordered.
    Map,
}

/// A state and what its bytes mean. State is matched by name after a restart, and old state of which anything below differs is
/// refused, since its bytes would be misread.
#[derive(Clone, Debug)]
pub struct StateDesc {
    pub name: &'static str,
    pub kind: StateKind,
    /// The schema of rows in it, if they are rows: kept once beside the state, so that an edit of the topology is noticed.
    pub schema: Option<SchemaRef>,
    /// Version of the bytes that are no row: grows when the code that writes them changes.
    pub version: u32,
    /// What of the config the bytes depend on, in words (`n bigint = COUNT(*)`); empty if on nothing.
    pub layout: String,
}

impl StateDesc {
    /// A state of version 1 that depends on no config.
    pub fn new(name: &'static str, kind: StateKind) -> StateDesc {
        StateDesc { name, kind, schema: None, version: 1, layout: String::new() }
    }
    /// Its entries hold rows of this schema.
    pub fn rows(mut self, schema: &SchemaRef) -> StateDesc {
        self.schema = Some(schema.clone());
        self
    }
    pub fn layout(mut self, words: impl Into<String>) -> StateDesc {
        self.layout = words.into();
        self
    }
}

/// What becomes of an entry that a scan has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    Keep,
    /// The bytes were changed in place.
    Changed,
    Remove,
    /// Keep it, and look no further.
    Stop,
}

/// The state of the current key. Bytes in, bytes out: what lies behind (memory, RocksDB) is the engine's business.
pub trait State {
    /// A Value state's bytes.
    fn get(&mut self, id: StateId) -> Option<&[u8]>;
    fn put(&mut self, id: StateId, value: &[u8]);
    /// A Value state's bytes to be changed in place; empty if there were none.
    fn update(&mut self, id: StateId) -> &mut Vec<u8>;
    /// Empties a state of any kind.
    fn clear(&mut self, id: StateId);

    /// Adds to a Rows state; an entry with the same time and number is replaced.
    fn insert(&mut self, id: StateId, time: i64, seq: u64, row: &[u8]);
    /// Shows the entries of a Rows state with `from <= time <= to` in order.
    fn scan(&mut self, id: StateId, from: i64, to: i64, visit: &mut dyn FnMut(i64, u64, &mut [u8]) -> Visit);
    /// One entry of a Rows state.
    fn row(&mut self, id: StateId, time: i64, seq: u64) -> Option<&[u8]>;
    /// Whether there was one.
    fn remove(&mut self, id: StateId, time: i64, seq: u64) -> bool;

    fn map_get(&mut self, id: StateId, key: &[u8]) -> Option<&[u8]>;
    fn map_put(&mut self, id: StateId, key: &[u8], value: &[u8]);
    fn map_remove(&mut self, id: StateId, key: &[u8]) -> bool;
    /// Shows the entries of a Map state in key order.
    fn map_scan(&mut self, id: StateId, visit: &mut dyn FnMut(&[u8], &mut [u8]) -> Visit);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// The watermark of all inputs.
    Event,
    Processing,
    /// The watermark of input 1 alone: a join's right side.
    Right,
}

/// What an operator may do besides reading its key's state. All times are microseconds.
pub trait Context {
    /// The key's canonical bytes, see [`crate::Key`].
    fn key(&self) -> &[u8];
    /// The job's watermark here: the least of the inputs' (a `retry` input has no part in it). No row with time <= watermark
    /// will follow that is not flagged late. `i64::MIN` before the first, `i64::MAX` when all input has ended.
    fn watermark(&self) -> i64;
    /// One input's watermark.
    fn input_watermark(&self, input: usize) -> i64;
    /// Processing time; it does not go backwards, also across restarts.
    fn now(&self) -> i64;

    /// Calls `on_timer` for this key when the domain's time has reached `time`. Setting one again changes nothing.
    fn set_timer(&mut self, domain: TimeDomain, time: i64, tag: u32);
    fn delete_timer(&mut self, domain: TimeDomain, time: i64, tag: u32);

    /// The builder of an output port: push a row's fields, then `end_row`. The row's `meta.time` is its event time.
    fn out(&mut self, port: usize) -> &mut BatchBuilder;
    fn reject(&mut self, reject: Reject);
    /// A row that goes by intent, counted under its reason.
    fn drop_row(&mut self, reason: &'static str);
    /// Adds to a named counter of the part, shown in the summary (`matched`, `by_fallback`).
    fn count(&mut self, counter: &'static str, n: u64);

    /// Asks a store of [`crate::operator::Keyed::stores`]; `on_answer` brings the row. A pending question is state: it is
    /// asked again after a restore.
    fn ask(&mut self, store: usize, store_key: &[u8], token: u64);

    /// The output watermark stays below `time` until it is released as often as it was held.
    fn hold(&mut self, time: i64);
    fn release(&mut self, time: i64);

    /// A number greater than any that this key was given before, also across restarts and on another worker: to order rows of one
    /// time, and to name questions.
    fn sequence(&mut self) -> u64;
}

/// What a store answered.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// A row of the [`crate::operator::StoreUse::schema`], encoded.
    Found(&'a [u8]),
    NotFound,
    /// The store stayed down past its time-out (only with `on_store_error` other than `wait`).
    Failed(&'a Fault),
}

/// Logic with state per key. Never sees threads, RocksDB or the dataflow; one instance a worker, called for one key at a time.
///
/// An `Err` is a bug or damaged state and ends the job; bad data is rejected through the context.
pub trait KeyedOperator: Send {
    fn on_record(&mut self, input: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault>;

    fn on_timer(&mut self, domain: TimeDomain, time: i64, tag: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let _ = (domain, time, tag, state, cx);
        Ok(())
    }

    fn on_answer(&mut self, token: u64, answer: Answer<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let _ = (token, answer, state, cx);
        Ok(())
    }
}
