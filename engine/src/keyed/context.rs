//! What an operator may do besides reading its key's state: times, timers, holds, questions, rows.

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
        self.holds.add(time, 1);
        self.held += 1;
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

    /// Takes the next timer of a domain, if it is due at `time`.
    #[inline]
    pub fn take_due(&mut self, domain: TimeDomain, time: i64) -> Option<Timer> {
        let d = domain as usize;
        while let Some(timer) = self.timers[d].due(time) {
            if self.claims(timer.1).remove(d, timer.0, timer.2) {
                self.timers[d].pop(timer);
                return Some(timer);
            }
            self.timers[d].pop_stale(timer);
        }
        None
    }

    /// Whether a domain has a timer that is due at `time`.
    pub fn is_due(&mut self, domain: TimeDomain, time: i64) -> bool {
        let d = domain as usize;
        while let Some(timer) = self.timers[d].due(time) {
            if self.claims(timer.1).has(d, timer.0, timer.2) {
                return true;
            }
            self.timers[d].pop_stale(timer);
        }
        false
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
        }
    }
    fn delete_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        if self.work.delete_timer(domain as usize, (time, self.place, tag)) {
            *self.refs -= 1;
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
    }

    fn hold(&mut self, time: i64) {
        self.work.hold(self.place, time);
        *self.refs += 1;
    }
    fn release(&mut self, time: i64) {
        if self.work.release(self.place, time) {
            *self.refs -= 1;
        }
    }

    fn sequence(&mut self) -> u64 {
        self.work.sequence += 1;
        self.work.sequence
    }
}

/// All state of one operator on one worker; [`super::snapshot`] writes and reads the whole of it.
pub struct KeyedState {
    pub keys: Keys,
    pub work: Work,
}

impl KeyedState {
    pub fn new(states: usize, inputs: usize) -> KeyedState {
        KeyedState { keys: Keys::new(states), work: Work::new(inputs) }
    }
}
