//! How far a file sink's writers have come: a small file for each, beside the files that it speaks of, replaced as a whole.
//!
//! `.millrace/WRITER.GENERATION.json`: the newest generation counts. A process that takes a writer over makes the next generation's
//! file exclusively (link(2) of a file that is complete and synced), as one that only refers to the generation before; from then on
//! no older process can commit, as it looks for a newer generation after each of its own commits, before it goes on. Only then the
//! new one reads what the old one has left. One of the two always sees the other.

use super::writer::cannot_write;
use millrace_sdk::{Clock, Fault};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Paths that a writer remembers to have begun.
const MAX_BEGUN: usize = 1024;

/// What a writer has done, and what it is about to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub version: u32,
    /// The last chunk that is whole in the files.
    pub marker: Option<u64>,
    /// The file that is written to.
    pub open: Option<Open>,
    /// Where the next chunk's new files begin: noted before they are made.
    pub bases: Vec<Base>,
    /// Paths (without their part) that the job has begun: `on_exists` no longer applies to them.
    pub begun: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    pub stem: String,
    pub part: u64,
    /// Bytes of the file, all of them committed.
    pub length: u64,
    /// Bytes of content, before compression.
    pub size: u64,
    /// When it was opened, microseconds since 1970.
    pub since: i64,
}

/// A file's first byte that is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    pub stem: String,
    pub part: u64,
    pub offset: u64,
    /// What is there ends with half a line.
    pub torn: bool,
}

impl State {
    pub fn begin(&mut self, stem: &str) {
        if !self.begun.iter().any(|s| s == stem) {
            self.begun.push(stem.into());
            let surplus = self.begun.len().saturating_sub(MAX_BEGUN);
            self.begun.drain(..surplus);
        }
    }
}

/// The content of a ledger's file: a generation that was taken refers to the one before until it has a state of its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    state: Option<State>,
}

/// One process's hold on a writer.
pub struct Ledger {
    folder: PathBuf,
    writer: String,
    generation: u64,
    pub state: State,
}

pub fn folder(root: &Path) -> PathBuf {
    root.join(".millrace")
}

fn page_path(folder: &Path, writer: &str, generation: u64) -> PathBuf {
    folder.join(format!("{writer}.{generation:06}.json"))
}

/// All writers' generations in a folder.
fn generations(folder: &Path) -> Result<Vec<(String, u64)>, Fault> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(|e| cannot_read(folder, &e))?,
    };
    let mut found = vec![];
    for entry in entries {
        let name = entry.map_err(|e| cannot_read(folder, &e))?.file_name();
        let name = name.to_string_lossy();
        if let Some((writer, generation)) = name.strip_suffix(".json").and_then(|n| n.rsplit_once('.'))
            && let Ok(generation) = generation.parse()
        {
            found.push((writer.to_string(), generation));
        }
    }
    found.sort();
    Ok(found)
}

/// What the newest generation of a writer left, and its number; 0: there is none.
fn newest(folder: &Path, writer: &str) -> Result<(u64, Option<State>), Fault> {
    let mut all: Vec<u64> = generations(folder)?.into_iter().filter(|(w, _)| w == writer).map(|(_, g)| g).collect();
    let last = all.last().copied().unwrap_or(0);
    while let Some(generation) = all.pop() {
        if let Some(state) = read(&page_path(folder, writer, generation))? {
            return Ok((last, Some(state)));
        }
    }
    Ok((last, None))
}

/// None: the generation has no state of its own.
fn read(path: &Path) -> Result<Option<State>, Fault> {
    let bytes = match fs::read(path) {
        // A newer process has cleaned up; who asks will find that out.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|e| cannot_read(path, &e))?,
    };
    let wrong = |why: String| Fault::refused(format!("`{}` is damaged", path.display())).detail(why);
    let page: Page = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    match page.state {
        Some(s) if s.version != 1 => Err(wrong(format!("it has version {}, this release reads 1", s.version))),
        state => Ok(state),
    }
}

/// What is known of all writers in a folder: each one's name and newest state.
pub fn states(folder: &Path) -> Result<Vec<(String, State)>, Fault> {
    let mut names: Vec<String> = generations(folder)?.into_iter().map(|(w, _)| w).collect();
    names.dedup();
    let state = |name: String| Ok(newest(folder, &name)?.1.map(|state| (name, state)));
    names.into_iter().filter_map(|name| state(name).transpose()).collect()
}

/// The marker that a writer's newest generation left.
pub fn marker(folder: &Path, writer: &str) -> Result<Option<u64>, Fault> {
    Ok(newest(folder, writer)?.1.and_then(|s| s.marker))
}

/// Rows come to a file that no ledger counts, of a job that no longer publishes exactly once: who publishes so again goes on behind all
/// that is there then, rather than cut it off. A ledger that cannot be read stops those who need it.
pub fn release(folder: &Path, stem: &str, part: u64) -> Result<(), Fault> {
    let mut writers: Vec<String> = generations(folder)?.into_iter().map(|(w, _)| w).collect();
    writers.dedup();
    for writer in writers {
        let Ok((_, Some(state))) = newest(folder, &writer) else { continue };
        if state.open.is_some_and(|o| o.stem == stem && o.part == part) {
            let mut ledger = Ledger::take(folder, &writer)?;
            let state = State { open: None, bases: vec![], ..ledger.state.clone() };
            ledger.commit(state)?;
        }
    }
    Ok(())
}

impl Ledger {
    /// Takes a writer over: whoever held it can commit nothing any more.
    pub fn take(folder: &Path, writer: &str) -> Result<Ledger, Fault> {
        fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
        let generation = loop {
            let next = newest(folder, writer)?.0 + 1;
            if claim(folder, writer, next)? {
                break next;
            }
        };
        let state = newest(folder, writer)?.1.unwrap_or_default();
        let mut ledger = Ledger { folder: folder.into(), writer: writer.into(), generation, state: State::default() };
        ledger.commit(State { version: 1, ..state })?;
        // The one before stays: its process finds the one behind it by name.
        for (w, g) in generations(folder)? {
            if w == writer && g + 1 < generation {
                let _ = fs::remove_file(page_path(folder, writer, g));
            }
        }
        Ok(ledger)
    }

    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// # Errors
    /// A newer generation is there.
    pub fn check(&self) -> Result<(), Fault> {
        let there = |generation| page_path(&self.folder, &self.writer, generation).exists();
        if there(self.generation) && !there(self.generation + 1) {
            return Ok(());
        }
        let fault = Fault::refused(format!("another run of this job has taken over the files of writer `{}`", self.writer));
        Err(fault.hint("let only one of them run"))
    }

    /// Replaces the state, durably.
    pub fn commit(&mut self, state: State) -> Result<(), Fault> {
        self.check()?;
        let path = page_path(&self.folder, &self.writer, self.generation);
        let temporary = path.with_extension("tmp");
        write_synced(&temporary, &Page { state: Some(state.clone()) })
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_folder(&self.folder))
            .map_err(|e| cannot_write(&path, &e))?;
        self.check()?;
        self.state = state;
        Ok(())
    }
}

/// Makes a generation's file; false: another process was faster.
fn claim(folder: &Path, writer: &str, generation: u64) -> Result<bool, Fault> {
    let path = page_path(folder, writer, generation);
    // Nobody else's: another host's process may have the same number, but not at the same microsecond.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_extension(format!("{pid}-{count}-{}.tmp", Clock::System.now()));
    let linked = write_synced(&temporary, &Page { state: None }).and_then(|()| fs::hard_link(&temporary, &path));
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        linked => linked.and_then(|()| sync_folder(folder)).map_err(|e| cannot_write(&path, &e))?,
    }
    Ok(true)
}

fn write_synced(path: &Path, page: &Page) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(page)?)?;
    file.sync_all()
}

/// A file's name must survive a loss of power, too.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn cannot_read(path: &Path, e: &io::Error) -> Fault {
    Fault::refused(format!("cannot read `{}`", path.display())).detail(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_marker(marker: u64) -> State {
        State { version: 1, marker: Some(marker), ..State::default() }
    }

    #[test]
    fn the_newest_generation_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut a = Ledger::take(dir.path(), "w-0").unwrap();
        let mut other = Ledger::take(dir.path(), "w-0.1").unwrap();
        assert_eq!(marker(dir.path(), "w-0").unwrap(), None);
        a.commit(with_marker(5)).unwrap();
        other.commit(with_marker(1)).unwrap();
        let mut b = Ledger::take(dir.path(), "w-0").unwrap();
        assert_eq!(b.state.marker, Some(5));
        assert!(a.check().is_err() && a.commit(with_marker(6)).is_err());
        b.commit(with_marker(7)).unwrap();
        // A commit that had passed its look before: it counts for nothing.
        write_synced(&page_path(dir.path(), "w-0", 1), &Page { state: Some(with_marker(6)) }).unwrap();
        assert!(a.check().is_err());
        let c = Ledger::take(dir.path(), "w-0").unwrap();
        assert_eq!((c.state.marker, c.generation), (Some(7), 3));
        assert!(a.check().is_err() && b.check().is_err() && c.check().is_ok() && other.check().is_ok());
        assert_eq!(states(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn a_generation_without_a_state_refers_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut a = Ledger::take(dir.path(), "w").unwrap();
        a.commit(with_marker(5)).unwrap();
        // Killed after it had taken the generation.
        assert!(claim(dir.path(), "w", 2).unwrap() && !claim(dir.path(), "w", 2).unwrap());
        assert!(a.commit(with_marker(6)).is_err());
        assert_eq!(Ledger::take(dir.path(), "w").unwrap().state.marker, Some(5));
        let path = page_path(dir.path(), "w", 3);
        fs::write(&path, "{").unwrap();
        assert!(Ledger::take(dir.path(), "w").err().unwrap().message.ends_with("000003.json` is damaged"));
    }
}
