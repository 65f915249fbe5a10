//! What a run says: the progress line, the table at the end, the JSON of `--summary`.

use crate::exit::Exit;
use millrace_engine::Summary;
use millrace_engine::summary::{FaultSummary, NodeSummary};
use serde_json::{Value, json};
use std::fmt::Write;

/// The summary as `--summary FILE` writes it; its keys are documented in the README and stable.
/// `restarts`: how often the job was restarted before this run.
pub fn to_json(s: &Summary, exit: Exit, restarts: u32) -> Value {
    let part = |n: &NodeSummary| {
        let ports: serde_json::Map<String, Value> =
            n.ports.iter().map(|p| (if p.name.is_empty() { "main".to_string() } else { p.name.clone() }, p.records.into())).collect();
        json!({
            "name": n.name, "type": n.part, "kind": n.kind, "in": n.records_in, "inputs": n.inputs, "out": n.records_out, "ports": ports, "bytes": n.bytes,
            "rejected": n.rejected, "dropped": n.dropped, "counters": n.counters, "watermark": n.watermark,
        })
    };
    json!({
        "job": s.job,
        "exit_code": exit as u8,
        "ended": s.ended,
        "workers": s.workers,
        "restarts": restarts,
        "elapsed_seconds": s.elapsed_seconds,
        "records_per_second": s.records_per_second,
        "in": s.records_in,
        "out": s.records_out,
        "rejected": s.rejected,
        "lost": s.lost,
        "latency": s.latency,
        "parts": s.nodes.iter().map(part).collect::<Vec<_>>(),
        "sources": s.sources,
        "stores": s.stores,
        "fault": s.fault,
    })
}

/// A fault in the grammar of messages: what, detail, hint.
pub fn fault(f: &FaultSummary) -> String {
    let more = |name: &str, text: &Option<String>| text.as_ref().map_or(String::new(), |t| format!("\n  {name}: {t}"));
    format!("{}{}{}", f.message, more("Detail", &f.detail), more("Hint", &f.hint))
}

/// A number that a person can read: 12,345,678.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The table that ends a run on a terminal.
pub fn table(s: &Summary) -> String {
    let mut t = String::new();
    let width = s.nodes.iter().map(|n| n.name.len()).max().unwrap_or(4).max(4);
    let _ = writeln!(t, "{:width$}  {:>13}  {:>13}  {:>10}  {:>10}  ", "part", "in", "out", "rejected", "dropped");
    for n in &s.nodes {
        let rejected: u64 = n.rejected.values().sum();
        let dropped: u64 = n.dropped.values().sum();
        let mut notes: Vec<String> = Vec::new();
        let named: Vec<_> = n.ports.iter().filter(|p| p.records > 0 && p.name != "errors").collect();
        if named.iter().any(|p| !p.name.is_empty()) {
            notes.extend(named.iter().map(|p| format!("{} {}", if p.name.is_empty() { "main" } else { &p.name }, thousands(p.records))));
        }
        for (names, what) in [(&n.rejected, ""), (&n.dropped, ""), (&n.counters, "")] {
            notes.extend(names.iter().map(|(k, v)| format!("{what}{k} {}", thousands(*v))));
        }
        let number = |v: u64, always: bool| if v > 0 || always { thousands(v) } else { String::new() };
        let line = format!(
            "{:width$}  {:>13}  {:>13}  {:>10}  {:>10}  {}",
            n.name,
            number(n.records_in, n.kind != "source"),
            number(n.records_out, n.kind != "sink"),
            number(rejected, false),
            number(dropped, false),
            notes.join(", ")
        );
        let _ = writeln!(t, "{}", line.trim_end());
    }
    for store in &s.stores {
        let saved = store.cache_hits + store.shared;
        let _ = writeln!(
            t,
            "look-ups in {}: {} asked, {} saved by cache and sharing, {} calls, {} errors",
            store.name,
            thousands(store.lookups),
            thousands(saved),
            thousands(store.calls),
            thousands(store.errors)
        );
    }
    for n in s.nodes.iter().filter(|n| n.part == "IntervalLeftJoin") {
        let count = |name: &str| n.counters.get(name).copied().unwrap_or(0);
        let (matched, fallback, unmatched) = (count("matched"), count("by_fallback"), count("unmatched"));
        let left = matched + fallback + unmatched;
        if left > 0 {
            let _ = writeln!(
                t,
                "join rate of {}: {:.1} % ({:.1} % in the interval, {:.1} % by look-up); {} look-ups saved",
                n.name,
                100.0 * (matched + fallback) as f64 / left as f64,
                100.0 * matched as f64 / left as f64,
                100.0 * fallback as f64 / left as f64,
                thousands(matched)
            );
        }
    }
    let _ = writeln!(
        t,
        "{} records in, {} out, {} rejected, {} lost; {:.1} s, {} records/s",
        thousands(s.records_in),
        thousands(s.records_out),
        thousands(s.rejected),
        thousands(s.lost),
        s.elapsed_seconds,
        thousands(s.records_per_second as u64)
    );
    t
}
