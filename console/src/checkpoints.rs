//! A task's checkpoints, as `millrace checkpoints` tells them: the console does not read them itself.

use crate::tasks::{self, Task};
use crate::{App, Refusal, look};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Checkpoint {
    pub slot: u64,
    /// `periodic`, `savepoint`, `stop`, `drained`, `finished`, or `damaged`.
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
    let settings = app.store.run(|db| tasks::settings(db, t.id, t.version))?;
    let file = look::write(app, t, &settings)?;
    let said = look::ask(app, t, &settings, &["checkpoints", "list", &file.path.to_string_lossy(), "--json"], true).await?;
    if said.code != Some(0) {
        return Err(said.refusal());
    }
    serde_json::from_str(&said.out).map_err(|e| Refusal::failed(format!("`millrace checkpoints` is not understood: {e}")))
}
