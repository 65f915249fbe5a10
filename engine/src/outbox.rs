//! A sink's outbox on one worker: rows of the open interval become chunks in the checkpoint storage, and are told at its end.

use crate::checkpoint::{Ack, Body, Boundary, Spot, Uploads};
use crate::control::Shared;
use millrace_durable::FileRef;
use millrace_sdk::{Batch, Fault, Sink};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes of a chunk: what is published in one transaction. At most so many, and this part of the memory.
const CHUNK: (usize, u64) = (4 << 20, 128);
/// Bytes on their way to storage, beyond which no more rows are taken.
const IN_FLIGHT: (usize, u64) = (32 << 20, 16);
/// The first and the longest wait before storing is tried again.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// What the threads that store share with the worker.
#[derive(Default)]
struct Stored {
    /// Chunks that are safe, by number, and not yet told.
    safe: BTreeMap<u64, (u64, FileRef)>,
    /// The next chunk to be told.
    next: u64,
    /// Boundaries whose chunks are not all safe: attempt, and the number behind their last chunk.
    waiting: VecDeque<(u64, u64)>,
    bytes: usize,
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
        let mut stored = locked(&self.stored);
        stored.waiting.push_back((b.attempt, self.number));
        tell(&mut stored, self.spot, &self.shared);
    }

    fn store(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let (bytes, rows) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.rows));
        let number = self.number;
        self.number += 1;
        let name = format!("g{}-n{}-w{}-out-{number}", self.generation, self.spot.node, self.spot.worker);
        let (stored, shared, spot) = (self.stored.clone(), self.shared.clone(), self.spot);
        locked(&stored).bytes += bytes.len();
        self.uploads.run(move |log| {
            let mut wait = FIRST;
            let file = loop {
                match log.put(&name, &bytes) {
                    Ok(file) => break file,
                    Err(_) if shared.failed() => return,
                    Err(fault) => {
                        // The attempts that wait for it fail; the rows stay, and the next one takes them.
                        for (attempt, _) in std::mem::take(&mut locked(&stored).waiting) {
                            shared.bounds.ack(Ack {
                                attempt,
                                from: spot,
                                body: Body::Failed { fault: fault.clone().into(), chunks: vec![] },
                            });
                        }
                        std::thread::sleep(wait);
                        wait = (wait * 2).min(LONGEST);
                    }
                }
            };
            millrace_sdk::point::reach("outbox-synced");
            let mut stored = locked(&stored);
            stored.bytes -= bytes.len();
            stored.safe.insert(number, (rows, file));
            tell(&mut stored, spot, &shared);
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
