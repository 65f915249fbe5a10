//! Functions of text. Positions and lengths count characters, from 1.

use super::{FunctionDef, MAX_TEXT, Param::*, count, too_long};
use crate::sql::node::Const;
use crate::sql::value::{R, V, fail};
use millrace_sdk::Type;
use millrace_sdk::inventory::submit;

const S: Type = Type::String;
const B: Type = Type::Boolean;
const I: Type = Type::Bigint;

submit! { FunctionDef::new("upper", &[Text], S, "upper(text) -> string", "in upper case", "upper('abc') => 'ABC'",
|a, cx, _| { let t = a[0].text()?; Ok(V::Str(if t.is_ascii() { s_upper(t, cx.pool.string()) } else { cx.pool.keep(t.to_uppercase()) })) }).alias(&["ucase"]) }
submit! { FunctionDef::new("lower", &[Text], S, "lower(text) -> string", "in lower case", "lower('IOS') => 'ios'",
|a, cx, _| { let t = a[0].text()?; Ok(V::Str(if t.is_ascii() { s_lower(t, cx.pool.string()) } else { cx.pool.keep(t.to_lowercase()) })) }).alias(&["lcase"]) }
submit! { FunctionDef::new("initcap", &[Text], S, "initcap(text) -> string", "each word with a capital and small letters after it", "initcap('ad-log of MAY') => 'Ad-Log Of May'",
|a, cx, _| {
    let out = cx.pool.string();
    let mut inside = false;
    for c in a[0].text()?.chars() {
        if inside { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
        inside = c.is_alphanumeric();
    }
    Ok(V::Str(out))
}) }
submit! { FunctionDef::new("trim", &[Text, Text], S, "trim(text[, characters]) -> string", "without blanks, or the given characters, at both ends", "trim('--a-', '-') => 'a'",
|a, _, _| { let set = trimmed(a)?; Ok(V::Str(a[0].text()?.trim_matches(|c| is_in(c, set)))) }).optional(1).alias(&["btrim"]) }
submit! { FunctionDef::new("ltrim", &[Text, Text], S, "ltrim(text[, characters]) -> string", "without blanks, or the given characters, at the start", "ltrim('  a ') => 'a '",
|a, _, _| { let set = trimmed(a)?; Ok(V::Str(a[0].text()?.trim_start_matches(|c| is_in(c, set)))) }).optional(1) }
submit! { FunctionDef::new("rtrim", &[Text, Text], S, "rtrim(text[, characters]) -> string", "without blanks, or the given characters, at the end", "rtrim('007xx', 'x') => '007'",
|a, _, _| { let set = trimmed(a)?; Ok(V::Str(a[0].text()?.trim_end_matches(|c| is_in(c, set)))) }).optional(1) }
submit! { FunctionDef::new("length", &[Bytes], I, "length(text) -> bigint", "number of characters, of bytes its size", "length('é1') => 2",
|a, _, _| Ok(V::Int(match a[0] { V::Bytes(b) => b.len() as i64, v => characters(v.text()?) as i64 }))).alias(&["char_length", "character_length", "len"]) }
submit! { FunctionDef::new("octet_length", &[Bytes], I, "octet_length(text) -> bigint", "number of bytes, of text in UTF-8", "octet_length('é1') => 3",
|a, _, _| Ok(V::Int(a[0].blob()?.len() as i64))) }
submit! { FunctionDef::new("substring", &[Text, Int, Int], S, "substring(text, start[, length]) -> string", "the part from a position on, counted from 1 (from the end if negative)", "substring('abcdef', 2, 3) => 'bcd'",
|a, _, _| {
    let t = a[0].text()?;
    let mut start = a[1].int()?;
    let length = match a.get(2) { Some(n) => n.int()?, None => i64::MAX };
    if length < 0 { return fail("invalid-argument", format!("substring of negative length {length}")); }
    if start < 0 { start = start.saturating_add(characters(t) as i64).saturating_add(1); }
    // What lies before the first character counts as length, as in SQL.
    let end = start.saturating_add(length);
    Ok(V::Str(slice(t, start.max(1) as usize - 1, end.max(1) as usize - 1)))
}).optional(1).alias(&["substr"]) }
submit! { FunctionDef::new("left", &[Text, Int], S, "left(text, n) -> string", "the first n characters", "left('abcd', 2) => 'ab'",
|a, _, _| Ok(V::Str(slice(a[0].text()?, 0, count(a[1])?)))) }
submit! { FunctionDef::new("right", &[Text, Int], S, "right(text, n) -> string", "the last n characters", "right('abcd', 2) => 'cd'",
|a, _, _| { let t = a[0].text()?; Ok(V::Str(slice(t, characters(t).saturating_sub(count(a[1])?), usize::MAX))) }) }
submit! { FunctionDef::new("position", &[Text, Text], I, "position(part IN text) -> bigint", "where a part begins, from 1; 0 if it is not there", "position('c' IN 'abc') => 3",
|a, _, _| place(a[1].text()?, a[0].text()?)).alias(&["locate"]) }
submit! { FunctionDef::new("strpos", &[Text, Text], I, "strpos(text, part) -> bigint", "where a part begins, from 1; 0 if it is not there", "strpos('abc', 'b') => 2",
|a, _, _| place(a[0].text()?, a[1].text()?)).alias(&["instr"]) }
submit! { FunctionDef::new("replace", &[Text, Text, Text], S, "replace(text, from, to) -> string", "with every occurrence replaced", "replace('a-b-c', '-', '+') => 'a+b+c'",
|a, cx, _| {
    let (t, from, to) = (a[0].text()?, a[1].text()?, a[2].text()?);
    if from.is_empty() { return Ok(a[0]); }
    let out = cx.pool.string();
    let mut last = 0;
    for (i, _) in t.match_indices(from) {
        out.push_str(&t[last..i]);
        out.push_str(to);
        last = i + from.len();
        if out.len() > MAX_TEXT { return too_long(); }
    }
    out.push_str(&t[last..]);
    Ok(V::Str(out))
}) }
submit! { FunctionDef::new("translate", &[Text, Text, Text], S, "translate(text, from, to) -> string", "with each character of `from` replaced by the one at its place in `to`, or removed", "translate('a,b;c', ',;', '.') => 'a.bc'",
|a, cx, _| {
    let (from, to) = (a[1].text()?, a[2].text()?);
    let out = cx.pool.string();
    for c in a[0].text()?.chars() {
        match from.chars().position(|f| f == c) {
            None => out.push(c),
            Some(i) => out.extend(to.chars().nth(i)),
        }
    }
    Ok(V::Str(out))
}) }
submit! { FunctionDef::new("concat", &[Any], S, "concat(a, b, …) -> string", "the arguments as one text; NULL if one of them is", "concat('a', 1, true) => 'a1true'",
|a, cx, _| {
    let out = cx.pool.string();
    for v in a { v.write(out)?; }
    Ok(V::Str(out))
}).variadic() }
submit! { FunctionDef::new("concat_ws", &[Text, Any], S, "concat_ws(separator, a, b, …) -> string", "the arguments that are not NULL, separated", "concat_ws('/', 'a', NULL, 'b') => 'a/b'",
|a, cx, _| {
    if a[0].is_null() { return Ok(V::Null); }
    let (out, separator) = (cx.pool.string(), a[0].text()?);
    for (i, v) in a[1..].iter().filter(|v| !v.is_null()).enumerate() {
        if i > 0 { out.push_str(separator); }
        v.write(out)?;
    }
    Ok(V::Str(out))
}).variadic().takes_null() }
submit! { FunctionDef::new("split_part", &[Text, Text, Int], S, "split_part(text, separator, n) -> string", "the nth piece, counted from 1 (from the end if negative); '' where there is none", "split_part('a|b|c', '|', 2) => 'b'",
|a, _, _| {
    let (t, separator, n) = (a[0].text()?, a[1].text()?, a[2].int()?);
    if n == 0 { return fail("invalid-argument", "split_part counts from 1"); }
    if separator.is_empty() { return Ok(V::Str(if n == 1 || n == -1 { t } else { "" })); }
    let at = usize::try_from(n.unsigned_abs() - 1).unwrap_or(usize::MAX);
    Ok(V::Str(if n > 0 { piece(t, separator, at) } else { t.rsplit(separator).nth(at) }.unwrap_or("")))
}) }
submit! { FunctionDef::new("lpad", &[Text, Int, Text], S, "lpad(text, length[, fill]) -> string", "filled at the start, or cut, to a length", "lpad('7', 3, '0') => '007'",
|a, cx, _| pad(a, cx.pool.string(), true)).optional(1) }
submit! { FunctionDef::new("rpad", &[Text, Int, Text], S, "rpad(text, length[, fill]) -> string", "filled at the end, or cut, to a length", "rpad('ab', 4, '.') => 'ab..'",
|a, cx, _| pad(a, cx.pool.string(), false)).optional(1) }
submit! { FunctionDef::new("reverse", &[Text], S, "reverse(text) -> string", "its characters backwards", "reverse('abc') => 'cba'",
|a, cx, _| { let out = cx.pool.string(); out.extend(a[0].text()?.chars().rev()); Ok(V::Str(out)) }) }
submit! { FunctionDef::new("repeat", &[Text, Int], S, "repeat(text, n) -> string", "n times after one another", "repeat('ab', 3) => 'ababab'",
|a, cx, _| {
    let (t, n) = (a[0].text()?, count(a[1])?);
    if t.len().saturating_mul(n) > MAX_TEXT { return too_long(); }
    Ok(V::Str(cx.pool.keep(t.repeat(n))))
}) }
submit! { FunctionDef::new("starts_with", &[Text, Text], B, "starts_with(text, prefix) -> boolean", "whether it begins so", "starts_with('abc', 'ab') => true",
|a, _, _| Ok(V::Bool(a[0].text()?.starts_with(a[1].text()?)))).alias(&["startswith"]) }
submit! { FunctionDef::new("ends_with", &[Text, Text], B, "ends_with(text, suffix) -> boolean", "whether it ends so", "ends_with('abc', 'bc') => true",
|a, _, _| Ok(V::Bool(a[0].text()?.ends_with(a[1].text()?)))).alias(&["endswith"]) }
submit! { FunctionDef::new("contains", &[Text, Text], B, "contains(text, part) -> boolean", "whether the part is in it", "contains('abc', 'x') => false",
|a, _, _| Ok(V::Bool(memchr::memmem::find(a[0].text()?.as_bytes(), a[1].text()?.as_bytes()).is_some()))) }
submit! { FunctionDef::new("ascii", &[Text], I, "ascii(text) -> bigint", "the code point of the first character; 0 for ''", "ascii('A') => 65",
|a, _, _| Ok(V::Int(a[0].text()?.chars().next().map_or(0, |c| c as i64)))) }
submit! { FunctionDef::new("chr", &[Int], S, "chr(n) -> string", "the character of a code point", "chr(65) => 'A'",
|a, cx, _| {
    let n = a[0].int()?;
    match u32::try_from(n).ok().and_then(char::from_u32) {
        Some(c) => { let out = cx.pool.string(); out.push(c); Ok(V::Str(out)) }
        None => fail("invalid-argument", format!("{n} is no code point")),
    }
}).alias(&["char"]) }

fn s_lower<'a>(t: &str, out: &'a mut String) -> &'a str {
    out.push_str(t);
    out.make_ascii_lowercase();
    out
}

fn s_upper<'a>(t: &str, out: &'a mut String) -> &'a str {
    out.push_str(t);
    out.make_ascii_uppercase();
    out
}

fn trimmed<'a>(a: &[V<'a>]) -> R<Option<&'a str>> {
    a.get(1).map(|v| v.text()).transpose()
}

fn is_in(c: char, set: Option<&str>) -> bool {
    set.map_or(c.is_whitespace(), |s| s.contains(c))
}

#[inline]
pub(crate) fn characters(t: &str) -> usize {
    if t.is_ascii() { t.len() } else { t.chars().count() }
}

/// The part of a text that a call gives whose other arguments are constants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Characters, from 0.
    Characters(usize, usize),
    /// A piece between separators, from 0.
    Piece(Box<str>, usize),
}

impl Part {
    /// What the function of that name gives with these arguments behind the text, if that is a part of the text and never an error.
    pub(crate) fn new(name: &str, constants: &[&Const]) -> Option<Part> {
        let place = |i: &i64| usize::try_from(*i).ok();
        Some(match (name, constants) {
            ("left", [Const::Int(n)]) => Part::Characters(0, place(n)?),
            ("substring", [Const::Int(start)]) => Part::Characters(place(start)?.checked_sub(1)?, usize::MAX),
            ("substring", [Const::Int(start), Const::Int(length)]) => {
                let from = place(start)?.checked_sub(1)?;
                Part::Characters(from, from.saturating_add(place(length)?))
            }
            ("split_part", [Const::Str(separator), Const::Int(n)]) if !separator.is_empty() => {
                Part::Piece(separator.clone(), place(n)?.checked_sub(1)?)
            }
            _ => return None,
        })
    }

    #[inline]
    pub(crate) fn of<'a>(&self, text: &'a str) -> &'a str {
        match self {
            Part::Characters(from, to) => slice(text, *from, *to),
            Part::Piece(separator, at) => piece(text, separator, *at).unwrap_or(""),
        }
    }
}

/// Characters `from..to`, as far as there are any.
#[inline]
fn slice(t: &str, from: usize, to: usize) -> &str {
    let Some(count) = to.checked_sub(from).filter(|n| *n > 0) else { return "" };
    let rest = &t[place_of(t, from)..];
    &rest[..place_of(rest, count)]
}

/// Where the byte is first: eight bytes a step, as that is mostly soon.
#[inline]
fn find_byte(text: &[u8], byte: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, _) = text.as_chunks::<8>();
    for (i, word) in words.iter().take(4).enumerate() {
        let other = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        // The lowest bit set is that of a byte without difference; those above it may be of others.
        let same = other.wrapping_sub(ONES) & !other & (ONES << 7);
        if same != 0 {
            return Some(8 * i + same.trailing_zeros() as usize / 8);
        }
    }
    let seen = 8 * words.len().min(4);
    memchr::memchr(byte, &text[seen..]).map(|at| seen + at)
}

/// Where the `n`th character begins, from 0; the text's length if there are fewer.
fn place_of(t: &str, n: usize) -> usize {
    // A character has at least one byte: so many bytes of ASCII are so many characters.
    match t.as_bytes().get(..n) {
        None => t.len(),
        Some(head) if head.is_ascii() => n,
        Some(_) => t.char_indices().nth(n).map_or(t.len(), |(i, _)| i),
    }
}

/// The piece `at` between separators, from 0.
#[inline]
fn piece<'a>(t: &'a str, separator: &str, at: usize) -> Option<&'a str> {
    let find = |t: &str| match separator.as_bytes() {
        &[byte] => find_byte(t.as_bytes(), byte),
        bytes => memchr::memmem::find(t.as_bytes(), bytes),
    };
    let mut rest = t;
    for _ in 0..at {
        rest = &rest[find(rest)? + separator.len()..];
    }
    Some(find(rest).map_or(rest, |end| &rest[..end]))
}

fn place<'a>(t: &str, part: &str) -> R<V<'a>> {
    Ok(V::Int(t.find(part).map_or(0, |i| characters(&t[..i]) as i64 + 1)))
}

fn pad<'a>(a: &[V<'a>], out: &'a mut String, before: bool) -> R<V<'a>> {
    let (t, length) = (a[0].text()?, count(a[1])?);
    let fill = match a.get(2) {
        Some(f) => f.text()?,
        None => " ",
    };
    let have = characters(t);
    if have >= length || fill.is_empty() {
        return Ok(V::Str(slice(t, 0, length)));
    }
    if length > MAX_TEXT {
        return too_long();
    }
    if !before {
        out.push_str(t);
    }
    out.extend(fill.chars().cycle().take(length - have));
    if before {
        out.push_str(t);
    }
    Ok(V::Str(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_and_pieces_are_those_of_characters_and_split(
            t in "[ab|é中]{0,12}", from in 0..14usize, to in prop_oneof![0..14usize, Just(usize::MAX)],
            separator in prop::sample::select(vec!["|", "a", "é", "ab", "||"]), at in 0..6usize,
        ) {
            let want: String = t.chars().take(to).skip(from).collect();
            prop_assert_eq!(slice(&t, from, to), want);
            prop_assert_eq!(piece(&t, separator, at), t.split(separator).nth(at));
        }

        #[test]
        fn a_byte_is_found_where_it_is_first(t in prop::collection::vec(prop::sample::select(vec![0, 1, b'a', b'`', b'b', 127, 128, 255]), 0..60), byte in prop::sample::select(vec![0, b'a', 128, 255])) {
            prop_assert_eq!(find_byte(&t, byte), t.iter().position(|b| *b == byte));
        }
    }
}
