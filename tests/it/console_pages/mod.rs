//! The console as a browser and programs meet it: the real router and database, no jobs (those are in `console.rs`).

mod accounts;
mod attacks;
mod tasks;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use millrace_console::{App, Options, Peer, router};
use millrace_plan::Confine;
use millrace_sdk::Clock;
use tower::ServiceExt;

const HOST: &str = "127.0.0.1:8800";
const PASSWORD: &str = "correct horse battery";
const SECOND: i64 = 1_000_000;

/// A console with an empty folder.
struct Site {
    router: axum::Router,
    clock: Clock,
    folder: tempfile::TempDir,
    first: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|h| h.to_str().ok()).unwrap_or("")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    /// The value of a cookie that is set.
    fn cookie(&self, name: &str) -> Option<String> {
        let all = self.headers.get_all(header::SET_COOKIE).into_iter().filter_map(|h| h.to_str().ok());
        all.filter_map(|c| c.split(';').next()?.split_once('=')).find(|c| c.0 == name).map(|c| c.1.to_string())
    }

    /// What is told once.
    fn secret(&self) -> String {
        let rest = self.text.split("id=\"secret\">").nth(1).unwrap_or_else(|| panic!("no secret: {} {}", self.status, self.text));
        rest.split('<').next().unwrap().to_string()
    }
}

impl Site {
    fn new() -> Site {
        Site::with(Confine::default())
    }

    fn with(allow: Confine) -> Site {
        Site::of(allow, None)
    }

    /// Behind a proxy of that name.
    fn of(allow: Confine, public_url: Option<&str>) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(1_700_000_000 * SECOND);
        let options = Options {
            folder: folder.path().join("data"),
            listen: HOST.parse().unwrap(),
            public_url: public_url.map(String::from),
            tls: None,
            key_file: None,
            cgroup: None,
            executable: "/nonexistent".into(),
            allow,
            smtp: None,
            mail_from: "console@example.com".into(),
        };
        let (app, first) = App::open(options, clock.clone()).unwrap();
        Site { router: router(app), clock, folder, first: first.expect("a first start") }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(Peer("192.0.2.1".parse().unwrap()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("host", HOST).body(Body::empty()).unwrap()).await
    }

    /// A form from the console's own page, without a session.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = Request::post(path).header("host", HOST).header("origin", format!("http://{HOST}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(Body::from(encoded(fields)));
        self.send(request.unwrap()).await
    }

    async fn login(&self, name: &str, password: &str) -> Answer {
        self.post("/login", &[("name", name), ("password", password)]).await
    }

    /// Logged in, with a password of their own.
    async fn user(&self, name: &str, password: &str) -> Person<'_> {
        let answer = self.login(name, password).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        let mut person = Person { site: self, cookie: answer.cookie("millrace").expect("a session"), csrf: String::new() };
        person.csrf = person.token().await;
        if answer.header("location") == "/account" {
            let done = person.post("/account/password", &[("old", password), ("new", PASSWORD)]).await;
            assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
        }
        person
    }

    async fn admin(&self) -> Person<'_> {
        self.user("admin", &self.first).await
    }

    /// A program with a token.
    async fn api(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", HOST).header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

struct Person<'a> {
    site: &'a Site,
    cookie: String,
    csrf: String,
}

impl Person<'_> {
    async fn token(&self) -> String {
        let page = self.get("/account").await.text;
        page.split("name=\"_csrf\" value=\"").nth(1).and_then(|r| r.split('"').next()).expect("a form").to_string()
    }

    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(path).header("host", HOST).header("cookie", format!("a=b; millrace={}", self.cookie))
    }

    async fn get(&self, path: &str) -> Answer {
        self.site.send(self.request("GET", path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let fields: Vec<_> = fields.iter().copied().chain([("_csrf", self.csrf.as_str())]).collect();
        let request = self.request("POST", path).header("origin", format!("http://{HOST}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(Body::from(encoded(&fields)));
        self.site.send(request.unwrap()).await
    }

    /// A new user, logged in.
    async fn hires(&self, name: &str, role: &str, teams: &[&str]) -> Person<'_> {
        let fields: Vec<_> = [("name", name), ("role", role)].into_iter().chain(teams.iter().map(|t| ("team", *t))).collect();
        let told = self.post("/users", &fields).await;
        self.site.user(name, &told.secret()).await
    }

    async fn new_token(&self, role: &str) -> String {
        self.post("/account/tokens", &[("name", "t"), ("role", role), ("days", "1")]).await.secret()
    }

    /// A task of the team, with a version; its number.
    async fn makes(&self, name: &str, team: &str) -> i64 {
        let made = self.post("/tasks/new", &[("name", name), ("team", team), ("config", FINE), ("do", "save")]).await;
        assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.text);
        made.header("location").strip_prefix("/tasks/").unwrap().parse().unwrap()
    }
}

const FINE: &str =
    "name: fine\nstreams:\n  s:\n    config:\n      source: {type: Inline, config: {rows: [{id: 1}]}}\nsink:\n  - {type: Stdout}\n";

fn encoded(fields: &[(&str, &str)]) -> String {
    let one = |t: &str| -> String { t.bytes().map(|b| format!("%{b:02X}")).collect() };
    fields.iter().map(|(k, v)| format!("{}={}", one(k), one(v))).collect::<Vec<_>>().join("&")
}

/// Pages and calls with the numbers of a task, by method.
fn places(id: i64, name: &str) -> Vec<(String, &'static str)> {
    let mut all = vec![];
    for p in [
        "",
        "/live",
        "/edit",
        "/log",
        "/log/file",
        "/rejects",
        "/checkpoints",
        "/versions/1",
        "/versions/1?with=1",
        "/rejects/0",
        "/tap",
        "/tap/rows?output=s",
        "/restore?from=1",
        "/versions/1/rollback",
    ] {
        all.push((format!("/tasks/{id}{p}"), "GET"));
    }
    for p in [
        "/start",
        "/stop",
        "/savepoint",
        "/restart",
        "/kill",
        "/delete",
        "/alarms/test",
        "/alarms/silence",
        "/versions/1/rollback",
        "/restore",
        "/replay",
    ] {
        all.push((format!("/tasks/{id}{p}"), "POST"));
    }
    for p in ["", "/versions", "/versions/1", "/checkpoints", "/log", "/points", "/preview", "/outputs", "/tap?output=s", "/rejects/0"] {
        all.push((format!("/api/v1/tasks/{name}{p}"), "GET"));
    }
    for p in ["/start", "/stop", "/savepoint", "/kill", "/replay"] {
        all.push((format!("/api/v1/tasks/{name}{p}"), "POST"));
    }
    all
}
