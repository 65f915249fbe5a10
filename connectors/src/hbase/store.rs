//! The store `HBase`.

use super::cells::{Encoding, column, family};
use super::client::{Client, check_address};
use crate::lookup::{Answers, Cache, tuning};
use hbase_thrift::hbase::TRowResult;
use millrace_sdk::config::{Duration, TemplateText};
use millrace_sdk::operator::Env;
use millrace_sdk::store::{BoxFuture, Tuning};
use millrace_sdk::{Fault, Field, Part, Place, Problem, Store, StoreSpec, Val, inventory};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The longest row key that HBase takes.
pub const MAX_KEY: usize = i16::MAX as usize;

/// Looks rows up in an HBase table, through HBase's Thrift gateway (Thrift1, buffered, binary protocol).
///
/// A field that is wanted is the column `family:field`, or, where its name holds a colon, the column of that name. Cells are
/// converted to the type that the asking part wants; a column that the row does not have is missing. A row that has none of the
/// wanted columns counts as not found, and so does a key that is empty or longer than 32,767 bytes.
///
/// Keys are asked for in batches, several batches at once. A gateway that does not answer is asked again with growing pauses until
/// `timeout`; then the asking part's `on_store_error` says what happens to its row. A gateway that was started again is connected
/// to again.
///
/// # Example
/// Needs a gateway and the row that the example of the HBase sink writes.
///
/// ```yaml
/// name: with-exposures
/// stores:
///   exposures: {type: HBase, config: {thrift: "${HBASE:-localhost:9090}", table: exposures, key: "{{md5_prefix mid 2}}_{{uid}}_{{mid}}", family: d}}
/// streams:
///   clicks:
///     config:
///       source: {type: Inline, config: {rows: [{uid: u1, mid: m1}]}}
/// transforms:
///   - {type: Lookup, name: found, input: clicks, config: {store: exposures, fields: {pos: bigint}}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","mid":"m1","pos":3}
/// ```
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HBaseStore {
    /// The gateway, `host:port`.
    #[schemars(extend("x-address" = true))]
    thrift: String,
    /// The table, `namespace:table` outside the default namespace. It must exist.
    table: String,
    /// The row key, from the fields of the asking row.
    key: Option<TemplateText>,
    /// The column family of fields that do not name one themselves.
    family: String,
    /// What cells hold.
    #[serde(default)]
    encoding: Encoding,
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
    /// The heartbeat row that the HBase sink of the filling job writes; tells how new the table is.
    heartbeat: Option<String>,
}

inventory::submit! { Part::store::<HBaseStore>("HBase", &["Hbase"]) }

fn two_seconds() -> Duration {
    Duration::secs(2)
}
fn batch() -> usize {
    256
}
fn concurrency() -> usize {
    8
}

/// Problems of the keys that store and sink share.
pub fn check_names(table: &str, family: &str, problems: &mut Vec<Problem>) {
    if table.is_empty() {
        problems.push(Problem::error("missing-table", Place::at(["table"]), "a table's name must not be empty"));
    }
    if family.is_empty() || family.contains(':') {
        let p = Problem::error("invalid-family", Place::at(["family"]), format!("`{family}` is no column family"));
        problems.push(p.hint("write the family alone, without a colon: `d`"));
    }
}

impl StoreSpec for HBaseStore {
    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn tuning(&self) -> Tuning {
        tuning(self.timeout, self.batch, self.concurrency, self.cache.as_ref(), &mut vec![])
    }

    fn bind(&self, fields: &[Field], _: &Env) -> Result<Arc<dyn Store>, Vec<Problem>> {
        let mut problems = vec![];
        tuning(self.timeout, self.batch, self.concurrency, self.cache.as_ref(), &mut problems);
        check_address(&self.thrift, &mut problems);
        check_names(&self.table, &self.family, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = fields.iter().map(|f| column(&self.family, &f.name).into_bytes()).collect();
        Ok(Arc::new(HBase(Arc::new(Shared {
            client: Client::new(&self.thrift, self.timeout.std()),
            table: self.table.clone(),
            family: self.family.clone(),
            heartbeat: self.heartbeat.clone(),
            encoding: self.encoding,
            fields: fields.to_vec(),
            columns,
        }))))
    }
}

struct Shared {
    client: Client,
    table: String,
    family: String,
    heartbeat: Option<String>,
    encoding: Encoding,
    fields: Vec<Field>,
    columns: Vec<Vec<u8>>,
}

impl Shared {
    fn answer(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let asked: Vec<Vec<u8>> = keys.iter().filter(|k| (1..=MAX_KEY).contains(&k.len())).cloned().collect();
        let rows = if asked.is_empty() { vec![] } else { self.client.get(&self.table, &asked, &self.columns)? };
        // Rows that are not there are left out of the answer: what counts is the key.
        let mut found = HashMap::new();
        for TRowResult { row, columns, .. } in rows {
            found.insert(row.unwrap_or_default(), columns.unwrap_or_default());
        }
        let mut answers = Answers::new(&self.fields);
        keys.iter()
            .map(|key| {
                let Some(cells) = found.get(key) else { return Ok(None) };
                for (column, field) in self.columns.iter().zip(&self.fields) {
                    match cells.get(column).and_then(|c| c.value.as_deref()) {
                        Some(bytes) => self.encoding.read(bytes, field.ty, &mut answers)?,
                        None => answers.push(Val::Missing)?,
                    }
                }
                Ok(Some(answers.row()))
            })
            .collect()
    }

    fn newest(&self) -> Result<Option<i64>, Fault> {
        let Some(row) = &self.heartbeat else { return Ok(None) };
        let rows = self.client.get(&self.table, &[row.clone().into_bytes()], &[self.family.clone().into_bytes()])?;
        Ok(newest_of(
            &self.family,
            rows.into_iter().flat_map(|r| r.columns.unwrap_or_default()).map(|(k, c)| (k, c.value.unwrap_or_default())),
        ))
    }
}

/// The newest event time of any writer, microseconds.
fn newest_of(family: &str, cells: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Option<i64> {
    let prefix = column(family, "event_time.");
    let cells: BTreeMap<Vec<u8>, Vec<u8>> = cells.collect();
    cells.iter().filter(|(k, _)| k.starts_with(prefix.as_bytes())).filter_map(|(_, v)| std::str::from_utf8(v).ok()?.parse().ok()).max()
}

struct HBase(Arc<Shared>);

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Fault::bug(format!("a call to HBase has failed: {e}"))))
}

impl Store for HBase {
    fn check(&self) -> Result<(), Fault> {
        let shared = &self.0;
        let names: Vec<String> = shared.columns.iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect();
        let mut families: Vec<&str> = names.iter().map(|c| family(c)).chain([shared.family.as_str()]).collect();
        families.sort();
        families.dedup();
        shared.client.check(&shared.table, &families)
    }

    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        let shared = self.0.clone();
        Box::pin(blocking(move || shared.answer(&keys)))
    }

    fn newest(&self) -> BoxFuture<Result<Option<i64>, Fault>> {
        let shared = self.0.clone();
        Box::pin(blocking(move || shared.newest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_sdk::Type;
    use serde_json::json;

    #[test]
    fn configs() {
        let good = json!({"thrift": "h:9090", "table": "t", "key": "{{a}}", "family": "d", "cache": {"size": 10, "ttl": "5s"}});
        let spec: HBaseStore = serde_json::from_value(good.clone()).unwrap();
        assert_eq!(spec.key(), Some("{{a}}"));
        assert_eq!((spec.tuning().cache_size, spec.tuning().cache_ttl.as_secs(), spec.tuning().batch), (10, 5, 256));
        for (key, value, id) in [
            ("thrift", json!("h"), "invalid-address"),
            ("table", json!(""), "missing-table"),
            ("family", json!("d:"), "invalid-family"),
            ("timeout", json!("0s"), "out-of-range"),
            ("batch", json!(0), "out-of-range"),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let spec: HBaseStore = serde_json::from_value(config).unwrap();
            let problems = spec.bind(&[Field::new("a", Type::String)], &Env::default()).err().unwrap();
            assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn heartbeats_of_several_writers() {
        let cell = |k: &str, v: &str| (k.as_bytes().to_vec(), v.as_bytes().to_vec());
        let cells = [cell("d:event_time.0", "5"), cell("d:event_time.1", "17"), cell("d:wall_time.1", "99"), cell("d:event_time.2", "x")];
        assert_eq!(newest_of("d", cells.into_iter()), Some(17));
        assert_eq!(newest_of("d", std::iter::empty()), None);
    }
}
