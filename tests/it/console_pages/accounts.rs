//! Logins, sessions, tokens, roles.

use super::*;

#[tokio::test]
async fn the_first_administrator_must_choose_a_password() {
    let site = Site::new();
    assert_eq!(site.get("/tasks").await.header("location"), "/login?to=%2Ftasks");
    assert_eq!(site.login("admin", "admin").await.status, StatusCode::UNAUTHORIZED);
    let entered = site.login("admin", &site.first).await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, "/account"));
    let set = entered.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");
    let mut person = Person { site: &site, cookie: entered.cookie("millrace").unwrap(), csrf: String::new() };
    assert_eq!(person.get("/tasks").await.header("location"), "/account");
    person.csrf = person.token().await;
    assert_eq!(person.post("/users", &[("name", "x"), ("role", "admin")]).await.status, StatusCode::FORBIDDEN);
    for (old, new) in [("wrong", PASSWORD), (&site.first, "short"), (&site.first, &site.first)] {
        assert_eq!(person.post("/account/password", &[("old", old), ("new", new)]).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(person.post("/account/password", &[("old", &site.first), ("new", PASSWORD)]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(person.get("/tasks").await.status, StatusCode::OK);
    assert_eq!(site.login("admin", &site.first).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_says_nothing() {
    let site = Site::new();
    let unknown = site.login("nobody", "x").await;
    for _ in 0..5 {
        let wrong = site.login("admin", "x").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert_eq!(wrong.text.replace("admin", "nobody"), unknown.text);
    }
    let stopped = site.login("ADMIN ", &site.first).await;
    assert_eq!((stopped.status, stopped.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "900"));
    site.clock.set(site.clock.now() + 901 * SECOND);
    assert_eq!(site.login("admin", &site.first).await.status, StatusCode::SEE_OTHER);
}

/// Somebody who has come by a session or a token does not come by the password, nor by more than the token may.
#[tokio::test]
async fn a_password_is_not_guessed_where_it_is_changed_and_a_token_changes_no_account() {
    let site = Site::new();
    let admin = site.admin().await;
    let token = admin.new_token("viewer").await;
    for path in ["/account/password", "/account/tokens", "/account/tokens/1/delete"] {
        let request = Request::post(path).header("host", HOST).header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let fields = encoded(&[("old", PASSWORD), ("new", "one of a thief"), ("name", "t"), ("role", "viewer"), ("days", "1")]);
        assert_eq!(site.send(request.body(Body::from(fields)).unwrap()).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.api(&token, "GET", "/api/v1/tasks", "").await.status, StatusCode::OK, "it is there still");
    let guess = async |old: &str| admin.post("/account/password", &[("old", old), ("new", "another long one")]).await.status.as_u16();
    for _ in 0..5 {
        assert_eq!(guess("no").await, 422);
    }
    assert_eq!(guess(PASSWORD).await, 429);
    site.clock.set(site.clock.now() + 901 * SECOND);
    assert_eq!(guess(PASSWORD).await, 303);
}

#[tokio::test]
async fn sessions_end_with_logout_time_and_the_password() {
    let site = Site::new();
    let admin = site.admin().await;
    let other = site.user("admin", PASSWORD).await;
    assert_ne!(admin.cookie, other.cookie);
    assert_eq!(other.post("/logout", &[]).await.header("location"), "/login");
    assert_eq!(other.get("/tasks").await.status, StatusCode::SEE_OTHER, "the cookie is worth nothing");
    assert_eq!(admin.get("/tasks").await.status, StatusCode::OK);
    let third = site.user("admin", PASSWORD).await;
    assert_eq!(admin.post("/account/password", &[("old", PASSWORD), ("new", "another long one")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(third.get("/tasks").await.status, StatusCode::SEE_OTHER);
    assert_eq!(admin.get("/tasks").await.status, StatusCode::OK);
    site.clock.set(site.clock.now() + 13 * 3600 * SECOND);
    assert_eq!(admin.get("/tasks").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_session_is_never_one_that_the_browser_brought() {
    let site = Site::new();
    let brought = "0".repeat(64);
    let request = Request::post("/login").header("host", HOST).header("origin", format!("http://{HOST}"));
    let request = request.header("cookie", format!("millrace={brought}")).header("content-type", "application/x-www-form-urlencoded");
    let answer = site.send(request.body(Body::from(encoded(&[("name", "admin"), ("password", &site.first)]))).unwrap()).await;
    assert_ne!(answer.cookie("millrace").unwrap(), brought);
    let before = Person { site: &site, cookie: brought, csrf: String::new() };
    assert_eq!(before.get("/tasks").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn tokens_do_at_most_what_they_and_their_user_may() {
    let site = Site::new();
    let admin = site.admin().await;
    let editor = admin.hires("eva", "editor", &["1"]).await;
    editor.makes("job", "1").await;
    assert_eq!(editor.post("/account/tokens", &[("name", "t"), ("role", "admin"), ("days", "1")]).await.status, StatusCode::FORBIDDEN);
    let (viewer, operator) = (editor.new_token("viewer").await, editor.new_token("operator").await);
    assert_eq!(site.api(&viewer, "GET", "/api/v1/tasks/job", "").await.status, StatusCode::OK);
    let no = site.api(&viewer, "POST", "/api/v1/tasks/job/start", "").await;
    assert_eq!((no.status, no.json()["error"]["id"].as_str()), (StatusCode::FORBIDDEN, Some("forbidden")));
    assert_eq!(site.api(&operator, "DELETE", "/api/v1/tasks/job", "").await.status, StatusCode::FORBIDDEN);
    let page = editor.post("/account/tokens", &[("name", "x"), ("role", "viewer"), ("days", "400")]).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!editor.get("/account").await.text.contains(&viewer), "shown once");
    // Whose role shrinks, their tokens' do.
    admin.post("/users/2", &[("role", "viewer"), ("active", "1"), ("team", "1")]).await;
    assert_eq!(site.api(&operator, "POST", "/api/v1/tasks/job/stop", "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(editor.post("/account/tokens/1/delete", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.api(&viewer, "GET", "/api/v1/tasks", "").await.status, StatusCode::UNAUTHORIZED);
    site.clock.set(site.clock.now() + 86_401 * SECOND);
    assert_eq!(site.api(&operator, "GET", "/api/v1/tasks", "").await.status, StatusCode::UNAUTHORIZED);
    for wrong in ["", "mlr_", "x", "' OR 1=1 --"] {
        assert_eq!(site.api(wrong, "GET", "/api/v1/tasks", "").await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn who_is_taken_away_is_out_at_once() {
    let site = Site::new();
    let admin = site.admin().await;
    let user = admin.hires("uwe", "operator", &["1"]).await;
    let token = user.new_token("viewer").await;
    assert_eq!(admin.post("/users/2", &[("role", "operator")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(user.get("/tasks").await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.api(&token, "GET", "/api/v1/tasks", "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(site.login("uwe", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    let last = admin.post("/users/1", &[("role", "viewer"), ("active", "1")]).await;
    assert_eq!(last.status, StatusCode::CONFLICT, "nobody would be left");
    assert_eq!(admin.get("/users").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_end_with_the_password_unless_they_are_kept() {
    let site = Site::new();
    let admin = site.admin().await;
    let user = admin.hires("uwe", "operator", &["1"]).await;
    let works = async |token: &str| site.api(token, "GET", "/api/v1/tasks", "").await.status == StatusCode::OK;
    let token = user.new_token("viewer").await;
    let change = async |old: &str, new: &str, more: &[(&str, &str)]| {
        let fields: Vec<_> = [("old", old), ("new", new)].into_iter().chain(more.iter().copied()).collect();
        assert_eq!(user.post("/account/password", &fields).await.status, StatusCode::SEE_OTHER);
    };
    change(PASSWORD, "another long one", &[("keep_tokens", "1")]).await;
    assert!(works(&token).await);
    change("another long one", PASSWORD, &[]).await;
    assert!(!works(&token).await);
    let token = user.new_token("viewer").await;
    admin.post("/users/2/password", &[]).await;
    assert!(!works(&token).await && user.get("/tasks").await.status == StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_clock_that_was_ahead_locks_nobody_out_for_longer() {
    let site = Site::new();
    let now = site.clock.now();
    site.clock.set(now + 365 * 86_400 * SECOND);
    for _ in 0..6 {
        site.login("admin", "x").await;
    }
    assert_eq!(site.login("admin", &site.first).await.status, StatusCode::TOO_MANY_REQUESTS);
    site.clock.set(now);
    assert_eq!(site.login("admin", &site.first).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn only_administrators_see_and_change_users() {
    let site = Site::new();
    let admin = site.admin().await;
    let editor = admin.hires("eva", "editor", &["1"]).await;
    for (method, path) in [("GET", "/users"), ("POST", "/users"), ("POST", "/users/1"), ("POST", "/users/1/password"), ("POST", "/teams")] {
        let fields = [("name", "x"), ("role", "admin"), ("active", "1")];
        let answer = if method == "GET" { editor.get(path).await } else { editor.post(path, &fields).await };
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    assert!(!editor.get("/operations").await.text.contains("add-user"));
    assert!(admin.get("/operations").await.text.contains("add-user"));
    // One's own tokens only.
    admin.new_token("viewer").await;
    assert_eq!(editor.post("/account/tokens/1/delete", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_speak_chinese_and_are_dark_if_asked() {
    let site = Site::new();
    let request = Request::get("/login").header("host", HOST).header("accept-language", "zh-CN,zh;q=0.9");
    let page = site.send(request.body(Body::empty()).unwrap()).await;
    assert!(page.text.contains("lang=\"zh-CN\"") && page.text.contains("登录"), "{}", page.text);
    let admin = site.admin().await;
    let set = admin.post("/account/look", &[("lang", "zh-CN"), ("theme", "dark")]).await;
    assert_eq!((set.cookie("lang").unwrap().as_str(), set.cookie("theme").unwrap().as_str()), ("zh-CN", "dark"));
}

#[tokio::test]
async fn behind_a_proxy_that_speaks_tls_cookies_are_secure() {
    let site = Site::of(Confine::default(), Some("https://millrace.example.com/"));
    let login = async |host: &str, origin: &str| {
        let request = Request::post("/login").header("host", host).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        site.send(request.body(Body::from(encoded(&[("name", "admin"), ("password", &site.first)]))).unwrap()).await
    };
    let answer = login("millrace.example.com", "https://millrace.example.com").await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-millrace=") && cookie.contains("; Secure") && cookie.contains("; HttpOnly"), "{cookie}");
    assert!(answer.header("strict-transport-security").contains("max-age="));
    assert_eq!(login("millrace.example.com", "http://millrace.example.com.evil.example").await.status, StatusCode::FORBIDDEN);
    assert_eq!(login("evil.example", "https://millrace.example.com").await.status, StatusCode::MISDIRECTED_REQUEST);
}
