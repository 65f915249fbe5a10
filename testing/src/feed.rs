//! A stream's source in a test: delivers what the test gives, when the test gives it.

use crate::rows;
use millrace_plan::cases::{Body, Datum, Given};
use millrace_sdk::source::{Discovery, Pull, Waker};
use millrace_sdk::{
    Assignment, BatchBuilder, Fault, Meta, PartitionInfo, Poll, Position, SchemaRef, Source, SourceContext, SourceFactory, Type,
};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Longest file of records, bytes.
const MAX_FILE: u64 = 64 << 20;

/// A record as the source pushes it.
struct Ready {
    partition: u32,
    text: Option<Vec<u8>>,
    fields: Vec<(String, Datum)>,
    /// Where it stands, for messages.
    place: String,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Ready>,
    /// Nothing more will come.
    ended: bool,
    wakers: Vec<Waker>,
    /// By partition: records given so far.
    offsets: Vec<u64>,
}

/// The test's end of a source.
#[derive(Clone)]
pub struct Feed {
    schema: SchemaRef,
    partitions: u32,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Feed {
    /// Of a stream whose source gives rows of this schema, from so many partitions.
    pub fn new(schema: SchemaRef, partitions: u32) -> Feed {
        let state = State { offsets: vec![0; partitions as usize], ..State::default() };
        Feed { schema, partitions, state: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    /// Whether the source gives the record's bytes, to be parsed by the stream's own steps.
    fn takes_text(&self) -> bool {
        self.schema.slot("_value").is_some_and(|s| !self.schema.field(s).hidden)
    }

    /// # Errors
    /// A record that this source cannot deliver, or a file that cannot be read.
    pub fn give(&self, records: &[Given], base: &Path) -> Result<(), Fault> {
        let mut ready = vec![];
        for r in records {
            let place = format!("{}:{}", r.place.file, r.place.line);
            let add =
                |text: Option<Vec<u8>>, fields: Vec<(String, Datum)>| Ready { partition: r.partition, text, fields, place: place.clone() };
            match &r.body {
                Body::Text(t) => ready.push(add(Some(t.clone().into_bytes()), r.with.clone())),
                Body::Row(Datum::Map(fields)) if self.takes_text() && !self.has_all(fields) => {
                    let mut json = String::new();
                    rows::to_json(&Datum::Map(fields.clone()), &mut json);
                    ready.push(add(Some(json.into_bytes()), r.with.clone()));
                }
                Body::Row(Datum::Map(fields)) => ready.push(add(None, fields.iter().chain(&r.with).cloned().collect())),
                Body::Row(_) => return Err(Fault::config(format!("{place}: a row is a map of fields"))),
                Body::File(path) => {
                    for line in lines(&base.join(path)).map_err(|e| Fault::config(format!("{place}: cannot read `{path}`: {e}")))? {
                        ready.push(add(Some(line), r.with.clone()));
                    }
                }
            }
        }
        if !self.takes_text()
            && let Some(r) = ready.iter().find(|r| r.text.is_some())
        {
            let names: Vec<&str> = self.schema.visible().map(|(_, f)| &*f.name).collect();
            let fault = Fault::config(format!("{}: this source delivers fields, not text", r.place));
            return Err(fault.hint(format!("write `row:` with {}", names.join(", "))));
        }
        for (r, name) in ready.iter().flat_map(|r| r.fields.iter().map(move |(n, _)| (r, n))) {
            if self.schema.slot(name).is_none() && !name.starts_with('_') {
                let near = millrace_sdk::problem::did_you_mean(name, self.schema.names());
                let hint = near.map_or("the field is not declared".into(), |n| format!("did you mean `{n}`?"));
                return Err(Fault::config(format!("{}: this source has no field `{name}`", r.place)).hint(hint));
            }
        }
        let mut state = self.state.0.lock().unwrap_or_else(|e| e.into_inner());
        state.queue.extend(ready);
        state.wakers.iter().for_each(|w| w());
        Ok(())
    }

    /// Whether these are fields of the source itself: rows of a source whose fields have names.
    fn has_all(&self, fields: &[(String, Datum)]) -> bool {
        fields.iter().all(|(name, _)| self.schema.slot(name).is_some())
    }

    /// Waits until all that was given is read; false: the run has ended before.
    pub fn taken(&self, alive: impl Fn() -> bool) -> bool {
        let (lock, changed) = &*self.state;
        let mut state = lock.lock().unwrap_or_else(|e| e.into_inner());
        while !state.queue.is_empty() {
            if !alive() {
                return false;
            }
            state = changed.wait_timeout(state, Duration::from_millis(5)).unwrap_or_else(|e| e.into_inner()).0;
        }
        true
    }

    /// Nothing more will be given.
    pub fn end(&self) {
        let mut state = self.state.0.lock().unwrap_or_else(|e| e.into_inner());
        state.ended = true;
        state.wakers.iter().for_each(|w| w());
    }
}

/// Lines without their ends.
fn lines(path: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(std::io::Error::other(format!("it has more than {MAX_FILE} bytes")));
    }
    let bytes = std::fs::read(path)?;
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l).to_vec()).collect();
    lines.pop_if(|l| l.is_empty());
    Ok(lines)
}

impl SourceFactory for Feed {
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        self.state.0.lock().unwrap_or_else(|e| e.into_inner()).wakers.push(cx.waker.clone());
        Ok(Box::new(Open { feed: self.clone(), assignment: cx.assignment, source: cx.source, told: false }))
    }
}

struct Open {
    feed: Feed,
    assignment: Assignment,
    source: u16,
    told: bool,
}

impl Open {
    fn push(&self, r: &Ready, offset: u64, out: &mut BatchBuilder) -> Result<(), Fault> {
        let mut raw = Meta::NO_RAW;
        for field in self.feed.schema.fields() {
            let given = r.fields.iter().find(|(n, _)| **n == *field.name).map(|(_, d)| d);
            match (given, &r.text, &*field.name) {
                (None, Some(text), "_value") => raw = out.push_line(text),
                (None, _, "_offset") if field.ty == Type::Bigint => out.push_int(offset as i64),
                (None, _, "_partition") if field.ty == Type::Bigint => out.push_int(i64::from(r.partition)),
                (None, _, _) => out.push_missing(),
                (Some(d), _, name) => rows::push(d, field.ty, out)
                    .map_err(|e| Fault::config(format!("{}: the field `{name}` is a {}", r.place, field.ty)).detail(e.0))?,
            }
        }
        if raw == Meta::NO_RAW {
            let mut json = String::new();
            rows::to_json(&Datum::Map(r.fields.clone()), &mut json);
            let off = out.begin_text();
            out.text_mut().extend_from_slice(json.as_bytes());
            raw = millrace_sdk::Span { off: off as u32, len: json.len() as u32 };
        }
        out.end_source_row(Meta { offset, raw, partition: r.partition, source: self.source, ..Meta::default() });
        Ok(())
    }
}

impl Source for Open {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let told = std::mem::replace(&mut self.told, true);
        let mine = (0..self.feed.partitions).filter(|p| !told && self.assignment.mine(u64::from(*p)));
        Ok(Discovery { new: mine.map(|p| PartitionInfo { id: p, name: format!("test/{p}") }).collect(), complete: true })
    }

    fn seek(&mut self, _: u32, _: &Position) -> Result<(), Fault> {
        Err(Fault::bug("a test's source cannot be sought"))
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        let (lock, changed) = &*self.feed.state;
        let mut state = lock.lock().unwrap_or_else(|e| e.into_inner());
        let mut rows = 0;
        while rows < pull.max_rows && state.queue.front().is_some_and(|r| r.partition == partition) {
            let Some(r) = state.queue.pop_front() else { break };
            let offset = state.offsets[partition as usize];
            state.offsets[partition as usize] += 1;
            self.push(&r, offset, pull.rows)?;
            rows += 1;
        }
        if state.queue.is_empty() {
            changed.notify_all();
        }
        Ok(match rows {
            0 if state.ended && state.queue.is_empty() => Poll::Ended,
            0 => Poll::Pending,
            _ => Poll::Ready,
        })
    }

    fn position(&mut self, partition: u32) -> Position {
        let state = self.feed.state.0.lock().unwrap_or_else(|e| e.into_inner());
        Position(state.offsets[partition as usize].to_le_bytes().to_vec())
    }
}
