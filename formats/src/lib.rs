//! Bytes to records and back: JSON, delimited and other text, CSV, charsets.

pub mod charset;
pub mod csv;
pub mod json;
pub mod text;
