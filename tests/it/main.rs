//! What the executable promises, asked of the executable: one binary, as each one links RocksDB and librdkafka.

mod bad_input;
mod checkpoints;
mod cli;
mod console;
mod console_alarms;
mod console_hidden;
mod console_limits;
mod console_pages;
mod console_tls;
mod console_work;
mod corpus;
mod deploy;
mod docs;
mod edits;
mod fmt;
mod fuzz;
mod golden;
mod lint_files;
mod lsp;
mod parts;
mod replay;
mod reuse;
mod state;
mod supervise;
mod tap;
mod testing;
mod tidy;
mod tier;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The executable with a clean environment for topologies.
fn millrace() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_millrace"));
    for name in [
        "STATE",
        "OUT",
        "WORKERS",
        "MILLRACE_LOG",
        "MILLRACE_SUPERVISED",
        "MILLRACE_RESCALED",
        "MILLRACE_PROCESS",
        "MILLRACE_SECRET",
        "XDG_CONFIG_HOME",
    ] {
        c.env_remove(name);
    }
    c
}

/// Runs a topology to its end in `dir`, which also holds its state.
fn run(topology: &Path, dir: &Path, args: &[&str]) -> Output {
    millrace()
        .arg(if args.contains(&"--processes") { "cluster" } else { "run" })
        .arg(topology)
        .args(args)
        .env("STATE", dir.join("state"))
        .env("OUT", dir.join("out"))
        .current_dir(dir)
        .output()
        .expect("runs")
}

/// Writes a topology into `dir` and gives its path.
fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a temporary folder can be written");
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// What a run said, for messages of failed assertions.
fn said(o: &Output) -> String {
    format!("{}\nstdout:\n{}\nstderr:\n{}", o.status, text(&o.stdout), text(&o.stderr))
}
