//! The rows of a batch made anew, one field of all rows at a time.

use super::{Batch, BatchBuilder, text_id};
use crate::pool::Pooled;
use crate::record::Record;
use crate::schema::{SchemaRef, Slot};
use crate::value::{Span, Val, Value};
use std::ops::Range;
use std::sync::Arc;

/// Rows that are filled at a time: so few that their values stay in the processor's first cache from field to field.
pub const AT_ONCE: usize = 128;

/// What a field of one row becomes.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'x> {
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A string.
    Text(&'x str),
    /// A string in which nothing needs a JSON escape.
    Clean(&'x str),
    /// A string in which something may need one.
    Escaped(&'x str),
    /// A number as written: a valid JSON number.
    Num(&'x str),
    /// Clean text in which one ASCII character takes the place of another; neither needs an escape.
    Swapped(&'x str, u8, u8),
    /// Clean text that is a map.
    Split(&'x str, u8, u8),
    /// Nothing for now: [`Columns::rest`] comes to it.
    Later,
}

/// A field as a string.
#[derive(Clone, Copy, Debug)]
pub enum Strings<'a> {
    /// Nothing in it needs a JSON escape.
    Clean(&'a str),
    Text(&'a str),
    /// Null, or missing.
    Null,
    /// Something else.
    Other,
}

/// As many rows as the batch has, in the same order and with the same meta, of another schema. Fields that nobody fills are Missing.
///
/// They are filled some rows at a time: [`advance`](Self::advance), then field after field of those [`rows`](Self::rows).
///
/// Text that lies in the batch's is kept there, all other text is copied.
pub struct Columns<'b> {
    batch: &'b Batch,
    /// The rows at hand.
    at: Range<usize>,
    grid: Pooled<Value>,
    /// Its text is that of the new values; its values are those of the field at hand, one or none.
    one: BatchBuilder,
    later: Vec<u32>,
    failed: Vec<Failed>,
    /// By row, if there is a failed one.
    dead: Vec<bool>,
}

/// A row that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub row: usize,
    pub reason: &'static str,
    pub message: String,
}

/// Rows that are made: see [`Batch::remade`].
pub struct Remade {
    grid: Pooled<Value>,
    one: BatchBuilder,
    failed: Vec<Failed>,
}

impl Remade {
    /// The rows that could not be made, in their order.
    pub fn failed(&self) -> &[Failed] {
        &self.failed
    }
}

impl<'b> Columns<'b> {
    pub fn new(batch: &'b Batch, schema: SchemaRef) -> Columns<'b> {
        let grid = Pooled::with_capacity(batch.len() * schema.width());
        let one = BatchBuilder { text: Pooled::take(), ..BatchBuilder::over(&batch.select(&[]), schema) };
        Columns { batch, at: 0..0, grid, one, later: vec![], failed: vec![], dead: vec![] }
    }

    /// Goes on to the next rows; false: there are none.
    pub fn advance(&mut self) -> bool {
        self.at = self.at.end..self.batch.len().min(self.at.end + AT_ONCE);
        self.grid.resize(self.at.end * self.one.schema.width(), Value::Missing);
        !self.at.is_empty()
    }

    /// The rows at hand.
    pub fn rows(&self) -> Range<usize> {
        self.at.clone()
    }

    pub fn batch(&self) -> &'b Batch {
        self.batch
    }

    /// A field of the batch as it is.
    pub fn keep(&mut self, to: Slot, from: Slot) {
        let (width, to) = (self.one.schema.width(), to.index());
        assert!(to < width, "the schema has the slot");
        let (grid, values) = (&mut self.grid[self.at.start * width..], self.batch.raw_column(from, self.at.clone()));
        grid.chunks_exact_mut(width).zip(values).for_each(|(row, value)| row[to] = value);
    }

    /// A field to be filled, one row after the other.
    #[inline]
    pub fn cells<'x>(&mut self, to: Slot) -> Cells<'_, 'x> {
        let width = self.one.schema.width();
        assert!(to.index() < width, "the schema has the slot");
        Cells {
            grid: &mut self.grid,
            width,
            at: self.at.start * width + to.index(),
            row: self.at.start as u32,
            text: self.batch.text(),
            one: &mut self.one,
            later: &mut self.later,
            recent: Recent::default(),
        }
    }

    /// Fills a field from what `cells` gives for one row after the other.
    #[inline(always)]
    pub fn fill<'x>(&mut self, to: Slot, cells: impl Iterator<Item = Cell<'x>>) {
        let mut all = self.cells(to);
        for cell in cells {
            all.put(cell);
        }
    }

    /// Fills a field with one of a few strings for each row, told by its index; None: [`rest`](Self::rest) comes to it.
    #[inline(always)]
    pub fn choose(&mut self, to: Slot, texts: &[&str], picks: impl Iterator<Item = Option<usize>>) {
        let width = self.one.schema.width();
        assert!(to.index() < width, "the schema has the slot");
        // A text is copied when it is first chosen.
        let mut values: Vec<Option<Value>> = vec![None; texts.len()];
        let cells = self.grid[self.at.start * width..].chunks_exact_mut(width);
        for ((row, cells), pick) in self.at.clone().zip(cells).zip(picks) {
            let Some(i) = pick else {
                self.later.push(row as u32);
                continue;
            };
            cells[to.index()] = *values[i].get_or_insert_with(|| self.one.owned(texts[i]));
        }
    }

    /// Leaves a field to [`rest`](Self::rest).
    pub fn leave(&mut self) {
        self.later.extend(self.at.start as u32..self.at.end as u32);
    }

    /// Fills what was left of a field, or of none that is in the schema: `push` pushes one value, or says why the row fails.
    pub fn rest<E>(
        &mut self,
        to: Option<Slot>,
        mut push: impl FnMut(usize, &Record<'_>, &mut BatchBuilder) -> Result<(), E>,
        why: impl Fn(E) -> (&'static str, String),
    ) {
        let width = self.one.schema.width();
        for row in std::mem::take(&mut self.later) {
            let row = row as usize;
            if self.dead.get(row) == Some(&true) {
                continue;
            }
            self.one.vals.clear();
            match push(row, &self.batch.row(row), &mut self.one) {
                Ok(()) => {
                    let [value] = self.one.vals[..] else { panic!("one value is pushed for a field") };
                    if let Some(to) = to {
                        self.grid[row * width + to.index()] = value;
                    }
                }
                Err(e) => {
                    let (reason, message) = why(e);
                    self.fail(row, reason, message);
                }
            }
        }
        self.one.vals.clear();
    }

    /// The row cannot be made.
    #[cold]
    pub fn fail(&mut self, row: usize, reason: &'static str, message: String) {
        self.dead.resize(self.batch.len(), false);
        self.dead[row] = true;
        self.failed.push(Failed { row, reason, message });
    }

    /// # Panics
    /// If there are rows to which nobody advanced.
    pub fn finish(mut self) -> Remade {
        assert_eq!(self.at.end, self.batch.len(), "all rows are made");
        self.failed.sort_by_key(|f| f.row);
        Remade { grid: self.grid, one: self.one, failed: self.failed }
    }
}

/// One field of the rows at hand.
pub struct Cells<'c, 'x> {
    grid: &'c mut [Value],
    width: usize,
    at: usize,
    row: u32,
    text: &'c [u8],
    one: &'c mut BatchBuilder,
    later: &'c mut Vec<u32>,
    recent: Recent<'x>,
}

impl<'x> Cells<'_, 'x> {
    /// The next row's field.
    ///
    /// # Panics
    /// If there are no more rows.
    #[inline(always)]
    pub fn put(&mut self, cell: Cell<'x>) {
        let at = self.at;
        self.at += self.width;
        self.row += 1;
        self.grid[at] = match cell {
            Cell::Missing => return,
            Cell::Later => return self.later.push(self.row - 1),
            Cell::Null => Value::Null,
            Cell::Bool(b) => Value::Bool(b),
            Cell::Int(i) => Value::Int(i),
            Cell::Float(f) => Value::Float(f),
            Cell::Clean(t) => Value::Str(self.span(t)),
            Cell::Escaped(t) => Value::Text(self.span(t)),
            Cell::Num(t) => Value::Num(self.span(t)),
            Cell::Split(t, pair, key) => Value::Split(self.span(t), pair, key),
            Cell::Swapped(t, from, with) => Value::Str(self.swapped(t, from, with)),
            Cell::Text(t) => match self.inside(t) {
                Some(span) if crate::json::clean(t.as_bytes()) => Value::Str(span),
                Some(span) => Value::Text(span),
                None => self.recent.value(t, self.one),
            },
        };
    }

    /// The next row's field is a string that lies in the batch's text. `clean`: nothing in it needs a JSON escape.
    ///
    /// # Safety
    /// The span lies in the batch's text and is UTF-8 there.
    ///
    /// # Panics
    /// If there are no more rows.
    #[inline(always)]
    pub unsafe fn put_string(&mut self, span: Span, clean: bool) {
        self.grid[self.at] = if clean { Value::Str(span) } else { Value::Text(span) };
        self.at += self.width;
        self.row += 1;
    }

    /// The next row's field is a number as written that lies in the batch's text.
    ///
    /// # Safety
    /// The span lies in the batch's text and is a valid JSON number there.
    ///
    /// # Panics
    /// If there are no more rows.
    #[inline(always)]
    pub unsafe fn put_number(&mut self, span: Span) {
        self.grid[self.at] = Value::Num(span);
        self.at += self.width;
        self.row += 1;
    }

    /// Where the text is in the batch's text, if it is there.
    #[inline(always)]
    fn inside(&self, t: &str) -> Option<Span> {
        let off = t.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        (off <= self.text.len() && t.len() <= self.text.len() - off).then(|| Span { off: off as u32, len: t.len() as u32 })
    }

    /// A copy in which one ASCII character takes the place of another.
    #[inline(always)]
    fn swapped(&mut self, t: &str, from: u8, with: u8) -> Span {
        const STEP: usize = 32;
        let (text, steps) = (self.text, t.len().div_ceil(STEP));
        let Some(all) = self.inside(t).and_then(|span| text.get(span.off as usize..span.off as usize + steps * STEP)) else {
            return self.one.swapped(t, from, with);
        };
        assert!(from.is_ascii() && with.is_ascii(), "what is swapped is ASCII");
        let begun = self.one.text.len();
        // Whole steps are copied, and what lies behind the text is taken back.
        for step in all.as_chunks::<STEP>().0 {
            self.one.text.extend_from_slice(&step.map(|b| if b == from { with } else { b }));
        }
        self.one.text.truncate(begun + t.len());
        self.one.span_from(begun)
    }

    /// Where the text is: in the batch's text, or copied behind it.
    #[inline(always)]
    fn span(&mut self, t: &str) -> Span {
        self.inside(t).unwrap_or_else(|| self.one.copy(t.as_bytes()))
    }
}

/// Texts that were copied last, by their address: what is written in a job lies at one address for all rows.
#[derive(Default)]
struct Recent<'x> {
    texts: [Option<(&'x str, Value)>; 4],
    next: usize,
}

impl<'x> Recent<'x> {
    fn value(&mut self, t: &'x str, one: &mut BatchBuilder) -> Value {
        let known = self.texts.iter().flatten().find(|(text, _)| std::ptr::eq(*text, t));
        if let Some((_, value)) = known {
            return *value;
        }
        let value = one.owned(t);
        self.texts[self.next % 4] = Some((t, value));
        self.next += 1;
        value
    }
}

impl Batch {
    /// The values of a field of some rows.
    #[inline]
    pub(super) fn raw_column(&self, slot: Slot, rows: Range<usize>) -> impl Iterator<Item = Value> {
        let width = self.schema.width();
        assert!(slot.index() < width, "the schema has the slot");
        self.vals[rows.start * width..rows.end * width].chunks_exact(width).map(move |row| row[slot.index()])
    }

    /// The values of a field of some rows.
    #[inline]
    pub fn column(&self, slot: Slot, rows: Range<usize>) -> impl Iterator<Item = Val<'_>> {
        let row = self.anywhere();
        // SAFETY: they are values of this batch.
        self.raw_column(slot, rows).map(move |v| unsafe { row.own(v) })
    }

    /// The strings of a field of some rows.
    #[inline]
    pub fn strings(&self, slot: Slot, rows: Range<usize>) -> impl Iterator<Item = Strings<'_>> {
        let row = self.anywhere();
        self.raw_column(slot, rows).map(move |v| match v {
            // SAFETY: they are values of this batch.
            Value::Str(span) => Strings::Clean(unsafe { row.text(span) }),
            // SAFETY: as above.
            Value::Text(span) => Strings::Text(unsafe { row.text(span) }),
            Value::Missing | Value::Null => Strings::Null,
            _ => Strings::Other,
        })
    }

    /// The rows made of this batch's rows take its place; those that could not be made are gone.
    ///
    /// # Panics
    /// If they were made of another batch's rows, or text was written that is not UTF-8.
    pub fn remade(mut self, rows: Remade) -> Batch {
        let Remade { grid, one, failed } = rows;
        assert_eq!(one.below, self.id, "the rows were made of this batch's");
        assert_eq!(grid.len(), self.len() * one.schema.width(), "a row has as many fields as its schema");
        one.verify_texts(&grid);
        if !one.text.is_empty() {
            Arc::make_mut(&mut self.text).extend_from_slice(&one.text);
            self.id = text_id();
        }
        let mut made = Batch { text: self.text, id: self.id, vals: grid.fitted(), meta: self.meta, schema: one.schema, padded: false };
        if !failed.is_empty() {
            let mut failed = failed.iter().map(|f| f.row).peekable();
            made.retain(|row| failed.next_if_eq(&row).is_none());
        }
        made
    }
}
