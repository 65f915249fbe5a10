// ---- JSON pieces. ESC: canonical escapes may occur (only in lines this program wrote itself)
#[inline(always)]
unsafe fn str_end<const ESC: bool>(mut p: *const u8) -> Option<*const u8> {
    unsafe {
        loop {
            let v = B::load(p);
            let m = v.eq(b'"') | v.eq(b'\\') | v.ctl();
            if m != 0 {
                let e = p.add(m.trailing_zeros() as usize);
                if *e == b'"' {
                    return Some(e);
                }
                if ESC && *e == b'\\' {
                    p = e.add(2);
                    continue;
                }
                return None;
            }
            p = p.add(64);
        }
    }
}
/// an integer as JSON writes it; its end
#[inline(always)]
unsafe fn int_end<const ESC: bool>(mut p: *const u8) -> Option<*const u8> {
    unsafe {
        if ESC && *p == b'-' {
            p = p.add(1)
        }
        let s = p;
        let v = _mm_sub_epi8(_mm_loadu_si128(p.cast()), _mm_set1_epi8(b'0' as i8));
        p = p.add((_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v)) as u32).trailing_ones() as usize);
        while (*p).wrapping_sub(b'0') < 10 {
            p = p.add(1)
        }
        if p == s || (*s == b'0' && len(s, p) > 1) || len(s, p) > 18 + ESC as usize { None } else { Some(p) }
    }
}
#[inline(always)]
unsafe fn int(a: *const u8, b: *const u8) -> i64 {
    unsafe {
        #[inline(always)]
        fn eight(x: u64) -> i64 {
            let x = x & 0x0f0f0f0f0f0f0f0f;
            let x = x.wrapping_mul(2561) >> 8 & 0x00ff00ff00ff00ff;
            let x = x.wrapping_mul(6553601) >> 16 & 0x0000ffff0000ffff;
            (x.wrapping_mul(42949672960001) >> 32) as i64
        }
        if len(a, b) == 13 && *a != b'-' {
            return eight(a.cast::<u64>().read_unaligned()) * 100_000 + eight(b.sub(8).cast::<u64>().read_unaligned() & !0 << 24);
        }
        let (mut p, neg) = if *a == b'-' { (a.add(1), true) } else { (a, false) };
        let mut v = 0i64;
        while p < b {
            v = v.wrapping_mul(10).wrapping_add((*p - b'0') as i64);
            p = p.add(1)
        }
        if neg { -v } else { v }
    }
}
fn esc(b: &mut Vec<u8>, s: &[u8]) {
    for &c in s {
        match c {
            b'"' => b.extend(b"\\\""),
            b'\\' => b.extend(b"\\\\"),
            b'\n' => b.extend(b"\\n"),
            b'\r' => b.extend(b"\\r"),
            b'\t' => b.extend(b"\\t"),
            8 => b.extend(b"\\b"),
            12 => b.extend(b"\\f"),
            0..0x20 => write!(b, "\\u{c:04x}").unwrap(),
            _ => b.push(c),
        }
    }
}
/// a line anew in the expected layout, from the parts given: text (as it is), string (escaped)
enum P<'a> {
    T(&'a str),
    S(&'a str),
}
fn canon<'a>(b: &'a mut Vec<u8>, parts: &[P]) -> &'a [u8] {
    b.clear();
    for p in parts {
        match p {
            P::T(s) => b.extend(s.as_bytes()),
            P::S(s) => {
                b.push(b'"');
                esc(b, s.as_bytes());
                b.push(b'"')
            }
        }
    }
    let n = b.len();
    b.push(b'\n');
    b.resize(n + PAD, 0);
    &b[..n]
}
/// `a=b|c|d=` -> {"a":"b","c":"","d":""}
#[inline(always)]
unsafe fn split_map(src: *const u8, n: usize, sep: u8, mut d: *mut u8) -> *mut u8 {
    unsafe {
        d = lit(d, b"{\"");
        let (mut s, mut seen, mut any, mut i) = (0usize, false, false, 0usize);
        macro_rules! close {
            ($e:expr) => {
                if seen {
                    d = lit(cp(d, src.add(s), $e - s), b"\",\"\0").sub(1);
                    any = true
                } else if $e > s {
                    d = lit(cp(d, src.add(s), $e - s), b"\":\"\",\"\0\0").sub(2);
                    any = true
                }
            };
        }
        while i < n {
            let v = B::load(src.add(i));
            let ms = v.eq(sep);
            let mut m = ms | v.eq(b'=');
            if n - i < 64 {
                m &= (1 << (n - i)) - 1
            }
            while m != 0 {
                let k = m.trailing_zeros() as usize;
                let e = i + k;
                m &= m - 1;
                if ms >> k & 1 != 0 {
                    close!(e);
                    s = e + 1;
                    seen = false
                } else if !seen {
                    d = lit(cp(d, src.add(s), e - s), b"\":\"\0").sub(1);
                    s = e + 1;
                    seen = true
                }
            }
            i += 64;
        }
        close!(n);
        d = if any { d.sub(2) } else { d.sub(1) };
        *d = b'}';
        d.add(1)
    }
}
#[inline(always)]
unsafe fn cp_sub(d: *mut u8, s: *const u8, n: usize, from: u8, to: u8) -> *mut u8 {
    unsafe {
        let mut i = 0;
        while i < n {
            let mut t = s.add(i).cast::<[u8; 16]>().read_unaligned();
            for c in &mut t {
                if *c == from {
                    *c = to
                }
            }
            d.add(i).cast::<[u8; 16]>().write_unaligned(t);
            i += 16
        }
        d.add(n)
    }
}
