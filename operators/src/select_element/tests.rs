use crate::testing::{Job, Setup, schema};
use millrace_sdk::operator::{Exec, Outputs};
use millrace_sdk::{BatchBuilder, Bind, Demand, Edge, Field, Meta, Schema, Type, json};
use serde_json::json;

/// What a JSON sink would write of rows that have the tail `...` and a field `_topic`.
fn open(config: serde_json::Value, lines: &[&str]) -> (Vec<String>, Vec<(&'static str, String)>) {
    let mut rows = BatchBuilder::new(Schema::open(vec![Field::hidden("uid", Type::Any), Field::hidden("_topic", Type::String)]));
    for line in lines {
        let uid: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        match uid.get("uid").and_then(|u| u.as_str()) {
            Some(u) => rows.push_str(u),
            None => rows.push_missing(),
        }
        rows.push_str("t");
        rows.push_json(line);
        rows.end_row(Meta::default());
    }
    written(config, rows)
}

fn written(config: serde_json::Value, rows: BatchBuilder) -> (Vec<String>, Vec<(&'static str, String)>) {
    let batch = rows.finish();
    let setup = Setup::new("SelectElement", config, vec![Edge::new(batch.schema().clone())]);
    let bound = setup.bind().unwrap_or_else(|p| panic!("{p:?}")).1;
    let mut out = Outputs::default();
    match bound.exec {
        Exec::Pass => out.emit(0, batch),
        Exec::Stateless(make) => make().process(batch, &mut out),
        _ => panic!("not stateless"),
    }
    let mut texts = vec![];
    for (_, b) in &out.batches {
        assert_eq!(b.schema(), &bound.outputs[0].schema);
        for row in b.rows() {
            let mut text = vec![];
            json::write_row(&row, b.schema(), &mut text);
            texts.push(String::from_utf8(text).unwrap());
        }
    }
    (texts, out.rejects.into_iter().map(|r| (r.reason, r.message)).collect())
}

const LINE: &str =
    r#"{"uid":"u1","client":{"os":"ios","v.w":[10,20.50]},"items":[{"id":1},{"id":20000000000000000001}],"n":"7","gone":null}"#;

#[test]
fn chooses_and_renames() {
    let cases = [
        (json!({"fields": ["uid", "client.os", "none"]}), r#"{"uid":"u1","client.os":"ios"}"#),
        (
            json!({"fields": {"u": "uid", "os": "$.client.os", "v": "$.client['v.w'][1]", "i": "items.1.id"}}),
            r#"{"u":"u1","os":"ios","v":20.50,"i":20000000000000000001}"#,
        ),
        (
            json!({"fields": {"ids": "$.items[*].id", "all": "$..id", "last": "$.items[-1]", "x": "$.none[*]", "big": "$.items[?@.id > 1].id"}}),
            r#"{"ids":[1,20000000000000000001],"all":[1,20000000000000000001],"last":[{"id":20000000000000000001}],"big":[20000000000000000001]}"#,
        ),
        (
            json!({"fields": {"n": "n", "os": "client.os", "g": "gone", "m": "none"}, "types": {"n": "bigint"}, "defaults": {"g": 0, "m": "-"}}),
            r#"{"n":7,"os":"ios","g":0,"m":"-"}"#,
        ),
        (
            json!({"fields": {"m": "none", "d": "none2"}, "types": {"m": "bigint", "d": "decimal(5,2)"}, "defaults": {"m": "12", "d": 1}}),
            r#"{"m":12,"d":1.00}"#,
        ),
    ];
    for (config, want) in cases {
        assert_eq!(open(config.clone(), &[LINE]), (vec![want.to_string()], vec![]), "{config}");
    }
}

#[test]
fn drops_renames_and_types_in_an_open_row() {
    let line = r#"{"uid":"u1","a":1,"b":"2","c":null}"#;
    let cases = [
        (json!({}), r#"{"uid":"u1","a":1,"b":"2","c":null}"#),
        (json!({"drop": ["a", "c"]}), r#"{"uid":"u1","b":"2"}"#),
        (json!({"drop": ["uid"]}), r#"{"a":1,"b":"2","c":null}"#),
        (json!({"rename": {"user": "uid", "x": "a"}}), r#"{"user":"u1","x":1,"b":"2","c":null}"#),
        (json!({"rename": {"a": "b"}, "drop": ["a"]}), r#"{"a":"2","uid":"u1","c":null}"#),
        (json!({"rename": {"a": "b", "b": "a"}}), r#"{"a":"2","b":1,"uid":"u1","c":null}"#),
        (json!({"types": {"b": "bigint"}, "defaults": {"c": 5, "d": "x"}}), r#"{"b":2,"c":5,"d":"x","uid":"u1","a":1}"#),
        (json!({"types": {"uid": "string"}}), r#"{"uid":"u1","a":1,"b":"2","c":null}"#),
    ];
    for (config, want) in cases {
        assert_eq!(open(config.clone(), &[line]), (vec![want.to_string()], vec![]), "{config}");
    }
}

#[test]
fn what_does_not_convert_is_rejected() {
    let (rows, rejects) =
        open(json!({"fields": {"n": "n"}, "types": {"n": "bigint"}}), &[r#"{"n":"x"}"#, r#"{"n":1}"#, r#"{"n":[1]}"#, "{}"]);
    assert_eq!(rows, [r#"{"n":1}"#, "{}"]);
    assert_eq!(rejects, [("wrong-type", "field `n`: `x` is no bigint".into()), ("wrong-type", "field `n`: an array is no bigint".into())]);
    let deep = format!("{{\"n\":{}1{}}}", "[".repeat(127), "]".repeat(127));
    assert_eq!(open(json!({"fields": {"n": "$..x"}}), &[&deep]).1[0].0, "too-deep");
}

#[test]
fn closed_rows() {
    let fields: &[(&str, &str)] = &[("a", "bigint"), ("b", "string"), ("m", "map"), ("_topic", "string")];
    let row = || vec![json!({"a": 1, "b": "x", "m": {"k": 2}, "_topic": "t"})];
    let out = |config| Job::operator("SelectElement", config, fields).run(row()).lines("").remove(0);
    assert_eq!(out(json!({"drop": ["m"]})), r#"{"a":1,"b":"x","_topic":"t"}"#);
    assert_eq!(out(json!({"rename": {"c": "b"}})), r#"{"a":1,"c":"x","m":{"k":2},"_topic":"t"}"#);
    assert_eq!(out(json!({"fields": ["m.k", "b"]})), r#"{"m.k":2,"b":"x"}"#);
    assert_eq!(out(json!({"fields": ["b", "a"], "types": {"a": "string"}})), r#"{"b":"x","a":"1"}"#);
}

#[test]
fn only_new_names_cost_nothing() {
    let fields: &[(&str, &str)] = &[("a", "bigint"), ("b", "string")];
    for config in [json!({}), json!({"fields": ["a", "b"]})] {
        let bound = Setup::new("SelectElement", config, vec![Edge::new(schema(fields))]).bind().unwrap_or_else(|p| panic!("{p:?}")).1;
        assert!(matches!(bound.exec, Exec::Pass));
    }
    let mut job = Job::operator("SelectElement", json!({"fields": {"x": "a", "y": "b"}}), fields);
    assert_eq!(job.run(vec![json!({"a": 1, "b": "é"})]).lines(""), [r#"{"x":1,"y":"é"}"#]);
}

#[test]
fn only_what_is_wanted_is_put_out() {
    let setup = Setup::new(
        "SelectElement",
        json!({"fields": ["a", "b", "c"], "types": {"c": "string"}}),
        vec![Edge::new(schema(&[("a", "bigint"), ("b", "string"), ("c", "bigint"), ("_topic", "string")]))],
    );
    let spec = setup.spec().unwrap_or_else(|p| panic!("{p:?}"));
    let names = |demand: Demand| {
        let bound = spec
            .bind(&Bind { inputs: &setup.inputs, demands: &[demand], env: &setup.env, stores: &[] })
            .unwrap_or_else(|p| panic!("{p:?}"));
        bound.outputs[0].schema.names().map(String::from).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(Demand::all()), "a b c");
    assert_eq!(names(Demand::of(["b", "_topic"])), "b c _topic");
    assert_eq!(names(Demand::of(["bb"])), "a b c");
    assert_eq!(spec.demand(&[Demand::of(["b", "_topic"])])[0], Demand::of(["a", "b", "c", "_topic"]));
    assert_eq!(
        Job::keyed_edge("SelectElement", json!({"drop": ["b"]}), &[("a", "bigint"), ("b", "string")], &["a"]),
        Some(vec!["a".into()])
    );
    assert_eq!(Job::keyed_edge("SelectElement", json!({"drop": ["a"]}), &[("a", "bigint"), ("b", "string")], &["a"]), None);
}

#[test]
fn demands_go_by_old_names() {
    let demand = |config, wanted: Demand| {
        let setup = Setup::new("SelectElement", config, vec![]);
        setup.spec().unwrap_or_else(|p| panic!("{p:?}")).demand(&[wanted]).remove(0)
    };
    assert_eq!(demand(json!({}), Demand::of(["x"])), Demand::of(["x"]));
    assert_eq!(demand(json!({"rename": {"x": "y"}, "drop": ["z"]}), Demand::of(["x", "z", "w"])), Demand::of(["y", "w"]));
    assert_eq!(demand(json!({"fields": {"x": "$.a.b[0]", "y": "$.c[*].d"}}), Demand::all()), Demand::of(["a.b.0", "c"]));
    assert_eq!(demand(json!({"fields": {"x": "$..a"}}), Demand::of(["x"])), Demand::all());
}

#[test]
fn configs_that_cannot_work_say_why() {
    let fields: &[(&str, &str)] = &[("a", "bigint"), ("b", "string")];
    let cases = [
        (json!({"fields": ["aa"]}), "unknown-field"),
        (json!({"fields": ["b.x"]}), "unknown-field"),
        (json!({"fields": []}), "nothing-to-do"),
        (json!({"fields": ["a", "a"]}), "named-twice"),
        (json!({"fields": {"x": "$.a["}}), "invalid-path"),
        (json!({"fields": ["a"], "drop": ["b"]}), "useless-key"),
        (json!({"drop": ["c"]}), "unknown-field"),
        (json!({"rename": {"b": "a"}}), "field-clash"),
        (json!({"rename": {"x": "a"}, "drop": ["a"]}), "field-clash"),
        (json!({"types": {"a": "int8"}}), "unknown-type"),
        (json!({"types": {"c": "string"}}), "unknown-field"),
        (json!({"defaults": {"a": "x"}}), "wrong-type"),
        (json!({"field": ["a"]}), "invalid-config"),
    ];
    for (config, id) in cases {
        let found = Setup::new("SelectElement", config.clone(), vec![Edge::new(schema(fields))]).bind().err().expect("a problem");
        assert_eq!(found[0].id, id, "{config}: {found:?}");
    }
}
