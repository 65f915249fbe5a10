//! Aggregates over the rows of a window: `count(*)`, `sum(x)`, `min`, `max`, `avg`, `first`, `last`, `count(distinct x)`.

use crate::{EvalError, Issue};
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Field, Record, Schema};

/// Compiled aggregates; accumulators are bytes, so that they can be state.
pub struct Aggregates {}

impl Aggregates {
    /// Names and paths that one aggregate expression reads.
    pub fn fields(text: &str) -> Vec<String> {
        let _ = text;
        todo!("expr helper")
    }

    /// `named`: output name and expression, in output order. An expression may combine aggregates: `sum(a) / count(*)`.
    ///
    /// # Errors
    /// Issues with the index of the expression they are in.
    pub fn compile(named: &[(String, String)], schema: &Schema, env: &Env) -> Result<Aggregates, Vec<(usize, Issue)>> {
        let _ = (named, schema, env);
        todo!("expr helper")
    }

    /// Names and types of the results.
    pub fn outputs(&self) -> Vec<Field> {
        todo!("expr helper")
    }

    /// Appends the bytes of empty accumulators.
    pub fn init(&self, acc: &mut Vec<u8>) {
        let _ = acc;
        todo!("expr helper")
    }

    /// Takes a row into accumulators that start at byte `at` of `acc` and end with it; they may grow.
    pub fn update(&self, acc: &mut Vec<u8>, at: usize, row: &Record<'_>) -> Result<(), EvalError> {
        let _ = (acc, at, row);
        todo!("expr helper")
    }

    /// Pushes the results as the next fields of a row being built.
    pub fn push(&self, acc: &[u8], out: &mut BatchBuilder) -> Result<(), EvalError> {
        let _ = (acc, out);
        todo!("expr helper")
    }
}
