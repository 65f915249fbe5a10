//! Regular expressions and grok.

use super::line::Line;
use super::linear::Linear;
use super::{FormatError, Piece, Pieces, TextError, TextField};
use millrace_sdk::Type;
use millrace_sdk::problem::did_you_mean;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Regex {
    regex: regex::Regex,
    /// The same pattern with classes of ASCII only, which are much smaller automata. On a line of ASCII both match the same:
    /// `\d`, `\w`, `\s`, `\b`, `.` and negated classes differ in what they say of other characters alone. None: the pattern
    /// has no such form (`\p{Greek}`).
    ascii: Option<regex::bytes::Regex>,
    /// The quickest way for lines of ASCII, where the pattern has that form.
    linear: Option<Linear>,
    /// The group of each field.
    groups: Vec<usize>,
}

impl Regex {
    pub fn new(pattern: &str) -> Result<(Regex, Vec<String>), FormatError> {
        let regex = regex::Regex::new(pattern).map_err(|e| match millrace_sdk::pattern::regex_fault(pattern) {
            Some((range, why)) => FormatError::at("pattern", range, format!("invalid regular expression: {why}")),
            None => FormatError::new("pattern", format!("invalid regular expression: {e}")),
        })?;
        let ascii = regex::bytes::RegexBuilder::new(pattern).unicode(false).build().ok();
        let linear = ascii.as_ref().and_then(|_| Linear::new(pattern));
        let (groups, names): (Vec<_>, Vec<_>) =
            regex.capture_names().enumerate().filter_map(|(i, n)| n.map(|n| (i, n.to_string()))).unzip();
        if names.is_empty() {
            return Err(FormatError::new("pattern", "the regular expression has no named group: write one as `(?P<name>...)`"));
        }
        Ok((Regex { regex, ascii, linear, groups }, names))
    }

    #[inline]
    pub fn split(&self, line: Line<'_>, out: &mut Pieces) -> Result<(), TextError> {
        let piece = |group: Option<(usize, usize)>| group.map_or(Piece::Missing, |(start, end)| Piece::here(start..end));
        let is_ascii = line.is_ascii();
        let matched = match (&self.linear, &self.ascii) {
            (Some(linear), _) if is_ascii => {
                let matched = linear.matches(line, &mut out.slots);
                if matched {
                    let piece = |g: usize| match out.slots[2 * g + 1] {
                        u32::MAX => Piece::Missing,
                        end => Piece::Here { start: out.slots[2 * g], end },
                    };
                    out.values.extend(self.groups.iter().map(|&g| piece(g)));
                }
                matched
            }
            (_, Some(regex)) if is_ascii => {
                let groups = out.ascii_groups.get_or_insert_with(|| regex.capture_locations());
                let matched = regex.captures_read(groups, line.str().as_bytes()).is_some();
                if matched {
                    out.values.extend(self.groups.iter().map(|&g| piece(groups.get(g))));
                }
                matched
            }
            _ => {
                let groups = out.groups.get_or_insert_with(|| self.regex.capture_locations());
                let matched = self.regex.captures_read(groups, line.str()).is_some();
                if matched {
                    out.values.extend(self.groups.iter().map(|&g| piece(groups.get(g))));
                }
                matched
            }
        };
        match matched {
            true => Ok(()),
            false => Err(TextError { reason: "no-match", message: "the regular expression does not match".into() }),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Grok {
    pattern: Arc<grok::Pattern>,
}

/// How deep patterns may use each other.
const MAX_NESTING: usize = 64;

impl Grok {
    pub fn new(pattern: &str, own: &BTreeMap<String, String>) -> Result<(Grok, Vec<TextField>), FormatError> {
        let mut library = grok::Grok::with_default_patterns();
        for (name, definition) in own {
            library.add_pattern(name.as_str(), definition.as_str());
        }
        let mut faults = check_uses("pattern", pattern, own);
        for (name, definition) in own {
            faults.extend(check_uses("patterns", definition, own).into_iter().map(|e| FormatError { entry: Some(name.clone()), ..e }));
        }
        if let Some(e) = FormatError::all(faults) {
            return Err(e);
        }
        let compiled = library.compile(pattern, true).map_err(|e| FormatError::new("pattern", format!("invalid grok pattern: {e}")))?;
        let mut order = vec![];
        names_in_order(pattern, own, 0, &mut order);
        let mut fields = vec![];
        let mut names: Vec<&str> = compiled.capture_names().collect();
        names.sort_by_key(|n| order.iter().position(|o| o == n).unwrap_or(usize::MAX));
        for name in names {
            let ty = match compiled.get_extract(name) {
                None | Some("string") => None,
                Some("int" | "integer" | "long") => Some(Type::Bigint),
                Some("float" | "double") => Some(Type::Double),
                Some("boolean" | "bool") => Some(Type::Boolean),
                // Told already where it is written in the pattern.
                Some(other) => return Err(FormatError::new("pattern", format!("field `{name}` has the unknown type `{other}`"))),
            };
            fields.push(TextField { name: name.into(), ty });
        }
        if fields.is_empty() {
            return Err(FormatError::new("pattern", "no part of the pattern has a name: write one as `%{PATTERN:name}`"));
        }
        Ok((Grok { pattern: Arc::new(compiled) }, fields))
    }

    pub fn split(&self, line: &str, fields: &[TextField], out: &mut Pieces) -> Result<(), TextError> {
        let Some(found) = self.pattern.match_against(line) else {
            return Err(TextError { reason: "no-match", message: "the grok pattern does not match".into() });
        };
        out.values.extend(fields.iter().map(|f| match found.get(&f.name) {
            Some(text) => {
                let start = text.as_ptr() as usize - line.as_ptr() as usize;
                Piece::here(start..start + text.len())
            }
            None => Piece::Missing,
        }));
        Ok(())
    }
}

/// Types that a grok pattern can say.
const TYPES: [&str; 9] = ["int", "integer", "long", "float", "double", "string", "boolean", "bool", ""];

/// The library's own words for what is wrong have no place: uses of patterns and types that there are not, and braces that are not closed, are
/// found here.
fn check_uses(key: &'static str, pattern: &str, own: &BTreeMap<String, String>) -> Vec<FormatError> {
    let mut found = vec![];
    let mut from = 0;
    while let Some(start) = pattern[from..].find("%{").map(|i| from + i) {
        let Some(end) = pattern[start..].find('}').map(|i| start + i) else {
            found.push(FormatError::at(key, start..pattern.len(), "`%{` has no `}`"));
            break;
        };
        from = end;
        let inside = &pattern[start + 2..end];
        if inside.contains('=') {
            continue;
        }
        let mut words = inside.splitn(3, ':');
        let name = words.next().unwrap_or("");
        let known = || grok::patterns().iter().map(|(n, _)| *n).chain(own.keys().map(String::as_str));
        if !known().any(|n| n == name) {
            let place = start + 2..start + 2 + name.len();
            let fault = FormatError::at(key, place, format!("no pattern is called `{name}`"));
            found.push(FormatError { suggestion: did_you_mean(name, known()), ..fault });
        }
        if let (Some(field), Some(ty)) = (words.next(), words.next())
            && !TYPES.contains(&ty)
        {
            let at = end - ty.len();
            let fault = FormatError::at(key, at..end, format!("field `{field}` has the unknown type `{ty}`: int, float, string, boolean"));
            found.push(FormatError { suggestion: did_you_mean(ty, TYPES.into_iter().filter(|t| !t.is_empty())), ..fault });
        }
    }
    found
}

/// The names that a pattern gives, in the order in which they are written.
fn names_in_order(pattern: &str, own: &BTreeMap<String, String>, depth: usize, names: &mut Vec<String>) {
    if depth > MAX_NESTING {
        return;
    }
    for piece in pattern.split("%{").skip(1) {
        let inside = piece.split('}').next().unwrap_or("");
        let (inside, definition) = inside.split_once('=').map_or((inside, None), |(i, d)| (i, Some(d)));
        let mut parts = inside.split(':');
        let name = parts.next().unwrap_or("");
        if let Some(alias) = parts.next().filter(|a| !a.is_empty()) {
            names.push(alias.to_string());
        }
        let library = || grok::patterns().iter().find(|(n, _)| *n == name).map(|(_, d)| *d);
        if let Some(definition) = definition.or_else(|| own.get(name).map(|s| s.as_str())).or_else(library) {
            names_in_order(definition, own, depth + 1, names);
        }
    }
}
