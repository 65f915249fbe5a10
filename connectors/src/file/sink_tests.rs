use super::*;
use millrace_sdk::operator::Env;
use millrace_sdk::{BatchBuilder, Clock, Edge, Field, Meta, Schema, Type};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn factory(config: serde_json::Value, dir: &Path, clock: &Clock) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
    let spec: FileSink = serde_json::from_value(config).unwrap();
    let env = Env { base_dir: dir.into(), clock: clock.clone(), ..Env::default() };
    let edge = Edge::new(schema());
    spec.bind(&Bind { inputs: &[edge], demands: &[], env: &env, stores: &[] })
}

fn schema() -> SchemaRef {
    Schema::new(vec![Field::new("n", Type::Bigint), Field::new("s", Type::String)])
}

fn batch(numbers: std::ops::Range<i64>) -> Batch {
    let mut rows = BatchBuilder::new(schema());
    for n in numbers {
        rows.push_int(n);
        rows.push_str("a \"b\"");
        rows.end_row(Meta::default());
    }
    rows.finish()
}

fn open(factory: &dyn SinkFactory, worker: usize, clock: &Clock) -> Box<dyn Sink> {
    let cx = SinkContext { worker, workers: 2, clock: clock.clone(), waker: Arc::new(|| {}), env: Arc::default() };
    factory.open(cx).unwrap()
}

/// Writes each range as a batch and closes; all tickets must come back.
fn run(config: serde_json::Value, dir: &Path, batches: &[std::ops::Range<i64>]) {
    let clock = Clock::fixed(1_709_164_800_000_000);
    let factory = factory(config, dir, &clock).unwrap();
    factory.check().unwrap();
    let mut sink = open(&*factory, 0, &clock);
    let mut acks = Acks::default();
    for (i, range) in batches.iter().enumerate() {
        while !sink.ready() {
            std::thread::yield_now();
        }
        sink.write(0, &batch(range.clone()), Ticket(i as u64)).unwrap();
        sink.flush().unwrap();
        sink.poll(&mut acks).unwrap();
    }
    sink.close(&mut acks).unwrap();
    acks.done.sort();
    assert_eq!(acks.done, (0..batches.len() as u64).map(Ticket).collect::<Vec<_>>());
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn json_lines(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n},\"s\":\"a \\\"b\\\"\"}}\n")).collect()
}

#[test]
fn lines_appended_truncated_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out/sub/a.jsonl");
    run(json!({"path": "out/sub/a.jsonl"}), dir.path(), &[0..2, 2..3]);
    assert_eq!(fs::read_to_string(&path).unwrap(), json_lines(0..3));
    run(json!({"path": "out/sub/a.jsonl"}), dir.path(), &[3..4]);
    assert_eq!(fs::read_to_string(&path).unwrap(), json_lines(0..4));
    run(json!({"path": "out/sub/a.jsonl", "on_exists": "truncate"}), dir.path(), &[7..8, 8..9]);
    assert_eq!(fs::read_to_string(&path).unwrap(), json_lines(7..9));
    run(json!({"path": "out/sub/a.jsonl", "on_exists": "truncate"}), dir.path(), &[]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    run(json!({"path": "out/sub/a.jsonl.gz"}), dir.path(), &[]);
    assert_eq!(fs::read(dir.path().join("out/sub/a.jsonl.gz")).unwrap()[..2], [0x1f, 0x8b]);
    let fail = factory(json!({"path": "out/sub/a.jsonl", "on_exists": "fail"}), dir.path(), &Clock::fixed(0)).unwrap();
    assert!(fail.check().unwrap_err().message.ends_with("a.jsonl` exists already"));
    fs::write(&path, "{\"ha").unwrap();
    run(json!({"path": "out/sub/a.jsonl"}), dir.path(), &[0..1]);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{{\"ha\n{}", json_lines(0..1)));
}

#[test]
fn compressed_files_can_be_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.jsonl.gz", "a.jsonl.zst"] {
        run(json!({"path": name}), dir.path(), &[0..40_000, 40_000..50_000]);
        run(json!({"path": name}), dir.path(), &[50_000..50_001]);
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let mut text = String::new();
        match name {
            "a.jsonl.gz" => io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut text).unwrap(),
            _ => {
                text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap();
                0
            }
        };
        assert!(text == json_lines(0..50_001));
    }
}

#[test]
fn csv_has_its_header_in_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"path": "a.csv", "format": "csv", "columns": ["s", "n"], "roll": {"size": 10}});
    run(config.clone(), dir.path(), &[0..2, 2..3]);
    run(config, dir.path(), &[3..4]);
    assert_eq!(listing(dir.path()), ["a-00000.csv", "a-00001.csv", "a-00002.csv"]);
    assert_eq!(fs::read_to_string(dir.path().join("a-00000.csv")).unwrap(), "s,n\n\"a \"\"b\"\"\",0\n\"a \"\"b\"\"\",1\n");
    assert_eq!(fs::read_to_string(dir.path().join("a-00001.csv")).unwrap(), "s,n\n\"a \"\"b\"\"\",2\n");
}

#[test]
fn rolling_by_size_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let sized = json!({"path": "a.jsonl", "roll": {"size": 100}, "on_exists": "truncate"});
    fs::write(dir.path().join("a-00009.jsonl"), "old").unwrap();
    run(sized, dir.path(), &[0..3, 3..6, 6..9, 9..10]);
    assert_eq!(listing(dir.path()), ["a-00000.jsonl", "a-00001.jsonl"]);
    let all: String = listing(dir.path()).iter().map(|n| fs::read_to_string(dir.path().join(n)).unwrap()).collect();
    assert_eq!(all, json_lines(0..10));

    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(0);
    let factory = factory(json!({"path": "%H/{part}.jsonl", "roll": {"every": "10m"}}), dir.path(), &clock).unwrap();
    let mut sink = open(&*factory, 0, &clock);
    let mut acks = Acks::default();
    for (i, minute) in [0, 9, 10, 61].into_iter().enumerate() {
        clock.set(minute * 60_000_000);
        sink.write(0, &batch(0..1), Ticket(i as u64)).unwrap();
        sink.flush().unwrap();
        while acks.done.len() <= i {
            sink.poll(&mut acks).unwrap();
            std::thread::yield_now();
        }
    }
    sink.close(&mut acks).unwrap();
    assert_eq!(listing(&dir.path().join("00")), ["00000.jsonl", "00001.jsonl"]);
    assert_eq!(fs::read_to_string(dir.path().join("00/00000.jsonl")).unwrap(), json_lines(0..1).repeat(2));
    assert_eq!(listing(&dir.path().join("01")), ["00000.jsonl"]);
}

#[test]
fn a_file_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(0);
    let one = factory(json!({"path": "a.jsonl"}), dir.path(), &clock).unwrap();
    let each = factory(json!({"path": "a-{worker}.jsonl"}), dir.path(), &clock).unwrap();
    assert!(one.single_writer() && !each.single_writer());
    for worker in 0..2 {
        let mut sink = open(&*each, worker, &clock);
        sink.write(0, &batch(0..1), Ticket(0)).unwrap();
        sink.close(&mut Acks::default()).unwrap();
    }
    assert_eq!(listing(dir.path()), ["a-0.jsonl", "a-1.jsonl"]);
}

#[test]
fn the_waker_is_called_when_rows_are_safe() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(0);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let waker = Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let factory = factory(json!({"path": "a.jsonl", "sync": "1ms"}), dir.path(), &clock).unwrap();
    let mut sink = factory.open(SinkContext { worker: 0, workers: 1, clock, waker, env: Arc::default() }).unwrap();
    sink.write(0, &batch(0..1), Ticket(5)).unwrap();
    let mut acks = Acks::default();
    sink.poll(&mut acks).unwrap();
    assert_eq!(acks.done, [], "nothing is written before the flush");
    sink.flush().unwrap();
    while acks.done.is_empty() {
        sink.poll(&mut acks).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(acks.done, [Ticket(5)]);
    assert!(calls.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_full_disk_ends_the_job_with_a_sentence() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("a.jsonl")).unwrap();
    let clock = Clock::fixed(0);
    let factory = factory(json!({"path": "a.jsonl", "retry_for": "1ms"}), dir.path(), &clock).unwrap();
    let mut sink = open(&*factory, 0, &clock);
    sink.write(0, &batch(0..1), Ticket(0)).unwrap();
    let fault = sink.close(&mut Acks::default()).unwrap_err();
    assert!(fault.message.ends_with("a.jsonl`: the disk is full"), "{fault}");
    assert!(fault.retry);
}

#[test]
fn what_cannot_be_written_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    for (path, want) in [("d", "` is a folder"), ("f/a.jsonl", "` is no folder")] {
        let e = factory(json!({"path": path}), dir.path(), &Clock::fixed(0)).unwrap().check().unwrap_err();
        assert!(e.message.ends_with(want), "{e}");
    }
    for path in ["/proc/nowhere/a.jsonl", "/proc/a.jsonl"] {
        let e = factory(json!({"path": path}), dir.path(), &Clock::fixed(0)).unwrap().check().unwrap_err();
        assert!(e.message.starts_with("cannot write to `/proc/"), "{e}");
    }
    factory(json!({"path": "new/deep/a.jsonl"}), dir.path(), &Clock::fixed(0)).unwrap().check().unwrap();
    assert!(!dir.path().join("new").exists(), "a check leaves nothing behind");
    let cases: &[(serde_json::Value, &str)] = &[
        (json!({"path": ""}), "missing-path"),
        (json!({"path": "{wroker}"}), "invalid-path"),
        (json!({"path": "a", "roll": {"size": 0}}), "out-of-range"),
        (json!({"path": "a", "format": "text"}), "missing-template"),
        (json!({"path": "a", "columns": ["m"]}), "unknown-field"),
    ];
    for (config, id) in cases {
        let problems = factory(config.clone(), dir.path(), &Clock::fixed(0)).err().unwrap();
        assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), [*id], "{config}");
    }
}
