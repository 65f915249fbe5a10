//! Limits of jobs: what the system holds here, and what a job is called with. Control groups (cgroup v2) hold memory and processor time
//! where a folder of them is the console's to manage; see `src/limits.rs` for what holds without them.

use crate::settings::Settings;
use millrace_sdk::Fault;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel shows its control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// The group in which the console itself goes, as a group with processes of its own can have none below it that are limited.
const OWN: &str = "console";

pub struct Limits {
    /// Jobs get a group each below it.
    groups: Option<PathBuf>,
}

impl Limits {
    /// # Errors
    /// A folder was given that is none, or is not the console's.
    pub fn find(given: Option<&Path>) -> Result<Limits, Fault> {
        let groups = match given {
            Some(folder) => {
                prepare(folder).map_err(|e| {
                    Fault::refused(format!("the control groups in `{}` cannot be used: {e}", folder.display()))
                        .hint("--cgroup is a folder of a cgroup v2 file system that this user may write, with `cpu` and `memory` in its cgroup.controllers")
                })?;
                Some(folder.to_path_buf())
            }
            None => delegated().filter(|folder| prepare(folder).is_ok()),
        };
        Ok(Limits { groups })
    }

    /// Whether control groups hold memory and processor time.
    pub fn by_groups(&self) -> bool {
        self.groups.is_some()
    }

    /// For the job's command line.
    pub fn args(&self, settings: &Settings, task: i64) -> Vec<String> {
        let mut args = vec![];
        let mut add = |name: &str, value: Option<String>| args.extend(value.into_iter().flat_map(|v| [name.to_string(), v]));
        add("--open-files", settings.open_files.map(|n| n.to_string()));
        add("--memory-limit", Some(settings.memory_limit.clone()).filter(|m| !m.is_empty()));
        add("--cpu", settings.cpu.map(|n| n.to_string()));
        add("--cgroup", self.groups.as_ref().map(|g| g.join(format!("task-{task}")).display().to_string()));
        args
    }

    /// A task is gone. Its group is empty by now.
    pub fn forget(&self, task: i64) {
        let _ = self.groups.as_ref().map(|g| fs::remove_dir(g.join(format!("task-{task}"))));
    }
}

/// The group of this process or the one above it, if the system says that it is ours (`Delegate=` of systemd).
fn delegated() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = Path::new(ROOT).join(text.lines().find_map(|l| l.strip_prefix("0::/"))?);
    let is_ours = |folder: &&Path| {
        let told = |name: &str| {
            let mut value = [0; 8];
            rustix::fs::getxattr(*folder, name, &mut value).is_ok_and(|n| value.starts_with(b"1") && n > 0)
        };
        told("user.delegate") || told("trusted.delegate")
    };
    own.ancestors().take(2).find(is_ours).map(Path::to_path_buf)
}

/// Lets groups below a folder have limits of memory and processors.
fn prepare(folder: &Path) -> std::io::Result<()> {
    let control = folder.join("cgroup.subtree_control");
    let on = fs::read_to_string(&control)?;
    if ["cpu", "memory"].iter().all(|c| on.split_whitespace().any(|o| o == *c)) {
        return Ok(());
    }
    let mine = std::process::id().to_string();
    if fs::read_to_string(folder.join("cgroup.procs"))?.lines().any(|pid| pid == mine) {
        fs::create_dir_all(folder.join(OWN))?;
        fs::write(folder.join(OWN).join("cgroup.procs"), &mine)?;
    }
    fs::write(control, "+cpu +memory")
}
