//! What a consumer does beside delivering messages, on a thread of its own: finding partitions, resolving where they begin,
//! hearing about commits. All of it may block for seconds, which the engine's worker must not.

use super::source::{From, OnOffsetLost, Spec};
use super::{Listener, Shared, locked};
use crossbeam_channel::{Receiver, Sender, unbounded};
use millrace_sdk::source::Waker;
use millrace_sdk::{Assignment, Fault, SourceContext};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for one answer of a broker; the question is asked again.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the thread waits for events before it looks at its other duties.
const TICK: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);
/// How long a bounded read waits for transactions that are under way at its start: a broker says that one is committed before all partitions
/// know, usually for some milliseconds.
const MARKERS: Duration = Duration::from_secs(5);
/// Acknowledged offsets are told to the group this often.
const COMMIT: Duration = Duration::from_secs(1);

pub type Client = BaseConsumer<Ear>;
pub type TopicPartition = (Arc<str>, i32);

/// Offsets on their way to the group.
#[derive(Default)]
pub struct Commits {
    /// Acknowledged and not yet sent.
    pub waiting: HashMap<TopicPartition, i64>,
    /// Some are with the broker.
    busy: bool,
    /// Send them without waiting for the second to be over.
    pub hurry: bool,
}

impl Commits {
    /// Nothing waits and nothing is with the broker.
    pub fn done(&self) -> bool {
        self.waiting.is_empty() && !self.busy
    }
}

/// What the client calls back with.
#[derive(Default)]
pub struct Ear {
    listener: Listener,
    /// How often a connection was lost, or could not be made.
    losses: AtomicU64,
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        Listener::hear_log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if Listener::is_outage(&error) {
            self.losses.fetch_add(1, Ordering::AcqRel);
        }
        self.listener.hear_error(&error, reason);
    }
}

impl ConsumerContext for Ear {}

/// A partition and where it begins.
#[derive(Clone, Debug)]
pub struct Found {
    pub at: TopicPartition,
    pub start: i64,
    /// The offset behind its last message at the time.
    pub high: i64,
}

pub enum News {
    Found(Vec<Found>),
    /// A lost offset's successor, with what the broker still has.
    Moved {
        at: TopicPartition,
        to: i64,
        low: i64,
        high: i64,
    },
    /// Where a partition's log ends, asked for when so many connections were lost.
    End {
        at: TopicPartition,
        high: i64,
        losses: u64,
    },
    Broken(Fault),
}

/// What the client's thread is asked.
enum Question {
    /// Where to go on in a partition whose next offset is gone.
    Lost(TopicPartition),
    /// Where a log ends.
    End(TopicPartition, u64),
}

/// The client, and the line to its thread.
pub struct Consumer {
    pub client: Arc<Client>,
    pub news: Receiver<News>,
    pub commits: Shared<Commits>,
    questions: Sender<Question>,
    stop: Arc<AtomicBool>,
}

impl Consumer {
    /// Starts the client and its thread; nothing is asked yet.
    pub fn open(spec: Arc<Spec>, cx: &SourceContext) -> KafkaResult<Consumer> {
        let client: Arc<Client> = Arc::new(spec.client.create_with_context(Ear::default())?);
        let (say, news) = unbounded();
        let (questions, asked) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let commits: Shared<Commits> = Arc::default();
        let control = Control {
            spec,
            client: client.clone(),
            assignment: cx.assignment,
            say,
            commits: commits.clone(),
            committed: Instant::now(),
            asked,
            waker: cx.waker.clone(),
            stop: stop.clone(),
            known: HashSet::new(),
            first: true,
            restored: cx.restored,
        };
        std::thread::Builder::new()
            .name("kafka-source".into())
            .spawn(move || control.run())
            .map_err(|e| KafkaError::ClientCreation(format!("no thread: {e}")))?;
        Ok(Consumer { client, news, commits, questions, stop })
    }

    /// Asks where to go on in a partition whose next offset is gone; the answer is [`News::Moved`].
    pub fn ask(&self, at: TopicPartition) {
        // It fails when the thread has ended, and then nobody waits for the answer.
        let _ = self.questions.send(Question::Lost(at));
    }

    /// How often a connection was lost so far.
    pub fn losses(&self) -> u64 {
        self.client.context().losses.load(Ordering::Acquire)
    }

    /// Asks where a log ends; the answer is [`News::End`].
    pub fn ask_end(&self, at: TopicPartition, losses: u64) {
        let _ = self.questions.send(Question::End(at, losses));
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct Control {
    spec: Arc<Spec>,
    client: Arc<Client>,
    assignment: Assignment,
    say: Sender<News>,
    commits: Shared<Commits>,
    committed: Instant,
    asked: Receiver<Question>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    known: HashSet<TopicPartition>,
    /// No listing has been complete yet.
    first: bool,
    /// What a checkpoint knew is sought; all else was added since.
    restored: bool,
}

impl Control {
    fn run(mut self) {
        let mut next = Instant::now();
        let mut waiting: Vec<Question> = vec![];
        while !self.stop.load(Ordering::Acquire) {
            match self.client.poll(TICK) {
                Some(Ok(message)) => {
                    use rdkafka::Message;
                    let what = format!("a message of {}/{} came by the wrong queue", message.topic(), message.partition());
                    self.tell(News::Broken(Fault::bug(what)));
                }
                Some(Err(KafkaError::MessageConsumptionFatal(e))) => {
                    self.tell(News::Broken(Fault::refused("the Kafka client has given up").detail(e.to_string())));
                }
                // Told by the listener, and the client goes on by itself.
                Some(Err(_)) | None => {}
            }
            self.commit();
            for question in self.asked.try_iter() {
                // The newest says what the one before it said.
                waiting.retain(|old| !matches!((old, &question), (Question::End(a, _), Question::End(b, _)) if a == b));
                waiting.push(question);
            }
            // While a broker is away each question takes its time: after one without an answer the others wait for the next turn, and come before
            // it then, as it may never have one (a topic that was deleted).
            let answered = waiting.iter().position(|question| !self.answer(question)).unwrap_or(waiting.len());
            waiting.drain(..answered);
            if !waiting.is_empty() {
                waiting.rotate_left(1);
            }
            if Instant::now() >= next {
                let listed = (self.first || !self.spec.bounded).then(|| self.look());
                next = Instant::now()
                    + match listed {
                        Some(Err(e)) => {
                            tracing::warn!(target: "kafka", "the partitions cannot be listed at {} yet: {e}", self.spec.brokers);
                            RETRY
                        }
                        Some(Ok(())) | None => self.spec.discovery,
                    };
            }
        }
    }

    /// Tells the group what is acknowledged. The client's own asynchronous commit never says how it went.
    fn commit(&mut self) {
        let sent = {
            let mut commits = locked(&self.commits);
            let due = commits.hurry || self.committed.elapsed() >= COMMIT;
            if commits.waiting.is_empty() || !due {
                return;
            }
            commits.busy = true;
            std::mem::take(&mut commits.waiting)
        };
        self.committed = Instant::now();
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in &sent {
            // It fails for invalid offsets only, and these came from the broker.
            let _ = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
        }
        let answer = self.client.commit(&list, CommitMode::Sync);
        let mut commits = locked(&self.commits);
        commits.busy = false;
        if let Err(e) = answer {
            tracing::warn!(target: "kafka", "offsets could not be committed, and will be again: {e}");
            for (at, offset) in sent {
                commits.waiting.entry(at).or_insert(offset);
            }
        }
    }

    fn tell(&self, news: News) {
        // The reader is gone only when the whole source is.
        let _ = self.say.send(news);
        (self.waker)();
    }

    /// Lists the partitions and tells those that are new and ours.
    fn look(&mut self) -> KafkaResult<()> {
        let mut new: Vec<TopicPartition> = vec![];
        for (topic, partitions) in self.topics()? {
            let topic: Arc<str> = topic.into();
            for p in 0..partitions {
                let at = (topic.clone(), p);
                if !self.known.contains(&at) && self.assignment.mine(self.spec.number(&topic, p)) {
                    new.push(at);
                }
            }
        }
        if new.is_empty() && !self.first {
            return Ok(());
        }
        let mut found = self.resolve(&new)?;
        if self.spec.bounded && !found.is_empty() {
            self.await_markers(&mut found)?;
        }
        self.known.extend(new);
        self.first = false;
        self.tell(News::Found(found));
        Ok(())
    }

    /// All topics that are to be read, with their numbers of partitions.
    fn topics(&self) -> KafkaResult<BTreeMap<String, i32>> {
        let mut out = BTreeMap::new();
        let mut unsure = None;
        let mut add = |metadata: &rdkafka::metadata::Metadata| {
            for t in metadata.topics().iter().filter(|t| self.spec.reads(t.name())) {
                match t.error() {
                    None if t.partitions().is_empty() => unsure = Some(RDKafkaErrorCode::LeaderNotAvailable),
                    None => _ = out.insert(t.name().to_string(), t.partitions().len() as i32),
                    // Another's topic, perhaps; or one that was deleted a moment ago.
                    Some(rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {}
                    Some(e) => unsure = Some(e.into()),
                }
            }
        };
        if self.spec.patterns.is_empty() {
            for topic in &self.spec.topics {
                add(&self.client.fetch_metadata(Some(topic), ANSWER)?);
            }
        } else {
            add(&self.client.fetch_metadata(None, ANSWER)?);
        }
        // It was there when the job was checked: the cluster is not yet itself again.
        let missing = self.spec.topics.iter().any(|t| !out.contains_key(t)).then_some(RDKafkaErrorCode::LeaderNotAvailable);
        match unsure.or(missing).filter(|_| self.first) {
            // Once the list is taken for whole the stream's watermark moves, and what joins later may be late.
            Some(code) => Err(KafkaError::MetadataFetch(code)),
            None => Ok(out),
        }
    }

    /// Rows of a transaction that was committed before the start belong to a bounded read, also where its marker is still to come.
    fn await_markers(&self, found: &mut [Found]) -> KafkaResult<()> {
        let mut all = self.spec.client.clone();
        let all: BaseConsumer = all.set("isolation.level", "read_uncommitted").create()?;
        let until = Instant::now() + MARKERS;
        for f in found {
            let (_, end) = all.fetch_watermarks(&f.at.0, f.at.1, ANSWER)?;
            while f.high < end && Instant::now() < until && !self.stop.load(Ordering::Acquire) {
                std::thread::sleep(TICK);
                let (_, committed) = self.client.fetch_watermarks(&f.at.0, f.at.1, ANSWER)?;
                // What was written meanwhile is not meant.
                f.high = committed.min(end);
            }
            if f.high < end {
                let at = format!("{}/{}", f.at.0, f.at.1);
                tracing::warn!(
                    target: "kafka",
                    "{at}: a transaction that nobody has ended hides the messages from offset {} on: this read ends there",
                    f.high
                );
            }
        }
        Ok(())
    }

    fn resolve(&self, partitions: &[TopicPartition]) -> KafkaResult<Vec<Found>> {
        let mut asked = TopicPartitionList::new();
        for (topic, p) in partitions {
            asked.add_partition(topic, *p);
        }
        // Nothing of a partition that came later may be skipped.
        let from = match &self.spec.from {
            From::Committed | From::Latest | From::Time(_) if self.restored => &From::Earliest,
            From::Latest | From::Time(_) if !self.first => &From::Committed,
            from => from,
        };
        let answered = match from {
            From::Committed if self.spec.group && !partitions.is_empty() => Some(self.client.committed_offsets(asked, ANSWER)?),
            From::Time(ms) if !partitions.is_empty() => {
                asked.set_all_offsets(Offset::Offset(*ms))?;
                Some(self.client.offsets_for_times(asked, ANSWER)?)
            }
            _ => None,
        };
        let answer = |at: &TopicPartition| answered.as_ref().and_then(|l| l.find_partition(&at.0, at.1)).map(|e| e.offset());
        partitions
            .iter()
            .map(|at| {
                let (low, high) = self.client.fetch_watermarks(&at.0, at.1, ANSWER)?;
                let start = match (from, answer(at)) {
                    (From::Committed | From::Time(_), Some(Offset::Offset(n))) => n,
                    (From::Latest, _) | (From::Time(_), _) => high,
                    (From::Offsets(offsets), _) => offsets.get(&(at.0.to_string(), at.1)).copied().unwrap_or(low),
                    (From::Committed | From::Earliest, _) => low,
                };
                Ok(Found { at: at.clone(), start, high })
            })
            .collect()
    }

    /// False: ask again.
    fn answer(&self, question: &Question) -> bool {
        let (Question::Lost(at) | Question::End(at, _)) = question;
        let Ok((low, high)) = self.client.fetch_watermarks(&at.0, at.1, ANSWER) else { return false };
        let at = at.clone();
        self.tell(match question {
            Question::Lost(_) => {
                let to = if self.spec.on_offset_lost == OnOffsetLost::Latest { high } else { low };
                News::Moved { at, to, low, high }
            }
            Question::End(_, losses) => News::End { at, high, losses: *losses },
        });
        true
    }
}
