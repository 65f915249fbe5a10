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
        ("d / 3", "4.113333"),
        ("d / i", "1.7628571428571428571429"),
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
        ("CAST(s AS bigint)", "!invalid-cast"),
        ("CAST('x' AS bigint)", "invalid-cast@'x'"),
        ("n + CAST('1,5' AS double)", "invalid-cast@'1,5'"),
        ("TRY_CAST(upper('x') AS bigint)", "NULL"),
        ("CAST(i AS decimal(99,2))", "unknown-type@decimal"),
        ("TRY_CAST('x' AS bigint)", "NULL"),
        ("TRY_CAST(s AS double)", "NULL"),
        ("CAST(i AS STRING) || '!'", "'7!'"),
        ("CAST(i AS VARCHAR(20))", "'7'"),
        ("CAST(x AS string)", "'12.34'"),
        ("CAST(b AS bigint)", "1"),
        ("CAST('true' AS boolean)", "true"),
        ("CAST(f * 1e300 AS bigint)", "!overflow"),
        ("CAST(1e300 AS bigint)", "invalid-cast@1e300"),
        ("CAST(i * 12345 AS decimal(5,2))", "!overflow"),
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
        ("(i + 1", "expression-syntax@("),
        ("upper(s]", "expression-syntax@]"),
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
        ("CAST(i AS blah)", "unknown-type@blah"),
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
        ("CASE WHEN b THN 1 END", "expression-syntax@THN"),
        ("upper(CASE WEN b THEN s END)", "expression-syntax@b"),
        ("CASE WHEN b THEN 1 ELSE 2", "expression-syntax@2"),
    ]);
}

#[test]
fn functions_of_all_kinds() {
    check(&[
        ("floor(x * 100 + 0.5)", "1234.0"),
        ("round(2.675, 2)", "2.68"),
        ("round(f)", "3.0"),
        ("round(1250, -2)", "1300"),
        ("ceil(d)", "13"),
        ("abs(-9223372036854775807 - 1)", "!overflow"),
        ("sqrt(-1)", "!invalid-argument"),
        ("ln(0)", "!invalid-argument"),
        ("greatest(i, f, d)", "12.34"),
        ("greatest(n, NULL)", "NULL"),
        ("upper(n)", "wrong-type@n"),
        ("upper(NULL)", "NULL"),
        ("upper(ns)", "NULL"),
        ("upper(xi)", "!wrong-type"),
        ("substring(s FROM 2 FOR 3)", "'ell'"),
        ("substring(s, -3)", "'llo'"),
        ("substring(s, 0, 2)", "'H'"),
        ("substring(s, 2, -1)", "!invalid-argument"),
        ("substr('héllo', 2, 2)", "'él'"),
        ("left(s, -1)", "''"),
        ("trim(BOTH 'x' FROM 'xax')", "'a'"),
        ("trim(LEADING 'x' FROM 'xax')", "'ax'"),
        ("trim('  a ')", "'a'"),
        ("position('lo' IN s)", "4"),
        ("repeat('abc', 1000000000000)", "!overflow"),
        ("lpad('x', 1000000000000)", "!overflow"),
        ("chr(-1)", "!invalid-argument"),
        ("length(by)", "2"),
        ("length(s)", "5"),
        ("length(ns)", "NULL"),
        ("length(s) = 5", "true"),
        ("char_length(s) > length(user)", "true"),
        ("length(ns) = 0", "NULL"),
        ("3 < cast(substr(s, 9) || '4' as bigint)", "true"),
        ("cast(s as bigint) < 4", "!invalid-cast"),
        ("cast(ns as bigint) < 4", "NULL"),
        ("concat(s, ns)", "NULL"),
        ("concat_ws(',', i, ns, s)", "'7,Hello'"),
        ("regexp_extract(s, 'l+')", "'ll'"),
        ("regexp_extract(s, 'H(.)', 1)", "'e'"),
        ("regexp_extract(s, 'H(.)', 2)", "invalid-argument@2"),
        ("regexp_extract(s, 'z')", "NULL"),
        ("regexp_like(s, s)", "true"),
        ("s RLIKE '^H'", "true"),
        ("regexp_like(s, '(')", "invalid-regex@("),
        ("regexp_extract(s, '(H)', 2)", "invalid-argument@2"),
        ("regexp_extract(s, '(H)', 0)", "'H'"),
        ("regexp_replace(s, '(H)', '$2')", "invalid-argument@'$2'"),
        ("regexp_replace(s, '(H)', '$1a')", "invalid-argument@'$1a'"),
        ("regexp_replace(s, '(H)', '$$2 ${1}a$')", "'$2 Ha$ello'"),
        ("regexp_replace(s, '(?P<first>H)', '$first.$second')", "invalid-argument@'$first.$second'"),
        ("regexp_like(s, '(' || s)", "!invalid-argument"),
        ("regexp_replace(s, '(l+)', '<$1>')", "'He<ll>o'"),
        ("json_value(j, '$.a.b')", "'c'"),
        ("json_value(j, '$.list')", "NULL"),
        ("json_value(j, '$.list[1]')", "2"),
        ("json_query(j, '$.list')", "[1,2]"),
        ("json_exists(j, '$.nul')", "true"),
        ("json_exists(j, '$.zip')", "false"),
        ("json_length(j)", "3"),
        ("json_length(m, '$.in.z')", "2"),
        ("json_value(s, '$.a')", "!invalid-argument"),
        ("json_value(j, 'a.b')", "invalid-json-path@'a.b'"),
        ("map_keys(ext)", "[\"a\",\"b\",\"c\"]"),
        ("cardinality(ext)", "3"),
        ("cardinality(a)", "3"),
        ("cardinality(s)", "wrong-type@s"),
        ("to_json(ext)", "'{\"a\":\"1\",\"b\":\"2\",\"c\":\"\"}'"),
        ("to_json(d)", "'12.34'"),
        ("to_json(t)", "'\"2024-02-29T13:14:15.500Z\"'"),
        ("to_json(s)", "'\"Hello\"'"),
        ("array_contains(a, 'two')", "true"),
        ("array_join(split('a,b', ','), '+')", "'a+b'"),
        ("md5(n)", "wrong-type@n"),
        ("base64(by)", "'AP8='"),
        ("unbase64('%%')", "!invalid-argument"),
        ("url_decode('%ff')", "!invalid-argument"),
        ("parse_url('https://u@h.com/p?q=1#f', 'HOST')", "'h.com'"),
    ]);
}

#[test]
fn times_in_a_zone() {
    let shanghai = Env { time_zone: "Asia/Shanghai".into(), ..Env::default() };
    for (text, want) in [
        ("extract(hour FROM t)", "21"),
        ("extract(epoch FROM t)", "1709212455"),
        ("extract(day FROM t + INTERVAL '1' YEAR)", "28"),
        ("date_format(t, 'yyyy-MM-dd HH:mm:ss')", "'2024-02-29 21:14:15'"),
        ("date_format(t, '%Y%m%d')", "'20240229'"),
        ("date_format(t, 'yyyy-MM-dd HH:mm:ss.SSS', 'UTC')", "'2024-02-29 13:14:15.500'"),
        ("date_trunc('day', t)", "2024-02-28T16:00:00Z"),
        ("date_trunc('week', t)", "2024-02-25T16:00:00Z"),
        ("date_trunc('month', t)", "2024-01-31T16:00:00Z"),
        ("date_trunc('quarter', t)", "2023-12-31T16:00:00Z"),
        ("date_trunc('year', t)", "2023-12-31T16:00:00Z"),
        ("date_trunc('hour', t)", "2024-02-29T13:00:00Z"),
        ("date_trunc('fortnight', t)", "invalid-argument@'fortnight'"),
        ("t + INTERVAL '10' MINUTE", "2024-02-29T13:24:15.500Z"),
        ("t - INTERVAL '1 day 2 hours'", "2024-02-28T11:14:15.500Z"),
        ("INTERVAL '1' SECOND + t", "2024-02-29T13:14:16.500Z"),
        ("t - INTERVAL '9000' YEAR", "!overflow"),
        ("to_timestamp('2024-03-01 00:00:00', 'yyyy-MM-dd HH:mm:ss')", "2024-02-29T16:00:00Z"),
        ("to_timestamp('2024-03-01 00:00:00')", "2024-02-29T16:00:00Z"),
        ("to_timestamp(1709212455500, 'epoch_ms') = t", "true"),
        ("to_timestamp('9999-12-31', '%Y-%m-%d')", "!invalid-cast"),
        ("to_timestamp('x', '%H')", "invalid-time-pattern@'%H'"),
        ("to_timestamp(s, 'nonsense')", "invalid-time-pattern@'nonsense'"),
        ("TIMESTAMP '2024-02-29 21:14:15.5' = t", "true"),
        ("unix_millis(t)", "1709212455500"),
        ("from_unixtime(1e30)", "!overflow"),
        ("date_diff('month', TIMESTAMP '2024-01-31', TIMESTAMP '2024-03-01')", "1"),
        ("date_add('day', 1, t)", "2024-03-01T13:14:15.500Z"),
        ("t - t", "wrong-type@t wrong-type@t"),
    ] {
        assert_eq!(run_with(text, &shanghai), want, "{text}");
    }
}

#[test]
fn errors_become_null_where_the_job_says_so() {
    let null = Env { on_error: OnError::Null, ..Env::default() };
    for (text, want) in [
        ("i / 0", "NULL"),
        ("COALESCE(i / 0, -1)", "-1"),
        ("i / 0 = 1", "NULL"),
        ("i / 0 = 1 OR b", "true"),
        ("CAST(s AS bigint)", "NULL"),
        ("CASE WHEN xs > 1 THEN 1 ELSE 2 END", "2"),
        ("f / 0 + 1", "NULL"),
        ("CAST(i * 12345 AS decimal(5,2))", "NULL"),
        ("sqrt(-1)", "NULL"),
    ] {
        assert_eq!(run_with(text, &null), want, "{text}");
    }
}

#[test]
fn types_are_known_at_plan_time() {
    let batch = batch();
    for (text, want) in [
        ("i", "bigint"),
        ("i + 1", "bigint"),
        ("i / 2", "bigint"),
        ("f * i", "double"),
        ("d * 100", "decimal(22,2)"),
        ("d + d", "decimal(19,2)"),
        ("d * d", "decimal(37,4)"),
        ("d / d", "decimal(38,20)"),
        ("floor(d)", "decimal(17,0)"),
        ("x + 1", "any"),
        ("x + f", "double"),
        ("i > 1", "boolean"),
        ("s || i", "string"),
        ("CASE WHEN b THEN i ELSE d END", "decimal(21,2)"),
        ("COALESCE(d, 0)", "decimal(21,2)"),
        ("t + INTERVAL '1' DAY", "timestamp"),
        ("m['k']", "any"),
        ("CAST(x AS decimal(10,2))", "decimal(10,2)"),
        ("upper(s)", "string"),
    ] {
        let e = Expr::compile(text, batch.schema(), &Env::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(e.ty().to_string(), want, "{text}");
    }
}

#[test]
fn suggestions() {
    let schema = Schema::new(vec![Field::new("price", Type::Double)]);
    for (text, want) in
        [("prise + 1", "price"), ("flor(price)", "floor"), ("regex_like('a', 'b')", "regexp_like"), ("CAST(price AS strin)", "string")]
    {
        let issues = Expr::compile(text, &schema, &Env::default()).err().unwrap();
        assert_eq!(issues[0].suggestion.as_deref(), Some(want), "{text}");
    }
}

#[test]
fn names_that_are_read() {
    for (text, want) in [
        ("a + b * a", "a,b"),
        ("client.os = 'x'", "client.os"),
        ("m['k']['l'] || upper(\"user-agent\")", "m.k.l,user-agent"),
        ("list[1].name", "list"),
        ("sum(cents) / count(*)", "cents"),
        ("count(*) FILTER (WHERE ok)", "ok"),
        ("CASE WHEN p THEN q ELSE r END", "p,q,r"),
        ("i +", ""),
        ("x + INTERVAL '1' DAY", "x"),
    ] {
        assert_eq!(Expr::fields(text).join(","), want, "{text}");
    }
}

#[test]
fn open_schemas_read_what_nobody_declared() {
    let schema = Schema::open(vec![Field::new("a", Type::Bigint)]);
    let mut out = BatchBuilder::new(schema.clone());
    out.push_int(1);
    out.push_json(r#"{"a":1,"price":12.34,"os":{"name":"iOS"}}"#);
    out.end_row(Meta::default());
    let batch = out.finish();
    let mut scratch = Scratch::default();
    for (text, want) in [("price * 100", "1234.0"), ("lower(os.name)", "'ios'"), ("os['name']", "'iOS'"), ("nothing", "NULL")] {
        let e = Expr::compile(text, &schema, &Env::default()).unwrap();
        assert_eq!(show(e.eval(&batch.row(0), &mut scratch).unwrap()), want, "{text}");
    }
}

/// Kleene's tables, by their definition over 0, 1/2 and 1: AND is the least, OR the greatest, NOT the complement.
#[test]
fn three_valued_logic() {
    let words = ["FALSE", "CAST(NULL AS boolean)", "TRUE"];
    let number = |t: &str| match t {
        "false" => 0,
        "NULL" => 1,
        _ => 2,
    };
    for (a, wa) in words.iter().enumerate() {
        assert_eq!(number(&run(&format!("NOT {wa}"))), 2 - a);
        for (b, wb) in words.iter().enumerate() {
            assert_eq!(number(&run(&format!("{wa} AND {wb}"))), a.min(b));
            assert_eq!(number(&run(&format!("{wa} OR {wb}"))), a.max(b));
            for (c, wc) in words.iter().enumerate() {
                assert_eq!(number(&run(&format!("{wa} AND {wb} OR {wc}"))), a.min(b).max(c));
                assert_eq!(number(&run(&format!("NOT ({wa} OR {wb}) AND {wc}"))), (2 - a.max(b)).min(c));
            }
        }
    }
}

#[test]
fn long_and_deep_expressions_are_refused_not_followed() {
    let ok = |t: &str| Expr::compile(t, batch().schema(), &Env::default()).map(|_| ()).map_err(|e| e[0].id);
    assert_eq!(ok(&vec!["i = 1"; 400].join(" OR ")), Ok(()));
    assert_eq!(ok(&vec!["1"; 200].join(" + ")), Ok(()));
    assert_eq!(ok(&vec!["1"; 202].join(" + ")), Err("expression-too-long"));
    assert_eq!(ok(&vec!["1"; 100_000].join(" + ")), Err("expression-too-long"));
    assert_eq!(ok(&format!("{}1{}", "(".repeat(30), ")".repeat(30))), Ok(()));
    assert_eq!(ok(&format!("{}1{}", "(".repeat(900), ")".repeat(900))), Err("expression-too-long"));
    assert_eq!(ok(&format!("{}1", "- ".repeat(900))), Err("expression-too-long"));
    assert_eq!(ok(&format!("{}b", "NOT ".repeat(900))), Err("expression-too-long"));
    assert_eq!(ok(&format!("{}b", "NOT ".repeat(8))), Ok(()));
    for (open, n) in [("NOT ", 8), ("upper(", 25), ("CASE WHEN ", 12), ("(", 50), ("CAST(", 12), ("i IN (", 12), ("NOT (", 12), ("m[", 25)]
    {
        assert!(ok(&open.repeat(n)).is_err(), "{open}");
    }
    assert_eq!(ok(&format!("i IN ({})", vec!["5"; 20_000].join(","))), Ok(()));
}

fn soup() -> impl Strategy<Value = String> {
    let words = [
        "i",
        "f",
        "d",
        "s",
        "b",
        "t",
        "m",
        "a",
        "j",
        "x",
        "xi",
        "xs",
        "n",
        "ns",
        "ext",
        "by",
        "big",
        "client.os",
        "1",
        "0",
        "-1",
        "2.5",
        "1e300",
        "9223372036854775807",
        "'a'",
        "''",
        "'2024-01-01'",
        "NULL",
        "TRUE",
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "=",
        "<",
        ">=",
        "AND",
        "OR",
        "NOT",
        "IS NULL",
        "(",
        ")",
        ",",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "IN (",
        "BETWEEN",
        "LIKE",
        "CAST(",
        "AS bigint)",
        "AS decimal(5,2))",
        "AS string)",
        "[1]",
        "['k']",
        "upper(",
        "round(",
        "substring(",
        "coalesce(",
        "nullif(",
        "json_value(",
        "date_trunc('day',",
        "INTERVAL '1' DAY",
        "regexp_extract(",
        "lpad(",
        "sum(",
        "power(",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 1..14).prop_map(|w| w.join(" "))
}

/// Every function over every combination of a few values: whatever comes out, nothing panics.
#[test]
fn functions_survive_odd_arguments() {
    let odd = ["NULL", "-9223372036854775808", "1e300", "''", "'é%('", "t", "m", "a", "by", "0.00000001", "x", "ext"];
    let batch = batch();
    let mut scratch = Scratch::default();
    for f in crate::functions() {
        for n in 0..=3usize {
            let odd = if n < 3 { &odd[..] } else { &odd[..5] };
            for pick in 0..odd.len().pow(n as u32) {
                let args: Vec<&str> = (0..n).map(|k| odd[pick / odd.len().pow(k as u32) % odd.len()]).collect();
                let text = format!("{}({})", f.name, args.join(", "));
                if let Ok(e) = Expr::compile(&text, batch.schema(), &Env::default()) {
                    let _ = e.eval(&batch.row(0), &mut scratch);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn token_soups_never_panic(text in soup()) {
        for on_error in [OnError::DeadLetter, OnError::Null] {
            let env = Env { on_error, ..Env::default() };
            let got = run_with(&text, &env);
            if on_error == OnError::Null {
                prop_assert!(!got.starts_with('!'), "{} gave {}", text, got);
            }
        }
        let _ = Expr::fields(&text);
    }

    #[test]
    fn texts_never_panic(text in "\\PC{0,40}") {
        let _ = run(&text);
    }
}

proptest! {
    #[test]
    fn integers_compute_as_in_i128(a in any::<i64>(), b in any::<i64>(), small in -9i64..9) {
        for b in [b, small] {
            for (op, wide) in [("+", Some(a as i128 + b as i128)), ("-", Some(a as i128 - b as i128)), ("*", (a as i128).checked_mul(b as i128)),
                ("/", (a as i128).checked_div(b as i128)), ("%", (a as i128).checked_rem(b as i128))] {
                let want = match wide {
                    None => "!division-by-zero".to_string(),
                    Some(w) => i64::try_from(w).map_or("!overflow".into(), |w| w.to_string()),
                };
                prop_assert_eq!(run(&format!("({a}) {op} ({b})")), want);
            }
        }
    }

    #[test]
    fn comparisons_agree_with_the_values(a in -1000i64..1000, b in -1000i64..1000, sa in 0u32..4, sb in 0u32..4) {
        let (x, y) = (a as f64 / 10f64.powi(sa as i32), b as f64 / 10f64.powi(sb as i32));
        let text = |m: i64, s: u32| millrace_sdk::Decimal { mantissa: m as i128, scale: s as u8 }.to_string();
        let (ta, tb) = (text(a, sa), text(b, sb));
        let exact = (a as i128 * 10i128.pow(sb)).cmp(&(b as i128 * 10i128.pow(sa)));
        for (op, want) in [("=", exact.is_eq()), ("<", exact.is_lt()), ("<=", exact.is_le()), (">", exact.is_gt()), ("<>", exact.is_ne())] {
            prop_assert_eq!(run(&format!("{ta} {op} {tb}")), want.to_string());
            prop_assert_eq!(run(&format!("CAST({ta} AS double) {op} CAST({tb} AS double)")), want.to_string(), "{} {}", x, y);
            prop_assert_eq!(run(&format!("CAST({ta} AS double) {op} {tb}")), want.to_string());
        }
    }
}
