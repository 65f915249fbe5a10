//! What a checkpoint says. A manifest stands alone: with the files it names it is all that a start needs.

use millrace_sdk::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// A file under `files/`, as it must be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// xxh3 of its bytes.
    #[serde(with = "hex_sum")]
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
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    /// The partition's lasting name.
    pub name: String,
    /// Opaque to all but the source.
    #[serde(with = "hex_bytes")]
    pub position: Vec<u8>,
    /// Greatest event time seen, microseconds; `i64::MIN`: none yet.
    pub greatest: i64,
    /// The partition's watermark never goes below this.
    pub floor: i64,
    /// It gives nothing more.
    pub ended: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceState {
    /// The stream's name.
    pub name: String,
    pub partitions: Vec<PartitionState>,
    /// The source did not know all of its partitions yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
    /// What the times of its rows are, in words: `event time is ts as epoch_ms`. Empty: not said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
}

/// A declared state, for `inspect` and for a refusal that says what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Key groups, from (included) to (excluded).
    pub groups: (u64, u64),
    pub keys: u64,
    /// How the engine reads the files: `snapshot`, `rocksdb`.
    pub format: String,
    /// Local name -> file. Pieces of later manifests may share files.
    pub files: BTreeMap<String, FileRef>,
    /// Small things that belong to it, opaque.
    #[serde(with = "hex_bytes")]
    pub extra: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorState {
    /// The part's name in the topology.
    pub name: String,
    /// The registered part.
    pub part: String,
    /// What its keys mean, in words: `by u string; event time`. Empty: not said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    pub states: Vec<StateInfo>,
    pub pieces: Vec<Piece>,
}

/// One numbered piece of an interval's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// [`marker`] of the manifest that named it first.
    pub marker: u64,
    pub rows: u64,
    pub file: FileRef,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterState {
    /// Everything up to this marker is known to be applied.
    pub applied: u64,
    /// Not yet known to be, in order.
    pub chunks: Vec<Chunk>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkState {
    /// The sink's name in the topology.
    pub name: String,
    pub part: String,
    /// By the writer's name.
    pub writers: BTreeMap<String, WriterState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Its output waits for a [`Verdict`]; without one it is as if it had never been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
    pub sources: Vec<SourceState>,
    pub operators: Vec<OperatorState>,
    pub sinks: Vec<SinkState>,
}

/// A start: from here on older generations write nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Chosen by the starting run; its other processes know it.
    pub run: u64,
    /// The manifest's slot that it starts from; 0: from scratch.
    pub from: u64,
    pub config: u64,
    pub workers: usize,
    pub time: i64,
}

/// What the guards of a job have decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The slot of the generation that wrote it.
    pub generation: u64,
    /// Manifests of the generation up to this slot have passed, and their output may be published; 0: none.
    pub passed: u64,
    /// Guards that are red: nothing behind `passed` will ever be published.
    pub red: Vec<String>,
    /// What each guard saw, in words.
    pub seen: Vec<String>,
    pub time: i64,
}

impl Verdict {
    /// Whether it has passed a manifest.
    pub fn passes(&self, m: &Manifest) -> bool {
        self.generation == m.generation && self.passed >= m.slot
    }
}

/// What lies in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Generation(Generation),
    Manifest(Box<Manifest>),
    Verdict(Verdict),
}

/// The marker of chunk `index` (from 1; 0 is a generation's base marker) of slot `slot`: slots in order, then chunks.
pub fn marker(slot: u64, index: u64) -> u64 {
    slot << 20 | index
}

impl Manifest {
    pub const VERSION: u32 = 1;

    /// Every file that it names; one that two pieces share comes twice.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let pieces = self.operators.iter().flat_map(|o| &o.pieces).flat_map(|p| p.files.values());
        pieces.chain(self.chunks().map(|(_, _, c)| &c.file))
    }

    /// Every chunk that is not known to be applied, with its sink's and its writer's name.
    pub fn chunks(&self) -> impl Iterator<Item = (&str, &str, &Chunk)> {
        let writers = self.sinks.iter().flat_map(|s| s.writers.iter().map(|(w, state)| (s.name.as_str(), w.as_str(), state)));
        writers.flat_map(|(s, w, state)| state.chunks.iter().map(move |c| (s, w, c)))
    }
}

impl Record {
    /// A slot's bytes: JSON, a line feed, the xxh3 of what is before it in hex, a line feed.
    pub fn encode(&self) -> Vec<u8> {
        seal(self)
    }

    /// # Errors
    /// Damaged or truncated bytes, or a version that this release does not read; `name` is told.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Record, Fault> {
        let body = unseal(name, bytes)?;
        let value: serde_json::Value = serde_json::from_slice(body).map_err(|e| strange(name, &e))?;
        if let Some(manifest) = value.get("manifest") {
            let version = manifest.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
            if version == 0 || version > u64::from(Manifest::VERSION) {
                let release = manifest.get("release").and_then(serde_json::Value::as_str).unwrap_or("?");
                return Err(Fault::data(format!("{name}: this release cannot read checkpoints of format {version}"))
                    .detail(format!("it was written by Millrace {release}; this release reads formats up to {}", Manifest::VERSION))
                    .hint("start with the release that wrote it, or a newer one"));
            }
        }
        serde_json::from_value(value).map_err(|e| strange(name, &e))
    }
}

/// JSON, a line feed, the xxh3 of both in hex, a line feed.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("names and numbers are always JSON");
    bytes.push(b'\n');
    let sum = xxh3_64(&bytes);
    bytes.extend(format!("{sum:016x}\n").bytes());
    bytes
}

/// The JSON that was sealed.
pub(crate) fn unseal<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
    const END: usize = 17;
    let Some((body, end)) = bytes.len().checked_sub(END).map(|n| bytes.split_at(n)).filter(|(_, end)| end.ends_with(b"\n")) else {
        return Err(damaged(name, format!("it is cut off after {} bytes", bytes.len())));
    };
    match format!("{:016x}\n", xxh3_64(body)).as_bytes() == end {
        true => Ok(body),
        false => Err(damaged(name, format!("its {} bytes do not have the checksum at its end", bytes.len()))),
    }
}

pub(crate) fn damaged(name: &str, detail: String) -> Fault {
    Fault::data(format!("{name} is damaged"))
        .detail(detail)
        .hint("start from another checkpoint; `millrace checkpoints verify` says which are whole")
}

/// The checksum is right, the words are not: written by a release that this one does not know.
fn strange(name: &str, e: &serde_json::Error) -> Fault {
    Fault::data(format!("{name}: this release does not understand the record"))
        .detail(e.to_string())
        .hint("start with the release that wrote it")
}

/// Bytes as hex digits.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// A checksum as 16 hex digits.
mod hex_sum {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(sum: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{sum:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(d)?, 16).map_err(D::Error::custom)
    }
}
