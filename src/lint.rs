//! `millrace lint`: the planner's pass, and nothing else.

use crate::cli::{LintArgs, LintFormat, Set};
use crate::exit::Exit;
use crate::pages::print;
use millrace_plan::{Diagnostic, Options, diagnostic};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub fn options(set: &Set) -> Options {
    Options { set: set.set.clone(), ..Options::default() }
}

pub fn lint(args: &LintArgs) -> Exit {
    let mut files = Vec::new();
    for f in &args.files {
        if f.is_dir() { collect(f, &mut files) } else { files.push(f.clone()) }
    }
    files.sort();
    files.dedup();
    let mut all: Vec<Diagnostic> = Vec::new();
    for f in &files {
        all.extend(millrace_plan::load(f, &options(&args.set)).diagnostics);
    }
    let text = match args.format {
        LintFormat::Full => format!("{}{}\n", diagnostic::full(&all, std::io::stdout().is_terminal()), diagnostic::tally(&all)),
        LintFormat::Concise => diagnostic::concise(&all),
        LintFormat::Json => diagnostic::json(&all),
    };
    print(&text);
    if all.iter().any(|d| d.severity == millrace_sdk::Severity::Error) { Exit::Config } else { Exit::Ok }
}

/// Topologies under a folder: YAML files with a top-level `streams:`.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml")
            && std::fs::read_to_string(&path).is_ok_and(|t| t.lines().any(|l| l.starts_with("streams:")))
        {
            files.push(path);
        }
    }
}
