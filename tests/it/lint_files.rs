//! `millrace lint` on files, folders and standard input: all problems in one run, sorted; fixes written whole.

use super::*;
use std::io::Write;
use std::process::Stdio;

const WRONG: &str = "\
name: wrong # stays
streams:
  in: {config: {source: {type: Inlne, config: {lines: ['{}']}}}} # stays too
sink:
  - {type: Stdout, config: {formt: json}}
";

fn lint(args: &[&str], dir: &Path) -> Output {
    millrace().arg("lint").args(args).current_dir(dir).output().expect("runs")
}

#[test]
pub fn all_files_in_one_run() {
    let tmp = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(tmp.path().join("sub")).expect("folder");
    for name in ["sub/b.yaml", "a.yaml", "sub/c.yml"] {
        write(tmp.path(), name, WRONG);
    }
    write(tmp.path(), "other.yaml", "not: a topology\n");
    let o = lint(&["--format", "concise", "."], tmp.path());
    assert_eq!(o.status.code(), Some(1), "{}", said(&o));
    let out = text(&o.stdout);
    let files: Vec<&str> = out.lines().filter_map(|l| l.split(':').next()).collect();
    assert_eq!(files, ["./a.yaml", "./a.yaml", "./sub/b.yaml", "./sub/b.yaml", "./sub/c.yml", "./sub/c.yml"], "{out}");
    let o = lint(&["--format", "sarif", "."], tmp.path());
    let log: serde_json::Value = serde_json::from_slice(&o.stdout).expect("JSON");
    assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(6), "{}", said(&o));
}

#[test]
pub fn standard_input() {
    let mut child = millrace()
        .args(["lint", "--format", "concise", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("a pipe").write_all(WRONG.as_bytes()).expect("written");
    let o = child.wait_with_output().expect("ends");
    assert_eq!(o.status.code(), Some(1), "{}", said(&o));
    assert!(text(&o.stdout).starts_with("<stdin>:3:32: error[unknown-part]"), "{}", said(&o));
}

#[test]
pub fn fixes_are_shown_and_written() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let file = write(tmp.path(), "a.yaml", WRONG);
    let o = lint(&["--diff", "a.yaml"], tmp.path());
    let diff = text(&o.stdout);
    assert!(diff.starts_with("--- a.yaml\n+++ a.yaml\n@@ -1,5 +1,5 @@\n"), "{diff}");
    assert_eq!(diff.lines().filter(|l| l.starts_with('+')).count(), 3, "{diff}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), WRONG);

    let o = lint(&["--fix", "a.yaml"], tmp.path());
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    assert!(text(&o.stderr).contains("2 problems mended"), "{}", said(&o));
    let want = WRONG.replace("Inlne", "Inline").replace("formt", "format");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), want);
    assert_eq!(std::fs::read_dir(tmp.path()).expect("folder").count(), 1, "nothing is left beside the file");
}
