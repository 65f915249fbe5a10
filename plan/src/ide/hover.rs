//! The page of what stands under the cursor.

use super::{Document, Way, schema, tree, way_to, word};
use crate::ids;
use crate::load::load_text;
use crate::reference::{explain, explain_section};
use crate::yaml::Node;
use millrace_sdk::{Kind, Part};
use std::ops::Range;

/// Markdown, and the bytes that it is about.
pub fn hover(doc: &Document, at: usize) -> Option<(String, Range<usize>)> {
    let line_start = doc.text[..at].rfind('\n').map_or(0, |i| i + 1);
    let line = doc.text[line_start..].lines().next().unwrap_or_default();
    // An id in `# lint: allow(id)`.
    let id = word(doc.text, at, "-");
    if line[..at - line_start].contains("lint:")
        && let Some(p) = ids::page(&doc.text[id.clone()])
    {
        return Some((p.text(), id));
    }
    let root = tree(doc.name, doc.text);
    let way = way_to(&root, at);
    if way.on_key {
        return key(&way);
    }
    let text = way.last().text()?;
    let name = way.key();
    if name == "type"
        && let Some(kind) = kind(&way)
        && let Some(part) = Part::find(kind, text)
    {
        return Some((explain(part), way.span.clone()));
    }
    if name == "fragment" {
        let (_, about) = super::define::fragments(doc, &root).into_iter().find(|(n, _)| n == text)?;
        return Some((format!("**{text}** (fragment)\n\n{about}"), way.span.clone()));
    }
    if matches!(name, "input" | "left" | "right" | "retry" | "store" | "fallback")
        && let Some(about) = of_name(doc, &root, name, text)
    {
        return Some((about, way.span.clone()));
    }
    let schemas = schema::at(&way, way.steps.len());
    let here = word(doc.text, at, "");
    let said = &doc.text[here.clone()];
    let format = schema::format(&schemas);
    if format == Some("expr")
        && let Some(f) = millrace_expr::functions()
            .into_iter()
            .find(|f| f.name.eq_ignore_ascii_case(said) || f.aliases.iter().any(|a| a.eq_ignore_ascii_case(said)))
    {
        return Some((format!("```\n{}\n```\n{}\n\n`{}`", f.signature, f.doc, f.example), here));
    }
    if format == Some("template")
        && let Some(h) = millrace_expr::template::helpers().into_iter().find(|h| h.name == said || h.aliases.contains(&said))
    {
        let examples: String = h.examples.iter().map(|e| format!("\n- `{}` over `{}` gives `{}`", e.0, e.1, e.2)).collect();
        return Some((format!("```\n{}\n```\n{}\n{examples}", h.signature, h.doc), here));
    }
    if matches!(format, Some("expr" | "template" | "field"))
        && let Some(field) = field(doc, said)
    {
        return Some((format!("`{field}`"), here));
    }
    let (word, about) = schema::words(&schemas).into_iter().find(|(w, d)| w == text && !d.is_empty())?;
    Some((format!("**{word}**\n\n{about}"), way.span.clone()))
}

fn key(way: &Way) -> Option<(String, Range<usize>)> {
    let name = way.key();
    if way.steps.len() == 1
        && let Some(page) = explain_section(name)
    {
        return Some((page, way.span.clone()));
    }
    let length = way.steps.len() - 1;
    let of = schema::at(way, length);
    let own: Vec<_> = of.iter().filter_map(|s| schema::property(s, name)).collect();
    let deep = schema::at(way, way.steps.len());
    let about = schema::about(&own).or_else(|| schema::about(&deep))?;
    let words: Vec<String> =
        schema::words(&deep).into_iter().map(|(w, d)| format!("- `{w}`{}{d}", if d.is_empty() { "" } else { ": " })).collect();
    let words = if words.is_empty() || words.len() > 40 { String::new() } else { format!("\n\n{}", words.join("\n")) };
    Some((format!("**{name}**\n\n{about}{words}"), way.span.clone()))
}

/// The kind of part that a `type` on the way names.
fn kind(way: &Way) -> Option<Kind> {
    way.keys().iter().rev().find_map(|k| match *k {
        "source" => Some(Kind::Source),
        "operates" | "transforms" => Some(Kind::Operator),
        "sink" | "dead_letter" => Some(Kind::Sink),
        "stores" | "store" => Some(Kind::Store),
        _ => None,
    })
}

/// `name: type` of a field, and the part that it is seen at first.
fn field(doc: &Document, name: &str) -> Option<String> {
    let picture = load_text(doc.name, doc.text, doc.dir, doc.options).graph;
    let of = |f: &String| f.split_once(": ").is_some_and(|(n, _)| n == name);
    picture.parts.iter().find_map(|p| p.fields.iter().find(|f| of(f)).map(|f| format!("{f} (of {})", p.name)))
}

/// A stream, a part or a store that is named: its type, and the fields of its rows as far as they are known.
fn of_name(doc: &Document, root: &Node, key: &str, text: &str) -> Option<String> {
    if matches!(key, "store" | "fallback") {
        let store = root.get("stores")?.get(text)?;
        let asked =
            store.get("config").and_then(|c| c.get("key")).and_then(Node::text).map_or(String::new(), |k| format!("\n\nasked by `{k}`"));
        return Some(format!("**{text}** (store, {}){asked}", store.get("type").and_then(Node::text)?));
    }
    let head = text.split('.').next().unwrap_or_default();
    let picture = load_text(doc.name, doc.text, doc.dir, doc.options).graph;
    let part = picture.parts.iter().find(|p| p.name == head)?;
    let fields: String = part.fields.iter().map(|f| format!("\n- `{f}`")).collect();
    Some(format!("**{text}** ({})\n{fields}", part.types.join(", ")))
}

/// What a fragment says of itself.
pub(super) fn of_fragment(node: &Node) -> String {
    let mut out = node.get("description").and_then(Node::text).unwrap_or_default().to_string();
    for (name, about) in parameters(node) {
        out.push_str(&format!("\n- `{name}`{about}"));
    }
    out
}

/// The parameters of a fragment, with their type and what they are for.
pub(super) fn parameters(node: &Node) -> Vec<(String, String)> {
    let all = node.get("parameters").map(Node::entries).unwrap_or_default();
    all.iter()
        .map(|p| {
            let about = p.value.get("description").and_then(Node::text).map_or(String::new(), |d| format!(": {d}"));
            let ty = p.value.get("type").and_then(Node::text).map_or(String::new(), |t| format!(" ({t})"));
            (p.key.clone(), format!("{ty}{about}"))
        })
        .collect()
}
