//! What `run_env` says for the day on which something fails, and for those who watch: checkpoints, restarts, metrics.

use crate::diagnostic::{Found, Report};
use crate::plan::{CheckpointPlan, RestartPlan, S3Plan};
use crate::source::Span;
use crate::yaml::Node;
use millrace_sdk::config::{Duration, PathText, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

/// When and where state is made durable.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Checkpoint {
    /// What holds the state between two checkpoints. Default: rocksdb.
    #[serde(rename = "type")]
    pub kind: Option<Backend>,
    /// Time from the beginning of a checkpoint to the beginning of the next. Default 10s, at least 10ms.
    pub interval: Option<Duration>,
    /// Least time from the end of a checkpoint to the beginning of the next, less than `timeout`. Default 0s.
    pub min_pause: Option<Duration>,
    /// A checkpoint that takes longer has failed; one that waits for a server is delayed, which is not failed. Default 10m.
    pub timeout: Option<Duration>,
    /// Completed checkpoints that are kept. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub retained: Option<u32>,
    /// Periodic checkpoints in succession that may fail while the job goes on; one more ends the run, and `restart` decides. A completed
    /// one sets the count back. Default 0: the first that fails ends the run, as in Flink.
    pub tolerable_failures: Option<u32>,
    /// Where checkpoints lie: a folder, from the topology's folder, or `s3://bucket/prefix`. Default: `state_dir`.
    #[schemars(length(min = 1))]
    pub dir: Option<PathText>,
    /// How the object storage of `dir: s3://…` is reached.
    pub s3: Option<S3>,
    /// exactly_once: rows leave with the checkpoint that covers them. at_least_once: at once, and again after a failure. Default: exactly_once.
    pub mode: Option<CheckpointMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    Rocksdb,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckpointMode {
    ExactlyOnce,
    AtLeastOnce,
}

/// An S3-compatible object storage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct S3 {
    /// `http://…` or `https://…` of a storage that is not Amazon's. Default: Amazon's of the region.
    #[schemars(extend("x-address" = true))]
    pub endpoint: Option<String>,
    /// Default: `AWS_REGION` of the environment, else us-east-1.
    pub region: Option<String>,
    /// Default: `AWS_ACCESS_KEY_ID` of the environment.
    pub access_key: Option<String>,
    /// Belongs to `access_key`. Default: `AWS_SECRET_ACCESS_KEY` of the environment.
    pub secret_key: Option<Secret>,
    /// Whether the bucket stands in the path (`host/bucket`) rather than in the host's name. Default: true with an `endpoint`, else false.
    pub path_style: Option<bool>,
}

/// What happens when the job fails. Errors of the topology, of the data and lost records never restart a job; a server that is away, a
/// bug and a killed process do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    /// The strategy. fallBackRestart: that of the host's `millrace.yaml`, else fixedDelayRestart with 10 attempts and 10s.
    #[serde(rename = "type")]
    pub kind: RestartKind,
    /// fixedDelayRestart: restarts before the job ends. Default 3.
    #[schemars(range(min = 1))]
    pub attempts: Option<u32>,
    /// fixedDelayRestart, failureRateRestart: time before a restart. Default 10s.
    pub delay: Option<Duration>,
    /// failureRateRestart: failures within `interval` that are restarted; one more ends the job. Default 3.
    #[schemars(range(min = 1))]
    pub max_failures: Option<u32>,
    /// failureRateRestart: default 5m.
    pub interval: Option<Duration>,
    /// exponentialDelayRestart: time before the first restart. Default 1s.
    pub initial: Option<Duration>,
    /// exponentialDelayRestart: longest time before a restart. Default 1m.
    pub max: Option<Duration>,
    /// exponentialDelayRestart: what the time is multiplied by from one restart to the next. Default 1.5.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub multiplier: Option<f64>,
    /// exponentialDelayRestart: a job that ran for so long begins again with `initial`. Default 1h.
    pub reset_after: Option<Duration>,
    /// exponentialDelayRestart: share of the time by which it varies at random, up and down. Default 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RestartKind {
    NoRestart,
    FixedDelayRestart,
    FallBackRestart,
    FailureRateRestart,
    ExponentialDelayRestart,
}

/// The port for Prometheus and probes. There is none unless this or `--metrics` is given: several jobs share a host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// Address and port, or a port of 127.0.0.1. The port 0 takes a free one and logs it. Nothing but figures and probes is served, to
    /// everybody who reaches the address. Default: 127.0.0.1:9464.
    #[schemars(extend("x-address" = true))]
    pub listen: Option<String>,
}

pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:9464";

/// Places of keys within one map of `run_env`.
struct Places<'a> {
    node: &'a Node,
    owner: Span,
}

impl Places<'_> {
    /// The value of a key.
    fn value(&self, key: &str) -> Span {
        self.node.get(key).map_or(self.owner, |n| n.span)
    }

    /// The key itself.
    fn key(&self, key: &str) -> Span {
        self.node.entry(key).map_or(self.owner, |e| e.key_span)
    }

    /// A time of at least `least`; told if it is not.
    fn time(&self, report: &mut Report, key: &str, given: Option<Duration>, default: Duration, least: Duration) -> std::time::Duration {
        let time = given.unwrap_or(default);
        if time < least {
            let message = format!("`{key}` is {time}, where at least {least} is needed");
            report.push(Found::error("out-of-range", self.value(key), message));
        }
        time.std()
    }
}

/// The plan of the checkpoints. `state_dir` is where they lie unless said otherwise, `base_dir` where relative folders begin.
pub(crate) fn checkpoint(
    report: &mut Report,
    c: &Checkpoint,
    node: &Node,
    owner: Span,
    state_dir: &Path,
    base_dir: &Path,
) -> CheckpointPlan {
    let at = Places { node, owner };
    let instant = Duration::millis(10);
    let interval = at.time(report, "interval", c.interval, Duration::secs(10), instant);
    let timeout = at.time(report, "timeout", c.timeout, Duration::secs(600), instant);
    let min_pause = at.time(report, "min_pause", c.min_pause, Duration::default(), Duration::default());
    if min_pause >= timeout && c.min_pause.is_some() {
        let found = Found::error("out-of-range", at.value("min_pause"), "`min_pause` is not less than `timeout`");
        report.push(found.second(at.value("timeout"), "this is the time after which a checkpoint has failed"));
    }
    let (location, in_s3) = match c.dir.as_ref() {
        None => (absolute(state_dir), false),
        Some(dir) => match dir.0.split_once("://") {
            None => (absolute(&base_dir.join(&dir.0)), false),
            Some(("s3", rest)) => {
                let bucket = rest.split('/').next().unwrap_or_default();
                if bucket.is_empty() || bucket.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)) {
                    let found = Found::error("invalid-config", at.value("dir"), format!("`{bucket}` cannot be the name of a bucket"));
                    report.push(found.hint("write `s3://bucket/prefix`"));
                }
                (dir.0.trim_end_matches('/').to_string(), true)
            }
            Some((scheme, _)) => {
                let found = Found::error("invalid-config", at.value("dir"), format!("unknown storage `{scheme}://`"));
                report.push(found.hint("checkpoints lie in a folder or in `s3://bucket/prefix`"));
                (dir.0.clone(), false)
            }
        },
    };
    if c.s3.is_some() && !in_s3 {
        let found = Found::error("invalid-config", at.key("s3"), "`s3` is given, and `dir` is no `s3://bucket/prefix`");
        report.push(found.hint("write `dir: s3://bucket/prefix`, or take `s3` out"));
    }
    CheckpointPlan {
        interval,
        min_pause,
        timeout,
        retained: c.retained.unwrap_or(3) as usize,
        tolerable_failures: c.tolerable_failures.unwrap_or(0),
        location,
        s3: in_s3.then(|| s3(report, c.s3.clone().unwrap_or_default(), &at)),
        exactly_once: c.mode != Some(CheckpointMode::AtLeastOnce),
    }
}

fn s3(report: &mut Report, s: S3, at: &Places) -> S3Plan {
    let node = at.node.get("s3");
    let place = |key: &str| node.and_then(|n| n.get(key)).map_or(at.key("s3"), |n| n.span);
    if s.endpoint.as_ref().is_some_and(|e| !e.starts_with("http://") && !e.starts_with("https://")) {
        report.push(Found::error("invalid-config", place("endpoint"), "an endpoint begins with `http://` or `https://`"));
    }
    // It becomes part of the server's name.
    if s.region.as_ref().is_some_and(|r| r.is_empty() || !r.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
        report.push(Found::error("invalid-config", place("region"), "a region has letters, digits and `-` only"));
    }
    let written = |key: &str| node.is_some_and(|n| n.entry(key).is_some());
    match (&s.access_key, &s.secret_key) {
        // One that could not be read was told.
        _ if written("access_key") && written("secret_key") => {}
        (Some(_), None) => report.push(Found::error("missing-key", place("access_key"), "`access_key` without `secret_key`")),
        (None, Some(_)) => report.push(Found::error("missing-key", place("secret_key"), "`secret_key` without `access_key`")),
        _ => {}
    }
    let path_style = s.path_style.unwrap_or(s.endpoint.is_some());
    S3Plan { endpoint: s.endpoint, region: s.region, access_key: s.access_key, secret_key: s.secret_key, path_style }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).components().collect::<std::path::PathBuf>().display().to_string()
}

/// Which strategies a key belongs to.
fn belongs(key: &str) -> &'static [RestartKind] {
    match key {
        "attempts" => &[RestartKind::FixedDelayRestart],
        "delay" => &[RestartKind::FixedDelayRestart, RestartKind::FailureRateRestart],
        "max_failures" | "interval" => &[RestartKind::FailureRateRestart],
        _ => &[RestartKind::ExponentialDelayRestart],
    }
}

pub(crate) fn restart(report: &mut Report, r: &Restart, node: &Node, owner: Span) -> RestartPlan {
    let at = Places { node, owner };
    for e in node.entries() {
        let key = crate::yaml::snake_case(&e.key);
        let known = ["attempts", "delay", "max_failures", "interval", "initial", "max", "multiplier", "reset_after", "jitter"];
        if !known.contains(&key.as_str()) || belongs(&key).contains(&r.kind) {
            continue;
        }
        let written = node.get("type").and_then(Node::text).unwrap_or_default();
        let found = Found::error("invalid-config", e.key_span, format!("`{key}` has no meaning for `{written}`"));
        let others: Vec<String> = belongs(&key).iter().map(|k| format!("`{}`", name(*k))).collect();
        report.push(found.hint(format!("it belongs to {}", others.join(" and "))));
    }
    let delay = at.time(report, "delay", r.delay, Duration::secs(10), Duration::default());
    match r.kind {
        RestartKind::NoRestart => RestartPlan::None,
        RestartKind::FallBackRestart => RestartPlan::FallBack,
        RestartKind::FixedDelayRestart => RestartPlan::FixedDelay { attempts: r.attempts.unwrap_or(3), delay },
        RestartKind::FailureRateRestart => RestartPlan::FailureRate {
            max_failures: r.max_failures.unwrap_or(3),
            interval: at.time(report, "interval", r.interval, Duration::secs(300), Duration::millis(1)),
            delay,
        },
        RestartKind::ExponentialDelayRestart => {
            let initial = at.time(report, "initial", r.initial, Duration::secs(1), Duration::millis(1));
            let max = at.time(report, "max", r.max, Duration::secs(60), Duration::millis(1));
            if max < initial {
                report.push(Found::error("out-of-range", at.value("max"), "`max` is less than `initial`"));
            }
            RestartPlan::ExponentialDelay {
                initial,
                max,
                multiplier: r.multiplier.unwrap_or(1.5),
                reset_after: at.time(report, "reset_after", r.reset_after, Duration::secs(3600), Duration::millis(1)),
                jitter: r.jitter.unwrap_or(0.1),
            }
        }
    }
}

fn name(kind: RestartKind) -> &'static str {
    match kind {
        RestartKind::NoRestart => "noRestart",
        RestartKind::FixedDelayRestart => "fixedDelayRestart",
        RestartKind::FallBackRestart => "fallBackRestart",
        RestartKind::FailureRateRestart => "failureRateRestart",
        RestartKind::ExponentialDelayRestart => "exponentialDelayRestart",
    }
}

/// The address to listen on, from `host:port` or a port.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| format!("`{text}` is no address: write `host:port` like `{DEFAULT_LISTEN}`, or a port"))
}

pub(crate) fn metrics(report: &mut Report, m: &Metrics, node: &Node, owner: Span) -> Option<SocketAddr> {
    let text = m.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
    match listen(text) {
        Ok(address) => Some(address),
        Err(e) => {
            report.push(Found::error("invalid-config", Places { node, owner }.value("listen"), e));
            None
        }
    }
}
