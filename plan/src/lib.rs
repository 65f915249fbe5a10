//! YAML text -> tree with source ranges -> typed plan; wiring, schema flow, lints.

mod alerts;
mod allow;
mod build;
pub mod cases;
mod check;
mod confine;
mod connect;
pub mod diagnostic;
mod durability;
pub mod fix;
pub mod fmt;
pub mod graph;
mod guards;
pub mod host;
pub mod ide;
pub mod ids;
mod lints;
mod load;
mod mend;
mod node;
mod output;
pub mod plan;
mod reference;
mod repair;
mod reuse;
mod scalar;
mod set;
pub mod source;
mod spelling;
mod style;
mod topology;
mod vars;
mod wiring;
mod yaml;

pub use confine::Confine;
pub use diagnostic::Diagnostic;
pub use durability::listen;
pub use load::{Options, Planned, file_name, load, load_bytes, load_text, tests_beside};
pub use output::{github, sarif};
pub use reference::{explain, explain_section, json_schema, sections};
pub use vars::PLACEHOLDER;

#[cfg(test)]
mod tests;
