//! `millrace tap` on a running job: the rows of an output, filtered; what is not there is told; the job does not mind.

use super::*;
use crate::supervise::{Job, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const JOB: &str = "\
name: tapped
streams:
  in:
    config:
      source: {type: Stdin}
      operates:
        - {type: StringToMap, config: {format: json, fields: {k: string, n: bigint}}}
transforms:
  - {type: SplitStream, name: split, config: {ports: {even: n % 2 = 0}, rest: port}}
  - {type: KeyBy, name: by, input: split.even, config: {keys: [k]}}
sink:
  - {type: Null, name: evens, input: by}
  - {type: Null, name: odds, input: split.rest}
";

fn tap(dir: &Path, args: &[&str]) -> Command {
    let mut c = millrace();
    c.args(["tap", "t.yaml"]).args(args).current_dir(dir);
    c
}

#[test]
fn rows_are_shown_as_they_pass() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut job = Job::start(tmp.path(), JOB);
    let mut stdin = job.0.stdin.take().expect("piped");
    until("a socket", || {
        millrace().args(["status", "t.yaml"]).current_dir(tmp.path()).output().expect("runs").status.success().then_some(())
    });
    let mut number = 0;
    // Rows keep coming until the tap, which begins whenever it does, has seen enough.
    let mut shown = |args: &[&str]| {
        let mut child = tap(tmp.path(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let status = until("the tap's end", || {
            for _ in 0..10 {
                number += 1;
                writeln!(stdin, "{{\"k\":\"k{}\",\"n\":{number}}}\noops", number % 3).expect("written");
            }
            child.try_wait().expect("wait")
        });
        assert!(status.success(), "{args:?}");
        BufReader::new(child.stdout.take().expect("piped")).lines().map(|l| l.expect("text")).collect::<Vec<_>>()
    };
    let numbers = |lines: &[String]| -> Vec<i64> {
        lines.iter().map(|l| serde_json::from_str::<Value>(l).expect("JSON")["n"].as_i64().expect("n")).collect()
    };
    let all = numbers(&shown(&["in", "-n", "5"]));
    assert_eq!(all, (all[0]..all[0] + 5).collect::<Vec<_>>());
    for output in ["split.even", "by", "evens"] {
        assert!(numbers(&shown(&[output, "-n", "4", "--json"])).iter().all(|n| n % 2 == 0), "{output}");
    }
    let found = shown(&["odds", "--where", "k = 'k1' and n > 10", "-n", "3"]);
    assert!(found.iter().all(|l| l.starts_with("{\"k\":\"k1\",\"n\":")) && numbers(&found).iter().all(|n| n % 2 == 1), "{found:?}");
    let tenth = numbers(&shown(&["in", "--every", "10", "-n", "3"]));
    assert_eq!((tenth[1] - tenth[0], tenth[2] - tenth[1]), (10, 10));
    let errors = shown(&["in.errors", "-n", "2"]);
    assert!(errors.iter().all(|l| l.contains("\"reason\":\"invalid-json\"") && l.contains("\"body\":\"oops\"")), "{errors:?}");
    let table = shown(&["in", "-n", "2", "--table"]);
    assert!(table.len() == 3 && table[0].starts_with("k       n"), "{table:?}");

    for (args, wanted) in [
        (&["slpit.even"][..], "did you mean `split.even`?"),
        (&["in", "--where", "m > 1"], "unknown field `m`"),
        (&["in", "--where", "n +"], "--where: "),
    ] {
        let o = tap(tmp.path(), args).output().expect("runs");
        assert!(o.status.code() == Some(1) && text(&o.stderr).contains(wanted), "{}", said(&o));
    }
    // A reader that goes away is nothing to the job.
    let mut gone = tap(tmp.path(), &["in"]).stdout(Stdio::null()).spawn().expect("starts");
    gone.kill().expect("killed");
    gone.wait().expect("ends");
    drop(stdin);
    assert!(job.0.wait().expect("ends").success());
}
