//! Names, paths and JSONPaths: the simple ones are steps to follow, the others are searched.

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use millrace_sdk::json::{self, canonical, write_val};
use millrace_sdk::{BatchBuilder, Record, Schema, Val};
use std::fmt;
use std::sync::Arc;

/// A parsed reference to a field.
#[derive(Clone, Debug)]
pub struct Path {
    /// A name or a dotted path, as `Schema::resolve` takes it; None: the whole row.
    field: Option<String>,
    /// Steps below that cannot be written with dots.
    rest: Vec<String>,
    query: Option<Query>,
}

impl Path {
    /// # Errors
    /// What begins with `$` and is no JSONPath: a sentence, and the byte at which it cannot be read.
    pub fn parse(text: &str) -> Result<Path, (usize, String)> {
        if !text.starts_with('$') {
            return Ok(Path { field: Some(text.into()), rest: vec![], query: None });
        }
        let (mut steps, mut left) = simple(text);
        let mut query = None;
        if !left.is_empty() || steps.is_empty() {
            if left.contains('$') {
                // A filter that looks at the root needs the root.
                (steps, left) = (vec![], &text[1..]);
            }
            let parsed = parse_json_path(&format!("${left}")).map_err(|e| fault(&e.to_string(), text, left))?;
            query = Some(Query(Arc::new(parsed)));
        }
        let dotted = steps.iter().position(|s| s.contains('.') || s.is_empty()).unwrap_or(steps.len());
        if dotted == 0 && !steps.is_empty() {
            let first = steps.remove(0);
            return Ok(Path { field: Some(first), rest: steps, query });
        }
        let rest = steps.split_off(dotted);
        Ok(Path { field: (!steps.is_empty()).then(|| steps.join(".")), rest, query })
    }

    pub fn field(&self) -> Option<String> {
        self.field.clone()
    }
    pub fn rest(&self) -> &[String] {
        &self.rest
    }
    pub fn query(&self) -> Option<Query> {
        self.query.clone()
    }
}

/// What the parser says of `$` and the rest of a text: its place and its last words.
fn fault(said: &str, text: &str, left: &str) -> (usize, String) {
    let column = said.split_once("--> 1:").and_then(|(_, c)| c.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
    // Its first character is the `$` that stands for what was read.
    let characters = column.unwrap_or(1).saturating_sub(2);
    let at = text.len() - left.len() + left.char_indices().nth(characters).map_or(left.len(), |(i, _)| i);
    let words = said.lines().last().unwrap_or(said).trim().trim_start_matches("= ");
    (at, words.to_string())
}

/// Steps of a path `$.a['b'][0]`, as far as it is of that kind, and what is left of it.
fn simple(text: &str) -> (Vec<String>, &str) {
    let mut steps = vec![];
    let mut left = text.strip_prefix('$').unwrap_or(text);
    loop {
        let next = match left.as_bytes() {
            [b'.', ..] => {
                let name = &left[1..];
                let end = name.find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(name.len());
                (end > 0).then(|| (name[..end].to_string(), &name[end..]))
            }
            [b'[', quote @ (b'\'' | b'"'), ..] => quoted(&left[2..], *quote as char),
            [b'[', ..] => left[1..].split_once(']').and_then(|(n, rest)| {
                let index = !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit());
                index.then(|| (n.to_string(), rest))
            }),
            _ => None,
        };
        match next {
            Some((step, rest)) => {
                steps.push(step);
                left = rest;
            }
            None => return (steps, left),
        }
    }
}

/// A name up to its closing quote and bracket.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            c if c == quote => return text[i + 1..].strip_prefix(']').map(|rest| (name, rest)),
            c => name.push(c),
        }
    }
    None
}

/// A JSONPath that can find several values.
#[derive(Clone)]
pub struct Query(Arc<JpQuery>);

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Query {
    /// Pushes an array of all that the path finds in `value`, or in the whole row where that is None; Missing where there is
    /// no container to search.
    ///
    /// # Errors
    /// The container nests too deep to be searched, or holds a number beyond f64.
    pub fn push(&self, value: Option<Val<'_>>, row: &Record<'_>, schema: &Schema, out: &mut BatchBuilder) -> Result<(), String> {
        let mut text = vec![];
        match value {
            None => json::write_row(row, schema, &mut text),
            Some(v @ (Val::Json(_) | Val::Split(..))) => write_val(v, &mut text),
            Some(_) => {
                out.push_missing();
                return Ok(());
            }
        }
        let text = String::from_utf8(text).map_err(|e| e.to_string())?;
        let document: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("it cannot be searched: {e}"))?;
        let found = js_path_process(&self.0, &document).map_err(|e| e.to_string())?;
        let begun = out.begin_text();
        let array = out.text_mut();
        array.push(b'[');
        for (i, hit) in found.into_iter().enumerate() {
            if i > 0 {
                array.push(b',');
            }
            // The text that was found, not what the search made of it: numbers stay as they are written.
            let steps: Vec<Box<str>> = simple(&hit.path).0.into_iter().map(Into::into).collect();
            let mut scratch = String::new();
            match json::lookup(Val::Json(&text), &steps, &mut scratch) {
                Val::Missing => canonical(&hit.val.to_string(), array),
                v => write_val(v, array),
            }
        }
        array.push(b']');
        out.end_json(begun);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases: &[(&str, Option<&str>, &[&str], Option<&str>)] = &[
            ("uid", Some("uid"), &[], None),
            ("client.os", Some("client.os"), &[], None),
            ("$.uid", Some("uid"), &[], None),
            ("$.a.b[0]['c']", Some("a.b.0.c"), &[], None),
            ("$['a.b'].c", Some("a.b"), &["c"], None),
            ("$.x['a.b'][1]", Some("x"), &["a.b", "1"], None),
            (r#"$.x["a\"]b"]"#, Some(r#"x.a"]b"#), &[], None),
            ("$.items[*].id", Some("items"), &[], Some("")),
            ("$..id", None, &[], Some("")),
            ("$.a[?@.x > $.y]", None, &[], Some("")),
            ("$.a[-1]", Some("a"), &[], Some("")),
            ("$", None, &[], Some("")),
        ];
        for (text, field, rest, query) in cases {
            let p = Path::parse(text).unwrap();
            assert_eq!(
                (p.field.as_deref(), &p.rest[..], p.query.is_some()),
                (*field, &rest.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], query.is_some()),
                "{text}"
            );
        }
        for bad in ["$.", "$[", "$.a[", "$x", "$.a[?]"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
