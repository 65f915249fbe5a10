//! Sources, sinks and stores: where rows come from, where they go, where they are looked up.

pub mod charset;
mod chunk;
mod clickhouse;
mod counted;
mod embedded;
mod file;
pub mod format;
mod gather;
pub mod generator;
mod hbase;
pub mod inline;
pub mod kafka;
mod lookup;
pub mod null;
pub mod reach;
mod redis;
pub mod stdin;
pub mod stdout;

/// Names this crate, so that the linker keeps the parts that it registers.
pub fn link() {}
