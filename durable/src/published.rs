//! What is known to be published beyond what manifests say: a manifest is written before its output is.

use crate::log::JobLog;
use crate::manifest::{Manifest, Record, seal, unseal};
use millrace_sdk::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What lies in `published`, beside the slots.
#[derive(Serialize, Deserialize)]
struct Published {
    slot: u64,
}

impl JobLog {
    /// Remembers that all output up to this manifest is published and nothing of it is left to do: its run has ended in order.
    pub fn all_published(&self, slot: u64) -> Result<(), Fault> {
        self.storage.replace(&self.published_name(), &seal(&Published { slot }))
    }

    /// Rows of a manifest's output that nobody has said to be published, by sink.
    pub fn unpublished(&self, m: &Manifest) -> Result<BTreeMap<String, u64>, Fault> {
        let said = self.storage.read(&self.published_name())?;
        // Damage here takes away a piece of knowledge without which all goes as after a crash.
        let ended = said.and_then(|bytes| serde_json::from_slice::<Published>(unseal("published", &bytes).ok()?).ok());
        let mut left = BTreeMap::new();
        if ended.is_some_and(|p| p.slot >= m.slot) || m.chunks().next().is_none() {
            return Ok(left);
        }
        let mut applied: BTreeMap<(String, String), u64> = BTreeMap::new();
        for slot in self.slots()?.into_iter().filter(|s| *s > m.slot) {
            let later = match self.read(slot) {
                Ok(Record::Manifest(later)) => later,
                Ok(Record::Generation(_) | Record::Verdict(_)) => continue,
                Err(f) if f.kind == FaultKind::Data => continue,
                Err(f) => return Err(f),
            };
            for (s, (w, state)) in later.sinks.into_iter().flat_map(|s| s.writers.into_iter().map(move |w| (s.name.clone(), w))) {
                let known = applied.entry((s, w)).or_default();
                *known = state.applied.max(*known);
            }
        }
        let known = |s: &str, w: &str| applied.get(&(s.to_string(), w.to_string())).copied().unwrap_or(0);
        for (sink, _, chunk) in m.chunks().filter(|(s, w, c)| c.marker > known(s, w)) {
            *left.entry(sink.to_string()).or_default() += chunk.rows;
        }
        Ok(left)
    }

    fn published_name(&self) -> String {
        format!("{}/published", self.root())
    }
}
