//! Where keys lie: hash -> place, in tables that stay small, so that no growth holds up a row.

use hashbrown::HashTable;

/// A place, and the upper half of its key's hash, which is all that is used of it: tables grow and are split without a look at the keys.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    place: u32,
}

impl Slot {
    #[inline]
    fn new(hash: u64, place: u32) -> Slot {
        Slot { tag: (hash >> 32) as u32, place }
    }

    /// What hashbrown sees: all slots of a table have the lowest bits of `tag` in common, so these must not choose the bucket.
    #[inline]
    fn hash(&self) -> u64 {
        let mixed = u64::from(self.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    }
}

/// Places a table at which the next one is split off; none holds more than about twice as many.
const FULL: usize = 2048;

/// Places by their keys' hashes, as linear hashing has it: the lowest bits of a tag choose one of n tables. Tables come one at a time,
/// as the places become more; the next to be split is number n less the greatest power of two in n. So an insert moves some thousand
/// slots at most, tens of microseconds, however many keys there are.
pub struct Index {
    tables: Vec<HashTable<Slot>>,
    len: usize,
}

impl Index {
    pub fn new() -> Index {
        Index { tables: vec![HashTable::new()], len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The table of a slot.
    #[inline]
    fn table(&self, slot: Slot) -> usize {
        let n = self.tables.len();
        let low = 1usize << n.ilog2();
        let i = slot.tag as usize & (2 * low - 1);
        if i < n { i } else { i - low }
    }

    /// The place that `is` the one wanted, among those with this upper half of a hash.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let wanted = Slot::new(hash, 0);
        self.tables[self.table(wanted)].find(wanted.hash(), |s| s.tag == wanted.tag && is(s.place)).map(|s| s.place)
    }

    /// Adds a place that is not there.
    #[inline]
    pub fn insert(&mut self, hash: u64, place: u32) {
        if self.len >= FULL * self.tables.len() {
            self.split();
        }
        let slot = Slot::new(hash, place);
        let table = self.table(slot);
        self.tables[table].insert_unique(slot.hash(), slot, Slot::hash);
        self.len += 1;
    }

    #[cold]
    fn split(&mut self) {
        let n = self.tables.len();
        let low = 1usize << n.ilog2();
        let old = std::mem::replace(&mut self.tables[n - low], HashTable::with_capacity(FULL));
        self.tables.push(HashTable::with_capacity(FULL));
        for slot in old {
            let table = self.table(slot);
            self.tables[table].insert_unique(slot.hash(), slot, Slot::hash);
        }
    }

    /// Takes a place out; false: it was not there.
    #[inline]
    pub fn remove(&mut self, hash: u64, place: u32) -> bool {
        let slot = Slot::new(hash, place);
        let table = self.table(slot);
        let found = self.tables[table].find_entry(slot.hash(), |s| s.place == place);
        self.len -= usize::from(found.is_ok());
        found.map(|f| f.remove()).is_ok()
    }

    /// All places, in no order.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().flatten().map(|s| s.place)
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
                index.insert(hash(place), place);
                model.insert(place, hash(place));
                let gone = spread(u64::from(place)) as u32 % 27_000;
                if place.is_multiple_of(3) {
                    assert_eq!(index.remove(hash(gone), gone), model.remove(&gone).is_some());
                    assert_eq!(index.find(hash(gone), |p| p == gone), None);
                }
                assert_eq!(index.len(), model.len());
            }
            for place in 0..20_000u32 {
                assert_eq!(index.find(hash(place), |p| p == place).is_some(), model.contains_key(&place));
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
            index.insert(hash(place), place);
            let (longest, room) = (index.tables.iter().map(HashTable::len), index.tables.iter().map(HashTable::capacity));
            if place % 1000 == 0 {
                assert!(longest.max() < Some(3 * FULL) && room.max() < Some(8 * FULL));
            }
        }
    }
}
