//! `defaults`: config that all parts of a type have unless they say otherwise.

use super::{child, entries_mut, is_map, put, remap};
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::spelling::unknown_key;
use crate::topology::{WATERMARK, schema_of};
use crate::vars::Vars;
use crate::yaml::{self, Content, Entry, Node, snake_case};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Kind, Part};

const KINDS: [(&str, Kind); 4] = [("source", Kind::Source), ("transforms", Kind::Operator), ("sink", Kind::Sink), ("stores", Kind::Store)];

/// Config for the parts of a type, or for watermarks (no kinds).
struct Default {
    kinds: Vec<Kind>,
    /// The part's first name.
    part: &'static str,
    span: Span,
    entries: Vec<Entry>,
    used: bool,
}

/// Adds defaults to the configs of all parts. Of several for one key the first counts: by kind and type, then by type; the topology's own
/// before included ones.
pub(super) fn run(report: &mut Report, root: &mut Node, vars: &mut Vars, files: Vec<Node>, complete: bool) {
    let mut all: Vec<Default> = vec![];
    for mut node in files {
        if is_map(report, &node, "`defaults`") {
            yaml::fill(report, &mut node, vars);
            read(report, node, &mut all);
        }
    }
    if all.is_empty() {
        return;
    }
    let mut add = |node: &mut Node, kind: Kind| part(report, node, kind, &mut all);
    for e in child(root, "stores").and_then(entries_mut).into_iter().flatten() {
        add(&mut e.value, Kind::Store);
    }
    for e in child(root, "streams").and_then(entries_mut).into_iter().flatten() {
        items(&mut e.value, "sink", |n| add(n, Kind::Sink));
        let Some(config) = child(&mut e.value, "config") else { continue };
        child(config, "source").into_iter().for_each(|n| add(n, Kind::Source));
        items(config, "operates", |n| add(n, Kind::Operator));
        items(config, "sink", |n| add(n, Kind::Sink));
    }
    items(root, "transforms", |n| add(n, Kind::Operator));
    items(root, "sink", |n| add(n, Kind::Sink));
    child(root, "run_env").and_then(|e| child(e, "dead_letter")).into_iter().for_each(|n| add(n, Kind::Sink));
    for e in child(root, "streams").and_then(entries_mut).into_iter().flatten() {
        let Some(n) = child(&mut e.value, "config").and_then(|c| child(c, "watermark")) else { continue };
        let at = n.span;
        all.iter_mut().filter(|d| d.kinds.is_empty()).for_each(|d| extend(report, n, d, at, None));
    }
    for d in all.iter().filter(|d| !d.used && complete && d.span.src == 0) {
        let found = Found::warning("unused-default", d.span, "no part has these defaults");
        report.push(found.hint("take them out, or correct the type"));
    }
}

fn items(node: &mut Node, key: &str, f: impl FnMut(&mut Node)) {
    if let Some(Content::Seq(items)) = child(node, key).map(|n| &mut n.content) {
        items.iter_mut().for_each(f);
    }
}

fn read(report: &mut Report, node: Node, all: &mut Vec<Default>) {
    let Content::Map(sections) = node.content else { return };
    let mut general = vec![];
    for e in sections {
        if !is_map(report, &e.value, &format!("`{}` in `defaults`", e.key)) {
            continue;
        }
        let Content::Map(entries) = e.value.content else { continue };
        if e.key == "watermark" {
            let known = known(report, entries, WATERMARK);
            general.push(Default { kinds: vec![], part: "", span: e.key_span, entries: known, used: false });
        } else if let Some((_, kind)) = KINDS.iter().find(|(k, _)| *k == e.key) {
            for t in entries {
                if is_map(report, &t.value, &format!("`{}` in `defaults`", t.key))
                    && let Content::Map(entries) = t.value.content
                {
                    all.extend(typed(report, &t.key, t.key_span, entries, &[*kind]));
                }
            }
        } else {
            general.extend(typed(report, &e.key, e.key_span, entries, &KINDS.map(|(_, k)| k)));
        }
    }
    all.append(&mut general);
}

/// Defaults of one type; a key that no part of the type has is told.
fn typed(report: &mut Report, name: &str, span: Span, entries: Vec<Entry>, kinds: &[Kind]) -> Option<Default> {
    let parts: Vec<&'static Part> = kinds.iter().filter_map(|k| Part::find(*k, name)).collect();
    let Some(first) = parts.first() else {
        let names: Vec<&str> = Part::all()
            .into_iter()
            .filter(|p| kinds.contains(&p.kind()))
            .flat_map(|p| std::iter::once(p.name).chain(p.aliases.iter().copied()))
            .chain(KINDS.iter().map(|(k, _)| *k).filter(|_| kinds.len() > 1))
            .collect();
        let what = KINDS.iter().find(|(_, k)| *kinds == [*k]).map_or("part".to_string(), |(_, k)| format!("{k:?}").to_lowercase());
        let found = Found::error("unknown-part", span, format!("no {what} is called `{name}`"))
            .sure(name, names.iter().copied())
            .suggest(did_you_mean(name, names.iter().copied()));
        let meant = found.suggestion.clone().filter(|n| found.sure && kinds.iter().any(|k| Part::find(*k, n).is_some()));
        report.push(found.hint("defaults stand under the type of their parts, or under `watermark`; `millrace list` names all types"));
        // Read as what was surely meant.
        return typed(report, &meant?, span, entries, kinds);
    };
    let keys: Vec<&str> = parts.iter().flat_map(|p| properties(p)).collect();
    let known = known(report, entries, &keys);
    Some(Default { kinds: parts.iter().map(|p| p.kind()).collect(), part: first.name, span, entries: known, used: false })
}

/// Tells keys that are not known. Gives the others, and those under the names that were likely meant.
fn known(report: &mut Report, entries: Vec<Entry>, keys: &[&str]) -> Vec<Entry> {
    let is = |key: &str| keys.contains(&key) || keys.contains(&&*snake_case(key));
    let (mut known, unknown): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|e| is(&e.key));
    for e in unknown {
        let found = unknown_key(&e, keys.iter().copied());
        if let Some(key) = found.suggestion.clone().filter(|s| known.iter().all(|k| snake_case(&k.key) != *s)) {
            known.push(Entry { key, ..e });
        }
        report.push(found);
    }
    known
}

fn properties(part: &'static Part) -> impl Iterator<Item = &'static str> {
    schema_of(part).get("properties").and_then(|p| p.as_object()).into_iter().flat_map(|p| p.keys().map(String::as_str))
}

fn part(report: &mut Report, node: &mut Node, kind: Kind, all: &mut [Default]) {
    let Some((name, span)) = node.get("type").and_then(|n| Some((n.text()?.to_string(), n.span))) else { return };
    let Some(part) = Part::find(kind, &name) else { return };
    for d in all.iter_mut().filter(|d| d.kinds.contains(&kind) && d.part == part.name) {
        if child(node, "config").is_none() {
            put(node, "config", span, Node::null(span));
        }
        if let Some(config) = child(node, "config") {
            let keys: Vec<&str> = properties(part).collect();
            extend(report, config, d, span, Some(&keys));
        }
    }
}

/// Adds what a map does not say itself. `keys`: those that it may have.
fn extend(report: &mut Report, node: &mut Node, d: &mut Default, used: Span, keys: Option<&[&str]>) {
    d.used = true;
    if matches!(node.content, Content::Null) {
        node.content = Content::Map(vec![]);
    }
    let Some(own) = entries_mut(node) else { return };
    let mut view = None;
    for e in &d.entries {
        let name = snake_case(&e.key);
        if own.iter().any(|o| snake_case(&o.key) == name) || keys.is_some_and(|k| !k.contains(&&*name)) {
            continue;
        }
        let view = *view.get_or_insert_with(|| report.sources.view(e.key_span.src, used));
        let mut added = e.clone();
        remap(&mut added.value, e.key_span.src, view);
        added.key_span.src = view;
        own.push(added);
    }
}
