//! Every topology that has an `expected` folder gives exactly that, at parallelism 1, 2 and 3, in 2 and 3 processes, and with its state taken out and
//! put back, or out of memory altogether, at every epoch. `UPDATE_GOLDEN=1` writes what came out.

use super::*;
use std::fs;

#[test]
fn topologies_give_what_they_say() {
    let mut seen = 0;
    for dir in fs::read_dir(root().join("topologies")).expect("topologies").map(|e| e.expect("entry").path()) {
        let expected = dir.join("expected");
        if !expected.is_dir() {
            continue;
        }
        let ways = [&["--workers", "1"][..], &["--workers", "2"], &["--workers", "3"], &["--workers", "2", "--roundtrip-state"]];
        let more =
            [&["--workers", "2", "--evict-state"][..], &["--processes", "2", "--workers", "1"], &["--processes", "3", "--workers", "2"]];
        for args in ways.into_iter().chain(more) {
            let tmp = tempfile::tempdir().expect("tempdir");
            let state = format!("run_env.state_dir={}", tmp.path().join("state").display());
            let o = run(&dir.join("topology.yaml"), tmp.path(), &[args, &["--quiet", "--set", &state]].concat());
            assert!(o.status.success(), "{} {args:?}: {}", dir.display(), said(&o));
            for file in fs::read_dir(&expected).expect("expected").map(|e| e.expect("entry").path()) {
                let name = file.file_name().expect("a file");
                let got = fs::read_to_string(tmp.path().join("out").join(name)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                if std::env::var_os("UPDATE_GOLDEN").is_some() {
                    fs::write(&file, sorted(&got)).expect("golden file");
                }
                let want = fs::read_to_string(&file).expect("golden file");
                assert_eq!(sorted(&got), sorted(&want), "{} {args:?}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no golden topology was found");
}

/// Between keys there is no order.
fn sorted(text: &str) -> String {
    let mut l: Vec<&str> = text.lines().collect();
    l.sort_unstable();
    l.join("\n") + "\n"
}

#[test]
fn all_topologies_lint() {
    for dir in fs::read_dir(root().join("topologies")).expect("topologies").map(|e| e.expect("entry").path()) {
        let o = millrace()
            .arg("lint")
            .arg(dir.join("topology.yaml"))
            .envs([("BROKERS", "127.0.0.1:9092"), ("HBASE", "127.0.0.1:9090"), ("STATE", "state"), ("OUT", "out")])
            .output()
            .expect("runs");
        assert!(o.status.success(), "{}: {}", dir.display(), said(&o));
        assert!(!text(&o.stdout).contains("error["), "{}", said(&o));
    }
}
