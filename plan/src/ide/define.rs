//! Where a name is defined.

use super::{Document, Step, hover, names, tree, way_to, word};
use crate::yaml::{Entry, Node};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files read on the way to a definition.
const MAX_FILES: usize = 100;

/// A place in the text itself, or in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// None: the text itself. Otherwise the path and the file's text.
    pub file: Option<(PathBuf, String)>,
    pub span: Range<usize>,
}

/// Where the name under the cursor is defined: streams and parts that are read, fragments, stores, anchors, fields, included files.
pub fn definition(doc: &Document, at: usize) -> Option<Target> {
    let here = |span: crate::source::Span| Target { file: None, span: span.start..span.end };
    let name = word(doc.text, at, "-");
    let said = &doc.text[name.clone()];
    if doc.text[..name.start].ends_with('*') {
        let mark = format!("&{said}");
        let start = doc
            .text
            .match_indices(&mark)
            .map(|(i, _)| i)
            .find(|i| !doc.text[i + mark.len()..].starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c)))?;
        return Some(Target { file: None, span: start..start + mark.len() });
    }
    let root = tree(doc.name, doc.text);
    let way = way_to(&root, at);
    if way.on_key {
        return names::defined(&root, &way);
    }
    // A parameter within a fragment.
    if let [Step::Key(top), Step::Key(fragment), ..] = &way.steps[..]
        && top == "fragments"
        && doc.text[..name.start].ends_with("${")
    {
        let e = root.get("fragments")?.entry(fragment)?.value.get("parameters")?.entry(said)?;
        return Some(here(e.key_span));
    }
    let key = way.key();
    let keys = way.keys();
    match key {
        "input" | "left" | "right" | "retry" => {
            let text = way.last().text()?;
            output(&root, text).map(here)
        }
        "fragment" => find_fragment(doc, &root, way.last().text()?),
        "include" => {
            let path = doc.dir.join(way.last().text()?);
            let text = std::fs::read_to_string(&path).ok()?;
            Some(Target { file: Some((path, text)), span: 0..0 })
        }
        "fallback" | "store" => {
            let text = way.last().text()?;
            root.get("stores").map(Node::entries).unwrap_or_default().iter().find(|e| e.key == text).map(|e| here(e.key_span))
        }
        _ if keys.contains(&"config") => field(&root, said, name.start).map(here),
        _ => None,
    }
}

/// What a stream, a part or one of its ports is called by: its name where it is written.
pub(super) fn output(root: &Node, text: &str) -> Option<crate::source::Span> {
    let head = text.split('.').next().unwrap_or_default();
    let stream = root.get("streams").map(Node::entries).unwrap_or_default().iter().find(|e| e.key == head).map(|e| e.key_span);
    let parts = || ["transforms", "sink"].iter().flat_map(|k| root.get(k).map(Node::items).unwrap_or_default());
    let part = || parts().filter_map(|n| n.get("name")).find(|n| n.text() == Some(head)).map(|n| n.span);
    // The parts of a use of a fragment: the use.
    let used = || {
        let names = parts().filter_map(|n| n.get("name").filter(|_| n.get("fragment").is_some()));
        names.into_iter().find(|n| n.text().is_some_and(|t| head.starts_with(&format!("{t}-")))).map(|n| n.span)
    };
    stream.or_else(part).or_else(used)
}

/// A fragment of this text.
pub(super) fn fragment<'n>(root: &'n Node, name: &str) -> Option<&'n Entry> {
    root.get("fragments")?.entry(name)
}

/// The part that makes a field: the last key of its name among declared fields before a place.
fn field(root: &Node, name: &str, before: usize) -> Option<crate::source::Span> {
    let mut best = None;
    collect(root, &mut |key: &str, e: &Entry| {
        let makes = ["fields", "set", "aggregates", "right_fields", "row"].contains(&key);
        if makes && e.key == name && e.key_span.start < before && best.is_none_or(|b: crate::source::Span| b.start < e.key_span.start) {
            best = Some(e.key_span);
        }
    });
    best
}

fn collect(node: &Node, f: &mut impl FnMut(&str, &Entry)) {
    for e in node.entries() {
        e.value.entries().iter().for_each(|inner| f(&e.key, inner));
        collect(&e.value, f);
    }
    node.items().iter().for_each(|n| collect(n, f));
}

fn find_fragment(doc: &Document, root: &Node, name: &str) -> Option<Target> {
    let of = |root: &Node| root.get("fragments")?.entries().iter().find(|e| e.key == name).map(|e| e.key_span.start..e.key_span.end);
    if let Some(span) = of(root) {
        return Some(Target { file: None, span });
    }
    included(doc.dir, root).into_iter().find_map(|(path, text, root)| of(&root).map(|span| Target { file: Some((path, text)), span }))
}

/// Names of all fragments that can be used, with what they say of themselves.
pub(super) fn fragments(doc: &Document, root: &Node) -> Vec<(String, String)> {
    let of = |root: &Node| -> Vec<(String, String)> {
        let all = root.get("fragments").map(Node::entries).unwrap_or_default();
        all.iter().map(|e| (e.key.clone(), hover::of_fragment(&e.value))).collect()
    };
    let mut all = of(root);
    all.extend(included(doc.dir, root).iter().flat_map(|(_, _, root)| of(root)));
    all
}

/// The files that a topology includes, and those that they do.
fn included(dir: &Path, root: &Node) -> Vec<(PathBuf, String, Node)> {
    let mut out: Vec<(PathBuf, String, Node)> = vec![];
    let mut waiting: Vec<PathBuf> = paths(dir, root);
    while let Some(path) = waiting.pop() {
        if out.len() >= MAX_FILES || out.iter().any(|(p, ..)| *p == path) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let root = tree(&path.display().to_string(), &text);
        waiting.extend(paths(path.parent().unwrap_or(dir), &root));
        out.push((path, text, root));
    }
    out
}

fn paths(dir: &Path, root: &Node) -> Vec<PathBuf> {
    let Some(n) = root.get("include") else { return vec![] };
    n.text().into_iter().chain(n.items().iter().filter_map(Node::text)).map(|t| dir.join(t)).collect()
}
