//! Bytes to records and back: JSON, delimited and other text, CSV, charsets.

pub mod json;
pub mod text;
