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
