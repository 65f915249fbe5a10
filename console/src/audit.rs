//! The operation log: who did what, when, from where, and how it ended.

use crate::store::{all, first};
use crate::{App, Refusal};
use rusqlite::{Connection, Row, params};
use schemars::JsonSchema;
use serde::Serialize;

/// Longest detail, in characters.
const DETAIL: usize = 1000;

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Operation {
    pub id: i64,
    pub time: i64,
    pub user: String,
    pub address: String,
    pub task: Option<i64>,
    pub action: String,
    pub detail: String,
    /// `pending`, `done` or `failed`.
    pub result: String,
}

/// Notes what is done. A log that cannot be written is told in the console's own.
pub fn note(app: &App, user: &str, address: &str, task: Option<i64>, action: &str, detail: &str) {
    write(app, user, address, task, action, detail, "done");
}

pub fn note_failed(app: &App, user: &str, address: &str, task: Option<i64>, action: &str, detail: &str) {
    write(app, user, address, task, action, detail, "failed");
}

/// Notes what has begun; its number, for [`end`].
pub fn begin(app: &App, user: &str, address: &str, task: Option<i64>, action: &str, detail: &str) -> i64 {
    write(app, user, address, task, action, detail, "pending")
}

/// Notes how it ended.
pub fn end(app: &App, id: i64, done: bool, detail: &str) {
    let detail: String = detail.chars().take(DETAIL).collect();
    let result = if done { "done" } else { "failed" };
    let sql = "UPDATE operations SET result = ?1, detail = trim(detail || ' ' || ?2) WHERE id = ?3";
    if let Err(e) = app.store.run(|db| Ok(db.execute(sql, params![result, detail, id])?)) {
        tracing::error!("the end of operation {id} is not in the log: {}", e.message);
    }
}

fn write(app: &App, user: &str, address: &str, task: Option<i64>, action: &str, detail: &str, result: &str) -> i64 {
    let detail: String = detail.chars().take(DETAIL).collect();
    let user: String = user.chars().take(100).collect();
    let sql = "INSERT INTO operations (time, user, address, team, task, action, detail, result)
               VALUES (?1, ?2, ?3, (SELECT team FROM tasks WHERE id = ?4), ?4, ?5, ?6, ?7)";
    let done = app.store.run(|db| {
        db.execute(sql, params![app.clock.now(), user, address, task, action, detail, result])?;
        Ok(db.last_insert_rowid())
    });
    done.unwrap_or_else(|e| {
        tracing::error!("operation {action} of {user} is not in the log: {}", e.message);
        0
    })
}

/// What a console that ended left open.
///
/// # Errors
/// The database.
pub fn settle(db: &Connection) -> Result<(), Refusal> {
    let sql = "UPDATE operations SET result = 'failed', detail = trim(detail || ' the console ended before it was done')
               WHERE result = 'pending'";
    Ok(db.execute(sql, []).map(drop)?)
}

/// The newest operations first: of a task, of the teams of a user, or (None, None) all.
///
/// # Errors
/// The database.
pub fn newest(db: &Connection, task: Option<i64>, member: Option<i64>, most: u32) -> Result<Vec<Operation>, Refusal> {
    let sql = "SELECT id, time, user, address, task, action, detail, result FROM operations
               WHERE (?1 IS NULL OR task = ?1) AND (?2 IS NULL OR team IN (SELECT team FROM members WHERE user = ?2))
               ORDER BY id DESC LIMIT ?3";
    all(db, sql, params![task, member, most], operation)
}

/// # Errors
/// The database.
pub fn one(db: &Connection, id: i64) -> Result<Option<Operation>, Refusal> {
    first(db, "SELECT id, time, user, address, task, action, detail, result FROM operations WHERE id = ?1", [id], operation)
}

fn operation(r: &Row) -> rusqlite::Result<Operation> {
    Ok(Operation {
        id: r.get(0)?,
        time: r.get(1)?,
        user: r.get(2)?,
        address: r.get(3)?,
        task: r.get(4)?,
        action: r.get(5)?,
        detail: r.get(6)?,
        result: r.get(7)?,
    })
}
