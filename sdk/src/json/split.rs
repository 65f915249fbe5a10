//! Text that is a map, `a=1|b=2`, and separators in text: found 64 bytes a step, so that a loop's exit is mispredicted once in
//! 64 bytes rather than once a piece.

/// Bits of those of the first `n <= 64` bytes that equal `a` or `b`.
#[inline(always)]
fn mask(block: &[u8; 64], a: u8, b: u8) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let mut m = 0u64;
        for k in 0..4 {
            // SAFETY: SSE2 belongs to x86_64, and 16 * k + 16 <= 64 bytes of the block are read.
            m |= unsafe {
                let v = _mm_loadu_si128(block.as_ptr().add(16 * k).cast());
                let hit = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(a as i8)), _mm_cmpeq_epi8(v, _mm_set1_epi8(b as i8)));
                u64::from(_mm_movemask_epi8(hit) as u32) << (16 * k)
            };
        }
        m
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().enumerate().fold(0, |m, (i, c)| m | u64::from(*c == a || *c == b) << i)
}

/// Calls `f` with the place of every byte that is `a` or `b`, in order, and then with the text's length.
#[inline(always)]
pub fn stops(text: &[u8], a: u8, b: u8, mut f: impl FnMut(usize)) {
    let mut at = 0;
    // `f` is called at one place, so that it can be inlined.
    while at <= text.len() {
        let rest = &text[at..];
        let mut m = match rest.first_chunk::<64>() {
            Some(block) => mask(block, a, b),
            None => {
                let mut last = [0u8; 64];
                last[..rest.len()].copy_from_slice(rest);
                let end = 1 << rest.len();
                (mask(&last, a, b) & (end - 1)) | end
            }
        };
        while m != 0 {
            f(at + m.trailing_zeros() as usize);
            m &= m - 1;
        }
        at += 64;
    }
}

/// Calls `f` with the place of every byte that is `a` or `b`, in order.
#[inline(always)]
pub fn positions(text: &[u8], a: u8, b: u8, mut f: impl FnMut(usize)) {
    stops(text, a, b, |at| {
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
    stops(text, pair, key, |at| {
        if at == text.len() || text[at] == pair {
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
            stops(t.as_bytes(), pair, b'a', |at| places.push(at));
            let mut plain: Vec<usize> = t.bytes().enumerate().filter(|(_, c)| [pair, b'a'].contains(c)).map(|(i, _)| i).collect();
            plain.push(t.len());
            prop_assert_eq!(places, plain);
        }
    }
}
