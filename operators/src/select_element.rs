use crate::check;
use crate::fit::{Fit, fit};
use crate::select_element::path::{Path, Query};
use millrace_sdk::config::{FieldName, Ordered, TypeText};
use millrace_sdk::operator::Outputs;
use millrace_sdk::{
    Access, Batch, BatchBuilder, Bind, Bound, Demand, Edge, Exec, Field, Operator, OperatorSpec, Part, Place, Problem, Record, Reject,
    Schema, SchemaRef, Slot, Type, Value, convert,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

mod path;

/// Chooses fields: keeps, drops and renames them, gives them types and defaults.
///
/// With `fields`, the row that comes out has exactly these, in this order: a list of names, or a map of new names to old ones. An
/// old name may be a path into a map or an array (`client.os`, `items.0.id`) or a JSONPath (`$.client.os`, `$.items[0].id`).
/// A JSONPath that can find several things (`$.items[*].id`, `$..id`, filters, slices) gives an array of all that it finds.
/// A list entry that is a path names its field as it is written.
///
/// Without `fields` all fields stay but those in `drop`; `rename` gives new names to some of them. Without any config rows pass
/// as they are.
///
/// `types` converts fields as a cast does; what does not convert rejects the row. `defaults` stands in where a field is missing
/// or null. Both go by the new names. Other fields that are not there stay missing.
///
/// A choice that only renames costs nothing. The key of the rows stays if its fields do.
///
/// # Rejected rows
/// `wrong-type`: a value does not convert to its type. `too-deep`: a JSONPath was to search what nests too deep or holds a number beyond a
/// double.
///
/// # Example
/// ```yaml
/// streams:
///   clicks:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"uid":"u1","client":{"os":"ios"},"items":[{"id":7},{"id":9}],"n":"3"}', '{"uid":"u2"}']
///       operates:
///         - type: StringToMap
///         - type: SelectElement
///           config:
///             fields: {user: uid, os: client.os, first: "$.items[0].id", all: "$.items[*].id", n: n}
///             types: {n: bigint}
///             defaults: {os: other}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"user":"u1","os":"ios","first":7,"all":[7,9],"n":3}
/// {"user":"u2","os":"other"}
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectElement {
    /// What stays: a list of names, or a map of new names to names, paths or JSONPaths. Default: everything.
    #[serde(default)]
    fields: Option<Fields>,
    /// Fields to be taken away. Not together with `fields`.
    #[serde(default)]
    drop: Vec<FieldName>,
    /// New names of fields and their present ones; all others keep theirs. Not together with `fields`.
    #[serde(default)]
    rename: Ordered<FieldName>,
    /// Types of fields, by their new names.
    #[serde(default)]
    types: Ordered<TypeText>,
    /// Values of fields that are missing or null, by their new names.
    #[serde(default)]
    defaults: Ordered<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Fields {
    List(Vec<FieldName>),
    Map(Ordered<FieldName>),
}

millrace_sdk::inventory::submit! { Part::operator::<SelectElement>("SelectElement", &[]) }

impl SelectElement {
    /// New names, where they come from, and where in the config that is said.
    fn chosen(&self) -> Option<Vec<(&str, &str, Place)>> {
        Some(match self.fields.as_ref()? {
            Fields::List(names) => names.iter().enumerate().map(|(i, n)| (&**n, &**n, Place::at(["fields"]).then(i))).collect(),
            Fields::Map(all) => all.iter().map(|(n, old)| (n.as_str(), &**old, Place::at(["fields", n]))).collect(),
        })
    }
}

impl OperatorSpec for SelectElement {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let wanted = check::joined(outputs);
        let mut demand = Demand::none();
        match self.chosen() {
            Some(chosen) => {
                for (_, old, _) in chosen {
                    match Path::parse(old) {
                        Ok(path) => match path.field() {
                            Some(field) => demand.add([field]),
                            None => demand.all = true,
                        },
                        // Binding tells.
                        Err(_) => demand.add([old]),
                    }
                }
                demand.add(wanted.fields.iter().filter(|f| f.starts_with('_')).cloned());
            }
            None => {
                demand = wanted;
                for (new, old) in self.rename.iter() {
                    let read = demand.names(new) || demand.all;
                    demand = demand.without(new);
                    if read {
                        demand.add([&**old]);
                    }
                }
                for name in &self.drop {
                    demand = demand.without(name);
                }
                demand.add(self.types.iter().map(|(n, _)| n).chain(self.defaults.iter().map(|(n, _)| n)).map(|n| self.old(n).to_string()));
            }
        }
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let input = bind.input();
        let mut problems = vec![];
        let mut columns = match self.chosen() {
            Some(chosen) => self.only(&chosen, &input.schema, &bind.demands[0], &mut problems),
            None => self.all_but(&input.schema, &mut problems),
        };
        self.types_and_defaults(&mut columns, &input.schema, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        if self.chosen().is_some() {
            prune(&mut columns, &bind.demands[0], input.key.as_deref().unwrap_or(&[]));
        }
        let tail = if self.fields.is_none() { input.schema.tail() } else { None };
        let fields: Vec<Field> = columns.iter().map(|c| Field { name: c.name.as_str().into(), ty: c.ty, hidden: c.hidden }).collect();
        let schema = match tail {
            Some(slot) => {
                columns.push(Column::new("_rest", Type::Json, Take::Keep(slot)));
                Schema::open(fields)
            }
            None => Schema::new(fields),
        };
        let same = |name: &str| {
            let slot = input.schema.slot(name);
            columns.iter().any(|c| c.name == name && c.is_plain() && slot.is_some_and(|s| matches!(c.take, Take::Keep(k) if k == s)))
        };
        let edge = check::edge_keeping_key(input, schema.clone(), same);
        Ok(Bound::new(vec![edge], exec(columns, input, schema)))
    }
}

fn exec(columns: Vec<Column>, input: &Edge, schema: SchemaRef) -> Exec {
    let in_place = |(i, c): (usize, &Column)| c.is_plain() && matches!(c.take, Take::Keep(slot) if slot.index() == i);
    if columns.len() == input.schema.width() && columns.iter().enumerate().all(in_place) {
        if schema == input.schema {
            return Exec::Pass;
        }
        return Exec::Stateless(Arc::new(move || Box::new(Rename { schema: schema.clone() })));
    }
    let columns: Arc<[Column]> = columns.into();
    Exec::Stateless(Arc::new(move || Box::new(Select { columns: columns.clone(), schema: schema.clone(), text: String::new() })))
}

/// Where a field of the output comes from.
#[derive(Clone, Debug)]
enum Take {
    Keep(Slot),
    Find(Access),
    /// All that a JSONPath finds in a value, or in the whole row.
    Query(Option<Access>, Query),
    Missing,
}

#[derive(Clone)]
struct Column {
    name: String,
    ty: Type,
    hidden: bool,
    take: Take,
    /// Values are converted to `ty`.
    convert: bool,
    /// A row of one field.
    default: Option<Batch>,
}

impl Column {
    fn new(name: &str, ty: Type, take: Take) -> Column {
        Column { name: name.into(), ty, hidden: false, take, convert: false, default: None }
    }
    fn is_plain(&self) -> bool {
        !self.convert && self.default.is_none()
    }
}

impl SelectElement {
    /// The present name of a field.
    fn old<'a>(&'a self, new: &'a str) -> &'a str {
        self.rename.iter().find(|(n, _)| n == new).map_or(new, |(_, old)| old)
    }

    /// The fields that `fields` names, then what the source knows of the record and a later part names.
    fn only(&self, chosen: &[(&str, &str, Place)], input: &SchemaRef, wanted: &Demand, problems: &mut Vec<Problem>) -> Vec<Column> {
        for (key, given) in [("drop", !self.drop.is_empty()), ("rename", !self.rename.is_empty())] {
            if given {
                let message = format!("`fields` says what stays already, `{key}` has nothing to add");
                problems.push(Problem::error("useless-key", Place::at([key]).key(), message).hint("say all of it in `fields`"));
            }
        }
        if chosen.is_empty() {
            problems.push(
                Problem::error("nothing-to-do", Place::at(["fields"]), "`fields` names no field").hint("leave it out to keep everything"),
            );
        }
        let mut columns: Vec<Column> = vec![];
        for (new, old, place) in chosen {
            if columns.iter().any(|c| c.name == *new) {
                problems.push(Problem::error("named-twice", place.clone(), format!("`{new}` is named twice")));
                continue;
            }
            check::output_name(new, "a field", place, problems);
            match take(old, input, place) {
                Ok((take, ty)) => columns.push(Column::new(new, ty, take)),
                Err(p) => {
                    problems.push(p);
                    // The name is there, whatever it was meant to be.
                    columns.push(Column::new(new, Type::Any, Take::Missing));
                }
            }
        }
        for (i, f) in input.fields().iter().enumerate() {
            let slot = Slot(i as u16);
            if f.hidden && f.name.starts_with('_') && Some(slot) != input.tail() && wanted.names(&f.name) {
                columns.push(Column { hidden: true, ..Column::new(&f.name, f.ty, Take::Keep(slot)) });
            }
        }
        columns
    }

    /// All fields, but for what is dropped and renamed. The tail is not among them.
    fn all_but(&self, input: &SchemaRef, problems: &mut Vec<Problem>) -> Vec<Column> {
        let mut gone: Vec<&str> = vec![];
        for (i, name) in self.drop.iter().enumerate() {
            let place = Place::at(["drop"]).then(i);
            if input.slot(name).is_none() && (input.tail().is_none() || name.contains('.')) {
                problems.push(check::unknown_field(name, input, place));
            } else if gone.contains(&&**name) {
                problems.push(Problem::error("named-twice", place, format!("`{}` is named twice", &**name)));
            }
            gone.push(name);
        }
        let mut renamed: Vec<(&str, &str)> = vec![];
        for (new, old) in self.rename.iter() {
            let place = Place::at(["rename", new]);
            check::output_name(new, "a field", &place, problems);
            let clash = |m: String| Problem::error("field-clash", place.clone(), m);
            if input.slot(old).is_none() && (input.tail().is_none() || old.contains('.')) {
                problems.push(check::unknown_field(old, input, place.clone()));
            } else if gone.contains(&&**old) {
                problems.push(clash(format!("`{}` is both renamed and dropped", &**old)));
            } else if renamed.iter().any(|(_, o)| *o == &**old) {
                problems.push(clash(format!("`{}` gets two new names", &**old)));
            }
            renamed.push((new, old));
        }
        for (new, _) in &renamed {
            let visible = input.visible().any(|(_, f)| *f.name == **new);
            let moves = gone.contains(new) || renamed.iter().any(|(_, old)| old == new);
            if visible && !moves {
                problems.push(Problem::error("field-clash", Place::at(["rename", new]), format!("there is a field `{new}` already")));
            }
        }
        let mut columns = vec![];
        // Members of the tail that are covered from here on.
        let mut covered: Vec<&str> = gone.clone();
        let mut moved: Vec<&str> = vec![];
        for (i, f) in input.fields().iter().enumerate() {
            let slot = Slot(i as u16);
            let leaves = |name: &str| gone.contains(&name) || renamed.iter().any(|(_, old)| *old == name);
            let stale = f.hidden && f.name.match_indices('.').any(|(dot, _)| leaves(&f.name[..dot]));
            if Some(slot) == input.tail() || gone.contains(&&*f.name) || stale {
                continue;
            }
            match renamed.iter().find(|(_, old)| *old == &*f.name) {
                Some((new, old)) => {
                    moved.push(old);
                    columns.push(Column::new(new, f.ty, Take::Keep(slot)));
                }
                None => columns.push(Column { hidden: f.hidden, ..Column::new(&f.name, f.ty, Take::Keep(slot)) }),
            }
        }
        for (new, old) in &renamed {
            covered.push(old);
            if !moved.contains(old)
                && let Some(access) = input.resolve(old)
            {
                columns.push(Column::new(new, access.ty, Take::Find(access)));
            }
        }
        if input.tail().is_some() {
            for name in covered {
                if !columns.iter().any(|c| c.name == name) {
                    columns.push(Column { hidden: true, ..Column::new(name, Type::Any, Take::Missing) });
                }
            }
        }
        columns
    }

    fn types_and_defaults(&self, columns: &mut Vec<Column>, input: &SchemaRef, problems: &mut Vec<Problem>) {
        let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        let open = self.fields.is_none() && input.tail().is_some();
        let find = |columns: &mut Vec<Column>, name: &str, place: &Place| -> Result<usize, Problem> {
            if let Some(i) = columns.iter().position(|c| c.name == name && (!matches!(c.take, Take::Missing) || self.fields.is_some())) {
                columns[i].hidden = false;
                return Ok(i);
            }
            // A field that only the tail has so far becomes one of the row's own.
            if let Some(access) = input.resolve(name).filter(|_| open && !name.contains('.') && !names.iter().any(|n| n == name)) {
                columns.push(Column::new(name, Type::Any, Take::Find(access)));
                return Ok(columns.len() - 1);
            }
            let near = millrace_sdk::problem::did_you_mean(name, names.iter().map(|n| n.as_str()));
            Err(Problem::error("unknown-field", place.clone().key(), format!("no field `{name}` comes out of this")).suggest(near))
        };
        for (name, text) in self.types.iter() {
            let place = Place::at(["types", name]);
            let ty = check::ty(text, &place, problems);
            match (find(columns, name, &place), ty) {
                (Ok(i), Some(ty)) => {
                    let column = &mut columns[i];
                    column.convert = column.ty != ty && ty != Type::Any;
                    column.ty = ty;
                }
                (Err(p), _) => problems.push(p),
                _ => {}
            }
        }
        for (name, value) in self.defaults.iter() {
            let place = Place::at(["defaults", name]);
            match find(columns, name, &place) {
                Err(p) => problems.push(p),
                Ok(i) => match default(value, columns[i].ty) {
                    Ok(batch) => columns[i].default = Some(batch),
                    Err(e) => problems.push(Problem::error("wrong-type", place, format!("the default of `{name}`: {e}"))),
                },
            }
        }
    }
}

/// Leaves out fields that nobody reads, unless reading them can fail; a name that is not there keeps all, for the message about it.
fn prune(columns: &mut Vec<Column>, wanted: &Demand, key: &[String]) {
    let full = Schema::new(columns.iter().map(|c| Field::new(c.name.as_str(), c.ty)).collect());
    if wanted.all || wanted.fields.iter().any(|f| full.resolve(f).is_none()) {
        return;
    }
    columns.retain(|c| c.convert || matches!(c.take, Take::Query(..)) || wanted.names(&c.name) || key.contains(&c.name));
}

/// Where an old name, a path or a JSONPath leads.
fn take(old: &str, input: &SchemaRef, place: &Place) -> Result<(Take, Type), Problem> {
    let path = Path::parse(old).map_err(|(at, why)| {
        let end = old[at..].chars().next().map_or(old.len(), |c| at + c.len_utf8());
        let start = if at < old.len() { at } else { old.char_indices().next_back().map_or(0, |(i, _)| i) };
        Problem::error("invalid-path", place.clone().range(start..end), format!("`{old}` is no JSONPath: {why}"))
    })?;
    let access = match path.field() {
        None => None,
        Some(field) => {
            let mut access = check::access(&field, input, place.clone()).map_err(|p| {
                // What is suggested stands for the whole text, not for the field alone.
                let whole = |s: String| old.replacen(&*field, &s, 1);
                Problem { suggestion: p.suggestion.clone().map(whole), ..p }
            })?;
            if !path.rest().is_empty() {
                access.rest = access.rest.iter().cloned().chain(path.rest().iter().map(|s| s.as_str().into())).collect();
                access.ty = Type::Any;
            }
            Some(access)
        }
    };
    Ok(match (access, path.query()) {
        (access, Some(query)) => (Take::Query(access, query), Type::Array),
        (Some(a), None) if a.rest.is_empty() => (Take::Keep(a.slot), a.ty),
        (Some(a), None) => {
            let ty = a.ty;
            (Take::Find(a), ty)
        }
        (None, None) => return Err(Problem::error("invalid-path", place.clone(), format!("`{old}` names no field"))),
    })
}

/// A default as a row of one field.
fn default(value: &serde_json::Value, ty: Type) -> Result<Batch, String> {
    let mut b = BatchBuilder::new(Schema::new(vec![Field::new("default", ty)]));
    let text = value.to_string();
    let mut scratch = String::new();
    let val = match value {
        serde_json::Value::String(s) => millrace_sdk::Val::Str(s),
        _ => millrace_sdk::json::view(&text, &mut scratch),
    };
    convert::push(val, ty, &mut b).map_err(|e| e.0)?;
    b.end_row(millrace_sdk::Meta::default());
    Ok(b.finish())
}

/// The same rows under other names.
struct Rename {
    schema: SchemaRef,
}

impl Operator for Rename {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        out.emit(0, batch.with_schema(self.schema.clone()));
    }
}

struct Select {
    columns: Arc<[Column]>,
    schema: SchemaRef,
    /// Unescaped text.
    text: String,
}

impl Operator for Select {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let mut rows = BatchBuilder::over(&batch, self.schema.clone());
        for row in batch.rows() {
            let schema = batch.schema();
            match self.columns.iter().try_for_each(|c| column(c, &row, schema, &mut self.text, &mut rows)) {
                Ok(()) => rows.end_row(*row.meta()),
                Err((reason, message)) => {
                    rows.abandon_row();
                    out.reject(Reject::row(reason, message, &row, schema));
                }
            }
        }
        out.emit(0, batch.replaced_by(rows));
    }
}

#[inline]
fn column(c: &Column, row: &Record<'_>, schema: &Schema, text: &mut String, out: &mut BatchBuilder) -> Result<(), (&'static str, String)> {
    let before = out.pending();
    match &c.take {
        Take::Keep(slot) if !c.convert || fit(row.raw(*slot), c.ty, |s| row.bytes(s)) == Fit::Same => out.keep(row, *slot),
        Take::Missing => out.push_missing(),
        Take::Query(access, query) => {
            let value = access.as_ref().map(|a| row.find(a, text));
            query.push(value, row, schema, out).map_err(|e| ("too-deep", format!("field `{}`: {e}", c.name)))?;
        }
        take => {
            let value = match take {
                Take::Find(access) => row.find(access, text),
                Take::Keep(slot) => row.get(*slot),
                _ => millrace_sdk::Val::Missing,
            };
            if c.convert {
                convert::push(value, c.ty, out).map_err(|e| ("wrong-type", format!("field `{}`: {e}", c.name)))?;
            } else {
                out.push_val(value);
            }
        }
    }
    if let Some(default) = &c.default
        && matches!(out.last(), Some(Value::Missing | Value::Null))
    {
        out.truncate_fields(before);
        out.push_field(&default.row(0), Slot(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
