//! What is asked of a job that runs: to stop, to save itself; and its end by force.

use super::start::launch;
use super::watch::looked;
use super::{Job, Start, check_from, runs};
use crate::accounts::Role;
use crate::process;
use crate::store::first;
use crate::tasks::{self, Task};
use crate::view::State;
use crate::web::Visitor;
use crate::{App, Refusal, audit, socket, stars};
use rusqlite::params;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a stop, which ends with a checkpoint, may take until it is told as failed.
const STOP: Duration = Duration::from_secs(600);

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
    {
        let job = app.jobs.of(task);
        let mut inner = job.lock();
        inner.stop_asked = true;
        if process::alive(&app.control(task)) {
            inner.view.say(State::Stopping, "", app.clock.now());
        }
    }
    tokio::spawn(stopped(app.clone(), t, how, operation));
    Ok(operation)
}

fn want(app: &App, task: i64, wanted: bool) -> Result<(), Refusal> {
    app.store.run(|db| Ok(db.execute("UPDATE tasks SET wanted = ?1, next = NULL WHERE id = ?2", params![wanted, task]).map(drop)?))
}

/// How long a job that has stopped, or whose socket has gone, may take to be gone itself.
const ENDING: Duration = Duration::from_secs(5);

pub(super) async fn stopped(app: Arc<App>, t: Task, how: Stop, operation: i64) {
    let control = app.control(t.id);
    let newest = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()));
    let Ok(Some(run)) = newest else { return audit::end(&app, operation, false, "the run is not known") };
    let request = json!({"command": "stop", "savepoint": how.savepoint, "drain": how.drain});
    let said = socket::ask(&run.start.socket, &request, STOP).await;
    if said.as_ref().map_or_else(|e| e == socket::CUT, |_| true) {
        // It is at its end: its supervisor is a moment behind. Who is told that it has stopped may start it at once.
        let begun = Instant::now();
        while process::alive(&control) && begun.elapsed() < ENDING {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        looked(app.clone(), t.clone()).await;
    }
    match said {
        Ok(said) => audit::end(&app, operation, true, &stars::hidden(&app, t.id, said.as_str().unwrap_or_default())),
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
            audit::end(&app, operation, false, &stars::hidden(&app, t.id, &e));
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
            Ok(said) => audit::end(&app, operation, true, &stars::hidden(&app, t.id, said.as_str().unwrap_or_default())),
            Err(e) => audit::end(&app, operation, false, &stars::hidden(&app, t.id, &e)),
        }
    });
    Ok(operation)
}

/// A start that was asked for while the job ran.
#[derive(Deserialize, Serialize)]
struct Next {
    start: Start,
    user: String,
    address: String,
}

/// Stops the job and starts it again with the newest version; comes back at once. What is to follow is in the database, so that a console
/// that begins meanwhile does it.
///
/// # Errors
/// It does not run, or may not start from there.
pub fn restart(app: &Arc<App>, v: &Visitor, task: i64, start: Start) -> Result<(), Refusal> {
    check_from(app, task, &start.from)?;
    stop(app, v, task, Stop::default())?;
    let next = Next { start, user: v.user.name.clone(), address: v.address.clone() };
    let text = serde_json::to_string(&next).unwrap_or_default();
    app.store.run(|db| Ok(db.execute("UPDATE tasks SET next = ?1 WHERE id = ?2", params![text, task]).map(drop)?))
}

/// Starts what was to follow. The caller has the turn, and the job has stopped.
pub(super) fn follow(app: &App, job: &Job, t: &Task) -> Result<(), Refusal> {
    let next = app.store.run(|db| first(db, "SELECT next FROM tasks WHERE id = ?1", [t.id], |r| r.get::<_, Option<String>>(0)))?;
    let Some(Next { start, user, address }) = next.flatten().and_then(|text| serde_json::from_str(&text).ok()) else {
        return want(app, t.id, t.wanted);
    };
    match launch(app, job, t, &start, &user) {
        Ok(run) => {
            let what = format!("run {run} of version {} {}", t.version, start.words());
            audit::note(app, &user, &address, Some(t.id), "start", &what);
            Ok(())
        }
        Err(e) => {
            audit::note_failed(app, &user, &address, Some(t.id), "restart", &e.message);
            want(app, t.id, false)
        }
    }
}
