//! Loss of power: a disk that keeps what was synced and, of all that was not, anything or nothing. Whatever was acknowledged must be there.

use super::*;
use crate::disk::{Disk, Found};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Clone, Copy, PartialEq)]
enum Node {
    File(usize),
    Folder(usize),
}

/// A change of a folder's names that was not synced yet.
#[derive(Clone)]
enum Change {
    Set(String, Node),
    Unset(String),
    /// Both or none.
    Rename(String, String, Node),
}

#[derive(Clone, Default)]
struct Folder {
    synced: BTreeMap<String, Node>,
    changes: Vec<Change>,
}

impl Folder {
    fn names(&self, survives: &mut dyn FnMut() -> bool) -> BTreeMap<String, Node> {
        let mut names = self.synced.clone();
        for change in self.changes.iter().filter(|_| survives()) {
            match change {
                Change::Set(name, node) => drop(names.insert(name.clone(), *node)),
                Change::Unset(name) => drop(names.remove(name)),
                Change::Rename(from, to, node) => {
                    names.remove(from);
                    names.insert(to.clone(), *node);
                }
            }
        }
        names
    }

    fn now(&self) -> BTreeMap<String, Node> {
        self.names(&mut || true)
    }
}

/// Which of a disk's promises is broken, for the controls.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Broken {
    Nothing,
    FileSync,
    FolderSync,
}

struct Memory {
    /// Bytes, and whether they were synced.
    files: Vec<(Vec<u8>, bool)>,
    /// The first is `/`.
    folders: Vec<Folder>,
    /// Changes that are still made before the power goes.
    left: u64,
    broken: Broken,
}

#[derive(Clone)]
struct Model(Arc<Mutex<Memory>>);

impl Model {
    fn new(broken: Broken) -> Model {
        Model(Arc::new(Mutex::new(Memory { files: Vec::new(), folders: vec![Folder::default()], left: 0, broken })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Memory) -> io::Result<T>) -> io::Result<T> {
        f(&mut self.0.lock().unwrap())
    }

    /// The power comes back, and will last for `left` changes.
    fn restart(&self, chance: &mut SmallRng, left: u64) {
        let mut m = self.0.lock().unwrap();
        for (bytes, synced) in m.files.iter_mut().filter(|f| !f.1) {
            match chance.random_range(0..3) {
                0 => bytes.truncate(chance.random_range(0..=bytes.len())),
                1 => bytes.iter_mut().skip(chance.random_range(0..100)).for_each(|b| *b = 0),
                _ => {}
            }
            *synced = true;
        }
        let share = [0.0, 0.5, 1.0][chance.random_range(0..3)];
        for folder in &mut m.folders {
            folder.synced = folder.names(&mut || chance.random_bool(share));
            folder.changes.clear();
        }
        m.left = left;
    }
}

impl Memory {
    fn change(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("the power is gone"))?;
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let mut at = Node::Folder(0);
        for part in path.iter().skip(1) {
            let Node::Folder(f) = at else { return Err(ErrorKind::NotADirectory.into()) };
            at = *self.folders[f].now().get(part.to_str().unwrap()).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn folder(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Folder(f) => Ok(f),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(f) => Ok(f),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn apply(&mut self, path: &Path, change: impl FnOnce(String) -> Change) -> io::Result<()> {
        self.change()?;
        let folder = self.folder(path.parent().unwrap())?;
        self.folders[folder].changes.push(change(path.file_name().unwrap().to_str().unwrap().into()));
        Ok(())
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        match self.find(path) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => self.apply(path, |name| Change::Set(name, node)),
        }
    }
}

impl Disk for Model {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.with(|m| {
            m.add(folder, Node::Folder(m.folders.len()))?;
            m.folders.push(Folder::default());
            Ok(())
        })
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.with(|m| {
            m.add(file, Node::File(m.files.len()))?;
            m.files.push((bytes.to_vec(), false));
            Ok(())
        })
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.write(to, &self.read(from)?)
    }

    fn sync_file(&self, file: &Path) -> io::Result<()> {
        self.with(|m| {
            m.change()?;
            let f = m.file(file)?;
            m.files[f].1 |= m.broken != Broken::FileSync;
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.with(|m| {
            m.change()?;
            let f = m.folder(folder)?;
            if m.broken != Broken::FolderSync {
                m.folders[f].synced = m.folders[f].now();
                m.folders[f].changes.clear();
            }
            Ok(())
        })
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.with(|m| m.file(file).and_then(|f| m.add(name, Node::File(f))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent());
        self.with(|m| {
            let node = m.find(from)?;
            m.apply(to, |name| Change::Rename(from.file_name().unwrap().to_str().unwrap().into(), name, node))
        })
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.with(|m| {
            m.file(file)?;
            m.apply(file, Change::Unset)
        })
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.with(|m| m.file(file).map(|f| m.files[f].0.clone()))
    }

    fn same(&self, one: &Path, other: &Path) -> io::Result<bool> {
        Ok(self.read(one)? == self.read(other)?)
    }

    fn sum(&self, file: &Path) -> io::Result<(u64, u64)> {
        crate::storage::sum_of(&self.read(file)?[..])
    }

    fn find(&self, folder: &Path) -> io::Result<Vec<Found>> {
        self.with(|m| {
            let names = m.folders[m.folder(folder)?].now();
            let found = |(name, node)| match node {
                Node::File(f) => Found { name, folder: false, len: m.files[f].0.len() as u64, changed: None },
                Node::Folder(_) => Found { name, folder: true, len: 0, changed: None },
            };
            Ok(names.into_iter().map(found).collect())
        })
    }
}

/// What a job was told, over all of its lives.
#[derive(Default)]
struct Told {
    instance: Option<String>,
    /// Slots that were taken; true: nobody may have deleted it.
    slots: BTreeMap<u64, (Vec<u8>, bool)>,
    /// Slots that it tried to take in vain: there or not, but never another thing.
    tried: BTreeMap<u64, Vec<u8>>,
    files: Vec<(FileRef, bool)>,
    small: Option<Vec<u8>>,
}

impl Told {
    fn check(&self, log: &JobLog) -> Result<(), String> {
        if self.instance.as_ref().is_some_and(|i| i != log.instance()) {
            return Err("another instance".into());
        }
        let there = log.slots().map_err(|e| e.to_string())?;
        for slot in &there {
            let record = log.read(*slot).map_err(|e| format!("slot {slot}: {e}"))?;
            let (taken, tried) = (self.slots.get(slot).map(|s| &s.0), self.tried.get(slot));
            if ![taken, tried].contains(&Some(&record.encode())) {
                return Err(format!("slot {slot} holds what nobody wrote"));
            }
            if let Record::Manifest(m) = record {
                m.files().try_for_each(|f| log.get(f).map(drop)).map_err(|e| format!("named by slot {slot}: {e}"))?;
            }
        }
        for (slot, _) in self.slots.iter().filter(|(slot, (_, kept))| *kept && !there.contains(slot)) {
            return Err(format!("slot {slot} is lost"));
        }
        for (file, _) in self.files.iter().filter(|f| f.1) {
            log.get(file).map_err(|e| e.to_string())?;
        }
        match (&self.small, log.storage.read("small").map_err(|e| e.to_string())?) {
            (Some(told), there) if there.as_ref() != Some(told) => Err("the small file".into()),
            _ => Ok(()),
        }
    }
}

/// One life: from the return of the power to its loss. Err(Ok): the power went; Err(Err): the oracle complains.
fn life(model: &Model, told: &mut Told, chance: &mut SmallRng) -> Result<(), Result<(), String>> {
    let gone = |_: Fault| Ok(());
    let storage: Arc<dyn Storage> = Arc::new(Local::on(Box::new(model.clone()), Path::new("/kept/here")).map_err(gone)?);
    let log = JobLog::open(storage.clone(), "job", false).map_err(gone)?;
    told.check(&log).map_err(Err)?;
    told.instance = Some(log.instance().into());
    let newest = log.slots().map_err(gone)?.last().copied().unwrap_or(0);
    let latest = log.latest(&log.slots().map_err(gone)?).map_err(|e| Err(e.to_string()))?;
    let record = generation(chance.random());
    let record = Generation { from: latest.map_or(0, |m| m.slot), ..record };
    told.tried.insert(newest + 1, Record::Generation(record.clone()).encode());
    let begun = log.begin(&record, &StartFrom::Latest).map_err(gone)?;
    told.slots.insert(begun.generation, (Record::Generation(record).encode(), true));
    let (mut next, mut files) = (begun.generation + 1, Vec::new());
    for step in 0u64.. {
        let name = JobLog::file_name(begun.generation, &step.to_string());
        let bytes: Vec<u8> = (0..chance.random_range(0..200)).map(|_| chance.random()).collect();
        match chance.random_range(0..10) {
            0..4 => {
                let file = log.put(&name, &bytes).map_err(gone)?;
                told.files.push((file.clone(), true));
                files.push(file);
            }
            4 => {
                // an SST that its maker did not sync
                let sst = PathBuf::from(format!("/sst-{name}"));
                model.write(&sst, &bytes).map_err(|_| Ok(()))?;
                storage.create_from(&format!("job/{}/files/{name}", log.instance()), &sst).map_err(gone)?;
                let file = FileRef { name, len: bytes.len() as u64, sum: xxhash_rust::xxh3::xxh3_64(&bytes) };
                told.files.push((file.clone(), true));
                files.push(file);
            }
            5..8 => {
                let named: Vec<&FileRef> = files.choose_multiple(chance, 2).collect();
                let record = Record::Manifest(Box::new(with_files(manifest(next, begun.generation), &named)));
                told.tried.insert(next, record.encode());
                if !log.take(next, &record).map_err(gone)? {
                    return Err(Err(format!("slot {next} is another's")));
                }
                told.slots.insert(next, (record.encode(), true));
                next += 1;
            }
            8 => {
                told.small = None;
                storage.replace("small", &bytes).map_err(gone)?;
                told.small = Some(bytes);
            }
            _ => {
                // only what the newest manifest names may still be asked for, as far as the oracle cares
                let newest = told.slots.keys().filter(|s| **s > begun.generation).next_back().copied();
                told.slots.iter_mut().for_each(|(slot, s)| s.1 &= Some(*slot) == newest || *slot == begun.generation);
                told.files.iter_mut().for_each(|f| f.1 = false);
                log.prune(1, begun.generation).map_err(gone)?;
                files.retain(|f| log.get(f).is_ok());
            }
        }
    }
    Ok(())
}

/// Lives of a job until the oracle complains.
fn lives(seed: u64, broken: Broken) -> Result<(), String> {
    let (mut chance, model, mut told) = (SmallRng::seed_from_u64(seed), Model::new(broken), Told::default());
    for _ in 0..8 {
        let left = chance.random_range(0..150);
        model.restart(&mut chance, left);
        if let Err(Err(complaint)) = life(&model, &mut told, &mut chance) {
            return Err(complaint);
        }
    }
    model.restart(&mut chance, u64::MAX);
    let storage = Local::on(Box::new(model), Path::new("/kept/here")).map_err(|e| e.to_string())?;
    told.check(&JobLog::open(Arc::new(storage), "job", false).map_err(|e| e.to_string())?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_survives(seed: u64) {
        lives(seed, Broken::Nothing).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    for broken in [Broken::FileSync, Broken::FolderSync] {
        let found = (0..50).filter(|seed| lives(*seed, broken).is_err()).count();
        assert!(found > 25, "{broken:?}: {found} of 50");
    }
}
