//! `millrace submit | start | stop | logs | ps`: a console's tasks from the command line, by its HTTP API.

use crate::cli::{ConsoleArgs, LogsArgs, PsArgs, StartArgs, SubmitArgs};
use crate::exit::Exit;
use crate::pages::print;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How long an answer may take: a submit lints.
const ANSWER: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// The token, which no command line shows.
const TOKEN: &str = "MILLRACE_TOKEN";

struct Console {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    url: String,
    token: String,
}

impl Console {
    fn new(args: &ConsoleArgs) -> Result<Console, Exit> {
        let told = |e: String| {
            eprintln!("error: {e}");
            Exit::Dependency
        };
        let Ok(token) = std::env::var(TOKEN) else {
            eprintln!("error: the variable {TOKEN} is not set");
            eprintln!("  Hint: make a token on the page `Account` of the console");
            return Err(Exit::Usage);
        };
        let client = reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|e| told(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| told(e.to_string()))?;
        Ok(Console { client, runtime, url: args.console.trim_end_matches('/').into(), token })
    }

    /// `path`: after `/api/v1`, its names encoded.
    fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Exit> {
        let work = async {
            let mut request = self.client.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
        };
        let (status, text) = self.runtime.block_on(work).map_err(|e| {
            eprintln!("error: the console at {} does not answer: {}", self.url, e.without_url());
            Exit::Dependency
        })?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        eprintln!("error: {}", answer["error"]["message"].as_str().unwrap_or("the console refuses"));
        Err(if status.as_u16() == 422 { Exit::Config } else { Exit::Dependency })
    }
}

/// A name in a path.
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for b in name.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(b)),
            _ => out += &format!("%{b:02X}"),
        }
    }
    out
}

fn done(result: Result<Exit, Exit>) -> Exit {
    result.unwrap_or_else(|e| e)
}

pub fn submit(args: &SubmitArgs) -> Exit {
    let work = || {
        let console = Console::new(&args.console)?;
        let config = std::fs::read_to_string(&args.file).map_err(|e| {
            eprintln!("error: cannot read `{}`: {e}", args.file.display());
            Exit::Dependency
        })?;
        let stem = args.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let name = args.name.clone().unwrap_or(stem);
        let path = format!("/tasks/{}", encoded(&name));
        // What is not said here stays as it is.
        let newest = console.ask(Method::GET, "/tasks", None)?;
        let there = newest.as_array().and_then(|all| all.iter().find(|t| t["name"] == name.as_str()));
        let mut settings = match there.and_then(|t| t["version"].as_i64()).filter(|v| *v > 0) {
            Some(v) => console.ask(Method::GET, &format!("{path}/versions/{v}"), None)?,
            None => Value::Object(Map::new()),
        };
        settings["config"] = config.into();
        for (key, value) in &args.set.set {
            settings["variables"][key] = value.as_str().into();
        }
        let body = json!({"team": args.team, "note": args.note, "settings": settings});
        let made = console.ask(Method::PUT, &path, Some(body))?;
        print(&format!("task {name}: version {}\n", made["version"]));
        match args.start {
            true => begin(&console, &name, &json!({"from": "latest"})),
            false => Ok(Exit::Ok),
        }
    };
    done(work())
}

fn begin(console: &Console, name: &str, body: &Value) -> Result<Exit, Exit> {
    let begun = console.ask(Method::POST, &format!("/tasks/{}/start", encoded(name)), Some(body.clone()))?;
    Ok(print(&format!("task {name}: run {}\n", begun["run"])))
}

pub fn start(args: &StartArgs) -> Exit {
    let body = json!({"from": args.from, "accept_duplicates": args.accept_duplicates, "allow_dropped_state": args.allow_dropped_state});
    done(Console::new(&args.console).and_then(|c| begin(&c, &args.name, &body)))
}

/// Stops a task's job, and waits until it has ended.
pub fn stop(console: &ConsoleArgs, name: &str, savepoint: bool, drain: bool) -> Exit {
    let work = || {
        let console = Console::new(console)?;
        let path = format!("/tasks/{}/stop", encoded(name));
        let asked = console.ask(Method::POST, &path, Some(json!({"savepoint": savepoint, "drain": drain})))?;
        loop {
            let operation = console.ask(Method::GET, &format!("/operations/{}", asked["operation"]), None)?;
            let detail = operation["detail"].as_str().unwrap_or_default();
            match operation["result"].as_str() {
                Some("pending") => std::thread::sleep(PAUSE),
                Some("done") => {
                    print(&format!("{detail}\n"));
                    break;
                }
                _ => {
                    eprintln!("error: {detail}");
                    return Err(Exit::Dependency);
                }
            }
        }
        while console.ask(Method::GET, &format!("/tasks/{}", encoded(name)), None)?["state"] == "stopping" {
            std::thread::sleep(PAUSE);
        }
        Ok(Exit::Ok)
    };
    done(work())
}

pub fn logs(args: &LogsArgs) -> Exit {
    let work = || {
        let console = Console::new(&args.console)?;
        let mut after = 0;
        loop {
            let piece = console.ask(Method::GET, &format!("/tasks/{}/log?after={after}", encoded(&args.name)), None)?;
            let text = piece["text"].as_str().unwrap_or_default();
            print(text);
            after = piece["next"].as_u64().unwrap_or(after);
            match (text.is_empty(), args.follow) {
                (true, false) => return Ok(Exit::Ok),
                (true, true) => std::thread::sleep(PAUSE),
                (false, _) => {}
            }
        }
    };
    done(work())
}

pub fn ps(args: &PsArgs) -> Exit {
    let work = || {
        let all = Console::new(&args.console)?.ask(Method::GET, "/tasks", None)?;
        if args.json {
            return Ok(print(&format!("{all}\n")));
        }
        let tasks = all.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |t: &Value, key: &str| t[key].as_str().unwrap_or_default().to_string();
        let width = tasks.iter().map(|t| text(t, "name").chars().count()).max().unwrap_or(4).max(4);
        let mut out = format!("{:width$}  {:14}  {:>7}  {:>10}  {:>10}  {:>12}  team\n", "name", "state", "version", "up", "in/s", "lag");
        for t in tasks {
            let figure = |key: &str| t["figures"][key].as_f64().map_or("-".into(), |n| format!("{n:.0}"));
            let up = t["uptime_seconds"].as_f64().filter(|s| *s > 0.0).map_or("-".into(), |s| format!("{s:.0} s"));
            out += &format!(
                "{:width$}  {:14}  {:>7}  {up:>10}  {:>10}  {:>12}  {}\n",
                text(t, "name"),
                text(t, "state"),
                t["version"].to_string(),
                figure("records_in"),
                figure("lag"),
                text(t, "team")
            );
        }
        Ok(print(&out))
    };
    done(work())
}
