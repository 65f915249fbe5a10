//! A sink's outbox on one worker: rows of the open interval become chunks in the checkpoint storage, and are told at its end.

use crate::checkpoint::{Ack, Body, Boundary, Spot, Uploads};
use crate::control::Shared;
use millrace_durable::FileRef;
use millrace_sdk::{Batch, Fault, Sink};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Bytes of a chunk: what is published in one transaction. At most so many, and this part of the memory.
const CHUNK: (usize, u64) = (4 << 20, 128);
/// Bytes on their way to storage, beyond which no more rows are taken.
const IN_FLIGHT: (usize, u64) = (32 << 20, 16);

/// What the threads that store share with the worker.
#[derive(Default)]
struct Stored {
    /// Chunks that are safe, by number, and not yet told.
    safe: BTreeMap<u64, (u64, FileRef)>,
    /// The next chunk to be told.
    next: u64,
    /// Boundaries whose chunks are not all safe: attempt, and the number behind their last chunk.
    waiting: VecDeque<(u64, u64)>,
    /// Chunks that could not be stored: the next boundary tries again.
    refused: Vec<Stray>,
    bytes: usize,
}

/// A chunk on its way to storage.
struct Stray {
    number: u64,
    rows: u64,
    bytes: Vec<u8>,
}

/// Invariant: chunks are told in order, each in one answer only; those of an attempt that failed are told with the next.
pub struct Outgoing {
    spot: Spot,
    generation: u64,
    uploads: Arc<Uploads>,
    shared: Arc<Shared>,
    chunk: Vec<u8>,
    rows: u64,
    /// Number of the next chunk.
    number: u64,
    stored: Arc<Mutex<Stored>>,
}

fn locked(m: &Mutex<Stored>) -> std::sync::MutexGuard<'_, Stored> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Outgoing {
    pub fn new(spot: Spot, generation: u64, uploads: Arc<Uploads>, shared: Arc<Shared>) -> Outgoing {
        Outgoing { spot, generation, uploads, shared, chunk: vec![], rows: 0, number: 0, stored: Arc::default() }
    }

    /// Whether there is room for more.
    pub fn ready(&self) -> bool {
        locked(&self.stored).bytes < self.shared.memory.share(IN_FLIGHT.1, IN_FLIGHT.0)
    }

    pub fn add(&mut self, sink: &mut dyn Sink, input: usize, batch: &Batch) -> Result<(), Fault> {
        sink.encode(input, batch, &mut self.chunk).unwrap_or_else(|| Err(Fault::bug("a sink with an outbox cannot fill it")))?;
        self.rows += batch.len() as u64;
        self.shared.boxed(batch.len() as u64);
        if self.chunk.len() >= self.shared.memory.share(CHUNK.1, CHUNK.0) {
            self.store();
        }
        Ok(())
    }

    /// The interval is over: its chunks are told when they are safe.
    pub fn answer(&mut self, b: Boundary) {
        self.store();
        let again = {
            let mut stored = locked(&self.stored);
            stored.waiting.push_back((b.attempt, self.number));
            tell(&mut stored, self.spot, &self.shared);
            std::mem::take(&mut stored.refused)
        };
        again.into_iter().for_each(|stray| self.upload(stray));
    }

    fn store(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let stray = Stray { number: self.number, rows: std::mem::take(&mut self.rows), bytes: std::mem::take(&mut self.chunk) };
        self.number += 1;
        locked(&self.stored).bytes += stray.bytes.len();
        self.upload(stray);
    }

    /// A storage that refuses keeps no thread: states and other sinks' chunks want to be refused as well, or their checkpoint has no end.
    fn upload(&self, stray: Stray) {
        let name = format!("g{}-n{}-w{}-out-{}", self.generation, self.spot.node, self.spot.worker, stray.number);
        let (stored, shared, spot) = (self.stored.clone(), self.shared.clone(), self.spot);
        self.uploads.run(move |log| {
            let outcome = log.put(&name, &stray.bytes);
            if outcome.is_ok() {
                millrace_sdk::point::reach("outbox-synced");
            }
            let mut stored = locked(&stored);
            match outcome {
                Ok(file) => {
                    stored.bytes -= stray.bytes.len();
                    stored.safe.insert(stray.number, (stray.rows, file));
                    tell(&mut stored, spot, &shared);
                }
                Err(fault) => {
                    // The attempts that wait for it fail; the rows stay, and the next one takes them.
                    stored.refused.push(stray);
                    for (attempt, _) in std::mem::take(&mut stored.waiting) {
                        let body = Body::Failed { fault: fault.clone().into(), chunks: vec![] };
                        shared.bounds.ack(Ack { attempt, from: spot, body });
                    }
                }
            }
        });
    }
}

/// Answers the boundaries whose chunks are all safe.
fn tell(stored: &mut Stored, from: Spot, shared: &Shared) {
    while let Some(&(attempt, end)) = stored.waiting.front() {
        if (stored.next..end).any(|n| !stored.safe.contains_key(&n)) {
            return;
        }
        stored.waiting.pop_front();
        let chunks = (stored.next..end).filter_map(|n| stored.safe.remove(&n)).collect();
        stored.next = end;
        shared.bounds.ack(Ack { attempt, from, body: Body::Outbox { chunks } });
    }
}
