//! Apache Kafka: what source and sink share, which is how a client is configured, checked and heard.

mod control;
pub mod headers;
mod message;
mod outbox;
mod reader;
pub mod sink;
pub mod source;
mod writer;

use millrace_sdk::config::{Ordered, PathText, Secret};
use millrace_sdk::operator::Env;
use millrace_sdk::{Fault, Place, Problem};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a broker may take to answer at the start.
const CHECK: Duration = Duration::from_secs(10);

/// How the connection is secured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`. Default: ssl if `ca` or `cert` is given, sasl if `username` is.
    protocol: Option<Protocol>,
    /// How the password is proven: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Default SCRAM-SHA-512.
    mechanism: Option<Mechanism>,
    /// User's name, for SASL.
    username: Option<String>,
    /// User's password, for SASL.
    password: Option<Secret>,
    /// File with the certificates (PEM) of the authorities that are trusted. Default: the system's.
    ca: Option<PathText>,
    /// File with this client's certificate (PEM).
    cert: Option<PathText>,
    /// File with this client's private key (PEM).
    key: Option<PathText>,
    /// Password of the private key.
    key_password: Option<Secret>,
    /// Check that the broker's certificate names its host. Default true.
    verify_host: Option<bool>,
}

/// What lies between client and broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// A user's password, not encrypted.
    SaslPlaintext,
    /// A user's password over TLS.
    SaslSsl,
}

/// How a password is proven.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum Mechanism {
    /// As it is: only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    Scram256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    Scram512,
}

/// What source and sink have in common.
pub struct Common<'a> {
    pub brokers: &'a str,
    pub security: &'a Security,
    pub properties: &'a Ordered<serde_json::Value>,
}

/// Client settings that load code, run programs or read files of others: never taken from a topology.
const DENIED: &[&str] =
    &["plugin.library.paths", "ssl.engine.location", "ssl.providers", "sasl.kerberos.kinit.cmd", "sasl.oauthbearer.assertion.file"];

/// Settings on which the promises of source and sink rest, and what to write instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "`brokers`"),
    ("metadata.broker.list", "`brokers`"),
    ("group.id", "`group`"),
    ("auto.offset.reset", "`start` or `on_offset_lost`"),
    ("enable.auto.commit", "nothing: offsets are committed once all sinks have acknowledged"),
    ("enable.auto.offset.store", "nothing: offsets are committed once all sinks have acknowledged"),
    ("enable.partition.eof", "nothing"),
    ("enable.idempotence", "nothing: it is on"),
    ("acks", "nothing: all replicas acknowledge"),
    ("request.required.acks", "nothing: all replicas acknowledge"),
    ("message.timeout.ms", "nothing: a broker that is down is waited for"),
    ("delivery.timeout.ms", "nothing: a broker that is down is waited for"),
    ("retries", "nothing: a broker that is down is waited for"),
    ("message.send.max.retries", "nothing: a broker that is down is waited for"),
    ("transactional.id", "nothing"),
    ("queue.buffering.max.messages", "`max_in_flight`"),
    ("queue.buffering.max.kbytes", "`max_in_flight`"),
    ("compression.type", "`compression`"),
    ("compression.codec", "`compression`"),
    ("linger.ms", "`linger`"),
    ("queue.buffering.max.ms", "`linger`"),
    ("security.protocol", "`security`"),
    ("sasl.username", "`security`"),
    ("sasl.password", "`security`"),
    ("sasl.mechanism", "`security`"),
    ("sasl.mechanisms", "`security`"),
    ("ssl.key.password", "`security`"),
    ("ssl.key.pem", "`security`"),
];

impl Common<'_> {
    /// A client's settings: `own` ones, then those of `security`, then the user's `properties`.
    ///
    /// # Errors
    /// Settings that are denied, owned, unknown or not of their type, and security keys that do not go together.
    pub fn client(&self, env: &Env, own: &[(&str, String)]) -> Result<ClientConfig, Vec<Problem>> {
        let mut problems = vec![];
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", self.brokers).set("client.id", format!("millrace-{}", env.job));
        if self.brokers.trim().is_empty() {
            problems.push(
                Problem::error("missing-brokers", Place::at(["brokers"]), "`brokers` names no broker")
                    .hint("write it like host:9092,host:9092"),
            );
        }
        for (key, value) in own {
            config.set(*key, value);
        }
        self.secure(env, &mut config, &mut problems);
        for (key, value) in self.properties.iter() {
            let place = Place::at(["properties"]).then(key.as_str());
            let text = match value {
                serde_json::Value::String(s) => s.clone(),
                serde_json::Value::Bool(_) | serde_json::Value::Number(_) => value.to_string(),
                _ => {
                    problems.push(Problem::error("invalid-property", place, format!("`{key}` takes one value")));
                    continue;
                }
            };
            if DENIED.contains(&key.as_str()) {
                problems.push(Problem::error("denied-property", place.key(), format!("`{key}` cannot be set in a topology")));
            } else if let Some((_, instead)) = OWNED.iter().find(|(k, _)| k == key) {
                problems
                    .push(Problem::error("owned-property", place.key(), format!("`{key}` is not set here")).hint(format!("use {instead}")));
            } else {
                config.set(key, &text);
                if let Err(KafkaError::ClientConfig(_, why, ..)) = ClientConfig::new().set(key, &text).create_native_config() {
                    // Whether the key or its value is wrong, only the client's words tell.
                    let place = if why.contains("No such configuration property") { place.key() } else { place };
                    problems.push(Problem::error("invalid-property", place, format!("the client does not take `{key}: {text}`: {why}")));
                }
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    fn secure(&self, env: &Env, config: &mut ClientConfig, problems: &mut Vec<Problem>) {
        let s = self.security;
        let tls = s.ca.is_some() || s.cert.is_some() || s.key.is_some() || s.verify_host.is_some();
        let protocol = s.protocol.unwrap_or(match (s.username.is_some(), tls) {
            (false, false) => Protocol::Plaintext,
            (false, true) => Protocol::Ssl,
            (true, false) => Protocol::SaslPlaintext,
            (true, true) => Protocol::SaslSsl,
        });
        let (sasl, ssl) = match protocol {
            Protocol::Plaintext => (false, false),
            Protocol::Ssl => (false, true),
            Protocol::SaslPlaintext => (true, false),
            Protocol::SaslSsl => (true, true),
        };
        let name = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"][usize::from(ssl) + 2 * usize::from(sasl)];
        config.set("security.protocol", name);
        let mut wrong = |key: &str, what: &str| problems.push(Problem::error("security-clash", Place::at(["security", key]), what));
        if sasl != s.username.is_some() {
            wrong(
                if sasl { "protocol" } else { "username" },
                if sasl { "sasl needs `username` and `password`" } else { "`username` needs a sasl protocol" },
            );
        }
        if s.username.is_some() != s.password.is_some() {
            wrong("username", "`username` and `password` go together");
        } else if s.username.as_deref() == Some("") {
            wrong("username", "the user's name is empty");
        } else if s.password.as_ref().is_some_and(|p| p.0.is_empty()) {
            wrong("password", "the password is empty");
        }
        if tls && !ssl {
            wrong("protocol", "certificates need the protocol ssl or sasl_ssl");
        }
        if s.cert.is_some() != s.key.is_some() {
            wrong("cert", "`cert` and `key` go together");
        }
        if sasl {
            config.set(
                "sasl.mechanism",
                match s.mechanism {
                    Some(Mechanism::Plain) => "PLAIN",
                    Some(Mechanism::Scram256) => "SCRAM-SHA-256",
                    Some(Mechanism::Scram512) | None => "SCRAM-SHA-512",
                },
            );
        }
        let path = |p: &PathText| env.base_dir.join(&p.0).to_string_lossy().into_owned();
        let settings = [
            ("sasl.username", s.username.clone()),
            ("sasl.password", s.password.as_ref().map(|p| p.0.clone())),
            ("ssl.ca.location", s.ca.as_ref().map(path)),
            ("ssl.certificate.location", s.cert.as_ref().map(path)),
            ("ssl.key.location", s.key.as_ref().map(path)),
            ("ssl.key.password", s.key_password.as_ref().map(|p| p.0.clone())),
            ("ssl.endpoint.identification.algorithm", s.verify_host.filter(|_| ssl).map(|v| if v { "https" } else { "none" }.into())),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                config.set(key, value);
            }
        }
    }
}

/// Hears what the client library has to say: its log lines become ours.
#[derive(Default)]
pub struct Listener {
    /// The last error, for the sentence that a failed check prints.
    last: Mutex<Option<(String, Instant)>>,
    /// The first error that trying again does not mend.
    hopeless: OnceLock<String>,
}

/// A broker that is down is heard of by every client, several times a second.
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);
static OUTAGE_TOLD: Mutex<Option<Instant>> = Mutex::new(None);

impl Listener {
    fn last(&self) -> Option<String> {
        locked(&self.last).as_ref().map(|(e, _)| e.clone())
    }

    /// Notes an error; false: the same was said a moment ago.
    fn note(&self, reason: &str) -> bool {
        // A wrong password or certificate.
        if reason.contains("uthentication") || reason.contains("certificate verify failed") {
            let _ = self.hopeless.set(reason.into());
        }
        let mut last = locked(&self.last);
        let again = last.as_ref().is_some_and(|(e, at)| e == reason && at.elapsed() < Duration::from_secs(10));
        if !again {
            *last = Some((reason.into(), Instant::now()));
        }
        !again
    }

    pub fn hear_log(level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "kafka", "{fac}: {message}")
            }
            // Every broken connection is told again by `error` below.
            RDKafkaLogLevel::Warning if fac == "FAIL" => tracing::debug!(target: "kafka", "{fac}: {message}"),
            RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", "{fac}: {message}"),
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "kafka", "{fac}: {message}");
            }
        }
    }

    /// Whether a broker cannot be reached.
    pub fn is_outage(error: &KafkaError) -> bool {
        use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
        matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | Resolve))
    }

    pub fn hear_error(&self, error: &KafkaError, reason: &str) {
        // These belong to one partition and are told where it is read.
        let partition = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AutoOffsetReset));
        if partition {
            return;
        }
        // The client's count of what it has told broker by broker, each with its reason.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && self.last().is_some() {
            return tracing::debug!(target: "kafka", "{reason}");
        }
        if !self.note(reason) {
            return;
        }
        if Self::is_outage(error) {
            let mut told = locked(&OUTAGE_TOLD);
            if told.is_some_and(|t| t.elapsed() < OUTAGE_PAUSE) {
                return tracing::debug!(target: "kafka", "{reason}; the client goes on trying");
            }
            *told = Some(Instant::now());
        }
        tracing::warn!(target: "kafka", "{reason}; the client goes on trying");
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Listener::hear_log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear_error(&error, reason);
    }
}
impl rdkafka::consumer::ConsumerContext for Listener {}

/// A client that only asks.
pub type Probe = BaseConsumer<Listener>;

/// Whether a broker answers and the topics exist: one clear sentence if not.
pub fn check(config: &ClientConfig, brokers: &str, topics: &[&str]) -> Result<Probe, Fault> {
    let mut config = config.clone();
    for key in ["group.id", "statistics.interval.ms"] {
        config.remove(key);
    }
    config.set("allow.auto.create.topics", "false");
    let probe: Probe = config.create_with_context(Listener::default()).map_err(|e| refused(brokers, &e))?;
    let until = Instant::now() + CHECK;
    let mut asked = topics.iter().map(|t| Some(*t)).collect::<Vec<_>>();
    if asked.is_empty() {
        asked.push(None);
    }
    for topic in asked {
        // Short at first, as why there is no answer is only heard in between.
        let mut patience = Duration::from_millis(250);
        loop {
            // Any broker's answer will do where no topic is named; this asks for the least.
            let found = probe.fetch_metadata(topic.or(Some("__consumer_offsets")), patience);
            patience = (patience * 2).min(Duration::from_secs(4));
            // Not zero: that would end at the first line of the client's log.
            while probe.poll(Duration::from_millis(5)).is_some() {}
            match (found, topic) {
                (Ok(_), None) => break,
                (Ok(metadata), Some(topic)) => match metadata.topics().iter().find(|t| t.name() == topic) {
                    Some(t) if t.error().is_none() && !t.partitions().is_empty() => break,
                    Some(t) => match t.error() {
                        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                            return Err(Fault::refused(format!("no permission for topic `{topic}` at {brokers}")));
                        }
                        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) => {
                            return Err(Fault::config(format!("`{topic}` is no name for a topic")));
                        }
                        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) if Instant::now() < until => {}
                        _ => return Err(missing(topic, brokers)),
                    },
                    None => return Err(missing(topic, brokers)),
                },
                (Err(_), _) if probe.context().hopeless.get().is_some() => {
                    let why = probe.context().hopeless.get().cloned().unwrap_or_default();
                    let fault = Fault::refused(format!("the Kafka broker at {brokers} is not to be had with this `security`")).detail(why);
                    return Err(fault.hint("check the user, the password and the certificates"));
                }
                (Err(_), _) if Instant::now() < until => {}
                (Err(e), _) => {
                    let why = probe.context().last().unwrap_or_else(|| e.to_string());
                    return Err(Fault::down(format!("no Kafka broker answers at {brokers}"))
                        .detail(why)
                        .hint("check `brokers` and `security`, and that it runs"));
                }
            }
        }
    }
    Ok(probe)
}

fn missing(topic: &str, brokers: &str) -> Fault {
    Fault::refused(format!("topic `{topic}` does not exist at {brokers}")).hint("create it, or correct its name")
}

/// The client library does not start with this config.
pub fn refused(brokers: &str, error: &KafkaError) -> Fault {
    let why = match error {
        KafkaError::ClientConfig(_, why, key, value) => format!("{key}={}: {why}", if key.contains("password") { "***" } else { value }),
        KafkaError::ClientCreation(why) => why.clone(),
        other => other.to_string(),
    };
    Fault::config(format!("the Kafka client for {brokers} cannot be made")).detail(why)
}

/// Locks what no panic can leave half done.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A settings list for [`Common::client`].
pub fn settings<const N: usize>(of: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    of.into_iter().map(|(k, v)| (k, v.to_string())).collect()
}

/// Shared by an instance and its client's threads.
pub type Shared<T> = Arc<Mutex<T>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(security: &str, properties: &str) -> Result<ClientConfig, Vec<(&'static str, String)>> {
        let security: Security = serde_json::from_str(security).unwrap();
        let properties: Ordered<serde_json::Value> = serde_json::from_str(properties).unwrap();
        let common = Common { brokers: "h:1", security: &security, properties: &properties };
        let env = Env { base_dir: "/base".into(), ..Env::default() };
        common.client(&env, &settings([("acks", "all")])).map_err(|p| p.into_iter().map(|p| (p.id, p.message)).collect())
    }

    #[test]
    fn security_becomes_settings() {
        for (security, want) in [
            ("{}", vec![("security.protocol", "plaintext")]),
            (r#"{"ca": "ca.pem"}"#, vec![("security.protocol", "ssl"), ("ssl.ca.location", "/base/ca.pem")]),
            (
                r#"{"username": "u", "password": "p"}"#,
                vec![
                    ("security.protocol", "sasl_plaintext"),
                    ("sasl.mechanism", "SCRAM-SHA-512"),
                    ("sasl.username", "u"),
                    ("sasl.password", "p"),
                ],
            ),
            (
                r#"{"protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "u", "password": "p", "verify_host": false}"#,
                vec![("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN"), ("ssl.endpoint.identification.algorithm", "none")],
            ),
        ] {
            let config = client(security, "{}").unwrap();
            for (key, value) in want {
                assert_eq!(config.get(key), Some(value), "{security}");
            }
            assert!(config.create_native_config().is_ok(), "{security}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        for (security, properties, want) in [
            ("{}", r#"{"plugin.library.paths": "x.so"}"#, "denied-property"),
            ("{}", r#"{"sasl.kerberos.kinit.cmd": "rm"}"#, "denied-property"),
            ("{}", r#"{"enable.auto.commit": true}"#, "owned-property"),
            ("{}", r#"{"fetch.mni.bytes": 1}"#, "invalid-property"),
            ("{}", r#"{"fetch.min.bytes": "many"}"#, "invalid-property"),
            ("{}", r#"{"fetch.min.bytes": [1]}"#, "invalid-property"),
            (r#"{"username": "u"}"#, "{}", "security-clash"),
            (r#"{"cert": "c"}"#, "{}", "security-clash"),
            (r#"{"protocol": "sasl_ssl"}"#, "{}", "security-clash"),
            (r#"{"protocol": "plaintext", "ca": "x"}"#, "{}", "security-clash"),
        ] {
            let problems = client(security, properties).unwrap_err();
            assert_eq!(problems.iter().map(|p| p.0).collect::<Vec<_>>(), [want], "{problems:?}");
        }
        let config = client("{}", r#"{"fetch.min.bytes": 5, "socket.keepalive.enable": true}"#).unwrap();
        assert_eq!(
            (config.get("fetch.min.bytes"), config.get("socket.keepalive.enable"), config.get("acks")),
            (Some("5"), Some("true"), Some("all"))
        );
    }
}
