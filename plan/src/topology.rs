//! The language above the parts: which keys a topology has, and the parts that it names, made and checked one by one.

use crate::alerts::Alerts;
use crate::cases::{self, Written};
use crate::check::{self, check, check_filling, list, locate};
use crate::diagnostic::{Found, Report};
use crate::durability::{Checkpoint, Metrics, Restart};
use crate::guards::{self, Guard};
use crate::source::Span;
use crate::spelling::{self, unknown_key};
use crate::yaml::{Content, Entry, Node, snake_case};
use millrace_sdk::config::{Duration, PathText, Size};
use millrace_sdk::operator::{OperatorSpec, TimeCharacteristic};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Kind, Make, Part, Problem, Severity, SinkSpec, SourceSpec, StoreSpec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

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
/// Problems that a part tells of the rows that come in: they mean nothing where these are not known.
const ABOUT_ROWS: &[&str] = &[
    "columns-needed",
    "dedup-without-key",
    "different-columns",
    "field-clash",
    "invalid-default",
    "key-not-scalar",
    "keys-differ",
    "not-a-field",
    "not-a-retry-stream",
    "retry-without-time",
    "two-open-schemas",
    "unknown-column",
    "unknown-field",
    "useless-keyby",
    "window-without-key",
    "wrong-type",
];
/// Problems with how keys go together: they mean nothing where one of them is not what was written.
const ABOUT_OTHERS: &[&str] = &[
    "invalid-config",
    "invalid-format",
    "key-without-effect",
    "missing-fields",
    "missing-key",
    "missing-template",
    "nothing-to-do",
    "useless-columns",
    "useless-key",
    "useless-template",
];
const WIRING: &[&str] = &["name", "input", "left", "right", "retry"];

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

/// A part that the topology names.
pub(crate) struct Use {
    pub part: Option<&'static Part>,
    pub type_span: Span,
    pub config: Node,
    pub json: Value,
    pub made: Option<Made>,
    /// Its config has problems that were told, and names of fields may have been lost: what follows from them is not told.
    pub tainted: bool,
    /// Keys of its config with values that were left out or filled in: what does not fit them is not told.
    pub filled: Vec<Vec<String>>,
    pub parallelism: Option<usize>,
    /// The map that it stands in.
    pub node: Node,
}

pub(crate) enum Made {
    Source(Box<dyn SourceSpec>),
    Operator(Box<dyn OperatorSpec>),
    Sink(Box<dyn SinkSpec>),
    Store(Box<dyn StoreSpec>),
}

impl Use {
    pub fn operator(&self) -> Option<&dyn OperatorSpec> {
        match &self.made {
            Some(Made::Operator(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn source(&self) -> Option<&dyn SourceSpec> {
        match &self.made {
            Some(Made::Source(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn sink(&self) -> Option<&dyn SinkSpec> {
        match &self.made {
            Some(Made::Sink(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn store(&self) -> Option<&dyn StoreSpec> {
        match &self.made {
            Some(Made::Store(o)) => Some(&**o),
            _ => None,
        }
    }
    pub fn part_name(&self) -> &'static str {
        self.part.map_or("", |p| p.name)
    }

    /// Whether a problem is one still where values of the config were filled in.
    fn stands(&self, p: &Problem) -> bool {
        let keys: Vec<&str> =
            p.place.path.iter().filter_map(|s| if let millrace_sdk::Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
        let touches = |filled: &Vec<String>| keys.iter().zip(filled).all(|(k, f)| *k == f);
        // A type within `fields` that is not what was written changes nothing for the keys beside it.
        let whole = self.filled.iter().any(|f| f.len() < 2);
        !(whole && ABOUT_OTHERS.contains(&p.id)) && !self.filled.iter().any(touches)
    }

    /// Tells a part's problems. `only_inner`: what rows come in is not known, so only what is wrong with the config itself.
    pub fn tell(&self, report: &mut Report, problems: Vec<Problem>, only_inner: bool) {
        for p in problems {
            if only_inner && p.place.range.is_none() && ABOUT_ROWS.contains(&p.id) {
                continue;
            }
            if p.place.range.is_none() && (self.tainted || !self.stands(&p)) {
                continue;
            }
            let span = locate(report, &self.config, self.type_span, &p.place);
            // What is wrong with a value was told when it was read.
            if report.found.iter().any(|f| f.span == span && f.severity == Severity::Error && f.id != p.id) {
                continue;
            }
            let found = Found { severity: p.severity, hint: p.hint, suggestion: p.suggestion, ..Found::error(p.id, span, p.message) };
            report.push(found);
        }
    }
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

/// A map with more entries.
fn with_entries(node: &Node, more: Vec<Entry>) -> Cow<'_, Node> {
    let mut out = Cow::Borrowed(node);
    if !more.is_empty() {
        match &mut out.to_mut().content {
            Content::Map(entries) => entries.extend(more),
            content @ Content::Null => *content = Content::Map(more),
            _ => {}
        }
    }
    out
}

impl Use {
    fn broken(span: Span) -> Use {
        Use {
            part: None,
            type_span: span,
            config: Node::bad(span),
            json: Value::Null,
            made: None,
            tainted: true,
            filled: vec![],
            parallelism: None,
            node: Node::bad(span),
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

/// A part's schema. Made once in a process: linting many files asks for few schemas often.
pub(crate) fn schema_of(part: &'static Part) -> &'static Value {
    static MADE: LazyLock<Mutex<HashMap<(Kind, &'static str), &'static Value>>> = LazyLock::new(Default::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((part.kind(), part.name)).or_insert_with(|| Box::leak(Box::new((part.schema)().to_value())))
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

/// Reads `{type, config}` and what may stand beside them, checks the config and makes the part.
pub(crate) fn read_use(report: &mut Report, node: &Node, kind: Kind, siblings: &[&str]) -> Use {
    if node.is_bad() {
        return Use::broken(node.span);
    }
    if !matches!(node.content, Content::Map(_)) {
        let span = first_line(report, node.span);
        let mut found = Found::error("wrong-type", span, format!("expected {} with `type` and `config`, found {}", a(kind), node.kind()));
        if let Some(t) = node.text() {
            found = found.hint(format!("write `type: {t}`"));
        }
        report.push(found);
        return Use::broken(span);
    }
    // Keys that are there with a slip of the pen are told once, below, and read as they were likely meant.
    let allowed: Vec<&str> = ["type", "config"].iter().chain(siblings).copied().collect();
    let mut unknown: Vec<(usize, Found)> = vec![];
    let mut read = Cow::Borrowed(node);
    for (i, e) in node.entries().iter().enumerate().filter(|(_, e)| !allowed.contains(&e.key.as_str())) {
        let mut found = unknown_key(e, allowed.iter().copied());
        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
        mend(&mut read, i, &found);
        unknown.push((i, found));
    }
    let original = node;
    let node = &*read;
    let mut out = Use { node: node.clone(), ..Use::broken(first_line(report, node.span)) };
    let type_name = match node.entry("type") {
        None if report.sources.has_hole(original.span) => None,
        None => {
            report.push(Found::error("missing-key", out.type_span, format!("{} without `type`", a(kind))));
            None
        }
        Some(e) => {
            out.type_span = e.value.span;
            if matches!(e.value.content, Content::Null) {
                out.type_span = if e.value.span.start == e.value.span.end { e.key_span } else { e.value.span };
            }
            // The sink `Null` is spelled like YAML's null.
            match report.sources.slice(e.value.span) {
                null @ "Null" => Some(null.to_string()),
                "null" | "NULL" if kind == Kind::Sink => {
                    let found = Found::error("unknown-part", out.type_span, "`null` is nothing in YAML: the sink is called `Null`");
                    report.push(Found { sure: true, ..found.suggest(Some("\"Null\"".into())) });
                    Some("Null".into())
                }
                _ => text(report, &e.value, "a type"),
            }
        }
    };
    out.part = type_name.as_deref().and_then(|n| Part::find(kind, n));
    let mut guessed = false;
    if out.part.is_none()
        && let Some(name) = &type_name
    {
        // Read as what was surely meant, so that its config is looked at too.
        let found = unknown_part(kind, name, out.type_span);
        out.part = found.suggestion.as_deref().filter(|_| found.sure).and_then(|n| Part::find(kind, n));
        guessed = out.part.is_some();
        report.push(found);
    }
    let schema = out.part.map(schema_of);
    let mut inside: Vec<Entry> = vec![];
    let properties: Vec<&str> =
        schema.iter().filter_map(|s| s.get("properties")?.as_object()).flat_map(|p| p.keys().map(String::as_str)).collect();
    for (i, mut found) in unknown {
        let key = original.entries()[i].key.as_str();
        if properties.contains(&key) || properties.contains(&snake_case(key).as_str()) {
            found = found.suggest(None).hint(format!("`{key}` belongs under `config`"));
            inside.push(original.entries()[i].clone());
        } else if WIRING.contains(&key) {
            found = found.suggest(None).hint(format!("{} here is not wired by `{key}`", a(kind)));
        }
        report.push(found);
    }
    out.parallelism = node.get("parallelism").filter(|_| siblings.contains(&"parallelism")).and_then(|n| {
        let schema = serde_json::json!({"type": "integer", "minimum": 1, "maximum": 1024});
        let checked = check(&report.sources, n, &schema, n.span);
        let ok = checked.found.iter().all(|f| f.severity != Severity::Error);
        report.found.extend(checked.found);
        checked.value.and_then(|v| v.as_u64()).filter(|_| ok).map(|v| v as usize)
    });
    let owner =
        node.entry("config").map_or(out.type_span, |e| if matches!(e.value.content, Content::Null) { out.type_span } else { e.key_span });
    let config = node.get("config").cloned().unwrap_or_else(|| Node::null(out.type_span));
    // They are read as if they stood there.
    inside.retain(|e| config.entry(&e.key).is_none());
    out.config = with_entries(&config, inside).into_owned();
    let Some(part) = out.part else { return out };
    let anything = Value::Bool(true);
    let checked = check_filling(&report.sources, &out.config, schema.unwrap_or(&anything), owner);
    for e in out.config.entries().iter().filter(|e| WIRING.contains(&e.key.as_str()) && !properties.contains(&e.key.as_str())) {
        if let Some(f) = report_hint(&checked.found, e.key_span) {
            report.push(Found { hint: Some(format!("`{}` stands beside `type`, not in `config`", e.key)), suggestion: None, ..f });
        }
    }
    let wiring_told = |f: &Found| {
        out.config
            .entries()
            .iter()
            .any(|e| e.key_span == f.span && WIRING.contains(&e.key.as_str()) && !properties.contains(&e.key.as_str()))
    };
    // A config that does not fit says that another part was meant.
    let misses = guessed && checked.found.iter().any(|f| f.severity == Severity::Error);
    out.filled = checked.filled;
    out.tainted = misses || checked.lost || checked.bad || report.sources.has_hole(node.span);
    report.found.extend(checked.found.into_iter().filter(|f| !wiring_told(f)));
    report.paths.extend(checked.paths);
    report.addresses.extend(checked.addresses);
    report.properties.extend(checked.properties);
    for s in checked.secrets {
        report.sources.hide(s);
    }
    // A required key does not fit: the part cannot be made.
    let Some(json) = checked.value else {
        out.tainted = true;
        return out;
    };
    out.json = if json.is_null() { Value::Object(Default::default()) } else { json };
    let json = out.json.clone();
    let made = match part.make {
        Make::Source(f) => f(json).map(Made::Source),
        Make::Operator(f) => f(json).map(Made::Operator),
        Make::Sink(f) => f(json).map(Made::Sink),
        Make::Store(f) => f(json).map(Made::Store),
    };
    match made {
        Ok(made) => out.made = Some(made),
        Err(problems) => {
            if !out.tainted {
                out.tell(report, problems, false);
            }
            out.tainted = true;
        }
    }
    out
}

pub(crate) fn a(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "a source",
        Kind::Operator => "an operator",
        Kind::Sink => "a sink",
        Kind::Store => "a store",
    }
}

fn report_hint(found: &[Found], span: Span) -> Option<Found> {
    found.iter().find(|f| f.id == "unknown-key" && f.span == span).cloned()
}

fn unknown_part(kind: Kind, name: &str, span: Span) -> Found {
    let names: Vec<&str> = Part::all()
        .into_iter()
        .filter(|p| p.kind() == kind)
        .flat_map(|p| std::iter::once(p.name).chain(p.aliases.iter().copied()))
        .collect();
    let near = did_you_mean(name, names.iter().copied()).or_else(|| spelling::part_elsewhere(kind, name).map(String::from));
    let mut found =
        Found::error("unknown-part", span, format!("unknown {} `{name}`", kind.name())).sure(name, names.iter().copied()).suggest(near);
    let others: Vec<&str> = [Kind::Source, Kind::Operator, Kind::Sink, Kind::Store]
        .into_iter()
        .filter(|k| *k != kind && Part::find(*k, name).is_some())
        .map(a)
        .collect();
    found = match others[..] {
        [] => found.hint(format!("`millrace list` names all parts; {}s are {}", kind.name(), list(&names))),
        _ => found.hint(format!("`{name}` is {}, not {}", others.join(" and "), a(kind))),
    };
    found
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

/// Tells keys that are not known. Gives the node with such keys named as they were likely meant, so that their values are looked at
/// and nothing is called missing.
pub(crate) fn known_keys<'n>(report: &mut Report, node: &'n Node, known: &[&str], elsewhere: &[&str]) -> Cow<'n, Node> {
    let mut read = Cow::Borrowed(node);
    // As `Node::entry` finds them: a map may have thousands of keys.
    let (mut exact, mut snaked) = (HashMap::new(), HashMap::new());
    for e in node.entries() {
        exact.entry(e.key.as_str()).or_insert(e);
        snaked.entry(snake_case(&e.key)).or_insert(e);
    }
    for (i, e) in node.entries().iter().enumerate() {
        let name = snake_case(&e.key);
        let first = exact.get(name.as_str()).or_else(|| snaked.get(&name));
        if let Some(first) = first.filter(|f| f.key_span != e.key_span) {
            let found = Found::error("duplicate-key", e.key_span, format!("the key `{name}` stands twice in one map"));
            report.push(found.second(first.key_span, "first defined here"));
            continue;
        }
        if known.contains(&e.key.as_str()) || known.contains(&snake_case(&e.key).as_str()) {
            continue;
        }
        let mut found = unknown_key(e, known.iter().copied());
        if elsewhere.contains(&e.key.as_str()) {
            let place = match elsewhere[0] {
                "source" => "one level deeper, under `config`",
                "checkpoint" => "under `run_env`",
                _ => "one level up, beside `config`",
            };
            found = found.suggest(None).hint(format!("`{}` belongs {place}", e.key));
        }
        found.sure &= found.suggestion.as_ref().is_some_and(|s| node.entry(s).is_none());
        mend(&mut read, i, &found);
        report.push(found);
    }
    read
}

/// Gives the `i`-th key of a map the name that was suggested for it, if that is free.
fn mend(node: &mut Cow<'_, Node>, i: usize, found: &Found) {
    let Some(name) = found.suggestion.as_ref().filter(|n| node.entry(n).is_none()) else { return };
    if let Content::Map(entries) = &mut node.to_mut().content {
        entries[i].key = name.clone();
    }
}

/// What stands beside `run_env` and belongs into it was told, and is read as if it stood there.
fn within_env(root: &Node) -> Cow<'_, Node> {
    let env = root.get("run_env");
    let stray = |e: &&Entry| RUN_ENV.contains(&&*snake_case(&e.key)) && env.is_none_or(|env| env.entry(&e.key).is_none());
    let stray: Vec<Entry> = root.entries().iter().filter(stray).cloned().collect();
    let mut read = Cow::Borrowed(root);
    if let Some(first) = stray.first() {
        let nothing = Node::null(first.key_span);
        let value = with_entries(env.unwrap_or(&nothing), stray.clone()).into_owned();
        if let Content::Map(entries) = &mut read.to_mut().content {
            match entries.iter_mut().find(|e| e.key == "run_env") {
                Some(e) => e.value = value,
                None => entries.push(Entry { key: "run_env".into(), key_span: first.key_span, value }),
            }
        }
    }
    read
}

/// `transforms` and `sink` that are written as maps of names, as lists of parts with those names: that is told, and the parts are looked at.
fn listed<'n>(report: &mut Report, root: &'n Node) -> Cow<'n, Node> {
    let mut read = Cow::Borrowed(root);
    for (i, e) in root.entries().iter().enumerate().filter(|(_, e)| matches!(&*e.key, "transforms" | "sink")) {
        let parts = e.value.entries();
        let named = |p: &Entry| matches!(p.value.content, Content::Map(_)) && !["type", "config", "fragment", "name"].contains(&&*p.key);
        if parts.is_empty() || !parts.iter().all(named) {
            continue;
        }
        let found = Found::error("wrong-type", parts[0].key_span, format!("`{}` is a list, found a map of names", e.key));
        report.push(found.hint(format!("write each as an item: `- name: {}`, and its keys below", parts[0].key)));
        let item = |p: &Entry| {
            let name = Entry { key: "name".into(), key_span: p.key_span, value: Node::word(p.key.clone(), p.key_span) };
            let named = p.value.entry("name").is_some();
            with_entries(&p.value, if named { vec![] } else { vec![name] }).into_owned()
        };
        let list = Content::Seq(parts.iter().map(item).collect());
        if let Content::Map(entries) = &mut read.to_mut().content {
            entries[i].value.content = list;
        }
    }
    read
}

fn map<'a>(report: &mut Report, node: &'a Node, key: &str) -> impl Iterator<Item = &'a crate::yaml::Entry> + use<'a> {
    let found = node.get(key);
    if let Some(n) = found
        && !matches!(n.content, Content::Map(_) | Content::Null | Content::Bad)
    {
        report.push(Found::error("wrong-type", first_line(report, n.span), format!("`{key}` is a map of names, found {}", n.kind())));
    }
    found.map(Node::entries).unwrap_or_default().iter()
}

fn items<'a>(report: &mut Report, node: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
    let found = node.get(key);
    if let Some(n) = found
        && !matches!(n.content, Content::Seq(_) | Content::Null | Content::Bad)
    {
        let stuck = n.entries().first().filter(|e| e.key.strip_prefix('-').is_some_and(|k| k.starts_with(|c: char| c.is_alphabetic())));
        let found = match stuck {
            Some(e) => {
                let dash = Span { end: e.key_span.start + 1, ..e.key_span };
                let fix = vec![(Span { start: dash.end, ..dash }, " ".to_string())];
                Found::error("syntax", dash, "a space is missing behind the dash").hint("items of a list begin with `- `").fix(fix)
            }
            None => Found::error("wrong-type", first_line(report, n.span), format!("`{key}` is a list, found {}", n.kind()))
                .hint("begin each item with `- `"),
        };
        report.push(found);
        // A single item without its dash is told and looked at as if it had it.
        return if stuck.is_none() && matches!(n.content, Content::Map(_)) { std::slice::from_ref(n) } else { &[] }.iter();
    }
    found.map(Node::items).unwrap_or_default().iter()
}

fn text(report: &mut Report, node: &Node, what: &str) -> Option<String> {
    if node.is_bad() {
        return None;
    }
    let text = node.text().map(String::from);
    if text.is_none() {
        report.push(Found::error("wrong-type", first_line(report, node.span), format!("expected {what}, found {}", node.kind())));
    }
    text
}

pub(crate) fn valid_name(report: &mut Report, name: &str, span: Span) {
    let good =
        name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if !good {
        let found = Found::error("bad-name", span, format!("`{name}` cannot be a name"));
        report.push(found.hint("a name begins with a letter and has letters, digits, `_` and `-`"));
    }
}

fn missing(report: &mut Report, root: &Node, key: &str, what: &str) {
    if !report.sources.has_hole(root.span) {
        let span = Span { end: root.span.start, ..root.span };
        report.push(Found::error("missing-key", span, format!("the key `{key}` is missing: {what}")));
    }
}

fn missing_at(report: &mut Report, span: Span, what: &str) {
    if !report.damaged {
        report.push(Found::error("missing-key", span, format!("{what} is missing")));
    }
}

/// The first line of a place of several lines.
pub(crate) fn first_line(report: &Report, span: Span) -> Span {
    let text = report.sources.slice(span);
    Span { end: span.start + text.lines().next().map_or(0, |l| l.trim_end().len()), ..span }
}

/// The tree as JSON, for hashing.
pub(crate) fn canonical(root: &Node) -> String {
    check::to_json(root).to_string()
}
