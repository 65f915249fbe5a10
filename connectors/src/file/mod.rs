//! Files: a source that reads them once or follows them, a sink that appends and rolls.

mod csv;
mod input;
mod ledger;
mod lineage;
mod listing;
mod naming;
mod outbox;
mod reading;
mod rows;
mod sink;
mod source;
mod writer;

pub use rows::{JsonRows, Layout};

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// By the path's end: `.gz` is gzip, `.zst` and `.zstd` are zstd, everything else is plain.
    #[default]
    Auto,
    /// Plain, whatever the path ends with.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// What it is for this path: never `Auto`.
    pub fn of(self, path: &Path) -> Compression {
        match self {
            Compression::Auto => match path.extension().and_then(|e| e.to_str()) {
                Some("gz") => Compression::Gzip,
                Some("zst" | "zstd") => Compression::Zstd,
                _ => Compression::None,
            },
            c => c,
        }
    }
}
