//! For tests on a virtual clock: when all that a run was given is worked through, and when its next timers are due.

use crate::control::Shared;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::Sender;

/// Questions whether a run has come to rest.
///
/// A run is at rest when an epoch that nobody had heard of at the question has passed all sinks, no look-up is without an answer, and none was
/// asked meanwhile: every operator has then had a turn with the present clock and the present watermarks, and what came of it is written.
#[derive(Default)]
pub struct Quiet {
    waiting: AtomicBool,
    asked: Mutex<Vec<Question>>,
    /// By node: when its first timer is due on the clock. Only runs on a virtual clock tell.
    due: Mutex<BTreeMap<usize, i64>>,
}

struct Question {
    /// The epoch that must have passed, and the look-ups that had been asked until then; None: not yet looked at.
    placed: Option<(u64, u64)>,
    reply: Sender<Vec<i64>>,
}

impl Quiet {
    /// The answer, each operator's next timer, comes when the run is at rest. A run that ends before drops the sender.
    pub fn ask(&self, reply: Sender<Vec<i64>>) {
        self.asked.lock().unwrap_or_else(|e| e.into_inner()).push(Question { placed: None, reply });
        self.waiting.store(true, SeqCst);
    }

    /// Nobody will answer any more.
    pub fn close(&self) {
        self.asked.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    /// A node's first timer is due then.
    pub fn due(&self, node: usize, time: Option<i64>) {
        let mut due = self.due.lock().unwrap_or_else(|e| e.into_inner());
        match time {
            Some(t) => drop(due.insert(node, t)),
            None => drop(due.remove(&node)),
        }
    }

    fn timers(&self) -> Vec<i64> {
        self.due.lock().unwrap_or_else(|e| e.into_inner()).values().copied().collect()
    }

    /// Worker 0 looks between two steps: everything before `acknowledged` has passed all sinks.
    pub fn turn(&self, shared: &Shared, acknowledged: u64) {
        if !self.waiting.load(Relaxed) {
            return;
        }
        let lookups = || shared.meters.stores.iter().map(|s| s.lookups.load(SeqCst)).sum::<u64>();
        let mut asked = self.asked.lock().unwrap_or_else(|e| e.into_inner());
        asked.retain_mut(|q| {
            if let Some((epoch, before)) = q.placed {
                if acknowledged < epoch {
                    return true;
                }
                if acknowledged == u64::MAX || (shared.all_asks() == 0 && lookups() == before) {
                    // Who asked may have gone.
                    let _ = q.reply.send(self.timers());
                    return false;
                }
            }
            q.placed = Some((shared.announced() + 1, lookups()));
            shared.hurry();
            true
        });
        self.waiting.store(!asked.is_empty(), SeqCst);
    }
}
