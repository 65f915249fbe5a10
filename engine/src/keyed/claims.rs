//! What keeps a key although no row of it is there: its timers and holds, in its own list and in the operator's queues.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// (time, place of the key, tag).
pub type Timer = (i64, u32, u32);

/// Index of the holds among a key's claims; below it are the time domains.
pub const HOLDS: usize = 3;
const KINDS: usize = 4;
const FEW: usize = 3;

/// A timer's time and tag, or a held time and how often it is held.
#[derive(Clone, Copy, Default)]
pub struct Claim {
    time: i64,
    n: u32,
    kind: u8,
}

/// One key's timers and holds. The usual few lie in place.
pub enum Claims {
    Few(u8, [Claim; FEW]),
    /// By kind, each ordered.
    Many(Box<[VecDeque<(i64, u32)>; KINDS]>),
}
const _: () = assert!(size_of::<Claims>() <= 56);

impl Default for Claims {
    fn default() -> Claims {
        Claims::Few(0, Default::default())
    }
}

impl Claims {
    /// Adds a timer; false: it was there.
    #[inline]
    pub fn add(&mut self, kind: usize, time: i64, tag: u32) -> bool {
        match self {
            Claims::Few(len, few) => {
                let n = *len as usize;
                if few[..n].iter().any(|c| (c.kind as usize, c.time, c.n) == (kind, time, tag)) {
                    return false;
                }
                if n < FEW {
                    few[n] = Claim { time, n: tag, kind: kind as u8 };
                    *len += 1;
                    return true;
                }
                self.spill();
                self.add(kind, time, tag)
            }
            Claims::Many(many) => {
                let list = &mut many[kind];
                let at = match list.back() {
                    Some(last) if *last >= (time, tag) => match list.binary_search(&(time, tag)) {
                        Ok(_) => return false,
                        Err(at) => at,
                    },
                    _ => list.len(),
                };
                list.insert(at, (time, tag));
                true
            }
        }
    }

    /// Takes a timer away; false: it was not there.
    #[inline]
    pub fn remove(&mut self, kind: usize, time: i64, tag: u32) -> bool {
        match self {
            Claims::Few(len, few) => {
                let n = *len as usize;
                let Some(i) = few[..n].iter().position(|c| (c.kind as usize, c.time, c.n) == (kind, time, tag)) else { return false };
                few[i] = few[n - 1];
                *len -= 1;
            }
            Claims::Many(many) => {
                let Ok(i) = many[kind].binary_search(&(time, tag)) else { return false };
                many[kind].remove(i);
                self.unspill();
            }
        }
        true
    }

    pub fn has(&self, kind: usize, time: i64, tag: u32) -> bool {
        match self {
            Claims::Few(len, few) => few[..*len as usize].iter().any(|c| (c.kind as usize, c.time, c.n) == (kind, time, tag)),
            Claims::Many(many) => many[kind].binary_search(&(time, tag)).is_ok(),
        }
    }

    #[inline]
    pub fn is_few(&self) -> bool {
        matches!(self, Claims::Few(..))
    }

    /// How often a time is held, to be changed; not to be left at 0.
    fn held(&mut self, time: i64) -> Option<&mut u32> {
        match self {
            Claims::Few(len, few) => few[..*len as usize].iter_mut().find(|c| (c.kind as usize, c.time) == (HOLDS, time)).map(|c| &mut c.n),
            Claims::Many(many) => {
                let list = &mut many[HOLDS];
                let i = list.partition_point(|h| h.0 < time);
                list.get_mut(i).filter(|h| h.0 == time).map(|h| &mut h.1)
            }
        }
    }

    #[inline]
    pub fn hold(&mut self, time: i64) {
        match self.held(time) {
            Some(n) => *n += 1,
            None => _ = self.add(HOLDS, time, 1),
        }
    }

    /// False: the time is not held.
    #[inline]
    pub fn release(&mut self, time: i64) -> bool {
        match self.held(time) {
            None => false,
            Some(1) => self.remove(HOLDS, time, 1),
            Some(n) => {
                *n -= 1;
                true
            }
        }
    }

    /// The least time of a kind.
    pub fn first(&self, kind: usize) -> Option<i64> {
        match self {
            Claims::Few(len, few) => few[..*len as usize].iter().filter(|c| c.kind as usize == kind).map(|c| c.time).min(),
            Claims::Many(many) => many[kind].front().map(|c| c.0),
        }
    }

    /// In order: (time, tag) of a domain's timers, or (time, how often) of the holds.
    pub fn list(&self, kind: usize) -> Vec<(i64, u32)> {
        match self {
            Claims::Few(len, few) => {
                let mine = few[..*len as usize].iter().filter(|c| c.kind as usize == kind);
                let mut list: Vec<_> = mine.map(|c| (c.time, c.n)).collect();
                list.sort_unstable();
                list
            }
            Claims::Many(many) => many[kind].iter().copied().collect(),
        }
    }

    #[cold]
    fn spill(&mut self) {
        let many = std::array::from_fn(|kind| self.list(kind).into());
        *self = Claims::Many(Box::new(many));
    }

    fn unspill(&mut self) {
        if matches!(self, Claims::Many(many) if many.iter().all(VecDeque::is_empty)) {
            *self = Claims::default();
        }
    }
}

/// Microseconds of a coarse slot of the queue, as a power of two, and of a fine one. What is opened at once is to take less than a
/// millisecond: at a million timers a second a coarse slot holds 131,000.
const COARSE: u32 = 17;
const FINE: u32 = 13;
const SLOTS: usize = 1 << (COARSE - FINE);

/// One domain's timers by time, then place, then tag.
///
/// A calendar of two levels, sorted slot by slot as their times come. The keys' own lists decide: what was deleted there stays here as
/// a stale entry until its time or until the stale ones of a later coarse slot outnumber its others.
///
/// Invariant: `early` and `now` hold all entries whose slot has been opened (`coarse`, `fine`); `slots` the later ones of the coarse
/// slot; `later` those of later coarse slots.
pub struct Queue {
    now: Vec<Timer>,
    early: BinaryHeap<Reverse<Timer>>,
    slots: Vec<Vec<Timer>>,
    /// Timers in `slots`.
    waiting: usize,
    /// The next fine slot to be opened.
    fine: usize,
    coarse: i64,
    later: BTreeMap<i64, Later>,
    total: usize,
    stale: usize,
}

/// Timers of a coarse slot that is not opened yet.
#[derive(Default)]
struct Later {
    timers: Vec<Timer>,
    stale: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        let (slots, later) = (vec![], BTreeMap::new());
        Queue { now: vec![], early: BinaryHeap::new(), slots, waiting: 0, fine: SLOTS, coarse: i64::MIN, later, total: 0, stale: 0 }
    }
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.total == self.stale
    }

    /// Entries, stale ones too.
    pub fn len(&self) -> usize {
        self.total
    }

    #[inline]
    pub fn insert(&mut self, timer: Timer) {
        self.total += 1;
        let coarse = timer.0 >> COARSE;
        let slot = (timer.0 >> FINE) as usize % SLOTS;
        if coarse > self.coarse {
            self.later.entry(coarse).or_default().timers.push(timer);
        } else if coarse == self.coarse && slot >= self.fine {
            self.slots[slot].push(timer);
            self.waiting += 1;
        } else {
            self.early.push(Reverse(timer));
        }
    }

    /// A timer was deleted from its key's list; `live` says of an entry whether it is there.
    #[inline]
    pub fn forget(&mut self, timer: Timer, live: impl Fn(&Timer) -> bool) {
        self.stale += 1;
        // Those of the opened slots are about to be taken anyway.
        let Some(slot) = self.later.get_mut(&(timer.0 >> COARSE)) else { return };
        slot.stale += 1;
        let before = slot.timers.len();
        if slot.stale < 64 || slot.stale * 2 < before {
            return;
        }
        slot.timers.retain(live);
        // A timer that was deleted and set again is there twice, and both look alive.
        slot.timers.sort_unstable();
        slot.timers.dedup();
        slot.timers.shrink_to(slot.timers.len() * 2);
        let gone = before - slot.timers.len();
        self.total -= gone;
        self.stale -= gone;
        slot.stale = 0;
        if slot.timers.is_empty() {
            self.later.remove(&(timer.0 >> COARSE));
        }
    }

    /// The first timer, if it is due at `time`; it may be stale.
    #[inline]
    pub fn due(&mut self, time: i64) -> Option<Timer> {
        let first = match (self.now.last(), self.early.peek()) {
            (None, None) => {
                if !self.open(time) {
                    return None;
                }
                self.now.last().copied()
            }
            (Some(a), Some(Reverse(b))) => Some(*a.min(b)),
            (a, b) => a.or(b.map(|b| &b.0)).copied(),
        };
        first.filter(|t| t.0 <= time)
    }

    /// Takes what [`due`](Self::due) gave.
    #[inline]
    pub fn pop(&mut self, timer: Timer) {
        if self.now.last() == Some(&timer) {
            self.now.pop();
        } else {
            self.early.pop();
        }
        self.total -= 1;
    }

    /// As [`pop`](Self::pop) of one that was found to be stale.
    #[inline]
    pub fn pop_stale(&mut self, timer: Timer) {
        self.pop(timer);
        self.stale -= 1;
    }

    /// Places of the timers that will probably come next.
    #[inline]
    pub fn next(&self, n: usize) -> impl Iterator<Item = u32> {
        self.now[self.now.len().saturating_sub(n)..].iter().map(|t| t.1)
    }

    /// Makes the next slot that begins by `time` the present one; `now` and `early` are empty.
    fn open(&mut self, time: i64) -> bool {
        loop {
            if self.waiting > 0 {
                let Some(slot) = (self.fine..SLOTS).find(|&s| !self.slots[s].is_empty()) else { return false };
                if (self.coarse << COARSE) + ((slot as i64) << FINE) > time {
                    return false;
                }
                self.fine = slot + 1;
                // The list just used up serves again.
                std::mem::swap(&mut self.now, &mut self.slots[slot]);
                self.waiting -= self.now.len();
                self.now.sort_unstable_by(|a, b| b.cmp(a));
                return true;
            }
            let Some(first) = self.later.first_entry().filter(|e| e.key() << COARSE <= time) else { return false };
            let (coarse, Later { timers, .. }) = first.remove_entry();
            (self.coarse, self.fine, self.waiting) = (coarse, 0, timers.len());
            if self.slots.is_empty() {
                self.slots.resize_with(SLOTS, Vec::new);
            }
            for t in timers {
                self.slots[(t.0 >> FINE) as usize % SLOTS].push(t);
            }
        }
    }
}

/// Held times of all keys, in steps of 2^14 microseconds: enough for a watermark, and few enough to be quick.
#[derive(Default)]
pub struct Holds(BTreeMap<i64, usize>);

const STEP: u32 = 14;

impl Holds {
    #[inline]
    pub fn add(&mut self, time: i64, n: usize) {
        *self.0.entry(time >> STEP).or_default() += n;
    }

    #[inline]
    pub fn remove(&mut self, time: i64) {
        let Some(n) = self.0.get_mut(&(time >> STEP)) else { return };
        *n -= 1;
        if *n == 0 {
            self.0.remove(&(time >> STEP));
        }
    }

    /// Each step's first time and how often it is held.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = (i64, usize)> {
        self.0.iter().map(|(step, n)| (step << STEP, *n))
    }

    /// A time below every hold, by at most one step.
    pub fn limit(&self) -> i64 {
        self.0.first_key_value().map_or(i64::MAX, |(step, _)| (step << STEP).saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    proptest! {
        /// Keys' lists and the queue together are an ordered set of timers, however far apart these are.
        #[test]
        fn timers_are_an_ordered_set(
            ops in prop::collection::vec((0u8..8, 0u32..4, 0u32..3, 0i64..60, 0u32..32), 0..400),
            end in any::<bool>(),
        ) {
            let mut queue = Queue::default();
            let mut own: HashMap<u32, Claims> = HashMap::new();
            let mut model: BTreeSet<Timer> = BTreeSet::new();
            let mut now = 0i64;
            let mut steps: Vec<_> = ops;
            if end { steps.push((7, 0, 0, i64::MAX, 0)) }
            for (op, place, tag, ahead, shift) in steps {
                let time = now.saturating_add(ahead.saturating_mul(1 << shift)).saturating_sub(5);
                let claims = own.entry(place).or_default();
                match op {
                    0..4 => {
                        let new = claims.add(1, time, tag);
                        prop_assert_eq!(new, model.insert((time, place, tag)));
                        if new { queue.insert((time, place, tag)) }
                    }
                    4..6 => {
                        let timer = *model.iter().find(|t| t.1 == place).unwrap_or(&(time, place, tag));
                        let there = claims.remove(1, timer.0, timer.2);
                        prop_assert_eq!(there, model.remove(&timer));
                        if there { queue.forget(timer, |t| own.get(&t.1).is_some_and(|c| c.has(1, t.0, t.2))) }
                    }
                    _ => {
                        now = now.max(time);
                        let mut fired = vec![];
                        while let Some(t) = queue.due(now) {
                            if own.get_mut(&t.1).is_some_and(|c| c.remove(1, t.0, t.2)) {
                                queue.pop(t);
                                fired.push(t);
                            } else {
                                queue.pop_stale(t);
                            }
                        }
                        let mut due = vec![];
                        while let Some(t) = model.first().copied().filter(|t| t.0 <= now) {
                            model.remove(&t);
                            due.push(t);
                        }
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }

        /// Holds are counted by time, and released only if they are held.
        #[test]
        fn holds_are_counted(ops in prop::collection::vec((any::<bool>(), 0i64..6), 0..60)) {
            let (mut claims, mut holds) = (Claims::default(), Holds::default());
            let mut model: BTreeMap<i64, u32> = BTreeMap::new();
            for (hold, time) in ops {
                let time = time * 100_000;
                if hold {
                    claims.hold(time);
                    holds.add(time, 1);
                    *model.entry(time).or_default() += 1;
                } else {
                    let there = model.get_mut(&time).map(|n| *n -= 1).is_some();
                    model.retain(|_, n| *n > 0);
                    prop_assert_eq!(claims.release(time), there);
                    if there { holds.remove(time) }
                }
                prop_assert_eq!(claims.list(HOLDS), model.iter().map(|(t, n)| (*t, *n)).collect::<Vec<_>>());
                let least = model.first_key_value().map_or(i64::MAX, |m| *m.0);
                prop_assert!(holds.limit() < least || least == i64::MAX);
                prop_assert!(least == i64::MAX || least - holds.limit() <= 1 << STEP);
            }
        }
    }

    #[test]
    fn deleted_timers_do_not_pile_up() {
        let (mut queue, mut claims) = (Queue::default(), Claims::default());
        for i in 0..100_000i64 {
            let time = 1_000_000 + i;
            assert!(claims.add(0, time, 0));
            queue.insert((time, 0, 0));
            if i > 10 {
                assert!(claims.remove(0, time - 10, 0));
                queue.forget((time - 10, 0, 0), |t| claims.has(0, t.0, t.2));
            }
        }
        assert!(queue.total < 10_000 && !queue.is_empty());
    }
}
