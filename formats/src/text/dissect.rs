//! Literal text with fields between: one search for each literal, left to right.

use super::line::{Line, NOWHERE, Needle};
use super::marks::{BYTES, Marks, able};
use super::{FormatError, Piece, Pieces, TextError};
use millrace_sdk::json::clean;

#[derive(Clone, Debug)]
pub struct Dissect {
    prefix: String,
    parts: Vec<Part>,
    names: usize,
    /// No field is appended to another, no text is repeated: the fields come in their order.
    plain: bool,
    /// The first bytes of the literals, if they are few and the processor can look for all of them at once; see [`Marks`].
    firsts: Option<Box<[u8]>>,
}

/// A field and the literal text behind it.
#[derive(Clone, Debug)]
struct Part {
    /// Index of the field; None: passed over.
    field: Option<usize>,
    append: bool,
    /// Repetitions of what follows belong to the separator.
    padded: bool,
    behind: Needle,
    /// Index of the literal's first byte in [`Dissect::firsts`].
    first: usize,
}

impl Dissect {
    /// The pattern, and its fields in the order of their first appearance.
    pub fn new(pattern: &str) -> Result<(Dissect, Vec<String>), FormatError> {
        let bad = |message: String, start: usize, end: usize| {
            Err(FormatError { range: Some(start..end), ..FormatError::new("pattern", message) })
        };
        let (mut names, mut parts): (Vec<String>, Vec<Part>) = (vec![], vec![]);
        let Some(first) = pattern.find("%{") else {
            return bad("the pattern has no field: write one as `%{name}`".into(), 0, pattern.len());
        };
        let mut at = first;
        while at < pattern.len() {
            let Some(close) = pattern[at..].find('}').map(|n| at + n) else {
                return bad("`%{` is never closed".into(), at, pattern.len());
            };
            let end = pattern[close..].find("%{").map_or(pattern.len(), |n| close + n);
            let behind = &pattern[close + 1..end];
            let key = &pattern[at + 2..close];
            if behind.is_empty() && end < pattern.len() {
                return bad("there is no text between two fields".into(), at, (end + 2).min(pattern.len()));
            }
            let (key, padded) = key.strip_suffix("->").map_or((key, false), |k| (k, true));
            if padded && behind.is_empty() {
                return bad("`->` has no text behind it to pass over".into(), at, close + 1);
            }
            let (name, append) = key.strip_prefix('+').map_or((key, false), |k| (k, true));
            if name.starts_with(['*', '&']) || name.contains('/') {
                return bad(
                    format!("`%{{{key}}}` is not supported: fields are `%{{name}}`, `%{{?name}}`, `%{{+name}}`, `%{{name->}}`"),
                    at,
                    close + 1,
                );
            }
            let known = names.iter().position(|n| n == name);
            let field = match known {
                _ if name.is_empty() || name.starts_with('?') => None,
                Some(_) if !append => return bad(format!("`{name}` is there twice: append with `%{{+{name}}}`"), at, close + 1),
                Some(i) => Some(i),
                None => {
                    names.push(name.to_string());
                    Some(names.len() - 1)
                }
            };
            parts.push(Part { field, append: append && known.is_some(), padded, behind: Needle::new(behind), first: 0 });
            at = end;
        }
        if names.is_empty() {
            return bad("no field of the pattern has a name".into(), 0, pattern.len());
        }
        let plain = !parts.iter().any(|p| p.append || p.padded);
        let firsts = firsts(&mut parts).filter(|_| plain);
        Ok((Dissect { prefix: pattern[..first].into(), parts, names: names.len(), plain, firsts }, names))
    }

    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Characters that JSON escapes in the text between the fields.
    pub fn escapes(&self) -> usize {
        let literals = self.parts.iter().map(|p| p.behind.str());
        literals.chain([&*self.prefix]).map(|t| t.bytes().filter(|c| !clean(&[*c])).count()).sum()
    }

    pub fn split(&self, line: Line<'_>, fields: usize, out: &mut Pieces) -> Result<(), TextError> {
        if self.plain {
            let mut marks = std::mem::take(&mut out.marks);
            let done = self.split_plain(line, out.plain(fields), &mut marks);
            out.marks = marks;
            return done;
        }
        if !line.str().starts_with(&self.prefix) {
            return missing(&self.prefix, 0);
        }
        self.split_any(line, out)
    }

    /// Fills the fields of a plain pattern.
    #[inline]
    pub fn split_plain(&self, line: Line<'_>, fields: &mut [Piece], marks: &mut Marks) -> Result<(), TextError> {
        #[cfg(target_arch = "x86_64")]
        if let Some(firsts) = &self.firsts
            // SAFETY: there are first bytes only if the processor has what it takes.
            && unsafe { self.split_marked(line, fields, firsts, marks) }
        {
            return Ok(());
        }
        self.split_searched(line, fields)
    }

    /// As [`split_plain`](Self::split_plain), after one look at the line for all first bytes of literals; false: the line is too long for
    /// that, or does not fit the pattern.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn split_marked(&self, line: Line<'_>, fields: &mut [Piece], firsts: &[u8], marks: &mut Marks) -> bool {
        let (all, begin, end) = line.place();
        let Some((last, parts)) = self.parts.split_last() else { return false };
        let prefixed = self.prefix.is_empty() || line.str().starts_with(&*self.prefix);
        if !prefixed || !marks.look(firsts, all, begin, end) {
            return false;
        }
        let (mut at, len) = (self.prefix.len(), end - begin);
        let mut fields = fields.iter_mut();
        for part in parts {
            let Some(place) = marks.first(part.first, at, |place| part.behind.begins(all, begin + place)) else { return false };
            if part.field.is_some()
                && let Some(field) = fields.next()
            {
                *field = Piece::here(at..place);
            }
            at = place + part.behind.str().len();
            if at > len {
                return false;
            }
        }
        let behind = last.behind.str();
        if !behind.is_empty() && !all[begin + at..end].ends_with(behind.as_bytes()) {
            return false;
        }
        if last.field.is_some()
            && let Some(field) = fields.next()
        {
            *field = Piece::here(at..len - behind.len());
        }
        true
    }

    // Not inlined: its loop needs the registers.
    #[inline(never)]
    fn split_searched(&self, line: Line<'_>, fields: &mut [Piece]) -> Result<(), TextError> {
        let (all, begin, end) = line.place();
        if !line.str().starts_with(&self.prefix) {
            return missing(&self.prefix, 0);
        }
        let mut at = begin + self.prefix.len();
        let Some((last, parts)) = self.parts.split_last() else { return Ok(()) };
        let mut next = 0;
        let mut found = |from: usize, to: usize| {
            if let Some(field) = fields.get_mut(next) {
                *field = Piece::here(from - begin..to - begin);
            }
            next += 1;
        };
        for part in parts {
            let place = part.behind.place(all, at, end);
            if place == NOWHERE {
                return missing(part.behind.str(), at - begin);
            }
            if part.field.is_some() {
                found(at, place);
            }
            at = place + part.behind.str().len();
        }
        let Some(text) = all[at..end].strip_suffix(last.behind.str().as_bytes()) else {
            return missing(last.behind.str(), at - begin);
        };
        if last.field.is_some() {
            found(at, at + text.len());
        }
        Ok(())
    }

    fn split_any(&self, whole: Line<'_>, out: &mut Pieces) -> Result<(), TextError> {
        let line = whole.str();
        let text = line.as_bytes();
        out.values.resize(self.names, Piece::Missing);
        let mut p = self.prefix.len();
        let mut before = 0;
        for (i, part) in self.parts.iter().enumerate() {
            let literal = part.behind.str().as_bytes();
            let last = i + 1 == self.parts.len();
            // The text behind the last field ends the line; the field takes what is before.
            let end = match literal {
                [] => text.len(),
                _ if last && text[p..].ends_with(literal) => text.len() - literal.len(),
                _ if last => return missing(part.behind.str(), p),
                _ => match part.behind.find(whole, p) {
                    Some(at) => at,
                    None => return missing(part.behind.str(), p),
                },
            };
            let mut end_of_field = end;
            let mut next = end + literal.len();
            if part.padded {
                if last {
                    while text[p..end_of_field].ends_with(literal) {
                        end_of_field -= literal.len();
                    }
                }
                while text[next..].starts_with(literal) {
                    next += literal.len();
                }
            }
            if let Some(field) = part.field {
                out.values[field] = match (out.values[field], part.append) {
                    // Right behind each other but for the text between: one stretch of the line.
                    (Piece::Here { start, end }, true) if end as usize + before == p => Piece::here(start as usize..end_of_field),
                    (first, true) => {
                        let begun = out.fresh.len();
                        let first = out.text(first, line).unwrap_or("").to_string();
                        out.fresh.push_str(&first);
                        out.fresh.push_str(self.parts[i - 1].behind.str());
                        out.fresh.push_str(&line[p..end_of_field]);
                        out.fresh_from(begun)
                    }
                    (_, false) => Piece::here(p..end_of_field),
                };
            }
            before = next - end_of_field;
            p = next;
        }
        Ok(())
    }
}

/// The different first bytes of the literals, each literal being told its own one's index; None where they are too many, or the
/// processor cannot look for all of them at once.
fn firsts(parts: &mut [Part]) -> Option<Box<[u8]>> {
    let mut firsts = vec![];
    // The text behind the last field is not searched.
    let (_, searched) = parts.split_last_mut()?;
    for part in searched {
        let first = *part.behind.str().as_bytes().first()?;
        part.first = firsts.iter().position(|f| *f == first).unwrap_or_else(|| {
            firsts.push(first);
            firsts.len() - 1
        });
    }
    (able() && firsts.len() <= BYTES).then(|| firsts.into())
}

#[cold]
fn missing(literal: &str, at: usize) -> Result<(), TextError> {
    let message = format!("expected `{}` at or after byte {}", literal.escape_debug(), at + 1);
    Err(TextError { reason: "no-match", message })
}
