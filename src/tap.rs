//! `millrace tap`: records that pass an output of a running job. The job's side answers on its control socket.
//!
//! After `{"ok": {"fields": [...]}}` comes a line a row, `{"row": {...}}`, and at the end `{"end": {"rows", "missed", "lost"}}`. A condition that
//! cannot be read is refused with `"range": [from, to]`, bytes of its text, beside the error.

use crate::cli::TapArgs;
use crate::control::{Connection, done};
use crate::exit::Exit;
use crate::watch::Watch;
use millrace_engine::tap::Look;
use millrace_engine::watched;
use millrace_expr::{Expr, Scratch};
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::operator::Env;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Batch, Fault, SchemaRef, json};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Batches whose rows wait for the reader; what comes while they do is lost to it.
const QUEUE: usize = 64;
/// What the writing of a batch's rows counts for at most: a reader that is slow costs the job nothing.
const WRITING: Duration = Duration::from_micros(500);
/// Between two looks whether the reader is still there.
const LOOK: Duration = Duration::from_millis(100);
/// What stands before a row.
const ROW: &[u8] = b"{\"row\":";
/// Narrowest and widest column of a table.
const COLUMN: (usize, usize) = (6, 32);

/// What can be tapped of a job: known before it runs.
pub struct Outputs {
    env: Arc<Env>,
    /// Name, where its rows pass (node and port), and what they look like.
    list: Vec<(String, Vec<(usize, usize)>, SchemaRef)>,
}

impl Outputs {
    pub fn new(plan: &Plan) -> Outputs {
        let mut list = vec![];
        for (i, node) in plan.nodes.iter().enumerate().filter(|(i, _)| *i != plan.dead_letter.0) {
            if let NodeKind::Sink(_) = node.kind {
                let from = |i: &millrace_plan::plan::Input| watched(plan, i.from.node.0, i.from.port);
                let at = node.inputs.iter().flat_map(from).collect();
                let schema = node.inputs.first().map(|i| plan.nodes[i.from.node.0].ports[i.from.port].1.schema.clone());
                list.extend(schema.map(|s| (node.name.clone(), at, s)));
                continue;
            }
            for (p, (port, edge)) in node.ports.iter().enumerate() {
                let name = if port.name.is_empty() { node.name.clone() } else { format!("{}.{}", node.name, port.name) };
                list.push((name, watched(plan, i, p), edge.schema.clone()));
            }
        }
        Outputs { env: plan.env.clone(), list }
    }

    /// Their names and fields.
    pub fn listed(&self) -> Value {
        self.list.iter().map(|(name, _, schema)| json!({"name": name, "fields": visible(schema)})).collect()
    }
}

fn visible(schema: &SchemaRef) -> Vec<&str> {
    schema.visible().map(|(_, f)| &*f.name).collect()
}

/// Why nothing is shown, and where in the condition the reason stands.
pub struct Refused(pub Fault, pub Option<Range<usize>>);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused(fault, None)
    }
}

/// What a reader gets of the rows that a tap shows.
struct Shown {
    condition: Option<Arc<Expr>>,
    scratch: Scratch,
    every: u64,
    seen: u64,
    left: u64,
    rows: SyncSender<(u64, Vec<u8>)>,
    lost: Arc<AtomicU64>,
}

impl Shown {
    fn look(&mut self, batch: &Batch) {
        let (mut lines, mut count) = (Vec::new(), 0);
        for row in batch.rows() {
            if count == self.left {
                break;
            }
            // A row of which the condition says nothing is not asked for.
            if let Some(c) = &self.condition
                && !c.is_true(&row, &mut self.scratch).unwrap_or(false)
            {
                continue;
            }
            self.seen += 1;
            if self.seen % self.every != 0 {
                continue;
            }
            lines.extend_from_slice(ROW);
            json::write_row(&row, batch.schema(), &mut lines);
            lines.extend_from_slice(b"}\n");
            count += 1;
        }
        if count > 0 {
            match self.rows.try_send((count, lines)) {
                Ok(()) => self.left -= count,
                Err(_) => drop(self.lost.fetch_add(count, Relaxed)),
            }
        }
    }
}

/// Answers a request to look, until the reader has enough or is gone.
pub fn serve(stream: &UnixStream, request: &Value, watch: &Watch) -> Result<(), Refused> {
    let name = request["output"].as_str().unwrap_or_default();
    let outputs = &watch.outputs;
    let Some((_, at, schema)) = outputs.list.iter().find(|(n, ..)| n == name) else {
        let known = outputs.list.iter().map(|(n, ..)| n.as_str());
        let near = did_you_mean(name, known.clone()).map(|n| format!("did you mean `{n}`?"));
        let all = || format!("there are {}", known.filter(|n| !n.ends_with(".errors")).collect::<Vec<_>>().join(", "));
        return Err(Fault::config(format!("the job has no output `{name}`")).hint(near.unwrap_or_else(all)).into());
    };
    let condition = match request["where"].as_str() {
        None => None,
        Some(text) => Some(Arc::new(Expr::condition(text, schema, &outputs.env).map_err(|issues| refused(text, &issues))?)),
    };
    let number = |name: &str, default: u64| request[name].as_u64().unwrap_or(default).max(1);
    let (sender, rows) = sync_channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let limit = number("limit", u64::MAX);
    let mut shown =
        Shown { condition, scratch: Scratch::default(), every: number("every", 1), seen: 0, left: limit, rows: sender, lost: lost.clone() };
    let answered = writeln!(&mut &*stream, "{}", json!({"ok": {"fields": visible(schema)}}));
    let look: Look = Box::new(move |batch| shown.look(batch));
    let tap = watch.control.taps.add(at.clone(), false, look);
    let mut told = 0;
    while answered.is_ok() && told < limit {
        match rows.recv_timeout(LOOK) {
            Ok((count, lines)) => {
                let begun = Instant::now();
                if (&mut &*stream).write_all(&lines).is_err() {
                    break;
                }
                tap.charge(begun.elapsed().min(WRITING));
                told += count;
            }
            Err(RecvTimeoutError::Timeout) if is_there(stream) => {}
            Err(_) => break,
        }
    }
    tap.end();
    watch.control.taps.remove(&tap);
    let end = json!({"rows": tap.rows.load(Relaxed), "missed": tap.missed.load(Relaxed), "lost": lost.load(Relaxed)});
    // Who has gone away need not know.
    let _ = writeln!(&mut &*stream, "{}", json!({"end": end}));
    Ok(())
}

fn refused(text: &str, issues: &[millrace_expr::Issue]) -> Refused {
    let Some(first) = issues.first() else { return Fault::config(format!("`{text}` is no condition")).into() };
    let place = text.get(first.range.clone()).filter(|t| !t.is_empty() && *t != text).map_or(String::new(), |t| format!(" at `{t}`"));
    let fault = Fault::config(format!("--where: {}{place}", first.message));
    let near = first.suggestion.as_ref().map(|s| format!("did you mean `{s}`?"));
    let fault = match near.or(first.hint.clone()) {
        Some(hint) => fault.hint(hint),
        None => fault,
    };
    Refused(fault, Some(first.range.clone()))
}

/// Whether the reader still holds the connection.
fn is_there(stream: &UnixStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let read = (&mut &*stream).read(&mut [0]);
    stream.set_nonblocking(false).is_ok() && !matches!(read, Ok(0))
}

pub fn tap(args: &TapArgs) -> Exit {
    let as_json = args.json || (!args.table && !io::stdout().is_terminal());
    let run = || {
        let mut job = Connection::open(&args.job)?;
        let mut request = json!({"command": "tap", "output": args.output, "every": args.every});
        if let Some(c) = &args.condition {
            request["where"] = c.as_str().into();
        }
        if let Some(n) = args.n {
            request["limit"] = n.into();
        }
        let answer = job.ask(&request)?;
        let fields = answer["fields"].as_array().into_iter().flatten().filter_map(|f| f.as_str().map(String::from)).collect();
        let mut table = Table { fields, widths: vec![] };
        let mut out = BufWriter::new(io::stdout().lock());
        let mut reader = job.reader();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            let row = line.strip_prefix("{\"row\":").and_then(|l| l.trim_end().strip_suffix('}'));
            let Some(row) = row else {
                end(&serde_json::from_str(&line).unwrap_or_default());
                return Ok(Exit::Ok);
            };
            let text = match as_json {
                true => format!("{row}\n"),
                false => table.lines(&serde_json::from_str(row).unwrap_or_default()),
            };
            let mut written = out.write_all(text.as_bytes());
            if reader.buffer().is_empty() {
                written = written.and_then(|()| out.flush());
            }
            // Who reads has enough.
            if written.is_err() {
                return Ok(Exit::Ok);
            }
            line.clear();
        }
        eprintln!("the job has ended");
        Ok(Exit::Ok)
    };
    done(run())
}

/// Says what was not shown.
fn end(line: &Value) {
    let n = |name: &str| line["end"][name].as_u64().unwrap_or(0);
    if n("missed") + n("lost") > 0 {
        let (rows, missed, lost) = (n("rows"), n("missed"), n("lost"));
        eprintln!(
            "{rows} rows passed; {missed} of them were not looked at, so as not to slow the job, {lost} came too fast for the reader"
        );
    }
}

/// Columns as wide as the first row wants them.
struct Table {
    fields: Vec<String>,
    widths: Vec<usize>,
}

impl Table {
    fn lines(&mut self, row: &Value) -> String {
        let mut out = String::new();
        if self.widths.is_empty() {
            if self.fields.is_empty() {
                self.fields = row.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
            }
            let wide = |f: &String| cell(&row[f]).chars().count().max(f.chars().count()).clamp(COLUMN.0, COLUMN.1);
            self.widths = self.fields.iter().map(wide).collect();
            out.push_str(&self.line(self.fields.iter().cloned()));
        }
        out.push_str(&self.line(self.fields.iter().map(|f| cell(&row[f]))));
        out
    }

    fn line(&self, cells: impl Iterator<Item = String>) -> String {
        let padded: Vec<String> = cells.zip(&self.widths).map(|(c, w)| format!("{c:w$}", w = *w)).collect();
        padded.join("  ").trim_end().to_string() + "\n"
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.replace(['\n', '\t', '\r'], " "),
        other => other.to_string(),
    }
}
