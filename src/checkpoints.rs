//! `millrace checkpoints`: what a job's checkpoints say, whether they are whole, and which may go.

use crate::cli::{CheckpointsJob, CheckpointsWhat, Set, Which};
use crate::exit::Exit;
use crate::lint;
use crate::pages::print;
use crate::report::thousands;
use millrace_durable::{FileRef, JobLog, Manifest, Piece, Record, S3Options, WriterState};
use millrace_engine::RunOptions;
use millrace_engine::summary::FaultSummary;
use millrace_plan::diagnostic;
use millrace_plan::plan::{CheckpointPlan, Plan};
use millrace_sdk::config::Duration;
use millrace_sdk::convert::write_time;
use millrace_sdk::{Clock, Fault, FaultKind, Severity};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

pub fn checkpoints(what: &CheckpointsWhat) -> Exit {
    let done = match what {
        CheckpointsWhat::List { job, json } => open(job).and_then(|log| list(&log, *json)),
        CheckpointsWhat::Inspect { slot, job, json } => open(job).and_then(|log| inspect(&log, slot_of(&log, *slot)?, *json)),
        CheckpointsWhat::Preview { from, file, accept_duplicates, allow_dropped_state, set, json } => {
            let (from, accept_duplicates, allow_dropped_state) = (from.clone(), *accept_duplicates, *allow_dropped_state);
            preview(file, set, RunOptions { from, accept_duplicates, allow_dropped_state, ..RunOptions::default() }, *json)
        }
        CheckpointsWhat::Verify { job, slot, json } => {
            open(job).and_then(|log| verify(&log, slot.map(|s| slot_of(&log, s)).transpose()?, *json))
        }
        CheckpointsWhat::Prune { keep, job, json } => open(job).and_then(|log| prune(&log, *keep, *json)),
    };
    done.unwrap_or_else(|stop| match stop {
        Stop::Told(exit) => exit,
        Stop::Fault(fault) => {
            eprintln!("error: {fault}");
            Exit::of(&fault)
        }
    })
}

enum Stop {
    /// The reader knows already.
    Told(Exit),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

/// The log of the job that the command line names.
fn open(job: &CheckpointsJob) -> Result<JobLog, Stop> {
    let (storage, name) = match (&job.file, &job.dir, &job.job) {
        (Some(file), _, _) => {
            let (plan, name) = of_topology(file, job)?;
            is_there(&plan.location)?;
            (millrace_engine::storage(&plan)?, name)
        }
        (None, Some(dir), Some(name)) => {
            is_there(dir)?;
            (millrace_durable::open(dir, &S3Options::default())?, name.clone())
        }
        _ => return Err(Fault::config("a job must be named").hint("give its topology, or `--dir LOCATION --job NAME`").into()),
    };
    if let Some(log) = JobLog::find(storage.clone(), &name)? {
        return Ok(log);
    }
    let others = storage.folders("")?;
    let hint = if others.is_empty() { "no job has any there".into() } else { format!("these have: {}", others.join(", ")) };
    Err(Fault::refused(format!("job `{name}` has no checkpoints in {}", storage.place())).hint(hint).into())
}

/// The slot that is meant.
fn slot_of(log: &JobLog, which: Which) -> Result<u64, Stop> {
    match which {
        Which::Slot(slot) => Ok(slot),
        Which::Latest => match log.latest(&log.slots()?)? {
            Some(m) => Ok(m.slot),
            None => Err(Fault::refused(format!("job `{}` has no checkpoint from which a start would go on", log.job())).into()),
        },
    }
}

/// To look at checkpoints makes no folder.
fn is_there(location: &str) -> Result<(), Fault> {
    match location.contains("://") || Path::new(location).is_dir() {
        true => Ok(()),
        false => Err(Fault::refused(format!("there is no folder `{location}`"))
            .hint("checkpoints are made by a run of a job that has `run_env.checkpoint`")),
    }
}

fn planned(file: &Path, set: &Set) -> Result<Plan, Stop> {
    let mut planned = millrace_plan::load(file, &lint::options(set));
    planned.diagnostics.retain(|d| d.severity == Severity::Error);
    planned.plan.ok_or_else(|| {
        eprint!("{}", diagnostic::full(&planned.diagnostics, std::io::stderr().is_terminal()));
        Stop::Told(Exit::Config)
    })
}

/// What a start would do; the exit code is that of its refusal.
fn preview(file: &Path, set: &Set, options: RunOptions, as_json: bool) -> Result<Exit, Stop> {
    let seen = millrace_engine::foresee(&planned(file, set)?, &options)?;
    let exit = seen.refused.as_ref().map_or(Exit::Ok, Exit::of);
    if as_json {
        print(&pretty(&json!({"slot": seen.slot, "said": seen.said, "refused": seen.refused.map(FaultSummary::from)})));
        return Ok(exit);
    }
    print(&seen.said.iter().map(|s| format!("{s}\n")).collect::<String>());
    seen.refused.iter().for_each(|fault| eprintln!("error: {fault}"));
    Ok(exit)
}

fn of_topology(file: &Path, job: &CheckpointsJob) -> Result<(CheckpointPlan, String), Stop> {
    let plan = planned(file, &job.set)?;
    match plan.checkpoint {
        Some(checkpoint) => Ok((checkpoint, plan.env.job.clone())),
        None => Err(Fault::config(format!("{} takes no checkpoints", file.display())).hint("give it `run_env.checkpoint`").into()),
    }
}

/// The manifests of a job, newest last; in a damaged slot what is wrong with it.
fn manifests(log: &JobLog) -> Result<Vec<(u64, Result<Manifest, Fault>)>, Fault> {
    let mut found = Vec::new();
    for slot in log.slots()? {
        match log.read(slot) {
            Ok(Record::Manifest(m)) => found.push((slot, Ok(*m))),
            Ok(Record::Generation(_) | Record::Verdict(_)) => {}
            Err(f) if f.kind == FaultKind::Data => found.push((slot, Err(f))),
            Err(f) => return Err(f),
        }
    }
    Ok(found)
}

/// Files of a manifest, each once, by name.
fn files(m: &Manifest) -> BTreeMap<&str, &FileRef> {
    m.files().map(|f| (f.name.as_str(), f)).collect()
}

fn size(m: &Manifest) -> u64 {
    files(m).values().map(|f| f.len).sum()
}

/// Names are stable: programs read them.
fn row(m: &Manifest, now: i64) -> Value {
    json!({
        "slot": m.slot, "kind": m.kind, "time": time(m.time), "age_seconds": (now - m.time) / 1_000_000, "bytes": size(m),
        "files": files(m).len(), "workers": m.workers, "generation": m.generation, "pending_chunks": m.chunks().count(), "took_micros": m.took,
    })
}

fn list(log: &JobLog, as_json: bool) -> Result<Exit, Stop> {
    let (found, now) = (manifests(log)?, Clock::System.now());
    if as_json {
        let rows = found.iter().map(|(slot, m)| match m {
            Ok(m) => row(m, now),
            Err(f) => json!({"slot": slot, "kind": "damaged", "fault": f.to_string()}),
        });
        return Ok(print(&pretty(&Value::Array(rows.collect()))));
    }
    let mut t = String::new();
    if !found.is_empty() {
        let _ = writeln!(
            t,
            "{:>8}  {:9}  {:20}  {:>12}  {:>10}  {:>7}  {:>10}  ",
            "slot", "kind", "time", "age", "size", "workers", "generation"
        );
    }
    for (slot, m) in &found {
        match m {
            Ok(m) => {
                let pending = m.chunks().count();
                let note = if pending > 0 { format!("{pending} chunks to apply") } else { String::new() };
                let line = format!(
                    "{slot:>8}  {:9}  {:20}  {:>12}  {:>10}  {:>7}  {:>10}  {note}",
                    kind(m),
                    seconds(m.time),
                    age(now - m.time),
                    bytes(size(m)),
                    m.workers,
                    m.generation
                );
                let _ = writeln!(t, "{}", line.trim_end());
            }
            Err(f) => drop(writeln!(t, "{slot:>8}  damaged    {}", f.detail.as_deref().unwrap_or(&f.message))),
        }
    }
    let distinct: BTreeMap<&str, u64> =
        found.iter().filter_map(|(_, m)| m.as_ref().ok()).flat_map(files).map(|(n, f)| (n, f.len)).collect();
    let _ = writeln!(
        t,
        "{} checkpoints of job `{}` in {}: {} in {} files; newest generation {}",
        found.len(),
        log.job(),
        log.place(),
        bytes(distinct.values().sum()),
        distinct.len(),
        log.newest_generation().map_or("?".into(), |g| g.to_string())
    );
    Ok(print(&t))
}

fn inspect(log: &JobLog, slot: u64, as_json: bool) -> Result<Exit, Stop> {
    let m = match log.read(slot)? {
        Record::Manifest(m) => *m,
        Record::Verdict(v) if as_json => return Ok(print(&pretty(&json!({"verdict": v})))),
        Record::Verdict(v) => {
            let passed = if v.passed == 0 { "none".into() } else { format!("up to {}", v.passed) };
            let red = if v.red.is_empty() { "nothing is red".into() } else { format!("red: {}", v.red.join(", ")) };
            let seen: String = v.seen.iter().map(|s| format!("  {s}\n")).collect();
            return Ok(print(&format!(
                "slot {slot}: what the guards decided, {}: checkpoints passed: {passed}; {red}\n{seen}",
                seconds(v.time)
            )));
        }
        Record::Generation(g) if as_json => return Ok(print(&pretty(&json!({"generation": g})))),
        Record::Generation(g) => {
            let from = if g.from == 0 { "from scratch".into() } else { format!("from checkpoint {}", g.from) };
            return Ok(print(&format!("slot {slot}: a start {from} with {} workers, {}\n", g.workers, seconds(g.time))));
        }
    };
    match as_json {
        true => Ok(print(&pretty(&serde_json::to_value(&m).unwrap_or_default()))),
        false => Ok(print(&described(&m, Clock::System.now()))),
    }
}

fn described(m: &Manifest, now: i64) -> String {
    let mut t = format!("checkpoint {} of job `{}`: {}, format {}, by Millrace {}\n", m.slot, m.job, kind(m), m.version, m.release);
    let _ = writeln!(t, "  taken     {}, {} ago, in {}", seconds(m.time), age(now - m.time), Duration { micros: m.took as i64 });
    let _ = writeln!(t, "  run       generation {}, {} workers, configuration {:016x}", m.generation, m.workers, m.config);
    let _ = writeln!(t, "  size      {} in {} files", bytes(size(m)), files(m).len());
    let _ = writeln!(t, "sources");
    for s in &m.sources {
        let _ = writeln!(t, "  {}", s.name);
        for p in &s.partitions {
            let newest = if p.greatest == i64::MIN { "no event yet".into() } else { format!("newest event {}", time(p.greatest)) };
            let _ = writeln!(t, "    {}: position {}, {newest}{}", p.name, position(&p.position), if p.ended { ", ended" } else { "" });
        }
    }
    let _ = writeln!(t, "operators");
    for o in &m.operators {
        let files: BTreeSet<(&str, u64)> = o.pieces.iter().flat_map(|p| p.files.values()).map(|f| (f.name.as_str(), f.len)).collect();
        let keys = o.pieces.iter().map(|p| p.keys).sum();
        let _ = writeln!(
            t,
            "  {} ({}): {} keys in {} pieces, {} in {} files",
            o.name,
            o.part,
            thousands(keys),
            o.pieces.len(),
            bytes(files.iter().map(|f| f.1).sum()),
            files.len()
        );
        for s in &o.states {
            let _ = writeln!(t, "    state {} ({}, version {}): {}", s.name, s.kind, s.version, s.layout);
        }
        for p in &o.pieces {
            let _ = writeln!(t, "    {}", piece(p));
        }
    }
    let _ = writeln!(t, "sinks");
    for s in &m.sinks {
        let _ = writeln!(t, "  {} ({})", s.name, s.part);
        for (name, w) in &s.writers {
            let _ = writeln!(t, "    {name}: {}", writer(w));
        }
    }
    t
}

fn piece(p: &Piece) -> String {
    format!("key groups {} to {}: {} keys, {}, {} files", p.groups.0, p.groups.1, thousands(p.keys), p.format, p.files.len())
}

fn writer(w: &WriterState) -> String {
    let applied = if w.applied == 0 { "nothing applied".into() } else { format!("applied to chunk {}", chunk(w.applied)) };
    match (w.chunks.first(), w.chunks.last()) {
        (Some(first), Some(last)) => format!(
            "{applied}; {} chunks to apply ({} to {}), {} rows, {}",
            w.chunks.len(),
            chunk(first.marker),
            chunk(last.marker),
            thousands(w.chunks.iter().map(|c| c.rows).sum()),
            bytes(w.chunks.iter().map(|c| c.file.len).sum())
        ),
        _ => format!("{applied}; nothing to apply"),
    }
}

/// A marker as slot and number.
fn chunk(marker: u64) -> String {
    format!("{}.{}", marker >> 20, marker & ((1 << 20) - 1))
}

/// A source's position is opaque: text if it is some, else hex.
fn position(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| !c.is_control()) => text.to_string(),
        _ => bytes.iter().fold(String::from("0x"), |mut t, b| {
            let _ = write!(t, "{b:02x}");
            t
        }),
    }
}

fn verify(log: &JobLog, slot: Option<u64>, as_json: bool) -> Result<Exit, Stop> {
    let found = match slot {
        None => manifests(log)?,
        Some(slot) => match log.read(slot) {
            Ok(Record::Manifest(m)) => vec![(slot, Ok(*m))],
            Ok(Record::Generation(_) | Record::Verdict(_)) => {
                return Err(Fault::config(format!("slot {slot} is the record of a start or a decision: it names no files")).into());
            }
            Err(f) if f.kind == FaultKind::Data => vec![(slot, Err(f))],
            Err(f) => return Err(f.into()),
        },
    };
    // manifests share files: each is read once
    let mut checked: BTreeMap<String, Option<Fault>> = BTreeMap::new();
    let (mut rows, mut t, mut bad) = (Vec::new(), String::new(), 0);
    for (slot, m) in &found {
        let (mut faults, mut names, mut len) = (Vec::new(), 0, 0);
        match m {
            Err(f) => faults.push(f.clone()),
            Ok(m) => {
                for (name, file) in files(m) {
                    if !checked.contains_key(name) {
                        let fault = match log.check(file) {
                            Ok(()) => None,
                            Err(f) if f.kind == FaultKind::Data => Some(f),
                            Err(f) => return Err(f.into()),
                        };
                        checked.insert(name.into(), fault);
                    }
                    faults.extend(checked[name].clone());
                    names += 1;
                    len += file.len;
                }
            }
        }
        bad += usize::from(!faults.is_empty());
        rows.push(json!({"slot": slot, "whole": faults.is_empty(), "files": names, "bytes": len,
            "faults": faults.iter().map(|f| json!({"message": f.message, "detail": f.detail})).collect::<Vec<_>>()}));
        let _ = writeln!(t, "{slot:>8}  {}  {} in {names} files", if faults.is_empty() { "whole  " } else { "DAMAGED" }, bytes(len));
        for f in &faults {
            let _ = writeln!(t, "          {}: {}", f.message, f.detail.as_deref().unwrap_or_default());
        }
    }
    let _ = writeln!(t, "{} of {} checkpoints are whole", found.len() - bad, found.len());
    print(&if as_json { pretty(&Value::Array(rows)) } else { t });
    Ok(if bad > 0 { Exit::Data } else { Exit::Ok })
}

fn prune(log: &JobLog, keep: usize, as_json: bool) -> Result<Exit, Stop> {
    let (slots, files) = log.prune(keep, log.newest_generation()?)?;
    let left = manifests(log)?.len();
    Ok(print(&match as_json {
        true => pretty(&json!({"slots": slots, "files": files, "left": left})),
        false => format!("{slots} slots and {files} files deleted; {left} checkpoints of job `{}` are left\n", log.job()),
    }))
}

fn kind(m: &Manifest) -> String {
    serde_json::to_value(m.kind).ok().and_then(|v| v.as_str().map(Into::into)).unwrap_or_default()
}

fn pretty(v: &Value) -> String {
    serde_json::to_string_pretty(v).unwrap_or_default() + "\n"
}

fn time(micros: i64) -> String {
    let mut out = Vec::new();
    write_time(micros, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// To the second.
fn seconds(micros: i64) -> String {
    time(micros.div_euclid(1_000_000) * 1_000_000)
}

/// In its two largest units.
fn age(micros: i64) -> String {
    let second = 1_000_000;
    let unit = match micros.abs() {
        a if a >= 86_400 * second => 3_600 * second,
        a if a >= 3_600 * second => 60 * second,
        _ => second,
    };
    Duration { micros: micros / unit * unit }.to_string()
}

fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {name}") }
}
