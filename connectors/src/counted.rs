//! Sources that make their own records: record `offset` of a partition is always the same, so every position can be sought.

use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{BatchBuilder, Clock, Fault, Meta, PartitionInfo, Poll, Position, Source, SourceContext};
use std::sync::Arc;

/// Records by number.
pub trait Records: Send + Sync {
    /// For names of partitions: `inline/0`.
    fn name(&self) -> &str;
    fn partitions(&self) -> u32;
    /// Records of a partition; None: without end.
    fn len(&self, partition: u32) -> Option<u64>;
    /// Records a second over all partitions; None: as fast as they are taken.
    fn rate(&self) -> Option<f64>;
    /// Pushes one row of the source's schema, but for `end_source_row`, and gives the span of its original bytes.
    fn push(&self, partition: u32, offset: u64, rows: &mut BatchBuilder) -> millrace_sdk::Span;
}

/// The engine's view of [`Records`].
pub struct Counted<R> {
    records: Arc<R>,
    partitions: Vec<Partition>,
    told: bool,
    source: u16,
    clock: Clock,
    begun: Option<i64>,
}

struct Partition {
    id: u32,
    next: u64,
    /// Where this run began, which the rate counts from.
    first: u64,
}

impl<R: Records> Counted<R> {
    pub fn open(records: Arc<R>, cx: SourceContext) -> Counted<R> {
        let mine = (0..records.partitions()).filter(|p| cx.assignment.mine(u64::from(*p)));
        let partitions = mine.map(|id| Partition { id, next: 0, first: 0 }).collect();
        Counted { records, partitions, told: false, source: cx.source, clock: cx.clock, begun: None }
    }

    fn partition(&mut self, id: u32) -> Result<&mut Partition, Fault> {
        self.partitions.iter_mut().find(|p| p.id == id).ok_or_else(|| Fault::bug(format!("partition {id} is not read here")))
    }
}

impl<R: Records> Source for Counted<R> {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let name = self.records.name();
        let new =
            self.partitions.iter().filter(|_| !self.told).map(|p| PartitionInfo { id: p.id, name: format!("{name}/{}", p.id) }).collect();
        self.told = true;
        Ok(Discovery { new, complete: true })
    }

    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault> {
        let offset = position.0.as_slice().try_into().map(u64::from_le_bytes);
        let offset = offset.map_err(|_| Fault::refused("the saved position is not one of this source"))?;
        let p = self.partition(partition)?;
        (p.next, p.first) = (offset, offset);
        Ok(())
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        let (records, source) = (self.records.clone(), self.source);
        let due = match records.rate() {
            Some(rate) => {
                let now = self.clock.now();
                let elapsed = now.saturating_sub(*self.begun.get_or_insert(now)).max(0);
                (elapsed as f64 / 1e6 * rate / f64::from(records.partitions())) as u64 + 1
            }
            None => u64::MAX,
        };
        let p = self.partition(partition)?;
        let len = records.len(partition).unwrap_or(u64::MAX);
        let end = len.min(p.first.saturating_add(due));
        for _ in 0..pull.max_rows {
            if p.next >= end || pull.rows.text_len() >= pull.max_bytes {
                break;
            }
            let raw = records.push(partition, p.next, pull.rows);
            pull.rows.end_source_row(Meta { offset: p.next, raw, partition, source, ..Meta::default() });
            p.next += 1;
        }
        Ok(match p.next {
            n if n >= len => Poll::Ended,
            n if n >= end => Poll::Pending,
            _ => Poll::Ready,
        })
    }

    fn position(&mut self, partition: u32) -> Position {
        let next = self.partition(partition).map_or(0, |p| p.next);
        Position(next.to_le_bytes().to_vec())
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use millrace_sdk::operator::Env;
    use millrace_sdk::{Assignment, Batch, SchemaRef};

    pub fn context(index: usize, instances: usize, clock: Clock) -> SourceContext {
        SourceContext {
            assignment: Assignment { index, instances, shift: 0 },
            clock,
            waker: Arc::new(|| {}),
            source: 3,
            env: Arc::new(Env::default()),
            restored: false,
        }
    }

    /// One poll of a partition.
    pub fn poll(source: &mut dyn Source, partition: u32, schema: &SchemaRef, max_rows: usize) -> (Poll, Batch, Vec<millrace_sdk::Reject>) {
        let (mut rows, mut rejects) = (BatchBuilder::new(schema.clone()), vec![]);
        let poll = source.poll(partition, &mut Pull { rows: &mut rows, rejects: &mut rejects, max_rows, max_bytes: 1 << 20 }).unwrap();
        (poll, rows.finish(), rejects)
    }

    /// All rows of a partition to its end, each as its original text.
    pub fn drain(source: &mut dyn Source, partition: u32, schema: &SchemaRef) -> Vec<String> {
        let mut out = vec![];
        loop {
            let (state, batch, _) = poll(source, partition, schema, 100);
            out.extend(batch.rows().map(|r| String::from_utf8_lossy(r.original().unwrap_or_default()).into_owned()));
            match state {
                Poll::Ready => {}
                Poll::Pending | Poll::Ended => return out,
            }
        }
    }
}
