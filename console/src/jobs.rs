//! Jobs: starting, stopping, and what the console does when one dies or stands still.
//!
//! `wanted` of a task is what somebody has asked for, and is in the database before anything is done; what is so is seen from outside (the
//! run's lock, what its supervisor has told, its socket). So a console that is killed at any moment is taken over by the next, which looks
//! and does what is left. Whatever starts or stops a job has its turn; a second start finds the run's lock held.

use crate::accounts::Role;
use crate::process::{self, Told};
use crate::settings::{self, FILE, Settings};
use crate::store::{all, first};
use crate::tasks::{self, Task};
use crate::view::{State, View};
use crate::web::Visitor;
use crate::{App, Refusal, audit, socket};
use rusqlite::{Connection, params};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A job that shows no sign of life for so long is restarted.
const STALLED: Duration = Duration::from_secs(10);
/// How long a job may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a stop, which ends with a checkpoint, may take until it is told as failed.
const STOP: Duration = Duration::from_secs(600);
/// How long a supervisor may take from its start to its first word.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// So many dead jobs of a task are restarted within [`WINDOW`]; then somebody must look.
const RECOVERIES: i64 = 3;
const WINDOW: i64 = 600_000_000;
/// A log that is longer when a run begins is put aside, bytes.
const MAX_LOG: u64 = 16 << 20;

/// How a run was started.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Start {
    /// `latest`, `scratch`, the number of a checkpoint, or its path.
    pub from: String,
    pub accept_duplicates: bool,
    pub allow_dropped_state: bool,
    /// By the console, as the run before was dead or stood still.
    pub recovery: bool,
    /// The job's socket.
    pub socket: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub number: i64,
    pub version: i64,
    pub start: Start,
    pub user: String,
    pub time: i64,
    pub ended: Option<i64>,
    pub outcome: Option<String>,
    pub exit: Option<i64>,
    pub reason: Option<String>,
}

/// What the console keeps of a task's job while it runs.
#[derive(Default)]
pub struct Job {
    /// Whoever starts, stops or looks after it.
    turn: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    view: View,
    /// The supervisor, if this very console has started it.
    child: Option<Child>,
    launched: Option<Instant>,
    /// The last sign of life.
    fresh: Option<Instant>,
    /// The pause before a restart: its number and when it was first seen.
    pause: Option<(u32, Instant)>,
    stop_asked: bool,
    /// The run whose end is known and seen.
    settled: i64,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What is to be seen of it.
    pub fn view(&self) -> View {
        self.lock().view.clone()
    }
}

/// Of all tasks, by number.
#[derive(Default)]
pub struct Jobs(Mutex<HashMap<i64, Arc<Job>>>);

impl Jobs {
    pub fn of(&self, task: i64) -> Arc<Job> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).entry(task).or_default().clone()
    }

    pub fn forget(&self, task: i64) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).remove(&task);
    }
}

impl App {
    /// Where the topology lies and relative paths begin.
    pub(crate) fn job_folder(&self, task: i64) -> PathBuf {
        self.task_folder(task).join("job")
    }

    /// The run's lock, state and log; out of the job's reach.
    pub(crate) fn control(&self, task: i64) -> PathBuf {
        self.task_folder(task).join("control")
    }
}

/// A task's runs, newest first.
///
/// # Errors
/// The database.
pub fn runs(db: &Connection, task: i64, most: u32) -> Result<Vec<Run>, Refusal> {
    let sql = "SELECT number, version, start, user, time, ended, outcome, exit_code, reason FROM runs
               WHERE task = ?1 ORDER BY number DESC LIMIT ?2";
    all(db, sql, params![task, most], |r| {
        let start: String = r.get(2)?;
        Ok(Run {
            number: r.get(0)?,
            version: r.get(1)?,
            start: serde_json::from_str(&start).unwrap_or_default(),
            user: r.get(3)?,
            time: r.get(4)?,
            ended: r.get(5)?,
            outcome: r.get(6)?,
            exit: r.get(7)?,
            reason: r.get(8)?,
        })
    })
}

/// What `from` may be: words and numbers, and paths that the task may read.
fn check_from(app: &App, task: i64, from: &str) -> Result<(), Refusal> {
    if matches!(from, "latest" | "scratch") || (!from.is_empty() && from.len() < 19 && from.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(());
    }
    let confine = app.confine(task);
    let done = if from.contains("://") { confine.address(from) } else { confine.path(&app.job_folder(task), from) };
    match from.starts_with('-') || from.is_empty() {
        true => Err(Refusal::bad("say `latest`, `scratch`, the number of a checkpoint, or its path")),
        false => done.map_err(Refusal::forbidden),
    }
}

/// Starts a task's job with its newest version.
///
/// # Errors
/// It runs already, its version would not run, or it may not start from there.
pub async fn start(app: &Arc<App>, v: &Visitor, task: i64, start: Start) -> Result<i64, Refusal> {
    let t = tasks::find(app, v, task, Role::Operator)?;
    check_from(app, task, &start.from)?;
    let job = app.jobs.of(task);
    let _turn = job.turn.lock().await;
    let t = app.store.run(|db| tasks::by_id(db, t.id))?;
    if process::alive(&app.control(task)) {
        return Err(Refusal::conflict("the job runs already"));
    }
    let run = launch(app, &job, &t, &start, &v.user.name)?;
    audit::note(app, &v.user.name, &v.address, Some(task), "start", &format!("run {run} of version {} from {}", t.version, start.from));
    Ok(run)
}

/// The caller has the turn, and no process of the task lives.
fn launch(app: &App, job: &Job, t: &Task, start: &Start, user: &str) -> Result<i64, Refusal> {
    if t.version == 0 {
        return Err(Refusal::conflict("the task has a draft only: save it first"));
    }
    let (settings, secrets) = app.store.run(|db| Ok((tasks::settings(db, t.id, t.version)?, tasks::secrets(db, t.id)?)))?;
    let folder = app.job_folder(t.id);
    let made = fs::create_dir_all(&folder).and_then(|()| private(&app.control(t.id))).and_then(|()| private(&folder));
    made.map_err(|e| Refusal::failed(format!("the task's folder cannot be used: {e}")))?;
    let planned = settings.plan(&secrets, &folder, app.confine(t.id));
    let Some(plan) = &planned.plan else {
        let why = settings::errors(&planned).first().map_or(String::new(), |d| format!(" (line {}: {})", d.line, d.message));
        return Err(Refusal::conflict(format!("the version has errors: edit the task{why}")));
    };
    let name = format!("{}.sock", millrace_plan::file_name(&plan.env.job));
    let start = Start { socket: plan.env.state_dir.join(name), ..start.clone() };
    let run = app.store.run(|db| {
        let sql = "INSERT INTO runs (task, number, version, start, user, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let text = serde_json::to_string(&start).unwrap_or_default();
        db.execute(sql, params![t.id, t.run + 1, t.version, text, user, app.clock.now()])?;
        db.execute("UPDATE tasks SET wanted = 1, run = ?1 WHERE id = ?2", [t.run + 1, t.id])?;
        Ok(t.run + 1)
    })?;
    let child = spawn(app, t, run, &settings, &secrets, &start);
    let mut inner = job.lock();
    let now = Instant::now();
    let restarts = inner.view.restarts;
    *inner = Inner { launched: Some(now), fresh: Some(now), view: inner.view.begin(app.clock.now()), ..Inner::default() };
    inner.view.restarts = if start.recovery { restarts } else { 0 };
    match child {
        Ok(child) => inner.child = Some(child),
        Err(e) => {
            drop(inner);
            settle(app, job, t.id, run, "failed", None, &format!("the job's process cannot be started: {e}"))?;
            return Err(Refusal::failed(format!("the job's process cannot be started: {e}")));
        }
    }
    Ok(run)
}

fn private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// The job's process knows nothing of the console's environment.
pub(crate) fn command(app: &App, task: i64, settings: &Settings, secrets: &std::collections::BTreeMap<String, String>) -> Command {
    let mut command = Command::new(&app.options.executable);
    let variables: HashMap<&String, &String> = settings.variables.iter().chain(secrets).collect();
    command.current_dir(app.job_folder(task)).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.env("MILLRACE_VARIABLES", serde_json::to_string(&variables).unwrap_or_default());
    command.env("MILLRACE_CONFINE", serde_json::to_string(&app.confine(task)).unwrap_or_default());
    for name in ["LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.envs(std::env::var_os(name).map(|v| (name, v)));
    }
    command
}

fn spawn(
    app: &App,
    t: &Task,
    run: i64,
    settings: &Settings,
    secrets: &std::collections::BTreeMap<String, String>,
    start: &Start,
) -> std::io::Result<Child> {
    let (folder, control) = (app.job_folder(t.id), app.control(t.id));
    let beside = folder.join(format!("{FILE}.tmp"));
    fs::write(&beside, &settings.config)?;
    fs::rename(&beside, folder.join(FILE))?;
    let log = control.join("log");
    if fs::metadata(&log).is_ok_and(|m| m.len() > MAX_LOG) {
        fs::rename(&log, control.join("log.1"))?;
    }
    let mut log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log)?;
    writeln!(log, "--- run {run} of version {} from {} ---", t.version, start.from)?;
    let mut command = command(app, t.id, settings, secrets);
    match settings.processes.filter(|n| *n > 1) {
        Some(n) => command.arg("cluster").arg("--processes").arg(n.to_string()),
        None => command.arg("run"),
    };
    command.arg(FILE).arg("--task").arg(&control).arg("--task-run").arg(run.to_string()).args(["--log", "info"]);
    command.arg("--from").arg(&start.from);
    for (flag, on) in [("--accept-duplicates", start.accept_duplicates), ("--allow-dropped-state", start.allow_dropped_state)] {
        command.args(on.then_some(flag));
    }
    for (key, value) in settings.set() {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command.args(settings.workers.iter().flat_map(|n| ["--workers".to_string(), n.to_string()]));
    command.args(settings.open_files.iter().flat_map(|n| ["--open-files".to_string(), n.to_string()]));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// What a stop is to do beside stopping.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    pub savepoint: bool,
    pub drain: bool,
}

/// Asks a job to stop; comes back at once. The operation log tells how it ended.
///
/// # Errors
/// It does not run.
pub fn stop(app: &Arc<App>, v: &Visitor, task: i64, how: Stop) -> Result<i64, Refusal> {
    let t = tasks::find(app, v, task, Role::Operator)?;
    if !t.wanted && !process::alive(&app.control(task)) {
        return Err(Refusal::conflict("the job does not run"));
    }
    let action = match how {
        Stop { savepoint: true, .. } => "stop-with-savepoint",
        Stop { drain: true, .. } => "stop-draining",
        _ => "stop",
    };
    let operation = audit::begin(app, &v.user.name, &v.address, Some(task), action, "");
    want(app, task, false)?;
    app.jobs.of(task).lock().stop_asked = true;
    tokio::spawn(stopped(app.clone(), t, how, operation));
    Ok(operation)
}

fn want(app: &App, task: i64, wanted: bool) -> Result<(), Refusal> {
    app.store.run(|db| Ok(db.execute("UPDATE tasks SET wanted = ?1 WHERE id = ?2", params![wanted, task]).map(drop)?))
}

async fn stopped(app: Arc<App>, t: Task, how: Stop, operation: i64) {
    let control = app.control(t.id);
    let newest = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()));
    let Ok(Some(run)) = newest else { return audit::end(&app, operation, false, "the run is not known") };
    let request = json!({"command": "stop", "savepoint": how.savepoint, "drain": how.drain});
    match socket::ask(&run.start.socket, &request, STOP).await {
        Ok(said) => audit::end(&app, operation, true, said.as_str().unwrap_or_default()),
        Err(_) if !process::alive(&control) => audit::end(&app, operation, !how.savepoint, "the job had ended"),
        // Between two runs, or before the first, there is no socket.
        Err(e) if e.starts_with("no job answers") => {
            process::signal(&control, Signal::TERM);
            audit::end(&app, operation, !how.savepoint, if how.savepoint { "there was no running job to save" } else { "" });
        }
        Err(e) => {
            // It goes on, as it could not do what was asked.
            let _ = want(&app, t.id, true);
            app.jobs.of(t.id).lock().stop_asked = false;
            audit::end(&app, operation, false, &e);
        }
    }
}

/// Ends all processes of a job by force.
///
/// # Errors
/// It does not run.
pub fn kill(app: &Arc<App>, v: &Visitor, task: i64) -> Result<(), Refusal> {
    let t = tasks::find(app, v, task, Role::Operator)?;
    if !process::alive(&app.control(task)) {
        return Err(Refusal::conflict("the job does not run"));
    }
    want(app, t.id, false)?;
    process::signal(&app.control(task), Signal::KILL);
    audit::note(app, &v.user.name, &v.address, Some(task), "kill", "");
    Ok(())
}

/// Takes a savepoint; comes back at once.
///
/// # Errors
/// It does not run.
pub fn savepoint(app: &Arc<App>, v: &Visitor, task: i64) -> Result<i64, Refusal> {
    let t = tasks::find(app, v, task, Role::Operator)?;
    let run = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()))?.filter(|_| process::alive(&app.control(task)));
    let run = run.ok_or_else(|| Refusal::conflict("the job does not run"))?;
    let operation = audit::begin(app, &v.user.name, &v.address, Some(task), "savepoint", "");
    let app = app.clone();
    tokio::spawn(async move {
        match socket::ask(&run.start.socket, &json!({"command": "savepoint"}), STOP).await {
            Ok(said) => audit::end(&app, operation, true, said.as_str().unwrap_or_default()),
            Err(e) => audit::end(&app, operation, false, &e),
        }
    });
    Ok(operation)
}

/// Stops the job and starts it again with the newest version; comes back at once.
///
/// # Errors
/// It does not run.
pub fn restart(app: &Arc<App>, v: &Visitor, task: i64) -> Result<(), Refusal> {
    stop(app, v, task, Stop::default())?;
    let (app, v) = (app.clone(), v.clone());
    tokio::spawn(async move {
        let begun = Instant::now();
        while process::alive(&app.control(task)) && begun.elapsed() < STOP {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let from = Start { from: "latest".into(), ..Start::default() };
        if let Err(e) = start(&app, &v, task, from).await {
            audit::note_failed(&app, &v.user.name, &v.address, Some(task), "restart", &e.message);
        }
    });
    Ok(())
}

/// Looks after all jobs, again and again.
pub async fn watch(app: Arc<App>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Ok(all) = app.store.run(tasks::every) else { continue };
        futures::future::join_all(all.iter().map(|t| look(&app, t))).await;
    }
}

/// Looks at one job, and does what is to be done.
async fn look(app: &Arc<App>, t: &Task) {
    let job = app.jobs.of(t.id);
    // Who has the turn knows better.
    let Ok(_turn) = job.turn.try_lock() else { return };
    let control = app.control(t.id);
    if t.run == 0 || (!t.wanted && job.lock().settled == t.run && !process::alive(&control)) {
        return crate::alarms::look(app, t, &job.view());
    }
    let Ok(t) = app.store.run(|db| tasks::by_id(db, t.id)) else { return };
    let told = process::told(&control).filter(|told| told.run == t.run);
    if let Some(child) = &mut job.lock().child {
        // Reaped; what it says by its end it has also told.
        let _ = child.try_wait();
    }
    let done = match process::alive(&control) {
        true => lives(app, &job, &t, told).await,
        false => gone(app, &job, &t, told),
    };
    if let Err(e) = done {
        tracing::error!(task = t.name, "the job cannot be looked after: {}", e.message);
        job.lock().view.say(State::NeedsOperator, &e.message, app.clock.now());
    }
    crate::alarms::look(app, &t, &job.view());
}

async fn lives(app: &Arc<App>, job: &Job, t: &Task, told: Option<Told>) -> Result<(), Refusal> {
    let Some(run) = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()))? else { return Ok(()) };
    let status = socket::ask(&run.start.socket, &json!({"command": "status"}), PATIENCE).await;
    let figures = match &status {
        Ok(_) => socket::ask(&run.start.socket, &json!({"command": "metrics"}), PATIENCE).await.ok(),
        Err(_) => None,
    };
    let (now, clock) = (Instant::now(), app.clock.now());
    let told = told.unwrap_or_default();
    let stalled = {
        let mut inner = job.lock();
        let fresh = status.as_ref().is_ok_and(|s| s["last_step_seconds"].as_f64().is_none_or(|age| age < STALLED.as_secs_f64()));
        let pausing = status.is_err() && told.phase == "waiting";
        inner.pause = match inner.pause {
            Some((n, since)) if pausing && n == told.restarts => Some((n, since)),
            _ if pausing => Some((told.restarts, now)),
            _ => None,
        };
        let pause = Duration::try_from_secs_f64(told.after_seconds.unwrap_or_default()).unwrap_or_default();
        if fresh || inner.pause.is_some_and(|(_, since)| since.elapsed() < pause) {
            inner.fresh = Some(now);
        }
        inner.fresh.get_or_insert(now).elapsed() >= STALLED
    };
    if stalled {
        return stands_still(app, job, t, &told);
    }
    let mut inner = job.lock();
    inner.view.of = told.of;
    match &status {
        Ok(status) => inner.view.seen(status, figures.as_ref().and_then(|f| f.as_str()), t.wanted, &told, clock),
        Err(_) if !t.wanted => inner.view.say(State::Stopping, "", clock),
        Err(_) if told.phase == "waiting" => {
            inner.view.restarts = told.restarts;
            inner.view.say(State::Restarting, told.reason.as_deref().unwrap_or_default(), clock);
        }
        Err(_) => inner.view.say(State::Starting, "", clock),
    }
    if !t.wanted && !std::mem::replace(&mut inner.stop_asked, true) {
        // A console before this one was asked, and did not live to do it.
        drop(inner);
        let operation = audit::begin(app, "console", "", Some(t.id), "stop", "asked for before this console began");
        tokio::spawn(stopped(app.clone(), t.clone(), Stop::default(), operation));
    }
    Ok(())
}

/// It lives and does nothing.
fn stands_still(app: &App, job: &Job, t: &Task, told: &Told) -> Result<(), Refusal> {
    let why = format!("no sign of life for {} s", STALLED.as_secs());
    job.lock().view.say(State::Stalled, &why, app.clock.now());
    let control = app.control(t.id);
    process::signal(&control, Signal::KILL);
    let begun = Instant::now();
    while process::alive(&control) {
        if begun.elapsed() > GONE {
            return Err(Refusal::failed("the job stands still, and its processes cannot be ended"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    audit::note(app, "console", "", Some(t.id), "kill", &why);
    dead(app, job, t, Some(told), &why)
}

/// No process of it lives.
fn gone(app: &App, job: &Job, t: &Task, told: Option<Told>) -> Result<(), Refusal> {
    let clock = app.clock.now();
    if t.run == 0 {
        return Ok(());
    }
    let run = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()))?;
    let Some(run) = run else { return Ok(()) };
    if run.outcome.as_deref() == Some("dead") && t.wanted {
        // A console before this one ended before it had started it again.
        return dead(app, job, t, told.as_ref(), run.reason.as_deref().unwrap_or_default());
    }
    if let Some(outcome) = &run.outcome {
        let mut inner = job.lock();
        inner.view.settled(outcome, run.reason.as_deref().unwrap_or_default(), run.ended.unwrap_or(clock));
        inner.settled = run.number;
        return Ok(());
    }
    if let Some(told) = told.as_ref().filter(|told| told.phase == "ended") {
        let exit = told.exit.unwrap_or(u8::MAX);
        if t.wanted && exit > 128 && told.of == Some(0) {
            // Killed from outside, and no strategy of its own says anything of that.
            return dead(app, job, t, Some(told), told.reason.as_deref().unwrap_or("its process was killed"));
        }
        let outcome = match exit {
            _ if !t.wanted => "stopped",
            0 => "finished",
            6 => "halted",
            4 | 5 => "operator",
            _ => "failed",
        };
        let reason = told.reason.clone().unwrap_or_default();
        let reason = if reason.is_empty() && exit != 0 { format!("exit code {exit}; the log says why") } else { reason };
        return settle(app, job, t.id, run.number, outcome, Some(exit), &reason);
    }
    let early = {
        let mut inner = job.lock();
        let young = inner.launched.is_some_and(|at| at.elapsed() < FIRST_WORD);
        let ended = inner.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        (young && told.is_none(), ended)
    };
    match early {
        // It has yet to take its lock.
        (true, None) => Ok(()),
        (true, Some(status)) => settle(
            app,
            job,
            t.id,
            run.number,
            "failed",
            status.code().and_then(|c| c.try_into().ok()),
            "it ended before it began; the log says why",
        ),
        (false, _) => dead(app, job, t, told.as_ref(), "its processes were killed"),
    }
}

/// It is gone without a word: started again from its last checkpoint, unless that has not helped before.
fn dead(app: &App, job: &Job, t: &Task, told: Option<&Told>, why: &str) -> Result<(), Refusal> {
    let clock = app.clock.now();
    let Some(run) = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()))? else { return Ok(()) };
    if !t.wanted {
        return settle(app, job, t.id, run.number, "stopped", None, why);
    }
    let sql = "SELECT count(*) FROM runs WHERE task = ?1 AND time > ?2 AND start ->> 'recovery'";
    let recent: i64 = app.store.run(|db| Ok(first(db, sql, [t.id, clock - WINDOW], |r| r.get(0))?.unwrap_or_default()))?;
    if recent >= RECOVERIES {
        return settle(
            app,
            job,
            t.id,
            run.number,
            "operator",
            None,
            &format!("{why}; {RECOVERIES} restarts within 10 minutes did not help"),
        );
    }
    app.store.run(|db| {
        let sql = "UPDATE runs SET ended = ?1, outcome = 'dead', reason = ?2 WHERE task = ?3 AND number = ?4";
        Ok(db.execute(sql, params![clock, why, t.id, run.number])?)
    })?;
    // Where an earlier start led is done once sources were read.
    let begun = told.is_some_and(|told| told.begun);
    let from = if begun { "latest".into() } else { run.start.from.clone() };
    let start = Start { from, recovery: true, ..run.start };
    let again = launch(app, job, t, &start, "console")?;
    audit::note(app, "console", "", Some(t.id), "recover", &format!("{why}; run {again} from {}", start.from));
    Ok(())
}

fn settle(app: &App, job: &Job, task: i64, run: i64, outcome: &str, exit: Option<u8>, reason: &str) -> Result<(), Refusal> {
    let clock = app.clock.now();
    app.store.run(|db| {
        let sql = "UPDATE runs SET ended = ?1, outcome = ?2, exit_code = ?3, reason = ?4 WHERE task = ?5 AND number = ?6";
        db.execute(sql, params![clock, outcome, exit, reason, task, run])?;
        db.execute("UPDATE tasks SET wanted = 0 WHERE id = ?1", [task])?;
        Ok(())
    })?;
    job.lock().view.settled(outcome, reason, clock);
    Ok(())
}
