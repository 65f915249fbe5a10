//! `millrace test`: runs the tests of topologies and says what does not hold.

use crate::cli::TestArgs;
use crate::exit::Exit;
use crate::lint::{self, collect, replace};
use crate::pages::print;
use crate::report;
use millrace_engine::summary::FaultSummary;
use millrace_plan::cases::Case;
use millrace_plan::{Options, diagnostic};
use millrace_sdk::{Clock, Reached, Severity};
use millrace_testing::coverage::Coverage;
use millrace_testing::fix::{self, Edit};
use millrace_testing::junit::{self, Entry};
use millrace_testing::show::{self, Checked};
use millrace_testing::{Outcome, run};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A topology and the tests of it that are to be run.
struct Suite {
    file: PathBuf,
    cases: Vec<Case>,
    /// Ways through its expressions and templates, where these are asked for.
    reached: Option<Reached>,
}

/// A test that was run.
struct Ran {
    outcome: Outcome,
    checks: Vec<Checked>,
    took: Duration,
}

impl Ran {
    fn good(&self) -> bool {
        self.outcome.fault.is_none() && self.checks.iter().all(Checked::good)
    }
}

pub fn test(args: &TestArgs) -> Exit {
    let options = Options { placeholders: true, ..lint::options(&args.set) };
    let suites = match suites(args, &options) {
        Ok(suites) => suites,
        Err(exit) => return exit,
    };
    if suites.iter().all(|s| s.cases.is_empty()) {
        let which = args.filter.as_ref().map_or(String::new(), |f| format!(" whose name has `{f}` in it"));
        eprintln!("error: there is no test{which}");
        eprintln!("  Hint: tests stand under `tests:` in a topology, or in NAME.tests.yaml beside it");
        return Exit::Usage;
    }
    let results = run_all(&suites, &options);
    if args.fix && results.iter().flatten().any(|r| !r.good()) {
        return match mend(&suites, &results) {
            Ok(written) => {
                eprintln!("{written} expectation{} written", if written == 1 { "" } else { "s" });
                let again = match self::suites(args, &options) {
                    Ok(suites) => suites,
                    Err(exit) => return exit,
                };
                let results = run_all(&again, &options);
                tell(args, &again, &results, &options)
            }
            Err(e) => {
                eprintln!("error: {e}");
                Exit::Dependency
            }
        };
    }
    tell(args, &suites, &results, &options)
}

/// All topologies that are named, with their tests. Those of folders need not have any.
fn suites(args: &TestArgs, options: &Options) -> Result<Vec<Suite>, Exit> {
    let mut files = Vec::new();
    for f in &args.files {
        if f.is_dir() { collect(f, &["streams:"], &mut files) } else { files.push(topology_of(f)) }
    }
    files.sort();
    files.dedup();
    let mut suites = vec![];
    let mut errors = vec![];
    for file in files {
        let planned = millrace_plan::load(&file, options);
        errors.extend(planned.diagnostics.into_iter().filter(|d| d.severity == Severity::Error));
        let wanted = |c: &Case| args.filter.as_ref().is_none_or(|f| c.name.contains(f.as_str()));
        suites.push(Suite {
            file,
            cases: planned.cases.into_iter().filter(wanted).collect(),
            reached: args.coverage.then(Reached::default),
        });
    }
    if errors.is_empty() {
        return Ok(suites);
    }
    eprint!("{}", diagnostic::full(&errors, std::io::stderr().is_terminal()));
    Err(Exit::Config)
}

/// A file of tests stands for the topology that it lies beside.
fn topology_of(file: &Path) -> PathBuf {
    let beside = file.to_str().and_then(|name| name.strip_suffix(".tests.yaml"));
    let mut topologies = beside.into_iter().flat_map(|b| [format!("{b}.yaml"), format!("{b}.yml")]).map(PathBuf::from);
    topologies.find(|t| t.is_file()).unwrap_or_else(|| file.to_path_buf())
}

/// Runs a test of a topology.
fn run_one(suite: &Suite, case: &Case, options: &Options) -> Ran {
    let file = &suite.file;
    let began = Instant::now();
    let clock = Clock::fixed(case.start.unwrap_or(0));
    let reached = suite.reached.clone();
    let options = Options { clock, reached, whole: case.outputs().map(String::from).collect(), ..options.clone() };
    let planned = millrace_plan::load(file, &options);
    let outcome = match planned.plan {
        Some(plan) => run(plan, case),
        None => {
            let fault = millrace_sdk::Fault::config("the topology has changed, and has errors now");
            Outcome { seen: vec![], fault: Some(fault), nodes: vec![], dead: vec![] }
        }
    };
    let checks = show::check(&outcome, folder(file));
    Ran { outcome, checks, took: began.elapsed() }
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Runs all tests, a few at a time; by suite, in their order.
fn run_all(suites: &[Suite], options: &Options) -> Vec<Vec<Ran>> {
    let all: Vec<(usize, usize)> = suites.iter().enumerate().flat_map(|(s, suite)| (0..suite.cases.len()).map(move |c| (s, c))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(all.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        while let Some(&(s, c)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(((s, c), run_one(&suites[s], &suites[s].cases[c], options)));
        }
        done
    };
    let mut ran: Vec<((usize, usize), Ran)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    ran.sort_by_key(|(at, _)| *at);
    let mut by: Vec<Vec<Ran>> = suites.iter().map(|_| vec![]).collect();
    ran.into_iter().for_each(|((s, _), r)| by[s].push(r));
    by
}

/// What does not hold of a test.
fn failure(case: &Case, ran: &Ran, color: bool) -> String {
    let mut out = format!("  {}:{}\n", case.place.file, case.place.line);
    if let Some(fault) = &ran.outcome.fault {
        let said = report::fault(&FaultSummary::from(fault.clone()));
        let _ = writeln!(out, "  the test could not be run to its end: {said}");
    }
    ran.checks.iter().filter(|c| !c.good()).for_each(|c| out.push_str(&show::failure(c, color)));
    if let Some(dead) = show::dead(&ran.outcome) {
        let _ = writeln!(out, "  {dead}");
    }
    out
}

fn tell(args: &TestArgs, suites: &[Suite], results: &[Vec<Ran>], options: &Options) -> Exit {
    let color = std::io::stdout().is_terminal();
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() };
    let mut out = String::new();
    let mut entries = vec![];
    for (suite, results) in suites.iter().zip(results) {
        if suite.cases.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{}", suite.file.display());
        for (case, ran) in suite.cases.iter().zip(results) {
            let failed = (!ran.good()).then(|| failure(case, ran, false));
            match &failed {
                None => {
                    let dead = show::dead(&ran.outcome).filter(|_| !case.outputs().any(|o| o == millrace_plan::cases::DEAD_LETTER));
                    let _ = writeln!(out, "{} {}{}", paint("32", "ok  "), case.name, dead.map_or(String::new(), |d| format!(" ({d})")));
                }
                Some(_) => {
                    let _ = write!(out, "{} {}\n{}", paint("1;31", "FAIL"), paint("1", &case.name), failure(case, ran, color));
                }
            }
            entries.push(Entry { topology: suite.file.display().to_string(), name: case.name.clone(), took: ran.took, failure: failed });
        }
        if args.coverage {
            out.push_str(&coverage(suite, results, options));
        }
    }
    let bad = entries.iter().filter(|e| e.failure.is_some()).count();
    let _ = match bad {
        0 => writeln!(
            out,
            "{} test{} hold{}",
            entries.len(),
            if entries.len() == 1 { "" } else { "s" },
            if entries.len() == 1 { "s" } else { "" }
        ),
        _ => writeln!(out, "{bad} of {} tests fail", entries.len()),
    };
    print(&out);
    if let Some(file) = &args.junit
        && let Err(e) = std::fs::write(file, junit::xml(&entries))
    {
        eprintln!("error: cannot write `{}`: {e}", file.display());
        return Exit::Dependency;
    }
    if bad > 0 { Exit::Failed } else { Exit::Ok }
}

/// What the tests of a topology have not reached.
fn coverage(suite: &Suite, results: &[Ran], options: &Options) -> String {
    let Some(plan) = millrace_plan::load(&suite.file, options).plan else { return String::new() };
    let mut coverage = Coverage::new(&plan);
    results.iter().for_each(|r| coverage.add(&r.outcome));
    suite.reached.iter().for_each(|r| coverage.add_ways(r));
    let missed = coverage.missed();
    let mut out = format!("coverage: {} of {} parts, ports and branches are reached\n", coverage.len() - missed.len(), coverage.len());
    for what in missed {
        let _ = writeln!(out, "  not reached: {what}");
    }
    out
}

/// Writes what came out where it was not expected; the number of places.
fn mend(suites: &[Suite], results: &[Vec<Ran>]) -> Result<usize, String> {
    let mut edits: BTreeMap<String, Vec<Edit>> = BTreeMap::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut written = 0;
    for (suite, results) in suites.iter().zip(results) {
        // What comes of a test that was not run to its end is not what it expects.
        for c in results.iter().filter(|r| r.outcome.fault.is_none()).flat_map(|r| &r.checks).filter(|c| !c.good()) {
            if let Some(file) = &c.want.file {
                let path = folder(&suite.file).join(file);
                std::fs::write(&path, fix::file(c)).map_err(|e| format!("cannot write `{}`: {e}", path.display()))?;
                written += 1;
                continue;
            }
            let name = &c.want.place.file;
            if !texts.contains_key(name) {
                let text = std::fs::read_to_string(name).map_err(|e| format!("cannot read `{name}`: {e}"))?;
                texts.insert(name.clone(), text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text));
            }
            match fix::edit(c, &texts[name]) {
                Ok(edit) => edits.entry(name.clone()).or_default().push(edit),
                Err(why) => eprintln!("warning: {why}"),
            }
        }
    }
    for (name, edits) in edits {
        written += edits.len();
        replace(Path::new(&name), &fix::apply(&texts[&name], &edits)).map_err(|e| format!("cannot write `{name}`: {e}"))?;
    }
    Ok(written)
}
