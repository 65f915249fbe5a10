//! Limits of a console's jobs, and its secrets outside of it: with real jobs.

use super::*;
use crate::console::{Api, Console, JOB, children, enter, rows, told};
use crate::supervise::until;
use serde_json::{Value, json};

/// A job whose state grows far beyond its limit, as its topology says that it may.
const GREEDY: &str = "name: greedy
run_env: {memory: 4GiB}
streams:
  events:
    config:
      source: {type: Generator, config: {profile: nexmark}}
transforms:
  - {type: Dedup, name: all, config: {keys: [_value]}}
sink:
  - {type: \"Null\", config: {}}
";

fn submit(api: &Api, name: &str, settings: &Value) -> (u16, Value) {
    api.ask("PUT", &format!("/tasks/{name}"), &json!({"settings": settings}))
}

#[test]
fn a_job_above_its_limit_is_ended_and_the_console_says_why() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::with(&data, &[]);
    let api = enter(&console);
    assert!(submit(&api, "greedy", &json!({"config": GREEDY, "memory_limit": "128MiB"})).0 < 300);
    api.start("greedy");
    let ended = api.reaches("greedy", "failed");
    assert!(ended["reason"].as_str().is_some_and(|r| r.contains("over its memory limit of 128 MiB")), "{ended}");
    assert!(api.log("greedy").contains("over its memory limit"), "{}", api.log("greedy"));
    assert_eq!(ended["run"], 1, "another start is no help");
    // With a strategy it is tried again first.
    let restarts = json!({"type": "fixed_delay", "attempts": 1, "delay": "1ms"});
    assert!(submit(&api, "greedy", &json!({"config": GREEDY, "memory_limit": "128MiB", "restart": restarts})).0 < 300);
    api.start("greedy");
    let ended = until("the end", || Some(api.task("greedy")).filter(|t| t["run"] == 2 && t["state"] == "failed"));
    assert_eq!(told(&data, 1)["restarts"], 1, "{ended}");
    console.kill();
}

#[test]
fn a_job_runs_within_its_limits() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::with(&data, &[]);
    let api = enter(&console);
    let limits = json!({"config": JOB, "memory_limit": "1GiB", "cpu": 0.5, "open_files": 256});
    let (status, answer) = submit(&api, "job", &limits);
    assert!(status < 300, "{answer}");
    api.start("job");
    api.reaches("job", "running");
    until("rows", || (!rows(&data, 1).is_empty()).then_some(()));
    let supervisor = told(&data, 1)["pid"].as_i64().expect("a supervisor");
    let job = children(supervisor)[0];
    for pid in [supervisor, job] {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("readable");
        let files = read("limits").lines().find(|l| l.starts_with("Max open files")).expect("a line").to_string();
        assert_eq!(files.split_whitespace().filter(|w| *w == "256").count(), 2, "{files}");
        let status = read("status");
        let cpus = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("a line").trim();
        assert!(cpus.parse::<usize>().is_ok(), "one processor: {cpus}");
    }
    assert_eq!(api.stop("job", false)["result"], "done");
    for (wrong, why) in [
        (json!({"memory_limit": "a lot"}), "is no size"),
        (json!({"memory_limit": "64MiB"}), "128MiB"),
        (json!({"memory_limit": "1GiB", "memory": "2GiB"}), "must be less"),
        (json!({"memory_limit": "1GiB", "memory": "512MiB", "processes": 2}), "must be less"),
        (json!({"cpu": 0.0}), "processors"),
        (json!({"open_files": 3}), "open files"),
    ] {
        let mut settings = wrong.clone();
        settings["config"] = json!(JOB);
        let (status, answer) = submit(&api, "job", &settings);
        assert!(status == 422 && answer.to_string().contains(why), "{wrong}: {answer}");
    }
    console.kill();
}

#[test]
fn secrets_are_nowhere_to_be_seen() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::with(&data, &[]);
    let api = enter(&console);
    let secret = "hunter22-very-secret";
    let config = JOB.replace("'{{_value}}'", "'${PW} {{_value}}'");
    let body = json!({"settings": {"config": config}, "secrets": {"PW": secret}});
    let (status, answer) = api.ask("PUT", "/tasks/job", &body);
    assert!(status < 300, "{answer}");
    api.start("job");
    api.reaches("job", "running");
    until("rows", || (!rows(&data, 1).is_empty()).then_some(()));
    assert!(rows(&data, 1).starts_with(secret), "the job has it: {}", rows(&data, 1));
    // The list of processes.
    let supervisor = told(&data, 1)["pid"].as_i64().expect("a supervisor");
    for pid in children(supervisor).into_iter().chain([supervisor, console.pid().into()]) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("readable");
        assert!(!String::from_utf8_lossy(&line).contains(secret), "{pid}");
    }
    assert_eq!(api.stop("job", true)["result"], "done");
    api.reaches("job", "stopped");
    assert!(!api.task("job").to_string().contains(secret) && !api.log("job").contains(secret));
    console.kill();
    // All that lies on the disk but what the job itself was told to write there: closed to others, and without the secret.
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let (path, about) = (entry.path(), entry.metadata().expect("metadata"));
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file()
                && !path.starts_with(data.join("tasks/1/job/out.jsonl"))
                && !path.starts_with(data.join("tasks/1/job/state"))
            {
                let text = std::fs::read(&path).expect("readable");
                assert!(!text.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", path.display());
            }
        }
    }
    use std::os::unix::fs::PermissionsExt;
    for place in ["", "tasks/1/job", "tasks/1/control"] {
        let mode = std::fs::metadata(data.join(place)).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{place}: {mode:o}");
    }
    // Without its key the database opens for nobody.
    std::fs::remove_file(data.join("console.key")).expect("a key");
    let o = millrace().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().expect("runs");
    assert!(!o.status.success() && text(&o.stderr).contains("console.key"), "{}", said(&o));
}
