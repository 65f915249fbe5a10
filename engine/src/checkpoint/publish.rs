//! Publishing: one thread a sink makes the chunks of completed checkpoints visible, in order. Every process publishes for its own writers.

use super::ack::{Ack, Body, Spot};
use super::coordinator::taken_over;
use super::refused::Keeper;
use super::start::Writers;
use crate::control::Shared;
use millrace_durable::{Chunk, JobLog};
use millrace_sdk::{Fault, FaultKind, Outbox, Reject, point};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The first and the longest wait before something is tried again.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Output that waits longer than this for a server is blocked: somebody should know.
const BLOCKED: Duration = Duration::from_secs(30);

/// The publishers of all sinks.
pub struct Publishers {
    shared: Arc<Shared>,
    queues: HashMap<usize, Sender<(Spot, Chunk)>>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    pub fn none(shared: &Arc<Shared>) -> Publishers {
        Publishers { shared: shared.clone(), queues: HashMap::new(), threads: vec![] }
    }

    /// # Errors
    /// No threads are to be had.
    pub fn start(
        outboxes: BTreeMap<usize, Box<dyn Outbox>>,
        writers: &Writers,
        log: &Arc<JobLog>,
        generation: u64,
        shared: &Arc<Shared>,
    ) -> Result<Publishers, Fault> {
        let mut all = Publishers::none(shared);
        for (node, mut outbox) in outboxes {
            let keeper = Arc::new(Keeper::default());
            outbox.keep_refused(keeper.hook(log));
            let (queue, todo) = channel();
            let names =
                writers.iter().filter(|(s, _)| s.node == node && shared.seat.is_mine(s.worker)).map(|(s, n)| (*s, n.clone())).collect();
            let publisher = Publisher { outbox, writers: names, log: log.clone(), generation, shared: shared.clone(), keeper };
            let thread = std::thread::Builder::new().name(format!("publish-{node}"));
            let thread = thread.spawn(move || publisher.run(&todo));
            all.threads.push(thread.map_err(|e| Fault::refused(format!("threads for publishing cannot be started: {e}")))?);
            all.queues.insert(node, queue);
        }
        Ok(all)
    }

    pub fn publish(&self, spot: Spot, chunk: Chunk) {
        if let Some(links) = self.shared.links.get().filter(|_| !self.shared.seat.is_mine(spot.worker)) {
            return links.publish(spot, chunk);
        }
        if let Some(queue) = self.queues.get(&spot.node) {
            // A publisher that is gone has told why.
            let _ = queue.send((spot, chunk));
        }
    }

    /// Ends the threads; what is not published will be by the next run.
    pub fn stop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Publisher {
    outbox: Box<dyn Outbox>,
    writers: HashMap<Spot, String>,
    log: Arc<JobLog>,
    generation: u64,
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
}

impl Publisher {
    /// A run that was stopped while it took its writers over takes them from whoever has them when it wakes up, if only for the moment
    /// until it looks into the log. Whoever is the newest in the log takes them back by another start. Who is not has this one reason,
    /// whatever it stumbled over: its chunk may be published and pruned by now.
    fn taken(&self, fault: Fault) -> Fault {
        match self.log.superseded(self.generation) {
            Ok(true) => taken_over().detail(fault.to_string()),
            Ok(false) if fault.kind == FaultKind::Dependency => Fault { retry: true, ..fault },
            _ => fault,
        }
    }

    fn run(mut self, todo: &Receiver<(Spot, Chunk)>) {
        while let Ok((spot, chunk)) = todo.recv() {
            if self.shared.failed() {
                return;
            }
            let Some(writer) = self.writers.get(&spot).cloned() else {
                return self
                    .shared
                    .fail(Fault::bug(format!("a chunk for worker {} came to a publisher that does not know it", spot.worker)));
            };
            let mut rejects = vec![];
            let shared = self.shared.clone();
            point::reach("before-apply");
            let (log, outbox, keeper) = (self.log.clone(), &mut *self.outbox, self.keeper.clone());
            keeper.expect(&writer, &chunk);
            let mut applied = again(&shared, &self.log, self.generation, &writer, || apply(outbox, &log, &writer, &chunk, &mut rejects));
            point::reach("applied-unrecorded");
            if applied.is_ok() {
                applied = again(&shared, &self.log, self.generation, &writer, || keeper.done(&log, &writer, &chunk, &rejects, false));
            }
            if let Err(fault) = applied {
                return self.shared.fail(self.taken(fault));
            }
            // First the rows, then the news: a boundary that has the one has the other.
            let refused = !rejects.is_empty();
            self.shared.refused(spot, chunk.marker, rejects);
            self.shared.published(chunk.rows);
            self.shared.bounds.ack(Ack { attempt: 0, from: spot, body: Body::Applied { marker: chunk.marker, refused } });
        }
    }
}

/// Publishes one chunk.
pub fn apply(outbox: &mut dyn Outbox, log: &JobLog, writer: &str, chunk: &Chunk, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
    let bytes = log.get(&chunk.file)?;
    rejects.clear();
    outbox.apply(writer, &bytes, chunk.marker, rejects)
}

/// Tries until it works, or cannot work, or the run is over, or a newer one has taken over: only the newest may take a writer again.
pub fn again<T>(
    shared: &Shared,
    log: &JobLog,
    generation: u64,
    what: &str,
    mut call: impl FnMut() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let (mut wait, begun, mut told) = (FIRST, Instant::now(), false);
    loop {
        match call() {
            Err(fault) if fault.retry && !shared.failed() => {
                if !told && begun.elapsed() >= BLOCKED {
                    told = true;
                    shared.control.tell("output_blocked", format!("`{what}`: {}", fault.message));
                }
                if log.superseded(generation).unwrap_or(false) {
                    return Err(taken_over());
                }
                tracing::warn!(target: "checkpoint", "the output of `{what}` cannot be published yet: {fault}");
                std::thread::sleep(wait);
                wait = (wait * 2).min(LONGEST);
            }
            result => {
                if told && result.is_ok() {
                    shared.control.tell("output_unblocked", format!("`{what}`"));
                }
                return result;
            }
        }
    }
}
