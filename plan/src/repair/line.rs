//! Lines of a text that is no YAML, and what is open in them.

/// A line and what is in it. Offsets are of the whole text.
#[derive(Clone, Copy)]
pub(super) struct Line<'t> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) text: &'t str,
}

impl<'t> Line<'t> {
    pub(super) fn at(text: &'t str, at: usize) -> Line<'t> {
        let at = at.min(text.len());
        let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        Line { start, end, text: text[start..end].trim_end_matches('\r') }
    }

    /// The line with text before this one.
    pub(super) fn before(&self, text: &'t str) -> Option<Line<'t>> {
        let mut at = self.start;
        while at > 0 {
            let line = Line::at(text, at - 1);
            if !line.content().is_empty() && !line.content().starts_with('#') {
                return Some(line);
            }
            at = line.start;
        }
        None
    }

    pub(super) fn after(&self, text: &'t str) -> Option<Line<'t>> {
        (self.end < text.len()).then(|| Line::at(text, self.end + 1))
    }

    pub(super) fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start().len()
    }

    pub(super) fn content(&self) -> &'t str {
        self.text.trim()
    }

    /// Where the text begins.
    pub(super) fn first(&self) -> usize {
        self.start + self.indent()
    }

    /// The column of the key, behind dashes.
    pub(super) fn key_column(&self) -> usize {
        let mut at = self.indent();
        while self.text[at..].starts_with("- ") {
            at += self.text[at..].len() - self.text[at + 1..].trim_start().len();
        }
        at
    }

    /// What stands from the key on, without a comment.
    pub(super) fn bare(&self) -> &'t str {
        let all = self.text.get(self.key_column()..).unwrap_or("");
        all[..comment_in(all)].trim_end()
    }

    pub(super) fn bare_end(&self) -> usize {
        self.start + self.key_column() + self.bare().len()
    }

    /// Where the value of `key: value` starts.
    pub(super) fn value(&self) -> Option<usize> {
        let from = self.key_column();
        let colon = self.text.get(from..)?.find(": ")? + from;
        let rest = &self.text[colon + 1..];
        Some(self.start + colon + 1 + rest.len() - rest.trim_start().len())
    }

    pub(super) fn has_colon(&self) -> bool {
        self.bare().contains(": ") || self.bare().ends_with(':')
    }
}

/// Where a comment begins in a line, else its length.
pub(crate) fn comment_in(line: &str) -> usize {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match quote {
            None if (c == '"' || c == '\'') && matches!(before, ' ' | '[' | '{' | ',' | ':') => quote = Some(c),
            Some(q) if q == c => quote = None,
            None if c == '#' && (before == ' ' || before == '\t') => return i,
            _ => {}
        }
        before = c;
    }
    line.len()
}

/// Brackets that are open at the end of a stretch, and the quote that is.
pub(super) fn open_in(text: &str) -> (Vec<(usize, char)>, Option<(usize, char)>) {
    let (mut open, mut quote): (Vec<(usize, char)>, Option<(usize, char)>) = (vec![], None);
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',' | ':') => quote = Some((i, c)),
            (Some((_, q)), c) if q == c && !(q == '"' && before == '\\') => quote = None,
            (None, '[' | '{') => open.push((i, c)),
            (None, ']' | '}') => drop(open.pop()),
            (None, '#') if before == ' ' => break,
            _ => {}
        }
        before = c;
    }
    (open, quote)
}

pub(super) fn closers(open: &[(usize, char)]) -> String {
    open.iter().rev().map(|(_, c)| if *c == '[' { ']' } else { '}' }).collect()
}

/// The length of a bracketed stretch that begins here, quotes looked through.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}
