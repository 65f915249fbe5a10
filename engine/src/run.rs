//! Runs a plan: checks, opens, steps the workers, and sums up.

use crate::build::{Build, Durable, Job};
use crate::checkpoint;
use crate::control::{Control, RunOptions, Shared};
use crate::graph::Graph;
use crate::keyed::TierRoom;
use crate::progress::{Meters, Progress, Reporter};
use crate::reject::Origins;
use crate::stores::Client;
use crate::summary::{Ended, Summary};
use crate::ts::{Ts, meet};
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::{Fault, FaultKind};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use timely::CommunicationConfig;
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

/// Runs a plan to its end.
///
/// Whatever goes wrong is told in the summary: [`Summary::fault`] is the first fault, of any worker. A panic in a part becomes a fault
/// of kind bug and ends all workers; nothing hangs.
pub fn run(plan: Plan, options: RunOptions, control: Control, reporter: &dyn Reporter) -> Summary {
    let summary = run_to_end(plan, options, control.clone(), reporter);
    control.close();
    summary
}

fn run_to_end(plan: Plan, options: RunOptions, control: Control, reporter: &dyn Reporter) -> Summary {
    let workers = options.workers.unwrap_or(plan.parallelism).max(1);
    let meters = Arc::new(Meters::new(&plan, workers));
    let retry: Vec<bool> = plan.nodes.iter().filter_map(|n| if let NodeKind::Source(s) = &n.kind { Some(s.retry) } else { None }).collect();
    let shared = Arc::new(Shared::new(options, control, meters.clone(), &retry, workers));
    let job_name = plan.env.job.clone();
    let plan = Arc::new(plan);
    if let Err(fault) = check(&plan) {
        return summary(&job_name, &shared, workers, plan.dead_letter.0, Some(fault));
    }
    let streams = plan.nodes.iter().filter_map(|n| match &n.kind {
        NodeKind::Source(s) => Some((s.number, n.name.clone())),
        _ => None,
    });
    let origins = Arc::new(Origins { job: job_name.clone(), streams: streams.collect() });
    let mut clients: HashMap<(String, u64), Arc<Client>> = HashMap::new();
    for node in &plan.nodes {
        if let NodeKind::Operator(op) = &node.kind {
            for s in &op.stores {
                clients.entry((s.name.clone(), s.schema.id())).or_insert_with(|| Arc::new(Client::new(s, shared.clone())));
            }
        }
    }
    let runtime = match runtime(!clients.is_empty()) {
        Ok(runtime) => runtime,
        Err(fault) => return summary(&job_name, &shared, workers, plan.dead_letter.0, Some(fault)),
    };
    let started = match durable(&plan, &shared, workers) {
        Ok(started) => started,
        Err(fault) => return summary(&job_name, &shared, workers, plan.dead_letter.0, Some(fault)),
    };
    let Some((durable, coordinator)) = started else {
        tracing::warn!(target: "checkpoint", "the job had finished before, and what it left to publish is published; --from scratch begins anew");
        return summary(&job_name, &shared, workers, plan.dead_letter.0, None);
    };
    let uploads = durable.as_ref().map(|d| d.uploads.clone());
    let job = Arc::new(Job {
        graph: Graph::new(&plan),
        plan: plan.clone(),
        shared: shared.clone(),
        origins,
        clients,
        runtime: runtime.as_ref().map(|r| r.handle().clone()),
        durable,
        room: room(&plan, &shared),
    });
    reporter.started(Arc::new(Progress { meters, started: Instant::now() - shared.elapsed() }));

    let communication = if workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(workers) };
    let config = timely::Config { communication, worker: timely::WorkerConfig::default() };
    let workers_job = job.clone();
    let started = timely::execute(config, move |worker| work(worker, &workers_job));
    match started {
        Err(e) => shared.fail(Fault::bug(format!("the workers did not start: {e}"))),
        Ok(guards) => {
            for result in guards.join() {
                if let Err(e) = result {
                    shared.fail(Fault::bug(format!("a worker ended by itself: {e}")));
                }
            }
        }
    }
    if let Some(coordinator) = coordinator {
        shared.bounds.finish();
        if coordinator.join().is_err() {
            shared.fail(Fault::bug("the coordinator of the checkpoints panicked"));
        }
    }
    if let Some(uploads) = uploads {
        uploads.stop();
    }
    if let Some(runtime) = runtime {
        runtime.shutdown_background();
    }
    summary(&job_name, &shared, workers, plan.dead_letter.0, shared.take_fault())
}

/// Where state lies that is not in memory: beside what else the job keeps on this machine.
fn room(plan: &Plan, shared: &Shared) -> Option<Arc<TierRoom>> {
    let tiers = shared.options.tiers.clone()?;
    let base = plan.env.state_dir.join("tiers").join(millrace_plan::file_name(&plan.env.job));
    Some(Arc::new(TierRoom::new(tiers, base)))
}

type Coordinator = std::thread::JoinHandle<()>;

/// Begins the run's generation, if the job takes checkpoints, and starts the coordinator. None: the job had finished before.
fn durable(plan: &Plan, shared: &Arc<Shared>, workers: usize) -> Result<Option<(Option<Durable>, Option<Coordinator>)>, Fault> {
    let (acks, heard) = std::sync::mpsc::channel();
    shared.bounds.hear(acks);
    let Some(started) = checkpoint::start(plan, shared, workers, heard)? else { return Ok(Some((None, None))) };
    if started.finished {
        started.uploads.stop();
        return Ok(None);
    }
    shared.bounds.enable();
    let durable = Durable {
        log: started.coordinator.log.clone(),
        restored: started.restored.unwrap_or_default(),
        uploads: started.uploads,
        generation: started.coordinator.generation,
        boxed: started.coordinator.writers.keys().map(|s| s.node).collect(),
    };
    let coordinator = started.coordinator;
    let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || coordinator.run());
    let thread = thread.map_err(|e| Fault::refused(format!("threads for checkpoints cannot be started: {e}")))?;
    Ok(Some((Some(durable), Some(thread))))
}

/// The process's one runtime for look-ups, if there is anything to look up.
fn runtime(needed: bool) -> Result<Option<tokio::runtime::Runtime>, Fault> {
    if !needed {
        return Ok(None);
    }
    let made = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("millrace-lookup").enable_all().build();
    made.map(Some).map_err(|e| Fault::refused(format!("threads for look-ups cannot be started: {e}")))
}

/// Asks every part whether what it needs is there, before anything is read; all that is missing is told at once.
///
/// # Errors
/// One fault, whose detail lists the others.
pub fn check(plan: &Plan) -> Result<(), Fault> {
    let mut faults: Vec<(String, Fault)> = Vec::new();
    let mut stores: HashSet<&str> = HashSet::new();
    for node in &plan.nodes {
        match &node.kind {
            NodeKind::Source(s) => faults.extend(s.factory.check().err().map(|f| (node.name.clone(), f))),
            NodeKind::Sink(s) => faults.extend(s.factory.check().err().map(|f| (node.name.clone(), f))),
            NodeKind::Operator(op) => {
                for s in &op.stores {
                    if stores.insert(&s.name) {
                        faults.extend(s.store.check().err().map(|f| (s.name.clone(), f)));
                    }
                }
            }
        }
    }
    if faults.len() < 2 {
        return faults.pop().map_or(Ok(()), |(_, f)| Err(f));
    }
    let lines: Vec<String> = faults.iter().map(|(name, f)| format!("`{name}`: {f}")).collect();
    let kind = if faults.iter().any(|(_, f)| f.kind == FaultKind::Config) { FaultKind::Config } else { faults[0].1.kind };
    let retry = faults.iter().all(|(_, f)| f.retry);
    Err(Fault { retry, ..Fault::new(kind, format!("{} parts of the job are not ready", faults.len())) }.detail(lines.join("\n  ")))
}

/// One worker's life. Faults and panics end all workers by the shared flag.
fn work(worker: &mut Worker, job: &Job) {
    let shared = &job.shared;
    let me = worker.index();
    let lived = catch_unwind(AssertUnwindSafe(|| live(worker, job)));
    match lived {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => shared.fail(fault),
        Err(panic) => shared.fail(panic_fault(me, panic.as_ref())),
    }
    // Only unfinished dataflows are left here; dropping them in whatever state they are in must not hang or end the process.
    let dropped = catch_unwind(AssertUnwindSafe(|| worker.installed_dataflows().into_iter().for_each(|d| worker.drop_dataflow(d))));
    if let Err(panic) = dropped {
        shared.fail(panic_fault(me, panic.as_ref()));
    }
}

fn panic_fault(worker: usize, panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    Fault::bug(format!("worker {worker} panicked: {}", text.as_deref().unwrap_or("no message")))
}

fn live(worker: &mut Worker, job: &Job) -> Result<(), Fault> {
    let shared = &job.shared;
    let probe = Handle::<Ts>::new();
    let (built, readers) = worker.dataflow::<Ts, _, _>(|scope| {
        let mut build = Build::new(job, scope, probe.clone());
        (build.all(), build.readers.clone())
    });
    built?;
    let rest = (shared.options.epoch / 2).clamp(Duration::from_millis(1), Duration::from_millis(10));
    while !probe.done() && !shared.failed() {
        let first = worker.index() == 0;
        let acknowledged = first.then(|| probe.with_frontier(meet).map_or(u64::MAX, |t| t.epoch));
        shared.meters.stepped(worker.index(), shared.micros(), acknowledged);
        if first {
            shared.announce();
            if !shared.bounds.on() {
                shared.control.answer();
            }
            if shared.options.duration.is_some_and(|d| shared.elapsed() >= d) && !shared.control.draining() {
                tracing::info!("the run's time is over: draining, nothing more is read");
                shared.control.drain();
            }
        }
        worker.step_or_park(Some(rest));
    }
    for reader in readers.borrow().iter() {
        let closed = reader.borrow_mut().finish();
        if !shared.failed() {
            closed?;
        }
    }
    Ok(())
}

fn summary(job: &str, shared: &Shared, workers: usize, dead_letter: usize, fault: Option<Fault>) -> Summary {
    let m = &shared.meters;
    let nodes = m.node_summaries();
    let seconds = shared.elapsed().as_secs_f64();
    let records_in = m.sources.iter().map(|s| s.records.load(Relaxed)).sum();
    let sinks = nodes.iter().enumerate().filter(|(i, n)| *i != dead_letter && n.kind == "sink");
    let drained = shared.control.draining() || shared.exhausted();
    Summary {
        job: job.to_string(),
        ended: match (&fault, drained) {
            (Some(_), _) => Ended::Failed,
            (None, true) => Ended::Drained,
            (None, false) => Ended::Finished,
        },
        workers,
        elapsed_seconds: seconds,
        records_in,
        records_out: sinks.map(|(_, n)| n.records_in).sum(),
        records_per_second: if seconds > 0.0 { records_in as f64 / seconds } else { 0.0 },
        rejected: nodes.iter().map(|n| n.rejected_total).sum(),
        lost: m.lost.load(SeqCst),
        latency: m.latency(),
        sources: m.source_summaries(),
        stores: m.store_summaries(),
        nodes,
        fault: fault.map(Into::into),
    }
}
