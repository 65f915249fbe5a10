//! Stateless operators: a tree of them runs as one.

use crate::inbox::Inbox;
use crate::outlet::{Exit, Outlet, Target};
use crate::progress::Blocked;
use crate::ts::Ts;
use millrace_sdk::{Batch, Operator, Outputs};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

/// An operator that has run this long gives the others a turn: a row at another one waits no longer than that for each.
pub const TURN: Duration = Duration::from_millis(2);
/// Between two looks whether the readers have taken enough.
pub const PAUSE: Duration = Duration::from_millis(1);

/// A fused node and the steps inside the tree that read its ports.
pub struct Step {
    pub operator: Box<dyn Operator>,
    pub exit: Exit,
    pub next: Vec<Vec<usize>>,
}

/// What is still to be done with a batch in a chain or tree of stateless steps, innermost last.
pub enum Todo {
    /// Step, and its batch.
    Run(usize, Batch),
    /// The step has more to say of its batch. All that it said before has gone through the steps behind it.
    Resume(usize),
}

impl Todo {
    pub fn step(&self) -> usize {
        match self {
            Todo::Run(at, _) | Todo::Resume(at) => *at,
        }
    }

    pub fn apply(self, operator: &mut dyn Operator) -> Outputs {
        let mut out = Outputs::default();
        match self {
            Todo::Run(_, batch) => operator.process(batch, &mut out),
            Todo::Resume(_) => operator.resume(&mut out),
        }
        out
    }
}

/// Stateless nodes fused into one operator; step 0 is fed from outside.
pub struct Tree {
    steps: Vec<Step>,
    todo: Vec<Todo>,
    /// Time and birth of the batch at hand.
    at: Option<(Ts, u64)>,
    worker: usize,
    blocked: Blocked,
}

impl Tree {
    pub fn new(steps: Vec<Step>, worker: usize) -> Tree {
        Tree { steps, todo: vec![], at: None, worker, blocked: Blocked::default() }
    }

    /// Does one thing that is to be done.
    fn step(&mut self, todo: Todo, born: u64, outlet: &mut Outlet) {
        let at = todo.step();
        let Step { operator, exit, next } = &mut self.steps[at];
        if let Todo::Run(_, batch) = &todo {
            outlet.shared.meters.nodes[exit.node].inputs[0].fetch_add(batch.len() as u64, Relaxed);
        }
        let begun = Instant::now();
        let out = todo.apply(&mut **operator);
        outlet.shared.meters.worked(exit.node, self.worker, begun);
        for (reason, rows) in out.dropped {
            outlet.drop_rows(exit, reason, rows);
        }
        for r in &out.rejects {
            outlet.reject(exit, r, born);
        }
        if out.unfinished {
            self.todo.push(Todo::Resume(at));
        }
        let begun = self.todo.len();
        for (port, batch) in out.batches {
            outlet.count(exit, port, batch.len());
            outlet.look(exit, port, &batch);
            let Some((&last, others)) = next.get(port).and_then(|inner| inner.split_last()) else {
                outlet.pass(exit, port, batch, born);
                continue;
            };
            if let Some(Target::Wired(output)) = exit.ports.get(port) {
                outlet.send(*output, batch.clone(), born);
            }
            self.todo.extend(others.iter().map(|&i| Todo::Run(i, batch.clone())));
            self.todo.push(Todo::Run(last, batch));
        }
        // The last one is done first.
        self.todo[begun..].reverse();
    }

    /// One activation.
    pub fn turn(&mut self, inbox: &mut Inbox, outlet: &mut Outlet, frontiers: &[MutableAntichain<Ts>], again: &Activator) {
        inbox.pull();
        let begun = Instant::now();
        let mut born = 0;
        loop {
            if self.todo.is_empty() {
                let Some(a) = inbox.pop() else { break };
                self.at = Some((a.time, a.parcel.born));
                self.todo.extend(a.parcel.batch.map(|b| Todo::Run(0, b)));
            }
            born = self.at.map_or(0, |at| at.1);
            while let Some(todo) = self.todo.pop_if(|t| matches!(t, Todo::Run(..)) || !outlet.is_full()) {
                self.step(todo, born, outlet);
            }
            if !self.todo.is_empty() {
                again.activate_after(PAUSE);
                break;
            }
            self.at = None;
            if begun.elapsed() > TURN {
                again.activate();
                break;
            }
        }
        let node = self.steps[0].exit.node;
        self.blocked.now(!self.todo.is_empty(), &outlet.shared.meters, node, self.worker);
        outlet.flush(born);
        while self.at.is_none() && inbox.boundary(frontiers).is_some() {
            inbox.close();
            again.activate();
        }
        match inbox.time(frontiers, |_| true).into_iter().chain(self.at.map(|at| at.0)).reduce(Ts::meet) {
            Some(t) => outlet.downgrade(t),
            None => outlet.close(),
        }
    }
}
