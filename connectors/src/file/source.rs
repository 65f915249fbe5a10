//! The source `File`.

use super::Compression;
use super::csv::Dialect;
use super::input::Mark;
use super::lineage::Lineage;
use super::listing;
use super::reading::cannot_read;
use crate::charset::Charset;
use millrace_sdk::config::{Duration, OneOrMany, Ordered, PathText, TypeText};
use millrace_sdk::operator::Env;
use millrace_sdk::source::{Discovery, Pull};
use millrace_sdk::{
    Bind, Demand, Fault, Field, Meta, Part, PartitionInfo, Place, Poll, Position, Problem, Schema, SchemaRef, Source, SourceContext,
    SourceFactory, SourceSpec, Type, inventory,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Reads files: once from beginning to end, or for ever as they are written.
///
/// Every record is a row with the field `_value`, its bytes without the line end. `_path` and `_offset` (the byte at which the
/// record begins, counted after decompression) can be read by name. Invalid UTF-8 passes: the parser that comes next rejects it.
///
/// - `lines`: a record is what lies between line feeds; a carriage return before the line feed belongs to the line end. Empty
///   lines are records. A byte order mark at the start of a file is skipped.
/// - `json`: the same, for one JSON document a line; empty lines are no records.
/// - `csv`: fields may be quoted and then hold delimiters, line breaks and doubled quotes (RFC 4180). The row has the columns of
///   `fields`, or else all columns of the header as strings. An empty field is null unless its type is string; an empty line is no
///   record. A row with more or fewer fields than the header is rejected as `wrong-field-count`.
///
/// A record longer than the job's `max_record` is never held: it is rejected as `record-too-long` with its first 64 KiB, full
/// length and hash, and reading goes on behind it. A compressed file that is cut off or damaged is read as far as it goes; then the
/// piece of a record that is left is rejected as `damaged-file`, saying where, and the other files go on.
///
/// **Bounded** (the default) reads the files that are there at the start. Bytes behind the last line feed are a record too.
/// Rotations of a file (`app.log.2.gz`, `app.log.1`, `app.log-20240131`) that the path names together with the file itself are
/// read before it, oldest first, and are one partition with it; every other file is a partition of its own.
///
/// **Follow** goes on reading what is appended, and takes up new files that match. A file is known by its device, its inode and
/// the hash of its first KiB, so that it may be renamed: a rotated file is read to its end, and when nothing was added to it for
/// `rotate_wait`, its successor is next. A file emptied in place (copytruncate) is read from its start again, after what is left
/// in its copy, if that lies beside it. Half a line waits until it is whole or the file has a successor. Compressed files are read
/// once, to their end.
///
/// Positions are a file's identity and a byte offset, so a restart goes on where it stopped, also in files renamed since.
///
/// # Example
/// ```yaml
/// streams:
///   system:
///     config:
///       source: {type: File, config: {path: /proc/sys/kernel/ostype}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"_value":"Linux"}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// A path, a pattern (`*` and `?` within a name, `**` across folders, `[abc]`), or a list of them. Names that begin with a dot
    /// must be written out. A file that several of them name is read once.
    path: OneOrMany<PathText>,
    /// `lines`, `json` or `csv`.
    #[serde(default)]
    format: Format,
    /// `auto` goes by the end of each file's name.
    #[serde(default)]
    compression: Compression,
    /// `bounded` or `follow`.
    #[serde(default)]
    mode: Mode,
    /// Following: where to begin in files that are there at the first start. Files that come later are read from their beginning.
    #[serde(default)]
    start: Start,
    /// Encoding of the text: `utf-8` (nothing is converted) or a name of the WHATWG Encoding Standard whose line feed is one byte:
    /// `gb18030`, `gbk`, `big5`, `shift_jis`, `windows-1252` … Records that are not in it are rejected as `invalid-encoding`.
    #[serde(default)]
    charset: Option<String>,
    /// CSV: columns and their types. With a header the order does not matter and other columns are left out; without one this is
    /// the order in the file.
    #[serde(default)]
    fields: Ordered<TypeText>,
    /// CSV: whether the first record of each file names the columns. Default true.
    #[serde(default = "yes")]
    header: bool,
    /// CSV: one ASCII character. Default `,`.
    #[serde(default)]
    delimiter: Option<String>,
    /// CSV: one ASCII character. Default `"`.
    #[serde(default)]
    quote: Option<String>,
    /// Following: how long nothing must be added to a rotated file before its successor is read. Default 2s.
    #[serde(default = "two_seconds")]
    rotate_wait: Duration,
    /// Following: how often to look for new files. Default 1s.
    #[serde(default = "one_second")]
    scan_interval: Duration,
}

inventory::submit! { Part::source::<FileSource>("File", &[]) }

fn yes() -> bool {
    true
}
fn two_seconds() -> Duration {
    Duration::secs(2)
}
fn one_second() -> Duration {
    Duration::secs(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text lines.
    #[default]
    Lines,
    /// One JSON document a line.
    Json,
    /// Delimited fields that may be quoted.
    Csv,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Read what is there, then end.
    #[default]
    Bounded,
    /// Go on reading what is appended.
    Follow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the first byte.
    #[default]
    Beginning,
    /// Behind the last byte.
    End,
}

/// What a source tells of a record on demand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    Path,
    Offset,
}

/// The columns of a CSV row.
pub enum Columns {
    Typed(Vec<(String, Type)>),
    /// All columns of the header, as one JSON object.
    Open,
}

impl Columns {
    pub fn len(&self) -> usize {
        self.names().count()
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        match self {
            Columns::Typed(columns) => columns.as_slice(),
            Columns::Open => &[],
        }
        .iter()
        .map(|(name, _)| name.as_str())
    }
}

/// The config as instances use it.
pub struct Shared {
    pub format: Format,
    pub compression: Compression,
    pub charset: Option<Charset>,
    pub dialect: Dialect,
    pub header: bool,
    /// The columns are the config's own: a file without one of them is wrong.
    pub declared: bool,
    pub columns: Columns,
    pub extras: Vec<Extra>,
    pub follow: bool,
    /// Microseconds.
    pub rotate_wait: i64,
    pub max_record: usize,
    at_end: bool,
    scan_interval: i64,
    paths: Vec<PathBuf>,
    base_dir: PathBuf,
}

impl SourceSpec for FileSource {
    fn bounded(&self) -> bool {
        self.mode == Mode::Bounded
    }

    fn replayable(&self) -> bool {
        true
    }

    fn bind(&self, bind: &Bind<'_>, demand: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let mut problems = vec![];
        let paths = self.paths(bind.env, &mut problems);
        let charset = self.charset(&mut problems);
        let dialect = Dialect {
            delimiter: character("delimiter", self.delimiter.as_deref(), b',', &mut problems),
            quote: character("quote", self.quote.as_deref(), b'"', &mut problems),
        };
        let declared = self.declared(&mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let hidden = [(Extra::Path, "_path", Type::String), (Extra::Offset, "_offset", Type::Bigint)];
        let wanted = hidden.into_iter().filter(|(_, name, _)| demand.names(name));
        let (extras, extra_fields): (Vec<Extra>, Vec<Field>) = wanted.map(|(e, name, ty)| (e, Field::hidden(name, ty))).unzip();
        let (columns, schema) = match self.format {
            Format::Csv if declared.is_empty() && demand.all => (Columns::Open, Schema::open(extra_fields)),
            Format::Csv => {
                let columns = if declared.is_empty() {
                    demand.fields.iter().filter(|f| !f.starts_with('_')).map(|f| (f.clone(), Type::String)).collect()
                } else {
                    declared.clone()
                };
                let fields = columns.iter().map(|(name, ty)| Field::new(name.as_str(), *ty)).chain(extra_fields).collect();
                (Columns::Typed(columns), Schema::new(fields))
            }
            _ => {
                let fields = std::iter::once(Field::new("_value", Type::Bytes)).chain(extra_fields).collect();
                (Columns::Typed(vec![]), Schema::new(fields))
            }
        };
        let shared = Shared {
            format: self.format,
            compression: self.compression,
            charset,
            dialect,
            header: self.header,
            declared: !declared.is_empty(),
            columns,
            extras,
            follow: self.mode == Mode::Follow,
            rotate_wait: self.rotate_wait.micros,
            max_record: bind.env.max_record,
            at_end: self.start == Start::End,
            scan_interval: self.scan_interval.micros,
            paths,
            base_dir: bind.env.base_dir.clone(),
        };
        Ok((schema.clone(), Arc::new(Factory { shared: Arc::new(shared) })))
    }
}

impl FileSource {
    /// One file from beginning to end.
    pub fn whole(path: &Path, format: Format) -> FileSource {
        FileSource {
            path: OneOrMany::One(PathText(glob::Pattern::escape(&path.to_string_lossy()))),
            format,
            compression: Compression::Auto,
            mode: Mode::Bounded,
            start: Start::Beginning,
            charset: None,
            fields: Ordered::default(),
            header: true,
            delimiter: None,
            quote: None,
            rotate_wait: two_seconds(),
            scan_interval: one_second(),
        }
    }

    fn paths(&self, env: &Env, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
        let many = matches!(self.path, OneOrMany::Many(_));
        if self.path.as_slice().is_empty() {
            problems.push(Problem::error("missing-path", Place::at(["path"]), "the list of paths is empty"));
        }
        for (i, path) in self.path.as_slice().iter().enumerate() {
            let mut place = Place::at(["path"]);
            if many {
                place = place.then(i);
            }
            if path.is_empty() {
                problems.push(Problem::error("missing-path", place, "a path must not be empty"));
            } else if listing::is_pattern(path)
                && let Err(e) = glob::Pattern::new(path)
            {
                problems.push(Problem::error("invalid-pattern", place, format!("`{}` is no pattern: {}", &**path, e.msg)));
            }
        }
        self.path.as_slice().iter().map(|p| listing::absolute(&env.base_dir, p)).collect()
    }

    fn charset(&self, problems: &mut Vec<Problem>) -> Option<Charset> {
        let label = self.charset.as_deref()?;
        match Charset::parse(label) {
            Ok(charset) if !charset.has_lines() => {
                let message = format!("charset `{label}` cannot be read: its line feed is more than one byte");
                problems.push(
                    Problem::error("unknown-charset", Place::at(["charset"]), message).hint("convert the file to UTF-8 first, with iconv"),
                );
                None
            }
            Ok(charset) => Some(charset).filter(|c| !c.is_utf8()),
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    fn declared(&self, problems: &mut Vec<Problem>) -> Vec<(String, Type)> {
        if self.format != Format::Csv {
            if !self.fields.is_empty() {
                let p = Problem::error("key-without-effect", Place::at(["fields"]).key(), "`fields` is for `format: csv`");
                problems.push(p.hint("parse lines and JSON with StringToMap"));
            }
            for (name, set) in [("delimiter", self.delimiter.is_some()), ("quote", self.quote.is_some()), ("header", !self.header)] {
                if set {
                    problems.push(Problem::error("key-without-effect", Place::at([name]).key(), format!("`{name}` is for `format: csv`")));
                }
            }
            return vec![];
        }
        if self.fields.is_empty() && !self.header {
            let p = Problem::error("missing-fields", Place::default(), "a CSV file without a header needs `fields`");
            problems.push(p.hint("name the columns in their order: `fields: {id: bigint, name: string}`"));
        }
        let mut declared = vec![];
        for (name, ty) in self.fields.iter() {
            match Type::parse(ty) {
                Some(ty) => declared.push((name.clone(), ty)),
                None => {
                    let place = Place::at(["fields"]).then(name.as_str());
                    let suggestion = millrace_sdk::problem::did_you_mean(ty, Type::NAMES.iter().copied());
                    problems.push(Problem::error("unknown-type", place, format!("unknown type `{}`", &**ty)).suggest(suggestion));
                }
            }
        }
        declared
    }
}

fn character(key: &str, text: Option<&str>, default: u8, problems: &mut Vec<Problem>) -> u8 {
    match text.map(str::as_bytes) {
        None => default,
        Some(&[c]) if c.is_ascii() && c != b'\n' && c != b'\r' => c,
        Some(_) => {
            problems.push(Problem::error("invalid-character", Place::at([key]), format!("`{key}` must be one ASCII character")));
            default
        }
    }
}

struct Factory {
    shared: Arc<Shared>,
}

impl SourceFactory for Factory {
    fn check(&self) -> Result<(), Fault> {
        for path in &self.shared.paths {
            let shown = path.display();
            let pattern = listing::is_pattern(&path.to_string_lossy());
            let folder = listing::fixed_folder(path);
            if !folder.is_dir() {
                return Err(
                    Fault::refused(format!("folder `{}` does not exist", folder.display())).hint("`path` is relative to the topology file")
                );
            }
            if path.is_dir() {
                return Err(Fault::config(format!("`{shown}` is a folder")).hint(format!("to read its files write `{shown}/*`")));
            }
            let files = listing::expand(path)?;
            if files.is_empty() && !self.shared.follow {
                let message = if pattern { format!("no file matches `{shown}`") } else { format!("file `{shown}` does not exist") };
                return Err(Fault::refused(message).hint("`path` is relative to the topology file; `mode: follow` waits for files"));
            }
            for file in files {
                std::fs::File::open(&file).map_err(|e| cannot_read(&file, &e))?;
            }
        }
        Ok(())
    }

    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Files { shared: self.shared.clone(), cx, known: HashSet::new(), lineages: HashMap::new(), scanned: None }))
    }
}

struct Files {
    shared: Arc<Shared>,
    cx: SourceContext,
    /// The lineages of all instances.
    known: HashSet<PathBuf>,
    lineages: HashMap<u32, Lineage>,
    scanned: Option<i64>,
}

impl Files {
    fn name(&self, base: &Path) -> String {
        base.strip_prefix(&self.shared.base_dir).unwrap_or(base).to_string_lossy().into_owned()
    }

    fn lineage(&mut self, partition: u32) -> Result<&mut Lineage, Fault> {
        self.lineages.get_mut(&partition).ok_or_else(|| Fault::bug(format!("unknown partition {partition}")))
    }
}

impl Source for Files {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let follow = self.shared.follow;
        let now = self.cx.clock.now();
        let first = self.scanned.is_none();
        if self.scanned.is_some_and(|t| !follow || now - t < self.shared.scan_interval) {
            return Ok(Discovery { new: vec![], complete: !follow });
        }
        self.scanned = Some(now);
        let files = listing::expand_all(&self.shared.paths)?;
        let mut new = vec![];
        for (i, (base, files)) in listing::lineages(&files, &|p| self.known.contains(p)).into_iter().enumerate() {
            if !self.known.insert(base.clone()) {
                continue;
            }
            // A file's place in the listing changes when others come and go, so following goes by its name.
            let number = if follow { xxh3_64(base.as_os_str().as_encoded_bytes()) } else { i as u64 };
            if !self.cx.assignment.mine(number) {
                continue;
            }
            let mut id = number as u32;
            while self.lineages.contains_key(&id) {
                id = id.wrapping_add(1);
            }
            let meta = Meta { partition: id, source: self.cx.source, ..Meta::default() };
            new.push(PartitionInfo { id, name: self.name(&base) });
            self.lineages.insert(id, Lineage::new(base, files, meta, follow && first && self.shared.at_end));
        }
        Ok(Discovery { new, complete: !follow })
    }

    fn seek(&mut self, partition: u32, position: &Position) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let lineage = self.lineage(partition)?;
        if position.0.is_empty() {
            return Ok(());
        }
        let mark = Mark::decode(&position.0).ok_or_else(|| Fault::refused("a saved file position is damaged"))?;
        lineage.resume(mark, &shared)
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        let (shared, now) = (self.shared.clone(), self.cx.clock.now());
        self.lineage(partition)?.poll(&shared, pull, now)
    }

    fn position(&mut self, partition: u32) -> Position {
        let shared = self.shared.clone();
        let mark = self.lineages.get_mut(&partition).and_then(|l| l.mark(&shared));
        Position(mark.map_or_else(Vec::new, |m| m.encode()))
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
