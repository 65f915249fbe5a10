//! Stateless operators: a tree of them runs as one.

use crate::inbox::Inbox;
use crate::outlet::{Exit, Outlet, Target};
use crate::ts::Ts;
use millrace_sdk::{Batch, Operator, Outputs};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

/// An operator that has run this long gives the others a turn.
pub const TURN: Duration = Duration::from_millis(10);

/// A fused node and the steps inside the tree that read its ports.
pub struct Step {
    pub operator: Box<dyn Operator>,
    pub exit: Exit,
    pub next: Vec<Vec<usize>>,
}

/// Stateless nodes fused into one operator; step 0 is fed from outside.
pub struct Tree {
    pub steps: Vec<Step>,
}

impl Tree {
    /// Takes a batch through step `at` and all that lies behind it.
    pub fn run(&mut self, at: usize, batch: Batch, born: u64, outlet: &mut Outlet) {
        let step = &mut self.steps[at];
        outlet.shared.meters.nodes[step.exit.node].inputs[0].fetch_add(batch.len() as u64, Relaxed);
        let mut out = Outputs::default();
        step.operator.process(batch, &mut out);
        for (reason, rows) in out.dropped {
            outlet.drop_rows(&step.exit, reason, rows);
        }
        for r in &out.rejects {
            outlet.reject(&step.exit, r, born);
        }
        for (port, batch) in out.batches {
            let step = &self.steps[at];
            outlet.count(&step.exit, port, batch.len());
            let inner = step.next.get(port).cloned().unwrap_or_default();
            let Some((&last, others)) = inner.split_last() else {
                outlet.pass(&self.steps[at].exit, port, batch, born);
                continue;
            };
            if let Some(Target::Wired(output)) = step.exit.ports.get(port) {
                outlet.send(*output, batch.clone(), born);
            }
            for &i in others {
                self.run(i, batch.clone(), born, outlet);
            }
            self.run(last, batch, born, outlet);
        }
    }

    /// One activation.
    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>], again: &Activator) {
        inbox.pull();
        let begun = Instant::now();
        let mut born = 0;
        while let Some(a) = inbox.stash.pop_front() {
            born = a.parcel.born;
            if let Some(batch) = a.parcel.batch {
                self.run(0, batch, born, outlet);
            }
            if begun.elapsed() > TURN {
                again.activate();
                break;
            }
        }
        outlet.flush(born);
        match inbox.time(frontiers, |_| true) {
            Some(t) => outlet.downgrade(t),
            None => outlet.close(),
        }
    }
}
