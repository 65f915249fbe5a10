mod parts;

use crate::plan::{NodeKind, Plan};
use crate::{Options, Planned, diagnostic, load_text};
use millrace_operators as _;
use std::path::Path;

fn plan_with(text: &str, set: &[(&str, &str)]) -> Planned {
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    load_text("job.yaml", text, Path::new("."), &Options { set, ..Options::default() })
}

/// What lint says, one line each, without the file's name.
fn lint(text: &str) -> String {
    diagnostic::concise(&plan_with(text, &[]).diagnostics).replace("job.yaml:", "")
}

fn plan(text: &str) -> Plan {
    let planned = plan_with(text, &[]);
    planned.plan.unwrap_or_else(|| panic!("{}", diagnostic::full(&planned.diagnostics, false)))
}

#[test]
fn a_simple_topology_becomes_a_plan() {
    let plan = plan(
        "
name: simple
run_env: {parallelism: 3}
streams:
  in:
    config:
      source: {type: Feed011, config: {fields: {a: bigint, b: string}}}
      operates:
        - {type: Filter, config: {where: a > 1}}
        - {type: Map, config: {set: {c: a + 1}}}
transforms:
  - {type: KeyBy, config: {keys: [b]}}
  - {type: SplitStream, config: {ports: {big: c > 10}}}
  - {type: SelectStream, config: {port: big}}
sink:
  - {type: Out}
  - {type: Null, input: split_stream.rest}
",
    );
    let names: Vec<(&str, &str)> = plan.nodes.iter().map(|n| (n.name.as_str(), n.part)).collect();
    assert_eq!(
        names,
        [
            ("in", "Feed"),
            ("key_by", "KeyBy"),
            ("split_stream", "SplitStream"),
            ("select_stream", "SelectStream"),
            ("sink_1", "Out"),
            ("sink_2", "Null"),
            ("dead_letter", "File")
        ]
    );
    assert_eq!((plan.parallelism, plan.dead_letter.0, plan.env.job.as_str()), (3, 6, "simple"));
    let NodeKind::Source(source) = &plan.nodes[0].kind else { panic!() };
    assert_eq!(source.operates.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["in/filter", "in/map"]);
    for node in &plan.nodes[..4] {
        assert_eq!(node.ports.last().map(|(p, _)| p.name.as_str()), Some("errors"));
    }
    let from: Vec<(usize, usize)> = plan.nodes.iter().flat_map(|n| n.inputs.iter().map(|i| (i.from.node.0, i.from.port))).collect();
    assert_eq!(from, [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1)]);
}
