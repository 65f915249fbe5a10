//! State in memory: a table of keys, each with its cells. Everything goes through bytes, as it will where state lies on disk.

use hashbrown::HashTable;
use millrace_sdk::{Key, State, StateId, Visit};
use std::collections::{BTreeMap, VecDeque};

/// A row of a Rows state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub time: i64,
    pub seq: u64,
    pub bytes: Box<[u8]>,
}

/// What one declared state holds for one key: 40 bytes, and nothing behind them while empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    #[default]
    Empty,
    Value(Vec<u8>),
    /// A Rows state of one row, as most keys of a join have: no list, and two cache misses less.
    Row(Row),
    /// Ordered by (time, sequence number).
    Rows(Box<VecDeque<Row>>),
    Map(Box<BTreeMap<Box<[u8]>, Vec<u8>>>),
}

/// The cells of a key; the usual single one lies in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cells {
    One(Cell),
    Many(Box<[Cell]>),
}

impl Cells {
    pub fn new(states: usize) -> Cells {
        if states == 1 { Cells::One(Cell::Empty) } else { Cells::Many(vec![Cell::Empty; states].into()) }
    }

    #[inline]
    pub fn all(&self) -> &[Cell] {
        match self {
            Cells::One(c) => std::slice::from_ref(c),
            Cells::Many(c) => c,
        }
    }

    #[inline]
    pub fn all_mut(&mut self) -> &mut [Cell] {
        match self {
            Cells::One(c) => std::slice::from_mut(c),
            Cells::Many(c) => c,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.all().iter().all(|c| matches!(c, Cell::Empty))
    }
}

/// A key and all that is kept for it.
pub struct Entry {
    pub hash: u64,
    pub key: Box<[u8]>,
    pub cells: Cells,
    /// Timers, holds and asks of this key.
    pub refs: u32,
}
const _: () = assert!(size_of::<Entry>() <= 80);

const CHUNK: usize = 1 << 12;

/// All keys of a worker's operator.
///
/// Invariant: a key whose cells are empty and that has no timer, hold or ask is not in the table. Places are stable while a key lives,
/// so timers, holds and asks name keys by place.
pub struct Keys {
    states: usize,
    table: HashTable<u32>,
    /// In chunks, so that growth moves nothing.
    chunks: Vec<Vec<Entry>>,
    free: Vec<u32>,
}

impl Keys {
    pub fn new(states: usize) -> Keys {
        Keys { states, table: HashTable::new(), chunks: vec![], free: vec![] }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub fn entry(&self, place: u32) -> &Entry {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    #[inline]
    pub fn entry_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    /// The place of a key, which is made if it is not there.
    #[inline]
    pub fn place(&mut self, key: &[u8], hash: u64) -> u32 {
        let chunks = &self.chunks;
        let at = |p: u32| &chunks[p as usize / CHUNK][p as usize % CHUNK];
        if let Some(&p) = self.table.find(hash, |&p| at(p).hash == hash && *at(p).key == *key) {
            return p;
        }
        self.insert(key, hash)
    }

    fn insert(&mut self, key: &[u8], hash: u64) -> u32 {
        let entry = Entry { hash, key: key.into(), cells: Cells::new(self.states), refs: 0 };
        let place = match self.free.pop() {
            Some(p) => {
                *self.entry_mut(p) = entry;
                p
            }
            None => {
                if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
                    self.chunks.push(Vec::with_capacity(if self.chunks.is_empty() { 16 } else { CHUNK }));
                }
                let last = self.chunks.len() - 1;
                self.chunks[last].push(entry);
                (last * CHUNK + self.chunks[last].len() - 1) as u32
            }
        };
        let chunks = &self.chunks;
        self.table.insert_unique(hash, place, |&p| chunks[p as usize / CHUNK][p as usize % CHUNK].hash);
        place
    }

    /// Reads what [`place`](Self::place) will read, so that the cache misses of several keys overlap. The result means nothing.
    #[inline]
    pub fn touch(&self, hash: u64) -> u64 {
        self.table.find(hash, |&p| self.entry(p).hash == hash).map_or(0, |&p| self.touch_at(p))
    }

    /// As [`touch`](Self::touch), of a known place.
    #[inline]
    pub fn touch_at(&self, place: u32) -> u64 {
        let e = self.entry(place);
        let cells = e.cells.all().iter().map(|c| !matches!(c, Cell::Empty) as u64).sum::<u64>();
        cells + e.key.first().copied().unwrap_or(0) as u64
    }

    /// Forgets the key if nothing is kept for it.
    #[inline]
    pub fn settle(&mut self, place: u32) {
        let e = self.entry(place);
        if e.refs == 0 && e.cells.is_empty() {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: u32) {
        let hash = self.entry(place).hash;
        if let Ok(found) = self.table.find_entry(hash, |&p| p == place) {
            found.remove();
            let states = self.states;
            let e = self.entry_mut(place);
            e.key = Box::default();
            e.cells = Cells::new(states);
            self.free.push(place);
        }
    }

    /// The places of all keys, by key group, then key.
    pub fn sorted(&self) -> Vec<u32> {
        let mut places: Vec<u32> = self.table.iter().copied().collect();
        places.sort_unstable_by_key(|&p| (self.entry(p).hash % millrace_sdk::key::KEY_GROUPS, &*self.entry(p).key));
        places
    }

    pub fn restore(&mut self, key: &[u8], cells: Cells) -> u32 {
        let place = self.place(key, Key::hash(key));
        self.entry_mut(place).cells = cells;
        place
    }
}

/// One key's state as its operator sees it.
pub struct KeyState<'a>(pub &'a mut [Cell]);

impl KeyState<'_> {
    fn find(rows: &VecDeque<Row>, time: i64, seq: u64) -> Result<usize, usize> {
        rows.binary_search_by(|r| (r.time, r.seq).cmp(&(time, seq)))
    }
}

impl State for KeyState<'_> {
    #[inline]
    fn get(&mut self, id: StateId) -> Option<&[u8]> {
        match &self.0[id.0] {
            Cell::Value(v) => Some(v),
            _ => None,
        }
    }

    #[inline]
    fn put(&mut self, id: StateId, value: &[u8]) {
        match &mut self.0[id.0] {
            Cell::Value(v) => {
                v.clear();
                v.extend_from_slice(value);
            }
            cell => *cell = Cell::Value(value.to_vec()),
        }
    }

    #[inline]
    fn update(&mut self, id: StateId) -> &mut Vec<u8> {
        let cell = &mut self.0[id.0];
        if !matches!(cell, Cell::Value(_)) {
            *cell = Cell::Value(Vec::new());
        }
        match cell {
            Cell::Value(v) => v,
            _ => unreachable!("made above"),
        }
    }

    #[inline]
    fn clear(&mut self, id: StateId) {
        self.0[id.0] = Cell::Empty;
    }

    fn insert(&mut self, id: StateId, time: i64, seq: u64, row: &[u8]) {
        let new = Row { time, seq, bytes: row.into() };
        let cell = &mut self.0[id.0];
        match cell {
            Cell::Row(old) if (old.time, old.seq) == (time, seq) => *old = new,
            Cell::Row(_) => {
                let Cell::Row(old) = std::mem::take(cell) else { unreachable!("matched above") };
                let (first, second) = if (old.time, old.seq) < (time, seq) { (old, new) } else { (new, old) };
                *cell = Cell::Rows(Box::new(VecDeque::from([first, second])));
            }
            Cell::Rows(rows) => match rows.back() {
                Some(last) if (last.time, last.seq) >= (time, seq) => match Self::find(rows, time, seq) {
                    Ok(i) => rows[i] = new,
                    Err(i) => rows.insert(i, new),
                },
                _ => rows.push_back(new),
            },
            _ => *cell = Cell::Row(new),
        }
    }

    fn scan(&mut self, id: StateId, from: i64, to: i64, visit: &mut dyn FnMut(i64, u64, &mut [u8]) -> Visit) {
        let rows = match &mut self.0[id.0] {
            Cell::Rows(rows) => rows,
            Cell::Row(r) => {
                if (from..=to).contains(&r.time) && visit(r.time, r.seq, &mut r.bytes) == Visit::Remove {
                    self.0[id.0] = Cell::Empty;
                }
                return;
            }
            _ => return,
        };
        let begin = match rows.front() {
            Some(r) if r.time >= from => 0,
            _ => rows.partition_point(|r| r.time < from),
        };
        let (mut kept, mut seen, mut stop) = (begin, begin, false);
        while !stop && seen < rows.len() && rows[seen].time <= to {
            let r = &mut rows[seen];
            match visit(r.time, r.seq, &mut r.bytes) {
                Visit::Remove => {
                    seen += 1;
                    continue;
                }
                Visit::Stop => stop = true,
                Visit::Keep | Visit::Changed => {}
            }
            if kept != seen {
                rows.swap(kept, seen);
            }
            kept += 1;
            seen += 1;
        }
        if kept < seen {
            rows.drain(kept..seen);
            if rows.is_empty() {
                self.0[id.0] = Cell::Empty;
            }
        }
    }

    fn row(&mut self, id: StateId, time: i64, seq: u64) -> Option<&[u8]> {
        match &self.0[id.0] {
            Cell::Row(r) => ((r.time, r.seq) == (time, seq)).then_some(&*r.bytes),
            Cell::Rows(rows) => Self::find(rows, time, seq).ok().map(|i| &*rows[i].bytes),
            _ => None,
        }
    }

    fn remove(&mut self, id: StateId, time: i64, seq: u64) -> bool {
        let cell = &mut self.0[id.0];
        match cell {
            Cell::Row(r) if (r.time, r.seq) == (time, seq) => *cell = Cell::Empty,
            Cell::Rows(rows) => {
                let Ok(i) = Self::find(rows, time, seq) else { return false };
                rows.remove(i);
                if rows.is_empty() {
                    *cell = Cell::Empty;
                }
            }
            _ => return false,
        }
        true
    }

    fn map_get(&mut self, id: StateId, key: &[u8]) -> Option<&[u8]> {
        match &self.0[id.0] {
            Cell::Map(m) => m.get(key).map(|v| &v[..]),
            _ => None,
        }
    }

    fn map_put(&mut self, id: StateId, key: &[u8], value: &[u8]) {
        let cell = &mut self.0[id.0];
        if !matches!(cell, Cell::Map(_)) {
            *cell = Cell::Map(Box::default());
        }
        if let Cell::Map(m) = cell {
            m.insert(key.into(), value.to_vec());
        }
    }

    fn map_remove(&mut self, id: StateId, key: &[u8]) -> bool {
        let Cell::Map(m) = &mut self.0[id.0] else { return false };
        let there = m.remove(key).is_some();
        if m.is_empty() {
            self.0[id.0] = Cell::Empty;
        }
        there
    }

    fn map_scan(&mut self, id: StateId, visit: &mut dyn FnMut(&[u8], &mut [u8]) -> Visit) {
        let Cell::Map(m) = &mut self.0[id.0] else { return };
        let mut stop = false;
        m.retain(|k, v| {
            if stop {
                return true;
            }
            match visit(k, v) {
                Visit::Remove => false,
                Visit::Stop => {
                    stop = true;
                    true
                }
                Visit::Keep | Visit::Changed => true,
            }
        });
        if m.is_empty() {
            self.0[id.0] = Cell::Empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: StateId = StateId(0);

    fn dump(s: &mut KeyState<'_>) -> Vec<(i64, u64, u8)> {
        let mut v = vec![];
        s.scan(ID, i64::MIN, i64::MAX, &mut |t, q, b| {
            v.push((t, q, b[0]));
            Visit::Keep
        });
        v
    }

    proptest! {
        /// Rows behave like a sorted map by (time, number).
        #[test]
        fn rows_are_an_ordered_map(ops in prop::collection::vec((0u8..4, -5i64..5, 0u64..4, 0u8..9), 0..60)) {
            let mut cells = Cells::new(1);
            let mut s = KeyState(cells.all_mut());
            let mut model: BTreeMap<(i64, u64), u8> = BTreeMap::new();
            for (op, t, q, b) in ops {
                match op {
                    0 | 1 => {
                        s.insert(ID, t, q, &[b]);
                        model.insert((t, q), b);
                    }
                    2 => prop_assert_eq!(s.remove(ID, t, q), model.remove(&(t, q)).is_some()),
                    _ => {
                        // Every other row in [t, t + 3] goes, the rest changes; stop at the row numbered 3.
                        let mut i = 0;
                        let mut stopped = false;
                        s.scan(ID, t, t + 3, &mut |_, q, bytes| {
                            i += 1;
                            if q == 3 { return Visit::Stop }
                            if i % 2 == 0 { return Visit::Remove }
                            bytes[0] = b;
                            Visit::Changed
                        });
                        i = 0;
                        model.retain(|&(mt, mq), v| {
                            if stopped || mt < t || mt > t + 3 { return true }
                            i += 1;
                            if mq == 3 { stopped = true; return true }
                            if i % 2 == 0 { return false }
                            *v = b;
                            true
                        });
                    }
                }
                prop_assert_eq!(dump(&mut s), model.iter().map(|((t, q), b)| (*t, *q, *b)).collect::<Vec<_>>());
                prop_assert_eq!(s.row(ID, t, q).map(|b| b[0]), model.get(&(t, q)).copied());
                prop_assert_eq!(matches!(s.0[0], Cell::Empty), model.is_empty());
            }
        }

        /// A key is found again until it is settled with nothing kept, and places are reused.
        #[test]
        fn keys_live_while_something_is_kept(ops in prop::collection::vec((0u16..200, any::<bool>()), 0..400)) {
            let mut keys = Keys::new(1);
            let mut model: BTreeMap<u16, u16> = BTreeMap::new();
            for (k, keep) in ops {
                let bytes = k.to_be_bytes();
                let p = keys.place(&bytes, Key::hash(&bytes));
                let mut s = KeyState(keys.entry_mut(p).cells.all_mut());
                prop_assert_eq!(s.get(ID).map(|b| u16::from_be_bytes([b[0], b[1]])), model.get(&k).copied());
                if keep { s.put(ID, &bytes); model.insert(k, k); } else { s.clear(ID); model.remove(&k); }
                keys.settle(p);
                prop_assert_eq!(keys.len(), model.len());
            }
        }
    }

    #[test]
    fn maps() {
        let mut cells = Cells::new(2);
        let mut s = KeyState(cells.all_mut());
        let id = StateId(1);
        assert_eq!(s.map_get(id, b"a"), None);
        s.map_put(id, b"b", b"2");
        s.map_put(id, b"a", b"1");
        s.map_put(id, b"b", b"3");
        let mut seen = vec![];
        s.map_scan(id, &mut |k, v| {
            seen.push((k.to_vec(), v.to_vec()));
            if k == b"a" { Visit::Remove } else { Visit::Keep }
        });
        assert_eq!(seen, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"3".to_vec())]);
        assert!(s.map_remove(id, b"b") && !s.map_remove(id, b"b"));
        assert!(cells.is_empty());
    }
}
