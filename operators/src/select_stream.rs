use crate::check;
use millrace_sdk::{Bind, Bound, Demand, Exec, OperatorSpec, Part, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes one port of the `SplitStream` before it.
///
/// The rows of that port go on as they are. Rows of the split's other ports that nobody else reads are dropped and counted.
/// Instead of it, any part can name a port as its input: `input: split.android`.
///
/// # Example
/// ```yaml
/// name: select-stream
/// streams:
///   visits:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"uid":"u1","os":"ios"}', '{"uid":"u2","os":"android"}']
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, os: string}}}
/// transforms:
///   - {type: SplitStream, config: {ports: {apple: os = 'ios'}}}
///   - {type: SelectStream, config: {port: apple}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","os":"ios"}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectStream {
    /// Name of the port.
    // The planner reads it: it wires the input to `<split>.<port>`.
    #[allow(dead_code)]
    port: String,
}

millrace_sdk::inventory::submit! { Part::operator::<SelectStream>("SelectStream", &[]) }

impl OperatorSpec for SelectStream {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        vec![check::joined(outputs)]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        Ok(Bound::new(vec![bind.input().clone()], Exec::Pass))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Job;
    use serde_json::json;

    #[test]
    fn the_port_is_required_and_the_key_stays() {
        assert_eq!(Job::keyed_edge("SelectStream", json!({"port": "a"}), &[("x", "bigint")], &["x"]), Some(vec!["x".to_string()]));
        assert_eq!(Job::problems("SelectStream", json!({}), &[])[0].id, "invalid-config");
    }
}
