//! What a running job shows: metrics that agree with counted rows, probes, `top`, `status`; and how it is stopped.

use super::*;
use crate::supervise::{Job, until};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const JOB: &str = r#"
name: watched
run_env:
  time_characteristic: EventTime
  state_dir: STATE
  RESTART
streams:
  in:
    config:
      source: {type: Stdin}
      operates:
        - {type: StringToMap, config: {format: json, fields: {k: string, t: bigint}}}
      watermark: {field: t, format: epoch_ms}
transforms:
  - {type: Filter, name: some, config: {where: t % 10 <> 0}}
  - {type: KeyBy, config: {keys: [k]}}
  - {type: CountWindowWithTimeOut, name: counts, config: {count: 9, timeout: 1000s, aggregates: {n: "count(*)"}}}
sink:
  - {type: File, name: out, config: {path: out.jsonl}}
"#;

/// A sample of the exposition: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Prometheus' text format 0.0.4, taken strictly: families in one piece, announced before their samples; legal names; only the three
/// escapes; no sample twice; counters end with `_total` and are not negative; histograms are cumulative and complete.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let legal = |name: &str, colon: bool| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':'))
    };
    let mut samples: Vec<Sample> = vec![];
    let mut seen: HashSet<String> = HashSet::new();
    let mut family = (String::new(), String::new());
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help has a text");
            assert!(legal(name, true) && !help.is_empty() && seen.insert(format!("family {name}")), "{line}");
            helped = name.to_string();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a name");
            assert!(name == helped && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = (name.to_string(), kind.to_string());
        } else {
            let (head, value) = line.rsplit_once(' ').expect("a sample has a value");
            let value: f64 = value.parse().expect("a number");
            assert!(value.is_finite() && (family.1 == "gauge" || value >= 0.0), "{line}");
            let (name, labels) = match head.split_once('{') {
                None => (head, BTreeMap::new()),
                Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("labels end"), &legal)),
            };
            let base = match family.1.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).expect("a part of a histogram"),
                _ => name,
            };
            assert!(legal(name, true) && base == family.0, "{line} stands in the family {}", family.0);
            assert!(seen.insert(head.to_string()), "{head} comes twice");
            samples.push((name.to_string(), labels, value));
        }
    }
    histograms(&samples);
    samples
}

fn labels(text: &str, legal: &dyn Fn(&str, bool) -> bool) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label has a value in quotes");
        assert!(legal(name, false), "label {name}");
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (i, c) in after.char_indices() {
            match (escaped, c) {
                (true, '\\' | '"') => value.push(c),
                (true, 'n') => value.push('\n'),
                (true, _) => panic!("unknown escape in {text}"),
                (false, '"') => {
                    end = Some(i + 1);
                    break;
                }
                (false, '\\') => {}
                (false, c) => value.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        assert!(all.insert(name.to_string(), value).is_none(), "label {name} twice");
        rest = &after[end.expect("the value ends")..];
        rest = if rest.is_empty() { rest } else { rest.strip_prefix(',').expect("labels are divided by commas") };
    }
    all
}

fn histograms(samples: &[Sample]) {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, labels, n) in samples.iter().filter(|s| s.0.ends_with("_bucket")) {
        let mut others = labels.clone();
        let le = others.remove("le").expect("a bucket has a bound").replace("+Inf", "inf").parse().expect("a number");
        buckets.entry(format!("{} {others:?}", name.trim_end_matches("_bucket"))).or_default().push((le, *n));
    }
    for (name, all) in buckets {
        assert!(all.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{name}: {all:?}");
        let last = all.last().expect("a bucket");
        let of = |suffix: &str| {
            let wanted = |s: &&Sample| s.0.strip_suffix(suffix).is_some_and(|n| name == format!("{n} {:?}", s.1));
            samples.iter().find(wanted).unwrap_or_else(|| panic!("{name} has no {suffix}")).2
        };
        assert!(last.0.is_infinite() && last.1 == of("_count") && of("_sum") >= 0.0, "{name}");
    }
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_string())
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let of = |s: &&Sample| s.0 == name && labels.iter().all(|(k, v)| s.1.get(*k).is_some_and(|x| x == v));
    samples.iter().filter(of).map(|s| s.2).sum()
}

fn topology(restart: &str) -> String {
    JOB.replace("RESTART", restart)
}

/// 200 records: 3 are no JSON; every tenth of the good ones is filtered; windows of 9 rows of 2 keys.
fn records() -> (String, [u64; 4]) {
    let mut text = String::new();
    let (mut passed, mut filtered, mut broken) = ([0u64; 2], 0, 0);
    for i in 0..200u64 {
        if [5, 50, 77].contains(&i) {
            text += "no json\n";
            broken += 1;
            continue;
        }
        let key = (i % 3).min(1);
        let t = 1_700_000_000_000 + i;
        text += &format!("{{\"k\":\"{key}\",\"t\":{t}}}\n");
        if t % 10 == 0 { filtered += 1 } else { passed[key as usize] += 1 }
    }
    (text, [broken, filtered, passed[0] + passed[1], passed[0] / 9 + passed[1] / 9])
}

#[test]
fn metrics_agree_with_counted_rows() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = write(tmp.path(), "t.yaml", &topology("").replace("STATE", "state"));
    let mut c = millrace();
    c.args(["run", "--metrics", "127.0.0.1:0", "--workers", "2"]).arg(&file).current_dir(tmp.path());
    c.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut job = c.spawn().expect("starts");
    let mut stderr = BufReader::new(job.stderr.take().expect("piped"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "no address was said");
        if let Some(rest) = line.strip_prefix("metrics: http://") {
            break rest.trim().strip_suffix("/metrics").expect("a path").to_string();
        }
    };
    until("readiness", || (get(&address, "/readyz").0 == 200).then_some(()));
    let (status, health) = get(&address, "/healthz");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert!(status == 200 && health["alive"] == true && health["last_progress_seconds"].is_number(), "{health}");
    assert_eq!(get(&address, "/else").0, 404);

    let (text_in, [broken, filtered, passed, windows]) = records();
    let mut stdin = job.stdin.take().expect("piped");
    stdin.write_all(text_in.as_bytes()).expect("writes");
    stdin.flush().expect("flushes");
    let samples = until("all rows", || {
        let samples = parse(&get(&address, "/metrics").1);
        let done = value(&samples, "millrace_part_records_in_total", &[("part", "out")]) == windows as f64
            && value(&samples, "millrace_part_records_in_total", &[("part", "dead_letter")]) == broken as f64;
        done.then_some(samples)
    });
    let of = |name: &str, labels: &[(&str, &str)]| value(&samples, &format!("millrace_{name}"), labels) as u64;
    assert_eq!(of("part_records_in_total", &[("part", "in"), ("kind", "source"), ("type", "Stdin")]), 200);
    assert_eq!(of("part_records_out_total", &[("part", "in"), ("port", "main")]), 200 - broken);
    assert_eq!(of("part_bytes_in_total", &[("part", "in")]), text_in.len() as u64);
    assert!(of("part_bytes_out_total", &[("part", "out")]) > 0);
    assert_eq!(of("part_rejected_total", &[("part", "in")]), broken);
    assert_eq!(of("part_records_in_total", &[("part", "some")]), 200 - broken);
    assert_eq!(of("part_records_out_total", &[("part", "some")]), passed);
    assert_eq!(of("part_dropped_total", &[("part", "some"), ("reason", "filtered")]), filtered);
    assert_eq!(of("part_records_in_total", &[("part", "counts"), ("input", "0")]), passed);
    assert_eq!(of("part_records_out_total", &[("part", "counts"), ("port", "main")]), windows);
    assert_eq!(of("latency_seconds_count", &[]), windows);
    assert_eq!((of("workers", &[]), of("restarts_total", &[]), of("lost_records_total", &[])), (2, 0, 0));
    assert_eq!(of("source_partitions", &[("part", "in")]), 1);
    let watermark = value(&samples, "millrace_part_watermark_seconds", &[("part", "in")]);
    assert!((watermark - 1_700_000_000.198).abs() < 0.002, "{watermark}");
    assert!(value(&samples, "millrace_part_watermark_delay_seconds", &[("part", "in")]) > 50e6);
    for name in ["process_resident_memory_bytes", "millrace_process_peak_memory_bytes", "process_threads", "process_open_fds"] {
        assert!(value(&samples, name, &[]) > 1.0, "{name}");
    }
    let busy = |worker: &str| value(&samples, "millrace_part_busy_seconds_total", &[("worker", worker)]);
    assert!(busy("0") > 0.0 && busy("1") > 0.0);
    assert!(!samples.iter().any(|s| s.0.contains("checkpoint") || s.0.contains("store")), "there are none");

    for target in [address.as_str(), file.to_str().expect("text")] {
        let o = millrace().args(["top", "--once", target]).output().expect("runs");
        let shown = text(&o.stdout);
        let row = shown.lines().find(|l| l.starts_with("some")).unwrap_or_else(|| panic!("{}", said(&o)));
        let columns: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(columns[3..5], [(200 - broken).to_string(), passed.to_string()], "{shown}");
        assert!(shown.starts_with("watched  up "), "{shown}");
    }
    // All rows are of one minute.
    let minute = [("part", "out"), ("minute", "1699999980")];
    let (rows, sum) = (of("sink_minute_rows", &minute), of("sink_minute_checksum", &minute));
    drop(stdin);
    assert!(job.wait().expect("ends").success());
    let written = std::fs::read_to_string(tmp.path().join("out.jsonl")).expect("rows");
    let written: Vec<&str> = written.lines().take(windows as usize).collect();
    let summed = written.iter().fold(0, |sum, line| (sum + millrace_sdk::Key::hash(line.as_bytes()) % (1 << 48)) % (1 << 48));
    assert_eq!((rows, sum), (written.len() as u64, summed));
    assert_eq!(millrace().args(["top", "--once", &address]).output().expect("runs").status.code(), Some(3));
}

/// By the topology and by the socket, whose path may be longer than a socket's may be.
#[test]
fn a_running_job_is_asked_and_stopped() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let state = format!("state/{}", "deep/".repeat(30));
    let restart = "restart: {type: fixedDelayRestart, attempts: 3, delay: 1ms}";
    let mut job = Job::start(tmp.path(), &topology(restart).replace("STATE", &state));
    let file = tmp.path().join("t.yaml");
    let socket = tmp.path().join(&state).join("watched.sock");
    let ask = |args: &[&str], job: &Path| millrace().args(args).arg(job).output().expect("runs");
    let status = |at: &Path| {
        until("an answer", || {
            let o = ask(&["status", "--json"], at);
            let status: Value = serde_json::from_slice(&o.stdout).unwrap_or_default();
            (status["state"] == "running").then_some(status)
        })
    };
    let first = status(&file);
    assert_eq!((&first["job"], &first["restarts"], &first["in"], &first["workers"]), (&"watched".into(), &0.into(), &0.into(), &1.into()));
    let pid = first["pid"].as_i64().expect("pid") as i32;
    assert_eq!(pid, job.child(None));
    // A killed run leaves its socket behind; the next one takes its place.
    Job::signal(pid, "-KILL");
    job.child(Some(pid));
    let second = until("the next run", || {
        let s = status(&socket);
        (s["pid"].as_i64() != Some(i64::from(pid))).then_some(s)
    });
    assert_eq!(second["restarts"], 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    for args in [&["savepoint"][..], &["stop", "--savepoint"], &["rescale", "--workers", "2"]] {
        let o = ask(args, &file);
        assert!(o.status.code() == Some(1) && text(&o.stderr).contains("no checkpoints"), "{}", said(&o));
    }
    let o = ask(&["stop", "--drain"], &file);
    assert!(o.status.success(), "{}", said(&o));
    // The standard input is still open: it was the stop that ended the job.
    let code = until("the end", || job.0.try_wait().expect("wait")).code();
    assert_eq!(code, Some(0));
    assert!(!socket.exists());
    for at in [&file, &socket] {
        let o = ask(&["status"], at);
        assert!(!o.status.success() && !o.stderr.is_empty(), "{}", said(&o));
    }
    assert_eq!(ask(&["status"], &file).status.code(), Some(3));
}

#[test]
fn who_takes_a_jobs_place_gets_its_socket() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let text = JOB.replace("STATE", "state").replace("RESTART", "");
    let status = || millrace().args(["status", "--json", "t.yaml"]).current_dir(tmp.path()).output().expect("runs").status.success();
    let old = Job::start(tmp.path(), &text);
    until("the first run's socket", || status().then_some(()));
    let socket = tmp.path().join("state/watched.sock");
    let new = Job::start(tmp.path(), &text.replace("out.jsonl", "new.jsonl"));
    until("the second run", || tmp.path().join("new.jsonl").exists().then_some(()));
    // The first one ends in order: it takes its own socket away, and the second one makes one.
    Job::signal(old.0.id() as i32, "-TERM");
    assert!(old.end().0.success());
    until("the second run's socket", || status().then_some(()));
    // A socket that is gone, whoever removed it, comes back.
    std::fs::remove_file(&socket).expect("removed");
    until("the socket once more", || status().then_some(()));
    let o = millrace().args(["stop", "t.yaml"]).current_dir(tmp.path()).output().expect("runs");
    assert!(o.status.success(), "{}", said(&o));
    assert!(new.end().0.success() && !socket.exists());
}
