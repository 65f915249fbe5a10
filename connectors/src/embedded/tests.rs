use super::*;
use millrace_sdk::codec::RowBuf;
use millrace_sdk::sink::Acks;
use millrace_sdk::{BatchBuilder, Bind, Clock, Edge, Kind, Meta, Schema, SinkContext, SinkSpec, Slot, Ticket, Type, part::Make};
use serde_json::json;
use std::fs;

fn env(dir: &Path) -> Env {
    Env { base_dir: dir.into(), state_dir: dir.join("state"), ..Env::default() }
}

fn ask(config: serde_json::Value, dir: &Path, fields: &[(&str, Type)], keys: &[&str]) -> Result<Vec<Option<String>>, Fault> {
    let spec: EmbeddedStore = serde_json::from_value(config).unwrap();
    let fields: Vec<Field> = fields.iter().map(|(n, t)| Field::new(*n, *t)).collect();
    let store = spec.bind(&fields, &env(dir)).map_err(|p| p[0].message.clone()).unwrap();
    store.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = runtime.block_on(store.get_many(keys.iter().map(|k| k.as_bytes().to_vec()).collect()))?;
    assert_eq!(answers.len(), keys.len());
    let shown = |bytes: Vec<u8>| {
        let mut buf = RowBuf::new();
        let row = buf.decode(fields.len(), &bytes).unwrap();
        (0..fields.len()).map(|i| format!("{:?}", row.get(Slot(i as u16)))).collect::<Vec<_>>().join(" ")
    };
    Ok(answers.into_iter().map(|a| a.map(shown)).collect())
}

#[test]
fn answers_from_a_loaded_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"load": "t.jsonl", "key": "{{uid}}/{{mid}}"});
    fs::write(
        dir.path().join("t.jsonl"),
        "{\"uid\":\"u1\",\"mid\":7,\"pos\":3,\"in\":{\"x\":\"1.50\"}}\n{\"uid\":\"u2\",\"mid\":7}\n{\"uid\":\"u1\",\"mid\":7,\"pos\":\"4\",\"in\":{\"x\":\"1.50\"}}",
    )
    .unwrap();
    let fields = [("pos", Type::Bigint), ("in.x", Type::Decimal(9, 2))];
    let some = |s: &str| Some(s.to_string());
    let want = [some("Int(4) Num(\"1.50\")"), None, some("Missing Missing")];
    assert_eq!(ask(config.clone(), dir.path(), &fields, &["u1/7", "u3/7", "u2/7"]).unwrap(), want);
    fs::write(dir.path().join("t.jsonl"), "{\"uid\":\"u3\",\"mid\":7,\"pos\":1}\n").unwrap();
    assert_eq!(ask(config.clone(), dir.path(), &fields, &["u1/7", "u3/7"]).unwrap(), [None, some("Int(1) Missing")]);
    for (text, want) in [("[1]\n", "at byte 0 is no JSON object"), ("{\"a\":1}\n{\"a\"\n", "at byte 8 is no JSON object")] {
        fs::write(dir.path().join("t.jsonl"), text).unwrap();
        let fault = ask(config.clone(), dir.path(), &fields, &["a"]).unwrap_err();
        assert!(fault.message.ends_with(want), "{fault}");
    }
    fs::remove_file(dir.path().join("t.jsonl")).unwrap();
    assert!(ask(config, dir.path(), &fields, &["a"]).unwrap_err().message.ends_with("t.jsonl` does not exist"));
}

#[test]
fn csv_with_names_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.csv"), "code,name\nde,\"Germany, Federal Republic\"\nfr,France\n").unwrap();
    let config = json!({"load": "t.csv", "key": "{{country}}", "load_key": "{{code}}"});
    let got = ask(config, dir.path(), &[("name", Type::String)], &["fr", "de", "country"]).unwrap();
    assert_eq!(got, [Some("Str(\"France\")".into()), Some("Str(\"Germany, Federal Republic\")".into()), None]);
}

#[test]
fn filled_by_the_sink() {
    let dir = tempfile::tempdir().unwrap();
    let Make::Sink(make) = Part::find(Kind::Sink, "Embedded").unwrap().make else { panic!("a sink") };
    let spec: Box<dyn SinkSpec> = make(json!({"path": "t", "key": "k{{id}}"})).map_err(|p| p[0].message.clone()).unwrap();
    let schema = Schema::new(vec![Field::new("id", Type::Bigint), Field::new("v", Type::String)]);
    let env = env(dir.path());
    let edge = Edge::new(schema.clone());
    let factory = spec.bind(&Bind { inputs: &[edge], demands: &[], env: &env, stores: &[] }).map_err(|p| p[0].message.clone()).unwrap();
    factory.check().unwrap();
    let cx = SinkContext { worker: 0, workers: 1, clock: Clock::System, waker: Arc::new(|| {}), env: Arc::new(env.clone()) };
    let mut sink = factory.open(cx).unwrap();
    let mut rows = BatchBuilder::new(schema);
    for (id, v) in [(1, "one"), (2, "two"), (1, "uno")] {
        rows.push_int(id);
        rows.push_str(v);
        rows.end_row(Meta::default());
    }
    sink.write(0, &rows.finish(), Ticket(3)).unwrap();
    let got = ask(json!({"path": "t", "key": "k{{id}}"}), dir.path(), &[("v", Type::String)], &["k1", "k2", "k3"]).unwrap();
    assert_eq!(got, [Some("Str(\"uno\")".into()), Some("Str(\"two\")".into()), None]);
    let mut acks = Acks::default();
    sink.close(&mut acks).unwrap();
    assert_eq!(acks.done, [Ticket(3)]);
}

#[test]
fn while_another_process_has_the_folder_a_loaded_table_lies_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.jsonl"), "{\"id\":\"a\",\"v\":1}\n").unwrap();
    let config = json!({"load": "t.jsonl", "key": "{{id}}"});
    let folder = super::default_folder("t.jsonl", &env(dir.path()));
    // RocksDB locks a folder against its own process, too.
    let others = rocksdb::DB::open_default(fs::create_dir_all(&folder).map(|()| &folder).unwrap()).unwrap();
    let want = [Some("Int(1)".to_string())];
    assert_eq!(ask(config.clone(), dir.path(), &[("v", Type::Bigint)], &["a"]).unwrap(), want);
    assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 2);
    drop(others);
    assert_eq!(ask(config, dir.path(), &[("v", Type::Bigint)], &["a"]).unwrap(), want);
    let taken = rocksdb::DB::open_default(dir.path().join("p")).unwrap();
    let fault = ask(json!({"path": "p", "key": "{{id}}"}), dir.path(), &[("v", Type::Bigint)], &["a"]).unwrap_err();
    assert!(fault.hint.is_some_and(|h| h.starts_with("another process uses it")));
    drop(taken);
}

#[test]
fn a_table_needs_a_place() {
    let spec: EmbeddedStore = serde_json::from_value(json!({"key": "a"})).unwrap();
    assert_eq!(spec.bind(&[], &Env::default()).err().unwrap()[0].id, "missing-path");
}
