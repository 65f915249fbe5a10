//! Appending to a buffer through a pointer held in a register: room is asked for once a field, and short texts are copied in one or
//! two steps of [`STEP`] bytes instead of by a call.

/// Bytes copied in one step; a copy may write so many past its end.
pub const STEP: usize = 32;

/// The end of a buffer. The buffer's length is right again when the pen is dropped.
///
/// Invariant: `dst` lies in the buffer's allocation, at or behind its length; all bytes before `dst` are written; the allocation ends
/// at `end`.
pub struct Pen<'a> {
    out: &'a mut Vec<u8>,
    dst: *mut u8,
    end: *mut u8,
}

impl<'a> Pen<'a> {
    #[inline(always)]
    pub fn new(out: &'a mut Vec<u8>) -> Pen<'a> {
        let (dst, end) = ends(out);
        Pen { out, dst, end }
    }

    /// Bytes that may be written.
    #[inline(always)]
    fn free(&self) -> usize {
        self.end.addr() - self.dst.addr()
    }

    /// Makes room for `n` bytes.
    #[inline(always)]
    pub fn room(&mut self, n: usize) {
        if self.free() < n {
            (self.dst, self.end) = grow(self.out, self.dst, n);
        }
    }

    /// Length of the buffer with what the pen wrote.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.dst.addr() - self.out.as_ptr().addr()
    }

    /// Lets `f` append to the buffer.
    #[inline(always)]
    pub fn with(&mut self, f: impl FnOnce(&mut Vec<u8>)) {
        settle(self.out, self.dst);
        f(self.out);
        (self.dst, self.end) = ends(self.out);
    }

    /// # Safety
    /// There is room for `N` bytes.
    #[inline(always)]
    pub unsafe fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        debug_assert!(self.free() >= N);
        // SAFETY: the caller's promise.
        unsafe { self.dst.cast::<[u8; N]>().write_unaligned(*bytes) };
        self.advance(N);
    }

    /// Appends the first `len` bytes.
    ///
    /// # Safety
    /// There is room for `STEP` bytes, and `len` is not more.
    #[inline(always)]
    pub unsafe fn put_some(&mut self, bytes: &[u8; STEP], len: usize) {
        debug_assert!(self.free() >= STEP && len <= STEP);
        // SAFETY: the caller's promise.
        unsafe { self.dst.cast::<[u8; STEP]>().write_unaligned(*bytes) };
        self.advance(len);
    }

    /// Appends the first three bytes.
    ///
    /// # Safety
    /// There is room for four bytes.
    #[inline(always)]
    pub unsafe fn put_three(&mut self, bytes: [u8; 4]) {
        debug_assert!(self.free() >= 4);
        // SAFETY: the caller's promise.
        unsafe { self.dst.cast::<[u8; 4]>().write_unaligned(bytes) };
        self.advance(3);
    }

    /// Appends the lowest `len` bytes of a word, the lowest one first.
    ///
    /// # Safety
    /// There is room for eight bytes, and `len` is not more.
    #[inline(always)]
    pub unsafe fn put_word(&mut self, word: u64, len: usize) {
        debug_assert!(self.free() >= 8 && len <= 8);
        // SAFETY: the caller's promise.
        unsafe { self.dst.cast::<[u8; 8]>().write_unaligned(word.to_le_bytes()) };
        self.advance(len);
    }

    /// Appends a step's first `len` bytes, which are at `from`.
    ///
    /// # Safety
    /// `STEP` bytes can be read at `from`, which is no part of the buffer, there is room for them, and `len` is not more.
    #[inline(always)]
    pub unsafe fn step(&mut self, from: *const u8, len: usize) {
        debug_assert!(self.free() >= STEP && len <= STEP);
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, self.dst, STEP) };
        self.advance(len);
    }

    /// Appends the byte `times` times, which is 0 or 1.
    ///
    /// # Safety
    /// There is room for a byte.
    #[inline(always)]
    pub unsafe fn put_if(&mut self, byte: u8, times: usize) {
        debug_assert!(self.free() >= 1 && times <= 1);
        // SAFETY: the caller's promise.
        unsafe { self.dst.write(byte) };
        self.advance(times);
    }

    /// Appends `from[off..off + len]`.
    ///
    /// # Panics
    /// If that is not inside of `from`.
    ///
    /// # Safety
    /// There is room for `len + STEP` bytes.
    #[inline(always)]
    pub unsafe fn copy(&mut self, from: &[u8], off: usize, len: usize) {
        debug_assert!(self.free() >= len + STEP);
        if len <= STEP && off + STEP <= from.len() {
            // SAFETY: a step is read inside `from` and written where there is room; `out` is borrowed for writing, so `from` is no
            // part of it.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().add(off), self.dst, STEP) };
        } else {
            // SAFETY: there is room for the text and a step behind it.
            unsafe { copy_long(&from[off..], len, self.dst) };
        }
        self.advance(len);
    }

    #[inline(always)]
    fn advance(&mut self, n: usize) {
        // SAFETY: the callers have written `n` bytes of the allocation.
        self.dst = unsafe { self.dst.add(n) };
    }

    /// Takes back the last `n` bytes.
    #[inline(always)]
    pub fn back(&mut self, n: usize) {
        assert!(n <= self.len(), "the bytes are written");
        // SAFETY: they lie before `dst`.
        self.dst = unsafe { self.dst.sub(n) };
    }

    /// Replaces the byte at `at`, which the pen or somebody before it wrote.
    #[inline(always)]
    pub fn replace(&mut self, at: usize, byte: u8) {
        assert!(at < self.len(), "the byte is written");
        // SAFETY: it lies before `dst`.
        unsafe { *self.out.as_mut_ptr().add(at) = byte };
    }
}

impl Drop for Pen<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        settle(self.out, self.dst);
    }
}

/// Makes the buffer's length what ends at `dst`.
#[inline(always)]
fn settle(out: &mut Vec<u8>, dst: *mut u8) {
    let len = dst.addr() - out.as_ptr().addr();
    debug_assert!(len <= out.capacity());
    // SAFETY: the pen's invariant.
    unsafe { out.set_len(len) };
}

/// Where the next byte goes, and the end of the allocation.
#[inline(always)]
fn ends(out: &mut Vec<u8>) -> (*mut u8, *mut u8) {
    let (len, capacity) = (out.len(), out.capacity());
    let start = out.as_mut_ptr();
    // SAFETY: both are inside the allocation or at its end.
    unsafe { (start.add(len), start.add(capacity)) }
}

// The pen is passed in pieces: one whose address is taken would not be kept in registers.
#[cold]
#[inline(never)]
fn grow(out: &mut Vec<u8>, dst: *mut u8, n: usize) -> (*mut u8, *mut u8) {
    settle(out, dst);
    out.reserve(n);
    ends(out)
}

/// Copies the first `len` bytes.
///
/// # Panics
/// If there are fewer.
///
/// # Safety
/// At `dst`, which is no part of `from`, there is room for `len + STEP` bytes.
#[inline(never)]
unsafe fn copy_long(from: &[u8], len: usize, dst: *mut u8) {
    let text = &from[..len];
    if len > 8 * STEP || len + STEP > from.len() {
        // SAFETY: `text` has so many bytes, and room is promised.
        return unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), dst, len) };
    }
    let mut at = 0;
    while at < len {
        // SAFETY: `at < len`, so a step from there is read inside `from` and written where room is promised.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().add(at), dst.add(at), STEP) };
        at += STEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_a_vector_would() {
        let text: Vec<u8> = (0..2000u32).map(|i| (i * 7 % 251) as u8).collect();
        for (off, len) in [
            (0, 0),
            (0, 1),
            (3, 31),
            (3, 32),
            (3, 33),
            (3, 63),
            (3, 64),
            (3, 65),
            (5, 256),
            (5, 257),
            (5, 1995),
            (1990, 10),
            (2000, 0),
            (1960, 8),
            (1960, 9),
            (1936, 32),
            (1936, 33),
        ] {
            let (mut out, mut want) = (b"abc".to_vec(), b"abc".to_vec());
            let mut pen = Pen::new(&mut out);
            for _ in 0..3 {
                pen.room(len + STEP + 2);
                // SAFETY: room has been made.
                unsafe {
                    pen.copy(&text, off, len);
                    pen.put(b"\",");
                }
                pen.with(|o| o.extend_from_slice(b"null"));
                want.extend_from_slice(&text[off..][..len]);
                want.extend_from_slice(b"\",null");
            }
            assert_eq!(pen.len(), want.len());
            pen.back(2);
            want.truncate(want.len() - 2);
            pen.replace(1, b'x');
            want[1] = b'x';
            drop(pen);
            assert_eq!(out, want, "{off} {len}");
        }
    }

    #[test]
    #[should_panic]
    fn reads_nothing_behind_a_text() {
        let mut out = vec![];
        let mut pen = Pen::new(&mut out);
        pen.room(100);
        // SAFETY: room has been made.
        unsafe { pen.copy(b"abc", 1, 3) };
    }
}
