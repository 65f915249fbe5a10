//! A job's own supervisor: `millrace run` of a job with a restart strategy is a parent that runs the job in a child, as a restart has to be
//! a new process: what a failed run has left half-dead in it (clients, threads, memory) is gone with it. `millrace cluster` has several
//! children, which begin and end together: when one ends badly the others are ended, too.
//!
//! Children die with their parent; the parent ends with the exit code of the child that ended its last run.

use crate::alerts::Alerts;
use crate::exit::Exit;
use crate::limits::Memory;
use crate::run::{RESCALED, Rescaled};
use crate::task::Journal;
use millrace_engine::Event;
use millrace_engine::restart::{Restarts, Verdict};
use millrace_engine::summary::FaultSummary;
use millrace_plan::plan::RestartPlan;
use millrace_plan::{diagnostic, host};
use millrace_sdk::config::Duration as Shown;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How a child knows its parent: where to report, whose child it is, the how-manieth restart it is, how long the job has been running,
/// whether a run before it had begun.
pub const VARIABLE: &str = "MILLRACE_SUPERVISED";
/// How long the others may go on when one has ended badly: they notice it themselves, and end in order.
const GRACE: Duration = Duration::from_secs(5);
/// How often the memory of children that have a limit is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long the report of a child that has ended may take to arrive.
const REPORT: Duration = Duration::from_secs(2);
/// A line of the report; the other one there may be is a fault in JSON.
const BEGUN: &str = "begun";

/// What a supervised child was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervised {
    report: i32,
    parent: i32,
    pub restarts: u32,
    /// Since the first child began.
    pub elapsed: Duration,
    /// An earlier child had restored its state and begun to read: where `--from` led is done, and the next run goes on from the latest.
    pub begun: bool,
}

impl Supervised {
    /// # Errors
    /// A sentence; only a parent writes this text.
    pub fn parse(text: &str) -> Result<Supervised, String> {
        let numbers: Vec<u64> = text.split(',').map_while(|n| n.parse().ok()).collect();
        let [report, parent, restarts, elapsed, begun] = numbers[..] else { return Err("expected five numbers".into()) };
        let small = |n: u64| i32::try_from(n).map_err(|e| e.to_string());
        Ok(Supervised {
            report: small(report)?,
            parent: small(parent)?,
            restarts: small(restarts)? as u32,
            elapsed: Duration::from_millis(elapsed),
            begun: begun > 0,
        })
    }

    /// Binds this process's life to its parent's.
    ///
    /// # Errors
    /// The parent is gone already.
    pub fn bind(&self) -> Result<(), String> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| e.to_string())?;
        match rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) {
            Some(parent) if parent == self.parent => Ok(()),
            _ => Err("the process that supervises the job is gone".into()),
        }
    }

    /// Tells the parent that the run has begun.
    pub fn report_begun(&self) {
        self.tell(BEGUN);
    }

    /// Tells the parent that the run goes on with other workers.
    pub fn report_rescaled(&self, rescaled: Rescaled) {
        self.tell(&format!("{RESCALED}{}", rescaled.text()));
    }

    /// Tells the parent why the run ends. It decides by this whether another run can help.
    pub fn report(&self, fault: &FaultSummary) {
        self.tell(&serde_json::to_string(fault).unwrap_or_default());
    }

    fn tell(&self, line: &str) {
        let pipe = std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", self.report));
        // Without a report the parent goes by the exit code.
        let _ = pipe.and_then(|mut p| p.write_all(format!("{line}\n").as_bytes()));
    }
}

/// How a child ended.
#[derive(Debug)]
struct End {
    status: ExitStatus,
    fault: Option<FaultSummary>,
    begun: bool,
    /// It went on with other workers, as a later run does too.
    rescaled: Option<Rescaled>,
    /// It was ended for a limit: which, and how far it was above it.
    above: Option<String>,
}

impl End {
    fn code(&self) -> u8 {
        let code = self.status.code().or(self.status.signal().map(|s| 128 + s));
        code.and_then(|c| u8::try_from(c).ok()).unwrap_or(Exit::Bug as u8)
    }

    /// Whether a new process may fare better: not where the topology, the data or the command line is at fault.
    fn may_restart(&self) -> bool {
        const NEVER: [Exit; 6] = [Exit::Ok, Exit::Config, Exit::Usage, Exit::Data, Exit::Lost, Exit::Halted];
        match self.status.code() {
            None => true,
            Some(c) if c == Exit::Dependency as i32 => self.fault.as_ref().is_some_and(|f| f.retry),
            Some(c) => !NEVER.iter().any(|e| *e as i32 == c),
        }
    }

    fn event(&self) -> Event {
        match &self.fault {
            Some(fault) => crate::run::failure(fault),
            None => Event { kind: "job_failed", message: self.reason() },
        }
    }

    fn reason(&self) -> String {
        if let Some(above) = &self.above {
            return above.clone();
        }
        if let Some(signal) = self.status.signal() {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            return format!("killed by {name} ({signal})");
        }
        match &self.fault {
            Some(f) => f.message.clone(),
            None => format!("exit code {}", self.code()),
        }
    }
}

/// What the thread of signals and the main thread share.
#[derive(Default)]
struct Reins {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The children that run; not from the moment that they are about to be reaped, so that no stranger's process is ever signalled.
    children: Vec<Pid>,
    /// Signals that asked for a stop.
    stops: u32,
}

impl State {
    fn signal(&self, signal: Signal) {
        // They may have ended by themselves just now.
        self.children.iter().for_each(|child| _ = rustix::process::kill_process(*child, signal));
    }
}

impl Reins {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The first signal stops the child, a second one kills it.
    fn on_signals(self: Arc<Reins>) -> std::io::Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                let mut state = self.lock();
                state.stops += 1;
                let signal = if state.stops == 1 { Signal::TERM } else { Signal::KILL };
                state.signal(signal);
                self.changed.notify_all();
            }
        })?;
        Ok(())
    }

    /// Waits, unless a stop is asked for; whether it is.
    fn stopped_within(&self, time: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self.changed.wait_timeout_while(state, time, |s| s.stops == 0).unwrap_or_else(std::sync::PoisonError::into_inner);
        state.stops > 0
    }
}

/// The strategy that a topology asks for; None: the job runs without a supervisor.
///
/// # Errors
/// The host's `millrace.yaml` has errors, which are printed.
pub fn strategy(topology: &Path, restart: Option<&RestartPlan>) -> Result<Option<RestartPlan>, Exit> {
    let plan = match restart {
        None | Some(RestartPlan::None) => return Ok(None),
        Some(RestartPlan::FallBack) => {
            let host = host::load(&host::folders(topology));
            if !host.diagnostics.is_empty() {
                eprint!("{}", diagnostic::full(&host.diagnostics, std::io::stderr().is_terminal()));
                return Err(Exit::Config);
            }
            host.restart.unwrap_or(millrace_engine::restart::FALL_BACK)
        }
        Some(plan) => plan.clone(),
    };
    Ok(Some(plan).filter(|p| *p != RestartPlan::None))
}

/// What a child is to be called with.
pub struct Call {
    pub args: Vec<OsString>,
    /// A variable that this process does not have.
    pub env: Option<(&'static str, String)>,
}

/// The children of a run; asked for each.
pub type Calls<'a> = &'a dyn Fn() -> std::io::Result<Vec<Call>>;

/// Runs this same executable in children until they end well, may not be restarted, or have used the strategy up; the exit code.
pub fn supervise(strategy: RestartPlan, calls: Calls<'_>, alerts: Option<&Alerts>, journal: Option<&Arc<Journal>>) -> u8 {
    let reins = Arc::new(Reins::default());
    if let Err(e) = reins.clone().on_signals() {
        eprintln!("error: signals cannot be handled: {e}");
        return Exit::Bug as u8;
    }
    let mut restarts = Restarts::new(strategy.clone());
    let began = Instant::now();
    let mut begun = false;
    let mut rescaled: Option<Rescaled> = None;
    loop {
        let run = Instant::now();
        journal.iter().for_each(|j| j.starting(&strategy));
        let told = [u128::from(restarts.count()), began.elapsed().as_millis(), begun.into()];
        let now = rescaled.map(|r| (RESCALED, Rescaled { elapsed: began.elapsed(), ..r }.text()));
        let calls = || calls().map(|all| all.into_iter().map(|c| Call { env: c.env.or(now.clone()), ..c }).collect());
        let end = match calls().and_then(|calls| children(&reins, calls, told, journal)) {
            Ok(Some(end)) => end,
            Ok(None) => return 128 + SIGTERM as u8,
            Err(e) => {
                eprintln!("error: the job's process cannot be started: {e}");
                return Exit::Dependency as u8;
            }
        };
        journal.iter().for_each(|j| j.fault(&end.reason(), end.fault.as_ref(), end.above.is_some()));
        begun |= end.begun;
        rescaled = end.rescaled.or(rescaled);
        let tell = |event: Event| alerts.iter().for_each(|a| a.tell(event.clone()));
        if reins.lock().stops > 0 || !end.may_restart() {
            if !end.status.success() {
                tell(end.event());
            }
            return end.code();
        }
        let lot = std::hash::RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        match restarts.failed(began.elapsed(), run.elapsed(), lot) {
            Verdict::End(why) => {
                eprintln!("error: the job has failed ({}) and is not restarted: {why}", end.reason());
                tell(Event { message: format!("{}; not restarted: {why}", end.reason()), ..end.event() });
                return end.code();
            }
            Verdict::Restart { after } => {
                let shown = Shown::micros(after.as_micros().min(i64::MAX as u128) as i64);
                tracing::warn!(
                    reason = end.reason(),
                    exit_code = end.code(),
                    restart = restarts.count(),
                    "the job has failed: restart in {shown}"
                );
                tell(Event { kind: "restarting", message: format!("{}; restart {} in {shown}", end.reason(), restarts.count()) });
                journal.iter().for_each(|j| j.waiting(restarts.count(), &end.reason(), after));
                if reins.stopped_within(after) {
                    return end.code();
                }
            }
        }
    }
}

/// One run in processes of its own; None: a stop was asked for before it began.
fn children(reins: &Arc<Reins>, calls: Vec<Call>, told: [u128; 3], journal: Option<&Arc<Journal>>) -> std::io::Result<Option<End>> {
    let (ended, ends) = mpsc::channel();
    let all = calls.len();
    for call in calls {
        let Some(child) = Child::start(reins, call, told, journal.cloned())? else { break };
        let (reins, ended) = (reins.clone(), ended.clone());
        std::thread::Builder::new().name("child".into()).spawn(move || _ = ended.send(child.wait(&reins)))?;
    }
    drop(ended);
    // The first that ended badly says why; whether the run had begun is true of all or none.
    let (mut why, mut count, mut begun) = (None::<End>, 0, false);
    let memory = journal.and_then(|j| j.memory.as_ref());
    let (ended, mut above) = (memory.map_or(0, Memory::ended), None);
    loop {
        let end = match (&why, memory) {
            (None, None) => ends.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            (None, Some(_)) => ends.recv_timeout(LOOK),
            (Some(_), _) => ends.recv_timeout(GRACE),
        };
        match end {
            Ok(end) => {
                let end = end?;
                count += 1;
                begun |= end.begun;
                if why.as_ref().is_none_or(|w| w.status.success() && !end.status.success()) {
                    why = Some(end);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) if why.as_ref().is_some_and(|w| !w.status.success()) => reins.lock().signal(Signal::KILL),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let state = reins.lock();
                let pids = state.children.iter().map(|p| p.as_raw_nonzero().get());
                above = above.or_else(|| memory.filter(|_| why.is_none())?.above(pids));
                if above.is_some() {
                    state.signal(Signal::KILL);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let above = above.or_else(|| memory.filter(|m| m.ended() > ended).map(Memory::reason));
    Ok(why.filter(|_| count == all).map(|w| End { begun, above, ..w }))
}

struct Child {
    process: std::process::Child,
    pid: Pid,
    heard: mpsc::Receiver<Vec<u8>>,
}

impl Child {
    /// None: a stop was asked for before.
    fn start(reins: &Reins, call: Call, told: [u128; 3], journal: Option<Arc<Journal>>) -> std::io::Result<Option<Child>> {
        let (report, pipe) = std::io::pipe()?;
        rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::empty())?;
        // The very executable that runs, even when another one has taken its place on the disk meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(std::env::args_os().next().unwrap_or("millrace".into())).args(call.args).envs(call.env);
        let [restarts, elapsed, begun] = told;
        let numbers = [pipe.as_raw_fd() as u128, std::process::id().into(), restarts, elapsed, begun];
        command.env(VARIABLE, numbers.map(|n| n.to_string()).join(","));
        let (process, pid) = {
            let mut state = reins.lock();
            if state.stops > 0 {
                return Ok(None);
            }
            let process = command.spawn()?;
            let pid = Pid::from_child(&process);
            state.children.push(pid);
            (process, pid)
        };
        // Before the next child is made, which would hold it open.
        drop(pipe);
        let (told, heard) = mpsc::channel();
        std::thread::Builder::new().name("report".into()).spawn(move || {
            let (mut report, mut text) = (BufReader::new(report), Vec::new());
            let mut begun = journal;
            // Told at once: whoever starts the job after a crash of this process goes by it.
            while matches!(report.read_until(b'\n', &mut text), Ok(n) if n > 0) {
                if text.split(|b| *b == b'\n').any(|l| l == BEGUN.as_bytes()) {
                    begun.take().iter().for_each(|j| j.begun());
                }
            }
            let _ = told.send(text);
        })?;
        Ok(Some(Child { process, pid, heard }))
    }

    fn wait(mut self, reins: &Reins) -> std::io::Result<End> {
        loop {
            match rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        reins.lock().children.retain(|pid| *pid != self.pid);
        let status = self.process.wait()?;
        let text = self.heard.recv_timeout(REPORT).unwrap_or_default();
        let lines = || text.split(|b| *b == b'\n');
        let fault = lines().find_map(|l| serde_json::from_slice(l).ok());
        let rescaled = lines().filter_map(|l| Rescaled::parse(std::str::from_utf8(l).ok()?.strip_prefix(RESCALED)?).ok()).last();
        Ok(End { status, fault, begun: lines().any(|l| l == BEGUN.as_bytes()), rescaled, above: None })
    }
}
