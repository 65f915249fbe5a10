//! What may be written at a place of a topology: keys and words of the language's JSON Schema, found by what stands before the place. It reads
//! half-written text, so it goes by indentation and brackets rather than by a parser.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Suggestions at most.
const MOST: usize = 60;
/// `$ref`s in a row.
const REFS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// What is to be written in place of the word before the place.
    pub text: String,
    /// The first sentence of what is known of it.
    pub about: String,
}

#[derive(Clone, Debug)]
enum Frame {
    /// Of a block its column; of brackets None.
    Map {
        column: Option<usize>,
        key: Option<String>,
        part: Option<String>,
    },
    Seq {
        column: Option<usize>,
    },
}

impl Frame {
    fn column(&self) -> Option<usize> {
        match self {
            Frame::Map { column, .. } | Frame::Seq { column } => *column,
        }
    }
}

/// Where a text ends: the collections that are open, the word that is begun, and whether it is a value.
struct Place {
    frames: Vec<Frame>,
    word: String,
    value: bool,
}

/// The words that may stand at the end of a text, and the word that is there already.
pub fn complete(before: &str, schema: &Value) -> (String, Vec<Suggestion>) {
    let place = read(before);
    let mut found = BTreeMap::new();
    for rules in walk(schema, &place) {
        if place.value { words(schema, rules, &mut found) } else { keys(schema, rules, &mut found) }
    }
    let fits = |text: &str| text.to_lowercase().starts_with(&place.word.to_lowercase());
    let all = found.into_iter().filter(|(text, _)| fits(text) && *text != place.word).take(MOST);
    (place.word.clone(), all.map(|(text, about)| Suggestion { text, about }).collect())
}

fn read(before: &str) -> Place {
    let mut frames: Vec<Frame> = vec![];
    let mut last = (String::new(), false);
    for line in before.split('\n') {
        let text = uncommented(line);
        let brackets = frames.iter().filter(|f| f.column().is_none()).count();
        last = if brackets > 0 { flow(&mut frames, text) } else { block(&mut frames, text) };
    }
    Place { frames, word: last.0, value: last.1 }
}

/// A line without its comment.
fn uncommented(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return &line[..i],
            None => {}
        }
        before = c;
    }
    line
}

/// A line of a block; the word at its end and whether that is a value.
fn block(frames: &mut Vec<Frame>, line: &str) -> (String, bool) {
    let mut column = line.chars().take_while(|c| *c == ' ').count();
    let mut rest = &line[column..];
    if rest.is_empty() {
        // What is deeper is left by going back with the caret.
        frames.retain(|f| f.column().is_some_and(|c| c < column || (c == column && matches!(f, Frame::Map { .. }))));
        if frames.last().is_some_and(|f| f.column() < Some(column)) {
            frames.push(Frame::Map { column: Some(column), key: None, part: None });
        }
        return (String::new(), false);
    }
    while let Some(item) = rest.strip_prefix('-').filter(|r| r.is_empty() || r.starts_with(' ')) {
        frames.retain(|f| {
            matches!(f, Frame::Map { column: Some(c), .. } if *c <= column) || matches!(f, Frame::Seq { column: Some(c) } if *c <= column)
        });
        while frames.last().is_some_and(|f| matches!(f, Frame::Map { column: Some(c), key, .. } if *c == column && key.is_none())) {
            frames.pop();
        }
        if !frames.iter().any(|f| matches!(f, Frame::Seq { column: Some(c) } if *c == column)) {
            frames.push(Frame::Seq { column: Some(column) });
        }
        // The items of a list lie behind its mark.
        while !matches!(frames.last(), Some(Frame::Seq { column: Some(c) }) if *c == column) {
            frames.pop();
        }
        let spaces = item.chars().take_while(|c| *c == ' ').count();
        column += 1 + spaces;
        rest = item[spaces..].trim_end_matches('\r');
        if rest.is_empty() {
            return (String::new(), false);
        }
    }
    if rest.starts_with(['{', '[']) {
        return flow(frames, rest);
    }
    frames.retain(|f| f.column().is_some_and(|c| c <= column && (c < column || matches!(f, Frame::Map { .. }))));
    if !matches!(frames.last(), Some(Frame::Map { column: Some(c), .. }) if *c == column) {
        frames.push(Frame::Map { column: Some(column), key: None, part: None });
    }
    let Some((key, value)) = rest.split_once(':').filter(|(_, v)| v.is_empty() || v.starts_with(' ')) else {
        if let Some(Frame::Map { key, .. }) = frames.last_mut() {
            *key = None;
        }
        return (rest.to_string(), false);
    };
    named(frames, key, value);
    let value = value.trim_start();
    if value.starts_with(['{', '[']) {
        return flow(frames, value);
    }
    (value.to_string(), true)
}

fn named(frames: &mut [Frame], name: &str, value: &str) {
    if let Some(Frame::Map { key, part, .. }) = frames.last_mut() {
        *key = Some(name.trim().trim_matches(['"', '\'']).to_string());
        let value = value.trim().trim_matches(['"', '\'']);
        if key.as_deref() == Some("type") && !value.is_empty() {
            *part = Some(value.to_string());
        }
    }
}

/// Text within brackets; the word at its end and whether that is a value.
fn flow(frames: &mut Vec<Frame>, text: &str) -> (String, bool) {
    let mut word = String::new();
    let mut value = matches!(frames.last(), Some(Frame::Map { key: Some(_), .. } | Frame::Seq { .. }));
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => {
                frames.push(Frame::Map { column: None, key: None, part: None });
                (word, value) = (String::new(), false);
            }
            (None, '[') => {
                frames.push(Frame::Seq { column: None });
                (word, value) = (String::new(), true);
            }
            (None, '}' | ']') => {
                if frames.last().is_some_and(|f| f.column().is_none()) {
                    frames.pop();
                }
                (word, value) = (String::new(), true);
            }
            (None, ',') => {
                end(frames, &word, value);
                word = String::new();
                if let Some(Frame::Map { key, .. }) = frames.last_mut() {
                    *key = None;
                    value = false;
                }
            }
            (None, ':') if !value => {
                named(frames, &word, "");
                (word, value) = (String::new(), true);
            }
            (None, c) if c.is_whitespace() && word.is_empty() => {}
            (None, c) => word.push(c),
        }
    }
    (word, value)
}

/// A value within brackets is complete.
fn end(frames: &mut [Frame], word: &str, value: bool) {
    if let Some(Frame::Map { key: Some(key), part, .. }) = frames.last_mut()
        && value
        && key == "type"
    {
        *part = Some(word.trim().to_string());
    }
}

fn resolved<'s>(root: &'s Value, mut schema: &'s Value) -> &'s Value {
    for _ in 0..REFS {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|r| root.pointer(r));
        match target {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// A schema and its alternatives.
fn branches<'s>(root: &'s Value, schema: &'s Value, depth: usize) -> Vec<&'s Value> {
    let schema = resolved(root, schema);
    let mut all = vec![schema];
    if depth < 8 {
        for several in ["oneOf", "anyOf"].iter().filter_map(|k| schema.get(*k)?.as_array()) {
            all.extend(several.iter().flat_map(|s| branches(root, s, depth + 1)));
        }
    }
    all
}

/// What describes the place.
fn walk<'s>(root: &'s Value, place: &Place) -> Vec<&'s Value> {
    let mut now = branches(root, root, 0);
    for (i, frame) in place.frames.iter().enumerate() {
        let last = i + 1 == place.frames.len();
        now = match frame {
            Frame::Seq { .. } => now.iter().filter_map(|s| s.get("items")).flat_map(|s| branches(root, s, 0)).collect(),
            // In front of a key there is no key yet.
            Frame::Map { .. } if last && !place.value => now,
            Frame::Map { key: None, .. } => vec![],
            Frame::Map { key: Some(key), part, .. } => {
                now.iter().flat_map(|s| entries(root, s, key, part.as_deref())).flat_map(|s| branches(root, s, 0)).collect()
            }
        };
    }
    now
}

/// The schemas of a key's value, by the part's type where that decides.
fn entries<'s>(root: &'s Value, schema: &'s Value, key: &str, part: Option<&str>) -> Vec<&'s Value> {
    let own = schema.get("properties").and_then(|p| p.get(key));
    let other = schema.get("additionalProperties").filter(|a| a.is_object() && own.is_none());
    let mut all: Vec<&Value> = own.into_iter().chain(other).collect();
    for rule in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        let rule = resolved(root, rule);
        let names = rule.pointer("/if/properties/type/enum").and_then(Value::as_array);
        if names.is_some_and(|n| part.is_some_and(|p| n.iter().any(|n| n == p))) {
            all.extend(rule.pointer("/then/properties").and_then(|p| p.get(key)));
        }
    }
    all
}

fn about(root: &Value, schema: &Value) -> String {
    let own = schema.get("description").or_else(|| resolved(root, schema).get("description"));
    let text = own.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    text.split_inclusive(". ").next().unwrap_or_default().trim().to_string()
}

fn keys(root: &Value, rules: &Value, found: &mut BTreeMap<String, String>) {
    for (key, schema) in rules.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        found.entry(format!("{key}: ")).or_insert_with(|| about(root, schema));
    }
}

fn words(root: &Value, rules: &Value, found: &mut BTreeMap<String, String>) {
    let several = rules.get("enum").and_then(Value::as_array).into_iter().flatten();
    for word in several.chain(rules.get("const")).filter_map(Value::as_str) {
        found.entry(word.to_string()).or_insert_with(|| about(root, rules));
    }
    if rules.get("type").is_some_and(|t| t == "boolean") {
        for word in ["true", "false"] {
            found.entry(word.into()).or_insert_with(|| about(root, rules));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        let part = |then: Value| {
            json!({"properties": {"type": {"enum": ["File", "Kafka"], "description": "The type. More."}, "config": {}}, "allOf": [
                {"if": {"properties": {"type": {"enum": ["File"]}}}, "then": {"properties": {"config": {"anyOf": [then, {"type": "null"}]}}}},
            ]})
        };
        json!({
            "properties": {
                "name": {"type": "string"},
                "run_env": {"$ref": "#/$defs/env"},
                "streams": {"additionalProperties": {"properties": {"config": {"properties": {"source": {"$ref": "#/$defs/source"}}}}}},
                "sink": {"type": ["array", "null"], "items": {"$ref": "#/$defs/source"}},
            },
            "$defs": {
                "env": {"properties": {"drain": {"type": "boolean"}, "mode": {"enum": ["fast", "fine"], "description": "How.\nThen"}}},
                "source": part(json!({"properties": {"path": {"description": "A path. And more."}, "format": {"oneOf": [{"const": "json"}, {"const": "csv"}]}}})),
            },
        })
    }

    #[test]
    fn what_may_stand_at_a_place() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("", "", &["name: ", "run_env: ", "sink: ", "streams: "]),
            ("s", "s", &["sink: ", "streams: "]),
            ("name: x\nr", "r", &["run_env: "]),
            ("run_env:\n  ", "", &["drain: ", "mode: "]),
            ("run_env:\n  mode: f", "f", &["fast", "fine"]),
            ("run_env:\n  mode: fast\n  dr", "dr", &["drain: "]),
            ("run_env:\n  drain: ", "", &["false", "true"]),
            ("run_env: {", "", &["drain: ", "mode: "]),
            ("run_env: {mode: fast, d", "d", &["drain: "]),
            ("run_env: {mode: f", "f", &["fast", "fine"]),
            ("run_env: {mode: fast}\ns", "s", &["sink: ", "streams: "]),
            ("streams:\n  any:\n    config:\n      source: {type: ", "", &["File", "Kafka"]),
            (
                "streams:\n  any:\n    config:\n      source:\n        type: File # x\n        config:\n          ",
                "",
                &["format: ", "path: "],
            ),
            ("streams:\n  any:\n    config:\n      source: {type: File, config: {p", "p", &["path: "]),
            ("streams:\n  any:\n    config:\n      source: {type: Kafka, config: {p", "p", &[]),
            ("sink:\n  - ", "", &["config: ", "type: "]),
            ("sink:\n  - type: File\n    config: {format: ", "", &["csv", "json"]),
            ("sink:\n- type: File\n  config:\n    format: c", "c", &["csv"]),
            ("sink:\n  - {type: Kafka, config: {}}\n  - {type: File, config: {", "", &["format: ", "path: "]),
            ("sink:\n  - type: File\n  - t", "t", &["type: "]),
            ("sink: [{type: File, config: {path: x}}, {t", "t", &["type: "]),
            ("run_env:\n  mode: fast\n\nn", "n", &["name: "]),
            ("]]}}: - {", "- {", &[]),
            ("name: 'a # b'\nr", "r", &["run_env: "]),
        ];
        for (before, word, want) in cases {
            let (got, all) = complete(before, &schema());
            let texts: Vec<_> = all.iter().map(|s| s.text.as_str()).collect();
            assert_eq!((got.as_str(), texts.as_slice()), (*word, *want), "{before:?}");
        }
        let (_, all) = complete("sink:\n  - {type: File, config: {p", &schema());
        assert_eq!(all[0].about, "A path.");
    }

    #[test]
    fn the_real_language_is_known() {
        let schema = millrace_plan::json_schema();
        let texts = |before: &str| complete(before, &schema).1.into_iter().map(|s| s.text).collect::<Vec<_>>();
        assert!(texts("run_env:\n  check").contains(&"checkpoint: ".to_string()));
        assert!(texts("").contains(&"streams: ".to_string()));
    }
}
