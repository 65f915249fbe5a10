use super::helpers::Example;
use super::*;
use millrace_sdk::operator::OnError;
use millrace_sdk::{Batch, Field, Value};
use serde_json::Value as Json;

mod issues;
mod random;

/// A batch of one row, with the fields of a JSON object.
fn batch(row: &str) -> Batch {
    let doc: serde_json::Map<String, Json> = serde_json::from_str(row).expect("a JSON object");
    let schema = Schema::new(doc.keys().map(|k| Field::new(k.as_str(), Type::Any)).collect());
    let mut out = BatchBuilder::new(schema);
    for m in millrace_sdk::json::members(row) {
        out.push_val(m.value(&mut String::new()));
    }
    out.end_row(Default::default());
    out.finish()
}

/// The same row with an open tail.
fn open(row: &Batch, tail: &str) -> Batch {
    let mut out = BatchBuilder::new(Schema::open(row.schema().fields().to_vec()));
    out.push_record(&row.row(0));
    out.push_json(tail);
    out.end_row(Default::default());
    out.finish()
}

/// A row of typed values.
fn typed(fields: &[(&str, Type, Val<'_>)]) -> Batch {
    let mut out = BatchBuilder::new(Schema::new(fields.iter().map(|(n, t, _)| Field::new(*n, *t)).collect()));
    fields.iter().for_each(|(_, _, v)| out.push_val(*v));
    out.end_row(Default::default());
    out.finish()
}

type Rendered = Result<String, EvalError>;

/// Renders by the program, if the template is plain, and by handlebars.
fn both(text: &str, row: &Batch) -> (Option<Rendered>, Rendered) {
    let cx = Cx::new(&Env::default());
    let (tree, reads, node) = parse::compile(text, row.schema(), None).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let text = |f: &dyn Fn(&mut Vec<u8>) -> Result<(), EvalError>| {
        let mut out = vec![];
        f(&mut out).map(|()| String::from_utf8(out).expect("text is UTF-8"))
    };
    let program = node.map(program::Program::new).map(|p| text(&|out| p.write(&row.row(0), &cx, out)));
    let fallback = fallback::Fallback::new(tree, reads, row.schema(), &cx);
    (program, text(&|out| fallback.render(&row.row(0), out)))
}

fn render_env(text: &str, row: &Batch, env: &Env) -> Rendered {
    let t = Template::compile(text, row.schema(), env).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let mut out = b"kept".to_vec();
    let done = t.render(&row.row(0), &mut out);
    assert!(out.starts_with(b"kept"));
    if done.is_err() {
        assert_eq!(out, b"kept");
    }
    done.map(|()| String::from_utf8(out[4..].to_vec()).expect("text is UTF-8"))
}

fn render(text: &str, row: &Batch) -> Rendered {
    render_env(text, row, &Env::default())
}

#[test]
fn every_example_holds_in_the_program_and_in_handlebars() {
    let mut names = std::collections::HashSet::new();
    for h in helpers() {
        assert!(!h.examples.is_empty(), "{} has no example", h.name);
        assert!(!h.doc.is_empty() && !h.doc.contains('\n') && h.signature.starts_with(h.name), "{}", h.name);
        for name in std::iter::once(&h.name).chain(h.aliases) {
            assert!(names.insert(*name), "two helpers are called {name}");
        }
        for Example(template, row, want) in h.examples {
            let row = open(&batch(row), "{}");
            let (program, handlebars) = both(template, &row);
            if let Some(got) = program {
                assert_eq!(got.as_deref(), Ok(*want), "program: {template}");
            }
            assert_eq!(handlebars.as_deref(), Ok(*want), "handlebars: {template}");
        }
    }
    assert!(names.len() > 70, "{}", names.len());
}

#[test]
fn loops_and_scopes_are_left_to_handlebars() {
    let row = batch(r#"{"l":[1,"b",{"x":2.50}],"m":{"k":"v","n":{"o":1}},"s":"<&\">","title":"T","a":[{"x":1},{"x":2}]}"#);
    for (template, want) in [
        ("{{#each l}}{{@index}}:{{this}}{{#unless @last}},{{/unless}}{{/each}}", "0:1,1:b,2:[object]"),
        ("{{#each m}}{{@key}}={{this}};{{/each}}", "k=v;n=[object];"),
        ("{{#each a as |item i|}}{{i}}{{item.x}}{{s}}{{../s}}{{@root.s}}|{{/each}}", "01<&\"><&\">|12<&\"><&\">|"),
        ("{{#with m}}{{k}}{{n.o}}{{../title}}{{/with}}", "v1T"),
        ("{{#with m.n}}{{o}}{{else}}none{{/with}}", "1"),
        ("{{#each (split \"x,y\" \",\")}}[{{this}}]{{/each}}", "[x][y]"),
        ("{{#each m.zz}}x{{else}}empty{{/each}}", "empty"),
        ("{{#each a}}{{add x 1}}{{title}}{{/each}}", "23"),
        ("{{#each a}}{{title}}{{/each}}{{title}}", "T"),
        ("{{#each a}}{{#if (gt x 1)}}big{{else if (eq x 1)}}one{{/if}}{{/each}}", "onebig"),
        ("{{#each a}}{{default (int ../s) x}}{{/each}}", "12"),
        ("{{#each this}}{{@key}},{{/each}}", "l,m,s,title,a,"),
        ("{{lookup this \"title\"}}", "T"),
        ("{{#if title includeZero=true}}y{{/if}}", "y"),
        ("{{~#each a~}} {{x}} {{~/each~}} end", "12end"),
    ] {
        assert_eq!(render(template, &row).as_deref(), Ok(want), "{template}");
    }
}

#[test]
fn plain_templates() {
    let row = batch(
        r#"{"s":"a.b","n":1.10,"z":0,"big":18446744073709551615,"m":{"x":{"y":"deep","l":[1,{"z":"\u00e9"}]}},"nil":null,"html":"<b>&\""}"#,
    );
    for (template, want) in [
        ("", ""),
        ("text", "text"),
        ("{{s}}", "a.b"),
        ("{{{s}}}{{&s}}", "a.ba.b"),
        ("{{html}}", "<b>&\""),
        ("{{n}} {{z}} {{big}}", "1.1 0 18446744073709551615"),
        ("{{m.x.y}}/{{m.x.l.1.z}}/{{m.x.l.9}}/{{m/x/y}}", "deep/é//deep"),
        ("{{m.[x].y}} {{this.s}} {{./s}} {{@root.s}}", "deep a.b a.b a.b"),
        ("{{m}} {{m.x.l}}", "[object] [1, [object]]"),
        ("{{nil}}|{{m.nothing}}", "|"),
        ("{{#if s}}y{{else}}n{{/if}}{{#if z}}y{{else}}n{{/if}}{{#unless nil}}y{{/unless}}", "yny"),
        ("{{#if z}}a{{else if nil}}b{{else if s}}c{{else}}d{{/if}}", "c"),
        ("{{#eq s \"a.b\"}}same{{else}}other{{/eq}}", "same"),
        ("{{! a comment }}x{{!-- another }} --}}y", "xy"),
        ("\\{{s}} {{{{raw}}}}{{s}}{{{{/raw}}}}", "{{s}} {{s}}"),
        ("  {{~s~}}  x", "a.bx"),
        ("{{replace (upper s) \".\" (concat \"-\" z)}}", "A-0B"),
    ] {
        let (program, handlebars) = both(template, &row);
        assert_eq!(program, Some(Ok(want.to_string())), "program: {template}");
        assert_eq!(handlebars, Ok(want.to_string()), "handlebars: {template}");
    }
}

#[test]
fn what_helpers_refuse() {
    let row = batch(r#"{"s":"abc","n":0,"max":9223372036854775807,"nil":null}"#);
    for (template, reason) in [
        ("{{add s 1}}", "not-a-number"),
        ("{{add max 1}}", "overflow"),
        ("{{abs (sub -9223372036854775807 1)}}", "overflow"),
        ("{{div 1 n}}", "division-by-zero"),
        ("{{mod 1 0.0}}", "division-by-zero"),
        ("{{mul 1 s}}", "not-a-number"),
        ("{{date_parse s \"%Y-%m-%d\"}}", "not-a-time"),
        ("{{date_format s \"%Y-%m-%d\"}}", "not-a-time"),
        ("{{base64_decode \"!\"}}", "invalid-base64"),
        ("{{hex_decode s}}", "invalid-hex"),
        ("{{hex_decode \"ff\"}}", "invalid-utf8"),
        ("{{url_decode \"%ff\"}}", "invalid-utf8"),
        ("{{ip_to_int s}}", "not-an-ip"),
        ("{{repeat s 100000000}}", "overflow"),
        ("{{json_parse s}}", "invalid-json"),
        ("{{#each (split s s)}}{{div 1 ../n}}{{/each}}", "division-by-zero"),
    ] {
        let got = render(template, &row);
        assert_eq!(got.map_err(|e| e.reason), Err(reason), "{template}");
    }
    // Nothing there is nothing wrong.
    for template in ["{{add nil 1}}", "{{date_parse nil \"%Y-%m-%d\"}}", "{{ip_prefix nil 8}}", "{{upper nil}}"] {
        assert_eq!(render(template, &row), Ok(String::new()), "{template}");
    }
    let null = Env { on_error: OnError::Null, ..Env::default() };
    assert_eq!(render_env("[{{div 1 n}}{{add max 1}}]", &row, &null), Ok("[]".into()));
    assert_eq!(render_env("{{#each (split s \"b\")}}[{{div 1 ../n}}]{{/each}}", &row, &null), Ok("[][]".into()));
    assert_eq!(render_env("{{add s 1}}", &row, &null).map_err(|e| e.reason), Err("not-a-number"));
}

#[test]
fn decimals_times_and_bytes() {
    let row = typed(&[
        ("price", Type::Decimal(18, 2), Val::Num("771.10")),
        ("long", Type::Decimal(38, 10), Val::Num("1234567890123456789012345678.0123456789")),
        ("ts", Type::Timestamp, Val::Time(1_763_600_000_083_000)),
        ("raw", Type::Bytes, Val::Bytes("é=1".as_bytes())),
        ("bad", Type::Bytes, Val::Bytes(&[0xff, 0xfe])),
        ("ext", Type::Map, Val::Split("a=1|b=2|a=3", b'|', b'=')),
        ("dbl", Type::Double, Val::Float(0.1)),
    ]);
    for (template, want) in [
        ("{{price}} {{long}}", "771.10 1234567890123456789012345678.0123456789"),
        ("{{concat price \"x\"}}", "771.10x"),
        ("{{#if (gt price 771)}}y{{/if}}", "y"),
        ("{{floor (mul price 100)}}", "77110"),
        ("{{ts}} {{epoch_ms ts}} {{date_format ts \"%H\" \"Asia/Shanghai\"}}", "2025-11-20T00:53:20.083Z 1763600000083 08"),
        ("{{#if (eq ts \"2025-11-20T00:53:20.083Z\")}}y{{/if}}", "y"),
        ("{{raw}} {{bad}} {{length raw}}", "é=1 //4= 3"),
        ("{{ext.a}} {{ext.b}} {{ext}} {{length ext}} {{join (keys ext) \",\"}}", "3 2 [object] 2 a,b"),
        ("{{dbl}} {{mul dbl 3}}", "0.1 0.30000000000000004"),
    ] {
        let (program, handlebars) = both(template, &row);
        assert_eq!(program, Some(Ok(want.to_string())), "program: {template}");
        assert_eq!(handlebars, Ok(want.to_string()), "handlebars: {template}");
    }
}

#[test]
fn the_open_tail_is_read_and_the_whole_row_written() {
    let row = open(&batch(r#"{"a":1}"#), r#"{"a":9,"b":{"c":"deep"},"d":[1]}"#);
    for (template, want) in [
        ("{{a}}{{b.c}}{{zz}}", "1deep"),
        ("{{#each d}}{{this}}{{../b.c}}{{/each}}", "1deep"),
        ("{{json this}}", r#"{"a":1,"b":{"c":"deep"},"d":[1]}"#),
    ] {
        assert_eq!(render(template, &row), Ok(want.into()), "{template}");
    }
}

#[test]
fn fields_that_a_template_reads() {
    for (template, fields, all) in [
        ("{{a}} {{b.c}} {{a}}", vec!["a", "b.c"], false),
        ("{{#each l as |x|}}{{x.y}}{{z}}{{../w}}{{@root.v}}{{@index}}{{/each}}", vec!["l", "w", "v"], false),
        ("{{#if (eq (lower a) \"b\")}}{{c}}{{else}}{{d}}{{/if}}", vec!["a", "c", "d"], false),
        ("{{json this}}{{a}}", vec!["a"], true),
        ("{{#each this}}{{@key}}{{/each}}", vec![], true),
        ("{{broken", vec![], false),
        ("{{md5_prefix mid 2}}_{{uid}}_{{mid}}", vec!["mid", "uid"], false),
    ] {
        assert_eq!(Template::fields(template), fields, "{template}");
        assert_eq!(Template::needs_all(template), all, "{template}");
    }
}

/// Pushes into a builder over the row's batch and into a new one.
fn pushed(text: &str, row: &Batch, ty: Option<Type>) -> (Result<Value, EvalError>, usize, Result<String, EvalError>) {
    let t = Template::compile(text, row.schema(), &Env::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let schema = Schema::new(vec![Field::new("x", ty.unwrap_or(t.ty()))]);
    let mut over = BatchBuilder::over(row, schema.clone());
    let done = t.push(&row.row(0), ty, &mut over);
    let copied = over.text_len();
    let value = done.map(|()| over.last().expect("a field was pushed"));
    let mut new = BatchBuilder::new(schema);
    let fresh = t.push(&row.row(0), ty, &mut new).map(|()| {
        new.end_row(Default::default());
        let mut json = vec![];
        millrace_sdk::json::write_val(new.finish().row(0).get(millrace_sdk::Slot(0)), &mut json);
        String::from_utf8(json).expect("JSON is UTF-8")
    });
    if value.is_ok() {
        over.end_row(Default::default());
        let all = row.clone().replaced_by(over);
        let mut json = vec![];
        millrace_sdk::json::write_val(all.row(0).get(millrace_sdk::Slot(0)), &mut json);
        assert_eq!(fresh.as_deref(), Ok(std::str::from_utf8(&json).unwrap()), "{text}");
    } else {
        assert_eq!(over.pending(), 0, "{text}");
    }
    (value, copied, fresh)
}

#[test]
fn values_are_kept_typed_and_converted() {
    let row = batch(r#"{"s":"a=1|b","q":"say \"x\"|y=1","n":1.10,"i":42,"t":"7","m":{"x":1},"b":true}"#);
    for (template, ty, want, text) in [
        ("{{s}}", None, r#""a=1|b""#, 0),
        ("{{n}}", None, "1.10", 0),
        ("{{m}}", None, r#"{"x":1}"#, 0),
        ("{{split s \"|\" \"=\"}}", None, r#"{"a":"1","b":""}"#, 0),
        ("{{split s \"|\" \"=\"}}", Some(Type::Map), r#"{"a":"1","b":""}"#, 0),
        ("{{split q \"|\" \"=\"}}", None, r#"{"say \"x\"":"","y":"1"}"#, usize::MAX),
        ("{{split s \"|\"}}", None, r#"["a=1","b"]"#, usize::MAX),
        ("{{split s \"|\" \"=\"}}", Some(Type::String), r#""a=1|b""#, usize::MAX),
        ("{{t}}", Some(Type::Bigint), "7", usize::MAX),
        ("{{t}}0", Some(Type::Bigint), "70", usize::MAX),
        ("{{n}}", Some(Type::Decimal(10, 3)), "1.100", usize::MAX),
        ("{{n}}", Some(Type::String), r#""1.10""#, usize::MAX),
        ("{{div i 5}}", None, "8", 0),
        ("{{#if b}}{{i}}{{else}}no{{/if}}", None, r#""42""#, usize::MAX),
        ("{{#if b}}yes{{else}}no{{/if}}", None, r#""yes""#, 3),
        ("{{replace s \"|\" \"-\"}}", None, r#""a=1-b""#, 5),
        ("{{replace s \"x\" \"é\"}}", None, r#""a=1|b""#, usize::MAX),
        ("{{replace s \"|\" \"\\\"\"}}", Some(Type::String), r#""a=1\"b""#, usize::MAX),
        ("{{replace q \"\\\"\" \"'\"}}", None, r#""say 'x'|y=1""#, usize::MAX),
        ("{{replace i \"4\" \"5\"}}", None, r#""52""#, usize::MAX),
        ("{{replace t \"7\" \"8\"}}", Some(Type::Bigint), "8", usize::MAX),
        ("{{replace n \".\" \"_\"}}", None, r#""1_1""#, usize::MAX),
        ("{{q}}!", None, r#""say \"x\"|y=1!""#, usize::MAX),
    ] {
        let (_, copied, got) = pushed(template, &row, ty);
        assert_eq!(got.as_deref(), Ok(want), "{template} {ty:?}");
        assert!(copied == text || text == usize::MAX, "{template}: {copied} bytes copied");
    }
    assert_eq!(pushed("{{s}}", &row, Some(Type::Bigint)).0.map_err(|e| e.reason), Err("wrong-type"));
    assert_eq!(pushed("x{{s}}", &row, Some(Type::Double)).0.map_err(|e| e.reason), Err("wrong-type"));
    assert_eq!(pushed("{{add s 1}}", &row, None).0.map_err(|e| e.reason), Err("not-a-number"));
    assert_eq!(pushed("{{#each m}}{{this}}{{/each}}", &row, Some(Type::Bigint)).2.as_deref(), Ok("1"));
}

#[test]
fn types() {
    let row = typed(&[("ts", Type::Bigint, Val::Int(1)), ("m", Type::Map, Val::Split("", b'|', b'='))]);
    for (template, ty) in [
        ("{{ts}}", Type::Bigint),
        ("{{m}}", Type::Map),
        ("{{m.x}}", Type::Any),
        ("{{split ts \"|\" \"=\"}}", Type::Map),
        ("{{split ts \"|\"}}", Type::Array),
        ("{{lower ts}}", Type::String),
        ("{{eq ts 1}}", Type::Boolean),
        ("{{from_epoch_ms ts}}", Type::Timestamp),
        ("{{ts}} ", Type::String),
        ("", Type::String),
        ("{{#if ts}}{{ts}}{{/if}}", Type::String),
        ("{{#each m}}{{this}}{{/each}}", Type::String),
    ] {
        assert_eq!(Template::compile(template, row.schema(), &Env::default()).expect(template).ty(), ty, "{template}");
    }
}

#[test]
fn templates_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Template>();
}
