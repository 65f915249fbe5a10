//! What an earlier release wrote is still read: `tests/fixtures/checkpoint-v1` was written by release 0.1.0 (with UPDATE_GOLDEN=1 this test writes
//! it if it is not there). It changes never; a new format gets a folder of its own.

use millrace_durable::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/checkpoint-v1")
}

fn open(root: &Path) -> Arc<dyn Storage> {
    Arc::new(Local::open(root).unwrap())
}

const FILES: [(&str, &[u8]); 5] = [
    ("g1-a1-n2-w0-state", b"the state of worker 0"),
    ("g1-a1-n2-w1-state", b"\x00\xff state of worker 1"),
    ("g1-n3-w0-out-0", b"{\"user\":\"a\",\"n\":1}\n"),
    ("g5-a2-n2-w0-000007.sst", b"an SST that two checkpoints share"),
    ("g5-n3-w0-out-1", b"{\"user\":\"b\",\"n\":2}\n"),
];

fn generation(run: u64, from: u64) -> Generation {
    Generation { run, from, config: 0x0123_4567_89ab_cdef, workers: 2, time: 1_760_000_000_000_000 }
}

/// Every field has a value that tells it from the others.
fn manifest(slot: u64, kind: Kind, files: &[&FileRef], chunks: Vec<Chunk>) -> Manifest {
    let partition = |name: &str, position: &[u8], greatest, ended| PartitionState {
        name: name.into(),
        position: position.to_vec(),
        greatest,
        floor: 1_759_999_990_000_000,
        ended,
    };
    let piece = |groups, file: &FileRef| Piece {
        groups,
        keys: 3,
        format: "snapshot".into(),
        files: BTreeMap::from([("state".to_string(), file.clone())]),
        extra: vec![0, 1, 254, 255],
    };
    let state = |name: &str, version| StateInfo {
        name: name.into(),
        kind: "value".into(),
        version,
        schema: u64::MAX - 7,
        layout: "user: string, n: bigint".into(),
    };
    Manifest {
        version: 1,
        release: "0.1.0".into(),
        slot,
        generation: if slot > 5 { 5 } else { 1 },
        kind,
        time: 1_760_000_000_000_000 + slot as i64 * 10_000_000,
        job: "fixture".into(),
        config: 0x0123_4567_89ab_cdef,
        workers: 2,
        took: 4_321,
        guarded: false,
        sources: vec![SourceState {
            name: "in".into(),
            partitions: vec![partition("t-0", b"1234", 1_759_999_999_000_000, false), partition("t-1", &[0, 9], i64::MIN, true)],
            unlisted: false,
            meaning: String::new(),
        }],
        operators: vec![OperatorState {
            name: "count".into(),
            part: "CountWindow".into(),
            meaning: String::new(),
            states: vec![state("seen", 1), state("open", 2)],
            pieces: files.iter().enumerate().map(|(i, f)| piece((i as u64 * 512, i as u64 * 512 + 512), f)).collect(),
        }],
        sinks: vec![SinkState {
            name: "out".into(),
            part: "Kafka".into(),
            writers: BTreeMap::from([
                ("0".to_string(), WriterState { applied: marker(2, 1), chunks }),
                ("1".to_string(), WriterState::default()),
            ]),
        }],
    }
}

/// The slots, by their references to `FILES`.
fn records(files: &[FileRef]) -> Vec<(u64, Record)> {
    let chunk = |slot, rows, file: &FileRef| Chunk { marker: marker(slot, 1), rows, file: file.clone() };
    let (state, shared) = ([&files[0], &files[1]], [&files[3], &files[1]]);
    let m = |m: Manifest| (m.slot, Record::Manifest(Box::new(m)));
    vec![
        (1, Record::Generation(generation(u64::MAX, 0))),
        m(manifest(2, Kind::Periodic, &state, Vec::new())),
        m(manifest(3, Kind::Savepoint, &state, vec![chunk(3, 1, &files[2])])),
        m(manifest(4, Kind::Drained, &state, Vec::new())),
        (5, Record::Generation(generation(2, 4))),
        m(manifest(6, Kind::Stop, &shared, vec![chunk(6, 20, &files[4])])),
        m(manifest(7, Kind::Finished, &shared, vec![chunk(6, 20, &files[4])])),
    ]
}

fn write(root: &Path) {
    let log = JobLog::open(open(root), "fixture", false).unwrap();
    let files: Vec<FileRef> = FILES.iter().map(|(name, bytes)| log.put(name, bytes).unwrap()).collect();
    records(&files).iter().for_each(|(slot, record)| assert!(log.take(*slot, record).unwrap()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { std::fs::copy(entry.path(), to).map(drop).unwrap() }
    }
}

#[test]
fn format_1_is_read() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !fixture().exists() {
        write(&fixture());
    }
    let tmp = tempfile::tempdir().unwrap();
    copy(&fixture(), tmp.path());
    let log = JobLog::find(open(tmp.path()), "fixture").unwrap().expect("the fixture");
    let files: Vec<FileRef> = FILES
        .iter()
        .map(|(name, bytes)| FileRef { name: (*name).into(), len: bytes.len() as u64, sum: xxhash_rust::xxh3::xxh3_64(bytes) })
        .collect();
    for (file, (_, bytes)) in files.iter().zip(FILES) {
        assert_eq!(log.get(file).unwrap(), bytes);
    }
    let expected = records(&files);
    assert_eq!(log.slots().unwrap(), expected.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
    for (slot, record) in &expected {
        assert_eq!(&log.read(*slot).unwrap(), record, "slot {slot}");
    }
    let begun = log.begin(&generation(3, 0), &StartFrom::Latest).unwrap();
    assert_eq!((begun.generation, begun.newest), (8, 7));
    assert_eq!(begun.from.map(Box::new).map(Record::Manifest).as_ref(), expected.last().map(|(_, r)| r));
    assert_eq!(begun.fence["out"], ["0", "1"]);
}
