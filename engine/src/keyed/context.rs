//! What an operator may do besides reading its key's state: times, timers, holds, questions, rows.

use super::below::Below;
use super::cells::Cell;
use super::claims::{Claims, HOLDS, Holds, Queue, Timer};
use super::state::{Chunks, Keys};
use millrace_sdk::{BatchBuilder, Context, Reject, SchemaRef, TimeDomain};
use std::collections::HashMap;

/// A question to a store that has no answer yet. It is state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub place: u32,
    pub store: usize,
    pub token: u64,
    pub key: Vec<u8>,
}

/// Everything of an operator's state on a worker but the keys' cells.
pub struct Work {
    /// Each key's timers and holds by its place, as far as any has had some; those of a place without a key are empty.
    claims: Chunks<Claims>,
    /// All timers, one queue a domain.
    timers: [Queue; HOLDS],
    holds: Holds,
    /// How many holds there are.
    pub held: usize,
    pub asks: HashMap<u64, Ask>,
    pub next_ask: u64,
    pub sequence: u64,
    /// What was fired up to.
    pub watermark: i64,
    pub inputs: Vec<i64>,
    /// Processing time; only grows.
    pub now: i64,
}

impl Work {
    pub fn new(inputs: usize) -> Work {
        Work {
            claims: Chunks::new(1),
            timers: Default::default(),
            holds: Holds::default(),
            held: 0,
            asks: HashMap::new(),
            next_ask: 0,
            sequence: 0,
            watermark: i64::MIN,
            inputs: vec![i64::MIN; inputs],
            now: i64::MIN,
        }
    }

    #[inline]
    fn claims(&mut self, place: u32) -> &mut Claims {
        self.claims.reach(place);
        &mut self.claims.get_mut(place)[0]
    }

    /// Sets a timer; false: it was set.
    #[inline]
    pub fn set_timer(&mut self, domain: usize, timer: Timer) -> bool {
        let new = self.claims(timer.1).add(domain, timer.0, timer.2);
        if new {
            self.timers[domain].insert(timer);
        }
        new
    }

    /// Deletes a timer; false: it was not set.
    #[inline]
    pub fn delete_timer(&mut self, domain: usize, timer: Timer) -> bool {
        let there = self.claims(timer.1).remove(domain, timer.0, timer.2);
        if there {
            let claims = &self.claims;
            self.timers[domain].forget(timer, |t| claims.get(t.1)[0].has(domain, t.0, t.2));
        }
        there
    }

    pub fn hold(&mut self, place: u32, time: i64) {
        self.claims(place).hold(time);
        self.count_holds(time, 1);
    }

    /// Holds of a key count also while it is not in memory.
    pub fn count_holds(&mut self, time: i64, n: usize) {
        self.holds.add(time, n);
        self.held += n;
    }

    /// Bytes of timers and holds, about, for so many keys.
    fn bytes(&self, keys: usize) -> usize {
        let claims = if self.claims.reaches(0) { keys * size_of::<Claims>() } else { 0 };
        claims + self.timers.iter().map(|q| q.len() * size_of::<Timer>()).sum::<usize>()
    }

    /// All holds, by step: see [`Holds`].
    pub fn holds(&self) -> impl ExactSizeIterator<Item = (i64, usize)> {
        self.holds.steps()
    }

    /// Adds what a key has claimed, whose holds are counted already; the number of claims.
    pub fn add_claims(&mut self, place: u32, claims: &[Vec<(i64, u32)>; HOLDS + 1]) -> u32 {
        let mut n = 0;
        for (kind, list) in claims.iter().enumerate() {
            for &(time, tag) in list {
                if kind < HOLDS {
                    n += u32::from(self.set_timer(kind, (time, place, tag)));
                } else {
                    (0..tag).for_each(|_| self.claims(place).hold(time));
                    n += tag;
                }
            }
        }
        n
    }

    /// Takes what a key has claimed out of memory; its holds go on counting.
    pub fn drop_claims(&mut self, place: u32) {
        if !self.claims.reaches(place) {
            return;
        }
        for domain in 0..HOLDS {
            for (time, tag) in self.claimed(place, domain) {
                self.delete_timer(domain, (time, place, tag));
            }
        }
        *self.claims(place) = Claims::default();
    }

    /// A key's first timer of a domain.
    pub fn first_timer(&self, place: u32, domain: usize) -> Option<i64> {
        if self.claims.reaches(place) { self.claims.get(place)[0].first(domain) } else { None }
    }

    /// How many claims a key has.
    pub fn claim_count(&self, place: u32) -> u32 {
        (0..=HOLDS).flat_map(|kind| self.claimed(place, kind).into_iter().map(move |(_, n)| if kind == HOLDS { n } else { 1 })).sum()
    }

    /// False: the key does not hold that time.
    pub fn release(&mut self, place: u32, time: i64) -> bool {
        let there = self.claims(place).release(time);
        if there {
            self.holds.remove(time);
            self.held -= 1;
        }
        there
    }

    /// What a key has claimed, in order: (time, tag) of a domain's timers, or (time, how often) of [`HOLDS`].
    pub fn claimed(&self, place: u32, kind: usize) -> Vec<(i64, u32)> {
        if self.claims.reaches(place) { self.claims.get(place)[0].list(kind) } else { vec![] }
    }

    /// Whether a domain has any timer.
    pub fn has_timers(&self, domain: TimeDomain) -> bool {
        !self.timers[domain as usize].is_empty()
    }

    /// The next timer of a domain, if it is due at `time`.
    #[inline]
    pub fn next_due(&mut self, domain: TimeDomain, time: i64) -> Option<Timer> {
        let d = domain as usize;
        while let Some(timer) = self.timers[d].due(time) {
            if self.claims(timer.1).has(d, timer.0, timer.2) {
                return Some(timer);
            }
            self.timers[d].pop_stale(timer);
        }
        None
    }

    /// Takes what [`next_due`](Self::next_due) gave.
    #[inline]
    pub fn take(&mut self, domain: TimeDomain, timer: Timer) {
        self.claims(timer.1).remove(domain as usize, timer.0, timer.2);
        self.timers[domain as usize].pop(timer);
    }

    /// Places of the timers of a domain that will probably come next.
    pub fn next_timers(&self, domain: TimeDomain, n: usize) -> impl Iterator<Item = u32> {
        self.timers[domain as usize].next(n).inspect(|&p| _ = std::hint::black_box(self.claims.get(p)[0].is_few()))
    }

    /// The watermark of input 1.
    pub fn right(&self) -> i64 {
        self.inputs.get(1).copied().unwrap_or(self.watermark)
    }

    /// The greatest output watermark that the holds allow.
    pub fn hold_limit(&self) -> i64 {
        self.holds.limit()
    }
}

/// What calls have brought about and the engine has not yet carried out.
pub struct Effects {
    pub out: Vec<BatchBuilder>,
    pub rejects: Vec<Reject>,
    pub dropped: Vec<(&'static str, u64)>,
    pub counters: Vec<(&'static str, u64)>,
    /// Ids of new questions.
    pub asked: Vec<u64>,
}

impl Effects {
    pub fn new(ports: Vec<SchemaRef>) -> Effects {
        let out = ports.into_iter().map(BatchBuilder::new).collect();
        Effects { out, rejects: vec![], dropped: vec![], counters: vec![], asked: vec![] }
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.out.iter().any(BatchBuilder::is_full)
    }
}

fn add(list: &mut Vec<(&'static str, u64)>, name: &'static str, n: u64) {
    // Mostly the very same name: then its letters need not be compared.
    match list.iter_mut().find(|(k, _)| std::ptr::eq(*k, name) || *k == name) {
        Some((_, v)) => *v += n,
        None => list.push((name, n)),
    }
}

/// The context of one call.
pub struct Cx<'a> {
    pub key: &'a [u8],
    pub place: u32,
    pub refs: &'a mut u32,
    pub work: &'a mut Work,
    pub effects: &'a mut Effects,
    /// Whether a call has changed what is kept for the key.
    pub changed: bool,
}

impl Context for Cx<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }
    fn watermark(&self) -> i64 {
        self.work.watermark
    }
    fn input_watermark(&self, input: usize) -> i64 {
        self.work.inputs.get(input).copied().unwrap_or(i64::MAX)
    }
    fn now(&self) -> i64 {
        self.work.now
    }

    fn set_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        if self.work.set_timer(domain as usize, (time, self.place, tag)) {
            *self.refs += 1;
            self.changed = true;
        }
    }
    fn delete_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        if self.work.delete_timer(domain as usize, (time, self.place, tag)) {
            *self.refs -= 1;
            self.changed = true;
        }
    }

    #[inline]
    fn out(&mut self, port: usize) -> &mut BatchBuilder {
        &mut self.effects.out[port]
    }
    fn reject(&mut self, reject: Reject) {
        self.effects.rejects.push(reject);
    }
    fn drop_row(&mut self, reason: &'static str) {
        add(&mut self.effects.dropped, reason, 1);
    }
    fn count(&mut self, counter: &'static str, n: u64) {
        add(&mut self.effects.counters, counter, n);
    }

    fn ask(&mut self, store: usize, store_key: &[u8], token: u64) {
        let id = self.work.next_ask;
        self.work.next_ask += 1;
        self.work.asks.insert(id, Ask { place: self.place, store, token, key: store_key.to_vec() });
        self.effects.asked.push(id);
        *self.refs += 1;
        self.changed = true;
    }

    fn hold(&mut self, time: i64) {
        self.work.hold(self.place, time);
        *self.refs += 1;
        self.changed = true;
    }
    fn release(&mut self, time: i64) {
        if self.work.release(self.place, time) {
            *self.refs -= 1;
            self.changed = true;
        }
    }

    fn sequence(&mut self) -> u64 {
        self.work.sequence += 1;
        self.work.sequence
    }
}

/// All state of one operator on one worker; [`super::snapshot`] writes and reads the whole of it, [`super::below`] what is not in memory.
pub struct KeyedState {
    pub keys: Keys,
    pub work: Work,
    pub below: Option<Box<Below>>,
    /// It goes on from what others had.
    restored: bool,
}

impl KeyedState {
    pub fn new(states: usize, inputs: usize) -> KeyedState {
        KeyedState { keys: Keys::new(states), work: Work::new(inputs), below: None, restored: false }
    }

    /// Goes on from these times. A worker's keys may come from several, which had fired up to different ones: less has certainly been fired.
    pub fn come_from(&mut self, watermark: i64, now: i64, sequence: u64) {
        self.work.watermark = if self.restored { self.work.watermark.min(watermark) } else { watermark };
        self.work.now = self.work.now.max(now);
        self.work.sequence = self.work.sequence.max(sequence);
        self.restored = true;
    }

    /// Puts in a key that was saved, and of which the tier has no record; holds are counted already.
    pub fn settle_in(&mut self, key: &[u8], hash: u64, cells: Vec<Cell>, claims: &[Vec<(i64, u32)>; HOLDS + 1], asks: Vec<Question>) {
        let place = self.keys.put(key, hash, cells);
        let refs = self.work.add_claims(place, claims) + self.put_asks(place, asks);
        self.keys.put_new(place, refs);
    }

    /// Adds questions to be asked again, under new ids; how many they are.
    pub fn put_asks(&mut self, place: u32, asks: Vec<Question>) -> u32 {
        let n = asks.len() as u32;
        for (store, token, key) in asks {
            self.work.asks.insert(self.work.next_ask, Ask { place, store, token, key });
            self.work.next_ask += 1;
        }
        n
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> u64 {
        self.keys.bytes() + self.work.bytes(self.keys.len()) as u64
    }

    /// Keys for which something is kept, in memory or not.
    pub fn len(&self) -> u64 {
        self.keys.len() as u64 + self.below.as_ref().map_or(0, |b| b.cold)
    }

    /// Whether a domain has any timer.
    pub fn has_timers(&self, domain: TimeDomain) -> bool {
        self.work.has_timers(domain) || self.below.as_ref().is_some_and(|b| b.has_timers(domain))
    }

    /// Whether a timer, question or held time is left.
    pub fn is_idle(&self) -> bool {
        let domains = [TimeDomain::Event, TimeDomain::Processing, TimeDomain::Right];
        !domains.iter().any(|d| self.has_timers(*d)) && self.work.asks.is_empty() && self.work.held == 0
    }
}

/// Store, token, key.
pub type Question = (usize, u64, Vec<u8>);
