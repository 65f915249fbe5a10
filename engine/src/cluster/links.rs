//! The control connections at work: two threads each, one that speaks and one that listens.

use super::frame::{self, lost};
use super::gossip::{Gossip, Settled};
use super::say::Say;
use super::{Member, Seat};
use crate::checkpoint::{Ack, Boundary, Publishers, Spot};
use crate::control::{Asked, Request, Shared};
use crate::summary::{FaultSummary, Report};
use millrace_durable::Chunk;
use millrace_sdk::Fault;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, BufWriter, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often what has changed is told.
const TICK: Duration = Duration::from_millis(2);
/// How often a sign of life is given, at least.
const BEAT: Duration = Duration::from_millis(250);
/// How long the others are waited for at the end of a run that has failed.
const FAREWELL: Duration = Duration::from_secs(2);

/// The news of process 0 that a job's state is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// None: the job takes no checkpoints.
    pub generation: Option<u64>,
    /// There is nothing left to do.
    pub finished: bool,
}

#[derive(Default)]
struct State {
    begin: Option<Begin>,
    /// What other processes did, at process 0.
    over: BTreeMap<usize, Report>,
    /// All have told what they did.
    bye: bool,
    /// Who asked this process for something that process 0 answers.
    asked: HashMap<u64, Sender<Result<String, Fault>>>,
    asks: u64,
    /// The newest of every process, at process 0.
    gossip: Vec<Gossip>,
    settled: Settled,
}

/// This process's control connections.
pub struct Links {
    pub seat: Seat,
    pub run: u64,
    member: Member,
    /// By process: what is to be said.
    queues: Vec<Option<Sender<Say>>>,
    state: Mutex<State>,
    changed: Condvar,
    /// By process: the epoch up to which it knows all boundaries.
    heard: Vec<AtomicU64>,
    /// The newest number of a gossip of each process, and of this one's.
    echo: Vec<AtomicU64>,
    number: AtomicU64,
    /// Workers of this process whose parts are open, and, at process 0, processes all of whose parts are.
    built: AtomicUsize,
    ready: AtomicUsize,
    publishers: Mutex<Option<Publishers>>,
    closing: AtomicBool,
    /// Speakers that are not done: what they have not said is lost when the process ends.
    speaking: AtomicUsize,
}

impl Links {
    /// # Errors
    /// No threads are to be had.
    pub fn start(control: Vec<Option<TcpStream>>, run: u64, member: &Member, shared: &Arc<Shared>) -> Result<Arc<Links>, Fault> {
        let seat = shared.seat;
        let (queues, todo): (Vec<_>, Vec<_>) = control.iter().map(|c| c.as_ref().map(|_| channel()).unzip()).unzip();
        let failed = |e: io::Error| Fault::refused(format!("threads for the connections between processes cannot be started: {e}"));
        let links = Arc::new(Links {
            seat,
            run,
            member: member.clone(),
            queues,
            state: Mutex::new(State { gossip: vec![Gossip::default(); seat.processes], ..State::default() }),
            changed: Condvar::new(),
            heard: (0..seat.processes).map(|_| AtomicU64::new(0)).collect(),
            echo: (0..seat.processes).map(|_| AtomicU64::new(0)).collect(),
            number: AtomicU64::new(0),
            built: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
            publishers: Mutex::default(),
            closing: AtomicBool::new(false),
            speaking: AtomicUsize::new(control.iter().flatten().count()),
        });
        for (process, (stream, todo)) in control.into_iter().zip(todo).enumerate() {
            let (Some(stream), Some(todo)) = (stream, todo) else { continue };
            stream.set_read_timeout(Some(member.peer_timeout)).map_err(failed)?;
            stream.set_write_timeout(Some(member.peer_timeout)).map_err(failed)?;
            let (a, b) = (links.clone(), links.clone());
            let (mine, other, reader) = (shared.clone(), shared.clone(), stream.try_clone().map_err(failed)?);
            let named = |what: &str| std::thread::Builder::new().name(format!("{what}-{process}"));
            named("speak").spawn(move || Speaker::new(&a, process, &mine).run(stream, &todo)).map_err(failed)?;
            named("hear").spawn(move || b.listen(process, reader, &other)).map_err(failed)?;
        }
        Ok(links)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn leads(&self) -> bool {
        self.seat.process == 0
    }

    fn say(&self, process: usize, say: Say) {
        if let Some(Some(queue)) = self.queues.get(process) {
            // A speaker that is gone has told why.
            let _ = queue.send(say);
        }
    }

    fn all(&self, say: impl Fn() -> Say) {
        (1..self.seat.processes).for_each(|p| self.say(p, say()));
    }

    /// Process 0: the job's state is in place.
    pub fn begin(&self, b: Begin) {
        self.all(|| Say::Begin { generation: b.generation, finished: b.finished });
    }

    /// Other processes: waits until process 0 says so; None: the run is over before.
    pub fn wait_begin(&self, shared: &Shared) -> Option<Begin> {
        let mut state = self.state();
        while state.begin.is_none() && !shared.failed() {
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(|e| e.into_inner()).0;
        }
        state.begin
    }

    /// A worker of this process has opened its parts.
    pub fn built(&self) {
        if self.built.fetch_add(1, SeqCst) + 1 < self.seat.workers {
            return;
        }
        match self.leads() {
            true => _ = self.ready.fetch_add(1, SeqCst),
            false => self.say(0, Say::Ready),
        }
    }

    /// Process 0: whether all processes have opened all parts. Epochs begin then.
    pub fn is_ready(&self) -> bool {
        self.ready.load(SeqCst) == self.seat.processes
    }

    /// Process 0: tells of an epoch and the boundaries up to it. It is entered when all have heard.
    pub fn announce(&self, epoch: u64, bounds: &[Boundary]) {
        self.all(|| Say::Announce { epoch, bounds: bounds.to_vec() });
    }

    /// Process 0: nobody asks for boundaries up to this attempt any more.
    pub fn settle(&self, attempt: u64) {
        self.all(|| Say::Settle(attempt));
    }

    /// Process 0: there is a manifest.
    pub fn commit(&self, attempt: u64) {
        self.all(|| Say::Commit(attempt));
    }

    /// Process 0: sources let go.
    pub fn finish(&self) {
        self.all(|| Say::Finish);
    }

    /// Process 0: has a writer of another process publish.
    pub fn publish(&self, spot: Spot, chunk: Chunk) {
        self.say(self.seat.of(spot.worker), Say::Publish { spot, chunk });
    }

    /// Other processes: an answer for the coordinator.
    pub fn ack(&self, ack: Ack) {
        self.say(0, Say::Ack(ack));
    }

    /// Other processes: what publishes for this process's writers.
    pub fn publish_by(&self, publishers: Publishers) {
        *self.publishers.lock().unwrap_or_else(|e| e.into_inner()) = Some(publishers);
    }

    /// The run is over here. Process 0 gathers what the others did; they wait until it has.
    pub fn farewell(&self, report: Report, shared: &Shared) -> Vec<Report> {
        if let Some(mut publishers) = self.publishers.lock().unwrap_or_else(|e| e.into_inner()).take() {
            publishers.stop();
        }
        if let Some(fault) = shared.fault() {
            self.queues.iter().flatten().for_each(|q| _ = q.send(Say::Failed(fault.clone().into())));
        }
        let failed = shared.failed();
        if !self.leads() {
            self.say(0, Say::Over(Box::new(report)));
        }
        let until = Instant::now() + FAREWELL;
        let mut state = self.state();
        loop {
            let done = if self.leads() { state.over.len() + 1 >= self.seat.processes } else { state.bye };
            // Who is lost is not waited for; who lives gives signs of life.
            if done || ((failed || shared.failed()) && Instant::now() >= until) {
                break;
            }
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(|e| e.into_inner()).0;
        }
        let reports = std::mem::take(&mut state.over).into_values().collect();
        // From now on connections may end.
        state.bye = true;
        drop(state);
        if self.leads() {
            self.all(|| Say::Bye);
        }
        self.closing.store(true, SeqCst);
        // The speakers say what is left and end.
        self.queues.iter().flatten().for_each(|q| _ = q.send(Say::Beat));
        let until = Instant::now() + FAREWELL;
        let mut state = self.state();
        while self.speaking.load(SeqCst) > 0 && Instant::now() < until {
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(|e| e.into_inner()).0;
        }
        reports
    }

    fn listen(&self, process: usize, stream: TcpStream, shared: &Arc<Shared>) {
        let name = self.member.name(process);
        let mut from = BufReader::new(stream);
        let mut bytes = vec![];
        loop {
            let gone = match frame::read(&mut from, &mut bytes) {
                Ok(true) => match serde_json::from_slice(&bytes) {
                    Ok(say) => {
                        self.hear(process, say, shared);
                        continue;
                    }
                    Err(e) => Fault::bug(format!("{name} says what this process does not understand")).detail(e.to_string()),
                },
                Ok(false) => lost(&name, "its connection has ended"),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let silent =
                        format!("it was silent for {}s: it has stopped, or cannot be reached", self.member.peer_timeout.as_secs_f64());
                    lost(&name, &silent)
                }
                Err(e) => lost(&name, &e.to_string()),
            };
            let state = self.state();
            let expected = state.bye || state.over.contains_key(&process) || self.closing.load(SeqCst);
            drop(state);
            if !expected {
                shared.fail(gone);
            }
            self.changed.notify_all();
            return;
        }
    }

    fn hear(&self, process: usize, say: Say, shared: &Arc<Shared>) {
        match say {
            Say::Beat => {}
            Say::Table(gossip) => self.gossip(process, gossip, shared),
            Say::Failed(fault) => {
                let place = format!("in {}", self.member.name(process));
                let told = fault.detail.as_ref().is_some_and(|d| d.contains("in process "));
                let detail = match fault.detail.clone() {
                    Some(d) if told => d,
                    Some(d) => format!("{place}: {d}"),
                    None => place,
                };
                shared.fail(Fault::from(fault).detail(detail));
            }
            Say::Drain => shared.control.drain(),
            Say::Begin { generation, finished } => self.state().begin = Some(Begin { generation, finished }),
            Say::Announce { epoch, bounds } => {
                bounds.into_iter().for_each(|b| shared.bounds.learn(b));
                self.say(0, Say::Heard(epoch));
            }
            Say::Enter(epoch) => shared.enter(epoch),
            Say::Settle(attempt) => shared.bounds.settle(attempt),
            Say::Commit(attempt) => shared.bounds.commit(attempt),
            Say::Publish { spot, chunk } => match &*self.publishers.lock().unwrap_or_else(|e| e.into_inner()) {
                Some(publishers) => publishers.publish(spot, chunk),
                None => shared.fail(Fault::bug("something is to be published by a process that has no outbox")),
            },
            Say::Finish => shared.bounds.finish(),
            Say::Reply { id, answer } => {
                if let Some(reply) = self.state().asked.remove(&id) {
                    // Who asked may have gone.
                    let _ = reply.send(answer.map_err(Fault::from));
                }
            }
            Say::Bye => self.state().bye = true,
            Say::Ready => _ = self.ready.fetch_add(1, SeqCst),
            Say::Heard(epoch) => {
                self.heard[process].fetch_max(epoch, SeqCst);
                let all = self.heard[1..].iter().map(|h| h.load(SeqCst)).min().unwrap_or(0);
                if all > shared.epoch() {
                    shared.enter(all);
                    self.all(|| Say::Enter(all));
                }
            }
            Say::Hurry => shared.hurry(),
            Say::Ack(ack) => shared.bounds.ack(ack),
            Say::Asked { id, request } => self.ask(process, id, request, shared),
            Say::Over(report) => {
                self.state().over.insert(process, *report);
            }
        }
        self.changed.notify_all();
    }

    /// Somebody asks another process for something: the answer may take its time.
    fn ask(&self, process: usize, id: u64, request: Request, shared: &Shared) {
        let answer = shared.control.request(request);
        let Some(Some(queue)) = self.queues.get(process).cloned() else { return };
        let wait = move || {
            if let Ok(answer) = answer.recv() {
                let _ = queue.send(Say::Reply { id, answer: answer.map_err(FaultSummary::from) });
            }
        };
        // Without a thread there is no answer, but what was asked for happens.
        let _ = std::thread::Builder::new().name("asked".into()).spawn(wait);
    }

    fn gossip(&self, process: usize, g: Gossip, shared: &Shared) {
        self.echo[process].fetch_max(g.number, SeqCst);
        shared.learn(&g);
        if !self.leads() {
            shared.elsewhere(g.asks, g.holding);
            shared.clogged.store(g.clogged, SeqCst);
            if g.settled {
                shared.settled.store(true, SeqCst);
            }
            return;
        }
        let mut state = self.state();
        state.gossip[process] = g;
        let others = || state.gossip.iter().skip(1);
        shared.elsewhere(others().map(|g| g.asks).sum(), others().any(|g| g.holding));
        state.gossip[0] = Gossip { echo: u64::MAX, ..shared.own() };
        let number = self.number.load(SeqCst);
        let State { gossip, settled, .. } = &mut *state;
        if settled.look(gossip, number) {
            shared.settled.store(true, SeqCst);
        }
    }

    /// What a process is to know of the others.
    fn news(&self, to: usize, shared: &Shared) -> Gossip {
        if !self.leads() {
            return shared.own();
        }
        let own = shared.own();
        let state = self.state();
        let others = || state.gossip.iter().enumerate().filter(|(p, _)| *p != 0 && *p != to).map(|(_, g)| g);
        Gossip {
            first: 0,
            table: shared.table(),
            asks: own.asks + others().map(|g| g.asks).sum::<usize>(),
            holding: own.holding || others().any(|g| g.holding),
            clogged: shared.clogged.load(SeqCst),
            settled: shared.settled.load(SeqCst),
            ..Gossip::default()
        }
    }
}

/// Says what is to be said to one process, and what it should know soon.
struct Speaker<'a> {
    links: &'a Links,
    to: usize,
    shared: &'a Arc<Shared>,
    told: Gossip,
    beat: Instant,
    failed: bool,
    drained: bool,
}

impl Speaker<'_> {
    fn new<'a>(links: &'a Links, to: usize, shared: &'a Arc<Shared>) -> Speaker<'a> {
        Speaker { links, to, shared, told: Gossip::default(), beat: Instant::now(), failed: false, drained: false }
    }

    fn run(mut self, stream: TcpStream, todo: &Receiver<Say>) {
        let mut out = BufWriter::with_capacity(64 << 10, stream);
        if let Err(e) = self.speak(&mut out, todo)
            && !self.links.closing.load(SeqCst)
        {
            self.shared.fail(lost(&self.links.member.name(self.to), &e.to_string()));
        }
        if self.links.closing.load(SeqCst) {
            let _ = out.flush();
            let _ = out.get_ref().shutdown(Shutdown::Write);
        }
        self.links.speaking.fetch_sub(1, SeqCst);
        self.links.changed.notify_all();
    }

    fn speak(&mut self, out: &mut impl Write, todo: &Receiver<Say>) -> io::Result<()> {
        let mut woken = Instant::now();
        loop {
            match todo.recv_timeout(TICK) {
                Ok(say) => {
                    self.write(out, &say)?;
                    while let Ok(say) = todo.try_recv() {
                        self.write(out, &say)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.tick(out)?;
            if self.links.closing.load(SeqCst) {
                // What was to be said before the end was queued before it.
                return todo.try_iter().try_for_each(|say| self.write(out, &say));
            }
            out.flush()?;
            let (before, limit) = (std::mem::replace(&mut woken, Instant::now()), self.links.member.peer_timeout);
            if woken - before > limit {
                let what = format!("this process stood still for {}s", (woken - before).as_secs());
                self.shared.fail(Fault::down(what).hint("the others have gone on without it"));
            }
        }
    }

    fn write(&mut self, out: &mut impl Write, say: &Say) -> io::Result<()> {
        frame::write(out, &serde_json::to_vec(say)?)
    }

    fn tick(&mut self, out: &mut impl Write) -> io::Result<()> {
        if !self.failed
            && let Some(fault) = self.shared.fault()
        {
            self.failed = true;
            self.write(out, &Say::Failed(fault.into()))?;
        }
        if !self.drained && self.shared.control.draining() {
            self.drained = true;
            self.write(out, &Say::Drain)?;
        }
        if !self.links.leads() {
            if self.shared.take_hurry() {
                self.write(out, &Say::Hurry)?;
            }
            while let Some(Asked { request, reply }) = self.shared.control.next_request() {
                let mut state = self.links.state();
                state.asks += 1;
                let id = state.asks;
                state.asked.insert(id, reply);
                drop(state);
                self.write(out, &Say::Asked { id, request })?;
            }
        }
        let mut news = self.links.news(self.to, self.shared);
        news.echo = self.links.echo[self.to].load(SeqCst);
        news.number = self.told.number;
        // Echoes alone are told by the signs of life.
        let beat = self.beat.elapsed() >= BEAT;
        let same = Gossip { echo: self.told.echo, ..news.clone() } == self.told;
        if beat || !same {
            news.number = self.links.number.fetch_add(1, SeqCst) + 1;
            // Counted from the last table: only these carry echoes.
            self.beat = Instant::now();
            self.told = news.clone();
            self.write(out, &Say::Table(news))?;
        }
        Ok(())
    }
}
