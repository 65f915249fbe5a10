//! Why a request is not done: a status, a stable id, and a sentence.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// Kebab-case.
    pub id: &'static str,
    /// A lowercase sentence without full stop.
    pub message: String,
    /// Seconds after which to ask again.
    pub retry_after: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, id, message: message.into(), retry_after: None }
    }

    /// What is not there, or what the visitor may not know of.
    pub fn not_found() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here, or nothing that you may see")
    }

    pub fn forbidden(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// What was asked for is not well formed.
    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-request", message)
    }

    /// It cannot be done as things stand.
    pub fn conflict(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// The console itself has failed; the log has more.
    pub fn failed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Refusal {
        tracing::error!("the console's database: {e}");
        Refusal::failed("the console's database has failed; its log says more")
    }
}

/// The body is written by the outermost layer, which knows whether a person or a program asks.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
