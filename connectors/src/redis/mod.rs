//! Redis: a sink, the outbox that makes it exactly-once, and a look-up store.

mod client;
mod commands;
mod outbox;
mod sink;
mod store;
mod writer;
