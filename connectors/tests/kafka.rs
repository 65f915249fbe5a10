//! Source and sink against a real broker, started by `tests/servers/kafka.sh`.

#[path = "../../tests/servers/ports.rs"]
mod ports;

use futures::executor::block_on;
use millrace_sdk::operator::Env;
use millrace_sdk::part::Make;
use millrace_sdk::sink::Acks;
use millrace_sdk::source::Pull;
use millrace_sdk::*;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker of its own, killed at the end.
struct Broker {
    data: tempfile::TempDir,
    port: u16,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/servers").join(name)
}

impl Broker {
    fn start() -> Broker {
        millrace_connectors::link();
        // The controller listens on the port above: ask for two neighbours.
        let port = ports::free_ports(2);
        let broker = Broker { data: tempfile::tempdir().unwrap(), port };
        broker.run();
        broker
    }

    fn run(&self) {
        let out = Command::new(script("kafka.sh")).arg(self.data.path()).arg(self.port.to_string()).output().unwrap();
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }

    fn kill(&self) {
        Command::new(script("stop.sh")).arg(self.data.path()).arg("KILL").output().unwrap();
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.address()).create().unwrap()
    }

    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (k, v) in settings {
            new = new.set(k, v);
        }
        block_on(self.admin().create_topics([&new], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    }

    fn source(&self, mut config: Value, demand: &[&str]) -> (SchemaRef, Arc<dyn SourceFactory>) {
        config["brokers"] = self.address().into();
        let Some(Part { make: Make::Source(make), .. }) = Part::find(Kind::Source, "Kafka011") else { panic!("registered") };
        let env = Env::default();
        let bind = Bind { inputs: &[], demands: &[], env: &env, stores: &[] };
        make(config).unwrap().bind(&bind, &Demand::of(demand.iter().copied())).map_err(|p| format!("{p:?}")).unwrap()
    }

    fn sink(&self, mut config: Value, schema: &SchemaRef) -> Arc<dyn SinkFactory> {
        config["brokers"] = self.address().into();
        let Some(Part { make: Make::Sink(make), .. }) = Part::find(Kind::Sink, "Kafka") else { panic!("registered") };
        let env = Env::default();
        let inputs = [Edge::new(schema.clone())];
        make(config).unwrap().bind(&Bind { inputs: &inputs, demands: &[], env: &env, stores: &[] }).map_err(|p| format!("{p:?}")).unwrap()
    }

    fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
        let c: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.address()).set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let list = c.committed_offsets(list, Duration::from_secs(10)).unwrap();
        let offset = |o| if let Offset::Offset(n) = o { Some(n) } else { None };
        list.elements().iter().map(|e| offset(e.offset())).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open(factory: &Arc<dyn SourceFactory>) -> Box<dyn Source> {
    open_as(factory, false)
}

fn open_as(factory: &Arc<dyn SourceFactory>, restored: bool) -> Box<dyn Source> {
    let assignment = Assignment { index: 0, instances: 1, shift: 0 };
    let env = Arc::new(Env::default());
    factory.open(SourceContext { assignment, clock: Clock::System, waker: Arc::new(|| {}), source: 1, env, restored }).unwrap()
}

fn open_sink(factory: &Arc<dyn SinkFactory>) -> Box<dyn Sink> {
    factory
        .open(SinkContext { worker: 0, workers: 1, clock: Clock::System, waker: Arc::new(|| {}), env: Arc::new(Env::default()) })
        .unwrap()
}

/// What a source gave: by partition name, each row as JSON of all its fields.
#[derive(Default)]
struct Got {
    names: BTreeMap<u32, String>,
    ended: Vec<u32>,
    rows: Vec<(String, Value)>,
    rejects: Vec<Reject>,
}

impl Got {
    /// One round over the partitions; true when all have ended for good.
    fn round(&mut self, source: &mut dyn Source, schema: &SchemaRef) -> Result<bool, Fault> {
        let found = source.discover()?;
        self.names.extend(found.new.into_iter().map(|p| (p.id, p.name)));
        for (&id, name) in &self.names {
            let mut rows = BatchBuilder::new(schema.clone());
            let mut pull = Pull { rows: &mut rows, rejects: &mut self.rejects, max_rows: 500, max_bytes: 1 << 20 };
            if source.poll(id, &mut pull)? == Poll::Ended && !self.ended.contains(&id) {
                self.ended.push(id);
            }
            for row in rows.finish().rows() {
                self.rows.push((name.clone(), as_json(&row, schema)));
            }
        }
        Ok(found.complete && self.ended.len() == self.names.len())
    }

    fn until(source: &mut dyn Source, schema: &SchemaRef, mut enough: impl FnMut(&Got) -> bool) -> Got {
        let (mut got, until) = (Got::default(), Instant::now() + Duration::from_secs(60));
        while !got.round(source, schema).unwrap() && !enough(&got) {
            assert!(Instant::now() < until, "waited in vain, {} rows", got.rows.len());
            std::thread::sleep(Duration::from_millis(1));
        }
        got
    }

    fn all(source: &mut dyn Source, schema: &SchemaRef) -> Got {
        Got::until(source, schema, |_| false)
    }

    fn values(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, r)| r["_value"].as_str().unwrap_or("-")).collect()
    }
}

fn as_json(row: &Record<'_>, schema: &SchemaRef) -> Value {
    let fields = schema.fields().iter().enumerate().map(|(i, f)| {
        let value = match row.get(Slot(i as u16)) {
            Val::Missing | Val::Null => Value::Null,
            Val::Int(n) | Val::Time(n) => n.into(),
            Val::Str(s) => s.into(),
            Val::Bytes(b) => String::from_utf8_lossy(b).into(),
            Val::Json(j) => serde_json::from_str(j).unwrap(),
            other => panic!("{other:?}"),
        };
        (f.name.to_string(), value)
    });
    Value::Object(fields.collect())
}

fn pairs() -> SchemaRef {
    Schema::new(vec![Field::new("k", Type::String), Field::new("n", Type::Bigint)])
}

fn batch(of: impl IntoIterator<Item = (String, i64)>) -> Batch {
    let mut rows = BatchBuilder::new(pairs());
    for (k, n) in of {
        rows.push_str(&k);
        rows.push_int(n);
        rows.end_row(Meta { offset: n as u64, ..Meta::default() });
    }
    rows.finish()
}

/// Writes batches, waits until all are settled, and closes.
fn write(factory: &Arc<dyn SinkFactory>, batches: &[Batch]) -> Acks {
    let mut sink = open_sink(factory);
    let mut acks = Acks::default();
    for (i, b) in batches.iter().enumerate() {
        while !sink.ready() {
            sink.poll(&mut acks).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        sink.write(0, b, Ticket(i as u64)).unwrap();
        sink.flush().unwrap();
    }
    let end = Instant::now() + Duration::from_secs(60);
    while acks.done.len() < batches.len() && Instant::now() < end {
        sink.poll(&mut acks).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    sink.close(&mut acks).unwrap();
    acks.done.sort();
    assert_eq!(acks.done, (0..batches.len() as u64).map(Ticket).collect::<Vec<_>>());
    acks
}

#[test]
#[ignore = "starts a Kafka broker"]
fn messages_go_there_and_back() {
    let broker = Broker::start();

    // What is missing is said in one sentence.
    let (_, factory) = broker.source(json!({"topics": ["nowhere"]}), &[]);
    let fault = factory.check().unwrap_err();
    assert_eq!(fault.message, format!("topic `nowhere` does not exist at {}", broker.address()));
    assert!(broker.sink(json!({"topic": "nowhere"}), &pairs()).check().unwrap_err().message.starts_with("topic `nowhere` does not"));

    // Rows with keys: the columns that are asked for, order within a key, headers.
    broker.create("pairs", 3, &[("max.message.bytes", "2000")]);
    let sink = broker.sink(json!({"topic": "pairs", "key": "{{k}}", "headers": {"who": "n{{n}}"}, "compression": "zstd"}), &pairs());
    sink.check().unwrap();
    let rows = |from: i64, to: i64| batch((from..to).map(|n| (format!("k{}", n % 7), n)));
    let mut written: Vec<Batch> = (0..10).map(|i| rows(i * 50, i * 50 + 50)).collect();
    written.push(batch([("x".repeat(5000), 500), ("k3".into(), 501)]));
    let acks = write(&sink, &written);
    assert_eq!(acks.rejects.iter().map(|r| (r.reason, r.meta.offset)).collect::<Vec<_>>(), [("message-too-large", 500)]);
    let config = json!({"topics": ["pairs"], "group": "readers", "bounded": true});
    let (schema, factory) = broker.source(config, &["_key", "_offset", "_partition", "_topic", "_headers", "_timestamp"]);
    factory.check().unwrap();
    let mut source = open(&factory);
    let got = Got::all(&mut *source, &schema);
    assert_eq!((got.rows.len(), got.names.len()), (501, 3));
    let mut last: HashMap<String, (i64, String)> = HashMap::new();
    for (partition, row) in &got.rows {
        let value: Value = serde_json::from_str(row["_value"].as_str().unwrap()).unwrap();
        let (k, n) = (value["k"].as_str().unwrap().to_string(), value["n"].as_i64().unwrap());
        assert_eq!((row["_key"].as_str(), row["_topic"].as_str()), (Some(&*k), Some("pairs")));
        assert_eq!(row["_headers"], json!({"who": format!("n{n}")}));
        assert_eq!(*partition, format!("pairs/{}", row["_partition"]));
        assert!(row["_timestamp"].as_i64().unwrap() > 1_700_000_000_000_000);
        if let Some((before, p)) = last.insert(k, (n, partition.clone())) {
            assert!(before < n && p == *partition);
        }
    }
    // Where the Java client's partitioner puts them: murmur2(key) & 0x7fffffff, modulo 3, computed apart.
    for (k, partition) in [2, 2, 0, 1, 1, 0, 1].into_iter().enumerate() {
        assert_eq!(last[&format!("k{k}")].1, format!("pairs/{partition}"));
    }
    assert_eq!(last.len(), 7);

    // Offsets reach the group at close, and the next start goes on there.
    let positions: Vec<_> = got.names.keys().map(|id| (*id, source.position(*id))).collect();
    assert_eq!(source.lag(), Some(0));
    source.acknowledged(&positions).unwrap();
    source.close().unwrap();
    drop(source);
    assert_eq!(broker.committed("readers", "pairs", 3).iter().flatten().sum::<i64>(), 501);
    let mut source = open(&factory);
    assert_eq!(Got::all(&mut *source, &schema).rows.len(), 0);
    // A saved position comes before that.
    let mut source = open(&factory);
    let mut got = Got::default();
    while got.names.len() < 3 {
        let found = source.discover().unwrap();
        for p in found.new {
            source.seek(p.id, &Position(5i64.to_le_bytes().to_vec())).unwrap();
            got.names.insert(p.id, p.name);
        }
    }
    while !got.round(&mut *source, &schema).unwrap() {}
    assert_eq!(got.rows.len(), 501 - 15);

    // Other starts.
    for (start, want) in
        [(json!("earliest"), 501), (json!("latest"), 0), (json!({"timestamp": 0}), 501), (json!({"timestamp": "2100-01-01T00:00:00Z"}), 0)]
    {
        let (schema, factory) = broker.source(json!({"topics": "^pa.*s$", "start": start, "bounded": true}), &[]);
        factory.check().unwrap();
        assert_eq!(Got::all(&mut *open(&factory), &schema).rows.len(), want, "{start}");
    }
    let (_, factory) = broker.source(json!({"topics": "pairs", "start": {"offsets": {"pairs/7": 1}}}), &[]);
    assert_eq!(factory.check().unwrap_err().message, "`start` names partition 7 of topic `pairs`, which has 3 partitions");

    partitions_that_come_later(&broker);
    offsets_that_are_gone(&broker);
    retry_topics(&broker);
    topics_of_templates(&broker);
}

fn partitions_that_come_later(broker: &Broker) {
    broker.create("grow", 1, &[]);
    let (schema, factory) = broker.source(json!({"topics": "grow", "start": "latest", "discovery_interval": "200ms"}), &[]);
    let mut source = open(&factory);
    let mut got = Got::until(&mut *source, &schema, |g| g.names.len() == 1);
    block_on(broker.admin().create_partitions([&NewPartitions::new("grow", 3)], &AdminOptions::new())).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let sink = broker.sink(json!({"topic": "grow", "key": "{{k}}", "format": "text", "template": "{{n}}"}), &pairs());
    write(&sink, &[batch((0..100).map(|n| (format!("k{n}"), n)))]);
    let until = Instant::now() + Duration::from_secs(30);
    while got.rows.len() < 100 {
        got.round(&mut *source, &schema).unwrap();
        assert!(Instant::now() < until, "{} rows in {:?}", got.rows.len(), got.names);
    }
    assert_eq!(got.names.len(), 3);
    let mut numbers: Vec<i64> = got.values().iter().map(|v| v.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    // Behind a checkpoint that knew the first partition alone nothing of the others is skipped.
    let mut source = open_as(&factory, true);
    let got = Got::until(&mut *source, &schema, |g| g.rows.len() >= 100);
    assert_eq!(got.rows.len(), 100);
}

fn offsets_that_are_gone(broker: &Broker) {
    broker.create("short", 1, &[]);
    let sink = broker.sink(json!({"topic": "short", "format": "text", "template": "{{n}}"}), &pairs());
    write(&sink, &[batch((0..50).map(|n| (String::new(), n)))]);
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset("short", 0, Offset::Offset(30)).unwrap();
    block_on(broker.admin().delete_records(&gone, &AdminOptions::new())).unwrap();
    for (policy, want) in [("earliest", 20), ("latest", 0)] {
        let config = json!({"topics": "short", "start": {"offsets": {"short/0": 10}}, "bounded": true, "on_offset_lost": policy});
        let (schema, factory) = broker.source(config, &[]);
        assert_eq!(Got::all(&mut *open(&factory), &schema).rows.len(), want, "{policy}");
    }
    // Beyond the end counts as lost too: the topic is not the one it was.
    for offset in [10, 70] {
        let (schema, factory) = broker.source(json!({"topics": "short", "start": {"offsets": {"short/0": offset}}, "bounded": true}), &[]);
        let (mut source, mut got) = (open(&factory), Got::default());
        let until = Instant::now() + Duration::from_secs(30);
        let fault = loop {
            match got.round(&mut *source, &schema) {
                Err(fault) => break fault,
                Ok(ended) => assert!(!ended && Instant::now() < until),
            }
        };
        assert_eq!(fault.message, format!("offset {offset} of short/0 is no longer at the broker"));
        assert_eq!(fault.detail.as_deref(), Some("it has the offsets 30 to 49"));
    }
}

fn retry_topics(broker: &Broker) {
    broker.create("again", 1, &[]);
    let schema = Schema::new(vec![
        Field::new("n", Type::Bigint),
        Field::hidden("_attempts", Type::Bigint),
        Field::hidden("_first_seen", Type::Timestamp),
        Field::hidden("_due", Type::Timestamp),
    ]);
    let now = Clock::System.now();
    let mut rows = BatchBuilder::new(schema.clone());
    for (n, due) in [(1, now - 1_000_000), (2, now + 1_500_000), (3, now - 1_000_000)] {
        rows.push_int(n);
        rows.push_int(n + 10);
        rows.push_time(77_000);
        rows.push_time(due);
        rows.end_row(Meta { time: 123_456_789, ..Meta::default() });
    }
    write(&broker.sink(json!({"topic": "again"}), &schema), &[rows.finish()]);
    let (schema, factory) = broker.source(json!({"topics": "again", "delay": "1h"}), &["_attempts", "_first_seen", "_due"]);
    let mut source = open(&factory);
    let first = Got::until(&mut *source, &schema, |g| g.rows.len() == 1);
    assert_eq!(
        (first.values(), &first.rows[0].1["_attempts"], &first.rows[0].1["_first_seen"]),
        (vec![r#"{"n":1}"#], &json!(11), &json!(77_000))
    );
    assert_eq!(source.lag(), Some(2));
    let mut got = Got { names: first.names, ..Got::default() };
    while got.rows.len() < 2 {
        got.round(&mut *source, &schema).unwrap();
        assert!(got.rows.is_empty() || Clock::System.now() >= now + 1_500_000);
    }
    assert_eq!(got.values(), [r#"{"n":2}"#, r#"{"n":3}"#]);
    while source.lag() != Some(0) {
        got.round(&mut *source, &schema).unwrap();
    }
}

fn topics_of_templates(broker: &Broker) {
    broker.create("to-a", 1, &[]);
    let sink = broker.sink(json!({"topic": "to-{{k}}", "format": "csv"}), &pairs());
    sink.check().unwrap();
    let acks = write(&sink, &[batch([("a".into(), 1), ("b c".into(), 2), ("a".into(), 3)])]);
    assert_eq!(acks.rejects.iter().map(|r| (r.reason, r.meta.offset)).collect::<Vec<_>>(), [("unknown-topic", 2)]);
    let (schema, factory) = broker.source(json!({"topics": "to-a", "bounded": true}), &[]);
    assert_eq!(Got::all(&mut *open(&factory), &schema).values(), ["a,1", "a,3"]);
    // The setting is changed behind the producer's back.
    let change = AlterConfig::new(ResourceSpecifier::Topic("to-a")).set("max.message.bytes", "500");
    block_on(broker.admin().alter_configs([&change], &AdminOptions::new())).unwrap();
    let acks = write(&sink, &[batch([("a".into(), 4)])]);
    assert!(acks.rejects.is_empty());
}

/// At least once, in order within each key, while the broker is killed and started again under load.
#[test]
#[ignore = "starts a Kafka broker"]
fn a_killed_broker_loses_nothing() {
    const ROWS: i64 = 100_000;
    let broker = Broker::start();
    broker.create("load", 4, &[]);
    let sink = broker.sink(json!({"topic": "load", "key": "{{k}}", "max_in_flight": "2MiB"}), &pairs());
    sink.check().unwrap();
    let (schema, factory) = broker.source(json!({"topics": "load", "group": "g"}), &[]);
    let (mut sink, mut source) = (open_sink(&sink), open(&factory));
    let (mut acks, mut got, mut sent, mut held, mut kills) = (Acks::default(), Got::default(), 0, 0, 0);
    let mut lasts: HashMap<String, i64> = HashMap::new();
    let (begun, mut seen) = (Instant::now(), 0);
    std::thread::scope(|scope| {
        let mut restart: Option<std::thread::ScopedJoinHandle<'_, ()>> = None;
        while lasts.values().map(|n| n / 50 + 1).sum::<i64>() < ROWS || !acks.done.len().eq(&((ROWS / 500) as usize)) {
            assert!(begun.elapsed() < Duration::from_secs(120), "{sent} sent, {} acknowledged, {seen} read", acks.done.len());
            if sent < ROWS && sink.ready() {
                sink.write(0, &batch((sent..sent + 500).map(|n| (format!("k{}", n % 50), n))), Ticket(sent as u64 / 500)).unwrap();
                sent += 500;
            } else if sent < ROWS {
                held += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            if sent == ROWS / 3 / 500 * 500 && kills == 0
                || sent == ROWS / 3 * 2 / 500 * 500 && kills == 1 && restart.as_ref().is_none_or(|r| r.is_finished())
            {
                kills += 1;
                broker.kill();
                restart = Some(scope.spawn(|| {
                    std::thread::sleep(Duration::from_secs(1));
                    broker.run();
                }));
            }
            sink.poll(&mut acks).unwrap();
            got.round(&mut *source, &schema).unwrap();
            for (_, row) in got.rows.drain(..) {
                seen += 1;
                let value: Value = serde_json::from_str(row["_value"].as_str().unwrap()).unwrap();
                let (k, n) = (value["k"].as_str().unwrap(), value["n"].as_i64().unwrap());
                match lasts.get_mut(k) {
                    // The idempotent producer writes each once; in any case none may be missed.
                    Some(last) => {
                        assert!(n <= *last + 50, "{k}: {n} after {last}");
                        *last = n.max(*last);
                    }
                    None => _ = lasts.insert(k.into(), n),
                }
            }
            let positions: Vec<_> = got.names.keys().map(|id| (*id, source.position(*id))).collect();
            source.acknowledged(&positions).unwrap();
        }
    });
    println!("{kills} kills, {held} times held back, {seen} read in {:?}", begun.elapsed());
    assert_eq!(kills, 2);
    assert!(held > 0 && acks.rejects.is_empty());
    sink.close(&mut acks).unwrap();
    source.close().unwrap();
    drop(source);
    assert_eq!(broker.committed("g", "load", 4).iter().flatten().sum::<i64>(), seen);
}

#[test]
#[ignore = "waits 10 s for a broker that is not there"]
fn a_missing_broker_is_said_in_one_sentence() {
    let port = ports::free_ports(1);
    // Its data folder has no process: nothing is killed at the end.
    let nobody = Broker { data: tempfile::tempdir().unwrap(), port };
    let (_, factory) = nobody.source(json!({"topics": ["clicks"]}), &[]);
    let fault = factory.check().unwrap_err();
    assert_eq!(fault.message, format!("no Kafka broker answers at 127.0.0.1:{port}"));
    assert!(fault.detail.as_deref().is_some_and(|d| d.contains("onnect")), "{fault:?}");
}
