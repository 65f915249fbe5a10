//! Formatting changes how a text looks and nothing else.

use crate::fmt::format;

#[test]
fn formats() {
    for (from, to) in [
        ("sink:\n- {type: Out}\nname: x\n", "name: x\nsink:\n  - {type: Out}\n"),
        ("a:\n    b:\n        - c:   1\n          d:  [ 1,2 ,3 ]\n        -   e\n", "a:\n  b:\n    - c: 1\n      d: [1, 2, 3]\n    - e\n"),
        (
            "a: \"b\"\nb: 'c d'\nc: \"1\"\nd: 'no'\ne: \"x: y\"\nf: 'it''s'\ng: \"${X}\"\nh: 'host:9092'\n",
            "a: b\nb: c d\nc: \"1\"\nd: 'no'\ne: \"x: y\"\nf: 'it''s'\ng: \"${X}\"\nh: host:9092\n",
        ),
        (
            "# file\n\nsink:   # of sink\n      # within\n      - 1\n\n# of name\nname: x   # here\n",
            "# file\n\n# of name\nname: x   # here\nsink:   # of sink\n  # within\n  - 1\n",
        ),
        (
            "a:\n    - |\n        x\n          y\n\n        z\n    - b: >-\n            folded\n            text\n",
            "a:\n  - |\n    x\n      y\n\n    z\n  - b: >-\n      folded\n      text\n",
        ),
        ("a: {b: 1,\n       c: [1,\n  2],\n }\n", "a: {b: 1,\n  c: [1,\n    2],\n  }\n"),
        ("a: one\n     two\n\n     three\nb: \"x\n  y\"\n", "a: one\n  two\n\n  three\nb: \"x\n  y\"\n"),
        ("a:\n- - 1\n  - 2\n-\n  - 3\n- b:\n  - c\n  d: e\n", "a:\n  - - 1\n    - 2\n  -\n    - 3\n  - b:\n      - c\n    d: e\n"),
        ("a: {b: \"c\", d: \"e, f\", 'g': {}}\r\nb: []\r\n\r\n", "a: {b: c, d: \"e, f\", g: {}}\nb: []\n"),
        ("streams: &s {a: 1}\nrun_env: *s\n", "streams: &s {a: 1}\nrun_env: *s\n"),
        (
            "\n\nname: x\n\n\nstreams:\n  a:\n    config:\n\n      source: 1\n  # end\n# last\n",
            "name: x\n\n\nstreams:\n  a:\n    config:\n\n      source: 1\n  # end\n# last\n",
        ),
    ] {
        let once = format("t", from).unwrap_or_else(|d| panic!("{from}\n{d:?}"));
        assert_eq!(once, to, "{from}");
        assert_eq!(format("t", &once).expect("YAML"), once, "{from}");
    }
    assert!(format("t", "a: [1\nb: {{x}}\n").is_err());
}

/// Texts of the corpus and of all topologies: written otherwise they come out the same, and do not when they mean another thing.
#[test]
fn what_is_written_otherwise_becomes_the_same() {
    for text in texts() {
        let once = format("t", &text).expect("YAML");
        assert_eq!(format("t", &once).expect("YAML"), once);
        // Deeper indentation, lists in the column of their key, more blanks.
        let wide: String = once.lines().map(|l| format!("{}{l}\n", if l.starts_with(' ') { "   " } else { "" })).collect();
        assert_eq!(format("t", &wide).expect("YAML"), once, "{wide}");
        let spaced = once.replace("{", "{ ").replace("}", " }");
        if !once.contains("{{") && !once.contains("${") && !once.contains('\'') && !once.contains('|') {
            assert_eq!(format("t", &spaced).expect("YAML"), once, "{spaced}");
        }
    }
}

/// Topologies, and the bases of the corpus.
pub fn texts() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |p: &std::path::Path| std::fs::read_to_string(p).expect("readable");
    let list = |p: &str| std::fs::read_dir(root.join(p)).expect("a folder").map(|e| e.expect("an entry").path()).collect::<Vec<_>>();
    let mut all: Vec<String> =
        list("../topologies").iter().map(|d| d.join("topology.yaml")).filter(|f| f.exists()).map(|f| read(&f)).collect();
    for page in list("corpus").iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        all.extend(read(page).split("```yaml\n").skip(1).filter_map(|b| b.split("```").next().map(String::from)));
    }
    assert!(all.len() > 10, "{}", all.len());
    all
}
