//! What a server refused of a chunk, kept beside it until a later checkpoint has taken it up.
//!
//! A chunk that is tried again may be refused otherwise, and files never change: so they are numbered, and the last one counts.

use crate::log::JobLog;
use crate::manifest::damaged;
use millrace_sdk::Fault;
use xxhash_rust::xxh3::xxh3_64;

impl JobLog {
    /// Keeps bytes beside a chunk, in the place of those before.
    pub fn put_refused(&self, chunk: &str, bytes: &[u8]) -> Result<(), Fault> {
        let mut sealed = bytes.to_vec();
        sealed.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
        let (mut number, _) = self.last_refused(chunk)?;
        // Who has the name meanwhile is a forerunner that is being fenced: what it kept is of no more use.
        while !self.storage.create(&self.refused_name(chunk, number), &sealed)? {
            number += 1;
        }
        Ok(())
    }

    /// The bytes beside a chunk; None: nothing was refused.
    pub fn refused(&self, chunk: &str) -> Result<Option<Vec<u8>>, Fault> {
        let (next, bytes) = self.last_refused(chunk)?;
        let Some(bytes) = bytes else { return Ok(None) };
        match bytes.split_last_chunk::<8>() {
            Some((body, sum)) if xxh3_64(body) == u64::from_le_bytes(*sum) => Ok(Some(body.to_vec())),
            _ => {
                Err(damaged(&self.refused_name(chunk, next.saturating_sub(1)), format!("its {} bytes have another checksum", bytes.len())))
            }
        }
    }

    /// As far as it is there, for a chunk that has another name in another log.
    pub(crate) fn copy_refused(&self, chunk: &str, to: &JobLog, name: &str) -> Result<(), Fault> {
        match self.refused(chunk)? {
            Some(bytes) => to.put_refused(name, &bytes),
            None => Ok(()),
        }
    }

    fn refused_name(&self, chunk: &str, number: usize) -> String {
        self.file(&format!("{chunk}-refused-{number}"))
    }

    /// The number behind the last one, and its bytes.
    fn last_refused(&self, chunk: &str) -> Result<(usize, Option<Vec<u8>>), Fault> {
        let (mut number, mut last) = (0, None);
        while let Some(bytes) = self.storage.read(&self.refused_name(chunk, number))? {
            (number, last) = (number + 1, Some(bytes));
        }
        Ok((number, last))
    }
}
