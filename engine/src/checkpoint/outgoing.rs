//! Chunks that manifests name, until they are published and all that was refused of them is in a later checkpoint.

use super::ack::Spot;
use millrace_durable::Chunk;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A published chunk that manifests still name.
struct Held {
    marker: u64,
    /// The attempt that has its refused rows; 0: nothing was refused.
    taken: Option<u64>,
}

#[derive(Default)]
struct Writer {
    /// Published up to here, with nothing left to do.
    settled: u64,
    /// Published up to here.
    published: u64,
    chunks: Vec<Chunk>,
    held: VecDeque<Held>,
}

/// By writer.
pub struct Named {
    writers: BTreeMap<Spot, Writer>,
    /// Chunks of later slots wait for the guards.
    pub passed: u64,
}

impl Named {
    /// `base`: where all writers stand.
    pub fn new(spots: impl Iterator<Item = Spot>, base: u64) -> Named {
        let writer = |s| (s, Writer { settled: base, published: base, ..Writer::default() });
        Named { writers: spots.map(writer).collect(), passed: u64::MAX }
    }

    pub fn name(&mut self, spot: Spot, chunk: Chunk) {
        self.writers.entry(spot).or_default().chunks.push(chunk);
    }

    /// A chunk is published; `refused`: not all of its rows.
    pub fn applied(&mut self, spot: Spot, marker: u64, refused: bool) {
        let w = self.writers.entry(spot).or_default();
        w.published = marker;
        w.held.push_back(Held { marker, taken: (!refused).then_some(0) });
        w.settle(0);
    }

    /// What was refused of chunks up to a marker belongs to an attempt.
    pub fn taken(&mut self, spot: Spot, marker: u64, attempt: u64) {
        let w = self.writers.entry(spot).or_default();
        w.held.iter_mut().filter(|h| h.marker <= marker).for_each(|h| _ = h.taken.get_or_insert(attempt));
    }

    /// An attempt has become a manifest, and what belonged to failed ones before it with it.
    pub fn committed(&mut self, attempt: u64) {
        self.writers.values_mut().for_each(|w| w.settle(attempt));
    }

    /// Completed checkpoints that may be published, and are not.
    pub fn waiting(&self) -> usize {
        let left = self.writers.values().flat_map(|w| w.chunks.iter().filter(|c| c.marker > w.published && c.marker >> 20 <= self.passed));
        left.map(|c| c.marker >> 20).collect::<BTreeSet<u64>>().len()
    }

    /// Everything is published, and what was refused is in a checkpoint.
    pub fn is_done(&self) -> bool {
        self.writers.values().all(|w| w.chunks.is_empty())
    }

    pub fn up_to(&self, spot: Spot) -> u64 {
        self.writers.get(&spot).map_or(0, |w| w.settled)
    }

    pub fn chunks(&self, spot: Spot) -> impl Iterator<Item = &Chunk> {
        self.writers.get(&spot).into_iter().flat_map(|w| &w.chunks)
    }
}

impl Writer {
    fn settle(&mut self, committed: u64) {
        while let Some(h) = self.held.pop_front_if(|h| h.taken.is_some_and(|t| t <= committed)) {
            self.settled = h.marker;
            self.chunks.retain(|c| c.marker > h.marker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_durable::{FileRef, marker};

    #[test]
    fn a_chunk_is_named_until_what_was_refused_of_it_is_safe() {
        let spot = Spot { node: 1, worker: 0 };
        let mut n = Named::new([spot].into_iter(), marker(1, 0));
        let file = FileRef { name: "f".into(), len: 0, sum: 0 };
        for slot in 2..5 {
            n.name(spot, Chunk { marker: marker(slot, 1), rows: 1, file: file.clone() });
        }
        let named = |n: &Named| n.chunks(spot).map(|c| c.marker >> 20).collect::<Vec<_>>();
        n.applied(spot, marker(2, 1), false);
        assert_eq!((named(&n), n.waiting(), n.up_to(spot)), (vec![3, 4], 2, marker(2, 1)));
        n.applied(spot, marker(3, 1), true);
        n.applied(spot, marker(4, 1), false);
        assert_eq!((named(&n), n.waiting(), n.is_done()), (vec![3, 4], 0, false));
        n.committed(7);
        assert_eq!(named(&n), [3, 4], "nobody has said that attempt 7 has them");
        n.taken(spot, marker(3, 1), 8);
        n.committed(9);
        assert_eq!((named(&n), n.is_done(), n.up_to(spot)), (vec![], true, marker(4, 1)));
    }
}
