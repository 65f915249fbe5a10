//! YAML text -> tree with source ranges -> typed plan; wiring, schema flow, lints.

pub mod plan;
