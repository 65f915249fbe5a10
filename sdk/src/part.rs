//! The registry: every part says what it is, and the executable finds it at link time.

use crate::operator::OperatorSpec;
use crate::problem::{Place, Problem};
use crate::sink::SinkSpec;
use crate::source::SourceSpec;
use crate::store::StoreSpec;
use serde::de::DeserializeOwned;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Source,
    Operator,
    Sink,
    Store,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Operator => "operator",
            Kind::Sink => "sink",
            Kind::Store => "store",
        }
    }
}

type Made<T> = Result<Box<T>, Vec<Problem>>;

/// Reads a config that the planner has already checked against the part's schema.
#[derive(Clone, Copy)]
pub enum Make {
    Source(fn(serde_json::Value) -> Made<dyn SourceSpec>),
    Operator(fn(serde_json::Value) -> Made<dyn OperatorSpec>),
    Sink(fn(serde_json::Value) -> Made<dyn SinkSpec>),
    Store(fn(serde_json::Value) -> Made<dyn StoreSpec>),
}

/// A registered part. Its page is the doc comment of its config struct: markdown whose first `yaml` block is a whole topology
/// that runs and whose first `json` block after it is what that prints.
pub struct Part {
    /// CamelCase, unique within its kind.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub make: Make,
    /// JSON Schema of the config, from its struct.
    pub schema: fn() -> schemars::Schema,
}
inventory::collect!(Part);

impl Part {
    pub const fn source<C: SourceSpec + DeserializeOwned + schemars::JsonSchema + 'static>(
        name: &'static str,
        aliases: &'static [&'static str],
    ) -> Part {
        Part { name, aliases, make: Make::Source(|v| read::<C>(v).map(|c| Box::new(c) as Box<dyn SourceSpec>)), schema: schema::<C> }
    }
    pub const fn operator<C: OperatorSpec + DeserializeOwned + schemars::JsonSchema + 'static>(
        name: &'static str,
        aliases: &'static [&'static str],
    ) -> Part {
        Part { name, aliases, make: Make::Operator(|v| read::<C>(v).map(|c| Box::new(c) as Box<dyn OperatorSpec>)), schema: schema::<C> }
    }
    pub const fn sink<C: SinkSpec + DeserializeOwned + schemars::JsonSchema + 'static>(
        name: &'static str,
        aliases: &'static [&'static str],
    ) -> Part {
        Part { name, aliases, make: Make::Sink(|v| read::<C>(v).map(|c| Box::new(c) as Box<dyn SinkSpec>)), schema: schema::<C> }
    }
    pub const fn store<C: StoreSpec + DeserializeOwned + schemars::JsonSchema + 'static>(
        name: &'static str,
        aliases: &'static [&'static str],
    ) -> Part {
        Part { name, aliases, make: Make::Store(|v| read::<C>(v).map(|c| Box::new(c) as Box<dyn StoreSpec>)), schema: schema::<C> }
    }

    pub fn kind(&self) -> Kind {
        match self.make {
            Make::Source(_) => Kind::Source,
            Make::Operator(_) => Kind::Operator,
            Make::Sink(_) => Kind::Sink,
            Make::Store(_) => Kind::Store,
        }
    }

    /// The reference page, markdown.
    pub fn page(&self) -> String {
        (self.schema)().get("description").and_then(|d| d.as_str()).unwrap_or_default().to_string()
    }

    /// All registered parts, sorted by kind and name.
    pub fn all() -> Vec<&'static Part> {
        let mut parts: Vec<&Part> = inventory::iter::<Part>().collect();
        parts.sort_by_key(|p| (p.kind(), p.name));
        parts
    }

    /// A part by its name or an alias.
    pub fn find(kind: Kind, name: &str) -> Option<&'static Part> {
        inventory::iter::<Part>().find(|p| p.kind() == kind && (p.name == name || p.aliases.contains(&name)))
    }
}

fn schema<C: schemars::JsonSchema>() -> schemars::Schema {
    schemars::schema_for!(C)
}

fn read<C: DeserializeOwned>(value: serde_json::Value) -> Result<C, Vec<Problem>> {
    serde_json::from_value(value).map_err(|e| vec![Problem::error("invalid-config", Place::default(), e.to_string())])
}
