//! The command line: subcommands, completions and the man page come from these definitions.

mod checkpoints;
mod console;
mod jobs;
mod trials;
mod write;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

pub use checkpoints::{CheckpointsJob, CheckpointsWhat, Which};
pub use console::{ConsoleArgs, LogsArgs, PsArgs, ServeArgs, StartArgs, SubmitArgs};
pub use jobs::{ClusterArgs, JobArgs, LogFormat, MemberArgs, RecordArgs, ReplayArgs, RescaleArgs, RunArgs, StopArgs, TopArgs};
pub use trials::{DiffArgs, NewArgs, SampleArgs, TapArgs, TestArgs};
pub use write::{FmtArgs, GraphFormat, LintArgs, LintFormat, Listed, LspArgs};

#[derive(Parser)]
#[command(name = "millrace", version, about = "A stream processor whose jobs are YAML files", after_help = crate::exit::HELP, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a job until its input ends or it is stopped
    Run {
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        member: MemberArgs,
    },
    /// Run a job in several processes of this machine, and keep them together
    Cluster(ClusterArgs),
    /// Check topologies and show every problem with its place
    Lint(LintArgs),
    /// Write topologies in the one way: order of sections, indentation, quotes; comments stay, and so does what they mean
    Fmt(FmtArgs),
    /// Help an editor while a topology is being written: a language server on standard input and output
    Lsp(LspArgs),
    /// Run the tests that stand in topologies: on a virtual clock, without network
    Test(TestArgs),
    /// Make a test from real records: read a few from a stream's source, without moving anything
    Sample(SampleArgs),
    /// Make a folder with a job from a template: topology, sample input and tests
    New(NewArgs),
    /// Say what has changed between two topologies, and whether state survives it
    Diff(DiffArgs),
    /// Show records that pass an output of a running job
    Tap(TapArgs),
    /// Name every part, function and helper
    List {
        /// Only these
        #[arg(value_enum)]
        what: Option<Listed>,
        /// As JSON: kind, name, aliases, first sentence
        #[arg(long)]
        json: bool,
    },
    /// Print the page of a part, a function, a helper, a problem or a section of a topology
    Explain {
        /// IntervalLeftJoin, regexp_extract, md5_prefix, unknown-field, run_env …
        name: String,
    },
    /// Print the JSON Schema of the topology language, for editors
    Schema,
    /// Show what a running job does, part by part
    Top(TopArgs),
    /// Say where a running job stands
    Status {
        #[command(flatten)]
        job: JobArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Save a running job's state in a savepoint
    Savepoint(JobArgs),
    /// Stop a running job, or the job of a console's task, and wait until it has ended
    Stop(StopArgs),
    /// Have a running job go on with another number of workers, and wait until it does
    Rescale(RescaleArgs),
    /// Draw a topology
    Graph {
        /// The topology
        file: PathBuf,
        /// How to draw it
        #[arg(long, value_enum, default_value = "terminal")]
        format: GraphFormat,
        #[command(flatten)]
        set: Set,
    },
    /// List, inspect, verify and prune the checkpoints of a job
    Checkpoints {
        #[command(subcommand)]
        what: CheckpointsWhat,
    },
    /// Have dead letters go through their job once more: through the running job, else with its next start, else by a run of their own; what
    /// will happen is said, and records that were replayed before are left out
    Replay(ReplayArgs),
    /// Show one row of a store by its key, as the job's look-ups see it
    Record(RecordArgs),
    /// Serve the web console: tasks, their jobs, and who may do what with them
    Serve(ServeArgs),
    /// Give a console a topology: a new task, or a new version of one
    Submit(SubmitArgs),
    /// Have a console start a task's job
    Start(StartArgs),
    /// Print the log of a task's job
    Logs(LogsArgs),
    /// Name the tasks of a console and how they are
    Ps(PsArgs),
    /// Print completions for a shell
    Completions {
        /// The shell that they are for
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
}

#[derive(Args, Clone, Default)]
pub struct Set {
    /// Set a variable (`NAME=v`, for ${NAME}) or a key of the topology (`run_env.parallelism=2`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Let topologies include files of this folder, besides those of their own; may be repeated
    #[arg(long, value_name = "DIR")]
    pub include_from: Vec<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.into(), v.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn from(text: &str) -> Result<millrace_engine::StartFrom, String> {
    use millrace_engine::StartFrom;
    match text {
        "latest" => Ok(StartFrom::Latest),
        "scratch" => Ok(StartFrom::Scratch),
        "" => Err("write `latest`, `scratch`, the number of a checkpoint, or its path".into()),
        other => Ok(other.parse().map_or_else(|_| StartFrom::Path(other.into()), StartFrom::Slot)),
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    millrace_sdk::config::Duration::parse(text).map(|d| d.std())
}
