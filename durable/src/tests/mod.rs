//! The log, its files and what befalls them.

mod faults;
mod import;
mod log;
mod power;
mod prune;

use crate::*;
use millrace_sdk::Fault;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn local(root: &Path) -> Arc<dyn Storage> {
    Arc::new(Local::open(root).expect("a temporary folder can be written"))
}

fn job(root: &Path) -> JobLog {
    JobLog::open(local(root), "job", false).expect("opens")
}

pub fn generation(run: u64) -> Generation {
    Generation { run, from: 0, config: 7, workers: 2, time: 1 }
}

pub fn manifest(slot: u64, generation: u64) -> Manifest {
    Manifest {
        version: Manifest::VERSION,
        release: "0.1.0".into(),
        slot,
        generation,
        kind: Kind::Periodic,
        time: 1_700_000_000_000_000,
        job: "job".into(),
        config: 7,
        workers: 2,
        took: 3_000,
        guarded: false,
        sources: vec![SourceState {
            name: "in".into(),
            partitions: vec![PartitionState { name: "t-0".into(), position: vec![0, 255, 7], greatest: i64::MIN, floor: -1, ended: false }],
            unlisted: false,
            meaning: String::new(),
        }],
        operators: Vec::new(),
        sinks: Vec::new(),
    }
}

/// As one with a piece of state in `files`.
pub fn with_files(mut m: Manifest, files: &[&FileRef]) -> Manifest {
    let files: BTreeMap<String, FileRef> = files.iter().map(|f| (f.name.clone(), (*f).clone())).collect();
    let piece = Piece { groups: (0, 1024), keys: 5, format: "snapshot".into(), files, extra: vec![1] };
    m.operators.push(OperatorState {
        name: "join".into(),
        part: "IntervalLeftJoin".into(),
        meaning: String::new(),
        states: Vec::new(),
        pieces: vec![piece],
    });
    m
}

/// As one with a sink's writer.
pub fn with_writer(mut m: Manifest, sink: &str, writer: &str, applied: u64, chunks: Vec<Chunk>) -> Manifest {
    if m.sinks.iter().all(|s| s.name != sink) {
        m.sinks.push(SinkState { name: sink.into(), part: "Kafka".into(), writers: BTreeMap::new() });
    }
    let state = m.sinks.iter_mut().find(|s| s.name == sink).expect("just pushed");
    state.writers.insert(writer.into(), WriterState { applied, chunks });
    m
}

fn take(log: &JobLog, m: Manifest) -> bool {
    log.take(m.slot, &Record::Manifest(Box::new(m))).expect("taken or not")
}

fn begin(log: &JobLog, run: u64, from: StartFrom) -> Begun {
    log.begin(&generation(run), &from).expect("begins")
}

#[track_caller]
fn fails<T>(r: Result<T, Fault>) -> Fault {
    match r {
        Ok(_) => panic!("must fail"),
        Err(f) => f,
    }
}
