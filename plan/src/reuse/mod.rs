//! `include`, `fragments` and `defaults`: what a topology takes from elsewhere is put into its tree before anything is checked, so that it is
//! checked like what stands there itself. Places keep both sides: where a fragment is written, and where it is used ([`Sources::view`]).
//!
//! [`Sources::view`]: crate::source::Sources::view

mod defaults;
mod fragments;
mod include;
mod parameters;

use crate::check::list;
use crate::diagnostic::{Found, Report};
use crate::load::Options;
use crate::source::Span;
use crate::spelling::unknown_key;
use crate::topology::first_line;
use crate::vars::Vars;
use crate::yaml::{self, Content, Entry, Node, snake_case};
use std::path::Path;

pub(crate) use parameters::TYPES;

/// Makes a topology's tree whole and replaces its variables. `name` is the topology's file.
pub(crate) fn expand(report: &mut Report, root: &mut Node, vars: &mut Vars, name: &Path, options: &Options) {
    if !matches!(root.content, Content::Map(_)) {
        yaml::fill(report, root, vars);
        return;
    }
    let mut all = include::Gathered::default();
    all.complete = !report.damaged && !misspelt(root);
    include::run(report, root, vars, name, &options.include_from, &mut all);
    all.take(root);
    yaml::fill(report, root, vars);
    let complete = all.complete && !report.damaged;
    fragments::run(report, root, vars, all.fragments, complete);
    defaults::run(report, root, vars, all.defaults, complete);
}

/// Whether a file is there to be included: it has fragments or defaults, and no job.
pub(crate) fn is_library(root: &Node) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|k| root.entry(k).is_some());
    has(&["fragments", "defaults"]) && !has(&["streams", "transforms", "sink"])
}

/// A key at the top that may be a slip of the pen for one of those that are taken here.
fn misspelt(root: &Node) -> bool {
    let ours = ["include", "fragments", "defaults"];
    root.entries().iter().any(|e| !ours.contains(&&*e.key) && millrace_sdk::problem::did_you_mean(&e.key, ours).is_some())
}

fn entries_mut(node: &mut Node) -> Option<&mut Vec<Entry>> {
    match &mut node.content {
        Content::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The value of a key, in either spelling.
fn child<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    entries_mut(node)?.iter_mut().find(|e| e.key == key || snake_case(&e.key) == key).map(|e| &mut e.value)
}

/// Takes a key out of a map.
fn take(node: &mut Node, key: &str) -> Option<Entry> {
    let entries = entries_mut(node)?;
    let at = entries.iter().position(|e| e.key == key || snake_case(&e.key) == key)?;
    Some(entries.remove(at))
}

/// Sets a key, whether or not it was there.
fn put(node: &mut Node, key: &str, key_span: Span, value: Node) {
    let Some(entries) = entries_mut(node) else { return };
    match entries.iter_mut().find(|e| e.key == key) {
        Some(e) => e.value = value,
        None => entries.push(Entry { key: key.into(), key_span, value }),
    }
}

/// All places of a text, in another view of it.
fn remap(node: &mut Node, from: u32, to: u32) {
    let turn = |span: &mut Span| {
        if span.src == from {
            span.src = to;
        }
    };
    turn(&mut node.span);
    match &mut node.content {
        Content::Map(entries) => entries.iter_mut().for_each(|e| {
            turn(&mut e.key_span);
            remap(&mut e.value, from, to);
        }),
        Content::Seq(items) => items.iter_mut().for_each(|n| remap(n, from, to)),
        _ => {}
    }
}

/// Tells keys of a map that are none of these; gives those that were likely meant.
fn only(report: &mut Report, node: &Node, known: &[&str]) -> Vec<String> {
    let mut meant = vec![];
    for e in node.entries().iter().filter(|e| !known.contains(&&*e.key)) {
        let mut found = unknown_key(e, known.iter().copied());
        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
        meant.extend(found.suggestion.clone());
        report.push(found);
    }
    meant
}

/// Tells that a value is no map; true if it is one, or nothing.
fn is_map(report: &mut Report, node: &Node, what: &str) -> bool {
    match node.content {
        Content::Map(_) | Content::Null => true,
        Content::Bad => false,
        _ => {
            report.push(Found::error("wrong-type", first_line(report, node.span), format!("{what} is a map, found {}", node.kind())));
            false
        }
    }
}

fn names_hint<S: AsRef<str>>(found: Found, what: &str, names: &[S]) -> Found {
    if names.is_empty() { found.hint("there are none here") } else { found.hint(format!("{what} are {}", list(names))) }
}
