//! Runs the tests of a topology: the plan's own operators and the engine's own time, on a clock that only the test moves. Sources, sinks and
//! stores are exchanged, and nothing else.

pub mod compare;
pub mod coverage;
mod feed;
pub mod fix;
pub mod junit;
pub mod rows;
mod run;
pub mod show;
mod stand;

pub use run::{Outcome, run};
