//! What the operating system says of this process, read from `/proc/self`.

use millrace_engine::exposition::Process;
use std::fs;

pub fn figures() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Process {
        resident_bytes: field("VmRSS").map(|kib| kib * 1024),
        peak_bytes: field("VmHWM").map(|kib| kib * 1024),
        cpu_seconds: cpu_seconds(),
        threads: field("Threads"),
        // One of them is the folder that is being read.
        open_files: fs::read_dir("/proc/self/fd").ok().map(|d| (d.count() as u64).saturating_sub(1)),
        max_files: limit.current,
    }
}

/// User and system time: fields 14 and 15 of `stat`, in clock ticks; the second field may hold spaces and ends with a bracket.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i - 3)?.parse::<u64>().ok();
    Some((ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
