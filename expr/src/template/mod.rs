//! Handlebars templates over rows.
//!
//! The grammar is handlebars' own: its parsed tree is walked once. A plain template (text, fields, paths, `{{#if}}`, `{{#unless}}`,
//! helpers) becomes a program over slots; one with loops or `{{#with}}`, or that reads the whole row, is run by handlebars itself. Both
//! give the same text. Nothing is HTML-escaped.
//!
//! Where they had to be made one: a path through an array by a name is missing; missing equals null; numbers print canonically
//! (1.10 as `1.1`) except declared decimals, which keep their scale; maps print as `[object]` and arrays as `[a, b]` (write
//! `{{json field}}` for JSON). In a template that handlebars runs, a decimal is text.

mod fallback;
pub mod helpers;
mod parse;
mod program;
mod value;

use crate::{EvalError, Issue};
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Columns, Record, Schema, Slot, Type, Val};

use helpers::Cx;
pub use helpers::{HelperDef, helpers};

/// A compiled template over rows of one schema: a compiled program where the template is plain, handlebars itself otherwise.
pub struct Template {
    kind: Kind,
    cx: Cx,
    ty: Type,
}

enum Kind {
    Program(program::Program),
    Handlebars(Box<fallback::Fallback>),
}

impl Template {
    /// Names and paths that the template reads from the row; empty where it does not parse (compiling says why).
    /// See [`needs_all`](Self::needs_all).
    pub fn fields(text: &str) -> Vec<String> {
        parse::reads(text).map(|r| r.names).unwrap_or_default()
    }

    /// Whether the template reads the whole row, fields that it does not name too: `{{json this}}`, `{{#each this}}`.
    pub fn needs_all(text: &str) -> bool {
        parse::reads(text).is_ok_and(|r| r.all)
    }

    /// # Errors
    /// All issues: syntax, unknown fields and helpers (with suggestions), wrong numbers of arguments, literals that a helper
    /// cannot take.
    pub fn compile(text: &str, schema: &Schema, env: &Env) -> Result<Template, Vec<Issue>> {
        let cx = Cx::new(env);
        let (parsed, reads, node) = parse::compile(text, schema, env.reached.as_ref())?;
        Ok(match node {
            Some(node) => Template { ty: node.ty(schema), kind: Kind::Program(program::Program::new(node)), cx },
            None => {
                Template { kind: Kind::Handlebars(Box::new(fallback::Fallback::new(parsed, reads, schema, &cx))), cx, ty: Type::String }
            }
        })
    }

    /// The type of what [`push`](Self::push) gives when no type is asked for: a template that is one expression keeps the type of
    /// its value (`{{ts}}`, `{{split ext "|" "="}}`), any other is a string.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// The slot, if the template is nothing but a field: who rewrites a batch can keep its value.
    pub fn slot(&self) -> Option<Slot> {
        match &self.kind {
            Kind::Program(program) => program.slot(),
            Kind::Handlebars(_) => None,
        }
    }

    /// Appends the text for a row. After an error `out` is as it was.
    ///
    /// # Errors
    /// What a helper cannot do with the row's values.
    pub fn render(&self, row: &Record<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        let begun = out.len();
        let done = match &self.kind {
            Kind::Program(program) => program.write(row, &self.cx, out),
            Kind::Handlebars(f) => f.render(row, out),
        };
        if done.is_err() {
            out.truncate(begun);
        }
        done
    }

    /// Appends the text for a row as the key of something: false, and `out` as it was, where the row has no key, as the value of a
    /// part of it is null or missing. Of a template that handlebars runs only the whole is looked at: it must not be empty.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_key(&self, row: &Record<'_>, out: &mut Vec<u8>) -> Result<bool, EvalError> {
        let begun = out.len();
        let done = match &self.kind {
            Kind::Program(program) => program.write_key(row, &self.cx, out),
            Kind::Handlebars(f) => f.render(row, out).map(|()| out.len() > begun),
        };
        if done != Ok(true) {
            out.truncate(begun);
        }
        done
    }

    /// Fills a field of all rows of a batch with the values, converted to `ty` if one is given, where that takes no look at single rows:
    /// the others are left to [`push`](Self::push).
    pub fn fill(&self, ty: Option<Type>, columns: &mut Columns<'_>, to: Slot) {
        match &self.kind {
            Kind::Program(program) => program.fill(ty, columns, to),
            Kind::Handlebars(_) => columns.leave(),
        }
    }

    /// Appends the value as the next field of a row being built, converted to `ty` if one is given. `out` is new, or was made over
    /// the row's own batch: then values are kept without copying.
    ///
    /// # Errors
    /// What a helper cannot do with the row's values, and `wrong-type` for a value that does not convert. No field is pushed then.
    pub fn push(&self, row: &Record<'_>, ty: Option<Type>, out: &mut BatchBuilder) -> Result<(), EvalError> {
        match &self.kind {
            Kind::Program(program) => program.push(row, &self.cx, ty, out),
            Kind::Handlebars(f) => {
                let mut text = Vec::new();
                f.render(row, &mut text)?;
                program::convert(Val::Str(&String::from_utf8(text).unwrap_or_default()), ty, out)
            }
        }
    }
}

#[cfg(test)]
mod tests;
