//! JSON, maps and arrays.

use super::{FunctionDef, Param::*, Prepared};
use crate::sql::node::{Cx, Settings, index};
use crate::sql::value::{R, V, fail};
use millrace_sdk::inventory::submit;
use millrace_sdk::json::{self, Pairs};
use millrace_sdk::{Type, Val, convert};

const A: Type = Type::Any;

submit! { FunctionDef::new("json_value", &[Json, Text], A, "json_value(json, path) -> scalar", "the scalar at a path like `$.a.b[0]`; NULL where there is none, or a map or an array", "json_value('{\"a\":{\"b\":7}}', '$.a.b') => 7",
|a, cx, p| Ok(match at(a, cx, p)? { V::Json(_) => V::Null, v => v })).prepare(1, path) }
submit! { FunctionDef::new("json_query", &[Json, Text], Type::Json, "json_query(json, path) -> json", "the map or array at a path; NULL where there is none, or a scalar", "json_query('{\"a\":[1,2]}', '$.a') => '[1,2]'",
|a, cx, p| Ok(match at(a, cx, p)? { v @ V::Json(_) => v, _ => V::Null })).prepare(1, path) }
submit! { FunctionDef::new("json_exists", &[Json, Text], Type::Boolean, "json_exists(json, path) -> boolean", "whether there is something at a path, null too", "json_exists('{\"a\":null}', '$.a') => true",
|a, cx, p| Ok(V::Bool(!matches!(lookup(a, cx, p)?, Val::Missing)))).prepare(1, path) }
submit! { FunctionDef::new("json_length", &[Json, Text], Type::Bigint, "json_length(json[, path]) -> bigint", "number of members or elements; 1 for a scalar", "json_length('[1,2,3]') => 3",
|a, cx, p| {
    let v = if a.len() > 1 { at(a, cx, p)? } else { document(a[0], cx)?.into() };
    Ok(match v { V::Null => V::Null, V::Json(_) | V::Split(..) => V::Int(size(v)), _ => V::Int(1) })
}).optional(1).prepare(1, path) }
submit! { FunctionDef::new("json_keys", &[Json], Type::Array, "json_keys(json) -> array", "the keys of an object", "json_keys('{\"a\":1,\"b\":2}') => '[\"a\",\"b\"]'",
|a, cx, _| { let d = document(a[0], cx)?; keys(d.into(), cx) }) }
submit! { FunctionDef::new("json_type", &[Json], Type::String, "json_type(json) -> string", "object, array, string, number, boolean or null", "json_type('[1]') => 'array'",
|a, cx, _| Ok(V::Str(match document(a[0], cx)? {
    Val::Json(t) if t.starts_with('[') => "array",
    Val::Json(_) | Val::Split(..) => "object",
    Val::Bool(_) => "boolean",
    Val::Int(_) | Val::Float(_) | Val::Num(_) => "number",
    Val::Null | Val::Missing => "null",
    _ => "string",
}))) }
submit! { FunctionDef::new("parse_json", &[Text], Type::Json, "parse_json(text) -> json", "the value of a JSON text, so that `.` and `[]` reach into it", "parse_json('{\"a\": [1, 2]}')['a'][2] => 2",
|a, cx, _| document(a[0], cx).map(Into::into)) }
submit! { FunctionDef::new("to_json", &[Any], Type::String, "to_json(value) -> string", "a value as JSON text", "to_json('a\"b') => '\"a\\\"b\"'",
|a, cx, _| Ok(V::Str(written(a[0], cx)))).takes_null() }
submit! { FunctionDef::new("json_object", &[Any], Type::Json, "json_object(key, value, …) -> json", "an object of keys and values", "json_object('a', 1, 'b', NULL) => '{\"a\":1,\"b\":null}'",
|a, cx, _| {
    if a.len() % 2 != 0 { return fail("invalid-argument", "json_object takes pairs of key and value"); }
    let out = cx.pool.string();
    out.push('{');
    for (i, pair) in a.chunks(2).enumerate() {
        if i > 0 { out.push(','); }
        out.push_str(written(V::Str(pair[0].text()?), cx));
        out.push(':');
        out.push_str(written(pair[1], cx));
    }
    out.push('}');
    Ok(V::Json(out))
}).variadic().takes_null() }
submit! { FunctionDef::new("json_array", &[Any], Type::Array, "json_array(a, b, …) -> array", "an array of the arguments", "json_array(1, 'x') => '[1,\"x\"]'",
|a, cx, _| {
    let out = cx.pool.string();
    out.push('[');
    for (i, v) in a.iter().enumerate() {
        if i > 0 { out.push(','); }
        out.push_str(written(*v, cx));
    }
    out.push(']');
    Ok(V::Json(out))
}).variadic().takes_null() }
submit! { FunctionDef::new("cardinality", &[Container], Type::Bigint, "cardinality(map or array) -> bigint", "number of members or elements", "cardinality(json_array(1, 2)) => 2",
|a, _, _| match a[0] { v @ (V::Json(_) | V::Split(..)) => Ok(V::Int(size(v))), v => v.not_a("a map or an array") }) }
submit! { FunctionDef::new("element_at", &[Container, Any], A, "element_at(map or array, key or number) -> value", "as `m['key']` and `a[1]`: NULL where there is none, negative numbers count from the end", "element_at(json_array(1, 2), -1) => 2",
|a, cx, _| index(a[0], a[1], cx.pool)) }
submit! { FunctionDef::new("map_keys", &[Container], Type::Array, "map_keys(map) -> array", "its keys", "map_keys(json_object('a', 1)) => '[\"a\"]'",
|a, cx, _| keys(a[0], cx)) }
submit! { FunctionDef::new("map_values", &[Container], Type::Array, "map_values(map) -> array", "its values", "map_values(json_object('a', 1, 'b', 'x')) => '[1,\"x\"]'",
|a, cx, _| {
    let out = cx.pool.string();
    out.push('[');
    match a[0] {
        V::Json(t) if t.starts_with('{') => json::members(t).for_each(|m| { if out.len() > 1 { out.push(','); } out.push_str(m.raw); }),
        V::Split(t, p, k) => Pairs::new(t, p, k).for_each(|(_, v)| { if out.len() > 1 { out.push(','); } out.push_str(written(V::Str(v), cx)); }),
        v => return v.not_a("a map"),
    }
    out.push(']');
    Ok(V::Json(out))
}) }
submit! { FunctionDef::new("array_contains", &[Container, Any], Type::Boolean, "array_contains(array, value) -> boolean", "whether an element equals the value", "array_contains(json_array(1, 2), 2.0) => true",
|a, cx, _| {
    let V::Json(t) = a[0] else { return a[0].not_a("an array") };
    for m in json::members(t) {
        let v: V<'_> = m.value(cx.pool.string()).into();
        let comparable = v.number().is_some() == a[1].number().is_some() && std::mem::discriminant(&v) == std::mem::discriminant(&a[1]);
        if (comparable || v.number().is_some() && a[1].number().is_some()) && crate::sql::value::compare(v, a[1])?.is_some_and(|o| o.is_eq()) {
            return Ok(V::Bool(true));
        }
    }
    Ok(V::Bool(false))
}) }
submit! { FunctionDef::new("array_join", &[Container, Text, Text], Type::String, "array_join(array, separator[, null]) -> string", "its elements as text, separated; nulls are left out, or written as the third argument", "array_join(json_array(1, 'b'), '-') => '1-b'",
|a, cx, _| {
    let (V::Json(t), separator) = (a[0], a[1].text()?) else { return a[0].not_a("an array") };
    let out = cx.pool.string();
    let mut first = true;
    for m in json::members(t) {
        let v: V<'_> = m.value(cx.pool.string()).into();
        let v = if v.is_null() { a.get(2).copied().unwrap_or(V::Null) } else { v };
        if v.is_null() { continue; }
        if !first { out.push_str(separator); }
        first = false;
        v.write(out)?;
    }
    Ok(V::Str(out))
}).optional(1) }
submit! { FunctionDef::new("split", &[Text, Text], Type::Array, "split(text, separator) -> array", "the pieces between separators", "split('a,b', ',') => '[\"a\",\"b\"]'",
|a, cx, _| {
    let (t, separator) = (a[0].text()?, a[1].text()?);
    let out = cx.pool.string();
    let mut bytes = vec![b'['];
    let mut piece = |p: &str| { if bytes.len() > 1 { bytes.push(b','); } json::quote(p.as_bytes(), &mut bytes); };
    if separator.is_empty() { piece(t) } else { t.split(separator).for_each(&mut piece) }
    bytes.push(b']');
    out.push_str(std::str::from_utf8(&bytes).unwrap_or("[]"));
    Ok(V::Json(out))
}).alias(&["string_to_array"]) }
submit! { FunctionDef::new("str_to_map", &[Text, Text, Text], Type::Map, "str_to_map(text[, pairs, keys]) -> map", "a map of text like `a=1,b=2`; the separators are one ASCII character each, `,` and `=` if not given", "str_to_map('a=1;b=2', ';', '=')['b'] => '2'",
|a, cx, _| {
    let separator = |i: usize, or: &'static str| -> R<u8> {
        let s = match a.get(i) { Some(v) => v.text()?, None => or };
        match s.as_bytes() { [c] if c.is_ascii() => Ok(*c), _ => fail("invalid-argument", format!("a separator is one ASCII character, not `{s}`")) }
    };
    let (t, pair, key) = (a[0].text()?, separator(1, ",")?, separator(2, "=")?);
    if json::clean(t.as_bytes()) && pair != key { return Ok(V::Split(t, pair, key)); }
    let mut out = vec![];
    convert::split_to_json(t, pair, key, &mut out);
    Ok(V::Json(cx.pool.keep(String::from_utf8(out).unwrap_or_default())))
}).optional(2) }

/// A value as JSON; a string is a JSON text to be read.
fn document<'a>(v: V<'a>, cx: &Cx<'a>) -> R<Val<'a>> {
    match v {
        V::Str(t) => match convert::json_value(t.trim_ascii(), cx.pool.string()) {
            Some(v) => Ok(v),
            None => fail("invalid-argument", "the text is not JSON"),
        },
        v => Ok(v.to_val(cx.pool)),
    }
}

fn lookup<'a>(a: &[V<'a>], cx: &Cx<'a>, prepared: &'a Prepared) -> R<Val<'a>> {
    let found = match prepared {
        Prepared::Path(steps) => json::lookup(document(a[0], cx)?, steps, cx.pool.string()),
        _ => match steps(a[1].text()?) {
            Ok(steps) => json::lookup(document(a[0], cx)?, &steps, cx.pool.string()),
            Err(e) => return fail("invalid-argument", e),
        },
    };
    Ok(found)
}

fn at<'a>(a: &[V<'a>], cx: &Cx<'a>, prepared: &'a Prepared) -> R<V<'a>> {
    lookup(a, cx, prepared).map(Into::into)
}

fn path(text: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    steps(text).map(Prepared::Path).map_err(|e| ("invalid-json-path", e))
}

/// `$.a.b[0]['c d']`, with or without `lax `; the steps of [`json::lookup`].
fn steps(text: &str) -> Result<Box<[Box<str>]>, String> {
    let bad = || format!("`{text}` is no path: write `$.a.b`, `$.list[0]`, `$['a key']`");
    let mut rest = text.trim();
    rest = rest.strip_prefix("lax ").unwrap_or(rest).trim_start();
    rest = rest.strip_prefix('$').ok_or_else(bad)?;
    let mut out: Vec<Box<str>> = vec![];
    while !rest.is_empty() {
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 || name[..end].contains('*') {
                return Err(bad());
            }
            out.push(name[..end].trim_matches('"').into());
            rest = &name[end..];
        } else if let Some(inner) = rest.strip_prefix('[') {
            let quote = inner.chars().next().filter(|c| *c == '\'' || *c == '"');
            let (step, after) = match quote {
                Some(q) => inner[1..].split_once(q).and_then(|(s, r)| Some((s, r.strip_prefix(']')?))),
                None => inner.split_once(']').filter(|(s, _)| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit())),
            }
            .ok_or_else(bad)?;
            out.push(step.into());
            rest = after;
        } else {
            return Err(bad());
        }
    }
    Ok(out.into())
}

fn size(v: V<'_>) -> i64 {
    match v {
        V::Json(t) => json::members(t).count() as i64,
        V::Split(t, p, k) => Pairs::new(t, p, k).count() as i64,
        _ => 0,
    }
}

fn keys<'a>(v: V<'a>, cx: &Cx<'a>) -> R<V<'a>> {
    let out = cx.pool.string();
    out.push('[');
    match v {
        V::Json(t) if t.starts_with('{') => json::members(t).for_each(|m| {
            if out.len() > 1 {
                out.push(',');
            }
            out.push('"');
            out.push_str(m.raw_key.unwrap_or_default());
            out.push('"');
        }),
        V::Split(t, p, k) => Pairs::new(t, p, k).for_each(|(key, _)| {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(written(V::Str(key), cx));
        }),
        v => return v.not_a("a map"),
    }
    out.push(']');
    Ok(V::Json(out))
}

fn written<'a>(v: V<'a>, cx: &Cx<'a>) -> &'a str {
    let mut out = vec![];
    json::write_val(v.to_val(cx.pool), &mut out);
    cx.pool.keep(String::from_utf8(out).unwrap_or_default())
}
