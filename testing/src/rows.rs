//! Rows as tests compare and show them.

use millrace_plan::cases::Datum;
use millrace_sdk::json::{self, members};
use millrace_sdk::{BatchBuilder, Record, Schema, Type, Val, convert};
use std::fmt::Write;

/// Flow maps and lists longer than this are broken into lines, characters.
const WIDE: usize = 130;

/// A row as it came out: its visible fields.
pub fn row(record: &Record<'_>, schema: &Schema) -> Datum {
    let mut text = Vec::new();
    json::write_row(record, schema, &mut text);
    let Datum::Map(mut fields) = from_json(&String::from_utf8_lossy(&text)) else { return Datum::Map(vec![]) };
    for (_, field) in schema.visible() {
        let value = fields.iter_mut().find(|(name, _)| **name == *field.name);
        match value.map(|(_, v)| v) {
            Some(Datum::Number { float, .. }) => *float = !matches!(field.ty, Type::Bigint | Type::Decimal(..)),
            Some(v) if field.ty == Type::Timestamp => {
                if let Some(t) = time(v) {
                    *v = Datum::Time(t);
                }
            }
            _ => {}
        }
    }
    Datum::Map(fields)
}

/// The time that a text is.
pub fn time(value: &Datum) -> Option<i64> {
    let Datum::Text(text) = value else { return None };
    let reader = convert::TimeReader::new(&convert::TimeFormat::Iso8601, "UTC").ok()?;
    reader.read(Val::Str(text)).ok()
}

/// JSON text that is known to be valid.
pub fn from_json(text: &str) -> Datum {
    let mut scratch = String::new();
    match json::view(text.trim(), &mut scratch) {
        Val::Bool(b) => Datum::Bool(b),
        Val::Num(n) => Datum::Number { text: n.into(), float: true },
        Val::Str(s) => Datum::Text(s.into()),
        Val::Json(j) if j.starts_with('{') => {
            let mut key = String::new();
            Datum::Map(members(j).map(|m| (m.key(&mut key).to_string(), from_json(m.raw))).collect())
        }
        Val::Json(j) => Datum::List(members(j).map(|m| from_json(m.raw)).collect()),
        _ => Datum::Null,
    }
}

/// Appends JSON.
pub fn to_json(d: &Datum, out: &mut String) {
    let quote = |t: &str, out: &mut String| {
        let mut bytes = Vec::new();
        json::quote(t.as_bytes(), &mut bytes);
        out.push_str(&String::from_utf8_lossy(&bytes));
    };
    match d {
        Datum::Null => out.push_str("null"),
        Datum::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Datum::Number { text, .. } => out.push_str(text),
        Datum::Text(t) => quote(t, out),
        Datum::Time(t) => quote(&time_text(*t), out),
        Datum::List(all) => {
            for (i, d) in all.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                to_json(d, out);
            }
            out.push_str(if all.is_empty() { "[]" } else { "]" });
        }
        Datum::Map(all) => {
            for (i, (k, d)) in all.iter().enumerate() {
                out.push(if i == 0 { '{' } else { ',' });
                quote(k, out);
                out.push(':');
                to_json(d, out);
            }
            out.push_str(if all.is_empty() { "{}" } else { "}" });
        }
    }
}

pub fn time_text(micros: i64) -> String {
    let mut out = Vec::new();
    json::write_time(micros, &mut out);
    String::from_utf8_lossy(&out).trim_matches('"').to_string()
}

/// In YAML's flow style, on one line.
pub fn yaml(d: &Datum) -> String {
    let mut out = String::new();
    write_yaml(d, &mut out);
    out
}

fn write_yaml(d: &Datum, out: &mut String) {
    match d {
        Datum::Text(t) => out.push_str(&scalar(t)),
        Datum::Time(t) => out.push_str(&scalar(&time_text(*t))),
        Datum::List(all) => {
            out.push('[');
            for (i, d) in all.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_yaml(d, out);
            }
            out.push(']');
        }
        Datum::Map(all) => {
            out.push('{');
            for (i, (k, d)) in all.iter().enumerate() {
                let _ = write!(out, "{}{}: ", if i == 0 { "" } else { ", " }, scalar(k));
                write_yaml(d, out);
            }
            out.push('}');
        }
        other => to_json(other, out),
    }
}

/// A text as YAML writes it within brackets: bare where that cannot be mistaken.
pub fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "_-./@+ ".contains(c);
    let first = text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '/');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "none"].iter().any(|w| text.eq_ignore_ascii_case(w));
    if first && !word && !text.ends_with(' ') && text.chars().all(safe) {
        return text.into();
    }
    let plain = !text.contains('\'') && !text.contains("${") && text.chars().all(|c| !c.is_control() && c != '\u{feff}');
    if plain {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for (i, c) in text.char_indices() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '$' if text[i..].starts_with("${") => out.push_str("$$"),
            c if c.is_control() || c == '\u{feff}' => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of rows as YAML: on one line if that is short, else a line each, `indent` blanks deep.
pub fn yaml_list(rows: &[String], indent: usize) -> String {
    let short: usize = rows.iter().map(|r| r.chars().count() + 2).sum();
    if short + indent < WIDE && rows.len() < 2 {
        return format!(" [{}]", rows.join(", "));
    }
    rows.iter().map(|r| format!("\n{:indent$}- {r}", "")).collect()
}

/// Pushes a value of a test as a value of a field's type.
///
/// # Errors
/// It is none.
pub fn push(d: &Datum, ty: Type, out: &mut BatchBuilder) -> Result<(), convert::ConvertError> {
    let mut text = String::new();
    let val = match d {
        Datum::Null => Val::Null,
        Datum::Bool(b) => Val::Bool(*b),
        Datum::Number { text, .. } => match text.parse() {
            Ok(i) => Val::Int(i),
            Err(_) => Val::Num(text),
        },
        Datum::Text(t) => Val::Str(t),
        Datum::Time(t) => Val::Time(*t),
        Datum::List(_) | Datum::Map(_) => {
            to_json(d, &mut text);
            Val::Json(&text)
        }
    };
    convert::push(val, ty, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        for (text, want) in [
            ("abc", "abc"),
            ("a b", "a b"),
            ("12", "'12'"),
            ("no", "'no'"),
            ("Null", "'Null'"),
            ("", "''"),
            ("a: b", "'a: b'"),
            ("it's", "\"it's\""),
            ("a\tb\"", "\"a\\tb\\\"\""),
            ("${X}", "\"$${X}\""),
            ("2026-01-01T00:00:00Z", "'2026-01-01T00:00:00Z'"),
        ] {
            assert_eq!(scalar(text), want);
        }
    }

    #[test]
    fn json_there_and_back() {
        let text = r#"{"a":[1,2.50,-1e3,"x\n"],"b":{"c":null,"d":true},"e":[],"f":{}}"#;
        let mut out = String::new();
        to_json(&from_json(text), &mut out);
        assert_eq!(out, text);
    }
}
