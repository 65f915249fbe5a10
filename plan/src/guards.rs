//! `guards:`: what must hold for a job's output to be published.

use crate::build::Built;
use crate::diagnostic::{Found, Report};
use crate::plan::{CheckpointPlan, GuardCheck, GuardPlan, Node as PlanNode};
use crate::source::Span;
use crate::topology::{Topology, typed};
use crate::wiring::{Graph, Item, What};
use crate::yaml::{Entry, Node};
use millrace_sdk::config::{Duration, FieldName};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Demand, Guarantee};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// A condition on what flows through the job. Publication lags by `over`: a checkpoint's output is published when the guard has been green
/// for so long after it. When it is red the job halts (exit code 6), and nothing that waited is ever published; the next start goes on from
/// the last checkpoint that passed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    /// Its name in messages and for `--accept-guard`. Default: its type and input, `JoinRate-joined`.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// What it looks at.
    #[serde(rename = "type")]
    pub kind: GuardKind,
    /// The part, or the output (`part.port`), that it looks at.
    pub input: String,
    /// Nulls: the field.
    pub field: Option<FieldName>,
    /// How far back it looks, and by how much publication lags. Default 1m.
    pub over: Option<Duration>,
    /// Least value: a share from 0 to 1, or a number of rows.
    #[schemars(range(min = 0.0))]
    pub min: Option<f64>,
    /// Greatest value: a share from 0 to 1, or a number of rows.
    #[schemars(range(min = 0.0))]
    pub max: Option<f64>,
    /// Freshness: greatest delay of the stream's watermark behind the clock.
    pub max_delay: Option<Duration>,
    /// Rows that must have come within `over` before a share is judged. Default 1.
    #[schemars(range(min = 1))]
    pub at_least: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum GuardKind {
    /// Share of a join's left rows that are settled and found a partner, by the fallback too.
    JoinRate,
    /// Share of a part's rows that it rejects.
    RejectRate,
    /// Rows of an output within `over`.
    Rows,
    /// Share of an output's rows in which the field is null or missing.
    Nulls,
    /// How far the watermark of a stream or part is behind the clock.
    Freshness,
}

/// A guard whose input is found.
pub(crate) struct Placed {
    pub plan: GuardPlan,
    pub item: usize,
}

fn span(node: &Node, key: &str) -> Span {
    node.get(key).map_or(node.span, |n| n.span)
}

/// Where a guard looks: item, port.
pub(crate) fn target(graph: &Graph, input: &str) -> Option<(usize, usize)> {
    let find = |name: &str| graph.items.iter().position(|i| i.name == name && !matches!(i.what, What::Sink(_)));
    if let Some(item) = find(input) {
        return Some((item, main(&graph.items[item])));
    }
    let (name, port) = input.rsplit_once('.')?;
    let item = find(name)?;
    Some((item, graph.items[item].ports.as_ref()?.iter().position(|p| p.name == port)?))
}

fn main(item: &Item) -> usize {
    item.ports.as_ref().and_then(|p| p.iter().position(|p| p.name.is_empty())).unwrap_or(0)
}

/// What guards want of outputs: item, port, fields.
pub(crate) fn demands(t: &Topology, graph: &Graph) -> Vec<((usize, usize), Demand)> {
    let of = |g: &Guard| Some((target(graph, &g.input)?, Demand::of([g.field.as_ref()?.to_string()])));
    t.guards.iter().filter_map(|(g, _)| of(g)).collect()
}

/// Checks the guards against the built topology.
pub(crate) fn plan(report: &mut Report, t: &Topology, graph: &Graph, built: &Built, checkpoint: Option<&CheckpointPlan>) -> Vec<Placed> {
    let mut names = HashSet::new();
    let mut out = vec![];
    for (g, node) in &t.guards {
        let name = g.name.clone().unwrap_or_else(|| format!("{:?}-{}", g.kind, g.input));
        if !names.insert(name.clone()) {
            let found = Found::error("duplicate-name", span(node, "name"), format!("two guards are called `{name}`"));
            report.push(found.hint("give one of them another `name`"));
        }
        let Some((item, port)) = target(graph, &g.input) else {
            let all = graph.items.iter().filter(|i| !matches!(i.what, What::Sink(_))).map(|i| i.name.as_str());
            let found = Found::error("dangling-input", span(node, "input"), format!("nothing is called `{}`", g.input));
            report.push(found.suggest(did_you_mean(&g.input, all)).hint("a guard looks at a stream, a transform, or one of its ports"));
            continue;
        };
        let field = match (g.kind, &g.field) {
            (GuardKind::Nulls, Some(f)) => {
                let flow = built.flows.get(item).and_then(Option::as_ref);
                let edge = flow.and_then(|f| f.edges.get(port));
                match edge.map(|e| e.schema.slot(f)) {
                    Some(Some(slot)) => Some(slot),
                    Some(None) if flow.is_some_and(|f| f.sure) => {
                        let known = edge.into_iter().flat_map(|e| e.schema.fields().iter().map(|f| &*f.name));
                        let found = Found::error("unknown-field", span(node, "field"), format!("`{}` has no field `{}`", g.input, &**f));
                        report.push(found.suggest(did_you_mean(f, known)));
                        continue;
                    }
                    _ => continue,
                }
            }
            (GuardKind::Nulls, None) => {
                report.push(Found::error("missing-key", node.span, "`type: Nulls` needs the `field` that it looks at"));
                continue;
            }
            (_, Some(_)) => {
                report.push(Found::error(
                    "key-without-effect",
                    span(node, "field"),
                    format!("`field` has no effect with `type: {:?}`", g.kind),
                ));
                continue;
            }
            (_, None) => None,
        };
        if g.kind == GuardKind::JoinRate && !is_join(t, graph, item) {
            let found = Found::error("invalid-config", span(node, "input"), format!("`{}` is no IntervalLeftJoin", g.input));
            report.push(found.hint("`type: JoinRate` looks at a join; `type: Rows` looks at any output"));
        }
        let over = g.over.unwrap_or(Duration::secs(60));
        if over.micros <= 0 {
            report.push(Found::error("out-of-range", span(node, "over"), "`over` must be longer than nothing"));
        }
        bounds(report, g, node);
        let check = match g.kind {
            GuardKind::JoinRate => GuardCheck::JoinRate,
            GuardKind::RejectRate => GuardCheck::RejectRate,
            GuardKind::Rows => GuardCheck::Rows,
            GuardKind::Nulls => GuardCheck::Nulls(field.unwrap_or(millrace_sdk::Slot(0))),
            GuardKind::Freshness => GuardCheck::Freshness,
        };
        let plan = GuardPlan {
            name,
            check,
            node: 0,
            port,
            over: over.std(),
            min: g.min,
            max: g.max_delay.map(|d| d.micros as f64).or(g.max),
            at_least: g.at_least.unwrap_or(1),
        };
        out.push(Placed { plan, item });
    }
    if let Some((_, first)) = t.guards.first() {
        can_veto(report, t, graph, checkpoint, first.span);
    }
    out
}

fn bounds(report: &mut Report, g: &Guard, node: &Node) {
    let fresh = g.kind == GuardKind::Freshness;
    let share = matches!(g.kind, GuardKind::JoinRate | GuardKind::RejectRate | GuardKind::Nulls);
    for (key, given, takes) in [
        ("min", g.min.is_some(), !fresh),
        ("max", g.max.is_some(), !fresh),
        ("max_delay", g.max_delay.is_some(), fresh),
        ("at_least", g.at_least.is_some(), share),
    ] {
        if given && !takes {
            let what = format!("`{key}` has no effect with `type: {:?}`", g.kind);
            report.push(Found::error("key-without-effect", span(node, key), what));
        }
    }
    // A bound that could not be read, or under another name, was told.
    let bound = |key: &str| matches!(key, "min" | "max" | "max_delay");
    let told = |f: &Found| {
        let of =
            |e: &Entry| (f.span == e.value.span && bound(&e.key)) || (f.span == e.key_span && f.suggestion.as_deref().is_some_and(bound));
        node.entries().iter().any(of)
    };
    if g.min.is_none() && g.max.is_none() && g.max_delay.is_none() && !report.found.iter().any(told) {
        let keys = if fresh { "`max_delay`" } else { "`min` or `max`" };
        report.push(Found::error("missing-key", node.span, format!("a guard without bounds is never red: give it {keys}")));
    }
    for (key, value) in [("min", g.min), ("max", g.max)] {
        if share && value.is_some_and(|v| v > 1.0) {
            report.push(Found::error("out-of-range", span(node, key), format!("`{key}` is a share, from 0 to 1")));
        }
    }
    if let (Some(min), Some(max)) = (g.min, g.max)
        && min > max
    {
        report.push(Found::error("out-of-range", span(node, "max"), "`max` is less than `min`"));
    }
}

fn is_join(t: &Topology, graph: &Graph, item: usize) -> bool {
    matches!(graph.items[item].what, What::Transform(n) if t.transforms[n].part.part_name() == "IntervalLeftJoin")
}

/// Tells where a red guard holds nothing back.
fn can_veto(report: &mut Report, t: &Topology, graph: &Graph, checkpoint: Option<&CheckpointPlan>, at: Span) {
    if !checkpoint.is_some_and(|c| c.exactly_once) {
        let found = Found::error("guard-cannot-veto", at, "guards hold back the output of checkpoints, and this job publishes at once");
        report.push(found.hint("give it `run_env: {checkpoint: {mode: exactly_once}}`"));
        return;
    }
    for item in &graph.items {
        match item.what {
            What::Sink(n) if t.sinks[n].part.sink().is_some_and(|s| s.guarantee() != Guarantee::ExactlyOnce) => {
                let what = format!("what `{}` writes is seen at once: no guard can hold it back", item.name);
                report.push(Found::warning("guard-cannot-veto", item.span, what));
            }
            What::Stream(s) if t.streams[s].source.source().is_some_and(|s| !s.replayable()) => {
                let what = format!("what `{}` has read cannot be read again: with a red guard it is lost", item.name);
                report.push(Found::warning("guard-cannot-veto", item.span, what));
            }
            _ => {}
        }
    }
}

/// Gives the guards their nodes of the plan.
pub(crate) fn place(found: Vec<Placed>, graph: &Graph, nodes: &[PlanNode]) -> Vec<GuardPlan> {
    let node = |item: usize| nodes.iter().position(|n| n.name == graph.items[item].name);
    found.into_iter().filter_map(|f| Some(GuardPlan { node: node(f.item)?, ..f.plan })).collect()
}

/// Reads the list.
pub(crate) fn read<'n>(report: &mut Report, items: impl Iterator<Item = &'n Node>) -> Vec<(Guard, Node)> {
    items.filter_map(|n| Some((typed::<Guard>(report, n, n.span)?, n.clone()))).collect()
}
