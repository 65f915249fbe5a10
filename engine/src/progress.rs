//! Counters of a running job: atomics that workers add to once a batch, and anybody may read.

use crate::guards::NullMeter;
use crate::minutes::Minutes;
use crate::summary::{Latency, NodeSummary, PortSummary, SourceSummary, StoreSummary};
use millrace_plan::plan::{NodeKind, Plan};
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Latency buckets: 32 a power of two, microseconds.
const FINE: usize = 32;
const BUCKETS: usize = FINE * 36;

/// A histogram of times with a resolution of a thirty-second.
pub struct Histogram {
    buckets: Vec<AtomicU64>,
    /// Of all times, microseconds.
    sum: AtomicU64,
    /// The longest.
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn index(micros: u64) -> usize {
        if micros < FINE as u64 {
            return micros as usize;
        }
        let shift = (micros / FINE as u64).ilog2() as usize;
        (shift * FINE + (micros >> shift) as usize).min(BUCKETS - 1)
    }

    fn lower(index: usize) -> u64 {
        if index < FINE { index as u64 } else { ((FINE + index % FINE) as u64) << (index / FINE - 1) }
    }

    pub fn add(&self, micros: u64, rows: u64) {
        self.buckets[Self::index(micros)].fetch_add(rows, Relaxed);
        self.sum.fetch_add(micros.saturating_mul(rows), Relaxed);
        self.max.fetch_max(micros, Relaxed);
    }

    /// How many lie below each of these powers of two (microseconds), how many there are, and their sum in microseconds.
    pub fn below_powers(&self, powers: std::ops::Range<u32>) -> (Vec<u64>, u64, u64) {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let below = |power: u32| counts[..Self::index(1 << power)].iter().sum();
        (powers.map(below).collect(), counts.iter().sum(), self.sum.load(Relaxed))
    }

    /// The longest time; None if there are no rows.
    pub fn max(&self) -> Option<u64> {
        self.quantile(1.0).map(|_| self.max.load(Relaxed))
    }

    /// Filled buckets by index, and the longest time.
    pub fn filled(&self) -> (Vec<(usize, u64)>, u64) {
        let counts = self.buckets.iter().map(|b| b.load(Relaxed)).enumerate().filter(|(_, n)| *n > 0);
        (counts.collect(), self.max.load(Relaxed))
    }

    /// Adds what another histogram says of itself by [`filled`](Self::filled).
    pub fn merge(&self, filled: &[(usize, u64)], max: u64) {
        for (bucket, n) in filled.iter().filter_map(|(i, n)| Some((self.buckets.get(*i)?, n))) {
            bucket.fetch_add(*n, Relaxed);
        }
        self.max.fetch_max(max, Relaxed);
    }

    /// The time below which this part of all rows lies; None if there are no rows.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let mut left = (total as f64 * part).ceil() as u64;
        for (i, c) in counts.iter().enumerate() {
            if left <= *c {
                return Some(Self::lower(i));
            }
            left -= c;
        }
        None
    }
}

/// Rare events by name, kept behind a lock: touched once a batch at most.
#[derive(Default)]
pub struct Named(Mutex<BTreeMap<String, u64>>);

impl Named {
    pub fn add(&self, name: &str, n: u64) {
        if n == 0 {
            return;
        }
        let mut map = self.0.lock().unwrap_or_else(|e| e.into_inner());
        match map.get_mut(name) {
            Some(v) => *v += n,
            None => drop(map.insert(name.to_string(), n)),
        }
    }
    pub fn get(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// A node's counters, over all workers.
#[derive(Default)]
pub struct NodeMeter {
    pub name: String,
    pub part: String,
    pub kind: &'static str,
    /// By the part's input index.
    pub inputs: Vec<AtomicU64>,
    pub ports: Vec<(String, AtomicU64)>,
    pub bytes: AtomicU64,
    pub rejected: Named,
    pub dropped: Named,
    pub counters: Named,
    pub watermark: AtomicI64,
    /// By worker: nanoseconds in which the part worked, and in which it could not go on as its readers or its server were not ready. A
    /// stream's own steps are part of it.
    pub busy: Vec<AtomicU64>,
    pub backpressured: Vec<AtomicU64>,
    /// Bytes of keyed state, at the last checkpoint.
    pub state_bytes: AtomicU64,
    /// What a sink was given, if the run counts that.
    pub minutes: Option<Minutes>,
    /// By port: whether its rows count as written. Those of a port that nobody reads count as rejected or dropped, and rejects as such.
    read: Vec<bool>,
    /// Rows that went through as they were, by a node without an operator: the node's inputs are counted where they came from.
    passes: Vec<(usize, usize)>,
}

/// A stream's counters beside those of its node.
#[derive(Default)]
pub struct SourceMeter {
    pub node: usize,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub partitions: AtomicU64,
    /// By worker; u64::MAX: not known.
    pub lag: Vec<AtomicU64>,
}

#[derive(Default)]
pub struct StoreMeter {
    pub name: String,
    pub lookups: AtomicU64,
    pub cache_hits: AtomicU64,
    /// Questions that another one in flight answered.
    pub shared: AtomicU64,
    pub calls: AtomicU64,
    pub keys: AtomicU64,
    pub errors: AtomicU64,
    pub failed: AtomicU64,
    /// Of calls that were answered.
    pub latency: Histogram,
}

/// What became of the checkpoints of this run. Metrics show it for jobs that have `run_env.checkpoint`.
#[derive(Default)]
pub struct CheckpointMeter {
    pub completed: AtomicU64,
    pub failed: AtomicU64,
    /// Those that waited for a server longer than their time.
    pub delayed: AtomicU64,
    /// From the announcement to the published manifest.
    pub duration: Histogram,
    /// Of the last completed one: bytes that it uploaded, and bytes of all files that it names.
    pub uploaded_bytes: AtomicU64,
    pub total_bytes: AtomicU64,
    /// When the last one was completed, microseconds since the run began; 0: there was none.
    pub completed_at: AtomicU64,
    /// Names of the files of the last completed one.
    named: Mutex<HashSet<String>>,
}

impl CheckpointMeter {
    /// A checkpoint is complete that names these files (name, bytes); those that the one before did not name were uploaded for it.
    pub fn sized<'a>(&self, files: impl Iterator<Item = (&'a str, u64)>) {
        let mut named = self.named.lock().unwrap_or_else(|e| e.into_inner());
        let (mut now, mut total, mut uploaded) = (HashSet::new(), 0, 0);
        for (name, bytes) in files.filter(|(name, _)| now.insert(name.to_string())) {
            total += bytes;
            uploaded += if named.contains(name) { 0 } else { bytes };
        }
        self.total_bytes.store(total, Relaxed);
        self.uploaded_bytes.store(uploaded, Relaxed);
        *named = now;
    }
}

/// All counters of a run.
#[derive(Default)]
pub struct Meters {
    pub nodes: Vec<NodeMeter>,
    pub sources: Vec<SourceMeter>,
    pub stores: Vec<StoreMeter>,
    pub latency: Histogram,
    /// Records that could be written nowhere.
    pub lost: AtomicU64,
    /// A store or sink is being waited for.
    pub waiting: AtomicBool,
    /// The number of this process's first worker: what is told by worker is told of this process's only.
    pub first: usize,
    /// By worker: when it last took a step, microseconds since the run began; 0: it has not begun.
    pub steps: Vec<AtomicU64>,
    /// The epoch that all sinks have acknowledged, and when it last moved, microseconds since the run began.
    pub acknowledged: (AtomicU64, AtomicU64),
    /// By guard.
    pub nulls: Vec<NullMeter>,
    /// None: the job has no checkpoints.
    pub checkpoints: Option<CheckpointMeter>,
}

impl Meters {
    /// `workers` of this process, numbered from `first`.
    pub fn new(plan: &Plan, first: usize, workers: usize) -> Meters {
        let mut stores: Vec<StoreMeter> = Vec::new();
        let mut sources = Vec::new();
        let mut nodes = Vec::new();
        for (i, n) in plan.nodes.iter().enumerate() {
            let mut passes = Vec::new();
            let kind = match &n.kind {
                NodeKind::Source(_) => {
                    sources.push(SourceMeter {
                        node: i,
                        lag: (0..workers).map(|_| AtomicU64::new(u64::MAX)).collect(),
                        ..SourceMeter::default()
                    });
                    "source"
                }
                NodeKind::Operator(op) => {
                    for s in &op.stores {
                        if !stores.iter().any(|m| m.name == s.name) {
                            stores.push(StoreMeter { name: s.name.clone(), ..StoreMeter::default() });
                        }
                    }
                    if matches!(op.exec, millrace_sdk::Exec::Pass) {
                        passes = n.inputs.iter().map(|i| (i.from.node.0, i.from.port)).collect();
                    }
                    "operator"
                }
                NodeKind::Sink(_) => "sink",
            };
            let inputs = n.inputs.iter().map(|i| i.index + 1).max().unwrap_or(1);
            let read = |port: usize| plan.nodes.iter().flat_map(|n| &n.inputs).any(|r| (r.from.node.0, r.from.port) == (i, port));
            nodes.push(NodeMeter {
                name: n.name.clone(),
                part: n.part.to_string(),
                kind,
                inputs: (0..inputs).map(|_| AtomicU64::new(0)).collect(),
                ports: n.ports.iter().map(|(p, _)| (p.name.clone(), AtomicU64::new(0))).collect(),
                watermark: AtomicI64::new(i64::MIN),
                busy: (0..workers).map(|_| AtomicU64::new(0)).collect(),
                backpressured: (0..workers).map(|_| AtomicU64::new(0)).collect(),
                read: (0..n.ports.len()).map(|p| n.ports[p].0.name != "errors" && read(p)).collect(),
                passes,
                ..NodeMeter::default()
            });
        }
        let steps = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let checkpoints = plan.checkpoint.is_some().then(CheckpointMeter::default);
        let nulls = plan.guards.iter().map(|_| NullMeter::default()).collect();
        Meters { nodes, sources, stores, first, steps, nulls, checkpoints, ..Meters::default() }
    }

    /// From now on what sinks are given is counted by minute.
    pub fn by_minute(mut self, counts: bool) -> Meters {
        let sinks = self.nodes.iter_mut().filter(|n| counts && n.kind == "sink");
        sinks.for_each(|n| n.minutes = Some(Minutes::default()));
        self
    }

    /// A part has worked on a worker since then.
    #[inline]
    pub fn worked(&self, node: usize, worker: usize, since: Instant) {
        self.nodes[node].busy[worker - self.first].fetch_add(since.elapsed().as_nanos() as u64, Relaxed);
    }

    /// A source's instance knows how much it has not yet read.
    pub fn lag(&self, source: usize, worker: usize, lag: u64) {
        self.sources[source].lag[worker - self.first].store(lag, Relaxed);
    }

    /// A worker has taken a step; the first one of a process says too which epoch is acknowledged.
    pub fn stepped(&self, worker: usize, micros: u64, acknowledged: Option<u64>) {
        self.steps[worker - self.first].store(micros.max(1), Relaxed);
        if let Some(epoch) = acknowledged
            && self.acknowledged.0.swap(epoch, Relaxed) != epoch
        {
            self.acknowledged.1.store(micros, Relaxed);
        }
    }

    pub fn store(&self, name: &str) -> usize {
        self.stores.iter().position(|s| s.name == name).unwrap_or(0)
    }

    /// Rows that left by a port; those of a node that only passes rows are its inputs'.
    fn port(&self, node: usize, port: usize) -> u64 {
        let n = &self.nodes[node];
        match n.passes.is_empty() {
            true => n.ports.get(port).map_or(0, |p| p.1.load(Relaxed)),
            false if port == 0 => n.passes.iter().map(|&(n, p)| self.port(n, p)).sum(),
            false => 0,
        }
    }

    pub fn node_summaries(&self) -> Vec<NodeSummary> {
        let one = |(i, n): (usize, &NodeMeter)| {
            let rejected = n.rejected.get();
            let inputs: Vec<u64> = match n.passes.is_empty() {
                true => n.inputs.iter().map(|i| i.load(Relaxed)).collect(),
                false => n.passes.iter().map(|&(f, p)| self.port(f, p)).collect(),
            };
            let wm = n.watermark.load(Relaxed);
            NodeSummary {
                name: n.name.clone(),
                part: n.part.clone(),
                kind: n.kind.to_string(),
                records_in: inputs.iter().sum(),
                inputs,
                records_out: (0..n.ports.len()).filter(|&p| n.read[p]).map(|p| self.port(i, p)).sum(),
                ports: (0..n.ports.len()).map(|p| PortSummary { name: n.ports[p].0.clone(), records: self.port(i, p) }).collect(),
                bytes: n.bytes.load(Relaxed),
                rejected_total: rejected.values().sum(),
                rejected,
                dropped: n.dropped.get(),
                counters: n.counters.get(),
                watermark: (wm != i64::MIN && wm != i64::MAX).then_some(wm),
            }
        };
        self.nodes.iter().enumerate().map(one).collect()
    }

    pub fn source_summaries(&self) -> Vec<SourceSummary> {
        let one = |s: &SourceMeter| SourceSummary {
            name: self.nodes[s.node].name.clone(),
            records: s.records.load(Relaxed),
            bytes: s.bytes.load(Relaxed),
            partitions: s.partitions.load(Relaxed),
            lag: s.lag.iter().map(|l| l.load(Relaxed)).filter(|&l| l != u64::MAX).reduce(|a, b| a + b),
        };
        self.sources.iter().map(one).collect()
    }

    pub fn store_summaries(&self) -> Vec<StoreSummary> {
        let one = |s: &StoreMeter| StoreSummary {
            name: s.name.clone(),
            lookups: s.lookups.load(Relaxed),
            cache_hits: s.cache_hits.load(Relaxed),
            shared: s.shared.load(Relaxed),
            calls: s.calls.load(Relaxed),
            keys: s.keys.load(Relaxed),
            errors: s.errors.load(Relaxed),
            failed: s.failed.load(Relaxed),
        };
        self.stores.iter().map(one).collect()
    }

    pub fn latency(&self) -> Latency {
        Latency { p50_micros: self.latency.quantile(0.5), p99_micros: self.latency.quantile(0.99), max_micros: self.latency.max() }
    }
}

/// The figures of a progress line, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub elapsed: Duration,
    pub records_in: u64,
    pub records_out: u64,
    pub rejected: u64,
    pub lag: Option<u64>,
    /// The least watermark of the sources; None: before the first.
    pub watermark: Option<i64>,
    pub waiting: bool,
}

/// A running job as the executable sees it.
pub struct Progress {
    pub meters: std::sync::Arc<Meters>,
    pub started: Instant,
}

impl Progress {
    pub fn snapshot(&self) -> Snapshot {
        let m = &self.meters;
        let sinks = m.nodes.iter().filter(|n| n.kind == "sink");
        let wms = m.sources.iter().map(|s| m.nodes[s.node].watermark.load(Relaxed)).filter(|&w| w != i64::MIN && w != i64::MAX);
        Snapshot {
            elapsed: self.started.elapsed(),
            records_in: m.sources.iter().map(|s| s.records.load(Relaxed)).sum(),
            records_out: sinks.map(|n| n.inputs.iter().map(|i| i.load(Relaxed)).sum::<u64>()).sum(),
            rejected: m.nodes.iter().map(|n| n.rejected.get().values().sum::<u64>()).sum(),
            lag: m.source_summaries().iter().filter_map(|s| s.lag).reduce(|a, b| a + b),
            watermark: wms.min(),
            waiting: m.waiting.load(Relaxed),
        }
    }
}

/// Measures how long something could not go on.
#[derive(Default)]
pub struct Blocked(Option<Instant>);

impl Blocked {
    /// Says whether it is blocked now, and adds the time that it has been since it was last asked.
    pub fn now(&mut self, blocked: bool, meters: &Meters, node: usize, worker: usize) {
        if !blocked && self.0.is_none() {
            return;
        }
        let now = Instant::now();
        if let Some(since) = self.0.take() {
            meters.nodes[node].backpressured[worker - meters.first].fetch_add((now - since).as_nanos() as u64, Relaxed);
        }
        self.0 = blocked.then_some(now);
    }
}

/// Told what a run does, beside its log.
pub trait Reporter: Sync {
    /// All parts were checked and opened, reading begins.
    fn started(&self, progress: std::sync::Arc<Progress>) {
        let _ = progress;
    }
}

impl Reporter for () {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_upload_what_the_last_one_did_not_name() {
        let c = CheckpointMeter::default();
        let sizes = || (c.uploaded_bytes.load(Relaxed), c.total_bytes.load(Relaxed));
        c.sized([("a", 10), ("b", 5), ("b", 5)].into_iter());
        assert_eq!(sizes(), (15, 15));
        c.sized([("b", 5), ("c", 1)].into_iter());
        assert_eq!(sizes(), (1, 6));
        c.sized([("a", 10), ("c", 1)].into_iter());
        assert_eq!(sizes(), (10, 11));
    }

    #[test]
    fn histogram_resolves_a_thirty_second() {
        for micros in [0u64, 1, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 66, 100, 999, 1_000_000, 60_000_000, 86_400_000_000] {
            let h = Histogram::default();
            h.add(micros, 3);
            let got = h.quantile(0.5).unwrap();
            assert_eq!(h.max(), Some(micros));
            assert!(got <= micros && micros - got <= micros / 32, "{micros}: {got}");
        }
        let h = Histogram::default();
        h.add(10, 98);
        h.add(5000, 2);
        assert_eq!(h.quantile(0.5), Some(10));
        assert!(h.quantile(0.99).unwrap() > 4000);
        h.add(1024, 5);
        h.add(u64::MAX / 100, 1);
        let (below, count, _) = h.below_powers(0..14);
        assert_eq!(below, [0, 0, 0, 0, 98, 98, 98, 98, 98, 98, 98, 103, 103, 105]);
        assert_eq!(count, 106);
    }
}
