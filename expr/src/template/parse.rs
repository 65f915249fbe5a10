//! Parsing and checking: from text to what is read, what is wrong, and a program where the template is plain.

use super::helpers::HelperDef;
use super::program::{Call, If, Lit, Node};
use crate::Issue;
use handlebars::template::{BlockParam, HelperTemplate, Parameter, Template as Tree, TemplateElement};
use handlebars::{Path, PathSeg, TemplateErrorReason};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::reached::{Reached, Rows, Way};
use millrace_sdk::{Access, Schema, Type};
use serde_json::Value as Json;
use std::ops::Range;

/// Longest template, bytes.
const MAX_TEXT: usize = 256 << 10;
/// How deep blocks and subexpressions may nest.
const MAX_DEPTH: usize = 64;
/// Blocks that handlebars knows and no helper stands for.
const BLOCKS: [&str; 5] = ["if", "unless", "each", "with", "raw"];

/// What a template reads from the row.
#[derive(Default)]
pub struct Reads {
    /// Names and paths, in order of appearance, each once.
    pub names: Vec<String>,
    pub all: bool,
    /// The same with their slots, where there is a schema.
    pub paths: Vec<(Vec<String>, Access)>,
}

/// # Errors
/// The text does not parse.
pub fn reads(text: &str) -> Result<Reads, Issue> {
    let tree = parse(text)?;
    let mut walk = Walk::new(text, None);
    walk.template(&tree);
    Ok(walk.reads)
}

/// The parsed tree, what it reads, and a program if it is plain.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(text: &str, schema: &Schema, reached: Option<&Reached>) -> Result<(Tree, Reads, Option<Node>), Vec<Issue>> {
    let tree = parse(text).map_err(|i| vec![i])?;
    let mut walk = Walk { reached, ..Walk::new(text, Some(schema)) };
    let node = walk.template(&tree);
    // What handlebars itself runs is not counted.
    if let Some(reached) = reached.filter(|_| node.is_some()) {
        walk.ways.drain(..).for_each(|(way, rows)| reached.counted_by(way, rows));
    }
    if walk.issues.is_empty() { Ok((tree, walk.reads, node)) } else { Err(walk.issues) }
}

fn parse(text: &str) -> Result<Tree, Issue> {
    bounded(text)?;
    // The parser of handlebars has had panics on odd input (its issue 766); a user's text must never end the process.
    let parsed = std::panic::catch_unwind(|| Tree::compile(text));
    let error = match parsed {
        Ok(Ok(tree)) => return Ok(tree),
        Ok(Err(e)) => e,
        Err(_) => return Err(syntax(0..text.len(), "the template does not parse")),
    };
    let (line, column) = error.pos().unwrap_or((1, 1));
    let at = offset(text, line, column);
    let end = text[at..].find("}}").map_or(text.len(), |n| at + n + 2);
    Err(match error.reason() {
        TemplateErrorReason::MismatchingClosedHelper(open, close) => {
            syntax(at..end, format!("block `{open}` is closed as `{close}`")).with_hint(format!("write `{{{{/{open}}}}}`"))
        }
        TemplateErrorReason::InvalidParam(p) => {
            let at = text.find(p.as_str()).unwrap_or(at);
            syntax(at..at + p.len().min(text.len() - at), format!("`{p}` is no value"))
        }
        _ => unclosed(text).unwrap_or_else(|| syntax(at..end, "the template does not parse here")),
    })
}

fn syntax(range: Range<usize>, message: impl Into<String>) -> Issue {
    Issue { id: "template-syntax", range, message: message.into(), hint: None, suggestion: None }
}

impl Issue {
    fn with_hint(mut self, hint: impl Into<String>) -> Issue {
        self.hint = Some(hint.into());
        self
    }
}

/// Refuses what would cost the parser too much stack.
fn bounded(text: &str) -> Result<(), Issue> {
    if text.len() > MAX_TEXT {
        return Err(syntax(0..text.len(), format!("the template is longer than {MAX_TEXT} bytes")));
    }
    let (mut blocks, mut brackets, mut inside) = (0usize, 0usize, false);
    let t = text.as_bytes();
    for (i, c) in t.iter().enumerate() {
        if t[i..].starts_with(b"{{") {
            inside = true;
            if matches!(t.get(i + 2..), Some([b'#', ..] | [b'~', b'#', ..])) {
                blocks += 1;
            } else if matches!(t.get(i + 2..), Some([b'/', ..] | [b'~', b'/', ..])) {
                blocks = blocks.saturating_sub(1);
            }
        } else if t[i..].starts_with(b"}}") {
            inside = false;
            brackets = 0;
        } else if inside {
            match c {
                b'(' | b'[' | b'{' => brackets += 1,
                b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
                _ => {}
            }
        }
        if blocks > MAX_DEPTH || brackets > MAX_DEPTH {
            return Err(syntax(i..i + 1, format!("nested deeper than {MAX_DEPTH}")));
        }
    }
    Ok(())
}

/// The mistakes that a parser's own message explains worst.
fn unclosed(text: &str) -> Option<Issue> {
    if let Some(at) = bad_escape(text) {
        let escape: String = text[at..].chars().take(2).collect();
        return Some(
            syntax(at..at + escape.len(), format!("`{escape}` is no escape of a quoted text"))
                .with_hint(format!("quoted texts are JSON strings: write `\\{escape}`")),
        );
    }
    let (mut at, mut open): (usize, Vec<(&str, usize)>) = (0, vec![]);
    while let Some(n) = text[at..].find("{{") {
        let start = at + n;
        let Some(end) = text[start..].find("}}").map(|e| start + e + 2) else {
            return Some(syntax(start..text.len(), "`{{` has no `}}`").with_hint("write `\\{{` for the braces themselves"));
        };
        let inner = text[start + 2..end - 2].trim_matches(['~', ' ', '{', '}']);
        if let Some(block) = inner.strip_prefix('#') {
            open.push((block.split_whitespace().next().unwrap_or(""), start));
        } else if inner.starts_with('/') && open.pop().is_none() {
            return Some(
                syntax(start..end, format!("`{{{{{inner}}}}}` closes no block")).with_hint("take it out, or open the block before it"),
            );
        } else if inner.split_whitespace().next() == Some("else") && open.is_empty() {
            return Some(syntax(start..end, "`{{else}}` stands in no block").with_hint("it belongs between `{{#if …}}` and `{{/if}}`"));
        }
        at = end;
    }
    let (name, start) = open.pop()?;
    let end = text[start..].find("}}").map_or(text.len(), |e| start + e + 2);
    Some(syntax(start..end, format!("block `{name}` is not closed")).with_hint(format!("write `{{{{/{name}}}}}` behind it")))
}

/// A backslash inside of braces and quotes that starts no escape of JSON: `"\d"`.
fn bad_escape(text: &str) -> Option<usize> {
    let t = text.as_bytes();
    let (mut inside, mut quote, mut i) = (false, None, 0);
    while i < t.len() {
        match (t[i], quote) {
            (b'{', None) if t.get(i + 1) == Some(&b'{') => inside = true,
            (b'}', None) if t.get(i + 1) == Some(&b'}') => inside = false,
            (q @ (b'"' | b'\''), None) if inside => quote = Some(q),
            (b'\\', Some(q)) => match t.get(i + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u') => i += 1,
                Some(c) if *c == q => i += 1,
                _ => return Some(i),
            },
            (q, Some(open)) if q == open => quote = None,
            _ => {}
        }
        i += 1;
    }
    None
}

/// Byte offset of a line and a column (in characters), both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(i, _)| i)
}

/// Walks a tree in the order of its text.
struct Walk<'a> {
    text: &'a str,
    schema: Option<&'a Schema>,
    reads: Reads,
    issues: Vec<Issue>,
    /// Names before this byte have been seen.
    cursor: usize,
    /// The `each` and `with` blocks around, with their block parameters.
    scopes: Vec<Vec<String>>,
    /// How many `default` and `coalesce` are around.
    catching: usize,
    reached: Option<&'a Reached>,
    /// Sides of blocks, and their counts.
    ways: Vec<(Way, Rows)>,
}

/// None: nothing that a program can do (or an issue, which is noted).
type Made = Option<Node>;

impl<'a> Walk<'a> {
    fn new(text: &'a str, schema: Option<&'a Schema>) -> Walk<'a> {
        Walk { text, schema, reads: Reads::default(), issues: vec![], cursor: 0, scopes: vec![], catching: 0, reached: None, ways: vec![] }
    }

    fn template(&mut self, t: &Tree) -> Made {
        let mut parts = Some(vec![]);
        for (i, e) in t.elements.iter().enumerate() {
            if let Some(m) = t.mapping.get(i)
                && !matches!(e, TemplateElement::RawString(_))
            {
                self.cursor = self.cursor.max(offset(self.text, m.0, m.1));
            }
            let made = match e {
                TemplateElement::Comment(_) => continue,
                TemplateElement::RawString(s) if s.is_empty() => continue,
                e => self.element(e),
            };
            match (&mut parts, made) {
                (Some(all), Some(node)) => all.push(node),
                _ => parts = None,
            }
        }
        let mut parts = parts?;
        Some(match parts.len() {
            0 => Node::Lit(Lit::Str("".into())),
            1 => parts.swap_remove(0),
            _ => Node::Text(parts),
        })
    }

    fn branch(&mut self, t: Option<&Tree>) -> Made {
        t.map_or(Some(Node::Lit(Lit::Str("".into()))), |t| self.template(t))
    }

    fn element(&mut self, e: &TemplateElement) -> Made {
        match e {
            TemplateElement::RawString(s) => Some(Node::Lit(Lit::Str(s.as_str().into()))),
            TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) => match &h.name {
                name if h.params.is_empty() && h.hash.is_empty() => self.param(name),
                _ => self.call(h),
            },
            TemplateElement::HelperBlock(h) => self.block(h),
            TemplateElement::Comment(_) => Some(Node::Lit(Lit::Str("".into()))),
            _ => {
                let range = self.cursor..self.text[self.cursor..].find("}}").map_or(self.text.len(), |n| self.cursor + n + 2);
                self.issues.push(syntax(range, "templates have no partials and no decorators"));
                None
            }
        }
    }

    fn param(&mut self, p: &Parameter) -> Made {
        match p {
            Parameter::Name(n) => self.path(&[], &[n.clone()], n),
            Parameter::Path(Path::Relative((segs, raw))) => {
                let names: Vec<String> = segs
                    .iter()
                    .filter_map(|s| match s {
                        PathSeg::Named(n) => Some(n.clone()),
                        _ => None,
                    })
                    .collect();
                // The rules are not nameable outside of handlebars, their names are.
                let rules: Vec<String> = segs
                    .iter()
                    .filter_map(|s| match s {
                        PathSeg::Ruled(r) => Some(format!("{r:?}")),
                        _ => None,
                    })
                    .collect();
                self.path(&rules, &names, raw)
            }
            Parameter::Path(Path::Local((level, name, raw))) => {
                let range = self.find(raw);
                let message = match name.as_str() {
                    "index" | "key" | "first" | "last" if *level < self.scopes.len() => return None,
                    "index" | "key" | "first" | "last" => format!("`@{name}` is known only inside of `{{{{#each}}}}`"),
                    _ => format!("unknown variable `@{name}`"),
                };
                self.issues.push(Issue {
                    id: "unknown-field",
                    range,
                    message,
                    hint: Some(
                        "variables are @index, @key, @first, @last, and the row's fields from inside of a loop are @root.name".into(),
                    ),
                    suggestion: None,
                });
                None
            }
            Parameter::Literal(json) => Some(Node::Lit(self.literal(json))),
            Parameter::Subexpression(s) => match s.as_element() {
                TemplateElement::Expression(h) => self.call(h),
                e => self.element(e),
            },
            _ => None,
        }
    }

    fn literal(&mut self, json: &Json) -> Lit {
        match json {
            Json::String(s) => Lit::Str(s.as_str().into()),
            Json::Bool(b) => Lit::Bool(*b),
            Json::Null => Lit::Null,
            Json::Number(n) => n.as_i64().map_or_else(|| Lit::Num(n.to_string().into()), Lit::Int),
            other => Lit::Json(other.to_string().into()),
        }
    }

    fn path(&mut self, rules: &[String], names: &[String], raw: &str) -> Made {
        let range = self.find(raw);
        let ups = rules.iter().filter(|r| *r == "path_up").count();
        let from_root = rules.iter().any(|r| r == "path_root");
        let depth = self.scopes.len();
        if ups > depth {
            self.issues.push(syntax(range, format!("`{raw}` leads out of the template")));
            return None;
        }
        let bound = ups == 0 && !from_root && names.first().is_some_and(|n| self.scopes.iter().any(|s| s.contains(n)));
        if bound || (!from_root && ups < depth) {
            return None;
        }
        if names.is_empty() {
            self.reads.all = true;
            return None;
        }
        let path = names.join(".");
        let known = self.reads.names.contains(&path);
        if !known {
            self.reads.names.push(path.clone());
        }
        let schema = self.schema?;
        let Some(access) = schema.resolve(&path) else {
            self.unknown_field(&path, range, schema);
            return None;
        };
        if !known {
            self.reads.paths.push((names.to_vec(), access.clone()));
        }
        // Inside of loops only handlebars knows the scopes.
        if depth > 0 {
            return None;
        }
        Some(if access.rest.is_empty() { Node::Slot(access.slot, matches!(access.ty, Type::Decimal(..))) } else { Node::Path(access) })
    }

    fn unknown_field(&mut self, path: &str, range: Range<usize>, schema: &Schema) {
        if let Some(def) = HelperDef::find(path) {
            return self.issues.push(wrong_count(def, 0, range));
        }
        let fields: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
        let prefix = path.rfind('.').map(|dot| &path[..dot]).filter(|p| schema.slot(p).is_some());
        self.issues.push(Issue {
            id: "unknown-field",
            range,
            message: match prefix {
                Some(p) => format!("field `{p}` has nothing below it: `{path}`"),
                None => format!("unknown field `{path}`"),
            },
            hint: Some(if fields.is_empty() { "there are no fields here".into() } else { format!("fields here: {}", list(&fields)) }),
            suggestion: prefix.map(String::from).or_else(|| schema.meant(path)),
        });
    }

    fn call(&mut self, h: &HelperTemplate) -> Made {
        let name = h.name.as_name().unwrap_or("");
        let range = self.find(name);
        let def = HelperDef::find(name);
        match def {
            None => self.unknown_helper(name, range.clone()),
            Some(d) if h.hash.is_empty() && (h.params.len() < d.arity.0 || h.params.len() > d.arity.1) => {
                self.issues.push(wrong_count(d, h.params.len(), range.clone()));
            }
            Some(_) => {}
        }
        if let Some(key) = h.hash.keys().min() {
            self.issues.push(Issue {
                id: "wrong-argument-count",
                range,
                message: format!("`{name}` takes no named argument `{key}`"),
                hint: def.map(|d| format!("usage: `{}`", d.signature)),
                suggestion: None,
            });
        }
        let lenient = self.catching > 0;
        let catches = usize::from(def.is_some_and(HelperDef::catches));
        self.catching += catches;
        let args: Vec<Made> = h.params.iter().enumerate().map(|(i, p)| self.argument(def, i, p)).collect();
        self.catching -= catches;
        Some(Node::call(Call::new(def?, args.into_iter().collect::<Option<_>>()?, lenient)))
    }

    fn argument(&mut self, def: Option<&HelperDef>, i: usize, p: &Parameter) -> Made {
        if let Parameter::Literal(Json::String(s)) = p {
            let range = self.find_literal(s);
            if let Some(Err((id, message))) = def.and_then(|d| d.check).map(|check| check(i, s)) {
                let fault = millrace_sdk::pattern::regex_fault(s).filter(|_| id == "invalid-regex");
                let range = match fault.filter(|_| self.text.get(range.clone()) == Some(s.as_str())) {
                    Some((at, _)) => range.start + at.start..range.start + at.end,
                    None => range,
                };
                self.issues.push(Issue { id, range, message, hint: None, suggestion: None });
            } else if let Some(def) = def.filter(|d| d.counts(i) && s.trim().parse::<f64>().is_err()) {
                self.issues.push(Issue {
                    id: "wrong-argument",
                    range,
                    message: format!("`{}` takes a number here, found `{s}`", def.name),
                    hint: Some(format!("usage: `{}`", def.signature)),
                    suggestion: None,
                });
            }
        }
        self.param(p)
    }

    fn unknown_helper(&mut self, name: &str, range: Range<usize>) {
        let block = BLOCKS.contains(&name);
        let names = super::helpers().into_iter().flat_map(|h| std::iter::once(h.name).chain(h.aliases.iter().copied()));
        self.issues.push(Issue {
            id: "unknown-helper",
            range,
            message: if block { format!("`{name}` is a block: `{{{{#{name} …}}}}`") } else { format!("unknown helper `{name}`") },
            hint: (name == "if").then(|| "`cond C A B` gives one of two values".into()),
            suggestion: if block { None } else { did_you_mean(name, names) },
        });
    }

    fn block(&mut self, h: &HelperTemplate) -> Made {
        let name = h.name.as_name().unwrap_or("");
        let range = self.find(name);
        if BLOCKS.contains(&name) {
            let wanted = usize::from(name != "raw");
            if h.params.len() != wanted {
                self.issues.push(Issue {
                    id: "wrong-argument-count",
                    range,
                    message: format!("`#{name}` takes {wanted} argument{}, not {}", if wanted == 1 { "" } else { "s" }, h.params.len()),
                    hint: None,
                    suggestion: None,
                });
                return None;
            }
        }
        match name {
            "if" | "unless" => {
                let cond = self.param(&h.params[0]);
                let (then, other) = (self.branch(h.template.as_ref()), self.branch(h.inverse.as_ref()));
                let (cond, then, other) = (cond?, then?, other?);
                // `includeZero=true` is left to handlebars.
                h.hash.is_empty().then_some(())?;
                let (then, other) = if name == "if" { (then, other) } else { (other, then) };
                let seen = self.ways(&range, name, h);
                Some(Node::If(Box::new(If { cond, then, other, seen: if name == "if" { seen } else { seen.map(|[yes, no]| [no, yes]) } })))
            }
            "each" | "with" => {
                self.param(&h.params[0]);
                let params = match &h.block_param {
                    Some(BlockParam::Single(a)) => vec![a],
                    Some(BlockParam::Pair((a, b))) => vec![a, b],
                    _ => vec![],
                };
                self.scopes.push(params.iter().filter_map(|p| p.as_name()).map(String::from).collect());
                self.branch(h.template.as_ref());
                self.scopes.pop();
                self.branch(h.inverse.as_ref());
                None
            }
            "raw" => self.branch(h.template.as_ref()),
            _ => {
                match HelperDef::find(name) {
                    Some(d) if d.gives == Type::Boolean => {}
                    Some(d) => self.issues.push(
                        syntax(range.clone(), format!("`{}` is no block", d.name)).with_hint(format!("write `{{{{{}}}}}`", d.signature)),
                    ),
                    None => {
                        let tests = super::helpers().into_iter().filter(|h| h.gives == Type::Boolean).map(|h| h.name);
                        self.issues.push(Issue {
                            id: "unknown-helper",
                            range: range.clone(),
                            message: format!("unknown block `{name}`"),
                            hint: Some(format!("blocks are {}, and helpers that give true or false", BLOCKS.join(", "))),
                            suggestion: did_you_mean(name, BLOCKS.into_iter().chain(tests)),
                        });
                    }
                }
                let issues = self.issues.len();
                let cond = if HelperDef::find(name).is_some() { self.call(h) } else { None };
                let (then, other) = (self.branch(h.template.as_ref()), self.branch(h.inverse.as_ref()));
                if self.issues.len() > issues {
                    return None;
                }
                let seen = self.ways(&range, name, h);
                Some(Node::If(Box::new(If { cond: cond?, then: then?, other: other?, seen })))
            }
        }
    }

    /// The counts of a block's two sides, where these are counted.
    fn ways(&mut self, range: &Range<usize>, name: &str, h: &HelperTemplate) -> Option<[Rows; 2]> {
        self.reached.is_some().then_some(())?;
        let end = self.text[range.start..].find("}}").map_or(range.end, |i| range.start + i);
        let head = self.text.get(range.start..end).unwrap_or(name).trim_end_matches(['~', ' ']);
        let no =
            if h.inverse.is_some() { format!("{{{{else}}}} of {{{{#{head}}}}}") } else { format!("{{{{#{head}}}}} without its block") };
        let mut count = |at: usize, words: String| {
            let rows = Rows::default();
            self.ways.push((Way { text: self.text.to_string(), at, words }, rows.clone()));
            rows
        };
        Some([count(range.start, format!("{{{{#{head}}}}}")), count(end, no)])
    }

    /// Where a name stands: the first whole word from the cursor on that is not inside quotes. The cursor moves behind it.
    fn find(&mut self, name: &str) -> Range<usize> {
        let t = self.text.as_bytes();
        let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'$' | b'.') || c >= 0x80;
        let mut at = self.cursor;
        while !name.is_empty() && at + name.len() <= t.len() {
            if t[at..].starts_with(name.as_bytes()) && !(at > 0 && word(t[at - 1])) && !t.get(at + name.len()).is_some_and(|c| word(*c)) {
                self.cursor = at + name.len();
                return at..self.cursor;
            }
            at = match t[at] {
                q @ (b'"' | b'\'') => quoted_end(t, at, q).unwrap_or(at + 1),
                _ => at + 1,
            };
        }
        self.here()
    }

    /// Where a string literal stands, without its quotes.
    fn find_literal(&mut self, s: &str) -> Range<usize> {
        let t = self.text.as_bytes();
        let Some(at) = t[self.cursor..].iter().position(|c| matches!(c, b'"' | b'\'')).map(|n| self.cursor + n) else {
            return self.here();
        };
        let Some(end) = quoted_end(t, at, t[at]) else { return self.here() };
        self.cursor = end;
        if end - at >= s.len() + 2 { at + 1..end - 1 } else { at..end }
    }

    fn here(&self) -> Range<usize> {
        self.cursor.min(self.text.len())..self.text.len()
    }
}

/// The place behind the quoted text that starts at `at`.
fn quoted_end(t: &[u8], at: usize, quote: u8) -> Option<usize> {
    let mut i = at + 1;
    while i < t.len() {
        match t[i] {
            b'\\' => i += 1,
            c if c == quote => return Some(i + 1),
            b'}' if t.get(i + 1) == Some(&b'}') && quote == b'\'' => return None,
            _ => {}
        }
        i += 1;
    }
    None
}

fn wrong_count(def: &HelperDef, given: usize, range: Range<usize>) -> Issue {
    let wanted = match def.arity {
        (a, usize::MAX) => format!("at least {a}"),
        (a, b) if a == b => a.to_string(),
        (a, b) => format!("{a} to {b}"),
    };
    Issue {
        id: "wrong-argument-count",
        range,
        message: format!("`{}` takes {wanted} argument{}, not {given}", def.name, if wanted == "1" { "" } else { "s" }),
        hint: Some(format!("usage: `{}`", def.signature)),
        suggestion: None,
    }
}

/// A list for a message, cut where it becomes long.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
