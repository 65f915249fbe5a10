//! A start: takes the generation, reads the manifest that it goes on from, and publishes what the forerunner left.
//!
//! Order matters. First the slot log is asked, so that a run that has been taken over does no harm; then every old writer is fenced;
//! only then is its marker final; then what is missing is published; then each writer gets a base marker, so that a lost marker
//! and a first chunk never look the same. Sources start after all that.

use super::ack::{Ack, Spot};
use super::coordinator::{Coordinator, Part, Settings};
use super::fits;
use super::older;
use super::publish::{Publishers, again, apply};
use super::refused::{self, Keeper};
use super::upload::Uploads;
use crate::control::Shared;
use crate::guards::Guards;
use millrace_durable::{
    Begun, Generation, JobLog, Kind, Manifest, PartitionState, Piece, Record, S3Options, StartFrom, Storage, WriterState, marker,
};
use millrace_plan::plan::{CheckpointPlan, Node, NodeKind, Plan, SinkNode};
use millrace_sdk::{Fault, Outbox, SinkContext, point};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// The names of all outbox writers of this run.
pub type Writers = BTreeMap<Spot, String>;

/// An operator's state as one worker of the forerunner had it.
pub type Saved = Piece;

/// What the dataflow starts from.
#[derive(Default)]
pub struct Restored {
    /// By stream and partition.
    pub sources: HashMap<String, HashMap<String, PartitionState>>,
    /// Streams of which it knew all partitions.
    pub complete: HashSet<String>,
    /// By part.
    pub operators: HashMap<String, Vec<Saved>>,
    /// The clock never shows less, microseconds.
    pub time: i64,
}

/// A run's part of the protocol, ready to work.
pub struct Started {
    pub coordinator: Coordinator,
    pub uploads: Arc<Uploads>,
    pub restored: Option<Restored>,
    /// Everything was read and has fired; what was to publish is published.
    pub finished: bool,
}

/// Where a plan's checkpoints lie.
pub fn storage(checkpoint: &CheckpointPlan) -> Result<Arc<dyn Storage>, Fault> {
    let options = checkpoint.s3.clone().map_or_else(S3Options::default, |s| S3Options {
        endpoint: s.endpoint,
        region: s.region,
        access_key: s.access_key,
        secret_key: s.secret_key,
        path_style: s.path_style,
    });
    millrace_durable::open(&checkpoint.location, &options)
}

/// Begins a generation and brings the outside to where its manifest says.
pub fn start(plan: &Plan, shared: &Arc<Shared>, workers: usize, acks: Receiver<Ack>) -> Result<Option<Started>, Fault> {
    let options = &shared.options;
    let Some(checkpoint) = &plan.checkpoint else {
        return match &options.from {
            StartFrom::Latest | StartFrom::Scratch => Ok(None),
            StartFrom::Slot(_) | StartFrom::Path(_) => Err(older::takes_none(&plan.env.job)),
        };
    };
    let job = plan.env.job.clone();
    let (log, from) = older::open(plan, checkpoint, options)?;
    let clock = plan.env.clock.clone();
    let run = shared.links.get().map_or(options.run, |l| l.run);
    let record = Generation { run, from: 0, config: plan.hash, workers, time: clock.now() };
    let begun = log.begin_if(&record, &from, |m| {
        let Some(m) = m else { return Ok(()) };
        if checkpoint.exactly_once && matches!(from, StartFrom::Slot(_)) {
            older::tell(&older::published_again(plan, &m.slot.to_string(), &log, m.slot, None, options)?);
        }
        older::tell(&fits::may_start(plan, &log, m, options)?);
        Ok(())
    })?;
    for (slot, fault) in &begun.damaged {
        tracing::warn!(target: "checkpoint", slot, "{fault}; writers that no other checkpoint names are not fenced");
    }
    let manifest = begun.from.as_ref();
    if let Some(m) = manifest {
        clock.not_before(m.time);
        tracing::info!(target: "checkpoint", slot = m.slot, workers = m.workers, "{}", older::going_on(m, &log));
    }
    let uploads = Arc::new(Uploads::start(&log)?);
    let mut c = Coordinator {
        settings: Settings {
            job,
            config: plan.hash,
            workers,
            interval: checkpoint.interval,
            min_pause: checkpoint.min_pause,
            timeout: checkpoint.timeout,
            retained: checkpoint.retained,
            tolerable_failures: checkpoint.tolerable_failures,
        },
        shared: shared.clone(),
        log: log.clone(),
        generation: begun.generation,
        spots: BTreeSet::new(),
        sources: BTreeMap::new(),
        operators: BTreeMap::new(),
        sinks: BTreeMap::new(),
        positions: BTreeMap::new(),
        listed: BTreeSet::new(),
        writers: Writers::new(),
        publishers: Publishers::none(shared),
        clock,
        guards: Guards::new(&plan.guards, &options.accept_guards),
        acks,
    };
    for (i, node) in plan.nodes.iter().enumerate() {
        let part = Part { name: node.name.clone(), part: node.part.into(), meaning: fits::meaning(plan, i) };
        let hosts = match &node.kind {
            NodeKind::Source(_) => {
                let known = manifest.and_then(|m| m.sources.iter().find(|s| s.name == node.name));
                c.listed.extend(known.filter(|s| !s.unlisted).map(|_| i));
                let known = known.into_iter().flat_map(|s| s.partitions.iter().map(|p| (p.name.clone(), p.clone())));
                c.positions.insert(i, known.collect());
                c.sources.insert(i, part);
                workers
            }
            NodeKind::Operator(_) if fits::keeps_state(node) => {
                c.operators.insert(i, part);
                workers
            }
            NodeKind::Operator(_) => continue,
            NodeKind::Sink(s) => {
                c.sinks.insert(i, part);
                sink_hosts(node, s, workers)
            }
        };
        c.spots.extend((0..hosts).map(|worker| Spot { node: i, worker }));
    }
    // A job that publishes at once now still has what it left when it did not.
    let left = |name: &str| manifest.is_some_and(|m| m.chunks().any(|(sink, ..)| sink == name));
    let mut outboxes = outboxes(plan, &|name| checkpoint.exactly_once || left(name), workers, &names(&log, begun.generation))?;
    manifest.map_or(Ok(()), |m| all_have_outboxes(plan, &log, m, &outboxes))?;
    c.writers = outboxes.iter().flat_map(|(_, (_, writers))| writers.clone()).collect();
    for (node, (outbox, writers)) in &mut outboxes {
        let name = &c.sinks[node].name;
        let mine: Vec<String> = writers.values().cloned().collect();
        settle(&mut **outbox, Sink { node: *node, name, mine }, &begun, &log, shared)?;
    }
    if !checkpoint.exactly_once {
        outboxes.clear();
        c.writers.clear();
    }
    // Refused rows of the last chunks still want a run that takes them to the dead letter.
    let finished = manifest.is_some_and(|m| m.kind == Kind::Finished) && !shared.has_refused();
    if let Some(m) = manifest.filter(|_| finished) {
        all_published(&log, m.slot);
    }
    let outboxes = outboxes.into_iter().map(|(node, (outbox, _))| (node, outbox)).collect();
    c.publishers = Publishers::start(outboxes, &c.writers, &log, begun.generation, shared)?;
    let restored = manifest.map(restore);
    Ok(Some(Started { coordinator: c, uploads, restored, finished }))
}

/// Writes down that nothing of a run is left to publish: a sink can be taken out of the topology from then on.
pub fn all_published(log: &JobLog, slot: u64) {
    if let Err(fault) = log.all_published(slot) {
        tracing::warn!(target: "checkpoint", "that all output is published could not be written down: {fault}");
    }
}

fn sink_hosts(node: &Node, s: &SinkNode, workers: usize) -> usize {
    if s.factory.single_writer() { 1 } else { node.parallelism.map_or(workers, |p| p.clamp(1, workers)) }
}

type Outboxes = BTreeMap<usize, (Box<dyn Outbox>, Writers)>;

/// The sinks that write by outbox, by node, and who writes there.
fn outboxes(plan: &Plan, wanted: &dyn Fn(&str) -> bool, workers: usize, names: &str) -> Result<Outboxes, Fault> {
    let mut all = Outboxes::new();
    for (i, node) in plan.nodes.iter().enumerate().filter(|(_, n)| wanted(&n.name)) {
        let NodeKind::Sink(s) = &node.kind else { continue };
        let hosts = sink_hosts(node, s, workers);
        let (clock, env) = (plan.env.clock.clone(), plan.env.clone());
        if let Some(outbox) = s.factory.outbox(SinkContext { worker: 0, workers: hosts, clock, waker: Arc::new(|| ()), env })? {
            let name = |worker| (Spot { node: i, worker }, writer(names, &node.name, worker));
            all.insert(i, (outbox, (0..hosts).map(name).collect()));
        }
    }
    Ok(all)
}

/// Refuses a sink that publishes at once as it is configured now, and has output of a time when it did not. Of sinks that are gone a
/// start knows that all is published.
fn all_have_outboxes(plan: &Plan, log: &JobLog, m: &Manifest, outboxes: &Outboxes) -> Result<(), Fault> {
    let without = |sink: &str| plan.nodes.iter().enumerate().any(|(i, n)| n.name == sink && !outboxes.contains_key(&i));
    if !m.chunks().any(|(sink, ..)| without(sink)) {
        return Ok(());
    }
    match log.unpublished(m)?.into_iter().find(|(sink, _)| without(sink)) {
        None => Ok(()),
        Some((sink, rows)) => {
            Err(Fault::config(format!("the sink `{sink}` has output to publish, and cannot publish it as it is configured now"))
                .detail(format!("{rows} rows may not be published yet, and without exactly-once a sink has no markers"))
                .hint("run the job once more with the sink as it was and stop it: then all of its output is published"))
        }
    }
}

/// A process's part of the protocol, beside process 0's.
pub struct Joined {
    pub log: Arc<JobLog>,
    pub restored: Option<Restored>,
    pub uploads: Arc<Uploads>,
    pub publishers: Publishers,
    /// Nodes of the sinks that write by outbox.
    pub boxed: HashSet<usize>,
}

/// Joins the generation that process 0 has begun: restores from the same checkpoint, and takes this process's writers over.
pub fn join(plan: &Plan, shared: &Arc<Shared>, run: u64, generation: u64) -> Result<Joined, Fault> {
    let Some(checkpoint) = &plan.checkpoint else { return Err(Fault::bug("a job without checkpoints has begun a generation")) };
    let storage = storage(checkpoint)?;
    let elsewhere = |place: String| {
        Fault::config(format!("process {} does not find in {place} what process 0 has written there", shared.seat.process)).hint(
            "all processes of a job need the same place for checkpoints: a folder that all of them see under this path, or an S3 bucket",
        )
    };
    let place = storage.place();
    let Some(log) = JobLog::find(storage, &plan.env.job)? else { return Err(elsewhere(place)) };
    let log = Arc::new(log);
    let record = match log.slots()?.contains(&generation) {
        true => log.read(generation)?,
        false => return Err(elsewhere(place)),
    };
    let from = match record {
        Record::Generation(g) if g.run == run => g.from,
        _ => return Err(elsewhere(place)),
    };
    let manifest = match from {
        0 => None,
        slot => match log.read(slot)? {
            Record::Manifest(m) => Some(m),
            Record::Generation(_) | Record::Verdict(_) => {
                return Err(Fault::bug(format!("generation {generation} began from slot {slot}, which is no checkpoint")));
            }
        },
    };
    let mut outboxes = outboxes(plan, &|_| checkpoint.exactly_once, shared.seat.all(), &names(&log, generation))?;
    let boxed = outboxes.keys().copied().collect();
    let base = marker(generation, 0);
    for (node, (outbox, writers)) in &mut outboxes {
        writers.retain(|spot, _| shared.seat.is_mine(spot.worker));
        let (sink, mine): (_, Vec<String>) = (&plan.nodes[*node].name, writers.values().cloned().collect());
        if mine.is_empty() {
            continue;
        }
        // Taking a writer over takes it from whoever has it: a newer generation is left alone.
        let over = || Fault::config("another run of this job has started meanwhile: this one ends");
        if log.superseded(generation)? {
            return Err(over());
        }
        again(shared, &log, generation, sink, || outbox.fence(&mine))?;
        for name in &mine {
            match again(shared, &log, generation, sink, || outbox.applied(name))? {
                Some(marker) if marker == base => {}
                Some(_) => return Err(over()),
                None => {
                    let what = format!("process {} does not find the marker that process 0 has set for `{sink}`", shared.seat.process);
                    return Err(Fault::config(what).detail(format!("writer {name}")).hint(
                        "all processes of a job write to the same place: with files, to a folder that all of them see under the same path",
                    ));
                }
            }
        }
    }
    let writers = outboxes.values().flat_map(|(_, writers)| writers.clone()).collect();
    let outboxes = outboxes.into_iter().filter(|(_, (_, writers))| !writers.is_empty()).map(|(node, (outbox, _))| (node, outbox));
    Ok(Joined {
        publishers: Publishers::start(outboxes.collect(), &writers, &log, generation, shared)?,
        restored: manifest.map(|m| {
            plan.env.clock.not_before(m.time);
            restore(&m)
        }),
        uploads: Arc::new(Uploads::start(&log)?),
        boxed,
        log,
    })
}

/// What the names of writers begin with. Without a fence each generation has names of its own, and takes none over.
fn names(log: &JobLog, generation: u64) -> String {
    if point::without("fence") { format!("{}-{generation}", log.instance()) } else { log.instance().into() }
}

/// A writer's name: unique among all jobs, sinks and workers, and the same in every run of this instance.
fn writer(instance: &str, sink: &str, worker: usize) -> String {
    let plain: String = sink.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let mark = if plain == sink { String::new() } else { format!("-{:08x}", millrace_sdk::Key::hash(sink.as_bytes()) as u32) };
    format!("{instance}-{plain}{mark}-{worker}")
}

/// A sink and its writers in this run.
struct Sink<'a> {
    node: usize,
    name: &'a str,
    mine: Vec<String>,
}

/// Fences a sink's writers of all times, publishes what they left, and gives each its base marker.
fn settle(outbox: &mut dyn Outbox, s: Sink<'_>, begun: &Begun, log: &Arc<JobLog>, shared: &Shared) -> Result<(), Fault> {
    let Sink { node, name: sink, mine } = s;
    let known: BTreeMap<String, WriterState> =
        begun.from.iter().flat_map(|m| &m.sinks).filter(|s| s.name == sink).flat_map(|s| s.writers.clone()).collect();
    let old = begun.fence.get(sink).into_iter().flatten().cloned();
    let all: Vec<String> = mine.iter().cloned().chain(old).chain(known.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect();
    if log.superseded(begun.generation)? {
        return Err(Fault::config("another run of this job has started meanwhile: this one ends"));
    }
    let fenced = if point::without("fence") { &mine } else { &all };
    again(shared, log, begun.generation, sink, || outbox.fence(fenced))?;
    point::reach("fenced");
    let mut missing = vec![];
    for name in &all {
        let mut applied = again(shared, log, begun.generation, sink, || outbox.applied(name))?;
        applied.filter(|_| name.starts_with(log.instance())).map_or(Ok(()), |m| is_in_log(log, begun.generation, sink, name, m))?;
        let Some(state) = known.get(name) else { continue };
        if point::without("marker") {
            applied = Some(state.applied);
        }
        let Some(applied) = applied else {
            if state.chunks.is_empty() && state.applied == 0 {
                continue;
            }
            let rows: u64 = state.chunks.iter().map(|c| c.rows).sum();
            if shared.options.accept_duplicates {
                tracing::warn!(target: "checkpoint", "the marker of `{sink}` is gone: {rows} rows of {name} are published, maybe again");
                missing.extend(state.chunks.iter().map(|c| (c.marker, name.clone(), c.clone())));
                continue;
            }
            return Err(Fault::data(format!("the marker of `{sink}` is gone: nobody can say which of its output was published"))
                .detail(format!("writer {name}: {} chunks with {rows} rows were waiting to be published", state.chunks.len()))
                .hint("look at the output; then start from scratch, or with --accept-duplicates, which publishes these rows"));
        };
        missing.extend(state.chunks.iter().filter(|c| c.marker > applied).map(|c| (c.marker, name.clone(), c.clone())));
        // Published, but what was refused may be in no checkpoint yet.
        for chunk in state.chunks.iter().filter(|c| c.marker <= applied) {
            let mut rejects = vec![];
            match log.refused(&chunk.file.name)? {
                Some(bytes) => rejects = refused::decode(&bytes)?,
                None if chunk.marker == applied => {
                    let bytes = log.get(&chunk.file)?;
                    again(shared, log, begun.generation, sink, || outbox.refused_again(name, &bytes, chunk.marker, &mut rejects))?;
                    if !rejects.is_empty() {
                        log.put_refused(&chunk.file.name, &refused::encode(&rejects))?;
                    }
                }
                None => {}
            }
            shared.refused(Spot { node, worker: 0 }, chunk.marker, rejects);
        }
    }
    missing.sort_by_key(|(marker, ..)| *marker);
    let keeper = Arc::new(Keeper::default());
    outbox.keep_refused(keeper.hook(log));
    for (_, name, chunk) in &missing {
        let name = &unknown(outbox, name, begun.generation)?;
        let mut rejects = vec![];
        let before = log.refused(&chunk.file.name)?.is_some();
        keeper.expect(name, chunk);
        again(shared, log, begun.generation, sink, || apply(outbox, log, name, chunk, &mut rejects))?;
        again(shared, log, begun.generation, sink, || keeper.done(log, name, chunk, &rejects, before))?;
        shared.refused(Spot { node, worker: 0 }, chunk.marker, rejects);
    }
    let base = marker(begun.generation, 0);
    // Those whose work is over come first, and leave their files to the others.
    let (present, past): (Vec<&String>, Vec<&String>) = fenced.iter().partition(|name| mine.contains(name));
    let mut set = |name: &String| again(shared, log, begun.generation, sink, || outbox.apply(name, &[], base, &mut vec![]));
    past.into_iter().chain(present).try_for_each(&mut set)
}

/// Refuses to go on when the sink has output of a checkpoint that the log does not have: it has lost its newest slots, and what they have
/// published would be published again. Of writers of this instance: another's has a log of its own, which may have gone on.
fn is_in_log(log: &JobLog, generation: u64, sink: &str, writer: &str, applied: u64) -> Result<(), Fault> {
    let (slot, index) = (applied >> 20, applied & ((1 << 20) - 1));
    let lost = match () {
        () if index == 0 => slot > generation,
        () if slot >= generation => true,
        // A start that was refused took the number; one that is not there was pruned.
        () => log.slots()?.contains(&slot) && matches!(log.read(slot), Ok(Record::Generation(_))),
    };
    match lost {
        false => Ok(()),
        true => Err(Fault::data(format!("`{sink}` has output of checkpoint {slot}, which is missing: it would be published again"))
            .detail(format!("writer {writer}: marker {slot}.{index}; the newest checkpoint in {} is older", log.place()))
            .hint("bring the checkpoints back as they were, all of them; or look at the output and start from scratch")),
    }
}

/// Who publishes what another left: its own writer, unless a protection is off: then one that has no marker and fences nobody.
fn unknown(outbox: &mut dyn Outbox, writer: &str, generation: u64) -> Result<String, Fault> {
    if !point::without("marker") && !point::without("fence") {
        return Ok(writer.into());
    }
    let name = format!("{writer}-{generation}");
    if outbox.applied(&name)?.is_none() {
        outbox.fence(std::slice::from_ref(&name))?;
    }
    Ok(name)
}

fn restore(m: &Manifest) -> Restored {
    let mut out = Restored { time: m.time, ..Restored::default() };
    for s in &m.sources {
        if !s.unlisted {
            out.complete.insert(s.name.clone());
        }
        out.sources.insert(s.name.clone(), s.partitions.iter().map(|p| (p.name.clone(), p.clone())).collect());
    }
    out.operators = m.operators.iter().map(|op| (op.name.clone(), op.pieces.clone())).collect();
    out
}
