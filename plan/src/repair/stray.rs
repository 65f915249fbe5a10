//! Lines that are no YAML at all: what a merge left behind, comments of other languages.

use super::line::Line;
use super::{Attempt, Copy};
use millrace_sdk::problem::did_you_mean;
use std::ops::Range;

/// A line that divides the two sides of a conflict, as git writes it.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Ours,
    Base,
    Middle,
    Theirs,
}

fn mark(line: &Line<'_>) -> Option<Mark> {
    let sign = line.text.chars().next()?;
    let rest = line.text.strip_prefix(&sign.to_string().repeat(7)[..])?;
    let named = rest.starts_with(' ') || rest.is_empty();
    match sign {
        '<' if named => Some(Mark::Ours),
        '|' if named => Some(Mark::Base),
        '=' if rest.trim().is_empty() => Some(Mark::Middle),
        '>' if named => Some(Mark::Theirs),
        _ => None,
    }
}

/// Conflicts of a merge: each is told, and read as its first side.
pub(super) fn conflicts(copy: &Copy) -> Vec<Attempt> {
    let text = &copy.text;
    if !["<<<<<<<", "=======", ">>>>>>>"].iter().any(|m| text.starts_with(m) || text.contains(&format!("\n{m}"))) {
        return vec![];
    }
    let mut all = vec![];
    let mut next = Some(Line::at(text, 0));
    while let Some(first) = next {
        next = first.after(text);
        let Some(begins) = mark(&first) else { continue };
        let line = |l: &Line<'_>| l.start..l.start + l.text.len();
        let mut gone: Vec<Range<usize>> = vec![line(&first)];
        let mut second = None;
        if begins == Mark::Ours {
            // What lies from the first division on is the other side, up to the end; a new beginning is another conflict.
            let mut divided = None;
            let mut at = next;
            while let Some(l) = at.filter(|l| mark(l) != Some(Mark::Ours)) {
                match mark(&l) {
                    Some(Mark::Theirs) => {
                        gone.push(divided.unwrap_or(l.start)..line(&l).end);
                        second = Some(line(&l));
                        next = l.after(text);
                        break;
                    }
                    Some(_) => divided = divided.or(Some(l.start)),
                    None => {}
                }
                at = l.after(text);
            }
        }
        let (message, hint) = match second {
            Some(_) => ("a conflict of a merge stands in the file", "keep one side, and take the three lines of the merge out"),
            None => ("a line that a merge left behind", "take it out"),
        };
        let mut found = Attempt::new(line(&first), message, hint).id("merge-conflict");
        found.second = second.map(|s| (s, "it ends here"));
        for range in gone {
            let blank = blanked(&text[range.clone()]);
            found = found.patch(range, blank);
        }
        all.push(found);
    }
    all
}

pub(super) fn blanked(text: &str) -> String {
    text.bytes().map(|b| if b == b'\n' || b == b'\r' { b as char } else { ' ' }).collect()
}

/// Comments as other languages write them.
pub(super) fn comments(text: &str, line: Line<'_>) -> Vec<Attempt> {
    let foreign =
        |l: &Line<'_>| ["//", "--", "/*", ";"].into_iter().find(|s| l.content().starts_with(s) && !l.content().starts_with("---"));
    let mut all = vec![];
    for l in [line.before(text), Some(line)].into_iter().flatten() {
        let Some(sign) = foreign(&l) else { continue };
        let sign = l.first()..l.first() + sign.len();
        let found = Attempt::new(sign.clone(), format!("`{}` begins no comment", &text[sign.clone()]), "comments begin with `#`");
        all.push(found.patch(sign, "#").safe());
    }
    all
}

/// A line above that is neither a key nor an item: what follows it cannot be read because of it.
pub(super) fn words(text: &str, line: Line<'_>, info: &str) -> Option<Attempt> {
    let above = line.before(text).filter(|_| info.contains("simple key"))?;
    let odd =
        !above.has_colon() && !above.bare().is_empty() && !above.bare().starts_with(|c: char| c.is_alphanumeric() || "_-?\"'".contains(c));
    let span = above.first()..above.start + above.text.trim_end().len();
    let found = Attempt::new(span, "this line is neither a key nor an item of a list", "take it out, or begin it with `#`");
    odd.then(|| found.blank(text, above.start..above.start + above.text.len()))
}

/// The anchor that was likely meant by an alias.
pub(super) fn anchor(text: &str, alias: &str) -> Option<String> {
    let names = text.match_indices('&').map(|(i, _)| {
        let rest = &text[i + 1..];
        &rest[..rest.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)).unwrap_or(rest.len())]
    });
    let near = did_you_mean(alias.trim_start_matches('*'), names.filter(|n| !n.is_empty()))?;
    Some(format!("*{near}"))
}

/// A dash before the first of the topology's own keys: the keys below it then stand outside of the list that it begins.
pub(super) fn dash(text: &str, line: Line<'_>) -> Option<Attempt> {
    let mut first = Line::at(text, 0);
    while first.content().is_empty() || first.content().starts_with('#') {
        first = first.after(text)?;
    }
    let alone = line.indent() == 0 && line.start > first.start && !line.content().starts_with('-') && line.has_colon();
    let rest = first.text.strip_prefix("- ").filter(|r| alone && !r.starts_with(' '))?;
    let found =
        Attempt::new(first.start..first.start + 1, "a dash before the first key of the file", "a topology is a map: take the dash out");
    Some(found.patch(first.start..first.start + first.text.len() - rest.len(), "").safe())
}
