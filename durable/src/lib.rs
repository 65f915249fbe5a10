//! Where checkpoints lie, and what one says: storage, the log of slots, manifests. It knows nothing of dataflows.
//!
//! A job's folder holds `INSTANCE` (the name of the present instance, made at a start from scratch) and a folder an instance:
//! `slots/00000017` (a manifest or a generation record, taken by exclusive creation) and `files/` (snapshots, outbox chunks).

mod disk;
mod local;
mod log;
mod manifest;
mod storage;

pub use local::Local;
pub use log::{Begun, JobLog, StartFrom};
pub use manifest::{
    Chunk, FileRef, Generation, Kind, Manifest, OperatorState, PartitionState, Piece, Record, SinkState, SourceState, StateInfo,
    WriterState, marker,
};
pub use storage::{Entry, Storage};

#[cfg(test)]
mod tests;
