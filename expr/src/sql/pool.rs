//! Room for the texts that an evaluation makes: strings that keep their memory from row to row.

use std::cell::{Cell, UnsafeCell};

/// Texts larger than this give their memory back.
const KEEP: usize = 1 << 20;

/// Hands out empty strings that live until the next [`reset`](Pool::reset).
// Boxes, because a string must stay where it is while the list grows.
#[derive(Default)]
#[allow(clippy::vec_box)]
pub struct Pool {
    strings: UnsafeCell<Vec<Box<String>>>,
    used: Cell<usize>,
    bytes: UnsafeCell<Vec<Box<Vec<u8>>>>,
    used_bytes: Cell<usize>,
}

impl Pool {
    /// Takes all strings back.
    #[inline]
    pub fn reset(&mut self) {
        if self.used.get() | self.used_bytes.get() > 0 {
            self.take_back();
        }
    }

    fn take_back(&mut self) {
        for s in &mut self.strings.get_mut()[..self.used.get()] {
            if s.capacity() > KEEP {
                **s = String::new();
            }
        }
        if self.used_bytes.get() > 0 {
            self.bytes.get_mut().clear();
            self.used_bytes.set(0);
        }
        self.used.set(0);
    }

    /// An empty string of one's own.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub fn string(&self) -> &mut String {
        let i = self.used.get();
        self.used.set(i + 1);
        // SAFETY: the list is borrowed only inside this call. Each string is handed out once between two resets, and `reset` needs the
        // pool for itself; its box does not move when the list grows.
        let s: &mut String = unsafe {
            let list = &mut *self.strings.get();
            if i == list.len() {
                list.push(Box::default());
            }
            &mut *(&mut *list[i] as *mut String)
        };
        s.clear();
        s
    }

    /// Bytes that must live as long as the row's evaluation.
    pub fn keep_bytes(&self, bytes: Vec<u8>) -> &[u8] {
        self.used_bytes.set(self.used_bytes.get() + 1);
        // SAFETY: as above; boxes are added, never changed or taken away before `reset`.
        unsafe {
            let list = &mut *self.bytes.get();
            list.push(Box::new(bytes));
            let last: *const Vec<u8> = &**list.last().expect("just pushed");
            (*last).as_slice()
        }
    }

    /// A string made elsewhere.
    #[inline]
    pub fn keep(&self, text: String) -> &str {
        let s = self.string();
        *s = text;
        s
    }

    #[inline]
    pub fn copy(&self, text: &str) -> &str {
        let s = self.string();
        s.push_str(text);
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_apart_and_come_back() {
        let mut pool = Pool::default();
        for round in 0..3 {
            let all: Vec<&mut String> = (0..100).map(|_| pool.string()).collect();
            let mut all = all;
            for (i, s) in all.iter_mut().enumerate() {
                assert!(s.is_empty());
                s.push_str(&format!("{round}-{i}"));
            }
            let kept = pool.keep_bytes(vec![1, 2, 3]);
            assert_eq!(all[7].as_str(), format!("{round}-7"));
            assert_eq!(kept, [1, 2, 3]);
            pool.reset();
        }
    }
}
