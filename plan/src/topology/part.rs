//! A part that the topology names: its keys and its config checked, and the part made.

use super::first_line;
use super::form::{mend, text, with_entries};
use crate::check::{check, check_filling, list, locate};
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::spelling::{self, unknown_key};
use crate::yaml::{Content, Entry, Node, snake_case};
use millrace_sdk::operator::OperatorSpec;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Kind, Make, Part, Problem, Severity, SinkSpec, SourceSpec, StoreSpec};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Problems that a part tells of the rows that come in: they mean nothing where these are not known.
const ABOUT_ROWS: &[&str] = &[
    "columns-needed",
    "dedup-without-key",
    "different-columns",
    "field-clash",
    "invalid-default",
    "key-not-scalar",
    "keys-differ",
    "not-a-field",
    "not-a-retry-stream",
    "retry-without-time",
    "two-open-schemas",
    "unknown-column",
    "unknown-field",
    "useless-keyby",
    "window-without-key",
    "wrong-type",
];
/// Problems with how keys go together: they mean nothing where one of them is not what was written.
const ABOUT_OTHERS: &[&str] = &[
    "invalid-config",
    "invalid-format",
    "key-without-effect",
    "missing-fields",
    "missing-key",
    "missing-template",
    "nothing-to-do",
    "useless-columns",
    "useless-key",
    "useless-template",
];
const WIRING: &[&str] = &["name", "input", "left", "right", "retry"];

/// A part that the topology names.
pub(crate) struct Use {
    pub part: Option<&'static Part>,
    pub type_span: Span,
    pub config: Node,
    pub json: Value,
    pub made: Option<Made>,
    /// Its config has problems that were told, and names of fields may have been lost: what follows from them is not told.
    pub tainted: bool,
    /// Keys of its config with values that were left out or filled in: what does not fit them is not told.
    pub filled: Vec<Vec<String>>,
    pub parallelism: Option<usize>,
    /// The map that it stands in.
    pub node: Node,
}

pub(crate) enum Made {
    Source(Box<dyn SourceSpec>),
    Operator(Box<dyn OperatorSpec>),
    Sink(Box<dyn SinkSpec>),
    Store(Box<dyn StoreSpec>),
}

impl Use {
    pub fn operator(&self) -> Option<&dyn OperatorSpec> {
        match &self.made {
            Some(Made::Operator(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn source(&self) -> Option<&dyn SourceSpec> {
        match &self.made {
            Some(Made::Source(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn sink(&self) -> Option<&dyn SinkSpec> {
        match &self.made {
            Some(Made::Sink(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn store(&self) -> Option<&dyn StoreSpec> {
        match &self.made {
            Some(Made::Store(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn part_name(&self) -> &'static str {
        self.part.map_or("", |p| p.name)
    }

    /// Whether a problem is one still where values of the config were filled in.
    fn stands(&self, p: &Problem) -> bool {
        let keys: Vec<&str> =
            p.place.path.iter().filter_map(|s| if let millrace_sdk::Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
        let touches = |filled: &Vec<String>| keys.iter().zip(filled).all(|(k, f)| *k == f);
        // A type within `fields` that is not what was written changes nothing for the keys beside it.
        let whole = self.filled.iter().any(|f| f.len() < 2);
        !(whole && ABOUT_OTHERS.contains(&p.id)) && !self.filled.iter().any(touches)
    }

    /// Tells a part's problems. `only_inner`: what rows come in is not known, so only what is wrong with the config itself.
    pub fn tell(&self, report: &mut Report, problems: Vec<Problem>, only_inner: bool) {
        for p in problems {
            if only_inner && p.place.range.is_none() && ABOUT_ROWS.contains(&p.id) {
                continue;
            }
            if p.place.range.is_none() && (self.tainted || !self.stands(&p)) {
                continue;
            }
            let span = locate(report, &self.config, self.type_span, &p.place);
            // What is wrong with a value was told when it was read.
            if report.found.iter().any(|f| f.span == span && f.severity == Severity::Error && f.id != p.id) {
                continue;
            }
            let found = Found { severity: p.severity, hint: p.hint, suggestion: p.suggestion, ..Found::error(p.id, span, p.message) };
            report.push(found);
        }
    }
}

impl Use {
    pub(super) fn broken(span: Span) -> Use {
        Use {
            part: None,
            type_span: span,
            config: Node::bad(span),
            json: Value::Null,
            made: None,
            tainted: true,
            filled: vec![],
            parallelism: None,
            node: Node::bad(span),
        }
    }
}

/// A part's schema. Made once in a process: linting many files asks for few schemas often.
pub(crate) fn schema_of(part: &'static Part) -> &'static Value {
    static MADE: LazyLock<Mutex<HashMap<(Kind, &'static str), &'static Value>>> = LazyLock::new(Default::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((part.kind(), part.name)).or_insert_with(|| Box::leak(Box::new((part.schema)().to_value())))
}

/// Reads `{type, config}` and what may stand beside them, checks the config and makes the part.
pub(crate) fn read_use(report: &mut Report, node: &Node, kind: Kind, siblings: &[&str]) -> Use {
    if node.is_bad() {
        return Use::broken(node.span);
    }
    if !matches!(node.content, Content::Map(_)) {
        let span = first_line(report, node.span);
        let mut found = Found::error("wrong-type", span, format!("expected {} with `type` and `config`, found {}", a(kind), node.kind()));
        if let Some(t) = node.text() {
            found = found.hint(format!("write `type: {t}`"));
        }
        report.push(found);
        return Use::broken(span);
    }
    // Keys that are there with a slip of the pen are told once, below, and read as they were likely meant.
    let allowed: Vec<&str> = ["type", "config"].iter().chain(siblings).copied().collect();
    let mut unknown: Vec<(usize, Found)> = vec![];
    let mut read = Cow::Borrowed(node);
    for (i, e) in node.entries().iter().enumerate().filter(|(_, e)| !allowed.contains(&e.key.as_str())) {
        let mut found = unknown_key(e, allowed.iter().copied());
        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
        mend(&mut read, i, &found);
        unknown.push((i, found));
    }
    let original = node;
    let node = &*read;
    let mut out = Use { node: node.clone(), ..Use::broken(first_line(report, node.span)) };
    let type_name = match node.entry("type") {
        None if report.sources.has_hole(original.span) => None,
        None => {
            report.push(Found::error("missing-key", out.type_span, format!("{} without `type`", a(kind))));
            None
        }
        Some(e) => {
            out.type_span = e.value.span;
            if matches!(e.value.content, Content::Null) {
                out.type_span = if e.value.span.start == e.value.span.end { e.key_span } else { e.value.span };
            }
            // The sink `Null` is spelled like YAML's null.
            match report.sources.slice(e.value.span) {
                null @ "Null" => Some(null.to_string()),
                "null" | "NULL" if kind == Kind::Sink => {
                    let found = Found::error("unknown-part", out.type_span, "`null` is nothing in YAML: the sink is called `Null`");
                    report.push(Found { sure: true, ..found.suggest(Some("\"Null\"".into())) });
                    Some("Null".into())
                }
                _ => text(report, &e.value, "a type"),
            }
        }
    };
    out.part = type_name.as_deref().and_then(|n| Part::find(kind, n));
    let mut guessed = false;
    if out.part.is_none()
        && let Some(name) = &type_name
    {
        // Read as what was surely meant, so that its config is looked at too.
        let found = unknown_part(kind, name, out.type_span);
        out.part = found.suggestion.as_deref().filter(|_| found.sure).and_then(|n| Part::find(kind, n));
        guessed = out.part.is_some();
        report.push(found);
    }
    let schema = out.part.map(schema_of);
    let mut inside: Vec<Entry> = vec![];
    let properties: Vec<&str> =
        schema.iter().filter_map(|s| s.get("properties")?.as_object()).flat_map(|p| p.keys().map(String::as_str)).collect();
    for (i, mut found) in unknown {
        let key = original.entries()[i].key.as_str();
        if properties.contains(&key) || properties.contains(&snake_case(key).as_str()) {
            found = found.suggest(None).hint(format!("`{key}` belongs under `config`"));
            inside.push(original.entries()[i].clone());
        } else if WIRING.contains(&key) {
            found = found.suggest(None).hint(format!("{} here is not wired by `{key}`", a(kind)));
        }
        report.push(found);
    }
    out.parallelism = node.get("parallelism").filter(|_| siblings.contains(&"parallelism")).and_then(|n| {
        let schema = serde_json::json!({"type": "integer", "minimum": 1, "maximum": 1024});
        let checked = check(&report.sources, n, &schema, n.span);
        let ok = checked.found.iter().all(|f| f.severity != Severity::Error);
        report.found.extend(checked.found);
        checked.value.and_then(|v| v.as_u64()).filter(|_| ok).map(|v| v as usize)
    });
    let owner =
        node.entry("config").map_or(out.type_span, |e| if matches!(e.value.content, Content::Null) { out.type_span } else { e.key_span });
    let config = node.get("config").cloned().unwrap_or_else(|| Node::null(out.type_span));
    // They are read as if they stood there.
    inside.retain(|e| config.entry(&e.key).is_none());
    out.config = with_entries(&config, inside).into_owned();
    let Some(part) = out.part else { return out };
    let anything = Value::Bool(true);
    let checked = check_filling(&report.sources, &out.config, schema.unwrap_or(&anything), owner);
    for e in out.config.entries().iter().filter(|e| WIRING.contains(&e.key.as_str()) && !properties.contains(&e.key.as_str())) {
        if let Some(f) = report_hint(&checked.found, e.key_span) {
            report.push(Found { hint: Some(format!("`{}` stands beside `type`, not in `config`", e.key)), suggestion: None, ..f });
        }
    }
    let wiring_told = |f: &Found| {
        out.config
            .entries()
            .iter()
            .any(|e| e.key_span == f.span && WIRING.contains(&e.key.as_str()) && !properties.contains(&e.key.as_str()))
    };
    // A config that does not fit says that another part was meant.
    let misses = guessed && checked.found.iter().any(|f| f.severity == Severity::Error);
    out.filled = checked.filled;
    out.tainted = misses || checked.lost || checked.bad || report.sources.has_hole(node.span);
    report.found.extend(checked.found.into_iter().filter(|f| !wiring_told(f)));
    report.paths.extend(checked.paths);
    report.addresses.extend(checked.addresses);
    report.properties.extend(checked.properties);
    for s in checked.secrets {
        report.sources.hide(s);
    }
    // A required key does not fit: the part cannot be made.
    let Some(json) = checked.value else {
        out.tainted = true;
        return out;
    };
    out.json = if json.is_null() { Value::Object(Default::default()) } else { json };
    let json = out.json.clone();
    let made = match part.make {
        Make::Source(f) => f(json).map(Made::Source),
        Make::Operator(f) => f(json).map(Made::Operator),
        Make::Sink(f) => f(json).map(Made::Sink),
        Make::Store(f) => f(json).map(Made::Store),
    };
    match made {
        Ok(made) => out.made = Some(made),
        Err(problems) => {
            if !out.tainted {
                out.tell(report, problems, false);
            }
            out.tainted = true;
        }
    }
    out
}

fn a(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "a source",
        Kind::Operator => "an operator",
        Kind::Sink => "a sink",
        Kind::Store => "a store",
    }
}

fn report_hint(found: &[Found], span: Span) -> Option<Found> {
    found.iter().find(|f| f.id == "unknown-key" && f.span == span).cloned()
}

fn unknown_part(kind: Kind, name: &str, span: Span) -> Found {
    let names: Vec<&str> = Part::all()
        .into_iter()
        .filter(|p| p.kind() == kind)
        .flat_map(|p| std::iter::once(p.name).chain(p.aliases.iter().copied()))
        .collect();
    let near = did_you_mean(name, names.iter().copied()).or_else(|| spelling::part_elsewhere(kind, name).map(String::from));
    let mut found =
        Found::error("unknown-part", span, format!("unknown {} `{name}`", kind.name())).sure(name, names.iter().copied()).suggest(near);
    let others: Vec<&str> = [Kind::Source, Kind::Operator, Kind::Sink, Kind::Store]
        .into_iter()
        .filter(|k| *k != kind && Part::find(*k, name).is_some())
        .map(a)
        .collect();
    found = match others[..] {
        [] => found.hint(format!("`millrace list` names all parts; {}s are {}", kind.name(), list(&names))),
        _ => found.hint(format!("`{name}` is {}, not {}", others.join(" and "), a(kind))),
    };
    found
}
