use crate::check;
use millrace_sdk::config::{FieldName, OneOrMany};
use millrace_sdk::{Bind, Bound, Demand, Edge, Exec, OperatorSpec, Part, Place, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// Says by which fields the rows are keyed.
///
/// Operators with state per key that come after it and name no key of their own (`CountWindowWithTimeOut`, `Dedup`) go by it:
/// rows with the same values of these fields meet in one state, on one worker, in the order in which they came. 1, 1.0 and 1e0
/// are one key, 1 and "1" are two; a missing field and NULL are one.
///
/// The rows themselves pass as they are.
///
/// # Example
/// ```yaml
/// name: key-by
/// streams:
///   visits:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"uid":"u1","page":"a"}', '{"uid":"u2","page":"a"}', '{"uid":"u1","page":"b"}']
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, page: string}}}
/// transforms:
///   - {type: KeyBy, config: {keys: [uid]}}
///   - {type: Dedup, config: {keep: first}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","page":"a"}
/// {"uid":"u2","page":"a"}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyBy {
    /// The fields of the key, in order.
    keys: OneOrMany<FieldName>,
}

millrace_sdk::inventory::submit! { Part::operator::<KeyBy>("KeyBy", &[]) }

impl KeyBy {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.as_slice().iter().map(|k| &**k)
    }
}

impl OperatorSpec for KeyBy {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        demand.add(self.names());
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let schema = &bind.input().schema;
        let one = matches!(self.keys, OneOrMany::One(_));
        check::key_slots(self.names(), schema, &Place::at(["keys"]), one, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let edge = Edge { schema: schema.clone(), key: Some(self.names().map(str::to_string).collect()) };
        Ok(Bound::new(vec![edge], Exec::Pass))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Job;
    use serde_json::json;

    #[test]
    fn sets_the_key() {
        let fields = [("a", "bigint"), ("b", "string")];
        for (keys, key) in [(json!("a"), vec!["a"]), (json!(["b", "a"]), vec!["b", "a"])] {
            assert_eq!(Job::keyed_edge("KeyBy", json!({ "keys": keys }), &fields, &[]), Some(key.into_iter().map(String::from).collect()));
        }
    }

    #[test]
    fn problems() {
        let ids = |keys| {
            Job::problems("KeyBy", json!({ "keys": keys }), &[("uid", "string"), ("m", "map")]).iter().map(|p| p.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(json!([])), ["empty-keys"]);
        assert_eq!(ids(json!(["uidd"])), ["unknown-field"]);
        assert_eq!(ids(json!(["uid", "uid"])), ["named-twice"]);
        assert_eq!(ids(json!(["m.x"])), ["not-a-field"]);
        assert_eq!(ids(json!(["m"])), ["key-not-scalar"]);
    }
}
