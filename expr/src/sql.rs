//! SQL scalar expressions.

use crate::{EvalError, Issue, Scratch};
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Record, Schema, Type, Val};

/// A compiled expression over rows of one schema.
pub struct Expr {}

impl Expr {
    /// Names and paths that the expression reads; empty where it does not parse (compiling says why).
    pub fn fields(text: &str) -> Vec<String> {
        let _ = text;
        todo!("expr helper")
    }

    /// # Errors
    /// All issues: syntax, unknown fields and functions (with suggestions), types that do not fit.
    pub fn compile(text: &str, schema: &Schema, env: &Env) -> Result<Expr, Vec<Issue>> {
        let _ = (text, schema, env);
        todo!("expr helper")
    }

    pub fn ty(&self) -> Type {
        todo!("expr helper")
    }

    /// The value for a row, borrowed from the row or from `scratch`.
    pub fn eval<'a>(&self, row: &Record<'a>, scratch: &'a mut Scratch) -> Result<Val<'a>, EvalError> {
        let _ = (row, scratch);
        todo!("expr helper")
    }

    /// Appends the value as the next field of a row being built. `out` may have been made over the row's batch.
    pub fn push(&self, row: &Record<'_>, out: &mut BatchBuilder) -> Result<(), EvalError> {
        let _ = (row, out);
        todo!("expr helper")
    }

    /// For conditions: NULL is not true.
    pub fn is_true(&self, row: &Record<'_>, scratch: &mut Scratch) -> Result<bool, EvalError> {
        let _ = (row, scratch);
        todo!("expr helper")
    }
}
