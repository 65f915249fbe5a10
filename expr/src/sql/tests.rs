use super::*;
use crate::Scratch;
use millrace_sdk::record::Meta;
use millrace_sdk::{Batch, Field};
use proptest::prelude::*;

/// One row with a field of every kind; NULLs and undeclared values too.
fn batch() -> Batch {
    let fields = [
        ("i", Type::Bigint),
        ("f", Type::Double),
        ("d", Type::Decimal(18, 2)),
        ("s", Type::String),
        ("b", Type::Boolean),
        ("t", Type::Timestamp),
        ("m", Type::Map),
        ("a", Type::Array),
        ("j", Type::Json),
        ("x", Type::Any),
        ("xi", Type::Any),
        ("xs", Type::Any),
        ("n", Type::Bigint),
        ("ns", Type::String),
        ("client.os", Type::Any),
        ("user-agent", Type::String),
        ("ext", Type::Map),
        ("user", Type::String),
        ("by", Type::Bytes),
        ("big", Type::Any),
        ("价格", Type::Bigint),
    ];
    let mut out = BatchBuilder::new(Schema::new(
        fields.iter().map(|(n, t)| Field::new(*n, *t)).chain([Field::hidden("_value", Type::Bytes)]).collect(),
    ));
    out.push_int(7);
    out.push_float(2.5);
    out.push_num("12.34");
    out.push_str("Hello");
    out.push_bool(true);
    // 2024-02-29T13:14:15.5Z
    out.push_time(1_709_212_455_500_000);
    out.push_json(r#"{"k":"v","n":3,"in":{"z":[10,20]}}"#);
    out.push_json(r#"[1,"two",{"three":3}]"#);
    out.push_json(r#"{"a":{"b":"c"},"list":[1,2],"nul":null}"#);
    out.push_num("12.34");
    out.push_num("5");
    out.push_str("five");
    out.push_null();
    out.push_missing();
    out.push_str("ios");
    out.push_str("curl");
    out.push_val(Val::Split("a=1|b=2|c", b'|', b'='));
    out.push_str("u1");
    out.push_bytes(b"\x00\xff");
    out.push_num("12345678901234567890");
    out.push_int(99);
    out.push_bytes(b"raw line");
    out.end_row(Meta::default());
    out.finish()
}

fn show(v: Val<'_>) -> String {
    match v {
        Val::Null | Val::Missing => "NULL".into(),
        Val::Str(t) => format!("'{t}'"),
        v => {
            let mut s = String::new();
            match V::from(v).write(&mut s) {
                Ok(()) => s,
                Err(_) => "bytes".into(),
            }
        }
    }
}

fn run_with(text: &str, env: &Env) -> String {
    let batch = batch();
    let e = match Expr::compile(text, batch.schema(), env) {
        Ok(e) => e,
        Err(issues) => return issues.iter().map(|i| format!("{}@{}", i.id, &text[i.range.clone()])).collect::<Vec<_>>().join(" "),
    };
    let mut scratch = Scratch::default();
    let row = batch.row(0);
    let got = match e.eval(&row, &mut scratch) {
        Ok(v) => show(v),
        Err(e) => return format!("!{}", e.reason),
    };
    // What is pushed is what is evaluated.
    let mut out = BatchBuilder::new(Schema::new(vec![Field::new("r", e.ty())]));
    e.push(&row, &mut out).unwrap();
    out.end_row(Meta::default());
    assert_eq!(show(out.finish().row(0).get(Slot(0))), got, "{text}");
    got
}

fn run(text: &str) -> String {
    run_with(text, &Env::default())
}

fn check(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(run(text), *want, "{text}");
    }
}

#[test]
fn arithmetic() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("7.0 / 2", "3.500000"),
        ("i / 2", "3"),
        ("i * f", "17.5"),
        ("d + 1", "13.34"),
        ("d * 100 + 0.5", "1234.50"),
        ("floor(d * 100 + 0.5)", "1234"),
        ("floor(x * 100 + 0.5)", "1234.0"),
        ("x + xi", "17.34"),
        ("xi + 1", "6"),
        ("xi / 2", "2"),
        ("0.1 + 0.2", "0.3"),
        ("0.1 + 0.2 = 0.3", "true"),
        ("f + 0.1", "2.6"),
        ("d / 3", "4.1133333333"),
        ("big + 1", "12345678901234567891"),
        ("big = 12345678901234567890", "true"),
        ("big = 12345678901234567891", "false"),
        ("1e3", "1000.0"),
        ("9223372036854775807 + 1", "!overflow"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("i / 0", "!division-by-zero"),
        ("i % 0", "!division-by-zero"),
        ("f / 0", "!division-by-zero"),
        ("d / 0", "!division-by-zero"),
        ("i + n", "NULL"),
        ("n / 0", "NULL"),
        ("-n", "NULL"),
        ("xs + 1", "!wrong-type"),
        ("i | 8", "15"),
        ("i & 3", "3"),
        ("i ^ 1", "6"),
        ("- - 5", "5"),
        ("价格 + 1", "100"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("i = 7", "true"),
        ("7 = i", "true"),
        ("i <> 7", "false"),
        ("i != 7", "false"),
        ("8 > i", "true"),
        ("f >= 2.5", "true"),
        ("d = 12.340", "true"),
        ("d < 12.35", "true"),
        ("x > 12", "true"),
        ("x = 12.34", "true"),
        ("xi = 5.0", "true"),
        ("xi = '5'", "!wrong-type"),
        ("xs = 'five'", "true"),
        ("s = 'Hello' AND i > 3 AND b", "true"),
        ("s = 'x' OR n > 3", "NULL"),
        ("n > 3 AND FALSE", "false"),
        ("n > 3 OR TRUE", "true"),
        ("NOT n > 3", "NULL"),
        ("i <> 0 AND 10 / i > 0", "true"),
        ("i = 0 AND 10 / (i - 7) > 0", "false"),
        ("i IN (1, 7)", "true"),
        ("i NOT IN (1, NULL)", "NULL"),
        ("i IN (1, NULL, 7)", "true"),
        ("s IN ('a', 'Hello')", "true"),
        ("s NOT IN ('a', 'b')", "true"),
        ("s IN ('a', NULL)", "NULL"),
        ("ns IN ('a')", "NULL"),
        ("xs IN ('five')", "true"),
        ("xi IN ('five')", "!wrong-type"),
        ("i BETWEEN 1 AND 7", "true"),
        ("i NOT BETWEEN 1 AND 6", "true"),
        ("n BETWEEN 1 AND 2", "NULL"),
        ("i BETWEEN 8 AND n", "false"),
        ("n IS NULL", "true"),
        ("ns IS NULL", "true"),
        ("i IS NOT NULL", "true"),
        ("(n > 1) IS TRUE", "false"),
        ("(n > 1) IS NOT TRUE", "true"),
        ("(n > 1) IS UNKNOWN", "true"),
        ("b IS FALSE", "false"),
        ("n IS NOT DISTINCT FROM NULL", "true"),
        ("i IS DISTINCT FROM 7", "false"),
        ("s LIKE 'He%'", "true"),
        ("s LIKE '%l_o'", "true"),
        ("s NOT LIKE 'x%'", "true"),
        ("s ILIKE 'hELLO'", "true"),
        ("'50%' LIKE '50!%' ESCAPE '!'", "true"),
        ("ns LIKE 'x'", "NULL"),
        ("s LIKE s", "true"),
        ("t > '2024-01-01'", "true"),
        ("t BETWEEN '2024-02-29T13:14:15Z' AND TIMESTAMP '2024-02-29 13:14:16'", "true"),
        ("CASE WHEN i > 5 THEN 'big' WHEN i > 3 THEN 'mid' ELSE 'small' END", "'big'"),
        ("CASE i WHEN 1 THEN 'one' WHEN 7 THEN 'seven' END", "'seven'"),
        ("CASE i WHEN 1 THEN 'one' END", "NULL"),
        ("CASE WHEN n > 1 THEN 1 ELSE 2.5 END", "2.5"),
        ("CASE WHEN b THEN 1 ELSE 2.5 END", "1.0"),
        ("CASE WHEN b THEN i ELSE i / 0 END", "7"),
        ("COALESCE(n, i)", "7"),
        ("COALESCE(n, 1.5)", "1.5"),
        ("NULLIF(i, 7)", "NULL"),
        ("NULLIF(s, '-')", "'Hello'"),
        ("if(b, 'y', 'n')", "'y'"),
        ("NULL", "NULL"),
        ("NULL = NULL", "NULL"),
        ("\"user-agent\" = 'curl'", "true"),
        ("user = 'u1'", "true"),
        ("_value", "raw line"),
    ]);
}

#[test]
fn casts() {
    check(&[
        ("CAST('12' AS bigint)", "12"),
        ("CAST(2.9 AS INT)", "2"),
        ("CAST(-2.9 AS INT)", "-2"),
        ("CAST(f AS decimal(5,1))", "2.5"),
        ("CAST(i AS decimal(5,2))", "7.00"),
        ("CAST('x' AS bigint)", "!invalid-cast"),
        ("TRY_CAST('x' AS bigint)", "NULL"),
        ("TRY_CAST(s AS double)", "NULL"),
        ("CAST(i AS STRING) || '!'", "'7!'"),
        ("CAST(i AS VARCHAR(20))", "'7'"),
        ("CAST(x AS string)", "'12.34'"),
        ("CAST(b AS bigint)", "1"),
        ("CAST('true' AS boolean)", "true"),
        ("CAST(1e300 AS bigint)", "!overflow"),
        ("CAST(123456 AS decimal(5,2))", "!overflow"),
        ("CAST('{\"a\": 1}' AS json)", "{\"a\":1}"),
        ("i::string", "'7'"),
        ("CAST('2024-02-29T00:00:00Z' AS timestamp)", "2024-02-29T00:00:00Z"),
        ("CAST(n AS string)", "NULL"),
        ("CAST(by AS string)", "!invalid-cast"),
    ]);
}

#[test]
fn access() {
    check(&[
        ("m['k']", "'v'"),
        ("m.k", "'v'"),
        ("m['n'] + 1", "4"),
        ("m['in']['z'][1]", "10"),
        ("m.in.z[2]", "20"),
        ("m['none']", "NULL"),
        ("a[1]", "1"),
        ("a[2]", "'two'"),
        ("a[3]['three']", "3"),
        ("a[-1].three", "3"),
        ("a[4]", "NULL"),
        ("a[0]", "NULL"),
        ("j.a.b", "'c'"),
        ("j.list[i - 5]", "2"),
        ("j.nul", "NULL"),
        ("client.os", "'ios'"),
        ("ext['b']", "'2'"),
        ("ext.c", "''"),
        ("ext['zz']", "NULL"),
        ("CAST(ext['a'] AS bigint) + 1", "2"),
        ("s || '/' || i || '/' || d", "'Hello/7/12.34'"),
        ("s || ns", "NULL"),
    ]);
}

#[test]
fn issues_name_their_place() {
    check(&[
        ("", "expression-syntax@"),
        ("i +", "expression-syntax@+"),
        ("i + )", "expression-syntax@)"),
        ("i 5", "expression-syntax@5"),
        ("'open", "expression-syntax@'"),
        ("prise + s1", "unknown-field@prise unknown-field@s1"),
        ("s + 1", "wrong-type@s"),
        ("s = 1", "wrong-type@s = 1"),
        ("i AND b", "wrong-type@i"),
        ("NOT s", "wrong-type@s"),
        ("uper(s)", "unknown-function@uper"),
        ("uper(zz)", "unknown-field@zz unknown-function@uper"),
        ("upper(i)", "wrong-type@i"),
        ("upper(s, s)", "wrong-argument-count@upper(s, s"),
        ("upper()", "wrong-argument-count@upper"),
        ("sum(i)", "aggregate-not-allowed@sum"),
        ("now()", "not-repeatable@now"),
        ("CURRENT_TIMESTAMP", "not-repeatable@CURRENT_TIMESTAMP"),
        ("CAST(i AS blah)", "unknown-type@i"),
        ("CAST(t AS bigint)", "wrong-type@t"),
        ("i IN (SELECT 1)", "unsupported-expression@i IN (SELECT 1"),
        ("CASE WHEN b THEN 1 ELSE 'x' END", "wrong-type@'x'"),
        ("i LIKE 'x'", "wrong-type@i"),
        ("s LIKE 'a!b' ESCAPE '!'", "invalid-pattern@'a!b'"),
        ("TIMESTAMP 'yesterday'", "invalid-literal@'yesterday'"),
        ("INTERVAL '1' DAY", "wrong-type@'1'"),
        ("t + INTERVAL 'x' DAY", "invalid-interval@'x'"),
        ("s['k']", "unknown-field@s['k'"),
        ("\n  prise\n+ 1", "unknown-field@prise"),
        ("'价格' || prise", "unknown-field@prise"),
        ("1; DROP TABLE x", "expression-syntax@;"),
    ]);
}
