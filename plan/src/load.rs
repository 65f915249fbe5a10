//! The way in: a file or a text, options, a plan and its diagnostics.

use crate::build::{Builder, assemble, dead_letter};
use crate::cases::{self, Case};
use crate::confine::{self, Confine};
use crate::connect;
use crate::diagnostic::{Diagnostic, Found, Report};
use crate::durability;
use crate::lints;
use crate::plan::{AlertsPlan, CheckpointPlan, Plan, RestartPlan};
use crate::reuse;
use crate::set;
use crate::source::Span;
use crate::style;
use crate::topology::{self, OnError as OnErrorKey, Topology};
use crate::vars::Vars;
use crate::wiring;
use crate::yaml;
use millrace_sdk::config::Secret;
use millrace_sdk::operator::{Env, OnError};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Clock, Reached, Severity};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Least `run_env.memory`, bytes.
const LEAST_MEMORY: u64 = 64 << 20;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--set NAME=v` and `--set a.b=v`, in order.
    pub set: Vec<(String, String)>,
    /// `--workers`: goes before `run_env.parallelism`.
    pub workers: Option<usize>,
    /// What `run_env.memory` is where nobody writes it, bytes. None: 4 GiB.
    pub memory: Option<u64>,
    pub clock: Clock,
    /// Tell matters of style too.
    pub style: bool,
    /// Folders from which `include` may take files, besides the topology's own.
    pub include_from: Vec<PathBuf>,
    /// A text may be one that others include: it need not be a whole topology, and is then not planned.
    pub library: bool,
    /// Ask servers, and wait so long for them.
    pub connect: Option<Duration>,
    /// Variables in place of those of the environment. None: the environment's.
    pub variables: Option<BTreeMap<String, Secret>>,
    /// What the topology may reach. None: everything that its user may.
    pub confine: Option<Confine>,
    /// Nothing of the outside will be asked: variables that are not set and have no default are [`PLACEHOLDER`](crate::vars::PLACEHOLDER).
    pub placeholders: bool,
    /// Outputs (`part`, `part.port`) that carry all their fields, whoever reads them.
    pub whole: Vec<String>,
    /// Count the ways that rows take through expressions and templates.
    pub reached: Option<Reached>,
}

pub struct Planned {
    /// None: there are errors.
    pub plan: Option<Plan>,
    /// Sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// The wiring, also of a topology with errors, for graphs.
    pub graph: crate::graph::Picture,
    /// The tests that can be run, as written.
    pub cases: Vec<Case>,
}

impl Planned {
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// Where a topology's tests may stand beside it: `job.tests.yaml` for `job.yaml`.
pub fn tests_beside(topology: &Path) -> PathBuf {
    topology.with_extension("tests.yaml")
}

/// Reads a topology file, and the tests beside it. A file that cannot be read is a diagnostic too.
pub fn load(path: &Path, options: &Options) -> Planned {
    let name = path.display().to_string();
    let base_dir = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    };
    match std::fs::read(path) {
        Ok(bytes) => {
            let beside = tests_beside(path);
            let tests = std::fs::read_to_string(&beside).ok().map(|t| (beside.display().to_string(), t));
            load_both(&name, &bytes, tests, &base_dir, options)
        }
        Err(e) => {
            let mut report = Report::default();
            let src = report.sources.add(name.clone(), "");
            report.push(Found::error("missing-file", Span::new(src, 0..0), format!("cannot read `{name}`: {e}")));
            Planned { plan: None, diagnostics: report.finish(), graph: Default::default(), cases: vec![] }
        }
    }
}

/// Plans a text. `name` is what messages call it; relative paths start at `base_dir`.
pub fn load_text(name: &str, text: &str, base_dir: &Path, options: &Options) -> Planned {
    load_bytes(name, text.as_bytes(), base_dir, options)
}

/// The same for what may be no text: that is a diagnostic too.
pub fn load_bytes(name: &str, bytes: &[u8], base_dir: &Path, options: &Options) -> Planned {
    load_both(name, bytes, None, base_dir, options)
}

fn load_both(name: &str, bytes: &[u8], tests: Option<(String, String)>, base_dir: &Path, options: &Options) -> Planned {
    let mut report = Report::default();
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let src = report.sources.add(name, text);
    if !not_utf8(&mut report, src, bytes) {
        return Planned { plan: None, diagnostics: report.finish(), graph: Default::default(), cases: vec![] };
    }
    let (variables, keys) = set::divide(&options.set);
    let mut vars = Vars::new(variables, base_dir.to_path_buf()).instead(options.variables.clone()).confined(options.confine.clone());
    vars.placeholders = options.placeholders;
    let mut root = yaml::compose(&mut report, src);
    let library = reuse::is_library(&root);
    for (key, value) in keys {
        set::apply(&mut report, &mut root, key, value, &mut vars);
    }
    report.style = options.style;
    let written = options.style.then(|| root.clone());
    reuse::expand(&mut report, &mut root, &mut vars, Path::new(name), options);
    set::unused(&mut report, &vars);
    if options.library && library {
        report.found.retain(|f| f.id != "unused-fragment" && f.id != "unused-default");
        return Planned { plan: None, diagnostics: report.finish(), graph: Default::default(), cases: vec![] };
    }
    let mut t = topology::read(&mut report, &root);
    if let Some((name, text)) = tests {
        let src = report.sources.add(name, text);
        let node = yaml::parse(&mut report, src, &mut vars);
        t.tests.extend(cases::beside(&mut report, &node));
    }
    let t = t;
    let env = environment(&mut report, &t, name, base_dir, options);
    let graph = wiring::wire(&mut report, &t);
    let built = Builder::new(&mut report, &t, &graph, &env.env).run(&options.whole);
    let guards = crate::guards::plan(&mut report, &t, &graph, &built, env.checkpoint.as_ref());
    lints::run(&mut report, &t, &graph, &built, &env.env);
    if let Some(written) = &written {
        style::run(&mut report, written, &t, &graph);
    }
    if let Some(limits) = &options.confine {
        confine::check(&mut report, limits, &root, base_dir);
    }
    let dead = dead_letter(&mut report, &t, &env.env, &env.dead_letter_path);
    if let Some(timeout) = options.connect {
        let workers = options.workers.or(t.env.parallelism.map(|p| p as usize)).unwrap_or(1);
        let (dead_letter, durable) = (dead.as_ref(), env.checkpoint.is_some());
        let job = connect::Job { topology: &t, graph: &graph, built: &built, dead_letter, workers, durable };
        connect::run(&mut report, &job, timeout);
    }
    let picture = crate::graph::Picture::new(&report.sources, &t, &graph, &built.flows);
    let hash = xxhash_rust::xxh3::xxh3_64(topology::canonical(&root).as_bytes());
    let plan = dead.filter(|_| !report.has_errors()).and_then(|dead| {
        assemble(built, &graph, dead, |nodes, dead_letter| Plan {
            env: Arc::new(env.env),
            parallelism: options.workers.or(t.env.parallelism.map(|p| p as usize)).unwrap_or(1),
            checkpoint: env.checkpoint,
            restart: env.restart,
            memory: env.memory,
            metrics: env.metrics,
            alerts: env.alerts,
            guards: crate::guards::place(guards, &graph, &nodes),
            nodes,
            dead_letter,
            hash,
        })
    });
    if plan.is_none() && !report.has_errors() {
        report.push(Found::error("bug", Span::new(src, 0..0), "this topology could not be planned, and no part says why"));
    }
    let cases = t.tests.into_iter().filter_map(|test| test.case).collect();
    Planned { plan, diagnostics: report.finish(), graph: picture, cases }
}

/// Tells what is no UTF-8. False: it is no text that the rest could be looked for in.
fn not_utf8(report: &mut Report, src: u32, bytes: &[u8]) -> bool {
    let Err(e) = std::str::from_utf8(bytes) else { return true };
    let wide = [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)) || bytes.iter().take(64).any(|b| *b == 0);
    if wide {
        let message = if bytes.first().is_some_and(|b| *b >= 0xfe) { "this file is UTF-16, not UTF-8" } else { "this file is no text" };
        report.push(Found::error("not-utf8", Span::new(src, 0..0), message).hint("save it as UTF-8"));
        return false;
    }
    // The text has U+FFFD where bytes are none.
    let mark = usize::from(bytes.starts_with(b"\xef\xbb\xbf")) * 3;
    let at = e.valid_up_to() - mark;
    let more = report.sources.text(src).matches('\u{fffd}').count().saturating_sub(1);
    let also = if more > 0 { format!(", and {more} more characters are not") } else { String::new() };
    let message = format!("the byte 0x{:02x} is not UTF-8{also}", bytes[e.valid_up_to()]);
    report.push(Found::error("not-utf8", Span::new(src, at..at + '\u{fffd}'.len_utf8()), message).hint("save the file as UTF-8"));
    true
}

struct Environment {
    env: Env,
    dead_letter_path: String,
    checkpoint: Option<CheckpointPlan>,
    restart: Option<RestartPlan>,
    memory: Option<u64>,
    metrics: Option<SocketAddr>,
    alerts: Option<AlertsPlan>,
}

fn environment(report: &mut Report, t: &Topology, name: &str, base_dir: &Path, options: &Options) -> Environment {
    let run = &t.env;
    let dir = run.checkpoint.as_ref().and_then(|c| c.dir.as_ref()).filter(|d| !d.contains("://"));
    let state = run.state_dir.as_ref().or(dir).map_or("state", |p| p.0.as_str()).to_string();
    let job = t.name.clone().unwrap_or_else(|| job_name(name));
    let mut time_zone = run.time_zone.clone().unwrap_or_else(|| "UTC".into());
    let node = |key: &str| t.env_node.as_ref().and_then(|n| n.entry(key));
    let at = |key: &str| node(key).map_or(Span::default(), |e| e.value.span);
    if let Err(e) = millrace_sdk::convert::TimeReader::new(&millrace_sdk::convert::TimeFormat::EpochMs, &time_zone) {
        let names: Vec<String> = millrace_sdk::convert::time_zones().collect();
        let near = did_you_mean(&time_zone, names.iter().map(String::as_str));
        let found = Found::error("unknown-time-zone", at("time_zone"), e).suggest(near);
        report.push(found.hint("use a name of the IANA database, like `Asia/Shanghai`"));
        // Told once: each part that reads times would tell it again.
        time_zone = "UTC".into();
    }
    if run.max_record.is_some_and(|s| s.bytes == 0) {
        report.push(Found::error("out-of-range", at("max_record"), "records of no bytes are no records"));
    }
    if run.memory.is_some_and(|s| s.bytes < LEAST_MEMORY) {
        report.push(Found::error("out-of-range", at("memory"), "a job cannot do with less than 64MiB"));
    }
    let state_dir = base_dir.join(&state);
    let of = |key: &str| node(key).map(|e| (&e.value, e.key_span));
    let checkpoint =
        run.checkpoint.as_ref().zip(of("checkpoint")).map(|(c, (n, s))| durability::checkpoint(report, c, n, s, &state_dir, base_dir));
    let restart = run.restart.as_ref().zip(of("restart")).map(|(r, (n, s))| durability::restart(report, r, n, s));
    let metrics = run.metrics.as_ref().zip(of("metrics")).and_then(|(m, (n, s))| durability::metrics(report, m, n, s));
    let alerts = run.alerts.as_ref().zip(of("alerts")).map(|(a, (n, s))| crate::alerts::plan(report, a, n, s));
    let file = file_name(&job);
    let env = Env {
        job: job.clone(),
        time: run.time_characteristic.into(),
        time_zone,
        on_error: if run.on_error == Some(OnErrorKey::Null) { OnError::Null } else { OnError::DeadLetter },
        base_dir: base_dir.to_path_buf(),
        state_dir,
        max_record: run.max_record.map_or(16 << 20, |s| usize::try_from(s.bytes).unwrap_or(usize::MAX)),
        memory: usize::try_from(run.memory.map(|s| s.bytes).or(options.memory).unwrap_or(4 << 30)).unwrap_or(usize::MAX),
        clock: options.clock.clone(),
        reached: options.reached.clone(),
    };
    let dead_letter_path = Path::new(&state).join("dead-letter").join(format!("{file}.jsonl")).display().to_string();
    Environment { env, dead_letter_path, checkpoint, restart, memory: run.memory.map(|s| s.bytes), metrics, alerts }
}

/// A job's name as the name of a file.
pub fn file_name(job: &str) -> String {
    job.chars().map(|c| if c == '/' || c == '\\' || c.is_control() { '_' } else { c }).collect()
}

/// A job without a name is called after its file, or after its folder where the file is `topology.yaml`.
fn job_name(file: &str) -> String {
    let path = Path::new(file);
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().and_then(|p| p.file_name()).map(|s| s.to_string_lossy().into_owned());
    match folder {
        Some(f) if stem == "topology" => f,
        _ if stem.is_empty() => "job".into(),
        _ => stem,
    }
}
