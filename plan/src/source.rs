//! The texts that a topology is made of, and places in them.

use std::ops::Range;

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

/// One text: the topology file, or the value of a `--set`.
pub struct Source {
    /// What messages call it: the path as it was given.
    pub name: String,
    pub text: String,
    line_starts: Vec<usize>,
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
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        self.list.push(Source { name: name.into(), text, line_starts });
        (self.list.len() - 1) as u32
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
        self.holes.push(span);
    }

    /// Whether something that is missing from the map or list at this place may have stood in what was taken out.
    pub fn has_hole(&self, span: Span) -> bool {
        self.holes.contains(&span)
    }

    pub fn hide(&mut self, span: Span) {
        self.secrets.push(span);
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
