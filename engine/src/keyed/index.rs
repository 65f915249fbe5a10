//! Where keys lie: hash -> place, in tables that stay small, so that no growth holds up a row.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Places a table at which the next one is split off. None then holds much more than twice as many, which is what 4,096 buckets take.
const FULL: usize = 1700;
const ROOM: usize = 3584;

/// Places by their keys' hashes, as linear hashing has it: the lowest bits of a hash choose one of n tables. Tables come one at a time,
/// as the places become more; the next to be split is number n less the greatest power of two in n. So an insert moves some thousand
/// places at most, a tenth of a millisecond, however many keys there are.
pub struct Index {
    tables: Vec<HashTable<u32>>,
    /// The greatest power of two in their number.
    low: usize,
    len: usize,
    /// Room for the next split.
    spare: HashTable<u32>,
}

/// What hashbrown sees: all hashes of a table have their lowest bits in common, so these must not choose the bucket.
#[inline]
fn inner(hash: u64) -> u64 {
    hash.rotate_right(32)
}

impl Index {
    pub fn new() -> Index {
        Index { tables: vec![HashTable::new()], low: 1, len: 0, spare: HashTable::new() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The table of a hash.
    #[inline]
    fn table(&self, hash: u64) -> usize {
        let i = hash as usize & (2 * self.low - 1);
        // Without a branch, which would be guessed wrong half of the time, and the reads behind it begun at the wrong table.
        i - (self.low & usize::from(i >= self.tables.len()).wrapping_neg())
    }

    /// The place that `is` the one wanted, among those that may have this hash.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.tables[self.table(hash)].find(inner(hash), |&p| is(p)).copied()
    }

    /// The place that `is` the one wanted; None: there is none, and `place` was added. `hash_of` gives the hash of any place that is there.
    #[inline]
    pub fn find_or_insert(&mut self, hash: u64, place: u32, is: impl Fn(u32) -> bool, hash_of: impl Fn(u32) -> u64) -> Option<u32> {
        if self.len >= FULL * self.tables.len() {
            self.split(&hash_of);
        }
        let table = self.table(hash);
        match self.tables[table].entry(inner(hash), |&p| is(p), |&p| inner(hash_of(p))) {
            Entry::Occupied(found) => Some(*found.get()),
            Entry::Vacant(room) => {
                room.insert(place);
                self.len += 1;
                None
            }
        }
    }

    #[cold]
    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let (n, low) = (self.tables.len(), self.low);
        let spare = std::mem::take(&mut self.spare);
        let mut old = std::mem::replace(&mut self.tables[n - low], spare);
        self.tables.push(HashTable::new());
        self.low = 1 << (n + 1).ilog2();
        for table in [n - low, n] {
            self.tables[table].reserve(ROOM, |&p| inner(hash_of(p)));
        }
        for place in old.drain() {
            let hash = hash_of(place);
            let table = self.table(hash);
            self.tables[table].insert_unique(inner(hash), place, |&p| inner(hash_of(p)));
        }
        self.spare = old;
    }

    /// Takes a place out; false: it was not there.
    #[inline]
    pub fn remove(&mut self, hash: u64, place: u32) -> bool {
        let table = self.table(hash);
        let found = self.tables[table].find_entry(inner(hash), |&p| p == place);
        self.len -= usize::from(found.is_ok());
        found.map(|f| f.remove()).is_ok()
    }

    /// All places, in no order.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// As a map from hash to place, over many splits, with removals between them, and hashes of which one half is alike.
    #[test]
    fn an_index_is_a_map() {
        let spread = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let kinds: [fn(u64) -> u64; 3] = [|i| i, |i| i << 32, |i| i << 32 | i];
        for alike in kinds {
            let hash = |place: u32| if place.is_multiple_of(5) { alike(u64::from(place)) } else { spread(u64::from(place)) };
            let (mut index, mut model) = (Index::new(), HashMap::new());
            for place in 0..20_000u32 {
                assert_eq!(index.find_or_insert(hash(place), place, |p| p == place, hash), None);
                model.insert(place, hash(place));
                let gone = spread(u64::from(place)) as u32 % 27_000;
                if place.is_multiple_of(3) {
                    assert_eq!(index.remove(hash(gone), gone), model.remove(&gone).is_some());
                    assert_eq!(index.find(hash(gone), |p| p == gone), None);
                }
                assert_eq!(index.len(), model.len());
            }
            for place in 0..20_000u32 {
                let there = model.contains_key(&place);
                assert_eq!(index.find(hash(place), |p| p == place).is_some(), there);
                if there {
                    assert_eq!(index.find_or_insert(hash(place), u32::MAX, |p| p == place, hash), Some(place));
                }
            }
            let mut places: Vec<u32> = index.places().collect();
            places.sort_unstable();
            let mut wanted: Vec<u32> = model.into_keys().collect();
            wanted.sort_unstable();
            assert_eq!(places, wanted);
        }
    }

    #[test]
    fn tables_stay_small() {
        let hash = |place: u32| u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut index = Index::new();
        for place in 0..300_000 {
            index.find_or_insert(hash(place), place, |p| p == place, hash);
            let (longest, room) = (index.tables.iter().map(HashTable::len), index.tables.iter().map(HashTable::capacity));
            if place % 1000 == 0 {
                assert!(longest.max() < Some(3 * FULL) && room.max() < Some(8 * FULL));
            }
        }
    }
}
