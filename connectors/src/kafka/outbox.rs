//! Exactly-once: an outbox's chunk is written in one transaction, together with its marker.
//!
//! Each writer has a transactional id and a consumer group of its own name. The marker is the offset that the transaction commits to
//! that group, for partition 0 of the marker topic. Taking a writer over is `InitProducerId` (KIP-98): the broker refuses whoever held
//! the id before, and settles what he left open. Only then the marker is read, and every such step is followed by a read of the marker
//! before anything is written, as it also takes the id away from a process that had done the same.

use super::message::{Message, Renderer};
use super::sink::{Spec, consumer_settings, message_max};
use super::writer::refusal;
use super::{Listener, Shared, locked, refused};
use crate::chunk::{Chunk, begin, put_bytes, put_meta, put_number};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::{Acks, KeepRefused};
use millrace_sdk::{Batch, Fault, Meta, Outbox, Sink, Ticket, point};
use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Chunk: version, then items: `TOPIC` name, or `ROW` meta, key, value, headers of the topic named last.
const VERSION: u8 = 1;
const TOPIC: u8 = 0;
const ROW: u8 = 1;
const ROW_WITH_KEY: u8 = 2;

/// For taking a writer over, and for reading a marker.
const PATIENCE: Duration = Duration::from_secs(30);
/// `transaction.timeout.ms` unless `properties` have one.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Writers that are taken over at once.
const AT_ONCE: usize = 64;
/// Reasons for which a topic takes no message at all.
const TOPIC_REASONS: [&str; 2] = ["unknown-topic", "topic-not-permitted"];
/// Messages between two looks at what was delivered.
const LOOK: usize = 256;

pub struct Encoder {
    pub spec: Arc<Spec>,
    pub renderer: Renderer,
    pub rejects: Vec<Reject>,
}

impl Sink for Encoder {
    fn write(&mut self, _: usize, _: &Batch, _: Ticket) -> Result<(), Fault> {
        Err(Fault::bug("a Kafka sink's encoder was asked to write"))
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.rejects.append(&mut self.rejects);
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }

    fn encode(&mut self, input: usize, batch: &Batch, chunk: &mut Vec<u8>) -> Option<Result<(), Fault>> {
        begin(VERSION, chunk);
        let rows = self.spec.inputs[input].rows.rows(batch);
        let mut last = String::new();
        for (row, original) in rows.rows().zip(batch.rows()) {
            match self.renderer.render(input, &row, &original) {
                Ok(message) => {
                    if message.topic != last {
                        last = message.topic.into();
                        chunk.push(TOPIC);
                        put_bytes(message.topic.as_bytes(), chunk);
                    }
                    put_message(&message, original.meta(), chunk);
                }
                Err(reject) => self.rejects.push(reject),
            }
        }
        Some(Ok(()))
    }
}

fn put_message(message: &Message<'_>, meta: &Meta, chunk: &mut Vec<u8>) {
    chunk.push(if message.key.is_some() { ROW_WITH_KEY } else { ROW });
    put_meta(meta, chunk);
    if let Some(key) = message.key {
        put_bytes(key, chunk);
    }
    put_bytes(message.value, chunk);
    put_number(message.headers.as_ref().map_or(0, |h| h.count()) as u64, chunk);
    for header in message.headers.iter().flat_map(Headers::iter) {
        put_bytes(header.key.as_bytes(), chunk);
        put_bytes(header.value.unwrap_or_default(), chunk);
    }
}

/// The messages of a chunk, each with its row's meta.
struct Messages<'a> {
    chunk: Option<Chunk<'a>>,
    topic: &'a str,
}

impl<'a> Messages<'a> {
    fn of(chunk: &'a [u8]) -> Result<Messages<'a>, Fault> {
        let chunk = if chunk.is_empty() { None } else { Some(Chunk::open(chunk, VERSION)?) };
        Ok(Messages { chunk, topic: "" })
    }

    fn next(&mut self) -> Result<Option<(Message<'a>, Meta)>, Fault> {
        let Some(chunk) = &mut self.chunk else { return Ok(None) };
        while !chunk.is_empty() {
            let kind = chunk.byte()?;
            if kind == TOPIC {
                self.topic = chunk.text()?;
                continue;
            }
            let meta = chunk.meta()?;
            let key = if kind == ROW_WITH_KEY { Some(chunk.bytes()?) } else { None };
            let value = chunk.bytes()?;
            let mut headers: Option<OwnedHeaders> = None;
            for _ in 0..chunk.number()? {
                let (key, value) = (chunk.text()?, chunk.bytes()?);
                headers = Some(headers.unwrap_or_default().insert(Header { key, value: Some(value) }));
            }
            return Ok(Some((Message { topic: self.topic, key, value, headers }, meta)));
        }
        Ok(None)
    }
}

/// Why rows are refused, by their number: the reason's id and what the broker said.
type Refused = BTreeMap<usize, (&'static str, String)>;

/// What became of a transaction's messages, beside those that arrived.
#[derive(Default)]
struct Losses {
    refused: Refused,
    /// Topics that refuse every row.
    topics: HashMap<String, (&'static str, String)>,
    failed: Option<KafkaError>,
}

/// What a producer calls back with, while it is polled.
struct Ear {
    listener: Listener,
    losses: Shared<Losses>,
    fixed: bool,
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Listener::hear_log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.hear_error(&error, reason);
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, row: usize) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code();
        // What was never sent because the transaction is given up.
        if matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) {
            return;
        }
        let mut losses = locked(&self.losses);
        match code.and_then(|c| refusal(c, self.fixed)) {
            Some(reason) => {
                if TOPIC_REASONS.contains(&reason) {
                    losses.topics.insert(message.topic().into(), (reason, error.to_string()));
                }
                losses.refused.insert(row, (reason, error.to_string()));
            }
            None => _ = losses.failed.get_or_insert_with(|| error.clone()),
        }
    }
}

/// One writer's hold on its id.
struct Client {
    /// None: a commit is in doubt, or the producer is of no more use.
    producer: Option<BaseProducer<Ear>>,
    losses: Shared<Losses>,
    group: Arc<ConsumerGroupMetadata>,
    marker: Option<u64>,
    /// Each message travels alone, so that what is refused is refused for itself.
    single: bool,
    /// Another has the id.
    fenced: Option<Fault>,
    /// The chunk whose outcome is not known, and what was refused of it.
    doubt: Option<(u64, Vec<Reject>)>,
}

impl Drop for Client {
    /// Dropping a producer can take half a second.
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            discard(producer);
        }
    }
}

fn discard(producer: BaseProducer<Ear>) {
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    // Without a thread it is dropped here.
    let _ = std::thread::Builder::new().name("kafka-drop".into()).spawn(move || drop(producer));
}

pub struct Transactions {
    pub spec: Arc<Spec>,
    pub marker_topic: Arc<str>,
    /// After which the broker gives a transaction up; each of its steps may take half of that.
    timeout: Duration,
    clients: HashMap<String, Client>,
    keep: Option<KeepRefused>,
}

/// Why a transaction was not committed, as far as is known.
enum Stop {
    Kafka(KafkaError),
    /// The chunk cannot be read.
    Fault(Fault),
}

impl From<KafkaError> for Stop {
    fn from(e: KafkaError) -> Stop {
        Stop::Kafka(e)
    }
}

impl From<Fault> for Stop {
    fn from(f: Fault) -> Stop {
        Stop::Fault(f)
    }
}

fn fenced(error: &KafkaError, producer: &BaseProducer<Ear>) -> bool {
    let of = |code: RDKafkaErrorCode| {
        matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::ProducerFenced)
    };
    let said = match error {
        KafkaError::Transaction(e) => Some(e.code()),
        e => e.rdkafka_error_code(),
    };
    said.is_some_and(of) || producer.client().fatal_error().is_some_and(|(code, _)| of(code))
}

/// What only a person can mend.
fn not_permitted(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::Transaction(e) => Some(e.code()),
        e => e.rdkafka_error_code(),
    };
    use RDKafkaErrorCode::*;
    matches!(
        code,
        Some(TransactionalIdAuthorizationFailed | GroupAuthorizationFailed | TopicAuthorizationFailed | ClusterAuthorizationFailed)
    )
}

/// Transactional id and group of a writer.
fn name(writer: &str) -> String {
    format!("millrace-{writer}")
}

impl Transactions {
    pub fn new(spec: Arc<Spec>, marker_topic: Arc<str>) -> Transactions {
        let timeout = spec.client.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
        Transactions { timeout: timeout.map_or(TIMEOUT, Duration::from_millis), spec, marker_topic, clients: HashMap::new(), keep: None }
    }

    fn producer(&self, writer: &str, single: bool, losses: &Shared<Losses>) -> Result<BaseProducer<Ear>, Fault> {
        let mut config = self.spec.client.clone();
        config.set("transactional.id", name(writer));
        let timeout = self.timeout.as_millis().to_string();
        config.set("transaction.timeout.ms", timeout.as_str()).set("message.timeout.ms", timeout);
        // Also the pause after CONCURRENT_TRANSACTIONS, which every transaction meets that follows at once.
        if config.get("retry.backoff.ms").is_none() {
            config.set("retry.backoff.ms", "10");
        }
        // How long a topic that is not there may take to appear; each message to it waits that long.
        if config.get("topic.metadata.propagation.max.ms").is_none() {
            config.set("topic.metadata.propagation.max.ms", "5000");
        }
        let max = self.spec.message_max.load(Ordering::Relaxed);
        if max > 0 && !self.spec.message_max_given {
            config.set("message.max.bytes", max.clamp(1000, 1_000_000_000).to_string());
        }
        if single {
            config.set("batch.num.messages", "1");
        }
        let ear = Ear { listener: Listener::default(), losses: losses.clone(), fixed: self.fixed() };
        config.create_with_context(ear).map_err(|e| refused(&self.spec.brokers, &e))
    }

    fn consumer(&self, writer: &str) -> Result<BaseConsumer<Listener>, Fault> {
        let mut config: ClientConfig = consumer_settings(&self.spec.client);
        config.set("group.id", name(writer)).set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        config.create_with_context(Listener::default()).map_err(|e| refused(&self.spec.brokers, &e))
    }

    /// The offset that the writer's group has, settled.
    fn marker(&self, writer: &str, consumer: &BaseConsumer<Listener>) -> Result<Option<u64>, Fault> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.marker_topic, 0);
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = consumer.committed_offsets(asked.clone(), PATIENCE).and_then(|list| {
                let element = list.elements_for_topic(&self.marker_topic).first().map(|e| (e.offset(), e.error()));
                element.map_or(Ok(None), |(offset, error)| error.map(|()| Some(offset)))
            });
            match answer {
                Ok(Some(Offset::Offset(offset))) => return Ok(u64::try_from(offset).ok()),
                Ok(_) => return Ok(None),
                Err(e) if not_permitted(&e) || Instant::now() >= until => return Err(self.fault(writer, "the marker of", &e)),
                // A coordinator that is being elected, or has just moved.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn fault(&self, writer: &str, what: &str, error: &KafkaError) -> Fault {
        if not_permitted(error) {
            let fault = Fault::refused(format!("Kafka at {} does not permit exactly-once writes", self.spec.brokers));
            let hint = format!(
                "permit Write and Describe for transactional ids, Read for groups that begin with `millrace-`, and Read for topic `{}`",
                self.marker_topic
            );
            return fault.detail(error.to_string()).hint(hint);
        }
        Fault::down(format!("{what} Kafka writer `{writer}` at {} is not to be had", self.spec.brokers)).detail(error.to_string())
    }

    /// Takes the id: fences who had it, settles what he left, and then reads the marker.
    fn take(&self, writer: &str, single: bool) -> Result<Client, Fault> {
        let losses = Shared::default();
        let producer = self.producer(writer, single, &losses)?;
        let consumer = self.consumer(writer)?;
        if let Err(e) = producer.init_transactions(PATIENCE) {
            let fault = self.fault(writer, "the transactional id of", &e);
            discard(producer);
            return Err(fault);
        }
        let taken = (|| {
            let group = consumer.group_metadata().ok_or_else(|| Fault::bug("a Kafka group has no metadata"))?;
            Ok((Arc::new(group), self.marker(writer, &consumer)?))
        })();
        let _ = std::thread::Builder::new().name("kafka-drop".into()).spawn(move || drop(consumer));
        match taken {
            Ok((group, marker)) => Ok(Client { producer: Some(producer), losses, group, marker, single, fenced: None, doubt: None }),
            Err(fault) => {
                discard(producer);
                Err(fault)
            }
        }
    }

    /// One transaction; false: the broker has refused rows, and it was given up.
    fn attempt(&self, client: &Client, producer: &BaseProducer<Ear>, work: &Work<'_>, skip: &mut Skip) -> Result<bool, Stop> {
        *locked(&client.losses) = Losses::default();
        match self.transact(client, producer, work, skip) {
            // A refused row makes the library give the transaction up, and whatever is called next says so.
            Err(Stop::Kafka(e)) if !fenced(&e, producer) && !locked(&client.losses).refused.is_empty() => {
                producer.abort_transaction(self.timeout / 2)?;
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }

    fn transact(&self, client: &Client, producer: &BaseProducer<Ear>, work: &Work<'_>, skip: &mut Skip) -> Result<(), Stop> {
        producer.begin_transaction()?;
        point::reach("txn-begun");
        let (mut messages, mut row) = (Messages::of(work.chunk)?, 0);
        while let Some((message, _)) = messages.next()? {
            if let Some(why) = skip.topics.get(message.topic) {
                skip.rows.entry(row).or_insert_with(|| why.clone());
            }
            if !skip.rows.contains_key(&row) {
                self.send(producer, message, row, skip)?;
            }
            if row % LOOK == LOOK - 1 {
                producer.poll(Duration::ZERO);
            }
            row += 1;
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.marker_topic, 0, Offset::Offset(work.marker as i64))?;
        producer.send_offsets_to_transaction(&offsets, &client.group, self.timeout / 2)?;
        // The library's own flush waits in steps of 100 ms, and committing calls it: be done before.
        let until = Instant::now() + self.timeout / 2;
        while producer.in_flight_count() > 0 && Instant::now() < until && client.heard().is_ok() {
            producer.poll(Duration::from_millis(1));
        }
        client.heard()?;
        if let Some(keep) = self.keep.as_ref().filter(|_| !skip.rows.is_empty()) {
            keep(work.writer, work.marker, &work.rejects(skip)?)?;
        }
        point::reach("txn-sent");
        producer.commit_transaction(self.timeout / 2)?;
        point::reach("txn-committed");
        Ok(())
    }

    fn send(&self, producer: &BaseProducer<Ear>, message: Message<'_>, row: usize, skip: &mut Skip) -> Result<(), KafkaError> {
        let mut record = message.record(row);
        loop {
            let (error, again) = match producer.send(record) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => {
                    producer.poll(Duration::from_millis(5));
                    record = again;
                }
                // Refused before it was sent: the transaction is none the worse for it.
                code => match code.and_then(|c| refusal(c, self.fixed())) {
                    Some(reason) => {
                        skip.rows.insert(row, (reason, error.to_string()));
                        return Ok(());
                    }
                    None => return Err(error),
                },
            }
        }
    }

    fn fixed(&self) -> bool {
        self.spec.inputs.iter().all(|i| i.fixed())
    }

    fn publish(&self, client: &mut Client, work: &Work<'_>, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        let writer = work.writer;
        if let Some(fault) = &client.fenced {
            return Err(fault.clone());
        }
        if client.producer.is_none() {
            let doubt = client.doubt.take();
            match self.take(writer, false) {
                Ok(mut taken) => {
                    taken.doubt = doubt;
                    *client = taken;
                }
                Err(fault) => {
                    client.doubt = doubt;
                    return Err(fault);
                }
            }
        }
        let doubt = client.doubt.take();
        if client.marker.is_some_and(|m| m >= work.marker) {
            rejects.extend(doubt.filter(|(marker, _)| *marker == work.marker).into_iter().flat_map(|(_, rejects)| rejects));
            return Ok(());
        }
        let mut skip = Skip::default();
        loop {
            let producer = client.producer.take().ok_or_else(|| Fault::bug("a Kafka writer has no producer"))?;
            match self.attempt(client, &producer, work, &mut skip) {
                Ok(true) => {
                    client.marker = Some(work.marker);
                    if client.single {
                        // At once, and not when the next chunk comes: until then another may have taken the writer over.
                        discard(producer);
                        if let Ok(taken) = self.take(writer, false) {
                            *client = taken;
                        }
                    } else {
                        client.producer = Some(producer);
                    }
                    rejects.extend(work.rejects(&skip)?);
                    return Ok(());
                }
                Ok(false) => {
                    let lost = std::mem::take(&mut *locked(&client.losses));
                    skip.topics.extend(lost.topics);
                    let topics = |r: &(&str, String)| TOPIC_REASONS.contains(&r.0);
                    if client.single || lost.refused.values().all(topics) {
                        skip.rows.extend(lost.refused);
                        client.producer = Some(producer);
                        continue;
                    }
                    // A batch is refused as a whole: find out who is meant.
                    if let Some(bytes) =
                        self.spec.inputs.first().and_then(|i| i.fixed_topic()).and_then(|t| message_max(&self.spec.client, t))
                    {
                        self.spec.message_max.store(bytes, Ordering::Relaxed);
                    }
                    discard(producer);
                    *client = self.take(writer, true)?;
                    if client.marker.is_some_and(|m| m >= work.marker) {
                        return Ok(());
                    }
                }
                Err(Stop::Fault(fault)) => {
                    discard(producer);
                    return Err(fault);
                }
                Err(Stop::Kafka(e)) if fenced(&e, &producer) => {
                    discard(producer);
                    let fault = Fault::refused(format!("another run of this job has taken over Kafka writer `{writer}`"));
                    let fault = fault.detail(e.to_string()).hint("let only one of them run");
                    return Err(client.fenced.insert(fault).clone());
                }
                Err(Stop::Kafka(e)) => {
                    discard(producer);
                    client.doubt = Some((work.marker, work.rejects(&skip)?));
                    return Err(self.fault(writer, "an answer for the transaction of", &e));
                }
            }
        }
    }
}

/// A chunk that is to be published.
struct Work<'a> {
    writer: &'a str,
    chunk: &'a [u8],
    marker: u64,
}

/// What is left out, as the broker does not want it.
#[derive(Default)]
struct Skip {
    rows: Refused,
    topics: HashMap<String, (&'static str, String)>,
}

impl Work<'_> {
    fn rejects(&self, skip: &Skip) -> Result<Vec<Reject>, Fault> {
        let (mut messages, mut row, mut rejects) = (Messages::of(self.chunk)?, 0, vec![]);
        while rejects.len() < skip.rows.len()
            && let Some((message, meta)) = messages.next()?
        {
            if let Some((reason, why)) = skip.rows.get(&row) {
                let reject = Reject::new(reason, format!("Kafka refused it: {why}"), meta, message.value);
                rejects.push(Reject { is_row: true, ..reject });
            }
            row += 1;
        }
        Ok(rejects)
    }
}

impl Client {
    fn heard(&self) -> Result<(), KafkaError> {
        let losses = locked(&self.losses);
        match &losses.failed {
            Some(e) => Err(e.clone()),
            None if losses.refused.is_empty() => Ok(()),
            None => Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)),
        }
    }
}

impl Outbox for Transactions {
    fn keep_refused(&mut self, keep: KeepRefused) {
        self.keep = Some(keep);
    }

    fn fence(&mut self, writers: &[String]) -> Result<(), Fault> {
        for some in writers.chunks(AT_ONCE) {
            let this = &*self;
            let taken: Vec<Result<Client, Fault>> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    some.iter().map(|w| scope.spawn(move || this.take(w, false).inspect(|_| point::reach("fence-half")))).collect();
                let ended =
                    |t: std::thread::ScopedJoinHandle<'_, _>| t.join().unwrap_or_else(|_| Err(Fault::bug("a Kafka writer has panicked")));
                threads.into_iter().map(ended).collect()
            });
            for (writer, client) in some.iter().zip(taken) {
                self.clients.insert(writer.clone(), client?);
            }
        }
        Ok(())
    }

    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        match self.clients.get(writer) {
            Some(client) if client.producer.is_some() => Ok(client.marker),
            _ => self.marker(writer, &self.consumer(writer)?),
        }
    }

    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        let missing = || Fault::bug(format!("Kafka writer `{writer}` was not fenced before"));
        let mut client = self.clients.remove(writer).ok_or_else(missing)?;
        let outcome = self.publish(&mut client, &Work { writer, chunk, marker }, rejects);
        self.clients.insert(writer.into(), client);
        outcome
    }
}
