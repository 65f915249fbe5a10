use super::*;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Field, Meta, Schema, Type};
use serde_json::{Value, json};

fn bind(config: Value, schema: SchemaRef) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
    let spec: ClickHouseSink = serde_json::from_value(config).unwrap();
    spec.bind(&Bind { inputs: &[Edge::new(schema)], demands: &[], env: &Env::default(), stores: &[] })
}

fn closed() -> SchemaRef {
    Schema::new(vec![Field::new("k", Type::String), Field::new("n", Type::Bigint), Field::new("t", Type::Timestamp)])
}

fn config(more: Value) -> Value {
    let mut config = json!({"url": "http://127.0.0.1:1", "table": "t"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn wrong_configs() {
    for (more, ids) in [
        (json!({}), vec![]),
        (json!({"url": "127.0.0.1:1"}), vec!["invalid-url"]),
        (json!({"url": "http://u:p@h"}), vec!["invalid-url"]),
        (json!({"url": "https://h/prefix"}), vec![]),
        (json!({"table": ""}), vec!["missing-name"]),
        (json!({"password": "x"}), vec!["missing-user"]),
        (json!({"columns": ["x"]}), vec!["unknown-field"]),
        (json!({"columns": ["k", "k"]}), vec!["field-clash"]),
        (json!({"batch_rows": 0, "batch_bytes": "1B", "batch_time": "2m", "timeout": "0s"}), vec!["out-of-range"; 4]),
        (json!({"settings": {"async_insert": 1, "max_memory_usage": 5, "x": []}}), vec!["owned-setting", "invalid-setting"]),
    ] {
        let problems = bind(config(more.clone()), closed()).err().unwrap_or_default();
        assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "{more}");
    }
    let open = Schema::open(vec![Field::new("k", Type::String)]);
    assert_eq!(bind(config(json!({})), open.clone()).err().unwrap()[0].id, "columns-needed");
    assert!(bind(config(json!({"columns": ["deep.er"]})), open).is_ok());
    let fault = bind(config(json!({})), closed()).unwrap().check().unwrap_err();
    assert!(fault.retry && fault.message.contains("ClickHouse at `http://127.0.0.1:1` does not answer"), "{fault}");
}

fn context() -> SinkContext {
    SinkContext { worker: 0, workers: 1, clock: millrace_sdk::Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) }
}

fn rows(from: i64, to: i64) -> Batch {
    let mut rows = BatchBuilder::new(closed());
    for n in from..to {
        rows.push_str(&format!("row {n}"));
        rows.push_int(n);
        rows.push_time(n * 1000);
        rows.end_row(Meta::default());
    }
    rows.finish()
}

/// A server that `MILLRACE_TEST_CLICKHOUSE` names, and a fresh table there.
struct Fresh {
    client: Client,
    table: String,
}

impl Fresh {
    fn new(columns: &str) -> Option<Fresh> {
        let url = std::env::var("MILLRACE_TEST_CLICKHOUSE").ok()?;
        let server = Server { url, user: None, password: None, compress: true, timeout: std::time::Duration::from_secs(60) };
        let table = format!("test_{:016x}", RandomState::new().build_hasher().finish());
        let place = Fresh { client: Client::new(&server).unwrap(), table };
        place.ask(&format!("CREATE TABLE {} {columns}", place.table));
        Some(place)
    }

    fn ask(&self, sql: &str) -> String {
        String::from_utf8(self.client.query(sql, "TabSeparated").unwrap()).unwrap()
    }

    fn factory(&self, more: Value) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        let mut config = config(more);
        (config["url"], config["table"]) = (json!(self.client.url()), json!(self.table));
        bind(config, closed())
    }

    fn seen(&self) -> String {
        self.ask(&format!("SELECT n, k FROM {} ORDER BY n, k", self.table)).replace('\n', " ").trim().into()
    }
}

const REMEMBERS: &str = "(k String, n UInt8, t DateTime64(3), CONSTRAINT c CHECK n != 7) ENGINE = MergeTree ORDER BY n \
    SETTINGS non_replicated_deduplication_window = 100";

#[test]
#[ignore = "needs a ClickHouse server"]
fn what_the_server_refuses_stands_alone() {
    let Some(place) = Fresh::new(REMEMBERS) else { return };
    let mut sink = place.factory(json!({"batch_time": "50ms"})).unwrap().open(context()).unwrap();
    sink.write(0, &rows(0, 10), Ticket(0)).unwrap();
    sink.write(0, &rows(250, 260), Ticket(1)).unwrap();
    let mut acks = Acks::default();
    sink.close(&mut acks).unwrap();
    assert_eq!(acks.done.len(), 2);
    let mut reasons: Vec<_> = acks.rejects.iter().map(|r| (r.reason, String::from_utf8_lossy(&r.body).into_owned())).collect();
    reasons.sort();
    assert_eq!(reasons[0], ("refused-by-clickhouse", r#"{"k":"row 7","n":7,"t":"1970-01-01T00:00:00.007Z"}"#.into()));
    assert_eq!(reasons[1..].iter().map(|(r, _)| *r).collect::<Vec<_>>(), ["value-does-not-fit"; 4], "256 to 259");
    assert_eq!(place.ask(&format!("SELECT count(), sum(n) FROM {}", place.table)), format!("15\t{}\n", 45 - 7 + 250 * 6 + 15));
}

#[test]
#[ignore = "needs a ClickHouse server"]
fn what_is_wrong_with_a_table_is_said() {
    let Some(place) =
        Fresh::new("(k String, n String, m UInt8 MATERIALIZED 1, u AggregateFunction(uniq, UInt8)) ENGINE = MergeTree ORDER BY k")
    else {
        return;
    };
    let said = |more: Value| place.factory(more).unwrap().check().err().map(|f| f.to_string()).unwrap_or_default();
    assert!(said(json!({})).contains("has no column `t`"), "{}", said(json!({})));
    assert_eq!(said(json!({"columns": ["k", "n"]})), "");
    place.ask(&format!("ALTER TABLE {} MODIFY COLUMN n UUID", place.table));
    assert!(said(json!({"columns": ["n"]})).contains("is UUID, which values of type bigint do not fit"));
    let mut config = config(json!({"columns": ["k"]}));
    (config["url"], config["table"]) = (json!(place.client.url()), json!("testt"));
    let absent = bind(config.clone(), closed()).unwrap().check().unwrap_err();
    assert!(absent.message.contains("table `default.testt` does not exist") && !absent.retry, "{absent}");
    config["database"] = json!("nowhere");
    let absent = bind(config, closed()).unwrap().check().unwrap_err();
    assert!(absent.message.contains("database `nowhere` does not exist"), "{absent}");
    let plain = place.factory(json!({"columns": ["k"]})).unwrap();
    let refused = plain.outbox(context()).err().unwrap();
    assert!(refused.to_string().contains("non_replicated_deduplication_window"), "{refused}");
}

#[test]
#[ignore = "needs a ClickHouse server"]
fn chunks_are_there_once() {
    let Some(place) = Fresh::new(REMEMBERS) else { return };
    let factory = place.factory(json!({})).unwrap();
    let chunk = |from: i64, to: i64| {
        let mut sink = factory.encoder(context()).unwrap();
        let mut chunk = vec![];
        sink.encode(0, &rows(from, from + 1), &mut chunk).unwrap().unwrap();
        sink.encode(0, &rows(from + 1, to), &mut chunk).unwrap().unwrap();
        chunk
    };
    let (writer, mut rejects) = (format!("w-{}", place.table), vec![]);
    let writers = std::slice::from_ref(&writer);
    let mut first = factory.outbox(context()).unwrap().unwrap();
    assert!(first.apply(&writer, &[], 1, &mut rejects).unwrap_err().message.contains("not fenced"));
    first.fence(writers).unwrap();
    assert_eq!(first.applied(&writer).unwrap(), None);
    first.apply(&writer, &[], 5 << 20, &mut rejects).unwrap();
    assert_eq!((first.applied(&writer).unwrap(), place.seen().as_str()), (Some(5 << 20), ""));
    for _ in 0..3 {
        rejects.clear();
        first.apply(&writer, &chunk(5, 9), (5 << 20) + 1, &mut rejects).unwrap();
        assert_eq!(place.seen(), "5\trow 5 6\trow 6 8\trow 8");
        assert_eq!((rejects.len(), rejects[0].reason), (1, "refused-by-clickhouse"), "also when it is applied again");
    }
    // The same rows again are other rows.
    first.apply(&writer, &chunk(5, 7), (5 << 20) + 2, &mut rejects).unwrap();
    assert_eq!(place.seen(), "5\trow 5 5\trow 5 6\trow 6 6\trow 6 8\trow 8");
    let mut second = factory.outbox(context()).unwrap().unwrap();
    second.fence(writers).unwrap();
    let late = first.apply(&writer, &chunk(1, 3), 6 << 20, &mut rejects).unwrap_err();
    assert!(!late.retry && late.message.contains("another process"), "{late}");
    assert_eq!(second.applied(&writer).unwrap(), Some((5 << 20) + 2));
    second.apply(&writer, &chunk(1, 3), 6 << 20, &mut rejects).unwrap();
    assert_eq!(place.seen(), "1\trow 1 2\trow 2 5\trow 5 5\trow 5 6\trow 6 6\trow 6 8\trow 8");
}

/// Prints rates.
#[test]
#[ignore = "needs a ClickHouse server"]
fn rates() {
    let engine = "(k String, n UInt64, t DateTime64(3)) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100";
    let Some(place) = Fresh::new(engine) else { return };
    let rounds: i64 = std::env::var("MILLRACE_TEST_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(1000);
    let factory = place.factory(json!({})).unwrap();
    let mut sink = factory.open(context()).unwrap();
    let (mut acks, began, mut sent) = (Acks::default(), std::time::Instant::now(), 0);
    while sent < rounds {
        if sink.ready() {
            sink.write(0, &rows(sent * 1000, sent * 1000 + 1000), Ticket(sent as u64)).unwrap();
            sent += 1;
        } else {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        sink.poll(&mut acks).unwrap();
    }
    sink.close(&mut acks).unwrap();
    assert_eq!((acks.done.len() as i64, acks.rejects.len()), (rounds, 0));
    println!("{:.0} rows/s", (rounds * 1000) as f64 / began.elapsed().as_secs_f64());
    assert_eq!(place.ask(&format!("SELECT count() FROM {}", place.table)), format!("{}\n", rounds * 1000));
}
