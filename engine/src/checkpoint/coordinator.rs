//! The coordinator: wants boundaries, gathers what the parts say, writes manifests, has outboxes published, and ends the run.
//!
//! It is a thread of its own beside worker 0, as it waits for disks and servers.

use super::ack::{Ack, Body, Spot};
use super::outgoing::Named;
use super::publish::Publishers;
use super::start::{Writers, all_published};
use crate::control::{Asked, Request, Shared};
use crate::guards::{Finding, Guards};
use millrace_durable::{
    Chunk, FileRef, JobLog, Kind, Manifest, OperatorState, PartitionState, Piece, Record, SinkState, SourceState, StateInfo, Verdict,
    marker,
};
use millrace_sdk::{Clock, Fault, FaultKind, point};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How often it looks at the clock and at what is asked of it.
const TICK: Duration = Duration::from_millis(5);
/// Checkpoints whose output is not yet published; more wait for these.
const UNPUBLISHED: usize = 8;
/// Between two tries to end a run whose operators are not yet idle.
const AGAIN: Duration = Duration::from_millis(50);
/// While only retry streams are left, output is published this often: their end waits for it.
const HURRY: Duration = Duration::from_millis(200);

/// What a coordinator must know beside what is shared.
#[derive(Clone, Debug)]
pub struct Settings {
    pub job: String,
    pub config: u64,
    pub workers: usize,
    pub interval: Duration,
    pub min_pause: Duration,
    pub timeout: Duration,
    pub retained: usize,
    /// Failed checkpoints in a row that the job lives through.
    pub tolerable_failures: u32,
}

/// A part that keeps something, as the manifest names it.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: String,
    pub part: String,
    /// What the keys of its state mean.
    pub meaning: String,
}

struct Attempt {
    attempt: u64,
    kind: Want,
    asked: Instant,
    /// Who has not yet answered.
    missing: BTreeSet<Spot>,
    pieces: Vec<(Spot, Vec<StateInfo>, Piece)>,
    /// An operator still has something to fire, or a source something to read.
    busy: bool,
    fault: Option<Fault>,
    /// It waits for a server longer than its time.
    delayed: bool,
}

/// Why a boundary is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Periodic,
    Savepoint,
    Stop {
        savepoint: bool,
    },
    /// All input has ended or is no longer read, and everything fires.
    End,
}

/// Invariants: one periodic boundary is in flight at most; what the job wants besides may overlap it. A manifest is written only in the
/// next slot, and who does not get that slot is no longer the newest generation. Chunks of an attempt that failed belong to the next.
pub struct Coordinator {
    pub settings: Settings,
    pub shared: Arc<Shared>,
    pub log: Arc<JobLog>,
    pub generation: u64,
    /// Who must answer a boundary.
    pub spots: BTreeSet<Spot>,
    pub sources: BTreeMap<usize, Part>,
    pub operators: BTreeMap<usize, Part>,
    pub sinks: BTreeMap<usize, Part>,
    /// By node, then the partition's name: as told last, or as restored.
    pub positions: BTreeMap<usize, BTreeMap<String, PartitionState>>,
    /// Sources all of whose partitions an earlier run knew: what this one has not yet found of them is in `positions`.
    pub listed: BTreeSet<usize>,
    /// Outbox writers by spot.
    pub writers: Writers,
    pub publishers: Publishers,
    pub clock: Clock,
    pub guards: Option<Guards>,
    pub acks: Receiver<Ack>,
}

/// What changes while it runs.
struct Live {
    slot: u64,
    attempts: Vec<Attempt>,
    next: u64,
    ended: Option<Instant>,
    begun: Instant,
    failures: u32,
    /// Chunks that no manifest names yet.
    unnamed: BTreeMap<Spot, Vec<(u64, FileRef)>>,
    outgoing: Named,
    replies: HashMap<u64, Vec<Sender<Result<String, Fault>>>>,
    over: BTreeSet<Spot>,
    /// Instances of sources that do not know yet which partitions there are.
    unlisted: BTreeSet<Spot>,
    stopping: bool,
    last: bool,
    /// The slot of the newest manifest; 0: none yet.
    manifest: u64,
    /// Checkpoints that the guards have not passed yet, the oldest first, and the newest that they have.
    held: VecDeque<Held>,
    passed: u64,
}

/// A checkpoint whose output waits for the guards.
struct Held {
    slot: u64,
    attempt: u64,
    /// Microseconds of the run.
    at: u64,
    chunks: Vec<(Spot, Chunk)>,
}

impl Coordinator {
    /// Works until the run is over.
    pub fn run(mut self) {
        let base = marker(self.generation, 0);
        let mut live = Live {
            slot: self.generation,
            attempts: vec![],
            next: 1,
            ended: None,
            begun: Instant::now(),
            failures: 0,
            unnamed: BTreeMap::new(),
            outgoing: Named::new(self.writers.keys().copied(), base),
            replies: HashMap::new(),
            over: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            stopping: false,
            last: false,
            manifest: 0,
            held: VecDeque::new(),
            passed: 0,
        };
        if self.guards.is_some() {
            live.outgoing.passed = 0;
        }
        while !self.shared.failed() && !self.shared.bounds.finished() {
            match self.acks.recv_timeout(TICK) {
                Ok(ack) => {
                    self.hear(ack, &mut live);
                    while let Ok(ack) = self.acks.try_recv() {
                        self.hear(ack, &mut live);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Err(fault) = self.step(&mut live) {
                self.shared.fail(fault);
            }
        }
        let over = || Fault::down("the run ended before the checkpoint was complete");
        live.replies.into_values().flatten().for_each(|r| _ = r.send(Err(over())));
        self.publishers.stop();
    }

    fn step(&mut self, live: &mut Live) -> Result<(), Fault> {
        self.requests(live);
        self.want(live);
        // In order: an older attempt's state must not stand in a newer manifest than a newer one's.
        while let Some(a) = live.attempts.first_mut() {
            let late = a.asked.elapsed() > self.settings.timeout;
            let waits = late && a.fault.is_none() && !a.missing.is_empty() && self.waits_for_servers(&a.missing);
            if waits && !std::mem::replace(&mut a.delayed, true) {
                self.delay(a.attempt);
            }
            if !a.missing.is_empty() && (!late || waits) {
                break;
            }
            let attempt = live.attempts.remove(0);
            self.settle(attempt, live)?;
        }
        self.shared.clogged.store(live.outgoing.waiting() >= UNPUBLISHED, Relaxed);
        if live.last && live.attempts.is_empty() {
            let unpassed = self.guards.is_some() && live.stopping;
            if live.outgoing.is_done() || (unpassed && live.outgoing.waiting() == 0) {
                if let Some(held) = live.held.back() {
                    tracing::warn!(
                        target: "guard",
                        "{} checkpoints up to {} have not been passed by the guards yet: the next start reads again what belongs to them",
                        live.held.len(),
                        held.slot
                    );
                }
                if live.outgoing.is_done() {
                    all_published(&self.log, live.manifest);
                }
                self.shared.finish();
            } else if live.outgoing.waiting() == 0 {
                // What was refused of the last one wants another.
                live.last = false;
            }
        }
        Ok(())
    }

    /// Whether all that is missing is at sinks that write at once, and so wait for their servers.
    fn waits_for_servers(&self, missing: &BTreeSet<Spot>) -> bool {
        missing.iter().all(|s| self.sinks.contains_key(&s.node) && !self.writers.contains_key(s))
    }

    fn delay(&self, attempt: u64) {
        if let Some(meter) = &self.shared.meters.checkpoints {
            meter.delayed.fetch_add(1, Relaxed);
        }
        let seconds = self.settings.timeout.as_secs_f64();
        tracing::warn!(target: "checkpoint", "checkpoint {attempt} is delayed: after {seconds} s a sink still waits for its server");
    }

    fn requests(&mut self, live: &mut Live) {
        while let Some(Asked { request, reply }) = self.shared.control.next_request() {
            let want = match request {
                Request::Savepoint => Want::Savepoint,
                Request::Stop { drain: true, .. } => {
                    self.shared.control.drain();
                    live.replies.entry(0).or_default().push(reply);
                    continue;
                }
                Request::Stop { savepoint, drain: false } => Want::Stop { savepoint },
                Request::Rescale { .. } if self.shared.seat.processes > 1 => {
                    let fault = Fault::config("a job of several processes cannot be rescaled while it runs");
                    let _ = reply.send(Err(fault.hint("stop it, and start it with other `--workers` or other processes")));
                    continue;
                }
                Request::Rescale { workers } => {
                    if !live.last && !live.stopping {
                        self.shared.control.rescale(workers);
                    }
                    Want::Stop { savepoint: false }
                }
            };
            if live.last || live.stopping {
                let _ = reply.send(Err(Fault::refused("the job is stopping already")));
                continue;
            }
            live.stopping |= matches!(want, Want::Stop { .. });
            let attempt = self.ask(want, live);
            live.replies.entry(attempt).or_default().push(reply);
        }
    }

    /// Asks for the next boundary if it is time.
    fn want(&mut self, live: &mut Live) {
        if live.last || !live.attempts.is_empty() {
            return;
        }
        let since = live.ended.unwrap_or(live.begun).elapsed();
        if live.stopping {
            // The one before failed.
            if since >= AGAIN {
                self.ask(Want::Stop { savepoint: false }, live);
            }
            return;
        }
        let rows_left = !live.outgoing.is_done() || !live.unnamed.is_empty();
        if self.shared.all_ended() {
            if since >= AGAIN || live.ended.is_none() {
                self.ask(Want::End, live);
            }
            return;
        }
        let hurry = self.shared.inputs_ended() && !rows_left;
        let interval = if hurry { self.settings.interval.min(HURRY) } else { self.settings.interval };
        if since >= interval.max(self.settings.min_pause) && live.outgoing.waiting() < UNPUBLISHED {
            self.ask(Want::Periodic, live);
        }
    }

    fn ask(&mut self, kind: Want, live: &mut Live) -> u64 {
        let attempt = live.next;
        live.next += 1;
        let missing = self.spots.clone();
        live.attempts.push(Attempt {
            attempt,
            kind,
            asked: Instant::now(),
            missing,
            pieces: vec![],
            busy: false,
            fault: None,
            delayed: false,
        });
        self.shared.bounds.want(attempt, matches!(kind, Want::Stop { .. }));
        attempt
    }

    fn hear(&mut self, ack: Ack, live: &mut Live) {
        let Ack { attempt, from, body } = ack;
        let at = live.attempts.iter().position(|a| a.attempt == attempt);
        if let Some(i) = at {
            live.attempts[i].missing.remove(&from);
            point::reach("ack-sent");
        }
        match body {
            Body::Applied { marker, refused } => live.outgoing.applied(from, marker, refused),
            Body::Counts { counts } => {
                let process = self.shared.seat.of(from.worker);
                self.guards.iter_mut().for_each(|g| g.tell(process, counts.clone()));
            }
            Body::Taken { marker, attempt } => live.outgoing.taken(from, marker, attempt),
            Body::Outbox { chunks } => self.gathered(from, chunks, live),
            Body::Failed { fault, chunks } => {
                self.gathered(from, chunks, live);
                if let Some(i) = at {
                    live.attempts[i].fault.get_or_insert_with(|| fault.into());
                }
            }
            Body::Source { partitions, over, listed } => {
                match listed {
                    true => live.unlisted.remove(&from),
                    false => live.unlisted.insert(from),
                };
                // Positions of a failed attempt are those of the next one or older, so they may be kept.
                let known = self.positions.entry(from.node).or_default();
                known.extend(partitions.into_iter().map(|p| (p.name.clone(), p)));
                if over {
                    live.over.insert(from);
                }
                if let Some(i) = at {
                    live.attempts[i].busy |= !over;
                }
            }
            Body::State { states, piece, idle } => {
                if let Some(i) = at {
                    live.attempts[i].busy |= !idle;
                    live.attempts[i].pieces.push((from, states, piece));
                }
            }
            Body::Written => {}
        }
    }

    fn gathered(&self, from: Spot, chunks: Vec<(u64, FileRef)>, live: &mut Live) {
        if !chunks.is_empty() {
            live.unnamed.entry(from).or_default().extend(chunks);
        }
    }

    /// An attempt has all its answers, or no more time.
    fn settle(&mut self, a: Attempt, live: &mut Live) -> Result<(), Fault> {
        live.ended = Some(Instant::now());
        self.shared.settle(a.attempt);
        let missing: Vec<Spot> = a.missing.iter().copied().collect();
        let fault = match (&a.fault, missing.first()) {
            (Some(fault), _) => Some(fault.clone()),
            (None, Some(spot)) => {
                let name = [&self.sources, &self.operators, &self.sinks]
                    .into_iter()
                    .find_map(|m| m.get(&spot.node))
                    .map_or("?", |p| p.name.as_str());
                let what = format!("checkpoint {} was not complete after {} s", a.attempt, self.settings.timeout.as_secs());
                Some(Fault::down(what).detail(format!(
                    "{} of {} answers are missing, among them that of `{name}` on worker {}",
                    missing.len(),
                    self.spots.len(),
                    spot.worker
                )))
            }
            (None, None) => None,
        };
        let written = match fault {
            Some(fault) => Err(fault),
            None => self.commit(&a, live),
        };
        let slot = match written {
            Ok(slot) => slot,
            Err(fault) if !fault.retry && fault.kind != millrace_sdk::FaultKind::Dependency => return Err(fault),
            Err(fault) => return self.failed(&a, fault, live),
        };
        live.failures = 0;
        live.outgoing.committed(a.attempt);
        if let Some(meter) = &self.shared.meters.checkpoints {
            meter.completed.fetch_add(1, Relaxed);
            meter.duration.add(a.asked.elapsed().as_micros() as u64, 1);
            meter.completed_at.store(self.shared.micros(), Relaxed);
        }
        self.judge(matches!(a.kind, Want::End) && !a.busy, live)?;
        for reply in live.replies.remove(&a.attempt).unwrap_or_default() {
            let _ = reply.send(Ok(self.log.path(slot)));
        }
        match a.kind {
            Want::Stop { .. } => live.last = true,
            Want::End if !a.busy => {
                live.last = true;
                live.replies.remove(&0).unwrap_or_default().into_iter().for_each(|r| _ = r.send(Ok(self.log.path(slot))));
            }
            _ => {}
        }
        if let Err(fault) = self.log.prune(self.settings.retained, self.generation) {
            tracing::warn!(target: "checkpoint", "old checkpoints could not be deleted: {fault}");
        }
        Ok(())
    }

    fn failed(&mut self, a: &Attempt, fault: Fault, live: &mut Live) -> Result<(), Fault> {
        if let Some(meter) = &self.shared.meters.checkpoints {
            meter.failed.fetch_add(1, Relaxed);
        }
        live.replies.remove(&a.attempt).unwrap_or_default().into_iter().for_each(|r| _ = r.send(Err(fault.clone())));
        live.failures += 1;
        if self.log.superseded(self.generation).unwrap_or(false) {
            return Err(taken_over());
        }
        tracing::error!(target: "checkpoint", in_a_row = live.failures, "checkpoint {} failed: {fault}", a.attempt);
        self.shared.control.tell("checkpoint_failed", fault.message.clone());
        if live.failures > self.settings.tolerable_failures {
            let what = format!("{} checkpoints in a row failed, {} are tolerated", live.failures, self.settings.tolerable_failures);
            return Err(Fault { retry: true, ..Fault::new(fault.kind, what) }.detail(fault.to_string()));
        }
        Ok(())
    }

    /// Writes the manifest and has its outboxes published.
    fn commit(&mut self, a: &Attempt, live: &mut Live) -> Result<u64, Fault> {
        let slot = live.slot + 1;
        let mut fresh: Vec<(Spot, Chunk)> = vec![];
        for (spot, chunks) in &live.unnamed {
            for (i, (rows, file)) in chunks.iter().enumerate() {
                fresh.push((*spot, Chunk { marker: marker(slot, i as u64 + 1), rows: *rows, file: file.clone() }));
            }
        }
        let ended = matches!(a.kind, Want::End) && !a.busy;
        let kind = match a.kind {
            Want::Savepoint | Want::Stop { savepoint: true } => Kind::Savepoint,
            Want::Stop { .. } => Kind::Stop,
            Want::End if ended && self.shared.drained() => Kind::Drained,
            Want::End if ended => Kind::Finished,
            Want::Periodic | Want::End => Kind::Periodic,
        };
        let manifest = Manifest {
            version: Manifest::VERSION,
            release: env!("CARGO_PKG_VERSION").into(),
            slot,
            generation: self.generation,
            kind,
            time: self.clock.now(),
            job: self.settings.job.clone(),
            config: self.settings.config,
            workers: self.settings.workers,
            took: a.asked.elapsed().as_micros() as u64,
            guarded: self.guards.is_some(),
            sources: self.source_states(live),
            operators: self.operator_states(a),
            sinks: self.sink_states(live, &fresh),
        };
        let (files, states) = files(&manifest);
        point::reach("before-slot");
        if !self.log.take(slot, &Record::Manifest(Box::new(manifest)))? {
            return Err(taken_over());
        }
        point::reach("slot-linked");
        if let Some(meter) = &self.shared.meters.checkpoints {
            meter.sized(files.iter().map(|f| (f.name.as_str(), f.len)));
            self.operators.keys().zip(states).for_each(|(&node, bytes)| self.shared.meters.nodes[node].state_bytes.store(bytes, Relaxed));
        }
        (live.slot, live.manifest) = (slot, slot);
        live.unnamed.clear();
        fresh.iter().for_each(|(spot, chunk)| live.outgoing.name(*spot, chunk.clone()));
        let done = Held { slot, attempt: a.attempt, at: self.shared.micros(), chunks: fresh };
        match self.guards {
            Some(_) => live.held.push_back(done),
            None => self.publish(done),
        }
        Ok(slot)
    }

    /// A checkpoint counts: what it has is published, and what it has read is done with.
    fn publish(&self, done: Held) {
        self.shared.commit(done.attempt);
        done.chunks.into_iter().for_each(|(spot, chunk)| self.publishers.publish(spot, chunk));
    }

    /// Asks the guards which of the checkpoints that wait for them may be published. `last`: there will be no more to look at.
    fn judge(&mut self, last: bool, live: &mut Live) -> Result<(), Fault> {
        let Some(guards) = &mut self.guards else { return Ok(()) };
        let now = self.shared.micros();
        let finding = guards.judge(now, self.clock.now());
        let lag = guards.lag();
        let passing = live.held.iter().take_while(|h| finding.red.is_empty() && (last || h.at + lag <= now)).count();
        if passing == 0 && finding.red.is_empty() {
            return Ok(());
        }
        let passed: Vec<Held> = live.held.drain(..passing).collect();
        live.passed = passed.last().map_or(live.passed, |h| h.slot);
        let verdict = Verdict {
            generation: self.generation,
            passed: live.passed,
            red: finding.red.clone(),
            seen: finding.seen.clone(),
            time: self.clock.now(),
        };
        if !self.log.take(live.slot + 1, &Record::Verdict(verdict))? {
            return Err(taken_over());
        }
        live.slot += 1;
        point::reach("verdict-written");
        live.outgoing.passed = live.passed;
        passed.into_iter().for_each(|done| self.publish(done));
        match finding.red.first() {
            None => Ok(()),
            Some(name) => Err(self.halted(name, &finding, live)),
        }
    }

    fn halted(&self, name: &str, finding: &Finding, live: &Live) -> Fault {
        let on = if live.passed > 0 { format!("checkpoint {}", live.passed) } else { "where this run began".into() };
        Fault::new(FaultKind::Guard, format!("halted by guard `{}`", finding.red.join("`, `")))
            .detail(format!("{}; {} checkpoints are not published and never will be", finding.seen.join("; "), live.held.len()))
            .hint(format!("the next start goes on from {on}; --accept-guard {name} lets it pass until the guard is green"))
    }

    fn source_states(&self, live: &Live) -> Vec<SourceState> {
        let state = |(node, part): (&usize, &Part)| SourceState {
            name: part.name.clone(),
            meaning: part.meaning.clone(),
            unlisted: !self.listed.contains(node) && live.unlisted.iter().any(|s| s.node == *node),
            partitions: self.positions.get(node).map(|p| p.values().cloned().collect()).unwrap_or_default(),
        };
        self.sources.iter().map(state).collect()
    }

    fn operator_states(&self, a: &Attempt) -> Vec<OperatorState> {
        let state = |(node, part): (&usize, &Part)| {
            let mine = || a.pieces.iter().filter(|(spot, ..)| spot.node == *node);
            OperatorState {
                name: part.name.clone(),
                part: part.part.clone(),
                meaning: part.meaning.clone(),
                states: mine().map(|(_, states, _)| states).find(|s| !s.is_empty()).cloned().unwrap_or_default(),
                pieces: mine().map(|(.., piece)| piece.clone()).collect(),
            }
        };
        self.operators.iter().map(state).collect()
    }

    fn sink_states(&self, live: &Live, fresh: &[(Spot, Chunk)]) -> Vec<SinkState> {
        let state = |(node, part): (&usize, &Part)| {
            let mut sink = SinkState { name: part.name.clone(), part: part.part.clone(), writers: BTreeMap::new() };
            for (spot, writer) in self.writers.iter().filter(|(s, _)| s.node == *node) {
                let w = sink.writers.entry(writer.clone()).or_default();
                w.applied = live.outgoing.up_to(*spot);
                w.chunks.extend(live.outgoing.chunks(*spot).cloned());
                w.chunks.extend(fresh.iter().filter(|(s, _)| s == spot).map(|(_, c)| c.clone()));
            }
            sink
        };
        self.sinks.iter().map(state).collect()
    }
}

/// The files that a manifest names, and the bytes of each operator's state, in order.
fn files(m: &Manifest) -> (Vec<FileRef>, Vec<u64>) {
    let states = || m.operators.iter().map(|o| o.pieces.iter().flat_map(|p| p.files.values()));
    let chunks = m.sinks.iter().flat_map(|s| s.writers.values()).flat_map(|w| &w.chunks).map(|c| &c.file);
    (states().flatten().chain(chunks).cloned().collect(), states().map(|files| files.map(|f| f.len).sum()).collect())
}

pub fn taken_over() -> Fault {
    Fault::config("another run of this job has taken over: this one ends without writing anything more")
        .hint("stop one of the two; the job's name and its checkpoint folder say which runs belong together")
}
