//! Exactly-once sinks: one suite that every sink with an outbox passes, each against its real server.

mod clickhouse;
mod file;
mod hbase;
mod kafka;
mod redis;
mod servers;
mod suite;
