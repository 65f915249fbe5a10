//! The sink `Embedded`.

use super::table::Table;
use millrace_expr::Template;
use millrace_sdk::config::{PathText, TemplateText};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, Bind, Demand, Fault, Guarantee, Part, Place, Problem, SchemaRef, Sink, SinkContext, SinkFactory, SinkSpec, Ticket, inventory,
    json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time from a row's writing to its sync.
const SYNC: Duration = Duration::from_millis(100);

/// Fills a table on the local disk (RocksDB), in which the store of the same name looks up.
///
/// A row takes the place of the row with the same key, and is found by look-ups at once. One process at a time can use a table.
///
/// Guarantee: idempotent. A row counts as written when the table's log was synced to the disk after it, at most 100 ms later.
///
/// # Example
/// ```yaml
/// name: remember
/// streams:
///   names:
///     config:
///       source: {type: Inline, config: {rows: [{id: 7, name: seven}]}}
/// sink:
///   - {type: Embedded, input: names, config: {path: state/names, key: "{{id}}"}}
///   - {type: Stdout, input: names, config: {format: json}}
/// ```
/// ```json
/// {"id":7,"name":"seven"}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedSink {
    /// The table's folder, the store's `path`.
    path: PathText,
    /// The row's key.
    key: TemplateText,
}

inventory::submit! { Part::sink::<EmbeddedSink>("Embedded", &["RocksDB"]) }

impl SinkSpec for EmbeddedSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }

    fn demand(&self) -> Demand {
        let mut demand = Demand::all();
        demand.add(Template::fields(&self.key));
        demand
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut problems = vec![];
        if self.path.is_empty() {
            problems.push(Problem::error("missing-path", Place::at(["path"]), "a path must not be empty"));
        }
        let mut inputs = vec![];
        for edge in bind.inputs {
            match Template::compile(&self.key, &edge.schema, bind.env) {
                Ok(key) => inputs.push((key, edge.schema.clone())),
                Err(issues) => problems.extend(issues.into_iter().map(|i| i.at(&Place::at(["key"])))),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Factory { folder: bind.env.base_dir.join(&*self.path), inputs: inputs.into() }))
    }
}

type Inputs = Arc<[(Template, SchemaRef)]>;

struct Factory {
    folder: PathBuf,
    inputs: Inputs,
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        Table::open(&self.folder).map(|_| ())
    }

    fn overwrites(&self) -> bool {
        true
    }

    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let table = Table::open(&self.folder)?;
        Ok(Box::new(Filler { table, inputs: self.inputs.clone(), waiting: vec![], rejects: vec![], since: None }))
    }
}

struct Filler {
    table: Arc<Table>,
    inputs: Inputs,
    /// Written and not synced, the first of them at `since`.
    waiting: Vec<Ticket>,
    since: Option<Instant>,
    rejects: Vec<Reject>,
}

impl Filler {
    fn sync(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.table.sync()?;
        self.since = None;
        acks.done.append(&mut self.waiting);
        Ok(())
    }
}

impl Sink for Filler {
    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let (template, schema) = &self.inputs[input];
        let mut text = Vec::new();
        let mut places = Vec::with_capacity(batch.len());
        for row in batch.rows() {
            let begun = text.len();
            match template.render(&row, &mut text) {
                Ok(()) => {
                    let key = text.len();
                    json::write_row(&row, schema, &mut text);
                    places.push((begun, key, text.len()));
                }
                Err(e) => {
                    text.truncate(begun);
                    self.rejects.push(Reject::row(e.reason, e.message, &row, schema));
                }
            }
        }
        self.table.write(places.iter().map(|&(from, key, to)| (&text[from..key], &text[key..to])))?;
        self.waiting.push(ticket);
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.rejects);
        if self.since.is_some_and(|s| s.elapsed() >= SYNC) { self.sync(acks) } else { Ok(()) }
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.rejects);
        self.sync(acks)
    }
}
