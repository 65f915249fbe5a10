//! Rows in a batch: one text arena and a matrix of values.

use crate::record::{Meta, Record};
use crate::schema::{SchemaRef, Slot};
use crate::value::{Span, Val, Value};
use std::sync::Arc;

/// Readable, zeroed bytes behind the text after [`Batch::pad`], for parsers that load wide.
pub const PAD: usize = 64;
/// A builder says it is full at this many rows …
pub const MAX_ROWS: usize = 1024;
/// … or at this many bytes of text.
pub const MAX_BYTES: usize = 1 << 20;

/// Rows of one schema. Cloning shares the text and copies values (16 bytes a field) and meta (40 bytes a row).
pub struct Batch {
    text: Arc<Vec<u8>>,
    vals: Vec<Value>,
    meta: Vec<Meta>,
    schema: SchemaRef,
    /// [`PAD`] bytes of the text's spare capacity are zero.
    padded: bool,
}

impl Batch {
    pub fn empty(schema: SchemaRef) -> Batch {
        Batch { text: Arc::default(), vals: vec![], meta: vec![], schema, padded: false }
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
        let text = Arc::make_mut(&mut self.text);
        text.reserve(PAD);
        for b in &mut text.spare_capacity_mut()[..PAD] {
            b.write(0);
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
        let w = self.schema.width();
        let mut to = 0;
        for from in 0..self.len() {
            if keep(from) {
                if to != from {
                    self.vals.copy_within(from * w..(from + 1) * w, to * w);
                    self.meta[to] = self.meta[from];
                }
                to += 1;
            }
        }
        self.vals.truncate(to * w);
        self.meta.truncate(to);
    }

    /// The rows at the given indexes, sharing the text.
    pub fn select(&self, rows: &[u32]) -> Batch {
        let w = self.schema.width();
        let mut vals = Vec::with_capacity(rows.len() * w);
        for &r in rows {
            vals.extend_from_slice(&self.vals[r as usize * w..][..w]);
        }
        let meta = rows.iter().map(|&r| self.meta[r as usize]).collect();
        Batch { text: self.text.clone(), vals, meta, schema: self.schema.clone(), padded: false }
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
    pub fn replaced_by(mut self, rows: BatchBuilder) -> Batch {
        assert_eq!(rows.base as usize, self.text.len(), "the builder was made over this batch");
        if !rows.text.is_empty() {
            Arc::make_mut(&mut self.text).extend_from_slice(&rows.text);
        }
        Batch { text: self.text, vals: rows.vals, meta: rows.meta, schema: rows.schema, padded: false }
    }
}

impl Clone for Batch {
    /// The clone is not padded: another owner of the text may append to it.
    fn clone(&self) -> Batch {
        Batch { text: self.text.clone(), vals: self.vals.clone(), meta: self.meta.clone(), schema: self.schema.clone(), padded: false }
    }
}

#[inline]
fn span_of(v: &Value) -> Option<Span> {
    match *v {
        Value::Num(s) | Value::Str(s) | Value::Text(s) | Value::Bytes(s) | Value::Json(s) | Value::Split(s, ..) => Some(s),
        _ => None,
    }
}

/// Builds rows field by field, in schema order; [`end_row`](Self::end_row) completes one.
///
/// Made with [`new`](Self::new) it copies all text it is given. Made with [`over`](Self::over) a batch it may also
/// [`keep`](Self::keep) that batch's values without copying, and becomes its replacement.
pub struct BatchBuilder {
    text: Vec<u8>,
    base: u32,
    vals: Vec<Value>,
    meta: Vec<Meta>,
    schema: SchemaRef,
}

impl BatchBuilder {
    pub fn new(schema: SchemaRef) -> BatchBuilder {
        BatchBuilder { text: vec![], base: 0, vals: vec![], meta: vec![], schema }
    }

    /// A builder whose rows may refer to `batch`'s text; finish with [`Batch::replaced_by`].
    pub fn over(batch: &Batch, schema: SchemaRef) -> BatchBuilder {
        let (rows, width) = (batch.len(), schema.width());
        BatchBuilder {
            text: Vec::new(),
            base: u32::try_from(batch.text.len()).expect("batches are capped far below 4 GiB"),
            vals: Vec::with_capacity(rows * width),
            meta: Vec::with_capacity(rows),
            schema,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether it was made [`over`](Self::over) a batch that has text, so that [`keep`](Self::keep) is of use.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.base != 0
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
        let span = self.copy(s.as_bytes());
        self.vals.push(if crate::json::clean(s.as_bytes()) { Value::Str(span) } else { Value::Text(span) });
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

    /// A value of the batch that this builder was made [`over`](Self::over), without copying.
    #[inline]
    pub fn keep(&mut self, value: Value) {
        debug_assert!(span_of(&value).is_none_or(|s| s.off + s.len <= self.base), "keep takes values of the batch below");
        self.vals.push(value);
    }

    /// All values of a row of the batch below.
    #[inline]
    pub fn keep_all(&mut self, values: &[Value]) {
        self.vals.extend_from_slice(values);
    }

    /// Text being written piece by piece: append to [`text_mut`](Self::text_mut), then one of the `end_*` calls.
    #[inline]
    pub fn begin_text(&mut self) -> usize {
        self.text.len()
    }

    #[inline]
    pub fn text_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    #[inline]
    fn span_from(&self, begun: usize) -> Span {
        let off = self.base as usize + begun;
        let len = self.text.len() - begun;
        assert!(off + len <= u32::MAX as usize, "a batch's text stays below 4 GiB");
        Span { off: off as u32, len: len as u32 }
    }

    /// The text written since `begun` is a string. It must be UTF-8; `clean`: nothing in it needs a JSON escape.
    #[inline]
    pub fn end_str(&mut self, begun: usize, clean: bool) {
        let span = self.span_from(begun);
        debug_assert!(std::str::from_utf8(&self.text[begun..]).is_ok());
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
        assert!(begun + len <= self.text.len(), "the bytes lie in the text");
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

    /// The batch, for a builder made with [`new`](Self::new).
    pub fn finish(self) -> Batch {
        assert_eq!(self.base, 0, "a builder over a batch becomes its replacement: Batch::replaced_by");
        debug_assert_eq!(self.pending(), 0);
        Batch { text: Arc::new(self.text), vals: self.vals, meta: self.meta, schema: self.schema, padded: false }
    }

    /// The completed rows as a batch; the builder goes on empty.
    pub fn take(&mut self) -> Batch {
        let schema = self.schema.clone();
        std::mem::replace(self, BatchBuilder::new(schema)).finish()
    }
}
