//! What a run did: the JSON of `--summary`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All input was read and everything was written.
    Finished,
    /// Asked to stop, or a limit was reached: what had been read was written.
    Drained,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    Config,
    Data,
    Dependency,
    Bug,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSummary {
    pub kind: FaultClass,
    pub retry: bool,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<millrace_sdk::Fault> for FaultSummary {
    fn from(f: millrace_sdk::Fault) -> Self {
        use millrace_sdk::FaultKind::*;
        let kind = match f.kind {
            Config => FaultClass::Config,
            Data => FaultClass::Data,
            Dependency => FaultClass::Dependency,
            Bug => FaultClass::Bug,
        };
        FaultSummary { kind, retry: f.retry, message: f.message, detail: f.detail, hint: f.hint }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSummary {
    /// Empty: the main output.
    pub name: String,
    pub records: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    pub name: String,
    pub part: String,
    /// `source`, `operator` or `sink`.
    pub kind: String,
    pub records_in: u64,
    /// By input: left, right, retry.
    pub inputs: Vec<u64>,
    /// By all ports but `errors` and those that nobody reads, whose rows count as rejected or dropped.
    pub records_out: u64,
    pub ports: Vec<PortSummary>,
    /// Bytes of batches read or written, in memory.
    pub bytes: u64,
    pub rejected_total: u64,
    /// By reason.
    pub rejected: BTreeMap<String, u64>,
    /// Rows that went by intent, by reason.
    pub dropped: BTreeMap<String, u64>,
    pub counters: BTreeMap<String, u64>,
    /// Microseconds since 1970 UTC.
    pub watermark: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSummary {
    pub name: String,
    pub records: u64,
    pub bytes: u64,
    pub partitions: u64,
    /// Records that the outside still holds, where it can tell.
    pub lag: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSummary {
    pub name: String,
    /// Questions asked.
    pub lookups: u64,
    pub cache_hits: u64,
    /// Questions that went together with another one of the same key.
    pub shared: u64,
    pub calls: u64,
    /// Keys in those calls.
    pub keys: u64,
    /// Calls that failed and were tried again or given up.
    pub errors: u64,
    /// Questions given up.
    pub failed: u64,
}

/// From the arrival of a row in its source to the batch that it caused reaching a sink. A row arrives when it
/// is read; one that comes after a time in which the source had none, right after the source was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    pub p50_micros: Option<u64>,
    pub p99_micros: Option<u64>,
    pub max_micros: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub job: String,
    pub ended: Ended,
    pub workers: usize,
    pub elapsed_seconds: f64,
    /// Read by all sources.
    pub records_in: u64,
    /// Written by all sinks but the dead letter's.
    pub records_out: u64,
    pub records_per_second: f64,
    /// Sent to the dead letter, or to wired `errors`.
    pub rejected: u64,
    /// Written nowhere: a run that lost something has not succeeded.
    pub lost: u64,
    pub latency: Latency,
    pub sources: Vec<SourceSummary>,
    pub stores: Vec<StoreSummary>,
    /// In topological order.
    pub nodes: Vec<NodeSummary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultSummary>,
}

impl Summary {
    pub fn node(&self, name: &str) -> Option<&NodeSummary> {
        self.nodes.iter().find(|n| n.name == name)
    }
}
