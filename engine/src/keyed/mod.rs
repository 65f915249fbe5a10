//! Operators with state per key.

mod asker;
mod claims;
mod context;
mod index;
mod operator;
mod snapshot;
mod state;

pub use asker::Asker;
pub use operator::{KeyedRunner, KeyedSetup, Saves};
