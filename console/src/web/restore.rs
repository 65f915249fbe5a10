//! Starts from a chosen checkpoint, and rollbacks: what they would do is said before, in the words of the command line.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, csrf, page as shell};
use crate::accounts::Role;
use crate::jobs::{self, Start};
use crate::look::{self, Foreseen};
use crate::tasks::{self, Task};
use crate::{App, Refusal, process};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Chosen {
    from: String,
}

/// What a start from a checkpoint would do.
pub async fn page(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>, Query(chosen): Query<Chosen>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    let start = Start { from: chosen.from.trim().into(), ..Start::default() };
    let settings = app.store.run(|db| tasks::settings(db, id, t.version))?;
    let seen = look::foresee(&app, &t, &settings, &start).await?;
    shown(&app, &l, &v, &t, &start, &seen)
}

/// The job runs, and publishes more than the checkpoint knows before it is stopped for this start.
fn goes_on(app: &App, t: &Task, start: &Start) -> bool {
    !matches!(start.from.as_str(), "latest" | "scratch") && process::alive(&app.control(t.id))
}

fn shown(app: &App, l: &Look, v: &Visitor, t: &Task, start: &Start, seen: &Foreseen) -> Done<Markup> {
    let goes_on = goes_on(app, t, start);
    let twice = seen.wants("--accept-duplicates") || start.accept_duplicates || goes_on;
    let dropped = seen.wants("--allow-dropped-state") || start.allow_dropped_state;
    // What no flag helps against is refused for good.
    let never = seen.refused.is_some() && !twice && !dropped;
    Ok(shell(
        l,
        Some(v),
        &format!("{}: {}", t.name, l.t("Restore here")),
        html! {
            p { a href=(format!("/tasks/{}", t.id)) { (t.name) } " · " a href=(format!("/tasks/{}/checkpoints", t.id)) { (l.t("Checkpoints and savepoints")) } }
            h2 { (l.t("What a start from there does")) ": " code { (start.from) } }
            (foreseen(seen))
            @if process::alive(&app.control(t.id)) { p class="note" { (l.t("The job runs: it is stopped first, with a last checkpoint.")) } }
            @if goes_on { p class="note" id="goes-on" { (l.t("What it publishes until then is published once more.")) } }
            @if !never {
                form method="post" action=(format!("/tasks/{}/restore", t.id)) {
                    (csrf(v))
                    input type="hidden" name="from" value=(start.from);
                    @if twice { label class="check" { input type="checkbox" name="accept_duplicates" value="1" checked[start.accept_duplicates] required; (l.t("publish twice what was published since")) } }
                    @if dropped { label class="check" { input type="checkbox" name="allow_dropped_state" value="1" checked[start.allow_dropped_state] required; (l.t("forget the state of parts that are gone")) } }
                    p { button class="main" { (l.t("Start from there")) } }
                }
            }
        },
    ))
}

/// The words of the command line.
pub fn foreseen(seen: &Foreseen) -> Markup {
    html! {
        @if !seen.said.is_empty() { pre id="foreseen" tabindex="0" { @for s in &seen.said { (s) "\n" } } }
        @if let Some(f) = &seen.refused { p class="problem" role="alert" id="refused" {
            (f.message)
            @if let Some(d) = &f.detail { "\n" (d) }
            @if let Some(h) = &f.hint { "\n" (h) }
        } }
    }
}

/// Starts from there, if a start would not be refused; a job that runs is stopped first.
pub async fn restore(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Response> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    let start = Start {
        from: form.trimmed("from").into(),
        accept_duplicates: form.has("accept_duplicates"),
        allow_dropped_state: form.has("allow_dropped_state"),
        ..Start::default()
    };
    let settings = app.store.run(|db| tasks::settings(db, id, t.version))?;
    let seen = look::foresee(&app, &t, &settings, &start).await?;
    if seen.refused.is_some() || (goes_on(&app, &t, &start) && !start.accept_duplicates) {
        return Ok((StatusCode::CONFLICT, shown(&app, &l, &v, &t, &start, &seen)?).into_response());
    }
    match process::alive(&app.control(id)) {
        true => jobs::restart(&app, &v, id, start)?,
        false => drop(jobs::start(&app, &v, id, start).await?),
    }
    Ok(Redirect::to(&format!("/tasks/{id}")).into_response())
}

/// What a rollback changes, and whether state survives it.
pub async fn rollback_page(State(app): State<Arc<App>>, l: Look, v: Visitor, Path((id, number)): Path<(i64, i64)>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Editor)?;
    let (now, old) = app.store.run(|db| Ok((tasks::settings(db, id, t.version)?, tasks::settings(db, id, number)?)))?;
    let (diff, survives) = look::diff(&app, &t, &now, &old).await?;
    let next = Start { from: "latest".into(), ..Start::default() };
    // A job without checkpoints has nothing to go on from.
    let seen = look::foresee(&app, &t, &old, &next).await.ok();
    Ok(shell(
        &l,
        Some(&v),
        &format!("{}: {} {number}", t.name, l.t("Roll back to version")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            h2 { (l.t("What changes, and whether state survives")) }
            pre id="diff" tabindex="0" { (diff) }
            @if !survives { p class="problem" role="alert" id="lost" { (l.t("State does not survive this rollback: a start from the latest checkpoint is refused. Start from scratch, or from a checkpoint that the older version has made.")) } }
            @if let Some(seen) = &seen {
                h2 { (l.t("What the next start from the latest checkpoint does")) }
                (foreseen(seen))
            }
            form method="post" action=(format!("/tasks/{id}/versions/{number}/rollback")) {
                (csrf(&v))
                p class="note" { (l.t("The settings of that version become the newest one. A running job goes on with its own version until it is started again.")) }
                button class="main" { (l.t("Roll back to this")) }
            }
        },
    ))
}

/// The settings of an older version become the newest one.
pub async fn rollback(State(app): State<Arc<App>>, v: Visitor, Path((id, number)): Path<(i64, i64)>) -> Done<Redirect> {
    let t = tasks::find(&app, &v, id, Role::Editor)?;
    let old = app.store.run(|db| tasks::settings(db, id, number))?;
    let made = super::edit::publish(&app, &v, &t, &old, &format!("back to version {number}"), vec![]).await;
    made.map_err(|problems| Refusal::conflict(problems.join("\n")))?;
    Ok(Redirect::to(&format!("/tasks/{id}")))
}
