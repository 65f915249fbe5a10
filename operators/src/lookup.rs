use crate::check;
use millrace_expr::Template;
use millrace_sdk::config::{FieldName, Ordered, TemplateText, TypeText};
use millrace_sdk::operator::{LookupExec, OnStoreError, Outputs, Port, StoreUse};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{
    Batch, BatchBuilder, Bind, Bound, Demand, Edge, Exec, Field, Lookup as LookupOperator, OperatorSpec, Part, Place, Problem, Record,
    Reject, RowBuf, SchemaRef, Slot, Type,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Adds columns of a store's row to each row.
///
/// The store is asked by its own `key` template over the row, or by `key` here. Its columns become fields behind the row's own.
/// A row has no key if a value in the key's template is null or missing: then nothing is asked, and the row counts as missing.
/// Questions are asked in batches, several at a time; equal ones of a batch once. `order: key` (the default) keeps the rows of a
/// key in their order, `order: any` lets each batch go as soon as its answers are there.
///
/// A row that the store does not have goes on with NULL in the fields (`on_missing: null`, the default), is dropped and counted,
/// reason `missing` (`drop`), or goes as it is to the port `missing` (`port`). A row of which no key can be made, or whose answer does
/// not fit the types, is rejected.
///
/// The key of the rows stays. It keeps no state: rows that wait for the store hold back the checkpoint, at most for the
/// store's `timeout`; then `on_store_error` says what becomes of them.
///
/// # Example
/// ```yaml
/// name: lookup
/// stores:
///   users: {type: Embedded, config: {path: users, key: "{{uid}}"}}   # nobody has filled it yet
/// streams:
///   visits:
///     config:
///       source: {type: Inline, config: {lines: ['{"uid":"u1"}', '{"uid":"u2"}']}}
///       operates:
///         - {type: StringToMap, config: {format: json, fields: {uid: string}}}
/// transforms:
///   - {type: Lookup, config: {store: users, fields: {town: city, age: {type: bigint}}}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","town":null,"age":null}
/// {"uid":"u2","town":null,"age":null}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The store, as `stores:` names it.
    store: String,
    /// The key to ask by, a template over the row. Default: the store's own.
    key: Option<TemplateText>,
    /// Output fields and the store's columns: `{city: city}`, `{age: {column: age, type: bigint}}`, or a list of columns. The type
    /// is `string` where none is said.
    fields: Columns,
    /// What becomes of a row that the store does not have: `null` (default), `drop` or `port`.
    #[serde(default)]
    on_missing: OnMissing,
    /// When the store stays down past its `timeout`: `wait` (default), `dead_letter`, or `unmatched`: as if it did not have the row.
    #[serde(default)]
    on_store_error: OnStoreError,
    /// `key`: rows of a key stay in order (default); `any`: as the answers come.
    #[serde(default)]
    order: Order,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Columns {
    /// Columns that keep their names.
    List(Vec<FieldName>),
    Named(Ordered<Column>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Column {
    /// A column, read as a string.
    Name(FieldName),
    Typed(TypedColumn),
}

/// A column and what it is read as.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TypedColumn {
    /// The store's column. Default: the output field's name.
    column: Option<FieldName>,
    /// Default: string.
    r#type: Option<TypeText>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnMissing {
    #[default]
    Null,
    Drop,
    Port,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Key,
    Any,
}

millrace_sdk::inventory::submit! { Part::operator::<Lookup>("Lookup", &[]) }

impl Lookup {
    /// Output name, column, type as written, place.
    fn picked(&self) -> Vec<(&str, &str, Option<&TypeText>, Place)> {
        let at = || Place::at(["fields"]);
        match &self.fields {
            Columns::List(names) => names.iter().enumerate().map(|(i, n)| (&**n, &**n, None, at().then(i))).collect(),
            Columns::Named(named) => named
                .iter()
                .map(|(out, column)| match column {
                    Column::Name(n) => (&**out, &**n, None, at().then(&**out)),
                    Column::Typed(t) => (&**out, t.column.as_ref().map_or(&**out, |c| &**c), t.r#type.as_ref(), at().then(&**out)),
                })
                .collect(),
        }
    }
}

impl OperatorSpec for Lookup {
    fn ports(&self) -> Vec<Port> {
        let mut ports = vec![Port::main()];
        if self.on_missing == OnMissing::Port {
            ports.push(Port::named("missing"));
        }
        ports
    }

    fn store(&self) -> Option<&str> {
        self.key.is_none().then_some(&*self.store)
    }

    fn demand(&self, outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = outputs[0].clone();
        for (out, ..) in self.picked() {
            demand = demand.without(out);
        }
        outputs[1..].iter().for_each(|d| demand.join(d));
        if let Some(key) = &self.key {
            demand.add(Template::fields(key));
        }
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        let key = self.bind_key(bind, &mut problems);
        let (mut added, mut columns): (Vec<Field>, Vec<Field>) = (vec![], vec![]);
        for (out, column, ty, place) in self.picked() {
            check::output_name(out, "a field", &place, &mut problems);
            if input.schema.slot(out).is_some() || added.iter().any(|f| *f.name == *out) {
                let message = format!("the row has a field `{out}` already");
                problems.push(Problem::error("field-clash", place.clone(), message).hint("give it another name"));
            }
            let ty = ty.map_or(Some(Type::String), |t| check::ty(t, &place.then("type"), &mut problems)).unwrap_or(Type::Any);
            added.push(Field::new(out, ty));
            columns.push(Field::new(column, ty));
        }
        if added.is_empty() {
            problems.push(Problem::error("nothing-to-do", Place::at(["fields"]), "no field is named"));
        }
        let Some(key) = key.filter(|_| problems.is_empty()).map(Arc::new) else { return Err(problems) };

        let main = Edge { schema: check::extended(&input.schema, added), key: input.key.clone() };
        let plan = Arc::new(Plan {
            key,
            width: columns.len(),
            before_tail: input.schema.width() - usize::from(input.schema.tail().is_some()),
            output: main.schema.clone(),
            on_missing: self.on_missing,
        });
        let mut outputs = vec![main];
        if self.on_missing == OnMissing::Port {
            outputs.push(input.clone());
        }
        let exec = LookupExec {
            store: StoreUse { name: self.store.clone(), fields: columns, on_error: self.on_store_error },
            make: Arc::new(move || Box::new(Run { plan: plan.clone(), answer: RowBuf::new(), unanswered: vec![], bytes: vec![] })),
            ordered: self.order == Order::Key,
            on_store_error: self.on_store_error,
        };
        Ok(Bound::new(outputs, Exec::Lookup(exec)))
    }
}

impl Lookup {
    fn bind_key(&self, bind: &Bind<'_>, problems: &mut Vec<Problem>) -> Option<Template> {
        let (at, schema) = (Place::at(["store"]), &bind.input().schema);
        let Some(info) = bind.store(&self.store) else {
            let names = bind.stores.iter().map(|s| &*s.name);
            problems.push(
                Problem::error("unknown-store", at, format!("no store is called `{}`", self.store))
                    .suggest(did_you_mean(&self.store, names))
                    .hint("stores are declared under `stores:`"),
            );
            return None;
        };
        match (&self.key, &info.key) {
            (Some(own), _) => check::template(own, schema, bind.env, &Place::at(["key"]), problems),
            (None, Some(text)) => check::store_key(&self.store, text, schema, bind.env, problems),
            (None, None) => {
                problems.push(
                    Problem::error("store-without-key", at, format!("the store `{}` has no `key` template to be asked by", self.store))
                        .hint("add `key: \"{{...}}\"` to the store's config, or here"),
                );
                None
            }
        }
    }
}

struct Plan {
    key: Arc<Template>,
    /// Fields of an answer.
    width: usize,
    /// Fields that stand before the store's.
    before_tail: usize,
    output: SchemaRef,
    on_missing: OnMissing,
}

struct Run {
    plan: Arc<Plan>,
    answer: RowBuf,
    /// Numbers of the rows that the store does not have.
    unanswered: Vec<u32>,
    bytes: Vec<u8>,
}

impl LookupOperator for Run {
    fn key(&mut self, row: Record<'_>, key: &mut Vec<u8>) -> bool {
        self.plan.key.render_key(&row, key) == Ok(true)
    }

    fn merge(&mut self, batch: Batch, answers: &[Option<&[u8]>], out: &mut Outputs) {
        let plan = &*self.plan;
        let mut rows = BatchBuilder::over(&batch, plan.output.clone());
        let mut missing = 0;
        self.unanswered.clear();
        for (i, row) in batch.rows().enumerate() {
            let answer = match answers.get(i).copied().flatten() {
                Some(bytes) => match self.answer.decode(plan.width, bytes) {
                    Ok(answer) => Some(answer),
                    Err(e) => {
                        out.reject(Reject::row("invalid-answer", e.to_string(), &row, batch.schema()));
                        continue;
                    }
                },
                None => {
                    // The rows without an answer are those of which no key could be made, too.
                    self.bytes.clear();
                    if let Err(e) = plan.key.render(&row, &mut self.bytes) {
                        out.reject(Reject::row(e.reason, e.message, &row, batch.schema()));
                        continue;
                    }
                    None
                }
            };
            match (answer, plan.on_missing) {
                (None, OnMissing::Drop) => {
                    missing += 1;
                    continue;
                }
                (None, OnMissing::Port) => {
                    self.unanswered.push(i as u32);
                    continue;
                }
                (answer, _) => {
                    rows.keep_range(&row, 0..plan.before_tail);
                    match answer {
                        Some(answer) => (0..plan.width).for_each(|i| rows.push_field(&answer, Slot(i as u16))),
                        None => (0..plan.width).for_each(|_| rows.push_null()),
                    }
                    rows.keep_range(&row, plan.before_tail..row.width());
                    rows.end_row(*row.meta());
                }
            }
        }
        out.dropped("missing", missing);
        if !self.unanswered.is_empty() {
            out.emit(1, batch.select(&self.unanswered));
        }
        out.emit(0, batch.replaced_by(rows));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Out, Setup, batch, collect, rows, schema};
    use millrace_sdk::codec::RowWriter;
    use millrace_sdk::operator::{Outputs, StoreInfo};
    use millrace_sdk::{Edge, Exec, Meta, Val};
    use serde_json::{Value as Json, json};

    const FIELDS: &[(&str, &str)] = &[("uid", "string"), ("n", "bigint")];

    fn setup(config: Json) -> Setup {
        let mut s = Setup::new("Lookup", config, vec![Edge { schema: schema(FIELDS), key: Some(vec!["uid".into()]) }]);
        s.stores.push(StoreInfo { name: "users".into(), key: Some("{{uid}}".into()) });
        s.stores.push(StoreInfo { name: "keyless".into(), key: None });
        s
    }

    /// The store has u1 and u3: city and age.
    fn run(config: Json, input: &str) -> Out {
        let (ports, bound) = setup(config).bind().unwrap_or_else(|p| panic!("{p:?}"));
        assert_eq!(bound.outputs[0].key, Some(vec!["uid".to_string()]));
        let Exec::Lookup(exec) = bound.exec else { panic!("not a look-up") };
        let mut lookup = (exec.make)();
        let batch = batch(&schema(FIELDS), &rows(input));
        let answers: Vec<Option<Vec<u8>>> = batch
            .rows()
            .map(|row| {
                let mut key = vec![];
                (lookup.key(row, &mut key) && (key.ends_with(b"u1") || key.ends_with(b"u3"))).then(|| {
                    let mut w = RowWriter::new(Meta::default());
                    exec.store.fields.iter().for_each(|f| w.push(if &*f.name == "age" { Val::Int(31) } else { Val::Str("Oslo") }));
                    w.finish()
                })
            })
            .collect();
        let answers: Vec<Option<&[u8]>> = answers.iter().map(|a| a.as_deref()).collect();
        let mut out = Outputs::default();
        lookup.merge(batch, &answers, &mut out);
        collect(out, &ports)
    }

    #[test]
    fn adds_columns_and_treats_what_is_missing() {
        let input = r#"[{"uid":"u1","n":1},{"uid":"u2","n":2},{"uid":"u3","n":3}]"#;
        let fields = json!({"city": "city", "age": {"type": "bigint"}});
        for (on_missing, cities, missing, dropped) in
            [("null", r#"["Oslo",null,"Oslo"]"#, 0, 0), ("drop", r#"["Oslo","Oslo"]"#, 0, 1), ("port", r#"["Oslo","Oslo"]"#, 1, 0)]
        {
            let out = run(json!({"store": "users", "fields": fields, "on_missing": on_missing}), input);
            assert_eq!(out.column("", "city").to_string(), cities, "{on_missing}");
            assert_eq!(out.lines("")[0], r#"{"uid":"u1","n":1,"city":"Oslo","age":31}"#);
            assert_eq!(out.lines("missing"), vec![r#"{"uid":"u2","n":2}"#; missing]);
            assert_eq!(out.dropped("missing"), dropped);
        }
    }

    #[test]
    fn a_key_of_its_own() {
        let out = run(json!({"store": "keyless", "key": "x-{{uid}}", "fields": ["city"]}), r#"[{"uid":"u3","n":3}]"#);
        assert_eq!(out.lines(""), [r#"{"uid":"u3","n":3,"city":"Oslo"}"#]);
    }

    #[test]
    fn null_in_a_key_asks_nothing() {
        for (key, input, made) in [
            ("{{uid}}", r#"{"uid":null,"n":1}"#, None),
            ("{{uid}}", r#"{"n":1}"#, None),
            ("{{uid}}", r#"{"uid":"","n":1}"#, Some("")),
            ("{{uid}}_{{n}}", r#"{"uid":"u1","n":null}"#, None),
            ("{{uid}}_{{n}}", r#"{"uid":"u1","n":7}"#, Some("u1_7")),
            ("{{md5_prefix uid 2}}", r#"{"uid":null}"#, None),
            ("{{upper uid}}", r#"{"uid":null}"#, None),
            ("{{default uid 'x'}}", r#"{"uid":null}"#, Some("x")),
            ("{{#if uid}}{{uid}}{{else}}none{{/if}}", r#"{"uid":null}"#, Some("none")),
            ("a{{#if n}}{{uid}}{{/if}}", r#"{"uid":null,"n":1}"#, None),
            ("{{#each uid}}{{this}}{{/each}}", r#"{"uid":null}"#, None),
        ] {
            let config = json!({"store": "keyless", "key": key, "fields": ["city"], "on_missing": "port"});
            let (_, bound) = setup(config).bind().unwrap_or_else(|p| panic!("{p:?}"));
            let Exec::Lookup(exec) = bound.exec else { panic!("not a look-up") };
            let (mut lookup, batch) = ((exec.make)(), batch(&schema(FIELDS), &rows(&format!("[{input}]"))));
            let mut bytes = vec![];
            let asks = lookup.key(batch.row(0), &mut bytes);
            assert_eq!(asks.then(|| String::from_utf8(bytes.clone()).unwrap()), made.map(String::from), "{key} {input}");
            assert!(asks || bytes.is_empty());
            let mut out = Outputs::default();
            lookup.merge(batch, &[None], &mut out);
            assert_eq!((out.batches.len(), out.batches[0].0, out.rejects.len()), (1, 1, 0), "it is missing, not rejected");
        }
    }

    #[test]
    fn problems() {
        let ids = |config| setup(config).bind().err().expect("a problem").iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(json!({"store": "user", "fields": ["city"]})), ["unknown-store"]);
        assert_eq!(ids(json!({"store": "keyless", "fields": ["city"]})), ["store-without-key"]);
        assert_eq!(ids(json!({"store": "users", "fields": ["uid"]})), ["field-clash"]);
        assert_eq!(ids(json!({"store": "users", "fields": []})), ["nothing-to-do"]);
        assert_eq!(ids(json!({"store": "users", "fields": {"a": {"type": "bigg"}}})), ["unknown-type"]);
    }
}
