//! A tree of YAML with the bytes that each node stands at.

use crate::diagnostic::Report;
use crate::scalar;
use crate::source::Span;
use saphyr_parser::ScalarStyle;

#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Null,
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
    /// Something whose problem has been told already; it fits everywhere.
    Bad,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub struct Scalar {
    /// Variables replaced.
    pub text: String,
    /// Without quotes: may be a number or a boolean.
    pub plain: bool,
    /// In quotes, and nothing but one variable: it may be a number or a boolean where a text is not wanted.
    pub variable: bool,
    pub(crate) style: ScalarStyle,
    /// Where variables were replaced: start in `text`, start and end in the text as parsed.
    pub(crate) pieces: Vec<scalar::Piece>,
    pub(crate) outside: bool,
    /// Of the value of a fragment's parameter: where it was given.
    pub argument: Option<Span>,
}

impl Scalar {
    /// The value of a parameter in the place of this text, which is nothing but its name.
    pub fn instead(&self, value: &Scalar, at: Span) -> Scalar {
        let whole = scalar::Piece { new: 0..value.text.len(), old: 0..self.text.len() };
        let variable = value.variable || !self.plain;
        Scalar { variable, style: self.style, pieces: vec![whole], argument: Some(at), ..value.clone() }
    }

    /// Whether a variable stands in it.
    pub fn from_outside(&self) -> bool {
        self.outside
    }
}

impl Node {
    pub fn null(span: Span) -> Node {
        Node { span, content: Content::Null }
    }

    /// A text that stands without quotes.
    pub fn plain(text: String, span: Span) -> Node {
        let style = ScalarStyle::Plain;
        Node {
            span,
            content: Content::Scalar(Scalar { text, plain: true, variable: false, style, pieces: vec![], outside: false, argument: None }),
        }
    }

    /// A text that nobody wrote.
    pub fn word(text: String, span: Span) -> Node {
        let style = ScalarStyle::DoubleQuoted;
        Node {
            span,
            content: Content::Scalar(Scalar { text, plain: false, variable: false, style, pieces: vec![], outside: false, argument: None }),
        }
    }

    pub fn bad(span: Span) -> Node {
        Node { span, content: Content::Bad }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(m) => m,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::Seq(s) => s,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// By its name in the language; the original's spelling (`timeCharacteristic`) is found too.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        let entries = self.entries();
        entries.iter().find(|e| e.key == key).or_else(|| entries.iter().find(|e| snake_case(&e.key) == key))
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(s) => Some(&s.text),
            _ => None,
        }
    }

    pub fn is_bad(&self) -> bool {
        matches!(self.content, Content::Bad)
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null | Content::Bad => "nothing",
            Content::Seq(_) => "a list",
            Content::Map(_) => "a map",
            Content::Scalar(s) => match scalar::resolve(s) {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a number",
                _ => "a text",
            },
        }
    }

    /// The bytes in the source of a range of a scalar's text.
    pub fn within(&self, report: &Report, range: std::ops::Range<usize>) -> Span {
        let Content::Scalar(s) = &self.content else { return self.span };
        let source = report.sources.text(self.span.src);
        let map = scalar::positions(source, self.span, s.style);
        let last = map.len().saturating_sub(1);
        let at = |offset: usize, end: bool| {
            let parsed = scalar::before_replacing(&s.pieces, offset, end);
            map.get(parsed.min(last)).copied()
        };
        match (at(range.start, false), at(range.end.max(range.start), true)) {
            (Some(start), Some(end)) if start <= end => {
                // The end of a range lies behind its last character, not before the next (an escape may stand between).
                let start = start.min(source.len());
                let end = if range.end > range.start && !source.is_char_boundary(end) { self.span.end } else { end };
                Span::new(self.span.src, start..end.max(start))
            }
            _ => self.span,
        }
    }
}

/// `maxOutOfOrderness` -> `max_out_of_orderness`; `KeyBy` -> `key_by`, `HBase` -> `hbase`.
pub fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let after_lower = i > 0 && (chars[i - 1].is_ascii_lowercase() || chars[i - 1].is_ascii_digit());
            let before_lower = i > 1 && chars[i - 1].is_ascii_uppercase() && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            if after_lower || before_lower {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

pub(crate) fn count(node: &Node) -> usize {
    match &node.content {
        Content::Seq(s) => 1 + s.iter().map(count).sum::<usize>(),
        Content::Map(m) => 1 + m.iter().map(|e| count(&e.value)).sum::<usize>(),
        _ => 1,
    }
}
