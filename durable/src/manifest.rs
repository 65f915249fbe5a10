//! What a checkpoint says. A manifest stands alone: with the files it names it is all that a start needs.

use millrace_sdk::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A file under `files/`, as it must be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// xxh3 of its bytes.
    pub sum: u64,
}

/// Why a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Periodic,
    /// By request; never pruned.
    Savepoint,
    /// The last one of a run that was stopped; nothing fired early.
    Stop,
    /// All input has ended and everything has fired: a start from it only publishes what is still to publish.
    Finished,
    /// As `Finished`, but the input had not ended.
    Drained,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The partition's lasting name.
    pub name: String,
    /// Opaque to all but the source.
    pub position: Vec<u8>,
    /// Greatest event time seen, microseconds; `i64::MIN`: none yet.
    pub greatest: i64,
    /// The partition's watermark never goes below this.
    pub floor: i64,
    /// It gives nothing more.
    pub ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The stream's name.
    pub name: String,
    pub partitions: Vec<PartitionState>,
}

/// A declared state, for `inspect` and for a refusal that says what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateInfo {
    pub name: String,
    pub kind: String,
    pub version: u32,
    /// Id of the schema of its rows; 0: it has none.
    pub schema: u64,
    pub layout: String,
}

/// What one worker had of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Key groups, from (included) to (excluded).
    pub groups: (u64, u64),
    pub keys: u64,
    /// How the engine reads the files: `snapshot`, `rocksdb`.
    pub format: String,
    /// Local name -> file. Pieces of later manifests may share files.
    pub files: BTreeMap<String, FileRef>,
    /// Small things that belong to it, opaque.
    pub extra: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The part's name in the topology.
    pub name: String,
    /// The registered part.
    pub part: String,
    pub states: Vec<StateInfo>,
    pub pieces: Vec<Piece>,
}

/// One numbered piece of an interval's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// [`marker`] of the manifest that named it first.
    pub marker: u64,
    pub rows: u64,
    pub file: FileRef,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterState {
    /// Everything up to this marker is known to be applied.
    pub applied: u64,
    /// Not yet known to be, in order.
    pub chunks: Vec<Chunk>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// The sink's name in the topology.
    pub name: String,
    pub part: String,
    /// By the writer's name.
    pub writers: BTreeMap<String, WriterState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`Manifest::VERSION`] of the release that wrote it.
    pub version: u32,
    pub release: String,
    pub slot: u64,
    /// The slot of the generation that wrote it.
    pub generation: u64,
    pub kind: Kind,
    /// Wall time, microseconds since 1970: the clock never starts below it.
    pub time: i64,
    pub job: String,
    /// Hash of the canonical configuration.
    pub config: u64,
    pub workers: usize,
    /// From request to manifest, microseconds.
    pub took: u64,
    pub sources: Vec<SourceState>,
    pub operators: Vec<OperatorState>,
    pub sinks: Vec<SinkState>,
}

/// A start: from here on older generations write nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Chosen by the starting run; its other processes know it.
    pub run: u64,
    /// The manifest's slot that it starts from; 0: from scratch.
    pub from: u64,
    pub config: u64,
    pub workers: usize,
    pub time: i64,
}

/// What lies in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Generation(Generation),
    Manifest(Box<Manifest>),
}

/// The marker of chunk `index` (from 1; 0 is a generation's base marker) of slot `slot`: slots in order, then chunks.
pub fn marker(slot: u64, index: u64) -> u64 {
    slot << 20 | index
}

impl Manifest {
    pub const VERSION: u32 = 1;
}

impl Record {
    /// A slot's bytes: JSON, a line feed, the xxh3 of what is before it in hex, a line feed.
    pub fn encode(&self) -> Vec<u8> {
        todo!("durable helper")
    }

    /// # Errors
    /// Damaged or truncated bytes, or a version that this release does not read; `name` is told.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Record, Fault> {
        let _ = (name, bytes);
        todo!("durable helper")
    }
}
