//! ClickHouse over HTTP: a sink, and the outbox that makes it exactly-once.
//!
//! The crate `clickhouse` carries the bytes (connections, compression, errors); rows are encoded here, as which columns there are
//! is known only at run time and the crate's own encoding wants a type for each table.

mod client;
mod columns;
mod insert;
mod outbox;
mod sink;
mod table;
mod writer;
