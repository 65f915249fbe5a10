//! What `deploy/` has is what the executable understands.

use super::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

fn flags() -> BTreeSet<String> {
    let help = text(&millrace().args(["run", "--help"]).output().expect("runs").stdout).to_string();
    help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|w| w.starts_with("--")).map(String::from).collect()
}

fn check(arg: &str, known: &BTreeSet<String>) {
    if let Some(flag) = arg.split('=').next().filter(|a| a.starts_with("--")) {
        assert!(known.contains(flag), "`millrace run` has no {flag}");
    }
}

fn file(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).expect("a file of deploy/")
}

#[test]
fn kubernetes() {
    let docs: Vec<Value> = file("kubernetes.yaml").split("\n---\n").map(|d| serde_yaml::from_str(d).expect("YAML")).collect();
    let of = |kind: &str| docs.iter().find(|d| d["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let set = &of("StatefulSet")["spec"];
    let pod = &set["template"]["spec"];
    let container = &pod["containers"][0];
    let known = flags();
    let args: Vec<&str> = container["args"].as_array().expect("args").iter().map(|a| a.as_str().expect("text")).collect();
    args.iter().for_each(|a| check(a, &known));
    assert_eq!(args[0], "run");
    let config = &of("ConfigMap")["data"];
    assert_eq!(config["hosts"].as_str().expect("hosts").lines().count() as u64, set["replicas"].as_u64().expect("replicas"));
    assert_eq!(of("Service")["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let probe = |name: &str| container[name]["httpGet"]["path"].as_str().map(String::from);
    assert_eq!([probe("livenessProbe"), probe("readinessProbe")], [Some("/healthz".into()), Some("/readyz".into())]);
    let dir = tempfile::tempdir().expect("tempdir");
    let job = write(dir.path(), "job.yaml", config["job.yaml"].as_str().expect("a topology"));
    let o = millrace().arg("lint").arg(job).output().expect("runs");
    assert!(o.status.success(), "{}", said(&o));
}

#[test]
fn systemd() {
    let (unit, known) = (file("millrace@.service"), flags());
    let start = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("ExecStart");
    let args = unit.lines().find_map(|l| l.strip_prefix("#   ARGS=")).expect("ARGS");
    assert!(start.starts_with("/usr/local/bin/millrace run "));
    start.split(' ').chain(args.split(' ')).for_each(|a| check(a, &known));
    assert!(unit.lines().all(|l| l.is_empty() || l.starts_with(['#', '[']) || l.contains('=')));
}

#[test]
fn container() {
    let text = file("Containerfile");
    let last = |what: &str| text.lines().filter_map(|l| l.strip_prefix(what)).next_back().map(str::trim);
    assert_eq!((last("USER "), last("ENTRYPOINT ")), (Some("10001:10001"), Some("[\"millrace\"]")));
    let rust = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let version = rust.lines().find_map(|l| l.strip_prefix("rust-version = ")).expect("rust-version").trim_matches('"').to_string();
    assert!(text.contains(&format!("FROM rust:{version}-slim-bookworm")));
}
