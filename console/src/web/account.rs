//! One's own account, and those of others for administrators.

use super::form::Form;
use super::gate::{self, Visitor};
use super::layout::{Look, button, csrf, page as shell, time};
use crate::accounts::{self, Change, Role, User};
use crate::{App, Refusal, audit};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use maud::{Markup, html};
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

pub async fn page(State(app): State<Arc<App>>, l: Look, v: Visitor) -> Done<Markup> {
    mine(&app, &l, &v, html! {})
}

fn mine(app: &App, l: &Look, v: &Visitor, told: Markup) -> Done<Markup> {
    let (tokens, teams) = app.store.run(|db| Ok((accounts::tokens(db, &v.user)?, accounts::teams(db, Some(v.user.id))?)))?;
    let teams: Vec<String> = teams.into_iter().map(|t| t.1).collect();
    Ok(shell(
        l,
        Some(v),
        l.t("Account"),
        html! {
            (told)
            @if v.user.must_change { p class="problem" role="alert" { (l.t("Choose a password of your own before you go on.")) } }
            p { (v.user.name) " · " (role_name(l, v.user.role)) " · " (l.t("Teams")) ": " (teams.join(", ")) }
            h2 { (l.t("Password")) }
            form method="post" action="/account/password" class="narrow" {
                (csrf(v))
                label { (l.t("Present password")) input name="old" type="password" autocomplete="current-password" required; }
                label { (l.t("New password, at least 12 characters")) input name="new" type="password" autocomplete="new-password" minlength="12" required; }
                @if !tokens.is_empty() { label class="check" { input type="checkbox" name="keep_tokens" value="1"; (l.t("Keep my API tokens: otherwise they end, too")) } }
                button class="main" { (l.t("Change the password")) }
            }
            @if !v.user.must_change {
                h2 { (l.t("Look")) }
                form method="post" action="/account/look" class="row" {
                    (csrf(v))
                    label { (l.t("Language")) select name="lang" {
                        option value="en" selected[l.lang.code() == "en"] { "English" }
                        option value="zh-CN" selected[l.lang.code() != "en"] { "中文" }
                    } }
                    label { (l.t("Colours")) select name="theme" {
                        @for (value, name) in [("auto", l.t("As the system has them")), ("light", l.t("Light")), ("dark", l.t("Dark"))] {
                            option value=(value) selected[value == l.theme] { (name) }
                        }
                    } }
                    button { (l.t("Save")) }
                }
                h2 { (l.t("API tokens")) }
                p { (l.t("A token is shown once. It may at most what you may, and ends when you are taken away.")) }
                @if !tokens.is_empty() {
                    div class="scroll" tabindex="0" { table {
                        thead { tr { th { (l.t("Name")) } th { (l.t("Role")) } th { (l.t("Until")) } th { (l.t("Last used")) } th {} } }
                        tbody { @for t in &tokens { tr {
                            td { (t.name) } td { (role_name(l, t.role)) } td { (time(t.expires)) }
                            td { @match t.used { Some(used) => { (time(used)) }, None => { "–" } } }
                            td { (button(v, &format!("/account/tokens/{}/delete", t.id), "danger", l.t("Delete"))) }
                        } } }
                    } }
                }
                form method="post" action="/account/tokens" class="row" {
                    (csrf(v))
                    label { (l.t("Name")) input name="name" required maxlength="60"; }
                    label { (l.t("Role")) (roles(l, "role", Role::Viewer, v.user.role)) }
                    label { (l.t("Days")) input name="days" type="number" min="1" max="366" value="90" required; }
                    button { (l.t("Make a token")) }
                }
            }
        },
    ))
}

fn role_name(l: &Look, role: Role) -> &'static str {
    match role {
        Role::Viewer => l.t("Viewer"),
        Role::Operator => l.t("Operator"),
        Role::Editor => l.t("Editor"),
        Role::Admin => l.t("Administrator"),
    }
}

fn roles(l: &Look, name: &str, chosen: Role, most: Role) -> Markup {
    html! { select name=(name) {
        @for role in Role::ALL.into_iter().filter(|r| *r <= most) { option value=(role.name()) selected[role == chosen] { (role_name(l, role)) } }
    } }
}

/// What is told once and never again.
fn secret(l: &Look, what: &str, text: &str) -> Markup {
    html! { div class="told" role="status" { p { (what) } p { code id="secret" { (text) } } p { (l.t("Write it down: it is not shown again.")) } } }
}

/// # Errors
/// A program asks: an account is its person's business.
fn own_session(v: &Visitor) -> Done<()> {
    match v.session.is_empty() {
        true => Err(Refusal::forbidden("a token changes no password and makes or ends no tokens: log in for that")),
        false => Ok(()),
    }
}

pub async fn password(State(app): State<Arc<App>>, v: Visitor, form: Form) -> Done<Redirect> {
    own_session(&v)?;
    let worker = (app.clone(), v.clone());
    let (old, new, keep_tokens) = (form.get("old").to_string(), form.get("new").to_string(), form.has("keep_tokens"));
    let permit = app.logins.clone().acquire_owned().await.map_err(|_| Refusal::failed("the console is ending"))?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let (app, v) = worker;
        let change = Change { session: &v.session, address: &v.address, old: &old, new: &new, keep_tokens };
        accounts::change_password(&app.store, &v.user, &change, app.clock.now())
    });
    done.await.map_err(|e| Refusal::failed(e.to_string()))??;
    audit::note(&app, &v.user.name, &v.address, None, "change-password", "");
    Ok(Redirect::to("/account"))
}

pub async fn look(State(app): State<Arc<App>>, form: Form) -> Response {
    const YEAR: i64 = 365 * 86_400;
    let lang = if form.get("lang") == "zh-CN" { "zh-CN" } else { "en" };
    let theme = match form.get("theme") {
        "light" => "light",
        "dark" => "dark",
        _ => "auto",
    };
    let cookies = [("lang", lang), ("theme", theme)].map(|(name, value)| (header::SET_COOKIE, gate::set_cookie(&app, name, value, YEAR)));
    (AppendHeaders(cookies), Redirect::to("/account")).into_response()
}

pub async fn add_token(State(app): State<Arc<App>>, l: Look, v: Visitor, form: Form) -> Done<Markup> {
    own_session(&v)?;
    let role = Role::parse(form.get("role"))?;
    let days = form.trimmed("days").parse().map_err(|_| Refusal::bad("`days` must be a number"))?;
    let token = accounts::add_token(&app.store, &v.user, form.trimmed("name"), role, days, app.clock.now())?;
    audit::note(&app, &v.user.name, &v.address, None, "make-token", form.trimmed("name"));
    mine(&app, &l, &v, secret(&l, l.t("Your new token:"), &token))
}

pub async fn revoke_token(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>) -> Done<Redirect> {
    own_session(&v)?;
    accounts::revoke_token(&app.store, &v.user, id)?;
    audit::note(&app, &v.user.name, &v.address, None, "delete-token", &id.to_string());
    Ok(Redirect::to("/account"))
}

pub async fn users(State(app): State<Arc<App>>, l: Look, v: Visitor) -> Done<Markup> {
    everybody(&app, &l, &v, html! {})
}

fn everybody(app: &App, l: &Look, v: &Visitor, told: Markup) -> Done<Markup> {
    v.must_be(Role::Admin)?;
    let (users, teams) = app.store.run(|db| Ok((accounts::users(db)?, accounts::teams(db, None)?)))?;
    Ok(shell(
        l,
        Some(v),
        l.t("Users"),
        html! {
            (told)
            @for (user, of) in &users { (one(l, v, user, of, &teams)) }
            h2 { (l.t("New user")) }
            form method="post" action="/users" class="row" {
                (csrf(v))
                label { (l.t("Name")) input name="name" required maxlength="60"; }
                label { (l.t("Role")) (roles(l, "role", Role::Viewer, Role::Admin)) }
                (team_boxes(l, &teams, &[]))
                button { (l.t("Add the user")) }
            }
            h2 { (l.t("New team")) }
            form method="post" action="/teams" class="row" {
                (csrf(v))
                label { (l.t("Name")) input name="name" required maxlength="60"; }
                button { (l.t("Add the team")) }
            }
        },
    ))
}

fn team_boxes(l: &Look, teams: &[(i64, String)], of: &[String]) -> Markup {
    html! { fieldset { legend { (l.t("Teams")) }
        @for (id, name) in teams { label class="check" { input type="checkbox" name="team" value=(id) checked[of.contains(name)]; (name) } }
    } }
}

fn one(l: &Look, v: &Visitor, user: &User, of: &[String], teams: &[(i64, String)]) -> Markup {
    html! { section class="card" aria-label=(user.name) {
        form method="post" action=(format!("/users/{}", user.id)) class="row" {
            (csrf(v))
            strong { (user.name) }
            label { (l.t("Role")) (roles(l, "role", user.role, Role::Admin)) }
            label class="check" { input type="checkbox" name="active" value="1" checked[user.active]; (l.t("May log in")) }
            (team_boxes(l, teams, of))
            button { (l.t("Save")) }
        }
        (button(v, &format!("/users/{}/password", user.id), "quiet", l.t("New password")))
    } }
}

pub async fn add_user(State(app): State<Arc<App>>, l: Look, v: Visitor, form: Form) -> Done<Markup> {
    v.must_be(Role::Admin)?;
    let (role, teams) = (Role::parse(form.get("role"))?, form.numbers("team")?);
    let password = accounts::add_user(&app.store, form.trimmed("name"), role, &teams, app.clock.now())?;
    audit::note(&app, &v.user.name, &v.address, None, "add-user", &format!("{} as {}", form.trimmed("name"), role.name()));
    everybody(&app, &l, &v, secret(&l, l.t("The first password of the new user:"), &password))
}

pub async fn change_user(State(app): State<Arc<App>>, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Redirect> {
    v.must_be(Role::Admin)?;
    let (role, active) = (Role::parse(form.get("role"))?, form.has("active"));
    accounts::change_user(&app.store, id, role, active, &form.numbers("team")?)?;
    audit::note(&app, &v.user.name, &v.address, None, "change-user", &format!("{id}: {}, active {active}", role.name()));
    Ok(Redirect::to("/users"))
}

pub async fn reset_password(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Done<Markup> {
    v.must_be(Role::Admin)?;
    let password = accounts::reset_password(&app.store, id)?;
    audit::note(&app, &v.user.name, &v.address, None, "reset-password", &id.to_string());
    everybody(&app, &l, &v, secret(&l, l.t("The new password of the user:"), &password))
}

pub async fn add_team(State(app): State<Arc<App>>, v: Visitor, form: Form) -> Done<Redirect> {
    v.must_be(Role::Admin)?;
    accounts::add_team(&app.store, form.trimmed("name"), app.clock.now())?;
    audit::note(&app, &v.user.name, &v.address, None, "add-team", form.trimmed("name"));
    Ok(Redirect::to("/users"))
}
