//! A file and its rotations: one partition, read in the order in which it was written.

use super::Compression;
use super::input::{Input, Mark};
use super::listing::siblings;
use super::reading::{Reading, cannot_read, damage};
use super::source::Shared;
use millrace_sdk::operator::{MAX_REJECT_BYTES, Reject};
use millrace_sdk::source::{Poll, Pull};
use millrace_sdk::{Fault, Meta};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Lineage {
    /// The file that is written to; its rotations are told from its name.
    base: PathBuf,
    meta: Meta,
    /// Files still to be read and where to begin, oldest first.
    queue: VecDeque<(PathBuf, u64)>,
    current: Option<Reading>,
    /// The end of the file read last.
    last: Option<Mark>,
    /// When the file being read was seen to have a successor, or its last row after that.
    rotated: Option<i64>,
    /// Files of the listing, oldest first.
    files: Vec<PathBuf>,
}

/// What became of a followed file whose end was reached.
#[derive(PartialEq)]
enum Fate {
    Same,
    /// It holds other content than what was read.
    Truncated,
    /// Another file has its name, or none.
    Rotated,
}

impl Lineage {
    /// `at_end`: of a followed file only what comes from now on.
    pub fn new(base: PathBuf, files: Vec<PathBuf>, meta: Meta, at_end: bool) -> Lineage {
        let queue = if at_end {
            let len = base.metadata().map_or(0, |m| m.len());
            VecDeque::from([(base.clone(), len)])
        } else {
            files.iter().map(|f| (f.clone(), 0)).collect()
        };
        Lineage { base, meta, queue, current: None, last: None, rotated: None, files }
    }

    /// Goes on at a saved place: in the file that was read then, wherever it lies now, then in its successors.
    pub fn resume(&mut self, mark: Mark, shared: &Shared) -> Result<(), Fault> {
        let files = if shared.follow { siblings(&self.base) } else { self.files.clone() };
        let is = |f: &PathBuf| mark.is(f, shared.compression);
        let inode = |f: &PathBuf| f.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (mark.dev, mark.ino)) && is(f);
        let place = files.iter().position(inode).or_else(|| files.iter().position(is));
        self.current = None;
        match place {
            Some(i) => {
                self.queue = files[i..].iter().map(|f| (f.clone(), 0)).collect();
                self.queue[0].1 = mark.offset;
            }
            None if shared.follow => {
                let (path, offset) = (mark.path.display(), mark.offset);
                tracing::warn!(
                    "`{path}` was rotated away after byte {offset}: what followed there is lost, reading goes on with its successor"
                );
                self.queue = VecDeque::from([(self.base.clone(), 0)]);
            }
            None => {
                let path = mark.path.display();
                return Err(Fault::refused(format!("cannot go on in file `{path}` at byte {}: it is gone or has changed", mark.offset))
                    .hint("put the file back, or start the job from scratch"));
            }
        }
        self.last = Some(mark);
        Ok(())
    }

    /// The place behind the last row.
    pub fn mark(&mut self, shared: &Shared) -> Option<Mark> {
        if let Some(reading) = &self.current {
            return Some(reading.mark());
        }
        match self.queue.front() {
            // Nothing is read yet: the place where it begins, so that a restart does not begin elsewhere.
            Some((path, offset)) if self.last.is_none() => {
                let mut input = Input::open(path, shared.compression).ok()?;
                Mark::of(&mut input, *offset).ok()
            }
            _ => self.last.clone(),
        }
    }

    pub fn poll(&mut self, shared: &Shared, pull: &mut Pull<'_>, now: i64) -> Result<Poll, Fault> {
        loop {
            if self.current.is_none() && !self.open_next(shared, pull)? {
                return Ok(if shared.follow { Poll::Pending } else { Poll::Ended });
            }
            let Some(reading) = &mut self.current else { continue };
            if let Some(seen) = reading.ended {
                let stamp = reading.input.stamp().map_err(|e| cannot_read(&reading.input.path, &e))?;
                if stamp == Some(seen) {
                    if self.wait_or_go(shared, pull, now)? {
                        return Ok(Poll::Pending);
                    }
                    continue;
                }
                if self.fate()? == Fate::Truncated {
                    self.truncated(shared);
                    continue;
                }
            }
            let Some(reading) = &mut self.current else { continue };
            reading.ended = None;
            let before = reading.at;
            // Taken before the read: what is written while the end is met must not be overlooked.
            let stamp = reading.input.stamp().map_err(|e| cannot_read(&reading.input.path, &e))?;
            let end = reading.read(shared, pull, !shared.follow)?;
            let moved = reading.at != before;
            if moved && self.rotated.is_some() {
                self.rotated = Some(now);
            }
            if !end {
                return Ok(Poll::Ready);
            }
            if !shared.follow || stamp.is_none() {
                self.finish(shared, pull)?;
                return Ok(Poll::Ready);
            }
            reading.ended = stamp;
            if moved {
                return Ok(Poll::Ready);
            }
        }
    }

    /// Opens the next file; false: there is none. One that is no compressed file at all becomes a dead letter.
    fn open_next(&mut self, shared: &Shared, pull: &mut Pull<'_>) -> Result<bool, Fault> {
        while let Some((path, offset)) = self.queue.pop_front() {
            match Reading::open(&path, offset, self.meta, shared) {
                Ok(reading) => {
                    self.current = Some(reading);
                    return Ok(true);
                }
                Err(e) if shared.follow && e.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!("`{}` went away before it was read", path.display());
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                    let message = damage(&path, &e);
                    tracing::error!("{message}");
                    let meta = Meta { offset, ..self.meta };
                    let mut bytes = vec![];
                    let begin = std::fs::File::open(&path).and_then(|f| f.take(MAX_REJECT_BYTES as u64).read_to_end(&mut bytes));
                    begin.map_err(|e| cannot_read(&path, &e))?;
                    pull.rejects.push(Reject::new("damaged-file", message, meta, &bytes));
                    self.last = Input::open(&path, Compression::None).and_then(|mut i| Mark::of(&mut i, 0)).ok();
                }
                Err(e) => return Err(cannot_read(&path, &e)),
            }
        }
        let fresh = |last: &Mark| self.base.metadata().is_ok_and(|m| (m.dev(), m.ino()) != (last.dev, last.ino));
        if shared.follow && self.last.as_ref().map_or_else(|| self.base.is_file(), fresh) {
            self.queue.push_back((self.base.clone(), 0));
            return self.open_next(shared, pull);
        }
        Ok(false)
    }

    /// The present file is read to its end: what is left is its last record.
    fn finish(&mut self, shared: &Shared, pull: &mut Pull<'_>) -> Result<(), Fault> {
        if let Some(mut reading) = self.current.take() {
            reading.read(shared, pull, true)?;
            self.last = Some(reading.mark());
        }
        self.rotated = None;
        Ok(())
    }

    /// At the end of a followed file in which nothing has changed: true to wait, false when its successor is to be read.
    fn wait_or_go(&mut self, shared: &Shared, pull: &mut Pull<'_>, now: i64) -> Result<bool, Fault> {
        match self.fate()? {
            Fate::Same => {
                self.rotated = None;
                Ok(true)
            }
            Fate::Truncated => {
                self.truncated(shared);
                Ok(false)
            }
            Fate::Rotated => {
                let since = *self.rotated.get_or_insert(now);
                if now - since < shared.rotate_wait {
                    return Ok(true);
                }
                let successors = self.successors();
                if successors.is_empty() {
                    return Ok(true);
                }
                self.finish(shared, pull)?;
                self.queue.extend(successors.into_iter().map(|p| (p, 0)));
                Ok(false)
            }
        }
    }

    fn fate(&mut self) -> Result<Fate, Fault> {
        let Some(reading) = &mut self.current else { return Ok(Fate::Same) };
        let broken = |e: io::Error| cannot_read(&self.base, &e);
        if let Some(stamp) = reading.input.stamp().map_err(broken)? {
            let mark = reading.mark();
            if stamp.len < reading.at || !mark.holds(&mut reading.input) {
                return Ok(Fate::Truncated);
            }
        }
        Ok(match self.base.metadata() {
            Ok(m) if (m.dev(), m.ino()) == (reading.input.dev, reading.input.ino) => Fate::Same,
            Ok(_) => Fate::Rotated,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Fate::Rotated,
            Err(e) => return Err(broken(e)),
        })
    }

    /// Files written after the one being read: its younger rotations, then the file that has its name now.
    fn successors(&self) -> Vec<PathBuf> {
        let Some(reading) = &self.current else { return vec![] };
        let id = (reading.input.dev, reading.input.ino);
        let all = siblings(&self.base);
        let is = |p: &Path| p.metadata().is_ok_and(|m| (m.dev(), m.ino()) == id);
        match all.iter().position(|p| is(p)) {
            Some(i) => all[i + 1..].to_vec(),
            None => all.into_iter().filter(|p| *p == self.base).collect(),
        }
    }

    /// The file was emptied in place (copytruncate): what was not yet read of it is in its copy, if there is one.
    fn truncated(&mut self, shared: &Shared) {
        let Some(reading) = self.current.take() else { return };
        let mark = reading.mark();
        let at = mark.offset;
        let copy = siblings(&self.base)
            .into_iter()
            .rev()
            .filter(|p| *p != self.base)
            .find(|p| Input::open(p, shared.compression).is_ok_and(|mut i| mark.holds(&mut i) && i.seek(at).is_ok()));
        let path = self.base.display();
        match copy {
            Some(copy) => {
                tracing::info!("`{path}` was truncated: its rest is read from `{}`", copy.display());
                self.queue.push_back((copy, at));
            }
            None => tracing::warn!("`{path}` was truncated after byte {at}: what was not yet read of it is lost"),
        }
        self.queue.push_back((self.base.clone(), 0));
        self.rotated = None;
    }
}
