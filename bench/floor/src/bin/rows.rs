//! rows KIND ROWS EPS DIR: the inputs of J2, J3, J4 as ../../gen_jobs.py makes them (shape, sizes, skew, shares), fast enough for files of
//! many gigabytes. The bytes are not the same: compare contestants on files of one generator only.
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

const BASE: i64 = 1_763_625_600_000;
const OS: [&str; 4] = ["ios", "android", "web", "harmony"];
const VERSION: [&str; 5] = ["13.4.1", "13.5.0", "12.11.2", "14.0.0", "13.9.10.2"];
const NET: [&str; 4] = ["wifi", "5g", "4g", "3g"];
const SOURCE: [&str; 5] = ["feed", "hot", "search", "profile", "push"];

/// splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Skewed: the hottest of 5,000 takes about 12 %.
    fn mid(&mut self) -> u64 {
        5_012_345_678_900_000 + (5000.0 * self.unit().powi(4)) as u64 * 7
    }
}

fn file(dir: &Path, name: &str) -> BufWriter<File> {
    BufWriter::with_capacity(1 << 20, File::create(dir.join(name)).expect("output file"))
}

/// 7 of 10 rows have the key of an earlier one.
fn dedup(rows: u64, eps: u64, dir: &Path, r: &mut Random) -> std::io::Result<()> {
    let mut out = file(dir, "dedup.jsonl");
    let mut keys = 0;
    for i in 0..rows {
        let k = if keys == 0 || r.unit() < 0.3 {
            keys += 1;
            keys - 1
        } else {
            r.below(keys)
        };
        let (id, ts) = ((k + 55_433).wrapping_mul(0x9E37_79B9_7F4A_7C15), BASE + (i * 1000 / eps) as i64);
        writeln!(out, r#"{{"id":"m{id:016x}","seq":{i},"ts":{ts},"payload":"{:016x}{k:016x}"}}"#, r.bits())?;
    }
    out.flush()
}

/// Each file in order of arrival, which is event time + [0, 5000) ms.
fn join(rows: u64, eps: u64, dir: &Path, r: &mut Random) -> std::io::Result<()> {
    let mut outs = [file(dir, "exposures.jsonl"), file(dir, "clicks.jsonl")];
    let mut heaps: [BinaryHeap<Reverse<(i64, u64, String)>>; 2] = Default::default();
    let (mut n, mut i) = (0, 0);
    let mut push = |heap: &mut BinaryHeap<_>, at: i64, line: String| {
        n += 1;
        heap.push(Reverse((at, n, line)));
    };
    while i < rows {
        let ts = BASE + 60_000 + (i * 1000 / eps) as i64;
        let (mid, uid) = (r.mid(), 1_000_000 + r.below(200_000));
        for again in 0..1 + u64::from(r.unit() < 0.05) {
            let at = ts + if again == 0 { 0 } else { r.below(12_000) as i64 };
            let (pos, src, trace) = (r.below(50), SOURCE[r.below(5) as usize], r.bits());
            let line = format!(r#"{{"ts":{at},"mid":"{mid}","uid":"u{uid}","pos":{pos},"src":"{src}","trace":"{trace:016x}"}}"#);
            push(&mut heaps[0], at + r.below(5000) as i64, line);
            i += 1;
        }
        let x = r.unit();
        let mut delays = Vec::new();
        if x < 0.60 {
            let y = r.unit();
            delays.push(match y {
                y if y < 0.01 => -2000,
                y if y < 0.02 => 10_000,
                y if y < 0.10 => -(r.below(2000) as i64),
                _ => (r.unit().powi(2) * 10_000.0) as i64,
            });
            if r.unit() < 0.08 {
                delays.push(r.below(10_000) as i64);
            }
        } else if x < 0.66 {
            delays.push(10_001 + r.below(20_000) as i64);
        } else if x < 0.68 {
            delays.push(-2001 - r.below(8000) as i64);
        }
        let stranger = (r.unit() < 0.03).then(|| ('v', ts + r.below(5000) as i64));
        for (who, at) in stranger.into_iter().chain(delays.into_iter().map(|d| ('u', ts + d))) {
            let line = format!(r#"{{"ts":{at},"mid":"{mid}","uid":"{who}{uid}","dwell":{}}}"#, r.below(60_000));
            push(&mut heaps[1], at + r.below(5000) as i64, line);
        }
        // Nothing pushed later arrives before this.
        let limit = if i < rows { ts - 10_001 } else { i64::MAX };
        for (heap, out) in heaps.iter_mut().zip(&mut outs) {
            while heap.peek().is_some_and(|Reverse((at, ..))| *at < limit) {
                let Some(Reverse((_, _, line))) = heap.pop() else { break };
                out.write_all(line.as_bytes())?;
                out.write_all(b"\n")?;
            }
        }
    }
    outs.iter_mut().try_for_each(Write::flush)
}

/// 1 % of the lines are no JSON.
fn events(rows: u64, eps: u64, dir: &Path, r: &mut Random) -> std::io::Result<()> {
    let mut out = file(dir, "events.jsonl");
    for i in 0..rows {
        if r.unit() < 0.01 {
            writeln!(out, "not json at all {i}")?;
            continue;
        }
        let ts = BASE + (i * 1000 / eps) as i64;
        let (k, c, price) = (r.below(20) as usize, r.below(80) as usize, r.unit().powi(2) * 200.0);
        let action = match k {
            0..14 => "exposure",
            14..18 => "click",
            18 => "like",
            _ => "forward",
        };
        let (uid, mid) = (1_000_000 + r.below(200_000), r.mid());
        let (os, version, net, src) = (OS[c & 3], VERSION[c % 5], NET[(c >> 2) & 3], SOURCE[k % 5]);
        write!(out, r#"{{"ts":{ts},"uid":"u{uid}","mid":"{mid}","action":"{action}","client":{{"os":"{os}","version":"{version}","net":"{net}"}},"#)?;
        write!(out, r#""ext":"title=plain title {c}|pos={}|src={src}|trace={:016x}|span={:016x}|"#, r.below(50), r.bits(), r.bits())?;
        write!(out, "ab=exp_{c},exp_{},exp_{}|lcardid={:016x}{:016x}|refer=m.example.cn/p/{}?x=1&y=2|flag|", c + 1, c + 7, r.bits(), r.bits(), c * 977)?;
        write!(out, "load={}|luicode=1000{:04}|featurecode={:08}|", r.below(900), c * 13, c * 7919)?;
        write!(out, r#"ua=Weibo/13.4.1 (iPhone; iOS 18.1; Scale/3.00; zh_CN)|province=11|city=8","#)?;
        writeln!(out, r#""ip":"{}.{c}.{}.{k}","price":{price:.2}}}"#, 1 + r.below(223), r.below(256))?;
    }
    out.flush()
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, rows, eps, dir] = &args[..] else { panic!("rows dedup|join|events ROWS EPS DIR") };
    let (rows, eps) = (rows.parse().expect("ROWS"), eps.parse().expect("EPS"));
    std::fs::create_dir_all(dir)?;
    let make = match kind.as_str() {
        "dedup" => dedup,
        "join" => join,
        "events" => events,
        _ => panic!("dedup, join or events"),
    };
    make(rows, eps, Path::new(dir), &mut Random(7))
}
