//! Guards: counters of what flows, taken when boundaries are answered, and whether they stay within their bounds.

use crate::graph::is_pass;
use crate::progress::Meters;
use millrace_plan::plan::{GuardCheck, GuardPlan, Plan};
use millrace_sdk::config::Duration as Shown;
use millrace_sdk::{Batch, Slot, Val};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a process counts for a guard, since it began: (part, whole) of a share, (rows, 0), or (newest time, 0).
pub type Counts = Vec<(i64, i64)>;

/// Nulls of a field, and rows.
#[derive(Default)]
pub struct NullMeter {
    nulls: AtomicU64,
    rows: AtomicU64,
}

impl NullMeter {
    pub fn look(&self, batch: &Batch, slot: Slot) {
        let nulls = batch.rows().filter(|r| matches!(r.get(slot), Val::Null | Val::Missing)).count();
        self.nulls.fetch_add(nulls as u64, Relaxed);
        self.rows.fetch_add(batch.len() as u64, Relaxed);
    }
}

/// The outputs in which a guard's nulls are counted: those that a node without an operator passes on are counted where they came from.
pub fn watched(plan: &Plan, node: usize, port: usize) -> Vec<(usize, usize)> {
    match is_pass(plan, node) {
        true => plan.nodes[node].inputs.iter().flat_map(|i| watched(plan, i.from.node.0, i.from.port)).collect(),
        false => vec![(node, port)],
    }
}

/// Reads the counters of this process.
pub fn count(guards: &[GuardPlan], meters: &Meters) -> Counts {
    let nodes = meters.node_summaries();
    let one = |(i, g): (usize, &GuardPlan)| {
        let n = &nodes[g.node];
        let counter = |name: &str| n.counters.get(name).copied().unwrap_or(0) as i64;
        match g.check {
            GuardCheck::JoinRate => {
                let found = counter("matched") + counter("by_fallback");
                (found, found + counter("unmatched"))
            }
            GuardCheck::RejectRate => (n.rejected_total as i64, n.records_in as i64),
            GuardCheck::Rows => (n.ports.get(g.port).map_or(0, |p| p.records as i64), 0),
            GuardCheck::Nulls(_) => (meters.nulls[i].nulls.load(Relaxed) as i64, meters.nulls[i].rows.load(Relaxed) as i64),
            GuardCheck::Freshness => (meters.nodes[g.node].watermark.load(Relaxed), 0),
        }
    };
    guards.iter().enumerate().map(one).collect()
}

/// What the guards of a run say.
pub struct Guards {
    plans: Vec<GuardPlan>,
    /// May be red until they were green once.
    accepted: BTreeSet<String>,
    /// By process: as told last.
    told: BTreeMap<usize, Counts>,
    /// When, in microseconds of the run, and the sums of all processes; the first is the run's beginning.
    samples: VecDeque<(u64, Counts)>,
}

/// What the guards say at a checkpoint.
#[derive(Debug, Default, PartialEq)]
pub struct Finding {
    pub red: Vec<String>,
    /// In words, a guard each.
    pub seen: Vec<String>,
}

impl Guards {
    /// None: there are none.
    pub fn new(plans: &[GuardPlan], accepted: &[String]) -> Option<Guards> {
        let zero = plans.iter().map(|g| if g.check == GuardCheck::Freshness { (i64::MIN, 0) } else { (0, 0) }).collect();
        let accepted = accepted.iter().cloned().collect();
        (!plans.is_empty()).then(|| Guards { plans: plans.to_vec(), accepted, told: BTreeMap::new(), samples: [(0, zero)].into() })
    }

    /// So long after a checkpoint all must have been green, microseconds.
    pub fn lag(&self) -> u64 {
        self.plans.iter().map(|g| g.over.as_micros() as u64).max().unwrap_or(0)
    }

    pub fn tell(&mut self, process: usize, counts: Counts) {
        self.told.insert(process, counts);
    }

    /// Looks at what was told, at `now` (microseconds of the run; `clock`: since 1970).
    pub fn judge(&mut self, now: u64, clock: i64) -> Finding {
        let sums: Counts = (0..self.plans.len()).map(|i| self.sum(i)).collect();
        let mut finding = Finding::default();
        for (i, g) in self.plans.iter().enumerate() {
            let window = now.saturating_sub(g.over.as_micros() as u64);
            // The newest sample that the window does not cut; a run that is younger has seen less.
            let (at, base) = self.samples.iter().rev().find(|(at, _)| *at <= window).unwrap_or(&self.samples[0]);
            let whole = now >= g.over.as_micros() as u64 && *at <= window;
            let (part, all) = (sums[i].0.wrapping_sub(base[i].0), sums[i].1 - base[i].1);
            let value = match g.check {
                GuardCheck::Freshness => match sums[i].0 {
                    i64::MIN => None,
                    i64::MAX => Some(0.0),
                    wm => Some(clock.saturating_sub(wm).max(0) as f64),
                },
                // As many as there would be in exactly `over`.
                GuardCheck::Rows if whole => Some(part as f64 * g.over.as_micros() as f64 / (now - at).max(1) as f64),
                GuardCheck::Rows => None,
                _ if all < g.at_least as i64 => None,
                _ => Some(part as f64 / all as f64),
            };
            let red = value.is_some_and(|v| g.min.is_some_and(|min| v < min) || g.max.is_some_and(|max| v > max));
            let said = value.map_or("nothing to judge".into(), |v| shown(g, v));
            finding.seen.push(format!("`{}`: {said}{}", g.name, if red { ", which is red" } else { "" }));
            match red {
                true if self.accepted.contains(&g.name) => {
                    tracing::warn!(target: "guard", guard = g.name, "red ({said}), and accepted until it is green once");
                }
                true => finding.red.push(g.name.clone()),
                false if value.is_some() && self.accepted.remove(&g.name) => {
                    tracing::warn!(target: "guard", guard = g.name, "green again ({said}): from now on it can halt the job");
                }
                false => {}
            }
        }
        self.samples.push_back((now, sums));
        let oldest = now.saturating_sub(self.lag());
        while self.samples.get(1).is_some_and(|(at, _)| *at <= oldest) {
            self.samples.pop_front();
        }
        finding
    }

    fn sum(&self, i: usize) -> (i64, i64) {
        let all = self.told.values().filter_map(|c| c.get(i));
        match self.plans[i].check {
            GuardCheck::Freshness => (all.map(|c| c.0).filter(|t| *t != i64::MIN).min().unwrap_or(i64::MIN), 0),
            _ => all.fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1)),
        }
    }
}

fn shown(g: &GuardPlan, value: f64) -> String {
    let text = |v: f64| match g.check {
        GuardCheck::Freshness => Shown::micros(v as i64 / 1000 * 1000).to_string(),
        GuardCheck::Rows => format!("{v:.0} rows"),
        _ => format!("{:.2} %", v * 100.0),
    };
    let bound = |word: &str, v: Option<f64>| v.map(|v| format!("{word} {}", text(v)));
    let bounds: Vec<String> = bound("at least", g.min).into_iter().chain(bound("at most", g.max)).collect();
    format!("{} ({})", text(value), bounds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn guard(check: GuardCheck, min: Option<f64>, max: Option<f64>) -> GuardPlan {
        GuardPlan { name: "g".into(), check, node: 0, port: 0, over: Duration::from_secs(10), min, max, at_least: 10 }
    }

    /// Seconds and counts of one process; which of the moments are red.
    fn reds(g: GuardPlan, accepted: &[String], counts: &[(u64, i64, i64)]) -> Vec<u64> {
        let mut guards = Guards::new(&[g], accepted).unwrap();
        let mut red = vec![];
        for &(second, part, whole) in counts {
            guards.tell(0, vec![(part, whole)]);
            if !guards.judge(second * 1_000_000, second as i64 * 1_000_000).red.is_empty() {
                red.push(second);
            }
        }
        red
    }

    #[test]
    fn shares_are_judged_over_their_window_and_from_enough_rows() {
        let g = guard(GuardCheck::JoinRate, Some(0.5), None);
        // 9 rows say nothing; then all match until 20, none after.
        let counts =
            [(1, 0, 9), (5, 100, 109), (10, 200, 209), (15, 300, 309), (20, 400, 409), (25, 400, 509), (30, 400, 620), (40, 500, 720)];
        assert_eq!(reds(g.clone(), &[], &counts), [25 + 5]);
        assert_eq!(reds(g.clone(), &["g".into()], &counts), [30], "green before, so it can halt the job");
        assert_eq!(reds(g, &["g".into()], &[(5, 0, 100), (10, 0, 200), (20, 100, 300), (30, 100, 400)]), [30]);
    }

    #[test]
    fn rows_are_those_of_exactly_the_window() {
        let g = guard(GuardCheck::Rows, Some(90.0), Some(110.0));
        assert_eq!(reds(g.clone(), &[], &[(4, 1, 0), (9, 2, 0)]), Vec::<u64>::new(), "a run that is younger than its window");
        let steady: Vec<(u64, i64, i64)> = (1..20).map(|i| (i * 4, i as i64 * 40, 0)).collect();
        assert_eq!(reds(g.clone(), &[], &steady), Vec::<u64>::new());
        assert_eq!(reds(g, &[], &[(10, 100, 0), (20, 150, 0), (30, 400, 0)]), [20, 30]);
    }

    #[test]
    fn freshness_is_the_oldest_of_all_processes() {
        let mut guards = Guards::new(&[guard(GuardCheck::Freshness, None, Some(5e6))], &[]).unwrap();
        guards.tell(0, vec![(i64::MIN, 0)]);
        assert_eq!(guards.judge(0, 100_000_000).red.len(), 0);
        guards.tell(1, vec![(96_000_000, 0)]);
        assert_eq!(guards.judge(1, 100_000_000).red.len(), 0);
        guards.tell(0, vec![(94_000_000, 0)]);
        let finding = guards.judge(2, 100_000_000);
        assert_eq!((finding.red.len(), &*finding.seen[0]), (1, "`g`: 6s (at most 5s), which is red"));
        guards.tell(0, vec![(i64::MAX, 0)]);
        guards.tell(1, vec![(i64::MAX, 0)]);
        assert_eq!(guards.judge(3, 100_000_000).red.len(), 0);
    }
}
