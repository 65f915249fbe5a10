//! What no test of a topology has reached.

use crate::run::Outcome;
use millrace_plan::plan::Plan;
use millrace_sdk::Reached;
use std::collections::{BTreeMap, BTreeSet};

/// Characters of an expression that are shown.
const SHOWN: usize = 60;

/// What is to be reached, in the plan's order, and how many rows did.
#[derive(Default)]
pub struct Coverage {
    order: Vec<String>,
    rows: BTreeMap<String, u64>,
}

impl Coverage {
    pub fn new(plan: &Plan) -> Coverage {
        let mut c = Coverage::default();
        for (i, node) in plan.nodes.iter().enumerate().filter(|(i, _)| *i != plan.dead_letter.0) {
            let kind = if matches!(node.kind, millrace_plan::plan::NodeKind::Sink(_)) { "sink" } else { "part" };
            c.order.push(format!("{kind} `{}`", node.name));
            for (p, (port, _)) in node.ports.iter().enumerate().filter(|(_, (p, _))| !p.dead && p.name != "errors" && !p.name.is_empty()) {
                let read = plan.nodes.iter().any(|n| n.inputs.iter().any(|x| (x.from.node.0, x.from.port) == (i, p)));
                if read {
                    c.order.push(format!("port `{}.{}`", node.name, port.name));
                }
            }
            c.order.extend(branches(node.part).iter().map(|(_, words)| format!("branch `{}`: {words}", node.name)));
        }
        c.rows = c.order.iter().map(|what| (what.clone(), 0)).collect();
        c
    }

    pub fn add(&mut self, outcome: &Outcome) {
        let mut count = |what: String, n: u64| {
            if let Some(rows) = self.rows.get_mut(&what) {
                *rows += n;
            }
        };
        for n in &outcome.nodes {
            let kind = if n.kind == "sink" { "sink" } else { "part" };
            count(format!("{kind} `{}`", n.name), n.records_in);
            n.ports.iter().for_each(|p| count(format!("port `{}.{}`", n.name, p.name), p.records));
            for (counter, words) in branches(&n.part) {
                let seen = match *counter {
                    "kept" => n.records_out,
                    name => [&n.counters, &n.dropped, &n.rejected].iter().filter_map(|by| by.get(name)).sum(),
                };
                count(format!("branch `{}`: {words}", n.name), seen);
            }
        }
    }

    /// Ways through expressions and templates.
    pub fn add_ways(&mut self, reached: &Reached) {
        for (way, rows) in reached.all() {
            let text: String = way.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let short: String = text.chars().take(SHOWN).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            let what = format!("branch `{}` in `{short}{dots}`", way.words.split_whitespace().collect::<Vec<_>>().join(" "));
            *self.rows.entry(what.clone()).or_default() += rows;
            if !self.order.contains(&what) {
                self.order.push(what);
            }
        }
    }

    /// How much there is to reach.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What nothing has reached.
    pub fn missed(&self) -> Vec<&str> {
        let mut told = BTreeSet::new();
        self.order.iter().map(String::as_str).filter(|w| self.rows[*w] == 0 && told.insert(*w)).collect()
    }
}

/// Ways through a part that it counts: the counter, or the reason of a drop, and what it means.
fn branches(part: &str) -> &'static [(&'static str, &'static str)] {
    match part {
        "Filter" => &[("kept", "a row that it keeps"), ("filtered", "a row that it drops")],
        "Dedup" => &[("kept", "a row seen for the first time"), ("duplicate", "a repeat")],
        "IntervalLeftJoin" => &[("matched", "a row with a partner"), ("unmatched", "a row without a partner")],
        _ => &[],
    }
}
