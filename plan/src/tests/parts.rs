//! Small real parts: where rows come from and go to is the connectors' business, which this crate does not know.

use millrace_sdk::config::{Duration, OneOrMany, Ordered, PathText, Secret, TypeText};
use millrace_sdk::operator::Env;
use millrace_sdk::store::{BoxFuture, Tuning};
use millrace_sdk::*;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Rows of declared fields. Delivers nothing: plans are not run here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Field names and types.
    #[serde(default)]
    fields: Ordered<TypeText>,
    /// Topics. One or several.
    topics: Option<OneOrMany<String>>,
    /// Where to start.
    #[serde(default)]
    start: Start,
    /// Password.
    password: Option<Secret>,
    #[serde(default)]
    once: bool,
    delay: Option<Duration>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Start {
    #[default]
    Earliest,
    Latest,
    Timestamp(u32),
}

inventory::submit! { Part::source::<Feed>("Feed", &["Feed011"]) }

struct FeedFactory;
impl SourceFactory for FeedFactory {
    fn open(&self, _: SourceContext) -> Result<Box<dyn Source>, Fault> {
        Err(Fault::bug("plans are not run here"))
    }
}

impl SourceSpec for Feed {
    fn bounded(&self) -> bool {
        self.once
    }
    fn replayable(&self) -> bool {
        !self.once
    }
    fn bind(&self, bind: &Bind<'_>, demand: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        assert!(bind.inputs.is_empty());
        let (_, _, _) = (&self.password, &self.delay, matches!(self.start, Start::Timestamp(t) if t > 0));
        let mut fields = vec![];
        if self.topics.as_ref().is_some_and(|t| t.as_slice().iter().any(String::is_empty)) {
            return Err(vec![Problem::error("bad-topic", Place::at(["topics"]).then(0), "a topic without a name")]);
        }
        for (name, ty) in self.fields.iter() {
            fields.push(Field::new(name.as_str(), Type::parse(ty).expect("checked before")));
        }
        if fields.is_empty() {
            fields.push(Field::hidden("_value", Type::Bytes));
        }
        if demand.names("_topic") {
            fields.push(Field::hidden("_topic", Type::String));
        }
        if demand.names("_attempts") {
            fields.push(Field::hidden("_attempts", Type::Bigint));
        }
        Ok((Schema::new(fields), Arc::new(FeedFactory)))
    }
}

/// A sink that takes everything.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Out {
    /// A field that must be there.
    needs: Option<String>,
}

inventory::submit! { Part::sink::<Out>("Out", &[]) }

/// A sink of nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Null {}

inventory::submit! { Part::sink::<Null>("Null", &[]) }

/// Lines in a file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    path: PathText,
    format: String,
}

inventory::submit! { Part::sink::<File>("File", &[]) }

struct OutFactory;
impl SinkFactory for OutFactory {
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Err(Fault::bug("plans are not run here"))
    }
}

impl SinkSpec for Out {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }
    fn demand(&self) -> Demand {
        Demand::all()
    }
    fn bind(&self, bind: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        for edge in bind.inputs {
            if let Some(f) = &self.needs
                && edge.schema.resolve(f).is_none()
            {
                return Err(vec![Problem::error("unknown-field", Place::at(["needs"]), format!("unknown field `{f}`"))]);
            }
        }
        Ok(Arc::new(OutFactory))
    }
}

impl SinkSpec for Null {
    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }
    fn demand(&self) -> Demand {
        Demand::none()
    }
    fn bind(&self, _: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        Ok(Arc::new(OutFactory))
    }
}

impl SinkSpec for File {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }
    fn demand(&self) -> Demand {
        Demand::all()
    }
    fn bind(&self, _: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        assert!(self.path.ends_with(".jsonl") && self.format == "json");
        Ok(Arc::new(OutFactory))
    }
}

/// A table that has nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    key: String,
    columns: Option<Vec<String>>,
}

inventory::submit! { Part::store::<Table>("Table", &[]) }

impl StoreSpec for Table {
    fn key(&self) -> Option<&str> {
        Some(&self.key)
    }
    fn tuning(&self) -> Tuning {
        Tuning::default()
    }
    fn bind(&self, fields: &[Field], _: &Env) -> Result<Arc<dyn Store>, Vec<Problem>> {
        match &self.columns {
            Some(c) if fields.iter().any(|f| !c.iter().any(|c| **c == *f.name)) => {
                Err(vec![Problem::error("unknown-column", Place::at(["columns"]), "a column is missing")])
            }
            _ => Ok(Arc::new(Nothing)),
        }
    }
}

struct Nothing;
impl Store for Nothing {
    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        Box::pin(std::future::ready(Ok(keys.iter().map(|_| None).collect())))
    }
}
