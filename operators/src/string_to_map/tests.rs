use crate::testing::{Setup, schema};
use millrace_sdk::operator::{Exec, Outputs};
use millrace_sdk::{Batch, BatchBuilder, Bind, Demand, Edge, Field, Meta, Schema, Span, Type, json};
use serde_json::{Value as Json, json};

/// Lines as a source delivers them, with the topic they came from.
fn lines(lines: &[&[u8]]) -> Batch {
    let mut b = BatchBuilder::new(Schema::new(vec![Field::new("_value", Type::Bytes), Field::hidden("_topic", Type::String)]));
    for (i, line) in lines.iter().enumerate() {
        let raw = b.push_line(line);
        b.push_str("t1");
        b.end_source_row(Meta { offset: i as u64, raw, ..Meta::default() });
    }
    b.finish()
}

fn outputs(config: Json, demand: Demand, batch: Batch) -> Outputs {
    let setup = Setup::new("StringToMap", config, vec![Edge::new(batch.schema().clone())]);
    let spec = setup.spec().unwrap_or_else(|p| panic!("{p:?}"));
    let bind = Bind { inputs: &setup.inputs, demands: &[demand], env: &setup.env, stores: &[] };
    let Exec::Stateless(make) = spec.bind(&bind).unwrap_or_else(|p| panic!("{p:?}")).exec else { panic!("stateless") };
    let mut out = Outputs::default();
    make().process(batch, &mut out);
    out
}

/// What a JSON sink would write, and the rejects' reasons and messages.
fn run(config: Json, demand: Demand, input: &[&[u8]]) -> (Vec<String>, Vec<(&'static str, String)>) {
    let out = outputs(config, demand, lines(input));
    for r in &out.rejects {
        assert_eq!(r.body, input[r.meta.offset as usize], "the original bytes are kept");
        assert!(!r.is_row);
    }
    (written(&out), out.rejects.into_iter().map(|r| (r.reason, r.message)).collect())
}

fn written(out: &Outputs) -> Vec<String> {
    let rows = out.batches.iter().flat_map(|(_, b)| b.rows().map(move |r| (r, b.schema())));
    rows.map(|(row, schema)| {
        let mut text = vec![];
        json::write_row(&row, schema, &mut text);
        String::from_utf8(text).unwrap()
    })
    .collect()
}

fn good(config: Json, input: &str) -> String {
    let (mut rows, rejects) = run(config, Demand::all(), &[input.as_bytes()]);
    assert_eq!(rejects, []);
    rows.remove(0)
}

fn bad(config: Json, input: &[u8]) -> (&'static str, String) {
    let (rows, mut rejects) = run(config, Demand::all(), &[input]);
    assert_eq!(rows, Vec::<String>::new());
    rejects.remove(0)
}

fn problems(config: Json) -> Vec<(&'static str, String)> {
    let setup = Setup::new("StringToMap", config, vec![Edge::new(lines(&[]).schema().clone())]);
    let problems = setup.spec().and_then(|_| setup.bind()).err().expect("the config has problems");
    problems.into_iter().map(|p| (p.id, p.message)).collect()
}

#[test]
fn undeclared_json_passes_whole() {
    let line = r#"{ "a" : 1.10, "b":{"c":[1, 2]}, "s":"x\u00e9\"", "a":2 }"#;
    assert_eq!(good(json!({}), line), r#"{"b":{"c":[1,2]},"s":"xé\"","a":2}"#);
    assert_eq!(good(json!({}), "{}"), "{}");
}

#[test]
fn names_that_later_parts_read_are_found_in_undeclared_json() {
    let line: &[u8] = br#"{"uid":"u1","client":{"os":"ios"},"list":[{"x":1}],"n":null,"e":"a\nb"}"#;
    for all in [true, false] {
        let demand = Demand { all, ..Demand::of(["uid", "client.os", "client", "list.0.x", "none", "e", "_topic", "_nothing"]) };
        let out = outputs(json!({"format": "json"}), demand, lines(&[line, line]));
        let (_, batch) = &out.batches[0];
        let row = batch.row(1);
        let get = |path: &str| format!("{:?}", row.find(&batch.schema().resolve(path).unwrap(), &mut String::new()));
        assert_eq!(get("uid"), "Str(\"u1\")");
        assert_eq!(get("client.os"), "Str(\"ios\")");
        assert_eq!(get("client"), "Json(\"{\\\"os\\\":\\\"ios\\\"}\")");
        assert_eq!(get("list.0.x"), "Num(\"1\")");
        assert_eq!(get("none"), "Missing");
        assert_eq!(get("e"), "Str(\"a\\nb\")");
        assert_eq!(get("_topic"), "Str(\"t1\")");
        assert_eq!(batch.schema().resolve("_nothing"), None);
        assert_eq!(batch.schema().resolve("other").is_some(), all);
        if all {
            assert_eq!(written(&out)[0].as_bytes(), line);
        }
    }
}

#[test]
fn declared_fields_have_their_types() {
    let config = json!({"fields": {"ts": "bigint", "price": "decimal(18,2)", "ok": "boolean", "client.os": "string", "d": "double",
        "t": "timestamp", "m": "map", "l": "array", "any": "any", "gone": "string", "s": "string"}});
    let cases = [
        (
            r#"{"x":1,"ts":1700000000123,"price":0.10,"ok":true,"client":{"os":"ios"},"d":1.50,"t":"2024-01-02T03:04:05Z","m":{"a":1},"l":[1],"any":[],"s":"a/b"}"#,
            r#"{"ts":1700000000123,"price":0.10,"ok":true,"client.os":"ios","d":1.50,"t":"2024-01-02T03:04:05Z","m":{"a":1},"l":[1],"any":[],"s":"a/b"}"#,
        ),
        (
            r#"{"ts":"12","price":"0.125","ok":"false","client":5,"d":"1e3","m":"{\"a\":1}","any":"q\"","s":12,"gone":null}"#,
            r#"{"ts":12,"price":0.13,"ok":false,"d":1000.0,"m":{"a":1},"any":"q\"","gone":null,"s":"12"}"#,
        ),
        (r#"{"ts":1e3,"price":3,"d":-0.0,"s":true,"e":"\n"}"#, r#"{"ts":1000,"price":3.00,"d":-0.0,"s":"true"}"#),
        ("{}", "{}"),
    ];
    for (line, want) in cases {
        assert_eq!(good(config.clone(), line), want);
    }
}

#[test]
fn values_of_a_wrong_type_reject_the_record() {
    let all = ["string", "bigint", "double", "decimal(5,2)", "boolean", "timestamp", "map", "array"];
    // Which types take the value, converting and strictly.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("1", &["string", "bigint", "double", "decimal(5,2)", "boolean"], &["bigint", "double", "decimal(5,2)"]),
        ("1.5", &["string", "double", "decimal(5,2)"], &["double", "decimal(5,2)"]),
        ("12345678901234567890", &["string", "double"], &["double"]),
        ("1e999", &["string"], &[]),
        ("true", &["string", "boolean"], &["boolean"]),
        (r#""abc""#, &["string"], &["string"]),
        (r#""12""#, &["string", "bigint", "double", "decimal(5,2)"], &["string"]),
        (r#""2024-01-01T00:00:00Z""#, &["string", "timestamp"], &["string", "timestamp"]),
        (r#"{"a":1}"#, &["map"], &["map"]),
        ("[1]", &["array"], &["array"]),
        ("null", &all, &all),
    ];
    for (value, converting, strictly) in cases {
        for (strict, takes) in [(false, converting), (true, strictly)] {
            for ty in all {
                let line = format!("{{\"v\":{value}}}");
                let (rows, rejects) = run(json!({"fields": {"v": ty}, "strict": strict}), Demand::all(), &[line.as_bytes()]);
                assert_eq!(
                    (rows.len(), rejects.len()),
                    if takes.contains(&ty) { (1, 0) } else { (0, 1) },
                    "{value} as {ty}, strict: {strict}"
                );
                if let Some((reason, message)) = rejects.first() {
                    assert_eq!(*reason, "wrong-type");
                    assert!(message.starts_with("field `v`: "), "{message}");
                }
            }
        }
    }
    // Also a field that nobody reads, and with decoded text before it.
    let config = json!({"fields": {"s": "string", "v": "bigint"}});
    let (rows, rejects) = run(config, Demand::of(["s"]), &[br#"{"s":"\n","v":"x"}"#, br#"{"s":"\n","v":"7"}"#, br#"{"s":"a"}"#]);
    assert_eq!(rows, [r#"{"s":"\n"}"#, r#"{"s":"a"}"#]);
    assert_eq!(rejects, [("wrong-type", "field `v`: `x` is no bigint".into())]);
}

#[test]
fn malformed_json_is_rejected_with_reason_and_place() {
    let deep = [b"{\"a\":".to_vec(), b"[".repeat(10_000), b"]".repeat(10_000), b"}".to_vec()].concat();
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "invalid-json", "expected a JSON object, but the text is empty"),
        (b"{\"a\":1", "invalid-json", "the text ends too soon, after byte 6"),
        (b"{\"a\":NaN}", "invalid-json", "expected a value at byte 6"),
        (b"[1]", "not-an-object", "expected a JSON object at byte 1"),
        (b"{\"a\":\"\xff\"}", "invalid-utf8", "invalid UTF-8 at byte 7"),
        (&deep, "too-deep", "nested deeper than 128 levels at byte 133"),
    ];
    for (line, reason, message) in cases {
        assert_eq!(bad(json!({}), line), (*reason, message.to_string()));
        // One bad line does not touch its neighbours, though the batch is no longer all UTF-8.
        let (rows, rejects) = run(json!({}), Demand::all(), &["{\"é\":1}".as_bytes(), line, b"{\"b\":2}"]);
        assert_eq!((rows, rejects.len()), (vec!["{\"é\":1}".to_string(), "{\"b\":2}".to_string()], 1));
    }
}

#[test]
fn missing_fields() {
    let line: &[u8] = br#"{"a":null}"#;
    let config = json!({"fields": {"a": "bigint", "b": "any", "c.d": "string"}, "on_missing": "reject"});
    assert_eq!(bad(config, line), ("missing-field", "field `b` is missing".into()));
    assert_eq!(good(json!({"fields": {"a": "bigint", "b": "any"}, "on_missing": null}), "{\"a\":null}"), r#"{"a":null}"#);
    assert_eq!(good(json!({"fields": {"a": "bigint"}, "on_missing": "null"}), "{}"), "{}");
}

#[test]
fn text_is_never_copied() {
    let input = lines(&[br#"{"uid":"u1","n":1,"c":{"os":"x"}}"#, br#"{"uid":"u2","n":2,"c":{"os":"y"}}"#]);
    let before = input.text().to_vec();
    let config = json!({"fields": {"uid": "string", "n": "bigint", "c": "map", "c.os": "string"}});
    let out = outputs(config, Demand::all(), input);
    assert_eq!(out.batches[0].1.text(), before);
    let out = outputs(
        json!({"format": "delimiter", "delimiter": ",", "fields": {"a": "string", "b": "bigint"}}),
        Demand::all(),
        lines(&[b"x,1", b"y,2"]),
    );
    assert_eq!(out.batches[0].1.text(), b"x,1\nt1y,2\nt1");
}

#[test]
fn other_fields_of_the_row_stay() {
    let rows = |fields: &[(&str, &str)], values: &[(&str, &str)]| {
        let mut b = BatchBuilder::new(schema(fields));
        for v in values {
            b.push_str(v.0);
            b.push_str(v.1);
            b.end_row(Meta::default());
        }
        b.finish()
    };
    let closed = || rows(&[("id", "string"), ("payload", "string")], &[("1", r#"{"a":"\"","b":2}"#), ("2", "")]);
    let out = outputs(json!({"field": "payload", "fields": {"a": "string"}}), Demand::all(), closed());
    assert_eq!(written(&out), [r#"{"a":"\"","id":"1"}"#]);
    assert!(out.rejects[0].is_row && out.rejects[0].body == br#"{"id":"2","payload":""}"#);
    let out = outputs(json!({"field": "payload", "fields": {"a": "string"}}), Demand::of(["a", "payload"]), closed());
    assert_eq!(written(&out), [r#"{"a":"\""}"#]);
    let config = json!({"field": "payload", "fields": {"id": "string"}});
    let found = Setup::new("StringToMap", config, vec![Edge::new(closed().schema().clone())]).bind().err().unwrap();
    assert_eq!(found[0].id, "field-clash");
}

#[test]
fn a_container_or_a_text_without_terminator_can_be_parsed_too() {
    let mut b = BatchBuilder::new(schema(&[("p", "any")]));
    b.push_json(r#"{"a":1}"#);
    b.end_row(Meta::default());
    b.push_int(5);
    b.end_row(Meta::default());
    b.push_null();
    b.end_row(Meta::default());
    let out = outputs(json!({"field": "p"}), Demand::all(), b.finish());
    assert_eq!(written(&out), [r#"{"a":1}"#]);
    let reasons: Vec<_> = out.rejects.iter().map(|r| (r.reason, r.message.as_str())).collect();
    assert_eq!(reasons, [("wrong-type", "field `p` is a number, no text"), ("missing-field", "field `p` is null")]);
}

#[test]
fn every_text_format() {
    let cases = [
        (
            json!({"format": "delimiter", "delimiter": "\t", "fields": {"uid": "string", "ts": "bigint", "price": "decimal(18,2)", "os": "string"}}),
            "u\"1\t007\t0.1\t",
            r#"{"uid":"u\"1","ts":7,"price":0.10,"os":""}"#,
        ),
        (
            json!({"format": "csv", "fields": {"a": "string", "b": "double", "c": "string"}}),
            "\"x,\"\"y\",1.50,z\r",
            r#"{"a":"x,\"y","b":1.50,"c":"z"}"#,
        ),
        (
            json!({"format": "dissect", "pattern": "%{ip} - [%{time}] \"%{method} %{path}\" %{n}", "fields": {"n": "bigint"}, "null_values": "-"}),
            "10.0.0.1 - [now] \"GET /a b\" -",
            r#"{"ip":"10.0.0.1","time":"now","method":"GET","path":"/a b","n":null}"#,
        ),
        (
            json!({"format": "regex", "pattern": r"^(?P<ip>\S+) (?<n>\d+)(?: (?<opt>x))?$", "fields": {"n": "bigint"}}),
            "h 12",
            r#"{"ip":"h","n":12}"#,
        ),
        (
            json!({"format": "grok", "pattern": "%{IP:ip} %{NUMBER:n:int} %{MY:m}", "patterns": {"MY": "[a-c]+"}}),
            "10.1.2.3 42 abc",
            r#"{"ip":"10.1.2.3","n":42,"m":"abc"}"#,
        ),
        (
            json!({"format": "key_value", "fields": {"b": "string", "a": "bigint", "z": "string"}}),
            "a=1 b=\"x \\\"y\" c=2",
            r#"{"b":"x \"y","a":1}"#,
        ),
        (json!({"format": "key_value", "pair_separator": "|"}), "a=1|b|=c|a=2", r#"{"b":"","":"c","a":"2"}"#),
        (json!({"format": "query_string", "fields": {"q": "string", "n": "bigint"}}), "n=7&q=a+b%C3%A9%22", r#"{"q":"a bé\"","n":7}"#),
        (json!({"format": "query_string"}), "/path?x=1&y=%20", r#"{"x":"1","y":" "}"#),
    ];
    for (config, line, want) in cases {
        assert_eq!(good(config.clone(), line), want, "{config}");
        let bytes = [line.as_bytes(), b"\xff"].concat();
        assert_eq!(bad(config, &bytes).0, "invalid-utf8");
    }
    let some = json!({"format": "key_value"});
    let (rows, _) = run(some, Demand::of(["b", "c"]), &[b"a=1 b=2"]);
    assert_eq!(rows, [r#"{"b":"2"}"#]);
}

#[test]
fn lines_that_do_not_fit_are_rejected() {
    let columns = json!({"format": "delimiter", "delimiter": "||", "fields": {"a": "string", "b": "bigint"}, "on_missing": "reject"});
    let cases = [
        (columns.clone(), "a", "column-count", "expected 2 columns, found 1"),
        (columns.clone(), "a||b||c", "column-count", "expected 2 columns, found 3"),
        (columns.clone(), "a||b", "wrong-type", "field `b`: `b` is no bigint"),
        (columns, "a||", "wrong-type", "field `b`: `` is no bigint"),
        (json!({"format": "csv", "fields": {"a": "string"}}), "\"a", "invalid-csv", "the quote at byte 1 is never closed"),
        (
            json!({"format": "csv", "fields": {"a": "string"}}),
            "\"a\"b",
            "invalid-csv",
            "expected the delimiter after the closing quote at byte 3",
        ),
        (json!({"format": "dissect", "pattern": "[%{a}] %{b}"}), "[x]y", "no-match", "expected `] ` at or after byte 2"),
        (json!({"format": "regex", "pattern": "^(?P<a>x)$"}), "y", "no-match", "the regular expression does not match"),
        (json!({"format": "grok", "pattern": "%{IP:a}"}), "y", "no-match", "the grok pattern does not match"),
        (json!({"format": "key_value"}), "a=\"x", "bad-quoting", "the quote at byte 3 is never closed"),
        (json!({"format": "regex", "pattern": "(?P<a>x)?", "on_missing": "reject"}), "y", "missing-field", "field `a` is missing"),
    ];
    for (config, line, reason, message) in cases {
        assert_eq!(bad(config, line.as_bytes()), (reason, message.into()));
    }
}

#[test]
fn configs_that_cannot_work_say_why() {
    let cases = [
        (json!({"field": "nope"}), "unknown-field"),
        (json!({"fields": {"a": "strin"}}), "unknown-type"),
        (json!({"fields": {"a": "string"}, "schema": "x.yaml"}), "two-schemas"),
        (json!({"schema": "no-such-file.yaml"}), "missing-schema"),
        (json!({"delimiter": ","}), "useless-key"),
        (json!({"format": "delimiter", "delimiter": ","}), "missing-key"),
        (json!({"format": "delimiter", "fields": {"a": "string"}}), "missing-key"),
        (json!({"format": "delimiter", "delimiter": "", "fields": {"a": "string"}}), "invalid-format"),
        (json!({"format": "csv", "delimiter": "ab", "fields": {"a": "string"}}), "invalid-format"),
        (json!({"format": "csv", "quote": ",", "fields": {"a": "string"}}), "invalid-format"),
        (json!({"format": "regex"}), "missing-key"),
        (json!({"format": "regex", "pattern": "("}), "invalid-format"),
        (json!({"format": "regex", "pattern": "x"}), "invalid-format"),
        (json!({"format": "regex", "pattern": "(?P<a>x)", "fields": {"b": "bigint"}}), "unknown-field"),
        (json!({"format": "grok", "pattern": "%{NO_SUCH:a}"}), "invalid-format"),
        (json!({"format": "grok", "pattern": "%{WORD:a:money}"}), "invalid-format"),
        (json!({"format": "dissect", "pattern": "abc"}), "invalid-format"),
        (json!({"format": "dissect", "pattern": "%{a}%{b}"}), "invalid-format"),
        (json!({"format": "key_value", "strict": true}), "useless-key"),
        (json!({"formt": "json"}), "invalid-config"),
    ];
    for (config, id) in cases {
        assert_eq!(problems(config.clone())[0].0, id, "{config}");
    }
}

#[test]
fn a_schema_file_declares_fields() {
    let dir = std::env::temp_dir().join(format!("millrace-schema-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("schemas")).unwrap();
    std::fs::write(dir.join("schemas/click.yaml"), "description: clicks\nfields:\n  uid: string\n  ts: bigint\n").unwrap();
    let mut setup = Setup::new("StringToMap", json!({"schema": "schemas/click.yaml"}), vec![Edge::new(lines(&[]).schema().clone())]);
    setup.env.base_dir = dir.clone();
    let bound = setup.bind().unwrap_or_else(|p| panic!("{p:?}")).1;
    assert_eq!(bound.outputs[0].schema.names().collect::<Vec<_>>(), ["uid", "ts"]);
    std::fs::write(dir.join("schemas/click.yaml"), "felds: {}\n").unwrap();
    assert_eq!(setup.bind().err().unwrap()[0].id, "invalid-schema");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn spans_may_lie_anywhere_in_a_batch() {
    // Rows that were filtered out leave their text; what is left must not read into it.
    let mut batch = lines(&[b"{\"a\":1}", b"{\"a\":2", b"{\"a\":3}"]);
    batch.retain(|i| i != 0);
    let out = outputs(json!({"fields": {"a": "bigint"}}), Demand::all(), batch);
    assert_eq!((written(&out), out.rejects.len()), (vec!["{\"a\":3}".to_string()], 1));
    assert_eq!(out.rejects[0].meta.raw, Span { off: 10, len: 6 });
}

/// What a declared field of the type holds, written as JSON; None: it is no such thing.
fn declared(text: &str, ty: &str) -> Option<String> {
    match ty {
        "bigint" => text.trim_ascii().parse::<i64>().ok().map(|n| n.to_string()),
        "boolean" => match text.trim_ascii() {
            "true" | "1" => Some("true".into()),
            "false" | "0" => Some("false".into()),
            _ => None,
        },
        _ => Some(Json::from(text).to_string()),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 1500, ..Default::default() })]
    #[test]
    fn fields_of_plain_text_are_what_str_gives(
        input in proptest::collection::vec("([a-bé\"\\\\\n=]{0,3}|true|-?[0-9]{1,20})([\t=]([ab\"\n]{0,2}|true| 7|[0-9]{1,3})){0,3}", 1..8),
        types in proptest::collection::vec(proptest::sample::select(vec!["string", "bigint", "boolean"]), 2),
        how in 0..4usize, some in proptest::bool::ANY, null in proptest::option::of("[ab7]"),
    ) {
        let fields = json!({"x": types[0], "y": types[1]});
        let mut config = match how {
            0 => json!({"format": "delimiter", "delimiter": "\t", "fields": fields}),
            1 => json!({"format": "delimiter", "delimiter": "=", "fields": fields}),
            2 => json!({"format": "dissect", "pattern": "%{x}=%{y}", "fields": fields}),
            _ => json!({"format": "regex", "pattern": "^(?P<x>[^=]*)=(?P<y>(?s:.)*)$", "fields": fields}),
        };
        if let Some(null) = &null {
            config["null_values"] = Json::from(vec![null.as_str()]);
        }
        let split = |line: &str| -> Option<[String; 2]> {
            let separator = if how == 0 { '\t' } else { '=' };
            let (x, y) = line.split_once(separator)?;
            (how > 1 || !y.contains(separator)).then(|| [x.into(), y.into()])
        };
        let (mut rows, mut reasons) = (vec![], vec![]);
        for line in &input {
            let Some(texts) = split(line) else {
                reasons.push(if how < 2 { "column-count" } else { "no-match" });
                continue;
            };
            let value = |i: usize| if null.as_ref() == Some(&texts[i]) { Some("null".into()) } else { declared(&texts[i], types[i]) };
            match (value(0), value(1)) {
                (Some(_), Some(y)) if some => rows.push(format!("{{\"y\":{y}}}")),
                (Some(x), Some(y)) => rows.push(format!("{{\"x\":{x},\"y\":{y}}}")),
                _ => reasons.push("wrong-type"),
            }
        }
        let bytes: Vec<&[u8]> = input.iter().map(|l| l.as_bytes()).collect();
        let demand = if some { Demand::of(["y"]) } else { Demand::all() };
        let (got, rejects) = run(config, demand, &bytes);
        proptest::prop_assert_eq!(got, rows);
        proptest::prop_assert_eq!(rejects.iter().map(|r| r.0).collect::<Vec<_>>(), reasons);
    }
}
