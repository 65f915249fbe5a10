//! What the commands take that run jobs, and speak to running ones.

use super::{Set, duration, from};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
pub struct JobArgs {
    /// The job's topology, or its socket (`<state_dir>/<job>.sock`)
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// End with a savepoint, and print where it lies
    #[arg(long)]
    pub savepoint: bool,
    /// Let all windows and timers fire before the end
    #[arg(long)]
    pub drain: bool,
    /// JOB is a task of the console there; the token comes from the variable MILLRACE_TOKEN
    #[arg(long, value_name = "URL", env = "MILLRACE_CONSOLE")]
    pub console: Option<String>,
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The job's topology
    pub job: PathBuf,
    /// The dead letters, JSON lines. Default: the job's own, `<state_dir>/dead-letter/<job>.jsonl`
    pub letters: Option<PathBuf>,
    /// Only those with this reason
    #[arg(long)]
    pub reason: Option<String>,
    /// Only those of this stream
    #[arg(long)]
    pub stream: Option<String>,
    /// Only those that this part has rejected (`stream`, or `stream/step`)
    #[arg(long)]
    pub part: Option<String>,
    /// Also those that were replayed before
    #[arg(long)]
    pub again: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// Hand them over, but begin no run
    #[arg(long, hide = true)]
    pub prepare: bool,
    /// Say it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct RecordArgs {
    /// The job's topology
    pub job: PathBuf,
    /// The store, as the topology calls it
    pub store: String,
    /// The key, as the store has it
    pub key: String,
    /// As JSON, also when there is no such row
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct RescaleArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Workers (threads) from now on, until the job is started anew by hand
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
}

#[derive(Args)]
pub struct TopArgs {
    /// Where the job serves its metrics (`127.0.0.1:9464`, or a port), its topology, or its socket
    #[arg(value_name = "ADDR|JOB")]
    pub target: String,
    #[command(flatten)]
    pub set: Set,
    /// Show one table, averaged since the job began, and end
    #[arg(long)]
    pub once: bool,
    /// Time between two tables
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub interval: std::time::Duration,
}

#[derive(Args, Default)]
pub struct MemberArgs {
    /// Run as one of several processes: the line of the hosts file, from 0, that is this one
    #[arg(long, value_name = "I", env = "MILLRACE_PROCESS", requires = "hosts")]
    pub process: Option<usize>,
    /// Where the job's processes are: a line `host:port` each, the same file for all of them
    #[arg(long, value_name = "FILE", requires = "process")]
    pub hosts: Option<PathBuf>,
    /// Listen here for the others, if not at this process's line of the hosts file
    #[arg(long, value_name = "ADDR:PORT", requires = "process")]
    pub listen: Option<String>,
    #[command(flatten)]
    pub peers: PeerArgs,
}

#[derive(Args, Default)]
pub struct PeerArgs {
    /// File with the secret that all processes of the job know; without it the secret is in the variable MILLRACE_SECRET
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// How long a process may take to appear
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub connect_timeout: std::time::Duration,
    /// A process that has been silent for so long is lost: all others end, to begin anew together
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub peer_timeout: std::time::Duration,
}

#[derive(Args)]
pub struct ClusterArgs {
    /// How many processes; each has --workers threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub processes: u16,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub peers: PeerArgs,
}

#[derive(Args)]
pub struct RunArgs {
    /// The topology
    pub file: PathBuf,
    #[command(flatten)]
    pub set: Set,
    /// Workers (threads) of each process; more important than run_env.parallelism
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Stop after this long: by a last checkpoint, from which the next start goes on, or without checkpoints (and with --drain) draining
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub for_: Option<std::time::Duration>,
    /// Take the input for ended after this many records in all: windows and timers fire, also in a job that takes checkpoints
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// When stopped, let all windows and timers fire before the end (always so in a job that takes no checkpoints)
    #[arg(long)]
    pub drain: bool,
    /// Which checkpoint the job goes on from: `latest`, the number of one, the path of one of this or another job, or `scratch`, which
    /// forgets all there is
    #[arg(long, value_name = "CHECKPOINT", default_value = "latest", value_parser = from)]
    pub from: millrace_engine::StartFrom,
    /// Forget the state of parts that the topology no longer has, rather than refuse to start
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// Start from an older checkpoint although what was published since is published again
    #[arg(long)]
    pub accept_duplicates: bool,
    /// Let what this guard is red for pass until the guard was green once; may be repeated
    #[arg(long, value_name = "NAME")]
    pub accept_guard: Vec<String>,
    /// Read these dead letters and nothing else, without checkpoints: what `millrace replay` begins where the job cannot take them itself
    #[arg(long, hide = true, value_name = "FILE")]
    pub replay: Vec<PathBuf>,
    /// Plan the job and check that its servers, topics, tables and files are there, but read nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write what came in and went out, per part and port, as JSON
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Serve metrics (/metrics, /healthz, /readyz) here; more important than run_env.metrics
    #[arg(long, value_name = "ADDR", value_parser = millrace_plan::listen)]
    pub metrics: Option<std::net::SocketAddr>,
    /// No progress line, no summary on the terminal
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub log: Log,
    /// Snapshot all state and restore it at every epoch: for tests of operators, slow
    #[arg(long, hide = true)]
    pub roundtrip_state: bool,
    /// Take all state out of memory at every epoch: for tests, slow
    #[arg(long, hide = true)]
    pub evict_state: bool,
    /// Set by a run that was rescaled, for the one that goes on
    #[arg(long, hide = true, env = crate::run::RESCALED, value_parser = crate::run::Rescaled::parse)]
    pub rescaled: Option<crate::run::Rescaled>,
    /// The run is a console's: it detaches itself and keeps its lock and its state in this folder
    #[arg(long, hide = true, value_name = "FOLDER", requires = "task_run")]
    pub task: Option<PathBuf>,
    /// The console's number of the run
    #[arg(long, hide = true, value_name = "N")]
    pub task_run: Option<u64>,
    /// Files that a process of the run may have open
    #[arg(long, hide = true, value_name = "N", requires = "task")]
    pub open_files: Option<u64>,
    /// Resident memory that all processes of the run may have together
    #[arg(long, hide = true, value_name = "SIZE", requires = "task", value_parser = millrace_sdk::config::Size::parse)]
    pub memory_limit: Option<millrace_sdk::config::Size>,
    /// Processors that the run may use
    #[arg(long, hide = true, value_name = "N", requires = "task")]
    pub cpu: Option<f64>,
    /// The control group that holds the run
    #[arg(long, hide = true, value_name = "FOLDER", requires = "task")]
    pub cgroup: Option<PathBuf>,
    /// Set by the job's supervisor
    #[arg(long, hide = true, env = crate::supervise::VARIABLE, value_parser = crate::supervise::Supervised::parse)]
    pub supervised: Option<crate::supervise::Supervised>,
}

#[derive(Args)]
pub struct Log {
    /// Lowest level of log lines, or a tracing filter (`info,millrace_engine=debug`)
    #[arg(long, value_name = "FILTER", default_value = "warn", env = "MILLRACE_LOG")]
    pub log: String,
    /// How log lines are written, to standard error
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}
