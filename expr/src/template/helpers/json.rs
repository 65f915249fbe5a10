//! JSON, maps and arrays.

use super::{Args, Done, Example, HelperDef};
use millrace_sdk::{Type, Val, json};

const THEME: &str = "json";

inventory::submit! { HelperDef::new("json", THEME, "json A", 1..=1, Type::String, "As JSON text without spaces; `{{json this}}` is the whole row.",
    &[
        Example("{{json a}}", r#"{"a":{"x":[1,"y"]}}"#, r#"{"x":[1,"y"]}"#),
        Example("{{json a}}", r#"{"a":"say \"hi\""}"#, r#""say \"hi\"""#),
        Example("{{json this}}", r#"{"a":1,"b":null}"#, r#"{"a":1,"b":null}"#),
    ], to_json) }
fn to_json<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let mut bytes = std::mem::take(out).into_bytes();
    json::write_val(a.val(0), &mut bytes);
    *out = String::from_utf8(bytes).unwrap_or_default();
    Ok(Val::Str(out))
}
