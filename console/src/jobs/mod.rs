//! Jobs: starting, stopping, and what the console does when one dies or stands still.
//!
//! `wanted` of a task is what somebody has asked for, and is in the database before anything is done; what is so is seen from outside (the
//! run's lock, what its supervisor has told, its socket). So a console that is killed at any moment is taken over by the next, which looks
//! and does what is left. Whatever starts or stops a job has its turn; a second start finds the run's lock held.

mod start;
mod stop;
mod watch;

pub use start::{check_from, counts, start};
pub(crate) use start::{command, variables};
pub use stop::{Stop, kill, restart, savepoint, stop};
pub use watch::{recall, watch};

use crate::store::all;
use crate::view::View;
use crate::{App, Refusal};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// How a run was started.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct Start {
    /// `latest`, `scratch`, the number of a checkpoint, or its path.
    pub from: String,
    pub accept_duplicates: bool,
    pub allow_dropped_state: bool,
    /// Files of dead letters, which such a run reads and nothing else.
    pub replay: Vec<PathBuf>,
    /// By the console, as the run before was dead or stood still.
    pub recovery: bool,
    /// The job's socket.
    pub socket: PathBuf,
}

impl Start {
    /// `from latest`.
    pub fn words(&self) -> String {
        if self.replay.is_empty() { format!("from {}", self.from) } else { "of dead letters alone".into() }
    }
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
    /// The last sign of life.
    fresh: Option<Instant>,
    /// Clock ticks that its processes had used then; a job that begins has no other sign of life.
    spent: Option<u64>,
    /// The pause before a restart: its number and when it was first seen.
    pause: Option<(u32, Instant)>,
    stop_asked: bool,
    /// The run whose end is known and seen.
    settled: i64,
    /// Points of charts up to this time are kept.
    saved: i64,
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
