//! One task: what its job does, its log, graph, charts, checkpoints, versions and operations; and the buttons.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, button, csrf, page as shell, time, word};
use super::tasks::state;
use crate::accounts::Role;
use crate::jobs::{self, Start, Stop};
use crate::settings;
use crate::tasks::{self, Task};
use crate::view::{Point, View};
use crate::{App, Refusal, alarms, audit, checkpoints, draw};
use axum::extract::{Path, Query, State};
use axum::response::Redirect;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

/// Operations that a page shows.
const OPERATIONS: u32 = 100;

pub async fn page(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Viewer)?;
    let view = app.jobs.of(id).view();
    let (runs, versions) = app.store.run(|db| Ok((jobs::runs(db, id, 20)?, tasks::versions(db, id)?)))?;
    let settings = app.store.run(|db| tasks::draft(db, &t))?;
    Ok(shell(
        &l,
        Some(&v),
        &t.name,
        html! {
            p { (t.team_name) " · " @for tag in &settings.tags { span class="tag" { (tag) } } " " (settings.description) }
            @if t.has_draft { p class="note" { (l.t("There is a draft that is not saved.")) " " a href=(format!("/tasks/{id}/edit")) { (l.t("Edit")) } } }
            (buttons(&l, &v, &t))
            div data-live=(format!("/tasks/{id}/live")) data-every="1000" id="live" { (live(&app, &l, &v, &t, &view)?) }
            h2 { (l.t("Log")) }
            pre class="log" data-log=(format!("/tasks/{id}/log")) tabindex="0" role="log" aria-label=(l.t("Log")) {}
            p { a href=(format!("/tasks/{id}/log/file")) { (l.t("Download the log")) } }
            h2 { (l.t("Checkpoints and savepoints")) }
            p { a class="button" href=(format!("/tasks/{id}/checkpoints")) { (l.t("Show and restore")) } " " a class="button" href=(format!("/tasks/{id}/rejects")) { (l.t("Dead letters")) } }
            h2 { (l.t("Runs")) }
            div class="scroll" tabindex="0" { table {
                thead { tr { th class="n" { (l.t("Run")) } th class="n" { (l.t("Version")) } th { (l.t("From")) } th { (l.t("By")) } th { (l.t("Begun")) } th { (l.t("Ended")) } th { (l.t("How")) } } }
                tbody { @for r in &runs { tr {
                    td class="n" { (r.number) } td class="n" { (r.version) } td { (r.start.from) @if r.start.recovery { " (" (l.t("recovery")) ")" } } td { (r.user) }
                    td { (time(r.time)) } td { @if let Some(e) = r.ended { (time(e)) } }
                    td { (word(&l, r.outcome.as_deref().unwrap_or("–"))) @if let Some(e) = r.exit { " (" (e) ")" } " " (r.reason.as_deref().unwrap_or_default()) }
                } } }
            } }
            h2 { (l.t("Versions")) }
            div class="scroll" tabindex="0" { table {
                thead { tr { th class="n" { (l.t("Version")) } th { (l.t("Time")) } th { (l.t("By")) } th { (l.t("What was changed")) } th {} } }
                tbody { @for x in &versions { tr {
                    td class="n" { (x.number) @if x.number == t.version { " ●" } } td { (time(x.time)) } td { (x.user) } td { (x.note) }
                    td {
                        @if x.number > 1 { a href=(format!("/tasks/{id}/versions/{}", x.number)) { (l.t("Differences")) } " " }
                        @if x.number != t.version && v.user.role >= Role::Editor { a class="button" href=(format!("/tasks/{id}/versions/{}/rollback", x.number)) { (l.t("Roll back to this")) } }
                    }
                } } }
            } }
            h2 { (l.t("Operations")) }
            (operations(&app, &l, Some(id), &v)?)
        },
    ))
}

fn buttons(l: &Look, v: &Visitor, t: &Task) -> Markup {
    let to = |what: &str| format!("/tasks/{}/{what}", t.id);
    html! { div class="row" {
        @if v.user.role >= Role::Operator {
            form method="post" action=(to("start")) class="row" {
                (csrf(v))
                label { (l.t("Start from")) input name="from" value="latest" list="from"; }
                datalist id="from" { option value="latest"; option value="scratch"; }
                label class="check" { input type="checkbox" name="accept_duplicates" value="1"; (l.t("publish twice what was published since")) }
                label class="check" { input type="checkbox" name="allow_dropped_state" value="1"; (l.t("forget the state of parts that are gone")) }
                button class="main" { (l.t("Start")) }
            }
            (button(v, &to("stop"), "", l.t("Stop")))
            form method="post" action=(to("stop")) class="inline" { (csrf(v)) input type="hidden" name="savepoint" value="1"; button { (l.t("Stop with a savepoint")) } }
            (button(v, &to("savepoint"), "", l.t("Savepoint")))
            (button(v, &to("restart"), "", l.t("Restart")))
            form method="post" action=(to("kill")) class="inline" data-ask=(l.t("End the job by force, without a checkpoint?")) { (csrf(v)) button class="danger" { (l.t("Kill")) } }
            (button(v, &to("alarms/test"), "quiet", l.t("Test the alarms")))
        }
        @if v.user.role >= Role::Editor {
            a class="button" href=(to("edit")) { (l.t("Edit")) }
            a class="button" href=(format!("/tasks/new?copy={}", t.id)) { (l.t("Copy")) }
            form method="post" action=(to("delete")) class="inline" data-ask=(l.t("Delete the task with all its versions, its checkpoints and its files?")) { (csrf(v)) button class="danger" { (l.t("Delete")) } }
        }
    } }
}

pub async fn fragment(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Viewer)?;
    let view = app.jobs.of(id).view();
    live(&app, &l, &v, &t, &view)
}

/// What changes while one looks.
fn live(app: &App, l: &Look, v: &Visitor, t: &Task, view: &View) -> Done<Markup> {
    let last = view.last();
    let firing = alarms::firing(app, t.id)?;
    let picture = picture(app, t)?;
    let points: Vec<Point> = thinned(view);
    let f = |value: fn(&Point) -> f64, shown: fn(f64) -> String| last.as_ref().map_or("–".into(), |p| shown(value(p)));
    let taps = view.state.lives() && v.user.role >= Role::Operator;
    let tap = taps.then(|| format!("/tasks/{}/tap", t.id));
    let failed = view.figures.sum("millrace_checkpoints_total", &[("result", "failed")]);
    let rows: [(&str, String); 10] = [
        (l.t("Up"), if view.state.lives() { draw::seconds(view.uptime) } else { "–".into() }),
        (l.t("In/s"), f(|p| p.records_in, draw::count)),
        (l.t("Out/s"), f(|p| p.records_out, draw::count)),
        (l.t("Rejected/s"), f(|p| p.rejected, draw::count)),
        (l.t("Lag"), f(|p| p.lag, draw::count)),
        (l.t("Delay"), f(|p| p.delay, draw::seconds)),
        (l.t("Last checkpoint"), f(|p| p.checkpoint_age, draw::seconds)),
        (l.t("Memory"), f(|p| p.memory, draw::bytes)),
        (l.t("Processors"), f(|p| p.cpu, draw::count)),
        (l.t("Restarts"), view.restarts.to_string()),
    ];
    let counts = jobs::counts(app, t.id, view);
    let totals = [
        (l.t("Rows in"), "in", counts.records_in),
        (l.t("Rows out"), "out", counts.records_out),
        (l.t("Rejected"), "rejected", counts.rejected),
        (l.t("Lost"), "lost", counts.lost),
    ];
    Ok(html! {
        p { (state(l, view)) " " @if view.since > 0 { (time(view.since)) } }
        @if !view.reason.is_empty() { p class="problem" id="reason" { (view.reason) } }
        @for a in &firing { div class="problem" role="alert" {
            (a.message) " · " (time(a.since)) " "
            @if v.user.role >= Role::Operator { form method="post" action=(format!("/tasks/{}/alarms/silence", t.id)) class="inline" {
                (csrf(v)) input type="hidden" name="rule" value=(a.rule); input type="hidden" name="hours" value="8";
                button { (l.t("Be silent for 8 hours")) }
            } }
        } }
        dl class="figures" {
            @for (name, value) in &rows { div { dt { (name) } dd { (value) } } }
            @for (name, id, value) in totals { div { dt { (name) } dd id=(id) { (value) } } }
        }
        div class="graph" tabindex="0" role="region" aria-label=(l.t("Graph")) { (draw::graph(&picture, Some(view), tap.as_deref())) }
        @if let Some(to) = &tap { p class="note" { (l.t("Choose a part or an arrow to see its rows, or an output by name:")) " " a href=(to) { (l.t("Tap")) } } }
        @if !points.is_empty() {
            div class="charts" {
                (draw::chart(l.t("Records in and out (dashed) a second"), &points, |p| p.records_in, Some(|p| p.records_out), draw::count))
                (draw::chart(l.t("Lag, records"), &points, |p| p.lag, None, draw::count))
                (draw::chart(l.t("Latency p99"), &points, |p| p.latency, None, draw::seconds))
                (draw::chart(l.t("Watermark delay"), &points, |p| p.delay, None, draw::seconds))
                (draw::chart(l.t("State"), &points, |p| p.state_bytes, None, draw::bytes))
                (draw::chart(l.t("Age of the last checkpoint"), &points, |p| p.checkpoint_age, None, draw::seconds))
                (draw::chart(l.t("Memory"), &points, |p| p.memory, None, draw::bytes))
                (draw::chart(l.t("Processors"), &points, |p| p.cpu, None, draw::count))
            }
            p class="note" { (l.t("Failed checkpoints of this run")) ": " (draw::count(failed)) }
        }
    })
}

/// At most 300 points: more are finer than the charts.
fn thinned(view: &View) -> Vec<Point> {
    let step = view.history.len().div_ceil(300).max(1);
    view.history.iter().rev().step_by(step).rev().copied().collect()
}

/// The graph of the version that runs, planned once.
pub fn picture(app: &App, t: &Task) -> Done<Arc<millrace_plan::graph::Picture>> {
    let run = app.store.run(|db| Ok(jobs::runs(db, t.id, 1)?.pop()))?;
    let version = run.map_or(t.version, |r| r.version);
    if let Some(known) = app.pictures.get(t.id, version).filter(|_| version > 0) {
        return Ok(known);
    }
    let (settings, secrets) = app.store.run(|db| {
        let settings = if version == 0 { tasks::draft(db, t)? } else { tasks::settings(db, t.id, version)? };
        Ok((settings, tasks::secrets(app, db, t.id)?))
    })?;
    // A draft has no number: it is known by its text.
    let version = if version > 0 { version } else { settings.mark() };
    if let Some(known) = app.pictures.get(t.id, version) {
        return Ok(known);
    }
    let planned = settings.plan(&secrets, &app.job_folder(t.id), app.confine(t.id));
    let picture = Arc::new(planned.graph);
    app.pictures.put(t.id, version, picture.clone());
    Ok(picture)
}

pub async fn all_operations(State(app): State<Arc<App>>, l: Look, v: Visitor) -> Done<Markup> {
    Ok(shell(&l, Some(&v), l.t("Operations"), operations(&app, &l, None, &v)?))
}

/// Logins and accounts are told to administrators alone: they belong to no team.
fn operations(app: &App, l: &Look, task: Option<i64>, v: &Visitor) -> Done<Markup> {
    let member = (v.user.role < Role::Admin).then_some(v.user.id);
    let all = app.store.run(|db| audit::newest(db, task, member, OPERATIONS))?;
    Ok(html! { div class="scroll" tabindex="0" { table {
        thead { tr { th { (l.t("Time")) } th { (l.t("By")) } @if task.is_none() { th { (l.t("Task")) } } th { (l.t("What")) } th { (l.t("How it ended")) } } }
        tbody { @for o in &all { tr {
            td { (time(o.time)) } td { (o.user) }
            @if task.is_none() { td { @if let Some(id) = o.task { a href=(format!("/tasks/{id}")) { (id) } } } }
            td { (l.lang.words(&o.action)) } td { (word(l, &o.result)) " " (o.detail) }
        } } }
    } } })
}

fn back(id: i64) -> Redirect {
    Redirect::to(&format!("/tasks/{id}"))
}

pub async fn start(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Redirect> {
    let from = Start {
        from: Some(form.trimmed("from")).filter(|f| !f.is_empty()).unwrap_or("latest").into(),
        accept_duplicates: form.has("accept_duplicates"),
        allow_dropped_state: form.has("allow_dropped_state"),
        ..Start::default()
    };
    jobs::start(&app, &v, id, from).await?;
    Ok(back(id))
}

pub async fn stop(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Redirect> {
    jobs::stop(&app, &v, id, Stop { savepoint: form.has("savepoint"), drain: form.has("drain") })?;
    Ok(back(id))
}

pub async fn savepoint(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    jobs::savepoint(&app, &v, id)?;
    Ok(back(id))
}

pub async fn restart(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    jobs::restart(&app, &v, id, Start { from: "latest".into(), ..Start::default() })?;
    Ok(back(id))
}

pub async fn kill(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    jobs::kill(&app, &v, id)?;
    Ok(back(id))
}

pub async fn delete(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    remove(&app, &v, id)?;
    Ok(Redirect::to("/tasks"))
}

/// Deletes a task whose job does not run.
pub fn remove(app: &App, v: &Visitor, id: i64) -> Done<()> {
    let t = tasks::find(app, v, id, Role::Editor)?;
    if crate::process::alive(&app.control(id)) {
        return Err(Refusal::conflict("the task's job runs: stop it first"));
    }
    let operation = audit::begin(app, &v.user.name, &v.address, Some(id), "delete", &t.name);
    let done = tasks::delete(app, &t);
    audit::end(app, operation, done.is_ok(), done.as_ref().err().map_or("", |e| &e.message));
    done?;
    app.jobs.forget(id);
    Ok(())
}

pub async fn silence(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Redirect> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    if t.version == 0 || !alarms::rules(&app, &t)?.0.iter().any(|r| r.key() == form.get("rule")) {
        return Err(Refusal::bad("the task has no such alarm"));
    }
    let hours: i64 = form.trimmed("hours").parse().map_err(|_| Refusal::bad("`hours` must be a number"))?;
    alarms::silence(&app, id, form.get("rule"), hours.saturating_mul(3600))?;
    audit::note(&app, &v.user.name, &v.address, Some(id), "silence", &format!("{} for {hours} h", form.get("rule")));
    Ok(back(id))
}

pub async fn test_alarms(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    alarms::test(app.clone(), t).await?;
    audit::note(&app, &v.user.name, &v.address, Some(id), "test-alarms", "");
    Ok(back(id))
}

#[derive(Deserialize)]
pub struct Against {
    with: Option<i64>,
}

pub async fn version(
    State(app): State<Arc<App>>,
    l: Look,
    v: Visitor,
    Path((id, number)): Path<(i64, i64)>,
    Query(q): Query<Against>,
) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Viewer)?;
    let with = q.with.unwrap_or(number - 1);
    let (new, old) = app.store.run(|db| Ok((tasks::settings(db, id, number)?, tasks::settings(db, id, with)?)))?;
    let (new, old) = (new.seen_by(v.user.role), old.seen_by(v.user.role));
    let configs = millrace_plan::fix::diff(settings::FILE, &old.config, &new.config);
    let rest = |s: &settings::Settings| {
        let rest = settings::Settings { config: String::new(), ..s.clone() };
        serde_json::to_string_pretty(&rest).unwrap_or_default() + "\n"
    };
    let others = millrace_plan::fix::diff("settings", &rest(&old), &rest(&new));
    let title = format!("{}: {with} → {number}", t.name);
    Ok(shell(
        &l,
        Some(&v),
        &title,
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            (diff(&configs)) (diff(&others))
            @if configs.is_empty() && others.is_empty() { p { (l.t("There is no difference.")) } }
        },
    ))
}

fn diff(text: &str) -> Markup {
    let class = |line: &str| match line.as_bytes().first() {
        Some(b'+') => "add",
        Some(b'-') => "del",
        _ => "",
    };
    html! { @if !text.is_empty() { pre class="diff" tabindex="0" { @for line in text.lines() { span class=(class(line)) { (line) "\n" } } } } }
}

pub async fn list_checkpoints(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Viewer)?;
    let listed = checkpoints::list(&app, &t).await;
    Ok(shell(
        &l,
        Some(&v),
        &format!("{}: {}", t.name, l.t("Checkpoints and savepoints")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            p class="note" { (l.t("What would be published twice is said before anything is done. The newest is where the next start goes on; damaged ones are never used.")) }
            @match &listed {
                Err(e) => p class="problem" role="alert" { (e.message) },
                Ok(all) => div class="scroll" tabindex="0" { table {
                    thead { tr { th class="n" { (l.t("Number")) } th { (l.t("Kind")) } th { (l.t("Time")) } th class="n" { (l.t("Size")) } th class="n" { (l.t("Workers")) } th {} } }
                    tbody { @for c in all.iter().rev() { tr {
                        td class="n" { (c.slot) } td { (word(&l, &c.kind)) } td { (c.time) } td class="n" { (draw::bytes(c.bytes as f64)) } td class="n" { (c.workers) }
                        td { @if v.user.role >= Role::Operator {
                            a class="button" href=(format!("/tasks/{id}/restore?from={}", c.slot)) { (l.t("Restore here")) }
                        } }
                    } } }
                } },
            }
        },
    ))
}
