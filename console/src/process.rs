//! The processes of a run, seen through the folder that it keeps (`control`): whether any lives, what the supervisor has told, and its end
//! by force.

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use serde_json::Value;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How often, and after what pauses, the lock of a task is asked for before it counts as held.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(5);

/// `run.json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Told {
    pub run: i64,
    pub pid: i32,
    pub ticks: Option<u64>,
    /// starting, running, waiting, ended.
    pub phase: String,
    /// State was restored and sources were read: the next start goes on from the latest checkpoint.
    pub begun: bool,
    pub restarts: u32,
    /// Most restarts; None: without end.
    pub of: Option<u32>,
    pub after_seconds: Option<f64>,
    pub reason: Option<String>,
    pub fault: Option<Value>,
    pub exit: Option<u8>,
    /// Its last process was ended for a limit.
    pub limit: bool,
}

/// What the newest supervisor has told; None: nothing yet.
pub fn told(control: &Path) -> Option<Told> {
    serde_json::from_slice(&fs::read(control.join("run.json")).ok()?).ok()
}

/// Whether a process of a run lives: the kernel knows by its lock.
pub fn alive(control: &Path) -> bool {
    let Ok(lock) = File::open(control.join("lock")) else { return false };
    // Held for this moment only; a supervisor that begins just now tries again.
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Takes the lock for a process that is about to be started, which gets the file as its standard input.
///
/// # Errors
/// `WouldBlock`: a run has it. Others: the folder.
pub fn take(control: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(control.join("lock"))?;
    let mut tries = 0;
    while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        tries += 1;
        if tries > TRIES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Somebody may just be looking whether it is held.
        std::thread::sleep(PAUSE);
    }
    Ok(lock)
}

/// Sends a signal to the supervisor, and to nobody who has its number after it. KILL goes to every process of the run.
pub fn signal(control: &Path, signal: Signal) {
    if !alive(control) {
        return;
    }
    let mut sent = false;
    if let Some(told) = told(control) {
        sent = send(told.pid, signal, || told.ticks.is_some() && ticks(told.pid) == told.ticks);
    }
    if !sent || signal == Signal::KILL {
        // One that has not told its number yet, and children of one that is gone.
        let Ok(lock) = fs::metadata(control.join("lock")) else { return };
        for pid in pids() {
            if holds(pid, &lock) {
                send(pid, signal, || holds(pid, &lock));
            }
        }
    }
}

/// Whether it was sent.
fn send(pid: i32, signal: Signal, is_it: impl Fn() -> bool) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Looked at after the descriptor was opened: it stays with this process, whatever its number names later.
    is_it() && pidfd_send_signal(&process, signal).is_ok()
}

/// All processes but this one.
fn pids() -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own).collect()
}

/// Whether a process holds a lock, and does not just look into the file. Processes of other users cannot be seen.
fn holds(pid: i32, lock: &Metadata) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.into_iter().any(|f| {
        fs::metadata(f.path()).is_ok_and(|m| (m.dev(), m.ino()) == (lock.dev(), lock.ino()))
            && fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", f.file_name().to_string_lossy()))
                .is_ok_and(|info| info.lines().any(|l| l.starts_with("lock:") && l.contains("FLOCK") && l.contains("WRITE")))
    })
}

/// Fields of a process's `stat`, from the third on.
fn stat(pid: i32) -> Option<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(|f| f.parse().unwrap_or_default()).collect())
}

/// When a process began: field 22.
fn ticks(pid: i32) -> Option<u64> {
    stat(pid)?.get(19).copied()
}

/// The clock ticks of processor time that the supervisor and its children have used: fields 14 and 15.
pub fn spent(told: &Told) -> Option<u64> {
    let of = |pid: i32| stat(pid).and_then(|s| Some(s.get(11)? + s.get(12)?));
    let own = of(told.pid).filter(|_| ticks(told.pid) == told.ticks)?;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", told.pid)).unwrap_or_default();
    Some(own + children.split_whitespace().filter_map(|p| of(p.parse().ok()?)).sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn write(control: &Path, pid: u32, ticks: Option<u64>) {
        let text = serde_json::json!({"run": 1, "pid": pid, "ticks": ticks, "phase": "running", "begun": true}).to_string();
        fs::write(control.join("run.json"), text).unwrap();
    }

    #[test]
    fn only_the_process_that_holds_the_lock_is_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path();
        assert!(!alive(control) && told(control).is_none());
        let lock = File::create(control.join("lock")).unwrap();
        assert!(!alive(control));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        let began = ticks(child.id().try_into().unwrap());
        write(control, child.id(), began);
        // Nobody holds the lock: the number may be anybody's.
        signal(control, Signal::KILL);
        assert!(child.try_wait().unwrap().is_none());
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert!(alive(control));
        // The number is another process's by now.
        write(control, stranger.id(), began.map(|t| t + 1_000_000));
        signal(control, Signal::KILL);
        assert!(stranger.try_wait().unwrap().is_none());
        write(control, child.id(), began);
        signal(control, Signal::KILL);
        assert!(!child.wait().unwrap().success());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        // One that has the lock and has told nothing is found by it; one that only reads the file is left alone.
        drop(lock);
        let mut silent = Command::new("sleep").arg("1000").stdin(take(control).unwrap()).spawn().unwrap();
        let mut reader = Command::new("sleep").arg("1000").stdin(File::open(control.join("lock")).unwrap()).spawn().unwrap();
        assert_eq!(take(control).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        signal(control, Signal::KILL);
        assert!(!silent.wait().unwrap().success() && !alive(control));
        assert!(reader.try_wait().unwrap().is_none());
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert_eq!(told(control).unwrap().phase, "running");
    }
}
