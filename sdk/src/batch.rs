//! Rows in a batch: one text arena and a matrix of values.

use crate::pool::Pooled;
use crate::record::{Meta, NO_META, Record};
use crate::schema::{SchemaRef, Slot};
use crate::value::{Span, Val, Value};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

mod columns;
mod wire;

pub use columns::{AT_ONCE, Cell, Cells, Columns, Failed, Remade, Strings};

/// Readable, zeroed bytes behind the text after [`Batch::pad`], for parsers that load wide.
pub const PAD: usize = 64;
/// A builder says it is full at this many rows …
pub const MAX_ROWS: usize = 1024;
/// … or at this many bytes of text.
pub const MAX_BYTES: usize = 1 << 20;

/// A number for a text, never given twice in a process.
fn text_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

/// Rows of one schema. Cloning shares the text and copies values (16 bytes a field) and meta (40 bytes a row).
///
/// Invariant: every value's span lies inside the text, and textual ones are UTF-8 there. No safe call can break it: see
/// [`BatchBuilder`].
pub struct Batch {
    text: Arc<Pooled<u8>>,
    /// Batches of equal id have the same text at the same address.
    id: u64,
    vals: Pooled<Value>,
    meta: Pooled<Meta>,
    schema: SchemaRef,
    /// [`PAD`] bytes of the text's spare capacity are zero.
    padded: bool,
}

impl Batch {
    pub fn empty(schema: SchemaRef) -> Batch {
        Batch { text: Arc::default(), id: text_id(), vals: Pooled::default(), meta: Pooled::default(), schema, padded: false }
    }

    /// Number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    #[inline]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes that this batch keeps in memory.
    pub fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&self.vals[..]) + size_of_val(&self.meta[..])
    }

    /// The text arena.
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    #[inline]
    pub fn row(&self, i: usize) -> Record<'_> {
        let w = self.schema.width();
        // SAFETY: builders keep every span inside the text and textual spans UTF-8.
        unsafe { Record::new(&self.text, &self.vals[i * w..][..w], &self.meta[i]) }
    }

    /// A record of this text without values.
    #[inline]
    fn anywhere(&self) -> Record<'_> {
        // SAFETY: it has no spans.
        unsafe { Record::new(&self.text, &[], &NO_META) }
    }

    #[inline]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    #[inline]
    pub fn metas(&self) -> &[Meta] {
        &self.meta
    }

    #[inline]
    pub fn metas_mut(&mut self) -> &mut [Meta] {
        &mut self.meta
    }

    /// Makes [`PAD`] bytes behind the text readable and zero. Copies the text if another batch shares it.
    pub fn pad(&mut self) {
        let before = self.text.as_ptr();
        let text = Arc::make_mut(&mut self.text);
        text.reserve(PAD);
        for b in &mut text.spare_capacity_mut()[..PAD] {
            b.write(0);
        }
        if text.as_ptr() != before {
            self.id = text_id();
        }
        self.padded = true;
    }

    /// The text and [`PAD`] zero bytes behind it; None unless [`pad`](Self::pad) was called on this very batch.
    #[inline]
    pub fn padded_text(&self) -> Option<&[u8]> {
        // SAFETY: while `padded` is true nobody has touched the text since `pad` reserved and zeroed PAD bytes behind it: only
        // `pad` and `replaced_by` change it, clones start unpadded, and the Vec is never handed out.
        self.padded.then(|| unsafe { std::slice::from_raw_parts(self.text.as_ptr(), self.text.len() + PAD) })
    }

    /// Keeps the rows for which `keep` is true, in order. The text stays; see [`Batch::compact`].
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let (w, rows) = (self.schema.width(), self.len());
        let (mut to, mut from) = (0, 0);
        // Neighbours move together.
        for row in 0..=rows {
            if row < rows && keep(row) {
                continue;
            }
            if to != from {
                self.vals.copy_within(from * w..row * w, to * w);
                self.meta.copy_within(from..row, to);
            }
            to += row - from;
            from = row + 1;
        }
        self.vals.truncate(to * w);
        self.meta.truncate(to);
    }

    /// The rows at the given indexes, sharing the text.
    pub fn select(&self, rows: &[u32]) -> Batch {
        let w = self.schema.width();
        let mut vals = Pooled::with_capacity(rows.len() * w);
        for &r in rows {
            vals.extend_from_slice(&self.vals[r as usize * w..][..w]);
        }
        let mut meta = Pooled::with_capacity(rows.len());
        meta.extend(rows.iter().map(|&r| self.meta[r as usize]));
        Batch { text: self.text.clone(), id: self.id, vals, meta, schema: self.schema.clone(), padded: false }
    }

    /// Copies the rows into a text of their own when less than a quarter of the present text is theirs. Original bytes of rows
    /// are theirs too, and stay.
    pub fn compact(self) -> Batch {
        if self.text.len() < 4096 || self.live_bytes() * 4 >= self.text.len() {
            return self;
        }
        let mut out = BatchBuilder::new(self.schema.clone());
        for row in self.rows() {
            out.push_record(&row);
            let mut meta = *row.meta();
            if let Some(bytes) = row.original() {
                meta.raw = out.copy(bytes);
            }
            out.end_source_row(meta);
        }
        out.finish()
    }

    /// Bytes of text that the rows need; a value that lies inside its row's original bytes is not counted twice.
    fn live_bytes(&self) -> usize {
        let w = self.schema.width();
        let mut live = 0;
        for (i, meta) in self.meta.iter().enumerate() {
            let raw = meta.raw;
            live += raw.len as usize;
            for span in self.vals[i * w..][..w].iter().filter_map(span_of) {
                if span.off < raw.off || span.off + span.len > raw.off + raw.len {
                    live += span.len as usize;
                }
            }
        }
        live
    }

    /// The same rows under another schema of the same width: a change of names costs nothing.
    pub fn with_schema(mut self, schema: SchemaRef) -> Batch {
        assert_eq!(schema.width(), self.schema.width(), "a renamed batch keeps its width");
        self.schema = schema;
        self
    }

    /// The rows that a builder made [`over`](BatchBuilder::over) this batch take this batch's place.
    ///
    /// # Panics
    /// If the builder was made over another batch, or breaks a promise of [`BatchBuilder::text_mut`].
    pub fn replaced_by(mut self, rows: BatchBuilder) -> Batch {
        assert_eq!(rows.below, self.id, "the builder was made over this batch");
        rows.verify();
        if !rows.text.is_empty() {
            Arc::make_mut(&mut self.text).extend_from_slice(&rows.text);
            self.id = text_id();
        }
        let (vals, meta) = (rows.vals.fitted(), rows.meta.fitted());
        Batch { text: self.text, id: self.id, vals, meta, schema: rows.schema, padded: false }
    }
}

impl Clone for Batch {
    /// The clone is not padded: another owner of the text may append to it.
    fn clone(&self) -> Batch {
        let (text, vals, meta) = (self.text.clone(), self.vals.clone(), self.meta.clone());
        Batch { text, id: self.id, vals, meta, schema: self.schema.clone(), padded: false }
    }
}

#[inline]
fn span_of(v: &Value) -> Option<Span> {
    match *v {
        Value::Bytes(s) => Some(s),
        _ => textual(v),
    }
}

/// Where the value's UTF-8 text is.
#[inline]
fn textual(v: &Value) -> Option<Span> {
    match *v {
        Value::Num(s) | Value::Str(s) | Value::Text(s) | Value::Json(s) | Value::Split(s, ..) => Some(s),
        _ => None,
    }
}

/// Builds rows field by field, in schema order; [`end_row`](Self::end_row) completes one.
///
/// Made with [`new`](Self::new) it copies all text it is given. Made with [`over`](Self::over) a batch it
/// [`keep`](Self::keep)s that batch's values without copying, and becomes its replacement.
///
/// Why its spans are right: what is pushed is copied; what is kept is either a record's own value or lies at an address inside that
/// record's text, and only while that text is the one below; what was written through [`text_mut`](Self::text_mut) is looked at
/// when the batch is made.
pub struct BatchBuilder {
    text: Pooled<u8>,
    /// Length of the text below.
    base: u32,
    /// Where the text below lies, and its id; 0: there is none.
    base_addr: usize,
    below: u64,
    /// The text has been written by others.
    opened: bool,
    vals: Pooled<Value>,
    meta: Pooled<Meta>,
    schema: SchemaRef,
}

impl BatchBuilder {
    pub fn new(schema: SchemaRef) -> BatchBuilder {
        let (text, vals, meta) = (Pooled::take(), Pooled::take(), Pooled::take());
        BatchBuilder { text, base: 0, base_addr: 0, below: 0, opened: false, vals, meta, schema }
    }

    /// A builder whose rows may refer to `batch`'s text; finish with [`Batch::replaced_by`].
    pub fn over(batch: &Batch, schema: SchemaRef) -> BatchBuilder {
        let (rows, width) = (batch.len(), schema.width());
        BatchBuilder {
            text: Pooled::default(),
            base: u32::try_from(batch.text.len()).expect("batches are capped far below 4 GiB"),
            base_addr: batch.text.as_ptr().addr(),
            below: batch.id,
            opened: false,
            vals: Pooled::with_capacity(rows * width),
            meta: Pooled::with_capacity(rows),
            schema,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Completed rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    /// Bytes of text so far.
    #[inline]
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Time to [`take`](Self::take): [`MAX_ROWS`] or [`MAX_BYTES`] reached.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.meta.len() >= MAX_ROWS || self.text.len() >= MAX_BYTES
    }

    /// Fields pushed since the last completed row.
    #[inline]
    pub fn pending(&self) -> usize {
        self.vals.len() - self.meta.len() * self.schema.width()
    }

    #[inline]
    pub fn push_missing(&mut self) {
        self.vals.push(Value::Missing);
    }
    #[inline]
    pub fn push_null(&mut self) {
        self.vals.push(Value::Null);
    }
    #[inline]
    pub fn push_bool(&mut self, b: bool) {
        self.vals.push(Value::Bool(b));
    }
    #[inline]
    pub fn push_int(&mut self, i: i64) {
        self.vals.push(Value::Int(i));
    }
    #[inline]
    pub fn push_float(&mut self, f: f64) {
        self.vals.push(Value::Float(f));
    }
    /// A timestamp in microseconds since 1970 UTC.
    #[inline]
    pub fn push_time(&mut self, micros: i64) {
        self.vals.push(Value::Time(micros));
    }
    #[inline]
    pub fn push_str(&mut self, s: &str) {
        let value = self.owned(s);
        self.vals.push(value);
    }

    /// A string, copied.
    #[inline]
    fn owned(&mut self, s: &str) -> Value {
        let span = self.copy(s.as_bytes());
        if crate::json::clean(s.as_bytes()) { Value::Str(span) } else { Value::Text(span) }
    }

    /// A number as written: must be a valid JSON number.
    #[inline]
    pub fn push_num(&mut self, s: &str) {
        debug_assert!(crate::json::is_number(s.as_bytes()), "{s}");
        let span = self.copy(s.as_bytes());
        self.vals.push(Value::Num(span));
    }
    #[inline]
    pub fn push_bytes(&mut self, b: &[u8]) {
        let span = self.copy(b);
        self.vals.push(Value::Bytes(span));
    }
    /// The JSON text of an object or array.
    #[inline]
    pub fn push_json(&mut self, json: &str) {
        let span = self.copy(json.as_bytes());
        self.vals.push(Value::Json(span));
    }

    /// Bytes followed by a newline that is not part of the value: what a source of lines or messages pushes as `_value`,
    /// so that parsers find a terminator.
    #[inline]
    pub fn push_line(&mut self, line: &[u8]) -> Span {
        let span = self.copy(line);
        self.text.push(b'\n');
        self.vals.push(Value::Bytes(span));
        span
    }

    /// Any value, copied.
    pub fn push_val(&mut self, v: Val<'_>) {
        match v {
            Val::Missing => self.push_missing(),
            Val::Null => self.push_null(),
            Val::Bool(b) => self.push_bool(b),
            Val::Int(i) => self.push_int(i),
            Val::Float(f) => self.push_float(f),
            Val::Time(t) => self.push_time(t),
            Val::Num(s) => self.push_num(s),
            Val::Str(s) => self.push_str(s),
            Val::Bytes(b) => self.push_bytes(b),
            Val::Json(j) => self.push_json(j),
            Val::Split(s, pair, key) => {
                let span = self.copy(s.as_bytes());
                self.vals.push(Value::Split(span, pair, key));
            }
        }
    }

    /// One field of a record of any batch, copied.
    #[inline]
    pub fn push_field(&mut self, record: &Record<'_>, slot: Slot) {
        self.push_copied(record, record.raw(slot));
    }

    /// All fields of a record of any batch, copied: a join is `push_record(left)`, `push_record(right)`.
    #[inline]
    pub fn push_record(&mut self, record: &Record<'_>) {
        for &v in record.raw_values() {
            self.push_copied(record, v);
        }
    }

    #[inline]
    fn push_copied(&mut self, record: &Record<'_>, v: Value) {
        let v = match v {
            Value::Num(s) => Value::Num(self.copy(record.bytes(s))),
            Value::Str(s) => Value::Str(self.copy(record.bytes(s))),
            Value::Text(s) => Value::Text(self.copy(record.bytes(s))),
            Value::Bytes(s) => Value::Bytes(self.copy(record.bytes(s))),
            Value::Json(s) => Value::Json(self.copy(record.bytes(s))),
            Value::Split(s, pair, key) => Value::Split(self.copy(record.bytes(s)), pair, key),
            v => v,
        };
        self.vals.push(v);
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) -> Span {
        let off = self.base as usize + self.text.len();
        assert!(off + bytes.len() <= u32::MAX as usize, "a batch's text stays below 4 GiB");
        self.text.extend_from_slice(bytes);
        Span { off: off as u32, len: bytes.len() as u32 }
    }

    /// Whether the record's text is the one below.
    #[inline]
    fn is_below(&self, row: &Record<'_>) -> bool {
        row.arena().as_ptr().addr() == self.base_addr && row.arena().len() == self.base as usize && self.below != 0
    }

    /// Where the bytes lie in the text below, if the record's text is that and they are a part of it.
    #[inline]
    fn place(&self, row: &Record<'_>, bytes: &[u8]) -> Option<Span> {
        let off = bytes.as_ptr().addr().wrapping_sub(self.base_addr);
        let inside = off <= self.base as usize && bytes.len() <= self.base as usize - off;
        (inside && self.is_below(row)).then(|| Span { off: off as u32, len: bytes.len() as u32 })
    }

    /// One field of a record: without copying if it is one of the batch that this builder was made [`over`](Self::over).
    #[inline]
    pub fn keep(&mut self, row: &Record<'_>, slot: Slot) {
        match self.is_below(row) {
            true => self.vals.push(row.raw(slot)),
            false => self.push_field(row, slot),
        }
    }

    /// Several neighbouring fields of a record, as [`keep`](Self::keep).
    #[inline]
    pub fn keep_range(&mut self, row: &Record<'_>, slots: Range<usize>) {
        match self.is_below(row) {
            true => self.vals.extend_from_slice(&row.raw_values()[slots]),
            false => slots.for_each(|i| self.push_field(row, Slot(i as u16))),
        }
    }

    /// A value made of the record: without copying where its text is a part of the text below.
    #[inline]
    pub fn keep_val(&mut self, row: &Record<'_>, value: Val<'_>) {
        let kept = match value {
            Val::Str(t) => return self.keep_str(row, t, crate::json::clean(t.as_bytes())),
            Val::Num(t) => self.place(row, t.as_bytes()).map(Value::Num),
            Val::Json(t) => self.place(row, t.as_bytes()).map(Value::Json),
            Val::Split(t, pair, key) => self.place(row, t.as_bytes()).map(|s| Value::Split(s, pair, key)),
            Val::Bytes(b) => self.place(row, b).map(Value::Bytes),
            _ => None,
        };
        match kept {
            Some(value) => self.vals.push(value),
            None => self.push_val(value),
        }
    }

    /// As [`keep_val`](Self::keep_val), of a string. `clean`: nothing in it needs a JSON escape.
    #[inline]
    pub fn keep_str(&mut self, row: &Record<'_>, text: &str, clean: bool) {
        match self.place(row, text.as_bytes()) {
            Some(span) => self.vals.push(if clean { Value::Str(span) } else { Value::Text(span) }),
            None => self.push_str(text),
        }
    }

    /// The value that a completed row of this builder has in the slot, without copying its text again.
    #[inline]
    pub fn push_same(&mut self, row: usize, slot: Slot) {
        assert!(row < self.meta.len(), "the row is complete");
        let value = self.vals[row * self.schema.width() + slot.index()];
        self.vals.push(value);
    }

    /// A clean string of the record as the text map that it is, if it lies in the text below; false: nothing was pushed.
    #[inline]
    pub fn keep_split(&mut self, row: &Record<'_>, slot: Slot, (pair, key): (u8, u8)) -> bool {
        match row.raw(slot) {
            Value::Str(span) if pair.is_ascii() && key.is_ascii() && self.is_below(row) => {
                self.vals.push(Value::Split(span, pair, key));
                true
            }
            _ => false,
        }
    }

    /// A string in which one ASCII character takes the place of another. `clean`: nothing in the result needs a JSON escape.
    #[inline]
    pub fn push_swapped(&mut self, s: &str, from: u8, to: u8, clean: bool) {
        let span = self.swapped(s, from, to);
        self.vals.push(if clean { Value::Str(span) } else { Value::Text(span) });
    }

    #[inline]
    fn swapped(&mut self, s: &str, from: u8, to: u8) -> Span {
        assert!(from.is_ascii() && to.is_ascii(), "what is swapped is ASCII");
        let begun = self.text.len();
        self.text.extend(s.bytes().map(|b| if b == from { to } else { b }));
        self.span_from(begun)
    }

    /// Values that a parser found in the text below.
    ///
    /// # Safety
    /// Every span lies inside the text of the batch that this builder was made over, and those of `Num`, `Str`, `Text`, `Json` and
    /// `Split` are UTF-8 there.
    #[inline]
    pub unsafe fn keep_parsed(&mut self, values: &[Value]) {
        debug_assert!(values.iter().filter_map(span_of).all(|s| s.off as usize + s.len as usize <= self.base as usize));
        self.vals.extend_from_slice(values);
    }

    /// Text being written piece by piece: append to [`text_mut`](Self::text_mut), then one of the `end_*` calls.
    #[inline]
    pub fn begin_text(&mut self) -> usize {
        self.text.len()
    }

    /// The builder's own text, to be appended to, or cut back to where the present piece began. Strings, numbers and JSON written
    /// here are UTF-8: the batch cannot be made of anything else.
    #[inline]
    pub fn text_mut(&mut self) -> &mut Vec<u8> {
        self.opened = true;
        &mut self.text
    }

    #[inline]
    fn span_from(&self, begun: usize) -> Span {
        let off = self.base as usize + begun;
        let len = self.text.len().checked_sub(begun).expect("a piece ends behind its beginning");
        assert!(off + len <= u32::MAX as usize, "a batch's text stays below 4 GiB");
        Span { off: off as u32, len: len as u32 }
    }

    /// The text written since `begun` is a string. It must be UTF-8; `clean`: nothing in it needs a JSON escape.
    #[inline]
    pub fn end_str(&mut self, begun: usize, clean: bool) {
        let span = self.span_from(begun);
        self.vals.push(if clean { Value::Str(span) } else { Value::Text(span) });
    }

    /// The text written since `begun` is a valid JSON number.
    #[inline]
    pub fn end_num(&mut self, begun: usize) {
        let span = self.span_from(begun);
        self.vals.push(Value::Num(span));
    }

    /// The text written since `begun` is the JSON text of an object or array.
    #[inline]
    pub fn end_json(&mut self, begun: usize) {
        let span = self.span_from(begun);
        self.vals.push(Value::Json(span));
    }

    #[inline]
    pub fn end_bytes(&mut self, begun: usize) {
        let span = self.span_from(begun);
        self.vals.push(Value::Bytes(span));
    }

    /// Bytes that already lie in this builder's own text, from `begun` on: a source reads a block into
    /// [`text_mut`](Self::text_mut) once and then names the lines in it.
    #[inline]
    pub fn push_own(&mut self, begun: usize, len: usize) -> Span {
        assert!(begun <= self.text.len() && len <= self.text.len() - begun, "the bytes lie in the text");
        let off = self.base as usize + begun;
        assert!(off + len <= u32::MAX as usize, "a batch's text stays below 4 GiB");
        let span = Span { off: off as u32, len: len as u32 };
        self.vals.push(Value::Bytes(span));
        span
    }

    /// Completes a row; its fields have been pushed.
    #[inline]
    pub fn end_row(&mut self, meta: Meta) {
        debug_assert_eq!(self.pending(), self.schema.width(), "a row has as many fields as its schema");
        let mut meta = meta;
        if self.base == 0 {
            meta.raw = Meta::NO_RAW;
        }
        self.meta.push(meta);
    }

    /// Completes a row whose original bytes lie in this builder's own text (sources).
    #[inline]
    pub fn end_source_row(&mut self, meta: Meta) {
        debug_assert_eq!(self.pending(), self.schema.width());
        self.meta.push(meta);
    }

    /// Forgets the fields of the row being built (its text stays in the arena until the batch goes).
    #[inline]
    pub fn abandon_row(&mut self) {
        self.vals.truncate(self.meta.len() * self.schema.width());
    }

    /// The field pushed last, if the row being built has any.
    #[inline]
    pub fn last(&self) -> Option<Value> {
        if self.pending() == 0 { None } else { self.vals.last().copied() }
    }

    /// Forgets the fields of the row being built from the `pending`th on (their text stays in the arena).
    #[inline]
    pub fn truncate_fields(&mut self, pending: usize) {
        self.vals.truncate(self.meta.len() * self.schema.width() + pending);
    }

    /// Forgets the completed rows behind the first `rows`; no row is being built.
    pub fn truncate_rows(&mut self, rows: usize) {
        self.meta.truncate(rows);
        self.vals.truncate(self.meta.len() * self.schema.width());
    }

    /// Rows are whole, and what others wrote is as it must be: the text as a whole is UTF-8 and values begin and end between
    /// characters, or else each value is looked at.
    fn verify(&self) {
        assert_eq!(self.vals.len(), self.meta.len() * self.schema.width(), "a row has as many fields as its schema");
        self.verify_texts(&self.vals);
    }

    fn verify_texts(&self, values: &[Value]) {
        if !self.opened {
            return;
        }
        let mut whole = None;
        for span in values.iter().filter_map(textual).filter(|s| s.off >= self.base) {
            let (begin, len) = ((span.off - self.base) as usize, span.len as usize);
            let boundary = |at: usize| self.text.get(at).is_none_or(|b| (*b as i8) >= -0x40);
            let whole = *whole.get_or_insert_with(|| simdutf8::basic::from_utf8(&self.text).is_ok());
            let fits = begin + len <= self.text.len();
            let right = fits && whole && boundary(begin) && boundary(begin + len);
            assert!(right || (fits && std::str::from_utf8(&self.text[begin..][..len]).is_ok()), "text that was written is UTF-8");
        }
    }

    /// The batch, for a builder made with [`new`](Self::new).
    ///
    /// # Panics
    /// If the builder was made over a batch, or breaks a promise of [`text_mut`](Self::text_mut).
    pub fn finish(self) -> Batch {
        assert_eq!(self.base, 0, "a builder over a batch becomes its replacement: Batch::replaced_by");
        self.verify();
        let (text, vals, meta) = (Arc::new(self.text.fitted()), self.vals.fitted(), self.meta.fitted());
        Batch { text, id: text_id(), vals, meta, schema: self.schema, padded: false }
    }

    /// The completed rows as a batch; the builder goes on empty.
    pub fn take(&mut self) -> Batch {
        let schema = self.schema.clone();
        std::mem::replace(self, BatchBuilder::new(schema)).finish()
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
