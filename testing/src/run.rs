//! One test, from its beginning to its end.

use crate::feed::Feed;
use crate::stand::{Collected, Table};
use millrace_engine::summary::{NodeSummary, Summary};
use millrace_engine::{Control, RunOptions};
use millrace_plan::cases::{Act, Case, DEAD_LETTER, Datum, Expect};
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::{Clock, Fault};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Tests are small: a run that is not at rest by then never is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Farther than any clock goes: without a beginning no row is too far in the future.
const ALWAYS: Duration = Duration::from_secs(1 << 40);

/// What came of a test.
pub struct Outcome {
    /// What each expectation looks at, in the order in which they are written in `steps`, then those of the whole test.
    pub seen: Vec<(Expect, Vec<Datum>)>,
    /// Why the test could not be run to its end.
    pub fault: Option<Fault>,
    /// Parts in the plan's order; empty if it did not begin.
    pub nodes: Vec<NodeSummary>,
    /// All dead letters.
    pub dead: Vec<Datum>,
}

struct Stage {
    control: Control,
    clock: Clock,
    now: i64,
    /// By stream.
    feeds: Vec<(String, Feed)>,
    outputs: HashMap<String, Collected>,
    /// How much of each output earlier steps have looked at.
    looked: HashMap<String, usize>,
    base: PathBuf,
    /// The operators' next timers.
    due: Vec<i64>,
    seen: Vec<(Expect, Vec<Datum>)>,
}

/// Runs a test. The plan must have been made for it: with a virtual clock that stands at the test's beginning.
pub fn run(mut plan: Plan, case: &Case) -> Outcome {
    let mut stage = match Stage::set(&mut plan, case) {
        Ok(stage) => stage,
        Err(fault) => return Outcome { seen: vec![], fault: Some(fault), nodes: vec![], dead: vec![] },
    };
    let options = RunOptions {
        workers: Some(1),
        epoch: Duration::from_millis(1),
        max_drift: ALWAYS,
        check_plausibility: false,
        ..RunOptions::default()
    };
    let control = stage.control.clone();
    let running = std::thread::spawn(move || millrace_engine::run(plan, options, control, &()));
    let played = stage.play(case, &running);
    let open: Option<Vec<_>> = (!case.ends).then(|| stage.whole(case));
    stage.feeds.iter().for_each(|(_, f)| f.end());
    if !case.ends || played.is_err() {
        stage.control.drain();
    }
    let summary = running.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
    let Summary { fault, nodes, .. } = summary;
    let fault = fault.map(Fault::from).or(played.err());
    let whole = open.unwrap_or_else(|| stage.whole(case));
    stage.seen.extend(whole);
    let dead = stage.outputs.get(DEAD_LETTER).map(|c| c.since(0)).unwrap_or_default();
    Outcome { seen: stage.seen, fault, nodes, dead }
}

impl Stage {
    /// Exchanges what a test exchanges.
    fn set(plan: &mut Plan, case: &Case) -> Result<Stage, Fault> {
        let control = Control::new();
        let mut outputs: HashMap<String, Collected> = HashMap::new();
        let names: BTreeSet<&str> = case.outputs().filter(|n| *n != DEAD_LETTER).collect();
        for name in names {
            let Some((node, port)) = place(plan, name) else { continue };
            let collected = outputs.entry(name.to_string()).or_default().clone();
            let at = millrace_engine::watched(plan, node, port);
            control.taps.add(at, true, Box::new(move |batch| collected.add(batch)));
        }
        let partitions = |stream: &str| {
            let given = case.acts.iter().filter_map(|a| match a {
                Act::Give { stream: s, records } if s == stream => Some(records),
                _ => None,
            });
            given.flatten().map(|r| r.partition + 1).max().unwrap_or(1)
        };
        let dead_letter = plan.dead_letter.0;
        let mut feeds = vec![];
        for (i, node) in plan.nodes.iter_mut().enumerate() {
            match &mut node.kind {
                NodeKind::Source(s) => {
                    let feed = Feed::new(s.schema.clone(), partitions(&node.name));
                    s.factory = Arc::new(feed.clone());
                    feeds.push((node.name.clone(), feed));
                    if let Some(w) = s.watermark.as_mut().filter(|_| case.start.is_none()) {
                        w.max_future = ALWAYS;
                    }
                }
                NodeKind::Sink(s) => {
                    let name = if i == dead_letter { DEAD_LETTER } else { &node.name };
                    s.factory = Arc::new(outputs.entry(name.to_string()).or_default().clone());
                }
                NodeKind::Operator(op) => {
                    for s in &mut op.stores {
                        let given = case.stores.iter().find(|(name, _)| *name == s.name).map(|(_, rows)| &rows[..]);
                        s.store = Arc::new(Table::new(&s.name, given.unwrap_or_default(), &s.schema)?);
                    }
                }
            }
        }
        (plan.checkpoint, plan.restart, plan.alerts, plan.metrics) = (None, None, None, None);
        plan.guards.clear();
        Ok(Stage {
            control,
            clock: plan.env.clock.clone(),
            now: case.start.unwrap_or(0),
            feeds,
            outputs,
            looked: HashMap::new(),
            base: plan.env.base_dir.clone(),
            due: vec![],
            seen: vec![],
        })
    }

    fn play(&mut self, case: &Case, running: &std::thread::JoinHandle<Summary>) -> Result<(), Fault> {
        self.rest()?;
        for act in &case.acts {
            match act {
                Act::Clock(time) => self.go_to(*time)?,
                Act::Give { stream, records } => {
                    let Some((_, feed)) = self.feeds.iter().find(|(name, _)| name == stream) else { continue };
                    let feed = feed.clone();
                    feed.give(records, &self.base)?;
                    if !feed.taken(|| !running.is_finished()) {
                        return Ok(());
                    }
                    self.rest()?;
                }
                Act::Expect(all) => {
                    for e in all {
                        let from = self.looked.get(&e.output).copied().unwrap_or(0);
                        let rows = self.outputs.get(&e.output).map(|c| c.since(from)).unwrap_or_default();
                        self.seen.push((e.clone(), rows));
                    }
                    // What a step does not look at belongs to no later one.
                    self.looked = self.outputs.iter().map(|(name, c)| (name.clone(), c.len())).collect();
                }
            }
        }
        Ok(())
    }

    /// Moves the clock, stopping wherever a timer is due, so that what it brings about happens at its time.
    fn go_to(&mut self, time: i64) -> Result<(), Fault> {
        while let Some(due) = self.due.iter().copied().filter(|d| (self.now + 1..=time).contains(d)).min() {
            self.set_clock(due)?;
        }
        self.set_clock(time)
    }

    fn set_clock(&mut self, time: i64) -> Result<(), Fault> {
        self.now = time;
        self.clock.set(time);
        self.rest()
    }

    /// Waits until all that was given is worked through. A run that has ended says itself why.
    fn rest(&mut self) -> Result<(), Fault> {
        match self.control.rest(PATIENCE) {
            Ok(due) => self.due = due,
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(Fault::bug(format!("the job has not come to rest within {} s", PATIENCE.as_secs())));
            }
        }
        Ok(())
    }

    fn whole(&self, case: &Case) -> Vec<(Expect, Vec<Datum>)> {
        let rows = |e: &Expect| self.outputs.get(&e.output).map(|c| c.since(0)).unwrap_or_default();
        case.expect.iter().map(|e| (e.clone(), rows(e))).collect()
    }
}

/// The node and port of an output; None: it is a sink.
fn place(plan: &Plan, name: &str) -> Option<(usize, usize)> {
    let find = |name: &str| plan.nodes.iter().position(|n| n.name == name);
    if let Some(node) = find(name) {
        let ports = &plan.nodes[node].ports;
        let main = ports.iter().position(|(p, _)| p.name.is_empty());
        let live = || ports.iter().position(|(p, _)| !p.dead && p.name != "errors");
        return main.or_else(live).map(|port| (node, port));
    }
    let (part, port) = name.rsplit_once('.')?;
    let node = find(part)?;
    Some((node, plan.nodes[node].ports.iter().position(|(p, _)| p.name == port)?))
}
