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
