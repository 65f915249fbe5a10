//! Fragments, defaults and included files become plain parts.

use super::{lint, plan};

const HEAD: &str = "
fragments:
  step:
    parameters: {keys: , word: {type: string, default: x}}
    transforms:
      - {type: Filter, name: real, config: {where: a > 1}}
      - {type: KeyBy, config: {keys: \"${keys}\"}}
      - {type: SplitStream, config: {ports: {big: \"b = '${word}'\"}}}
  twice:
    parameters: {k: }
    transforms:
      - {fragment: step, name: one, with: {keys: \"${k}\"}}
      - {fragment: step, input: one.big, with: {keys: \"${k}\", word: y}}
streams:
  in: {config: {source: {type: Feed, config: {fields: {a: bigint, b: string}}}}}
";

#[test]
fn parts_are_named_after_their_use() {
    let plan = plan(&format!(
        "{HEAD}transforms:\n  - {{fragment: twice, name: t, input: in, with: {{k: [b]}}}}\n  - {{fragment: step, input: t.big, with: {{keys: [a]}}}}\nsink:\n  - {{type: Out, input: [step.big, t-one.rest, t.rest, step.rest]}}\n"
    ));
    let names: Vec<&str> = plan.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "in",
            "t-one-real",
            "t-one-key_by",
            "t-one",
            "t-real",
            "t-key_by",
            "t",
            "step-real",
            "step-key_by",
            "step",
            "sink_1",
            "dead_letter"
        ]
    );
    let from: Vec<usize> = plan.nodes[1..10].iter().map(|n| n.inputs[0].from.node.0).collect();
    assert_eq!(from, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_fault_names_both_places() {
    let text = format!(
        "{}transforms:\n  - {{fragment: step, name: s, input: in, with: {{keys: [b]}}}}\nsink:\n  - {{type: Out, input: [s.big, s.rest]}}\n",
        HEAD.replace("a > 1", "aa > 1")
            .split("  twice:")
            .next()
            .map(|h| h.to_string() + "streams:" + HEAD.split("streams:").nth(1).unwrap_or(""))
            .unwrap_or_default()
    );
    let planned = crate::load_text("job.yaml", &text, std::path::Path::new("."), &crate::Options::default());
    let d = &planned.diagnostics[0];
    let second = d.second.as_ref().expect("where it is used");
    assert_eq!((d.id.as_str(), d.line, d.suggestion.as_deref()), ("unknown-field", 6, Some("a")), "{}", lint(&text));
    assert_eq!((second.line, second.message.as_str()), (12, "used here"), "{}", crate::diagnostic::full(&planned.diagnostics, false));
}

#[test]
fn defaults_fill_what_is_not_said() {
    let plan = |head: &str| {
        plan(&format!(
            "{head}{}transforms:\n  - {{type: KeyBy}}\n  - {{type: KeyBy, config: {{keys: [a]}}}}\nsink: [{{type: Out}}]\n",
            HEAD.split("fragments:")
                .next()
                .map(|h| h.to_string() + "streams:" + HEAD.split("streams:").nth(1).unwrap_or(""))
                .unwrap_or_default()
        ))
    };
    let keys = |p: &crate::plan::Plan| p.nodes[1..3].iter().map(|n| n.ports[0].1.key.clone().unwrap_or_default()).collect::<Vec<_>>();
    let all = plan("defaults: {KeyBy: {keys: [b]}}\n");
    assert_eq!(format!("{:?}", keys(&all)), "[[\"b\"], [\"a\"]]");
    let by_kind = plan("defaults: {KeyBy: {keys: [b]}, transforms: {KeyBy: {keys: [a, b]}}}\n");
    assert_eq!(format!("{:?}", keys(&by_kind)), "[[\"a\", \"b\"], [\"a\"]]");
}

/// Each use doubles what is there: no more than the limit of a text is made.
#[test]
fn fragments_of_fragments_have_a_limit() {
    let mut text = String::from("fragments:\n  f0: {transforms: [{type: Filter, config: {where: a > 1}}]}\n");
    for n in 1..30 {
        text += &format!("  f{n}: {{transforms: [{{fragment: f{}, name: a}}, {{fragment: f{}, name: b}}]}}\n", n - 1, n - 1);
    }
    text += &format!(
        "streams:{}transforms:\n  - {{fragment: f29, name: s}}\nsink: [{{type: Out}}]\n",
        HEAD.split("streams:").nth(1).unwrap_or("")
    );
    let said = lint(&text);
    assert!(said.contains("alias-bomb"), "{said}");
}
