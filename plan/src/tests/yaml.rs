use super::{lint, plan_with};
use crate::diagnostic::Report;
use crate::vars::Vars;
use crate::yaml::{self, Content, Node};
use std::collections::BTreeMap;

fn tree(text: &str) -> (Report, Node) {
    let mut report = Report::default();
    let src = report.sources.add("f", text);
    let mut vars = Vars::new(BTreeMap::from([("A".to_string(), "xyz".to_string())]), ".".into());
    let node = yaml::parse(&mut report, src, &mut vars);
    (report, node)
}

/// Every byte of a scalar's text leads to the same byte of the source, in every style.
#[test]
fn places_inside_scalars() {
    for (source, needle, expected) in [
        ("k: a > price + 1\n", "price", "price"),
        ("k: 'it''s a price'\n", "price", "price"),
        ("k: 'it''s a price'\n", "it's", "it''s"),
        ("k: \"tab\\tand \\u00e9 price\"\n", "price", "price"),
        ("k: \"tab\\tand \\u00e9 price\"\n", "é", "\\u00e9"),
        ("k: \"a\\\n    b price\"\n", "price", "price"),
        ("k: a\n  b\n  price c\n", "price", "price"),
        ("k: a\n\n  b\n  price c\n", "price", "price"),
        ("k: \"a\n\n\n  b\n  price c\"\n", "price", "price"),
        ("k: |\n  one\n   two\n\n  price\n", "price", "price"),
        ("k: |\n  one\n   two\n\n  price\n", " two", " two"),
        ("k: >-\n  one\n  two\n\n  price\n", "price", "price"),
        ("k: >\n  one\n    more\n  price\n", "price", "price"),
        ("k: |2\n   lead\n  price\n", "price", "price"),
        ("é: ü > price\n", "price", "price"),
        ("k: ${A} > price\n", "price", "price"),
        ("k: ${A} > price\n", "xyz", "${A}"),
        ("k: \"a\\t${A} price\"\n", "price", "price"),
        ("k: $${A} price\n", "price", "price"),
        ("k: ${A}${A} price ${A}\n", "price", "price"),
        ("k: a\r\n  price\r\nl: b\r\n", "price", "price"),
        ("k: |\r\n  a\r\n  price\r\n", "price", "price"),
    ] {
        let (report, root) = tree(source);
        assert!(report.found.is_empty(), "{source:?}: {:?}", report.found);
        let value = &root.entries()[0].value;
        let text = value.text().unwrap();
        let at = text.find(needle).unwrap_or_else(|| panic!("{needle} in {text:?}"));
        let span = value.within(&report, at..at + needle.len());
        assert_eq!(report.sources.slice(span), expected, "{source:?} {text:?}");
    }
}

#[test]
fn what_is_no_yaml() {
    for (text, expected) in [
        ("a: 1\n\tb: 2\n", "2:1 tab"),
        ("a:\n\t- b\n", "2:1 tab"),
        ("a: {{uid}}\nb: 1\n", "1:4 unquoted-template"),
        ("a: {{uid}}_{{mid}}\nb: {{x}} y\n", "1:4 unquoted-template, 2:4 unquoted-template"),
        ("- a: {b: {{uid}}, c: 1}\n", "1:10 unquoted-template"),
        ("a: {b: ${X}}\n", "1:8 missing-variable, 1:8 unquoted-variable"),
        ("a: b: c\nd: e: f\n", "1:5 syntax, 2:5 syntax"),
        ("a: [1, 2\nb: 3\n", "1:4 syntax"),
        ("- {a: {b: 1}\n- c\n", "1:3 syntax"),
        ("a: 'x\nb: 2\n", "1:4 syntax"),
        ("a: *zz\nb: 1\n", "1:4 unknown-anchor"),
        ("a: 1\nb: 2\na: 3\n", "3:1 duplicate-key"),
        ("a: 1\n---\nb: 2\n", "2:1 several-documents"),
        ("? [a]\n: b\n", "1:3 odd-key"),
        ("a: ${NO_SUCH} ${ALSO_NOT}\n", "1:15 missing-variable, 1:4 missing-variable"),
        ("# ${NO_SUCH}\na: 1 # ${NO_SUCH}\n", ""),
        ("a: ${A\n", "1:4 bad-variable"),
        ("a: \"\\t${NO_SUCH}\"\n", "1:7 missing-variable"),
        ("a: &x [1]\nb: *x\nc: {<<: {d: 1}, e: 2}\n", ""),
    ] {
        let (report, _) = tree(text);
        let mut got: Vec<String> = report
            .found
            .iter()
            .map(|f| {
                let (line, column) = report.sources.line_column(f.span.src, f.span.start);
                format!("{line}:{column} {}", f.id)
            })
            .collect();
        got.sort();
        assert_eq!(got.join(", "), expected, "{text}");
    }
}

#[test]
fn a_broken_line_leaves_the_others_readable() {
    let (_, root) = tree("a: b: c\nd: 5\ne: [1\nf: 6\n");
    assert_eq!(root.get("d").and_then(Node::text), Some("5"));
    let (_, root) = tree("a: {{x}}y\nd: 5\n");
    assert_eq!(root.get("a").and_then(Node::text), Some("{{x}}y"));
    assert_eq!(root.get("d").and_then(Node::text), Some("5"));
}

#[test]
fn aliases_have_a_budget() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let all = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{all}]\n"));
    }
    let (report, _) = tree(&text);
    assert_eq!(report.found.iter().map(|f| f.id).collect::<Vec<_>>(), ["alias-bomb"]);
    let (report, _) = tree(&format!("a: {}{}\n", "[".repeat(200), "]".repeat(200)));
    assert_eq!(report.found[0].id, "syntax");
}

#[test]
fn merged_keys_and_nulls() {
    let (_, root) = tree("base: &b {x: 1, y: 2}\nv: {<<: *b, y: 3}\nn:\nm: ~\no: null\np: ''\n");
    let v = root.get("v").unwrap();
    assert_eq!((v.get("x").and_then(Node::text), v.get("y").and_then(Node::text)), (Some("1"), Some("3")));
    for (key, null) in [("n", true), ("m", true), ("o", true), ("p", false)] {
        assert_eq!(matches!(root.get(key).unwrap().content, Content::Null), null, "{key}");
    }
}

const SMALL: &str = "run_env: {parallelism: 1}\nstreams:\n  in: {config: {source: {type: Feed, config: {}}}}\nsink:\n  - {type: Out, name: first}\n  - {type: Null}\n";

#[test]
fn set_changes_keys_and_variables() {
    let planned = plan_with(SMALL, &[("run_env.parallelism", "4"), ("streams.in.config.source.parallelism", "2")]);
    let plan = planned.plan.unwrap();
    assert_eq!((plan.parallelism, plan.nodes[0].parallelism), (4, Some(2)));
    for (key, value, expected) in [
        ("run_env.parallelism", "four", "--set run_env.parallelism:1:1: error[wrong-type] expected a whole number, found a text\n"),
        ("run_env.paralelism", "4", "--set:1:9: error[unknown-key] unknown key `paralelism`; did you mean `parallelism`?\n"),
        ("sink.frist.type", "Null", "--set:1:6: error[bad-set] no item `frist` in a list of 2; did you mean `first`?\n"),
        ("sink.first.input", "in.x", "--set sink.first.input:1:4: error[unknown-port] `in` has no port `x`\n"),
        ("sink.1.input", "in", ""),
        ("run_env.parallelism.x", "4", "--set:1:21: error[bad-set] `x` lies within a number\n"),
        ("TOPC", "x", "--set:1:1: warning[unused-variable] nothing mentions the variable `TOPC`\n"),
    ] {
        let got = crate::diagnostic::concise(&plan_with(SMALL, &[(key, value)]).diagnostics);
        assert_eq!(got, expected, "{key}");
    }
    let with = SMALL.replace("parallelism: 1", "parallelism: 1, time_zone: \"${ZONE:-UTC}\"");
    assert_eq!(plan_with(&with, &[("ZONE", "Asia/Shanghai")]).plan.unwrap().env.time_zone, "Asia/Shanghai");
    assert_eq!(
        lint(&with.replace("ZONE:-UTC", "ZONE:-Mars/Base")),
        "1:38: error[unknown-time-zone] unknown time zone `Mars/Base`: use an IANA name like `Asia/Shanghai`\n"
    );
}

/// Whatever the text, there is an answer.
#[test]
fn mutated_texts_never_panic() {
    let seeds = [
        SMALL.to_string(),
        super::around("  - {type: KeyBy, name: x, config: {keys: [b]}}\n  - {type: Union, input: [x, in.errors]}"),
        "a: &x |\n  é\nb: *x\nc: \"q\\u00e9${A:-1}\"\n".to_string(),
    ];
    let bits = [
        "\t", "\n", "  ", ": ", "- ", "{{", "}}", "[", "]", "'", "\"", "#", "&a", "*a", "|", ">", "${", "}", "é", "\u{0}", "\\", "? ",
        "---\n", "<<", "null", "1e9", "\r",
    ];
    let mut state = 7u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % n.max(1)
    };
    for round in 0..1500 {
        let mut text = seeds[round % seeds.len()].clone();
        for _ in 0..1 + random(6) {
            let boundary = |text: &str, mut i: usize| {
                while !text.is_char_boundary(i) {
                    i -= 1;
                }
                i
            };
            let (a, b) = (random(text.len() + 1), random(text.len() + 1));
            let (a, b) = (boundary(&text, a), boundary(&text, b));
            match random(4) {
                0 => text.insert_str(a, bits[random(bits.len())]),
                1 => text.replace_range(a.min(b)..a.max(b).min(boundary(&text, (a.min(b) + 9).min(text.len()))).max(a.min(b)), ""),
                2 => {
                    let piece = text[a.min(b)..a.max(b)].to_string();
                    text.insert_str(a.min(b), &piece);
                }
                _ => text.truncate(a),
            }
        }
        let planned = plan_with(&text, &[]);
        assert!(planned.plan.is_some() != planned.has_errors(), "{text}");
        assert!(planned.diagnostics.iter().all(|d| d.id != "bug"), "{text}");
        for d in &planned.diagnostics {
            assert!(d.line >= 1 && d.column >= 1);
        }
        crate::diagnostic::full(&planned.diagnostics, false);
    }
}
