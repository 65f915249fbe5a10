//! Tap: rows that pass an output of a running job, live.

use super::gate::Visitor;
use super::layout::{Look, page as shell};
use crate::accounts::Role;
use crate::stars::{starred, values};
use crate::streams::Place;
use crate::tasks::{self, Task};
use crate::{App, Refusal, audit, jobs, process, socket};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;

/// Taps at a time, of all visitors.
pub const TAPS: usize = 16;
/// Longest condition, bytes: the job takes requests of 4 KiB.
const MAX_CONDITION: usize = 3000;
/// Rows of one event at most.
const TOGETHER: usize = 200;
/// Between two looks whether the visitor may still see the task.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// `part` or `part.port`.
    output: String,
    /// An expression over its fields; empty: all rows.
    #[serde(rename = "where")]
    condition: String,
    /// Show one row in row; empty: every one.
    every: String,
    /// So many rows, then the end; empty: without end.
    limit: String,
    /// Which of a job's processes.
    process: String,
}

fn number(text: &str, name: &str) -> Result<u64, Refusal> {
    match text.trim() {
        "" => Ok(0),
        t => t.parse().map_err(|_| Refusal::bad(format!("`{name}` must be a number from 1"))),
    }
}

/// The socket of one of the processes of a task's job.
fn socket_of(app: &App, t: &Task, process: u64) -> Result<PathBuf, Refusal> {
    let run = app.store.run(|db| Ok(jobs::runs(db, t.id, 1)?.pop()))?.filter(|_| process::alive(&app.control(t.id)));
    let run = run.ok_or_else(|| Refusal::conflict("the job does not run: there is nothing to be seen of it"))?;
    Ok(match process {
        0 => run.start.socket,
        n => run.start.socket.with_extension(format!("{n}.sock")),
    })
}

/// What can be tapped: names and fields, as the job tells them.
///
/// # Errors
/// It does not run, or does not answer.
pub async fn outputs(app: &App, t: &Task) -> Result<Vec<(String, Vec<String>)>, Refusal> {
    let told = socket::ask(&socket_of(app, t, 0)?, &json!({"command": "outputs"}), PATIENCE).await.map_err(Refusal::conflict)?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let all = told.as_array().into_iter().flatten();
    Ok(all.map(|o| (text(&o["name"]), o["fields"].as_array().into_iter().flatten().map(text).collect())).collect())
}

pub async fn page(
    State(app): State<Arc<App>>,
    l: Look,
    v: Visitor,
    Path(id): Path<i64>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Refusal> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    let known = outputs(&app, &t).await;
    let processes = app.store.run(|db| Ok(if t.version > 0 { tasks::settings(db, id, t.version)?.processes } else { None }))?.unwrap_or(1);
    Ok(shell(
        &l,
        Some(&v),
        &format!("{}: {}", t.name, l.t("Tap")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            p class="note" { (l.t("Rows as they pass an output of the running job. The job never waits for you: it looks at no more rows than cost it half a hundredth of its time, and says how many passed unseen.")) }
            @match &known {
                Err(e) => p class="problem" role="alert" { (e.message) },
                Ok(all) => {
                    form class="row" id="tap" data-tap=(format!("/tasks/{id}/tap/rows")) {
                        label { (l.t("Output")) select name="output" {
                            @for (name, fields) in all { option value=(name) selected[*name == asked.output] data-fields=(fields.join(", ")) { (name) } }
                        } }
                        label class="wide" { (l.t("Only rows for which")) input name="where" value=(asked.condition) placeholder="price > 1" autocomplete="off" spellcheck="false" maxlength=(MAX_CONDITION); }
                        label { (l.t("Show one row in")) input name="every" inputmode="numeric" value=(asked.every) placeholder="1"; }
                        @if processes > 1 { label { (l.t("Process")) select name="process" { @for n in 0..processes { option value=(n) { (n) } } } } }
                        button class="main" { (l.t("Show")) }
                        button type="button" id="tap-stop" disabled { (l.t("Stop")) }
                    }
                    p class="note" { (l.t("Fields")) ": " span id="tap-fields" {} }
                    p class="problem" id="tap-refused" role="alert" hidden {}
                    p id="tap-told" role="status" data-waits=(l.t("waiting for rows")) data-shown=(l.t("rows shown"))
                        data-ended=(l.t("ended")) data-passed=(l.t("rows passed")) data-missed=(l.t("of them not looked at, to spare the job")) data-lost=(l.t("too fast for this page")) data-gone=(l.t("the console does not answer, or the job has ended")) {}
                    div class="scroll" tabindex="0" role="region" aria-label=(l.t("Rows")) { table id="tap-rows" { thead {} tbody {} } }
                }
            }
        },
    ))
}

/// A tap that is open.
struct Tap {
    app: Arc<App>,
    visitor: Visitor,
    task: i64,
    reader: BufReader<UnixStream>,
    /// What was read and has no line end yet.
    rest: Vec<u8>,
    secrets: Vec<String>,
    done: bool,
    /// When it was last asked whether the visitor may still see the task.
    asked: Instant,
    _permit: OwnedSemaphorePermit,
    _place: Arc<Place>,
}

/// What comes of it.
enum Told {
    Fields(Value),
    /// Objects of JSON.
    Rows(Vec<String>),
    Refused(Value),
    End(Value),
}

async fn open(app: &Arc<App>, v: &Visitor, t: &Task, asked: &Asked) -> Result<Tap, Refusal> {
    if asked.condition.len() > MAX_CONDITION || asked.output.len() > 500 {
        return Err(Refusal::bad(format!("a condition has at most {MAX_CONDITION} bytes")));
    }
    let mut request = json!({"command": "tap", "output": asked.output});
    if !asked.condition.trim().is_empty() {
        request["where"] = asked.condition.as_str().into();
    }
    for (name, text) in [("every", &asked.every), ("limit", &asked.limit)] {
        if let n @ 1.. = number(text, name)? {
            request[name] = n.into();
        }
    }
    let socket = socket_of(app, t, number(&asked.process, "process")?)?;
    let place = app.streams.take(v.user.id)?;
    let permit = app.taps.clone().try_acquire_owned();
    let permit =
        permit.map_err(|_| Refusal::conflict(format!("{TAPS} taps are open, which is all that this console allows: close one")))?;
    let connected = tokio::time::timeout(PATIENCE, socket::connect(&socket)).await;
    let mut stream = connected
        .map_err(|e| e.to_string())
        .and_then(|c| c.map_err(|e| e.to_string()))
        .map_err(|e| Refusal::conflict(format!("the job does not answer: {e}")))?;
    stream.write_all(format!("{request}\n").as_bytes()).await.map_err(|e| Refusal::conflict(format!("the job does not answer: {e}")))?;
    let mut what = asked.output.clone();
    if !asked.condition.trim().is_empty() {
        what += &format!(" where {}", asked.condition.trim());
    }
    audit::note(app, &v.user.name, &v.address, Some(t.id), "tap", &what);
    let secrets = values(app, t.id)?;
    Ok(Tap {
        app: app.clone(),
        visitor: v.clone(),
        task: t.id,
        reader: BufReader::new(stream),
        rest: vec![],
        secrets,
        done: false,
        asked: Instant::now(),
        _permit: permit,
        _place: place,
    })
}

impl Tap {
    /// Whole lines; None: there are no more, or none for this visitor.
    async fn lines(&mut self) -> Option<Vec<String>> {
        loop {
            let read = tokio::time::timeout(LOOK, self.reader.fill_buf()).await.map(|r| r.map(<[u8]>::len));
            let read = match read {
                Err(_) if self.may_go_on() => continue,
                Err(_) => return None,
                Ok(Ok(n)) if n > 0 => n,
                Ok(_) => return None,
            };
            self.rest.extend_from_slice(&self.reader.buffer()[..read]);
            self.reader.consume(read);
            let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { continue };
            let rest = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, rest);
            if !self.may_go_on() {
                return None;
            }
            return Some(String::from_utf8_lossy(&whole).lines().map(|l| starred(l, &self.secrets)).collect());
        }
    }

    /// Who was logged out, or left the team, sees no further.
    fn may_go_on(&mut self) -> bool {
        if self.asked.elapsed() < LOOK {
            return true;
        }
        self.asked = Instant::now();
        super::log::still(&self.app, &self.visitor, self.task, Role::Operator)
    }

    /// What comes next; empty: nothing more.
    async fn next(&mut self) -> VecDeque<Told> {
        let mut out = VecDeque::new();
        let Some(lines) = (if self.done { None } else { self.lines().await }) else { return out };
        let mut rows = vec![];
        for line in lines {
            match line.strip_prefix("{\"row\":").and_then(|l| l.strip_suffix('}')) {
                Some(row) => rows.push(row.to_string()),
                None => {
                    let mut told: Value = serde_json::from_str(&line).unwrap_or_default();
                    out.push_back(if told.get("ok").is_some() {
                        Told::Fields(told["ok"]["fields"].take())
                    } else if told.get("end").is_some() {
                        Told::End(told["end"].take())
                    } else {
                        Told::Refused(told)
                    });
                }
            }
        }
        // Fields come before all rows, the end behind them.
        let at = out.iter().position(|t| !matches!(t, Told::Fields(_))).unwrap_or(out.len());
        self.done = at < out.len();
        for (i, together) in rows.chunks(TOGETHER).enumerate() {
            out.insert(at + i, Told::Rows(together.to_vec()));
        }
        out
    }

    fn stream<T>(self, form: fn(Told) -> T) -> impl Stream<Item = Result<T, Infallible>> {
        futures::stream::unfold((self, VecDeque::new()), move |(mut tap, mut waiting)| async move {
            if waiting.is_empty() {
                waiting = tap.next().await;
            }
            waiting.pop_front().map(|told| (Ok(form(told)), (tap, waiting)))
        })
    }
}

fn event(told: Told) -> Event {
    match told {
        Told::Fields(fields) => Event::default().event("fields").data(fields.to_string()),
        Told::Rows(rows) => Event::default().event("rows").data(format!("[{}]", rows.join(","))),
        Told::Refused(why) => Event::default().event("refused").data(why.to_string()),
        Told::End(end) => Event::default().event("end").data(end.to_string()),
    }
}

/// For a page: server-sent events `fields`, `rows`, `refused`, `end`.
pub async fn rows(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>, Query(asked): Query<Asked>) -> Result<Response, Refusal> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    Ok(match open(&app, &v, &t, &asked).await {
        Ok(tap) => Sse::new(tap.stream(event)).keep_alive(KeepAlive::default()).into_response(),
        // A page hears of a failed stream nothing but that it failed.
        Err(e) => {
            let told = event(Told::Refused(json!({"error": {"message": e.message}})));
            Sse::new(futures::stream::iter([Ok::<_, Infallible>(told)])).into_response()
        }
    })
}

/// For programs: JSON lines, `{"row"}`, and at the end `{"end"}` or `{"error"}`.
pub async fn lines(app: &Arc<App>, v: &Visitor, t: &Task, asked: &Asked) -> Result<Response, Refusal> {
    let line = |told: Told| {
        Bytes::from(match told {
            Told::Fields(fields) => format!("{}\n", json!({"fields": fields})),
            Told::Rows(rows) => rows.iter().map(|r| format!("{{\"row\":{r}}}\n")).collect(),
            Told::Refused(why) => format!("{why}\n"),
            Told::End(end) => format!("{}\n", json!({"end": end})),
        })
    };
    let stream = open(app, v, t, asked).await?.stream(line);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}
