//! What the server says of a table: columns, engine, how long it remembers inserts.

use super::client::{Client, Failure, literal, name};
use super::columns::{Kind, parse};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Fault, SchemaRef, Type};
use serde::Deserialize;

pub struct Table {
    pub database: String,
    pub table: String,
    columns: Vec<Column>,
    pub engine: String,
    /// Inserts whose tokens the table remembers; None: it is no table that could.
    pub window: Option<u64>,
}

/// A line of `DESCRIBE TABLE`.
#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(default)]
    default_type: String,
}

impl Table {
    /// # Errors
    /// The server is away, or has no such database or table: one clear sentence.
    pub fn describe(client: &Client, database: &str, table: &str) -> Result<Table, Fault> {
        let answer = match client.query(&format!("DESCRIBE TABLE {}.{}", name(database), name(table)), "JSONEachRow") {
            Err(Failure::Hopeless(fault)) => return Err(absent(client, database, table).unwrap_or(fault)),
            answer => answer?,
        };
        let lines = answer.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        let columns: Result<Vec<Column>, _> = lines.map(serde_json::from_slice).collect();
        let columns = columns.map_err(|e| Fault::bug("the answer to DESCRIBE TABLE is not understood").detail(e.to_string()))?;
        let sql = format!(
            "SELECT engine, replaceAll(engine_full, '\\n', ' ') FROM system.tables WHERE database = {} AND name = {}",
            literal(database),
            literal(table)
        );
        let (engine, full) = match client.lines(&sql)?.pop().as_deref() {
            Some([engine, full]) => (engine.clone(), full.clone()),
            _ => Default::default(),
        };
        let window = window(client, &engine, &full)?;
        Ok(Table { database: database.into(), table: table.into(), columns, engine, window })
    }

    /// As SQL names it.
    pub fn name(&self) -> String {
        format!("{}.{}", name(&self.database), name(&self.table))
    }

    /// Its columns for the fields of a schema, in that order.
    ///
    /// # Errors
    /// A column that is missing, that takes no values, or whose type does not fit: one clear sentence.
    pub fn kinds(&self, schema: &SchemaRef) -> Result<Vec<Kind>, Fault> {
        let place = format!("table `{}.{}`", self.database, self.table);
        let kind = |field: &str, ty: Type| {
            let Some(column) = self.columns.iter().find(|c| c.name == field) else {
                let fault = Fault::refused(format!("{place} has no column `{field}`"));
                let near = did_you_mean(field, self.columns.iter().map(|c| c.name.as_str()));
                return Err(match near {
                    Some(near) => fault.hint(format!("did you mean `{near}`? SelectElement gives fields other names")),
                    None => fault.hint("add it to the table, or name the `columns` to write"),
                });
            };
            if matches!(column.default_type.as_str(), "MATERIALIZED" | "ALIAS") {
                let what = format!("column `{field}` of {place} is computed by the server ({})", column.default_type.to_lowercase());
                return Err(Fault::refused(what).hint("leave it out of `columns`"));
            }
            let Some(kind) = parse(&column.ty) else {
                return Err(Fault::refused(format!("column `{field}` of {place} is {}, which this sink does not write", column.ty)));
            };
            if !kind.takes(ty) {
                let what = format!("column `{field}` of {place} is {}, which values of type {ty} do not fit", column.ty);
                return Err(Fault::refused(what).hint("give the field the column's type where the rows are parsed, or convert it in a Map"));
            }
            Ok(kind)
        };
        schema.visible().map(|(_, f)| kind(&f.name, f.ty)).collect()
    }
}

/// Which of the two is not there.
fn absent(client: &Client, database: &str, table: &str) -> Option<Fault> {
    let first = |sql: &str| Some(client.lines(sql).ok()?.into_iter().filter_map(|l| l.into_iter().next()).collect::<Vec<_>>());
    let (what, wanted, names) = if first("SHOW DATABASES")?.iter().any(|d| d == database) {
        ("table", format!("{database}.{table}"), first(&format!("SHOW TABLES FROM {}", name(database)))?)
    } else {
        ("database", database.to_string(), first("SHOW DATABASES")?)
    };
    let word = if what == "table" { table } else { database };
    if names.iter().any(|n| n == word) {
        return None;
    }
    let fault = Fault::refused(format!("{what} `{wanted}` does not exist in ClickHouse at `{}`", client.url()));
    Some(match did_you_mean(word, names.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint("create it first: millrace makes no tables"),
    })
}

/// How many inserts a table remembers.
fn window(client: &Client, engine: &str, full: &str) -> Result<Option<u64>, Fault> {
    if !engine.ends_with("MergeTree") {
        return Ok(None);
    }
    let replicated = engine.starts_with("Replicated") || engine.starts_with("Shared");
    let setting = if replicated { "replicated_deduplication_window" } else { "non_replicated_deduplication_window" };
    if let Some(own) = full.find(&format!(" {setting} = ")) {
        let text = &full[own + setting.len() + 4..];
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        return Ok(text[..digits].parse().ok());
    }
    let section = if replicated { "system.replicated_merge_tree_settings" } else { "system.merge_tree_settings" };
    let lines = client.lines(&format!("SELECT value FROM {section} WHERE name = {}", literal(setting)))?;
    Ok(Some(lines.first().and_then(|l| l.first()).and_then(|v| v.parse().ok()).unwrap_or(0)))
}
