use crate::string_to_map::json::JsonPlan;
use crate::string_to_map::text::TextPlan;
use millrace_formats::text::FormatError;
use millrace_sdk as sdk;
use schemars::JsonSchema;
use sdk::config::{FieldName, OneOrMany, Ordered, PathText, TypeText};
use sdk::operator::Env;
use sdk::problem::did_you_mean;
use sdk::{Bind, Bound, Demand, Edge, Exec, Field, OperatorSpec, Part, Place, Problem, Schema, SchemaRef, Slot, Type};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

mod json;
mod text;

/// Parses a text field into fields: JSON, delimited text, CSV, dissect, key=value, regex, grok, query strings.
///
/// The text is `_value` unless `field` says otherwise, and must be UTF-8. The row that comes out has the parsed fields; beside them
/// stay the row's other fields, and what the source knows (`_topic`, `_offset`, ...) where a later part names it. The parsed
/// field itself goes, unless a later part names it.
///
/// # Fields
/// `fields` (or a file with `schema`) declares names and types. Every record is then held to it, whether somebody reads a field or
/// not: a value that does not convert to its type rejects the record. A text converts to a number, a boolean, a timestamp
/// (ISO 8601) or a container as a cast would; numbers and booleans convert to `string`. With `strict: true` JSON values must be
/// of the JSON kind that belongs to the type, and nothing is converted across kinds.
///
/// Without declared fields, `json`, `key_value` and `query_string` take whatever there is: fields are found by their names when
/// later parts name them, and "all fields" means all members of the record.
///
/// # Formats
/// - `json` (default): the text is one JSON object (RFC 8259; at most 128 levels deep). A declared field may be a path: `client.os`.
///   Numbers stay as they are written. Of equal keys the last one counts. A field that is not there stays missing, or
///   rejects the record with `on_missing: reject`; a JSON `null` is there.
/// - `delimiter`: columns between `delimiter` (one or more characters), named by `fields` in their order. Too few or too many
///   columns reject the record. `quote` turns quoting on.
/// - `csv`: as RFC 4180, columns named by `fields` in their order; `delimiter` is one ASCII character, `,` by default.
/// - `dissect`: `pattern` with `%{name}` between literal text: `%{ip} - [%{time}] "%{method} %{path}"`. `%{?name}` or `%{}` is
///   passed over, `%{+name}` is appended to `name` with the text before it, `%{name->}` also takes the repetitions of what follows it. The
///   last field takes the rest, text before the first field must be there.
/// - `regex`: named groups of `pattern` are the fields (syntax of Rust's regex crate). Anchors as written: without `^` and `$` it
///   may match anywhere.
/// - `grok`: `%{PATTERN:name}` and `%{PATTERN:name:int}` (also `float`, `string`, `boolean`), with the usual pattern library and
///   your own `patterns`.
/// - `key_value`: `a=1 b="x y"`: pairs between `pair_separator` (default a space), keys and values between `key_separator`
///   (default `=`). Values may stand in double quotes, with `\"` and `\\` inside. Of equal keys the last one counts, a pair
///   without key separator has the value "".
/// - `query_string`: `a=1&b=x%20y`: percent escapes and `+` are decoded. A text before a `?` is passed over.
///
/// # Rejected records
/// They leave by `errors` with their original bytes: `invalid-utf8`, `invalid-json`, `not-an-object`, `too-deep`, `wrong-type`,
/// `missing-field`, `column-count`, `invalid-csv`, `no-match`, `bad-quoting`.
///
/// # Example
/// ```yaml
/// streams:
///   clicks:
///     config:
///       source:
///         type: Inline
///         config:
///           lines:
///             - '{"uid":"u1","client":{"os":"ios"},"price":"0.10","ts":1700000000123}'
///             - '{"uid":"u2","price":"dear","ts":1700000000124}'
///       operates:
///         - type: StringToMap
///           config:
///             fields: {uid: string, client.os: string, price: "decimal(18,2)"}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","client.os":"ios","price":0.10}
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StringToMap {
    /// What the text is. Default `json`.
    #[serde(default)]
    format: Format,
    /// The field that holds the text. Default `_value`, the bytes that the source delivered.
    #[serde(default)]
    field: Option<FieldName>,
    /// Names and types of the fields; for `delimiter` and `csv` all columns in their order (there required).
    #[serde(default)]
    fields: Ordered<TypeText>,
    /// A YAML file with the same map under `fields:`, instead of `fields` here.
    #[serde(default)]
    schema: Option<PathText>,
    /// Between columns: for `delimiter` (required) any text, for `csv` one ASCII character (default `,`).
    #[serde(default)]
    delimiter: Option<String>,
    /// Quote character of `delimiter` (default none) and `csv` (default `"`): one ASCII character; doubled inside quotes.
    #[serde(default)]
    quote: Option<String>,
    /// The pattern of `dissect`, `regex` and `grok` (there required).
    #[serde(default)]
    pattern: Option<String>,
    /// More patterns for `grok`, by name.
    #[serde(default)]
    patterns: BTreeMap<String, String>,
    /// Between pairs of `key_value` (default a space) and `query_string` (default `&`).
    #[serde(default)]
    pair_separator: Option<String>,
    /// Between key and value of `key_value` and `query_string`. Default `=`.
    #[serde(default)]
    key_separator: Option<String>,
    /// Texts that mean "no value": a field that is exactly so is null. Default none. Not for `json`.
    #[serde(default)]
    null_values: OneOrMany<String>,
    /// What a declared field that is not there means: `null` (it stays missing; default) or `reject`.
    #[serde(default)]
    on_missing: Option<OnMissing>,
    /// For `json`: reject values of another JSON kind instead of converting them. Default false.
    #[serde(default)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Json,
    Delimiter,
    Csv,
    Dissect,
    KeyValue,
    Regex,
    Grok,
    QueryString,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Delimiter => "delimiter",
            Format::Csv => "csv",
            Format::Dissect => "dissect",
            Format::KeyValue => "key_value",
            Format::Regex => "regex",
            Format::Grok => "grok",
            Format::QueryString => "query_string",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnMissing {
    Null,
    Reject,
}

sdk::inventory::submit! { Part::operator::<StringToMap>("StringToMap", &[]) }

impl OperatorSpec for StringToMap {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let wanted = &outputs[0];
        let mut demand = Demand::of([self.field()]);
        if self.field() == VALUE {
            // Beside the text a source has only what it knows of the record.
            demand.add(wanted.fields.iter().filter(|f| f.starts_with('_')).cloned());
        } else {
            demand.join(wanted);
        }
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let declared = self.declared(bind.env)?;
        let input = &bind.input().schema;
        let Some(from) = input.slot(self.field()) else {
            let place = if self.field.is_some() { Place::at(["field"]) } else { Place::default() };
            let problem = Problem::error("unknown-field", place, format!("the input has no field `{}`", self.field()));
            return Err(vec![problem.suggest(did_you_mean(self.field(), input.names()))]);
        };
        let wanted = &bind.demands[0];
        let (schema, make): (SchemaRef, sdk::operator::MakeOperator) = match self.format {
            Format::Json => {
                self.only_for_text()?;
                let open = declared.is_empty();
                let parsed = if open { Parsed::Open } else { Parsed::Closed(&declared) };
                let layout = Layout::new(input, from, parsed, wanted)?;
                let plan = JsonPlan::new(&layout, from, self.strict, self.on_missing == Some(OnMissing::Reject));
                (layout.schema, Arc::new(move || Box::new(plan.operator())))
            }
            _ => {
                let (layout, plan) = TextPlan::new(self, &declared, input, from, wanted)?;
                (layout.schema, Arc::new(move || Box::new(plan.operator())))
            }
        };
        Ok(Bound::new(vec![Edge::new(schema)], Exec::Stateless(make)))
    }
}

const VALUE: &str = "_value";

/// A file under `schemas/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    fields: Ordered<TypeText>,
    /// For readers of the file.
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

impl StringToMap {
    fn field(&self) -> &str {
        self.field.as_ref().map_or(VALUE, |f| f)
    }

    /// The declared fields, from here or from the file.
    fn declared(&self, env: &Env) -> Result<Vec<(String, Type)>, Vec<Problem>> {
        let (fields, place) = match &self.schema {
            None => (self.fields.clone(), Place::at(["fields"])),
            Some(path) => {
                let place = Place::at(["schema"]);
                if !self.fields.is_empty() {
                    return Err(vec![
                        Problem::error("two-schemas", place, "`fields` and `schema` both declare the fields").hint("keep one of them"),
                    ]);
                }
                let file = env.base_dir.join(&path.0);
                let text = std::fs::read_to_string(&file).map_err(|e| {
                    vec![Problem::error("missing-schema", place.clone(), format!("cannot read the schema `{}`: {e}", path.0))]
                })?;
                let file: SchemaFile = serde_yaml::from_str(&text).map_err(|e| {
                    vec![Problem::error("invalid-schema", place.clone(), format!("the schema `{}` is not one: {e}", path.0))]
                })?;
                (file.fields, place)
            }
        };
        let mut problems = vec![];
        let mut declared: Vec<(String, Type)> = vec![];
        for (name, ty) in fields.iter() {
            let at = if self.schema.is_none() { place.clone().then(name.as_str()) } else { place.clone() };
            match Type::parse(ty) {
                _ if declared.iter().any(|(n, _)| n == name) => {
                    problems.push(Problem::error("field-clash", at.key(), format!("field `{name}` is declared twice")));
                }
                Some(t) => declared.push((name.clone(), t)),
                None => problems.push(
                    Problem::error("unknown-type", at, format!("field `{name}` has the unknown type `{}`", ty.0))
                        .hint(format!("types are {}", Type::NAMES.join(", ")))
                        .suggest(did_you_mean(ty, Type::NAMES.iter().copied())),
                ),
            }
        }
        if problems.is_empty() { Ok(declared) } else { Err(problems) }
    }

    /// Keys that say nothing about JSON.
    fn only_for_text(&self) -> Result<(), Vec<Problem>> {
        let given = [
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
            ("pattern", self.pattern.is_some()),
            ("patterns", !self.patterns.is_empty()),
            ("pair_separator", self.pair_separator.is_some()),
            ("key_separator", self.key_separator.is_some()),
            ("null_values", !self.null_values.as_slice().is_empty()),
        ];
        useless(&given, "json")
    }
}

/// Problems for keys that are given but mean nothing to the format.
fn useless(given: &[(&'static str, bool)], format: &str) -> Result<(), Vec<Problem>> {
    let problem = |key: &'static str| {
        Problem::error("useless-key", Place::at([key]).key(), format!("`{key}` means nothing to format `{format}`"))
            .hint("remove it, or say the `format` that it belongs to")
    };
    let problems: Vec<_> = given.iter().filter(|(_, is)| *is).map(|(key, _)| problem(key)).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn explain(e: FormatError) -> Vec<Problem> {
    let mut place = Place::at([e.key]);
    if let Some(entry) = &e.entry {
        place = place.then(entry.as_str());
    }
    place.range = e.range;
    let first = Problem::error("invalid-format", place, e.message).suggest(e.suggestion);
    std::iter::once(first).chain(e.more.into_iter().flat_map(explain)).collect()
}

/// What the parser gives.
#[derive(Clone, Copy)]
enum Parsed<'a> {
    /// These fields.
    Closed(&'a [(String, Type)]),
    /// Whatever is there.
    Open,
}

/// Where a field of the output comes from.
#[derive(Clone, Debug, PartialEq)]
enum From {
    /// A name or path that the parser finds, held to a type.
    Parsed(Type),
    /// A field of the input row, as it is.
    Kept(Slot),
    /// The parsed object itself.
    Tail,
}

/// The output row: its schema and where each field comes from.
struct Layout {
    schema: SchemaRef,
    from: Vec<From>,
    /// Declared fields that nobody reads: checked, not put out.
    checked: Vec<(String, Type)>,
}

impl Layout {
    fn new(input: &Schema, source: Slot, parsed: Parsed<'_>, wanted: &Demand) -> Result<Layout, Vec<Problem>> {
        let clash = |name: &str| {
            Problem::error("field-clash", Place::default(), format!("the text's field `{name}` is also a field of the row that it is in"))
                .hint("rename one of them with SelectElement before this part")
        };
        let mut fields: Vec<(Field, From)> = vec![];
        let mut checked = vec![];
        let mut problems = vec![];
        // What stays of the input row.
        for (i, f) in input.fields().iter().enumerate() {
            let slot = Slot(i as u16);
            if Some(slot) == input.tail() {
                continue;
            }
            let own = f.hidden || f.name.starts_with('_') || slot == source;
            let parses = matches!(parsed, Parsed::Closed(all) if all.iter().any(|(n, _)| **n == *f.name));
            if parses {
                if !own {
                    problems.push(clash(&f.name));
                }
            } else if wanted.names(&f.name) || (wanted.all && !own) {
                fields.push((Field { hidden: own, ..f.clone() }, From::Kept(slot)));
            }
        }
        let kept = fields.len();
        match parsed {
            Parsed::Closed(declared) => {
                // An unknown name keeps all fields, so that the message about it can tell what there is.
                let full = Schema::new(declared.iter().map(|(n, t)| Field::new(n.as_str(), *t)).collect());
                let unknown = wanted.fields.iter().any(|f| full.resolve(f).is_none() && input.resolve(f).is_none());
                for (name, ty) in declared {
                    if wanted.all || unknown || reads(wanted, name) {
                        fields.push((Field::new(name.as_str(), *ty), From::Parsed(*ty)));
                    } else {
                        checked.push((name.clone(), *ty));
                    }
                }
            }
            Parsed::Open => {
                for path in &wanted.fields {
                    let path = plannable(path);
                    let below = |f: &Field| path.strip_prefix(&*f.name).is_some_and(|r| r.starts_with('.'));
                    let known = fields.iter().enumerate().any(|(i, (f, _))| *f.name == *path || (i < kept && below(f)));
                    if !known && !path.starts_with('_') {
                        fields.push((Field { hidden: wanted.all, ..Field::new(path, Type::Any) }, From::Parsed(Type::Any)));
                    }
                }
            }
        }
        if input.tail().is_some() && matches!(parsed, Parsed::Open) && wanted.all {
            problems.push(
                Problem::error("two-open-schemas", Place::default(), "both the row and the text in it have fields that nobody declares")
                    .hint("declare the text's `fields`"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // The text's fields first, then those that stay.
        fields.rotate_left(kept);
        let (fields, mut from): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let schema = match (parsed, input.tail()) {
            (Parsed::Open, None) if wanted.all => {
                from.push(From::Tail);
                Schema::open(fields)
            }
            (_, Some(tail)) => {
                from.push(From::Kept(tail));
                Schema::open(fields)
            }
            _ => Schema::new(fields),
        };
        Ok(Layout { schema, from, checked })
    }
}

/// Whether `wanted` names the declared field, something below it, or something that it is below.
fn reads(wanted: &Demand, name: &str) -> bool {
    wanted.names(name) || wanted.fields.iter().any(|f| name.strip_prefix(f.as_str()).is_some_and(|r| r.starts_with('.')))
}

/// The part of a path before an array index: objects are parsed by plan, elements of arrays are looked up when they are read.
fn plannable(path: &str) -> &str {
    let mut end = 0;
    for step in path.split('.') {
        if end > 0 && step.bytes().all(|c| c.is_ascii_digit()) {
            return &path[..end - 1];
        }
        end += step.len() + 1;
    }
    path
}

#[cfg(test)]
mod tests;
