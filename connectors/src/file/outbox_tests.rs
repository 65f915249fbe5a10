use super::super::sink::FileSink;
use super::*;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Bind, Edge, Field, Meta, Schema, SinkContext, SinkFactory, SinkSpec, Type};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn schema() -> SchemaRef {
    Schema::new(vec![Field::new("n", Type::Bigint)])
}

fn factory(config: Value, dir: &Path) -> Arc<dyn SinkFactory> {
    let spec: FileSink = serde_json::from_value(config).unwrap();
    let env = Env { base_dir: dir.into(), ..Env::default() };
    spec.bind(&Bind { inputs: &[Edge::new(schema())], demands: &[], env: &env, stores: &[] }).unwrap()
}

fn context(clock: &Clock) -> SinkContext {
    SinkContext { worker: 0, workers: 1, clock: clock.clone(), waker: Arc::new(|| {}), env: Arc::default() }
}

/// A run of the job: the outbox, once it has fenced its writer.
struct Run {
    factory: Arc<dyn SinkFactory>,
    outbox: Box<dyn Outbox>,
    clock: Clock,
    writer: &'static str,
}

impl Run {
    fn new(config: Value, dir: &Path, writer: &'static str) -> Run {
        let (factory, clock) = (factory(config, dir), Clock::fixed(0));
        let mut outbox = factory.outbox(context(&clock)).unwrap().unwrap();
        outbox.fence(&[writer.into()]).unwrap();
        Run { factory, outbox, clock, writer }
    }

    fn chunk(&self, numbers: std::ops::Range<i64>) -> Vec<u8> {
        let mut rows = BatchBuilder::new(schema());
        for n in numbers {
            rows.push_int(n);
            rows.end_row(Meta::default());
        }
        let mut chunk = vec![];
        self.factory.encoder(context(&self.clock)).unwrap().encode(0, &rows.finish(), &mut chunk).unwrap().unwrap();
        chunk
    }

    fn apply(&mut self, chunk: &[u8], marker: u64) -> Result<(), Fault> {
        self.outbox.apply(self.writer, chunk, marker, &mut vec![])
    }

    fn rows(&mut self, numbers: std::ops::Range<i64>, marker: u64) {
        let chunk = self.chunk(numbers);
        self.apply(&chunk, marker).unwrap();
    }
}

fn lines(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|n| format!("{n}\n")).collect()
}

fn text(path: &str) -> Value {
    json!({"path": path, "format": "text", "template": "{{n}}"})
}

#[test]
fn what_is_there_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    fs::write(&file, "old\nha").unwrap();
    let mut run = Run::new(text("a.txt"), dir.path(), "i-s-0");
    run.apply(&[], 1).unwrap();
    run.rows(0..3, 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("old\nha\n{}", lines(0..3)));

    // The job goes on: what it has begun itself is neither removed nor refused.
    for (policy, after) in [("truncate", lines(0..4)), ("fail", lines(0..5))] {
        let mut config = text("b.txt");
        config["on_exists"] = policy.into();
        let number = after.lines().count() as i64 - 1;
        if number == 3 {
            fs::write(dir.path().join("b.txt"), "old\n").unwrap();
            let mut run = Run::new(config.clone(), dir.path(), "i-b-0");
            run.apply(&[], 1).unwrap();
            run.rows(0..3, 2);
        }
        let mut run = Run::new(config, dir.path(), "i-b-0");
        run.factory.check().unwrap();
        run.apply(&[], 10 * number as u64).unwrap();
        run.rows(number..number + 1, 10 * number as u64 + 1);
        assert_eq!(fs::read_to_string(dir.path().join("b.txt")).unwrap(), after);
    }
    // Another instance of the job is another job.
    let mut config = text("b.txt");
    config["on_exists"] = "fail".into();
    let mut run = Run::new(config, dir.path(), "j-b-0");
    assert!(run.apply(&[], 1).unwrap_err().message.ends_with("b.txt` exists already"));
    // A file without rows is there all the same.
    Run::new(text("c.txt"), dir.path(), "i-c-0").apply(&[], 1).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("c.txt")).unwrap(), "");
}

#[test]
fn what_a_crash_left_is_written_over_or_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    let mut run = Run::new(text("a.txt"), dir.path(), "i-s-0");
    run.rows(0..3, 1);
    let chunk = run.chunk(3..1000);
    drop(run);
    // Half of a chunk; its checkpoint is published by the next run, or given up.
    for (known, want) in [(true, lines(0..1000)), (false, lines(0..1000))] {
        let mut torn = fs::read(&file).unwrap();
        torn.extend_from_slice(b"3\n4\n5");
        fs::write(&file, &torn).unwrap();
        let mut run = Run::new(text("a.txt"), dir.path(), "i-s-0");
        if known {
            run.apply(&chunk, 2).unwrap();
            run.apply(&chunk, 2).unwrap();
        }
        run.apply(&[], if known { 10 } else { 20 }).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), want, "{known}");
    }
}

#[test]
fn time_parts_follow_the_time_of_the_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = text("%H/{part}.txt");
    config["roll"] = json!({"every": "10m"});
    let mut run = Run::new(config.clone(), dir.path(), "i-s-0");
    let mut chunks = vec![];
    for (i, minute) in [0, 9, 10, 61].into_iter().enumerate() {
        run.clock.set(minute * 60_000_000);
        chunks.push(run.chunk(i as i64..i as i64 + 1));
    }
    // Applied much later, by two runs.
    run.clock.set(600 * 60_000_000);
    run.apply(&chunks[0], 1).unwrap();
    run.apply(&chunks[1], 2).unwrap();
    let mut run = Run::new(config, dir.path(), "i-s-0");
    run.apply(&chunks[2], 3).unwrap();
    run.apply(&chunks[3], 4).unwrap();
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!([read("00/00000.txt"), read("00/00001.txt"), read("01/00000.txt")], ["0\n1\n", "2\n", "3\n"]);
    assert!(dir.path().join(".millrace").is_dir());
}

#[test]
fn a_file_that_is_not_as_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    let mut run = Run::new(text("a.txt"), dir.path(), "i-s-0");
    run.rows(0..3, 1);
    let chunk = run.chunk(3..4);
    fs::write(&file, "0\n").unwrap();
    let fault = run.apply(&chunk, 2).unwrap_err();
    assert_eq!(fault.detail.as_deref(), Some("it has 2 bytes, of 6 that were written"));
    fs::remove_file(&file).unwrap();
    assert!(run.apply(&chunk, 2).unwrap_err().message.ends_with("a.txt` is not as this job has left it"));
    assert!(!file.exists());
    fs::write(&file, lines(0..3)).unwrap();
    run.apply(&chunk, 2).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), lines(0..4));
}

#[test]
fn two_sinks_must_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Run::new(text("a.txt"), dir.path(), "i-one-0");
    one.rows(0..1, 1);
    let mut two = Run::new(text("a.txt"), dir.path(), "i-two-0");
    let chunk = two.chunk(0..1);
    assert!(two.apply(&chunk, 1).unwrap_err().message.starts_with("two writers write to `"));
    drop(one);
    two.apply(&chunk, 1).unwrap();
    // A device has no places to write to again.
    let clock = Clock::fixed(0);
    assert!(factory(text("/dev/null"), dir.path()).outbox(context(&clock)).unwrap().is_none());
}

#[test]
fn rows_that_came_at_least_once_meanwhile_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"path": "a.jsonl"});
    let read = || fs::read_to_string(dir.path().join("a.jsonl")).unwrap();
    let lines = |numbers: std::ops::Range<i64>| numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>();
    Run::new(config.clone(), dir.path(), "job-a-0").rows(0..2, 1);
    // What a crash left of a chunk is cut off, as before.
    let mut run = Run::new(config.clone(), dir.path(), "job-a-0");
    fs::write(dir.path().join("a.jsonl"), lines(0..2) + "half of a chu").unwrap();
    run.apply(&[], 2).unwrap();
    assert_eq!(read(), lines(0..2));
    drop(run);
    // A run of the same job that publishes at once.
    let (factory, clock) = (factory(config.clone(), dir.path()), Clock::fixed(0));
    let mut sink = factory.open(context(&clock)).unwrap();
    let mut rows = BatchBuilder::new(schema());
    for n in 2..4 {
        rows.push_int(n);
        rows.end_row(Meta::default());
    }
    sink.write(0, &rows.finish(), Ticket(0)).unwrap();
    sink.close(&mut Acks::default()).unwrap();
    assert_eq!(read(), lines(0..4));
    for (marker, numbers) in [(3, 4..6), (5, 6..7)] {
        let mut run = Run::new(config.clone(), dir.path(), "job-a-0");
        assert_eq!(run.outbox.applied("job-a-0").unwrap(), Some(marker - 1), "what was published is known all the same");
        run.apply(&[], marker).unwrap();
        run.rows(numbers.clone(), marker + 1);
        assert_eq!(read(), lines(0..numbers.end));
    }
}
