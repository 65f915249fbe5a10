//! The calls of a file system that [`Local`](crate::Local) stands on, so that tests can put a disk in their place that forgets what was
//! never synced.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// What lies in a folder of a [`Disk`].
pub struct Found {
    pub name: String,
    pub folder: bool,
    /// Bytes.
    pub len: u64,
    pub changed: Option<SystemTime>,
}

/// After a loss of power a file has its bytes if it was synced, and a folder has those of its names that it had when it was synced; of all
/// that is younger anything or nothing may be there.
pub trait Disk: Send + Sync {
    /// Fails if it is there.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
    /// Fails if it is there.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Fails if it is there.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_file(&self, file: &Path) -> io::Result<()>;
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// A second name for a file. Fails if it is there.
    fn link(&self, file: &Path, name: &Path) -> io::Result<()>;
    /// Replaces what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, file: &Path) -> io::Result<()>;
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;
    fn same(&self, one: &Path, other: &Path) -> io::Result<bool>;
    /// Length and xxh3.
    fn sum(&self, file: &Path) -> io::Result<(u64, u64)>;
    fn find(&self, folder: &Path) -> io::Result<Vec<Found>>;
}

/// The operating system's.
pub struct Real;

impl Disk for Real {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir(folder)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut std::fs::File::create_new(file)?, bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        io::copy(&mut std::fs::File::open(from)?, &mut std::fs::File::create_new(to)?).map(drop)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        std::fs::File::open(file)?.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::File::open(folder)?.sync_all()
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        std::fs::hard_link(file, name)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        std::fs::remove_file(file)
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(file)
    }

    fn sum(&self, file: &Path) -> io::Result<(u64, u64)> {
        crate::storage::sum_of(std::fs::File::open(file)?)
    }

    fn same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        let (mut one, mut other) = (std::fs::File::open(one)?, std::fs::File::open(other)?);
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let n = io::Read::read(&mut one, &mut a)?;
            if n == 0 {
                return Ok(true);
            }
            match io::Read::read_exact(&mut other, &mut b[..n]) {
                Ok(()) if a[..n] == b[..n] => {}
                Ok(()) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    fn find(&self, folder: &Path) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match std::fs::metadata(entry.path()) {
                Ok(m) => found.push(Found { name, folder: m.is_dir(), len: m.len(), changed: m.modified().ok() }),
                // deleted meanwhile
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}
