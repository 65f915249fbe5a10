//! Text of other formats than JSON to rows.

use super::json::{Refused, no_text, padded, text_span};
use super::{Format, From, Layout, OnMissing, Parsed, StringToMap, explain, useless};
use millrace_formats::json::Padded;
use millrace_formats::text::{Escapes, Line, Piece, Pieces, TextFormat};
use millrace_sdk as sdk;
use sdk::convert;
use sdk::json::{Number, clean, number, plain_integer, quote};
use sdk::operator::Outputs;
use sdk::problem::did_you_mean;
use sdk::{Batch, BatchBuilder, Demand, Operator, Place, Problem, Record, Reject, Schema, SchemaRef, Slot, Span, Type, Val, Value};

/// The plan that all workers' instances start from.
#[derive(Clone)]
pub struct TextPlan {
    schema: SchemaRef,
    from: Slot,
    /// Each worker has a copy: a regular expression's scratch space is not shared gladly.
    format: TextFormat,
    /// The output's fields, and behind them those that are only checked.
    columns: Vec<Column>,
    nulls: Vec<String>,
    required: bool,
}

#[derive(Clone)]
enum Column {
    /// `index` of [`Pieces::values`].
    Piece {
        index: usize,
        ty: Type,
        name: Box<str>,
    },
    Kept(Slot),
    /// All pairs as a JSON object.
    Tail,
}

impl TextPlan {
    pub fn new(
        c: &StringToMap,
        declared: &[(String, Type)],
        input: &Schema,
        from: Slot,
        wanted: &Demand,
    ) -> Result<(Layout, TextPlan), Vec<Problem>> {
        check_keys(c, declared)?;
        let names = || declared.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        let or = |key: &Option<String>, default: &str| key.clone().unwrap_or(default.into());
        let pattern = or(&c.pattern, "");
        let mut format = match c.format {
            Format::Delimiter => TextFormat::delimiter(&or(&c.delimiter, "\t"), c.quote.as_deref(), names()),
            Format::Csv => TextFormat::csv(&or(&c.delimiter, ","), &or(&c.quote, "\""), names()),
            Format::Dissect => TextFormat::dissect(&pattern),
            Format::Regex => TextFormat::regex(&pattern),
            Format::Grok => TextFormat::grok(&pattern, &c.patterns),
            Format::KeyValue => TextFormat::key_value(&or(&c.pair_separator, " "), &or(&c.key_separator, "="), names()),
            Format::Json | Format::QueryString => {
                TextFormat::query_string(&or(&c.pair_separator, "&"), &or(&c.key_separator, "="), names())
            }
        }
        .map_err(explain)?;
        // A pattern names the fields; what is declared of them gives types.
        let typed: Vec<(String, Type)> = format
            .fields()
            .iter()
            .map(|f| {
                let own = declared.iter().find(|(n, _)| *n == f.name).map(|(_, t)| *t);
                (f.name.clone(), own.or(f.ty).unwrap_or(Type::String))
            })
            .collect();
        let strange = declared.iter().filter(|(n, _)| !typed.iter().any(|(t, _)| t == n)).map(|(n, _)| {
            Problem::error("unknown-field", Place::at(["fields", n]).key(), format!("the pattern has no field `{n}`"))
                .suggest(did_you_mean(n, typed.iter().map(|(t, _)| t.as_str())))
        });
        let strange: Vec<_> = strange.collect();
        if !strange.is_empty() {
            return Err(strange);
        }
        let open = matches!(c.format, Format::KeyValue | Format::QueryString) && declared.is_empty();
        let layout = Layout::new(input, from, if open { Parsed::Open } else { Parsed::Closed(&typed) }, wanted)?;
        if open {
            let names = layout.schema.fields().iter().zip(&layout.from).filter(|(_, f)| matches!(f, From::Parsed(_)));
            format.look_for(names.map(|(f, _)| f.name.to_string()).collect(), layout.from.contains(&From::Tail));
        }
        let piece = |name: &str, ty: Type| Column::Piece {
            index: format.fields().iter().position(|f| f.name == name).unwrap_or(usize::MAX),
            ty,
            name: name.into(),
        };
        let output = layout.schema.fields().iter().zip(&layout.from).map(|(f, from)| match from {
            From::Parsed(ty) => piece(&f.name, *ty),
            From::Kept(slot) => Column::Kept(*slot),
            From::Tail => Column::Tail,
        });
        let columns = output.chain(layout.checked.iter().map(|(name, ty)| piece(name, *ty))).collect();
        let plan = TextPlan {
            schema: layout.schema.clone(),
            from,
            columns,
            format,
            nulls: c.null_values.as_slice().to_vec(),
            required: c.on_missing == Some(OnMissing::Reject),
        };
        Ok((layout, plan))
    }

    pub fn operator(&self) -> TextToMap {
        TextToMap {
            plan: self.clone(),
            pieces: Pieces::default(),
            escapes: Escapes::default(),
            row: vec![Value::Missing; self.columns.len()],
        }
    }
}

/// Keys that the format needs, and keys that mean nothing to it.
fn check_keys(c: &StringToMap, declared: &[(String, Type)]) -> Result<(), Vec<Problem>> {
    let name = c.format.name();
    let columns = matches!(c.format, Format::Delimiter | Format::Csv);
    let pairs = matches!(c.format, Format::KeyValue | Format::QueryString);
    let patterned = matches!(c.format, Format::Dissect | Format::Regex | Format::Grok);
    let needs = |key: &'static str, hint: &'static str| {
        Err(vec![Problem::error("missing-key", Place::default(), format!("format `{name}` needs `{key}`")).hint(hint)])
    };
    useless(
        &[
            ("delimiter", c.delimiter.is_some() && !columns),
            ("quote", c.quote.is_some() && !columns),
            ("pattern", c.pattern.is_some() && !patterned),
            ("patterns", !c.patterns.is_empty() && c.format != Format::Grok),
            ("pair_separator", c.pair_separator.is_some() && !pairs),
            ("key_separator", c.key_separator.is_some() && !pairs),
            ("strict", c.strict),
        ],
        name,
    )?;
    if columns && declared.is_empty() {
        return needs("fields", "name all columns in their order: `fields: {uid: string, ts: bigint}`");
    }
    if c.format == Format::Delimiter && c.delimiter.is_none() {
        return needs("delimiter", "for example `delimiter: \"\\t\"`");
    }
    if patterned && c.pattern.is_none() {
        return needs("pattern", "say what the text looks like");
    }
    Ok(())
}

pub struct TextToMap {
    plan: TextPlan,
    pieces: Pieces,
    escapes: Escapes,
    /// The row being made.
    row: Vec<Value>,
}

impl Operator for TextToMap {
    fn process(&mut self, mut batch: Batch, out: &mut Outputs) {
        batch.pad();
        let mut rows = BatchBuilder::over(&batch, self.plan.schema.clone());
        let text = padded(&batch, self.plan.from);
        self.escapes.look(text.text(), self.plan.format.apart());
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

impl TextToMap {
    #[inline]
    fn row(&mut self, text: Padded<'_>, span: Span, input: &Record<'_>, out: &mut BatchBuilder) -> Result<(), Refused> {
        let line = Line::within(text, span, self.escapes.is_ascii())
            .map_err(|at| ("invalid-utf8", format!("invalid UTF-8 at byte {}", at + 1)))?;
        self.plan.format.split(line, &mut self.pieces).map_err(|e| (e.reason, e.message))?;
        if !self.keep(line, span.off, input) {
            return self.row_with_new_text(line.str(), input, out);
        }
        // SAFETY: what `keep` takes of the line lies in it, between two of its characters, and the line is UTF-8 in the text of the batch
        // that the builder was made over; all else is a value of the input row, or has no text.
        unsafe { out.keep_parsed(&self.row[..self.plan.schema.width()]) };
        out.end_row(*input.meta());
        Ok(())
    }

    /// Fills the row with values that need no text of their own; false if there is one that has to be decoded, converted or refused.
    #[inline]
    fn keep(&mut self, line: Line<'_>, off: u32, input: &Record<'_>) -> bool {
        let (plan, pieces) = (&self.plan, &self.pieces.values[..]);
        let text = line.str();
        let clean = !self.escapes.any(off as usize, off as usize + text.len());
        let ascii = line.is_ascii();
        for (value, column) in self.row.iter_mut().zip(&plan.columns) {
            let (index, ty) = match column {
                Column::Piece { index, ty, .. } => (*index, *ty),
                Column::Kept(slot) => {
                    *value = input.raw(*slot);
                    continue;
                }
                Column::Tail => return false,
            };
            let (start, end) = match pieces.get(index) {
                Some(Piece::Here { start, end }) => (*start, *end),
                Some(Piece::Fresh { .. }) => return false,
                _ if plan.required => return false,
                _ => {
                    *value = Value::Missing;
                    continue;
                }
            };
            let (from, to) = (start as usize, end as usize);
            let inside = from <= to && to <= text.len() && (ascii || (text.is_char_boundary(from) && text.is_char_boundary(to)));
            if !inside {
                return false;
            }
            let (span, bytes) = (Span { off: off + start, len: end - start }, &text.as_bytes()[from..to]);
            *value = match ty {
                _ if !plan.nulls.is_empty() && plan.nulls.iter().any(|n| n.as_bytes() == bytes) => Value::Null,
                Type::String | Type::Any if clean || !self.escapes.any(span.off as usize, (span.off + span.len) as usize) => {
                    Value::Str(span)
                }
                Type::String | Type::Any => Value::Text(span),
                Type::Bigint if plain_integer(bytes) => Value::Num(span),
                Type::Double if number(bytes) != Number::Bad => Value::Num(span),
                _ => return false,
            };
        }
        true
    }

    /// Rows in which something has been decoded or must be converted.
    fn row_with_new_text(&mut self, line: &str, input: &Record<'_>, out: &mut BatchBuilder) -> Result<(), Refused> {
        let (plan, pieces) = (&self.plan, &self.pieces);
        let width = plan.schema.width();
        for column in &plan.columns {
            match column {
                Column::Kept(slot) => out.keep(input, *slot),
                Column::Tail => tail(line, pieces, out),
                Column::Piece { index, ty, name } => {
                    let piece = pieces.values.get(*index).copied().unwrap_or(Piece::Missing);
                    let Some(text) = pieces.text(piece, line) else {
                        if plan.required {
                            return Err(("missing-field", format!("field `{name}` is missing")));
                        }
                        out.push_missing();
                        continue;
                    };
                    let here = matches!(piece, Piece::Here { .. });
                    match (ty, here) {
                        _ if !plan.nulls.is_empty() && plan.nulls.iter().any(|n| n == text) => out.push_null(),
                        (Type::String | Type::Any, true) => out.keep_str(input, text, clean(text.as_bytes())),
                        (Type::Bigint, true) if plain_integer(text.as_bytes()) => out.keep_val(input, Val::Num(text)),
                        (Type::Double, true) if number(text.as_bytes()) != Number::Bad => out.keep_val(input, Val::Num(text)),
                        _ => convert::push(Val::Str(text), *ty, out).map_err(|e| ("wrong-type", format!("field `{name}`: {e}")))?,
                    }
                }
            }
            if out.pending() > width {
                out.truncate_fields(width);
            }
        }
        out.end_row(*input.meta());
        Ok(())
    }
}

/// All pairs as an object; of equal keys all are written, and the last one counts.
fn tail(line: &str, pieces: &Pieces, out: &mut BatchBuilder) {
    let begun = out.begin_text();
    let json = out.text_mut();
    json.push(b'{');
    for (i, (key, value)) in pieces.pairs.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        quote(pieces.text(*key, line).unwrap_or("").as_bytes(), json);
        json.push(b':');
        quote(pieces.text(*value, line).unwrap_or("").as_bytes(), json);
    }
    json.push(b'}');
    out.end_json(begun);
}
