//! State survives edits of the topology, except those that make it meaningless.

use super::*;

const STREAM: &str = "config: {source: {type: Inline, config: {lines: ['{\"u\":\"a\",\"m\":\"x\",\"t\":1700000000000,\"v\":1}']}}, \
    operates: [{type: StringToMap, config: {format: json, fields: {u: string, m: string, t: bigint, v: bigint}}}], \
    watermark: {field: t, format: epoch_ms, max_out_of_orderness: 1s}}";

fn topology(transforms: &str) -> String {
    format!(
        "name: edited\nrun_env: {{time_characteristic: EventTime, state_dir: state, checkpoint: {{interval: 1h}}}}\nstreams:\n  a: {{{STREAM}}}\n  b: {{{STREAM}}}\n\
         transforms:\n{transforms}sink:\n  - {{type: \"Null\", name: out, input: last, config: {{}}}}\n  - {{type: \"Null\", name: other, input: [a, b], config: {{}}}}\n"
    )
}

const DEDUP: &str = "  - {type: Dedup, name: last, input: a, config: {keys: [u], within: 5s}}\n";
const JOIN: &str = "  - {type: IntervalLeftJoin, name: last, left: a, right: b, config: {keys: [u], lower: -1s, upper: 1s, right_fields: {w: v}, unmatched: emit}}\n";
const WINDOW: &str = "  - {type: KeyBy, name: by, input: a, config: {keys: [u]}}\n  \
    - {type: CountWindowWithTimeOut, name: last, input: by, config: {count: 10, timeout: 3s, aggregates: {n: \"count(*)\", s: sum(v)}}}\n";

/// The transforms, an edit of them, and what the refusal says; empty: the job goes on.
const EDITS: &[(&str, &str, &str, &str)] = &[
    (DEDUP, "within: 5s", "within: 9s", ""),
    (DEDUP, "keys: [u]", "keys: [m]", "`by u string; event time`, and the topology says `by m string; event time`"),
    (DEDUP, "keys: [u]", "keys: [u, m]", "by u string, m string"),
    (DEDUP, "EventTime", "ProcessingTime", "processing time"),
    (DEDUP, "name: last", "name: once", "state of parts that the topology no longer has: `last` (Dedup)"),
    (
        DEDUP,
        "type: Dedup, name: last, input: a, config: {keys: [u], within: 5s}",
        "type: Filter, name: last, input: a, config: {where: v > 0}",
        "no longer has: `last` (Dedup)",
    ),
    (JOIN, "upper: 1s", "upper: 2s", ""),
    (JOIN, "keys: [u]", "keys: [m]", "by m string; by m string"),
    (JOIN, "keys: [u]", "keys: {left: [u], right: [m]}", "by u string; by m string"),
    (JOIN, "right_fields: {w: v}", "right_fields: {w: v, x: m}", "state `right` had other fields"),
    (JOIN, "v: bigint}", "v: double}", "had other fields"),
    (WINDOW, "count: 10", "count: 20", ""),
    (WINDOW, "timeout: 3s", "timeout: 4s", ""),
    (WINDOW, "keys: [u]", "keys: [m]", "by m string"),
    (WINDOW, "s: sum(v)", "s: max(v)", "`window` depends on"),
    (WINDOW, "s: sum(v)", "t: sum(v)", "`window` depends on"),
    (WINDOW, "a: {config", "c: {config", "stream `a`"),
    (WINDOW, "field: t, format", "field: v, format", "event time is v as epoch_ms, and was: event time is t as epoch_ms"),
    (JOIN, "format: epoch_ms", "format: epoch_s", "the times of stream `a`"),
    (WINDOW, "max_out_of_orderness: 1s", "max_out_of_orderness: 2s", ""),
];

#[test]
fn old_state_is_taken_or_refused_with_the_reason() {
    for (i, (before, from, to, want)) in EDITS.iter().enumerate() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let text = topology(before);
        assert!(text.contains(from), "{from}");
        let o = run(&write(tmp.path(), "t.yaml", &text), tmp.path(), &["-q"]);
        assert!(o.status.success(), "{i}: {}", said(&o));
        let mut edited = text.replace(from, to);
        if *to == "name: once" {
            edited = edited.replace("input: last", "input: once");
        }
        if from.starts_with("a: ") {
            edited = edited.replace("input: a,", "input: c,").replace("[a, b]", "[c, b]");
        }
        let file = write(tmp.path(), "t.yaml", &edited);
        let o = run(&file, tmp.path(), &["-q"]);
        let all = text_of(&o);
        match want.is_empty() {
            true => assert!(o.status.success(), "{from} -> {to}: {all}"),
            false => assert!(o.status.code() == Some(1) && all.contains(want), "{from} -> {to}: {all}"),
        }
        if all.contains("no longer has") {
            let o = run(&file, tmp.path(), &["-q", "--allow-dropped-state"]);
            assert!(o.status.success(), "{from} -> {to}: {}", said(&o));
        }
        // A refusal has changed nothing.
        let o = run(&write(tmp.path(), "t.yaml", &text), tmp.path(), &["-q", "--allow-dropped-state"]);
        assert!(o.status.success(), "{from} -> {to} and back: {}", said(&o));
    }
}

fn text_of(o: &Output) -> String {
    text(&o.stderr)
}

/// Of a savepoint another job begins; what was published since is not published again by mistake.
#[test]
fn a_job_goes_on_from_the_checkpoint_of_another() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let from = root().join("tests/fixtures/run-v1");
    let folder = tmp.path().join("old");
    std::fs::create_dir_all(&folder).expect("made");
    let copied = Command::new("cp").arg("-r").arg(from.join("kept")).arg(&folder).status().expect("cp");
    assert!(copied.success());
    let topology = std::fs::read_to_string(from.join("topology.yaml"))
        .expect("there")
        .replace("name: run\n", "name: heir\n")
        .replace("out.jsonl, format: json", "out.jsonl, format: json, on_exists: append");
    let file = write(tmp.path(), "t.yaml", &topology);
    let kept = folder.join("kept/run");
    let mut args = vec!["-q", "--from", kept.to_str().expect("text")];
    // Its output was to go where this job does not write: nobody can say what of it is there.
    let o = run(&file, tmp.path(), &args);
    assert!(o.status.code() == Some(4) && text(&o.stderr).contains("1 chunks with 2 rows"), "{}", said(&o));
    args.push("--accept-duplicates");
    let o = run(&file, tmp.path(), &args);
    assert!(o.status.success(), "{}", said(&o));
    let out = std::fs::read_to_string(tmp.path().join("out.jsonl")).expect("there");
    let mut rows = lines(&out);
    rows.sort_unstable();
    // `a` and `b` were known, and their rows still to be published.
    assert_eq!(rows, ["{\"u\":\"a\"}", "{\"u\":\"b\"}", "{\"u\":\"c\"}", "{\"u\":\"d\"}"], "{}", said(&o));
    let o = millrace().args(["checkpoints", "list", "--json"]).arg(&file).output().expect("runs");
    let listed: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
    let o = run(&file, tmp.path(), &["-q", "--from", &listed[0]["slot"].to_string()]);
    assert!(o.status.code() == Some(1) && text(&o.stderr).contains("would publish again"), "{}", said(&o));
    assert!(text(&o.stderr).contains("`out` 2 rows"), "{}", said(&o));
    let o = run(&file, tmp.path(), &["-q", "--from", "nowhere/at/all"]);
    assert!(o.status.code() == Some(1) && text(&o.stderr).contains("there is no checkpoint at"), "{}", said(&o));
}

/// Two files that take the same rows.
const TWICE: &str = "name: twice
run_env: {checkpoint: {interval: 10s, dir: checkpoints}}
streams:
  rows: {config: {source: {type: Generator, config: {profile: ad_clicks, seed: 5, count: 3000, rate: RATE}}}}
sink:
  - {type: File, name: one, input: rows, config: {path: one.txt, format: text, template: \"{{_value}}\"}}
  - {type: File, name: two, input: rows, config: {path: two.txt, format: text, template: \"{{_value}}\"}}
";

fn rows_of(dir: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// What a checkpoint has and a crash kept from being published is published, or the start is refused: no edit makes it be forgotten.
#[test]
fn no_edit_forgets_output_that_waits() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let whole = TWICE.replace("rate: RATE", "rate: 1000000");
    let file = write(tmp.path(), "t.yaml", &whole);
    let o = millrace()
        .args(["run", "-q", "t.yaml"])
        .env("MILLRACE_POINT", "before-apply:1:kill")
        .current_dir(tmp.path())
        .output()
        .expect("runs");
    assert!(o.status.code().is_none(), "{}", said(&o));
    assert!(rows_of(tmp.path(), "one.txt").is_empty() && rows_of(tmp.path(), "two.txt").is_empty());
    let two = "  - {type: File, name: two, input: rows, config: {path: two.txt, format: text, template: \"{{_value}}\"}}\n";
    for (edited, want) in [
        (whole.replace(two, ""), "output for the sink `two` (File), which the topology no longer has"),
        (whole.replace("name: two", "name: three"), "output for the sink `two` (File)"),
        (whole.replace(two, "  - {type: \"Null\", name: two, input: rows}\n"), "output for the sink `two` (File)"),
        (whole.replace("path: two.txt", "path: /dev/null"), "the sink `two` has output to publish"),
    ] {
        std::fs::write(&file, &edited).expect("written");
        let o = run(&file, tmp.path(), &["-q", "--allow-dropped-state"]);
        assert!(o.status.code() == Some(1) && text_of(&o).contains(want), "{edited}\n{}", said(&o));
        assert!(text_of(&o).contains("3000 rows may not be published"), "{}", said(&o));
    }
    // From now on rows leave at once; those that waited leave first.
    std::fs::write(&file, whole.replace("dir: checkpoints", "dir: checkpoints, mode: at_least_once")).expect("written");
    for _ in 0..2 {
        let o = run(&file, tmp.path(), &["-q"]);
        assert!(o.status.success(), "{}", said(&o));
        for name in ["one.txt", "two.txt"] {
            let mut rows = rows_of(tmp.path(), name);
            assert_eq!(rows.len(), 3000, "{}", said(&o));
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 3000);
        }
    }
}

/// So is taking the checkpoints out of the topology, where they lie in the usual folder.
#[test]
fn a_job_without_checkpoints_any_more_does_not_forget_output_that_waits() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let whole = TWICE.replace("rate: RATE", "rate: 1000000").replace(", dir: checkpoints", "");
    let file = write(tmp.path(), "t.yaml", &whole);
    let killed = millrace().args(["run", "-q", "t.yaml"]).env("MILLRACE_POINT", "before-apply:1:kill").current_dir(tmp.path()).output();
    assert!(killed.expect("runs").status.code().is_none());
    let without = whole.replace("run_env: {checkpoint: {interval: 10s}}\n", "");
    assert_ne!(without, whole);
    std::fs::write(&file, &without).expect("written");
    for args in [&["-q"][..], &["-q", "--dry-run"]] {
        let o = run(&file, tmp.path(), args);
        assert!(o.status.code() == Some(1) && text_of(&o).contains("the topology has no `run_env.checkpoint` any more"), "{}", said(&o));
        assert!(text_of(&o).contains("by sink: `one` 3000, `two` 3000"), "{}", said(&o));
    }
    assert!(rows_of(tmp.path(), "one.txt").is_empty());
    std::fs::write(&file, &whole).expect("written");
    assert!(run(&file, tmp.path(), &["-q"]).status.success());
    // All is published, and nothing of the job is left: it is a new one.
    std::fs::write(&file, without.replace(".txt", ".new")).expect("written");
    let o = run(&file, tmp.path(), &["-q"]);
    assert!(o.status.success() && !text_of(&o).contains("is not used"), "{}", said(&o));
    assert_eq!([rows_of(tmp.path(), "one.txt").len(), rows_of(tmp.path(), "one.new").len()], [3000; 2]);
}

/// A sink can be taken out of a job whose rows never pause: who ends in order has published all.
#[test]
fn a_sink_may_go_once_the_job_was_stopped() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let endless = TWICE.replace(", count: 3000, rate: RATE", ", rate: 2000");
    let file = write(tmp.path(), "t.yaml", &endless);
    let o = run(&file, tmp.path(), &["-q", "--for", "1s"]);
    assert!(o.status.success(), "{}", said(&o));
    let before = rows_of(tmp.path(), "two.txt");
    assert!(!before.is_empty() && before == rows_of(tmp.path(), "one.txt"));
    let (kept, _) = endless.split_once("  - {type: File, name: two").expect("two sinks");
    std::fs::write(&file, kept).expect("written");
    let o = run(&file, tmp.path(), &["-q", "--for", "1s"]);
    assert!(o.status.success(), "{}", said(&o));
    assert!(rows_of(tmp.path(), "one.txt").len() > before.len() && rows_of(tmp.path(), "two.txt") == before);
}
