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
    HaltedByGuard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    Config,
    Data,
    Dependency,
    Guard,
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
            Guard => FaultClass::Guard,
            Bug => FaultClass::Bug,
        };
        FaultSummary { kind, retry: f.retry, message: f.message, detail: f.detail, hint: f.hint }
    }
}

impl From<FaultSummary> for millrace_sdk::Fault {
    fn from(f: FaultSummary) -> Self {
        use millrace_sdk::FaultKind::*;
        let kind = match f.kind {
            FaultClass::Config => Config,
            FaultClass::Data => Data,
            FaultClass::Dependency => Dependency,
            FaultClass::Guard => Guard,
            FaultClass::Bug => Bug,
        };
        millrace_sdk::Fault { kind, retry: f.retry, message: f.message, detail: f.detail, hint: f.hint }
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

/// What one process of several did, with what a total needs beside its summary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub summary: Summary,
    /// Filled buckets of the latency's histogram, by index.
    pub latency: Vec<(usize, u64)>,
    pub longest: u64,
}

fn add(all: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    more.into_iter().for_each(|(name, n)| *all.entry(name).or_default() += n);
}

impl Summary {
    /// Adds what another process of the same job did; the latency is to be set by who has all rows' times.
    pub fn add(&mut self, other: Summary) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.rejected += other.rejected;
        self.lost += other.lost;
        self.records_per_second = if self.elapsed_seconds > 0.0 { self.records_in as f64 / self.elapsed_seconds } else { 0.0 };
        for (s, o) in self.sources.iter_mut().zip(other.sources) {
            s.records += o.records;
            s.bytes += o.bytes;
            s.partitions += o.partitions;
            s.lag = s.lag.into_iter().chain(o.lag).reduce(|a, b| a + b);
        }
        for (s, o) in self.stores.iter_mut().zip(other.stores) {
            let pairs = [
                (&mut s.lookups, o.lookups),
                (&mut s.cache_hits, o.cache_hits),
                (&mut s.shared, o.shared),
                (&mut s.calls, o.calls),
                (&mut s.keys, o.keys),
                (&mut s.errors, o.errors),
                (&mut s.failed, o.failed),
            ];
            pairs.into_iter().for_each(|(mine, theirs)| *mine += theirs);
        }
        for (n, o) in self.nodes.iter_mut().zip(other.nodes) {
            n.records_in += o.records_in;
            n.records_out += o.records_out;
            n.bytes += o.bytes;
            n.rejected_total += o.rejected_total;
            n.inputs.iter_mut().zip(o.inputs).for_each(|(a, b)| *a += b);
            n.ports.iter_mut().zip(o.ports).for_each(|(a, b)| a.records += b.records);
            add(&mut n.rejected, o.rejected);
            add(&mut n.dropped, o.dropped);
            add(&mut n.counters, o.counters);
            n.watermark = n.watermark.into_iter().chain(o.watermark).min();
        }
    }

    pub fn node(&self, name: &str) -> Option<&NodeSummary> {
        self.nodes.iter().find(|n| n.name == name)
    }
}
