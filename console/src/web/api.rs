//! The HTTP API, version 1: what the pages do, for programs. Tasks go by their names; answers are JSON, errors `{"error": {"id", "message"}}`.

use super::gate::Visitor;
use super::{edit, records, rejects, tap};
use crate::accounts::{self, Role};
use crate::jobs::{self, Start, Stop};
use crate::settings::Settings;
use crate::stars::{starred, values};
use crate::tasks::{self, Task};
use crate::view::{Counts, Point, State as JobState};
use crate::{App, Refusal, audit, checkpoints, look};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

/// The number of a run that has begun.
#[derive(Serialize, JsonSchema)]
pub(super) struct Started {
    run: i64,
}

/// The number of an operation that is under way.
#[derive(Serialize, JsonSchema)]
pub(super) struct UnderWay {
    operation: i64,
}

/// A task that was saved.
#[derive(Serialize, JsonSchema)]
pub(super) struct Saved {
    id: i64,
    name: String,
    version: i64,
}

/// The name of a task whose job was ended.
#[derive(Serialize, JsonSchema)]
pub(super) struct Killed {
    killed: String,
}

/// The name of a task that was deleted.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deleted {
    deleted: String,
}

/// Whole lines of a log, and the byte after them.
#[derive(Serialize, JsonSchema)]
pub(super) struct LogPiece {
    text: String,
    next: u64,
}

/// What can be tapped, and its fields.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    name: String,
    fields: Vec<String>,
}

/// A row of an allowed store; null: it has none with that key.
#[derive(Deserialize, Serialize, JsonSchema)]
pub(super) struct Record {
    store: String,
    key: String,
    task: String,
    row: Option<serde_json::Map<String, Value>>,
}

/// A body that says nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/openapi.json", get(|| async { Json(super::openapi::document()) }))
        .route("/api/v1/tasks", get(list))
        .route("/api/v1/tasks/{name}", get(one).put(submit).delete(delete))
        .route("/api/v1/tasks/{name}/start", post(start))
        .route("/api/v1/tasks/{name}/stop", post(stop))
        .route("/api/v1/tasks/{name}/savepoint", post(savepoint))
        .route("/api/v1/tasks/{name}/kill", post(kill))
        .route("/api/v1/tasks/{name}/versions", get(versions))
        .route("/api/v1/tasks/{name}/versions/{number}", get(version))
        .route("/api/v1/tasks/{name}/checkpoints", get(list_checkpoints))
        .route("/api/v1/tasks/{name}/preview", get(preview))
        .route("/api/v1/tasks/{name}/rejects/{number}", get(letters))
        .route("/api/v1/tasks/{name}/replay", post(replay))
        .route("/api/v1/tasks/{name}/log", get(log))
        .route("/api/v1/tasks/{name}/points", get(points))
        .route("/api/v1/tasks/{name}/outputs", get(outputs))
        .route("/api/v1/tasks/{name}/tap", get(tapped))
        .route("/api/v1/records/{store}/{key}", get(record))
        .route("/api/v1/operations/{id}", get(operation))
}

/// A task, its state and its figures.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Task")]
pub(super) struct Told {
    id: i64,
    name: String,
    team: String,
    tags: Vec<String>,
    version: i64,
    draft: bool,
    wanted: bool,
    run: i64,
    state: JobState,
    reason: String,
    restarts: u32,
    uptime_seconds: f64,
    /// Of the newest run.
    counts: Counts,
    /// Most restarts of its strategy; null: without end, or none.
    restarts_of: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Point>,
}

fn told(app: &App, t: Task) -> Done<Told> {
    let tags = app.store.run(|db| tasks::tags(db, &t))?;
    let view = app.jobs.of(t.id).view();
    Ok(Told {
        tags,
        figures: view.last(),
        counts: jobs::counts(app, t.id, &view),
        restarts_of: view.of,
        state: view.state,
        restarts: view.restarts,
        uptime_seconds: if view.state.lives() { view.uptime } else { 0.0 },
        reason: view.reason,
        id: t.id,
        name: t.name,
        team: t.team_name,
        version: t.version,
        draft: t.has_draft,
        wanted: t.wanted,
        run: t.run,
    })
}

async fn list(State(app): State<Arc<App>>, v: Visitor) -> Done<Json<Vec<Told>>> {
    let all = app.store.run(|db| tasks::visible(db, &v))?;
    Ok(Json(all.into_iter().map(|t| told(&app, t)).collect::<Done<_>>()?))
}

async fn one(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Told>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    Ok(Json(told(&app, t)?))
}

/// A task as `submit` sends it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Submitted {
    /// Needed for a new task of somebody who has several teams.
    team: Option<String>,
    #[serde(default)]
    note: String,
    settings: Settings,
    /// Set these; secrets that are not named stay.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

fn body<T: for<'de> Deserialize<'de>>(bytes: &Bytes) -> Done<T> {
    let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
    serde_json::from_slice(bytes).map_err(|e| Refusal::bad(format!("the body is not what is expected: {e}")))
}

/// Makes a task, or a new version of one. What a run would refuse is kept as its draft.
async fn submit(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<(StatusCode, Json<Saved>)> {
    v.must_be(Role::Editor)?;
    let sent: Submitted = body(&bytes)?;
    if sent.settings.config.len() > crate::settings::MAX_CONFIG {
        return Err(Refusal::bad("the configuration is too long"));
    }
    let (t, new) = match tasks::find_named(&app, &v, &name, Role::Editor) {
        Ok(t) => {
            tasks::keep_draft(&app, &t, &name, &sent.settings)?;
            (t, false)
        }
        Err(e) if e.status == StatusCode::NOT_FOUND => {
            let teams = app.store.run(|db| accounts::teams_of(db, &v.user))?;
            let team = match &sent.team {
                Some(team) => teams.iter().find(|t| t.1 == *team),
                None => teams.first().filter(|_| teams.len() == 1),
            };
            let team = team.ok_or_else(|| Refusal::bad("say which of your teams the task belongs to"))?;
            let id = tasks::create(&app, &v, team.0, &name, &sent.settings)?;
            audit::note(&app, &v.user.name, &v.address, Some(id), "create", &name);
            (tasks::find(&app, &v, id, Role::Editor)?, true)
        }
        Err(e) => return Err(e),
    };
    for (name, value) in &sent.secrets {
        tasks::set_secret(&app, &t, name, Some(value))?;
        audit::note(&app, &v.user.name, &v.address, Some(t.id), "set-secret", name);
    }
    let made = edit::publish(&app, &v, &t, &sent.settings, &sent.note, vec![]).await;
    let version = made.map_err(|problems| Refusal { id: "not-saved", ..Refusal::bad(problems.join("\n")) })?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(Saved { id: t.id, name, version })))
}

async fn delete(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Deleted>> {
    let t = tasks::find_named(&app, &v, &name, Role::Editor)?;
    super::task::remove(&app, &v, t.id)?;
    Ok(Json(Deleted { deleted: name }))
}

/// A start.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Start")]
pub(super) struct Begin {
    /// `latest`, `scratch`, the number of a checkpoint, or the path of one.
    from: String,
    /// Publish again what was published since that checkpoint.
    accept_duplicates: bool,
    /// Forget the state of parts that the topology no longer has.
    allow_dropped_state: bool,
}

impl Default for Begin {
    fn default() -> Begin {
        Begin { from: "latest".into(), accept_duplicates: false, allow_dropped_state: false }
    }
}

impl Begin {
    fn start(self) -> Start {
        let Begin { from, accept_duplicates, allow_dropped_state } = self;
        Start { from, accept_duplicates, allow_dropped_state, ..Start::default() }
    }
}

async fn start(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<Json<Started>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let begin: Begin = body(&bytes)?;
    Ok(Json(Started { run: jobs::start(&app, &v, t.id, begin.start()).await? }))
}

/// A stop.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Stop")]
pub(super) struct End {
    /// With a savepoint, which is kept.
    savepoint: bool,
    /// Windows that are open fire first; there is nothing to go on from then.
    drain: bool,
}

async fn stop(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<Json<UnderWay>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let end: End = body(&bytes)?;
    let operation = jobs::stop(&app, &v, t.id, Stop { savepoint: end.savepoint, drain: end.drain })?;
    Ok(Json(UnderWay { operation }))
}

async fn savepoint(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<Json<UnderWay>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let Nothing {} = body(&bytes)?;
    Ok(Json(UnderWay { operation: jobs::savepoint(&app, &v, t.id)? }))
}

async fn kill(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<Json<Killed>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let Nothing {} = body(&bytes)?;
    jobs::kill(&app, &v, t.id)?;
    Ok(Json(Killed { killed: name }))
}

async fn versions(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Vec<tasks::Version>>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    Ok(Json(app.store.run(|db| tasks::versions(db, t.id))?))
}

async fn version(State(app): State<Arc<App>>, v: Visitor, Path((name, number)): Path<(String, i64)>) -> Done<Json<Settings>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    Ok(Json(app.store.run(|db| tasks::settings(db, t.id, number))?.seen_by(v.user.role)))
}

async fn list_checkpoints(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Vec<checkpoints::Checkpoint>>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    Ok(Json(checkpoints::list(&app, &t).await?))
}

/// What a start would do, in the words of the command line.
async fn preview(
    State(app): State<Arc<App>>,
    v: Visitor,
    Path(name): Path<String>,
    Query(begin): Query<Begin>,
) -> Done<Json<look::Foreseen>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let settings = app.store.run(|db| tasks::settings(db, t.id, t.version))?;
    Ok(Json(look::foresee(&app, &t, &settings, &begin.start()).await?))
}

async fn letters(State(app): State<Arc<App>>, v: Visitor, Path((name, number)): Path<(String, usize)>) -> Done<Response> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    rejects::file(State(app), v, Path((t.id, number))).await
}

/// Dead letters to replay.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Letters")]
pub(super) struct Again {
    /// The number of the file; the first is 0.
    file: usize,
    /// Also those that were replayed before.
    again: bool,
    /// Only say what would happen.
    dry_run: bool,
}

async fn replay(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, bytes: Bytes) -> Done<Json<rejects::Replay>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let Again { file, again, dry_run } = body(&bytes)?;
    let which = rejects::Which { file, again, ..rejects::Which::default() };
    Ok(Json(rejects::ask(&app, &v, &t, &which, !dry_run).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    #[serde(default)]
    after: u64,
}

/// The log from a byte on, at most 1 MiB, in whole lines: `{"text", "next"}`.
async fn log(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, Query(q): Query<Follow>) -> Done<Json<LogPiece>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    let (text, next) = super::log::piece(&app, t.id, q.after)?;
    Ok(Json(LogPiece { text, next }))
}

async fn points(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Vec<Point>>> {
    let t = tasks::find_named(&app, &v, &name, Role::Viewer)?;
    Ok(Json(app.jobs.of(t.id).view().history.into()))
}

async fn outputs(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>) -> Done<Json<Vec<Output>>> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    let all = tap::outputs(&app, &t).await?;
    Ok(Json(all.into_iter().map(|(name, fields)| Output { name, fields }).collect()))
}

async fn tapped(State(app): State<Arc<App>>, v: Visitor, Path(name): Path<String>, Query(asked): Query<tap::Asked>) -> Done<Response> {
    let t = tasks::find_named(&app, &v, &name, Role::Operator)?;
    tap::lines(&app, &v, &t, &asked).await
}

async fn record(State(app): State<Arc<App>>, v: Visitor, Path((store, key)): Path<(String, String)>) -> Done<Json<Record>> {
    let (t, row) = records::row(&app, &v, &store, &key).await?;
    let text = serde_json::to_string(&row).unwrap_or_default();
    let row = serde_json::from_str(&starred(&text, &values(&app, t.id)?)).unwrap_or_default();
    Ok(Json(Record { store, key, task: t.name, row }))
}

async fn operation(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Json<audit::Operation>> {
    let found = app.store.run(|db| audit::one(db, id))?.ok_or_else(Refusal::not_found)?;
    // One of a task is told to whoever sees the task, others to administrators.
    match found.task {
        Some(task) => drop(tasks::find(&app, &v, task, Role::Viewer)?),
        None if v.user.role == Role::Admin => {}
        None => return Err(Refusal::not_found()),
    }
    Ok(Json(found))
}
