//! Checkpoints by their path, of whatever job and place, and how one of another instance becomes the beginning of a new one.

use crate::log::{JobLog, at_once, numbers, random_id, unfolder};
use crate::manifest::{FileRef, Generation, Manifest, Record, WriterState};
use crate::storage::Storage;
use millrace_sdk::{Fault, FaultKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What a path names: `…/JOB`, `…/JOB/INSTANCE` or `…/JOB/INSTANCE/slots/00000017`.
pub struct Named {
    pub log: JobLog,
    /// None: the newest one.
    pub slot: Option<u64>,
}

/// What was published after a checkpoint, as far as records of it are left.
#[derive(Default)]
pub struct Later {
    /// Checkpoints, by slot.
    pub slots: Vec<u64>,
    /// Checkpoints that were pruned since: nobody can say what they have published.
    pub pruned: u64,
    /// By sink.
    pub rows: BTreeMap<String, u64>,
}

impl Named {
    /// Finds what lies at `path`; `open` opens a location.
    ///
    /// # Errors
    /// Nothing there looks like checkpoints.
    pub fn find(path: &str, open: &dyn Fn(&str) -> Result<Arc<dyn Storage>, Fault>) -> Result<Named, Fault> {
        let nothing = || {
            Fault::config(format!("`{path}` is no checkpoint"))
                .detail("a path ends with a slot like `JOB/INSTANCE/slots/00000017`, an instance `JOB/INSTANCE`, or a job's folder")
                .hint("`millrace checkpoints list` names the checkpoints of a job, `millrace savepoint` prints the path of its own")
        };
        let (scheme, rest) = path.split_once("://").map_or(("", path), |(s, r)| (s, r));
        let absolute = match scheme {
            "" => std::path::absolute(rest).map_err(|e| nothing().detail(e.to_string()))?.to_string_lossy().into_owned(),
            _ => rest.to_string(),
        };
        if scheme.is_empty() && !Path::new(&absolute).exists() {
            return Err(Fault::config(format!("there is no checkpoint at `{path}`")).hint(nothing().hint.unwrap_or_default()));
        }
        let parts: Vec<&str> = absolute.trim_end_matches('/').split('/').collect();
        let location = |n: usize| match scheme {
            "" => Some(parts[..n].join("/")).map(|l| if l.is_empty() { "/".into() } else { l }),
            _ => (n > 0).then(|| format!("{scheme}://{}", parts[..n].join("/"))),
        };
        let slot = match parts[..] {
            [.., "slots", slot] => Some(slot.parse::<u64>().map_err(|_| nothing())?),
            _ => None,
        };
        let end = parts.len() - if slot.is_some() { 2 } else { 0 };
        // An instance lies one folder deeper than a job.
        if let Some((location, job, instance)) = end.checked_sub(2).and_then(|n| Some((location(n)?, parts[n], parts[n + 1]))) {
            let storage = open(&location)?;
            if !numbers(&storage.list(&format!("{job}/{instance}/slots")).unwrap_or_default()).is_empty() {
                return Ok(Named { log: JobLog::of(storage, unfolder(job), instance.into()), slot });
            }
        }
        if let Some((location, job)) = end.checked_sub(1).and_then(|n| Some((location(n)?, parts[n]))).filter(|_| slot.is_none())
            && let Some(log) = JobLog::find(open(&location)?, &unfolder(job))?
        {
            return Ok(Named { log, slot });
        }
        Err(nothing())
    }

    /// The manifest that it names.
    pub fn manifest(&self) -> Result<Manifest, Fault> {
        match self.slot {
            Some(slot) => self.log.manifest(slot),
            None => {
                self.log.latest(&self.log.slots()?)?.ok_or_else(|| Fault::config(format!("job `{}` has no checkpoint", self.log.job())))
            }
        }
    }
}

impl JobLog {
    /// What the checkpoints of this instance after `from` have published.
    ///
    /// # Errors
    /// A damaged slot among them: what it published cannot be known.
    pub fn later(&self, from: u64, sum: &mut Later) -> Result<(), Fault> {
        let slots: Vec<u64> = self.slots()?.into_iter().filter(|s| *s > from).collect();
        sum.pruned += slots.last().map_or(0, |newest| newest - from - slots.len() as u64);
        for slot in slots {
            let m = match self.read(slot) {
                Ok(Record::Manifest(m)) => m,
                Ok(Record::Generation(_) | Record::Verdict(_)) => continue,
                Err(f) if f.kind == FaultKind::Data => {
                    let hint = format!("what it published cannot be known: a start from checkpoint {from} may publish that again");
                    return Err(f.hint(format!("{hint}; say --accept-duplicates to do so")));
                }
                Err(f) => return Err(f),
            };
            if !self.has_passed(&m)? {
                continue;
            }
            sum.slots.push(slot);
            for s in &m.sinks {
                let fresh = s.writers.values().flat_map(|w| &w.chunks).filter(|c| c.marker >> 20 == slot);
                *sum.rows.entry(s.name.clone()).or_default() += fresh.map(|c| c.rows).sum::<u64>();
            }
        }
        Ok(())
    }

    /// Whether this instance is the present one of its job.
    pub fn is_present(&self, storage: &Arc<dyn Storage>, job: &str) -> Result<bool, Fault> {
        Ok(JobLog::find(storage.clone(), job)?.is_some_and(|log| log.instance() == self.instance()))
    }

    /// Makes a new instance of `job` in `storage` that begins with a copy of `m`, a manifest of `source`, and becomes the present one. Slots
    /// go on from the source's, so that no marker that one of its writers has set is ever met again. Output that is not known to be
    /// published comes along with its writers; `all_writers`: so do all others that the source names since, to be fenced.
    /// `scratch`: a folder for files on their way.
    pub fn import(
        storage: Arc<dyn Storage>,
        job: &str,
        source: &JobLog,
        mut m: Manifest,
        all_writers: bool,
        scratch: &Path,
    ) -> Result<JobLog, Fault> {
        let old = JobLog::find(storage.clone(), job)?;
        let log = JobLog::of(storage, job.into(), random_id()).numbered(old.as_ref().map_or(1, |o| o.number() + 1));
        let newest = |l: &JobLog| l.slots().map(|s| s.last().copied().unwrap_or(0));
        let first = newest(source)?.max(old.as_ref().map_or(Ok(0), newest)?) + 1;
        settle_writers(&mut m, source, all_writers)?;
        std::fs::create_dir_all(scratch)
            .map_err(|e| Fault::refused(format!("`{}` cannot be made", scratch.display())).detail(e.to_string()))?;
        let mut copied: BTreeMap<String, FileRef> = BTreeMap::new();
        let pieces = m.operators.iter_mut().flat_map(|o| &mut o.pieces).flat_map(|p| p.files.values_mut());
        let chunks = m.sinks.iter_mut().flat_map(|s| s.writers.values_mut()).flat_map(|w| &mut w.chunks).map(|c| &mut c.file);
        for file in pieces.chain(chunks) {
            if let Some(known) = copied.get(&file.name) {
                *file = known.clone();
                continue;
            }
            let (old, local) = (file.name.clone(), scratch.join(format!("import-{}", log.instance())));
            let name = JobLog::file_name(first, &format!("from-{old}"));
            let stored = source.get_file(file, &local).and_then(|()| log.put_file(&name, &local));
            let _ = std::fs::remove_file(&local);
            *file = stored?;
            source.copy_refused(&old, &log, &file.name)?;
            copied.insert(old, file.clone());
        }
        let record = Generation { run: 0, from: 0, config: m.config, workers: m.workers, time: m.time };
        (m.slot, m.generation) = (first + 1, first);
        let taken = log.take(first, &Record::Generation(record))? && log.take(first + 1, &Record::Manifest(Box::new(m)))?;
        // Only now is the new instance the present one: a start that dies before has changed nothing.
        old.map_or(Ok(()), |old| old.close())?;
        match taken && log.found()? {
            true => Ok(log),
            false => Err(at_once(job)),
        }
    }
}

/// Leaves of a manifest's writers those whose work is not done.
fn settle_writers(m: &mut Manifest, source: &JobLog, all: bool) -> Result<(), Fault> {
    let slots = source.slots()?;
    let mut applied: BTreeMap<(String, String), u64> = BTreeMap::new();
    for slot in slots.into_iter().filter(|s| *s >= m.slot) {
        let Ok(Record::Manifest(later)) = source.read(slot) else { continue };
        for (s, (w, state)) in later.sinks.iter().flat_map(|s| s.writers.iter().map(move |w| (s, w))) {
            let known = applied.entry((s.name.clone(), w.clone())).or_default();
            *known = (*known).max(state.applied);
        }
    }
    let sinks: BTreeSet<String> = m.sinks.iter().map(|s| s.name.clone()).collect();
    for s in &mut m.sinks {
        for (writer, state) in &mut s.writers {
            let known = applied.get(&(s.name.clone(), writer.clone())).copied().unwrap_or(0);
            state.chunks.retain(|c| c.marker > known);
        }
        s.writers.retain(|_, state| all || !state.chunks.is_empty());
        for ((sink, writer), _) in applied.iter().filter(|((sink, _), _)| all && *sink == s.name) {
            debug_assert!(sinks.contains(sink));
            s.writers.entry(writer.clone()).or_insert_with(WriterState::default);
        }
    }
    Ok(())
}
