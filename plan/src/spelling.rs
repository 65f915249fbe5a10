//! How values and keys are spelled: what is easily taken for something else, and what was probably meant.

use crate::check::list;
use crate::diagnostic::Found;
use crate::scalar;
use crate::yaml::{Entry, Node, Scalar, snake_case};
use millrace_sdk::Kind;
use millrace_sdk::config::{Duration, Size};
use millrace_sdk::problem::did_you_mean;

/// A secret that is written out; a variable or a file would keep it out of the topology.
pub(crate) fn plain_secret(node: &Node, s: &Scalar) -> Option<Found> {
    (!s.text.is_empty() && !s.from_outside()).then(|| {
        Found::warning("plain-secret", node.span, "a secret is written out in the topology")
            .hint("take it from the environment, `${NAME}`, or from a file, `${file:/run/secrets/name}`")
    })
}

/// A number, a duration, `true`: what names no field.
pub(crate) fn is_amount(node: &Node) -> bool {
    node.text().is_some_and(|t| !scalar::core(t).is_string() || Duration::parse(t).is_ok() || Size::parse(t).is_ok())
}

/// A duration whose unit is a word: `10 seconds` is `10s`.
pub(crate) fn duration(text: &str) -> Option<String> {
    reworded(text, |unit| match unit {
        "microsecond" | "usec" | "micro" => Some("us"),
        "millisecond" | "msec" | "milli" | "msecond" => Some("ms"),
        "second" | "sec" => Some("s"),
        "minute" | "mins" | "min" => Some("m"),
        "hour" | "hr" => Some("h"),
        "day" => Some("d"),
        unit => ["us", "ms", "s", "m", "h", "d"].into_iter().find(|u| *u == unit),
    })
    .filter(|d| Duration::parse(d).is_ok())
}

/// A size whose unit is written otherwise: `10mb` is `10MB`, `10 megabytes` too.
pub(crate) fn size(text: &str) -> Option<String> {
    reworded(text, |unit| match unit {
        "kilobyte" | "kb" => Some("kB"),
        "megabyte" | "mb" => Some("MB"),
        "gigabyte" | "gb" => Some("GB"),
        "k" | "ki" | "kib" | "kibibyte" => Some("KiB"),
        "m" | "mi" | "mib" | "mebibyte" => Some("MiB"),
        "g" | "gi" | "gib" | "gibibyte" => Some("GiB"),
        "t" | "ti" | "tib" | "tebibyte" => Some("TiB"),
        "b" | "byte" => Some("B"),
        _ => None,
    })
    .filter(|s| Size::parse(s).is_ok())
}

/// Numbers with the units that `known` gives for theirs, which it gets in small letters and in the singular.
fn reworded(text: &str, known: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
    let text = text.trim();
    let mut out = String::from(if text.starts_with('-') { "-" } else { "" });
    let mut rest = text.trim_start_matches('-');
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let unit = unit.trim().trim_end_matches('.').to_ascii_lowercase();
        let known = known(&unit).or_else(|| known(unit.strip_suffix('s')?))?;
        out.push_str(&format!("{digits}{known}"));
        rest = next;
    }
    Some(out)
}

/// A wrong amount with what it was surely meant to be.
pub(crate) fn amount(found: Found, meant: Option<String>) -> Found {
    Found { sure: meant.is_some(), ..found }.suggest(meant)
}

pub(crate) fn leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Spellings that other readers of YAML take otherwise, or that look like names and are numbers.
pub(crate) fn odd_scalar(node: &Node, text: &str) -> Option<Found> {
    let quoted = format!("\"{text}\"");
    let tell = |message: String| {
        Found::warning("odd-scalar", node.span, message).hint(format!("write {quoted} for the text")).fix(vec![(node.span, quoted.clone())])
    };
    if matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off") {
        let word = if matches!(text.to_ascii_lowercase().as_str(), "yes" | "on") { "true" } else { "false" };
        return Some(tell(format!("`{text}` is a text here, and {word} for older readers of YAML")));
    }
    let exponent = text.bytes().all(|b| b.is_ascii_digit() || b == b'e' || b == b'E') && text.contains(['e', 'E']);
    match scalar::number(text) {
        Some(n) if leading_zero(text) => Some(tell(format!("`{text}` is the number {n}: its zeros are lost"))),
        Some(n) if exponent => Some(tell(format!("`{text}` is the number {n}"))),
        _ => None,
    }
}

/// What other tools call these keys.
const ELSEWHERE: &[(&str, &str)] = &[
    ("addresses", "brokers"),
    ("auto_offset_reset", "start"),
    ("bootstrap_server", "brokers"),
    ("bootstrap_servers", "brokers"),
    ("client_id", "properties"),
    ("codec", "format"),
    ("condition", "where"),
    ("conditions", "ports"),
    ("connection", "url"),
    ("consumer_group", "group"),
    ("consumer_group_id", "group"),
    ("encoding", "format"),
    ("expression", "expr"),
    ("file", "path"),
    ("filename", "path"),
    ("filter", "where"),
    ("format_type", "format"),
    ("group_id", "group"),
    ("host", "url"),
    ("hosts", "url"),
    ("key_by", "keys"),
    ("lateness", "max_out_of_orderness"),
    ("maximum", "max"),
    ("minimum", "min"),
    ("offset", "start"),
    ("offsets", "start"),
    ("on", "keys"),
    ("partition_by", "keys"),
    ("paths", "path"),
    ("predicate", "where"),
    ("schema", "fields"),
    ("separator", "delimiter"),
    ("servers", "brokers"),
    ("starting_offset", "start"),
    ("time_field", "field"),
    ("timestamp_field", "field"),
    ("uri", "url"),
];

/// What other tools call these parts.
const PARTS_ELSEWHERE: &[(Kind, &str, &[&str])] = &[
    (Kind::Source, "Stdin", &["console"]),
    (Kind::Source, "Generator", &["demo_logs", "datagen", "generate"]),
    (Kind::Source, "Inline", &["values", "static"]),
    (Kind::Operator, "StringToMap", &["grok", "csv", "json", "dissect", "parse", "decode", "regex", "kv"]),
    (Kind::Operator, "Filter", &["where"]),
    (Kind::Operator, "Map", &["select", "mapping", "project"]),
    (Kind::Operator, "TemplateExtract", &["mutate", "remap", "bloblang"]),
    (Kind::Operator, "SplitStream", &["route", "switch"]),
    (Kind::Operator, "SplitElement", &["explode", "flatten", "unnest", "unarchive"]),
    (Kind::Operator, "Dedup", &["distinct", "deduplicate"]),
    (Kind::Operator, "KeyBy", &["group_by", "groupby", "partition_by"]),
    (Kind::Operator, "CountWindowWithTimeOut", &["window", "aggregate", "batch", "reduce"]),
    (Kind::Operator, "IntervalLeftJoin", &["join", "interval_join"]),
    (Kind::Operator, "Lookup", &["enrich", "cached"]),
    (Kind::Operator, "Union", &["merge"]),
    (Kind::Sink, "Stdout", &["console", "print"]),
    (Kind::Sink, "Null", &["blackhole", "drop", "discard"]),
    (Kind::Store, "Embedded", &["memory", "local"]),
];

/// The part that does what is called so in other tools.
pub(crate) fn part_elsewhere(kind: Kind, name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    PARTS_ELSEWHERE.iter().find(|(k, _, others)| *k == kind && others.contains(&&*name)).map(|(_, part, _)| *part)
}

pub(crate) fn unknown_key<'a>(entry: &Entry, known: impl Iterator<Item = &'a str> + Clone) -> Found {
    let snake = snake_case(&entry.key).replace(['.', '-'], "_");
    let suggestion = ELSEWHERE
        .iter()
        .find(|(other, own)| *other == snake && known.clone().any(|k| k == *own))
        .map(|(_, own)| own.to_string())
        .or_else(|| did_you_mean(&entry.key, known.clone()))
        .or_else(|| did_you_mean(&snake, known.clone()))
        // `start_position` is `start` with more words.
        .or_else(|| {
            let longer = known.clone().filter(|k| snake.strip_prefix(k).is_some_and(|rest| rest.starts_with('_')));
            longer.max_by_key(|k| k.len()).map(String::from)
        });
    let known_again = known.clone();
    let mut names: Vec<&str> = known.collect();
    names.sort_unstable();
    names.dedup();
    let found = Found::error("unknown-key", entry.key_span, format!("unknown key `{}`", entry.key))
        .sure(&entry.key, known_again)
        .suggest(suggestion);
    if names.is_empty() { found.hint("no keys are known here") } else { found.hint(format!("known keys are {}", list(&names))) }
}
