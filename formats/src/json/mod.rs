//! JSON objects to rows, in one pass over the text.
//!
//! Planned paths go to slots of a row; every other value is checked and skipped. Nothing is copied: strings are spans of the text,
//! numbers stay as written, containers stay unopened. Only a planned string with escapes is decoded, into fresh text.
//!
//! The grammar is RFC 8259, strictly: no NaN, no leading zeros, no control characters or half surrogate pairs in strings, nothing
//! after the object; at most [`MAX_DEPTH`](sdk::json::MAX_DEPTH) levels. Of equal keys the last one counts.

mod scan;
mod shape;

use millrace_sdk as sdk;
use scan::{Bad, Scan};
use sdk::batch::PAD;
use sdk::json::unescape;
use sdk::{Span, Value};
use shape::Shape;

/// Text with [`PAD`] zero bytes behind it, as [`Batch::padded_text`](sdk::Batch::padded_text) gives it.
#[derive(Clone, Copy)]
pub struct Padded<'a> {
    /// The padding too.
    all: &'a [u8],
    /// All of the text is known to be UTF-8.
    utf8: bool,
}

impl<'a> Padded<'a> {
    /// `check`: look once whether all of the text is UTF-8, which is quicker than looking at each row when the rows are most of it.
    /// None if the padding is not there, or the text too long for spans.
    pub fn new(padded: &'a [u8], check: bool) -> Option<Padded<'a>> {
        let at = padded.len().checked_sub(PAD)?;
        let (text, pad) = padded.split_at(at);
        if pad.iter().any(|b| *b != 0) || u32::try_from(at).is_err() {
            return None;
        }
        Some(Padded { all: padded, utf8: check && simdutf8::basic::from_utf8(text).is_ok() })
    }

    /// The text without the padding.
    #[inline]
    pub fn text(&self) -> &'a [u8] {
        &self.all[..self.all.len() - PAD]
    }

    /// The text and the padding.
    #[inline]
    pub fn padded(&self) -> &'a [u8] {
        self.all
    }

    /// The text of a span, if it is UTF-8.
    ///
    /// # Errors
    /// The place of the first byte that is not, counted from the span's start.
    #[inline]
    pub fn str(&self, span: Span) -> Result<&'a str, usize> {
        let bytes = &self.text()[span.off as usize..][..span.len as usize];
        let boundary = |at: usize| self.all.get(at).is_none_or(|b| (*b as i8) >= -0x40);
        if self.utf8 && boundary(span.off as usize) && boundary(span.off as usize + bytes.len()) {
            // SAFETY: the whole text is UTF-8, and the span begins and ends between characters.
            return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
        }
        simdutf8::basic::from_utf8(bytes).map_err(|_| std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), |_| 0))
    }
}

/// Why a text is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// `invalid-json`, `not-an-object`, `too-deep` or `invalid-utf8`.
    pub reason: &'static str,
    /// Names the byte, counted from 1.
    pub message: String,
}

/// Parses rows of one plan. It remembers the order in which keys came, so keep it from row to row.
#[derive(Clone, Debug, Default)]
pub struct RowParser {
    shape: Shape,
    width: usize,
    fresh: String,
}

impl RowParser {
    /// `paths`: what goes where. The path `["client", "os"]` is the member `os` of the object `client`. Two paths to one slot
    /// are one too many: the first one keeps it.
    pub fn new<'p>(paths: impl IntoIterator<Item = (Vec<&'p str>, usize)>) -> RowParser {
        let mut parser = RowParser::default();
        for (path, slot) in paths {
            // What lies deeper is in no valid document.
            if path.len() <= sdk::json::MAX_DEPTH {
                parser.shape.plan(&path, slot);
            }
            parser.width = parser.width.max(slot + 1);
        }
        parser
    }

    /// Parses the object at `span` and fills the planned slots of `row`; slots that the object does not have are left as they are,
    /// so they should be Missing before. Gives the span of the object itself, without blanks around it.
    ///
    /// Spans that begin at or behind the end of the text lie in [`fresh`](Self::fresh), as if it followed the text.
    ///
    /// # Errors
    /// The text is not one JSON object; `row` may then be half filled.
    ///
    /// # Panics
    /// If `row` is shorter than the largest planned slot, or `span` not inside the text.
    pub fn parse(&mut self, text: Padded<'_>, span: Span, row: &mut [Value]) -> Result<Span, JsonError> {
        assert!(row.len() >= self.width, "the row has room for every planned slot");
        let (start, end) = (span.off as usize, span.off as usize + span.len as usize);
        self.fresh.clear();
        if let Err(at) = text.str(span) {
            return Err(JsonError { reason: "invalid-utf8", message: format!("invalid UTF-8 at byte {}", at + 1) });
        }
        let base = text.all.len() - PAD;
        let mut fill = Fill { row, fresh: &mut self.fresh, text: text.all, base: base as u32 };
        // Lines hold no newline; only what does is read again by the slower scanner that allows them.
        let result = match Scan::<false>::new(text.all, end).document(start, &mut self.shape, &mut fill) {
            Err(bad) if bad.at < end && text.all[bad.at] == b'\n' => {
                fill.row[..self.width].fill(Value::Missing);
                fill.fresh.clear();
                Scan::<true>::new(text.all, end).document(start, &mut self.shape, &mut fill)
            }
            result => result,
        };
        match result {
            Ok((s, e)) => Ok(Span { off: s as u32, len: (e - s) as u32 }),
            Err(bad) => Err(bad.explain(&text.all[start..end], start)),
        }
    }

    /// Decoded strings of the row parsed last.
    pub fn fresh(&self) -> &str {
        &self.fresh
    }
}

/// A value's kind and where its text lies; of strings what is between the quotes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// Without escapes.
    Str,
    /// With escapes, valid ones.
    Escaped,
    Num,
    True,
    False,
    Null,
    Json,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Where values go.
struct Fill<'a> {
    row: &'a mut [Value],
    fresh: &'a mut String,
    text: &'a [u8],
    base: u32,
}

impl Fill<'_> {
    #[inline(always)]
    fn put(&mut self, slot: usize, t: Token) -> Result<(), Bad> {
        let span = Span { off: t.start as u32, len: (t.end - t.start) as u32 };
        self.row[slot] = match t.kind {
            Kind::Str => Value::Str(span),
            Kind::Num => Value::Num(span),
            Kind::Json => Value::Json(span),
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Null => Value::Null,
            Kind::Escaped => self.decode(t)?,
        };
        Ok(())
    }

    #[cold]
    fn decode(&mut self, t: Token) -> Result<Value, Bad> {
        let bad = |at, what| Bad { at: t.start + at, what };
        let raw = std::str::from_utf8(&self.text[t.start..t.end]).map_err(|e| bad(e.valid_up_to(), "invalid UTF-8"))?;
        let begun = self.fresh.len();
        unescape(raw, self.fresh).map_err(|e| bad(e.at, e.what))?;
        Ok(Value::Text(Span { off: self.base + begun as u32, len: (self.fresh.len() - begun) as u32 }))
    }
}

#[cfg(test)]
mod tests;
