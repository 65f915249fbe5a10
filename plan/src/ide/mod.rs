//! What an editor asks while a topology is being written: completion, pages of what stands under the cursor, where names are defined. Texts are
//! read as lint reads them, so half-written ones are mended first.

mod complete;
mod define;
mod hover;
mod names;
mod schema;

use crate::diagnostic::Report;
use crate::load::Options;
use crate::yaml::{self, Content, Node};
use std::ops::Range;
use std::path::Path;

pub use complete::{Completion, Kind, complete};
pub use define::{Target, definition};
pub use hover::hover;

/// A text in an editor.
pub struct Document<'a> {
    /// The file's path, as diagnostics name it.
    pub name: &'a str,
    pub text: &'a str,
    /// Where relative paths begin.
    pub dir: &'a Path,
    pub options: &'a Options,
}

/// A step from a node to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Item(usize),
}

/// The way from the root to a place: the nodes on it and the steps between them, and whether the place is the last step's key itself.
pub(crate) struct Way<'n> {
    pub nodes: Vec<&'n Node>,
    pub steps: Vec<Step>,
    pub on_key: bool,
    /// Of the key or the value at the place.
    pub span: Range<usize>,
}

impl<'n> Way<'n> {
    pub fn last(&self) -> &'n Node {
        self.nodes[self.nodes.len() - 1]
    }

    /// The names of the steps, items of lists left out.
    pub fn keys(&self) -> Vec<&str> {
        let key = |s: &'_ Step| matches!(s, Step::Key(_));
        self.steps.iter().filter(|s| key(s)).map(|s| if let Step::Key(k) = s { k.as_str() } else { "" }).collect()
    }

    /// The last key on the way.
    pub fn key(&self) -> &str {
        self.keys().last().copied().unwrap_or_default()
    }
}

fn tree(name: &str, text: &str) -> Node {
    let mut report = Report::default();
    let src = report.sources.add(name, text);
    yaml::compose(&mut report, src)
}

/// The way to what stands at a place.
pub(crate) fn way_to<'n>(root: &'n Node, at: usize) -> Way<'n> {
    let mut way = Way { nodes: vec![root], steps: vec![], on_key: false, span: at..at };
    loop {
        let node = way.last();
        match &node.content {
            Content::Map(entries) => {
                if let Some(e) = entries.iter().find(|e| e.key_span.start <= at && at <= e.key_span.end) {
                    way.steps.push(Step::Key(e.key.clone()));
                    way.nodes.push(&e.value);
                    way.on_key = true;
                    way.span = e.key_span.start..e.key_span.end;
                    return way;
                }
                let Some(e) = entries.iter().find(|e| holds(&e.value, at)) else { return way };
                way.steps.push(Step::Key(e.key.clone()));
                way.nodes.push(&e.value);
            }
            Content::Seq(items) => {
                let Some(i) = items.iter().position(|n| holds(n, at)) else { return way };
                way.steps.push(Step::Item(i));
                way.nodes.push(&items[i]);
            }
            _ => {
                way.span = node.span.start..node.span.end;
                return way;
            }
        }
    }
}

fn holds(node: &Node, at: usize) -> bool {
    node.span.start <= at && at <= node.span.end
}

/// The word around a place: letters, digits, `_`, and `-` and `.` where they are asked for.
pub(crate) fn word(text: &str, at: usize, more: &str) -> Range<usize> {
    let part = |c: &char| c.is_alphanumeric() || *c == '_' || more.contains(*c);
    let before: usize = text[..at].chars().rev().take_while(part).map(char::len_utf8).sum();
    let after: usize = text[at..].chars().take_while(part).map(char::len_utf8).sum();
    at - before..at + after
}

/// Names that rows can be read from: streams, transforms and their ports.
pub(crate) fn outputs(root: &Node) -> Vec<String> {
    let mut all: Vec<String> = root.get("streams").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone()).collect();
    for n in root.get("transforms").map(Node::items).unwrap_or_default() {
        let Some(name) = n.get("name").and_then(Node::text) else { continue };
        all.push(name.to_string());
        for p in n.get("config").and_then(|c| c.get("ports")).map(Node::entries).unwrap_or_default() {
            all.push(format!("{name}.{}", p.key));
        }
        match n.get("type").and_then(Node::text) {
            Some("SplitStream") => all.push(format!("{name}.rest")),
            Some("IntervalLeftJoin") => all.extend(["unmatched", "late"].map(|p| format!("{name}.{p}"))),
            Some("Requeue") => all.extend(["again", "given_up"].map(|p| format!("{name}.{p}"))),
            _ => {}
        }
        all.push(format!("{name}.errors"));
    }
    all
}
