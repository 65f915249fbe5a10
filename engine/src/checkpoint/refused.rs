//! Rows that a server refused when their outbox was published: kept beside the chunk, and handed back to the sink, by which they go to the
//! dead letter with the next checkpoint.

use millrace_durable::{Chunk, JobLog};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::KeepRefused;
use millrace_sdk::{Fault, Meta};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Refused rows of chunks on their way back to the sink, and the marker of the newest of these chunks.
#[derive(Default)]
pub struct Refused {
    pub rejects: Vec<Reject>,
    pub marker: u64,
}

/// A reject as it lies in storage.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    port: String,
    reason: String,
    message: String,
    time: i64,
    offset: u64,
    partition: u32,
    source: u16,
    flags: u16,
    /// Latin 1, so that all bytes pass as text.
    body: String,
    is_row: bool,
    length: u64,
    hash: u64,
}

/// A name that lives as long as the rejects that carry it: few, as they come from the parts' own code.
fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(known) = names.iter().find(|n| **n == name) {
        return known;
    }
    let name: &'static str = Box::leak(name.to_string().into_boxed_str());
    names.push(name);
    name
}

pub fn encode(rejects: &[Reject]) -> Vec<u8> {
    let kept = rejects.iter().map(|r| Kept {
        port: r.port.into(),
        reason: r.reason.into(),
        message: r.message.clone(),
        time: r.meta.time,
        offset: r.meta.offset,
        partition: r.meta.partition,
        source: r.meta.source,
        flags: r.meta.flags,
        body: r.body.iter().map(|b| char::from(*b)).collect(),
        is_row: r.is_row,
        length: r.length,
        hash: r.hash,
    });
    serde_json::to_vec(&kept.collect::<Vec<_>>()).expect("names and numbers are always JSON")
}

pub fn decode(bytes: &[u8]) -> Result<Vec<Reject>, Fault> {
    let kept: Vec<Kept> = serde_json::from_slice(bytes)
        .map_err(|e| Fault::data("refused rows beside an outbox cannot be read: another release wrote them").detail(e.to_string()))?;
    let reject = |k: Kept| Reject {
        port: lasting(&k.port),
        reason: lasting(&k.reason),
        message: k.message,
        meta: Meta { time: k.time, offset: k.offset, partition: k.partition, source: k.source, flags: k.flags, ..Meta::default() },
        body: k.body.chars().map(|c| c as u8).collect(),
        is_row: k.is_row,
        length: k.length,
        hash: k.hash,
    };
    Ok(kept.into_iter().map(reject).collect())
}

/// Which chunk a writer's marker means, for those who know the marker alone; and what was kept of them already.
#[derive(Default)]
pub struct Keeper {
    files: Mutex<HashMap<(String, u64), (String, Vec<u8>)>>,
}

impl Keeper {
    /// A chunk is going to be published.
    pub fn expect(&self, writer: &str, chunk: &Chunk) {
        let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
        files.entry((writer.into(), chunk.marker)).or_insert_with(|| (chunk.file.name.clone(), vec![]));
    }

    /// It is published with these rows refused: they are safe when this returns.
    pub fn done(&self, log: &JobLog, writer: &str, chunk: &Chunk, rejects: &[Reject], before: bool) -> Result<(), Fault> {
        let kept =
            self.files.lock().unwrap_or_else(|e| e.into_inner()).get(&(writer.to_string(), chunk.marker)).cloned().unwrap_or_default().1;
        let bytes = if rejects.is_empty() { vec![] } else { encode(rejects) };
        if kept != bytes || (before && kept.is_empty()) {
            log.put_refused(&chunk.file.name, if bytes.is_empty() { b"[]" } else { &bytes })?;
        }
        self.files.lock().unwrap_or_else(|e| e.into_inner()).remove(&(writer.to_string(), chunk.marker));
        Ok(())
    }

    /// What an outbox calls before it makes a chunk visible.
    pub fn hook(self: &Arc<Self>, log: &Arc<JobLog>) -> KeepRefused {
        let (keeper, log) = (self.clone(), log.clone());
        Arc::new(move |writer, marker, rejects| {
            let mut files = keeper.files.lock().unwrap_or_else(|e| e.into_inner());
            let Some((name, kept)) = files.get_mut(&(writer.to_string(), marker)) else { return Ok(()) };
            let bytes = encode(rejects);
            if *kept != bytes {
                log.put_refused(name, &bytes)?;
                *kept = bytes;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_there_and_back() {
        let meta = Meta { time: -5, offset: u64::MAX, partition: 7, source: 8, flags: 1, ..Meta::default() };
        let all: Vec<u8> = (0..=255).collect();
        let rejects = vec![
            Reject { is_row: true, ..Reject::new("too-large", "1 > 0 \u{4e2d}", meta, &all) },
            Reject::new("refused", "", Meta::default(), b""),
        ];
        assert_eq!(decode(&encode(&rejects)).unwrap(), rejects);
        assert!(decode(b"{").is_err());
    }
}
