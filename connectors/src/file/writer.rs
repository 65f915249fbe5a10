//! The thread of a file sink: opens, writes, compresses, rolls and syncs.

use super::Compression;
use super::ledger;
use super::naming::Naming;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use flate2::write::GzEncoder;
use millrace_sdk::source::Waker;
use millrace_sdk::{Clock, Fault, Ticket};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two syncs there is at least so much, and so many times as long as a sync takes: the source waits for what is not yet safe, and syncs
/// are to take little of the disk's time.
const MIN_REST: Duration = Duration::from_millis(10);
const REST: u32 = 10;
/// Longest pause between two attempts to write to a full disk.
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExists {
    /// Go on behind what is there.
    #[default]
    Append,
    /// Empty it, and remove its parts.
    Truncate,
    /// End the job.
    Fail,
}

/// What the thread does, from the config.
#[derive(Clone)]
pub struct Plan {
    pub naming: Naming,
    pub compression: Compression,
    pub on_exists: OnExists,
    /// Bytes of content after which a file is full.
    pub roll_size: Option<u64>,
    /// Microseconds after which a file is full.
    pub roll_every: Option<i64>,
    pub sync: Duration,
    /// How long a full disk is waited for.
    pub retry_for: Duration,
    /// The first line of every file.
    pub header: Option<Vec<u8>>,
}

pub enum Order {
    /// Whole lines, and the writes that are complete with them.
    Write(Vec<u8>, Vec<Ticket>),
    /// Sync, close, say so.
    Close,
}

/// What the thread has to say.
#[derive(Default)]
pub struct News {
    pub done: Vec<Ticket>,
    pub fault: Option<Fault>,
    /// Emptied buffers, to be filled again.
    pub spare: Vec<Vec<u8>>,
}

pub struct Writer {
    pub plan: Plan,
    pub worker: usize,
    pub clock: Clock,
    pub waker: Waker,
    pub news: Arc<Mutex<News>>,
    pub open: Option<Open>,
    /// Paths that this run has begun, by whichever writer: `on_exists` no longer applies to them.
    pub begun: Arc<Mutex<HashSet<String>>>,
}

pub struct Open {
    stem: String,
    part: u64,
    path: PathBuf,
    file: File,
    /// How long a full disk is waited for; a device that is full stays so.
    retry_for: Duration,
    /// A device has nothing to sync.
    durable: bool,
    packer: Packer,
    /// Bytes of content, before compression.
    size: u64,
    since: i64,
}

impl Writer {
    /// Runs until `Close` or the other side is gone.
    pub fn run(mut self, orders: Receiver<Order>) {
        // A run without rows leaves an empty file, not that of the run before it.
        if !self.plan.naming.timed() {
            let now = self.clock.now();
            match self.first(&self.plan.naming.stem(self.worker, now), now) {
                Ok(open) => self.open = Some(open),
                Err(fault) => return self.tell(|news| news.fault = Some(fault)),
            }
        }
        let mut waiting: Vec<Ticket> = vec![];
        let mut due: Option<Instant> = None;
        let mut took = Duration::ZERO;
        loop {
            let order = match due {
                Some(at) => orders.recv_deadline(at),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let (outcome, last) = match order {
                Ok(Order::Write(mut bytes, tickets)) => {
                    let outcome = self.write(&bytes);
                    waiting.extend(tickets);
                    bytes.clear();
                    self.tell(|news| news.spare.push(bytes));
                    due.get_or_insert_with(|| Instant::now() + self.rest(took));
                    (outcome, false)
                }
                Ok(Order::Close) => (Ok(()), true),
                Err(RecvTimeoutError::Timeout) => (Ok(()), false),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let begun = Instant::now();
            let late = last || due.is_some_and(|at| begun >= at);
            let outcome = outcome.and_then(|()| if late { self.sync(last) } else { Ok(()) });
            if late {
                took = begun.elapsed();
            }
            if let Err(fault) = outcome {
                self.tell(|news| news.fault = Some(fault));
                return;
            }
            if late {
                due = None;
                let done = std::mem::take(&mut waiting);
                self.tell(|news| news.done.extend(done));
            } else {
                (self.waker)();
            }
            if last {
                return;
            }
        }
    }

    /// How long after a write the next sync comes, by how long the last one took. In a compressed file each one ends a piece.
    fn rest(&self, took: Duration) -> Duration {
        let packed = self.open.as_ref().is_some_and(|o| o.packer.compression != Compression::None);
        if packed { self.plan.sync } else { (took * REST).max(MIN_REST).min(self.plan.sync) }
    }

    fn tell(&self, say: impl FnOnce(&mut News)) {
        say(&mut self.news.lock().unwrap_or_else(|e| e.into_inner()));
        (self.waker)();
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let now = self.clock.now();
        let stem = self.plan.naming.stem(self.worker, now);
        if let Some(open) = &self.open {
            let full = self.plan.roll_size.is_some_and(|s| open.size >= s) || self.plan.roll_every.is_some_and(|e| now - open.since >= e);
            let part = open.part;
            if open.stem != stem {
                self.sync(true)?;
            } else if full {
                self.sync(true)?;
                self.open = Some(self.begin(&stem, part + 1, now)?);
            }
        }
        if self.open.is_none() {
            self.open = Some(self.first(&stem, now)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.size += bytes.len() as u64;
        let packed = open.packer.pack(bytes).map_err(|e| cannot_write(&open.path, &e))?;
        write_all(&mut open.file, &packed, &open.path, open.retry_for)
    }

    /// Opens the first file of a path in this run, as `on_exists` says.
    fn first(&self, stem: &str, now: i64) -> Result<Open, Fault> {
        // Held until the old files are gone: no other writer may begin this path meanwhile.
        let begun = self.begun.clone();
        let mut begun = begun.lock().unwrap_or_else(|e| e.into_inner());
        let known = !begun.insert(stem.to_string());
        let parts = self.plan.naming.parts(stem);
        let next = match (parts.last(), known, self.plan.on_exists) {
            (Some((part, _)), true, _) | (Some((part, _)), false, OnExists::Append) => *part,
            (Some((_, path)), false, OnExists::Fail) => return Err(exists(path)),
            (Some(_), false, OnExists::Truncate) => {
                for (_, path) in &parts {
                    std::fs::remove_file(path).map_err(|e| cannot_write(path, &e))?;
                }
                0
            }
            (None, ..) => 0,
        };
        self.begin(stem, next, now)
    }

    /// Opens a part, behind what is in it.
    fn begin(&self, stem: &str, part: u64, now: i64) -> Result<Open, Fault> {
        let path = self.plan.naming.path(stem, part);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
        }
        ledger::release(&ledger::folder(&self.plan.naming.root()), stem, part)?;
        let fault = |e: io::Error| cannot_write(&path, &e);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(fault)?;
        let about = file.metadata().map_err(fault)?;
        let (len, durable) = (about.len(), about.is_file());
        let retry_for = if durable { self.plan.retry_for } else { Duration::ZERO };
        let packer = Packer::new(self.plan.compression.of(&path));
        let copy = file.try_clone().map_err(fault)?;
        let mut open = Open { stem: stem.into(), part, path: path.clone(), size: len, since: now, packer, file: copy, retry_for, durable };
        if len == 0 {
            // The file's name must survive a loss of power, too. Not every file system can sync a folder.
            if let Some(Err(e)) = path.parent().map(|folder| File::open(folder).and_then(|f| f.sync_all())) {
                tracing::debug!("the folder of `{}` cannot be synced: {e}", path.display());
            }
            if let Some(header) = &self.plan.header {
                let packed = open.packer.pack(header).map_err(fault)?;
                write_all(&mut open.file, &packed, &path, retry_for)?;
            }
        } else if open.packer.compression == Compression::None {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(fault)?;
            if last[0] != b'\n' {
                tracing::warn!(
                    "`{}` ends with half a line, left by a run that was killed: new rows begin on a line of their own",
                    path.display()
                );
                write_all(&mut open.file, b"\n", &path, retry_for)?;
            }
        }
        Ok(open)
    }

    /// Makes everything that was written durable.
    fn sync(&mut self, close: bool) -> Result<(), Fault> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let empty = close && open.size == 0;
        let end = open.packer.end(empty).map_err(|e| cannot_write(&open.path, &e))?;
        write_all(&mut open.file, &end, &open.path, open.retry_for)?;
        // Never tried again: after a failure the kernel may have dropped what was not written, and a second call would find nothing wrong.
        if open.durable {
            open.file.sync_data().map_err(|e| cannot_write(&open.path, &e))?;
        }
        if close {
            self.open = None;
        }
        Ok(())
    }
}

/// Content of a compressed file that is not yet written: every MiB, and what there is at a sync, becomes a gzip member or zstd
/// frame of its own, so that what is durable can also be read.
pub struct Packer {
    compression: Compression,
    content: Vec<u8>,
}

impl Packer {
    pub fn new(compression: Compression) -> Packer {
        Packer { compression, content: vec![] }
    }

    /// What is to be written for these bytes now.
    pub fn pack<'a>(&mut self, bytes: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        if self.compression == Compression::None {
            return Ok(Cow::Borrowed(bytes));
        }
        self.content.extend_from_slice(bytes);
        if self.content.len() < 1 << 20 { Ok(Cow::Borrowed(&[])) } else { self.end(false).map(Cow::Owned) }
    }

    /// `empty`: a member even if there is no content, as an empty file is no compressed file.
    pub fn end(&mut self, empty: bool) -> io::Result<Vec<u8>> {
        if self.content.is_empty() && !empty {
            return Ok(vec![]);
        }
        let packed = match self.compression {
            Compression::None => vec![],
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(vec![], flate2::Compression::default());
                encoder.write_all(&self.content)?;
                encoder.finish()?
            }
            _ => zstd::encode_all(&self.content[..], 3)?,
        };
        self.content.clear();
        Ok(packed)
    }
}

/// Writes all bytes, each once, and waits while the disk is full.
fn write_all(file: &mut File, mut bytes: &[u8], path: &Path, retry_for: Duration) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let written = retried(path, retry_for, || file.write(bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Tries again, with longer and longer pauses, while the disk is full.
fn retried<T>(path: &Path, retry_for: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T, Fault> {
    let mut pause = Duration::from_millis(100);
    let mut since: Option<Instant> = None;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if is_full(&e) && since.is_none_or(|s| s.elapsed() < retry_for) => {
                if since.is_none() {
                    since = Some(Instant::now());
                    tracing::warn!("the disk of `{}` is full: waiting for room", path.display());
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(MAX_PAUSE);
            }
            Err(e) => return Err(cannot_write(path, &e)),
        }
    }
}

fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub fn exists(path: &Path) -> Fault {
    Fault::refused(format!("file `{}` exists already", path.display())).hint("move it away, or set `on_exists: append` or `truncate`")
}

pub fn cannot_write(path: &Path, e: &io::Error) -> Fault {
    let path = path.display();
    if is_full(e) {
        return Fault::down(format!("cannot write to `{path}`: the disk is full")).hint("make room and start the job again");
    }
    match e.kind() {
        io::ErrorKind::PermissionDenied => Fault::refused(format!("cannot write to `{path}`: permission denied")),
        io::ErrorKind::ReadOnlyFilesystem => Fault::refused(format!("cannot write to `{path}`: the file system is read-only")),
        _ => Fault::refused(format!("cannot write to `{path}`")).detail(e.to_string()),
    }
}
