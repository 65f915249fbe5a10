//! Who reads whom: names, default inputs, ports, and the order that follows.

use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::topology::{Step, Topology, Use};
use crate::yaml::{Content, Node, snake_case};
use millrace_sdk::operator::{Inputs, Port};
use millrace_sdk::problem::did_you_mean;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What an [`Item`] is: an index into the topology's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Stream(usize),
    Transform(usize),
    Sink(usize),
}

/// An input of an item, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub from: usize,
    /// Index into the reader's view of `from`'s ports; None while these are unknown.
    pub port: Option<usize>,
    pub port_name: String,
    pub index: usize,
    pub span: Span,
}

pub(crate) struct Item {
    pub name: String,
    pub span: Span,
    pub what: What,
    /// Output ports, `errors` last; None: the part is unknown or broken.
    pub ports: Option<Vec<Port>>,
    pub wires: Vec<Wire>,
    /// An input could not be resolved: what follows is not told.
    pub tainted: bool,
}

pub(crate) struct Graph {
    /// Streams, transforms, sinks, as written.
    pub items: Vec<Item>,
    /// Inputs before their readers.
    pub order: Vec<usize>,
}

impl Item {
    /// The port that the bare name means: the main one, or the only one.
    fn main(&self) -> Result<Option<usize>, Vec<&str>> {
        let Some(ports) = &self.ports else { return Ok(None) };
        if let Some(i) = ports.iter().position(|p| p.name.is_empty()) {
            return Ok(Some(i));
        }
        let live: Vec<usize> = live(ports).collect();
        match live[..] {
            [one] => Ok(Some(one)),
            _ => Err(live.iter().map(|i| ports[*i].name.as_str()).collect()),
        }
    }
}

fn live(ports: &[Port]) -> impl Iterator<Item = usize> {
    ports.iter().enumerate().filter(|(_, p)| !p.dead && p.name != "errors").map(|(i, _)| i)
}

fn errors_port() -> Port {
    Port::dead("errors")
}

pub(crate) fn wire(report: &mut Report, t: &Topology) -> Graph {
    let mut items = name_all(report, t);
    let names: BTreeMap<String, usize> = items.iter().enumerate().rev().map(|(i, item)| (item.name.clone(), i)).collect();
    for i in 0..items.len() {
        let mut w = Wiring { report, t, items: &items, names: &names, wires: vec![], tainted: false };
        match items[i].what {
            What::Stream(_) => continue,
            What::Transform(n) => w.transform(n),
            What::Sink(n) => w.sink(n),
        }
        let (wires, tainted) = (w.wires, w.tainted);
        items[i].wires = wires;
        items[i].tainted = tainted;
    }
    let mut graph = Graph { items, order: vec![] };
    graph.sort(report, t);
    graph
}

/// Names: given ones are unique, others are made from the type.
fn name_all(report: &mut Report, t: &Topology) -> Vec<Item> {
    let mut given: BTreeMap<&str, Span> = BTreeMap::new();
    let steps = || t.transforms.iter().chain(&t.sinks);
    let all = t
        .streams
        .iter()
        .map(|s| (s.name.as_str(), s.name_span))
        .chain(steps().filter_map(|s| s.name.as_ref().map(|(n, sp)| (n.as_str(), *sp))));
    for (name, span) in all {
        if let Some(first) = given.get(name) {
            let found = Found::error("duplicate-name", span, format!("the name `{name}` is taken")).second(*first, "first taken here");
            report.push(found.hint("names of streams, transforms and sinks are unique: readers use them"));
        } else {
            given.insert(name, span);
        }
    }
    let mut taken: BTreeSet<String> = given.keys().map(|n| n.to_string()).collect();
    // The number from which a base is free at the earliest: thousands may have the same one.
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut unique = |base: String, number_first: bool| {
        let n = next.entry(base.clone()).or_insert(1);
        loop {
            let name = if *n == 1 && !number_first { base.clone() } else { format!("{base}_{n}") };
            *n += 1;
            if taken.insert(name.clone()) {
                return name;
            }
        }
    };
    let mut items = vec![];
    for (i, s) in t.streams.iter().enumerate() {
        let ports = Some(vec![Port::main(), errors_port()]);
        items.push(Item { name: s.name.clone(), span: s.name_span, what: What::Stream(i), ports, wires: vec![], tainted: s.tainted });
    }
    for (i, s) in t.transforms.iter().enumerate() {
        // A part that was read as another is called as it is written: so its readers call it.
        let written = s.part.node.get("type").and_then(Node::text).unwrap_or("part");
        let base = match s.part.part.filter(|p| p.name == written || p.aliases.contains(&written)) {
            Some(part) => part.name.to_string(),
            None => written.to_string(),
        };
        let name = s.name.as_ref().map_or_else(|| unique(snake_case(&base), false), |(n, _)| n.clone());
        let ports = s.part.operator().map(|o| o.ports().into_iter().chain([errors_port()]).collect());
        items.push(Item { name, span: s.part.type_span, what: What::Transform(i), ports, wires: vec![], tainted: s.part.tainted });
    }
    for (i, s) in t.sinks.iter().enumerate() {
        let name = s.name.as_ref().map_or_else(|| unique("sink".into(), true), |(n, _)| n.clone());
        items.push(Item { name, span: s.part.type_span, what: What::Sink(i), ports: Some(vec![]), wires: vec![], tainted: s.part.tainted });
    }
    items
}

struct Wiring<'a> {
    report: &'a mut Report,
    t: &'a Topology,
    items: &'a [Item],
    names: &'a BTreeMap<String, usize>,
    wires: Vec<Wire>,
    tainted: bool,
}

impl Wiring<'_> {
    fn fail(&mut self, found: Found) {
        self.tainted = true;
        self.report.push(found);
    }

    fn transform(&mut self, n: usize) {
        let t = self.t;
        let step = &t.transforms[n];
        let spec = step.part.operator();
        let node = &step.part.node;
        // Of a part that could not be made only what is written is known.
        let joins = node.get("left").is_some() || node.get("right").is_some();
        let inputs = match spec {
            Some(s) => s.inputs(),
            None if joins => Inputs::LeftRight { retry: true },
            None => Inputs::Many,
        };
        if let Inputs::LeftRight { retry } = inputs {
            for (index, key) in ["left", "right", "retry"].into_iter().enumerate() {
                match node.get(key).filter(|n| !matches!(n.content, Content::Null)) {
                    Some(v) if index == 2 && !retry => {
                        self.fail(Found::error("unknown-key", v.span, format!("`{}` has no retry input", step.part.part_name())));
                    }
                    Some(v) => self.named(v, Some(index)),
                    None if index < 2 && (spec.is_none() || self.report.sources.has_hole(node.span) || node.get("input").is_some()) => {
                        self.tainted = true;
                    }
                    None if index < 2 => {
                        let found = Found::error(
                            "missing-key",
                            step.part.type_span,
                            format!("the key `{key}` is missing: a join names both its inputs"),
                        );
                        self.fail(found.hint(format!("write `{key}: NAME` beside `type`")));
                    }
                    None => {}
                }
            }
            if let Some(e) = node.entry("input") {
                self.fail(Found::error("unknown-key", e.key_span, "a join has `left` and `right`, not `input`"));
            }
            return;
        }
        if spec.is_some() {
            for key in ["left", "right", "retry"] {
                if let Some(e) = node.entry(key) {
                    self.fail(Found::error("unknown-key", e.key_span, format!("`{}` has an `input`, not `{key}`", step.part.part_name())));
                }
            }
        }
        let select = (step.part.part_name() == "SelectStream").then(|| select_ports(&step.part)).flatten();
        match node.get("input").filter(|n| !matches!(n.content, Content::Null)) {
            Some(v) => match select {
                Some(ports) => self.selected(v, &ports),
                None => self.named(v, None),
            },
            // What it reads may have stood in what was taken out.
            None if self.report.sources.has_hole(node.span) => self.tainted = true,
            None => {
                let from = if n == 0 { self.only_stream(step) } else { Some(t.streams.len() + n - 1) };
                if let Some(from) = from {
                    match select {
                        Some(ports) => ports.into_iter().for_each(|(port, span)| self.port(from, &port, span, None)),
                        None => self.bare(from, step.part.type_span, None, true),
                    }
                }
            }
        }
        if inputs == Inputs::One && self.wires.len() > 1 && spec.is_some() && step.part.part_name() != "SelectStream" {
            let span = node.entry("input").map_or(step.part.type_span, |e| e.key_span);
            self.fail(
                Found::error("too-many-inputs", span, format!("`{}` takes one input", step.part.part_name()))
                    .hint("merge them by a `Union` before"),
            );
        }
    }

    fn sink(&mut self, n: usize) {
        let t = self.t;
        let step = &t.sinks[n];
        if let Some(stream) = step.of_stream {
            self.bare(stream, step.part.type_span, None, true);
            return;
        }
        if let Some(v) = step.part.node.get("input").filter(|n| !matches!(n.content, Content::Null)) {
            self.named(v, None);
            return;
        }
        if self.report.sources.has_hole(step.part.node.span) {
            self.tainted = true;
            return;
        }
        let from = if t.transforms.is_empty() { self.only_stream(step) } else { Some(t.streams.len() + t.transforms.len() - 1) };
        let Some(from) = from else { return };
        if let Some(ports) = &self.items[from].ports {
            let outputs: Vec<String> = live(ports).map(|i| output_name(&self.items[from].name, &ports[i].name)).collect();
            if outputs.len() != 1 {
                let found = Found::error(
                    "ambiguous-input",
                    step.part.type_span,
                    format!("`{}` has {} outputs", self.items[from].name, outputs.len()),
                );
                self.fail(found.hint(format!("say which: `input: {}`", outputs.join("` or `input: "))));
                return;
            }
        }
        self.bare(from, step.part.type_span, None, true);
    }

    fn only_stream(&mut self, step: &Step) -> Option<usize> {
        let streams: Vec<usize> = (0..self.t.streams.len()).filter(|i| !self.t.streams[*i].retry).collect();
        match streams[..] {
            [one] => Some(one),
            [] => {
                self.tainted = true;
                None
            }
            _ => {
                let names: Vec<&str> = streams.iter().map(|i| self.t.streams[*i].name.as_str()).collect();
                let found = Found::error("ambiguous-input", step.part.type_span, format!("there are {} streams", names.len()));
                self.fail(found.hint(format!("say which: `input: {}`", names.join("` or `input: "))));
                None
            }
        }
    }

    /// `input: a`, `input: a.port`, `input: [a, b]`.
    fn named(&mut self, node: &Node, index: Option<usize>) {
        match &node.content {
            Content::Seq(all) if index.is_none() => {
                if all.is_empty() {
                    self.fail(Found::error("dangling-input", node.span, "an empty list of inputs"));
                }
                all.iter().for_each(|n| self.named_one(n, None));
            }
            _ => self.named_one(node, index),
        }
    }

    fn named_one(&mut self, node: &Node, index: Option<usize>) {
        let Some(name) = self.name_of(node) else { return };
        if let Some(&from) = self.names.get(&name) {
            self.bare(from, node.span, index, false);
            return;
        }
        match name.rsplit_once('.').and_then(|(n, port)| self.names.get(n).map(|i| (*i, port))) {
            Some((from, port)) => self.port(from, port, node.span, index),
            None => {
                // It is read as what was likely meant.
                let before = self.tainted;
                let Some(near) = self.unknown(&name, node.span) else { return };
                let (head, port) = near.split_once('.').unwrap_or((&near, ""));
                let Some(&from) = self.names.get(head).filter(|i| !matches!(self.items[**i].what, What::Sink(_))) else { return };
                let item = &self.items[from];
                let port = match (&item.ports, port) {
                    (_, "") => item.main().ok().flatten(),
                    (ports, port) => ports.as_ref().and_then(|p| p.iter().position(|p| p.name == port)),
                };
                let fits = match item.what {
                    What::Stream(s) => self.t.streams[s].retry == (index == Some(2)),
                    _ => true,
                };
                if port.is_some() && fits {
                    self.tainted = before;
                }
                self.push(from, port, "", node.span, index);
            }
        }
    }

    fn name_of(&mut self, node: &Node) -> Option<String> {
        if node.is_bad() {
            self.tainted = true;
            return None;
        }
        let name = node.text().map(String::from);
        if name.is_none() {
            self.fail(Found::error("wrong-type", node.span, format!("expected the name of an input, found {}", node.kind())));
        }
        name
    }

    fn selected(&mut self, node: &Node, ports: &[(String, Span)]) {
        let Some(name) = self.name_of(node) else { return };
        match self.names.get(&name) {
            Some(&from) => ports.iter().for_each(|(port, span)| self.port(from, port, *span, None)),
            None => drop(self.unknown(&name, node.span)),
        }
    }

    /// Tells that nothing has this name; gives the name that was likely meant.
    fn unknown(&mut self, name: &str, span: Span) -> Option<String> {
        if self.report.unknown_uses.iter().any(|u| name.strip_prefix(u.as_str()).is_some_and(|rest| rest.starts_with('-'))) {
            self.tainted = true;
            return None;
        }
        let known: Vec<String> = self
            .items
            .iter()
            .filter(|i| !matches!(i.what, What::Sink(_)))
            .flat_map(|i| {
                let ports = i.ports.iter().flatten().filter(|p| !p.name.is_empty()).map(|p| output_name(&i.name, &p.name));
                std::iter::once(i.name.clone()).chain(ports).collect::<Vec<_>>()
            })
            .collect();
        let (head, tail) = name.split_once('.').map_or((name, ""), |(h, t)| (h, t));
        let near = did_you_mean(name, known.iter().map(String::as_str)).or_else(|| {
            let item = did_you_mean(head, self.items.iter().map(|i| i.name.as_str()))?;
            Some(if tail.is_empty() { item } else { format!("{item}.{tail}") })
        });
        let names: Vec<&str> = self.items.iter().filter(|i| !matches!(i.what, What::Sink(_))).map(|i| i.name.as_str()).collect();
        let found = Found::error("dangling-input", span, format!("nothing is called `{name}`"))
            .sure(name, known.iter().map(String::as_str))
            .suggest(near.clone());
        self.fail(found.hint(format!("there are {}", crate::check::list(&names))));
        near
    }

    /// The main output of an item. `implied`: nobody wrote its name.
    fn bare(&mut self, from: usize, span: Span, index: Option<usize>, implied: bool) {
        let item = &self.items[from];
        if let What::Sink(_) = item.what {
            self.fail(Found::error("dangling-input", span, format!("`{}` is a sink: it gives nothing", item.name)));
            return;
        }
        if let What::Stream(s) = item.what
            && self.t.streams[s].retry != (index == Some(2))
        {
            let found = if index == Some(2) {
                Found::error("not-a-retry-stream", span, format!("`{}` is no retry stream", item.name))
                    .second(item.span, "its config needs `role: retry`")
            } else {
                Found::error("not-a-retry-stream", span, format!("`{}` is a retry stream: only a join's `retry` reads it", item.name))
                    .second(item.span, "it has `role: retry`")
            };
            self.fail(found);
            return;
        }
        match item.main() {
            Ok(port) => self.push(from, port, "", span, index),
            Err(outputs) if outputs.is_empty() => self.fail(Found::error("dangling-input", span, format!("`{}` gives nothing", item.name))),
            Err(outputs) => {
                let names: Vec<String> = outputs.iter().map(|p| output_name(&item.name, p)).collect();
                let id = if implied { "the part before" } else { "it" };
                let found = Found::error("ambiguous-input", span, format!("`{}` has no main output: {id} is read by its ports", item.name));
                self.fail(found.hint(format!("say which: `input: {}`", names.join("` or `input: "))));
            }
        }
    }

    fn port(&mut self, from: usize, port: &str, span: Span, index: Option<usize>) {
        let item = &self.items[from];
        let Some(ports) = &item.ports else { return self.push(from, None, port, span, index) };
        match ports.iter().position(|p| p.name == port && !port.is_empty()) {
            Some(i) => self.push(from, Some(i), port, span, index),
            None => {
                let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).filter(|n| !n.is_empty()).collect();
                let near = did_you_mean(port, names.iter().copied());
                // Which ports there are, its config may say where something is wrong.
                let vague = |u: &Use| u.tainted || !u.filled.is_empty();
                if near.is_none() && matches!(item.what, What::Transform(n) if vague(&self.t.transforms[n].part)) {
                    self.tainted = true;
                    return self.push(from, None, port, span, index);
                }
                // Of `name.port` the port is wrong.
                let text = self.report.sources.slice(span);
                let span = match text.rfind(&format!(".{port}")) {
                    Some(dot) => Span { start: span.start + dot + 1, end: span.start + dot + 1 + port.len(), ..span },
                    None => span,
                };
                let found = Found::error("unknown-port", span, format!("`{}` has no port `{port}`", item.name))
                    .sure(port, names.iter().copied())
                    .suggest(near.clone());
                let before = self.tainted;
                self.fail(found.hint(format!("its ports are {}", crate::check::list(&names))));
                if let Some(i) = near.and_then(|n| ports.iter().position(|p| p.name == n)) {
                    self.tainted = before;
                    self.push(from, Some(i), port, span, index);
                }
            }
        }
    }

    fn push(&mut self, from: usize, port: Option<usize>, port_name: &str, span: Span, index: Option<usize>) {
        let index = index.unwrap_or(self.wires.len());
        self.wires.push(Wire { from, port, port_name: port_name.to_string(), index, span });
    }
}

/// The ports that a SelectStream takes, each with its place.
fn select_ports(part: &Use) -> Option<Vec<(String, Span)>> {
    let node = part.config.get("port")?;
    match &node.content {
        Content::Seq(all) => Some(all.iter().filter_map(|n| n.text().map(|t| (t.to_string(), n.span))).collect()),
        _ => node.text().map(|t| vec![(t.to_string(), node.span)]),
    }
}

pub(crate) fn output_name(item: &str, port: &str) -> String {
    if port.is_empty() { item.to_string() } else { format!("{item}.{port}") }
}

impl Graph {
    /// The join whose `retry` input an item is.
    pub fn retried_by(&self, item: usize) -> Option<usize> {
        self.items.iter().position(|i| i.wires.iter().any(|w| w.index == 2 && w.from == item && self.is_join(i)))
    }

    fn is_join(&self, item: &Item) -> bool {
        matches!(item.what, What::Transform(_)) && item.wires.iter().any(|w| w.index == 0) && item.wires.iter().any(|w| w.index == 2)
    }

    pub fn readers(&self, item: usize) -> impl Iterator<Item = (usize, &Wire)> {
        self.items.iter().enumerate().flat_map(move |(i, it)| it.wires.iter().filter(move |w| w.from == item).map(move |w| (i, w)))
    }

    /// What must come before an item: its inputs; for a retry stream the join's left input, whose schema it has.
    fn before(&self, t: &Topology, item: usize) -> Vec<usize> {
        match self.items[item].what {
            What::Stream(s) if t.streams[s].retry => {
                let join = self.retried_by(item);
                join.into_iter().flat_map(|j| self.items[j].wires.iter().filter(|w| w.index == 0).map(|w| w.from)).collect()
            }
            _ => self.items[item].wires.iter().map(|w| w.from).collect(),
        }
    }

    /// Sets `order`; what lies on a cycle is told and left out.
    fn sort(&mut self, report: &mut Report, t: &Topology) {
        let n = self.items.len();
        let before: Vec<Vec<usize>> = (0..n).map(|i| self.before(t, i)).collect();
        let mut done = vec![false; n];
        while let Some(next) = (0..n).find(|i| !done[*i] && before[*i].iter().all(|b| done[*b])) {
            done[next] = true;
            self.order.push(next);
        }
        let mut told = vec![false; n];
        for start in (0..n).filter(|i| !done[*i]) {
            let mut path = vec![start];
            let mut at = start;
            while let Some(&next) = before[at].iter().find(|b| !done[**b]) {
                if let Some(from) = path.iter().position(|p| *p == next) {
                    path.drain(..from);
                    break;
                }
                path.push(next);
                at = next;
            }
            if !path.iter().any(|i| told[*i]) {
                path.reverse();
                let least = path.iter().enumerate().min_by_key(|(_, i)| **i).map_or(0, |(at, _)| at);
                path.rotate_left(least);
                let names: Vec<&str> = path.iter().chain(path.first()).map(|i| self.items[*i].name.as_str()).collect();
                let first = &self.items[path[0]];
                let span = first.wires.iter().find(|w| path.contains(&w.from)).map_or(first.span, |w| w.span);
                let found = Found::error("cycle", span, format!("these parts read each other in a circle: {}", names.join(" -> ")));
                report.push(found.hint("rows come back only by a topic that a stream with `role: retry` reads"));
            }
            for i in path {
                told[i] = true;
            }
        }
    }
}
