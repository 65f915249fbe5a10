//! `lint --connect`: what the servers say to a topology. Each part asks for itself ([`SourceFactory::ask`], [`SinkFactory::check`],
//! [`Store::check`]); here the questions are asked at once, with a time-out, and the answers find their places.
//!
//! [`SourceFactory::ask`]: millrace_sdk::SourceFactory::ask
//! [`SinkFactory::check`]: millrace_sdk::SinkFactory::check
//! [`Store::check`]: millrace_sdk::Store::check

use crate::build::Built;
use crate::diagnostic::{Found, Report};
use crate::plan::{Node as PlanNode, NodeKind};
use crate::topology::{Topology, Use};
use crate::wiring::{Graph, What};
use crate::yaml::{Content, Node};
use millrace_sdk::config::Duration as Text;
use millrace_sdk::source::Needs;
use millrace_sdk::{Fault, Problem};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

type Answer = Result<Vec<Problem>, Fault>;
type Question = Box<dyn FnOnce() -> Answer + Send>;

/// What is asked about.
pub(crate) struct Job<'a> {
    pub topology: &'a Topology,
    pub graph: &'a Graph,
    pub built: &'a Built,
    pub dead_letter: Option<&'a PlanNode>,
    pub workers: usize,
    /// It takes checkpoints.
    pub durable: bool,
}

/// Asks for all parts that could be made.
pub(crate) fn run(report: &mut Report, job: &Job, timeout: Duration) {
    let t = job.topology;
    let span = if job.durable { None } else { held(t) };
    let mut asked: Vec<(&Use, mpsc::Receiver<Answer>)> = vec![];
    let mut ask = |part, question: Question| {
        let (send, receive) = mpsc::channel();
        // Left alone if it takes too long: lint ends all the same.
        std::thread::spawn(move || send.send(question()));
        asked.push((part, receive));
    };
    let mut stores: HashSet<&str> = HashSet::new();
    for (node, item) in job.built.nodes().zip(&job.graph.items) {
        let Some(node) = node else { continue };
        match (&node.kind, item.what) {
            (NodeKind::Source(s), What::Stream(n)) => {
                let factory = s.factory.clone();
                let needs = Needs { workers: node.parallelism.map_or(job.workers, |p| p.min(job.workers)), span };
                ask(&t.streams[n].source, Box::new(move || factory.ask(&needs)));
            }
            (NodeKind::Sink(s), What::Sink(n)) => {
                let factory = s.factory.clone();
                ask(&t.sinks[n].part, Box::new(move || factory.check().map(|()| vec![])));
            }
            (NodeKind::Operator(o), _) => {
                for s in &o.stores {
                    let Some((name, _, part)) = t.stores.iter().find(|(name, ..)| *name == s.name) else { continue };
                    if stores.insert(name) {
                        let store = s.store.clone();
                        ask(part, Box::new(move || store.check().map(|()| vec![])));
                    }
                }
            }
            _ => {}
        }
    }
    if let (Some(part), Some(PlanNode { kind: NodeKind::Sink(s), .. })) = (&t.dead_letter, job.dead_letter) {
        let factory = s.factory.clone();
        ask(part, Box::new(move || factory.check().map(|()| vec![])));
    }
    let until = Instant::now() + timeout;
    for (part, answer) in asked {
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(problems)) => part.tell(report, problems, false),
            Ok(Err(fault)) => report.push(told(part, &fault)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                report.push(Found::error("bug", part.type_span, format!("`{}` ended while it asked", part.part_name())));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let message = format!("no answer to `{}` within {}", part.part_name(), Text { micros: timeout.as_micros() as i64 });
                report.push(
                    Found::error("no-answer", part.type_span, message).hint("is the server there? `--connect-timeout` is how long to wait"),
                );
            }
        }
    }
}

/// A fault at the value in the config that it speaks of, else at the part.
fn told(part: &Use, fault: &Fault) -> Found {
    let mut best: Option<&Node> = None;
    spoken_of(&part.config, &fault.message, &mut best);
    let mut found = Found::error("not-connected", best.map_or(part.type_span, |n| n.span), fault.message.clone());
    if let Some(h) = [&fault.detail, &fault.hint].into_iter().flatten().cloned().reduce(|a, b| format!("{a}; {b}")) {
        found = found.hint(h);
    }
    found
}

/// The longest text of a config that a message has in it.
fn spoken_of<'n>(node: &'n Node, message: &str, best: &mut Option<&'n Node>) {
    node.entries().iter().for_each(|e| spoken_of(&e.value, message, best));
    node.items().iter().for_each(|n| spoken_of(n, message, best));
    if let Content::Scalar(s) = &node.content
        && s.text.len() > 2
        && message.contains(&s.text)
        && best.and_then(Node::text).is_none_or(|b| b.len() < s.text.len())
    {
        *best = Some(node);
    }
}

/// How far back rows reach that the job's windows, joins and memories hold: so much must be read again after a restart without checkpoints.
fn held(t: &Topology) -> Option<Duration> {
    let most = t.transforms.iter().map(|s| micros(&s.part.json)).max().unwrap_or(0);
    (most > 0).then(|| Duration::from_micros(most as u64))
}

fn micros(config: &Value) -> i64 {
    let read = |v: &Value| v.as_str().and_then(|t| Text::parse(t).ok()).map_or(0, |d| d.micros);
    let Some(keys) = config.as_object() else { return 0 };
    let below = keys.iter().filter(|(k, _)| *k != "retry").map(|(_, v)| micros(v)).max().unwrap_or(0);
    let own = ["within", "timeout", "size", "gap"].iter().filter_map(|k| keys.get(*k)).map(read).max().unwrap_or(0);
    let span = keys.get("upper").map_or(0, read).max(0) - keys.get("lower").map_or(0, read).min(0);
    below.max(own).max(span)
}
