//! Tasks: drafts, versions, lint, lists.

use super::*;
use serde_json::json;

const BROKEN: &str =
    "name: x\nstreams:\n  s:\n    config:\n      source: {type: Inlin, config: {rows: [{id: 1}]}}\nsink:\n  - {type: Stdout}\n";

#[tokio::test]
async fn what_a_run_would_refuse_is_a_draft_and_nothing_is_lost() {
    let site = Site::new();
    let admin = site.admin().await;
    let fields =
        [("name", "job"), ("team", "1"), ("config", BROKEN), ("tags", "a, b"), ("description", "mine"), ("variables", "A=1\nB=x=y\n")];
    let refused = admin.post("/tasks/new", &[&fields[..], &[("do", "save")]].concat()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text.contains("unknown-part") && refused.text.contains("5:22"), "{}", refused.text);
    let form = admin.get("/tasks/1/edit").await.text;
    for kept in ["type: Inlin,", "a, b", "mine", "A=1\nB=x=y"] {
        assert!(form.contains(kept), "{kept}: {form}");
    }
    assert_eq!(admin.post("/tasks/1/start", &[("from", "latest")]).await.status, StatusCode::CONFLICT, "a draft does not run");
    assert_eq!(admin.post("/tasks/new", &fields).await.status, StatusCode::CONFLICT, "the name is taken");
    let saved = admin.post("/tasks/1/edit", &[("name", "job"), ("config", FINE), ("do", "save"), ("note", "mended")]).await;
    assert_eq!((saved.status, saved.header("location")), (StatusCode::SEE_OTHER, "/tasks/1"));
    let page = admin.get("/tasks/1").await.text;
    assert!(page.contains("mended") && page.contains("not started"), "{page}");
}

#[tokio::test]
async fn fields_without_meaning_are_refused_and_kept() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    for (field, value) in [
        ("memory", "lots"),
        ("memory", "1GiB}"),
        ("workers", "x"),
        ("workers", "0"),
        ("workers", "300"),
        ("processes", "65"),
        ("open_files", "3"),
        ("variables", "1A=2"),
        ("variables", "no sign"),
        ("mails", "no address"),
        ("webhook", "file:///etc/passwd"),
        ("webhook", "http://169.254.169.254/"),
    ] {
        let refused = admin.post("/tasks/1/edit", &[("name", "job"), ("config", FINE), (field, value), ("do", "save")]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}={value}");
    }
    let restart = [("restart", "fixed_delay"), ("attempts", "3"), ("delay", "1s}, x: {")];
    let refused = admin.post("/tasks/1/edit", &[&restart[..], &[("name", "job"), ("config", FINE), ("do", "save")]].concat()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let alarm = [("alarm_what", "lag"), ("alarm_bound", "x"), ("alarm_seconds", ""), ("alarm_metric", "")];
    let refused = admin.post("/tasks/1/edit", &[&alarm[..], &[("name", "job"), ("config", FINE), ("do", "save")]].concat()).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for name in ["", " ", "a/b", "<b>", "../x", "a\nb", &"x".repeat(81)] {
        assert_ne!(
            admin.post("/tasks/1/edit", &[("name", name), ("config", FINE), ("do", "save")]).await.status,
            StatusCode::SEE_OTHER,
            "{name}"
        );
    }
}

#[tokio::test]
async fn versions_are_compared_and_rolled_back() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let second = FINE.replace("id: 1", "id: 2");
    let all = [("name", "job"), ("config", &second), ("workers", "2"), ("do", "save")];
    assert_eq!(admin.post("/tasks/1/edit", &all).await.status, StatusCode::SEE_OTHER);
    let diff = admin.get("/tasks/1/versions/2").await.text;
    assert!(diff.contains("class=\"del\"") && diff.contains("rows: [{id: 2}]") && diff.contains("workers"), "{diff}");
    assert_eq!(admin.post("/tasks/1/versions/1/rollback", &[]).await.status, StatusCode::SEE_OTHER);
    let token = admin.new_token("admin").await;
    let versions = site.api(&token, "GET", "/api/v1/tasks/job/versions", "").await.json();
    assert_eq!(versions.as_array().unwrap().iter().map(|v| v["number"].as_i64().unwrap()).collect::<Vec<_>>(), [3, 2, 1]);
    let third = site.api(&token, "GET", "/api/v1/tasks/job/versions/3", "").await.json();
    assert_eq!((third["config"].as_str().unwrap(), &third["workers"]), (FINE, &json!(null)));
    assert_eq!(admin.get("/tasks/1/versions/9").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lint_tells_the_place_and_draws_the_graph() {
    let site = Site::new();
    let admin = site.admin().await;
    let found = admin.post("/lint", &[("config", BROKEN)]).await.json();
    let first = &found["problems"][0];
    assert_eq!((&first["line"], &first["column"], &first["suggestion"]), (&json!(5), &json!(22), &json!("Inline")));
    let found = admin.post("/lint", &[("config", FINE), ("workers", "x")]).await.json();
    assert_eq!(found["problems"], json!([]));
    assert!(found["graph"].as_str().unwrap().starts_with("<svg"));
    // Variables are the task's own.
    let with = FINE.replace("id: 1", "id: '${HOME}${GIVEN}'");
    let told = |j: serde_json::Value| j["problems"].as_array().unwrap().iter().map(|p| p["message"].to_string()).collect::<String>();
    let found = told(admin.post("/lint", &[("config", &with), ("variables", "GIVEN=x")]).await.json());
    assert!(found.contains("HOME") && !found.contains("GIVEN"), "{found}");
}

#[tokio::test]
async fn the_list_is_searched_and_filtered() {
    let site = Site::new();
    let admin = site.admin().await;
    for (name, tags) in [("clicks", "ads, live"), ("orders", "shop"), ("ads-daily", "batch")] {
        let made = admin.post("/tasks/new", &[("name", name), ("team", "1"), ("config", FINE), ("tags", tags), ("do", "save")]).await;
        assert_eq!(made.status, StatusCode::SEE_OTHER);
    }
    let names =
        |text: &str| ["clicks", "orders", "ads-daily"].into_iter().filter(|n| text.contains(&format!(">{n}</a>"))).collect::<Vec<_>>();
    for (query, want) in [
        ("", vec!["clicks", "orders", "ads-daily"]),
        ("?q=ADS", vec!["clicks", "ads-daily"]),
        ("?tag=shop", vec!["orders"]),
        ("?state=running", vec![]),
        ("?state=not-started&q=o", vec!["orders"]),
    ] {
        assert_eq!(names(&admin.get(&format!("/tasks{query}")).await.text), want, "{query}");
    }
}

#[tokio::test]
async fn programs_submit_and_are_told_what_is_wrong() {
    let site = Site::new();
    let admin = site.admin().await;
    let token = admin.new_token("editor").await;
    let put = |body: serde_json::Value| {
        let (site, token) = (&site, token.clone());
        async move { site.api(&token, "PUT", "/api/v1/tasks/my%20job", &body.to_string()).await }
    };
    let made = put(json!({"settings": {"config": FINE}, "secrets": {"PW": "hunter22"}})).await;
    assert_eq!((made.status, &made.json()["version"]), (StatusCode::CREATED, &json!(1)));
    let again = put(json!({"settings": {"config": FINE, "workers": 2}, "note": "more"})).await;
    assert_eq!((again.status, &again.json()["version"]), (StatusCode::OK, &json!(2)));
    let broken = put(json!({"settings": {"config": BROKEN}})).await;
    assert_eq!((broken.status, broken.json()["error"]["id"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("not-saved")));
    let one = site.api(&token, "GET", "/api/v1/tasks/my%20job", "").await.json();
    assert_eq!((&one["version"], &one["draft"], &one["state"]), (&json!(2), &json!(true), &json!("not-started")));
    for body in ["{", "[]", "{\"settings\": {\"confg\": \"\"}}", "{\"settings\": 1}", ""] {
        assert_eq!(site.api(&token, "PUT", "/api/v1/tasks/x", body).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    }
    assert_eq!(site.api(&token, "DELETE", "/api/v1/tasks/my%20job", "").await.status, StatusCode::OK);
    assert_eq!(site.api(&token, "GET", "/api/v1/tasks/my%20job", "").await.status, StatusCode::NOT_FOUND);
    assert!(!site.folder.path().join("data/tasks/1").exists());
}

#[tokio::test]
async fn the_document_names_the_calls_that_are_there() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.makes("job", "1").await;
    let token = admin.new_token("admin").await;
    let document = site.get("/api/openapi.json").await.json();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for method in calls.as_object().unwrap().keys() {
            let real = path.replace("{name}", "none").replace("{number}", "1").replace("{id}", "999999");
            let answer = site.api(&token, &method.to_uppercase(), &real, "{\"settings\": {}, \"team\": \"none\"}").await;
            assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(answer.text.starts_with(['{', '[']), "{method} {path}: {}", answer.text);
        }
    }
    assert_eq!(document["paths"].as_object().unwrap().len(), 18);
}

#[tokio::test]
async fn stores_are_an_administrators_business_and_records_their_teams() {
    let site = Site::new();
    let admin = site.admin().await;
    admin.post("/teams", &[("name", "other")]).await;
    let with_store = FINE
        .replace("streams:", "stores:\n  users: {type: Embedded, config: {path: t, key: \"{{id}}\"}}\nstreams:")
        .replace("sink:", "transforms:\n  - {type: Lookup, config: {store: users, fields: [town]}}\nsink:");
    let made = admin.post("/tasks/new", &[("name", "job"), ("team", "1"), ("config", &with_store), ("do", "save")]).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.text);
    let editor = admin.hires("eve", "editor", &["1"]).await;
    for (path, fields) in [("/stores", &[("task", "1"), ("store", "users"), ("name", "users")][..]), ("/stores/users/delete", &[])] {
        assert_eq!(editor.post(path, fields).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(editor.get("/stores").await.status, StatusCode::FORBIDDEN);
    for (store, name) in [("user", "users"), ("users", ""), ("users", "a/b"), ("users", ".."), ("users", "<b>")] {
        let refused = admin.post("/stores", &[("task", "1"), ("store", store), ("name", name)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{store} {name}");
    }
    let refused = editor.get("/records/users/1").await;
    assert!(refused.status == StatusCode::FORBIDDEN && refused.text.contains("an administrator must allow it first"), "{}", refused.text);
    assert_eq!(admin.post("/stores", &[("task", "1"), ("store", "users"), ("name", "users")]).await.status, StatusCode::SEE_OTHER);
    // Who is not of the team does not learn that it is there; who is gets as far as the executable, which is not here.
    let stranger = admin.hires("sam", "viewer", &["2"]).await;
    let (there, not_there) = (stranger.get("/records/users/1").await, stranger.get("/records/nobody/1").await);
    assert_eq!((there.status, not_there.status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    assert_eq!(there.text.replace("users", "nobody"), not_there.text);
    assert_eq!(editor.get("/records/users/a%00b").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(editor.get("/records/users/1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(editor.get(&format!("/records/users/{}", "x".repeat(5000))).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(admin.post("/stores/users/delete", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(editor.get("/records/users/1").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_may_stand_at_the_caret_is_suggested() {
    let site = Site::new();
    let admin = site.admin().await;
    let stream = "streams:\n  s:\n    config:\n      source: {type: Inline, config: {rows: [{id: 1, town: a}]}}\n";
    let cases = [
        ("", "", "streams"),
        ("name: x\nsink:\n  - {type: Std", "", "Stdout"),
        ("name: x\nsink:\n  - {type: Std", "}\n", "Stdout"),
        ("streams:\n  s:\n    config:\n      source: {type: ", "", "Kafka"),
        ("streams:\n  s:\n    config:\n      source:\n        type: File\n        config:\n          pa", "", "path"),
        (&format!("{stream}transforms:\n  - {{type: Filter, config: {{where: to"), "", "town"),
        (&format!("{stream}sink:\n  - {{type: Stdout, input: "), "", "s"),
    ];
    for (before, after, wanted) in cases {
        let found = admin.post("/complete", &[("before", before), ("after", after)]).await.json();
        let one = found["suggestions"].as_array().unwrap().iter().find(|s| s["label"] == wanted);
        let one = one.unwrap_or_else(|| panic!("{wanted} is not suggested after {before:?}: {found}"));
        assert!(before.ends_with(one["word"].as_str().unwrap()) && one["text"].as_str().unwrap().starts_with(wanted), "{one}");
    }
    let viewer = admin.hires("vic", "viewer", &["1"]).await;
    assert_eq!(viewer.post("/complete", &[("before", "")]).await.status, StatusCode::FORBIDDEN);
}
