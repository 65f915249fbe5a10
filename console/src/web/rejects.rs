//! Dead letters: the rows that a job has rejected, as its own files have them; and their replay, of which `millrace replay` says what it will
//! do before it does.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, csrf, page as shell};
use crate::accounts::Role;
use crate::jobs::{self, Start};
use crate::stars::{starred, values};
use crate::tasks::{self, Task};
use crate::{App, Refusal, accounts, audit, draw, look};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

/// What is shown of a file's end, bytes and rows.
const END: u64 = 256 << 10;
const ROWS: usize = 100;
/// What dead letters keep of a record, bytes; a longer one cannot be replayed.
const KEPT: u64 = 64 << 10;
/// Largest file that is replayed from, bytes.
const LARGEST: u64 = 256 << 20;

/// The folder of what a task's job keeps; none before its first run.
fn state_folder(app: &App, id: i64) -> Result<Option<PathBuf>, Refusal> {
    let run = app.store.run(|db| Ok(jobs::runs(db, id, 1)?.pop()))?;
    Ok(run.and_then(|r| Some(r.start.socket.parent()?.to_path_buf())))
}

/// The files of a folder with one of these ends, by name; none outside of what the task's job may use.
fn files_in(app: &App, id: i64, folder: &FilePath, ends: &[&str]) -> Vec<PathBuf> {
    let confine = app.confine(id);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let own = |p: &PathBuf| {
        let plain = fs::symlink_metadata(p).is_ok_and(|m| m.is_file());
        let end = p.extension().is_some_and(|e| ends.iter().any(|x| e == *x));
        plain && end && confine.path(folder, &p.to_string_lossy()).is_ok()
    };
    let mut all: Vec<PathBuf> = entries.filter(own).collect();
    all.sort();
    all
}

/// The files of a task's dead letters: the default ones, and the file that its topology names for them.
fn files(app: &App, id: i64) -> Result<Vec<PathBuf>, Refusal> {
    let Some(state) = state_folder(app, id)? else { return Ok(vec![]) };
    let mut all = files_in(app, id, &state.join("dead-letter"), &["jsonl"]);
    let t = app.store.run(|db| tasks::by_id(db, id))?;
    let picture = super::task::picture(app, &t)?;
    let sink = &picture.rest["run_env"]["dead_letter"];
    let base = app.job_folder(id);
    // A path with `{...}` in it is that of many files.
    if let Some(path) = sink["config"]["path"].as_str().filter(|p| sink["type"] == "File" && !p.contains('{'))
        && app.confine(id).path(&base, path).is_ok()
        && fs::symlink_metadata(base.join(path)).is_ok_and(|m| m.is_file())
    {
        all.push(base.join(path));
    }
    Ok(all)
}

/// What a letter says, and which one it is: the place where its record was read.
fn letter(line: &str) -> (Value, String) {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |key: &str| value[key].as_str().map_or_else(|| value[key].to_string(), String::from);
    let place = ["stream", "partition", "offset", "hash"].map(text).join("\n");
    (value, place)
}

/// A replay that was begun: name, letters, how far it is.
struct Begun {
    name: String,
    letters: usize,
    done: bool,
    alone: bool,
}

/// The replays of a task, newest first, and the letters in them.
fn begun(app: &App, id: i64) -> Result<(Vec<Begun>, HashSet<String>), Refusal> {
    let Some(run) = app.store.run(|db| Ok(jobs::runs(db, id, 1)?.pop()))? else { return Ok((vec![], HashSet::new())) };
    let socket = run.start.socket;
    let job = socket.file_stem().unwrap_or_default();
    let folder = socket.parent().map(|state| state.join("replay").join(job)).unwrap_or_default();
    let (mut all, mut places) = (vec![], HashSet::new());
    for path in files_in(app, id, &folder, &["jsonl", "alone"]) {
        let Ok(file) = File::open(&path) else { continue };
        let mut letters = 0;
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            places.insert(letter(&line).1);
            letters += 1;
        }
        all.push(Begun {
            name: path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            letters,
            done: path.with_extension("done").exists(),
            alone: path.extension().is_some_and(|e| e == "alone"),
        });
    }
    all.reverse();
    Ok((all, places))
}

/// The last rows of a file, newest first.
fn last(path: &FilePath) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(END);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = vec![];
    file.take(END).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is half of one.
    Ok(text.lines().skip(usize::from(from > 0)).map(String::from).collect::<Vec<_>>().into_iter().rev().take(ROWS).collect())
}

pub async fn page(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Result<Markup, Refusal> {
    let t = tasks::find(&app, &v, id, Role::Viewer)?;
    let secrets = values(&app, id)?;
    let mut all = vec![];
    for path in files(&app, id)? {
        let rows = last(&path).map_err(|e| Refusal::failed(format!("the dead letters cannot be read: {e}")))?;
        let size = fs::metadata(&path).map_or(0, |m| m.len());
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        all.push((name, size, rows));
    }
    let (replays, replayed) = begun(&app, id)?;
    let may = v.user.role >= Role::Operator;
    Ok(shell(
        &l,
        Some(&v),
        &format!("{}: {}", t.name, l.t("Dead letters")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            p class="note" { (l.t("A replay gives the records as they came to their streams once more, when the topology has been mended for instance. What will happen is said before it does.")) }
            @if all.iter().all(|f| f.2.is_empty()) { p { (l.t("Nothing was rejected.")) } }
            @for (i, (name, size, rows)) in all.iter().enumerate().filter(|f| !f.1.2.is_empty()) {
                h2 { (name) }
                p { (draw::bytes(*size as f64)) " · " a href=(format!("/tasks/{id}/rejects/{i}")) { (l.t("Download")) } }
                form method="post" action=(format!("/tasks/{id}/replay")) {
                    (csrf(&v))
                    input type="hidden" name="file" value=(i);
                    @if may { p class="row" {
                        label class="check" { input type="checkbox" data-all="letter"; (l.t("All that are shown")) }
                        button name="which" value="chosen" { (l.t("Replay the chosen ones")) }
                        button name="which" value="all" { (l.t("Replay all of the file")) }
                    } }
                    div class="scroll" tabindex="0" role="region" aria-label=(name) { table {
                        thead { tr { @if may { th { (l.t("Choose")) } } th { (l.t("Part")) } th { (l.t("Reason")) } th { (l.t("What was wrong")) } th { (l.t("Record")) } th { (l.t("Replayed")) } } }
                        tbody { @for row in rows {
                            @let (value, place) = letter(row);
                            @let text = |key: &str| starred(value[key].as_str().unwrap_or_default(), &secrets);
                            tr {
                                @if may { td { input type="checkbox" name="letter" value=(hex::encode(&place)) aria-label=(format!("{} {}", text("reason"), text("message"))); } }
                                td { (text("part")) } td { (text("reason")) } td { (text("message")) }
                                td { details { summary { code { (short(&text("body"))) } } pre { (starred(row, &secrets)) } } }
                                td {
                                    @if replayed.contains(&place) { (l.t("yes")) }
                                    @else if !matches!(value["encoding"].as_str(), Some("text" | "base64")) { (l.t("no: rejected behind an exchange, the record as it came is not kept")) }
                                    @else if value["length"].as_u64().is_some_and(|n| n > KEPT) { (l.t("no: longer than what dead letters keep, 64 KiB")) }
                                }
                            }
                        } }
                    } }
                }
            }
            @if !replays.is_empty() {
                h2 { (l.t("Replays")) }
                div class="scroll" tabindex="0" role="region" aria-label=(l.t("Replays")) { table id="replays" {
                    thead { tr { th { (l.t("Name")) } th class="n" { (l.t("Dead letters")) } th { (l.t("By")) } th { (l.t("State")) } } }
                    tbody { @for r in &replays { tr {
                        td { (r.name) } td class="n" { (r.letters) }
                        td { @if r.alone { (l.t("a run of its own")) } @else { (l.t("the job")) } }
                        td { @if r.done { (l.t("written by all sinks")) } @else { (l.t("not yet written by all sinks")) } }
                    } } }
                } }
            }
        },
    ))
}

fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.chars().count() > SHOWN {
        true => text.chars().take(SHOWN).chain(['…']).collect(),
        false => text.to_string(),
    }
}

pub async fn file(State(app): State<Arc<App>>, v: Visitor, Path((id, number)): Path<(i64, usize)>) -> Result<Response, Refusal> {
    tasks::find(&app, &v, id, Role::Viewer)?;
    let path = files(&app, id)?.into_iter().nth(number).ok_or_else(Refusal::not_found)?;
    let secrets = values(&app, id)?;
    let text = super::log::lines_of(&path, secrets);
    let kind = [(header::CONTENT_TYPE, "application/jsonl"), (header::CONTENT_DISPOSITION, "attachment; filename=\"dead-letters.jsonl\"")];
    Ok((kind, text).into_response())
}

/// What `millrace replay` says.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct Replay {
    /// `running`, `next-start`, or `alone`.
    pub way: String,
    pub rows: u64,
    pub said: Vec<String>,
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub files: Vec<PathBuf>,
}

/// Which letters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// The number of the file.
    pub file: usize,
    /// Places of letters; empty: all of the file.
    pub letters: HashSet<String>,
    /// Also those that were replayed before.
    pub again: bool,
}

/// Says what a replay would do, or (`go`) does it.
///
/// # Errors
/// There is nothing to replay, or `millrace replay` refuses it.
pub async fn ask(app: &Arc<App>, v: &Visitor, t: &Task, which: &Which, go: bool) -> Result<Replay, Refusal> {
    let path = files(app, t.id)?.into_iter().nth(which.file).ok_or_else(Refusal::not_found)?;
    // With what runs, or would be started now.
    let version = app.store.run(|db| Ok(jobs::runs(db, t.id, 1)?.pop()))?.filter(|_| crate::process::alive(&app.control(t.id)));
    let settings = app.store.run(|db| tasks::settings(db, t.id, version.map_or(t.version, |r| r.version)))?;
    let chosen = Chosen(app.control(t.id).join(format!("letters-{}.jsonl", &accounts::random()[..16])));
    let (to, letters) = (chosen.0.clone(), which.letters.clone());
    let copied = tokio::task::spawn_blocking(move || copy(&path, &to, &letters)).await;
    copied.map_err(|e| Refusal::failed(e.to_string()))??;
    let topology = look::write(app, t, &settings)?;
    let (job, from) = (topology.path.to_string_lossy().into_owned(), chosen.0.to_string_lossy().into_owned());
    let mut args = vec!["replay", &job, &from, "--json", "--prepare"];
    args.extend(which.again.then_some("--again"));
    args.extend((!go).then_some("--dry-run"));
    let said = look::ask(app, t, &settings, &args, true).await?;
    let mut replay: Replay = serde_json::from_str(&said.out).map_err(|_| said.refusal())?;
    let secrets = values(app, t.id)?;
    replay.said.iter_mut().for_each(|text| *text = starred(text, &secrets));
    if go && replay.rows > 0 {
        if replay.way == "alone" {
            let start = Start { from: "scratch".into(), replay: replay.files.clone(), ..Start::default() };
            jobs::start(app, v, t.id, start).await?;
        }
        audit::note(app, &v.user.name, &v.address, Some(t.id), "replay", &format!("{}: {}", replay.way, replay.said.join("; ")));
    }
    Ok(replay)
}

/// A file that goes with this value.
struct Chosen(PathBuf);

impl Drop for Chosen {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The chosen letters of a file; what is being written at its end is none yet.
fn copy(from: &FilePath, to: &FilePath, letters: &HashSet<String>) -> Result<(), Refusal> {
    let unreadable = |e: &dyn std::fmt::Display| Refusal::conflict(format!("the dead letters cannot be read: {e}"));
    let length = fs::metadata(from).map_err(|e| unreadable(&e))?.len();
    if length > LARGEST {
        return Err(unreadable(&format!("they have {}: take them from the machine itself", draw::bytes(length as f64))));
    }
    let failed = |e: std::io::Error| Refusal::failed(format!("the letters cannot be written: {e}"));
    let mut out = std::io::BufWriter::new(File::create(to).map_err(failed)?);
    let mut input = BufReader::new(File::open(from).map_err(|e| unreadable(&e))?);
    let mut line = vec![];
    while input.read_until(b'\n', &mut line).map_err(|e| unreadable(&e))? > 0 {
        if line.ends_with(b"\n") && (letters.is_empty() || letters.contains(&letter(&String::from_utf8_lossy(&line)).1)) {
            out.write_all(&line).map_err(failed)?;
        }
        line.clear();
    }
    out.flush().map_err(failed)
}

fn which(form: &Form) -> Result<Which, Refusal> {
    let letters: HashSet<String> = form.all("letter").filter_map(|h| String::from_utf8(hex::decode(h).ok()?).ok()).collect();
    let all = form.get("which") == "all";
    if letters.is_empty() && !all {
        return Err(Refusal::bad("choose at least one dead letter"));
    }
    Ok(Which {
        file: form.trimmed("file").parse().map_err(|_| Refusal::bad("`file` must be a number"))?,
        letters: if all { HashSet::new() } else { letters },
        again: form.has("again"),
    })
}

/// Says what will happen; with `go` in the form it is done.
pub async fn replay(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>, form: Form) -> Result<Response, Refusal> {
    let t = tasks::find(&app, &v, id, Role::Operator)?;
    let chosen = which(&form)?;
    let go = form.has("go");
    let told = ask(&app, &v, &t, &chosen, go).await?;
    if go && told.rows > 0 {
        let to = if told.way == "alone" { format!("/tasks/{id}") } else { format!("/tasks/{id}/rejects") };
        return Ok(Redirect::to(&to).into_response());
    }
    let replayed = told.said.iter().any(|s| s.contains("--again"));
    let hidden = |again: bool| {
        html! {
            (csrf(&v))
            input type="hidden" name="file" value=(chosen.file);
            @for letter in form.all("letter").filter(|_| !chosen.letters.is_empty()) { input type="hidden" name="letter" value=(letter); }
            @if chosen.letters.is_empty() { input type="hidden" name="which" value="all"; }
            @if again { input type="hidden" name="again" value="1"; }
        }
    };
    let page = shell(
        &l,
        Some(&v),
        &format!("{}: {}", t.name, l.t("Replay")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } " · " a href=(format!("/tasks/{id}/rejects")) { (l.t("Dead letters")) } }
            h2 { (l.t("What will happen")) }
            pre id="words" tabindex="0" { @for s in &told.said { (s) "\n" } }
            @if told.rows > 0 {
                form method="post" action=(format!("/tasks/{id}/replay")) { (hidden(chosen.again)) button class="main" name="go" value="1" { (l.t("Replay them")) } }
            }
            @if replayed && !chosen.again {
                form method="post" action=(format!("/tasks/{id}/replay")) { (hidden(true)) button { (l.t("Take those once more that were replayed before")) } }
            }
        },
    );
    Ok(page.into_response())
}
