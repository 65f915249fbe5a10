//! State, timers, watermarks.

use super::flow::State::{Below, InBytes, InMemory};
use super::flow::{go, options};
use super::harness::*;
use crate::RunOptions;
use millrace_sdk::operator::{Keyed, Port, TimeCharacteristic};
use millrace_sdk::{
    Context, Exec, Fault, Key, KeyedOperator, Meta, Record, SchemaRef, Slot, State, StateDesc, StateId, StateKind, TimeDomain, Visit,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub fn state(name: &'static str, kind: StateKind) -> StateDesc {
    StateDesc::new(name, kind)
}

pub fn keyed<O: KeyedOperator + 'static>(inputs: usize, states: Vec<StateDesc>, make: fn() -> O) -> Keyed {
    let keys = vec![Key::new(vec![Slot(0)]); inputs];
    Keyed { keys, states, stores: vec![], max_holds: None, make: Arc::new(move || Box::new(make())) }
}

pub fn ports(names: &[&str]) -> Vec<(Port, SchemaRef)> {
    names.iter().map(|n| (Port::named(*n), schema())).collect()
}

/// Emits a row whose event time is `time` microseconds.
pub fn emit(cx: &mut dyn Context, port: usize, time: i64, key: &str, ms: i64, v: i64) {
    let out = cx.out(port);
    out.push_str(key);
    out.push_int(ms);
    out.push_int(v);
    out.end_row(Meta { time, ..Meta::default() });
}

const WINDOW: i64 = 10_000;

/// Sums by key in tumbling windows of 10 s; late rows leave by port 1.
pub struct Tumbling;

impl KeyedOperator for Tumbling {
    fn on_record(&mut self, _: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let (ms, v) = (row.int(Slot(1)).unwrap(), row.int(Slot(2)).unwrap());
        if row.meta().late() {
            emit(cx, 1, row.meta().time, row.str(Slot(0)).unwrap(), ms, v);
            return Ok(());
        }
        assert!(row.meta().time > cx.watermark(), "what is not late lies above the watermark");
        let start = ms.div_euclid(WINDOW) * WINDOW;
        let key = start.to_be_bytes();
        let old = state.map_get(StateId(0), &key).map_or(0, |b| i64::from_le_bytes(b.try_into().unwrap()));
        state.map_put(StateId(0), &key, &(old + v).to_le_bytes());
        state.put(StateId(1), row.str(Slot(0)).unwrap().as_bytes());
        cx.set_timer(TimeDomain::Event, (start + WINDOW) * 1000 - 1, 0);
        Ok(())
    }

    fn on_timer(&mut self, _: TimeDomain, time: i64, _: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let start = (time + 1) / 1000 - WINDOW;
        let name = String::from_utf8(state.get(StateId(1)).unwrap().to_vec()).unwrap();
        let sum = i64::from_le_bytes(state.map_get(StateId(0), &start.to_be_bytes()).unwrap().try_into().unwrap());
        assert!(state.map_remove(StateId(0), &start.to_be_bytes()));
        let mut left = 0;
        state.map_scan(StateId(0), &mut |_, _| {
            left += 1;
            Visit::Keep
        });
        if left == 0 {
            state.clear(StateId(1));
        }
        emit(cx, 0, time, &name, start, sum);
        Ok(())
    }
}

fn tumbling(rows: &[Rows], bound: u64, o: RunOptions) -> (Vec<String>, Vec<String>) {
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let sources: Vec<_> = rows.iter().enumerate().map(|(i, r)| at(p.source(&format!("s{i}"), r, bound, None), 0)).collect();
    let union = p.operator("all", Exec::Pass, &sources, &ports(&[""]));
    let states = vec![state("sums", StateKind::Map), state("name", StateKind::Value)];
    let w = p.operator("window", Exec::Keyed(keyed(1, states, || Tumbling)), &[at(union, 0)], &ports(&["", "late"]));
    let (out, late) = (Collect::default(), Collect::default());
    p.sink("out", &out, &[at(w, 0)]);
    p.sink("late", &late, &[at(w, 1)]);
    go(p.build(), o);
    (out.sorted(), late.sorted())
}

pub const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Rows whose disorder stays below `disorder` milliseconds.
pub fn disordered(seed: u64, rows: usize, disorder: i64) -> Vec<Row> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut t = 1_000_000;
    let row = |_| {
        t += rng.random_range(0..900);
        (NAMES[rng.random_range(0..NAMES.len())], t - rng.random_range(0..=disorder), rng.random_range(1..100))
    };
    (0..rows).map(row).collect()
}

pub fn sums(partitions: &[Vec<Row>]) -> Vec<String> {
    let mut want: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for (k, ts, v) in partitions.iter().flatten() {
        *want.entry((k, ts.div_euclid(WINDOW) * WINDOW)).or_default() += v;
    }
    let mut rows: Vec<String> = want.into_iter().map(|((k, s), v)| format!("{k},{s},{v}")).collect();
    rows.sort();
    rows
}

#[test]
fn windows_equal_the_definition_at_any_parallelism_with_state_written_and_read_at_every_epoch() {
    for seed in 0..4 {
        let partitions: Vec<_> = (0..3).map(|p| disordered(seed * 10 + p, 400, 3000)).collect();
        let want = sums(&partitions);
        let modes = [(1, InMemory), (2, InMemory), (3, InMemory), (1, InBytes), (3, InBytes), (1, Below), (3, Below)];
        for (workers, state) in modes {
            let rows = Rows { chunk: 5 + seed as usize * 20, ..Rows::new(partitions.clone()) };
            let o = state.set(RunOptions { epoch: Duration::from_millis(1), ..options(workers) });
            let (got, late) = tumbling(&[rows], 3000, o);
            assert_eq!(late, Vec::<String>::new());
            assert_eq!(got, want, "seed {seed}, {workers} workers, state {state:?}");
        }
    }
}

#[test]
fn a_source_a_whole_interval_ahead_makes_nothing_late() {
    let near = disordered(1, 300, 2000);
    let far: Vec<Row> = disordered(2, 300, 2000).into_iter().map(|(k, t, v)| (k, t + 86_400_000, v)).collect();
    for workers in 1..=3 {
        let (a, b) = (Rows::new(vec![near.clone()]), Rows { chunk: 1000, ..Rows::new(vec![far.clone()]) });
        let (got, late) = tumbling(&[a, b], 2000, options(workers));
        assert_eq!(late, Vec::<String>::new());
        assert_eq!(got, sums(&[near.clone(), far.clone()]));
    }
}

#[test]
fn late_rows_and_windows_are_all_rows() {
    let rows = disordered(5, 2000, 9000);
    for workers in 1..=2 {
        let (got, late) = tumbling(&[Rows::new(vec![rows.clone()])], 1000, options(workers));
        assert!(!late.is_empty());
        let total = |v: &[String]| v.iter().map(|r| r.rsplit(',').next().unwrap().parse::<i64>().unwrap()).sum::<i64>();
        assert_eq!(total(&got) + total(&late), rows.iter().map(|r| r.2).sum::<i64>());
    }
}

/// Windows over these rows, and what was late for them; a partition is idle after 200 ms.
fn idle_after_200_ms(rows: &Rows, workers: usize) -> (Collect, Collect) {
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let src = p.source("src", rows, 0, Some(Duration::from_millis(200)));
    let states = vec![state("sums", StateKind::Map), state("name", StateKind::Value)];
    let w = p.operator("window", Exec::Keyed(keyed(1, states, || Tumbling)), &[at(src, 0)], &ports(&["", "late"]));
    let (out, late) = (Collect::default(), Collect::default());
    p.sink("out", &out, &[at(w, 0)]);
    p.sink("late", &late, &[at(w, 1)]);
    go(p.build(), options(workers));
    (out, late)
}

#[test]
fn an_idle_partition_steps_aside_and_comes_back_without_breaking_the_promise() {
    for (workers, knows) in [(1, false), (2, false), (1, true), (2, true)] {
        // Partition 0 gives ten rows every 50 ms, partition 1 nothing for three times as long as makes it idle.
        let fast: Vec<Row> = (0..200).map(|i| ("a", i * 1000, 1)).collect();
        let slow: Vec<Row> = vec![("b", 100, 1), ("b", 200, 1)];
        let steps = (1..20).map(|i| (0, 10 * i as usize, Duration::from_millis(50 * i)));
        let held = steps.chain([(1, 0, Duration::from_millis(600))]).collect();
        let rows = Rows { held, knows, ..Rows::new(vec![fast, slow]) };
        let (out, late) = idle_after_200_ms(&rows, workers);
        let sum = |rows: Vec<String>| rows.iter().map(|r| r.rsplit(',').next().unwrap().parse::<i64>().unwrap()).sum::<i64>();
        assert_eq!(sum(out.sorted()) + sum(late.sorted()), 202);
        // A partition that only waits for its rows is not idle.
        let want: &[&str] = if knows { &[] } else { &["!b,100,1", "!b,200,1"] };
        assert_eq!(late.sorted(), want, "{workers} workers");
    }
}

/// Idle at first; then nobody knows what it has, and what comes is not late, though the others went on.
#[test]
fn an_idle_partition_is_waited_for_when_its_end_is_no_longer_known() {
    for (workers, unsure_from, want) in [(1, None, &["!b,185000,1"][..]), (1, Some(400), &[]), (2, Some(400), &[])] {
        let fast: Vec<Row> = (0..200).map(|i| ("a", i * 1000, 1)).collect();
        let steps = (1..20).map(|i| (0, 10 * i as usize, Duration::from_millis(50 * i)));
        let held = steps.chain([(1, 0, Duration::from_millis(1500))]).collect();
        let rows = Rows { held, unsure_from: unsure_from.map(Duration::from_millis), ..Rows::new(vec![fast, vec![("b", 185_000, 1)]]) };
        let (_, late) = idle_after_200_ms(&rows, workers);
        assert_eq!(late.sorted(), want, "{workers} workers, unsure from {unsure_from:?} ms");
    }
}

/// First of a key passes; a processing-time timer says how many came.
struct Count;

impl KeyedOperator for Count {
    fn on_record(&mut self, _: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let n = state.update(StateId(0));
        if n.is_empty() {
            n.extend_from_slice(&0i64.to_le_bytes());
            n.extend_from_slice(row.str(Slot(0)).unwrap().as_bytes());
            let due = cx.now() + 3_600_000_000;
            cx.set_timer(TimeDomain::Processing, due, 7);
            cx.set_timer(TimeDomain::Processing, due, 7);
        }
        let n = state.update(StateId(0));
        let count = i64::from_le_bytes(n[..8].try_into().unwrap()) + 1;
        n[..8].copy_from_slice(&count.to_le_bytes());
        cx.count("seen", 1);
        Ok(())
    }
    fn on_timer(&mut self, _: TimeDomain, _: i64, tag: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        assert_eq!(tag, 7);
        let n = state.get(StateId(0)).unwrap().to_vec();
        state.clear(StateId(0));
        emit(cx, 0, millrace_sdk::NO_TIME, std::str::from_utf8(&n[8..]).unwrap(), 0, i64::from_le_bytes(n[..8].try_into().unwrap()));
        Ok(())
    }
}

#[test]
fn the_end_fires_processing_time_timers_once() {
    for workers in 1..=3 {
        let mut p = PlanBuilder::new(TimeCharacteristic::ProcessingTime);
        let rows = disordered(9, 1000, 0);
        let src = p.source("src", &Rows::new(vec![rows.clone()]), 0, None);
        let c = p.operator("count", Exec::Keyed(keyed(1, vec![state("n", StateKind::Value)], || Count)), &[at(src, 0)], &ports(&[""]));
        let out = Collect::default();
        p.sink("out", &out, &[at(c, 0)]);
        let s = go(p.build(), options(workers));
        let want: Vec<String> = NAMES.iter().map(|n| format!("{n},0,{}", rows.iter().filter(|r| r.0 == *n).count())).collect();
        assert_eq!(out.sorted(), want);
        assert_eq!(s.node("count").unwrap().counters["seen"], 1000);
    }
}
