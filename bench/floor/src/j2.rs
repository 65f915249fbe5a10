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
