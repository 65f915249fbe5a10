//! The log of a job instance: numbered slots, each taken once, and the files that manifests name.

use crate::manifest::{FileRef, Generation, Kind, Manifest, Record, damaged, seal, unseal};
use crate::storage::{Entry, Storage};
use millrace_sdk::{Clock, Fault, FaultKind};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What a run starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest manifest of the newest generation or, if that one wrote none, what it started from itself. So a crash right after a start
    /// from an older manifest is followed by another start from that one.
    Latest,
    /// The manifest in this slot.
    Slot(u64),
    /// The checkpoint at a path, of this or another job: [`Named`](crate::Named). One of another instance is copied into a new one.
    Path(String),
    /// Nothing. With a log opened `scratch` that is a new instance, whose markers have nothing to do with the old one's.
    Scratch,
}

/// A generation that has begun.
pub struct Begun {
    /// Its slot; later slots are this generation's manifests until another generation comes.
    pub generation: u64,
    pub from: Option<Manifest>,
    /// The newest slot of all when it began, to tell what a start from an older manifest would write again.
    pub newest: u64,
    /// Every writer named in any manifest from `from` on, by sink: all of them must be fenced.
    pub fence: BTreeMap<String, Vec<String>>,
    /// Slots after `from` that are damaged, and how: writers that no other manifest names are missing in `fence`.
    pub damaged: Vec<(u64, Fault)>,
}

/// Invariants: a slot once taken never changes. Ids only grow, also after a start from an older manifest. A generation that finds its
/// next slot taken is no longer the newest and must write nothing more, anywhere.
pub struct JobLog {
    pub(crate) storage: Arc<dyn Storage>,
    job: String,
    instance: String,
    number: u64,
}

/// What lies in `instances/00000001`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    id: String,
}

impl JobLog {
    /// Opens the log of a job's present instance, making one if there is none or `scratch` is asked for. A new instance ends the
    /// generation of the old one, which keeps its files.
    ///
    /// # Errors
    /// Two runs start from scratch at once: one of them.
    pub fn open(storage: Arc<dyn Storage>, job: &str, scratch: bool) -> Result<JobLog, Fault> {
        let found = match Self::find(storage.clone(), job) {
            // Forgotten like all others, but in order: else the next start would ask for its name again.
            Err(f) if scratch && f.kind == FaultKind::Data => Self::name_again(&storage, job)?,
            found => found?,
        };
        match found {
            Some(log) if !scratch => Ok(log),
            Some(old) => {
                old.close()?;
                let log = JobLog { storage, job: job.into(), instance: random_id(), number: old.number + 1 };
                match log.found()? {
                    true => Ok(log),
                    false => Err(at_once(job)),
                }
            }
            None => {
                let log = JobLog { storage: storage.clone(), job: job.into(), instance: random_id(), number: 1 };
                match log.found()? {
                    true => Ok(log),
                    false if scratch => Err(at_once(job)),
                    // made meanwhile by another process, maybe of this very run
                    false => Self::find(storage, job)?.ok_or_else(|| Fault::down(format!("job `{job}`: its instance is gone again"))),
                }
            }
        }
    }

    /// The present instance without making one; None: the job never took a checkpoint here.
    ///
    /// # Errors
    /// The file that names an instance is gone or damaged, so that nobody can say which is the present one.
    pub fn find(storage: Arc<dyn Storage>, job: &str) -> Result<Option<JobLog>, Fault> {
        let newest = numbers(&storage.list(&format!("{}/instances", folder(job)))?).last().copied();
        let present = newest.map(|number| Self::numbered_as(storage.clone(), job, number)).transpose()?;
        match Self::nameless(&storage, job, present.as_ref())?.first() {
            None => Ok(present),
            Some(lost) => {
                Err(Fault::data(format!("the newest checkpoints of job `{job}` cannot be told: a file that names them is missing"))
                    .detail(format!("no file in {}/{}/instances names {}", storage.place(), folder(job), lost.said(&lost.root())))
                    .hint(
                        "bring the file back; or move that folder away, and the job goes on without what it holds; or start from scratch",
                    ))
            }
        }
    }

    /// Instances with checkpoints of a run, and that no file under `instances/` names.
    fn nameless(storage: &Arc<dyn Storage>, job: &str, present: Option<&JobLog>) -> Result<Vec<JobLog>, Fault> {
        let mut folders = storage.folders(&folder(job))?;
        folders.retain(|f| f != "instances" && present.is_none_or(|p| p.instance != *f));
        if folders.is_empty() {
            return Ok(vec![]);
        }
        let named: BTreeSet<String> = Self::all(storage, job)?.into_iter().map(|log| log.instance).collect();
        folders.retain(|f| !named.contains(f));
        let lost = folders.into_iter().map(|f| JobLog::of(storage.clone(), job.into(), f));
        lost.filter_map(|log| log.has_run().map(|run| run.then_some(log)).transpose()).collect()
    }

    /// Whether a run has taken a checkpoint here. In a copy that was not finished ([`import`](Self::import)) none has: the manifest there
    /// has the time of its generation.
    fn has_run(&self) -> Result<bool, Fault> {
        let mut begun = BTreeMap::new();
        for slot in self.slots()? {
            match self.read(slot) {
                Ok(Record::Generation(g)) => drop(begun.insert(slot, g.time)),
                Ok(Record::Manifest(m)) if begun.get(&m.generation) == Some(&m.time) => {}
                Ok(Record::Verdict(_)) => {}
                Ok(Record::Manifest(_)) => return Ok(true),
                Err(f) if f.kind == FaultKind::Data => return Ok(true),
                Err(f) => return Err(f),
            }
        }
        Ok(false)
    }

    /// Gives instances without a name one, behind all others.
    fn name_again(storage: &Arc<dyn Storage>, job: &str) -> Result<Option<JobLog>, Fault> {
        let mut newest = Self::all(storage, job)?.pop();
        for log in Self::nameless(storage, job, None)? {
            let log = log.numbered(newest.map_or(1, |n| n.number + 1));
            if !log.found()? {
                return Err(at_once(job));
            }
            newest = Some(log);
        }
        Ok(newest)
    }

    fn numbered_as(storage: Arc<dyn Storage>, job: &str, number: u64) -> Result<JobLog, Fault> {
        let name = format!("{}/instances/{number:08}", folder(job));
        let said = format!("{}/{name}", storage.place());
        let bytes = storage.read(&name)?.ok_or_else(|| damaged(&said, "it is listed, but cannot be read".into()))?;
        let instance: Instance =
            unseal(&said, &bytes).and_then(|b| serde_json::from_slice(b).map_err(|e| damaged(&said, e.to_string()))).map_err(|f| {
                f.hint("it holds the name of the folder beside it with the newest checkpoints: give the job another name to start anew")
            })?;
        Ok(JobLog { storage, job: job.into(), instance: instance.id, number })
    }

    /// All instances of a job, the oldest first.
    pub fn all(storage: &Arc<dyn Storage>, job: &str) -> Result<Vec<JobLog>, Fault> {
        let names = numbers(&storage.list(&format!("{}/instances", folder(job)))?);
        names.into_iter().map(|number| Self::numbered_as(storage.clone(), job, number)).collect()
    }

    /// The log of an instance by its name, which may be one of the past.
    pub(crate) fn of(storage: Arc<dyn Storage>, job: String, instance: String) -> JobLog {
        JobLog { storage, job, instance, number: 0 }
    }

    pub(crate) fn numbered(self, number: u64) -> JobLog {
        JobLog { number, ..self }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Makes this instance the job's present one. False: another has its number.
    pub(crate) fn found(&self) -> Result<bool, Fault> {
        self.storage.create(&format!("{}/instances/{:08}", folder(&self.job), self.number), &seal(&Instance { id: self.instance.clone() }))
    }

    /// Ends the present generation by one that never runs, and from which a start goes on as if it had not been.
    pub(crate) fn close(&self) -> Result<(), Fault> {
        let run = StdRng::from_os_rng().random();
        loop {
            let newest = self.slots()?.last().copied().unwrap_or(0);
            let from = match newest {
                0 => 0,
                _ => match self.latest(&self.slots()?) {
                    Ok(m) => m.map_or(0, |m| m.slot),
                    // a start from scratch is what remains then; one from here must still be told
                    Err(f) if f.kind == FaultKind::Data => newest,
                    Err(f) => return Err(f),
                },
            };
            let record = Generation { run, from, config: 0, workers: 0, time: Clock::System.now() };
            if self.take(newest + 1, &Record::Generation(record))? {
                return Ok(());
            }
        }
    }

    pub fn job(&self) -> &str {
        &self.job
    }

    /// Chosen at random at a start from scratch: 32 hex digits.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn place(&self) -> String {
        self.storage.place()
    }

    /// Where a checkpoint lies, as `--from` takes it.
    pub fn path(&self, slot: u64) -> String {
        self.said(&self.slot_name(slot))
    }

    /// Takes the next slot with a generation record, whose `from` is found here. A slot that a manifest got meanwhile: tries the next. A
    /// slot that another generation got: a fault, as two runs of a job start at once.
    pub fn begin(&self, record: &Generation, from: &StartFrom) -> Result<Begun, Fault> {
        self.begin_if(record, from, |_| Ok(()))
    }

    /// As [`begin`](Self::begin), when `check` has nothing against what it would go on from. A refused start leaves no trace: a generation
    /// record would be what the next start takes for `latest`.
    pub fn begin_if(
        &self,
        record: &Generation,
        from: &StartFrom,
        check: impl Fn(Option<&Manifest>) -> Result<(), Fault>,
    ) -> Result<Begun, Fault> {
        loop {
            let slots = self.slots()?;
            let newest = slots.last().copied().unwrap_or(0);
            let manifest = match from {
                StartFrom::Latest => self.latest(&slots)?,
                StartFrom::Slot(n) => Some(self.manifest(*n)?),
                StartFrom::Path(path) => return Err(Fault::bug(format!("the checkpoint at `{path}` was not looked up"))),
                StartFrom::Scratch => None,
            };
            check(manifest.as_ref())?;
            let from = manifest.as_ref().map_or(0, |m| m.slot);
            let (fence, damaged) = self.writers(&slots, from)?;
            if self.take(newest + 1, &Record::Generation(Generation { from, ..record.clone() }))? {
                return Ok(Begun { generation: newest + 1, from: manifest, newest, fence, damaged });
            }
            if let Record::Generation(_) = self.read(newest + 1)? {
                return Err(at_once(&self.job));
            }
        }
    }

    /// What [`StartFrom::Latest`] means now.
    pub fn latest(&self, slots: &[u64]) -> Result<Option<Manifest>, Fault> {
        for slot in slots.iter().rev() {
            match self.read(*slot)? {
                Record::Manifest(m) if !m.guarded => return Ok(Some(*m)),
                Record::Verdict(v) if v.passed > 0 => return self.manifest(v.passed).map(Some),
                // No guard has let it pass.
                Record::Manifest(_) | Record::Verdict(_) => {}
                Record::Generation(g) if g.from > 0 => return self.manifest(g.from).map(Some),
                Record::Generation(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether what a manifest names may be published.
    pub fn has_passed(&self, m: &Manifest) -> Result<bool, Fault> {
        if !m.guarded {
            return Ok(true);
        }
        for slot in self.slots()?.into_iter().filter(|s| *s > m.slot) {
            match self.read(slot) {
                Ok(Record::Verdict(v)) if v.passes(m) => return Ok(true),
                Ok(Record::Generation(_)) => break,
                Ok(_) => {}
                Err(f) if f.kind == FaultKind::Data => {}
                Err(f) => return Err(f),
            }
        }
        Ok(false)
    }

    /// The writers of all manifests from a slot on, and the slots that cannot be read.
    #[allow(clippy::type_complexity)]
    fn writers(&self, slots: &[u64], from: u64) -> Result<(BTreeMap<String, Vec<String>>, Vec<(u64, Fault)>), Fault> {
        let (mut writers, mut bad) = (BTreeMap::<String, BTreeSet<String>>::new(), Vec::new());
        for slot in slots.iter().filter(|s| **s >= from) {
            match self.read(*slot) {
                Ok(Record::Manifest(m)) => {
                    m.sinks.into_iter().for_each(|s| writers.entry(s.name).or_default().extend(s.writers.into_keys()));
                }
                Ok(Record::Generation(_) | Record::Verdict(_)) => {}
                Err(f) if f.kind == FaultKind::Data => bad.push((*slot, f)),
                Err(f) => return Err(f),
            }
        }
        Ok((writers.into_iter().map(|(sink, w)| (sink, w.into_iter().collect())).collect(), bad))
    }

    /// The manifest in a slot.
    pub fn manifest(&self, slot: u64) -> Result<Manifest, Fault> {
        match self.read(slot)? {
            Record::Manifest(m) => Ok(*m),
            other => {
                let what = if matches!(other, Record::Generation(_)) { "a start" } else { "what guards decided" };
                Err(Fault::config(format!("slot {slot} of job `{}` is no checkpoint but the record of {what}", self.job))
                    .hint("`millrace checkpoints list` names the checkpoints"))
            }
        }
    }

    /// False: another has it, and this generation is over.
    pub fn take(&self, slot: u64, record: &Record) -> Result<bool, Fault> {
        self.storage.create(&self.slot_name(slot), &record.encode())
    }

    /// Whether a generation began after `generation`.
    pub fn superseded(&self, generation: u64) -> Result<bool, Fault> {
        Ok(self.newest_generation()? > generation)
    }

    /// The newest generation's slot; 0: none has begun.
    pub fn newest_generation(&self) -> Result<u64, Fault> {
        // manifests after a generation's slot are its own until the next generation's: the newest slot says all
        match self.slots()?.last() {
            None => Ok(0),
            Some(newest) => match self.read(*newest)? {
                Record::Generation(_) => Ok(*newest),
                Record::Manifest(m) => Ok(m.generation),
                Record::Verdict(v) => Ok(v.generation),
            },
        }
    }

    /// All slots that are taken, in order.
    pub fn slots(&self) -> Result<Vec<u64>, Fault> {
        Ok(numbers(&self.storage.list(&self.folder("slots"))?))
    }

    /// # Errors
    /// There is no such slot (pruned, or never taken), or it is damaged.
    pub fn read(&self, slot: u64) -> Result<Record, Fault> {
        let name = self.slot_name(slot);
        let Some(bytes) = self.storage.read(&name)? else {
            return Err(Fault::data(format!("job `{}` has no checkpoint in slot {slot}", self.job))
                .detail(format!("there is no {}", self.said(&name)))
                .hint("it was pruned, or never there: `millrace checkpoints list` names those that are"));
        };
        let record = Record::decode(&self.said(&name), &bytes)?;
        match &record {
            Record::Manifest(m) if m.slot != slot => Err(damaged(&self.said(&name), format!("it is the manifest of slot {}", m.slot))),
            _ => Ok(record),
        }
    }

    /// Writes a file under a name that nobody has used: names tell the generation, as [`file_name`](Self::file_name)
    /// makes them.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<FileRef, Fault> {
        let created = self.storage.create(&self.file(name), bytes)?;
        self.made(created, FileRef { name: name.into(), len: bytes.len() as u64, sum: xxh3_64(bytes) })
    }

    /// As [`put`](Self::put), of a local file that nobody changes any more.
    pub fn put_file(&self, name: &str, file: &Path) -> Result<FileRef, Fault> {
        let (len, sum) = sum_of(file)?;
        let created = self.storage.create_from(&self.file(name), file)?;
        self.made(created, FileRef { name: name.into(), len, sum })
    }

    fn made(&self, created: bool, file: FileRef) -> Result<FileRef, Fault> {
        match created {
            true => Ok(file),
            false => Err(Fault::bug(format!("checkpoint file {} is there already, with other bytes", self.said(&self.file(&file.name))))),
        }
    }

    /// # Errors
    /// The file is missing, or has another length or checksum than its reference says: names which.
    pub fn get(&self, file: &FileRef) -> Result<Vec<u8>, Fault> {
        let bytes = self.storage.read(&self.file(&file.name))?.ok_or_else(|| self.missing(file))?;
        self.checked(file, bytes.len() as u64, xxh3_64(&bytes))?;
        Ok(bytes)
    }

    /// As [`get`](Self::get), into a local file, into which nobody may ever write: it may be a second name of the kept one.
    pub fn get_file(&self, file: &FileRef, to: &Path) -> Result<(), Fault> {
        if !self.storage.fetch(&self.file(&file.name), to)? {
            return Err(self.missing(file));
        }
        let (len, sum) = sum_of(to)?;
        self.checked(file, len, sum)
    }

    /// Whether a file is as [`get`](Self::get) wants it, without keeping it.
    pub fn check(&self, file: &FileRef) -> Result<(), Fault> {
        let (len, sum) = self.storage.sum(&self.file(&file.name))?.ok_or_else(|| self.missing(file))?;
        self.checked(file, len, sum)
    }

    fn missing(&self, file: &FileRef) -> Fault {
        Fault::data(format!("checkpoint file {} is missing", self.said(&self.file(&file.name))))
            .detail(format!("it has {} bytes", file.len))
            .hint("start from another checkpoint; `millrace checkpoints verify` says which are whole")
    }

    fn checked(&self, file: &FileRef, len: u64, sum: u64) -> Result<(), Fault> {
        let said = || format!("checkpoint file {}", self.said(&self.file(&file.name)));
        match () {
            () if len != file.len => Err(damaged(&said(), format!("it has {len} bytes instead of {}", file.len))),
            () if sum != file.sum => Err(damaged(&said(), format!("its {len} bytes do not have the checksum that the manifest says"))),
            () => Ok(()),
        }
    }

    /// A file's name: `rest` must be chosen so that a generation makes no name twice.
    pub fn file_name(generation: u64, rest: &str) -> String {
        format!("g{generation}-{rest}")
    }

    /// Deletes all but the newest `retain` completed checkpoints, savepoints, whatever they name, and unapplied outboxes; also files
    /// that no manifest names and that no attempt of `generation` can still name. A damaged slot stays, and with it whatever it may name.
    /// Returns how many slots and files went; nothing goes when a newer generation has begun. So an attempt may share files with the newest
    /// manifest, and name such as no manifest has named, but none that only older ones name.
    pub fn prune(&self, retain: usize, generation: u64) -> Result<(usize, usize), Fault> {
        let slots = self.slots()?;
        if self.superseded(generation)? {
            return Ok((0, 0));
        }
        let (mut records, mut all_read) = (BTreeMap::new(), true);
        for slot in &slots {
            match self.read(*slot) {
                Ok(record) => drop(records.insert(*slot, record)),
                Err(f) if f.kind == FaultKind::Data => all_read = false,
                Err(f) => return Err(f),
            }
        }
        let kept = kept(&records, retain);
        let named = |kept: &dyn Fn(&u64) -> bool| -> BTreeSet<String> {
            let manifests = records.iter().filter(|(slot, _)| kept(slot)).filter_map(|(_, r)| match r {
                Record::Manifest(m) => Some(m),
                Record::Generation(_) | Record::Verdict(_) => None,
            });
            manifests.flat_map(|m| m.files()).map(|f| f.name.clone()).collect()
        };
        let (keep, drop) = (named(&|s| kept.contains(s)), named(&|s| !kept.contains(s)));
        let old = |name: &str| generation_of(name).is_some_and(|g| g < generation);
        let files: Vec<String> = self
            .storage
            .list(&self.folder("files"))?
            .into_iter()
            .filter(|f| !keep.contains(&f.name) && (drop.contains(&f.name) || (all_read && old(&f.name))))
            .map(|f| self.file(&f.name))
            .collect();
        let slots: Vec<String> = records.keys().filter(|s| !kept.contains(s)).map(|s| self.slot_name(*s)).collect();
        // in this order: a manifest never names a file that is gone
        self.storage.delete_all(&slots)?;
        self.storage.delete_all(&files)?;
        Ok((slots.len(), files.len()))
    }

    /// The folder of the instance.
    pub(crate) fn root(&self) -> String {
        format!("{}/{}", folder(&self.job), self.instance)
    }

    fn folder(&self, name: &str) -> String {
        format!("{}/{name}", self.root())
    }

    fn slot_name(&self, slot: u64) -> String {
        format!("{}/{slot:08}", self.folder("slots"))
    }

    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder("files"))
    }

    /// A name for people.
    fn said(&self, name: &str) -> String {
        format!("{}/{name}", self.storage.place())
    }
}

/// The slots that a prune leaves: the newest of all (numbers only grow) and the newest generation's; what a start would go on from; the
/// newest `retain` manifests; savepoints; manifests with chunks that the newest one still calls pending; generations of kept manifests.
fn kept(records: &BTreeMap<u64, Record>, retain: usize) -> BTreeSet<u64> {
    let manifests: Vec<&Manifest> =
        records.values().rev().filter_map(|r| if let Record::Manifest(m) = r { Some(&**m) } else { None }).collect();
    let pending: BTreeSet<&str> = manifests.first().iter().flat_map(|m| m.chunks()).map(|(_, _, c)| c.file.name.as_str()).collect();
    let mut kept = BTreeSet::new();
    let mut left = retain.max(1);
    for m in &manifests {
        let new = m.kind != Kind::Savepoint && left > 0;
        left -= usize::from(new);
        if new || m.kind == Kind::Savepoint || m.chunks().any(|(_, _, c)| pending.contains(c.file.name.as_str())) {
            kept.extend([m.slot, m.generation]);
        }
    }
    let newest = records.iter().rev().find_map(|(slot, r)| if let Record::Generation(g) = r { Some((*slot, g)) } else { None });
    if let Some((slot, g)) = newest {
        kept.insert(slot);
        let verdict = records.range(slot..).rev().find_map(|(s, r)| match r {
            Record::Verdict(v) if v.passed > 0 => Some((*s, v.passed)),
            _ => None,
        });
        let guarded = manifests.first().is_some_and(|m| m.guarded);
        // Each of those that wait for the guards may become what a start goes on from.
        let waits = |m: &&&Manifest| m.guarded && m.slot > slot && m.slot > verdict.map_or(0, |v| v.1);
        kept.extend(manifests.iter().filter(waits).map(|m| m.slot));
        match verdict {
            Some((verdict, passed)) => kept.extend([verdict, passed]),
            None if guarded || manifests.first().is_none_or(|m| m.slot < slot) => drop(kept.insert(g.from)),
            None => {}
        }
    }
    // Without its verdict a manifest would be one that the guards have not passed.
    let verdict_on = |m: &Manifest| records.iter().rev().find(|(_, r)| matches!(r, Record::Verdict(v) if v.passes(m))).map(|(s, _)| *s);
    let verdicts: Vec<u64> = manifests.iter().filter(|m| m.guarded && kept.contains(&m.slot)).filter_map(|m| verdict_on(m)).collect();
    kept.extend(verdicts);
    kept.extend(records.keys().last());
    kept
}

/// The generation that a file's name tells.
fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix('g')?.split_once('-')?.0.parse().ok()
}

pub(crate) fn at_once(job: &str) -> Fault {
    Fault::refused(format!("job `{job}` is started twice at once"))
        .detail("another run took the next slot of the checkpoint log first; this one has changed nothing")
        .hint("let one of them run; two jobs need two names")
}

/// Numbers of the files that have one for a name, in order.
pub(crate) fn numbers(entries: &[Entry]) -> Vec<u64> {
    let mut numbers: Vec<u64> = entries.iter().filter_map(|e| e.name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// 32 hex digits.
pub(crate) fn random_id() -> String {
    format!("{:032x}", StdRng::from_os_rng().random::<u128>())
}

/// A job's folder: its name, with what is no letter, digit, `_`, `-` or inner `.` written as %XX.
fn folder(job: &str) -> String {
    let plain = |i: usize, b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || (b == b'.' && i > 0);
    job.bytes().enumerate().map(|(i, b)| if plain(i, b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The job whose folder that is.
pub(crate) fn unfolder(folder: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), folder.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        (rest, _) = match (first, hex) {
            (b'%', Some(byte)) => (&tail[2..], out.push(byte)),
            _ => (tail, out.push(*first)),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length and xxh3 of a local file.
fn sum_of(file: &Path) -> Result<(u64, u64), Fault> {
    let sum = std::fs::File::open(file).and_then(crate::storage::sum_of);
    sum.map_err(|e| Fault::refused(format!("`{}` cannot be read", file.display())).detail(e.to_string()))
}
