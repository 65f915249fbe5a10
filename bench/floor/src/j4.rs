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
