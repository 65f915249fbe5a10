use crate::testing::{Setup, schema};
use millrace_sdk::operator::{Exec, Outputs};
use millrace_sdk::{Batch, BatchBuilder, Bind, Demand, Edge, Field, Meta, Schema, Type, json};
use serde_json::json;

fn run(config: serde_json::Value, demand: Demand, batch: Batch) -> Outputs {
    let setup = Setup::new("SplitElement", config, vec![Edge::new(batch.schema().clone())]);
    let spec = setup.spec().unwrap_or_else(|p| panic!("{p:?}"));
    let bind = Bind { inputs: &setup.inputs, demands: &[demand], env: &setup.env, stores: &[] };
    let bound = spec.bind(&bind).unwrap_or_else(|p| panic!("{p:?}"));
    let mut out = Outputs::default();
    match bound.exec {
        Exec::Pass => out.emit(0, batch),
        Exec::Stateless(make) => {
            let mut operator = make();
            operator.process(batch, &mut out);
            while std::mem::take(&mut out.unfinished) {
                operator.resume(&mut out);
            }
        }
        _ => panic!("stateless"),
    }
    out
}

fn written(out: &Outputs) -> Vec<String> {
    let mut texts = vec![];
    for (_, b) in &out.batches {
        for row in b.rows() {
            let mut text = vec![];
            json::write_row(&row, b.schema(), &mut text);
            texts.push(String::from_utf8(text).unwrap());
        }
    }
    texts
}

/// Rows `{id, a}` whose `a` is JSON.
fn closed(arrays: &[&str]) -> Batch {
    let mut b = BatchBuilder::new(schema(&[("id", "bigint"), ("a", "any"), ("_k", "string")]));
    for (i, a) in arrays.iter().enumerate() {
        b.push_int(i as i64);
        b.push_val(json::view(a, &mut String::new()));
        b.push_str("k");
        b.end_row(Meta { offset: i as u64, ..Meta::default() });
    }
    b.finish()
}

fn open(lines: &[&str]) -> Batch {
    let mut b = BatchBuilder::new(Schema::open(vec![Field::hidden("x", Type::Any)]));
    for line in lines {
        b.push_val(json::lookup(millrace_sdk::Val::Json(line), &["x".into()], &mut String::new()));
        b.push_json(line);
        b.end_row(Meta::default());
    }
    b.finish()
}

#[test]
fn without_a_config_rows_pass() {
    assert_eq!(written(&run(json!({}), Demand::all(), closed(&["[1]"]))), [r#"{"id":0,"a":[1]}"#]);
}

#[test]
fn arrays() {
    let all = Demand::all;
    let cases = [
        (
            json!({"field": "a", "into": "e"}),
            all(),
            "[1,\"x\\n\",null,[2],{\"k\":3},\"\"]",
            vec![
                r#"{"id":0,"e":1}"#,
                r#"{"id":0,"e":"x\n"}"#,
                r#"{"id":0,"e":null}"#,
                r#"{"id":0,"e":[2]}"#,
                r#"{"id":0,"e":{"k":3}}"#,
                r#"{"id":0,"e":""}"#,
            ],
        ),
        (json!({"field": "a", "into": "a", "index": "i"}), all(), "[7, 8]", vec![r#"{"id":0,"a":7,"i":0}"#, r#"{"id":0,"a":8,"i":1}"#]),
        (json!({"field": "a"}), all(), r#"[{"x":1,"id":9},{"y":[2, 3]}]"#, vec![r#"{"id":0,"x":1}"#, r#"{"id":0,"y":[2,3]}"#]),
        (json!({"field": "a"}), Demand::of(["id", "x.y"]), r#"[{"x":{"y":1}},{}]"#, vec![r#"{"id":0,"x.y":1}"#, r#"{"id":0}"#]),
        (
            json!({"field": "a", "fields": {"x": "bigint", "s": "string"}}),
            all(),
            r#"[{"x":"1","s":2},{}]"#,
            vec![r#"{"id":0,"x":1,"s":"2"}"#, r#"{"id":0}"#],
        ),
        (
            json!({"field": "a.l", "into": "e"}),
            all(),
            r#"{"l":[1,2]}"#,
            vec![r#"{"id":0,"a":{"l":[1,2]},"e":1}"#, r#"{"id":0,"a":{"l":[1,2]},"e":2}"#],
        ),
        (
            json!({"field": "a", "delimiter": ", "}),
            all(),
            r#""x, , \"z""#,
            vec![r#"{"id":0,"a":"x"}"#, r#"{"id":0,"a":""}"#, r#"{"id":0,"a":"\"z"}"#],
        ),
        (
            json!({"field": "a", "delimiter": "|", "into": "t", "skip_empty": true}),
            all(),
            r#""|x||y|""#,
            vec![r#"{"id":0,"t":"x"}"#, r#"{"id":0,"t":"y"}"#],
        ),
    ];
    for (config, demand, array, want) in cases {
        let out = run(config.clone(), demand, closed(&[array]));
        assert_eq!(written(&out), want, "{config}");
        assert!(out.rejects.is_empty());
    }
}

#[test]
fn rows_without_elements() {
    let arrays = &["[]", "null", "[1]"];
    let out = run(json!({"field": "a", "into": "e"}), Demand::all(), closed(arrays));
    assert_eq!((written(&out), out.dropped), (vec![r#"{"id":2,"e":1}"#.to_string()], vec![("empty", 2)]));
    let out = run(json!({"field": "a", "into": "e", "index": "i", "on_empty": "keep"}), Demand::all(), closed(arrays));
    assert_eq!(
        (written(&out), out.dropped),
        (vec![r#"{"id":0}"#.into(), r#"{"id":1}"#.into(), r#"{"id":2,"e":1,"i":0}"#.to_string()], vec![])
    );
    let out = run(json!({"field": "a", "on_empty": "keep"}), Demand::all(), closed(arrays[..2].as_ref()));
    assert_eq!(written(&out), [r#"{"id":0}"#, r#"{"id":1}"#]);
    let out = run(json!({"field": "a", "delimiter": ","}), Demand::all(), closed(&["\"\""]));
    assert_eq!(out.dropped, [("empty", 1)]);
}

#[test]
fn a_row_that_cannot_be_split_is_rejected_whole() {
    let cases = [
        (json!({"field": "a"}), "[{},1]", "element 1 of `a` is a number, no object"),
        (json!({"field": "a"}), "{\"x\":1}", "field `a` is a map, no array"),
        (json!({"field": "a"}), "5", "field `a` is a number, no array"),
        (json!({"field": "a", "delimiter": ","}), "[1]", "field `a` is an array, no text"),
        (json!({"field": "a", "fields": {"x": "bigint"}}), r#"[{"x":1},{"x":"y"}]"#, "field `x` of element 1 of `a`: `y` is no bigint"),
    ];
    for (config, array, message) in cases {
        let out = run(config.clone(), Demand::all(), closed(&["[{}]", array, "[{}]"]));
        assert!(written(&out).iter().all(|r| !r.contains("\"id\":1")), "{config}");
        assert_eq!(out.rejects.len(), if config["delimiter"].is_null() { 1 } else { 3 });
        let reject = out.rejects.iter().find(|r| r.meta.offset == 1).unwrap();
        assert_eq!((reject.reason, reject.message.as_str()), ("wrong-type", message));
    }
}

#[test]
fn rows_with_undeclared_fields() {
    let line = r#"{"id":1,"items":[{"x":5,"id":2},{"y":6}],"z":"w"}"#;
    let out = run(json!({"field": "items"}), Demand::all(), open(&[line]));
    assert_eq!(written(&out), [r#"{"x":5,"id":1,"z":"w"}"#, r#"{"y":6,"id":1,"z":"w"}"#]);
    let (_, batch) = &out.batches[0];
    let get = |row: usize, name: &str| format!("{:?}", batch.row(row).find(&batch.schema().resolve(name).unwrap(), &mut String::new()));
    assert_eq!(
        (get(0, "x"), get(1, "x"), get(0, "id"), get(1, "y")),
        ("Num(\"5\")".into(), "Missing".into(), "Num(\"1\")".into(), "Num(\"6\")".into())
    );
    let out = run(json!({"field": "items", "into": "item"}), Demand::all(), open(&[line]));
    assert_eq!(written(&out)[1], r#"{"item":{"y":6},"id":1,"z":"w"}"#);
    let out = run(json!({"field": "items", "into": "items"}), Demand::all(), open(&[line]));
    assert_eq!(written(&out)[1], r#"{"items":{"y":6},"id":1,"z":"w"}"#);
    let out = run(json!({"field": "items", "fields": {"y": "string"}}), Demand::all(), open(&[line]));
    assert_eq!(written(&out), [r#"{"id":1,"z":"w"}"#, r#"{"y":"6","id":1,"z":"w"}"#]);
}

#[test]
fn elements_are_not_copied() {
    let batch = closed(&[r#"["a","b",{"c":1}]"#]);
    let before = batch.text().to_vec();
    let out = run(json!({"field": "a", "into": "e"}), Demand::all(), batch);
    assert_eq!(out.batches[0].1.text(), before);
}

#[test]
fn a_huge_array_comes_out_in_pieces() {
    let digits = format!("[{}1]", "1,".repeat(49_999));
    let objects = format!("[{}{{\"x\":1}}]", "{\"x\":0},".repeat(19_999));
    let words = format!("\"{}z\"", "ab, ".repeat(29_999));
    let wide = format!("[{}1]", "1,".repeat(999_999));
    let cases = [
        (json!({"field": "a", "into": "e"}), vec![&*digits, "[]", &*digits], vec![50_000, 0, 50_000], 8192),
        (json!({"field": "a", "fields": {"x": "string"}}), vec![&*objects, "[{}]"], vec![20_000, 1], 8192),
        (json!({"field": "a", "delimiter": ", ", "index": "i"}), vec![&*words], vec![30_000], 8192),
        (json!({"field": "a", "into": "e", "index": "i"}), vec![&*wide, &*digits], vec![1_000_000, 50_000], 65_536),
    ];
    for (config, arrays, counts, most) in cases {
        let out = run(config.clone(), Demand::all(), closed(&arrays));
        assert!(out.batches.iter().all(|(_, b)| b.len() <= most), "{config}");
        let mut seen = vec![0; counts.len()];
        for (_, b) in &out.batches {
            let index = b.schema().slot("i");
            for row in b.rows() {
                let id = row.int(b.schema().slot("id").unwrap()).unwrap() as usize;
                assert!(index.is_none_or(|i| row.int(i) == Some(seen[id])), "{config}");
                seen[id] += 1;
            }
        }
        assert_eq!(seen, counts, "{config}");
    }
}

#[test]
fn a_huge_array_that_is_wrong_at_its_end_is_rejected_whole() {
    let numbers = format!("[{}{{\"x\":\"y\"}}]", "{\"x\":1},".repeat(30_000));
    let objects = format!("[{}7]", "{\"x\":1},".repeat(30_000));
    for (config, array) in [(json!({"field": "a", "fields": {"x": "bigint"}}), numbers), (json!({"field": "a"}), objects)] {
        let out = run(config, Demand::all(), closed(&["[{\"x\":5}]", &array, "[{\"x\":6}]"]));
        assert_eq!(written(&out), [r#"{"id":0,"x":5}"#, r#"{"id":2,"x":6}"#]);
        assert_eq!((out.rejects.len(), out.rejects[0].meta.offset), (1, 1));
    }
}

#[test]
fn a_long_tail_is_kept_once_a_piece_and_without_the_array() {
    let objects = "{\"x\":1},".repeat(10_000);
    let line = format!("{{\"id\":1,\"items\":[{objects}{{\"x\":2, \"id\":3}}, {{ }}],\"z\":\"w\"}}");
    for (config, last) in [
        (json!({"field": "items", "into": "item"}), [r#"{"item":{"x":2,"id":3},"id":1,"z":"w"}"#, r#"{"item":{},"id":1,"z":"w"}"#]),
        (json!({"field": "items"}), [r#"{"x":2,"id":1,"z":"w"}"#, r#"{"id":1,"z":"w"}"#]),
    ] {
        let out = run(config, Demand::all(), open(&[&line]));
        let rows = written(&out);
        assert_eq!((rows.len(), &rows[10_000..]), (10_002, last.map(String::from).as_slice()));
        let bytes: usize = out.batches.iter().map(|(_, b)| b.text().len()).sum();
        assert!(bytes < 3 * line.len() + 10_002 * 40, "{bytes}");
    }
}

#[test]
fn configs_that_cannot_work_say_why() {
    let cases = [
        (json!({"field": "aa"}), "unknown-field"),
        (json!({"field": "n"}), "wrong-type"),
        (json!({"field": "l", "delimiter": ","}), "wrong-type"),
        (json!({"field": "s"}), "wrong-type"),
        (json!({"into": "x"}), "missing-key"),
        (json!({"field": "s", "delimiter": ""}), "invalid-delimiter"),
        (json!({"field": "l", "into": "n"}), "field-clash"),
        (json!({"field": "l", "into": "x", "index": "x"}), "field-clash"),
        (json!({"field": "l", "fields": {"n": "bigint"}}), "field-clash"),
        (json!({"field": "l", "fields": {"x": "bigin"}}), "unknown-type"),
        (json!({"field": "l", "into": "x", "fields": {"x": "bigint"}}), "field-clash"),
        (json!({"field": "l", "into": "x", "fields": {"y": "bigint"}}), "useless-key"),
        (json!({"fild": "l"}), "invalid-config"),
    ];
    for (config, id) in cases {
        let input = Edge::new(schema(&[("n", "bigint"), ("l", "array"), ("s", "string")]));
        let found = Setup::new("SplitElement", config.clone(), vec![input]).bind().err().expect("a problem");
        assert_eq!(found[0].id, id, "{config}: {found:?}");
    }
}

#[test]
fn demands() {
    let demand = |config, wanted: Demand| {
        let setup = Setup::new("SplitElement", config, vec![]);
        setup.spec().unwrap_or_else(|p| panic!("{p:?}")).demand(&[wanted]).remove(0)
    };
    assert_eq!(demand(json!({}), Demand::of(["x"])), Demand::of(["x"]));
    assert_eq!(demand(json!({"field": "a", "into": "e", "index": "i"}), Demand::of(["e.x", "i", "b"])), Demand::of(["a", "b"]));
    assert_eq!(demand(json!({"field": "a", "fields": {"x": "any"}}), Demand::of(["x", "b"])), Demand::of(["a", "b"]));
}
