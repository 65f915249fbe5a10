//! What must not work.

use super::*;

#[tokio::test]
async fn other_teams_tasks_do_not_exist() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.post("/teams", &[("name", "other")]).await;
    let mine = admin.hires("mia", "editor", &["1"]).await;
    let theirs = admin.hires("tom", "editor", &["2"]).await;
    let id = mine.makes("job", "1").await;
    let token = theirs.new_token("editor").await;
    for (path, method) in places(id, "job") {
        let answer = match (path.starts_with("/api"), method) {
            (true, method) => site.api(&token, method, &path, "").await,
            (false, "GET") => theirs.get(&path).await,
            (false, _) => theirs.post(&path, &[("from", "latest"), ("name", "job"), ("config", FINE)]).await,
        };
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.text);
    }
    assert_eq!(theirs.post("/tasks/1/edit", &[("name", "stolen"), ("config", FINE)]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(theirs.get("/tasks/new?copy=1").await.status, StatusCode::NOT_FOUND);
    assert_eq!(theirs.post("/lint", &[("id", "1"), ("config", FINE)]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(theirs.post("/tasks/bulk", &[("task", "1"), ("do", "start")]).await.status, StatusCode::CONFLICT);
    let body = serde_json::json!({"settings": {"config": FINE}}).to_string();
    let put = site.api(&token, "PUT", "/api/v1/tasks/job", &body).await;
    assert_eq!(put.status, StatusCode::CONFLICT, "the name is taken, and no more is said");
    assert!(!theirs.get("/tasks").await.text.contains(">job<") && !theirs.get("/operations").await.text.contains("create"));
    let foreign = theirs.post("/tasks/new", &[("name", "n"), ("team", "1"), ("config", FINE), ("do", "save")]).await;
    assert_eq!(foreign.status, StatusCode::UNPROCESSABLE_ENTITY, "not into another team");
    for id in 1..20 {
        let answer = site.api(&token, "GET", &format!("/api/v1/operations/{id}"), "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(admin.get("/tasks/1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let site = Site::new();
    let admin = site.admin().await;
    let id = admin.makes("job", "1").await;
    let viewer = admin.hires("vic", "viewer", &["1"]).await;
    for (path, _) in places(id, "job").into_iter().filter(|(p, m)| *m == "POST" && !p.starts_with("/api")) {
        assert_eq!(viewer.post(&path, &[("from", "latest")]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in ["/tasks/new", "/tasks/1/edit", "/lint"] {
        assert_eq!(viewer.post(path, &[("name", "x"), ("config", FINE)]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(viewer.get("/tasks/1/edit").await.status, StatusCode::FORBIDDEN);
    let operator = admin.hires("ole", "operator", &["1"]).await;
    for path in ["/tasks/1/edit", "/tasks/1/delete", "/tasks/1/versions/1/rollback", "/tasks/new"] {
        assert_eq!(operator.post(path, &[("name", "x"), ("config", FINE)]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

/// What changes something and belongs to no task.
const FIXED: &[&str] = &[
    "/logout",
    "/account/password",
    "/account/tokens",
    "/account/tokens/1/delete",
    "/account/look",
    "/users",
    "/users/1",
    "/users/1/password",
    "/teams",
    "/stores",
    "/stores/1/delete",
    "/tasks/new",
    "/tasks/bulk",
    "/tasks/1/edit",
    "/lint",
    "/complete",
];

/// The lists by which pages and calls are attacked have all that the routers have.
#[test]
fn no_page_is_forgotten() {
    let sources = [include_str!("../../../console/src/web/mod.rs"), include_str!("../../../console/src/web/api.rs")];
    let routes = sources.iter().flat_map(|s| s.split(".route(").skip(1)).map(|r| {
        let path = r.split('"').nth(1).expect("a path").replace("{number}", "1").replace("{name}", "1").replace("{id}", "1");
        (path, r.split(".route(").next().unwrap_or_default().lines().next().unwrap_or_default().to_string())
    });
    let places: Vec<(String, &str)> =
        places(1, "1").into_iter().map(|(p, m)| (p.split('?').next().unwrap_or_default().into(), m)).collect();
    let mut seen = 0;
    for (path, handlers) in routes.filter(|(path, _)| !path.contains("/records/")) {
        let of_task = path.starts_with("/tasks/1") || path.starts_with("/api/v1/tasks/1");
        for (method, what) in [("GET", "get("), ("POST", "post(")] {
            if handlers.split('"').last().is_some_and(|h| h.contains(what)) {
                let listed = places.iter().any(|(p, m)| p.replace("rejects/0", "rejects/1") == path && *m == method);
                let fixed = FIXED.contains(&path.as_str());
                assert!(listed || fixed || (!of_task && (method == "GET" || path == "/login")), "{method} {path} is attacked by no test");
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "{seen} routes were read");
}

#[tokio::test]
async fn a_recorded_request_is_worth_nothing_after_the_logout() {
    let site = Site::new();
    let admin = site.admin().await;
    let id = admin.makes("job", "1").await;
    let eve = admin.hires("eve", "editor", &["1"]).await;
    let recorded = |p: &Person| {
        let request = p.request("POST", &format!("/tasks/{id}/delete")).header("origin", format!("http://{HOST}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(Body::from(encoded(&[("name", "job"), ("_csrf", &p.csrf)]))).unwrap()
    };
    let before = recorded(&eve);
    eve.post("/logout", &[]).await;
    assert!(matches!(site.send(before).await.status.as_u16(), 303 | 401 | 403));
    // Neither does it fit the next session of the same person.
    let again = site.user("eve", PASSWORD).await;
    let mut mixed = recorded(&again);
    *mixed.body_mut() = Body::from(encoded(&[("name", "job"), ("_csrf", &eve.csrf)]));
    assert_eq!(site.send(mixed).await.status, StatusCode::FORBIDDEN);
    assert_eq!(admin.get(&format!("/tasks/{id}")).await.status, StatusCode::OK, "the task is there");
}

#[tokio::test]
async fn forged_requests_are_refused() {
    let site = Site::new();
    let admin = site.admin().await;
    let id = admin.makes("job", "1").await;
    let other = admin.hires("eva", "editor", &["1"]).await;
    let paths = places(id, "job").into_iter().filter(|(_, m)| *m == "POST").map(|(p, _)| p).chain(FIXED.iter().map(ToString::to_string));
    for path in paths {
        let own = format!("http://{HOST}");
        let cases = [
            ("no token", own.as_str(), HOST, String::new()),
            ("another session's token", &own, HOST, other.csrf.clone()),
            ("a foreign page", "http://evil.example", HOST, admin.csrf.clone()),
            ("no origin", "", HOST, admin.csrf.clone()),
            ("a page of no origin", "null", HOST, admin.csrf.clone()),
            ("a foreign name", "http://evil.example:8800", "evil.example:8800", admin.csrf.clone()),
        ];
        for (what, origin, host, csrf) in cases {
            let mut request = Request::post(&path).header("host", host).header("cookie", format!("millrace={}", admin.cookie));
            if !origin.is_empty() {
                request = request.header("origin", origin);
            }
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let answer = site.send(request.body(Body::from(encoded(&[("_csrf", &csrf)]))).unwrap()).await;
            assert!(matches!(answer.status.as_u16(), 403 | 421), "{path} with {what}: {}", answer.status);
        }
    }
    assert_eq!(admin.get("/tasks").await.status, StatusCode::OK, "nothing of it was done");
    for host in ["evil.example", "127.0.0.1.evil.example:8800", "", "169.254.169.254"] {
        let answer = site.send(Request::get("/login").header("host", host).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    for path in [
        "/login",
        "/tasks",
        "/tasks/1",
        "/tasks/1/live",
        "/tasks/1/log/file",
        "/nothing",
        "/assets/nothing",
        "/api/v1/tasks",
        "/api/nothing",
        "/users",
    ] {
        let answer = admin.get(path).await;
        let csp = answer.header("content-security-policy");
        assert!(
            csp.starts_with("default-src 'none'") && !csp.contains("unsafe") && csp.contains("frame-ancestors 'none'"),
            "{path}: {csp}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(!answer.text.contains(" style=") && !answer.text.contains(" onclick") && !answer.text.contains("<style"), "{path}");
    }
    let page = admin.get("/tasks").await.text;
    let asset = page.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    let script = site.get(asset).await;
    assert!(script.status == StatusCode::OK && script.header("cache-control").contains("immutable"), "{asset}");
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing comes from elsewhere");
}

const XSS: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "'-alert(1)-'",
    "{{7*7}} ${7*7} <%= 7*7 %>",
];

#[tokio::test]
async fn no_field_becomes_markup() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    for bad in XSS {
        let config = format!("{FINE}# {bad}\n");
        let broken = FINE.replace("name: fine", &format!("name: '{}'", bad.replace('\'', "''"))).replace("Inline", bad);
        for config in [&config, &broken] {
            for fields in [
                vec![("name", "job"), ("config", config), ("description", bad), ("tags", bad), ("note", bad), ("do", "save")],
                vec![
                    ("name", "job"),
                    ("config", config),
                    ("memory", bad),
                    ("mails", bad),
                    ("webhook", bad),
                    ("workers", bad),
                    ("do", "save"),
                ],
                vec![("name", "job"), ("config", config), ("restart", "fixed_delay"), ("delay", bad), ("do", "save")],
                vec![("name", bad), ("config", config), ("do", "save")],
                vec![("name", "job"), ("config", config), ("variables", bad), ("secret_name", bad), ("secret_value", bad), ("do", "draft")],
            ] {
                let answer = admin.post("/tasks/1/edit", &fields).await;
                assert_clean(&answer.text, bad);
            }
            let linted = admin.post("/lint", &[("config", config)]).await.json();
            assert_clean(linted["graph"].as_str().unwrap(), bad);
        }
        for field in ["q", "state", "tag"] {
            assert_clean(&admin.get(&format!("/tasks?{}", encoded(&[(field, bad)]))).await.text, bad);
        }
        assert_clean(&admin.get(&format!("/login?{}", encoded(&[("to", bad)]))).await.text, bad);
        assert_clean(&site.login(bad, bad).await.text, bad);
        assert_clean(&admin.post("/users", &[("name", bad), ("role", bad)]).await.text, bad);
        assert_clean(&admin.post("/teams", &[("name", bad)]).await.text, bad);
        assert_clean(&admin.post("/tasks/1/start", &[("from", bad)]).await.text, bad);
        for page in ["/tasks", "/tasks/1", "/tasks/1/edit", "/tasks/1/live", "/operations", "/users", "/account", "/tasks/1/versions/2"] {
            assert_clean(&admin.get(page).await.text, bad);
        }
        site.clock.set(site.clock.now() + 1000 * SECOND);
    }
}

fn assert_clean(text: &str, bad: &str) {
    for raw in ["<script>alert", "<img", "</textarea><script", "</title><script"] {
        assert!(!text.contains(raw), "{bad} came back as it was: {text}");
    }
    assert!(!text.contains("49 49") && !text.contains("49 ${"), "{bad} was evaluated");
}

#[tokio::test]
async fn secrets_are_set_and_never_told() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let value = "hunter22-very-secret";
    let config = FINE.replace("id: 1", "id: '${PW}'");
    let set = admin
        .post("/tasks/1/edit", &[("name", "job"), ("config", &config), ("secret_name", "PW"), ("secret_value", value), ("do", "save")])
        .await;
    assert_eq!(set.status, StatusCode::SEE_OTHER, "{}", set.text);
    std::fs::create_dir_all(site.folder.path().join("data/tasks/1/control")).unwrap();
    std::fs::write(site.folder.path().join("data/tasks/1/control/log"), format!("connecting with {value}\n")).unwrap();
    let token = admin.new_token("admin").await;
    for (path, _) in places(1, "job").into_iter().filter(|(p, m)| *m == "GET" && p != "/tasks/1/log") {
        let answer = if path.starts_with("/api") { site.api(&token, "GET", &path, "").await } else { admin.get(&path).await };
        assert!(!answer.text.contains(value), "{path}: {}", answer.text);
    }
    for path in ["/tasks", "/operations", "/tasks/new?copy=1"] {
        assert!(!admin.get(path).await.text.contains(value), "{path}");
    }
    let broken = config.replace("Inline", "Inlin").replace("name: fine", "name: ${PW}\nx: ${PW}");
    assert!(!admin.post("/lint", &[("id", "1"), ("config", &broken)]).await.text.contains(value));
    assert!(admin.get("/tasks/1/log/file").await.text.contains("connecting with ***"));
    // The log of yesterday has the secret of yesterday.
    admin
        .post("/tasks/1/edit", &[("name", "job"), ("config", &config), ("secret_name", "PW"), ("secret_value", "another"), ("do", "save")])
        .await;
    assert!(admin.get("/tasks/1/log/file").await.text.contains("connecting with ***"));
    admin.post("/tasks/1/edit", &[("name", "job"), ("config", &config), ("secret_delete", "PW"), ("do", "draft")]).await;
    assert!(admin.get("/tasks/1/log/file").await.text.contains("connecting with ***"));
    assert!(admin.get("/tasks/1/edit").await.text.contains("PW"));
}

#[tokio::test]
async fn a_configuration_reaches_only_what_is_allowed() {
    let allow = Confine { addresses: vec!["redis.internal:6379".into(), "s3://allowed".into()], ..Confine::default() };
    let site = Site::with(allow);
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let source = |s: &str| FINE.replace("{type: Inline, config: {rows: [{id: 1}]}}", s);
    let sink = |s: &str| FINE.replace("{type: Stdout}", s);
    let own = site.folder.path().join("data/console.db").display().to_string();
    let control = site.folder.path().join("data/tasks/1/control").display().to_string();
    for config in [
        source("{type: File, config: {path: /etc/passwd}}"),
        source("{type: File, config: {path: ../../../console.db}}"),
        source("{type: File, config: {path: ../control/log}}"),
        source(&format!("{{type: File, config: {{path: {own}}}}}")),
        // What the console keeps of its runs lies beside the job's folder.
        source(&format!("{{type: File, config: {{path: {control}/run.json}}}}")),
        sink(&format!("{{type: File, config: {{path: {control}/run.json}}}}")),
        sink(&format!("{{type: File, config: {{path: {control}/lock, on_exists: append}}}}")),
        format!("{FINE}run_env: {{state_dir: {control}}}\n"),
        source("{type: File, config: {path: '${P}'}}"),
        source("{type: Kafka, config: {brokers: '169.254.169.254:80', topics: [a]}}"),
        source("{type: Kafka, config: {brokers: 'redis.internal:6379,localhost:22', topics: [a]}}"),
        source("{type: Inline, config: {rows: [{id: '${file:/etc/passwd}'}]}}"),
        sink("{type: File, config: {path: /tmp/x}}"),
        sink("{type: Redis, config: {url: 'redis://localhost', mode: set, key: k, value: v}}"),
        sink("{type: Redis, config: {url: 'redis://redis.internal:6379@localhost', mode: set, key: k, value: v}}"),
        sink("{type: ClickHouse, config: {url: 'http://localhost:8123', table: t}}"),
        sink("{type: HBase, config: {thrift: 'localhost:9090', table: t, key: k, family: d}}"),
        sink("{type: Kafka, config: {brokers: 'localhost:9092', topic: t}}"),
        sink("{type: Kafka, config: {brokers: 'redis.internal:6379', topic: t, properties: {ssl.ca.location: /etc/passwd}}}"),
        sink("{type: Kafka, config: {brokers: 'redis.internal:6379', topic: t, properties: {sasl.kerberos.keytab: /etc/passwd}}}"),
        sink(
            "{type: Kafka, config: {brokers: 'redis.internal:6379', topic: t, properties: {sasl.oauthbearer.metadata.authentication.type: azure_imds}}}",
        ),
        sink("{type: Embedded, config: {path: /tmp/x, key: k}}"),
        sink("{type: Redis, config: {url: 'redis+unix:///run/redis.sock', mode: set, key: k, value: v}}"),
        format!("{FINE}stores: {{a: {{type: Redis, config: {{url: 'redis://localhost', key: k}}}}}}\n"),
        format!("{FINE}stores: {{a: {{type: HBase, config: {{thrift: 'localhost:9090', table: t, key: k, family: d}}}}}}\n"),
        format!("{FINE}stores: {{a: {{type: Embedded, config: {{path: /tmp/x, key: k}}}}}}\n"),
        format!("{FINE}stores: {{a: {{type: Embedded, config: {{path: x, load: /etc/passwd, key: k}}}}}}\n"),
        format!("{FINE}run_env: {{checkpoint: {{dir: 's3://allowed/x'}}}}\n"),
        format!("{FINE}run_env: {{state_dir: /tmp/x}}\n"),
        format!("{FINE}run_env: {{checkpoint: {{dir: /tmp/x}}}}\n"),
        format!("{FINE}run_env: {{checkpoint: {{dir: 's3://bucket/x', s3: {{endpoint: 'http://127.0.0.1:1'}}}}}}\n"),
        format!("{FINE}run_env: {{metrics: {{listen: '0.0.0.0:1'}}}}\n"),
        format!("{FINE}run_env: {{alerts: {{webhook: {{url: 'http://169.254.169.254/'}}}}}}\n"),
        format!("{FINE}run_env: {{alerts: {{mail: {{host: localhost, from: a@b.c, to: a@b.c}}}}}}\n"),
    ] {
        let fields = [("name", "job"), ("config", config.as_str()), ("variables", "P=/etc/passwd"), ("do", "save")];
        let answer = admin.post("/tasks/1/edit", &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{config}");
        assert!(answer.text.contains("not-allowed"), "{config}: {}", answer.text);
    }
    // What is there outside and what is not is told apart by nobody.
    let outside = |file: &str| format!("include: [{file}]\n{FINE}");
    for config in [outside("/etc/passwd"), outside("/etc/not-there"), outside("../../../console.db"), outside("../../../not-there")] {
        let answer = admin.post("/tasks/1/edit", &[("name", "job"), ("config", config.as_str()), ("do", "save")]).await;
        assert!(answer.text.contains("include-outside"), "{config}: {}", answer.text);
    }
    for config in [
        source("{type: File, config: {path: in.jsonl}}"),
        sink("{type: File, config: {path: out/x.jsonl}}"),
        // Names of fields are no addresses, and properties that set a size are harmless.
        source("{type: Inline, config: {rows: [{url: 'http://a', host: b, properties: {file: c}}]}}"),
        sink("{type: Redis, config: {url: 'redis://redis.internal:6379', key: k, mode: hset, columns: [id]}}"),
        sink(
            "{type: Kafka, config: {brokers: 'redis.internal:6379', topic: t, format: json, properties: {socket.keepalive.enable: true}}}",
        ),
    ] {
        let answer = admin.post("/tasks/1/edit", &[("name", "job"), ("config", &config), ("do", "save")]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{config}: {}", answer.text);
    }
    for from in ["/etc/passwd", "../../1", "--accept-duplicates", "s3://x/y", "-1"] {
        let answer = admin.post("/tasks/1/start", &[("from", from)]).await;
        assert!(matches!(answer.status.as_u16(), 403 | 422), "{from}: {}", answer.status);
    }
}

/// Every text of a source, sink, store or of `run_env` is a path or an address by its schema, a text of the language, or one of these, which
/// lead nowhere: names within a server that is allowed, formats, and the like. A new part's texts must be looked at before they get here.
const HARMLESS: &[&str] = &[
    "source.File.charset",
    "source.File.delimiter",
    "source.File.quote",
    "source.Generator.start_time",
    "source.Inline.lines[]",
    "source.Kafka.charset",
    "source.Kafka.group",
    "source.Kafka.security.key_password",
    "source.Kafka.security.password",
    "source.Kafka.security.username",
    "source.Kafka.start.timestamp",
    "source.Kafka.topics",
    "source.Kafka.topics[]",
    "source.Stdin.charset",
    "sink.ClickHouse.database",
    "sink.ClickHouse.markers",
    "sink.ClickHouse.password",
    "sink.ClickHouse.table",
    "sink.ClickHouse.user",
    "sink.HBase.family",
    "sink.HBase.heartbeat",
    "sink.HBase.marker_row",
    "sink.HBase.table",
    "sink.Kafka.marker_topic",
    "sink.Kafka.security.key_password",
    "sink.Kafka.security.password",
    "sink.Kafka.security.username",
    "sink.Redis.password",
    "sink.Redis.username",
    "store.HBase.family",
    "store.HBase.heartbeat",
    "store.HBase.table",
    "store.Redis.password",
    "store.Redis.username",
    "run_env.alerts.mail.from",
    "run_env.alerts.mail.password",
    "run_env.alerts.mail.to",
    "run_env.alerts.mail.to[]",
    "run_env.alerts.mail.username",
    "run_env.alerts.webhook.headers.*",
    "run_env.checkpoint.s3.access_key",
    "run_env.checkpoint.s3.region",
    "run_env.checkpoint.s3.secret_key",
    "run_env.dead_letter.input",
    "run_env.dead_letter.input[]",
    "run_env.dead_letter.name",
    "run_env.time_zone",
];

#[test]
fn no_text_of_a_part_is_forgotten() {
    let whole = millrace_plan::json_schema();
    let parts = millrace_sdk::Part::all().into_iter().filter(|p| p.kind().name() != "operator");
    let parts = parts.map(|p| (format!("{}.{}", p.kind().name(), p.name), serde_json::to_value((p.schema)()).expect("JSON")));
    let mut found = vec![];
    for (name, schema) in parts {
        texts(&schema, &schema, &name, 0, &mut found);
    }
    texts(&whole, &whole["$defs"]["run_env"], "run_env", 0, &mut found);
    found.sort();
    found.dedup();
    let unknown: Vec<_> = found.iter().filter(|f| !HARMLESS.contains(&f.as_str())).collect();
    assert!(unknown.is_empty(), "mark with `x-address`, make them `PathText`, or say that they lead nowhere: {unknown:#?}");
    let gone: Vec<_> = HARMLESS.iter().filter(|h| !found.iter().any(|f| f == *h)).collect();
    assert!(gone.is_empty(), "these are no texts any more: {gone:?}");
}

/// The places of free texts in a schema.
fn texts(root: &serde_json::Value, schema: &serde_json::Value, place: &str, depth: usize, found: &mut Vec<String>) {
    const LANGUAGE: &[&str] = &["path", "expr", "template", "field", "type", "duration", "size"];
    if depth > 12 || schema["x-address"] == true || schema["x-properties"] == true {
        return;
    }
    if let Some(to) = schema["$ref"].as_str() {
        let to = root.pointer(to.trim_start_matches('#')).expect("a definition");
        texts(root, to, place, depth + 1, found);
    }
    let is = |t: &serde_json::Value| t == "string";
    let text = is(&schema["type"]) || schema["type"].as_array().is_some_and(|all| all.iter().any(is));
    let known = schema["format"].as_str().is_some_and(|f| LANGUAGE.contains(&f) || f.starts_with(['u', 'i']) || f == "double");
    // The whole language's schema lets a variable stand for a number; what comes of it is a number.
    let number = schema["pattern"] == "\\$\\{";
    if text && !known && !number && schema.get("enum").is_none() && schema.get("const").is_none() {
        found.push(place.to_string());
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        texts(root, inner, &format!("{place}.{key}"), depth + 1, found);
    }
    texts_if(root, &schema["additionalProperties"], &format!("{place}.*"), depth, found);
    texts_if(root, &schema["items"], &format!("{place}[]"), depth, found);
    for several in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        schema[several].as_array().into_iter().flatten().for_each(|s| texts(root, s, place, depth + 1, found));
    }
}

fn texts_if(root: &serde_json::Value, schema: &serde_json::Value, place: &str, depth: usize, found: &mut Vec<String>) {
    if schema.is_object() {
        texts(root, schema, place, depth + 1, found);
    }
}

#[tokio::test]
async fn too_much_is_refused() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let deep = "[".repeat(50_000);
    for config in [bomb, &deep] {
        let answer = admin.post("/tasks/1/edit", &[("name", "job"), ("config", config), ("do", "save")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let long = "#".repeat(1_100_000);
    let answer = admin.post("/tasks/1/edit", &[("name", "job"), ("config", &long), ("do", "save")]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer = admin.post("/tasks/1/edit", &[("config", &"x".repeat(2_000_000))]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let variables = format!("A={}", "x".repeat(70_000));
    let answer = admin.post("/tasks/1/edit", &[("name", "job"), ("config", FINE), ("variables", &variables), ("do", "save")]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let site = Site::new();
    let admin = site.admin().await;
    for path in [
        "/assets/..%2f..%2fconsole.db",
        "/assets/%2e%2e/console.db",
        "/tasks/..%2f1",
        "/tasks/1%00",
        "/tasks/-1",
        "/tasks/99999999999999999999",
        "/tasks/1'--",
    ] {
        let answer = admin.get(path).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {}", answer.status);
    }
}

/// What a stranger may make the console hold is little, and nothing of theirs is read where they may not be.
#[tokio::test]
async fn strangers_are_not_listened_to_for_long() {
    let site = Site::new();
    let long = "x".repeat(20 << 10);
    assert_eq!(site.login("admin", &long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    // A body that never ends is not waited for.
    for path in ["/tasks/new", "/lint", "/api/v1/tasks/job", "/tasks/bulk"] {
        let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>());
        let request = Request::post(path).header("host", HOST).header("origin", format!("http://{HOST}")).body(endless).unwrap();
        assert!(matches!(site.send(request).await.status.as_u16(), 401 | 403), "{path}");
    }
}

#[tokio::test]
async fn nobody_opens_more_logs_than_are_theirs() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let viewer = admin.hires("vic", "viewer", &["1"]).await;
    let mut open = vec![];
    let refused = loop {
        let request = viewer.request("GET", "/tasks/1/log").body(Body::empty()).unwrap();
        let response = site.router.clone().oneshot(request).await.unwrap();
        match response.status() {
            StatusCode::OK => open.push(response),
            status => break status,
        }
        assert!(open.len() < 1000);
    };
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(viewer.get("/tasks/1/log").await.header("retry-after"), "10");
    // Others have theirs, and so has who closes one.
    let of_admin = site.router.clone().oneshot(admin.request("GET", "/tasks/1/log").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(of_admin.status(), StatusCode::OK);
    open.pop();
    let again = site.router.clone().oneshot(viewer.request("GET", "/tasks/1/log").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
}

/// A log that is open ends with whatever let its reader in, though new lines come all the time.
#[tokio::test]
async fn an_open_log_ends_with_the_right_to_read_it() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.post("/teams", &[("name", "other")]).await;
    admin.makes("job", "1").await;
    let control = site.folder.path().join("data/tasks/1/control");
    std::fs::create_dir_all(&control).unwrap();
    std::fs::write(control.join("log"), "first\n").unwrap();
    let eve = admin.hires("eve", "operator", &["1"]).await;
    let ways = [
        ("the token is deleted", Some("/account/tokens/1/delete"), vec![]),
        ("the user is disabled", None, vec![("role", "operator"), ("team", "1")]),
        ("the user is of another team", None, vec![("role", "operator"), ("active", "1"), ("team", "2")]),
    ];
    for (i, (what, path, fields)) in ways.into_iter().enumerate() {
        admin.post("/users/2", &[("role", "operator"), ("active", "1"), ("team", "1")]).await;
        let eve = if i == 0 { &eve } else { &site.user("eve", PASSWORD).await };
        let token = eve.new_token("viewer").await;
        let request = Request::get("/tasks/1/log").header("host", HOST).header("authorization", format!("Bearer {token}"));
        let mut body = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("first"), "{what}");
        match path {
            Some(path) => eve.post(path, &[]).await,
            None => admin.post("/users/2", &fields).await,
        };
        let mut after = 0;
        while let Some(frame) = body.frame().await {
            let _ = frame.unwrap();
            after += 1;
            assert!(after < 1000, "{what}, and the log goes on");
            let mut log = std::fs::OpenOptions::new().append(true).open(control.join("log")).unwrap();
            std::io::Write::write_all(&mut log, b"another\n").unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// A rule is silenced if the task has it: what is sent is not kept.
#[tokio::test]
async fn only_a_rule_of_the_task_is_silenced_and_a_task_has_not_more_than_can_be_looked_at() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let token = admin.new_token("admin").await;
    let submit = async |rules: usize| {
        let rules: Vec<_> = (0..rules).map(|n| serde_json::json!({"what": "lag", "bound": n})).collect();
        let body = serde_json::json!({"settings": {"config": FINE, "alarms": rules}}).to_string();
        site.api(&token, "PUT", "/api/v1/tasks/job", &body).await.status.as_u16()
    };
    assert_eq!((submit(101).await, submit(2).await), (422, 200));
    for (rule, want) in [("lag > 1", 303), ("lag > 2", 422), ("", 422), ("<script>", 422)] {
        let answer = admin.post("/tasks/1/alarms/silence", &[("rule", rule), ("hours", "1")]).await;
        assert_eq!(answer.status.as_u16(), want, "{rule}");
    }
}

/// The path of a webhook is a secret with many services.
#[tokio::test]
async fn who_may_not_change_a_webhook_sees_only_its_host() {
    let site = Site::with(Confine { addresses: vec!["hooks.example.com".into()], ..Confine::default() });
    let admin = site.admin().await;
    let fields = [("name", "job"), ("team", "1"), ("config", FINE), ("webhook", "https://hooks.example.com/T0/hunter22"), ("do", "save")];
    assert_eq!(admin.post("/tasks/new", &fields).await.status, StatusCode::SEE_OTHER);
    admin.post("/tasks/1/edit", &[("name", "job"), ("config", FINE), ("do", "save")]).await;
    for (role, sees) in [("viewer", false), ("operator", false), ("editor", true)] {
        let person = admin.hires(role, role, &["1"]).await;
        let token = person.new_token("viewer").await;
        let page = person.get("/tasks/1/versions/2").await.text;
        assert!(page.contains("hooks.example.com") && page.contains("hunter22") == sees, "{role}: {page}");
        // A token may no more than its own role.
        let told = site.api(&token, "GET", "/api/v1/tasks/job/versions/1", "").await.text;
        assert!(told.contains("https://hooks.example.com/***") && !told.contains("hunter22"), "{role}: {told}");
        for page in ["/tasks/1", "/tasks", "/operations"] {
            assert!(!person.get(page).await.text.contains("hunter22"), "{role}: {page}");
        }
    }
}
