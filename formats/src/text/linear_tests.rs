use super::*;
use proptest::prelude::*;
use regex::bytes::RegexBuilder;

/// The groups of a match but for the whole, by the regex crate.
fn by_regex(pattern: &str, line: &str) -> Option<Vec<Option<(usize, usize)>>> {
    let regex = RegexBuilder::new(pattern).unicode(false).build().expect("a pattern");
    let found = regex.captures(line.as_bytes())?;
    Some(found.iter().skip(1).map(|g| g.map(|g| (g.start(), g.end()))).collect())
}

fn by_steps(linear: &Linear, line: &str) -> Option<Vec<Option<(usize, usize)>>> {
    let mut slots = vec![7; 3];
    linear.matches(Line::from(line), &mut slots).then(|| {
        let group = |s: &[u32]| (s[1] != u32::MAX).then(|| (s[0] as usize, s[1] as usize));
        slots[2..].chunks(2).map(group).collect()
    })
}

#[test]
fn what_has_such_a_form() {
    for (pattern, line) in [
        (
            r#"^(\S+) \S+ \[([^\]]+)\] "([A-Z]+) ([^ ?"]+)\?([^ "]*)" (\d{3}) (\d+|-) (\d+)\.(\d{3})$"#,
            r#"a b [c d] "GET /x?y=1" 200 - 1.250"#,
        ),
        (r"^(\d+)(?:,(\d+))?;(.*)$", "1;;"),
        (r"^(?:([a-z]+)=(\d*)&)*(\d+)$", "a=1&b=2&7"),
        (r"^(?:\d{1,3}\.){3}(\d{1,3})", "127.0.0.1:80"),
        (r"^(GET|POST|PUT) (?P<rest>\S+)", "PUT x y"),
        (r"^(?i)(get|a)+?b$", "gETaB"),
        (r"^(a|(?:b+c)?)-(\d{2}\d+)$", "-123"),
        (r"^a{3}(a*)$", "aaaa"),
        (r"^([^,]*?),(.+)$", "a,b,c"),
    ] {
        let linear = Linear::new(pattern).unwrap_or_else(|| panic!("{pattern} is not linear"));
        let want = by_regex(pattern, line);
        assert!(want.is_some(), "{pattern} does not match {line}");
        assert_eq!(by_steps(&linear, line), want, "{pattern}");
    }
}

#[test]
fn what_has_not() {
    for pattern in [
        r"(\d+)",
        r"^(.*) (.*)$",
        r"^(a+?)",
        r"^(\w+)\b",
        r"^(ab|ac)$x",
        r"^(a|ab)$",
        r"^(a?)(a)$",
        r"(?m)^(a)$",
        r"^(?:(a)b)?(a)$",
        r"^(?:a|)",
        r"^(?:a*)*$",
        r"^(x|y?|z?)$",
        r"^(?:,(\d+))?",
    ] {
        assert!(Linear::new(pattern).is_none(), "{pattern}");
    }
}

#[test]
fn nesting_takes_no_time() {
    let nested = (0..60).fold("a".to_string(), |p, _| format!("(?:{p})+b"));
    let _ = Linear::new(&format!("^{nested}$"));
}

/// Patterns of few characters, of which some have the form.
fn pattern() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec!["a", "b", "c", "[ab]", "[^a]", "[^bc]", r"\d", "1", " ", "ab", "ca", r"\w", r"\S", "(?i:A)"]);
    let leaf = (atom, prop::sample::select(vec!["", "", "", "+", "*", "?", "{2}", "{1,2}", "+?"])).prop_map(|(a, r)| match a {
        "ab" | "ca" => format!("(?:{a}){r}"),
        a => format!("{a}{r}"),
    });
    let whole = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..5).prop_map(|v| v.concat()),
            2 => inner.clone().prop_map(|p| format!("({p})")),
            1 => (inner.clone(), prop::sample::select(vec!["?", "*", "+", "{2}", "{0,2}"])).prop_map(|(p, r)| format!("(?:{p}){r}")),
            1 => prop::collection::vec(inner, 1..4).prop_map(|v| format!("({})", v.join("|"))),
        ]
    });
    (whole, any::<bool>()).prop_map(|(p, ends)| format!("^{p}{}", if ends { "$" } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn it_matches_what_the_regex_crate_matches(pattern in pattern(), lines in prop::collection::vec("[abc1 ]{0,9}", 16)) {
        if let Some(linear) = Linear::new(&pattern) {
            for line in lines {
                prop_assert_eq!(by_steps(&linear, &line), by_regex(&pattern, &line), "{} on {:?}", &pattern, &line);
            }
        }
    }
}
