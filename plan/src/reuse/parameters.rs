//! Parameters of fragments: how they are declared, and the values that a use gives them.

use super::{is_map, names_hint, only};
use crate::check::check;
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::topology::{first_line, valid_name};
use crate::yaml::{Content, Entry, Node};
use millrace_sdk::Severity;
use millrace_sdk::problem::did_you_mean;
use serde_json::{Value, json};

pub(crate) const PARAMETER: &[&str] = &["type", "default", "options", "description"];
/// What a parameter can be.
pub(crate) const TYPES: &[&str] = &["any", "string", "bigint", "double", "boolean", "duration", "size", "array", "map"];

/// A parameter as it is declared.
pub(super) struct Parameter {
    pub name: String,
    pub span: Span,
    schema: Value,
    /// None: every use must give it.
    pub default: Option<Node>,
    about: Option<String>,
}

/// Reads `parameters`: `name: {type, default, options, description}`, or `name: default`, or `name:` alone.
pub(super) fn read(report: &mut Report, node: Option<&Node>) -> Vec<Parameter> {
    let Some(node) = node.filter(|n| is_map(report, n, "`parameters`")) else { return vec![] };
    node.entries().iter().map(|e| one(report, e)).collect()
}

fn one(report: &mut Report, e: &Entry) -> Parameter {
    valid_name(report, &e.key, e.key_span);
    let mut out = Parameter { name: e.key.clone(), span: e.key_span, schema: Value::Bool(true), default: None, about: None };
    match &e.value.content {
        Content::Map(_) => {
            only(report, &e.value, PARAMETER);
            if let Some(n) = e.value.get("type") {
                match n.text().and_then(schema) {
                    Some(s) => out.schema = s,
                    None if n.is_bad() => {}
                    None => {
                        let written = n.text().unwrap_or_default();
                        let found = Found::error("unknown-type", n.span, format!("unknown type of a parameter `{written}`"))
                            .suggest(did_you_mean(written, TYPES.iter().copied()))
                            .sure(written, TYPES.iter().copied());
                        report.push(names_hint(found, "the types", TYPES));
                    }
                }
            }
            if let Some(n) = e.value.get("options") {
                let options: Vec<&str> = n.items().iter().filter_map(Node::text).collect();
                if options.is_empty() && !n.is_bad() {
                    report.push(Found::error(
                        "wrong-type",
                        first_line(report, n.span),
                        "`options` is a list of the values that can be given",
                    ));
                } else if !options.is_empty() {
                    out.schema = json!({"enum": options});
                }
            }
            out.about = e.value.get("description").and_then(Node::text).map(String::from);
            out.default = e.value.get("default").cloned();
            if let Some(d) = out.default.as_mut().filter(|d| !matches!(d.content, Content::Null)) {
                let checked = check(&report.sources, d, &out.schema, d.span);
                if checked.found.iter().any(|f| f.severity == Severity::Error) {
                    d.content = Content::Bad;
                }
                report.found.extend(checked.found);
            }
        }
        Content::Null => {}
        _ => out.default = Some(e.value.clone()),
    }
    out
}

/// The schema of a parameter's type.
fn schema(name: &str) -> Option<Value> {
    Some(match name {
        "any" => Value::Bool(true),
        "string" => json!({"type": "string"}),
        "bigint" => json!({"type": "integer"}),
        "double" => json!({"type": "number"}),
        "boolean" => json!({"type": "boolean"}),
        "duration" | "size" => json!({"type": "string", "format": name}),
        "array" => json!({"type": "array"}),
        "map" => json!({"type": "object", "additionalProperties": true}),
        _ => return None,
    })
}

/// The values that a use gives to parameters, checked; what is not given has its default.
pub(super) fn bind(report: &mut Report, declared: &[Parameter], with: Option<&Node>, used: Span, fragment: &str) -> Vec<(String, Node)> {
    let nothing = Node::null(used);
    let with = with.filter(|w| is_map(report, w, "`with`")).unwrap_or(&nothing);
    let names: Vec<&str> = declared.iter().map(|p| p.name.as_str()).collect();
    let mut meant: Vec<String> = vec![];
    for e in with.entries().iter().filter(|e| !names.contains(&&*e.key)) {
        let near = did_you_mean(&e.key, names.iter().copied());
        meant.extend(near.clone());
        let mut found = Found::error("unknown-parameter", e.key_span, format!("`{fragment}` has no parameter `{}`", e.key))
            .sure(&e.key, names.iter().copied())
            .suggest(near);
        found.sure &= found.suggestion.as_ref().is_some_and(|s| with.entry(s).is_none());
        report.push(names_hint(found, "its parameters", &names));
    }
    declared
        .iter()
        .map(|p| {
            let given = with.entries().iter().find(|e| e.key == p.name).map(|e| &e.value);
            let value = match (given, &p.default) {
                (Some(n), _) if !matches!(n.content, Content::Null) => {
                    let checked = check(&report.sources, n, &p.schema, n.span);
                    let wrong = checked.found.iter().any(|f| f.severity == Severity::Error);
                    report.found.extend(checked.found.into_iter().map(|f| match f.second {
                        None => f.second(p.span, "the parameter"),
                        Some(_) => f,
                    }));
                    if wrong { Node::bad(n.span) } else { n.clone() }
                }
                (_, Some(d)) => d.clone(),
                (_, None) => {
                    if !meant.contains(&p.name) && !with.is_bad() && !report.sources.has_hole(with.span) {
                        let found = Found::error("missing-parameter", used, format!("`{fragment}` needs the parameter `{}`", p.name));
                        let about = p.about.as_ref().map_or(String::new(), |a| format!(": {a}"));
                        report.push(found.second(p.span, "declared here").hint(format!("write `with: {{{}: …}}`{about}", p.name)));
                    }
                    Node::bad(used)
                }
            };
            (p.name.clone(), value)
        })
        .collect()
}
