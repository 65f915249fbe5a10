//! Sources, sinks and stores: where rows come from, where they go, where they are looked up.

mod file;
