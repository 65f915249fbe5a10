//! Columns between delimiters, quoted or not.

use super::line::Line;
use super::marks::{Marks, able};
use super::{FormatError, Piece, Pieces, TextError};
use memchr::memmem::Finder;

/// Delimiter-separated columns; quoting is off unless asked for.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: Finder<'static>,
    quote: Option<u8>,
    /// It is one byte, of which all places in a line can be found at once: see [`Marks`].
    marked: bool,
}

impl Delimited {
    pub fn new(delimiter: &str, quote: Option<&str>) -> Result<Delimited, FormatError> {
        if delimiter.is_empty() {
            return Err(FormatError::new("delimiter", "the delimiter is empty"));
        }
        let quote = quote.map(|q| one_ascii("quote", q)).transpose()?;
        if quote.is_some_and(|q| delimiter.as_bytes().contains(&q)) {
            return Err(FormatError::new("quote", "the quote character is part of the delimiter"));
        }
        Ok(Delimited { delimiter: Finder::new(delimiter.as_bytes()).into_owned(), quote, marked: delimiter.len() == 1 && able() })
    }

    /// Nothing is quoted.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.quote.is_none()
    }

    /// An ASCII character that separates columns and is in none.
    pub fn apart(&self) -> Option<u8> {
        if let (None, &[byte]) = (self.quote, self.delimiter.needle()) { Some(byte) } else { None }
    }

    #[inline]
    pub fn split_plain(&self, line: Line<'_>, columns: &mut [Piece], marks: &mut Marks) -> Result<(), TextError> {
        #[cfg(target_arch = "x86_64")]
        if self.marked
            // SAFETY: the processor has what it takes.
            && let Some(found) = unsafe { self.split_marked(line, columns, marks) }
        {
            return count(found, columns.len());
        }
        self.split_searched(line, columns)
    }

    /// Takes columns between places found at once; the number of columns, unless the line is too long for that.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn split_marked(&self, line: Line<'_>, columns: &mut [Piece], marks: &mut Marks) -> Option<usize> {
        let (all, begin, end) = line.place();
        if !marks.look(&self.delimiter.needle()[..1], all, begin, end) {
            return None;
        }
        let (mut start, mut found) = (0, 0);
        let mut column = |end: usize| {
            if let Some(column) = columns.get_mut(found) {
                *column = Piece::here(start..end);
            }
            found += 1;
            start = end + 1;
        };
        marks.each(end - begin, &mut column);
        column(end - begin);
        Some(found)
    }

    fn split_searched(&self, line: Line<'_>, columns: &mut [Piece]) -> Result<(), TextError> {
        let text = line.str().as_bytes();
        let (mut start, mut found) = (0, 0);
        let mut column = |end: usize, next: usize| {
            if let Some(column) = columns.get_mut(found) {
                *column = Piece::here(start..end);
            }
            found += 1;
            start = next;
        };
        match self.delimiter.needle() {
            &[byte] => line.each(byte, |at| column(at, at + 1)),
            needle => {
                for at in self.delimiter.find_iter(text) {
                    column(at, at + needle.len());
                }
            }
        }
        column(text.len(), text.len());
        count(found, columns.len())
    }

    #[inline]
    pub fn split(&self, line: Line<'_>, columns: usize, out: &mut Pieces) -> Result<(), TextError> {
        match self.quote {
            Some(quote) => self.quoted(line.str(), quote, columns, out),
            None => {
                let mut marks = std::mem::take(&mut out.marks);
                let done = self.split_plain(line, out.plain(columns), &mut marks);
                out.marks = marks;
                done
            }
        }
    }

    fn quoted(&self, line: &str, quote: u8, columns: usize, out: &mut Pieces) -> Result<(), TextError> {
        let text = line.as_bytes();
        let delimiter = self.delimiter.needle();
        let bad = |what: String| Err(TextError { reason: "bad-quoting", message: what });
        let (mut p, mut found) = (0, 0);
        loop {
            let piece;
            if text.get(p) == Some(&quote) {
                let start = p + 1;
                let Some((end, doubled)) = closing(text, start, quote) else {
                    return bad(format!("the quote at byte {} is never closed", p + 1));
                };
                piece = if doubled && found < columns {
                    let begun = out.fresh.len();
                    let mut parts = line[start..end].split(quote as char);
                    // Doubled quotes leave an empty part between them.
                    out.fresh.push_str(parts.next().unwrap_or(""));
                    while parts.next().is_some() {
                        out.fresh.push(quote as char);
                        out.fresh.push_str(parts.next().unwrap_or(""));
                    }
                    out.fresh_from(begun)
                } else {
                    Piece::here(start..end)
                };
                p = end + 1;
                if p < text.len() && !text[p..].starts_with(delimiter) {
                    return bad(format!("expected the delimiter after the closing quote at byte {p}"));
                }
            } else {
                let end = self.delimiter.find(&text[p..]).map_or(text.len(), |n| p + n);
                piece = Piece::here(p..end);
                p = end;
            }
            if found < columns {
                out.values.push(piece);
            }
            found += 1;
            if p >= text.len() {
                return count(found, columns);
            }
            p += delimiter.len();
        }
    }
}

/// The quote that closes what begins at `start`, and whether there are doubled ones before it.
fn closing(text: &[u8], start: usize, quote: u8) -> Option<(usize, bool)> {
    let (mut p, mut doubled) = (start, false);
    loop {
        p += memchr::memchr(quote, text.get(p..)?)?;
        if text.get(p + 1) != Some(&quote) {
            return Some((p, doubled));
        }
        doubled = true;
        p += 2;
    }
}

fn count(found: usize, columns: usize) -> Result<(), TextError> {
    if found == columns {
        return Ok(());
    }
    let message = format!("expected {columns} columns, found {found}");
    Err(TextError { reason: "column-count", message })
}

pub(super) fn one_ascii(key: &'static str, text: &str) -> Result<u8, FormatError> {
    match text.as_bytes() {
        &[b] if b.is_ascii() && b != b'\n' && b != b'\r' => Ok(b),
        _ => Err(FormatError::new(key, format!("`{text}` is not one ASCII character"))),
    }
}

/// One record of CSV: RFC 4180, with a carriage return at the end allowed.
#[derive(Clone, Debug)]
pub struct Csv(Delimited);

impl Csv {
    pub fn new(delimiter: &str, quote: &str) -> Result<Csv, FormatError> {
        one_ascii("delimiter", delimiter)?;
        Delimited::new(delimiter, Some(quote)).map(Csv)
    }

    #[inline]
    pub fn split(&self, line: &str, columns: usize, out: &mut Pieces) -> Result<(), TextError> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.0.split(line.into(), columns, out).map_err(|e| match e.reason {
            "bad-quoting" => TextError { reason: "invalid-csv", ..e },
            _ => e,
        })
    }
}
