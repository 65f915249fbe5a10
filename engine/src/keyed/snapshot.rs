//! All state of an operator as bytes: values, rows, maps, timers, holds, pending questions, sequence and times.
//!
//! Layout, little endian: magic, version, the declared states (name, kind, version, schema id, layout), watermark, processing time, sequence;
//! the number of keys, then each key by key group: key, cells, timers of each domain, holds, questions; last an xxh3 of all before.

use super::claims::HOLDS;
use super::context::{Ask, KeyedState};
use super::state::{Cell, Row};
use millrace_sdk::{Fault, Key, StateDesc, StateKind};
use std::collections::HashMap;
use std::ops::Range;

const MAGIC: &[u8; 4] = b"MRKS";
/// Grows with every change of the layout; older ones stay readable.
pub const VERSION: u32 = 1;

struct Out(Vec<u8>);

impl Out {
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn i64(&mut self, v: i64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn bytes(&mut self, v: &[u8]) {
        self.u64(v.len() as u64);
        self.0.extend_from_slice(v);
    }
    fn len(&mut self, n: usize) {
        self.u64(n as u64);
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(|| damaged("it is cut short"))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| damaged("it is cut short"))
    }
    fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }
    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_le_bytes)
    }
    fn len(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.u64()?).map_err(|_| damaged("a length is out of range"))
    }
    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let n = self.len()?;
        self.take(n)
    }
}

fn damaged(why: &str) -> Fault {
    Fault::data(format!("saved state is damaged: {why}"))
}

fn kind(k: StateKind) -> u8 {
    match k {
        StateKind::Value => 0,
        StateKind::Rows => 1,
        StateKind::Map => 2,
    }
}

fn describe(o: &mut Out, states: &[StateDesc]) {
    o.len(states.len());
    for s in states {
        o.bytes(s.name.as_bytes());
        o.u8(kind(s.kind));
        o.u32(s.version);
        o.u64(s.schema.as_ref().map_or(0, |s| s.id()));
        o.bytes(s.layout.as_bytes());
    }
}

impl KeyedState {
    /// Writes the state of the key groups in `groups`.
    pub fn snapshot(&self, states: &[StateDesc], groups: Range<u64>) -> Vec<u8> {
        let mut o = Out(Vec::new());
        o.0.extend_from_slice(MAGIC);
        o.u32(VERSION);
        describe(&mut o, states);
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
            self.keys.cells(p).iter().for_each(|c| cell(&mut o, c));
            for kind in 0..=HOLDS {
                let list = self.work.claimed(p, kind);
                o.len(list.len());
                for (time, n) in list {
                    o.i64(time);
                    o.u32(n);
                }
            }
            let list = asks.get(&p).map_or(&[][..], |v| v);
            o.len(list.len());
            for a in list {
                o.len(a.store);
                o.u64(a.token);
                o.bytes(&a.key);
            }
        }
        let sum = Key::hash(&o.0);
        o.u64(sum);
        o.0
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
        let mut i = In(body);
        if i.take(4)? != MAGIC {
            return Err(damaged("it does not begin as saved state does"));
        }
        let version = i.u32()?;
        if version != VERSION {
            return Err(Fault::data(format!("saved state has format {version}, this release reads {VERSION}")));
        }
        let mut want = Out(vec![]);
        describe(&mut want, states);
        if i.take(want.0.len()).ok() != Some(&want.0) {
            return Err(Fault::config("the saved state does not fit any more: its declaration or the schema of its rows has changed")
                .hint("undo the edit of the topology, or start with --from scratch"));
        }
        // A worker's groups may come from several, which had fired up to different times: less has certainly been fired.
        let (watermark, now, sequence) = (i.i64()?, i.i64()?, i.u64()?);
        let fresh = self.keys.len() == 0;
        self.work.watermark = if fresh { watermark } else { self.work.watermark.min(watermark) };
        self.work.now = self.work.now.max(now);
        self.work.sequence = self.work.sequence.max(sequence);
        for _ in 0..i.len()? {
            let key = i.bytes()?;
            let cells = states.iter().map(|desc| read_cell(&mut i, desc.kind)).collect::<Result<Vec<_>, _>>()?;
            let place = mine(Key::group(key)).then(|| self.keys.restore(key, cells));
            let mut refs = 0;
            for domain in 0..HOLDS {
                for _ in 0..i.len()? {
                    let (time, tag) = (i.i64()?, i.u32()?);
                    refs += place.map_or(0, |p| u32::from(self.work.set_timer(domain, (time, p, tag))));
                }
            }
            for _ in 0..i.len()? {
                let (time, n) = (i.i64()?, i.u32()?);
                if let Some(p) = place {
                    (0..n).for_each(|_| self.work.hold(p, time));
                    refs += n;
                }
            }
            for _ in 0..i.len()? {
                let (store, token, key) = (i.len()?, i.u64()?, i.bytes()?.to_vec());
                if let Some(place) = place {
                    self.work.asks.insert(self.work.next_ask, Ask { place, store, token, key });
                    self.work.next_ask += 1;
                    refs += 1;
                }
            }
            if let Some(p) = place {
                *self.keys.entry(p).refs = refs;
            }
        }
        if i.0.is_empty() { Ok(()) } else { Err(damaged("it is too long")) }
    }
}

fn rows<'a>(o: &mut Out, n: usize, rows: impl Iterator<Item = &'a Row>) {
    o.u8(2);
    o.len(n);
    for r in rows {
        o.i64(r.time);
        o.u64(r.seq);
        o.bytes(&r.bytes);
    }
}

fn cell(o: &mut Out, cell: &Cell) {
    match cell {
        Cell::Empty => o.u8(0),
        Cell::Short(n, bytes) => {
            o.u8(1);
            o.bytes(&bytes[..*n as usize]);
        }
        Cell::Value(v) => {
            o.u8(1);
            o.bytes(v);
        }
        Cell::Row(r) => rows(o, 1, std::iter::once(r)),
        Cell::Rows(all) => rows(o, all.len(), all.iter()),
        Cell::Map(map) => {
            o.u8(3);
            o.len(map.len());
            for (k, v) in map.iter() {
                o.bytes(k);
                o.bytes(v);
            }
        }
    }
}

fn read_cell(i: &mut In<'_>, kind: StateKind) -> Result<Cell, Fault> {
    Ok(match (i.u8()?, kind) {
        (0, _) => Cell::Empty,
        (1, StateKind::Value) => Cell::value(i.bytes()?),
        (2, StateKind::Rows) => {
            let mut rows = std::collections::VecDeque::new();
            for _ in 0..i.len()? {
                rows.push_back(Row { time: i.i64()?, seq: i.u64()?, bytes: i.bytes()?.into() });
            }
            match rows.len() {
                0 | 1 => rows.pop_front().map_or(Cell::Empty, Cell::Row),
                _ => Cell::Rows(Box::new(rows)),
            }
        }
        (3, StateKind::Map) => {
            let mut map = std::collections::BTreeMap::new();
            for _ in 0..i.len()? {
                map.insert(i.bytes()?.into(), i.bytes()?.to_vec());
            }
            Cell::Map(Box::new(map))
        }
        _ => return Err(damaged("a state is of another kind")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::context::{Cx, Effects};
    use super::super::state::KeyState;
    use super::*;
    use millrace_sdk::key::KEY_GROUPS;
    use millrace_sdk::{Context, State, StateId, TimeDomain};

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
            let mut state = KeyState(e.cells);
            state.put(StateId(0), &key);
            state.insert(StateId(1), k as i64, 1, b"row");
            state.insert(StateId(1), -1, 2, b"");
            state.map_put(StateId(2), b"k", b"v");
            let mut cx = Cx { key: e.key, place, refs: e.refs, work: &mut s.work, effects: &mut fx };
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
