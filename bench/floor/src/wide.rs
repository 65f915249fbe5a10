// ---- 64 bytes at a time
use std::arch::x86_64::*;
#[cfg(target_feature = "avx512bw")]
#[derive(Clone, Copy)]
struct B(__m512i);
#[cfg(target_feature = "avx512bw")]
impl B {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> B {
        unsafe { B(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn eq(self, c: u8) -> u64 {
        unsafe { _mm512_cmpeq_epi8_mask(self.0, _mm512_set1_epi8(c as i8)) }
    }
    #[inline(always)]
    unsafe fn ctl(self) -> u64 {
        unsafe { _mm512_cmplt_epu8_mask(self.0, _mm512_set1_epi8(0x20)) }
    }
    #[inline(always)]
    unsafe fn hi(self) -> u64 {
        unsafe { _mm512_movepi8_mask(self.0) }
    }
}
#[cfg(not(target_feature = "avx512bw"))]
#[derive(Clone, Copy)]
struct B([__m128i; 4]);
#[cfg(not(target_feature = "avx512bw"))]
impl B {
    #[inline(always)]
    unsafe fn load(p: *const u8) -> B {
        unsafe { B(std::array::from_fn(|i| _mm_loadu_si128(p.add(i * 16).cast()))) }
    }
    #[inline(always)]
    unsafe fn each(self, f: impl Fn(__m128i) -> __m128i) -> u64 {
        unsafe { (0..4).fold(0, |m, i| m | (_mm_movemask_epi8(f(self.0[i])) as u32 as u64) << (i * 16)) }
    }
    #[inline(always)]
    unsafe fn eq(self, c: u8) -> u64 {
        unsafe { self.each(|v| _mm_cmpeq_epi8(v, _mm_set1_epi8(c as i8))) }
    }
    #[inline(always)]
    unsafe fn ctl(self) -> u64 {
        unsafe { self.each(|v| _mm_cmpeq_epi8(_mm_max_epu8(v, _mm_set1_epi8(0x1f)), _mm_set1_epi8(0x1f))) }
    }
    #[inline(always)]
    unsafe fn hi(self) -> u64 {
        unsafe { self.each(|v| v) }
    }
}
/// blind copy: reads and writes up to 31 bytes beyond n; both sides have room
#[inline(always)]
unsafe fn cp(d: *mut u8, s: *const u8, n: usize) -> *mut u8 {
    unsafe {
        let mut i = 0;
        loop {
            d.add(i).cast::<[u8; 32]>().write_unaligned(s.add(i).cast::<[u8; 32]>().read_unaligned());
            i += 32;
            if i >= n {
                return d.add(n);
            }
        }
    }
}
#[inline(always)]
unsafe fn lit<const N: usize>(d: *mut u8, s: &[u8; N]) -> *mut u8 {
    unsafe {
        d.cast::<[u8; N]>().write_unaligned(*s);
        d.add(N)
    }
}
#[inline(always)]
unsafe fn is<const N: usize>(p: *const u8, s: &[u8; N]) -> bool {
    unsafe { p.cast::<[u8; N]>().read_unaligned() == *s }
}
#[inline(always)]
unsafe fn num(d: *mut u8, v: i64) -> *mut u8 {
    unsafe {
        let mut b = itoa::Buffer::new();
        let s = b.format(v);
        std::ptr::copy_nonoverlapping(s.as_ptr(), d, s.len());
        d.add(s.len())
    }
}
#[inline(always)]
unsafe fn len(a: *const u8, b: *const u8) -> usize {
    b as usize - a as usize
}
#[inline(always)]
unsafe fn sl<'a>(a: *const u8, b: *const u8) -> &'a [u8] {
    unsafe { std::slice::from_raw_parts(a, len(a, b)) }
}
unsafe fn utf8_ok(l: &[u8]) -> bool {
    unsafe {
        let (mut i, mut h) = (0, 0);
        while i + 64 <= l.len() {
            h |= B::load(l.as_ptr().add(i)).hi();
            i += 64
        }
        if i < l.len() {
            h |= B::load(l.as_ptr().add(i)).hi() & ((1 << (l.len() - i)) - 1)
        }
        h == 0 || std::str::from_utf8(l).is_ok()
    }
}
