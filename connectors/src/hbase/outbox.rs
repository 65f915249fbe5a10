//! Exactly-once: an outbox's chunk is puts and deletes of one timestamp, which was fixed when its rows entered it.

use super::client::{Client, Failure};
use super::sink::Bound;
use super::writer::{CHUNK, Row, heartbeat, merge, mutation};
use crate::chunk::{Chunk, begin, put_bytes, put_i64, put_meta, put_number};
use hbase_thrift::hbase::BatchMutation;
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::{Acks, KeepRefused};
use millrace_sdk::{Batch, Clock, Fault, Meta, NO_TIME, Outbox, Sink, Ticket, point};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Chunk: version, timestamp (i64, ms), wall time (i64, µs), worker, family, then items: `COLUMNS` count and names, or `ROW` meta, key,
/// count of cells (0: delete the family), each the column's number in the names before it, and `PUT` value or `DELETE`.
const VERSION: u8 = 1;
const COLUMNS: u8 = 0;
const ROW: u8 = 1;
const DELETE: u8 = 0;
const PUT: u8 = 1;

pub struct Encoder {
    bound: Arc<Bound>,
    floor: Arc<AtomicI64>,
    worker: usize,
    clock: Clock,
    rejects: Vec<Reject>,
    without_cells: u64,
}

impl Encoder {
    pub fn new(bound: Arc<Bound>, floor: Arc<AtomicI64>, worker: usize, clock: Clock) -> Encoder {
        Encoder { bound, floor, worker, clock, rejects: vec![], without_cells: 0 }
    }
}

impl Sink for Encoder {
    fn write(&mut self, _: usize, _: &Batch, _: Ticket) -> Result<(), Fault> {
        Err(Fault::bug("an HBase sink's encoder was asked to write"))
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.rejects);
        if self.without_cells > 0 {
            acks.dropped.push(("no-cells", std::mem::take(&mut self.without_cells)));
        }
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }

    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        if begin(VERSION, chunk) {
            let now = self.clock.now();
            let next = |floor: i64| Some((floor + 1).max(now.div_euclid(1000)));
            let before = self.floor.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap_or_default();
            put_i64(next(before).unwrap_or_default(), chunk);
            put_i64(now, chunk);
            put_number(self.worker as u64, chunk);
            put_bytes(self.bound.family.as_bytes(), chunk);
        }
        let rows = self.bound.rows(input, batch, &mut self.rejects, &mut self.without_cells);
        if !rows.is_empty() {
            chunk.push(COLUMNS);
            put_number(self.bound.names.len() as u64, chunk);
            self.bound.names.iter().for_each(|name| put_bytes(name.as_bytes(), chunk));
        }
        for row in rows {
            chunk.push(ROW);
            put_meta(&batch.metas()[row.number], chunk);
            put_bytes(&row.key, chunk);
            put_number(row.cells.len() as u64, chunk);
            for (column, value) in row.cells {
                put_number(column.into(), chunk);
                match value {
                    Some(value) => {
                        chunk.push(PUT);
                        put_bytes(&value, chunk);
                    }
                    None => chunk.push(DELETE),
                }
            }
        }
        Some(Ok(()))
    }
}

/// A chunk, read.
struct Load {
    timestamp: i64,
    wall: i64,
    worker: usize,
    family: String,
    columns: Vec<String>,
    rows: Vec<Row>,
    metas: Vec<Meta>,
}

impl Load {
    fn read(bytes: &[u8]) -> Result<Load, Fault> {
        let mut chunk = Chunk::open(bytes, VERSION)?;
        let (timestamp, wall, worker) = (chunk.i64()?, chunk.i64()?, chunk.number()? as usize);
        let family = chunk.text()?.into();
        let mut load = Load { timestamp, wall, worker, family, columns: vec![], rows: vec![], metas: vec![] };
        let mut known: HashMap<String, u16> = HashMap::new();
        let mut columns: Vec<u16> = vec![];
        let wrong = || Fault::refused("a chunk of the outbox is damaged");
        while !chunk.is_empty() {
            if chunk.byte()? == COLUMNS {
                columns.clear();
                for _ in 0..chunk.number()? {
                    let name = chunk.text()?;
                    let next = u16::try_from(known.len()).map_err(|_| wrong())?;
                    let number = *known.entry(name.into()).or_insert_with(|| {
                        load.columns.push(name.into());
                        next
                    });
                    columns.push(number);
                }
                continue;
            }
            load.metas.push(chunk.meta()?);
            let key = chunk.bytes()?.to_vec();
            let mut cells = vec![];
            for _ in 0..chunk.number()? {
                let column = *columns.get(chunk.number()? as usize).ok_or_else(wrong)?;
                cells.push((column, if chunk.byte()? == PUT { Some(chunk.bytes()?.to_vec()) } else { None }));
            }
            load.rows.push(Row { key, cells, number: load.rows.len() });
        }
        Ok(load)
    }

    /// All rows that were merged into the one that was refused.
    fn rejects<'a>(&'a self, key: &'a [u8], message: &'a str) -> impl Iterator<Item = Reject> + 'a {
        self.rows.iter().filter(move |row| row.key == key).map(move |row| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let cells: serde_json::Map<String, serde_json::Value> =
                row.cells.iter().map(|(c, v)| (self.columns[*c as usize].clone(), v.as_deref().map(text).into())).collect();
            let body = serde_json::json!({"row": text(&row.key), "cells": cells}).to_string();
            Reject { is_row: true, ..Reject::new("refused-by-hbase", message, self.metas[row.number], body.as_bytes()) }
        })
    }
}

/// What a writer's column of the marker row holds, as text: version, epoch, nonce, marker or `-`, greatest timestamp used.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mark {
    /// Counts who has taken the writer over.
    epoch: u64,
    /// Tells two of one epoch apart, of whom only one's put has arrived.
    nonce: i64,
    marker: Option<u64>,
    timestamp: i64,
}

impl Mark {
    fn write(&self) -> String {
        let marker = self.marker.map_or("-".into(), |m| m.to_string());
        format!("1 {} {} {marker} {}", self.epoch, self.nonce, self.timestamp)
    }

    fn read(text: &[u8]) -> Option<Mark> {
        let mut parts = std::str::from_utf8(text).ok()?.split(' ');
        if parts.next()? != "1" {
            return None;
        }
        let (epoch, nonce) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let marker = match parts.next()? {
            "-" => None,
            marker => Some(marker.parse().ok()?),
        };
        let timestamp = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Mark { epoch, nonce, marker, timestamp })
    }

    fn is_of(&self, other: &Mark) -> bool {
        (self.epoch, self.nonce) == (other.epoch, other.nonce)
    }
}

pub struct Cells {
    bound: Arc<Bound>,
    floor: Arc<AtomicI64>,
    client: Client,
    /// What this process has put, by writer.
    held: HashMap<String, Mark>,
    /// The newest event time written, by worker.
    newest: HashMap<usize, i64>,
    keep: Option<KeepRefused>,
}

impl Cells {
    pub fn new(bound: Arc<Bound>, floor: Arc<AtomicI64>) -> Cells {
        let client = Client::new(&bound.thrift, bound.timeout);
        Cells { bound, floor, client, held: HashMap::new(), newest: HashMap::new(), keep: None }
    }

    fn column(&self, writer: &str) -> Vec<u8> {
        format!("{}:{writer}", self.bound.family).into_bytes()
    }

    /// A writer's mark as it is now, and its text. The greatest timestamp of all writers becomes the floor of new ones.
    fn look(&self, writer: &str) -> Result<Option<(Mark, Vec<u8>)>, Fault> {
        let rows = self.client.get(&self.bound.table, &[self.bound.marker_row.as_bytes().to_vec()], &[])?;
        let (column, mut found) = (self.column(writer), None);
        for (name, cell) in rows.into_iter().flat_map(|r| r.columns.unwrap_or_default()) {
            let text = cell.value.unwrap_or_default();
            let mark = Mark::read(&text);
            if let Some(mark) = &mark {
                self.floor.fetch_max(mark.timestamp, Ordering::SeqCst);
            }
            if name == column {
                let wrong = || Fault::refused(format!("the marker of writer `{writer}` in row `{}` cannot be read", self.bound.marker_row));
                found = Some((mark.ok_or_else(|| wrong().detail(String::from_utf8_lossy(&text)))?, text));
            }
        }
        Ok(found)
    }

    /// Replaces a mark; false: it is not the one that was expected.
    fn replace(&self, writer: &str, before: &[u8], mark: &Mark) -> Result<bool, Failure> {
        let row = self.bound.marker_row.as_bytes();
        self.client.check_and_put(&self.bound.table, row, &self.column(writer), before, mark.write().as_bytes())
    }

    /// The mark, if it is still this process's.
    fn hold(&self, writer: &str) -> Result<(Mark, Vec<u8>), Fault> {
        let mine = self.held.get(writer).ok_or_else(|| Fault::bug(format!("HBase writer `{writer}` was not fenced before")))?;
        match self.look(writer)? {
            Some((mark, text)) if mark.is_of(mine) => Ok((mark, text)),
            Some(_) => Err(taken(writer)),
            None => {
                let fault = Fault::refused(format!("the marker of writer `{writer}` is gone from row `{}`", self.bound.marker_row));
                Err(fault.hint("was the row deleted, or does the family's time to live end it?"))
            }
        }
    }

    fn take(&mut self, writer: &str) -> Result<(), Fault> {
        loop {
            let (before, text) = self.look(writer)?.unwrap_or_default();
            let nonce = Clock::System.now() ^ i64::from(std::process::id()) << 40;
            let mark = Mark { epoch: before.epoch + 1, nonce, ..before };
            if self.replace(writer, &text, &mark)? {
                self.held.insert(writer.into(), mark);
                return Ok(());
            }
        }
    }

    /// Sends rows; those that HBase refuses for good are named with what it says.
    fn send(&self, rows: &[BatchMutation], timestamp: i64, refused: &mut BTreeMap<Vec<u8>, String>) -> Result<(), Fault> {
        match (self.client.mutate(&self.bound.table, rows, timestamp), rows) {
            (Ok(()), _) => Ok(()),
            (Err(Failure::Down(fault)), _) => Err(fault),
            (Err(Failure::Refused(message)), [one]) => {
                refused.insert(one.row.clone().unwrap_or_default(), message);
                Ok(())
            }
            // One of them is wrong: halve until it stands alone. What is sent twice has the same timestamp.
            (Err(Failure::Refused(_)), rows) => {
                let (left, right) = rows.split_at(rows.len() / 2);
                self.send(left, timestamp, refused)?;
                self.send(right, timestamp, refused)
            }
        }
    }

    fn publish(&mut self, writer: &str, load: &Load) -> Result<Vec<Reject>, Fault> {
        let merged = merge(&load.rows);
        let rows: Vec<BatchMutation> = merged.into_iter().map(|(key, row)| mutation(&load.family, &load.columns, key, &row)).collect();
        let mut refused = BTreeMap::new();
        for (number, some) in rows.chunks(CHUNK).enumerate() {
            if number > 0 {
                self.hold(writer)?;
            }
            self.send(some, load.timestamp, &mut refused)?;
        }
        if let Some(row) = &self.bound.heartbeat {
            let newest = self.newest.entry(load.worker).or_insert(NO_TIME);
            *newest = load.metas.iter().map(|m| m.time).fold(*newest, i64::max);
            let beat = heartbeat(row, &load.family, load.worker, *newest, load.wall);
            let mut beat_refused = BTreeMap::new();
            self.send(&[beat], load.timestamp, &mut beat_refused)?;
            for message in beat_refused.values() {
                tracing::warn!("HBase refuses the heartbeat row: {message}");
            }
        }
        Ok(refused.iter().flat_map(|(key, message)| load.rejects(key, message)).collect())
    }
}

fn taken(writer: &str) -> Fault {
    Fault::refused(format!("another run of this job has taken over HBase writer `{writer}`")).hint("let only one of them run")
}

impl Outbox for Cells {
    fn keep_refused(&mut self, keep: KeepRefused) {
        self.keep = Some(keep);
    }

    fn fence(&mut self, writers: &[String]) -> Result<(), Fault> {
        for writer in writers {
            self.take(writer)?;
            point::reach("fence-half");
        }
        Ok(())
    }

    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        Ok(self.look(writer)?.and_then(|(mark, _)| mark.marker))
    }

    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        // What a call before this one has left in doubt shows here, too.
        let (mark, text) = self.hold(writer)?;
        if mark.marker.is_some_and(|m| m >= marker) {
            return Ok(());
        }
        point::reach("txn-begun");
        let (mut refused, mut timestamp) = (vec![], mark.timestamp);
        if !chunk.is_empty() {
            let load = Load::read(chunk)?;
            self.floor.fetch_max(load.timestamp, Ordering::SeqCst);
            timestamp = timestamp.max(load.timestamp);
            refused = self.publish(writer, &load)?;
        }
        if let Some(keep) = self.keep.as_ref().filter(|_| !refused.is_empty()) {
            keep(writer, marker, &refused)?;
        }
        point::reach("txn-sent");
        let after = Mark { marker: Some(marker), timestamp, ..mark };
        if !self.replace(writer, &text, &after)? {
            return Err(taken(writer));
        }
        point::reach("txn-committed");
        rejects.append(&mut refused);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_there_and_back() {
        for marker in [None, Some(0), Some(u64::MAX)] {
            let mark = Mark { epoch: 3, nonce: -7, marker, timestamp: 1_709_164_800_000 };
            assert_eq!(Mark::read(mark.write().as_bytes()), Some(mark));
        }
        for wrong in ["", "1", "2 1 1 1 1", "1 1 1 1", "1 1 1 x 1", "1 1 1 1 1 1"] {
            assert_eq!(Mark::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
