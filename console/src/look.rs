//! What the executable says of a topology beside a task's job: the console knows neither engine nor checkpoints, and says nothing of them in
//! words of its own.

use crate::settings::{self, FILE, Settings};
use crate::stars::{self, starred};
use crate::tasks::{self, Task};
use crate::{App, Refusal, accounts, jobs};
use axum::http::StatusCode;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What the names of copies of a topology begin with.
const COPY: &str = ".look-";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A topology in the job's folder, as its relative paths begin there; the file goes with this value.
pub struct Written {
    pub path: PathBuf,
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a call has printed, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

impl Said {
    /// Why it was not done.
    pub fn refusal(&self) -> Refusal {
        let text = self.error.trim().trim_start_matches("error: ");
        Refusal::conflict(if text.is_empty() { "millrace has failed and does not say why" } else { text })
    }
}

/// Writes the topology of some settings beside the job's.
///
/// # Errors
/// It has errors, or the folder cannot be written.
pub fn write(app: &App, t: &Task, settings: &Settings) -> Result<Written, Refusal> {
    let folder = app.job_folder(t.id);
    let secrets = app.store.run(|db| tasks::secrets(app, db, t.id))?;
    std::fs::create_dir_all(&folder).map_err(|e| Refusal::failed(format!("the task's folder cannot be used: {e}")))?;
    let planned = settings.plan(&secrets, &folder, app.confine(t.id));
    let Some(plan) = &planned.plan else {
        let why = settings::errors(&planned).first().map_or(String::new(), |d| format!(" (line {}: {})", d.line, d.message));
        return Err(Refusal::conflict(format!("the version has errors{why}")));
    };
    let unnamed = planned.graph.rest["name"].is_null();
    // A job without a name is called after its file, and this one has another.
    let name = if unnamed { format!("name: {}\n", serde_json::Value::from(plan.env.job.as_str())) } else { String::new() };
    let path = folder.join(format!("{COPY}{}.yaml", &accounts::random()[..16]));
    let written = Written { path };
    std::fs::write(&written.path, name + &settings.config)
        .map_err(|e| Refusal::failed(format!("the task's folder cannot be used: {e}")))?;
    Ok(written)
}

/// Runs the executable with what the task's job would have of variables and limits. `set`: with what the form sets of the topology.
///
/// # Errors
/// It cannot be run, or takes too long.
pub async fn ask(app: &Arc<App>, t: &Task, settings: &Settings, args: &[&str], set: bool) -> Result<Said, Refusal> {
    let secrets = app.store.run(|db| tasks::secrets(app, db, t.id))?;
    let mut command = jobs::command(app, t.id, settings, &secrets);
    command.args(args);
    for (key, value) in settings.set().into_iter().filter(|_| set) {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    call(app, command, args, &secrets).await
}

async fn call(app: &Arc<App>, mut command: Command, args: &[&str], secrets: &BTreeMap<String, String>) -> Result<Said, Refusal> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |e: &dyn std::fmt::Display| Refusal::failed(format!("`millrace {}` cannot be run: {e}", args.join(" ")));
    let busy = || Refusal {
        retry_after: Some(5),
        ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "busy", "too many ask for checkpoints, previews and records at once: try again")
    };
    let permit = tokio::time::timeout(PATIENCE, app.calls.clone().acquire_owned()).await;
    let _permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
    let child = command.spawn().map_err(|e| failed(&e))?;
    // Not yet waited for: the number is its own.
    let process = Pid::from_raw(child.id().try_into().unwrap_or_default()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let output = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || child.wait_with_output())).await;
    let Ok(output) = output else {
        process.iter().for_each(|p| _ = pidfd_send_signal(p, Signal::KILL));
        return Err(failed(&format!("it takes longer than {} s", PATIENCE.as_secs())));
    };
    let output = output.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    // Who reads knows nothing of the copy.
    let copies = || args.iter().filter(|a| a.contains(COPY));
    let text = |bytes: &[u8]| copies().fold(String::from_utf8_lossy(bytes).into_owned(), |t, copy| t.replace(copy, FILE));
    // What it printed is starred where it is taken apart: it may be JSON.
    let error = starred(&text(&output.stderr), &stars::forms(secrets.values()));
    Ok(Said { code: output.status.code(), out: text(&output.stdout), error })
}

/// What a start would do, in the words of the command line.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct Foreseen {
    pub said: Vec<String>,
    pub refused: Option<Fault>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Fault {
    pub message: String,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub hint: Option<String>,
}

impl Foreseen {
    fn starred(mut self, secrets: &[String]) -> Foreseen {
        let refused = self.refused.iter_mut().flat_map(|f| std::iter::once(&mut f.message).chain(&mut f.detail).chain(&mut f.hint));
        self.said.iter_mut().chain(refused).for_each(|text| *text = starred(text, secrets));
        self
    }

    /// What is refused without the flag.
    pub fn wants(&self, flag: &str) -> bool {
        self.refused.as_ref().and_then(|f| f.hint.as_ref()).is_some_and(|h| h.contains(flag))
    }
}

/// What a start of some settings from a checkpoint would do.
///
/// # Errors
/// There is no such checkpoint, the job takes none, or the settings have errors.
pub async fn foresee(app: &Arc<App>, t: &Task, settings: &Settings, start: &jobs::Start) -> Result<Foreseen, Refusal> {
    jobs::check_from(app, t.id, &start.from)?;
    let file = write(app, t, settings)?;
    let path = file.path.to_string_lossy().into_owned();
    let mut args = vec!["checkpoints", "preview", "--json", start.from.as_str(), &path];
    args.extend(start.accept_duplicates.then_some("--accept-duplicates"));
    args.extend(start.allow_dropped_state.then_some("--allow-dropped-state"));
    let said = ask(app, t, settings, &args, true).await?;
    match serde_json::from_str::<Foreseen>(&said.out) {
        Ok(foreseen) => Ok(foreseen.starred(&stars::values(app, t.id)?)),
        Err(_) => Err(said.refusal()),
    }
}

/// What changes from one version's topology to another's, and whether state survives: the text of `millrace diff`, and true where it does.
///
/// # Errors
/// One of them has errors.
pub async fn diff(app: &Arc<App>, t: &Task, old: &Settings, new: &Settings) -> Result<(String, bool), Refusal> {
    let (a, b) = (write(app, t, old)?, write(app, t, new)?);
    let args = ["diff", &a.path.to_string_lossy(), &b.path.to_string_lossy()];
    let secrets = app.store.run(|db| tasks::secrets(app, db, t.id))?;
    let mut command = jobs::command(app, t.id, new, &secrets);
    // Each version has its own variables.
    command.args(args).env("MILLRACE_OLD_VARIABLES", jobs::variables(old, &secrets));
    let said = call(app, command, &args, &secrets).await?;
    match said.code {
        Some(code @ (0 | 8)) => Ok((starred(&said.out, &stars::values(app, t.id)?), code == 0)),
        _ => Err(said.refusal()),
    }
}
