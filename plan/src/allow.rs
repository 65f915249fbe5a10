//! `# lint: allow(id)`: at the end of a line for that line, alone on a line for the next one with text.

use crate::diagnostic::{Found, Report};
use crate::ids;
use crate::repair::comment_in;
use crate::source::Span;
use millrace_sdk::Severity;
use millrace_sdk::problem::did_you_mean;

struct Allow {
    /// The line that it is about, from 1.
    line: usize,
    id: String,
    /// Where the id stands.
    span: Span,
}

/// Takes out what is allowed, and tells of each allowance that allows nothing. Errors cannot be allowed.
pub(crate) fn apply(report: &mut Report) {
    let files: Vec<u32> = (0..report.sources.count()).filter(|src| report.sources.base(*src) == *src).collect();
    let allows: Vec<Allow> = files
        .into_iter()
        .filter(|src| report.sources.text(*src).contains("lint:"))
        .flat_map(|src| read(src, report.sources.text(src)))
        .collect();
    if allows.is_empty() {
        return;
    }
    let mut used = vec![false; allows.len()];
    let mut refused = vec![false; allows.len()];
    let sources = &report.sources;
    report.found.retain(|f| {
        let src = sources.base(f.span.src);
        let line = sources.line_column(src, f.span.start).0;
        let mut kept = true;
        for (i, _) in allows.iter().enumerate().filter(|(_, a)| a.span.src == src && a.line == line && a.id == f.id) {
            if f.severity == Severity::Error {
                refused[i] = true;
            } else {
                (used[i], kept) = (true, false);
            }
        }
        kept
    });
    // After an error not everything was looked at.
    let complete = !report.has_errors();
    for (i, a) in allows.into_iter().enumerate().filter(|(i, _)| !used[*i]) {
        // What an included file allows, other topologies may need.
        if a.id.starts_with("style-") && !report.style && ids::page(&a.id).is_some() {
            continue;
        }
        if a.span.src != 0 && !refused[i] && ids::page(&a.id).is_some() {
            continue;
        }
        let found = if refused[i] {
            Found::note("unused-allow", a.span, format!("`{}` is an error here: errors cannot be allowed", a.id))
        } else if ids::page(&a.id).is_none() {
            let near = did_you_mean(&a.id, ids::PAGES.iter().map(|p| p.id));
            Found::note("unused-allow", a.span, format!("no problem is called `{}`", a.id)).suggest(near)
        } else if !complete {
            continue;
        } else {
            Found::note("unused-allow", a.span, format!("there is no `{}` to allow on line {}", a.id, a.line)).hint("take it out")
        };
        report.found.push(found);
    }
}

fn read(src: u32, text: &str) -> Vec<Allow> {
    let mut all = vec![];
    let mut waiting: Vec<(String, Span)> = vec![];
    let mut offset = 0;
    for (number, raw) in text.split('\n').enumerate() {
        let comment = comment_in(raw);
        let alone = raw[..comment].trim().is_empty();
        let mut here: Vec<(String, Span)> = vec![];
        if let Some(list) = raw[comment..].trim_start_matches('#').trim_start().strip_prefix("lint:") {
            let list = list.trim_start();
            if let Some(ids) = list.strip_prefix("allow(").and_then(|l| l.split_once(')')).map(|(ids, _)| ids) {
                let base = offset + (raw.len() - list.len()) + "allow(".len();
                let mut at = base;
                for part in ids.split(',') {
                    let id = part.trim();
                    let start = at + part.len() - part.trim_start().len();
                    here.push((id.to_string(), Span::new(src, start..start + id.len())));
                    at += part.len() + 1;
                }
            }
        }
        if alone && !raw.trim().is_empty() {
            waiting.append(&mut here);
        } else if !alone {
            here.append(&mut waiting);
            all.extend(here.into_iter().map(|(id, span)| Allow { line: number + 1, id, span }));
        }
        offset += raw.len() + 1;
    }
    let last = text.lines().count();
    all.extend(waiting.into_iter().map(|(id, span)| Allow { line: last + 1, id, span }));
    all
}
