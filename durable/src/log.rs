//! The log of a job instance: numbered slots, each taken once, and the files that manifests name.

use crate::manifest::{FileRef, Generation, Manifest, Record};
use crate::storage::Storage;
use millrace_sdk::Fault;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a run starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest manifest, if there is any.
    Latest,
    /// The manifest in this slot.
    Slot(u64),
    /// Nothing: a new instance, whose markers have nothing to do with the old one's.
    Scratch,
}

/// A generation that has begun.
pub struct Begun {
    /// Its slot; later slots are this generation's manifests until another generation comes.
    pub generation: u64,
    pub from: Option<Manifest>,
    /// The newest slot of all when it began, to tell what a start from an older manifest would write again.
    pub newest: u64,
    /// Every writer named in any manifest from `from` on, by sink: all of them must be fenced.
    pub fence: BTreeMap<String, Vec<String>>,
}

/// Invariants: a slot once taken never changes. Ids only grow, also after a start from an older manifest. A generation that finds its
/// next slot taken is no longer the newest and must write nothing more, anywhere.
pub struct JobLog {
    storage: Arc<dyn Storage>,
    job: String,
    instance: String,
}

impl JobLog {
    /// Opens the log of a job's present instance, making one if there is none or `scratch` is asked for.
    pub fn open(storage: Arc<dyn Storage>, job: &str, scratch: bool) -> Result<JobLog, Fault> {
        let _ = (storage, job, scratch);
        todo!("durable helper")
    }

    /// The present instance without making one; None: the job never took a checkpoint here.
    pub fn find(storage: Arc<dyn Storage>, job: &str) -> Result<Option<JobLog>, Fault> {
        let _ = (storage, job);
        todo!("durable helper")
    }

    pub fn job(&self) -> &str {
        &self.job
    }

    /// Chosen at random at a start from scratch: 32 hex digits.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn place(&self) -> String {
        self.storage.place()
    }

    /// Takes the next slot with a generation record. A slot that a manifest got meanwhile: tries the next. A slot that another
    /// generation got: a fault, as two runs of a job start at once.
    pub fn begin(&self, record: &Generation, from: &StartFrom) -> Result<Begun, Fault> {
        let _ = (record, from);
        todo!("durable helper")
    }

    /// False: another has it, and this generation is over.
    pub fn take(&self, slot: u64, record: &Record) -> Result<bool, Fault> {
        let _ = (slot, record);
        todo!("durable helper")
    }

    /// Whether a generation began after `generation`.
    pub fn superseded(&self, generation: u64) -> Result<bool, Fault> {
        let _ = generation;
        todo!("durable helper")
    }

    /// All slots that are taken, in order.
    pub fn slots(&self) -> Result<Vec<u64>, Fault> {
        todo!("durable helper")
    }

    /// # Errors
    /// There is no such slot (pruned, or never taken), or it is damaged.
    pub fn read(&self, slot: u64) -> Result<Record, Fault> {
        let _ = slot;
        todo!("durable helper")
    }

    /// Writes a file under a name that nobody has used: names carry the generation.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<FileRef, Fault> {
        let _ = (name, bytes);
        todo!("durable helper")
    }

    /// As [`put`](Self::put), of a local file that nobody changes any more.
    pub fn put_file(&self, name: &str, file: &Path) -> Result<FileRef, Fault> {
        let _ = (name, file);
        todo!("durable helper")
    }

    /// # Errors
    /// The file is missing, or has another length or checksum than its reference says: names which.
    pub fn get(&self, file: &FileRef) -> Result<Vec<u8>, Fault> {
        let _ = file;
        todo!("durable helper")
    }

    /// As [`get`](Self::get), into a local file.
    pub fn get_file(&self, file: &FileRef, to: &Path) -> Result<(), Fault> {
        let _ = (file, to);
        todo!("durable helper")
    }

    /// Deletes all but the newest `retain` completed checkpoints, savepoints, whatever they name, and unapplied outboxes; also files
    /// that no manifest names and that no attempt of `generation` can still name. Returns how many slots and files went.
    pub fn prune(&self, retain: usize, generation: u64) -> Result<(usize, usize), Fault> {
        let _ = (retain, generation);
        todo!("durable helper")
    }
}
