//! `millrace checkpoints` on what an earlier release wrote (`durable/tests/fixture.rs` says what that is).

use super::*;
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a temporary folder");
    for entry in std::fs::read_dir(from).expect("the fixture").map(|e| e.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { std::fs::copy(entry.path(), to).map(drop).expect("copied") }
    }
}

/// A copy of the fixture, and the folder of its instance.
fn fixture() -> (tempfile::TempDir, PathBuf) {
    let tmp = tempfile::tempdir().expect("tempdir");
    copy(&root().join("tests/fixtures/checkpoint-v1"), tmp.path());
    let mut folders = std::fs::read_dir(tmp.path().join("fixture")).expect("the job").map(|e| e.expect("an entry").path());
    let instance = folders.find(|f| f.join("slots").is_dir()).expect("an instance");
    (tmp, instance)
}

fn on(dir: &Path, args: &[&str]) -> Output {
    millrace().arg("checkpoints").args(args).args(["--job", "fixture", "--dir"]).arg(dir).output().expect("runs")
}

fn as_json(dir: &Path, args: &[&str]) -> Value {
    let o = on(dir, &[args, &["--json"]].concat());
    serde_json::from_slice(&o.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&o)))
}

#[test]
fn list_names_them_in_order() {
    let (tmp, _) = fixture();
    let o = on(tmp.path(), &["list"]);
    assert!(o.status.success(), "{}", said(&o));
    let out = text(&o.stdout);
    let words: Vec<Vec<&str>> = lines(&out).iter().map(|l| l.split_whitespace().collect()).collect();
    let kinds: Vec<(&str, &str)> = words[1..6].iter().map(|w| (w[0], w[1])).collect();
    assert_eq!(kinds, [("2", "periodic"), ("3", "savepoint"), ("4", "drained"), ("6", "stop"), ("7", "finished")]);
    assert_eq!(words[1][2], "2025-10-09T08:53:40Z");
    assert!(
        out.contains("1 chunks to apply") && out.contains("5 checkpoints of job `fixture`") && out.contains("newest generation 5"),
        "{out}"
    );
    let rows = as_json(tmp.path(), &["list"]);
    assert_eq!((rows[0]["slot"].as_u64(), rows[0]["bytes"].as_u64(), rows[0]["workers"].as_u64()), (Some(2), Some(41), Some(2)));
    assert_eq!(
        (rows[4]["kind"].as_str(), rows[4]["generation"].as_u64(), rows[4]["pending_chunks"].as_u64()),
        (Some("finished"), Some(5), Some(1))
    );
    assert!(rows[0]["age_seconds"].as_i64() > Some(0));
}

#[test]
fn the_latest_is_the_one_that_a_start_goes_on_from() {
    let (tmp, _) = fixture();
    assert_eq!(as_json(tmp.path(), &["inspect", "latest"]), as_json(tmp.path(), &["inspect", "7"]));
    let o = on(tmp.path(), &["verify", "--slot", "latest"]);
    assert!(o.status.success(), "{}", said(&o));
    let o = on(tmp.path(), &["inspect", "newest"]);
    assert!(o.status.code() == Some(2) && text(&o.stderr).contains("`latest`"), "{}", said(&o));
}

#[test]
fn inspect_says_what_one_holds() {
    let (tmp, _) = fixture();
    let o = on(tmp.path(), &["inspect", "6"]);
    assert!(o.status.success(), "{}", said(&o));
    let out = text(&o.stdout);
    for part in [
        "checkpoint 6 of job `fixture`: stop, format 1, by Millrace 0.1.0",
        "generation 5, 2 workers, configuration 0123456789abcdef",
        "t-0: position 1234, newest event 2025-10-09T08:53:19Z",
        "t-1: position 0x0009, no event yet, ended",
        "count (CountWindow): 6 keys in 2 pieces",
        "state open (value, version 2): user: string, n: bigint",
        "key groups 512 to 1024: 3 keys",
        "0: applied to chunk 2.1; 1 chunks to apply (6.1 to 6.1), 20 rows, 19 B",
        "1: nothing applied; nothing to apply",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    let m = as_json(tmp.path(), &["inspect", "6"]);
    assert_eq!((m["kind"].as_str(), m["operators"][0]["pieces"].as_array().map(Vec::len)), (Some("stop"), Some(2)));
    assert!(text(&on(tmp.path(), &["inspect", "5"]).stdout).contains("a start from checkpoint 4"));
    let o = on(tmp.path(), &["inspect", "99"]);
    assert_eq!(o.status.code(), Some(4), "{}", said(&o));
    assert!(text(&o.stderr).contains("no checkpoint in slot 99"), "{}", said(&o));
}

#[test]
fn verify_finds_what_is_missing_or_damaged() {
    let (tmp, instance) = fixture();
    let o = on(tmp.path(), &["verify"]);
    assert!(o.status.success() && text(&o.stdout).contains("5 of 5 checkpoints are whole"), "{}", said(&o));
    std::fs::write(instance.join("files/g1-a1-n2-w0-state"), "the state of worker 1").expect("written");
    std::fs::remove_file(instance.join("files/g5-n3-w0-out-1")).expect("removed");
    let manifest = instance.join("slots/00000004");
    let bytes = std::fs::read(&manifest).expect("a manifest");
    std::fs::write(manifest, &bytes[..bytes.len() - 20]).expect("written");
    let o = on(tmp.path(), &["verify"]);
    assert_eq!(o.status.code(), Some(4), "{}", said(&o));
    let out = text(&o.stdout);
    assert!(
        out.contains("0 of 5 checkpoints are whole") && out.contains("out-1 is missing") && out.contains("w0-state is damaged"),
        "{out}"
    );
    assert!(out.contains("slots/00000004 is damaged"), "{out}");
    let rows = as_json(tmp.path(), &["verify", "--slot", "2"]);
    assert_eq!((rows.as_array().map(Vec::len), rows[0]["whole"].as_bool()), (Some(1), Some(false)));
    assert!(text(&on(tmp.path(), &["list"]).stdout).contains("damaged"));
}

#[test]
fn prune_keeps_what_is_asked_and_savepoints() {
    let (tmp, instance) = fixture();
    assert_eq!(as_json(tmp.path(), &["prune", "1"])["left"], 3);
    let slots: Vec<u64> = as_json(tmp.path(), &["list"]).as_array().expect("rows").iter().filter_map(|r| r["slot"].as_u64()).collect();
    assert_eq!(slots, [3, 6, 7], "the savepoint; the one with a chunk to apply; the newest");
    assert!(on(tmp.path(), &["verify"]).status.success());
    assert!(instance.join("files/g1-n3-w0-out-0").exists());
    assert_eq!(on(tmp.path(), &["prune", "0"]).status.code(), Some(2));
}

#[test]
fn what_is_not_there_is_said() {
    let (tmp, _) = fixture();
    let o = millrace().args(["checkpoints", "list", "--job", "other", "--dir"]).arg(tmp.path()).output().expect("runs");
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(text(&o.stderr).contains("job `other` has no checkpoints") && text(&o.stderr).contains("these have: fixture"), "{}", said(&o));
    let o = on(&tmp.path().join("nowhere"), &["list"]);
    assert!(
        o.status.code() == Some(3) && text(&o.stderr).contains("there is no folder") && !tmp.path().join("nowhere").exists(),
        "{}",
        said(&o)
    );
    assert_eq!(millrace().args(["checkpoints", "list"]).output().expect("runs").status.code(), Some(2));
    let file =
        write(tmp.path(), "t.yaml", "streams: {in: {config: {source: {type: Stdin}}}}\nsink: [{type: Stdout, config: {format: json}}]\n");
    let o = millrace().args(["checkpoints", "list"]).arg(&file).output().expect("runs");
    assert!(o.status.code() == Some(1) && text(&o.stderr).contains("takes no checkpoints"), "{}", said(&o));
}

/// Manifest, state and outbox as release 0.1.0 wrote them, two rows still to publish.
#[test]
fn a_run_goes_on_from_what_format_1_holds() {
    let tmp = tempfile::tempdir().expect("tempdir");
    copy(&root().join("tests/fixtures/run-v1"), tmp.path());
    assert_eq!(std::fs::read(tmp.path().join("out.jsonl")).expect("there"), b"");
    for workers in ["2", "1"] {
        let o = run(&tmp.path().join("topology.yaml"), tmp.path(), &["--workers", workers]);
        assert!(o.status.success(), "{}", said(&o));
        let out = std::fs::read_to_string(tmp.path().join("out.jsonl")).expect("there");
        let mut rows = lines(&out);
        rows.sort_unstable();
        assert_eq!(rows, ["{\"u\":\"a\"}", "{\"u\":\"b\"}", "{\"u\":\"c\"}", "{\"u\":\"d\"}"], "{}", said(&o));
    }
    let o = millrace().args(["checkpoints", "verify"]).arg(tmp.path().join("topology.yaml")).output().expect("runs");
    assert!(o.status.success(), "{}", said(&o));
}

#[test]
fn a_topology_names_its_checkpoints() {
    let (tmp, _) = fixture();
    let topology = "name: fixture\nrun_env: {checkpoint: {dir: .}}\nstreams: {in: {config: {source: {type: Stdin}}}}\nsink: [{type: Stdout, config: {format: json}}]\n";
    let file = write(tmp.path(), "t.yaml", topology);
    let o = millrace().args(["checkpoints", "list"]).arg(&file).output().expect("runs");
    assert!(o.status.success() && text(&o.stdout).contains("5 checkpoints of job `fixture`"), "{}", said(&o));
}

#[test]
fn a_log_that_lost_its_newest_checkpoint_publishes_nothing_again() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let text = "name: t
run_env: {checkpoint: {dir: checkpoints, interval: 10s, retained: 9}}
streams:
  rows: {config: {source: {type: Generator, config: {profile: ad_clicks, seed: 3, count: 2000, partitions: 2}}}}
sink:
  - {type: File, name: out, config: {path: \"out-{worker}.txt\", format: text, template: \"{{_value}}\"}}
";
    let file = write(tmp.path(), "t.yaml", text);
    let start =
        |options: &[&str]| millrace().arg("run").arg(&file).args(["--quiet", "--workers", "2"]).args(options).output().expect("runs");
    let first = start(&[]);
    assert!(first.status.success(), "{}", said(&first));
    let published = || std::fs::read(tmp.path().join("out-0.txt")).expect("rows");
    let rows = published();
    let instance = std::fs::read_dir(tmp.path().join("checkpoints/t")).expect("a job").map(|e| e.expect("an entry").path());
    let slots = instance.into_iter().find(|p| !p.ends_with("instances")).expect("an instance").join("slots");
    let newest = std::fs::read_dir(&slots).expect("slots").map(|e| e.expect("an entry").path()).max().expect("a checkpoint");
    let lost = std::fs::read(&newest).expect("bytes");
    std::fs::remove_file(&newest).expect("removed");
    // The first refusal takes the number that is free, and hides nothing from the second.
    for _ in 0..3 {
        let o = start(&[]);
        assert_eq!(o.status.code(), Some(4), "{}", said(&o));
        assert!(super::text(&o.stderr).contains("`out` has output of checkpoint 2, which is missing"), "{}", said(&o));
        assert_eq!(published(), rows);
    }
    for taken in std::fs::read_dir(&slots).expect("slots").map(|e| e.expect("an entry").path()).filter(|p| *p >= newest) {
        std::fs::remove_file(taken).expect("removed");
    }
    std::fs::write(&newest, lost).expect("brought back");
    let o = start(&[]);
    assert!(o.status.success() && published() == rows, "{}", said(&o));
}
