//! `include`: other files whose fragments, defaults, stores, streams and settings a topology has too.

use super::{child, entries_mut, is_map, take};
use crate::check::list;
use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::topology::first_line;
use crate::vars::Vars;
use crate::yaml::{self, Content, Entry, Node, snake_case};
use millrace_sdk::problem::did_you_mean;
use std::path::{Component, Path, PathBuf};

/// What an included file may have.
pub(crate) const INCLUDED: &[&str] = &["include", "run_env", "defaults", "fragments", "stores", "streams"];
/// Longest included file, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Files that one topology may include, each counted once.
const MAX_FILES: usize = 1000;

/// What all files together have of the sections that are not read but used.
#[derive(Default)]
pub(super) struct Gathered {
    pub fragments: Vec<Entry>,
    /// Each file's `defaults`, the topology's own first.
    pub defaults: Vec<Node>,
    /// Nothing is missing because it could not be read.
    pub complete: bool,
}

impl Gathered {
    /// Takes the sections out of a file's tree.
    pub fn take(&mut self, root: &mut Node) {
        match take(root, "fragments").map(|e| e.value.content) {
            Some(Content::Map(entries)) => self.fragments.splice(0..0, entries).for_each(drop),
            Some(Content::Bad) => self.complete = false,
            _ => {}
        }
        self.defaults.splice(0..0, take(root, "defaults").map(|e| e.value)).for_each(drop);
    }
}

struct Includer<'a> {
    report: &'a mut Report,
    vars: &'a mut Vars,
    /// Folders from which files may be taken.
    allowed: Vec<PathBuf>,
    /// The files on the way to this one, and where each is included.
    chain: Vec<(PathBuf, Span)>,
    done: Vec<PathBuf>,
    all: &'a mut Gathered,
}

/// Takes what `include` names into the tree of the file `name`.
pub(super) fn run(report: &mut Report, root: &mut Node, vars: &mut Vars, name: &Path, include_from: &[PathBuf], all: &mut Gathered) {
    sections(report, root);
    if root.entry("include").is_none() {
        return;
    }
    let dir = vars.base_dir.clone();
    let real = |p: &Path| std::fs::canonicalize(p).unwrap_or_else(|_| p.to_path_buf());
    let allowed = std::iter::once(&dir).chain(include_from).map(|p| real(p)).collect();
    let file = dir.join(name.file_name().unwrap_or_default());
    let chain = vec![(real(&file), Span::default())];
    let shown = name.parent().unwrap_or(Path::new(""));
    Includer { report, vars, allowed, chain, done: vec![], all }.file(root, &dir, shown);
}

/// Tells sections of the wrong type.
fn sections(report: &mut Report, root: &Node) {
    if let Some(n) = root.get("fragments") {
        is_map(report, n, "`fragments`");
    }
}

impl Includer<'_> {
    /// `dir` is the folder of the file, `shown` what messages call it.
    fn file(&mut self, root: &mut Node, dir: &Path, shown: &Path) {
        let Some(mut entry) = take(root, "include") else { return };
        yaml::fill(self.report, &mut entry.value, self.vars);
        let named = match entry.value.content {
            Content::Seq(items) => items,
            Content::Null => vec![],
            Content::Bad => {
                self.all.complete = false;
                vec![]
            }
            _ => vec![entry.value],
        };
        for n in named {
            if let Some(included) = self.one(&n, dir, shown) {
                self.merge(root, included);
            } else if !n.is_bad() {
                continue;
            } else {
                self.all.complete = false;
            }
        }
    }

    fn outside(&mut self, node: &Node, text: &str) -> Option<Node> {
        let found = Found::error("include-outside", node.span, format!("`{text}` lies outside the topology's folder"));
        self.fail(found.hint("allow its folder: `--include-from DIR`"));
        None
    }

    /// Reads a file and what it includes itself. None: it was told why not, or the file was included before.
    fn one(&mut self, node: &Node, dir: &Path, shown: &Path) -> Option<Node> {
        let Some(text) = node.text() else {
            if !node.is_bad() {
                let span = first_line(self.report, node.span);
                self.fail(Found::error("wrong-type", span, format!("`include` takes paths of files, found {}", node.kind())));
            }
            return None;
        };
        let (file, shown) = (dir.join(text), clean(&shown.join(text)));
        let path = match std::fs::canonicalize(&file) {
            Ok(p) => p,
            // What is there and what is not outside is nobody's business.
            Err(_) if !self.allowed.iter().any(|dir| there(&file).starts_with(dir)) => return self.outside(node, text),
            Err(e) => {
                let found = Found::error("missing-file", node.span, format!("cannot read `{text}`: {e}"));
                self.fail(found.suggest(near(&file, text)).hint("paths begin at the folder of the file that includes"));
                return None;
            }
        };
        if !self.allowed.iter().any(|dir| path.starts_with(dir)) {
            return self.outside(node, text);
        }
        if let Some(at) = self.chain.iter().position(|(p, _)| *p == path) {
            let found = Found::error("include-cycle", node.span, format!("`{text}` is being included already"));
            let first = self.chain[at].1;
            let found =
                if first == Span::default() { found.hint("it is the topology itself") } else { found.second(first, "first included here") };
            self.fail(found);
            return None;
        }
        if self.done.contains(&path) {
            return None;
        }
        let read = std::fs::metadata(&path).map_err(|e| e.to_string()).and_then(|m| match m.is_file() && m.len() <= MAX_FILE {
            true => std::fs::read_to_string(&path).map_err(|e| e.to_string()),
            false => Err(format!("a file of at most {MAX_FILE} bytes is expected")),
        });
        let text = match read {
            Ok(_) if self.done.len() >= MAX_FILES => {
                self.fail(Found::error("out-of-range", node.span, format!("more than {MAX_FILES} files are included")));
                return None;
            }
            Ok(t) => t,
            Err(e) => {
                self.fail(Found::error("missing-file", node.span, format!("cannot read `{text}`: {e}")));
                return None;
            }
        };
        self.done.push(path.clone());
        let src = self.report.sources.add(shown.display().to_string(), text.strip_prefix('\u{feff}').unwrap_or(&text));
        let mut root = yaml::compose(self.report, src);
        if root.is_bad() || !is_map(self.report, &root, "an included file") {
            self.all.complete = false;
            return None;
        }
        sections(self.report, &root);
        self.chain.push((path, node.span));
        let folder = |p: &Path| p.parent().map(Path::to_path_buf).unwrap_or_default();
        self.file(&mut root, &folder(&file), &folder(&shown));
        self.chain.pop();
        Some(root)
    }

    fn fail(&mut self, found: Found) {
        self.all.complete = false;
        self.report.push(found);
    }

    /// Puts a file's sections into the tree of the one that includes it; what stands there itself goes first.
    fn merge(&mut self, root: &mut Node, mut included: Node) {
        if let Some(n) = take(&mut included, "fragments")
            && let Content::Map(entries) = n.value.content
        {
            self.all.fragments.extend(entries);
        }
        self.all.defaults.extend(take(&mut included, "defaults").map(|e| e.value));
        let Content::Map(entries) = included.content else { return };
        for e in entries {
            let key = snake_case(&e.key);
            if !INCLUDED.contains(&&*key) {
                let found = Found::error("bad-include", e.key_span, format!("an included file cannot have `{}`", e.key));
                let near = did_you_mean(&e.key, INCLUDED.iter().copied());
                self.report.push(
                    found.suggest(near).hint(format!("it may have {}; parts that several topologies share are a fragment", list(INCLUDED))),
                );
                continue;
            }
            let overrides = key == "run_env";
            match child(root, &key) {
                Some(own) if matches!(own.content, Content::Null) => *own = e.value,
                Some(own) => {
                    let Content::Map(theirs) = e.value.content else { continue };
                    let Some(own) = entries_mut(own) else { continue };
                    for t in theirs {
                        match own.iter().find(|o| o.key == t.key || snake_case(&o.key) == snake_case(&t.key)) {
                            Some(_) if overrides => {}
                            Some(o) => {
                                let found = Found::error("duplicate-name", o.key_span, format!("the name `{}` is taken", t.key));
                                self.report.push(found.second(t.key_span, "included from here"));
                            }
                            None => own.push(t),
                        }
                    }
                }
                None => entries_mut(root)
                    .into_iter()
                    .for_each(|own| own.push(Entry { key: e.key.clone(), key_span: e.key_span, value: e.value.clone() })),
            }
        }
    }
}

/// Without `.` and, where a folder stands before it, `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// The path of a file beside, if one is called much the same.
fn near(path: &Path, written: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(path.parent()?).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    let near = did_you_mean(name, names.iter().map(String::as_str))?;
    Some(format!("{}{near}", written.strip_suffix(name)?))
}

/// The nearest folder above a path that is there, without links.
fn there(path: &Path) -> PathBuf {
    path.ancestors().skip(1).find_map(|p| std::fs::canonicalize(p).ok()).unwrap_or_default()
}
