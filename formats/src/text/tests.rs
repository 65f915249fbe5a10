use super::*;
use crate::json::Padded;
use millrace_sdk::Span;
use millrace_sdk::batch::PAD;
use proptest::prelude::*;

/// The fields of a line, None where missing; or the error.
fn split(format: Compiled, line: &str) -> Result<Vec<Option<String>>, TextError> {
    let format = format.unwrap_or_else(|e| panic!("{e:?}"));
    let mut pieces = Pieces::default();
    // Once before, so that nothing is left over from a line.
    let _ = format.split("x=1&y=%20 \"quoted\"".into(), &mut pieces);
    format.split(line.into(), &mut pieces)?;
    assert_eq!(pieces.values.len(), format.fields().len());
    Ok(pieces.values.iter().map(|p| pieces.text(*p, line).map(String::from)).collect())
}

fn some(fields: &[&str]) -> Result<Vec<Option<String>>, TextError> {
    Ok(fields.iter().map(|f| Some(f.to_string())).collect())
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("c{i}")).collect()
}

fn reason(r: Result<Vec<Option<String>>, TextError>) -> (&'static str, String) {
    r.map_err(|e| (e.reason, e.message)).expect_err("an error")
}

#[test]
fn dissect() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("%{a}", "", &[""]),
        ("%{a} %{b}", "x y z", &["x", "y z"]),
        ("[%{a}] %{b}", "[x] y", &["x", "y"]),
        ("%{a} - %{?no} - %{b}", "x - y - z", &["x", "z"]),
        ("%{a}|%{}|%{b}", "x|y|z", &["x", "z"]),
        ("%{a->} %{b}", "x     y", &["x", "y"]),
        ("%{a->};%{b->};", "x;;;y;;", &["x", "y"]),
        ("%{t} %{+t} %{b}", "Mar 16 z", &["Mar 16", "z"]),
        ("%{t} %{b}-%{+t}", "Mar z-16", &["Mar-16", "z"]),
        ("%{a}\"%{b}\"", "x\"y\"z\"", &["x", "y\"z"]),
        ("%{中} 文%{b}", "x 文é", &["x", "é"]),
        ("%{a}, %{b}", "x,y, z", &["x,y", "z"]),
    ];
    for (pattern, line, want) in cases {
        assert_eq!(split(TextFormat::dissect(pattern), line), some(want), "{pattern}");
    }
    for (pattern, line, message) in [
        ("[%{a}]", "x]", "expected `[` at or after byte 1"),
        ("%{a} - %{b}", "x-y", "expected ` - ` at or after byte 1"),
        ("%{a} %{b};", "x y;z", "expected `;` at or after byte 3"),
    ] {
        assert_eq!(reason(split(TextFormat::dissect(pattern), line)), ("no-match", message.into()));
    }
    for (pattern, range) in [
        ("x", 0..1),
        ("%{a", 0..3),
        ("%{a}%{b}", 0..6),
        ("%{a} %{a}", 5..9),
        ("%{*a} %{&a}", 0..5),
        ("%{+a/1} x", 0..7),
        ("%{a->}", 0..6),
        ("%{?a}", 0..5),
    ] {
        assert_eq!(TextFormat::dissect(pattern).unwrap_err().range, Some(range), "{pattern}");
    }
}

#[test]
fn delimited() {
    let f = |d: &'static str, q: Option<&'static str>, n| TextFormat::delimiter(d, q, names(n));
    assert_eq!(split(f("\t", None, 3), "a\t\"b\t"), some(&["a", "\"b", ""]));
    assert_eq!(split(f("::", None, 2), "a:b::c"), some(&["a:b", "c"]));
    assert_eq!(split(f("中", None, 2), "a中c"), some(&["a", "c"]));
    assert_eq!(split(f("|", Some("'"), 3), "'a|''b'|c'd|''"), some(&["a|'b", "c'd", ""]));
    assert_eq!(split(f("|", None, 1), ""), some(&[""]));
    assert_eq!(reason(split(f("|", None, 2), "a")), ("column-count", "expected 2 columns, found 1".into()));
    assert_eq!(reason(split(f("|", None, 2), "a|b|c|")), ("column-count", "expected 2 columns, found 4".into()));
    assert_eq!(reason(split(f("|", Some("'"), 1), "'a")).0, "bad-quoting");
    assert_eq!(reason(split(f("|", Some("'"), 1), "'a'b")).0, "bad-quoting");
    assert_eq!(reason(split(f("|", Some("'"), 1), "'a'|'b'")), ("column-count", "expected 1 columns, found 2".into()));
}

#[test]
fn key_values() {
    let f = |pair: &'static str, key: &'static str| TextFormat::key_value(pair, key, vec!["a".into(), "b".into()]);
    let one = |a: Option<&str>, b: Option<&str>| Ok(vec![a.map(String::from), b.map(String::from)]);
    assert_eq!(split(f(" ", "="), "a=1  c=3 b=x=y"), one(Some("1"), Some("x=y")));
    assert_eq!(split(f(" ", "="), "a=\"x y\" b=\"\\\"\\\\\\n\""), one(Some("x y"), Some("\"\\\\n")));
    assert_eq!(split(f(" ", "="), "a=1 a=2 b"), one(Some("2"), Some("")));
    assert_eq!(split(f(", ", ": "), "a: 1, b: 2:3, "), one(Some("1"), Some("2:3")));
    assert_eq!(split(f("&&", "="), "a=\"&&\"&&b=1"), one(Some("&&"), Some("1")));
    assert_eq!(split(f(" ", "="), ""), one(None, None));
    assert_eq!(reason(split(f(" ", "="), "a=\"x\"y")).0, "bad-quoting");
    for (pair, key) in [("", "="), ("=", "="), (" ", ""), ("\"", "=")] {
        assert!(f(pair, key).is_err(), "{pair} {key}");
    }
}

#[test]
fn query_strings() {
    let f = || TextFormat::query_string("&", "=", vec!["a".into(), "b c".into()]);
    let one = |a: Option<&str>, b: Option<&str>| Ok(vec![a.map(String::from), b.map(String::from)]);
    assert_eq!(split(f(), "a=1&b+c=%2B%26+x&z"), one(Some("1"), Some("+& x")));
    assert_eq!(split(f(), "http://h/p?a=%E4%B8%AD#b%20c=1"), one(Some("中"), None));
    assert_eq!(split(f(), "a=what?&b%20c"), one(Some("what?"), Some("")));
    assert_eq!(split(f(), "a=%zz%f&&b%20c=%c3%a9"), one(Some("%zz%f"), Some("é")));
    assert_eq!(split(f(), "a=1&b%20c=%ff").map_err(|e| e.reason), Err("invalid-utf8"));
    assert_eq!(split(f(), "?"), one(None, None));
}

#[test]
fn regexes_and_grok() {
    let regex = || TextFormat::regex(r"^(?P<a>\w+)(?: (?P<b>\d+))?");
    assert_eq!(split(regex(), "é 12 rest"), some(&["é", "12"]));
    assert_eq!(split(regex(), "x"), Ok(vec![Some("x".into()), None]));
    assert_eq!(reason(split(regex(), " ")).0, "no-match");
    let own = BTreeMap::from([("ID".to_string(), "[A-Z]{2}%{INT:number:int}".to_string())]);
    let grok = TextFormat::grok("%{WORD:w} %{ID:id} (?:%{NUMBER:n:float}|-)", &own).unwrap();
    let fields: Vec<_> = grok.fields().iter().map(|f| (f.name.as_str(), f.ty)).collect();
    assert_eq!(fields, [("w", None), ("id", None), ("number", Some(Type::Bigint)), ("n", Some(Type::Double))]);
    assert_eq!(split(Ok(grok.clone()), "say AB12 1.5"), some(&["say", "AB12", "12", "1.5"]));
    assert_eq!(split(Ok(grok), "say AB12 -").unwrap()[3], None);
    let log = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326"#;
    let apache = TextFormat::grok("%{COMMONAPACHELOG}", &BTreeMap::new()).unwrap();
    let order: Vec<_> = apache.fields().iter().map(|f| f.name.clone()).collect();
    assert_eq!(order[..4], ["clientip", "ident", "auth", "timestamp"]);
    let got = split(Ok(apache), log).unwrap();
    assert_eq!(got[0].as_deref(), Some("127.0.0.1"));
    assert_eq!(got[3].as_deref(), Some("10/Oct/2000:13:55:36 -0700"));
    let endless = BTreeMap::from([("A".to_string(), "%{B}".to_string()), ("B".to_string(), "%{A}".to_string())]);
    assert!(TextFormat::grok("%{A:x}", &endless).is_err());
}

/// The columns of one record, as csv-core reads it.
fn csv_core_columns(line: &str) -> Vec<String> {
    let (mut reader, mut fields, mut field) = (csv_core::Reader::new(), vec![], vec![]);
    let (mut input, mut buffer) = (line.as_bytes(), [0; 64]);
    loop {
        let (result, read, written) = reader.read_field(input, &mut buffer);
        input = &input[read..];
        field.extend_from_slice(&buffer[..written]);
        match result {
            csv_core::ReadFieldResult::Field { .. } => fields.push(String::from_utf8(std::mem::take(&mut field)).unwrap()),
            csv_core::ReadFieldResult::End => return fields,
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn csv_is_what_csv_core_reads(columns in proptest::collection::vec(("[a,\"\né ]{0,6}", any::<bool>()), 1..6)) {
        let quoted = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
        let written: Vec<_> =
            columns.iter().map(|(t, q)| if *q || t.contains([',', '"', '\n']) || columns.len() == 1 { quoted(t) } else { t.clone() }).collect();
        let line = written.join(",");
        let ours = split(TextFormat::csv(",", "\"", names(columns.len())), &line);
        let theirs = csv_core_columns(&line);
        prop_assert_eq!(ours, Ok(theirs.into_iter().map(Some).collect()));
    }

    #[test]
    fn delimited_is_what_split_gives(line in "[ab|é]{0,150}", delimiter in prop::sample::select(vec!["|", "a|", "é", "||"])) {
        let want: Vec<_> = line.split(delimiter).map(|s| Some(s.to_string())).collect();
        prop_assert_eq!(split(TextFormat::delimiter(delimiter, None, names(want.len())), &line), Ok(want));
    }

    #[test]
    fn formats_find_the_same_in_a_line_among_others_as_by_plain_searches(
        before in "[a |]{0,70}", pieces in prop::collection::vec("[ab |\"é]{0,9}([c ]{0,120})?", 0..12), behind in "[ |\"]{0,5}", long in prop::option::of(900..1100usize),
        literals in prop::sample::select(vec![vec!["|"], vec![" ", " ", "|"], vec!["| ", "\" \"", "a", "b\" "], vec!["é", "abbaabba|", "|"], vec!["a", "b", "c", " ", "|", "\"", "é", "d", "e", "f"]]),
        ends in prop::sample::select(vec![["", ""], ["a", ""], ["", "c"], ["é|", "b "]]),
    ) {
        // As it should be, with surprises.
        let all: Vec<&str> = literals.iter().copied().chain([ends[1]]).collect();
        let mut line = ends[0].to_string();
        for (i, piece) in pieces.iter().enumerate() {
            line.push_str(piece);
            line.push_str(all.get(i).unwrap_or(&"a"));
        }
        line.push_str(&"x".repeat(long.unwrap_or(0)));
        line.push_str(if long.is_some() { ends[1] } else { "" });
        let text = format!("{before}{line}{behind}");
        let mut padded = text.clone().into_bytes();
        padded.resize(text.len() + PAD, 0);
        let span = Span { off: before.len() as u32, len: line.len() as u32 };
        let line = Line::within(Padded::new(&padded, true).expect("padded"), span, text.is_ascii()).expect("UTF-8");
        let found = |format: &TextFormat| {
            let mut pieces = Pieces::default();
            format.split(line, &mut pieces).ok()?;
            let texts = pieces.values.iter().map(|p| pieces.text(*p, line.str()).expect("a piece").to_string()).collect::<Vec<_>>();
            let mut plain = vec![Piece::Missing; format.fields().len()];
            assert!(format.split_plain(line, &mut plain, &mut Pieces::default()).is_ok());
            assert_eq!(plain, pieces.values);
            Some(texts)
        };
        let pattern: String = (0..).zip(&all).map(|(i, l)| format!("%{{f{i}}}{l}")).collect();
        let dissect = TextFormat::dissect(&format!("{}{pattern}", ends[0])).expect("a pattern");
        let searched = || {
            let mut rest = line.str().strip_prefix(ends[0])?;
            let mut texts = vec![];
            for literal in &literals {
                let (text, behind) = rest.split_once(literal)?;
                texts.push(text.to_string());
                rest = behind;
            }
            texts.push(rest.strip_suffix(ends[1])?.to_string());
            Some(texts)
        };
        prop_assert_eq!(found(&dissect), searched());
        let delimited: Vec<String> = line.str().split('|').map(String::from).collect();
        prop_assert_eq!(found(&TextFormat::delimiter("|", None, names(delimited.len())).expect("a delimiter")), Some(delimited.clone()));
        prop_assert_eq!(found(&TextFormat::delimiter("|", None, names(delimited.len() + 1)).expect("a delimiter")), None);
    }

    #[test]
    fn no_line_makes_a_format_panic(line in "[a=&%\"'|+? \\\\é中-]{0,60}") {
        let formats = [
            TextFormat::delimiter("|", Some("'"), names(3)),
            TextFormat::csv("|", "\"", names(3)),
            TextFormat::dissect("a%{x->}|%{y}=%{+x}-"),
            TextFormat::key_value(" ", "=", names(2)),
            TextFormat::key_value("||", "==", names(2)),
            TextFormat::query_string("&", "=", names(2)),
            TextFormat::regex("(?P<a>a*)(?P<b>é)?"),
        ];
        for f in formats {
            let _ = split(f, &line);
        }
    }
}

proptest! {
    /// Lines of ASCII go through smaller automata: the fields are those of the pattern as it is written.
    #[test]
    fn ascii_lines_match_the_same(
        pattern in prop::sample::select(vec![
            r"^(?P<a>\S+) (?P<b>[^\]]*)$", r"(?P<a>\w+)\b.(?P<b>\d*)", r"(?i)(?P<a>k[a-s]+)(?P<b>.?)", r"(?P<a>\D+?)(?P<b>\s|é)", r"(?P<a>[[:alpha:]]+)(?P<b>$)",
            r"(?P<a>(?u:\w)+)(?P<b>\W)", r"(?P<a>\pL+)(?P<b>.*)", r"(?s)(?P<a>.)(?P<b>.*)x",
        ]),
        line in r"[ a-fkKſ0-3\]éx٣\n ]{0,12}",
    ) {
        let plain = regex::Regex::new(pattern).expect("a pattern").captures(&line).map(|c| {
            ["a", "b"].map(|n| c.name(n).map(|m| m.as_str().to_string())).to_vec()
        });
        let got = split(TextFormat::regex(pattern), &line).ok();
        prop_assert_eq!(got, plain);
    }
}
