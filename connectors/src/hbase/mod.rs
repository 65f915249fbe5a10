//! HBase through its Thrift gateway (Thrift1: buffered transport, binary protocol): a store and a sink.

mod cells;
mod client;
mod outbox;
mod protocol;
mod sink;
mod store;
mod writer;
