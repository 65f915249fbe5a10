//! Runs a plan: checks, opens, steps the workers, and sums up.

use crate::build::{Build, Durable, Job};
use crate::checkpoint;
use crate::cluster::{Begin, Links, Mesh, Seat, Wire, connect};
use crate::control::{Control, Request, RunOptions, Shared};
use crate::graph::Graph;
use crate::guards;
use crate::keyed::TierRoom;
use crate::progress::{Meters, Progress, Reporter};
use crate::reject::Origins;
use crate::replay;
use crate::stores::Client;
use crate::summary::{Ended, Report, Summary};
use crate::ts::{Ts, meet};
use crate::wire;
use millrace_durable::StartFrom;
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::{Fault, FaultKind};
use std::collections::{HashMap, HashSet};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use timely::CommunicationConfig;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::dataflow::operators::probe::Handle;
use timely::worker::Worker;

/// Runs a plan to its end, in this process or as one of several.
///
/// Whatever goes wrong is told in the summary: [`Summary::fault`] is the first fault, of any worker. A panic in a part becomes a fault
/// of kind bug and ends all workers; nothing hangs. Process 0's summary is that of the whole job.
pub fn run(plan: Plan, options: RunOptions, control: Control, reporter: &dyn Reporter) -> Summary {
    let summary = run_to_end(plan, options, control.clone(), reporter);
    control.close();
    summary
}

fn run_to_end(plan: Plan, options: RunOptions, control: Control, reporter: &dyn Reporter) -> Summary {
    let start = Instant::now();
    let workers = options.workers.unwrap_or(plan.parallelism).max(1);
    let member = options.member.clone().filter(|m| m.hosts.len() > 1);
    let seat = member.as_ref().map_or(Seat::alone(workers), |m| Seat { process: m.process, processes: m.hosts.len(), workers });
    let mesh = member.as_ref().map(|m| match options.limit {
        Some(_) => Err(Fault::config("a limit of records cannot be kept by several processes")),
        None => connect(m, seat, plan.hash, &control, start),
    });
    let meters = Arc::new(Meters::new(&plan, seat.first(), workers).by_minute(options.by_minute));
    let retry: Vec<bool> = plan.nodes.iter().filter_map(|n| if let NodeKind::Source(s) = &n.kind { Some(s.retry) } else { None }).collect();
    let start = mesh.as_ref().and_then(|m| m.as_ref().ok()).map_or(start, |m| m.start);
    let shared = Arc::new(Shared::new(options, control, meters, &retry, seat, start, plan.env.memory));
    let plan = Arc::new(plan);
    if !plan.guards.is_empty() {
        let (plan, meters) = (plan.clone(), shared.meters.clone());
        shared.bounds.count_by(move || guards::count(&plan.guards, &meters));
    }
    // A connection that ends before the others know why looks like a loss: they stay open until farewell is said.
    let mut kept: Vec<TcpStream> = vec![];
    let network = mesh.zip(member).map(|(mesh, member)| {
        let Mesh { control, data, run, .. } = mesh?;
        kept.extend(data.iter().flatten().filter_map(|s| s.try_clone().ok()));
        let links = Links::start(control, run, &member, &shared)?;
        let _ = shared.links.set(links);
        let wire = |(process, socket): (usize, Option<TcpStream>)| socket.map(|s| Wire::new(s, member.name(process), shared.clone()));
        Ok(data.into_iter().enumerate().map(wire).collect::<Vec<_>>())
    });
    if let Err(fault) = network.transpose().and_then(|wires| execute(&plan, &shared, wires, reporter)) {
        shared.fail(fault);
    }
    let mut total = summary(&plan, &shared);
    if let Some(links) = shared.links.get() {
        let (latency, longest) = shared.meters.latency.filled();
        for report in links.farewell(Report { summary: total.clone(), latency, longest }, &shared) {
            shared.meters.latency.merge(&report.latency, report.longest);
            total.add(report.summary);
        }
        if seat.process == 0 {
            total.workers = seat.all();
            total.latency = shared.meters.latency();
        }
    }
    drop(kept);
    if let Some(fault) = shared.take_fault() {
        total.ended = if fault.kind == FaultKind::Guard { Ended::HaltedByGuard } else { Ended::Failed };
        total.fault = Some(fault.into());
    }
    total
}

/// Opens everything, runs the workers, and closes everything. A fault of a worker is in `shared`.
///
/// # Errors
/// The job could not begin.
fn execute(plan: &Arc<Plan>, shared: &Arc<Shared>, wires: Option<Vec<Option<Wire>>>, reporter: &dyn Reporter) -> Result<(), Fault> {
    check_at(plan, shared.seat.process)?;
    let streams = plan.nodes.iter().filter_map(|n| match &n.kind {
        NodeKind::Source(s) => Some((s.number, n.name.clone())),
        _ => None,
    });
    let origins = Arc::new(Origins { job: plan.env.job.clone(), streams: streams.collect() });
    let mut clients: HashMap<(String, u64), Arc<Client>> = HashMap::new();
    for node in &plan.nodes {
        if let NodeKind::Operator(op) = &node.kind {
            for s in &op.stores {
                clients.entry((s.name.clone(), s.schema.id())).or_insert_with(|| Arc::new(Client::new(s, shared.clone())));
            }
        }
    }
    let runtime = runtime(!clients.is_empty())?;
    let Some((durable, coordinator)) = durable(plan, shared)? else { return Ok(()) };
    let uploads = durable.as_ref().map(|d| d.uploads.clone());
    let job = Job {
        graph: Graph::new(plan),
        plan: plan.clone(),
        shared: shared.clone(),
        origins,
        clients,
        runtime: runtime.as_ref().map(|r| r.handle().clone()),
        durable,
        room: room(plan, shared),
    };
    reporter.started(Arc::new(Progress { meters: shared.meters.clone(), started: Instant::now() - shared.elapsed() }));
    workers(Arc::new(job), wires);
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
    Ok(())
}

/// Runs this process's workers to their end.
fn workers(job: Arc<Job>, wires: Option<Vec<Option<Wire>>>) {
    let (shared, seat) = (job.shared.clone(), job.shared.seat);
    let live = move |worker: &mut Worker| work(worker, &job);
    let (started, network) = match wires {
        None => {
            let communication = if seat.workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(seat.workers) };
            (timely::execute(timely::Config { communication, worker: timely::WorkerConfig::default() }, live), None)
        }
        Some(wires) => {
            let hooks = Hooks::default();
            let inner = ProcessBuilder::new_typed_vector(seat.workers, hooks.refill.clone(), None);
            match initialize_networking_from_sockets(inner, wires, seat.process, seat.workers, hooks) {
                Err(e) => (Err(e.to_string()), None),
                Ok((builders, network)) => {
                    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
                    (timely::execute::execute_from(builders, Box::new(()), timely::WorkerConfig::default(), live), Some(network))
                }
            }
        }
    };
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
    if let Some(network) = network {
        // Its threads end when the other processes' do, or never if one of these is lost.
        let (done, over) = channel();
        let ended = std::thread::Builder::new().name("network".into()).spawn(move || {
            drop(network);
            let _ = done.send(());
        });
        while ended.is_ok() && !shared.failed() && over.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {}
    }
}

/// Where state lies that is not in memory: beside what else the job keeps on this machine.
fn room(plan: &Plan, shared: &Shared) -> Option<Arc<TierRoom>> {
    let tiers = shared.options.tiers.clone()?;
    // Processes on one machine may share the folder.
    let mine = if shared.seat.process > 0 { format!(".{}", shared.seat.process) } else { String::new() };
    let base = plan.env.state_dir.join("tiers").join(millrace_plan::file_name(&plan.env.job) + &mine);
    Some(Arc::new(TierRoom::new(tiers, base)))
}

type Coordinator = std::thread::JoinHandle<()>;

/// Begins the run's generation, if the job takes checkpoints, and starts the coordinator; or joins the generation that process 0 has
/// begun. None: there is nothing to do.
fn durable(plan: &Plan, shared: &Arc<Shared>) -> Result<Option<(Option<Durable>, Option<Coordinator>)>, Fault> {
    if let Some(links) = shared.links.get().filter(|l| l.seat.process > 0) {
        let Some(Begin { generation, finished: false }) = links.wait_begin(shared) else { return Ok(None) };
        let Some(generation) = generation else { return Ok(Some((None, None))) };
        let joined = checkpoint::join(plan, shared, links.run, generation)?;
        links.publish_by(joined.publishers);
        let forward = links.clone();
        shared.bounds.hear(move |ack| forward.ack(ack));
        shared.bounds.enable();
        let durable = Durable {
            restored: joined.restored.unwrap_or_default(),
            log: joined.log,
            uploads: joined.uploads,
            generation,
            boxed: joined.boxed,
        };
        return Ok(Some((Some(durable), None)));
    }
    let tell = |generation, finished| shared.links.get().inspect(|l| l.begin(Begin { generation, finished }));
    let (acks, heard) = channel();
    // The coordinator is gone only when the run is over.
    shared.bounds.hear(move |ack| _ = acks.send(ack));
    if plan.checkpoint.is_some() && shared.options.from == StartFrom::Scratch {
        replay::forget(&replay::folder(plan));
    }
    let Some(started) = checkpoint::start(plan, shared, shared.seat.all(), heard)? else {
        tell(None, false);
        return Ok(Some((None, None)));
    };
    if started.finished {
        tell(None, true);
        started.uploads.stop();
        tracing::warn!(target: "checkpoint", "{}", checkpoint::FINISHED);
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
    tell(Some(durable.generation), false);
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
    check_at(plan, 0)
}

/// As [`check`], for what this process has: a sink with one writer is process 0's.
fn check_at(plan: &Plan, process: usize) -> Result<(), Fault> {
    let mut faults: Vec<(String, Fault)> = Vec::new();
    let mut stores: HashSet<&str> = HashSet::new();
    for node in &plan.nodes {
        match &node.kind {
            NodeKind::Source(s) => faults.extend(s.factory.check().err().map(|f| (node.name.clone(), f))),
            NodeKind::Sink(s) if process > 0 && s.factory.single_writer() => {}
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
    if shared.seat.processes > 1 {
        wire::install(&job.plan, shared);
    }
    let probe = Handle::<Ts>::new();
    let (built, readers) = worker.dataflow::<Ts, _, _>(|scope| {
        let mut build = Build::new(job, scope, probe.clone());
        (build.all(), build.readers.clone())
    });
    built?;
    shared.links.get().inspect(|l| l.built());
    let mut over = false;
    let rest = (shared.options.epoch / 2).clamp(Duration::from_millis(1), Duration::from_millis(10));
    while !probe.done() && !shared.failed() {
        let first = worker.index() == 0;
        let tells = worker.index() == shared.seat.first();
        let acknowledged = tells.then(|| probe.with_frontier(meet).map_or(u64::MAX, |t| t.epoch));
        shared.meters.stepped(worker.index(), shared.micros(), acknowledged);
        if first {
            shared.announce();
            shared.control.quiet.turn(shared, acknowledged.unwrap_or(0));
            if !shared.bounds.on() {
                shared.control.answer();
            }
            if !over && shared.options.duration.is_some_and(|d| shared.elapsed() >= d) {
                over = true;
                if shared.bounds.on() && !shared.options.drains {
                    tracing::info!("the run's time is over: a last checkpoint is taken and published");
                    // Whether it worked is told by the run's end.
                    drop(shared.control.request(Request::Stop { savepoint: false, drain: false }));
                } else if !shared.control.draining() {
                    tracing::info!("the run's time is over: draining, nothing more is read");
                    shared.control.drain();
                }
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

/// What this process has done so far.
fn summary(plan: &Plan, shared: &Shared) -> Summary {
    let m = &shared.meters;
    let nodes = m.node_summaries();
    let seconds = shared.elapsed().as_secs_f64();
    let records_in = m.sources.iter().map(|s| s.records.load(Relaxed)).sum();
    let sinks = nodes.iter().enumerate().filter(|(i, n)| *i != plan.dead_letter.0 && n.kind == "sink");
    let drained = shared.control.draining() || shared.exhausted();
    Summary {
        job: plan.env.job.clone(),
        ended: if drained { Ended::Drained } else { Ended::Finished },
        workers: shared.seat.workers,
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
        fault: None,
    }
}
