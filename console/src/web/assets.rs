//! Style and scripts: in the executable, named by their contents, so that a browser may keep them for good.

use crate::Refusal;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::OnceLock;

const ALL: &[(&str, &str, &str)] = &[
    ("console.css", "text/css; charset=utf-8", include_str!("../assets/console.css")),
    ("console.js", "text/javascript; charset=utf-8", include_str!("../assets/console.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// `console.1a2b3c4d.css` for each.
fn names() -> &'static HashMap<&'static str, String> {
    static NAMES: OnceLock<HashMap<&str, String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let name = |(name, _, text): &(&'static str, &str, &str)| {
            let hash = hex::encode(&Sha256::digest(text.as_bytes())[..6]);
            let (stem, end) = name.split_once('.').unwrap_or((name, ""));
            (*name, format!("{stem}.{hash}.{end}"))
        };
        ALL.iter().map(name).collect()
    })
}

/// Where a page finds it.
pub fn path(name: &str) -> String {
    format!("/assets/{}", names().get(name).map_or(name, String::as_str))
}

pub async fn asset(Path(wanted): Path<String>) -> Result<Response, Refusal> {
    let found = ALL.iter().find(|(name, _, _)| names().get(name).is_some_and(|n| *n == wanted));
    let (_, kind, text) = found.ok_or_else(Refusal::not_found)?;
    Ok(([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")], *text).into_response())
}
