//! The Kafka source: its page, its config, and what follows from it.

use super::control::Consumer;
use super::reader::Reader;
use super::sink::topic_setting;
use super::{Common, Security, check, refused, settings};
use crate::charset::Charset;
use jiff::Timestamp;
use millrace_sdk::config::{Duration, OneOrMany, Ordered, Size};
use millrace_sdk::operator::Env;
use millrace_sdk::source::Needs;
use millrace_sdk::{
    Bind, Demand, Fault, Field, Part, Place, Problem, Schema, SchemaRef, Source, SourceContext, SourceFactory, SourceSpec, Step, Type,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reads topics of Apache Kafka.
///
/// A message is a row: its payload is `_value` (null for a tombstone), and where they are asked for by name there are `_key` (bytes),
/// `_topic`, `_partition`, `_offset`, `_timestamp` and `_headers` (a map; values that are not UTF-8 as base64). Of a row that `Requeue`
/// sent round again, `_attempts`, `_first_seen` and `_due` tell the history.
///
/// The partitions are dealt to the workers without a consumer group's rebalancing; offsets are committed for `group` once all sinks
/// have acknowledged, for lag displays and for the next start. New partitions, and new topics that match a pattern, are found while
/// running and read from their beginning. Only committed transactions are read.
///
/// A broker that is down is waited for, with a warning in the log. A wanted offset that the broker no longer has ends the job, unless
/// `on_offset_lost` says where to go on; how many messages that skips is logged.
///
/// With `delay` the topic is a retry topic: a message is held back until the time in its header `millrace-due`, else until `delay` after
/// its timestamp, and all behind it in its partition wait as well.
///
/// Guarantee: at least once; every position can be read again while the broker keeps it.
///
/// # Example
/// Needs a broker: messages of the topic `clicks` are counted and forgotten.
///
/// ```yaml
/// name: read-clicks
/// streams:
///   clicks:
///     config:
///       source: {type: Kafka, config: {brokers: "${BROKERS:-localhost:9092}", topics: [clicks], group: readers, bounded: true}}
/// sink:
///   - {type: "Null", config: {}}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Where the cluster is first asked: `host:port,host:port`.
    #[schemars(extend("x-address" = true))]
    brokers: String,
    /// Topics; one that begins with `^` is a regular expression over names of topics.
    topics: OneOrMany<String>,
    /// Consumer group under which offsets are committed and looked up. Default: none are.
    group: Option<String>,
    /// Where to begin: `committed`, `earliest`, `latest`, `{timestamp: 2026-01-01T00:00:00Z}` (or epoch milliseconds) or
    /// `{offsets: {topic/0: 17}}`. Default committed. Partitions of which nothing is committed, or which `offsets` does not name, begin at
    /// the earliest offset. A checkpoint comes before all this, and partitions that were added since it was taken begin at their beginning.
    start: Option<Start>,
    /// What to do when the offset to go on from is no longer there. Default fail.
    #[serde(default)]
    on_offset_lost: OnOffsetLost,
    /// End at the offsets that are the last at the start; transactions under way are waited for, for 5s. Default false: read on for ever.
    #[serde(default)]
    bounded: bool,
    /// Hold each message back for so long after it was written. Default: not at all.
    delay: Option<Duration>,
    /// How often new topics and partitions are looked for. Default 5s.
    #[serde(default = "five_seconds")]
    discovery_interval: Duration,
    /// Most bytes that are fetched ahead for each partition; never more than a 32nd part of `run_env.memory`. Default 4MiB.
    #[serde(default = "four_mebibytes")]
    buffer: Size,
    /// Encoding of the payload's text, a label of the WHATWG encoding standard. Default utf-8.
    #[serde(default = "utf8")]
    charset: String,
    /// Passwords and certificates. Default: none, plain text.
    #[serde(default)]
    security: Security,
    /// Further settings of the client library, as librdkafka names them.
    #[serde(default)]
    #[schemars(extend("x-properties" = true))]
    properties: Ordered<serde_json::Value>,
}

/// Where reading begins.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
enum Start {
    /// At a place that needs no number.
    Word(StartWord),
    /// At the first message of this time or later.
    Time {
        /// ISO 8601 with an offset, or epoch milliseconds.
        timestamp: TimeText,
    },
    /// At these offsets.
    Offsets {
        /// `topic/partition: offset`.
        offsets: BTreeMap<String, u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StartWord {
    /// Where the group's last run ended.
    Committed,
    /// At the oldest message.
    Earliest,
    /// Behind the newest message.
    Latest,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum TimeText {
    Millis(i64),
    Text(String),
}

/// What to do when messages are gone that were to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOffsetLost {
    /// End the job.
    #[default]
    Fail,
    /// Go on with the oldest message that is there.
    Earliest,
    /// Go on behind the newest message.
    Latest,
}

fn five_seconds() -> Duration {
    Duration::secs(5)
}
fn four_mebibytes() -> Size {
    Size::bytes(4 << 20)
}
fn utf8() -> String {
    "utf-8".into()
}

millrace_sdk::inventory::submit! { Part::source::<Kafka>("Kafka", &["Kafka011"]) }

/// Where reading begins, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Committed,
    Earliest,
    Latest,
    /// Milliseconds since 1970 UTC.
    Time(i64),
    Offsets(BTreeMap<(String, i32), i64>),
}

/// What a source knows of a message beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
    Attempts,
    FirstSeen,
    Due,
}

const COLUMNS: &[(&str, Type, Column)] = &[
    ("_key", Type::Bytes, Column::Key),
    ("_topic", Type::String, Column::Topic),
    ("_partition", Type::Bigint, Column::Partition),
    ("_offset", Type::Bigint, Column::Offset),
    ("_timestamp", Type::Timestamp, Column::Timestamp),
    ("_headers", Type::Map, Column::Headers),
    ("_attempts", Type::Bigint, Column::Attempts),
    ("_first_seen", Type::Timestamp, Column::FirstSeen),
    ("_due", Type::Timestamp, Column::Due),
];

/// The config, checked.
pub struct Spec {
    pub client: ClientConfig,
    pub brokers: String,
    pub topics: Vec<String>,
    pub patterns: Vec<Regex>,
    /// Offsets are committed.
    pub group: bool,
    pub from: From,
    pub on_offset_lost: OnOffsetLost,
    pub bounded: bool,
    /// Microseconds.
    pub delay: Option<i64>,
    pub discovery: std::time::Duration,
    pub charset: Charset,
    /// The schema's fields behind `_value`.
    pub columns: Vec<Column>,
}

impl Kafka {
    fn spec(&self, env: &Env, demand: &Demand) -> Result<(SchemaRef, Spec), Vec<Problem>> {
        let mut problems = vec![];
        let (mut topics, mut patterns) = (vec![], vec![]);
        let one = matches!(self.topics, OneOrMany::One(_));
        for (i, topic) in self.topics.as_slice().iter().enumerate() {
            let place = if one { Place::at(["topics"]) } else { Place::at(["topics"]).then(i) };
            if topic.starts_with('^') {
                match Regex::new(topic) {
                    Ok(regex) => patterns.push(regex),
                    Err(e) => {
                        let (at, why) = match millrace_sdk::pattern::regex_fault(topic) {
                            Some((range, why)) => (place.range(range), why),
                            None => (place, e.to_string()),
                        };
                        problems.push(Problem::error("invalid-regex", at, format!("`{topic}` is no regular expression: {why}")));
                    }
                }
            } else if let Err(why) = legal_topic(topic) {
                problems.push(Problem::error("invalid-topic", place, why));
            } else if topics.contains(topic) {
                problems.push(Problem::error("repeated-topic", place, format!("topic `{topic}` is listed twice")));
            } else {
                topics.push(topic.clone());
            }
        }
        if self.topics.as_slice().is_empty() {
            problems.push(Problem::error("missing-topics", Place::at(["topics"]), "`topics` names no topic"));
        }
        let from = self.from(&mut problems);
        let charset = Charset::parse(&self.charset).unwrap_or_else(|p| {
            problems.push(p);
            Charset::default()
        });
        for (key, value, least) in
            [("discovery_interval", self.discovery_interval.micros, 100_000), ("delay", self.delay.map_or(0, |d| d.micros), 0)]
        {
            if value < least {
                problems.push(Problem::error("out-of-range", Place::at([key]), format!("`{key}` is at least {}", Duration::micros(least))));
            }
        }
        let buffer = self.buffer.bytes >> 10;
        if !(64..=2_000_000).contains(&buffer) {
            problems.push(Problem::error("out-of-range", Place::at(["buffer"]), "`buffer` is from 64KiB to 1GiB"));
        }
        let mut own = settings([
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
            // A full queue is asked about again at once: the default of 1 s would bound the throughput by buffer / 1 s.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.max.bytes", "16777216"),
            ("reconnect.backoff.ms", "100"),
            ("reconnect.backoff.max.ms", "2000"),
        ]);
        let share = (env.memory as u64 >> 15).max(64);
        own.push(("queued.max.messages.kbytes", buffer.min(share).to_string()));
        // The client wants a group's name even where nothing is ever committed.
        own.push(("group.id", self.group.clone().unwrap_or_else(|| format!("millrace-{}-uncommitted", env.job))));
        let common = Common { brokers: &self.brokers, security: &self.security, properties: &self.properties };
        let client = common.client(env, &own).unwrap_or_else(|p| {
            problems.extend(p);
            ClientConfig::new()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let wanted: Vec<_> = COLUMNS.iter().filter(|(name, ..)| demand.names(name)).collect();
        let mut fields = vec![Field::new("_value", Type::Bytes)];
        fields.extend(wanted.iter().map(|(name, ty, _)| Field::hidden(*name, *ty)));
        let spec = Spec {
            client,
            brokers: self.brokers.clone(),
            topics,
            patterns,
            group: self.group.is_some(),
            from,
            on_offset_lost: self.on_offset_lost,
            bounded: self.bounded,
            delay: self.delay.map(|d| d.micros),
            discovery: self.discovery_interval.std(),
            charset,
            columns: wanted.iter().map(|(.., c)| *c).collect(),
        };
        Ok((Schema::new(fields), spec))
    }

    fn from(&self, problems: &mut Vec<Problem>) -> From {
        match &self.start {
            None => From::Committed,
            Some(Start::Word(StartWord::Committed)) => {
                if self.group.is_none() {
                    let p = Problem::error("missing-group", Place::at(["start"]), "nothing is committed without a `group`");
                    problems.push(p.hint("name a `group`, or start at earliest or latest"));
                }
                From::Committed
            }
            Some(Start::Word(StartWord::Earliest)) => From::Earliest,
            Some(Start::Word(StartWord::Latest)) => From::Latest,
            Some(Start::Time { timestamp: TimeText::Millis(ms) }) => From::Time(*ms),
            Some(Start::Time { timestamp: TimeText::Text(text) }) => match text.parse::<Timestamp>() {
                Ok(t) => From::Time(t.as_millisecond()),
                Err(_) => {
                    let p =
                        Problem::error("invalid-time", Place::at(["start", "timestamp"]), format!("`{text}` is no time with an offset"));
                    problems.push(p.hint("write it like 2026-01-01T00:00:00Z, or as epoch milliseconds"));
                    From::Earliest
                }
            },
            Some(Start::Offsets { offsets }) => {
                let mut out = BTreeMap::new();
                for (name, offset) in offsets {
                    let split = name.rsplit_once('/').and_then(|(t, p)| Some((t.to_string(), p.parse::<i32>().ok()?)));
                    match (split, i64::try_from(*offset)) {
                        (Some(partition), Ok(offset)) => _ = out.insert(partition, offset),
                        _ => {
                            let p = Problem::error(
                                "invalid-offsets",
                                Place::at(["start", "offsets", name.as_str()]),
                                format!("`{name}: {offset}` is no start"),
                            );
                            problems.push(p.hint("write it like topic/0: 17"));
                        }
                    }
                }
                From::Offsets(out)
            }
        }
    }
}

/// Kafka's rule for names of topics.
pub fn legal_topic(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("a topic needs a name".into()),
        "." | ".." => Err(format!("`{name}` is no name for a topic")),
        _ if name.len() > 249 => Err(format!("the topic's name has {} characters, at most 249 are allowed", name.len())),
        _ => match name.chars().find(|c| !legal(*c)) {
            Some(c) => Err(format!("`{name}` is no name for a topic: `{c}` is not allowed")),
            None => Ok(()),
        },
    }
}

impl SourceSpec for Kafka {
    fn bounded(&self) -> bool {
        self.bounded
    }

    fn replayable(&self) -> bool {
        true
    }

    fn bind(&self, bind: &Bind<'_>, demand: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let (schema, spec) = self.spec(bind.env, demand)?;
        Ok((schema, Arc::new(Factory { spec: Arc::new(spec) })))
    }
}

struct Factory {
    spec: Arc<Spec>,
}

impl SourceFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        let topics: Vec<&str> = self.spec.topics.iter().map(|t| &**t).collect();
        let probe = check(&self.spec.client, &self.spec.brokers, &topics)?;
        let From::Offsets(offsets) = &self.spec.from else { return Ok(()) };
        // An offset for a partition that is not there is a slip that would go unnoticed.
        for topic in offsets.keys().map(|(t, _)| t).collect::<BTreeSet<_>>() {
            if !self.spec.reads(topic) {
                return Err(Fault::config(format!("`start` names topic `{topic}`, which `topics` does not")));
            }
            let metadata = probe.fetch_metadata(Some(topic), std::time::Duration::from_secs(10));
            let partitions = metadata.ok().and_then(|m| m.topics().first().map(|t| t.partitions().len())).unwrap_or(0);
            if let Some((_, p)) = offsets.keys().find(|(t, p)| t == topic && !(0..partitions as i32).contains(p)) {
                return Err(Fault::config(format!("`start` names partition {p} of topic `{topic}`, which has {partitions} partitions")));
            }
        }
        Ok(())
    }

    fn ask(&self, needs: &Needs) -> Result<Vec<Problem>, Fault> {
        self.check()?;
        let topics: Vec<&str> = self.spec.topics.iter().map(|t| &**t).collect();
        let probe = check(&self.spec.client, &self.spec.brokers, &topics)?;
        let mut partitions = 0;
        let mut problems = vec![];
        for (i, topic) in topics.iter().enumerate() {
            let metadata = probe.fetch_metadata(Some(topic), std::time::Duration::from_secs(10));
            partitions += metadata.ok().and_then(|m| m.topics().first().map(|t| t.partitions().len())).unwrap_or(0);
            let setting = |name| topic_setting(&self.spec.client, topic, name);
            // A compacted topic keeps the newest row of each key for ever.
            let deletes = setting("cleanup.policy").is_some_and(|p| p.contains("delete"));
            let keeps = setting("retention.ms").and_then(|r| r.parse::<i64>().ok()).filter(|ms| *ms >= 0 && deletes);
            let Some(keeps) = keeps.map(|ms| ms.saturating_mul(1000)) else { continue };
            let place =
                if self.spec.patterns.is_empty() { Place::at([Step::from("topics"), Step::from(i)]) } else { Place::at(["topics"]) };
            let text = |micros| Duration { micros }.to_string();
            if let Some(delay) = self.spec.delay.filter(|d| *d > keeps) {
                let message = format!("`{topic}` keeps its messages for {}, and they are to wait {}", text(keeps), text(delay));
                problems.push(Problem::error("short-retention", place, message).hint("raise the topic's `retention.ms`"));
            } else if let Some(span) = needs.span.map(|s| s.as_micros() as i64).filter(|s| *s > keeps) {
                let message = format!("`{topic}` keeps its messages for {}, and the job holds rows for {}", text(keeps), text(span));
                problems.push(
                    Problem::warning("short-retention", place, message).hint(
                        "after a restart without checkpoints they are read again; raise `retention.ms`, or write `run_env.checkpoint`",
                    ),
                );
            }
        }
        if self.spec.patterns.is_empty() && partitions < needs.workers {
            let message =
                format!("{partitions} partitions for {} workers: {} of them read nothing", needs.workers, needs.workers - partitions);
            problems.push(Problem::note("few-partitions", Place::at(["topics"]), message).hint("other parts use all workers"));
        }
        Ok(problems)
    }

    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        let consumer = Consumer::open(self.spec.clone(), &cx).map_err(|e| refused(&self.spec.brokers, &e))?;
        Ok(Box::new(Reader::new(self.spec.clone(), consumer, cx)))
    }
}

impl Spec {
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.iter().any(|t| t == topic) || (!topic.starts_with("__") && self.patterns.iter().any(|p| p.is_match(topic)))
    }

    /// A partition's number, the same in every process: it decides who reads it. Partitions with equal numbers of the listed topics
    /// begin at neighbours, so that several small topics do not all lie on one worker.
    pub fn number(&self, topic: &str, partition: i32) -> u64 {
        let first = match self.topics.iter().position(|t| t == topic) {
            Some(i) => i as u64,
            None => xxhash_rust::xxh3::xxh3_64(topic.as_bytes()),
        };
        first.wrapping_add(partition as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(config: &str, demand: &[&str]) -> Result<(SchemaRef, Spec), Vec<Problem>> {
        let kafka: Kafka = serde_json::from_str(config).unwrap();
        kafka.spec(&Env::default(), &Demand::of(demand.iter().copied()))
    }

    #[test]
    fn only_wanted_columns_are_made() {
        let (schema, spec) = spec(r#"{"brokers": "h:1", "topics": "a"}"#, &["_offset", "_headers.x", "uid"]).unwrap();
        let fields: Vec<(&str, bool)> = schema.fields().iter().map(|f| (&*f.name, f.hidden)).collect();
        assert_eq!(fields, [("_value", false), ("_offset", true), ("_headers", true)]);
        assert_eq!(spec.columns, [Column::Offset, Column::Headers]);
    }

    #[test]
    fn starts_are_read() {
        let from = |start: &str| {
            spec(&format!(r#"{{"brokers": "h:1", "topics": ["a", "^b.*"], "group": "g", "start": {start}}}"#), &[]).map(|s| s.1.from)
        };
        assert_eq!(from("\"committed\"").unwrap(), From::Committed);
        assert_eq!(from("\"latest\"").unwrap(), From::Latest);
        assert_eq!(from(r#"{"timestamp": "1970-01-01T00:00:01Z"}"#).unwrap(), From::Time(1000));
        assert_eq!(from(r#"{"timestamp": 5}"#).unwrap(), From::Time(5));
        assert_eq!(from(r#"{"offsets": {"a/3": 17}}"#).unwrap(), From::Offsets([(("a".to_string(), 3), 17)].into()));
        assert_eq!(from(r#"{"offsets": {"a": 17}}"#).unwrap_err()[0].id, "invalid-offsets");
        assert_eq!(from(r#"{"timestamp": "noon"}"#).unwrap_err()[0].id, "invalid-time");
        assert!(serde_json::from_str::<Kafka>(r#"{"brokers": "h:1", "topics": "a", "start": "oldest"}"#).is_err());
        assert!(serde_json::from_str::<Kafka>(r#"{"brokers": "h:1", "topics": "a", "start": {"timestamp": 5, "offset": 1}}"#).is_err());
    }

    #[test]
    fn impossible_configs_are_said() {
        for (config, want) in [
            (r#"{"brokers": "", "topics": []}"#, vec!["missing-topics", "missing-brokers"]),
            (r#"{"brokers": "h:1", "topics": ["a", "a", "^(", "b c"]}"#, vec!["repeated-topic", "invalid-regex", "invalid-topic"]),
            (r#"{"brokers": "h:1", "topics": "a", "start": "committed"}"#, vec!["missing-group"]),
            (
                r#"{"brokers": "h:1", "topics": "a", "delay": "-1s", "buffer": "1B", "charset": "x"}"#,
                vec!["unknown-charset", "out-of-range", "out-of-range"],
            ),
        ] {
            let got: Vec<_> = spec(config, &[]).map(|_| ()).unwrap_err().iter().map(|p| p.id).collect();
            assert_eq!(got, want, "{config}");
        }
    }

    #[test]
    fn patterns_leave_internal_topics_alone() {
        let (_, spec) = spec(r#"{"brokers": "h:1", "topics": ["x", "^.*s$"]}"#, &[]).unwrap();
        let read: Vec<bool> = ["x", "clicks", "__consumer_offsets", "y"].map(|t| spec.reads(t)).into();
        assert_eq!(read, [true, true, false, false]);
        assert_eq!((spec.number("x", 2), spec.number("clicks", 1)), (2, spec.number("clicks", 0).wrapping_add(1)));
    }
}
