//! What holds for all jobs of a host: `millrace.yaml`.

use crate::diagnostic::{Diagnostic, Found, Report};
use crate::durability::{self, Restart};
use crate::plan::RestartPlan;
use crate::source::Span;
use crate::topology::typed;
use crate::vars::Vars;
use crate::yaml;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The name of the host's file.
pub const NAME: &str = "millrace.yaml";

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    /// What `fallBackRestart` means in a topology. Default: fixedDelayRestart with 10 attempts and 10s.
    restart: Option<Restart>,
}

/// The host's settings and where they stand.
#[derive(Debug, Default)]
pub struct Host {
    /// None: no folder has a `millrace.yaml`.
    pub file: Option<PathBuf>,
    /// None: not said.
    pub restart: Option<RestartPlan>,
    /// Sorted by place.
    pub diagnostics: Vec<Diagnostic>,
}

/// The folders that may hold `millrace.yaml`, in order: the topology's, the user's, the machine's.
pub fn folders(topology: &Path) -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let user = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|h| h.join(".config")));
    let beside = topology.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let mut all = vec![beside];
    all.extend(user.map(|u| u.join("millrace")));
    all.push("/etc/millrace".into());
    all
}

/// Reads the first `millrace.yaml` that is there.
pub fn load(folders: &[PathBuf]) -> Host {
    let Some(file) = folders.iter().map(|f| f.join(NAME)).find(|f| f.is_file()) else { return Host::default() };
    let mut report = Report::default();
    let name = file.display().to_string();
    let restart = match std::fs::read_to_string(&file) {
        Ok(text) => read(&mut report, &name, &text, file.parent().unwrap_or(Path::new("."))),
        Err(e) => {
            let src = report.sources.add(name.clone(), "");
            report.push(Found::error("missing-file", Span::new(src, 0..0), format!("cannot read `{name}`: {e}")));
            None
        }
    };
    Host { restart: restart.filter(|_| !report.has_errors()), diagnostics: report.finish(), file: Some(file) }
}

fn read(report: &mut Report, name: &str, text: &str, dir: &Path) -> Option<RestartPlan> {
    let src = report.sources.add(name, text);
    let root = yaml::parse(report, src, &mut Vars::new(Default::default(), dir.to_path_buf()));
    if root.is_bad() || matches!(root.content, yaml::Content::Null) {
        return None;
    }
    let keys: Keys = typed(report, &root, root.span)?;
    let entry = root.entry("restart")?;
    let plan = durability::restart(report, &keys.restart?, &entry.value, entry.key_span);
    if plan == RestartPlan::FallBack {
        let span = entry.value.get("type").map_or(entry.key_span, |n| n.span);
        report.push(Found::error("invalid-config", span, "the host's own strategy cannot be `fallBackRestart`"));
    }
    Some(plan)
}
