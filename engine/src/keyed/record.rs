//! Bytes of saved state: numbers little endian, lengths as 8 bytes in a snapshot and as varints in a record of the tier, where they are
//! many.

use super::cells::{Cell, Row};
use super::claims::HOLDS;
use super::context::{Ask, Work};
use millrace_sdk::{Fault, StateDesc, StateKind};
use std::collections::{BTreeMap, VecDeque};

/// Writes saved state.
pub struct Out<'a> {
    pub bytes: &'a mut Vec<u8>,
    pub short: bool,
}

impl Out<'_> {
    pub fn u8(&mut self, v: u8) {
        self.bytes.push(v);
    }
    pub fn u32(&mut self, v: u32) {
        match self.short {
            true => self.varint(v.into()),
            false => self.bytes.extend_from_slice(&v.to_le_bytes()),
        }
    }
    pub fn u64(&mut self, v: u64) {
        self.bytes.extend_from_slice(&v.to_le_bytes());
    }
    pub fn i64(&mut self, v: i64) {
        self.bytes.extend_from_slice(&v.to_le_bytes());
    }
    pub fn len(&mut self, n: usize) {
        match self.short {
            true => self.varint(n as u64),
            false => self.u64(n as u64),
        }
    }
    pub fn bytes(&mut self, v: &[u8]) {
        self.len(v.len());
        self.bytes.extend_from_slice(v);
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bytes.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.bytes.push(v as u8);
    }

    fn rows<'r>(&mut self, n: usize, rows: impl Iterator<Item = &'r Row>) {
        self.u8(2);
        self.len(n);
        for r in rows {
            self.i64(r.time);
            self.u64(r.seq);
            self.bytes(&r.bytes);
        }
    }

    pub fn cell(&mut self, cell: &Cell) {
        match cell {
            Cell::Empty => self.u8(0),
            Cell::Short(n, bytes) => {
                self.u8(1);
                self.bytes(&bytes[..*n as usize]);
            }
            Cell::Value(v) => {
                self.u8(1);
                self.bytes(v);
            }
            Cell::Row(r) => self.rows(1, std::iter::once(r)),
            Cell::Rows(all) => self.rows(all.len(), all.iter()),
            Cell::Map(map) => {
                self.u8(3);
                self.len(map.len());
                for (k, v) in map.iter() {
                    self.bytes(k);
                    self.bytes(v);
                }
            }
        }
    }

    /// A key's timers of each domain, and its holds.
    pub fn claims(&mut self, work: &Work, place: u32) {
        for kind in 0..=HOLDS {
            let list = work.claimed(place, kind);
            self.len(list.len());
            for (time, n) in list {
                self.i64(time);
                self.u32(n);
            }
        }
    }

    /// A key's questions.
    pub fn asks<'a>(&mut self, n: usize, asks: impl Iterator<Item = &'a Ask>) {
        self.len(n);
        for a in asks {
            self.len(a.store);
            self.u64(a.token);
            self.bytes(&a.key);
        }
    }

    pub fn describe(&mut self, states: &[StateDesc]) {
        self.len(states.len());
        for s in states {
            self.bytes(s.name.as_bytes());
            self.u8(kind(s.kind));
            self.u32(s.version);
            self.u64(s.schema.as_ref().map_or(0, |s| s.id()));
            self.bytes(s.layout.as_bytes());
        }
    }
}

fn kind(k: StateKind) -> u8 {
    match k {
        StateKind::Value => 0,
        StateKind::Rows => 1,
        StateKind::Map => 2,
    }
}

/// Reads saved state.
pub struct In<'a> {
    pub bytes: &'a [u8],
    pub short: bool,
}

pub fn damaged(why: &str) -> Fault {
    Fault::data(format!("saved state is damaged: {why}"))
}

impl<'a> In<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or_else(|| damaged("it is cut short"))?;
        self.bytes = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| damaged("it is cut short"))
    }
    pub fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u32(&mut self) -> Result<u32, Fault> {
        match self.short {
            true => u32::try_from(self.varint()?).map_err(|_| damaged("a number is out of range")),
            false => self.array().map(u32::from_le_bytes),
        }
    }
    pub fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn i64(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_le_bytes)
    }
    pub fn len(&mut self) -> Result<usize, Fault> {
        let n = if self.short { self.varint()? } else { self.u64()? };
        usize::try_from(n).map_err(|_| damaged("a length is out of range"))
    }
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let n = self.len()?;
        self.take(n)
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(damaged("a length is out of range"))
    }

    pub fn cell(&mut self, kind: StateKind) -> Result<Cell, Fault> {
        Ok(match (self.u8()?, kind) {
            (0, _) => Cell::Empty,
            (1, StateKind::Value) => Cell::value(self.bytes()?),
            (2, StateKind::Rows) => match self.len()? {
                0 => Cell::Empty,
                1 => Cell::Row(self.row()?),
                n => {
                    let mut rows = VecDeque::new();
                    for _ in 0..n {
                        rows.push_back(self.row()?);
                    }
                    Cell::Rows(Box::new(rows))
                }
            },
            (3, StateKind::Map) => {
                let mut map = BTreeMap::new();
                for _ in 0..self.len()? {
                    map.insert(self.bytes()?.into(), self.bytes()?.to_vec());
                }
                Cell::Map(Box::new(map))
            }
            _ => return Err(damaged("a state is of another kind")),
        })
    }

    fn row(&mut self) -> Result<Row, Fault> {
        Ok(Row { time: self.i64()?, seq: self.u64()?, bytes: self.bytes()?.into() })
    }

    /// What [`Out::claims`] wrote.
    pub fn claims(&mut self) -> Result<[Vec<(i64, u32)>; HOLDS + 1], Fault> {
        let mut all: [Vec<(i64, u32)>; HOLDS + 1] = Default::default();
        for list in &mut all {
            for _ in 0..self.len()? {
                list.push((self.i64()?, self.u32()?));
            }
        }
        Ok(all)
    }

    /// What [`Out::asks`] wrote: store, token, key.
    pub fn asks(&mut self) -> Result<Vec<(usize, u64, Vec<u8>)>, Fault> {
        let mut all = vec![];
        for _ in 0..self.len()? {
            all.push((self.len()?, self.u64()?, self.bytes()?.to_vec()));
        }
        Ok(all)
    }

    /// # Errors
    /// The states are not these.
    pub fn describe(&mut self, states: &[StateDesc]) -> Result<(), Fault> {
        let mut want = vec![];
        Out { bytes: &mut want, short: self.short }.describe(states);
        if self.take(want.len()).ok() == Some(&want) {
            return Ok(());
        }
        Err(Fault::config("the saved state does not fit any more: its declaration or the schema of its rows has changed")
            .hint("undo the edit of the topology, or start with --from scratch"))
    }
}
