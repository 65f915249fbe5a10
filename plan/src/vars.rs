//! `${NAME}`, `${NAME:-default}`, `${file:path}` and `$${` in scalar values.

use crate::confine::Confine;
use crate::diagnostic::Found;
use crate::scalar::Piece;
use crate::source::Span;
use millrace_sdk::config::Secret;
use millrace_sdk::problem::did_you_mean;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

/// Stands for what is not set where nothing of the outside is asked: looks like a server, as that is what topologies leave open.
pub const PLACEHOLDER: &str = "localhost:1";

/// Longest file that `${file:…}` reads, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where variables come from: `--set` first, then the environment, or what stands in its place.
pub struct Vars {
    pub set: BTreeMap<String, String>,
    pub base_dir: PathBuf,
    /// Parameters of the fragment that is being used: these go first. None: no text, but a list, a map or nothing.
    pub locals: BTreeMap<String, Option<String>>,
    instead: Option<BTreeMap<String, Secret>>,
    confine: Option<Confine>,
    /// A variable without a value and a default is [`PLACEHOLDER`].
    pub placeholders: bool,
    used: BTreeSet<String>,
}

impl Vars {
    pub fn new(set: BTreeMap<String, String>, base_dir: PathBuf) -> Vars {
        Vars { set, base_dir, locals: BTreeMap::new(), instead: None, confine: None, placeholders: false, used: BTreeSet::new() }
    }

    /// The environment is not asked, but this.
    pub fn instead(self, variables: Option<BTreeMap<String, Secret>>) -> Vars {
        Vars { instead: variables, ..self }
    }

    /// Only these files are read.
    pub fn confined(self, confine: Option<Confine>) -> Vars {
        Vars { confine, ..self }
    }

    /// Variables that were set and that no text mentions.
    pub fn unused(&self) -> Vec<&str> {
        self.set.keys().map(String::as_str).filter(|n| !self.used.contains(*n)).collect()
    }

    /// Names that texts mention.
    pub fn mentioned(&self) -> impl Iterator<Item = &str> {
        self.used.iter().map(String::as_str)
    }

    /// The text with its variables replaced, and where that happened; or problems with their places in the text.
    #[allow(clippy::type_complexity)]
    pub(crate) fn replace(&mut self, text: &str) -> Result<(String, Vec<Piece>), Vec<(Range<usize>, Found)>> {
        let (mut out, mut pieces, mut problems) = (String::with_capacity(text.len()), vec![], vec![]);
        let mut rest = 0;
        while let Some(dollar) = text[rest..].find("${").map(|i| rest + i) {
            let escaped = dollar > rest && text.as_bytes()[dollar - 1] == b'$';
            out.push_str(&text[rest..dollar]);
            if escaped {
                out.push('{');
                pieces.push(Piece { new: out.len() - 1..out.len(), old: dollar..dollar + 2 });
                rest = dollar + 2;
                continue;
            }
            let Some(close) = text[dollar..].find('}').map(|i| dollar + i) else {
                problems.push((
                    dollar..text.len(),
                    Found::error("bad-variable", Span::default(), "`${` without its `}`").hint("write `$${` for the text itself"),
                ));
                return Err(problems);
            };
            match self.value(&text[dollar + 2..close]) {
                Ok(value) => {
                    let start = out.len();
                    out.push_str(&value);
                    pieces.push(Piece { new: start..out.len(), old: dollar..close + 1 });
                }
                Err(found) => problems.push((dollar..close + 1, found)),
            }
            rest = close + 1;
        }
        out.push_str(&text[rest..]);
        if problems.is_empty() { Ok((out, pieces)) } else { Err(problems) }
    }

    fn value(&mut self, inner: &str) -> Result<String, Found> {
        let error = |id, message: String| Found::error(id, Span::default(), message);
        if let Some(path) = inner.strip_prefix("file:") {
            let full = self.base_dir.join(path.trim());
            if let Some(Err(why)) = self.confine.as_ref().map(|c| c.path(&self.base_dir, path.trim())) {
                return Err(error("not-allowed", why));
            }
            let unreadable = |why: String| error("missing-file", format!("cannot read `{}`: {why}", path.trim()));
            let size = std::fs::metadata(&full).map_err(|e| unreadable(e.to_string()))?;
            if !size.is_file() || size.len() > MAX_FILE {
                return Err(unreadable(format!("a file of at most {MAX_FILE} bytes is expected")));
            }
            let text = std::fs::read_to_string(&full).map_err(|e| unreadable(e.to_string()))?;
            return Ok(text.strip_suffix('\n').map_or(&text[..], |t| t.strip_suffix('\r').unwrap_or(t)).to_string());
        }
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(n, d)| (n, Some(d)));
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            return Err(error("bad-variable", format!("`{name}` is no variable's name")).hint("write `$${` for the text itself"));
        }
        match self.locals.get(name) {
            Some(Some(v)) => return Ok(v.clone()),
            Some(None) => {
                let found = error("wrong-type", format!("the value of the parameter `{name}` is no text: it cannot stand within one"));
                return Err(found.hint(format!("give it a text, or let `${{{name}}}` stand alone")));
            }
            None => {}
        }
        self.used.insert(name.to_string());
        if let Some(v) = self.set.get(name) {
            return Ok(v.clone());
        }
        let outside = match &self.instead {
            Some(all) => all.get(name).map(|v| v.0.clone()),
            None => std::env::var(name).ok(),
        };
        if let Some(v) = outside {
            return Ok(v);
        }
        match default {
            Some(d) => Ok(d.to_string()),
            None if self.placeholders => Ok(PLACEHOLDER.into()),
            None => Err(error("missing-variable", format!("the variable `{name}` is not set"))
                .suggest({
                    let names = self.locals.keys().chain(self.set.keys()).chain(self.instead.iter().flat_map(BTreeMap::keys));
                    did_you_mean(name, names.map(String::as_str)).map(|n| format!("${{{n}}}"))
                })
                .hint(format!("set it in the environment or by --set {name}=…, or write a default: ${{{name}:-…}}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces() {
        let mut v = Vars::new([("A".to_string(), "x".to_string())].into(), ".".into());
        assert_eq!(v.replace("p${A}q").unwrap(), ("pxq".into(), vec![Piece { new: 1..2, old: 1..5 }]));
        assert_eq!(v.replace("${NOT_SET_ANYWHERE:-4}").unwrap().0, "4");
        assert_eq!(v.replace("${NOT_SET_ANYWHERE:-}").unwrap().0, "");
        assert_eq!(v.replace("$${A}").unwrap().0, "${A}");
        assert_eq!(v.replace("a$b{}").unwrap().0, "a$b{}");
        let e = v.replace("é${NOT_SET_ANYWHERE}${A").unwrap_err();
        assert_eq!((e[0].0.clone(), e[0].1.id, e[1].1.id), (2..21, "missing-variable", "bad-variable"));
        assert_eq!(v.replace("${file:Cargo.toml}").unwrap().0.lines().next(), Some("[package]"));
        assert_eq!(v.replace("${file:no such}").unwrap_err()[0].1.id, "missing-file");
    }
}
