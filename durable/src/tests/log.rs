//! Slots: taken once, numbers grow, starts meet.

use super::*;
use std::sync::Barrier;
use std::thread;

#[test]
fn a_job_goes_on_where_it_was() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    assert_eq!(log.instance().len(), 32);
    let first = begin(&log, 1, StartFrom::Latest);
    assert_eq!((first.generation, first.newest, first.from), (1, 0, None));
    let file = log.put("g1-a", b"state").unwrap();
    let m = with_files(manifest(2, 1), &[&file]);
    assert!(take(&log, m.clone()));
    assert!(!log.superseded(1).unwrap());

    let again = job(tmp.path());
    assert_eq!(again.instance(), log.instance());
    let second = begin(&again, 2, StartFrom::Latest);
    assert_eq!((second.generation, second.newest, second.from), (3, 2, Some(m)));
    assert_eq!(again.get(&file).unwrap(), b"state");
    assert!(log.superseded(1).unwrap() && !log.superseded(3).unwrap());
    assert!(!take(&log, manifest(3, 1)), "the old generation is over");
    let Record::Generation(g) = log.read(3).unwrap() else { panic!("a generation") };
    assert_eq!((g.run, g.from), (2, 2));
}

#[test]
fn a_refused_slot_that_holds_my_bytes_is_mine() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    assert!(take(&log, manifest(2, 1)));
    assert!(take(&log, manifest(2, 1)), "the answer may have been lost");
    assert!(!take(&log, Manifest { time: 1, ..manifest(2, 1) }));
    assert!(log.put("g1-a", b"one").unwrap() == log.put("g1-a", b"one").unwrap());
    assert!(fails(log.put("g1-a", b"two")).message.contains("g1-a is there already"));
    assert_eq!(log.get(&log.put("g1-a", b"one").unwrap()).unwrap(), b"one");
}

#[test]
fn one_of_many_takers_wins() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    for slot in 2..22 {
        let (start, log) = (Barrier::new(8), &log);
        let won: Vec<bool> = thread::scope(|s| {
            let takers: Vec<_> = (0..8)
                .map(|i| {
                    let start = &start;
                    s.spawn(move || {
                        start.wait();
                        take(log, Manifest { took: i, ..manifest(slot, 1) })
                    })
                })
                .collect();
            takers.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "slot {slot}: {won:?}");
        let Record::Manifest(m) = log.read(slot).unwrap() else { panic!("a manifest") };
        assert!(won[m.took as usize], "slot {slot} holds the winner's bytes");
    }
    assert!(
        std::fs::read_dir(tmp.path().join("job").join(log.instance()).join("slots")).unwrap().all(|e| !e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.'))
    );
}

/// Another process takes a slot between this one's look and its grasp.
struct Racing {
    to: Arc<dyn Storage>,
    first: std::sync::Mutex<Vec<Record>>,
}

impl Storage for Racing {
    fn place(&self) -> String {
        self.to.place()
    }
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Fault> {
        if let Some(record) = self.first.lock().unwrap().pop().filter(|_| name.contains("/slots/")) {
            assert!(self.to.create(name, &record.encode())?);
        }
        self.to.create(name, bytes)
    }
    fn create_from(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        self.to.create_from(name, file)
    }
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.to.read(name)
    }
    fn fetch(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        self.to.fetch(name, file)
    }
    fn list(&self, folder: &str) -> Result<Vec<Entry>, Fault> {
        self.to.list(folder)
    }
    fn folders(&self, folder: &str) -> Result<Vec<String>, Fault> {
        self.to.folders(folder)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.to.replace(name, bytes)
    }
    fn delete(&self, name: &str) -> Result<(), Fault> {
        self.to.delete(name)
    }
}

#[test]
fn a_start_tries_again_after_a_manifest_and_ends_after_a_start() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    take(&log, manifest(2, 1));
    let racing = |first: Vec<Record>| {
        let storage = Racing { to: local(tmp.path()), first: std::sync::Mutex::new(first) };
        JobLog::open(Arc::new(storage), "job", false).unwrap()
    };
    let manifests = [3, 4, 5].map(|slot| Record::Manifest(Box::new(manifest(slot, 1))));
    let begun = begin(&racing(manifests.into_iter().rev().collect()), 2, StartFrom::Latest);
    assert_eq!((begun.generation, begun.newest, begun.from), (6, 5, Some(manifest(5, 1))));

    let other = racing(vec![Record::Generation(generation(3))]);
    let f = fails(other.begin(&generation(4), &StartFrom::Latest));
    assert!(f.message.contains("job `job` is started twice at once") && !f.retry, "{f}");
    assert_eq!(log.slots().unwrap(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn of_many_starts_each_that_begins_has_its_own_slot() {
    for _ in 0..10 {
        let tmp = tempfile::tempdir().unwrap();
        let start = Barrier::new(6);
        let mut begun: Vec<u64> = thread::scope(|s| {
            let starts: Vec<_> = (0..6)
                .map(|i| {
                    let (start, root) = (&start, tmp.path());
                    s.spawn(move || {
                        start.wait();
                        let log = job(root);
                        log.begin(&generation(i), &StartFrom::Latest).ok().map(|b| (log.instance().to_string(), b.generation))
                    })
                })
                .collect();
            let all: Vec<_> = starts.into_iter().filter_map(|t| t.join().unwrap()).collect();
            assert!(all.iter().all(|(instance, _)| *instance == all[0].0), "one instance: {all:?}");
            all.into_iter().map(|(_, g)| g).collect()
        });
        begun.sort_unstable();
        assert!(!begun.is_empty());
        assert!(begun.windows(2).all(|w| w[0] < w[1]), "{begun:?}");
        let log = job(tmp.path());
        assert_eq!(begun.last(), log.slots().unwrap().last(), "only the newest goes on");
    }
}

#[test]
fn a_start_from_an_older_manifest_fences_all_later_writers_and_numbers_grow() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    take(&log, with_writer(manifest(2, 1), "out", "w0", 0, Vec::new()));
    take(&log, with_writer(with_writer(manifest(3, 1), "out", "w0", 0, Vec::new()), "out", "w1", 0, Vec::new()));
    take(&log, with_writer(with_writer(manifest(4, 1), "out", "w2", 0, Vec::new()), "other", "w0", 0, Vec::new()));
    let fenced = |from| {
        let b = begin(&log, 9, from);
        (
            b.generation,
            b.newest,
            b.from.map_or(0, |m| m.slot),
            b.fence.into_iter().map(|(s, w)| format!("{s}:{}", w.join("+"))).collect::<Vec<_>>().join(" "),
        )
    };
    assert_eq!(fenced(StartFrom::Latest), (5, 4, 4, "other:w0 out:w2".into()));
    assert_eq!(fenced(StartFrom::Slot(3)), (6, 5, 3, "other:w0 out:w0+w1+w2".into()));
    // it wrote nothing: a restart goes on from the same one
    assert_eq!(fenced(StartFrom::Latest), (7, 6, 3, "other:w0 out:w0+w1+w2".into()));
    assert_eq!(fenced(StartFrom::Slot(2)), (8, 7, 2, "other:w0 out:w0+w1+w2".into()));
    take(&log, with_writer(manifest(9, 8), "out", "w7", 0, Vec::new()));
    assert_eq!(fenced(StartFrom::Latest), (10, 9, 9, "out:w7".into()));
    assert_eq!(fenced(StartFrom::Scratch), (11, 10, 0, "other:w0 out:w0+w1+w2+w7".into()));

    let f = fails(log.begin(&generation(1), &StartFrom::Slot(1)));
    assert!(f.message.contains("slot 1 of job `job` is no checkpoint"), "{f}");
    let f = fails(log.begin(&generation(1), &StartFrom::Slot(77)));
    assert!(f.message.contains("no checkpoint in slot 77"), "{f}");

    // A start that is refused leaves no trace: what `latest` means does not change.
    let slots = log.slots().expect("slots");
    let f =
        fails(log.begin_if(&generation(1), &StartFrom::Slot(2), |m| Err(Fault::config(format!("not from {}", m.expect("manifest").slot)))));
    assert_eq!(f.message, "not from 2");
    assert_eq!(log.slots().expect("slots"), slots);
}

#[test]
fn a_start_from_scratch_ends_the_old_run() {
    let tmp = tempfile::tempdir().unwrap();
    assert!(JobLog::find(local(tmp.path()), "job").unwrap().is_none());
    let old = JobLog::open(local(tmp.path()), "job", true).unwrap();
    begin(&old, 1, StartFrom::Scratch);
    take(&old, manifest(2, 1));
    let new = JobLog::open(local(tmp.path()), "job", true).unwrap();
    assert_ne!(new.instance(), old.instance());
    assert_eq!(JobLog::find(local(tmp.path()), "job").unwrap().unwrap().instance(), new.instance());
    assert!(old.superseded(1).unwrap() && !take(&old, manifest(3, 1)));
    assert_eq!(
        old.latest(&old.slots().unwrap()).unwrap(),
        Some(manifest(2, 1)),
        "as if nothing had been, for a start that failed in the middle"
    );
    assert_eq!(begin(&new, 2, StartFrom::Scratch).generation, 1);

    // also if what is there cannot be read
    let slot = tmp.path().join("job").join(new.instance()).join("slots/00000001");
    std::fs::write(slot, "rubbish").unwrap();
    fails(job(tmp.path()).begin(&generation(3), &StartFrom::Latest));
    JobLog::open(local(tmp.path()), "job", true).unwrap();
}

#[test]
fn jobs_have_folders_of_their_own_whatever_they_are_called() {
    let tmp = tempfile::tempdir().unwrap();
    let names = ["a", "A", "a/b", "..", ".", "", "a b", "grün", "a%2Fb", "a.b-c_d", ".unfinished-x"];
    let ids: Vec<String> =
        names.iter().filter(|n| !n.is_empty()).map(|n| JobLog::open(local(tmp.path()), n, false).unwrap().instance().into()).collect();
    for (name, id) in names.iter().filter(|n| !n.is_empty()).zip(&ids) {
        assert_eq!(JobLog::find(local(tmp.path()), name).unwrap().unwrap().instance(), id, "{name}");
    }
    assert_eq!(local(tmp.path()).folders("").unwrap().len(), ids.len());
}
