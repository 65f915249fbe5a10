use super::*;
use sdk::json::MAX_DEPTH;

/// Parses one document lying between others, and gives the planned values as JSON texts.
fn parse_in(parser: &mut RowParser, before: &[u8], doc: &[u8], after: &[u8], slots: usize) -> Result<Vec<Option<String>>, JsonError> {
    let mut all = [before, doc, after].concat();
    let end = all.len();
    all.resize(end + PAD, 0);
    let padded = Padded::new(&all, true).unwrap();
    let mut row = vec![Value::Missing; slots];
    parser.parse(padded, Span { off: before.len() as u32, len: doc.len() as u32 }, &mut row)?;
    let text = |s: Span| {
        let s = s.off as usize..(s.off + s.len) as usize;
        let bytes = if s.start >= end { &parser.fresh().as_bytes()[s.start - end..s.end - end] } else { &all[s] };
        std::str::from_utf8(bytes).unwrap().to_string()
    };
    Ok(row
        .iter()
        .map(|v| match *v {
            Value::Missing => None,
            Value::Null => Some("null".into()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Num(s) | Value::Json(s) => Some(text(s)),
            Value::Str(s) => {
                assert!(sdk::json::clean(text(s).as_bytes()));
                Some(format!("\"{}\"", text(s)))
            }
            Value::Text(s) => Some(serde_json::to_string(&text(s)).unwrap()),
            ref v => panic!("{v:?}"),
        })
        .collect())
}

fn parse(paths: &[&str], doc: impl AsRef<[u8]>) -> Result<Vec<Option<String>>, JsonError> {
    let mut parser = parser(paths);
    let once = parse_in(&mut parser, b"", doc.as_ref(), b"\n", paths.len());
    // Again with guesses, and with a neighbour that could be taken for more of it.
    assert_eq!(parse_in(&mut parser, b"{\"x\":\"", doc.as_ref(), b"\",\"a\":1}  ", paths.len()), once);
    once
}

fn parser(paths: &[&str]) -> RowParser {
    RowParser::new(paths.iter().enumerate().map(|(i, p)| (p.split('.').collect(), i)))
}

#[test]
fn values_go_to_their_slots() {
    let doc =
        r#" {"a":1.10,"s":"x/é","e":"q\"\u00e9","o": {"k":[1, 2],"n":null},"t":true,"long_key_of_more_than_16_bytes":"y", "u":{"a":5}} "#;
    let got = parse(&["a", "s", "e", "o.k", "o.n", "o", "t", "long_key_of_more_than_16_bytes", "zz", "o.k.x", "u"], doc).unwrap();
    let want = ["1.10", r#""x/é""#, r#""q\"é""#, "[1, 2]", "null", r#"{"k":[1, 2],"n":null}"#, "true", r#""y""#, "", "", r#"{"a":5}"#];
    assert_eq!(got.iter().map(|v| v.as_deref().unwrap_or("")).collect::<Vec<_>>(), want);
}

#[test]
fn what_is_surely_as_expected() {
    use Expect::{Any, Integer, Real, Text};
    let nines = "9".repeat(300);
    let cases: &[(Expect, &str, bool)] = &[
        (Text, r#""x""#, true),
        (Text, r#""""#, true),
        (Text, r#""\u00e9""#, false),
        (Text, "1", false),
        (Text, "null", false),
        (Integer, "0", true),
        (Integer, "-12345678901234567", true),
        (Integer, "-123456789012345678", false),
        (Integer, "1.0", false),
        (Integer, "1e2", false),
        (Integer, r#""1""#, false),
        (Real, "1", true),
        (Real, "-0.50", true),
        (Real, "1e2", false),
        (Real, &nines, false),
        (Real, "true", false),
        (Any, "null", true),
        (Any, "[1]", true),
        (Any, r#""\n""#, true),
    ];
    for (expect, value, want) in cases {
        let mut parser = parser(&["o.a", "b"]);
        let bits = [parser.expect(0, *expect), parser.expect(1, Any)];
        assert_eq!(bits, [1, 2]);
        let mut sure = |doc: String| {
            let parsed = parse_in(&mut parser, b"", doc.as_bytes(), b"\n", 2);
            parsed.map(|_| parser.sure() & 1 != 0)
        };
        assert_eq!(sure(format!(r#"{{"o":{{"a":{value}}}}}"#)), Ok(*want), "{expect:?} {value}");
        // With the guesses of the row before, blanks, and a line feed, which has the row read twice.
        assert_eq!(sure(format!(r#"{{"o": {{ "a" : {value} }} , "b":1}}"#)), Ok(*want), "{expect:?} {value}");
        assert_eq!(sure(format!("{{\"o\":{{\"a\":{value}}}\n}}")), Ok(*want), "{expect:?} {value}");
        // The last of equal keys counts, and one above takes back those below.
        assert_eq!(sure(format!(r#"{{"o":{{"a":{{}},"a":{value}}}}}"#)), Ok(*want), "{expect:?} {value}");
        assert_eq!(sure(format!(r#"{{"o":{{"a":{value}}},"o":5}}"#)), Ok(false), "{expect:?} {value}");
        assert_eq!(sure(r#"{"b":1}"#.into()), Ok(false));
    }
    let names: Vec<String> = (0..70).map(|i| format!("k{i}")).collect();
    let mut many = parser(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((0..70).map(|i| many.expect(i, Any)).fold((0, 0), |(all, none), b| (all | b, none + i32::from(b == 0))), (u64::MAX, 6));
}

#[test]
fn of_equal_keys_the_last_counts() {
    let cases: &[(&str, [&str; 3])] = &[
        (r#"{"a":1,"a":2}"#, ["2", "", ""]),
        (r#"{"a":1,"\u0061":"z"}"#, ["\"z\"", "", ""]),
        (r#"{"o":{"k":1,"l":2},"o":{"l":3}}"#, ["", "", "3"]),
        (r#"{"o":{"k":1,"l":2},"o":7}"#, ["", "", ""]),
        (r#"{"o":{"k":1,"k":2}}"#, ["", "2", ""]),
        (r#"{"a":1,"a":null}"#, ["null", "", ""]),
    ];
    for (doc, want) in cases {
        let got = parse(&["a", "o.k", "o.l"], doc).unwrap();
        assert_eq!(got.iter().map(|v| v.as_deref().unwrap_or("")).collect::<Vec<_>>(), want, "{doc}");
    }
}

#[test]
fn what_is_no_json_object_is_rejected_with_its_place() {
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "invalid-json", "expected a JSON object, but the text is empty"),
        (b"  ", "invalid-json", "expected a JSON object, but the text is empty"),
        (b"[1]", "not-an-object", "expected a JSON object at byte 1"),
        (b" 12", "not-an-object", "expected a JSON object at byte 2"),
        (b"nonsense", "invalid-json", "expected a value at byte 1"),
        (b"{", "invalid-json", "the text ends too soon, after byte 1"),
        (b"{\"a\"", "invalid-json", "the text ends too soon, after byte 4"),
        (b"{\"a\":1", "invalid-json", "the text ends too soon, after byte 6"),
        (b"{\"a\":\"x", "invalid-json", "the text ends too soon, after byte 7"),
        (b"{\"a\":1}x", "invalid-json", "expected nothing more at byte 8"),
        (b"{\"a\":1}{\"a\":1}", "invalid-json", "expected nothing more at byte 8"),
        (b"{\"a\":NaN}", "invalid-json", "expected a value at byte 6"),
        (b"{\"a\":Infinity}", "invalid-json", "expected a value at byte 6"),
        (b"{\"a\":-}", "invalid-json", "expected a digit at byte 7"),
        (b"{\"a\":01}", "invalid-json", "a number with leading zeros at byte 6"),
        (b"{\"a\":1.}", "invalid-json", "expected a digit at byte 8"),
        (b"{\"a\":.5}", "invalid-json", "expected a value at byte 6"),
        (b"{\"a\":1e}", "invalid-json", "expected a digit at byte 8"),
        (b"{\"a\":+1}", "invalid-json", "expected a value at byte 6"),
        (b"{\"a\":1,}", "invalid-json", "expected a key in quotes at byte 8"),
        (b"{\"b\":[1,]}", "invalid-json", "expected a value at byte 9"),
        (b"{\"b\":[1}", "invalid-json", "expected `,` or `]` at byte 8"),
        (b"{\"b\":{\"c\":1]", "invalid-json", "expected `,` or `}` at byte 12"),
        (b"{\"a\":\"\x01\"}", "invalid-json", "control character in a string at byte 7"),
        (b"{\"a\":\"\\x\"}", "invalid-json", "expected one of the escapes of JSON at byte 8"),
        (b"{\"a\":\"\\u12g4\"}", "invalid-json", "expected a hexadecimal digit at byte 11"),
        (b"{\"a\":\"\\ud800\"}", "invalid-json", "half of a surrogate pair at byte 7"),
        (b"{\"b\":\"\\udc00\"}", "invalid-json", "half of a surrogate pair at byte 7"),
        (b"{\"a\":\"\xff\"}", "invalid-utf8", "invalid UTF-8 at byte 7"),
        (b"{\"a\":\"\xc3", "invalid-utf8", "invalid UTF-8 at byte 7"),
        (b"{a:1}", "invalid-json", "expected a key in quotes at byte 2"),
        (b"{'a':1}", "invalid-json", "expected a key in quotes at byte 2"),
        (b"\xef\xbb\xbf{\"a\":1}", "invalid-json", "expected a value at byte 1"),
        (b"{\"a\":1}\0", "invalid-json", "expected nothing more at byte 8"),
    ];
    for (doc, reason, message) in cases {
        let error = parse(&["a", "o.k"], doc).expect_err(&String::from_utf8_lossy(doc));
        assert_eq!((error.reason, error.message.as_str()), (*reason, *message), "{}", String::from_utf8_lossy(doc));
    }
}

#[test]
fn newlines_are_blanks_too() {
    let got = parse(&["a", "o.k"], "\n{\n  \"a\" : \"x\\n\",\r\n\t\"o\":\n{\"k\"\n:1\n}\n}\n").unwrap();
    assert_eq!(got, [Some("\"x\\n\"".into()), Some("1".into())]);
    assert!(parse(&["a"], "{\"a\":\"x\ny\"}").is_err());
}

#[test]
fn depth_is_bounded_and_takes_no_stack() {
    let nested = |open: &str, close: &str, n: usize| format!("{{\"a\":{}1{}}}", open.repeat(n), close.repeat(n));
    assert!(parse(&["a"], nested("[", "]", MAX_DEPTH - 1)).is_ok());
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        for n in [MAX_DEPTH, 10_000, 1_000_000] {
            let error = parse(&["b"], nested(open, close, n)).unwrap_err();
            assert_eq!(error.reason, "too-deep");
        }
    }
    assert_eq!(parse(&["a"], "[".repeat(100_000)).unwrap_err().reason, "too-deep");
    let path = vec!["k"; 10_000].join(".");
    assert_eq!(parse(&[&path], "{\"k\":".repeat(9_000)).unwrap_err().reason, "too-deep");
}

#[test]
fn huge_numbers_stay_as_written() {
    let digits = "9".repeat(400);
    let got = parse(&["a", "b"], format!("{{\"a\":{digits},\"b\":-1e999}}")).unwrap();
    assert_eq!(got, [Some(digits), Some("-1e999".into())]);
}

#[test]
fn padding_is_demanded() {
    assert!(Padded::new(b"{}", true).is_none());
    assert!(Padded::new(&[b'x'; 200], true).is_none());
    let mut split_char = "aé".as_bytes().to_vec();
    split_char.resize(3 + PAD, 0);
    let padded = Padded::new(&split_char, true).unwrap();
    assert_eq!(padded.str(Span { off: 0, len: 3 }), Ok("aé"));
    assert_eq!(padded.str(Span { off: 0, len: 2 }), Err(1));
    assert_eq!(padded.str(Span { off: 2, len: 1 }), Err(0));
}

/// A small generator of its own, so that a failure can be repeated from its number.
struct Random(u64);
impl Random {
    fn next(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn mutated_lines_have_the_verdict_of_serde_json() {
    let seeds = [
        r#"{"ts":1700000000123,"uid":"u12345","client":{"os":"ios","v":[1,2.5e3,{"x":null}]},"price":12.30,"ok":true,"e":"a\u00e9\uD83D\uDE00\n\"q\" "}"#,
        r#"{ "uid" : "x" , "client" : { } , "list" : [ ] , "n" : -0.0 , "f" : false , "中" : "文" }"#,
        r#"{"uid":"a","uid":{"os":1},"client":{"os":"a"},"client":{"net":"b","os":"c"}}"#,
    ];
    let bits: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0",
        b"1",
        b"e",
        b"-",
        b".",
        b" ",
        b"\n",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\\u",
        b"\\ud83d",
        b"null",
        b"tru",
        b"\xe4\xb8\xad",
        b"\x1f",
    ];
    let paths = ["ts", "uid", "client.os", "client.v", "price", "ok", "e", "n", "中", "uid.os"];
    let mut parser = parser(&paths);
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..100_000 {
        let mut doc = seeds[random.next(seeds.len())].as_bytes().to_vec();
        for _ in 0..random.next(4) {
            let at = random.next(doc.len() + 1);
            match random.next(4) {
                0 => drop(doc.splice(at..at, bits[random.next(bits.len())].iter().copied())),
                1 if at < doc.len() => doc[at] = bits[random.next(bits.len())][0],
                2 => {
                    let to = (at + random.next(9)).min(doc.len());
                    doc.drain(at..to);
                }
                _ => {
                    let to = (at + random.next(20)).min(doc.len());
                    let piece = doc[at..to].to_vec();
                    let to = random.next(doc.len() + 1);
                    doc.splice(to..to, piece);
                }
            }
        }
        let ours = parse_in(&mut parser, b"\"", &doc, b"\"}", paths.len());
        let theirs = match serde_json::from_slice::<serde_json::Value>(&doc) {
            Ok(v) if v.is_object() => Ok(v),
            Ok(_) => Err(()),
            // The grammar allows numbers beyond f64; whether a field can hold them is asked later.
            Err(e) if e.to_string().starts_with("number out of range") => continue,
            Err(_) => Err(()),
        };
        let shown = String::from_utf8_lossy(&doc);
        match (ours, theirs) {
            (Ok(row), Ok(v)) => {
                good += 1;
                for (path, got) in paths.iter().zip(row) {
                    let want = path.split('.').try_fold(&v, |v, k| v.as_object().and_then(|o| o.get(k)));
                    let got = got.map(|t| serde_json::from_str::<serde_json::Value>(&t).unwrap());
                    assert_eq!(got.as_ref(), want, "round {round}, {path}: {shown}");
                }
            }
            (Err(_), Err(())) => bad += 1,
            (ours, theirs) => panic!("round {round}: {shown}\nours {ours:?}\ntheirs {theirs:?}"),
        }
    }
    assert!(good > 20_000 && bad > 20_000, "{good} {bad}");
}
