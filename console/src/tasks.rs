//! Tasks: who may see them, their drafts, versions and secrets.

use crate::accounts::Role;
use crate::settings::{MAX_VARIABLES, Settings, check_variable};
use crate::store::{all, first, is_taken};
use crate::web::Visitor;
use crate::{App, Refusal};
use millrace_plan::Confine;
use rusqlite::{Connection, Row, params};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Values of secrets before the present ones that are remembered of a task.
const FORMER: i64 = 100;
/// Longest name of a task, in characters.
const NAME: usize = 80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub id: i64,
    pub team: i64,
    pub team_name: String,
    pub name: String,
    pub created: i64,
    /// 0: none yet.
    pub version: i64,
    pub has_draft: bool,
    /// The job is to run.
    pub wanted: bool,
    /// The newest run; 0: none yet.
    pub run: i64,
    /// It is started again once it has stopped.
    pub follows: bool,
}

const TASK: &str = "SELECT tasks.id, team, teams.name, tasks.name, tasks.created, version, draft IS NOT NULL, wanted, run, next IS NOT NULL
                    FROM tasks JOIN teams ON teams.id = team";

fn task(r: &Row) -> rusqlite::Result<Task> {
    Ok(Task {
        id: r.get(0)?,
        team: r.get(1)?,
        team_name: r.get(2)?,
        name: r.get(3)?,
        created: r.get(4)?,
        version: r.get(5)?,
        has_draft: r.get(6)?,
        wanted: r.get(7)?,
        run: r.get(8)?,
        follows: r.get(9)?,
    })
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Version {
    pub number: i64,
    pub user: String,
    pub time: i64,
    pub note: String,
}

impl App {
    /// The task's folder: its relative paths begin there, and its state lies there.
    pub(crate) fn task_folder(&self, id: i64) -> PathBuf {
        self.store.folder().join("tasks").join(id.to_string())
    }

    /// What the task's job may reach: beside what is allowed to all, the folder of its own, and not what the console keeps of its runs.
    pub(crate) fn confine(&self, id: i64) -> Confine {
        let mut confine = self.options.allow.clone();
        confine.folders.push(self.job_folder(id));
        confine
    }
}

/// The tasks that a visitor may see, by name.
///
/// # Errors
/// The database.
pub fn visible(db: &Connection, v: &Visitor) -> Result<Vec<Task>, Refusal> {
    let sql = format!("{TASK} WHERE ?1 OR team IN (SELECT team FROM members WHERE user = ?2) ORDER BY tasks.name");
    all(db, &sql, params![v.user.role == Role::Admin, v.user.id], task)
}

/// Every task.
///
/// # Errors
/// The database.
pub fn every(db: &Connection) -> Result<Vec<Task>, Refusal> {
    all(db, &format!("{TASK} ORDER BY tasks.id"), [], task)
}

/// A task by its number, whoever asks.
///
/// # Errors
/// There is none.
pub fn by_id(db: &Connection, id: i64) -> Result<Task, Refusal> {
    first(db, &format!("{TASK} WHERE tasks.id = ?1"), [id], task)?.ok_or_else(Refusal::not_found)
}

/// A task for somebody who must have a role. Who is not of its team learns nothing of it.
///
/// # Errors
/// There is none for this visitor, or the role is too small.
pub fn find(app: &App, v: &Visitor, id: i64, role: Role) -> Result<Task, Refusal> {
    let found = app.store.run(|db| {
        let sql = format!("{TASK} WHERE tasks.id = ?1 AND (?2 OR team IN (SELECT team FROM members WHERE user = ?3))");
        first(db, &sql, params![id, v.user.role == Role::Admin, v.user.id], task)
    })?;
    let found = found.ok_or_else(Refusal::not_found)?;
    v.must_be(role)?;
    Ok(found)
}

/// As [`find`], by name.
///
/// # Errors
/// As [`find`].
pub fn find_named(app: &App, v: &Visitor, name: &str, role: Role) -> Result<Task, Refusal> {
    let id = app.store.run(|db| first(db, "SELECT id FROM tasks WHERE name = ?1", [name], |r| r.get(0)))?;
    find(app, v, id.ok_or_else(Refusal::not_found)?, role)
}

/// The settings of a version; None for `version`: the newest.
///
/// # Errors
/// There is no such version.
pub fn settings(db: &Connection, task: i64, version: i64) -> Result<Settings, Refusal> {
    let text = first(db, "SELECT settings FROM versions WHERE task = ?1 AND number = ?2", [task, version], |r| r.get::<_, String>(0))?;
    read(&text.ok_or_else(Refusal::not_found)?)
}

/// What the form shows: the draft, else the newest version.
///
/// # Errors
/// The database.
pub fn draft(db: &Connection, t: &Task) -> Result<Settings, Refusal> {
    let draft = first(db, "SELECT draft FROM tasks WHERE id = ?1", [t.id], |r| r.get::<_, Option<String>>(0))?.flatten();
    match draft {
        Some(text) => read(&text),
        None if t.version == 0 => Ok(Settings::default()),
        None => settings(db, t.id, t.version),
    }
}

fn read(text: &str) -> Result<Settings, Refusal> {
    serde_json::from_str(text).map_err(|e| Refusal::failed(format!("a stored version cannot be read: {e}")))
}

fn written(s: &Settings) -> String {
    serde_json::to_string(s).unwrap_or_default()
}

/// # Errors
/// The database.
pub fn versions(db: &Connection, task: i64) -> Result<Vec<Version>, Refusal> {
    all(db, "SELECT number, user, time, note FROM versions WHERE task = ?1 ORDER BY number DESC", [task], |r| {
        Ok(Version { number: r.get(0)?, user: r.get(1)?, time: r.get(2)?, note: r.get(3)? })
    })
}

/// # Errors
/// It cannot be a name.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let fine = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    match name.trim() == name && !name.is_empty() && name.chars().count() <= NAME && name.chars().all(fine) {
        true => Ok(()),
        false => Err(Refusal::bad(format!("a task's name has 1 to {NAME} letters, digits, blanks and `-_.`"))),
    }
}

/// A new task with a draft.
///
/// # Errors
/// The name is taken, or the visitor does not belong to the team.
pub fn create(app: &App, v: &Visitor, team: i64, name: &str, draft: &Settings) -> Result<i64, Refusal> {
    v.must_be(Role::Editor)?;
    check_name(name)?;
    let id = app.store.run(|db| {
        if !crate::accounts::teams_of(db, &v.user)?.iter().any(|t| t.0 == team) {
            return Err(Refusal::bad("choose one of your teams"));
        }
        let sql = "INSERT INTO tasks (team, name, created, draft) VALUES (?1, ?2, ?3, ?4)";
        let now = app.clock.now();
        db.execute(sql, params![team, name, now, written(draft)]).map_err(|e| name_taken(e, name))?;
        Ok(db.last_insert_rowid())
    })?;
    let folder = app.job_folder(id);
    std::fs::create_dir_all(&folder).map_err(|e| Refusal::failed(format!("the task's folder cannot be made: {e}")))?;
    Ok(id)
}

fn name_taken(e: rusqlite::Error, name: &str) -> Refusal {
    if is_taken(&e) { Refusal::conflict(format!("there is a task `{name}` already")) } else { e.into() }
}

/// Keeps what the form says, whatever it is.
///
/// # Errors
/// The name is taken.
pub fn keep_draft(app: &App, t: &Task, name: &str, draft: &Settings) -> Result<(), Refusal> {
    check_name(name)?;
    app.store.run(|db| {
        db.execute("UPDATE tasks SET name = ?1, draft = ?2 WHERE id = ?3", params![name, written(draft), t.id])
            .map_err(|e| name_taken(e, name))?;
        Ok(())
    })
}

/// Makes the draft a version; its number. The caller has seen that a run would take it.
///
/// # Errors
/// The database.
pub fn publish(app: &App, v: &Visitor, t: &Task, settings: &Settings, note: &str) -> Result<i64, Refusal> {
    let note: String = note.chars().take(200).collect();
    app.store.run(|db| {
        let number: i64 = db.query_row("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE task = ?1", [t.id], |r| r.get(0))?;
        let sql = "INSERT INTO versions (task, number, settings, user, time, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        db.execute(sql, params![t.id, number, written(settings), v.user.name, app.clock.now(), note])?;
        db.execute("UPDATE tasks SET version = ?1, draft = NULL WHERE id = ?2", params![number, t.id])?;
        Ok(number)
    })
}

/// Takes a task and all that the database has of it away; its folder goes too.
///
/// # Errors
/// The database.
pub fn delete(app: &App, t: &Task) -> Result<(), Refusal> {
    app.store.run(|db| Ok(db.execute("DELETE FROM tasks WHERE id = ?1 AND wanted = 0", [t.id])?)).and_then(|n| match n {
        0 => Err(Refusal::conflict("the task's job is to run: stop it first")),
        _ => Ok(()),
    })?;
    app.limits.forget(t.id);
    match std::fs::remove_dir_all(app.task_folder(t.id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Refusal::failed(format!("the task's folder is left behind: {e}"))),
        _ => Ok(()),
    }
}

/// The names of a task's secrets and when they were set. Their values leave the database for the job alone.
///
/// # Errors
/// The database.
pub fn secret_names(db: &Connection, task: i64) -> Result<Vec<(String, i64)>, Refusal> {
    all(db, "SELECT name, time FROM secrets WHERE task = ?1 ORDER BY name", [task], |r| Ok((r.get(0)?, r.get(1)?)))
}

/// With their values: for lint and the job's environment.
///
/// # Errors
/// The database, or one of them was tampered with.
pub fn secrets(app: &App, db: &Connection, task: i64) -> Result<BTreeMap<String, String>, Refusal> {
    let sql = "SELECT name, sealed FROM secrets WHERE task = ?1";
    let rows = all(db, sql, [task], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?)))?;
    let open = |(name, sealed): (String, Vec<u8>)| match app.vault.open_value(task, &name, &sealed) {
        Some(value) => Ok((name, value)),
        None => Err(Refusal::conflict(format!("the secret `{name}` cannot be opened: set it again"))),
    };
    rows.into_iter().map(open).collect()
}

/// The values that secrets had before: for starring alone.
///
/// # Errors
/// The database, or one of them was tampered with.
pub fn former_secrets(app: &App, db: &Connection, task: i64) -> Result<Vec<String>, Refusal> {
    let sql = "SELECT name, sealed FROM former_secrets WHERE task = ?1";
    let rows = all(db, sql, [task], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?)))?;
    let tampered = || Refusal::conflict("an older secret cannot be opened");
    rows.into_iter().map(|(name, sealed)| app.vault.open_value(task, &name, &sealed).ok_or_else(tampered)).collect()
}

/// Sets or, with None, deletes a secret.
///
/// # Errors
/// The name is none, or there would be too much.
pub fn set_secret(app: &App, t: &Task, name: &str, value: Option<&str>) -> Result<(), Refusal> {
    check_variable(name)?;
    app.store.run(|db| {
        // What a job has said stays on its disk, with the value that it had then.
        let sql = "INSERT INTO former_secrets (task, name, sealed) SELECT task, name, sealed FROM secrets
                   WHERE task = ?1 AND name = ?2 AND sealed IS NOT NULL";
        db.execute(sql, params![t.id, name])?;
        let sql = "DELETE FROM former_secrets WHERE task = ?1 AND id NOT IN
                   (SELECT id FROM former_secrets WHERE task = ?1 ORDER BY id DESC LIMIT ?2)";
        db.execute(sql, params![t.id, FORMER])?;
        match value {
            None => db.execute("DELETE FROM secrets WHERE task = ?1 AND name = ?2", params![t.id, name])?,
            Some(value) => {
                let sql = "INSERT INTO secrets (task, name, value, sealed, time) VALUES (?1, ?2, '', ?3, ?4)
                           ON CONFLICT DO UPDATE SET sealed = excluded.sealed, time = excluded.time";
                db.execute(sql, params![t.id, name, app.vault.seal(t.id, name, value)?, app.clock.now()])?
            }
        };
        fits(&draft(db, t)?.variables, &secrets(app, db, t.id)?)
    })
}

/// # Errors
/// Variables and secrets are too many for the job's environment.
pub fn fits(variables: &BTreeMap<String, String>, secrets: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let size: usize = variables.iter().chain(secrets).map(|(k, v)| k.len() + 2 * v.len() + 8).sum();
    match size <= MAX_VARIABLES {
        true => Ok(()),
        false => Err(Refusal::bad(format!("variables and secrets have at most {} KiB in all", MAX_VARIABLES >> 10))),
    }
}

/// The tags of the newest version or, without one, of the draft.
///
/// # Errors
/// The database.
pub fn tags(db: &Connection, t: &Task) -> Result<Vec<String>, Refusal> {
    let sql = "SELECT coalesce((SELECT settings ->> 'tags' FROM versions WHERE task = ?1 AND number = ?2),
                               (SELECT draft ->> 'tags' FROM tasks WHERE id = ?1), '[]')";
    let text = first(db, sql, [t.id, t.version], |r| r.get::<_, String>(0))?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}
