//! All state of an operator as bytes: values, rows, maps, timers, holds, pending questions, sequence and times.
//!
//! Layout, little endian: magic, version, the declared states (name, kind, version, schema id, layout), watermark, processing time, sequence;
//! the number of keys, then each key by key group: key, cells, timers of each domain, holds, questions; last an xxh3 of all before.

use super::claims::HOLDS;
use super::context::{Ask, KeyedState};
use super::record::{In, Out, damaged};
use millrace_sdk::{Fault, Key, StateDesc};
use std::collections::HashMap;
use std::ops::Range;

const MAGIC: &[u8; 4] = b"MRKS";
/// Grows with every change of the layout; older ones stay readable.
pub const VERSION: u32 = 1;

impl KeyedState {
    /// Writes the state of the key groups in `groups`.
    pub fn snapshot(&self, states: &[StateDesc], groups: Range<u64>) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut o = Out { bytes: &mut bytes, short: false };
        o.u32(VERSION);
        o.describe(states);
        o.i64(self.work.watermark);
        o.i64(self.work.now);
        o.u64(self.work.sequence);
        let mut ids: Vec<&u64> = self.work.asks.keys().collect();
        ids.sort_unstable();
        let mut asks: HashMap<u32, Vec<&Ask>> = HashMap::new();
        for ask in ids.into_iter().map(|id| &self.work.asks[id]) {
            asks.entry(ask.place).or_default().push(ask);
        }
        let mine = |p: &u32| groups.contains(&(self.keys.hash(*p) % millrace_sdk::key::KEY_GROUPS));
        let places: Vec<u32> = self.keys.sorted().into_iter().filter(mine).collect();
        o.len(places.len());
        for p in places {
            o.bytes(self.keys.key(p));
            self.keys.cells(p).iter().for_each(|c| o.cell(c));
            o.claims(&self.work, p);
            let list = asks.get(&p).map_or(&[][..], |v| v);
            o.asks(list.len(), list.iter().copied());
        }
        let sum = Key::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Adds what [`snapshot`](Self::snapshot) wrote, of any worker, of those key groups that are `mine`. Pending questions get new ids
    /// and are to be asked again.
    ///
    /// # Errors
    /// Damaged bytes, another layout, or states that are not these.
    pub fn restore(&mut self, states: &[StateDesc], bytes: &[u8], mine: &dyn Fn(u64) -> bool) -> Result<(), Fault> {
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or_else(|| damaged("it is cut short"))?;
        if Key::hash(body) != u64::from_le_bytes(*sum) {
            return Err(damaged("its checksum does not fit"));
        }
        let mut i = In { bytes: body, short: false };
        if i.take(4)? != MAGIC {
            return Err(damaged("it does not begin as saved state does"));
        }
        let version = i.u32()?;
        if version != VERSION {
            return Err(Fault::data(format!("saved state has format {version}, this release reads {VERSION}")));
        }
        i.describe(states)?;
        let (watermark, now, sequence) = (i.i64()?, i.i64()?, i.u64()?);
        self.come_from(watermark, now, sequence);
        for _ in 0..i.len()? {
            let key = i.bytes()?;
            let cells = states.iter().map(|desc| i.cell(desc.kind)).collect::<Result<Vec<_>, _>>()?;
            let (claims, asks) = (i.claims()?, i.asks()?);
            if mine(Key::group(key)) {
                claims[HOLDS].iter().for_each(|&(time, n)| self.work.count_holds(time, n as usize));
                self.settle_in(key, Key::hash(key), cells, &claims, asks);
            }
        }
        if i.bytes.is_empty() { Ok(()) } else { Err(damaged("it is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::KeyState;
    use super::super::context::{Cx, Effects};
    use super::*;
    use millrace_sdk::key::KEY_GROUPS;
    use millrace_sdk::{Context, State, StateId, StateKind, TimeDomain};

    fn states() -> Vec<StateDesc> {
        let s = StateDesc::new;
        vec![s("v", StateKind::Value), s("r", StateKind::Rows), s("m", StateKind::Map)]
    }

    fn filled() -> KeyedState {
        let mut s = KeyedState::new(3, 2);
        let mut fx = Effects::new(vec![]);
        for k in 0..500u32 {
            let key = k.to_be_bytes();
            let place = s.keys.place(&key, Key::hash(&key), None);
            let e = s.keys.entry(place);
            let mut state = KeyState::new(e.cells);
            state.put(StateId(0), &key);
            state.insert(StateId(1), k as i64, 1, b"row");
            state.insert(StateId(1), -1, 2, b"");
            state.map_put(StateId(2), b"k", b"v");
            let mut cx = Cx { key: e.key, place, refs: e.refs, work: &mut s.work, effects: &mut fx, changed: false };
            cx.set_timer(TimeDomain::Event, k as i64, 3);
            cx.set_timer(TimeDomain::Processing, 7, k);
            cx.hold(k as i64);
            cx.hold(k as i64);
            cx.ask(0, &key, k as u64);
            cx.sequence();
        }
        s.work.watermark = 17;
        s.work.now = 99;
        s
    }

    #[test]
    fn all_of_it_survives_also_split_by_key_group() {
        let s = filled();
        let whole = s.snapshot(&states(), 0..KEY_GROUPS);
        for cut in [0, 1, 300, KEY_GROUPS] {
            let mut back = KeyedState::new(3, 2);
            back.restore(&states(), &s.snapshot(&states(), 0..cut), &|_| true).unwrap();
            back.restore(&states(), &s.snapshot(&states(), cut..KEY_GROUPS), &|_| true).unwrap();
            assert_eq!(back.snapshot(&states(), 0..KEY_GROUPS), whole, "cut at {cut}");
            assert_eq!((back.keys.len(), back.work.held, back.work.asks.len()), (500, 1000, 500));
        }
    }

    #[test]
    fn damage_and_changed_states_are_noticed() {
        let bytes = filled().snapshot(&states(), 0..KEY_GROUPS);
        for at in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(KeyedState::new(3, 2).restore(&states(), &bad, &|_| true).is_err(), "byte {at}");
            assert!(KeyedState::new(3, 2).restore(&states(), &bytes[..at], &|_| true).is_err(), "cut at {at}");
        }
        let changes: [fn(&mut StateDesc); 3] = [|s| s.version = 2, |s| s.layout = "n bigint = COUNT(*)".into(), |s| s.name = "w"];
        for change in changes {
            let mut other = states();
            change(&mut other[1]);
            let fault = KeyedState::new(3, 2).restore(&other, &bytes, &|_| true).unwrap_err();
            assert_eq!(fault.kind, millrace_sdk::FaultKind::Config);
        }
    }
}
