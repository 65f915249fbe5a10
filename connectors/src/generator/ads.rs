//! Ads that are shown, and the clicks on them.

use super::World;
use super::random::Random;
use std::io::Write;

const SHOWN: u64 = 1;
const SHOWN_REST: u64 = 2;
const CLICKED: u64 = 3;

/// A click names one of the exposures of the last 8 s: with up to 2 s of disorder it lies within -10 s .. 2 s of it.
const AFTER: f64 = 8e6;
const JOINED: f64 = 0.62;
/// Exposures before the stream that clicks may name.
const OLDER: u64 = 20_000;
const ADS: f64 = 1000.0;
const USERS: u64 = 200_000;

const OS: &[&str] = &["iOS", "iOS", "Android", "Android", "Android", "HarmonyOS", "Windows"];

/// Who was shown what, and when; the first numbers of an exposure.
struct Shown {
    uid: u64,
    mid: u64,
    time: i64,
    os: &'static str,
}

fn shown(world: &World, i: i64) -> Shown {
    let mut r = world.random(SHOWN, i);
    let uid = 1_000_000 + r.below(USERS);
    let mid = ad(&mut r);
    let time = world.time(i, &mut r);
    Shown { uid, mid, time, os: r.of(OS) }
}

/// Few ads are shown often: the hottest of a thousand takes about 18 %.
fn ad(r: &mut Random) -> u64 {
    5_012_345_678_900_000 + (ADS * r.share().powi(4)) as u64 * 7
}

pub fn exposure(world: &World, i: i64, out: &mut Vec<u8>) {
    let s = shown(world, i);
    let mut r = world.random(SHOWN_REST, i);
    let pos = r.below(50);
    let src = r.of(&["feed", "hot", "search", "profile", "push"]);
    let version = r.of(&["13.4.1", "13.5.0", "12.11.2", "14.0.0", "13.9.10.2"]);
    let net = r.of(&["wifi", "5g", "4g", "3g"]);
    let title = match r.below(20) {
        0 => "热搜 第3位",
        1 => "a \\\"quoted\\\" title",
        _ => "a plain title",
    };
    let (trace, span, bucket) = (r.next(), r.next(), r.below(16));
    let (a, b, c, price) = (1 + r.below(223), r.below(256), r.below(256), r.below(2000));
    // Writing into a Vec cannot fail.
    let _ = write!(
        out,
        "{{\"ts\":{},\"uid\":\"u{}\",\"mid\":\"{}\",\"pos\":{pos},\"src\":\"{src}\",\"client\":{{\"os\":\"{}\",\"version\":\"{version}\",\"net\":\"{net}\"}},\
         \"ext\":\"title={title}|trace={trace:016x}|span={span:016x}|bucket={bucket}|flag|refer=m.example.com/p/{bucket}?x=1&y=2\",\"ip\":\"{a}.{b}.{c}.7\",\"price\":{}.{:02}}}",
        s.time.div_euclid(1000),
        s.uid,
        s.mid,
        s.os,
        price / 100,
        price % 100,
    );
}

pub fn click(world: &World, i: i64, out: &mut Vec<u8>) {
    let mut r = world.random(CLICKED, i);
    let time = world.time(i, &mut r);
    let kind = r.share();
    let (uid, mid, os) = if kind < JOINED && i >= 0 {
        let back = ((AFTER / world.step) as u64).min(i as u64);
        let s = shown(world, i - r.below(back + 1) as i64);
        (s.uid, s.mid, s.os)
    } else if kind < JOINED + (1.0 - JOINED) / 2.0 {
        let s = shown(world, -1 - r.below(OLDER) as i64);
        (s.uid, s.mid, s.os)
    } else {
        (9_000_000 + r.below(USERS), ad(&mut r), r.of(OS))
    };
    let price = r.below(500);
    let _ = write!(out, "u{uid}\t{mid}\t{os}\t{}\t{}.{:02}", time.div_euclid(1000), price / 100, price % 100);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// An exposure's time as a click must find it: by its text, not by `shown`.
    #[test]
    fn about_six_clicks_in_ten_join() {
        for (seed, disorder) in [(7, 1_000_000), (8, 0), (9, 2_000_000)] {
            let world = World { seed, start: 1_767_225_600_000_000, step: 1000.0, disorder };
            let n = 50_000;
            let mut exposures: HashMap<(String, String), Vec<i64>> = HashMap::new();
            let mut line = Vec::new();
            for i in 0..n {
                line.clear();
                exposure(&world, i, &mut line);
                let v: serde_json::Value = serde_json::from_slice(&line).unwrap();
                let key = (v["uid"].as_str().unwrap().to_string(), v["mid"].as_str().unwrap().to_string());
                exposures.entry(key).or_default().push(v["ts"].as_i64().unwrap());
            }
            let (mut joined, mut latest) = (0, 0);
            for i in 0..n {
                line.clear();
                click(&world, i, &mut line);
                let text = std::str::from_utf8(&line).unwrap();
                let f: Vec<&str> = text.split('\t').collect();
                assert_eq!(f.len(), 5, "{text}");
                let ts: i64 = f[3].parse().unwrap();
                assert!(latest - ts <= disorder / 1000, "{latest} {ts}");
                latest = latest.max(ts);
                let near = |e: &i64| (ts - 10_000..=ts + 2000).contains(e);
                joined += i64::from(exposures.get(&(f[0].into(), f[1].into())).is_some_and(|t| t.iter().any(near)));
            }
            assert!((0.60..0.64).contains(&(joined as f64 / n as f64)), "{joined} of {n}");
        }
    }
}
