use crate::check;
use crate::project::{Project, Step};
use millrace_expr::{Expr, Template};
use millrace_sdk::config::{ExprText, FieldName, Ordered, TemplateText, TypeText};
use millrace_sdk::{
    Batch, BatchBuilder, Bind, Bound, Demand, Exec, Field, Meta, OperatorSpec, Part, Place, Problem, Schema, Type, Val, convert,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// Makes rows by templates and expressions: washing.
///
/// The output has the fields that `keep` names, as they are, then those of `fields`, in the order in which they are written;
/// nothing else. A field is a handlebars template over the row, or an expression:
///
/// - `plat: "{{lower os}}"` is a template. One that is a single `{{...}}` keeps its value's type, any other gives a string.
/// - `cents: {expr: "floor(price * 100 + 0.5)", type: bigint}` is an expression, its value converted to a type.
/// - `v: {template: "{{client.version}}", default: none}` stands in for what fails or is not there.
///
/// A row is rejected, with its original bytes, when one of its fields fails (a text that is no number where `type: bigint` is
/// said, a division by zero) and has no `default`. With a default, that is the value where the field fails, is missing or NULL, or
/// where a template gives no text.
///
/// Order stays; the key of the rows stays if `keep` names all its fields.
///
/// # Example
/// ```yaml
/// name: template-extract
/// streams:
///   clicks:
///     config:
///       source:
///         type: Inline
///         config:
///           lines: ['{"uid":"u1","client":{"os":"IOS"},"price":0.1}', '{"uid":"u2","price":2.5}', '{"uid":"u3","price":"free"}']
///       operates:
///         - {type: StringToMap, config: {format: json}}
///         - type: TemplateExtract
///           config:
///             keep: [uid]
///             fields:
///               plat: {template: "{{lower client.os}}", default: unknown}
///               label: "{{uid}}/{{price}}"
///               cents: {expr: "floor(CAST(price AS decimal(18,2)) * 100)", type: bigint, default: 0}
/// transforms:
///   - {type: Filter, config: {where: cents > 0}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u1","plat":"ios","label":"u1/0.1","cents":10}
/// {"uid":"u2","plat":"unknown","label":"u2/2.5","cents":250}
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateExtract {
    /// Fields that pass as they are; a path (`client.os`) becomes a field of that name.
    #[serde(default)]
    keep: Vec<FieldName>,
    /// Output fields: a template, or `template` or `expr` with `type` and `default`.
    #[serde(default)]
    fields: Ordered<FieldSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum FieldSpec {
    /// A template over the row.
    Template(TemplateText),
    Full(FullSpec),
}

/// A field in full: either `template` or `expr`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullSpec {
    /// A template over the row.
    template: Option<TemplateText>,
    /// An expression over the row.
    expr: Option<ExprText>,
    /// The type that the value is converted to. Default: the value's own.
    r#type: Option<TypeText>,
    /// The value where the field fails, is missing or NULL, or where a template gives no text. Default: none, a row that fails is
    /// rejected.
    #[serde(default, deserialize_with = "some")]
    #[schemars(with = "serde_json::Value")]
    default: Option<serde_json::Value>,
}

/// `default: null` is a default.
fn some<'de, D: Deserializer<'de>>(d: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(d).map(Some)
}

millrace_sdk::inventory::submit! { Part::operator::<TemplateExtract>("TemplateExtract", &["Logwash"]) }

impl OperatorSpec for TemplateExtract {
    fn demand(&self, _outputs: &[Demand]) -> Vec<Demand> {
        let mut demand = Demand::of(self.keep.iter().map(|k| &**k));
        for (_, spec) in self.fields.iter() {
            match spec {
                FieldSpec::Template(t) | FieldSpec::Full(FullSpec { template: Some(t), .. }) => demand.add(Template::fields(t)),
                FieldSpec::Full(FullSpec { expr: Some(e), .. }) => demand.add(Expr::fields(e)),
                FieldSpec::Full(_) => {}
            }
        }
        vec![demand]
    }

    fn bind(&self, bind: &Bind<'_>) -> Result<Bound, Vec<Problem>> {
        let mut problems = vec![];
        let input = bind.input();
        if self.keep.is_empty() && self.fields.is_empty() {
            problems.push(Problem::error("nothing-to-do", Place::default(), "neither `keep` nor `fields` names a field"));
        }
        let (mut fields, mut steps): (Vec<Field>, Vec<Step>) = (vec![], vec![]);
        for (i, name) in self.keep.iter().enumerate() {
            let place = Place::at(["keep"]).then(i);
            if fields.iter().any(|f| *f.name == **name) {
                problems.push(Problem::error("named-twice", place, format!("`{}` is named twice", &**name)));
                continue;
            }
            match check::access(name, &input.schema, place) {
                Ok(access) => {
                    fields.push(Field::new(&**name, access.ty));
                    steps.push(if access.rest.is_empty() { Step::Keep(access.slot) } else { Step::Find(access) });
                }
                Err(p) => problems.push(p),
            }
        }
        for (name, spec) in self.fields.iter() {
            let at = Place::at(["fields", name]);
            check::output_name(name, "a field", &at, &mut problems);
            if self.keep.iter().any(|k| **k == *name) {
                problems.push(Problem::error("field-clash", at.clone().key(), format!("`{name}` is kept already")));
            }
            if let Some((ty, step)) = field(spec, &at, bind, &mut problems) {
                fields.push(Field::new(&**name, ty));
                steps.push(step);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let out = Schema::new(fields);
        let edge = check::edge_keeping_key(input, out.clone(), |name| self.keep.iter().any(|k| **k == *name));
        let steps: Arc<[Step]> = steps.into();
        Ok(Bound::new(vec![edge], Exec::Stateless(Arc::new(move || Box::new(Project::new(steps.clone(), out.clone()))))))
    }
}

fn field(spec: &FieldSpec, at: &Place, bind: &Bind<'_>, problems: &mut Vec<Problem>) -> Option<(Type, Step)> {
    let schema = &bind.input().schema;
    let full = match spec {
        FieldSpec::Template(t) => {
            let t = check::template(t, schema, bind.env, at, problems)?;
            return Some(match t.slot() {
                Some(slot) => (t.ty(), Step::Keep(slot)),
                None => (t.ty(), Step::Template(t, None)),
            });
        }
        FieldSpec::Full(full) => full,
    };
    let wanted = match &full.r#type {
        Some(text) => Some(check::ty(text, &at.clone().then("type"), problems)?),
        None => None,
    };
    let (ty, step) = match (&full.template, &full.expr) {
        (Some(t), None) => {
            let t = check::template(t, schema, bind.env, &at.clone().then("template"), problems)?;
            let ty = wanted.unwrap_or_else(|| t.ty());
            (ty, Step::Template(t, wanted))
        }
        (None, Some(e)) => {
            let e = check::expr(e, schema, bind.env, &at.clone().then("expr"), problems)?;
            let own = e.ty();
            match wanted.filter(|ty| *ty != own) {
                Some(ty) => (ty, Step::ExprAs(e, ty)),
                None => match e.slot() {
                    Some(slot) => (own, Step::Keep(slot)),
                    None => (own, Step::Expr(e)),
                },
            }
        }
        _ => {
            problems.push(Problem::error("template-or-expr", at.clone(), "a field is either a `template` or an `expr`"));
            return None;
        }
    };
    match &full.default {
        None => Some((ty, step)),
        Some(value) => match constant(value, ty) {
            Ok(default) => Some((ty, Step::Default(Box::new(step), default))),
            Err(message) => {
                problems.push(Problem::error("invalid-default", at.clone().then("default"), message));
                None
            }
        },
    }
}

/// A batch of one row with one field: the value as `ty`.
fn constant(value: &serde_json::Value, ty: Type) -> Result<Batch, String> {
    let mut out = BatchBuilder::new(Schema::new(vec![Field::new("default", ty)]));
    let text = value.to_string();
    let value = match value {
        serde_json::Value::Null => Val::Null,
        serde_json::Value::Bool(b) => Val::Bool(*b),
        serde_json::Value::Number(_) => Val::Num(&text),
        serde_json::Value::String(s) => Val::Str(s),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Val::Json(&text),
    };
    convert::push(value, ty, &mut out).map_err(|e| e.0)?;
    out.end_row(Meta::default());
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Job, rows};
    use serde_json::json;

    const FIELDS: &[(&str, &str)] = &[("uid", "string"), ("price", "decimal(18,2)"), ("n", "bigint"), ("c", "map")];

    fn wash(config: serde_json::Value, row: &str) -> Vec<String> {
        Job::operator("TemplateExtract", config, FIELDS).run(rows(row)).lines("")
    }

    #[test]
    fn keeps_then_makes_in_order() {
        let row = r#"[{"uid":"u1","price":"0.10","n":7,"c":{"os":"IOS"}}]"#;
        for (config, out) in [
            (json!({"keep": ["n", "uid"]}), r#"{"n":7,"uid":"u1"}"#),
            (json!({"fields": {"a": "{{uid}}-{{n}}"}}), r#"{"a":"u1-7"}"#),
            (json!({"keep": ["c.os"], "fields": {"n": "{{n}}"}}), r#"{"c.os":"IOS","n":7}"#),
            (json!({"fields": {"cents": {"expr": "floor(price * 100 + 0.5)", "type": "bigint"}}}), r#"{"cents":10}"#),
            (json!({"fields": {"s": {"expr": "n + 1", "type": "string"}}}), r#"{"s":"8"}"#),
            (json!({"fields": {"n": {"template": "{{n}}5", "type": "bigint"}}}), r#"{"n":75}"#),
            (json!({"fields": {"n": {"expr": "substr(uid, 2)", "type": "bigint"}, "m": "{{n}}"}}), r#"{"n":1,"m":7}"#),
        ] {
            assert_eq!(wash(config.clone(), row), [out], "{config}");
        }
    }

    #[test]
    fn a_text_becomes_the_number_that_it_is() {
        let config = json!({"fields": {"n": {"template": "{{uid}}", "type": "bigint"}, "m": {"template": "{{uid}}", "type": "bigint", "default": 5}}});
        for (uid, n) in [
            ("0", "0"),
            ("7", "7"),
            ("12345678", "12345678"),
            ("1234567890", "1234567890"),
            ("123456789012345678", "123456789012345678"),
            ("9223372036854775807", "9223372036854775807"),
            ("007", "7"),
            ("+7", "7"),
            ("-0", "0"),
            (" 12 ", "12"),
        ] {
            assert_eq!(wash(config.clone(), &json!([{"uid": uid}]).to_string()), [format!(r#"{{"n":{n},"m":{n}}}"#)], "{uid}");
        }
        let only = json!({"fields": {"m": {"template": "{{uid}}", "type": "bigint", "default": 5}}});
        for uid in ["", " ", "1234567x", "12345678x", "1x345678901", "9223372036854775808", "/0", "1:"] {
            assert_eq!(wash(only.clone(), &json!([{"uid": uid}]).to_string()), [r#"{"m":5}"#], "{uid}");
        }
    }

    #[test]
    fn a_default_stands_in_for_failures_and_gaps() {
        let config =
            json!({"fields": {"n": {"template": "{{uid}}", "type": "bigint", "default": -1}, "q": {"expr": "1 / n", "default": 0}}});
        assert_eq!(wash(config.clone(), r#"[{"uid":"12","n":1}]"#), [r#"{"n":12,"q":1}"#]);
        assert_eq!(wash(config.clone(), r#"[{"uid":"x","n":0}]"#), [r#"{"n":-1,"q":0}"#]);
        assert!(wash(config, r#"[{"n":null}]"#)[0].contains(r#""q":0"#));
        assert_eq!(wash(json!({"fields": {"u": {"template": "{{lower uid}}", "default": "none"}}}), "[{}]"), [r#"{"u":"none"}"#]);
        assert_eq!(wash(json!({"fields": {"n": {"expr": "n", "default": null}}}), "[{}]"), [r#"{"n":null}"#]);
    }

    #[test]
    fn a_row_that_fails_is_rejected() {
        let config = json!({"keep": ["uid"], "fields": {"n": {"template": "{{uid}}", "type": "bigint"}}});
        let out = Job::operator("TemplateExtract", config, FIELDS).run(rows(r#"[{"uid":"x"},{"uid":"3"}]"#));
        assert_eq!(out.lines(""), [r#"{"uid":"3","n":3}"#]);
        assert_eq!(out.rejects.len(), 1);
        assert!(out.rejects[0].is_row && out.rejects[0].body.starts_with(br#"{"uid":"x""#));
    }

    #[test]
    fn problems_are_all_found_with_their_places() {
        let found = |config| Job::problems("TemplateExtract", config, FIELDS);
        let ids = |config| found(config).iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(json!({})), ["nothing-to-do"]);
        assert_eq!(ids(json!({"keep": ["uid", "uid"], "fields": {"uid": "x"}})), ["named-twice", "field-clash"]);
        assert_eq!(ids(json!({"fields": {"a": {"type": "bigint"}}})), ["template-or-expr"]);
        assert_eq!(ids(json!({"fields": {"a": {"template": "x", "expr": "1"}}})), ["template-or-expr"]);
        assert_eq!(ids(json!({"fields": {"a": {"expr": "1", "type": "bigin"}}})), ["unknown-type"]);
        assert_eq!(ids(json!({"fields": {"a": {"expr": "1", "type": "bigint", "default": "x"}}})), ["invalid-default"]);
        let p = found(json!({"fields": {"a": {"expr": "uidd"}}}));
        assert_eq!(p[0].place.path, millrace_sdk::Place::at(["fields", "a", "expr"]).path);
    }

    #[test]
    fn the_key_stays_if_it_is_kept() {
        let keyed = |keep: serde_json::Value| Job::keyed_edge("TemplateExtract", json!({ "keep": keep }), FIELDS, &["uid"]);
        assert!(keyed(json!(["uid", "n"])).is_some());
        assert!(keyed(json!(["n"])).is_none());
    }
}
