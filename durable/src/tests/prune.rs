//! What a prune leaves.

use super::*;

fn names(log: &JobLog) -> Vec<String> {
    log.storage.list(&format!("job/{}/files", log.instance())).unwrap().into_iter().map(|e| e.name).collect()
}

#[test]
fn the_newest_savepoints_and_what_they_name_stay() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    let file = |name: &str| log.put(&format!("g1-{name}"), name.as_bytes()).unwrap();
    let (shared, a, b, c, d) = (file("shared"), file("a"), file("b"), file("c"), file("d"));
    file("attempt");
    take(&log, with_files(manifest(2, 1), &[&shared, &a]));
    take(&log, Manifest { kind: Kind::Savepoint, ..with_files(manifest(3, 1), &[&b]) });
    take(&log, with_files(manifest(4, 1), &[&shared, &c]));
    take(&log, with_files(manifest(5, 1), &[&shared, &d]));
    assert_eq!(log.prune(9, 1).unwrap(), (0, 0));
    assert_eq!(log.prune(2, 1).unwrap(), (1, 1));
    assert_eq!(log.slots().unwrap(), [1, 3, 4, 5]);
    assert_eq!(log.prune(0, 1).unwrap(), (1, 1), "never less than one");
    assert_eq!(log.slots().unwrap(), [1, 3, 5]);
    assert_eq!(names(&log), ["g1-attempt", "g1-b", "g1-d", "g1-shared"]);

    // attempts of a generation that is over, and its record once no manifest is its own
    begin(&log, 2, StartFrom::Latest);
    assert_eq!(log.prune(1, 1).unwrap(), (0, 0), "a newer generation has begun");
    let e = log.put("g6-e", b"e").unwrap();
    log.put("g6-attempt", b"x").unwrap();
    assert_eq!(log.prune(1, 6).unwrap(), (0, 1));
    take(&log, with_files(manifest(7, 6), &[&e]));
    assert_eq!(log.prune(1, 6).unwrap(), (1, 2));
    assert_eq!((log.slots().unwrap(), names(&log)), (vec![1, 3, 6, 7], ["g1-b", "g6-attempt", "g6-e"].map(String::from).to_vec()));
}

#[test]
fn unapplied_outboxes_stay() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    let chunk = |slot| Chunk { marker: marker(slot, 1), rows: 2, file: log.put(&format!("g1-chunk-{slot}"), &[slot as u8]).unwrap() };
    let (two, three, four) = (chunk(2), chunk(3), chunk(4));
    let of = |slot, applied, chunks: &[&Chunk]| {
        take(&log, with_writer(manifest(slot, 1), "out", "w0", applied, chunks.iter().map(|c| (*c).clone()).collect()));
    };
    of(2, 0, &[&two]);
    of(3, 0, &[&two, &three]);
    of(4, two.marker, &[&three, &four]);
    assert_eq!(log.prune(1, 1).unwrap(), (1, 0), "the first is applied; the second names one that is not, and its own files stay whole");
    assert_eq!((log.slots().unwrap(), names(&log).len()), (vec![1, 3, 4], 3));
    of(5, four.marker, &[]);
    assert_eq!(log.prune(1, 1).unwrap(), (2, 3));
    assert_eq!((log.slots().unwrap(), names(&log).len()), (vec![1, 5], 0));
}

#[test]
fn what_a_start_would_go_on_from_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    for slot in 2..6 {
        let file = log.put(&format!("g1-{slot}"), &[slot as u8]).unwrap();
        take(&log, with_files(manifest(slot, 1), &[&file]));
    }
    let g = begin(&log, 2, StartFrom::Slot(3)).generation;
    assert_eq!(log.prune(1, g).unwrap(), (2, 2));
    assert_eq!(log.slots().unwrap(), [1, 3, 5, 6]);
    let again = begin(&log, 3, StartFrom::Latest);
    let from = again.from.unwrap();
    assert_eq!(from.slot, 3);
    from.files().for_each(|f| drop(log.get(f).unwrap()));
}

#[test]
fn a_damaged_slot_stays_with_what_it_may_name() {
    let tmp = tempfile::tempdir().unwrap();
    let log = job(tmp.path());
    begin(&log, 1, StartFrom::Latest);
    for slot in 2..5 {
        let file = log.put(&format!("g1-{slot}"), &[slot as u8]).unwrap();
        take(&log, with_files(manifest(slot, 1), &[&file]));
    }
    begin(&log, 2, StartFrom::Latest);
    let file = log.put("g5-x", b"x").unwrap();
    take(&log, with_files(manifest(6, 5), &[&file]));
    std::fs::write(tmp.path().join("job").join(log.instance()).join("slots/00000003"), "").unwrap();
    log.prune(1, 5).unwrap();
    assert_eq!(log.slots().unwrap(), [3, 5, 6]);
    assert_eq!(names(&log), ["g1-3", "g5-x"]);
}
