//! A config tree against the JSON schema of its part: every problem with its place, and the JSON that the part reads.

use crate::diagnostic::Found;
use crate::scalar;
use crate::source::{Sources, Span};
use crate::spelling::{is_amount, odd_scalar, unknown_key};
use crate::yaml::{Content, Entry, Node, Scalar, snake_case};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Place, Severity, Step};
use serde_json::{Map, Value};
use std::borrow::Cow;

mod fill;
mod scalars;

/// `$ref`s followed in a row; a schema that leads further is its author's mistake.
const MAX_REFS: usize = 32;

pub(crate) struct Checked {
    /// What the part reads, always as its schema says: what does not fit is left out where it may be. None: it may not.
    pub value: Option<Value>,
    pub found: Vec<Found>,
    pub secrets: Vec<Span>,
    /// Paths of the file system and their places.
    pub paths: Vec<(Span, String)>,
    /// Addresses of servers (`x-address`) and their places.
    pub addresses: Vec<(Span, String)>,
    /// Keys of maps that are handed to a client library as they are (`x-properties`).
    pub properties: Vec<(Span, String)>,
    /// Whether something in it was broken before it came here.
    pub bad: bool,
    /// Whether something was left out that may have named fields.
    pub lost: bool,
    /// Where values were left out or replaced: the keys that lead there.
    pub filled: Vec<Vec<String>>,
}

/// Checks a node against a schema. `owner`: where to point when a key is missing.
pub(crate) fn check(sources: &Sources, node: &Node, schema: &Value, owner: Span) -> Checked {
    checked(sources, node, schema, owner, false)
}

/// The same, but a value that does not fit or is missing is replaced by some other one where that names no fields: the part can be made,
/// and what hangs on its other keys is looked at.
pub(crate) fn check_filling(sources: &Sources, node: &Node, schema: &Value, owner: Span) -> Checked {
    checked(sources, node, schema, owner, true)
}

fn checked(sources: &Sources, node: &Node, schema: &Value, owner: Span, fill: bool) -> Checked {
    let mut c = Checker::new(sources, schema, fill);
    let value = c.value(node, schema, owner);
    let Checker { found, secrets, paths, addresses, properties, bad, lost, filled, .. } = c;
    Checked { value, found, secrets, paths, addresses, properties, bad, lost, filled }
}

/// Where a part's problem stands in the file.
pub(crate) fn locate(report: &crate::diagnostic::Report, config: &Node, owner: Span, place: &Place) -> Span {
    let mut node = config;
    let mut last_key = None;
    for (i, step) in place.path.iter().enumerate() {
        let next = match step {
            Step::Key(k) => node.entry(k).or_else(|| misspelt(node, k)).map(|e| (&e.value, Some(e.key_span))),
            Step::Index(n) => node.items().get(*n).map(|v| (v, None)),
        };
        let Some((value, key)) = next else {
            // A single value where the part counts a list (`topics: a` is `topics: [a]`); else the deepest place there is.
            let single = i + 1 == place.path.len() && matches!(step, Step::Index(0)) && matches!(node.content, Content::Scalar(_));
            if single {
                break;
            }
            return last_key.unwrap_or(if node.span.start == node.span.end { owner } else { first_line(report, node, owner) });
        };
        (node, last_key) = (value, key.or(last_key));
    }
    if place.path.is_empty() {
        return owner;
    }
    if place.key
        && let Some(key) = last_key
    {
        return key;
    }
    match (&node.content, &place.range) {
        (Content::Scalar(_), Some(range)) => node.within(report, range.clone()),
        (Content::Scalar(_), None) => node.span,
        _ => last_key.unwrap_or(node.span),
    }
}

/// The key that was read as another.
fn misspelt<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    node.entries().iter().find(|e| did_you_mean(&e.key, [key]).is_some())
}

fn first_line(report: &crate::diagnostic::Report, node: &Node, owner: Span) -> Span {
    let text = report.sources.slice(node.span);
    if text.contains('\n') { owner } else { node.span }
}

struct Checker<'a> {
    sources: &'a Sources,
    root: &'a Value,
    found: Vec<Found>,
    secrets: Vec<Span>,
    paths: Vec<(Span, String)>,
    addresses: Vec<(Span, String)>,
    properties: Vec<(Span, String)>,
    bad: bool,
    lost: bool,
    fill: bool,
    filled: Vec<Vec<String>>,
    depth: usize,
    /// The keys that lead here.
    path: Vec<String>,
}

impl<'a> Checker<'a> {
    fn new(sources: &'a Sources, root: &'a Value, fill: bool) -> Checker<'a> {
        Checker {
            sources,
            root,
            fill,
            found: vec![],
            secrets: vec![],
            paths: vec![],
            addresses: vec![],
            properties: vec![],
            bad: false,
            lost: false,
            filled: vec![],
            depth: 0,
            path: vec![],
        }
    }
}

impl<'a> Checker<'a> {
    fn value(&mut self, node: &Node, schema: &Value, owner: Span) -> Option<Value> {
        let before = self.found.len();
        let value = self.read(node, schema, owner);
        // What a parameter gave is wrong where it was given.
        if let Content::Scalar(Scalar { argument: Some(given), .. }) = &node.content {
            for f in self.found[before..].iter_mut().filter(|f| f.span == node.span) {
                f.fix.iter_mut().filter(|(span, _)| *span == node.span).for_each(|(span, _)| *span = *given);
                f.second.get_or_insert((node.span, "put in here".into()));
                f.span = *given;
            }
        }
        value
    }

    fn read(&mut self, node: &Node, schema: &Value, owner: Span) -> Option<Value> {
        let schema = self.resolve(schema);
        if node.is_bad() {
            self.bad = true;
            return None;
        }
        if schema.get("x-properties") == Some(&Value::Bool(true)) {
            self.properties.extend(node.entries().iter().map(|e| (e.key_span, e.key.clone())));
        }
        let Some(rules) = schema.as_object() else { return Some(self.free(node)) };
        if self.null_is_a_word(node, schema) {
            return Some(Value::String("null".into()));
        }
        if matches!(node.content, Content::Null) && self.takes_null(schema) {
            return Some(Value::Null);
        }
        if let Some(names) = self.names(schema) {
            return self.one_of(node, &names);
        }
        if let Some(branches) = rules.get("oneOf").or_else(|| rules.get("anyOf")).and_then(Value::as_array) {
            return self.branches(node, rules, branches, owner);
        }
        if let Some(all) = rules.get("allOf").and_then(Value::as_array) {
            let mut merged = rules.clone();
            merged.remove("allOf");
            for s in all {
                merged = merge(&merged, self.resolve(s));
            }
            return self.value(node, &Value::Object(merged), owner);
        }
        let types = types(rules);
        let wanted: Vec<&str> = types.iter().copied().filter(|t| *t != "null").collect();
        match wanted[..] {
            [] if rules.contains_key("properties") => self.object(node, rules, owner),
            [] => Some(self.free(node)),
            ["object"] => self.object(node, rules, owner),
            ["array"] => self.array(node, rules),
            ["string"] => self.string(node, rules),
            ["integer"] | ["number"] => self.number(node, rules, wanted[0] == "integer"),
            ["boolean"] => self.boolean(node),
            _ => self.several(node, rules, &wanted, owner),
        }
    }

    /// `type: [string, integer]`: the type that the value has.
    fn several(&mut self, node: &Node, rules: &Map<String, Value>, wanted: &[&str], owner: Span) -> Option<Value> {
        let branches: Vec<Value> = wanted
            .iter()
            .map(|t| {
                let mut one = rules.clone();
                one.insert("type".into(), Value::String(t.to_string()));
                Value::Object(one)
            })
            .collect();
        self.branches(node, &Map::new(), &branches, owner)
    }

    fn resolve<'s>(&self, mut schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        for _ in 0..MAX_REFS {
            let Some(pointer) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(target) = pointer.strip_prefix('#').and_then(|p| self.root.pointer(p)) else { break };
            schema = target;
        }
        schema
    }

    fn takes_null(&self, schema: &Value) -> bool {
        let schema = self.resolve(schema);
        let Some(rules) = schema.as_object() else { return schema.as_bool().unwrap_or(true) };
        let any = |key: &str| rules.get(key).and_then(Value::as_array).is_some_and(|b| b.iter().any(|s| self.takes_null(s)));
        if any("anyOf") || any("oneOf") {
            return true;
        }
        let types = types(rules);
        types.contains(&"null")
            || rules.get("enum").and_then(Value::as_array).is_some_and(|e| e.contains(&Value::Null))
            || rules.get("const").is_some_and(Value::is_null)
            || (types.is_empty() && !["anyOf", "oneOf", "allOf", "enum", "const", "properties"].iter().any(|k| rules.contains_key(*k)))
    }

    fn takes_text(&self, schema: &Value) -> bool {
        self.resolve(schema).as_object().is_some_and(|rules| types(rules).contains(&"string"))
    }

    /// The values of an enum of texts; None: it is something else.
    fn names(&self, schema: &Value) -> Option<Vec<String>> {
        let schema = self.resolve(schema);
        if let Some(c) = schema.get("const") {
            return c.as_str().map(|s| vec![s.to_string()]);
        }
        if let Some(all) = schema.get("enum").and_then(Value::as_array) {
            return Some(all.iter().filter_map(Value::as_str).map(String::from).collect());
        }
        let branches = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        let mut out = vec![];
        for b in branches.iter().filter(|b| self.resolve(b).get("type").and_then(Value::as_str) != Some("null")) {
            out.extend(self.names(b)?);
        }
        Some(out)
    }

    fn one_of(&mut self, node: &Node, names: &[String]) -> Option<Value> {
        let Content::Scalar(s) = &node.content else {
            return self.wrong(node, &format!("one of {}", list(names)));
        };
        if !names.contains(&s.text) {
            let near = did_you_mean(&s.text, names.iter().map(String::as_str))
                .or_else(|| names.iter().find(|n| snake_case(n) == snake_case(&s.text)).cloned())
                .or_else(|| {
                    let mut longer = names.iter().filter(|n| n.to_lowercase().starts_with(&s.text.to_lowercase()));
                    longer.next().filter(|_| s.text.len() > 1 && longer.next().is_none()).cloned()
                });
            self.found.push(
                Found::error("unknown-value", node.span, format!("unknown value `{}`", s.text))
                    .suggest(near.clone())
                    .sure(&s.text, names.iter().map(String::as_str))
                    .hint(format!("possible values are {}", list(names))),
            );
            // Read as what was likely meant, so that what hangs on it is looked at too.
            return near.map(Value::String);
        }
        Some(Value::String(s.text.clone()))
    }

    fn branches(&mut self, node: &Node, rules: &Map<String, Value>, branches: &[Value], owner: Span) -> Option<Value> {
        let merged: Vec<Cow<Value>> = branches
            .iter()
            .filter(|b| self.resolve(b).get("type").and_then(Value::as_str) != Some("null"))
            .map(|b| {
                let resolved = self.resolve(b);
                if rules.contains_key("properties") { Cow::Owned(Value::Object(merge(rules, resolved))) } else { Cow::Borrowed(resolved) }
            })
            .collect();
        if let [only] = &merged[..] {
            return self.value(node, only, owner);
        }
        if let Some(value) = self.tagged(node, &merged, owner) {
            return value;
        }
        let mut fitting: Vec<&Value> = merged.iter().map(|s| &**s).filter(|s| self.fits(node, s)).collect();
        if matches!(&node.content, Content::Scalar(s) if s.variable) && fitting.iter().any(|s| self.takes_text(s)) {
            // A text stays one where one is wanted.
            fitting.retain(|s| self.takes_text(s));
        }
        match fitting[..] {
            [] => {
                let names: Vec<String> = merged.iter().filter_map(|s| self.names(s)).flatten().collect();
                if !names.is_empty() && matches!(node.content, Content::Scalar(_)) {
                    return self.one_of(node, &names);
                }
                let mut wanted: Vec<&str> = merged.iter().flat_map(|s| s.as_object().map(types).unwrap_or_default()).map(noun).collect();
                wanted.dedup();
                self.wrong(node, &wanted.join(" or "))
            }
            [only] => self.value(node, only, owner),
            _ => {
                // The first without problems, else the one with fewest.
                let mut best: Option<(Option<Value>, Checker)> = None;
                for schema in fitting {
                    if self.depth > 8 {
                        break;
                    }
                    let fresh = Checker::new(self.sources, self.root, self.fill);
                    let mut trial = Checker { depth: self.depth + 1, path: self.path.clone(), ..fresh };
                    let value = trial.value(node, schema, owner);
                    if best.as_ref().is_none_or(|(_, b)| trial.found.len() < b.found.len()) {
                        best = Some((value, trial));
                    }
                }
                let Some((value, trial)) = best else { return Some(free(node)) };
                self.found.extend(trial.found);
                self.secrets.extend(trial.secrets);
                self.paths.extend(trial.paths);
                self.addresses.extend(trial.addresses);
                self.properties.extend(trial.properties);
                self.bad |= trial.bad;
                self.lost |= trial.lost;
                self.filled.extend(trial.filled);
                value
            }
        }
    }

    /// Objects told apart by a key with a constant: `type: tumbling`.
    fn tagged(&mut self, node: &Node, branches: &[Cow<Value>], owner: Span) -> Option<Option<Value>> {
        let constant = |b: &Value, tag: &str| b.get("properties")?.get(tag)?.get("const")?.as_str().map(String::from);
        let first = branches.first()?.get("properties")?.as_object()?;
        let tag = first.keys().find(|k| branches.iter().all(|b| constant(b, k).is_some()))?;
        let names: Vec<String> = branches.iter().filter_map(|b| constant(b, tag)).collect();
        if !matches!(node.content, Content::Map(_)) {
            return Some(self.wrong(node, &format!("a map with `{tag}`")));
        }
        let Some(chosen) = node.get(tag) else {
            let found = Found::error("missing-key", owner, format!("the key `{tag}` is missing"));
            self.found.push(found.hint(format!("possible values are {}", list(&names))));
            return Some(None);
        };
        if chosen.is_bad() {
            self.bad = true;
            return Some(None);
        }
        let branch = chosen.text().and_then(|t| names.iter().position(|n| n == t));
        match branch {
            Some(i) => Some(self.value(node, &branches[i], owner)),
            None => {
                self.one_of(chosen, &names);
                Some(None)
            }
        }
    }

    /// Whether the value's kind is the schema's.
    fn fits(&self, node: &Node, schema: &Value) -> bool {
        let schema = self.resolve(schema);
        let Some(rules) = schema.as_object() else { return true };
        if let Some(inner) = rules.get("oneOf").or_else(|| rules.get("anyOf")).and_then(Value::as_array) {
            return inner.iter().any(|s| self.fits(node, s));
        }
        if let Some(names) = self.names(schema) {
            return node.text().is_some_and(|t| names.iter().any(|n| n == t));
        }
        let types = types(rules);
        if types.is_empty() {
            return !rules.contains_key("properties") || matches!(node.content, Content::Map(_));
        }
        types.iter().any(|t| match (&node.content, *t) {
            (Content::Map(_), "object") | (Content::Seq(_), "array") | (Content::Scalar(_), "string") | (Content::Null, "null") => true,
            (Content::Scalar(s), "integer" | "number") => scalar::unquoted(s).is_number(),
            (Content::Scalar(s), "boolean") => scalar::unquoted(s).is_boolean(),
            _ => false,
        })
    }

    fn object(&mut self, node: &Node, rules: &Map<String, Value>, owner: Span) -> Option<Value> {
        let empty = Map::new();
        let properties = rules.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let mut out = Map::new();
        match &node.content {
            Content::Map(_) | Content::Null => {}
            _ => return self.wrong(node, "a map"),
        }
        let mut whole = true;
        let hole = self.sources.has_hole(node.span);
        self.bad |= hole;
        let mut seen: Vec<(&str, Span)> = vec![];
        // A required key that is there with a slip of the pen is told once.
        let mut meant: Vec<&str> = vec![];
        for e in node.entries() {
            let (errors, told) = (self.errors(), self.filled.len());
            self.path.push(snake_case(&e.key));
            let name = properties.get_key_value(&e.key).or_else(|| properties.get_key_value(&snake_case(&e.key)));
            if let Some((name, schema)) = name {
                if let Some((_, first)) = seen.iter().find(|(n, _)| n == name) {
                    let found = Found::error("duplicate-key", e.key_span, format!("the key `{name}` stands twice in one map"));
                    self.found.push(found.second(*first, "first defined here"));
                    self.path.pop();
                    continue;
                }
                seen.push((name, e.key_span));
                // An optional key that is written without a value is left out.
                if matches!(e.value.content, Content::Null)
                    && !required(rules).any(|r| r == name)
                    && !self.takes_map(schema)
                    && !self.null_is_a_word(&e.value, schema)
                {
                    self.path.pop();
                    continue;
                }
                let must = required(rules).any(|r| r == name);
                match self.value(&e.value, schema, e.key_span).or_else(|| self.filler(schema, must)) {
                    Some(v) => drop(out.insert(name.clone(), v)),
                    None => whole &= !must,
                }
            } else {
                match rules.get("additionalProperties").or_else(|| rules.get("unevaluatedProperties")) {
                    Some(extra) if extra.is_object() => {
                        if let Some(v) = self.value(&e.value, extra, e.key_span).or_else(|| self.filler(extra, true)) {
                            out.insert(e.key.clone(), v);
                        }
                    }
                    Some(Value::Bool(true)) => {
                        out.insert(e.key.clone(), self.free(&e.value));
                    }
                    None if properties.is_empty() => {
                        out.insert(e.key.clone(), self.free(&e.value));
                    }
                    _ => {
                        let mut found = unknown_key(e, properties.keys().map(String::as_str));
                        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
                        let near = found.suggestion.as_ref().filter(|s| node.entry(s).is_none()).and_then(|s| properties.get_key_value(s));
                        self.found.push(found);
                        // Read as what was likely meant, so that its value is looked at too.
                        if let Some((name, schema)) = near {
                            meant.push(name);
                            let before = self.found.len();
                            if let Some(v) = self.value(&e.value, schema, e.key_span).or_else(|| self.filler(schema, true)) {
                                out.insert(name.clone(), v);
                            }
                            // A value that does not fit says that another key was meant.
                            if matches!(e.value.content, Content::Scalar(_)) && !required(rules).any(|r| r == name) {
                                self.found.truncate(before);
                            }
                            if let Some(last) = self.path.last_mut() {
                                *last = name.clone();
                            }
                        } else {
                            self.lost |= !is_amount(&e.value);
                        }
                    }
                }
            }
            if self.errors() > errors && self.filled.len() == told {
                self.filled.push(self.path.clone());
            }
            self.path.pop();
        }
        for name in required(rules) {
            if seen.iter().any(|(n, _)| *n == name) {
                continue;
            }
            let told = meant.contains(&name);
            if !out.contains_key(name) {
                match properties.get(name).filter(|_| !hole).and_then(|s| self.filler(s, true)) {
                    Some(v) => {
                        self.filled.push(self.path.iter().cloned().chain([name.to_string()]).collect());
                        out.insert(name.to_string(), v);
                    }
                    None => whole = false,
                }
            }
            if !told && !hole {
                let mut found = Found::error("missing-key", owner, format!("the key `{name}` is missing"));
                if let Some(d) = properties.get(name).and_then(|p| p.get("description")).and_then(Value::as_str) {
                    found = found.hint(format!("{name}: {}", first_sentence(d)));
                }
                self.found.push(found);
            }
        }
        whole.then_some(Value::Object(out))
    }

    /// `on_missing: null`, where `null` is one of the words that may stand there.
    fn null_is_a_word(&self, node: &Node, schema: &Value) -> bool {
        matches!(node.content, Content::Null)
            && self.sources.slice(node.span) == "null"
            && self.names(schema).is_some_and(|names| names.iter().any(|n| n == "null"))
    }

    fn takes_map(&self, schema: &Value) -> bool {
        let schema = self.resolve(schema);
        schema.as_object().is_some_and(|r| types(r).contains(&"object"))
    }

    fn array(&mut self, node: &Node, rules: &Map<String, Value>) -> Option<Value> {
        let Content::Seq(items) = &node.content else { return self.wrong(node, "a list") };
        let tuple = rules.get("prefixItems").and_then(Value::as_array);
        let each = rules.get("items").unwrap_or(&Value::Bool(true));
        let hole = self.sources.has_hole(node.span);
        self.bad |= hole;
        let out: Vec<Value> =
            items.iter().enumerate().filter_map(|(i, n)| self.item(n, tuple.and_then(|t| t.get(i)).unwrap_or(each))).collect();
        let bound = |key: &str| rules.get(key).and_then(Value::as_u64);
        let count = items.len() as u64;
        let before = self.errors();
        if let Some(min) = bound("minItems").filter(|m| count < *m && !hole) {
            self.found.push(Found::error("out-of-range", node.span, format!("{count} items where at least {min} are needed")));
        }
        if let Some(max) = bound("maxItems").filter(|m| count > *m) {
            self.found.push(Found::error("out-of-range", node.span, format!("{count} items where at most {max} are allowed")));
        }
        let whole = self.errors() == before && (tuple.is_none() || out.len() == items.len());
        whole.then_some(Value::Array(out))
    }

    fn item(&mut self, node: &Node, schema: &Value) -> Option<Value> {
        let value = self.value(node, schema, node.span);
        self.lost |= value.is_none();
        value
    }

    fn errors(&self) -> usize {
        self.found.iter().filter(|f| f.severity == Severity::Error).count()
    }

    /// A value that no schema describes: what it means hangs on its spelling alone.
    fn free(&mut self, node: &Node) -> Value {
        match &node.content {
            Content::Scalar(s) if s.plain && !s.from_outside() => self.found.extend(odd_scalar(node, &s.text)),
            Content::Seq(items) => items.iter().for_each(|n| drop(self.free(n))),
            Content::Map(entries) => entries.iter().for_each(|e| drop(self.free(&e.value))),
            _ => {}
        }
        free(node)
    }

    fn wrong(&mut self, node: &Node, wanted: &str) -> Option<Value> {
        let mut found = Found::error("wrong-type", node.span, format!("expected {wanted}, found {}", node.kind()));
        if let Content::Scalar(s) = &node.content
            && !s.plain
            && (wanted.contains("number") || wanted.contains("true"))
            && !scalar::core(&s.text).is_string()
        {
            found = found
                .hint("take the quotes away: a quoted value is a text")
                .suggest(Some(s.text.clone()))
                .fix(vec![(node.span, s.text.clone())]);
        }
        if let Content::Scalar(s) = &node.content
            && s.plain
            && wanted == "a map"
        {
            found = match s.text.split_once(':') {
                Some((key, value)) if !key.contains(' ') && !value.is_empty() => {
                    found.hint("a space is missing behind the colon").suggest(Some(format!("{key}: {}", value.trim_start())))
                }
                _ => match s.text.split_once(' ') {
                    Some((key, value)) => found.hint("a map is written `key: value`").suggest(Some(format!("{key}: {value}"))),
                    None => found,
                },
            };
        }
        if matches!(node.content, Content::Map(_) | Content::Seq(_)) && self.sources.slice(node.span).contains('\n') {
            found.span.end = found.span.start + self.sources.slice(node.span).lines().next().map_or(0, |l| l.trim_end().len());
        }
        self.found.push(found);
        None
    }
}

fn types(rules: &Map<String, Value>) -> Vec<&str> {
    match rules.get("type") {
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(a)) => a.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

fn required(rules: &Map<String, Value>) -> impl Iterator<Item = &str> {
    rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn noun(ty: &str) -> &str {
    match ty {
        "object" => "a map",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "nothing",
    }
}

fn merge(base: &Map<String, Value>, more: &Value) -> Map<String, Value> {
    let mut out = base.clone();
    out.remove("oneOf");
    out.remove("anyOf");
    for (key, value) in more.as_object().into_iter().flatten() {
        match (out.get_mut(key), value) {
            (Some(Value::Object(have)), Value::Object(add)) => have.extend(add.clone()),
            (Some(Value::Array(have)), Value::Array(add)) => have.extend(add.iter().cloned()),
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    out
}

/// YAML without a schema.
fn free(node: &Node) -> Value {
    match &node.content {
        Content::Null | Content::Bad => Value::Null,
        Content::Scalar(s) => scalar::resolve(s),
        Content::Seq(s) => Value::Array(s.iter().map(free).collect()),
        Content::Map(m) => Value::Object(m.iter().map(|e| (e.key.clone(), free(&e.value))).collect()),
    }
}

pub(crate) fn to_json(node: &Node) -> Value {
    free(node)
}

pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", ")
}

pub(crate) fn first_sentence(text: &str) -> String {
    let one = text.split("\n\n").next().unwrap_or("").replace('\n', " ");
    match one.find(". ") {
        Some(i) => one[..i].to_string(),
        None => one.trim_end_matches('.').to_string(),
    }
}
