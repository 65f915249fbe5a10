//! Exactly-once sinks: one suite that every sink with an outbox passes, each against its real server.

mod file;
mod hbase;
mod kafka;
mod servers;
mod suite;
