//! What one key holds in one declared state, and how its operator sees it. Everything goes through bytes, as it does where state lies on disk.

use millrace_sdk::{State, StateId, Visit};
use std::collections::{BTreeMap, VecDeque};

/// A row of a Rows state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub time: i64,
    pub seq: u64,
    pub bytes: Box<[u8]>,
}

/// What one declared state holds for one key: 40 bytes, and nothing behind them while empty or short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    #[default]
    Empty,
    /// A Value state that was put and is short: its length and bytes.
    Short(u8, [u8; SHORT]),
    Value(Vec<u8>),
    /// A Rows state of one row, as most keys of a join have: no list, and two cache misses less.
    Row(Row),
    /// Ordered by (time, sequence number).
    Rows(Box<VecDeque<Row>>),
    Map(Box<BTreeMap<Box<[u8]>, Vec<u8>>>),
}
const SHORT: usize = 24;
const _: () = assert!(size_of::<Cell>() <= 40);

impl Cell {
    pub fn value(bytes: &[u8]) -> Cell {
        if bytes.len() > SHORT {
            return Cell::Value(bytes.to_vec());
        }
        let mut short = [0; SHORT];
        short[..bytes.len()].copy_from_slice(bytes);
        Cell::Short(bytes.len() as u8, short)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self, Cell::Empty)
    }

    /// Bytes behind it, about.
    pub fn heap(&self) -> usize {
        const EACH: usize = 16;
        match self {
            Cell::Empty | Cell::Short(..) => 0,
            Cell::Value(v) => v.capacity() + EACH,
            Cell::Row(r) => r.bytes.len() + EACH,
            // The first stands for all.
            Cell::Rows(rows) => rows.capacity() * size_of::<Row>() + rows.len() * (rows[0].bytes.len() + EACH),
            Cell::Map(map) => map.len() * map.first_key_value().map_or(0, |(k, v)| k.len() + v.capacity() + 5 * EACH),
        }
    }

    /// Reads from where the bytes lie; the result means nothing.
    #[inline]
    pub fn peek(&self) -> u32 {
        let first = match self {
            Cell::Empty | Cell::Short(..) | Cell::Map(_) => None,
            Cell::Value(v) => v.first(),
            Cell::Row(r) => r.bytes.first(),
            Cell::Rows(rows) => return rows.len() as u32 & 1,
        };
        first.copied().unwrap_or(0).into()
    }
}

/// Room that a value changed in place has at first: most need no more.
const UPDATED: usize = 128;

/// One key's state as its operator sees it.
pub struct KeyState<'a> {
    cells: &'a mut [Cell],
    /// Whether a call has changed anything, as far as it can be told.
    pub changed: bool,
}

impl<'a> KeyState<'a> {
    pub fn new(cells: &'a mut [Cell]) -> KeyState<'a> {
        KeyState { cells, changed: false }
    }

    #[inline]
    fn change(&mut self, id: StateId) -> &mut Cell {
        self.changed = true;
        &mut self.cells[id.0]
    }

    fn find(rows: &VecDeque<Row>, time: i64, seq: u64) -> Result<usize, usize> {
        rows.binary_search_by(|r| (r.time, r.seq).cmp(&(time, seq)))
    }
}

impl State for KeyState<'_> {
    #[inline]
    fn get(&mut self, id: StateId) -> Option<&[u8]> {
        match &self.cells[id.0] {
            Cell::Short(n, bytes) => Some(&bytes[..*n as usize]),
            Cell::Value(v) => Some(v),
            _ => None,
        }
    }

    #[inline]
    fn put(&mut self, id: StateId, value: &[u8]) {
        match self.change(id) {
            Cell::Value(v) => {
                v.clear();
                v.extend_from_slice(value);
            }
            cell => *cell = Cell::value(value),
        }
    }

    #[inline]
    fn update(&mut self, id: StateId) -> &mut Vec<u8> {
        let cell = self.change(id);
        if !matches!(cell, Cell::Value(_)) {
            let mut bytes = Vec::with_capacity(UPDATED);
            if let Cell::Short(n, short) = cell {
                bytes.extend_from_slice(&short[..*n as usize]);
            }
            *cell = Cell::Value(bytes);
        }
        match cell {
            Cell::Value(v) => v,
            _ => unreachable!("made above"),
        }
    }

    #[inline]
    fn clear(&mut self, id: StateId) {
        *self.change(id) = Cell::Empty;
    }

    fn insert(&mut self, id: StateId, time: i64, seq: u64, row: &[u8]) {
        let new = Row { time, seq, bytes: row.into() };
        let cell = self.change(id);
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
        let KeyState { cells, changed } = self;
        let rows = match &mut cells[id.0] {
            Cell::Rows(rows) => rows,
            Cell::Row(r) => {
                let seen = if (from..=to).contains(&r.time) { visit(r.time, r.seq, &mut r.bytes) } else { Visit::Keep };
                *changed |= matches!(seen, Visit::Changed | Visit::Remove);
                if seen == Visit::Remove {
                    cells[id.0] = Cell::Empty;
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
                Visit::Changed => *changed = true,
                Visit::Keep => {}
            }
            if kept != seen {
                rows.swap(kept, seen);
            }
            kept += 1;
            seen += 1;
        }
        if kept < seen {
            *changed = true;
            rows.drain(kept..seen);
            if rows.is_empty() {
                cells[id.0] = Cell::Empty;
            }
        }
    }

    fn row(&mut self, id: StateId, time: i64, seq: u64) -> Option<&[u8]> {
        match &self.cells[id.0] {
            Cell::Row(r) => ((r.time, r.seq) == (time, seq)).then_some(&*r.bytes),
            Cell::Rows(rows) => Self::find(rows, time, seq).ok().map(|i| &*rows[i].bytes),
            _ => None,
        }
    }

    fn remove(&mut self, id: StateId, time: i64, seq: u64) -> bool {
        let cell = self.change(id);
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
        match &self.cells[id.0] {
            Cell::Map(m) => m.get(key).map(|v| &v[..]),
            _ => None,
        }
    }

    fn map_put(&mut self, id: StateId, key: &[u8], value: &[u8]) {
        let cell = self.change(id);
        if !matches!(cell, Cell::Map(_)) {
            *cell = Cell::Map(Box::default());
        }
        if let Cell::Map(m) = cell {
            m.insert(key.into(), value.to_vec());
        }
    }

    fn map_remove(&mut self, id: StateId, key: &[u8]) -> bool {
        let cell = self.change(id);
        let Cell::Map(m) = cell else { return false };
        let there = m.remove(key).is_some();
        if m.is_empty() {
            *cell = Cell::Empty;
        }
        there
    }

    fn map_scan(&mut self, id: StateId, visit: &mut dyn FnMut(&[u8], &mut [u8]) -> Visit) {
        let KeyState { cells, changed } = self;
        let Cell::Map(m) = &mut cells[id.0] else { return };
        let mut stop = false;
        m.retain(|k, v| {
            if stop {
                return true;
            }
            match visit(k, v) {
                Visit::Remove => {
                    *changed = true;
                    false
                }
                Visit::Stop => {
                    stop = true;
                    true
                }
                Visit::Changed => {
                    *changed = true;
                    true
                }
                Visit::Keep => true,
            }
        });
        if m.is_empty() {
            cells[id.0] = Cell::Empty;
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
            let mut cells = [Cell::Empty];
            let mut s = KeyState::new(&mut cells);
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
                prop_assert_eq!(matches!(s.cells[0], Cell::Empty), model.is_empty());
            }
        }
    }

    #[test]
    fn maps() {
        let mut cells = [Cell::Empty, Cell::Empty];
        let mut s = KeyState::new(&mut cells);
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
        assert!(cells.iter().all(Cell::is_empty));
    }
}
