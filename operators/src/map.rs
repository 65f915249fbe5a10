use crate::check;
use crate::project::{Project, Step};
use millrace_expr::Expr;
use millrace_sdk::config::{ExprText, FieldName, Ordered};
use millrace_sdk::{Bind, Bound, Demand, Exec, Field, OperatorSpec, Part, Place, Problem, Schema, Slot};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Sets fields to the values of expressions, and drops fields.
///
/// All expressions see the row as it came in, as in SQL: `set: {a: b, b: a}` swaps two fields. A field that is there already
/// is replaced in its place, a new one is appended; all others pass as they are. `drop` takes fields away afterwards.
///
/// A row whose expression cannot be evaluated (overflow, division by zero, a value of the wrong type) is rejected, unless the
/// job says `on_error: "null"`. The key of the rows stays if none of its fields is set or dropped.
///
/// # Example
/// ```yaml
/// name: map
/// streams:
///   orders:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"id":1,"price":"0.10","os":"IOS"}', '{"id":2,"price":"2.50","os":"Android"}']
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {id: bigint, price: "decimal(18,2)", os: string}}}
/// transforms:
///   - {type: Map, config: {set: {os: lower(os), cents: CAST(price * 100 AS bigint)}, drop: [price]}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"id":1,"os":"ios","cents":10}
/// {"id":2,"os":"android","cents":250}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// Field names and the expressions that give their values.
    #[serde(default)]
    set: Ordered<ExprText>,
    /// Fields to be taken away.
    #[serde(default)]
    drop: Vec<FieldName>,
}

millrace_sdk::inventory::submit! { Part::operator::<Map>("Map", &[]) }

impl OperatorSpec for Map {
    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = check::joined(outputs);
        for (name, _) in self.set.iter() {
            demand = demand.without(name);
        }
        for (_, text) in self.set.iter() {
            demand.add(Expr::fields(text));
        }
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        let schema = &input.schema;
        if self.set.is_empty() && self.drop.is_empty() {
            problems.push(Problem::error("nothing-to-do", Place::default(), "neither `set` nor `drop` names a field"));
        }
        let mut set: Vec<(&str, Option<Expr>)> = vec![];
        for (name, text) in self.set.iter() {
            let at = Place::at(["set", name]);
            check::output_name(name, "a field", &at, &mut problems);
            set.push((name, check::expr(text, schema, bind.env, &at, &mut problems)));
        }
        for (i, name) in self.drop.iter().enumerate() {
            let place = Place::at(["drop"]).then(i);
            if self.set.iter().any(|(n, _)| *n == **name) {
                problems.push(Problem::error("field-clash", place, format!("`{}` is both set and dropped", &**name)));
            } else if schema.slot(name).is_none() && schema.tail().is_none() {
                problems.push(check::unknown_field(name, schema, place));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }

        let dropped = |name: &str| self.drop.iter().any(|d| **d == *name);
        // A path that was taken out of a field beforehand is no longer what the field holds.
        let stale =
            |f: &Field| f.hidden && self.set.iter().map(|(n, _)| &**n).chain(self.drop.iter().map(|d| &**d)).any(|n| below(&f.name, n));
        let (mut fields, mut steps) = (vec![], vec![]);
        for (i, f) in schema.fields().iter().enumerate() {
            let slot = Slot(i as u16);
            if Some(slot) == schema.tail() || dropped(&f.name) || stale(f) {
                continue;
            }
            match set.iter_mut().find(|(n, e)| *n == &*f.name && e.is_some()) {
                Some((_, e)) => {
                    let e = e.take().expect("just seen");
                    fields.push(Field { name: f.name.clone(), ty: e.ty(), hidden: false });
                    steps.push(Step::Expr(e));
                }
                None => {
                    fields.push(f.clone());
                    steps.push(Step::Keep(slot));
                }
            }
        }
        for (name, e) in set.iter_mut() {
            if let Some(e) = e.take() {
                fields.push(Field::new(*name, e.ty()));
                steps.push(Step::Expr(e));
            }
        }
        let out = match schema.tail() {
            Some(tail) => {
                // The tail still has the dropped member: a hidden field of its name covers it.
                for name in &self.drop {
                    fields.push(Field::hidden(&**name, millrace_sdk::Type::Any));
                    steps.push(Step::Missing);
                }
                steps.push(Step::Keep(tail));
                Schema::open(fields)
            }
            None => Schema::new(fields),
        };
        let kept = |name: &str| !dropped(name) && !self.set.iter().any(|(n, _)| *n == *name);
        let edge = check::edge_keeping_key(input, out.clone(), kept);
        let steps: Arc<[Step]> = steps.into();
        Ok(Bound::new(vec![edge], Exec::Stateless(Arc::new(move || Box::new(Project::new(steps.clone(), out.clone()))))))
    }
}

fn below(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|r| r.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Job, rows};
    use serde_json::json;

    #[test]
    fn sets_in_place_appends_and_drops() {
        for (config, out) in [
            (json!({"set": {"c": "a + b"}}), r#"{"a":1,"b":2,"c":3}"#),
            (json!({"set": {"a": "b", "b": "a"}}), r#"{"a":2,"b":1}"#),
            (json!({"set": {"c": "a"}, "drop": ["a"]}), r#"{"b":2,"c":1}"#),
            (json!({"drop": ["b"]}), r#"{"a":1}"#),
        ] {
            let mut job = Job::operator("Map", config.clone(), &[("a", "bigint"), ("b", "bigint")]);
            assert_eq!(job.run(rows(r#"[{"a":1,"b":2}]"#)).lines(""), [out], "{config}");
        }
    }

    #[test]
    fn a_failing_row_is_rejected_and_the_others_pass() {
        let mut job = Job::operator("Map", json!({"set": {"q": "10 / a"}}), &[("a", "bigint")]);
        let out = job.run(rows(r#"[{"a":5},{"a":0},{"a":2}]"#));
        assert_eq!(out.column("", "a").to_string(), "[5,2]");
        assert_eq!(out.reasons(), ["division-by-zero"]);
    }

    #[test]
    fn problems_are_all_found() {
        let ids = |config| Job::problems("Map", config, &[("a", "bigint")]).iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(json!({})), ["nothing-to-do"]);
        assert_eq!(ids(json!({"set": {"a": "1"}, "drop": ["a", "z"]})), ["field-clash", "unknown-field"]);
        assert_eq!(ids(json!({"set": {"_x": "1", "y": "zz"}})), ["invalid-name", "unknown-field"]);
    }

    #[test]
    fn the_key_stays_unless_it_is_touched() {
        let fields = [("a", "bigint"), ("b", "bigint")];
        assert!(Job::keyed_edge("Map", json!({"set": {"b": "1"}}), &fields, &["a"]).is_some());
        assert!(Job::keyed_edge("Map", json!({"set": {"a": "1"}}), &fields, &["a"]).is_none());
        assert!(Job::keyed_edge("Map", json!({"drop": ["a"]}), &fields, &["a"]).is_none());
    }
}
