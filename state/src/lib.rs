//! The tier below the engine's memory, in RocksDB.

#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "rocksdb")]
pub use rocks::Rocks;
