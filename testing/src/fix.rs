//! `--fix`: writes what came out where the test says what was expected, and leaves everything else as it is.

use crate::compare::{Op, field};
use crate::rows;
use crate::show::{Checked, narrowed};
use millrace_plan::cases::{DEAD_LETTER, Datum, How};
use std::ops::Range;

/// Columns of a list that stays on one line.
const WIDE: usize = 120;

/// A change of a file: these bytes become this text.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    pub file: String,
    pub bytes: Range<usize>,
    pub text: String,
}

/// What makes a demand hold in the text of its file, or why it cannot be made so.
///
/// # Errors
/// A sentence.
pub fn edit(c: &Checked, text: &str) -> Result<Edit, String> {
    let place = &c.want.place;
    let bytes = place.bytes.clone();
    let old = text.get(bytes.clone()).unwrap_or_default();
    let new = match c.want.how {
        How::Count(_) => c.got.len().to_string(),
        _ if old.is_empty() => return Err(format!("{}:{}: write `[]` where the rows are to stand", place.file, place.line)),
        _ if old.starts_with('-') => {
            let indent = bytes.start - text[..bytes.start].rfind('\n').map_or(0, |i| i + 1);
            return Ok(block(c, text, indent));
        }
        _ => flow(c, text, bytes.start),
    };
    Ok(Edit { file: place.file.clone(), bytes, text: new })
}

/// A file of rows that makes a demand hold, JSON lines.
pub fn file(c: &Checked) -> String {
    let rows = wanted_rows(c, "");
    let mut out = String::new();
    for row in rows {
        rows::to_json(&row.1, &mut out);
        out.push('\n');
    }
    out
}

/// The rows as they should be, each with its old text if it is to stay.
fn wanted_rows(c: &Checked, text: &str) -> Vec<(Option<String>, Datum)> {
    let ops: Vec<Op> = if c.verdict.order_only { (0..c.got.len()).map(Op::Extra).collect() } else { c.verdict.ops.clone() };
    let old = |w: usize| text.get(c.wanted[w].place.bytes.clone()).filter(|t| !t.is_empty()).map(String::from);
    ops.iter()
        .filter_map(|op| match *op {
            Op::Same(w, _) => Some((old(w), c.wanted[w].row.clone())),
            Op::Changed(_, g) | Op::Extra(g) => Some((None, narrow(c, &c.got[g]))),
            Op::Missing(_) => None,
        })
        .collect()
}

fn narrow(c: &Checked, row: &Datum) -> Datum {
    if c.expect.output != DEAD_LETTER {
        return narrowed(c, row);
    }
    let fields = ["part", "reason", "body"].map(|n| (n.to_string(), field(row, n).clone()));
    Datum::Map(fields.into())
}

/// A list in brackets: on one line if it is short, else a row a line.
fn flow(c: &Checked, text: &str, at: usize) -> String {
    let rows: Vec<String> = wanted_rows(c, text).into_iter().map(|(old, row)| old.unwrap_or_else(|| rows::yaml(&row))).collect();
    let line = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let one = format!("[{}]", rows.join(", "));
    if at - line + one.chars().count() <= WIDE || rows.is_empty() {
        return one;
    }
    let indent = text[line..].len() - text[line..].trim_start_matches(' ').len();
    let lines: String = rows.iter().map(|r| format!("\n{:1$}{r},", "", indent + 2)).collect();
    format!("[{lines}\n{:indent$}]", "")
}

/// A list of `- ` items: those that stay keep their lines, with the comments above and behind them.
fn block(c: &Checked, text: &str, indent: usize) -> Edit {
    let place = &c.want.place;
    let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |i| i + 1);
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |i| at + i + 1);
    let begin = line_start(place.bytes.start);
    let mut ends = vec![begin];
    ends.extend(c.wanted.iter().map(|w| line_end(w.place.bytes.end.max(1) - 1)));
    let mut out = String::new();
    let mut put = |t: &str| {
        out.push_str(t);
        if !t.ends_with('\n') {
            out.push('\n');
        }
    };
    let fresh = |row: &Datum| format!("{:indent$}- {}", "", rows::yaml(row));
    if c.verdict.order_only {
        c.got.iter().for_each(|row| put(&fresh(row)));
    } else {
        for op in &c.verdict.ops {
            match *op {
                Op::Same(w, _) => put(&text[ends[w]..ends[w + 1]]),
                Op::Changed(w, g) => {
                    let own = &c.wanted[w].place.bytes;
                    put(&format!("{}{}{}", &text[ends[w]..own.start], rows::yaml(&narrow(c, &c.got[g])), &text[own.end..ends[w + 1]]));
                }
                Op::Extra(g) => put(&fresh(&narrow(c, &c.got[g]))),
                Op::Missing(_) => {}
            }
        }
    }
    let end = ends.last().copied().unwrap_or(begin);
    if out.is_empty() {
        out = format!("{:indent$}[]\n", "", indent = indent + 2);
    }
    Edit { file: place.file.clone(), bytes: begin..end, text: out }
}

/// Makes the changes of one file.
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|e| std::cmp::Reverse(e.bytes.start));
    let mut out = text.to_string();
    let mut floor = usize::MAX;
    for e in edits {
        // Two demands on one list, by an alias: the later one has made it so already.
        if e.bytes.end <= floor {
            out.replace_range(e.bytes.clone(), &e.text);
            floor = e.bytes.start;
        }
    }
    out
}
