//! The source operator: reads partitions in event-time step, washes rows, gives them their time, and keeps count of what the sinks
//! have acknowledged.

use crate::checkpoint::{Ack, Body, Boundary, Spot};
use crate::control::{Reading, Shared};
use crate::event_time::{Assigner, PartitionTime};
use crate::outlet::{Exit, Outlet};
use crate::progress::Blocked;
use crate::stateless::{PAUSE as PIECE_PAUSE, Todo};
use crate::ts::{Ts, meet};
use millrace_durable::PartitionState;
use millrace_plan::plan::SourceNode;
use millrace_sdk::operator::Operator;
use millrace_sdk::source::Pull;
use millrace_sdk::{BatchBuilder, Clock, Fault, PartitionInfo, Poll, Position, Reject, SchemaRef, Source};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};
use timely::dataflow::operators::probe::Handle;

/// Rows and bytes of one poll.
const POLL_ROWS: usize = 1024;
const POLL_BYTES: usize = 256 << 10;
/// Rows after which an activation ends, if its partitions give little each.
const TURN_ROWS: usize = 1024;
/// How long a partition without rows is left alone, unless the source wakes us; and while it had some within `RECENT` (microseconds), for
/// each eight partitions that there are.
const PAUSE: Duration = Duration::from_millis(10);
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const RECENT: u64 = 100_000;
/// Between two questions for new partitions.
const DISCOVER: Duration = Duration::from_millis(200);
/// A retry stream has ended when nothing moved for this long.
const SETTLE: Duration = Duration::from_millis(500);

struct Partition {
    info: PartitionInfo,
    time: PartitionTime,
    ended: bool,
    /// Nothing to read before this moment.
    pause: Option<Instant>,
    /// When it was last asked, microseconds, if it had nothing then and has not called since.
    asked: Option<u64>,
    idle: bool,
    /// When it last had rows, or was not asked for any: see [`Reader::moment`].
    active: u64,
    turn: u64,
}

impl Partition {
    /// It counts for the watermark, again if it was idle; `promised`: below which the watermark no longer goes.
    fn wake(&mut self, moment: u64, promised: i64) {
        self.active = moment;
        if std::mem::take(&mut self.idle) {
            self.time.raise(promised);
        }
    }
}

/// Rows of one epoch on their way to the sinks, and the positions behind them.
struct Flight {
    epoch: u64,
    bytes: usize,
    positions: Vec<(u32, Position)>,
}

/// What a source operator is made of.
pub struct Setup {
    /// Index among the sources.
    pub index: usize,
    pub worker: usize,
    /// None: this worker hosts no instance.
    pub source: Option<Box<dyn Source>>,
    pub operates: Vec<(String, Box<dyn Operator>)>,
    pub assigner: Assigner,
    pub exit: Exit,
    pub probe: Handle<Ts>,
    pub woken: Arc<AtomicBool>,
    /// Where partitions go on, by name.
    pub restored: HashMap<String, PartitionState>,
    /// These were all that the stream had. Else it had promised nothing yet.
    pub known: bool,
}

/// One instance of a source.
pub struct Reader {
    s: Setup,
    pub outlet: Outlet,
    shared: Arc<Shared>,
    clock: Clock,
    schema: SchemaRef,
    number: u16,
    retry: bool,
    idle_after: Option<Duration>,
    partitions: Vec<Partition>,
    complete: bool,
    /// The partitions of the start are known.
    listed: bool,
    discovered: Option<Instant>,
    flights: VecDeque<Flight>,
    bytes: usize,
    /// Rows, bytes and partitions read in the present epoch.
    current: (usize, usize, Vec<u32>),
    turns: u64,
    quiet_since: Option<Instant>,
    closed: bool,
    /// What is still to be done with the rows of the last poll, and their partition and birth.
    todo: Vec<Todo>,
    washed: (usize, u64),
    blocked: Blocked,
    /// The attempt of the newest boundary that was answered.
    answered: u64,
    /// Nothing is read any more, and the capability stays until the run is over.
    over: bool,
    stopped: bool,
    /// The watermark of the checkpoint that the stream goes on from.
    promised: i64,
    /// Positions of boundaries whose manifest is not yet written.
    unsafe_positions: VecDeque<(u64, Vec<(u32, Position)>)>,
}

/// When the operator wants to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Now,
    After(Duration),
    Never,
}

impl Reader {
    pub fn new(s: Setup, node: &SourceNode, outlet: Outlet, clock: Clock) -> Reader {
        let shared = outlet.shared.clone();
        let bound = s.assigner.bound();
        let promised = s.restored.values().filter(|p| !p.ended).map(|p| PartitionTime::restored(p).watermark(bound)).min();
        Reader {
            promised: promised.filter(|_| s.known).unwrap_or(i64::MIN),
            outlet,
            shared,
            clock,
            schema: node.schema.clone(),
            number: node.number,
            retry: node.retry,
            idle_after: node.watermark.as_ref().and_then(|w| w.idle_after),
            partitions: vec![],
            complete: s.source.is_none(),
            listed: s.source.is_none(),
            discovered: None,
            flights: VecDeque::new(),
            bytes: 0,
            current: (0, 0, vec![]),
            turns: 0,
            quiet_since: None,
            closed: s.source.is_none(),
            todo: vec![],
            washed: (0, 0),
            blocked: Blocked::default(),
            answered: 0,
            over: false,
            stopped: false,
            unsafe_positions: VecDeque::new(),
            s,
        }
    }

    /// One activation: enter the announced epoch, read a little if the sinks keep up, move the watermark.
    pub fn turn(&mut self) -> Result<Again, Fault> {
        if !self.outlet.is_open() {
            self.acknowledge()?;
            return Ok(if self.closed { Again::Never } else { Again::After(Duration::from_millis(5)) });
        }
        if !self.todo.is_empty() {
            // All that comes of one poll leaves in one epoch and before the watermark moves: a position lies between polls.
            self.acknowledge()?;
            let done = self.wash()?;
            self.blocked.now(!done, &self.shared.meters, self.s.exit.node, self.s.worker);
            self.outlet.flush(self.shared.micros());
            return Ok(if done { Again::Now } else { Again::After(PIECE_PAUSE) });
        }
        if self.shared.epoch() == 0 {
            // Other processes are not yet ready.
            return Ok(Again::After(SHORT_PAUSE));
        }
        self.enter_epoch();
        self.acknowledge()?;
        if self.over || self.stopped {
            return Ok(self.rest());
        }
        if self.shared.control.draining() {
            self.end();
            return Ok(Again::Now);
        }
        self.discover()?;
        if self.s.woken.swap(false, SeqCst) {
            self.partitions.iter_mut().for_each(|p| (p.pause, p.asked) = (None, None));
        }
        let throttled = self.throttled();
        self.blocked.now(throttled, &self.shared.meters, self.s.exit.node, self.s.worker);
        let again = match throttled {
            true => {
                let now = self.moment();
                self.partitions.iter_mut().for_each(|p| p.active = now);
                Again::After(Duration::from_millis(1))
            }
            false => self.read()?,
        };
        self.outlet.flush(self.shared.micros());
        if !self.todo.is_empty() {
            return Ok(Again::Now);
        }
        let done = self.complete && self.partitions.iter().all(|p| p.ended);
        if done || self.shared.exhausted() || (self.retry && self.settled()) {
            self.end();
            return Ok(Again::Now);
        }
        self.move_watermark();
        Ok(again)
    }

    fn enter_epoch(&mut self) {
        let held = self.outlet.held();
        let epoch = self.shared.epoch();
        if epoch <= held.epoch {
            return;
        }
        while let Some(b) = self.shared.bounds.next(self.answered).filter(|b| b.epoch <= epoch) {
            self.answer(b);
        }
        self.take_off(held.epoch);
        self.outlet.downgrade(Ts::new(epoch, held.wm));
    }

    /// Nothing is read any more: boundaries are answered until the run is over, and then the capabilities go.
    fn rest(&mut self) -> Again {
        if self.shared.bounds.finished() {
            self.outlet.close();
            self.shared.tell(self.s.index, self.s.worker, i64::MAX, i64::MAX, Reading::Ended);
        }
        Again::After(Duration::from_millis(1))
    }

    /// All rows sent so far lie before the boundary, all others behind it.
    fn answer(&mut self, b: Boundary) {
        self.answered = b.attempt;
        self.stopped |= b.stop;
        let mut partitions = Vec::with_capacity(self.partitions.len());
        if let Some(source) = &mut self.s.source {
            let mut positions = Vec::with_capacity(self.partitions.len());
            for p in &self.partitions {
                let position = source.position(p.info.id);
                partitions.push(p.time.state(&p.info.name, position.0.clone(), p.ended));
                positions.push((p.info.id, position));
            }
            self.unsafe_positions.push_back((b.attempt, positions));
        }
        let from = Spot { node: self.s.exit.node, worker: self.s.worker };
        self.shared.bounds.ack(Ack { attempt: b.attempt, from, body: Body::Source { partitions, over: self.over, listed: self.listed } });
    }

    /// What a manifest has is told to the outside.
    fn committed(&mut self) -> Vec<(u32, Position)> {
        let mut newest = vec![];
        while self.unsafe_positions.front().is_some_and(|(a, _)| self.shared.bounds.is_committed(*a)) {
            newest = self.unsafe_positions.pop_front().map(|(_, p)| p).unwrap_or_default();
        }
        newest
    }

    /// Closes the present epoch: what was read in it is now waited for.
    fn take_off(&mut self, epoch: u64) {
        let (rows, bytes, touched) = std::mem::take(&mut self.current);
        let Some(source) = self.s.source.as_mut().filter(|_| rows > 0) else { return };
        let positions = touched.into_iter().map(|p| (p, source.position(p))).collect();
        self.bytes += bytes;
        self.flights.push_back(Flight { epoch, bytes, positions });
    }

    fn done_epoch(&self) -> u64 {
        self.s.probe.with_frontier(meet).map_or(u64::MAX, |t| t.epoch)
    }

    /// Tells the source what all sinks have made safe. A record's epoch is passed only when everything that came of it is written.
    fn acknowledge(&mut self) -> Result<(), Fault> {
        let done = self.done_epoch();
        let mut newest: Vec<(u32, Position)> = Vec::new();
        while self.flights.front().is_some_and(|f| f.epoch < done) {
            let Some(flight) = self.flights.pop_front() else { break };
            self.bytes -= flight.bytes;
            for (p, position) in flight.positions {
                match newest.iter_mut().find(|n| n.0 == p) {
                    Some(n) => n.1 = position,
                    None => newest.push((p, position)),
                }
            }
        }
        if self.shared.bounds.on() {
            newest = self.committed();
        }
        let Some(source) = &mut self.s.source else { return Ok(()) };
        if !newest.is_empty() {
            source.acknowledged(&newest)?;
        }
        if !self.outlet.is_open() && self.flights.is_empty() && !self.closed {
            self.closed = true;
            source.close()?;
        }
        Ok(())
    }

    /// Tells the source the rest and closes it, when the dataflow is done or given up.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.acknowledge()?;
        if !self.closed {
            self.closed = true;
            if let Some(source) = &mut self.s.source {
                return source.close();
            }
        }
        Ok(())
    }

    fn throttled(&self) -> bool {
        let o = &self.shared.options;
        // Epochs without rows of ours are no reason to wait, however late the news of them is.
        let behind = self.flights.front().is_some_and(|f| f.epoch.saturating_add(o.max_lag) < self.outlet.held().epoch);
        let full = self.bytes + self.current.1 > self.shared.memory.share(32, o.max_bytes_in_flight);
        if full && self.current.0 > 0 {
            self.shared.hurry();
        }
        let asks = self.shared.all_asks() > 2 * o.max_pending_asks || self.shared.clogged.load(Relaxed);
        // An operator that waits for the source furthest behind, while that one waits for the operator, would wait for ever.
        let awaited = self.shared.is_holding_back() && self.is_slowest();
        (behind || full || asks || self.outlet.is_full()) && !awaited
    }

    /// Now, for how long partitions have been silent: microseconds of the run or, in tests, of their clock.
    fn moment(&self) -> u64 {
        match &self.clock {
            Clock::System => self.shared.micros(),
            clock => clock.now().max(0) as u64,
        }
    }

    fn is_slowest(&self) -> bool {
        let head = self.next(Instant::now()).map(|i| self.partitions[i].time.watermark(self.s.assigner.bound()));
        head.is_some_and(|h| h <= self.shared.slowest())
    }

    fn discover(&mut self) -> Result<(), Fault> {
        if self.complete || (self.listed && self.discovered.is_some_and(|t| t.elapsed() < DISCOVER)) {
            return Ok(());
        }
        self.discovered = Some(Instant::now());
        let active = self.moment();
        let Some(source) = &mut self.s.source else { return Ok(()) };
        let found = source.discover()?;
        self.complete = found.complete;
        self.listed = source.listed();
        let meter = &self.shared.meters.sources[self.s.index];
        meter.partitions.fetch_add(found.new.len() as u64, Relaxed);
        if let Some(lag) = source.lag() {
            self.shared.meters.lag(self.s.index, self.s.worker, lag);
        }
        for info in found.new {
            self.shared.name_partition(self.number, info.id, &info.name);
            // A partition that joins starts at the watermark that the stream has promised, in an earlier run too.
            let mut time = PartitionTime::new(self.outlet.held().wm.max(self.promised));
            let mut ended = false;
            if let Some(state) = self.s.restored.remove(&info.name) {
                source.seek(info.id, &Position(state.position.clone()))?;
                time = PartitionTime::restored(&state);
                // If it was missing from the first list, what the stream has promised since holds for its rows too.
                time.raise(self.outlet.held().wm);
                ended = state.ended;
            }
            self.partitions.push(Partition { info, time, ended, pause: None, asked: None, idle: false, active, turn: 0 });
        }
        Ok(())
    }

    /// The readable partition that is furthest behind in event time; among equals the one that waited longest.
    fn next(&self, now: Instant) -> Option<usize> {
        let bound = self.s.assigner.bound();
        let readable = |p: &Partition| !p.ended && p.pause.is_none_or(|t| t <= now);
        let at = |i: &usize| (self.partitions[*i].time.watermark(bound), self.partitions[*i].turn);
        (0..self.partitions.len()).filter(|&i| readable(&self.partitions[i])).min_by_key(at)
    }

    fn read(&mut self) -> Result<Again, Fault> {
        let now = Instant::now();
        let drift = self.shared.options.max_drift.as_micros().min(i64::MAX as u128) as i64;
        let steps = matches!(self.s.assigner, Assigner::Field { .. }) && !self.retry;
        let mut rows = 0;
        for _ in 0..self.partitions.len().max(1) {
            let Some(i) = self.next(now) else { break };
            let ahead = self.partitions[i].time.watermark(self.s.assigner.bound());
            if steps && ahead > self.shared.slowest().saturating_add(drift) {
                return Ok(Again::After(Duration::from_micros(200)));
            }
            let want = self.shared.reserve(POLL_ROWS);
            if want == 0 {
                return Ok(Again::After(Duration::from_millis(1)));
            }
            let got = self.poll(i, want);
            self.shared.used(want, *got.as_ref().unwrap_or(&0));
            rows += got?;
            if rows >= TURN_ROWS || !self.todo.is_empty() {
                break;
            }
        }
        let now = Instant::now();
        if self.next(now).is_some() {
            return Ok(Again::Now);
        }
        let soonest = self.partitions.iter().filter(|p| !p.ended).filter_map(|p| p.pause).min();
        Ok(Again::After(soonest.map_or(PAUSE, |t| t.saturating_duration_since(now))))
    }

    /// Reads a little of one partition and sends it; the number of rows read.
    fn poll(&mut self, i: usize, max_rows: usize) -> Result<usize, Fault> {
        let short = SHORT_PAUSE * (1 + self.partitions.len() as u32 / 8);
        let moment = self.moment();
        let Some(source) = &mut self.s.source else { return Ok(0) };
        let now = self.shared.micros();
        let mut rows = BatchBuilder::new(self.schema.clone());
        let mut rejects: Vec<Reject> = Vec::new();
        let p = &mut self.partitions[i];
        // What was not there when it was last asked for may have arrived right after.
        let born = p.asked.take().unwrap_or(now);
        let mut pull = Pull { rows: &mut rows, rejects: &mut rejects, max_rows, max_bytes: POLL_BYTES };
        let result = source.poll(p.info.id, &mut pull)?;
        self.turns += 1;
        p.turn = self.turns;
        p.pause = None;
        match result {
            Poll::Ready => {}
            Poll::Pending => {
                p.asked = Some(now);
                let busy = !rows.is_empty() || moment.saturating_sub(p.active) < RECENT;
                p.pause = Some(Instant::now() + if busy { short.min(PAUSE) } else { PAUSE });
                if self.idle_after.is_some() && !source.drained(p.info.id) {
                    p.wake(moment, self.outlet.held().wm);
                }
            }
            Poll::Ended => p.ended = true,
        }
        let count = rows.len() + rejects.len();
        if count == 0 {
            return Ok(0);
        }
        p.wake(moment, self.outlet.held().wm);
        self.quiet_since = None;
        let batch = rows.finish();
        let bytes = batch.bytes();
        let meter = &self.shared.meters.sources[self.s.index];
        meter.records.fetch_add(count as u64, Relaxed);
        meter.bytes.fetch_add(batch.text().len() as u64, Relaxed);
        let node = &self.shared.meters.nodes[self.s.exit.node];
        node.inputs[0].fetch_add(count as u64, Relaxed);
        node.bytes.fetch_add(batch.text().len() as u64, Relaxed);
        if self.retry {
            self.shared.retry_epoch.fetch_max(self.outlet.held().epoch, SeqCst);
            self.shared.retried.fetch_add(count as u64, SeqCst);
            self.shared.quiet(self.s.index, self.s.worker, false);
        }
        self.current.0 += count;
        self.current.1 += bytes;
        if !self.current.2.contains(&self.partitions[i].info.id) {
            self.current.2.push(self.partitions[i].info.id);
        }
        for r in &rejects {
            self.outlet.reject(&self.s.exit, r, born);
        }
        if !batch.is_empty() {
            self.washed = (i, born);
            self.todo.push(Todo::Run(0, batch));
            self.wash()?;
        }
        Ok(count)
    }

    /// The stream's own stateless steps, then the time, then away; false: the rest of the rows waits for the readers.
    fn wash(&mut self) -> Result<bool, Fault> {
        let (i, born) = self.washed;
        let now = self.clock.now();
        while let Some(todo) = self.todo.pop() {
            if matches!(todo, Todo::Resume(_)) && self.outlet.is_full() {
                self.todo.push(todo);
                return Ok(false);
            }
            let at = todo.step();
            let Some((name, operator)) = self.s.operates.get_mut(at) else {
                if let Todo::Run(_, mut b) = todo {
                    let p = &mut self.partitions[i];
                    self.s.assigner.assign(&mut b, &mut p.time, &p.info.name, now, &self.s.exit, &mut self.outlet, born)?;
                    self.outlet.emit(&self.s.exit, 0, b, born);
                }
                continue;
            };
            let out = todo.apply(&mut **operator);
            for r in &out.rejects {
                self.outlet.reject_by(&self.s.exit, name, r, born);
            }
            for (reason, rows) in out.dropped {
                self.outlet.drop_rows(&self.s.exit, reason, rows);
            }
            if out.unfinished {
                self.todo.push(Todo::Resume(at));
            }
            // The last one is done first.
            for (port, b) in out.batches.into_iter().rev() {
                match port {
                    0 => self.todo.push(Todo::Run(at + 1, b)),
                    _ => self.outlet.drop_rows(&self.s.exit, "unread-port", b.len() as u64),
                }
            }
        }
        Ok(true)
    }

    /// The stream's watermark on this worker is the least of its active partitions'; who has none follows the others.
    fn move_watermark(&mut self) {
        let held = self.outlet.held();
        let (index, worker) = (self.s.index, self.s.worker);
        let now = self.moment();
        let mut reading = Reading::Active;
        let mut head = i64::MAX;
        let wm = match &mut self.s.assigner {
            Assigner::Clock { last } if !self.retry => {
                // A clock that is set back must not give times that were promised to be over.
                *last = self.clock.now().max(*last);
                last.saturating_sub(1)
            }
            _ if self.retry => match self.shared.follow(index) {
                Some(w) => w,
                None if self.shared.inputs_ended() => i64::MAX,
                None => held.wm,
            },
            Assigner::Clock { .. } | Assigner::Given => {
                reading = Reading::Idle;
                held.wm
            }
            Assigner::Field { bound, .. } => {
                let mut least = None;
                for p in self.partitions.iter_mut().filter(|p| !p.ended) {
                    if p.pause.is_none() {
                        head = head.min(p.time.watermark(*bound));
                    } else if self.idle_after.is_some_and(|after| u128::from(now.saturating_sub(p.active)) >= after.as_micros()) {
                        p.idle = true;
                    }
                    if !p.idle {
                        let w = p.time.watermark(*bound);
                        least = Some(least.map_or(w, |l: i64| l.min(w)));
                    }
                }
                // Without a list nobody knows whether there are partitions, nor how far behind those that are known.
                if least.is_none() && self.listed {
                    reading = Reading::Idle;
                }
                least.filter(|_| self.listed).unwrap_or_else(|| match reading {
                    Reading::Idle => self.shared.follow(index).unwrap_or(held.wm),
                    _ => held.wm,
                })
            }
        };
        self.outlet.downgrade(Ts::new(held.epoch, wm));
        let wm = self.outlet.held().wm;
        self.shared.tell(index, worker, wm, head, reading);
        self.shared.meters.nodes[self.s.exit.node].watermark.store(wm, Relaxed);
    }

    /// A retry stream ends when all other input has, nothing is pending or on its way to a sink, and no instance has anything to read.
    fn settled(&mut self) -> bool {
        if !self.shared.inputs_ended() {
            return false;
        }
        let lag = self.s.source.as_mut().and_then(|s| s.lag()).unwrap_or(0);
        let mine = lag == 0 && self.partitions.iter().all(|p| p.ended || p.pause.is_some());
        let passed = self.done_epoch() > self.shared.retry_epoch.load(SeqCst) + 1;
        let sent = self.flights.is_empty() && self.shared.pending_asks.load(SeqCst) == 0 && self.shared.all_published();
        let empty = mine && passed && self.current.0 == 0 && sent;
        if !empty {
            self.quiet_since = None;
        } else if self.quiet_since.is_none() {
            self.quiet_since = Some(Instant::now());
        }
        let quiet = self.quiet_since.is_some_and(|t| t.elapsed() >= SETTLE);
        self.shared.quiet(self.s.index, self.s.worker, quiet)
    }

    /// This instance reads no more: the watermark is infinite. Its capabilities go, unless checkpoints are still to be answered.
    fn end(&mut self) {
        let held = self.outlet.held();
        self.take_off(held.epoch);
        if self.shared.bounds.on() {
            self.over = true;
            self.outlet.flush(self.shared.micros());
            self.outlet.downgrade(Ts::new(held.epoch, i64::MAX));
        } else {
            self.outlet.close();
        }
        self.shared.tell(self.s.index, self.s.worker, i64::MAX, i64::MAX, Reading::Ended);
        self.shared.quiet(self.s.index, self.s.worker, true);
    }
}
