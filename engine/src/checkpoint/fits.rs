//! Whether a topology can go on from a checkpoint that another one, or an earlier form of it, has written.

use crate::control::RunOptions;
use crate::{keyed, lookup};
use millrace_durable::{JobLog, Manifest, OperatorState, SinkState, StateInfo};
use millrace_plan::plan::{Node, NodeKind, Plan};
use millrace_sdk::convert::TimeFormat;
use millrace_sdk::operator::{Keyed, OnStoreError, TimeCharacteristic};
use millrace_sdk::{Exec, Fault};

fn keyed(n: &Node) -> Option<&Keyed> {
    match &n.kind {
        NodeKind::Operator(op) => match &op.exec {
            Exec::Keyed(keyed) => Some(keyed),
            _ => None,
        },
        _ => None,
    }
}

/// What the keys of an operator's state mean, in words: fields and types of each input's key, and which time counts. Of a source, where
/// event time comes from.
pub fn meaning(plan: &Plan, node: usize) -> String {
    let n = &plan.nodes[node];
    if let NodeKind::Source(s) = &n.kind {
        let (Some(w), TimeCharacteristic::EventTime) = (&s.watermark, plan.env.time) else { return String::new() };
        let field = n.ports[0].1.schema.fields().get(w.field.0 as usize).map_or("?".into(), |f| f.name.to_string());
        let format = match &w.format {
            TimeFormat::EpochMs => "epoch_ms",
            TimeFormat::EpochS => "epoch_s",
            TimeFormat::Iso8601 => "iso8601",
            TimeFormat::Pattern(pattern) => pattern,
        };
        return format!("event time is {field} as {format}");
    }
    let Some(keyed) = keyed(n) else { return String::new() };
    let time = match plan.env.time {
        TimeCharacteristic::ProcessingTime => "processing time",
        TimeCharacteristic::IngestionTime => "ingestion time",
        TimeCharacteristic::EventTime => "event time",
    };
    let key = |(i, key): (usize, &millrace_sdk::Key)| {
        let from = n.inputs.iter().find(|input| input.index == i)?;
        let schema = &plan.nodes[from.from.node.0].ports[from.from.port].1.schema;
        let field = |slot: &millrace_sdk::Slot| schema.fields().get(slot.0 as usize).map_or("?".into(), |f| format!("{} {}", f.name, f.ty));
        Some(format!("by {}", key.slots().iter().map(field).collect::<Vec<_>>().join(", ")))
    };
    let keys: Vec<String> = keyed.keys.iter().enumerate().filter_map(key).collect();
    format!("{}; {time}", keys.join("; "))
}

/// What speaks against going on from a manifest of `log`: guards that have not passed it, state that does not fit. Else what of it is
/// given up, a sentence each.
pub fn may_start(plan: &Plan, log: &JobLog, m: &Manifest, options: &RunOptions) -> Result<Vec<String>, Fault> {
    if !plan.guards.is_empty() && options.accept_guards.is_empty() && !log.has_passed(m)? {
        return Err(Fault::config(format!("the guards have not passed checkpoint {}", m.slot))
            .hint("start from `latest`, the last one that they have; or name the guards that do not matter: --accept-guard NAME"));
    }
    check(plan, log, m, options.allow_dropped_state)
}

/// Refuses a manifest with state of parts that the topology no longer has, or that means something else in it.
fn check(plan: &Plan, log: &JobLog, m: &Manifest, allow_dropped: bool) -> Result<Vec<String>, Fault> {
    let node = |name: &str| plan.nodes.iter().position(|n| n.name == name);
    let is_source = |name: &str| node(name).is_some_and(|i| matches!(plan.nodes[i].kind, NodeKind::Source(_)));
    let keeps = |name: &str| node(name).is_some_and(|i| keeps_state(&plan.nodes[i]));
    let dropped: Vec<String> = (m.sources.iter().filter(|s| !is_source(&s.name)).map(|s| format!("stream `{}`", s.name)))
        .chain(m.operators.iter().filter(|o| !keeps(&o.name)).map(|o| format!("`{}` ({})", o.name, o.part)))
        .collect();
    // What it names may be published long since: who has ended in order has said so.
    let homeless =
        |s: &&SinkState| s.writers.values().any(|w| !w.chunks.is_empty()) && !node(&s.name).is_some_and(|i| takes(&plan.nodes[i], &s.part));
    if m.sinks.iter().any(|s| homeless(&s)) {
        let unpublished = log.unpublished(m)?;
        for s in m.sinks.iter().filter(homeless) {
            let Some(rows) = unpublished.get(&s.name) else { continue };
            let what = format!("checkpoint {} has output for the sink `{}` ({}), which the topology no longer has", m.slot, s.name, s.part);
            return Err(Fault::config(what)
                .detail(format!("{rows} rows may not be published yet"))
                .hint("run the job once more with that sink and stop it: then all of its output is published, and the sink can go"));
        }
    }
    for s in &m.sources {
        let Some(now) = node(&s.name).map(|i| meaning(plan, i)) else { continue };
        if !s.meaning.is_empty() && !now.is_empty() && s.meaning != now {
            return Err(Fault::config(format!(
                "the times of stream `{}` in checkpoint {} mean something else in this topology",
                s.name, m.slot
            ))
            .detail(format!("{}, and was: {}", now, s.meaning))
            .hint("undo that edit, or start from scratch"));
        }
    }
    for o in &m.operators {
        let Some(i) = node(&o.name).filter(|i| keeps_state(&plan.nodes[*i])) else { continue };
        if let Some(reason) = differs(plan, i, o) {
            return Err(Fault::config(format!(
                "the state of `{}` in checkpoint {} means nothing to this topology any more",
                o.name, m.slot
            ))
            .detail(reason)
            .hint("undo that edit, or give the part another name and start with --allow-dropped-state: it begins without state"));
        }
    }
    if dropped.is_empty() || allow_dropped {
        return Ok(dropped.iter().map(|d| format!("the state of {d} is dropped: the topology no longer has it")).collect());
    }
    Err(Fault::config(format!("checkpoint {} has state of parts that the topology no longer has: {}", m.slot, dropped.join(", ")))
        .hint("parts are matched by their names; give the part its old name, or start with --allow-dropped-state"))
}

/// Whether a node is a sink that can publish what a sink of this type has left.
fn takes(n: &Node, part: &str) -> bool {
    n.part == part && matches!(n.kind, NodeKind::Sink(_))
}

/// What becomes of the state of a part when another topology goes on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Survives,
    /// It means something else there; why.
    Differs(String),
    /// The part is not there, or keeps nothing there.
    Dropped,
}

/// What becomes of the state of each part of `old`, and of the positions of its streams, when `new` starts from a checkpoint of it: in the
/// order of `old`. What a start with `--from` refuses is not [`Fate::Survives`].
pub fn fates(old: &Plan, new: &Plan) -> Vec<(String, Fate)> {
    let mut out = vec![];
    for (i, n) in old.nodes.iter().enumerate() {
        let now = new.nodes.iter().position(|m| m.name == n.name);
        let is_source = |n: &Node| matches!(n.kind, NodeKind::Source(_));
        if is_source(n) {
            let fate = match now.filter(|j| is_source(&new.nodes[*j])).map(|j| (meaning(old, i), meaning(new, j))) {
                None => Fate::Dropped,
                Some((was, is)) if !was.is_empty() && !is.is_empty() && was != is => Fate::Differs(format!("{is}, and was: {was}")),
                Some(_) => Fate::Survives,
            };
            out.push((n.name.clone(), fate));
        } else if keeps_state(n) {
            let state = OperatorState {
                name: n.name.clone(),
                part: n.part.into(),
                meaning: meaning(old, i),
                states: declared(old, i),
                pieces: vec![],
            };
            let fate = match now.filter(|j| keeps_state(&new.nodes[*j])) {
                None => Fate::Dropped,
                Some(j) => differs(new, j, &state).map_or(Fate::Survives, Fate::Differs),
            };
            out.push((n.name.clone(), fate));
        }
    }
    out
}

/// The states of a node as its checkpoint describes them.
fn declared(plan: &Plan, node: usize) -> Vec<StateInfo> {
    let n = &plan.nodes[node];
    match keyed(n) {
        Some(keyed) => keyed.states.iter().map(keyed::describe).collect(),
        None => {
            let from = n.inputs.first().map(|i| &*plan.nodes[i.from.node.0].ports[i.from.port].1.schema);
            vec![lookup::describe(from)]
        }
    }
}

/// Whether an operator has something to save.
pub fn keeps_state(n: &Node) -> bool {
    keyed(n).is_some() || waits(n)
}

/// A look-up whose rows wait for as long as their store is away.
fn waits(n: &Node) -> bool {
    matches!(&n.kind, NodeKind::Operator(op) if matches!(&op.exec, Exec::Lookup(l) if l.on_store_error == OnStoreError::Wait))
}

/// What of the old state can no longer be read as what it was.
fn differs(plan: &Plan, node: usize, old: &OperatorState) -> Option<String> {
    let n = &plan.nodes[node];
    if n.part != old.part {
        return Some(format!("it was written by a part of type {}, and `{}` is a {} now", old.part, old.name, n.part));
    }
    let meaning = meaning(plan, node);
    if !old.meaning.is_empty() && old.meaning != meaning {
        return Some(format!("it is kept `{}`, and the topology says `{meaning}`", old.meaning));
    }
    if waits(n) {
        let from = n.inputs.first().map(|i| &*plan.nodes[i.from.node.0].ports[i.from.port].1.schema);
        let same = old.states.iter().all(|s| s.schema == lookup::describe(from).schema);
        return (!same).then(|| "the rows that wait in it for their store had other fields or types".into());
    }
    let now: Vec<StateInfo> = keyed(n)?.states.iter().map(keyed::describe).collect();
    for was in &old.states {
        let Some(is) = now.iter().find(|s| s.name == was.name) else {
            return Some(format!("it has a state `{}`, which the part no longer keeps as it is configured now", was.name));
        };
        let said = |text: &str| if text.is_empty() { "nothing".to_string() } else { format!("`{text}`") };
        match () {
            () if is.kind != was.kind => return Some(format!("its state `{}` is a {}, and was a {}", was.name, is.kind, was.kind)),
            () if is.version != was.version => {
                return Some(format!(
                    "this release keeps `{}` in version {}, and it was written in version {}",
                    was.name, is.version, was.version
                ));
            }
            () if is.layout != was.layout => {
                return Some(format!("its state `{}` depends on {}, and depended on {}", was.name, said(&is.layout), said(&was.layout)));
            }
            () if is.schema != was.schema => {
                return Some(format!(
                    "the rows in its state `{}` had other fields or types: those of the part's inputs have changed",
                    was.name
                ));
            }
            () => {}
        }
    }
    let fresh = now.iter().find(|s| !old.states.is_empty() && old.states.iter().all(|o| o.name != s.name))?;
    Some(format!("it lacks the state `{}`, which the part keeps as it is configured now", fresh.name))
}
