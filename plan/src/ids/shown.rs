//! Examples of the pages that no case of the corpus can have: of rows that a template or an expression refuses, of the command line; and which
//! pages have none, and why. `tests/it/corpus.rs` runs them.

/// A field of a `TemplateExtract` that refuses a row, and one that does not.
pub struct OfRow {
    pub id: &'static str,
    pub bad: &'static str,
    /// The row, as JSON.
    pub row: &'static str,
    pub good: &'static str,
}

const fn row(id: &'static str, bad: &'static str, row: &'static str, good: &'static str) -> OfRow {
    OfRow { id, bad, row, good }
}

/// Reasons of rejected rows: what is refused hangs on the row.
#[rustfmt::skip]
pub const ROWS: &[OfRow] = &[
    row("invalid-argument", r#"x: {expr: "split_part(a, ',', n)"}"#, r#"{"a": "x,y", "n": 0}"#, r#"x: {expr: "split_part(a, ',', n + 1)"}"#),
    row("invalid-base64", r#"x: "{{base64_decode a}}""#, r#"{"a": "%%"}"#, r#"x: {template: "{{base64_decode a}}", default: none}"#),
    row("invalid-cast", r#"x: {expr: "cast(a as bigint)"}"#, r#"{"a": "seven"}"#, r#"x: {expr: "try_cast(a as bigint)"}"#),
    row("invalid-escape", r#"x: "{{json_unescape a}}""#, r#"{"a": "\\q"}"#, r#"x: {template: "{{json_unescape a}}", default: none}"#),
    row("invalid-hex", r#"x: "{{hex_decode a}}""#, r#"{"a": "xyz"}"#, r#"x: {template: "{{hex_decode a}}", default: none}"#),
    row("invalid-json", r#"x: "{{json_get a 'k'}}""#, r#"{"a": "{"}"#, r#"x: {template: "{{json_get a 'k'}}", default: none}"#),
    row("invalid-utf8", r#"x: "{{hex_decode a}}""#, r#"{"a": "ff"}"#, r#"x: {template: "{{hex_decode a}}", default: none}"#),
    row("not-a-number", r#"x: "{{add a 1}}""#, r#"{"a": "seven"}"#, r#"x: {template: "{{add a 1}}", default: 0}"#),
    row("not-a-time", r#"x: "{{to_epoch_ms a 'yyyy-MM-dd'}}""#, r#"{"a": "soon"}"#, r#"x: {template: "{{to_epoch_ms a 'yyyy-MM-dd'}}", default: 0}"#),
    row("not-an-ip", r#"x: "{{ip_to_int a}}""#, r#"{"a": "host"}"#, r#"x: {template: "{{ip_to_int a}}", default: 0}"#),
    row("wrong-argument", r#"x: "{{first (split a b)}}""#, r#"{"a": "x,y", "b": ""}"#, r#"x: "{{first (split a ',')}}""#),
];

/// What stands behind `millrace lint job.yaml` on the command line.
pub struct OfCommand {
    pub id: &'static str,
    pub bad: &'static str,
    pub good: &'static str,
}

pub const COMMANDS: &[OfCommand] = &[
    OfCommand { id: "bad-set", bad: "--set sink.7.name=out", good: "--set run_env.parallelism=2" },
    OfCommand { id: "unused-variable", bad: "--set BROKRES=kafka:9092", good: "--set BROKERS=kafka:9092" },
];

/// Pages without an example, and why.
pub const UNSHOWN: &[(&str, &str)] = &[
    ("bug", "nobody knows one"),
    ("few-partitions", "it takes a broker"),
    ("no-answer", "it takes a server that does not answer"),
    ("not-allowed", "it takes a console that allows less than its user may"),
    ("not-connected", "it takes a server"),
    ("not-utf8", "a page is UTF-8 itself"),
    ("short-retention", "it takes a broker"),
    ("style-last-line", "lines of a page end"),
    ("too-many-columns", "it takes 65,536 columns"),
];
