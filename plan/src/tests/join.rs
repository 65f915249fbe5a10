use super::{lint, plan};
use crate::plan::NodeKind;
use millrace_sdk::convert::TimeFormat;
use std::time::Duration;

const JOB: &str = r#"name: exposure-click
run_env: {time_characteristic: EventTime}
stores:
  exposures: {type: Table, config: {key: "{{uid}}_{{os}}"}}
streams:
  clicks:
    config:
      source: {type: Feed}
      operates:
        - {type: StringToMap, config: {format: delimiter, delimiter: "\t", fields: {uid: string, os: string, ts: bigint, price: "decimal(18,2)"}}}
      watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 5s, idle_after: 30s}
  imps:
    config:
      source: {type: Feed}
      operates:
        - {type: StringToMap, config: {format: json, fields: {uid: string, ts: bigint, pos: bigint}}}
      watermark: {field: ts, format: epoch_s}
  again:
    config: {role: retry, source: {type: Feed, config: {delay: 1m}}}
transforms:
  - type: IntervalLeftJoin
    name: joined
    left: clicks
    right: imps
    retry: again
    config: {keys: [uid], lower: -10s, upper: 2s, matches: all, fallback: exposures, right_fields: {pos: pos, imp_ts: ts}, unmatched: port}
  - {type: Requeue, name: requeue, input: joined.unmatched, config: {max_attempts: 5, max_age: 24h}}
  - {type: KeyBy, name: by_os, input: joined, config: {keys: [os]}}
sink:
  - {type: Out, name: all, input: joined}
  - {type: Null, input: requeue.again}
  - {type: Out, input: [requeue.given_up, joined.late]}
  - {type: Out, input: clicks.errors}
  - {type: Out, input: by_os, config: {needs: pos}}
"#;

#[test]
fn the_main_job_is_planned() {
    let plan = plan(JOB);
    let index = |name: &str| plan.nodes.iter().position(|n| n.name == name).unwrap_or_else(|| panic!("{name}"));
    assert!(index("clicks") < index("again") && index("again") < index("joined"));
    let joined = &plan.nodes[index("joined")];
    let inputs: Vec<(usize, usize)> = joined.inputs.iter().map(|i| (i.from.node.0, i.index)).collect();
    assert_eq!(inputs, [(index("clicks"), 0), (index("imps"), 1), (index("again"), 2)]);
    assert_eq!(joined.ports.iter().map(|(p, _)| p.name.as_str()).collect::<Vec<_>>(), ["", "unmatched", "late", "errors"]);
    let NodeKind::Operator(op) = &joined.kind else { panic!() };
    assert_eq!(op.stores.iter().map(|s| (s.name.as_str(), s.part)).collect::<Vec<_>>(), [("exposures", "Table")]);

    let source = |name: &str| match &plan.nodes[index(name)].kind {
        NodeKind::Source(s) => s,
        _ => panic!("{name}"),
    };
    let w = source("clicks").watermark.as_ref().unwrap();
    let field = |name: &str, slot| plan.nodes[index(name)].ports[0].1.schema.field(slot).name.to_string();
    assert_eq!((field("clicks", w.field), &w.format), ("ts".into(), &TimeFormat::EpochMs));
    assert_eq!(
        (w.max_out_of_orderness, w.max_future, w.idle_after),
        (Duration::from_secs(5), Duration::from_secs(86400), Some(Duration::from_secs(30)))
    );
    assert_eq!(source("imps").watermark.as_ref().unwrap().format, TimeFormat::EpochS);

    // Retried rows have the left input's fields, its time, and what Requeue counts.
    let again = source("again");
    assert!(again.retry && !source("clicks").retry);
    assert_eq!(again.operates.iter().map(|o| o.part).collect::<Vec<_>>(), ["StringToMap"]);
    let schema = &plan.nodes[index("again")].ports[0].1.schema;
    let left = &plan.nodes[index("clicks")].ports[0].1.schema;
    let visible = |s: &millrace_sdk::Schema| s.visible().map(|(_, f)| format!("{} {}", f.name, f.ty)).collect::<Vec<_>>();
    assert_eq!(visible(schema), visible(left));
    assert!(schema.slot("_attempts").is_some());
    assert_eq!(field("again", again.watermark.as_ref().unwrap().field), "ts");
    // An input a sink.
    let NodeKind::Sink(_) = &plan.nodes[index("sink_2")].kind else { panic!() };
    assert_eq!(plan.nodes[index("sink_2")].inputs.iter().map(|i| i.index).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn what_can_be_wrong_with_a_join() {
    let mut wrong = String::new();
    for (from, to, expected) in [
        ("    retry: again\n", "", "18:3: error[unread-output] no join reads the retry stream `again`\n"),
        (
            "retry: again",
            "retry: imps",
            "18:3: error[unread-output] no join reads the retry stream `again`\n25:12: error[not-a-retry-stream] `imps` is no retry stream\n",
        ),
        ("left: clicks", "left: again", "23:11: error[not-a-retry-stream] `again` is a retry stream: only a join's `retry` reads it\n"),
        ("    left: clicks\n", "", "21:11: error[missing-key] the key `left` is missing: a join names both its inputs\n"),
        ("fallback: exposures", "fallback: exposure", "unknown-store"),
        ("role: retry, ", "role: rety, ", "19:20: error[unknown-value] unknown role; did you mean `retry`?\n"),
        ("      watermark: {field: ts, format: epoch_s}\n", "", "missing-watermark"),
        ("field: ts, format: epoch_ms", "field: tss, format: epoch_ms", "error[unknown-field] unknown field `tss`; did you mean `ts`?\n"),
        ("format: epoch_s}", "format: epoch_sec}", "17:38: error[bad-time-format]"),
        ("matches: all", "matches: first", "note[join-depends-on-order]"),
        ("- {type: Out, input: by_os, config: {needs: pos}}", "", "warning[unread-output] nobody reads `by_os`"),
        ("- {type: Null, input: requeue.again}", "", "warning[unread-output] nobody reads `requeue.again`"),
        ("needs: pos", "needs: poss", "error[unknown-field] unknown field `poss`"),
        ("max_attempts: 5", "max_attempts: \"5\"", "error[wrong-type] expected a whole number, found a text; did you mean `5`?\n"),
        ("joined.late]", "joined.lat]", "error[unknown-port] `joined` has no port `lat`; did you mean `late`?\n"),
        ("right_fields: {pos: pos,", "right_fields: {uid: pos,", "field-clash"),
        ("role: retry,", "role: retry, operates: [{type: StringToMap}],", "error[operates-on-retry] a retry stream has no `operates`\n"),
        (
            "streams:\n",
            "streams:\n  x: {config: {source: {type: Feed}}}\n",
            "6:3: warning[unread-output] nobody reads `x`: its rows are dropped and counted\n",
        ),
        ("stores:\n", "stores:\n  x: {type: Table, config: {key: a}}\n", "4:3: warning[unused-store] no part looks anything up in `x`\n"),
    ] {
        assert!(JOB.contains(from), "{from}");
        let got = lint(&JOB.replacen(from, to, 1));
        if !got.contains(expected) {
            wrong.push_str(&format!("{from} -> {to}\n{got}-- expected\n{expected}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn steps_of_a_stream_are_stateless() {
    for (step, expected) in [
        ("{type: KeyBy, config: {keys: [uid]}}", "not-stateless-in-operates"),
        ("{type: Union}", "not-stateless-in-operates"),
        ("{type: Dedup, config: {keys: [uid]}}", "not-stateless-in-operates"),
        ("{type: Requeue, config: {max_attempts: 1}}", "not-stateless-in-operates"),
        ("{type: StringToMap, input: x}", "error[unknown-key] unknown key `input`"),
        ("{type: StringToMap, config: {format: jsn}}", "error[unknown-value] unknown value `jsn`; did you mean `json`?"),
    ] {
        let text = format!(
            "streams:\n  in:\n    config:\n      source: {{type: Feed, config: {{fields: {{uid: string, _value: string}}}}}}\n      operates:\n        - {step}\nsink:\n  - {{type: Out}}\n"
        );
        let got = lint(&text);
        assert!(got.starts_with("6:") && got.contains(expected), "{step}\n{got}");
    }
}
