//! What the parts' `bind` have in common: names, expressions, templates and types of a config, checked against a schema.

use millrace_expr::{Expr, Template};
use millrace_sdk::config::{ExprText, TemplateText, TypeText};
use millrace_sdk::operator::Env;
use millrace_sdk::{Access, Demand, Edge, Field, Place, Problem, Schema, SchemaRef, Slot, Type};

/// What all outputs want, joined.
pub(crate) fn joined(outputs: &[Demand]) -> Demand {
    let mut all = Demand::none();
    outputs.iter().for_each(|d| all.join(d));
    all
}

pub(crate) fn unknown_field(name: &str, schema: &Schema, place: Place) -> Problem {
    let near = schema.meant(name);
    let known: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
    let problem = Problem::error("unknown-field", place, format!("unknown field `{name}`")).suggest(near);
    match known.len() {
        0 => problem,
        1..=12 => problem.hint(format!("the fields here are {}", known.join(", "))),
        n => problem.hint(format!("the fields here are {} and {} more", known[..12].join(", "), n - 12)),
    }
}

/// Where a name or a path leads.
pub(crate) fn access(name: &str, schema: &Schema, place: Place) -> Result<Access, Problem> {
    schema.resolve(name).ok_or_else(|| unknown_field(name, schema, place))
}

/// The slot of a name that must be a field of its own, not a path into one.
pub(crate) fn slot(name: &str, schema: &Schema, place: Place) -> Result<Slot, Problem> {
    match access(name, schema, place.clone())? {
        Access { slot, rest, .. } if rest.is_empty() => Ok(slot),
        _ => Err(Problem::error("not-a-field", place, format!("`{name}` is not a field of its own here"))
            .hint("declare it where the stream is parsed, or give it a name with Map")),
    }
}

/// The slots of several names; problems go to `problems`. `at` is the place of the list in the config.
pub(crate) fn slots<'a>(
    names: impl IntoIterator<Item = &'a str>,
    schema: &Schema,
    at: &Place,
    one: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Slot> {
    let mut found = vec![];
    for (i, name) in names.into_iter().enumerate() {
        let place = if one { at.clone() } else { at.clone().then(i) };
        match slot(name, schema, place.clone()) {
            Ok(s) if found.contains(&s) => problems.push(Problem::error("named-twice", place, format!("`{name}` is named twice"))),
            Ok(s) => found.push(s),
            Err(p) => problems.push(p),
        }
    }
    found
}

/// The slots of key fields, checked as [`slots`]; a key has at least one field, and none that is a container.
pub(crate) fn key_slots<'a>(
    names: impl IntoIterator<Item = &'a str>,
    schema: &Schema,
    at: &Place,
    one: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Slot> {
    let before = problems.len();
    let found = slots(names, schema, at, one, problems);
    if found.is_empty() && problems.len() == before {
        problems.push(Problem::error("empty-keys", at.clone(), "a key has at least one field"));
    }
    for s in &found {
        let f = schema.field(*s);
        if matches!(f.ty, Type::Map | Type::Array) {
            let message = format!("`{}` is {}: a container is no key", f.name, f.ty);
            problems.push(Problem::error("key-not-scalar", at.clone(), message).hint("key by fields in it"));
        }
    }
    found
}

pub(crate) fn expr(text: &ExprText, schema: &Schema, env: &Env, at: &Place, problems: &mut Vec<Problem>) -> Option<Expr> {
    Expr::compile(text, schema, env).map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(at)))).ok()
}

/// An expression that decides: a boolean.
pub(crate) fn condition(text: &ExprText, schema: &Schema, env: &Env, at: &Place, problems: &mut Vec<Problem>) -> Option<Expr> {
    Expr::condition(text, schema, env).map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(at)))).ok()
}

pub(crate) fn template(text: &TemplateText, schema: &Schema, env: &Env, at: &Place, problems: &mut Vec<Problem>) -> Option<Template> {
    Template::compile(text, schema, env).map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(at)))).ok()
}

/// A store's own key template, over the rows of the part that asks it.
pub(crate) fn store_key(store: &str, text: &str, schema: &Schema, env: &Env, problems: &mut Vec<Problem>) -> Option<Template> {
    let at = Place::at(["key"]).of_store(store);
    Template::compile(text, schema, env).map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(&at)))).ok()
}

pub(crate) fn ty(text: &TypeText, at: &Place, problems: &mut Vec<Problem>) -> Option<Type> {
    let found = Type::parse(text);
    if found.is_none() {
        problems.push(
            Problem::error("unknown-type", at.clone(), format!("unknown type `{}`", &**text))
                .suggest(Type::meant(text))
                .hint(format!("types are {}", Type::NAMES.join(", "))),
        );
    }
    found
}

/// A name that an output field or a port can have: not empty, and without the characters that paths and references use.
pub(crate) fn output_name(name: &str, what: &str, at: &Place, problems: &mut Vec<Problem>) {
    if name.is_empty() || name.chars().any(|c| c.is_control()) {
        problems.push(Problem::error("invalid-name", at.clone().key(), format!("`{name}` is no name for {what}")));
    } else if name.starts_with('_') {
        problems.push(Problem::error(
            "invalid-name",
            at.clone().key(),
            format!("`{name}` is no name for {what}: names with `_` in front are Millrace's own"),
        ));
    }
}

/// The schema of `input` with `added` visible fields behind its own: the tail of an open schema stays last.
pub(crate) fn extended(input: &Schema, added: Vec<Field>) -> SchemaRef {
    let mut fields: Vec<Field> = input.fields().to_vec();
    if input.tail().is_some() {
        fields.pop();
        fields.extend(added);
        Schema::open(fields)
    } else {
        fields.extend(added);
        Schema::new(fields)
    }
}

/// An edge with another schema that keeps the key if all its fields are still there unchanged.
pub(crate) fn edge_keeping_key(input: &Edge, schema: SchemaRef, kept: impl Fn(&str) -> bool) -> Edge {
    let key = input.key.clone().filter(|k| k.iter().all(|name| kept(name)));
    Edge { schema, key }
}
