//! Looking after jobs: what is to be seen of each, and what is done when one is dead or stands still.

use super::start::launch;
use super::stop::{follow, stopped};
use super::{Job, Start, Stop, runs};
use crate::process::{self, Told};
use crate::store::{all, first};
use crate::tasks::{self, Task};
use crate::view::{HISTORY, Point, State};
use crate::{App, Refusal, audit, socket, stars};
use rusqlite::params;
use rustix::process::Signal;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A job that shows no sign of life for so long is restarted.
const STALLED: Duration = Duration::from_secs(10);
/// How long a job may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two times that the points of charts are kept.
const SAVED: Duration = Duration::from_secs(5);
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// So many dead jobs of a task are restarted within [`WINDOW`]; then somebody must look.
const RECOVERIES: i64 = 3;
const WINDOW: i64 = 600_000_000;

/// Looks after all jobs, again and again.
pub async fn watch(app: Arc<App>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saved = Instant::now();
    loop {
        every.tick().await;
        let Ok(all) = app.store.run(tasks::every) else { continue };
        futures::future::join_all(all.iter().map(|t| look(&app, t))).await;
        if saved.elapsed() >= SAVED {
            saved = Instant::now();
            if let Err(e) = save(&app, &all) {
                tracing::error!("the figures of charts cannot be kept: {}", e.message);
            }
        }
    }
}

/// Keeps the points of all charts for the next console.
fn save(app: &App, all: &[Task]) -> Result<(), Refusal> {
    let mut new = vec![];
    for t in all {
        let job = app.jobs.of(t.id);
        let mut inner = job.lock();
        let since = inner.saved;
        let fresh: Vec<(i64, String)> = inner.view.history.iter().filter(|p| p.time > since).map(|p| (p.time, p.text())).collect();
        inner.saved = fresh.last().map_or(since, |p| p.0);
        new.extend(fresh.into_iter().map(|(time, text)| (t.id, time, text)));
    }
    if new.is_empty() {
        return Ok(());
    }
    app.store.run(|db| {
        // A task may have been deleted meanwhile.
        let sql = "INSERT OR REPLACE INTO points (task, time, point) SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM tasks WHERE id = ?1)";
        let mut insert = db.prepare_cached(sql)?;
        for (task, time, text) in &new {
            insert.execute(params![task, time, text])?;
        }
        let old = app.clock.now() - HISTORY as i64 * 1_000_000;
        Ok(db.execute("DELETE FROM points WHERE time < ?1", [old]).map(drop)?)
    })
}

/// What an earlier console has kept for the charts.
pub fn recall(app: &App) -> Result<(), Refusal> {
    let sql = "SELECT task, point FROM points ORDER BY task, time";
    let points = app.store.run(|db| all(db, sql, [], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?))))?;
    for (task, text) in points {
        let Some(point) = Point::read(&text) else { continue };
        let job = app.jobs.of(task);
        let mut inner = job.lock();
        inner.saved = point.time;
        inner.view.history.push_back(point);
    }
    Ok(())
}

/// As [`look`], for whoever that itself starts: its type says that it may change threads.
pub(super) fn looked(app: Arc<App>, t: Task) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { look(&app, &t).await })
}

/// Looks at one job, and does what is to be done.
async fn look(app: &Arc<App>, t: &Task) {
    let job = app.jobs.of(t.id);
    // Who has the turn knows better.
    let Ok(_turn) = job.turn.try_lock() else { return };
    let control = app.control(t.id);
    if t.run == 0 || (!t.wanted && !t.follows && job.lock().settled == t.run && !process::alive(&control)) {
        return crate::alarms::look(app, t, &job.view());
    }
    let Ok(t) = app.store.run(|db| tasks::by_id(db, t.id)) else { return };
    let mut told = process::told(&control).filter(|told| told.run == t.run);
    if let Some(reason) = told.as_mut().and_then(|told| told.reason.as_mut()) {
        // Before it is kept or told to anybody.
        *reason = stars::hidden(app, t.id, reason);
    }
    if let Some(child) = &mut job.lock().child {
        // Reaped; what it says by its end it has also told.
        let _ = child.try_wait();
    }
    let done = match process::alive(&control) {
        true => lives(app, &job, &t, told).await,
        false => gone(app, &job, &t, told).and_then(|()| if t.follows && !t.wanted { follow(app, &job, &t) } else { Ok(()) }),
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
        Ok(_) => socket::figures(&run.start.socket, PATIENCE).await.ok(),
        Err(_) => None,
    };
    let (now, clock) = (Instant::now(), app.clock.now());
    let told = told.unwrap_or_default();
    let stalled = {
        let mut inner = job.lock();
        let pausing = status.is_err() && told.phase == "waiting";
        inner.pause = match inner.pause {
            Some((n, since)) if pausing && n == told.restarts => Some((n, since)),
            _ if pausing => Some((told.restarts, now)),
            _ => None,
        };
        let pause = Duration::try_from_secs_f64(told.after_seconds.unwrap_or_default()).unwrap_or_default();
        // One that answers lives as long as its workers take steps; one that begins, as long as it works.
        let spent = process::spent(&told).filter(|_| status.is_err() && told.phase == "starting");
        let begins = spent.is_some() && spent != std::mem::replace(&mut inner.spent, spent);
        let step = status.as_ref().ok().map(|s| s["last_step_seconds"].as_f64().unwrap_or_default());
        let step = step.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default());
        if let Some(at) = step.and_then(|age| now.checked_sub(age)) {
            inner.fresh = inner.fresh.max(Some(at));
        } else if begins || inner.pause.is_some_and(|(_, since)| since.elapsed() < pause) {
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
        Ok(status) => inner.view.seen(status, figures, t.wanted, &told, clock),
        Err(_) if !t.wanted => inner.view.say(State::Stopping, "", clock),
        Err(_) if told.phase == "waiting" => {
            inner.view.restarts = told.restarts;
            inner.view.say(State::Restarting, told.reason.as_deref().unwrap_or_default(), clock);
        }
        // It has answered before: until it counts as stalled, nothing else is known of it.
        Err(_) if matches!(inner.view.state, State::Running | State::Backpressured | State::Blocked) && told.phase == "running" => {}
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
        if t.wanted && exit > 128 && told.of == Some(0) && !told.limit {
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
    let ended = job.lock().child.as_mut().and_then(|c| c.try_wait().ok().flatten());
    match (&told, ended) {
        (None, Some(status)) if status.code().is_some() => {
            let exit = status.code().and_then(|c| c.try_into().ok());
            settle(app, job, t.id, run.number, "failed", exit, "it ended before it began; the log says why")
        }
        _ => dead(app, job, t, told.as_ref(), "its processes were killed"),
    }
}

/// It is gone without a word: started again from its last checkpoint, unless that has not helped before.
fn dead(app: &App, job: &Job, t: &Task, told: Option<&Told>, why: &str) -> Result<(), Refusal> {
    let clock = app.clock.now();
    let Some(run) = app.store.run(|db| Ok(runs(db, t.id, 1)?.pop()))? else { return Ok(()) };
    if !t.wanted {
        return settle(app, job, t.id, run.number, "stopped", None, why);
    }
    if !run.start.replay.is_empty() {
        let why = format!("{why}: some of the dead letters may be written; replay them again if none is");
        return settle(app, job, t.id, run.number, "operator", None, &why);
    }
    let sql = "SELECT count(*) FROM runs WHERE task = ?1 AND time BETWEEN ?2 AND ?3 AND start ->> 'recovery'";
    let recent: i64 = app.store.run(|db| Ok(first(db, sql, [t.id, clock - WINDOW, clock], |r| r.get(0))?.unwrap_or_default()))?;
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

pub(super) fn settle(app: &App, job: &Job, task: i64, run: i64, outcome: &str, exit: Option<u8>, reason: &str) -> Result<(), Refusal> {
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
