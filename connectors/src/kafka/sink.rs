//! The Kafka sink: its page, its config, and what follows from it.

use super::message::Renderer;
use super::outbox::{Encoder, Transactions};
use super::source::legal_topic;
use super::writer::Writer;
use super::{Common, Security, check, refused, settings};
use crate::format::{Format, Layout, RowWriter, template_demand};
use millrace_expr::Template;
use millrace_sdk::config::{Duration, FieldName, Ordered, Size, TemplateText};
use millrace_sdk::{Bind, Demand, Edge, Fault, Guarantee, Outbox, Part, Place, Problem, Sink, SinkContext, SinkFactory, SinkSpec, Slot};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes rows to topics of Apache Kafka.
///
/// A row becomes one message, encoded as `format` says. With a `key` the partition is chosen by its murmur2 hash, as the Java client
/// does, and rows of one key keep their order; without one, rows go to partitions in batches. Rows that come from `Requeue` carry
/// their history in the headers `millrace-attempts`, `millrace-first-seen`, `millrace-due` (epoch milliseconds) and
/// `millrace-event-time` (epoch microseconds), which the Kafka source with a `delay` reads again.
///
/// The producer is idempotent and waits for all in-sync replicas. A broker that is down is waited for as long as it takes: the rows
/// in flight fill up, and the job's sources stop. What the broker refuses for good (a message too large, an illegal topic) goes to
/// the dead letter with its row. The topic must exist; topics of a template are made by the broker or refused by it.
///
/// Guarantee: exactly once for readers with `isolation.level=read_committed`, in a job with checkpoints: the rows of a checkpoint are
/// written in transactions, each with a marker of how far it goes. Every writer of the job has a transactional id and a consumer group
/// of its own, both `millrace-` and its name; the groups hold the markers, as offsets of partition 0 of the topic. They must not be
/// removed (a job that runs, or is started again within `offsets.retention.minutes`, renews them): without them it stops rather than
/// guess. A job that stands still for longer than `transaction.timeout.ms` (60 s) within a transaction has to start again. Readers see
/// rows once their checkpoint is complete. Without checkpoints, at least once: after a failure of the job rows may be written again.
///
/// # Example
/// Needs a broker.
///
/// ```yaml
/// name: write-pairs
/// streams:
///   pairs:
///     config:
///       source: {type: Inline, config: {rows: [{k: a, n: 1}, {k: b, n: 2}]}}
/// sink:
///   - {type: Kafka, config: {brokers: "${BROKERS:-localhost:9092}", topic: pairs, key: "{{k}}", format: json}}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSink {
    /// Where the cluster is first asked: `host:port,host:port`.
    #[schemars(extend("x-address" = true))]
    brokers: String,
    /// Topic, or a template of it over the row.
    topic: TemplateText,
    /// Template of the message's key. Default: no key. An empty key is a key.
    key: Option<TemplateText>,
    /// How rows are written. Default json.
    #[serde(default)]
    format: Format,
    /// Fields to write, in this order. Default: all.
    #[serde(default)]
    columns: Vec<FieldName>,
    /// The message, for `format: text`.
    template: Option<TemplateText>,
    /// Headers to set: name and template of the text.
    #[serde(default)]
    headers: Ordered<TemplateText>,
    /// How batches are compressed. Default none.
    #[serde(default)]
    compression: Compression,
    /// How long a message may wait for others to share its batch. Default 5ms.
    #[serde(default = "five_millis")]
    linger: Duration,
    /// Most bytes that are written and not yet acknowledged, for each worker; beyond it the job waits. Default 32MiB.
    #[serde(default = "in_flight")]
    max_in_flight: Size,
    /// How long the end of a job without checkpoints waits for an acknowledgement, counted from the last one. Then what is left counts
    /// as lost, and the job fails. Default 2m.
    #[serde(default = "two_minutes")]
    close_timeout: Duration,
    /// Topic for whose partition 0 the markers of exactly-once are committed, as offsets of consumer groups: nothing is written to
    /// it. Default: `topic`; where that is a template rows are written at least once unless this is set.
    marker_topic: Option<String>,
    /// Passwords and certificates. Default: none, plain text.
    #[serde(default)]
    security: Security,
    /// Further settings of the client library, as librdkafka names them.
    #[serde(default)]
    #[schemars(extend("x-properties" = true))]
    properties: Ordered<serde_json::Value>,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

fn five_millis() -> Duration {
    Duration::millis(5)
}
fn in_flight() -> Size {
    Size::bytes(32 << 20)
}
fn two_minutes() -> Duration {
    Duration::secs(120)
}

millrace_sdk::inventory::submit! { Part::sink::<KafkaSink>("Kafka", &["Kafka011"]) }

/// Where a message goes.
#[derive(Clone)]
pub enum Topic {
    Fixed(Arc<str>),
    Of(Arc<Template>),
}

/// What one input's rows become.
pub struct Input {
    pub edge: Edge,
    pub rows: RowWriter,
    pub topic: Topic,
    pub key: Option<Template>,
    pub headers: Vec<(String, Template)>,
    /// `_attempts`, `_first_seen` and `_due`, of rows that are to be tried again.
    pub retry: [Option<Slot>; 3],
}

impl Input {
    /// The topic is of the job's choosing, not a row's.
    pub fn fixed(&self) -> bool {
        self.fixed_topic().is_some()
    }

    pub fn fixed_topic(&self) -> Option<&str> {
        match &self.topic {
            Topic::Fixed(t) => Some(t),
            Topic::Of(_) => None,
        }
    }
}

/// The config, checked.
pub struct Spec {
    pub client: ClientConfig,
    pub brokers: String,
    pub inputs: Vec<Input>,
    pub max_bytes: usize,
    pub close_timeout: std::time::Duration,
    /// The topic's own bound on a message, once the broker has told it; 0 before.
    pub message_max: AtomicU64,
    pub message_max_given: bool,
}

impl KafkaSink {
    fn layout(&self) -> Layout<'_> {
        Layout { format: self.format, columns: &self.columns, template: self.template.as_ref() }
    }

    /// The topic of the markers, if there can be any.
    fn markers(&self) -> Option<Arc<str>> {
        self.marker_topic.as_deref().map(Arc::from).or_else(|| self.fixed_topic())
    }

    fn fixed_topic(&self) -> Option<Arc<str>> {
        (!self.topic.contains("{{")).then(|| (*self.topic).into())
    }

    fn spec(&self, bind: &Bind<'_>) -> Result<Spec, Vec<Problem>> {
        let mut problems = vec![];
        if let Some(Err(why)) = self.fixed_topic().map(|t| legal_topic(&t)) {
            problems.push(Problem::error("invalid-topic", Place::at(["topic"]), why));
        }
        if let Some(Err(why)) = self.marker_topic.as_ref().map(|t| legal_topic(t)) {
            problems.push(Problem::error("invalid-topic", Place::at(["marker_topic"]), why));
        }
        if self.linger.micros < 0 || self.linger.micros > 900_000_000 {
            problems.push(Problem::error("out-of-range", Place::at(["linger"]), "`linger` is from 0s to 15m"));
        }
        if !(1 << 20..=1 << 30).contains(&self.max_in_flight.bytes) {
            problems.push(Problem::error("out-of-range", Place::at(["max_in_flight"]), "`max_in_flight` is from 1MiB to 1GiB"));
        }
        let mut own = settings([
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            // Our own bound is `max_in_flight`; these only have to be above it.
            ("queue.buffering.max.messages", "10000000"),
            ("queue.buffering.max.kbytes", "2097151"),
            ("partitioner", "murmur2_random"),
            ("reconnect.backoff.ms", "100"),
            ("reconnect.backoff.max.ms", "2000"),
        ]);
        own.push(("linger.ms", (self.linger.micros as f64 / 1000.0).to_string()));
        own.push(("compression.type", format!("{:?}", self.compression).to_lowercase()));
        let common = Common { brokers: &self.brokers, security: &self.security, properties: &self.properties };
        let client = common.client(bind.env, &own).unwrap_or_else(|p| {
            problems.extend(p);
            ClientConfig::new()
        });
        let mut inputs = vec![];
        for edge in bind.inputs {
            match self.input(edge, bind) {
                Ok(input) => inputs.push(input),
                Err(p) => problems.extend(p.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>()),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Spec {
            client,
            brokers: self.brokers.clone(),
            inputs,
            max_bytes: self.max_in_flight.bytes as usize,
            close_timeout: self.close_timeout.std(),
            message_max: AtomicU64::new(0),
            message_max_given: self.properties.iter().any(|(k, _)| k == "message.max.bytes"),
        })
    }

    fn input(&self, edge: &Edge, bind: &Bind<'_>) -> Result<Input, Vec<Problem>> {
        let mut problems = vec![];
        let mut compile = |text: &str, place: Place| match Template::compile(text, &edge.schema, bind.env) {
            Ok(t) => Some(t),
            Err(issues) => {
                problems.extend(issues.into_iter().map(|i| i.at(&place)));
                None
            }
        };
        let topic = match self.fixed_topic() {
            Some(t) => Some(Topic::Fixed(t)),
            None => compile(&self.topic, Place::at(["topic"])).map(|t| Topic::Of(Arc::new(t))),
        };
        let key = self.key.as_ref().map(|k| compile(k, Place::at(["key"])));
        let headers: Vec<_> =
            self.headers.iter().map(|(name, t)| (name.clone(), compile(t, Place::at(["headers", name.as_str()])))).collect();
        let rows = self.layout().bind(edge, bind.env).map_err(|p| problems.extend(p));
        let (Some(topic), Ok(rows), true) = (topic, rows, problems.is_empty()) else { return Err(problems) };
        Ok(Input {
            edge: edge.clone(),
            rows,
            topic,
            key: key.flatten(),
            headers: headers.into_iter().filter_map(|(name, t)| Some((name, t?))).collect(),
            retry: ["_attempts", "_first_seen", "_due"].map(|name| edge.schema.slot(name)),
        })
    }
}

impl SinkSpec for KafkaSink {
    fn guarantee(&self) -> Guarantee {
        if self.markers().is_some() { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce }
    }

    fn demand(&self) -> Demand {
        let mut demand = self.layout().demand();
        for template in [Some(&self.topic), self.key.as_ref()].into_iter().flatten().chain(self.headers.iter().map(|(_, t)| t)) {
            demand.join(&template_demand(template));
        }
        demand
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        Ok(Arc::new(Factory { spec: Arc::new(self.spec(bind)?), topic: self.fixed_topic(), markers: self.markers() }))
    }
}

struct Factory {
    spec: Arc<Spec>,
    topic: Option<Arc<str>>,
    markers: Option<Arc<str>>,
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        let mut topics: Vec<&str> = [&self.topic, &self.markers].into_iter().flatten().map(|t| &**t).collect();
        topics.dedup();
        check(&consumer_settings(&self.spec.client), &self.spec.brokers, &topics)?;
        if let Some(bytes) = self.topic.as_deref().and_then(|t| message_max(&self.spec.client, t)) {
            self.spec.message_max.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let mut config = self.spec.client.clone();
        // The client's batches must fit into the topic, or the broker would refuse good messages together with a large one.
        let bytes = self.spec.message_max.load(Ordering::Relaxed);
        if bytes > 0 && !self.spec.message_max_given {
            config.set("message.max.bytes", bytes.clamp(1000, 1_000_000_000).to_string());
        }
        let writer = Writer::open(self.spec.clone(), &config, cx.waker).map_err(|e| refused(&self.spec.brokers, &e))?;
        Ok(Box::new(writer))
    }

    fn encoder(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Encoder { renderer: Renderer::new(self.spec.clone()), spec: self.spec.clone(), rejects: vec![] }))
    }

    fn outbox(&self, _: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        let of = |markers: &Arc<str>| Box::new(Transactions::new(self.spec.clone(), markers.clone())) as Box<dyn Outbox>;
        Ok(self.markers.as_ref().map(of))
    }
}

/// The connection's settings alone: a consumer warns about a producer's.
pub fn consumer_settings(config: &ClientConfig) -> ClientConfig {
    let mut out = config.clone();
    for key in [
        "enable.idempotence",
        "acks",
        "message.timeout.ms",
        "queue.buffering.max.messages",
        "queue.buffering.max.kbytes",
        "partitioner",
        "linger.ms",
        "compression.type",
        "transaction.timeout.ms",
    ] {
        out.remove(key);
    }
    out
}

/// `max.message.bytes` of a topic; None if the broker does not tell us.
pub fn message_max(config: &ClientConfig, topic: &str) -> Option<u64> {
    topic_setting(config, topic, "max.message.bytes")?.parse().ok()
}

/// A topic's setting; None if the broker does not tell us.
pub fn topic_setting(config: &ClientConfig, topic: &str, name: &str) -> Option<String> {
    let admin: AdminClient<DefaultClientContext> = consumer_settings(config).create().ok()?;
    let timeout = std::time::Duration::from_secs(5);
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let answer = futures::executor::block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options)).ok()?;
    answer.into_iter().next()?.ok()?.get(name)?.value.clone()
}
