//! What a task's form says: all of it but the secrets' values. A version of a task is one of these.

use crate::Refusal;
use crate::accounts::Role;
use crate::alarms::{Receivers, Rule};
use crate::stars::{self, starred};
use millrace_plan::{Confine, Diagnostic, Options, Planned};
use millrace_sdk::Severity;
use millrace_sdk::config::{Duration, Secret, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Longest configuration, bytes.
pub const MAX_CONFIG: usize = 1 << 20;
/// All variables and secrets together, bytes: they reach the job through one variable of its environment (Linux takes 128 KiB).
pub const MAX_VARIABLES: usize = 64 << 10;
/// Rules of one task: each is looked at every second.
const MAX_ALARMS: usize = 100;
/// A process has some 40 MiB before it has read a row, and needs at least 64 MiB for what it reads.
const LEAST_MEMORY: u64 = 128 << 20;
/// What messages call the configuration, and its file in the task's folder.
pub const FILE: &str = "topology.yaml";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub description: String,
    pub tags: Vec<String>,
    /// The topology, YAML.
    pub config: String,
    pub variables: BTreeMap<String, String>,
    /// `2GiB`; empty: what the topology says.
    pub memory: String,
    /// Worker threads of each process; None: what the topology says.
    pub workers: Option<u16>,
    /// None: one.
    pub processes: Option<u16>,
    /// Files that a process may have open; None: the system's limit.
    pub open_files: Option<u64>,
    /// Resident memory of all its processes together, `2GiB`; empty: no limit.
    pub memory_limit: String,
    /// Processors; None: all.
    pub cpu: Option<f64>,
    pub restart: Restart,
    pub alarms: Vec<Rule>,
    /// Who is told of alarms.
    pub receivers: Receivers,
}

/// Whether and how often a failed job is started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum Restart {
    /// As the topology says.
    #[default]
    Topology,
    None,
    FixedDelay {
        attempts: u32,
        delay: String,
    },
    FailureRate {
        max_failures: u32,
        interval: String,
        delay: String,
    },
    ExponentialDelay {
        initial: String,
        max: String,
    },
}

impl Restart {
    /// The key of the topology, for `--set`.
    fn set(&self) -> Option<String> {
        match self {
            Restart::Topology => None,
            Restart::None => Some("{type: noRestart}".into()),
            Restart::FixedDelay { attempts, delay } => Some(format!("{{type: fixedDelayRestart, attempts: {attempts}, delay: {delay}}}")),
            Restart::FailureRate { max_failures, interval, delay } => {
                Some(format!("{{type: failureRateRestart, max_failures: {max_failures}, interval: {interval}, delay: {delay}}}"))
            }
            Restart::ExponentialDelay { initial, max } => {
                Some(format!("{{type: exponentialDelayRestart, initial: {initial}, max: {max}}}"))
            }
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        let lengths: Vec<&String> = match self {
            Restart::Topology | Restart::None => vec![],
            Restart::FixedDelay { delay, .. } => vec![delay],
            Restart::FailureRate { interval, delay, .. } => vec![interval, delay],
            Restart::ExponentialDelay { initial, max } => vec![initial, max],
        };
        // The text becomes part of a YAML value: nothing but a duration may be in it.
        let wrong = lengths.into_iter().find(|d| Duration::parse(d).is_err() || !d.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'));
        match wrong {
            Some(d) => Err(Refusal::bad(format!("`{d}` is no length of time: write `10s` or `5m`"))),
            None => Ok(()),
        }
    }
}

impl Settings {
    /// A number below zero that others have by no chance worth counting.
    pub fn mark(&self) -> i64 {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&serde_json::to_string(self).unwrap_or_default(), &mut hasher);
        -1 - (std::hash::Hasher::finish(&hasher) >> 1) as i64
    }

    /// # Errors
    /// A field of the form has no meaning. The topology is lint's business.
    pub fn check(&self) -> Result<(), Refusal> {
        self.restart.check()?;
        if self.config.len() > MAX_CONFIG {
            return Err(Refusal::bad(format!("a configuration has at most {} KiB", MAX_CONFIG >> 10)));
        }
        if !self.memory.is_empty()
            && (Size::parse(&self.memory).is_err() || !self.memory.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
        {
            return Err(Refusal::bad(format!("`{}` is no size: write `512MiB` or `2GiB`", self.memory)));
        }
        let bounds = [(self.workers, 256, "workers"), (self.processes, 64, "processes")];
        if let Some((_, most, what)) = bounds.into_iter().find(|(n, most, _)| n.is_some_and(|n| n == 0 || n > *most)) {
            return Err(Refusal::bad(format!("`{what}` is a number from 1 to {most}")));
        }
        if self.open_files.is_some_and(|n| n < 64) {
            return Err(Refusal::bad("a job cannot do with less than 64 open files"));
        }
        self.check_limits()?;
        if self.description.chars().count() > 2000 || self.tags.len() > 20 || self.tags.iter().any(|t| t.chars().count() > 40) {
            return Err(Refusal::bad("a description has at most 2,000 characters, a task at most 20 tags of 40"));
        }
        if self.alarms.len() > MAX_ALARMS {
            return Err(Refusal::bad(format!("a task has at most {MAX_ALARMS} alarms")));
        }
        self.variables.keys().try_for_each(|n| check_variable(n))?;
        self.alarms.iter().try_for_each(Rule::check)
    }

    fn check_limits(&self) -> Result<(), Refusal> {
        let size = |text: &str| if text.is_empty() { None } else { Size::parse(text).ok().map(|s| s.bytes) };
        if !self.memory_limit.is_empty() {
            let fine = self.memory_limit.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
            match size(&self.memory_limit).filter(|_| fine) {
                None => return Err(Refusal::bad(format!("`{}` is no size: write `512MiB` or `2GiB`", self.memory_limit))),
                Some(n) if n < LEAST_MEMORY => return Err(Refusal::bad("a job cannot do with a memory limit of less than 128MiB")),
                Some(n) if size(&self.memory).is_some_and(|m| m.saturating_mul(self.processes.unwrap_or(1).into()) >= n) => {
                    return Err(Refusal::bad("the memory of the job's processes must be less than their memory limit"));
                }
                Some(_) => {}
            }
        }
        match self.cpu.is_none_or(|n| (0.01..=1024.0).contains(&n)) {
            true => Ok(()),
            false => Err(Refusal::bad("a job may use from 0.01 to 1,024 processors")),
        }
    }

    /// As members see them who may not change them: the path of a webhook is often what lets somebody in.
    pub fn seen_by(mut self, role: Role) -> Settings {
        let hook = &mut self.receivers.webhook;
        if role < Role::Editor && !hook.is_empty() {
            let host = reqwest::Url::parse(hook).ok().and_then(|u| Some(format!("{}://{}/***", u.scheme(), u.host_str()?)));
            *hook = host.unwrap_or_else(|| "***".into());
        }
        self
    }

    /// `--set` for the run.
    pub fn set(&self) -> Vec<(String, String)> {
        let mut all = vec![];
        // Each process knows the limit, but not that it shares it.
        let shared = || {
            let processes = self.processes.filter(|n| *n > 1)?;
            Some((Size::parse(&self.memory_limit).ok()?.bytes / 4 * 3 / u64::from(processes)).to_string())
        };
        if let Some(memory) = Some(self.memory.clone()).filter(|m| !m.is_empty()).or_else(shared) {
            all.push(("run_env.memory".into(), memory));
        }
        all.extend(self.restart.set().map(|r| ("run_env.restart".into(), r)));
        all
    }

    /// What the run would say of the topology.
    pub fn plan(&self, secrets: &BTreeMap<String, String>, folder: &Path, confine: Confine) -> Planned {
        let variables = self.variables.iter().chain(secrets).map(|(k, v)| (k.clone(), Secret(v.clone()))).collect();
        let workers = self.workers.map(usize::from);
        let options = Options { set: self.set(), workers, variables: Some(variables), confine: Some(confine), ..Options::default() };
        let name = folder.join(FILE).display().to_string();
        let mut planned = millrace_plan::load_text(&name, &self.config, folder, &options);
        let forms = stars::forms(secrets.values());
        for d in &mut planned.diagnostics {
            shorten(d, &name);
            star(d, &forms);
        }
        for p in &mut planned.graph.parts {
            p.fields.iter_mut().chain([&mut p.name]).for_each(|text| *text = starred(text, &forms));
        }
        for a in &mut planned.graph.arrows {
            a.label = starred(&a.label, &forms);
        }
        planned
    }
}

/// Messages quote what a variable stands for; secrets are not quoted.
fn star(d: &mut Diagnostic, forms: &[String]) {
    let texts = [Some(&mut d.message), d.hint.as_mut(), d.suggestion.as_mut(), d.second.as_mut().map(|s| &mut s.message)];
    for text in texts.into_iter().flatten() {
        *text = starred(text, forms);
    }
}

/// Messages name the file, not the console's folder.
fn shorten(d: &mut Diagnostic, name: &str) {
    for file in std::iter::once(&mut d.file).chain(d.second.as_mut().map(|s| &mut s.file)) {
        if file == name {
            *file = FILE.into();
        }
    }
}

/// # Errors
/// A variable cannot be called so.
pub fn check_variable(name: &str) -> Result<(), Refusal> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !name.is_empty() && name.len() <= 100 && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(fine) {
        true => Ok(()),
        false => Err(Refusal::bad(format!("`{name}` is no variable's name: letters, digits and `_`"))),
    }
}

/// The errors, as lint prints them.
pub fn errors(planned: &Planned) -> Vec<&Diagnostic> {
    planned.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect()
}
