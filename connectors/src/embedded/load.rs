//! Fills an embedded table from a file, once per content.

use super::table::Table;
use crate::file::{JsonRows, Layout};
use millrace_expr::Template;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Fault, Field, Meta, Schema, SchemaRef, Type, Val, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Rows a write.
const CHUNK: usize = 1000;

/// Loads a file of JSON lines or CSV, unless the same content was loaded before with the same key.
///
/// # Errors
/// A file that cannot be read, a line that is no JSON object, a key that cannot be made.
pub fn load(table: &Table, path: &Path, key: &str, env: &Env) -> Result<(), Fault> {
    let _one_at_a_time = table.loading.lock().unwrap_or_else(|e| e.into_inner());
    let fingerprint = fingerprint(path, key)?;
    if table.fingerprint()?.as_deref() == Some(&fingerprint) {
        return Ok(());
    }
    table.clear_loaded()?;
    let names = Template::fields(key);
    let schema = Schema::open(names.iter().map(|n| Field::hidden(n.as_str(), Type::Any)).collect());
    let template = Template::compile(key, &schema, env).map_err(|issues| {
        Fault::config(format!("the key template `{key}` is wrong"))
            .detail(issues.into_iter().map(|i| i.message).collect::<Vec<_>>().join("; "))
    })?;
    let paths: Vec<Vec<Box<str>>> = names.iter().map(|n| n.split('.').map(Into::into).collect()).collect();
    let mut rows = JsonRows::open(path, Layout::of(path), env)?;
    let (mut chunk, mut total): (Vec<(Vec<u8>, Vec<u8>)>, u64) = (vec![], 0);
    let flush = |chunk: &mut Vec<(Vec<u8>, Vec<u8>)>| {
        let done = table.load(chunk.iter().map(|(k, v)| (&k[..], &v[..])));
        chunk.clear();
        done
    };
    rows.each(&mut |offset, text| {
        total += 1;
        let wrong = |why: String| Fault::data(format!("cannot load `{}`: the record at byte {offset} {why}", path.display()));
        if !text.starts_with('{') || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return Err(wrong("is no JSON object".into()));
        }
        let batch = row(&schema, &paths, text);
        let mut key = Vec::new();
        template.render(&batch.row(0), &mut key).map_err(|e| wrong(format!("has no key: {}", e.message)))?;
        chunk.push((key, text.as_bytes().to_vec()));
        if chunk.len() >= CHUNK { flush(&mut chunk) } else { Ok(()) }
    })?;
    flush(&mut chunk)?;
    table.loaded(&fingerprint)?;
    tracing::info!("loaded {total} rows from `{}`", path.display());
    Ok(())
}

/// The row that the key template reads.
fn row(schema: &SchemaRef, paths: &[Vec<Box<str>>], text: &str) -> millrace_sdk::Batch {
    let mut builder = BatchBuilder::new(schema.clone());
    let mut scratch = String::new();
    for path in paths {
        builder.push_val(json::lookup(Val::Json(text), path, &mut scratch));
    }
    builder.push_json(text);
    builder.end_row(Meta::default());
    builder.finish()
}

fn fingerprint(path: &Path, key: &str) -> Result<[u8; 8], Fault> {
    let broken = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::refused(format!("file `{}` does not exist", path.display())).hint("`load` is relative to the topology file")
        }
        _ => Fault::refused(format!("file `{}` cannot be read", path.display())).detail(e.to_string()),
    };
    let mut hash = Xxh3::new();
    hash.update(key.as_bytes());
    let mut file = File::open(path).map_err(broken)?;
    let mut block = vec![0; 256 << 10];
    loop {
        match file.read(&mut block).map_err(broken)? {
            0 => return Ok(hash.digest().to_be_bytes()),
            n => hash.update(&block[..n]),
        }
    }
}
