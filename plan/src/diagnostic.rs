//! What lint prints: problems with their places, gathered, sorted and rendered.

use crate::source::{Sources, Span};
use millrace_sdk::Severity;
use millrace_sdk::problem::one_close_name;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;

/// Another place that belongs to a problem: "first defined here".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Second {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub snippet: String,
}

/// A problem with its place. Lines and columns count from 1, columns in characters; the end is exclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    #[serde(serialize_with = "severity_name")]
    pub severity: Severity,
    /// Stable, kebab-case.
    pub id: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the text at the place should probably be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The line that the place begins in.
    pub snippet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<Second>,
    /// Replacements that mend it and change nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<Edit>,
}

/// A replacement of a stretch of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
    /// What is to stand there.
    pub text: String,
    /// The stretch in bytes of the text, a byte order mark not counted.
    #[serde(skip)]
    pub bytes: std::ops::Range<usize>,
}

fn severity_name<S: serde::Serializer>(severity: &Severity, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(word(*severity))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A problem while it is being gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub id: &'static str,
    pub severity: Severity,
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
    pub suggestion: Option<String>,
    pub second: Option<(Span, String)>,
    /// Replacements that mend it without changing anything else.
    pub fix: Vec<(Span, String)>,
    /// What is suggested is the one thing that can be meant: a fix.
    pub sure: bool,
}

impl Found {
    pub fn error(id: &'static str, span: Span, message: impl Into<String>) -> Found {
        Found {
            id,
            severity: Severity::Error,
            span,
            message: message.into(),
            hint: None,
            suggestion: None,
            second: None,
            fix: vec![],
            sure: false,
        }
    }
    pub fn warning(id: &'static str, span: Span, message: impl Into<String>) -> Found {
        Found { severity: Severity::Warning, ..Found::error(id, span, message) }
    }
    pub fn note(id: &'static str, span: Span, message: impl Into<String>) -> Found {
        Found { severity: Severity::Note, ..Found::error(id, span, message) }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Found {
        self.hint = Some(hint.into());
        self
    }
    pub fn suggest(mut self, suggestion: Option<String>) -> Found {
        self.suggestion = suggestion;
        self
    }
    pub fn fix(mut self, fix: Vec<(Span, String)>) -> Found {
        self.fix = fix;
        self
    }
    /// The suggestion is a fix if just one of the names is as close as it.
    pub fn sure<'a>(mut self, word: &str, names: impl Iterator<Item = &'a str>) -> Found {
        self.sure = one_close_name(word, names);
        self
    }
    pub fn second(mut self, span: Span, message: impl Into<String>) -> Found {
        self.second = Some((span, message.into()));
        self
    }
}

/// All problems so far.
#[derive(Default)]
pub(crate) struct Report {
    pub sources: Sources,
    pub found: Vec<Found>,
    /// Paths that the topology names, with their places.
    pub paths: Vec<(Span, String)>,
    /// Addresses of servers that it names.
    pub addresses: Vec<(Span, String)>,
    /// Keys that are handed to a client library as they are.
    pub properties: Vec<(Span, String)>,
    /// Stretches of the text had to be taken out in which whole parts or their names may have stood.
    pub damaged: bool,
    /// Matters of style are told too.
    pub style: bool,
    /// Names of uses of fragments that could not be followed: what their parts are called is not known.
    pub unknown_uses: Vec<String>,
}

impl Report {
    pub fn push(&mut self, found: Found) {
        self.found.push(found);
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|f| f.severity == Severity::Error)
    }

    /// Where whole parts had to be taken out, what is missing may have been one of them: such problems are not told.
    fn only_causes(&mut self) {
        self.found.retain(|f| match f.id {
            "ambiguous-input" | "unread-output" | "not-repeatable" => false,
            "dangling-input" | "unknown-field" => f.suggestion.is_some(),
            _ => true,
        });
    }

    /// Sorted by place, worst first at one place, repeats taken out.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        crate::allow::apply(&mut self);
        let found = std::mem::take(&mut self.found);
        self.found = once(&self.sources, found);
        let sources = &self.sources;
        self.found.sort_by(|a, b| {
            (sources.bare(a.span), a.severity, a.id, &a.message).cmp(&(sources.bare(b.span), b.severity, b.id, &b.message))
        });
        self.found.dedup();
        if self.damaged {
            self.only_causes();
        }
        let sources = &self.sources;
        self.found
            .iter()
            .map(|f| {
                let (line, column) = sources.line_column(f.span.src, f.span.start);
                let (end_line, end_column) = sources.line_column(f.span.src, f.span.end.max(f.span.start));
                Diagnostic {
                    severity: f.severity,
                    id: f.id.to_string(),
                    file: sources.name(f.span.src).to_string(),
                    line,
                    column,
                    end_line,
                    end_column,
                    message: visible(&f.message),
                    hint: f.hint.clone(),
                    suggestion: f.suggestion.clone(),
                    snippet: sources.line(f.span.src, line),
                    second: f.second.as_ref().map(|(span, message)| {
                        let (line, column) = sources.line_column(span.src, span.start);
                        Second {
                            file: sources.name(span.src).to_string(),
                            line,
                            column,
                            message: message.clone(),
                            snippet: sources.line(span.src, line),
                        }
                    }),
                    fix: edits(sources, f),
                }
            })
            .collect()
    }
}

/// Longest way back from a fragment to where it is used that is told.
const MAX_USES: usize = 8;

/// What lies in a fragment or in defaults is told once, with the place where they are used as its second one.
fn once(sources: &Sources, found: Vec<Found>) -> Vec<Found> {
    let mut out: Vec<Found> = Vec::with_capacity(found.len());
    let mut told: HashMap<(Span, &'static str, String), (usize, Vec<Span>)> = HashMap::new();
    for mut f in found {
        let Some(used) = sources.used(f.span) else {
            out.push(f);
            continue;
        };
        let key = (sources.bare(f.span), f.id, f.message.clone());
        if let Some((at, uses)) = told.get_mut(&key) {
            if !uses.contains(&used) {
                uses.push(used);
                if let Some((_, message)) = out[*at].second.as_mut().filter(|(_, m)| m.starts_with("used here")) {
                    let more = uses.len() - 1;
                    *message = format!("used here, and in {more} other place{}", if more == 1 { "" } else { "s" });
                }
            }
            continue;
        }
        let mut way = vec![];
        let mut at = used;
        if f.second.is_none() {
            f.second = Some((used, "used here".into()));
        } else {
            way.push(used);
        }
        while let Some(outer) = sources.used(at).filter(|_| way.len() < MAX_USES) {
            way.push(outer);
            at = outer;
        }
        if !way.is_empty() {
            let place = |s: &Span| {
                let (line, column) = sources.line_column(s.src, s.start);
                format!("{}:{line}:{column}", sources.name(s.src))
            };
            let way = format!("used at {}", way.iter().map(place).collect::<Vec<_>>().join(", from "));
            f.hint = Some(f.hint.map_or(way.clone(), |h| format!("{h}; {way}")));
        }
        told.insert(key, (out.len(), vec![used]));
        out.push(f);
    }
    out
}

/// The fix of a problem: its own, or what is suggested where that is sure and stands there as it is written.
fn edits(sources: &Sources, f: &Found) -> Vec<Edit> {
    let mut all = f.fix.clone();
    if let Some(s) = f.suggestion.as_ref().filter(|_| f.sure && all.is_empty()) {
        let written = sources.slice(f.span);
        let quoted = written.len() > 1 && written.starts_with(['"', '\'']);
        let plain = |t: &str| !t.is_empty() && t.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
        let bare = if quoted { &written[1..written.len() - 1] } else { written };
        if plain(bare) && plain(s) {
            let cut = usize::from(quoted);
            all.push((Span { start: f.span.start + cut, end: f.span.end - cut, ..f.span }, s.clone()));
        }
    }
    let edit = |(span, text): (Span, String)| {
        let (line, column) = sources.line_column(span.src, span.start);
        let (end_line, end_column) = sources.line_column(span.src, span.end);
        Edit { line, column, end_line, end_column, text, bytes: span.start..span.end }
    };
    // Only the file itself can be written.
    if all.iter().any(|(span, _)| sources.base(span.src) != 0) { vec![] } else { all.into_iter().map(edit).collect() }
}

/// One line each: `job.yaml:3:5: error[unknown-key] unknown key …`.
pub fn concise(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for d in diagnostics {
        let _ = write!(out, "{}:{}:{}: {}[{}] {}", d.file, d.line, d.column, word(d.severity), d.id, d.message);
        if let Some(s) = &d.suggestion {
            let _ = write!(out, "; did you mean `{s}`?");
        }
        out.push('\n');
    }
    out
}

/// A JSON array of objects.
pub fn json(diagnostics: &[Diagnostic]) -> String {
    serde_json::to_string_pretty(diagnostics).unwrap_or_else(|_| "[]".into()) + "\n"
}

/// With the line, the place underlined, hints and the second place; `color` for terminals.
pub fn full(diagnostics: &[Diagnostic], color: bool) -> String {
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() };
    let mut out = String::new();
    for d in diagnostics {
        let code = match d.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Note => "1;36",
        };
        let gutter = d.line.max(d.second.as_ref().map_or(0, |s| s.line)).to_string().len();
        let bar = paint("1;34", "|");
        let _ = writeln!(out, "{}: {}", paint(code, &format!("{}[{}]", word(d.severity), d.id)), paint("1", &d.message));
        let _ = writeln!(out, "{:gutter$}{} {}:{}:{}", "", paint("1;34", "-->"), d.file, d.line, d.column);
        // A file that cannot be read, or is empty, has nothing to show.
        if !d.snippet.is_empty() {
            let _ = writeln!(out, "{:gutter$} {bar}", "");
            let length = if d.end_line == d.line { d.end_column.saturating_sub(d.column) } else { usize::MAX };
            let (line, indent, marks) = underlined(&d.snippet, d.column, length);
            let _ = writeln!(out, "{} {bar} {line}", paint("1;34", &format!("{:>gutter$}", d.line)));
            let _ = writeln!(out, "{:gutter$} {bar} {indent}{}", "", paint(code, &marks));
        }
        if let Some(s) = &d.second {
            let _ = writeln!(out, "{:gutter$}{} {}:{}:{}", "", paint("1;34", ":::"), s.file, s.line, s.column);
            let (line, indent, _) = underlined(&s.snippet, s.column, 1);
            let _ = writeln!(out, "{} {bar} {line}", paint("1;34", &format!("{:>gutter$}", s.line)));
            let _ = writeln!(out, "{:gutter$} {bar} {indent}{} {}", "", paint("1;34", "-"), s.message);
        }
        if let Some(s) = &d.suggestion {
            let _ = writeln!(out, "{:gutter$} {} did you mean `{s}`?", "", paint("1;34", "="));
        }
        if let Some(h) = &d.hint {
            let _ = writeln!(out, "{:gutter$} {} help: {h}", "", paint("1;34", "="));
        }
        out.push('\n');
    }
    out
}

/// Control characters as the signs that stand for them, so that no terminal obeys them.
fn visible(text: &str) -> String {
    text.chars().map(picture).collect()
}

fn picture(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or(c),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        c => c,
    }
}

/// Characters of a line that are shown, and how many of them before the place: more is cut off.
const SHOWN: usize = 180;
const SHOWN_BEFORE: usize = 80;

/// A line as it is shown, the blanks before the marks, and the marks, as wide as a terminal shows the text above them.
fn underlined(line: &str, column: usize, length: usize) -> (String, String, String) {
    let line = line.trim_end_matches('\r');
    let all = line.chars().count();
    let from = if all > SHOWN { (column - 1).saturating_sub(SHOWN_BEFORE).min(all - SHOWN) } else { 0 };
    let (mut shown, mut before, mut under) = (String::new(), 0, 0);
    if from > 0 {
        shown.push('…');
        before += 1;
    }
    let marked = line.trim_end().chars().count().min((column - 1).saturating_add(length));
    for (i, c) in line.chars().enumerate().skip(from).take(SHOWN) {
        let c = if c == '\t' { c } else { picture(c) };
        let width = if c == '\t' { 4 } else { unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) };
        match c {
            '\t' => shown.push_str("    "),
            c => shown.push(c),
        }
        if i + 1 < column {
            before += width;
        } else if i < marked {
            under += width;
        }
    }
    if from + SHOWN < all {
        shown.push('…');
    }
    (shown, " ".repeat(before), "^".repeat(under.max(1)))
}

/// `2 errors, 1 warning`; empty when there is nothing.
pub fn tally(diagnostics: &[Diagnostic]) -> String {
    let count = |s: Severity| diagnostics.iter().filter(|d| d.severity == s).count();
    let part = |s: Severity| match count(s) {
        0 => None,
        1 => Some(format!("1 {}", word(s))),
        n => Some(format!("{n} {}s", word(s))),
    };
    [Severity::Error, Severity::Warning, Severity::Note].into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
}
