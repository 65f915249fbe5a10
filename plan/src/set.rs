//! `--set`: variables by their name, keys by their path.

use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::vars::Vars;
use crate::yaml::{self, Content, Entry, Node, snake_case};
use millrace_sdk::problem::did_you_mean;
use std::collections::BTreeMap;

/// Variables and keys. A key has a dot in it; the last of several settings of one name counts.
pub(crate) fn divide(set: &[(String, String)]) -> (BTreeMap<String, String>, Vec<(&str, &str)>) {
    let variables = set.iter().filter(|(k, _)| !k.contains('.')).cloned().collect();
    let keys = set.iter().filter(|(k, _)| k.contains('.')).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    (variables, keys)
}

/// Sets `streams.clicks.config.source.config.start`. Items of lists go by number, from 0, or by their `name`.
pub(crate) fn apply(report: &mut Report, root: &mut Node, key: &str, value: &str, vars: &mut Vars) {
    let path_src = report.sources.add("--set", format!("{key}={value}"));
    let steps: Vec<&str> = key.split('.').collect();
    let src = report.sources.add(format!("--set {key}"), value);
    let mut node = yaml::parse(report, src, vars);
    if matches!(node.content, Content::Null) && node.span.start == node.span.end {
        node.span = Span::new(src, 0..value.len());
    }
    let mut at = root;
    let mut offset = 0;
    for (i, step) in steps.iter().enumerate() {
        let span = Span::new(path_src, offset..offset + step.len());
        offset += step.len() + 1;
        if step.is_empty() {
            report.push(Found::error("bad-set", span, "an empty step in the key"));
            return;
        }
        if matches!(at.content, Content::Null) {
            at.content = Content::Map(vec![]);
        }
        let last = i + 1 == steps.len();
        let kind = at.kind();
        at = match &mut at.content {
            Content::Map(entries) => {
                let found =
                    entries.iter().position(|e| e.key == *step).or_else(|| entries.iter().position(|e| snake_case(&e.key) == *step));
                let index = found.unwrap_or_else(|| {
                    entries.push(Entry { key: step.to_string(), key_span: span, value: Node::null(span) });
                    entries.len() - 1
                });
                &mut entries[index].value
            }
            Content::Seq(items) => {
                let names: Vec<String> = items.iter().filter_map(|n| n.get("name")?.text().map(String::from)).collect();
                let by_name = || items.iter().position(|n| n.get("name").and_then(Node::text) == Some(step));
                match step.parse::<usize>().ok().filter(|n| *n < items.len()).or_else(by_name) {
                    Some(n) => &mut items[n],
                    None => {
                        let found = Found::error("bad-set", span, format!("no item `{step}` in a list of {}", items.len()));
                        let near = did_you_mean(step, names.iter().map(String::as_str));
                        report.push(found.suggest(near).hint("items go by their number, from 0, or by their `name`"));
                        return;
                    }
                }
            }
            Content::Bad => return,
            _ => {
                report.push(Found::error("bad-set", span, format!("`{step}` lies within {kind}")));
                return;
            }
        };
        if last {
            *at = node;
            return;
        }
    }
}

/// A variable that nothing mentions is a slip of the pen.
pub(crate) fn unused(report: &mut Report, vars: &Vars) {
    let names: Vec<String> = vars.unused().into_iter().map(String::from).collect();
    for name in names {
        let near = did_you_mean(&name, vars.mentioned());
        let src = report.sources.add("--set", name.clone());
        let found = Found::warning("unused-variable", Span::new(src, 0..name.len()), format!("nothing mentions the variable `{name}`"));
        report.push(found.suggest(near).hint("a key is set by its path, like `run_env.parallelism`"));
    }
}
