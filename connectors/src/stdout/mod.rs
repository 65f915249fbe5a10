//! Rows on the standard output, for people and for pipes.

mod cells;
mod table;

use crate::format::{Format, Layout, Projection, RowWriter, columns_demand};
use cells::Cells;
use millrace_sdk::config::{FieldName, TemplateText};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, Bind, Demand, Edge, Fault, Guarantee, Part, Place, Problem, SchemaRef, Sink, SinkContext, SinkFactory, SinkSpec, Ticket,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, Write};
use std::sync::Arc;
use table::Table;

/// Writes rows to the standard output: JSON lines, an aligned table, logfmt, CSV, or text by a template.
///
/// A table takes its columns' widths from the rows at hand when it begins (at most 50, or those of the first moment) and prints its
/// header once; a wider value later pushes the rest of its line to the right. Numbers stand to the right. Rows of several inputs share
/// the terminal, and each change of columns begins a new table. One worker writes; rows keep the order in which they reach it.
///
/// Guarantee: none, since nobody confirms what a terminal has shown. A closed pipe ends the job.
///
/// # Example
/// ```yaml
/// name: price-list
/// streams:
///   items:
///     config:
///       source: {type: Inline, config: {rows: [{item: bolt, price: 0.25, in: {stock: 3}}, {item: nut, price: 0.1, in: {stock: 0}}]}}
/// sink:
///   - {type: Stdout, config: {format: json, columns: [item, in.stock]}}
/// ```
/// ```json
/// {"item":"bolt","in.stock":3}
/// {"item":"nut","in.stock":0}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdout {
    /// How rows are written. Default json.
    #[serde(default)]
    format: Style,
    /// Fields to write, in this order; paths like `client.os` too. Default: all fields.
    #[serde(default)]
    columns: Vec<FieldName>,
    /// The line to write, for `format: text`.
    template: Option<TemplateText>,
}

/// How rows look on the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Style {
    /// One JSON object a line.
    #[default]
    Json,
    /// Aligned columns under a header.
    Table,
    /// `key=value` pairs; values with spaces, quotes or `=` are quoted, missing fields left out.
    Logfmt,
    /// RFC 4180 with a header line.
    Csv,
    /// What `template` gives.
    Text,
}

millrace_sdk::inventory::submit! { Part::sink::<Stdout>("Stdout", &[]) }

impl Stdout {
    fn layout(&self) -> Option<Layout<'_>> {
        let format = match self.format {
            Style::Json => Format::Json,
            Style::Csv => Format::Csv,
            Style::Text => Format::Text,
            Style::Table | Style::Logfmt => return None,
        };
        Some(Layout { format, columns: &self.columns, template: self.template.as_ref() })
    }

    fn input(&self, edge: &Edge, bind: &Bind<'_>) -> Result<Input, Vec<Problem>> {
        if let Some(layout) = self.layout() {
            return layout.bind(edge, bind.env).map(Input::Rows);
        }
        if self.template.is_some() {
            let p = Problem::error("useless-template", Place::at(["template"]).key(), "`template` has no effect without format `text`");
            return Err(vec![p.hint("write `format: text`")]);
        }
        let project = Projection::bind(&self.columns, &edge.schema)?;
        let cells = Cells::new(project.as_ref().map_or(&edge.schema, |p| &p.schema));
        Ok(if self.format == Style::Table { Input::Table(project, cells) } else { Input::Logfmt(project, cells) })
    }
}

impl SinkSpec for Stdout {
    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }

    fn demand(&self) -> Demand {
        self.layout().map_or_else(|| columns_demand(&self.columns), |l| l.demand())
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let inputs =
            bind.inputs.iter().map(|edge| self.input(edge, bind).map(|i| (i, edge.schema.clone()))).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Factory { inputs: inputs.into() }))
    }
}

/// What one input's rows become.
#[derive(Clone)]
enum Input {
    Rows(RowWriter),
    Table(Option<Projection>, Cells),
    Logfmt(Option<Projection>, Cells),
}

struct Factory {
    inputs: Arc<[(Input, SchemaRef)]>,
}

impl SinkFactory for Factory {
    fn single_writer(&self) -> bool {
        true
    }

    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Terminal::new(self.inputs.to_vec(), io::stdout())))
    }
}

/// Bytes are handed to the system when this many are waiting.
const BLOCK: usize = 64 << 10;

struct Terminal<W> {
    inputs: Vec<(Input, SchemaRef)>,
    to: W,
    buffer: Vec<u8>,
    table: Table,
    /// The CSV header that was written last.
    header: Vec<u8>,
    waiting: Acks,
}

impl<W: Write> Terminal<W> {
    fn new(inputs: Vec<(Input, SchemaRef)>, to: W) -> Terminal<W> {
        Terminal { inputs, to, buffer: vec![], table: Table::default(), header: vec![], waiting: Acks::default() }
    }

    fn send(&mut self) -> Result<(), Fault> {
        let sent = self.to.write_all(&self.buffer).and_then(|()| self.to.flush());
        self.buffer.clear();
        sent.map_err(|e| Fault::refused(format!("cannot write to the standard output: {e}")))
    }
}

impl<W: Write + Send> Sink for Terminal<W> {
    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let (input, schema) = &mut self.inputs[input];
        match input {
            Input::Rows(writer) => {
                if let Some(header) = writer.header().filter(|h| *h != self.header) {
                    self.buffer.extend_from_slice(&header);
                    self.buffer.push(b'\n');
                    self.header = header;
                }
                for (row, original) in writer.rows(batch).rows().zip(batch.rows()) {
                    match writer.write(&row, &mut self.buffer) {
                        Ok(()) => self.buffer.push(b'\n'),
                        Err(e) => self.waiting.rejects.push(Reject::row(e.reason, e.message, &original, schema)),
                    }
                }
            }
            Input::Table(project, cells) => {
                let rows = project.as_ref().map(|p| p.apply(batch));
                for row in rows.as_ref().unwrap_or(batch).rows() {
                    self.table.add(cells.of(&row), &mut self.buffer);
                }
            }
            Input::Logfmt(project, cells) => {
                let rows = project.as_ref().map(|p| p.apply(batch));
                for row in rows.as_ref().unwrap_or(batch).rows() {
                    cells::logfmt(&cells.of(&row), &mut self.buffer);
                }
            }
        }
        self.waiting.done.push(ticket);
        if self.buffer.len() >= BLOCK { self.send() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.table.flush(&mut self.buffer);
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.flush()?;
        acks.done.append(&mut self.waiting.done);
        acks.rejects.append(&mut self.waiting.rejects);
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::operator::Env;
    use millrace_sdk::{BatchBuilder, Field, Meta, Schema, Type};

    fn items() -> Batch {
        let schema =
            Schema::open(vec![Field::new("item", Type::String), Field::new("n", Type::Bigint), Field::hidden("_topic", Type::String)]);
        let mut b = BatchBuilder::new(schema);
        for (item, n, rest) in
            [("中文", 7, r#"{"item":"x","z":"a b","m":{"k":[1, 2]}}"#), ("nut", 1200, r#"{"z":null}"#), ("a=b", -3, r#"{"z":"q\"\n"}"#)]
        {
            b.push_str(item);
            b.push_int(n);
            b.push_str("t");
            b.push_json(rest);
            b.end_row(Meta::default());
        }
        b.finish()
    }

    fn printed(config: &str, batches: &[Batch]) -> String {
        let spec: Stdout = serde_json::from_str(config).unwrap();
        let edges: Vec<Edge> = batches.iter().map(|b| Edge::new(b.schema().clone())).collect();
        let env = Env::default();
        let bind = Bind { inputs: &edges, demands: &[], env: &env, stores: &[] };
        let inputs: Vec<_> =
            edges.iter().map(|e| (spec.input(e, &bind).map_err(|p| format!("{p:?}")).unwrap(), e.schema.clone())).collect();
        let mut out = vec![];
        let mut sink = Terminal::new(inputs, &mut out);
        for (i, b) in batches.iter().enumerate() {
            sink.write(i, b, Ticket(i as u64)).unwrap();
        }
        let mut acks = Acks::default();
        sink.close(&mut acks).unwrap();
        assert_eq!(acks.done.len(), batches.len());
        drop(sink);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_align_by_display_width() {
        let want = "\
item     n  z     m
----  ----  ----  -----------
中文     7  a b   {\"k\":[1,2]}
nut   1200
a=b     -3  q\"\\n
";
        assert_eq!(printed(r#"{"format": "table"}"#, &[items()]), want);
        let narrow = "   n  item\n----  ----\n   7  中文\n1200  nut\n  -3  a=b\n";
        assert_eq!(printed(r#"{"format": "table", "columns": ["n", "item"]}"#, &[items()]), narrow);
    }

    #[test]
    fn logfmt_quotes_what_must_be() {
        let want = "item=中文 n=7 z=\"a b\" m=\"{\\\"k\\\":[1,2]}\"\nitem=nut n=1200 z=null\nitem=\"a=b\" n=-3 z=\"q\\\"\\n\"\n";
        assert_eq!(printed(r#"{"format": "logfmt"}"#, &[items()]), want);
    }

    #[test]
    fn a_field_that_was_only_read_by_name_stays() {
        let fields = vec![Field::new("r", Type::Bigint), Field::hidden("a", Type::Any), Field::hidden("dropped", Type::Any)];
        let mut b = BatchBuilder::new(Schema::open(fields));
        b.push_int(5);
        b.push_int(1);
        b.push_missing();
        b.push_json(r#"{"a":1,"dropped":2,"z":3}"#);
        b.end_row(Meta::default());
        assert_eq!(printed(r#"{"format": "logfmt"}"#, &[b.finish()]), "r=5 a=1 z=3\n");
    }

    #[test]
    fn csv_has_one_header() {
        let want = "item,n\n中文,7\nnut,1200\na=b,-3\n中文,7\nnut,1200\na=b,-3\n";
        assert_eq!(printed(r#"{"format": "csv", "columns": ["item", "n"]}"#, &[items(), items()]), want);
    }
}
