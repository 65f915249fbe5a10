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
    bits: u32,
    sure: u64,
}

/// What a planned slot should hold, where the parser can tell at no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything, if it is there.
    Any,
    /// A string without escapes.
    Text,
    /// A number written as an integer of at most 18 characters.
    Integer,
    /// A number without exponent, of less than 300 characters.
    Real,
}

/// An expectation as the scanner uses it: kinds of tokens that meet it, and the bit that says so.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    kinds: u8,
    longest: u32,
    bit: u64,
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

    /// Asks for a bit of [`sure`](Self::sure) that says that the slot is as expected; 0 when all bits are given away.
    pub fn expect(&mut self, slot: usize, expect: Expect) -> u64 {
        let bit = 1u64.checked_shl(self.bits).unwrap_or(0);
        self.bits += 1;
        let kind = |k: Kind| 1 << k as u8;
        let (kinds, longest) = match expect {
            Expect::Any => (u8::MAX, u32::MAX),
            Expect::Text => (kind(Kind::Str), u32::MAX),
            Expect::Integer => (kind(Kind::Int), 18),
            Expect::Real => (kind(Kind::Int) | kind(Kind::Dec), 299),
        };
        self.shape.expect(slot, Expected { kinds, longest, bit });
        bit
    }

    /// Bits of the slots that the row parsed last filled as expected. Without its bit a slot may still hold what fits.
    #[inline]
    pub fn sure(&self) -> u64 {
        self.sure
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
        let mut fill = Fill { row, fresh: &mut self.fresh, text: text.all, base: base as u32, sure: 0 };
        // Lines hold no newline; only what does is read again by the slower scanner that allows them.
        let result = match Scan::<false>::new(text.all, end).document(start, &mut self.shape, &mut fill) {
            Err(bad) if bad.at < end && text.all[bad.at] == b'\n' => {
                fill.row[..self.width].fill(Value::Missing);
                fill.fresh.clear();
                fill.sure = 0;
                Scan::<true>::new(text.all, end).document(start, &mut self.shape, &mut fill)
            }
            result => result,
        };
        self.sure = fill.sure;
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
    /// A number without fraction and exponent.
    Int,
    /// A number with a fraction, without exponent.
    Dec,
    /// Any other number.
    Num,
    Bool,
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
    sure: u64,
}

impl Fill<'_> {
    #[inline(always)]
    fn put(&mut self, slot: usize, expected: Expected, t: Token) -> Result<(), Bad> {
        let span = Span { off: t.start as u32, len: (t.end - t.start) as u32 };
        let met = expected.kinds >> t.kind as u8 & 1 != 0 && span.len <= expected.longest;
        // Of equal keys the last one counts.
        self.sure = if met { self.sure | expected.bit } else { self.sure & !expected.bit };
        self.row[slot] = match t.kind {
            Kind::Str => Value::Str(span),
            Kind::Int | Kind::Dec | Kind::Num => Value::Num(span),
            Kind::Json => Value::Json(span),
            Kind::Bool => Value::Bool(self.text[t.start] == b't'),
            Kind::Null => Value::Null,
            Kind::Escaped => self.decode(t)?,
        };
        Ok(())
    }

    #[inline(never)]
    fn put_rare(&mut self, slot: usize, expected: Expected, t: Token) -> Result<(), Bad> {
        self.put(slot, expected, t)
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
