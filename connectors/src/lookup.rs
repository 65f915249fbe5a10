//! Config keys that look-up stores share, and how an answer's row is made.

use millrace_sdk::config::Duration;
use millrace_sdk::schema::Field;
use millrace_sdk::store::Tuning;
use millrace_sdk::{BatchBuilder, Fault, Meta, Place, Problem, Schema, SchemaRef, Type, Val, convert};
use schemars::JsonSchema;
use serde::Deserialize;

/// Answers kept in memory, per process.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Answers at most; the one not asked for longest goes first. Default 0: none are kept.
    #[serde(default)]
    size: usize,
    /// How long an answer is kept. Default 60s.
    ttl: Option<Duration>,
    /// How long "not found" is kept. Default 0: it is asked again every time.
    negative_ttl: Option<Duration>,
}

/// The engine's view of the shared keys.
///
/// # Errors
/// Values that cannot work: no time, no room.
pub fn tuning(timeout: Duration, batch: usize, concurrency: usize, cache: Option<&Cache>, problems: &mut Vec<Problem>) -> Tuning {
    for (key, wrong) in [("timeout", timeout.micros <= 0), ("batch", batch == 0), ("concurrency", concurrency == 0)] {
        if wrong {
            problems.push(Problem::error("out-of-range", Place::at([key]), format!("`{key}` must be more than 0")));
        }
    }
    let cache = cache.cloned().unwrap_or_default();
    let default = Tuning::default();
    Tuning {
        timeout: timeout.std(),
        batch: batch.max(1),
        concurrency: concurrency.max(1),
        cache_size: cache.size,
        cache_ttl: cache.ttl.map_or(default.cache_ttl, Duration::std),
        negative_ttl: cache.negative_ttl.map_or(default.negative_ttl, Duration::std),
    }
}

/// Makes answers: rows of the wanted fields, each value converted to the field's type.
pub struct Answers {
    rows: BatchBuilder,
    schema: SchemaRef,
    next: usize,
}

impl Answers {
    pub fn new(fields: &[Field]) -> Answers {
        let schema = Schema::new(fields.to_vec());
        Answers { rows: BatchBuilder::new(schema.clone()), schema, next: 0 }
    }

    /// The next field of the row being made.
    ///
    /// # Errors
    /// A sentence that names the field: the value is not of its type.
    pub fn push(&mut self, value: Val<'_>) -> Result<(), Fault> {
        let field = &self.schema.fields()[self.next];
        self.next += 1;
        let done = match (value, field.ty) {
            // Cells are bytes; what is wanted of them is their text.
            (Val::Bytes(b), ty) if ty != Type::Bytes => match std::str::from_utf8(b) {
                Ok(text) => convert::push(Val::Str(text), ty, &mut self.rows),
                Err(_) => Err(convert::ConvertError("its bytes are not UTF-8".into())),
            },
            (value, ty) => convert::push(value, ty, &mut self.rows),
        };
        done.map_err(|e| Fault::data(format!("stored field `{}` is no {}", field.name, field.ty)).detail(e.0))
    }

    /// The row, encoded.
    pub fn row(&mut self) -> Vec<u8> {
        self.next = 0;
        self.rows.end_row(Meta::default());
        let mut out = Vec::with_capacity(64);
        self.rows.take().row(0).encode(&mut out);
        out
    }
}
