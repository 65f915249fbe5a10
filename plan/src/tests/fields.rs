use super::{lint, plan, plan_with};
use crate::diagnostic;

/// Expressions and templates are told with their inner place, however YAML writes them.
#[test]
fn places_in_expressions() {
    let mut wrong = String::new();
    for (step, expected) in [
        ("{type: Filter, config: {where: pricee > 1}}", "6:42: error[unknown-field] unknown field `pricee`; did you mean `price`?"),
        (
            "{type: Filter, config: {where: \"uid = 'x' and pricee > 1\"}}",
            "6:57: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "{type: Filter, config: {where: 'uid = ''x'' and pricee > 1'}}",
            "6:59: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "{type: Filter, config: {where: \"uid = '\\t' and pricee > 1\"}}",
            "6:58: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "type: Filter\n          config:\n            where: >\n              price > 1\n              and pricee > 2",
            "10:19: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "type: Filter\n          config:\n            where: price > 1\n              and pricee > 2",
            "9:19: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "{type: Map, config: {set: {x: lowr(uid), y: pricee}}}",
            "6:41: error[unknown-function] unknown function `lowr`; did you mean `lower`?\n6:55: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "{type: TemplateExtract, config: {fields: {x: \"{{lower uidd}}\"}}}",
            "6:65: error[unknown-field] unknown field `uidd`; did you mean `uid`?",
        ),
        (
            "{type: TemplateExtract, config: {fields: {x: \"{{lowr uid}}\"}}}",
            "6:59: error[unknown-helper] unknown helper `lowr`; did you mean `lower`?",
        ),
        (
            "{type: TemplateExtract, config: {fields: {x: {{uid}}, y: \"{{pricee}}\"}}}",
            "6:56: error[unquoted-template] a template that is not quoted is a YAML map\n6:71: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
        (
            "type: Filter\n          config:\n            where: uid like '% #x'",
            "8:32: error[cut-at-hash] YAML takes this for a comment, and the text ends before it",
        ),
        (
            "{type: Filter, config: {were: a, where: pricee > 1}}",
            "6:35: error[unknown-key] unknown key `were`; did you mean `where`?\n6:51: error[unknown-field] unknown field `pricee`; did you mean `price`?",
        ),
    ] {
        let text = format!(
            "streams:\n  in:\n    config:\n      source: {{type: Feed, config: {{fields: {{uid: string, price: bigint}}}}}}\n      operates:\n        - {step}\nsink:\n  - {{type: Out}}\n"
        );
        let got = lint(&text);
        if got.trim_end() != expected {
            wrong.push_str(&format!("{step}\n{got}-- expected\n{expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// One run tells them all: a fault in one place hides none in another.
#[test]
fn all_at_once() {
    let text = r#"
run_env: {timeCharacteristic: EventTime, paralelism: 2}
streams:
  a:
    config:
      source: {type: Fed, config: {x: 1}}
      operates:
        - {type: Filter, config: {where: "lowr(x) = 1"}}
      watermark: {field: ts, format: epoc_ms}
  b:
    config:
      source: {type: Feed, config: {fields: {uid: string, ts: bigint}}}
      operates:
        - {type: Filter, config: {where: uidd = '1'}}
transforms:
  - {type: KeyBy, input: c, config: {keys: [uid]}}
  - {type: CountWindowWithTimeOut, input: b, config: {count: 5, timout: 5s, aggregates: {n: "cuont(*)"}}}
  - {type: Filtr, input: b}
sink:
  - {type: Out, input: filtr}
  - {type: Out, input: b, config: {needz: uid}}
"#;
    let got: Vec<String> = lint(text).lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        got,
        [
            "2:42: error[unknown-key]",
            "6:22: error[unknown-part]",
            "6:36: error[unknown-key]",
            "8:43: error[unknown-function]",
            "8:48: error[unknown-field]",
            "9:38: error[bad-time-format]",
            "10:3: error[missing-watermark]",
            "14:42: error[unknown-field]",
            "16:26: error[dangling-input]",
            "17:65: error[unknown-key]",
            "17:94: error[unsupported-expression]",
            "18:12: error[missing-key]",
            "18:12: error[unknown-part]",
            "21:36: error[unknown-key]",
        ]
    );
}

#[test]
fn the_skeleton_loads() {
    let text = r#"
run_env:
  timeCharacteristic: "ProcessingTime"
  restart:
    type: fixedDelayRestart
  checkpoint:
    type: "rocksdb"
streams:
  impStream:
    type: "DefaultStream"
    config:
      source:
        type: "Feed011"
        config:
        parallelism: 20
      operates:
        - type: "StringToMap"
          config: {fields: {uid: string, price: array}}
        - type: "SelectElement"
          config: {fields: [uid]}
transforms:
  - type: "KeyBy"
    config: {keys: uid}
  - type: "CountWindowWithTimeOut"
    config: {count: 10, timeOut: 5s}
  - type: "SplitStream"
    config: {ports: {a: "uid > 'm'"}}
  - type: "SelectStream"
    config: {port: a}
sink:
  - type: Out
    config:
  - type: Out
    config:
"#;
    let fixed = text.replace("timeOut", "timeout");
    let plan = plan(&fixed);
    assert_eq!(
        plan.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        ["impStream", "key_by", "count_window_with_time_out", "split_stream", "select_stream", "sink_1", "sink_2", "dead_letter"]
    );
    assert_eq!((plan.nodes[0].parallelism, plan.restart.is_some(), plan.checkpoint.is_some()), (Some(20), true, true));
    let got = lint(&fixed);
    assert_eq!(got.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>(), ["3:23: note[not-repeatable]"]);
    assert!(lint(text).contains("did you mean `timeout`?"));
}

#[test]
fn renders_in_full() {
    let text = "streams:\n  in: {config: {source: {type: Feed, config: {password: hunter2, delay: 5}}}}\n  in: 5\nsink: [{type: Out}]\n";
    let planned = plan_with(text, &[]);
    assert_eq!(
        // The first one says that the password is written out.
        diagnostic::full(&planned.diagnostics[1..], false),
        "error[bad-duration]: `5` has no unit: write `5s`, `5ms`, `5m` …
 --> job.yaml:2:73
  |
2 |   in: {config: {source: {type: Feed, config: {password: *******, delay: 5}}}}
  |                                                                         ^

error[duplicate-key]: the key `in` stands twice in one map
 --> job.yaml:3:3
  |
3 |   in: 5
  |   ^^
 ::: job.yaml:2:3
2 |   in: {config: {source: {type: Feed, config: {password: *******, delay: 5}}}}
  |   - first defined here
  = help: take one of them out

"
    );
    assert_eq!(diagnostic::tally(&planned.diagnostics), "2 errors, 1 warning");
    let json: serde_json::Value = serde_json::from_str(&diagnostic::json(&planned.diagnostics)).unwrap();
    assert_eq!(json[2]["second"]["line"], 2);
    assert_eq!(json[1]["severity"], "error");
    assert_eq!(json[1]["end_column"], 74);
}

#[test]
fn pictures() {
    let planned = plan_with(
        "streams:\n  a: {config: {source: {type: Feed}}}\n  b: {config: {source: {type: Feed}}}\ntransforms:\n  - {type: Union, name: u, input: [a, b]}\n  - {type: SplitStream, name: s, config: {ports: {x: 1 = 1}, rest: drop}}\nsink:\n  - {type: Out, name: o, input: s.x}\n",
        &[],
    );
    assert_eq!(planned.graph.terminal(), "○ a  Feed\n└─ ↓ u\n○ b  Feed\n└─ □ u  Union\n   └─ □ s  SplitStream\n      └─ [x] ● o  Out\n");
    assert!(planned.graph.mermaid().contains("  n3 -->|\"x\"| n4\n"), "{}", planned.graph.mermaid());
    assert!(planned.graph.dot().contains("  n3 -> n4 [label=\"x\"];\n"));
}
