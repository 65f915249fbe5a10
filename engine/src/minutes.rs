//! Rows and a checksum of what a sink was given, by minute of event time: for comparing two runs, or a run with what a reader has counted.
//!
//! A row's sum is the xxh3 of its JSON; those of a minute are added up, so that neither order nor workers nor processes matter.

use millrace_sdk::{Batch, Key, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The newest minutes that are kept; rows of older ones are counted no more.
const KEPT: usize = 60;
/// Sums are modulo this, so that a metric's double holds them to the last digit.
const MODULUS: u64 = 1 << 48;
const MINUTE: i64 = 60_000_000;

/// What came of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    pub rows: u64,
    pub checksum: u64,
}

/// One sink's, on all workers of the process. Rows that have no event time count for none.
#[derive(Default)]
pub struct Minutes(Mutex<BTreeMap<i64, Minute>>);

impl Minutes {
    pub fn add(&self, batch: &Batch) {
        let (mut found, mut line) = (BTreeMap::<i64, Minute>::new(), vec![]);
        for i in 0..batch.len() {
            let row = batch.row(i);
            let time = row.meta().time;
            if time == millrace_sdk::NO_TIME {
                continue;
            }
            line.clear();
            json::write_row(&row, batch.schema(), &mut line);
            let minute = found.entry(time.div_euclid(MINUTE)).or_default();
            minute.rows += 1;
            minute.checksum = (minute.checksum + Key::hash(&line) % MODULUS) % MODULUS;
        }
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let oldest = if all.len() < KEPT { i64::MIN } else { all.keys().next().copied().unwrap_or(i64::MIN) };
        for (at, m) in found.into_iter().filter(|(at, _)| *at >= oldest) {
            let sum = all.entry(at).or_default();
            sum.rows += m.rows;
            sum.checksum = (sum.checksum + m.checksum) % MODULUS;
        }
        while all.len() > KEPT {
            all.pop_first();
        }
    }

    /// By the second since 1970 at which a minute begins.
    pub fn get(&self) -> Vec<(i64, Minute)> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).iter().map(|(at, m)| (at * 60, *m)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::{BatchBuilder, Field, Meta, Schema, Type};

    fn batch(rows: &[(i64, i64)]) -> Batch {
        let mut b = BatchBuilder::new(Schema::new(vec![Field::new("n", Type::Bigint)]));
        for &(time, n) in rows {
            b.push_int(n);
            b.end_row(Meta { time, ..Meta::default() });
        }
        b.finish()
    }

    fn of(batches: &[&[(i64, i64)]]) -> Vec<(i64, Minute)> {
        let m = Minutes::default();
        batches.iter().for_each(|rows| m.add(&batch(rows)));
        m.get()
    }

    #[test]
    fn order_and_batches_do_not_matter_and_every_row_does() {
        let rows = [(0, 1), (59_999_999, 2), (60_000_000, 3), (-1, 4)];
        let whole = of(&[&rows]);
        assert_eq!(whole.iter().map(|(at, m)| (*at, m.rows)).collect::<Vec<_>>(), [(-60, 1), (0, 2), (60, 1)]);
        assert_eq!(of(&[&[rows[3], rows[1]], &[rows[2]], &[rows[0]]]), whole);
        assert_ne!(of(&[&[(0, 1), (0, 5), rows[2], rows[3]]]), whole);
        // Twice is not none: sums are added, not xored.
        assert_ne!(of(&[&rows, &rows, &rows]), whole);
        assert_eq!(of(&[&[(millrace_sdk::NO_TIME, 1)]]), []);
    }

    #[test]
    fn the_newest_are_kept() {
        let many: Vec<(i64, i64)> = (0..100).map(|i| (i * MINUTE, i)).collect();
        let kept = of(&[&many, &[(0, 7)]]);
        assert_eq!((kept.len(), kept[0].0, kept.iter().all(|(_, m)| m.rows == 1)), (KEPT, 40 * 60, true));
    }
}
