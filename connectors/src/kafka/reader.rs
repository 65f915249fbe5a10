//! The engine's view of a consumer: each partition has a queue of its own, which is asked without waiting.

use super::control::{Client, Consumer, Ear, Found, News, TopicPartition};
use super::headers;
use super::locked;
use super::source::{Column, OnOffsetLost, Spec};
use crossbeam_channel::TryRecvError;
use millrace_sdk::operator::Reject;
use millrace_sdk::record::NO_TIME;
use millrace_sdk::source::{Discovery, Pull, Waker};
use millrace_sdk::{BatchBuilder, Clock, Fault, Meta, PartitionInfo, Poll, Position, Source, SourceContext};
use rdkafka::Message;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long `close` waits for the group to hear the last of them.
const LAST_COMMIT: Duration = Duration::from_secs(10);

pub struct Reader {
    spec: Arc<Spec>,
    parts: HashMap<u32, Part>,
    /// Behind the parts: their queues must go before the client does.
    consumer: Consumer,
    listed: bool,
    /// Partitions that `discover` has not yet told the engine.
    new: Vec<PartitionInfo>,
    fault: Option<Fault>,
    clock: Clock,
    waker: Waker,
    source: u16,
    max_record: usize,
}

/// A partition that is read here.
struct Part {
    at: TopicPartition,
    /// The offset behind the last message that was delivered.
    next: i64,
    /// Where a bounded read ends.
    end: Option<i64>,
    /// The end of the log when the partition was found.
    high: i64,
    /// None before the first poll.
    queue: Option<PartitionQueue<Ear>>,
    /// A message that is not yet due.
    held: Option<OwnedMessage>,
    /// The end of the log, as the client knew it, when everything before it had been read.
    read_to: i64,
    /// Connections lost when the end of the log was last made sure of; and when it was last asked for.
    sure: u64,
    asked: u64,
    lost: bool,
    /// The end of the log was reached behind the bounded read's, if no message of it comes after all.
    at_end: bool,
    ended: bool,
}

impl Reader {
    pub fn new(spec: Arc<Spec>, consumer: Consumer, cx: SourceContext) -> Reader {
        Reader {
            spec,
            parts: HashMap::new(),
            consumer,
            listed: false,
            new: vec![],
            fault: None,
            clock: cx.clock,
            waker: cx.waker,
            source: cx.source,
            max_record: cx.env.max_record,
        }
    }

    /// Hears what the client's thread has found out.
    fn hear(&mut self) -> Result<(), Fault> {
        loop {
            match self.consumer.news.try_recv() {
                Ok(News::Found(found)) => {
                    self.listed = true;
                    for f in found {
                        let info = self.add(f);
                        self.new.push(info);
                    }
                }
                Ok(News::Moved { at, to, low, high }) => self.fault = self.moved(&at, to, low, high).err(),
                Ok(News::End { at, high, losses }) => {
                    if let Some(part) = self.parts.values_mut().find(|p| p.at == at) {
                        part.high = part.high.max(high);
                        part.sure = losses;
                    }
                }
                Ok(News::Broken(fault)) => self.fault = Some(fault),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.fault = Some(Fault::bug("the thread of the Kafka source has ended")),
            }
            if self.fault.is_some() {
                break;
            }
        }
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn add(&mut self, f: Found) -> PartitionInfo {
        let name = format!("{}/{}", f.at.0, f.at.1);
        // A listed topic's partitions are numbered so that a single topic's ids are its own; others by a hash of the name.
        let mut id = match self.spec.topics.iter().position(|t| **t == *f.at.0) {
            Some(i) if i < 0x7fff && f.at.1 < 0x1_0000 => (i as u32) << 16 | f.at.1 as u32,
            _ => 0x8000_0000 | xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32,
        };
        while self.parts.contains_key(&id) {
            id = 0x8000_0000 | id.wrapping_add(1);
        }
        let (end, losses) = (self.spec.bounded.then_some(f.high), self.consumer.losses());
        let part = Part {
            at: f.at,
            next: f.start,
            end,
            high: f.high,
            queue: None,
            held: None,
            read_to: -1,
            sure: losses,
            asked: losses,
            lost: false,
            at_end: false,
            ended: false,
        };
        self.parts.insert(id, part);
        PartitionInfo { id, name }
    }

    fn moved(&mut self, at: &TopicPartition, to: i64, low: i64, high: i64) -> Result<(), Fault> {
        let Some(part) = self.parts.values_mut().find(|p| p.at == *at) else { return Ok(()) };
        let name = format!("{}/{}", at.0, at.1);
        if self.spec.on_offset_lost == OnOffsetLost::Fail {
            let there = if low == high { "it is empty".to_string() } else { format!("it has the offsets {low} to {}", high - 1) };
            let fault = Fault::refused(format!("offset {} of {name} is no longer at the broker", part.next)).detail(there);
            return Err(fault.hint("`on_offset_lost: earliest` goes on with the oldest message that is there, `latest` behind the newest"));
        }
        tracing::warn!(target: "kafka", lost = to.saturating_sub(part.next).max(0), "offset {} of {name} is no longer at the broker; going on at {to}", part.next);
        // A bounded read has then ended, perhaps before its first message.
        part.next = part.end.map_or(to, |end| to.min(end));
        part.lost = false;
        part.release(&self.consumer.client);
        Ok(())
    }

    fn part(&mut self, id: u32) -> Result<&mut Part, Fault> {
        self.parts.get_mut(&id).ok_or_else(|| Fault::bug(format!("partition {id} is not read here")))
    }
}

impl Part {
    /// Has the client fetch from `next` on, into a queue that only this partition uses.
    fn assign(&mut self, client: &Arc<Client>, waker: &Waker) -> Result<(), Fault> {
        let refused = |e: KafkaError| Fault::refused(format!("partition {}/{} cannot be read", self.at.0, self.at.1)).detail(e.to_string());
        // Before the assignment, or its first messages would come by the common queue.
        let mut queue = client
            .split_partition_queue(&self.at.0, self.at.1)
            .ok_or_else(|| Fault::bug(format!("partition {}/{} has no queue", self.at.0, self.at.1)))?;
        let waker = waker.clone();
        queue.set_nonempty_callback(move || waker());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.at.0, self.at.1, Offset::Offset(self.next)).map_err(refused)?;
        client.incremental_assign(&list).map_err(refused)?;
        self.queue = Some(queue);
        Ok(())
    }

    /// Ends fetching; the next poll begins anew at `next`.
    fn release(&mut self, client: &Client) {
        self.held = None;
        self.at_end = false;
        if self.queue.take().is_some() {
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.at.0, self.at.1);
            if let Err(e) = client.incremental_unassign(&list) {
                tracing::debug!(target: "kafka", "{}/{} was not assigned: {e}", self.at.0, self.at.1);
            }
        }
    }

    /// Messages that are not yet read. Markers of transactions have offsets and are never delivered.
    fn lag(&self, client: &Client) -> u64 {
        let end = self.end.unwrap_or_else(|| self.log_end(client));
        let all_read = self.ended || (self.read_to >= end && self.held.is_none());
        if all_read { 0 } else { end.saturating_sub(self.next).max(0) as u64 }
    }

    /// The end of the log, at least where it was when the partition was found.
    fn log_end(&self, client: &Client) -> i64 {
        self.heard_end(client).map_or(self.high, |high| high.max(self.high))
    }

    /// The end of the log as the client last heard of it.
    fn heard_end(&self, client: &Client) -> Option<i64> {
        let topic = std::ffi::CString::new(&*self.at.0).ok()?;
        let (mut low, mut high) = (0i64, 0i64);
        // SAFETY: the client lives as long as its reference, `topic` is a C string, and both numbers are written before it returns.
        let answer = unsafe {
            rdkafka::bindings::rd_kafka_get_watermark_offsets(
                client.client().native_ptr(),
                topic.as_ptr(),
                self.at.1,
                &raw mut low,
                &raw mut high,
            )
        };
        (answer == rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Source for Reader {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        self.hear()?;
        let mut new = std::mem::take(&mut self.new);
        new.sort_by_key(|p| p.id);
        Ok(Discovery { new, complete: self.listed && self.spec.bounded })
    }

    fn listed(&self) -> bool {
        self.listed
    }

    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault> {
        let offset = position.0.as_slice().try_into().map(i64::from_le_bytes);
        let offset = offset.map_err(|_| Fault::refused("the saved position is not one of a Kafka partition"))?;
        let client = self.consumer.client.clone();
        let part = self.part(partition)?;
        part.release(&client);
        part.next = offset;
        part.ended = false;
        Ok(())
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        // A bounded source is not asked for partitions again once it has told them.
        self.hear()?;
        let (spec, client, clock) = (self.spec.clone(), self.consumer.client.clone(), self.clock.clone());
        let to = To { spec: &spec, max_record: self.max_record, id: partition, source: self.source };
        let waker = self.waker.clone();
        let part = self.part(partition)?;
        if part.ended {
            return Ok(Poll::Ended);
        }
        if part.lost {
            return Ok(Poll::Pending);
        }
        match part.end {
            Some(end) if part.next == end => {
                part.ended = true;
                part.release(&client);
                return Ok(Poll::Ended);
            }
            Some(end) if part.next > end && part.queue.is_none() => {
                // The log is shorter than it was.
                part.lost = true;
                let at = part.at.clone();
                self.consumer.ask(at);
                return Ok(Poll::Pending);
            }
            _ => {}
        }
        if part.queue.is_none() {
            part.assign(&client, &waker)?;
        }
        let due = |m: &dyn Due, now: i64| spec.delay.is_none_or(|d| m.due(d) <= now);
        if let Some(m) = part.held.take_if(|m| due(m, clock.now())) {
            part.next = m.offset() + 1;
            to.push(&m, pull);
        }
        if part.held.is_some() {
            return Ok(Poll::Pending);
        }
        let mut now = clock.now();
        for _ in 0..pull.max_rows {
            if pull.rows.text_len() >= pull.max_bytes {
                return Ok(Poll::Ready);
            }
            let Some(queue) = &part.queue else { break };
            let lost = match queue.poll(Duration::ZERO) {
                None if part.at_end => None,
                None => return Ok(Poll::Pending),
                Some(Ok(m)) => {
                    part.at_end = false;
                    if m.offset() < part.next {
                        continue;
                    }
                    if part.end.is_some_and(|end| m.offset() >= end) {
                        None
                    } else if !due(&m, now)
                        && !due(&m, {
                            now = clock.now();
                            now
                        })
                    {
                        let held = m.detach();
                        part.held = Some(held);
                        return Ok(Poll::Pending);
                    } else {
                        part.next = m.offset() + 1;
                        to.push(&m, pull);
                        if part.end != Some(part.next) {
                            continue;
                        }
                        None
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    part.read_to = part.log_end(&client);
                    // Behind the last message there may be marks that are never delivered. A leader that has just taken over may not yet
                    // know of all that the last one has shown: then its log seems to end too early.
                    let heard = part.heard_end(&client).unwrap_or(i64::MAX);
                    part.at_end = part.end.is_some_and(|end| heard >= end);
                    if let Some(end) = part.end.filter(|end| heard < *end) {
                        tracing::warn!(target: "kafka", "{}/{} ends at {heard} now, and had {end} when it was found: waiting for the rest", part.at.0, part.at.1);
                    }
                    return Ok(Poll::Pending);
                }
                Some(Err(e)) => Some(e),
            };
            let Some(error) = lost else {
                part.ended = true;
                part.release(&client);
                return Ok(Poll::Ended);
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::LogTruncation) => {
                    part.lost = true;
                    let at = part.at.clone();
                    self.consumer.ask(at);
                }
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(Fault::refused(format!("no permission for topic `{}` at {}", part.at.0, spec.brokers)));
                }
                _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                    return Err(Fault::refused("the Kafka client has given up").detail(error.to_string()));
                }
                _ => tracing::warn!(target: "kafka", "{}/{} cannot be read now: {error}; the client goes on trying", part.at.0, part.at.1),
            }
            return Ok(Poll::Pending);
        }
        Ok(Poll::Ready)
    }

    /// An empty partition counts once its end was reached: before that the broker may just not have answered. Where that was before a connection
    /// was lost, nobody knows what has been written since: the broker is asked, and no answer means no.
    fn drained(&mut self, partition: u32) -> bool {
        let (client, losses) = (self.consumer.client.clone(), self.consumer.losses());
        let Ok(part) = self.part(partition) else { return false };
        if part.ended {
            return true;
        }
        if part.sure != losses {
            if std::mem::replace(&mut part.asked, losses) != losses {
                let at = part.at.clone();
                self.consumer.ask_end(at, losses);
            }
            return false;
        }
        part.read_to >= 0 && part.lag(&client) == 0
    }

    fn position(&mut self, partition: u32) -> Position {
        let next = self.part(partition).map_or(0, |p| p.next);
        Position(next.to_le_bytes().to_vec())
    }

    fn acknowledged(&mut self, positions: &[(u32, Position)]) -> Result<(), Fault> {
        if !self.spec.group {
            return Ok(());
        }
        let mut commits = locked(&self.consumer.commits);
        for (id, position) in positions {
            if let (Some(part), Ok(offset)) = (self.parts.get(id), position.0.as_slice().try_into().map(i64::from_le_bytes)) {
                commits.waiting.insert(part.at.clone(), offset);
            }
        }
        Ok(())
    }

    /// Before the partitions are known there is at least one message as far as anybody can tell.
    fn lag(&mut self) -> Option<u64> {
        if !self.listed {
            return Some(1);
        }
        Some(self.parts.values().map(|p| p.lag(&self.consumer.client)).sum())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + LAST_COMMIT;
        locked(&self.consumer.commits).hurry = true;
        let told = loop {
            let done = locked(&self.consumer.commits).done();
            if done || Instant::now() >= until {
                break done;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for part in self.parts.values_mut() {
            part.release(&self.consumer.client);
        }
        if told {
            return Ok(());
        }
        let what = format!("the last offsets could not be committed at {} within {} s", self.spec.brokers, LAST_COMMIT.as_secs());
        Err(Fault::down(what).hint("the next start reads the rows behind the committed offsets again"))
    }
}

/// When a message may go on, microseconds since 1970 UTC.
trait Due {
    fn due(&self, delay: i64) -> i64;
}

impl<M: Message> Due for M {
    fn due(&self, delay: i64) -> i64 {
        match headers::number(self.headers(), headers::DUE) {
            Some(ms) => ms.saturating_mul(1000),
            None => self.timestamp().to_millis().map_or(i64::MIN, |ms| ms.saturating_mul(1000).saturating_add(delay)),
        }
    }
}

/// Makes rows of messages.
struct To<'a> {
    spec: &'a Spec,
    max_record: usize,
    id: u32,
    source: u16,
}

impl To<'_> {
    fn push<M: Message>(&self, m: &M, pull: &mut Pull<'_>) {
        let retry = self.spec.delay.is_some();
        let written = m.timestamp().to_millis().map(|ms| ms.saturating_mul(1000));
        let time = if retry { headers::number(m.headers(), headers::EVENT_TIME) } else { written };
        let mut meta =
            Meta { time: time.unwrap_or(NO_TIME), offset: m.offset() as u64, partition: self.id, source: self.source, ..Meta::default() };
        let Some(payload) = m.payload() else {
            pull.rows.push_null();
            return self.finish(m, meta, pull.rows);
        };
        if payload.len() > self.max_record {
            let message = format!("the message has {} bytes, more than max_record", payload.len());
            return pull.rejects.push(Reject::new("record-too-long", message, meta, payload));
        }
        match self.spec.charset.push(payload, pull.rows) {
            Ok(raw) => {
                meta.raw = raw;
                self.finish(m, meta, pull.rows);
            }
            Err(why) => pull.rejects.push(Reject::new("invalid-text", why, meta, payload)),
        }
    }

    fn finish<M: Message>(&self, m: &M, meta: Meta, rows: &mut BatchBuilder) {
        let time = |rows: &mut BatchBuilder, ms: Option<i64>| match ms.and_then(|ms| ms.checked_mul(1000)) {
            Some(micros) => rows.push_time(micros),
            None => rows.push_missing(),
        };
        for column in &self.spec.columns {
            match column {
                Column::Key => match m.key() {
                    Some(key) => rows.push_bytes(key),
                    None => rows.push_null(),
                },
                Column::Topic => rows.push_str(m.topic()),
                Column::Partition => rows.push_int(i64::from(m.partition())),
                Column::Offset => rows.push_int(m.offset()),
                Column::Timestamp => time(rows, m.timestamp().to_millis()),
                Column::Headers => rows.push_json(&headers::json(m.headers())),
                Column::Attempts => match headers::number(m.headers(), headers::ATTEMPTS) {
                    Some(n) => rows.push_int(n),
                    None => rows.push_missing(),
                },
                Column::FirstSeen => time(rows, headers::number(m.headers(), headers::FIRST_SEEN)),
                Column::Due => time(rows, headers::number(m.headers(), headers::DUE)),
            }
        }
        rows.end_source_row(meta);
    }
}
