//! Regular expressions that cannot be read: what is wrong, and where.

use std::ops::Range;

/// The place, in bytes of the pattern, and a sentence. None: the pattern can be read (it may still be too large).
pub fn regex_fault(pattern: &str) -> Option<(Range<usize>, String)> {
    use regex_syntax::Error;
    let (span, message) = match regex_syntax::Parser::new().parse(pattern).err()? {
        Error::Parse(e) => (*e.span(), e.kind().to_string()),
        Error::Translate(e) => (*e.span(), e.kind().to_string()),
        e => return Some((0..pattern.len(), e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").into())),
    };
    let (start, end) = (span.start.offset.min(pattern.len()), span.end.offset.min(pattern.len()));
    Some((start..end.max(start), message))
}

#[cfg(test)]
mod tests {
    use super::regex_fault;

    #[test]
    fn says_where() {
        for (pattern, place, message) in [
            (r"^(\d+(b$", 5..6, "unclosed group"),
            ("a{2,1}", 1..6, "invalid repetition count range, the start must be <= the end"),
            (r"é\q", 2..4, "unrecognized escape sequence"),
            (r"\p{Greeek}", 0..10, "Unicode property not found"),
            ("[a", 0..1, "unclosed character class"),
        ] {
            assert_eq!(regex_fault(pattern), Some((place, message.to_string())), "{pattern}");
        }
        assert_eq!(regex_fault("(?P<a>x)"), None);
    }
}
