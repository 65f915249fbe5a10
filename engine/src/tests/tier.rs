//! A tier of plain sorted files, in a page: what the engine may expect of one and no more. (The conformance of the real one is tested in `state/`.)

use millrace_sdk::Fault;
use millrace_sdk::tier::{Tier, TierEntry, TierFile, Tiers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
pub struct Files {
    /// So many writes find no room.
    pub full: Arc<AtomicUsize>,
}

type Map = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What was written at once, by its file's number.
struct Run {
    number: u64,
    map: Map,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Sorted {
    folder: PathBuf,
    runs: Mutex<Vec<Run>>,
    full: Arc<AtomicUsize>,
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.extend_from_slice(&bytes.map_or(u32::MAX, |b| b.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn take(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let (n, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    let n = u32::from_le_bytes(*n);
    if n == u32::MAX {
        return Some(None);
    }
    let (head, tail) = bytes.split_at(n as usize);
    *bytes = tail;
    Some(Some(head.to_vec()))
}

impl Run {
    fn store(&self, folder: &Path) {
        let mut out = vec![];
        for (from, to) in &self.ranges {
            put(&mut out, Some(from));
            put(&mut out, Some(to));
        }
        put(&mut out, None);
        for (k, v) in &self.map {
            put(&mut out, Some(k));
            put(&mut out, v.as_deref());
        }
        std::fs::write(folder.join(format!("{:06}.sst", self.number)), out).unwrap();
    }

    fn read(number: u64, bytes: &[u8]) -> Run {
        let (mut run, mut bytes) = (Run { number, map: Map::new(), ranges: vec![] }, bytes);
        while let Some(Some(from)) = take(&mut bytes) {
            run.ranges.push((from, take(&mut bytes).unwrap().unwrap()));
        }
        while let Some(k) = take(&mut bytes) {
            run.map.insert(k.unwrap(), take(&mut bytes).unwrap());
        }
        run
    }
}

impl Tiers for Files {
    fn open(&self, folder: &Path) -> Result<Arc<dyn Tier>, Fault> {
        std::fs::create_dir_all(folder).unwrap();
        let names = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        let mut runs: Vec<Run> = names
            .filter_map(|n| n.strip_suffix(".sst").map(|n| n.parse().unwrap()))
            .map(|n: u64| Run::read(n, &std::fs::read(folder.join(format!("{n:06}.sst"))).unwrap()))
            .collect();
        runs.sort_by_key(|r| r.number);
        let next = std::fs::read_to_string(folder.join("NEXT")).ok().and_then(|n| n.parse::<u64>().ok());
        assert_eq!(next.is_some(), !runs.is_empty(), "a checkpoint is whole");
        Ok(Arc::new(Sorted { folder: folder.into(), runs: Mutex::new(runs), full: self.full.clone() }))
    }
}

impl Sorted {
    /// What there is from a key (included) to another (excluded).
    fn all(&self, from: &[u8], to: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = BTreeMap::new();
        for run in self.runs.lock().unwrap().iter() {
            all.retain(|k, _| !run.ranges.iter().any(|(from, to)| from <= k && k < to));
            for (k, v) in run.map.range(from.to_vec()..).take_while(|(k, _)| &k[..] < to) {
                match v {
                    Some(v) => drop(all.insert(k.clone(), v.clone())),
                    None => drop(all.remove(k)),
                }
            }
        }
        all
    }
}

impl Tier for Sorted {
    fn get(&self, keys: &[&[u8]], found: &mut dyn FnMut(usize, &[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        for (i, key) in keys.iter().enumerate() {
            let mut behind = key.to_vec();
            behind.push(0);
            self.all(key, &behind).values().try_for_each(|v| found(i, v))?;
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, Fault>) -> Result<(), Fault> {
        for (k, v) in self.all(from, to) {
            if !visit(&k, &v)? {
                break;
            }
        }
        Ok(())
    }

    fn write<'a>(&self, entries: &mut dyn Iterator<Item = TierEntry<'a>>, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = entries.map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
        assert!(entries.windows(2).all(|w| w[0].0 < w[1].0), "entries come in order, each key once");
        assert!(entries.iter().all(|(k, _)| !ranges.iter().any(|(from, to)| from <= k && k < to)), "none lies in a range");
        if self.full.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Fault::down("no room"));
        }
        let mut runs = self.runs.lock().unwrap();
        let number = runs.last().map_or(1, |r| r.number + 1);
        let run = Run { number, map: entries.into_iter().collect(), ranges: ranges.to_vec() };
        run.store(&self.folder);
        runs.push(run);
        Ok(())
    }

    fn checkpoint(&self, folder: &Path) -> Result<Vec<TierFile>, Fault> {
        if self.runs.lock().unwrap().len() > 5 {
            let all = self.all(&[], &[0xff]);
            let mut runs = self.runs.lock().unwrap();
            let number = runs.last().unwrap().number + 1;
            let whole = Run { number, map: all.into_iter().map(|(k, v)| (k, Some(v))).collect(), ranges: vec![] };
            whole.store(&self.folder);
            runs.drain(..).for_each(|r| std::fs::remove_file(self.folder.join(format!("{:06}.sst", r.number))).unwrap());
            runs.push(whole);
        }
        std::fs::create_dir(folder).unwrap();
        let mut files = vec![];
        for r in self.runs.lock().unwrap().iter() {
            let name = format!("{:06}.sst", r.number);
            std::fs::hard_link(self.folder.join(&name), folder.join(&name)).unwrap();
            files.push(TierFile { name, lasting: true });
        }
        if let Some(last) = files.last() {
            std::fs::write(folder.join("NEXT"), &last.name[..6]).unwrap();
            files.push(TierFile { name: "NEXT".into(), lasting: false });
        }
        Ok(files)
    }

    fn size(&self) -> u64 {
        0
    }
}
