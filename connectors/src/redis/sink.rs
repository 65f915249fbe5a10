//! The sink `Redis`.

use super::client::{Client, Server};
use super::commands::{Input, Mode, Shape, Written};
use super::outbox::{RedisOutbox, begin, encode};
use super::writer::{Load, Row, Writer};
use crate::format::{Format, Layout};
use crate::gather::{Backoff, Gatherer};
use millrace_sdk::config::{Duration, FieldName, Secret, TemplateText};
use millrace_sdk::json::JsonWriter;
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, Bind, Demand, Fault, Guarantee, Outbox, Part, Place, Problem, Sink, SinkContext, SinkFactory, SinkSpec, Ticket, inventory,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Writes rows to Redis: keys, hashes, streams, lists, sets, counters, messages.
///
/// `mode` says what a row does to the key that `key` makes of it. Where a row is written as text (`set`, lists, sets, `publish`), that
/// is JSON unless `format` says otherwise; as fields (`hset`, `xadd`) each is text: numbers in decimal, timestamps in ISO 8601,
/// containers as JSON, bytes as they are. A row without a field to write is dropped and counted (`no-fields`).
///
/// Rows are written in their order, in pipelines of what gathered while the last one ran. A row whose command the server refuses (a key
/// that holds another kind of value) is rejected with the server's words (`refused-by-redis`), an empty key as `invalid-key`; the
/// rows beside it go through. While the server is down, loads its data, is out of memory or read-only, rows wait and are sent
/// again with growing pauses for as long as it takes, with backpressure to the job's sources.
///
/// Guarantee: exactly once in a job with checkpoints, whose rows appear when their checkpoint is complete. A checkpoint's rows and a
/// marker are written by one script, which does nothing where the marker says that they are there, or where another process has
/// taken the writer over. The marker is the hash `millrace:outbox:WRITER`: not to be deleted while the job lives. Redis keeps what
/// it has acknowledged as well as its own settings let it (`appendfsync`); rows and marker stay or go together. What is published
/// is heard by those who are connected at that time, whatever the guarantee.
///
/// Without checkpoints, at least once: after a failure a row may be written again, which for `set`, `hset`, `sadd`, `zadd` and `del`
/// changes nothing.
///
/// A single server, or the primary of a replicated one; a node of a Redis Cluster is refused at the start.
///
/// # Example
/// Needs a server.
///
/// ```yaml
/// name: remember-users
/// streams:
///   users:
///     config:
///       source: {type: Inline, config: {rows: [{uid: u1, town: Berlin, age: 34}]}}
/// sink:
///   - {type: Redis, config: {url: "${REDIS:-redis://localhost:6379}", key: "user:{{uid}}", mode: hset, columns: [town, age], ttl: 1d}}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSink {
    /// The server: `redis://host:6379/0`, `rediss://` for TLS. The number is that of the database.
    #[schemars(extend("x-address" = true))]
    url: String,
    /// User's name, where the server has users. Default: none.
    username: Option<String>,
    /// Password. Default: none, or the URL's.
    password: Option<Secret>,
    /// The key; the channel for `publish`.
    key: TemplateText,
    /// What a row does to its key. Default set.
    #[serde(default)]
    mode: Mode,
    /// How rows become text. Default json.
    format: Option<Format>,
    /// Fields to write, in this order; at most 1,000 for `hset` and `xadd`. Default: all.
    #[serde(default)]
    columns: Vec<FieldName>,
    /// The text, for `format: text`.
    template: Option<TemplateText>,
    /// Field with the score, for `zadd`: a number.
    score: Option<FieldName>,
    /// Field with the amount, for `incrby`: an integer. Default: 1 is added.
    by: Option<FieldName>,
    /// How long the key lives after its last write. Default: for ever.
    ttl: Option<Duration>,
    /// Entries that a stream (about) or a list (exactly) keeps, the oldest go: for `xadd`, `lpush`, `rpush`. Default: all.
    max_len: Option<u64>,
    /// Rows a pipeline at most. Default 1000.
    #[serde(default = "thousand")]
    batch: usize,
    /// For each step of a call. Default 10s.
    #[serde(default = "ten_seconds")]
    timeout: Duration,
}

inventory::submit! { Part::sink::<RedisSink>("Redis", &[]) }

fn thousand() -> usize {
    1000
}
fn ten_seconds() -> Duration {
    Duration::secs(10)
}

impl RedisSink {
    fn shape(&self) -> Shape<'_> {
        Shape {
            mode: self.mode,
            key: &self.key,
            layout: Layout { format: self.format.unwrap_or_default(), columns: &self.columns, template: self.template.as_ref() },
            number: if self.mode == Mode::Zadd { self.score.as_deref() } else { self.by.as_deref() },
            ttl_millis: self.ttl.map(|t| t.micros / 1000),
            max_len: self.max_len,
        }
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        let m = self.mode;
        let name = format!("{m:?}").to_lowercase();
        for (key, given, takes) in [
            ("format", self.format.is_some(), m.text()),
            ("template", self.template.is_some(), m.text()),
            ("columns", !self.columns.is_empty(), m.text() || m.fields()),
            ("score", self.score.is_some(), m == Mode::Zadd),
            ("by", self.by.is_some(), m == Mode::Incrby),
            ("ttl", self.ttl.is_some(), m.expires()),
            ("max_len", self.max_len.is_some(), m.bounded()),
        ] {
            if given && !takes {
                let what = format!("`{key}` has no effect with `mode: {name}`");
                problems.push(Problem::error("key-without-effect", Place::at([key]).key(), what));
            }
        }
        if m == Mode::Zadd && self.score.is_none() {
            problems.push(Problem::error("missing-score", Place::at(["mode"]), "`mode: zadd` needs a `score`"));
        }
        if self.ttl.is_some_and(|t| t.micros < 1000) {
            problems.push(Problem::error("out-of-range", Place::at(["ttl"]), "`ttl` is at least 1ms"));
        }
        if self.max_len.is_some_and(|n| !(1..=1 << 40).contains(&n)) {
            problems.push(Problem::error("out-of-range", Place::at(["max_len"]), "`max_len` is at least 1"));
        }
        if !(1..=100_000).contains(&self.batch) {
            problems.push(Problem::error("out-of-range", Place::at(["batch"]), "`batch` is from 1 to 100,000"));
        }
    }
}

impl SinkSpec for RedisSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn demand(&self) -> Demand {
        self.shape().demand()
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut problems = vec![];
        self.check(&mut problems);
        let server = Server { url: &self.url, username: self.username.as_deref(), password: self.password.as_ref(), timeout: self.timeout };
        let client = server.client(&mut problems);
        let mut inputs = vec![];
        for edge in bind.inputs {
            match self.shape().bind(edge, bind.env) {
                Ok(input) => inputs.push(input),
                Err(p) => problems.extend(p.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>()),
            }
        }
        match client {
            Some(client) if problems.is_empty() => {
                Ok(Arc::new(Factory { client, inputs, batch: self.batch, overwrites: self.mode.overwrites() }))
            }
            _ => Err(problems),
        }
    }
}

struct Factory {
    client: Client,
    inputs: Vec<Input>,
    batch: usize,
    overwrites: bool,
}

impl Factory {
    fn sink(&self, gatherer: Option<Gatherer<Load>>) -> Redis {
        let json = self.inputs.iter().map(|i| JsonWriter::new(&i.schema)).collect();
        Redis { inputs: self.inputs.clone(), json, gatherer, rejects: vec![], without_fields: 0, scratch: vec![] }
    }
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        self.client.check()
    }

    fn overwrites(&self) -> bool {
        self.overwrites
    }

    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let (client, batch) = (self.client.clone(), self.batch);
        let backoff = Backoff::new(cx.clock.now() as u64 ^ cx.worker as u64);
        let gatherer = Gatherer::start("redis-sink", move |queue, desk| {
            Writer { client, batch, desk, waker: cx.waker, backoff }.run(queue);
        })?;
        Ok(Box::new(self.sink(Some(gatherer))))
    }

    fn encoder(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(self.sink(None)))
    }

    fn outbox(&self, _: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        Ok(Some(Box::new(RedisOutbox::new(self.client.clone()))))
    }
}

struct Redis {
    inputs: Vec<Input>,
    /// Writes the rows of each input as JSON, for the outbox.
    json: Vec<JsonWriter>,
    /// None: it only encodes.
    gatherer: Option<Gatherer<Load>>,
    rejects: Vec<Reject>,
    /// Rows without a field to write, since the last poll.
    without_fields: u64,
    scratch: Vec<u8>,
}

impl Redis {
    /// What is to be written of a batch: for each row its number, and its commands, which `packed` gets.
    fn encode_rows(&mut self, input: usize, batch: &Batch, packed: &mut Vec<u8>, mut each: impl FnMut(u32, u8, &mut Vec<u8>)) {
        let input = &mut self.inputs[input];
        let rows = input.rows(batch);
        for (number, (row, original)) in rows.rows().zip(batch.rows()).enumerate() {
            match input.write(&row, &original, packed) {
                Written::Commands(n) => each(number as u32, n, packed),
                Written::Nothing => self.without_fields += 1,
                Written::Wrong(reason, message) => self.rejects.push(Reject::row(reason, message, &original, &input.schema)),
            }
        }
    }

    fn said(&mut self, acks: &mut Acks) {
        acks.rejects.append(&mut self.rejects);
        if self.without_fields > 0 {
            acks.dropped.push(("no-fields", std::mem::take(&mut self.without_fields)));
        }
    }
}

impl Sink for Redis {
    fn ready(&mut self) -> bool {
        self.gatherer.as_ref().is_none_or(Gatherer::ready)
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let (mut packed, mut rows) = (vec![], Vec::with_capacity(batch.len()));
        self.encode_rows(input, batch, &mut packed, |number, commands, packed| rows.push(Row { end: packed.len(), commands, number }));
        let (count, bytes) = (rows.len(), packed.len());
        let load = Load { packed, rows, ticket, batch: batch.clone(), schema: self.inputs[input].schema.clone() };
        match &self.gatherer {
            Some(gatherer) => gatherer.send(load, count, bytes),
            None => Err(Fault::bug("an encoder of a Redis sink was asked to write")),
        }
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.said(acks);
        self.gatherer.as_ref().map_or(Ok(()), |g| g.poll(acks))
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.said(acks);
        self.gatherer.as_mut().map_or(Ok(()), |g| g.close(acks))
    }

    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        let (mut packed, mut rows) = (std::mem::take(&mut self.scratch), vec![]);
        packed.clear();
        self.encode_rows(input, batch, &mut packed, |number, commands, packed| rows.push((number, commands, packed.len())));
        let (mut from, mut json) = (0, vec![]);
        begin(chunk);
        for (number, commands, end) in rows {
            let row = batch.row(number as usize);
            json.clear();
            self.json[input].row(&row, &mut json);
            encode(&row, &json, commands, &packed[from..end], chunk);
            from = end;
        }
        self.scratch = packed;
        Some(Ok(()))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
