//! The command line: subcommands, completions and the man page come from these definitions.

mod trials;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub use trials::{DiffArgs, NewArgs, SampleArgs, TapArgs, TestArgs};

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

#[derive(Args)]
pub struct JobArgs {
    /// The job's topology, or its socket (`<state_dir>/<job>.sock`)
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct ServeArgs {
    /// Where the database, the tasks and their logs lie; one console at a time
    #[arg(long, value_name = "FOLDER", default_value = "millrace-console")]
    pub data: PathBuf,
    /// Address and port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8800", value_parser = millrace_plan::listen)]
    pub listen: std::net::SocketAddr,
    /// How people reach the console, if not at that address: `https://millrace.example.com`
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// The certificate and its chain, PEM: the console then speaks HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM (PKCS #8)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The key with which secrets are sealed, 64 hexadecimal digits. Default: `console.key` in the folder, which the first start makes
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A folder of control groups (cgroup v2) that is the console's to manage, for limits of jobs. Default: the one that systemd delegates
    #[arg(long, value_name = "FOLDER")]
    pub cgroup: Option<PathBuf>,
    /// A folder that jobs may use beside their own; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub allow_folder: Vec<PathBuf>,
    /// What jobs and webhooks may speak to: `host`, `host:port`, `*.example.com`, `s3://bucket`, or `*`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub allow_address: Vec<String>,
    /// The sender of mails; the server is in the variable MILLRACE_SMTP (`smtp://user:password@host:25`, `smtps://…`)
    #[arg(long, value_name = "ADDRESS", default_value = "millrace@localhost")]
    pub mail_from: String,
}

#[derive(Args, Default)]
pub struct ConsoleArgs {
    /// Where the console is; the token comes from the variable MILLRACE_TOKEN
    #[arg(long, value_name = "URL", env = "MILLRACE_CONSOLE", default_value = "http://127.0.0.1:8800")]
    pub console: String,
}

#[derive(Args)]
pub struct SubmitArgs {
    /// The topology
    pub file: PathBuf,
    /// The task's name. Default: the file's, without its end
    #[arg(long)]
    pub name: Option<String>,
    /// The team of a new task; needed by who has several
    #[arg(long)]
    pub team: Option<String>,
    /// What was changed
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
    /// Start its job, too
    #[arg(long)]
    pub start: bool,
    #[command(flatten)]
    pub set: Set,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct StartArgs {
    /// The task
    pub name: String,
    /// Which checkpoint it goes on from: `latest`, `scratch`, the number of one, or its path
    #[arg(long, value_name = "CHECKPOINT", default_value = "latest")]
    pub from: String,
    /// As for `millrace run`
    #[arg(long)]
    pub accept_duplicates: bool,
    /// As for `millrace run`
    #[arg(long)]
    pub allow_dropped_state: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct LogsArgs {
    /// The task
    pub name: String,
    /// Go on with what is written from now on
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct PsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
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

#[derive(Args)]
pub struct LintArgs {
    /// Topologies, folders in which all *.yaml and *.yml that look like topologies are checked, or `-` for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub set: Set,
    /// `full` shows the lines, `concise` has a line each, `json` and `sarif` (2.1.0) are for programs, `github` for its annotations
    #[arg(long, value_enum, default_value = "full")]
    pub format: LintFormat,
    /// Mend what can be mended without doubt, and write the files
    #[arg(long, conflicts_with = "diff")]
    pub fix: bool,
    /// Show what --fix would change, as a unified diff; problems go to standard error
    #[arg(long)]
    pub diff: bool,
    /// Also ask the servers: brokers, topics and what they keep, tables, credentials
    #[arg(long)]
    pub connect: bool,
    /// How long --connect waits for the servers of a topology
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub connect_timeout: std::time::Duration,
    /// Also tell matters of style
    #[arg(long)]
    pub style: bool,
}

#[derive(Args)]
pub struct LspArgs {
    /// Taken from clients that name the transport; standard input and output is the only one
    #[arg(long, hide = true)]
    pub stdio: bool,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct FmtArgs {
    /// Topologies, folders in which all *.yaml and *.yml that look like topologies are formatted, or `-` for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Write nothing: name the files that are not formatted (then the exit code is 1)
    #[arg(long, conflicts_with = "diff")]
    pub check: bool,
    /// Write nothing: show what would change, as a unified diff (then the exit code is 1)
    #[arg(long)]
    pub diff: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LintFormat {
    Full,
    Concise,
    Json,
    Github,
    Sarif,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum GraphFormat {
    Terminal,
    Svg,
    Mermaid,
    Dot,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    Sources,
    Operators,
    Sinks,
    Stores,
    Functions,
    Helpers,
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
