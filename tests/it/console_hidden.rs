//! What nobody may see or reach by way of a job: secrets in its own words, files behind links. And starts that outlive a console.

use super::*;
use crate::console::{Api, Console, Http, JOB, enter, rows, told};
use crate::supervise::until;
use serde_json::{Value, json};

const SECRET: &str = "hunter22-se\"cret";

/// Everything that the console shows and keeps of a task.
fn everything(api: &Api, name: &str, id: i64) -> Vec<(String, String)> {
    let http = Http::new();
    let mut all = vec![];
    for path in ["", "/log", "/versions", "/versions/1", "/checkpoints", "/points", "/preview", "/rejects/0"] {
        let path = format!("/tasks/{name}{path}");
        all.push((path.clone(), api.ask("GET", &path, &Value::Null).1.to_string()));
    }
    let pages =
        ["", "/live", "/edit", "/log/file", "/checkpoints", "/versions/1", "/versions/1/rollback", "/rejects", "/restore?from=latest"];
    for path in pages.map(|p| format!("/tasks/{id}{p}")).into_iter().chain(["/tasks".into(), "/operations".into()]) {
        let (_, _, text) = http.send(http.1.get(format!("{}{path}", api.url)).header("cookie", &api.session.0));
        all.push((path, text));
    }
    all
}

#[test]
fn a_secret_in_a_jobs_own_words_is_starred_wherever_they_are_shown_or_kept() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let api = enter(&console);
    let missing = "{type: File, config: {path: 'not-${PW}.jsonl'}}";
    let config = JOB.replace("{type: Generator, config: {profile: nexmark, rate: 400}}", missing);
    let settings = json!({"config": config, "alarms": [{"what": "liveness"}], "receivers": {"mails": ["ops@example.com"]}});
    let (status, said) = api.ask("PUT", "/tasks/job", &json!({"settings": settings, "secrets": {"PW": SECRET}}));
    assert_eq!(status, 201, "{said}");
    api.start("job");
    let failed = api.reaches("job", "failed");
    assert!(failed["reason"].as_str().is_some_and(|r| r.contains("not-***.jsonl")), "{failed}");
    // It has failed for this very reason, and an alarm has told so.
    until("the alarm", || everything(&api, "job", 1).into_iter().find(|(p, t)| p == "/operations" && t.contains("alarm")));
    for (path, text) in everything(&api, "job", 1) {
        assert!(!text.contains("hunter22"), "{path}: {text}");
    }
    console.kill();
    let kept = ["console.db", "console.db-wal"].map(|name| std::fs::read(data.join(name)).unwrap_or_default()).concat();
    assert!(!kept.windows(8).any(|w| w == b"hunter22"), "the database has it");
}

#[test]
fn a_pattern_leads_to_no_file_behind_a_link() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let (own, other) = (tmp.path().join("own"), tmp.path().join("other"));
    std::fs::create_dir_all(own.join("sub")).expect("folder");
    std::fs::write(own.join("sub/c.jsonl"), "{\"mine\":2}\n").expect("file");
    std::fs::create_dir_all(&other).expect("folder");
    std::fs::write(own.join("a.jsonl"), "{\"mine\":1}\n").expect("file");
    std::fs::write(other.join("b.jsonl"), "{\"theirs\":1}\n").expect("file");
    std::os::unix::fs::symlink(other.join("b.jsonl"), own.join("b.jsonl")).expect("link");
    std::os::unix::fs::symlink(&other, own.join("folder")).expect("link");
    let config = "name: a\nstreams:\n  s:\n    config:\n      source: {type: File, config: {path: ['*.jsonl', '*/*.jsonl']}}\nsink:\n  - {type: Stdout}\n";
    let file = write(&own, "job.yaml", config);
    let confine = json!({"folders": [&own], "addresses": []}).to_string();
    for (confine, theirs) in [(Some(&confine), false), (None, true)] {
        let mut command = millrace();
        command.current_dir(&own).args(["run", "--quiet"]).arg(&file);
        let o = command.envs(confine.map(|c| ("MILLRACE_CONFINE", c))).output().expect("runs");
        assert!(o.status.success() && text(&o.stdout).contains("mine"), "{}", said(&o));
        assert_eq!(text(&o.stdout).contains("theirs"), theirs, "{}", said(&o));
    }
}

#[test]
fn a_restart_that_was_asked_for_outlives_the_console_and_a_stop_is_over_when_it_is_told() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let api = enter(&console);
    api.submit("job", JOB);
    api.start("job");
    until("rows", || (!rows(&data, 1).is_empty()).then_some(()));
    let http = Http::new();
    let request = http.1.post(format!("{}/tasks/1/restart", api.url)).header("origin", &api.url).header("cookie", &api.session.0);
    let form = format!("_csrf={}", api.session.1);
    let (status, ..) = http.send(request.header("content-type", "application/x-www-form-urlencoded").body(form));
    assert_eq!(status, 303);
    console.kill();
    let mut console = Console::start(&data);
    let api = api.at(&console);
    until("the second run", || Some(api.task("job")).filter(|t| t["run"] == 2 && t["state"] == "running"));
    assert_eq!(told(&data, 1)["run"], 2);
    assert_eq!(api.stop("job", false)["result"], "done");
    // Nobody has to wait before the next start, and no state is an old one.
    assert_eq!(api.task("job")["state"], "stopped");
    api.start("job");
    api.reaches("job", "running");
    assert_eq!(api.stop("job", false)["result"], "done");
    // A stop takes back what was to follow.
    assert_eq!(api.task("job")["run"], 3);
    crate::console::assert_once(&data, 1, tmp.path());
    console.kill();
}

#[test]
fn what_a_console_could_not_use_is_refused_at_its_start() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let around = tmp.path().display().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["--public-url", "millrace.example.com"], "--public-url"),
        (&["--public-url", "https://"], "--public-url"),
        (&["--public-url", "https://millrace.example.com/console"], "without a path"),
        (&["--public-url", "http://millrace.example.com", "--listen", "0.0.0.0:0"], "plain text"),
        (&["--listen", "0.0.0.0:0"], "plain text"),
        (&["--tls-cert", "cert.pem", "--listen", "0.0.0.0:0"], "--tls-key"),
        (&["--allow-address", "http://kafka:9092"], "--allow-address"),
        (&["--allow-address", "kafka:9092,redis:6379"], "--allow-address"),
        (&["--allow-address", ""], "--allow-address"),
        (&["--allow-folder", &around], "--allow-folder"),
        (&["--allow-folder", "/"], "--allow-folder"),
    ];
    for (args, want) in cases {
        let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let o = millrace().args(["serve", "--data"]).arg(tmp.path().join("data")).args(listen).args(*args).output().expect("ends");
        assert!(!o.status.success() && text(&o.stderr).contains(want), "{args:?}: {}", said(&o));
    }
}

/// The log of a console or a job may lie on a disk that is full.
#[test]
fn nobody_dies_of_a_word_that_cannot_be_written() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let config =
        "name: a\nstreams:\n  s:\n    config:\n      source: {type: Inline, config: {rows: [{id: 1}]}}\nsink:\n  - {type: Stdout}\n";
    let fine = write(tmp.path(), "fine.yaml", config);
    let o = millrace().args(["run", "--log", "debug"]).arg(&fine).stderr(full()).output().expect("runs");
    assert!(o.status.success() && text(&o.stdout) == "{\"id\":1}\n", "{}", said(&o));
    let wrong = write(tmp.path(), "wrong.yaml", &config.replace("Inline", "Inlin"));
    let told = millrace().arg("run").arg(&wrong).output().expect("runs");
    let o = millrace().arg("run").arg(&wrong).stderr(full()).output().expect("runs");
    assert!(!told.stderr.is_empty() && o.status.code() == told.status.code() && o.status.code().is_some_and(|c| c < 100), "{}", said(&o));
}
