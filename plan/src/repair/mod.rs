//! Text that is not YAML: each fault is told where it lies and mended in a copy, so that the rest is read and checked as it was meant.
//! What cannot be mended is taken out: a value, else a line, else the block below it.

use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::yaml::{Composer, Node};
use saphyr_parser::Parser;
use std::ops::Range;

mod guess;
mod holes;
mod layout;
mod line;
mod stray;

pub(crate) use guess::unquoted_template;
use guess::{escapes, marks, quotes, tabs};
use holes::holes;
use layout::{brackets, indents, keys};
pub(crate) use line::comment_in;
use line::{Line, closing, open_in};

/// Syntax errors told of one text.
const MAX_REPAIRS: usize = 50;

/// A text as it is read: the original after repairs, and where each of its bytes comes from.
pub(crate) struct Copy {
    pub text: String,
    /// Of each byte and of the end: its byte in the original. None: nothing was changed.
    origin: Option<Vec<usize>>,
    /// Stretches of the original that mean nothing any more.
    pub damaged: Vec<Span>,
}

impl Copy {
    /// The byte of the original that a byte of this text comes from.
    pub fn original(&self, at: usize) -> usize {
        match &self.origin {
            Some(o) => o[at.min(o.len() - 1)],
            None => at,
        }
    }

    fn span(&self, src: u32, range: &Range<usize>) -> Span {
        Span::new(src, self.original(range.start)..self.original(range.end).max(self.original(range.start)))
    }

    /// The same text with one stretch replaced.
    fn patch(&mut self, range: Range<usize>, with: &str) {
        let origin = self.origin.get_or_insert_with(|| (0..=self.text.len()).collect());
        let from = origin[range.start];
        let blank = with.len() == range.len();
        let new: Vec<usize> = if blank { origin[range.clone()].to_vec() } else { vec![from; with.len()] };
        origin.splice(range.clone(), new);
        self.text.replace_range(range, with);
    }
}

/// One way to go on after a fault. Places are in the text as it is read.
pub(crate) struct Attempt {
    id: &'static str,
    span: Range<usize>,
    message: String,
    hint: String,
    suggestion: Option<String>,
    second: Option<(Range<usize>, &'static str)>,
    /// From the last to the first.
    patches: Vec<(Range<usize>, String)>,
    damage: Option<Range<usize>>,
    /// The patches are what was surely meant.
    safe: bool,
}

impl Attempt {
    fn new(span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Attempt {
        let (message, hint) = (message.into(), hint.into());
        Attempt { id: "syntax", span, message, hint, suggestion: None, second: None, patches: vec![], damage: None, safe: false }
    }

    fn id(self, id: &'static str) -> Attempt {
        Attempt { id, ..self }
    }

    fn patch(mut self, range: Range<usize>, with: impl Into<String>) -> Attempt {
        self.patches.push((range, with.into()));
        self.patches.sort_by_key(|p| std::cmp::Reverse(p.0.start));
        self
    }

    fn safe(self) -> Attempt {
        Attempt { safe: true, ..self }
    }

    /// The problem, where the text is read as it stands.
    pub(crate) fn found(self, src: u32) -> Found {
        let fix = self.patches.into_iter().map(|(range, with)| (Span::new(src, range), with)).collect();
        Found::error(self.id, Span::new(src, self.span), self.message).hint(self.hint).fix(fix)
    }

    /// Takes a stretch out.
    fn blank(self, text: &str, range: Range<usize>) -> Attempt {
        let blank = stray::blanked(&text[range.clone()]);
        Attempt { damage: Some(range.clone()), ..self }.patch(range, blank)
    }

    fn damage(self, range: Range<usize>) -> Attempt {
        Attempt { damage: Some(range), ..self }
    }
}

/// Reads a text, telling every syntax error in it. Variables stand in it as they are written.
pub(crate) fn compose(report: &mut Report, src: u32) -> Node {
    let original = report.sources.text(src).to_string();
    let mut copy = Copy { text: original.clone(), origin: None, damaged: vec![] };
    for conflict in stray::conflicts(&copy) {
        tell(report, src, &copy, &conflict);
        conflict.patches.into_iter().for_each(|(range, with)| copy.patch(range, &with));
    }
    // A line that was taken out: the next one, if it fails by the same words, fails because of it.
    let mut taken: Option<(usize, String)> = None;
    for _ in 0..MAX_REPAIRS {
        let mut composer = Composer::new(src, &original, &copy);
        match composer.run() {
            Ok(root) => {
                let found = composer.found;
                if found.iter().any(|f| f.id == "several-documents") {
                    // What is missing may stand in the second one.
                    report.sources.hole(root.span);
                    report.damaged = true;
                }
                report.found.extend(found);
                holes(report, &root, &copy.damaged, &original);
                return root;
            }
            Err((at, info)) => {
                let open = composer.open_bracket();
                let all = attempts(&copy.text, at.min(copy.text.len()), &info, open);
                let Some(chosen) = choose(&copy.text, at, all) else { break };
                let before = copy.text.clone();
                let follows = |(end, words): &(usize, String)| {
                    *words == chosen.message && before[*end..chosen.span.start.max(*end)].trim().is_empty()
                };
                if !(chosen.damage.is_some() && taken.as_ref().is_some_and(follows)) {
                    tell(report, src, &copy, &chosen);
                }
                taken = chosen.damage.as_ref().map(|d| (d.end, chosen.message.clone()));
                if let Some(d) = &chosen.damage {
                    let span = copy.span(src, d);
                    copy.damaged.push(span);
                }
                for (range, with) in chosen.patches {
                    copy.patch(range, &with);
                }
                if copy.text == before {
                    break;
                }
            }
        }
    }
    report.damaged = true;
    Node::bad(Span::new(src, 0..original.len()))
}

fn tell(report: &mut Report, src: u32, copy: &Copy, a: &Attempt) {
    let mut found = Found::error(a.id, copy.span(src, &a.span), a.message.clone()).suggest(a.suggestion.clone());
    if !a.hint.is_empty() {
        found = found.hint(a.hint.clone());
    }
    if let Some((range, words)) = &a.second {
        found = found.second(copy.span(src, range), *words);
    }
    if a.safe {
        found = found.fix(a.patches.iter().map(|(range, with)| (copy.span(src, range), with.clone())).collect());
    }
    report.push(found);
}

/// The first attempt after which the parser comes past the line of the fault; else the last one.
fn choose(text: &str, at: usize, all: Vec<Attempt>) -> Option<Attempt> {
    let line_end = text[at.min(text.len())..].find('\n').map_or(text.len(), |i| at + i);
    let mut last = None;
    for a in all {
        let mut patched = text.to_string();
        let mut after = line_end;
        for (range, with) in &a.patches {
            patched.replace_range(range.clone(), with);
            after = after.max(range.end);
        }
        let left = text.len() - after.min(text.len());
        let past = first_error(&patched).is_none_or(|e| patched.len() - e.min(patched.len()) <= left && left > 0);
        last = Some(a);
        if past {
            break;
        }
    }
    last
}

fn first_error(text: &str) -> Option<usize> {
    let error = Parser::new_from_str(text).find_map(Result::err)?;
    Some(text.char_indices().nth(error.marker().index()).map_or(text.len(), |(i, _)| i))
}

/// What may be wrong, likeliest first; then blanks, smallest first.
fn attempts(text: &str, at: usize, info: &str, open: Option<usize>) -> Vec<Attempt> {
    let mut line = Line::at(text, at);
    // At the start of a line or at the end of the text the culprit is what stands before.
    if line.content().is_empty()
        && let Some(before) = line.before(text)
    {
        line = before;
    }
    let mut all = vec![];
    all.extend(tabs(text, line, info));
    all.extend(escapes(text, at, info));
    all.extend(stray::comments(text, line));
    all.extend(stray::dash(text, line));
    all.extend(marks(text, line, at, info));
    all.extend(quotes(text, line, at, info));
    all.extend(brackets(text, line, at, info, open));
    all.extend(keys(text, line, at, info));
    all.extend(indents(text, line, info));
    all.extend(stray::words(text, line, info));

    let (message, hint) = words(text, at, info);
    let next = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let (id, point) = if info.contains("unknown anchor") {
        let end = text[at..].find(|c: char| c.is_whitespace() || ",]}".contains(c)).map_or(text.len(), |i| at + i);
        ("unknown-anchor", at..end)
    } else {
        ("syntax", at..at + next)
    };
    let generic = || Attempt::new(point.clone(), message.clone(), hint.clone()).id(id);
    if id == "unknown-anchor" {
        let suggestion = stray::anchor(&text[..at], &text[point.clone()]);
        all.push(Attempt { suggestion, ..generic() }.blank(text, point.clone()));
    }
    // The innermost braces of this line around the fault.
    let here = at.clamp(line.start, line.end);
    let (brackets, _) = open_in(&text[line.start..here]);
    for (start, _) in brackets.iter().rev() {
        let start = line.start + start;
        if let Some(end) = closing(&text[start..line.end]) {
            all.push(generic().blank(text, start..start + end));
        }
    }
    if let Some(v) = line.value().filter(|v| *v <= at && brackets.is_empty() && !text[*v..line.end].trim().is_empty()) {
        all.push(generic().blank(text, v..line.end));
    }
    all.push(generic().blank(text, line.start..line.end));
    let mut end = line.end;
    let mut next = line.after(text);
    while let Some(l) = next.filter(|l| l.content().is_empty() || l.indent() > line.indent()) {
        end = l.end;
        next = l.after(text);
    }
    all.push(generic().blank(text, line.start..end));
    all
}

/// The parser's words in ours.
fn words(text: &str, at: usize, info: &str) -> (String, String) {
    let found = match text[at..].chars().next() {
        None => "the end of the file".to_string(),
        Some('\n' | '\r') => "the end of the line".into(),
        Some(c) => format!("`{c}`"),
    };
    let say = |m: &str, h: &str| (m.to_string(), h.to_string());
    if info.contains("mapping values") {
        return say("`: ` inside a text that is not quoted", "put the text in quotes; keys of one map must stand below each other");
    }
    if info.contains("unknown anchor") {
        let name = text[at..].split(|c: char| c.is_whitespace() || ",]}".contains(c)).next().unwrap_or_default();
        return (format!("no anchor for the alias `{name}`"), "quote the value if it is no alias".into());
    }
    if info.contains("flow mapping") {
        return (
            format!("expected `,` or `}}`, found {found}"),
            "members of braces are divided by commas; texts with odd characters must be quoted".into(),
        );
    }
    if info.contains("flow sequence") {
        return (
            format!("expected `,` or `]`, found {found}"),
            "items of a list are divided by commas; texts with odd characters must be quoted".into(),
        );
    }
    if info.contains("block sequence entries") {
        return say("a list cannot begin on the line of its key", "begin the list on the next line, or write it in brackets: [a, b]");
    }
    if info.contains("expected key") || info.contains("indicator") || info.contains("indentation") {
        return say(
            "this line's indentation fits nothing above it",
            "keys of one map, and the dashes of one list, must stand below each other",
        );
    }
    if info.contains("levels of nesting") {
        return (info.to_string(), String::new());
    }
    (info.replace('`', "").replace('\'', "`"), String::new())
}
