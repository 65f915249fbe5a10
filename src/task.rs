//! A run that a console has started (`run --task FOLDER`): it lives in a session of its own, so that it outlives the console, and leaves in
//! the folder what a console needs to find it again.
//!
//! `lock` is held (flock) by the supervisor and, as children inherit it, by every process of the run: it is free just when the last of them
//! has gone, whatever ended it, and no two runs hold it at a time. `run.json` says which process the supervisor is, how far the run has
//! come, and in the end how it ended; it is replaced as a whole. A console takes the lock before it starts the supervisor and hands it over as
//! the standard input, so that there is no moment between in which a second start would be possible.

use crate::exit::Exit;
use crate::limits::Memory;
use millrace_engine::summary::FaultSummary;
use millrace_plan::plan::RestartPlan;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long the processes of an earlier run may take to be gone.
const GONE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Journal {
    folder: PathBuf,
    state: Mutex<Value>,
    /// What the supervisor holds its children to.
    pub memory: Option<Memory>,
    _lock: File,
}

impl Journal {
    /// Detaches this process and takes the folder. `run`: the console's number of the run.
    ///
    /// # Errors
    /// Another run holds the folder, or it cannot be written.
    pub fn open(folder: &Path, run: u64) -> Result<Journal, String> {
        // Fails for the leader of a process group: then somebody has started it by hand in a terminal.
        let _ = rustix::process::setsid();
        let told = |e: std::io::Error| format!("`{}` cannot be written: {e}", folder.display());
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
        let lock = handed(folder).map_or_else(open, Ok).map_err(told)?;
        let begun = Instant::now();
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if begun.elapsed() > GONE {
                return Err(format!("another run holds `{}`", folder.display()));
            }
            std::thread::sleep(PAUSE);
        }
        // For the children.
        rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).map_err(|e| e.to_string())?;
        let state = json!({
            "run": run, "pid": std::process::id(), "ticks": ticks(), "phase": "starting", "begun": false, "restarts": 0, "of": null,
        });
        let journal = Journal { folder: folder.into(), state: Mutex::new(state), memory: None, _lock: lock };
        journal.write(&journal.lock()).map_err(told)?;
        Ok(journal)
    }

    fn lock(&self) -> MutexGuard<'_, Value> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self, state: &Value) -> std::io::Result<()> {
        let beside = self.folder.join("run.json.tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{state}")?;
        file.sync_data()?;
        fs::rename(&beside, self.folder.join("run.json"))
    }

    fn tell(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.lock();
        change(&mut state);
        if let Err(e) = self.write(&state) {
            tracing::error!("what becomes of the run cannot be written to {}: {e}", self.folder.display());
        }
    }

    /// A process of the job is about to be started.
    pub fn starting(&self, strategy: &RestartPlan) {
        let of = match strategy {
            RestartPlan::FixedDelay { attempts, .. } => json!(attempts),
            RestartPlan::FailureRate { max_failures, .. } => json!(max_failures),
            RestartPlan::None => json!(0),
            RestartPlan::ExponentialDelay { .. } | RestartPlan::FallBack => Value::Null,
        };
        self.tell(|s| (s["phase"], s["of"]) = ("starting".into(), of));
    }

    /// State is restored, and sources are read.
    pub fn begun(&self) {
        self.tell(|s| (s["phase"], s["begun"]) = ("running".into(), true.into()));
    }

    /// It has failed, and is started again in a while.
    pub fn waiting(&self, restart: u32, reason: &str, after: Duration) {
        self.tell(|s| {
            (s["phase"], s["restarts"], s["reason"]) = ("waiting".into(), restart.into(), reason.into());
            s["after_seconds"] = after.as_secs_f64().into();
        });
    }

    /// Why a process of it ended; the last one counts.
    /// `limit`: it was above one of its limits, so that a start from outside is no help.
    pub fn fault(&self, reason: &str, fault: Option<&FaultSummary>, limit: bool) {
        self.tell(|s| {
            (s["reason"], s["fault"]) = (reason.into(), serde_json::to_value(fault).unwrap_or_default());
            s["limit"] = limit.into();
        });
    }

    pub fn ended(&self, exit: u8) {
        self.tell(|s| {
            (s["phase"], s["exit"]) = ("ended".into(), exit.into());
            if exit == Exit::Ok as u8 {
                (s["reason"], s["fault"]) = (Value::Null, Value::Null);
            }
        });
    }
}

/// The lock, if whoever has started this process has taken it already: it is the standard input.
fn handed(folder: &Path) -> Option<File> {
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    let (own, lock) = (file.metadata().ok()?, fs::metadata(folder.join("lock")).ok()?);
    ((own.dev(), own.ino()) == (lock.dev(), lock.ino())).then_some(file)
}

/// When this process began, in clock ticks since the system did: field 22 of `stat`. With the number of the process it names it for good.
fn ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
