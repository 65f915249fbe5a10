//! The form of maps and lists: keys that are not known or stand elsewhere, what is written as another kind of value, names.

use super::RUN_ENV;
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::spelling::unknown_key;
use crate::yaml::{Content, Entry, Node, snake_case};
use std::borrow::Cow;
use std::collections::HashMap;

/// A map with more entries.
pub(super) fn with_entries(node: &Node, more: Vec<Entry>) -> Cow<'_, Node> {
    let mut out = Cow::Borrowed(node);
    if !more.is_empty() {
        match &mut out.to_mut().content {
            Content::Map(entries) => entries.extend(more),
            content @ Content::Null => *content = Content::Map(more),
            _ => {}
        }
    }
    out
}

/// Tells keys that are not known. Gives the node with such keys named as they were likely meant, so that their values are looked at
/// and nothing is called missing.
pub(crate) fn known_keys<'n>(report: &mut Report, node: &'n Node, known: &[&str], elsewhere: &[&str]) -> Cow<'n, Node> {
    let mut read = Cow::Borrowed(node);
    // As `Node::entry` finds them: a map may have thousands of keys.
    let (mut exact, mut snaked) = (HashMap::new(), HashMap::new());
    for e in node.entries() {
        exact.entry(e.key.as_str()).or_insert(e);
        snaked.entry(snake_case(&e.key)).or_insert(e);
    }
    for (i, e) in node.entries().iter().enumerate() {
        let name = snake_case(&e.key);
        let first = exact.get(name.as_str()).or_else(|| snaked.get(&name));
        if let Some(first) = first.filter(|f| f.key_span != e.key_span) {
            let found = Found::error("duplicate-key", e.key_span, format!("the key `{name}` stands twice in one map"));
            report.push(found.second(first.key_span, "first defined here"));
            continue;
        }
        if known.contains(&e.key.as_str()) || known.contains(&snake_case(&e.key).as_str()) {
            continue;
        }
        let mut found = unknown_key(e, known.iter().copied());
        if elsewhere.contains(&e.key.as_str()) {
            let place = match elsewhere[0] {
                "source" => "one level deeper, under `config`",
                "checkpoint" => "under `run_env`",
                _ => "one level up, beside `config`",
            };
            found = found.suggest(None).hint(format!("`{}` belongs {place}", e.key));
        }
        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
        mend(&mut read, i, &found);
        report.push(found);
    }
    read
}

/// Gives the `i`-th key of a map the name that was suggested for it, if that is free.
pub(super) fn mend(node: &mut Cow<'_, Node>, i: usize, found: &Found) {
    let Some(name) = found.suggestion.as_ref().filter(|n| node.entry(n).is_none()) else { return };
    if let Content::Map(entries) = &mut node.to_mut().content {
        entries[i].key = name.clone();
    }
}

/// What stands beside `run_env` and belongs into it was told, and is read as if it stood there.
pub(super) fn within_env(root: &Node) -> Cow<'_, Node> {
    let env = root.get("run_env");
    let stray = |e: &&Entry| RUN_ENV.contains(&&*snake_case(&e.key)) && env.is_none_or(|env| env.entry(&e.key).is_none());
    let stray: Vec<Entry> = root.entries().iter().filter(stray).cloned().collect();
    let mut read = Cow::Borrowed(root);
    if let Some(first) = stray.first() {
        let nothing = Node::null(first.key_span);
        let value = with_entries(env.unwrap_or(&nothing), stray.clone()).into_owned();
        if let Content::Map(entries) = &mut read.to_mut().content {
            match entries.iter_mut().find(|e| e.key == "run_env") {
                Some(e) => e.value = value,
                None => entries.push(Entry { key: "run_env".into(), key_span: first.key_span, value }),
            }
        }
    }
    read
}

/// `transforms` and `sink` that are written as maps of names, as lists of parts with those names: that is told, and the parts are looked at.
pub(super) fn listed<'n>(report: &mut Report, root: &'n Node) -> Cow<'n, Node> {
    let mut read = Cow::Borrowed(root);
    for (i, e) in root.entries().iter().enumerate().filter(|(_, e)| matches!(&*e.key, "transforms" | "sink")) {
        let parts = e.value.entries();
        let named = |p: &Entry| matches!(p.value.content, Content::Map(_)) && !["type", "config", "fragment", "name"].contains(&&*p.key);
        if parts.is_empty() || !parts.iter().all(named) {
            continue;
        }
        let found = Found::error("wrong-type", parts[0].key_span, format!("`{}` is a list, found a map of names", e.key));
        report.push(found.hint(format!("write each as an item: `- name: {}`, and its keys below", parts[0].key)));
        let item = |p: &Entry| {
            let name = Entry { key: "name".into(), key_span: p.key_span, value: Node::word(p.key.clone(), p.key_span) };
            let named = p.value.entry("name").is_some();
            with_entries(&p.value, if named { vec![] } else { vec![name] }).into_owned()
        };
        let list = Content::Seq(parts.iter().map(item).collect());
        if let Content::Map(entries) = &mut read.to_mut().content {
            entries[i].value.content = list;
        }
    }
    read
}

pub(super) fn map<'a>(report: &mut Report, node: &'a Node, key: &str) -> impl Iterator<Item = &'a crate::yaml::Entry> + use<'a> {
    let found = node.get(key);
    if let Some(n) = found
        && !matches!(n.content, Content::Map(_) | Content::Null | Content::Bad)
    {
        report.push(Found::error("wrong-type", first_line(report, n.span), format!("`{key}` is a map of names, found {}", n.kind())));
    }
    found.map(Node::entries).unwrap_or_default().iter()
}

pub(super) fn items<'a>(report: &mut Report, node: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
    let found = node.get(key);
    if let Some(n) = found
        && !matches!(n.content, Content::Seq(_) | Content::Null | Content::Bad)
    {
        let stuck = n.entries().first().filter(|e| e.key.strip_prefix('-').is_some_and(|k| k.starts_with(|c: char| c.is_alphabetic())));
        let found = match stuck {
            Some(e) => {
                let dash = Span { end: e.key_span.start + 1, ..e.key_span };
                let fix = vec![(Span { start: dash.end, ..dash }, " ".to_string())];
                Found::error("syntax", dash, "a space is missing behind the dash").hint("items of a list begin with `- `").fix(fix)
            }
            None => Found::error("wrong-type", first_line(report, n.span), format!("`{key}` is a list, found {}", n.kind()))
                .hint("begin each item with `- `"),
        };
        report.push(found);
        // A single item without its dash is told and looked at as if it had it.
        return if stuck.is_none() && matches!(n.content, Content::Map(_)) { std::slice::from_ref(n) } else { &[] }.iter();
    }
    found.map(Node::items).unwrap_or_default().iter()
}

pub(super) fn text(report: &mut Report, node: &Node, what: &str) -> Option<String> {
    if node.is_bad() {
        return None;
    }
    let text = node.text().map(String::from);
    if text.is_none() {
        report.push(Found::error("wrong-type", first_line(report, node.span), format!("expected {what}, found {}", node.kind())));
    }
    text
}

pub(crate) fn valid_name(report: &mut Report, name: &str, span: Span) {
    let good =
        name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if !good {
        let found = Found::error("bad-name", span, format!("`{name}` cannot be a name"));
        report.push(found.hint("a name begins with a letter and has letters, digits, `_` and `-`"));
    }
}

pub(super) fn missing(report: &mut Report, root: &Node, key: &str, what: &str) {
    if !report.sources.has_hole(root.span) {
        let span = Span { end: root.span.start, ..root.span };
        report.push(Found::error("missing-key", span, format!("the key `{key}` is missing: {what}")));
    }
}

pub(super) fn missing_at(report: &mut Report, span: Span, what: &str) {
    if !report.damaged {
        report.push(Found::error("missing-key", span, format!("{what} is missing")));
    }
}

/// The first line of a place of several lines.
pub(crate) fn first_line(report: &Report, span: Span) -> Span {
    let text = report.sources.slice(span);
    Span { end: span.start + text.lines().next().map_or(0, |l| l.trim_end().len()), ..span }
}
