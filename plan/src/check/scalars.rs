//! Texts, numbers and booleans of a config: their formats, ranges and spellings.

use super::Checker;
use crate::diagnostic::Found;
use crate::scalar;
use crate::source::Span;
use crate::spelling::{amount, duration, leading_zero, plain_secret, size};
use crate::yaml::{Content, Node, Scalar};
use millrace_sdk::Type;
use millrace_sdk::config::{Duration, Size};
use millrace_sdk::problem::did_you_mean;
use serde_json::{Map, Value};

impl Checker<'_> {
    pub(super) fn string(&mut self, node: &Node, rules: &Map<String, Value>) -> Option<Value> {
        let Content::Scalar(s) = &node.content else { return self.wrong(node, "a text") };
        let format = rules.get("format").and_then(Value::as_str).unwrap_or("");
        let before = self.errors();
        if rules.get("x-address") == Some(&Value::Bool(true)) {
            self.addresses.push((node.span, s.text.clone()));
        }
        match format {
            "secret" => {
                self.secrets.push(node.span);
                self.secrets.extend(s.argument);
                self.found.extend(plain_secret(node, s));
            }
            "path" => self.paths.push((node.span, s.text.clone())),
            "duration" => {
                if let Err(e) = Duration::parse(&s.text) {
                    self.found.push(amount(Found::error("bad-duration", node.span, e), duration(&s.text)));
                }
            }
            "size" => {
                if let Err(e) = Size::parse(&s.text) {
                    self.found.push(amount(Found::error("bad-size", node.span, e), size(&s.text)));
                }
            }
            "type" if Type::parse(&s.text).is_none() => {
                let near = did_you_mean(&s.text, Type::NAMES.iter().copied()).filter(|n| Type::parse(n).is_some());
                let found = Found::error("unknown-type", node.span, format!("unknown type `{}`", s.text));
                self.found.push(match s.text.trim().to_ascii_lowercase().starts_with("decimal(") {
                    true => found.hint("write decimal(p,s): p digits in all, 1 to 38, of which s behind the point, 0 to p"),
                    false => found.suggest(Type::meant(&s.text)).hint(format!("types are {}", Type::NAMES.join(", "))),
                });
                // Read as what was likely meant; else as a type of which nothing is known.
                return Some(near.unwrap_or_else(|| "any".into()).into());
            }
            "expr" | "template" => self.cut_at_hash(node, s),
            _ => {}
        }
        let length = s.text.chars().count() as u64;
        let bound = |key: &str| rules.get(key).and_then(Value::as_u64);
        if let Some(min) = bound("minLength").filter(|m| length < *m) {
            self.found.push(Found::error(
                "out-of-range",
                node.span,
                format!("a text of {length} characters where at least {min} are needed"),
            ));
        }
        if let Some(max) = bound("maxLength").filter(|m| length > *m) {
            self.found.push(Found::error(
                "out-of-range",
                node.span,
                format!("a text of {length} characters where at most {max} are allowed"),
            ));
        }
        (self.errors() == before).then(|| Value::String(s.text.clone()))
    }

    /// `where: a like '% #x'`: YAML reads a comment from ` #` on.
    fn cut_at_hash(&mut self, node: &Node, s: &Scalar) {
        if !s.plain {
            return;
        }
        let after = &self.sources.text(node.span.src)[node.span.end..];
        let line = after.lines().next().unwrap_or("");
        let open = s.text.matches('\'').count() % 2 == 1 || s.text.matches("{{").count() > s.text.matches("}}").count();
        if open && line.trim_start().starts_with('#') && line.starts_with([' ', '\t']) {
            let hash = node.span.end + line.len() - line.trim_start().len();
            let span = Span { start: hash, end: node.span.end + line.trim_end().len(), ..node.span };
            self.found.push(
                Found::error("cut-at-hash", span, "YAML takes this for a comment, and the text ends before it")
                    .hint("put the whole value in quotes"),
            );
            self.bad = true;
        }
    }

    pub(super) fn number(&mut self, node: &Node, rules: &Map<String, Value>, integer: bool) -> Option<Value> {
        let what = if integer { "a whole number" } else { "a number" };
        let Content::Scalar(s) = &node.content else { return self.wrong(node, what) };
        let Value::Number(n) = scalar::unquoted(s) else { return self.wrong(node, what) };
        let n = match n.as_f64() {
            Some(f) if integer && !n.is_i64() && !n.is_u64() => {
                if f.abs() > 9e15 {
                    self.found.push(Found::error("out-of-range", node.span, format!("{} is too large", s.text)));
                    return None;
                }
                if f.fract() != 0.0 {
                    return self.wrong(node, what);
                }
                serde_json::Number::from(f as i64)
            }
            _ => n,
        };
        if s.plain && leading_zero(&s.text) && !s.from_outside() {
            let found = Found::warning("odd-scalar", node.span, format!("`{}` is read as {n}, by older readers of YAML as octal", s.text));
            self.found.push(found.hint("write the number without leading zeros").fix(vec![(node.span, n.to_string())]));
        }
        let value = n.as_f64().unwrap_or(f64::NAN);
        let format = rules.get("format").and_then(Value::as_str).unwrap_or("");
        let (low, high) = match format {
            "uint8" => (0.0, 255.0),
            "uint16" => (0.0, 65_535.0),
            "uint32" => (0.0, u32::MAX as f64),
            "uint64" | "uint" => (0.0, u64::MAX as f64),
            "int32" => (i32::MIN as f64, i32::MAX as f64),
            "int64" | "int" => (i64::MIN as f64, i64::MAX as f64),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let bound = |key: &str, default: f64| rules.get(key).and_then(Value::as_f64).unwrap_or(default);
        let (low, high) = (bound("minimum", low).max(low), bound("maximum", high).min(high));
        let (above, below) = (bound("exclusiveMinimum", f64::NEG_INFINITY), bound("exclusiveMaximum", f64::INFINITY));
        let message = if value < low {
            Some(format!("{n} is too small: the least is {low}"))
        } else if value > high {
            Some(format!("{n} is too large: the most is {high}"))
        } else if value <= above {
            Some(format!("{n} is too small: it must be more than {above}"))
        } else if value >= below {
            Some(format!("{n} is too large: it must be less than {below}"))
        } else {
            None
        };
        if let Some(m) = message {
            self.found.push(Found::error("out-of-range", node.span, m));
            return None;
        }
        Some(Value::Number(n))
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<Value> {
        match &node.content {
            Content::Scalar(s) => match scalar::unquoted(s) {
                Value::Bool(b) => Some(Value::Bool(b)),
                _ => {
                    let meant = match s.text.to_ascii_lowercase().as_str() {
                        "yes" | "on" | "y" | "true" | "1" => Some("true".to_string()),
                        "no" | "off" | "n" | "false" | "0" => Some("false".to_string()),
                        _ => None,
                    };
                    let value = self.wrong(node, "true or false");
                    if let Some(last) = self.found.last_mut().filter(|f| f.hint.is_none()) {
                        last.sure = meant.is_some();
                        last.suggestion = meant;
                    }
                    value
                }
            },
            _ => self.wrong(node, "true or false"),
        }
    }
}
