//! `millrace test`, `sample`, `new` and `diff`: the tests of all topologies hold, those that must fail say why, templates lint, test and run.

use super::*;
use std::fs;

/// Nothing of the outside is set: tests need no server.
fn tested(args: &[&str], dir: &Path) -> Output {
    let mut c = millrace();
    c.env_remove("BROKERS").env_remove("HBASE").arg("test").args(args).current_dir(dir).output().expect("runs")
}

#[test]
fn all_topologies_have_tests_that_hold() {
    for dir in fs::read_dir(root().join("topologies")).expect("topologies").map(|e| e.expect("entry").path()) {
        let file = dir.join("topology.yaml");
        let o = tested(&[&file.display().to_string()], root());
        assert!(o.status.success(), "{}", said(&o));
    }
    let o = tested(&["--coverage", "topologies"], root());
    assert!(o.status.success(), "{}", said(&o));
}

/// What tests promise of the clock, of watermarks and of values.
#[test]
fn tests_that_must_hold_do() {
    let o = tested(&["tests/it/holding"], root());
    assert!(o.status.success(), "{}", said(&o));
}

/// `tests/it/golden/NAME.yaml` fails, and says `NAME.txt`; after `--fix` it is `NAME.fixed.yaml`, and holds.
#[test]
fn failures_are_told_and_mended() {
    let folder = root().join("tests/it/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut seen = 0;
    let golden = |file: &str, got: &str| {
        let path = folder.join(file);
        if update {
            fs::write(&path, got).expect("golden file");
        }
        assert_eq!(got, fs::read_to_string(&path).unwrap_or_default(), "{file} (UPDATE_GOLDEN=1 writes it)");
    };
    for path in fs::read_dir(&folder).expect("folder").map(|e| e.expect("entry").path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
        let Some(stem) = name.strip_suffix(".yaml").filter(|s| !s.ends_with(".fixed")) else { continue };
        seen += 1;
        let tmp = tempfile::tempdir().expect("tempdir");
        fs::copy(&path, tmp.path().join(&name)).expect("copied");
        let o = tested(&["--coverage", "--junit", "out.xml", &name], tmp.path());
        assert_eq!(o.status.code(), Some(7), "{}", said(&o));
        golden(&format!("{stem}.txt"), &text(&o.stdout));
        let xml = fs::read_to_string(tmp.path().join("out.xml")).expect("junit");
        assert!(xml.contains("<failure message="), "{xml}");
        let o = tested(&["--fix", &name], tmp.path());
        assert!(o.status.success(), "{}", said(&o));
        golden(&format!("{stem}.fixed.yaml"), &fs::read_to_string(tmp.path().join(&name)).expect("the file"));
    }
    assert!(seen > 0);
}

/// Results of CASE and `if`, sides of blocks: those that no row takes are named.
#[test]
fn branches_of_expressions_and_templates_are_covered() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let text = "\
streams:
  in:
    config:
      source: {type: Stdin}
      operates:
        - {type: StringToMap, config: {format: json, fields: {n: bigint, os: string}}}
        - type: TemplateExtract
          config:
            keep: [n]
            fields:
              plat: \"{{#if (eq os 'ios')}}apple{{else}}other{{/if}}\"
              size: {expr: \"case when n > 10 then 'big' when n > 5 then 'middle' else 'small' end\"}
transforms:
  - {type: Map, config: {set: {odd: \"if(n % 2 = 1, 'odd', 'even')\", kind: \"case size when 'big' then 1 end\"}}}
sink:
  - {type: Null, name: out}
tests:
  - name: one row
    input: {in: ['{\"n\":11,\"os\":\"ios\"}']}
    expect: {out: [{n: 11, plat: apple, size: big, odd: odd, kind: 1}]}
";
    write(tmp.path(), "t.yaml", text);
    let missed = |o: &Output| -> Vec<String> {
        assert!(o.status.success(), "{}", said(o));
        super::text(&o.stdout).lines().filter_map(|l| l.trim().strip_prefix("not reached: branch ")).map(String::from).collect()
    };
    let found = missed(&tested(&["--coverage", "t.yaml"], tmp.path()));
    let words: Vec<&str> = found.iter().map(|l| l.split("` in `").next().unwrap_or_default().trim_start_matches('`')).collect();
    assert_eq!(words.len(), 5, "{found:?}");
    for w in ["when n > 5", "else", "if not n % 2 = 1", "no WHEN fits", "{{else}} of {{#if (eq os 'ios')}}"] {
        assert!(words.contains(&w), "{w}: {found:?}");
    }
    // A row for each way: nothing is missed.
    let more = "  - name: the others
    input: {in: ['{\"n\":8,\"os\":\"android\"}', '{\"n\":2}']}
    expect: {out: {count: 2}}
";
    write(tmp.path(), "t.yaml", &format!("{text}{more}"));
    assert_eq!(missed(&tested(&["--coverage", "t.yaml"], tmp.path())), Vec::<String>::new());
}

#[test]
fn exit_codes_of_tests() {
    let tmp = tempfile::tempdir().expect("tempdir");
    write(
        tmp.path(),
        "a.yaml",
        "streams: {in: {config: {source: {type: Inline, config: {lines: [a]}}}}}\nsink: [{type: Stdout, config: {format: json}}]\n",
    );
    assert_eq!(tested(&["a.yaml"], tmp.path()).status.code(), Some(2));
    write(tmp.path(), "a.tests.yaml", "tests:\n  - {name: one, input: {in: [b]}, expect: {sink_1: [{_value: b}]}}\n");
    let o = tested(&["a.yaml"], tmp.path());
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    assert_eq!(tested(&["--filter", "two", "a.yaml"], tmp.path()).status.code(), Some(2));
    write(tmp.path(), "a.tests.yaml", "tests:\n  - {name: one, input: {inn: [b]}, expect: {sink_1: none}}\n");
    let o = tested(&["a.yaml"], tmp.path());
    assert_eq!(o.status.code(), Some(1), "{}", said(&o));
    assert!(text(&o.stderr).contains("a.tests.yaml:2:25") && text(&o.stderr).contains("did you mean `in`?"), "{}", said(&o));
}

#[test]
fn templates_lint_test_and_run() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path();
    let o = millrace().args(["new", "--list"]).output().expect("runs");
    let names: Vec<String> = text(&o.stdout).lines().filter_map(|l| l.split_whitespace().next().map(String::from)).collect();
    assert!(names.len() >= 5, "{}", said(&o));
    for name in &names {
        let folder = format!("job-{name}");
        let o = millrace().args(["new", &folder, "--from", name]).current_dir(dir).output().expect("runs");
        assert!(o.status.success(), "{name}: {}", said(&o));
        let file = format!("{folder}/topology.yaml");
        let o = millrace().args(["lint", "--style", &file]).env("BROKERS", "127.0.0.1:1").current_dir(dir).output().expect("runs");
        assert!(o.status.success() && !text(&o.stdout).contains("warning["), "{name}: {}", said(&o));
        let o = tested(&[&file], dir);
        assert!(o.status.success(), "{name}: {}", said(&o));
        let kafka = name.contains("kafka");
        let source = "{type: File, config: {path: \"input/*\"}}";
        let sink = "{type: File, name: topic, config: {path: out/topic.jsonl}}";
        let from = if name == "kafka-to-kafka" { "orders" } else { "lines" };
        let local = [
            format!("streams.{from}.config.source={source}"),
            format!("sink.0={sink}"),
            "run_env.restart.type=noRestart".into(),
            "run_env.dead_letter={type: File, config: {path: out/dead.jsonl}}".into(),
        ];
        let set = local.iter().filter(|_| kafka).flat_map(|s| ["--set", s.as_str()]);
        let mut run = millrace();
        let o = run.args(["run", "--quiet", &file]).args(set).env("BROKERS", "127.0.0.1:1").current_dir(dir).output().expect("runs");
        assert!(o.status.success(), "{name}: {}", said(&o));
        let o = millrace().args(["new", &folder, "--from", name]).current_dir(dir).output().expect("runs");
        assert_eq!(o.status.code(), Some(3), "{name} is there: {}", said(&o));
    }
    let o = millrace().args(["new", "x", "--from", "joinn"]).current_dir(dir).output().expect("runs");
    assert!(o.status.code() == Some(2) && text(&o.stderr).contains("did you mean `join`?"), "{}", said(&o));
}

#[test]
fn a_sample_is_a_test_that_holds() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path();
    let o = millrace().args(["new", "wash"]).current_dir(dir).output().expect("runs");
    assert!(o.status.success(), "{}", said(&o));
    let sample = |more: &[&str]| {
        let args = ["sample", "wash/topology.yaml", "--stream", "events", "-n", "3"];
        millrace().args(args).args(more).current_dir(dir).output().expect("runs")
    };
    let o = sample(&[]);
    assert!(o.status.success(), "{}", said(&o));
    assert!(
        text(&o.stdout).starts_with("tests:\n  - name: a sample of events\n") && text(&o.stdout).contains("invalid-json"),
        "{}",
        said(&o)
    );
    for _ in 0..2 {
        let o = sample(&["--write"]);
        assert!(o.status.success(), "{}", said(&o));
    }
    let o = tested(&["--filter", "a sample", "wash/topology.yaml"], dir);
    assert!(o.status.success() && text(&o.stdout).contains("ok   a sample of events 2\n2 tests hold"), "{}", said(&o));
    let o = sample(&["--stream", "event"]);
    assert!(!o.status.success(), "{}", said(&o));
}

const OLD: &str = "\
name: j
run_env: {time_characteristic: EventTime}
streams:
  in:
    config:
      source: {type: Inline, config: {rows: [{k: 1, at: 1000}]}}
      watermark: {field: at, format: epoch_ms}
transforms:
  - {type: Dedup, name: once, config: {keys: [k], within: 1h}}
  - {type: Filter, name: some, config: {where: k > 0}}
sink:
  - {type: Stdout, name: out, config: {format: json}}
";

#[test]
fn differences_and_their_state() {
    let tmp = tempfile::tempdir().expect("tempdir");
    write(tmp.path(), "old.yaml", OLD);
    for (from, to, code, wanted) in [
        ("", "", 0, "nothing has changed"),
        ("k > 0", "k > 1", 0, "~ some\n    config.where: \"k > 0\" -> \"k > 1\""),
        ("within: 1h", "within: 2h", 0, "~ once\n    config.within: \"1h\" -> \"2h\""),
        ("keys: [k]", "keys: [at]", 8, "state of `once` does not survive: it is kept"),
        ("EventTime", "ProcessingTime", 8, "~ the job\n    run_env.time_characteristic"),
        ("name: once", "name: unique", 8, "~ once is called unique now"),
        ("  - {type: Filter, name: some, config: {where: k > 0}}\n", "", 0, "- some  [Filter]\n~ out\n    reads: some -> once"),
        ("name: some,", "name: some, input: in,", 0, "~ some\n    reads: once -> in"),
    ] {
        write(tmp.path(), "new.yaml", &OLD.replacen(from, to, 1));
        let o = millrace().args(["diff", "old.yaml", "new.yaml"]).current_dir(tmp.path()).output().expect("runs");
        assert_eq!(o.status.code(), Some(code), "{to}: {}", said(&o));
        assert!(text(&o.stdout).contains(wanted), "{to}: {}", said(&o));
        let o = millrace().args(["diff", "--json", "old.yaml", "new.yaml"]).current_dir(tmp.path()).output().expect("runs");
        let json: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
        assert_eq!((json["state_survives"].as_bool(), json["same"].as_bool()), (Some(code == 0), Some(from == to)), "{json}");
    }
}
