//! Look-ups without state: a batch waits for its answers, holds its epoch, and leaves in order.

use crate::inbox::Inbox;
use crate::outlet::{Exit, Outlet};
use crate::source::Again;
use crate::stores::{Client, Found};
use crate::ts::Ts;
use millrace_sdk::operator::OnStoreError;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, Lookup, Outputs, Reject};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
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
/// Invariant: the capability stands at or below the time of every batch that waits, so a look-up holds its epoch, at most for the
/// store's time-out. Batches leave whole, so rows keep their order within one; between batches they do if `ordered`.
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
}

impl LookupRunner {
    pub fn new(
        lookup: Box<dyn Lookup>,
        client: Arc<Client>,
        runtime: tokio::runtime::Handle,
        waker: Waker,
        exit: Exit,
        ordered: bool,
        on_error: OnStoreError,
    ) -> LookupRunner {
        let waiting = VecDeque::new();
        LookupRunner { lookup, client, runtime, waker, exit, ordered, on_error, waiting, next: 0, asked: 0, replies: channel() }
    }

    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<Again, Fault> {
        if !outlet.is_open() {
            return Ok(Again::Never);
        }
        inbox.pull();
        self.answers()?;
        // Enough questions to keep the store busy, and as many again to go on with.
        let room = 2 * self.client.tuning.concurrency.max(1) * self.client.tuning.batch.max(1);
        while self.asked < room
            && let Some(arrival) = inbox.pop()
        {
            if let Some(batch) = arrival.parcel.batch {
                self.ask(batch, arrival.time, arrival.parcel.born, outlet);
            }
        }
        self.leave(outlet);
        outlet.flush(outlet.shared.micros());
        let here = self.waiting.iter().map(|w| w.time).reduce(Ts::meet);
        let mut again = Again::Never;
        // What waits lies before the boundary: nothing from behind it was taken.
        while self.waiting.is_empty() && inbox.boundary(frontiers).is_some() {
            inbox.close();
            again = Again::Now;
        }
        match inbox.time(frontiers, |_| true).into_iter().chain(here).reduce(Ts::meet) {
            Some(t) => outlet.downgrade(t),
            None => outlet.close(),
        }
        Ok(again)
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
        self.waiting.push_back(Waiting { number, time, born, batch, slots, answers: vec![None; keys.len()], missing: keys.len() });
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
