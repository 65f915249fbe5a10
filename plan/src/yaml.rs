//! YAML text -> tree of nodes with byte ranges, composed from the parser's events so that every problem is told.

use crate::diagnostic::{Found, Report};
use crate::scalar;
use crate::source::Span;
use crate::vars::Vars;
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::{HashMap, HashSet};

/// Nodes in a tree, aliases expanded; more is an alias bomb.
const MAX_NODES: usize = 100_000;
/// Collections within collections.
const MAX_DEPTH: usize = 100;
/// Syntax errors told of one text.
const MAX_REPAIRS: usize = 20;

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
    style: ScalarStyle,
    /// Where variables were replaced: start in `text`, start and end in the text as parsed.
    pieces: Vec<scalar::Piece>,
}

impl Node {
    pub fn null(span: Span) -> Node {
        Node { span, content: Content::Null }
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

/// Reads a text. Where it is not YAML, the smallest stretch that is to blame is taken out and the rest read on.
pub fn parse(report: &mut Report, src: u32, vars: &mut Vars) -> Node {
    let original = report.sources.text(src).to_string();
    let mut text = original.clone();
    let mut damaged: Vec<Span> = Vec::new();
    for _ in 0..MAX_REPAIRS {
        let mut composer = Composer::new(report, src, vars, &text, &damaged);
        match composer.run() {
            Ok(root) => {
                let found = composer.found;
                report.found.extend(found);
                return root;
            }
            Err((at, info)) => {
                let open = composer.open_bracket().or_else(|| open_in_line_before(&text, at));
                let (mut problem, mut blank) = syntax_problem(src, &text, at, &info);
                if let Some(open) = open.filter(|o| problem.id == "syntax" && text[*o..at.max(*o)].contains('\n')) {
                    // The bracket that was never closed is to blame, not the line that shows it.
                    let end = text[open..].find('\n').map_or(text.len(), |i| open + i);
                    let bracket = Span::new(src, open..open + 1);
                    problem = if indent_at(&text, at) <= indent_at(&text, open) {
                        let message = format!("the bracket `{}` is not closed", &text[open..open + 1]);
                        Found::error("syntax", bracket, message).second(problem.span, "this cannot stand inside it")
                    } else {
                        problem.second(bracket, "inside this bracket, which is not closed before")
                    };
                    blank = open..end;
                }
                report.push(problem);
                report.damaged = true;
                let before = text.clone();
                blank_out(&mut text, blank.clone());
                damaged.push(Span::new(src, blank));
                if text == before {
                    break;
                }
            }
        }
    }
    Node::bad(Span::new(src, 0..original.len()))
}

/// Spaces before the line that a place is in.
fn indent_at(text: &str, at: usize) -> usize {
    let line = &text[text[..at.min(text.len())].rfind('\n').map_or(0, |i| i + 1)..];
    line.len() - line.trim_start_matches(' ').len()
}

/// A bracket that is still open at the end of the last line before `at` that has text: the parser reads ahead of what it tells.
fn open_in_line_before(text: &str, at: usize) -> Option<usize> {
    let line_start = text[..at.min(text.len())].rfind('\n')?;
    let before = text[..line_start].trim_end();
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let (mut open, mut quote) = (vec![], None);
    for (i, c) in before[start..].char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '[' | '{') => open.push(start + i),
            (None, ']' | '}') => drop(open.pop()),
            _ => {}
        }
    }
    open.first().copied().filter(|_| quote.is_none())
}

/// Spaces in place of everything but line ends.
fn blank_out(text: &mut String, range: std::ops::Range<usize>) {
    let blank: String = text[range.clone()].bytes().map(|b| if b == b'\n' || b == b'\r' { b as char } else { ' ' }).collect();
    text.replace_range(range, &blank);
}

/// A syntax error in words, and what must go so that the rest can be read.
fn syntax_problem(src: u32, text: &str, at: usize, info: &str) -> (Found, std::ops::Range<usize>) {
    let at = at.min(text.len());
    let mut line_start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    // At the start of a line or at the end of the text the culprit is what stands before.
    if text[line_start..].lines().next().is_none_or(|l| l.trim().is_empty()) {
        let end = text[..at].trim_end().len();
        line_start = text[..end].rfind('\n').map_or(0, |i| i + 1);
    }
    let line_end = text[line_start..].find('\n').map_or(text.len(), |i| line_start + i);
    let line = &text[line_start..line_end];
    let indent = line.len() - line.trim_start().len();
    let value = value_start(line).map(|v| line_start + v);
    let rest = |from: usize| from..line_end.max(from);
    let next = text[at..].chars().next().map_or(0, char::len_utf8);
    let point = Span::new(src, at..at + next);

    let leading: &str = &line[..indent];
    if let Some(tab) = leading.find('\t') {
        let span = Span::new(src, line_start + tab..line_start + indent);
        return (Found::error("tab", span, "a tab in the indentation").hint("indent with spaces"), rest(line_start));
    }
    if let Some(v) = value.filter(|v| text[*v..line_end].starts_with("{{")) {
        return (unquoted_template(src, text, v..line_end), rest(v));
    }
    if let Some(dollar) = line.find("${").filter(|_| info.contains("flow")) {
        let start = line_start + dollar;
        let end = text[start..line_end].find('}').map_or(line_end, |i| start + i + 1);
        let found = Found::error("unquoted-variable", Span::new(src, start..end), "a variable inside braces must be quoted")
            .hint(format!("write \"{}\"", &text[start..end]));
        return (found, rest(value.unwrap_or(line_start)));
    }
    if info.contains("tab") {
        let tab = text[at..line_end].find('\t').or_else(|| line.find('\t').map(|i| i + line_start - at.min(i + line_start)));
        let start = tab.map_or(at, |i| at + i).min(line_end);
        let span = Span::new(src, start..(start + 1).min(text.len()).max(start));
        let next_line = text[line_end..].trim_start_matches('\n');
        let span =
            if next_line.starts_with('\t') { Span::new(src, text.len() - next_line.len()..text.len() - next_line.len() + 1) } else { span };
        let from = text[..span.start].rfind('\n').map_or(0, |i| i + 1);
        let to = text[from..].find('\n').map_or(text.len(), |i| from + i);
        return (Found::error("tab", span, "a tab where YAML allows spaces only").hint("indent with spaces"), from..to);
    }
    if info.contains("unknown anchor") {
        let end = text[at..].find(|c: char| c.is_whitespace() || ",]}".contains(c)).map_or(text.len(), |i| at + i);
        let found = Found::error("unknown-anchor", Span::new(src, at..end), format!("no anchor for the alias `{}`", &text[at..end]))
            .hint("quote the value if it is no alias");
        return (found, at..end);
    }
    let quoted_colon = info.contains("mapping values are not allowed");
    let mut found = Found::error("syntax", point, info.to_string());
    if quoted_colon {
        found = found.hint("a text with `: ` in it must be quoted; keys of one map must stand below each other");
    }
    let blank = match value {
        Some(v) if v < at && !text[v..line_end].trim().is_empty() => rest(v),
        _ => rest(line_start),
    };
    (found, blank)
}

/// Where the value of `key: value` starts in a line.
fn value_start(line: &str) -> Option<usize> {
    let colon = line.find(": ")?;
    let rest = &line[colon + 1..];
    Some(colon + 1 + rest.len() - rest.trim_start().len())
}

fn unquoted_template(src: u32, text: &str, range: std::ops::Range<usize>) -> Found {
    let value = text[range.clone()].trim_end();
    Found::error("unquoted-template", Span::new(src, range.start..range.start + value.len()), "a template that is not quoted is a YAML map")
        .hint(format!("write \"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

enum Frame {
    Seq { start: usize, end: usize, items: Vec<Node>, anchor: usize },
    Map { start: usize, end: usize, entries: Vec<Entry>, places: HashMap<String, Span>, key: Option<(String, Span)>, anchor: usize },
}

struct Composer<'a> {
    report: &'a Report,
    src: u32,
    vars: &'a mut Vars,
    text: &'a str,
    damaged: &'a [Span],
    /// Byte offsets of characters, where the text is not ASCII.
    bytes: Option<Vec<usize>>,
    found: Vec<Found>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
    bomb: bool,
}

impl<'a> Composer<'a> {
    fn new(report: &'a Report, src: u32, vars: &'a mut Vars, text: &'a str, damaged: &'a [Span]) -> Composer<'a> {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(i, _)| i).chain([text.len()]).collect());
        Composer {
            report,
            src,
            vars,
            text,
            damaged,
            bytes,
            found: vec![],
            stack: vec![],
            anchors: HashMap::new(),
            nodes: 0,
            root: None,
            bomb: false,
        }
    }

    /// The innermost bracket that is still open.
    fn open_bracket(&self) -> Option<usize> {
        let start = match self.stack.last()? {
            Frame::Seq { start, .. } | Frame::Map { start, .. } => *start,
        };
        self.text[start..].starts_with(['[', '{']).then_some(start)
    }

    fn byte(&self, chars: usize) -> usize {
        match &self.bytes {
            Some(b) => b[chars.min(b.len() - 1)],
            None => chars.min(self.text.len()),
        }
    }

    fn run(&mut self) -> Result<Node, (usize, String)> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, at) = event.map_err(|e| (self.byte(e.marker().index()), e.info().to_string()))?;
            let (start, end) = (self.byte(at.start.index()), self.byte(at.end.index()));
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents == 2 {
                        let found =
                            Found::error("several-documents", Span::new(self.src, start..end.max(start)), "a second document in the file")
                                .hint("one file holds one topology");
                        self.found.push(found);
                        break;
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let node = self.scalar(start, end, text.into_owned(), style, tag.is_some());
                    self.add(node, anchor);
                }
                Event::SequenceStart(anchor, _) => self.open(Frame::Seq { start, end, items: vec![], anchor }, start)?,
                Event::MappingStart(anchor, _) => {
                    self.open(Frame::Map { start, end, entries: vec![], places: HashMap::new(), key: None, anchor }, start)?
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(start, end),
                Event::Alias(anchor) => {
                    let span = Span::new(self.src, start..end);
                    let known = self.anchors.get(&anchor).map(|(n, size)| (n.clone(), *size));
                    let node = match known {
                        Some((node, size)) if self.nodes + size <= MAX_NODES => {
                            self.nodes += size;
                            node
                        }
                        Some(_) => {
                            if !self.bomb {
                                let message = format!("aliases make more than {MAX_NODES} values of this file");
                                self.found
                                    .push(Found::error("alias-bomb", span, message).hint("write out what is meant, or split the topology"));
                            }
                            self.bomb = true;
                            Node::bad(span)
                        }
                        None => {
                            self.found.push(Found::error("unknown-anchor", span, "an alias inside its own anchor"));
                            Node::bad(span)
                        }
                    };
                    self.add(node, 0);
                }
                _ => {}
            }
        }
        Ok(self.root.take().unwrap_or_else(|| Node::null(Span::new(self.src, 0..0))))
    }

    fn scalar(&mut self, start: usize, mut end: usize, text: String, style: ScalarStyle, tagged: bool) -> Node {
        let plain = style == ScalarStyle::Plain;
        if plain && text == "~" && self.text.get(start..end) != Some("~") {
            end = start;
        }
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            end = start + self.text[start..end].trim_end().len();
        }
        let span = Span::new(self.src, start..end);
        if plain && (span.start == span.end || matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")) && !tagged {
            return Node::null(span);
        }
        let mut scalar = Scalar { text, plain: plain && !tagged, variable: false, style, pieces: vec![] };
        if scalar.text.contains("${") && !self.is_key_next() {
            let node = Node { span, content: Content::Scalar(scalar.clone()) };
            match self.vars.replace(&scalar.text) {
                Ok((text, pieces)) => {
                    let whole = |p: &scalar::Piece| p.old == (0..scalar.text.len()) && p.new == (0..text.len());
                    scalar.variable = !plain && matches!(&pieces[..], [p] if whole(p));
                    scalar.text = text;
                    scalar.pieces = pieces;
                }
                Err(problems) => {
                    for (range, mut found) in problems {
                        found.span = node.within(self.report, range);
                        self.found.push(found);
                    }
                    return Node::bad(span);
                }
            }
        }
        Node { span, content: Content::Scalar(scalar) }
    }

    fn is_key_next(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn open(&mut self, frame: Frame, at: usize) -> Result<(), (usize, String)> {
        if self.stack.len() >= MAX_DEPTH {
            return Err((at, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self, start: usize, end: usize) {
        let flow_end = (end > start && self.text[start..end].starts_with([']', '}'])).then_some(end);
        let Some(frame) = self.stack.pop() else { return };
        let (node, anchor) = match frame {
            Frame::Seq { start, end, items, anchor } => {
                let last = items.last().map_or(end, |n| n.span.end.max(start));
                let span = Span::new(self.src, start..flow_end.unwrap_or(last).max(start));
                (Node { span, content: Content::Seq(items) }, anchor)
            }
            Frame::Map { start, end, entries, anchor, .. } => {
                let last = entries.last().map_or(end, |e| e.value.span.end.max(e.key_span.end).max(start));
                let span = Span::new(self.src, start..flow_end.unwrap_or(last).max(start));
                (Node { span, content: Content::Map(merge(entries)) }, anchor)
            }
        };
        self.add(node, anchor);
    }

    /// Puts a finished node where it belongs: a key, a value, an item, or the root.
    fn add(&mut self, mut node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let (src, text, damaged) = (self.src, self.text, self.damaged);
        let touched = |span: Span| damaged.iter().any(|d| d.start <= span.end && span.start <= d.end);
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::Seq { items, .. }) => {
                if matches!(node.content, Content::Null) && touched(node.span) {
                    node.content = Content::Bad;
                }
                items.push(node);
            }
            Some(Frame::Map { entries, places, key, .. }) => match key.take() {
                None => {
                    let name = match &node.content {
                        Content::Scalar(s) => s.text.clone(),
                        Content::Null => text.get(node.span.start..node.span.end).unwrap_or_default().to_string(),
                        _ => {
                            // Told once, for the outer of the two braces.
                            let outer = text[..node.span.start].ends_with('{') && text[node.span.start..].starts_with('{');
                            let found = if outer {
                                let from = node.span.start - 1;
                                let line_end = text[from..].find('\n').map_or(text.len(), |i| from + i);
                                let close = text[from..line_end].find("}}").map_or(line_end, |i| from + i + 2);
                                unquoted_template(src, text, from..close)
                            } else {
                                Found::error("odd-key", node.span, format!("a key that is {}", node.kind())).hint("keys are names")
                            };
                            self.found.push(found);
                            "\0".to_string()
                        }
                    };
                    *key = Some((name, node.span));
                }
                Some((name, key_span)) => {
                    if name == "\0" {
                        return;
                    }
                    if matches!(node.content, Content::Null) {
                        if node.span.start == node.span.end {
                            node.span = Span::new(src, key_span.end..key_span.end);
                        }
                        if damaged
                            .iter()
                            .any(|d| key_span.end <= d.start && text[key_span.end..d.start].chars().all(|c| c == ':' || c == ' '))
                        {
                            node.content = Content::Bad;
                        }
                    }
                    if let Some(first) = places.get(&name) {
                        let found = Found::error("duplicate-key", key_span, format!("the key `{name}` stands twice in one map"))
                            .second(*first, "first defined here")
                            .hint("take one of them out");
                        self.found.push(found);
                        return;
                    }
                    places.insert(name.clone(), key_span);
                    entries.push(Entry { key: name, key_span, value: node });
                }
            },
        }
        // The braces of an unquoted template make a map without entries: its problem has been told.
        if let Some(Frame::Map { entries, .. }) = self.stack.last_mut()
            && let Some(last) = entries.last_mut()
            && matches!(&last.value.content, Content::Map(m) if m.is_empty())
            && self.text[last.value.span.start..].starts_with("{{")
        {
            last.value.content = Content::Bad;
        }
    }
}

fn count(node: &Node) -> usize {
    match &node.content {
        Content::Seq(s) => 1 + s.iter().map(count).sum::<usize>(),
        Content::Map(m) => 1 + m.iter().map(|e| count(&e.value)).sum::<usize>(),
        _ => 1,
    }
}

/// `<<: *defaults`: what the map itself says goes first.
fn merge(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(|e| e.key == "<<") {
        return entries;
    }
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut merged: Vec<Entry> = Vec::new();
    for e in entries {
        match (&e.key[..], e.value.content) {
            ("<<", Content::Map(m)) => merged.extend(m),
            ("<<", Content::Seq(s)) if s.iter().all(|n| matches!(n.content, Content::Map(_))) => {
                for n in s {
                    if let Content::Map(m) = n.content {
                        merged.extend(m);
                    }
                }
            }
            (_, content) => out.push(Entry { value: Node { span: e.value.span, content }, key: e.key, key_span: e.key_span }),
        }
    }
    let mut own: HashSet<String> = out.iter().map(|e| e.key.clone()).collect();
    for e in merged {
        if own.insert(e.key.clone()) {
            out.push(e);
        }
    }
    out
}
