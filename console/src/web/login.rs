//! Login and logout.

use super::form::Form;
use super::gate::{self, Peer, Visitor};
use super::layout::{Look, page as shell};
use crate::{App, Refusal, accounts, audit};
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

/// How long the cookie is kept; the session may end earlier.
const KEPT: i64 = 7 * 86_400;

#[derive(Deserialize)]
pub struct To {
    #[serde(default)]
    to: String,
}

pub async fn page(look: Look, Query(to): Query<To>) -> Markup {
    form(&look, &to.to, None)
}

fn form(l: &Look, to: &str, problem: Option<&str>) -> Markup {
    shell(
        l,
        None,
        l.t("Log in"),
        html! {
            @if let Some(p) = problem { p class="problem" role="alert" { (p) } }
            form method="post" action="/login" class="narrow" {
                input type="hidden" name="to" value=(to);
                label { (l.t("Name")) input name="name" autocomplete="username" required autofocus; }
                label { (l.t("Password")) input name="password" type="password" autocomplete="current-password" required; }
                button class="main" { (l.t("Log in")) }
            }
        },
    )
}

/// A path of this console's; anything else leads to the list.
fn own_path(to: &str) -> &str {
    let fine = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\n', '\r', '\t']);
    if fine && !to.starts_with("/login") { to } else { "/tasks" }
}

pub async fn login(State(app): State<Arc<App>>, peer: Option<Extension<Peer>>, look: Look, form_: Form) -> Result<Response, Refusal> {
    let address = peer.map_or("?".into(), |p| p.0.0.to_string());
    let (name, password) = (form_.trimmed("name").to_string(), form_.get("password").to_string());
    let now = app.clock.now();
    // Argon2 takes its time and memory: few at a time.
    let permit = app.logins.clone().acquire_owned().await.map_err(|_| Refusal::failed("the console is ending"))?;
    let (worker, who, from) = (app.clone(), name.clone(), address.clone());
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        accounts::login(&worker.store, &who, &password, &from, now)
    });
    match done.await.map_err(|e| Refusal::failed(e.to_string()))? {
        Ok((id, session)) => {
            audit::note(&app, &session.user.name, &address, None, "login", "");
            let to = if session.user.must_change { "/account" } else { own_path(form_.get("to")) };
            let cookie = gate::set_cookie(&app, gate::cookie_name(&app), &id, KEPT);
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response())
        }
        Err(refusal) => {
            audit::note_failed(&app, &name, &address, None, "login", &refusal.message);
            let text = match refusal.id {
                "wrong-login" => look.t("The name or the password is wrong."),
                "too-many-logins" => look.t("Too many logins have failed. Wait before the next one."),
                _ => return Err(refusal),
            };
            let mut response = (refusal.status, form(&look, form_.get("to"), Some(text))).into_response();
            if let Some(s) = refusal.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, s.into());
            }
            Ok(response)
        }
    }
}

pub async fn logout(State(app): State<Arc<App>>, visitor: Visitor) -> Result<Response, Refusal> {
    accounts::logout(&app.store, &visitor.session)?;
    audit::note(&app, &visitor.user.name, &visitor.address, None, "logout", "");
    let cookie = gate::set_cookie(&app, gate::cookie_name(&app), "", 0);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn a_login_leads_to_no_other_host() {
        for (to, want) in [
            ("/tasks/7?a=b", "/tasks/7?a=b"),
            ("", "/tasks"),
            ("//evil.example", "/tasks"),
            ("https://evil.example", "/tasks"),
            ("/\\evil.example", "/tasks"),
            ("/\t/evil.example", "/tasks"),
            ("/login?to=/login", "/tasks"),
        ] {
            assert_eq!(own_path(to), want, "{to}");
        }
    }
}
