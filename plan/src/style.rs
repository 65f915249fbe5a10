//! Matters of style, opt-in (`--style`): what is right, and is easier to read, to search and to move when it is written otherwise. Looked at is
//! the file as it is written, before fragments and defaults are put in.

use crate::diagnostic::{Found, Report};
use crate::repair::comment_in;
use crate::source::Span;
use crate::topology::{TOP, Topology, schema_of};
use crate::wiring::{Graph, What};
use crate::yaml::{Content, Entry, Node, Scalar, snake_case};
use millrace_sdk::config::{Duration, Size};
use millrace_sdk::{Guarantee, Kind, Part};
use saphyr_parser::ScalarStyle;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest line, characters.
const LONG_LINE: usize = 160;
/// Longest expression, characters.
const LONG_EXPRESSION: usize = 200;
/// Steps of one topology that fit on a screen.
const MANY_PARTS: usize = 40;
/// Times that one address may be written out.
const REPEATS: usize = 3;
/// Keys that name a server.
const ADDRESSES: &[&str] = &["brokers", "url", "thrift", "endpoint"];
/// Output that waits longer than this for its checkpoint is late for most readers, microseconds.
const LONG_INTERVAL: i64 = 60_000_000;

/// A part as it is written: `{type, config}`.
struct Written<'n> {
    kind: Kind,
    node: &'n Node,
}

impl<'n> Written<'n> {
    fn part(&self) -> Option<&'static Part> {
        // The sink `Null` is spelled like YAML's null.
        Part::find(self.kind, self.node.get("type").and_then(Node::text).unwrap_or("Null"))
    }
}

/// `root`: the tree before anything was put in.
pub(crate) fn run(report: &mut Report, root: &Node, t: &Topology, graph: &Graph) {
    let parts = parts(root);
    lines(report, root.span.src);
    top(report, root);
    names(report, root, &parts);
    scalars(report, root);
    for w in &parts {
        part(report, w);
    }
    repeated(report, root, &parts);
    reuse(report, root);
    tests(report, root, t, graph);
    promises(report, t, graph);
}

fn parts(root: &Node) -> Vec<Written<'_>> {
    let mut out = vec![];
    fn list(node: Option<&Node>) -> Vec<&Node> {
        node.map(Node::items).unwrap_or_default().iter().collect()
    }
    let mut add = |kind: Kind, all: Vec<_>| out.extend(all.into_iter().map(|node| Written { kind, node }));
    for e in root.get("streams").map(Node::entries).unwrap_or_default() {
        let Some(config) = e.value.get("config") else { continue };
        add(Kind::Source, config.get("source").into_iter().collect());
        add(Kind::Operator, list(config.get("operates")));
        add(Kind::Sink, list(config.get("sink")));
    }
    add(Kind::Operator, list(root.get("transforms")));
    add(Kind::Sink, list(root.get("sink")));
    add(Kind::Store, root.get("stores").map(Node::entries).unwrap_or_default().iter().map(|e| &e.value).collect());
    for f in root.get("fragments").map(Node::entries).unwrap_or_default() {
        add(Kind::Operator, list(f.value.get("transforms")));
        add(Kind::Sink, list(f.value.get("sink")));
        add(Kind::Source, f.value.get("source").into_iter().collect());
        add(Kind::Store, f.value.get("store").into_iter().collect());
    }
    out
}

/// The text as such.
fn lines(report: &mut Report, src: u32) {
    let text = report.sources.text(src).to_string();
    let mut at = 0;
    let mut blank = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        let span = |start: usize, end: usize| Span::new(src, at + start..at + end);
        let kept = bare.trim_end();
        if kept.len() < bare.len() && !kept.is_empty() {
            let found = Found::note("style-trailing-space", span(kept.len(), bare.len()), "spaces at the end of the line");
            report.push(found.fix(vec![(span(kept.len(), bare.len()), String::new())]));
        }
        let long = bare.chars().count();
        if long > LONG_LINE {
            let from = bare.char_indices().nth(LONG_LINE).map_or(bare.len(), |(i, _)| i);
            let found = Found::note("style-long-line", span(from, bare.len()), format!("this line has {long} characters"));
            report.push(
                found.hint(format!("up to {LONG_LINE} are read at a glance: write the map below its key, or fold the text with `>-`")),
            );
        }
        let comment = comment_in(bare);
        if bare[comment..].starts_with('#') && bare[comment + 1..].starts_with(|c: char| c.is_alphanumeric()) {
            let found = Found::note("style-comment", span(comment, comment + 1), "a comment begins with `# `");
            report.push(found.fix(vec![(span(comment + 1, comment + 1), " ".into())]));
        }
        blank = if kept.is_empty() { blank + 1 } else { 0 };
        if blank == 2 {
            report.push(Found::note("style-blank-lines", span(0, 0), "several blank lines in a row").hint("`millrace fmt` leaves one"));
        }
        at += line.len();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let end = Span::new(src, text.len()..text.len());
        report.push(Found::note("style-last-line", end, "the last line does not end").fix(vec![(end, "\n".into())]));
    }
}

/// The sections.
fn top(report: &mut Report, root: &Node) {
    let order = |key: &str| TOP.iter().position(|k| *k == snake_case(key));
    let mut furthest: Option<(usize, &Entry)> = None;
    let mut told = false;
    for e in root.entries() {
        let Some(place) = order(&e.key) else { continue };
        match furthest {
            Some((f, before)) if place < f => {
                if std::mem::replace(&mut told, true) {
                    continue;
                }
                let found = Found::note("style-section-order", e.key_span, format!("`{}` stands before `{}`", e.key, before.key));
                report.push(found.hint("`millrace fmt` puts the sections in order"));
            }
            _ => furthest = Some((place, e)),
        }
        let empty = match &e.value.content {
            Content::Seq(items) => items.is_empty(),
            Content::Map(entries) => entries.is_empty(),
            Content::Null => true,
            _ => false,
        };
        if empty && !["sink", "streams"].contains(&e.key.as_str()) {
            report.push(Found::note("style-empty-section", e.key_span, format!("`{}` is empty", e.key)).hint("take it out"));
        }
    }
    if root.get("name").is_none() && root.get("streams").is_some() {
        let at = Span { end: root.span.start, ..root.span };
        let found = Found::note("style-job-name", at, "the job has no `name`");
        report.push(found.hint("it is called after its file, and loses its state when the file is renamed: write `name: …`"));
    }
    let text = report.sources.text(root.span.src);
    if root.get("streams").is_some() && !text.lines().any(|l| l.trim_start().starts_with('#')) && text.lines().count() > 20 {
        let at = Span { end: root.span.start, ..root.span };
        let found = Found::note("style-no-comment", at, "nothing says what this job is for");
        report.push(found.hint("begin the file with a comment: `# Clicks joined with exposures, counted per ad.`"));
    }
    for e in root.entries().iter().chain(root.get("run_env").map(Node::entries).unwrap_or_default()) {
        let name = snake_case(&e.key);
        if name != e.key && e.key.chars().all(|c| c.is_ascii_alphanumeric()) {
            let found = Found::note("style-key", e.key_span, format!("`{}` is written `{name}`", e.key));
            report.push(found.fix(vec![(e.key_span, name)]));
        }
    }
}

fn names(report: &mut Report, root: &Node, parts: &[Written<'_>]) {
    let maps = ["streams", "stores", "fragments"].into_iter().filter_map(|key| root.get(key)).flat_map(Node::entries);
    let given = parts.iter().filter_map(|w| w.node.get("name")).filter_map(|n| Some((n.text()?.to_string(), n.span)));
    for (name, span) in maps.map(|e| (e.key.clone(), e.key_span)).chain(given) {
        if name.chars().any(|c| c.is_ascii_uppercase()) {
            let found = Found::note("style-name", span, format!("the name `{name}` has capital letters"));
            report.push(found.hint(format!("names are written like `{}`; change it where it is read too", snake_case(&name))));
        }
    }
    let unnamed = |n: &&Node| n.get("name").is_none() && n.get("fragment").is_none();
    let sinks = root.get("sink").map(Node::items).unwrap_or_default();
    if sinks.len() > 1 {
        for n in sinks.iter().filter(unnamed) {
            let at = n.entry("type").map_or(n.span, |e| e.value.span);
            let found = Found::note("style-unnamed-sink", at, "one of several sinks, and it has no `name`");
            report.push(found.hint("summary, metrics and tests call it `sink_1`, `sink_2` …: give it a name"));
        }
    }
    let transforms = root.get("transforms").map(Node::items).unwrap_or_default();
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for ty in transforms.iter().filter_map(|n| n.get("type").and_then(Node::text)) {
        *types.entry(ty).or_default() += 1;
    }
    for n in transforms.iter().filter(unnamed) {
        let Some(e) = n.entry("type") else { continue };
        let ty = e.value.text().unwrap_or_default();
        if types.get(ty).is_some_and(|n| *n > 1) {
            let found = Found::note("style-unnamed-part", e.value.span, format!("one of several `{ty}`, and it has no `name`"));
            report.push(found.hint("it is called by its number, and loses its state when another is put before it: give it a name"));
        }
    }
    // Where one part says what it reads, the others should.
    let says = |n: &Node| ["input", "left", "fragment"].iter().any(|key| n.get(key).is_some());
    if transforms.iter().filter(|n| says(n)).count() * 2 > transforms.len() && transforms.len() > 3 {
        for n in transforms.iter().skip(1).filter(|n| !says(n)) {
            let at = n.entry("type").map_or(n.span, |e| e.value.span);
            let found = Found::note("style-implied-input", at, "reads the part before it, where most parts say what they read");
            report.push(found.hint("write `input: …`, so that parts can be moved"));
        }
    }
    let count = parts.len();
    if count > MANY_PARTS
        && let Some(e) = root.entry("transforms").or_else(|| root.entry("streams"))
    {
        let found = Found::note("style-many-parts", e.key_span, format!("{count} parts in one topology"));
        report.push(found.hint("make fragments of what belongs together, or several jobs with topics between them"));
    }
}

/// Values as they are spelled, wherever they stand.
fn scalars(report: &mut Report, node: &Node) {
    match &node.content {
        Content::Seq(items) => items.iter().for_each(|n| scalars(report, n)),
        Content::Map(entries) => entries.iter().for_each(|e| scalars(report, &e.value)),
        Content::Null if report.sources.slice(node.span) == "~" => {
            report.push(Found::note("style-null", node.span, "`~` is written `null`").fix(vec![(node.span, "null".into())]));
        }
        Content::Scalar(s) if s.plain => {
            let word = s.text.to_ascii_lowercase();
            if ["true", "false"].contains(&word.as_str()) && word != s.text {
                report.push(
                    Found::note("style-boolean", node.span, format!("`{}` is written `{word}`", s.text)).fix(vec![(node.span, word)]),
                );
            }
        }
        _ => {}
    }
}

fn part(report: &mut Report, w: &Written<'_>) {
    let Some(part) = w.part() else { return };
    if let Some(e) = w.node.entry("type") {
        let written = report.sources.slice(e.value.span).trim_matches(['"', '\'']).to_string();
        if part.aliases.contains(&written.as_str()) {
            let found = Found::note("style-alias", e.value.span, format!("`{written}` is another name of `{}`", part.name));
            report.push(found.fix(vec![(e.value.span, part.name.to_string())]));
        } else if let Content::Scalar(s) = &e.value.content
            && !s.plain
            && part.name != "Null"
            && !s.from_outside()
        {
            let found = Found::note("style-quotes", e.value.span, format!("`{}` needs no quotes", s.text));
            report.push(found.fix(vec![(e.value.span, s.text.clone())]));
        }
    }
    let wanted = ["type", "name", "input", "left", "right", "retry", "config"];
    let places: Vec<usize> = w.node.entries().iter().filter_map(|e| wanted.iter().position(|k| *k == e.key)).collect();
    if let Some(i) = places.windows(2).position(|p| p[1] < p[0]) {
        let keys: Vec<&Entry> = w.node.entries().iter().filter(|e| wanted.contains(&e.key.as_str())).collect();
        let found = Found::note("style-key-order", keys[i + 1].key_span, format!("`{}` stands before `{}`", keys[i + 1].key, keys[i].key));
        report.push(found.hint("what a part is, what it is called, what it reads, then its config"));
    }
    let Some(config) = w.node.entry("config") else { return };
    if matches!(&config.value.content, Content::Map(m) if m.is_empty()) {
        report.push(Found::note("style-empty-config", config.key_span, "the config is empty").hint("it may be left out"));
    }
    let schema = schema_of(part);
    let mut leaves = vec![];
    values(&config.value, schema, schema, &mut leaves);
    for (format, node, s) in leaves {
        value(report, format, node, s);
    }
    for e in config.value.entries() {
        address(report, e);
    }
}

/// The texts of a config, with the formats that the part's schema gives them.
fn values<'n>(node: &'n Node, schema: &'static Value, root: &'static Value, out: &mut Vec<(&'static str, &'n Node, &'n Scalar)>) {
    let schema = match schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        Some(target) => target,
        None => schema,
    };
    for branch in ["anyOf", "oneOf"].iter().filter_map(|k| schema.get(*k)?.as_array()).flatten() {
        values(node, branch, root, out);
    }
    match &node.content {
        Content::Map(entries) => {
            for e in entries {
                let own = schema.get("properties").and_then(|p| p.get(&e.key));
                if let Some(s) = own.or_else(|| schema.get("additionalProperties")) {
                    values(&e.value, s, root, out);
                }
            }
        }
        Content::Seq(items) => {
            if let Some(each) = schema.get("items") {
                items.iter().for_each(|n| values(n, each, root, out));
            }
        }
        Content::Scalar(s) => {
            if let Some(format) = schema.get("format").and_then(Value::as_str)
                && !out.iter().any(|(f, n, _)| *f == format && n.span == node.span)
            {
                out.push((format, node, s));
            }
        }
        _ => {}
    }
}

fn value(report: &mut Report, format: &str, node: &Node, s: &Scalar) {
    match format {
        "duration" if !s.from_outside() => duration(report, node, s),
        "size" if !s.from_outside() => {
            let Ok(size) = Size::parse(&s.text) else { return };
            let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
            let best = units.iter().find(|(_, n)| size.bytes > 0 && size.bytes % n == 0);
            let bare = s.text.bytes().all(|b| b.is_ascii_digit());
            if let Some((unit, n)) =
                best.filter(|(unit, _)| bare || (s.text.ends_with('B') && !s.text.ends_with(unit) && size.bytes >= 1 << 20))
            {
                let better = format!("{}{unit}", size.bytes / n);
                let found = Found::note("style-size", node.span, format!("`{}` is easier to read as `{better}`", s.text));
                report.push(found.fix(vec![(node.span, better)]));
            }
        }
        "expr" => {
            let long = s.text.chars().count();
            if long > LONG_EXPRESSION {
                let found = Found::note("style-long-expression", node.span, format!("an expression of {long} characters"));
                report.push(found.hint("give its parts names with a Map before"));
            }
            let bare: String = s.text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            if ["true", "false", "1 = 1", "1=1", "1 = 0", "1=0"].contains(&bare.as_str()) {
                let found = Found::note("style-constant-condition", node.span, format!("`{}` is the same for every row", s.text));
                report.push(found.hint("take the part out, or use the port `rest` for what fits nowhere else"));
            }
        }
        "template" => {
            let spaced = s.text.replace("{{ ", "{{").replace(" }}", "}}");
            if spaced != s.text && s.style == ScalarStyle::DoubleQuoted && !s.text.contains(['"', '\\']) && !s.from_outside() {
                let found = Found::note("style-template", node.span, "templates are written without spaces inside of their braces");
                report.push(found.fix(vec![(node.span, format!("\"{spaced}\""))]));
            }
        }
        "path" if s.text.starts_with('/') && !s.from_outside() => {
            let found = Found::note("style-absolute-path", node.span, format!("`{}` is there on one machine", s.text));
            report.push(found.hint("write a path from the topology's folder, or a variable with this as its default: `${DIR:-…}`"));
        }
        _ => {}
    }
}

/// `3600s` is an hour.
fn duration(report: &mut Report, node: &Node, s: &Scalar) {
    let Ok(d) = Duration::parse(&s.text) else { return };
    let better = d.to_string();
    let figures = s.text.bytes().filter(u8::is_ascii_digit).count();
    if better != s.text && figures > 2 && better.len() <= s.text.len() {
        let found = Found::note("style-duration", node.span, format!("`{}` is easier to read as `{better}`", s.text));
        report.push(found.fix(vec![(node.span, better)]));
    }
}

fn address(report: &mut Report, e: &Entry) {
    let Content::Scalar(s) = &e.value.content else { return };
    if ADDRESSES.contains(&e.key.as_str()) && !s.from_outside() && ["localhost", "127.0.0.1"].iter().any(|host| s.text.contains(host)) {
        let found = Found::note("style-localhost", e.value.span, format!("`{}` is another server on each machine", s.text));
        report.push(found.hint(format!("take it from outside: `${{NAME:-{}}}`", s.text)));
    }
}

/// What is written out several times.
fn repeated(report: &mut Report, root: &Node, parts: &[Written<'_>]) {
    let mut seen: BTreeMap<(String, String), Vec<Span>> = BTreeMap::new();
    for w in parts {
        for e in w.node.get("config").map(Node::entries).unwrap_or_default() {
            if let Some(text) = e.value.text().filter(|_| ADDRESSES.contains(&e.key.as_str())) {
                seen.entry((e.key.clone(), text.to_string())).or_default().push(e.value.span);
            }
        }
    }
    for ((key, text), spans) in seen.iter().filter(|(_, spans)| spans.len() > REPEATS) {
        let found = Found::note("style-repeated-address", spans[REPEATS], format!("`{text}` is written out {} times", spans.len()));
        report.push(found.second(spans[0], "here first").hint(format!("say it once: `defaults: {{TYPE: {{{key}: …}}}}`")));
    }
    let mut washed: Vec<(String, Span)> = vec![];
    for e in root.get("streams").map(Node::entries).unwrap_or_default() {
        let Some(steps) = e.value.get("config").and_then(|c| c.entry("operates")).filter(|s| s.value.items().len() > 1) else { continue };
        let json = crate::check::to_json(&steps.value).to_string();
        match washed.iter().find(|(j, _)| *j == json) {
            Some((_, first)) => {
                let found = Found::note("style-repeated-steps", steps.key_span, format!("`{}` is washed like another stream", e.key));
                report.push(found.second(*first, "the same steps").hint("make a fragment of the steps and use it in both"));
            }
            None => washed.push((json, steps.key_span)),
        }
    }
}

fn reuse(report: &mut Report, root: &Node) {
    for f in root.get("fragments").map(Node::entries).unwrap_or_default() {
        if f.value.get("description").is_none() && matches!(f.value.content, Content::Map(_)) {
            let found = Found::note("style-description", f.key_span, format!("the fragment `{}` has no `description`", f.key));
            report.push(found.hint("say what it is for: editors and `millrace explain` show it"));
        }
    }
    for e in root.get("streams").map(Node::entries).unwrap_or_default() {
        if let Some(ty) = e.value.entry("type").filter(|t| t.value.text() == Some("DefaultStream")) {
            let found = Found::note("style-stream-type", ty.key_span, "`type: DefaultStream` says nothing");
            report.push(found.hint("it may be left out"));
        }
    }
}

fn tests(report: &mut Report, root: &Node, t: &Topology, graph: &Graph) {
    if t.tests.is_empty() {
        if let Some(streams) = root.entry("streams") {
            let found = Found::note("style-no-tests", streams.key_span, "the topology has no tests");
            report.push(found.hint("`millrace sample FILE --stream NAME -n 20` makes one from real records"));
        }
        return;
    }
    let expects = |name: &str| {
        t.tests.iter().any(|test| {
            let holders = std::iter::once(&test.node).chain(test.node.get("steps").map(Node::items).unwrap_or_default());
            holders
                .filter_map(|h| h.get("expect"))
                .any(|e| e.entries().iter().any(|e| e.key == name || e.key.split('.').next() == Some(name)))
        })
    };
    for item in graph.items.iter().filter(|i| matches!(i.what, What::Sink(_))) {
        let source = item.wires.first().map(|w| graph.items[w.from].name.as_str()).unwrap_or_default();
        if !expects(&item.name) && !expects(source) {
            let found = Found::note("style-untested-sink", item.span, format!("no test looks at what `{}` gets", item.name));
            report.push(found.hint(format!("write `expect: {{{}: …}}` in one of the tests", item.name)));
        }
    }
}

/// What weakens a job's guarantee, or makes its output late.
fn promises(report: &mut Report, t: &Topology, graph: &Graph) {
    let timed = t.env.time_characteristic == crate::topology::Time::EventTime;
    let waits = |item: usize| {
        let What::Transform(n) = graph.items[item].what else { return false };
        let part = &t.transforms[n].part;
        part.part_name().contains("Window") || part.part_name() == "IntervalLeftJoin"
    };
    if timed && (0..graph.items.len()).any(waits) {
        for s in t.streams.iter().filter(|s| s.source.part_name() == "Kafka" && !s.retry) {
            if let Some((_, node)) = s.watermark.as_ref().filter(|(w, _)| w.idle_after.is_none()) {
                let found = Found::note(
                    "style-idle",
                    first(node),
                    format!("a partition of `{}` without messages holds up all windows and joins", s.name),
                );
                report.push(found.hint("write `idle_after: 30s`, if partitions may be without messages for long"));
            }
        }
    }
    for step in &t.transforms {
        let part = &step.part;
        let asks = part.part_name() == "Lookup" || (part.part_name() == "IntervalLeftJoin" && part.config.get("fallback").is_some());
        if asks && part.config.get("on_store_error").is_none() && !part.tainted {
            let found = Found::note("style-store-down", part.type_span, "the job stands still while the store is down");
            report.push(found.hint("that is the default; say so, `on_store_error: wait`, or choose `dead_letter` or `unmatched`"));
        }
    }
    let Some(checkpoint) = &t.env.checkpoint else {
        if let Some(s) = t.streams.iter().find(|s| s.source.source().is_some_and(|spec| !spec.bounded()))
            && let Some(item) = (0..graph.items.len()).find(|i| waits(*i))
        {
            let message = format!("`{}` keeps rows in memory, and the job takes no checkpoints", graph.items[item].name);
            let found = Found::note("style-no-checkpoint", graph.items[item].span, message).second(s.name_span, "this stream has no end");
            report.push(found.hint("a job that is killed loses them: write `run_env: {checkpoint: {interval: 10s}}`"));
        }
        return;
    };
    let exact = checkpoint.mode != Some(crate::durability::CheckpointMode::AtLeastOnce);
    for step in t.sinks.iter().filter(|_| exact) {
        let weak = match step.part.sink().map(|s| s.guarantee()) {
            Some(Guarantee::None) => "nobody confirms what it has written: rows may be missing or come twice",
            Some(Guarantee::AtLeastOnce) => "its rows may come again after a failure",
            _ => continue,
        };
        let found = Found::note("style-weak-sink", step.part.type_span, format!("`{}` is not exactly once: {weak}", step.part.part_name()));
        report.push(found.hint("`millrace explain` says what each sink promises"));
    }
    let node = t.env_node.as_ref().and_then(|n| n.get("checkpoint")).and_then(|n| n.get("interval"));
    if let Some((interval, node)) = checkpoint.interval.zip(node).filter(|(i, _)| exact && i.micros > LONG_INTERVAL) {
        let found = Found::note("style-late-output", node.span, format!("output becomes visible every {interval}"));
        report.push(found.hint("rows leave with the checkpoint that covers them: take them more often, or `mode: at_least_once`"));
    }
}

fn first(node: &Node) -> Span {
    node.entries().first().map_or(node.span, |e| e.key_span)
}
