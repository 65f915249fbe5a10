//! `millrace run`: plan, check, run, report.

use crate::alerts::Alerts;
use crate::cli::{LogFormat, MemberArgs, RunArgs};
use crate::exit::Exit;
use crate::tap::Outputs;
use crate::task::Journal;
use crate::watch::{self, Watch};
use crate::{cluster, control, limits, lint, process, record, report, supervise};
use millrace_engine::replay;
use millrace_engine::summary::{FaultClass, FaultSummary};
use millrace_engine::{Control, Event, Progress, Reporter, Request, RunOptions, StartFrom, Summary};
use millrace_plan::diagnostic;
use millrace_plan::plan::{Plan, RestartPlan};
use millrace_sdk::{Fault, Severity};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

pub fn run(args: &RunArgs, member: &MemberArgs) -> ExitCode {
    let journal = match journal(args) {
        Ok(journal) => journal,
        Err(exit) => return exit.into(),
    };
    let code = planned(args, member, journal.as_ref());
    journal.iter().for_each(|j| j.ended(code));
    code.into()
}

/// The console's folder of the run, for its supervisor.
pub fn journal(args: &RunArgs) -> Result<Option<Arc<Journal>>, Exit> {
    let (Some(folder), Some(run), None) = (&args.task, args.task_run, args.supervised) else { return Ok(None) };
    let told = |e: String| {
        eprintln!("error: {e}");
        Exit::Dependency
    };
    let mut journal = Journal::open(folder, run).map_err(told)?;
    match limits::set(args) {
        Ok(memory) => journal.memory = memory,
        Err(e) => {
            journal.fault(&e, None, true);
            journal.ended(Exit::Dependency as u8);
            return Err(told(e));
        }
    }
    Ok(Some(Arc::new(journal)))
}

/// The exit code.
fn planned(args: &RunArgs, member: &MemberArgs, journal: Option<&Arc<Journal>>) -> u8 {
    if let Err(e) = start_log(args) {
        eprintln!("error: --log: {e}");
        return Exit::Usage as u8;
    }
    if let Some(Err(e)) = args.supervised.map(|s| s.bind()) {
        eprintln!("error: {e}");
        return Exit::Bug as u8;
    }
    let (workers, memory) = (workers(args), process::memory(args.memory_limit.map(|m| m.bytes)));
    let options = millrace_plan::Options { workers, memory, ..lint::options(&args.set) };
    let mut planned = millrace_plan::load(&args.file, &options);
    planned.diagnostics.retain(|d| d.severity != Severity::Note || args.dry_run);
    let restart = planned.plan.as_ref().filter(|_| !args.dry_run && args.supervised.is_none()).and_then(|p| p.restart.as_ref());
    // Letters of a run that fails half-way would be given twice.
    let restart = restart.filter(|_| args.replay.is_empty());
    let strategy = supervise::strategy(&args.file, restart);
    // A console's run always has a supervisor: it tells how the run ended.
    let strategy = if journal.is_some() { strategy.map(|s| s.or(Some(RestartPlan::None))) } else { strategy };
    // The child says what there is to say.
    let silent = args.quiet || matches!(strategy, Ok(Some(_)));
    if !planned.diagnostics.is_empty() && (!silent || planned.plan.is_none()) {
        eprint!("{}", diagnostic::full(&planned.diagnostics, std::io::stderr().is_terminal()));
    }
    let Some(plan) = planned.plan else { return Exit::Config as u8 };
    match strategy {
        Err(exit) => exit as u8,
        Ok(Some(strategy)) => {
            let alerts = Alerts::start(&plan.env.job, plan.alerts.as_ref());
            drop(plan);
            let same = || Ok(vec![supervise::Call { args: std::env::args_os().skip(1).collect(), env: None }]);
            supervise::supervise(strategy, &same, alerts.as_deref(), journal)
        }
        Ok(None) => once(args, member, plan) as u8,
    }
}

/// What is told of the end of a job that has failed.
pub fn failure(fault: &FaultSummary) -> Event {
    let kind = if fault.kind == FaultClass::Guard { "halted_by_guard" } else { "job_failed" };
    let detail = fault.detail.as_ref().map_or(String::new(), |d| format!(" ({d})"));
    Event { kind, message: format!("{}{detail}", fault.message) }
}

/// How a run knows that it goes on with other workers than its command line says: how many, and how long the job has been running,
/// in milliseconds.
pub const RESCALED: &str = "MILLRACE_RESCALED";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescaled {
    pub workers: u16,
    pub elapsed: Duration,
}

impl Rescaled {
    /// # Errors
    /// A sentence; only a run writes this text.
    pub fn parse(text: &str) -> Result<Rescaled, String> {
        let parts = text.split_once(',').and_then(|(n, ms)| Some((n.parse().ok()?, ms.parse().ok()?)));
        let (workers, ms) = parts.ok_or("expected two numbers")?;
        Ok(Rescaled { workers, elapsed: Duration::from_millis(ms) })
    }

    pub fn text(self) -> String {
        format!("{},{}", self.workers, self.elapsed.as_millis())
    }

    /// Becomes the run that goes on: the same process, as if started anew, so that who waits for it need not know. Comes back only when
    /// that fails.
    fn go_on(self, supervised: Option<&supervise::Supervised>) -> Exit {
        if let Some(s) = supervised {
            s.report_rescaled(self);
        }
        tracing::warn!("the job goes on with {} workers", self.workers);
        let mut args = std::env::args_os();
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0(args.next().unwrap_or("millrace".into())).args(args).env(RESCALED, self.text());
        eprintln!("error: the job cannot go on with {} workers: {}", self.workers, command.exec());
        Exit::Dependency
    }
}

/// Workers, as a rescaled run or the command line says.
fn workers(args: &RunArgs) -> Option<usize> {
    args.rescaled.map(|r| r.workers).or(args.workers).map(usize::from)
}

/// Runs the job in this process.
fn once(args: &RunArgs, member: &MemberArgs, mut plan: Plan) -> Exit {
    match args.replay.is_empty() {
        true => replay::attach(&mut plan),
        false => replay::alone(&mut plan, &args.replay),
    }
    let member = match cluster::member(member) {
        Ok(member) => member,
        Err((exit, why)) => {
            eprintln!("error: {why}");
            return exit;
        }
    };
    if let Some(folder) = args.summary.as_deref().and_then(missing_folder) {
        eprintln!("error: the summary cannot be written: folder `{}` does not exist", folder.display());
        return Exit::Dependency;
    }
    let control = Control::new();
    let stops = plan.checkpoint.is_some() && !args.drain;
    if let Err(e) = on_signals(&control, stops, args.supervised.is_some()) {
        eprintln!("error: signals cannot be handled: {e}");
        return Exit::Bug;
    }
    let elapsed = args.rescaled.map(|r| r.elapsed).or(args.supervised.map(|s| s.elapsed)).unwrap_or_default();
    let options = RunOptions {
        workers: workers(args),
        duration: args.for_.map(|d| d.saturating_sub(elapsed)),
        drains: args.drain,
        limit: args.limit,
        roundtrip_state: args.roundtrip_state,
        evict_state: args.evict_state,
        tiers: Some(Arc::new(millrace_state::Rocks::new((plan.env.memory / 4).min(2 << 30)))),
        from: if args.rescaled.is_some() || args.supervised.is_some_and(|s| s.begun) { StartFrom::Latest } else { args.from.clone() },
        allow_dropped_state: args.allow_dropped_state,
        accept_duplicates: args.accept_duplicates,
        member,
        accept_guards: args.accept_guard.clone(),
        by_minute: args.metrics.or(plan.metrics).is_some(),
        ..RunOptions::default()
    };
    match millrace_engine::unused(&plan, &options) {
        Ok(said) => said.into_iter().for_each(|s| eprintln!("warning: {s}")),
        Err(fault) => {
            eprintln!("error: {fault}");
            return Exit::of(&fault);
        }
    }
    if args.dry_run {
        return match dry_run(&plan, &options) {
            Ok(()) => {
                eprintln!("ok: {} parts; servers, topics and files are there; nothing was read", plan.nodes.len());
                Exit::Ok
            }
            Err(fault) => {
                eprintln!("error: {fault}");
                Exit::of(&fault)
            }
        };
    }
    finish(args, plan, options, control, elapsed)
}

/// Asks for all that the job needs, and says what a start would do.
fn dry_run(plan: &Plan, options: &RunOptions) -> Result<(), Fault> {
    millrace_engine::check(plan)?;
    if plan.checkpoint.is_none() {
        return Ok(());
    }
    let seen = millrace_engine::foresee(plan, options)?;
    seen.said.iter().for_each(|s| eprintln!("{s}"));
    seen.refused.map_or(Ok(()), Err)
}

/// The folder of a file, if it is not there.
fn missing_folder(file: &Path) -> Option<&Path> {
    file.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir())
}

fn finish(args: &RunArgs, plan: Plan, options: RunOptions, control: Control, before: Duration) -> Exit {
    let watch = Arc::new(Watch {
        job: plan.env.job.clone(),
        restarts: args.supervised.map_or(0, |s| s.restarts),
        before,
        clock: plan.env.clock.clone(),
        control: control.clone(),
        began: Instant::now(),
        outputs: Outputs::new(&plan),
        stores: record::used(&plan),
        progress: Mutex::default(),
    });
    if let Some(address) = args.metrics.or(plan.metrics) {
        match watch::serve(address, watch.clone()) {
            Ok(bound) if !args.quiet || address.port() == 0 => eprintln!("metrics: http://{bound}/metrics"),
            Ok(_) => {}
            Err(fault) => {
                eprintln!("error: {fault}");
                return Exit::of(&fault);
            }
        }
    }
    let alerts = Alerts::start(&plan.env.job, plan.alerts.as_ref());
    if let Some(alerts) = alerts.clone() {
        control.listen(move |event| alerts.tell(event));
    }
    let process = options.member.as_ref().map_or(0, |m| m.process);
    let socket = control::serve(control::path_of(&plan.env, process), watch.clone());
    let show = !args.quiet && std::io::stderr().is_terminal();
    let terminal = Terminal { show, stop: Arc::default(), line: Mutex::default(), watch, supervised: args.supervised };
    let began = Instant::now();
    let summary = millrace_engine::run(plan, options, control.clone(), &terminal);
    terminal.end();
    drop(socket);
    if let Some(workers) = control.rescaled().filter(|_| summary.fault.is_none() && summary.lost == 0) {
        return Rescaled { workers, elapsed: before + began.elapsed() }.go_on(args.supervised.as_ref());
    }
    let exit = match &summary.fault {
        Some(fault) => {
            eprintln!("error: {}", report::fault(fault));
            if let Some(s) = &args.supervised {
                s.report(fault);
            } else if let Some(alerts) = &alerts {
                alerts.tell(failure(fault));
            }
            Exit::of_class(fault.kind)
        }
        None => Exit::Ok,
    };
    let exit = match exit {
        Exit::Ok | Exit::Dependency if summary.lost > 0 => {
            eprintln!("error: {} records were lost: they could be written nowhere, not even to the dead letter", summary.lost);
            Exit::Lost
        }
        exit => exit,
    };
    if !args.quiet {
        eprint!("{}", report::table(&summary));
    }
    alerts.iter().for_each(|a| a.end());
    write_summary(args, &summary, exit)
}

fn write_summary(args: &RunArgs, summary: &Summary, exit: Exit) -> Exit {
    let Some(file) = &args.summary else { return exit };
    let text =
        serde_json::to_string_pretty(&report::to_json(summary, exit, args.supervised.map_or(0, |s| s.restarts))).unwrap_or_default() + "\n";
    match std::fs::write(file, text) {
        Ok(()) => exit,
        Err(e) => {
            eprintln!("error: the summary cannot be written to {}: {e}", file.display());
            if exit == Exit::Ok { Exit::Dependency } else { exit }
        }
    }
}

pub fn start_log(args: &RunArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log.log).map_err(|e| e.to_string())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match args.log.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// The first SIGTERM or SIGINT stops the job, by a last checkpoint or by draining; a second one ends the process at once. A terminal's
/// SIGINT goes to a supervisor too, which passes it on as SIGTERM.
fn on_signals(control: &Control, stops: bool, supervised: bool) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = match supervised {
        true => {
            signal_hook::flag::register(SIGINT, Arc::default())?;
            signal_hook::iterator::Signals::new([SIGTERM])?
        }
        false => signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?,
    };
    let control = control.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (i, signal) in signals.forever().enumerate() {
            if i > 0 {
                std::process::exit(128 + signal);
            }
            if stops {
                eprintln!("stopping: a last checkpoint is taken and published; nothing fires early (again to stop at once)");
                // Whether it worked is told by the run's end.
                drop(control.request(Request::Stop { savepoint: false, drain: false }));
            } else {
                eprintln!("stopping: what has been read is finished, open windows fire now (again to stop at once)");
                control.drain();
            }
        }
    })?;
    Ok(())
}

/// The progress line: one line on the terminal, five times a second.
struct Terminal {
    show: bool,
    stop: Arc<AtomicBool>,
    line: Mutex<Option<JoinHandle<()>>>,
    watch: Arc<Watch>,
    supervised: Option<supervise::Supervised>,
}

impl Reporter for Terminal {
    fn started(&self, progress: Arc<Progress>) {
        if let Some(s) = &self.supervised {
            s.report_begun();
        }
        *self.watch.progress.lock().unwrap_or_else(|e| e.into_inner()) = Some(progress.clone());
        if self.show {
            let stop = self.stop.clone();
            *self.line.lock().unwrap_or_else(|e| e.into_inner()) = Some(std::thread::spawn(move || draw(&progress, &stop)));
        }
    }
}

impl Terminal {
    fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(line) = self.line.lock().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = line.join();
        }
    }
}

fn draw(progress: &Progress, stop: &AtomicBool) {
    let bar = indicatif::ProgressBar::new_spinner();
    bar.set_style(
        indicatif::ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()),
    );
    let (mut before, mut rate) = (0, 0.0);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200));
        let now = progress.snapshot();
        rate = 0.7 * rate + 0.3 * now.records_in.saturating_sub(before) as f64 * 5.0;
        before = now.records_in;
        bar.set_message(format!(
            "{:.0} s  {} records in  {} out  {} rejected  {} records/s{}{}",
            now.elapsed.as_secs_f64(),
            report::thousands(now.records_in),
            report::thousands(now.records_out),
            report::thousands(now.rejected),
            report::thousands(rate as u64),
            now.lag.map_or(String::new(), |l| format!("  lag {}", report::thousands(l))),
            if now.waiting { "  (waiting for a server)" } else { "" }
        ));
        bar.tick();
    }
    bar.finish_and_clear();
}
