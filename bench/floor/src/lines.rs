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
