//! The log on a real S3 server, started by `tests/servers/s3.sh`.

#[path = "../../tests/servers/ports.rs"]
mod ports;

use millrace_durable::*;
use millrace_sdk::config::Secret;
use millrace_sdk::{Fault, FaultKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};

/// A server of its own, killed at the end.
struct Server {
    data: tempfile::TempDir,
    port: u16,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/servers").join(name)
}

impl Server {
    fn start() -> Server {
        let port = ports::free_ports(1);
        let server = Server { data: tempfile::tempdir().unwrap(), port };
        server.run();
        server
    }

    fn run(&self) {
        let out = Command::new(script("s3.sh")).arg(self.data.path()).arg(self.port.to_string()).output().unwrap();
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }

    fn kill(&self) {
        Command::new(script("stop.sh")).arg(self.data.path()).arg("KILL").output().unwrap();
    }

    fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: None,
            access_key: Some("millrace".into()),
            secret_key: Some(Secret("wonderland".into())),
            path_style: true,
        }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        open("s3://jobs/some/prefix", &self.options()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn generation(run: u64) -> Generation {
    Generation { run, from: 0, config: 7, workers: 2, time: 1 }
}

fn manifest(slot: u64, generation: u64, took: u64) -> Manifest {
    Manifest {
        version: Manifest::VERSION,
        release: "0.1.0".into(),
        slot,
        generation,
        kind: Kind::Periodic,
        time: 1,
        job: "job".into(),
        config: 7,
        workers: 2,
        took,
        guarded: false,
        sources: Vec::new(),
        operators: Vec::new(),
        sinks: Vec::new(),
    }
}

fn record(m: &Manifest) -> Record {
    Record::Manifest(Box::new(m.clone()))
}

fn named(file: &FileRef, mut m: Manifest) -> Manifest {
    let files = [("sst".to_string(), file.clone())].into();
    let piece = Piece { groups: (0, 1024), keys: 1, format: "rocksdb".into(), files, extra: Vec::new() };
    m.operators.push(OperatorState {
        name: "join".into(),
        part: "IntervalLeftJoin".into(),
        meaning: String::new(),
        states: Vec::new(),
        pieces: vec![piece],
    });
    m
}

#[track_caller]
fn fails<T>(r: Result<T, Fault>) -> Fault {
    match r {
        Ok(_) => panic!("must fail"),
        Err(f) => f,
    }
}

#[test]
#[ignore = "needs a server: make e2e"]
fn a_job_lives_in_a_bucket() {
    let server = Server::start();
    for job in ["job", "a b/ü%.."] {
        let log = JobLog::open(server.storage(), job, false).unwrap();
        assert_eq!(log.place(), "s3://jobs/some/prefix");
        let first = log.begin(&generation(1), &StartFrom::Latest).unwrap();
        assert_eq!((first.generation, first.from), (1, None));
        let file = log.put("g1-a", b"state").unwrap();
        assert_eq!(file, log.put("g1-a", b"state").unwrap(), "mine already");
        assert!(fails(log.put("g1-a", b"other")).message.contains("g1-a is there already"));
        let empty = log.put("g1-empty", b"").unwrap();
        let (two, three) = (named(&file, manifest(2, 1, 0)), named(&empty, manifest(3, 1, 0)));
        assert!(log.take(2, &record(&two)).unwrap() && log.take(2, &record(&two)).unwrap());
        assert!(!log.take(2, &record(&manifest(2, 1, 9))).unwrap());
        assert!(log.take(3, &record(&three)).unwrap());

        let again = JobLog::find(server.storage(), job).unwrap().expect("there");
        assert_eq!(again.instance(), log.instance());
        let second = again.begin(&generation(2), &StartFrom::Latest).unwrap();
        assert_eq!((second.generation, second.newest, second.from), (4, 3, Some(three)));
        assert!(log.superseded(1).unwrap() && !log.take(4, &record(&manifest(4, 1, 0))).unwrap());
        assert_eq!(again.get(&file).unwrap(), b"state");
        let to = server.data.path().join("fetched");
        again.get_file(&empty, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"");
        assert_eq!(again.prune(1, 4).unwrap(), (1, 1));
        assert_eq!(again.slots().unwrap(), [1, 3, 4]);
        let f = fails(again.get(&file));
        assert!(f.kind == FaultKind::Data && f.message.contains("files/g1-a is missing"), "{f}");
        fails(again.get_file(&file, &to));
        fails(again.check(&file));
        assert_ne!(JobLog::open(server.storage(), job, true).unwrap().instance(), log.instance());
    }
    assert_eq!(server.storage().folders("").unwrap().len(), 2);
    assert!(JobLog::find(server.storage(), "nobody").unwrap().is_none());
}

#[test]
#[ignore = "needs a server: make e2e"]
fn one_of_many_takers_wins() {
    let server = Server::start();
    let logs: Vec<JobLog> = (0..6).map(|_| JobLog::open(server.storage(), "job", false).unwrap()).collect();
    logs[0].begin(&generation(1), &StartFrom::Latest).unwrap();
    for slot in 2..42 {
        let start = Barrier::new(logs.len());
        let take = |i: usize, log: &JobLog| {
            start.wait();
            log.take(slot, &record(&manifest(slot, 1, i as u64))).unwrap().then_some(i as u64)
        };
        let won: Vec<u64> = std::thread::scope(|s| {
            let take = &take;
            let takers: Vec<_> = logs.iter().enumerate().map(|(i, log)| s.spawn(move || take(i, log))).collect();
            takers.into_iter().filter_map(|t| t.join().unwrap()).collect()
        });
        let Record::Manifest(m) = logs[0].read(slot).unwrap() else { panic!("a manifest") };
        assert_eq!(won, [m.took], "slot {slot}");
    }
}

#[test]
#[ignore = "needs a server: make e2e"]
fn large_files_go_in_parts() {
    let server = Server::start();
    let log = JobLog::open(server.storage(), "job", false).unwrap();
    let bytes: Vec<u8> = (0..41_234_567u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (i, len) in [0, 1, 16 << 20, (16 << 20) + 1, 24 << 20, bytes.len()].into_iter().enumerate() {
        let (mine, back) = (server.data.path().join("mine"), server.data.path().join("back"));
        std::fs::write(&mine, &bytes[..len]).unwrap();
        let file = log.put_file(&format!("g1-{i}"), &mine).unwrap();
        assert_eq!(file.len, len as u64);
        assert_eq!(file, log.put_file(&format!("g1-{i}"), &mine).unwrap(), "mine already");
        log.get_file(&file, &back).unwrap();
        log.check(&file).unwrap();
        assert!(std::fs::read(&back).unwrap() == bytes[..len] && log.get(&file).unwrap() == bytes[..len], "{len} bytes");
        if len > 0 {
            std::fs::write(&mine, [&[!bytes[0]], &bytes[1..len]].concat()).unwrap();
            assert!(fails(log.put_file(&format!("g1-{i}"), &mine)).message.contains("is there already"), "{len} bytes");
            assert!(log.get(&file).unwrap() == bytes[..len], "{len} bytes");
        }
    }
    // a folder of more names than one answer holds
    let names: Vec<String> = (0..1_100).map(|i| format!("many/{i:05}")).collect();
    let storage = server.storage();
    std::thread::scope(|s| {
        names.chunks(150).for_each(|some| drop(s.spawn(|| some.iter().for_each(|n| assert!(storage.create(n, b"x").unwrap())))));
    });
    let listed: Vec<String> = storage.list("many").unwrap().into_iter().map(|e| format!("many/{}", e.name)).collect();
    assert!(listed == names);
    storage.delete_all(&names).unwrap();
    assert_eq!(storage.list("many").unwrap(), []);
    storage.delete("many/00000").unwrap();
}

#[test]
#[ignore = "needs a server: make e2e"]
fn what_is_wrong_is_said_and_no_secret_with_it() {
    let server = Server::start();
    let of = |options: &S3Options, place: &str| {
        let storage = open(place, options).unwrap();
        let f = fails(JobLog::open(storage.clone(), "job", false));
        let file = Path::new("/nowhere/fetched");
        let more = [storage.read("x").err(), storage.create("x", b"").err(), storage.delete("x").err(), storage.fetch("x", file).err()];
        for (i, f) in std::iter::once(Some(&f)).chain(more.iter().map(Option::as_ref)).enumerate() {
            let f = f.unwrap_or_else(|| panic!("{place}: request {i} must fail"));
            let text = format!("{f} {f:?}");
            assert!(!text.contains("sesame-secret") && !text.contains("wonderland") && text.contains(place), "{text}");
        }
        f
    };
    let right = server.options();
    let f = of(&S3Options { secret_key: Some(Secret("sesame-secret".into())), ..right.clone() }, "s3://jobs/p");
    assert!(f.kind == FaultKind::Dependency && !f.retry && f.hint.as_ref().unwrap().contains("secret key"), "{f}");
    let f = of(&S3Options { access_key: Some("stranger".into()), ..right.clone() }, "s3://jobs/p");
    assert!(!f.retry && f.hint.as_ref().unwrap().contains("access key"), "{f}");
    let f = of(&right, "s3://no-such-bucket/p");
    assert!(!f.retry && f.hint.as_ref().unwrap().contains("make the bucket"), "{f}");
    assert!(!format!("{right:?}").contains("wonderland"));

    let log = JobLog::open(server.storage(), "job", false).unwrap();
    let file = log.put("g1-a", b"acknowledged").unwrap();
    server.kill();
    let f = fails(log.put("g1-b", b"b"));
    assert!(f.kind == FaultKind::Dependency && f.retry && f.message.contains("g1-b` cannot be written"), "{f}");
    server.run();
    log.put("g1-b", b"b").unwrap();
    assert_eq!(log.get(&file).unwrap(), b"acknowledged");
}

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_asked() {
    let options = S3Options { endpoint: Some("http://127.0.0.1:9".into()), access_key: Some("a".into()), ..S3Options::default() };
    for (place, says) in
        [("s3://", "names no bucket"), ("gs://x/y", "`gs://` is no place"), ("s3://bucket//x", "is no prefix"), ("s3://b/p", "secret key")]
    {
        let f = fails(open(place, &options));
        assert!(f.kind == FaultKind::Config && f.message.contains(says), "{place}: {f}");
    }
}
