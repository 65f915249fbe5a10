//! Completion. A mark is put where the cursor stands, the text is mended and read, and what can stand at the mark is what the schema says there.

use super::{Document, Step, Way, names, outputs, schema, tree, word};
use crate::load::{Options, load_text};
use crate::yaml::{Content, Node};
use millrace_sdk::{Kind as PartKind, Part};
use std::ops::Range;

/// What stands for the cursor while the text is read.
const MARK: &str = "qzcursorqz";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Key,
    Part,
    Value,
    Field,
    Name,
    Function,
    Helper,
}

#[derive(Clone, Debug)]
pub struct Completion {
    pub label: String,
    pub kind: Kind,
    pub detail: String,
    /// Markdown.
    pub about: String,
    pub insert: String,
    /// The bytes of the text that it takes the place of.
    pub replace: Range<usize>,
}

/// What can stand at a place of a text.
pub fn complete(doc: &Document, at: usize) -> Vec<Completion> {
    let line_start = doc.text[..at].rfind('\n').map_or(0, |i| i + 1);
    if doc.text[line_start..at].trim_start().starts_with('#') {
        return vec![];
    }
    let dotted = word(doc.text, at, "-.");
    let plain = word(doc.text, at, "");
    let quoted = inside_quotes(&doc.text[line_start..at]);
    // As a key first: in a list of maps and in a map a word that stands alone is the beginning of one. A quoted text may have no end yet.
    let closing = quoted.map(|quote| {
        let line = &doc.text[line_start..at];
        let braces = if line.matches("{{").count() > line.matches("}}").count() { "}}" } else { "" };
        format!("{braces}{quote}")
    });
    for (as_key, close) in [(true, None), (false, None), (false, closing)] {
        if as_key && (quoted.is_some() || !may_be_key(&doc.text[line_start..dotted.start])) {
            continue;
        }
        let mark = if as_key { format!("{MARK}: ") } else { format!("{MARK}{}", close.unwrap_or_default()) };
        let marked = format!("{}{mark}{}", &doc.text[..dotted.start], &doc.text[dotted.end..]);
        let root = tree(doc.name, &marked);
        let Some(way) = find(&root) else { continue };
        let found = if way.on_key { keys(&root, &way, &dotted) } else { values(doc, &root, &way, &plain, &dotted) };
        if !found.is_empty() || !as_key {
            return found;
        }
    }
    vec![]
}

/// The quote that is open at the end of this start of a line.
fn inside_quotes(line: &str) -> Option<char> {
    let mut quote = None;
    for c in line.chars() {
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(q) if q == c => quote = None,
            _ => {}
        }
    }
    quote
}

/// Whether a key can begin behind this start of a line.
fn may_be_key(line: &str) -> bool {
    let t = line.trim_end_matches(' ');
    t.is_empty() || t.ends_with(['{', ',', '[']) || t.trim_start().trim_start_matches("- ").trim_matches(['-', ' ']).is_empty()
}

/// The way to the mark.
fn find(root: &Node) -> Option<Way<'_>> {
    let mut way = Way { nodes: vec![root], steps: vec![], on_key: false, span: 0..0 };
    search(&mut way).then_some(way)
}

fn search(way: &mut Way) -> bool {
    let node = way.last();
    match &node.content {
        Content::Map(entries) => {
            for e in entries {
                way.steps.push(Step::Key(e.key.clone()));
                way.nodes.push(&e.value);
                if e.key.contains(MARK) {
                    way.on_key = true;
                    return true;
                }
                if search(way) {
                    return true;
                }
                way.steps.pop();
                way.nodes.pop();
            }
            false
        }
        Content::Seq(items) => {
            for (i, n) in items.iter().enumerate() {
                way.steps.push(Step::Item(i));
                way.nodes.push(n);
                if search(way) {
                    return true;
                }
                way.steps.pop();
                way.nodes.pop();
            }
            false
        }
        Content::Scalar(s) => s.text.contains(MARK),
        _ => false,
    }
}

fn keys(root: &Node, way: &Way, replace: &Range<usize>) -> Vec<Completion> {
    let length = way.steps.len() - 1;
    let map = way.nodes[length];
    let mut found = schema::keys(&schema::at(way, length));
    // A use of a fragment where nothing says yet what it is.
    let parts = ["source", "operates", "transforms", "sink", "stores", "streams", "store"];
    let open = map.get("type").is_none() && way.steps[..length].iter().rev().find_map(key).is_some_and(|k| parts.contains(&k));
    let single = matches!(way.steps[..length], [.., Step::Key(ref k), Step::Key(_)] if k == "streams" || k == "stores");
    if open || single {
        found.extend(schema::keys(&[&FRAGMENT]));
    }
    let named = names::complete(root, way, replace);
    found
        .into_iter()
        .filter(|(k, _)| map.entry(k).is_none())
        .map(|(k, v)| {
            let mut said = vec![];
            said.push(v);
            let about = schema::about(&said).unwrap_or_default();
            Completion {
                label: k.to_string(),
                kind: Kind::Key,
                detail: String::new(),
                about: about.to_string(),
                insert: format!("{k}: "),
                replace: replace.clone(),
            }
        })
        .chain(named)
        .collect()
}

static FRAGMENT: std::sync::LazyLock<serde_json::Value> = std::sync::LazyLock::new(
    || serde_json::json!({"properties": {"fragment": {"description": "A fragment whose parts stand here."}, "with": {"description": "Values of the fragment's parameters."}}}),
);

fn key(s: &Step) -> Option<&str> {
    match s {
        Step::Key(k) => Some(k),
        Step::Item(_) => None,
    }
}

fn values(doc: &Document, root: &Node, way: &Way, plain: &Range<usize>, dotted: &Range<usize>) -> Vec<Completion> {
    let item = |label: String, kind: Kind, detail: &str, about: String, replace: &Range<usize>| Completion {
        insert: label.clone(),
        label,
        kind,
        detail: detail.into(),
        about,
        replace: replace.clone(),
    };
    let schemas = schema::at(way, way.steps.len());
    let wiring = |outputs: Vec<String>| outputs.into_iter().map(|n| item(n, Kind::Name, "", String::new(), dotted)).collect();
    let in_config = way.keys().contains(&"config") && way.keys().first() != Some(&"streams")
        || way.keys().iter().filter(|k| **k == "config").count() > 1;
    match way.key() {
        "input" | "left" | "right" if !in_config => return wiring(outputs(root)),
        "retry" if !in_config => {
            let retries = root.get("streams").map(Node::entries).unwrap_or_default().iter();
            let retries = retries.filter(|e| e.value.get("config").and_then(|c| c.get("role")).is_some());
            return wiring(retries.map(|e| e.key.clone()).collect());
        }
        "fragment" => {
            let all = super::define::fragments(doc, root);
            return all.into_iter().map(|(name, about)| item(name, Kind::Name, "fragment", about, dotted)).collect();
        }
        "type" if !in_config || way.keys().contains(&"dead_letter") => {
            let kind = match way
                .keys()
                .iter()
                .rev()
                .find(|k| ["source", "operates", "transforms", "sink", "stores", "dead_letter", "store"].contains(k))
            {
                Some(&"source") => Some(PartKind::Source),
                Some(&"operates" | &"transforms") => Some(PartKind::Operator),
                Some(&"sink" | &"dead_letter") => Some(PartKind::Sink),
                Some(&"stores" | &"store") => Some(PartKind::Store),
                _ => None,
            };
            if let Some(kind) = kind {
                let parts = Part::all().into_iter().filter(|p| p.kind() == kind);
                return parts.map(|p| item(p.name.into(), Kind::Part, kind.name(), crate::reference::lead(p), dotted)).collect();
            }
        }
        "fallback" | "store" if in_config => {
            let stores = root.get("stores").map(Node::entries).unwrap_or_default();
            return stores.iter().map(|e| item(e.key.clone(), Kind::Name, "store", String::new(), dotted)).collect();
        }
        _ => {}
    }
    if doc.text[..plain.start].ends_with("%{")
        && let Some(config) = way.nodes.iter().rev().find(|n| n.get("format").and_then(Node::text) == Some("grok"))
    {
        let own = config.get("patterns").map(Node::entries).unwrap_or_default().iter();
        let own = own.map(|e| item(e.key.clone(), Kind::Name, "pattern", e.value.text().unwrap_or_default().into(), plain));
        let known = grok::patterns().iter().map(|(name, about)| item(name.to_string(), Kind::Name, "pattern", format!("`{about}`"), plain));
        return own.chain(known).collect();
    }
    let mut out: Vec<Completion> =
        schema::words(&schemas).into_iter().map(|(w, d)| item(w, Kind::Value, "", d.to_string(), dotted)).collect();
    let fields = || fields(doc, root, way).into_iter().map(|(n, t)| item(n, Kind::Field, &t, String::new(), plain)).collect::<Vec<_>>();
    if way.key() == "format" && ["watermark", "right_time"].iter().any(|k| way.keys().contains(k)) {
        out.extend(["epoch_ms", "epoch_s", "iso8601"].map(|f| item(f.into(), Kind::Value, "", String::new(), dotted)));
    }
    match schema::format(&schemas) {
        Some("expr") => {
            out.extend(fields());
            out.extend(
                functions().map(|f| item(f.name.into(), Kind::Function, f.signature, format!("{}\n\n`{}`", f.doc, f.example), plain)),
            );
        }
        Some("template") => {
            out.extend(fields());
            let all = millrace_expr::template::helpers().into_iter();
            out.extend(all.map(|h| item(h.name.into(), Kind::Helper, h.signature, h.doc.into(), plain)));
        }
        Some("field") => out.extend(fields()),
        Some("type") => {
            out.extend(millrace_sdk::Type::NAMES.iter().map(|t| item(t.to_string(), Kind::Value, "type", String::new(), plain)))
        }
        _ => {}
    }
    out
}

fn functions() -> impl Iterator<Item = &'static millrace_expr::FunctionDef> {
    millrace_expr::functions().into_iter()
}

/// Fields of the rows that come to the part at a place, with their types as far as they are known.
fn fields(doc: &Document, root: &Node, way: &Way) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = vec![];
    // Of a stream that is being written: what its parts before this one declare.
    if let [Step::Key(top), Step::Key(stream), ..] = &way.steps[..]
        && top == "streams"
    {
        let operates = root.get("streams").and_then(|s| s.get(stream)).and_then(|s| s.get("config")).and_then(|c| c.get("operates"));
        let before = way.steps.iter().skip_while(|s| key(s) != Some("operates")).find_map(|s| match s {
            Step::Item(i) => Some(*i),
            Step::Key(_) => None,
        });
        for part in operates.map(Node::items).unwrap_or_default().iter().take(before.unwrap_or(usize::MAX)) {
            let config = part.get("config");
            for key in ["fields", "set"] {
                let listed = config.and_then(|c| c.get(key));
                for e in listed.map(Node::entries).unwrap_or_default() {
                    add(&mut out, &e.key, e.value.text().unwrap_or_default());
                }
            }
        }
        if !out.is_empty() {
            return out;
        }
    }
    let picture = load_text(doc.name, doc.text, doc.dir, &Options { clock: doc.options.clock.clone(), ..doc.options.clone() }).graph;
    let list = |key: &str| root.get(key).map(Node::items).unwrap_or_default();
    let (section, index) = match &way.steps[..] {
        [Step::Key(s), Step::Item(i), ..] => (s.as_str(), *i),
        _ => ("", 0),
    };
    let part = list(section).get(index);
    let named = |n: &Node| n.text().map(|t| t.split('.').next().unwrap_or_default().to_string());
    let mut inputs: Vec<String> = vec![];
    for n in ["input", "left", "right"].iter().filter_map(|k| part?.get(k)) {
        inputs.extend(named(n));
        inputs.extend(n.items().iter().filter_map(named));
    }
    if inputs.is_empty() {
        let before = if section == "transforms" { index.checked_sub(1) } else { list("transforms").len().checked_sub(1) };
        let name = before.and_then(|i| list("transforms")[i].get("name")).and_then(Node::text).map(String::from);
        inputs.extend(name);
    }
    let known = |p: &&crate::graph::Part| inputs.is_empty() || inputs.contains(&p.name);
    let mut chosen: Vec<&crate::graph::Part> = picture.parts.iter().filter(known).filter(|p| !p.fields.is_empty()).collect();
    if chosen.is_empty() {
        chosen = picture.parts.iter().collect();
    }
    for f in chosen.iter().flat_map(|p| &p.fields) {
        let (name, ty) = f.split_once(": ").unwrap_or((f, ""));
        add(&mut out, name, ty);
    }
    out
}

fn add(out: &mut Vec<(String, String)>, name: &str, ty: &str) {
    if !name.contains(MARK) && !out.iter().any(|(n, _)| n == name) {
        out.push((name.to_string(), ty.to_string()));
    }
}
