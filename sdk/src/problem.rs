//! A problem in a topology, as the part that found it tells it. The planner knows the file and turns places into lines and columns.

use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// A step down a config tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(s: &str) -> Step {
        Step::Key(s.into())
    }
}
impl From<usize> for Step {
    fn from(i: usize) -> Step {
        Step::Index(i)
    }
}

/// A place in a part's `config`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// From the part's `config` down; empty: the config itself.
    pub path: Vec<Step>,
    /// The key, not its value.
    pub key: bool,
    /// Bytes within the scalar's text: where in an expression, a template, a regex.
    pub range: Option<Range<usize>>,
    /// The store in whose `config` it lies, as `stores:` names it. None: the part's own.
    pub store: Option<String>,
}

impl Place {
    /// `Place::at(["fields", "cents", "expr"])`.
    pub fn at<S: Into<Step>>(path: impl IntoIterator<Item = S>) -> Place {
        Place { path: path.into_iter().map(Into::into).collect(), key: false, range: None, store: None }
    }

    /// The same place, a step further down.
    pub fn then(mut self, step: impl Into<Step>) -> Place {
        self.path.push(step.into());
        self
    }

    pub fn key(mut self) -> Place {
        self.key = true;
        self
    }

    pub fn range(mut self, range: Range<usize>) -> Place {
        self.range = Some(range);
        self
    }

    /// The same place in the config of a store.
    pub fn of_store(mut self, name: impl Into<String>) -> Place {
        self.store = Some(name.into());
        self
    }
}

/// What lint prints. Ids are stable and kebab-case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub id: &'static str,
    pub severity: Severity,
    pub place: Place,
    /// A lowercase sentence without full stop: "unknown field `prise`".
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the text at the place should probably be: "did you mean `price`?".
    pub suggestion: Option<String>,
}

impl Problem {
    pub fn error(id: &'static str, place: Place, message: impl Into<String>) -> Problem {
        Problem { id, severity: Severity::Error, place, message: message.into(), hint: None, suggestion: None }
    }
    pub fn warning(id: &'static str, place: Place, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Self::error(id, place, message) }
    }
    pub fn note(id: &'static str, place: Place, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Note, ..Self::error(id, place, message) }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Problem {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// The same problem, found in a part of the config that lies under `prefix`.
    pub fn under(mut self, prefix: &Place) -> Problem {
        let mut path = prefix.path.clone();
        path.append(&mut self.place.path);
        self.place.path = path;
        self
    }
}

/// The name nearest to `word`, if one is near enough to have been meant (Damerau-Levenshtein, at most a third of its length); else the one
/// name that begins with it.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.into_iter().collect();
    nearest(word, names.iter().copied()).or_else(|| {
        let lower = word.to_lowercase();
        let mut longer: Vec<&str> = names.into_iter().filter(|n| n.to_lowercase().starts_with(&lower)).collect();
        longer.sort_unstable();
        longer.dedup();
        match longer[..] {
            [one] if word.chars().count() >= PREFIX && one != word => Some(one.to_string()),
            _ => None,
        }
    })
}

/// Characters that must be there for the beginning of a name to be taken for it.
const PREFIX: usize = 4;

fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = |n: &str| {
        let (a, b) = (word.to_lowercase(), n.to_lowercase());
        (a != b || word != n).then(|| distance(&a, &b))
    };
    names
        .into_iter()
        .filter_map(|n| near(n).map(|d| (d, n)))
        .filter(|(d, n)| {
            let longest = n.chars().count().max(word.chars().count());
            *d <= (longest / 3).max(1) && *d < longest
        })
        // Of names as near, the one with the same letters: two of them were swapped.
        .min_by_key(|(d, n)| (*d, letters(n) != letters(word), n.len()))
        .map(|(_, n)| n.to_string())
}

fn letters(word: &str) -> Vec<char> {
    let mut all: Vec<char> = word.to_lowercase().chars().collect();
    all.sort_unstable();
    all
}

/// Whether just one of the names is close to a word: the one that [`did_you_mean`] gives.
pub fn one_close_name<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> bool {
    let lower = word.to_lowercase();
    let close = |n: &&str| {
        let d = distance(&lower, &n.to_lowercase());
        d <= (n.chars().count().max(word.chars().count()) / 3).clamp(1, 2)
    };
    let mut all: Vec<&str> = names.into_iter().filter(close).collect();
    all.sort_unstable();
    all.dedup();
    all.len() == 1
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut d = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                d = d.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = d;
        }
    }
    rows[a.len()][b.len()]
}
