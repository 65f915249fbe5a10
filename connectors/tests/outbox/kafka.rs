//! Topics of a real broker.

use super::servers::Server;
use super::suite::{Maker, Place, conform, costs, factory, measured, outbox, patiently, rows};
use futures::executor::block_on;
use millrace_sdk::operator::Reject;
use millrace_sdk::{Batch, Outbox};
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 3;

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

fn create(brokers: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    for (k, v) in settings {
        new = new.set(k, v);
    }
    block_on(admin(brokers).create_topics([&new], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
}

/// What a read_committed reader finds, partition by partition.
fn read(brokers: &str, topic: &str) -> Vec<(String, i64)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "oracle")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for p in 0..PARTITIONS {
        list.add_partition_offset(topic, p, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut rows, mut ended, until) = (vec![], 0, Instant::now() + Duration::from_secs(60));
    while ended < PARTITIONS {
        assert!(Instant::now() < until, "an open transaction hides the end of a partition");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => {
                let row: Value = serde_json::from_slice(m.payload().unwrap()).unwrap();
                let k = row["k"].as_str().unwrap();
                assert_eq!(m.key(), Some(k.as_bytes()));
                rows.push((k.to_string(), row["n"].as_i64().unwrap()));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(e)) => println!("the oracle's reader: {e}"),
            None => {}
        }
    }
    rows
}

struct Topic {
    brokers: String,
    topic: String,
}

impl Place for Topic {
    fn sink(&self) -> (&'static str, Value) {
        ("Kafka", json!({"brokers": self.brokers, "topic": self.topic, "key": "{{k}}"}))
    }

    fn read(&self) -> Vec<(String, i64)> {
        read(&self.brokers, &self.topic)
    }

    fn points(&self) -> &'static [&'static str] {
        &["txn-begun", "txn-sent", "txn-committed"]
    }
}

fn topics(broker: &Server) -> impl Fn(&str) -> Box<dyn Place> {
    let brokers = broker.address();
    move |name| {
        create(&brokers, name, &[]);
        Box::new(Topic { brokers: brokers.clone(), topic: name.into() })
    }
}

#[test]
#[ignore = "starts a Kafka broker"]
fn a_topic() {
    let broker = Server::start("kafka.sh", 2);
    conform(&topics(&broker) as Maker<'_>);
}

/// Encodes batches as one chunk, and opens an outbox that has fenced the writer.
fn begin(config: Value, batches: &[Batch]) -> (Vec<u8>, Box<dyn Outbox>) {
    let factory = factory("Kafka", config, PathBuf::new());
    factory.check().unwrap();
    let (mut encoder, mut outbox) = (factory.encoder(super::suite::context(0)).unwrap(), outbox(&*factory));
    let mut chunk = vec![];
    batches.iter().for_each(|b| encoder.encode(0, b, &mut chunk).unwrap().unwrap());
    patiently(|| outbox.fence(&["w-0".into()])).unwrap();
    (chunk, outbox)
}

fn apply(outbox: &mut dyn Outbox, chunk: &[u8], marker: u64) -> Vec<Reject> {
    let mut rejects = vec![];
    patiently(|| outbox.apply("w-0", chunk, marker, &mut rejects)).unwrap();
    rejects
}

fn told(rejects: &[Reject]) -> Vec<(&'static str, u64)> {
    rejects.iter().map(|r| (r.reason, r.meta.offset)).collect()
}

#[test]
#[ignore = "starts a Kafka broker"]
fn what_the_broker_does_not_take() {
    let broker = Server::start("kafka.sh", 2);
    let brokers = broker.address();
    let some =
        |from: i64, to: i64, large: &[i64]| rows((from..to).map(|n| (if large.contains(&n) { "x".repeat(5000) } else { "k".into() }, n)));
    let numbers = |topic: &str| -> Vec<i64> { read(&brokers, topic).into_iter().map(|(_, n)| n).collect() };

    // Known beforehand.
    create(&brokers, "small", &[("max.message.bytes", "2000")]);
    let config = json!({"brokers": brokers, "topic": "small", "key": "{{k}}"});
    let (chunk, mut outbox) = begin(config.clone(), &[some(0, 30, &[7, 20])]);
    assert_eq!(told(&apply(&mut *outbox, &chunk, 1)), [("message-too-large", 7), ("message-too-large", 20)]);
    assert_eq!(numbers("small"), (0..30).filter(|n| ![7, 20].contains(n)).collect::<Vec<_>>());

    // Found out by the broker's refusal of whole batches, good rows among them.
    create(&brokers, "shrunk", &[]);
    let config = json!({"brokers": brokers, "topic": "shrunk", "key": "{{k}}"});
    let (chunk, mut outbox) = begin(config, &[some(0, 30, &[7, 20])]);
    let change = AlterConfig::new(ResourceSpecifier::Topic("shrunk")).set("max.message.bytes", "2000");
    block_on(admin(&brokers).alter_configs([&change], &AdminOptions::new())).unwrap();
    assert_eq!(told(&apply(&mut *outbox, &chunk, 1)), [("message-too-large", 7), ("message-too-large", 20)]);
    assert_eq!(numbers("shrunk"), (0..30).filter(|n| ![7, 20].contains(n)).collect::<Vec<_>>());
    // The next chunk goes as ever.
    let (chunk, _) = begin(json!({"brokers": brokers, "topic": "shrunk", "key": "{{k}}"}), &[some(30, 40, &[])]);
    let fault = outbox.apply("w-0", &chunk, 2, &mut vec![]).unwrap_err();
    assert!(!fault.retry && fault.message.contains("taken over"), "it was fenced by the line above: {fault}");

    // Topics of a template: some exist.
    create(&brokers, "to-a", &[]);
    create(&brokers, "markers", &[]);
    let config = json!({"brokers": brokers, "topic": "to-{{k}}", "key": "{{k}}", "marker_topic": "markers", "properties": {"allow.auto.create.topics": false}});
    let batch = rows([("a", 1), ("nowhere", 2), ("a", 3), ("nowhere", 4)].map(|(k, n)| (k.to_string(), n)));
    let (chunk, mut outbox) = begin(config, &[batch]);
    assert_eq!(told(&apply(&mut *outbox, &chunk, 1)), [("unknown-topic", 2), ("unknown-topic", 4)]);
    assert_eq!((numbers("to-a"), outbox.applied("w-0").unwrap()), (vec![1, 3], Some(1)));
}

/// The broker is killed while transactions run, and comes back: what is in doubt is settled, nothing is lost or doubled.
#[test]
#[ignore = "starts a Kafka broker"]
fn a_killed_broker() {
    let broker = Server::start("kafka.sh", 2);
    let brokers = broker.address();
    create(&brokers, "doubt", &[]);
    // Short, or the client library would wait until the broker is back.
    let config = json!({"brokers": brokers, "topic": "doubt", "key": "{{k}}", "properties": {"transaction.timeout.ms": 1000}});
    let batch = |i: i64| rows((i * 20..i * 20 + 20).map(|n| (format!("k{}", n % 7), n)));
    let (_, mut outbox) = begin(config.clone(), &[]);
    let factory = factory("Kafka", config, PathBuf::new());
    let mut encoder = factory.encoder(super::suite::context(0)).unwrap();
    let mut failures = 0;
    std::thread::scope(|scope| {
        let chaos = scope.spawn(|| {
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(400));
                broker.kill();
                broker.run();
            }
        });
        let mut i = 0;
        while !chaos.is_finished() || i < 100 {
            let mut chunk = vec![];
            encoder.encode(0, &batch(i), &mut chunk).unwrap().unwrap();
            while let Err(fault) = outbox.apply("w-0", &chunk, 1 << 20 | i as u64, &mut vec![]) {
                assert!(fault.retry, "{fault}");
                failures += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            i += 1;
        }
        let mut numbers: Vec<i64> = read(&brokers, "doubt").into_iter().map(|(_, n)| n).collect();
        numbers.sort_unstable();
        println!("{i} chunks, {failures} failed calls");
        assert!(numbers == (0..i * 20).collect::<Vec<_>>(), "{} rows of {}", numbers.len(), i * 20);
    });
    assert!(failures > 0);
}

#[test]
#[ignore = "measures"]
fn cost() {
    if !measured() {
        return;
    }
    let broker = Server::start("kafka.sh", 2);
    costs(&topics(&broker) as Maker<'_>);
}
