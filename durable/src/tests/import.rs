//! Checkpoints of other instances and jobs, by their path.

use super::*;

fn chunk(log: &JobLog, slot: u64, n: u64, rows: u64) -> Chunk {
    let name = JobLog::file_name(1, &format!("n3-w0-out-{slot}-{n}"));
    Chunk { marker: marker(slot, n), rows, file: log.put(&name, format!("chunk {slot} {n}").as_bytes()).expect("stored") }
}

/// Generation 1; 2: chunk 2.1 with 20 rows; 3: that and chunk 3.1 with 30 rows, 2.1 is known to be applied or not; state in both.
fn filled(root: &Path, name: &str, known: bool) -> JobLog {
    let log = JobLog::open(local(root), name, false).expect("opens");
    assert_eq!(begin(&log, 1, StartFrom::Latest).generation, 1);
    let state = log.put(&JobLog::file_name(1, "a1-n1-w0-state"), b"state").expect("stored");
    let (first, second) = (chunk(&log, 2, 1, 20), chunk(&log, 3, 1, 30));
    let of = |slot, applied, chunks| with_writer(with_files(manifest(slot, 1), &[&state]), "out", "w-0", applied, chunks);
    assert!(take(&log, of(2, marker(1, 0), vec![first.clone()])));
    let applied = if known { marker(2, 1) } else { marker(1, 0) };
    assert!(take(&log, of(3, applied, if known { vec![second] } else { vec![first, second] })));
    log
}

fn find(path: &str) -> Result<Named, Fault> {
    Named::find(path, &|location| open(location, &S3Options::default()))
}

fn import(root: &Path, name: &str, of: &str, all: bool) -> (JobLog, Manifest) {
    let found = find(of).expect("found");
    let m = found.manifest().expect("a manifest");
    let log = JobLog::import(local(root), name, &found.log, m, all, &root.join("scratch")).expect("imported");
    let begun = begin(&log, 9, StartFrom::Latest);
    (log, begun.from.expect("a manifest"))
}

#[test]
fn a_path_names_a_slot_an_instance_or_a_job() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let log = filled(tmp.path(), "a job", true);
    let place = tmp.path().display().to_string();
    for (path, slot) in [
        (log.path(2), 2),
        (format!("{place}/a%20job/{}", log.instance()), 3),
        (format!("{place}/a%20job/{}/", log.instance()), 3),
        (format!("{place}/a%20job"), 3),
        (format!("file://{place}/a%20job"), 3),
    ] {
        let named = find(&path).unwrap_or_else(|f| panic!("{path}: {f}"));
        assert_eq!(
            (named.log.job(), named.log.instance(), named.manifest().expect("there").slot),
            ("a job", log.instance(), slot),
            "{path}"
        );
    }
    for path in [place.clone(), format!("{place}/a%20job/{}/slots/x", log.instance()), format!("{place}/nowhere")] {
        assert!(find(&path).is_err(), "{path}");
    }
    assert!(find(&log.path(1)).expect("a slot").manifest().is_err(), "the record of a start");
}

#[test]
fn another_job_begins_where_this_one_stood() {
    let tmp = tempfile::tempdir().expect("tempdir");
    for (known, pending) in [(true, 0), (false, 1)] {
        let (here, there) = (tmp.path().join(format!("a{known}")), tmp.path().join(format!("b{known}")));
        let source = filled(&here, "one", known);
        source.put_refused("g1-n3-w0-out-2-1", b"refused").expect("kept");
        let (log, m) = import(&there, "two", &source.path(2), false);
        assert_eq!((m.slot, m.generation, log.job()), (5, 4, "two"));
        let state = &m.operators[0].pieces[0].files["g1-a1-n1-w0-state"];
        assert_eq!(log.get(state).expect("copied"), b"state");
        let chunks: Vec<_> = m.chunks().map(|(_, _, c)| c.clone()).collect();
        assert_eq!(chunks.len(), pending);
        if let Some(c) = chunks.first() {
            assert_eq!((log.get(&c.file).expect("copied"), c.marker), (b"chunk 2 1".to_vec(), marker(2, 1)));
            assert_eq!(log.refused(&c.file.name).expect("read").as_deref(), Some(&b"refused"[..]));
        }
        assert_eq!(m.sinks[0].writers.len(), pending, "who has done his work is not disturbed");
        // The source goes on as if nothing had happened.
        assert_eq!(source.newest_generation().expect("read"), 1);
        assert!(JobLog::find(local(&there), "two").expect("read").is_some_and(|l| l.instance() == log.instance()));
    }
}

#[test]
fn an_older_instance_of_the_job_is_taken_over_with_all_its_writers() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let old = filled(tmp.path(), "job", true);
    let new = JobLog::open(local(tmp.path()), "job", true).expect("a new instance");
    let begun = begin(&new, 2, StartFrom::Scratch);
    assert!(take(&new, with_writer(manifest(begun.generation + 1, begun.generation), "out", "w-1", 0, vec![chunk(&new, 2, 1, 7)])));
    let mut later = Later::default();
    old.later(2, &mut later).expect("read");
    assert_eq!((later.rows["out"], later.pruned), (30, 0));
    new.later(0, &mut later).expect("read");
    assert_eq!((later.rows["out"], &later.slots[..]), (37, &[3, 2][..]));
    let (log, m) = import(tmp.path(), "job", &old.path(2), true);
    assert!(m.sinks[0].writers.contains_key("w-0"), "{m:?}");
    assert_eq!(JobLog::all(&local(tmp.path()), "job").expect("read").len(), 3);
    assert!(new.superseded(begun.generation).expect("read") && !log.superseded(log.newest_generation().expect("read")).expect("read"));
}

#[test]
fn what_is_pruned_is_counted() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let log = filled(tmp.path(), "job", true);
    for slot in 4..10 {
        assert!(take(&log, manifest(slot, 1)));
    }
    log.prune(2, 1).expect("pruned");
    let mut later = Later::default();
    log.later(2, &mut later).expect("read");
    assert_eq!((later.pruned, &later.slots[..]), (5, &[8, 9][..]));
}

#[test]
fn what_no_guard_has_passed_is_as_if_it_had_never_been() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    let guarded = |slot| Manifest { guarded: true, ..manifest(slot, 1) };
    let verdict = |passed| Record::Verdict(Verdict { generation: 1, passed, red: vec![], seen: vec![], time: 1 });
    let latest = |log: &JobLog| log.latest(&log.slots().expect("read")).expect("read").map(|m| m.slot);
    assert!(take(&log, guarded(2)) && take(&log, guarded(3)));
    assert_eq!(latest(&log), None);
    for slot in 4..10 {
        assert!(take(&log, guarded(slot)));
    }
    log.prune(1, 1).expect("pruned");
    assert_eq!(log.slots().expect("read"), [1, 2, 3, 4, 5, 6, 7, 8, 9], "each may still pass");
    assert!(log.take(10, &verdict(2)).expect("taken") && take(&log, guarded(11)) && take(&log, guarded(12)));
    assert_eq!(latest(&log), Some(2));
    let passed: Vec<bool> = [2, 3, 11].map(|s| log.has_passed(&log.manifest(s).expect("there")).expect("read")).into();
    assert_eq!(passed, [true, false, false]);
    let mut later = Later::default();
    log.later(0, &mut later).expect("read");
    assert_eq!((&later.slots[..], later.pruned), (&[2][..], 0));
    assert!(log.take(13, &verdict(2)).expect("taken"), "a red guard passes nothing more");
    log.prune(1, 1).expect("pruned");
    assert_eq!(latest(&log), Some(2), "what a start goes on from stays");
    assert_eq!(log.newest_generation().expect("read"), 1);
    let begun = begin(&log, 2, StartFrom::Latest);
    assert_eq!((begun.generation, begun.from.map(|m| m.slot)), (14, Some(2)));
    assert_eq!(latest(&log), Some(2));
    for slot in 15..18 {
        assert!(take(&log, Manifest { guarded: true, ..manifest(slot, 14) }));
    }
    log.prune(1, 14).expect("pruned");
    assert_eq!(latest(&log), Some(2));
    assert!(log.has_passed(&log.manifest(2).expect("there")).expect("read"), "with its verdict");
}

#[test]
fn the_last_of_what_was_refused_counts() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let log = job(tmp.path());
    assert_eq!(log.refused("g1-x").expect("read"), None);
    for bytes in [&b"one"[..], b"two", b""] {
        log.put_refused("g1-x", bytes).expect("kept");
        assert_eq!(log.refused("g1-x").expect("read").as_deref(), Some(bytes));
    }
    std::fs::write(tmp.path().join(log.file("g1-x-refused-2")), b"damaged by somebody").expect("written");
    assert!(log.refused("g1-x").is_err());
}
