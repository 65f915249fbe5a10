//! The injected clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time, microseconds since 1970 UTC. Nothing else in the project reads the time of day.
#[derive(Clone, Debug, Default)]
pub enum Clock {
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
            Clock::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64),
            Clock::Virtual(t) => t.load(Ordering::Relaxed),
        }
    }

    /// Sets a virtual clock; has no effect on the system's.
    pub fn set(&self, micros: i64) {
        if let Clock::Virtual(t) = self {
            t.store(micros, Ordering::Relaxed);
        }
    }
}
