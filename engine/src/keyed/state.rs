//! State in memory: a table of keys, each with its cells.

use super::cells::Cell;
use super::index::Index;
use std::collections::VecDeque;
use std::hint::black_box;

/// A key's bytes; the usual short ones lie in place.
enum KeyBytes {
    Short(u8, [u8; SHORT_KEY]),
    Long(Box<[u8]>),
}
const SHORT_KEY: usize = 46;

impl KeyBytes {
    fn new(bytes: &[u8]) -> KeyBytes {
        if bytes.len() > SHORT_KEY {
            return KeyBytes::Long(bytes.into());
        }
        let mut short = [0; SHORT_KEY];
        short[..bytes.len()].copy_from_slice(bytes);
        KeyBytes::Short(bytes.len() as u8, short)
    }

    #[inline]
    fn get(&self) -> &[u8] {
        match self {
            KeyBytes::Short(n, bytes) => &bytes[..*n as usize],
            KeyBytes::Long(bytes) => bytes,
        }
    }
}

/// A key, and how much there is of it beside its cells: one cache line.
#[repr(align(64))]
struct Head {
    /// 0 where no key lives; a key whose hash is 0 is looked for as any other.
    hash: u64,
    /// Timers, holds and asks of this key; where no key lives, the next free place.
    refs: u32,
    /// The chunk that wrote this key to the tier last, lowest bits.
    chunk: u16,
    flags: u8,
    key: KeyBytes,
}

/// Looked at since the last round of eviction.
const USED: u8 = 1;
/// The tier has a record of this key, or will when all that was sent to it has landed.
const STORED: u8 = 2;
/// Nothing is kept for this key, but the tier does not know that yet.
const DEAD: u8 = 4;
/// The tier's record is out of date: listed in one of the two lists of changes. Stays where no key lives any more, as the place is listed.
const CHANGED: [u8; 2] = [8, 16];
const _: () = assert!(size_of::<Head>() == 64);

const CHUNK: usize = 1 << 12;

/// Things by place, in chunks, so that growth moves nothing.
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    /// Things a place.
    each: usize,
}

impl<T: Default> Chunks<T> {
    pub fn new(each: usize) -> Chunks<T> {
        Chunks { chunks: vec![], each }
    }

    #[inline]
    pub fn get(&self, place: u32) -> &[T] {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK * self.each..][..self.each]
    }

    #[inline]
    pub fn get_mut(&mut self, place: u32) -> &mut [T] {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK * self.each..][..self.each]
    }

    /// Makes the things of a place and of those before it, if they are not there.
    #[inline]
    pub fn reach(&mut self, place: u32) {
        if !self.reaches(place) {
            self.grow(place);
        }
    }

    #[inline]
    pub fn reaches(&self, place: u32) -> bool {
        self.chunks.get(place as usize / CHUNK).is_some_and(|c| place as usize % CHUNK * self.each < c.len())
    }

    #[cold]
    fn grow(&mut self, place: u32) {
        let (chunk, at) = (place as usize / CHUNK, place as usize % CHUNK);
        // The first chunk grows as it is used, so that a small state stays small.
        if chunk > 0 && self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk, Vec::new);
            self.chunks.iter_mut().for_each(|c| c.resize_with(CHUNK * self.each, T::default));
        }
        if self.chunks.len() <= chunk {
            self.chunks.push(Vec::new());
        }
        let to = if chunk > 0 { CHUNK } else { (at + 1).next_power_of_two().max(16) };
        self.chunks[chunk].resize_with(to * self.each, T::default);
    }
}

impl Default for Head {
    fn default() -> Head {
        Head { hash: 0, refs: 0, chunk: 0, flags: 0, key: KeyBytes::Short(0, [0; SHORT_KEY]) }
    }
}

impl Head {
    fn is_vacant(&self) -> bool {
        // Which together no key has.
        self.hash == 0 && self.key.get().is_empty()
    }
}

/// Keys or timers that are worked on together, so that their cache misses overlap: at most so many.
pub const GROUP: usize = 16;

/// A key that is about to be worked on.
#[derive(Clone, Copy, Default)]
pub struct Wanted {
    pub hash: u64,
    /// Where its bytes end in those of its group.
    pub end: usize,
    /// Where it probably is.
    pub hint: Option<u32>,
}

/// All keys of a worker's operator that are in memory.
///
/// Invariant: a key whose cells are empty and that has no timer, hold or ask is not in the table, unless a tier must still be told. Places
/// are stable while a key is in memory, so timers, holds and asks name keys by place.
pub struct Keys {
    index: Index,
    heads: Chunks<Head>,
    cells: Chunks<Cell>,
    /// The first of the free places below `unused`, or [`NO_PLACE`]: a list through their heads.
    free: u32,
    /// Places from here on have never been used.
    unused: u32,
    /// There is a tier, so it is noted what changes.
    tiered: bool,
    /// Changes since the last boundary go to this one of the two lists; the other's wait to be written.
    now: usize,
    changed: [VecDeque<u32>; 2],
    /// Whether the other list's are still to be written, each before it changes again.
    pub freezing: bool,
    /// How many keys are dead.
    dead: usize,
    /// The chunk being filled for the tier, and the last one that has landed there.
    pub filling: u64,
    pub landed: u64,
    /// Where eviction goes on.
    hand: u32,
}

/// What is to be done about a key whose change goes to the tier.
pub enum Change {
    /// Its place is empty, or the tier need not know.
    None,
    Put,
    Delete,
}

const NO_PLACE: u32 = u32::MAX;

/// A key being worked on.
pub struct Entry<'a> {
    pub key: &'a [u8],
    pub refs: &'a mut u32,
    pub cells: &'a mut [Cell],
}

impl Keys {
    pub fn new(states: usize) -> Keys {
        Keys {
            index: Index::new(),
            heads: Chunks::new(1),
            cells: Chunks::new(states),
            free: NO_PLACE,
            unused: 0,
            tiered: false,
            now: 0,
            changed: Default::default(),
            freezing: false,
            dead: 0,
            filling: 1,
            landed: 0,
            hand: 0,
        }
    }

    /// Keys for which something is kept.
    pub fn len(&self) -> usize {
        self.index.len() - self.dead
    }

    #[inline]
    fn head(&self, place: u32) -> &Head {
        &self.heads.get(place)[0]
    }

    pub fn hash(&self, place: u32) -> u64 {
        self.head(place).hash
    }

    pub fn key(&self, place: u32) -> &[u8] {
        self.head(place).key.get()
    }

    pub fn cells(&self, place: u32) -> &[Cell] {
        self.cells.get(place)
    }

    #[inline]
    pub fn entry(&mut self, place: u32) -> Entry<'_> {
        let head = &mut self.heads.get_mut(place)[0];
        Entry { key: head.key.get(), refs: &mut head.refs, cells: self.cells.get_mut(place) }
    }

    /// The place of a key, which is made if it is not there. `hint`: what [`bring`](Self::bring) gave for it, however long ago.
    #[inline]
    pub fn place(&mut self, key: &[u8], hash: u64, hint: Option<u32>) -> u32 {
        let heads = &self.heads;
        let is = |p: u32| {
            let head = &heads.get(p)[0];
            head.hash == hash && head.key.get() == key
        };
        // A place without a key has an empty one and hash 0, which together no key has.
        if let Some(p) = hint.filter(|&p| is(p)) {
            return p;
        }
        let place = if self.free == NO_PLACE { self.unused } else { self.free };
        if let Some(p) = self.index.find_or_insert(hash, place, is) {
            return p;
        }
        self.settle_in(place, key, hash);
        place
    }

    /// The place of a key that is in memory.
    pub fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        self.index.find(hash, |p| {
            let head = self.head(p);
            head.hash == hash && head.key.get() == key
        })
    }

    /// Makes the head of a new key at the place that is next.
    fn settle_in(&mut self, place: u32, key: &[u8], hash: u64) {
        if self.free == NO_PLACE {
            self.unused += 1;
            self.heads.reach(place);
            self.cells.reach(place);
        } else {
            self.free = self.head(place).refs;
        }
        let chunk = self.landed as u16;
        let head = &mut self.heads.get_mut(place)[0];
        // A new key is no part of what is still to be written of the last interval.
        *head = Head { hash, refs: 0, chunk, flags: head.flags & CHANGED[self.now], key: KeyBytes::new(key) };
    }

    /// Reads where the search for a hash begins, then where its key probably is, then what lies there and behind it: taken step by step for a group
    /// of keys, without a branch that waits for memory, their cache misses overlap. (Prefetch instructions do less: they wait for the page.)
    #[inline]
    pub fn bring(&self, group: &mut [Wanted]) {
        black_box(group.iter().fold(0, |read, w| read ^ self.index.first(w.hash)));
        let (mut places, mut n) = ([0; GROUP], 0);
        for (i, w) in group.iter_mut().take(GROUP).enumerate() {
            w.hint = self.index.find(w.hash, |_| true);
            places[n.min(i)] = w.hint.unwrap_or(0);
            n += usize::from(w.hint.is_some());
        }
        let places = &places[..n];
        let read = |&p: &u32| self.head(p).hash ^ u64::from(self.cells.get(p).first().is_some_and(Cell::is_empty));
        black_box(places.iter().map(read).fold(0, |all, one| all ^ one));
        places.iter().for_each(|&p| self.touch(p));
    }

    /// Reads what is at a place and behind it.
    #[inline]
    pub fn touch(&self, place: u32) {
        let read: u32 = self.cells.get(place).iter().map(Cell::peek).sum();
        black_box(read.wrapping_add(self.head(place).refs));
    }

    /// A call for this key is over. Forgets the key if nothing is kept for it.
    #[inline]
    pub fn settle(&mut self, place: u32, changed: bool) {
        let empty = self.head(place).refs == 0 && self.cells.get(place).iter().all(Cell::is_empty);
        if self.tiered {
            self.settle_tiered(place, changed, empty);
        } else if empty {
            self.remove(place);
        }
    }

    fn settle_tiered(&mut self, place: u32, changed: bool, empty: bool) {
        if changed {
            self.mark(place);
        }
        let flying = self.is_flying(place);
        let head = &mut self.heads.get_mut(place)[0];
        head.flags |= USED;
        match (empty, head.flags & DEAD != 0) {
            (true, false) if head.flags & STORED == 0 && !flying => self.remove(place),
            (true, false) => {
                head.flags |= DEAD;
                self.dead += 1;
            }
            (false, true) => {
                head.flags &= !DEAD;
                self.dead -= 1;
            }
            _ => {}
        }
    }

    fn remove(&mut self, place: u32) {
        let hash = self.head(place).hash;
        if self.index.remove(hash, place) {
            let head = &mut self.heads.get_mut(place)[0];
            let listed = head.flags & (CHANGED[0] | CHANGED[1]);
            *head = Head { refs: self.free, flags: listed, ..Head::default() };
            self.free = place;
        }
    }

    /// Notes that the tier's record is out of date.
    #[inline]
    fn mark(&mut self, place: u32) {
        let head = &mut self.heads.get_mut(place)[0];
        if head.flags & CHANGED[self.now] == 0 {
            head.flags |= CHANGED[self.now];
            self.changed[self.now].push_back(place);
        }
    }

    /// From now on there is a tier; it knows nothing yet.
    pub fn tier(&mut self) {
        self.tiered = true;
        let all: Vec<u32> = (0..self.unused).filter(|&p| !self.head(p).is_vacant()).collect();
        all.into_iter().for_each(|p| self.mark(p));
    }

    /// Whether this key must be written before it changes.
    #[inline]
    pub fn is_frozen(&self, place: u32) -> bool {
        self.freezing && self.head(place).flags & CHANGED[1 - self.now] != 0
    }

    /// Begins a new interval and gives the places that changed in the last one. All of that before it must be written.
    pub fn freeze(&mut self) -> VecDeque<u32> {
        self.freezing = true;
        self.now = 1 - self.now;
        std::mem::take(&mut self.changed[1 - self.now])
    }

    /// How many places wait that have changed since the last boundary.
    pub fn waiting(&self) -> usize {
        self.changed[self.now].len()
    }

    /// The one of them that has waited longest; what becomes of it is up to the caller.
    pub fn next_changed(&mut self) -> Option<u32> {
        self.changed[self.now].pop_front()
    }

    /// It is still to be written.
    pub fn wait_again(&mut self, place: u32) {
        self.changed[self.now].push_back(place);
    }

    /// The chunk that is being filled takes what is there of a key, if it waits for that: of the last interval, or else of this one.
    pub fn change(&mut self, place: u32, frozen: bool) -> Change {
        let mark = CHANGED[self.now ^ usize::from(frozen)];
        let chunk = self.filling as u16;
        let head = &mut self.heads.get_mut(place)[0];
        if head.flags & mark == 0 {
            return Change::None;
        }
        head.flags &= !mark;
        if head.is_vacant() {
            return Change::None;
        }
        match (head.flags & DEAD != 0, head.flags & STORED != 0) {
            (true, false) => Change::None,
            (true, true) => {
                head.flags &= !STORED;
                head.chunk = chunk;
                Change::Delete
            }
            (false, _) => {
                head.flags |= STORED;
                head.chunk = chunk;
                Change::Put
            }
        }
    }

    /// Whether the chunk that wrote this key last is still on its way to the tier.
    fn is_flying(&self, place: u32) -> bool {
        let ahead = self.head(place).chunk.wrapping_sub(self.landed as u16);
        ahead != 0 && u64::from(ahead) <= self.filling - self.landed
    }

    /// Forgets a key whose deletion has landed, if it is still dead.
    pub fn bury(&mut self, place: u32) {
        let flags = self.head(place).flags;
        if flags & DEAD != 0 && flags & STORED == 0 && !self.is_flying(place) {
            self.dead -= 1;
            self.remove(place);
        }
    }

    /// A key came from the tier.
    pub fn loaded(&mut self, place: u32, refs: u32) {
        let head = &mut self.heads.get_mut(place)[0];
        head.refs = refs;
        head.flags |= STORED | USED;
    }

    /// The next place whose key the tier has as it is and that was not used since the hand came by last; None after `steps` places.
    pub fn next_victim(&mut self, steps: &mut usize, regard: bool) -> Option<u32> {
        while *steps > 0 && self.unused > 0 {
            *steps -= 1;
            let place = self.hand;
            self.hand = if place + 1 < self.unused { place + 1 } else { 0 };
            let flying = self.is_flying(place);
            let head = &mut self.heads.get_mut(place)[0];
            if head.is_vacant() || flying || head.flags & (CHANGED[0] | CHANGED[1]) != 0 {
                continue;
            }
            let used = head.flags & USED != 0;
            head.flags &= !USED;
            match (head.flags & DEAD != 0, head.flags & STORED != 0) {
                (true, _) => self.bury(place),
                (false, true) if !used || !regard => return Some(place),
                _ => {}
            }
        }
        None
    }

    /// Takes a key out of memory.
    pub fn evict(&mut self, place: u32) {
        self.cells.get_mut(place).iter_mut().for_each(|c| *c = Cell::Empty);
        self.remove(place);
    }

    pub fn refs(&self, place: u32) -> u32 {
        self.head(place).refs
    }

    /// Places that are or were in use.
    pub fn places(&self) -> usize {
        self.unused as usize
    }

    /// Bytes that the keys in memory take, about: from a sample.
    pub fn bytes(&self) -> u64 {
        const SAMPLE: u32 = 512;
        // A place in the index takes 8 bytes, and half of its slots are free.
        let fixed = size_of::<Head>() + self.cells.each * size_of::<Cell>() + 16;
        let step = (self.unused / SAMPLE).max(1);
        let (mut seen, mut heap) = (0u64, 0u64);
        for place in (0..self.unused).step_by(step as usize).filter(|&p| !self.head(p).is_vacant()) {
            seen += 1;
            let key = if let KeyBytes::Long(bytes) = &self.head(place).key { bytes.len() } else { 0 };
            heap += (key + self.cells.get(place).iter().map(Cell::heap).sum::<usize>()) as u64;
        }
        self.index.len() as u64 * (fixed as u64 + heap / seen.max(1))
    }

    /// The places of all keys, by key group, then key.
    pub fn sorted(&self) -> Vec<u32> {
        let mut places: Vec<u32> = self.index.places().collect();
        places.sort_unstable_by_key(|&p| (self.hash(p) % millrace_sdk::key::KEY_GROUPS, self.key(p)));
        places
    }

    /// Puts a key in that is not there, and gives its place.
    pub fn put(&mut self, key: &[u8], hash: u64, cells: Vec<Cell>) -> u32 {
        let place = self.place(key, hash, None);
        for (to, cell) in self.cells.get_mut(place).iter_mut().zip(cells) {
            *to = cell;
        }
        place
    }

    /// As [`put`](Self::put) of one that the tier does not have.
    pub fn put_new(&mut self, place: u32, refs: u32) {
        self.heads.get_mut(place)[0].refs = refs;
        if self.tiered {
            self.mark(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::KeyState;
    use super::*;
    use millrace_sdk::{Key, State, StateId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ID: StateId = StateId(0);

    proptest! {
        /// A key is found again until it is settled with nothing kept, and places are reused.
        #[test]
        fn keys_live_while_something_is_kept(ops in prop::collection::vec((0u16..200, any::<bool>()), 0..400)) {
            let mut keys = Keys::new(1);
            let mut model: BTreeMap<u16, u16> = BTreeMap::new();
            let mut last = None;
            for (k, keep) in ops {
                let bytes = k.to_be_bytes();
                let hash = Key::hash(&bytes);
                let mut wanted = [Wanted { hash, ..Wanted::default() }];
                keys.bring(&mut wanted);
                let hint = wanted[0].hint.or(last);
                let p = keys.place(&bytes, hash, hint);
                last = Some(p);
                let mut s = KeyState::new(keys.entry(p).cells);
                prop_assert_eq!(s.get(ID).map(|b| u16::from_be_bytes([b[0], b[1]])), model.get(&k).copied());
                if keep { s.put(ID, &bytes); model.insert(k, k); } else { s.clear(ID); model.remove(&k); }
                keys.settle(p, true);
                prop_assert_eq!(keys.len(), model.len());
            }
        }
    }
}
