//! The engine's view of a producer: writes are counted down to their acknowledgements.

use super::headers::{ATTEMPTS, DUE, EVENT_TIME, FIRST_SEEN, with_number};
use super::sink::{Input, Spec, Topic};
use super::{Listener, Shared, locked};
use crate::format::RowWriter;
use millrace_sdk::operator::Reject;
use millrace_sdk::record::NO_TIME;
use millrace_sdk::sink::Acks;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, Meta, Record, Sink, Ticket, Val};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message in flight costs this much beside its text.
const OVERHEAD: usize = 128;
/// Bits of an opaque number that name the row; the others name the write.
const ROW_BITS: u32 = 24;

/// Writes that are not yet settled, oldest first.
#[derive(Default)]
struct Flights {
    /// Number of the oldest.
    first: usize,
    open: VecDeque<Flight>,
    bytes: usize,
    done: Vec<Ticket>,
    rejects: Vec<Reject>,
    fault: Option<Fault>,
    full: bool,
}

struct Flight {
    ticket: Ticket,
    /// Rows that are neither acknowledged nor refused.
    left: usize,
    metas: Vec<Meta>,
    /// The topic is of the job's choosing, not a row's.
    fixed: bool,
}

impl Flights {
    fn settle(&mut self, number: usize, rows: usize) {
        if let Some(flight) = number.checked_sub(self.first).and_then(|i| self.open.get_mut(i)) {
            flight.left -= rows.min(flight.left);
            if flight.left == 0 && rows > 0 {
                self.done.push(flight.ticket);
            }
        }
        while self.open.front().is_some_and(|f| f.left == 0) {
            self.open.pop_front();
            self.first += 1;
        }
    }

    fn meta(&self, number: usize, row: usize) -> Meta {
        let flight = number.checked_sub(self.first).and_then(|i| self.open.get(i));
        flight.and_then(|f| f.metas.get(row)).copied().unwrap_or_default()
    }

    fn fixed(&self, number: usize) -> bool {
        number.checked_sub(self.first).and_then(|i| self.open.get(i)).is_none_or(|f| f.fixed)
    }
}

/// What the producer's thread calls back with.
struct Ear {
    listener: Listener,
    flights: Shared<Flights>,
    waker: Waker,
    max_bytes: usize,
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Listener::hear_log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let fault = Fault::down("the Kafka producer has given up").detail(reason);
            locked(&self.flights).fault.get_or_insert(fault);
            (self.waker)();
        }
        self.listener.hear_error(&error, reason);
    }
}

impl ProducerContext for Ear {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (number, row) = (opaque >> ROW_BITS, opaque & ((1 << ROW_BITS) - 1));
        let (message, error) = match result {
            Ok(m) => (m, None),
            Err((e, m)) => (m, e.rdkafka_error_code()),
        };
        let bytes = message.payload_len() + message.key_len() + OVERHEAD;
        let wake = {
            let mut flights = locked(&self.flights);
            flights.bytes = flights.bytes.saturating_sub(bytes);
            let settled = match (result, error) {
                (Ok(_), _) => true,
                (Err((e, _)), code) => {
                    let reason = code.and_then(|c| refusal(c, flights.fixed(number)));
                    match reason {
                        Some(reason) => {
                            let reject = Reject::new(
                                reason,
                                format!("Kafka refused it: {e}"),
                                flights.meta(number, row),
                                message.payload().unwrap_or_default(),
                            );
                            flights.rejects.push(Reject { is_row: true, ..reject });
                        }
                        None => {
                            let what = format!("a row could not be written to topic `{}`", message.topic());
                            flights.fault.get_or_insert(Fault::down(what).detail(e.to_string()));
                        }
                    }
                    reason.is_some()
                }
            };
            let before = flights.done.len();
            if settled {
                flights.settle(number, 1);
            }
            let room = flights.full && flights.bytes < self.max_bytes / 2;
            flights.full &= !room;
            room || flights.fault.is_some() || (before == 0 && !flights.done.is_empty())
        };
        if wake {
            (self.waker)();
        }
    }
}

/// The reason's id, if it is this one message that the broker does not want.
fn refusal(code: RDKafkaErrorCode, fixed: bool) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => Some("message-too-large"),
        RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::InvalidRecord => Some("message-refused"),
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::InvalidTopic if !fixed => {
            Some("unknown-topic")
        }
        RDKafkaErrorCode::TopicAuthorizationFailed if !fixed => Some("topic-not-permitted"),
        _ => None,
    }
}

pub struct Writer {
    spec: Arc<Spec>,
    producer: ThreadedProducer<Ear>,
    flights: Shared<Flights>,
    /// For each input.
    rows: Vec<RowWriter>,
    /// Number of the next write.
    next: usize,
    key: Vec<u8>,
    value: Vec<u8>,
    topic: Vec<u8>,
    header: Vec<u8>,
}

impl Writer {
    pub fn open(spec: Arc<Spec>, config: &ClientConfig, waker: Waker) -> KafkaResult<Writer> {
        let flights: Shared<Flights> = Arc::new(Mutex::default());
        let ear = Ear { listener: Listener::default(), flights: flights.clone(), waker, max_bytes: spec.max_bytes };
        let producer = config.create_with_context(ear)?;
        let rows = spec.inputs.iter().map(|i| i.rows.clone()).collect();
        Ok(Writer { spec, producer, flights, rows, next: 0, key: vec![], value: vec![], topic: vec![], header: vec![] })
    }

    /// Sends one row; an error is its refusal.
    fn send(
        &mut self,
        (number, input): (usize, &Input),
        row: &Record<'_>,
        original: &Record<'_>,
        opaque: usize,
    ) -> Result<Result<(), Reject>, Fault> {
        let reject = |reason: &'static str, message: String| Ok(Err(Reject::row(reason, message, original, &input.edge.schema)));
        self.value.clear();
        if let Err(e) = self.rows[number].write(row, &mut self.value) {
            return reject(e.reason, e.message);
        }
        let topic = match &input.topic {
            Topic::Fixed(t) => &**t,
            Topic::Of(template) => {
                self.topic.clear();
                if let Err(e) = template.render(original, &mut self.topic) {
                    return reject(e.reason, e.message);
                }
                let name = String::from_utf8_lossy(&self.topic);
                if let Err(why) = super::source::legal_topic(&name) {
                    return reject("unknown-topic", why);
                }
                std::str::from_utf8(&self.topic).unwrap_or_default()
            }
        };
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, opaque).payload(&self.value);
        if let Some(template) = &input.key {
            self.key.clear();
            if let Err(e) = template.render(original, &mut self.key) {
                return reject(e.reason, e.message);
            }
            record = record.key(&self.key);
        }
        let mut headers = retry_headers(input, original);
        for (name, template) in &input.headers {
            self.header.clear();
            if let Err(e) = template.render(original, &mut self.header) {
                return reject(e.reason, e.message);
            }
            headers = Some(headers.unwrap_or_default().insert(Header { key: name, value: Some(&self.header) }));
        }
        if let Some(headers) = headers {
            record = record.headers(headers);
        }
        let bytes = self.value.len() + if input.key.is_some() { self.key.len() } else { 0 } + OVERHEAD;
        locked(&self.flights).bytes += bytes;
        loop {
            let (error, again) = match self.producer.send(record) {
                Ok(()) => return Ok(Ok(())),
                Err(failed) => failed,
            };
            match error.rdkafka_error_code() {
                // The client's own bound lies far above ours, but a topology may set properties.
                Some(RDKafkaErrorCode::QueueFull) => {
                    std::thread::sleep(Duration::from_millis(1));
                    record = again;
                    continue;
                }
                code => {
                    let mut flights = locked(&self.flights);
                    flights.bytes = flights.bytes.saturating_sub(bytes);
                    let fixed = matches!(input.topic, Topic::Fixed(_));
                    return match code.and_then(|c| refusal(c, fixed)) {
                        Some(reason) => reject(reason, format!("Kafka refused it: {error}")),
                        None => Err(Fault::down(format!("a row could not be written to topic `{topic}`")).detail(error.to_string())),
                    };
                }
            }
        }
    }
}

/// The history of a row that is to be tried again.
fn retry_headers(input: &Input, row: &Record<'_>) -> Option<OwnedHeaders> {
    let [attempts, first_seen, due] = input.retry.map(|slot| slot.map_or(Val::Missing, |s| row.get(s)));
    // Rounded up: nothing may fall due too early.
    let millis = |v: Val<'_>| match v {
        Val::Time(micros) => Some(micros.saturating_add(999).div_euclid(1000)),
        other => other.as_int(),
    };
    let mut headers = None;
    for (name, number) in [(ATTEMPTS, attempts.as_int()), (FIRST_SEEN, millis(first_seen)), (DUE, millis(due))] {
        if let Some(n) = number {
            headers = Some(with_number(headers.unwrap_or_default(), name, n));
        }
    }
    let time = row.meta().time;
    headers.map(|h: OwnedHeaders| if time == NO_TIME { h } else { with_number(h, EVENT_TIME, time) })
}

impl Sink for Writer {
    fn ready(&mut self) -> bool {
        let mut flights = locked(&self.flights);
        flights.full = flights.bytes >= self.spec.max_bytes;
        !flights.full || flights.fault.is_some()
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let spec = self.spec.clone();
        let at = (input, &spec.inputs[input]);
        let input = at.1;
        let rows = input.rows.rows(batch);
        if rows.is_empty() {
            locked(&self.flights).done.push(ticket);
            return Ok(());
        }
        let number = self.next;
        self.next += 1;
        {
            let mut flights = locked(&self.flights);
            if flights.open.is_empty() {
                flights.first = number;
            }
            let fixed = matches!(input.topic, Topic::Fixed(_));
            flights.open.push_back(Flight { ticket, left: rows.len(), metas: batch.metas().to_vec(), fixed });
        }
        for (i, (row, original)) in rows.rows().zip(batch.rows()).enumerate() {
            let opaque = number << ROW_BITS | i & ((1 << ROW_BITS) - 1);
            if let Err(reject) = self.send(at, &row, &original, opaque)? {
                let mut flights = locked(&self.flights);
                flights.rejects.push(reject);
                flights.settle(number, 1);
            }
        }
        Ok(())
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        let mut flights = locked(&self.flights);
        acks.done.append(&mut flights.done);
        acks.rejects.append(&mut flights.rejects);
        flights.fault.clone().map_or(Ok(()), Err)
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.spec.close_timeout)
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }
}

impl Drop for Writer {
    /// What nobody waits for any more is given up at once, or the library would go on trying for as long as the broker is down.
    fn drop(&mut self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
