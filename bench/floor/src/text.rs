// ---- J1d: what a dissect does, written out: one search for each text between fields, wherever it is
/// The first place of `x` in `p..end`.
#[inline(always)]
unsafe fn find<const N: usize>(mut p: *const u8, end: *const u8, x: &[u8; N]) -> Option<*const u8> {
    unsafe {
        loop {
            p = p.add(memchr::memchr(x[0], sl(p, end))?);
            if N == 1 || (len(p, end) >= N && is(p, x)) {
                return Some(p);
            }
            p = p.add(1)
        }
    }
}
/// The groups of J1t, with bytes and the two parts of the time as they stand: ip, time, method, path, query, status, bytes, ua, s, ms.
#[inline(always)]
unsafe fn dissect(l: &[u8]) -> Option<[R; 10]> {
    unsafe {
        let (mut p, end) = (l.as_ptr(), l.as_ptr().add(l.len()));
        macro_rules! to {
            ($x:literal) => {{
                let s = p;
                let e = find(p, end, $x)?;
                p = e.add($x.len());
                (s, e)
            }};
        }
        let ip = to!(b" ");
        to!(b" ");
        to!(b" [");
        let time = to!(b"] \"");
        let method = to!(b" ");
        let path = to!(b"?");
        let query = to!(b" HTTP/");
        to!(b"\" ");
        let status = to!(b" ");
        let bytes = to!(b" \"");
        to!(b"\" \"");
        let ua = to!(b"\" ");
        let s = to!(b".");
        Some([ip, time, method, path, query, status, bytes, ua, s, (p, end)])
    }
}
/// A bigint: digits as they stand, anything else by the standard library.
#[inline(always)]
unsafe fn bigint(r: R, room: &mut Vec<u8>) -> Option<R> {
    unsafe {
        let n = len(r.0, r.1);
        if n > 0 && n <= 18 && sl(r.0, r.1).iter().all(u8::is_ascii_digit) { Some(r) } else { odd_bigint(r, room) }
    }
}
#[cold]
unsafe fn odd_bigint(r: R, room: &mut Vec<u8>) -> Option<R> {
    unsafe {
        let v: i64 = std::str::from_utf8(sl(r.0, r.1)).ok()?.trim_ascii().parse().ok()?;
        write!(room, "{v}").unwrap();
        let n = room.len();
        room.resize(n + PAD, 0);
        let p = room.as_ptr();
        Some((p, p.add(n)))
    }
}
unsafe fn j1d(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        while let Some(l) = i.next() {
            match j1d_row(l, o) {
                Some(()) => {}
                None => bad.raw(l),
            }
        }
    }
}
#[inline(always)]
unsafe fn j1d_row(l: &[u8], o: &mut Out) -> Option<()> {
    unsafe {
        let (mut k, mut odd, mut hi) = (0, 0, 0);
        while k < l.len() {
            let v = B::load(l.as_ptr().add(k));
            let m = if l.len() - k < 64 { (1 << (l.len() - k)) - 1 } else { !0 };
            odd |= (v.ctl() | v.eq(b'\\')) & m;
            hi |= v.hi() & m;
            k += 64
        }
        if hi != 0 && std::str::from_utf8(l).is_err() {
            return None;
        }
        let [ip, time, method, path, query, status, mut bytes, ua, s, ms] = dissect(l)?;
        let q = sl(query.0, query.1);
        let chars = |r: R| sl(r.0, r.1).iter().filter(|c| **c as i8 >= -0x40).count();
        if !q.starts_with(b"uid=") || chars(status) != 3 || chars(ms) != 3 {
            return None;
        }
        let mut rooms: [Vec<u8>; 5] = Default::default();
        let [r0, r1, r2, r3, r4] = &mut rooms;
        let uid_end = memchr::memchr(b'&', &q[4..]).map_or(query.1, |n| query.0.add(4 + n));
        let uid = bigint((query.0.add(4), uid_end), r0)?;
        let status = bigint(status, r1)?;
        if sl(bytes.0, bytes.1) == b"-" {
            bytes.0 = bytes.1
        }
        let bytes = if bytes.0 == bytes.1 && *bytes.0.sub(1) == b'-' { bytes } else { bigint(bytes, r2)? };
        let (s, ms) = (bigint(s, r3)?, bigint(ms, r4)?);
        let rt = int(s.0, s.1).checked_mul(1000)?.checked_add(int(ms.0, ms.1))?;
        let quoted = |a: R, b: R| memchr::memchr(b'"', sl(a.0, b.1)).is_some();
        let mut g = [ip, time, method, path, query, ua];
        if odd == 0 && !quoted(ip, time) && !quoted(method, query) && !quoted(ua, ua) {
            j1d_write(&g, uid, status, bytes, rt, l.len(), o);
            return Some(());
        }
        let x = g.map(|r| {
            let mut v = vec![];
            esc(&mut v, sl(r.0, r.1));
            let n = v.len();
            v.resize(n + PAD, b' ');
            v.truncate(n);
            v
        });
        for (g, x) in g.iter_mut().zip(&x) {
            let r = x.as_ptr_range();
            *g = (r.start, r.end);
        }
        j1d_write(&g, uid, status, bytes, rt, l.len() * 6, o);
        Some(())
    }
}
#[inline(always)]
unsafe fn j1d_write([ip, time, method, path, query, ua]: &[R; 6], uid: R, status: R, bytes: R, rt: i64, n: usize, o: &mut Out) {
    unsafe {
        let mut d = o.at(n * 4 + 1024);
        macro_rules! put {
            ($l:literal, $r:expr) => {
                d = lit(d, $l);
                d = cp(d, $r.0, len($r.0, $r.1));
            };
        }
        put!(b"{\"ip\":\"", ip);
        put!(b"\",\"time\":\"", time);
        put!(b"\",\"method\":\"", method);
        put!(b"\",\"path\":\"", path);
        d = digs(lit(d, b"\",\"uid\":"), uid);
        d = digs(lit(d, b",\"status\":"), status);
        d = digs(lit(d, b",\"bytes\":"), bytes);
        d = num(lit(d, b",\"rt_ms\":"), rt);
        d = if int(status.0, status.1) < 400 { lit(d, b",\"ok\":\"yes\",\"ua\":\"") } else { lit(d, b",\"ok\":\"no\",\"ua\":\"") };
        d = cp_sub(d, ua.0, len(ua.0, ua.1), b'/', b'_');
        d = lit(d, b"\",\"q\":");
        d = split_map(query.0, len(query.0, query.1), b'&', d);
        *d = b'}';
        o.end(d.add(1));
    }
}

// ---- J1c: columns between tabs
const COLUMNS: usize = 11;
unsafe fn j1c(i: &mut Lines, o: &mut Out, bad: &mut Out) {
    unsafe {
        while let Some(l) = i.next() {
            match j1c_row(l, o) {
                Some(()) => {}
                None => bad.raw(l),
            }
        }
    }
}
#[inline(always)]
unsafe fn j1c_row(l: &[u8], o: &mut Out) -> Option<()> {
    unsafe {
        let p = l.as_ptr();
        let (mut c, mut n, mut k, mut from, mut odd, mut hi) = ([(p, p); COLUMNS], 0, 0, p, 0, 0);
        while k < l.len() {
            let v = B::load(p.add(k));
            let m = if l.len() - k < 64 { (1 << (l.len() - k)) - 1 } else { !0 };
            let mut tabs = v.eq(b'\t') & m;
            odd |= ((v.ctl() & !tabs) | v.eq(b'\\') | v.eq(b'"')) & m;
            hi |= v.hi() & m;
            while tabs != 0 {
                let at = p.add(k + tabs.trailing_zeros() as usize);
                tabs &= tabs - 1;
                *c.get_mut(n)? = (from, at);
                n += 1;
                from = at.add(1)
            }
            k += 64
        }
        if n != COLUMNS - 1 || (hi != 0 && std::str::from_utf8(l).is_err()) {
            return None;
        }
        c[n] = (from, p.add(l.len()));
        if !matches!(sl(c[3].0, c[3].1), b"exposure" | b"click" | b"like" | b"forward") {
            return None;
        }
        let (mut r0, mut r1) = (vec![], vec![]);
        let (ts, dwell) = (bigint(c[0], &mut r0)?, bigint(c[8], &mut r1)?);
        let plat: &[u8; 6] = match sl(c[4].0, c[4].1) {
            b"ios" => b"apple\0",
            b"android" => b"google",
            _ => b"other\0",
        };
        let mut g = [c[1], c[2], c[3], c[5], c[6], c[7], c[9], c[10]];
        if odd == 0 {
            j1c_write(&g, ts, dwell, plat, l.len(), o);
            return Some(());
        }
        let x = g.map(|r| {
            let mut v = vec![];
            esc(&mut v, sl(r.0, r.1));
            let n = v.len();
            v.resize(n + PAD, b' ');
            v.truncate(n);
            v
        });
        for (g, x) in g.iter_mut().zip(&x) {
            let r = x.as_ptr_range();
            *g = (r.start, r.end);
        }
        j1c_write(&g, ts, dwell, plat, l.len() * 6, o);
        Some(())
    }
}
#[inline(always)]
unsafe fn j1c_write([uid, mid, action, ver, net, ip, title, query]: &[R; 8], ts: R, dwell: R, plat: &[u8; 6], n: usize, o: &mut Out) {
    unsafe {
        let mut d = o.at(n * 4 + 1024);
        macro_rules! put {
            ($l:literal, $r:expr) => {
                d = lit(d, $l);
                d = cp(d, $r.0, len($r.0, $r.1));
            };
        }
        d = num(lit(d, b"{\"sec\":"), int(ts.0, ts.1) / 1000);
        put!(b",\"uid\":\"", uid);
        put!(b"\",\"mid\":\"", mid);
        put!(b"\",\"action\":\"", action);
        d = lit(lit(d, b"\",\"plat\":\""), plat).sub((plat[5] == 0) as usize);
        d = lit(d, b"\",\"ver\":\"");
        d = cp_sub(d, ver.0, len(ver.0, ver.1), b'.', b'_');
        put!(b"\",\"net\":\"", net);
        put!(b"\",\"ip\":\"", ip);
        d = digs(lit(d, b"\",\"dwell\":"), dwell);
        put!(b",\"title\":\"", title);
        d = lit(d, b"\",\"ext\":");
        d = split_map(query.0, len(query.0, query.1), b'&', d);
        *d = b'}';
        o.end(d.add(1));
    }
}
