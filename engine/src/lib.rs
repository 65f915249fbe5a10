//! Runs a [`millrace_plan::Plan`] as a dataflow: time, exchange, state, look-ups, acknowledgement. The only crate that names timely.

mod build;
mod checkpoint;
mod cluster;
mod control;
mod event_time;
pub mod exposition;
mod graph;
mod guards;
mod inbox;
mod keyed;
mod lookup;
mod memory;
mod minutes;
mod outbox;
mod outlet;
mod parcel;
mod progress;
mod quiet;
mod reject;
pub mod replay;
pub mod restart;
mod run;
mod sink;
mod source;
mod stateless;
mod stores;
pub mod summary;
pub mod tap;
#[cfg(test)]
mod tests;
mod ts;
mod wire;

pub use checkpoint::{Fate, Foreseen, fates, foresee, storage, unused};
pub use cluster::Member;
pub use control::{Asked, Control, Event, Request, RunOptions};
pub use guards::watched;
pub use millrace_durable::StartFrom;
pub use progress::{CheckpointMeter, Meters, Progress, Reporter, Snapshot};
pub use run::{check, run};
pub use summary::Summary;
