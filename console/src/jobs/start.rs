//! The start of a job.

use super::watch::settle;
use super::{Inner, Job, Start};
use crate::accounts::Role;
use crate::process;
use crate::settings::{self, FILE, Settings};
use crate::tasks::{self, Task};
use crate::view::{Counts, View};
use crate::web::Visitor;
use crate::{App, Refusal, audit};
use rusqlite::params;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;

/// A log that is longer when a run begins is put aside, bytes.
const MAX_LOG: u64 = 16 << 20;
/// What a run had counted when it ended.
const SUMMARY: &str = "summary.json";

/// What the newest run has counted so far, or in all.
pub fn counts(app: &App, task: i64, view: &View) -> Counts {
    let ended = || serde_json::from_slice(&fs::read(app.control(task).join(SUMMARY)).ok()?).ok();
    if view.state.lives() { view.counts() } else { ended().unwrap_or_else(|| view.counts()) }
}

/// What `from` may be: words and numbers, and paths that the task may read.
///
/// # Errors
/// It is none of these.
pub fn check_from(app: &App, task: i64, from: &str) -> Result<(), Refusal> {
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
    audit::note(app, &v.user.name, &v.address, Some(task), "start", &format!("run {run} of version {} {}", t.version, start.words()));
    Ok(run)
}

/// The caller has the turn, and no process of the task lives.
pub(super) fn launch(app: &App, job: &Job, t: &Task, start: &Start, user: &str) -> Result<i64, Refusal> {
    if t.version == 0 {
        return Err(Refusal::conflict("the task has a draft only: save it first"));
    }
    let (settings, secrets) = app.store.run(|db| Ok((tasks::settings(db, t.id, t.version)?, tasks::secrets(app, db, t.id)?)))?;
    let folder = app.job_folder(t.id);
    let made = fs::create_dir_all(&folder).and_then(|()| private(&app.control(t.id))).and_then(|()| private(&folder));
    made.map_err(|e| Refusal::failed(format!("the task's folder cannot be used: {e}")))?;
    let planned = settings.plan(&secrets, &folder, app.confine(t.id));
    let Some(plan) = &planned.plan else {
        let why = settings::errors(&planned).first().map_or(String::new(), |d| format!(" (line {}: {})", d.line, d.message));
        return Err(Refusal::conflict(format!("the version has errors: edit the task{why}")));
    };
    // From now on nobody else starts it; the process that is started has the lock from its first moment.
    let lock = process::take(&app.control(t.id)).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Refusal::conflict("the job runs already"),
        _ => Refusal::failed(format!("the task's folder cannot be used: {e}")),
    })?;
    let name = format!("{}.sock", millrace_plan::file_name(&plan.env.job));
    let start = Start { socket: plan.env.state_dir.join(name), ..start.clone() };
    let run = app.store.run(|db| {
        let sql = "INSERT INTO runs (task, number, version, start, user, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let text = serde_json::to_string(&start).unwrap_or_default();
        db.execute(sql, params![t.id, t.run + 1, t.version, text, user, app.clock.now()])?;
        db.execute("UPDATE tasks SET wanted = 1, run = ?1, next = NULL WHERE id = ?2", [t.run + 1, t.id])?;
        Ok(t.run + 1)
    })?;
    let child = spawn(app, t, run, &settings, &secrets, &start, lock);
    let mut inner = job.lock();
    let now = Instant::now();
    let restarts = inner.view.restarts;
    *inner = Inner { fresh: Some(now), view: inner.view.begin(app.clock.now()), saved: inner.saved, ..Inner::default() };
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

/// Names and values, JSON: how a process gets them.
pub(crate) fn variables(settings: &Settings, secrets: &BTreeMap<String, String>) -> String {
    let all: HashMap<&String, &String> = settings.variables.iter().chain(secrets).collect();
    serde_json::to_string(&all).unwrap_or_default()
}

/// The job's process knows nothing of the console's environment.
pub(crate) fn command(app: &App, task: i64, settings: &Settings, secrets: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(&app.options.executable);
    command.current_dir(app.job_folder(task)).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.env("MILLRACE_VARIABLES", variables(settings, secrets));
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
    secrets: &BTreeMap<String, String>,
    start: &Start,
    lock: fs::File,
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
    writeln!(log, "--- run {run} of version {} {} ---", t.version, start.words())?;
    let mut command = command(app, t.id, settings, secrets);
    match settings.processes.filter(|n| *n > 1) {
        Some(n) => command.arg("cluster").arg("--processes").arg(n.to_string()),
        None => command.arg("run"),
    };
    // By its whole path: a job without a name is called after it, and the console plans it so.
    command.arg(folder.join(FILE)).arg("--task").arg(&control).arg("--task-run").arg(run.to_string()).args(["--log", "info"]);
    if start.replay.is_empty() {
        command.arg("--from").arg(&start.from);
    }
    let summary = control.join(SUMMARY);
    let _ = fs::remove_file(&summary);
    command.arg("--summary").arg(&summary);
    for file in &start.replay {
        command.arg("--replay").arg(file);
    }
    for (flag, on) in [("--accept-duplicates", start.accept_duplicates), ("--allow-dropped-state", start.allow_dropped_state)] {
        command.args(on.then_some(flag));
    }
    for (key, value) in settings.set() {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command.args(settings.workers.iter().flat_map(|n| ["--workers".to_string(), n.to_string()]));
    command.args(app.limits.args(settings, t.id));
    command.stdin(lock).stdout(log.try_clone()?).stderr(log).spawn()
}
