//! Completion, hover and definitions in texts that are being written; `|` is the cursor.

use crate::Options;
use crate::ide::{Document, complete, definition, hover};
use std::path::Path;

const HEAD: &str = "streams:\n  in:\n    config:\n      source: {type: Feed, config: {fields: {a: bigint, bb: string}}}\n      operates:\n        - {type: Filter, config: {where: a > 1}}\n";
const REST: &str = "transforms:\n  - {type: KeyBy, name: by, config: {keys: [a]}}\n  - {type: SplitStream, name: parts, config: {ports: {big: a > 5}}}\nsink:\n  - {type: Out, input: [parts.big, parts.rest]}\n";

fn at<T>(text: &str, ask: impl FnOnce(&Document, usize) -> T) -> T {
    let cursor = text.find('¦').expect("a cursor");
    let text = text.replace('¦', "");
    let options = Options::default();
    ask(&Document { name: "t.yaml", text: &text, dir: Path::new("."), options: &options }, cursor)
}

fn labels(text: &str) -> Vec<String> {
    at(text, |d, i| complete(d, i).into_iter().map(|c| c.label).collect())
}

#[test]
fn completes() {
    for (text, some, none) in [
        ("¦", vec!["streams", "run_env", "fragments", "include"], vec!["type"]),
        ("name: x\nstre¦\n", vec!["streams", "sink"], vec!["name"]),
        ("run_env:\n  ¦\nstreams:\n", vec!["time_characteristic", "checkpoint"], vec!["streams"]),
        ("run_env:\n  time_characteristic: ¦\n", vec!["EventTime", "ProcessingTime"], vec![]),
        ("run_env: {time_characteristic: Ev¦}\n", vec!["EventTime"], vec![]),
        ("streams:\n  a:\n    ¦", vec!["config", "fragment"], vec!["source"]),
        ("streams:\n  a:\n    config:\n      ¦", vec!["source", "operates", "watermark"], vec![]),
        ("streams:\n  a:\n    config:\n      source: {type: ¦", vec!["Feed"], vec!["Filter", "Out"]),
        ("streams:\n  a:\n    config:\n      source: {type: Feed, config: {¦", vec!["fields"], vec!["type"]),
        ("streams:\n  a:\n    config:\n      source:\n        type: Feed\n        config:\n          f¦\n", vec!["fields"], vec![]),
        ("transforms:\n  - ¦", vec!["type", "name", "input", "fragment"], vec!["keys"]),
        ("transforms:\n  - type: ¦", vec!["KeyBy", "Filter"], vec!["Feed"]),
        ("transforms:\n  - {type: KeyBy, ¦", vec!["config", "name"], vec!["type"]),
        ("transforms:\n  - type: Filter\n    config:\n      ¦", vec!["where"], vec!["keys"]),
    ] {
        let got = labels(text);
        assert!(some.iter().all(|s| got.iter().any(|g| g == s)), "{text}: {got:?}");
        assert!(!none.iter().any(|s| got.iter().any(|g| g == s)), "{text}: {got:?}");
    }
}

#[test]
fn completes_patterns_of_grok() {
    let parser =
        |pattern: &str| format!("transforms:\n  - {{type: Filter, config: {{patterns: {{MINE: x}}, format: grok, pattern: {pattern}");
    for pattern in ["\"%{¦", "\"%{IP¦:ip}\"}}\n", "'%{WORD:a} %{¦}'}}\n"] {
        let got = labels(&parser(pattern));
        assert!(got.contains(&"MINE".to_string()) && got.contains(&"IPORHOST".to_string()), "{pattern}: {got:?}");
    }
    assert!(!labels(&parser("\"¦")).contains(&"IPORHOST".to_string()));
}

#[test]
fn completes_names_of_the_topology() {
    for (text, some) in [
        (format!("{HEAD}transforms:\n  - {{type: KeyBy, name: by, input: ¦"), vec!["in"]),
        (format!("{HEAD}{REST}  - {{type: Out, input: par¦}}\n"), vec!["parts.big", "parts.rest", "by", "in"]),
        (format!("{HEAD}{REST}  - {{type: Out, input: parts.¦}}\n"), vec!["parts.big"]),
        (
            format!("{HEAD}transforms:\n  - {{type: Filter, name: f, input: in, config: {{where: \"¦\"}}}}\n{}", REST.split_at(12).1),
            vec!["a", "bb", "upper", "coalesce"],
        ),
        (
            format!("{HEAD}transforms:\n  - type: Filter\n    name: f\n    input: in\n    config:\n      where: a > 1 AND low¦\n"),
            vec!["a", "bb", "lower"],
        ),
        (format!("{HEAD}transforms:\n  - {{type: KeyBy, config: {{keys: [¦"), vec!["a", "bb"]),
        (
            format!("fragments:\n  wash: {{transforms: [{{type: Filter, config: {{where: a > 1}}}}]}}\n{HEAD}        - {{fragment: ¦"),
            vec!["wash"],
        ),
    ] {
        let got = labels(&text);
        assert!(some.iter().all(|s| got.iter().any(|g| g == s)), "{text}: {got:?}");
    }
    // What stands there is replaced, dots and all.
    let (replace, cursor) =
        at(&format!("{HEAD}{REST}  - {{type: Out, input: parts.b¦}}\n"), |d, i| (complete(d, i)[0].replace.clone(), i));
    assert_eq!(replace, cursor - 7..cursor);
}

#[test]
fn hovers() {
    for (text, want) in [
        (format!("{HEAD}{REST}").replace("type: KeyBy", "type: Key¦By"), "# KeyBy (operator)"),
        (format!("{HEAD}{REST}").replace("transforms:", "trans¦forms:"), "transforms (section"),
        (format!("{HEAD}{REST}").replace("where: a", "whe¦re: a"), "**where**"),
        (format!("{HEAD}{REST}").replace("where: a > 1", "where: upp¦er(bb) = 'X'"), "upper("),
        (format!("{HEAD}{REST}").replace("keys: [a]", "keys: [¦a]"), "`a: bigint (of in)`"),
        (format!("{HEAD}{REST}# lint: allow(unread-¦output)\n"), "unread-output (told by lint)"),
        ("run_env:\n  time_characteristic: Event¦Time\n  parallel¦ism: 1".replacen('¦', "", 1), "Workers of one process"),
    ] {
        let got = at(&text, |d, i| hover(d, i).map(|(t, _)| t)).unwrap_or_default();
        assert!(got.contains(want), "{text}: {got}");
    }
    assert_eq!(at("name: ¦x\n", hover), None);
}

#[test]
fn finds_definitions() {
    let fragments =
        "fragments:\n  wash: {transforms: [{type: Filter, name: one, config: {where: a > 1}}, {type: KeyBy, config: {keys: [a]}}]}\n";
    for (text, want) in [
        (format!("{HEAD}{REST}").replace("[parts.big", "[pa¦rts.big"), "parts"),
        (format!("{HEAD}transforms:\n  - {{type: KeyBy, input: i¦n, config: {{keys: [a]}}}}\n"), "in"),
        (format!("{fragments}{HEAD}transforms:\n  - {{fragment: wa¦sh, name: w}}\n"), "wash"),
        (format!("{fragments}{HEAD}transforms:\n  - {{fragment: wash, name: w}}\nsink: [{{type: Out, input: w-on¦e}}]\n"), "w"),
        (format!("{HEAD}{REST}").replace("keys: [a]", "keys: [¦a]"), "a"),
        ("a: &anchor {b: 1}\nc: *anch¦or\n".to_string(), "&anchor"),
    ] {
        let got = at(&text, |d, i| definition(d, i).map(|t| d.text[t.span].to_string()));
        assert_eq!(got.as_deref(), Some(want), "{text}");
    }
}

#[test]
fn completes_keys_that_are_names_of_the_topology() {
    let fragments = "fragments:\n  wash:\n    parameters:\n      least: {type: bigint, default: 1}\n    transforms:\n      - {type: Filter, config: {where: \"a > ${least}\"}}\n";
    for (text, some) in [
        (format!("{fragments}{HEAD}transforms:\n  - {{fragment: wash, with: {{¦}}}}\n"), "least"),
        (format!("{HEAD}{REST}tests:\n  - name: t\n    input: {{¦}}\n"), "in"),
        (format!("{HEAD}{REST}tests:\n  - name: t\n    expect:\n      ¦\n"), "dead_letter"),
        (format!("{HEAD}{REST}tests:\n  - name: t\n    expect:\n      ¦\n"), "parts.big"),
        (format!("{HEAD}transforms:\n  - type: Filter\n    input: in\n    config:\n      where: \"a > ¦\n"), "bb"),
        ("streams:\n  in:\n    config:\n      watermark: {field: a, format: ¦}\n".into(), "epoch_ms"),
    ] {
        let got = labels(&text);
        assert!(got.iter().any(|g| g == some), "{text}: {got:?}");
    }
    let got = labels("streams:\n  in:\n    config:\n      watermark: {field: a, max_future: ¦}\n");
    assert!(got.is_empty(), "a duration is no boolean: {got:?}");
}

#[test]
fn goes_to_names_that_stand_as_keys() {
    let fragments = "fragments:\n  wash:\n    parameters:\n      least: {type: bigint, default: 1}\n    transforms:\n      - {type: Filter, config: {where: \"a > ${le¦ast}\"}}\n";
    let used = fragments.replace('¦', "");
    for (text, line) in [
        (fragments.to_string(), 3),
        (format!("{used}{HEAD}transforms:\n  - {{fragment: wash, with: {{lea¦st: 2}}}}\n"), 3),
        (format!("{HEAD}{REST}tests:\n  - name: t\n    input: {{i¦n: []}}\n"), 1),
        (format!("{HEAD}{REST}tests:\n  - name: t\n    expect: {{parts.b¦ig: none}}\n"), 8),
    ] {
        let target = at(&text, definition).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(text.replace('¦', "")[..target.span.start].matches('\n').count(), line, "{text}");
    }
}
