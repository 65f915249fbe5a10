//! What `checkpoints` takes.

use super::{Set, from};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum CheckpointsWhat {
    /// Name them: slot, kind, time, age, size, workers, generation
    List {
        #[command(flatten)]
        job: CheckpointsJob,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what one says: sources with positions, operators with states and keys, sinks with what is still to apply
    Inspect {
        /// Its slot, as `list` names it, or `latest`: the one from which a start goes on
        #[arg(value_name = "SLOT", value_parser = which)]
        slot: Which,
        #[command(flatten)]
        job: CheckpointsJob,
        /// As JSON: the whole manifest
        #[arg(long)]
        json: bool,
    },
    /// Say what a start from one would do, in the words of that start, and write nothing: what is published twice, what is given up, or why
    /// it would be refused (then with the exit code of the refusal)
    Preview {
        /// As for `run --from`
        #[arg(value_name = "CHECKPOINT", value_parser = from)]
        from: millrace_engine::StartFrom,
        /// The job's topology
        file: PathBuf,
        /// As for `millrace run`
        #[arg(long)]
        accept_duplicates: bool,
        /// As for `millrace run`
        #[arg(long)]
        allow_dropped_state: bool,
        #[command(flatten)]
        set: Set,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every file of one, or of all, and say what is missing or damaged (then the exit code is 4)
    Verify {
        #[command(flatten)]
        job: CheckpointsJob,
        /// Only the one in this slot, or `latest`
        #[arg(long, value_name = "SLOT", value_parser = which)]
        slot: Option<Which>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete all but the newest; savepoints, what is not applied yet and what a start would go on from stay
    Prune {
        /// How many stay, at least 1
        #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
        keep: usize,
        #[command(flatten)]
        job: CheckpointsJob,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct CheckpointsJob {
    /// The job's topology
    #[arg(required_unless_present_all = ["dir", "job"], conflicts_with_all = ["dir", "job"])]
    pub file: Option<PathBuf>,
    /// Where checkpoints lie, in place of the topology: a folder or `s3://bucket/prefix` (keys and AWS_ENDPOINT_URL from the environment)
    #[arg(long, value_name = "LOCATION", requires = "job")]
    pub dir: Option<String>,
    /// The job's name there
    #[arg(long, value_name = "NAME", requires = "dir")]
    pub job: Option<String>,
    #[command(flatten)]
    pub set: Set,
}

/// A checkpoint of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Latest,
    Slot(u64),
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "latest" => Ok(Which::Latest),
        slot => slot.parse().map(Which::Slot).map_err(|_| "write the slot of a checkpoint, or `latest`".into()),
    }
}
