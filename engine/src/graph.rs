//! What the plan's wiring means for the dataflow: who reads whom, past nodes that only pass rows, and which nodes run as one.

use millrace_plan::plan::{NodeKind, Plan, PortRef};
use millrace_sdk::Exec;
use std::collections::{HashMap, HashSet};

/// The wiring, the same on every worker.
pub struct Graph {
    /// Ports that an operator of the dataflow reads from outside their own operator.
    pub wired: HashSet<PortRef>,
    /// By node: its inputs as (port read, input index), past nodes that only pass rows.
    pub inputs: Vec<Vec<(PortRef, usize)>>,
    /// By node: the stateless tree it runs in, named by its root.
    pub root: Vec<usize>,
    /// By (node, port): the nodes of the same tree that read it.
    pub inner: HashMap<PortRef, Vec<usize>>,
    /// By node: whether all its rows come from retry streams.
    pub retry: Vec<bool>,
}

impl Graph {
    pub fn new(plan: &Plan) -> Graph {
        let n = plan.nodes.len();
        let mut g =
            Graph { wired: HashSet::new(), inputs: vec![vec![]; n], root: (0..n).collect(), inner: HashMap::new(), retry: vec![false; n] };
        let stateless = |i: usize| matches!(&plan.nodes[i].kind, NodeKind::Operator(o) if matches!(o.exec, Exec::Stateless(_)));
        for (i, node) in plan.nodes.iter().enumerate() {
            for input in &node.inputs {
                let origins = match is_pass(plan, input.from.node.0) {
                    true => g.inputs[input.from.node.0].iter().map(|o| o.0).collect(),
                    false => vec![input.from],
                };
                g.inputs[i].extend(origins.into_iter().map(|o| (o, input.index)));
            }
            g.retry[i] = match &node.kind {
                NodeKind::Source(s) => s.retry,
                _ => !g.inputs[i].is_empty() && g.inputs[i].iter().all(|(o, _)| g.retry[o.node.0]),
            };
            if is_pass(plan, i) {
                continue;
            }
            if let ([(from, _)], true) = (&g.inputs[i][..], stateless(i)) {
                let errors = from.port + 1 == plan.nodes[from.node.0].ports.len();
                if stateless(from.node.0) && !errors {
                    g.root[i] = g.root[from.node.0];
                    g.inner.entry(*from).or_default().push(i);
                    continue;
                }
            }
            g.wired.extend(g.inputs[i].iter().map(|(o, _)| *o));
        }
        g
    }

    /// The nodes that run in the tree of `root`, in topological order.
    pub fn tree(&self, root: usize) -> Vec<usize> {
        (root..self.root.len()).filter(|&i| self.root[i] == root).collect()
    }
}

/// Whether a node costs nothing: its readers read what it reads.
pub fn is_pass(plan: &Plan, node: usize) -> bool {
    matches!(&plan.nodes[node].kind, NodeKind::Operator(o) if matches!(o.exec, Exec::Pass))
}
