//! Patterns of time.

/// Patterns in the letters of Java (`yyyy-MM-dd HH:mm:ss`), which Flink uses, become strftime; the others stay.
///
/// # Errors
/// Letters that mean nothing, or no pattern at all.
pub fn strftime(text: &str) -> Result<String, String> {
    if text.contains('%') || matches!(text, "epoch_ms" | "epoch_s" | "iso8601") {
        return Ok(text.into());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            let Some((quoted, after)) = rest[1..].split_once('\'') else { return Err(format!("`{text}` has a quote that does not end")) };
            out.push_str(if quoted.is_empty() { "'" } else { quoted });
            rest = after;
            continue;
        }
        if !c.is_ascii_alphabetic() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let n = rest.bytes().take_while(|b| *b == c as u8).count();
        out.push_str(match (c, n) {
            ('y' | 'u', 2) => "%y",
            ('y' | 'u', _) => "%Y",
            ('M', 1 | 2) => "%m",
            ('M', 3) => "%b",
            ('M', _) => "%B",
            ('d', _) => "%d",
            ('H', _) => "%H",
            ('h', _) => "%I",
            ('m', _) => "%M",
            ('s', _) => "%S",
            ('S', 3) => "%3f",
            ('S', 6) => "%6f",
            ('S', 9) => "%9f",
            ('a', _) => "%p",
            ('E', 1..=3) => "%a",
            ('E', _) => "%A",
            ('D', _) => "%j",
            ('Z', _) => "%z",
            ('X' | 'x', 3) => "%:z",
            ('X' | 'x', _) => "%z",
            ('z' | 'V', _) => "%Q",
            _ => return Err(format!("`{c}` in `{text}` is no letter of a time pattern; write strftime patterns like `%Y-%m-%d %H:%M:%S`")),
        });
        rest = &rest[n..];
    }
    if !out.contains('%') {
        return Err(format!("`{text}` is no time pattern: write one like `%Y-%m-%d %H:%M:%S`"));
    }
    Ok(out)
}
