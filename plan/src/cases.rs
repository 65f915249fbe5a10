//! `tests:`: rows in, rows out, on a virtual clock. Read here into what happens one after the other; `millrace test` runs it.

use crate::build::Built;
use crate::diagnostic::{Found, Report};
use crate::scalar;
use crate::source::Span;
use crate::topology::{Stream, Topology, typed};
use crate::wiring::{Graph, What, output_name};
use crate::yaml::{Content, Entry, Node};
use millrace_sdk::config::Duration;
use millrace_sdk::convert::{TimeFormat, TimeReader};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{SchemaRef, Severity, Val};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

mod letters;
mod shape;

pub(crate) use shape::TestCase;

/// The output that records take which no part could use.
pub const DEAD_LETTER: &str = "dead_letter";

/// A value as it is written in a test, or as it came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    /// As written; `float`: it may differ in its last digits.
    Number {
        text: String,
        float: bool,
    },
    Text(String),
    /// Microseconds since 1970.
    Time(i64),
    List(Vec<Datum>),
    Map(Vec<(String, Datum)>),
}

/// A test, ready to run.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub place: Place,
    /// Where the clock stands at the beginning, microseconds since 1970; None: at 0, and no row is too far in its future.
    pub start: Option<i64>,
    pub stores: Vec<(String, Vec<(String, Datum)>)>,
    pub acts: Vec<Act>,
    pub ends: bool,
    /// Of the whole test.
    pub expect: Vec<Expect>,
}

impl Case {
    /// The outputs that it looks at.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let steps = self.acts.iter().filter_map(|a| if let Act::Expect(e) = a { Some(e) } else { None });
        steps.flatten().chain(&self.expect).map(|e| &*e.output)
    }
}

/// Where something stands: a file as messages call it, a line from 1, and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub bytes: Range<usize>,
}

/// What happens in a test.
#[derive(Clone, Debug)]
pub enum Act {
    /// The clock goes on to this time, microseconds since 1970.
    Clock(i64),
    Give {
        stream: String,
        records: Vec<Given>,
    },
    /// Of what came since the last such question.
    Expect(Vec<Expect>),
}

#[derive(Clone, Debug)]
pub struct Given {
    pub body: Body,
    pub with: Vec<(String, Datum)>,
    pub partition: u32,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum Body {
    Text(String),
    Row(Datum),
    /// Each line is a record; relative to the topology's folder.
    File(String),
}

#[derive(Clone, Debug)]
pub struct Expect {
    pub output: String,
    /// Of the value.
    pub place: Place,
    pub want: Vec<Want>,
}

/// One demand on an output.
#[derive(Clone, Debug)]
pub struct Want {
    pub how: How,
    pub rows: Vec<WantedRow>,
    /// The rows stand in this file instead.
    pub file: Option<String>,
    /// Of the list, the path or the number.
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Exact,
    Unordered,
    Subset,
    Count(u64),
}

#[derive(Clone, Debug)]
pub struct WantedRow {
    pub row: Datum,
    pub place: Place,
}

/// A test as it is written, and what it says if it can be run.
pub(crate) struct Written {
    pub node: Node,
    pub case: Option<Case>,
}

/// Reads one item of `tests:`.
pub(crate) fn read(report: &mut Report, node: &Node) -> Option<Written> {
    let before = report.found.iter().filter(|f| f.severity == Severity::Error).count();
    typed::<TestCase>(report, node, node.span)?;
    let errors = |report: &Report| report.found.iter().filter(|f| f.severity == Severity::Error).count();
    let shaky = errors(report) > before;
    let mut reading = Reading { report, now: 0, start: 0, shaky };
    let case = reading.case(node);
    Some(Written { node: node.clone(), case: Some(case).filter(|_| before == errors(report)) })
}

/// Reads a file of tests beside a topology.
pub(crate) fn beside(report: &mut Report, root: &Node) -> Vec<Written> {
    for e in root.entries().iter().filter(|e| e.key != "tests") {
        let found = Found::error("unknown-key", e.key_span, format!("unknown key `{}`", e.key)).sure(&e.key, ["tests"].into_iter());
        report.push(found.suggest(did_you_mean(&e.key, ["tests"])).hint("a file of tests has the one key `tests`"));
    }
    root.get("tests").map(Node::items).unwrap_or_default().iter().filter_map(|n| read(report, n)).collect()
}

struct Reading<'r> {
    report: &'r mut Report,
    /// Where the clock stands, and where it stood at the beginning.
    now: i64,
    start: i64,
    /// It has problems that were told: what is missing may be there under another name.
    shaky: bool,
}

impl Reading<'_> {
    fn place(&self, span: Span) -> Place {
        let sources = &self.report.sources;
        Place { file: sources.name(span.src).into(), line: sources.line_column(span.src, span.start).0, bytes: span.start..span.end }
    }

    fn case(&mut self, node: &Node) -> Case {
        let name = node.get("name");
        let start = node.get("start").and_then(|n| self.time_of_day(n));
        self.start = start.unwrap_or(0);
        self.now = self.start;
        let stores = node.get("stores").map(Node::entries).unwrap_or_default().iter();
        let rows = |e: &Entry| e.value.entries().iter().map(|row| (row.key.clone(), datum(&row.value))).collect();
        let mut acts = self.input(node.get("input"));
        acts.extend(node.get("advance").and_then(|n| self.advance(n)));
        let mut asked = !node.get("expect").map(Node::entries).unwrap_or_default().is_empty();
        for step in node.get("steps").map(Node::items).unwrap_or_default() {
            acts.extend(step.get("at").and_then(|n| self.at(n, self.now)).and_then(|t| self.go(t)));
            acts.extend(step.get("advance").and_then(|n| self.advance(n)));
            acts.extend(self.input(step.get("input")));
            if let Some(e) = step.get("expect").map(|n| self.expect(n)).filter(|e| !e.is_empty()) {
                acts.push(Act::Expect(e));
                asked = true;
            }
        }
        let name_span = name.map_or(node.span, |n| n.span);
        if !asked && !node.is_bad() && !self.shaky {
            let found = Found::warning("test-expects-nothing", name_span, "this test expects nothing, so it shows nothing");
            self.report.push(found.hint("write `expect: {OUTPUT: [...]}`; `millrace test --fix` fills in what comes out"));
        }
        Case {
            name: name.and_then(Node::text).unwrap_or_default().to_string(),
            place: self.place(name_span),
            start,
            stores: stores.map(|e| (e.key.clone(), rows(e))).collect(),
            acts,
            ends: node.get("ends").and_then(Node::text) != Some("false"),
            expect: node.get("expect").map(|n| self.expect(n)).unwrap_or_default(),
        }
    }

    fn bad(&mut self, span: Span, message: impl Into<String>, hint: &str) {
        self.report.push(Found::error("bad-test", span, message).hint(hint));
    }

    fn time_of_day(&mut self, node: &Node) -> Option<i64> {
        let text = node.text()?;
        let read = TimeReader::new(&TimeFormat::Iso8601, "UTC").ok().and_then(|r| r.read(Val::Str(text)).ok());
        if read.is_none() {
            self.bad(node.span, format!("`{text}` is no time"), "write it like `2026-01-01T00:00:00Z`");
        }
        read
    }

    /// A time from the beginning, or a time of day; not before `since`.
    fn at(&mut self, node: &Node, since: i64) -> Option<i64> {
        let text = node.text()?;
        let time = match Duration::parse(text) {
            Ok(d) => self.start.saturating_add(d.micros),
            Err(_) if text.contains(['-', ':']) => self.time_of_day(node)?,
            Err(_) => {
                self.bad(
                    node.span,
                    format!("`{text}` is neither a time from the beginning nor a time of day"),
                    "write it like `10s` or `2026-01-01T00:00:00Z`",
                );
                return None;
            }
        };
        if time < since {
            let found = Found::error("test-goes-back", node.span, "this lies before what comes before it: the clock does not go back");
            self.report.push(found.hint("`at` counts from the beginning of the test, `advance` from where the clock stands"));
            return None;
        }
        Some(time)
    }

    fn go(&mut self, time: i64) -> Option<Act> {
        (time > self.now).then(|| {
            self.now = time;
            Act::Clock(time)
        })
    }

    fn advance(&mut self, node: &Node) -> Option<Act> {
        let by = self.by(node)?;
        self.go(self.now.saturating_add(by))
    }

    fn by(&mut self, node: &Node) -> Option<i64> {
        let by = Duration::parse(node.text()?).ok()?.micros;
        if by < 0 {
            self.report.push(Found::error("test-goes-back", node.span, "the clock does not go back"));
        }
        Some(by.max(0))
    }

    /// What the streams deliver, in the order of time; at one time in the order of the streams.
    fn input(&mut self, node: Option<&Node>) -> Vec<Act> {
        let mut all: Vec<(i64, usize, Option<Given>)> = vec![];
        let streams = node.map(Node::entries).unwrap_or_default();
        for (i, e) in streams.iter().enumerate() {
            let mut now = self.now;
            let one = std::slice::from_ref(&e.value);
            let items = if matches!(e.value.content, Content::Scalar(_)) { one } else { e.value.items() };
            for item in items {
                now = item.get("at").and_then(|n| self.at(n, now)).unwrap_or(now);
                now += item.get("advance").and_then(|n| self.by(n)).unwrap_or(0);
                let given = if items.as_ptr() == one.as_ptr() { self.file(item) } else { self.given(item) };
                all.push((now, i, given));
            }
        }
        all.sort_by_key(|(time, stream, _)| (*time, *stream));
        let mut acts = vec![];
        let mut last = None;
        for (time, stream, given) in all {
            if let Some(act) = self.go(time) {
                acts.push(act);
                last = None;
            }
            let Some(given) = given else { continue };
            match acts.last_mut() {
                Some(Act::Give { records, .. }) if last == Some(stream) => records.push(given),
                _ => acts.push(Act::Give { stream: streams[stream].key.clone(), records: vec![given] }),
            }
            last = Some(stream);
        }
        acts
    }

    fn file(&mut self, node: &Node) -> Option<Given> {
        Some(Given { body: Body::File(node.text()?.into()), with: vec![], partition: 0, place: self.place(node.span) })
    }

    fn given(&mut self, node: &Node) -> Option<Given> {
        let place = self.place(node.span);
        if let Some(text) = node.text() {
            return Some(Given { body: Body::Text(text.into()), with: vec![], partition: 0, place });
        }
        let text = node.get("text").and_then(Node::text).map(|t| Body::Text(t.into()));
        let row = node.get("row").map(|n| Body::Row(datum(n)));
        let file = node.get("file").and_then(Node::text).map(|t| Body::File(t.into()));
        let mut bodies: Vec<Body> = [text, row, file].into_iter().flatten().collect();
        if bodies.len() > 1 {
            self.bad(node.span, "a record is a text, a row, or a file of them", "keep one of `text`, `row` and `file`");
        }
        if bodies.is_empty() && (node.get("with").is_some() || node.get("partition").is_some()) {
            self.bad(node.span, "a record without `text`, `row` or `file`", "say what the source delivers: `text: ...` or `row: {...}`");
        }
        let with = node.get("with").map(|n| n.entries().iter().map(|e| (e.key.clone(), datum(&e.value))).collect());
        let partition = node.get("partition").and_then(|n| n.text()?.parse().ok()).unwrap_or(0);
        bodies.pop().map(|body| Given { body, with: with.unwrap_or_default(), partition, place })
    }

    fn expect(&mut self, node: &Node) -> Vec<Expect> {
        node.entries().iter().map(|e| self.expected(e)).collect()
    }

    fn expected(&mut self, e: &Entry) -> Expect {
        let place = self.place(e.value.span);
        let nothing = |place: &Place| vec![Want { how: How::Exact, rows: vec![], file: None, place: place.clone() }];
        let want = match &e.value.content {
            Content::Map(_) => {
                let mut want = vec![];
                for (key, how) in [("exact", How::Exact), ("unordered", How::Unordered), ("subset", How::Subset)] {
                    want.extend(e.value.get(key).map(|n| self.rows(how, n)));
                }
                if let (Some(_), Some(n)) = (e.value.get("exact"), e.value.entry("unordered")) {
                    self.bad(n.key_span, "`exact` says all that `unordered` says", "keep one of them");
                }
                if let Some(n) = e.value.get("count") {
                    let count = n.text().and_then(|t| t.parse().ok()).unwrap_or(0);
                    want.push(Want { how: How::Count(count), rows: vec![], file: None, place: self.place(n.span) });
                }
                if want.is_empty() && !self.shaky {
                    self.bad(e.value.span, format!("nothing is said of `{}`", e.key), "write `exact`, `unordered`, `subset` or `count`");
                }
                want
            }
            Content::Scalar(s) if s.text == "none" => nothing(&place),
            Content::Scalar(s) if s.text.parse::<u64>().is_ok() => {
                vec![Want { how: How::Count(s.text.parse().unwrap_or(0)), rows: vec![], file: None, place: place.clone() }]
            }
            Content::Null => nothing(&place),
            _ => vec![self.rows(How::Exact, &e.value)],
        };
        Expect { output: e.key.clone(), place, want }
    }

    fn rows(&mut self, how: How, node: &Node) -> Want {
        let place = self.place(node.span);
        if let Some(file) = node.text().filter(|t| *t != "none") {
            return Want { how, rows: vec![], file: Some(file.into()), place };
        }
        let mut rows = vec![];
        for n in node.items() {
            // In a dead letter the reason is what matters.
            let row = match datum(n) {
                Datum::Text(reason) => Datum::Map(vec![("reason".into(), Datum::Text(reason))]),
                row @ Datum::Map(_) => row,
                _ => {
                    self.bad(n.span, format!("a row is a map of fields, found {}", n.kind()), "write `{field: value, ...}`");
                    continue;
                }
            };
            rows.push(WantedRow { row, place: self.place(n.span) });
        }
        Want { how, rows, file: None, place }
    }
}

/// A value as it is written.
fn datum(node: &Node) -> Datum {
    match &node.content {
        Content::Null | Content::Bad => Datum::Null,
        Content::Seq(items) => Datum::List(items.iter().map(datum).collect()),
        Content::Map(entries) => Datum::Map(entries.iter().map(|e| (e.key.clone(), datum(&e.value))).collect()),
        Content::Scalar(s) => match scalar::resolve(s) {
            Value::Null => Datum::Null,
            Value::Bool(b) => Datum::Bool(b),
            Value::Number(n) => {
                let text = if millrace_sdk::json::is_number(s.text.as_bytes()) { s.text.clone() } else { n.to_string() };
                Datum::Number { text, float: false }
            }
            _ => Datum::Text(s.text.clone()),
        },
    }
}

/// Names in `tests` are streams, stores and outputs.
pub(crate) fn check(report: &mut Report, t: &Topology, graph: &Graph, built: &Built, base_dir: &Path) {
    let streams: Vec<&str> = t.streams.iter().map(|s| s.name.as_str()).collect();
    let stores: Vec<&str> = t.stores.iter().map(|s| s.0.as_str()).collect();
    let port_names = |i: &crate::wiring::Item| i.ports.iter().flatten().map(|p| output_name(&i.name, &p.name)).collect::<Vec<_>>();
    let outputs: Vec<String> = graph.items.iter().flat_map(|i| port_names(i).into_iter().chain([i.name.clone()])).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).chain([DEAD_LETTER]).collect();
    let mut names: Vec<(String, Span)> = vec![];
    for test in &t.tests {
        if let Some((name, span)) = test.node.get("name").and_then(|n| n.text().map(|t| (t.to_string(), n.span))) {
            if let Some((_, first)) = names.iter().find(|(n, _)| *n == name) {
                let found =
                    Found::error("duplicate-name", span, format!("two tests are called `{name}`")).second(*first, "first taken here");
                report.push(found);
            }
            names.push((name, span));
        }
        for holder in std::iter::once(&test.node).chain(test.node.get("steps").map(Node::items).unwrap_or_default()) {
            named(report, holder.get("input"), "stream", &streams, |_| false);
            for e in holder.get("input").map(Node::entries).unwrap_or_default() {
                let files = e.value.items().iter().filter_map(|n| n.get("file")).chain([&e.value]);
                files.for_each(|n| input_file(report, n, base_dir));
                if let Some(stream) = t.streams.iter().find(|s| s.name == e.key) {
                    input_rows(report, &e.value, stream);
                }
            }
            // Rows for a port that nobody knows, or that is told as unknown elsewhere.
            let unknown_ports = |name: &str| {
                let head = name.split('.').next().unwrap_or_default();
                graph.items.iter().any(|i| i.name == head && i.ports.is_none() && !matches!(i.what, What::Sink(_)))
            };
            named(report, holder.get("expect"), "output", &outputs, unknown_ports);
            for e in holder.get("expect").map(Node::entries).unwrap_or_default() {
                expected_file(report, &e.value, base_dir);
                if e.key == DEAD_LETTER {
                    letters::check(report, &e.value, graph);
                }
                if let Some(schema) = schema_of_sink(t, graph, built, &e.key) {
                    expected_fields(report, &e.value, &schema);
                }
            }
        }
        named(report, test.node.get("stores"), "store", &stores, |_| false);
    }
}

/// A file whose lines are a stream's records.
fn input_file(report: &mut Report, node: &Node, base_dir: &Path) {
    let Content::Scalar(s) = &node.content else { return };
    if !base_dir.join(&s.text).exists() {
        let found = Found::warning("missing-file", node.span, format!("there is no file `{}`", s.text));
        report.push(
            found.hint("a text here is the path of a file of records, from the topology's folder; records themselves stand in a list"),
        );
    }
}

/// Rows for a parser that declares its fields: a name that looks like one of them misspelt.
fn input_rows(report: &mut Report, records: &Node, stream: &Stream) {
    let Some((_, parser)) = stream.operates.first().filter(|(_, u)| u.part_name() == "StringToMap" && !u.tainted) else { return };
    let json = parser.json.get("format").and_then(Value::as_str) == Some("json");
    let Some(Value::Object(declared)) = parser.json.get("fields").filter(|_| json) else { return };
    // `client.os` is read of the row's `client`.
    let names: Vec<&str> = declared.keys().map(|k| k.split('.').next().unwrap_or(k)).collect();
    for row in records.items().iter().filter_map(|n| n.get("row")) {
        let missing: Vec<&str> = names.iter().copied().filter(|n| row.get(n).is_none()).collect();
        for e in row.entries().iter().filter(|e| !names.contains(&e.key.as_str())) {
            if let Some(near) = did_you_mean(&e.key, missing.iter().copied()) {
                let found = Found::warning("unknown-field", e.key_span, format!("the stream reads no field `{}` of its records", e.key));
                report.push(found.suggest(Some(near)).hint(format!("it reads {}", names.join(", "))));
            }
        }
    }
}

/// A word that is neither `none` nor the name of a file.
fn expected_file(report: &mut Report, node: &Node, base_dir: &Path) {
    let Content::Scalar(s) = &node.content else { return };
    let word = !s.text.is_empty() && s.text.bytes().all(|c| c.is_ascii_alphabetic());
    if word && s.text != "none" && !base_dir.join(&s.text).exists() {
        let found = Found::error("bad-test", node.span, format!("`{}` is neither `none` nor a file", s.text));
        let near =
            did_you_mean(&s.text, ["none"]).or_else(|| ["nothing", "empty", "nil"].contains(&s.text.as_str()).then(|| "none".into()));
        report.push(found.suggest(near).hint("write `none`, a number of rows, the rows themselves, or the path of a file of them"));
    }
}

/// The fields of what a test sees of a sink; None: they are not known. Outputs that nobody reads whole have fewer fields here than in a test.
fn schema_of_sink(t: &Topology, graph: &Graph, built: &Built, name: &str) -> Option<SchemaRef> {
    let sink = graph.items.iter().find(|i| i.name == name)?;
    let What::Sink(n) = sink.what else { return None };
    let [wire] = &sink.wires[..] else { return None };
    t.sinks[n].part.sink().filter(|s| s.demand().all)?;
    let flow = built.flows[wire.from].as_ref().filter(|f| f.sure)?;
    flow.edges.get(wire.port?).map(|e| e.schema.clone()).filter(|s| s.tail().is_none())
}

/// Fields that the output never has: an expectation of one cannot hold.
fn expected_fields(report: &mut Report, node: &Node, schema: &SchemaRef) {
    let lists = ["exact", "unordered", "subset"].into_iter().filter_map(|key| node.get(key)).chain([node]);
    for row in lists.flat_map(Node::items) {
        for e in row.entries().iter().filter(|e| !matches!(e.value.content, Content::Null)) {
            let known = |f: &millrace_sdk::Field| *f.name == *e.key || e.key.starts_with('_');
            if !schema.fields().iter().any(known) {
                let names: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
                let found = Found::warning("unknown-field", e.key_span, format!("no row has a field `{}` here: this cannot hold", e.key));
                report
                    .push(found.suggest(did_you_mean(&e.key, names.iter().copied())).hint(format!("the fields are {}", names.join(", "))));
            }
        }
    }
}

fn named(report: &mut Report, map: Option<&Node>, what: &str, known: &[&str], but: impl Fn(&str) -> bool) {
    for e in map.map(Node::entries).unwrap_or_default() {
        if !known.contains(&e.key.as_str()) && !but(&e.key) {
            let id = if what == "store" { "unknown-store" } else { "dangling-input" };
            let found = Found::error(id, e.key_span, format!("no {what} is called `{}`", e.key));
            report.push(found.sure(&e.key, known.iter().copied()).suggest(did_you_mean(&e.key, known.iter().copied())));
        }
    }
}
