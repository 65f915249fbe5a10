//! One row of a store, so that an alert's link leads to its record: of stores that an administrator has allowed, for members of the team
//! whose task has them.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, button, csrf, page as shell};
use crate::accounts::Role;
use crate::stars::{starred, values};
use crate::store::{all, first};
use crate::tasks::{self, Task};
use crate::{App, Refusal, audit, look};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;
use maud::{Markup, html};
use rusqlite::params;
use serde_json::{Map, Value};
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

/// Longest key, bytes.
const MAX_KEY: usize = 4096;

/// The row of an allowed store; None: it has none with that key.
///
/// # Errors
/// The store is not allowed, or not for this visitor, or does not answer.
pub async fn row(app: &Arc<App>, v: &Visitor, store: &str, key: &str) -> Done<(Task, Option<Map<String, Value>>)> {
    let allowed = app.store.run(|db| {
        first(db, "SELECT task, store FROM records WHERE name = ?1", [store], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))
    })?;
    let refused =
        || Refusal::forbidden(format!("rows of the store `{store}` are not shown to you: an administrator must allow it first (Stores)"));
    let (id, name) = allowed.ok_or_else(refused)?;
    // Who is of another team does not learn that there is one of that name.
    let t = tasks::find(app, v, id, Role::Viewer).map_err(|e| if e.status == StatusCode::NOT_FOUND { refused() } else { e })?;
    if key.len() > MAX_KEY || key.contains('\0') || name.starts_with('-') {
        return Err(Refusal::bad(format!("a key has at most {MAX_KEY} bytes, and no NUL")));
    }
    let settings = app.store.run(|db| tasks::settings(db, id, t.version))?;
    let file = look::write(app, &t, &settings)?;
    let path = file.path.to_string_lossy().into_owned();
    let said = look::ask(app, &t, &settings, &["record", "--json", "--", &path, &name, key], false).await?;
    let mut answer: Value = serde_json::from_str(&said.out).map_err(|_| said.refusal())?;
    match answer["row"].take() {
        Value::Object(row) => Ok((t, Some(row))),
        _ => Ok((t, None)),
    }
}

pub async fn page(State(app): State<Arc<App>>, l: Look, v: Visitor, Path((store, key)): Path<(String, String)>) -> Done<Markup> {
    let (t, row) = row(&app, &v, &store, &key).await?;
    let secrets = values(&app, t.id)?;
    let text = |value: &Value| starred(&value.as_str().map_or_else(|| value.to_string(), String::from), &secrets);
    Ok(shell(
        &l,
        Some(&v),
        &format!("{store}: {key}"),
        html! {
            p { (l.t("Task")) ": " a href=(format!("/tasks/{}", t.id)) { (t.name) } }
            @match &row {
                None => p class="problem" role="alert" { (l.t("The store has no row with this key.")) },
                Some(row) => div class="scroll" tabindex="0" role="region" aria-label=(l.t("Record")) { table id="record" {
                    thead { tr { th { (l.t("Field")) } th { (l.t("Value")) } } }
                    tbody { @for (name, value) in row { tr { td { code { (name) } } td { @if value.is_null() { "–" } @else { (text(value)) } } } } }
                } },
            }
        },
    ))
}

pub async fn stores(State(app): State<Arc<App>>, l: Look, v: Visitor) -> Done<Markup> {
    v.must_be(Role::Admin)?;
    let (allowed, tasks) = app.store.run(|db| {
        let sql = "SELECT records.name, task, tasks.name, store FROM records JOIN tasks ON tasks.id = task ORDER BY records.name";
        let row = |r: &rusqlite::Row| Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?, r.get::<_, String>(3)?));
        Ok((all(db, sql, [], row)?, tasks::visible(db, &v)?))
    })?;
    Ok(shell(
        &l,
        Some(&v),
        l.t("Stores"),
        html! {
            p class="note" { (l.t("Of the stores below one row at a time is shown at /records/STORE/KEY, to members of the team whose task has the store. Put such a link into an alert.")) }
            @if !allowed.is_empty() { div class="scroll" tabindex="0" role="region" aria-label=(l.t("Stores")) { table {
                thead { tr { th { (l.t("Name")) } th { (l.t("Task")) } th { (l.t("Store of its topology")) } th {} } }
                tbody { @for (name, id, task, store) in &allowed { tr {
                    td { code { "/records/" (name) "/…" } } td { a href=(format!("/tasks/{id}")) { (task) } } td { (store) }
                    td { (button(&v, &format!("/stores/{name}/delete"), "danger", l.t("Forbid"))) }
                } } }
            } } }
            h2 { (l.t("Allow a store")) }
            form method="post" action="/stores" class="row" {
                (csrf(&v))
                label { (l.t("Task")) select name="task" required { @for t in &tasks { option value=(t.id) { (t.name) } } } }
                label { (l.t("Store of its topology")) input name="store" required maxlength="80"; }
                label { (l.t("Name in links")) input name="name" required maxlength="80" pattern="[A-Za-z0-9_.\\-]+"; }
                button { (l.t("Allow")) }
            }
        },
    ))
}

pub async fn allow(State(app): State<Arc<App>>, v: Visitor, form: Form) -> Done<Redirect> {
    v.must_be(Role::Admin)?;
    let (name, store) = (form.trimmed("name"), form.trimmed("store"));
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 80 || !name.chars().all(fine) || name.starts_with('.') {
        return Err(Refusal::bad("a name in links has 1 to 80 letters, digits and `-_.`"));
    }
    let id: i64 = form.trimmed("task").parse().map_err(|_| Refusal::bad("choose a task"))?;
    let t = tasks::find(&app, &v, id, Role::Admin)?;
    if t.version == 0 {
        return Err(Refusal::conflict("the task has a draft only: save it first"));
    }
    let (settings, secrets) = app.store.run(|db| Ok((tasks::settings(db, id, t.version)?, tasks::secrets(&app, db, id)?)))?;
    let planned = settings.plan(&secrets, &app.job_folder(id), app.confine(id));
    let known: Vec<String> = planned.graph.rest["stores"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    if !known.iter().any(|k| k == store) {
        let has = if known.is_empty() { "it has none".to_string() } else { format!("it has {}", known.join(", ")) };
        return Err(Refusal::bad(format!("the topology of `{}` has no store `{store}`: {has}", t.name)));
    }
    app.store.run(|db| {
        let sql = "INSERT INTO records (name, task, store) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET task = excluded.task, store = excluded.store";
        Ok(db.execute(sql, params![name, id, store]).map(drop)?)
    })?;
    audit::note(&app, &v.user.name, &v.address, Some(id), "allow-store", &format!("{store} as {name}"));
    Ok(Redirect::to("/stores"))
}

pub async fn forbid(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Redirect> {
    v.must_be(Role::Admin)?;
    app.store.run(|db| Ok(db.execute("DELETE FROM records WHERE name = ?1", [&name]).map(drop)?))?;
    audit::note(&app, &v.user.name, &v.address, None, "forbid-store", &name);
    Ok(Redirect::to("/stores"))
}
