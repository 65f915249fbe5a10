use crate::check;
use millrace_sdk::batch::{MAX_BYTES, MAX_ROWS};
use millrace_sdk::config::{FieldName, Ordered, TypeText};
use millrace_sdk::json::{self, Member, members};
use millrace_sdk::operator::Outputs;
use millrace_sdk::{
    Access, Batch, BatchBuilder, Bind, Bound, Demand, Exec, Field, Operator, OperatorSpec, Part, Place, Problem, Record, Reject, Schema,
    SchemaRef, Slot, Type, Val, Value, convert,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Makes several rows of one: one for each element of an array, or for each piece of a delimited text.
///
/// `field` names the array, or with `delimiter` the text; it may be a path (`order.items`). Every new row keeps the other fields
/// of the row it comes from, its time and its position; the array itself goes. The rows come in the order of the elements.
/// Without `field` rows pass as they are.
///
/// What an element becomes:
/// - with `into`, the field of that name, whatever the element is;
/// - without it the members of the element, which must be an object, become fields of the row. Where the row has a field of that
///   name already, the row's own counts. `fields` declares names and types of members; without it all members are there;
/// - a piece of a text goes to `into`, by default the field itself. Empty pieces count, `skip_empty` passes over them.
///
/// A row whose array or text is empty, missing or null is dropped and counted as `empty`, or kept with `on_empty: keep`, without any of
/// the element's fields.
///
/// # Rejected rows
/// `wrong-type`: the field is no array (no text), an element is no object where members are wanted, or a member does not convert to its
/// declared type. The whole row is rejected then: none of its elements goes on.
///
/// # Limits
/// Rows are put out in pieces of at most 8,192 (65,536 where the batch is larger than 1 MiB), and the next piece is made when the last
/// one has been taken, so that an array of any length needs little memory beside its own text.
///
/// # Example
/// ```yaml
/// streams:
///   orders:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"order":1,"items":[{"sku":"a","n":2},{"sku":"b","n":1}],"tags":"new,gift"}', '{"order":2,"items":[]}']
///       operates:
///         - {type: StringToMap, config: {fields: {order: bigint, items: array, tags: string}}}
///         - {type: SplitElement, config: {field: items, fields: {sku: string, n: bigint}}}
///         - {type: SplitElement, config: {field: tags, delimiter: ",", into: tag}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"order":1,"sku":"a","n":2,"tag":"new"}
/// {"order":1,"sku":"a","n":2,"tag":"gift"}
/// {"order":1,"sku":"b","n":1,"tag":"new"}
/// {"order":1,"sku":"b","n":1,"tag":"gift"}
/// ```
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitElement {
    /// The array, or the text, to be split. Default none: rows pass as they are.
    #[serde(default)]
    field: Option<FieldName>,
    /// Splits a text at this, one or more characters. Default none: the field is an array.
    #[serde(default)]
    delimiter: Option<String>,
    /// The field that takes the element. Default: for an array none (members become fields), for a text the field itself.
    #[serde(default)]
    into: Option<String>,
    /// A field that takes the element's number in its row, from 0. Default none.
    #[serde(default)]
    index: Option<String>,
    /// Names and types of the members that become fields. Default: all members, as they are.
    #[serde(default)]
    fields: Ordered<TypeText>,
    /// What happens to a row that has no element. Default `drop`.
    #[serde(default)]
    on_empty: OnEmpty,
    /// Passes over empty pieces of a text. Default false.
    #[serde(default)]
    skip_empty: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnEmpty {
    #[default]
    Drop,
    Keep,
}

millrace_sdk::inventory::submit! { Part::operator::<SplitElement>("SplitElement", &[]) }

/// A longer tail is not left for every row of an array to look through.
const LONG_TAIL: usize = 4096;

/// Where a field of the output comes from.
#[derive(Clone, Debug)]
enum From {
    Keep(Slot),
    /// The input's, or where that is missing the element's member.
    Either(Slot, Box<[Box<str>]>),
    Member(Box<[Box<str>]>, Type, Box<str>),
    Element,
    Index,
    Missing,
    /// The input's tail as it is.
    Tail(Slot),
    /// The element, and the members of the input's tail if it has one.
    Merged(Option<Slot>),
}

impl SplitElement {
    /// The field that takes the element, unless its members do.
    fn into(&self) -> Option<&str> {
        let field = self.field.as_deref()?;
        self.into.as_deref().or(self.delimiter.as_ref().map(|_| field))
    }
}

impl OperatorSpec for SplitElement {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        let Some(field) = &self.field else { return vec![demand] };
        for made in self.into().into_iter().chain(self.index.as_deref()).chain(self.fields.iter().map(|(n, _)| n.as_str())) {
            demand = demand.without(made);
        }
        demand.add([&**field]);
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let input = bind.input();
        let Some(field) = &self.field else {
            let given = [
                ("delimiter", self.delimiter.is_some()),
                ("into", self.into.is_some()),
                ("index", self.index.is_some()),
                ("fields", !self.fields.is_empty()),
            ];
            let useless = |key: &'static str| Problem::error("missing-key", Place::at([key]).key(), format!("`{key}` needs `field`"));
            let problems: Vec<_> = given.iter().filter(|(_, is)| *is).map(|(key, _)| useless(key)).collect();
            return if problems.is_empty() { Ok(Bound::new(vec![input.clone()], Exec::Pass)) } else { Err(problems) };
        };
        let mut problems = vec![];
        let columns = self.columns(field, &input.schema, &bind.demands[0], &mut problems);
        let place = Place::at(["field"]);
        let access = check::access(field, &input.schema, place.clone()).map_err(|p| {
            problems.push(p);
            std::mem::take(&mut problems)
        })?;
        let fits = match (access.ty, &self.delimiter) {
            (Type::Any | Type::Json, _) | (Type::Array, None) | (Type::String, Some(_)) => true,
            _ => false,
        };
        if !fits {
            let (wants, hint) = match self.delimiter {
                None => ("no array", "split a text with `delimiter`"),
                Some(_) => ("no text", "leave `delimiter` out to split an array"),
            };
            problems.push(Problem::error("wrong-type", place, format!("`{}` is {}, {wants}", &**field, access.ty)).hint(hint));
        }
        if self.delimiter.as_deref() == Some("") {
            problems.push(Problem::error("invalid-delimiter", Place::at(["delimiter"]), "the delimiter is empty"));
        }
        if self.delimiter.is_some() && !self.fields.is_empty() {
            problems.push(Problem::error("useless-key", Place::at(["fields"]).key(), "pieces of a text have no members"));
        }
        if self.into.is_some() && !self.fields.is_empty() {
            problems.push(
                Problem::error("useless-key", Place::at(["fields"]).key(), "with `into` the element stays whole").hint("keep one of them"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let open = matches!(columns.last(), Some((_, From::Tail(_) | From::Merged(_))));
        let (mut fields, from): (Vec<Field>, Vec<From>) = columns.into_iter().unzip();
        let schema = if open {
            fields.pop();
            Schema::open(fields)
        } else {
            Schema::new(fields)
        };
        let kept = |name: &str| match (input.schema.slot(name), schema.slot(name)) {
            (Some(a), Some(b)) => matches!(from[b.index()], From::Keep(s) if s == a),
            _ => false,
        };
        let edge = check::edge_keeping_key(input, schema.clone(), kept);
        let plan = Arc::new(Plan {
            schema,
            members: self.into().is_none(),
            from,
            access,
            delimiter: self.delimiter.clone(),
            skip_empty: self.skip_empty,
            keep_empty: self.on_empty == OnEmpty::Keep,
            field: (**field).into(),
        });
        Ok(Bound::new(vec![edge], Exec::Stateless(Arc::new(move || Box::new(Splitter { plan: plan.clone(), ..Splitter::default() })))))
    }
}

impl SplitElement {
    /// The output's fields; a tail is the last one.
    fn columns(&self, field: &str, input: &SchemaRef, wanted: &Demand, problems: &mut Vec<Problem>) -> Vec<(Field, From)> {
        let path = |name: &str| name.split('.').map(Into::into).collect::<Box<[Box<str>]>>();
        let made: Vec<&str> = self.into().into_iter().chain(self.index.as_deref()).collect();
        let mut columns: Vec<(Field, From)> = vec![];
        let members = self.into().is_none();
        for (i, f) in input.fields().iter().enumerate() {
            let slot = Slot(i as u16);
            let below = f.hidden && f.name.strip_prefix(field).is_some_and(|r| r.starts_with('.'));
            if Some(slot) == input.tail() || *f.name == *field || below || made.contains(&&*f.name) {
                if !f.hidden && *f.name != *field && made.contains(&&*f.name) {
                    problems.push(Problem::error("field-clash", Place::default(), format!("the row has a field `{}` already", f.name)));
                }
                continue;
            }
            let from = if f.hidden && !f.name.starts_with('_') && members { From::Either(slot, path(&f.name)) } else { From::Keep(slot) };
            columns.push((f.clone(), from));
        }
        if let Some(into) = self.into() {
            let at = Place::at(["into"]);
            if self.into.is_some() {
                check::output_name(into, "a field", &at, problems);
            }
            let ty = if self.delimiter.is_some() { Type::String } else { Type::Any };
            columns.push((Field::new(into, ty), From::Element));
        }
        if let Some(index) = &self.index {
            check::output_name(index, "a field", &Place::at(["index"]), problems);
            if self.into() == Some(index) {
                problems.push(Problem::error("field-clash", Place::at(["index"]), format!("`{index}` is also what the element goes into")));
            }
            columns.push((Field::new(index.as_str(), Type::Bigint), From::Index));
        }
        for (name, text) in self.fields.iter() {
            let at = Place::at(["fields", name]);
            check::output_name(name, "a field", &at, problems);
            let clash = columns.iter().any(|(f, _)| *f.name == **name && !f.hidden);
            if clash {
                problems.push(Problem::error("field-clash", at.clone(), format!("the row has a field `{name}` already")));
            }
            columns.retain(|(f, _)| *f.name != **name);
            let ty = check::ty(text, &at, problems).unwrap_or(Type::Any);
            columns.push((Field::new(name.as_str(), ty), From::Member(path(name), ty, name.as_str().into())));
        }
        let open = members && self.fields.is_empty();
        if open && input.tail().is_none() {
            // Names that only the elements can have.
            for name in &wanted.fields {
                if input.resolve(name).is_none() && !name.starts_with('_') && !columns.iter().any(|(f, _)| *f.name == **name) {
                    let field = Field { hidden: wanted.all, ..Field::new(name.as_str(), Type::Any) };
                    columns.push((field, From::Member(path(name), Type::Any, name.as_str().into())));
                }
            }
        }
        match input.tail() {
            Some(tail) => {
                let root = field.split('.').next().unwrap_or(field);
                if input.slot(root).is_none_or(|s| input.field(s).hidden) && root == field && self.into() != Some(field) {
                    columns.push((Field::hidden(field, Type::Any), From::Missing));
                }
                columns.push((Field::hidden("_rest", Type::Json), if open { From::Merged(Some(tail)) } else { From::Tail(tail) }));
            }
            None if open && wanted.all => columns.push((Field::hidden("_rest", Type::Json), From::Merged(None))),
            None => {}
        }
        columns
    }
}

struct Plan {
    schema: SchemaRef,
    from: Vec<From>,
    access: Access,
    delimiter: Option<String>,
    /// Elements must be objects.
    members: bool,
    skip_empty: bool,
    keep_empty: bool,
    field: Box<str>,
}

impl Default for Plan {
    fn default() -> Plan {
        let access = Access { slot: Slot(0), rest: Box::default(), ty: Type::Any };
        let schema = Schema::new(vec![]);
        Plan { schema, from: vec![], access, delimiter: None, members: false, skip_empty: false, keep_empty: false, field: "".into() }
    }
}

#[derive(Default)]
struct Splitter {
    plan: Arc<Plan>,
    /// What is not yet put out.
    open: Option<Open>,
    /// Unescaped text.
    text: String,
    /// Of the row at hand: the members of its tail but the array, where they are worth having apart.
    rest: Option<String>,
    /// The first of its rows in the piece at hand.
    first: Option<usize>,
}

/// A batch that is being taken apart, and the row that comes next.
struct Open {
    batch: Batch,
    row: usize,
    at: At,
}

/// How far the row is.
#[derive(Clone, Copy, Default)]
struct At {
    /// Elements that are done.
    n: usize,
    /// Where in the array or the text the next one begins.
    position: usize,
    /// All elements are known to be good, as the first of them are on their way.
    checked: bool,
}

type Refused = (&'static str, String);

/// An element: its JSON text, or a piece of text.
#[derive(Clone, Copy)]
enum Element<'a> {
    Json(&'a str),
    Text(&'a str),
    /// Of a row that has none and is kept all the same.
    None,
}

impl Operator for Splitter {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        self.open = Some(Open { batch, row: 0, at: At::default() });
        self.resume(out);
    }

    fn resume(&mut self, out: &mut Outputs) {
        let Some(mut open) = self.open.take() else { return };
        let plan = self.plan.clone();
        let mut rows = BatchBuilder::over(&open.batch, plan.schema.clone());
        let size = Piece::of(&open.batch);
        let mut empty = 0;
        while let Some(row) = (open.row < open.batch.len()).then(|| open.batch.row(open.row)) {
            if size.is_full(&rows) {
                break;
            }
            let before = rows.len();
            self.begin(&plan, &row);
            match self.elements(&plan, &row, &mut open.at, &mut rows, size) {
                Ok(false) => break,
                Ok(true) if open.at.n == 0 && plan.keep_empty => {
                    // Nothing of an element that is not there can fail.
                    let _ = self.element(&plan, Element::None, 0, &row, &mut rows);
                    rows.end_row(*row.meta());
                }
                Ok(true) => empty += (open.at.n == 0) as u64,
                Err((reason, message)) => {
                    rows.abandon_row();
                    rows.truncate_rows(before);
                    out.reject(Reject::row(reason, message, &row, open.batch.schema()));
                }
            }
            open.row += 1;
            open.at = At::default();
        }
        out.dropped("empty", empty);
        if open.row < open.batch.len() {
            out.emit(0, open.batch.clone().replaced_by(rows));
            out.unfinished = true;
            self.open = Some(open);
        } else {
            out.emit(0, open.batch.replaced_by(rows));
        }
    }
}

/// When a piece is put out.
#[derive(Clone, Copy)]
struct Piece {
    rows: usize,
    bytes: usize,
}

impl Piece {
    /// A piece to which text was added takes a copy of the batch's own text with it, so pieces of a large batch are larger.
    fn of(batch: &Batch) -> Piece {
        let large = batch.text().len() > MAX_BYTES;
        Piece { rows: if large { 64 } else { 8 } * MAX_ROWS, bytes: batch.text().len().max(MAX_BYTES) }
    }

    fn is_full(self, rows: &BatchBuilder) -> bool {
        rows.len() >= self.rows || rows.text_len() >= self.bytes
    }
}

impl Splitter {
    /// The tail that every row of this one gets, if each would have to look through it.
    fn begin(&mut self, plan: &Plan, row: &Record<'_>) {
        self.first = None;
        self.rest = plan.from.last().and_then(|from| match from {
            From::Tail(slot) | From::Merged(Some(slot)) => match row.get(*slot) {
                Val::Json(tail) if matches!(from, From::Merged(_)) || tail.len() > LONG_TAIL => Some(without(tail, &plan.field)),
                _ => None,
            },
            _ => None,
        });
    }

    /// Adds the row's elements from where it stands; false: the piece is full before the row is done.
    fn elements(&mut self, plan: &Plan, row: &Record<'_>, at: &mut At, rows: &mut BatchBuilder, size: Piece) -> Result<bool, Refused> {
        let mut scratch = String::new();
        let value = row.find(&plan.access, &mut scratch);
        self.first = None;
        while let Some(element) = self.next(plan, value, at)? {
            self.element(plan, element, at.n, row, rows)?;
            rows.end_row(*row.meta());
            self.first.get_or_insert(rows.len() - 1);
            at.n += 1;
            if size.is_full(rows) {
                self.look_ahead(plan, value, at)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the elements that are not yet made can be: once a piece has left, the row can no longer be rejected.
    fn look_ahead(&mut self, plan: &Plan, value: Val<'_>, at: &mut At) -> Result<(), Refused> {
        let mut ahead = *at;
        let mut trial = BatchBuilder::new(plan.schema.clone());
        while !at.checked
            && let Some(element) = self.next(plan, value, &mut ahead)?
        {
            for from in &plan.from {
                if let From::Member(path, ty, name) = from {
                    self.typed(plan, element, ahead.n, (path, *ty, name), &mut trial)?;
                }
            }
            trial.abandon_row();
            if trial.text_len() >= MAX_BYTES {
                trial = BatchBuilder::new(plan.schema.clone());
            }
            ahead.n += 1;
        }
        at.checked = true;
        Ok(())
    }

    /// The element that comes next.
    fn next<'a>(&mut self, plan: &Plan, value: Val<'a>, at: &mut At) -> Result<Option<Element<'a>>, Refused> {
        match (value, &plan.delimiter) {
            (v, _) if v.is_null() => Ok(None),
            (Val::Str(text), Some(delimiter)) => loop {
                let Some(rest) = text.get(at.position..).filter(|_| !text.is_empty()) else { return Ok(None) };
                let piece = rest.split(delimiter.as_str()).next().unwrap_or(rest);
                // Behind the last piece, which no delimiter follows, lies nothing.
                at.position += if piece.len() == rest.len() { piece.len() + 1 } else { piece.len() + delimiter.len() };
                if !(piece.is_empty() && plan.skip_empty) {
                    return Ok(Some(Element::Text(piece)));
                }
            },
            (Val::Json(array), None) if array.starts_with('[') => {
                let mut elements = members(array);
                if at.position > 0 {
                    elements = elements.skip_to(at.position);
                }
                let Some(Member { raw, .. }) = elements.next() else { return Ok(None) };
                at.position = elements.position();
                if plan.members && !raw.starts_with('{') {
                    let what = json::view(raw, &mut self.text).kind();
                    return Err(("wrong-type", format!("element {} of `{}` is {what}, no object", at.n, plan.field)));
                }
                Ok(Some(Element::Json(raw)))
            }
            (v, delimiter) => {
                let wants = if delimiter.is_some() { "no text" } else { "no array" };
                Err(("wrong-type", format!("field `{}` is {}, {wants}", plan.field, v.kind())))
            }
        }
    }

    /// Pushes a member under its declared type.
    fn typed(
        &mut self,
        plan: &Plan,
        element: Element<'_>,
        n: usize,
        (path, ty, name): (&[Box<str>], Type, &str),
        rows: &mut BatchBuilder,
    ) -> Result<(), Refused> {
        convert::push(member(element, path, &mut self.text), ty, rows)
            .map_err(|e| ("wrong-type", format!("field `{name}` of element {n} of `{}`: {e}", plan.field)))
    }

    /// Pushes the fields of one output row.
    fn element(&mut self, plan: &Plan, element: Element<'_>, n: usize, row: &Record<'_>, rows: &mut BatchBuilder) -> Result<(), Refused> {
        for (i, from) in plan.from.iter().enumerate() {
            let scratch = &mut self.text;
            match from {
                From::Either(slot, path) if row.raw(*slot) == Value::Missing => rows.keep_val(row, member(element, path, scratch)),
                From::Either(slot, _) | From::Keep(slot) => rows.keep(row, *slot),
                From::Member(path, Type::Any, _) => rows.keep_val(row, member(element, path, scratch)),
                From::Member(path, ty, name) => self.typed(plan, element, n, (path, *ty, name), rows)?,
                From::Element => match element {
                    Element::Json(raw) => rows.keep_val(row, json::view(raw, scratch)),
                    Element::Text(piece) => rows.keep_val(row, Val::Str(piece)),
                    Element::None => rows.push_missing(),
                },
                From::Index => match element {
                    Element::None => rows.push_missing(),
                    _ => rows.push_int(n as i64),
                },
                From::Missing => rows.push_missing(),
                From::Tail(slot) => match (&self.rest, self.first) {
                    (None, _) => rows.keep(row, *slot),
                    (Some(_), Some(first)) => rows.push_same(first, Slot(i as u16)),
                    (Some(rest), None) => push_object([rest.as_str()], rows),
                },
                From::Merged(_) => match (element, &self.rest) {
                    (Element::Json(raw), None) => rows.keep_val(row, Val::Json(raw)),
                    (Element::Json(raw), Some(rest)) => push_object([&raw[1..raw.len() - 1], rest.as_str()], rows),
                    (_, rest) => push_object([rest.as_deref().unwrap_or("")], rows),
                },
            }
        }
        Ok(())
    }
}

fn member<'a>(element: Element<'a>, path: &[Box<str>], scratch: &'a mut String) -> Val<'a> {
    match element {
        Element::Json(raw) => json::lookup(Val::Json(raw), path, scratch),
        _ => Val::Missing,
    }
}

/// The members of an object but those of one name, as they stand between its braces.
fn without(object: &str, name: &str) -> String {
    let mut out = String::new();
    for m in members(object).filter(|m| !m.key_is(name)) {
        if !out.is_empty() {
            out.push(',');
        }
        out.push('"');
        out.push_str(m.raw_key.unwrap_or(""));
        out.push_str("\":");
        out.push_str(m.raw);
    }
    out
}

/// An object of several objects' members, each as they stand between braces. Of equal names the last one counts.
fn push_object<const N: usize>(parts: [&str; N], rows: &mut BatchBuilder) {
    let begun = rows.begin_text();
    let out = rows.text_mut();
    out.push(b'{');
    for part in parts.iter().map(|p| p.trim_matches([' ', '\t', '\r', '\n'])).filter(|p| !p.is_empty()) {
        if out.len() > begun + 1 {
            out.push(b',');
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'}');
    rows.end_json(begun);
}

#[cfg(test)]
mod tests;
