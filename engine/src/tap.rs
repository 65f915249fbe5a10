//! Looks at what passes an output of a running job, without slowing it.

use millrace_sdk::Batch;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// The share of the time since it began that a tap may take, of all workers together: half a hundredth. What it takes beyond is paid back
/// before it looks again.
const SHARE: u32 = 200;
/// What it may take at once at its beginning.
const BURST: Duration = Duration::from_millis(2);

/// Takes the batches that pass. It runs on the worker's thread.
pub type Look = Box<dyn FnMut(&Batch) + Send>;

/// A look at some outputs.
pub struct Tap {
    /// Nodes and ports.
    at: Vec<(usize, usize)>,
    look: Mutex<Look>,
    /// It shows every row, whatever that costs: for tests.
    whole: bool,
    begun: Instant,
    /// Nanoseconds.
    spent: AtomicU64,
    pub rows: AtomicU64,
    /// Rows that nobody looked at, as there was no time.
    pub missed: AtomicU64,
    over: AtomicBool,
}

impl Tap {
    fn show(&self, batch: &Batch) {
        let rows = batch.len() as u64;
        self.rows.fetch_add(rows, Relaxed);
        if self.whole {
            return (self.look.lock().unwrap_or_else(|e| e.into_inner()))(batch);
        }
        let spent = Duration::from_nanos(self.spent.load(Relaxed));
        let allowed = (self.begun.elapsed() / SHARE).max(BURST);
        // Another worker that looks is no reason to wait.
        let look = (spent < allowed).then(|| self.look.try_lock().ok()).flatten();
        let Some(mut look) = look else {
            self.missed.fetch_add(rows, Relaxed);
            return;
        };
        let begun = Instant::now();
        look(batch);
        self.spent.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
    }

    /// What was done with the rows elsewhere in the process took so long.
    pub fn charge(&self, time: Duration) {
        self.spent.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// It wants no more.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }
}

/// The taps of a run.
#[derive(Default)]
pub struct Taps {
    any: AtomicBool,
    list: RwLock<Vec<Arc<Tap>>>,
}

impl Taps {
    /// Looks at outputs, given by node and port, from now on. `whole`: at every row, whatever that costs.
    pub fn add(&self, at: Vec<(usize, usize)>, whole: bool, look: Look) -> Arc<Tap> {
        let tap = Tap {
            at,
            look: Mutex::new(look),
            whole,
            begun: Instant::now(),
            spent: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let tap = Arc::new(tap);
        self.list.write().unwrap_or_else(|e| e.into_inner()).push(tap.clone());
        self.any.store(true, SeqCst);
        tap
    }

    pub fn remove(&self, tap: &Arc<Tap>) {
        let mut list = self.list.write().unwrap_or_else(|e| e.into_inner());
        list.retain(|t| !Arc::ptr_eq(t, tap));
        self.any.store(!list.is_empty(), SeqCst);
    }

    /// Whether anybody looks at anything: all that a job without taps pays for.
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    #[cold]
    pub fn show(&self, node: usize, port: usize, batch: &Batch) {
        if let Ok(list) = self.list.try_read() {
            list.iter().filter(|t| !t.over.load(Relaxed) && t.at.contains(&(node, port))).for_each(|t| t.show(batch));
        }
    }

    /// Whether somebody looks at this output.
    pub fn wants(&self, node: usize, port: usize) -> bool {
        self.any() && self.list.try_read().is_ok_and(|list| list.iter().any(|t| t.at.contains(&(node, port))))
    }
}
