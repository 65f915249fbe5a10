//! A whole file as JSON objects, for parts that load one at their start.

use super::Compression;
use super::source::{FileSource, Format};
use millrace_sdk::operator::{Env, Reject};
use millrace_sdk::source::Pull;
use millrace_sdk::{Assignment, BatchBuilder, Bind, Demand, Fault, Poll, SchemaRef, Slot, Source, SourceContext, SourceSpec, Val};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How such a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    JsonLines,
    /// With a header.
    Csv,
}

impl Layout {
    /// By the name: `.csv` (and `.csv.gz`, `.csv.zst`) is CSV, all else JSON lines.
    pub fn of(path: &Path) -> Layout {
        let name = match Compression::Auto.of(path) {
            Compression::None => path.to_path_buf(),
            _ => path.with_extension(""),
        };
        if name.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) { Layout::Csv } else { Layout::JsonLines }
    }
}

pub struct JsonRows {
    source: Box<dyn Source>,
    schema: SchemaRef,
    partitions: Vec<u32>,
}

impl JsonRows {
    pub fn open(path: &Path, layout: Layout, env: &Env) -> Result<JsonRows, Fault> {
        let format = match layout {
            Layout::JsonLines => Format::Json,
            Layout::Csv => Format::Csv,
        };
        let spec = FileSource::whole(path, format);
        // The path is whole already.
        let env = &Env { base_dir: PathBuf::new(), ..env.clone() };
        let bind = Bind { inputs: &[], demands: &[], env, stores: &[] };
        let (schema, factory) = spec
            .bind(&bind, &Demand::all())
            .map_err(|p| Fault::config(p.first().map_or_else(|| "the file cannot be read".into(), |p| p.message.clone())))?;
        factory.check()?;
        let assignment = Assignment { index: 0, instances: 1, shift: 0 };
        let cx = SourceContext {
            assignment,
            clock: env.clock.clone(),
            waker: Arc::new(|| {}),
            source: 0,
            env: Arc::new(env.clone()),
            restored: false,
        };
        let mut source = factory.open(cx)?;
        let partitions = source.discover()?.new.into_iter().map(|p| p.id).collect();
        Ok(JsonRows { source, schema, partitions })
    }

    /// Calls `each` with every row's offset and its JSON text.
    ///
    /// # Errors
    /// What `each` says, and records that are no UTF-8 or no CSV.
    pub fn each(&mut self, each: &mut dyn FnMut(u64, &str) -> Result<(), Fault>) -> Result<(), Fault> {
        let slot = self.schema.tail().unwrap_or(Slot(0));
        for partition in std::mem::take(&mut self.partitions) {
            loop {
                let mut rows = BatchBuilder::new(self.schema.clone());
                let mut rejects: Vec<Reject> = vec![];
                let poll = self
                    .source
                    .poll(partition, &mut Pull { rows: &mut rows, rejects: &mut rejects, max_rows: 1024, max_bytes: 1 << 20 })?;
                if let Some(r) = rejects.first() {
                    return Err(Fault::data(format!("the record at byte {} is wrong: {}", r.meta.offset, r.message)));
                }
                for row in rows.finish().rows() {
                    let offset = row.meta().offset;
                    match row.get(slot) {
                        Val::Json(text) => each(offset, text)?,
                        Val::Bytes(bytes) => {
                            let text =
                                std::str::from_utf8(bytes).map_err(|_| Fault::data(format!("the record at byte {offset} is not UTF-8")))?;
                            each(offset, text)?;
                        }
                        _ => return Err(Fault::bug("a file's row has no text")),
                    }
                }
                if poll == Poll::Ended {
                    break;
                }
            }
        }
        Ok(())
    }
}
