//! The threads that bring state into its tier, and a tier's checkpoints into storage: one a state, so that what is written stays in order.

use super::order::order;
use crate::checkpoint::{Ack, Body, Spot, Uploads};
use crate::control::Shared;
use millrace_durable::{FileRef, JobLog, Piece, StateInfo};
use millrace_sdk::tier::{Tier, TierFile, Tiers};
use millrace_sdk::{Fault, point};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::hint::black_box;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes on their way to the tiers of a process, beyond which no more is sent: at most so many, and this part of the budget.
const IN_FLIGHT: (usize, u64) = (48 << 20, 24);
/// As many chunks are that.
const CHUNKS: usize = 3;
/// So many changes are read before they are needed.
const AHEAD: usize = 16;
const PAUSE: Duration = Duration::from_micros(200);
/// A full disk is tried again after this; whether the run is over is looked for more often.
const FULL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
/// And told again after this.
const TELL: Duration = Duration::from_secs(60);
/// The format of a piece that lies in a tier, in manifests.
pub const FORMAT: &str = "rocksdb";
/// The file of a piece with all that is not shared with other checkpoints.
pub const META: &str = "meta";

/// Where the tiers of a run lie: a folder of its own, which goes with it.
pub struct TierRoom {
    pub tiers: Arc<dyn Tiers>,
    base: PathBuf,
    /// Made when the first tier is.
    made: Mutex<Option<(PathBuf, File)>>,
}

const LOCK: &str = "lock";

impl TierRoom {
    /// `base`: folders of runs that are no more are deleted there.
    pub fn new(tiers: Arc<dyn Tiers>, base: PathBuf) -> TierRoom {
        TierRoom { tiers, base, made: Mutex::new(None) }
    }

    /// A path in the run's folder at which nothing is.
    pub fn place(&self, name: &str) -> Result<PathBuf, Fault> {
        let mut made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        if made.is_none() {
            *made = Some(self.make().map_err(|e| {
                let what = format!("a folder for state cannot be made in `{}`", self.base.display());
                let full = matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                Fault { retry: full, ..Fault::refused(what).detail(e.to_string()) }
            })?);
        }
        let folder = made.as_ref().map(|(folder, _)| folder.clone()).unwrap_or_default();
        Ok(folder.join(name))
    }

    fn make(&self) -> std::io::Result<(PathBuf, File)> {
        std::fs::create_dir_all(&self.base)?;
        for other in std::fs::read_dir(&self.base)?.flatten() {
            // Whoever holds the lock lives.
            let dead = File::open(other.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if dead {
                std::fs::remove_dir_all(other.path())?;
            }
        }
        let mut number = std::process::id();
        loop {
            let folder = self.base.join(number.to_string());
            match std::fs::create_dir(&folder) {
                Ok(()) => {
                    // Locked before anybody finds it.
                    let unlocked = folder.join("unlocked");
                    let lock = File::create_new(&unlocked)?;
                    lock.lock()?;
                    std::fs::rename(unlocked, folder.join(LOCK))?;
                    return Ok((folder, lock));
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => number = number.wrapping_add(1),
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for TierRoom {
    fn drop(&mut self) {
        if let Some((folder, _)) = self.made.lock().unwrap_or_else(|e| e.into_inner()).take() {
            // The next run tries again.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A change in a chunk: where its key is, how long it is, and how long the value behind it.
pub struct Line {
    at: u32,
    key: u32,
    value: u32,
}

/// The length of no value: the key is deleted.
const DELETED: u32 = u32::MAX;

/// Changes on their way to a tier.
#[derive(Default)]
pub struct Chunk {
    /// From 1, in the order of sending.
    pub number: u64,
    pub bytes: Vec<u8>,
    pub lines: Vec<Line>,
    /// What is deleted besides, from (included) to (excluded); nothing in `lines` lies there.
    pub ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Chunk {
    pub fn new(number: u64) -> Chunk {
        Chunk { number, ..Chunk::default() }
    }

    /// Adds a change: what writes the key, and what writes the value; None deletes.
    pub fn line(&mut self, key: impl FnOnce(&mut Vec<u8>), value: Option<impl FnOnce(&mut Vec<u8>)>) {
        let at = self.bytes.len();
        key(&mut self.bytes);
        let behind = self.bytes.len();
        let value = value.map_or(DELETED, |value| {
            value(&mut self.bytes);
            (self.bytes.len() - behind) as u32
        });
        self.lines.push(Line { at: at as u32, key: (behind - at) as u32, value });
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.ranges.clear();
    }

    fn key(&self, l: &Line) -> &[u8] {
        &self.bytes[l.at as usize..][..l.key as usize]
    }

    fn write(&self, tier: &dyn Tier) -> Result<(), Fault> {
        // Of several changes of one key the last one counts.
        let order = order(self.lines.len(), |i| self.key(&self.lines[i]));
        let line = |i: usize| order.get(i).map(|&at| &self.lines[at as usize]);
        let mut entries = order.iter().enumerate().map(|(i, &at)| {
            // They lie in another order than they are read in, so they are brought near some at a time, that their cache misses overlap:
            // first where they are, then what is there.
            if i % AHEAD == 0 {
                black_box((i + AHEAD..i + 2 * AHEAD).filter_map(line).fold(0, |read, l| read ^ l.at));
                black_box((i..i + AHEAD).filter_map(line).fold(0, |read, l| read ^ self.bytes.get(l.at as usize).copied().unwrap_or(0)));
            }
            let l = &self.lines[at as usize];
            let value = &self.bytes[(l.at + l.key) as usize..];
            (self.key(l), (l.value != DELETED).then(|| &value[..l.value as usize]))
        });
        tier.write(&mut entries, &self.ranges)
    }
}

/// A checkpoint of a state, to be taken once all that was sent before is written.
pub struct Save {
    pub attempt: u64,
    pub idle: bool,
    /// Without files.
    pub piece: Piece,
    pub states: Vec<StateInfo>,
    /// See [`super::meta`].
    pub header: Vec<u8>,
}

/// What a state's tier stands in for in checkpoints.
pub struct Kept {
    pub spot: Spot,
    pub generation: u64,
    pub uploads: Arc<Uploads>,
    /// Files of the last checkpoint that later ones may share, by their names in the tier.
    ///
    /// Invariant: a file that has once left the tier's checkpoints never comes back. So a file in here was named by the newest manifest or by
    /// none, which is what pruning asks for.
    pub known: Arc<Mutex<HashMap<String, FileRef>>>,
}

enum Task {
    Write(Chunk),
    Save(Box<Save>),
}

/// A state's way to its tier.
pub struct Writer {
    /// Bytes of a chunk: what the tier writes at a time.
    pub chunk: usize,
    most: usize,
    /// A chunk that is written, for its room.
    spare: Arc<Mutex<Option<Chunk>>>,
    tasks: Option<Sender<Task>>,
    landed: Arc<AtomicU64>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(tier: Arc<dyn Tier>, folder: &Path, shared: &Arc<Shared>, kept: Option<Kept>) -> Result<Writer, Fault> {
        let (tasks, todo) = channel();
        let landed: Arc<AtomicU64> = Arc::default();
        let most = shared.memory.share(IN_FLIGHT.1, IN_FLIGHT.0);
        let spare: Arc<Mutex<Option<Chunk>>> = Arc::default();
        let checkpoints = folder.with_extension("checkpoints");
        let worker = Work { tier, checkpoints, landed: landed.clone(), spare: spare.clone(), shared: shared.clone(), kept };
        let run = move || {
            let shared = worker.shared.clone();
            if catch_unwind(AssertUnwindSafe(|| worker.run(&todo))).is_err() {
                shared.fail(Fault::bug("the thread that writes state panicked"));
            }
        };
        let thread = std::thread::Builder::new().name("state".into()).spawn(run);
        let thread = thread.map_err(|e| Fault::refused(format!("threads for state cannot be started: {e}")))?;
        Ok(Writer { chunk: most / CHUNKS, most, spare, tasks: Some(tasks), landed, shared: shared.clone(), thread: Some(thread) })
    }

    fn send(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            // A thread that is gone has told why.
            let _ = tasks.send(task);
        }
    }

    /// An empty chunk, in the room of one that is written if there is one: fresh memory costs more than what is put into it.
    pub fn empty(&self, number: u64) -> Chunk {
        let spare = self.spare.lock().unwrap_or_else(|e| e.into_inner()).take();
        Chunk { number, ..spare.unwrap_or_default() }
    }

    pub fn write(&self, chunk: Chunk) {
        self.shared.memory.in_flight.fetch_add(chunk.bytes.len(), SeqCst);
        self.send(Task::Write(chunk));
    }

    pub fn checkpoint(&self, save: Save) {
        self.send(Task::Save(Box::new(save)));
    }

    /// The last chunk that is written.
    pub fn landed(&self) -> u64 {
        self.landed.load(SeqCst)
    }

    pub fn is_full(&self) -> bool {
        self.shared.memory.in_flight.load(SeqCst) > self.most
    }

    /// Until this chunk is written, or the run is over.
    pub fn wait(&self, number: u64) {
        while self.landed() < number && !self.shared.failed() {
            std::thread::sleep(PAUSE);
        }
    }

    pub fn wait_for_room(&self) {
        while self.is_full() && !self.shared.failed() {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    tier: Arc<dyn Tier>,
    checkpoints: PathBuf,
    landed: Arc<AtomicU64>,
    spare: Arc<Mutex<Option<Chunk>>>,
    shared: Arc<Shared>,
    kept: Option<Kept>,
}

impl Work {
    fn run(self, todo: &Receiver<Task>) {
        let mut behind = VecDeque::new();
        while let Some(task) = behind.pop_front().or_else(|| todo.recv().ok()) {
            if self.shared.failed() {
                return;
            }
            match task {
                Task::Write(mut chunk) => {
                    let (number, bytes) = (chunk.number, chunk.bytes.len());
                    let mut told: Option<Instant> = None;
                    while let Err(fault) = chunk.write(&*self.tier) {
                        if !fault.retry {
                            return self.shared.fail(fault);
                        }
                        if told.is_none_or(|t| t.elapsed() > TELL) {
                            tracing::warn!(target: "state", "{fault}");
                            told = Some(Instant::now());
                        }
                        if !self.wait_for_disk(&fault, todo, &mut behind) {
                            return;
                        }
                    }
                    if told.is_some() {
                        tracing::info!(target: "state", "state on disk is written again");
                    }
                    self.shared.memory.in_flight.fetch_sub(bytes, SeqCst);
                    self.landed.store(number, SeqCst);
                    chunk.clear();
                    *self.spare.lock().unwrap_or_else(|e| e.into_inner()) = Some(chunk);
                }
                Task::Save(save) => self.save(*save),
            }
        }
    }

    /// Until it is time to try again: the checkpoints that come meanwhile fail, and what else comes stays behind. Whether anybody needs it still.
    fn wait_for_disk(&self, fault: &Fault, todo: &Receiver<Task>, behind: &mut VecDeque<Task>) -> bool {
        let since = Instant::now();
        behind.retain(|task| !self.give_up(task, fault));
        while let Some(left) = FULL.checked_sub(since.elapsed()) {
            if self.shared.failed() {
                return false;
            }
            match todo.recv_timeout(left.min(LOOK)) {
                Ok(task) if self.give_up(&task, fault) => (),
                Ok(task) => behind.push_back(task),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Whether it is a checkpoint, which then has failed.
    fn give_up(&self, task: &Task, fault: &Fault) -> bool {
        let (Task::Save(save), Some(kept)) = (task, &self.kept) else { return false };
        let body = Body::Failed { fault: fault.clone().into(), chunks: vec![] };
        self.shared.bounds.ack(Ack { attempt: save.attempt, from: kept.spot, body });
        true
    }

    /// Links the tier's files, and has those that storage does not have put there.
    fn save(&self, save: Save) {
        let Some(kept) = &self.kept else { return };
        let folder = self.checkpoints.join(save.attempt.to_string());
        let made = std::fs::create_dir_all(&self.checkpoints)
            .map_err(|e| Fault::refused(format!("`{}` cannot be made", self.checkpoints.display())).detail(e.to_string()))
            .and_then(|()| self.tier.checkpoint(&folder));
        point::reach("tier-linked");
        let (shared, known, from, attempt) = (self.shared.clone(), kept.known.clone(), kept.spot, save.attempt);
        let Save { idle, mut piece, states, header, .. } = save;
        let prefix = JobLog::file_name(kept.generation, &format!("n{}-w{}-", from.node, from.worker));
        kept.uploads.run(move |log| {
            let stored = made.and_then(|files| {
                // Others that are taken meanwhile wait here: they share what this one uploads.
                let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
                let stored = upload(log, &folder, &files, &prefix, attempt, header, &known)?;
                *known = stored.iter().filter(|(name, _)| *name != META).map(|(n, f)| (n.clone(), f.clone())).collect();
                Ok(stored)
            });
            // What is left of it goes with the run's folder.
            let _ = std::fs::remove_dir_all(&folder);
            let body = match stored {
                Ok(files) => {
                    piece.files = files;
                    Body::State { states, piece, idle }
                }
                Err(fault) => Body::Failed { fault: fault.into(), chunks: vec![] },
            };
            shared.bounds.ack(Ack { attempt, from, body });
        });
    }
}

fn upload(
    log: &JobLog,
    folder: &Path,
    files: &[TierFile],
    prefix: &str,
    attempt: u64,
    header: Vec<u8>,
    known: &HashMap<String, FileRef>,
) -> Result<BTreeMap<String, FileRef>, Fault> {
    let mut stored = BTreeMap::new();
    let mut small = vec![];
    for f in files {
        let path = folder.join(&f.name);
        if !f.lasting {
            let bytes =
                std::fs::read(&path).map_err(|e| Fault::refused(format!("`{}` cannot be read", path.display())).detail(e.to_string()))?;
            small.push((f.name.clone(), bytes));
            continue;
        }
        let file = match known.get(&f.name) {
            Some(file) => file.clone(),
            None => log.put_file(&format!("{prefix}{}", f.name), &path)?,
        };
        stored.insert(f.name.clone(), file);
    }
    let meta = super::meta::pack(header, &small);
    stored.insert(META.into(), log.put(&format!("{prefix}a{attempt}-meta"), &meta)?);
    Ok(stored)
}

/// Brings a piece's files into a folder, where a tier can be opened; its header.
pub fn fetch(log: &JobLog, files: &BTreeMap<String, FileRef>, folder: &Path) -> Result<Vec<u8>, Fault> {
    let unwritten = |e: std::io::Error| Fault::refused(format!("`{}` cannot be written", folder.display())).detail(e.to_string());
    std::fs::create_dir_all(folder).map_err(unwritten)?;
    let mut header = vec![];
    for (name, file) in files {
        if name != META {
            log.get_file(file, &folder.join(name))?;
            continue;
        }
        let bytes = log.get(file)?;
        let (head, small) = super::meta::unpack(&bytes)?;
        header = head.to_vec();
        for (name, bytes) in small {
            if name.contains('/') {
                return Err(super::record::damaged("a file has a strange name"));
            }
            std::fs::write(folder.join(name), bytes).map_err(unwritten)?;
        }
    }
    Ok(header)
}
