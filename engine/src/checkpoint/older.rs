//! Starts from another checkpoint than the latest: where it lies, and what would be published a second time.

use super::fits;
use super::start::storage;
use crate::control::RunOptions;
use millrace_durable::{JobLog, Later, Named, StartFrom, Storage};
use millrace_plan::plan::{CheckpointPlan, NodeKind, Plan};
use millrace_sdk::Fault;
use std::sync::Arc;

/// Opens the job's log where the run is to go on; a checkpoint that lies elsewhere is copied into it.
pub fn open(plan: &Plan, checkpoint: &CheckpointPlan, options: &RunOptions, accept: bool) -> Result<(Arc<JobLog>, StartFrom), Fault> {
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
    if checkpoint.exactly_once && !accept {
        let mut later = Later::default();
        named.log.later(manifest.slot, &mut later)?;
        if same_job {
            since_then(&storage, job, named.log.instance(), &mut later)?;
        }
        published_since(plan, path, &later)?;
    }
    // The copy becomes the job's present instance, so whatever speaks against a start is said before.
    fits::may_start(plan, &named.log, &manifest, options)?;
    let whose = format!("checkpoint {} of job `{}`", manifest.slot, named.log.job());
    let scratch = plan.env.state_dir.join(".import");
    let log = JobLog::import(storage, job, &named.log, manifest, same_job, &scratch);
    // It is empty again.
    let _ = std::fs::remove_dir(&scratch);
    let log = log?;
    tracing::warn!(target: "checkpoint", "going on from a copy of {whose}; {} is the job's new folder", log.instance());
    Ok((Arc::new(log), StartFrom::Latest))
}

/// What the instances after `instance` have published.
fn since_then(storage: &Arc<dyn Storage>, job: &str, instance: &str, later: &mut Later) -> Result<(), Fault> {
    for log in JobLog::all(storage, job)?.into_iter().skip_while(|l| l.instance() != instance).skip(1) {
        log.later(0, later)?;
    }
    Ok(())
}

/// Refuses a start after whose checkpoint more was published, unless writing that again changes nothing.
pub fn published_since(plan: &Plan, from: &str, later: &Later) -> Result<(), Fault> {
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
    if !harmless.is_empty() {
        let rows = harmless.join(", ");
        tracing::warn!(target: "checkpoint", "what was published since checkpoint {from} is written again by key, which changes nothing: {rows}");
    }
    let appends = |n: &millrace_plan::plan::Node| matches!(&n.kind, NodeKind::Sink(s) if !s.factory.overwrites());
    let unknown = later.pruned > 0 && plan.nodes.iter().any(appends);
    if twice.is_empty() && !unknown {
        return Ok(());
    }
    let slots: Vec<String> = later.slots.iter().map(u64::to_string).collect();
    let mut detail = twice;
    if unknown {
        detail.push(format!("and what {} checkpoints have published whose records are pruned", later.pruned));
    }
    let what = format!("a start from checkpoint {from} would publish again what the checkpoints {} have published", slots.join(", "));
    Err(Fault::config(what).detail(detail.join(", ")).hint("start from `latest`, or say --accept-duplicates"))
}
