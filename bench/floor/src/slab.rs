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
