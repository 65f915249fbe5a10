//! Starts from another checkpoint than the latest: where it lies, and what would be published a second time. [`foresee`] says what a start
//! would do, in the words of the start itself.

use super::fits;
use super::start::storage;
use crate::control::RunOptions;
use millrace_durable::{JobLog, Kind, Later, Local, Manifest, Named, StartFrom, Storage};
use millrace_plan::plan::{CheckpointPlan, NodeKind, Plan};
use millrace_sdk::{Fault, FaultKind};
use std::sync::Arc;

/// Opens the job's log where the run is to go on; a checkpoint that lies elsewhere is copied into it.
pub fn open(plan: &Plan, checkpoint: &CheckpointPlan, options: &RunOptions) -> Result<(Arc<JobLog>, StartFrom), Fault> {
    let storage = storage(checkpoint)?;
    let job = &plan.env.job;
    let StartFrom::Path(path) = &options.from else {
        let scratch = options.from == StartFrom::Scratch;
        return Ok((Arc::new(JobLog::open(storage, job, scratch)?), options.from.clone()));
    };
    let named = Named::find(path, &|location| {
        let elsewhere = CheckpointPlan { location: location.into(), ..checkpoint.clone() };
        super::start::storage(&elsewhere)
    })?;
    let manifest = named.manifest()?;
    if named.log.is_present(&storage, job)? {
        return Ok((Arc::new(JobLog::open(storage, job, false)?), StartFrom::Slot(manifest.slot)));
    }
    let same_job = named.log.job() == job && named.log.place() == storage.place();
    if checkpoint.exactly_once {
        let others = same_job.then_some(&storage);
        tell(&published_again(plan, path, &named.log, manifest.slot, others, options)?);
    }
    // The copy becomes the job's present instance, so whatever speaks against a start is said before.
    tell(&fits::may_start(plan, &named.log, &manifest, options)?);
    let whose = format!("checkpoint {} of job `{}`", manifest.slot, named.log.job());
    let scratch = plan.env.state_dir.join(".import");
    let log = JobLog::import(storage, job, &named.log, manifest, same_job, &scratch);
    // It is empty again.
    let _ = std::fs::remove_dir(&scratch);
    let log = log?;
    tracing::warn!(target: "checkpoint", "going on from a copy of {whose}; {} is the job's new folder", log.instance());
    Ok((Arc::new(log), StartFrom::Latest))
}

/// What a start from a checkpoint of `log` publishes again, or why it is refused. `storage`: with what later instances of the job there have
/// published.
pub fn published_again(
    plan: &Plan,
    name: &str,
    log: &JobLog,
    slot: u64,
    storage: Option<&Arc<dyn Storage>>,
    options: &RunOptions,
) -> Result<Vec<String>, Fault> {
    let mut later = Later::default();
    let known = log.later(slot, &mut later).and_then(|()| match storage {
        Some(storage) => since_then(storage, &plan.env.job, log.instance(), &mut later),
        None => Ok(()),
    });
    match known {
        Err(f) if options.accept_duplicates && f.kind == FaultKind::Data => {
            Ok(vec![format!("what later checkpoints have published may be published again: {}", f.message)])
        }
        Err(f) => Err(f),
        Ok(()) => published_since(plan, name, &later, options.accept_duplicates),
    }
}

/// What the instances after `instance` have published.
fn since_then(storage: &Arc<dyn Storage>, job: &str, instance: &str, later: &mut Later) -> Result<(), Fault> {
    for log in JobLog::all(storage, job)?.into_iter().skip_while(|l| l.instance() != instance).skip(1) {
        log.later(0, later)?;
    }
    Ok(())
}

/// Says what a start does that is not what one would expect.
pub fn tell(sentences: &[String]) {
    sentences.iter().for_each(|s| tracing::warn!(target: "checkpoint", "{s}"));
}

/// Refuses a start after whose checkpoint more was published, unless writing that again changes nothing or is accepted. Else what is
/// written again, a sentence each.
fn published_since(plan: &Plan, from: &str, later: &Later, accept: bool) -> Result<Vec<String>, Fault> {
    let overwrites = |name: &str| {
        let sink = plan.nodes.iter().find(|n| n.name == name);
        sink.and_then(|n| if let NodeKind::Sink(s) = &n.kind { Some(s.factory.overwrites()) } else { None })
    };
    let (mut twice, mut harmless) = (vec![], vec![]);
    for (name, rows) in later.rows.iter().filter(|(_, n)| **n > 0) {
        match overwrites(name) {
            Some(true) => harmless.push(format!("`{name}` {rows} rows")),
            Some(false) => twice.push(format!("`{name}` {rows} rows")),
            // Nothing is written there any more.
            None => {}
        }
    }
    let mut said = vec![];
    if !harmless.is_empty() {
        let rows = harmless.join(", ");
        said.push(format!("what was published since checkpoint {from} is written again by key, which changes nothing: {rows}"));
    }
    let appends = |n: &millrace_plan::plan::Node| matches!(&n.kind, NodeKind::Sink(s) if !s.factory.overwrites());
    let unknown = later.pruned > 0 && plan.nodes.iter().any(appends);
    if twice.is_empty() && !unknown {
        return Ok(said);
    }
    let slots: Vec<String> = later.slots.iter().map(u64::to_string).collect();
    let mut detail = twice;
    if unknown {
        detail.push(format!("and what {} checkpoints have published whose records are pruned", later.pruned));
    }
    let whose = if slots.is_empty() { "later checkpoints".into() } else { format!("the checkpoints {}", slots.join(", ")) };
    if accept {
        said.push(format!("what {whose} have published is published again: {}", detail.join(", ")));
        return Ok(said);
    }
    let what = format!("a start from checkpoint {from} would publish again what {whose} have published");
    Err(Fault::config(what).detail(detail.join(", ")).hint("start from `latest`, or say --accept-duplicates"))
}

/// What a start that goes on from a manifest says first.
pub fn going_on(m: &Manifest, log: &JobLog) -> String {
    format!("going on from checkpoint {} of {}", m.slot, log.place())
}

/// What a start says whose checkpoint is that of a job's end.
pub const FINISHED: &str = "the job had finished before, and what it left to publish is published; --from scratch begins anew";

/// Why a job cannot go on from a checkpoint.
pub fn takes_none(job: &str) -> Fault {
    Fault::config(format!("job `{job}` takes no checkpoints: every start begins from scratch")).hint("give it `run_env.checkpoint`")
}

/// What a start would do.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// The checkpoint from which it would go on; None: from scratch.
    pub slot: Option<u64>,
    /// That was the job's end.
    pub finished: bool,
    /// A sentence each.
    pub said: Vec<String>,
    /// Why it would be refused.
    pub refused: Option<Fault>,
}

/// What a start without checkpoints says of those that the job has taken before, where they lie unless another folder is named.
///
/// # Errors
/// Output of theirs is not published yet, and never would be; a start from scratch forgets it.
pub fn unused(plan: &Plan, options: &RunOptions) -> Result<Option<String>, Fault> {
    let (job, folder) = (&plan.env.job, &plan.env.state_dir);
    if plan.checkpoint.is_some() || options.from != StartFrom::Latest || !folder.is_dir() {
        return Ok(None);
    }
    let look = || -> Result<_, Fault> {
        let storage = Local::open(&std::path::absolute(folder).unwrap_or(folder.clone()))?;
        let Some(log) = JobLog::find(Arc::new(storage), job)? else { return Ok(None) };
        let Some(m) = log.latest(&log.slots()?)? else { return Ok(None) };
        let waiting = log.unpublished(&m)?;
        Ok((m.kind != Kind::Finished || !waiting.is_empty()).then(|| (m.slot, log.path(m.slot), waiting)))
    };
    let (slot, path, waiting) = match look() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        // Whoever takes none has no use for damaged ones.
        Err(f) if f.kind == FaultKind::Data => return Ok(None),
        Err(f) => return Err(f),
    };
    if waiting.is_empty() {
        return Ok(Some(format!(
            "checkpoint {slot} of job `{job}` is not used, as the topology has no `run_env.checkpoint`: state is empty, and sources begin as they say"
        )));
    }
    let sinks: Vec<String> = waiting.iter().map(|(sink, rows)| format!("`{sink}` {rows}")).collect();
    Err(Fault::config(format!(
        "job `{job}` has output of an earlier run to publish, and the topology has no `run_env.checkpoint` any more"
    ))
    .detail(format!("rows that may not be published yet, by sink: {}; in {path}", sinks.join(", ")))
    .hint("run the job once more with `checkpoint` as it was and stop it: then all is published; `--from scratch` forgets it"))
}

/// What a start with these options would do: what is published twice or given up, or why it is refused. Nothing is written.
///
/// # Errors
/// The job takes no checkpoints, they cannot be read, or there is none that is called so.
pub fn foresee(plan: &Plan, options: &RunOptions) -> Result<Foreseen, Fault> {
    let job = &plan.env.job;
    let Some(checkpoint) = &plan.checkpoint else { return Err(takes_none(job)) };
    // To look makes no folder.
    let there = checkpoint.location.contains("://") || std::path::Path::new(&checkpoint.location).is_dir();
    let storage = if there { Some(storage(checkpoint)?) } else { None };
    let present = storage.as_ref().map(|s| JobLog::find(s.clone(), job)).transpose()?.flatten();
    let slot = match &options.from {
        StartFrom::Latest => None,
        StartFrom::Slot(slot) => Some(*slot),
        StartFrom::Scratch => {
            let forgotten =
                "state and positions are forgotten: sources begin where the topology says, and what they give again is published again";
            let said = if present.is_some() { forgotten.into() } else { "the job begins from scratch: it has no checkpoints".to_string() };
            return Ok(Foreseen { said: vec![said], ..Foreseen::default() });
        }
        StartFrom::Path(path) => {
            let named = Named::find(path, &|location| {
                let elsewhere = CheckpointPlan { location: location.into(), ..checkpoint.clone() };
                super::start::storage(&elsewhere)
            })?;
            let manifest = named.manifest()?;
            if !storage.as_ref().is_some_and(|s| named.log.is_present(s, job).unwrap_or(false)) {
                let others = storage.as_ref().filter(|s| named.log.job() == job && named.log.place() == s.place());
                let again = published_again(plan, path, &named.log, manifest.slot, others, options);
                return Ok(weigh(plan, checkpoint, options, &named.log, &manifest, Some((path, again))));
            }
            Some(manifest.slot)
        }
    };
    let nothing = || Fault::refused(format!("job `{job}` has no checkpoints in {}", checkpoint.location));
    let Some(log) = present else {
        return match slot {
            None => Ok(Foreseen { said: vec!["the job begins from scratch: it has no checkpoints".into()], ..Foreseen::default() }),
            Some(_) => Err(nothing()),
        };
    };
    let Some(slot) = slot else {
        return Ok(match log.latest(&log.slots()?)? {
            Some(m) => weigh(plan, checkpoint, options, &log, &m, None),
            None => Foreseen { said: vec!["the job begins from scratch: no checkpoint was taken yet".into()], ..Foreseen::default() },
        });
    };
    let manifest = log.manifest(slot)?;
    let again = published_again(plan, &slot.to_string(), &log, slot, None, options);
    Ok(weigh(plan, checkpoint, options, &log, &manifest, Some((&slot.to_string(), again))))
}

type Again<'a> = (&'a str, Result<Vec<String>, Fault>);

/// `again`: the checkpoint's name, and what is published again; None: it is the latest.
fn weigh(plan: &Plan, c: &CheckpointPlan, options: &RunOptions, log: &JobLog, m: &Manifest, again: Option<Again<'_>>) -> Foreseen {
    let mut out = Foreseen { slot: Some(m.slot), finished: m.kind == Kind::Finished, said: vec![going_on(m, log)], refused: None };
    let again = match again {
        Some((_, again)) if c.exactly_once => again,
        Some((name, _)) => Ok(vec![format!("what was written after checkpoint {name} is written again: the job is `at_least_once`")]),
        None => Ok(vec![]),
    };
    let all = again.and_then(|mut said| {
        said.extend(fits::may_start(plan, log, m, options)?);
        Ok(said)
    });
    match all {
        Ok(said) => out.said.extend(said),
        Err(fault) => out.refused = Some(fault),
    }
    if out.finished {
        out.said.push(FINISHED.into());
    }
    out
}
