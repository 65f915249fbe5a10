//! The keys of a test: their schema and their pages. The tree itself is read by `cases`, as it knows the places.

use millrace_sdk::config::{Duration, PathText};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A test of the topology: what its sources deliver, and what must come out, on a clock that stands still until the test moves it. Sources,
/// sinks and stores are replaced; everything between them is what a run has.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) struct TestCase {
    /// What it shows.
    pub name: String,
    /// Where the clock stands at the beginning: a time (`2026-01-01T00:00:00Z`). Default: 1970-01-01T00:00:00Z, and then `max_future` does not
    /// count.
    pub start: Option<String>,
    /// What the stores have, by store and key: a row each. A key that is not here is not in the store.
    #[serde(default)]
    pub stores: BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>,
    /// What each stream's source delivers: a list of records, or a file whose lines are the records.
    #[serde(default)]
    pub input: BTreeMap<String, Input>,
    /// Moves the clock by so much when all input is delivered: timers fire in order.
    pub advance: Option<Duration>,
    /// What happens one after the other, after `input`.
    #[serde(default)]
    pub steps: Vec<StepKeys>,
    /// Whether the input ends with the test: then all that waits fires, as at the end of a bounded job. Default true; with false the streams
    /// stay open, and what waits goes on waiting.
    pub ends: Option<bool>,
    /// What each output gives in the whole test, by its name: a sink, a stream, a transform, a port (`joined.unmatched`), or `dead_letter`. What is
    /// not named here is not looked at.
    #[serde(default)]
    pub expect: BTreeMap<String, Expected>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) struct StepKeys {
    /// Sets the clock: a time from the beginning (`10s`), or a time of day (`2026-01-01T00:00:10Z`).
    pub at: Option<String>,
    /// Moves the clock by so much: timers fire in order.
    pub advance: Option<Duration>,
    /// What sources deliver then.
    #[serde(default)]
    pub input: BTreeMap<String, Input>,
    /// What outputs give from the step before to the end of this one.
    #[serde(default)]
    pub expect: BTreeMap<String, Expected>,
}

/// Records, or a file of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) enum Input {
    File(PathText),
    Records(Vec<Record>),
}

/// A record: its text, or more.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) enum Record {
    Text(String),
    Keys(RecordKeys),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) struct RecordKeys {
    /// When it arrives: from the beginning (`10s`), or a time of day. Default: with the one before.
    pub at: Option<String>,
    /// Moves the stream's time by so much before the record, or without one.
    pub advance: Option<Duration>,
    /// The record as text.
    pub text: Option<String>,
    /// The record as a row: delivered as JSON, or field by field by a source that delivers fields.
    pub row: Option<BTreeMap<String, Value>>,
    /// A file, from the topology's folder: each line is a record.
    pub file: Option<PathText>,
    /// What the source knows besides: `{_key: k1, _topic: clicks}`.
    pub with: Option<BTreeMap<String, Value>>,
    /// The partition that it comes from; each has a watermark of its own. Default 0.
    #[schemars(range(min = 0, max = 1023))]
    pub partition: Option<u32>,
}

/// What an output gives: `none`, a number of rows, rows, a file of them (JSON lines), or how they are compared.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) enum Expected {
    Word(String),
    Rows(Vec<Value>),
    Keys(ExpectedKeys),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) struct ExpectedKeys {
    /// These rows in this order and no others: what a bare list means.
    pub exact: Option<Rows>,
    /// These rows in whatever order, and no others.
    pub unordered: Option<Rows>,
    /// These rows among others; only the fields that are named count.
    pub subset: Option<Rows>,
    /// So many rows.
    pub count: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "checked for its shape")]
pub(crate) enum Rows {
    File(PathText),
    Rows(Vec<Value>),
}
