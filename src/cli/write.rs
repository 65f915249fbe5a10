//! What the commands take that look at topologies while they are written.

use super::{Set, duration};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
