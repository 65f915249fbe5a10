//! Checkpoints in a folder of this machine, or of a file system that several machines share.

use crate::disk::{Disk, Real};
use crate::storage::{Entry, Storage, check_name};
use millrace_sdk::{Clock, Fault};
use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Files that are not finished yet; a listing never tells them.
const UNFINISHED: &str = ".unfinished-";
/// One that is older than this was left behind by a process that is no more.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// A folder. Exclusive creation is link(2) of a synced temporary file, and every folder that changed is synced.
pub struct Local {
    root: PathBuf,
    disk: Box<dyn Disk>,
    /// Folders that are known to be there after a loss of power.
    kept: Mutex<HashSet<PathBuf>>,
}

impl Local {
    /// Makes the folder.
    pub fn open(root: &Path) -> Result<Local, Fault> {
        Self::on(Box::new(Real), root)
    }

    pub(crate) fn on(disk: Box<dyn Disk>, root: &Path) -> Result<Local, Fault> {
        let absolute = std::path::absolute(root).map_err(|e| fault("opened", root, &e))?;
        let local = Local { root: absolute, disk, kept: Mutex::default() };
        if local.root.is_dir() {
            return Ok(local);
        }
        let mut missing: Vec<&Path> = local.root.ancestors().take_while(|f| !f.is_dir()).collect();
        while let Some(folder) = missing.pop() {
            local.make(folder).map_err(|e| fault("made", folder, &e))?;
        }
        Ok(local)
    }

    fn path(&self, name: &str) -> Result<PathBuf, Fault> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// Makes a folder and syncs the one that it lies in, also if it was there: who made it may not have come so far.
    fn make(&self, folder: &Path) -> io::Result<()> {
        match self.disk.make_folder(folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        match folder.parent() {
            Some(parent) => self.disk.sync_folder(parent),
            None => Ok(()),
        }
    }

    /// Makes the folder of a file that is going to be made.
    fn keep(&self, file: &Path) -> io::Result<()> {
        let folder = file.parent().unwrap_or(&self.root);
        let known = |f: &Path| self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains(f);
        if known(folder) {
            return Ok(());
        }
        let mut missing: Vec<&Path> = folder.ancestors().take_while(|f| f.starts_with(&self.root) && !known(f)).collect();
        while let Some(folder) = missing.pop() {
            self.make(folder)?;
            self.sweep(folder);
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_path_buf());
        }
        Ok(())
    }

    /// Removes what others left behind.
    fn sweep(&self, folder: &Path) {
        let Ok(found) = self.disk.find(folder) else { return };
        let now = UNIX_EPOCH + Duration::from_micros(Clock::wall().max(0) as u64);
        let old = |f: &&crate::disk::Found| f.changed.and_then(|t| now.duration_since(t).ok()).is_some_and(|age| age > LEFT_BEHIND);
        for f in found.iter().filter(|f| f.name.starts_with(UNFINISHED)).filter(old) {
            // the next start tries again
            let _ = self.disk.remove(&folder.join(&f.name));
        }
    }

    /// A name beside `file` that nobody else uses.
    fn unfinished(&self, file: &Path) -> PathBuf {
        file.with_file_name(format!("{UNFINISHED}{}", crate::log::random_id()))
    }

    /// Gives the synced file `from` the name `to`, unless it has a file with other bytes.
    fn finish(&self, from: &Path, to: &Path) -> io::Result<bool> {
        match self.disk.link(from, to) {
            Ok(()) => {}
            // a refusal may be the lost answer to a call that succeeded
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if !self.disk.same(from, to)? {
                    return Ok(false);
                }
            }
            // the file itself could be made: it is links that this file system refuses
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(io::Error::new(ErrorKind::Unsupported, e)),
            Err(e) => return Err(e),
        }
        self.disk.sync_folder(to.parent().unwrap_or(&self.root))?;
        Ok(true)
    }

    fn write_synced(&self, file: &Path, write: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let written = write(file).and_then(|()| self.disk.sync_file(file));
        if written.is_err() {
            let _ = self.disk.remove(file);
        }
        written
    }

    fn create_by(&self, name: &str, write: &dyn Fn(&Path) -> io::Result<()>) -> Result<bool, Fault> {
        let to = self.path(name)?;
        let made = || {
            self.keep(&to)?;
            let from = self.unfinished(&to);
            self.write_synced(&from, write)?;
            let made = self.finish(&from, &to);
            let _ = self.disk.remove(&from);
            made
        };
        made().map_err(|e| fault("written", &to, &e))
    }
}

impl Storage for Local {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Fault> {
        self.create_by(name, &|file| self.disk.write(file, bytes))
    }

    fn create_from(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        let to = self.path(name)?;
        let linked = || {
            self.keep(&to)?;
            self.disk.sync_file(file)?;
            self.finish(file, &to)
        };
        match linked() {
            // another file system, another owner, or one that knows no links
            Err(e) if no_links(&e) => self.create_by(name, &|to| self.disk.copy(file, to)),
            made => made.map_err(|e| fault("written", &to, &e)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let path = self.path(name)?;
        present(self.disk.read(&path)).map_err(|e| fault("read", &path, &e))
    }

    fn fetch(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        let path = self.path(name)?;
        // never written into: it may be a second name of a file that is kept
        present(self.disk.remove(file)).map_err(|e| fault("replaced", file, &e))?;
        let fetched = match self.disk.link(&path, file) {
            Err(e) if no_links(&e) => self.disk.copy(&path, file),
            linked => linked,
        };
        match fetched {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound && file.parent().is_none_or(Path::is_dir) => Ok(false),
            Err(e) => Err(fault("fetched", &path, &e).detail(format!("to {}: {e}", file.display()))),
        }
    }

    fn sum(&self, name: &str) -> Result<Option<(u64, u64)>, Fault> {
        let path = self.path(name)?;
        present(self.disk.sum(&path)).map_err(|e| fault("read", &path, &e))
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, Fault> {
        let path = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        let found = present(self.disk.find(&path)).map_err(|e| fault("listed", &path, &e))?.unwrap_or_default();
        let mut files: Vec<Entry> =
            found.into_iter().filter(|f| !f.folder && !f.name.starts_with('.')).map(|f| Entry { name: f.name, len: f.len }).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let path = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        let found = present(self.disk.find(&path)).map_err(|e| fault("listed", &path, &e))?.unwrap_or_default();
        let mut names: Vec<String> = found.into_iter().filter(|f| f.folder && !f.name.starts_with('.')).map(|f| f.name).collect();
        names.sort();
        Ok(names)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        let to = self.path(name)?;
        let replaced = || {
            self.keep(&to)?;
            let from = self.unfinished(&to);
            self.write_synced(&from, &|file| self.disk.write(file, bytes))?;
            self.disk.rename(&from, &to).inspect_err(|_| drop(self.disk.remove(&from)))?;
            self.disk.sync_folder(to.parent().unwrap_or(&self.root))
        };
        replaced().map_err(|e| fault("written", &to, &e))
    }

    fn delete(&self, name: &str) -> Result<(), Fault> {
        self.delete_all(&[name.to_string()])
    }

    fn delete_all(&self, names: &[String]) -> Result<(), Fault> {
        let mut changed = HashSet::new();
        for name in names {
            let path = self.path(name)?;
            if present(self.disk.remove(&path)).map_err(|e| fault("deleted", &path, &e))?.is_some() {
                changed.insert(path.parent().unwrap_or(&self.root).to_path_buf());
            }
        }
        changed.iter().try_for_each(|folder| self.disk.sync_folder(folder).map_err(|e| fault("synced", folder, &e)))
    }
}

/// None: it is not there.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(t) => Ok(Some(t)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn no_links(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::CrossesDevices | ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks)
}

fn fault(done: &str, path: &Path, e: &io::Error) -> Fault {
    let what = format!("checkpoint storage: `{}` cannot be {done}", path.display());
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Fault::down(what).detail(e.to_string()).hint("make room there, keep fewer checkpoints (`retained`), or put them elsewhere")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::refused(what)
            .detail(e.to_string())
            .hint("give the job's user the right to write there, or put the checkpoints elsewhere"),
        ErrorKind::NotADirectory => Fault::refused(what).detail(e.to_string()).hint("a file stands where a folder must be"),
        ErrorKind::Unsupported => {
            Fault::refused(what).detail(e.to_string()).hint("this file system knows no hard links: put the checkpoints elsewhere")
        }
        // a server that is away for a while: NFS and its like
        ErrorKind::StaleNetworkFileHandle
        | ErrorKind::TimedOut
        | ErrorKind::Interrupted
        | ErrorKind::WouldBlock
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NotFound => Fault::down(what).detail(e.to_string()),
        _ => Fault::refused(what).detail(e.to_string()).hint("look for errors of the disk in the system's log"),
    }
}
