//! The outputs of an operator: its ports, its dead letters, and the capabilities that hold them open.

use crate::control::Shared;
use crate::parcel::Parcel;
use crate::progress::NodeMeter;
use crate::reject::{self, Origins};
use crate::ts::Ts;
use millrace_sdk::{Batch, BatchBuilder, Reject, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pushers::Output;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;

/// The output of every operator that leads to the dead letter.
pub const DEAD_LETTER: usize = 0;
/// Bytes that wait for an operator's readers before it goes on with a batch that it puts out in pieces.
/// Bytes that wait for the readers before the source waits: what is taken up soon is still in the processor's cache, and its memory is
/// used again.
const MAX_UNREAD: usize = 2 << 20;

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Somebody reads it: an output by its index.
    Wired(usize),
    /// Nobody does, and its rows go to the dead letter under the port's name.
    Dead(&'static str),
    /// Nobody does, and its rows are dropped and counted.
    Unread,
}

/// One node's part in an operator's outputs; several fused nodes share one [`Outlet`].
pub struct Exit {
    pub node: usize,
    pub name: String,
    /// By the plan's port index.
    pub ports: Vec<Target>,
    /// The output that takes this node's rejects.
    pub errors: usize,
    /// Ports whose nulls a guard counts: port, field, the guard's index.
    pub watched: Vec<(usize, Slot, usize)>,
}

struct Way {
    output: OutputBuilder<Ts, NoopBuilder<Parcel>>,
    cap: Option<Capability<Ts>>,
    rejects: BatchBuilder,
}

/// Invariant: every output's capability stands at [`Outlet::held`], which is at or below everything that may still be sent; all rows
/// leave at that time. Whoever forgets an output's capability freezes all its readers, so they are kept, moved and given up together.
pub struct Outlet {
    ways: Vec<Way>,
    held: Ts,
    pub shared: Arc<Shared>,
    origins: Arc<Origins>,
    /// Bytes sent that the readers have not yet taken up.
    unread: Arc<AtomicUsize>,
}

impl Outlet {
    pub fn new(outputs: Vec<Output<Ts, Parcel>>, shared: Arc<Shared>, origins: Arc<Origins>) -> Outlet {
        let way = |o| Way { output: OutputBuilder::from(o), cap: None, rejects: BatchBuilder::new(Reject::schema()) };
        Outlet { ways: outputs.into_iter().map(way).collect(), held: Ts::new(0, i64::MIN), shared, origins, unread: Arc::default() }
    }

    /// Takes the capabilities that timely gives when the operator is built, one an output, in order.
    pub fn open(&mut self, caps: Vec<Capability<Ts>>) {
        assert_eq!(caps.len(), self.ways.len(), "one capability an output");
        for (way, cap) in self.ways.iter_mut().zip(caps) {
            way.cap = Some(cap);
        }
    }

    /// The time at which rows leave; `held().wm` is the output watermark.
    #[inline]
    pub fn held(&self) -> Ts {
        self.held
    }

    pub fn is_open(&self) -> bool {
        self.ways.iter().any(|w| w.cap.is_some())
    }

    /// Whether a source, or the rest of an unfinished batch, has to wait for the readers. It does not while an operator holds rows back: what that
    /// one waits for may lie behind this batch.
    pub fn is_full(&self) -> bool {
        self.unread.load(Relaxed) > MAX_UNREAD && !self.shared.is_holding_back()
    }

    fn meter(&self, exit: &Exit) -> &NodeMeter {
        &self.shared.meters.nodes[exit.node]
    }

    /// Counts rows that leave by a port.
    #[inline]
    pub fn count(&self, exit: &Exit, port: usize, rows: usize) {
        if let Some((_, n)) = self.meter(exit).ports.get(port) {
            n.fetch_add(rows as u64, Relaxed);
        }
    }

    /// Sends a batch to a wired output.
    pub fn send(&mut self, output: usize, batch: Batch, born: u64) {
        let way = &mut self.ways[output];
        if batch.is_empty() {
            return;
        }
        if let Some(cap) = &way.cap {
            way.output.activate().session_with_builder(cap).give_container(&mut Parcel::new(batch, born, &self.unread));
        }
    }

    /// Shows a batch that leaves by a port to the guards, and to who taps it.
    #[inline]
    pub fn look(&self, exit: &Exit, port: usize, batch: &Batch) {
        let taps = &self.shared.control.taps;
        if taps.any() {
            taps.show(exit.node, port, batch);
        }
        for (_, slot, guard) in exit.watched.iter().filter(|w| w.0 == port) {
            self.shared.meters.nulls[*guard].look(batch, *slot);
        }
    }

    /// Sends a batch by a node's port, wherever that leads.
    pub fn emit(&mut self, exit: &Exit, port: usize, batch: Batch, born: u64) {
        self.count(exit, port, batch.len());
        self.look(exit, port, &batch);
        self.pass(exit, port, batch, born);
    }

    /// As [`emit`](Self::emit) for rows that are already counted.
    pub fn pass(&mut self, exit: &Exit, port: usize, batch: Batch, born: u64) {
        match exit.ports.get(port).copied().unwrap_or(Target::Unread) {
            Target::Wired(output) => self.send(output, batch, born),
            Target::Unread => self.drop_rows(exit, "unread-port", batch.len() as u64),
            Target::Dead(name) => {
                for row in batch.rows() {
                    let mut r = Reject::row(name, format!("left by `{name}`, which nobody reads"), &row, batch.schema());
                    r.port = name;
                    self.reject(exit, &r, born);
                }
            }
        }
    }

    pub fn drop_rows(&self, exit: &Exit, reason: &str, rows: u64) {
        self.meter(exit).dropped.add(reason, rows);
    }

    /// Takes a rejected record; it leaves at the next [`flush`](Self::flush).
    pub fn reject(&mut self, exit: &Exit, reject: &Reject, born: u64) {
        self.reject_by(exit, &exit.name, reject, born);
    }

    /// As [`reject`](Self::reject), in the name of a part inside the node.
    pub fn reject_by(&mut self, exit: &Exit, part: &str, reject: &Reject, born: u64) {
        self.meter(exit).rejected.add(reject.reason, 1);
        if let Some(last) = self.meter(exit).ports.last().filter(|p| p.0 == "errors" && reject.port == "errors") {
            last.1.fetch_add(1, Relaxed);
        }
        // Who reads `errors` reads what the part rejects; a dead port that nobody reads leads to the dead letter all the same.
        let output = if reject.port == "errors" { exit.errors } else { DEAD_LETTER };
        self.show(exit, part, reject);
        let rows = &mut self.ways[output].rejects;
        reject::push(rows, &self.origins, &self.shared, part, reject.port, reject);
        if rows.is_full() {
            let batch = rows.take();
            self.send(output, batch, born);
        }
    }

    /// Shows a rejected record to who taps the part's `errors`.
    fn show(&self, exit: &Exit, part: &str, reject: &Reject) {
        let Some(port) = exit.ports.len().checked_sub(1).filter(|_| reject.port == "errors") else { return };
        let taps = &self.shared.control.taps;
        if taps.wants(exit.node, port) {
            let mut row = BatchBuilder::new(Reject::schema());
            reject::push(&mut row, &self.origins, &self.shared, part, reject.port, reject);
            taps.show(exit.node, port, &row.finish());
        }
    }

    /// Sends the rejects that were gathered.
    pub fn flush(&mut self, born: u64) {
        for i in 0..self.ways.len() {
            if !self.ways[i].rejects.is_empty() {
                let batch = self.ways[i].rejects.take();
                self.send(i, batch, born);
            }
        }
    }

    /// Moves all capabilities up to `time`; they never go back in either part.
    pub fn downgrade(&mut self, time: Ts) {
        let time = Ts::new(time.epoch.max(self.held.epoch), time.wm.max(self.held.wm));
        if time == self.held {
            return;
        }
        debug_assert!(self.ways.iter().all(|w| w.rejects.is_empty()), "rejects leave before the capability moves");
        self.held = time;
        for cap in self.ways.iter_mut().filter_map(|w| w.cap.as_mut()) {
            cap.downgrade(&time);
        }
    }

    /// Nothing more will be sent.
    pub fn close(&mut self) {
        self.flush(self.shared.micros());
        self.ways.iter_mut().for_each(|w| w.cap = None);
    }
}
