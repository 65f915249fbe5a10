use crate::check;
use millrace_sdk::operator::{Inputs, Outputs};
use millrace_sdk::{
    Batch, BatchBuilder, Bind, Bound, Demand, Edge, Exec, Field, Operator, OperatorSpec, Part, Place, Problem, Schema, SchemaRef, Slot,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Merges several inputs into one.
///
/// All inputs must have the same fields of the same types; where they stand in another order, the first input's order counts.
/// Rows of one input stay in their order, rows of different inputs interleave as they arrive. The watermark is the least of the
/// inputs'. The key stays if all inputs have the same. What a source knows beside the fields (`_topic`) stays readable if all
/// inputs have it.
///
/// # Example
/// ```yaml
/// name: union
/// streams:
///   web:
///     config:
///       source: {type: Inline, config: {lines: ['{"uid":"u1","page":"a"}']}}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string, page: string}}}
///   app:
///     config:
///       source: {type: Inline, config: {lines: ['{"page":"b","uid":"u1"}']}}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {page: string, uid: string}}}
/// transforms:
///   - {type: Union, name: both, input: [web, app]}
///   - {type: KeyBy, config: {keys: [uid]}}
///   - {type: CountWindowWithTimeOut, config: {count: 2, timeout: 1h, aggregates: {n: count(*), pages: count(distinct page)}}}
///   - {type: Map, config: {drop: [window_start, window_last]}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","why":"count","n":2,"pages":2}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Union {}

millrace_sdk::inventory::submit! { Part::operator::<Union>("Union", &[]) }

impl OperatorSpec for Union {
    fn inputs(&self) -> Inputs {
        Inputs::Many
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        // The last demand is that of all inputs that follow, too.
        vec![check::joined(outputs)]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let Some((first, others)) = bind.inputs.split_first() else {
            return Err(vec![Problem::error("dangling-input", Place::default(), "a Union has at least one input")]);
        };
        let mut problems = vec![];
        for (i, other) in others.iter().enumerate() {
            disagreements(&first.schema, &other.schema, i + 2, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let everywhere = |f: &Field| bind.inputs.iter().all(|e| e.schema.fields().contains(f));
        let tail = first.schema.tail();
        let fields = first.schema.fields().iter().enumerate();
        let fields: Vec<Field> =
            fields.filter(|(i, f)| tail != Some(Slot(*i as u16)) && (!f.hidden || everywhere(f))).map(|(_, f)| f.clone()).collect();
        let out = if tail.is_some() { Schema::open(fields) } else { Schema::new(fields) };
        let key = first.key.clone().filter(|k| others.iter().all(|o| o.key.as_ref() == Some(k)));
        let edge = Edge { schema: out.clone(), key };
        if bind.inputs.iter().all(|e| e.schema.id() == out.id()) {
            return Ok(Bound::new(vec![edge], Exec::Pass));
        }
        let orders: HashMap<u64, Arc<[Slot]>> = bind.inputs.iter().map(|e| (e.schema.id(), order(&e.schema, &out))).collect();
        let orders = Arc::new(orders);
        let make = move || Box::new(Run { orders: orders.clone(), schema: out.clone() }) as Box<dyn Operator>;
        Ok(Bound::new(vec![edge], Exec::Stateless(Arc::new(make))))
    }
}

/// Where the fields of `out` stand in `from`.
fn order(from: &Schema, out: &Schema) -> Arc<[Slot]> {
    out.fields().iter().map(|f| from.slot(&f.name).expect("all inputs have the output's fields")).collect()
}

fn disagreements(first: &Schema, other: &Schema, number: usize, problems: &mut Vec<Problem>) {
    let mut problem = |message: String| {
        let hint = "make the inputs' fields agree, with Map or SelectElement";
        problems.push(Problem::error("field-clash", Place::default(), message).hint(hint));
    };
    for (_, f) in first.visible() {
        match other.visible().find(|(_, o)| o.name == f.name) {
            None => problem(format!("input {number} has no field `{}`, input 1 has", f.name)),
            Some((_, o)) if o.ty != f.ty => problem(format!("field `{}` is {} in input 1 and {} in input {number}", f.name, f.ty, o.ty)),
            Some(_) => {}
        }
    }
    for (_, o) in other.visible().filter(|(_, o)| !first.visible().any(|(_, f)| f.name == o.name)) {
        problem(format!("input 1 has no field `{}`, input {number} has", o.name));
    }
    if first.tail().is_some() != other.tail().is_some() {
        problem(format!("input 1 and input {number}: one may have fields that are not declared, the other has none"));
    }
}

/// Batches say by their schema which input they are from.
struct Run {
    orders: Arc<HashMap<u64, Arc<[Slot]>>>,
    schema: SchemaRef,
}

impl Operator for Run {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        let order = &self.orders[&batch.schema().id()];
        if order.len() == batch.schema().width() && order.iter().enumerate().all(|(i, s)| s.index() == i) {
            return out.emit(0, batch.with_schema(self.schema.clone()));
        }
        let mut rows = BatchBuilder::over(&batch, self.schema.clone());
        for row in batch.rows() {
            order.iter().for_each(|s| rows.keep(&row, *s));
            rows.end_row(*row.meta());
        }
        out.emit(0, batch.replaced_by(rows));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Setup, batch, rows, run_operator, schema};
    use millrace_sdk::{Edge, Exec};
    use serde_json::json;

    fn union(inputs: &[&[(&str, &str)]]) -> Setup {
        Setup::new("Union", json!({}), inputs.iter().map(|f| Edge::new(schema(f))).collect())
    }

    #[test]
    fn equal_inputs_pass_as_they_are() {
        let fields: &[(&str, &str)] = &[("a", "bigint"), ("b", "string")];
        assert!(matches!(union(&[fields, fields]).bind().unwrap().1.exec, Exec::Pass));
    }

    #[test]
    fn another_order_is_put_right() {
        let second: &[(&str, &str)] = &[("b", "string"), ("_topic", "string"), ("a", "bigint")];
        let (ports, bound) = union(&[&[("a", "bigint"), ("b", "string")], second]).bind().unwrap();
        let Exec::Stateless(make) = bound.exec else { panic!("must reorder") };
        let mut operator = make();
        let out = run_operator(&mut *operator, batch(&schema(second), &rows(r#"[{"a":1,"b":"x","_topic":"t"}]"#)), &ports);
        assert_eq!(out.lines(""), [r#"{"a":1,"b":"x"}"#]);
        let first = batch(&schema(&[("a", "bigint"), ("b", "string")]), &rows(r#"[{"a":2,"b":"y"}]"#));
        assert_eq!(run_operator(&mut *operator, first, &ports).lines(""), [r#"{"a":2,"b":"y"}"#]);
    }

    #[test]
    fn inputs_that_disagree_are_told_apart() {
        let messages = |second: &[(&str, &str)]| {
            let problems = union(&[&[("a", "bigint")], second]).bind().err().expect("a problem");
            assert!(problems.iter().all(|p| p.id == "field-clash"));
            problems.into_iter().map(|p| p.message).collect::<Vec<_>>()
        };
        assert_eq!(messages(&[("a", "string")]), ["field `a` is bigint in input 1 and string in input 2"]);
        assert_eq!(messages(&[("b", "bigint")]), ["input 2 has no field `a`, input 1 has", "input 1 has no field `b`, input 2 has"]);
    }
}
