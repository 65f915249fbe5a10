//! Rules of the house that a machine can hold.

use super::*;
use std::collections::BTreeSet;

/// Of this platform's packages: those of others need not have been fetched.
fn metadata() -> serde_json::Value {
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-vV").output().expect("rustc");
    let host = text(&rustc.stdout).lines().find_map(|l| l.strip_prefix("host: ").map(str::to_string)).expect("a host");
    let o = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host])
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(o.status.success(), "{}", said(&o));
    serde_json::from_slice(&o.stdout).expect("JSON")
}

/// Arrows between crates point down only.
#[test]
fn crates_know_only_what_they_may() {
    let allowed = |name: &str| -> &[&str] {
        match name {
            "millrace-sdk" => &[],
            "millrace-expr" | "millrace-formats" => &["millrace-sdk"],
            "millrace-operators" | "millrace-connectors" => &["millrace-sdk", "millrace-expr", "millrace-formats"],
            "millrace-plan" => &["millrace-sdk", "millrace-expr", "millrace-formats"],
            "millrace-durable" | "millrace-state" => &["millrace-sdk"],
            "millrace-console" => &["millrace-sdk", "millrace-plan"],
            "millrace-engine" => &["millrace-sdk", "millrace-plan", "millrace-durable"],
            "millrace-testing" => &["millrace-sdk", "millrace-plan", "millrace-engine"],
            other => panic!("{other}: say in tests/it/tidy.rs and ARCHITECTURE.md what this crate may know"),
        }
    };
    for package in metadata()["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name");
        if !package["source"].is_null() || name == "millrace" {
            continue;
        }
        for d in package["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"].is_null()) {
            let dep = d["name"].as_str().expect("name");
            if dep.starts_with("millrace") {
                assert!(allowed(name).contains(&dep), "{name} may not know {dep}");
            }
            assert!(dep != "timely" || name == "millrace-engine", "only the engine names timely, {name} does too");
            assert!(name != "millrace-sdk" || !["tokio", "futures"].contains(&dep), "the sdk knows no async runtime");
        }
    }
}

/// Licences of everything that is linked are MIT or Apache-2.0 compatible.
#[test]
fn licences_are_compatible() {
    const FINE: &[&str] = &[
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unlicense",
        "CC0-1.0",
        "BSL-1.0",
        "Unicode-3.0",
        "MIT-0",
        "Unicode-DFS-2016",
        "CDLA-Permissive-2.0",
    ];
    for package in metadata()["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name");
        let licence = package["license"].as_str().unwrap_or("");
        let fine = licence
            .replace('/', " OR ")
            .split(" OR ")
            .any(|alternative| alternative.split(" AND ").all(|l| FINE.contains(&l.trim().trim_matches(['(', ')']).trim())));
        assert!(fine, "{name} has the licence `{licence}`");
    }
}

/// Files of the repository with their text.
fn sources() -> Vec<(String, String)> {
    let o = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git");
    text(&o.stdout)
        .lines()
        .filter(|f| !f.ends_with(".lock") && !f.starts_with("LICENSE"))
        .filter_map(|f| std::fs::read_to_string(root().join(f)).ok().map(|t| (f.to_string(), t)))
        .collect()
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for (file, text) in sources().iter().filter(|(f, _)| f.ends_with(".rs") && !f.starts_with("bench/")) {
        assert!(text.lines().count() <= 800, "{file} has {} lines", text.lines().count());
    }
}

/// The clock is injected: only `sdk/src/clock.rs` reads the time of day.
#[test]
fn nothing_else_reads_the_clock() {
    let word = ["System", "Time::now"].concat();
    let found: BTreeSet<_> =
        sources().into_iter().filter(|(f, t)| f.ends_with(".rs") && f != "sdk/src/clock.rs" && t.contains(&word)).map(|(f, _)| f).collect();
    assert!(found.is_empty(), "{found:?} read the clock: use millrace_sdk::Clock");
}

/// `explain` has a page for every id that lint can tell, as far as the code writes it out.
#[test]
fn every_problem_has_a_page() {
    let makers = ["Problem::", "Found::"].iter().flat_map(|t| ["error(", "warning(", "note("].map(|m| format!("{t}{m}")));
    let makers: Vec<String> = makers.chain([".issue(".into(), "Issue { id: ".into()]).collect();
    let mut ids = BTreeSet::new();
    for (file, text) in sources() {
        let is_test = file.contains("tests") || file.contains("testing");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (at, maker) in makers.iter().flat_map(|m| code.match_indices(m.as_str())).filter(|_| file.ends_with(".rs") && !is_test) {
            let id = code[at + maker.len()..].trim_start().strip_prefix('"').and_then(|t| t.split('"').next());
            ids.extend(id.map(String::from));
        }
    }
    assert!(ids.len() > 90, "{}", ids.len());
    let without: Vec<_> = ids.iter().filter(|id| millrace_plan::ids::page(id).is_none()).collect();
    assert!(without.is_empty(), "plan/src/ids.rs has no page for {without:?}");
    let pages = millrace_plan::ids::PAGES;
    assert!(pages.is_sorted_by(|a, b| a.id < b.id), "the table is sorted by id");
    let o = millrace().args(["explain", "order-lost-before-count-window"]).output().expect("runs");
    assert!(o.status.success() && text(&o.stdout).contains("Fix: "), "{}", said(&o));
}

#[test]
fn no_unfinished_places() {
    let words = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    for (file, text) in sources().iter().filter(|(f, _)| f.ends_with(".rs")) {
        for w in &words {
            assert!(!text.contains(w.as_str()), "{file} has an unfinished place: {w}");
        }
    }
}
