//! The engine's view of a producer: writes are counted down to their acknowledgements.

use super::message::Renderer;
use super::sink::Spec;
use super::{Listener, Shared, locked};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::source::Waker;
use millrace_sdk::{Batch, Fault, Meta, Record, Sink, Ticket};
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer};
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
pub fn refusal(code: RDKafkaErrorCode, fixed: bool) -> Option<&'static str> {
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
    renderer: Renderer,
    /// Number of the next write.
    next: usize,
}

impl Writer {
    pub fn open(spec: Arc<Spec>, config: &ClientConfig, waker: Waker) -> KafkaResult<Writer> {
        let flights: Shared<Flights> = Arc::new(Mutex::default());
        let ear = Ear { listener: Listener::default(), flights: flights.clone(), waker, max_bytes: spec.max_bytes };
        let producer = config.create_with_context(ear)?;
        Ok(Writer { renderer: Renderer::new(spec.clone()), spec, producer, flights, next: 0 })
    }

    /// Sends one row; an error is its refusal.
    fn send(&mut self, number: usize, row: &Record<'_>, original: &Record<'_>, opaque: usize) -> Result<Result<(), Reject>, Fault> {
        let message = match self.renderer.render(number, row, original) {
            Ok(message) => message,
            Err(reject) => return Ok(Err(reject)),
        };
        let bytes = message.value.len() + message.key.map_or(0, <[u8]>::len) + OVERHEAD;
        locked(&self.flights).bytes += bytes;
        let (topic, mut record) = (message.topic, message.record(opaque));
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
                    let input = &self.spec.inputs[number];
                    return match code.and_then(|c| refusal(c, input.fixed())) {
                        Some(reason) => {
                            let message = format!("Kafka refused it: {error}");
                            Ok(Err(Reject::row(reason, message, original, &input.edge.schema)))
                        }
                        None => Err(Fault::down(format!("a row could not be written to topic `{topic}`")).detail(error.to_string())),
                    };
                }
            }
        }
    }
}

impl Sink for Writer {
    fn ready(&mut self) -> bool {
        let mut flights = locked(&self.flights);
        flights.full = flights.bytes >= self.spec.max_bytes;
        !flights.full || flights.fault.is_some()
    }

    fn write(&mut self, input: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let spec = self.spec.clone();
        let (index, input) = (input, &spec.inputs[input]);
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
            flights.open.push_back(Flight { ticket, left: rows.len(), metas: batch.metas().to_vec(), fixed: input.fixed() });
        }
        for (i, (row, original)) in rows.rows().zip(batch.rows()).enumerate() {
            let opaque = number << ROW_BITS | i & ((1 << ROW_BITS) - 1);
            if let Err(reject) = self.send(index, &row, &original, opaque)? {
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
