//! A row wherever it lives: in a batch, in state bytes, on the wire.

use crate::json;
use crate::schema::{Access, Slot};
use crate::value::{Span, Val, Value};

/// The event time of a row that has none.
pub const NO_TIME: i64 = i64::MIN;

/// What a row carries beside its fields: kept by the codec and in state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meta {
    /// Event time, microseconds since 1970 UTC; [`NO_TIME`] before it is assigned.
    pub time: i64,
    /// Position in its partition: a Kafka offset, a byte position in a file, a row number.
    pub offset: u64,
    /// Where the original bytes lie, as long as the row is in the batch that the source made; [`Meta::NO_RAW`] afterwards.
    pub raw: Span,
    /// The source's partition, numbered by the source.
    pub partition: u32,
    /// The stream, numbered by the plan.
    pub source: u16,
    /// Bit 0: late, see [`Meta::late`].
    pub flags: u16,
}

impl Default for Meta {
    fn default() -> Self {
        NO_META
    }
}

/// Of no row.
pub(crate) static NO_META: Meta = Meta { time: NO_TIME, offset: 0, raw: Meta::NO_RAW, partition: 0, source: 0, flags: 0 };

impl Meta {
    pub const LATE: u16 = 1;
    /// The original bytes are gone (an empty original is a span of length 0 elsewhere).
    pub const NO_RAW: Span = Span { off: u32::MAX, len: 0 };

    /// The row came at or below its own partition's watermark, or an operator emitted it at or below its output watermark.
    #[inline]
    pub fn late(&self) -> bool {
        self.flags & Self::LATE != 0
    }

    #[inline]
    pub fn set_late(&mut self, late: bool) {
        self.flags = if late { self.flags | Self::LATE } else { self.flags & !Self::LATE };
    }
}

/// A borrowed row: its text, its values, its meta column. Slots are those of the schema that the edge or the state declares.
// No derived Debug: it would print the whole batch.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    text: &'a [u8],
    vals: &'a [Value],
    meta: &'a Meta,
}

impl<'a> Record<'a> {
    /// # Safety
    /// Every span in `vals` and in `meta.raw` lies inside `text`, and the spans of `Num`, `Str`, `Text`, `Json` and `Split` are UTF-8 there.
    #[inline]
    pub(crate) unsafe fn new(text: &'a [u8], vals: &'a [Value], meta: &'a Meta) -> Record<'a> {
        Record { text, vals, meta }
    }

    #[inline]
    pub fn meta(&self) -> &'a Meta {
        self.meta
    }

    /// Number of fields.
    #[inline]
    pub fn width(&self) -> usize {
        self.vals.len()
    }

    /// The value as it lies in the record's text.
    #[inline]
    pub fn raw(&self, slot: Slot) -> Value {
        self.vals[slot.index()]
    }

    #[inline]
    pub fn raw_values(&self) -> &'a [Value] {
        self.vals
    }

    /// The text that spans lie in; other rows' text too.
    #[inline]
    pub(crate) fn arena(&self) -> &'a [u8] {
        self.text
    }

    /// The bytes of a span of this record.
    #[inline]
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        &self.text[span.off as usize..][..span.len as usize]
    }

    /// The bytes that the source delivered, while the row is still in the source's batch.
    pub fn original(&self) -> Option<&'a [u8]> {
        (self.meta.raw != Meta::NO_RAW).then(|| self.bytes(self.meta.raw))
    }

    /// # Safety
    /// The span is UTF-8 here.
    #[inline]
    pub(crate) unsafe fn text(&self, span: Span) -> &'a str {
        let bytes = self.bytes(span);
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        // SAFETY: the caller's promise.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }

    /// The field's value.
    #[inline]
    pub fn get(&self, slot: Slot) -> Val<'a> {
        // SAFETY: it is one of this record's values.
        unsafe { self.own(self.vals[slot.index()]) }
    }

    #[inline]
    pub fn str(&self, slot: Slot) -> Option<&'a str> {
        match self.vals[slot.index()] {
            // SAFETY: it is one of this record's values.
            Value::Str(s) | Value::Text(s) => Some(unsafe { self.text(s) }),
            _ => None,
        }
    }

    #[inline]
    pub fn int(&self, slot: Slot) -> Option<i64> {
        self.get(slot).as_int()
    }

    /// What a value that a parser found in this record's text stands for.
    ///
    /// # Panics
    /// If it lies outside the text, or is a text that is not UTF-8.
    pub fn view(&self, value: Value) -> Val<'a> {
        if let Value::Num(s) | Value::Str(s) | Value::Text(s) | Value::Json(s) | Value::Split(s, ..) = value {
            assert!(std::str::from_utf8(self.bytes(s)).is_ok(), "the value is one of this text");
        }
        // SAFETY: its text has just been looked at.
        unsafe { self.own(value) }
    }

    /// # Safety
    /// The value is one of this record's, or fits its text as they do.
    #[inline(always)]
    pub(crate) unsafe fn own(&self, value: Value) -> Val<'a> {
        // SAFETY: `Record::new` demands UTF-8 at every textual span.
        unsafe {
            match value {
                Value::Missing => Val::Missing,
                Value::Null => Val::Null,
                Value::Bool(b) => Val::Bool(b),
                Value::Int(i) => Val::Int(i),
                Value::Float(f) => Val::Float(f),
                Value::Time(t) => Val::Time(t),
                Value::Num(s) => Val::Num(self.text(s)),
                Value::Str(s) | Value::Text(s) => Val::Str(self.text(s)),
                Value::Bytes(s) => Val::Bytes(self.bytes(s)),
                Value::Json(s) => Val::Json(self.text(s)),
                Value::Split(s, pair, key) => Val::Split(self.text(s), pair, key),
            }
        }
    }

    /// The value at a resolved path; `scratch` receives a string that had to be unescaped. A path through something that is
    /// neither map nor array is Missing.
    pub fn find<'s>(&self, access: &Access, scratch: &'s mut String) -> Val<'s>
    where
        'a: 's,
    {
        let value = self.get(access.slot);
        if access.rest.is_empty() {
            return value;
        }
        json::lookup(value, &access.rest, scratch)
    }
}
