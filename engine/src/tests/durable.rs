//! Runs that are broken off and go on from their last checkpoint: what they publish together is what one whole run would have.

use super::flow::{State, options};
use super::harness::*;
use super::keyed::{Tumbling, disordered, keyed, ports, state, sums};
use crate::summary::Ended;
use crate::{Control, Request, RunOptions, StartFrom, Summary, run};
use millrace_plan::plan::CheckpointPlan;
use millrace_sdk::operator::TimeCharacteristic::EventTime;
use millrace_sdk::{Exec, StateKind};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The same job, run by run.
pub struct Job<'a> {
    dir: &'a Path,
    pub partitions: Vec<Vec<Row>>,
    out: Arc<Mutex<Place>>,
    dead: Arc<Mutex<Place>>,
    /// A sink without an outbox.
    plain: Collect,
    interval: Duration,
    /// Rows that its runs have read.
    given: Arc<AtomicUsize>,
}

impl Job<'_> {
    pub fn new(dir: &Path, seed: u64, rows: usize) -> Job<'_> {
        let partitions = (0..3).map(|p| disordered(seed * 10 + p, rows, 3000)).collect();
        let interval = Duration::from_millis(15);
        Job { dir, partitions, out: Arc::default(), dead: Arc::default(), plain: Collect::default(), interval, given: Arc::default() }
    }

    /// One run, which breaks down after some polls.
    pub fn run(&self, polls: Option<i64>, o: RunOptions, control: Control) -> Summary {
        self.run_of(|rows| rows.polls_left = polls.map(|n| Arc::new(AtomicI64::new(n))), o, control)
    }

    /// One run that gives but half of its rows, as long as it lives.
    pub fn run_half(&self, o: RunOptions, control: Control) -> Summary {
        let held = self.partitions.iter().enumerate().map(|(p, rows)| (p, rows.len() / 2, Duration::MAX)).collect();
        self.run_of(|rows| rows.held = held, o, control)
    }

    fn run_of(&self, change: impl FnOnce(&mut Rows), o: RunOptions, control: Control) -> Summary {
        let mut p = PlanBuilder::new(EventTime);
        let given = self.given.clone();
        let mut rows = Rows { slow: [(0, 2), (1, 2), (2, 2)].into(), knows: true, given, ..Rows::new(self.partitions.clone()) };
        change(&mut rows);
        let src = p.source("src", &rows, 3000, None);
        let states = vec![state("sums", StateKind::Map), state("name", StateKind::Value)];
        let w = p.operator("window", Exec::Keyed(keyed(1, states, || Tumbling)), &[at(src, 0)], &ports(&["", "late"]));
        p.sink("out", &Collect { place: Some(self.out.clone()), ..Collect::default() }, &[at(w, 0)]);
        p.sink("plain", &self.plain, &[at(w, 0)]);
        p.dead = Collect { single: true, place: Some(self.dead.clone()), ..Collect::default() };
        p.checkpoint = Some(CheckpointPlan {
            interval: self.interval,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(60),
            retained: 3,
            tolerable_failures: 3,
            location: self.dir.display().to_string(),
            s3: None,
            exactly_once: true,
        });
        run(p.build(), o, control, &())
    }

    /// Waits until a run has published something.
    pub fn wait_published(&self) {
        while self.out.lock().unwrap().rows.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn published(&self) -> Vec<String> {
        let mut rows = self.out.lock().unwrap().rows.clone();
        rows.sort();
        rows
    }
}

fn whole(job: &Job<'_>, workers: usize) -> Summary {
    job.run(None, options(workers), Control::new())
}

#[test]
fn an_undisturbed_run_publishes_everything_once_and_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    for workers in 1..=3 {
        let path = dir.path().join(workers.to_string());
        let job = Job::new(&path, 1, 120);
        let s = whole(&job, workers);
        assert_eq!((s.fault, s.ended), (None, Ended::Finished));
        assert_eq!(job.published(), sums(&job.partitions));
        // Started again, it has nothing to do.
        let again = whole(&job, workers);
        assert_eq!((again.fault, again.records_in), (None, 0));
        assert_eq!(job.published(), sums(&job.partitions));
    }
}

#[test]
fn broken_runs_together_publish_what_one_run_would_at_any_parallelism() {
    for seed in 0..6u64 {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path(), seed, 300);
        job.out.lock().unwrap().flaky = (seed % 2) as u32;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut runs = vec![];
        loop {
            assert!(runs.len() < 40, "it never ends: {runs:?}");
            let workers = rng.random_range(1..=3);
            let polls = (runs.len() < 8).then(|| rng.random_range(5..60));
            // A run may find both kinds of files, of any number of workers.
            let state = if rng.random_bool(0.7) { State::Below } else { State::InMemory };
            let s = job.run(polls, state.set(options(workers)), Control::new());
            runs.push((workers, s.records_in));
            if s.fault.is_none() {
                break;
            }
        }
        assert!(runs.len() > 2, "nothing broke");
        assert_eq!(job.published(), sums(&job.partitions), "seed {seed}, runs {runs:?}");
        assert_eq!(job.dead.lock().unwrap().rows, Vec::<String>::new());
    }
}

#[test]
fn what_a_server_refuses_reaches_the_dead_letter_once_whatever_breaks() {
    for seed in 0..6u64 {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path(), seed, 200);
        job.out.lock().unwrap().refuse = Some("b");
        let mut rng = SmallRng::seed_from_u64(seed);
        for run in 0.. {
            assert!(run < 40, "it never ends");
            let polls = (run < 6).then(|| rng.random_range(5..60));
            if job.run(polls, options(rng.random_range(1..=3)), Control::new()).fault.is_none() {
                break;
            }
        }
        let (refused, taken): (Vec<String>, Vec<String>) = sums(&job.partitions).into_iter().partition(|r| r.starts_with('b'));
        assert_eq!(job.published(), taken, "seed {seed}");
        let dead = job.dead.lock().unwrap().rows.clone();
        let found = |r: &String| dead.iter().filter(|d| d.ends_with(&format!(",{r}"))).count();
        let wrong: Vec<_> = refused.iter().map(|r| (r, found(r))).filter(|(_, n)| *n != 1).collect();
        assert!(!refused.is_empty() && wrong.is_empty() && dead.len() == refused.len(), "seed {seed}: {wrong:?} of {dead:?}");
    }
}

#[test]
fn a_stop_fires_nothing_early_and_the_next_run_goes_on() {
    for (savepoint, workers) in [(false, 1), (true, 2)] {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path(), 3, 200);
        let control = Control::new();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| job.run_half(options(workers), control.clone()));
            job.wait_published();
            control.request(Request::Stop { savepoint, drain: false }).recv().unwrap().unwrap();
            assert_eq!(run.join().unwrap().fault, None);
        });
        // Who asks a run that has ended is told so.
        assert!(control.request(Request::Savepoint).recv().is_err());
        let so_far = job.published();
        let all = sums(&job.partitions);
        assert!(so_far.len() < all.len() && so_far.iter().all(|r| all.contains(r)), "no window fires before its time");
        assert!(job.plain.sorted().iter().all(|r| all.contains(r)), "nor does one reach a sink that writes at once");
        assert_eq!(whole(&job, 3 - workers).fault, None);
        assert_eq!(job.published(), all);
    }
}

#[test]
fn a_checkpoint_of_a_stream_that_does_not_know_its_partitions_promises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(dir.path(), 6, 200);
    let half = |rows: &mut Rows| {
        rows.untold = vec![0, 2];
        rows.held = vec![(1, 150, Duration::MAX)];
    };
    for _ in 0..2 {
        let control = Control::new();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| job.run_of(half, options(2), control.clone()));
            while job.given.load(SeqCst) < 150 {
                std::thread::sleep(Duration::from_millis(1));
            }
            control.request(Request::Stop { savepoint: false, drain: false }).recv().unwrap().unwrap();
            assert_eq!(run.join().unwrap().fault, None);
        });
    }
    assert_eq!(whole(&job, 1).fault, None);
    assert_eq!(job.published(), sums(&job.partitions));
}

#[test]
fn a_start_from_scratch_knows_nothing_of_what_was() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(dir.path(), 4, 60);
    assert_eq!(whole(&job, 1).fault, None);
    let s = job.run(None, RunOptions { from: StartFrom::Scratch, ..options(2) }, Control::new());
    assert_eq!(s.fault, None);
    let mut twice: Vec<String> = sums(&job.partitions).into_iter().flat_map(|r| [r.clone(), r]).collect();
    twice.sort();
    assert_eq!(job.published(), twice);
}

#[test]
fn a_second_run_of_the_job_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(dir.path(), 5, 200);
    let second = std::thread::scope(|s| {
        let first = s.spawn(|| job.run_half(options(1), Control::new()));
        job.wait_published();
        // The harness's server does not fence, so the first run must notice by its slot.
        let second = s.spawn(|| whole(&job, 2));
        let fault = first.join().unwrap().fault.map(|f| f.message);
        assert!(fault.is_some_and(|f| f.contains("has taken over")));
        second.join().unwrap()
    });
    assert_eq!(second.fault, None);
    assert_eq!(job.published(), sums(&job.partitions));
}
