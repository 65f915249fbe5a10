//! The console at work on real jobs: states that are made to happen, figures against counted rows, taps, replays, records, and what is said
//! before a restore.

use super::*;
use crate::console::{Api, Console, JOB, children, enter, rows, told};
use crate::supervise::until;
use serde_json::{Value, json};

struct Site {
    console: Console,
    api: Api,
    data: PathBuf,
    tmp: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let tmp = tempfile::tempdir().expect("tempdir");
        let data = tmp.path().join("data");
        let console = Console::start(&data);
        let api = enter(&console);
        Site { console, api, data, tmp }
    }

    fn job(&self, task: i64) -> PathBuf {
        self.data.join(format!("tasks/{task}/job"))
    }

    /// A task whose folder is there before its first run.
    fn submit(&self, name: &str, task: i64, config: &str, files: &[(&str, &str)]) {
        std::fs::create_dir_all(self.job(task)).expect("a folder");
        for (file, text) in files {
            write(&self.job(task), file, text);
        }
        self.api.submit(name, config);
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.api.ask("GET", path, &Value::Null)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.console.kill();
        for n in 1..10 {
            if let Some(pid) = told(&self.data, n)["pid"].as_i64() {
                children(pid).into_iter().chain([pid]).for_each(crate::console::kill);
            }
        }
    }
}

/// What a person sees of a state.
fn shown(api: &Api, task: i64) -> String {
    let live = page(api, &format!("/tasks/{task}/live"));
    live.split("class=\"state ").nth(1).and_then(|r| r.split('>').nth(1)).and_then(|r| r.split('<').next()).expect("a state").to_string()
}

#[test]
fn states_are_true() {
    let site = Site::new();
    let api = &site.api;
    // It has not begun as long as its table is loaded, and nobody writes to that pipe.
    let starts = "name: a\nstores:\n  t: {type: Embedded, config: {path: table, key: \"{{k}}\", load: pipe.jsonl}}\nstreams:\n  s:\n    config:\n      \
         source: {type: File, config: {path: in.jsonl, mode: follow}}\n      operates: [{type: StringToMap, config: {format: json, fields: {k: string}}}]\n\
         transforms:\n  - {type: Lookup, name: l, config: {store: t, fields: [v]}}\nsink:\n  - {type: File, name: out, config: {path: out.jsonl}}\n";
    site.submit("starts", 1, starts, &[("in.jsonl", "")]);
    assert_eq!((&api.task("starts")["state"], shown(api, 1).as_str()), (&json!("not-started"), "not started"));
    pipe(&site.job(1).join("pipe.jsonl"));
    api.start("starts");
    until("a socket that says so", || {
        let o = millrace().arg("status").arg(site.job(1).join("state/a.sock")).output().expect("runs");
        text(&o.stdout).contains("starting").then_some(())
    });
    assert_eq!(api.reaches("starts", "starting")["counts"]["in"], 0);
    assert_eq!(api.ask("POST", "/tasks/starts/kill", &json!({})).0, 200);
    api.reaches("starts", "stopped");
    // A sink that does not take anything holds the source back, and lets it go on.
    let held = "name: b\nrun_env: {checkpoint: {interval: 100ms, dir: state, mode: at_least_once}}\nstreams:\n  s:\n    config:\n      source: {type: Generator, config: {profile: nexmark}}\n\
         sink:\n  - {type: File, name: out, config: {path: pipe.jsonl}}\n";
    site.submit("held", 2, held, &[]);
    pipe(&site.job(2).join("pipe.jsonl"));
    api.start("held");
    api.reaches("held", "backpressured");
    let mut reader = Command::new("cat").arg(site.job(2).join("pipe.jsonl")).stdout(std::process::Stdio::null()).spawn().expect("cat");
    until("rows that went through", || (api.task("held")["counts"]["out"].as_u64() > Some(100_000)).then_some(()));
    let (status, _) = api.ask("POST", "/tasks/held/kill", &json!({}));
    assert_eq!(status, 200);
    api.reaches("held", "stopped");
    reader.kill().and_then(|()| reader.wait()).expect("killed");
    // A guard.
    let guarded = "name: g\nrun_env:\n  checkpoint: {interval: 50ms, dir: state}\nstreams:\n  s:\n    config:\n      \
         source: {type: File, config: {path: in.jsonl}}\n      operates: [{type: StringToMap, config: {format: json, fields: {n: bigint}}}]\n\
         sink:\n  - {type: File, name: out, config: {path: out.jsonl}}\n\
         guards:\n  - {type: Nulls, name: totals, input: s, field: n, over: 1s, max: 0.5}\n";
    site.submit("halts", 3, guarded, &[("in.jsonl", "{\"n\":1}\n{}\n{}\n")]);
    api.start("halts");
    let halted = api.reaches("halts", "halted");
    assert!(halted["reason"].as_str().is_some_and(|r| r.contains("totals")), "{halted}");
    // A job that dies, and whose strategy waits an hour.
    let restart = json!({"type": "fixed_delay", "attempts": 3, "delay": "1h"});
    let (status, said) = api.ask("PUT", "/tasks/restarts", &json!({"settings": {"config": JOB, "restart": restart}}));
    assert!(status < 300, "{said}");
    api.start("restarts");
    api.reaches("restarts", "running");
    let supervisor = told(&site.data, 4)["pid"].as_i64().expect("a supervisor");
    children(supervisor).into_iter().for_each(crate::console::kill);
    let restarting = api.reaches("restarts", "restarting");
    assert_eq!((&restarting["restarts"], &restarting["restarts_of"]), (&json!(1), &json!(3)), "{restarting}");
    assert_eq!(shown(api, 4), "restarting 1 / 3");
    api.stop("restarts", false);
    api.reaches("restarts", "stopped");
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success());
}

#[test]
fn a_job_of_several_processes_is_told_as_one() {
    let site = Site::new();
    let config = "name: c\nrun_env: {checkpoint: {interval: 100ms, dir: state}}\nstreams:\n  s:\n    config:\n      source: {type: File, config: {path: in-*.jsonl, mode: follow}}\n      \
         operates: [{type: StringToMap, config: {format: json, fields: {n: bigint}}}]\n\
         transforms:\n  - {type: Dedup, name: once, config: {keys: [n]}}\nsink:\n  - {type: File, name: out, config: {path: \"out-{worker}.jsonl\"}}\n";
    let files: Vec<(String, String)> =
        (0..4).map(|f| (format!("in-{f}.jsonl"), (0..500).map(|i| format!("{{\"n\":{}}}\n", i + f * 250)).collect())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    std::fs::create_dir_all(site.job(1)).expect("a folder");
    files.iter().for_each(|(n, t)| drop(write(&site.job(1), n, t)));
    let (status, said) = site.api.ask("PUT", "/tasks/c", &json!({"settings": {"config": config, "processes": 2, "workers": 2}}));
    assert!(status < 300, "{said}");
    site.api.start("c");
    let counts = || Some(site.api.task("c")["counts"].clone()).filter(|c| c["out"] == 1250);
    let counts = until(&format!("all rows: {}\n{}", site.api.task("c"), site.api.log("c")), counts);
    assert_eq!(counts, json!({"in": 2000, "out": 1250, "rejected": 0, "lost": 0}));
    assert_eq!(site.api.stop("c", false)["result"], "done");
    let stopped = site.api.reaches("c", "stopped");
    assert_eq!(stopped["counts"], counts, "its summary has the same");
}

#[test]
fn figures_are_the_counted_rows_and_charts_outlive_the_console() {
    let mut site = Site::new();
    let (all, bad) = (5000, 70);
    let input: String = (0..all).map(|i| if i % (all / bad) == 0 { "oops\n".into() } else { format!("{{\"n\":{i}}}\n") }).collect();
    let bad = input.lines().filter(|l| *l == "oops").count();
    let config = "name: counted\nrun_env:\n  checkpoint: {interval: 100ms, dir: state}\nstreams:\n  s:\n    config:\n      \
         source: {type: File, config: {path: in.jsonl, mode: follow}}\n      operates: [{type: StringToMap, config: {format: json, fields: {n: bigint}}}]\n\
         transforms:\n  - {type: Filter, name: even, config: {where: n % 2 = 0}}\nsink:\n  - {type: File, name: out, config: {path: out.jsonl}}\n";
    site.submit("counted", 1, config, &[("in.jsonl", &input)]);
    site.api.start("counted");
    let want = input
        .lines()
        .filter(|l| *l != "oops")
        .filter(|l| serde_json::from_str::<Value>(l).expect("JSON")["n"].as_i64().expect("n") % 2 == 0)
        .count();
    until("all rows", || (rows(&site.data, 1).lines().count() == want).then_some(()));
    let counts = until("their figures", || Some(site.api.task("counted")["counts"].clone()).filter(|c| c["in"] == all && c["out"] == want));
    assert_eq!(counts, json!({"in": all, "out": want, "rejected": bad, "lost": 0}));
    let (_, points) = site.get("/tasks/counted/points");
    assert!(points.as_array().is_some_and(|p| !p.is_empty()), "{points}");
    // The task page has the same.
    let page = page(&site.api, "/tasks/1/live");
    for shown in [format!("<dd id=\"in\">{all}</dd>"), format!("<dd id=\"out\">{want}</dd>"), format!("<dd id=\"rejected\">{bad}</dd>")] {
        assert!(page.contains(&shown), "{shown}: {page}");
    }
    // A point is in the database within a few seconds; the next console has it.
    let kept = until("a point that is kept", || {
        let script = format!(
            "import sqlite3\nprint(sqlite3.connect({:?}).execute('SELECT min(time) FROM points').fetchone()[0] or 0)",
            site.data.join("console.db")
        );
        let o = Command::new("python3").args(["-c", &script]).output().expect("python3");
        text(&o.stdout).trim().parse::<i64>().ok().filter(|t| *t > 0)
    });
    site.console.kill();
    site.console = Console::start(&site.data);
    site.api = site.api.at(&site.console);
    let (_, points) = site.get("/tasks/counted/points");
    assert_eq!(points[0]["time"], kept, "{points}");
    site.api.reaches("counted", "running");
    site.api.stop("counted", false);
}

fn page(api: &Api, path: &str) -> String {
    let http = crate::console::Http::new();
    http.send(http.1.get(format!("{}{path}", api.url)).bearer_auth(&api.token)).2
}

#[test]
fn a_tap_shows_rows_and_refuses_at_the_place() {
    let site = Site::new();
    site.submit("job", 1, JOB, &[]);
    assert_eq!(site.get("/tasks/job/outputs").0, 409, "it does not run");
    site.api.start("job");
    site.api.reaches("job", "running");
    let (status, outputs) = site.get("/tasks/job/outputs");
    assert_eq!(status, 200, "{outputs}");
    let names: Vec<&str> = outputs.as_array().expect("a list").iter().filter_map(|o| o["name"].as_str()).collect();
    assert!(names.contains(&"events") && names.contains(&"out"), "{names:?}");
    let tap = |query: &str| page(&site.api, &format!("/api/v1/tasks/job/tap?{query}"));
    let text = tap("output=events&limit=5&where=_value%20is%20not%20null");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {text}"))).collect();
    assert!(lines[0]["fields"].is_array() && lines[1..6].iter().all(|l| l["row"]["_value"].is_string()), "{text}");
    assert_eq!((lines.len(), lines[6]["end"]["rows"].as_u64().is_some()), (7, true), "{text}");
    let refused: Value = serde_json::from_str(&tap("output=events&where=1%20%3D%20nothing")).expect("JSON");
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("unknown field `nothing`")), "{refused}");
    assert_eq!(refused["range"], json!([4, 11]));
    let refused: Value = serde_json::from_str(&tap("output=evnts")).expect("JSON");
    assert!(refused["error"]["hint"].as_str().is_some_and(|h| h.contains("did you mean `events`?")), "{refused}");
    // The page's stream.
    let events = page(&site.api, "/tasks/1/tap/rows?output=events&limit=2");
    let kinds: Vec<&str> = events.lines().filter_map(|l| l.strip_prefix("event: ")).collect();
    assert!(kinds[0] == "fields" && kinds.contains(&"rows") && kinds.last() == Some(&"end"), "{events}");
    assert!(page(&site.api, "/tasks/1/tap/rows?output=events&where=(").contains("event: refused"));
    site.api.stop("job", false);
}

#[test]
fn dead_letters_are_replayed_once() {
    let site = Site::new();
    let config = |n: &str| {
        format!(
            "name: j\nrun_env:\n  checkpoint: {{interval: 50ms, dir: state}}\n  dead_letter: {{type: File, config: {{path: bad/letters.jsonl}}}}\n\
             streams:\n  s:\n    config:\n      source: {{type: File, config: {{path: in.jsonl}}}}\n      \
             operates: [{{type: StringToMap, config: {{format: json, fields: {{n: {n}}}}}}}]\nsink:\n  - {{type: File, name: out, config: {{path: out.jsonl}}}}\n"
        )
    };
    site.submit("job", 1, &config("bigint"), &[("in.jsonl", "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":\"<b>\"}\n")]);
    site.api.start("job");
    site.api.reaches("job", "finished");
    assert_eq!(rows(&site.data, 1), "{\"n\":1}\n");
    site.api.submit("job", &config("string"));
    let shown = page(&site.api, "/tasks/1/rejects");
    assert!(shown.contains("wrong-type") && shown.contains("&lt;b&gt;") && !shown.contains("<b>"), "{shown}");
    assert!(page(&site.api, "/api/v1/tasks/job/rejects/0").lines().count() == 2);
    let (_, said) = site.api.ask("POST", "/tasks/job/replay", &json!({"dry_run": true}));
    assert_eq!((&said["way"], &said["rows"]), (&json!("alone"), &json!(2)), "{said}");
    assert_eq!(site.api.task("job")["run"], 1, "nothing was done");
    let (status, said) = site.api.ask("POST", "/tasks/job/replay", &json!({}));
    assert_eq!((status, &said["rows"]), (200, &json!(2)), "{said}");
    until("the end of the replay", || Some(site.api.task("job")).filter(|t| t["run"] == 2 && t["state"] == "finished"));
    assert_eq!(rows(&site.data, 1), "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":\"<b>\"}\n");
    let (_, said) = site.api.ask("POST", "/tasks/job/replay", &json!({}));
    assert!(said["rows"] == 0 && said["said"].to_string().contains("2 were replayed before"), "{said}");
    assert_eq!(site.api.task("job")["run"], 2, "nothing was begun");
    let page = page(&site.api, "/tasks/1/rejects");
    assert!(page.contains("written by all sinks") && page.contains("a run of its own"), "{page}");
}

#[test]
fn what_a_restore_and_a_rollback_do_is_said_in_the_words_of_the_command_line() {
    let site = Site::new();
    site.submit("job", 1, JOB, &[]);
    site.api.start("job");
    until("rows", || (!rows(&site.data, 1).is_empty()).then_some(()));
    let saved = site.api.stop("job", true);
    assert_eq!(saved["result"], "done", "{saved}");
    site.api.reaches("job", "stopped");
    let before = rows(&site.data, 1).lines().count();
    site.api.start("job");
    until("more rows", || (rows(&site.data, 1).lines().count() > before).then_some(()));
    site.api.stop("job", false);
    site.api.reaches("job", "stopped");
    let (_, list) = site.get("/tasks/job/checkpoints");
    let slot = list.as_array().expect("a list").iter().find(|c| c["kind"] == "savepoint").expect("a savepoint")["slot"].to_string();
    let topology = site.job(1).join("topology.yaml");
    let line = |args: &[&str]| {
        let o = millrace().args(["checkpoints", "preview", &slot]).arg(&topology).args(args).output().expect("runs");
        (o.status.code(), text(&o.stdout) + &text(&o.stderr))
    };
    let (code, words) = line(&[]);
    assert!(code == Some(1) && words.contains("would publish again what the checkpoints"), "{words}");
    let (_, seen) = site.get(&format!("/tasks/job/preview?from={slot}"));
    let refused = seen["refused"]["message"].as_str().expect("refused");
    assert!(words.contains(refused) && words.contains(seen["refused"]["detail"].as_str().expect("rows")), "{words} {seen}");
    // The page has the same words, and so has the run itself.
    assert!(page(&site.api, &format!("/tasks/1/restore?from={slot}")).contains(&refused.replace('`', "`")));
    let before = rows(&site.data, 1).lines().count();
    let (_, answer) = site.api.ask("POST", "/tasks/job/start", &json!({"from": slot}));
    assert!(answer["run"].is_number(), "{answer}");
    let failed = site.api.reaches("job", "failed");
    assert!(failed["reason"].as_str().is_some_and(|r| r.contains(refused)), "{failed}");
    assert_eq!(rows(&site.data, 1).lines().count(), before, "a refused start writes nothing");
    let (code, words) = line(&["--accept-duplicates"]);
    assert!(code == Some(0) && words.contains("is published again: `out`"), "{words}");
    let (_, seen) = site.get(&format!("/tasks/job/preview?from={slot}&accept_duplicates=true"));
    let said = seen["said"].as_array().expect("words").last().and_then(|s| s.as_str()).expect("a sentence").to_string();
    assert!(words.contains(&said), "{words} {said}");
    let (_, answer) = site.api.ask("POST", "/tasks/job/start", &json!({"from": slot, "accept_duplicates": true}));
    assert!(answer["run"].is_number(), "{answer}");
    until("rows that come twice", || (rows(&site.data, 1).lines().count() > before).then_some(()));
    until("the words in the log", || site.api.log("job").contains(&said).then_some(()));
    site.api.stop("job", false);
    site.api.reaches("job", "stopped");
    // A rollback past a change of keys: what `millrace diff` says.
    let keyed = |name: &str| {
        JOB.replace("sink:\n", &format!("transforms:\n  - {{type: Dedup, name: {name}, config: {{keys: [_value]}}}}\nsink:\n"))
    };
    site.api.submit("job", &keyed("one"));
    site.api.submit("job", &keyed("two"));
    let shown = page(&site.api, "/tasks/1/versions/2/rollback");
    let (a, b) = (write(site.tmp.path(), "two.yaml", &keyed("two")), write(site.tmp.path(), "one.yaml", &keyed("one")));
    let o = millrace().arg("diff").args([&a, &b]).output().expect("runs");
    assert_eq!(o.status.code(), Some(8));
    let sentence = text(&o.stdout).lines().find(|l| l.contains("does not survive")).expect("a sentence").to_string();
    assert!(shown.contains(&sentence.replace('\'', "&#39;")) && shown.contains("id=\"lost\""), "{shown} {sentence}");
    // Each version is read with its own variables.
    for name in ["one", "two"] {
        let settings = json!({"config": keyed("'${N}'"), "variables": {"N": name}});
        assert_eq!(site.api.ask("PUT", "/tasks/job", &json!({"settings": settings})).0, 200);
    }
    let shown = page(&site.api, "/tasks/1/versions/4/rollback");
    assert!(shown.contains(&sentence.replace('\'', "&#39;")) && shown.contains("id=\"lost\""), "{shown} {sentence}");
}

/// The newest checkpoint is not the newest any more once the job has stopped for it.
#[test]
fn a_running_job_goes_back_only_if_what_it_publishes_until_then_may_come_twice() {
    let site = Site::new();
    site.submit("job", 1, &JOB.replace("interval: 100ms", "interval: 1h"), &[]);
    site.api.start("job");
    site.api.reaches("job", "running");
    let (_, asked) = site.api.ask("POST", "/tasks/job/savepoint", &json!({}));
    let path = format!("/operations/{}", asked["operation"]);
    until("a savepoint", || Some(site.get(&path).1).filter(|o| o["result"] == "done"));
    let before = until("its rows", || Some(rows(&site.data, 1)).filter(|r| !r.is_empty()));
    let (_, list) = site.get("/tasks/job/checkpoints");
    let slot = list[0]["slot"].to_string();
    assert!(page(&site.api, &format!("/tasks/1/restore?from={slot}")).contains("id=\"goes-on\""));
    let http = crate::console::Http::new();
    let restore = |more: &str| {
        let body = format!("_csrf={}&from={slot}{more}", site.api.session.1);
        let request = http.1.post(format!("{}/tasks/1/restore", site.api.url)).header("origin", &site.api.url);
        let request = request.header("cookie", &site.api.session.0).header("content-type", "application/x-www-form-urlencoded");
        http.send(request.body(body))
    };
    let (status, _, text) = restore("");
    assert!(status == 409 && text.contains("name=\"accept_duplicates\""), "{status} {text}");
    assert_eq!((&site.api.task("job")["run"], &site.api.task("job")["state"]), (&json!(1), &json!("running")), "nothing was stopped");
    assert_eq!(restore("&accept_duplicates=1").0, 303);
    until("the second run", || Some(site.api.task("job")).filter(|t| t["run"] == 2 && t["state"] == "running"));
    site.api.stop("job", false);
    site.api.reaches("job", "stopped");
    assert!(rows(&site.data, 1).starts_with(&before));
}

#[test]
fn a_record_of_an_allowed_store_is_shown_and_no_other() {
    let site = Site::new();
    let config = "name: j\nstores:\n  users: {type: Embedded, config: {path: table, key: \"{{uid}}\", load: users.jsonl}}\nstreams:\n  s:\n    config:\n      \
         source: {type: File, config: {path: in.jsonl, mode: follow}}\n      operates: [{type: StringToMap, config: {format: json, fields: {uid: string}}}]\n\
         transforms:\n  - {type: Lookup, name: named, config: {store: users, fields: {town: city, age: {type: bigint}}}}\nsink:\n  - {type: File, name: out, config: {path: out.jsonl}}\n";
    let users = "{\"uid\":\"u/1\",\"city\":\"<i>Linz\",\"age\":7}\n{\"uid\":\"u2\",\"city\":\"Graz\",\"age\":8}\n";
    site.submit("job", 1, config, &[("users.jsonl", users), ("in.jsonl", "{\"uid\":\"u2\"}\n")]);
    let (status, refused) = site.get("/records/users/u2");
    assert_eq!(status, 403);
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("an administrator must allow it")), "{refused}");
    let allow = |store: &str, name: &str| {
        let http = crate::console::Http::new();
        let body = format!("task=1&store={store}&name={name}");
        let request = http.1.post(format!("{}/stores", site.api.url)).bearer_auth(&site.api.token);
        http.send(request.header("content-type", "application/x-www-form-urlencoded").body(body))
    };
    let (status, _, why) = allow("user", "people");
    assert!(status == 422 && why.contains("has no store `user`: it has users"), "{status} {why}");
    assert_eq!(allow("users", "people").0, 303);
    // Whether the job runs or not.
    for run in [false, true] {
        if run {
            site.api.start("job");
            until("a row", || (!rows(&site.data, 1).is_empty()).then_some(()));
        }
        let (status, row) = site.get("/records/people/u%2F1");
        assert_eq!((status, &row["row"]), (200, &json!({"city": "<i>Linz", "age": 7})), "{row}");
        assert_eq!(site.get("/records/people/nobody").1["row"], Value::Null);
    }
    let shown = page(&site.api, "/records/people/u%2F1");
    assert!(shown.contains("&lt;i&gt;Linz") && shown.contains("/tasks/1"), "{shown}");
    assert_eq!(site.get("/records/users/u2").0, 403, "it goes by the name in links alone");
    site.api.stop("job", false);
}
