//! Checkpoints, restarts, memory and metrics: what is planned, and what is told where.

use super::*;
use crate::plan::{CheckpointPlan, RestartPlan, S3Plan};
use std::time::Duration;

const JOB: &str = "streams: {in: {config: {source: {type: Feed}}}}\nsink: [{type: Out}]\nrun_env:\n";

fn planned(env: &str) -> Plan {
    plan(&format!("{JOB}  {env}\n"))
}

/// What lint says of one line of `run_env`, columns from its own beginning; without what is not active yet.
fn told(env: &str) -> Vec<String> {
    let said = lint(&format!("{JOB}{env}\n"));
    said.lines().map(|l| l.strip_prefix("4:").unwrap_or(l).to_string()).collect()
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn checkpoints_have_defaults() {
    let here = std::env::current_dir().unwrap();
    let got = planned("checkpoint: {type: rocksdb}").checkpoint.unwrap();
    let want = CheckpointPlan {
        interval: secs(10),
        min_pause: secs(0),
        timeout: secs(600),
        retained: 3,
        tolerable_failures: 0,
        location: here.join("state").display().to_string(),
        s3: None,
        exactly_once: true,
    };
    assert_eq!(got, want);
    let of = |text: &str| planned(&format!("checkpoint: {text}")).checkpoint.unwrap();
    assert_eq!(
        of("{interval: 250ms, min_pause: 1s, timeout: 2m, retained: 1, tolerableFailures: 4, dir: ./a/b/, mode: at_least_once}"),
        CheckpointPlan {
            interval: Duration::from_millis(250),
            min_pause: secs(1),
            timeout: secs(120),
            retained: 1,
            tolerable_failures: 4,
            location: here.join("a/b").display().to_string(),
            exactly_once: false,
            ..want
        }
    );
    assert_eq!(of("{dir: /a}").location, "/a");
}

#[test]
fn checkpoints_lie_in_s3() {
    let bare = planned("checkpoint: {dir: 's3://bucket/a/b/'}");
    assert!(bare.env.state_dir.ends_with("state"), "the state folder is a folder");
    let c = bare.checkpoint.unwrap();
    assert_eq!(c.location, "s3://bucket/a/b");
    let nothing = S3Plan { endpoint: None, region: None, access_key: None, secret_key: None, path_style: false };
    assert_eq!(c.s3, Some(nothing));
    let full = "checkpoint: {dir: 's3://b', s3: {endpoint: 'http://h:9000', region: r, access_key: a, secret_key: hunter2}}";
    let s3 = planned(full).checkpoint.unwrap().s3.unwrap();
    assert_eq!((s3.endpoint.as_deref(), s3.region.as_deref(), s3.path_style), (Some("http://h:9000"), Some("r"), true));
    assert_eq!(s3.secret_key.as_ref().map(|s| s.0.as_str()), Some("hunter2"));
    assert!(!format!("{s3:?}").contains("hunter2"));
}

#[test]
fn checkpoints_are_checked() {
    for (env, want) in [
        ("checkpoint: {interval: 0s}", vec!["24: error[out-of-range] `interval` is 0s, where at least 10ms is needed"]),
        ("checkpoint: {interval: -1s}", vec!["24: error[out-of-range] `interval` is -1s, where at least 10ms is needed"]),
        ("checkpoint: {timeout: 0s}", vec!["23: error[out-of-range] `timeout` is 0s, where at least 10ms is needed"]),
        ("checkpoint: {min_pause: 10m}", vec!["25: error[out-of-range] `min_pause` is not less than `timeout`"]),
        ("checkpoint: {min_pause: -1s}", vec!["25: error[out-of-range] `min_pause` is -1s, where at least 0s is needed"]),
        ("checkpoint: {retained: 0}", vec!["24: error[out-of-range] 0 is too small: the least is 1"]),
        ("checkpoint: {tolerable_failures: -1}", vec!["34: error[out-of-range] -1 is too small: the least is 0"]),
        ("checkpoint: {type: heap}", vec!["20: error[unknown-value] unknown value `heap`"]),
        ("checkpoint: {mode: twice}", vec!["20: error[unknown-value] unknown value `twice`"]),
        ("checkpoint: {retaind: 1}", vec!["14: error[unknown-key] unknown key `retaind`; did you mean `retained`?"]),
        ("checkpoint: {dir: ''}", vec!["19: error[out-of-range] a text of 0 characters where at least 1 are needed"]),
        ("checkpoint: {dir: 's3:///x'}", vec!["19: error[invalid-config] `` cannot be the name of a bucket"]),
        ("checkpoint: {dir: 'gs://x'}", vec!["19: error[invalid-config] unknown storage `gs://`"]),
        ("checkpoint: {dir: x, s3: {region: r}}", vec!["22: error[invalid-config] `s3` is given, and `dir` is no `s3://bucket/prefix`"]),
        (
            "checkpoint: {dir: 's3://b', s3: {endpoint: h, access_key: k, regon: r}}",
            vec![
                "44: error[invalid-config] an endpoint begins with `http://` or `https://`",
                "59: error[missing-key] `access_key` without `secret_key`",
                "62: error[unknown-key] unknown key `regon`; did you mean `region`?",
            ],
        ),
        ("memory: 10MiB", vec!["9: error[out-of-range] a job cannot do with less than 64MiB"]),
        (
            "metrics: {listen: nowhere}",
            vec!["19: error[invalid-config] `nowhere` is no address: write `host:port` like `127.0.0.1:9464`, or a port"],
        ),
    ] {
        // Two columns in: the line is indented by them.
        let got = told(&format!("  {env}"));
        let heads: Vec<String> = got.iter().map(|l| shifted(l)).collect();
        assert_eq!(heads, want, "{env}");
    }
}

/// The column without the line's indent, the message without what follows the sentence.
fn shifted(line: &str) -> String {
    let (column, rest) = line.split_once(':').unwrap();
    format!("{}:{}", column.parse::<usize>().unwrap() - 2, rest.split("; possible").next().unwrap())
}

#[test]
fn restart_strategies() {
    let of = |text: &str| planned(&format!("restart: {text}")).restart.unwrap();
    assert_eq!(of("{type: noRestart}"), RestartPlan::None);
    assert_eq!(of("{type: fallBackRestart}"), RestartPlan::FallBack);
    assert_eq!(of("{type: fixedDelayRestart}"), RestartPlan::FixedDelay { attempts: 3, delay: secs(10) });
    assert_eq!(of("{type: fixedDelayRestart, attempts: 7, delay: 0s}"), RestartPlan::FixedDelay { attempts: 7, delay: secs(0) });
    assert_eq!(
        of("{type: failureRateRestart, maxFailures: 2, delay: 1s}"),
        RestartPlan::FailureRate { max_failures: 2, interval: secs(300), delay: secs(1) }
    );
    let exponential = |initial, max, multiplier, reset_after, jitter| RestartPlan::ExponentialDelay {
        initial: secs(initial),
        max: secs(max),
        multiplier,
        reset_after: secs(reset_after),
        jitter,
    };
    assert_eq!(of("{type: exponentialDelayRestart}"), exponential(1, 60, 1.5, 3600, 0.1));
    assert_eq!(
        of("{type: exponentialDelayRestart, initial: 2s, max: 8s, multiplier: 2, reset_after: 5m, jitter: 0}"),
        exponential(2, 8, 2.0, 300, 0.0)
    );
    for (env, place, want) in [
        ("{type: noRestart, attempts: 2}", "attempts", "error[invalid-config] `attempts` has no meaning for `noRestart`"),
        ("{type: fixedDelayRestart, jitter: 0.5}", "jitter", "error[invalid-config] `jitter` has no meaning for `fixedDelayRestart`"),
        ("{type: fixedDelayRestart, attempts: 0}", "0", "error[out-of-range] 0 is too small: the least is 1"),
        ("{type: fixedDelayRestart, delay: -1s}", "-1s", "error[out-of-range] `delay` is -1s, where at least 0s is needed"),
        ("{type: exponentialDelayRestart, jitter: 2}", "2", "error[out-of-range] 2 is too large: the most is 1"),
        ("{type: exponentialDelayRestart, multiplier: 0.5}", "0.5", "error[out-of-range] 0.5 is too small: the least is 1"),
        ("{type: exponentialDelayRestart, initial: 3s, max: 2s}", "2s", "error[out-of-range] `max` is less than `initial`"),
        ("{type: failureRateRestart, interval: 0s}", "0s", "error[out-of-range] `interval` is 0s, where at least 1ms is needed"),
    ] {
        let env = format!("  restart: {env}");
        let column = env.find(place).unwrap() + 1;
        assert_eq!(told(&env), [format!("{column}: {want}")], "{env}");
    }
}

#[test]
fn metrics_listen_on_this_machine_unless_told() {
    let of = |text: &str| planned(text).metrics.map(|a| a.to_string());
    assert_eq!(of("parallelism: 1"), None);
    assert_eq!(of("metrics: {}").as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(of("metrics: {listen: 9500}").as_deref(), Some("127.0.0.1:9500"));
    assert_eq!(of("metrics: {listen: ':9500'}").as_deref(), Some("127.0.0.1:9500"));
    assert_eq!(of("metrics: {listen: '0.0.0.0:0'}").as_deref(), Some("0.0.0.0:0"));
    assert_eq!(planned("memory: 2GiB").memory, Some(2 << 30));
}

#[test]
fn the_host_says_what_falling_back_means() {
    use crate::host;
    let dir = std::env::temp_dir().join(format!("millrace-host-{}", std::process::id()));
    let (first, second) = (dir.join("first"), dir.join("second"));
    std::fs::create_dir_all(&first).unwrap();
    std::fs::create_dir_all(&second).unwrap();
    let folders = [first.clone(), second.clone()];
    assert!(host::load(&folders).file.is_none());
    let of = |folder: &Path, text: &str| {
        std::fs::write(folder.join(host::NAME), text).unwrap();
        host::load(&folders)
    };
    let h = of(&second, "restart: {type: failureRateRestart, max_failures: 2}\n");
    assert_eq!(h.restart, Some(RestartPlan::FailureRate { max_failures: 2, interval: secs(300), delay: secs(10) }));
    let h = of(&first, "restart: {type: noRestart}\n");
    assert_eq!((h.restart, h.file), (Some(RestartPlan::None), Some(first.join(host::NAME))));
    assert_eq!(of(&first, "# nothing\n").restart, None);
    for (text, want) in [
        ("restart: {type: fallBackRestart}\n", "1:17: error[invalid-config] the host's own strategy cannot be `fallBackRestart`"),
        ("restrat: {type: noRestart}\n", "1:1: error[unknown-key] unknown key `restrat`; did you mean `restart`?"),
        ("restart: {type: noRestart, attempts: 1}\n", "1:28: error[invalid-config] `attempts` has no meaning for `noRestart`"),
    ] {
        let h = of(&first, text);
        let said = diagnostic::concise(&h.diagnostics);
        assert!(h.restart.is_none() && said.contains(want), "{text}: {said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
