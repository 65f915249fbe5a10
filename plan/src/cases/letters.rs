//! What a test expects of the dead letter: its fields, and reasons that some part gives.

use crate::diagnostic::{Found, Report};
use crate::wiring::Graph;
use crate::yaml::{Content, Node};
use millrace_sdk::Reject;
use millrace_sdk::problem::did_you_mean;

/// Reasons for which sources, operators, sinks and the engine reject rows. Ports that nobody reads are reasons too (`late`).
const REASONS: &[&str] = &[
    "bad-quoting",
    "column-count",
    "damaged-file",
    "division-by-zero",
    "filtered",
    "implausible-event-time",
    "invalid-answer",
    "invalid-argument",
    "invalid-base64",
    "invalid-cast",
    "invalid-csv",
    "invalid-encoding",
    "invalid-escape",
    "invalid-hex",
    "invalid-json",
    "invalid-key",
    "invalid-number",
    "invalid-path",
    "invalid-pattern",
    "invalid-regex",
    "invalid-row-key",
    "invalid-text",
    "invalid-time",
    "invalid-topic",
    "invalid-utf8",
    "key-not-scalar",
    "late",
    "message-refused",
    "message-too-large",
    "missing-column",
    "missing-field",
    "missing-key",
    "no-cells",
    "no-event-time",
    "no-fields",
    "no-letter",
    "no-match",
    "not-a-number",
    "not-a-time",
    "not-an-ip",
    "not-an-object",
    "out-of-range",
    "overflow",
    "record-too-long",
    "refused",
    "refused-by-clickhouse",
    "refused-by-hbase",
    "refused-by-redis",
    "store-unavailable",
    "template-failed",
    "too-deep",
    "too-far-in-future",
    "too-large",
    "too-many-columns",
    "topic-not-permitted",
    "unknown-column",
    "unknown-time-zone",
    "unknown-topic",
    "value-does-not-fit",
    "wrong-argument",
    "wrong-field-count",
    "wrong-type",
];

/// Looks at what is expected: fields that a dead letter does not have, and reasons that look like a known one misspelt.
pub(super) fn check(report: &mut Report, node: &Node, graph: &Graph) {
    let schema = Reject::schema();
    let fields: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
    let ports = graph.items.iter().flat_map(|i| i.ports.iter().flatten().map(|p| &*p.name)).filter(|p| !p.is_empty());
    let reasons: Vec<&str> = REASONS.iter().copied().chain(ports).collect();
    let reason = |report: &mut Report, node: &Node| {
        let Some(text) = node.text().filter(|t| !reasons.contains(t)) else { return };
        if let Some(near) = did_you_mean(text, reasons.iter().copied()) {
            let found = Found::warning("unknown-value", node.span, format!("no row is rejected as `{text}`: this cannot hold"));
            report.push(found.sure(text, reasons.iter().copied()).suggest(Some(near)));
        }
    };
    let lists = ["exact", "unordered", "subset"].into_iter().filter_map(|key| node.get(key)).chain([node]);
    for row in lists.flat_map(Node::items) {
        if matches!(row.content, Content::Scalar(_)) {
            reason(report, row);
        }
        for e in row.entries() {
            if e.key == "reason" {
                reason(report, &e.value);
            } else if !fields.contains(&e.key.as_str()) {
                let message = format!("a dead letter has no field `{}`: this cannot hold", e.key);
                let found = Found::warning("unknown-field", e.key_span, message);
                let found = found.suggest(did_you_mean(&e.key, fields.iter().copied()));
                report.push(found.hint(format!("the fields are {}", fields.join(", "))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::REASONS;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, out);
            } else if entry.extension().is_some_and(|e| e == "rs") && !entry.to_string_lossy().contains("test") {
                out.push(entry);
            }
        }
    }

    /// What the code rejects rows by, as far as it is written beside the call, is in the list.
    #[test]
    fn reasons_are_complete_and_sorted() {
        assert!(REASONS.is_sorted());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = vec![];
        for of in ["sdk", "expr", "formats", "engine", "operators", "connectors", "durable", "state"] {
            sources(&root.join(of).join("src"), &mut files);
        }
        let mut seen = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            for call in ["Reject::new(\"", "Reject::row(\"", ".reject(\"", " fail(\""] {
                for (at, _) in text.match_indices(call) {
                    let reason = text[at + call.len()..].split('"').next().unwrap();
                    // `Requeue` gives its rows the names of its ports.
                    assert!(REASONS.contains(&reason) || reason == "round", "{}: {reason}", file.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 40, "{seen}");
    }
}
