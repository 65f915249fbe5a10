//! Keys that are not in memory: records in a tier, what wakes them, and how what is in memory gets there.
//!
//! A record is all of one key: timers and holds, questions, cells. Its key is 1, the key group (big endian), the key's bytes. Beside it stands for
//! each time domain an entry without a value that wakes it at its first timer: 2, the domain, the time (so that it sorts), group, key; and one
//! in domain 3 if it has questions. Entries of older versions of a record stay until their time has passed: waking a key in vain does no harm.

use super::claims::HOLDS;
use super::context::{Ask, KeyedState, Work};
use super::record::{In, Out};
use super::state::{Change, Keys};
use super::tiering::{Chunk, Save, Writer};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::tier::Tier;
use millrace_sdk::{Fault, Key, StateDesc, TimeDomain};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

const RECORD: u8 = 1;
const WAKE: u8 = 2;
/// The place of questions among the domains of wake-up entries.
const ASKS: usize = HOLDS;
/// Keys that are woken at a time.
const WOKEN: usize = 256;

/// The key of a record.
pub fn record_key(key: &[u8], hash: u64, out: &mut Vec<u8>) {
    out.push(RECORD);
    out.extend_from_slice(&((hash % KEY_GROUPS) as u16).to_be_bytes());
    out.extend_from_slice(key);
}

/// Where the records of a key group begin.
pub fn group_begin(group: u64) -> Vec<u8> {
    let [a, b] = (group as u16).to_be_bytes();
    vec![RECORD, a, b]
}

/// Where the entries of a domain begin that wake at `time` or later.
fn wake_begin(domain: usize, time: i64) -> Vec<u8> {
    let mut k = vec![WAKE, domain as u8];
    k.extend_from_slice(&(time as u64 ^ 1 << 63).to_be_bytes());
    k
}

/// Behind the entries of a domain that wake at `time` or earlier.
fn wake_end(domain: usize, time: i64) -> Vec<u8> {
    time.checked_add(1).map_or_else(|| vec![WAKE, domain as u8 + 1], |t| wake_begin(domain, t))
}

const KEY_AT: usize = 12;

/// The time and the key of a wake-up entry.
fn woken(entry: &[u8]) -> Option<(i64, &[u8])> {
    let time = u64::from_be_bytes(entry.get(2..10)?.try_into().ok()?);
    Some(((time ^ 1 << 63) as i64, entry.get(KEY_AT..)?))
}

/// The part of a state that lies in a tier.
pub struct Below {
    tier: Arc<dyn Tier>,
    writer: Writer,
    chunk: Chunk,
    /// Deleted keys by the chunk that says so.
    dying: VecDeque<(u64, Vec<u32>)>,
    /// Records whose keys are not in memory.
    pub cold: u64,
    /// No key that is not in memory has a timer of the domain before this; None: it has none.
    wakes: [Option<i64>; HOLDS],
    /// Entries before this one need not be looked at any more.
    cursors: [Vec<u8>; HOLDS],
    /// And before this one they are deleted.
    purged: [Vec<u8>; HOLDS],
    frozen: Option<Frozen>,
    /// The tier may have entries of keys with questions.
    asked: bool,
    scratch: Vec<u8>,
}

/// An interval's changes that are still to be written.
struct Frozen {
    places: VecDeque<u32>,
    /// Ids of the questions by place.
    asks: HashMap<u32, Vec<u64>>,
    save: Save,
}

impl Below {
    pub fn new(tier: Arc<dyn Tier>, writer: Writer) -> Below {
        let begin = |domain| wake_begin(domain, i64::MIN);
        Below {
            tier,
            writer,
            chunk: Chunk::new(1),
            dying: VecDeque::new(),
            cold: 0,
            wakes: [None; HOLDS],
            cursors: std::array::from_fn(begin),
            purged: std::array::from_fn(begin),
            frozen: None,
            asked: false,
            scratch: vec![],
        }
    }

    pub fn has_timers(&self, domain: TimeDomain) -> bool {
        self.wakes[domain as usize].is_some()
    }

    /// Takes what is there of a key into the chunk.
    fn save(&mut self, keys: &mut Keys, work: &Work, place: u32, asks: &[&Ask], frozen: bool) {
        let change = keys.change(place, frozen);
        let (key, hash) = (keys.key(place), keys.hash(place));
        match change {
            Change::None => return,
            Change::Delete => {
                self.chunk.line(|k| record_key(key, hash, k), None::<fn(&mut Vec<u8>)>);
                match self.dying.back_mut() {
                    Some((number, list)) if *number == self.chunk.number => list.push(place),
                    _ => self.dying.push_back((self.chunk.number, vec![place])),
                }
            }
            Change::Put => {
                let value = |out: &mut Vec<u8>| {
                    let mut o = Out { bytes: out, short: true };
                    o.claims(work, place);
                    o.asks(asks.len(), asks.iter().copied());
                    keys.cells(place).iter().for_each(|c| o.cell(c));
                };
                self.chunk.line(|k| record_key(key, hash, k), Some(value));
                wake(&mut self.chunk, key, hash, |domain| if domain < HOLDS { work.first_timer(place, domain) } else { None });
            }
        }
        if self.chunk.bytes.len() >= self.writer.chunk {
            keys.filling = self.send();
        }
    }

    /// Sends what is in the chunk; the next one's number.
    fn send(&mut self) -> u64 {
        let next = self.chunk.number + 1;
        self.writer.write(std::mem::replace(&mut self.chunk, self.writer.empty(next)));
        next
    }

    /// Says what need not be looked at any more, as all that was due at `fired` has fired.
    fn purge(&mut self, fired: [i64; HOLDS]) {
        for (domain, time) in fired.into_iter().enumerate() {
            if self.cold == 0 && time > i64::MIN {
                self.cursors[domain] = wake_end(domain, time).max(std::mem::take(&mut self.cursors[domain]));
            }
            if self.cursors[domain] > self.purged[domain] {
                let from = std::mem::replace(&mut self.purged[domain], self.cursors[domain].clone());
                self.chunk.ranges.push((from, self.cursors[domain].clone()));
            }
        }
    }
}

/// Adds the entries that wake a key.
fn wake(chunk: &mut Chunk, key: &[u8], hash: u64, first: impl Fn(usize) -> Option<i64>) {
    for (domain, time) in (0..=ASKS).filter_map(|domain| first(domain).map(|time| (domain, time))) {
        let name = |k: &mut Vec<u8>| {
            k.extend_from_slice(&wake_begin(domain, time));
            k.extend_from_slice(&((hash % KEY_GROUPS) as u16).to_be_bytes());
            k.extend_from_slice(key);
        };
        chunk.line(name, Some(|_: &mut Vec<u8>| ()));
    }
}

impl KeyedState {
    /// Before a key is worked on: if the last interval's state of it is still to be written, that is done now.
    #[inline]
    pub fn enter(&mut self, place: u32) {
        if self.keys.is_frozen(place) {
            self.save_frozen(place);
        }
    }

    fn save_frozen(&mut self, place: u32) {
        let Some(below) = &mut self.below else { return };
        let ids = below.frozen.as_ref().and_then(|f| f.asks.get(&place)).cloned().unwrap_or_default();
        let asks: Vec<&Ask> = ids.iter().filter_map(|id| self.work.asks.get(id)).collect();
        below.save(&mut self.keys, &self.work, place, &asks, true);
    }

    /// From now on a tier takes what is kept, and has what is not in memory.
    pub fn put_below(&mut self, below: Below) {
        self.keys.tier();
        self.below = Some(Box::new(below));
    }

    /// Takes note of what has been written meanwhile.
    pub fn refresh(&mut self) {
        let Some(below) = &mut self.below else { return };
        self.keys.landed = below.writer.landed();
        while below.dying.front().is_some_and(|(number, _)| *number <= self.keys.landed) {
            below.dying.pop_front().into_iter().flat_map(|(_, places)| places).for_each(|p| self.keys.bury(p));
        }
    }

    /// Up to where each domain's timers have fired, once all that was due has.
    fn fired(&self) -> [i64; HOLDS] {
        let mut fired = [0; HOLDS];
        fired[TimeDomain::Event as usize] = self.work.watermark;
        fired[TimeDomain::Right as usize] = self.work.right();
        fired[TimeDomain::Processing as usize] = self.work.now;
        fired
    }

    /// A boundary: all that is kept now belongs into the checkpoint. It is written bit by bit, see [`thaw`](Self::thaw).
    pub fn freeze(&mut self, save: Save) {
        while self.thaw(true) {}
        let fired = self.fired();
        let Some(below) = &mut self.below else { return };
        below.purge(fired);
        let mut asks: HashMap<u32, Vec<u64>> = HashMap::new();
        self.work.asks.iter().for_each(|(id, ask)| asks.entry(ask.place).or_default().push(*id));
        if below.asked || !asks.is_empty() {
            // Keys with questions are in memory, all of them: what stands here is always the whole.
            below.chunk.ranges.push((wake_begin(ASKS, i64::MIN), vec![WAKE, ASKS as u8 + 1]));
            self.keys.filling = below.send();
            for place in asks.keys() {
                wake(&mut below.chunk, self.keys.key(*place), self.keys.hash(*place), |domain| (domain == ASKS).then_some(0));
            }
            below.asked = !asks.is_empty();
        }
        below.frozen = Some(Frozen { places: self.keys.freeze(), asks, save });
    }

    /// Writes some more of the last interval's changes, all if `whole`; true while there is more.
    pub fn thaw(&mut self, whole: bool) -> bool {
        const SOME: usize = 2048;
        for _ in 0..if whole { usize::MAX } else { SOME } {
            let Some(below) = &mut self.below else { return false };
            let Some(frozen) = &mut below.frozen else { return false };
            if !whole && below.writer.is_full() {
                return true;
            }
            match frozen.places.pop_front() {
                Some(place) => self.save_frozen(place),
                None => {
                    self.keys.freezing = false;
                    let save = below.frozen.take().map(|f| f.save);
                    self.keys.filling = below.send();
                    save.into_iter().for_each(|s| below.writer.checkpoint(s));
                    return false;
                }
            }
        }
        true
    }

    /// Whether more may be sent to the tier.
    pub fn is_clogged(&self) -> bool {
        self.below.as_ref().is_some_and(|b| b.writer.is_full())
    }

    /// Writes a chunk of changes since the last boundary, if there are enough keys of so many bytes for one, so that they can be evicted. Keys
    /// with questions stay.
    pub fn write_back(&mut self, each: u64) {
        let Some(below) = &self.below else { return };
        let chunk = below.writer.chunk;
        if self.keys.waiting() as u64 * each >= chunk as u64 {
            self.write_changes(chunk);
        }
    }

    /// Writes changes since the last boundary, about `bytes` of them.
    pub fn write_changes(&mut self, bytes: usize) {
        let Some(below) = self.below.as_mut().filter(|b| b.frozen.is_none()) else { return };
        let mut written = 0;
        for _ in 0..self.keys.waiting() {
            if written >= bytes {
                break;
            }
            let Some(place) = self.keys.next_changed() else { break };
            if self.keys.refs(place) > self.work.claim_count(place) {
                self.keys.wait_again(place);
                continue;
            }
            let before = (below.chunk.number, below.chunk.bytes.len());
            below.save(&mut self.keys, &self.work, place, &[], false);
            written += if before.0 == below.chunk.number { below.chunk.bytes.len() - before.1 } else { 0 };
        }
        if !below.chunk.lines.is_empty() {
            self.keys.filling = below.send();
        }
    }

    /// Takes keys out of memory that the tier has as they are: up to `n`, looking at up to `steps`; those that were used lately are spared if
    /// `regard`. How many went.
    pub fn evict(&mut self, n: usize, mut steps: usize, regard: bool) -> usize {
        let fired = self.fired();
        let Some(below) = &mut self.below else { return 0 };
        let mut gone = 0;
        while gone < n
            && let Some(place) = self.keys.next_victim(&mut steps, regard)
        {
            let first: [Option<i64>; HOLDS] = std::array::from_fn(|domain| self.work.first_timer(place, domain));
            let due = first.iter().zip(fired).any(|(first, fired)| first.is_some_and(|t| t <= fired));
            if due || self.keys.refs(place) > self.work.claim_count(place) {
                continue;
            }
            for (wakes, first) in below.wakes.iter_mut().zip(first) {
                *wakes = wakes.iter().copied().chain(first).min();
            }
            self.work.drop_claims(place);
            self.keys.evict(place);
            below.cold += 1;
            gone += 1;
        }
        gone
    }

    /// Writes all that has changed, waits until it is written, and takes all keys out of memory that can be.
    pub fn spill(&mut self) {
        while self.thaw(true) {}
        self.write_changes(usize::MAX);
        if let Some(below) = &self.below {
            below.writer.wait(below.chunk.number - 1);
        }
        self.refresh();
        let places = self.keys.places();
        self.evict(usize::MAX, 2 * places, false);
    }

    /// Whether a key that is not in memory may be in the tier.
    #[inline]
    pub fn has_cold(&self) -> bool {
        self.below.as_ref().is_some_and(|b| b.cold > 0)
    }

    /// Brings those of these keys into memory that are in the tier and not there.
    pub fn load(&mut self, states: &[StateDesc], keys: &[(&[u8], u64)]) -> Result<(), Fault> {
        let Some(below) = self.below.take() else { return Ok(()) };
        let (mut below, mut names, mut ends) = (below, vec![], vec![]);
        names.append(&mut below.scratch);
        for (key, hash) in keys {
            record_key(key, *hash, &mut names);
            ends.push(names.len());
        }
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let wanted: Vec<&[u8]> = begins.zip(&ends).map(|(from, to)| &names[from..*to]).collect();
        let tier = below.tier.clone();
        let loaded = tier.get(&wanted, &mut |i, record| {
            let (key, hash) = keys[i];
            if self.keys.find(key, hash).is_none() {
                below.cold = below.cold.saturating_sub(1);
                self.unpack(states, key, hash, record)?;
            }
            Ok(())
        });
        names.clear();
        below.scratch = names;
        self.below = Some(below);
        loaded
    }

    /// Puts a record into memory.
    fn unpack(&mut self, states: &[StateDesc], key: &[u8], hash: u64, record: &[u8]) -> Result<(), Fault> {
        let mut i = In { bytes: record, short: true };
        let (claims, asks) = (i.claims()?, i.asks()?);
        let cells = states.iter().map(|desc| i.cell(desc.kind)).collect::<Result<Vec<_>, _>>()?;
        let place = self.keys.put(key, hash, cells);
        let refs = self.work.add_claims(place, &claims) + self.put_asks(place, asks);
        self.keys.loaded(place, refs);
        Ok(())
    }

    /// Brings keys into memory that have timers at `time` or earlier; the time up to which all have been.
    pub fn wake(&mut self, states: &[StateDesc], domain: TimeDomain, time: i64) -> Result<i64, Fault> {
        let d = domain as usize;
        let Some(below) = &mut self.below else { return Ok(time) };
        if below.wakes[d].is_none_or(|first| first > time) {
            return Ok(time);
        }
        if below.cold == 0 {
            below.wakes[d] = None;
            return Ok(time);
        }
        let (mut found, mut last, mut next) = (vec![], None, None);
        let begin = below.cursors[d].clone();
        below.tier.scan(&begin, &[WAKE, d as u8 + 1], &mut |entry, _| {
            let Some((at, key)) = woken(entry) else { return Err(super::record::damaged("an entry is too short")) };
            if at > time || found.len() >= WOKEN {
                next = Some(at);
                return Ok(false);
            }
            found.push(key.to_vec());
            last = Some((at, entry.to_vec()));
            Ok(true)
        })?;
        below.wakes[d] = next;
        let reached = match (&last, next) {
            (Some((at, _)), Some(next)) if next <= time => *at,
            _ => time,
        };
        if let Some((_, mut entry)) = last {
            // The least key behind it.
            entry.push(0);
            below.cursors[d] = entry;
        }
        let wanted: Vec<(&[u8], u64)> = found.iter().map(|k| (&k[..], Key::hash(k))).collect();
        let cold: Vec<(&[u8], u64)> = wanted.into_iter().filter(|(k, h)| self.keys.find(k, *h).is_none()).collect();
        if !cold.is_empty() {
            self.load(states, &cold)?;
        }
        Ok(reached)
    }

    /// The tier has records already, and their keys, `cold` of them, are not in memory.
    pub fn adopt(&mut self, states: &[StateDesc], cold: u64) -> Result<(), Fault> {
        let Some(below) = &mut self.below else { return Ok(()) };
        below.cold += cold;
        for d in 0..HOLDS {
            below.tier.scan(&below.cursors[d], &[WAKE, d as u8 + 1], &mut |entry, _| {
                below.wakes[d] = woken(entry).map(|(at, _)| at);
                Ok(false)
            })?;
        }
        let (begin, mut asking) = (wake_begin(ASKS, i64::MIN), vec![]);
        below.tier.scan(&begin, &[WAKE, ASKS as u8 + 1], &mut |entry, _| {
            asking.extend(woken(entry).map(|(_, key)| key.to_vec()));
            Ok(true)
        })?;
        below.asked = true;
        let wanted: Vec<(&[u8], u64)> = asking.iter().map(|k| (&k[..], Key::hash(k))).collect();
        wanted.chunks(WOKEN).try_for_each(|some| self.load(states, some))
    }

    /// Takes records of other key groups' owner from its tier into this one, while nothing else works on it: those in the groups from
    /// (included) to (excluded). How many they are.
    pub fn import(&mut self, from: &dyn Tier, groups: (u64, u64)) -> Result<u64, Fault> {
        let Some(below) = &mut self.below else { return Ok(0) };
        let (work, mut records) = (&mut self.work, 0);
        from.scan(&group_begin(groups.0), &group_begin(groups.1), &mut |name, record| {
            let Some(key) = name.get(3..) else { return Err(super::record::damaged("a key is too short")) };
            let hash = Key::hash(key);
            let mut i = In { bytes: record, short: true };
            let (claims, asks) = (i.claims()?, i.asks()?);
            claims[HOLDS].iter().for_each(|&(time, n)| work.count_holds(time, n as usize));
            below.chunk.line(|k| k.extend_from_slice(name), Some(|v: &mut Vec<u8>| v.extend_from_slice(record)));
            wake(&mut below.chunk, key, hash, |d| match d {
                ASKS => (!asks.is_empty()).then_some(0),
                _ => claims[d].iter().map(|c| c.0).min(),
            });
            records += 1;
            if below.chunk.bytes.len() >= below.writer.chunk {
                below.send();
                below.writer.wait_for_room();
            }
            Ok(true)
        })?;
        let last = below.chunk.number;
        self.keys.filling = below.send();
        below.writer.wait(last);
        Ok(records)
    }
}
