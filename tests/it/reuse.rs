//! Fragments, defaults and included files in jobs that run; and what `lint --connect` says of servers that are not there.

use super::*;

const SHARED: &str = "
fragments:
  wash:
    parameters:
      least: {type: bigint, default: 1}
    transforms:
      - {type: StringToMap, config: {format: json, fields: {a: bigint, k: string}}}
      - {type: Filter, config: {where: \"a >= ${least}\"}}
  once:
    parameters: {keys: {type: array}}
    transforms:
      - {type: Filter, config: {where: a > 0}}
      - {type: Dedup, config: {keys: \"${keys}\"}}
";

const JOB: &str = "
name: reuse
include: shared/parts.yaml
run_env: {state_dir: state, checkpoint: {interval: 1h}}
defaults: {Stdout: {format: json}, Dedup: {within: 1h}}
streams:
  in:
    config:
      source: {type: Inline, config: {lines: ['{\"a\":1,\"k\":\"x\"}', '{\"a\":2,\"k\":\"x\"}', '{\"a\":3,\"k\":\"y\"}', '{\"a\":4,\"k\":\"x\"}']}}
      operates: [{fragment: wash, with: {least: 2}}]
transforms:
  - {fragment: once, name: first, input: in, with: {keys: [k]}}
sink:
  - {type: Stdout, input: first}
";

fn job(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir.join("shared")).expect("a folder");
    write(&dir.join("shared"), "parts.yaml", SHARED);
    write(dir, "job.yaml", JOB)
}

#[test]
fn a_job_of_fragments_runs_and_its_state_stays() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = job(tmp.path());
    let o = run(&file, tmp.path(), &["-q"]);
    assert_eq!(lines(&text(&o.stdout)), ["{\"a\":2,\"k\":\"x\"}", "{\"a\":3,\"k\":\"y\"}"], "{}", said(&o));
    // A use of the same fragment more, before it: the state is still that of `first`.
    let more = JOB.replace(
        "  - {fragment: once, name: first",
        "  - {fragment: once, name: before, input: in, with: {keys: [k]}}\n  - {fragment: once, name: first",
    );
    let more = more.replace("input: first}", "input: [first, before]}");
    let o = run(&write(tmp.path(), "job.yaml", &more), tmp.path(), &["-q"]);
    assert!(o.status.success(), "{}", said(&o));
    // Without the name that it is known by, the state has no owner.
    let other = JOB.replace("name: first", "name: other").replace("input: first", "input: other");
    let o = run(&write(tmp.path(), "job.yaml", &other), tmp.path(), &["-q"]);
    assert!(o.status.code() == Some(1) && text(&o.stderr).contains("`first` (Dedup)"), "{}", said(&o));
}

#[test]
fn files_outside_the_folder_need_a_word() {
    let tmp = tempfile::tempdir().expect("tempdir");
    job(tmp.path());
    let inner = tmp.path().join("jobs");
    std::fs::create_dir(&inner).expect("a folder");
    let file = write(&inner, "job.yaml", &JOB.replace("shared/", "../shared/"));
    let lint = |args: &[&str]| millrace().arg("lint").args(args).arg(&file).current_dir(tmp.path()).output().expect("runs");
    let o = lint(&["--format", "concise"]);
    assert!(o.status.code() == Some(1) && text(&o.stdout).contains("error[include-outside]"), "{}", said(&o));
    let o = lint(&["--include-from", "shared"]);
    assert!(o.status.success() && !text(&o.stdout).contains("include-outside"), "{}", said(&o));
    let o = run(&file, &inner, &["-q", "--include-from", "../shared"]);
    assert_eq!(lines(&text(&o.stdout)).len(), 2, "{}", said(&o));
    // A link leads outside as well as a path.
    #[cfg(unix)]
    std::os::unix::fs::symlink(tmp.path().join("shared"), inner.join("shared")).expect("a link");
    let file = write(&inner, "job.yaml", JOB);
    let o = millrace().args(["lint", "--format", "concise"]).arg(&file).output().expect("runs");
    assert!(text(&o.stdout).contains("error[include-outside]"), "{}", said(&o));
}

/// What is not there is told at the value that names it; a server that never answers is not waited for longer than is said.
#[test]
fn lint_asks_servers() {
    let tmp = tempfile::tempdir().expect("tempdir");
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let text_of = |store: &str| {
        format!(
            "name: asks\nstores:\n  users: {store}\nstreams:\n  in:\n    config:\n      source: {{type: File, config: {{path: nowhere/in.jsonl}}}}\n      operates: [{{type: StringToMap, config: {{format: json, fields: {{id: string}}}}}}]\ntransforms:\n  - {{type: Lookup, name: l, config: {{store: users, fields: {{name: name}}}}}}\nsink:\n  - {{type: Stdout, config: {{format: json}}}}\n"
        )
    };
    let file =
        write(tmp.path(), "job.yaml", &text_of(&format!("{{type: Redis, config: {{url: \"redis://{address}\", key: \"{{{{id}}}}\"}}}}")));
    let lint = |args: &[&str]| millrace().args(["lint", "--format", "json"]).args(args).arg(&file).output().expect("runs");
    let o = lint(&[]);
    assert!(o.status.success(), "{}", said(&o));
    let o = lint(&["--connect", "--connect-timeout", "1500ms"]);
    assert_eq!(o.status.code(), Some(1), "{}", said(&o));
    let found: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
    let told: Vec<(&str, u64)> = found
        .as_array()
        .expect("a list")
        .iter()
        .filter(|d| d["severity"] == "error")
        .map(|d| (d["id"].as_str().unwrap_or(""), d["line"].as_u64().unwrap_or(0)))
        .collect();
    assert!(told.contains(&("not-connected", 7)), "{}", said(&o));
    assert!(told.contains(&("no-answer", 3)) || told.contains(&("not-connected", 3)), "{}", said(&o));
}
