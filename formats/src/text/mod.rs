//! Lines of text to pieces: delimited, CSV, dissect, key=value, regex, grok, query strings. Each format is compiled once.

mod columns;
mod dissect;
mod escapes;
mod line;
mod linear;
mod marks;
mod pairs;
mod pattern;

use columns::{Csv, Delimited};
use dissect::Dissect;
pub use escapes::Escapes;
pub use line::Line;
use millrace_sdk::Type;
use pairs::Pairs;
use pattern::{Grok, Regex};
use std::collections::BTreeMap;
use std::ops::Range;

/// A stretch of text that a format found; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Not in the line.
    Missing,
    /// In the line itself.
    Here { start: u32, end: u32 },
    /// Decoded, in [`Pieces::fresh`].
    Fresh { start: u32, end: u32 },
}

impl Piece {
    #[inline]
    fn here(range: Range<usize>) -> Piece {
        Piece::Here { start: range.start as u32, end: range.end as u32 }
    }
}

/// What a line was split into; reused from line to line.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// One a field, in the order of [`TextFormat::fields`].
    pub values: Vec<Piece>,
    /// Texts that are not in the line as they are: unquoted, decoded, joined.
    pub fresh: String,
    /// All keys and values, for formats that were told to keep them.
    pub pairs: Vec<(Piece, Piece)>,
    /// Where a regular expression's groups are, kept for the next line.
    groups: Option<regex::CaptureLocations>,
    /// The same for lines of ASCII.
    ascii_groups: Option<regex::bytes::CaptureLocations>,
    /// Where groups begin and end, for patterns that need no automaton.
    slots: Vec<u32>,
    marks: marks::Marks,
}

impl Pieces {
    /// The text of a piece of `line`; None if it is missing.
    #[inline]
    pub fn text<'a>(&'a self, piece: Piece, line: &'a str) -> Option<&'a str> {
        match piece {
            Piece::Missing => None,
            Piece::Here { start, end } => line.get(start as usize..end as usize),
            Piece::Fresh { start, end } => self.fresh.get(start as usize..end as usize),
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.fresh.clear();
        self.pairs.clear();
    }

    /// The pieces of a line whose fields all lie in it, to be overwritten.
    #[inline]
    fn plain(&mut self, fields: usize) -> &mut [Piece] {
        if self.values.len() != fields {
            self.values.resize(fields, Piece::Missing);
        }
        &mut self.values
    }

    /// What was written to `fresh` since it was `begun` long.
    fn fresh_from(&self, begun: usize) -> Piece {
        Piece::Fresh { start: begun as u32, end: self.fresh.len() as u32 }
    }
}

/// Why a line does not fit its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// `column-count`, `invalid-csv`, `no-match` or `bad-quoting`.
    pub reason: &'static str,
    pub message: String,
}

/// What is wrong with a format's config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The config key that it is about.
    pub key: &'static str,
    pub message: String,
    /// Where in that key's text, bytes.
    pub range: Option<Range<usize>>,
    /// What probably should stand there.
    pub suggestion: Option<String>,
    /// The entry of that key's map that it is about.
    pub entry: Option<String>,
    /// What else is wrong.
    pub more: Vec<FormatError>,
}

impl FormatError {
    fn new(key: &'static str, message: impl Into<String>) -> FormatError {
        FormatError { key, message: message.into(), range: None, suggestion: None, entry: None, more: vec![] }
    }

    fn at(key: &'static str, range: Range<usize>, message: impl Into<String>) -> FormatError {
        FormatError { range: Some(range), ..FormatError::new(key, message) }
    }

    /// One error of several; None: there are none.
    fn all(errors: Vec<FormatError>) -> Option<FormatError> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        Some(FormatError { more: errors.collect(), ..first })
    }
}

/// A field that a format finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextField {
    pub name: String,
    /// Where the pattern itself says one.
    pub ty: Option<Type>,
}

impl TextField {
    fn new(name: impl Into<String>) -> TextField {
        TextField { name: name.into(), ty: None }
    }
}

/// A compiled format.
#[derive(Clone, Debug)]
pub struct TextFormat {
    fields: Vec<TextField>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Delimited(Delimited),
    Csv(Csv),
    Dissect(Dissect),
    Pairs(Pairs),
    Regex(Regex),
    Grok(Grok),
}

type Compiled = Result<TextFormat, FormatError>;

impl TextFormat {
    /// Columns between a delimiter of one or more characters. With `quote`, one ASCII character, a column that begins with it
    /// ends at the next one that is not doubled.
    pub fn delimiter(delimiter: &str, quote: Option<&str>, columns: Vec<String>) -> Compiled {
        let kind = Kind::Delimited(Delimited::new(delimiter, quote)?);
        Ok(TextFormat { fields: columns.into_iter().map(TextField::new).collect(), kind })
    }

    /// One record of CSV (RFC 4180).
    pub fn csv(delimiter: &str, quote: &str, columns: Vec<String>) -> Compiled {
        let kind = Kind::Csv(Csv::new(delimiter, quote)?);
        Ok(TextFormat { fields: columns.into_iter().map(TextField::new).collect(), kind })
    }

    /// Literal text with `%{name}` between.
    pub fn dissect(pattern: &str) -> Compiled {
        let (dissect, names) = Dissect::new(pattern)?;
        Ok(TextFormat { fields: names.into_iter().map(TextField::new).collect(), kind: Kind::Dissect(dissect) })
    }

    /// A regular expression with named groups.
    pub fn regex(pattern: &str) -> Compiled {
        let (regex, names) = Regex::new(pattern)?;
        Ok(TextFormat { fields: names.into_iter().map(TextField::new).collect(), kind: Kind::Regex(regex) })
    }

    /// `%{PATTERN:name:type}` with the usual library of patterns and `patterns` of one's own.
    pub fn grok(pattern: &str, patterns: &BTreeMap<String, String>) -> Compiled {
        let (grok, fields) = Grok::new(pattern, patterns)?;
        Ok(TextFormat { fields, kind: Kind::Grok(grok) })
    }

    /// `a=1 b="x y"`.
    pub fn key_value(pair: &str, key: &str, names: Vec<String>) -> Compiled {
        let kind = Kind::Pairs(Pairs::new(pair, key, false)?);
        Ok(TextFormat { fields: names.into_iter().map(TextField::new).collect(), kind })
    }

    /// `a=1&b=x%20y`.
    pub fn query_string(pair: &str, key: &str, names: Vec<String>) -> Compiled {
        let kind = Kind::Pairs(Pairs::new(pair, key, true)?);
        Ok(TextFormat { fields: names.into_iter().map(TextField::new).collect(), kind })
    }

    pub fn fields(&self) -> &[TextField] {
        &self.fields
    }

    /// Which keys to look for, and whether to keep all pairs; for formats whose lines bring their own keys.
    pub fn look_for(&mut self, names: Vec<String>, keep_pairs: bool) {
        self.fields = names.into_iter().map(TextField::new).collect();
        if let Kind::Pairs(p) = &mut self.kind {
            p.keep = keep_pairs;
        }
    }

    /// Whether every piece of every line lies in it, and there are no pairs.
    pub fn is_plain(&self) -> bool {
        match &self.kind {
            Kind::Delimited(d) => d.is_plain(),
            Kind::Dissect(d) => d.is_plain(),
            Kind::Regex(_) | Kind::Grok(_) => true,
            Kind::Csv(_) | Kind::Pairs(_) => false,
        }
    }

    /// As [`split`](Self::split) of a plain format, into as many pieces as there are fields.
    ///
    /// # Errors
    /// The line does not fit the format.
    #[inline]
    pub fn split_plain(&self, line: Line<'_>, pieces: &mut [Piece], room: &mut Pieces) -> Result<(), TextError> {
        match &self.kind {
            Kind::Delimited(d) if d.is_plain() => d.split_plain(line, pieces, &mut room.marks),
            Kind::Dissect(d) if d.is_plain() => d.split_plain(line, pieces, &mut room.marks),
            _ => {
                self.split(line, room)?;
                pieces.copy_from_slice(&room.values);
                Ok(())
            }
        }
    }

    /// An ASCII character that is in no piece that lies in a line.
    pub fn apart(&self) -> Option<u8> {
        if let Kind::Delimited(d) = &self.kind { d.apart() } else { None }
    }

    /// Characters that JSON escapes which every line has between its pieces, if the format is plain.
    pub fn escapes_between(&self) -> usize {
        match &self.kind {
            Kind::Dissect(d) if d.is_plain() => d.escapes(),
            _ => 0,
        }
    }

    /// Splits a line into one piece a field.
    ///
    /// # Errors
    /// The line does not fit the format.
    #[inline]
    pub fn split(&self, line: Line<'_>, out: &mut Pieces) -> Result<(), TextError> {
        out.clear();
        match &self.kind {
            Kind::Delimited(d) => d.split(line, self.fields.len(), out),
            Kind::Csv(c) => c.split(line.str(), self.fields.len(), out),
            Kind::Dissect(d) => d.split(line, self.fields.len(), out),
            Kind::Pairs(p) => p.split(line.str(), &self.fields, out),
            Kind::Regex(r) => r.split(line, out),
            Kind::Grok(g) => g.split(line.str(), &self.fields, out),
        }
    }
}

#[cfg(test)]
mod tests;
