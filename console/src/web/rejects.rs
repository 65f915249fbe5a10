//! Dead letters: the rows that a job has rejected, as its own files have them.

use super::gate::Visitor;
use super::layout::{Look, page as shell};
use super::log::{starred, values};
use crate::accounts::Role;
use crate::{App, Refusal, draw, jobs, tasks};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::Value;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

/// What is shown of a file's end, bytes and rows.
const END: u64 = 256 << 10;
const ROWS: usize = 100;
/// Largest file that is downloaded, bytes.
const LARGEST: u64 = 256 << 20;

/// The files of a task's dead letters; none outside of what its job may use.
fn files(app: &App, id: i64) -> Result<Vec<PathBuf>, Refusal> {
    let Some(run) = app.store.run(|db| Ok(jobs::runs(db, id, 1)?.pop()))? else { return Ok(vec![]) };
    let Some(folder) = run.start.socket.parent().map(|state| state.join("dead-letter")) else { return Ok(vec![]) };
    let confine = app.confine(id);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path());
    let own = |p: &PathBuf| {
        let plain = std::fs::symlink_metadata(p).is_ok_and(|m| m.is_file());
        plain && p.extension().is_some_and(|e| e == "jsonl") && confine.path(&folder, &p.to_string_lossy()).is_ok()
    };
    let mut all: Vec<PathBuf> = entries.filter(own).collect();
    all.sort();
    Ok(all)
}

/// The last rows of a file, newest first.
fn last(path: &FilePath) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(path)?;
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
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        all.push((name, size, rows.iter().map(|r| starred(r, &secrets)).collect::<Vec<_>>()));
    }
    Ok(shell(
        &l,
        Some(&v),
        &format!("{}: {}", t.name, l.t("Dead letters")),
        html! {
            p { a href=(format!("/tasks/{id}")) { (t.name) } }
            @if all.is_empty() { p { (l.t("Nothing was rejected.")) } }
            @for (i, (name, size, rows)) in all.iter().enumerate() {
                h2 { (name) }
                p { (draw::bytes(*size as f64)) " · " a href=(format!("/tasks/{id}/rejects/{i}")) { (l.t("Download")) } }
                div class="scroll" tabindex="0" { table {
                    thead { tr { th { (l.t("Part")) } th { (l.t("Reason")) } th { (l.t("Row")) } } }
                    tbody { @for row in rows {
                        @let value: Value = serde_json::from_str(row).unwrap_or_default();
                        @let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
                        tr { td { (text("part")) } td { (text("reason")) } td { code { (row) } } }
                    } }
                } }
            }
        },
    ))
}

pub async fn file(State(app): State<Arc<App>>, v: Visitor, Path((id, number)): Path<(i64, usize)>) -> Result<Response, Refusal> {
    tasks::find(&app, &v, id, Role::Viewer)?;
    let path = files(&app, id)?.into_iter().nth(number).ok_or_else(Refusal::not_found)?;
    let secrets = values(&app, id)?;
    let read = move || {
        let length = std::fs::metadata(&path)?.len();
        if length > LARGEST {
            return Err(std::io::Error::other(format!("it has {}: take it from the machine itself", draw::bytes(length as f64))));
        }
        std::fs::read(path)
    };
    let bytes = tokio::task::spawn_blocking(read).await.map_err(|e| Refusal::failed(e.to_string()))?;
    let bytes = bytes.map_err(|e| Refusal::conflict(format!("the dead letters cannot be read: {e}")))?;
    let text = starred(&String::from_utf8_lossy(&bytes), &secrets);
    let kind = [(header::CONTENT_TYPE, "application/jsonl"), (header::CONTENT_DISPOSITION, "attachment; filename=\"dead-letters.jsonl\"")];
    Ok((kind, text).into_response())
}
