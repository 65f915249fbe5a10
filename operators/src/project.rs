//! Rows made from rows, field by field: what Map and TemplateExtract have in common.

use millrace_expr::{EvalError, Expr, Scratch, Template};
use millrace_sdk::json::plain_integer;
use millrace_sdk::operator::Outputs;
use millrace_sdk::{Access, Batch, BatchBuilder, Columns, Operator, Record, Reject, SchemaRef, Slot, Type, Val, Value, convert};
use std::sync::Arc;

/// How one output field comes about.
pub(crate) enum Step {
    /// An input field as it is.
    Keep(Slot),
    /// A value inside an input field.
    Find(Access),
    Missing,
    Expr(Expr),
    /// An expression's value as another type.
    ExprAs(Expr, Type),
    Template(Template, Option<Type>),
    /// The one value of the batch stands in where the step fails or finds nothing.
    Default(Box<Step>, Batch),
}

/// Makes rows of `schema`, one step a field. A row whose step fails is rejected.
pub(crate) struct Project {
    pub steps: Arc<[Step]>,
    pub schema: SchemaRef,
    room: Room,
}

#[derive(Default)]
struct Room {
    scratch: Scratch,
    text: String,
}

impl Project {
    pub(crate) fn new(steps: Arc<[Step]>, schema: SchemaRef) -> Project {
        Project { steps, schema, room: Room::default() }
    }
}

impl Operator for Project {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let mut columns = Columns::new(&batch, self.schema.clone());
        while columns.advance() {
            for (i, step) in self.steps.iter().enumerate() {
                let to = Slot(i as u16);
                fill(step, &mut columns, to);
                columns.rest(Some(to), |_, row, rows| push(step, row, &mut self.room, rows), |e| (e.reason, e.message));
            }
        }
        let made = columns.finish();
        for f in made.failed() {
            out.reject(Reject::row(f.reason, f.message.clone(), &batch.row(f.row), batch.schema()));
        }
        out.emit(0, batch.remade(made));
    }
}

/// Makes a field of all rows at hand, as far as that goes.
fn fill(step: &Step, columns: &mut Columns<'_>, to: Slot) {
    match step {
        Step::Keep(slot) => columns.keep(to, *slot),
        Step::Missing => {}
        Step::Expr(e) => e.fill(e.ty(), columns, to),
        Step::ExprAs(e, ty) => e.fill(*ty, columns, to),
        Step::Template(t, ty) => t.fill(*ty, columns, to),
        Step::Find(_) | Step::Default(..) => columns.leave(),
    }
}

/// Makes a field of one row.
#[inline]
fn push(step: &Step, row: &Record<'_>, room: &mut Room, rows: &mut BatchBuilder) -> Result<(), EvalError> {
    match step {
        Step::Keep(slot) => rows.keep(row, *slot),
        Step::Find(access) => rows.push_val(row.find(access, &mut room.text)),
        Step::Missing => rows.push_missing(),
        Step::Expr(e) => e.push(row, rows)?,
        Step::ExprAs(e, ty) => {
            let value = e.eval(row, &mut room.scratch)?;
            push_as(value, *ty, row, rows)?;
        }
        Step::Template(t, ty) => t.push(row, *ty, rows)?,
        Step::Default(inner, default) => {
            let before = rows.pending();
            let found = push(inner, row, room, rows).is_ok();
            let nothing = match rows.last() {
                Some(Value::Missing | Value::Null) => true,
                Some(Value::Str(s) | Value::Text(s)) => s.len == 0 && matches!(**inner, Step::Template(..)),
                _ => false,
            };
            if !found || nothing {
                rows.truncate_fields(before);
                rows.push_field(&default.row(0), Slot(0));
            }
        }
    }
    Ok(())
}

/// Appends a value of the row as one of the type. A text that is the number as JSON writes it stays as it is written.
#[inline]
fn push_as(value: Val<'_>, ty: Type, row: &Record<'_>, rows: &mut BatchBuilder) -> Result<(), EvalError> {
    match (value, ty) {
        (Val::Str(t), Type::Bigint) if plain_integer(t.as_bytes()) => rows.keep_val(row, Val::Num(t)),
        _ => convert::push(value, ty, rows).map_err(|e| EvalError { reason: "wrong-type", message: e.0 })?,
    }
    Ok(())
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
