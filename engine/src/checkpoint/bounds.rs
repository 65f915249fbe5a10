//! Which epochs are boundaries, as all workers of a process see it.

use super::{Ack, Body};
use crate::guards::Counts;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Rows of epochs below `epoch` belong to the interval that ends here, all others to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    pub epoch: u64,
    /// Numbers the tries to take a checkpoint, from 1.
    pub attempt: u64,
    /// Nothing more is read after it.
    pub stop: bool,
}

/// Invariant: a boundary is in the list of every process before its epoch may be entered. So who sees data or a frontier of epoch e
/// knows all boundaries up to e.
#[derive(Default)]
pub struct Bounds {
    /// The newest boundary's attempt, so that looking for one costs a load; 0: there is none.
    newest: AtomicU64,
    list: Mutex<Vec<Boundary>>,
    /// Asked for, not yet given an epoch: attempt and whether it is a stop.
    wanted: Mutex<Vec<(u64, bool)>>,
    acks: Mutex<Option<Box<dyn Fn(Ack) + Send>>>,
    count: Mutex<Option<Box<dyn Fn() -> Counts + Send>>>,
    /// The newest attempt that became a manifest.
    committed: AtomicU64,
    exit: AtomicBool,
    on: AtomicBool,
}

fn locked<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Bounds {
    /// Where answers go.
    pub fn hear(&self, acks: impl Fn(Ack) + Send + 'static) {
        *locked(&self.acks) = Some(Box::new(acks));
    }

    /// From now on checkpoints are taken: the run ends when the coordinator says so.
    pub fn enable(&self) {
        self.on.store(true, SeqCst);
    }

    /// Whether checkpoints are taken.
    pub fn on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// The coordinator wants a boundary.
    pub fn want(&self, attempt: u64, stop: bool) {
        locked(&self.wanted).push((attempt, stop));
    }

    /// Worker 0, before it announces `epoch` or more: what is wanted lies there.
    pub fn place(&self, epoch: u64) -> Vec<Boundary> {
        let wanted = std::mem::take(&mut *locked(&self.wanted));
        let placed: Vec<Boundary> = wanted.into_iter().map(|(attempt, stop)| Boundary { epoch, attempt, stop }).collect();
        placed.iter().for_each(|b| self.learn(*b));
        placed
    }

    /// There is a boundary.
    pub fn learn(&self, b: Boundary) {
        locked(&self.list).push(b);
        self.newest.store(b.attempt, SeqCst);
    }

    pub fn is_wanted(&self) -> bool {
        self.on() && !locked(&self.wanted).is_empty()
    }

    /// The first boundary behind the one of attempt `closed` (0: none was).
    #[inline]
    pub fn next(&self, closed: u64) -> Option<Boundary> {
        if self.newest.load(SeqCst) <= closed { None } else { self.find(closed) }
    }

    fn find(&self, closed: u64) -> Option<Boundary> {
        locked(&self.list).iter().find(|b| b.attempt > closed).copied()
    }

    /// Boundaries up to `attempt` are settled: nobody asks for them any more.
    pub fn settle(&self, attempt: u64) {
        locked(&self.list).retain(|b| b.attempt > attempt);
    }

    /// What is told with every answer.
    pub fn count_by(&self, count: impl Fn() -> Counts + Send + 'static) {
        *locked(&self.count) = Some(Box::new(count));
    }

    pub fn ack(&self, ack: Ack) {
        if let Some(acks) = &*locked(&self.acks) {
            if let Some(count) = locked(&self.count).as_ref().filter(|_| ack.attempt > 0) {
                acks(Ack { attempt: 0, from: ack.from, body: Body::Counts { counts: count() } });
            }
            acks(ack);
        }
    }

    pub fn commit(&self, attempt: u64) {
        self.committed.fetch_max(attempt, SeqCst);
    }

    /// Whether a manifest has `attempt`, or is newer.
    pub fn is_committed(&self, attempt: u64) -> bool {
        self.committed.load(SeqCst) >= attempt
    }

    /// Everything is taken and published: sources let go.
    pub fn finish(&self) {
        self.exit.store(true, SeqCst);
    }

    pub fn finished(&self) -> bool {
        self.exit.load(SeqCst)
    }
}
