//! A text in an editor: the protocol counts lines from 0 and columns in UTF-16 units.

use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};

pub struct Text {
    text: String,
    starts: Vec<usize>,
}

impl Text {
    pub fn new(text: String) -> Text {
        let starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        Text { text, starts }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn line(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line).copied().unwrap_or(self.text.len());
        start..self.starts.get(line + 1).map_or(self.text.len(), |e| e - 1)
    }

    /// The byte of a position; one behind the end of a line is its end.
    pub fn offset(&self, position: &Value) -> usize {
        let number = |key: &str| position[key].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let line = self.line(number("line"));
        let mut left = number("character");
        let mut at = line.start;
        for c in self.text[line].chars() {
            if left < c.len_utf16() {
                break;
            }
            left -= c.len_utf16();
            at += c.len_utf8();
        }
        at
    }

    fn position(&self, at: usize) -> Value {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|s| *s <= at).saturating_sub(1);
        let column: usize = self.text[self.starts[line]..at].chars().map(char::len_utf16).sum();
        json!({"line": line, "character": column})
    }

    pub fn range(&self, span: &Range<usize>) -> Value {
        json!({"start": self.position(span.start), "end": self.position(span.end)})
    }

    /// The bytes between two places of a diagnostic: lines and columns from 1, columns in characters.
    pub fn span(&self, line: usize, column: usize, end_line: usize, end_column: usize) -> Range<usize> {
        // Lint does not count a byte order mark.
        let mark = usize::from(self.text.starts_with('\u{feff}'));
        let byte = |line: usize, column: usize| {
            let range = self.line(line.saturating_sub(1));
            let skip = column.saturating_sub(1) + if line == 1 { mark } else { 0 };
            let text = &self.text[range.clone()];
            range.start + text.char_indices().nth(skip).map_or(text.len(), |(i, _)| i)
        };
        let start = byte(line, column);
        start..byte(end_line, end_column).max(start)
    }

    /// A change as the protocol tells it: of a range, or of all.
    pub fn change(&mut self, change: &Value) {
        let Some(new) = change["text"].as_str() else { return };
        if !change["range"].is_object() {
            *self = Text::new(new.to_string());
            return;
        }
        let (start, end) = (self.offset(&change["range"]["start"]), self.offset(&change["range"]["end"]));
        let mut text = std::mem::take(&mut self.text);
        text.replace_range(start..end.max(start), new);
        *self = Text::new(text);
    }
}

/// The path of a `file:` URI; of another one the URI itself.
pub fn path(uri: &str) -> PathBuf {
    let Some(rest) = uri.strip_prefix("file://") else { return PathBuf::from(uri) };
    let (mut out, bytes, mut i) = (vec![], rest.as_bytes(), 0);
    while i < bytes.len() {
        let code = (bytes[i] == b'%').then(|| rest.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
        out.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 3 } else { 1 };
    }
    PathBuf::from(String::from_utf8_lossy(&out).into_owned())
}

/// The `file:` URI of a path.
pub fn uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    let text: String =
        path.to_string_lossy().bytes().map(|b| if kept(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect();
    format!("file://{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_utf16() {
        let mut t = Text::new("a𝄞é: x\nb\n".into());
        assert_eq!(t.offset(&json!({"line": 0, "character": 3})), 5);
        assert_eq!(t.range(&(5..7)), json!({"start": {"line": 0, "character": 3}, "end": {"line": 0, "character": 4}}));
        assert_eq!(t.offset(&json!({"line": 0, "character": 99})), 10);
        assert_eq!(t.offset(&json!({"line": 9, "character": 0})), 13);
        assert_eq!(t.span(1, 3, 1, 4), 5..7);
        t.change(&json!({"range": {"start": {"line": 0, "character": 3}, "end": {"line": 1, "character": 0}}, "text": "z"}));
        assert_eq!(t.as_str(), "a𝄞zb\n");
        t.change(&json!({"text": "new"}));
        assert_eq!(t.as_str(), "new");
    }

    #[test]
    fn paths_and_uris() {
        assert_eq!(path("file:///a%20b/%C3%A9.yaml"), PathBuf::from("/a b/é.yaml"));
        assert_eq!(uri(Path::new("/a b/é.yaml")), "file:///a%20b/%C3%A9.yaml");
        assert_eq!(path("untitled:1"), PathBuf::from("untitled:1"));
    }
}
