//! A test's result in words: what is missing, extra and different, with its place.

use crate::compare::{self, Op, Verdict, equal, field, is_partial, judge};
use crate::rows;
use crate::run::Outcome;
use millrace_plan::cases::{Datum, Expect, How, Want, WantedRow};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Rows that are shown of one demand.
const MOST: usize = 50;

/// One demand of a test with what came of it.
pub struct Checked {
    pub expect: Expect,
    pub want: Want,
    /// The rows of the demand, its file read.
    pub wanted: Vec<WantedRow>,
    pub got: Vec<Datum>,
    pub verdict: Verdict,
    /// Its file cannot be read.
    pub unreadable: Option<String>,
}

impl Checked {
    pub fn good(&self) -> bool {
        self.verdict.good && self.unreadable.is_none()
    }
}

/// Judges all demands of a test. Files of rows are looked for in `base`.
pub fn check(outcome: &Outcome, base: &Path) -> Vec<Checked> {
    let mut all = vec![];
    for (expect, got) in &outcome.seen {
        for want in &expect.want {
            let (wanted, unreadable) = match wanted(want, base) {
                Ok(rows) => (rows, None),
                Err(e) => (vec![], Some(e)),
            };
            let verdict = judge(expect, want, &wanted, got);
            all.push(Checked { expect: expect.clone(), want: want.clone(), wanted, got: got.clone(), verdict, unreadable });
        }
    }
    all
}

fn wanted(want: &Want, base: &Path) -> Result<Vec<WantedRow>, String> {
    let Some(file) = &want.file else { return Ok(want.rows.clone()) };
    let text = std::fs::read_to_string(base.join(file)).map_err(|e| format!("cannot read `{file}`: {e}"))?;
    let row = |(i, line): (usize, &str)| {
        let place = millrace_plan::cases::Place { file: file.clone(), line: i + 1, bytes: 0..0 };
        WantedRow { row: rows::from_json(line), place }
    };
    Ok(text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(row).collect())
}

struct Pen<'o> {
    out: &'o mut String,
    color: bool,
}

impl Pen<'_> {
    fn line(&mut self, code: &str, text: &str) {
        let _ = if self.color && !code.is_empty() { writeln!(self.out, "\x1b[{code}m{text}\x1b[0m") } else { writeln!(self.out, "{text}") };
    }
}

const RED: &str = "31";
const GREEN: &str = "32";
const BOLD: &str = "1";

/// Says of a demand that does not hold what is wrong: `-` is missing, `+` came and is not expected, `~` came with other fields.
pub fn failure(c: &Checked, color: bool) -> String {
    let mut out = String::new();
    let mut pen = Pen { out: &mut out, color };
    let place = &c.want.place;
    let how = match c.want.how {
        How::Exact => "exact",
        How::Unordered => "unordered",
        How::Subset => "subset",
        How::Count(_) => "count",
    };
    let head = format!("  {} ({how})  {}:{}", c.expect.output, place.file, place.line);
    pen.line(BOLD, &head);
    if let Some(e) = &c.unreadable {
        pen.line(RED, &format!("    {e}"));
        return out;
    }
    if let How::Count(n) = c.want.how {
        pen.line(RED, &format!("    - {n} rows"));
        pen.line(GREEN, &format!("    + {} rows", c.got.len()));
        return out;
    }
    let count = |f: fn(&Op) -> bool| c.verdict.ops.iter().filter(|o| f(o)).count();
    let same = count(|o| matches!(o, Op::Same(..)));
    if c.verdict.order_only {
        pen.line("", "    the rows are right, their order is not: write `unordered:` if it does not matter");
    } else {
        let mut parts = vec![format!("{same} as expected")];
        let said = [
            (count(|o| matches!(o, Op::Changed(..))), "different"),
            (count(|o| matches!(o, Op::Missing(_))), "missing"),
            (count(|o| matches!(o, Op::Extra(_))), "not expected"),
        ];
        parts.extend(said.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")));
        if c.want.how == How::Subset {
            parts.push(format!("{} rows came in all", c.got.len()));
        }
        pen.line("", &format!("    {}", parts.join(", ")));
    }
    let line = |w: usize| c.wanted.get(w).map_or(String::new(), |r| format!("  :{}", r.place.line));
    let mut shown = 0;
    let mut left = 0;
    for op in c.verdict.ops.iter().filter(|o| !matches!(o, Op::Same(..))) {
        shown += 1;
        if shown > MOST {
            left += 1;
            continue;
        }
        match *op {
            Op::Missing(w) => pen.line(RED, &format!("    - {}{}", rows::yaml(&c.wanted[w].row), line(w))),
            Op::Extra(g) => pen.line(GREEN, &format!("    + {}", rows::yaml(&narrowed(c, &c.got[g])))),
            Op::Changed(w, g) => changed(&mut pen, c, w, g, &line(w)),
            Op::Same(..) => {}
        }
    }
    if left > 0 {
        pen.line("", &format!("    … and {left} more"));
    }
    out
}

/// The row with what is the same of it, then each field that is not.
fn changed(pen: &mut Pen<'_>, c: &Checked, w: usize, g: usize, line: &str) {
    let (want, got) = (&c.wanted[w].row, &c.got[g]);
    let partial = is_partial(&c.expect, c.want.how);
    let (Datum::Map(wanted), Datum::Map(came)) = (want, got) else { return };
    let same = |name: &str, d: &Datum| equal(d, field(got, name), false);
    let kept: Vec<(String, Datum)> = wanted.iter().filter(|(n, d)| same(n, d)).cloned().collect();
    pen.line("", &format!("    ~ {}{line}", rows::yaml(&Datum::Map(kept))));
    for (name, d) in wanted.iter().filter(|(n, d)| !same(n, d)) {
        pen.line(RED, &format!("        - {name}: {}", rows::yaml(d)));
        match came.iter().find(|(n, _)| n == name) {
            Some((_, d)) => pen.line(GREEN, &format!("        + {name}: {}", rows::yaml(d))),
            None => {
                let free = came.iter().map(|(n, _)| n.as_str()).filter(|n| !wanted.iter().any(|(w, _)| w == n));
                let near = millrace_sdk::problem::did_you_mean(name, free);
                let near = near.map_or(String::new(), |n| format!(", did you mean `{n}`?"));
                pen.line(GREEN, &format!("        + no field `{name}`{near}"));
            }
        }
    }
    if !partial {
        for (name, d) in came.iter().filter(|(n, d)| *d != Datum::Null && !wanted.iter().any(|(w, _)| w == n)) {
            pen.line(GREEN, &format!("        + {name}: {}", rows::yaml(d)));
        }
    }
}

/// Fields that say what a dead letter is.
pub const DEAD_FIELDS: &[&str] = &["part", "reason", "message", "body"];

/// What is worth showing of a row that was not expected.
pub fn narrowed(c: &Checked, row: &Datum) -> Datum {
    let dead = c.expect.output == millrace_plan::cases::DEAD_LETTER;
    let partial = is_partial(&c.expect, c.want.how);
    let Datum::Map(fields) = row else { return row.clone() };
    let named = |name: &str| match dead {
        true => DEAD_FIELDS.contains(&name),
        false => c.wanted.iter().any(|w| matches!(&w.row, Datum::Map(f) if f.iter().any(|(n, _)| n == name))),
    };
    Datum::Map(fields.iter().filter(|(n, _)| !partial || named(n)).cloned().collect())
}

/// Dead letters by part and reason, in a line; None: there are none.
pub fn dead(outcome: &Outcome) -> Option<String> {
    let mut by: BTreeMap<String, usize> = BTreeMap::new();
    for row in &outcome.dead {
        let text = |name: &str| if let Datum::Text(t) = compare::field(row, name) { t.clone() } else { String::new() };
        *by.entry(format!("{} of {}", text("reason"), text("part"))).or_default() += 1;
    }
    let said: Vec<String> = by.iter().map(|(what, n)| format!("{n} {what}")).collect();
    (!said.is_empty()).then(|| format!("dead letters: {}", said.join(", ")))
}
