//! What processes tell each other by their control connections: JSON, one message a frame.

use super::gossip::Gossip;
use crate::checkpoint::{Ack, Boundary, Spot};
use crate::control::Request;
use crate::summary::{FaultSummary, Report};
use millrace_durable::Chunk;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub enum Say {
    /// A sign of life.
    Beat,
    Table(Gossip),
    /// The run is over, and why.
    Failed(FaultSummary),
    /// Sources stop reading.
    Drain,

    /// Process 0: the job's state is as its checkpoint says. None: it takes no checkpoints.
    Begin {
        generation: Option<u64>,
        finished: bool,
    },
    /// Process 0: these boundaries lie in epochs up to this one, which is not to be entered yet.
    Announce {
        epoch: u64,
        bounds: Vec<Boundary>,
    },
    /// Process 0: all have heard; the epoch may be entered.
    Enter(u64),
    /// Process 0: nobody asks for boundaries up to this attempt any more.
    Settle(u64),
    /// Process 0: there is a manifest of this attempt.
    Commit(u64),
    /// Process 0: one of your writers has something to publish.
    Publish {
        spot: Spot,
        chunk: Chunk,
    },
    /// Process 0: everything is taken and published, sources let go.
    Finish,
    /// Process 0: what became of a question.
    Reply {
        id: u64,
        answer: Result<String, FaultSummary>,
    },
    /// Process 0: all have told what they did.
    Bye,

    /// To process 0: all parts are open.
    Ready,
    /// To process 0: this process knows all boundaries of epochs up to this one.
    Heard(u64),
    /// To process 0: the next epoch may begin before its time.
    Hurry,
    Ack(Ack),
    /// To process 0: somebody asks the job for something.
    Asked {
        id: u64,
        request: Request,
    },
    /// To process 0: this process has ended, and what it did.
    Over(Box<Report>),
}
