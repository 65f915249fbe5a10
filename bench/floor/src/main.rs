//! The floor of J1, J1t, J2, J3, J4 (../JOBS.md): bare loops, one thread.   bare-jobs JOB IN... OUT   (J1any, J1tre: J1 in any key order, J1t by the regex crate; bad lines: OUT.bad; J3: IN = exposures clicks)
//! Every line is first read by its expected layout (key order of the generator), with 64-byte masks; a line that does not fit is parsed by sonic-rs,
//! and, when valid, written again in that layout with canonical escapes and sent through the same code. So the layout is a guess, never a rule.
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::File,
    io::{Read, Write},
    time::Instant,
};

#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
const PAD: usize = 256;

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

// ---- lines in (each followed by \n and PAD readable bytes), lines out
struct Lines {
    f: File,
    b: Vec<u8>,
    s: usize,
    e: usize,
    done: bool,
    n: u64,
}
impl Lines {
    fn new(p: &str) -> Lines {
        Lines { f: File::open(p).unwrap(), b: vec![0; CHUNK + PAD], s: 0, e: 0, done: false, n: 0 }
    }
    #[inline(always)]
    fn take(&mut self) -> Option<&'static [u8]> {
        let k = memchr::memchr(b'\n', &self.b[self.s..self.e])?;
        let l = unsafe { std::slice::from_raw_parts(self.b.as_ptr().add(self.s), k) };
        self.s += k + 1;
        self.n += 1;
        Some(l) // valid until the next fill
    }
    #[cold]
    fn fill(&mut self) -> bool {
        if self.done {
            return false;
        }
        self.b.copy_within(self.s..self.e, 0);
        self.e -= self.s;
        self.s = 0;
        if self.b.len() - PAD - self.e < 4096 {
            let l = self.b.len() * 2;
            self.b.resize(l, 0)
        }
        let top = self.b.len() - PAD;
        let k = self.f.read(&mut self.b[self.e..top]).unwrap();
        self.e += k;
        if k == 0 {
            self.done = true;
            if self.e > 0 {
                self.b[self.e] = b'\n';
                self.e += 1
            }
        }
        self.e > 0
    }
    #[inline(always)]
    fn next(&mut self) -> Option<&'static [u8]> {
        loop {
            if let Some(l) = self.take() {
                return Some(l);
            }
            if !self.fill() {
                return None;
            }
        }
    }
}
struct Out {
    f: File,
    b: Vec<u8>,
    n: u64,
}
const CHUNK: usize = 256 << 10;
impl Out {
    fn new(p: &str) -> Out {
        Out { f: File::create(p).unwrap(), b: Vec::with_capacity(CHUNK + 65536), n: 0 }
    }
    #[inline(always)]
    unsafe fn at(&mut self, need: usize) -> *mut u8 {
        self.b.reserve(need);
        unsafe { self.b.as_mut_ptr().add(self.b.len()) }
    }
    #[inline(always)]
    unsafe fn end(&mut self, d: *mut u8) {
        unsafe {
            *d = b'\n';
            let n = len(self.b.as_ptr(), d) + 1;
            self.b.set_len(n);
            self.n += 1;
            if n >= CHUNK {
                self.flush()
            }
        }
    }
    fn raw(&mut self, l: &[u8]) {
        unsafe {
            let d = self.at(l.len() + PAD);
            let d = cp(d, l.as_ptr(), l.len());
            self.end(d)
        }
    } // l comes from Lines
    fn flush(&mut self) {
        self.f.write_all(&self.b).unwrap();
        self.b.clear()
    }
}

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

// ---- J1, J4: the event row
struct Ev {
    ts: (*const u8, *const u8),
    blk: (*const u8, *const u8),
    mid: (*const u8, *const u8),
    os: (*const u8, *const u8),
    ver: (*const u8, *const u8),
    net: (*const u8, *const u8),
    ext: (*const u8, *const u8),
    ip: (*const u8, *const u8),
    cents: i64,
}
#[inline(always)]
unsafe fn ev<const ESC: bool>(l: &[u8]) -> Option<Ev> {
    unsafe {
        let (mut p, end) = (l.as_ptr(), l.as_ptr().add(l.len()));
        macro_rules! want {
            ($x:literal) => {
                if !is(p, $x) {
                    return None;
                }
                p = p.add($x.len());
            };
        }
        macro_rules! st {
            () => {{
                let s = p;
                p = str_end::<ESC>(p)?;
                (s, p)
            }};
        }
        want!(b"{\"ts\":");
        let ts = (p, int_end::<ESC>(p)?);
        p = ts.1;
        let b0 = p;
        want!(b",\"uid\":\"");
        st!();
        want!(b"\",\"mid\":\"");
        let mid = st!();
        want!(b"\",\"action\":\"");
        let act = st!();
        if !matches!(sl(act.0, act.1), b"exposure" | b"click" | b"like" | b"forward") {
            return None;
        }
        let blk = (b0, p);
        want!(b"\",\"client\":{\"os\":\"");
        let os = st!();
        want!(b"\",\"version\":\"");
        let ver = st!();
        want!(b"\",\"net\":\"");
        let net = st!();
        want!(b"\"},\"ext\":\"");
        let ext = st!();
        want!(b"\",\"ip\":\"");
        let ip = st!();
        want!(b"\",\"price\":");
        let cents = if ESC {
            let v: f64 = std::str::from_utf8(sl(p, end.sub(1))).ok()?.parse().ok()?;
            (v * 100.0 + 0.5).floor() as i64
        } else {
            // up to two decimals: floor(price*100 + .5) is the digits themselves
            let s = p;
            let mut v = 0i64;
            while (*p).wrapping_sub(b'0') < 10 {
                v = v.wrapping_mul(10) + (*p - b'0') as i64;
                p = p.add(1)
            }
            let n = len(s, p);
            if n == 0 || n > 12 || (*s == b'0' && n > 1) {
                return None;
            }
            if *p == b'.' {
                let (a, b) = ((*p.add(1)).wrapping_sub(b'0'), (*p.add(2)).wrapping_sub(b'0'));
                if a > 9 {
                    return None;
                }
                if b > 9 {
                    v = v * 100 + a as i64 * 10;
                    p = p.add(2)
                } else {
                    v = v * 100 + a as i64 * 10 + b as i64;
                    p = p.add(3)
                }
            } else {
                v *= 100
            }
            if *p != b'}' || p.add(1) != end || !utf8_ok(l) {
                return None;
            }
            v
        };
        Some(Ev { ts, blk, mid, os, ver, net, ext, ip, cents })
    }
}
#[cold]
fn ev_slow<'a>(l: &[u8], b: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let v: Value = sonic_rs::from_slice(l).ok()?;
    let m = v.as_object()?;
    let st = |k: &str| m.get(&k).and_then(|v| v.as_str());
    let (ts, price, c) = (m.get(&"ts")?.as_i64()?, m.get(&"price")?.as_f64()?, m.get(&"client")?.as_object()?);
    let (uid, mid, act, ext, ip) = (st("uid")?, st("mid")?, st("action")?, st("ext")?, st("ip")?);
    let cs = |k: &str| c.get(&k).and_then(|v| v.as_str());
    let (os, ver, net) = (cs("os")?, cs("version")?, cs("net")?);
    use P::*;
    Some(canon(
        b,
        &[
            T("{\"ts\":"),
            T(&ts.to_string()),
            T(",\"uid\":"),
            S(uid),
            T(",\"mid\":"),
            S(mid),
            T(",\"action\":"),
            S(act),
            T(",\"client\":{\"os\":"),
            S(os),
            T(",\"version\":"),
            S(ver),
            T(",\"net\":"),
            S(net),
            T("},\"ext\":"),
            S(ext),
            T(",\"ip\":"),
            S(ip),
            T(",\"price\":"),
            T(&price.to_string()),
            T("}"),
        ],
    ))
}
#[inline(always)]
unsafe fn j1_row(e: &Ev, n: usize, o: &mut Out) {
    unsafe {
        let mut d = o.at(n * 4 + 1024);
        d = lit(d, b"{\"sec\":");
        let t = len(e.ts.0, e.ts.1);
        d = if t > 3 && *e.ts.0 != b'-' { cp(d, e.ts.0, t - 3) } else { num(d, int(e.ts.0, e.ts.1).div_euclid(1000)) };
        d = cp(d, e.blk.0, len(e.blk.0, e.blk.1));
        d = match sl(e.os.0, e.os.1) {
            b"ios" => lit(d, b"\",\"plat\":\"apple\",\"ver\":\""),
            b"android" => lit(d, b"\",\"plat\":\"google\",\"ver\":\""),
            _ => lit(d, b"\",\"plat\":\"other\",\"ver\":\""),
        };
        d = cp_sub(d, e.ver.0, len(e.ver.0, e.ver.1), b'.', b'_');
        d = lit(d, b"\",\"net\":\"");
        d = cp(d, e.net.0, len(e.net.0, e.net.1));
        d = lit(d, b"\",\"ip\":\"");
        d = cp(d, e.ip.0, len(e.ip.0, e.ip.1));
        d = lit(d, b"\",\"cents\":");
        d = num(d, e.cents);
        d = lit(d, b",\"ext\":");
        d = split_map(e.ext.0, len(e.ext.0, e.ext.1), b'|', d);
        *d = b'}';
        o.end(d.add(1));
    }
}
unsafe fn j1(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        let mut buf = vec![];
        while let Some(l) = i.next() {
            if let Some(e) = ev::<false>(l) {
                j1_row(&e, l.len(), o);
                continue;
            }
            match ev_slow(l, &mut buf).and_then(|l| Some((ev::<true>(l)?, l.len()))) {
                Some((e, n)) => j1_row(&e, n, o),
                None => bad.raw(l),
            }
        }
    }
}

/// J1 with the fields in any order: a planned struct with borrowed strings (sonic-rs through serde), the same writer. The floor that a job which knows no order is held against.
#[derive(serde::Deserialize)]
struct AnyClient<'a> {
    os: &'a str,
    version: &'a str,
    net: &'a str,
}
#[derive(serde::Deserialize)]
struct AnyOrder<'a> {
    ts: i64,
    uid: &'a str,
    mid: &'a str,
    action: &'a str,
    #[serde(borrow)]
    client: AnyClient<'a>,
    ext: &'a str,
    ip: &'a str,
    price: f64,
}
unsafe fn j1_any(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        let mut buf = vec![];
        while let Some(l) = i.next() {
            let r = match sonic_rs::from_slice::<AnyOrder>(l) {
                Ok(r) if matches!(r.action, "exposure" | "click" | "like" | "forward") => r,
                // an escape somewhere, a duplicate key, or a bad line
                _ => {
                    match ev_slow(l, &mut buf).and_then(|l| Some((ev::<true>(l)?, l.len()))) {
                        Some((e, n)) => j1_row(&e, n, o),
                        None => bad.raw(l),
                    }
                    continue;
                }
            };
            let mut d = o.at(l.len() * 4 + 1024);
            macro_rules! put {
                ($l:literal, $s:expr) => {
                    d = lit(d, $l);
                    d = cp(d, $s.as_ptr(), $s.len());
                };
            }
            d = num(lit(d, b"{\"sec\":"), r.ts.div_euclid(1000));
            put!(b",\"uid\":\"", r.uid);
            put!(b"\",\"mid\":\"", r.mid);
            put!(b"\",\"action\":\"", r.action);
            d = match r.client.os {
                "ios" => lit(d, b"\",\"plat\":\"apple\",\"ver\":\""),
                "android" => lit(d, b"\",\"plat\":\"google\",\"ver\":\""),
                _ => lit(d, b"\",\"plat\":\"other\",\"ver\":\""),
            };
            d = cp_sub(d, r.client.version.as_ptr(), r.client.version.len(), b'.', b'_');
            put!(b"\",\"net\":\"", r.client.net);
            put!(b"\",\"ip\":\"", r.ip);
            d = num(lit(d, b"\",\"cents\":"), (r.price * 100.0 + 0.5).floor() as i64);
            d = split_map(r.ext.as_ptr(), r.ext.len(), b'|', lit(d, b",\"ext\":"));
            *d = b'}';
            o.end(d.add(1));
        }
    }
}

// ---- J1t
const RE: &str =
    r#"(?-u)^(\S+) \S+ \S+ \[([^\]]+)\] "([A-Z]+) ([^ ?"]+)\?([^ "]*) HTTP/[0-9.]+" (\d{3}) (\d+|-) "[^"]*" "([^"]*)" (\d+)\.(\d{3})$"#;
type R = (*const u8, *const u8);
/// groups 1..10 (9 and 10 as one range with the dot). By hand for a line without backslash and control characters; every class stops at the byte that must follow it.
#[inline(always)]
unsafe fn acc(l: &[u8]) -> Option<[R; 9]> {
    unsafe {
        let (mut p, end) = (l.as_ptr(), l.as_ptr().add(l.len()));
        macro_rules! find { ($($c:expr),*) => { { let s = p; loop { let v = B::load(p); let m = v.eq(b'\n') $( | v.eq($c) )*; if m != 0 { p = p.add(m.trailing_zeros() as usize); break } p = p.add(64) } if p >= end { return None } (s, p) } } }
        macro_rules! some {
            ($r:expr) => {{
                let r = $r;
                if r.0 == r.1 {
                    return None;
                }
                r
            }};
        }
        macro_rules! want {
            ($x:literal) => {
                if !is(p, $x) {
                    return None;
                }
                p = p.add($x.len());
            };
        }
        macro_rules! digits {
            () => {{
                let s = p;
                while (*p).wrapping_sub(b'0') < 10 {
                    p = p.add(1)
                }
                some!((s, p))
            }};
        }
        let ip = some!(find!(b' '));
        p = p.add(1);
        some!(find!(b' '));
        p = p.add(1);
        some!(find!(b' '));
        want!(b" [");
        let time = some!(find!(b']'));
        want!(b"] \"");
        let s = p;
        while (*p).wrapping_sub(b'A') < 26 {
            p = p.add(1)
        }
        let method = some!((s, p));
        want!(b" ");
        let path = some!(find!(b' ', b'?', b'"'));
        want!(b"?");
        let q = find!(b' ', b'"');
        want!(b" HTTP/");
        let s = p;
        while *p == b'.' || (*p).wrapping_sub(b'0') < 10 {
            p = p.add(1)
        }
        some!((s, p));
        want!(b"\" ");
        let st = digits!();
        if len(st.0, st.1) != 3 {
            return None;
        }
        want!(b" ");
        let by = if *p == b'-' {
            p = p.add(1);
            (p, p)
        } else {
            digits!()
        };
        want!(b" \"");
        find!(b'"');
        want!(b"\" \"");
        let ua = find!(b'"');
        want!(b"\" ");
        let s = p;
        digits!();
        want!(b".");
        let f = digits!();
        if len(f.0, f.1) != 3 || p != end {
            return None;
        }
        Some([ip, time, method, path, q, st, by, ua, (s, p)])
    }
}
#[inline(always)]
unsafe fn digs(d: *mut u8, r: R) -> *mut u8 {
    unsafe {
        // a number from its digits: leading zeros go, empty is 0
        let mut a = r.0;
        while a < r.1 && *a == b'0' {
            a = a.add(1)
        }
        if a >= r.1 {
            *d = b'0';
            return d.add(1);
        }
        cp(d, a, len(a, r.1))
    }
}
#[inline(always)]
unsafe fn uid_of(q: R) -> Option<R> {
    unsafe {
        if len(q.0, q.1) < 5 || !is(q.0, b"uid=") {
            return None;
        }
        let s = q.0.add(4);
        let mut p = s;
        while p < q.1 && (*p).wrapping_sub(b'0') < 10 {
            p = p.add(1)
        }
        if p > s && (p == q.1 || *p == b'&') { Some((s, p)) } else { None }
    }
}
#[inline(always)]
unsafe fn j1t_row(g: &[R; 9], uid: R, n: usize, o: &mut Out) {
    unsafe {
        let mut d = o.at(n * 4 + 1024);
        macro_rules! g {
            ($l:literal, $i:expr) => {
                d = lit(d, $l);
                d = cp(d, g[$i].0, len(g[$i].0, g[$i].1));
            };
        }
        g!(b"{\"ip\":\"", 0);
        g!(b"\",\"time\":\"", 1);
        g!(b"\",\"method\":\"", 2);
        g!(b"\",\"path\":\"", 3);
        d = digs(lit(d, b"\",\"uid\":"), uid);
        d = digs(lit(d, b",\"status\":"), g[5]);
        d = digs(lit(d, b",\"bytes\":"), g[6]);
        d = lit(d, b",\"rt_ms\":");
        let (a, b) = g[8];
        let mut t = [0u8; 64];
        let k = len(a, b);
        if k <= 32 {
            cp(t.as_mut_ptr(), a, k - 4);
            t[k - 4] = *b.sub(3);
            t[k - 3] = *b.sub(2);
            t[k - 2] = *b.sub(1);
            let r = t.as_ptr();
            d = digs(d, (r, r.add(k - 1)))
        } else {
            let mut v = sl(a, b).to_vec();
            v.remove(k - 4);
            v.resize(k + PAD, 0);
            let r = v.as_ptr();
            d = digs(d, (r, r.add(k - 1)))
        }
        d = if *g[5].0 < b'4' { lit(d, b",\"ok\":\"yes\",\"ua\":\"") } else { lit(d, b",\"ok\":\"no\",\"ua\":\"") };
        d = cp_sub(d, g[7].0, len(g[7].0, g[7].1), b'/', b'_');
        d = lit(d, b"\",\"q\":");
        d = split_map(g[4].0, len(g[4].0, g[4].1), b'&', d);
        *d = b'}';
        o.end(d.add(1));
    }
}
/// REGEX: the regex itself on every line (the floor of a job that is given the pattern as text); otherwise matched by hand
unsafe fn j1t<const REGEX: bool>(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        let re = regex::bytes::Regex::new(RE).unwrap();
        let mut at = re.capture_locations();
        while let Some(l) = i.next() {
            let (mut k, mut odd, mut hi) = (0, 0, 0);
            while k < l.len() {
                let v = B::load(l.as_ptr().add(k));
                let m = if l.len() - k < 64 { (1 << (l.len() - k)) - 1 } else { !0 };
                odd |= (v.ctl() | v.eq(b'\\')) & m;
                hi |= v.hi() & m;
                k += 64
            }
            if hi != 0 && std::str::from_utf8(l).is_err() {
                bad.raw(l);
                continue;
            }
            if odd == 0 {
                let g = if REGEX {
                    re.captures_read(&mut at, l).map(|_| {
                        let r = |a: usize, b: usize| {
                            let (x, y) = (at.get(a).unwrap().0, at.get(b).unwrap().1);
                            (l.as_ptr().add(x), l.as_ptr().add(y))
                        };
                        let mut by = r(7, 7);
                        if *by.0 == b'-' {
                            by.0 = by.1
                        }
                        [r(1, 1), r(2, 2), r(3, 3), r(4, 4), r(5, 5), r(6, 6), by, r(8, 8), r(9, 10)]
                    })
                } else {
                    acc(l)
                };
                let Some(g) = g else {
                    bad.raw(l);
                    continue;
                };
                let Some(u) = uid_of(g[4]) else {
                    bad.raw(l);
                    continue;
                };
                if memchr::memchr(b'"', sl(g[0].0, g[1].1)).is_none() {
                    j1t_row(&g, u, l.len(), o);
                    continue;
                }
            }
            // rare: a quote, backslash or control character inside a field: the regex itself, then fields escaped
            let Some(c) = re.captures(l) else {
                bad.raw(l);
                continue;
            };
            let x: Vec<Vec<u8>> = [1, 2, 3, 4, 5, 6, 7, 8]
                .iter()
                .map(|&i| {
                    let mut v = vec![];
                    let s = &c[i];
                    if i == 7 && s == b"-" {
                    } else {
                        esc(&mut v, s)
                    }
                    v
                })
                .chain([[&c[9], b".", &c[10]].concat()])
                .map(|mut v| {
                    let n = v.len();
                    v.resize(n + PAD, b' ');
                    v.truncate(n);
                    v
                })
                .collect();
            let g: [R; 9] = std::array::from_fn(|i| {
                let r = x[i].as_ptr_range();
                (r.start, r.end)
            });
            match uid_of(g[4]) {
                Some(u) => j1t_row(&g, u, l.len() * 6, o),
                None => bad.raw(l),
            }
        }
    }
}

// ---- J2: open addressing, 32-byte slots (length + 1, then up to 31 key bytes), batches of 32 lines with prefetch; longer keys in a set of their own
static MASK: [u8; 64] = {
    let mut m = [0; 64];
    let mut i = 0;
    while i < 32 {
        m[i] = 255;
        i += 1
    }
    m
};
type Slot = [u64; 4];
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let r = a as u128 * b as u128;
    r as u64 ^ (r >> 64) as u64
}
#[inline(always)]
fn hash4(k: &Slot) -> u64 {
    fold(
        fold(k[0] ^ 0xa0761d6478bd642f, k[1] ^ 0xe7037ed1a0b428db) ^ 0x8ebc6af09c88c6e3,
        fold(k[2] ^ 0x589965cc75374cc3, k[3] ^ 0x1d8e4e27c47d124f) ^ 0xeb44accab455d165,
    )
}
struct Set {
    m: memmap2::MmapMut,
    mask: usize,
    used: usize,
}
impl Set {
    fn new(bits: u32) -> Set {
        let m = memmap2::MmapMut::map_anon(32 << bits).unwrap();
        let _ = m.advise(memmap2::Advice::HugePage);
        Set { m, mask: (1 << bits) - 1, used: 0 }
    }
    #[inline(always)]
    unsafe fn p(&self, i: usize) -> *mut Slot {
        unsafe { self.m.as_ptr().cast_mut().cast::<Slot>().add(i) }
    }
    #[inline(always)]
    unsafe fn add(&mut self, k: &Slot, h: u64) -> bool {
        unsafe {
            let mut i = h as usize & self.mask;
            loop {
                let s = self.p(i);
                if *s == *k {
                    return false;
                }
                if (*s)[0] == 0 {
                    *s = *k;
                    self.used += 1;
                    return true;
                }
                i = (i + 1) & self.mask
            }
        }
    }
    #[cold]
    unsafe fn grow(&mut self) {
        unsafe {
            let mut t = Set::new((self.mask + 1).ilog2() + 1);
            for i in 0..=self.mask {
                let s = *self.p(i);
                if s[0] != 0 {
                    t.add(&s, hash4(&s));
                }
            }
            *self = t
        }
    }
}
#[derive(serde::Deserialize)]
struct Id<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}
unsafe fn j2(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        let mut set = Set::new(12);
        let mut long: HashSet<Box<[u8]>> = HashSet::new();
        let mut keys: [(Slot, u64, &'static [u8]); 32] = [([0; 4], 0, b""); 32];
        let mut tmp = vec![0u8; 64];
        loop {
            let mut n = 0;
            while n < 32 {
                let Some(l) = i.take() else { break };
                let p = l.as_ptr().add(7);
                let e = if is(l.as_ptr(), b"{\"id\":\"") && l[l.len() - 1] == b'}' { str_end::<false>(p) } else { None };
                let (q, k) = match e {
                    Some(e) => (p.sub(1), len(p, e)),
                    None => {
                        let Ok(x) = sonic_rs::from_slice::<Id>(l) else {
                            bad.raw(l);
                            continue;
                        };
                        tmp.clear();
                        tmp.push(b'"');
                        tmp.extend(x.id.as_bytes());
                        let k = tmp.len() - 1;
                        tmp.resize(k + 64, 0);
                        (tmp.as_ptr(), k)
                    }
                };
                let mut key: Slot = [0; 4];
                if k <= 31 {
                    let (a, m) = (q.cast::<Slot>().read_unaligned(), MASK.as_ptr().add(31 - k).cast::<Slot>().read_unaligned());
                    for j in 0..4 {
                        key[j] = a[j] & m[j]
                    }
                    key[0] = key[0] & !255 | (k as u64 + 1);
                } else {
                    key[0] = if long.insert(std::slice::from_raw_parts(q.add(1), k).into()) { 254 } else { 255 }
                }
                let h = hash4(&key);
                _mm_prefetch::<_MM_HINT_T0>(set.p(h as usize & set.mask).cast());
                keys[n] = (key, h, l);
                n += 1;
            }
            if n == 0 {
                if !i.fill() {
                    return;
                }
                continue;
            }
            for (k, h, l) in &keys[..n] {
                if match k[0] & 255 {
                    254 => true,
                    255 => false,
                    _ => set.add(k, *h),
                } {
                    o.raw(l)
                }
            }
            if (set.used + 32) * 10 > (set.mask + 1) * 6 {
                set.grow()
            }
        }
    }
}

// ---- J3, J4: rows in a slab, chained by hash, so that one can be taken out by its number
struct Txt<const N: usize> {
    n: u32,
    b: [u8; N],
    long: Option<Box<[u8]>>,
}
impl<const N: usize> Txt<N> {
    #[inline(always)]
    fn get(&self) -> &[u8] {
        match &self.long {
            None => unsafe { self.b.get_unchecked(..self.n as usize) },
            Some(b) => b,
        }
    }
}
fn txt<const N: usize>(s: &[u8]) -> Txt<N> {
    // s has 31 readable bytes after it
    let mut t = Txt { n: s.len() as u32, b: [0; N], long: None };
    if s.len() + 32 <= N {
        unsafe {
            cp(t.b.as_mut_ptr(), s.as_ptr(), s.len());
        }
    } else if s.len() <= N {
        t.b[..s.len()].copy_from_slice(s)
    } else {
        t.long = Some(s.into())
    }
    t
}
const NIL: u32 = u32::MAX;
struct Node<T> {
    h: u64,
    next: u32,
    t: T,
}
struct Slab<T> {
    heads: Vec<u32>,
    rows: Vec<Node<T>>,
    free: Vec<u32>,
}
impl<T> Slab<T> {
    fn new() -> Self {
        Slab { heads: vec![NIL; 4096], rows: vec![], free: vec![] }
    }
    #[inline(always)]
    fn head(&self, h: u64) -> u32 {
        self.heads[(h >> 20) as usize & (self.heads.len() - 1)]
    }
    #[inline(always)]
    fn put(&mut self, h: u64, t: T) -> u32 {
        if self.rows.len() - self.free.len() >= self.heads.len() {
            self.grow()
        }
        let b = (h >> 20) as usize & (self.heads.len() - 1);
        let nd = Node { h, next: self.heads[b], t };
        let i = match self.free.pop() {
            Some(i) => {
                self.rows[i as usize] = nd;
                i
            }
            None => {
                self.rows.push(nd);
                self.rows.len() as u32 - 1
            }
        };
        self.heads[b] = i;
        i
    }
    #[inline(always)]
    fn cut(&mut self, i: u32) {
        // the row itself stays readable until its place is used again
        let (h, next) = (self.rows[i as usize].h, self.rows[i as usize].next);
        let b = (h >> 20) as usize & (self.heads.len() - 1);
        if self.heads[b] == i {
            self.heads[b] = next
        } else {
            let mut p = self.heads[b];
            while self.rows[p as usize].next != i {
                p = self.rows[p as usize].next
            }
            self.rows[p as usize].next = next
        }
        self.free.push(i);
    }
    #[cold]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.heads);
        let n = old.len() * 2;
        self.heads = vec![NIL; n];
        for mut i in old {
            while i != NIL {
                let r = &mut self.rows[i as usize];
                let nx = r.next;
                let b = (r.h >> 20) as usize & (n - 1);
                r.next = self.heads[b];
                self.heads[b] = i;
                i = nx
            }
        }
    }
}
/// 8 bytes a step; k has 8 readable bytes after it
#[inline(always)]
unsafe fn hash(k: &[u8]) -> u64 {
    unsafe {
        let (mut h, mut i, p, n) = (k.len() as u64 ^ 0xa0761d6478bd642f, 0, k.as_ptr(), k.len());
        while i + 8 <= n {
            h = fold(h ^ p.add(i).cast::<u64>().read_unaligned(), 0xe7037ed1a0b428db);
            i += 8
        }
        if i < n {
            h = fold(h ^ (p.add(i).cast::<u64>().read_unaligned() & ((1 << ((n - i) * 8)) - 1)), 0x8ebc6af09c88c6e3)
        }
        h
    }
}
/// row numbers by time, 256 ms together
struct Due {
    q: BTreeMap<i64, Vec<u32>>,
    pool: Vec<Vec<u32>>,
}
impl Due {
    #[inline(always)]
    fn add(&mut self, t: i64, i: u32) {
        self.q.entry(t >> 8).or_insert_with(|| self.pool.pop().unwrap_or_default()).push(i)
    }
    #[inline(always)]
    fn pop(&mut self, before: i64) -> Option<Vec<u32>> {
        if *self.q.first_key_value()?.0 < before >> 8 { self.q.pop_first().map(|x| x.1) } else { None }
    }
}
struct L {
    ts: i64,
    hit: bool,
    k: u32,
    t: Txt<160>,
} // text: "mid":"..","uid":".." (k bytes, the key),"ets":..,"pos":..,"src":".."
struct Rt {
    ts: i64,
    t: Txt<128>,
    k: u32,
} // the key, then ,"cts":..,"dwell":..}
struct Row {
    ts: R,
    key: R,
    rest: R,
}
#[inline(always)]
unsafe fn row<const ESC: bool>(l: &[u8], left: bool) -> Option<Row> {
    unsafe {
        let (mut p, end) = (l.as_ptr(), l.as_ptr().add(l.len()));
        macro_rules! want {
            ($x:literal) => {
                if !is(p, $x) {
                    return None;
                }
                p = p.add($x.len());
            };
        }
        want!(b"{\"ts\":");
        let ts = (p, int_end::<ESC>(p)?);
        p = ts.1.add(1);
        let k = p;
        if !is(ts.1, b",\"mid\":\"") {
            return None;
        }
        p = str_end::<ESC>(ts.1.add(8))?;
        want!(b"\",\"uid\":\"");
        p = str_end::<ESC>(p)?.add(1);
        let key = (k, p);
        let rest = if left {
            want!(b",\"pos\":");
            p = int_end::<ESC>(p)?;
            want!(b",\"src\":\"");
            p = str_end::<ESC>(p)?.add(1);
            let r = (key.1, p);
            want!(b",\"trace\":\"");
            p = str_end::<ESC>(p)?.add(1);
            r
        } else {
            want!(b",\"dwell\":");
            p = int_end::<ESC>(p)?;
            (key.1, p)
        };
        if *p != b'}' || p.add(1) != end || !(ESC || utf8_ok(l)) {
            return None;
        }
        Some(Row { ts, key, rest })
    }
}
#[derive(serde::Deserialize)]
struct Any<'a> {
    ts: i64,
    #[serde(borrow)]
    mid: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    uid: std::borrow::Cow<'a, str>,
    pos: Option<i64>,
    #[serde(borrow)]
    src: Option<std::borrow::Cow<'a, str>>,
    dwell: Option<i64>,
}
#[cold]
fn row_slow<'a>(l: &[u8], left: bool, b: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let a: Any = sonic_rs::from_slice(l).ok()?;
    use P::*;
    let (ts, n) = (a.ts.to_string(), if left { a.pos } else { a.dwell }?.to_string());
    Some(if left {
        canon(
            b,
            &[
                T("{\"ts\":"),
                T(&ts),
                T(",\"mid\":"),
                S(&a.mid),
                T(",\"uid\":"),
                S(&a.uid),
                T(",\"pos\":"),
                T(&n),
                T(",\"src\":"),
                S(a.src.as_deref()?),
                T(",\"trace\":\"\"}"),
            ],
        )
    } else {
        canon(b, &[T("{\"ts\":"), T(&ts), T(",\"mid\":"), S(&a.mid), T(",\"uid\":"), S(&a.uid), T(",\"dwell\":"), T(&n), T("}")])
    })
}
unsafe fn j3(le: &mut Lines, ri: &mut Lines, o: &mut Out, bad: &mut Out) -> usize {
    unsafe {
        let (mut ls, mut rs): (Slab<L>, Slab<Rt>) = (Slab::new(), Slab::new());
        let (mut lq, mut rq) = (Due { q: BTreeMap::new(), pool: vec![] }, Due { q: BTreeMap::new(), pool: vec![] });
        let (mut lw, mut rw, mut last) = (i64::MIN / 2, i64::MIN / 2, i64::MIN / 2); // largest ts seen; the joint one at the last eviction
        let (mut buf, mut tmp): (Vec<u8>, Vec<u8>) = (vec![], Vec::with_capacity(4096));
        let mut peak = 0;
        #[inline(always)]
        unsafe fn pair(o: &mut Out, l: &L, r: &[u8]) {
            unsafe {
                let t = l.t.get();
                let mut d = o.at(t.len() + r.len() + PAD);
                *d = b'{';
                d = d.add(1);
                std::ptr::copy_nonoverlapping(t.as_ptr(), d, t.len());
                d = d.add(t.len());
                std::ptr::copy_nonoverlapping(r.as_ptr(), d, r.len());
                o.end(d.add(r.len()));
            }
        }
        loop {
            let left = lw <= rw; // step whichever is behind in event time
            if left && lw == i64::MAX {
                break;
            }
            let side = if left { &mut *le } else { &mut *ri };
            match side.next() {
                None => *(if left { &mut lw } else { &mut rw }) = i64::MAX,
                Some(l) => {
                    let x = match row::<false>(l, left) {
                        Some(x) => x,
                        None => match row_slow(l, left, &mut buf).and_then(|l| row::<true>(l, left)) {
                            Some(x) => x,
                            None => {
                                bad.raw(l);
                                continue;
                            }
                        },
                    };
                    let ts = int(x.ts.0, x.ts.1);
                    let key = sl(x.key.0, x.key.1);
                    let h = hash(key);
                    let (k, n) = (key.len(), key.len() + len(x.rest.0, x.rest.1) + 64);
                    tmp.clear();
                    tmp.reserve(n + PAD);
                    let mut d = cp(tmp.as_mut_ptr(), x.key.0, k);
                    d = lit(d, if left { b",\"ets\":" } else { b",\"cts\":" });
                    d = cp(d, x.ts.0, len(x.ts.0, x.ts.1));
                    d = cp(d, x.rest.0, len(x.rest.0, x.rest.1));
                    if !left {
                        *d = b'}';
                        d = d.add(1)
                    }
                    let t = sl(tmp.as_ptr(), d);
                    if left {
                        let mut nd = L { ts, hit: false, k: k as u32, t: txt(t) };
                        let mut i = rs.head(h);
                        while i != NIL {
                            let r = &rs.rows[i as usize];
                            if r.h == h && ts - 2000 <= r.t.ts && r.t.ts <= ts + 10000 && &r.t.t.get()[..r.t.k as usize] == key {
                                nd.hit = true;
                                pair(o, &nd, &r.t.t.get()[r.t.k as usize..])
                            }
                            i = r.next;
                        }
                        lq.add(ts, ls.put(h, nd));
                        if ts > lw {
                            lw = ts
                        }
                    } else {
                        let mut i = ls.head(h);
                        while i != NIL {
                            let r = &mut ls.rows[i as usize];
                            if r.h == h && r.t.ts - 2000 <= ts && ts <= r.t.ts + 10000 && &r.t.t.get()[..r.t.k as usize] == key {
                                r.t.hit = true;
                                pair(o, &r.t, &t[k..])
                            }
                            i = r.next;
                        }
                        rq.add(ts, rs.put(h, Rt { ts, t: txt(t), k: k as u32 }));
                        if ts > rw {
                            rw = ts
                        }
                    }
                }
            }
            let w = lw.min(rw);
            if w >= last.saturating_add(64) || w == i64::MAX {
                // joint watermark = w - 5001
                last = w;
                peak = peak.max(ls.rows.len() + rs.rows.len());
                let wm = if w == i64::MAX { w } else { w - 5001 };
                while let Some(mut v) = lq.pop(wm.saturating_sub(10000 - (wm == i64::MAX) as i64 * 10000)) {
                    for i in v.drain(..) {
                        ls.cut(i);
                        let x = &ls.rows[i as usize].t;
                        if !x.hit {
                            pair(o, x, b",\"cts\":null,\"dwell\":null}")
                        }
                    }
                    lq.pool.push(v);
                }
                while let Some(mut v) = rq.pop(wm - 2000) {
                    for i in v.drain(..) {
                        rs.cut(i)
                    }
                    rq.pool.push(v)
                }
            }
        }
        peak
    }
}

// ---- J4
struct W {
    t0: i64,
    last: i64,
    n: u32,
    sum: i64,
    min: i64,
    max: i64,
    key: Txt<56>,
}
unsafe fn j4(i: &mut Lines, o: &mut Out, bad: &mut Out) -> usize {
    unsafe {
        let mut ws: Slab<W> = Slab::new();
        let mut q: VecDeque<(i64, u32)> = VecDeque::new(); // windows in order of opening; an entry is good while its place still holds that t0 and is open
        let mut buf = vec![];
        #[inline(always)]
        unsafe fn emit(o: &mut Out, w: &W, why: &[u8; 11]) {
            unsafe {
                let k = w.key.get();
                let mut d = o.at(k.len() + 512);
                d = lit(d, b"{\"mid\":\"");
                std::ptr::copy_nonoverlapping(k.as_ptr(), d, k.len());
                d = d.add(k.len());
                d = num(lit(d, b"\",\"start\":"), w.t0);
                d = num(lit(d, b",\"last\":"), w.last);
                d = num(lit(d, b",\"count\":"), w.n as i64);
                d = num(lit(d, b",\"sum\":"), w.sum);
                d = num(lit(d, b",\"min\":"), w.min);
                d = num(lit(d, b",\"max\":"), w.max);
                d = lit(d, b",\"why\":\"");
                d = lit(d, why).sub(if why[0] == b'c' { 4 } else { 2 });
                o.end(d);
            }
        }
        while let Some(l) = i.next() {
            let e = match ev::<false>(l) {
                Some(e) => e,
                None => match ev_slow(l, &mut buf).and_then(|l| ev::<true>(l)) {
                    Some(e) => e,
                    None => {
                        bad.raw(l);
                        continue;
                    }
                },
            };
            let ts = int(e.ts.0, e.ts.1);
            while let Some(&(t0, w)) = q.front() {
                let x = &mut ws.rows[w as usize].t;
                let live = x.t0 == t0 && x.n > 0;
                if live && ts <= t0 + 5000 {
                    break;
                }
                q.pop_front();
                if live {
                    emit(o, x, b"timeout\"}\0\0");
                    x.n = 0;
                    ws.cut(w)
                }
            }
            let key = sl(e.mid.0, e.mid.1);
            let h = hash(key);
            let mut k = ws.head(h);
            while k != NIL {
                let r = &ws.rows[k as usize];
                if r.h == h && r.t.key.get() == key {
                    break;
                }
                k = r.next
            }
            if k != NIL && ts > ws.rows[k as usize].t.t0 + 5000 {
                let x = &mut ws.rows[k as usize].t;
                emit(o, x, b"timeout\"}\0\0");
                x.n = 0;
                ws.cut(k);
                k = NIL
            }
            if k == NIL {
                k = ws.put(h, W { t0: ts, last: ts, n: 1, sum: e.cents, min: e.cents, max: e.cents, key: txt(key) });
                q.push_back((ts, k));
                continue;
            }
            let x = &mut ws.rows[k as usize].t;
            x.last = ts;
            x.n += 1;
            x.sum += e.cents;
            x.min = x.min.min(e.cents);
            x.max = x.max.max(e.cents);
            if x.n == 100 {
                emit(o, x, b"count\"}\0\0\0\0");
                x.n = 0;
                ws.cut(k)
            }
        }
        for (t0, w) in q {
            let x = &mut ws.rows[w as usize].t;
            if x.t0 == t0 && x.n > 0 {
                emit(o, x, b"timeout\"}\0\0");
                x.n = 0
            }
        }
        ws.rows.len()
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (job, ins, out) = (a[1].as_str(), &a[2..a.len() - 1], &a[a.len() - 1]);
    let (mut o, mut bad) = (Out::new(out), Out::new(&format!("{out}.bad")));
    let mut i: Vec<Lines> = ins.iter().map(|p| Lines::new(p)).collect();
    let t = Instant::now();
    let peak = unsafe {
        match job {
            "J1" => {
                j1(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1any" => {
                j1_any(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1t" => {
                j1t::<false>(&mut i[0], &mut o, &mut bad);
                0
            }
            "J1tre" => {
                j1t::<true>(&mut i[0], &mut o, &mut bad);
                0
            }
            "J2" => {
                j2(&mut i[0], &mut o, &mut bad);
                0
            }
            "J3" => {
                let [l, r] = &mut i[..] else { panic!("J3 EXPOSURES CLICKS OUT") };
                j3(l, r, &mut o, &mut bad)
            }
            "J4" => j4(&mut i[0], &mut o, &mut bad),
            _ => panic!("J1 J1any J1t J1tre J2 J3 J4"),
        }
    };
    o.flush();
    bad.flush();
    let (s, n) = (t.elapsed().as_secs_f64(), i.iter().map(|x| x.n).sum::<u64>());
    eprintln!("{job} in {n} out {} bad {} peak_state_rows {peak} {s:.3}s {:.0}/s", o.n, bad.n, n as f64 / s);
}
