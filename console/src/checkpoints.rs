//! A task's checkpoints, as `millrace checkpoints` tells them: the console does not read them itself.

use crate::settings::FILE;
use crate::tasks::{self, Task};
use crate::{App, Refusal, jobs};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Checkpoint {
    pub slot: u64,
    /// `checkpoint`, `savepoint`, or `damaged`.
    pub kind: String,
    #[serde(default)]
    pub time: String,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub workers: u64,
}

/// Oldest first.
///
/// # Errors
/// The task takes none, has none yet, or its storage cannot be read.
pub async fn list(app: &Arc<App>, t: &Task) -> Result<Vec<Checkpoint>, Refusal> {
    if t.run == 0 {
        return Ok(vec![]);
    }
    let (settings, secrets) = app.store.run(|db| Ok((tasks::settings(db, t.id, t.version)?, tasks::secrets(app, db, t.id)?)))?;
    let mut command = jobs::command(app, t.id, &settings, &secrets);
    command.args(["checkpoints", "list", FILE, "--json"]);
    for (key, value) in settings.set() {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = tokio::task::spawn_blocking(move || command.stdin(std::process::Stdio::null()).output()).await;
    let output = output.map_err(|e| Refusal::failed(e.to_string()))?;
    let output = output.map_err(|e| Refusal::failed(format!("`millrace checkpoints` cannot be run: {e}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Refusal::conflict(text.trim().trim_start_matches("error: ").to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| Refusal::failed(format!("`millrace checkpoints` is not understood: {e}")))
}
