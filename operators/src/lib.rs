//! The operators: one file each, in reading order: page, config, registration, logic, tests.

mod check;
mod fit;
mod project;
#[cfg(test)]
mod testing;

pub mod count_window;
pub mod dedup;
pub mod filter;
pub mod interval_left_join;
pub mod key_by;
pub mod lookup;
pub mod map;
pub mod requeue;
pub mod select_element;
pub mod select_stream;
pub mod split_element;
pub mod split_stream;
pub mod string_to_map;
pub mod template_extract;
pub mod union;
