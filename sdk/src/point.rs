//! Named points at which a test ends or stops this process, as a crash or a stopped machine would.
//!
//! `MILLRACE_POINT=NAME:N:kill` kills the process with SIGKILL when it reaches the point for the N-th time, counted from 1; `stop`
//! sends it SIGSTOP, so that it goes on at SIGCONT as if no time had passed. Several are separated by commas.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Point {
    name: String,
    at: u64,
    signal: i32,
    reached: AtomicU64,
}

/// Reads what `MILLRACE_POINT` says; what it says wrongly would make a test pass that tests nothing.
fn parse(text: &str) -> Vec<Point> {
    let point = |one: &str| {
        let mut parts = one.split(':');
        let (name, at, what) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let signal = match what {
            "kill" => libc::SIGKILL,
            "stop" => libc::SIGSTOP,
            _ => return None,
        };
        Some(Point { name: name.into(), at, signal, reached: AtomicU64::new(0) })
    };
    text.split(',').map(|one| point(one).unwrap_or_else(|| panic!("MILLRACE_POINT: `{one}` is not NAME:N:kill or NAME:N:stop"))).collect()
}

/// The calling thread is at the point `name`.
pub fn reach(name: &str) {
    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
    let points = POINTS.get_or_init(|| std::env::var("MILLRACE_POINT").map_or_else(|_| vec![], |text| parse(&text)));
    for point in points {
        if point.name == name && point.reached.fetch_add(1, Ordering::SeqCst) + 1 == point.at {
            // SAFETY: raise takes no pointers. Unlike kill(2) it stops this very thread before it returns.
            unsafe { libc::raise(point.signal) };
        }
    }
}

/// Whether `MILLRACE_WITHOUT` (names separated by commas) switches a protection off: what a fault test finds must then be found.
pub fn without(protection: &str) -> bool {
    static OFF: OnceLock<String> = OnceLock::new();
    let off = OFF.get_or_init(|| std::env::var("MILLRACE_WITHOUT").unwrap_or_default());
    off.split(',').any(|name| name == protection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_or_refused() {
        let points = parse("txn-sent:2:kill,fenced:1:stop");
        let said: Vec<_> = points.iter().map(|p| (p.name.as_str(), p.at, p.signal)).collect();
        assert_eq!(said, [("txn-sent", 2, libc::SIGKILL), ("fenced", 1, libc::SIGSTOP)]);
        for wrong in ["", "a", "a:1", "a:x:kill", "a:1:explode"] {
            assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong}");
        }
        reach("nowhere");
    }
}
