//! `millrace replay`: dead letters go through their job once more. What will happen is said before; records that were handed over before
//! are left out.

use crate::cli::ReplayArgs;
use crate::control;
use crate::exit::Exit;
use crate::lint;
use crate::pages::print;
use millrace_engine::replay::{self, ALONE, Letter};
use millrace_engine::{Foreseen, RunOptions};
use millrace_plan::graph::{Picture, Shape};
use millrace_plan::plan::{NodeKind, Plan};
use millrace_plan::{Planned, diagnostic};
use millrace_sdk::{Clock, Exec, Fault, Severity};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

/// Letters of one call.
const MOST: usize = 1_000_000;

/// Who takes the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The job, which runs.
    Running,
    /// The job, when it is started again.
    Next,
    /// A run of its own.
    Alone,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Running => "running",
            Way::Next => "next-start",
            Way::Alone => "alone",
        }
    }
}

/// What is to be replayed, by stream, and what is said of it.
struct Chosen {
    letters: BTreeMap<String, Vec<String>>,
    rows: usize,
    said: Vec<String>,
}

pub fn replay(args: &ReplayArgs) -> Exit {
    let Planned { plan, diagnostics, graph, .. } = millrace_plan::load(&args.job, &lint::options(&args.set));
    let Some(plan) = plan else {
        let errors: Vec<_> = diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
        eprint!("{}", diagnostic::full(&errors, std::io::stderr().is_terminal()));
        return Exit::Config;
    };
    match work(args, &plan, &graph) {
        Ok(exit) => exit,
        Err(fault) => {
            eprintln!("error: {fault}");
            Exit::of(&fault)
        }
    }
}

fn work(args: &ReplayArgs, plan: &Plan, graph: &Picture) -> Result<Exit, Fault> {
    let folder = replay::folder(plan);
    let mut chosen = choose(args, plan, &folder)?;
    let way = way(plan, &chosen)?;
    if chosen.rows > 0 {
        chosen.said.extend(words(plan, graph, way)?);
    }
    let files = match chosen.rows > 0 && !args.dry_run {
        true => write(&folder, &chosen, way)?,
        false => vec![],
    };
    if args.json {
        let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let all = json!({"way": way.name(), "rows": chosen.rows, "said": chosen.said, "files": files});
        return Ok(print(&format!("{all}\n")));
    }
    print(&chosen.said.iter().map(|s| format!("{s}\n")).collect::<String>());
    if way != Way::Alone || files.is_empty() || args.prepare {
        return Ok(Exit::Ok);
    }
    let mut command = std::process::Command::new(std::env::current_exe().map_err(|e| Fault::refused(e.to_string()))?);
    command.arg("run").arg(&args.job);
    command.args(args.set.set.iter().flat_map(|(k, v)| ["--set".to_string(), format!("{k}={v}")]));
    command.args(args.set.include_from.iter().flat_map(|f| [std::ffi::OsStr::new("--include-from"), f.as_os_str()]));
    command.args(files.iter().flat_map(|f| [std::ffi::OsStr::new("--replay"), f.as_os_str()]));
    let status = command.status().map_err(|e| Fault::refused(format!("the run cannot be started: {e}")))?;
    if !status.success() {
        let code = status.code().and_then(|c| c.try_into().ok()).unwrap_or(Exit::Bug as u8);
        eprintln!("error: the run of the dead letters has failed: what it had written is written; --again gives all of them once more");
        std::process::exit(i32::from(code));
    }
    Ok(Exit::Ok)
}

/// The letters that a call means, without those that cannot be replayed and those that were before.
fn choose(args: &ReplayArgs, plan: &Plan, folder: &Path) -> Result<Chosen, Fault> {
    let name = format!("{}.jsonl", millrace_plan::file_name(&plan.env.job));
    let file = args.letters.clone().unwrap_or_else(|| plan.env.state_dir.join("dead-letter").join(name));
    let unreadable = |e: std::io::Error| Fault::refused(format!("the dead letters cannot be read: {}: {e}", file.display()));
    let reader = BufReader::new(fs::File::open(&file).map_err(unreadable)?);
    let mut before = if args.again { Default::default() } else { replay::handed_over(folder) };
    let mut letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let (mut all, mut rows, mut known) = (0, 0, 0);
    for (i, line) in reader.lines().enumerate() {
        let line = line.map_err(unreadable)?;
        let letter = Letter::parse(&line).map_err(|e| {
            Fault::data(format!("line {} of {} is no dead letter: {e}", i + 1, file.display()))
                .hint("give a file that a job has written as its dead letter")
        })?;
        let wanted = |filter: &Option<String>, value: &str| filter.as_ref().is_none_or(|f| f == value);
        let part = letter.part.split('/').next().unwrap_or_default();
        if !wanted(&args.reason, &letter.reason)
            || !wanted(&args.stream, &letter.stream)
            || !(wanted(&args.part, &letter.part) || wanted(&args.part, part))
        {
            continue;
        }
        all += 1;
        if let Err(why) = letter.record().map(drop).and_then(|()| replay::takes(plan, &letter.stream)) {
            *refused.entry(why.into()).or_default() += 1;
        } else if !before.insert(letter.identity()) {
            known += 1;
        } else if rows == MOST {
            return Err(Fault::config(format!("these are more than {MOST} dead letters")).hint("choose by --reason, --part or --stream"));
        } else {
            letters.entry(letter.stream.clone()).or_default().push(line);
            rows += 1;
        }
    }
    let streams: Vec<String> = letters.iter().map(|(s, l)| format!("`{s}` {}", l.len())).collect();
    let mut said = vec![match rows {
        0 => format!("none of {all} dead letters can be replayed"),
        _ => format!("{rows} of {all} dead letters go through job `{}` again, by stream: {}", plan.env.job, streams.join(", ")),
    }];
    if known > 0 {
        said.push(format!(
            "{known} were replayed before, or are of a record that is among them already: they are left out (--again takes them once more)"
        ));
    }
    said.extend(refused.iter().map(|(why, n)| format!("{n} cannot be replayed: {why}")));
    Ok(Chosen { letters, rows, said })
}

fn way(plan: &Plan, chosen: &Chosen) -> Result<Way, Fault> {
    if control::answers(&control::path(&plan.env)) {
        let ends =
            |n: &&millrace_plan::plan::Node| chosen.letters.contains_key(&n.name) && matches!(&n.kind, NodeKind::Source(s) if s.bounded);
        return match plan.nodes.iter().find(ends) {
            Some(n) => Err(Fault::refused(format!("the job runs, and the input of `{}` has an end: it looks for nothing more", n.name))
                .hint("replay when it has ended, or stop it first")),
            None => Ok(Way::Running),
        };
    }
    if plan.checkpoint.is_none() {
        return Ok(Way::Alone);
    }
    // Where the job has not begun, or has ended for good, there is no state to go on with.
    let Foreseen { slot, finished, .. } = millrace_engine::foresee(plan, &RunOptions::default())?;
    Ok(if slot.is_some() && !finished { Way::Next } else { Way::Alone })
}

/// What will happen.
fn words(plan: &Plan, graph: &Picture, way: Way) -> Result<Vec<String>, Fault> {
    let mut said = vec![];
    match way {
        Way::Running => said.push("the running job reads them now, as one more partition of their stream, with its state".to_string()),
        Way::Next => said.push("the job does not run: it reads them when it is started again from a checkpoint, as one more partition of their stream, with its state".into()),
        Way::Alone => {
            let truncates = |p: &&millrace_plan::graph::Part| {
                p.shape == Shape::Sink && matches!(p.config["config"]["on_exists"].as_str(), Some("truncate" | "fail"))
            };
            if let Some(sink) = graph.parts.iter().find(truncates) {
                return Err(Fault::config(format!("the sink `{}` begins its file anew with every run: a run of the letters alone would take what is there away", sink.name))
                    .hint("set `on_exists: append` for it, or start the job from scratch"));
            }
            said.push("a run of its own takes them now, with the job's steps and sinks; other input is not read".into());
            let keeps = |n: &&millrace_plan::plan::Node| matches!(&n.kind, NodeKind::Operator(o) if matches!(o.exec, Exec::Keyed(_)));
            let keep: Vec<String> = plan.nodes.iter().filter(keeps).map(|n| format!("`{}` ({})", n.name, n.part)).collect();
            if !keep.is_empty() {
                said.push(format!("these know nothing but the letters, and give away at the end what they hold: {}", keep.join(", ")));
            }
        }
    }
    if way != Way::Alone {
        let timed = plan.nodes.iter().any(|n| matches!(&n.kind, NodeKind::Source(s) if s.watermark.is_some()));
        if timed {
            said.push("what is older than the stream's watermark by then is late, like any row that comes so late".into());
        }
        said.push(match &plan.checkpoint {
            Some(c) if c.exactly_once => {
                "how far they were read is part of the checkpoints: each has its effect once, also after a crash".into()
            }
            Some(_) => {
                "how far they were read is part of the checkpoints; after a crash some may be written again, as the job is `at_least_once`"
                    .into()
            }
            None => "the job takes no checkpoints: after a crash some may be read again".into(),
        });
    } else {
        said.push("should that run fail half-way, what it had written is written".into());
    }
    said.push("what is rejected again is a new dead letter".into());
    Ok(said)
}

/// A file a stream, each there as a whole or not at all.
fn write(folder: &Path, chosen: &Chosen, way: Way) -> Result<Vec<PathBuf>, Fault> {
    let told = |e: std::io::Error| Fault::refused(format!("the letters cannot be handed over: {}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(told)?;
    let now = Clock::System.now();
    let mut files = vec![];
    for (stream, letters) in &chosen.letters {
        let name = format!("{now}-{}", millrace_plan::file_name(stream));
        let path = folder.join(format!("{name}.{}", if way == Way::Alone { ALONE } else { "jsonl" }));
        let beside = folder.join(format!("{name}.tmp"));
        let text: String = letters.iter().map(|l| format!("{l}\n")).collect();
        fs::write(&beside, text).and_then(|()| fs::File::open(&beside)?.sync_all()).map_err(told)?;
        fs::rename(&beside, &path).and_then(|()| fs::File::open(folder)?.sync_all()).map_err(told)?;
        files.push(path);
    }
    Ok(files)
}
