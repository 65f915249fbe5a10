//! Sinks: at-least-once writes with acknowledgement, and the verbs of the engine's outbox.

use crate::batch::Batch;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::operator::{Bind, Demand, Env, Reject};
use crate::problem::Problem;
use crate::source::Waker;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    /// Nothing is known to have arrived (a terminal).
    None,
    AtLeastOnce,
    /// At least once, and writing a row again changes nothing.
    Idempotent,
    ExactlyOnce,
}

/// Names one `write` call; the sink gives it back once all of its rows are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A sink's config, read and checked. It opens nothing.
pub trait SinkSpec: Send + Sync {
    fn guarantee(&self) -> Guarantee;
    /// What it needs of each row.
    fn demand(&self) -> Demand;
    /// `bind.inputs`: one edge an input, all of which it must be able to write.
    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>>;
}

pub trait SinkFactory: Send + Sync {
    /// One clear sentence if the broker, topic, table or folder is missing; called once, before anything is read.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// All rows must go through one writer (a file without `{worker}` in its path, a terminal).
    fn single_writer(&self) -> bool {
        false
    }
    /// Writing rows again, in their order, leaves the place as it was: each has a key, and the last one counts.
    fn overwrites(&self) -> bool {
        false
    }
    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault>;
    /// Exactly-once: a sink of which only `encode`, `poll` and `close` are called. It need not open anything.
    fn encoder(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        self.open(cx)
    }
    /// Exactly-once: what publishes the outbox, if the sink can.
    fn outbox(&self, cx: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        let _ = cx;
        Ok(None)
    }
}

#[derive(Clone)]
pub struct SinkContext {
    pub worker: usize,
    pub workers: usize,
    pub clock: Clock,
    pub waker: Waker,
    pub env: Arc<Env>,
}

/// What a sink has to say since it was last asked.
#[derive(Default)]
pub struct Acks {
    /// Writes all of whose rows are safe, in any order.
    pub done: Vec<Ticket>,
    /// Rows that the server refused for good; their write is done all the same.
    pub rejects: Vec<Reject>,
    /// Rows in which there was nothing to write, by reason: (`no-cells`, 12).
    pub dropped: Vec<(&'static str, u64)>,
}

/// One writer. No call blocks for longer than a few milliseconds, but for `close` of a sink without [`patience`](Sink::patience).
pub trait Sink: Send {
    /// Room for another write; false is backpressure, and the waker is called when that changes.
    fn ready(&mut self) -> bool {
        true
    }
    /// Takes the rows of one input. They are sent in call order.
    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault>;
    /// The epoch is over: send what was gathered without waiting for more.
    fn flush(&mut self) -> Result<(), Fault> {
        Ok(())
    }
    /// Collects acknowledgements. A server that is down is waited for inside the sink with backoff; an `Err` ends the job.
    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault>;
    /// Of a sink whose server may be away: how long the end of the job waits for an acknowledgement, counted from the last one. Such
    /// a sink is closed only when everything is acknowledged. When the time is over what is left counts as lost and the job fails.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Sends everything, waits for it, and says the last acknowledgements.
    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault>;

    /// Exactly-once: appends the bytes that stand for these rows in the engine's outbox, of which [`Outbox::apply`] makes the same
    /// writes however often and whenever it is called. An empty `chunk` is a new one, which several calls may fill: it says all that
    /// `apply` must know, the version of its layout included, as it may be applied by a later release and on behalf of another worker.
    /// Rows that cannot be written are told by `poll`. None: this sink writes at least once.
    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        let _ = (input, batch, chunk);
        None
    }
}

/// Keeps what the server refuses of a writer's chunk (by its marker) where it survives the process.
pub type KeepRefused = Arc<dyn Fn(&str, u64, &[Reject]) -> Result<(), Fault> + Send + Sync>;

/// What publishes the engine's outbox. Chunks and markers of one writer come in order; a writer's name is unique among all workers,
/// sinks and jobs that ever wrote to the place, and stays the same across restarts.
///
/// All calls come from a thread of the engine's own, and may block. An `Err` with `retry` is asked again with backoff, after a look
/// whether a newer generation of the job lives: what failed may have happened all the same, and `apply` may have to take the writer
/// over anew to find out. Nothing is ever skipped.
pub trait Outbox: Send {
    /// No process that works for one of these writers, this one's forerunners included, can change anything any more.
    fn fence(&mut self, writers: &[String]) -> Result<(), Fault>;
    /// The marker of the last chunk that the writer applied; None: it never applied one. Asked after the writer was fenced, so the
    /// answer is final.
    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault>;
    /// Makes a chunk visible together with its marker, or neither; harmless when a forerunner repeats it late. An empty chunk sets the
    /// marker alone. `rejects` takes the rows that the server refuses for good. The writer was fenced by this outbox before; that a
    /// newer one has fenced it since is a fault without `retry`.
    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault>;
    /// Takes what `apply` calls once it knows what is refused and before anything becomes visible, so that a crash in between loses no
    /// refused row. Without it they are kept after `apply` has returned.
    fn keep_refused(&mut self, keep: KeepRefused) {
        let _ = keep;
    }
    /// Says again what was refused of the last chunk that was applied, where the server knows it.
    fn refused_again(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        let _ = (writer, chunk, marker, rejects);
        Ok(())
    }
}
