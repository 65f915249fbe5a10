//! Names of files that a sink writes: `out/%Y-%m-%d/part-{worker}-{part}.jsonl`.

use super::listing::absolute;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

/// A path with its placeholders.
#[derive(Clone, Debug)]
pub struct Naming {
    /// With `{part}` in it where the sink rolls.
    text: String,
    base: PathBuf,
    zone: TimeZone,
}

impl Naming {
    /// # Errors
    /// A sentence: an unknown placeholder, a time part that does not exist, an unknown time zone.
    pub fn new(text: &str, base: &Path, time_zone: &str, rolls: bool) -> Result<Naming, String> {
        let mut rest = text;
        while let Some(i) = rest.find('{') {
            let name = rest[i + 1..].split('}').next().unwrap_or_default();
            if !matches!(name, "worker" | "part") {
                return Err(format!("unknown placeholder `{{{name}}}`: there are `{{worker}}`, `{{part}}` and time parts like `%Y`"));
            }
            if name == "part" && !rolls {
                return Err("`{part}` is for files that roll: set `roll`".into());
            }
            rest = &rest[i + 1..];
        }
        let mut text = text.to_string();
        if rolls && !text.contains("{part}") {
            let name = text.rfind('/').map_or(0, |i| i + 1);
            let dot = text[name..].find('.').filter(|i| *i > 0).map_or(text.len(), |i| name + i);
            text.insert_str(dot, "-{part}");
        }
        let zone = TimeZone::get(time_zone).map_err(|e| e.to_string())?;
        let naming = Naming { text, base: base.into(), zone };
        if naming.timed() {
            jiff::fmt::strtime::format(&naming.text, &Timestamp::UNIX_EPOCH.to_zoned(naming.zone.clone()))
                .map_err(|e| format!("`{}` has a wrong time part: {e}", naming.text))?;
        }
        Ok(naming)
    }

    /// Whether the path has time parts.
    pub fn timed(&self) -> bool {
        self.text.contains('%')
    }

    /// Whether every worker has a file of its own.
    pub fn per_worker(&self) -> bool {
        self.text.contains("{worker}")
    }

    /// The path at a time (microseconds since 1970) without its part.
    pub fn stem(&self, worker: usize, now: i64) -> String {
        let text = self.text.replace("{worker}", &worker.to_string());
        if !self.timed() {
            return text;
        }
        let time = Timestamp::from_microsecond(now).unwrap_or_default().to_zoned(self.zone.clone());
        jiff::fmt::strtime::format(&text, &time).unwrap_or(text)
    }

    /// The innermost folder that is the same for every worker, part and time.
    pub fn root(&self) -> PathBuf {
        let fixed = &self.text[..self.text.find(['{', '%']).unwrap_or(self.text.len())];
        absolute(&self.base, &fixed[..fixed.rfind('/').map_or(0, |i| i + 1)])
    }

    pub fn path(&self, stem: &str, part: u64) -> PathBuf {
        absolute(&self.base, &stem.replace("{part}", &format!("{part:05}")))
    }

    /// The parts that are there, in order.
    pub fn parts(&self, stem: &str) -> Vec<(u64, PathBuf)> {
        let path = absolute(&self.base, stem);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((before, after)) = name.split_once("{part}") else {
            return if path.exists() { vec![(0, path)] } else { vec![] };
        };
        let entries = std::fs::read_dir(path.parent().unwrap_or(Path::new("."))).into_iter().flatten().filter_map(Result::ok);
        let mut parts: Vec<(u64, PathBuf)> = entries
            .filter_map(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                let digits = name.strip_prefix(before)?.strip_suffix(after)?;
                let part = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
                Some((part, path.with_file_name(&name)))
            })
            .collect();
        parts.sort();
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases: &[(&str, bool, &str)] = &[
            ("out/a.jsonl", false, "/b/out/a.jsonl"),
            ("./out/a.jsonl", true, "/b/out/a-00007.jsonl"),
            ("out.d/a", true, "/b/out.d/a-00007"),
            ("a.csv.gz", true, "/b/a-00007.csv.gz"),
            ("{part}.log", true, "/b/00007.log"),
            ("/x/%Y-%m-%d/%H/w{worker}.log", false, "/x/2024-02-29/08/w3.log"),
            ("100%%.log", false, "/b/100%.log"),
        ];
        for (text, rolls, want) in cases {
            let naming = Naming::new(text, Path::new("/b"), "Asia/Shanghai", *rolls).unwrap();
            let stem = naming.stem(3, 1_709_164_800_000_000);
            assert_eq!(naming.path(&stem, 7), Path::new(want));
        }
        for (text, zone, want) in [
            ("{wroker}", "UTC", "unknown placeholder `{wroker}`"),
            ("{part}", "UTC", "`{part}` is for files that roll"),
            ("%!", "UTC", "has a wrong time part"),
            ("a", "Asia/Nowhere", "Nowhere"),
        ] {
            let e = Naming::new(text, Path::new("/b"), zone, false).unwrap_err();
            assert!(e.contains(want), "{e}");
        }
    }

    #[test]
    fn parts_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a-00002.log", "a-00010.log", "a-x.log", "b-00001.log", "a-00003.log.gz"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let naming = Naming::new("a.log", dir.path(), "UTC", true).unwrap();
        let parts: Vec<u64> = naming.parts(&naming.stem(0, 0)).into_iter().map(|(p, _)| p).collect();
        assert_eq!(parts, [2, 10]);
    }
}
