//! A web server's log.

use super::World;
use std::io::Write;

const ACCESS: u64 = 10;

const AGENTS: &[&str] = &[
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/133.0",
];
const PATHS: &[&str] = &["/statuses/show.json", "/feed/unread", "/search/all", "/profile/info", "/comments/list"];

/// The combined log format with `$request_time` (seconds) behind it.
pub fn access(world: &World, i: i64, out: &mut Vec<u8>) {
    let mut r = world.random(ACCESS, i);
    let time = world.time(i, &mut r);
    let time = jiff::Timestamp::from_microsecond(time).unwrap_or_default();
    let status = if r.below(100) < 93 { 200 } else { [302, 404, 500, 502][r.below(4) as usize] };
    let millis = (r.share().powi(3) * 3000.0) as u64;
    let _ = write!(
        out,
        "{}.{}.{}.{} - - [{}] \"{} {}?uid={}&mid={}&src={}&sid={:08x} HTTP/1.1\" {status} ",
        1 + r.below(223),
        r.below(256),
        r.below(256),
        r.below(256),
        time.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        r.of(&["GET", "GET", "GET", "GET", "POST"]),
        r.of(PATHS),
        1_000_000_000 + r.below(2_000_000),
        5_012_345_678_900_000 + r.below(5000) * 7,
        r.of(&["feed", "hot", "search"]),
        r.next() as u32,
    );
    let _ = match status {
        302 => write!(out, "-"),
        _ => write!(out, "{}", r.below(60_000)),
    };
    let _ = write!(out, " \"https://m.example.com/u/{}\" \"{}\" {}.{:03}", r.below(100_000), r.of(AGENTS), millis / 1000, millis % 1000);
}
