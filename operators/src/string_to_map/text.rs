//! Text of other formats than JSON to rows.

use super::json::{Refused, no_text, padded, text_span};
use super::{Format, From, Layout, OnMissing, Parsed, StringToMap, explain, useless};
use millrace_formats::json::Padded;
use millrace_formats::text::{Escapes, Line, Piece, Pieces, TextFormat};
use millrace_sdk as sdk;
use sdk::batch::Cells;
use sdk::convert;
use sdk::json::{clean, plain_integer, plain_number, quote};
use sdk::operator::Outputs;
use sdk::problem::did_you_mean;
use sdk::{Batch, BatchBuilder, Cell, Columns, Demand, Operator, Place, Problem, Record, Reject, Schema, SchemaRef, Slot, Span, Type, Val};
use std::ops::Range;

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
        let between = self.format.escapes_between();
        TextToMap { plan: self.clone(), pieces: Pieces::default(), escapes: Escapes::default(), between, all: vec![] }
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
    /// Characters that need an escape which every line has between its pieces.
    between: usize,
    /// The pieces of all lines at hand, as many a row as the format has fields.
    all: Vec<Piece>,
}

impl Operator for TextToMap {
    fn process(&mut self, mut batch: Batch, out: &mut Outputs) {
        batch.pad();
        if self.plan.format.is_plain() && !self.plan.columns.iter().any(|c| matches!(c, Column::Tail)) {
            return self.columns(batch, out);
        }
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

/// A line that has been split.
#[derive(Clone, Copy, Default)]
struct Split<'a> {
    text: &'a str,
    off: usize,
    /// No piece of it needs a JSON escape.
    clean: bool,
    ascii: bool,
}

impl Split<'_> {
    /// Where a piece lies in the batch's text, if it is one of the line that begins and ends between characters.
    #[inline(always)]
    fn span(&self, piece: Piece, text: &[u8]) -> Option<Span> {
        let Piece::Here { start, end } = piece else { return None };
        let between = |at: u32| text.get(self.off + at as usize).is_some_and(|c| *c as i8 >= -0x40);
        let inside = start <= end && end as usize <= self.text.len() && (self.ascii || (between(start) && between(end)));
        inside.then(|| Span { off: self.off as u32 + start, len: end - start })
    }
}

impl TextToMap {
    /// Some rows at a time: first all lines are split, then each field is made of all of them at once.
    fn columns(&mut self, batch: Batch, out: &mut Outputs) {
        let fields = self.plan.format.fields().len();
        let text = padded(&batch, self.plan.from);
        self.escapes.look(text.text(), self.plan.format.apart());
        let mut columns = Columns::new(&batch, self.plan.schema.clone());
        let mut lines = Vec::new();
        while columns.advance() {
            let rows = columns.rows();
            lines.clear();
            self.all.clear();
            self.all.resize(rows.len() * fields, Piece::Missing);
            for (i, at) in rows.clone().enumerate() {
                let row = batch.row(at);
                let split = match text_span(row.raw(self.plan.from)) {
                    Some(span) => self.split(text, span, i * fields..(i + 1) * fields),
                    None => Err(no_text(&row, self.plan.from, batch.schema())),
                };
                lines.push(split.unwrap_or_else(|(reason, message)| {
                    columns.fail(at, reason, message);
                    Split::default()
                }));
            }
            for (i, column) in self.plan.columns.iter().enumerate() {
                let to = (i < self.plan.schema.width()).then_some(Slot(i as u16));
                match (column, to) {
                    (Column::Piece { index, ty, .. }, _) => self.column(*index, *ty, &lines, &mut columns, to),
                    (Column::Kept(from), Some(to)) => columns.keep(to, *from),
                    _ => {}
                }
                let rest = |row: usize, input: &Record<'_>, out: &mut BatchBuilder| {
                    let Column::Piece { index, ty, name } = column else { return Ok(()) };
                    let i = row - rows.start;
                    let piece = self.all[i * fields..][..fields].get(*index).copied().unwrap_or(Piece::Missing);
                    self.plan.field(piece, *ty, name, lines[i].text, &self.pieces, input, out)
                };
                columns.rest(to, rest, |e| e);
            }
        }
        let made = columns.finish();
        for f in made.failed() {
            out.reject(Reject::row(f.reason, f.message.clone(), &batch.row(f.row), batch.schema()));
        }
        out.emit(0, batch.remade(made));
    }

    #[inline]
    fn split<'a>(&mut self, text: Padded<'a>, span: Span, pieces: Range<usize>) -> Result<Split<'a>, Refused> {
        let line = Line::within(text, span, self.escapes.is_ascii())
            .map_err(|at| ("invalid-utf8", format!("invalid UTF-8 at byte {}", at + 1)))?;
        self.plan.format.split_plain(line, &mut self.all[pieces], &mut self.pieces).map_err(|e| (e.reason, e.message))?;
        let (text, off) = (line.str(), span.off as usize);
        // All that needs an escape lies between the pieces.
        let clean = self.escapes.count(off, off + text.len()) == self.between;
        Ok(Split { text, off, clean, ascii: line.is_ascii() })
    }

    /// Fills a field with the pieces that can be kept as they lie.
    fn column(&self, index: usize, ty: Type, lines: &[Split<'_>], columns: &mut Columns<'_>, to: Option<Slot>) {
        let fields = self.plan.format.fields().len();
        let Some(to) = to.filter(|_| index < fields) else {
            // Nobody reads it: any text will do, all else is looked at.
            let any = matches!(ty, Type::String | Type::Any) && !self.plan.required;
            if !any {
                columns.leave();
            }
            return;
        };
        match ty {
            Type::String | Type::Any => self.strings(index, columns.batch().text(), lines, columns.cells(to)),
            Type::Bigint => self.numbers(index, columns.batch().text(), lines, columns.cells(to), plain_integer),
            Type::Double => self.numbers(index, columns.batch().text(), lines, columns.cells(to), plain_number),
            _ => columns.leave(),
        }
    }

    // Not inlined: its loop needs the registers.
    #[inline(never)]
    fn strings<'a>(&self, index: usize, text: &[u8], lines: &[Split<'a>], mut cells: Cells<'_, 'a>) {
        let (any, fields) = (self.plan.nulls.is_empty(), self.plan.format.fields().len());
        assert!(index < fields, "the format has the field");
        for (line, pieces) in lines.iter().zip(self.all.chunks_exact(fields)) {
            let piece = pieces[index];
            if any && let Some(span) = line.span(piece, text) {
                let clean = line.clean || !self.escapes.any(span.off as usize, (span.off + span.len) as usize);
                // SAFETY: it lies in the line, between two characters of it, and the line is UTF-8.
                unsafe { cells.put_string(span, clean) };
                continue;
            }
            cells.put(match self.kept(line, piece) {
                Ok(_) => Cell::Later,
                Err(cell) => cell,
            });
        }
    }

    // Not inlined: its loop needs the registers.
    #[inline(never)]
    fn numbers<'a>(&self, index: usize, text: &[u8], lines: &[Split<'a>], mut cells: Cells<'_, 'a>, is_one: impl Fn(&[u8]) -> bool) {
        let (any, fields) = (self.plan.nulls.is_empty(), self.plan.format.fields().len());
        assert!(index < fields, "the format has the field");
        for (line, pieces) in lines.iter().zip(self.all.chunks_exact(fields)) {
            let piece = pieces[index];
            if any
                && let Some(span) = line.span(piece, text)
                && is_one(&text[span.off as usize..][..span.len as usize])
            {
                // SAFETY: it lies in the line, and it is a number.
                unsafe { cells.put_number(span) };
                continue;
            }
            cells.put(match self.kept(line, piece) {
                Ok(_) => Cell::Later,
                Err(cell) => cell,
            });
        }
    }

    /// A piece's text, or what else becomes of it.
    #[inline(always)]
    fn kept<'a>(&self, line: &Split<'a>, piece: Piece) -> Result<&'a str, Cell<'a>> {
        match piece {
            Piece::Here { start, end } => match line.text.get(start as usize..end as usize) {
                Some(t) if self.plan.nulls.iter().any(|n| n == t) => Err(Cell::Null),
                Some(t) => Ok(t),
                None => Err(Cell::Later),
            },
            _ if self.plan.required => Err(Cell::Later),
            _ => Err(Cell::Missing),
        }
    }

    fn row(&mut self, text: Padded<'_>, span: Span, input: &Record<'_>, out: &mut BatchBuilder) -> Result<(), Refused> {
        let line = text.str(span).map_err(|at| ("invalid-utf8", format!("invalid UTF-8 at byte {}", at + 1)))?;
        self.plan.format.split(line.into(), &mut self.pieces).map_err(|e| (e.reason, e.message))?;
        let (plan, pieces) = (&self.plan, &self.pieces);
        let width = plan.schema.width();
        for column in &plan.columns {
            match column {
                Column::Kept(slot) => out.keep(input, *slot),
                Column::Tail => tail(line, pieces, out),
                Column::Piece { index, ty, name } => {
                    let piece = pieces.values.get(*index).copied().unwrap_or(Piece::Missing);
                    plan.field(piece, *ty, name, line, pieces, input, out)?;
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

impl TextPlan {
    /// One field of one row.
    #[allow(clippy::too_many_arguments)]
    fn field(
        &self,
        piece: Piece,
        ty: Type,
        name: &str,
        line: &str,
        pieces: &Pieces,
        input: &Record<'_>,
        out: &mut BatchBuilder,
    ) -> Result<(), Refused> {
        let Some(text) = pieces.text(piece, line) else {
            if self.required {
                return Err(("missing-field", format!("field `{name}` is missing")));
            }
            out.push_missing();
            return Ok(());
        };
        let here = matches!(piece, Piece::Here { .. });
        match (ty, here) {
            _ if !self.nulls.is_empty() && self.nulls.iter().any(|n| n == text) => out.push_null(),
            (Type::String | Type::Any, true) => out.keep_str(input, text, clean(text.as_bytes())),
            (Type::Bigint, true) if plain_integer(text.as_bytes()) => out.keep_val(input, Val::Num(text)),
            (Type::Double, true) if plain_number(text.as_bytes()) => out.keep_val(input, Val::Num(text)),
            _ => convert::push(Val::Str(text), ty, out).map_err(|e| ("wrong-type", format!("field `{name}`: {e}")))?,
        }
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
