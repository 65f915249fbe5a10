//! Look-ups without state: a batch waits for its answers, and leaves in order.
//!
//! It holds its epoch meanwhile, at most for the store's time-out. Where rows wait for as long as it takes (`on_store_error: wait`) and the
//! job takes checkpoints, they are state instead: what waits at a boundary goes into the checkpoint, holds the watermark and no longer
//! the epoch, and is asked again after a restore. So no checkpoint waits for a store.

use crate::checkpoint::{Ack, Body, Boundary, Spot};
use crate::inbox::Inbox;
use crate::keyed::Saves;
use crate::outlet::{Exit, Outlet};
use crate::source::Again;
use crate::stores::{Client, Found};
use crate::ts::Ts;
use millrace_durable::{JobLog, Piece, StateInfo};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::operator::OnStoreError;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, Key, Lookup, Outputs, Reject, Schema, SchemaRef};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use timely::progress::frontier::MutableAntichain;

/// Where a row's answer is.
#[derive(Clone)]
enum Slot {
    /// It asks nothing.
    None,
    Found(Found),
    /// In a call: index among the batch's keys.
    Asked(usize),
}

/// A batch with its questions.
struct Waiting {
    number: u64,
    time: Ts,
    born: u64,
    batch: Batch,
    slots: Vec<Slot>,
    /// By key index.
    answers: Vec<Option<Result<Found, Fault>>>,
    missing: usize,
    /// It is in a checkpoint: its epoch is over.
    saved: bool,
}

/// Answers of one call: batch number, index of the first key, and for each key.
struct Reply {
    number: u64,
    first: usize,
    keys: usize,
    result: Result<Vec<Found>, Fault>,
}

/// A look-up operator on one worker.
///
/// Invariant: the capability stands at or below the time of every batch that waits, but for the epoch of those that a checkpoint has, so a
/// look-up holds its epoch, at most for the store's time-out. Batches leave whole, so rows keep their order within one; between batches they do if `ordered`.
pub struct LookupRunner {
    pub lookup: Box<dyn Lookup>,
    pub client: Arc<Client>,
    pub runtime: tokio::runtime::Handle,
    pub waker: Waker,
    pub exit: Exit,
    pub ordered: bool,
    pub on_error: OnStoreError,
    waiting: VecDeque<Waiting>,
    next: u64,
    asked: usize,
    replies: (Sender<Reply>, Receiver<Reply>),
    /// There is one if what waits is state.
    saves: Option<(Spot, Saves)>,
}

impl LookupRunner {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        lookup: Box<dyn Lookup>,
        client: Arc<Client>,
        runtime: tokio::runtime::Handle,
        waker: Waker,
        exit: Exit,
        ordered: bool,
        on_error: OnStoreError,
        saves: Option<(Spot, Saves)>,
    ) -> LookupRunner {
        let waiting = VecDeque::new();
        LookupRunner { lookup, client, runtime, waker, exit, ordered, on_error, waiting, next: 0, asked: 0, replies: channel(), saves }
    }

    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<Again, Fault> {
        if !outlet.is_open() {
            return Ok(Again::Never);
        }
        inbox.pull();
        self.answers()?;
        // Enough questions to keep the store busy, and as many again to go on with.
        let room = 2 * self.client.tuning.concurrency.max(1) * self.client.tuning.batch.max(1);
        // What lies before a boundary is to be saved, so it is taken in any case.
        let all = self.saves.is_some() && inbox.is_closing();
        while (self.asked < room || all)
            && let Some(arrival) = inbox.pop()
        {
            if let Some(batch) = arrival.parcel.batch {
                self.ask(batch, arrival.time, arrival.parcel.born, outlet);
            }
        }
        self.leave(outlet);
        outlet.flush(outlet.shared.micros());
        let mut again = Again::Never;
        // What waits lies before the boundary: nothing from behind it was taken.
        while (self.waiting.is_empty() || self.saves.is_some())
            && let Some(b) = inbox.boundary(frontiers)
        {
            self.save(b, outlet);
            inbox.close();
            again = Again::Now;
        }
        if self.saves.is_some() && outlet.shared.bounds.finished() {
            // The last checkpoint has what waits.
            self.forget(outlet);
        }
        let held = outlet.held();
        let here = self.waiting.iter().map(|w| if w.saved { Ts::new(u64::MAX, w.time.wm) } else { w.time }).reduce(Ts::meet);
        match inbox.time(frontiers, |_| true).into_iter().chain(here).reduce(Ts::meet) {
            Some(t) if t.epoch == u64::MAX => outlet.downgrade(Ts::new(held.epoch, t.wm)),
            Some(t) => outlet.downgrade(t),
            None => outlet.close(),
        }
        Ok(again)
    }

    /// All that waits goes into the checkpoint.
    fn save(&mut self, b: Boundary, outlet: &Outlet) {
        let Some((from, saves)) = &self.saves else { return };
        let idle = self.waiting.is_empty();
        let (shared, from) = (outlet.shared.clone(), *from);
        let keys = self.waiting.iter().map(|w| w.batch.len() as u64).sum();
        let mut piece = Piece { groups: saves.groups, keys, format: FORMAT.into(), ..Piece::default() };
        let states = vec![describe(self.waiting.front().map(|w| &**w.batch.schema()))];
        if idle {
            return shared.bounds.ack(Ack { attempt: b.attempt, from, body: Body::State { states: vec![], piece, idle } });
        }
        let bytes = write(self.waiting.iter().map(|w| (w.time.wm, &w.batch)));
        for w in self.waiting.iter_mut().filter(|w| !w.saved) {
            w.saved = true;
        }
        let name = JobLog::file_name(saves.generation, &format!("a{}-n{}-w{}-waiting", b.attempt, from.node, from.worker));
        saves.uploads.put(name, bytes, move |stored| {
            let body = match stored {
                Ok(file) => {
                    piece.files.insert("waiting".into(), file);
                    Body::State { states, piece, idle }
                }
                Err(fault) => Body::Failed { fault: fault.into(), chunks: vec![] },
            };
            shared.bounds.ack(Ack { attempt: b.attempt, from, body });
        });
    }

    fn forget(&mut self, outlet: &Outlet) {
        let rows: usize = self.waiting.drain(..).map(|w| w.batch.len()).sum();
        outlet.shared.pending_asks.fetch_sub(rows, SeqCst);
    }

    /// Takes what waited in the forerunner of this worker, to be asked again before anything else.
    ///
    /// # Errors
    /// A file that is damaged, or gone.
    pub fn restore(&mut self, pieces: &[Piece], log: &JobLog, workers: usize, schema: &SchemaRef, outlet: &Outlet) -> Result<(), Fault> {
        let Some((me, _)) = self.saves.as_ref().map(|(spot, s)| (spot.worker, s)) else { return Ok(()) };
        for piece in pieces.iter().filter(|p| Key::worker(p.groups.0.min(KEY_GROUPS - 1), workers) == me) {
            for file in piece.files.values() {
                for (wm, batch) in read(&log.get(file)?, schema)? {
                    self.ask(batch, Ts::new(0, wm), outlet.shared.micros(), outlet);
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, batch: Batch, time: Ts, born: u64, outlet: &Outlet) {
        outlet.shared.meters.nodes[self.exit.node].inputs[0].fetch_add(batch.len() as u64, Relaxed);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut index: HashMap<Vec<u8>, Slot> = HashMap::new();
        let mut slots = Vec::with_capacity(batch.len());
        let mut key = Vec::new();
        for row in batch.rows() {
            key.clear();
            if !self.lookup.key(row, &mut key) {
                slots.push(Slot::None);
                continue;
            }
            if let Some(slot) = index.get(&key) {
                let meter = self.client.meter();
                meter.lookups.fetch_add(1, Relaxed);
                meter.shared.fetch_add(1, Relaxed);
                slots.push(slot.clone());
                continue;
            }
            let slot = match self.client.cached(&key) {
                Some(found) => Slot::Found(found),
                None => {
                    keys.push(key.clone());
                    Slot::Asked(keys.len() - 1)
                }
            };
            index.insert(key.clone(), slot.clone());
            slots.push(slot);
        }
        let number = self.next;
        self.next += 1;
        self.asked += keys.len();
        if self.saves.is_some() {
            outlet.shared.pending_asks.fetch_add(batch.len(), SeqCst);
        }
        let (answers, missing) = (vec![None; keys.len()], keys.len());
        self.waiting.push_back(Waiting { number, time, born, batch, slots, answers, missing, saved: false });
        let size = self.client.tuning.batch.max(1);
        for (i, call) in keys.chunks(size).enumerate() {
            let (client, on_error, reply, waker) = (self.client.clone(), self.on_error, self.replies.0.clone(), self.waker.clone());
            let (keys, first) = (call.to_vec(), i * size);
            self.runtime.spawn(async move {
                let result = client.fetch(&keys, on_error).await;
                // The operator may be gone; then nobody needs the answer.
                let _ = reply.send(Reply { number, first, keys: keys.len(), result });
                waker();
            });
        }
    }

    fn answers(&mut self) -> Result<(), Fault> {
        while let Ok(reply) = self.replies.1.try_recv() {
            // Who waits for the store hears of a failure only when the run is over: the rows must not go on without an answer.
            if let (Err(fault), OnStoreError::Wait) = (&reply.result, self.on_error) {
                return Err(fault.clone());
            }
            self.asked -= reply.keys;
            let Some(w) = self.waiting.iter_mut().find(|w| w.number == reply.number) else { continue };
            w.missing -= reply.keys;
            for i in 0..reply.keys {
                w.answers[reply.first + i] = Some(match &reply.result {
                    Ok(found) => Ok(found[i].clone()),
                    Err(fault) => Err(fault.clone()),
                });
            }
        }
        Ok(())
    }

    /// Lets go what has all its answers.
    fn leave(&mut self, outlet: &mut Outlet) {
        loop {
            let at = if self.ordered { Some(0) } else { self.waiting.iter().position(|w| w.missing == 0) };
            let done = at.filter(|&i| self.waiting.get(i).is_some_and(|w| w.missing == 0));
            let Some(w) = done.and_then(|i| self.waiting.remove(i)) else { return };
            if self.saves.is_some() {
                outlet.shared.pending_asks.fetch_sub(w.batch.len(), SeqCst);
            }
            self.merge(w, outlet);
        }
    }

    fn merge(&mut self, w: Waiting, outlet: &mut Outlet) {
        let (mut batch, mut slots) = (w.batch, w.slots);
        let failed = |s: &Slot| match s {
            Slot::Asked(i) => w.answers[*i].as_ref().and_then(|a| a.as_ref().err()),
            _ => None,
        };
        if self.on_error == OnStoreError::DeadLetter && slots.iter().any(|s| failed(s).is_some()) {
            for (row, fault) in batch.rows().zip(&slots).filter_map(|(r, s)| failed(s).map(|f| (r, f))) {
                outlet.reject(&self.exit, &Reject::row("store-unavailable", fault.message.clone(), &row, batch.schema()), w.born);
            }
            let keep: Vec<bool> = slots.iter().map(|s| failed(s).is_none()).collect();
            batch.retain(|i| keep[i]);
            let mut kept = keep.iter();
            slots.retain(|_| *kept.next().unwrap_or(&true));
        }
        let answers: Vec<Option<&[u8]>> = slots
            .iter()
            .map(|s| match s {
                Slot::None => None,
                Slot::Found(found) => found.as_deref(),
                Slot::Asked(i) => w.answers[*i].as_ref().and_then(|a| a.as_ref().ok()).and_then(|f| f.as_deref()),
            })
            .collect();
        if batch.is_empty() {
            return;
        }
        let mut out = Outputs::default();
        self.lookup.merge(batch, &answers, &mut out);
        for (reason, rows) in out.dropped {
            outlet.drop_rows(&self.exit, reason, rows);
        }
        for r in &out.rejects {
            outlet.reject(&self.exit, r, w.born);
        }
        for (port, batch) in out.batches {
            outlet.emit(&self.exit, port, batch, w.born);
        }
    }
}

/// How rows that wait lie in a checkpoint: for each batch watermark (i64), rows (u64) and bytes (u64), little endian, then the rows as
/// [`Batch::write_rows`] writes them.
const FORMAT: &str = "waiting-rows";

/// The state as a manifest describes it.
pub fn describe(schema: Option<&Schema>) -> StateInfo {
    let schema = schema.map_or(0, Schema::id);
    StateInfo { name: "waiting".into(), kind: "rows".into(), version: 1, schema, layout: String::new() }
}

fn write<'a>(batches: impl Iterator<Item = (i64, &'a Batch)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (wm, batch) in batches {
        out.extend_from_slice(&wm.to_le_bytes());
        out.extend_from_slice(&(batch.len() as u64).to_le_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 8]);
        batch.write_rows(&mut out);
        let bytes = (out.len() - at - 8) as u64;
        out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
    }
    out
}

fn read(mut bytes: &[u8], schema: &SchemaRef) -> Result<Vec<(i64, Batch)>, Fault> {
    let damaged = || Fault::data("rows that waited for a store cannot be read from the checkpoint");
    let mut batches = vec![];
    while !bytes.is_empty() {
        let mut word = || {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            bytes = rest;
            Some(u64::from_le_bytes(*head))
        };
        let (wm, rows, len) = word().zip(word()).zip(word()).map(|((a, b), c)| (a as i64, b as usize, c as usize)).ok_or_else(damaged)?;
        let (head, rest) = bytes.split_at_checked(len).ok_or_else(damaged)?;
        bytes = rest;
        batches.push((wm, Batch::read_rows(schema.clone(), rows, head).map_err(|e| damaged().detail(e.0))?));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{BatchBuilder, Field, Meta, Type};

    #[test]
    fn waiting_rows_there_and_back() {
        let schema = Schema::new(vec![Field::new("k", Type::String)]);
        let batch = |rows: &[&str]| {
            let mut b = BatchBuilder::new(schema.clone());
            rows.iter().enumerate().for_each(|(i, r)| {
                b.push_str(r);
                b.end_row(Meta { offset: i as u64, time: 7, ..Meta::default() });
            });
            b.finish()
        };
        let all = [(i64::MIN, batch(&["a", "", "\u{4e2d}"])), (5, batch(&["z"]))];
        let bytes = write(all.iter().map(|(wm, b)| (*wm, b)));
        let back = read(&bytes, &schema).unwrap();
        let shown = |(wm, b): &(i64, Batch)| {
            (*wm, b.rows().map(|r| (format!("{:?}", r.get(millrace_sdk::Slot(0))), *r.meta())).collect::<Vec<_>>())
        };
        assert_eq!(back.iter().map(shown).collect::<Vec<_>>(), all.iter().map(shown).collect::<Vec<_>>());
        for cut in 1..bytes.len() {
            assert!(read(&bytes[..cut], &schema).map_or(true, |b| b.len() < 2), "cut at {cut}");
        }
    }
}
