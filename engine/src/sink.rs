//! The sink operator: writes batches, and lets an epoch pass only when everything in it is safe.

use crate::checkpoint::{Ack, Body, Spot};
use crate::inbox::Inbox;
use crate::outbox::Outgoing;
use crate::outlet::{Exit, Outlet};
use crate::progress::Blocked;
use crate::source::Again;
use crate::stateless::TURN;
use crate::ts::Ts;
use millrace_sdk::sink::Acks;
use millrace_sdk::{Fault, Reject, Sink, Ticket};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;

/// How often a sink with writes in flight is asked, unless it wakes us.
const ASK: Duration = Duration::from_millis(2);

/// One writer.
///
/// Invariant: the acknowledgement capability (the outlet's) stands at the least epoch of the input frontier, the stash and the writes
/// whose ticket is not done. The probe behind all sinks therefore passes an epoch only when all of its rows are safe or rejected.
pub struct Writer {
    pub sink: Option<Box<dyn Sink>>,
    /// Rows go there instead of to the server: they are published when the checkpoint that has them is complete.
    outgoing: Option<Outgoing>,
    spot: Spot,
    pub exit: Exit,
    pub dead_letter: bool,
    next: u64,
    /// Writes that are not settled: their epoch and rows.
    open: HashMap<Ticket, (u64, usize)>,
    epochs: BTreeMap<u64, usize>,
    /// Something was written since the last flush.
    dirty: bool,
    flushed: u64,
    rest: Instant,
    /// No more rows will come, and since when nothing has been settled.
    ending: Option<Instant>,
    worker: usize,
    blocked: Blocked,
    /// Refused rows of published chunks were sent on: the newest of these chunks, and the epoch at which.
    taken: Option<(u64, u64)>,
}

impl Writer {
    pub fn new(sink: Option<Box<dyn Sink>>, outgoing: Option<Outgoing>, spot: Spot, exit: Exit, dead_letter: bool) -> Writer {
        Writer {
            sink,
            outgoing,
            spot,
            exit,
            dead_letter,
            next: 0,
            open: HashMap::new(),
            epochs: BTreeMap::new(),
            dirty: false,
            flushed: 0,
            rest: Instant::now(),
            ending: None,
            worker: spot.worker,
            blocked: Blocked::default(),
            taken: None,
        }
    }

    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<Again, Fault> {
        inbox.pull();
        if !outlet.is_open() {
            return Ok(Again::Never);
        }
        let again = self.write(inbox, outlet)?;
        self.poll(outlet)?;
        let closed = self.answer(inbox, outlet, frontiers);
        let ahead = inbox.time(frontiers, |_| true);
        if frontiers.iter().all(|f| f.is_empty()) {
            self.end(inbox, outlet)?;
        }
        let patient = self.sink.as_ref().is_some_and(|s| s.patience().is_some());
        if ahead.is_none() && !(patient && !self.open.is_empty()) {
            self.close(outlet)?;
            outlet.close();
            return Ok(Again::Never);
        }
        let coming = ahead.map_or(u64::MAX, |t| t.epoch);
        let rested = inbox.stash.is_empty() && self.rest.elapsed() >= ASK;
        if self.dirty && (coming > self.flushed || rested) {
            if let Some(sink) = &mut self.sink {
                sink.flush()?;
            }
            self.dirty = false;
            self.flushed = coming;
            self.rest = Instant::now();
        }
        let written = self.epochs.keys().next().copied().unwrap_or(u64::MAX);
        outlet.flush(outlet.shared.micros());
        outlet.downgrade(Ts::new(coming.min(written), i64::MIN));
        Ok(match again {
            _ if closed => Again::Now,
            Again::Never if self.dirty || !self.open.is_empty() => Again::After(ASK),
            again => again,
        })
    }

    /// Writes while there is room.
    fn write(&mut self, inbox: &mut Inbox, outlet: &mut Outlet) -> Result<Again, Fault> {
        let begun = Instant::now();
        while let Some(at) = inbox.next(|_| true) {
            let Some(sink) = &mut self.sink else {
                return Err(Fault::bug(format!("rows for `{}` came to a worker that does not host it", self.exit.name)));
            };
            let ready = self.outgoing.as_ref().map_or_else(|| sink.ready(), Outgoing::ready);
            self.blocked.now(!ready, &outlet.shared.meters, self.exit.node, self.worker);
            if !ready {
                return Ok(Again::After(ASK));
            }
            if begun.elapsed() > TURN {
                return Ok(Again::Now);
            }
            let Some(arrival) = inbox.stash.remove(at) else { continue };
            let (time, index, born) = (arrival.time, inbox.index(arrival.input), arrival.parcel.born);
            let Some(batch) = arrival.parcel.batch else { continue };
            if let Some(minutes) = &outlet.shared.meters.nodes[self.exit.node].minutes {
                minutes.add(&batch);
            }
            if let Some(outgoing) = &mut self.outgoing {
                outgoing.add(&mut **sink, index, &batch)?;
            } else {
                let ticket = Ticket(self.next);
                self.next += 1;
                self.open.insert(ticket, (time.epoch, batch.len()));
                *self.epochs.entry(time.epoch).or_default() += 1;
                sink.write(index, &batch, ticket)?;
                self.dirty = true;
            }
            let meters = &outlet.shared.meters;
            let node = &meters.nodes[self.exit.node];
            node.inputs[index.min(node.inputs.len() - 1)].fetch_add(batch.len() as u64, Relaxed);
            node.bytes.fetch_add(batch.bytes() as u64, Relaxed);
            if !self.dead_letter {
                meters.latency.add(outlet.shared.micros().saturating_sub(born), batch.len() as u64);
            }
        }
        Ok(Again::Never)
    }

    /// Answers a boundary once everything before it is in the outbox, or safe; true: rows from behind it may go on.
    fn answer(&mut self, inbox: &mut Inbox, outlet: &Outlet, frontiers: &[MutableAntichain<Ts>]) -> bool {
        let mut closed = false;
        while let Some(b) = inbox.boundary(frontiers) {
            let bounds = &outlet.shared.bounds;
            if let Some((marker, _)) = self.taken.take_if(|(_, epoch)| *epoch < b.epoch) {
                let body = Body::Taken { marker, attempt: b.attempt };
                bounds.ack(Ack { attempt: 0, from: self.spot, body });
            }
            match &mut self.outgoing {
                Some(outgoing) => outgoing.answer(b),
                None if self.epochs.keys().next().is_some_and(|&e| e < b.epoch) => break,
                None if self.sink.is_some() => bounds.ack(Ack { attempt: b.attempt, from: self.spot, body: Body::Written }),
                None => {}
            }
            inbox.close();
            closed = true;
        }
        closed
    }

    fn poll(&mut self, outlet: &mut Outlet) -> Result<(), Fault> {
        let mut acks = Acks::default();
        if let Some(sink) = &mut self.sink {
            sink.poll(&mut acks)?;
        }
        self.settle(acks, outlet);
        if let Some(refused) = outlet.shared.take_refused(self.spot) {
            refused.rejects.iter().for_each(|r| self.refused(r, outlet));
            self.taken = Some((refused.marker, outlet.held().epoch));
        }
        Ok(())
    }

    fn settle(&mut self, acks: Acks, outlet: &mut Outlet) {
        for ticket in acks.done {
            let Some((epoch, _)) = self.open.remove(&ticket) else { continue };
            self.ending = self.ending.map(|_| Instant::now());
            if let Some(n) = self.epochs.get_mut(&epoch) {
                *n -= 1;
                if *n == 0 {
                    self.epochs.remove(&epoch);
                }
            }
        }
        for r in &acks.rejects {
            self.refused(r, outlet);
        }
        for (reason, rows) in acks.dropped {
            outlet.drop_rows(&self.exit, reason, rows);
        }
    }

    /// A row that the server does not take goes to the dead letter; one that the dead letter does not take is lost.
    fn refused(&self, reject: &Reject, outlet: &mut Outlet) {
        if self.dead_letter {
            tracing::error!(
                sink = self.exit.name,
                reason = reject.reason,
                message = reject.message,
                "the dead letter refused a record: it is lost"
            );
            outlet.shared.meters.lost.fetch_add(1, SeqCst);
            outlet.shared.meters.nodes[self.exit.node].rejected.add(reject.reason, 1);
        } else {
            outlet.reject(&self.exit, reject, outlet.shared.micros());
        }
    }

    /// All rows have come: the sink's server may be waited for, but not for ever.
    fn end(&mut self, inbox: &Inbox, outlet: &Outlet) -> Result<(), Fault> {
        let since = *self.ending.get_or_insert_with(Instant::now);
        let Some(patience) = self.sink.as_ref().and_then(|s| s.patience()) else { return Ok(()) };
        let waiting = inbox.stash.iter().filter_map(|a| a.parcel.batch.as_ref()).map(|b| b.len()).sum::<usize>();
        let left = waiting + self.open.values().map(|(_, rows)| rows).sum::<usize>();
        if left == 0 || since.elapsed() < patience {
            return Ok(());
        }
        outlet.shared.meters.lost.fetch_add(left as u64, SeqCst);
        let what = format!("{left} rows of `{}` were not acknowledged at the end of the job", self.exit.name);
        let fault = Fault::down(what).detail(format!("nothing was acknowledged for {} s (`close_timeout`)", patience.as_secs_f64()));
        Err(fault.hint("a source that can be read again gives them again, as its positions were not confirmed"))
    }

    fn close(&mut self, outlet: &mut Outlet) -> Result<(), Fault> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let mut acks = Acks::default();
        let result = sink.close(&mut acks);
        self.settle(acks, outlet);
        self.sink = None;
        result?;
        if !self.open.is_empty() {
            return Err(Fault::bug(format!("`{}` closed without acknowledging {} of its writes", self.exit.name, self.open.len())));
        }
        Ok(())
    }
}
