//! `fragments`: parts that are written once, with parameters, and used by name in several places.

use super::parameters::{self, Parameter};
use super::{child, entries_mut, is_map, names_hint, only, put, remap};
use crate::check::list;
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::spelling::unknown_key;
use crate::topology::{first_line, valid_name};
use crate::vars::Vars;
use crate::yaml::{self, Content, Entry, Node, snake_case};
use millrace_sdk::problem::did_you_mean;
use std::collections::{BTreeMap, HashMap};

/// What a fragment can be: the key that its parts stand under.
pub(crate) const BODIES: &[&str] = &["transforms", "sink", "source", "store", "stream"];
pub(crate) const FRAGMENT: &[&str] = &["description", "parameters", "transforms", "sink", "source", "store", "stream"];
/// The keys of a use of one.
pub(crate) const USE: &[&str] = &["fragment", "with", "name", "input", "left", "right", "retry"];
/// Values that all uses together may make.
const MAX_NODES: usize = 100_000;

struct Fragment {
    name: String,
    span: Span,
    parameters: Vec<Parameter>,
    body: &'static str,
    node: Node,
    used: bool,
}

struct Expander<'a> {
    report: &'a mut Report,
    vars: &'a mut Vars,
    all: BTreeMap<String, Fragment>,
    /// Fragments that are there but cannot be used, or may stand in what could not be read.
    broken: Vec<String>,
    complete: bool,
    /// Names of uses that were made from the fragment's.
    unnamed: HashMap<String, (Span, usize)>,
    nodes: usize,
    bomb: bool,
}

/// Puts fragments where they are used.
pub(super) fn run(report: &mut Report, root: &mut Node, vars: &mut Vars, declared: Vec<Entry>, complete: bool) {
    let mut x = Expander { report, vars, all: BTreeMap::new(), broken: vec![], complete, unnamed: HashMap::new(), nodes: 0, bomb: false };
    declared.into_iter().for_each(|e| x.declare(e));
    x.topology(root);
    if !x.complete {
        return;
    }
    for f in x.all.values().filter(|f| !f.used && f.span.src == 0) {
        let found = Found::warning("unused-fragment", f.span, format!("nothing uses the fragment `{}`", f.name));
        x.report.found.push(found.hint("take it out, or write `fragment: NAME` where it belongs"));
    }
}

impl Expander<'_> {
    fn declare(&mut self, e: Entry) {
        valid_name(self.report, &e.key, e.key_span);
        if let Some(first) = self.all.get(&e.key) {
            let found = Found::error("duplicate-name", first.span, format!("the name `{}` is taken", e.key));
            self.report.push(found.second(e.key_span, "the other fragment"));
            return;
        }
        self.broken.push(e.key.clone());
        if e.value.is_bad() || !is_map(self.report, &e.value, "a fragment") {
            return;
        }
        let near = only(self.report, &e.value, FRAGMENT);
        let mut bodies = e.value.entries().iter().filter(|b| BODIES.contains(&&*b.key));
        let Some(body) = bodies.next() else {
            if !self.report.sources.has_hole(e.value.span) && !near.iter().any(|n| BODIES.contains(&&**n)) {
                let found = Found::error("bad-fragment", e.key_span, format!("the fragment `{}` has no parts", e.key));
                self.report.push(found.hint(format!("write them under one of {}", list(BODIES))));
            }
            return;
        };
        if let Some(other) = bodies.next() {
            let found = Found::error("bad-fragment", other.key_span, "a fragment is one thing: its parts stand under one key");
            self.report.push(found.second(body.key_span, "the first one"));
            return;
        }
        let listed = matches!(&*body.key, "transforms" | "sink");
        let wrong = match &body.value.content {
            Content::Bad => true,
            Content::Seq(items) if listed && !items.is_empty() => false,
            Content::Map(_) if !listed => false,
            _ => {
                let what = if listed { "a list with at least one part" } else { "a map" };
                let found = Found::error("wrong-type", body.key_span, format!("`{}` of a fragment is {what}", body.key));
                self.report.push(found);
                true
            }
        };
        let parameters = parameters::read(self.report, e.value.get("parameters"));
        let mut mentioned = vec![];
        mentions(&body.value, &mut mentioned);
        // A mention that names no parameter, but nearly this one, is told where it is.
        let misspelt = |p: &Parameter| {
            let strange = mentioned.iter().filter(|m| parameters.iter().all(|p| p.name != **m));
            strange.into_iter().any(|m| did_you_mean(m, [p.name.as_str()]).is_some())
        };
        for p in parameters.iter().filter(|p| !mentioned.contains(&p.name) && !wrong && !misspelt(p)) {
            let found = Found::warning("unused-parameter", p.span, format!("nothing in `{}` mentions the parameter `{}`", e.key, p.name));
            self.report.push(found.hint(format!("write `${{{}}}` where its value belongs, or take it out", p.name)));
        }
        if wrong {
            return;
        }
        let key = BODIES.iter().find(|b| **b == body.key).copied().unwrap_or_default();
        let fragment = Fragment { name: e.key.clone(), span: e.key_span, parameters, body: key, node: body.value.clone(), used: false };
        self.broken.pop();
        self.all.insert(e.key, fragment);
    }

    fn topology(&mut self, root: &mut Node) {
        for e in child(root, "stores").and_then(entries_mut).into_iter().flatten() {
            self.single(&mut e.value, "store", &[]);
        }
        for e in child(root, "streams").and_then(entries_mut).into_iter().flatten() {
            self.single(&mut e.value, "stream", &[]);
            self.sinks(&mut e.value);
            let Some(config) = child(&mut e.value, "config") else { continue };
            if let Some(source) = child(config, "source") {
                self.single(source, "source", &[]);
            }
            if let Some(operates) = child(config, "operates") {
                self.list(operates, "transforms", true);
            }
            self.sinks(config);
        }
        if let Some(n) = child(root, "transforms") {
            self.list(n, "transforms", false);
        }
        self.sinks(root);
        if let Some(n) = child(root, "run_env").and_then(|e| child(e, "dead_letter")) {
            self.single(n, "sink", &[]);
        }
    }

    fn sinks(&mut self, node: &mut Node) {
        if let Some(n) = child(node, "sink") {
            self.list(n, "sink", false);
        }
    }

    /// Parts in a row: those of fragments take the place of their use.
    fn list(&mut self, node: &mut Node, body: &'static str, inner: bool) {
        let Content::Seq(items) = &mut node.content else { return };
        if !items.iter().any(|n| n.entry("fragment").is_some()) {
            return;
        }
        let mut out = vec![];
        for n in std::mem::take(items) {
            self.steps(n, body, inner, &mut vec![], &mut out);
        }
        *items = out;
    }

    fn steps(&mut self, node: Node, body: &'static str, inner: bool, way: &mut Vec<String>, out: &mut Vec<Node>) {
        if node.entry("fragment").is_none() {
            return out.push(node);
        }
        let known: &[&str] = match (body, inner) {
            (_, true) => &["fragment", "with", "name"],
            ("sink", _) => &["fragment", "with", "name", "input"],
            _ => USE,
        };
        let Some((name, used)) = self.named(&node, body, known, way) else { return out.push(self.hole(node)) };
        let Some(Content::Seq(mut items)) = self.instance(&name, &node, used).map(|n| n.content) else { return out.push(self.hole(node)) };
        let prefix = match node.get("name").filter(|n| n.text().is_some()) {
            Some(n) => (n.text().unwrap_or_default().to_string(), n.span),
            None => (self.prefix(&name, used, inner), used),
        };
        self.rename(&mut items, &prefix, body);
        self.wire(&mut items, &node, body);
        way.push(name);
        for n in items {
            self.steps(n, body, inner, way, out);
        }
        way.pop();
    }

    /// A use without a name is called after its fragment; a second one must say how.
    fn prefix(&mut self, fragment: &str, used: Span, inner: bool) -> String {
        let base = self.report.sources.bare(used);
        let (first, times) = *self.unnamed.entry(fragment.to_string()).and_modify(|(_, n)| *n += 1).or_insert((base, 1));
        if times == 1 || inner {
            return fragment.to_string();
        }
        let found = Found::error("duplicate-name", used, format!("`{fragment}` is used twice without a name"));
        self.report
            .push(found.second(first, "first used here").hint("write `name: NAME` beside `fragment`: its parts are called after it"));
        format!("{fragment}_{times}")
    }

    /// The last part has the name of the use, the others `NAME-OWN`; inputs that name parts of the fragment follow.
    fn rename(&mut self, items: &mut [Node], prefix: &(String, Span), body: &str) {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let last = items.len() - 1;
        let mut new = vec![];
        for (i, n) in items.iter().enumerate() {
            let own = n.get("name").and_then(Node::text).map(String::from);
            let kind = n.get("type").or(n.get("fragment")).and_then(Node::text).unwrap_or("part");
            let mut own = own.unwrap_or_else(|| snake_case(kind));
            let base = own.clone();
            let mut number = 2;
            while names.contains_key(&own) {
                own = format!("{base}_{number}");
                number += 1;
            }
            let whole = i == last && (body != "sink" || last == 0);
            let name = if whole { prefix.0.clone() } else { format!("{}-{own}", prefix.0) };
            names.insert(own, name.clone());
            new.push(name);
        }
        for (n, name) in items.iter_mut().zip(new) {
            let span = if name == prefix.0 { prefix.1 } else { n.get("name").or(n.get("type")).map_or(n.span, |n| n.span) };
            put(n, "name", span, Node::word(name, span));
            for key in ["input", "left", "right", "retry"] {
                let Some(value) = child(n, key) else { continue };
                match &mut value.content {
                    Content::Seq(all) => all.iter_mut().for_each(|n| follow(n, &names)),
                    _ => follow(value, &names),
                }
            }
        }
    }

    /// What the use reads is what its first part reads; of sinks, each.
    fn wire(&mut self, items: &mut [Node], node: &Node, body: &str) {
        for key in ["input", "left", "right", "retry"] {
            let Some(e) = node.entry(key) else { continue };
            let reached = if body == "sink" { items.len() } else { 1 };
            let mut taken = false;
            for n in &mut items[..reached] {
                if n.entry(key).is_none() {
                    put(n, key, e.key_span, e.value.clone());
                    taken = true;
                }
            }
            if !taken {
                let found = Found::error("useless-key", e.key_span, format!("the fragment says itself what its `{key}` is"));
                self.report.push(found.hint("take it out, or make it a parameter of the fragment"));
            }
        }
    }

    /// A source, store or stream, or the one sink of rejects.
    fn single(&mut self, node: &mut Node, body: &'static str, way: &[String]) {
        if node.entry("fragment").is_none() {
            return;
        }
        let known: &[&str] = if body == "source" { &["fragment", "with", "parallelism"] } else { &["fragment", "with"] };
        let mut way = way.to_vec();
        let Some((name, used)) = self.named(node, body, known, &mut way) else {
            *node = Node::bad(node.span);
            return;
        };
        let mut made = self.instance(&name, node, used).unwrap_or_else(|| Node::bad(node.span));
        if body == "sink"
            && let Content::Seq(items) = &made.content
        {
            made = match &items[..] {
                [one] => one.clone(),
                _ => {
                    self.report.push(Found::error("bad-fragment", used, format!("`{name}` is several sinks, and one is needed here")));
                    Node::bad(node.span)
                }
            };
        }
        if let Some(e) = node.entry("parallelism") {
            put(&mut made, "parallelism", e.key_span, e.value.clone());
        }
        *node = made;
        way.push(name);
        self.single(node, body, &way);
    }

    /// The fragment that a use names, and the place of the name.
    fn named(&mut self, node: &Node, body: &str, known: &[&str], way: &mut [String]) -> Option<(String, Span)> {
        for e in node.entries().iter().filter(|e| !known.contains(&&*e.key)) {
            let found = unknown_key(e, known.iter().copied());
            self.report.push(match &*e.key {
                "type" | "config" => found.suggest(None).hint("a use of a fragment takes `with`: the fragment says what its parts are"),
                key if USE.contains(&key) => found.suggest(None).hint(format!("a fragment here is not wired by `{key}`")),
                _ => found,
            });
        }
        let named = node.get("fragment")?;
        let span = first_line(self.report, named.span);
        let Some(name) = named.text() else {
            if !named.is_bad() {
                self.report.push(Found::error("wrong-type", span, format!("expected the name of a fragment, found {}", named.kind())));
            }
            return None;
        };
        let Some(f) = self.all.get_mut(name) else {
            if self.complete && !self.broken.iter().any(|b| b == name) {
                let names: Vec<&str> = self.all.keys().map(String::as_str).chain(self.broken.iter().map(String::as_str)).collect();
                let found = Found::error("unknown-fragment", span, format!("no fragment is called `{name}`"))
                    .sure(name, names.iter().copied())
                    .suggest(did_you_mean(name, names.iter().copied()));
                self.report.push(names_hint(found, "fragments", &names));
            }
            return None;
        };
        f.used = true;
        if f.body != body {
            let needed = if body == "transforms" { "operators are" } else { "that is no" };
            let found = Found::error(
                "bad-fragment",
                span,
                match body {
                    "transforms" => format!("`{name}` is a {}, and {needed} needed here", f.body),
                    _ if f.body == "transforms" => format!("`{name}` is a list of operators, and a {body} is needed here"),
                    _ => format!("`{name}` is a {}, and a {body} is needed here", f.body),
                },
            );
            self.report.push(found.second(f.span, "defined here"));
            return None;
        }
        if way.iter().any(|w| w == name) {
            let found = Found::error("fragment-cycle", span, format!("the fragment `{name}` uses itself: {} -> {name}", way.join(" -> ")));
            self.report.push(found);
            return None;
        }
        Some((name.to_string(), span))
    }

    /// A use that could not be followed: what is missing is not told.
    fn hole(&mut self, node: Node) -> Node {
        self.report.sources.hole(node.span);
        let name = node.get("name").or(node.get("fragment")).and_then(Node::text);
        self.report.unknown_uses.extend(name.map(String::from));
        let kept = |e: &&Entry| matches!(&*e.key, "name" | "input" | "left" | "right" | "retry");
        Node { span: node.span, content: Content::Map(node.entries().iter().filter(kept).cloned().collect()) }
    }

    /// The parts of a fragment with the values of a use in them.
    fn instance(&mut self, name: &str, node: &Node, used: Span) -> Option<Node> {
        let f = self.all.get(name)?;
        let (mut body, src) = (f.node.clone(), f.span.src);
        let values = parameters::bind(self.report, &f.parameters, node.get("with"), used, name);
        let view = self.report.sources.view(src, used);
        remap(&mut body, src, view);
        let defaults: Vec<Span> = f.parameters.iter().filter_map(|p| p.default.as_ref().map(|d| d.span)).collect();
        let mut values: BTreeMap<String, Node> = values.into_iter().collect();
        for v in values.values_mut().filter(|v| defaults.contains(&v.span)) {
            remap(v, src, view);
            yaml::fill(self.report, v, self.vars);
        }
        self.vars.locals = values.iter().map(|(k, v)| (k.clone(), v.text().map(String::from))).collect();
        self.values(&mut body, &values);
        self.vars.locals.clear();
        if self.nodes > MAX_NODES {
            if !self.bomb {
                let message = format!("fragments make more than {MAX_NODES} values of this topology");
                self.report.push(Found::error("alias-bomb", used, message).hint("write out what is meant, or split the topology"));
            }
            self.bomb = true;
            return None;
        }
        Some(body)
    }

    /// Puts the values of parameters, and of other variables, into a fragment's parts.
    fn values(&mut self, node: &mut Node, values: &BTreeMap<String, Node>) {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return;
        }
        match &mut node.content {
            Content::Map(entries) => entries.iter_mut().for_each(|e| self.values(&mut e.value, values)),
            Content::Seq(items) => items.iter_mut().for_each(|n| self.values(n, values)),
            Content::Scalar(s) if s.text.contains("${") => {
                let whole = s.text.strip_prefix("${").and_then(|t| t.strip_suffix('}')).and_then(|n| values.get(n));
                match whole.map(|v| (&v.content, v.span)) {
                    Some((Content::Scalar(v), at)) => node.content = Content::Scalar(s.instead(v, at)),
                    Some((Content::Map(_) | Content::Seq(_), _)) => {
                        self.nodes += whole.map_or(0, yaml::count);
                        node.content = whole.map_or(Content::Bad, |v| v.content.clone());
                    }
                    Some((other, _)) => node.content = other.clone(),
                    None if values.iter().any(|(k, v)| v.is_bad() && mentions_name(&s.text, k)) => node.content = Content::Bad,
                    None => yaml::fill(self.report, node, self.vars),
                }
            }
            _ => {}
        }
    }
}

/// An input that names a part of the fragment, or one of its ports. What a parameter gave is the user's name.
fn follow(node: &mut Node, names: &BTreeMap<String, String>) {
    let Content::Scalar(s) = &mut node.content else { return };
    if s.argument.is_some() {
        return;
    }
    let (head, port) = s.text.split_once('.').map_or((s.text.as_str(), None), |(h, p)| (h, Some(p)));
    if let Some(new) = names.get(head) {
        s.text = port.map_or_else(|| new.clone(), |p| format!("{new}.{p}"));
    }
}

fn mentions_name(text: &str, name: &str) -> bool {
    text.match_indices("${").any(|(i, _)| text[i + 2..].strip_prefix(name).is_some_and(|r| r.starts_with(['}', ':'])))
}

/// Names of the variables that stand in a node's texts.
fn mentions(node: &Node, out: &mut Vec<String>) {
    node.entries().iter().for_each(|e| mentions(&e.value, out));
    node.items().iter().for_each(|n| mentions(n, out));
    let text = node.text().unwrap_or_default();
    out.extend(text.match_indices("${").map(|(i, _)| text[i + 2..].split(['}', ':']).next().unwrap_or_default().to_string()));
}
