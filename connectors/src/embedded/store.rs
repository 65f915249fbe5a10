//! The store `Embedded`.

use super::load::load;
use super::table::Table;
use crate::lookup::Answers;
use millrace_sdk::config::{PathText, TemplateText};
use millrace_sdk::operator::Env;
use millrace_sdk::store::{BoxFuture, Tuning};
use millrace_sdk::{Fault, Field, Part, Place, Problem, Store, StoreSpec, Val, inventory, json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A table on the local disk (RocksDB), to look up in without any server: loaded from a file, or filled by the sink of the same
/// name in this job.
///
/// `load` names a file of JSON objects, one a line, or a CSV file with a header (`.csv`); either may be compressed (`.gz`,
/// `.zst`). It is read before the job reads anything, and again only when its content or the key has changed: then its rows take
/// the place of all that were loaded before. Of several rows with one key the last counts. Rows that the sink wrote hide loaded
/// ones.
///
/// Fields are taken from the row's JSON by name or path and converted to the type that the asking part wants; a field that the row
/// does not have is missing. One process at a time can use a table.
///
/// # Example
/// ```yaml
/// name: names-of-ids
/// stores:
///   names: {type: Embedded, config: {path: table, key: "{{id}}"}}
/// streams:
///   ids:
///     config:
///       source: {type: Inline, config: {rows: [{id: 7}]}}
/// transforms:
///   - {type: Lookup, name: named, input: ids, config: {store: names, fields: [name]}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"id":7,"name":null}
/// ```
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedStore {
    /// The table's folder. Default: a folder of its own in the job's state folder.
    path: Option<PathText>,
    /// The file to fill the table from, relative to the topology file.
    load: Option<PathText>,
    /// The key: from the fields of the asking row, and, when a file is loaded, from those of each of its rows.
    key: TemplateText,
    /// The key of the file's rows, where their fields have other names.
    load_key: Option<TemplateText>,
}

inventory::submit! { Part::store::<EmbeddedStore>("Embedded", &["RocksDB"]) }

impl StoreSpec for EmbeddedStore {
    fn key(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn tuning(&self) -> Tuning {
        Tuning { concurrency: 2, ..Tuning::default() }
    }

    fn bind(&self, fields: &[Field], env: &Env) -> Result<Arc<dyn Store>, Vec<Problem>> {
        let folder = match (&self.path, &self.load) {
            (Some(path), _) => env.base_dir.join(&**path),
            (None, Some(load)) => default_folder(load, env),
            (None, None) => {
                let p = Problem::error("missing-path", Place::default(), "an embedded table needs `load` or `path`");
                return Err(vec![p.hint("`load` fills it from a file; a sink fills the table in `path`")]);
            }
        };
        if self.load.is_none() && self.load_key.is_some() {
            return Err(vec![Problem::error("key-without-effect", Place::at(["load_key"]).key(), "`load_key` is for `load`")]);
        }
        let paths = fields.iter().map(|f| f.name.split('.').map(Into::into).collect()).collect();
        let load = self.load.as_ref().map(|l| (env.base_dir.join(&**l), self.load_key.as_ref().unwrap_or(&self.key).0.clone()));
        let shared =
            Shared { folder, own: self.path.is_none(), load, env: env.clone(), fields: fields.to_vec(), paths, table: OnceLock::new() };
        Ok(Arc::new(Embedded(Arc::new(shared))))
    }
}

/// The same in every run of the job, whatever the store is called.
pub fn default_folder(load: &str, env: &Env) -> PathBuf {
    let name = Path::new(load).file_name().map_or_else(|| "table".into(), |n| n.to_string_lossy().replace('.', "-"));
    env.state_dir.join("embedded").join(format!("{name}-{:08x}", xxhash_rust::xxh3::xxh3_64(load.as_bytes()) as u32))
}

struct Shared {
    folder: PathBuf,
    /// The folder's place does not matter to anybody.
    own: bool,
    load: Option<(PathBuf, String)>,
    env: Env,
    fields: Vec<Field>,
    paths: Vec<Vec<Box<str>>>,
    table: OnceLock<Arc<Table>>,
}

impl Shared {
    fn table(&self) -> Result<&Arc<Table>, Fault> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = if self.own { Table::open_own(&self.folder) } else { Table::open(&self.folder) }?;
        if let Some((path, key)) = &self.load {
            load(&table, path, key, &self.env)?;
        }
        Ok(self.table.get_or_init(|| table))
    }

    fn answer(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let rows = self.table()?.get(keys)?;
        let mut answers = Answers::new(&self.fields);
        let mut scratch = String::new();
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            found.push(match row {
                None => None,
                Some(row) => {
                    let text = std::str::from_utf8(&row).map_err(|_| Fault::refused("a row of an embedded table is damaged"))?;
                    for path in &self.paths {
                        answers.push(json::lookup(Val::Json(text), path, &mut scratch))?;
                    }
                    Some(answers.row())
                }
            });
        }
        Ok(found)
    }
}

struct Embedded(Arc<Shared>);

impl Store for Embedded {
    fn check(&self) -> Result<(), Fault> {
        self.0.table().map(|_| ())
    }

    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || shared.answer(&keys));
            work.await.unwrap_or_else(|e| Err(Fault::bug(format!("a look-up in an embedded table has failed: {e}"))))
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
