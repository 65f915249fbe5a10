//! JSON, maps and arrays.

use super::{Args, Done, Example, HelperDef};
use crate::template::value::{is_array, same, text};
use millrace_sdk::{Type, Val, convert, json};

const THEME: &str = "json";

/// Appends to a text what `f` appends to bytes; `f` writes UTF-8.
fn append(out: &mut String, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::mem::take(out).into_bytes();
    f(&mut bytes);
    *out = String::from_utf8(bytes).unwrap_or_default();
}

inventory::submit!(HelperDef::new(
    "json",
    THEME,
    "json A",
    1..=1,
    Type::String,
    "As JSON text without spaces; `{{json this}}` is the whole row.",
    &[
        Example("{{json a}}", r#"{"a":{"x":[1,"y"]}}"#, r#"{"x":[1,"y"]}"#),
        Example("{{json a}}", r#"{"a":"say \"hi\""}"#, r#""say \"hi\"""#),
        Example("{{json this}}", r#"{"a":1,"b":null}"#, r#"{"a":1,"b":null}"#),
    ],
    to_json
));
fn to_json<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    append(out, |bytes| json::write_val(a.val(0), bytes));
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "json_parse",
    THEME,
    "json_parse TEXT",
    1..=1,
    Type::Any,
    "The value that a JSON text denotes.",
    &[
        Example("{{get (json_parse a) \"x\"}}", r#"{"a":"{\"x\": 7}"}"#, "7"),
        Example("{{#each (json_parse a)}}<{{this}}>{{/each}}", r#"{"a":"[1,2]"}"#, "<1><2>")
    ],
    json_parse
));
fn json_parse<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let v = a.val(0);
    if !matches!(v, Val::Str(_) | Val::Bytes(_)) {
        return Ok(v);
    }
    let t = a.text(0).into_owned();
    let mut scratch = String::new();
    let parsed = match convert::json_value(&t, &mut scratch) {
        Some(v) => v,
        None => return Err(a.fail("invalid-json", format!("{} is not JSON", super::shown(v)))),
    };
    Ok(match parsed {
        Val::Str(s) => {
            out.push_str(s);
            Val::Str(out)
        }
        Val::Num(n) => {
            out.push_str(n);
            Val::Num(out)
        }
        Val::Json(j) => {
            out.push_str(j.trim_ascii());
            Val::Json(out)
        }
        Val::Bool(b) => Val::Bool(b),
        _ => Val::Null,
    })
}

inventory::submit!(HelperDef::new(
    "json_get",
    THEME,
    "json_get A PATH",
    2..=2,
    Type::Any,
    "What PATH (`a.b.0`) leads to in a map, an array, or a text that is JSON; null if it leads nowhere.",
    &[
        Example("{{json_get a \"x.1\"}}", r#"{"a":"{\"x\":[1,\"two\"]}"}"#, "two"),
        Example("{{json_get a \"x.y\"}}", r#"{"a":{"x":{"y":true}}}"#, "true")
    ],
    json_get
));
fn json_get<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let path: Vec<Box<str>> = a.text(1).split('.').map(Into::into).collect();
    let container = match a.val(0) {
        Val::Str(t) if t.trim_ascii().starts_with(['{', '[']) => {
            // A text is only looked into when all of it is JSON.
            if serde_json::from_str::<serde::de::IgnoredAny>(t).is_err() {
                return Err(a.fail("invalid-json", format!("{} is not JSON", super::shown(a.val(0)))));
            }
            Val::Json(t.trim_ascii())
        }
        v => v,
    };
    Ok(json::lookup(container, &path, out))
}

inventory::submit!(
    HelperDef::new(
        "get",
        THEME,
        "get A KEY [DEFAULT]",
        2..=3,
        Type::Any,
        "The member KEY of a map, or the element KEY (from 0) of an array; DEFAULT or null if there is none.",
        &[
            Example("{{get m \"a.b\"}}", r#"{"m":{"a.b":1}}"#, "1"),
            Example("{{get m k \"none\"}}", r#"{"m":{"a":1},"k":"b"}"#, "none"),
            Example("{{get (split ext \"|\" \"=\") \"b\"}}", r#"{"ext":"a=1|b=2"}"#, "2"),
            Example("{{lookup l 1}}", r#"{"l":["x","y"]}"#, "y"),
        ],
        get
    )
    .alias(&["lookup"])
);
fn get<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    match json::lookup(a.val(0), &[a.text(1).as_ref().into()], out) {
        _ if !is_container(a.val(0)) => Ok(a.val(2)),
        Val::Missing => Ok(a.val(2)),
        found => Ok(found),
    }
}

fn is_container(v: Val<'_>) -> bool {
    matches!(v, Val::Json(_) | Val::Split(..))
}

/// The keys of a map, each once, in the order in which they first appear.
fn distinct_keys(v: Val<'_>) -> Vec<String> {
    let mut keys: Vec<String> = vec![];
    let mut seen = std::collections::HashSet::new();
    let mut add = |k: &str| {
        if seen.insert(k.to_string()) {
            keys.push(k.to_string());
        }
    };
    match v {
        Val::Json(t) if !is_array(t) => json::members(t).for_each(|m| add(m.key(&mut String::new()))),
        Val::Split(t, pair, key) => json::Pairs::new(t, pair, key).for_each(|(k, _)| add(k)),
        _ => {}
    }
    keys
}

inventory::submit!(
    HelperDef::new(
        "length",
        THEME,
        "length A",
        1..=1,
        Type::Bigint,
        "Characters of a text, elements of an array, members of a map; 0 for missing and null.",
        &[
            Example("{{length a}}", r#"{"a":"中文!"}"#, "3"),
            Example("{{length a}}", r#"{"a":[1,2]}"#, "2"),
            Example("{{len a}}", r#"{"a":{"x":1}}"#, "1")
        ],
        length
    )
    .alias(&["len"])
);
fn length<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let n = match a.val(0) {
        Val::Json(t) if is_array(t) => json::members(t).count(),
        v @ (Val::Json(_) | Val::Split(..)) => distinct_keys(v).len(),
        _ => a.text(0).chars().count(),
    };
    Ok(Val::Int(n as i64))
}

inventory::submit!(HelperDef::new(
    "keys",
    THEME,
    "keys MAP",
    1..=1,
    Type::Array,
    "The keys of a map, in order.",
    &[Example("{{join (keys m) \",\"}}", r#"{"m":{"b":1,"a":2}}"#, "b,a")],
    keys
));
fn keys<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    if !is_container(a.val(0)) {
        return Ok(Val::Null);
    }
    append(out, |bytes| {
        bytes.push(b'[');
        for (i, k) in distinct_keys(a.val(0)).iter().enumerate() {
            if i > 0 {
                bytes.push(b',');
            }
            json::quote(k.as_bytes(), bytes);
        }
        bytes.push(b']');
    });
    Ok(Val::Json(out))
}

/// An element of an array, from its end if `index` is negative.
fn element<'a>(v: Val<'a>, index: i64, out: &'a mut String) -> Val<'a> {
    let Val::Json(t) = v else { return Val::Null };
    if !is_array(t) {
        return Val::Null;
    }
    let index = if index < 0 { json::members(t).count() as i64 + index } else { index };
    match usize::try_from(index).ok().and_then(|i| json::members(t).nth(i)) {
        Some(m) => m.value(out),
        None => Val::Null,
    }
}

inventory::submit!(HelperDef::new(
    "first",
    THEME,
    "first ARRAY",
    1..=1,
    Type::Any,
    "The first element; null if there is none.",
    &[Example("{{first a}}", r#"{"a":["x","y"]}"#, "x"), Example("{{first (split a \",\")}}", r#"{"a":"x,y"}"#, "x")],
    first
));
fn first<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    Ok(element(a.val(0), 0, out))
}

inventory::submit!(HelperDef::new(
    "last",
    THEME,
    "last ARRAY",
    1..=1,
    Type::Any,
    "The last element; null if there is none.",
    &[Example("{{last a}}", r#"{"a":["x","y"]}"#, "y")],
    last
));
fn last<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    Ok(element(a.val(0), -1, out))
}

inventory::submit!(HelperDef::new(
    "at",
    THEME,
    "at ARRAY I",
    2..=2,
    Type::Any,
    "Element I, counted from 0, or from the end if negative; null if there is none.",
    &[Example("{{at (split a \".\") 1}}", r#"{"a":"10.2.7"}"#, "2"), Example("{{at a -1}}", r#"{"a":[1,2,3]}"#, "3")],
    at
));
fn at<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    Ok(a.int(1)?.map_or(Val::Null, |i| element(a.val(0), i, out)))
}

inventory::submit!(HelperDef::new(
    "join",
    THEME,
    "join ARRAY SEP",
    2..=2,
    Type::String,
    "The texts of the elements with SEP between them; of what is no array its own text.",
    &[
        Example("{{join a \"-\"}}", r#"{"a":["x",1,null,true]}"#, "x-1--true"),
        Example("{{join (split a \",\") \"|\"}}", r#"{"a":"1,2,3"}"#, "1|2|3")
    ],
    join
));
fn join<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    match a.val(0) {
        Val::Json(t) if is_array(t) => {
            let sep = a.text(1);
            let mut scratch = String::new();
            for (i, m) in json::members(t).enumerate() {
                if i > 0 {
                    out.push_str(&sep);
                }
                out.push_str(&text(m.value(&mut scratch)));
            }
        }
        v if v.is_null() => return Ok(Val::Null),
        _ => out.push_str(&a.text(0)),
    }
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "contains",
    THEME,
    "contains A B",
    2..=2,
    Type::Boolean,
    "Whether the text A has B in it, the array A an element equal to B, or the map A a key B.",
    &[
        Example("{{contains a \"ell\"}}", r#"{"a":"hello"}"#, "true"),
        Example("{{#if (contains tags \"new\")}}new{{else}}old{{/if}}", r#"{"tags":["hot","new"]}"#, "new"),
        Example("{{contains m \"x\"}}", r#"{"m":{"x":null}}"#, "true"),
    ],
    contains
));
fn contains<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(match a.val(0) {
        Val::Json(t) if is_array(t) => {
            let mut scratch = String::new();
            json::members(t).any(|m| same(m.value(&mut scratch), a.val(1)))
        }
        v @ (Val::Json(_) | Val::Split(..)) => {
            let key = a.text(1);
            distinct_keys(v).iter().any(|k| *k == *key)
        }
        v => !v.is_null() && a.text(0).contains(&*a.text(1)),
    }))
}
