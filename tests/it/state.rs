//! State in a tier, from outside: a job that is killed and goes on at other parallelism, files that checkpoints share, and files that are damaged.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const ROWS: usize = 40_000;

/// Every row is a key of its own.
fn topology(dir: &Path) -> PathBuf {
    let file = dir.join("t.yaml");
    let text = format!(
        "name: t
run_env: {{time_characteristic: ProcessingTime, state_dir: state, checkpoint: {{dir: checkpoints, interval: 100ms, retained: 2}}}}
streams:
  rows: {{config: {{source: {{type: Generator, config: {{profile: ad_exposures, seed: 3, count: {ROWS}, rate: 30000}}}}}}}}
transforms:
  - {{type: Dedup, name: dedup, config: {{keys: [_value]}}}}
sink:
  - {{type: Null}}
"
    );
    std::fs::write(&file, text).expect("a topology");
    file
}

fn checkpoints(file: &Path, args: &[&str]) -> Value {
    let o = millrace().arg("checkpoints").args(args).arg(file).arg("--json").output().expect("runs");
    serde_json::from_slice(&o.stdout).unwrap_or(Value::Null)
}

/// The newest checkpoint, inspected.
fn newest(file: &Path) -> Option<Value> {
    let slot = checkpoints(file, &["list"]).as_array()?.last()?["slot"].as_u64()?;
    Some(checkpoints(file, &["inspect", &slot.to_string()]))
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let instances = std::fs::read_dir(dir.join("checkpoints/t")).expect("the job").map(|e| e.expect("an entry").path().join("files"));
    let found = instances.filter(|f| f.is_dir()).flat_map(|f| std::fs::read_dir(f).expect("files")).map(|e| e.expect("an entry").path());
    found.filter(|f| f.extension().is_some_and(|e| e == "sst")).collect()
}

#[test]
fn a_job_with_state_on_disk_is_killed_and_goes_on_and_damage_is_told() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = topology(tmp.path());
    let start = |workers: &str| {
        let mut run = millrace();
        run.arg("run").arg(&file).args(["--workers", workers, "--evict-state", "--quiet"]).spawn().expect("runs")
    };
    let mut child = start("2");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut shared = false;
    let mut seen: Option<BTreeSet<PathBuf>> = None;
    while !shared && child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "no two checkpoints with files");
        std::thread::sleep(Duration::from_millis(50));
        if newest(&file).is_some_and(|m| m.to_string().contains("rocksdb")) {
            let now = files(tmp.path());
            shared =
                seen.as_ref().is_some_and(|before| now.difference(before).next().is_some() && now.intersection(before).next().is_some());
            seen = Some(now);
        }
    }
    child.kill().expect("killed");
    child.wait().expect("a child");
    assert!(shared, "checkpoints share files, and have new ones");

    // What is damaged ends a start, with the file's name.
    let whole = std::fs::read(files(tmp.path()).first().expect("a file")).expect("bytes");
    for damage in ["flipped", "missing"] {
        let m = newest(&file).expect("a checkpoint").to_string();
        let victim = files(tmp.path())
            .into_iter()
            .find(|f| m.contains(f.file_name().and_then(|n| n.to_str()).expect("a name")))
            .expect("a named file");
        let bytes = std::fs::read(&victim).expect("bytes");
        std::fs::remove_file(&victim).expect("removed");
        if damage == "flipped" {
            let mut bad = bytes.clone();
            bad[bytes.len() / 2] ^= 4;
            std::fs::write(&victim, bad).expect("written");
        }
        let o = millrace().arg("run").arg(&file).args(["--workers", "2", "--quiet"]).output().expect("runs");
        let (said, name) = (said(&o), victim.file_name().and_then(|n| n.to_str()).expect("a name").to_string());
        let word = if damage == "flipped" { "is damaged" } else { "is missing" };
        assert!(!o.status.success() && said.contains(word) && said.contains(&name), "{damage}: {said}");
        let o = millrace().args(["checkpoints", "verify"]).arg(&file).output().expect("runs");
        assert_eq!(o.status.code(), Some(4), "{}", super::said(&o));
        std::fs::remove_file(&victim).ok();
        std::fs::write(&victim, bytes).expect("mended");
    }
    assert!(!whole.is_empty());

    // On with other numbers of workers, killed once more, to the end.
    let mut child = start("3");
    std::thread::sleep(Duration::from_millis(600));
    child.kill().expect("killed");
    child.wait().expect("a child");
    let end = start("1").wait().expect("a child");
    assert!(end.success());
    let m = newest(&file).expect("a checkpoint");
    let pieces = m["operators"][0]["pieces"].as_array().cloned().unwrap_or_default();
    assert_eq!(pieces.iter().filter_map(|p| p["keys"].as_u64()).sum::<u64>(), ROWS as u64, "{m}");
    assert!(!tmp.path().join("state/tiers/t").read_dir().is_ok_and(|d| d.count() > 2), "folders of runs that are no more are gone");
}
