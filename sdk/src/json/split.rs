//! Text that is a map, `a=1|b=2`, and separators in text: found 64 bytes a step, so that a loop's exit is mispredicted once in
//! 64 bytes rather than once a piece.

/// Bits of the bytes that equal `a`, and of those that equal `b`.
#[inline(always)]
fn masks(block: &[u8; 64], a: u8, b: u8) -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let (mut first, mut second) = (0u64, 0u64);
        for k in 0..4 {
            // SAFETY: SSE2 belongs to x86_64, and 16 * k + 16 <= 64 bytes of the block are read.
            unsafe {
                let v = _mm_loadu_si128(block.as_ptr().add(16 * k).cast());
                let hit = |c: u8| u64::from(_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(c as i8))) as u32) << (16 * k);
                first |= hit(a);
                second |= hit(b);
            }
        }
        (first, second)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let bits = |of: u8| block.iter().enumerate().fold(0, |m, (i, c)| m | u64::from(*c == of) << i);
        (bits(a), bits(b))
    }
}

/// Places of two bytes in `text[off..off + len]`, 64 bytes a step: where the step begins, the bits of the bytes that are `a`, and of those
/// that are `a` or `b`. The end counts as an `a`. What follows in `text` is read, so that few blocks have to be copied.
#[inline(always)]
pub fn blocks(text: &[u8], off: usize, len: usize, a: u8, b: u8) -> Blocks<'_> {
    assert!(off + len <= text.len());
    Blocks { text, off, len, a, b, at: 0 }
}

/// See [`blocks`].
pub struct Blocks<'a> {
    text: &'a [u8],
    off: usize,
    len: usize,
    a: u8,
    b: u8,
    at: usize,
}

impl Iterator for Blocks<'_> {
    type Item = (usize, u64, u64);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, u64, u64)> {
        let (at, len) = (self.at, self.len);
        if at > len {
            return None;
        }
        let rest = &self.text[self.off + at..];
        let (mut first, second) = match rest.first_chunk::<64>() {
            Some(block) => masks(block, self.a, self.b),
            None => {
                let mut last = [0u8; 64];
                last[..len - at].copy_from_slice(&rest[..len - at]);
                masks(&last, self.a, self.b)
            }
        };
        let mut all = first | second;
        if len - at < 64 {
            let bit = 1 << (len - at);
            all = (all & (bit - 1)) | bit;
            first |= bit;
        }
        self.at += 64;
        Some((at, first, all))
    }
}

/// Calls `f` with the place in `text[off..off + len]` of every byte that is `a` (then with true) or `b`, in order, and then with
/// `len` and true.
#[inline(always)]
pub fn stops(text: &[u8], off: usize, len: usize, a: u8, b: u8, mut f: impl FnMut(usize, bool)) {
    for (at, first, mut all) in blocks(text, off, len, a, b) {
        while all != 0 {
            let bit = all.trailing_zeros();
            f(at + bit as usize, first >> bit & 1 != 0);
            all &= all - 1;
        }
    }
}

/// Calls `f` with the place of every byte that is `a` or `b`, in order.
#[inline(always)]
pub fn positions(text: &[u8], a: u8, b: u8, mut f: impl FnMut(usize)) {
    stops(text, 0, text.len(), a, b, |at, _| {
        if at < text.len() {
            f(at);
        }
    });
}

/// Calls `f(start, middle, end)` for every piece that is not empty: the key is `start..middle`, the value `middle + 1..end`, or
/// `""` where the piece has no inner separator (then `middle == end`).
#[inline(always)]
pub fn split_pairs(text: &[u8], pair: u8, key: u8, mut f: impl FnMut(usize, usize, usize)) {
    let (mut start, mut middle) = (0, usize::MAX);
    stops(text, 0, text.len(), pair, key, |at, ends| {
        if ends {
            if at > start {
                f(start, middle.min(at), at);
            }
            (start, middle) = (at + 1, usize::MAX);
        } else if middle == usize::MAX {
            middle = at;
        }
    });
}

/// The pairs of a text map: keys and values as they stand.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
    pair: u8,
    key: u8,
}

impl<'a> Pairs<'a> {
    /// Separators are ASCII.
    pub fn new(text: &'a str, pair: u8, key: u8) -> Pairs<'a> {
        Pairs { rest: text, pair, key }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        while !self.rest.is_empty() {
            let (piece, rest) = self.rest.split_once(self.pair as char).unwrap_or((self.rest, ""));
            self.rest = rest;
            if !piece.is_empty() {
                return Some(piece.split_once(self.key as char).unwrap_or((piece, "")));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs() {
        let all = |t: &'static str| Pairs::new(t, b'|', b'=').collect::<Vec<_>>();
        assert_eq!(all(""), []);
        assert_eq!(all("|||"), []);
        assert_eq!(all("a=1|b|=c|d=e=f|"), [("a", "1"), ("b", ""), ("", "c"), ("d", "e=f")]);
    }

    proptest! {
        #[test]
        fn masks_find_what_a_plain_loop_finds(t in "[a|=é]{0,200}", pair in prop::sample::select(vec![b'|', b'='])) {
            let key = if pair == b'|' { b'=' } else { b'|' };
            let mut found = vec![];
            split_pairs(t.as_bytes(), pair, key, |s, q, e| found.push((&t[s..q], t.get(q + 1..e).unwrap_or(""))));
            prop_assert_eq!(found, Pairs::new(&t, pair, key).collect::<Vec<_>>());
            let mut places = vec![];
            let (off, len) = (t.len() / 3, t.len() / 2);
            stops(t.as_bytes(), off, len, pair, b'a', |at, ends| places.push((at, ends)));
            let part = t.as_bytes()[off..][..len].iter().enumerate();
            let mut plain: Vec<_> = part.filter(|(_, c)| [pair, b'a'].contains(c)).map(|(i, c)| (i, *c == pair)).collect();
            plain.push((len, true));
            prop_assert_eq!(places, plain);
        }
    }
}
