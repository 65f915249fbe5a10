//! What an operator may do besides reading its key's state: times, timers, holds, questions, rows.

use super::state::Keys;
use millrace_sdk::{BatchBuilder, Context, Reject, SchemaRef, TimeDomain};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A question to a store that has no answer yet. It is state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub place: u32,
    pub store: usize,
    pub token: u64,
    pub key: Vec<u8>,
}

/// Everything of an operator's state on a worker but the keys' cells.
#[derive(Default)]
pub struct Work {
    /// (time, place, tag), one set a domain. A set: setting a timer again changes nothing.
    pub timers: [BTreeSet<(i64, u32, u32)>; 3],
    /// How often a time is held, by (time, place).
    pub holds: BTreeMap<(i64, u32), u32>,
    /// Sum of `holds`.
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
        Work { watermark: i64::MIN, inputs: vec![i64::MIN; inputs], now: i64::MIN, ..Work::default() }
    }

    /// The next timer of a domain, if it is due at `time`.
    pub fn due(&self, domain: TimeDomain, time: i64) -> Option<(i64, u32, u32)> {
        self.timers[domain as usize].first().copied().filter(|t| t.0 <= time)
    }

    /// The watermark of input 1.
    pub fn right(&self) -> i64 {
        self.inputs.get(1).copied().unwrap_or(self.watermark)
    }

    /// The greatest output watermark that the holds allow.
    pub fn hold_limit(&self) -> i64 {
        self.holds.first_key_value().map_or(i64::MAX, |((t, _), _)| t.saturating_sub(1))
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
    match list.iter_mut().find(|(k, _)| *k == name) {
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
        if self.work.timers[domain as usize].insert((time, self.place, tag)) {
            *self.refs += 1;
        }
    }
    fn delete_timer(&mut self, domain: TimeDomain, time: i64, tag: u32) {
        if self.work.timers[domain as usize].remove(&(time, self.place, tag)) {
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
        *self.work.holds.entry((time, self.place)).or_default() += 1;
        self.work.held += 1;
        *self.refs += 1;
    }
    fn release(&mut self, time: i64) {
        if let Some(n) = self.work.holds.get_mut(&(time, self.place)) {
            *n -= 1;
            if *n == 0 {
                self.work.holds.remove(&(time, self.place));
            }
            self.work.held -= 1;
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
