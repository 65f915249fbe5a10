//! What the registry knows, for people and for editors: a part's page, and the JSON Schema of the whole language.

use crate::cases::TestCase;
use crate::guards::Guard;
use crate::reuse;
use crate::topology::{RunEnv, Watermark};
use millrace_sdk::{Kind, Part};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Depth to which keys within keys are listed.
const MAX_DEPTH: usize = 5;

/// A part's page: what it is, its own text, and its config keys from its schema. Markdown.
pub fn explain(part: &Part) -> String {
    let mut out = format!("# {} ({})\n\n", part.name, part.kind().name());
    if !part.aliases.is_empty() {
        let _ = writeln!(out, "Also called {}.\n", part.aliases.join(", "));
    }
    let schema = (part.schema)().to_value();
    let page = part.page();
    let (text, example) = divide(&page);
    let _ = writeln!(out, "{}\n\n## Config\n", text.trim());
    let before = out.len();
    keys(&mut out, &schema, &schema, "", 0);
    if out.len() == before {
        out.push_str("No keys.\n");
    }
    if !example.is_empty() {
        let _ = writeln!(out, "\n{}", example.trim().replacen("# Example", "## Example", 1));
    }
    out
}

/// A part's page without its keys and its example.
pub(crate) fn lead(part: &Part) -> String {
    divide(&part.page()).0.trim().to_string()
}

/// What `explain` says of the language's own sections.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("run_env", "run_env", ""),
    ("streams", "", "Sources by name, and how their records are washed before anything else sees them."),
    ("watermark", "watermark", ""),
    ("stores", "store", "Look-up tables by name: joins and `Lookup` ask them."),
    ("transforms", "operator", "What happens between streams and sinks, part by part. Without `input` a part takes the one before it."),
    ("operates", "operator", "How the rows of a stream are washed: stateless operators, one after the other."),
    ("sink", "sink", "Where rows go. Without `input` a sink takes the last transform."),
    ("guards", "guard", "What must hold for the job's output to be published."),
    ("tests", "test", ""),
    (
        "include",
        "",
        "Files whose `fragments`, `defaults`, `stores`, `streams` and `run_env` hold here too: a path or a list of them, from the folder of the file that \
         includes. What stands in the topology itself goes first in `run_env` and `defaults`; one name in two files is an error. Files outside the \
         topology's folder need `--include-from DIR`.",
    ),
    ("defaults", "defaults", "A key that a part has itself goes first, whole: maps are not merged."),
    (
        "fragments",
        "fragment",
        "A use is `{fragment: NAME, name: …, input: …, with: {PARAMETER: value}}` in the place of a part. The last part of a fragment has the name of \
         the use, the others `NAME-OWN`; so each use has state of its own, which stays as long as the use keeps its name.",
    ),
    ("fragment", "use", "The parts of `fragments: {NAME: …}` with these values stand in its place."),
];

/// The page of a section of the topology, like `run_env`.
pub fn explain_section(name: &str) -> Option<String> {
    let (title, def, about) = SECTIONS.iter().find(|(n, ..)| *n == name || n.strip_suffix('s') == Some(name))?;
    let schema = json_schema();
    let nothing = Value::Null;
    let section = if *title == "streams" {
        &schema["properties"]["streams"]["additionalProperties"]["else"]
    } else {
        schema["$defs"].get(*def).unwrap_or(&nothing)
    };
    let mut out = format!("# {title} (section of a topology)\n");
    let own = section["description"].as_str().unwrap_or_default();
    for text in [own, about].into_iter().filter(|t| !t.is_empty()) {
        let _ = write!(out, "\n{text}\n");
    }
    let mut listed = String::new();
    keys(&mut listed, &schema, section, "", MAX_DEPTH - 1);
    if *def != "operator" && *def != "sink" && *def != "store" && *def != "fragment" {
        listed.clear();
        keys(&mut listed, &schema, section, "", 2);
    }
    if !listed.is_empty() {
        let _ = write!(out, "\n## Keys\n\n{}\n", listed.replace("\n    ", "\n").trim());
    }
    Some(out)
}

/// Names that [`explain_section`] knows.
pub fn sections() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|(n, ..)| *n)
}

/// The text of a page and its example.
fn divide(page: &str) -> (&str, &str) {
    match page.find("\n# Example").or_else(|| page.starts_with("# Example").then_some(0)) {
        Some(i) => page.split_at(i),
        None => (page, ""),
    }
}

fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..32 {
        let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?)) else { break };
        schema = target;
    }
    schema
}

fn branches<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let all = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let null = |s: &Value| s.get("type").and_then(Value::as_str) == Some("null");
    all.into_iter().flatten().map(|s| resolve(root, s)).filter(|s| !null(s)).collect()
}

fn keys(out: &mut String, root: &Value, schema: &Value, prefix: &str, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let schema = resolve(root, schema);
    let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let target = resolve(root, value);
        let kind = noun(root, value, 0);
        let need = if required.contains(&name.as_str()) { ", required" } else { "" };
        let text = value.get("description").or_else(|| target.get("description")).and_then(Value::as_str).unwrap_or("");
        let indent = "  ".repeat(depth);
        let _ = writeln!(out, "{indent}- `{prefix}{name}` ({kind}{need}): {}", text.replace('\n', &format!("\n{indent}  ")));
        for branch in branches(root, value).iter().filter(|b| b.get("const").is_some() && b.get("description").is_some()) {
            let (Some(c), Some(d)) = (branch.get("const").and_then(Value::as_str), branch.get("description").and_then(Value::as_str))
            else {
                continue;
            };
            let _ = writeln!(out, "{indent}  - `{c}`: {}", d.replace('\n', " "));
        }
        inner(out, root, target, depth + 1);
    }
    for b in branches(root, schema).iter().filter(|b| b.get("properties").is_some()) {
        keys(out, root, b, prefix, depth);
    }
}

/// Keys of objects below a value: in it, in its items, in its branches.
fn inner(out: &mut String, root: &Value, schema: &Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    if schema.get("properties").is_some() {
        return keys(out, root, schema, "", depth);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(s) = schema.get(below).filter(|s| s.is_object()) {
            inner(out, root, resolve(root, s), depth);
        }
    }
    for b in branches(root, schema) {
        inner(out, root, b, depth);
    }
}

/// The kind of value that a schema takes, in words.
fn noun(root: &Value, schema: &Value, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "value".into();
    }
    let schema = resolve(root, schema);
    if let Some(c) = schema.get("const").and_then(Value::as_str) {
        return format!("`{c}`");
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return all.iter().filter_map(Value::as_str).map(|s| format!("`{s}`")).collect::<Vec<_>>().join(" | ");
    }
    let branches = branches(root, schema);
    if !branches.is_empty() {
        let mut all: Vec<String> = branches.iter().map(|b| noun(root, b, depth + 1)).collect();
        all.dedup();
        return all.join(" | ");
    }
    let mut types = types(schema);
    types.retain(|t| *t != "null");
    // What `editors` has added: a variable in the place of what is meant, and any word as a text.
    if schema.get("pattern").is_some_and(|p| p == VARIABLE) {
        types.retain(|t| *t != "string");
    } else if ["string", "number", "boolean"].iter().all(|t| types.contains(t)) {
        types.retain(|t| !matches!(*t, "number" | "boolean"));
    }
    let one = |t: &str| match (t, schema.get("format").and_then(Value::as_str)) {
        ("string", Some("expr")) => "expression".to_string(),
        ("string", Some(f @ ("template" | "duration" | "size" | "path" | "type" | "field" | "secret"))) => f.to_string(),
        ("string", _) => "text".into(),
        ("integer" | "number", _) => "number".into(),
        ("boolean", _) => "true | false".into(),
        ("array", _) => format!("list of {}", schema.get("items").map_or("values".into(), |i| noun(root, i, depth + 1))),
        ("object", _) => match schema.get("additionalProperties").filter(|a| a.is_object()) {
            Some(values) => format!("map of name to {}", noun(root, values, depth + 1)),
            None => "map".into(),
        },
        _ => "value".into(),
    };
    if types.is_empty() { "value".into() } else { types.into_iter().map(one).collect::<Vec<_>>().join(" | ") }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(t)) => vec![t],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

/// What a text must match that stands for another value.
const VARIABLE: &str = "\\$\\{";

/// JSON Schema of a topology, for editors. Whatever a part's schema says is in it.
pub fn json_schema() -> Value {
    let mut defs = Map::new();
    for kind in [Kind::Source, Kind::Operator, Kind::Sink, Kind::Store] {
        let parts: Vec<&Part> = Part::all().into_iter().filter(|p| p.kind() == kind).collect();
        let mut names = vec![];
        let mut cases = vec![];
        for part in parts {
            let key = format!("{}.{}", kind.name(), part.name);
            let mut schema = (part.schema)().to_value();
            if let Some(s) = schema.as_object_mut() {
                s.remove("$schema");
                s.remove("title");
                s.insert("description".into(), divide(&part.page()).0.trim().into());
            }
            editors(&mut schema, &format!("#/$defs/{key}/$defs/"));
            defs.insert(key.clone(), schema);
            let all = std::iter::once(part.name).chain(part.aliases.iter().copied()).map(Value::from);
            // YAML reads the word as no value, and so do editors.
            let all: Vec<Value> = all.chain((part.name == "Null").then_some(Value::Null)).collect();
            cases.push(json!({
                "if": {"properties": {"type": {"enum": all}}, "required": ["type"]},
                "then": {"properties": {"config": {"anyOf": [{"$ref": format!("#/$defs/{key}")}, {"type": "null"}]}}},
            }));
            names.extend(all);
        }
        let mut properties = json!({"type": {"enum": names, "description": format!("The {}'s type.", kind.name())}, "config": {"description": "What the part takes."}});
        let text = |d: &str| json!({"type": "string", "description": d});
        if let Some(p) = properties.as_object_mut() {
            if kind != Kind::Store {
                p.insert(
                    "parallelism".into(),
                    json!({"type": ["integer", "string"], "minimum": 1, "pattern": VARIABLE, "description": "Most workers that host it."}),
                );
            }
            if matches!(kind, Kind::Operator | Kind::Sink) {
                p.insert("name".into(), text("What readers call it."));
                let one_or_many = json!({"type": ["string", "array"], "items": {"type": "string"}, "description": "Whose rows it takes: `name`, `name.port`, or a list of them."});
                p.insert("input".into(), one_or_many);
            }
            if kind == Kind::Operator {
                p.insert("left".into(), text("A join's left input."));
                p.insert("right".into(), text("A join's right input."));
                p.insert("retry".into(), text("A join's retry stream."));
            }
        }
        defs.insert(
            kind.name().into(),
            json!({"type": "object", "properties": properties, "required": ["type"], "additionalProperties": false, "allOf": cases}),
        );
    }
    let with = json!({"type": ["object", "null"], "description": "Values of the fragment's parameters."});
    let fragment = json!({"type": "string", "description": "A fragment whose parts stand here."});
    let wires = defs["operator"]["properties"].clone();
    let mut used = json!({"type": "object", "properties": {"fragment": fragment, "with": with}, "required": ["fragment"], "additionalProperties": false});
    used["description"] = "A use of a fragment.".into();
    for key in ["name", "input", "left", "right", "retry", "parallelism"] {
        used["properties"][key] = wires[key].clone();
    }
    used["properties"]["name"]["description"] = "What readers call its last part; the others are `NAME-OWN`.".into();
    defs.insert("use".into(), used);
    let of = |kind: Kind| json!({"if": {"required": ["fragment"]}, "then": {"$ref": "#/$defs/use"}, "else": {"$ref": format!("#/$defs/{}", kind.name())}});
    let list = |kind: Kind| json!({"type": ["array", "null"], "items": of(kind)});
    let mut run_env = schemars::schema_for!(RunEnv).to_value();
    run_env["properties"]["dead_letter"] = json!({"$ref": "#/$defs/sink", "description": "The sink of rejected records."});
    run_env["properties"]["timeCharacteristic"] = run_env["properties"]["time_characteristic"].clone();
    let run_env = define(&mut defs, "run_env", run_env);
    // Not the schema's own definition: it stands at the top.
    defs["run_env"]["properties"]["dead_letter"]["$ref"] = "#/$defs/sink".into();
    let watermark = define(&mut defs, "watermark", schemars::schema_for!(Watermark).to_value());
    let test = define(&mut defs, "test", schemars::schema_for!(TestCase).to_value());
    let guard = define(&mut defs, "guard", schemars::schema_for!(Guard).to_value());
    let stream = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["config"],
        "properties": {
            "type": {"const": "DefaultStream"},
            "sink": list(Kind::Sink),
            "config": {
                "type": "object",
                "additionalProperties": false,
                "required": ["source"],
                "properties": {
                    "source": of(Kind::Source),
                    "operates": list(Kind::Operator),
                    "watermark": watermark,
                    "role": {"const": "retry", "description": "Rows that come back to a join's `retry` input."},
                    "sink": list(Kind::Sink),
                },
            },
        },
    });
    let stream = json!({"if": {"required": ["fragment"]}, "then": {"$ref": "#/$defs/use"}, "else": stream});
    defs.insert("fragment".into(), fragment_schema(&of, &stream));
    defs.insert("defaults".into(), defaults_schema());
    let (fragment, defaults) = (json!({"$ref": "#/$defs/fragment"}), json!({"$ref": "#/$defs/defaults"}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Millrace topology",
        "type": "object",
        "additionalProperties": false,
        "required": ["streams"],
        "properties": {
            "name": {"type": "string", "description": "The job's name. Default: the file's."},
            "include": {"type": ["string", "array", "null"], "items": {"type": "string"}, "description": "Files with fragments, defaults, stores, streams and settings that hold here too; paths begin at this file's folder."},
            "run_env": {"anyOf": [run_env, {"type": "null"}]},
            "defaults": {"anyOf": [defaults, {"type": "null"}]},
            "fragments": {"type": ["object", "null"], "additionalProperties": fragment, "description": "Parts that are written once, with parameters, and used by name."},
            "stores": {"type": ["object", "null"], "additionalProperties": of(Kind::Store), "description": "Look-up tables by name."},
            "streams": {"type": "object", "additionalProperties": stream, "description": "Sources by name, and how their records are washed."},
            "transforms": list(Kind::Operator),
            "sink": list(Kind::Sink),
            "guards": {"type": ["array", "null"], "items": guard, "description": "What must hold for the job's output to be published."},
            "tests": {"type": ["array", "null"], "items": test},
        },
        "$defs": defs,
    })
}

fn fragment_schema(of: &dyn Fn(Kind) -> Value, stream: &Value) -> Value {
    let parameter = json!({
        "description": "A parameter: its default, or a map.",
        "anyOf": [
            {"type": ["string", "number", "boolean", "array", "null"]},
            {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "type": {"enum": reuse::TYPES, "description": "What its values are. Default: any."},
                    "default": {"description": "The value where a use gives none. Without it every use must give one."},
                    "options": {"type": "array", "description": "The values that can be given."},
                    "description": {"type": "string", "description": "What it means."},
                },
            },
        ],
    });
    json!({
        "type": "object",
        "description": "Parts that are written once, under one of `transforms`, `sink`, `source`, `store` and `stream`. `${NAME}` in them is the value of a parameter.",
        "additionalProperties": false,
        "properties": {
            "description": {"type": "string", "description": "What it is for."},
            "parameters": {"type": ["object", "null"], "additionalProperties": parameter, "description": "What a use can say, by name."},
            "transforms": {"type": "array", "items": of(Kind::Operator), "description": "Operators in a row, for `transforms` and `operates`."},
            "sink": {"type": "array", "items": of(Kind::Sink), "description": "Sinks that take the same rows."},
            "source": of(Kind::Source),
            "store": of(Kind::Store),
            "stream": stream,
        },
    })
}

fn defaults_schema() -> Value {
    let config = json!({"type": ["object", "null"], "description": "Config that all parts of this type have unless they say otherwise."});
    let kind = |name: &str| json!({"type": ["object", "null"], "additionalProperties": config, "description": format!("For {name} alone, by type.")});
    json!({
        "type": "object",
        "description": "Config that all parts of a type have unless they say otherwise, by type.",
        "properties": {
            "source": kind("sources"),
            "transforms": kind("operators"),
            "sink": kind("sinks"),
            "stores": kind("stores"),
            "watermark": {"type": ["object", "null"], "description": "Keys that all watermarks have unless they say otherwise."},
        },
        "additionalProperties": config,
    })
}

fn define(defs: &mut Map<String, Value>, name: &str, mut schema: Value) -> Value {
    if let Some(s) = schema.as_object_mut() {
        s.remove("$schema");
        s.remove("title");
    }
    editors(&mut schema, &format!("#/$defs/{name}/$defs/"));
    defs.insert(name.into(), schema);
    json!({"$ref": format!("#/$defs/{name}")})
}

/// Moves references to where a schema lies in the whole, and lets variables stand for any value.
fn editors(schema: &mut Value, prefix: &str) {
    let types: Vec<String> = types(schema).into_iter().map(String::from).collect();
    match schema {
        Value::Object(o) => {
            if let Some(Value::String(r)) = o.get_mut("$ref")
                && let Some(name) = r.strip_prefix("#/$defs/")
            {
                *r = format!("{prefix}{name}");
            }
            let text = types.iter().any(|t| t == "string");
            let more: &[&str] = match () {
                () if text && (o.contains_key("enum") || o.contains_key("const")) => &[],
                () if text => &["number", "boolean"],
                () if types.iter().any(|t| matches!(t.as_str(), "integer" | "number" | "boolean")) => &["string"],
                () => &[],
            };
            if !more.is_empty() {
                let added = more.iter().copied().filter(|m| types.iter().all(|t| t != m));
                let all: Vec<&str> = types.iter().map(String::as_str).chain(added).collect();
                o.insert("type".into(), json!(all));
                if more == ["string"] {
                    o.insert("pattern".into(), VARIABLE.into());
                }
            }
            // A key called `type` within `properties` is no type of a schema.
            for value in o.values_mut() {
                editors(value, prefix);
            }
        }
        Value::Array(a) => a.iter_mut().for_each(|v| editors(v, prefix)),
        _ => {}
    }
}
