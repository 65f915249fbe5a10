//! The processes of a run, seen through the folder that it keeps (`control`): whether any lives, what the supervisor has told, and its end
//! by force.

use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;

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

/// Sends a signal to the supervisor, and to nobody who has its number after it.
pub fn signal(control: &Path, signal: Signal) {
    let Some(told) = told(control).filter(|_| alive(control)) else { return };
    let Some(pid) = Pid::from_raw(told.pid) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Looked at after the descriptor was opened: it stays with this process, whatever its number names later.
    if told.ticks.is_some() && ticks(told.pid) == told.ticks {
        let _ = pidfd_send_signal(&process, signal);
    }
}

/// When a process began: field 22 of `stat`.
fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
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
        write(control, stranger.id(), began.map(|t| t + 1));
        signal(control, Signal::KILL);
        assert!(stranger.try_wait().unwrap().is_none());
        write(control, child.id(), began);
        signal(control, Signal::KILL);
        assert!(!child.wait().unwrap().success());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(told(control).unwrap().phase, "running");
    }
}
