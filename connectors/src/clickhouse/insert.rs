//! Lines of JSON as inserts, each with its token; a refused one is halved until the wrong rows stand alone.

use super::client::{Client, Failure};
use millrace_sdk::Fault;

/// Rows of an insert at most. Below the rows at which the server would cut an insert into several blocks: so an insert is one block,
/// which is there whole or not at all.
pub const MAX_ROWS: usize = 1_000_000;

/// Settings on which the promises rest, for every insert.
const OWN: &[(&str, &str)] = &[
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // Several blocks would have several tokens.
    ("input_format_parallel_parsing", "0"),
    ("max_insert_block_size", "1048449"),
    ("input_format_null_as_default", "1"),
    ("date_time_input_format", "best_effort"),
    ("input_format_skip_unknown_fields", "0"),
];

/// Settings that a topology cannot set.
pub fn owned(name: &str) -> bool {
    name == "insert_deduplication_token" || OWN.iter().any(|(own, _)| *own == name)
}

/// A row as JSON, without the line feed behind it, and whatever its owner knows it by.
pub struct Line<'a, T> {
    pub json: &'a [u8],
    pub row: T,
}

/// Where lines go.
pub struct Target<'a> {
    pub client: &'a Client,
    /// Table and columns.
    pub into: &'a str,
    pub settings: &'a [(String, String)],
}

impl Target<'_> {
    fn settings(&self, token: &str) -> Vec<(String, String)> {
        let own = OWN.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let token = ("insert_deduplication_token".to_string(), token.to_string());
        self.settings.iter().cloned().chain(own).chain([token]).collect()
    }

    /// Inserts the lines; what the server refuses for good goes to `refused`, alone. The token says which lines they are: the same lines
    /// are halved in the same way, so that what an earlier attempt has inserted is known by its token.
    ///
    /// # Errors
    /// What `retry` gives back of a fault that passes; an `Ok` of it is followed by another attempt with the same token.
    pub fn insert<T>(
        &self,
        lines: &[Line<'_, T>],
        token: &str,
        retry: &mut dyn FnMut(Fault) -> Result<(), Fault>,
        refused: &mut dyn FnMut(&T, String),
    ) -> Result<(), Fault> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut body = Vec::with_capacity(lines.iter().map(|l| l.json.len() + 1).sum());
        for line in lines {
            body.extend_from_slice(line.json);
            body.push(b'\n');
        }
        let settings = self.settings(token);
        let why = loop {
            match self.client.insert(self.into, &settings, &body) {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(why)) => break why,
                Err(Failure::Hopeless(fault)) => return Err(fault),
                Err(Failure::Down(fault)) => retry(fault)?,
            }
        };
        drop(body);
        match lines {
            [line] => refused(&line.row, why),
            lines => {
                let (left, right) = lines.split_at(lines.len() / 2);
                self.insert(left, &format!("{token}l"), retry, refused)?;
                self.insert(right, &format!("{token}r"), retry, refused)?;
            }
        }
        Ok(())
    }
}
