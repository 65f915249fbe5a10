//! Text that is not YAML: each fault is told where it lies and mended in a copy, so that the rest is read and checked as it was meant.
//! What cannot be mended is taken out: a value, else a line, else the block below it.

use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::yaml::{Composer, Content, Node};
use saphyr_parser::Parser;
use std::ops::Range;

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
        Attempt { id: "syntax", span, message, hint, second: None, patches: vec![], damage: None, safe: false }
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
        let blank: String = text[range.clone()].bytes().map(|b| if b == b'\n' || b == b'\r' { b as char } else { ' ' }).collect();
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
                tell(report, src, &copy, &chosen);
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
    let mut found = Found::error(a.id, copy.span(src, &a.span), a.message.clone());
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

/// A line and what is in it. Offsets are of the whole text.
#[derive(Clone, Copy)]
struct Line<'t> {
    start: usize,
    end: usize,
    text: &'t str,
}

impl<'t> Line<'t> {
    fn at(text: &'t str, at: usize) -> Line<'t> {
        let at = at.min(text.len());
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        Line { start, end, text: text[start..end].trim_end_matches('\r') }
    }

    /// The line with text before this one.
    fn before(&self, text: &'t str) -> Option<Line<'t>> {
        let mut at = self.start;
        while at > 0 {
            let line = Line::at(text, at - 1);
            if !line.content().is_empty() && !line.content().starts_with('#') {
                return Some(line);
            }
            at = line.start;
        }
        None
    }

    fn after(&self, text: &'t str) -> Option<Line<'t>> {
        (self.end < text.len()).then(|| Line::at(text, self.end + 1))
    }

    fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    fn content(&self) -> &'t str {
        self.text.trim()
    }

    /// Where the text begins.
    fn first(&self) -> usize {
        self.start + self.indent()
    }

    /// The column of the key, behind dashes.
    fn key_column(&self) -> usize {
        let mut at = self.indent();
        while self.text[at..].starts_with("- ") {
            at += self.text[at..].len() - self.text[at + 1..].trim_start().len();
        }
        at
    }

    /// What stands from the key on, without a comment.
    fn bare(&self) -> &'t str {
        let all = self.text.get(self.key_column()..).unwrap_or("");
        all[..comment_in(all)].trim_end()
    }

    fn bare_end(&self) -> usize {
        self.start + self.key_column() + self.bare().len()
    }

    /// Where the value of `key: value` starts.
    fn value(&self) -> Option<usize> {
        let from = self.key_column();
        let colon = self.text.get(from..)?.find(": ")? + from;
        let rest = &self.text[colon + 1..];
        Some(self.start + colon + 1 + rest.len() - rest.trim_start().len())
    }

    fn has_colon(&self) -> bool {
        self.bare().contains(": ") || self.bare().ends_with(':')
    }
}

/// Where a comment begins in a line, else its length.
pub(crate) fn comment_in(line: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match quote {
            None if (c == '"' || c == '\'') && matches!(before, ' ' | '[' | '{' | ',' | ':') => quote = Some(c),
            Some(q) if q == c => quote = None,
            None if c == '#' && (before == ' ' || before == '\t') => return i,
            _ => {}
        }
        before = c;
    }
    line.len()
}

/// Brackets that are open at the end of a stretch, and the quote that is.
fn open_in(text: &str) -> (Vec<(usize, char)>, Option<(usize, char)>) {
    let (mut open, mut quote): (Vec<(usize, char)>, Option<(usize, char)>) = (vec![], None);
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',' | ':') => quote = Some((i, c)),
            (Some((_, q)), c) if q == c && !(q == '"' && before == '\\') => quote = None,
            (None, '[' | '{') => open.push((i, c)),
            (None, ']' | '}') => drop(open.pop()),
            (None, '#') if before == ' ' => break,
            _ => {}
        }
        before = c;
    }
    (open, quote)
}

fn closers(open: &[(usize, char)]) -> String {
    open.iter().rev().map(|(_, c)| if *c == '[' { ']' } else { '}' }).collect()
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
    all.extend(marks(text, line, at, info));
    all.extend(quotes(text, line, at, info));
    all.extend(brackets(text, line, at, info, open));
    all.extend(keys(text, line, at, info));
    all.extend(indents(text, line, info));

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
        all.push(generic().blank(text, point.clone()));
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

/// The length of a bracketed stretch that begins here, quotes looked through.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
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

/// Tabs in the indentation: each line is told, and read with spaces.
fn tabs(text: &str, line: Line<'_>, info: &str) -> Vec<Attempt> {
    let leading = |l: &Line<'_>| l.text[..l.indent()].contains('\t');
    let first = if leading(&line) {
        line
    } else {
        match line.after(text).filter(|l| info.contains("tab") && leading(l)) {
            Some(next) => next,
            None if info.contains("tab") => {
                let Some(tab) = line.text.find('\t').map(|i| line.start + i) else { return vec![] };
                let found = Attempt::new(tab..tab + 1, "a tab where YAML allows spaces only", "write a space").id("tab");
                return vec![found.patch(tab..tab + 1, " ").safe()];
            }
            None => return vec![],
        }
    };
    let mut lines = vec![];
    let mut next = Some(first);
    while let Some(l) = next.filter(|l| leading(l)) {
        lines.push(l);
        next = l.after(text);
    }
    let start = first.start + first.text.find('\t').unwrap_or(0);
    let found = || Attempt::new(start..first.first(), "a tab in the indentation", "indent with spaces").id("tab");
    let mut all = vec![];
    for width in [2, 4, 8, 6, 3] {
        let mut a = found();
        for l in &lines {
            a = a.patch(l.start..l.first(), l.text[..l.indent()].replace('\t', &" ".repeat(width)));
        }
        // Which of them was meant, the lines around tell: a map must begin right below its key.
        let fits = first.before(text).is_none_or(|before| {
            let column = first.text[..first.indent()].replace('\t', &" ".repeat(width)).len();
            let opens = before.content().ends_with(':');
            (opens && column > before.key_column()) || (!opens && (column == before.key_column() || column == before.indent()))
        });
        if fits {
            all.push(a.safe());
        }
    }
    let end = lines.last().map_or(first.end, |l| l.end);
    all.push(found().blank(text, first.start..end));
    all
}

/// What YAML takes for a sign of its own: `{{`, `${` in braces, `@`, `%` and backticks.
fn marks(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
    let mut all = vec![];
    if let Some(v) = line.value().filter(|v| text[*v..line.end].starts_with("{{")) {
        let value = text[v..line.end].trim_end();
        all.push(unquoted_template(text, v..v + value.len()));
    }
    if let Some(dollar) = line.text.find("${").filter(|_| info.contains("flow")) {
        let start = line.start + dollar;
        let end = text[start..line.end].find('}').map_or(line.end, |i| start + i + 1);
        let found = |hint| Attempt::new(start..end, "a variable inside braces must be quoted", hint).id("unquoted-variable");
        all.push(quote(text, start..end, found));
    }
    // A tag that the parser reads otherwise.
    if let Some(v) = line.value().filter(|v| *v <= at && text[*v..].starts_with('!')) {
        let end = line.start + comment_in(line.text);
        let end = v + text[v..end].trim_end().len();
        all.push(quote(text, v..end, |hint| Attempt::new(v..end, "a text cannot begin with `!`", hint)).damage(v..end));
    }
    if info.contains("unexpected character") && at < line.end {
        let flow = !open_in(&text[line.start..at]).0.is_empty();
        let rest = &text[at..line.start + comment_start(line)];
        let length = if flow { rest.find([',', '}', ']']).unwrap_or(rest.len()) } else { rest.len() };
        let value = rest[..length].trim_end();
        let sign = text[at..].chars().next().unwrap_or(' ');
        let found = |hint| Attempt::new(at..at + sign.len_utf8(), format!("a text cannot begin with {}", shown(sign)), hint);
        all.push(quote(text, at..at + value.len(), found).damage(at..at + value.len()));
    }
    all
}

fn comment_start(line: Line<'_>) -> usize {
    comment_in(line.text)
}

/// `{{a}}` without quotes is a map in a map.
pub(crate) fn unquoted_template(text: &str, range: Range<usize>) -> Attempt {
    quote(text, range.clone(), |hint| Attempt::new(range, "a template that is not quoted is a YAML map", hint).id("unquoted-template"))
}

/// A stretch put in quotes, in double ones if it has none itself.
fn quote(text: &str, range: Range<usize>, found: impl FnOnce(String) -> Attempt) -> Attempt {
    let inner = &text[range.clone()];
    let sign = if !inner.contains(['"', '\\']) { '"' } else { '\'' };
    if sign == '\'' && inner.contains('\'') {
        let quoted = format!("'{}'", inner.replace('\'', "''"));
        return found(format!("write {quoted}")).patch(range, quoted).safe();
    }
    let a = found(format!("write {sign}{inner}{sign}"));
    a.patch(range.start..range.start, sign).patch(range.end..range.end, sign).safe()
}

fn shown(c: char) -> String {
    if c == '`' { "a backtick".into() } else { format!("`{c}`") }
}

/// Quotes that are not closed, and text behind closed ones.
fn quotes(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
    let mut all = vec![];
    // The scalar may have begun on an earlier line: a quote is rarely meant to go on over several.
    let mut candidate = Some(line);
    for _ in 0..40 {
        let Some(l) = candidate else { break };
        if let (brackets, Some((quote, c))) = open_in(l.text) {
            let start = l.start + quote;
            if start <= at {
                let end = line_text_end(l, &brackets);
                let found = Attempt::new(
                    start..l.start + l.text.trim_end().len(),
                    format!("the quote `{c}` is not closed"),
                    "close it on this line",
                );
                all.push(found.damage(start..end).patch(end..end, c.to_string()));
            }
            break;
        }
        candidate = l.before(text);
    }
    if !info.contains("quoted scalar") {
        // Another kind of fault: an open quote above is to blame only if it swallowed lines.
        all.retain(|a| a.span.end < line.start);
    }
    if info.contains("trailing content") {
        if let Some(start) = quoted_start(line, at) {
            let flow = !open_in(&text[line.start..start]).0.is_empty();
            let rest = &text[at..line.end];
            let length = if flow { rest.find([',', '}', ']']).unwrap_or(rest.len()) } else { comment_in(rest) };
            let end = at + rest[..length].trim_end().len();
            if flow && rest.starts_with(['"', '\'']) {
                let found = Attempt::new(
                    at..end.max(at + 1),
                    "a comma is missing before this",
                    "members of braces and brackets are divided by commas",
                );
                all.push(found.patch(at..at, ", "));
            }
            let found = Attempt::new(at..end.max(at + 1), "text behind the closing quote", quote_hint(&text[start..start + 1]));
            all.push(found.patch(start..end, "\"\"").damage(start..end));
        }
    }
    all
}

fn quote_hint(quote: &str) -> &'static str {
    if quote == "'" {
        "a single quote inside single quotes is written twice: 'it''s'"
    } else {
        "a double quote inside double quotes is written \\\""
    }
}

/// The end of a line's text, before the brackets that close what was open at the quote.
fn line_text_end(line: Line<'_>, brackets: &[(usize, char)]) -> usize {
    let mut end = line.text.trim_end();
    for (_, c) in brackets {
        let close = if *c == '[' { ']' } else { '}' };
        end = end.strip_suffix(close).map_or(end, str::trim_end);
    }
    line.start + end.len()
}

/// The quote that begins the scalar behind which `at` lies.
fn quoted_start(line: Line<'_>, at: usize) -> Option<usize> {
    let before = line.text.get(..at.checked_sub(line.start)?)?;
    let close = before.trim_end().chars().last().filter(|c| *c == '"' || *c == '\'')?;
    let inner = &before.trim_end()[..before.trim_end().len() - 1];
    inner.rfind(close).map(|i| line.start + i)
}

/// Brackets that are not closed, or closed twice; commas that are missing.
fn brackets(text: &str, line: Line<'_>, at: usize, info: &str, open: Option<usize>) -> Vec<Attempt> {
    let mut all = vec![];
    if let Some(c) = text[at..].chars().next().filter(|c| matches!(c, '}' | ']') && !info.contains("flow")) {
        let found = Attempt::new(at..at + 1, format!("`{c}` closes nothing"), "take it out, or open what it closes");
        all.push(found.patch(at..at + 1, " "));
    }
    let above = line.before(text).and_then(|l| open_in(l.text).0.first().map(|(i, _)| l.start + i));
    if let Some(start) = open.or(above) {
        let opened = Line::at(text, start);
        if opened.start < line.start || at >= line.end {
            let bracket = &text[start..start + 1];
            let make = |end: usize| {
                let (open, quote) = open_in(&text[opened.start..end]);
                let mut closing = closers(&open);
                if let Some((_, q)) = quote {
                    closing.insert(0, q);
                }
                let mut a = Attempt::new(
                    start..start + 1,
                    format!("the bracket `{bracket}` is not closed"),
                    format!("write `{closing}` where it ends"),
                );
                if line.start > opened.start {
                    a.second = Some((line.first()..line.start + line.text.trim_end().len(), "this cannot stand inside it"));
                }
                a.patch(end..end, closing)
            };
            let here = Line::at(text, opened.start);
            all.push(make(opened.start + comment_start(here).min(here.text.trim_end().len())));
            if let Some(last) = line.before(text).filter(|l| l.start > opened.start) {
                all.push(make(last.start + comment_start(last).min(last.text.trim_end().len())));
            }
        }
    }
    // `{lines: [1, 2}`: the inner bracket is closed by the outer one's.
    let inner = open_in(&text[line.start..at.clamp(line.start, line.end)]).0.last().map(|(i, c)| (line.start + i, *c));
    if let (Some((start, bracket)), Some(c)) = (inner, text[at..].chars().next())
        && ((bracket == '[' && c == '}') || (bracket == '{' && c == ']'))
    {
        let close = if bracket == '[' { "]" } else { "}" };
        let found =
            Attempt::new(start..start + 1, format!("the bracket `{bracket}` is not closed"), format!("write `{close}` where it ends"));
        all.insert(0, Attempt { second: Some((at..at + 1, "this closes another one")), ..found }.patch(at..at, close));
    }
    if info.contains("flow") && at > line.start && at <= line.end {
        // `{a: x b: y}`: the comma belongs before the word that ends here.
        let before = text[line.start..at].trim_end();
        let word = before.rfind([' ', ',', '{', '[']).map_or(at, |i| line.start + i + 1);
        let place = if text[at..].starts_with(':') { word } else { at };
        let next = text[place..].split([' ', ':', ',', '}', ']']).next().unwrap_or_default();
        let found = Attempt::new(
            place..(place + next.len()).max(place + 1).min(text.len()),
            "a comma is missing before this",
            "members of braces and brackets are divided by commas",
        );
        if place > line.start && !next.is_empty() {
            all.push(found.patch(place..place, ", "));
        }
    }
    all
}

/// Keys without their colon, dashes without their space.
fn keys(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
    let mut all = vec![];
    let stuck = |l: &Line<'_>| l.content().starts_with('-') && l.content().chars().nth(1).is_some_and(|c| c.is_alphabetic() || c == '{');
    for l in [Some(line), line.before(text)].into_iter().flatten().filter(stuck) {
        let found = Attempt::new(l.first()..l.first() + 1, "a space is missing behind the dash", "items of a list begin with `- `");
        all.push(found.patch(l.first() + 1..l.first() + 1, " ").safe());
    }
    if !(info.contains("mapping values") || info.contains("simple key")) {
        return all;
    }
    let before = line.before(text);
    // The text of `key: |` must stand deeper than the key.
    if let Some(head) = before.and_then(|b| b.before(text).map(|h| (h, b))).filter(|(h, b)| is_block(h) && b.indent() <= h.key_column()) {
        let (h, b) = head;
        let found = Attempt::new(
            b.first()..b.start + b.text.trim_end().len(),
            "this text does not stand deeper than its key",
            "indent it by two spaces more than the key",
        );
        let mut found = found.patch(b.start..b.start, " ".repeat(h.key_column() + 2 - b.indent()));
        found.second = Some((h.first()..h.bare_end(), "the text of this key"));
        all.push(found.safe());
    }
    let single = |l: &Line<'_>| !l.has_colon() && !l.bare().is_empty() && l.bare().starts_with(|c: char| c.is_alphabetic() || c == '_');
    let same = |l: &Line<'_>| l.key_column() == line.key_column() || l.key_column() < line.indent() || l.start == line.start;
    for l in [before, Some(line)].into_iter().flatten().filter(|l| single(l) && same(l)) {
        let start = l.start + l.key_column();
        let word = l.bare().split(' ').next().unwrap_or_default();
        let end = start + word.len();
        let found = Attempt::new(start..end, format!("a colon is missing behind `{word}`"), format!("write `{word}: …`"));
        all.push(found.patch(end..end, ":"));
    }
    let colon = text[at..].starts_with(':') || info.contains("mapping values");
    if let Some(b) = before.filter(|b| colon && line.indent() > b.key_column() && b.bare().contains(": ")) {
        if b.bare().starts_with("type:") && line.indent() == b.indent() + 2 && !b.content().starts_with('-') {
            let found = Attempt::new(b.first()..b.bare_end(), "an item of a list without its dash", "items of a list begin with `- `");
            all.push(found.patch(b.first()..b.first(), "- "));
        }
        let key = line.bare().split(':').next().unwrap_or_default().len();
        let start = line.start + line.key_column();
        let mut found = Attempt::new(
            start..start + key,
            "this key stands deeper than the one above it, which already has a value",
            "keys of one map must stand below each other",
        );
        found.second = Some((b.start + b.key_column()..b.bare_end(), "the key above"));
        all.push(shift(text, line, b.key_column(), found));
    }
    all
}

fn is_block(line: &Line<'_>) -> bool {
    let value = line.bare().rsplit(": ").next().unwrap_or_default();
    value.starts_with(['|', '>']) && value.len() <= 3
}

/// Moves a line, and those below it that stand as deep or deeper, to a column.
fn shift(text: &str, line: Line<'_>, column: usize, mut a: Attempt) -> Attempt {
    let from = line.indent();
    let mut next = Some(line);
    while let Some(l) = next.filter(|l| l.content().is_empty() || l.indent() > from || l.start == line.start) {
        if !l.content().is_empty() {
            let to = (l.indent() + column).saturating_sub(from);
            a = a.patch(l.start..l.first(), " ".repeat(to));
        }
        next = l.after(text);
    }
    a
}

/// A line that stands between two columns: read at the nearest column of the lines above.
fn indents(text: &str, line: Line<'_>, info: &str) -> Vec<Attempt> {
    if !(info.contains("expected key") || info.contains("indicator") || info.contains("indentation")) || info.contains("quoted") {
        return vec![];
    }
    let mut columns: Vec<usize> = vec![];
    let mut least = usize::MAX;
    let mut above = line.before(text);
    while let Some(l) = above {
        if l.indent() < least {
            for c in [l.key_column(), l.indent()] {
                if !columns.contains(&c) {
                    columns.push(c);
                }
            }
            least = l.indent();
        }
        if least == 0 {
            break;
        }
        above = l.before(text);
    }
    columns.retain(|c| *c != line.indent());
    columns.sort_by_key(|c| c.abs_diff(line.indent()));
    let (message, hint) = words(text, line.first(), "indentation");
    let key = line.bare().split(':').next().unwrap_or_default();
    let end = if line.content().starts_with('-') { line.first() + 1 } else { line.first() + key.len().max(1) };
    columns.into_iter().take(3).map(|c| shift(text, line, c, Attempt::new(line.first()..end, message.clone(), hint.clone()))).collect()
}

/// Finds the maps and lists that something was taken out of.
fn holes(report: &mut Report, root: &Node, damaged: &[Span], original: &str) {
    for d in damaged {
        if inside_bad(root, *d) {
            continue;
        }
        let line = Line::at(original, d.start);
        let first = original[d.start..].len() - original[d.start..].trim_start_matches(' ').len() + d.start;
        let column = first - line.start;
        let (mut at, mut depth) = (root, 0);
        loop {
            let children: Vec<&Node> = match &at.content {
                Content::Map(m) => m.iter().map(|e| &e.value).collect(),
                Content::Seq(s) => s.iter().collect(),
                _ => vec![],
            };
            let holds = |n: &Node| {
                let text = report.sources.slice(n.span);
                let flow = text.starts_with(['{', '[']);
                let own = n.span.start - Line::at(original, n.span.start).start;
                matches!(n.content, Content::Map(_) | Content::Seq(_))
                    && n.span.start <= d.start
                    && if flow { d.start < n.span.end } else { own <= column }
            };
            match children.into_iter().rfind(|n| holds(n)) {
                Some(next) => (at, depth) = (next, depth + 1),
                None => break,
            }
        }
        report.sources.hole(at.span);
        // `streams: name: config:` and `transforms: - config:`: above that stand the parts themselves, and which is missing nobody knows.
        if depth < 3 {
            report.damaged = true;
        }
    }
}

fn inside_bad(node: &Node, d: Span) -> bool {
    if node.is_bad() && node.span.start <= d.end && d.start <= node.span.end {
        return true;
    }
    match &node.content {
        Content::Map(m) => m.iter().any(|e| inside_bad(&e.value, d)),
        Content::Seq(s) => s.iter().any(|n| inside_bad(n, d)),
        _ => false,
    }
}
