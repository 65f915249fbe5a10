//! How sinks write rows: JSON, CSV, or text by a template. Shared by every sink that writes bytes.

use millrace_expr::{EvalError, Template};
use millrace_sdk::config::{FieldName, TemplateText};
use millrace_sdk::json::JsonWriter;
use millrace_sdk::operator::Env;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::schema::Access;
use millrace_sdk::{Batch, BatchBuilder, Demand, Edge, Field, Place, Problem, Record, Schema, SchemaRef, Slot, Val, json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

/// How a row becomes bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object: fields in schema order, no spaces, missing fields left out.
    #[default]
    Json,
    /// One line as in RFC 4180: null and missing are empty, the empty string is `""`.
    Csv,
    /// The text that `template` gives.
    Text,
}

/// The three config keys of a sink's row encoding: `format`, `columns`, `template`.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    pub format: Format,
    pub columns: &'a [FieldName],
    pub template: Option<&'a TemplateText>,
}

impl Layout<'_> {
    pub fn demand(&self) -> Demand {
        match (self.format, self.template) {
            (Format::Text, Some(t)) => template_demand(t),
            (Format::Text, None) => Demand::none(),
            _ => columns_demand(self.columns),
        }
    }

    /// # Errors
    /// Unknown columns, a template that does not compile, keys that do not go together.
    pub fn bind(&self, edge: &Edge, env: &Env) -> Result<RowWriter, Vec<Problem>> {
        let mut problems = vec![];
        let text = self.format == Format::Text;
        if text && self.template.is_none() {
            problems.push(Problem::error("missing-template", Place::at(["format"]), "format `text` needs a `template`"));
        }
        if !text && self.template.is_some() {
            problems.push(
                Problem::error("useless-template", Place::at(["template"]).key(), "`template` has no effect without format `text`")
                    .hint("write `format: text`"),
            );
        }
        if text && !self.columns.is_empty() {
            problems.push(Problem::error("useless-columns", Place::at(["columns"]).key(), "`columns` has no effect with format `text`"));
        }
        if self.format == Format::Csv && self.columns.is_empty() && edge.schema.tail().is_some() {
            problems.push(
                Problem::error(
                    "columns-needed",
                    Place::at(["format"]),
                    "csv needs `columns`, as these rows have fields that nobody declared",
                )
                .hint("list the `columns`, or declare the fields where the rows are parsed"),
            );
        }
        let project = Projection::bind(self.columns, &edge.schema).unwrap_or_else(|p| {
            problems.extend(p);
            None
        });
        let template = match self.template.filter(|_| text).map(|t| Template::compile(t, &edge.schema, env)) {
            Some(Ok(t)) => Some(Arc::new(t)),
            Some(Err(issues)) => {
                problems.extend(issues.into_iter().map(|i| i.at(&Place::at(["template"]))));
                None
            }
            None => None,
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = project.as_ref().map_or_else(|| edge.schema.clone(), |p| p.schema.clone());
        let body = match (self.format, template) {
            (Format::Csv, _) => Body::Csv,
            (Format::Text, Some(t)) => Body::Text(t),
            _ => Body::Json(JsonWriter::new(&schema)),
        };
        Ok(RowWriter { project, schema, body })
    }
}

/// What a template asks for.
pub fn template_demand(template: &str) -> Demand {
    Demand { all: Template::needs_all(template), ..Demand::of(Template::fields(template)) }
}

/// What `columns` asks for: these fields, or without any everything.
pub fn columns_demand(columns: &[FieldName]) -> Demand {
    match columns {
        [] => Demand::all(),
        names => Demand::of(names.iter().map(|n| n.0.clone())),
    }
}

/// Rows as a sink writes them, for one input of it. Every writer has a clone of its own.
#[derive(Clone)]
pub struct RowWriter {
    project: Option<Projection>,
    schema: SchemaRef,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Json(JsonWriter),
    Csv,
    Text(Arc<Template>),
}

impl RowWriter {
    /// The rows of a batch with the columns that are to be written; to be done once a batch, before [`write`](Self::write).
    pub fn rows<'b>(&self, batch: &'b Batch) -> Cow<'b, Batch> {
        match &self.project {
            Some(p) => Cow::Owned(p.apply(batch)),
            None => Cow::Borrowed(batch),
        }
    }

    /// Appends one row of [`rows`](Self::rows), without a line feed behind it.
    ///
    /// # Errors
    /// A template that cannot be evaluated for this row; `out` is as it was.
    pub fn write(&mut self, row: &Record<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        match &mut self.body {
            Body::Json(writer) => writer.row(row, out),
            Body::Csv => {
                let mut first = true;
                for (slot, _) in self.schema.visible() {
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    csv_cell(row, slot, out);
                }
            }
            Body::Text(template) => {
                let begun = out.len();
                template.render(row, out).inspect_err(|_| out.truncate(begun))?;
            }
        }
        Ok(())
    }

    /// Appends a line for each row of the batch; `refuse` takes those whose template cannot be evaluated, by their place in the batch.
    pub fn lines(&mut self, batch: &Batch, out: &mut Vec<u8>, mut refuse: impl FnMut(usize, EvalError)) {
        let rows = self.rows(batch);
        if let Body::Json(writer) = &mut self.body {
            return writer.lines(&rows, out);
        }
        for (i, row) in rows.rows().enumerate() {
            match self.write(&row, out) {
                Ok(()) => out.push(b'\n'),
                Err(e) => refuse(i, e),
            }
        }
    }

    /// The line of names before the first row, for CSV.
    pub fn header(&self) -> Option<Vec<u8>> {
        let Body::Csv = self.body else { return None };
        let mut out = Vec::new();
        for (i, (_, field)) in self.schema.visible().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            csv_text(field.name.as_bytes(), &mut out);
        }
        Some(out)
    }

    /// What [`rows`](Self::rows) look like.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Some columns of rows, by name or path.
#[derive(Clone)]
pub struct Projection {
    pub schema: SchemaRef,
    columns: Arc<[Access]>,
}

impl Projection {
    /// None: no columns are named, all are written.
    ///
    /// # Errors
    /// `unknown-field` and `field-clash`, at the config key `columns`.
    pub fn bind(columns: &[FieldName], schema: &Schema) -> Result<Option<Projection>, Vec<Problem>> {
        let (mut problems, mut fields, mut accesses) = (vec![], Vec::<Field>::new(), vec![]);
        for (i, name) in columns.iter().enumerate() {
            let place = Place::at(["columns"]).then(i);
            if fields.iter().any(|f| *f.name == **name) {
                problems.push(Problem::error("field-clash", place, format!("column `{}` is listed twice", name.0)));
                continue;
            }
            match schema.resolve(name) {
                Some(access) => {
                    fields.push(Field::new(name.0.clone(), access.ty));
                    accesses.push(access);
                }
                None => problems.push(
                    Problem::error("unknown-field", place, format!("unknown field `{}`", name.0))
                        .suggest(did_you_mean(name, schema.names())),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok((!columns.is_empty()).then(|| Projection { schema: Schema::new(fields), columns: accesses.into() }))
    }

    pub fn apply(&self, batch: &Batch) -> Batch {
        let mut out = BatchBuilder::over(batch, self.schema.clone());
        let mut scratch = String::new();
        for row in batch.rows() {
            for column in self.columns.iter() {
                if column.rest.is_empty() {
                    out.keep(&row, column.slot);
                } else {
                    out.push_val(row.find(column, &mut scratch));
                }
            }
            out.end_row(*row.meta());
        }
        batch.select(&[]).replaced_by(out)
    }
}

/// Appends a field as plain text: strings as they are, nothing for null and missing, containers as JSON.
pub fn cell(row: &Record<'_>, slot: Slot, out: &mut Vec<u8>) {
    match row.get(slot) {
        Val::Missing | Val::Null => {}
        Val::Str(s) | Val::Num(s) => out.extend_from_slice(s.as_bytes()),
        Val::Bytes(b) if std::str::from_utf8(b).is_ok() => out.extend_from_slice(b),
        // Their JSON is a string in which nothing is escaped.
        Val::Bytes(_) | Val::Time(_) => {
            let begun = out.len();
            json::write_value(row, row.raw(slot), out);
            out.pop();
            out.remove(begun);
        }
        _ => json::write_value(row, row.raw(slot), out),
    }
}

fn csv_cell(row: &Record<'_>, slot: Slot, out: &mut Vec<u8>) {
    match row.get(slot) {
        Val::Missing | Val::Null => {}
        Val::Str(s) | Val::Num(s) => csv_text(s.as_bytes(), out),
        _ => {
            let mut text = Vec::new();
            cell(row, slot, &mut text);
            csv_text(&text, out);
        }
    }
}

fn csv_text(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() && !text.iter().any(|c| matches!(c, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &c in text {
        if c == b'"' {
            out.push(b'"');
        }
        out.push(c);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{Meta, Type};

    fn batch() -> Batch {
        let schema = Schema::new(vec![
            Field::new("a", Type::String),
            Field::new("n", Type::Bigint),
            Field::new("d", Type::Decimal(18, 2)),
            Field::new("m", Type::Map),
            Field::hidden("_topic", Type::String),
        ]);
        let mut b = BatchBuilder::new(schema);
        b.push_str("x,\"y\"\nz");
        b.push_int(7);
        b.push_num("1.10");
        b.push_json(r#"{"os":"ios","v":[1,2]}"#);
        b.push_str("t");
        b.end_row(Meta::default());
        b.push_str("");
        b.push_null();
        b.push_missing();
        b.push_missing();
        b.push_str("t");
        b.end_row(Meta::default());
        b.finish()
    }

    fn names(of: &[&str]) -> Vec<FieldName> {
        of.iter().map(|n| FieldName((*n).into())).collect()
    }

    fn written(format: Format, columns: &[&str]) -> (Option<String>, Vec<String>) {
        let batch = batch();
        let columns = names(columns);
        let layout = Layout { format, columns: &columns, template: None };
        let mut writer = layout.bind(&Edge::new(batch.schema().clone()), &Env::default()).unwrap();
        let rows = writer.rows(&batch);
        let lines = rows
            .rows()
            .map(|r| {
                let mut out = Vec::new();
                writer.write(&r, &mut out).unwrap();
                String::from_utf8(out).unwrap()
            })
            .collect();
        (writer.header().map(|h| String::from_utf8(h).unwrap()), lines)
    }

    #[test]
    fn csv_quotes_and_tells_null_from_empty() {
        let (header, lines) = written(Format::Csv, &[]);
        assert_eq!(header.as_deref(), Some("a,n,d,m"));
        assert_eq!(lines, ["\"x,\"\"y\"\"\nz\",7,1.10,\"{\"\"os\"\":\"\"ios\"\",\"\"v\"\":[1,2]}\"", "\"\",,,"]);
    }

    #[test]
    fn columns_are_chosen_and_may_be_paths() {
        let (header, lines) = written(Format::Json, &["d", "m.os", "_topic"]);
        assert_eq!(header, None);
        assert_eq!(lines, [r#"{"d":1.10,"m.os":"ios","_topic":"t"}"#, r#"{"_topic":"t"}"#]);
        let (header, lines) = written(Format::Csv, &["n", "m.os"]);
        assert_eq!(header.as_deref(), Some("n,m.os"));
        assert_eq!(lines, ["7,ios", ","]);
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let open = Schema::open(vec![Field::new("a", Type::String)]);
        let closed = batch().schema().clone();
        let t = TemplateText("x".into());
        let (none, ab) = (names(&[]), names(&["nn", "n", "n"]));
        let ids = |format, columns: &[FieldName], template, schema: &SchemaRef| -> Vec<&'static str> {
            match (Layout { format, columns, template }).bind(&Edge::new(schema.clone()), &Env::default()) {
                Ok(_) => vec![],
                Err(p) => p.iter().map(|p| p.id).collect(),
            }
        };
        assert_eq!(ids(Format::Json, &none, None, &open), Vec::<&str>::new());
        assert_eq!(ids(Format::Csv, &none, None, &open), ["columns-needed"]);
        assert_eq!(ids(Format::Text, &none, None, &closed), ["missing-template"]);
        assert_eq!(ids(Format::Json, &none, Some(&t), &closed), ["useless-template"]);
        assert_eq!(ids(Format::Csv, &ab, None, &closed), ["unknown-field", "field-clash"]);
    }
}
