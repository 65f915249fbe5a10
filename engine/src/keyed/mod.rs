//! Operators with state per key.

mod asker;
mod below;
#[cfg(test)]
mod below_tests;
mod cells;
mod claims;
mod context;
mod index;
mod meta;
mod operator;
mod order;
mod record;
mod snapshot;
mod state;
mod tiering;

pub use asker::Asker;
pub use operator::{KeyedRunner, KeyedSetup, Saves, describe};
pub use tiering::TierRoom;
