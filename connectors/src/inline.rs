//! Records written in the topology itself.

use crate::counted::{Counted, Records};
use millrace_sdk::operator::Env;
use millrace_sdk::{
    BatchBuilder, Bind, Demand, Fault, Field, Part, Place, Problem, Schema, SchemaRef, Source, SourceContext, SourceFactory, SourceSpec,
    Span, Type,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Delivers records that stand in the topology, then ends: for examples, tests and first steps.
///
/// Either `lines`, each a record whose text is the field `_value`, or `rows`, whose fields arrive as they are written. A row that
/// lacks a field which another row has, lacks it at run time too. Field types follow from the values: whole numbers are `bigint`,
/// other numbers `double`, and a field of several types is `any`. Numbers keep the way they are written in YAML up to 17 digits.
///
/// Guarantee: every position can be read again.
///
/// # Example
/// ```yaml
/// name: hello
/// streams:
///   greetings:
///     config:
///       source: {type: Inline, config: {rows: [{who: world, n: 1}, {who: mill, n: 2, loud: true}]}}
/// transforms:
///   - {type: Filter, name: even, config: {where: n % 2 = 0}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"who":"mill","n":2,"loud":true}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inline {
    /// Texts, each a record of its own (not split at line feeds).
    #[serde(default)]
    lines: Vec<String>,
    /// Records with fields.
    #[serde(default)]
    rows: Vec<Map<String, Value>>,
    /// Partitions that the records are dealt to in turn, 1 to 1024. Default 1.
    #[serde(default = "one")]
    partitions: u32,
}

fn one() -> u32 {
    1
}

millrace_sdk::inventory::submit! { Part::source::<Inline>("Inline", &[]) }

impl SourceSpec for Inline {
    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        true
    }

    fn bind(&self, _: &Bind<'_>, _: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let mut problems = vec![];
        if !self.lines.is_empty() && !self.rows.is_empty() {
            problems.push(Problem::error("lines-and-rows", Place::at(["rows"]).key(), "`lines` and `rows` exclude each other"));
        }
        if !(1..=1024).contains(&self.partitions) {
            problems.push(Problem::error("out-of-range", Place::at(["partitions"]), "`partitions` is a number from 1 to 1024"));
        }
        for (i, name) in self.rows.iter().enumerate().flat_map(|(i, r)| r.keys().map(move |k| (i, k))) {
            if name.is_empty() {
                problems.push(Problem::error("empty-name", Place::at(["rows"]).then(i), "a field needs a name"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = if self.rows.is_empty() { Schema::new(vec![Field::new("_value", Type::Bytes)]) } else { infer(&self.rows) };
        let records = Written { lines: self.lines.clone(), rows: self.rows.clone(), schema: schema.clone(), partitions: self.partitions };
        Ok((schema, Arc::new(Factory(Arc::new(records)))))
    }
}

/// The fields of all rows in the order in which they first appear.
fn infer(rows: &[Map<String, Value>]) -> SchemaRef {
    let mut fields: Vec<(String, Option<Type>)> = vec![];
    for (name, value) in rows.iter().flatten() {
        let ty = match value {
            Value::Null => None,
            Value::Bool(_) => Some(Type::Boolean),
            Value::Number(n) => Some(if n.is_i64() { Type::Bigint } else { Type::Double }),
            Value::String(_) => Some(Type::String),
            Value::Array(_) => Some(Type::Array),
            Value::Object(_) => Some(Type::Map),
        };
        match fields.iter_mut().find(|(n, _)| n == name) {
            None => fields.push((name.clone(), ty)),
            Some((_, known)) => {
                *known = match (*known, ty) {
                    (a, None) => a,
                    (None, b) => b,
                    (a, b) if a == b => a,
                    (Some(Type::Bigint | Type::Double), Some(Type::Bigint | Type::Double)) => Some(Type::Double),
                    _ => Some(Type::Any),
                };
            }
        }
    }
    Schema::new(fields.into_iter().map(|(name, ty)| Field::new(name, ty.unwrap_or(Type::Any))).collect())
}

struct Factory(Arc<Written>);

impl SourceFactory for Factory {
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        check_lengths(&self.0, &cx.env)?;
        Ok(Box::new(Counted::open(self.0.clone(), cx)))
    }
}

fn check_lengths(records: &Written, env: &Env) -> Result<(), Fault> {
    match records.lines.iter().position(|l| l.len() > env.max_record) {
        Some(i) => Err(Fault::config(format!("line {i} is longer than max_record, {} bytes", env.max_record))),
        None => Ok(()),
    }
}

struct Written {
    lines: Vec<String>,
    rows: Vec<Map<String, Value>>,
    schema: SchemaRef,
    partitions: u32,
}

impl Records for Written {
    fn name(&self) -> &str {
        "inline"
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn len(&self, partition: u32) -> Option<u64> {
        let all = self.lines.len().max(self.rows.len()) as u64;
        Some((all + u64::from(self.partitions) - 1 - u64::from(partition)) / u64::from(self.partitions))
    }

    fn rate(&self) -> Option<f64> {
        None
    }

    fn push(&self, partition: u32, offset: u64, out: &mut BatchBuilder) -> Span {
        let i = (offset * u64::from(self.partitions) + u64::from(partition)) as usize;
        if let Some(line) = self.lines.get(i) {
            return out.push_line(line.as_bytes());
        }
        let row = &self.rows[i];
        for (_, field) in self.schema.visible() {
            match row.get(&*field.name) {
                None => out.push_missing(),
                Some(Value::Null) => out.push_null(),
                Some(Value::Bool(b)) => out.push_bool(*b),
                Some(Value::Number(n)) => match n.as_i64() {
                    Some(i) => out.push_int(i),
                    None => out.push_num(&n.to_string()),
                },
                Some(Value::String(s)) => out.push_str(s),
                Some(container) => out.push_json(&container.to_string()),
            }
        }
        let off = out.begin_text();
        let text = Value::Object(row.clone()).to_string();
        out.text_mut().extend_from_slice(text.as_bytes());
        Span { off: off as u32, len: text.len() as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counted::testing::{context, drain, poll};
    use millrace_sdk::{Clock, Poll, Position, Slot, Val};

    fn bound(config: &str) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let spec: Inline = serde_json::from_str(config).unwrap();
        spec.bind(&Bind { inputs: &[], demands: &[], env: &Env::default(), stores: &[] }, &Demand::all())
    }

    #[test]
    fn lines_are_dealt_and_sought() {
        let (schema, factory) = bound(r#"{"lines": ["a", "", "c", "d", "e"], "partitions": 2}"#).unwrap();
        let mut source = factory.open(context(0, 1, Clock::fixed(0))).unwrap();
        let found = source.discover().unwrap();
        assert_eq!(found.new.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["inline/0", "inline/1"]);
        assert!(found.complete && source.discover().unwrap().new.is_empty());
        let (state, batch, _) = poll(&mut *source, 1, &schema, 1);
        assert_eq!((state, batch.len(), batch.row(0).get(Slot(0))), (Poll::Ready, 1, Val::Bytes(b"")));
        let position = source.position(1);
        assert_eq!(drain(&mut *source, 0, &schema), ["a", "c", "e"]);
        assert_eq!(drain(&mut *source, 1, &schema), ["d"]);
        source.seek(1, &position).unwrap();
        assert_eq!(drain(&mut *source, 1, &schema), ["d"]);
        assert!(source.seek(1, &Position(vec![1])).is_err());

        let mut second = factory.open(context(1, 2, Clock::fixed(0))).unwrap();
        assert_eq!(second.discover().unwrap().new.iter().map(|p| p.id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn rows_have_the_types_of_their_values() {
        let (schema, factory) = bound(
            r#"{"rows": [{"a": 1, "b": 1, "c": "x", "d": null}, {"b": 1.50, "c": 2, "e": {"k": [1]}, "a": null}, {"f": 18446744073709551615}]}"#,
        )
        .unwrap();
        let types: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name, f.ty)).collect();
        assert_eq!(types, ["a:bigint", "b:double", "c:any", "d:any", "e:map", "f:double"]);
        let mut source = factory.open(context(0, 1, Clock::fixed(0))).unwrap();
        let (state, batch, _) = poll(&mut *source, 0, &schema, 10);
        assert_eq!(state, Poll::Ended);
        let row: Vec<Val> = (0..6).map(|i| batch.row(1).get(Slot(i))).collect();
        assert_eq!(row, [Val::Null, Val::Num("1.5"), Val::Int(2), Val::Missing, Val::Json(r#"{"k":[1]}"#), Val::Missing]);
        assert_eq!(batch.row(2).get(Slot(5)), Val::Num("18446744073709551615"));
        assert_eq!(batch.row(1).original(), Some(&br#"{"b":1.5,"c":2,"e":{"k":[1]},"a":null}"#[..]));
        assert_eq!((batch.row(1).meta().offset, batch.row(1).meta().source), (1, 3));
    }

    #[test]
    fn impossible_configs_are_said() {
        let ids = |c: &str| bound(c).map(|_| ()).unwrap_err().iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(r#"{"lines": ["a"], "rows": [{"a": 1}]}"#), ["lines-and-rows"]);
        assert_eq!(ids(r#"{"partitions": 0}"#), ["out-of-range"]);
        assert_eq!(ids(r#"{"rows": [{"": 1}]}"#), ["empty-name"]);
    }
}
