//! Retry streams, holds that hold rows back, drains.

use super::flow::State::{Below, InBytes, InMemory};
use super::flow::{go, options};
use super::harness::*;
use super::keyed::{emit, keyed, ports};
use crate::summary::Ended;
use crate::{Control, Progress, Reporter, RunOptions, run};
use millrace_plan::plan::{Input, NodeKind, Plan, SinkNode};
use millrace_sdk::operator::{Keyed, TimeCharacteristic};
use millrace_sdk::sink::Acks;
use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{
    Batch, Context, Exec, Fault, Guarantee, KeyedOperator, Meta, PartitionInfo, Poll, Position, Record, Sink, SinkContext, SinkFactory,
    Slot, Source, SourceContext, SourceFactory, State, StateDesc, StateId, StateKind, Ticket, TimeDomain, Visit,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A topic in memory: what its sink is given its source delivers. One partition.
#[derive(Clone, Default)]
pub struct Topic {
    rows: Arc<Mutex<VecDeque<(String, i64, i64)>>>,
}

impl SourceFactory for Topic {
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(TopicEnd { topic: self.clone(), told: !cx.assignment.mine(0), source: cx.source, at: 0, done: vec![] }))
    }
}

impl SinkFactory for Topic {
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(TopicEnd { topic: self.clone(), told: true, source: 0, at: 0, done: vec![] }))
    }
}

struct TopicEnd {
    topic: Topic,
    told: bool,
    source: u16,
    at: u64,
    done: Vec<Ticket>,
}

impl Source for TopicEnd {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let new = if std::mem::replace(&mut self.told, true) { vec![] } else { vec![PartitionInfo { id: 0, name: "again/0".into() }] };
        Ok(Discovery { new, complete: false })
    }
    fn seek(&mut self, _: u32, _: &Position) -> Result<(), Fault> {
        Ok(())
    }
    fn poll(&mut self, _: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        let Some((k, ts, v)) = self.topic.rows.lock().unwrap().pop_front() else { return Ok(Poll::Pending) };
        pull.rows.push_str(&k);
        pull.rows.push_int(ts);
        pull.rows.push_int(v);
        pull.rows.end_source_row(Meta { offset: self.at, source: self.source, ..Meta::default() });
        self.at += 1;
        Ok(Poll::Ready)
    }
    fn position(&mut self, _: u32) -> Position {
        Position(self.at.to_le_bytes().to_vec())
    }
    fn lag(&mut self) -> Option<u64> {
        Some(self.topic.rows.lock().unwrap().len() as u64)
    }
}

impl Sink for TopicEnd {
    fn write(&mut self, _: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        let mut rows = self.topic.rows.lock().unwrap();
        for r in batch.rows() {
            rows.push_back((r.str(Slot(0)).unwrap().into(), r.int(Slot(1)).unwrap(), r.int(Slot(2)).unwrap()));
        }
        self.done.push(ticket);
        Ok(())
    }
    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.done.append(&mut self.done);
        Ok(())
    }
    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.done.append(&mut self.done);
        Ok(())
    }
}

/// Sends a row round by port 1 as often as its number says, then on by port 0.
struct Round;

impl KeyedOperator for Round {
    fn on_record(&mut self, input: usize, row: Record<'_>, _: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let (k, ms, v) = (row.str(Slot(0)).unwrap(), row.int(Slot(1)).unwrap(), row.int(Slot(2)).unwrap());
        cx.count(if input == 0 { "fresh" } else { "again" }, 1);
        emit(cx, usize::from(v > 0), row.meta().time, k, ms, v - 1);
        Ok(())
    }
}

/// 200 rows that go round by the topic up to four times.
pub fn retry_loop(topic: &Topic, out: &Collect) -> Plan {
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let rows: Vec<Row> = (0..200).map(|i| (["a", "b", "c"][i as usize % 3], 1000 * i, i % 5)).collect();
    let src = p.source("src", &Rows::new(vec![rows]), 0, None);
    let again = p.source("again", &Rows::new(vec![]), 0, None);
    let NodeKind::Source(s) = &mut p.nodes[again].kind else { panic!() };
    (s.retry, s.bounded, s.factory) = (true, false, Arc::new(topic.clone()));
    let round = p.operator("round", Exec::Keyed(keyed(2, vec![], || Round)), &[at(src, 0), at(again, 0)], &ports(&["", "again"]));
    p.sink("out", out, &[at(round, 0)]);
    let to = p.sink("to", &Collect::default(), &[at(round, 1)]);
    p.nodes[to].kind = NodeKind::Sink(SinkNode { factory: Arc::new(topic.clone()), guarantee: Guarantee::AtLeastOnce });
    p.build()
}

#[test]
fn a_bounded_jobs_retry_loop_ends_when_all_is_settled() {
    for workers in 1..=3 {
        let out = Collect::default();
        let s = go(retry_loop(&Topic::default(), &out), options(workers));
        assert_eq!(out.sorted().len(), 200, "{workers} workers");
        let counters = &s.node("round").unwrap().counters;
        assert_eq!((counters["fresh"], counters["again"]), (200, 200 / 5 * (1 + 2 + 3 + 4)));
        assert_eq!(s.ended, Ended::Finished);
        // Fresh rows are never late: the retry stream has no part in the watermark they are judged by.
        assert_eq!(
            out.sorted().iter().filter(|r| r.starts_with('!') && r.ends_with(",-1")).count(),
            out.sorted().iter().filter(|r| r.starts_with('!')).count()
        );
    }
}

/// Pairs left and right rows of one key within 1 s, in the plainest way; left rows wait for the right watermark and hold their time.
struct Pairs;

const SECOND: i64 = 1_000_000;

impl KeyedOperator for Pairs {
    fn on_record(&mut self, input: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let (time, seq) = (row.meta().time, cx.sequence());
        let key = row.str(Slot(0)).unwrap();
        let v = row.int(Slot(2)).unwrap();
        let mut found = vec![];
        state.scan(StateId(1 - input), time - SECOND, time + SECOND, &mut |t, _, bytes| {
            found.push((t, i64::from_le_bytes(bytes.try_into().unwrap())));
            Visit::Keep
        });
        for (t, w) in found {
            let (left_time, left, right) = if input == 0 { (time, v, w) } else { (t, w, v) };
            emit(cx, 0, left_time, key, left, right);
        }
        state.insert(StateId(input), time, seq, &v.to_le_bytes());
        if input == 0 {
            cx.hold(time);
        }
        cx.set_timer(TimeDomain::Event, time + SECOND, input as u32);
        Ok(())
    }
    fn on_timer(&mut self, _: TimeDomain, time: i64, tag: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let mut gone = 0;
        state.scan(StateId(tag as usize), i64::MIN, time - SECOND, &mut |_, _, _| {
            gone += 1;
            Visit::Remove
        });
        for _ in 0..if tag == 0 { gone } else { 0 } {
            cx.release(time - SECOND);
        }
        Ok(())
    }
}

fn pairs(max_holds: Option<usize>, workers: usize, left: &[Row], right: &[Row], o: RunOptions) -> Vec<String> {
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let l = p.source("left", &Rows { chunk: 100, ..Rows::new(vec![left.to_vec()]) }, 0, None);
    let r = p.source("right", &Rows { chunk: 3, ..Rows::new(vec![right.to_vec()]) }, 0, None);
    let state = |name| StateDesc::new(name, StateKind::Rows);
    let exec = Keyed { max_holds, ..keyed(2, vec![state("left"), state("right")], || Pairs) };
    let j = p.operator("pairs", Exec::Keyed(exec), &[at(l, 0), at(r, 0)], &ports(&[""]));
    let out = Collect::default();
    p.sink("out", &out, &[at(j, 0)]);
    let s = go(p.build(), RunOptions { workers: Some(workers), ..o });
    assert_eq!(s.node("pairs").unwrap().inputs, [left.len() as u64, right.len() as u64]);
    out.sorted()
}

#[test]
fn joined_rows_are_never_late_and_held_rows_bound_the_state() {
    let row = |i: i64, step: i64| (["a", "b", "c", "d"][i as usize % 4], 1_000_000 + i * step, i);
    let left: Vec<Row> = (0..600).map(|i| row(i, 50)).collect();
    let right: Vec<Row> = (0..300).map(|i| row(i, 100)).collect();
    let mut want: Vec<String> = vec![];
    for l in &left {
        want.extend(right.iter().filter(|r| r.0 == l.0 && (r.1 - l.1).abs() <= 1000).map(|r| format!("{},{},{}", l.0, l.2, r.2)));
    }
    want.sort();
    for workers in 1..=3 {
        let states = [InMemory, InBytes, Below];
        for (max_holds, state) in [None, Some(20)].into_iter().flat_map(|h| states.map(|s| (h, s))) {
            // The throttle is tight, so that the slower source must be let through while the join refuses the faster one.
            let o = state.set(RunOptions { max_lag: 3, max_drift: Duration::from_secs(3600), ..options(workers) });
            assert_eq!(pairs(max_holds, workers, &left, &right, o), want, "{workers} workers, {max_holds:?}, {state:?}");
        }
    }
}

/// Drains when the first rows have come.
struct DrainSoon(Control);

impl Reporter for DrainSoon {
    fn started(&self, progress: Arc<Progress>) {
        let control = self.0.clone();
        std::thread::spawn(move || {
            while progress.snapshot().records_in < 50 {
                std::thread::sleep(Duration::from_millis(1));
            }
            control.drain();
        });
    }
}

#[test]
fn a_drain_fires_everything_that_was_read() {
    let rows: Vec<Row> = (0..100_000).map(|i| ("a", 1000 * i, 1)).collect();
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let source = Rows { chunk: 10, open_for: Duration::from_secs(600), ..Rows::new(vec![rows]) };
    let src = p.source("src", &source, 3_600_000_000, None);
    let state = |name| StateDesc::new(name, StateKind::Rows);
    let exec = keyed(2, vec![state("left"), state("right")], || Pairs);
    let j = p.operator("pairs", Exec::Keyed(exec), &[at(src, 0)], &ports(&[""]));
    p.nodes[j].inputs.push(Input { from: at(src, 0), index: 1 });
    let out = Collect::default();
    p.sink("out", &out, &[at(j, 0)]);
    let control = Control::new();
    let s = run(p.build(), options(2), control.clone(), &DrainSoon(control));
    assert_eq!((s.fault.clone(), s.ended), (None, Ended::Drained));
    // Each row pairs with itself and its two neighbours.
    assert_eq!(s.records_out, 3 * s.records_in - 2);
    assert_eq!(source.acked.lock().unwrap()[&0], s.records_in);
}
