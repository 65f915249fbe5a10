//! Which maps and lists something was taken out of.

use super::line::Line;
use crate::diagnostic::Report;
use crate::source::Span;
use crate::yaml::{Content, Node};

/// Finds the maps and lists that something was taken out of.
pub(super) fn holes(report: &mut Report, root: &Node, damaged: &[Span], original: &str) {
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

pub(super) fn inside_bad(node: &Node, d: Span) -> bool {
    if node.is_bad() && node.span.start <= d.end && d.start <= node.span.end {
        return true;
    }
    match &node.content {
        Content::Map(m) => m.iter().any(|e| inside_bad(&e.value, d)),
        Content::Seq(s) => s.iter().any(|n| inside_bad(n, d)),
        _ => false,
    }
}
