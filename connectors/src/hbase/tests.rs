use super::*;
use millrace_sdk::Type;
use millrace_sdk::operator::Env;
use serde_json::json;

fn bind(config: serde_json::Value, schema: SchemaRef) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
    let spec: HBaseSink = serde_json::from_value(config).unwrap();
    let env = Env::default();
    spec.bind(&Bind { inputs: &[Edge::new(schema)], demands: &[], env: &env, stores: &[] })
}

fn closed() -> SchemaRef {
    Schema::new(vec![Field::new("a", Type::String), Field::new("b", Type::Bigint)])
}

#[test]
fn wrong_configs() {
    let good = json!({"thrift": "h:1", "table": "t", "key": "{{a}}", "family": "d"});
    assert!(bind(good.clone(), closed()).is_ok());
    let cases = [
        ("thrift", json!("h"), "invalid-address"),
        ("table", json!(""), "missing-table"),
        ("family", json!("d:x"), "invalid-family"),
        ("columns", json!(["c"]), "unknown-field"),
        ("columns", json!({"x": "c"}), "unknown-field"),
        ("columns", json!([]), "missing-columns"),
        ("key", json!("{{c}}"), "unknown-field"),
    ];
    for (key, value, id) in cases {
        let mut config = good.clone();
        config[key] = value;
        let problems = bind(config, closed()).err().unwrap();
        assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), [id], "{problems:?}");
    }
    let open = Schema::open(vec![Field::new("a", Type::String)]);
    assert_eq!(bind(good.clone(), open.clone()).err().unwrap()[0].id, "columns-needed");
    let mut named = good;
    named["columns"] = json!(["a", "other.deep"]);
    assert!(bind(named, open).is_ok());
}

#[test]
fn demands() {
    let demand = |config| serde_json::from_value::<HBaseSink>(config).unwrap().demand();
    let named = demand(json!({"thrift": "h:1", "table": "t", "key": "{{a}}_{{b}}", "family": "d", "columns": {"q": "c", "f:r": "e"}}));
    assert_eq!((named.fields.into_iter().collect::<Vec<_>>(), named.all), (vec!["a".into(), "b".into(), "c".into(), "e".into()], false));
    assert!(demand(json!({"thrift": "h:1", "table": "t", "key": "{{a}}", "family": "d"})).all);
    assert!(!demand(json!({"thrift": "h:1", "table": "t", "key": "{{a}}", "family": "d", "op": "delete"})).all);
}

#[test]
fn keys_that_hbase_would_not_take_are_rejected() {
    let factory = bind(json!({"thrift": "127.0.0.1:1", "table": "t", "key": "{{a}}", "family": "d"}), closed()).unwrap();
    let cx =
        SinkContext { worker: 0, workers: 1, clock: millrace_sdk::Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) };
    let mut sink = factory.open(cx).unwrap();
    let mut rows = BatchBuilder::new(closed());
    for key in ["".to_string(), "x".repeat(40_000)] {
        rows.push_str(&key);
        rows.push_null();
        rows.end_row(Default::default());
    }
    sink.write(0, &rows.finish(), Ticket(1)).unwrap();
    let mut acks = Acks::default();
    sink.close(&mut acks).unwrap();
    assert_eq!(acks.done, [Ticket(1)], "a write whose rows were all rejected is done without a server");
    let reasons: Vec<_> = acks.rejects.iter().map(|r| (r.reason, r.message.as_str())).collect();
    assert_eq!(
        reasons,
        [("invalid-row-key", "the row key is empty"), ("invalid-row-key", "the row key has 40000 bytes, HBase takes 32767")]
    );
}

#[test]
fn a_row_without_cells_is_counted() {
    let factory = bind(json!({"thrift": "127.0.0.1:1", "table": "t", "key": "{{a}}", "family": "d", "columns": ["b"]}), closed()).unwrap();
    let cx =
        SinkContext { worker: 0, workers: 1, clock: millrace_sdk::Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) };
    let mut sink = factory.open(cx).unwrap();
    let mut rows = BatchBuilder::new(closed());
    for key in ["x", "y"] {
        rows.push_str(key);
        rows.push_missing();
        rows.end_row(Default::default());
    }
    sink.write(0, &rows.finish(), Ticket(1)).unwrap();
    let mut acks = Acks::default();
    sink.close(&mut acks).unwrap();
    assert_eq!((acks.done, acks.rejects.len(), acks.dropped), (vec![Ticket(1)], 0, vec![("no-cells", 2)]));
}

/// Against a real HBase: `MILLRACE_TEST_HBASE=host:port`, with a table `millrace_test` that has the family `d`.
#[test]
fn writes_are_found_by_the_store() {
    let Ok(thrift) = std::env::var("MILLRACE_TEST_HBASE") else { return };
    let rounds: usize = std::env::var("MILLRACE_TEST_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(20);
    let config = json!({"thrift": thrift, "table": "millrace_test", "key": "{{a}}", "family": "d", "heartbeat": "~beat", "timeout": "3s"});
    let factory = bind(config.clone(), closed()).unwrap();
    factory.check().unwrap();
    let cx =
        SinkContext { worker: 0, workers: 1, clock: millrace_sdk::Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) };
    let mut sink = factory.open(cx.clone()).unwrap();
    let (mut acks, mut sent, per) = (Acks::default(), 0, 1000);
    let began = std::time::Instant::now();
    while sent < rounds {
        if sink.ready() {
            let mut rows = BatchBuilder::new(closed());
            for i in 0..per {
                rows.push_str(&format!("k{}", (sent * per + i) % 50_000));
                rows.push_int((sent * per + i) as i64);
                rows.end_row(millrace_sdk::Meta { time: sent as i64 + 1, ..Default::default() });
            }
            sink.write(0, &rows.finish(), Ticket(sent as u64)).unwrap();
            sink.flush().unwrap();
            sent += 1;
        }
        sink.poll(&mut acks).unwrap();
        std::thread::yield_now();
    }
    sink.close(&mut acks).unwrap();
    assert_eq!((acks.done.len(), acks.rejects.len()), (rounds, 0));
    let rate = (rounds * per) as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} rows/s in");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut store = config;
    store.as_object_mut().unwrap().remove("key");
    let part = Part::find(millrace_sdk::Kind::Store, "HBase").unwrap();
    let millrace_sdk::part::Make::Store(make) = part.make else { panic!("a store") };
    let spec = make(store).map_err(|p| p[0].message.clone()).unwrap();
    let store = spec.bind(&[Field::new("b", Type::Bigint), Field::new("none", Type::String)], &Env::default()).ok().unwrap();
    store.check().unwrap();
    assert_eq!(runtime.block_on(store.newest()).unwrap(), Some(rounds as i64));
    let total = rounds * per;
    let mut buf = millrace_sdk::RowBuf::new();
    for chunk in (0..total.min(50_000)).collect::<Vec<_>>().chunks(256) {
        let mut keys: Vec<Vec<u8>> = chunk.iter().map(|i| format!("k{i}").into_bytes()).collect();
        keys.extend([b"absent".to_vec(), vec![]]);
        let answers = runtime.block_on(store.get_many(keys)).unwrap();
        assert_eq!(answers[chunk.len()..], [None, None]);
        for (i, answer) in chunk.iter().zip(answers) {
            let bytes = answer.unwrap_or_else(|| panic!("k{i} is lost"));
            let row = buf.decode(2, &bytes).unwrap();
            let newest = *i + (total - 1 - *i) / 50_000 * 50_000;
            assert_eq!((row.int(Slot(0)), row.get(Slot(1))), (Some(newest as i64), Val::Missing), "k{i}");
        }
    }

    let delete =
        bind(json!({"thrift": thrift, "table": "millrace_test", "key": "{{a}}", "family": "d", "op": "delete"}), closed()).unwrap();
    let mut sink = delete.open(cx).unwrap();
    let mut rows = BatchBuilder::new(closed());
    rows.push_str("k1");
    rows.push_null();
    rows.end_row(Default::default());
    sink.write(0, &rows.finish(), Ticket(0)).unwrap();
    sink.close(&mut acks).unwrap();
    let answers = runtime.block_on(store.get_many(vec![b"k1".to_vec(), b"k2".to_vec()])).unwrap();
    assert!(answers[0].is_none() && answers[1].is_some());
    let missing = bind(json!({"thrift": thrift, "table": "millrace_tset", "key": "{{a}}", "family": "d"}), closed()).unwrap();
    println!("{}", missing.check().unwrap_err());
    let missing = bind(json!({"thrift": thrift, "table": "millrace_test", "key": "{{a}}", "family": "e"}), closed()).unwrap();
    println!("{}", missing.check().unwrap_err());
}
