//! The language's schema at a place of a text.

use super::{Step, Way};
use crate::reference::json_schema;
use crate::yaml::{Content, Node, snake_case};
use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Depth of branches within branches.
const MAX_DEPTH: usize = 12;

fn resolve(mut schema: &'static Value) -> &'static Value {
    for _ in 0..32 {
        let Some(target) = schema["$ref"].as_str().and_then(|r| SCHEMA.pointer(r.strip_prefix('#')?)) else { break };
        schema = target;
    }
    schema
}

/// All that a schema says of a node: its branches that fit, flat.
fn expand(schema: &'static Value, node: &Node, out: &mut Vec<&'static Value>, depth: usize) {
    let schema = resolve(schema);
    if depth > MAX_DEPTH || schema["type"] == "null" {
        return;
    }
    out.push(schema);
    for s in schema["allOf"].as_array().into_iter().flatten() {
        expand(s, node, out, depth + 1);
    }
    if schema["if"].is_object() {
        let branch = if holds(&schema["if"], node) { "then" } else { "else" };
        if schema[branch].is_object() {
            expand(&schema[branch], node, out, depth + 1);
        }
    }
    for key in ["anyOf", "oneOf"] {
        for b in schema[key].as_array().into_iter().flatten() {
            if fits(resolve(b), node) {
                expand(b, node, out, depth + 1);
            }
        }
    }
}

/// Whether a node is what an `if` asks for: a key that is there, and a value of it.
fn holds(condition: &Value, node: &Node) -> bool {
    let there = condition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).all(|k| node.entry(k).is_some());
    let mut values = condition["properties"].as_object().into_iter().flatten();
    there
        && values.all(|(k, v)| {
            let text = node.get(k).and_then(|n| n.text().map(String::from).or(matches!(n.content, Content::Null).then(|| "Null".into())));
            v["enum"].as_array().is_none_or(|all| text.is_some_and(|t| all.iter().any(|v| v.as_str() == Some(&t))))
        })
}

/// Whether a branch may be meant: of objects told apart by a constant, the one that is written.
fn fits(branch: &Value, node: &Node) -> bool {
    branch["properties"].as_object().into_iter().flatten().all(|(k, v)| match (v["const"].as_str(), node.get(k).and_then(Node::text)) {
        (Some(c), Some(t)) => c == t,
        _ => true,
    })
}

/// What the schema says of the nodes along a way: of the node it ends at.
pub fn at(way: &Way, length: usize) -> Vec<&'static Value> {
    let mut here = vec![];
    expand(&SCHEMA, way.nodes[0], &mut here, 0);
    for (step, node) in way.steps[..length].iter().zip(&way.nodes[1..]) {
        let mut next: Vec<&'static Value> = vec![];
        for s in &here {
            let below = match step {
                Step::Key(k) => property(s, k),
                Step::Item(_) => Some(&s["items"]).filter(|i| i.is_object()),
            };
            if let Some(b) = below {
                expand(b, node, &mut next, 0);
            }
        }
        next.dedup_by(|a, b| std::ptr::eq(*a, *b));
        here = next;
    }
    here
}

/// The schema of a key of an object.
pub fn property(schema: &'static Value, key: &str) -> Option<&'static Value> {
    let named = schema["properties"].get(key).or_else(|| schema["properties"].get(snake_case(key)));
    named.or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()))
}

/// Keys that can stand in a map, with what they mean.
pub fn keys(schemas: &[&'static Value]) -> Vec<(&'static str, &'static Value)> {
    let mut out: Vec<(&str, &Value)> = vec![];
    for (k, v) in schemas.iter().flat_map(|s| s["properties"].as_object()).flatten() {
        if !out.iter().any(|(o, _)| o == k) && !k.chars().any(char::is_uppercase) {
            out.push((k, v));
        }
    }
    out
}

/// Words that can stand as a value, with what they mean.
pub fn words(schemas: &[&'static Value]) -> Vec<(String, &'static str)> {
    let mut out: Vec<(String, &str)> = vec![];
    for s in schemas {
        let about = s["description"].as_str().unwrap_or_default();
        let one = s["const"].as_str().map(|c| (c.to_string(), about));
        let listed = s["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).map(|v| (v.to_string(), ""));
        let boolean = (s["type"] == "boolean" || s["type"][0] == "boolean")
            .then(|| ["true", "false"].map(|b| (b.to_string(), "")))
            .into_iter()
            .flatten();
        for w in one.into_iter().chain(listed).chain(boolean) {
            if !out.iter().any(|(o, _)| *o == w.0) {
                out.push(w);
            }
        }
    }
    out
}

/// The format of texts at a place: `expr`, `template`, `field` ...
pub fn format(schemas: &[&'static Value]) -> Option<&'static str> {
    schemas.iter().find_map(|s| s["format"].as_str())
}

/// The first text that describes a place.
pub fn about(schemas: &[&'static Value]) -> Option<&'static str> {
    schemas.iter().find_map(|s| s["description"].as_str())
}
