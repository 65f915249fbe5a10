//! Where bytes are kept so that they survive the process and, if the place does, the machine.

use millrace_sdk::Fault;
use std::io::{self, Read};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What lies in a folder of a [`Storage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without the folder.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// A place for checkpoints. Names are relative, with `/` between folders, which need not be made. Calls may block for as long as the
/// place needs; an `Err` with `retry` may go away by itself.
pub trait Storage: Send + Sync {
    /// For people: the folder, or the bucket and prefix.
    fn place(&self) -> String;

    /// Creates a file that must not be there. True: it is there with these bytes and will be after a loss of power, also if this very
    /// call was made before and only its answer was lost. False: another one has the name, and nothing was changed.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Fault>;

    /// As [`create`](Self::create), of a local file that nobody changes any more (an SST): by a hard link where that is possible.
    fn create_from(&self, name: &str, file: &Path) -> Result<bool, Fault>;

    /// None: there is no such file.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Fault>;

    /// Makes a local file of it, by a hard link where that is possible (so nobody may ever write into it), in the place of the one that is
    /// there. False: there is no such file.
    fn fetch(&self, name: &str, file: &Path) -> Result<bool, Fault>;

    /// Length in bytes and xxh3 of a file; None: there is no such file.
    fn sum(&self, name: &str) -> Result<Option<(u64, u64)>, Fault> {
        Ok(self.read(name)?.map(|bytes| (bytes.len() as u64, xxh3_64(&bytes))))
    }

    /// Files of a folder by name; empty when there is no such folder. Unfinished ones are not told.
    fn list(&self, folder: &str) -> Result<Vec<Entry>, Fault>;

    /// The folders of a folder, by name.
    fn folders(&self, folder: &str) -> Result<Vec<String>, Fault>;

    /// Sets a small file, whatever was there before, in one step.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Fault>;

    /// It need not be there. It is gone also after a loss of power.
    fn delete(&self, name: &str) -> Result<(), Fault>;

    /// As [`delete`](Self::delete), of many at less cost; the first that cannot be deleted ends it.
    fn delete_all(&self, names: &[String]) -> Result<(), Fault> {
        names.iter().try_for_each(|n| self.delete(n))
    }
}

/// Names come from the engine alone, which never makes one that leaves the place or looks like an unfinished file.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    match name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')) {
        true => Ok(()),
        false => Err(Fault::bug(format!("checkpoint storage: `{name}` is no name for a file"))),
    }
}

/// Length and xxh3 of what is read.
pub(crate) fn sum_of(mut bytes: impl Read) -> io::Result<(u64, u64)> {
    let (mut buffer, mut len, mut sum) = (vec![0; 1 << 18], 0, Xxh3::new());
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok((len, sum.digest())),
            n => {
                len += n as u64;
                sum.update(&buffer[..n]);
            }
        }
    }
}
