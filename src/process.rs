//! What the operating system says of this process, read from `/proc/self`, and what it is told.

use millrace_engine::exposition::Process;
use std::fs;

/// Memory comes in small pages from here on, in processes that this one starts too. A huge page is zeroed as a whole when it is first touched,
/// and rows wait for that: on a virtual machine for 10 ms and more. Throughput is the same without (`bench/README.md`).
pub fn small_pages() {
    // SAFETY: the call takes integers alone. A kernel that does not know it goes on as before.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

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

/// Bytes that a job may take where its topology says nothing: three quarters of what the machine has, the control group or `limit` allows.
pub fn memory(limit: Option<u64>) -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse::<u64>().ok()? << 10;
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_ref().and_then(|g| g.lines().find_map(|l| l.strip_prefix("0::"))).unwrap_or("/");
    // In a container its own group is the root, in most of them.
    let files = [format!("/sys/fs/cgroup{group}/memory.max"), "/sys/fs/cgroup/memory.max".into()];
    let limits = files.iter().filter_map(|f| fs::read_to_string(f).ok()?.trim().parse::<u64>().ok());
    Some(limits.chain([total]).chain(limit).min()? / 4 * 3)
}

/// User and system time: fields 14 and 15 of `stat`, in clock ticks; the second field may hold spaces and ends with a bracket.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i - 3)?.parse::<u64>().ok();
    Some((ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
