//! LIKE patterns: `%` any text, `_` one character, an escape before either of them.

use millrace_sdk::same_text;

/// A pattern made ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Like {
    shape: Shape,
    fold: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Any(Vec<Piece>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Many,
    One,
    Char(char),
}

impl Like {
    /// `fold`: without regard to case.
    ///
    /// # Errors
    /// An escape before anything but `%`, `_` and itself.
    pub fn new(pattern: &str, escape: Option<char>, fold: bool) -> Result<Like, String> {
        let mut pieces = vec![];
        let lower = if fold { pattern.to_lowercase() } else { String::new() };
        let mut chars = if fold { lower.chars() } else { pattern.chars() };
        while let Some(c) = chars.next() {
            pieces.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(e) if e == '%' || e == '_' || Some(e) == escape => Piece::Char(e),
                    _ => return Err(format!("the escape `{c}` stands before something other than `%`, `_` and itself in `{pattern}`")),
                },
                '%' if pieces.last() == Some(&Piece::Many) => continue,
                '%' => Piece::Many,
                '_' => Piece::One,
                c => Piece::Char(c),
            });
        }
        let plain = |p: &[Piece]| -> Option<Box<str>> {
            p.iter().map(|p| if let Piece::Char(c) = p { Some(*c) } else { None }).collect::<Option<String>>().map(Into::into)
        };
        let shape = match &pieces[..] {
            [Piece::Many, inner @ .., Piece::Many] if plain(inner).is_some() => plain(inner).map(Shape::Contains),
            [Piece::Many, inner @ ..] if plain(inner).is_some() => plain(inner).map(Shape::Suffix),
            [inner @ .., Piece::Many] if plain(inner).is_some() => plain(inner).map(Shape::Prefix),
            all => plain(all).map(Shape::Exact),
        };
        Ok(Like { shape: shape.unwrap_or(Shape::Any(pieces)), fold })
    }

    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        if self.fold { self.test(&text.to_lowercase()) } else { self.test(text) }
    }

    #[inline]
    fn test(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Exact(p) => text == &**p,
            Shape::Prefix(p) => text.get(..p.len()).is_some_and(|head| same_text(head, p)),
            Shape::Suffix(p) => text.ends_with(&**p),
            Shape::Contains(p) => memchr::memmem::find(text.as_bytes(), p.as_bytes()).is_some(),
            Shape::Any(pieces) => search(pieces, text),
        }
    }
}

/// Greedy with one place to come back to: the last `%`. Quadratic at worst.
fn search(pieces: &[Piece], text: &str) -> bool {
    let (mut p, mut rest) = (0, text.chars());
    let mut back: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let here = rest.clone();
        match (pieces.get(p), rest.next()) {
            (Some(Piece::Many), _) => {
                back = Some((p + 1, here.clone()));
                rest = here;
                p += 1;
            }
            (Some(Piece::One), Some(_)) => p += 1,
            (Some(Piece::Char(a)), Some(b)) if *a == b => p += 1,
            (None, None) => return true,
            _ => match &mut back {
                Some((piece, from)) => {
                    if from.next().is_none() {
                        return false;
                    }
                    (p, rest) = (*piece, from.clone());
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (text, pattern, want) in [
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "%b%", true),
            ("abc", "%", true),
            ("", "%", true),
            ("", "", true),
            ("", "_", false),
            ("abc", "a_c", true),
            ("aéc", "a_c", true),
            ("abcbc", "a%bc", true),
            ("abcbd", "a%bc", false),
            ("a%c", "a!%c", true),
            ("abc", "a!%c", false),
            ("a!c", "a!!c", true),
            ("aXbXc", "a%X_", true),
            ("mississippi", "%iss%ip%", true),
        ] {
            assert_eq!(Like::new(pattern, Some('!'), false).unwrap().matches(text), want, "{text} like {pattern}");
        }
        assert!(Like::new("ÄB%", None, true).unwrap().matches("äbc"));
        assert!(Like::new("a!b", Some('!'), false).is_err());
        assert!(Like::new("a!", Some('!'), false).is_err());
    }

    proptest! {
        #[test]
        fn as_the_regex_says(text in "[ab%_]{0,12}", pattern in "[ab%_]{0,8}") {
            let regex = format!("(?s)^{}$", pattern.replace('%', ".*").replace('_', "."));
            prop_assert_eq!(Like::new(&pattern, None, false).unwrap().matches(&text), regex::Regex::new(&regex).unwrap().is_match(&text));
        }
    }
}
