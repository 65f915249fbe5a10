mod durability;
mod fields;
mod fmt;
mod graph;
mod ide;
mod join;
mod parts;
mod reuse;
mod tools;
mod yaml;

use crate::plan::{NodeKind, Plan};
use crate::{Options, Planned, diagnostic, load_text};
use millrace_operators as _;
use std::path::Path;

fn plan_with(text: &str, set: &[(&str, &str)]) -> Planned {
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let planned = load_text("job.yaml", text, Path::new("."), &Options { set, ..Options::default() });
    for d in planned.diagnostics.iter().filter(|d| !["bad-topic", "unknown-column"].contains(&d.id.as_str())) {
        assert!(crate::ids::page(&d.id).is_some(), "plan/src/ids.rs has no page for `{}`", d.id);
    }
    planned
}

/// What lint says, one line each, without the file's name.
fn lint(text: &str) -> String {
    diagnostic::concise(&plan_with(text, &[]).diagnostics).replace("job.yaml:", "")
}

fn plan(text: &str) -> Plan {
    let planned = plan_with(text, &[]);
    planned.plan.unwrap_or_else(|| panic!("{}", diagnostic::full(&planned.diagnostics, false)))
}

#[test]
fn a_simple_topology_becomes_a_plan() {
    let plan = plan(
        "
name: simple
run_env: {parallelism: 3}
streams:
  in:
    config:
      source: {type: Feed011, config: {fields: {a: bigint, b: string}}}
      operates:
        - {type: Filter, config: {where: a > 1}}
        - {type: Map, config: {set: {c: a + 1}}}
transforms:
  - {type: KeyBy, config: {keys: [b]}}
  - {type: SplitStream, config: {ports: {big: c > 10}}}
  - {type: SelectStream, config: {port: big}}
sink:
  - {type: Out}
  - {type: Null, input: split_stream.rest}
",
    );
    let names: Vec<(&str, &str)> = plan.nodes.iter().map(|n| (n.name.as_str(), n.part)).collect();
    assert_eq!(
        names,
        [
            ("in", "Feed"),
            ("key_by", "KeyBy"),
            ("split_stream", "SplitStream"),
            ("select_stream", "SelectStream"),
            ("sink_1", "Out"),
            ("sink_2", "Null"),
            ("dead_letter", "File")
        ]
    );
    assert_eq!((plan.parallelism, plan.dead_letter.0, plan.env.job.as_str()), (3, 6, "simple"));
    let NodeKind::Source(source) = &plan.nodes[0].kind else { panic!() };
    assert_eq!(source.operates.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["in/filter", "in/map"]);
    for node in &plan.nodes[..4] {
        assert_eq!(node.ports.last().map(|(p, _)| p.name.as_str()), Some("errors"));
    }
    let from: Vec<(usize, usize)> = plan.nodes.iter().flat_map(|n| n.inputs.iter().map(|i| (i.from.node.0, i.from.port))).collect();
    assert_eq!(from, [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1)]);
}

/// A topology around one stream `in` with fields a and b, and one sink.
fn around(transforms: &str) -> String {
    format!(
        "streams:\n  in: {{config: {{source: {{type: Feed, config: {{fields: {{a: bigint, b: string}}}}}}}}}}\ntransforms:\n{transforms}\nsink: [{{type: Out}}]\n"
    )
}

#[test]
fn names_and_inputs() {
    for (transforms, expected) in [
        ("  - {type: KeyBy, config: {keys: [b]}, input: inn}", "4:47: error[dangling-input] nothing is called `inn`; did you mean `in`?\n"),
        ("  - {type: KeyBy, config: {keys: [b]}, input: in.x}", "4:50: error[unknown-port] `in` has no port `x`\n"),
        ("  - {type: Keyby, config: {keys: [b]}}", "4:12: error[unknown-part] unknown operator `Keyby`; did you mean `KeyBy`?\n"),
        ("  - {type: Feed}", "4:12: error[unknown-part] unknown operator `Feed`\n"),
        ("  - {type: KeyBy, name: in, config: {keys: [b]}}", "4:25: error[duplicate-name] the name `in` is taken\n"),
        ("  - {typ: KeyBy, config: {keys: [b]}}", "4:6: error[unknown-key] unknown key `typ`; did you mean `type`?\n"),
        ("  - {type: KeyBy, keys: [b], config: {keys: [b]}}", "4:19: error[unknown-key] unknown key `keys`\n"),
        ("  - {type: KeyBy, config: {keys: [b], input: in}}", "4:39: error[unknown-key] unknown key `input`\n"),
        ("  - {type: KeyBy, config: {kyes: [b]}}", "4:28: error[unknown-key] unknown key `kyes`; did you mean `keys`?\n"),
        ("  - {type: KeyBy, config: {keys: [c]}}", "4:35: error[unknown-field] unknown field `c`\n"),
        ("  - {type: KeyBy, left: in, config: {keys: [b]}}", "4:19: error[unknown-key] `KeyBy` has an `input`, not `left`\n"),
        ("  - {type: KeyBy, input: [in, in], config: {keys: [b]}}", "4:19: error[too-many-inputs] `KeyBy` takes one input\n"),
        (
            "  - {type: Union, name: x, input: [in, y]}\n  - {type: Union, name: y, input: x}",
            "4:40: error[cycle] these parts read each other in a circle: x -> y -> x\n",
        ),
        (
            "  - {type: Union, name: x, input: in}\n  - {type: Union, name: y, input: in}",
            "4:25: warning[unread-output] nobody reads `x`: its rows are dropped and counted\n",
        ),
    ] {
        let got: String = lint(&around(transforms)).lines().filter(|l| !l.contains("useless-keyby")).map(|l| format!("{l}\n")).collect();
        assert_eq!(got, expected, "{transforms}");
    }
}

/// A slip of the pen is told once: what hangs on it is read as it was likely meant.
#[test]
fn no_problem_has_an_echo() {
    for (from, to, expected) in [
        ("transforms:", "transform:", "3:1: error[unknown-key] unknown key `transform`; did you mean `transforms`?\n"),
        ("sink:", "sinks:", "5:1: error[unknown-key] unknown key `sinks`; did you mean `sink`?\n"),
        ("input: k", "inptu: k", "5:20: error[unknown-key] unknown key `inptu`; did you mean `input`?\n"),
        ("input: k", "input: kk", "5:27: error[dangling-input] nothing is called `kk`; did you mean `k`?\n"),
    ] {
        let text = around("  - {type: KeyBy, name: k, config: {keys: [b]}}").replace("{type: Out}", "{type: Out, input: k}");
        let got: String =
            lint(&text.replace(from, to)).lines().filter(|l| !l.contains("useless-keyby")).map(|l| format!("{l}\n")).collect();
        assert_eq!(got, expected, "{to}");
    }
}

#[test]
fn what_stands_at_the_top() {
    for (text, expected) in [
        ("", "1:1: error[wrong-type] a topology is a map with `streams`, `transforms` and `sink`\n"),
        ("a\n", "1:1: error[wrong-type] a topology is a map with `streams`, `transforms` and `sink`\n"),
        (
            "name: x\n",
            "1:1: error[missing-key] the key `sink` is missing: where the rows go\n1:1: error[missing-key] the key `streams` is missing: the sources and how their records are washed\n",
        ),
        (
            "strems: {}\nsink: [{type: Out}]\nstreams:\n  in: {config: {source: {type: Feed}}, sorce: 1}\n",
            "1:1: error[unknown-key] unknown key `strems`; did you mean `streams`?\n4:40: error[unknown-key] unknown key `sorce`\n",
        ),
        (
            "run_env: {timeCharacteristic: EventTme, paralelism: 2, on_error: null, restart: {type: noRestart}}\nsink: [{type: Out}]\nstreams:\n  in: {source: {type: Feed}}\n",
            "1:31: error[unknown-value] unknown value `EventTme`; did you mean `EventTime`?\n1:41: error[unknown-key] unknown key `paralelism`; did you mean `parallelism`?\n4:8: error[unknown-key] unknown key `source`\n",
        ),
    ] {
        assert_eq!(lint(text), expected, "{text}");
    }
}

#[test]
fn values_of_a_config() {
    for (config, expected) in [
        ("{start: erliest}", "3:49: error[unknown-value] unknown value `erliest`; did you mean `earliest`?"),
        ("{start: {timestamp: 5}}", ""),
        ("{start: {timestamp: x}}", "3:61: error[wrong-type] expected a whole number, found a text"),
        ("{start: {timstamp: 5}}", "3:50: error[unknown-key] unknown key `timstamp`; did you mean `timestamp`?"),
        ("{topics: a}", ""),
        ("{topics: [a, 1]}", ""),
        ("{topics: {a: 1}}", "3:50: error[wrong-type] expected a text or a list, found a map"),
        ("{topics: [a, ['']]}", "3:54: error[wrong-type] expected a text, found a list"),
        ("{topics: ['', a]}", "3:51: error[bad-topic] a topic without a name"),
        ("{topics: ''}", "3:50: error[bad-topic] a topic without a name"),
        ("{once: yes}", "3:48: error[wrong-type] expected true or false, found a text; did you mean `true`?"),
        ("{once: 'true'}", "3:48: error[wrong-type] expected true or false, found a text; did you mean `true`?"),
        ("{delay: 10}", "3:49: error[bad-duration] `10` has no unit: write `10s`, `10ms`, `10m` …"),
        ("{delay: 1m30s, delay: 2s}", "3:56: error[duplicate-key] the key `delay` stands twice in one map"),
        ("{fields: {a: bigit}}", "3:54: error[unknown-type] unknown type `bigit`; did you mean `bigint`?"),
        ("{fields: {a: [x]}}", "3:54: error[wrong-type] expected a text, found a list"),
        ("{fields:}", ""),
        ("{delay: ${NO_SUCH_VARIABLE}}", "unquoted-variable"),
        ("{delay: '1${NO_SUCH_VARIABLE}'}", "3:51: error[missing-variable] the variable `NO_SUCH_VARIABLE` is not set"),
        ("{delay: '1${NO_SUCH_VARIABLE:-s}'}", ""),
        ("{password: 08}", "3:52: warning[plain-secret] a secret is written out in the topology"),
        ("[a]", "3:41: error[wrong-type] expected a map, found a list"),
    ] {
        let text = format!(
            "streams:\n  in: {{config: {{source: {{\n    type: Feed, parallelism: 2, config: {config}}}}}}}\nsink: [{{type: Out}}]\n"
        );
        let got = lint(&text);
        match expected {
            "unquoted-variable" => assert!(got.contains(expected), "{got}"),
            _ => assert_eq!(got.trim_end(), expected, "{config}"),
        }
    }
}

#[test]
fn a_page_lists_the_keys() {
    let part = millrace_sdk::Part::find(millrace_sdk::Kind::Source, "Feed011").unwrap();
    let page = crate::explain(part);
    assert!(
        page.starts_with(
            "# Feed (source)\n\nAlso called Feed011.\n\nRows of declared fields. Delivers nothing: plans are not run here.\n\n## Config\n"
        ),
        "{page}"
    );
    for line in [
        "- `fields` (map of name to type): Field names and types.",
        "- `topics` (text | list of text): Topics. One or several.",
        "- `password` (secret): Password.",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

#[test]
fn the_schema_of_the_language_refers_to_what_it_has() {
    let schema = crate::json_schema();
    fn refs(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(o) => {
                out.extend(o.get("$ref").and_then(|r| r.as_str()).map(String::from));
                o.values().for_each(|v| refs(v, out));
            }
            serde_json::Value::Array(a) => a.iter().for_each(|v| refs(v, out)),
            _ => {}
        }
    }
    let mut all = vec![];
    refs(&schema, &mut all);
    assert!(all.len() > 20);
    for r in all {
        assert!(schema.pointer(r.trim_start_matches('#')).is_some(), "{r}");
    }
}

#[test]
fn null_can_be_a_word() {
    let text = |word: &str| {
        format!("run_env: {{onError: {word}}}\nstreams: {{in: {{config: {{source: {{type: Feed}}}}}}}}\nsink: [{{type: Out}}]\n")
    };
    let on_error = |word: &str| plan(&text(word)).env.on_error;
    assert_eq!(on_error("null"), millrace_sdk::operator::OnError::Null);
    assert_eq!(on_error("dead_letter"), millrace_sdk::operator::OnError::DeadLetter);
    assert_eq!(on_error(""), millrace_sdk::operator::OnError::DeadLetter);
    assert_eq!(lint(&text("nul")), "1:20: error[unknown-value] unknown value `nul`; did you mean `null`?\n");
    let twice = text("null").replace("sink:", "runEnv: {}\nsink:");
    assert_eq!(lint(&twice), "3:1: error[duplicate-key] the key `run_env` stands twice in one map\n");
}

#[test]
fn a_quoted_variable_is_what_its_key_wants() {
    let text = around(
        "  - {type: KeyBy, config: {keys: [a]}}\n  - {type: CountWindowWithTimeOut, config: {count: \"${N}\", timeout: '${T:-5s}', rows: \"${R:-7}\"}}\n  - {type: SplitElement, config: {field: '${R:-7}', into: e, skip_empty: \"${B:-true}\"}}",
    );
    let lint = |set: &[(&str, &str)]| {
        let all = plan_with(&text, set).diagnostics;
        let errors = all.iter().filter(|d| d.severity == millrace_sdk::Severity::Error);
        errors.map(|d| format!("{}: {} {}", d.line, d.id, d.message)).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(lint(&[("N", "100")]), "");
    assert_eq!(lint(&[("N", "100"), ("B", "false"), ("T", "1m"), ("R", "true")]), "");
    assert_eq!(lint(&[("N", "many")]), "5: wrong-type expected a whole number, found a text");
    assert_eq!(lint(&[("N", "1.5")]), "5: wrong-type expected a whole number, found a text");
    assert_eq!(lint(&[("N", "0")]), "5: out-of-range 0 is too small: the least is 1");
    assert_eq!(lint(&[("N", "7"), ("B", "7")]), "6: wrong-type expected true or false, found a text");
    let both = text.replace("\"${N}\"", "\"1${N}\"");
    let found = plan_with(&both, &[("N", "0")]).diagnostics;
    assert!(found.iter().any(|d| d.id == "wrong-type"), "a variable and more is a text: {found:?}");
}

#[test]
fn order_that_is_lost_before_a_count_window() {
    let job = |transforms: &str| {
        let feed = "{config: {source: {type: Feed, config: {fields: {k: string, j: string}}}}}";
        format!(
            "streams:\n  a: {feed}\n  b: {feed}\nstores:\n  t: {{type: Table, config: {{key: \"{{{{k}}}}\"}}}}\ntransforms:\n{transforms}\n  - {{type: CountWindowWithTimeOut, name: w, config: {{count: 2, timeout: 5s}}}}\nsink: [{{type: Out}}]\n"
        )
    };
    let by = |keys: &str| format!("  - {{type: KeyBy, config: {{keys: [{keys}]}}}}");
    let cases = [
        (format!("  - {{type: Filter, input: a, config: {{where: k > ''}}}}\n{}", by("k")), ""),
        (format!("  - {{type: Union, name: u, input: [a, b]}}\n{}", by("k")), "warning several inputs meet in `u`"),
        (
            format!("  - {{type: Union, name: u, input: [a, b]}}\n  - {{type: Filter, config: {{where: k > ''}}}}\n{}", by("k, j")),
            "warning several inputs meet in `u`",
        ),
        (format!("  - {{type: Dedup, name: d, input: a, config: {{keys: [k]}}}}\n{}", by("k, j")), ""),
        (format!("  - {{type: Dedup, name: d, input: a, config: {{keys: [k, j]}}}}\n{}", by("k")), "warning `d` works under another key"),
        (format!("  - {{type: Dedup, name: d, input: a, config: {{keys: j}}}}\n{}", by("k")), "warning `d` works under another key"),
        (format!("  - {{type: Lookup, name: l, input: a, config: {{store: t, fields: {{pos: pos}}}}}}\n{}", by("k")), ""),
        (
            format!("  - {{type: Lookup, name: l, input: a, config: {{store: t, fields: {{pos: pos}}, order: any}}}}\n{}", by("k")),
            "warning `order: any` lets them overtake each other in `l`",
        ),
        (
            format!(
                "  - {{type: IntervalLeftJoin, name: jo, left: a, right: b, config: {{keys: [k], lower: -1s, upper: 1s, right_fields: {{jj: j}}, unmatched: emit}}}}\n{}",
                by("k")
            ),
            "note which rows share a window depends on when `jo` finds their matches",
        ),
    ];
    for (transforms, expected) in cases {
        let text = job(&transforms);
        let all = plan_with(&text, &[]).diagnostics;
        let errors: Vec<_> = all.iter().filter(|d| d.severity == millrace_sdk::Severity::Error).collect();
        assert!(errors.is_empty(), "{transforms}\n{errors:?}");
        let found: Vec<_> = all.iter().filter(|d| d.id == "order-lost-before-count-window").collect();
        let told: Vec<String> = found.iter().map(|d| format!("{:?} {}", d.severity, d.message)).collect();
        let severity = expected.split(' ').next().unwrap_or("");
        let says = expected.strip_prefix(severity).unwrap_or("").trim();
        match told.first() {
            None => assert_eq!(expected, "", "{transforms}"),
            Some(t) => {
                assert!(told.len() == 1 && t.to_lowercase().starts_with(severity) && t.contains(says), "{transforms}\n{told:?}");
                assert!(found[0].snippet.contains("name: w") && found[0].second.is_some(), "{:?}", found[0]);
            }
        }
    }
}
