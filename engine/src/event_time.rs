//! Event time at the source: what a row's time is, whether it is late, and how far its partition has come.

use crate::control::RunOptions;
use crate::outlet::{Exit, Outlet};
use millrace_durable::PartitionState;
use millrace_plan::plan::{SourceNode, WatermarkPlan};
use millrace_sdk::convert::TimeReader;
use millrace_sdk::operator::{Env, TimeCharacteristic};
use millrace_sdk::record::NO_TIME;
use millrace_sdk::{Batch, Fault, Reject, Val};

/// 2000-01-01T00:00:00Z, microseconds.
const YEAR_2000: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;
/// Rows of a partition that may all be implausible before the job halts.
const FIRST_ROWS: u32 = 100;

/// A partition's event time.
///
/// Invariant: `watermark` never falls, and a row is late when its time is at or below it at the moment the row comes, before the row
/// itself moves it. So lateness depends neither on how partitions are interleaved nor on the replay's speed.
#[derive(Clone, Copy, Debug)]
pub struct PartitionTime {
    greatest: i64,
    /// What the stream had promised when this partition joined, or came back from being idle.
    floor: i64,
    seen: u32,
    plausible: bool,
}

impl PartitionTime {
    pub fn new(floor: i64) -> PartitionTime {
        PartitionTime { greatest: i64::MIN, floor, seen: 0, plausible: false }
    }

    /// As [`state`](Self::state) told it.
    pub fn restored(state: &PartitionState) -> PartitionTime {
        let plausible = state.greatest != i64::MIN;
        PartitionTime { greatest: state.greatest, floor: state.floor, seen: 0, plausible }
    }

    /// For a manifest.
    pub fn state(&self, name: &str, position: Vec<u8>, ended: bool) -> PartitionState {
        PartitionState { name: name.into(), position, greatest: self.greatest, floor: self.floor, ended }
    }

    /// A row exactly `bound` behind the greatest is not late: with ts <= watermark a row is.
    #[inline]
    pub fn watermark(&self, bound: i64) -> i64 {
        match self.greatest {
            i64::MIN => self.floor,
            g => self.floor.max(g.saturating_sub(bound).saturating_sub(1)),
        }
    }

    /// Never below `floor` from now on.
    pub fn raise(&mut self, floor: i64) {
        self.floor = self.floor.max(floor);
    }

    /// Counts a row with an implausible time; whether all of the first rows were such.
    fn implausible(&mut self) -> bool {
        if self.plausible || self.seen == FIRST_ROWS {
            return false;
        }
        self.seen += 1;
        self.seen == FIRST_ROWS
    }

    /// Whether the row is late; then it moves the watermark.
    #[inline]
    fn row(&mut self, time: i64, bound: i64) -> bool {
        let late = time <= self.watermark(bound);
        self.greatest = self.greatest.max(time);
        late
    }
}

/// How a stream's rows get their time.
pub enum Assigner {
    /// The clock, when the row comes in.
    Clock { last: i64 },
    /// A field of the washed row.
    Field { reader: TimeReader, field: millrace_sdk::Slot, bound: i64, future: i64, check: bool, late: bool, times: Vec<i64> },
    /// What the source knows, else none; there is no watermark.
    Given,
}

impl Assigner {
    pub fn new(node: &SourceNode, env: &Env, options: &RunOptions) -> Result<Assigner, Fault> {
        match (&node.watermark, env.time) {
            (Some(plan), TimeCharacteristic::EventTime) => Self::field(plan, node.retry, env, options),
            (_, TimeCharacteristic::EventTime) => Ok(Assigner::Given),
            _ => Ok(Assigner::Clock { last: i64::MIN }),
        }
    }

    fn field(plan: &WatermarkPlan, retry: bool, env: &Env, options: &RunOptions) -> Result<Assigner, Fault> {
        let micros = |d: std::time::Duration| d.as_micros().min(i64::MAX as u128 / 4) as i64;
        Ok(Assigner::Field {
            reader: TimeReader::new(&plan.format, &env.time_zone).map_err(Fault::config)?,
            field: plan.field,
            bound: micros(plan.max_out_of_orderness),
            future: micros(plan.max_future),
            check: options.check_plausibility && !retry,
            late: !retry,
            times: Vec::new(),
        })
    }

    /// The bound by which watermarks stay behind.
    pub fn bound(&self) -> i64 {
        if let Assigner::Field { bound, .. } = self { *bound } else { 0 }
    }

    /// Gives all rows of a batch of one partition their time; rows that can have none go to the dead letter.
    pub fn assign(
        &mut self,
        batch: &mut Batch,
        part: &mut PartitionTime,
        name: &str,
        now: i64,
        exit: &Exit,
        outlet: &mut Outlet,
        born: u64,
    ) -> Result<(), Fault> {
        match self {
            Assigner::Given => Ok(()),
            Assigner::Clock { last } => {
                *last = now.max(*last);
                batch.metas_mut().iter_mut().for_each(|m| m.time = *last);
                Ok(())
            }
            Assigner::Field { reader, field, bound, future, check, late, times } => {
                times.clear();
                let latest = now.saturating_add(*future);
                let mut refused = false;
                let plausible = YEAR_2000..=now.saturating_add(DAY);
                if *check && !part.plausible {
                    // One plausible row says that the others' times are their own fault, also of those before it.
                    let first = batch.rows().take((FIRST_ROWS - part.seen) as usize);
                    part.plausible = first.into_iter().any(|row| reader.read(row.get(*field)).is_ok_and(|t| plausible.contains(&t)));
                }
                for row in batch.rows() {
                    let value = row.get(*field);
                    let why: Option<(&'static str, String)> = match reader.read(value) {
                        Err(e) => {
                            // A number in another unit than the format's may lie beyond all times.
                            if *check && is_number(value) && part.implausible() {
                                return Err(implausible(name, exit, &e.0));
                            }
                            Some(("invalid-time", time_error(value, &e.0)))
                        }
                        Ok(t) if t == NO_TIME => Some(("invalid-time", "the time is out of range".into())),
                        Ok(t) => {
                            let odd = *check && !plausible.contains(&t);
                            if odd && part.implausible() {
                                return Err(implausible(name, exit, format_args!("{t} µs since 1970")));
                            }
                            part.plausible |= *check && !odd;
                            if t > latest {
                                Some(("too-far-in-future", format!("its time is {} s ahead of the clock", (t - now) / 1_000_000)))
                            } else if odd && part.plausible && t < YEAR_2000 {
                                Some(("implausible-event-time", "its time lies before the year 2000".into()))
                            } else {
                                times.push(t);
                                None
                            }
                        }
                    };
                    if let Some((reason, message)) = why {
                        refused = true;
                        times.push(NO_TIME);
                        outlet.reject(exit, &Reject::row(reason, message, &row, batch.schema()), born);
                    }
                }
                if refused {
                    batch.retain(|i| times[i] != NO_TIME);
                    times.retain(|&t| t != NO_TIME);
                }
                for (m, &t) in batch.metas_mut().iter_mut().zip(times.iter()) {
                    m.time = t;
                    if *late {
                        m.set_late(part.row(t, *bound));
                    }
                }
                Ok(())
            }
        }
    }
}

fn time_error(value: Val<'_>, error: &str) -> String {
    if value.is_null() { "the time field is missing".into() } else { format!("the time field cannot be read: {error}") }
}

fn is_number(value: Val<'_>) -> bool {
    value.as_float().is_some() || value.as_str().is_some_and(|t| t.trim().parse::<f64>().is_ok())
}

fn implausible(partition: &str, exit: &Exit, last: impl std::fmt::Display) -> Fault {
    Fault::data(format!("the first {FIRST_ROWS} rows of `{}` have implausible event times (implausible-event-time)", exit.name))
        .detail(format!("partition `{partition}`: all lie before 2000 or more than a day ahead; the last: {last}"))
        .hint("check the watermark's `format`: epoch_s and epoch_ms are a factor of 1000 apart")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_exactly_the_bound_behind_is_not_late() {
        let ms = 1000;
        let mut p = PartitionTime::new(i64::MIN);
        for (ts, late) in [(10_000, false), (5_000, false), (4_999, true), (10_001, false), (5_000, true), (5_001, false)] {
            assert_eq!(p.row(ts * ms, 5_000 * ms), late, "{ts}");
        }
        assert_eq!(p.watermark(5_000 * ms), 5_001 * ms - 1);
    }

    #[test]
    fn a_partition_that_joins_keeps_the_promise() {
        let mut p = PartitionTime::new(100);
        assert!(p.row(100, 0));
        assert!(!p.row(101, 0));
        p.raise(500);
        assert_eq!(p.watermark(0), 500);
        assert!(p.row(300, 0));
    }
}
