//! What the workers of a run share: the announced epoch, the stop sign, the first fault, and who is how far in event time.

use crate::checkpoint::{Bounds, Refused, Spot};
use crate::cluster::{Gossip, Links, Member, Seat};
use crate::memory::Memory;
use crate::progress::Meters;
use crate::quiet::Quiet;
use crate::tap::Taps;
use millrace_durable::StartFrom;
use millrace_sdk::tier::Tiers;
use millrace_sdk::{Fault, Reject};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What the outside may ask of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make all state durable in a checkpoint that only its owner deletes.
    Savepoint,
    /// End. `savepoint`: with a savepoint; `drain`: all windows and timers fire first.
    Stop { savepoint: bool, drain: bool },
    /// End, to go on at once with this many workers: [`Control::rescaled`] says so afterwards.
    Rescale { workers: u16 },
}

/// Something that somebody outside may want to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `job_failed`, `restarting`, `halted_by_guard`, `checkpoint_failed`, `output_blocked`, `output_unblocked`.
    pub kind: &'static str,
    pub message: String,
}

type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// A question of the outside, and the way for its answer: a sentence or a path, or why not. The asker may be gone.
pub struct Asked {
    pub request: Request,
    pub reply: Sender<Result<String, Fault>>,
}

/// The handle by which the outside speaks to a run. Clones are the same handle.
#[derive(Clone, Default)]
pub struct Control {
    drain: Arc<AtomicBool>,
    requests: Arc<Mutex<VecDeque<Asked>>>,
    waiting: Arc<AtomicBool>,
    /// With how many workers it goes on; 0: as it is.
    workers: Arc<AtomicUsize>,
    listener: Arc<OnceLock<Listener>>,
    closed: Arc<AtomicBool>,
    /// Who looks at what passes.
    pub taps: Arc<Taps>,
    pub(crate) quiet: Arc<Quiet>,
}

impl Control {
    pub fn new() -> Control {
        Control::default()
    }

    /// Sources stop reading, the watermark goes to infinity, everything fires, sinks flush and close.
    pub fn drain(&self) {
        self.drain.store(true, SeqCst);
    }

    pub fn draining(&self) -> bool {
        self.drain.load(Relaxed)
    }

    /// Asks the run for something. The answer comes when it is done; a run that ends before drops the sender.
    pub fn request(&self, request: Request) -> Receiver<Result<String, Fault>> {
        let (reply, answer) = channel();
        let mut requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        if !self.closed.load(SeqCst) {
            requests.push_back(Asked { request, reply });
            self.waiting.store(true, SeqCst);
        }
        answer
    }

    /// The run has ended: nobody will answer any more.
    pub(crate) fn close(&self) {
        let mut requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        self.closed.store(true, SeqCst);
        requests.clear();
        self.quiet.close();
    }

    /// Of a run of one process, without checkpoints, on a virtual clock whose sources have no more to read: waits until all that they gave is
    /// worked through. Gives for each operator the time of the clock at which its next timer is due, if it has one.
    ///
    /// # Errors
    /// The run has ended, or does not come to rest in this time.
    pub fn rest(&self, patience: Duration) -> Result<Vec<i64>, RecvTimeoutError> {
        let (reply, answer) = channel();
        {
            let _requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
            if self.closed.load(SeqCst) {
                return Err(RecvTimeoutError::Disconnected);
            }
            self.quiet.ask(reply);
        }
        answer.recv_timeout(patience)
    }

    /// The oldest request that nobody has taken. Cheap while there is none.
    pub fn next_request(&self) -> Option<Asked> {
        if !self.waiting.load(Relaxed) {
            return None;
        }
        let mut requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        let next = requests.pop_front();
        self.waiting.store(!requests.is_empty(), SeqCst);
        next
    }

    /// Whether the run is to end, by whatever way.
    pub fn is_asked_to_end(&self) -> bool {
        let requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        self.draining() || requests.iter().any(|a| matches!(a.request, Request::Stop { .. }))
    }

    /// Has events told; the first listener is the one that hears.
    pub fn listen(&self, listener: impl Fn(Event) + Send + Sync + 'static) {
        let _ = self.listener.set(Arc::new(listener));
    }

    pub fn tell(&self, kind: &'static str, message: impl Into<String>) {
        if let Some(listener) = self.listener.get() {
            listener(Event { kind, message: message.into() });
        }
    }

    /// The run ends to go on with so many workers.
    pub fn rescale(&self, workers: u16) {
        self.workers.store(usize::from(workers), SeqCst);
    }

    /// With how many workers the job is to go on once this run has ended well, if it is.
    pub fn rescaled(&self) -> Option<u16> {
        u16::try_from(self.workers.load(SeqCst)).ok().filter(|n| *n > 0)
    }

    /// Answers the requests to a job that has no checkpoints.
    pub fn answer(&self) {
        while let Some(Asked { request, reply }) = self.next_request() {
            let answer = match request {
                Request::Stop { savepoint: false, .. } => {
                    self.drain();
                    Ok("what has been read is finished, open windows fire now".into())
                }
                Request::Rescale { .. } => Err(Fault::config("this job has no checkpoints, so it cannot go on with other workers")),
                Request::Stop { savepoint: true, .. } | Request::Savepoint => {
                    Err(Fault::config("this job has no checkpoints, so there is nothing to save"))
                }
            };
            // Who asked may have gone.
            let _ = reply.send(answer);
        }
    }
}

/// How a run is to be run, beside what the plan says.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Worker threads, of this process; None: the plan's parallelism.
    pub workers: Option<usize>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// The end after `duration` drains, also where a last checkpoint could be taken.
    pub drains: bool,
    /// Drain after this many records of all sources together.
    pub limit: Option<u64>,
    /// Length of an epoch: how often positions are acknowledged and sinks flushed.
    pub epoch: Duration,
    /// A source waits while the sinks have not yet acknowledged rows that it read this many epochs ago.
    pub max_lag: u64,
    /// A source waits while this many of its bytes (a worker) are not yet acknowledged by the sinks.
    pub max_bytes_in_flight: usize,
    /// A source waits while it is further ahead in event time than this of a source that has rows at hand.
    pub max_drift: Duration,
    /// Halt when a partition's first 100 rows lie before 2000 or more than a day ahead, reject single ones.
    pub check_plausibility: bool,
    /// Look-ups that an operator may have pending before it takes no more input, on each worker.
    pub max_pending_asks: usize,
    /// Test mode: write all state out and read it back at every epoch. The output must not change.
    pub roundtrip_state: bool,
    /// Test mode: all state that can leaves memory at every epoch. The output must not change.
    pub evict_state: bool,
    /// What lies below memory; None: all state is in memory.
    pub tiers: Option<Arc<dyn Tiers>>,
    /// Which checkpoint the run goes on from, if the job takes any.
    pub from: StartFrom,
    /// Names the run; the same in all its processes.
    pub run: u64,
    /// Which of several processes this is; None: the only one.
    pub member: Option<Member>,
    /// State of parts that the topology no longer has is forgotten rather than refused.
    pub allow_dropped_state: bool,
    /// A start from a checkpoint that is not the newest may publish again what was published since.
    pub accept_duplicates: bool,
    /// Guards that may be red until they were green once.
    pub accept_guards: Vec<String>,
    /// What sinks are given is counted and summed by minute of event time; it costs a little for each row.
    pub by_minute: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            workers: None,
            duration: None,
            drains: false,
            limit: None,
            epoch: Duration::from_millis(20),
            max_lag: 50,
            max_bytes_in_flight: 32 << 20,
            max_drift: Duration::from_secs(10),
            check_plausibility: true,
            max_pending_asks: 50_000,
            roundtrip_state: false,
            evict_state: false,
            tiers: None,
            from: StartFrom::Latest,
            run: 0,
            member: None,
            allow_dropped_state: false,
            accept_duplicates: false,
            accept_guards: vec![],
            by_minute: false,
        }
    }
}

/// Whether an instance of a source counts for those who follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Active = 0,
    /// Stepped aside: its watermark counts for nobody.
    Idle = 1,
    Ended = 2,
}

struct Instance {
    wm: AtomicI64,
    /// The least watermark of its partitions that have rows at hand; `i64::MAX` if none has.
    head: AtomicI64,
    reading: AtomicU8,
}

impl Instance {
    fn told(&self) -> (i64, i64, u8) {
        (self.wm.load(Relaxed), self.head.load(Relaxed), self.reading.load(SeqCst))
    }
}

/// Everything shared by the workers of one process.
///
/// Worker 0 announces epochs and the others take what was announced, so no second clock is read. Where there are several processes
/// [`Links`] carries the announcements to the others, and what they tell of their sources into the table.
pub struct Shared {
    pub options: RunOptions,
    pub control: Control,
    pub meters: Arc<Meters>,
    pub seat: Seat,
    /// To the other processes; unset where there are none.
    pub links: OnceLock<Arc<Links>>,
    start: Instant,
    /// The newest epoch that sources may enter; 0: not all processes are ready.
    epoch: AtomicU64,
    /// The newest epoch that worker 0 has announced.
    announced: AtomicU64,
    hurry: AtomicBool,
    /// Epochs begun before their time.
    extra: AtomicU64,
    failed: AtomicBool,
    fault: Mutex<Option<Fault>>,
    /// By source (in plan order), then worker of all processes.
    table: Vec<Vec<Instance>>,
    retry: Vec<bool>,
    /// Rows that may still be reserved, and rows that were read, where there is a limit.
    limit: (AtomicI64, AtomicU64),
    /// Look-ups asked by keyed operators and not yet answered; those of other processes, as they told last.
    pub pending_asks: AtomicUsize,
    asks_elsewhere: AtomicUsize,
    /// The last epoch in which a retry source delivered a row, and how many rows there were.
    pub retry_epoch: AtomicU64,
    pub retried: AtomicU64,
    /// By source, then worker of this process.
    quiet: Vec<AtomicBool>,
    /// All processes were quiet at once.
    pub settled: AtomicBool,
    /// Operators (by node) that take no more left rows until the other input's watermark has moved.
    held_back: Mutex<HashSet<(usize, std::thread::ThreadId)>>,
    pub holding_back: AtomicBool,
    holding_elsewhere: AtomicBool,
    /// Partition names for dead letters, by (source, partition).
    pub partitions: Mutex<HashMap<(u16, u32), Arc<str>>>,
    pub bounds: Bounds,
    pub memory: Memory,
    /// Rows in outboxes that are not yet published.
    unpublished: AtomicI64,
    /// Too many checkpoints wait to be published: nothing more is read.
    pub clogged: AtomicBool,
    /// Rows that a server refused when their outbox was published.
    refused: Mutex<HashMap<Spot, Refused>>,
}

impl Shared {
    /// `sources`: for each whether it is a retry stream; `start`: when the run began.
    pub fn new(
        options: RunOptions,
        control: Control,
        meters: Arc<Meters>,
        sources: &[bool],
        seat: Seat,
        start: Instant,
        memory: usize,
    ) -> Shared {
        let instance =
            || Instance { wm: AtomicI64::new(i64::MIN), head: AtomicI64::new(i64::MIN), reading: AtomicU8::new(Reading::Active as u8) };
        let limit = options.limit.map_or(i64::MAX, |l| l.min(i64::MAX as u64) as i64);
        Shared {
            options,
            control,
            meters,
            seat,
            links: OnceLock::new(),
            start,
            epoch: AtomicU64::new(u64::from(seat.processes == 1)),
            announced: AtomicU64::new(1),
            hurry: AtomicBool::new(false),
            extra: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            fault: Mutex::new(None),
            table: sources.iter().map(|_| (0..seat.all()).map(|_| instance()).collect()).collect(),
            retry: sources.to_vec(),
            limit: (AtomicI64::new(limit), AtomicU64::new(0)),
            pending_asks: AtomicUsize::new(0),
            asks_elsewhere: AtomicUsize::new(0),
            retry_epoch: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            settled: AtomicBool::new(false),
            quiet: sources.iter().flat_map(|&r| (0..seat.workers).map(move |_| AtomicBool::new(!r))).collect(),
            held_back: Mutex::default(),
            holding_back: AtomicBool::new(false),
            holding_elsewhere: AtomicBool::new(false),
            partitions: Mutex::default(),
            bounds: Bounds::default(),
            memory: Memory::new(memory),
            unpublished: AtomicI64::new(0),
            clogged: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// Microseconds since the run began.
    #[inline]
    pub fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Worker 0's tick: by time, and when a source waits for the present epoch to pass.
    pub fn announce(&self) {
        let links = self.links.get();
        if links.is_some_and(|l| !l.is_ready()) {
            return;
        }
        let hurried = self.hurry.swap(false, Relaxed) as u64;
        let extra = self.extra.fetch_add(hurried, Relaxed) + hurried;
        let e = 1 + extra + self.micros() / self.options.epoch.as_micros().max(1) as u64;
        let present = self.announced.load(Relaxed);
        let (mut next, mut placed) = (e, vec![]);
        if self.bounds.is_wanted() {
            // The first epoch that nobody has heard of, at once: nobody waits for the tick.
            placed = self.bounds.place(present + 1);
            self.extra.fetch_add((present + 1).saturating_sub(e), Relaxed);
            next = e.max(present + 1);
        }
        if next > present {
            self.announced.store(next, Relaxed);
            match links {
                None => self.enter(next),
                Some(links) => links.announce(next, &placed),
            }
        }
    }

    /// Sources may enter epochs up to this one: all processes know the boundaries.
    pub fn enter(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, SeqCst);
    }

    /// A source may read no more in the present epoch: the next one may begin at once.
    pub fn hurry(&self) {
        self.hurry.store(true, Relaxed);
    }

    /// Whether the next epoch is wanted before its time, once.
    pub fn take_hurry(&self) -> bool {
        self.hurry.swap(false, Relaxed)
    }

    /// The newest epoch that worker 0 has announced.
    pub fn announced(&self) -> u64 {
        self.announced.load(Relaxed)
    }

    /// The newest epoch that may be entered.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// Ends the run; the first fault is the one that is told.
    pub fn fail(&self, fault: Fault) {
        let mut slot = self.fault.lock().unwrap_or_else(|e| e.into_inner());
        slot.get_or_insert(fault);
        self.failed.store(true, SeqCst);
    }

    #[inline]
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Why the run ends, if it does before its time.
    pub fn fault(&self) -> Option<Fault> {
        if self.failed.load(SeqCst) { self.fault.lock().unwrap_or_else(|e| e.into_inner()).clone() } else { None }
    }

    pub fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// Nobody asks for boundaries up to this attempt any more, in any process.
    pub fn settle(&self, attempt: u64) {
        self.bounds.settle(attempt);
        self.links.get().inspect(|l| l.settle(attempt));
    }

    /// There is a manifest of this attempt.
    pub fn commit(&self, attempt: u64) {
        self.bounds.commit(attempt);
        self.links.get().inspect(|l| l.commit(attempt));
    }

    /// Everything is taken and published: sources let go, in all processes.
    pub fn finish(&self) {
        self.bounds.finish();
        self.links.get().inspect(|l| l.finish());
    }

    /// What this process tells of itself.
    pub fn own(&self) -> Gossip {
        let asks = self.pending_asks.load(SeqCst);
        let first = self.seat.first();
        Gossip {
            first,
            table: self.table.iter().map(|row| row[first..first + self.seat.workers].iter().map(Instance::told).collect()).collect(),
            asks,
            holding: self.holding_back.load(SeqCst),
            calm: asks == 0 && self.all_published() && self.all_quiet(),
            retried: self.retried.load(SeqCst),
            ..Gossip::default()
        }
    }

    /// How far all instances of all processes are, as far as is known here.
    pub fn table(&self) -> Vec<Vec<(i64, i64, u8)>> {
        self.table.iter().map(|row| row.iter().map(Instance::told).collect()).collect()
    }

    /// Another process has told of its instances, or of all that it knows.
    pub fn learn(&self, g: &Gossip) {
        for (row, told) in self.table.iter().zip(&g.table) {
            for (worker, &(wm, head, reading)) in (g.first..).zip(told) {
                if let Some(i) = row.get(worker).filter(|_| !self.seat.is_mine(worker)) {
                    i.wm.store(wm, Relaxed);
                    i.head.store(head, Relaxed);
                    i.reading.store(reading, SeqCst);
                }
            }
        }
    }

    /// What all other processes together have told.
    pub fn elsewhere(&self, asks: usize, holding: bool) {
        self.asks_elsewhere.store(asks, SeqCst);
        self.holding_elsewhere.store(holding, SeqCst);
    }

    /// Look-ups without an answer, in all processes.
    #[inline]
    pub fn all_asks(&self) -> usize {
        self.pending_asks.load(Relaxed) + self.asks_elsewhere.load(Relaxed)
    }

    /// Whether an operator refuses rows, in any process.
    #[inline]
    pub fn is_holding_back(&self) -> bool {
        self.holding_back.load(Relaxed) || self.holding_elsewhere.load(Relaxed)
    }

    /// Tells the others how far an instance is.
    #[inline]
    pub fn tell(&self, source: usize, worker: usize, wm: i64, head: i64, reading: Reading) {
        let i = &self.table[source][worker];
        i.wm.store(wm, Relaxed);
        i.head.store(head, Relaxed);
        i.reading.store(reading as u8, Relaxed);
    }

    fn instances(&self) -> impl Iterator<Item = (usize, &Instance)> {
        self.table.iter().enumerate().filter(|(s, _)| !self.retry[*s]).flat_map(|(s, row)| row.iter().map(move |i| (s, i)))
    }

    /// The watermark that an idle instance follows: the least of its own source's active instances, or if there are none of all
    /// sources'. None: nobody is active, so it stands.
    pub fn follow(&self, source: usize) -> Option<i64> {
        let active = || self.instances().filter(|(_, i)| i.reading.load(Relaxed) == Reading::Active as u8);
        let least = |own: bool| active().filter(|(s, _)| !own || *s == source).map(|(_, i)| i.wm.load(Relaxed)).min();
        least(true).or_else(|| least(false))
    }

    /// The watermark furthest behind among the partitions that have rows at hand.
    pub fn slowest(&self) -> i64 {
        self.instances().map(|(_, i)| i.head.load(Relaxed)).min().unwrap_or(i64::MAX)
    }

    /// Whether every source that is no retry stream has ended on every worker.
    pub fn inputs_ended(&self) -> bool {
        self.instances().all(|(_, i)| i.reading.load(Relaxed) == Reading::Ended as u8)
    }

    /// Whether every source has ended on every worker.
    pub fn all_ended(&self) -> bool {
        self.table.iter().flatten().all(|i| i.reading.load(Relaxed) == Reading::Ended as u8)
    }

    /// Whether the run ends before its input does.
    pub fn drained(&self) -> bool {
        self.control.draining() || self.exhausted()
    }

    /// Rows went into an outbox.
    pub fn boxed(&self, rows: u64) {
        self.unpublished.fetch_add(rows as i64, SeqCst);
    }

    /// Rows of an outbox were published.
    pub fn published(&self, rows: u64) {
        self.unpublished.fetch_sub(rows as i64, SeqCst);
    }

    pub fn all_published(&self) -> bool {
        self.unpublished.load(SeqCst) <= 0
    }

    /// Rows of a chunk that a server refused go back to their sink.
    pub fn refused(&self, spot: Spot, marker: u64, rejects: Vec<Reject>) {
        if rejects.is_empty() {
            return;
        }
        let mut all = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        let refused = all.entry(spot).or_default();
        refused.marker = refused.marker.max(marker);
        refused.rejects.extend(rejects);
    }

    pub fn has_refused(&self) -> bool {
        !self.refused.lock().unwrap_or_else(|e| e.into_inner()).is_empty()
    }

    pub fn take_refused(&self, spot: Spot) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(|e| e.into_inner()).remove(&spot)
    }

    /// A retry instance says whether it has nothing to read; true when all of them have nothing.
    pub fn quiet(&self, source: usize, worker: usize, quiet: bool) -> bool {
        self.quiet[source * self.seat.workers + worker - self.seat.first()].store(quiet, SeqCst);
        quiet && self.all_quiet() && (self.seat.processes == 1 || self.settled.load(SeqCst))
    }

    fn all_quiet(&self) -> bool {
        self.quiet.iter().all(|q| q.load(SeqCst))
    }

    /// Reserves up to `rows` rows of the limit; [`Shared::used`] settles it.
    pub fn reserve(&self, rows: usize) -> usize {
        if self.options.limit.is_none() {
            return rows;
        }
        let left = self.limit.0.fetch_sub(rows as i64, SeqCst);
        let allowed = left.clamp(0, rows as i64);
        self.limit.0.fetch_add(rows as i64 - allowed, SeqCst);
        allowed as usize
    }

    /// Of `reserved` rows `used` were read.
    pub fn used(&self, reserved: usize, used: usize) {
        if self.options.limit.is_some() {
            self.limit.0.fetch_add(reserved as i64 - used as i64, SeqCst);
            self.limit.1.fetch_add(used as u64, SeqCst);
        }
    }

    /// Whether all that the limit lets was read.
    pub fn exhausted(&self) -> bool {
        self.options.limit.is_some_and(|l| self.limit.1.load(SeqCst) >= l)
    }

    /// An operator on this thread says whether it refuses rows because too many wait in it.
    pub fn hold_back(&self, node: usize, refuses: bool) {
        if !refuses && !self.holding_back.load(Relaxed) {
            return;
        }
        let mut set = self.held_back.lock().unwrap_or_else(|e| e.into_inner());
        let me = (node, std::thread::current().id());
        if refuses {
            set.insert(me)
        } else {
            set.remove(&me)
        };
        self.holding_back.store(!set.is_empty(), SeqCst);
    }

    pub fn name_partition(&self, source: u16, id: u32, name: &str) {
        self.partitions.lock().unwrap_or_else(|e| e.into_inner()).entry((source, id)).or_insert_with(|| name.into());
    }
}
