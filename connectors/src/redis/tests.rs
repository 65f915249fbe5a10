use super::*;
use crate::redis::commands::unpack;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Edge, Field, Meta, Schema, SchemaRef, Type};
use serde_json::{Value, json};

fn bind(config: Value, schema: SchemaRef) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
    let spec: RedisSink = serde_json::from_value(config).unwrap();
    spec.bind(&Bind { inputs: &[Edge::new(schema)], demands: &[], env: &Env::default(), stores: &[] })
}

fn closed() -> SchemaRef {
    Schema::new(vec![Field::new("k", Type::String), Field::new("n", Type::Bigint), Field::new("t", Type::Timestamp)])
}

fn config(more: Value) -> Value {
    let mut config = json!({"url": "redis://127.0.0.1:1", "key": "{{k}}"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn wrong_configs() {
    for (more, ids) in [
        (json!({}), vec![]),
        (json!({"url": "127.0.0.1:1"}), vec!["invalid-url"]),
        (json!({"key": "{{x}}"}), vec!["unknown-field"]),
        (json!({"columns": ["x"]}), vec!["unknown-field"]),
        (json!({"mode": "hset", "columns": ["x"]}), vec!["unknown-field"]),
        (json!({"mode": "hset", "format": "csv"}), vec!["key-without-effect"]),
        (json!({"mode": "del", "ttl": "1s", "columns": ["k"]}), vec!["key-without-effect", "key-without-effect"]),
        (json!({"mode": "set", "max_len": 3}), vec!["key-without-effect"]),
        (json!({"mode": "xadd", "max_len": 0}), vec!["out-of-range"]),
        (json!({"mode": "zadd"}), vec!["missing-score"]),
        (json!({"mode": "zadd", "score": "x"}), vec!["unknown-field"]),
        (json!({"mode": "incrby", "by": "n"}), vec![]),
        (json!({"mode": "set", "by": "n"}), vec!["key-without-effect"]),
        (json!({"format": "text"}), vec!["missing-template"]),
        (json!({"ttl": "0s", "batch": 0, "timeout": "0s"}), vec!["out-of-range", "out-of-range", "out-of-range"]),
    ] {
        let problems = bind(config(more.clone()), closed()).err().unwrap_or_default();
        assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "{more}");
    }
    let open = Schema::open(vec![Field::new("k", Type::String)]);
    assert_eq!(bind(config(json!({"mode": "hset"})), open.clone()).err().unwrap()[0].id, "columns-needed");
    assert!(bind(config(json!({"mode": "hset", "columns": ["deep.er"]})), open.clone()).is_ok());
    assert!(bind(config(json!({})), open).is_ok());
}

#[test]
fn demands() {
    let demand = |more| serde_json::from_value::<RedisSink>(config(more)).unwrap().demand();
    let names = |more| demand(more).fields.into_iter().collect::<Vec<_>>().join(" ");
    assert!(demand(json!({})).all);
    assert!(!demand(json!({"mode": "del"})).all);
    assert_eq!(names(json!({"mode": "del"})), "k");
    assert_eq!(names(json!({"mode": "incrby", "by": "n"})), "k n");
    assert_eq!(names(json!({"mode": "hset", "columns": ["a", "b.c"]})), "a b.c k");
    assert_eq!(names(json!({"mode": "set", "format": "text", "template": "{{x}}"})), "k x");
}

fn batch() -> Batch {
    let mut rows = BatchBuilder::new(closed());
    rows.push_str("a");
    rows.push_int(-7);
    rows.push_time(1_500_000);
    rows.end_row(Meta { time: 5, offset: 6, partition: 7, source: 8, flags: 1, ..Meta::default() });
    rows.push_str("b");
    rows.push_null();
    rows.push_missing();
    rows.end_row(Meta::default());
    rows.push_str("");
    rows.push_int(1);
    rows.push_missing();
    rows.end_row(Meta::default());
    rows.finish()
}

/// The commands of the rows, each as its words, and what was rejected.
fn written(more: Value) -> (Vec<String>, Vec<&'static str>) {
    let spec: RedisSink = serde_json::from_value(config(more)).unwrap();
    let mut input = spec.shape().bind(&Edge::new(closed()), &Env::default()).unwrap();
    let (batch, mut shown, mut wrong) = (batch(), vec![], vec![]);
    let rows = input.rows(&batch).into_owned();
    for (row, original) in rows.rows().zip(batch.rows()) {
        let mut packed = vec![];
        match input.write(&row, &original, &mut packed) {
            Written::Commands(n) => {
                let before = shown.len();
                unpack(&packed, |words, command| {
                    let text = String::from_utf8(command.to_vec()).unwrap();
                    let words_of: Vec<&str> = text.split("\r\n").skip(1).step_by(2).collect();
                    assert_eq!(words_of.len(), words);
                    shown.push(words_of.join(" "));
                })
                .unwrap();
                assert_eq!(shown.len() - before, usize::from(n));
            }
            Written::Nothing => wrong.push("nothing"),
            Written::Wrong(reason, _) => {
                assert!(packed.is_empty());
                wrong.push(reason);
            }
        }
    }
    (shown, wrong)
}

#[test]
fn commands_of_each_mode() {
    for (more, commands, wrong) in [
        (json!({}), vec![r#"SET a {"k":"a","n":-7,"t":"1970-01-01T00:00:01.500Z"}"#, r#"SET b {"k":"b","n":null}"#], vec!["invalid-key"]),
        (json!({"ttl": "1m", "format": "text", "template": "{{n}}!"}), vec!["SET a -7! PX 60000", "SET b ! PX 60000"], vec!["invalid-key"]),
        (
            json!({"mode": "hset", "columns": ["n", "t"], "ttl": "1s"}),
            vec!["HSET a n -7 t 1970-01-01T00:00:01.500Z", "PEXPIRE a 1000", "HDEL b n", "PEXPIRE b 1000"],
            vec!["invalid-key"],
        ),
        (json!({"mode": "hset", "columns": ["t"]}), vec!["HSET a t 1970-01-01T00:00:01.500Z"], vec!["nothing", "invalid-key"]),
        (json!({"mode": "xadd", "columns": ["n"]}), vec!["XADD a * n -7"], vec!["nothing", "invalid-key"]),
        (
            json!({"mode": "xadd", "columns": ["k"], "max_len": 9}),
            vec!["XADD a MAXLEN ~ 9 * k a", "XADD b MAXLEN ~ 9 * k b"],
            vec!["invalid-key"],
        ),
        (
            json!({"mode": "lpush", "columns": ["n"], "max_len": 9}),
            vec![r#"LPUSH a {"n":-7}"#, "LTRIM a 0 8", r#"LPUSH b {"n":null}"#, "LTRIM b 0 8"],
            vec!["invalid-key"],
        ),
        (
            json!({"mode": "rpush", "format": "csv", "max_len": 9}),
            vec!["RPUSH a a,-7,1970-01-01T00:00:01.500Z", "LTRIM a -9 -1", "RPUSH b b,,", "LTRIM b -9 -1"],
            vec!["invalid-key"],
        ),
        (json!({"mode": "sadd", "columns": ["k"]}), vec![r#"SADD a {"k":"a"}"#, r#"SADD b {"k":"b"}"#], vec!["invalid-key"]),
        (json!({"mode": "zadd", "score": "n", "columns": ["k"]}), vec![r#"ZADD a -7 {"k":"a"}"#], vec!["invalid-number", "invalid-key"]),
        (json!({"mode": "incrby"}), vec!["INCRBY a 1", "INCRBY b 1"], vec!["invalid-key"]),
        (json!({"mode": "incrby", "by": "n", "ttl": "1s"}), vec!["INCRBY a -7", "PEXPIRE a 1000"], vec!["invalid-number", "invalid-key"]),
        (json!({"mode": "del"}), vec!["DEL a", "DEL b"], vec!["invalid-key"]),
        (json!({"mode": "publish", "columns": ["k"]}), vec![r#"PUBLISH a {"k":"a"}"#, r#"PUBLISH b {"k":"b"}"#], vec!["invalid-key"]),
    ] {
        assert_eq!(written(more.clone()), (commands.into_iter().map(String::from).collect(), wrong), "{more}");
    }
}

fn context() -> SinkContext {
    SinkContext { worker: 0, workers: 1, clock: millrace_sdk::Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) }
}

/// A factory for the server that `MILLRACE_TEST_REDIS` names, on keys of this test alone; None: there is no server.
fn server(more: Value) -> Option<Arc<dyn SinkFactory>> {
    let url = std::env::var("MILLRACE_TEST_REDIS").ok()?;
    let mut config = config(more);
    config["url"] = json!(url);
    Some(bind(config, closed()).unwrap())
}

fn rows(from: i64, to: i64) -> Batch {
    let mut rows = BatchBuilder::new(closed());
    for n in from..to {
        rows.push_str(&format!("millrace-test:{}", n % 50_000));
        rows.push_int(n);
        rows.push_time(n);
        rows.end_row(Meta::default());
    }
    rows.finish()
}

#[test]
fn without_a_server_rows_wait_and_what_is_wrong_is_said() {
    let factory = bind(config(json!({"columns": ["k"]})), closed()).unwrap();
    assert!(factory.check().unwrap_err().message.contains("cannot connect to Redis at `127.0.0.1:1`"));
    let mut sink = factory.open(context()).unwrap();
    sink.write(0, &batch(), Ticket(1)).unwrap();
    let mut acks = Acks::default();
    sink.poll(&mut acks).unwrap();
    assert_eq!((acks.done.len(), acks.rejects.len(), acks.rejects[0].reason), (0, 1, "invalid-key"));
    let mut chunk = vec![];
    let mut sink = factory.encoder(context()).unwrap();
    sink.encode(0, &batch(), &mut chunk).unwrap().unwrap();
    sink.poll(&mut acks).unwrap();
    assert_eq!(acks.rejects.len(), 2);
    assert!(!chunk.is_empty());
}

/// What the outbox promises, on a real server.
#[test]
#[ignore = "needs a Redis server"]
fn chunk_and_marker_go_together() {
    let Some(factory) = server(json!({"mode": "rpush", "key": "{{k}}:list", "columns": ["n"]})) else { return };
    let client = |words: &[&[u8]]| {
        let spec: RedisSink = serde_json::from_value(json!({"url": std::env::var("MILLRACE_TEST_REDIS").unwrap(), "key": "x"})).unwrap();
        let server = Server { url: &spec.url, username: None, password: None, timeout: Duration::secs(5) };
        server.client(&mut vec![]).unwrap().ask(words).unwrap()
    };
    let chunk = |rows: &[i64]| {
        let mut sink = factory.encoder(context()).unwrap();
        let mut chunk = vec![];
        for n in rows {
            sink.encode(0, &super::tests::rows(*n, n + 1), &mut chunk).unwrap().unwrap();
        }
        chunk
    };
    let length = |n: i64| client(&[b"LLEN", format!("millrace-test:{n}:list").as_bytes()]);
    for n in 1..5 {
        client(&[b"DEL", format!("millrace-test:{n}:list").as_bytes()]);
    }
    let writer = format!("test-{}-{}", std::process::id(), context().clock.now());
    let mut first = factory.outbox(context()).unwrap().unwrap();
    assert!(first.apply(&writer, &[], 1, &mut vec![]).unwrap_err().message.contains("not fenced"));
    first.fence(std::slice::from_ref(&writer)).unwrap();
    assert_eq!(first.applied(&writer).unwrap(), None);
    let mut rejects = vec![];
    first.apply(&writer, &[], 1 << 20, &mut rejects).unwrap();
    assert_eq!(first.applied(&writer).unwrap(), Some(1 << 20));
    client(&[b"SET", b"millrace-test:3:list", b"a string"]);
    for _ in 0..3 {
        rejects.clear();
        first.apply(&writer, &chunk(&[1, 2, 3, 1]), (1 << 20) + 1, &mut rejects).unwrap();
        assert_eq!((length(1), length(2)), (redis::Value::Int(2), redis::Value::Int(1)));
        assert_eq!(rejects.len(), 1, "what was refused is said again");
        assert!(rejects[0].message.starts_with("WRONGTYPE") && rejects[0].body.starts_with(br#"{"k":"millrace-test:3""#));
    }
    first.apply(&writer, &chunk(&[2]), 1 << 20, &mut rejects).unwrap();
    assert_eq!(length(2), redis::Value::Int(1), "an older chunk changes nothing");
    let mut second = factory.outbox(context()).unwrap().unwrap();
    second.fence(std::slice::from_ref(&writer)).unwrap();
    let late = first.apply(&writer, &chunk(&[4]), 2 << 20, &mut rejects).unwrap_err();
    assert!(!late.retry && late.message.contains("another process"), "{late}");
    assert_eq!(second.applied(&writer).unwrap(), Some((1 << 20) + 1));
    client(&[b"SCRIPT", b"FLUSH"]);
    second.apply(&writer, &chunk(&[4]), 2 << 20, &mut rejects).unwrap();
    assert_eq!(length(4), redis::Value::Int(1));
    client(&[b"DEL", b"millrace-test:3:list"]);
}

/// Against a real server: `MILLRACE_TEST_REDIS=redis://127.0.0.1:6379`; prints rates.
#[test]
#[ignore = "needs a Redis server"]
fn rates() {
    let rounds: i64 = std::env::var("MILLRACE_TEST_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(200);
    for more in [json!({}), json!({"mode": "hset", "key": "{{k}}:hash", "columns": ["n", "t"]})] {
        let Some(factory) = server(more.clone()) else { return };
        let mut sink = factory.open(context()).unwrap();
        let (mut acks, began, mut sent) = (Acks::default(), std::time::Instant::now(), 0);
        while sent < rounds {
            if sink.ready() {
                sink.write(0, &rows(sent * 1000, sent * 1000 + 1000), Ticket(sent as u64)).unwrap();
                sent += 1;
            }
            sink.poll(&mut acks).unwrap();
        }
        sink.close(&mut acks).unwrap();
        assert_eq!((acks.done.len() as i64, acks.rejects.len()), (rounds, 0));
        println!("{more}: {:.0} rows/s", (rounds * 1000) as f64 / began.elapsed().as_secs_f64());
        let mut outbox = factory.outbox(context()).unwrap().unwrap();
        let writer = format!("rates-{}", std::process::id());
        outbox.fence(std::slice::from_ref(&writer)).unwrap();
        let mut sink = factory.encoder(context()).unwrap();
        let began = std::time::Instant::now();
        for round in 0..rounds / 10 {
            let mut chunk = vec![];
            for n in 0..10 {
                let from = (round * 10 + n) * 1000;
                sink.encode(0, &rows(from, from + 1000), &mut chunk).unwrap().unwrap();
            }
            outbox.apply(&writer, &chunk, round as u64 + 1, &mut vec![]).unwrap();
        }
        println!("{more}: {:.0} rows/s in chunks of 10,000", (rounds * 1000) as f64 / began.elapsed().as_secs_f64());
    }
}
