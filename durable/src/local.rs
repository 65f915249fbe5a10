//! Checkpoints in a folder of this machine, or of a file system that several machines share.

use crate::storage::{Entry, Storage};
use millrace_sdk::Fault;
use std::path::{Path, PathBuf};

/// A folder. Exclusive creation is link(2) of a synced temporary file, and every folder that changed is synced.
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Makes the folder.
    pub fn open(root: &Path) -> Result<Local, Fault> {
        let _ = root;
        todo!("durable helper")
    }
}

impl Storage for Local {
    fn place(&self) -> String {
        self.root.display().to_string()
    }
    fn create(&self, _: &str, _: &[u8]) -> Result<bool, Fault> {
        todo!("durable helper")
    }
    fn create_from(&self, _: &str, _: &Path) -> Result<bool, Fault> {
        todo!("durable helper")
    }
    fn read(&self, _: &str) -> Result<Option<Vec<u8>>, Fault> {
        todo!("durable helper")
    }
    fn fetch(&self, _: &str, _: &Path) -> Result<bool, Fault> {
        todo!("durable helper")
    }
    fn list(&self, _: &str) -> Result<Vec<Entry>, Fault> {
        todo!("durable helper")
    }
    fn folders(&self, _: &str) -> Result<Vec<String>, Fault> {
        todo!("durable helper")
    }
    fn replace(&self, _: &str, _: &[u8]) -> Result<(), Fault> {
        todo!("durable helper")
    }
    fn delete(&self, _: &str) -> Result<(), Fault> {
        todo!("durable helper")
    }
}
