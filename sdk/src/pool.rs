//! Buffers of batches, kept by the thread that lets go of them for its next batches.
//!
//! A batch lives for microseconds and its buffers are hundreds of KiB: what comes back last is taken first, and is still in the
//! processor's cache.

use crate::record::Meta;
use crate::value::Value;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps of one kind.
const KEPT: usize = 4;
/// Bytes of the smallest and the largest that is kept.
const SIZES: std::ops::RangeInclusive<usize> = 4 << 10..=1 << 20;

/// What buffers are made of.
pub trait Kept: Copy + 'static {
    /// Runs `f` on the thread's buffers; None while the thread ends.
    fn with<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R>;
}

macro_rules! kept {
    ($($ty:ty),*) => {$(
        impl Kept for $ty {
            #[inline]
            fn with<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R> {
                thread_local! {
                    static BUFFERS: RefCell<Vec<Vec<$ty>>> = const { RefCell::new(Vec::new()) };
                }
                BUFFERS.try_with(|b| b.try_borrow_mut().ok().map(|mut b| f(&mut b))).ok().flatten()
            }
        }
    )*};
}
kept!(u8, Value, Meta);

/// A vector that goes back to the pool when it is dropped.
pub struct Pooled<T: Kept>(Vec<T>);

impl<T: Kept> Pooled<T> {
    /// Empty, with the room of the buffer that came back last.
    #[inline]
    pub fn take() -> Pooled<T> {
        Pooled(T::with(Vec::pop).flatten().unwrap_or_default())
    }

    #[inline]
    pub fn with_capacity(n: usize) -> Pooled<T> {
        let mut p = Pooled::take();
        p.reserve(n);
        p
    }

    /// As it is, or in a buffer that fits where little of a large one is used: who keeps it for long should not keep the rest.
    pub fn fitted(self) -> Pooled<T> {
        let bytes = self.0.capacity() * size_of::<T>();
        if bytes > 64 << 10 && self.0.len() < self.0.capacity() / 8 { Pooled(self.0.clone()) } else { self }
    }
}

impl<T: Kept> Default for Pooled<T> {
    /// Empty, without room.
    fn default() -> Self {
        Pooled(Vec::new())
    }
}

impl<T: Kept> Clone for Pooled<T> {
    fn clone(&self) -> Self {
        let mut p = Pooled::with_capacity(self.len());
        p.extend_from_slice(self);
        p
    }
}

impl<T: Kept> Drop for Pooled<T> {
    fn drop(&mut self) {
        if SIZES.contains(&(self.0.capacity() * size_of::<T>())) {
            let mut buffer = std::mem::take(&mut self.0);
            buffer.clear();
            T::with(|all| {
                if all.len() < KEPT {
                    all.push(buffer);
                }
            });
        }
    }
}

impl<T: Kept> Deref for Pooled<T> {
    type Target = Vec<T>;

    #[inline]
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Kept> DerefMut for Pooled<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_a_few_are_kept() {
        let mut a = Pooled::<u8>::with_capacity(10_000);
        a.extend_from_slice(b"abc");
        let place = a.as_ptr();
        drop(a);
        let b = Pooled::<u8>::take();
        assert!(b.is_empty() && b.capacity() >= 10_000);
        assert_eq!(b.as_ptr(), place);
        drop((0..20).map(|_| Pooled::<u8>::with_capacity(10_000)).collect::<Vec<_>>());
        assert_eq!(u8::with(|all| all.len()), Some(KEPT));
        drop(Pooled::<Value>::with_capacity(1 << 20));
        assert_eq!(Value::with(|all| all.len()), Some(0));
    }

    #[test]
    fn little_in_a_large_buffer_moves() {
        let mut a = Pooled::<u8>::with_capacity(1 << 20);
        a.extend_from_slice(b"abc");
        let a = a.fitted();
        assert!(a.capacity() < 100 && a[..] == *b"abc");
    }
}
