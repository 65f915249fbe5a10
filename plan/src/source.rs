//! The texts that a topology is made of, and places in them.

use std::ops::Range;
use std::sync::Arc;

/// Bytes `start..end` of one of the [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    pub src: u32,
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(src: u32, range: Range<usize>) -> Span {
        Span { src, start: range.start, end: range.end }
    }

    /// From the start of this one to the end of the other.
    pub fn to(self, end: Span) -> Span {
        Span { end: end.end.max(self.start), ..self }
    }

    pub fn overlaps(&self, other: &Span) -> bool {
        self.src == other.src && self.start < other.end && other.start < self.end
    }
}

/// One text: the topology file, an included one, or the value of a `--set`.
pub struct Source {
    /// What messages call it: the path as it was given.
    pub name: String,
    pub text: Arc<str>,
    line_starts: Arc<[usize]>,
    /// Of a text that is looked at as it is used in one place (a fragment, defaults): the text itself, and that place.
    used: Option<(u32, Span)>,
}

#[derive(Default)]
pub struct Sources {
    list: Vec<Source>,
    /// Values that must not be shown.
    secrets: Vec<Span>,
    /// Maps and lists that something was taken out of, as it was no YAML.
    holes: Vec<Span>,
}

impl Sources {
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        let text: Arc<str> = text.into().into();
        let line_starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        self.list.push(Source { name: name.into(), text, line_starts, used: None });
        (self.list.len() - 1) as u32
    }

    /// The same text once more, so that places in it are told apart by where it is used.
    pub fn view(&mut self, src: u32, used: Span) -> u32 {
        let base = self.base(src);
        let Some(s) = self.list.get(base as usize) else { return src };
        let view = Source { name: s.name.clone(), text: s.text.clone(), line_starts: s.line_starts.clone(), used: Some((base, used)) };
        self.list.push(view);
        (self.list.len() - 1) as u32
    }

    /// The text itself.
    pub fn base(&self, src: u32) -> u32 {
        self.list.get(src as usize).and_then(|s| s.used).map_or(src, |(base, _)| base)
    }

    /// A place in the text itself.
    pub fn bare(&self, span: Span) -> Span {
        Span { src: self.base(span.src), ..span }
    }

    /// Where the text is used that a place lies in.
    pub fn used(&self, span: Span) -> Option<Span> {
        self.list.get(span.src as usize)?.used.map(|(_, at)| at)
    }

    /// Texts in the order of their numbers.
    pub fn count(&self) -> u32 {
        self.list.len() as u32
    }

    pub fn name(&self, src: u32) -> &str {
        self.list.get(src as usize).map_or("", |s| &s.name)
    }

    pub fn text(&self, src: u32) -> &str {
        self.list.get(src as usize).map_or("", |s| &s.text)
    }

    pub fn slice(&self, span: Span) -> &str {
        self.text(span.src).get(span.start..span.end).unwrap_or("")
    }

    /// Something was taken out of the map or list at this place.
    pub fn hole(&mut self, span: Span) {
        self.holes.push(self.bare(span));
    }

    /// Whether something that is missing from the map or list at this place may have stood in what was taken out.
    pub fn has_hole(&self, span: Span) -> bool {
        !self.holes.is_empty() && self.holes.contains(&self.bare(span))
    }

    pub fn hide(&mut self, span: Span) {
        self.secrets.push(self.bare(span));
    }

    /// Whether something at this place must not be shown.
    pub fn is_secret(&self, span: Span) -> bool {
        self.secrets.iter().any(|s| s.overlaps(&span) || *s == span)
    }

    /// Line and column, both from 1; columns count characters.
    pub fn line_column(&self, src: u32, offset: usize) -> (usize, usize) {
        let Some(source) = self.list.get(src as usize) else { return (1, 1) };
        let offset = offset.min(source.text.len());
        let line = source.line_starts.partition_point(|&s| s <= offset).max(1);
        let before = &source.text.as_bytes()[source.line_starts[line - 1]..offset];
        let column = before.iter().filter(|b| (**b & 0xC0) != 0x80).count() + 1;
        (line, column)
    }

    /// A line without its newline, from 1; what is secret in it is starred out.
    pub fn line(&self, src: u32, line: usize) -> String {
        let src = self.base(src);
        let Some(source) = self.list.get(src as usize) else { return String::new() };
        let Some(&start) = source.line_starts.get(line.wrapping_sub(1)) else { return String::new() };
        let end = source.line_starts.get(line).map_or(source.text.len(), |e| e - 1);
        let text = source.text[start..end].trim_end_matches('\r');
        if !self.secrets.iter().any(|s| s.src == src && s.start < end && s.end > start) {
            return text.to_string();
        }
        let hidden = |at: usize| self.secrets.iter().any(|s| s.src == src && s.start <= at && at < s.end);
        text.char_indices().map(|(i, c)| if hidden(start + i) { '*' } else { c }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let mut s = Sources::default();
        let f = s.add("f", "aé: x\nb\r\n");
        assert_eq!(s.line_column(f, 0), (1, 1));
        assert_eq!(s.line_column(f, 3), (1, 3));
        assert_eq!(s.line_column(f, 7), (2, 1));
        assert_eq!(s.line_column(f, 900), (3, 1));
        assert_eq!(s.line(f, 2), "b");
        assert_eq!(s.line(f, 9), "");
    }

    #[test]
    fn secrets_are_starred() {
        let mut s = Sources::default();
        let f = s.add("f", "p: hunter2 # é\n");
        s.hide(Span::new(f, 3..10));
        assert_eq!(s.line(f, 1), "p: ******* # é");
    }
}
