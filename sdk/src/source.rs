//! Sources: partitions with positions that can be saved and sought.

use crate::batch::BatchBuilder;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::operator::{Bind, Demand, Env, Reject};
use crate::problem::Problem;
use crate::schema::SchemaRef;
use std::sync::Arc;
use std::time::Duration;

/// Wakes the engine's worker from another thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Which partitions this instance reads: those whose number is its own, modulo the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub index: usize,
    pub instances: usize,
    /// Shifts whole sources against each other, so that one-partition sources do not all lie on worker 0.
    pub shift: usize,
}

impl Assignment {
    /// Whether partition `number` is read by this instance. Numbers must be the same in every process: a Kafka partition's, a
    /// file's place in the sorted listing, or a hash of its name.
    pub fn mine(&self, number: u64) -> bool {
        (number.wrapping_add(self.shift as u64) % self.instances as u64) as usize == self.index
    }
}

#[derive(Clone)]
pub struct SourceContext {
    pub assignment: Assignment,
    pub clock: Clock,
    pub waker: Waker,
    /// The stream's number, for [`crate::Meta::source`].
    pub source: u16,
    pub env: Arc<Env>,
    /// The stream goes on from a checkpoint that knew all of its partitions. A partition that is not sought was added since: it is read
    /// from its beginning, wherever the config says to start.
    pub restored: bool,
}

/// A source's config, read and checked. It opens nothing.
pub trait SourceSpec: Send + Sync {
    /// Whether it ends by itself.
    fn bounded(&self) -> bool;
    /// Whether a position can be sought again (stdin cannot).
    fn replayable(&self) -> bool;
    /// The schema of its rows, of which `demand` says what is wanted, and what opens it.
    ///
    /// # Errors
    /// Every problem there is, each with its place in the config.
    fn bind(&self, bind: &Bind<'_>, demand: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>>;
}

pub trait SourceFactory: Send + Sync {
    /// One clear sentence if the broker, topic or file is missing; called once, before anything is read.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// What is outside against how the job is written (`lint --connect`): problems with their places in the config.
    ///
    /// # Errors
    /// As [`SourceFactory::check`].
    fn ask(&self, needs: &Needs) -> Result<Vec<Problem>, Fault> {
        let _ = needs;
        self.check().map(|()| vec![])
    }
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault>;
}

/// What a job needs of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Workers that read it.
    pub workers: usize,
    /// How far back it is read again after a restart: what windows and joins held is gone without checkpoints.
    pub span: Option<Duration>,
}

/// A position in a partition: opaque bytes that only the source reads, e.g. the next offset.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Position(pub Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Chosen by the source, unique and stable in its life; [`crate::Meta::partition`].
    pub id: u32,
    /// For people and for saved positions: `clicks/3`, `logs/a.log`. The same after a restart.
    pub name: String,
}

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Rows may have been added and more may be there at once.
    Ready,
    /// Nothing now; the waker will be called, or ask again in about 10 ms.
    Pending,
    /// This partition has ended for good.
    Ended,
}

/// Where a poll puts what it read.
pub struct Pull<'a> {
    /// Rows of the source's schema, all of one partition; `meta.source`, `partition`, `offset` and `raw` are set, `time` where
    /// the source itself knows one.
    pub rows: &'a mut BatchBuilder,
    /// Records that could not even become a row (longer than `max_record`).
    pub rejects: &'a mut Vec<Reject>,
    pub max_rows: usize,
    pub max_bytes: usize,
}

/// One instance a worker. No call blocks for longer than a few milliseconds: slow clients have threads of their own.
pub trait Source: Send {
    /// Partitions that are new since the last call; empty when there are none. `complete`: no more will ever come.
    fn discover(&mut self) -> Result<Discovery, Fault>;
    /// Whether `discover` has told the partitions that were there at the start. Until then the stream's watermark stands: nobody knows
    /// how old its first rows are.
    fn listed(&self) -> bool {
        true
    }
    /// Starts a partition at a saved position rather than where the config says. Called before its first poll; a saved position
    /// belongs to a partition by its name, as ids may differ from run to run.
    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault>;
    /// Reads a little of one partition. An unavailable dependency is `Pending` with a warning in the log, not an error.
    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault>;
    /// Asked after a `Pending`: whether everything that the partition has was given. False while more may be on its way (a broker that
    /// is slow or away): then it does not become idle, and no longer is, as its rows would be late when they come.
    fn drained(&mut self, partition: u32) -> bool {
        let _ = partition;
        true
    }
    /// The position behind the last row that `poll` gave, of any partition at any time: what lies before it is never read again
    /// after a [`seek`](Self::seek) to it, what lies behind it is.
    fn position(&mut self, partition: u32) -> Position;
    /// All sinks have acknowledged everything before these positions: to be told to the outside (consumer group).
    fn acknowledged(&mut self, positions: &[(u32, Position)]) -> Result<(), Fault> {
        let _ = positions;
        Ok(())
    }
    /// Records that the outside still holds for us, if it is known.
    fn lag(&mut self) -> Option<u64> {
        None
    }
    /// Said once at the end; what was acknowledged must have reached the outside when it returns.
    fn close(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    pub new: Vec<PartitionInfo>,
    pub complete: bool,
}
