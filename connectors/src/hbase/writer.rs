//! The thread of an HBase sink: gathers rows, sends them with growing timestamps, tries again for as long as it takes.

use super::client::{Client, Failure};
use crossbeam_channel::Receiver;
use hbase_thrift::hbase::{BatchMutation, Mutation};
use millrace_sdk::operator::Reject;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Clock, NO_TIME, SchemaRef, Ticket};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Rows that share a timestamp at most.
const GROUP: usize = 10_000;
/// Rows a call.
pub const CHUNK: usize = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What a row does to a column: a new value, or none.
pub type Cell = (u16, Option<Vec<u8>>);

/// Rows of one write, keyed.
pub struct Load {
    pub rows: Vec<Row>,
    pub ticket: Ticket,
    /// Where the rows come from, should HBase refuse one.
    pub batch: Arc<Batch>,
    pub schema: SchemaRef,
}

pub struct Row {
    pub key: Vec<u8>,
    /// Empty: the whole family is deleted.
    pub cells: Vec<Cell>,
    /// Its number in the batch.
    pub number: usize,
}

/// State shared with the sink.
#[derive(Default)]
pub struct Shared {
    pub done: Mutex<(Vec<Ticket>, Vec<Reject>)>,
    /// Rows that are not yet written.
    pub waiting: AtomicUsize,
    /// Nobody waits any more.
    pub stop: AtomicBool,
}

pub struct Writer {
    pub client: Client,
    pub table: String,
    pub family: String,
    /// Names of the columns that cells number.
    pub columns: Arc<[String]>,
    pub heartbeat: Option<String>,
    pub worker: usize,
    pub clock: Clock,
    pub waker: Waker,
    pub shared: Arc<Shared>,
    /// The timestamp given last, and the newest event time written.
    pub last: i64,
    pub newest: i64,
}

/// The last mutation of each row and column.
pub struct Merged<'a> {
    cells: HashMap<u16, &'a Option<Vec<u8>>>,
    whole: bool,
}

impl Writer {
    pub fn run(mut self, loads: Receiver<Load>) {
        while let Ok(first) = loads.recv() {
            let mut group = vec![first];
            let mut rows = group[0].rows.len();
            while rows < GROUP
                && let Ok(load) = loads.try_recv()
            {
                rows += load.rows.len();
                group.push(load);
            }
            if !self.write(&group) {
                return;
            }
            let times = group.iter().flat_map(|l| l.batch.metas()).map(|m| m.time).filter(|t| *t != NO_TIME);
            self.newest = times.max().unwrap_or(NO_TIME).max(self.newest);
            if !self.beat() {
                return;
            }
            let mut done = self.shared.done.lock().unwrap_or_else(|e| e.into_inner());
            done.0.extend(group.iter().map(|l| l.ticket));
            drop(done);
            self.shared.waiting.fetch_sub(rows, Ordering::SeqCst);
            (self.waker)();
        }
    }

    /// One more than the last, or the time in milliseconds, whichever is greater: a delete hides all puts at or below its own.
    fn timestamp(&mut self) -> i64 {
        self.last = (self.last + 1).max(self.clock.now().div_euclid(1000));
        self.last
    }

    /// Writes a group of loads with one timestamp; false: the sink is gone.
    fn write(&mut self, group: &[Load]) -> bool {
        let timestamp = self.timestamp();
        let merged = merge(group.iter().flat_map(|load| &load.rows));
        let mutations: Vec<BatchMutation> = merged.into_iter().map(|(key, row)| mutation(&self.family, &self.columns, key, &row)).collect();
        mutations.chunks(CHUNK).all(|chunk| self.send(group, chunk, timestamp))
    }

    /// Sends rows until they are written, or refused for good; false: the sink is gone.
    fn send(&self, group: &[Load], rows: &[BatchMutation], timestamp: i64) -> bool {
        match (self.until_done(rows, timestamp), rows) {
            (Some(Ok(())), _) => true,
            (None, _) => false,
            (Some(Err(message)), [refused]) => {
                let rejects = rejects(group, refused.row.as_deref().unwrap_or_default(), &message);
                self.shared.done.lock().unwrap_or_else(|e| e.into_inner()).1.extend(rejects);
                true
            }
            // One of them is wrong: halve until it stands alone. What is sent twice has the same timestamp.
            (Some(Err(_)), rows) => {
                let (left, right) = rows.split_at(rows.len() / 2);
                self.send(group, left, timestamp) && self.send(group, right, timestamp)
            }
        }
    }

    /// None: the sink is gone. An error: what the gateway will never take.
    fn until_done(&self, mutations: &[BatchMutation], timestamp: i64) -> Option<Result<(), String>> {
        let mut pause = FIRST_PAUSE;
        let mut chance = SmallRng::seed_from_u64(self.clock.now() as u64 ^ self.worker as u64);
        loop {
            match self.client.mutate(&self.table, mutations, timestamp) {
                Ok(()) => return Some(Ok(())),
                Err(Failure::Refused(message)) => return Some(Err(message)),
                Err(Failure::Down(fault)) => {
                    let detail = fault.detail.unwrap_or_default();
                    tracing::warn!("{} ({detail}): {} rows wait and are sent again", fault.message, mutations.len());
                }
            }
            let mut left = pause.mul_f64(chance.random_range(0.5..1.5));
            while !left.is_zero() {
                if self.shared.stop.load(Ordering::SeqCst) {
                    return None;
                }
                let step = left.min(Duration::from_millis(50));
                std::thread::sleep(step);
                left -= step;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Tells readers of the table how new it is.
    fn beat(&mut self) -> bool {
        let Some(row) = self.heartbeat.clone() else { return true };
        let timestamp = self.timestamp();
        let beat = heartbeat(&row, &self.family, self.worker, self.newest, self.clock.now());
        match self.until_done(&[beat], timestamp) {
            Some(Err(message)) => {
                tracing::warn!("HBase refuses the heartbeat row: {message}");
                true
            }
            Some(Ok(())) => true,
            None => false,
        }
    }
}

/// Per row and column the last mutation; rows in no order, as they no longer depend on each other.
pub fn merge<'a>(rows: impl IntoIterator<Item = &'a Row>) -> HashMap<&'a [u8], Merged<'a>> {
    let mut merged: HashMap<&[u8], Merged<'_>> = HashMap::new();
    for row in rows {
        let entry = match merged.entry(&row.key) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => e.insert(Merged { cells: HashMap::new(), whole: false }),
        };
        entry.whole = row.cells.is_empty();
        entry.cells.extend(row.cells.iter().map(|(column, value)| (*column, value)));
    }
    merged
}

/// `columns`: their names, which cells number.
pub fn mutation(family: &str, columns: &[String], key: &[u8], row: &Merged<'_>) -> BatchMutation {
    let mutation = |column: &str, value: Option<Vec<u8>>| Mutation::new(value.is_none(), column.as_bytes().to_vec(), value, true);
    let mutations = if row.whole {
        // A family without a colon: all of its columns.
        vec![mutation(family, None)]
    } else {
        let mut cells: Vec<_> = row.cells.iter().collect();
        cells.sort();
        cells.into_iter().map(|(column, value)| mutation(&columns[*column as usize], (*value).clone())).collect()
    };
    BatchMutation::new(key.to_vec(), mutations)
}

/// The row that tells readers of a table how new it is: event time (if any is known) and wall time, microseconds since 1970.
pub fn heartbeat(row: &str, family: &str, worker: usize, newest: i64, wall: i64) -> BatchMutation {
    let mut cells = vec![("wall_time", wall)];
    if newest != NO_TIME {
        cells.push(("event_time", newest));
    }
    let mutations = cells.into_iter().map(|(name, value)| {
        let column = format!("{family}:{name}.{worker}");
        Mutation::new(false, column.into_bytes(), value.to_string().into_bytes(), true)
    });
    BatchMutation::new(row.as_bytes().to_vec(), mutations.collect::<Vec<_>>())
}

/// All rows that were merged into the one that was refused.
fn rejects<'a>(group: &'a [Load], key: &'a [u8], message: &'a str) -> impl Iterator<Item = Reject> + 'a {
    group.iter().flat_map(move |load| {
        let rows = load.rows.iter().filter(move |row| row.key == key);
        rows.map(move |row| Reject::row("refused-by-hbase", message, &load.batch.row(row.number), &load.schema))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{BatchBuilder, Field, Meta, Schema, Type};

    #[test]
    fn the_last_mutation_of_a_column_counts() {
        let schema = Schema::new(vec![]);
        let load = |rows: &[(&str, &[(u16, Option<&str>)])]| Load {
            rows: rows
                .iter()
                .enumerate()
                .map(|(number, (key, cells))| Row {
                    key: key.as_bytes().to_vec(),
                    cells: cells.iter().map(|(c, v)| (*c, v.map(|v| v.as_bytes().to_vec()))).collect(),
                    number,
                })
                .collect(),
            ticket: Ticket(0),
            batch: Arc::new(Batch::empty(schema.clone())),
            schema: schema.clone(),
        };
        let group = [
            load(&[("a", &[(0, Some("1")), (1, Some("x"))]), ("b", &[(0, Some("2"))]), ("a", &[(0, None)])]),
            load(&[("b", &[(1, Some("3"))]), ("b", &[(0, Some("4"))])]),
        ];
        let merged = merge(group.iter().flat_map(|load| &load.rows));
        let mut shown: Vec<String> = merged
            .iter()
            .map(|(key, row)| {
                let mut cells: Vec<_> =
                    row.cells.iter().map(|(c, v)| (*c, v.as_deref().map(|v| String::from_utf8_lossy(v).into_owned()))).collect();
                cells.sort();
                format!("{} {cells:?}", String::from_utf8_lossy(key))
            })
            .collect();
        shown.sort();
        assert_eq!(shown, ["a [(0, None), (1, Some(\"x\"))]", "b [(0, Some(\"4\")), (1, Some(\"3\"))]"]);
    }

    #[test]
    fn every_row_behind_a_refused_one_is_rejected() {
        let schema = Schema::new(vec![Field::new("n", Type::Bigint)]);
        let load = |keys: &[&str]| {
            let mut rows = BatchBuilder::new(schema.clone());
            for n in 0..keys.len() {
                rows.push_int(n as i64);
                rows.end_row(Meta::default());
            }
            let row = |(number, key): (usize, &&str)| Row { key: key.as_bytes().to_vec(), cells: vec![], number };
            let rows_of = keys.iter().enumerate().map(row).collect();
            Load { rows: rows_of, ticket: Ticket(0), batch: Arc::new(rows.finish()), schema: schema.clone() }
        };
        let group = [load(&["a", "b", "a"]), load(&["b", "a"])];
        let bodies: Vec<String> = rejects(&group, b"a", "no").map(|r| String::from_utf8(r.body).unwrap()).collect();
        assert_eq!(bodies, [r#"{"n":0}"#, r#"{"n":2}"#, r#"{"n":1}"#]);
    }
}
