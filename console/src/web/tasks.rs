//! The list of tasks, and what is done to several of them.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, csrf, page as shell};
use crate::accounts::Role;
use crate::draw;
use crate::jobs::{self, Start, Stop};
use crate::tasks::{self, Task};
use crate::view::{State as JobState, View};
use crate::{App, Refusal};
use axum::extract::{Query, State};
use axum::response::Redirect;
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    q: String,
    state: String,
    tag: String,
    #[serde(skip)]
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    task: Task,
    tags: Vec<String>,
    view: View,
}

/// The state's name for people.
pub fn state_name(l: &Look, v: &View) -> String {
    let name = named(l, v.state);
    match (v.state, v.of) {
        (JobState::Restarting, Some(of)) => format!("{name} {} / {of}", v.restarts),
        (JobState::Restarting, None) => format!("{name} {}", v.restarts),
        _ => name.to_string(),
    }
}

fn named(l: &Look, state: JobState) -> &'static str {
    match state {
        JobState::NotStarted => l.t("not started"),
        JobState::Starting => l.t("starting"),
        JobState::Running => l.t("running"),
        JobState::Backpressured => l.t("backpressured"),
        JobState::Blocked => l.t("blocked: waiting for a server"),
        JobState::Restarting => l.t("restarting"),
        JobState::Stalled => l.t("stalled"),
        JobState::Stopping => l.t("stopping"),
        JobState::Stopped => l.t("stopped"),
        JobState::Finished => l.t("finished"),
        JobState::Failed => l.t("failed"),
        JobState::Halted => l.t("halted by a guard"),
        JobState::NeedsOperator => l.t("needs an operator"),
    }
}

pub fn state(l: &Look, v: &View) -> Markup {
    html! { span class=(format!("state {}", v.state.name())) title=(v.reason) { (state_name(l, v)) } }
}

fn rows(app: &App, v: &Visitor, filter: &Filter) -> Done<Vec<Row>> {
    let found = app.store.run(|db| {
        let all = tasks::visible(db, v)?;
        all.into_iter().map(|t| Ok((tasks::tags(db, &t)?, t))).collect::<Done<Vec<_>>>()
    })?;
    let wanted = filter.q.trim().to_lowercase();
    let rows = found.into_iter().map(|(tags, task)| Row { view: app.jobs.of(task.id).view(), tags, task });
    let by_text = |r: &Row| r.task.name.to_lowercase().contains(&wanted) || r.tags.iter().any(|t| t.to_lowercase().contains(&wanted));
    Ok(rows
        .filter(|r| wanted.is_empty() || by_text(r))
        .filter(|r| filter.tag.is_empty() || r.tags.contains(&filter.tag))
        .filter(|r| filter.state.is_empty() || r.view.state.name() == filter.state)
        .collect())
}

pub async fn list(
    State(app): State<Arc<App>>,
    l: Look,
    v: Visitor,
    Query(filter): Query<Filter>,
    headers: axum::http::HeaderMap,
) -> Done<Markup> {
    let filter = Filter { rows: rows(&app, &v, &filter)?, ..filter };
    if headers.contains_key("x-fragment") {
        return Ok(table(&l, &filter));
    }
    let there = |s: &JobState| s.name() == filter.state || filter.rows.iter().any(|r| r.view.state == *s);
    let states: Vec<JobState> = JobState::ALL.into_iter().filter(there).collect();
    let tags: BTreeSet<&String> = filter.rows.iter().flat_map(|r| &r.tags).collect();
    let encoded = |t: &str| percent_encoding::utf8_percent_encode(t, percent_encoding::NON_ALPHANUMERIC).to_string();
    let live = format!("/tasks?q={}&state={}&tag={}", encoded(&filter.q), encoded(&filter.state), encoded(&filter.tag));
    Ok(shell(
        &l,
        Some(&v),
        l.t("Tasks"),
        html! {
            form method="get" action="/tasks" class="row" role="search" {
                label { (l.t("Search by name or tag")) input name="q" value=(filter.q) type="search"; }
                label { (l.t("State")) select name="state" {
                    option value="" { (l.t("all")) }
                    @for s in states { option value=(s.name()) selected[s.name() == filter.state] { (named(&l, s)) } }
                } }
                label { (l.t("Tag")) select name="tag" {
                    option value="" { (l.t("all")) }
                    @for t in tags { option value=(t) selected[*t == filter.tag] { (t) } }
                } }
                button { (l.t("Show")) }
                @if v.user.role >= Role::Editor { a class="button main" href="/tasks/new" { (l.t("New task")) } }
            }
            form method="post" action="/tasks/bulk" {
                (csrf(&v))
                @if v.user.role >= Role::Operator {
                    p class="row" {
                        label class="check" { input type="checkbox" data-all="task"; (l.t("All")) }
                        button name="do" value="start" { (l.t("Start")) }
                        button name="do" value="stop" { (l.t("Stop")) }
                    }
                }
                div class="scroll" tabindex="0" role="region" aria-label=(l.t("Tasks")) data-live=(live) { (table(&l, &filter)) }
            }
        },
    ))
}

fn table(l: &Look, filter: &Filter) -> Markup {
    html! { table {
        thead { tr {
            th { span class="note" { (l.t("Choose")) } } th { (l.t("Name")) } th { (l.t("State")) } th class="n" { (l.t("Up")) } th class="n" { (l.t("In/s")) } th class="n" { (l.t("Out/s")) }
            th class="n" { (l.t("Lag")) } th class="n" { (l.t("Delay")) } th class="n" { (l.t("Last checkpoint")) } th { (l.t("Team")) }
        } }
        tbody {
            @for r in &filter.rows { (row(l, r)) }
            @if filter.rows.is_empty() { tr { td colspan="10" { (l.t("No task.")) } } }
        }
    } }
}

fn row(l: &Look, r: &Row) -> Markup {
    let last = r.view.last();
    let figure = |f: fn(&crate::view::Point) -> f64, shown: fn(f64) -> String| last.as_ref().map_or("–".into(), |p| shown(f(p)));
    html! { tr {
        td { input type="checkbox" name="task" value=(r.task.id) aria-label=(r.task.name); }
        td { a href=(format!("/tasks/{}", r.task.id)) { (r.task.name) } " " @for t in &r.tags { span class="tag" { (t) } } }
        td { (state(l, &r.view)) }
        td class="n" { @if r.view.state.lives() { (draw::seconds(r.view.uptime)) } @else { "–" } }
        td class="n" { (figure(|p| p.records_in, draw::count)) }
        td class="n" { (figure(|p| p.records_out, draw::count)) }
        td class="n" { (figure(|p| p.lag, draw::count)) }
        td class="n" { (figure(|p| p.delay, draw::seconds)) }
        td class="n" { (figure(|p| p.checkpoint_age, draw::seconds)) }
        td { (r.task.team_name) }
    } }
}

pub async fn bulk(State(app): State<Arc<App>>, l: Look, v: Visitor, form: Form) -> Done<axum::response::Response> {
    use axum::response::IntoResponse;
    let mut refused = vec![];
    let chosen = form.numbers("task")?;
    if chosen.is_empty() {
        return Err(Refusal::bad("choose at least one task"));
    }
    for id in chosen {
        let done = match form.get("do") {
            "start" => jobs::start(&app, &v, id, Start { from: "latest".into(), ..Start::default() }).await.map(drop),
            "stop" => jobs::stop(&app, &v, id, Stop::default()).map(drop),
            _ => Err(Refusal::bad("say `start` or `stop`")),
        };
        if let Err(e) = done {
            let name = tasks::find(&app, &v, id, Role::Viewer).map_or_else(|_| id.to_string(), |t| t.name);
            refused.push(format!("{name}: {}", l.lang.words(&e.message)));
        }
    }
    if refused.is_empty() {
        return Ok(Redirect::to("/tasks").into_response());
    }
    let body = html! {
        @for r in &refused { p class="problem" role="alert" { (r) } }
        p { a href="/tasks" { (l.t("To the tasks")) } }
    };
    Ok((axum::http::StatusCode::CONFLICT, shell(&l, Some(&v), l.t("Not done"), body)).into_response())
}
