//! Which files a path means, and which of them are rotations of one another.

use crate::reach;
use millrace_sdk::Fault;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Characters that make a path a pattern.
pub fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// A path as the topology means it.
pub fn absolute(base: &Path, path: &str) -> PathBuf {
    base.join(path.strip_prefix("./").unwrap_or(path))
}

/// The deepest folder of a path or pattern that has no pattern characters.
pub fn fixed_folder(path: &Path) -> PathBuf {
    let mut dir = PathBuf::new();
    let parts: Vec<_> = path.components().collect();
    for part in &parts[..parts.len().saturating_sub(1)] {
        if is_pattern(&part.as_os_str().to_string_lossy()) {
            break;
        }
        dir.push(part);
    }
    if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir }
}

/// The regular files that a path or pattern means now, sorted; none outside of what the process may read.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let text = path.to_string_lossy();
    if !is_pattern(&text) {
        return Ok(if path.is_file() && reach::allows(path) { vec![path.into()] } else { vec![] });
    }
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let found = glob::glob_with(&text, options).map_err(|e| Fault::config(format!("`{text}` is no pattern: {e}")))?;
    let mut files: Vec<PathBuf> = found.filter_map(Result::ok).filter(|p| p.is_file() && reach::allows(p)).collect();
    files.sort();
    Ok(files)
}

/// All files of several paths, sorted, each once however many names lead to it.
pub fn expand_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Fault> {
    let mut all = BTreeSet::new();
    for path in paths {
        all.extend(expand(path)?);
    }
    let mut seen = HashSet::new();
    Ok(all.into_iter().filter(|p| p.metadata().is_ok_and(|m| seen.insert((m.dev(), m.ino())))).collect())
}

fn without_compression(name: &str) -> &str {
    [".gz", ".zst", ".zstd"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name)
}

/// How old a rotation is: dated ones first, then the greatest number, last the file itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Dated(String),
    Numbered(std::cmp::Reverse<u64>),
    Itself,
}

/// Every way to read a name as a rotation of another: `app.log.2.gz`, `app.log-20240131`, `app.log.2024-01-31.1`.
fn rotations(name: &str) -> impl Iterator<Item = (&str, Age)> {
    let name = without_compression(name);
    name.char_indices().filter(|(i, c)| *i > 0 && matches!(c, '.' | '-')).filter_map(|(i, _)| {
        let suffix = &name[i + 1..];
        let stamp = suffix.starts_with(|c: char| c.is_ascii_digit())
            && suffix.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | ':' | 'T'));
        let age = match suffix.parse::<u64>() {
            Ok(n) if suffix.len() < 5 => Age::Numbered(std::cmp::Reverse(n)),
            _ => Age::Dated(suffix.into()),
        };
        stamp.then(|| (&name[..i], age))
    })
}

/// A file and those that are its rotations, oldest first. A file is a rotation only of one that is in the listing, or that
/// `known` says to be a lineage.
pub fn lineages(files: &[PathBuf], known: &dyn Fn(&Path) -> bool) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let set: HashSet<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut all: BTreeMap<PathBuf, Vec<(Age, PathBuf)>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let base = rotations(&name)
            .map(|(base, age)| (file.with_file_name(base), age))
            .find(|(base, _)| set.contains(base.as_path()) || known(base));
        let (base, age) = base.unwrap_or((file.clone(), Age::Itself));
        all.entry(base).or_default().push((age, file.clone()));
    }
    all.into_iter()
        .map(|(base, mut files)| {
            files.sort();
            (base, files.into_iter().map(|(_, f)| f).collect())
        })
        .collect()
}

/// The rotations of a file that lie beside it, oldest first, whether or not a pattern names them, then the file itself.
pub fn siblings(base: &Path) -> Vec<PathBuf> {
    let name = base.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = base.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found: Vec<(Age, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let other = entry.file_name().to_string_lossy().into_owned();
            let age = if other == name { Age::Itself } else { rotations(&other).find(|(b, _)| *b == name)?.1 };
            let path = base.with_file_name(&other);
            (path.is_file() && reach::allows(&path)).then_some((age, path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_belong_to_their_file() {
        let cases: &[(&[&str], &[(&str, &[&str])])] = &[
            (&["a.log", "a.log.1", "a.log.2.gz", "a.log.10"], &[("a.log", &["a.log.10", "a.log.2.gz", "a.log.1", "a.log"])]),
            (&["part.1", "part.2"], &[("part.1", &["part.1"]), ("part.2", &["part.2"])]),
            (&["a.log", "a.log-20240131", "a.log-20231231.zst"], &[("a.log", &["a.log-20231231.zst", "a.log-20240131", "a.log"])]),
            (&["a.log", "a.log.2024-01-31.1", "b.log"], &[("a.log", &["a.log.2024-01-31.1", "a.log"]), ("b.log", &["b.log"])]),
            (&["a", "a-b", "a.txt"], &[("a", &["a"]), ("a-b", &["a-b"]), ("a.txt", &["a.txt"])]),
        ];
        for (files, want) in cases {
            let mut files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            files.sort();
            let got = lineages(&files, &|_| false);
            let want: BTreeMap<PathBuf, Vec<PathBuf>> =
                want.iter().map(|(b, f)| (PathBuf::from(b), f.iter().map(PathBuf::from).collect())).collect();
            assert_eq!(got, want);
        }
        let alone = [PathBuf::from("a.log.1")];
        assert_eq!(lineages(&alone, &|p| p == Path::new("a.log")).keys().next().unwrap(), Path::new("a.log"));
    }

    #[test]
    fn patterns_and_links() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.log", "a.log", ".hidden.log", "c.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("a.log"), dir.path().join("z.log")).unwrap();
        std::fs::create_dir(dir.path().join("d.log")).unwrap();
        let names = |p: &[&str]| -> Vec<String> {
            let paths: Vec<_> = p.iter().map(|p| absolute(dir.path(), p)).collect();
            expand_all(&paths).unwrap().iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&["*.log"]), ["a.log", "b.log"]);
        assert_eq!(names(&["./c.txt", "*.log", "a.*"]), ["a.log", "b.log", "c.txt"]);
        assert_eq!(names(&["none*"]), Vec::<String>::new());
        assert!(expand(Path::new("a[")).is_err());
        assert_eq!(fixed_folder(Path::new("/x/y*/z/*.log")), Path::new("/x"));
        assert_eq!(fixed_folder(Path::new("a.log")), Path::new("."));
    }
}
