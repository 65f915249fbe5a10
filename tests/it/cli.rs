//! Subcommands, exit codes, summary.

use super::*;
use serde_json::Value;

const COUNTED: &str = r#"
name: counted
streams:
  in:
    config:
      source: {type: Inline, config: {lines: ['{"a":1}', '{"a":2}', 'not json', '{"a":3}']}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {a: bigint}}}
transforms:
  - {type: Filter, name: odd, config: {where: a % 2 = 1}}
sink:
  - {type: Stdout, name: out, config: {format: json}}
"#;

#[test]
fn summary_counts_every_record() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = write(tmp.path(), "t.yaml", COUNTED);
    let o = run(&file, tmp.path(), &["--summary", "s.json"]);
    assert!(o.status.success(), "{}", said(&o));
    assert_eq!(text(&o.stdout), "{\"a\":1}\n{\"a\":3}\n");
    let s: Value = serde_json::from_slice(&std::fs::read(tmp.path().join("s.json")).expect("summary")).expect("JSON");
    assert_eq!(s["exit_code"], 0);
    assert_eq!(s["lost"], 0);
    let part = |name: &str| {
        s["parts"].as_array().expect("parts").iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("no part {name} in {s}")).clone()
    };
    assert_eq!(part("in")["in"], 4);
    assert_eq!(part("odd")["in"], 3);
    assert_eq!(part("odd")["dropped"]["filtered"], 1);
    assert_eq!(part("out")["in"], 2);
    let rejected: u64 = s["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .flat_map(|p| p["rejected"].as_object().into_iter().flatten())
        .filter_map(|(_, n)| n.as_u64())
        .sum();
    assert_eq!(rejected, 1, "{s}");
    let dead = std::fs::read_to_string(tmp.path().join("state/dead-letter/counted.jsonl"))
        .or_else(|_| std::fs::read_to_string(tmp.path().join("dead-letter/counted.jsonl")));
    let dead: Value = serde_json::from_str(dead.expect("dead letters are in the state folder").trim()).expect("one row");
    assert_eq!(dead["body"], "not json");
    assert_eq!(dead["offset"], 2);
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let code = |text: &str| run(&write(tmp.path(), "t.yaml", text), tmp.path(), &[]).status.code();
    assert_eq!(code(COUNTED), Some(0));
    assert_eq!(code(&COUNTED.replace("where:", "were:")), Some(1));
    assert_eq!(
        code(&COUNTED.replace(
            "type: Inline, config: {lines: ['{\"a\":1}', '{\"a\":2}', 'not json', '{\"a\":3}']}",
            "type: File, config: {path: nowhere.jsonl}"
        )),
        Some(3)
    );
    let unsafe_dead = "name: counted\nrun_env: {dead_letter: {type: Embedded, config: {path: dead, key: '{{hex_decode body}}'}}}";
    let o = run(&write(tmp.path(), "t.yaml", &COUNTED.replace("name: counted", unsafe_dead)), tmp.path(), &["--summary", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(tmp.path().join("s.json")).expect("summary")).expect("JSON");
    assert_eq!((o.status.code(), &summary["lost"], &summary["exit_code"]), (Some(5), &1.into(), &5.into()), "{}", said(&o));
    assert_eq!(millrace().arg("jump").output().expect("runs").status.code(), Some(2));
    assert_eq!(millrace().args(["run", "no-such-file.yaml"]).output().expect("runs").status.code(), Some(1));
}

#[test]
fn a_typo_is_found_where_it_is() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = write(tmp.path(), "t.yaml", &COUNTED.replace("where: a % 2", "where: aa % 2"));
    for command in ["lint", "run"] {
        let o = millrace().arg(command).arg(&file).current_dir(tmp.path()).output().expect("runs");
        assert_eq!(o.status.code(), Some(1), "{}", said(&o));
        let all = text(&o.stdout) + &text(&o.stderr);
        assert!(all.contains("unknown-field") && all.contains("t.yaml:10:47") && all.contains("did you mean `a`"), "{command}: {all}");
    }
}

#[test]
fn dry_run_reads_and_writes_nothing() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let o = run(&write(tmp.path(), "t.yaml", COUNTED), tmp.path(), &["--dry-run"]);
    assert!(o.status.success(), "{}", said(&o));
    assert!(o.stdout.is_empty() || !text(&o.stdout).contains("{\"a\""), "{}", said(&o));
}

#[test]
fn values_come_from_outside() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = write(tmp.path(), "t.yaml", &COUNTED.replace("a % 2 = 1", "\"a % ${N:-2} = 1\""));
    assert_eq!(lines(&text(&run(&file, tmp.path(), &["--set", "N=3"]).stdout)), ["{\"a\":1}"]);
    assert_eq!(lines(&text(&run(&file, tmp.path(), &["--set", "transforms.0.config.where=a > 1"]).stdout)), ["{\"a\":2}", "{\"a\":3}"]);
}

#[test]
fn completions_man_graph_and_schema_print() {
    for args in [&["completions", "bash"][..], &["man"], &["schema"], &["list", "--json"]] {
        let o = millrace().args(args).output().expect("runs");
        assert!(o.status.success() && o.stdout.len() > 200, "{args:?}: {}", said(&o));
    }
    let quickstart = root().join("topologies/quickstart/topology.yaml");
    for format in ["terminal", "svg", "mermaid", "dot"] {
        let o = millrace().args(["graph", "--format", format]).arg(&quickstart).output().expect("runs");
        assert!(o.status.success() && text(&o.stdout).contains("joined"), "{}", said(&o));
    }
}

/// Of every topology, boxes and labels lie beside each other.
#[test]
fn drawings_do_not_overlap() {
    for dir in std::fs::read_dir(root().join("topologies")).expect("topologies").map(|e| e.expect("an entry").path()) {
        let picture = millrace_plan::load(&dir.join("topology.yaml"), &millrace_plan::Options::default()).graph;
        let layout = picture.layout();
        let all: Vec<_> = layout.boxes.iter().chain(layout.labels.iter().flatten()).collect();
        assert!(picture.parts.len() >= 2 && layout.boxes.len() == picture.parts.len());
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| !a.overlaps(b)), "{}: {a:?}", dir.display());
        }
    }
}
