//! What lint prints for other programs: GitHub's annotations and SARIF.

use crate::diagnostic::{Diagnostic, Edit};
use crate::ids;
use millrace_sdk::Severity;
use serde_json::{Map, Value, json};
use std::fmt::Write;

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// The message with what is suggested and the hint.
fn whole(d: &Diagnostic) -> String {
    let mut out = d.message.clone();
    if let Some(s) = &d.suggestion {
        let _ = write!(out, "; did you mean `{s}`?");
    }
    if let Some(h) = &d.hint {
        let _ = write!(out, "\n{h}");
    }
    out
}

/// GitHub's workflow commands: annotations at the lines of a pull request.
pub fn github(diagnostics: &[Diagnostic]) -> String {
    let text = |t: &str| t.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |t: &str| text(t).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for d in diagnostics {
        let command = if d.severity == Severity::Note { "notice" } else { level(d.severity) };
        // Columns are shown only within one line.
        let columns = if d.end_line == d.line { format!(",col={},endColumn={}", d.column, d.end_column) } else { String::new() };
        let _ = writeln!(
            out,
            "::{command} file={},line={},endLine={}{columns},title={}::{}",
            property(&d.file),
            d.line,
            d.end_line,
            property(&d.id),
            text(&whole(d))
        );
    }
    out
}

/// SARIF 2.1.0, one run; columns count characters.
pub fn sarif(diagnostics: &[Diagnostic]) -> String {
    let mut names: Vec<&str> = diagnostics.iter().map(|d| d.id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let rule = |id: &&str| {
        let mut rule = json!({"id": id});
        if let Some(p) = ids::page(id) {
            rule["shortDescription"] = json!({"text": p.what});
            rule["fullDescription"] = json!({"text": p.why});
            rule["help"] = json!({"text": p.fix});
        }
        rule
    };
    let result = |d: &Diagnostic| {
        let mut location = place(&d.file, region(d.line, d.column, d.end_line, d.end_column));
        if !d.snippet.is_empty() {
            location["contextRegion"] = json!({"startLine": d.line, "snippet": {"text": d.snippet}});
        }
        let mut out = json!({
            "ruleId": d.id,
            "ruleIndex": names.binary_search(&d.id.as_str()).unwrap_or_default(),
            "level": level(d.severity),
            "message": {"text": whole(d)},
            "locations": [{"physicalLocation": location}],
        });
        if let Some(s) = &d.second {
            let place = place(&s.file, region(s.line, s.column, s.line, s.column));
            out["relatedLocations"] = json!([{"id": 1, "physicalLocation": place, "message": {"text": s.message}}]);
        }
        if !d.fix.is_empty() {
            let replacement = |e: &Edit| json!({"deletedRegion": region(e.line, e.column, e.end_line, e.end_column), "insertedContent": {"text": e.text}});
            let change =
                json!({"artifactLocation": {"uri": uri(&d.file)}, "replacements": d.fix.iter().map(replacement).collect::<Vec<_>>()});
            out["fixes"] = json!([{"description": {"text": "what was meant"}, "artifactChanges": [change]}]);
        }
        out
    };
    let mut driver: Map<String, Value> = Map::new();
    driver.insert("name".into(), "millrace".into());
    driver.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    driver.insert("rules".into(), names.iter().map(rule).collect::<Vec<_>>().into());
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": diagnostics.iter().map(result).collect::<Vec<_>>()}],
    });
    serde_json::to_string_pretty(&log).unwrap_or_default() + "\n"
}

fn region(line: usize, column: usize, end_line: usize, end_column: usize) -> Value {
    json!({"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column})
}

fn place(file: &str, region: Value) -> Value {
    json!({"artifactLocation": {"uri": uri(file)}, "region": region})
}

/// A path as a relative or absolute URI reference.
fn uri(path: &str) -> String {
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    }
    for b in path.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(b as char),
            _ => drop(write!(out, "%{b:02X}")),
        }
    }
    out
}
