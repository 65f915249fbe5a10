//! The store `Redis`.

use super::client::{Client, Server, bulk, head, judge_answer, pack};
use crate::lookup::{Answers, Cache, tuning};
use millrace_sdk::config::{Duration, Secret, TemplateText};
use millrace_sdk::operator::Env;
use millrace_sdk::store::{BoxFuture, Tuning};
use millrace_sdk::{Fault, Field, Part, Place, Problem, Store, StoreSpec, Val, inventory, json};
use redis::Value;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Looks rows up in Redis.
///
/// `value` says what lies at a key: the row as a JSON object, of which fields are taken by name or path (`client.os`); a hash, a
/// field of it for each field that is wanted; or text, which is the one field `value`. Values are converted to the type that the
/// asking part wants; a field that the row does not have is missing. A hash with none of the wanted fields counts as not found, and
/// so does an empty key.
///
/// Keys are asked for in batches (one `MGET`, or one pipeline of `HMGET`), several batches at once. A server that does not answer is
/// asked again with growing pauses until `timeout`; then the asking part's `on_store_error` says what happens to its row. A
/// value that is no JSON object, or a key of another kind, fails the question as the asking part's data.
///
/// # Example
/// Needs a server, and the row that the example of the Redis sink writes.
///
/// ```yaml
/// name: with-towns
/// stores:
///   users: {type: Redis, config: {url: "${REDIS:-redis://localhost:6379}", key: "user:{{uid}}", value: hash}}
/// streams:
///   clicks:
///     config:
///       source: {type: Inline, config: {rows: [{uid: u1}]}}
/// transforms:
///   - {type: Lookup, name: found, input: clicks, config: {store: users, fields: {town: town, age: {type: bigint}}}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","town":"Berlin","age":34}
/// ```
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisStore {
    /// The server: `redis://host:6379/0`, `rediss://` for TLS. The number is that of the database.
    #[schemars(extend("x-address" = true))]
    url: String,
    /// User's name, where the server has users. Default: none.
    username: Option<String>,
    /// Password. Default: none, or the URL's.
    password: Option<Secret>,
    /// The key, from the fields of the asking row.
    key: Option<TemplateText>,
    /// What lies at a key. Default json.
    #[serde(default)]
    value: Kind,
    /// For one question, retries included, and for each step of a call. Default 2s.
    #[serde(default = "two_seconds")]
    timeout: Duration,
    /// Keys a call at most. Default 256.
    #[serde(default = "batch")]
    batch: usize,
    /// Calls at once at most, per process. Default 8.
    #[serde(default = "concurrency")]
    concurrency: usize,
    /// Answers kept in memory.
    cache: Option<Cache>,
}

inventory::submit! { Part::store::<RedisStore>("Redis", &[]) }

fn two_seconds() -> Duration {
    Duration::secs(2)
}
fn batch() -> usize {
    256
}
fn concurrency() -> usize {
    8
}

/// What lies at a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A string with a JSON object.
    #[default]
    Json,
    /// A string, which is the field `value`.
    Text,
    /// A hash.
    Hash,
}

impl StoreSpec for RedisStore {
    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn tuning(&self) -> Tuning {
        tuning(self.timeout, self.batch, self.concurrency, self.cache.as_ref(), &mut vec![])
    }

    fn bind(&self, fields: &[Field], _: &Env) -> Result<Arc<dyn Store>, Vec<Problem>> {
        let mut problems = vec![];
        tuning(Duration::secs(1), self.batch, self.concurrency, self.cache.as_ref(), &mut problems);
        let server = Server { url: &self.url, username: self.username.as_deref(), password: self.password.as_ref(), timeout: self.timeout };
        let client = server.client(&mut problems);
        if self.value == Kind::Text
            && let Some(f) = fields.iter().find(|f| *f.name != *"value")
        {
            let what = format!("`{}` is wanted, but with `value: text` the only column is `value`", f.name);
            problems.push(Problem::error("unknown-column", Place::at(["value"]), what));
        }
        match client {
            Some(client) if problems.is_empty() => Ok(Arc::new(Redis(Arc::new(Shared {
                client,
                kind: self.value,
                fields: fields.to_vec(),
                paths: fields.iter().map(|f| f.name.split('.').map(Into::into).collect()).collect(),
            })))),
            _ => Err(problems),
        }
    }
}

struct Shared {
    client: Client,
    kind: Kind,
    fields: Vec<Field>,
    paths: Vec<Vec<Box<str>>>,
}

impl Shared {
    fn answer(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).filter(|k| !k.is_empty()).collect();
        let mut found = if asked.is_empty() { vec![] } else { self.ask(&asked)? }.into_iter();
        let mut answers = Answers::new(&self.fields);
        keys.iter().map(|key| if key.is_empty() { Ok(None) } else { self.row(key, found.next(), &mut answers) }).collect()
    }

    /// What lies at each key.
    fn ask(&self, keys: &[&[u8]]) -> Result<Vec<Value>, Fault> {
        let mut packed = vec![];
        if self.kind != Kind::Hash {
            pack(&[&[b"MGET".as_slice()], keys].concat(), &mut packed);
            return match self.client.send(&packed, 1, true)?.pop() {
                Some(Value::Array(values)) if values.len() == keys.len() => Ok(values),
                Some(Value::ServerError(e)) => Err(self.client.fault(judge_answer(&e))),
                other => Err(Fault::bug(format!("Redis answered MGET with {other:?}"))),
            };
        }
        for key in keys {
            match self.fields.as_slice() {
                [] => pack(&[b"HLEN", key], &mut packed),
                fields => {
                    head(b'*', 2 + fields.len(), &mut packed);
                    bulk(b"HMGET", &mut packed);
                    bulk(key, &mut packed);
                    fields.iter().for_each(|f| bulk(f.name.as_bytes(), &mut packed));
                }
            }
        }
        self.client.send(&packed, keys.len(), true)
    }

    /// The answer's row.
    fn row(&self, key: &[u8], value: Option<Value>, answers: &mut Answers) -> Result<Option<Vec<u8>>, Fault> {
        let name = || String::from_utf8_lossy(key).into_owned();
        match value {
            None | Some(Value::Nil | Value::Int(0)) => return Ok(None),
            Some(Value::Int(_)) => {}
            Some(Value::ServerError(e)) if e.code() == "WRONGTYPE" => {
                return Err(Fault::data(format!("the key `{}` in Redis holds no {:?}", name(), self.kind).to_lowercase()));
            }
            Some(Value::ServerError(e)) => return Err(self.client.fault(judge_answer(&e))),
            Some(Value::Array(values)) => {
                if values.iter().all(|v| matches!(v, Value::Nil)) {
                    return Ok(None);
                }
                for value in &values {
                    match value {
                        Value::BulkString(bytes) => answers.push(Val::Bytes(bytes))?,
                        _ => answers.push(Val::Missing)?,
                    }
                }
            }
            Some(Value::BulkString(text)) if self.kind == Kind::Text => {
                for _ in &self.fields {
                    answers.push(Val::Bytes(&text))?;
                }
            }
            Some(Value::BulkString(text)) => {
                let object = std::str::from_utf8(&text).ok().filter(|t| serde_json::from_str::<Object>(t).is_ok());
                let object = object.ok_or_else(|| Fault::data(format!("the value of `{}` in Redis is no JSON object", name())))?;
                let mut scratch = String::new();
                for path in &self.paths {
                    answers.push(json::lookup(Val::Json(object.trim_ascii()), path, &mut scratch))?;
                }
            }
            Some(other) => return Err(Fault::bug(format!("Redis answered a look-up with {other:?}"))),
        }
        Ok(Some(answers.row()))
    }
}

/// Any JSON object, looked at but not kept.
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Object)
            }
        }
        d.deserialize_map(Members)
    }
}

struct Redis(Arc<Shared>);

impl Store for Redis {
    fn check(&self) -> Result<(), Fault> {
        self.0.client.check()
    }

    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || shared.answer(&keys));
            work.await.unwrap_or_else(|e| Err(Fault::bug(format!("a call to Redis has failed: {e}"))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::Type;
    use serde_json::json;

    #[test]
    fn configs() {
        let good = json!({"url": "redis://h", "key": "{{a}}", "cache": {"size": 10, "ttl": "5s"}});
        let spec: RedisStore = serde_json::from_value(good.clone()).unwrap();
        assert_eq!(spec.key(), Some("{{a}}"));
        assert_eq!((spec.tuning().cache_size, spec.tuning().batch), (10, 256));
        for (key, value, ids) in [
            ("url", json!("h"), vec!["invalid-url"]),
            ("timeout", json!("0s"), vec!["out-of-range"]),
            ("batch", json!(0), vec!["out-of-range"]),
            ("username", json!("u"), vec!["missing-password"]),
            ("value", json!("text"), vec!["unknown-column"]),
            ("value", json!("hash"), vec![]),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let spec: RedisStore = serde_json::from_value(config).unwrap();
            let problems = spec.bind(&[Field::new("a", Type::String)], &Env::default()).err().unwrap_or_default();
            assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), ids);
        }
    }
}
