//! YAML text -> tree of nodes with byte ranges, composed from the parser's events so that every problem is told.

use crate::diagnostic::{Found, Report};
pub(crate) use crate::node::{Content, Entry, Node, Scalar, count, snake_case};
pub(crate) use crate::repair::compose;
use crate::repair::{Copy, unquoted_template};
use crate::scalar;
use crate::source::Span;
use crate::vars::Vars;
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::{HashMap, HashSet};

/// Nodes in a tree, aliases expanded; more is an alias bomb.
const MAX_NODES: usize = 100_000;
/// Collections within collections.
const MAX_DEPTH: usize = 100;
/// Where YAML's own tags come from: `!!int`.
const CORE: &str = "tag:yaml.org,2002:";

/// Reads a text and replaces its variables.
pub(crate) fn parse(report: &mut Report, src: u32, vars: &mut Vars) -> Node {
    let mut root = compose(report, src);
    fill(report, &mut root, vars);
    root
}

/// Replaces the variables in all values below a node; what cannot be replaced is told.
pub(crate) fn fill(report: &mut Report, node: &mut Node, vars: &mut Vars) {
    match &mut node.content {
        Content::Map(entries) => entries.iter_mut().for_each(|e| fill(report, &mut e.value, vars)),
        Content::Seq(items) => items.iter_mut().for_each(|n| fill(report, n, vars)),
        Content::Scalar(s) if s.text.contains("${") && s.pieces.is_empty() => match vars.replace(&s.text) {
            Ok((text, pieces)) => {
                let whole = |p: &scalar::Piece| p.old == (0..s.text.len()) && p.new == (0..text.len());
                s.variable = !s.plain && matches!(&pieces[..], [p] if whole(p));
                (s.text, s.outside, s.pieces) = (text, !pieces.is_empty(), pieces);
            }
            Err(problems) => {
                for (range, mut found) in problems {
                    found.span = node.within(report, range);
                    report.push(found);
                }
                node.content = Content::Bad;
            }
        },
        _ => {}
    }
}

enum Frame {
    Seq { start: usize, end: usize, items: Vec<Node>, anchor: usize },
    Map { start: usize, end: usize, entries: Vec<Entry>, places: HashMap<String, Span>, key: Option<(String, Span)>, anchor: usize },
}

pub(crate) struct Composer<'a> {
    src: u32,
    /// The text that spans lie in.
    original: &'a str,
    /// The text that is parsed.
    text: &'a str,
    copy: &'a Copy,
    /// Byte offsets of characters, where the text is not ASCII.
    bytes: Option<Vec<usize>>,
    pub found: Vec<Found>,
    stack: Vec<Frame>,
    /// How deep those stand that a tag makes something else of.
    unread: Vec<usize>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
    bomb: bool,
}

impl<'a> Composer<'a> {
    pub fn new(src: u32, original: &'a str, copy: &'a Copy) -> Composer<'a> {
        let text = copy.text.as_str();
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(i, _)| i).chain([text.len()]).collect());
        Composer {
            src,
            original,
            text,
            copy,
            bytes,
            found: vec![],
            stack: vec![],
            unread: vec![],
            anchors: HashMap::new(),
            nodes: 0,
            root: None,
            bomb: false,
        }
    }

    /// The innermost bracket that is still open.
    pub fn open_bracket(&self) -> Option<usize> {
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

    /// The place in the original of a stretch of the text that is parsed.
    fn span(&self, start: usize, end: usize) -> Span {
        let start = self.copy.original(start);
        Span::new(self.src, start..self.copy.original(end).max(start))
    }

    /// The tree, or the place in the text that is parsed where it is no YAML, and the parser's words.
    pub fn run(&mut self) -> Result<Node, (usize, String)> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, at) = event.map_err(|e| (self.byte(e.marker().index()), e.info().to_string()))?;
            let (start, end) = (self.byte(at.start.index()), self.byte(at.end.index()));
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents == 2 {
                        let found = Found::error("several-documents", self.span(start, end), "a second document in the file")
                            .hint("one file holds one topology");
                        self.found.push(found);
                        break;
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    if let Some(found) = tag.as_ref().filter(|t| t.handle == "!").and_then(|_| self.tag(start)) {
                        self.found.push(found);
                        self.add(Node::bad(self.span(start, end)), anchor);
                        continue;
                    }
                    let core = tag.as_ref().filter(|t| t.handle == CORE).map(|t| t.suffix.as_str());
                    let mut node = self.scalar(start, end, text.into_owned(), style, tag.is_some());
                    if let (Some("int" | "float" | "bool"), Content::Scalar(s)) = (core, &mut node.content) {
                        s.plain = true;
                    }
                    self.add(node, anchor);
                }
                Event::SequenceStart(anchor, tag) => {
                    self.tagged(tag.as_ref().is_some_and(|t| t.handle == "!"), start);
                    self.open(Frame::Seq { start, end, items: vec![], anchor }, start)?
                }
                Event::MappingStart(anchor, tag) => {
                    self.tagged(tag.as_ref().is_some_and(|t| t.handle == "!"), start);
                    self.open(Frame::Map { start, end, entries: vec![], places: HashMap::new(), key: None, anchor }, start)?
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(start, end),
                Event::Alias(anchor) => {
                    let span = self.span(start, end);
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

    /// A tag of the file's own stands before a value: nothing here gives it a meaning.
    fn tag(&self, start: usize) -> Option<Found> {
        let line = self.text[..start].trim_end();
        let at = line.rfind('!')?;
        let name = &line[at..];
        let found = Found::error("syntax", self.span(at, at + name.len()), format!("the tag `{name}` has no meaning here"));
        Some(found.hint("quote the value if it begins with `!`"))
    }

    /// Tells of a tag before the list or map that comes next, of which nothing is read then.
    fn tagged(&mut self, tagged: bool, start: usize) {
        if let Some(found) = tagged.then(|| self.tag(start)).flatten() {
            self.found.push(found.hint("write what it means as keys: `type: …`"));
            self.unread.push(self.stack.len());
        }
    }

    fn scalar(&self, start: usize, mut end: usize, text: String, style: ScalarStyle, tagged: bool) -> Node {
        let plain = style == ScalarStyle::Plain;
        if plain && text == "~" && self.text.get(start..end) != Some("~") {
            end = start;
        }
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            end = start + self.text[start..end].trim_end().len();
        }
        let span = self.span(start, end);
        if plain && (span.start == span.end || matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")) && !tagged {
            return Node::null(span);
        }
        Node {
            span,
            content: Content::Scalar(Scalar {
                text,
                plain: plain && !tagged,
                variable: false,
                style,
                pieces: vec![],
                outside: false,
                argument: None,
            }),
        }
    }

    /// `{price: decimal(18,2)}`: inside brackets YAML ends a value at a comma, also within parentheses. The value is read as it was meant;
    /// true: what has come is a piece of it.
    fn cut_at_comma(&mut self, node: &Node) -> bool {
        let (before, piece) = match self.stack.last_mut() {
            Some(Frame::Seq { start, items, .. }) if self.text[*start..].starts_with('[') => (items.last_mut(), node.span),
            Some(Frame::Map { start, entries, key, .. }) if self.text[*start..].starts_with('{') => {
                let Some((_, span)) = key.as_ref().filter(|_| matches!(node.content, Content::Null)) else { return false };
                (entries.last_mut().map(|e| &mut e.value), *span)
            }
            _ => return false,
        };
        let Some(before) = before else { return false };
        let Content::Scalar(s) = &mut before.content else { return false };
        if !s.plain || !s.text.contains('(') {
            return false;
        }
        let Some(end) = closed(self.original, before.span.start).filter(|end| piece.start < *end && piece.end <= *end) else {
            return false;
        };
        if before.span.end < piece.start {
            let whole = Span { end, ..before.span };
            let raw = &self.original[whole.start..whole.end];
            let quote = if !raw.contains(['"', '\\']) { "\"" } else { "'" };
            let found = Found::error("unquoted-comma", whole, "inside `{ }` and `[ ]` YAML ends the value at its comma")
                .hint("put the whole value in quotes")
                .fix(if raw.contains('\'') && quote == "'" { vec![] } else { vec![(whole, format!("{quote}{raw}{quote}"))] });
            self.found.push(found);
            s.text = raw.to_string();
            before.span = whole;
        }
        if let Some(Frame::Map { key, .. }) = self.stack.last_mut() {
            *key = None;
        }
        true
    }

    fn open(&mut self, frame: Frame, at: usize) -> Result<(), (usize, String)> {
        if self.stack.len() >= MAX_DEPTH {
            return Err((at, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self, start: usize, end: usize) {
        // The parser's own end lies behind the blanks and the comment that follow.
        let flow_end = (end > start && self.text[start..end].starts_with([']', '}'])).then_some(start + 1);
        let Some(frame) = self.stack.pop() else { return };
        let (node, anchor) = match frame {
            Frame::Seq { start, end, items, anchor } => {
                let last = items.last().map_or(self.copy.original(end), |n| n.span.end);
                let start = self.copy.original(start);
                let flow_end = flow_end.map(|e| self.copy.original(e));
                let span = Span::new(self.src, start..flow_end.unwrap_or(last).max(start));
                (Node { span, content: Content::Seq(items) }, anchor)
            }
            Frame::Map { start, end, entries, anchor, .. } => {
                let last = entries.last().map_or(self.copy.original(end), |e| e.value.span.end.max(e.key_span.end));
                let start = self.copy.original(start);
                let flow_end = flow_end.map(|e| self.copy.original(e));
                let span = Span::new(self.src, start..flow_end.unwrap_or(last).max(start));
                (Node { span, content: Content::Map(merge(entries, &mut self.found)) }, anchor)
            }
        };
        let unread = self.unread.pop_if(|depth| *depth == self.stack.len()).is_some();
        self.add(if unread { Node::bad(node.span) } else { node }, anchor);
    }

    /// Puts a finished node where it belongs: a key, a value, an item, or the root.
    fn add(&mut self, mut node: Node, anchor: usize) {
        self.nodes += 1;
        if anchor > 0 {
            let size = count(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let (src, text, damaged) = (self.src, self.original, &self.copy.damaged);
        let touched = |span: Span| damaged.iter().any(|d| d.start <= span.end && span.start <= d.end);
        if matches!(node.content, Content::Scalar(_)) && damaged.iter().any(|d| d.overlaps(&node.span)) {
            node.content = Content::Bad;
        }
        if self.cut_at_comma(&node) {
            return;
        }
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
                        Content::Bad => "\0".to_string(),
                        _ => {
                            // Told once, for the outer of the two braces.
                            let outer = text[..node.span.start].ends_with('{') && text[node.span.start..].starts_with('{');
                            let found = if outer {
                                let from = node.span.start - 1;
                                let line_end = text[from..].find('\n').map_or(text.len(), |i| from + i);
                                let close = text[from..line_end].find("}}").map_or(line_end, |i| from + i + 2);
                                unquoted_template(text, from..close).found(src)
                            } else {
                                Found::error("odd-key", node.span, format!("a key that is {}", node.kind())).hint("keys are names")
                            };
                            self.found.push(found);
                            "\0".to_string()
                        }
                    };
                    *key = Some((name, node.span));
                }
                Some((mut name, mut key_span)) => {
                    if name == "\0" {
                        return;
                    }
                    // `{type:Kafka}` is one word to YAML.
                    if matches!(node.content, Content::Null)
                        && node.span.start == node.span.end
                        && text.get(key_span.start..key_span.end) == Some(&name)
                        && let Some((head, tail)) = glued(&name)
                    {
                        let whole = key_span;
                        let colon = whole.start + head.len() + 1;
                        let found = Found::error("syntax", whole, format!("a space is missing behind the colon of `{head}:`"));
                        self.found.push(
                            found
                                .hint(format!("write `{head}: {tail}`"))
                                .fix(vec![(Span { start: colon, end: colon, ..whole }, " ".into())]),
                        );
                        node = Node::plain(tail.to_string(), Span { start: colon, ..whole });
                        key_span = Span { end: colon - 1, ..whole };
                        name = head.to_string();
                    }
                    if matches!(node.content, Content::Null) {
                        if node.span.start == node.span.end {
                            node.span = Span::new(src, key_span.end..key_span.end);
                        }
                        if damaged.iter().any(|d| belongs(text, key_span, *d)) {
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
            && self.original[last.value.span.start..].starts_with("{{")
        {
            last.value.content = Content::Bad;
        }
    }
}

/// Where the parentheses are closed that open in a text from here on, if they are in this line.
fn closed(text: &str, from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.get(from..)?.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && !text[from + i + 1..].trim_start_matches(|c: char| !",]}(\n".contains(c)).starts_with('(') {
                    let rest = &text[from + i + 1..];
                    return Some(from + i + 1 + rest.find([',', ']', '}', '\n']).map_or(0, |n| rest[..n].trim_end().len()));
                }
            }
            '\n' => return None,
            _ => {}
        }
    }
    None
}

/// Whether what was taken out was the value of a key: on its line, or below it and deeper.
fn belongs(text: &str, key: Span, d: Span) -> bool {
    if key.end > d.start || !text[key.end..d.start].chars().all(|c| c == ':' || c.is_whitespace()) {
        return false;
    }
    let column = |at: usize| at - text[..at].rfind('\n').map_or(0, |i| i + 1);
    let first = d.start + text[d.start..].len() - text[d.start..].trim_start_matches(' ').len();
    !text[key.end..d.start].contains('\n')
        || column(first) > column(key.start)
        || (column(first) == column(key.start) && text[first..].starts_with("- "))
}

/// A key and its value that no space parts: `type:Kafka`, but not `http://host`.
pub(crate) fn glued(text: &str) -> Option<(&str, &str)> {
    let (head, tail) = text.split_once(':')?;
    let name = head.starts_with(|c: char| c.is_ascii_alphabetic()) && head.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    (name && !tail.is_empty() && !tail.starts_with(['/', ' ']) && !tail.contains(['"', '\''])).then_some((head, tail))
}

/// `<<: *defaults`: what the map itself says goes first.
fn merge(entries: Vec<Entry>, found: &mut Vec<Found>) -> Vec<Entry> {
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
            ("<<", Content::Bad) => {}
            ("<<", content) => {
                let node = Node { span: e.value.span, content };
                let message = format!("`<<` puts the keys of another map in here, found {}", node.kind());
                found.push(Found::error("wrong-type", node.span, message).hint("write `<<: *anchor`, or a list of such aliases"));
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
