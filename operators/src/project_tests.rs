//! Fields made column by column are those made row by row.

use super::*;
use millrace_sdk::operator::{Env, OnError};
use millrace_sdk::{Field, Meta, Schema};
use proptest::prelude::*;

fn schema() -> SchemaRef {
    let fields = [
        ("i", Type::Bigint),
        ("j", Type::Bigint),
        ("f", Type::Double),
        ("d", Type::Decimal(18, 2)),
        ("s", Type::String),
        ("t", Type::String),
        ("b", Type::Boolean),
        ("x", Type::Any),
        ("m", Type::Map),
    ];
    Schema::new(fields.map(|(name, ty)| Field::new(name, ty)).to_vec())
}

/// A value as a row may hold it, by the type of its field.
#[derive(Clone, Debug)]
enum One {
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Num(&'static str),
    Str(String),
    Map(&'static str),
}

fn nothing() -> impl Strategy<Value = One> {
    prop_oneof![Just(One::Missing), Just(One::Null)]
}
fn int() -> impl Strategy<Value = One> {
    let number = prop_oneof![4 => -20..20i64, 1 => any::<i64>(), 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let written = prop::sample::select(vec!["0", "7", "12345678", "-3", "1.0", "1e2", "9223372036854775807"]);
    prop_oneof![4 => number.prop_map(One::Int), 4 => written.prop_map(One::Num), 1 => nothing()]
}
fn float() -> impl Strategy<Value = One> {
    let written = prop::sample::select(vec!["0.5", "12.34", "-0.005", "3", "1e300", "12345678901234567890", "0.10"]);
    prop_oneof![4 => (-100.0..100.0).prop_map(One::Float), 4 => written.prop_map(One::Num), 1 => nothing()]
}
fn text() -> impl Strategy<Value = One> {
    let text = prop_oneof![3 => "[ab|=.\"é\\\\ ]{0,9}", 3 => "[-+]?[0-9]{0,20}", 1 => Just(String::from("-")), 1 => Just("1.5".into())];
    prop_oneof![6 => text.prop_map(One::Str), 1 => nothing()]
}
fn row() -> impl Strategy<Value = Vec<One>> {
    let boolean = prop_oneof![4 => any::<bool>().prop_map(One::Bool), 1 => nothing()];
    let decimal = prop_oneof![4 => prop::sample::select(vec!["1.25", "-0.10", "99.99"]).prop_map(One::Num), 1 => nothing()];
    let map = prop_oneof![Just(One::Map("a=1|b=2")), nothing()];
    let any_kind = prop_oneof![int(), float(), text(), any::<bool>().prop_map(One::Bool)];
    (int(), int(), float(), decimal, text(), text(), boolean, any_kind, map)
        .prop_map(|(i, j, f, d, s, t, b, x, m)| vec![i, j, f, d, s, t, b, x, m])
}

fn batch(rows: &[Vec<One>]) -> Batch {
    let mut out = BatchBuilder::new(schema());
    for (at, row) in rows.iter().enumerate() {
        for value in row {
            match value {
                One::Missing => out.push_missing(),
                One::Null => out.push_null(),
                One::Bool(b) => out.push_bool(*b),
                One::Int(i) => out.push_int(*i),
                One::Float(f) => out.push_float(*f),
                One::Num(t) => out.push_num(t),
                One::Str(t) => out.push_str(t),
                One::Map(t) => out.push_val(Val::Split(t, b'|', b'=')),
            }
        }
        out.end_row(Meta { offset: at as u64, ..Meta::default() });
    }
    out.finish()
}

fn integer() -> BoxedStrategy<String> {
    let leaf =
        prop::sample::select(vec!["i", "j", "0", "3", "1000", "cast(s as bigint)", "char_length(s)", "cast(f as bigint)", "length(t)"]);
    leaf.prop_map(String::from)
        .prop_recursive(3, 12, 3, |n| {
            prop_oneof![
                (n.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%"]), n.clone())
                    .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (condition(), n.clone(), n.clone()).prop_map(|(c, a, b)| format!("case when {c} then {a} else {b} end")),
                (n.clone(), n.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
                n.prop_map(|a| format!("abs({a})")),
            ]
        })
        .boxed()
}
fn real() -> BoxedStrategy<String> {
    let leaf = prop::sample::select(vec!["f", "0.5", "cast(i as double)", "cast(s as double)", "x", "d"]);
    leaf.prop_map(String::from)
        .prop_recursive(3, 8, 3, |n| {
            prop_oneof![
                (n.clone(), prop::sample::select(vec!["+", "-", "*", "/"]), n.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b} + f)")),
                n.clone().prop_map(|a| format!("floor({a} * 100 + 0.5)")),
                n.prop_map(|a| format!("case when f > 1 then f else {a} end")),
            ]
        })
        .boxed()
}
fn string() -> BoxedStrategy<String> {
    let leaf = prop::sample::select(vec!["s", "t", "'a'", "'12'", "''", "cast(i as string)", "nullif(s, '')"]);
    leaf.prop_map(String::from)
        .prop_recursive(3, 8, 3, |n| {
            prop_oneof![
                n.clone().prop_map(|a| format!("substr({a}, 2)")),
                n.clone().prop_map(|a| format!("split_part({a}, '|', 1)")),
                n.clone().prop_map(|a| format!("replace({a}, 'a', 'xy')")),
                n.clone().prop_map(|a| format!("upper({a})")),
                (n.clone(), n.clone()).prop_map(|(a, b)| format!("({a} || '-' || {b})")),
                (n.clone(), n.clone()).prop_map(|(a, b)| format!("case when {a} = '-' then '0' when b then {b} end")),
                (n.clone(), n).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
            ]
        })
        .boxed()
}
fn condition() -> BoxedStrategy<String> {
    let leaf = prop::sample::select(vec![
        "i < j",
        "i = 3",
        "s = 'a'",
        "s <> t",
        "s like 'a%'",
        "t in ('a', '-', null)",
        "b",
        "x = 3",
        "x = 'a'",
        "f > 0.5",
        "d >= 1",
        "i is null",
        "char_length(s) = 3",
        "1 / i > 0",
        "cast(s as bigint) < 5",
        "i between 0 and j",
        "m is not null",
        "s in ('a', 'b')",
        "x is null",
        "j > 1.5",
    ]);
    leaf.prop_map(String::from)
        .prop_recursive(2, 6, 3, |n| {
            prop_oneof![
                (n.clone(), n.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
                (n.clone(), n.clone(), n.clone()).prop_map(|(a, b, c)| format!("({a} or {b} or {c})")),
                n.prop_map(|a| format!("not {a}")),
            ]
        })
        .boxed()
}

/// A field: an expression or a template, and the type that it is converted to.
fn field() -> impl Strategy<Value = (String, bool, Option<Type>)> {
    let expr = prop_oneof![
        integer(),
        real(),
        string(),
        condition(),
        prop::sample::select(vec!["x", "d", "m", "x + 1", "d * i"]).prop_map(String::from)
    ];
    let template = prop::sample::select(vec![
        "{{s}}",
        "{{x}}",
        "{{i}}",
        "{{s}}-{{i}}",
        "{{replace s \"|\" \"_\"}}",
        "{{replace s \".\" \"é\"}}",
        "{{split t \"|\" \"=\"}}",
        "{{#if (eq s \"a\")}}one \"{{else}}{{#if (ne t \"-\")}}two{{else}}{{t}}{{/if}}{{/if}}",
        "{{upper s}}",
        "{{eq s \"a\"}}",
        "plain",
    ]);
    let ty = prop::option::of(prop::sample::select(vec![Type::Bigint, Type::Double, Type::String, Type::Boolean, Type::Any, Type::Map]));
    prop_oneof![3 => expr.prop_map(|e| (e, true)), 1 => template.prop_map(|t| (t.to_string(), false))]
        .prop_flat_map(move |(t, e)| (Just(t), Just(e), ty.clone()))
}

fn step((text, is_expr, ty): &(String, bool, Option<Type>), env: &Env) -> Option<Step> {
    if !is_expr {
        return Some(Step::Template(Template::compile(text, &schema(), env).expect("a template"), *ty));
    }
    // What does not go together by its types is refused.
    let e = Expr::compile(text, &schema(), env).ok()?;
    Some(match ty {
        Some(ty) if *ty != e.ty() => Step::ExprAs(e, *ty),
        _ => Step::Expr(e),
    })
}

type Rejects = Vec<(u64, &'static str, String)>;

/// Row by row.
fn by_row(batch: &Batch, steps: &[Step], schema: SchemaRef) -> (Batch, Rejects) {
    let (mut rows, mut rejects, mut room) = (BatchBuilder::over(batch, schema), vec![], Room::default());
    for row in batch.rows() {
        match steps.iter().try_for_each(|s| push(s, &row, &mut room, &mut rows)) {
            Ok(()) => rows.end_row(*row.meta()),
            Err(e) => {
                rows.abandon_row();
                rejects.push((row.meta().offset, e.reason, e.message));
            }
        }
    }
    (batch.select(&(0..batch.len() as u32).collect::<Vec<_>>()).replaced_by(rows), rejects)
}

fn shown(batch: &Batch) -> Vec<String> {
    let value = |row: &Record<'_>, i: usize| {
        let (kind, value) = (std::mem::discriminant(&row.raw(Slot(i as u16))), row.get(Slot(i as u16)));
        format!("{value:?} {kind:?}")
    };
    batch.rows().map(|row| format!("{} {:?}", row.meta().offset, (0..row.width()).map(|i| value(&row, i)).collect::<Vec<_>>())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn columns_are_rows(rows in prop::collection::vec(row(), 1..9), fields in prop::collection::vec(field(), 1..4), null in any::<bool>()) {
        let env = Env { on_error: if null { OnError::Null } else { OnError::DeadLetter }, ..Env::default() };
        let batch = batch(&rows);
        let steps: Arc<[Step]> = fields.iter().filter_map(|f| step(f, &env)).chain([Step::Keep(Slot(4))]).collect();
        let out = Schema::new((0..steps.len()).map(|i| Field::new(format!("f{i}"), Type::Any)).collect());
        let (want, refused) = by_row(&batch, &steps, out.clone());
        let mut outputs = Outputs::default();
        Project::new(steps, out).process(batch, &mut outputs);
        let got: Vec<String> = outputs.batches.iter().flat_map(|(_, b)| shown(b)).collect();
        prop_assert_eq!(got, shown(&want), "{:?}", fields);
        let rejects: Rejects = outputs.rejects.into_iter().map(|r| (r.meta.offset, r.reason, r.message)).collect();
        prop_assert_eq!(rejects, refused);
    }

    #[test]
    fn conditions_are_those_of_rows(rows in prop::collection::vec(row(), 1..9), text in condition(), null in any::<bool>()) {
        let env = Env { on_error: if null { OnError::Null } else { OnError::DeadLetter }, ..Env::default() };
        let batch = batch(&rows);
        let Ok(e) = Expr::condition(&text, &schema(), &env) else { return Ok(()) };
        let mut scratch = Scratch::default();
        let want: Vec<_> = batch.rows().map(|row| e.is_true(&row, &mut scratch)).collect();
        let mut got = vec![];
        e.decide(&batch, &mut scratch, |i, verdict| {
            assert_eq!(i, got.len());
            got.push(verdict);
        });
        prop_assert_eq!(got, want, "{}", text);
    }
}
