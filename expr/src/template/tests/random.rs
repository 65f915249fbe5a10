//! The program against handlebars, on templates and rows made at random; and nothing panics on any text.

use super::*;
use handlebars::{Context, Handlebars};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const FIELDS: [&str; 8] = ["a", "b", "c", "d", "e", "zz", "title", "if_x"];
const PATHS: [&str; 11] = ["a", "b", "c", "d.x", "d.y", "e", "d", "zz", "d.k.0", "title", "a.x"];

/// A JSON value. `canonical`: numbers only as serde_json writes them.
fn value(r: &mut StdRng, deep: u32, canonical: bool) -> String {
    let pick = |r: &mut StdRng, all: &[&str]| (*all.choose(r).expect("not empty")).to_string();
    match r.random_range(0..13 - deep) {
        0 => r.random_range(-1000..1000).to_string(),
        1 => format!("{:?}", f64::from(r.random_range(0..100_000)) / 100.0),
        2 if canonical => pick(r, &["0", "-5", "1.5"]),
        2 => pick(r, &["0", "-0", "-0.0", "1e3", "1.10", "1E-7", "0.1", "100.0", "0.00001", "1e16", "1e21", "123456.0"]),
        3 if canonical => pick(r, &["9223372036854775807", "1763600000083"]),
        3 => pick(
            r,
            &[
                "9223372036854775807",
                "9223372036854775808",
                "18446744073709551615",
                "18446744073709551616",
                "123456789012345678901234567890",
                "9007199254740993.0",
                "1e308",
                "4.9e-324",
                "-9223372036854775809",
            ],
        ),
        4 => pick(r, &["true", "false", "null"]),
        5 => pick(r, &["\"\"", "\"iOS\"", "\"x\"", "\"1\"", "\"1.5\"", "\"a=1|b=2|c\"", "\"-\""]),
        6 => format!("\"{}\"", pick(r, &["a.b.c", "a\\\"q", "\\u00e9\\n", "é漢", "\\ud83d\\ude00", "{{x}}", "<b>&", "tab\\t\\\\"])),
        7 => format!("\"v{}.{}\"", r.random_range(0..20), r.random_range(0..9)),
        8 => pick(r, &["\"10.1.2.3\"", "\"2026-11-21T08:00:00Z\"", "\"aGk=\"", "\"https://h.cn/p?q=1%20+\"", "\"{\\\"x\\\":[1,2]}\""]),
        9 => format!("\"{:x}\"", r.random::<u32>()),
        10 => "null".into(),
        11 => format!(
            "[{}]",
            (0..r.random_range(0..3)).map(|_| value(r, 3, canonical)).collect::<Vec<_>>().join(if canonical { "," } else { ", " })
        ),
        _ => format!("{{\"x\":{},\"k\":{}}}", value(r, 2, canonical), value(r, 2, canonical)),
    }
}

/// A row of [`FIELDS`], some of them missing, and the JSON that it is.
fn row(r: &mut StdRng, canonical: bool) -> (Batch, String) {
    let schema = Schema::new(FIELDS.iter().map(|f| Field::new(*f, Type::Any)).collect());
    let mut out = BatchBuilder::new(schema);
    let mut members = vec![];
    for f in FIELDS {
        if f == "zz" || r.random_ratio(1, 6) {
            out.push_missing();
            continue;
        }
        let v = if f == "d" && r.random_ratio(2, 3) {
            format!("{{\"y\":{},\"x\":{}}}", value(r, 0, canonical), value(r, 0, canonical))
        } else {
            value(r, 0, canonical)
        };
        out.push_val(millrace_sdk::json::view(&v, &mut String::new()));
        members.push(format!("\"{f}\":{v}"));
    }
    out.end_row(Default::default());
    (out.finish(), format!("{{{}}}", members.join(",")))
}

fn literal(r: &mut StdRng) -> String {
    let all = [
        "1",
        "0",
        "2",
        "-3",
        "1.5",
        "100",
        "true",
        "null",
        "\"\"",
        "\"x\"",
        "\"a\"",
        "\".\"",
        "\"|\"",
        "\"=\"",
        "\"é\"",
        "\"1\"",
        "\"iOS\"",
        "\"%Y-%m-%d\"",
        "\"day\"",
        "\"x.0\"",
        "\"[a-z]+\"",
        "[1,2]",
        "'q'",
    ];
    (*all.choose(r).expect("not empty")).to_string()
}

/// An argument: a path, a literal, or a call of one of `helpers`.
fn argument(r: &mut StdRng, deep: u32, helpers: &[(&str, usize, usize)]) -> String {
    match r.random_range(0..6) {
        0 | 1 => (*PATHS.choose(r).expect("not empty")).to_string(),
        2 => literal(r),
        _ if deep > 2 => (*PATHS.choose(r).expect("not empty")).to_string(),
        _ => format!("({})", call(r, deep + 1, helpers)),
    }
}

fn call(r: &mut StdRng, deep: u32, helpers: &[(&str, usize, usize)]) -> String {
    let (name, least, most) = *helpers.choose(r).expect("not empty");
    let count = r.random_range(least..=most.min(least + 2));
    let args: Vec<String> = (0..count).map(|_| argument(r, deep, helpers)).collect();
    format!("{name} {}", args.join(" "))
}

fn template(r: &mut StdRng, deep: u32, helpers: &[(&str, usize, usize)]) -> String {
    let parts = r.random_range(1..4);
    (0..parts)
        .map(|_| match r.random_range(0..7) {
            0 => ["x", " - ", "\"", "é ", "a.b\n", "  "].choose(r).expect("not empty").to_string(),
            1 | 2 => format!("{{{{{}}}}}", PATHS.choose(r).expect("not empty")),
            3 | 4 => format!("{{{{{}}}}}", call(r, 0, helpers)),
            _ if deep > 1 => String::new(),
            _ => {
                let block = if r.random() { "if" } else { "unless" };
                let other = if r.random() { format!("{{{{else}}}}{}", template(r, deep + 1, helpers)) } else { String::new() };
                format!("{{{{#{block} {}}}}}{}{other}{{{{/{block}}}}}", argument(r, 1, helpers), template(r, deep + 1, helpers))
            }
        })
        .collect()
}

/// Handlebars as it comes, with its own helpers: the meaning of paths, blocks, conditions and of printing.
#[test]
fn programs_give_what_stock_handlebars_gives() {
    let stock =
        [("eq", 2, 2), ("ne", 2, 2), ("lt", 2, 2), ("gt", 2, 2), ("lte", 2, 2), ("gte", 2, 2), ("and", 1, 3), ("or", 1, 3), ("not", 1, 1)];
    let mut registry = Handlebars::new();
    registry.register_escape_fn(handlebars::no_escape);
    let r = &mut StdRng::seed_from_u64(7);
    let (mut compared, mut refused) = (0, 0);
    for _ in 0..1000 {
        let text = template(r, 0, &stock);
        let (first, _) = row(r, false);
        let compiled = Template::compile(&text, first.schema(), &Env::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert!(matches!(compiled.kind, Kind::Program(_)), "{text}");
        registry.register_template_string("t", &text).expect("what compiles parses");
        for _ in 0..6 {
            let (batch, json) = row(r, false);
            let mut ours = vec![];
            compiled.render(&batch.row(0), &mut ours).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let theirs = Context::from(serde_json::from_str::<Json>(&json).expect("JSON"));
            match registry.render_with_context("t", &theirs) {
                Ok(t) => {
                    assert_eq!(String::from_utf8_lossy(&ours), t, "{text}\n{json}");
                    compared += 1;
                }
                // A path through an array by a name: missing for us.
                Err(e) => {
                    assert!(e.to_string().contains("Cannot access array"), "{text}: {e}");
                    refused += 1;
                }
            }
        }
    }
    assert!(compared > 5000 && refused < 500, "{compared} {refused}");
}

/// All helpers, with arguments of every kind: the program and handlebars agree, on text and on errors.
#[test]
fn programs_and_handlebars_agree_on_every_helper() {
    let all: Vec<(&str, usize, usize)> = helpers().iter().map(|h| (h.name, h.arity.0, h.arity.1)).collect();
    let r = &mut StdRng::seed_from_u64(11);
    let (mut compared, mut texts) = (0, 0);
    for _ in 0..2500 {
        let text = template(r, 0, &all);
        let (batch, json) = row(r, true);
        if parse::compile(&text, batch.schema(), None).is_err() {
            continue;
        }
        let (program, handlebars) = both(&text, &batch);
        let Some(program) = program else { panic!("{text} is plain") };
        if handlebars.as_ref().is_err_and(|e| e.message.contains("Cannot access array")) {
            continue;
        }
        compared += 1;
        texts += usize::from(program.is_ok());
        // A value that a message shows has another type in handlebars: a timestamp is text there.
        assert_eq!(program.map_err(|e| e.reason), handlebars.map_err(|e| e.reason), "{text}\n{json}");
    }
    assert!(compared > 1200 && texts > 300, "{compared} {texts}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in r#"(\{\{|\}\}|\{|#if |#each |/if|/each|else|this|\.\./|@index|@root\.|a|b\.c| |"|'|\(|\)|\[|\]|~|!|--|\\|=|as \||\||&|>|\*|1|-|é|lower |add |\n|.){0,24}"#) {
        let row = batch(r#"{"a":1,"b":{"c":[1,"x"]}}"#);
        let _ = Template::fields(&text);
        if let Ok(t) = Template::compile(&text, row.schema(), &Env::default()) {
            let _ = t.render(&row.row(0), &mut vec![]);
        }
        if let Err(issues) = Template::compile(&text, row.schema(), &Env::default()) {
            for i in issues {
                prop_assert!(text.get(i.range.clone()).is_some(), "{:?} {:?}", text, i);
            }
        }
    }

    #[test]
    fn no_value_panics(s in ".{0,12}", n in any::<i64>(), f in any::<f64>(), which in any::<prop::sample::Index>(), order in 0..6usize) {
        let all = helpers();
        let h = all[which.index(all.len())];
        let row = typed(&[
            ("s", Type::String, Val::Str(&s)),
            ("n", Type::Bigint, Val::Int(n)),
            ("f", Type::Double, Val::Float(f)),
            ("t", Type::Timestamp, Val::Time(n)),
            ("b", Type::Bytes, Val::Bytes(&n.to_le_bytes())),
            ("m", Type::Map, Val::Split("a=1|b", b'|', b'=')),
        ]);
        let names = ["s", "n", "f", "t", "b", "m"];
        for count in h.arity.0..=h.arity.1.min(h.arity.0 + 1) {
            let args: Vec<&str> = (0..count).map(|i| names[(order + i * (1 + order % 3)) % names.len()]).collect();
            let text = format!("{{{{{} {}}}}}", h.name, args.join(" "));
            let t = Template::compile(&text, row.schema(), &Env::default()).expect("fields and counts are right");
            let mut out = BatchBuilder::over(&row, Schema::new(vec![Field::new("x", Type::Any)]));
            let _ = t.push(&row.row(0), None, &mut out);
            let _ = t.render(&row.row(0), &mut vec![]);
        }
    }
}
