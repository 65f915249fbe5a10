//! The thread of a ClickHouse sink: gathers rows to large inserts, tries again for as long as it takes.

use super::client::Client;
use super::insert::{Line, Target};
use crate::gather::{Backoff, Desk};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use millrace_sdk::operator::Reject;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, SchemaRef, Ticket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of one write, as lines of JSON.
pub struct Load {
    pub text: Vec<u8>,
    /// Where each line ends, and the row's number in the batch.
    pub lines: Vec<(usize, u32)>,
    pub ticket: Ticket,
    pub input: usize,
    pub batch: Batch,
    pub schema: SchemaRef,
}

impl Load {
    fn each(&self) -> impl Iterator<Item = Line<'_, (&Load, u32)>> {
        let begins = std::iter::once(0).chain(self.lines.iter().map(|(end, _)| *end));
        self.lines.iter().zip(begins).map(move |((end, number), begin)| Line { json: &self.text[begin..*end], row: (self, *number) })
    }
}

pub struct Writer {
    pub client: Client,
    /// Table and columns of each input.
    pub into: Vec<String>,
    pub settings: Vec<(String, String)>,
    pub max_rows: usize,
    pub max_bytes: usize,
    pub max_wait: Duration,
    pub desk: Arc<Desk>,
    pub waker: Waker,
    pub backoff: Backoff,
    /// Of this writer alone, in every run.
    pub token: String,
    pub inserts: u64,
}

/// Why an insert ended early: nobody waits for it any more.
const GONE: &str = "the sink is gone";

impl Writer {
    pub fn run(mut self, loads: Receiver<Load>) {
        while let Ok(first) = loads.recv() {
            let group = self.gather(first, &loads);
            match self.write(&group) {
                Ok(()) => {}
                Err(fault) if fault.message == GONE => return,
                Err(fault) => return self.desk.fail(fault, &self.waker),
            }
            let (rows, bytes) = group.iter().fold((0, 0), |(r, b), l| (r + l.lines.len(), b + l.text.len()));
            self.desk.done(group.iter().map(|l| l.ticket), rows, bytes, &self.waker);
        }
    }

    /// What comes until there is enough, or the first of it has waited long enough.
    fn gather(&self, first: Load, loads: &Receiver<Load>) -> Vec<Load> {
        let until = Instant::now() + self.max_wait;
        let (mut rows, mut bytes, mut group) = (first.lines.len(), first.text.len(), vec![first]);
        while rows < self.max_rows && bytes < self.max_bytes {
            match loads.recv_deadline(until) {
                Ok(load) => {
                    rows += load.lines.len();
                    bytes += load.text.len();
                    group.push(load);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        group
    }

    fn write(&mut self, group: &[Load]) -> Result<(), Fault> {
        let desk = self.desk.clone();
        for input in 0..self.into.len() {
            let lines: Vec<_> = group.iter().filter(|l| l.input == input).flat_map(Load::each).collect();
            if lines.is_empty() {
                continue;
            }
            self.inserts += 1;
            let token = format!("{}-{}", self.token, self.inserts);
            let target = Target { client: &self.client, into: &self.into[input], settings: &self.settings };
            let backoff = &mut self.backoff;
            let mut retry = |fault: Fault| {
                let detail = fault.detail.unwrap_or_default();
                tracing::warn!("{} ({detail}): {} rows wait and are sent again", fault.message, lines.len());
                if backoff.wait(&desk) { Ok(()) } else { Err(Fault::down(GONE)) }
            };
            let mut refused = |(load, number): &(&Load, u32), why: String| {
                desk.reject([Reject::row("refused-by-clickhouse", why, &load.batch.row(*number as usize), &load.schema)]);
            };
            target.insert(&lines, &token, &mut retry, &mut refused)?;
            self.backoff.reset();
        }
        Ok(())
    }
}
