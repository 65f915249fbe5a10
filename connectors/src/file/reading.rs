//! One file being read: bytes to rows.

use super::csv::Fields;
use super::input::{HEAD, Input, Mark, Stamp};
use super::source::{Columns, Extra, Format, Shared};
use memchr::{memchr, memrchr};
use millrace_sdk::operator::{MAX_REJECT_BYTES, Reject};
use millrace_sdk::source::Pull;
use millrace_sdk::{Fault, Meta, Span, Type, Val, json};
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a read.
const BLOCK: usize = 256 << 10;
/// Bytes of an overlong record that are passed over in one poll.
const SKIP_A_POLL: usize = 4 << 20;

pub struct Reading {
    pub input: Input,
    /// Where the next record begins; the input may have been read further.
    pub at: u64,
    /// The file as it was when its end was met.
    pub ended: Option<Stamp>,
    /// The file's fingerprint as far as it was read.
    known: Mark,
    meta: Meta,
    skip: Option<Skip>,
    /// Estimated bytes a record.
    width: usize,
    /// Places of the line feeds of the block at hand.
    ends: Vec<usize>,
    /// What was read behind `at`, where records are copied (CSV, other charsets).
    block: Vec<u8>,
    used: usize,
    /// For each column of the schema its place in this file.
    header: Option<Header>,
    fields: Fields,
    /// The file is damaged, and that was told.
    damaged: bool,
}

struct Header {
    names: Vec<String>,
    places: Vec<Option<usize>>,
}

/// A record longer than `max_record`, of which only this is kept.
struct Skip {
    meta: Meta,
    first: Vec<u8>,
    length: u64,
    hash: Xxh3,
}

impl Skip {
    fn new(meta: Meta, bytes: &[u8]) -> Skip {
        let mut skip = Skip { meta, first: vec![], length: 0, hash: Xxh3::new() };
        skip.eat(bytes);
        skip
    }

    fn eat(&mut self, bytes: &[u8]) {
        self.first.extend_from_slice(&bytes[..bytes.len().min(MAX_REJECT_BYTES - self.first.len())]);
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn too_long(self, max: usize) -> Reject {
        let message = format!("a record of {} bytes is longer than max_record ({max})", self.length);
        self.reject("record-too-long", message)
    }

    fn reject(self, reason: &'static str, message: String) -> Reject {
        let mut r = Reject::new(reason, message, self.meta, &self.first);
        (r.length, r.hash) = (self.length, self.hash.digest());
        r
    }
}

impl Reading {
    pub fn open(path: &Path, offset: u64, meta: Meta, shared: &Shared) -> io::Result<Reading> {
        let mut input = Input::open(path, shared.compression)?;
        input.seek(offset)?;
        let known = Mark::of(&mut input, offset)?;
        let mut reading = Reading {
            input,
            at: offset,
            ended: None,
            known,
            meta,
            skip: None,
            width: 256,
            ends: vec![],
            block: vec![],
            used: 0,
            header: None,
            fields: Fields::default(),
            damaged: false,
        };
        if offset > 0 && shared.format == Format::Csv && shared.header {
            let mut start = Reading::open(path, 0, meta, shared)?;
            if let Some(record) = start.next_record(shared)? {
                let text = start.text(record, shared).unwrap_or_default();
                reading.read_header(&text, shared);
            }
        }
        Ok(reading)
    }

    /// Where the next record begins, with the fingerprint of what was read.
    pub fn mark(&self) -> Mark {
        let offset = self.skip.as_ref().map_or(self.at, |s| s.meta.offset);
        Mark { offset, ..self.known.clone() }
    }

    /// Reads rows until the pull is full or the file ends for now (true). `whole`: what is left at the end is a record too.
    pub fn read(&mut self, shared: &Shared, pull: &mut Pull<'_>, whole: bool) -> Result<bool, Fault> {
        let done = if shared.format == Format::Csv || shared.charset.is_some() {
            self.read_copied(shared, pull, whole)
        } else {
            self.read_lines(shared, pull, whole)
        };
        let end = done.map_err(|e| cannot_read(&self.input.path, &e))?;
        if (self.known.head_len as u64) < self.at.min(HEAD as u64) {
            self.known = Mark::of(&mut self.input, self.at).map_err(|e| cannot_read(&self.input.path, &e))?;
        }
        if end {
            self.tell_damage(pull)?;
        }
        Ok(end)
    }

    /// At the end of what can be read of a damaged file: the piece of a record before it becomes a dead letter.
    fn tell_damage(&mut self, pull: &mut Pull<'_>) -> Result<(), Fault> {
        let Some(e) = self.input.damage().filter(|_| !self.damaged) else { return Ok(()) };
        let message = format!("{}: nothing behind byte {} of its content can be read", damage(&self.input.path, e), self.input.offset());
        tracing::error!("{message}");
        self.damaged = true;
        let meta = self.meta(self.at, Meta::NO_RAW);
        let mut piece = self.skip.take().unwrap_or_else(|| Skip::new(meta, &self.block.split_off(self.used)));
        let mut block = vec![];
        while self.input.fill(&mut block, BLOCK).map_err(|e| cannot_read(&self.input.path, &e))? > 0 {
            piece.eat(&block);
            block.clear();
        }
        pull.rejects.push(piece.reject("damaged-file", message));
        Ok(())
    }

    fn meta(&self, offset: u64, raw: Span) -> Meta {
        Meta { offset, raw, ..self.meta }
    }

    // ---- lines in place: the block is read into the batch's text and the lines stay where they are ----

    fn read_lines(&mut self, shared: &Shared, pull: &mut Pull<'_>, whole: bool) -> io::Result<bool> {
        let (mut room, mut bytes) = (pull.max_rows, pull.max_bytes);
        while room > 0 && bytes > 0 {
            if self.skip.is_some() {
                return self.pass_over(shared, pull, whole);
            }
            let begun = pull.rows.text_len();
            let want = (self.width * (room + 1)).clamp(4096, BLOCK).min(bytes.max(4096));
            let (last, end) = self.fill_to_newline(shared.max_record, pull.rows.text_mut(), want)?;
            let filled = pull.rows.text_len();
            let used = match last {
                Some(last) => self.push_lines(shared, pull, begun, last + 1, &mut room),
                None if !end => {
                    self.begin_skip(&pull.rows.text_mut()[begun..]);
                    pull.rows.text_mut().truncate(begun);
                    continue;
                }
                None if whole && self.input.damage().is_none() && pull.rows.text_len() > begun => {
                    pull.rows.text_mut().push(b'\n');
                    let len = pull.rows.text_len() - begun;
                    self.push_lines(shared, pull, begun, len, &mut room);
                    self.at -= 1;
                    return Ok(true);
                }
                None => 0,
            };
            let text = pull.rows.text_mut();
            self.input.unread(&text[begun + used..filled]);
            // What rows say of their file lies behind the block.
            if text.len() == filled {
                text.truncate(begun + used);
            }
            bytes = bytes.saturating_sub(used);
            if end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends blocks until there is a newline (its last place within what was appended), the end, or more than a record may have.
    fn fill_to_newline(&mut self, max: usize, text: &mut Vec<u8>, mut want: usize) -> io::Result<(Option<usize>, bool)> {
        let begun = text.len();
        let mut scanned = 0;
        loop {
            // Batches are padded, and steps add text to them: room for that here spares a copy there.
            text.reserve(want + want / 2 + millrace_sdk::batch::PAD);
            if self.input.fill(text, want)? == 0 {
                return Ok((None, true));
            }
            let block = &text[begun..];
            if let Some(i) = memrchr(b'\n', &block[scanned..]) {
                return Ok((Some(scanned + i), false));
            }
            scanned = block.len();
            if scanned > max {
                return Ok((None, false));
            }
            want = scanned.min(max + 1 - scanned).max(1);
        }
    }

    /// Makes rows of the lines in `[begun, begun + len)`, which ends with a newline; returns the bytes used.
    fn push_lines(&mut self, shared: &Shared, pull: &mut Pull<'_>, begun: usize, len: usize, room: &mut usize) -> usize {
        let mut from = begun;
        let first_row = pull.rows.len();
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        json::positions(&pull.rows.text_mut()[begun..begun + len], b'\n', b'\n', |at| ends.push(at));
        for &end in &ends {
            if *room == 0 {
                break;
            }
            let text = pull.rows.text_mut();
            let (mut start, mut end) = (from, begun + end);
            from = end + 1;
            let offset = self.at;
            self.at += (from - start) as u64;
            if end > start && text[end - 1] == b'\r' {
                end -= 1;
                text[end] = b'\n';
            }
            if offset == 0 && text[start..end].starts_with(b"\xef\xbb\xbf") {
                start += 3;
            }
            if start == end && shared.format == Format::Json {
                continue;
            }
            if end - start > shared.max_record {
                pull.rejects.push(Skip::new(self.meta(offset, Meta::NO_RAW), &text[start..end]).too_long(shared.max_record));
                *room -= 1;
                continue;
            }
            let span = pull.rows.push_own(start, end - start);
            if !shared.extras.is_empty() {
                self.push_extras(shared, pull, offset);
            }
            pull.rows.end_source_row(self.meta(offset, span));
            *room -= 1;
        }
        self.ends = ends;
        let rows = pull.rows.len() - first_row;
        if rows > 0 {
            self.width = (self.width * 3 + (from - begun) / rows) / 4 + 1;
        }
        from - begun
    }

    fn push_extras(&self, shared: &Shared, pull: &mut Pull<'_>, offset: u64) {
        for extra in &shared.extras {
            match extra {
                Extra::Path => pull.rows.push_str(&self.input.path.to_string_lossy()),
                Extra::Offset => pull.rows.push_int(offset as i64),
            }
        }
    }

    // ---- records longer than max_record ----

    fn begin_skip(&mut self, bytes: &[u8]) {
        self.skip = Some(Skip::new(self.meta(self.at, Meta::NO_RAW), bytes));
        self.at += bytes.len() as u64;
    }

    /// Reads on to the newline that ends an overlong record; true at the end of the file.
    fn pass_over(&mut self, shared: &Shared, pull: &mut Pull<'_>, whole: bool) -> io::Result<bool> {
        let mut block = std::mem::take(&mut self.block);
        let mut end = false;
        for _ in 0..SKIP_A_POLL / BLOCK {
            let Some(mut skip) = self.skip.take() else { break };
            block.clear();
            if self.input.fill(&mut block, BLOCK)? == 0 {
                end = true;
                if whole && self.input.damage().is_none() {
                    pull.rejects.push(skip.too_long(shared.max_record));
                } else {
                    self.skip = Some(skip);
                }
                break;
            }
            match memchr(b'\n', &block) {
                Some(i) => {
                    skip.eat(&block[..i]);
                    self.input.unread(&block[i + 1..]);
                    self.at += i as u64 + 1;
                    pull.rejects.push(skip.too_long(shared.max_record));
                }
                None => {
                    skip.eat(&block);
                    self.at += block.len() as u64;
                    self.skip = Some(skip);
                }
            }
        }
        block.clear();
        self.block = block;
        Ok(end)
    }

    // ---- copied records: CSV, and lines of another charset ----

    fn read_copied(&mut self, shared: &Shared, pull: &mut Pull<'_>, whole: bool) -> io::Result<bool> {
        let (mut room, mut bytes) = (pull.max_rows, pull.max_bytes);
        while room > 0 && bytes > 0 {
            if self.skip.is_some() {
                return self.pass_over(shared, pull, whole);
            }
            let record = match self.next_record(shared)? {
                Some(record) => record,
                None if self.skip.is_some() => continue,
                None => {
                    let rest = self.block.len() - self.used;
                    if !whole || rest == 0 || self.input.damage().is_some() {
                        return Ok(true);
                    }
                    let record = (self.used, self.block.len());
                    self.at += rest as u64;
                    self.used = self.block.len();
                    record
                }
            };
            bytes = bytes.saturating_sub(record.1 - record.0 + 1);
            room -= 1;
            self.push_copied(record, shared, pull);
        }
        Ok(false)
    }

    /// The next whole record in the block, without its line end; None at the end of the file, or when a skip has begun.
    fn next_record(&mut self, shared: &Shared) -> io::Result<Option<(usize, usize)>> {
        loop {
            let rest = &self.block[self.used..];
            let end = match shared.format {
                Format::Csv => shared.dialect.end(rest),
                _ => memchr(b'\n', rest),
            };
            if let Some(end) = end {
                let record = (self.used, self.used + end);
                self.used += end + 1;
                self.at += end as u64 + 1;
                return Ok(Some(record));
            }
            if rest.len() > shared.max_record {
                let bytes = self.block.split_off(self.used);
                self.begin_skip(&bytes);
                (self.used, self.block) = (0, vec![]);
                return Ok(None);
            }
            self.block.drain(..self.used);
            self.used = 0;
            let want = self.block.len().clamp(64 << 10, BLOCK).min(shared.max_record + 1);
            if self.input.fill(&mut self.block, want)? == 0 {
                return Ok(None);
            }
        }
    }

    /// A record's text in UTF-8, without a carriage return at its end and a mark at the file's start.
    fn text(&self, (from, to): (usize, usize), shared: &Shared) -> Result<String, Vec<u8>> {
        let mut bytes = &self.block[from..to];
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match shared.charset {
            None => {
                let first = self.at == (self.used - from) as u64;
                let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(bytes);
                std::str::from_utf8(bytes).map(str::to_string).map_err(|_| bytes.to_vec())
            }
            Some(charset) => match charset.decode(bytes) {
                Some(text) => Ok(text.into_owned()),
                None => Err(bytes.to_vec()),
            },
        }
    }

    fn push_copied(&mut self, (from, to): (usize, usize), shared: &Shared, pull: &mut Pull<'_>) {
        let offset = self.at - (self.used - from) as u64;
        let raw = self.block[from..to].strip_suffix(b"\r").unwrap_or(&self.block[from..to]);
        let meta = self.meta(offset, Meta::NO_RAW);
        if raw.len() > shared.max_record {
            pull.rejects.push(Skip::new(meta, raw).too_long(shared.max_record));
            return;
        }
        let text = match self.text((from, to), shared) {
            Ok(text) => text,
            Err(bytes) => {
                let charset = shared.charset.map_or("UTF-8", |c| c.name());
                pull.rejects.push(Reject::new("invalid-encoding", format!("the record is not {charset}"), meta, &bytes));
                return;
            }
        };
        if shared.format == Format::Csv {
            if shared.header && self.header.is_none() {
                self.read_header(&text, shared);
            } else if !text.is_empty() {
                let raw = raw.to_vec();
                if let Err((reason, message)) = self.push_csv(&text, &raw, offset, shared, pull) {
                    pull.rows.abandon_row();
                    pull.rejects.push(Reject::new(reason, message, meta, &raw));
                }
            }
            return;
        }
        if text.is_empty() && shared.format == Format::Json {
            return;
        }
        let span = keep_raw(pull, raw);
        pull.rows.push_line(text.as_bytes());
        self.push_extras(shared, pull, offset);
        pull.rows.end_source_row(self.meta(offset, span));
    }

    fn read_header(&mut self, text: &str, shared: &Shared) {
        let mut fields = Fields::default();
        let names: Vec<String> = match shared.dialect.split(text, &mut fields) {
            Ok(()) => fields.iter().map(|n| n.trim().to_string()).collect(),
            Err(_) => vec![text.to_string()],
        };
        let places = shared.columns.names().map(|n| names.iter().position(|h| h == n)).collect();
        self.header = Some(Header { names, places });
    }

    fn push_csv(
        &mut self,
        text: &str,
        raw: &[u8],
        offset: u64,
        shared: &Shared,
        pull: &mut Pull<'_>,
    ) -> Result<(), (&'static str, String)> {
        let mut fields = std::mem::take(&mut self.fields);
        let done = self.push_csv_fields(text, raw, offset, shared, pull, &mut fields);
        self.fields = fields;
        done
    }

    fn push_csv_fields(
        &self,
        text: &str,
        raw: &[u8],
        offset: u64,
        shared: &Shared,
        pull: &mut Pull<'_>,
        fields: &mut Fields,
    ) -> Result<(), (&'static str, String)> {
        shared.dialect.split(text, fields).map_err(|m| ("invalid-csv", m))?;
        let width = self.header.as_ref().map_or(shared.columns.len(), |h| h.names.len());
        if fields.len() != width {
            let what = if self.header.is_some() { "the header" } else { "`fields`" };
            return Err(("wrong-field-count", format!("the row has {} fields, {what} {width}", fields.len())));
        }
        let span = keep_raw(pull, raw);
        match &shared.columns {
            Columns::Typed(columns) => {
                for (i, (name, ty)) in columns.iter().enumerate() {
                    let place = self.header.as_ref().map_or(Some(i), |h| h.places[i]);
                    let value = match place.map(|p| fields.get(p)) {
                        None if self.header.is_some() && shared.declared => {
                            return Err(("missing-column", format!("the header has no column `{name}`")));
                        }
                        None => Val::Missing,
                        Some("") if *ty != Type::String => Val::Null,
                        Some(v) => Val::Str(v),
                    };
                    match value {
                        Val::Str(v) if *ty == Type::String => pull.rows.push_str(v),
                        Val::Missing => pull.rows.push_missing(),
                        value => millrace_sdk::convert::push(value, *ty, pull.rows)
                            .map_err(|e| ("wrong-type", format!("column `{name}`: {}", e.0)))?,
                    }
                }
                self.push_extras(shared, pull, offset);
            }
            Columns::Open => {
                self.push_extras(shared, pull, offset);
                let begun = pull.rows.begin_text();
                let out = pull.rows.text_mut();
                out.push(b'{');
                for (i, value) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    json::quote(self.header.as_ref().map_or("", |h| &h.names[i]).as_bytes(), out);
                    out.push(b':');
                    json::quote(value.as_bytes(), out);
                }
                out.push(b'}');
                pull.rows.end_json(begun);
            }
        }
        pull.rows.end_source_row(self.meta(offset, span));
        Ok(())
    }
}

/// Puts a record's original bytes into the batch's text.
fn keep_raw(pull: &mut Pull<'_>, raw: &[u8]) -> Span {
    let begun = pull.rows.begin_text();
    pull.rows.text_mut().extend_from_slice(raw);
    Span { off: begun as u32, len: raw.len() as u32 }
}

/// What is wrong with a compressed file, or one that should be.
pub fn damage(path: &Path, e: &io::Error) -> String {
    let path = path.display();
    match e.kind() {
        io::ErrorKind::UnexpectedEof => format!("file `{path}` is cut off, its compressed data has no end"),
        _ => format!("file `{path}` is damaged, or not compressed as its name says ({e})"),
    }
}

pub fn cannot_read(path: &Path, e: &io::Error) -> Fault {
    let path = path.display();
    match e.kind() {
        io::ErrorKind::NotFound => Fault::refused(format!("file `{path}` does not exist")),
        io::ErrorKind::PermissionDenied => Fault::refused(format!("file `{path}` cannot be read: permission denied")),
        _ => Fault::refused(format!("file `{path}` cannot be read")).detail(e.to_string()),
    }
}
