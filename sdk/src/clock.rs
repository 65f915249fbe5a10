//! The injected clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The most that the system's clock was ever ahead of the steady one, which nobody sets.
static AHEAD: AtomicI64 = AtomicI64::new(i64::MIN);
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Wall time, microseconds since 1970 UTC. Nothing else in the project reads the time of day.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's, but it never goes back: when that is set back, this one goes on from where it was at its pace, or everything that
    /// waits for a time would stand still until the old time has come again.
    #[default]
    System,
    /// Stands still until it is set: for tests.
    Virtual(Arc<AtomicI64>),
}

impl Clock {
    pub fn fixed(micros: i64) -> Clock {
        Clock::Virtual(Arc::new(AtomicI64::new(micros)))
    }

    #[inline]
    pub fn now(&self) -> i64 {
        match self {
            Clock::System => {
                let steady = steady();
                let ahead = Clock::wall().saturating_sub(steady);
                steady.saturating_add(AHEAD.fetch_max(ahead, Ordering::Relaxed).max(ahead))
            }
            Clock::Virtual(t) => t.load(Ordering::Relaxed),
        }
    }

    /// What the system's clock shows, set back or not: for the ages of files, which have their times from it.
    pub fn wall() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
    }

    /// It has shown `micros` before, in another process: from now on it shows no less.
    pub fn not_before(&self, micros: i64) {
        match self {
            Clock::System => _ = AHEAD.fetch_max(micros.saturating_sub(steady()), Ordering::Relaxed),
            Clock::Virtual(t) => _ = t.fetch_max(micros, Ordering::Relaxed),
        }
    }

    /// Sets a virtual clock; has no effect on the system's.
    pub fn set(&self, micros: i64) {
        if let Clock::Virtual(t) = self {
            t.store(micros, Ordering::Relaxed);
        }
    }
}

/// Microseconds since this process first asked.
fn steady() -> i64 {
    BEGUN.elapsed().as_micros() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_it_has_shown() {
        let clock = Clock::System;
        let hour = 3_600_000_000;
        let floor = clock.now() + hour;
        // As after a restart behind a clock that was set back.
        clock.not_before(floor);
        let first = clock.now();
        assert!((floor..floor + hour / 60).contains(&first));
        clock.not_before(floor - hour);
        while clock.now() == first {}
        assert!(clock.now() > first, "it does not stand still");

        let fixed = Clock::fixed(5);
        fixed.not_before(3);
        assert_eq!(fixed.now(), 5);
        fixed.not_before(7);
        assert_eq!(fixed.now(), 7);
    }
}
