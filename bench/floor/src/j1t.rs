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
