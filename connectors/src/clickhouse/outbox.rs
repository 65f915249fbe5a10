//! Exactly-once, as far as a server without transactions goes: by tokens that the table remembers.
//!
//! A chunk is cut into parts, always the same. Part p of chunk m of a writer is inserted with the deduplication token
//! `WRITER/m/p`: within its window the table takes a token once, so an insert whose answer was lost, or that a forerunner repeats
//! late, changes nothing. When all parts are there the marker is written to the table `millrace_markers`. Of a crash between the
//! two, the next run finds the marker before m and applies m again, to no effect.
//!
//! ClickHouse cannot compare and set. Who takes a writer over writes a row of its own (`fence`) and every part is preceded by a look
//! at who holds it: a forerunner that wakes up stops there. An insert of its that is on its way already is one of a chunk that was
//! decided, under the token that its successor uses.

use super::client::{Client, literal, name};
use super::insert::{Line, Target};
use super::table::Table;
use crate::chunk::{self, Chunk};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::KeepRefused;
use millrace_sdk::{Fault, Meta, Outbox, Record, point};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

/// The layout of chunks, and how they are cut into parts: [`PART_ROWS`], [`PART_BYTES`].
const VERSION: u8 = 1;
const PART_ROWS: usize = 100_000;
const PART_BYTES: usize = 16 << 20;

/// Begins rows with these columns.
pub fn begin(columns: &str, rows: usize, chunk: &mut Vec<u8>) {
    chunk::begin(VERSION, chunk);
    if rows > 0 {
        chunk::put_bytes(columns.as_bytes(), chunk);
        chunk::put_number(rows as u64, chunk);
    }
}

/// Appends a row as JSON.
pub fn encode(row: &Record<'_>, json: &[u8], chunk: &mut Vec<u8>) {
    chunk::put_meta(row.meta(), chunk);
    chunk::put_bytes(json, chunk);
}

/// Rows with the same columns.
struct Rows<'a> {
    columns: &'a str,
    lines: Vec<Line<'a, (Meta, &'a [u8])>>,
}

fn decode(chunk: &[u8]) -> Result<Vec<Rows<'_>>, Fault> {
    let mut all: Vec<Rows<'_>> = vec![];
    if chunk.is_empty() {
        return Ok(all);
    }
    let mut chunk = Chunk::open(chunk, VERSION)?;
    while !chunk.is_empty() {
        let columns = chunk.text()?;
        if all.last().is_none_or(|last| last.columns != columns) {
            all.push(Rows { columns, lines: vec![] });
        }
        for _ in 0..chunk.number()? {
            let (meta, json) = (chunk.meta()?, chunk.bytes()?);
            if let Some(rows) = all.last_mut() {
                rows.lines.push(Line { json, row: (meta, json) });
            }
        }
    }
    Ok(all)
}

/// What publishes the outbox of a ClickHouse sink.
pub struct ClickHouseOutbox {
    client: Client,
    table: String,
    /// The table of the markers, as SQL names it.
    markers: String,
    settings: Vec<(String, String)>,
    /// This outbox among all that ever were.
    me: String,
    held: HashSet<String>,
    keep: Option<KeepRefused>,
}

impl ClickHouseOutbox {
    /// # Errors
    /// A table that remembers no tokens; a table for markers that is missing and cannot be made.
    pub fn new(client: Client, table: &Table, markers: &str, settings: Vec<(String, String)>) -> Result<ClickHouseOutbox, Fault> {
        let what = format!("table `{}.{}`", table.database, table.table);
        match table.window {
            Some(0) => {
                let fault = Fault::refused(format!("{what} does not remember inserts, so none can be exactly-once"));
                let setting = if table.engine.starts_with("Replicated") { "replicated" } else { "non_replicated" };
                let alter = format!("ALTER TABLE {} MODIFY SETTING {setting}_deduplication_window = 10000", table.name());
                return Err(fault.hint(format!("say `{alter}`, or `guarantee: at_least_once` for this sink")));
            }
            None => {
                let fault = Fault::refused(format!("{what} has the engine {}, which does not remember inserts", table.engine));
                return Err(fault.hint("exactly-once needs a MergeTree; or say `guarantee: at_least_once` for this sink"));
            }
            Some(_) => {}
        }
        let word = || RandomState::new().build_hasher().finish();
        let me = format!("{:016x}{:016x}", word(), word());
        let full = format!("{}.{}", name(&table.database), name(markers));
        let exists =
            format!("SELECT count() FROM system.tables WHERE database = {} AND name = {}", literal(&table.database), literal(markers));
        let outbox = ClickHouseOutbox { client, table: table.name(), markers: full, settings, me, held: HashSet::new(), keep: None };
        if outbox.number(&exists)? != Some(0) {
            return Ok(outbox);
        }
        let columns = "(writer String, kind LowCardinality(String), value UInt64, owner String, time DateTime DEFAULT now())";
        if table.engine.starts_with("Replicated") {
            let fault = Fault::refused(format!("table `{}.{markers}` for the markers of exactly-once does not exist", table.database));
            let engine = "ENGINE = ReplicatedReplacingMergeTree(value) ORDER BY (writer, kind)";
            return Err(fault.hint(format!("create it on every replica: `CREATE TABLE {} {columns} {engine}`", outbox.markers)));
        }
        let create =
            format!("CREATE TABLE IF NOT EXISTS {} {columns} ENGINE = ReplacingMergeTree(value) ORDER BY (writer, kind)", outbox.markers);
        outbox.client.query(&create, "TabSeparated")?;
        Ok(outbox)
    }

    fn number(&self, sql: &str) -> Result<Option<u64>, Fault> {
        Ok(self.client.lines(sql)?.first().and_then(|l| l.first()).and_then(|n| n.parse().ok()))
    }

    fn say(&self, kind: &str, values: &[(&str, u64)]) -> Result<(), Fault> {
        let row = |(writer, value): &(&str, u64)| {
            serde_json::json!({"writer": writer, "kind": kind, "value": value, "owner": self.me}).to_string()
        };
        let lines = values.iter().map(row).collect::<Vec<_>>().join("\n");
        let into = format!("{} (writer, kind, value, owner)", self.markers);
        Ok(self.client.insert(&into, &[("async_insert".into(), "0".into())], lines.as_bytes())?)
    }

    /// Who took each writer over last, and how often it was taken over.
    fn holders(&self, writers: &[String]) -> Result<HashMap<String, (u64, String)>, Fault> {
        let names = writers.iter().map(|w| literal(w)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT writer, max(value), argMax(owner, (value, owner)) FROM {} WHERE kind = 'fence' AND writer IN ({names}) GROUP BY writer",
            self.markers
        );
        let parse = |line: Vec<String>| match <[String; 3]>::try_from(line) {
            Ok([writer, n, owner]) => Some((writer, (n.parse().ok()?, owner))),
            Err(_) => None,
        };
        Ok(self.client.lines(&sql)?.into_iter().filter_map(parse).collect())
    }

    fn look(&self, writers: &[String]) -> Result<(), Fault> {
        let holders = self.holders(writers)?;
        match writers.iter().find(|w| holders.get(*w).is_none_or(|(_, owner)| *owner != self.me)) {
            None => Ok(()),
            Some(writer) => {
                let fault = Fault::refused(format!("another process has taken over the writer `{writer}` in ClickHouse"));
                Err(fault.hint("two instances of this job run, or its markers were deleted by hand"))
            }
        }
    }
}

impl Outbox for ClickHouseOutbox {
    fn keep_refused(&mut self, keep: KeepRefused) {
        self.keep = Some(keep);
    }

    fn fence(&mut self, writers: &[String]) -> Result<(), Fault> {
        if writers.is_empty() {
            return Ok(());
        }
        let holders = self.holders(writers)?;
        let values: Vec<_> = writers.iter().map(|w| (w.as_str(), holders.get(w).map_or(0, |(n, _)| *n) + 1)).collect();
        point::reach("fence-half");
        self.say("fence", &values)?;
        // Of two that took it over at once, one is told.
        self.look(writers)?;
        self.held.extend(writers.iter().cloned());
        Ok(())
    }

    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        let marker = format!("FROM {} WHERE kind = 'applied' AND writer = {}", self.markers, literal(writer));
        match self.number(&format!("SELECT count() {marker}"))? {
            Some(0) => Ok(None),
            _ => self.number(&format!("SELECT max(value) {marker}")),
        }
    }

    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        if !self.held.contains(writer) {
            return Err(Fault::bug(format!("the writer `{writer}` of a ClickHouse outbox was not fenced")));
        }
        let all = decode(chunk)?;
        let holder = [writer.to_string()];
        point::reach("txn-begun");
        let mut part = 0;
        let mut refused = vec![];
        for rows in &all {
            let into = format!("{} ({})", self.table, rows.columns);
            let target = Target { client: &self.client, into: &into, settings: &self.settings };
            for lines in parts(&rows.lines) {
                self.look(&holder)?;
                target.insert(lines, &format!("{writer}/{marker}/{part}"), &mut Err, &mut |(meta, json), why| {
                    refused.push(Reject { is_row: true, ..Reject::new("refused-by-clickhouse", why, *meta, json) });
                })?;
                part += 1;
            }
        }
        if let Some(keep) = self.keep.as_ref().filter(|_| !refused.is_empty()) {
            keep(writer, marker, &refused)?;
        }
        point::reach("txn-sent");
        self.look(&holder)?;
        self.say("applied", &[(writer, marker)])?;
        point::reach("txn-committed");
        rejects.append(&mut refused);
        Ok(())
    }
}

/// Lines cut into inserts, always in the same places.
fn parts<'a, 'b, T>(lines: &'a [Line<'b, T>]) -> Vec<&'a [Line<'b, T>]> {
    let (mut all, mut begin, mut bytes) = (vec![], 0, 0);
    for (i, line) in lines.iter().enumerate() {
        if i > begin && (i - begin == PART_ROWS || bytes + line.json.len() > PART_BYTES) {
            all.push(&lines[begin..i]);
            (begin, bytes) = (i, 0);
        }
        bytes += line.json.len();
    }
    if begin < lines.len() {
        all.push(&lines[begin..]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{BatchBuilder, Schema};

    #[test]
    fn chunks() {
        let mut rows = BatchBuilder::new(Schema::new(vec![]));
        let meta = Meta { time: -5, offset: 6, partition: 7, source: 8, flags: 1, ..Meta::default() };
        rows.end_row(meta);
        let batch = rows.finish();
        let mut chunk = vec![];
        for columns in ["`a`", "`a`", "`b`"] {
            begin(columns, 2, &mut chunk);
            encode(&batch.row(0), b"{}", &mut chunk);
            encode(&batch.row(0), b"{\"a\":1}", &mut chunk);
        }
        let all = decode(&chunk).ok().unwrap();
        let shown: Vec<_> = all.iter().map(|r| (r.columns, r.lines.len(), r.lines[1].json, r.lines[1].row.0)).collect();
        assert_eq!(shown, [("`a`", 4, &b"{\"a\":1}"[..], meta), ("`b`", 2, b"{\"a\":1}", meta)]);
        assert!(decode(&[]).ok().unwrap().is_empty());
        assert!(decode(&chunk[..chunk.len() - 1]).is_err());
        chunk.clear();
        begin("`a`", 0, &mut chunk);
        assert_eq!((chunk.len(), decode(&chunk).ok().unwrap().len()), (1, 0), "a chunk of no rows is not empty");
    }

    #[test]
    fn parts_are_bounded_and_lose_nothing() {
        let text = vec![b'x'; PART_BYTES / 3];
        let line = |bytes: usize| Line { json: &text[..bytes], row: () };
        let shown = |lines: Vec<Line<'_, ()>>| parts(&lines).iter().map(|p| p.len()).collect::<Vec<_>>();
        assert_eq!(shown(vec![]), Vec::<usize>::new());
        assert_eq!(shown((0..PART_ROWS * 2 + 1).map(|_| line(1)).collect()), [PART_ROWS, PART_ROWS, 1]);
        assert_eq!(shown((0..7).map(|_| line(PART_BYTES / 3)).collect()), [3, 3, 1]);
    }
}
