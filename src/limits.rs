//! Limits of a console's job, held by the system where it can.
//!
//! With a folder of control groups (cgroup v2) that is the console's to manage, the kernel holds memory and processor time of all the job's
//! processes together. Without one, the kernel still holds the number of open files and, by affinity, how many processors a job may use;
//! resident memory is then looked at by the job's supervisor ten times a second, which ends what is above the limit.

use crate::cli::RunArgs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::{Path, PathBuf};

/// The period in which processor time is counted, microseconds.
const PERIOD: f64 = 100_000.0;

/// Memory of a job, held.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bytes.
    most: u64,
    /// The control group; None: the supervisor looks.
    group: Option<PathBuf>,
}

/// Sets the limits for this process and all that it will start; what is left to look after.
///
/// # Errors
/// One cannot be set: then the job does not begin.
pub fn set(args: &RunArgs) -> Result<Option<Memory>, String> {
    if let Some(files) = args.open_files {
        open_files(files)?;
    }
    let group = args.cgroup.as_ref().filter(|_| args.cpu.is_some() || args.memory_limit.is_some());
    let group = group.map(|folder| enter(folder, args)).transpose()?;
    if let Some(cpu) = args.cpu.filter(|_| group.is_none()) {
        processors(cpu)?;
    }
    Ok(args.memory_limit.map(|m| Memory { most: m.bytes, group }))
}

fn open_files(most: u64) -> Result<(), String> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(most);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) })
        .map_err(|e| format!("the limit of {most} open files cannot be set: {e}"))
}

/// Lets the job run on so many processors, rounded up; which ones differs from job to job.
fn processors(most: f64) -> Result<(), String> {
    let failed = || format!("the limit of {most} processors cannot be set: {}", std::io::Error::last_os_error());
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set is plain bits, and the call writes no more of it than its size.
    let (mine, done) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let done = libc::sched_getaffinity(0, size, &raw mut set);
        (set, done)
    };
    if done != 0 {
        return Err(failed());
    }
    let most_there = libc::CPU_SETSIZE as usize;
    // SAFETY: the index is below the size of the set.
    let all: Vec<usize> = (0..most_there).filter(|i| unsafe { libc::CPU_ISSET(*i, &mine) }).collect();
    let count = (most.ceil().max(1.0) as usize).min(all.len());
    let first = std::process::id() as usize * count;
    // SAFETY: as above; the set that is given outlives the call.
    let done = unsafe {
        let mut chosen: libc::cpu_set_t = std::mem::zeroed();
        (first..first + count).for_each(|i| libc::CPU_SET(all[i % all.len()], &mut chosen));
        libc::sched_setaffinity(0, size, &raw const chosen)
    };
    if done == 0 { Ok(()) } else { Err(failed()) }
}

/// Makes the job's control group and enters it.
fn enter(folder: &Path, args: &RunArgs) -> Result<PathBuf, String> {
    let failed = |e: std::io::Error| format!("the control group `{}` cannot be used: {e}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let write = |file: &str, text: String| fs::write(folder.join(file), text).map_err(failed);
    write("memory.max", args.memory_limit.map_or("max".into(), |m| m.bytes.to_string()))?;
    if args.memory_limit.is_some() {
        // Not every kernel has swap.
        let _ = write("memory.swap.max", "0".into());
    }
    let quota = args.cpu.map_or("max".into(), |cpu| ((cpu * PERIOD).round() as u64).to_string());
    write("cpu.max", format!("{quota} {PERIOD}"))?;
    write("cgroup.procs", std::process::id().to_string())?;
    Ok(folder.into())
}

impl Memory {
    /// How often the kernel has ended a process of the job so far.
    pub fn ended(&self) -> u64 {
        let events = self.group.as_ref().and_then(|g| fs::read_to_string(g.join("memory.events")).ok()).unwrap_or_default();
        events.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or_default()
    }

    /// Why processes must end now, if the kernel does not look itself.
    pub fn above(&self, pids: impl Iterator<Item = i32>) -> Option<String> {
        if self.group.is_some() {
            return None;
        }
        let used: u64 = pids.map(resident).sum();
        (used > self.most).then(|| format!("{} had {}", self.reason(), shown(used)))
    }

    pub fn reason(&self) -> String {
        format!("the job is over its memory limit of {}", shown(self.most))
    }
}

fn shown(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Resident memory of a process, bytes; 0: it is gone.
fn resident(pid: i32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok().and_then(|s| s.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}
