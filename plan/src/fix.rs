//! Fixes put into a text, and what they change as a unified diff.

use crate::diagnostic::{Diagnostic, Edit};
use std::fmt::Write;
use std::ops::Range;

/// Lines around a change that a diff shows.
const CONTEXT: usize = 3;

/// A text with the fixes of its problems in it.
#[derive(Debug, Default)]
pub struct Fixed {
    pub text: String,
    /// Problems that are mended, by their place in what was given.
    pub mended: Vec<usize>,
}

/// Puts the fixes into a text. Of fixes that overlap the first wins; a fix is put in whole or not at all.
pub fn apply(text: &str, diagnostics: &[&Diagnostic]) -> Fixed {
    let mut taken: Vec<Range<usize>> = vec![];
    let mut edits: Vec<&Edit> = vec![];
    let mut mended = vec![];
    for (i, d) in diagnostics.iter().enumerate().filter(|(_, d)| !d.fix.is_empty()) {
        let free = |r: &Range<usize>| {
            text.get(r.clone()).is_some()
                && taken.iter().all(|t| {
                    r.end < t.start
                        || t.end < r.start
                        || (r.end == t.start && !r.is_empty() && !t.is_empty())
                        || (t.end == r.start && !r.is_empty() && !t.is_empty())
                })
        };
        if d.fix.iter().all(|e| free(&e.bytes)) {
            taken.extend(d.fix.iter().map(|e| e.bytes.clone()));
            edits.extend(&d.fix);
            mended.push(i);
        } else if d.fix.iter().all(|e| edits.contains(&e)) {
            mended.push(i);
        }
    }
    edits.sort_by_key(|e| std::cmp::Reverse((e.bytes.start, e.bytes.end)));
    let mut out = text.to_string();
    for e in edits {
        out.replace_range(e.bytes.clone(), &e.text);
    }
    Fixed { text: out, mended }
}

/// A unified diff; empty where nothing differs. Fixes change single lines, so that lines are compared from both ends of each change.
pub fn diff(name: &str, old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let changes = changes(&a, &b);
    if changes.is_empty() {
        return String::new();
    }
    let mut out = format!("--- {name}\n+++ {name}\n");
    let mut i = 0;
    while i < changes.len() {
        let mut last = i;
        while last + 1 < changes.len() && changes[last + 1].0.start - changes[last].0.end <= 2 * CONTEXT {
            last += 1;
        }
        let start = changes[i].0.start.saturating_sub(CONTEXT);
        let end = (changes[last].0.end + CONTEXT).min(a.len());
        let new_start = changes[i].1.start - (changes[i].0.start - start);
        let new_end = changes[last].1.end + (end - changes[last].0.end);
        let head = |s: usize, e: usize| format!("{},{}", if s == e { s } else { s + 1 }, e - s);
        let _ = writeln!(out, "@@ -{} +{} @@", head(start, end), head(new_start, new_end));
        let mut at = start;
        for (old, new) in &changes[i..=last] {
            a[at..old.start].iter().for_each(|l| line(&mut out, ' ', l));
            a[old.clone()].iter().for_each(|l| line(&mut out, '-', l));
            b[new.clone()].iter().for_each(|l| line(&mut out, '+', l));
            at = old.end;
        }
        a[at..end].iter().for_each(|l| line(&mut out, ' ', l));
        i = last + 1;
    }
    out
}

fn line(out: &mut String, sign: char, text: &str) {
    out.push(sign);
    out.push_str(text);
    if !text.ends_with('\n') {
        out.push_str("\n\\ No newline at end of file\n");
    }
}

/// Stretches of lines that differ, old and new. Equal numbers of lines are compared one by one, others as a block.
fn changes(a: &[&str], b: &[&str]) -> Vec<(Range<usize>, Range<usize>)> {
    if a.len() != b.len() {
        let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
        return vec![(head..a.len() - tail, head..b.len() - tail)];
    }
    let mut out: Vec<(Range<usize>, Range<usize>)> = vec![];
    for i in (0..a.len()).filter(|i| a[*i] != b[*i]) {
        match out.last_mut().filter(|(o, _)| o.end == i) {
            Some((o, n)) => (o.end, n.end) = (i + 1, i + 1),
            None => out.push((i..i + 1, i..i + 1)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diffs() {
        assert_eq!(diff("f", "a\nb\n", "a\nb\n"), "");
        assert_eq!(diff("f", "a\nb\nc", "a\nB\nc"), "--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n\\ No newline at end of file\n");
        let old: String = (0..20).map(|i| format!("{i}\n")).collect();
        let new = old.replace("\n2\n", "\nx\n").replace("\n15\n", "\ny\n");
        let d = diff("f", &old, &new);
        assert!(d.contains("@@ -1,6 +1,6 @@\n 0\n 1\n-2\n+x\n") && d.contains("@@ -13,7 +13,7 @@\n"), "{d}");
        assert_eq!(diff("f", "a\nb\n", "a\nx\ny\nb\n"), "--- f\n+++ f\n@@ -1,2 +1,4 @@\n a\n+x\n+y\n b\n");
    }
}
