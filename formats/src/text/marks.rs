//! Places of a few bytes in a line, found for all of them in one look: searches that follow each other need not look again.

/// Bytes that can be looked for at once.
pub const BYTES: usize = 8;
/// Blocks of 64 bytes of the longest line that is looked at so.
const BLOCKS: usize = 16;

/// Whether the processor has what [`Marks::look`] takes.
pub fn able() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// A bit for each place, by byte and block; kept from line to line.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    bits: [[u64; BLOCKS]; BYTES],
    blocks: usize,
}

impl Marks {
    /// Marks the places of `wanted`, at most [`BYTES`] bytes, in `all[begin..end]`; bits of places behind that are of no meaning. False: the
    /// line is too long, or too little text follows it.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub fn look(&mut self, wanted: &[u8], all: &[u8], begin: usize, end: usize) -> bool {
        use std::arch::x86_64::*;
        let blocks = (end - begin).div_ceil(64);
        let Some(text) = all.get(begin..begin + 64 * blocks) else { return false };
        if blocks > BLOCKS {
            return false;
        }
        self.blocks = blocks;
        for (bits, byte) in self.bits.iter_mut().zip(wanted) {
            let same = _mm256_set1_epi8(*byte as i8);
            let mask = |half: __m256i| u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(half, same)) as u32);
            for (bits, block) in bits.iter_mut().zip(text.as_chunks::<64>().0) {
                // SAFETY: both halves of the block have 32 bytes.
                let (low, high) = unsafe { (_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(32).cast())) };
                *bits = mask(low) | mask(high) << 32;
            }
        }
        true
    }

    /// The first place at or behind `at`, counted from the line's begin, that is marked for the byte of that index and that `is_it`.
    #[inline(always)]
    pub fn first(&self, byte: usize, at: usize, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let bits = &self.bits[byte];
        let mut block = at / 64;
        if block >= self.blocks {
            return None;
        }
        let mut found = bits[block] & (!0 << (at % 64));
        loop {
            while found == 0 {
                block += 1;
                if block >= self.blocks {
                    return None;
                }
                found = bits[block];
            }
            let place = block * 64 + found.trailing_zeros() as usize;
            if is_it(place) {
                return Some(place);
            }
            found &= found - 1;
        }
    }

    /// Calls `f` with every place before `end` that is marked for the first byte, in order.
    #[inline(always)]
    pub fn each(&self, end: usize, mut f: impl FnMut(usize)) {
        for (i, bits) in self.bits[0].iter().take(self.blocks).enumerate() {
            let left = end - 64 * i;
            let mut found = if left < 64 { bits & ((1 << left) - 1) } else { *bits };
            while found != 0 {
                f(64 * i + found.trailing_zeros() as usize);
                found &= found - 1;
            }
        }
    }
}
