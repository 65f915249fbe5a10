//! A table in a RocksDB of the job's own: a store to look up in, and a sink that fills it.

mod load;
mod sink;
mod store;
mod table;
