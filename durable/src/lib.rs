//! Where checkpoints lie, and what one says: storage, the log of slots, manifests. It knows nothing of dataflows.
//!
//! A job's folder holds `instances/00000001` and so on (the names of its instances, one made at each start from scratch; the newest is the
//! present one) and a folder an instance: `slots/00000017` (a manifest or a generation record, taken by exclusive creation) `files/`
//! (snapshots, outbox chunks) and, after an end in order, `published`.

mod disk;
mod import;
mod local;
mod log;
mod manifest;
mod published;
mod refused;
mod s3;
mod signing;
mod storage;

pub use import::{Later, Named};
pub use local::Local;
pub use log::{Begun, JobLog, StartFrom};
pub use manifest::{
    Chunk, FileRef, Generation, Kind, Manifest, OperatorState, PartitionState, Piece, Record, SinkState, SourceState, StateInfo, Verdict,
    WriterState, marker,
};
pub use s3::{S3, S3Options};
pub use storage::{Entry, Storage};

use millrace_sdk::Fault;
use std::path::Path;
use std::sync::Arc;

/// The place that a location names: a folder, which is made, or `s3://bucket/prefix`.
pub fn open(location: &str, s3: &S3Options) -> Result<Arc<dyn Storage>, Fault> {
    match location.split_once("://") {
        None => Ok(Arc::new(Local::open(Path::new(location))?)),
        Some(("file", folder)) => Ok(Arc::new(Local::open(Path::new(folder))?)),
        Some(("s3", place)) => Ok(Arc::new(S3::open(place, s3)?)),
        Some((scheme, _)) => {
            Err(Fault::config(format!("`{scheme}://` is no place for checkpoints")).hint("name a folder, or `s3://bucket/prefix`"))
        }
    }
}

#[cfg(test)]
mod tests;
