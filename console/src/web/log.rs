//! A job's log: as it is written, and as a file. Values of secrets are starred.

use super::gate::Visitor;
use crate::accounts::Role;
use crate::stars::{starred, values};
use crate::{App, Refusal, accounts, tasks};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is shown of what was written before, bytes.
const BEFORE: u64 = 128 << 10;
/// Read at a time, bytes.
const PIECE: u64 = 256 << 10;
const PAUSE: Duration = Duration::from_millis(300);
/// Between two looks whether the visitor may still see the task.
const LOOK: Duration = Duration::from_secs(1);

struct Tail {
    path: PathBuf,
    at: Option<u64>,
    /// Which file it is: a new one may be as long.
    inode: u64,
    rest: Vec<u8>,
    secrets: Vec<String>,
}

impl Tail {
    /// New lines; true: of another file.
    fn lines(&mut self) -> Option<(bool, Vec<String>)> {
        use std::os::unix::fs::MetadataExt;
        let mut file = std::fs::File::open(&self.path).ok()?;
        let about = file.metadata().ok()?;
        let again = self.at.is_some_and(|at| about.len() < at || about.ino() != self.inode);
        self.inode = about.ino();
        let at = match self.at.filter(|_| !again) {
            Some(at) => at,
            None => {
                self.rest.clear();
                about.len().saturating_sub(BEFORE)
            }
        };
        file.seek(SeekFrom::Start(at)).ok()?;
        let begins = self.at.is_none() && at > 0;
        let mut bytes = std::mem::take(&mut self.rest);
        let read = file.take(PIECE).read_to_end(&mut bytes).ok()? as u64;
        self.at = Some(at + read);
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        self.rest = bytes.split_off(end);
        if self.rest.len() as u64 > PIECE {
            self.rest.clear();
        }
        let mut lines: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(|l| starred(l, &self.secrets)).collect();
        if begins && !lines.is_empty() {
            // It began in the middle of a line.
            lines.remove(0);
        }
        (again || !lines.is_empty()).then_some((again, lines))
    }
}

pub async fn stream(
    State(app): State<Arc<App>>,
    v: Visitor,
    Path(id): Path<i64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    tasks::find(&app, &v, id, Role::Viewer)?;
    let place = app.streams.take(v.user.id)?;
    let tail = Tail { path: app.control(id).join("log"), at: None, inode: 0, rest: vec![], secrets: values(&app, id)? };
    let state = (app, v, tail, VecDeque::<Event>::new(), Instant::now(), place);
    let events = futures::stream::unfold(state, move |(app, v, mut tail, mut waiting, mut asked, place)| async move {
        loop {
            // Who was logged out, or left the team, reads no further.
            if asked.elapsed() >= LOOK {
                if !still(&app, &v, id, Role::Viewer) {
                    return None;
                }
                asked = Instant::now();
            }
            if let Some(event) = waiting.pop_front() {
                return Some((Ok(event), (app, v, tail, waiting, asked, place)));
            }
            if let Some((again, lines)) = tail.lines() {
                if again {
                    waiting.push_back(Event::default().event("again").data(""));
                }
                let text = serde_json::to_string(&lines).unwrap_or_default();
                waiting.push_back(Event::default().event("lines").data(text));
                continue;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Whether a visitor who was let in would still be, with the role and the teams that they have now.
pub fn still(app: &App, v: &Visitor, id: i64, role: Role) -> bool {
    let now = app.clock.now();
    let user = match v.session.is_empty() {
        true => accounts::bearer(&app.store, &v.token, now),
        false => accounts::session(&app.store, &v.session, now).map(|s| s.map(|s| s.user)),
    };
    let Ok(Some(user)) = user else { return false };
    tasks::find(app, &Visitor { user, ..v.clone() }, id, role).is_ok()
}

/// A file of lines as it is downloaded, a piece at a time: it may be larger than the console's memory. Values of secrets are starred.
pub fn lines_of(path: &FilePath, secrets: Vec<String>) -> Body {
    let Ok(file) = std::fs::File::open(path) else { return Body::empty() };
    let length = file.metadata().map_or(0, |m| m.len());
    // What is written meanwhile belongs to the next download.
    let file = std::io::BufReader::with_capacity(PIECE as usize, file.take(length));
    Body::from_stream(futures::stream::unfold((file, secrets), |(mut file, secrets)| async move {
        let mut piece = vec![];
        while (piece.len() as u64) < PIECE {
            match file.read_until(b'\n', &mut piece) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => return Some((Err(e), (file, secrets))),
            }
        }
        let text = starred(&String::from_utf8_lossy(&piece), &secrets);
        (!piece.is_empty()).then(|| (Ok(Bytes::from(text)), (file, secrets)))
    }))
}

pub async fn file(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Result<Response, Refusal> {
    tasks::find(&app, &v, id, Role::Viewer)?;
    let secrets = values(&app, id)?;
    let text = lines_of(&app.control(id).join("log"), secrets);
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONTENT_DISPOSITION, "attachment; filename=\"job.log\"")];
    Ok((kind, text).into_response())
}

/// A piece of the log from a byte on, in whole lines, and where the next begins; from the start where the log is a new one.
///
/// # Errors
/// The database.
pub fn piece(app: &App, id: i64, after: u64) -> Result<(String, u64), Refusal> {
    const MOST: u64 = 1 << 20;
    let secrets = values(app, id)?;
    let Ok(mut file) = std::fs::File::open(app.control(id).join("log")) else { return Ok((String::new(), 0)) };
    let length = file.metadata().map_or(0, |m| m.len());
    let at = if after > length { 0 } else { after };
    let mut bytes = vec![];
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.take(MOST).read_to_end(&mut bytes));
    read.map_err(|e| Refusal::failed(format!("the log cannot be read: {e}")))?;
    // A line that is longer than a piece is cut.
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(if bytes.len() as u64 == MOST { bytes.len() } else { 0 }, |i| i + 1);
    Ok((starred(&String::from_utf8_lossy(&bytes[..end]), &secrets), at + end as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_gives_whole_lines_once_and_notices_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail { path: path.clone(), at: None, inode: 0, rest: vec![], secrets: vec!["hunter22".into()] };
        assert_eq!(tail.lines(), None);
        std::fs::write(&path, "a\nb hunter22\nhal").unwrap();
        assert_eq!(tail.lines(), Some((false, vec!["a".into(), "b ***".into()])));
        assert_eq!(tail.lines(), None);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"f\n").unwrap();
        assert_eq!(tail.lines(), Some((false, vec!["half".into()])));
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        std::fs::write(&path, "new file, longer than the first one\n").unwrap();
        assert_eq!(tail.lines(), Some((true, vec!["new file, longer than the first one".into()])));
    }
}
