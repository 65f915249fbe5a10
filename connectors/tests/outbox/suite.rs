//! The suite. A sink joins by one `impl Place` and a test that calls [`conform`]; [`costs`] prints what it takes.
//!
//! The suite plays the engine's part: it encodes rows, applies chunks in order under markers (`slot << 20 | number`), crashes, is
//! stopped and woken, and starts again as a new generation that fences all writers, asks for their markers and applies what is
//! missing. An oracle that knows only the rows then reads the place and counts what is missing, double, unknown or out of order.

use millrace_sdk::operator::Env;
use millrace_sdk::part::Make;
use millrace_sdk::sink::Acks;
use millrace_sdk::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A fresh place that a sink writes to: a topic, a folder, a table. Dropping it takes away what it has made.
pub trait Place {
    /// The part's name and its config. Its rows have the fields `k` (string: `k0` to `k96`) and `n` (bigint, given once). All rows of
    /// one `k` must keep their order, if `ordered`.
    fn sink(&self) -> (&'static str, Value);
    /// What paths of the config are relative to.
    fn base_dir(&self) -> PathBuf {
        PathBuf::new()
    }
    /// All rows that a reader sees who sees only what is committed, in the order in which they are stored.
    fn read(&self) -> Vec<(String, i64)>;
    /// The place holds one row a `k`, the last that was written.
    fn keyed(&self) -> bool {
        false
    }
    /// Rows of one `k` are read in the order in which they were written.
    fn ordered(&self) -> bool {
        true
    }
    /// The names of the points ([`millrace_sdk::point`]) that each `apply` with rows passes once, in order. Processes are killed and
    /// stopped there.
    fn points(&self) -> &'static [&'static str];
}

/// Makes a place; the text is a name that no other place of this run has, made of letters, digits and `-`.
pub type Maker<'a> = &'a dyn Fn(&str) -> Box<dyn Place>;

/// Everything that a sink must pass.
pub fn conform(make: Maker<'_>) {
    let cases: [(&str, fn(Maker<'_>)); 9] = [
        ("in-order", in_order),
        ("crash", crash),
        ("late-repeat", late_repeat),
        ("two-writers", two_writers),
        ("large", large),
        ("killed", killed),
        ("stopped", stopped),
        ("control-marker", control_marker),
        ("control-fence", control_fence),
    ];
    let only = std::env::var("MILLRACE_TEST_CASE").unwrap_or_default();
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(&only)) {
        let begun = Instant::now();
        case(make);
        println!("{name}: {} ms", begun.elapsed().as_millis());
    }
}

fn marker(slot: u64, number: u64) -> u64 {
    slot << 20 | number
}

/// Different keys of the rows.
pub const KEYS: i64 = 97;

const WRITER: &str = "3f0c-out-0";
const OTHER: &str = "3f0c-out-1";

/// One generation's hold on a place.
struct Run {
    /// Those of two workers.
    encoders: [Box<dyn Sink>; 2],
    single_writer: bool,
    outbox: Box<dyn Outbox>,
}

impl Run {
    fn open(place: &dyn Place) -> Run {
        let (part, config) = place.sink();
        Run::of(part, config, place.base_dir(), true)
    }

    fn of(part: &str, config: Value, base_dir: PathBuf, check: bool) -> Run {
        let factory = factory(part, config, base_dir);
        if check {
            factory.check().unwrap();
        }
        let encoders = [0, 1].map(|worker| factory.encoder(context(worker)).unwrap());
        Run { encoders, single_writer: factory.single_writer(), outbox: outbox(&*factory) }
    }

    /// The bytes of these rows, in batches of at most 1,000.
    fn chunk(&mut self, numbers: Range<i64>) -> Vec<u8> {
        self.chunk_of(0, numbers)
    }

    fn chunk_of(&mut self, worker: usize, numbers: Range<i64>) -> Vec<u8> {
        let mut chunk = vec![];
        let numbers: Vec<i64> = numbers.collect();
        // A chunk of no rows is one to which nothing but an empty batch was added.
        for part in if numbers.is_empty() { vec![&[][..]] } else { numbers.chunks(1000).collect() } {
            let batch = rows(part.iter().map(|n| (key(*n), *n)));
            self.encoders[worker].encode(0, &batch, &mut chunk).expect("a sink that encodes").unwrap();
        }
        let mut acks = Acks::default();
        self.encoders[worker].poll(&mut acks).unwrap();
        assert_eq!(acks.rejects, []);
        chunk
    }

    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64) -> Result<(), Fault> {
        let mut rejects = vec![];
        patiently(|| self.outbox.apply(writer, chunk, marker, &mut rejects))?;
        assert_eq!(rejects, []);
        Ok(())
    }

    /// A start: fences all writers, applies what of `pending` their markers do not cover, and sets base markers.
    fn start(&mut self, slot: u64, writers: &[&str], pending: &[(&str, u64, &[u8])]) {
        self.try_start(slot, writers, pending).unwrap();
    }

    fn try_start(&mut self, slot: u64, writers: &[&str], pending: &[(&str, u64, &[u8])]) -> Result<(), Fault> {
        let writers = if self.single_writer { &writers[..1] } else { writers };
        let names: Vec<String> = writers.iter().map(|w| (*w).into()).collect();
        patiently(|| self.outbox.fence(&names))?;
        point::reach("fenced");
        let mut markers: HashMap<&str, Option<u64>> = HashMap::new();
        for w in writers {
            markers.insert(w, patiently(|| self.outbox.applied(w))?);
        }
        for (writer, marker, chunk) in pending {
            if markers[writer].is_none_or(|m| m < *marker) {
                self.apply(writer, chunk, *marker)?;
            }
        }
        for w in writers {
            if markers[w].is_some_and(|m| m >= marker(slot, 0)) {
                return Err(Fault::refused(format!("writer {w} has come further than slot {slot}")));
            }
            self.apply(w, &[], marker(slot, 0))?;
        }
        Ok(())
    }
}

/// A sink with exactly-once for rows of [`rows`].
pub fn factory(part: &str, config: Value, base_dir: PathBuf) -> Arc<dyn SinkFactory> {
    millrace_connectors::link();
    let Some(Part { make: Make::Sink(make), .. }) = Part::find(Kind::Sink, part) else { panic!("no sink `{part}`") };
    let env = Env { base_dir, ..Env::default() };
    let spec = make(config).map_err(|p| format!("{p:?}")).unwrap();
    assert_eq!(spec.guarantee(), Guarantee::ExactlyOnce);
    let inputs = [Edge::new(schema())];
    spec.bind(&Bind { inputs: &inputs, demands: &[], env: &env, stores: &[] }).map_err(|p| format!("{p:?}")).unwrap()
}

pub fn context(worker: usize) -> SinkContext {
    SinkContext { worker, workers: 2, clock: Clock::System, waker: Arc::new(|| {}), env: Arc::default() }
}

pub fn outbox(factory: &dyn SinkFactory) -> Box<dyn Outbox> {
    factory.outbox(context(0)).unwrap().expect("an outbox")
}

/// A row's offset is its number.
pub fn rows(of: impl IntoIterator<Item = (String, i64)>) -> Batch {
    let mut rows = BatchBuilder::new(schema());
    for (k, n) in of {
        rows.push_str(&k);
        rows.push_int(n);
        rows.end_row(Meta { offset: n as u64, time: n * 1000, ..Meta::default() });
    }
    rows.finish()
}

/// As the engine does: a call that failed and may be tried again is.
pub fn patiently<T>(mut call: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match call() {
            Err(fault) if fault.retry && Instant::now() < until => {
                println!("again: {fault}");
                std::thread::sleep(Duration::from_millis(100));
            }
            outcome => return outcome,
        }
    }
}

fn schema() -> SchemaRef {
    Schema::new(vec![Field::new("k", Type::String), Field::new("n", Type::Bigint)])
}

fn key(n: i64) -> String {
    format!("k{}", n % KEYS)
}

/// What is wrong with what a reader sees.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    missing: usize,
    double: usize,
    unknown: usize,
    disorder: usize,
}

/// Judges the place against the rows that were to be written, in their order.
fn judge(place: &dyn Place, ranges: &[Range<i64>]) -> Verdict {
    let rows: Vec<(String, i64)> = place.read();
    let mut v = Verdict::default();
    let mut expected: HashMap<i64, usize> = HashMap::new();
    if place.keyed() {
        let last: HashMap<String, i64> = ranges.iter().cloned().flatten().map(|n| (key(n), n)).collect();
        expected.extend(last.into_values().map(|n| (n, 0)));
    } else {
        expected.extend(ranges.iter().cloned().flatten().map(|n| (n, 0)));
    }
    let mut latest: HashMap<&str, i64> = HashMap::new();
    for (k, n) in &rows {
        match expected.get_mut(n) {
            Some(seen) if *k == key(*n) => {
                v.double += usize::from(*seen > 0);
                *seen += 1;
            }
            _ => v.unknown += 1,
        }
        if place.ordered() && latest.insert(k, *n).is_some_and(|before| before >= *n) {
            v.disorder += 1;
        }
    }
    v.missing = expected.values().filter(|seen| **seen == 0).count();
    v
}

fn assert_exact(place: &dyn Place, ranges: &[Range<i64>], what: &str) {
    assert_eq!(judge(place, ranges), Verdict::default(), "{what}");
}

fn in_order(make: Maker<'_>) {
    let place = make("in-order");
    let mut run = Run::open(&*place);
    patiently(|| run.outbox.fence(&[WRITER.into()])).unwrap();
    assert_eq!(run.outbox.applied(WRITER).unwrap(), None, "nobody has written here");
    run.apply(WRITER, &[], marker(1, 0)).unwrap();
    assert_eq!(run.outbox.applied(WRITER).unwrap(), Some(marker(1, 0)));
    assert_exact(&*place, &[], "a base marker has no rows");
    for (number, rows) in [0..10, 10..13, 13..13, 13..2000].into_iter().enumerate() {
        let chunk = run.chunk(rows.clone());
        assert!(!chunk.is_empty(), "an empty chunk is a base marker's");
        let m = marker(2, number as u64);
        run.apply(WRITER, &chunk, m).unwrap();
        assert_eq!(run.outbox.applied(WRITER).unwrap(), Some(m));
        assert_exact(&*place, &[0..rows.end], "chunks come one by one");
        // What is there already stays as it is.
        run.apply(WRITER, &chunk, m).unwrap();
        assert_eq!(run.outbox.applied(WRITER).unwrap(), Some(m));
        assert_exact(&*place, &[0..rows.end], "a repeated chunk");
    }
}

/// A process that ends between two calls, several times over.
fn crash(make: Maker<'_>) {
    let place = make("crash");
    let mut run = Run::open(&*place);
    run.start(1, &[WRITER], &[]);
    let chunks: Vec<Vec<u8>> = (0..6).map(|i| run.chunk(i * 50..i * 50 + 50)).collect();
    let pending = |range: Range<usize>| -> Vec<(&str, u64, &[u8])> {
        range.map(|i| (WRITER, marker(2 + i as u64 / 2, i as u64 % 2), &chunks[i][..])).collect()
    };
    for (_, m, chunk) in pending(0..2) {
        run.apply(WRITER, chunk, m).unwrap();
    }
    drop(run);
    for (slot, known) in [(20, 0..4), (21, 0..4)] {
        let mut run = Run::open(&*place);
        run.start(slot, &[WRITER], &pending(known));
        assert_exact(&*place, &[0..200], "all that was pending, once");
        assert_eq!(run.outbox.applied(WRITER).unwrap(), Some(marker(slot, 0)));
    }
    // One that only fenced and asked.
    let mut run = Run::open(&*place);
    patiently(|| run.outbox.fence(&[WRITER.into()])).unwrap();
    assert_eq!(run.outbox.applied(WRITER).unwrap(), Some(marker(21, 0)));
    drop(run);
    let mut run = Run::open(&*place);
    run.start(22, &[WRITER], &[]);
    let chunk = run.chunk(200..210);
    run.apply(WRITER, &chunk, marker(23, 0)).unwrap();
    assert_exact(&*place, &[0..210], "after four crashes");
}

/// An older process that goes on as if nothing had happened.
fn late_repeat(make: Maker<'_>) {
    let place = make("late-repeat");
    let mut old = Run::open(&*place);
    old.start(1, &[WRITER], &[]);
    let chunks: Vec<Vec<u8>> = (0..3).map(|i| old.chunk(i * 20..i * 20 + 20)).collect();
    let m = |i: u64| marker(2, i);
    old.apply(WRITER, &chunks[0], m(0)).unwrap();
    let mut new = Run::open(&*place);
    new.start(3, &[WRITER], &[(WRITER, m(0), &chunks[0]), (WRITER, m(1), &chunks[1])]);
    // What the old one repeats, and what nobody knows of.
    let unknown = old.chunk(40..60);
    for (chunk, m) in [(&chunks[0], m(0)), (&chunks[1], m(1)), (&unknown, m(2))] {
        match old.apply(WRITER, chunk, m) {
            Err(fault) => assert!(!fault.retry, "a fenced process ends: {fault}"),
            Ok(()) => println!("harmless: {m:x}"),
        }
    }
    assert_exact(&*place, &[0..40], "behind a zombie");
    let chunk = new.chunk(100..120);
    new.apply(WRITER, &chunk, marker(4, 0)).unwrap();
    let _ = old.apply(WRITER, &unknown, m(2));
    drop(old);
    let chunk = new.chunk(120..130);
    new.apply(WRITER, &chunk, marker(5, 0)).unwrap();
    assert_eq!(new.outbox.applied(WRITER).unwrap(), Some(marker(5, 0)));
    assert_exact(&*place, &[0..40, 100..130], "the new one goes on undisturbed");
}

fn two_writers(make: Maker<'_>) {
    let place = make("two-writers");
    let mut run = Run::open(&*place);
    if run.single_writer {
        return;
    }
    run.start(1, &[WRITER, OTHER], &[]);
    // Each has keys of its own, as after an exchange by key; the second one's rows are multiples of 97 and of key k0.
    let mut ranges = vec![];
    for i in 0..4 {
        let mine = i * 97 + 1..i * 97 + 50;
        let theirs = i * 97..i * 97 + 1;
        for (worker, (writer, rows)) in [(WRITER, mine), (OTHER, theirs)].into_iter().enumerate() {
            let chunk = run.chunk_of(worker, rows.clone());
            run.apply(writer, &chunk, marker(2 + i as u64, 0)).unwrap();
            ranges.push(rows);
        }
    }
    assert_exact(&*place, &ranges, "two writers");
    // Another takes over one of them: the other goes on.
    let mut half = Run::open(&*place);
    half.start(10, &[OTHER], &[]);
    let rows = 500 * 97 + 1..500 * 97 + 30;
    let chunk = run.chunk(rows.clone());
    run.apply(WRITER, &chunk, marker(7, 0)).unwrap();
    ranges.push(rows);
    assert_exact(&*place, &ranges, "a writer whose neighbour is fenced");
    assert_eq!(half.outbox.applied(OTHER).unwrap(), Some(marker(10, 0)));
}

fn large(make: Maker<'_>) {
    let place = make("large");
    let mut run = Run::open(&*place);
    run.start(1, &[WRITER], &[]);
    let chunk = run.chunk(0..50_000);
    run.apply(WRITER, &chunk, marker(2, 0)).unwrap();
    assert_exact(&*place, &[0..50_000], "50,000 rows at once");
}

/// What a process does that is to be killed or stopped: four chunks of ten rows behind a base marker, of which the last is known to
/// nobody else.
fn child_chunks(run: &mut Run) -> Vec<Vec<u8>> {
    (0..4).map(|i| run.chunk(i * 10..i * 10 + 10)).collect()
}

fn spawn(place: &dyn Place, chunks: &Path, at: &str) -> Child {
    let (part, config) = place.sink();
    let what = json!({"part": part, "config": config, "base_dir": place.base_dir(), "chunks": chunks});
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "suite::child", "--ignored", "--nocapture"])
        .env("MILLRACE_OUTBOX_CHILD", what.to_string())
        .env("MILLRACE_POINT", at)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Ok(what) = std::env::var("MILLRACE_OUTBOX_CHILD") else { return };
    let what: Value = serde_json::from_str(&what).unwrap();
    let mut run = Run::of(what["part"].as_str().unwrap(), what["config"].clone(), what["base_dir"].as_str().unwrap().into(), false);
    if let Err(fault) = run.try_start(1, &[WRITER, OTHER], &[]) {
        assert!(!fault.retry, "{fault}");
        return eprintln!("  the process woken at its start: {fault}");
    }
    for i in 0..4 {
        let chunk = std::fs::read(format!("{}/{i}", what["chunks"].as_str().unwrap())).unwrap();
        if let Err(fault) = run.apply(WRITER, &chunk, marker(2, i)) {
            assert!(!fault.retry, "{fault}");
            eprintln!("  the woken process: {fault}");
        }
    }
}

fn write_chunks(chunks: &[Vec<u8>]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, chunk) in chunks.iter().enumerate() {
        std::fs::write(dir.path().join(i.to_string()), chunk).unwrap();
    }
    dir
}

/// Where processes are killed and stopped: at every point, while the second and the third chunk are applied, and at the start.
fn courses(place: &dyn Place) -> Vec<String> {
    let bases = writers(place);
    let at = |(point, count): (&&str, u64)| format!("{point}:{}", count + if point.starts_with("rows-") { 0 } else { bases });
    let chunks = place.points().iter().flat_map(|p| [(p, 2), (p, 3)]).map(at);
    ["fence-half:1", "fenced:1"].map(String::from).into_iter().chain(chunks).collect()
}

/// How many writers a start takes. Their base markers pass the points of a transaction too; points that only rows have begin with `rows-`.
fn writers(place: &dyn Place) -> u64 {
    if Run::open(place).single_writer { 1 } else { 2 }
}

/// SIGKILL, and a new generation.
fn killed(make: Maker<'_>) {
    for (number, at) in courses(&*make("killed-courses")).into_iter().enumerate() {
        let place = make(&format!("killed-{number}"));
        let chunks = child_chunks(&mut Run::open(&*place));
        let files = write_chunks(&chunks);
        let mut child = spawn(&*place, files.path(), &format!("{at}:kill"));
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "the process was to be killed at {at}");
        let mut run = Run::open(&*place);
        run.start(3, &[WRITER, OTHER], &pending(&chunks[..3]));
        let chunk = run.chunk(40..50);
        run.apply(WRITER, &chunk, marker(4, 0)).unwrap();
        assert_exact(&*place, &[0..30, 40..50], &format!("killed at {at}"));
    }
}

fn pending(chunks: &[Vec<u8>]) -> Vec<(&'static str, u64, &[u8])> {
    chunks.iter().enumerate().map(|(i, chunk)| (WRITER, marker(2, i as u64), &chunk[..])).collect()
}

/// SIGSTOP, a new generation, SIGCONT: the woken process goes on where it was.
fn stopped(make: Maker<'_>) {
    for (number, at) in courses(&*make("stopped-courses")).into_iter().enumerate() {
        let place = make(&format!("stopped-{number}"));
        let chunks = child_chunks(&mut Run::open(&*place));
        let files = write_chunks(&chunks);
        let mut child = spawn(&*place, files.path(), &format!("{at}:stop"));
        wait_stopped(&child);
        let mut run = Run::open(&*place);
        run.start(3, &[WRITER, OTHER], &pending(&chunks[..3]));
        let chunk = run.chunk(40..50);
        run.apply(WRITER, &chunk, marker(4, 0)).unwrap();
        assert_exact(&*place, &[0..30, 40..50], &format!("while one is stopped at {at}"));
        wake(&mut child);
        let mut ranges = vec![0..30, 40..60];
        let chunk = run.chunk(50..60);
        match run.apply(WRITER, &chunk, marker(5, 0)) {
            Ok(()) => assert_exact(&*place, &ranges, &format!("stopped at {at} and woken")),
            // One that is woken while it takes its writers over takes them from the new one, which ends; the engine looks in its log
            // before, so that this is rare.
            Err(fault) => assert!(at.starts_with("fence-half") && !fault.retry, "{at}: {fault}"),
        }
        let mut run = Run::open(&*place);
        run.start(6, &[WRITER, OTHER], &[(WRITER, marker(5, 0), &chunk)]);
        assert_exact(&*place, &ranges, &format!("started again after one was stopped at {at}"));
        let chunk = run.chunk(60..70);
        run.apply(WRITER, &chunk, marker(7, 0)).unwrap();
        ranges.push(60..70);
        assert_exact(&*place, &ranges, &format!("going on after one was stopped at {at}"));
    }
}

fn wake(child: &mut Child) {
    Command::new("kill").args(["-CONT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success(), "the woken process ends by itself");
}

fn wait_stopped(child: &Child) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        match state {
            Some('T') => return,
            Some('Z') | None => panic!("the process that was to be stopped has ended"),
            _ => assert!(Instant::now() < until, "the process was to be stopped"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Negative control: a start that does not know what was applied. The oracle must see it.
fn control_marker(make: Maker<'_>) {
    let place = make("control-marker");
    let mut run = Run::open(&*place);
    run.start(1, &[WRITER], &[]);
    let chunks = [run.chunk(0..200), run.chunk(200..400)];
    for (i, chunk) in chunks.iter().enumerate() {
        run.apply(WRITER, chunk, marker(2, i as u64)).unwrap();
    }
    // A marker is its writer's: under another name the same chunk is applied again. Where a repeated chunk changes nothing at all,
    // what is lost with the marker is that it is the same chunk.
    let again = if place.keyed() { run.chunk(0..200) } else { chunks[0].clone() };
    drop(run);
    let mut blind = Run::open(&*place);
    blind.start(3, &["3f0c-out-0-blind"], &[("3f0c-out-0-blind", marker(2, 0), &again)]);
    let verdict = judge(&*place, &[0..400]);
    println!("marker ignored: {verdict:?}");
    assert_ne!(verdict, Verdict::default(), "the oracle is blind");
}

/// Negative control: a new generation that does not fence the old one's writer. The oracle must see it.
fn control_fence(make: Maker<'_>) {
    let place = make("control-fence");
    let chunks = child_chunks(&mut Run::open(&*place));
    let files = write_chunks(&chunks);
    let mut child = spawn(&*place, files.path(), &format!("txn-begun:{}:stop", 2 + writers(&*place)));
    wait_stopped(&child);
    let mut new = Run::open(&*place);
    new.start(3, &["3f0c-out-0-new"], &[]);
    let chunk = new.chunk(400..420);
    new.apply("3f0c-out-0-new", &chunk, marker(4, 0)).unwrap();
    wake(&mut child);
    let verdict = judge(&*place, &[0..10, 400..420]);
    println!("without a fence: {verdict:?}");
    assert_ne!(verdict, Verdict::default(), "the oracle is blind");
}

/// Tests that only measure run with `MILLRACE_TEST_COSTS=1`.
pub fn measured() -> bool {
    std::env::var_os("MILLRACE_TEST_COSTS").is_some()
}

/// Prints what calls take, in milliseconds: median and worst.
pub fn costs(make: Maker<'_>) {
    let line = |what: &str, mut ms: Vec<f64>| {
        ms.sort_by(f64::total_cmp);
        println!("{what}: p50 {:.1} ms, max {:.1} ms ({} times)", ms[ms.len() / 2], ms[ms.len() - 1], ms.len());
    };
    let timed = |call: &mut dyn FnMut()| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_secs_f64() * 1e3
    };
    let place = make("costs");
    for writers in [1, 4, 16, 64] {
        let names: Vec<String> = (0..writers).map(|i| format!("cost-out-{i}")).collect();
        let mut run = Run::open(&*place);
        line(&format!("fence {writers}"), vec![timed(&mut || patiently(|| run.outbox.fence(&names)).unwrap())]);
        line(
            &format!("markers of {writers}"),
            vec![timed(&mut || names.iter().for_each(|n| assert!(run.outbox.applied(n).unwrap() < Some(writers << 20))))],
        );
        line("base marker", names.iter().map(|n| timed(&mut || run.apply(n, &[], (writers as u64) << 20).unwrap())).collect());
        line("drop", vec![timed(&mut || drop(std::mem::replace(&mut run, Run::open(&*place))))]);
    }
    let mut run = Run::open(&*place);
    run.start(100, &[WRITER], &[]);
    for (slot, (rows, times)) in [(200, 50), (1000, 50), (10_000, 10), (50_000, 5)].into_iter().enumerate() {
        let chunks: Vec<Vec<u8>> = (0..times).map(|i| run.chunk(i * rows..(i + 1) * rows)).collect();
        let mut number = 0;
        let taken = chunks.iter().map(|c| {
            timed(&mut || {
                number += 1;
                run.apply(WRITER, c, marker(101 + slot as u64, number)).unwrap();
            })
        });
        line(&format!("apply {rows} rows, {} bytes", chunks[0].len()), taken.collect());
    }
}
