//! What the commands take that try a topology out: `test`, `sample`, `new`, `diff`, `tap`.

use super::{JobArgs, Set, duration};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct TestArgs {
    /// Topologies, or folders in which all *.yaml and *.yml that look like topologies are tested
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub set: Set,
    /// Only tests whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Write what came out where the tests say what they expect, comments untouched, and test again
    #[arg(long)]
    pub fix: bool,
    /// Name the parts, ports and branches that no test has reached
    #[arg(long)]
    pub coverage: bool,
    /// Also write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

#[derive(Args)]
pub struct SampleArgs {
    /// The topology
    pub file: PathBuf,
    /// The stream whose source is read
    #[arg(long, value_name = "NAME")]
    pub stream: String,
    /// Records
    #[arg(short, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub n: u64,
    /// How long to wait for that many
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub for_: std::time::Duration,
    /// The test's name. Default: `a sample of NAME`
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Append the test to the topology, or to the file of tests beside it, rather than print it
    #[arg(long)]
    pub write: bool,
    #[command(flatten)]
    pub set: Set,
}

#[derive(Args)]
pub struct NewArgs {
    /// The folder to make, and the job's name. Default: the template's
    pub name: Option<String>,
    /// The template; --list names them
    #[arg(long, value_name = "TEMPLATE", default_value = "wash")]
    pub from: String,
    /// Name the templates
    #[arg(long, conflicts_with = "name")]
    pub list: bool,
}

#[derive(Args)]
pub struct DiffArgs {
    /// The topology as it was
    pub old: PathBuf,
    /// The topology as it is now
    pub new: PathBuf,
    #[command(flatten)]
    pub set: Set,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct TapArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// The output: a stream, a transform, one of its ports (`joined.unmatched`), or a sink, whose input is shown
    #[arg(value_name = "PART[.PORT]")]
    pub output: String,
    /// Only rows for which this is true: an expression over the row
    #[arg(long = "where", value_name = "EXPR")]
    pub condition: Option<String>,
    /// Only each N-th of them
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// End after so many. Default: when the job ends, or you
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub n: Option<u64>,
    /// As JSON, a row a line (so it is where standard output is no terminal)
    #[arg(long, conflicts_with = "table")]
    pub json: bool,
    /// In columns
    #[arg(long)]
    pub table: bool,
}
