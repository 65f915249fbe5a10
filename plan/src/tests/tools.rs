//! Allowances, fixes, formats for other programs, and what several faults in one file say.

use super::{lint, plan_with};
use crate::{fix, github, sarif};
use serde_json::Value;

const BASE: &str = "\
name: base # the whole
streams:
  in: {config: {source: {type: Feed, config: {fields: {a: bigint, b: string}}}}}
transforms:
  - type: Filter
    name: big
    config:
      where: a > 1
  - {type: Map, name: more, config: {set: {c: a + 1}}}
sink:
  - {type: Out, input: more}
";

fn with(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    BASE.replacen(from, to, 1)
}

#[test]
fn one_syntax_error_hides_nothing() {
    assert_eq!(lint(BASE), "");
    for (from, to, expected) in [
        ("where: a > 1", "where: \"a > 1", "8:14: error[syntax] the quote `\"` is not closed\n"),
        ("where: a > 1", "where: 'it's'", "8:18: error[syntax] text behind the closing quote\n"),
        ("    config:\n      where", "    config:\n\twhere", "8:1: error[tab] a tab in the indentation\n"),
        ("    name: big\n    config:\n      w", "\tname: big\n\tconfig:\n\t\tw", "6:1: error[tab] a tab in the indentation\n"),
        ("    name: big", "   name: big", "6:4: error[syntax] this line's indentation fits nothing above it\n"),
        ("    name: big", "     name: big", "6:6: error[syntax] this key stands deeper than the one above it, which already has a value\n"),
        ("c: a + 1}}}", "c: a + 1}}", "9:5: error[syntax] the bracket `{` is not closed\n"),
        ("c: a + 1}}}", "c: a + 1}}}}", "9:55: error[syntax] `}` closes nothing\n"),
        ("a: bigint, b", "a: bigint b", "3:66: error[syntax] a comma is missing before this\n"),
        ("where: a > 1", "where: a: 1", "8:15: error[syntax] `: ` inside a text that is not quoted\n"),
        ("where: a", "where a", "8:7: error[wrong-type] expected a map, found a text; did you mean `where: a > 1`?\n"),
        ("where: a", "where:a", "8:7: error[wrong-type] expected a map, found a text; did you mean `where: a > 1`?\n"),
        ("- type", "-type", "5:3: error[syntax] a space is missing behind the dash\n"),
        ("transforms:", "transforms", "4:1: error[syntax] a colon is missing behind `transforms`\n"),
        ("  - type: F", "  type: F", "5:3: error[syntax] an item of a list without its dash\n"),
        ("where: a > 1", "where: @a", "8:14: error[syntax] a text cannot begin with `@`\n"),
        ("where: a > 1", "where: !a", "8:14: error[syntax] the tag `!a` has no meaning here\n"),
        ("where: a", "where: |\n    a", "9:5: error[syntax] this text does not stand deeper than its key\n"),
        ("where: a > 1", "where: {{a}}", "8:14: error[unquoted-template] a template that is not quoted is a YAML map\n"),
        ("name: big\n", "name: big\n    config: {}\n", "7:5: error[missing-key]"),
    ] {
        let text = with(from, to);
        if expected.contains("missing-key") {
            assert!(lint(&text).contains("duplicate-key"), "{text}");
            continue;
        }
        assert_eq!(lint(&text), expected, "{text}");
        // Three more faults, of which two are no syntax errors.
        let more = text.replace("type: Out", "type: Owt").replace("base # the", "base: # the");
        let got = lint(&more);
        let line = expected.split(' ').take(2).collect::<Vec<_>>().join(" ");
        assert!(got.contains(&line) && got.contains("unknown-part") && got.contains("1:11: error[syntax]"), "{more}\n{got}");
    }
}

#[test]
fn allowances() {
    let unread = with("input: more", "input: big");
    assert_eq!(lint(&unread), "9:23: warning[unread-output] nobody reads `more`: its rows are dropped and counted\n");
    for (text, expected) in [
        (unread.replace("a + 1}}}", "a + 1}}} # lint: allow(unread-output)"), ""),
        (
            unread.replace("  - {type: Map", "  # lint: allow(unread-output, odd-scalar)\n\n  # why\n  - {type: Map"),
            "9:32: note[unused-allow] there is no `odd-scalar` to allow on line 12\n",
        ),
        (
            with("a > 1", "a > 1 # lint: allow(unread-outptu)"),
            "8:34: note[unused-allow] no problem is called `unread-outptu`; did you mean `unread-output`?\n",
        ),
        (
            with("a > 1", "aa > 1 # lint: allow(unknown-field)"),
            "8:14: error[unknown-field] unknown field `aa`; did you mean `a`?\n8:35: note[unused-allow] `unknown-field` is an error here: errors cannot be allowed\n",
        ),
        (with("a > 1", "\"b = '# lint: allow(x)'\""), ""),
    ] {
        assert_eq!(lint(&text), expected, "{text}");
    }
}

/// After the fixes the fixed problems are gone, and nothing else has changed.
#[test]
fn fixes() {
    for (right, wrong) in [
        ("where: a", "were: a"),
        ("type: Filter", "type: Fliter"),
        ("type: Filter", "type: \"Filter\" # a filter, \"Fliter\""),
        ("transforms:", "transfroms:"),
        ("input: more", "input: moer"),
        ("input: more", "input: 'moer'"),
        ("    config:\n      where", "    config:\n\t\twhere"),
        ("- type: Filter", "-type: Filter"),
        ("where: a > 1", "where: |\n    a > 1"),
    ] {
        let text = with(right, wrong);
        let planned = plan_with(&text, &[]);
        let fixed = fix::apply(&text, &planned.diagnostics.iter().collect::<Vec<_>>());
        assert_eq!(lint(&fixed.text), "", "{wrong}\n{}", fixed.text);
        let same: Vec<(&str, &str)> = text.lines().zip(fixed.text.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(text.lines().count(), fixed.text.lines().count());
        assert!(same.len() == fixed.mended.len(), "{wrong}: {same:?}");
        assert!(fixed.text.starts_with("name: base # the whole\n"));
    }
    // Two names are as close: nothing is sure.
    let text = with("input: more", "input: mose").replace("name: big", "name: mote");
    assert!(plan_with(&text, &[]).diagnostics.iter().all(|d| d.fix.is_empty()), "{}", lint(&text));
}

#[test]
fn github_and_sarif() {
    let text = with("where: a", "were: a").replace("type: Out", "type: Owt").replace("name: big\n", "name: big\n    name: bag\n");
    let planned = plan_with(&text, &[]);
    let lines = github(&planned.diagnostics);
    assert!(lines.lines().all(|l| l.starts_with("::error file=job.yaml,line=")), "{lines}");
    assert!(
        lines.contains(",line=9,endLine=9,col=7,endColumn=11,title=unknown-key::unknown key `were`; did you mean `where`?%0A"),
        "{lines}"
    );

    let log: Value = serde_json::from_str(&sarif(&planned.diagnostics)).unwrap();
    assert_eq!((&log["version"], log["runs"].as_array().map(Vec::len)), (&"2.1.0".into(), Some(1)));
    assert!(log["$schema"].as_str().is_some_and(|s| s.contains("sarif-2.1.0")));
    let run = &log["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(run["tool"]["driver"]["name"], "millrace");
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), planned.diagnostics.len());
    for (r, d) in results.iter().zip(&planned.diagnostics) {
        assert!(["error", "warning", "note"].contains(&r["level"].as_str().unwrap()));
        assert!(r["message"]["text"].as_str().is_some_and(|t| t.starts_with(&d.message)));
        assert_eq!(rules[r["ruleIndex"].as_u64().unwrap() as usize]["id"], r["ruleId"]);
        let place = &r["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "job.yaml");
        let region = &place["region"];
        assert_eq!((region["startLine"].as_u64(), region["startColumn"].as_u64()), (Some(d.line as u64), Some(d.column as u64)));
        assert!(region["endColumn"].as_u64().unwrap() >= 1 && region["endLine"].as_u64() >= region["startLine"].as_u64());
        for f in r["fixes"].as_array().into_iter().flatten() {
            let change = &f["artifactChanges"][0];
            assert_eq!(change["artifactLocation"]["uri"], "job.yaml");
            assert!(change["replacements"][0]["deletedRegion"]["startLine"].is_u64());
        }
    }
    assert!(results.iter().any(|r| r["relatedLocations"][0]["message"]["text"] == "first defined here"));
    assert!(results.iter().any(|r| r["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"] == "where"));
}
