//! A job with a restart strategy: what brings it back, what ends it, and that nothing is left behind.

use super::*;
use std::io::Read;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Waits for something that must come about, however slow the machine.
pub fn until<T>(what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(t) = happened() {
            return t;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A job that reads what the test writes to its standard input, and so runs as long as the test wants.
fn endless(restart: &str) -> String {
    format!(
        "name: endless\nrun_env: {{restart: {restart}}}\nstreams: {{in: {{config: {{source: {{type: Stdin}}}}}}}}\nsink: [{{type: Stdout, config: {{format: json}}}}]\n"
    )
}

pub struct Job(pub Child);

impl Job {
    pub fn start(dir: &Path, text: &str) -> Job {
        let file = write(dir, "t.yaml", text);
        let mut c = millrace();
        c.args(["run", "--quiet"]).arg(file).current_dir(dir).env("XDG_CONFIG_HOME", dir.join("config"));
        Job(c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"))
    }

    /// The process in which the job runs, once it is there and is not `before`.
    pub fn child(&mut self, before: Option<i32>) -> i32 {
        let parent = self.0.id();
        until("a child", || {
            assert!(self.0.try_wait().expect("wait").is_none(), "the supervisor has ended");
            let pids = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
            let pid = pids.split_whitespace().next()?.parse().ok()?;
            // It is bound to its parent and handles signals once its signal thread runs.
            let named = |t: std::fs::DirEntry| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.trim() == "signals");
            let ready = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().any(named);
            (ready && Some(pid) != before).then_some(pid)
        })
    }

    pub fn signal(pid: i32, signal: &str) {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill").success());
    }

    pub fn end(mut self) -> (ExitStatus, String) {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (self.0.wait().expect("ends"), said)
    }
}

/// Neither running nor waiting to be buried.
fn gone(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |s| s.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[test]
fn a_killed_run_is_followed_by_another_until_the_attempts_are_used_up() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut job = Job::start(tmp.path(), &endless("{type: fixedDelayRestart, attempts: 2, delay: 1ms}"));
    let mut child = job.child(None);
    for signal in ["-KILL", "-ABRT"] {
        Job::signal(child, signal);
        child = job.child(Some(child));
    }
    Job::signal(child, "-KILL");
    let (status, said) = job.end();
    assert_eq!(status.code(), Some(128 + 9), "{said}");
    assert!(said.contains("killed by SIGKILL (9)") && said.contains("killed by SIGABRT (6)"), "{said}");
    assert_eq!(said.matches("the job has failed: restart in 1ms").count(), 2, "{said}");
    assert!(said.contains("2 restarts did not help"), "{said}");
}

#[test]
fn the_end_of_a_later_run_is_the_end_of_the_job() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut job = Job::start(tmp.path(), &endless("{type: exponentialDelayRestart, initial: 1ms}"));
    let first = job.child(None);
    Job::signal(first, "-KILL");
    job.child(Some(first));
    let (status, said) = job.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_stop_is_passed_on_and_not_taken_for_a_failure() {
    let tmp = tempfile::tempdir().expect("tempdir");
    for signal in ["-TERM", "-INT"] {
        let mut job = Job::start(tmp.path(), &endless("{type: failureRateRestart, delay: 1ms}"));
        let child = job.child(None);
        Job::signal(job.0.id() as i32, signal);
        let (status, said) = job.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(gone(child) && !said.contains("restart in"), "{said}");
    }
    // A stop also ends the wait for a restart.
    let mut job = Job::start(tmp.path(), &endless("{type: fixedDelayRestart, attempts: 1, delay: 10d}"));
    let child = job.child(None);
    Job::signal(child, "-KILL");
    until("the wait", || gone(child).then_some(()));
    Job::signal(job.0.id() as i32, "-TERM");
    assert_eq!(job.end().0.code(), Some(128 + 9));
}

#[test]
fn a_child_dies_with_its_parent() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut job = Job::start(tmp.path(), &endless("{type: fixedDelayRestart}"));
    let child = job.child(None);
    job.0.kill().expect("kill");
    until("the child's end", || gone(child).then_some(()));
    job.end();
}

/// The disk is full at first, then there is room.
#[test]
fn a_dependency_that_comes_back_is_waited_for() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let out = tmp.path().join("out.jsonl");
    std::os::unix::fs::symlink("/dev/full", &out).expect("symlink");
    let text = "name: full\nrun_env: {restart: {type: fixedDelayRestart, attempts: 1000, delay: 50ms}}\nstreams: {in: {config: {source: {type: Inline, config: {lines: [a, b]}}}}}\nsink: [{type: File, config: {path: out.jsonl, format: json}}]\n";
    let mut job = Job::start(tmp.path(), text);
    let first = job.child(None);
    until("the first run's end", || gone(first).then_some(()));
    std::fs::remove_file(&out).expect("remove");
    let (status, said) = job.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("disk is full") && said.contains("restart in 50ms"), "{said}");
    assert_eq!(std::fs::read_to_string(&out).expect("out").lines().count(), 2);
}

/// What another run cannot mend ends the job at once, with the code that it has without a supervisor.
#[test]
fn some_errors_never_restart() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let job = |source: &str| {
        format!(
            "name: never\nrun_env: {{restart: {{type: fixedDelayRestart, attempts: 5, delay: 10d}}}}\nstreams: {{in: {{config: {{source: {source}}}}}}}\nsink: [{{type: Stdout}}]\n"
        )
    };
    for (source, code) in [("{type: File, config: {path: nowhere}}", 3), ("{type: Fill}", 1), ("{type: Inline, config: {lines: [a]}}", 0)] {
        let o = run(&write(tmp.path(), "t.yaml", &job(source)), tmp.path(), &[]);
        assert_eq!(o.status.code(), Some(code), "{}", said(&o));
        assert!(!text(&o.stderr).contains("restart"), "{}", said(&o));
    }
    let o = run(&write(tmp.path(), "t.yaml", &job("{type: Inline, config: {lines: [a]}}")), tmp.path(), &["--summary", "s.json"]);
    assert_eq!(text(&o.stdout), "{\"_value\":\"a\"}\n", "{}", said(&o));
    assert!(std::fs::read_to_string(tmp.path().join("s.json")).expect("summary").contains("\"restarts\": 0"));
}

#[test]
fn attempts_are_counted_down_for_a_server_that_stays_away() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let text = "name: away\nrun_env: {restart: {type: fallBackRestart}}\nstreams: {in: {config: {source: {type: Kafka, config: {brokers: \"127.0.0.1:1\", topics: [t]}}}}}\nsink: [{type: Stdout}]\n";
    write(tmp.path(), "millrace.yaml", "restart: {type: fixedDelayRestart, attempts: 1, delay: 1ms}\n");
    let (status, said) = Job::start(tmp.path(), text).end();
    assert_eq!(status.code(), Some(3), "{said}");
    assert_eq!(said.matches("restart in 1ms").count(), 1, "{said}");
    assert!(said.contains("1 restart did not help"), "{said}");
    write(tmp.path(), "millrace.yaml", "restart: {type: fixedDelayRestart, atempts: 1}\n");
    let (status, said) = Job::start(tmp.path(), text).end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("millrace.yaml") && said.contains("did you mean `attempts`"), "{said}");
}

/// `--from` holds for the first run alone: the ones after it go on from its checkpoints.
#[test]
fn a_restart_goes_on_where_the_run_before_it_was() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let text = "name: onward\nrun_env: {checkpoint: {interval: 50ms}, restart: {type: fixedDelayRestart, delay: 1ms}}\nstreams: {in: {config: {source: {type: Generator, config: {profile: ad_clicks, count: 400, rate: 200}}}}}\nsink: [{type: File, config: {path: out.jsonl, format: json}}]\n";
    let file = write(tmp.path(), "t.yaml", text);
    let mut c = millrace();
    c.args(["run", "--quiet", "--from", "scratch"]).arg(file).current_dir(tmp.path());
    let mut job = Job(c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"));
    let child = job.child(None);
    let rows = || std::fs::read_to_string(tmp.path().join("out.jsonl")).unwrap_or_default().lines().count();
    until("the first rows", || (rows() > 0).then_some(()));
    Job::signal(child, "-KILL");
    let (status, said) = job.end();
    assert!(status.success() && said.contains("restart in 1ms"), "{said}");
    assert_eq!(rows(), 400, "{said}");
}
