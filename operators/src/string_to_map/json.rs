//! JSON objects to rows.

use super::{From, Layout};
use crate::fit::{Fit, fit};
use millrace_formats::json::{Expect, JsonError, Padded, RowParser};
use millrace_sdk as sdk;
use sdk::convert::{self, ConvertError};
use sdk::operator::Outputs;
use sdk::{Batch, BatchBuilder, Operator, Record, Reject, Schema, SchemaRef, Slot, Span, Type, Val, Value};

/// The plan that all workers' instances start from.
#[derive(Clone)]
pub struct JsonPlan {
    schema: SchemaRef,
    from: Slot,
    parser: RowParser,
    /// Output slots that take an input field.
    kept: Vec<(usize, Slot)>,
    /// The output slot of the object itself.
    tail: Option<usize>,
    checks: Vec<Check>,
    /// The parser's bits of all checks.
    all: u64,
    /// There are checks without a bit.
    more: bool,
    /// Slots behind the output's: fields that are only checked.
    extra: usize,
    strict: bool,
    required: bool,
}

/// A declared field.
#[derive(Clone)]
struct Check {
    slot: usize,
    name: Box<str>,
    ty: Type,
    /// The parser's bit that says that the field is there and of its type; 0: it says nothing.
    bit: u64,
}

/// What the parser can tell of a field that is as it should be.
fn expected(ty: Type) -> Option<Expect> {
    match ty {
        Type::Any | Type::Json => Some(Expect::Any),
        Type::String => Some(Expect::Text),
        Type::Bigint => Some(Expect::Integer),
        Type::Double => Some(Expect::Real),
        _ => None,
    }
}

impl JsonPlan {
    pub fn new(layout: &Layout, from: Slot, strict: bool, required: bool) -> JsonPlan {
        let schema = layout.schema.clone();
        let (mut kept, mut tail, mut checks, mut paths) = (vec![], None, vec![], vec![]);
        for (slot, (field, from)) in schema.fields().iter().zip(&layout.from).enumerate() {
            match from {
                From::Kept(input) => kept.push((slot, *input)),
                From::Tail => tail = Some(slot),
                From::Parsed(ty) => {
                    paths.push((field.name.split('.').collect(), slot));
                    if *ty != Type::Any || required {
                        checks.push(Check { slot, name: field.name.clone(), ty: *ty, bit: 0 });
                    }
                }
            }
        }
        for (i, (name, ty)) in layout.checked.iter().enumerate() {
            let slot = schema.width() + i;
            paths.push((name.split('.').collect(), slot));
            checks.push(Check { slot, name: name.as_str().into(), ty: *ty, bit: 0 });
        }
        let mut parser = RowParser::new(paths);
        for check in &mut checks {
            check.bit = expected(check.ty).map_or(0, |e| parser.expect(check.slot, e));
        }
        let (all, more) = (checks.iter().fold(0, |m, c| m | c.bit), checks.iter().any(|c| c.bit == 0));
        JsonPlan { schema: schema.clone(), from, parser, kept, tail, checks, all, more, extra: layout.checked.len(), strict, required }
    }

    pub fn operator(&self) -> JsonToMap {
        JsonToMap { plan: self.clone(), row: vec![Value::Missing; self.schema.width() + self.extra], convert: vec![], base: 0 }
    }
}

pub struct JsonToMap {
    plan: JsonPlan,
    /// The row being parsed; its texts at or behind `base` are the parser's fresh ones.
    row: Vec<Value>,
    /// Which of `plan.checks` need a conversion in this row.
    convert: Vec<usize>,
    /// Length of the batch's text.
    base: u32,
}

pub type Refused = (&'static str, String);

impl Operator for JsonToMap {
    fn process(&mut self, mut batch: Batch, out: &mut Outputs) {
        batch.pad();
        self.base = batch.text().len() as u32;
        let mut rows = BatchBuilder::over(&batch, self.plan.schema.clone());
        let text = padded(&batch, self.plan.from);
        for row in batch.rows() {
            let done = match text_span(row.raw(self.plan.from)) {
                Some(span) => self.row(text, span, &row, &mut rows),
                None => Err(no_text(&row, self.plan.from, batch.schema())),
            };
            if let Err((reason, message)) = done {
                rows.abandon_row();
                out.reject(Reject::row(reason, message, &row, batch.schema()));
            }
        }
        out.emit(0, batch.replaced_by(rows));
    }
}

/// Where the text is that a parser can read.
#[inline]
pub fn text_span(value: Value) -> Option<Span> {
    match value {
        Value::Bytes(span) | Value::Str(span) | Value::Text(span) | Value::Json(span) => Some(span),
        _ => None,
    }
}

/// Why a field is no text.
#[cold]
pub fn no_text(row: &Record<'_>, from: Slot, schema: &Schema) -> Refused {
    let name = &schema.field(from).name;
    match row.get(from) {
        v if v.is_null() => ("missing-field", format!("field `{name}` is {}", v.kind())),
        v => ("wrong-type", format!("field `{name}` is {}, no text", v.kind())),
    }
}

/// The text of a batch that has been padded.
pub fn padded(batch: &Batch, from: Slot) -> Padded<'_> {
    let wanted: usize = batch.rows().filter_map(|r| text_span(r.raw(from))).map(|s| s.len as usize).sum();
    let most = wanted * 2 >= batch.text().len();
    batch.padded_text().and_then(|t| Padded::new(t, most)).expect("the batch was padded")
}

impl JsonToMap {
    #[inline]
    fn row(&mut self, text: Padded<'_>, span: Span, input: &Record<'_>, out: &mut BatchBuilder) -> Result<(), Refused> {
        let plan = &mut self.plan;
        self.row.fill(Value::Missing);
        let object = plan.parser.parse(text, span, &mut self.row).map_err(|JsonError { reason, message }| (reason, message))?;
        self.convert.clear();
        if plan.more || plan.parser.sure() != plan.all {
            self.check(text, input)?;
        }
        let plan = &self.plan;
        for &(slot, from) in &plan.kept {
            self.row[slot] = input.raw(from);
        }
        if let Some(tail) = plan.tail {
            self.row[tail] = Value::Json(object);
        }
        if self.convert.is_empty() && plan.parser.fresh().is_empty() {
            // SAFETY: nothing was decoded into fresh text, so every value is one that the parser found in the text of this batch, or
            // one of the input row's.
            unsafe { out.keep_parsed(&self.row[..plan.schema.width()]) };
        } else {
            self.row_with_new_text(input, out)?;
        }
        out.end_row(*input.meta());
        Ok(())
    }

    /// Looks at the fields that the parser is not sure of.
    fn check(&mut self, text: Padded<'_>, input: &Record<'_>) -> Result<(), Refused> {
        let plan = &self.plan;
        let sure = plan.parser.sure();
        for (i, check) in plan.checks.iter().enumerate().filter(|(_, c)| c.bit & sure == 0) {
            let value = self.row[check.slot];
            let kind = match value {
                // Containers become no scalars when they are parsed.
                Value::Json(_) if !matches!(check.ty, Type::Map | Type::Array | Type::Json | Type::Any) => Fit::Wrong,
                value => fit(value, check.ty, |s| &text.text()[s.off as usize..][..s.len as usize]),
            };
            match kind {
                Fit::Same if value == Value::Missing && plan.required => {
                    return Err(("missing-field", format!("field `{}` is missing", check.name)));
                }
                Fit::Same => {}
                Fit::Convert if !plan.strict || same_kind(value, check.ty) => self.convert.push(i),
                Fit::Convert | Fit::Wrong => {
                    return Err(wrong(check, convert::refuse(view(value, input, plan.parser.fresh(), self.base), check.ty)));
                }
            }
        }
        Ok(())
    }

    /// Rows in which something has been decoded or must be converted.
    fn row_with_new_text(&self, input: &Record<'_>, out: &mut BatchBuilder) -> Result<(), Refused> {
        let plan = &self.plan;
        let width = plan.schema.width();
        let mut next = self.convert.iter().map(|i| &plan.checks[*i]).peekable();
        for (slot, &raw) in self.row.iter().enumerate() {
            let value = || view(raw, input, plan.parser.fresh(), self.base);
            // Checks are in the order of their slots.
            match next.next_if(|c| c.slot == slot) {
                Some(check) => convert::push(value(), check.ty, out).map_err(|e| wrong(check, e))?,
                None if slot >= width => {}
                None if is_fresh(raw, self.base) => out.push_val(value()),
                // SAFETY: not fresh, so the parser found it in the text of this batch, or it is one of the input row's.
                None => unsafe { out.keep_parsed(&[raw]) },
            }
            if slot >= width {
                out.truncate_fields(width);
            }
        }
        Ok(())
    }
}

#[cold]
fn wrong(check: &Check, e: ConvertError) -> Refused {
    ("wrong-type", format!("field `{}`: {e}", check.name))
}

fn is_fresh(value: Value, base: u32) -> bool {
    matches!(value, Value::Text(s) if s.off >= base)
}

/// A value of the row being parsed.
fn view<'a>(value: Value, input: &Record<'a>, fresh: &'a str, base: u32) -> Val<'a> {
    match value {
        Value::Text(s) if is_fresh(value, base) => Val::Str(&fresh[(s.off - base) as usize..][..s.len as usize]),
        value => input.view(value),
    }
}

/// Whether a strict reader takes a value of this JSON kind for the type; it may still be out of the type's range.
fn same_kind(value: Value, ty: Type) -> bool {
    match value {
        Value::Num(_) => ty.is_number(),
        Value::Str(_) | Value::Text(_) => matches!(ty, Type::Timestamp | Type::Bytes),
        _ => false,
    }
}
