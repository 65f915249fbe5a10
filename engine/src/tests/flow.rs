//! Sources, stateless trees, sinks, ends.

use super::harness::*;
use crate::summary::Ended;
use crate::{Control, RunOptions, Summary, run};
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::operator::TimeCharacteristic::EventTime;
use millrace_sdk::{Batch, BatchBuilder, Exec, Operator, Outputs, Slot};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub fn options(workers: usize) -> RunOptions {
    RunOptions { workers: Some(workers), check_plausibility: false, epoch: Duration::from_millis(2), ..RunOptions::default() }
}

/// Where state is between two epochs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    InMemory,
    /// Written out and read back.
    InBytes,
    /// In a tier, as far as it can be.
    Below,
}

impl State {
    pub fn set(self, o: RunOptions) -> RunOptions {
        let (roundtrip_state, evict_state) = (self == State::InBytes, self == State::Below);
        RunOptions { roundtrip_state, evict_state, tiers: Some(Arc::new(super::tier::Files::default())), ..o }
    }
}

pub fn go(plan: Plan, options: RunOptions) -> Summary {
    let s = run(plan, options, Control::new(), &());
    assert_eq!(s.fault, None);
    s
}

fn numbers(partitions: usize, rows: i64) -> Vec<Vec<Row>> {
    (0..partitions as i64).map(|p| (1..=rows).map(|i| ("k", 1000 * i, p * rows + i)).collect()).collect()
}

#[test]
fn stateless_tree_ports_rejects_and_drops() {
    for workers in 1..=3 {
        let mut p = PlanBuilder::new(EventTime);
        let rows = Rows::new(numbers(5, 300));
        let src = p.source("src", &rows, 0, None);
        let split = p.stateless("split", at(src, 0), &["", "odd"], || Parity);
        let inc = p.stateless("inc", at(split, 1), &[""], || Increment);
        let pass = p.operator("pass", Exec::Pass, &[at(inc, 0)], &[(millrace_sdk::operator::Port::main(), schema())]);
        let (even, odd) = (Collect::default(), Collect { single: true, ..Collect::default() });
        p.sink("even", &even, &[at(split, 0)]);
        p.sink("odd", &odd, &[at(pass, 0)]);
        let dead = p.dead.clone();
        let s = go(p.build(), options(workers));
        let want: Vec<i64> = (1..=1500).filter(|v| v % 100 != 0 && v % 7 != 0).collect();
        let nums = |c: &Collect| {
            let mut v: Vec<i64> = c.rows.lock().unwrap().iter().map(|r| r.rsplit(',').next().unwrap().parse().unwrap()).collect();
            v.sort_unstable();
            v
        };
        assert_eq!(nums(&even), want.iter().copied().filter(|v| v % 2 == 0).collect::<Vec<_>>());
        assert_eq!(nums(&odd), want.iter().copied().filter(|v| v % 2 == 1).map(|v| v + 1).collect::<Vec<_>>());
        let split = s.node("split").unwrap();
        assert_eq!((split.records_in, split.rejected["round"], split.dropped["seven"]), (1500, 15, 212));
        assert_eq!(split.records_in, split.records_out + 15 + 212);
        assert_eq!(s.node("pass").unwrap().records_out, odd.sorted().len() as u64);
        assert_eq!(s.node("dead_letter").unwrap().records_in, 15);
        let first = "test,split,errors,round,a round number,src,p0,99,100000000,";
        assert!(dead.sorted().iter().any(|r| r.starts_with(first)), "{:?}", dead.sorted());
        assert_eq!((s.ended, s.records_in, s.lost, s.rejected), (Ended::Finished, 1500, 0, 15));
        assert_eq!(*rows.acked.lock().unwrap(), (0..5).map(|p| (p, 300)).collect());
        assert_eq!((odd.closed.load(SeqCst), even.closed.load(SeqCst)), (1, workers));
    }
}

#[test]
fn rows_of_unread_ports_are_counted() {
    let mut p = PlanBuilder::new(EventTime);
    let src = p.source("src", &Rows::new(numbers(1, 50)), 0, None);
    let split = p.stateless("split", at(src, 0), &["", "odd"], || Parity);
    p.sink("even", &Collect::default(), &[at(split, 0)]);
    let s = go(p.build(), options(1));
    let n = s.node("split").unwrap();
    assert_eq!(n.dropped["unread-port"], n.ports[1].records);
}

#[test]
fn a_source_that_lists_its_partitions_late_is_not_overtaken() {
    for workers in 1..=2 {
        let mut p = PlanBuilder::new(EventTime);
        let ahead = Rows { open_for: Duration::from_millis(300), ..Rows::new(vec![vec![("a", 500_000, 1)]]) };
        let behind = Rows { listed_after: Duration::from_millis(60), ..Rows::new(vec![vec![("b", 1_000, 2), ("b", 2_000, 3)]]) };
        let (a, b) = (p.source("ahead", &ahead, 0, None), p.source("behind", &behind, 0, None));
        let (sink_a, sink_b) = (Collect::default(), Collect::default());
        p.sink("a", &sink_a, &[at(a, 0)]);
        p.sink("b", &sink_b, &[at(b, 0)]);
        go(p.build(), options(workers));
        assert_eq!(sink_b.sorted(), ["b,1000,2", "b,2000,3"], "at {workers} workers");
    }
}

#[test]
fn late_is_decided_by_the_rows_own_partition() {
    for workers in 1..=3 {
        let a: Vec<Row> = vec![("a", 10_000, 1), ("a", 5_000, 2), ("a", 4_999, 3), ("a", 20_000, 4), ("a", 14_999, 5), ("a", 15_000, 6)];
        let b: Vec<Row> = vec![("b", 1_000, 7), ("b", 2_000, 8), ("b", 500_000, 9), ("b", 3_000, 10)];
        for chunk in [1, 2, 100] {
            let mut p = PlanBuilder::new(EventTime);
            let rows = Rows { chunk, ..Rows::new(vec![a.clone(), b.clone()]) };
            let src = p.source("src", &rows, 5000, None);
            let out = Collect::default();
            p.sink("out", &out, &[at(src, 0)]);
            go(p.build(), options(workers));
            let late: Vec<String> = out.sorted().into_iter().filter(|r| r.starts_with('!')).collect();
            assert_eq!(late, ["!a,14999,5", "!a,4999,3", "!b,3000,10"]);
        }
    }
}

#[test]
fn far_future_and_implausible_times() {
    let now = millrace_sdk::Clock::System.now() / 1000;
    let rows = Rows::new(vec![vec![("a", now, 1), ("a", now + 200_000_000, 2), ("a", 5, 3), ("a", now + 1, 4)]]);
    let mut p = PlanBuilder::new(EventTime);
    let src = p.source("src", &rows, 5000, None);
    let out = Collect::default();
    p.sink("out", &out, &[at(src, 0)]);
    let s = go(p.build(), RunOptions { check_plausibility: true, ..options(1) });
    assert_eq!(
        s.node("src").unwrap().rejected.iter().map(|(k, v)| (k.as_str(), *v)).collect::<Vec<_>>(),
        [("implausible-event-time", 1), ("too-far-in-future", 1)]
    );
    assert_eq!(out.sorted().len(), 2);

    // Long ago, and microseconds that are said to be milliseconds: beyond year 9998.
    let micros = vec![(1..=200).map(|i| ("k", now * 1000 + i, i)).collect()];
    for rows in [numbers(1, 200), micros] {
        let mut p = PlanBuilder::new(EventTime);
        let src = p.source("src", &Rows::new(rows), 5000, None);
        p.sink("out", &Collect::default(), &[at(src, 0)]);
        let s = run(p.build(), RunOptions { check_plausibility: true, ..options(1) }, Control::new(), &());
        assert!(s.fault.unwrap().message.contains("implausible-event-time"));
    }
}

#[test]
fn limit_duration_and_drain() {
    let endless = || Rows { open_for: Duration::from_secs(600), ..Rows::new(numbers(2, 500)) };
    let plan = |rows: &Rows, out: &Collect| {
        let mut p = PlanBuilder::new(EventTime);
        let src = p.source("src", rows, 0, None);
        p.sink("out", out, &[at(src, 0)]);
        p.build()
    };
    for workers in 1..=2 {
        let (rows, out) = (endless(), Collect::default());
        let s = go(plan(&rows, &out), RunOptions { limit: Some(333), ..options(workers) });
        assert_eq!((s.ended, s.records_in, out.sorted().len()), (Ended::Drained, 333, 333));
        let (rows, out) = (endless(), Collect::default());
        let s = go(plan(&rows, &out), RunOptions { duration: Some(Duration::from_millis(300)), ..options(workers) });
        assert_eq!((s.ended, s.records_in, out.sorted().len()), (Ended::Drained, 1000, 1000));
        assert_eq!(rows.acked.lock().unwrap().values().sum::<u64>(), 1000);
    }
}

#[test]
fn a_slow_sink_bounds_what_is_in_flight() {
    let mut p = PlanBuilder::new(EventTime);
    let rows = Rows { chunk: 100, ..Rows::new(numbers(1, 20_000)) };
    let src = p.source("src", &rows, 0, None);
    let out = Collect { delay: 2, ..Collect::default() };
    p.sink("out", &out, &[at(src, 0)]);
    let s = go(p.build(), RunOptions { max_bytes_in_flight: 30_000, ..options(1) });
    assert_eq!(s.records_out, 20_000);
    assert!(out.most.load(SeqCst) <= 2);
}

#[test]
fn refused_rows_go_to_the_dead_letter_and_its_own_are_lost() {
    let plan = |dead_refuses: bool| {
        let mut p = PlanBuilder::new(EventTime);
        let src = p.source("src", &Rows::new(vec![vec![("good", 1, 1), ("bad", 2, 2)]]), 0, None);
        p.sink("out", &Collect { refuse: Some("bad"), ..Collect::default() }, &[at(src, 0)]);
        p.dead.refuse = dead_refuses.then_some("test");
        let dead = p.dead.clone();
        (p.build(), dead)
    };
    let (p, dead) = plan(false);
    let s = go(p, options(2));
    assert_eq!((s.lost, dead.sorted().len(), s.node("out").unwrap().rejected["refused"]), (0, 1, 1));
    let (p, dead) = plan(true);
    let s = go(p, options(2));
    assert_eq!((s.lost, dead.sorted().len()), (1, 0));
}

#[test]
fn what_a_server_that_stays_away_did_not_take_is_lost_and_not_confirmed() {
    // Of 30 rows in writes of 10 so many writes are taken; with `delay` the sink takes two at a time and the rest never reaches it.
    for (taken, delay, lost) in [(0, 0, 30), (1, 0, 20), (1, 2, 20), (3, 2, 0)] {
        let mut p = PlanBuilder::new(EventTime);
        let rows = Rows { chunk: 10, ..Rows::new(numbers(1, 30)) };
        let src = p.source("src", &rows, 0, None);
        p.sink("out", &Collect { delay, away: Some((taken, Duration::from_millis(50))), ..Collect::default() }, &[at(src, 0)]);
        let s = run(p.build(), options(1), Control::new(), &());
        assert_eq!(s.lost, lost, "{taken} {delay}");
        assert_eq!(s.fault.is_some(), lost > 0);
        let fault = s.fault.map(|f| f.message).unwrap_or_default();
        assert!(lost == 0 || fault == format!("{lost} rows of `out` were not acknowledged at the end of the job"), "{fault}");
        assert!(rows.acked.lock().unwrap().get(&0).copied().unwrap_or(0) <= 30 - lost);
    }
}

struct Bomb;

impl Operator for Bomb {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        assert!(batch.metas()[0].offset < 20, "boom");
        out.emit(0, batch);
    }
}

#[test]
fn a_panic_ends_all_workers_with_a_bug() {
    for workers in 1..=3 {
        let mut p = PlanBuilder::new(EventTime);
        let src = p.source("src", &Rows { open_for: Duration::from_secs(600), ..Rows::new(numbers(1, 100)) }, 0, None);
        let bomb = p.stateless("bomb", at(src, 0), &[""], || Bomb);
        p.sink("out", &Collect::default(), &[at(bomb, 0)]);
        let s = run(p.build(), options(workers), Control::new(), &());
        let fault = s.fault.unwrap();
        assert_eq!((fault.kind, s.ended), (crate::summary::FaultClass::Bug, Ended::Failed));
        assert!(fault.message.contains("boom"), "{}", fault.message);
    }
}

#[test]
fn what_is_missing_is_told_before_anything_is_read() {
    let mut p = PlanBuilder::new(EventTime);
    let a = p.source("a", &Rows { missing: Some("no topic `a`"), ..Rows::new(numbers(1, 9)) }, 0, None);
    let b = p.source("b", &Rows { missing: Some("no topic `b`"), ..Rows::new(numbers(1, 9)) }, 0, None);
    let out = Collect::default();
    p.sink("out", &out, &[at(a, 0), at(b, 0)]);
    let s = run(p.build(), options(1), Control::new(), &());
    let f = s.fault.unwrap();
    assert_eq!((f.kind, s.records_in, out.sorted().len()), (crate::summary::FaultClass::Dependency, 0, 0));
    assert!(f.detail.unwrap().contains("no topic `b`"));
}

/// Pieces that have been made, and those that the sink has taken.
static MADE: AtomicUsize = AtomicUsize::new(0);
static TAKEN: OnceLock<Collect> = OnceLock::new();
const PIECES: i64 = 400;
const PIECE: i64 = 1024;

/// Makes every row `PIECES` times `PIECE` rows.
#[derive(Default)]
struct Explode {
    batch: Option<Batch>,
    at: (usize, i64),
}

impl Operator for Explode {
    fn process(&mut self, batch: Batch, out: &mut Outputs) {
        *self = Explode { batch: Some(batch), at: (0, 0) };
        self.resume(out);
    }
    fn resume(&mut self, out: &mut Outputs) {
        let Some(batch) = self.batch.take() else { return };
        let mut rows = BatchBuilder::over(&batch, batch.schema().clone());
        let row = batch.row(self.at.0);
        for i in 0..PIECE {
            rows.keep(&row, Slot(0));
            rows.keep(&row, Slot(1));
            rows.push_int((row.int(Slot(2)).unwrap() * PIECES + self.at.1) * PIECE + i);
            rows.end_row(*row.meta());
        }
        out.emit(0, batch.clone().replaced_by(rows));
        self.at = if self.at.1 + 1 < PIECES { (self.at.0, self.at.1 + 1) } else { (self.at.0 + 1, 0) };
        out.unfinished = self.at.0 < batch.len();
        self.batch = out.unfinished.then_some(batch);
        let made = MADE.fetch_add(1, SeqCst) + 1;
        let taken = TAKEN.get().map_or(0, |c| c.rows.lock().unwrap().len() / PIECE as usize);
        // 4 MiB are 46 pieces; and what one step takes at a time.
        assert!(made - taken < 100, "{made} pieces made, {taken} taken");
    }
}

#[test]
fn what_one_row_becomes_waits_for_the_readers() {
    for (fused, workers) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
        let mut p = PlanBuilder::new(EventTime);
        let rows = Rows::new(vec![vec![("k", 1000, 0), ("k", 2000, 1)]]);
        let src = p.source("src", &rows, 0, None);
        let mut from = src;
        match &mut p.nodes[src].kind {
            NodeKind::Source(s) if fused => {
                for (name, make) in
                    [("a", || Box::<Explode>::default() as Box<dyn Operator>), ("b", || Box::new(Increment))] as [(_, fn() -> _); 2]
                {
                    s.operates.push(millrace_plan::plan::Operate { name: name.into(), part: "Test", make: Arc::new(make) });
                }
            }
            _ => {
                from = p.stateless("a", at(src, 0), &[""], Explode::default);
                from = p.stateless("b", at(from, 0), &[""], || Increment);
            }
        }
        let slow = TAKEN.get_or_init(|| Collect { single: true, delay: 2, ..Collect::default() });
        slow.rows.lock().unwrap().clear();
        MADE.store(0, SeqCst);
        p.sink("slow", slow, &[at(from, 0)]);
        let s = go(p.build(), options(workers));
        let want: Vec<String> =
            (0..2 * PIECES * PIECE).map(|i| format!("k,{},{}", if i < PIECES * PIECE { 1000 } else { 2000 }, i + 1)).collect();
        assert!(*slow.rows.lock().unwrap() == want, "all rows, in order");
        assert_eq!((s.records_in, s.records_out, MADE.load(SeqCst)), (2, want.len() as u64, 2 * PIECES as usize));
        assert_eq!(*rows.acked.lock().unwrap(), [(0, 2)].into());
    }
}
