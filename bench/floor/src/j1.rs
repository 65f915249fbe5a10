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
