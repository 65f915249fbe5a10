//! The thread of a Redis sink: gathers rows, sends them as one pipeline, tries again for as long as it takes.

use super::client::{Client, Verdict, judge_answer};
use crate::gather::{Backoff, Desk};
use crossbeam_channel::Receiver;
use millrace_sdk::operator::Reject;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, SchemaRef, Ticket};
use redis::Value;
use std::sync::Arc;

/// Rows of one write, as packed commands.
pub struct Load {
    pub packed: Vec<u8>,
    pub rows: Vec<Row>,
    pub ticket: Ticket,
    /// Where the rows come from, should the server refuse one.
    pub batch: Batch,
    pub schema: SchemaRef,
}

/// One row's stretch of the packed commands.
pub struct Row {
    /// Where it ends.
    pub end: usize,
    pub commands: u8,
    /// Its number in the batch.
    pub number: u32,
}

/// Part of a load that goes into one pipeline: rows `from..to`.
struct Piece<'a> {
    load: &'a Load,
    from: usize,
    to: usize,
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        let begin = if self.from == 0 { 0 } else { self.load.rows[self.from - 1].end };
        &self.load.packed[begin..if self.to == 0 { 0 } else { self.load.rows[self.to - 1].end }]
    }
}

pub struct Writer {
    pub client: Client,
    /// Rows a pipeline at most.
    pub batch: usize,
    pub desk: Arc<Desk>,
    pub waker: Waker,
    pub backoff: Backoff,
}

impl Writer {
    pub fn run(mut self, loads: Receiver<Load>) {
        while let Ok(first) = loads.recv() {
            let mut group = vec![first];
            let mut rows = group[0].rows.len();
            while rows < self.batch
                && let Ok(load) = loads.try_recv()
            {
                rows += load.rows.len();
                group.push(load);
            }
            match self.write(&group) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.desk.fail(fault, &self.waker),
            }
            let bytes = group.iter().map(|l| l.packed.len()).sum();
            self.desk.done(group.iter().map(|l| l.ticket), rows, bytes, &self.waker);
        }
    }

    /// Writes loads; false: the sink is gone.
    fn write(&mut self, group: &[Load]) -> Result<bool, Fault> {
        let mut pipeline: Vec<Piece<'_>> = vec![];
        let mut room = self.batch;
        for load in group {
            let mut from = 0;
            while from < load.rows.len() {
                let to = load.rows.len().min(from + room);
                pipeline.push(Piece { load, from, to });
                room -= to - from;
                from = to;
                if room == 0 {
                    if !self.send(std::mem::take(&mut pipeline))? {
                        return Ok(false);
                    }
                    room = self.batch;
                }
            }
        }
        self.send(pipeline)
    }

    /// Sends a pipeline until every row is written, or refused for good.
    fn send(&mut self, mut pieces: Vec<Piece<'_>>) -> Result<bool, Fault> {
        while !pieces.is_empty() {
            let packed = pieces.iter().map(Piece::bytes).collect::<Vec<_>>().concat();
            let commands = pieces.iter().flat_map(|p| &p.load.rows[p.from..p.to]).map(|r| usize::from(r.commands)).sum();
            let trouble = match self.client.send(&packed, commands, true) {
                Ok(answers) => self.settle(&mut pieces, &answers)?,
                Err(fault) if fault.retry => Some(fault.message),
                Err(fault) => return Err(fault),
            };
            match trouble {
                None => self.backoff.reset(),
                Some(why) => {
                    let rows: usize = pieces.iter().map(|p| p.to - p.from).sum();
                    tracing::warn!("{why}: {rows} rows wait and are sent again");
                    if !self.backoff.wait(&self.desk) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes from the pieces what is settled: all, or all before the first row that the server cannot take now. That one and what
    /// follows it are sent again, so that rows of one key keep their order.
    fn settle(&self, pieces: &mut Vec<Piece<'_>>, answers: &[Value]) -> Result<Option<String>, Fault> {
        let mut answers = answers.iter();
        for at in 0..pieces.len() {
            let (load, from, to) = (pieces[at].load, pieces[at].from, pieces[at].to);
            for n in from..to {
                let row = &load.rows[n];
                let mut refused = None;
                for answer in answers.by_ref().take(usize::from(row.commands)) {
                    let Value::ServerError(e) = answer else { continue };
                    match judge_answer(e) {
                        Verdict::Refused(why) => refused = refused.or(Some(why)),
                        Verdict::Again(why) => {
                            pieces.drain(..at);
                            pieces[0].from = n;
                            return Ok(Some(format!("Redis at `{}` cannot write now: {why}", self.client.address())));
                        }
                        hopeless => return Err(self.client.fault(hopeless)),
                    }
                }
                if let Some(why) = refused {
                    self.desk.reject([Reject::row("refused-by-redis", why, &load.batch.row(row.number as usize), &load.schema)]);
                }
            }
        }
        pieces.clear();
        Ok(None)
    }
}
