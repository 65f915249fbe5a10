//! The operator with state per key: rows, timers and answers in, rows out, capabilities behind them.

use super::asker::{Answered, Asker};
use super::below::Below;
use super::cells::KeyState;
use super::context::{Cx, Effects, KeyedState};
use super::state::{GROUP, Wanted};
use super::tiering::{FORMAT, Kept, META, Save, TierRoom, Writer, fetch};
use crate::checkpoint::{Ack, Body, Boundary, Saved, Spot, Uploads};
use crate::control::{RunOptions, Shared};
use crate::inbox::Inbox;
use crate::outlet::{Exit, Outlet};
use crate::source::Again;
use crate::stateless::TURN;
use crate::ts::Ts;
use millrace_durable::{FileRef, JobLog, Piece, StateInfo};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::operator::Keyed;
use millrace_sdk::{Answer, Batch, Clock, Fault, Key, KeyedOperator, SchemaRef, StateDesc, TimeDomain, point};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;

/// How often the clock is looked at while processing-time timers are set.
const TICK: Duration = Duration::from_millis(5);

/// Bytes from which on state gets a tier before it is saved: less is quicker written as a whole.
const SMALL: u64 = 1 << 20;
/// How often it is found out what the state takes.
const RECKON: Duration = Duration::from_millis(20);
/// Keys that leave memory in a turn, and places that are looked at for them.
const LEAVE: (usize, usize) = (8192, 1 << 16);

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
    /// Watermarks follow the clock.
    by_clock: bool,
    shared: Arc<Shared>,
    /// By input index: fed by retry streams alone.
    retry: Vec<bool>,
    scratch: Vec<u8>,
    ready: Vec<Answered>,
    born: u64,
    saves: Option<Saves>,
    room: Option<Arc<TierRoom>>,
    /// Names the state among those of the run.
    spot: Spot,
    /// When it was last found out what the state takes, and what that was.
    reckoned: (Instant, u64),
    /// The memory is full, and what could make room is still on its way to disk.
    pressed: bool,
}

/// How an operator's state gets into a checkpoint.
pub struct Saves {
    pub generation: u64,
    pub groups: (u64, u64),
    pub uploads: Arc<Uploads>,
}

pub fn describe(s: &StateDesc) -> StateInfo {
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
    /// Watermarks follow the clock.
    pub by_clock: bool,
    pub shared: Arc<Shared>,
    pub retry: Vec<bool>,
    /// Of all ports but `errors`.
    pub ports: Vec<SchemaRef>,
    pub saves: Option<Saves>,
    /// Where state can lie that is not in memory.
    pub room: Option<Arc<TierRoom>>,
    pub spot: Spot,
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
            by_clock: s.by_clock,
            shared: s.shared,
            retry: s.retry,
            scratch: Vec::new(),
            ready: Vec::new(),
            born: 0,
            saves: s.saves,
            room: s.room,
            spot: s.spot,
            reckoned: (Instant::now(), 0),
            pressed: false,
        }
    }

    fn options(&self) -> &RunOptions {
        &self.shared.options
    }

    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>]) -> Result<Again, Fault> {
        if !outlet.is_open() {
            return Ok(Again::Never);
        }
        if self.shared.bounds.finished() {
            // The last checkpoint has what is left: after a stop nothing fires early, and no answer is waited for.
            while self.state.thaw(true) {}
            self.shared.hold_back(self.exit.node, false);
            outlet.close();
            return Ok(Again::Never);
        }
        inbox.pull();
        let begun = Instant::now();
        self.state.refresh();
        self.state.work.now = self.state.work.now.max(self.clock.now());
        self.answer(outlet)?;
        // What is due comes before new input, also what an earlier turn left.
        let mut more = self.fire(TimeDomain::Processing, self.state.work.now, outlet, begun)?
            || self.fire(TimeDomain::Event, self.state.work.watermark, outlet, begun)?
            || self.fire(TimeDomain::Right, self.state.work.right(), outlet, begun)?;
        let mut held_back = false;
        while !more
            && (!self.pressed || inbox.is_closing())
            && let Some(at) = self.next(inbox)
        {
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
        if let Clock::Virtual(_) = self.clock {
            self.tell_due();
        }
        let thawing = self.state.thaw(false);
        if self.room.is_some() {
            self.keep_to_memory()?;
        }
        more |= closed || (thawing && !self.state.is_clogged());
        let timers = self.state.has_timers(TimeDomain::Processing);
        Ok(match () {
            _ if more => Again::Now,
            _ if held_back || thawing => Again::After(Duration::from_millis(1)),
            _ if timers => Again::After(TICK),
            _ => Again::Never,
        })
    }

    /// Says when the clock lets a timer fire: one of the clock's own, or one that waits for a watermark which follows the clock.
    fn tell_due(&mut self) {
        let work = &mut self.state.work;
        let mut of = |domain| work.next_due(domain, i64::MAX - 1).map(|t| t.0);
        let clock = of(TimeDomain::Processing);
        let watermark = [of(TimeDomain::Event), of(TimeDomain::Right)].into_iter().flatten().min().map(|t| t + 1);
        let due = clock.into_iter().chain(watermark.filter(|_| self.by_clock)).min();
        self.shared.control.quiet.due(self.exit.node, due);
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
            let mut group = [Wanted::default(); GROUP];
            let group = &mut group[..rows.len()];
            for (wanted, i) in group.iter_mut().zip(rows.clone()) {
                let from = self.scratch.len();
                key.write(&batch.row(i), &mut self.scratch);
                *wanted = Wanted { hash: Key::hash(&self.scratch[from..]), end: self.scratch.len(), hint: None };
            }
            self.state.keys.bring(group);
            if self.state.has_cold() {
                self.load(group)?;
            }
            let mut from = 0;
            for (wanted, i) in group.iter().zip(rows) {
                let place = self.state.keys.place(&self.scratch[from..wanted.end], wanted.hash, wanted.hint);
                from = wanted.end;
                self.state.enter(place);
                let entry = self.state.keys.entry(place);
                let mut state = KeyState::new(entry.cells);
                let (work, effects) = (&mut self.state.work, &mut self.effects);
                let mut cx = Cx { key: entry.key, place, refs: entry.refs, work, effects, changed: false };
                self.operator.on_record(input, batch.row(i), &mut state, &mut cx)?;
                let changed = state.changed | cx.changed;
                self.state.keys.settle(place, changed);
                if self.effects.is_full() {
                    self.flush(outlet);
                }
            }
        }
        Ok(())
    }

    /// Brings keys into memory that rows are for; their bytes are in the scratch.
    fn load(&mut self, group: &[Wanted]) -> Result<(), Fault> {
        let mut from = 0;
        let mut cold: Vec<(&[u8], u64)> = Vec::with_capacity(GROUP);
        for &Wanted { hash, end, hint } in group {
            let key = &self.scratch[from..end];
            from = end;
            // A place that was found by the hash alone may be another key's.
            if hint.is_none_or(|p| self.state.keys.key(p) != key) && self.state.keys.find(key, hash).is_none() {
                cold.push((key, hash));
            }
        }
        if cold.is_empty() { Ok(()) } else { self.state.load(&self.states, &cold) }
    }

    /// Fires a domain's timers up to `time`; true when the turn is over before they are all done.
    fn fire(&mut self, domain: TimeDomain, time: i64, outlet: &mut Outlet, begun: Instant) -> Result<bool, Fault> {
        loop {
            let awake = self.state.wake(&self.states, domain, time)?;
            if self.fire_awake(domain, awake, outlet, begun)? {
                return Ok(true);
            }
            if awake >= time {
                return Ok(false);
            }
        }
    }

    /// As [`fire`](Self::fire), of keys in memory.
    fn fire_awake(&mut self, domain: TimeDomain, time: i64, outlet: &mut Outlet, begun: Instant) -> Result<bool, Fault> {
        let mut count = 0u32;
        while let Some((at, place, tag)) = self.state.work.next_due(domain, time) {
            if count.is_multiple_of(GROUP as u32) {
                // What is due next, read ahead: the misses of a group overlap.
                self.state.work.next_timers(domain, GROUP).for_each(|p| self.state.keys.touch(p));
            }
            if domain == TimeDomain::Processing {
                self.state.work.now = self.state.work.now.max(at);
            }
            self.state.enter(place);
            self.state.work.take(domain, (at, place, tag));
            let entry = self.state.keys.entry(place);
            *entry.refs -= 1;
            let (work, effects) = (&mut self.state.work, &mut self.effects);
            let mut cx = Cx { key: entry.key, place, refs: entry.refs, work, effects, changed: true };
            self.operator.on_timer(domain, at, tag, &mut KeyState::new(entry.cells), &mut cx)?;
            self.state.keys.settle(place, true);
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
            let Some(place) = self.state.work.asks.get(&id).map(|ask| ask.place) else { continue };
            self.state.enter(place);
            let Some(ask) = self.state.work.asks.remove(&id) else { continue };
            self.shared.pending_asks.fetch_sub(1, SeqCst);
            let entry = self.state.keys.entry(place);
            *entry.refs -= 1;
            let (work, effects) = (&mut self.state.work, &mut self.effects);
            let mut cx = Cx { key: entry.key, place, refs: entry.refs, work, effects, changed: true };
            self.operator.on_answer(ask.token, answer.clone(), &mut KeyState::new(entry.cells), &mut cx)?;
            self.state.keys.settle(place, true);
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
            if more || !domains.iter().any(|(domain, time)| self.state.work.next_due(*domain, *time).is_some()) {
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
        let domains = [TimeDomain::Event, TimeDomain::Processing, TimeDomain::Right];
        let idle = !domains.iter().any(|d| self.state.has_timers(*d)) && self.state.work.asks.is_empty();
        let work = &self.state.work;
        if time.is_none() && work.watermark == i64::MAX && idle {
            while self.state.thaw(true) {}
            self.shared.hold_back(self.exit.node, false);
            outlet.close();
            return Ok(true);
        }
        let held = outlet.held();
        let epoch = time.map_or(held.epoch, |t| t.epoch);
        outlet.downgrade(Ts::new(epoch, work.watermark.min(work.hold_limit())));
        if outlet.held().epoch > held.epoch {
            self.exercise()?;
        }
        Ok(false)
    }

    /// Everything before the boundary is processed and what was due has fired: says what is left.
    fn answer_boundary(&mut self, b: Boundary) -> Result<(), Fault> {
        let Some(saves) = &self.saves else { return Ok(()) };
        let (groups, generation, uploads) = (saves.groups, saves.generation, saves.uploads.clone());
        if self.state.below.is_none()
            && self.room.is_some()
            && self.state.bytes() > SMALL
            && let Err(fault) = self.open_tier()
        {
            if !fault.retry {
                return Err(fault);
            }
            // A full disk. The next boundary tries again.
            let body = Body::Failed { fault: fault.into(), chunks: vec![] };
            self.shared.bounds.ack(Ack { attempt: b.attempt, from: self.spot, body });
            return Ok(());
        }
        let idle = self.state.is_idle();
        let states = self.states.iter().map(describe).collect();
        let mut piece = Piece { groups, keys: self.state.len(), ..Piece::default() };
        if self.state.below.is_some() {
            piece.format = FORMAT.into();
            let header = self.state.header(&self.states);
            self.state.freeze(Save { attempt: b.attempt, idle, piece, states, header });
            return Ok(());
        }
        piece.format = "snapshot".into();
        let bytes = self.state.snapshot(&self.states, 0..KEY_GROUPS);
        let (shared, from) = (self.shared.clone(), self.spot);
        let name = JobLog::file_name(generation, &format!("a{}-n{}-w{}-state", b.attempt, from.node, from.worker));
        uploads.put(name, bytes, move |stored| {
            let body = match stored {
                Ok(file) => {
                    piece.files.insert("state".into(), file);
                    Body::State { states, piece, idle }
                }
                Err(fault) => Body::Failed { fault: fault.into(), chunks: vec![] },
            };
            shared.bounds.ack(Ack { attempt: b.attempt, from, body });
        });
        Ok(())
    }

    /// From now on what is kept lies in a tier too, at first an empty one.
    fn open_tier(&mut self) -> Result<(), Fault> {
        self.open_tier_with(|_, _| Ok(()), HashMap::new())
    }

    /// As [`open_tier`](Self::open_tier), of one whose folder is filled before, by files that checkpoints may go on to share.
    fn open_tier_with(
        &mut self,
        fill: impl FnOnce(&mut KeyedRunner, &Path) -> Result<(), Fault>,
        known: HashMap<String, FileRef>,
    ) -> Result<(), Fault> {
        let Some(room) = self.room.clone() else { return Err(Fault::bug("state needs a tier, and there is none")) };
        let folder = room.place(&format!("n{}-w{}", self.spot.node, self.spot.worker))?;
        fill(self, &folder)?;
        let tier = room.tiers.open(&folder)?;
        let kept = self.saves.as_ref().map(|s| Kept {
            spot: self.spot,
            generation: s.generation,
            uploads: s.uploads.clone(),
            known: Arc::new(Mutex::new(known)),
        });
        let writer = Writer::start(tier.clone(), &folder, &self.shared, kept)?;
        self.shared.memory.tiered();
        self.state.put_below(Below::new(tier, writer));
        Ok(())
    }

    /// Takes keys out of memory if there are too many.
    fn keep_to_memory(&mut self) -> Result<(), Fault> {
        let memory = &self.shared.memory;
        if self.reckoned.0.elapsed() >= RECKON {
            let now = self.state.bytes();
            memory.takes(self.reckoned.1, now);
            self.reckoned = (Instant::now(), now);
        }
        let mine = self.reckoned.1;
        let excess = memory.excess(mine);
        self.pressed = false;
        if excess == 0 {
            return Ok(());
        }
        if self.state.below.is_none()
            && let Err(fault) = self.open_tier()
        {
            // Until there is room on the disk, the next checkpoint fails, and memory holds what it must.
            self.pressed = fault.retry && excess > mine / 8;
            return if fault.retry { Ok(()) } else { Err(fault) };
        }
        let each = (mine / (self.state.keys.len() as u64).max(1)).max(1);
        let wanted = usize::try_from(excess / each + 1).unwrap_or(usize::MAX);
        let gone = self.state.evict(wanted.min(LEAVE.0), LEAVE.1, true);
        let left = mine.saturating_sub(gone as u64 * each);
        self.shared.memory.takes(mine, left);
        self.reckoned.1 = left;
        if gone < wanted.min(LEAVE.0) {
            if !self.state.is_clogged() {
                self.state.write_back(each);
            }
            // A little too much is for the next turns; more waits for what is on its way to disk.
            let much = (wanted - gone) as u64 * each > mine / 8 && self.shared.memory.in_flight.load(Relaxed) > 0;
            self.pressed = much || self.state.is_clogged();
        }
        Ok(())
    }

    /// Takes what the forerunners of this operator had, as far as its keys live on this worker.
    ///
    /// # Errors
    /// Damaged or missing files, or states that are no longer declared as they were.
    pub fn restore(&mut self, pieces: &[Saved], log: &JobLog, mine: (u64, u64)) -> Result<(), Fault> {
        let pieces: Vec<&Saved> = pieces.iter().filter(|p| p.groups.0.max(mine.0) < p.groups.1.min(mine.1)).collect();
        self.restore_pieces(&pieces, log, mine).map_err(|f| Fault { message: format!("`{}`: {}", self.exit.name, f.message), ..f })?;
        // Their answers are counted off.
        self.shared.pending_asks.fetch_add(self.state.work.asks.len(), SeqCst);
        self.ask_again()
    }

    fn restore_pieces(&mut self, pieces: &[&Saved], log: &JobLog, mine: (u64, u64)) -> Result<(), Fault> {
        let (tiered, snapshots): (Vec<&Saved>, Vec<&Saved>) = pieces.iter().partition(|p| p.format == FORMAT);
        for piece in snapshots {
            if piece.format != "snapshot" {
                return Err(Fault::data(format!("saved state has the format `{}`, which this release does not read", piece.format))
                    .hint("start with the release that wrote it, or a newer one"));
            }
            for file in piece.files.values() {
                self.state.restore(&self.states, &log.get(file)?, &|group| (mine.0..mine.1).contains(&group))?;
            }
            if piece.groups != mine {
                point::reach("rescale-adopting");
            }
        }
        let Some(room) = self.room.clone().filter(|_| !tiered.is_empty()) else {
            return if tiered.is_empty() { Ok(()) } else { Err(Fault::bug("the saved state needs a tier, and there is none")) };
        };
        if let [whole] = &tiered[..]
            && whole.groups == mine
        {
            let known = whole.files.iter().filter(|(name, _)| *name != META).map(|(n, f)| (n.clone(), f.clone())).collect();
            let fill = |me: &mut KeyedRunner, folder: &Path| {
                let header = fetch(log, &whole.files, folder)?;
                me.state.take_header(&me.states, &header, true)
            };
            self.open_tier_with(fill, known)?;
            return self.state.adopt(&self.states, whole.keys);
        }
        self.open_tier()?;
        let mut cold = 0;
        for (i, piece) in tiered.iter().enumerate() {
            let folder = room.place(&format!("n{}-w{}-from-{i}", self.spot.node, self.spot.worker))?;
            let header = fetch(log, &piece.files, &folder)?;
            self.state.take_header(&self.states, &header, false)?;
            let from = room.tiers.open(&folder)?;
            cold += self.state.import(&*from, (piece.groups.0.max(mine.0), piece.groups.1.min(mine.1)))?;
            point::reach("rescale-adopting");
            drop(from);
            // What is left of it goes with the run's folder.
            let _ = std::fs::remove_dir_all(&folder);
        }
        self.state.adopt(&self.states, cold)
    }

    /// Between two epochs, in test modes: all state passes its bytes, or leaves memory.
    fn exercise(&mut self) -> Result<(), Fault> {
        if self.options().evict_state && self.room.is_some() {
            if self.state.below.is_none() {
                self.open_tier()?;
            }
            self.state.spill();
        } else if self.options().roundtrip_state && self.state.below.is_none() {
            self.roundtrip()?;
        }
        Ok(())
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
