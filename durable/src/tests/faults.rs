//! Damage, full and read-only places: said clearly, never wrong in silence.

use super::*;
use millrace_sdk::FaultKind;
use std::path::PathBuf;
use std::process::Command;

fn slot_file(root: &Path, log: &JobLog, slot: u64) -> PathBuf {
    root.join("job").join(log.instance()).join(format!("slots/{slot:08}"))
}

/// A log with a generation and a manifest of two files.
fn filled(root: &Path) -> (JobLog, Manifest) {
    let log = job(root);
    begin(&log, 1, StartFrom::Latest);
    let (a, b) = (log.put("g1-a", &[7; 1000]).unwrap(), log.put("g1-b", b"").unwrap());
    let m = with_files(manifest(2, 1), &[&a, &b]);
    assert!(take(&log, m.clone()));
    (log, m)
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_manifest_goes_unseen() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, m) = filled(tmp.path());
    let path = slot_file(tmp.path(), &log, 2);
    let whole = std::fs::read(&path).unwrap();
    let is_refused = |bytes: &[u8], how: &str| {
        std::fs::write(&path, bytes).unwrap();
        let f = fails(log.read(2));
        assert_eq!((f.kind, f.retry), (FaultKind::Data, false), "{how}: {f}");
        assert!(f.message.contains(&path.display().to_string()) && f.message.ends_with("is damaged") && f.hint.is_some(), "{how}: {f}");
        assert_eq!(fails(log.begin(&generation(3), &StartFrom::Latest)).message, f.message);
    };
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        is_refused(&flipped, &format!("bit {} of byte {at}", at % 8));
        is_refused(&whole[..at], &format!("cut to {at} bytes"));
    }
    is_refused(&[&whole[..], b" "].concat(), "one byte more");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(log.read(2).unwrap(), Record::Manifest(Box::new(m)));
    // whole, but in another's place
    std::fs::copy(&path, slot_file(tmp.path(), &log, 3)).unwrap();
    assert!(fails(log.read(3)).detail.unwrap().contains("the manifest of slot 2"));
}

#[test]
fn a_start_from_an_older_manifest_says_what_it_could_not_read() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, m) = filled(tmp.path());
    take(&log, with_writer(manifest(3, 1), "out", "w0", 0, Vec::new()));
    take(&log, with_writer(manifest(4, 1), "out", "w1", 0, Vec::new()));
    std::fs::write(slot_file(tmp.path(), &log, 4), "{").unwrap();
    fails(log.begin(&generation(2), &StartFrom::Latest));
    let begun = begin(&log, 2, StartFrom::Slot(2));
    assert_eq!((begun.generation, begun.from), (5, Some(m)));
    assert_eq!(begun.fence["out"], ["w0"]);
    assert_eq!(begun.damaged.len(), 1);
    assert_eq!(begun.damaged[0].0, 4);
}

#[test]
fn a_newer_format_is_refused_with_the_release_that_wrote_it() {
    let m = Manifest { version: Manifest::VERSION + 1, release: "9.9.9".into(), ..manifest(2, 1) };
    let f = fails(Record::decode("slot 2", &Record::Manifest(Box::new(m)).encode()));
    assert!(f.message.contains("slot 2") && f.message.contains("format 2") && f.detail.unwrap().contains("9.9.9"));
    let f = fails(Record::decode("slot 2", &crate::manifest::seal(&serde_json::json!({"veto": 1}))));
    assert!(f.message.contains("does not understand") && f.detail.unwrap().contains("veto"));
}

#[test]
fn damaged_and_missing_files_are_named() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, m) = filled(tmp.path());
    let file = m.files().next().unwrap().clone();
    let path = tmp.path().join("job").join(log.instance()).join("files").join(&file.name);
    let to = tmp.path().join("fetched");
    let both = |what: &str| {
        for f in [fails(log.get(&file)), fails(log.get_file(&file, &to)), fails(log.check(&file))] {
            assert_eq!(f.kind, FaultKind::Data);
            assert!(f.message.contains(&path.display().to_string()), "{f}");
            assert!(f.to_string().contains(what) && f.hint.is_some(), "{what}: {f}");
        }
    };
    log.check(&file).unwrap();
    std::fs::write(&path, [7; 999]).unwrap();
    both("999 bytes instead of 1000");
    let mut flipped = [7; 1000];
    flipped[500] = 6;
    std::fs::write(&path, flipped).unwrap();
    both("do not have the checksum");
    std::fs::remove_file(&path).unwrap();
    both("is missing");
}

#[test]
fn files_come_and_go_by_link_or_copy() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = filled(tmp.path());
    let mine = tmp.path().join("000007.sst");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    std::fs::write(&mine, &bytes).unwrap();
    let file = log.put_file("g1-sst", &mine).unwrap();
    assert_eq!(file, log.put_file("g1-sst", &mine).unwrap());
    assert_eq!(file, log.put("g1-sst", &bytes).unwrap());
    let back = tmp.path().join("back.sst");
    std::fs::write(&back, "in the way").unwrap();
    log.get_file(&file, &back).unwrap();
    assert!(std::fs::read(&back).unwrap() == bytes);
    std::fs::remove_file(&mine).unwrap();
    assert!(log.get(&file).unwrap() == bytes);
    std::fs::write(&mine, &bytes[1..]).unwrap();
    assert!(fails(log.put_file("g1-sst", &mine)).message.contains("with other bytes"));
    // where links cannot go
    if let Ok(shm) = tempfile::tempdir_in("/dev/shm") {
        let far = shm.path().join("far.sst");
        std::fs::write(&far, &bytes).unwrap();
        assert_eq!(log.put_file("g1-far", &far).unwrap().sum, file.sum);
        log.get_file(&file, &far).unwrap();
        assert!(std::fs::read(&far).unwrap() == bytes);
    }
}

#[test]
fn what_an_ended_process_left_behind_is_swept() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = filled(tmp.path());
    let slots = slot_file(tmp.path(), &log, 2).parent().unwrap().to_path_buf();
    for (name, age) in [(".unfinished-old", 90_000), (".unfinished-new", 60)] {
        let file = std::fs::File::create(slots.join(name)).unwrap();
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_micros(millrace_sdk::Clock::System.now() as u64);
        file.set_modified(now - std::time::Duration::from_secs(age)).unwrap();
    }
    assert_eq!(log.slots().unwrap(), [1, 2]);
    take(&job(tmp.path()), manifest(3, 1));
    assert!(!slots.join(".unfinished-old").exists() && slots.join(".unfinished-new").exists());
}

#[test]
fn a_file_where_the_folder_must_be_is_said() {
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("file");
    std::fs::write(&file, "").unwrap();
    for f in [
        fails(Local::open(&file.join("below")).map(drop)),
        fails(JobLog::open(local(tmp.path()), "job", false).and_then(|log| {
            std::fs::remove_dir_all(tmp.path().join("job")).unwrap();
            std::fs::write(tmp.path().join("job"), "").unwrap();
            log.begin(&generation(1), &StartFrom::Latest)
        })),
    ] {
        assert_eq!(f.kind, FaultKind::Dependency, "{f}");
        assert!(f.message.contains(&tmp.path().display().to_string()) && f.detail.is_some(), "{f}");
    }
}

/// Runs an ignored test of this file in a shell that first spoils the place; the shell's 0 is the test, 42 says that this machine cannot.
fn in_a_spoiled_place(test: &str, prelude: &str) {
    let tmp = tempfile::tempdir().unwrap();
    let place = tmp.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let script = format!("{prelude}\nexec \"$TEST\" --ignored --exact tests::faults::{test}");
    let o = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c", &script])
        .env("TEST", std::env::current_exe().unwrap())
        .env("PLACE", &place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr);
    if said.contains("unshare failed") || o.status.code() == Some(42) {
        eprintln!("skipped: this machine gives no mount namespaces: {said}");
        return;
    }
    assert!(o.status.success() && said.contains("1 passed"), "{said}");
}

fn place() -> PathBuf {
    PathBuf::from(std::env::var_os("PLACE").expect("set by the test that runs this one"))
}

#[test]
fn a_full_disk_is_said_and_passes() {
    in_a_spoiled_place("on_a_full_disk", "mount -t tmpfs -o size=128k full \"$PLACE\" || exit 42");
}

#[test]
#[ignore = "run by a_full_disk_is_said_and_passes"]
fn on_a_full_disk() {
    let (log, m) = filled(&place());
    let f = fails(log.put("g1-big", &[1; 200_000]));
    assert!(f.kind == FaultKind::Dependency && f.retry, "{f}");
    assert!(f.message.contains("g1-big` cannot be written") && f.detail.as_ref().unwrap().contains("No space left"), "{f}");
    assert!(f.hint.as_ref().unwrap().contains("make room"), "{f}");
    // nothing is left of it, and what was there is
    assert_eq!(log.put("g1-small", &[1; 20_000]).unwrap().len, 20_000);
    log.put("g1-fill", &[1; 70_000]).unwrap();
    let big = Manifest { job: "x".repeat(100_000), ..manifest(3, 1) };
    assert!(fails(log.take(3, &Record::Manifest(Box::new(big)))).retry);
    assert_eq!(log.slots().unwrap(), [1, 2]);
    m.files().for_each(|f| drop(log.get(f).unwrap()));
    assert!(take(&log, manifest(3, 1)), "the slot is still free");
}

#[test]
fn a_limit_of_file_sizes_is_said() {
    in_a_spoiled_place("under_a_limit", "trap '' XFSZ; ulimit -f 64");
}

#[test]
#[ignore = "run by a_limit_of_file_sizes_is_said"]
fn under_a_limit() {
    let (log, _) = filled(&place());
    let f = fails(log.put("g1-big", &[1; 200_000]));
    assert!(f.retry && f.message.contains("g1-big` cannot be written") && f.hint.is_some(), "{f}");
    log.put("g1-small", &[1; 20_000]).unwrap();
}

#[test]
fn a_read_only_place_is_said() {
    in_a_spoiled_place("on_a_read_only_disk", "mount -t tmpfs -o size=1m part \"$PLACE\" || exit 42");
}

#[test]
#[ignore = "run by a_read_only_place_is_said"]
fn on_a_read_only_disk() {
    let (log, m) = filled(&place());
    let o = Command::new("mount").args(["-o", "remount,ro"]).arg(place()).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    let log = JobLog::find(local(&place()), log.job()).unwrap().expect("there");
    for f in [
        fails(log.put("g1-c", b"c").map(drop)),
        fails(log.begin(&generation(2), &StartFrom::Latest).map(drop)),
        fails(log.storage.replace("x", b"x")),
        fails(log.storage.delete(&format!("job/{}/files/g1-a", log.instance()))),
    ] {
        assert!(f.kind == FaultKind::Dependency && !f.retry, "{f}");
        assert!(f.detail.as_ref().unwrap().contains("Read-only file system") && f.hint.as_ref().unwrap().contains("right to write"), "{f}");
    }
    // reading is fine
    m.files().for_each(|f| drop(log.get(f).unwrap()));
    assert_eq!(log.slots().unwrap(), [1, 2]);
}

/// Removes the file that names a job's newest instance.
fn forget_newest(root: &Path) {
    let newest = std::fs::read_dir(root.join("job/instances")).unwrap().map(|f| f.unwrap().path()).max().unwrap();
    std::fs::remove_file(newest).unwrap();
}

#[test]
fn an_instance_that_lost_its_name_is_not_begun_anew_in_silence() {
    let tmp = tempfile::tempdir().unwrap();
    let mut lost = vec![];
    for instances in 1..=2 {
        let log = JobLog::open(local(tmp.path()), "job", instances == 2).unwrap();
        begin(&log, 1, StartFrom::Latest);
        assert!(take(&log, manifest(2, 1)));
        lost.push(log.instance().to_string());
        forget_newest(tmp.path());
        for f in [fails(JobLog::open(local(tmp.path()), "job", false)), fails(JobLog::find(local(tmp.path()), "job"))] {
            assert_eq!((f.kind, f.retry), (FaultKind::Data, false));
            assert!(f.detail.unwrap().contains(log.instance()) && f.hint.unwrap().contains("scratch"));
        }
        // A start from scratch forgets it, and so does the one after.
        let new = JobLog::open(local(tmp.path()), "job", true).unwrap();
        assert_eq!(JobLog::find(local(tmp.path()), "job").unwrap().unwrap().instance(), new.instance());
        assert!(log.superseded(1).unwrap() && !take(&log, manifest(3, 1)));
    }
    let all: Vec<String> = JobLog::all(&local(tmp.path()), "job").unwrap().iter().map(|l| l.instance().to_string()).collect();
    assert!(lost.iter().all(|l| all.contains(l)), "{lost:?} in {all:?}");
}

#[test]
fn what_no_run_has_lived_in_may_lack_a_name() {
    let tmp = tempfile::tempdir().unwrap();
    // A start that died before its first checkpoint, and a copy that was not finished.
    let log = JobLog::open(local(tmp.path()), "job", false).unwrap();
    begin(&log, 1, StartFrom::Latest);
    forget_newest(tmp.path());
    let copy = JobLog::open(local(tmp.path()), "job", false).unwrap();
    copy.take(7, &Record::Generation(generation(0))).unwrap();
    assert!(take(&copy, Manifest { time: generation(0).time, ..manifest(8, 7) }));
    forget_newest(tmp.path());
    assert!(JobLog::find(local(tmp.path()), "job").unwrap().is_none());
    job(tmp.path());
}
