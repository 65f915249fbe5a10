//! What may be wrong with how lines stand to each other: brackets, keys, indentation.

use super::guess::comment_start;
use super::line::{Line, closers, open_in};
use super::{Attempt, words};
use crate::yaml;

/// Keys that hold lists of maps.
const LISTS: &[&str] = &["guards", "operates", "sink", "steps", "tests", "transforms"];

/// Brackets that are not closed, or closed twice; commas that are missing.
pub(super) fn brackets(text: &str, line: Line<'_>, at: usize, info: &str, open: Option<usize>) -> Vec<Attempt> {
    let mut all = vec![];
    if let Some(c) = text[at..].chars().next().filter(|c| matches!(c, '}' | ']') && !info.contains("flow")) {
        let found = Attempt::new(at..at + 1, format!("`{c}` closes nothing"), "take it out, or open what it closes");
        all.push(found.patch(at..at + 1, " "));
    }
    // `{type: Map, config:{set: …}}`
    if info.contains("flow mapping") && [":{", ":[", ":\"", ":'"].iter().any(|s| text[at..].starts_with(s)) {
        let key = text[line.start..at].rsplit(['{', ',', ' ']).next().unwrap_or_default();
        let message = format!("a space is missing behind the colon of `{key}:`");
        let found = Attempt::new(at - key.len()..at + 1, message, format!("write `{key}: {}…`", &text[at + 1..at + 2]));
        all.push(found.patch(at + 1..at + 1, " ").safe());
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
            all.push(make(opened.start + here.text[..comment_start(here)].trim_end().len()));
            if let Some(last) = line.before(text).filter(|l| l.start > opened.start) {
                all.push(make(last.start + last.text[..comment_start(last)].trim_end().len()));
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
pub(super) fn keys(text: &str, line: Line<'_>, at: usize, info: &str) -> Vec<Attempt> {
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
        if let Some((head, tail)) = yaml::glued(l.bare()) {
            let colon = start + head.len() + 1;
            let message = format!("a space is missing behind the colon of `{head}:`");
            let found = Attempt::new(start..start + l.bare().len(), message, format!("write `{head}: {tail}`"));
            all.push(found.patch(colon..colon, " ").safe());
            continue;
        }
        let word = l.bare().split(' ').next().unwrap_or_default();
        let end = start + word.len();
        if l.bare()[word.len()..].starts_with(" = ") {
            let found =
                Attempt::new(end + 1..end + 2, format!("`=` behind `{word}`, where YAML has a colon"), format!("write `{word}: …`"));
            all.push(found.patch(end..end + 2, ":").safe());
            continue;
        }
        let found = Attempt::new(start..end, format!("a colon is missing behind `{word}`"), format!("write `{word}: …`"));
        all.push(found.patch(end..end, ":"));
    }
    let colon = text[at..].starts_with(':') || info.contains("mapping values");
    if let Some(b) = before.filter(|b| colon && line.indent() > b.key_column() && b.bare().contains(": ")) {
        let listed =
            b.before(text).is_some_and(|p| p.indent() <= b.indent() && p.bare().strip_suffix(':').is_some_and(|key| LISTS.contains(&key)));
        if listed && b.bare().starts_with("type:") && line.indent() == b.indent() + 2 && !b.content().starts_with('-') {
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

pub(super) fn is_block(line: &Line<'_>) -> bool {
    let value = line.bare().rsplit(": ").next().unwrap_or_default();
    value.starts_with(['|', '>']) && value.len() <= 3
}

/// Moves a line, and those below it that stand as deep or deeper, to a column.
pub(super) fn shift(text: &str, line: Line<'_>, column: usize, mut a: Attempt) -> Attempt {
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
pub(super) fn indents(text: &str, line: Line<'_>, info: &str) -> Vec<Attempt> {
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
    let found = || Attempt::new(line.first()..end, message.clone(), hint.clone());
    let mut all = vec![];
    // A part that stands below the dash of the one before it.
    if line.bare().starts_with("type:") && !line.content().starts_with('-') {
        let mut above = line.before(text).filter(|l| l.indent() >= line.indent());
        while let Some(l) = above.filter(|l| !(l.indent() == line.indent() && l.content().starts_with("- "))) {
            above = l.before(text).filter(|l| l.indent() >= line.indent());
        }
        if above.is_some() {
            let mut a = Attempt::new(line.first()..end, "an item of a list without its dash", "items of a list begin with `- `");
            a = a.patch(line.first()..line.first(), "- ");
            let mut next = line.after(text);
            while let Some(l) = next.filter(|l| l.content().is_empty() || (l.indent() >= line.indent() && !l.content().starts_with("- "))) {
                if !l.content().is_empty() {
                    a = a.patch(l.start..l.start, "  ");
                }
                next = l.after(text);
            }
            all.push(a);
        }
    }
    for c in columns.into_iter().take(3) {
        // Only the dash has slipped: what belongs to its item stands where it should.
        let key = line.key_column() + c - line.indent().min(line.key_column() + c);
        if line.content().starts_with('-') && line.after(text).is_some_and(|l| l.indent() == key && !l.content().is_empty()) {
            all.push(found().patch(line.start..line.first(), " ".repeat(c)));
        }
        all.push(shift(text, line, c, found()));
    }
    all
}
