//! The language above the parts: which keys a topology has, and the parts that it names, made and checked one by one.

use crate::alerts::Alerts;
use crate::cases::{self, Written};
use crate::check::{self, check};
use crate::diagnostic::{Found, Report};
use crate::durability::{Checkpoint, Metrics, Restart};
use crate::guards::{self, Guard};
use crate::source::Span;
use crate::spelling;
use crate::yaml::{Content, Entry, Node, snake_case};
use millrace_sdk::config::{Duration, PathText, Size};
use millrace_sdk::operator::TimeCharacteristic;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Kind, Severity};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

mod form;
mod part;

pub(crate) use form::{first_line, known_keys, valid_name};
use form::{items, listed, map, missing, missing_at, text, with_entries, within_env};
pub(crate) use part::{Use, read_use, schema_of};

/// The top keys of a topology.
pub(crate) const TOP: &[&str] =
    &["name", "include", "run_env", "defaults", "fragments", "stores", "streams", "transforms", "sink", "guards", "tests"];
pub(crate) const STREAM: &[&str] = &["type", "config", "sink"];
pub(crate) const STREAM_CONFIG: &[&str] = &["source", "operates", "watermark", "role", "sink"];
/// Keys of `run_env`.
const RUN_ENV: &[&str] = &[
    "checkpoint",
    "alerts",
    "dead_letter",
    "max_record",
    "memory",
    "metrics",
    "on_error",
    "parallelism",
    "restart",
    "state_dir",
    "time_characteristic",
    "time_zone",
];
pub(crate) const WATERMARK: &[&str] = &["field", "format", "max_out_of_orderness", "max_future", "idle_after"];
/// What holds for the whole job.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RunEnv {
    /// Which time decides in windows and joins. Default: ProcessingTime.
    pub time_characteristic: Time,
    /// Workers of one process. Default 1; `--workers` goes first.
    #[schemars(range(min = 1, max = 1024))]
    pub parallelism: Option<u32>,
    /// IANA name of the zone in which texts without an offset are read and days begin. Default: UTC.
    pub time_zone: Option<String>,
    /// What happens when the job fails.
    pub restart: Option<Restart>,
    /// When and where state is made durable.
    pub checkpoint: Option<Checkpoint>,
    /// The sink of rejected records. Default: a file `dead-letter/<job>.jsonl` in the state folder.
    pub dead_letter: Option<Value>,
    /// What an expression that overflows or divides by zero gives. Default: dead_letter.
    pub on_error: Option<OnError>,
    /// Longest record that a source may hold. Default: 16MiB.
    pub max_record: Option<Size>,
    /// Folder of the job's state, from the topology's folder. Default: the checkpoint's `dir` if that is a folder, else `state`.
    pub state_dir: Option<PathText>,
    /// Memory that the process may take, at least 64MiB; state that does not fit lies on disk, in `state_dir`. Default: three quarters of what
    /// the machine, or the process's control group, has.
    pub memory: Option<Size>,
    /// The port for Prometheus and probes.
    pub metrics: Option<Metrics>,
    /// Who is told when the job needs somebody.
    pub alerts: Option<Alerts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub(crate) enum Time {
    #[default]
    ProcessingTime,
    IngestionTime,
    EventTime,
}

impl From<Time> for TimeCharacteristic {
    fn from(t: Time) -> TimeCharacteristic {
        match t {
            Time::ProcessingTime => TimeCharacteristic::ProcessingTime,
            Time::IngestionTime => TimeCharacteristic::IngestionTime,
            Time::EventTime => TimeCharacteristic::EventTime,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnError {
    DeadLetter,
    Null,
}

/// Where a stream's event time comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Watermark {
    /// The time field, as it is after `operates`.
    pub field: millrace_sdk::config::FieldName,
    /// How it is written: `epoch_ms`, `epoch_s`, `iso8601`, or a pattern like `%Y-%m-%d %H:%M:%S` or `yyyy-MM-dd HH:mm:ss`.
    pub format: String,
    /// How far rows may come behind the newest one of their partition. Default 0s.
    #[serde(default)]
    pub max_out_of_orderness: Duration,
    /// A row further ahead of the clock goes to the dead letter. Default 1d.
    pub max_future: Option<Duration>,
    /// A partition without rows for so long holds nothing up. Default: it holds up for ever.
    pub idle_after: Option<Duration>,
}

pub(crate) struct Stream {
    pub name: String,
    pub name_span: Span,
    pub source: Use,
    pub operates: Vec<(String, Use)>,
    pub watermark: Option<(Watermark, Node)>,
    pub retry: bool,
    /// Something of it is so broken that nothing is known about its rows.
    pub tainted: bool,
    /// Steps may have stood in what was taken out.
    pub holes: bool,
}

/// A transform or a sink, not yet wired.
pub(crate) struct Step {
    pub name: Option<(String, Span)>,
    pub part: Use,
    /// The stream whose own sink it is.
    pub of_stream: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Topology {
    pub name: Option<String>,
    pub env: RunEnv,
    pub env_node: Option<Node>,
    pub dead_letter: Option<Use>,
    pub stores: Vec<(String, Span, Use)>,
    pub streams: Vec<Stream>,
    pub transforms: Vec<Step>,
    pub sinks: Vec<Step>,
    pub guards: Vec<(Guard, Node)>,
    pub tests: Vec<Written>,
}

/// Reads the tree of a topology.
pub(crate) fn read(report: &mut Report, root: &Node) -> Topology {
    let mut t = Topology::default();
    if root.is_bad() {
        return t;
    }
    hide_secrets(report, root);
    if !matches!(root.content, Content::Map(_)) {
        let found =
            Found::error("wrong-type", first_line(report, root.span), "a topology is a map with `streams`, `transforms` and `sink`");
        report.push(found);
        return t;
    }
    let root = &*known_keys(report, root, TOP, RUN_ENV);
    let root = &*within_env(root);
    let root = &*listed(report, root);
    if let Some(n) = root.get("name") {
        t.name = text(report, n, "a name");
    }
    if let Some(e) = root.entry("run_env") {
        t.env = typed::<RunEnv>(report, &e.value, e.key_span).unwrap_or_default();
        t.dead_letter =
            e.value.get("dead_letter").filter(|n| !matches!(n.content, Content::Null)).map(|n| read_use(report, n, Kind::Sink, &[]));
        t.env_node = Some(e.value.clone());
    }
    for e in map(report, root, "stores") {
        valid_name(report, &e.key, e.key_span);
        let part = read_use(report, &e.value, Kind::Store, &[]);
        t.stores.push((e.key.clone(), e.key_span, part));
    }
    match root.entry("streams") {
        None => missing(report, root, "streams", "the sources and how their records are washed"),
        Some(s) if matches!(s.value.content, Content::Null) => missing_at(report, s.key_span, "a stream"),
        Some(_) => {
            for e in map(report, root, "streams") {
                valid_name(report, &e.key, e.key_span);
                read_stream(report, &e.key, e.key_span, &e.value, &mut t);
            }
        }
    }
    for n in items(report, root, "transforms") {
        let step = read_step(report, n, Kind::Operator, &["name", "input", "left", "right", "retry", "parallelism"]);
        t.transforms.push(step);
    }
    for n in items(report, root, "sink") {
        let step = read_step(report, n, Kind::Sink, &["name", "input", "parallelism"]);
        t.sinks.push(step);
    }
    if t.sinks.is_empty() && root.entry("sink").is_none_or(|e| matches!(e.value.content, Content::Null | Content::Seq(_))) {
        match root.entry("sink") {
            Some(e) => missing_at(report, e.key_span, "a sink"),
            None => missing(report, root, "sink", "where the rows go"),
        }
    }
    let listed: Vec<&Node> = items(report, root, "guards").collect();
    t.guards = guards::read(report, listed.into_iter());
    for n in items(report, root, "tests") {
        t.tests.extend(cases::read(report, n));
    }
    t
}

fn read_stream(report: &mut Report, name: &str, name_span: Span, node: &Node, t: &mut Topology) {
    if node.is_bad() {
        return;
    }
    let node = &*known_keys(report, node, STREAM, STREAM_CONFIG);
    if let Some(n) = node.get("type")
        && let Some(ty) = text(report, n, "a stream type")
        && ty != "DefaultStream"
    {
        let found = Found::error("unknown-value", n.span, format!("unknown stream type `{ty}`"));
        report.push(found.suggest(did_you_mean(&ty, ["DefaultStream"])).hint("the type is `DefaultStream`, and may be left out"));
    }
    let nothing = Node::null(name_span);
    let config = node.get("config").unwrap_or(&nothing);
    let config_span = node.entry("config").map_or(name_span, |e| e.key_span);
    if matches!(config.content, Content::Scalar(_) | Content::Seq(_)) {
        let found =
            Found::error("wrong-type", first_line(report, config.span), format!("a stream's `config` is a map, found {}", config.kind()));
        report.push(found.hint("write `source:`, `operates:` and `watermark:` in it"));
    }
    // What stands beside `config` and belongs into it was told, and is read as if it stood there.
    let within = |e: &&Entry| STREAM_CONFIG.contains(&&*e.key) && !STREAM.contains(&&*e.key) && config.entry(&e.key).is_none();
    let beside: Vec<Entry> = node.entries().iter().filter(within).cloned().collect();
    let config = &*with_entries(config, beside);
    let config = &*known_keys(report, config, STREAM_CONFIG, STREAM);
    let source = match config.get("source") {
        Some(n) => read_use(report, n, Kind::Source, &["parallelism"]),
        None => {
            if matches!(config.content, Content::Map(_) | Content::Null) && !report.sources.has_hole(config.span) {
                missing_at(report, config_span, "the key `source`");
            }
            Use::broken(name_span)
        }
    };
    let retry = match config.get("role") {
        None => false,
        Some(n) => match n.text() {
            Some("retry") => true,
            other => {
                let near = other.and_then(|o| did_you_mean(o, ["retry"]));
                report.push(Found::error("unknown-value", n.span, "unknown role").suggest(near).hint("the one role there is: `retry`"));
                false
            }
        },
    };
    let operates: Vec<(String, Use)> = items(report, config, "operates")
        .map(|n| {
            let step = read_step(report, n, Kind::Operator, &["name"]);
            let own = step.name.map_or_else(|| snake_case(step.part.part_name()), |(n, _)| n);
            (own, step.part)
        })
        .collect();
    if retry && let Some(e) = config.entry("operates").filter(|e| !e.value.items().is_empty()) {
        let found = Found::error("operates-on-retry", e.key_span, "a retry stream has no `operates`");
        report.push(found.hint("its rows are those of the join's left input, ready washed"));
    }
    let watermark = match config.entry("watermark") {
        Some(e) if retry => {
            report.push(Found::error("watermark-on-retry", e.key_span, "a retry stream has no part in any watermark").hint("take it out"));
            None
        }
        Some(e) => typed::<Watermark>(report, &e.value, e.key_span).map(|w| (w, e.value.clone())),
        None => None,
    };
    let index = t.streams.len();
    let holes =
        [Some(node), Some(config), config.get("operates")].into_iter().flatten().any(|n| n.is_bad() || report.sources.has_hole(n.span));
    let tainted = source.tainted || operates.iter().any(|(_, u)| u.tainted) || holes;
    t.streams.push(Stream { name: name.to_string(), name_span, source, operates, watermark, retry, tainted, holes });
    for holder in [node, config] {
        for n in items(report, holder, "sink") {
            let mut step = read_step(report, n, Kind::Sink, &["name", "parallelism"]);
            step.of_stream = Some(index);
            t.sinks.push(step);
        }
    }
}

fn read_step(report: &mut Report, node: &Node, kind: Kind, siblings: &[&str]) -> Step {
    let part = read_use(report, node, kind, siblings);
    let name = part.node.get("name").filter(|_| siblings.contains(&"name")).and_then(|n| text(report, n, "a name").map(|t| (t, n.span)));
    if let Some((n, span)) = &name {
        valid_name(report, n, *span);
    }
    Step { name, part, of_stream: None }
}

/// The schema of one of the language's own types, made once in a process.
fn schema_of_type<T: JsonSchema>() -> &'static Value {
    static MADE: LazyLock<Mutex<HashMap<Cow<'static, str>, &'static Value>>> = LazyLock::new(Default::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(T::schema_id()).or_insert_with(|| Box::leak(Box::new(schemars::schema_for!(T).to_value())))
}

/// Values that look like secrets are not shown, whatever the part they stand in.
fn hide_secrets(report: &mut Report, node: &Node) {
    for e in node.entries() {
        let key = e.key.to_ascii_lowercase();
        if ["password", "secret", "token"].iter().any(|word| key.contains(word)) && e.value.text().is_some() {
            report.sources.hide(e.value.span);
            if let Content::Scalar(s) = &e.value.content {
                s.argument.into_iter().for_each(|span| report.sources.hide(span));
                report.found.extend(spelling::plain_secret(&e.value, s));
            }
        }
        if let Content::Scalar(s) = &e.value.content
            && password_in_url(&s.text)
        {
            report.sources.hide(e.value.span);
            report.found.extend(spelling::plain_secret(&e.value, s));
        }
        hide_secrets(report, &e.value);
    }
    node.items().iter().for_each(|n| hide_secrets(report, n));
}

/// `redis://user:password@host`.
fn password_in_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let user = rest.split(['/', '?', ' ']).next().and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    scheme.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+')
        && user.is_some_and(|u| u.split_once(':').is_some_and(|(_, p)| !p.is_empty()))
}

/// A value of a type that derives its schema.
pub(crate) fn typed<T: for<'de> Deserialize<'de> + JsonSchema>(report: &mut Report, node: &Node, owner: Span) -> Option<T> {
    let schema = schema_of_type::<T>();
    let checked = check(&report.sources, node, schema, owner);
    let clean = checked.found.iter().all(|f| f.severity != Severity::Error) && !checked.bad;
    report.found.extend(checked.found);
    report.paths.extend(checked.paths);
    report.addresses.extend(checked.addresses);
    report.properties.extend(checked.properties);
    for s in checked.secrets {
        report.sources.hide(s);
    }
    match serde_json::from_value(checked.value?) {
        Ok(v) => Some(v),
        Err(e) => {
            if clean {
                report.push(Found::error("invalid-config", owner, e.to_string()));
            }
            None
        }
    }
}

/// The tree as JSON, for hashing.
pub(crate) fn canonical(root: &Node) -> String {
    check::to_json(root).to_string()
}
