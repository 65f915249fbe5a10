//! On a virtual clock: a run says when it has come to rest, and timers fire at their times. And taps.

use super::flow::options;
use super::harness::*;
use crate::{Control, run};
use millrace_sdk::Clock;
use millrace_sdk::operator::TimeCharacteristic::EventTime;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn at_rest_all_rows_are_written() {
    for round in 0..20 {
        let mut p = PlanBuilder::new(EventTime);
        p.env.clock = Clock::fixed(0);
        let mut rows = Rows::new(vec![(1..=50).map(|i| ("k", 1000 * i, i)).collect()]);
        rows.open_for = Duration::from_secs(3600);
        rows.chunk = 1 + round % 7;
        let src = p.source("src", &rows, 0, None);
        let inc = p.stateless("inc", at(src, 0), &[""], || Increment);
        let out = Collect { delay: round as u32 % 4, ..Collect::default() };
        p.sink("out", &out, &[at(inc, 0)]);
        let control = Control::new();
        let (handle, plan) = (control.clone(), p.build());
        let running = std::thread::spawn(move || run(plan, options(1), control, &()));
        while rows.given.load(SeqCst) < 50 {
            std::thread::yield_now();
        }
        assert_eq!(handle.rest(Duration::from_secs(60)), Ok(vec![]));
        assert_eq!((out.sorted().len(), out.in_flight.load(SeqCst)), (50, 0), "round {round}");
        handle.drain();
        assert_eq!(running.join().unwrap().fault, None);
        assert!(handle.rest(Duration::from_secs(60)).is_err(), "the run is over");
    }
}

#[test]
fn a_tap_sees_what_passes_and_only_that() {
    let mut p = PlanBuilder::new(EventTime);
    let rows = Rows::new(vec![(1..=300).map(|i| ("k", 1000 * i, i)).collect()]);
    let src = p.source("src", &rows, 0, None);
    let split = p.stateless("split", at(src, 0), &["", "odd"], || Parity);
    let inc = p.stateless("inc", at(split, 1), &[""], || Increment);
    let out = Collect::default();
    p.sink("out", &out, &[at(inc, 0)]);
    let control = Control::new();
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let into = |place: usize| {
        let seen = seen.clone();
        Box::new(move |b: &millrace_sdk::Batch| seen.lock().unwrap().extend(std::iter::repeat_n(place, b.len())))
    };
    // The fused port, the last one of the tree, and the rejects.
    for (i, at) in [(split, 1), (inc, 0), (split, 2)].into_iter().enumerate() {
        control.taps.add(vec![at], true, into(i));
    }
    let brief = control.taps.add(vec![(src, 0)], false, Box::new(|_| std::thread::sleep(Duration::from_millis(50))));
    assert_eq!(run(p.build(), options(1), control.clone(), &()).fault, None);
    let seen = seen.lock().unwrap();
    let of = |place: usize| seen.iter().filter(|p| **p == place).count();
    let odd = (1..=300).filter(|v| v % 100 != 0 && v % 7 != 0 && v % 2 == 1).count();
    assert_eq!((of(0), of(1), of(2)), (odd, out.sorted().len(), 3));
    // What looks for long looks seldom, and what it has missed is counted.
    let (rows, missed) = (brief.rows.load(SeqCst), brief.missed.load(SeqCst));
    assert!(rows == 300 && missed > 0 && missed < 300, "{missed} of {rows}");
    control.taps.remove(&brief);
}
