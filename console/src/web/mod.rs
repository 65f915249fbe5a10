//! What the console answers: routes, and the one gate that every request passes.

mod account;
mod api;
pub(crate) mod assets;
mod edit;
pub(crate) mod form;
mod gate;
mod layout;
mod log;
mod login;
mod openapi;
mod records;
mod rejects;
mod restore;
mod tap;
mod task;
mod tasks;

use crate::App;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

pub(crate) use tap::TAPS;

pub(crate) use gate::Known;
pub use gate::{Peer, Visitor};

/// All routes behind the gate.
pub fn router(app: Arc<App>) -> Router {
    let pages = Router::new()
        .route("/", get(|| async { axum::response::Redirect::to("/tasks") }))
        .route("/login", get(login::page).post(login::login))
        .route("/logout", post(login::logout))
        .route("/account", get(account::page))
        .route("/account/password", post(account::password))
        .route("/account/tokens", post(account::add_token))
        .route("/account/tokens/{id}/delete", post(account::revoke_token))
        .route("/account/look", post(account::look))
        .route("/users", get(account::users).post(account::add_user))
        .route("/users/{id}", post(account::change_user))
        .route("/users/{id}/password", post(account::reset_password))
        .route("/teams", post(account::add_team))
        .route("/tasks", get(tasks::list))
        .route("/tasks/bulk", post(tasks::bulk))
        .route("/tasks/new", get(edit::new).post(edit::create))
        .route("/tasks/{id}", get(task::page))
        .route("/tasks/{id}/live", get(task::fragment))
        .route("/tasks/{id}/edit", get(edit::edit).post(edit::update))
        .route("/tasks/{id}/start", post(task::start))
        .route("/tasks/{id}/stop", post(task::stop))
        .route("/tasks/{id}/savepoint", post(task::savepoint))
        .route("/tasks/{id}/restart", post(task::restart))
        .route("/tasks/{id}/kill", post(task::kill))
        .route("/tasks/{id}/delete", post(task::delete))
        .route("/tasks/{id}/alarms/silence", post(task::silence))
        .route("/tasks/{id}/alarms/test", post(task::test_alarms))
        .route("/tasks/{id}/log", get(log::stream))
        .route("/tasks/{id}/log/file", get(log::file))
        .route("/tasks/{id}/tap", get(tap::page))
        .route("/tasks/{id}/tap/rows", get(tap::rows))
        .route("/tasks/{id}/rejects", get(rejects::page))
        .route("/tasks/{id}/rejects/{number}", get(rejects::file))
        .route("/tasks/{id}/replay", post(rejects::replay))
        .route("/tasks/{id}/checkpoints", get(task::list_checkpoints))
        .route("/tasks/{id}/versions/{number}", get(task::version))
        .route("/tasks/{id}/versions/{number}/rollback", get(restore::rollback_page).post(restore::rollback))
        .route("/tasks/{id}/restore", get(restore::page).post(restore::restore))
        .route("/records/{store}/{key}", get(records::page))
        .route("/stores", get(records::stores).post(records::allow))
        .route("/stores/{name}/delete", post(records::forbid))
        .route("/operations", get(task::all_operations))
        .route("/lint", post(edit::lint))
        .route("/complete", post(edit::complete))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/assets/{name}", get(assets::asset));
    pages
        .merge(api::routes())
        .fallback(|| async { crate::Refusal::not_found() })
        .layer(axum::middleware::from_fn_with_state(app.clone(), gate::gate))
        .with_state(app)
}
