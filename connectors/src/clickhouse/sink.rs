//! The sink `ClickHouse`.

use super::client::{Client, Server, name};
use super::columns::Kind;
use super::insert::{MAX_ROWS, owned};
use super::outbox::{ClickHouseOutbox, begin, encode};
use super::table::Table;
use super::writer::{Load, Writer};
use crate::format::{Projection, columns_demand};
use crate::gather::{Backoff, Gatherer};
use jiff::tz::TimeZone;
use millrace_sdk::config::{Duration, FieldName, Ordered, Secret, Size};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::{
    Batch, Bind, Demand, Edge, Fault, Guarantee, Outbox, Part, Place, Problem, Record, SchemaRef, Sink, SinkContext, SinkFactory, SinkSpec,
    Slot, Ticket, Val, inventory, json,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

/// Inserts rows into a table of ClickHouse, over HTTP.
///
/// Each field goes to the column of its name; the table must exist, and other columns take their defaults. At the start the
/// fields are held against the table: a column that is missing, computed, or of a type that the field does not fit ends the job with
/// one sentence. Integers and times must lie within the column's range, decimals are rounded half away from zero to its scale and
/// must fit its precision, times are cut to its resolution, dates are those of the job's `time_zone`; any value can go to a `String`,
/// bytes as they are and containers as JSON; maps, arrays and JSON go to `Map`, `Array`, `Tuple`, `JSON`. Null, and a field that
/// is missing, take the column's default unless it is `Nullable`; there null is NULL.
///
/// Rows gather to large inserts (`batch_rows`, `batch_bytes`, `batch_time`). A value that its column cannot hold rejects its row
/// (`value-does-not-fit`) before it is sent. If the server refuses an insert (an unknown name of an enum, a `CONSTRAINT`), it is
/// halved until the wrong rows stand alone; they are rejected with the server's words (`refused-by-clickhouse`), all others go
/// through. While the server is down or has too much to do rows wait and are sent again with growing pauses for as long as it takes,
/// with backpressure to the job's sources.
///
/// Guarantee: exactly once in a job with checkpoints, if the table remembers inserts: a replicated table does, a plain MergeTree with
/// the setting `non_replicated_deduplication_window`; any other is refused at the start. Once a checkpoint is complete its rows are
/// inserted, with deduplication tokens made of writer, checkpoint and part; then a marker is written to the table `markers` of the
/// same database, made on first use (`ReplacingMergeTree`; beside a replicated table make it yourself, replicated). After a
/// crash what may be there already is inserted again under the same tokens. So the table must still remember the last checkpoint when the
/// job comes back: fewer other inserts than its window, and for a replicated table within `replicated_deduplication_window_seconds`.
/// Rows of a checkpoint become visible insert by insert.
///
/// Without checkpoints, at least once: after a failure of the job rows may be written again; after one of the server they are not, if
/// the table remembers inserts.
///
/// # Example
/// Needs a server, and `CREATE TABLE orders (id UInt64, price Decimal(18, 2), at DateTime64(3)) ENGINE = MergeTree ORDER BY id`.
///
/// ```yaml
/// name: keep-orders
/// streams:
///   orders:
///     config:
///       source: {type: Inline, config: {lines: ['{"id":1,"price":9.90,"at":"2024-05-01T12:00:00Z"}']}}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {id: bigint, price: "decimal(18,2)", at: timestamp}}}
/// sink:
///   - {type: ClickHouse, config: {url: "${CLICKHOUSE:-http://localhost:8123}", table: orders}}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseSink {
    /// The server's HTTP port: `http://host:8123`, `https://host:8443`.
    #[schemars(extend("x-address" = true))]
    url: String,
    /// The table.
    table: String,
    /// The table's database. Default default.
    #[serde(default = "default_name")]
    database: String,
    /// User's name. Default: the server's default user.
    user: Option<String>,
    /// User's password.
    password: Option<Secret>,
    /// Fields to write. Default: all.
    #[serde(default)]
    columns: Vec<FieldName>,
    /// Rows of an insert at most, 1 to 1,000,000. Default 100000.
    #[serde(default = "batch_rows")]
    batch_rows: usize,
    /// Bytes of an insert, about, as JSON before compression. Default 16MiB.
    #[serde(default = "batch_bytes")]
    batch_bytes: Size,
    /// How long a row waits for others to share its insert. Default 500ms.
    #[serde(default = "batch_time")]
    batch_time: Duration,
    /// How inserts are compressed. Default lz4.
    #[serde(default)]
    compression: Compression,
    /// For a whole call: an insert must be done in this time. Default 60s.
    #[serde(default = "one_minute")]
    timeout: Duration,
    /// The table that says what is inserted, for exactly-once. Default millrace_markers.
    #[serde(default = "markers")]
    markers: String,
    /// Further settings of the server, for each insert.
    #[serde(default)]
    settings: Ordered<serde_json::Value>,
}

inventory::submit! { Part::sink::<ClickHouseSink>("ClickHouse", &["Clickhouse"]) }

/// How inserts are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    #[default]
    Lz4,
}

fn default_name() -> String {
    "default".into()
}
fn batch_rows() -> usize {
    100_000
}
fn batch_bytes() -> Size {
    Size::bytes(16 << 20)
}
fn batch_time() -> Duration {
    Duration::millis(500)
}
fn one_minute() -> Duration {
    Duration::secs(60)
}
fn markers() -> String {
    "millrace_markers".into()
}

impl ClickHouseSink {
    fn check(&self, problems: &mut Vec<Problem>) {
        let host = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        let host = host.map(|h| h.split('/').next().unwrap_or_default());
        let plain = |h: &str| !h.is_empty() && !h.contains(['@', ' ', '?', '#']);
        if !host.is_some_and(plain) {
            let p = Problem::error("invalid-url", Place::at(["url"]), "this is no URL of ClickHouse's HTTP port");
            problems.push(p.hint("write `http://host:8123`; user and password have keys of their own"));
        }
        for (key, text) in [("table", &self.table), ("database", &self.database), ("markers", &self.markers)] {
            if text.trim().is_empty() {
                problems.push(Problem::error("missing-name", Place::at([key]), format!("`{key}` must not be empty")));
            }
        }
        if self.password.is_some() && self.user.is_none() {
            problems.push(Problem::error("missing-user", Place::at(["password"]), "`password` needs a `user`"));
        }
        if !(1..=MAX_ROWS).contains(&self.batch_rows) {
            problems.push(Problem::error("out-of-range", Place::at(["batch_rows"]), "`batch_rows` is from 1 to 1,000,000"));
        }
        if !(1 << 10..=256 << 20).contains(&self.batch_bytes.bytes) {
            problems.push(Problem::error("out-of-range", Place::at(["batch_bytes"]), "`batch_bytes` is from 1KiB to 256MiB"));
        }
        if !(0..=60_000_000).contains(&self.batch_time.micros) {
            problems.push(Problem::error("out-of-range", Place::at(["batch_time"]), "`batch_time` is from 0s to 1m"));
        }
        if self.timeout.micros <= 0 {
            problems.push(Problem::error("out-of-range", Place::at(["timeout"]), "`timeout` must be more than 0"));
        }
        for (key, value) in self.settings.iter() {
            let place = Place::at(["settings", key.as_str()]);
            if owned(key) {
                problems.push(Problem::error(
                    "owned-setting",
                    place.key(),
                    format!("`{key}` is not set here: what the sink promises rests on it"),
                ));
            } else if !(value.is_string() || value.is_number() || value.is_boolean()) {
                problems.push(Problem::error("invalid-setting", place, format!("`{key}` takes one value")));
            }
        }
    }

    fn input(&self, edge: &Edge) -> Result<Input, Vec<Problem>> {
        let projection = Projection::bind(&self.columns, &edge.schema)?;
        if projection.is_none() && edge.schema.tail().is_some() {
            let what = "these rows have fields that nobody declared: name the `columns`";
            let p = Problem::error("columns-needed", Place::default(), what);
            return Err(vec![p.hint("write `columns: [a, b]`, or declare the fields where the rows are parsed")]);
        }
        let wanted = projection.as_ref().map_or(&edge.schema, |p| &p.schema).clone();
        let columns = wanted.visible().map(|(_, f)| name(&f.name)).collect::<Vec<_>>().join(", ");
        Ok(Input { schema: edge.schema.clone(), projection, wanted, columns })
    }
}

impl SinkSpec for ClickHouseSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn demand(&self) -> Demand {
        columns_demand(&self.columns)
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut problems = vec![];
        self.check(&mut problems);
        let zone = TimeZone::get(&bind.env.time_zone).unwrap_or(TimeZone::UTC);
        let mut inputs = vec![];
        for edge in bind.inputs {
            match self.input(edge) {
                Ok(input) => inputs.push(input),
                Err(p) => problems.extend(p.into_iter().filter(|p| !problems.contains(p)).collect::<Vec<_>>()),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(s) => s.clone(),
            serde_json::Value::Bool(b) => u8::from(*b).to_string(),
            other => other.to_string(),
        };
        Ok(Arc::new(Factory {
            server: Server {
                url: self.url.clone(),
                user: self.user.clone(),
                password: self.password.as_ref().map(|p| p.0.clone()),
                compress: self.compression == Compression::Lz4,
                timeout: self.timeout.std(),
            },
            database: self.database.clone(),
            table: self.table.clone(),
            inputs: inputs.into(),
            zone,
            max_rows: self.batch_rows,
            max_bytes: self.batch_bytes.bytes as usize,
            max_wait: self.batch_time.std(),
            markers: self.markers.clone(),
            settings: self.settings.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
            found: OnceLock::new(),
        }))
    }
}

/// How rows of one input are written.
struct Input {
    schema: SchemaRef,
    projection: Option<Projection>,
    /// What is left of the schema.
    wanted: SchemaRef,
    /// The columns as SQL lists them.
    columns: String,
}

struct Factory {
    server: Server,
    database: String,
    table: String,
    inputs: Arc<[Input]>,
    zone: TimeZone,
    max_rows: usize,
    max_bytes: usize,
    max_wait: std::time::Duration,
    markers: String,
    settings: Vec<(String, String)>,
    /// What the server said of the table, and the columns of each input.
    found: OnceLock<(Table, Vec<Vec<Kind>>)>,
}

impl Factory {
    fn found(&self) -> Result<&(Table, Vec<Vec<Kind>>), Fault> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let table = Table::describe(&Client::new(&self.server)?, &self.database, &self.table)?;
        let kinds = self.inputs.iter().map(|i| table.kinds(&i.wanted)).collect::<Result<_, _>>()?;
        Ok(self.found.get_or_init(|| (table, kinds)))
    }

    fn encoder(&self) -> Result<Encoder, Fault> {
        let (_, kinds) = self.found()?;
        let columns = |(input, kinds): (&Input, &Vec<Kind>)| {
            let fields = input.wanted.visible().zip(kinds);
            fields.map(|((slot, f), kind)| Column { slot, name: f.name.to_string(), key: key(&f.name), kind: kind.clone() }).collect()
        };
        let columns = self.inputs.iter().zip(kinds).map(columns).collect();
        Ok(Encoder { inputs: self.inputs.clone(), columns, zone: self.zone.clone(), rejects: vec![] })
    }
}

/// `"name":`
fn key(name: &str) -> Vec<u8> {
    let mut key = vec![];
    json::quote(name.as_bytes(), &mut key);
    key.push(b':');
    key
}

impl SinkFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        let (table, _) = self.found()?;
        if table.window == Some(0) {
            tracing::info!(
                "table `{}.{}` has no deduplication window: an insert whose answer is lost may be there twice",
                table.database,
                table.table
            );
        }
        Ok(())
    }

    fn open(&self, cx: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        let encoder = self.encoder()?;
        let (table, _) = self.found()?;
        let random = RandomState::new().build_hasher().finish();
        let (client, settings) = (Client::new(&self.server)?, self.settings.clone());
        let into = self.inputs.iter().map(|i| format!("{} ({})", table.name(), i.columns)).collect();
        let (max_rows, max_bytes, max_wait) = (self.max_rows, self.max_bytes, self.max_wait);
        let gatherer = Gatherer::start("clickhouse-sink", move |queue, desk| {
            let token = format!("{}-{random:016x}-{}", cx.env.job, cx.worker);
            let backoff = Backoff::new(random);
            Writer { client, into, settings, max_rows, max_bytes, max_wait, desk, waker: cx.waker, backoff, token, inserts: 0 }.run(queue);
        })?;
        Ok(Box::new(ClickHouse { encoder, gatherer: Some(gatherer) }))
    }

    fn encoder(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(ClickHouse { encoder: self.encoder()?, gatherer: None }))
    }

    fn outbox(&self, _: SinkContext) -> Result<Option<Box<dyn Outbox>>, Fault> {
        let (table, _) = self.found()?;
        let outbox = ClickHouseOutbox::new(Client::new(&self.server)?, table, &self.markers, self.settings.clone())?;
        Ok(Some(Box::new(outbox)))
    }
}

/// A field and the column that it goes to.
struct Column {
    slot: Slot,
    name: String,
    key: Vec<u8>,
    kind: Kind,
}

/// Rows as lines of JSON that the table takes.
struct Encoder {
    inputs: Arc<[Input]>,
    columns: Vec<Vec<Column>>,
    zone: TimeZone,
    rejects: Vec<Reject>,
}

impl Encoder {
    /// Appends the lines of a batch to `text`, and says of each its row and where it ends.
    fn lines(&mut self, input: usize, batch: &Batch, text: &mut Vec<u8>) -> Vec<(usize, u32)> {
        let from = &self.inputs[input];
        let projected = from.projection.as_ref().map(|p| p.apply(batch));
        let mut lines = Vec::with_capacity(batch.len());
        for (number, row) in projected.as_ref().unwrap_or(batch).rows().enumerate() {
            let begun = text.len();
            match line(&self.columns[input], &row, &self.zone, text) {
                Ok(()) => lines.push((text.len(), number as u32)),
                Err(why) => {
                    text.truncate(begun);
                    self.rejects.push(Reject::row("value-does-not-fit", why, &batch.row(number), &from.schema));
                }
            }
        }
        lines
    }
}

fn line(columns: &[Column], row: &Record<'_>, zone: &TimeZone, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'{');
    let begun = out.len();
    for column in columns {
        let value = row.get(column.slot);
        if matches!(value, Val::Missing) {
            continue;
        }
        if out.len() > begun {
            out.push(b',');
        }
        out.extend_from_slice(&column.key);
        match value {
            Val::Null => out.extend_from_slice(b"null"),
            _ => column.kind.write(row, column.slot, zone, out).map_err(|why| format!("column `{}`: {why}", column.name))?,
        }
    }
    out.push(b'}');
    Ok(())
}

struct ClickHouse {
    encoder: Encoder,
    /// None: it only encodes.
    gatherer: Option<Gatherer<Load>>,
}

impl Sink for ClickHouse {
    fn ready(&mut self) -> bool {
        self.gatherer.as_ref().is_none_or(Gatherer::ready)
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let mut text = vec![];
        let lines = self.encoder.lines(input, batch, &mut text);
        let (rows, bytes) = (lines.len(), text.len());
        let load = Load { text, lines, ticket, input, batch: batch.clone(), schema: self.encoder.inputs[input].schema.clone() };
        match &self.gatherer {
            Some(gatherer) => gatherer.send(load, rows, bytes),
            None => Err(Fault::bug("an encoder of a ClickHouse sink was asked to write")),
        }
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.encoder.rejects);
        self.gatherer.as_ref().map_or(Ok(()), |g| g.poll(acks))
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.encoder.rejects);
        self.gatherer.as_mut().map_or(Ok(()), |g| g.close(acks))
    }

    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        let mut text = vec![];
        let lines = self.encoder.lines(input, batch, &mut text);
        begin(&self.encoder.inputs[input].columns, lines.len(), chunk);
        let mut from = 0;
        for (end, number) in lines {
            encode(&batch.row(number as usize), &text[from..end], chunk);
            from = end;
        }
        Some(Ok(()))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
