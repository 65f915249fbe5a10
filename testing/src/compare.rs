//! What came out against what was expected.

use crate::rows;
use millrace_plan::cases::{DEAD_LETTER, Datum, Expect, How, Want, WantedRow};
use millrace_sdk::Decimal;

/// By which numbers that are not exact may differ, as a part of the greater one.
const TOLERANCE: f64 = 1e-9;
/// Pairs of rows that are compared at most to align two lists.
const PAIRS: usize = 4_000_000;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Index among the wanted rows, and among those that came.
    Same(usize, usize),
    Changed(usize, usize),
    Missing(usize),
    Extra(usize),
}

/// What is to be said of one demand.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub good: bool,
    /// In the order of the output; of a demand for a subset without what is extra. Empty for a count.
    pub ops: Vec<Op>,
    /// The rows are all there, but in another order.
    pub order_only: bool,
}

/// Whether only the fields count that the wanted row names.
pub fn is_partial(expect: &Expect, how: How) -> bool {
    how == How::Subset || expect.output == DEAD_LETTER
}

/// Judges the rows that an output gave by one demand, whose rows are given apart as they may stand in a file.
pub fn judge(expect: &Expect, want: &Want, wanted: &[WantedRow], got: &[Datum]) -> Verdict {
    let partial = is_partial(expect, want.how);
    let same = |w: usize, g: usize| equal(&wanted[w].row, &got[g], partial);
    let (mut ops, mut order_only) = match want.how {
        How::Count(n) => return Verdict { good: n == got.len() as u64, ops: vec![], order_only: false },
        How::Exact => (in_order(wanted.len(), got.len(), &same), false),
        How::Unordered | How::Subset => (in_any_order(wanted.len(), got.len(), &same), false),
    };
    if want.how == How::Exact && ops.iter().any(|o| !matches!(o, Op::Same(..))) {
        order_only = in_any_order(wanted.len(), got.len(), &same).iter().all(|o| matches!(o, Op::Same(..)));
    }
    if !order_only {
        ops = pair(ops, wanted, got);
    }
    if want.how == How::Subset {
        ops.retain(|o| !matches!(o, Op::Extra(_)));
    }
    Verdict { good: ops.iter().all(|o| matches!(o, Op::Same(..))), ops, order_only }
}

/// The longest common subsequence.
fn in_order(n: usize, m: usize, same: &dyn Fn(usize, usize) -> bool) -> Vec<Op> {
    let head = (0..n.min(m)).take_while(|i| same(*i, *i)).count();
    let tail = (0..n.min(m) - head).take_while(|i| same(n - 1 - i, m - 1 - i)).count();
    let (a, b) = (n - head - tail, m - head - tail);
    let mut ops: Vec<Op> = (0..head).map(|i| Op::Same(i, i)).collect();
    if a.saturating_mul(b) > PAIRS {
        ops.extend((0..a).map(|i| Op::Missing(head + i)));
        ops.extend((0..b).map(|i| Op::Extra(head + i)));
    } else {
        let mut length = vec![vec![0u32; b + 1]; a + 1];
        for i in (0..a).rev() {
            for j in (0..b).rev() {
                let next = length[i + 1][j].max(length[i][j + 1]);
                length[i][j] = if same(head + i, head + j) { length[i + 1][j + 1] + 1 } else { next };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a || j < b {
            if i < a && j < b && length[i][j] == length[i + 1][j + 1] + 1 && same(head + i, head + j) {
                ops.push(Op::Same(head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if j == b || (i < a && length[i + 1][j] >= length[i][j + 1]) {
                ops.push(Op::Missing(head + i));
                i += 1;
            } else {
                ops.push(Op::Extra(head + j));
                j += 1;
            }
        }
    }
    ops.extend((0..tail).rev().map(|i| Op::Same(n - 1 - i, m - 1 - i)));
    ops
}

/// As many pairs as there can be (augmenting paths), then what is left.
fn in_any_order(n: usize, m: usize, same: &dyn Fn(usize, usize) -> bool) -> Vec<Op> {
    let mut taken: Vec<Option<usize>> = vec![None; m];
    let fits: Vec<Vec<usize>> = match n.saturating_mul(m) > PAIRS {
        true => (0..n).map(|w| if w < m && same(w, w) { vec![w] } else { vec![] }).collect(),
        false => (0..n).map(|w| (0..m).filter(|g| same(w, *g)).collect()).collect(),
    };
    for w in 0..n {
        place(w, &fits, &mut taken, &mut vec![false; m]);
    }
    let found = |w: usize| taken.iter().position(|t| *t == Some(w));
    let mut ops: Vec<Op> = (0..n).map(|w| found(w).map_or(Op::Missing(w), |g| Op::Same(w, g))).collect();
    ops.extend((0..m).filter(|g| taken[*g].is_none()).map(Op::Extra));
    ops
}

fn place(w: usize, fits: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for &g in &fits[w] {
        if !std::mem::replace(&mut tried[g], true) && taken[g].is_none_or(|other| place(other, fits, taken, tried)) {
            taken[g] = Some(w);
            return true;
        }
    }
    false
}

/// Makes pairs of what is missing and what is extra, where rows are alike.
fn pair(ops: Vec<Op>, wanted: &[WantedRow], got: &[Datum]) -> Vec<Op> {
    let mut extra: Vec<usize> = ops.iter().filter_map(|o| if let Op::Extra(g) = o { Some(*g) } else { None }).collect();
    let missing = ops.iter().filter(|o| matches!(o, Op::Missing(_))).count();
    if missing.saturating_mul(extra.len()) > PAIRS {
        return ops;
    }
    let mut pairs = vec![];
    for op in &ops {
        let Op::Missing(w) = op else { continue };
        let best = extra.iter().copied().map(|g| (likeness(&wanted[*w].row, &got[g]), g)).max_by_key(|(l, g)| (*l, std::cmp::Reverse(*g)));
        if let Some((_, g)) = best.filter(|(l, _)| *l > 0) {
            extra.retain(|e| *e != g);
            pairs.push((*w, g));
        }
    }
    let changed = |op: Op| match op {
        Op::Missing(w) => Some(pairs.iter().find(|p| p.0 == w).map_or(op, |p| Op::Changed(p.0, p.1))),
        Op::Extra(g) => (!pairs.iter().any(|p| p.1 == g)).then_some(op),
        op => Some(op),
    };
    ops.into_iter().filter_map(changed).collect()
}

/// How many of the wanted fields came; 0 where less than half of them did.
fn likeness(want: &Datum, got: &Datum) -> usize {
    let (Datum::Map(want), Datum::Map(_)) = (want, got) else { return 0 };
    let same = want.iter().filter(|(name, d)| equal(d, field(got, name), false)).count();
    if 2 * same >= want.len() { same } else { 0 }
}

/// A row's field; null where it has none.
pub fn field<'d>(row: &'d Datum, name: &str) -> &'d Datum {
    let Datum::Map(fields) = row else { return &Datum::Null };
    fields.iter().find(|(n, _)| n == name).map_or(&Datum::Null, |(_, d)| d)
}

/// Whether a value is the one that is wanted. `partial`: a map may have more fields. A field that is not there is null.
pub fn equal(want: &Datum, got: &Datum, partial: bool) -> bool {
    match (want, got) {
        (Datum::Map(w), Datum::Map(g)) => {
            w.iter().all(|(name, d)| equal(d, field(got, name), false))
                && (partial || g.iter().all(|(name, d)| *d == Datum::Null || w.iter().any(|(n, _)| n == name)))
        }
        (Datum::List(w), Datum::List(g)) => w.len() == g.len() && w.iter().zip(g).all(|(w, g)| equal(w, g, false)),
        (Datum::Number { text: w, .. }, Datum::Number { text: g, float }) => same_number(w, g, *float),
        (Datum::Text(_), Datum::Time(t)) => rows::time(want) == Some(*t),
        _ => want == got,
    }
}

fn same_number(want: &str, got: &str, float: bool) -> bool {
    if want == got {
        return true;
    }
    let exact = Decimal::parse(want).zip(Decimal::parse(got)).map(|(a, b)| a.compare(&b).is_eq());
    let near = || match (want.parse::<f64>(), got.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
        _ => false,
    };
    // Integers are exact, whatever field they stand in.
    let whole = |t: &str| t.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
    match exact {
        Some(true) => true,
        Some(false) if !float || (whole(want) && whole(got)) => false,
        _ => near(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_plan::cases::Place;

    fn place() -> Place {
        Place { file: "t".into(), line: 1, bytes: 0..0 }
    }

    fn verdict(how: How, want: &str, got: &str) -> Verdict {
        let list = |t: &str| match rows::from_json(t) {
            Datum::List(all) => all,
            _ => vec![],
        };
        let rows: Vec<WantedRow> = list(want).into_iter().map(|row| WantedRow { row, place: place() }).collect();
        let want = Want { how, rows, file: None, place: place() };
        let expect = Expect { output: "out".into(), place: place(), want: vec![want.clone()] };
        judge(&expect, &want, &want.rows, &list(got))
    }

    #[test]
    fn orders_and_subsets() {
        let rows = r#"[{"a":1},{"a":2},{"a":3}]"#;
        for (how, want, good) in [
            (How::Exact, rows, true),
            (How::Exact, r#"[{"a":1},{"a":3},{"a":2}]"#, false),
            (How::Exact, r#"[{"a":1},{"a":2}]"#, false),
            (How::Unordered, r#"[{"a":3},{"a":1},{"a":2}]"#, true),
            (How::Unordered, r#"[{"a":3},{"a":1},{"a":1}]"#, false),
            (How::Subset, r#"[{"a":3},{}]"#, true),
            (How::Subset, r#"[{"a":3},{"a":3}]"#, false),
            (How::Subset, r#"[{},{},{},{}]"#, false),
            (How::Count(3), "[]", true),
            (How::Count(2), "[]", false),
            (How::Exact, "[]", false),
        ] {
            assert_eq!(verdict(how, want, rows).good, good, "{how:?} {want}");
        }
        assert!(verdict(How::Exact, r#"[{"a":3},{"a":1},{"a":2}]"#, rows).order_only);
        // A row that fits two is given to the one that fits nothing else.
        assert!(verdict(How::Subset, r#"[{"a":1},{"a":1,"b":2}]"#, r#"[{"a":1,"b":2},{"a":1,"b":3}]"#).good);
    }

    #[test]
    fn alike_rows_are_changed_ones() {
        let v = verdict(How::Exact, r#"[{"a":1,"b":1},{"a":9,"b":9}]"#, r#"[{"a":1,"b":2},{"c":5}]"#);
        assert_eq!(v.ops, [Op::Changed(0, 0), Op::Missing(1), Op::Extra(1)]);
        let v = verdict(How::Unordered, r#"[{"a":1,"b":1}]"#, r#"[{"a":7,"b":7},{"a":2,"b":1}]"#);
        assert_eq!(v.ops, [Op::Changed(0, 1), Op::Extra(0)]);
    }

    #[test]
    fn values() {
        let n = |text: &str, float| Datum::Number { text: text.into(), float };
        let t = |text: &str| Datum::Text(text.into());
        for (want, got, same) in [
            (n("1", false), n("1.0", true), true),
            (n("0.3", false), n("0.30000000000000004", true), true),
            (n("0.3", false), n("0.3001", true), false),
            (n("12345678901.23", false), n("12345678901.24", false), false),
            (n("10.00", false), n("10", false), true),
            (n("9007199254740993", false), n("9007199254740992", true), false),
            (n("1e3", false), n("1000", false), true),
            (n("1", false), t("1"), false),
            (t("2026-01-01T08:00:00+08:00"), Datum::Time(1_767_225_600_000_000), true),
            (t("2026-01-01T00:00:01Z"), Datum::Time(1_767_225_600_000_000), false),
            (Datum::Null, Datum::Null, true),
            (Datum::Null, t(""), false),
        ] {
            assert_eq!(equal(&want, &got, false), same, "{want:?} {got:?}");
        }
        let missing = Datum::Map(vec![("a".into(), Datum::Null)]);
        assert!(equal(&missing, &Datum::Map(vec![]), false) && equal(&Datum::Map(vec![]), &missing, false));
    }
}
