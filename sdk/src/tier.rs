//! State below memory: ordered byte strings on a local disk, where the engine keeps keys that it does not hold in memory.

use crate::fault::Fault;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// A key, and its value or None: the key is deleted.
pub type TierEntry<'a> = (&'a [u8], Option<&'a [u8]>);

/// Opens tiers. One a process: what they need of memory is bounded together.
pub trait Tiers: Send + Sync + Debug {
    /// Opens the tier whose [`checkpoint`](Tier::checkpoint) lies in this folder, or makes an empty one where no folder is. From then on the
    /// folder is the tier's alone, as long as it lives; nothing of it need survive that.
    ///
    /// # Errors
    /// Files that are missing or damaged, as far as opening tells.
    fn open(&self, folder: &Path) -> Result<Arc<dyn Tier>, Fault>;
}

/// A file of a tier's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TierFile {
    /// In the checkpoint's folder.
    pub name: String,
    /// Later checkpoints that have a file of this name have the very same.
    pub lasting: bool,
}

/// A map from bytes to bytes in their order. One thread writes while others read; what `write` has written all see.
pub trait Tier: Send + Sync {
    /// Shows the values of those keys that are there: the key's index, and the value.
    fn get(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8]) -> Result<(), Fault>) -> Result<(), Fault>;

    /// Shows entries with `from <= key < to` in order, until `visit` says false.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Fault>) -> Result<(), Fault>;

    /// Takes away all with `from <= key < to` of the `ranges`, and writes entries, which come in order, each key once, and none in a range. May
    /// wait while it is busy with what was written before.
    ///
    /// # Errors
    /// Nothing of it is written then. With `retry` the same call succeeds once there is room on the disk.
    fn write<'a>(&self, entries: &mut dyn Iterator<Item = TierEntry<'a>>, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault>;

    /// Puts all that was written into a folder, which is made, by hard links where that is possible.
    fn checkpoint(&self, folder: &Path) -> Result<Vec<TierFile>, Fault>;

    /// Bytes on disk.
    fn size(&self) -> u64;
}
