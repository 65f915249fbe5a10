//! Handlebars templates over rows.

use crate::{EvalError, Issue};
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Record, Schema, Type};

/// A compiled template over rows of one schema: a compiled program where the template is plain, handlebars itself otherwise.
pub struct Template {}

impl Template {
    /// Names and paths that the template reads; `None` in it: it needs the whole row.
    pub fn fields(text: &str) -> Vec<String> {
        let _ = text;
        todo!("template helper")
    }

    /// # Errors
    /// All issues: syntax, unknown fields and helpers (with suggestions).
    pub fn compile(text: &str, schema: &Schema, env: &Env) -> Result<Template, Vec<Issue>> {
        let _ = (text, schema, env);
        todo!("template helper")
    }

    /// The type of what [`push`](Self::push) gives when no type is asked for: a template that is one expression keeps the type of
    /// its value (`{{ts}}`, `{{split ext "|" "="}}`), any other is a string.
    pub fn ty(&self) -> Type {
        todo!("template helper")
    }

    /// Appends the text for a row.
    pub fn render(&self, row: &Record<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        let _ = (row, out);
        todo!("template helper")
    }

    /// Appends the value as the next field of a row being built, converted to `ty` if one is given. `out` may have been made over
    /// the row's batch, then values are kept without copying.
    pub fn push(&self, row: &Record<'_>, ty: Option<Type>, out: &mut BatchBuilder) -> Result<(), EvalError> {
        let _ = (row, ty, out);
        todo!("template helper")
    }
}
