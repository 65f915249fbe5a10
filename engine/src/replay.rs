//! Replay: dead letters that go through their job once more.
//!
//! Letters lie in files `<state_dir>/replay/<job>/<name>.jsonl`, which are made whole by a rename and never change. To its stream each file is
//! one more partition, `replay/<name>`, of the letters' original records (all letters of a file are of one stream). So they pass the job's own steps with its own state, at the
//! stream's promised watermark: what is older than that is late, like any row that comes now. How far a file was read is part of the
//! checkpoint as for every partition. A job that takes none reads a file until all sinks have what came of it; then there is
//! `<name>.done` beside it.

use base64::Engine as _;
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{Assignment, Fault, Meta, PartitionInfo, Poll, Position, Reject, SchemaRef, Source, SourceContext, SourceFactory};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The end of a file's name, of its marker, and of what a start from scratch has put aside.
const FILE: &str = "jsonl";
pub const DONE: &str = "done";
const VOID: &str = "void";
/// A file of letters that a run of its own has taken.
pub const ALONE: &str = "alone";
/// Numbers of partitions from here on are not the source's own.
const FIRST: u32 = u32::MAX - (1 << 20);

/// A dead letter, as far as a replay needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Letter {
    pub part: String,
    pub port: String,
    pub reason: String,
    pub message: String,
    pub stream: String,
    pub partition: String,
    pub offset: i64,
    pub length: u64,
    pub hash: String,
    pub encoding: String,
    pub body: String,
}

impl Letter {
    /// # Errors
    /// It is none.
    pub fn parse(line: &str) -> Result<Letter, String> {
        let letter: Letter = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let whole = [&letter.stream, &letter.reason, &letter.hash, &letter.encoding].iter().all(|t| !t.is_empty());
        if whole { Ok(letter) } else { Err("it lacks `stream`, `reason`, `hash` or `encoding`".into()) }
    }

    /// The record as it came.
    ///
    /// # Errors
    /// The letter no longer has it; why.
    pub fn record(&self) -> Result<Vec<u8>, &'static str> {
        let bytes = match self.encoding.as_str() {
            "text" => self.body.as_bytes().to_vec(),
            "base64" => base64::engine::general_purpose::STANDARD.decode(&self.body).map_err(|_| "its bytes are damaged")?,
            _ => return Err("it was rejected behind an exchange: the row is kept, the record as it came is not"),
        };
        if (bytes.len() as u64) < self.length {
            return Err("it is longer than what dead letters keep (64 KiB)");
        }
        Ok(bytes)
    }

    /// The record that it is of: a second letter of the same record has the same.
    pub fn identity(&self) -> u64 {
        let place = format!("{}\0{}\0{}\0{}", self.stream, self.partition, self.offset, self.hash);
        xxhash_rust::xxh3::xxh3_64(place.as_bytes())
    }
}

/// Where a job's replays lie.
pub fn folder(plan: &Plan) -> PathBuf {
    plan.env.state_dir.join("replay").join(millrace_plan::file_name(&plan.env.job))
}

/// Whether a stream's records are texts, which a replay can give again.
///
/// # Errors
/// Why not.
pub fn takes(plan: &Plan, stream: &str) -> Result<(), &'static str> {
    let source = plan.nodes.iter().find_map(|n| match &n.kind {
        NodeKind::Source(s) if n.name == stream => Some(s),
        _ => None,
    });
    match source {
        None => Err("the topology no longer has its stream"),
        Some(s) if s.retry => Err("its stream is one of retries"),
        Some(s) if s.schema.slot("_value").is_none_or(|v| s.schema.field(v).hidden) => Err("its stream gives rows, not records of text"),
        Some(_) => Ok(()),
    }
}

/// Has a job's streams read what there is to replay.
pub fn attach(plan: &mut Plan) {
    let (folder, remembers) = (folder(plan), plan.checkpoint.is_some());
    wrap(plan, &Place::Folder { folder, remembers });
}

/// Has a job's streams read the letters of these files, and nothing else. Such a run takes no checkpoints, as it has nothing to do with
/// those of the job.
pub fn alone(plan: &mut Plan, files: &[PathBuf]) {
    wrap(plan, &Place::Alone(files.into()));
    (plan.checkpoint, plan.restart) = (None, None);
    plan.guards.clear();
}

fn wrap(plan: &mut Plan, place: &Place) {
    for node in &mut plan.nodes {
        let NodeKind::Source(s) = &mut node.kind else { continue };
        if s.retry || s.schema.slot("_value").is_none_or(|v| s.schema.field(v).hidden) {
            if matches!(place, Place::Alone(_)) && !s.retry {
                s.factory = Arc::new(Replaying { inner: None, stream: node.name.clone(), schema: s.schema.clone(), place: Place::Nothing });
            }
            continue;
        }
        let inner = if matches!(place, Place::Alone(_)) { None } else { Some(s.factory.clone()) };
        s.factory = Arc::new(Replaying { inner, stream: node.name.clone(), schema: s.schema.clone(), place: place.clone() });
    }
}

/// What is begun from scratch reads its input anew: what was to be replayed comes by itself.
pub fn forget(folder: &Path) {
    for path in files(folder, &[FILE, ALONE]) {
        let _ = fs::rename(&path, path.with_extension(VOID));
        let _ = fs::remove_file(path.with_extension(DONE));
    }
}

/// The files of a folder with one of these ends, by name.
fn files(folder: &Path, ends: &[&str]) -> BTreeSet<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    all.filter(|p| p.extension().is_some_and(|e| ends.iter().any(|x| e == *x))).collect()
}

/// The records of all letters that were handed over since the job last began from scratch.
pub fn handed_over(folder: &Path) -> HashSet<u64> {
    let lines = files(folder, &[FILE, ALONE])
        .into_iter()
        .filter_map(|p| File::open(p).ok())
        .flat_map(|f| BufReader::new(f).lines().map_while(Result::ok));
    lines.filter_map(|l| Letter::parse(&l).ok()).map(|l| l.identity()).collect()
}

#[derive(Clone)]
enum Place {
    /// `remembers`: the job's checkpoints say how far files were read.
    Folder {
        folder: PathBuf,
        remembers: bool,
    },
    Alone(Vec<PathBuf>),
    Nothing,
}

struct Replaying {
    inner: Option<Arc<dyn SourceFactory>>,
    stream: String,
    schema: SchemaRef,
    place: Place,
}

impl SourceFactory for Replaying {
    fn check(&self) -> Result<(), Fault> {
        self.inner.as_ref().map_or(Ok(()), |i| i.check())
    }

    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        let (source, assignment) = (cx.source, cx.assignment);
        Ok(Box::new(Stream {
            inner: self.inner.as_ref().map(|i| i.open(cx)).transpose()?,
            stream: self.stream.clone(),
            schema: self.schema.clone(),
            place: self.place.clone(),
            known: HashSet::new(),
            files: vec![],
            source,
            assignment,
        }))
    }
}

/// A file that is read.
struct Letters {
    path: PathBuf,
    reader: BufReader<File>,
    /// Lines that were read, of all streams.
    at: u64,
    /// Where it is to go on.
    from: u64,
    /// The line behind the last one that gave a row.
    last: u64,
    ended: bool,
}

struct Stream {
    inner: Option<Box<dyn Source>>,
    stream: String,
    schema: SchemaRef,
    place: Place,
    known: HashSet<PathBuf>,
    files: Vec<Letters>,
    source: u16,
    assignment: Assignment,
}

/// The stream of a file's first letter; None: it is none.
fn stream_of(reader: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    reader.rewind()?;
    Ok(Letter::parse(&line).ok().map(|l| l.stream))
}

fn unreadable(path: &Path, e: &io::Error) -> Fault {
    Fault::refused(format!("what is to be replayed cannot be read: {}: {e}", path.display()))
}

fn number(file: usize) -> u32 {
    FIRST + u32::try_from(file).unwrap_or(u32::MAX - FIRST)
}

impl Stream {
    /// Files of this instance that are new.
    fn look(&mut self) -> Result<Vec<PartitionInfo>, Fault> {
        let found = match &self.place {
            Place::Folder { folder, .. } => files(folder, &[FILE]),
            Place::Alone(files) => files.iter().cloned().collect(),
            Place::Nothing => BTreeSet::new(),
        };
        let mut new = vec![];
        for path in found {
            if !self.known.insert(path.clone()) {
                continue;
            }
            let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let forgets = matches!(self.place, Place::Folder { remembers: false, .. });
            if !self.assignment.mine(xxhash_rust::xxh3::xxh3_64(name.as_bytes())) || (forgets && path.with_extension(DONE).exists()) {
                continue;
            }
            let mut reader = BufReader::new(File::open(&path).map_err(|e| unreadable(&path, &e))?);
            if stream_of(&mut reader).map_err(|e| unreadable(&path, &e))?.is_some_and(|s| s != self.stream) {
                continue;
            }
            new.push(PartitionInfo { id: number(self.files.len()), name: format!("replay/{name}") });
            self.files.push(Letters { path, reader, at: 0, from: 0, last: 0, ended: false });
        }
        Ok(new)
    }

    fn file(&mut self, partition: u32) -> Option<&mut Letters> {
        self.files.get_mut(partition.checked_sub(FIRST)? as usize)
    }

    fn inner(&mut self) -> Result<&mut dyn Source, Fault> {
        match &mut self.inner {
            Some(inner) => Ok(&mut **inner),
            None => Err(Fault::bug("a partition of a source that is not read")),
        }
    }
}

impl Source for Stream {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let mut found = match &mut self.inner {
            Some(inner) => inner.discover()?,
            None => Discovery { complete: true, ..Discovery::default() },
        };
        found.new.extend(self.look()?);
        Ok(found)
    }

    fn listed(&self) -> bool {
        self.inner.as_ref().is_none_or(|i| i.listed())
    }

    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault> {
        let Some(file) = self.file(partition) else { return self.inner()?.seek(partition, position) };
        let text = std::str::from_utf8(&position.0).ok().and_then(|t| t.parse().ok());
        file.from = text.ok_or_else(|| Fault::refused("the saved position is not one of a replay"))?;
        Ok(())
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        if self.file(partition).is_none() {
            return self.inner()?.poll(partition, pull);
        }
        let (schema, stream, source) = (self.schema.clone(), self.stream.clone(), self.source);
        let Some(file) = self.file(partition) else { return Ok(Poll::Ended) };
        let mut line = String::new();
        let mut rows = 0;
        while rows < pull.max_rows && pull.rows.text_len() < pull.max_bytes {
            line.clear();
            if file.reader.read_line(&mut line).map_err(|e| unreadable(&file.path, &e))? == 0 {
                file.ended = true;
                return Ok(Poll::Ended);
            }
            file.at += 1;
            if file.at <= file.from {
                continue;
            }
            let meta = Meta { offset: file.at - 1, partition, source, ..Meta::default() };
            match Letter::parse(&line).and_then(|l| Ok((l.record()?, l))) {
                Ok((record, letter)) if letter.stream != stream => {
                    pull.rejects.push(Reject::new("no-letter", "it is of another stream than those before it", meta, &record));
                }
                Ok((record, letter)) => {
                    push(&schema, &letter, &record, meta, pull);
                    file.last = file.at;
                    rows += 1;
                }
                Err(why) => pull.rejects.push(Reject::new("no-letter", why, meta, line.trim_end().as_bytes())),
            }
        }
        Ok(Poll::Ready)
    }

    fn drained(&mut self, partition: u32) -> bool {
        match self.file(partition) {
            Some(_) => true,
            None => self.inner.as_mut().is_none_or(|i| i.drained(partition)),
        }
    }

    fn position(&mut self, partition: u32) -> Position {
        match self.file(partition) {
            Some(file) => Position(file.at.max(file.from).to_string().into_bytes()),
            None => self.inner.as_mut().map(|i| i.position(partition)).unwrap_or_default(),
        }
    }

    fn acknowledged(&mut self, positions: &[(u32, Position)]) -> Result<(), Fault> {
        for (partition, position) in positions {
            let Some(file) = self.file(*partition).filter(|f| f.ended) else { continue };
            let reached: Option<u64> = std::str::from_utf8(&position.0).ok().and_then(|t| t.parse().ok());
            if reached.is_some_and(|r| r >= file.last) {
                // A marker that cannot be written is missed at the next start of a job that has nothing else to remember by.
                if let Err(e) = fs::write(file.path.with_extension(DONE), format!("{} letters\n", file.at)) {
                    tracing::error!("that `{}` was replayed cannot be noted: {e}", file.path.display());
                }
            }
        }
        let own: Vec<(u32, Position)> = positions.iter().filter(|(p, _)| *p < FIRST).cloned().collect();
        match &mut self.inner {
            Some(inner) if !own.is_empty() => inner.acknowledged(&own),
            _ => Ok(()),
        }
    }

    fn lag(&mut self) -> Option<u64> {
        self.inner.as_mut().and_then(|i| i.lag())
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.inner.as_mut().map_or(Ok(()), |i| i.close())
    }
}

/// The record as its source gave it; of what the source says beside it the letter knows the place.
fn push(schema: &SchemaRef, letter: &Letter, record: &[u8], mut meta: Meta, pull: &mut Pull<'_>) {
    let (first, last) = letter.partition.rsplit_once('/').unwrap_or((&letter.partition, ""));
    for field in schema.fields() {
        match &*field.name {
            "_value" => meta.raw = pull.rows.push_line(record),
            "_offset" => pull.rows.push_int(letter.offset),
            "_topic" => pull.rows.push_str(first),
            "_path" => pull.rows.push_str(&letter.partition),
            "_partition" => match last.parse() {
                Ok(n) => pull.rows.push_int(n),
                Err(_) => pull.rows.push_null(),
            },
            _ => pull.rows.push_null(),
        }
    }
    pull.rows.end_source_row(meta);
}
