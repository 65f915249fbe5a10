//! The console with real jobs: they are started, stopped, killed at every stage together with their supervisor and the console, and found again;
//! what they wrote is there once.

use super::*;
use crate::supervise::until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A job without end whose rows are known: a run of the same topology with a count makes them again.
pub const JOB: &str = "name: endless
run_env:
  checkpoint: {interval: 100ms, dir: state}
streams:
  events:
    config:
      source: {type: Generator, config: {profile: nexmark, rate: 400}}
sink:
  - {type: File, name: out, config: {path: out.jsonl, format: text, template: '{{_value}}'}}
";
const PASSWORD: &str = "correct horse battery";

pub struct Console {
    child: Child,
    pub url: String,
    /// The one-time password, at a first start.
    pub first: Option<String>,
}

impl Console {
    pub fn start(data: &Path) -> Console {
        Console::with(data, &[])
    }

    pub fn with(data: &Path, args: &[&str]) -> Console {
        let mut command = millrace();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).env_remove("MILLRACE_TOKEN").env_remove("MILLRACE_CONSOLE");
        let mut child = command.args(args).env("SECRET_OF_THE_HOST", "seen").stdout(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut first = None;
        loop {
            let line = lines.next().expect("the console begins");
            if let Some(url) = line.strip_prefix("console: ") {
                return Console { child, url: url.to_string(), first };
            }
            first = line.split("with the password ").nth(1).and_then(|r| r.split(',').next()).map(String::from).or(first);
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

/// A test that fails leaves no console behind.
impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program with an administrator's token.
pub struct Api {
    pub url: String,
    pub token: String,
    /// The person's session: its cookie, and its forms' token.
    pub session: (String, String),
}

pub struct Http(pub tokio::runtime::Runtime, pub reqwest::Client);

impl Http {
    pub fn new() -> Http {
        Http::with(|builder| builder)
    }

    pub fn with(change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Http {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        // The console closes what nobody uses for some seconds: on a slow machine between two calls.
        let builder = builder.pool_max_idle_per_host(0);
        Http(runtime, change(builder).build().expect("a client"))
    }

    pub fn send(&self, request: reqwest::RequestBuilder) -> (u16, String, String) {
        self.0.block_on(async {
            let answer = request.send().await.expect("an answer");
            let cookie = answer.headers().get("set-cookie").and_then(|c| c.to_str().ok()?.split(';').next()).unwrap_or("").to_string();
            (answer.status().as_u16(), cookie, answer.text().await.expect("text"))
        })
    }
}

/// The first login, a password, and a token: as a person does it.
pub fn enter(console: &Console) -> Api {
    let http = Http::new();
    let post = |path: &str, cookie: &str, fields: &[(&str, &str)]| {
        let body = fields.iter().map(|(k, v)| format!("{k}={}", v.replace(' ', "+"))).collect::<Vec<_>>().join("&");
        let request = http.1.post(format!("{}{path}", console.url)).header("origin", &console.url).header("cookie", cookie);
        http.send(request.header("content-type", "application/x-www-form-urlencoded").body(body))
    };
    let between = |text: &str, from: &str| text.split(from).nth(1).and_then(|r| r.split(['"', '<']).next()).expect(from).to_string();
    let first = console.first.clone().expect("a first start");
    let (status, cookie, _) = post("/login", "", &[("name", "admin"), ("password", &first)]);
    assert_eq!(status, 303);
    let page = http.send(http.1.get(format!("{}/account", console.url)).header("cookie", &cookie)).2;
    let csrf = between(&page, "name=\"_csrf\" value=\"");
    let (status, _, text) = post("/account/password", &cookie, &[("_csrf", &csrf), ("old", &first), ("new", PASSWORD)]);
    assert_eq!(status, 303, "{text}");
    let (_, _, page) = post("/account/tokens", &cookie, &[("_csrf", &csrf), ("name", "t"), ("role", "admin"), ("days", "1")]);
    Api { url: console.url.clone(), token: between(&page, "id=\"secret\">"), session: (cookie, csrf) }
}

impl Api {
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let http = Http::new();
        let request = http.1.request(method.parse().expect("a method"), format!("{}/api/v1{path}", self.url));
        let (status, _, text) = http.send(request.bearer_auth(&self.token).body(body.to_string()));
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn submit(&self, name: &str, config: &str) {
        let (status, said) = self.ask("PUT", &format!("/tasks/{name}"), &json!({"settings": {"config": config}}));
        assert!(status < 300, "{said}");
    }

    pub fn start(&self, name: &str) {
        let (status, said) = self.ask("POST", &format!("/tasks/{name}/start"), &json!({}));
        assert_eq!(status, 200, "{said}");
    }

    pub fn task(&self, name: &str) -> Value {
        self.ask("GET", &format!("/tasks/{name}"), &Value::Null).1
    }

    pub fn log(&self, name: &str) -> String {
        self.ask("GET", &format!("/tasks/{name}/log"), &Value::Null).1["text"].as_str().unwrap_or_default().to_string()
    }

    /// Waits for a state, and tells the log when it is another that stays.
    pub fn reaches(&self, name: &str, state: &str) -> Value {
        until(&format!("{state} of {name}: {}\n{}", self.task(name), self.log(name)), || {
            Some(self.task(name)).filter(|t| t["state"] == state)
        })
    }

    /// A console that was started anew has another port.
    pub fn at(&self, console: &Console) -> Api {
        Api { url: console.url.clone(), token: self.token.clone(), session: self.session.clone() }
    }

    /// Stops the job and waits for the operation.
    pub fn stop(&self, name: &str, savepoint: bool) -> Value {
        let (status, asked) = self.ask("POST", &format!("/tasks/{name}/stop"), &json!({"savepoint": savepoint}));
        assert_eq!(status, 200, "{asked}");
        let path = format!("/operations/{}", asked["operation"]);
        until("the end of the stop", || Some(self.ask("GET", &path, &Value::Null).1).filter(|o| o["result"] != "pending"))
    }
}

pub fn told(data: &Path, task: i64) -> Value {
    let text = std::fs::read(data.join(format!("tasks/{task}/control/run.json"))).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

pub fn kill(pid: i64) {
    // It may be gone already.
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

pub fn children(pid: i64) -> Vec<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

pub fn rows(data: &Path, task: i64) -> String {
    std::fs::read_to_string(data.join(format!("tasks/{task}/job/out.jsonl"))).unwrap_or_default()
}

/// What the job has written is what an undisturbed run writes, each row once and in order.
pub fn assert_once(data: &Path, task: i64, tmp: &Path) {
    let got = rows(data, task);
    let n = got.lines().count();
    assert!(n > 0 && got.ends_with('\n'));
    let config =
        JOB.replace("rate: 400", &format!("count: {n}")).replace("  checkpoint: {interval: 100ms, dir: state}\n", "  state_dir: again\n");
    let file = write(tmp, "again.yaml", &config.replace("out.jsonl", "again.jsonl"));
    let _ = std::fs::remove_file(tmp.join("again.jsonl"));
    let o = run(&file, tmp, &["--quiet"]);
    assert!(o.status.success(), "{}", said(&o));
    let want = std::fs::read_to_string(tmp.join("again.jsonl")).expect("rows");
    let differs = got.lines().zip(want.lines()).position(|(a, b)| a != b);
    assert!(got == want, "{n} rows, the first that differs is {differs:?}");
}

#[test]
fn a_job_is_made_started_watched_saved_and_started_again() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let second = millrace().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().expect("runs");
    assert!(!second.status.success() && text(&second.stderr).contains("another console runs"), "{}", said(&second));
    let api = enter(&console);
    api.submit("clicks", JOB);
    api.start("clicks");
    api.reaches("clicks", "running");
    assert_eq!(api.ask("POST", "/tasks/clicks/start", &json!({})).0, 409, "it runs already");
    // Figures are the job's own.
    let counted = until("rows and their rate", || {
        let task = api.task("clicks");
        task["figures"]["records_in"].as_f64().filter(|r| *r > 0.0 && !rows(&data, 1).is_empty())
    });
    assert!(counted < 4000.0, "{counted} rows a second of a source that makes 400");
    // The process knows nothing of the host, and its command line has no variable.
    let pid = told(&data, 1)["pid"].as_i64().expect("a process");
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).expect("readable by its user");
    assert!(!environment.contains("SECRET_OF_THE_HOST"));
    let saved = api.stop("clicks", true);
    assert_eq!(saved["result"], "done", "{saved}");
    api.reaches("clicks", "stopped");
    let kinds = until("checkpoints", || {
        let (status, list) = api.ask("GET", "/tasks/clicks/checkpoints", &Value::Null);
        assert_eq!(status, 200, "{list}");
        Some(list)
    });
    assert!(kinds.as_array().expect("a list").iter().any(|c| c["kind"] == "savepoint"), "{kinds}");
    let before = rows(&data, 1).lines().count();
    api.start("clicks");
    until("more rows", || (rows(&data, 1).lines().count() > before).then_some(()));
    assert_eq!(api.stop("clicks", false)["result"], "done");
    api.reaches("clicks", "stopped");
    assert_once(&data, 1, tmp.path());
    console.kill();
}

#[test]
fn how_a_job_ended_is_told() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut console = Console::start(&tmp.path().join("data"));
    let api = enter(&console);
    let bounded = JOB.replace("rate: 400", "count: 5");
    api.submit("ends", &bounded);
    let missing =
        bounded.replace("{type: Generator, config: {profile: nexmark, count: 5}}", "{type: File, config: {path: not-there.jsonl}}");
    api.submit("fails", &missing);
    api.start("ends");
    api.start("fails");
    let finished = api.reaches("ends", "finished");
    assert_eq!((&finished["wanted"], finished["reason"].as_str()), (&json!(false), Some("")));
    let failed = api.reaches("fails", "failed");
    assert!(failed["reason"].as_str().is_some_and(|r| r.contains("not-there.jsonl")), "{failed}");
    assert!(api.log("fails").contains("not-there.jsonl"));
    console.kill();
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Console,
    Job,
    Supervisor,
    All,
}

#[test]
fn whatever_is_killed_comes_back_and_writes_each_row_once() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let mut api = enter(&console);
    let restarting = JOB.replace("run_env:\n", "run_env:\n  restart: {type: fixedDelayRestart, attempts: 100, delay: 1ms}\n");
    api.submit("job", &restarting);
    for who in [Who::Console, Who::Job, Who::Supervisor, Who::All] {
        for stage in ["starting", "running", "savepoint", "stopping"] {
            api.start("job");
            if stage != "starting" {
                let before = rows(&data, 1).lines().count();
                until("rows", || (rows(&data, 1).lines().count() > before).then_some(()));
            }
            match stage {
                "savepoint" => drop(api.ask("POST", "/tasks/job/savepoint", &json!({}))),
                "stopping" => drop(api.ask("POST", "/tasks/job/stop", &json!({}))),
                _ => {}
            }
            let run = api.task("job")["run"].as_i64().expect("a run");
            let supervisor = until("a supervisor", || told(&data, 1)["pid"].as_i64().filter(|_| told(&data, 1)["run"] == run));
            if matches!(who, Who::Console | Who::All) {
                console.kill();
            }
            if matches!(who, Who::Job | Who::All) {
                children(supervisor).into_iter().for_each(kill);
            }
            if matches!(who, Who::Supervisor | Who::All) {
                kill(supervisor);
            }
            if matches!(who, Who::Console | Who::All) {
                console = Console::start(&data);
                api = api.at(&console);
            }
            if stage == "stopping" {
                api.reaches("job", "stopped");
            } else {
                let before = rows(&data, 1).lines().count();
                until(&format!("rows after {who:?} at {stage}: {}\n{}", api.task("job"), api.log("job")), || {
                    (rows(&data, 1).lines().count() > before && api.task("job")["state"] == "running").then_some(())
                });
                let runs = api.task("job")["run"].as_i64().expect("a run") - run;
                assert_eq!(runs, i64::from(matches!(who, Who::Supervisor | Who::All)), "{who:?} at {stage}: started once");
                assert_eq!(api.stop("job", false)["result"], "done");
                api.reaches("job", "stopped");
            }
            // What a task may be brought back in ten minutes is for real trouble.
            forget_recoveries(&data);
        }
    }
    assert_once(&data, 1, tmp.path());
    console.kill();
}

/// The console may die at any moment after it was asked to start a job: before the job's first process has come to itself, too.
#[test]
fn a_console_that_dies_while_it_starts_a_job_starts_it_once() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let mut api = enter(&console);
    api.submit("job", JOB);
    for run in 1..=3 {
        api.start("job");
        console.kill();
        console = Console::start(&data);
        api = api.at(&console);
        let before = rows(&data, 1).lines().count();
        until("more rows", || (rows(&data, 1).lines().count() > before && api.task("job")["state"] == "running").then_some(()));
        assert_eq!(api.task("job")["run"], run, "no second start: {}", api.log("job"));
        assert_eq!(api.stop("job", false)["result"], "done");
        api.reaches("job", "stopped");
    }
    assert_once(&data, 1, tmp.path());
    console.kill();
}

/// Runs that the console began of itself count as old.
pub fn forget_recoveries(data: &Path) {
    let script =
        format!("import sqlite3\nd=sqlite3.connect({:?})\nd.execute('UPDATE runs SET time = 0')\nd.commit()\n", data.join("console.db"));
    let o = Command::new("python3").args(["-c", &script]).output().expect("python3");
    assert!(o.status.success(), "{}", said(&o));
}

#[test]
fn a_job_that_stands_still_is_started_again() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let data = tmp.path().join("data");
    let mut console = Console::start(&data);
    let api = enter(&console);
    api.submit("job", JOB);
    api.start("job");
    api.reaches("job", "running");
    until("rows", || (!rows(&data, 1).is_empty()).then_some(()));
    let mut api = api;
    let stop = |pid: i64| assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().expect("kill").success());
    // The job with its supervisor, the job alone, and both while there is no console.
    for (run, all, away) in [(2, true, false), (3, false, false), (4, true, true)] {
        let supervisor = told(&data, 1)["pid"].as_i64().expect("a supervisor");
        if away {
            console.kill();
        }
        children(supervisor).into_iter().for_each(stop);
        if all {
            stop(supervisor);
        }
        if away {
            console = Console::start(&data);
            api = api.at(&console);
        }
        until("another run", || (api.task("job")["run"] == run && api.task("job")["state"] == "running").then_some(()));
        assert_eq!(children(supervisor), [0_i64; 0], "nothing is left of the run before");
        let before = rows(&data, 1).lines().count();
        until("more rows", || (rows(&data, 1).lines().count() > before).then_some(()));
        forget_recoveries(&data);
    }
    assert_eq!(api.stop("job", false)["result"], "done");
    assert_once(&data, 1, tmp.path());
    // A job that dies again and again is left to its operators.
    api.reaches("job", "stopped");
    api.start("job");
    for _ in 0..5 {
        let pid = until("a supervisor", || {
            let now = told(&data, 1);
            (api.task("job")["state"] == "needs-operator" || now["run"] == api.task("job")["run"]).then(|| now["pid"].as_i64())
        });
        let run = told(&data, 1)["run"].clone();
        pid.into_iter().for_each(kill);
        until("an answer to the death", || (api.task("job")["run"] != run || api.task("job")["state"] == "needs-operator").then_some(()));
    }
    assert_eq!(api.task("job")["state"], "needs-operator");
    console.kill();
}

#[test]
fn the_command_line_speaks_to_the_console() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut console = Console::start(&tmp.path().join("data"));
    let api = enter(&console);
    let file = write(tmp.path(), "job.yaml", JOB);
    let call = |args: &[&str]| {
        let mut c = millrace();
        c.args(args).current_dir(tmp.path()).env("MILLRACE_CONSOLE", &console.url).env("MILLRACE_TOKEN", &api.token).output().expect("runs")
    };
    let o = call(&["submit", file.to_str().expect("text"), "--name", "job one", "--start"]);
    assert!(o.status.success() && text(&o.stdout) == "task job one: version 1\ntask job one: run 1\n", "{}", said(&o));
    until("running", || text(&call(&["ps"]).stdout).contains("running").then_some(()));
    let o = call(&["stop", "job one", "--savepoint"]);
    assert!(o.status.success() && text(&o.stdout).contains("state"), "{}", said(&o));
    until("stopped", || text(&call(&["ps", "--json"]).stdout).contains("\"stopped\"").then_some(()));
    let o = call(&["start", "job one", "--from", "scratch"]);
    assert!(o.status.success() && text(&o.stdout) == "task job one: run 2\n", "{}", said(&o));
    assert_eq!(call(&["start", "job one"]).status.code(), Some(3));
    assert!(call(&["stop", "job one"]).status.success());
    let o = call(&["logs", "job one"]);
    assert!(o.status.success() && !o.stdout.is_empty(), "{}", said(&o));
    assert_eq!(call(&["logs", "nothing"]).status.code(), Some(3));
    write(tmp.path(), "bad.yaml", "streams: 1\n");
    assert_eq!(call(&["submit", "bad.yaml"]).status.code(), Some(1));
    console.kill();
}
