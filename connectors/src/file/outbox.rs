//! Exactly-once: an outbox's chunk holds lines, and goes to the places in files that the writer's ledger says.
//!
//! Where a chunk's bytes go follows from the chunk and the state of the ledger alone, and what does not (where a new file begins) is
//! noted there before it is used. So whoever applies a chunk again, after a crash or as a process that woke too late, writes the same
//! bytes to the same places: nothing is ever appended "to the end".

use super::ledger::{Base, Ledger, Open, State, folder, marker, states, sync_folder};
use super::writer::{OnExists, Packer, Plan, cannot_write, exists};
use crate::chunk::{Chunk, begin, put_bytes, put_i64, put_number};
use crate::format::RowWriter;
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{Batch, Clock, Fault, Outbox, SchemaRef, Sink, Ticket, point};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Chunk: version, worker, then for each batch its wall time (i64) and its lines.
const VERSION: u8 = 1;

/// Files that this process writes to, each with its writer: two sinks must not share one.
static WRITTEN: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);

pub struct Encoder {
    pub inputs: Vec<(RowWriter, SchemaRef)>,
    pub worker: usize,
    pub clock: Clock,
    pub rejects: Vec<Reject>,
    pub lines: Vec<u8>,
}

impl Sink for Encoder {
    fn write(&mut self, _: usize, _: &Batch, _: Ticket) -> Result<(), Fault> {
        Err(Fault::bug("a file sink's encoder was asked to write"))
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.rejects);
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }

    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        if begin(VERSION, chunk) {
            put_number(self.worker as u64, chunk);
        }
        self.lines.clear();
        let (writer, schema) = &mut self.inputs[input];
        write_lines(writer, schema, batch, &mut self.lines, &mut self.rejects);
        if !self.lines.is_empty() {
            put_i64(self.clock.now(), chunk);
            put_bytes(&self.lines, chunk);
        }
        Some(Ok(()))
    }
}

/// Appends a line for each row.
pub fn write_lines(writer: &mut RowWriter, schema: &SchemaRef, batch: &Batch, lines: &mut Vec<u8>, rejects: &mut Vec<Reject>) {
    writer.lines(batch, lines, |i, e| rejects.push(Reject::row(e.reason, e.message, &batch.row(i), schema)));
}

pub struct Files {
    plan: Plan,
    worker: usize,
    clock: Clock,
    ledgers: HashMap<String, Ledger>,
}

/// Bytes for one file, of a chunk mostly as they lie there.
struct Piece<'a> {
    stem: String,
    part: u64,
    offset: u64,
    bytes: Vec<Cow<'a, [u8]>>,
    /// Of all of them.
    length: u64,
    packer: Packer,
}

impl<'a> Piece<'a> {
    fn new(stem: String, part: u64, offset: u64, packer: Packer) -> Piece<'a> {
        Piece { stem, part, offset, bytes: vec![], length: 0, packer }
    }

    fn push(&mut self, bytes: Cow<'a, [u8]>) {
        self.length += bytes.len() as u64;
        if !bytes.is_empty() {
            self.bytes.push(bytes);
        }
    }

    /// Where the next byte goes.
    fn end(&self) -> u64 {
        self.offset + self.length
    }

    fn write_to(&self, file: &File) -> std::io::Result<()> {
        let (mut written, half) = (0, self.length / 2);
        for bytes in &self.bytes {
            let cut = (half - half.min(written)).min(bytes.len() as u64);
            let (first, rest) = bytes.split_at(cut as usize);
            file.write_all_at(first, self.offset + written)?;
            if cut > 0 && written + cut == half {
                point::reach("rows-half");
            }
            file.write_all_at(rest, self.offset + written + cut)?;
            written += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Files {
    pub fn new(plan: Plan, worker: usize, clock: Clock) -> Files {
        Files { plan, worker, clock, ledgers: HashMap::new() }
    }

    fn folder(&self) -> PathBuf {
        folder(&self.plan.naming.root())
    }

    /// What the chunk writes where, and the state behind it. `state.bases` gains the files that are to be made.
    fn pieces<'a>(&self, writer: &str, chunk: &'a [u8], state: &mut State) -> Result<(Vec<Piece<'a>>, State), Fault> {
        let mut pieces: Vec<Piece<'a>> = vec![];
        let mut after = state.clone();
        if chunk.is_empty() {
            // A run without rows leaves an empty file, not that of the run before it.
            if after.open.is_none() && !self.plan.naming.timed() {
                let worker = writer.rsplit('-').next().and_then(|w| w.parse().ok()).unwrap_or(self.worker);
                self.piece(writer, worker, self.clock.now(), &mut pieces, state, &mut after)?;
            }
        } else {
            let mut chunk = Chunk::open(chunk, VERSION)?;
            let worker = usize::try_from(chunk.number()?).unwrap_or_default();
            while !chunk.is_empty() {
                let (now, lines) = (chunk.i64()?, chunk.bytes()?);
                self.piece(writer, worker, now, &mut pieces, state, &mut after)?;
                let (Some(piece), Some(open)) = (pieces.last_mut(), &mut after.open) else { continue };
                open.size += lines.len() as u64;
                let packed = piece.packer.pack(lines).map_err(|e| cannot_write(&self.path(open), &e))?;
                piece.push(packed);
                open.length = piece.end();
            }
        }
        self.end(pieces.last_mut(), &mut after)?;
        Ok((pieces, after))
    }

    fn path(&self, open: &Open) -> PathBuf {
        self.plan.naming.path(&open.stem, open.part)
    }

    /// Makes the last piece one of the file to which lines of this time belong.
    fn piece(
        &self,
        writer: &str,
        worker: usize,
        now: i64,
        pieces: &mut Vec<Piece<'_>>,
        state: &mut State,
        after: &mut State,
    ) -> Result<(), Fault> {
        let stem = self.plan.naming.stem(worker, now);
        let rolled = |open: &Open| {
            self.plan.roll_size.is_some_and(|s| open.size >= s) || self.plan.roll_every.is_some_and(|e| now - open.since >= e)
        };
        let place = match &after.open {
            Some(open) if open.stem == stem && !rolled(open) => {
                if pieces.last().is_none_or(|p| p.stem != stem || p.part != open.part) {
                    let packer = Packer::new(self.plan.compression.of(&self.path(open)));
                    pieces.push(Piece::new(stem, open.part, open.length, packer));
                }
                return Ok(());
            }
            Some(open) if open.stem == stem => Some(open.part + 1),
            _ => None,
        };
        self.end(pieces.last_mut(), after)?;
        let base = self.base(writer, &stem, place, state)?;
        after.begin(&stem);
        let mut open = Open { stem: stem.clone(), part: base.part, length: base.offset, size: base.offset, since: now };
        let mut piece = Piece::new(stem, base.part, base.offset, Packer::new(self.plan.compression.of(&self.path(&open))));
        if base.torn {
            piece.push(Cow::Borrowed(b"\n"));
        }
        if let Some(header) = self.plan.header.as_ref().filter(|_| base.offset == 0) {
            let packed = piece.packer.pack(header).map_err(|e| cannot_write(&self.path(&open), &e))?;
            piece.push(Cow::Owned(packed.into_owned()));
        }
        open.length = piece.end();
        pieces.push(piece);
        after.open = Some(open);
        Ok(())
    }

    /// Nothing more goes to this file now: what is durable can be read.
    fn end(&self, piece: Option<&mut Piece<'_>>, after: &mut State) -> Result<(), Fault> {
        let (Some(piece), Some(open)) = (piece, &mut after.open) else { return Ok(()) };
        // An empty file is no compressed file.
        let packed = piece.packer.end(piece.end() == 0).map_err(|e| cannot_write(&self.path(open), &e))?;
        piece.push(Cow::Owned(packed));
        open.length = piece.end();
        Ok(())
    }

    /// Where a file's first byte of ours goes: as noted before, or looked up now as `on_exists` says, and noted.
    fn base(&self, writer: &str, stem: &str, part: Option<u64>, state: &mut State) -> Result<Base, Fault> {
        let noted = |b: &&Base| b.stem == stem && part.is_none_or(|p| p == b.part);
        if let Some(base) = state.bases.iter().find(noted) {
            return Ok(base.clone());
        }
        let part = match part {
            Some(part) => part,
            None => self.first(writer, stem, state)?,
        };
        let path = self.plan.naming.path(stem, part);
        let fault = |e| cannot_write(&path, &e);
        let (mut offset, mut torn) = (0, false);
        match File::open(&path) {
            Ok(mut file) => {
                offset = file.metadata().map_err(fault)?.len();
                if offset > 0 && self.plan.compression.of(&path) == super::Compression::None {
                    let mut last = [0];
                    file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(fault)?;
                    torn = last[0] != b'\n';
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(fault(e)),
        }
        let base = Base { stem: stem.into(), part, offset, torn };
        state.bases.push(base.clone());
        state.begin(stem);
        Ok(base)
    }

    /// The first part of a path to write to.
    fn first(&self, writer: &str, stem: &str, state: &State) -> Result<u64, Fault> {
        let parts = self.plan.naming.parts(stem);
        let Some((last, path)) = parts.last() else { return Ok(0) };
        // Another worker's writer of this job may have begun it.
        let job = |w: &str| w.rsplit_once('-').map(|(job, _)| job.to_string());
        let known = self.plan.on_exists == OnExists::Append
            || state.begun.iter().any(|s| s == stem)
            || states(&self.folder())?.iter().any(|(w, s)| job(w) == job(writer) && s.begun.iter().any(|s| s == stem));
        match self.plan.on_exists {
            _ if known => Ok(*last),
            OnExists::Fail => Err(exists(path)),
            _ => {
                for (_, path) in &parts {
                    std::fs::remove_file(path).map_err(|e| cannot_write(path, &e))?;
                }
                Ok(0)
            }
        }
    }

    /// Writes a piece to its place, durably.
    fn write(&self, writer: &str, piece: &Piece<'_>) -> Result<(), Fault> {
        let path = self.plan.naming.path(&piece.stem, piece.part);
        let fault = |e| cannot_write(&path, &e);
        {
            let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
            let owner = written.get_or_insert_default().entry(path.clone()).or_insert_with(|| writer.into());
            if owner != writer {
                let fault = Fault::config(format!("two writers write to `{}`", path.display())).detail(format!("`{owner}` and `{writer}`"));
                return Err(fault.hint("give each sink a path of its own"));
            }
        }
        let folder = path.parent().filter(|_| piece.offset == 0);
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
        }
        let file = match OpenOptions::new().create(piece.offset == 0).truncate(false).write(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(shorter(&path, 0, piece.offset)),
            file => file.map_err(fault)?,
        };
        let length = file.metadata().map_err(fault)?.len();
        if length < piece.offset {
            return Err(shorter(&path, length, piece.offset));
        }
        piece.write_to(&file).map_err(fault)?;
        // Never tried again: after a failure the kernel may have dropped what was not written, and a second call would find nothing wrong.
        file.sync_data().map_err(fault)?;
        if let Some(Err(e)) = folder.map(sync_folder) {
            tracing::debug!("the folder of `{}` cannot be synced: {e}", path.display());
        }
        Ok(())
    }

    /// Cuts off what a chunk left behind that was applied in part and is not to be applied any more: its checkpoint was given up.
    fn cut(&self, ledger: &Ledger) -> Result<(), Fault> {
        let Some(open) = &ledger.state.open else { return Ok(()) };
        let path = self.path(open);
        let fault = |e| cannot_write(&path, &e);
        let file = match OpenOptions::new().write(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(shorter(&path, 0, open.length)),
            file => file.map_err(fault)?,
        };
        let length = file.metadata().map_err(fault)?.len();
        if length < open.length {
            return Err(shorter(&path, length, open.length));
        }
        if length > open.length {
            ledger.check()?;
            tracing::warn!("`{}` is cut back from {length} to {} bytes: what lay behind was never published", path.display(), open.length);
            file.set_len(open.length).and_then(|()| file.sync_data()).map_err(fault)?;
        }
        Ok(())
    }
}

fn shorter(path: &std::path::Path, length: u64, expected: u64) -> Fault {
    let fault = Fault::refused(format!("`{}` is not as this job has left it", path.display()));
    fault
        .detail(format!("it has {length} bytes, of {expected} that were written"))
        .hint("put it back; to write to a new file while the job runs use `roll` or time parts in `path`")
}

impl Outbox for Files {
    fn fence(&mut self, writers: &[String]) -> Result<(), Fault> {
        for writer in writers {
            let ledger = Ledger::take(&self.folder(), writer)?;
            self.ledgers.insert(writer.clone(), ledger);
            point::reach("fence-half");
        }
        Ok(())
    }

    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        match self.ledgers.get(writer) {
            Some(ledger) => Ok(ledger.state.marker),
            None => marker(&self.folder(), writer),
        }
    }

    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, _: &mut Vec<Reject>) -> Result<(), Fault> {
        let missing = || Fault::bug(format!("writer `{writer}` was not fenced before"));
        let mut state = self.ledgers.get(writer).ok_or_else(missing)?.state.clone();
        if state.marker.is_some_and(|m| m >= marker) {
            return Ok(());
        }
        let (pieces, after) = self.pieces(writer, chunk, &mut state)?;
        let mut ledger = self.ledgers.remove(writer).ok_or_else(missing)?;
        if chunk.is_empty() {
            // Whatever it was to publish is published: from now on another may write to its files.
            WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().retain(|_, owner| owner != writer);
        }
        let outcome = self.publish(&mut ledger, chunk.is_empty(), state, &pieces, State { marker: Some(marker), bases: vec![], ..after });
        self.ledgers.insert(writer.into(), ledger);
        outcome
    }
}

impl Files {
    fn publish(&self, ledger: &mut Ledger, base: bool, before: State, pieces: &[Piece<'_>], after: State) -> Result<(), Fault> {
        if before == ledger.state {
            ledger.check()?
        } else {
            ledger.commit(before)?
        }
        point::reach("txn-begun");
        if base {
            self.cut(ledger)?;
        }
        for piece in pieces {
            self.write(ledger.writer(), piece)?;
        }
        point::reach("txn-sent");
        ledger.commit(after)?;
        point::reach("txn-committed");
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(written) = &mut *WRITTEN.lock().unwrap_or_else(PoisonError::into_inner) {
            written.retain(|_, writer| !self.ledgers.contains_key(writer));
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
