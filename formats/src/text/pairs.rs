//! Pairs of keys and values: `a=1 b="x y"`, and query strings with their escapes.

use super::{FormatError, Piece, Pieces, TextError, TextField};
use memchr::memmem::Finder;
use millrace_sdk::json::split_pairs;
use percent_encoding::percent_decode_str;

#[derive(Clone, Debug)]
pub struct Pairs {
    pair: Finder<'static>,
    key: Finder<'static>,
    /// Query strings: percent escapes and `+`, no quotes.
    query: bool,
    /// Keep all pairs, not only those looked for.
    pub keep: bool,
}

impl Pairs {
    pub fn new(pair: &str, key: &str, query: bool) -> Result<Pairs, FormatError> {
        if pair.is_empty() {
            return Err(FormatError::new("pair_separator", "the separator is empty"));
        }
        if key.is_empty() {
            return Err(FormatError::new("key_separator", "the separator is empty"));
        }
        if pair == key {
            return Err(FormatError::new("key_separator", "pairs and keys have the same separator"));
        }
        if pair.contains('"') || key.contains('"') {
            return Err(FormatError::new("pair_separator", "a separator cannot hold a double quote"));
        }
        Ok(Pairs { pair: Finder::new(pair).into_owned(), key: Finder::new(key).into_owned(), query, keep: false })
    }

    pub fn split(&self, line: &str, fields: &[TextField], out: &mut Pieces) -> Result<(), TextError> {
        out.values.resize(fields.len(), Piece::Missing);
        let mut text = line;
        if self.query
            && let Some(mark) = line.find(['?', '=', '&'])
            && line.as_bytes()[mark] == b'?'
        {
            // A whole URL: neither what comes before `?` nor the fragment belongs to the query.
            text = &line[..line.find('#').unwrap_or(line.len()).max(mark + 1)];
            return self.pairs(text, mark + 1, fields, out);
        }
        if let (&[pair], &[key]) = (self.pair.needle(), self.key.needle())
            && (self.query || memchr::memchr(b'"', text.as_bytes()).is_none())
        {
            let mut outcome = Ok(());
            split_pairs(text.as_bytes(), pair, key, |start, middle, end| {
                if outcome.is_ok() {
                    outcome = self.put(line, start..middle, (middle + 1).min(end)..end, fields, out);
                }
            });
            return outcome;
        }
        text = line;
        self.pairs(text, 0, fields, out)
    }

    /// The general case: separators of any length, quoted values.
    fn pairs(&self, line: &str, mut p: usize, fields: &[TextField], out: &mut Pieces) -> Result<(), TextError> {
        let text = line.as_bytes();
        let (pair, key) = (self.pair.needle(), self.key.needle());
        while p < text.len() {
            if text[p..].starts_with(pair) {
                p += pair.len();
                continue;
            }
            let end = self.pair.find(&text[p..]).map_or(text.len(), |n| p + n);
            let Some(middle) = self.key.find(&text[p..end]).map(|n| p + n) else {
                self.put(line, p..end, end..end, fields, out)?;
                p = end;
                continue;
            };
            let value = middle + key.len();
            if self.query || text.get(value) != Some(&b'"') {
                self.put(line, p..middle, value..end, fields, out)?;
                p = end;
                continue;
            }
            let Some((close, escaped)) = closing(text, value + 1) else {
                let message = format!("the quote at byte {} is never closed", value + 1);
                return Err(TextError { reason: "bad-quoting", message });
            };
            if close + 1 < text.len() && !text[close + 1..].starts_with(pair) {
                let message = format!("expected the separator of pairs after the closing quote at byte {}", close + 1);
                return Err(TextError { reason: "bad-quoting", message });
            }
            let quoted = if escaped { unescape(&line[value + 1..close], out) } else { Piece::here(value + 1..close) };
            self.store(line, Piece::here(p..middle), quoted, fields, out);
            p = close + 1;
        }
        Ok(())
    }

    #[inline]
    fn put(
        &self,
        line: &str,
        key: std::ops::Range<usize>,
        value: std::ops::Range<usize>,
        fields: &[TextField],
        out: &mut Pieces,
    ) -> Result<(), TextError> {
        if self.query {
            let key = decode(line, key, out)?;
            let value = decode(line, value, out)?;
            self.store(line, key, value, fields, out);
        } else {
            self.store(line, Piece::here(key), Piece::here(value), fields, out);
        }
        Ok(())
    }

    #[inline]
    fn store(&self, line: &str, key: Piece, value: Piece, fields: &[TextField], out: &mut Pieces) {
        let name = out.text(key, line).unwrap_or("");
        if let Some(i) = fields.iter().position(|f| f.name == name) {
            out.values[i] = value;
        }
        if self.keep {
            out.pairs.push((key, value));
        }
    }
}

/// The quote that closes what begins at `p`, and whether there are escapes before it.
fn closing(text: &[u8], mut p: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        p += memchr::memchr2(b'"', b'\\', text.get(p..)?)?;
        if text[p] == b'"' {
            return Some((p, escaped));
        }
        escaped = true;
        p += 2;
    }
}

/// `\"` and `\\` without their backslash; other backslashes stay.
fn unescape(text: &str, out: &mut Pieces) -> Piece {
    let begun = out.fresh.len();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next_if(|n| matches!(n, '"' | '\\')) } else { None };
        out.fresh.push(escaped.unwrap_or(c));
    }
    out.fresh_from(begun)
}

/// A piece of a query string without its escapes.
fn decode(line: &str, range: std::ops::Range<usize>, out: &mut Pieces) -> Result<Piece, TextError> {
    let text = &line[range.clone()];
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Ok(Piece::here(range));
    }
    let begun = out.fresh.len();
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| TextError { reason: "invalid-utf8", message: format!("the escapes at byte {} are no UTF-8", range.start + 1) })?;
    out.fresh.push_str(&decoded);
    Ok(out.fresh_from(begun))
}
