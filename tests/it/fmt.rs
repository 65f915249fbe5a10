//! `millrace fmt`: what a text means does not change, however it was written.

use super::corpus::{cases, pages};
use super::*;
use millrace_plan::Options;

/// What lint says, sorted, and the plan: its parts, who reads whom, and the fields between them.
fn planned(text: &str, dir: &Path) -> (Vec<String>, Option<String>) {
    let planned = millrace_plan::load_text("job.yaml", text, dir, &Options::default());
    let mut said: Vec<String> = planned.diagnostics.iter().map(|d| format!("{} {}", d.id, d.message)).collect();
    said.sort();
    let picture = format!("{:?}", planned.graph);
    let plan = planned.plan.map(|p| {
        let nodes: Vec<_> = p.nodes.iter().map(|n| (&n.name, n.part, &n.inputs, n.parallelism)).collect();
        format!("{nodes:?} {picture} {:?} {:?} {:?} {:?}", p.checkpoint, p.restart, p.guards, p.parallelism)
    });
    (said, plan)
}

/// The plan of a formatted text is that of the original, on the whole corpus and all topologies; texts that are no YAML stay as they are.
#[test]
fn what_is_formatted_means_the_same() {
    let mut texts: Vec<(String, PathBuf)> = vec![];
    for page in pages() {
        texts.extend(cases(&std::fs::read_to_string(page).expect("page")).into_iter().map(|c| (c.text, root().join("plan/corpus"))));
    }
    for dir in std::fs::read_dir(root().join("topologies")).expect("topologies").map(|e| e.expect("an entry").path()) {
        texts.push((std::fs::read_to_string(dir.join("topology.yaml")).expect("a topology"), dir));
    }
    let mut formatted = 0;
    for (text, dir) in &texts {
        let Ok(new) = millrace_plan::fmt::format("job.yaml", text) else { continue };
        formatted += 1;
        assert_eq!(planned(text, dir), planned(&new, dir), "{text}\n---\n{new}");
        assert_eq!(millrace_plan::fmt::format("job.yaml", &new).expect("YAML"), new, "{text}");
    }
    assert!(formatted > 200, "{formatted}");
}

#[test]
fn files_are_written_checked_and_refused() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let ugly = "sink:\n- {type: \"Stdout\"}   # out\nstreams:\n    in: {config: {source: {type: Inline, config: {lines: [a]}}}}\n";
    let good = "streams:\n  in: {config: {source: {type: Inline, config: {lines: [a]}}}}\nsink:\n  - {type: Stdout}   # out\n";
    let file = write(tmp.path(), "job.yaml", ugly);
    let broken = write(tmp.path(), "broken.yaml", "streams:\n  a: [1\n b: {{\n");
    let fmt = |args: &[&str]| millrace().arg("fmt").args(args).current_dir(tmp.path()).output().expect("runs");
    let o = fmt(&["--check", "job.yaml"]);
    assert_eq!((o.status.code(), text(&o.stdout).as_str()), (Some(1), "job.yaml\n"), "{}", said(&o));
    let o = fmt(&["--diff", "job.yaml"]);
    assert!(o.status.code() == Some(1) && text(&o.stdout).contains("+  - {type: Stdout}   # out\n"), "{}", said(&o));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), ugly);
    let o = fmt(&["."]);
    assert_eq!(o.status.code(), Some(1), "{}", said(&o));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), good);
    assert!(text(&o.stderr).contains("error[syntax]"), "{}", said(&o));
    assert_eq!(std::fs::read_to_string(&broken).expect("there"), "streams:\n  a: [1\n b: {{\n");
    assert!(fmt(&["--check", "job.yaml"]).status.success());
    let mut child =
        millrace().args(["fmt", "-"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), ugly.as_bytes()).expect("written");
    assert_eq!(text(&child.wait_with_output().expect("ends").stdout), good);
}

#[test]
fn what_the_repository_ships_is_formatted() {
    let o = millrace().args(["fmt", "--check", "topologies", "templates"]).current_dir(root()).output().expect("runs");
    assert!(o.status.success(), "millrace fmt topologies templates\n{}", said(&o));
}
