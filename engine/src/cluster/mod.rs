//! Several processes that run one job: who they are, how they find and trust each other, and what they tell each other.
//!
//! Two kinds of connections, all to the one port of each process. **Data** connections join every two processes; the dataflow's batches
//! and progress go there. **Control** connections join every process with process 0: epochs and boundaries, answers to boundaries,
//! chunks to publish, how far sources are, faults, signs of life. Whoever connects and whoever is connected to prove that they know the
//! job's secret; nothing is encrypted.
//!
//! Invariants:
//! - No source enters an epoch before every process has heard of it, boundaries included: process 0 announces, gathers who has heard, and
//!   only then lets it be entered. (That a process itself has heard is not enough: its rows would overtake the news on their way to another.)
//! - The processes of a run live and die together. Whoever loses one, or hears nothing of it for `peer_timeout`, ends and says so.

mod connect;
mod frame;
mod gossip;
mod handshake;
mod links;
mod say;

pub use connect::{Mesh, connect};
pub use frame::Wire;
pub use gossip::Gossip;
pub use links::{Begin, Links};

use millrace_sdk::config::Secret;
use std::time::Duration;

/// Which process of a job this one is.
#[derive(Clone, Debug)]
pub struct Member {
    pub process: usize,
    /// `host:port` of every process, in order.
    pub hosts: Vec<String>,
    /// Where this process listens; None: at its own entry of `hosts`.
    pub listen: Option<String>,
    /// What all processes of the job know and nobody else does.
    pub secret: Secret,
    /// How long the others may take to appear.
    pub connect_timeout: Duration,
    /// A process that has been silent for so long is lost.
    pub peer_timeout: Duration,
}

impl Member {
    /// A process in messages: `process 2 at 10.0.0.3:7000`.
    pub fn name(&self, process: usize) -> String {
        format!("process {process} at {}", self.hosts[process])
    }
}

/// The workers of this process among all workers of the job: they are numbered process by process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub process: usize,
    pub processes: usize,
    /// Of each process.
    pub workers: usize,
}

impl Seat {
    /// The only process.
    pub fn alone(workers: usize) -> Seat {
        Seat { process: 0, processes: 1, workers }
    }

    /// All workers of the job.
    pub fn all(&self) -> usize {
        self.processes * self.workers
    }

    /// The first worker of this process.
    pub fn first(&self) -> usize {
        self.process * self.workers
    }

    pub fn is_mine(&self, worker: usize) -> bool {
        self.of(worker) == self.process
    }

    /// The process of a worker.
    pub fn of(&self, worker: usize) -> usize {
        worker / self.workers.max(1)
    }
}
