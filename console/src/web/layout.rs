//! What all pages have in common.

use super::assets;
use super::gate::{self, Visitor};
use crate::Refusal;
use crate::accounts::Role;
use crate::lang::Lang;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use maud::{DOCTYPE, Markup, html};
use std::convert::Infallible;

/// How a visitor wants pages, and which one this is.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub lang: Lang,
    /// `light`, `dark`, or empty: as the system has it.
    pub theme: &'static str,
    pub path: String,
}

impl Look {
    pub fn of(headers: &HeaderMap, path: &str) -> Look {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|h| h.to_str().ok());
        let theme = match gate::cookie(headers, "theme") {
            Some("light") => "light",
            Some("dark") => "dark",
            _ => "",
        };
        Look { lang: Lang::of(gate::cookie(headers, "lang"), accepted), theme, path: path.to_string() }
    }

    pub fn t(&self, english: &'static str) -> &'static str {
        self.lang.t(english)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Look {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Look, Infallible> {
        Ok(parts.extensions.get::<Look>().cloned().unwrap_or_default())
    }
}

/// The field that makes a form the session's own.
pub fn csrf(v: &Visitor) -> Markup {
    html! { input type="hidden" name="_csrf" value=(v.csrf); }
}

/// A form of one button.
pub fn button(v: &Visitor, action: &str, class: &str, label: &str) -> Markup {
    html! { form method="post" action=(action) class="inline" { (csrf(v)) button class=(class) { (label) } } }
}

pub fn page(l: &Look, visitor: Option<&Visitor>, title: &str, body: Markup) -> Markup {
    let active = |path: &str| l.path.starts_with(path).then_some("page");
    html! {
        (DOCTYPE)
        html lang=(l.lang.code()) data-theme=(l.theme) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(v) = visitor { meta name="csrf" content=(v.csrf); }
                title { (title) " · Millrace" }
                link rel="stylesheet" href=(assets::path("console.css"));
                link rel="icon" href=(assets::path("icon.svg"));
                script src=(assets::path("console.js")) defer {}
            }
            body {
                a class="skip" href="#main" { (l.t("Skip to the content")) }
                header class="top" {
                    a class="brand" href="/tasks" { "Millrace" }
                    @if let Some(v) = visitor {
                        nav aria-label=(l.t("Main menu")) {
                            a href="/tasks" aria-current=[active("/tasks")] { (l.t("Tasks")) }
                            a href="/operations" aria-current=[active("/operations")] { (l.t("Operations")) }
                            @if v.user.role == Role::Admin {
                                a href="/stores" aria-current=[active("/stores")] { (l.t("Stores")) }
                                a href="/users" aria-current=[active("/users")] { (l.t("Users")) }
                            }
                            a href="/account" aria-current=[active("/account")] { (l.t("Account")) }
                        }
                        form method="post" action="/logout" class="inline" {
                            (csrf(v))
                            span class="who" { (v.user.name) }
                            button class="quiet" { (l.t("Log out")) }
                        }
                    }
                }
                main id="main" { h1 { (title) } (body) }
            }
        }
    }
}

/// Words by which programs know how a run or an operation ended and what a checkpoint is, for people.
pub fn word(l: &Look, word: &str) -> String {
    let known = match word {
        "finished" => l.t("finished"),
        "stopped" => l.t("stopped"),
        "halted" => l.t("halted by a guard"),
        "failed" => l.t("failed"),
        "operator" => l.t("needs an operator"),
        "dead" => l.t("dead, started again"),
        "done" => l.t("done"),
        "pending" => l.t("under way"),
        "periodic" => l.t("periodic"),
        "savepoint" => l.t("savepoint"),
        "stop" => l.t("at a stop"),
        "drained" => l.t("drained"),
        "damaged" => l.t("damaged"),
        other => return other.into(),
    };
    known.into()
}

/// The page of a request that is refused.
pub fn refused(l: &Look, visitor: Option<&Visitor>, refusal: &Refusal) -> Markup {
    let title = match refusal.status.as_u16() {
        404 => l.t("Not found"),
        _ => l.t("Not done"),
    };
    page(
        l,
        visitor,
        title,
        html! {
            p class="problem" role="alert" { (l.lang.words(&refusal.message)) }
            p { a href="/tasks" { (l.t("To the tasks")) } }
        },
    )
}

/// Microseconds since 1970 as a time that the browser writes in its own zone.
pub fn time(micros: i64) -> Markup {
    let iso = jiff::Timestamp::from_microsecond(micros).map_or_else(|_| "?".into(), |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    html! { time datetime=(iso) { (iso.replace('T', " ")) } }
}
