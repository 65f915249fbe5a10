//! What compiling says about wrong templates.

use super::*;

fn issues(text: &str, schema: &Schema) -> Vec<Issue> {
    Template::compile(text, schema, &Env::default()).err().unwrap_or_default()
}

#[test]
fn issues_have_ids_places_and_suggestions() {
    let schema = Schema::new(vec![
        Field::new("price", Type::Double),
        Field::new("os", Type::String),
        Field::new("client", Type::Json),
        Field::new("l", Type::Array),
    ]);
    for (text, id, place, suggestion) in [
        ("{{prise}}", "unknown-field", "prise", Some("price")),
        ("é {{prise}}", "unknown-field", "prise", Some("price")),
        ("a\né{{#if os}}{{prise}}{{/if}}", "unknown-field", "prise", Some("price")),
        ("{{concat \"prise\" prise}}", "unknown-field", "prise}", Some("price")),
        ("{{os.name}}", "unknown-field", "os.name", Some("os")),
        ("{{zzzzzz}}", "unknown-field", "zzzzzz", None),
        ("{{#each l}}{{../prise}}{{/each}}", "unknown-field", "../prise", Some("price")),
        ("{{@index}}", "unknown-field", "@index", None),
        ("{{json @root}}", "unknown-field", "@root", None),
        ("{{#each l}}{{@idx}}{{/each}}", "unknown-field", "@idx", None),
        ("{{lowr os}}", "unknown-helper", "lowr", Some("lower")),
        ("{{upper (lowr os)}}", "unknown-helper", "lowr", Some("lower")),
        ("{{#loop l}}{{/loop}}", "unknown-helper", "loop", None),
        ("{{if os \"a\"}}", "unknown-helper", "if", None),
        ("{{log os}}", "unknown-helper", "log", None),
        ("{{replace os \"a\"}}", "wrong-argument-count", "replace", None),
        ("{{lower}}", "wrong-argument-count", "lower", None),
        ("{{lower os os}}", "wrong-argument-count", "lower", None),
        ("{{join l sep=\",\"}}", "wrong-argument-count", "join", None),
        ("{{#if}}x{{/if}}", "wrong-argument-count", "if", None),
        ("{{#each l l}}x{{/each}}", "wrong-argument-count", "each", None),
        ("{{#lower os}}x{{/lower}}", "template-syntax", "lower", None),
        ("{{regex_match os \"(\"}}", "invalid-regex", "(", None),
        ("{{date_parse os \"%Q\"}}", "invalid-pattern", "%Q", None),
        ("{{date_format os \"%Y\" \"Mars/Base\"}}", "unknown-time-zone", "Mars/Base", None),
        ("{{date_trunc os \"fortnight\"}}", "wrong-argument", "fortnight", None),
        ("{{../os}}", "template-syntax", "../os", None),
        ("{{> partial}}", "template-syntax", "{{> partial}}", None),
        ("{{os", "template-syntax", "{{os", None),
        ("x {{#if os}}y", "template-syntax", "{{#if os}}", None),
        ("{{#if os}}y{{/unless}}", "template-syntax", "{{/unless}}", None),
        ("{{regex_match os \"\\d\"}}", "template-syntax", "\\d", None),
        ("{{/if}}", "template-syntax", "{{/if}}", None),
        ("{{os}} {{else}} x", "template-syntax", "{{else}}", None),
        ("{{#if os}}y{{/if}}{{/if}}", "template-syntax", "{{/if}}", None),
        ("{{md5_prefix os 'x'}}", "wrong-argument", "x", None),
        ("{{pad_left os \"ten\" '0'}}", "wrong-argument", "ten", None),
        ("{{}}", "template-syntax", "", None),
    ] {
        let found = issues(text, &schema);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let i = &found[0];
        assert_eq!((i.id, i.suggestion.as_deref()), (id, suggestion), "{text}: {i:?}");
        let at = &text[i.range.clone()];
        assert!(at.starts_with(place.trim_end_matches('}')) || place.starts_with("{{"), "{text}: {at:?} is not {place:?}");
        if let Some(rest) = place.strip_suffix('}').filter(|p| !p.starts_with("{{")) {
            assert!(text[i.range.start..].starts_with(place) && at == rest, "{text}: {at:?}");
        }
        assert!(!i.message.ends_with('.') && !i.message.starts_with(char::is_uppercase), "{}", i.message);
    }
}

#[test]
fn all_issues_at_once() {
    let schema = Schema::new(vec![Field::new("a", Type::Any)]);
    let found = issues("{{b}} {{lowr c}}{{#if d}}{{e}}{{/if}}", &schema);
    assert_eq!(
        found.iter().map(|i| i.id).collect::<Vec<_>>(),
        ["unknown-field", "unknown-helper", "unknown-field", "unknown-field", "unknown-field"]
    );
}

#[test]
fn nesting_is_bounded() {
    let schema = Schema::new(vec![Field::new("a", Type::Any)]);
    for text in [
        "{{#if a}}".repeat(50_000),
        format!("{{{{lower {}", "(lower ".repeat(20_000)),
        format!("{{{{lower {}", "[".repeat(20_000)),
        "x".repeat(300 << 10),
    ] {
        assert_eq!(issues(&text, &schema)[0].id, "template-syntax");
    }
    let nested = format!("{}a{}", "{{#if a}}".repeat(60), "{{/if}}".repeat(60));
    assert_eq!(issues(&nested, &schema), []);
}
