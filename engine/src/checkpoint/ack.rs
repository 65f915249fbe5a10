//! What the parts of the dataflow say to the coordinator.

use crate::guards::Counts;
use crate::summary::FaultSummary;
use millrace_durable::{FileRef, PartitionState, Piece, StateInfo};
use serde::{Deserialize, Serialize};

/// A part of the dataflow that must answer every boundary: a node on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Spot {
    pub node: usize,
    pub worker: usize,
}

#[derive(Serialize, Deserialize)]
pub struct Ack {
    /// 0 where no attempt is meant.
    pub attempt: u64,
    pub from: Spot,
    pub body: Body,
}

#[derive(Serialize, Deserialize)]
pub enum Body {
    /// Every partition that this instance reads, as it stood at the boundary. `over`: it reads no more; `listed`: there were no others.
    Source { partitions: Vec<PartitionState>, over: bool, listed: bool },
    /// An operator's state. `idle`: no timer, question or held time is left in it.
    State { states: Vec<StateInfo>, piece: Piece, idle: bool },
    /// What a sink's writer has gathered since its last answer, safe in storage: (rows, file), in order.
    Outbox { chunks: Vec<(u64, FileRef)> },
    /// All that was written before the boundary is safe.
    Written,
    /// The answer could not be stored: the attempt fails. Chunks that were are told all the same.
    Failed { fault: FaultSummary, chunks: Vec<(u64, FileRef)> },
    /// A writer's chunks up to this marker are published. `refused`: the server did not want all rows of this one.
    Applied { marker: u64, refused: bool },
    /// What the guards of a process count.
    Counts { counts: Counts },
    /// Refused rows of a writer's chunks up to this marker have gone on before the boundary.
    Taken { marker: u64, attempt: u64 },
}
