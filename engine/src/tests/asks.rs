//! Questions to stores: of keyed operators and of look-ups.

use super::flow::State::{Below, InBytes, InMemory};
use super::flow::{go, options};
use super::harness::*;
use super::keyed::{emit, keyed, ports};
use crate::summary::FaultClass;
use crate::{Control, RunOptions, run};
use millrace_plan::plan::{Plan, StorePlan};
use millrace_sdk::codec::RowWriter;
use millrace_sdk::operator::{Keyed, LookupExec, OnStoreError, StoreUse, TimeCharacteristic};
use millrace_sdk::store::{BoxFuture, Tuning};
use millrace_sdk::{
    Answer, Batch, BatchBuilder, Context, Exec, Fault, Field, KeyedOperator, Lookup, Meta, Outputs, Record, RowBuf, Slot, State, StateDesc,
    StateId, StateKind, Store, Type, Val,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Knows all keys that do not end in an odd digit, as `key -> length`; the first `failures` calls fail.
struct Lengths {
    calls: AtomicUsize,
    keys: AtomicUsize,
    failures: usize,
    retry: bool,
}

impl Store for Lengths {
    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        let call = self.calls.fetch_add(1, SeqCst);
        self.keys.fetch_add(keys.len(), SeqCst);
        let fail = call < self.failures;
        let retry = self.retry;
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1 + (call % 3) as u64)).await;
            if fail {
                return Err(if retry { Fault::down("the server is away") } else { Fault::refused("no such table") });
            }
            let row = |k: &Vec<u8>| {
                let mut w = RowWriter::new(Meta::default());
                w.push(Val::Int(k.len() as i64));
                w.finish()
            };
            Ok(keys.iter().map(|k| (k.last().unwrap() % 2 == 0).then(|| row(k))).collect())
        })
    }
}

fn fields() -> Vec<Field> {
    vec![Field::new("length", Type::Bigint)]
}

fn store(failures: usize, retry: bool, tuning: Tuning) -> (Arc<Lengths>, StorePlan) {
    let store = Arc::new(Lengths { calls: AtomicUsize::new(0), keys: AtomicUsize::new(0), failures, retry });
    let schema = millrace_sdk::Schema::new(fields());
    (store.clone(), StorePlan { name: "lengths".into(), part: "Lengths", store, tuning, schema })
}

fn length(row: &[u8]) -> i64 {
    let mut buf = RowBuf::new();
    buf.decode(1, row).unwrap().int(Slot(0)).unwrap()
}

/// Asks for each row's number, waits for the answer in state, and holds the watermark meanwhile.
struct Enrich;

impl KeyedOperator for Enrich {
    fn on_record(&mut self, _: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let mut bytes = vec![];
        row.encode(&mut bytes);
        let seq = cx.sequence();
        state.insert(StateId(0), row.meta().time, seq, &bytes);
        state.put(StateId(1), b"x");
        state.map_put(StateId(2), &seq.to_be_bytes(), &row.meta().time.to_le_bytes());
        cx.hold(row.meta().time);
        let v = row.int(Slot(2)).unwrap();
        cx.ask(0, v.to_string().as_bytes(), seq);
        Ok(())
    }

    fn on_answer(&mut self, token: u64, answer: Answer<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let time = state.map_get(StateId(2), &token.to_be_bytes()).map(|b| i64::from_le_bytes(b.try_into().unwrap())).unwrap();
        state.map_remove(StateId(2), &token.to_be_bytes());
        let bytes = state.row(StateId(0), time, token).unwrap().to_vec();
        state.remove(StateId(0), time, token);
        let mut buf = RowBuf::new();
        let row = buf.decode(3, &bytes).map_err(|e| Fault::bug(e.to_string()))?;
        let (key, v) = (row.str(Slot(0)).unwrap(), row.int(Slot(2)).unwrap());
        match answer {
            Answer::Found(found) => emit(cx, 0, time, key, v, length(found)),
            Answer::NotFound => emit(cx, 0, time, key, v, -1),
            Answer::Failed(_) => emit(cx, 0, time, key, v, -2),
        }
        cx.release(time);
        let mut left = false;
        state.map_scan(StateId(2), &mut |_, _| {
            left = true;
            millrace_sdk::Visit::Stop
        });
        if !left {
            state.clear(StateId(1));
        }
        Ok(())
    }
}

fn exec(on_error: OnStoreError) -> Keyed {
    let state = StateDesc::new;
    let states = vec![state("rows", StateKind::Rows), state("some", StateKind::Value), state("times", StateKind::Map)];
    Keyed { stores: vec![StoreUse { name: "lengths".into(), fields: fields(), on_error }], ..keyed(1, states, || Enrich) }
}

fn numbers() -> Vec<Row> {
    (0..600).map(|i| (["a", "b", "c", "d"][i as usize % 4], 1000 + i * 10, i % 150)).collect()
}

fn want(failed: bool) -> Vec<String> {
    let digits = |v: i64| v.to_string().len() as i64;
    let row = |(k, _, v): Row| {
        format!(
            "{k},{v},{}",
            if failed {
                -2
            } else if v % 2 == 0 {
                digits(v)
            } else {
                -1
            }
        )
    };
    let mut rows: Vec<String> = numbers().into_iter().map(row).collect();
    rows.sort();
    rows
}

fn plan(exec: Exec, store: StorePlan) -> (Plan, Collect, Collect) {
    plan_of(Rows::new(vec![numbers()]), exec, store)
}

fn plan_of(rows: Rows, exec: Exec, store: StorePlan) -> (Plan, Collect, Collect) {
    let mut p = PlanBuilder::new(TimeCharacteristic::EventTime);
    let src = p.source("src", &rows, 0, None);
    let e = p.stored("enrich", exec, vec![store], &[at(src, 0)], &ports(&[""]));
    let out = Collect::default();
    p.sink("out", &out, &[at(e, 0)]);
    let dead = p.dead.clone();
    (p.build(), out, dead)
}

#[test]
fn answers_come_in_state_hold_the_watermark_and_end_is_waited_for() {
    for (workers, state, failures) in [(1, InMemory, 0), (2, InMemory, 3), (3, InBytes, 0), (1, InBytes, 4), (1, Below, 0), (2, Below, 3)] {
        let (lengths, s) = store(failures, true, Tuning { batch: 7, concurrency: 3, ..Tuning::default() });
        let (plan, out, _) = plan(Exec::Keyed(exec(OnStoreError::Wait)), s);
        let o = state.set(RunOptions { epoch: Duration::from_millis(1), ..options(workers) });
        let summary = go(plan, o);
        // Held below its own row, no answer is late.
        assert_eq!(out.sorted(), want(false), "{workers} {state:?} {failures}");
        let st = &summary.stores[0];
        assert_eq!(st.calls, lengths.calls.load(SeqCst) as u64);
        assert_eq!((st.errors, st.failed), (failures as u64, 0));
        assert!(state == InBytes || st.lookups == 600 && st.keys as usize <= 600 + failures * 7);
    }
}

#[test]
fn a_cache_saves_calls_also_for_what_is_not_there() {
    let tuning = Tuning { cache_size: 1000, negative_ttl: Duration::from_secs(60), ..Tuning::default() };
    let (lengths, s) = store(0, true, tuning);
    let (plan, out, _) = plan(Exec::Keyed(exec(OnStoreError::Wait)), s);
    let summary = go(plan, options(1));
    assert_eq!(out.sorted(), want(false));
    assert_eq!(lengths.keys.load(SeqCst), 150);
    let st = &summary.stores[0];
    assert_eq!(st.cache_hits + st.shared, 450);
}

#[test]
fn past_the_timeout_the_operator_hears_of_failure() {
    let tuning = Tuning { timeout: Duration::from_millis(30), ..Tuning::default() };
    let (_, s) = store(usize::MAX, true, tuning);
    let (plan, out, _) = plan(Exec::Keyed(exec(OnStoreError::Unmatched)), s);
    go(plan, options(2));
    assert_eq!(out.sorted(), want(true));
}

#[test]
fn a_store_that_refuses_ends_a_job_that_waits_for_it() {
    let (_, s) = store(usize::MAX, false, Tuning::default());
    let (plan, ..) = plan(Exec::Keyed(exec(OnStoreError::Wait)), s);
    let f = run(plan, options(2), Control::new(), &()).fault.unwrap();
    assert_eq!((f.kind, &*f.message), (FaultClass::Dependency, "no such table"));
}

/// Panics inside the call.
struct Broken;

impl Store for Broken {
    fn get_many(&self, _: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        Box::pin(async { panic!("the store is broken") })
    }
}

#[test]
fn no_row_goes_on_without_an_answer_that_the_job_waits_for() {
    for exec in [Exec::Keyed(exec(OnStoreError::Wait)), lookup(true, OnStoreError::Wait), lookup(false, OnStoreError::Wait)] {
        for broken in [false, true] {
            let (_, mut s) = store(usize::MAX, false, Tuning { batch: 1, ..Tuning::default() });
            if broken {
                s.store = Arc::new(Broken);
            }
            let (plan, out, _) = plan(exec.clone(), s);
            let f = run(plan, options(2), Control::new(), &()).fault.unwrap();
            let want = if broken {
                (FaultClass::Bug, "the store `lengths` panicked while it was asked")
            } else {
                (FaultClass::Dependency, "no such table")
            };
            assert_eq!((f.kind, &*f.message), want);
            assert!(out.sorted().iter().all(|r| r.starts_with("d,")), "{:?}", out.sorted());
        }
    }
}

/// Replaces the number by what the store says; rows of `d` ask nothing.
struct Replace;

impl Lookup for Replace {
    fn key(&mut self, row: Record<'_>, key: &mut Vec<u8>) -> bool {
        key.extend_from_slice(row.int(Slot(2)).unwrap().to_string().as_bytes());
        row.str(Slot(0)) != Some("d")
    }
    fn merge(&mut self, batch: Batch, answers: &[Option<&[u8]>], out: &mut Outputs) {
        assert_eq!(batch.len(), answers.len());
        let mut b = BatchBuilder::over(&batch, batch.schema().clone());
        for (r, a) in batch.rows().zip(answers) {
            b.keep(&r, Slot(0));
            b.keep(&r, Slot(2));
            b.push_int(a.map_or(-1, length));
            b.end_row(*r.meta());
        }
        out.emit(0, batch.replaced_by(b));
    }
}

fn lookup(ordered: bool, on_error: OnStoreError) -> Exec {
    let store = StoreUse { name: "lengths".into(), fields: fields(), on_error };
    Exec::Lookup(LookupExec { store, make: Arc::new(|| Box::new(Replace)), ordered, on_store_error: on_error })
}

#[test]
fn lookups_keep_order_and_lose_nothing() {
    let mut want: Vec<String> = want(false);
    for r in &mut want {
        if r.starts_with("d,") {
            *r = format!("{},-1", r.rsplit_once(',').unwrap().0);
        }
    }
    for (workers, ordered) in [(1, true), (2, true), (3, false)] {
        for failures in [0, 5] {
            let (_, s) = store(failures, true, Tuning { batch: 3, concurrency: 4, ..Tuning::default() });
            let (plan, out, _) = plan(lookup(ordered, OnStoreError::Wait), s);
            let summary = go(plan, options(workers));
            assert_eq!(out.sorted(), want, "{workers} {ordered} {failures}");
            if ordered {
                let seen: Vec<String> = out.rows.lock().unwrap().iter().map(|r| r.rsplit_once(',').unwrap().0.to_string()).collect();
                let sent: Vec<String> = numbers().iter().map(|(k, _, v)| format!("{k},{v}")).collect();
                assert_eq!(seen, sent);
            }
            assert_eq!(summary.node("enrich").unwrap().records_out, 600);
        }
    }
}

#[test]
fn rows_whose_store_stays_down_go_where_the_job_says() {
    let tuning = Tuning { timeout: Duration::from_millis(30), concurrency: 100, ..Tuning::default() };
    let (_, s) = store(usize::MAX, true, tuning.clone());
    let (p, out, dead) = plan(lookup(true, OnStoreError::DeadLetter), s);
    let summary = go(p, options(1));
    assert_eq!((out.sorted().len(), dead.sorted().len()), (150, 450));
    assert_eq!(summary.node("enrich").unwrap().rejected["store-unavailable"], 450);
    let (_, s) = store(usize::MAX, true, tuning);
    let (p, out, dead) = plan(lookup(true, OnStoreError::Unmatched), s);
    go(p, options(1));
    assert_eq!((out.sorted().len(), dead.sorted().len()), (600, 0));
    assert!(out.sorted().iter().all(|r| r.ends_with(",-1")));
}

/// Answers after 20 ms.
struct Slow;

impl Store for Slow {
    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(vec![None; keys.len()])
        })
    }
}

#[test]
fn the_timeout_does_not_count_the_wait_for_other_calls() {
    for exec in [Exec::Keyed(exec(OnStoreError::Unmatched)), lookup(true, OnStoreError::Unmatched)] {
        // 150 keys in calls of 3, one at a time: a second in all.
        let tuning = Tuning { batch: 3, concurrency: 1, timeout: Duration::from_millis(600), ..Tuning::default() };
        let (_, mut s) = store(0, true, tuning);
        s.store = Arc::new(Slow);
        let rows = Rows { chunk: 600, ..Rows::new(vec![numbers()]) };
        let (plan, out, _) = plan_of(rows, exec, s);
        let summary = go(plan, options(1));
        assert_eq!((out.sorted().len(), summary.stores[0].failed), (600, 0));
    }
}
