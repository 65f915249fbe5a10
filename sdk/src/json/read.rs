//! Reading JSON text that a parser has already found valid: members of a container, one value at a path, escapes.
//!
//! Nothing here recurses, so nesting costs no stack. On text that is not valid JSON every function ends early instead of failing.

use super::split::Pairs;
use crate::value::Val;

/// How deep containers may nest; parsers reject what is deeper.
pub const MAX_DEPTH: usize = 128;

/// A member of an object, or an element of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member<'a> {
    /// The key between its quotes, escapes as written; None in an array.
    pub raw_key: Option<&'a str>,
    /// The JSON text of the value.
    pub raw: &'a str,
}

impl<'a> Member<'a> {
    /// The key, unescaped into `scratch` if it has to be; "" in an array.
    pub fn key<'s>(&self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        match self.raw_key {
            None => "",
            Some(k) if !k.contains('\\') => k,
            Some(k) => plain(k, scratch),
        }
    }

    /// Whether the key, unescaped, is `name`.
    pub fn key_is(&self, name: &str) -> bool {
        match self.raw_key {
            Some(k) => k == name || (k.contains('\\') && plain(k, &mut String::new()) == name),
            None => false,
        }
    }

    /// The value; `scratch` receives a string that has to be unescaped.
    pub fn value<'s>(&self, scratch: &'s mut String) -> Val<'s>
    where
        'a: 's,
    {
        view(self.raw, scratch)
    }
}

fn plain<'s>(raw: &str, scratch: &'s mut String) -> &'s str {
    scratch.clear();
    // Valid text has no bad escape; what came before one is kept otherwise.
    let _ = unescape(raw, scratch);
    scratch
}

/// The value of one JSON text without blanks around it; Missing if it starts like none.
pub fn view<'s, 'a: 's>(raw: &'a str, scratch: &'s mut String) -> Val<'s> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let inner = raw[1..].strip_suffix('"').unwrap_or(&raw[1..]);
            Val::Str(if inner.contains('\\') { plain(inner, scratch) } else { inner })
        }
        Some(b'{' | b'[') => Val::Json(raw),
        Some(b't') => Val::Bool(true),
        Some(b'f') => Val::Bool(false),
        Some(b'n') => Val::Null,
        Some(b'-' | b'0'..=b'9') => Val::Num(raw),
        _ => Val::Missing,
    }
}

/// The members of an object or the elements of an array, in order; nothing for any other text.
pub fn members(json: &str) -> Members<'_> {
    let p = blanks(json.as_bytes(), 0);
    match json.as_bytes().get(p) {
        Some(b'{') => Members { text: json, at: p + 1, object: true },
        Some(b'[') => Members { text: json, at: p + 1, object: false },
        _ => Members { text: json, at: json.len(), object: false },
    }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
    object: bool,
}

impl<'a> Members<'a> {
    /// How far it is: for [`skip_to`](Self::skip_to), of the same text.
    pub fn position(&self) -> usize {
        self.at
    }
    /// Goes on where another one stood.
    pub fn skip_to(mut self, position: usize) -> Members<'a> {
        self.at = position;
        self
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    #[inline]
    fn next(&mut self) -> Option<Member<'a>> {
        let t = self.text.as_bytes();
        let mut p = blanks(t, self.at);
        if t.get(p) == Some(&b',') {
            p = blanks(t, p + 1);
        }
        self.at = t.len();
        let mut raw_key = None;
        if self.object {
            if t.get(p) != Some(&b'"') {
                return None;
            }
            let end = string_end(t, p + 1)?;
            raw_key = self.text.get(p + 1..end);
            p = blanks(t, end + 1);
            if t.get(p) != Some(&b':') {
                return None;
            }
            p = blanks(t, p + 1);
        }
        let end = value_end(t, p)?;
        self.at = end;
        Some(Member { raw_key, raw: self.text.get(p..end)? })
    }
}

#[inline]
fn blanks(t: &[u8], mut p: usize) -> usize {
    while matches!(t.get(p), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        p += 1;
    }
    p
}

/// The place of the quote that closes the string whose text starts at `p`.
#[inline]
fn string_end(t: &[u8], mut p: usize) -> Option<usize> {
    loop {
        p += memchr::memchr2(b'"', b'\\', t.get(p..)?)?;
        if t[p] == b'"' {
            return Some(p);
        }
        p += 2;
    }
}

/// The place behind the value that starts at `p`; None if there is none.
fn value_end(t: &[u8], p: usize) -> Option<usize> {
    match *t.get(p)? {
        b'"' => string_end(t, p + 1).map(|e| e + 1),
        b'{' | b'[' => {
            let (mut depth, mut p) = (0usize, p);
            loop {
                match *t.get(p)? {
                    b'"' => p = string_end(t, p + 1)?,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(p + 1);
                        }
                    }
                    _ => {}
                }
                p += 1;
            }
        }
        _ => {
            let n = t[p..].iter().position(|c| matches!(c, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(t.len() - p);
            (n > 0).then_some(p + n)
        }
    }
}

/// Follows keys and array indexes into a container; `scratch` receives a string that had to be unescaped. Missing when the path
/// leads nowhere or through something that is no container. Of equal keys the last one counts.
pub fn lookup<'a>(value: Val<'a>, path: &[Box<str>], scratch: &'a mut String) -> Val<'a> {
    let mut raw = match (value, path) {
        (v, []) => return v,
        (Val::Json(t), _) => t,
        (Val::Split(t, pair, key), [name]) => {
            return Pairs::new(t, pair, key).filter(|(k, _)| *k == &**name).last().map_or(Val::Missing, |(_, v)| Val::Str(v));
        }
        _ => return Val::Missing,
    };
    for step in path {
        let mut all = members(raw);
        let found = if all.object {
            all.filter(|m| m.key_is(step)).last()
        } else {
            match step.parse::<usize>() {
                Ok(i) => all.nth(i),
                Err(_) => None,
            }
        };
        match found {
            Some(m) => raw = m.raw,
            None => return Val::Missing,
        }
    }
    view(raw, scratch)
}

/// A bad escape: where it is in the raw text, bytes, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnescapeError {
    pub at: usize,
    pub what: &'static str,
}

/// Appends the text of a JSON string, given what stands between its quotes.
///
/// # Errors
/// An unknown or unfinished escape, or half of a surrogate pair; `out` then holds what came before.
pub fn unescape(raw: &str, out: &mut String) -> Result<(), UnescapeError> {
    let t = raw.as_bytes();
    let mut p = 0;
    loop {
        let Some(n) = memchr::memchr(b'\\', &t[p..]) else {
            out.push_str(&raw[p..]);
            return Ok(());
        };
        out.push_str(&raw[p..p + n]);
        let at = p + n;
        let bad = |what| Err(UnescapeError { at, what });
        p = at + 2;
        out.push(match t.get(at + 1) {
            Some(c @ (b'"' | b'\\' | b'/')) => *c as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let Some(hi) = hex4(t, p) else { return bad("`\\u` needs four hexadecimal digits") };
                p += 4;
                let mut code = hi;
                if (0xD800..0xDC00).contains(&hi) {
                    let lo = (t.get(p..p + 2) == Some(b"\\u")).then(|| hex4(t, p + 2)).flatten();
                    let Some(lo) = lo.filter(|l| (0xDC00..0xE000).contains(l)) else { return bad("a lone surrogate") };
                    p += 6;
                    code = 0x10000 + ((hi - 0xD800) << 10) + (lo - 0xDC00);
                }
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return bad("a lone surrogate"),
                }
            }
            _ => return bad("an unknown escape"),
        });
    }
}

#[inline]
fn hex4(t: &[u8], p: usize) -> Option<u32> {
    t.get(p..p + 4)?.iter().try_fold(0, |n, c| Some(n << 4 | (*c as char).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(p: &str) -> Vec<Box<str>> {
        p.split('.').map(Into::into).collect()
    }

    #[test]
    fn looks_up_paths() {
        let doc = r#" { "a" : 1.10 , "b":{"c":[10,{"d":"x\u00e9\n"}],"e":"plain"}, "n":null,"t":true ,"a\"q":2,"dup":1,"dup":{"z":3},"":"empty"} "#;
        let cases: &[(&str, &str)] = &[
            ("a", "Num(\"1.10\")"),
            ("b.c.0", "Num(\"10\")"),
            ("b.c.1.d", "Str(\"xé\\n\")"),
            ("b.e", "Str(\"plain\")"),
            ("b.c.2", "Missing"),
            ("b.c.x", "Missing"),
            ("b.e.z", "Missing"),
            ("n", "Null"),
            ("t", "Bool(true)"),
            ("a\"q", "Num(\"2\")"),
            ("dup.z", "Num(\"3\")"),
            ("", "Str(\"empty\")"),
            ("zz", "Missing"),
        ];
        for (p, want) in cases {
            assert_eq!(format!("{:?}", lookup(Val::Json(doc), &path(p), &mut String::new())), *want, "{p}");
        }
        assert_eq!(lookup(Val::Split("a=1|b|a=2", b'|', b'='), &path("a"), &mut String::new()), Val::Str("2"));
        assert_eq!(lookup(Val::Split("a=1|b", b'|', b'='), &path("b"), &mut String::new()), Val::Str(""));
        assert_eq!(lookup(Val::Split("a=1|b", b'|', b'='), &path("a.b"), &mut String::new()), Val::Missing);
        assert_eq!(lookup(Val::Int(1), &path("a"), &mut String::new()), Val::Missing);
    }

    #[test]
    fn members_keep_order_and_end_on_nonsense() {
        let keys = |t: &str| members(t).map(|m| (m.key(&mut String::new()).to_string(), m.raw.to_string())).collect::<Vec<_>>();
        assert_eq!(keys("{}"), []);
        assert_eq!(keys("[1,\"]\",[2,[3]] ]").len(), 3);
        assert_eq!(keys(r#"{"a":{"x":"}"},"b":[]}"#), [("a".into(), r#"{"x":"}"}"#.into()), ("b".into(), "[]".into())]);
        for bad in ["", "12", "{", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":\"", "[", "[[", "[\"\\", "{1:2}", "{\"a\":[1}"] {
            assert!(members(bad).count() <= 1, "{bad}");
        }
    }

    #[test]
    fn nesting_takes_no_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(members(&deep).count(), 1);
        assert_eq!(lookup(Val::Json(&deep), &path("a.0.0.1"), &mut String::new()), Val::Missing);
    }

    #[test]
    fn unescapes_like_serde_json() {
        for raw in [
            r"",
            r"abc",
            r#"\"\\\/\b\f\n\r\t"#,
            r"\u0041\u00e9\u4e2d\uD83D\uDE00",
            r"x\uD83D",
            r"\uDE00",
            r"\uD83D\u0041",
            r"\u12",
            r"\x",
            r"\",
            r"\u00zz",
            "é\\n中",
        ] {
            let mut out = String::new();
            let ours = unescape(raw, &mut out).map(|()| out);
            let theirs = serde_json::from_str::<String>(&format!("\"{raw}\""));
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{raw}: {ours:?}");
            if let (Ok(a), Ok(b)) = (ours, theirs) {
                assert_eq!(a, b);
            }
        }
    }
}
