//! The sink `File`.

use super::Compression;
use super::ledger;
use super::naming::Naming;
use super::outbox::{Encoder, Files, write_lines};
use super::writer::{News, OnExists, Order, Plan, Writer, cannot_write, exists};
use crate::format::{Format, Layout, RowWriter};
use crossbeam_channel::{Sender, bounded};
use millrace_sdk::config::{Duration, FieldName, PathText, Size, TemplateText};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, Bind, Demand, Fault, Guarantee, Outbox, Part, Place, Problem, SchemaRef, Sink, SinkContext, SinkFactory, SinkSpec, Ticket,
    inventory,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes that are handed to the writing thread at once …
const BLOCK: usize = 256 << 10;
/// … and how many such blocks may wait for it: memory is bounded by their product.
const QUEUE: usize = 4;

/// Writes rows to files, a line each: JSON, CSV, or text by a template.
///
/// Folders are made, and a run without rows leaves an empty file. `{worker}` in the path gives every worker a file of its own; without it one worker writes all rows. Time parts
/// (`%Y-%m-%d`, as in strftime) stand for the wall time at which rows are written, in the job's time zone; a literal `%` is `%%`.
/// With `roll` a file that is full is closed and the next one begun; they are numbered where the path says `{part}`, else before
/// the first dot of the file's name: `counts-00000.jsonl`, `counts-00001.jsonl`. A size is looked at between blocks of at most 256
/// KiB, so files are that much larger than `size`; a file rolls when the next row comes.
///
/// A path ending in `.gz` or `.zst` is compressed. Every `sync` ends a gzip member or a zstd frame, so that what is durable can be
/// read although the file is still being written.
///
/// Guarantee: exactly once in a job with checkpoints, whose rows appear when their checkpoint is complete. How far each writer has come
/// lies beside the files, in the folder `.millrace`: it belongs to them. What is written again after a crash goes, as the same bytes,
/// to the same place, so that who reads along never sees a row twice; half a line at the end is completed by the next run. A process
/// that was stopped and wakes after another has taken the job over finds that out before it writes. Files must not be shortened,
/// renamed or removed while they are written to (`roll` and time parts end them), nor shared by two sinks. A device or a pipe gets
/// its rows at least once.
///
/// Without checkpoints, at least once. A row counts as written when the file was synced to its disk (`fdatasync`) after it; that happens
/// once every `sync`, for all rows since the last time. After a crash rows since then are written again, and a file may end with
/// half a line, behind which the next run begins a new one.
///
/// While a disk is full the job waits, with backpressure to its sources, for at most `retry_for`; then it ends with an error.
///
/// # Example
/// ```yaml
/// name: two-places
/// streams:
///   items:
///     config:
///       source: {type: Inline, config: {rows: [{item: bolt, n: 3}, {item: nut, n: 5}]}}
/// sink:
///   - {type: File, input: items, config: {path: out/items.csv, format: csv, columns: [item, n], on_exists: truncate}}
///   - {type: Stdout, input: items, config: {format: json}}
/// ```
/// ```json
/// {"item":"bolt","n":3}
/// {"item":"nut","n":5}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file, relative to the topology file, with `{worker}`, `{part}` and time parts.
    path: PathText,
    /// How rows are written. Default json.
    #[serde(default)]
    format: Format,
    /// Fields to write, in this order; paths like `client.os` too. Default: all fields.
    #[serde(default)]
    columns: Vec<FieldName>,
    /// The line to write, for `format: text`.
    template: Option<TemplateText>,
    /// CSV: whether each file begins with the names of its columns. Default true.
    #[serde(default = "yes")]
    header: bool,
    /// `auto` goes by the end of the path.
    #[serde(default)]
    compression: Compression,
    /// When a file is full. Default: never.
    #[serde(default)]
    roll: Roll,
    /// What to do with a file that is there when the job starts. With `roll`, `append` goes on with the last part and `truncate`
    /// removes all parts.
    #[serde(default)]
    on_exists: OnExists,
    /// Longest time from a row's writing to its sync. Default 100ms; 1s for compressed files.
    sync: Option<Duration>,
    /// How long a full disk is waited for. Default 5m.
    #[serde(default = "five_minutes")]
    retry_for: Duration,
}

inventory::submit! { Part::sink::<FileSink>("File", &[]) }

fn yes() -> bool {
    true
}
fn five_minutes() -> Duration {
    Duration::secs(300)
}

/// Limits of one file.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roll {
    /// Bytes of content before compression: `64MiB`.
    size: Option<Size>,
    /// Wall time since the file was opened: `1h`.
    every: Option<Duration>,
}

impl FileSink {
    fn layout(&self) -> Layout<'_> {
        Layout { format: self.format, columns: &self.columns, template: self.template.as_ref() }
    }
}

impl SinkSpec for FileSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn demand(&self) -> Demand {
        self.layout().demand()
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut problems = vec![];
        let rolls = self.roll.size.is_some() || self.roll.every.is_some();
        if self.path.is_empty() {
            problems.push(Problem::error("missing-path", Place::at(["path"]), "a path must not be empty"));
        }
        for (key, wrong) in
            [("size", self.roll.size.is_some_and(|s| s.bytes == 0)), ("every", self.roll.every.is_some_and(|d| d.micros <= 0))]
        {
            if wrong {
                problems.push(Problem::error("out-of-range", Place::at(["roll", key]), format!("`roll.{key}` must be more than 0")));
            }
        }
        let naming = Naming::new(&self.path, &bind.env.base_dir, &bind.env.time_zone, rolls)
            .map_err(|e| problems.push(Problem::error("invalid-path", Place::at(["path"]), e)));
        let mut inputs = vec![];
        for edge in bind.inputs {
            match self.layout().bind(edge, bind.env) {
                Ok(writer) => inputs.push((writer, edge.schema.clone())),
                Err(p) => problems.extend(p.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>()),
            }
        }
        let header = inputs.first().and_then(|(w, _)| w.header()).filter(|_| self.header);
        if header.is_some() && inputs.iter().any(|(w, _)| w.header() != header) {
            let p =
                Problem::error("different-columns", Place::at(["format"]), "the inputs have different columns and cannot share a CSV file");
            problems.push(p.hint("name the `columns`, or give each input a sink of its own"));
        }
        let naming = match naming {
            Ok(naming) if problems.is_empty() => naming,
            _ => return Err(problems),
        };
        let packed = self.compression.of(&naming.path("", 0).join(&*self.path)) != Compression::None;
        let sync = self.sync.unwrap_or(if packed { Duration::secs(1) } else { Duration::millis(100) });
        let plan = Plan {
            naming,
            compression: self.compression,
            on_exists: self.on_exists,
            roll_size: self.roll.size.map(|s| s.bytes),
            roll_every: self.roll.every.map(|d| d.micros),
            sync: sync.std(),
            retry_for: self.retry_for.std(),
            header: header.map(|mut h| {
                h.push(b'\n');
                h
            }),
        };
        Ok(Arc::new(Factory { plan, inputs: inputs.into(), clock: bind.env.clock.clone(), begun: Arc::default() }))
    }
}

type Inputs = Arc<[(RowWriter, SchemaRef)]>;

struct Factory {
    plan: Plan,
    inputs: Inputs,
    clock: millrace_sdk::Clock,
    begun: Arc<Mutex<HashSet<String>>>,
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        let naming = &self.plan.naming;
        let stem = naming.stem(0, self.clock.now());
        let path = naming.path(&stem, 0);
        if path.is_dir() {
            return Err(Fault::config(format!("`{}` is a folder", path.display())).hint("name a file in it"));
        }
        if let (OnExists::Fail, Some((_, there))) = (self.plan.on_exists, naming.parts(&stem).first()) {
            // Begun by a job with checkpoints: whether it is this one shows once its writers are known.
            let begun = ledger::states(&ledger::folder(&naming.root()))?;
            if !begun.iter().any(|(_, state)| state.begun.contains(&stem)) {
                return Err(exists(there));
            }
        }
        let target = if path.exists() { path.as_path() } else { path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(path.as_path()) };
        let name = std::ffi::CString::new(target.as_os_str().as_bytes()).map_err(|_| Fault::config("a path must not hold a null byte"))?;
        // SAFETY: `name` is a C string that outlives the call.
        if unsafe { libc::access(name.as_ptr(), libc::W_OK) } != 0 {
            return Err(cannot_write(&path, &io::Error::last_os_error()));
        }
        if target != path && !target.is_dir() {
            return Err(Fault::refused(format!("cannot write to `{}`: `{}` is no folder", path.display(), target.display())));
        }
        if target == path { Ok(()) } else { try_to_make(&path).map_err(|e| cannot_write(&path, &e)) }
    }

    fn single_writer(&self) -> bool {
        !self.plan.naming.per_worker()
    }

    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let news = Arc::new(Mutex::new(News::default()));
        let (orders, queue) = bounded(QUEUE);
        let writer = Writer {
            plan: self.plan.clone(),
            worker: cx.worker,
            clock: cx.clock,
            waker: cx.waker,
            news: news.clone(),
            open: None,
            begun: self.begun.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("file-sink".into())
            .spawn(move || writer.run(queue))
            .map_err(|e| Fault::refused("cannot start a thread for a file sink").detail(e.to_string()))?;
        Ok(Box::new(FileWriter {
            inputs: self.inputs.to_vec(),
            block: Vec::new(),
            tickets: vec![],
            rejects: vec![],
            orders,
            news,
            thread: Some(thread),
        }))
    }

    fn encoder(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Encoder { inputs: self.inputs.to_vec(), worker: cx.worker, clock: cx.clock, rejects: vec![], lines: vec![] }))
    }

    fn outbox(&self, cx: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        // A device or a pipe has nothing that could be written again.
        let path = self.plan.naming.path(&self.plan.naming.stem(cx.worker, cx.clock.now()), 0);
        let file = std::fs::metadata(&path).map_or(true, |m| m.is_file());
        Ok(if file { Some(Box::new(Files::new(self.plan.clone(), cx.worker, cx.clock))) } else { None })
    }
}

/// Makes a file and its folders and takes away again what was not there: some file systems refuse only then.
fn try_to_make(path: &Path) -> io::Result<()> {
    let made: Vec<&Path> = path.ancestors().skip(1).take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let once = || {
        folder.map_or(Ok(()), std::fs::create_dir_all)?;
        OpenOptions::new().write(true).create_new(true).open(path).and_then(|_| std::fs::remove_file(path))
    };
    let mut outcome = once();
    // Another process of the job may try the same, and take the folder away in between.
    for _ in 0..20 {
        if !outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            break;
        }
        outcome = once();
    }
    for folder in made {
        let _ = std::fs::remove_dir(folder);
    }
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

struct FileWriter {
    inputs: Vec<(RowWriter, SchemaRef)>,
    block: Vec<u8>,
    tickets: Vec<Ticket>,
    rejects: Vec<Reject>,
    orders: Sender<Order>,
    news: Arc<Mutex<News>>,
    thread: Option<JoinHandle<()>>,
}

impl FileWriter {
    fn hand_over(&mut self) -> Result<(), Fault> {
        if self.tickets.is_empty() {
            return Ok(());
        }
        let spare = self.news.lock().unwrap_or_else(|e| e.into_inner()).spare.pop().unwrap_or_default();
        let order = Order::Write(std::mem::replace(&mut self.block, spare), std::mem::take(&mut self.tickets));
        self.orders.send(order).map_err(|_| self.gone())
    }

    /// Why the thread has ended.
    fn gone(&self) -> Fault {
        let fault = self.news.lock().unwrap_or_else(|e| e.into_inner()).fault.clone();
        fault.unwrap_or_else(|| Fault::bug("the thread of a file sink has ended"))
    }

    fn collect(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        let mut news = self.news.lock().unwrap_or_else(|e| e.into_inner());
        acks.done.append(&mut news.done);
        acks.rejects.append(&mut self.rejects);
        news.fault.clone().map_or(Ok(()), Err)
    }
}

impl Sink for FileWriter {
    fn ready(&mut self) -> bool {
        self.orders.len() < QUEUE - 1
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let (writer, schema) = &mut self.inputs[input];
        write_lines(writer, schema, batch, &mut self.block, &mut self.rejects);
        self.tickets.push(ticket);
        if self.block.len() >= BLOCK { self.hand_over() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.hand_over()
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.collect(acks)
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.hand_over()?;
        let _ = self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(Fault::bug("the thread of a file sink has panicked"));
        }
        self.collect(acks)
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
