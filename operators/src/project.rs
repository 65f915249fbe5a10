//! Rows made from rows, field by field: what Map and TemplateExtract have in common.

use crate::fit::plain_integer;
use millrace_expr::{EvalError, Expr, Scratch, Template};
use millrace_sdk::operator::Outputs;
use millrace_sdk::{Access, Batch, BatchBuilder, Operator, Record, Reject, SchemaRef, Slot, Type, Val, Value, convert};
use std::sync::Arc;

/// How one output field comes about.
pub(crate) enum Step {
    /// An input field as it is.
    Keep(Slot),
    /// An input field as another type.
    As(Slot, Type),
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
        let mut rows = BatchBuilder::over(&batch, self.schema.clone());
        for row in batch.rows() {
            match self.steps.iter().try_for_each(|s| step(s, &row, &mut self.room, &mut rows)) {
                Ok(()) => rows.end_row(*row.meta()),
                Err(e) => {
                    rows.abandon_row();
                    out.reject(Reject::row(e.reason, e.message, &row, batch.schema()));
                }
            }
        }
        out.emit(0, batch.replaced_by(rows));
    }
}

#[inline]
fn step(step_: &Step, row: &Record<'_>, room: &mut Room, rows: &mut BatchBuilder) -> Result<(), EvalError> {
    match step_ {
        Step::Keep(slot) => rows.keep(row, *slot),
        Step::As(slot, ty) => push_as(row.get(*slot), *ty, row, rows)?,
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
            let found = step(inner, row, room, rows).is_ok();
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
