//! What is asked of a job that runs: to stop, to save itself; and its end by force.

use super::{Start, check_from, runs, start};
use crate::accounts::Role;
use crate::process;
use crate::tasks::{self, Task};
use crate::web::Visitor;
use crate::{App, Refusal, audit, socket};
use rusqlite::params;
use rustix::process::Signal;
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
    app.jobs.of(task).lock().stop_asked = true;
    tokio::spawn(stopped(app.clone(), t, how, operation));
    Ok(operation)
}

fn want(app: &App, task: i64, wanted: bool) -> Result<(), Refusal> {
    app.store.run(|db| Ok(db.execute("UPDATE tasks SET wanted = ?1 WHERE id = ?2", params![wanted, task]).map(drop)?))
}

/// How long a job whose socket has gone may take to be gone itself.
const ENDING: Duration = Duration::from_secs(5);

pub(super) async fn stopped(app: Arc<App>, t: Task, how: Stop, operation: i64) {
    let control = app.control(t.id);
    let newest = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()));
    let Ok(Some(run)) = newest else { return audit::end(&app, operation, false, "the run is not known") };
    let request = json!({"command": "stop", "savepoint": how.savepoint, "drain": how.drain});
    let said = socket::ask(&run.start.socket, &request, STOP).await;
    if said.as_ref().is_err_and(|e| e == socket::CUT) {
        // It is at its end: its supervisor is a moment behind.
        let begun = Instant::now();
        while process::alive(&control) && begun.elapsed() < ENDING {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    match said {
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
/// It does not run, or may not start from there.
pub fn restart(app: &Arc<App>, v: &Visitor, task: i64, from: Start) -> Result<(), Refusal> {
    check_from(app, task, &from.from)?;
    stop(app, v, task, Stop::default())?;
    let (app, v) = (app.clone(), v.clone());
    tokio::spawn(async move {
        let begun = Instant::now();
        while process::alive(&app.control(task)) && begun.elapsed() < STOP {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if let Err(e) = start(&app, &v, task, from).await {
            audit::note_failed(&app, &v.user.name, &v.address, Some(task), "restart", &e.message);
        }
    });
    Ok(())
}
