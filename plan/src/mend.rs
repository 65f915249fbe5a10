//! What a part would give if its problems were mended: so that one slip does not hide what is wrong behind it.
//!
//! A misspelt name is read as the one that was suggested; an expression that cannot be read gives a value of unknown type. What a part
//! gives then is told to nobody and never runs: its readers are held against it.

use crate::topology::Use;
use millrace_sdk::{Bind, Bound, Edge, Field, Make, Problem, Schema, SchemaRef, Severity, Step, Type};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often what was mended is looked at anew: a mended name can bring other problems to light.
const ROUNDS: usize = 4;

/// What a part would give, and what else is wrong with it.
#[derive(Default)]
pub(crate) struct Mended {
    pub outputs: Option<Vec<Edge>>,
    /// Problems that came to light when others were mended.
    pub more: Vec<Problem>,
}

/// What an operator or a sink would be without the problems that were found when it was bound.
pub(crate) fn mended(part: &Use, problems: &[Problem], bind: &Bind<'_>) -> Mended {
    let mut out = Mended::default();
    let Some(make) = part.part.map(|p| p.make) else { return out };
    // None: it cannot be made so.
    let bound = |json: Value| -> Option<Result<Option<Bound>, Vec<Problem>>> {
        match make {
            Make::Operator(make) => Some(make(json).ok()?.bind(bind).map(Some)),
            Make::Sink(make) => Some(make(json).ok()?.bind(bind).map(|_| None)),
            _ => None,
        }
    };
    let mut json = part.json.clone();
    let mut unsure: BTreeSet<String> = BTreeSet::new();
    let mut touched: Vec<Vec<Step>> = vec![];
    let mut problems = problems.to_vec();
    for round in 0..ROUNDS {
        // Of several places in one list or text the last one first, so that the others stay where they are.
        problems.sort_by_key(|p| {
            let index = p.place.path.iter().rev().find_map(|s| if let Step::Index(n) = s { Some(*n) } else { None });
            std::cmp::Reverse((index, p.place.range.as_ref().map(|r| r.start)))
        });
        let mut mended = false;
        for p in problems.iter().filter(|p| p.severity == Severity::Error) {
            mended |= mend(&mut json, p, round > 0, bind, &mut unsure);
            touched.push(p.place.path.iter().take_while(|s| matches!(s, Step::Key(_))).cloned().collect());
        }
        if !mended && !parse_only(part, &mut json) {
            return out;
        }
        match bound(json.clone()) {
            None => return out,
            Some(Ok(bound)) => {
                out.outputs = bound.map(|b| loosened(b, &unsure));
                return out;
            }
            Some(Err(again)) => problems = again,
        }
        let fresh = |p: &&Problem| p.place.range.is_some() || !p.place.path.is_empty();
        let own =
            |p: &&Problem| p.place.store.is_some() || !touched.iter().any(|t| p.place.path.starts_with(t) || t.starts_with(&p.place.path));
        out.more.extend(problems.iter().filter(fresh).filter(own).cloned());
    }
    out
}

/// The fields that a parser declares are there whatever else its config says.
fn parse_only(part: &Use, json: &mut Value) -> bool {
    let Some(config) = json.as_object_mut().filter(|c| part.part_name() == "StringToMap" && c.contains_key("fields")) else { return false };
    let before = config.len();
    config.retain(|key, _| matches!(key.as_str(), "field" | "fields"));
    config.len() < before
}

/// Mends one problem in a config. `hard`: a suggestion was of no use.
fn mend(json: &mut Value, problem: &Problem, hard: bool, bind: &Bind<'_>, unsure: &mut BTreeSet<String>) -> bool {
    let path = &problem.place.path;
    let keys: Vec<&str> = path.iter().filter_map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
    let Some((&section, under)) = keys.split_first() else { return false };
    let side = usize::from(section == "right_fields" || under.first() == Some(&"right"));
    let any_field = || {
        let input = bind.inputs.get(side).or(bind.inputs.first())?;
        input.schema.visible().next().map(|(_, f)| f.name.to_string())
    };
    if problem.place.key {
        let Some((Step::Key(key), map)) = path.split_last() else { return false };
        let Some(entries) = at(json, map).and_then(Value::as_object_mut) else { return false };
        let Some(value) = entries.remove(key) else { return false };
        if let Some(name) = problem.suggestion.as_ref().filter(|n| !entries.contains_key(*n)) {
            entries.insert(name.clone(), value);
        }
        return true;
    }
    if problem.place.store.is_some() || (problem.id == "store-without-key" && json.get("fallback").is_some()) {
        // What comes out hangs on no key.
        let Some(config) = json.as_object_mut() else { return false };
        let keys = ["fallback", "check_interval", "right_time", "retry"];
        return keys.into_iter().filter(|key| config.remove(*key).is_some()).count() > 0
            || config.insert("key".into(), "x".into()).is_none();
    }
    if problem.id == "store-without-key" {
        return json.as_object_mut().is_some_and(|config| config.insert("key".into(), "x".into()).is_none());
    }
    let near = problem.suggestion.is_some() && !hard;
    if !near
        && let Some((Step::Index(n), list)) = path.split_last()
        && let Some(Value::Array(all)) = at(json, list)
        && (all.len() > 1 || section != "keys")
        && *n < all.len()
    {
        all.remove(*n);
        return true;
    }
    let Some(value) = at(json, path) else { return false };
    if near && let (Some(suggestion), Value::String(text)) = (&problem.suggestion, &*value) {
        let mut new = text.clone();
        match &problem.place.range {
            Some(r) if text.is_char_boundary(r.start) && text.is_char_boundary(r.end) && r.end <= text.len() && r.start <= r.end => {
                new.replace_range(r.clone(), suggestion)
            }
            Some(_) => return false,
            None => new = suggestion.clone(),
        }
        *value = Value::String(new);
        return true;
    }
    // The output field that this is about has a value of unknown type.
    let named = under.first().filter(|_| ["set", "fields", "aggregates", "right_fields"].contains(&section));
    unsure.extend(named.map(|n| n.to_string()));
    let neutral = match (section, under, &*value) {
        ("where" | "ports", ..) => "true".to_string(),
        ("aggregates", ..) => "count(*)".into(),
        ("set", ..) | (_, [_, "expr"], _) => "null".into(),
        (_, [_, "template"], _) => "x".into(),
        ("right_fields" | "keys" | "keep" | "field" | "drop" | "columns", _, Value::String(_)) => match any_field() {
            Some(name) => name,
            None => return false,
        },
        ("fields", _, Value::String(text)) if text.contains("{{") => "x".into(),
        ("fields", _, Value::String(_)) => match any_field() {
            Some(name) => name,
            None => return false,
        },
        _ => return false,
    };
    if *value == Value::String(neutral.clone()) {
        return false;
    }
    *value = Value::String(neutral);
    true
}

fn at<'v>(mut json: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    for step in path {
        json = match step {
            Step::Key(k) => json.get_mut(k)?,
            // `keys: a` is `keys: [a]`.
            Step::Index(0) if json.is_string() => json,
            Step::Index(n) => json.get_mut(*n)?,
        };
    }
    Some(json)
}

/// The outputs, with the types of some fields forgotten.
fn loosened(bound: Bound, unsure: &BTreeSet<String>) -> Vec<Edge> {
    let loose = |schema: &SchemaRef| -> SchemaRef {
        if !schema.fields().iter().any(|f| unsure.contains(&*f.name)) {
            return Arc::clone(schema);
        }
        let visible = schema.fields().len() - usize::from(schema.tail().is_some());
        let fields = schema.fields()[..visible].iter();
        let fields: Vec<Field> =
            fields.map(|f| Field { ty: if unsure.contains(&*f.name) { Type::Any } else { f.ty }, ..f.clone() }).collect();
        if schema.tail().is_some() { Schema::open(fields) } else { Schema::new(fields) }
    };
    bound.outputs.into_iter().map(|e| Edge { schema: loose(&e.schema), ..e }).collect()
}
