//! Builds the dataflow, identically on every worker.

use crate::checkpoint::{self, Restored, Spot, Uploads};
use crate::control::Shared;
use crate::event_time::Assigner;
use crate::graph::{Graph, is_pass};
use crate::inbox::Inbox;
use crate::keyed::{Asker, KeyedRunner, KeyedSetup, Saves, TierRoom};
use crate::lookup::LookupRunner;
use crate::outbox::Outgoing;
use crate::outlet::{DEAD_LETTER, Exit, Outlet, Target};
use crate::parcel::{Parcel, Route};
use crate::reject::Origins;
use crate::sink::Writer;
use crate::source::{Again, Reader, Setup};
use crate::stateless::{Step, Tree};
use crate::stores::Client;
use crate::ts::Ts;
use millrace_durable::JobLog;
use millrace_plan::plan::{GuardCheck, NodeId, NodeKind, Plan, PortRef, SinkNode, SourceNode};
use millrace_sdk::key::KEY_GROUPS;
use millrace_sdk::operator::{Keyed, LookupExec, StoreUse, TimeCharacteristic};
use millrace_sdk::source::Waker;
use millrace_sdk::{Assignment, Exec, Fault, Key, SinkContext, Slot, SourceContext};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;
use timely::dataflow::channels::pushers::Output;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

/// All that a worker needs to build its part of a run.
pub struct Job {
    pub plan: Arc<Plan>,
    pub graph: Graph,
    pub shared: Arc<Shared>,
    pub origins: Arc<Origins>,
    /// One client a store and answer schema.
    pub clients: HashMap<(String, u64), Arc<Client>>,
    /// There is one if there are stores.
    pub runtime: Option<tokio::runtime::Handle>,
    /// What it goes on from, and how it is saved, if it takes checkpoints.
    pub durable: Option<Durable>,
    /// Where state can lie that is not in memory.
    pub room: Option<Arc<TierRoom>>,
}

/// What the parts of a job that takes checkpoints need.
pub struct Durable {
    pub restored: Restored,
    pub log: Arc<JobLog>,
    pub uploads: Arc<Uploads>,
    pub generation: u64,
    /// Sinks that write by outbox.
    pub boxed: HashSet<usize>,
}

impl Job {
    /// What guards count at a node's ports: port, field, the guard's index.
    fn watched(&self, node: usize) -> Vec<(usize, Slot, usize)> {
        let mut found = vec![];
        for (i, g) in self.plan.guards.iter().enumerate() {
            if let GuardCheck::Nulls(slot) = g.check {
                let at = crate::guards::watched(&self.plan, g.node, g.port);
                found.extend(at.into_iter().filter(|(n, _)| *n == node).map(|(_, port)| (port, slot, i)));
            }
        }
        found
    }

    /// The client of the `i`th store of a node.
    pub fn client(&self, node: usize, i: usize) -> Option<Arc<Client>> {
        let NodeKind::Operator(op) = &self.plan.nodes[node].kind else { return None };
        let s = op.stores.get(i)?;
        self.clients.get(&(s.name.clone(), s.schema.id())).cloned()
    }
}

/// Readers outlive their operators' capabilities: they are told at the end what was acknowledged.
pub type Readers = Rc<RefCell<Vec<Rc<RefCell<Reader>>>>>;

/// A dataflow under construction on one worker.
pub struct Build<'j, 's> {
    pub job: &'j Job,
    pub scope: Scope<'s, Ts>,
    pub probe: Handle<Ts>,
    pub readers: Readers,
    streams: HashMap<PortRef, Stream<'s, Ts, Parcel>>,
    dead: Vec<Stream<'s, Ts, Parcel>>,
}

impl<'j, 's> Build<'j, 's> {
    pub fn new(job: &'j Job, scope: Scope<'s, Ts>, probe: Handle<Ts>) -> Build<'j, 's> {
        Build { job, scope, probe, readers: Readers::default(), streams: HashMap::new(), dead: vec![] }
    }

    /// # Errors
    /// A part that could not be opened. The graph is then of no use, on this worker and on all others.
    pub fn all(&mut self) -> Result<(), Fault> {
        let plan = &self.job.plan;
        let mut source = 0;
        for (i, node) in plan.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Source(s) => {
                    self.source(i, source, s)?;
                    source += 1;
                }
                NodeKind::Sink(s) if i != plan.dead_letter.0 => self.sink(i, s)?,
                NodeKind::Sink(_) => {}
                NodeKind::Operator(_) if is_pass(plan, i) || self.job.graph.root[i] != i => {}
                NodeKind::Operator(op) => match &op.exec {
                    Exec::Pass => {}
                    Exec::Stateless(_) => self.tree(i),
                    Exec::Keyed(keyed) => self.keyed(i, keyed)?,
                    Exec::Lookup(lookup) => self.lookup(i, lookup)?,
                },
            }
        }
        // Last, as every other node's rejects end here.
        let dead_letter = plan.dead_letter.0;
        match &plan.nodes[dead_letter].kind {
            NodeKind::Sink(s) => self.sink(dead_letter, s),
            _ => Err(Fault::bug("the plan's dead letter is no sink")),
        }
    }

    pub fn me(&self) -> usize {
        self.scope.index()
    }

    /// How many workers host a node.
    pub fn hosts(&self, node: usize) -> usize {
        let peers = self.scope.peers();
        self.job.plan.nodes[node].parallelism.map_or(peers, |p| p.clamp(1, peers))
    }

    pub fn builder(&self, node: usize) -> OperatorBuilder<'s, Ts> {
        OperatorBuilder::new(self.job.plan.nodes[node].name.clone(), self.scope)
    }

    /// Makes the outputs of an operator that runs `nodes`: one for each port that is read outside, and one for dead letters.
    pub fn outlet(&mut self, b: &mut OperatorBuilder<'s, Ts>, nodes: &[usize]) -> (Outlet, Vec<Exit>) {
        let mut outputs: Vec<Output<Ts, Parcel>> = Vec::new();
        let (dead, stream) = b.new_output::<Parcel>();
        outputs.push(dead);
        self.dead.push(stream);
        let mut exits = Vec::new();
        for &node in nodes {
            let n = &self.job.plan.nodes[node];
            let mut exit = Exit { node, name: n.name.clone(), ports: vec![], errors: DEAD_LETTER, watched: self.job.watched(node) };
            for (p, (port, _)) in n.ports.iter().enumerate() {
                let at = PortRef { node: NodeId(node), port: p };
                let target = if self.job.graph.wired.contains(&at) {
                    let (output, stream) = b.new_output::<Parcel>();
                    outputs.push(output);
                    self.streams.insert(at, stream);
                    Target::Wired(outputs.len() - 1)
                } else if port.dead {
                    // Once a node and run: names live as long as the rejects that carry them.
                    Target::Dead(Box::leak(port.name.clone().into_boxed_str()))
                } else {
                    Target::Unread
                };
                if let (Target::Wired(output), "errors") = (target, port.name.as_str()) {
                    exit.errors = output;
                }
                exit.ports.push(target);
            }
            exits.push(exit);
        }
        (Outlet::new(outputs, self.job.shared.clone(), self.job.origins.clone()), exits)
    }

    /// Connects a node's inputs; `route` by the part's input index.
    pub fn inbox(&self, b: &mut OperatorBuilder<'s, Ts>, node: usize, route: impl Fn(usize) -> Route) -> Inbox {
        let mut inbox = Inbox::new(self.job.shared.clone());
        for (from, index) in &self.job.graph.inputs[node] {
            let stream = self.streams[from].clone();
            inbox.add(b, stream, self.local(route(*index)), *index, self.me());
        }
        inbox
    }

    /// With one worker nothing is exchanged.
    fn local(&self, route: Route) -> Route {
        if self.scope.peers() == 1 { Route::Local } else { route }
    }

    pub fn activator(&self, b: &OperatorBuilder<'s, Ts>) -> Activator {
        self.scope.activator_for(b.operator_info().address)
    }

    /// Wakes an operator from any thread; `woken` is set first.
    pub fn waker(&self, b: &OperatorBuilder<'s, Ts>, woken: Arc<AtomicBool>) -> Waker {
        let activator = std::sync::Mutex::new(self.scope.worker().sync_activator_for(b.operator_info().address.to_vec()));
        Arc::new(move || {
            woken.store(true, SeqCst);
            // A worker that is gone needs no waking.
            let _ = activator.lock().unwrap_or_else(|e| e.into_inner()).activate();
        })
    }

    fn source(&mut self, node: usize, index: usize, s: &SourceNode) -> Result<(), Fault> {
        let job = self.job;
        let mut b = self.builder(node);
        let (mut outlet, mut exits) = self.outlet(&mut b, &[node]);
        let woken = Arc::new(AtomicBool::new(false));
        let instances = self.hosts(node);
        let known = job.durable.as_ref().is_some_and(|d| d.restored.complete.contains(&job.plan.nodes[node].name));
        let source = if self.me() < instances {
            Some(s.factory.open(SourceContext {
                assignment: Assignment { index: self.me(), instances, shift: s.number as usize },
                clock: job.plan.env.clock.clone(),
                waker: self.waker(&b, woken.clone()),
                source: s.number,
                env: job.plan.env.clone(),
                restored: known,
            })?)
        } else {
            None
        };
        let mut assigner = Assigner::new(s, &job.plan.env, &job.shared.options)?;
        let restored = job.durable.as_ref().map(|d| &d.restored);
        if let (Assigner::Clock { last }, Some(r)) = (&mut assigner, restored) {
            *last = r.time;
        }
        let name = &job.plan.nodes[node].name;
        let setup = Setup {
            index,
            worker: self.me(),
            source,
            operates: s.operates.iter().map(|o| (o.name.clone(), (o.make)())).collect(),
            assigner,
            restored: restored.and_then(|r| r.sources.get(name)).cloned().unwrap_or_default(),
            known,
            exit: exits.remove(0),
            probe: self.probe.clone(),
            woken,
        };
        let again = self.activator(&b);
        let (shared, clock, readers) = (job.shared.clone(), job.plan.env.clock.clone(), self.readers.clone());
        let me = self.me();
        b.build_reschedule(move |caps| {
            outlet.open(caps);
            let reader = Rc::new(RefCell::new(Reader::new(setup, s, outlet, clock)));
            readers.borrow_mut().push(reader.clone());
            move |_| {
                let begun = Instant::now();
                let next = reader.borrow_mut().turn();
                shared.meters.worked(node, me, begun);
                schedule(&again, &shared, next) != Again::Never
            }
        });
        Ok(())
    }

    fn tree(&mut self, root: usize) {
        let nodes = self.job.graph.tree(root);
        let mut b = self.builder(root);
        let (mut outlet, exits) = self.outlet(&mut b, &nodes);
        let mut inbox = self.inbox(&mut b, root, |_| Route::Local);
        let steps = exits.into_iter().map(|exit| {
            let NodeKind::Operator(op) = &self.job.plan.nodes[exit.node].kind else { unreachable!("trees are of operators") };
            let Exec::Stateless(make) = &op.exec else { unreachable!("trees are of stateless operators") };
            let place = |n: &usize| nodes.iter().position(|m| m == n).expect("a tree's readers are in the tree");
            let inner = |port| {
                let at = PortRef { node: NodeId(exit.node), port };
                self.job.graph.inner.get(&at).map(|v| v.iter().map(place).collect()).unwrap_or_default()
            };
            Step { operator: make(), next: (0..exit.ports.len()).map(inner).collect(), exit }
        });
        let mut tree = Tree::new(steps.collect(), self.me());
        let again = self.activator(&b);
        b.build(move |caps| {
            outlet.open(caps);
            move |frontiers| tree.turn(&mut inbox, &mut outlet, frontiers, &again)
        });
    }

    fn keyed(&mut self, node: usize, keyed: &Keyed) -> Result<(), Fault> {
        let job = self.job;
        let mut b = self.builder(node);
        let (outlet, mut exits) = self.outlet(&mut b, &[node]);
        let workers = self.hosts(node);
        if let Some((_, index)) = job.graph.inputs[node].iter().find(|(_, i)| *i >= keyed.keys.len()) {
            return Err(Fault::bug(format!("`{}` has no key for its input {index}", job.plan.nodes[node].name)));
        }
        let inbox = self.inbox(&mut b, node, |index| Route::Keyed { key: keyed.keys[index].clone(), workers });
        let retry = (0..keyed.keys.len()).map(|i| {
            let mut from = job.graph.inputs[node].iter().filter(|(_, x)| *x == i).peekable();
            from.peek().is_some() && from.all(|(o, _)| job.graph.retry[o.node.0])
        });
        let ports = &job.plan.nodes[node].ports;
        let waker = self.waker(&b, Arc::default());
        let setup = KeyedSetup {
            askers: (0..keyed.stores.len()).map(|i| self.asker(node, i, &keyed.stores[i], waker.clone())).collect::<Result<_, _>>()?,
            exit: exits.remove(0),
            clock: job.plan.env.clock.clone(),
            by_clock: job.plan.env.time != TimeCharacteristic::EventTime,
            shared: job.shared.clone(),
            retry: retry.collect(),
            ports: ports.iter().filter(|(p, _)| p.name != "errors").map(|(_, e)| e.schema.clone()).collect(),
            saves: job.durable.as_ref().map(|d| Saves {
                generation: d.generation,
                groups: groups(self.me(), workers),
                uploads: d.uploads.clone(),
            }),
            room: job.room.clone(),
            spot: Spot { node, worker: self.me() },
        };
        let mut runner = KeyedRunner::new(keyed, setup);
        if let Some(d) = &job.durable
            && let Some(pieces) = d.restored.operators.get(&job.plan.nodes[node].name)
        {
            // The run is over then, but timely wants the operator that was begun.
            runner.restore(pieces, &d.log, groups(self.me(), workers)).unwrap_or_else(|fault| job.shared.fail(fault));
            millrace_sdk::point::reach("restore-half");
        }
        self.finish(node, b, inbox, outlet, move |inbox, outlet, frontiers| runner.turn(inbox, outlet, frontiers));
        Ok(())
    }

    /// Completes an operator that runs whenever something has arrived, and when it asks for it.
    fn finish<F>(&self, node: usize, b: OperatorBuilder<'s, Ts>, mut inbox: Inbox, mut outlet: Outlet, mut turn: F)
    where
        F: FnMut(&mut Inbox, &mut Outlet, &[MutableAntichain<Ts>]) -> Result<Again, Fault> + 'static,
    {
        let (again, shared, me) = (self.activator(&b), self.job.shared.clone(), self.me());
        b.build(move |caps| {
            outlet.open(caps);
            move |frontiers| {
                let begun = Instant::now();
                let next = turn(&mut inbox, &mut outlet, frontiers);
                shared.meters.worked(node, me, begun);
                schedule(&again, &shared, next);
            }
        });
    }

    fn client(&self, node: usize, i: usize) -> Result<(Arc<Client>, tokio::runtime::Handle), Fault> {
        self.job
            .client(node, i)
            .zip(self.job.runtime.clone())
            .ok_or_else(|| Fault::bug(format!("`{}` uses a store that the plan does not have", self.job.plan.nodes[node].name)))
    }

    fn asker(&self, node: usize, i: usize, used: &StoreUse, waker: Waker) -> Result<Asker, Fault> {
        let (client, runtime) = self.client(node, i)?;
        Ok(Asker::new(client, used.on_error, runtime, waker))
    }

    fn lookup(&mut self, node: usize, exec: &LookupExec) -> Result<(), Fault> {
        let mut b = self.builder(node);
        let (outlet, mut exits) = self.outlet(&mut b, &[node]);
        let inbox = self.inbox(&mut b, node, |_| Route::Local);
        let (client, runtime) = self.client(node, 0)?;
        let waker = self.waker(&b, Arc::default());
        let exit = exits.remove(0);
        let (job, me, workers) = (self.job, self.me(), self.hosts(node));
        let durable = job.durable.as_ref().filter(|_| checkpoint::keeps_state(&job.plan.nodes[node]));
        let saves = durable.map(|d| {
            let saves = Saves { generation: d.generation, groups: groups(me, workers), uploads: d.uploads.clone() };
            (Spot { node, worker: me }, saves)
        });
        let mut runner = LookupRunner::new((exec.make)(), client, runtime, waker, exit, exec.ordered, exec.on_store_error, saves);
        let from = job.plan.nodes[node].inputs.first().map(|i| &job.plan.nodes[i.from.node.0].ports[i.from.port].1.schema);
        if let Some((d, schema)) = durable.zip(from)
            && let Some(pieces) = d.restored.operators.get(&job.plan.nodes[node].name)
        {
            runner.restore(pieces, &d.log, workers, schema, &outlet)?;
        }
        self.finish(node, b, inbox, outlet, move |inbox, outlet, frontiers| runner.turn(inbox, outlet, frontiers));
        Ok(())
    }

    fn sink(&mut self, node: usize, s: &SinkNode) -> Result<(), Fault> {
        let job = self.job;
        let dead_letter = node == job.plan.dead_letter.0;
        let mut b = self.builder(node);
        let dead = if dead_letter { std::mem::take(&mut self.dead) } else { vec![] };
        let (outlet, mut exits) = self.outlet(&mut b, &[node]);
        let workers = if s.factory.single_writer() { 1 } else { self.hosts(node) };
        let route = if workers == self.scope.peers() { Route::Local } else { Route::First { workers } };
        let mut inbox = self.inbox(&mut b, node, |_| route.clone());
        for stream in dead {
            inbox.add(&mut b, stream, self.local(route.clone()), 0, self.me());
        }
        if dead_letter && let Some(own) = self.dead.pop() {
            // All rejects and with them all capabilities lead here, so this frontier is the job's.
            own.probe_with(&self.probe);
        }
        let boxed = job.durable.as_ref().is_some_and(|d| d.boxed.contains(&node));
        let sink = if self.me() < workers {
            let cx = SinkContext {
                worker: self.me(),
                workers,
                clock: job.plan.env.clock.clone(),
                waker: self.waker(&b, Arc::default()),
                env: job.plan.env.clone(),
            };
            Some(if boxed { s.factory.encoder(cx)? } else { s.factory.open(cx)? })
        } else {
            None
        };
        let spot = Spot { node, worker: self.me() };
        let outgoing = job
            .durable
            .as_ref()
            .filter(|d| d.boxed.contains(&node))
            .map(|d| Outgoing::new(spot, d.generation, d.uploads.clone(), job.shared.clone()));
        let mut writer = Writer::new(sink, outgoing, spot, exits.remove(0), dead_letter);
        self.finish(node, b, inbox, outlet, move |inbox, outlet, frontiers| writer.turn(inbox, outlet, frontiers));
        Ok(())
    }
}

/// The key groups of a worker, from (included) to (excluded).
fn groups(worker: usize, workers: usize) -> (u64, u64) {
    let mine = |g: &u64| Key::worker(*g, workers) == worker;
    let first = (0..KEY_GROUPS).find(mine).unwrap_or(KEY_GROUPS);
    (first, (first..KEY_GROUPS).find(|g| !mine(g)).unwrap_or(KEY_GROUPS))
}

/// Asks for the next activation; a fault ends the run.
pub fn schedule(again: &Activator, shared: &Shared, next: Result<Again, Fault>) -> Again {
    match next {
        Ok(Again::Now) => again.activate(),
        Ok(Again::After(d)) => again.activate_after(d),
        Ok(Again::Never) => {}
        Err(fault) => {
            shared.fail(fault);
            return Again::Never;
        }
    }
    next.unwrap_or(Again::Never)
}
