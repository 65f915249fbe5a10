//! Conditions.

use super::{Args, Done, Example, HelperDef, MANY};
use crate::template::value::{compare, same, truth};
use millrace_sdk::{Type, Val};
use std::cmp::Ordering;

const THEME: &str = "conditions";

inventory::submit!(HelperDef::new(
    "eq",
    THEME,
    "eq A B",
    2..=2,
    Type::Boolean,
    "Whether both are of the same kind and equal; missing equals null.",
    &[Example("{{eq os \"ios\"}}", r#"{"os":"ios"}"#, "true"), Example("{{#if (eq n \"1\")}}a{{else}}b{{/if}}", r#"{"n":1}"#, "b")],
    eq
));
fn eq<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(same(a.val(0), a.val(1))))
}

inventory::submit!(HelperDef::new(
    "ne",
    THEME,
    "ne A B",
    2..=2,
    Type::Boolean,
    "The opposite of `eq`.",
    &[Example("{{ne os \"ios\"}}", r#"{"os":"ios"}"#, "false")],
    ne
));
fn ne<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(!same(a.val(0), a.val(1))))
}

inventory::submit!(HelperDef::new(
    "lt",
    THEME,
    "lt A B",
    2..=2,
    Type::Boolean,
    "Whether A is less than B: two numbers, a number and a numeric string, or two strings.",
    &[
        Example("{{lt n 10}}", r#"{"n":9}"#, "true"),
        Example("{{lt n 10}}", r#"{"n":"9"}"#, "true"),
        Example("{{lt n 10}}", r#"{}"#, "false")
    ],
    lt
));
fn lt<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(compare(a.val(0), a.val(1)) == Some(Ordering::Less)))
}

inventory::submit!(HelperDef::new(
    "gt",
    THEME,
    "gt A B",
    2..=2,
    Type::Boolean,
    "Whether A is greater than B; see `lt`.",
    &[Example("{{gt n 10}}", r#"{"n":10.5}"#, "true")],
    gt
));
fn gt<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(compare(a.val(0), a.val(1)) == Some(Ordering::Greater)))
}

inventory::submit!(
    HelperDef::new(
        "lte",
        THEME,
        "lte A B",
        2..=2,
        Type::Boolean,
        "Whether A is at most B; see `lt`.",
        &[Example("{{lte n 10}}", r#"{"n":10}"#, "true"), Example("{{le \"a\" s}}", r#"{"s":"b"}"#, "true")],
        lte
    )
    .alias(&["le"])
);
fn lte<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(compare(a.val(0), a.val(1)).is_some_and(Ordering::is_le)))
}

inventory::submit!(
    HelperDef::new(
        "gte",
        THEME,
        "gte A B",
        2..=2,
        Type::Boolean,
        "Whether A is at least B; see `lt`.",
        &[Example("{{gte n 10}}", r#"{"n":9}"#, "false"), Example("{{ge 2 1}}", "{}", "true")],
        gte
    )
    .alias(&["ge"])
);
fn gte<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(compare(a.val(0), a.val(1)).is_some_and(Ordering::is_ge)))
}

inventory::submit!(HelperDef::new(
    "and",
    THEME,
    "and A B …",
    1..=MANY,
    Type::Boolean,
    "Whether all are true as `{{#if}}` sees it.",
    &[Example("{{and a b}}", r#"{"a":1,"b":"x"}"#, "true"), Example("{{and a b}}", r#"{"a":0,"b":"x"}"#, "false")],
    and
));
fn and<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(a.vals.iter().all(|v| truth(*v))))
}

inventory::submit!(HelperDef::new(
    "or",
    THEME,
    "or A B …",
    1..=MANY,
    Type::Boolean,
    "Whether any is true as `{{#if}}` sees it.",
    &[Example("{{or a b}}", r#"{"a":0,"b":"x"}"#, "true"), Example("{{or a b}}", r#"{"a":0}"#, "false")],
    or
));
fn or<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(a.vals.iter().any(|v| truth(*v))))
}

inventory::submit!(HelperDef::new(
    "not",
    THEME,
    "not A",
    1..=1,
    Type::Boolean,
    "Whether it is not true as `{{#if}}` sees it.",
    &[Example("{{not a}}", r#"{"a":""}"#, "true"), Example("{{not (eq a 1)}}", r#"{"a":1}"#, "false")],
    not
));
fn not<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(!truth(a.val(0))))
}

inventory::submit!(HelperDef::new(
    "in",
    THEME,
    "in A B C …",
    2..=MANY,
    Type::Boolean,
    "Whether A equals one of the others, as `eq` sees it.",
    &[Example("{{in os \"ios\" \"android\"}}", r#"{"os":"android"}"#, "true"), Example("{{in os \"ios\"}}", r#"{}"#, "false")],
    is_in
));
fn is_in<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(a.vals[1..].iter().any(|v| same(a.vals[0], *v))))
}

inventory::submit!(HelperDef::new(
    "cond",
    THEME,
    "cond C A B",
    2..=3,
    Type::Any,
    "A if C is true as `{{#if}}` sees it, else B. Both are worked out first: use `{{#if}}` where one of them could fail.",
    &[Example("{{cond (lt status 400) \"yes\" \"no\"}}", r#"{"status":404}"#, "no"), Example("{{cond a 1}}", r#"{}"#, "")],
    cond
));
fn cond<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(a.val(if truth(a.val(0)) { 1 } else { 2 }))
}

inventory::submit!(HelperDef::new(
    "default",
    THEME,
    "default A B",
    2..=2,
    Type::Any,
    "A, or B if A is missing, null or the empty string. A helper that fails inside of it gives null.",
    &[
        Example("{{default os \"unknown\"}}", r#"{"os":""}"#, "unknown"),
        Example("{{default n 1}}", r#"{"n":0}"#, "0"),
        Example("{{default (div 1 n) \"-\"}}", r#"{"n":0}"#, "-")
    ],
    coalesce_filled
));
fn coalesce_filled<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(a.val(usize::from(matches!(a.val(0), Val::Missing | Val::Null | Val::Str("")))))
}

inventory::submit!(HelperDef::new(
    "coalesce",
    THEME,
    "coalesce A B …",
    1..=MANY,
    Type::Any,
    "The first that is neither missing nor null. A helper that fails inside of it gives null.",
    &[Example("{{coalesce a b \"c\"}}", r#"{"a":null,"b":""}"#, ""), Example("{{coalesce a b \"c\"}}", r#"{"a":null}"#, "c")],
    coalesce
));
fn coalesce<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(a.vals.iter().copied().find(|v| !v.is_null()).unwrap_or(Val::Null))
}
