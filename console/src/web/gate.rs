//! The gate: who asks, whether the request is the visitor's own, and the headers of every answer.
//!
//! Nothing but the login, the style and scripts, and the health is for strangers. What changes something needs a session's token in the form
//! (or the header `x-csrf-token`) and the console's own Origin; a bearer token needs neither, as no browser sends it unasked. Names other than
//! the console's own in `Host` are refused, so that no foreign name can be bound to its address.

use super::layout::{self, Look};
use crate::accounts::{self, Role, User};
use crate::{App, Refusal};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Largest body of a request, bytes.
pub const MAX_BODY: usize = 4 << 20;
/// And of a stranger's, which is a login.
const STRANGERS_BODY: usize = 16 << 10;
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The cookie of a session; with TLS its name binds it to this very host.
const COOKIE: &str = "millrace";
const SAFE_COOKIE: &str = "__Host-millrace";
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                   base-uri 'none'; frame-ancestors 'none'";

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Of an answer: it was for somebody who is known.
#[derive(Clone, Copy, Debug)]
pub struct Known;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub user: User,
    /// Empty with a bearer token.
    pub csrf: String,
    /// The session's id; empty with a bearer token.
    pub session: String,
    /// The bearer token; empty with a session.
    pub token: String,
    pub address: String,
}

impl Visitor {
    /// # Errors
    /// They may not do what needs this role.
    pub fn must_be(&self, role: Role) -> Result<(), Refusal> {
        match self.user.role >= role {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!("this needs the role `{}`, you have `{}`", role.name(), self.user.role.name()))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Visitor, Refusal> {
        parts.extensions.get::<Visitor>().cloned().ok_or_else(must_login)
    }
}

fn must_login() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "login-needed", "this needs a login")
}

pub fn cookie_name(app: &App) -> &'static str {
    if app.options.secure() { SAFE_COOKIE } else { COOKIE }
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    all.filter_map(|c| c.trim().split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// A cookie for `set-cookie`; `seconds` 0 takes it away.
pub fn set_cookie(app: &App, name: &str, value: &str, seconds: i64) -> HeaderValue {
    let secure = if app.options.secure() { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let look = Look::of(request.headers(), request.uri().path());
    let program = request.uri().path().starts_with("/api/");
    request.extensions_mut().insert(look.clone());
    let wants_page = !program && request.method() == Method::GET;
    let path = request.uri().path_and_query().map_or(String::new(), ToString::to_string);
    let mut visitor = None;
    let mut response = match admit(&app, request).await {
        Ok(request) => {
            visitor = request.extensions().get::<Visitor>().cloned();
            next.run(request).await
        }
        Err(refusal) if refusal.id == "login-needed" && wants_page => {
            let to: String = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC).to_string();
            Redirect::to(&format!("/login?to={to}")).into_response()
        }
        Err(refusal) if refusal.id == "password-change-needed" && wants_page => Redirect::to("/account").into_response(),
        Err(refusal) => refusal.into_response(),
    };
    let unreadable = || match response.status() {
        StatusCode::BAD_REQUEST => Some("the address is not one of this console's, or something in it is missing"),
        StatusCode::METHOD_NOT_ALLOWED => Some("this is not done here in that way"),
        _ => None,
    };
    let unreadable = unreadable().map(|why| Refusal::new(response.status(), "bad-request", why));
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>().or(unreadable) {
        response = told(&refusal, program, &look, visitor.as_ref());
    }
    harden(response.headers_mut(), app.options.secure());
    if visitor.is_some() {
        response.extensions_mut().insert(Known);
    }
    response
}

fn told(refusal: &Refusal, program: bool, look: &Look, visitor: Option<&Visitor>) -> Response {
    let mut response = match program {
        true => {
            let body = serde_json::json!({"error": {"id": refusal.id, "message": refusal.message}});
            (refusal.status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
        }
        false => (refusal.status, layout::refused(look, visitor, refusal)).into_response(),
    };
    if matches!(refusal.status.as_u16(), 408 | 413 | 429) {
        // Who takes too much holds no connection meanwhile.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(v) = refusal.retry_after.and_then(|s| HeaderValue::from_str(&s.to_string()).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, v);
    }
    response
}

fn harden(headers: &mut HeaderMap, tls: bool) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set("content-security-policy", CSP);
    set("x-content-type-options", "nosniff");
    set("x-frame-options", "DENY");
    set("referrer-policy", "same-origin");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set("permissions-policy", "camera=(), geolocation=(), microphone=()");
    set("cache-control", "no-store");
    if tls {
        set("strict-transport-security", "max-age=31536000");
    }
}

/// Lets a request in, with its visitor.
async fn admit(app: &App, request: Request) -> Result<Request, Refusal> {
    let (mut parts, mut body) = request.into_parts();
    let host = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    if !app.options.is_own_name(&host) {
        let message = format!("the console is not called `{}`: its --public-url says how people reach it", host.escape_default());
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host", message));
    }
    let path = parts.uri.path().to_string();
    let open = matches!(path.as_str(), "/login" | "/healthz" | "/api/openapi.json") || path.starts_with("/assets/");
    let address = parts.extensions.get::<Peer>().map_or("?".into(), |p| p.0.to_string());
    let now = app.clock.now();
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()).map(|h| h.strip_prefix("Bearer ").unwrap_or(""));
    let visitor = if let Some(token) = bearer {
        let user = accounts::bearer(&app.store, token.trim(), now)?;
        let user = user.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "wrong-token", "the token is unknown or has ended"))?;
        Some(Visitor { user, csrf: String::new(), session: String::new(), token: token.trim().into(), address })
    } else if let Some(id) = cookie(&parts.headers, cookie_name(app)) {
        let session = accounts::session(&app.store, id, now)?;
        session.map(|s| Visitor { user: s.user, csrf: s.csrf, session: id.to_string(), token: String::new(), address })
    } else {
        None
    };
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes {
        if visitor.is_none() && !open {
            // Nothing of a stranger's is read in vain.
            return Err(must_login());
        }
        if bearer.is_none() {
            own_origin(app, &parts.headers, &host)?;
        }
        let most = if visitor.is_some() { MAX_BODY } else { STRANGERS_BODY };
        let bytes = tokio::time::timeout(PATIENCE, to_bytes(body, most)).await.map_err(|_| {
            let message = format!("the request has not come within {} s", PATIENCE.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "too-slow", message)
        })?;
        let bytes = bytes
            .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("a request has at most {} KiB", most >> 10)))?;
        if bearer.is_none()
            && let Some(v) = &visitor
        {
            own_form(&parts.headers, &bytes, &v.csrf)?;
        }
        body = Body::from(bytes);
    }
    match &visitor {
        None if !open => return Err(must_login()),
        Some(v)
            if v.user.must_change && !open && !matches!(path.as_str(), "/account" | "/account/password" | "/account/look" | "/logout") =>
        {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "password-change-needed", "choose a password of your own first"));
        }
        _ => {}
    }
    if let Some(v) = visitor {
        parts.extensions.insert(v);
    }
    Ok(Request::from_parts(parts, body))
}

/// The request comes from a page of the console's.
fn own_origin(app: &App, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    let origin = headers.get(header::ORIGIN).and_then(|h| h.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let scheme = if app.options.tls.is_some() { "https" } else { "http" };
    let behind_proxy = app.options.public_url.as_ref().is_some_and(|u| u.trim_end_matches('/').eq_ignore_ascii_case(&origin));
    match origin == format!("{scheme}://{host}") || behind_proxy {
        true => Ok(()),
        false => Err(Refusal::new(StatusCode::FORBIDDEN, "foreign-origin", "the request does not come from a page of this console")),
    }
}

/// The form was made for this session.
fn own_form(headers: &HeaderMap, body: &[u8], csrf: &str) -> Result<(), Refusal> {
    let given = match headers.get("x-csrf-token").and_then(|h| h.to_str().ok()) {
        Some(header) => header.to_string(),
        None => {
            let form = headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
            let found = form.then(|| crate::web::form::pairs(body).into_iter().find(|(k, _)| k == "_csrf")).flatten();
            found.map(|f| f.1).unwrap_or_default()
        }
    };
    match !csrf.is_empty() && bool::from(given.as_bytes().ct_eq(csrf.as_bytes())) {
        true => Ok(()),
        false => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "foreign-form", "this form is too old, or not of this console: load the page again"))
        }
    }
}
