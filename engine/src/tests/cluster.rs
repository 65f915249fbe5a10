//! Several processes, each a run in a thread of its own: nothing is shared but the outside, and all else goes by sockets.

use super::durable::Job;
use super::flow::options;
use super::harness::*;
use super::keyed::{Tumbling, disordered, keyed, ports, state, sums};
use super::retry::{Topic, retry_loop};
use crate::summary::Ended;
use crate::{Control, Member, Request, RunOptions, Summary, run};
use millrace_sdk::config::Secret;
use millrace_sdk::operator::TimeCharacteristic::EventTime;
use millrace_sdk::{Exec, FaultKind, StateKind};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::net::TcpListener;
use std::time::Duration;

fn hosts(n: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

fn member(process: usize, hosts: &[String]) -> Member {
    Member {
        process,
        hosts: hosts.to_vec(),
        listen: None,
        secret: Secret("0123456789abcdef".into()),
        connect_timeout: Duration::from_secs(20),
        peer_timeout: Duration::from_secs(20),
    }
}

/// Runs a job in `n` processes at once.
fn together(n: usize, workers: usize, one: impl Fn(usize, RunOptions) -> Summary + Sync) -> Vec<Summary> {
    let hosts = hosts(n);
    std::thread::scope(|s| {
        let (one, hosts) = (&one, &hosts);
        let runs: Vec<_> =
            (0..n).map(|p| s.spawn(move || one(p, RunOptions { member: Some(member(p, hosts)), ..options(workers) }))).collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

#[test]
fn rows_rejects_and_counts_are_those_of_one_process() {
    for (processes, workers) in [(2, 1), (3, 1), (2, 2)] {
        let partitions: Vec<Vec<Row>> = (0..5).map(|p| disordered(p, 200, 3000)).collect();
        let (out, dead) = (Collect::default(), Collect { single: true, ..Collect::default() });
        let all = together(processes, workers, |_, o| {
            let mut p = PlanBuilder::new(EventTime);
            let src = p.source("src", &Rows::new(partitions.clone()), 3000, None);
            let parity = p.stateless("parity", at(src, 0), &["", "odd"], || Parity);
            let states = vec![state("sums", StateKind::Map), state("name", StateKind::Value)];
            let w = p.operator("window", Exec::Keyed(keyed(1, states, || Tumbling)), &[at(parity, 0)], &ports(&["", "late"]));
            p.sink("out", &out, &[at(w, 0)]);
            p.sink("odd", &Collect::default(), &[at(parity, 1)]);
            p.dead = dead.clone();
            run(p.build(), o, Control::new(), &())
        });
        for s in &all {
            assert_eq!((&s.fault, s.ended), (&None, Ended::Finished));
        }
        let even: Vec<Vec<Row>> =
            partitions.iter().map(|p| p.iter().filter(|r| r.2 % 100 != 0 && r.2 % 7 != 0 && r.2 % 2 == 0).copied().collect()).collect();
        assert_eq!(out.sorted(), sums(&even), "{processes} x {workers}");
        let round = partitions.iter().flatten().filter(|r| r.2 % 100 == 0).count() as u64;
        let total = &all[0];
        assert_eq!((total.records_in, total.rejected, total.workers), (1000, round, processes * workers));
        assert_eq!(dead.rows.lock().unwrap().len() as u64, round);
        assert!(dead.rows.lock().unwrap().iter().all(|r| r.contains(",p")), "rejects name their partition");
        assert_eq!(total.node("parity").unwrap().records_in, 1000);
        assert!(all[1..].iter().all(|s| s.records_in > 0 && s.records_in < 1000), "the others tell what they did themselves");
    }
}

#[test]
fn broken_runs_together_publish_what_one_run_would_with_any_number_of_processes() {
    for seed in 0..4u64 {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path(), seed, 300);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut runs = vec![];
        loop {
            assert!(runs.len() < 40, "it never ends: {runs:?}");
            let (processes, workers, breaks) = (rng.random_range(1..=3), rng.random_range(1..=2), rng.random_range(0..3));
            let polls = (runs.len() < 7).then(|| rng.random_range(5..60));
            let all = together(processes, workers, |p, o| job.run(polls.filter(|_| p == breaks % processes), o, Control::new()));
            runs.push((processes, workers, all[0].records_in));
            let faults: Vec<_> = all.iter().filter_map(|s| s.fault.clone()).collect();
            assert!(faults.is_empty() || faults.len() == processes, "all end or none: {faults:?}");
            assert!(faults.iter().all(|f| f.message == "the source has broken down"), "all know why: {faults:?}");
            if faults.is_empty() {
                break;
            }
        }
        assert!(runs.len() > 2, "nothing broke");
        assert_eq!(job.published(), sums(&job.partitions), "seed {seed}, runs {runs:?}");
    }
}

#[test]
fn a_stop_by_any_process_is_a_stop_of_all_and_the_job_goes_on_as_one_process() {
    for (asked, savepoint) in [(0, false), (1, true)] {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(dir.path(), 3, 200);
        let all = together(2, 1, |p, o| {
            let control = Control::new();
            std::thread::scope(|scope| {
                let run = scope.spawn(|| job.run_half(o, control.clone()));
                if p == asked {
                    job.wait_published();
                    control.request(Request::Stop { savepoint, drain: false }).recv().unwrap().unwrap();
                }
                run.join().unwrap()
            })
        });
        assert!(all.iter().all(|s| s.fault.is_none()), "{all:?}");
        assert_eq!(job.run(None, options(3), Control::new()).fault, None);
        assert_eq!(job.published(), sums(&job.partitions));
    }
}

#[test]
fn a_retry_loop_over_processes_ends_when_all_is_settled() {
    for (processes, workers) in [(2, 1), (3, 2)] {
        let (topic, out) = (Topic::default(), Collect::default());
        let all = together(processes, workers, |_, o| run(retry_loop(&topic, &out), o, Control::new(), &()));
        assert!(all.iter().all(|s| s.fault.is_none()), "{all:?}");
        let counters = &all[0].node("round").unwrap().counters;
        assert_eq!((out.sorted().len(), counters["fresh"], counters["again"]), (200, 200, 200 / 5 * (1 + 2 + 3 + 4)));
    }
}

/// What becomes of processes that do not fit together, by process.
fn unfit(change: impl Fn(usize, &mut RunOptions) + Sync) -> Vec<(FaultKind, String)> {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(dir.path(), 1, 50);
    let all = together(2, 1, |p, mut o| {
        o.member.as_mut().unwrap().connect_timeout = Duration::from_millis(800);
        change(p, &mut o);
        job.run(None, o, Control::new())
    });
    let fault = |s: Summary| millrace_sdk::Fault::from(s.fault.expect("a fault"));
    all.into_iter().map(|s| fault(s)).map(|f| (f.kind, f.to_string())).collect()
}

#[test]
fn processes_that_do_not_fit_together_say_why() {
    let secret = unfit(|p, o| o.member.as_mut().unwrap().secret.0 += if p == 1 { "?" } else { "" });
    assert_eq!((secret[0].0, secret[1].0), (FaultKind::Dependency, FaultKind::Config));
    assert!(secret[0].1.contains("did not answer within 0.8s") && secret[0].1.contains("has another secret"), "{}", secret[0].1);
    assert!(secret[1].1.contains("process 0 at 127.0.0.1:") && secret[1].1.contains("has another secret"), "{}", secret[1].1);
    let workers = unfit(|p, o| o.workers = Some(1 + p));
    assert!(workers[1].1.contains("it runs 2 workers, here are 1 a process"), "{}", workers[1].1);
    assert!(workers[0].1.contains("it runs 2 workers, here are 1 a process"), "{}", workers[0].1);
    let short = unfit(|_, o| o.member.as_mut().unwrap().secret.0 = "short".into());
    assert!(short.iter().all(|(kind, text)| *kind == FaultKind::Config && text.contains("has 5 bytes")));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = unfit(|p, o| {
        let m = o.member.as_mut().unwrap();
        m.listen = Some(address.clone()).filter(|_| p == 1);
    });
    assert!(port[1].1.contains(&format!("process 1 cannot listen at {address}")), "{}", port[1].1);
    assert!(port[0].1.contains("process 1 at 127.0.0.1:") && port[0].0 == FaultKind::Dependency, "{}", port[0].1);
}

#[test]
fn checkpoints_must_lie_where_all_processes_see_them() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let jobs = [Job::new(dirs[0].path(), 1, 50), Job::new(dirs[1].path(), 1, 50)];
    let all = together(2, 1, |p, o| jobs[p].run(None, o, Control::new()));
    for s in all {
        let fault = s.fault.expect("a fault");
        assert!(fault.message.contains("process 1 does not find in"), "{fault:?}");
    }
}
