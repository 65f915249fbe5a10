//! What a process has to do with: one budget, of which buffers get fixed shares and keyed state what is left.
//!
//! Nobody can say what an allocator makes of so many keys. So the budget is held by looking at the process's own size: keyed state has no limit
//! until the process comes near its budget, and from then on one that follows the process's size and its growth.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often the process's size is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub struct Memory {
    budget: u64,
    /// Bytes that all keyed states together may take, by their own reckoning; `u64::MAX`: no limit yet.
    limit: AtomicU64,
    /// What they take.
    keys: AtomicU64,
    /// Bytes on their way to tiers.
    pub in_flight: AtomicUsize,
    /// There is a tier.
    tiered: AtomicBool,
    looked: Mutex<Looked>,
}

struct Looked {
    at: Instant,
    /// The process's size.
    last: u64,
}

impl Memory {
    pub fn new(budget: usize) -> Memory {
        Memory {
            budget: budget as u64,
            limit: AtomicU64::new(u64::MAX),
            keys: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            tiered: AtomicBool::new(false),
            looked: Mutex::new(Looked { at: Instant::now(), last: 0 }),
        }
    }

    /// The budget's `n`th part, at most `most` bytes.
    pub fn share(&self, n: u64, most: usize) -> usize {
        usize::try_from(self.budget / n).unwrap_or(most).min(most)
    }

    /// A state takes `now` bytes rather than `before`.
    pub fn takes(&self, before: u64, now: u64) {
        self.keys.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// How many of its `mine` bytes a state should give up.
    pub fn excess(&self, mine: u64) -> u64 {
        self.look();
        let (limit, all) = (self.limit.load(Relaxed), self.keys.load(Relaxed).max(1));
        match all.checked_sub(limit) {
            Some(over) => (mine as f64 * (over as f64 / all as f64)) as u64,
            None => 0,
        }
    }

    fn look(&self) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.at.elapsed() < LOOK {
            return;
        }
        looked.at = Instant::now();
        if let Some(size) = resident() {
            self.answer(size, &mut looked.last);
        }
    }

    /// A tier is opened: it takes its part from now on.
    pub fn tiered(&self) {
        self.tiered.store(true, Relaxed);
    }

    /// Sets the limit for a process of this size; `last`: its size at the last look.
    fn answer(&self, size: u64, last: &mut u64) {
        // What is left above it is for what grows between two looks, and for tiers until they take it.
        let target = self.budget / 100 * if self.tiered.load(Relaxed) { 74 } else { 45 };
        let (limit, keys) = (self.limit.load(Relaxed), self.keys.load(Relaxed));
        let grown = size as i64 - std::mem::replace(last, size).max(target.min(size)) as i64;
        if limit == u64::MAX && size < target {
            return;
        }
        // What has been, at a sixteenth a look, and what is coming.
        let wanted = (target as i64 - size as i64) / 16 - grown * 3 / 2;
        let (least, most) = (self.budget / 16, keys + self.budget / 16);
        self.limit.store(limit.min(most).saturating_add_signed(wanted).clamp(least, most.max(least)), Relaxed);
    }
}

/// Bytes of the process that are in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that holds what the keys take and a fixed rest stays within its budget, and states give up in proportion.
    #[test]
    fn growth_is_answered_until_it_ends() {
        let memory = Memory::new(1_000_000_000);
        memory.tiered();
        let (mut mine, mut others, mut size, mut most, mut last) = (0u64, 300_000_000u64, 0u64, 0u64, 0);
        memory.takes(0, others);
        for _ in 0..10_000 {
            memory.takes(mine, mine + 2_000_000);
            mine += 2_000_000;
            size = mine + others + 200_000_000;
            most = most.max(size);
            memory.answer(size, &mut last);
            for state in [&mut mine, &mut others] {
                let gone = memory.excess(*state);
                memory.takes(*state, *state - gone);
                *state -= gone;
            }
        }
        assert!(most < 1_000_000_000 && mine + others > 400_000_000, "{size} {mine} {others}");
        // When the rest is gone there is room again.
        let before = memory.limit.load(Relaxed);
        (0..100).for_each(|_| memory.answer(500_000_000, &mut last));
        assert!(memory.limit.load(Relaxed) > before, "{before}");
    }
}
