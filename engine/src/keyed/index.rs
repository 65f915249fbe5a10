//! Where keys lie: hash -> place, in tables that stay small, so that no growth holds up a row.

/// Places a table at which the next one is split off: none then holds more than twice as many, but by chance.
const FULL: usize = 1500;
/// Slots of a table, unless chance has it that they do not do: 32 KiB.
const SLOTS: usize = 4096;
/// Slots that the first table has at first, so that a small state stays small.
const FEW: usize = 16;

/// What a slot holds: 32 bits of the hash, mixed, and the place.
const EMPTY: u64 = u64::MAX;

/// Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4, algorithms L and R): a look-up reads one cache line
/// mostly, and that one can be read before it is needed, see [`Index::first`].
struct Table {
    slots: Box<[u64]>,
    len: usize,
}

impl Table {
    /// `slots`: a power of two.
    fn new(slots: usize) -> Table {
        Table { slots: vec![EMPTY; slots].into(), len: 0 }
    }

    /// Where the search for a hash begins: its highest bits, as the lowest chose the table.
    #[inline]
    fn home(&self, mixed: u32) -> usize {
        (u64::from(mixed) * self.slots.len() as u64 >> 32) as usize
    }

    #[inline]
    fn next(&self, i: usize) -> usize {
        (i + 1) & (self.slots.len() - 1)
    }

    /// The slot with the place that `is` the one wanted; or the free one where it would be.
    #[inline]
    fn find(&self, mixed: u32, is: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mut i = self.home(mixed);
        loop {
            let slot = self.slots[i];
            if slot == EMPTY {
                return Err(i);
            }
            if (slot >> 32) as u32 == mixed && is(slot as u32) {
                return Ok(slot as u32);
            }
            i = self.next(i);
        }
    }

    /// Adds a place that is not there; `free`: the slot where it would be.
    #[inline]
    fn put(&mut self, mixed: u32, place: u32, free: usize) {
        self.slots[free] = u64::from(mixed) << 32 | u64::from(place);
        self.len += 1;
        // Linear probing becomes slow when nearly full, and must find an end.
        if self.len > self.slots.len() / 8 * 7 {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let old = std::mem::replace(self, Table::new(self.slots.len() * 2));
        old.entries().for_each(|slot| self.add(slot));
    }

    fn add(&mut self, slot: u64) {
        let mixed = (slot >> 32) as u32;
        if let Err(free) = self.find(mixed, |_| false) {
            self.put(mixed, slot as u32, free);
        }
    }

    fn entries(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().copied().filter(|&s| s != EMPTY)
    }

    /// Takes a place out; false: it was not there. What lies behind it moves up, so that no slot need be marked as once used.
    fn remove(&mut self, mixed: u32, place: u32) -> bool {
        let wanted = u64::from(mixed) << 32 | u64::from(place);
        let mut i = self.home(mixed);
        while self.slots[i] != wanted {
            if self.slots[i] == EMPTY {
                return false;
            }
            i = self.next(i);
        }
        let mask = self.slots.len() - 1;
        let mut behind = self.next(i);
        while self.slots[behind] != EMPTY {
            let home = self.home((self.slots[behind] >> 32) as u32);
            // Whether the hole lies on its way from its home to where it is.
            if behind.wrapping_sub(home) & mask >= behind.wrapping_sub(i) & mask {
                self.slots[i] = self.slots[behind];
                i = behind;
            }
            behind = self.next(behind);
        }
        self.slots[i] = EMPTY;
        self.len -= 1;
        true
    }
}

/// Places by their keys' hashes, as linear hashing has it (Litwin 1980): the lowest bits of a hash choose one of n tables. Tables come one at a
/// time, as the places become more; the next to be split is number n less the greatest power of two in n. So an insert moves some thousand
/// places at most, some hundredths of a millisecond, however many keys there are.
pub struct Index {
    tables: Vec<Table>,
    /// The greatest power of two in their number.
    low: usize,
    len: usize,
}

/// The bits that choose table and slot, and tell most hashes apart: each depends on many of the hash's, of which the keys of a worker have some
/// in common.
#[inline]
fn mix(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

impl Index {
    pub fn new() -> Index {
        Index { tables: vec![Table::new(FEW)], low: 1, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The table of a hash.
    #[inline]
    fn table(&self, mixed: u32) -> usize {
        let i = mixed as usize & (2 * self.low - 1);
        // Without a branch, which would be guessed wrong half of the time, and the reads behind it begun at the wrong table.
        i - (self.low & usize::from(i >= self.tables.len()).wrapping_neg())
    }

    /// Reads where the search for a hash begins; the result means nothing.
    #[inline]
    pub fn first(&self, hash: u64) -> u64 {
        let mixed = mix(hash);
        let table = &self.tables[self.table(mixed)];
        table.slots[table.home(mixed)]
    }

    /// The place that `is` the one wanted, among those that may have this hash.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mixed = mix(hash);
        self.tables[self.table(mixed)].find(mixed, is).ok()
    }

    /// The place that `is` the one wanted; None: there is none, and `place` was added.
    #[inline]
    pub fn find_or_insert(&mut self, hash: u64, place: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len >= FULL * self.tables.len() {
            self.split();
        }
        let mixed = mix(hash);
        let table = self.table(mixed);
        match self.tables[table].find(mixed, is) {
            Ok(found) => Some(found),
            Err(free) => {
                self.tables[table].put(mixed, place, free);
                self.len += 1;
                None
            }
        }
    }

    #[cold]
    fn split(&mut self) {
        let (n, low) = (self.tables.len(), self.low);
        let old = std::mem::replace(&mut self.tables[n - low], Table::new(SLOTS));
        self.tables.push(Table::new(SLOTS));
        self.low = 1 << (n + 1).ilog2();
        for slot in old.entries() {
            let table = self.table((slot >> 32) as u32);
            self.tables[table].add(slot);
        }
    }

    /// Takes a place out; false: it was not there.
    #[inline]
    pub fn remove(&mut self, hash: u64, place: u32) -> bool {
        let mixed = mix(hash);
        let table = self.table(mixed);
        let found = self.tables[table].remove(mixed, place);
        self.len -= usize::from(found);
        found
    }

    /// All places, in no order.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        self.tables.iter().flat_map(Table::entries).map(|slot| slot as u32)
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
                assert_eq!(index.find_or_insert(hash(place), place, |p| p == place), None);
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
                    assert_eq!(index.find_or_insert(hash(place), u32::MAX, |p| p == place), Some(place));
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
            index.find_or_insert(hash(place), place, |p| p == place);
            if place % 1000 == 0 {
                assert!(index.tables.iter().all(|t| t.len < 3 * FULL && t.slots.len() <= SLOTS));
            }
        }
    }
}
