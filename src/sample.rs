//! `millrace sample`: reads a few real records of a stream, from where the job would begin, and makes a test of them. Nothing is committed.

use crate::cli::SampleArgs;
use crate::exit::Exit;
use crate::lint::{self, replace};
use crate::pages::print;
use millrace_durable::JobLog;
use millrace_plan::cases::{Case, DEAD_LETTER, Datum};
use millrace_plan::plan::{NodeKind, Plan, SourceNode};
use millrace_plan::{Options, diagnostic};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{Assignment, BatchBuilder, Clock, Fault, Poll, Position, Record, Schema, Severity, SourceContext};
use millrace_testing::rows::{self, scalar, yaml};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one poll.
const BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(5);

pub fn sample(args: &SampleArgs) -> Exit {
    match make(args) {
        Ok((test, file)) if args.write => match append(&file, &args.file, &test) {
            Ok(()) => {
                eprintln!("the test is in {}", file.display());
                Exit::Ok
            }
            Err(e) => {
                eprintln!("error: {e}");
                Exit::Dependency
            }
        },
        Ok((test, _)) => print(&format!("tests:\n{test}")),
        Err(exit) => exit,
    }
}

/// The test's text, and the file that it belongs in.
fn make(args: &SampleArgs) -> Result<(String, PathBuf), Exit> {
    let told = |fault: Fault| {
        eprintln!("error: {fault}");
        Exit::of(&fault)
    };
    let options = lint::options(&args.set);
    let planned = millrace_plan::load(&args.file, &options);
    let Some(plan) = planned.plan else {
        let errors: Vec<_> = planned.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
        eprint!("{}", diagnostic::full(&errors, std::io::stderr().is_terminal()));
        return Err(Exit::Config);
    };
    let records = read(&plan, args).map_err(told)?;
    if records.is_empty() {
        eprintln!("error: the stream `{}` gave nothing within {} s", args.stream, args.for_.as_secs_f64());
        return Err(Exit::Dependency);
    }
    let beside = millrace_plan::tests_beside(&args.file);
    let file = if beside.is_file() { beside } else { args.file.clone() };
    let sinks: Vec<String> = plan.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Sink(_))).map(|n| n.name.clone()).collect();
    let sinks: Vec<String> = sinks.into_iter().filter(|n| *n != plan.nodes[plan.dead_letter.0].name).chain([DEAD_LETTER.into()]).collect();
    let known: Vec<String> = planned.cases.iter().map(|c| c.name.clone()).collect();
    let name = free_name(args.name.clone().unwrap_or_else(|| format!("a sample of {}", args.stream)), &known);
    let empty: BTreeMap<String, Vec<String>> = sinks.iter().map(|s| (s.clone(), vec![])).collect();
    let draft = text(&name, &args.stream, &records, &sinks, &empty);
    let came = play(&args.file, &draft, &name, &options).map_err(told)?;
    Ok((text(&name, &args.stream, &records, &sinks, &came), file))
}

fn free_name(name: String, known: &[String]) -> String {
    let mut n = 1;
    let mut free = name.clone();
    while known.contains(&free) {
        n += 1;
        free = format!("{name} {n}");
    }
    free
}

/// Reads records, each as an item of a test's input.
fn read(plan: &Plan, args: &SampleArgs) -> Result<Vec<String>, Fault> {
    let streams = plan.nodes.iter().filter_map(|n| match &n.kind {
        NodeKind::Source(s) => Some((n.name.as_str(), s)),
        _ => None,
    });
    let streams: Vec<(&str, &SourceNode)> = streams.collect();
    let Some((_, source)) = streams.iter().find(|(name, _)| *name == args.stream) else {
        let names = streams.iter().map(|(n, _)| *n);
        let hint = did_you_mean(&args.stream, names.clone()).map(|n| format!("did you mean `{n}`?"));
        let fault = Fault::config(format!("no stream is called `{}`", args.stream));
        return Err(fault.hint(hint.unwrap_or_else(|| format!("there are {}", names.collect::<Vec<_>>().join(", ")))));
    };
    source.factory.check()?;
    let saved = positions(plan, &args.stream)?;
    let mut open = source.factory.open(SourceContext {
        assignment: Assignment { index: 0, instances: 1, shift: 0 },
        clock: plan.env.clock.clone(),
        waker: Arc::new(|| {}),
        source: source.number,
        env: plan.env.clone(),
        restored: saved.is_some(),
    })?;
    let began = Instant::now();
    let wanted = usize::try_from(args.n).unwrap_or(usize::MAX);
    let (mut out, mut partitions, mut complete): (Vec<String>, Vec<(u32, bool)>, bool) = (vec![], vec![], false);
    while out.len() < wanted && began.elapsed() < args.for_ {
        if !complete {
            let Discovery { new, complete: all } = open.discover()?;
            for p in new {
                let known = saved.as_ref().and_then(|s| s.get(&p.name));
                if let Some(position) = known {
                    open.seek(p.id, position)?;
                }
                partitions.push((p.id, false));
            }
            complete = all;
        }
        let mut found = false;
        for (number, (id, ended)) in partitions.iter_mut().enumerate().filter(|(_, (_, ended))| !ended) {
            let mut rows = BatchBuilder::new(source.schema.clone());
            let mut rejects = vec![];
            let max_rows = wanted - out.len();
            let poll = open.poll(*id, &mut Pull { rows: &mut rows, rejects: &mut rejects, max_rows, max_bytes: BYTES })?;
            *ended = poll == Poll::Ended;
            let batch = rows.finish();
            found |= !batch.is_empty();
            out.extend(batch.rows().filter_map(|r| item(&r, batch.schema(), number)));
            if out.len() >= wanted {
                break;
            }
        }
        if complete && partitions.iter().all(|p| p.1) {
            break;
        }
        if !found {
            std::thread::sleep(PAUSE);
        }
    }
    out.truncate(wanted);
    // Nothing was acknowledged, so nothing is told to the outside.
    open.close()?;
    Ok(out)
}

/// Where the stream's partitions stood at the checkpoint that a start would go on from; None: it would begin as its config says.
fn positions(plan: &Plan, stream: &str) -> Result<Option<HashMap<String, Position>>, Fault> {
    let Some(checkpoint) = &plan.checkpoint else { return Ok(None) };
    if !checkpoint.location.contains("://") && !Path::new(&checkpoint.location).is_dir() {
        return Ok(None);
    }
    let Some(log) = JobLog::find(millrace_engine::storage(checkpoint)?, &plan.env.job)? else { return Ok(None) };
    let Some(manifest) = log.latest(&log.slots()?)? else { return Ok(None) };
    let source = manifest.sources.into_iter().find(|s| s.name == stream && !s.unlisted);
    Ok(source.map(|s| s.partitions.into_iter().map(|p| (p.name, Position(p.position))).collect()))
}

/// A record as an item of a test's input; None, and told: it cannot be written as text.
fn item(row: &Record<'_>, schema: &Schema, partition: usize) -> Option<String> {
    let Datum::Map(fields) = rows::row(row, schema) else { return None };
    let value = schema.slot("_value").map(|s| row.get(s));
    let mut parts: Vec<(String, String)> = vec![];
    match value {
        Some(v) => {
            let bytes = match v {
                millrace_sdk::Val::Bytes(b) => b,
                other => other.as_str().unwrap_or_default().as_bytes(),
            };
            match std::str::from_utf8(bytes) {
                Ok(text) => parts.push(("text".into(), scalar(text))),
                Err(_) => {
                    eprintln!("warning: a record is no UTF-8 and is left out");
                    return None;
                }
            }
        }
        None => {
            let given: Vec<(String, Datum)> = fields.into_iter().filter(|(_, d)| *d != Datum::Null).collect();
            parts.push(("row".into(), yaml(&Datum::Map(given))));
        }
    }
    let with: Vec<(String, Datum)> = hidden(row, schema);
    if !with.is_empty() {
        parts.push(("with".into(), yaml(&Datum::Map(with))));
    }
    if partition > 0 {
        parts.push(("partition".into(), partition.to_string()));
    }
    match &parts[..] {
        [(key, text)] if key == "text" => Some(text.clone()),
        _ => Some(format!("{{{}}}", parts.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", "))),
    }
}

/// What the source knows besides, as far as the topology asks for it.
fn hidden(row: &Record<'_>, schema: &Schema) -> Vec<(String, Datum)> {
    let mut out = vec![];
    for (i, f) in schema.fields().iter().enumerate().filter(|(_, f)| f.hidden && &*f.name != "_rest") {
        let slot = millrace_sdk::Slot(i as u16);
        let mut text = vec![];
        millrace_sdk::json::write_value(row, row.raw(slot), &mut text);
        match rows::from_json(&String::from_utf8_lossy(&text)) {
            Datum::Null => {}
            d => out.push((f.name.to_string(), d)),
        }
    }
    out
}

/// The test as an item of `tests:`.
fn text(name: &str, stream: &str, records: &[String], sinks: &[String], came: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = format!("  - name: {}\n    input:\n      {stream}:\n", scalar(name));
    for r in records {
        let _ = writeln!(out, "        - {r}");
    }
    out.push_str("    expect:\n");
    for sink in sinks {
        match came.get(sink).map(Vec::as_slice) {
            Some([]) | None => out.push_str(&format!("      {sink}: none\n")),
            Some(rows) => {
                let _ = writeln!(out, "      {sink}:");
                for r in rows {
                    let _ = writeln!(out, "        - {r}");
                }
            }
        }
    }
    out
}

/// Runs the draft; what each sink got.
fn play(file: &Path, draft: &str, name: &str, options: &Options) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let unreadable = |e: std::io::Error| Fault::refused(format!("cannot read `{}`: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let base = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let with = insert(&text, draft).map_err(Fault::config)?;
    let options = Options { clock: Clock::fixed(0), ..options.clone() };
    let planned = millrace_plan::load_text(&file.display().to_string(), &with, base, &options);
    let case: Option<Case> = planned.cases.into_iter().find(|c| c.name == name);
    let (Some(plan), Some(case)) = (planned.plan, case) else {
        let said = diagnostic::concise(&planned.diagnostics);
        return Err(Fault::bug("the test that was made cannot be read").detail(said));
    };
    let outcome = millrace_testing::run(plan, &case);
    if let Some(fault) = outcome.fault {
        return Err(fault);
    }
    let dead = |d: &Datum| match d {
        Datum::Map(fields) => {
            let kept = fields.iter().filter(|(n, _)| ["part", "reason", "body"].contains(&n.as_str()));
            yaml(&Datum::Map(kept.cloned().collect()))
        }
        other => yaml(other),
    };
    let shown = |e: &millrace_plan::cases::Expect, rows: &[Datum]| {
        let one = |d: &Datum| if e.output == DEAD_LETTER { dead(d) } else { yaml(d) };
        (e.output.clone(), rows.iter().map(one).collect())
    };
    Ok(outcome.seen.iter().map(|(e, rows)| shown(e, rows)).collect())
}

/// Puts the test behind the others of the file, or at its end.
fn append(file: &Path, topology: &Path, test: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read `{}`: {e}", file.display()))?;
    let new = insert(&text, test)?;
    replace(file, &new).map_err(|e| format!("cannot write `{}`: {e}", topology.display()))
}

/// A text with one more test.
fn insert(text: &str, test: &str) -> Result<String, String> {
    let mut out = text.to_string();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    let mut at = 0;
    let mut lines = out.split_inclusive('\n').map(|l| {
        at += l.len();
        (at - l.len(), l)
    });
    let Some((start, head)) = lines.by_ref().find(|(_, l)| l.starts_with("tests:")) else {
        return Ok(format!("{out}tests:\n{test}"));
    };
    if !head["tests:".len()..].split('#').next().unwrap_or_default().trim().is_empty() {
        return Err("`tests:` is written in brackets here: put the test there by hand".into());
    }
    // The list ends where another key begins; blank lines and comments before that belong to it.
    let (mut end, mut indent) = (start + head.len(), None);
    for (from, line) in lines {
        let content = line.trim_start();
        if !line.starts_with([' ', '-', '#', '\n', '\r']) {
            break;
        }
        if content.starts_with("- ") {
            indent.get_or_insert(line.len() - content.len());
        }
        if !content.is_empty() && !content.starts_with('#') {
            end = from + line.len();
        }
    }
    let indent = indent.unwrap_or(2);
    let moved: String = test.lines().map(|l| format!("{:indent$}{}\n", "", l.strip_prefix("  ").unwrap_or(l))).collect();
    out.insert_str(end, &moved);
    Ok(out)
}
