//! A row as a message: what writers send and outboxes keep.

use super::headers::{ATTEMPTS, DUE, EVENT_TIME, FIRST_SEEN, with_number};
use super::sink::{Input, Spec, Topic};
use super::source::legal_topic;
use crate::format::RowWriter;
use millrace_sdk::operator::Reject;
use millrace_sdk::record::NO_TIME;
use millrace_sdk::{Record, Val};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use std::sync::Arc;

pub struct Message<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    pub headers: Option<OwnedHeaders>,
}

impl<'a> Message<'a> {
    pub fn record(self, opaque: usize) -> BaseRecord<'a, [u8], [u8], usize> {
        let mut record = BaseRecord::with_opaque_to(self.topic, opaque).payload(self.value);
        if let Some(key) = self.key {
            record = record.key(key);
        }
        match self.headers {
            Some(headers) => record.headers(headers),
            None => record,
        }
    }
}

pub struct Renderer {
    spec: Arc<Spec>,
    /// For each input.
    rows: Vec<RowWriter>,
    key: Vec<u8>,
    value: Vec<u8>,
    topic: Vec<u8>,
    header: Vec<u8>,
}

impl Renderer {
    pub fn new(spec: Arc<Spec>) -> Renderer {
        let rows = spec.inputs.iter().map(|i| i.rows.clone()).collect();
        Renderer { spec, rows, key: vec![], value: vec![], topic: vec![], header: vec![] }
    }

    /// `row` is one of `input.rows.rows(batch)`, `original` the batch's own.
    pub fn render(&mut self, number: usize, row: &Record<'_>, original: &Record<'_>) -> Result<Message<'_>, Reject> {
        let input = &self.spec.inputs[number];
        let reject = |reason: &'static str, message: String| Reject::row(reason, message, original, &input.edge.schema);
        self.value.clear();
        self.rows[number].write(row, &mut self.value).map_err(|e| reject(e.reason, e.message))?;
        let topic = match &input.topic {
            Topic::Fixed(t) => &**t,
            Topic::Of(template) => {
                self.topic.clear();
                template.render(original, &mut self.topic).map_err(|e| reject(e.reason, e.message))?;
                let name = String::from_utf8_lossy(&self.topic);
                legal_topic(&name).map_err(|why| reject("unknown-topic", why))?;
                std::str::from_utf8(&self.topic).unwrap_or_default()
            }
        };
        if let Some(template) = &input.key {
            self.key.clear();
            template.render(original, &mut self.key).map_err(|e| reject(e.reason, e.message))?;
        }
        let mut headers = retry_headers(input, original);
        for (name, template) in &input.headers {
            self.header.clear();
            template.render(original, &mut self.header).map_err(|e| reject(e.reason, e.message))?;
            headers = Some(headers.unwrap_or_default().insert(Header { key: name, value: Some(&self.header) }));
        }
        Ok(Message { topic, key: input.key.is_some().then_some(&self.key), value: &self.value, headers })
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
