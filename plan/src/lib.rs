//! YAML text -> tree with source ranges -> typed plan; wiring, schema flow, lints.

mod check;
pub mod diagnostic;
pub mod plan;
mod scalar;
pub mod source;
mod topology;
mod vars;
mod yaml;
