//! The operator with state per key: rows, timers and answers in, rows out, capabilities behind them.

use super::asker::{Answered, Asker};
use super::context::{Cx, Effects, KeyedState};
use super::state::KeyState;
use crate::checkpoint::{Ack, Body, Boundary, Saved, Spot, Uploads};
use crate::control::{RunOptions, Shared};
use crate::inbox::Inbox;
use crate::outlet::{Exit, Outlet};
use crate::source::Again;
use crate::stateless::TURN;
use crate::ts::Ts;
use millrace_durable::{Piece, StateInfo};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::operator::Keyed;
use millrace_sdk::{Answer, Batch, Clock, Fault, Key, KeyedOperator, SchemaRef, StateDesc, TimeDomain};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;

/// How often the clock is looked at while processing-time timers are set.
const TICK: Duration = Duration::from_millis(5);

/// Rows or timers whose keys are looked for together.
const GROUP: usize = 16;

/// A keyed operator on one worker.
///
/// Invariants: rows are processed in arrival order per input. The watermark is the least of the inputs' but for retry streams'. All
/// timers at or below it fire before the capability moves, at the capability held until then. The output watermark stays below every
/// hold. Pending questions hold the watermark by the operator's own holds and never the epoch, but nothing ends before they are answered.
pub struct KeyedRunner {
    operator: Box<dyn KeyedOperator>,
    states: Vec<StateDesc>,
    keys: Vec<Key>,
    max_holds: usize,
    state: KeyedState,
    effects: Effects,
    askers: Vec<Asker>,
    exit: Exit,
    clock: Clock,
    shared: Arc<Shared>,
    /// By input index: fed by retry streams alone.
    retry: Vec<bool>,
    scratch: Vec<u8>,
    ready: Vec<Answered>,
    born: u64,
    saves: Option<Saves>,
}

/// How an operator's state gets into a checkpoint.
pub struct Saves {
    pub spot: Spot,
    pub generation: u64,
    pub groups: (u64, u64),
    pub uploads: Arc<Uploads>,
}

fn describe(s: &StateDesc) -> StateInfo {
    StateInfo {
        name: s.name.into(),
        kind: format!("{:?}", s.kind).to_lowercase(),
        version: s.version,
        schema: s.schema.as_ref().map_or(0, |s| s.id()),
        layout: s.layout.clone(),
    }
}

/// What a keyed operator needs beside its declaration.
pub struct KeyedSetup {
    pub askers: Vec<Asker>,
    pub exit: Exit,
    pub clock: Clock,
    pub shared: Arc<Shared>,
    pub retry: Vec<bool>,
    /// Of all ports but `errors`.
    pub ports: Vec<SchemaRef>,
    pub saves: Option<Saves>,
}

impl KeyedRunner {
    pub fn new(keyed: &Keyed, s: KeyedSetup) -> KeyedRunner {
        KeyedRunner {
            operator: (keyed.make)(),
            states: keyed.states.clone(),
            keys: keyed.keys.clone(),
            max_holds: keyed.max_holds.unwrap_or(usize::MAX),
            state: KeyedState::new(keyed.states.len(), s.retry.len()),
            effects: Effects::new(s.ports),
            askers: s.askers,
            exit: s.exit,
            clock: s.clock,
            shared: s.shared,
            retry: s.retry,
            scratch: Vec::new(),
            ready: Vec::new(),
            born: 0,
            saves: s.saves,
        }
    }

    fn options(&self) -> &RunOptions {
        &self.shared.options
    }

    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<Again, Fault> {
        if !outlet.is_open() {
            return Ok(Again::Never);
        }
        inbox.pull();
        let begun = Instant::now();
        self.state.work.now = self.state.work.now.max(self.clock.now());
        self.answer(outlet)?;
        // What is due comes before new input, also what an earlier turn left.
        let mut more = self.fire(TimeDomain::Processing, self.state.work.now, outlet, begun)?
            || self.fire(TimeDomain::Event, self.state.work.watermark, outlet, begun)?
            || self.fire(TimeDomain::Right, self.state.work.right(), outlet, begun)?;
        let mut held_back = false;
        while !more && let Some(at) = self.next(inbox) {
            let Some(arrival) = inbox.stash.remove(at) else { break };
            let Some(batch) = arrival.parcel.batch else { continue };
            self.born = arrival.parcel.born;
            self.rows(inbox.index(arrival.input), &batch, outlet)?;
            self.answer(outlet)?;
            more = begun.elapsed() > TURN;
        }
        if !more {
            held_back = !inbox.stash.is_empty();
            more = self.advance(inbox, outlet, frontiers, begun)?;
        }
        self.flush(outlet);
        let mut closed = false;
        while !more && let Some(b) = inbox.boundary(frontiers) {
            self.answer_boundary(b)?;
            inbox.close();
            closed = true;
        }
        if !more && self.downgrade(inbox, outlet, frontiers)? {
            return Ok(Again::Never);
        }
        more |= closed;
        let timers = self.state.work.has_timers(TimeDomain::Processing);
        Ok(match () {
            _ if more => Again::Now,
            _ if held_back => Again::After(Duration::from_millis(1)),
            _ if timers => Again::After(TICK),
            _ => Again::Never,
        })
    }

    /// The next arrival that may be processed. Input 0 waits while too much is held, everything while too many questions are open.
    fn next(&self, inbox: &Inbox) -> Option<usize> {
        if inbox.is_closing() {
            // What has come is little, and a checkpoint must not wait for a store or for another stream.
            return inbox.next(|_| true);
        }
        if self.state.work.asks.len() > self.options().max_pending_asks {
            return None;
        }
        // Only while another input is behind: rows that wait for input 0 itself are not helped by refusing it.
        let inputs = &self.state.work.inputs;
        let others = (1..inputs.len()).filter(|&i| !self.retry[i]).map(|i| inputs[i]).min().unwrap_or(i64::MAX);
        let full = self.state.work.held > self.max_holds && inputs[0] > others;
        self.shared.hold_back(self.exit.node, full && !inbox.stash.is_empty());
        if full { inbox.next(|index| index != 0) } else { inbox.next(|_| true) }
    }

    fn rows(&mut self, input: usize, batch: &Batch, outlet: &mut Outlet) -> Result<(), Fault> {
        let node = &self.shared.meters.nodes[self.exit.node];
        node.inputs[input.min(node.inputs.len() - 1)].fetch_add(batch.len() as u64, Relaxed);
        let key = self.keys.get(input).cloned().ok_or_else(|| Fault::bug(format!("`{}` has no input {input}", self.exit.name)))?;
        for begin in (0..batch.len()).step_by(GROUP) {
            let rows = begin..batch.len().min(begin + GROUP);
            self.scratch.clear();
            let mut found = [(0u64, 0usize, None); GROUP];
            for (f, i) in found.iter_mut().zip(rows.clone()) {
                let from = self.scratch.len();
                key.write(&batch.row(i), &mut self.scratch);
                *f = (Key::hash(&self.scratch[from..]), self.scratch.len(), None);
            }
            for f in &mut found[..rows.len()] {
                f.2 = self.state.keys.touch(f.0);
            }
            let mut from = 0;
            for ((hash, to, hint), i) in found.into_iter().zip(rows) {
                let place = self.state.keys.place(&self.scratch[from..to], hash, hint);
                from = to;
                let entry = self.state.keys.entry(place);
                let mut cx = Cx { key: entry.key, place, refs: entry.refs, work: &mut self.state.work, effects: &mut self.effects };
                self.operator.on_record(input, batch.row(i), &mut KeyState(entry.cells), &mut cx)?;
                self.state.keys.settle(place);
                if self.effects.is_full() {
                    self.flush(outlet);
                }
            }
        }
        Ok(())
    }

    /// Fires a domain's timers up to `time`; true when the turn is over before they are all done.
    fn fire(&mut self, domain: TimeDomain, time: i64, outlet: &mut Outlet, begun: Instant) -> Result<bool, Fault> {
        let mut count = 0u32;
        while let Some((at, place, tag)) = self.state.work.take_due(domain, time) {
            if count.is_multiple_of(GROUP as u32) {
                // What is due next, read ahead: the misses of a group overlap.
                self.state.work.next_timers(domain, GROUP).for_each(|p| self.state.keys.touch_at(p));
            }
            if domain == TimeDomain::Processing {
                self.state.work.now = self.state.work.now.max(at);
            }
            let entry = self.state.keys.entry(place);
            *entry.refs -= 1;
            let mut cx = Cx { key: entry.key, place, refs: entry.refs, work: &mut self.state.work, effects: &mut self.effects };
            self.operator.on_timer(domain, at, tag, &mut KeyState(entry.cells), &mut cx)?;
            self.state.keys.settle(place);
            if self.effects.is_full() {
                self.flush(outlet);
            }
            count += 1;
            if count.is_multiple_of(256) && begun.elapsed() > TURN {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends new questions, and gives the operator the answers that are there, until neither is left.
    fn answer(&mut self, outlet: &mut Outlet) -> Result<(), Fault> {
        if self.askers.is_empty() {
            return Ok(());
        }
        loop {
            for id in std::mem::take(&mut self.effects.asked) {
                self.shared.pending_asks.fetch_add(1, SeqCst);
                self.put_question(id)?;
            }
            for a in &mut self.askers {
                a.send();
                a.answers(&mut self.ready)?;
            }
            if self.ready.is_empty() {
                return Ok(());
            }
            for answered in std::mem::take(&mut self.ready) {
                self.give(answered, outlet)?;
            }
        }
    }

    fn put_question(&mut self, id: u64) -> Result<(), Fault> {
        let Some(ask) = self.state.work.asks.get(&id) else { return Ok(()) };
        let Some(asker) = self.askers.get_mut(ask.store) else {
            return Err(Fault::bug(format!("`{}` asked a store that it did not declare", self.exit.name)));
        };
        self.ready.extend(asker.ask(id, &ask.key));
        Ok(())
    }

    fn give(&mut self, answered: Answered, outlet: &mut Outlet) -> Result<(), Fault> {
        let answer = match &answered.result {
            Ok(Some(row)) => Answer::Found(row),
            Ok(None) => Answer::NotFound,
            Err(fault) => Answer::Failed(fault),
        };
        for id in answered.ids {
            // Questions from before a restore have new ids.
            let Some(ask) = self.state.work.asks.remove(&id) else { continue };
            self.shared.pending_asks.fetch_sub(1, SeqCst);
            let entry = self.state.keys.entry(ask.place);
            *entry.refs -= 1;
            let mut cx = Cx { key: entry.key, place: ask.place, refs: entry.refs, work: &mut self.state.work, effects: &mut self.effects };
            self.operator.on_answer(ask.token, answer.clone(), &mut KeyState(entry.cells), &mut cx)?;
            self.state.keys.settle(ask.place);
            if self.effects.is_full() {
                self.flush(outlet);
            }
        }
        Ok(())
    }

    /// Takes the inputs' watermarks and fires what is due; true when the turn is over before all is.
    fn advance(&mut self, inbox: &Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>], begun: Instant) -> Result<bool, Fault> {
        let mut least = i64::MAX;
        let counts = self.retry.iter().any(|r| !r);
        for i in 0..self.retry.len() {
            let wm = inbox.time(frontiers, |x| x == i).map_or(i64::MAX, |t| t.wm);
            let known = &mut self.state.work.inputs[i];
            *known = wm.max(*known);
            if !counts || !self.retry[i] {
                least = least.min(*known);
            }
        }
        let work = &mut self.state.work;
        work.watermark = least.max(work.watermark);
        self.shared.meters.nodes[self.exit.node].watermark.store(work.watermark, Relaxed);
        let (watermark, right) = (work.watermark, work.right());
        // At the end of all input what waits for the clock need not wait any longer.
        let over = inbox.time(frontiers, |_| true).is_none_or(|t| t.wm == i64::MAX);
        let clock = if over { i64::MAX } else { work.now };
        loop {
            let more = self.fire(TimeDomain::Event, watermark, outlet, begun)?
                || self.fire(TimeDomain::Right, right, outlet, begun)?
                || self.fire(TimeDomain::Processing, clock, outlet, begun)?;
            // An answer may set a timer that is due already.
            self.answer(outlet)?;
            let domains = [(TimeDomain::Event, watermark), (TimeDomain::Right, right), (TimeDomain::Processing, clock)];
            if more || !domains.iter().any(|(domain, time)| self.state.work.is_due(*domain, *time)) {
                return Ok(more);
            }
        }
    }

    /// Sends all that was emitted, at the capability held.
    fn flush(&mut self, outlet: &mut Outlet) {
        let watermark = outlet.held().wm;
        for port in 0..self.effects.out.len() {
            if self.effects.out[port].is_empty() {
                continue;
            }
            let mut batch = self.effects.out[port].take();
            for m in batch.metas_mut() {
                if m.time <= watermark && m.time != millrace_sdk::NO_TIME {
                    m.set_late(true);
                }
            }
            outlet.emit(&self.exit, port, batch, self.born);
        }
        for r in std::mem::take(&mut self.effects.rejects) {
            outlet.reject(&self.exit, &r, self.born);
        }
        outlet.flush(self.born);
        let node = &self.shared.meters.nodes[self.exit.node];
        self.effects.dropped.drain(..).for_each(|(reason, n)| node.dropped.add(reason, n));
        self.effects.counters.drain(..).for_each(|(name, n)| node.counters.add(name, n));
    }

    /// Lets the capabilities follow; true when the operator is done.
    fn downgrade(&mut self, inbox: &Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<bool, Fault> {
        let time = inbox.time(frontiers, |_| true);
        let work = &self.state.work;
        let domains = [TimeDomain::Event, TimeDomain::Processing, TimeDomain::Right];
        let idle = !domains.iter().any(|d| work.has_timers(*d)) && work.asks.is_empty();
        if time.is_none() && work.watermark == i64::MAX && idle {
            self.shared.hold_back(self.exit.node, false);
            outlet.close();
            return Ok(true);
        }
        let held = outlet.held();
        let epoch = time.map_or(held.epoch, |t| t.epoch);
        outlet.downgrade(Ts::new(epoch, work.watermark.min(work.hold_limit())));
        if self.options().roundtrip_state && outlet.held().epoch > held.epoch {
            self.roundtrip()?;
        }
        Ok(false)
    }

    /// Everything before the boundary is processed and what was due has fired: says what is left.
    fn answer_boundary(&mut self, b: Boundary) -> Result<(), Fault> {
        let Some(saves) = &self.saves else { return Ok(()) };
        let bytes = self.state.snapshot(&self.states, 0..KEY_GROUPS);
        let work = &self.state.work;
        let idle = work.asks.is_empty()
            && work.held == 0
            && ![TimeDomain::Event, TimeDomain::Processing, TimeDomain::Right].iter().any(|d| work.has_timers(*d));
        let mut piece = Piece { groups: saves.groups, keys: self.state.keys.len() as u64, format: "snapshot".into(), ..Piece::default() };
        let states = self.states.iter().map(describe).collect();
        let (shared, from) = (self.shared.clone(), saves.spot);
        let name = format!("g{}-a{}-n{}-w{}-state", saves.generation, b.attempt, from.node, from.worker);
        saves.uploads.put(name, bytes, move |stored| {
            let body = match stored {
                Ok(file) => {
                    piece.files.insert("state".into(), file);
                    Body::State { states, piece, idle }
                }
                Err(fault) => Body::Failed { fault, chunks: vec![] },
            };
            shared.bounds.ack(Ack { attempt: b.attempt, from, body });
        });
        Ok(())
    }

    /// Takes what the forerunners of this operator had, as far as its keys live on this worker.
    ///
    /// # Errors
    /// Damaged bytes, or states that are no longer declared as they were.
    pub fn restore(&mut self, pieces: &[Saved], mine: impl Fn(u64) -> bool) -> Result<(), Fault> {
        for piece in pieces.iter().filter(|p| (p.groups.0..p.groups.1).any(&mine)) {
            self.state
                .restore(&self.states, &piece.bytes, &mine)
                .map_err(|f| Fault { message: format!("`{}`: {}", self.exit.name, f.message), ..f })?;
        }
        self.ask_again()
    }

    /// Writes all state out and reads it back, in two pieces as two workers would have written it.
    fn roundtrip(&mut self) -> Result<(), Fault> {
        let inputs = std::mem::take(&mut self.state.work.inputs);
        let pieces = [0..KEY_GROUPS / 3, KEY_GROUPS / 3..KEY_GROUPS].map(|g| self.state.snapshot(&self.states, g));
        let next_ask = self.state.work.next_ask;
        let mut fresh = KeyedState::new(self.states.len(), inputs.len());
        fresh.work.next_ask = next_ask;
        for piece in pieces {
            fresh.restore(&self.states, &piece, &|_| true)?;
        }
        fresh.work.inputs = inputs;
        self.state = fresh;
        self.ask_again()
    }

    /// Puts the questions that had no answer yet once more.
    fn ask_again(&mut self) -> Result<(), Fault> {
        let mut ids: Vec<u64> = self.state.work.asks.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().try_for_each(|id| self.put_question(id))
    }
}
