//! What the row parser looks for: keys by level, each perhaps with a slot, perhaps with keys below.

use super::{Expected, Fill};
use millrace_sdk::Value;

/// No planned key.
pub const UNKNOWN: i32 = -1;
/// Positions of an object whose key is guessed; those behind it are looked up.
const GUESSES: usize = 64;

#[derive(Default, Debug, Clone)]
pub struct Shape {
    pub keys: Vec<Key>,
    /// The key last seen at each position of this object.
    pub guesses: Vec<Guess>,
}

#[derive(Debug, Clone)]
pub struct Key {
    name: Box<[u8]>,
    pub slot: Option<usize>,
    pub expect: Expected,
    pub below: Option<Shape>,
    /// All slots below: what a repeated key takes back.
    slots_below: Vec<usize>,
    bits_below: u64,
}

/// A key with its closing quote and colon, to be compared in one load.
#[derive(Default, Debug, Clone, Copy)]
pub struct Guess {
    bytes: [u8; 16],
    /// Bits of the bytes that count; 0: no guess.
    mask: u32,
    /// Length of the key.
    pub len: u32,
    /// Into [`Shape::keys`], or [`UNKNOWN`].
    pub key: i32,
}

impl Guess {
    /// Whether the text goes on as guessed: the key, `"` and `:`.
    #[inline(always)]
    pub fn fits(&self, text: &[u8; 16]) -> bool {
        if self.mask == 0 {
            return false;
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE2 belongs to x86_64; both arrays are 16 bytes.
        let equal = unsafe {
            use std::arch::x86_64::*;
            _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(text.as_ptr().cast()), _mm_loadu_si128(self.bytes.as_ptr().cast()))) as u32
        };
        #[cfg(not(target_arch = "x86_64"))]
        let equal = (0..16).fold(0, |m, i| m | u32::from(text[i] == self.bytes[i]) << i);
        equal & self.mask == self.mask
    }
}

impl Shape {
    pub fn plan(&mut self, path: &[&str], slot: usize) {
        let Some((name, below)) = path.split_first() else { return };
        let i = self.keys.iter().position(|k| *k.name == *name.as_bytes()).unwrap_or_else(|| {
            self.keys.push(Key {
                name: name.as_bytes().into(),
                slot: None,
                expect: Expected::default(),
                below: None,
                slots_below: vec![],
                bits_below: 0,
            });
            self.keys.len() - 1
        });
        let key = &mut self.keys[i];
        if below.is_empty() {
            key.slot.get_or_insert(slot);
        } else {
            key.slots_below.push(slot);
            key.below.get_or_insert_default().plan(below, slot);
        }
    }

    /// Says what is expected in a planned slot.
    pub fn expect(&mut self, slot: usize, expected: Expected) {
        for key in &mut self.keys {
            if key.slot == Some(slot) {
                key.expect = expected;
            }
            if let Some(below) = &mut key.below
                && key.slots_below.contains(&slot)
            {
                key.bits_below |= expected.bit;
                below.expect(slot, expected);
            }
        }
    }

    /// The planned key of that name, to be guessed at this position next time.
    #[cold]
    pub fn find(&mut self, at: usize, name: &[u8]) -> i32 {
        let key = self.keys.iter().position(|k| *k.name == *name).map_or(UNKNOWN, |i| i as i32);
        if at < GUESSES && name.len() <= 14 {
            self.guesses.resize(self.guesses.len().max(at + 1), Guess::default());
            let mut g = Guess { bytes: [0; 16], mask: (1 << (name.len() + 2)) - 1, len: name.len() as u32, key };
            g.bytes[..name.len()].copy_from_slice(name);
            g.bytes[name.len()..name.len() + 2].copy_from_slice(b"\":");
            self.guesses[at] = g;
        }
        key
    }
}

impl Key {
    /// Takes back what an earlier member of the same name left below.
    #[inline(always)]
    pub fn forget_below(&self, fill: &mut Fill<'_>) {
        for &slot in &self.slots_below {
            fill.row[slot] = Value::Missing;
        }
        fill.sure &= !self.bits_below;
    }
}
