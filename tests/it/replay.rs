//! `millrace replay`: dead letters go through their job once more, by a run of their own, by the next start, by the running job; each once.

use super::*;
use crate::supervise::until;
use std::process::Stdio;

/// `{n}` is the type that rejects or takes them.
fn job(mode: &str, n: &str) -> String {
    format!(
        "name: j\nrun_env:\n  checkpoint: {{interval: 50ms, dir: state}}\nstreams:\n  s:\n    config:\n      \
         source: {{type: File, config: {{path: in.jsonl, mode: {mode}}}}}\n      operates:\n        \
         - {{type: StringToMap, config: {{format: json, fields: {{k: string, n: {n}}}}}}}\nsink:\n  \
         - {{type: File, name: out, config: {{path: out.jsonl}}}}\n"
    )
}

const INPUT: &str = "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":\"x\"}\noops\n{\"k\":\"c\",\"n\":3}\n{\"k\":\"d\",\"n\":\"\u{1F600}\"}\n";
const FIRST: &str = "{\"k\":\"a\",\"n\":1}\n{\"k\":\"c\",\"n\":3}\n";
const MENDED: &str = "{\"k\":\"b\",\"n\":\"x\"}\n{\"k\":\"d\",\"n\":\"\u{1F600}\"}\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new(mode: &str) -> Place {
        let place = Place(tempfile::tempdir().expect("tempdir"));
        write(place.0.path(), "in.jsonl", INPUT);
        place.topology(&job(mode, "bigint"));
        place
    }

    fn topology(&self, text: &str) {
        write(self.0.path(), "t.yaml", text);
    }

    fn call(&self, args: &[&str]) -> Output {
        millrace().args(args).current_dir(self.0.path()).output().expect("runs")
    }

    fn replay(&self, args: &[&str]) -> String {
        let o = self.call(&[&["replay", "t.yaml"], args].concat());
        assert!(o.status.success(), "{}", said(&o));
        text(&o.stdout)
    }

    fn out(&self) -> String {
        std::fs::read_to_string(self.0.path().join("out.jsonl")).unwrap_or_default()
    }

    fn letters(&self) -> usize {
        std::fs::read_to_string(self.0.path().join("state/dead-letter/j.jsonl")).unwrap_or_default().lines().count()
    }

    /// Runs until so many rows are written and so many letters are there, then stops.
    fn runs_until(&self, what: &str, reached: impl Fn() -> bool) {
        let mut child = millrace().args(["run", "t.yaml", "-q"]).current_dir(self.0.path()).stderr(Stdio::null()).spawn().expect("starts");
        until(what, || reached().then_some(()));
        // Whether it stopped well is told by its end: a job may be gone before its last answer is.
        self.call(&["stop", "t.yaml"]);
        assert!(child.wait().expect("ends").success());
    }
}

#[test]
fn a_job_that_has_finished_gets_a_run_of_its_own() {
    let p = Place::new("bounded");
    assert!(p.call(&["run", "t.yaml", "-q"]).status.success());
    assert_eq!((p.out().as_str(), p.letters()), (FIRST, 3));
    p.topology(&job("bounded", "string"));
    let words = p.replay(&["--reason", "wrong-type", "--dry-run"]);
    assert!(
        words.starts_with("2 of 2 dead letters go through job `j` again, by stream: `s` 2\na run of its own takes them now"),
        "{words}"
    );
    assert_eq!(p.out(), FIRST, "nothing is done by a dry run");
    assert_eq!(p.replay(&["--reason", "wrong-type"]), words);
    assert_eq!(p.out(), format!("{FIRST}{MENDED}"));
    // Never twice by accident, and the one that is no JSON is rejected again.
    let words = p.replay(&[]);
    assert!(words.contains("1 of 3 dead letters") && words.contains("2 were replayed before"), "{words}");
    assert_eq!((p.out(), p.letters()), (format!("{FIRST}{MENDED}"), 4));
    // On purpose.
    p.replay(&["--reason", "wrong-type", "--again"]);
    assert_eq!(p.out(), format!("{FIRST}{MENDED}{MENDED}"));
}

#[test]
fn a_job_that_is_stopped_takes_them_with_its_next_start_and_never_again() {
    let p = Place::new("follow");
    p.runs_until("the first rows", || p.out() == FIRST && p.letters() == 3);
    p.topology(&job("follow", "string"));
    let words = p.replay(&["--stream", "s", "--part", "s", "--reason", "wrong-type"]);
    assert!(words.contains("it reads them when it is started again") && words.contains("each has its effect once"), "{words}");
    p.runs_until("the mended rows", || p.out() == format!("{FIRST}{MENDED}"));
    let listed = text(&p.call(&["checkpoints", "inspect", "latest", "t.yaml"]).stdout);
    assert!(listed.contains("replay/") && listed.contains("position 2"), "{listed}");
    // A start later there is nothing left of them.
    write(p.0.path(), "in.jsonl", &format!("{INPUT}{{\"k\":\"e\",\"n\":5}}\n"));
    p.runs_until("a new row", || p.out().contains("\"e\""));
    assert_eq!(p.out(), format!("{FIRST}{MENDED}{{\"k\":\"e\",\"n\":\"5\"}}\n"));
    // From scratch the input itself gives them: a replay beside it would give them twice.
    p.replay(&["--again", "--reason", "wrong-type"]);
    let before = p.out();
    let mut child = millrace().args(["run", "t.yaml", "-q", "--from", "scratch"]).current_dir(p.0.path()).spawn().expect("starts");
    until("all rows once more", || (p.out().lines().count() >= 10).then_some(()));
    p.call(&["stop", "t.yaml"]);
    assert!(child.wait().expect("ends").success());
    let mut rows: Vec<String> = p.out()[before.len()..].lines().map(String::from).collect();
    rows.sort();
    rows.dedup();
    assert_eq!((rows.len(), p.out().lines().count()), (5, 10), "{rows:?}");
}

#[test]
fn a_running_job_takes_them_at_once_and_a_kill_neither_loses_nor_doubles_one() {
    let p = Place::new("follow");
    p.runs_until("the first rows", || p.out() == FIRST && p.letters() == 3);
    p.topology(&job("follow", "string"));
    let start = || millrace().args(["run", "t.yaml", "-q"]).current_dir(p.0.path()).stderr(Stdio::null()).spawn().expect("starts");
    let answers = || p.call(&["status", "t.yaml"]).status.success().then_some(());
    let mut child = start();
    until("the job", answers);
    let words = p.replay(&["--reason", "wrong-type"]);
    assert!(words.contains("the running job reads them now"), "{words}");
    child.kill().expect("killed");
    child.wait().expect("ends");
    let mut child = start();
    until("the mended rows", || (p.out() == format!("{FIRST}{MENDED}")).then_some(()));
    until("the job", answers);
    p.call(&["stop", "t.yaml"]);
    assert!(child.wait().expect("ends").success());
    assert_eq!(p.out(), format!("{FIRST}{MENDED}"));
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let p = Place::new("bounded");
    let o = p.call(&["replay", "t.yaml"]);
    assert!(o.status.code() == Some(3) && text(&o.stderr).contains("the dead letters cannot be read"), "{}", said(&o));
    let letter = |more: &str| format!("{{\"part\":\"s\",\"reason\":\"r\",\"stream\":\"s\",\"partition\":\"p\",\"hash\":\"1\",{more}}}\n");
    let cases = [
        ("\"offset\":1,\"length\":3,\"encoding\":\"json\",\"body\":\"{}\"", "behind an exchange"),
        ("\"offset\":2,\"length\":70000,\"encoding\":\"text\",\"body\":\"x\"", "64 KiB"),
        ("\"offset\":3,\"length\":1,\"encoding\":\"base64\",\"body\":\"?\"", "damaged"),
        ("\"offset\":4,\"length\":1,\"encoding\":\"text\",\"body\":\"x\",\"stream\":\"other\"", "no longer has its stream"),
    ];
    for (more, wanted) in cases {
        let line = letter(more);
        let line = if more.contains("other") { line.replacen("\"stream\":\"s\",", "", 1) } else { line };
        write(p.0.path(), "l.jsonl", &line);
        let words = p.replay(&["l.jsonl"]);
        assert!(words.starts_with("none of 1 dead letters can be replayed\n") && words.contains(wanted), "{words}");
    }
    write(p.0.path(), "l.jsonl", "{\"a\":1}\n");
    let o = p.call(&["replay", "t.yaml", "l.jsonl"]);
    assert!(o.status.code() == Some(4) && text(&o.stderr).contains("line 1 of l.jsonl is no dead letter"), "{}", said(&o));
    // What is no checkpoint is not passed over in silence.
    p.topology(&job("bounded", "string").replace("  checkpoint: {interval: 50ms, dir: state}\n", "  state_dir: state\n"));
    for args in
        [&["run", "t.yaml", "--from", "17"][..], &["run", "t.yaml", "--from", "yesterday"], &["checkpoints", "preview", "17", "t.yaml"]]
    {
        let o = p.call(args);
        assert!(o.status.code() == Some(1) && text(&o.stderr).contains("takes no checkpoints"), "{args:?} {}", said(&o));
    }
    // A sink that begins anew would lose what is there.
    p.topology(&job("bounded", "string").replace("path: out.jsonl", "path: out.jsonl, on_exists: truncate"));
    write(p.0.path(), "l.jsonl", &letter("\"offset\":5,\"length\":1,\"encoding\":\"text\",\"body\":\"x\""));
    let o = p.call(&["replay", "t.yaml", "l.jsonl"]);
    assert!(o.status.code() == Some(1) && text(&o.stderr).contains("begins its file anew"), "{}", said(&o));
}
