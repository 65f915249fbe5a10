//! `millrace fmt`: one way to write a topology. Sections in the order of the language, two spaces a level, quotes only where they are needed;
//! comments and blank lines stay. Lines are moved and respaced rather than written anew, and what would not read the same is left as it is.

use crate::diagnostic::{Diagnostic, Report};
use crate::repair::comment_in;
use crate::scalar;
use crate::topology::TOP;
use crate::yaml::{self, Content, Node, snake_case};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::fmt::Write;
use std::ops::Range;

/// Formats a text. Err: it is no YAML; what is wrong.
pub fn format(name: &str, text: &str) -> Result<String, Vec<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::default();
    let src = report.sources.add(name, text);
    let root = yaml::compose(&mut report, src);
    if report.has_errors() {
        return Err(report.finish());
    }
    let lines = text.replace("\r\n", "\n");
    let Some(tokens) = Tokens::read(&lines) else { return Ok(text.to_string()) };
    let laid = lay_out(&lines, &tokens);
    let sorted = sort(&laid);
    // What does not read as before is not written: anchors that would come after their aliases, for one.
    let same = |new: &String| {
        let mut report = Report::default();
        let src = report.sources.add(name, new.as_str());
        let new_root = yaml::compose(&mut report, src);
        !report.has_errors() && equal(&root, &new_root, true) && comments(&lines) == comments(new)
    };
    Ok([sorted, laid].into_iter().find(same).unwrap_or_else(|| text.to_string()))
}

/// Whether two trees mean the same. At the top the order of keys means nothing.
fn equal(a: &Node, b: &Node, top: bool) -> bool {
    match (&a.content, &b.content) {
        (Content::Map(x), Content::Map(y)) if top => {
            x.len() == y.len() && x.iter().all(|e| y.iter().any(|f| e.key == f.key && equal(&e.value, &f.value, false)))
        }
        (Content::Map(x), Content::Map(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(e, f)| e.key == f.key && equal(&e.value, &f.value, false))
        }
        (Content::Seq(x), Content::Seq(y)) => x.len() == y.len() && x.iter().zip(y).all(|(m, n)| equal(m, n, false)),
        (Content::Scalar(x), Content::Scalar(y)) => {
            x.text == y.text && scalar::resolve(x) == scalar::resolve(y) && (x.plain == y.plain || !x.text.contains("${"))
        }
        (Content::Null, Content::Null) | (Content::Bad, Content::Bad) => true,
        _ => false,
    }
}

/// All comments of a text, sorted.
fn comments(text: &str) -> Vec<String> {
    let tokens = Tokens::read(text).unwrap_or_default();
    let mut all: Vec<String> = tokens.comments(text).iter().map(|c| text[c.clone()].trim_end().to_string()).collect();
    all.sort();
    all
}

/// Where scalars and flow collections stand, in order.
#[derive(Default)]
struct Tokens {
    scalars: Vec<(Range<usize>, ScalarStyle)>,
    flows: Vec<Range<usize>>,
}

impl Tokens {
    fn read(text: &str) -> Option<Tokens> {
        let bytes: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
        let byte = |chars: usize| bytes[chars.min(bytes.len() - 1)];
        let (mut out, mut open) = (Tokens::default(), vec![]);
        for event in Parser::new_from_str(text) {
            let (event, at) = event.ok()?;
            let (start, mut end) = (byte(at.start.index()), byte(at.end.index()));
            match event {
                Event::Scalar(_, style, ..) => {
                    if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                        end = start + text[start..end].trim_end().len();
                    }
                    if start < end && !(style == ScalarStyle::Plain && text[start..end].trim().is_empty()) {
                        out.scalars.push((start..start + text[start..end].trim_end().len(), style));
                    }
                }
                Event::SequenceStart(..) | Event::MappingStart(..) => open.push(text[start..].starts_with(['[', '{']).then_some(start)),
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(start) = open.pop().flatten().filter(|_| open.iter().all(Option::is_none)) {
                        out.flows.push(start..end);
                    }
                }
                _ => {}
            }
        }
        out.scalars.sort_by_key(|(r, _)| r.start);
        Some(out)
    }

    /// The scalar in which a place lies.
    fn scalar(&self, at: usize) -> Option<&(Range<usize>, ScalarStyle)> {
        let next = self.scalars.partition_point(|(r, _)| r.start <= at);
        self.scalars[..next].last().filter(|(r, _)| at < r.end)
    }

    fn flow(&self, at: usize) -> Option<&Range<usize>> {
        let next = self.flows.partition_point(|r| r.start <= at);
        self.flows[..next].last().filter(|r| at < r.end)
    }

    fn comments(&self, text: &str) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = vec![];
        for (i, _) in text.match_indices('#') {
            let begins = i == 0 || text[..i].ends_with([' ', '\t', '\n']);
            if begins && self.scalar(i).is_none() && out.last().is_none_or(|c| c.end <= i) {
                out.push(i..text[i..].find('\n').map_or(text.len(), |n| i + n));
            }
        }
        out
    }
}

/// A level of block collections: the column that it was written at, and the one that it gets.
#[derive(Clone, Copy)]
struct Level {
    old: usize,
    new: usize,
    list: bool,
}

/// Every line with its new indentation and spacing.
fn lay_out(text: &str, tokens: &Tokens) -> String {
    let comments = tokens.comments(text);
    let mut out: Vec<(usize, String)> = vec![];
    // Comments that stand alone, by their line in `out`, with the column that they had: their place follows from the next line.
    let mut waiting: Vec<(usize, usize)> = vec![];
    let mut levels: Vec<Level> = vec![];
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let (at, raw) = (start, line.trim_end_matches('\n'));
        start += line.len();
        let body = raw.trim_start_matches([' ', '\t']);
        let col = raw.len() - body.len();
        let first = at + col;
        let inside = tokens.scalar(at).or_else(|| tokens.scalar(first).filter(|(r, s)| r.start == first && is_block(*s)));
        if let Some((range, style)) = inside.filter(|(r, s)| r.start < at || is_block(*s)) {
            let base = levels.last().map_or(0, |l| l.new + 2);
            match is_block(*style) {
                // The text of a block scalar moves as a whole.
                true => {
                    let from = text[..range.start].rfind('\n').map_or(0, |i| i + 1);
                    let least = text[from..range.end].lines().filter(|l| !l.trim().is_empty()).map(indent).min().unwrap_or(0);
                    let more = if body.is_empty() { raw.len().saturating_sub(least) } else { col.saturating_sub(least) };
                    let kept = if body.is_empty() { String::new() } else { format!("{}{body}", " ".repeat(more)) };
                    out.push((if body.is_empty() { 0 } else { base }, kept));
                }
                // The rest of a text that goes over several lines, and what may stand behind it.
                false => out.push((if body.is_empty() { 0 } else { base }, rest(text, tokens, &comments, first..at + raw.len()))),
            }
            continue;
        }
        if body.trim().is_empty() {
            out.push((0, String::new()));
            continue;
        }
        if body.starts_with('#') {
            waiting.push((out.len(), col));
            out.push((col, body.trim_end().to_string()));
            continue;
        }
        let said = rest(text, tokens, &comments, first..at + raw.len());
        if tokens.flow(at).is_some_and(|f| f.start < at) {
            let base = levels.last().map_or(0, |l| l.new);
            let depth = depth(text, tokens, at).saturating_sub(usize::from(body.starts_with([']', '}'])));
            out.push((base + 2 * depth.max(1), said));
        } else if body.starts_with("---") || body.starts_with("...") || body.starts_with('%') {
            levels.clear();
            out.push((0, said));
        } else {
            let before = levels.clone();
            let (indent, said) = block_line(&mut levels, text, tokens, first, col, &said);
            place(&mut out, &mut waiting, &before, &levels, col, indent);
            out.push((indent, said));
            continue;
        }
        let last = out.last().map_or(0, |(i, _)| *i);
        waiting.drain(..).for_each(|(i, _)| out[i].0 = last);
    }
    place(&mut out, &mut waiting, &levels.clone(), &[], usize::MAX, 0);
    let mut text = String::new();
    for (indent, line) in &out {
        let _ = writeln!(text, "{}{line}", " ".repeat(if line.is_empty() { 0 } else { *indent }));
    }
    let kept = text.trim_end_matches('\n').len();
    text.truncate(kept);
    text.trim_start_matches('\n').to_string() + "\n"
}

fn is_block(style: ScalarStyle) -> bool {
    matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Comments before a line stand at its level, or, if they were written further in, at the one before to which they belong.
fn place(out: &mut [(usize, String)], waiting: &mut Vec<(usize, usize)>, before: &[Level], now: &[Level], col: usize, indent: usize) {
    for (i, old) in waiting.drain(..) {
        let own = before.iter().rev().find(|l| l.old <= old).filter(|_| old > col || now.is_empty());
        out[i].0 = own.map_or(indent, |l| l.new);
    }
}

/// Brackets that are open at a place.
fn depth(text: &str, tokens: &Tokens, at: usize) -> usize {
    let Some(flow) = tokens.flow(at) else { return 0 };
    let (mut depth, mut i) = (0usize, flow.start);
    while i < at {
        if let Some((r, _)) = tokens.scalar(i) {
            i = r.end;
            continue;
        }
        match text.as_bytes()[i] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => i += text[i..].find('\n').unwrap_or(0),
            _ => {}
        }
        i += 1;
    }
    depth
}

/// Finds the level of a line of block collections, and of those that begin in it behind `- `.
fn block_line(levels: &mut Vec<Level>, text: &str, tokens: &Tokens, first: usize, col: usize, said: &str) -> (usize, String) {
    let (mut at, mut old, mut said) = (first, col, said);
    let mut out = String::new();
    let mut indent = None;
    loop {
        let marker = tokens.scalar(at).is_none() && said.starts_with(['-', '?', ':']) && (said.len() == 1 || said[1..].starts_with(' '));
        let list = marker && said.starts_with('-');
        // The sign of a block scalar is no level of its own.
        if !marker && indent.is_some() && said.starts_with(['|', '>']) {
            out.push_str(said);
            return (indent.unwrap_or(0), out);
        }
        let level = enter(levels, old, list);
        indent.get_or_insert(level);
        if !marker {
            out.push_str(said);
            return (indent.unwrap_or(0), out);
        }
        let rest = said[1..].trim_start();
        let gap = text[at + 1..].len() - text[at + 1..].trim_start_matches([' ', '\t']).len();
        out.push_str(&said[..1]);
        if rest.is_empty() || rest.starts_with('#') {
            out.push_str(&said[1..]);
            return (indent.unwrap_or(0), out);
        }
        out.push(' ');
        (at, old, said) = (at + 1 + gap, old + 1 + gap, rest);
    }
}

/// The new column of what stands at an old one.
fn enter(levels: &mut Vec<Level>, old: usize, list: bool) -> usize {
    while levels.last().is_some_and(|l| l.old > old) {
        levels.pop();
    }
    // A list may stand in the column of the key that it belongs to.
    if !list && levels.last().is_some_and(|l| l.old == old && l.list) && levels.len() > 1 && levels[levels.len() - 2].old == old {
        levels.pop();
    }
    match levels.last() {
        Some(l) if l.old == old && l.list == list => l.new,
        Some(l) => {
            let new = l.new + 2;
            levels.push(Level { old, new, list });
            new
        }
        None => {
            levels.push(Level { old, new: 0, list });
            0
        }
    }
}

/// A line from its first token on: single spaces, quotes only where they are needed, comments as far off as they were.
fn rest(text: &str, tokens: &Tokens, comments: &[Range<usize>], line: Range<usize>) -> String {
    let mut out = String::new();
    let mut i = line.start;
    while i < line.end {
        if let Some((range, style)) = tokens.scalar(i) {
            let whole = range.start >= line.start && range.end <= line.end && i == range.start;
            let piece = &text[i..range.end.min(line.end)];
            match whole.then(|| bare(piece, *style)).flatten() {
                Some(plain) if tokens.flow(i).is_some() || !followed_by_colon(text, range.end) || !plain.contains(' ') => {
                    out.push_str(&plain)
                }
                _ => out.push_str(piece),
            }
            i = range.end.min(line.end);
            continue;
        }
        if comments.iter().any(|c| c.start == i) {
            out.push_str(text[i..line.end].trim_end());
            break;
        }
        let c = text[i..].chars().next().unwrap_or(' ');
        let here = i;
        i += c.len_utf8();
        if c != ' ' && c != '\t' {
            out.push(c);
            // `{a: 1,b: 2}`
            if c == ',' && tokens.flow(here).is_some() && i < line.end && !text[i..].starts_with([' ', '\t', '\n']) {
                out.push(' ');
            }
            continue;
        }
        let gap = text[here..line.end].len() - text[here..line.end].trim_start_matches([' ', '\t']).len();
        i = here + gap;
        let flow = tokens.flow(here).is_some();
        let next = text[i..].chars().next().unwrap_or('\n');
        if comments.iter().any(|c| c.start == i) {
            out.push_str(&" ".repeat(gap.max(1)));
        } else if i >= line.end || (flow && (out.ends_with(['{', '[']) || matches!(next, '}' | ']' | ','))) {
            continue;
        } else {
            out.push(' ');
        }
    }
    out.trim_end().to_string()
}

fn followed_by_colon(text: &str, at: usize) -> bool {
    text[at..].trim_start_matches(' ').starts_with(':')
}

/// A quoted text without its quotes, where it means the same.
fn bare(written: &str, style: ScalarStyle) -> Option<String> {
    if !matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) || written.len() < 3 {
        return None;
    }
    let inner = &written[1..written.len() - 1];
    let plain = inner.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '/')
        && inner.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '/' || c == ')')
        && inner.char_indices().all(|(i, c)| match c {
            ':' => inner[i + 1..].starts_with(|c: char| c.is_alphanumeric() || c == '/'),
            ' ' => !inner[i + 1..].starts_with([' ', '#', '-']),
            c => c.is_alphanumeric() || "_-./()<>=+".contains(c),
        });
    let word = ["yes", "no", "on", "off", "y", "n", "null", "true", "false"].contains(&inner.to_ascii_lowercase().as_str());
    (plain && !word && scalar::core(inner).is_string()).then(|| inner.to_string())
}

/// The sections in the order of the language, each with the comments above it.
fn sort(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let key = |l: &str| {
        let named = l.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == '\'');
        named.then(|| l[..comment_in(l)].split(':').next().unwrap_or_default().trim_matches(['"', '\'', ' ']).to_string())
    };
    let starts: Vec<(usize, String)> = lines.iter().enumerate().filter_map(|(i, l)| Some((i, key(l)?))).collect();
    let Some((first, _)) = starts.first() else { return text.to_string() };
    // Comments at the start that a blank line parts from the first section are the file's.
    let above = |at: usize| (0..at).rev().take_while(|i| lines[*i].starts_with('#')).last().unwrap_or(at);
    let head = above(*first);
    let bounds: Vec<usize> = starts.iter().map(|(i, _)| above(*i)).chain([lines.len()]).collect();
    let mut rank = 0;
    let mut sections: Vec<(usize, &[&str])> = vec![];
    for (n, (_, name)) in starts.iter().enumerate() {
        rank = TOP.iter().position(|t| *t == snake_case(name)).unwrap_or(rank);
        sections.push((rank, &lines[bounds[n]..bounds[n + 1]]));
    }
    if sections.is_sorted_by_key(|(r, _)| *r) {
        return text.to_string();
    }
    sections.sort_by_key(|(r, _)| *r);
    let mut out: String = lines[..head].concat();
    for (_, section) in &sections {
        out.push_str(&section.concat());
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    let kept = out.trim_end_matches('\n').len();
    out.truncate(kept);
    out + "\n"
}
