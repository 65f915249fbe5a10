//! What stands in for sinks and stores: a list of rows, and a map.

use crate::rows;
use millrace_plan::cases::Datum;
use millrace_sdk::sink::Acks;
use millrace_sdk::store::BoxFuture;
use millrace_sdk::{Batch, BatchBuilder, Fault, Meta, SchemaRef, Sink, SinkContext, SinkFactory, Store, Ticket};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The rows that an output gave, in the order in which they came.
#[derive(Clone, Default)]
pub struct Collected(pub Arc<Mutex<Vec<Datum>>>);

impl Collected {
    pub fn add(&self, batch: &Batch) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.extend(batch.rows().map(|r| rows::row(&r, batch.schema())));
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).len()
    }

    /// Those from the `from`th on.
    pub fn since(&self, from: usize) -> Vec<Datum> {
        let all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.get(from..).unwrap_or_default().to_vec()
    }
}

impl SinkFactory for Collected {
    fn single_writer(&self) -> bool {
        true
    }

    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Collector { into: self.clone(), done: vec![] }))
    }
}

struct Collector {
    into: Collected,
    done: Vec<Ticket>,
}

impl Sink for Collector {
    fn write(&mut self, _: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        self.into.add(batch);
        self.done.push(ticket);
        Ok(())
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.done.append(&mut self.done);
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }
}

/// A store that has the test's rows.
pub struct Table(HashMap<Vec<u8>, Vec<u8>>);

impl Table {
    /// `schema`: what answers look like.
    ///
    /// # Errors
    /// A value that is none of its field's type.
    pub fn new(name: &str, given: &[(String, Datum)], schema: &SchemaRef) -> Result<Table, Fault> {
        let mut table = HashMap::new();
        for (key, row) in given {
            let mut out = BatchBuilder::new(schema.clone());
            for field in schema.fields() {
                match value(row, &field.name) {
                    None => out.push_missing(),
                    Some(d) => rows::push(d, field.ty, &mut out).map_err(|e| {
                        Fault::config(format!("the row `{key}` of the store `{name}` has a wrong `{}`", field.name)).detail(e.0)
                    })?,
                }
            }
            out.end_row(Meta::default());
            let mut bytes = vec![];
            out.finish().row(0).encode(&mut bytes);
            table.insert(key.clone().into_bytes(), bytes);
        }
        Ok(Table(table))
    }
}

/// A field, or a path into a row.
fn value<'d>(row: &'d Datum, path: &str) -> Option<&'d Datum> {
    let Datum::Map(fields) = row else { return None };
    if let Some((_, d)) = fields.iter().find(|(n, _)| n == path) {
        return Some(d);
    }
    let (head, rest) = path.split_once('.')?;
    value(fields.iter().find(|(n, _)| n == head).map(|(_, d)| d)?, rest)
}

impl Store for Table {
    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        Box::pin(std::future::ready(Ok(keys.iter().map(|k| self.0.get(k).cloned()).collect())))
    }
}
