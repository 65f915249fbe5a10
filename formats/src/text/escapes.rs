//! Which bytes of a text JSON escapes.

/// A bit for every byte of a text that JSON escapes: control characters, quotes, backslashes. One look at a batch's text answers for
/// every piece of every line in it.
#[derive(Clone, Debug, Default)]
pub struct Escapes {
    bits: Vec<u64>,
    /// How many there are before each 64 bytes.
    before: Vec<u32>,
    ascii: bool,
}

impl Escapes {
    /// Looks at a text, which takes the place of the one before. `apart` is a character that no asked piece has.
    pub fn look(&mut self, text: &[u8], apart: Option<u8>) {
        // A letter is no escape anyway.
        let apart = apart.unwrap_or(b'a');
        self.bits.clear();
        self.before.clear();
        self.ascii = text.is_ascii();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has AVX2 and POPCNT.
            return unsafe { wide::look(text, apart, &mut self.bits, &mut self.before) };
        }
        let (blocks, rest) = text.as_chunks::<64>();
        self.bits.extend(blocks.iter().map(|b| plain(b, apart)));
        self.bits.push(plain(rest, apart));
        count(&self.bits, &mut self.before);
    }

    /// How many such bytes there are in `from..to`, which lies in the text.
    #[inline]
    pub fn count(&self, from: usize, to: usize) -> usize {
        let before = |at: usize| self.before[at / 64] + (self.bits[at / 64] & ((1 << (at % 64)) - 1)).count_ones();
        (before(to) - before(from)) as usize
    }

    /// Whether all of the text is ASCII.
    #[inline]
    pub fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// Whether there is such a byte in `from..to`, which lies in the text.
    #[inline]
    pub fn any(&self, from: usize, to: usize) -> bool {
        if from >= to {
            return false;
        }
        let (first, last) = (from / 64, (to - 1) / 64);
        let (head, tail) = (!0 << (from % 64), !0 >> (63 - (to - 1) % 64));
        if first == last {
            return self.bits[first] & head & tail != 0;
        }
        self.bits[first] & head != 0 || self.bits[last] & tail != 0 || self.bits[first + 1..last].iter().any(|b| *b != 0)
    }
}

/// Appends how many bits there are before each word.
#[inline(always)]
fn count(bits: &[u64], before: &mut Vec<u32>) {
    let mut sum = 0;
    before.extend(bits.iter().map(|b| {
        let before = sum;
        sum += b.count_ones();
        before
    }));
}

/// The bits of at most 64 bytes.
fn plain(bytes: &[u8], apart: u8) -> u64 {
    let escaped = |c: u8| c != apart && (c < 0x20 || c == b'"' || c == b'\\');
    bytes.iter().enumerate().fold(0, |m, (i, c)| m | u64::from(escaped(*c)) << i)
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn escaped(v: __m256i, apart: __m256i) -> u32 {
        // At the place of its low four bits lies the character itself, for the two that are no control characters.
        const TWO: [u8; 16] = [0, 0, b'"', 0, 0, 0, 0, 0, 0, 0, 0, 0, b'\\', 0, 0, 0];
        // SAFETY: the array has 16 bytes.
        let two = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(TWO.as_ptr().cast()) });
        let one_of_two = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(two, v), v);
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
        _mm256_movemask_epi8(_mm256_andnot_si256(_mm256_cmpeq_epi8(v, apart), _mm256_or_si256(control, one_of_two))) as u32
    }

    /// Appends the bits of the text, and how many there are before each 64 of them.
    #[target_feature(enable = "avx2,popcnt")]
    pub fn look(text: &[u8], apart: u8, bits: &mut Vec<u64>, before: &mut Vec<u32>) {
        let end = _mm256_set1_epi8(apart as i8);
        let (blocks, rest) = text.as_chunks::<64>();
        bits.resize(blocks.len(), 0);
        for (bits, block) in bits.iter_mut().zip(blocks) {
            // SAFETY: both halves of the block have 32 bytes.
            let (a, b) = unsafe { (_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(32).cast())) };
            *bits = u64::from(escaped(a, end)) | u64::from(escaped(b, end)) << 32;
        }
        bits.push(super::plain(rest, apart));
        super::count(bits, before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_those_of_a_plain_loop(text in "[ab\"\\\\\n]{0,3}[abcé]{0,90}[a\t]{0,2}[bc]{0,90}", apart in prop::option::of(prop::sample::select(vec![b'\t', b'"', b'a']))) {
            let mut escapes = Escapes::default();
            escapes.look(b"something else \" before", None);
            escapes.look(text.as_bytes(), apart);
            prop_assert_eq!(escapes.is_ascii(), text.is_ascii());
            for from in 0..=text.len() {
                for to in from..=text.len() {
                    let want = text.as_bytes()[from..to].iter().filter(|c| Some(**c) != apart && (**c < 0x20 || **c == b'"' || **c == b'\\')).count();
                    prop_assert_eq!(escapes.any(from, to), want > 0, "{}..{}", from, to);
                    prop_assert_eq!(escapes.count(from, to), want, "{}..{}", from, to);
                }
            }
        }
    }
}
