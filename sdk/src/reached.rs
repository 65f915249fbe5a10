//! Which ways through expressions and templates rows have taken: for the coverage of a topology's tests. A run counts nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A way through a text: a result of a CASE, a side of an `{{#if}}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// The expression or template.
    pub text: String,
    /// The byte at which the way begins.
    pub at: usize,
    /// What it is, for people.
    pub words: String,
}

/// How many rows have gone a way.
pub type Rows = Arc<AtomicU64>;

/// All ways of a topology.
#[derive(Clone, Debug, Default)]
pub struct Reached(Arc<Mutex<BTreeMap<Way, Vec<Rows>>>>);

impl Reached {
    /// A new count of a way, which is known from now on.
    pub fn rows(&self, way: Way) -> Rows {
        let rows = Rows::default();
        self.counted_by(way, rows.clone());
        rows
    }

    /// A way is counted by this too: a text may be compiled several times.
    pub fn counted_by(&self, way: Way, rows: Rows) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(way).or_default().push(rows);
    }

    /// All ways and how many rows have gone them, text by text.
    pub fn all(&self) -> Vec<(Way, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(way, rows)| (way.clone(), rows.iter().map(|r| r.load(Ordering::Relaxed)).sum())).collect()
    }
}
