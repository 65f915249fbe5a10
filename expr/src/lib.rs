//! The two small languages: SQL scalar expressions and handlebars templates. Parse, check against a schema, compile once, evaluate.

pub mod aggregate;
pub mod function;
pub mod sql;
pub mod template;

use millrace_sdk::{Place, Problem};
use std::ops::Range;

pub use aggregate::Aggregates;
pub use function::{FunctionDef, functions};
pub use sql::Expr;
pub use template::Template;

/// What is wrong in an expression or a template, with the place inside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub id: &'static str,
    pub range: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
    pub suggestion: Option<String>,
}

impl Issue {
    /// The issue as a problem of the config value at `place`.
    pub fn at(self, place: &Place) -> Problem {
        let mut p = Problem::error(self.id, place.clone().range(self.range), self.message);
        p.hint = self.hint;
        p.suggestion = self.suggestion;
        p
    }
}

/// Why a row could not be evaluated: overflow, division by zero, a value of the wrong type. The row is rejected with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// Stable and kebab-case: `division-by-zero`, `overflow`, `wrong-type`.
    pub reason: &'static str,
    pub message: String,
}

/// Room for values that an evaluation makes; reused from row to row.
#[derive(Default)]
pub struct Scratch {
    pub text: Vec<u8>,
    pub(crate) pool: sql::pool::Pool,
}
