//! What may be wrong within a line: tabs, signs of YAML that were not meant, quotes.

use super::Attempt;
use super::line::{Line, comment_in, open_in};
use std::ops::Range;

/// Tabs in the indentation: each line is told, and read with spaces.
pub(super) fn tabs(text: &str, line: Line<'_>, info: &str) -> Vec<Attempt> {
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
pub(super) fn marks(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
    let mut all = vec![];
    if let Some(v) = line.value().filter(|v| text[*v..line.end].starts_with("{{")) {
        let value = text[v..line.end].trim_end();
        all.push(unquoted_template(text, v..v + value.len()));
    }
    // `{where: a = {{b}}}`: the braces stand within a text.
    if info.contains("flow") && text[at..].starts_with("{{") {
        let before = &text[line.start..at];
        let start = [": ", ", ", "[", "{"].iter().filter_map(|s| before.rfind(s).map(|i| i + s.len())).max().unwrap_or(0);
        let rest = &text[at..line.end];
        let close = rest.find("}}").map_or(rest.len(), |i| i + 2);
        let end = at + close + rest[close..].find([',', '}', ']']).unwrap_or(rest.len() - close);
        let start = line.start + start + before[start..].len() - before[start..].trim_start().len();
        let end = start + text[start..end].trim_end().len();
        all.push(unquoted_template(text, start..end).damage(start..end));
    }
    if let Some(dollar) = line.text.find("${").filter(|_| info.contains("flow")) {
        let start = line.start + dollar;
        let end = text[start..line.end].find('}').map_or(line.end, |i| start + i + 1);
        let found = |hint| Attempt::new(start..end, "a variable inside braces must be quoted", hint).id("unquoted-variable");
        all.push(quote(text, start..end, found));
    }
    // Signs of other keyboards that look like YAML's.
    if let Some((i, wide)) = line.text.char_indices().find(|(_, c)| matches!(c, '：' | '，')) {
        let (at, meant) = (line.start + i, if wide == '：' { ": " } else { ", " });
        let end = at + wide.len_utf8();
        let found = Attempt::new(at..end, format!("`{wide}` is no `{}`", meant.trim()), format!("write `{}`", meant.trim()));
        all.push(found.patch(at..end, meant).safe());
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

pub(super) fn comment_start(line: Line<'_>) -> usize {
    comment_in(line.text)
}

/// `{{a}}` without quotes is a map in a map.
pub(crate) fn unquoted_template(text: &str, range: Range<usize>) -> Attempt {
    quote(text, range.clone(), |hint| Attempt::new(range, "a template that is not quoted is a YAML map", hint).id("unquoted-template"))
}

/// A stretch put in quotes, in double ones if it has none itself.
pub(super) fn quote(text: &str, range: Range<usize>, found: impl FnOnce(String) -> Attempt) -> Attempt {
    let inner = &text[range.clone()];
    let sign = if !inner.contains(['"', '\\']) { '"' } else { '\'' };
    if sign == '\'' && inner.contains('\'') {
        let quoted = format!("'{}'", inner.replace('\'', "''"));
        return found(format!("write {quoted}")).patch(range, quoted).safe();
    }
    let a = found(format!("write {sign}{inner}{sign}"));
    a.patch(range.start..range.start, sign).patch(range.end..range.end, sign).safe()
}

pub(super) fn shown(c: char) -> String {
    if c == '`' { "a backtick".into() } else { format!("`{c}`") }
}

/// What YAML lets follow a backslash in double quotes.
const ESCAPES: &str = "0abtnvfre \"/\\N_LPxuU\n\r\t";

/// `"\d+"`: a backslash in double quotes that begins no escape.
pub(super) fn escapes(text: &str, at: usize, info: &str) -> Option<Attempt> {
    if !info.contains("unknown escape") {
        return None;
    }
    let mut rest = text[at..].char_indices().skip(1);
    while let Some((i, c)) = rest.next() {
        if c == '"' {
            return None;
        }
        let Some((_, next)) = (c == '\\').then(|| rest.next()).flatten() else { continue };
        if ESCAPES.contains(next) {
            continue;
        }
        let slash = at + i;
        let escape = slash..slash + 1 + next.len_utf8();
        let found = Attempt::new(
            escape,
            format!("`\\{next}` is no escape of a text in double quotes"),
            format!("write `\\\\{next}`, or put the text in single quotes"),
        );
        return Some(found.patch(slash..slash, "\\").safe());
    }
    None
}

/// Quotes that are not closed, and text behind closed ones.
pub(super) fn quotes(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
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

pub(super) fn quote_hint(quote: &str) -> &'static str {
    if quote == "'" {
        "a single quote inside single quotes is written twice: 'it''s'"
    } else {
        "a double quote inside double quotes is written \\\""
    }
}

/// The end of a line's text, before the brackets that close what was open at the quote.
pub(super) fn line_text_end(line: Line<'_>, brackets: &[(usize, char)]) -> usize {
    let mut end = line.text.trim_end();
    for (_, c) in brackets {
        let close = if *c == '[' { ']' } else { '}' };
        end = end.strip_suffix(close).map_or(end, str::trim_end);
    }
    line.start + end.len()
}

/// The quote that begins the scalar behind which `at` lies.
pub(super) fn quoted_start(line: Line<'_>, at: usize) -> Option<usize> {
    let before = line.text.get(..at.checked_sub(line.start)?)?;
    let close = before.trim_end().chars().last().filter(|c| *c == '"' || *c == '\'')?;
    let inner = &before.trim_end()[..before.trim_end().len() - 1];
    inner.rfind(close).map(|i| line.start + i)
}
