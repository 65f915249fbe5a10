//! Checkpoints: where an interval ends (boundaries), what every part says at its end (acknowledgements), and who puts that together
//! (the coordinator). The protocol is Chandy and Lamport's idea with epochs in place of markers: "all rows before epoch b are processed
//! here" is what the dataflow's own frontiers say.

mod ack;
mod bounds;
mod coordinator;
mod fits;
mod older;
mod outgoing;
mod publish;
mod refused;
mod start;
mod upload;

pub use ack::{Ack, Body, Spot};
pub use bounds::{Boundary, Bounds};
pub use fits::{Fate, fates, keeps_state};
pub use older::{FINISHED, Foreseen, foresee, unused};
pub use publish::Publishers;
pub use refused::Refused;
pub use start::{Restored, Saved, join, start, storage};
pub use upload::Uploads;
