//! How values and keys are spelled: what is easily taken for something else, and what was probably meant.

use crate::check::list;
use crate::diagnostic::Found;
use crate::scalar;
use crate::yaml::{Entry, Node, Scalar, snake_case};
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
    ("bootstrap_servers", "brokers"),
    ("client_id", "properties"),
    ("condition", "where"),
    ("consumer_group", "group"),
    ("filename", "path"),
    ("filter", "where"),
    ("group_id", "group"),
    ("host", "url"),
    ("offset", "start"),
    ("paths", "path"),
    ("predicate", "where"),
    ("separator", "delimiter"),
];

pub(crate) fn unknown_key<'a>(entry: &Entry, known: impl Iterator<Item = &'a str> + Clone) -> Found {
    let snake = snake_case(&entry.key).replace(['.', '-'], "_");
    let suggestion = ELSEWHERE
        .iter()
        .find(|(other, own)| *other == snake && known.clone().any(|k| k == *own))
        .map(|(_, own)| own.to_string())
        .or_else(|| did_you_mean(&entry.key, known.clone()))
        .or_else(|| did_you_mean(&snake, known.clone()));
    let known_again = known.clone();
    let mut names: Vec<&str> = known.collect();
    names.sort_unstable();
    let found = Found::error("unknown-key", entry.key_span, format!("unknown key `{}`", entry.key))
        .sure(&entry.key, known_again)
        .suggest(suggestion);
    if names.is_empty() { found.hint("no keys are known here") } else { found.hint(format!("known keys are {}", list(&names))) }
}
