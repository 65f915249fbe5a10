//! YAML text -> tree with source ranges -> typed plan; wiring, schema flow, lints.

mod build;
mod check;
pub mod diagnostic;
mod durability;
pub mod graph;
mod guards;
pub mod host;
pub mod ids;
mod lints;
mod load;
pub mod plan;
mod reference;
mod scalar;
mod set;
pub mod source;
mod topology;
mod vars;
mod wiring;
mod yaml;

pub use diagnostic::Diagnostic;
pub use durability::listen;
pub use load::{Options, Planned, file_name, load, load_text};
pub use reference::{explain, json_schema};

#[cfg(test)]
mod tests;
