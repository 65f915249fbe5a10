//! Names of the topology's own that stand as keys: parameters in `with`; streams, stores and outputs in tests.

use super::complete::{Completion, Kind};
use super::{Step, Way, define, hover, outputs};
use crate::cases::DEAD_LETTER;
use crate::yaml::Node;
use std::ops::Range;

/// What can be a key at a place whose last step is the key that is being written.
pub(super) fn complete(root: &Node, way: &Way, replace: &Range<usize>) -> Vec<Completion> {
    let length = way.steps.len() - 1;
    let map = way.nodes[length];
    let keys: Vec<&str> = way.steps[..length].iter().filter_map(key).collect();
    let names: Vec<(String, String)> = match keys[..] {
        [.., "with"] => {
            let used = way.nodes[length - 1].get("fragment").and_then(Node::text).unwrap_or_default();
            define::fragment(root, used).map(|e| hover::parameters(&e.value)).unwrap_or_default()
        }
        ["tests", "input"] | ["tests", "steps", "input"] => bare(streams(root)),
        ["tests", "stores"] => bare(root.get("stores").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone()).collect()),
        ["tests", "expect"] | ["tests", "steps", "expect"] => {
            let sinks = root.get("sink").map(Node::items).unwrap_or_default();
            let named = sinks.iter().filter_map(|n| n.get("name")?.text().map(String::from));
            bare(named.chain([DEAD_LETTER.to_string()]).chain(outputs(root)).collect())
        }
        _ => vec![],
    };
    let free = names.into_iter().filter(|(n, _)| map.entry(n).is_none());
    free.map(|(label, about)| Completion {
        insert: format!("{label}: "),
        label,
        kind: Kind::Name,
        detail: String::new(),
        about,
        replace: replace.clone(),
    })
    .collect()
}

/// Where a name that stands as a key is defined; None: it is no such name.
pub(super) fn defined(root: &Node, way: &Way) -> Option<define::Target> {
    let length = way.steps.len() - 1;
    let name = way.key();
    let keys: Vec<&str> = way.steps[..length].iter().filter_map(key).collect();
    let under = |top: &str| root.get(top)?.entries().iter().find(|e| e.key == name).map(|e| e.key_span);
    let span = match keys[..] {
        [.., "with"] => {
            let used = way.nodes[length - 1].get("fragment").and_then(Node::text)?;
            define::fragment(root, used)?.value.get("parameters")?.entry(name)?.key_span
        }
        ["tests", "input"] | ["tests", "steps", "input"] => under("streams")?,
        ["tests", "stores"] => under("stores")?,
        ["tests", "expect"] | ["tests", "steps", "expect"] => define::output(root, name)?,
        _ => return None,
    };
    Some(define::Target { file: None, span: span.start..span.end })
}

fn streams(root: &Node) -> Vec<String> {
    root.get("streams").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone()).collect()
}

fn bare(names: Vec<String>) -> Vec<(String, String)> {
    names.into_iter().map(|n| (n, String::new())).collect()
}

fn key(s: &Step) -> Option<&str> {
    match s {
        Step::Key(k) => Some(k),
        Step::Item(_) => None,
    }
}
