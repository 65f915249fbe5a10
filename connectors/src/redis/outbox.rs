//! Exactly-once: a chunk's commands and the writer's marker, in one script.
//!
//! The hash `millrace:outbox:WRITER` holds `fence`, a number that grows with every process that takes the writer over, `marker`, that
//! of the chunk applied last, and `refused`, the commands of that chunk that the server did not take. The script changes nothing
//! unless its process holds the fence and the marker is greater than the last. Redis runs a script as a whole and writes it as one
//! transaction to its log and its replicas, so chunk and marker are there together or not at all, also after a crash of the
//! server. A forerunner that repeats a chunk late changes nothing: the fence is not its own any more.

use super::client::{Client, Verdict, bulk, head, judge, judge_answer};
use super::commands::unpack;
use crate::chunk::{self, Chunk};
use millrace_sdk::operator::Reject;
use millrace_sdk::{Fault, Meta, Outbox, Record, point};
use redis::Value;
use std::collections::HashMap;

/// KEYS: the writer's hash. ARGV: fence, marker (20 digits), then each command as the number of its words and the words.
///
/// The marker is written first: if the server cannot write at all (memory, a replica), the script ends there and has done nothing;
/// once a script has written, Redis lets it finish.
const SCRIPT: &str = r"
local held = redis.call('HMGET', KEYS[1], 'fence', 'marker', 'refused')
if held[1] ~= ARGV[1] then return redis.error_reply('FENCED another process has taken over') end
if held[2] and held[2] >= ARGV[2] then return held[2] == ARGV[2] and held[3] or '' end
redis.call('HSET', KEYS[1], 'marker', ARGV[2], 'refused', '')
local at, command, refused = 3, 0, {}
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local answer = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(answer) == 'table' and answer.err then refused[#refused + 1] = command .. ' ' .. answer.err end
  at, command = at + words + 1, command + 1
end
if #refused > 0 then redis.call('HSET', KEYS[1], 'refused', table.concat(refused, '\n')) end
return table.concat(refused, '\n')
";

/// The layout of chunks.
const VERSION: u8 = 1;

/// Begins a chunk, or goes on with it.
pub fn begin(chunk: &mut Vec<u8>) {
    chunk::begin(VERSION, chunk);
}

/// Appends a row to a chunk: its JSON is for the dead letter.
pub fn encode(row: &Record<'_>, json: &[u8], commands: u8, packed: &[u8], chunk: &mut Vec<u8>) {
    chunk::put_meta(row.meta(), chunk);
    chunk.push(commands);
    chunk::put_bytes(json, chunk);
    chunk::put_bytes(packed, chunk);
}

/// A row of a chunk.
struct Encoded<'a> {
    meta: Meta,
    commands: u8,
    json: &'a [u8],
    packed: &'a [u8],
}

fn decode(chunk: &[u8]) -> Result<Vec<Encoded<'_>>, Fault> {
    let mut rows = vec![];
    if !chunk.is_empty() {
        let mut chunk = Chunk::open(chunk, VERSION)?;
        while !chunk.is_empty() {
            rows.push(Encoded { meta: chunk.meta()?, commands: chunk.byte()?, json: chunk.bytes()?, packed: chunk.bytes()? });
        }
    }
    Ok(rows)
}

/// What publishes the outbox of a Redis sink.
pub struct RedisOutbox {
    client: Client,
    /// Fences held, by writer.
    held: HashMap<String, Vec<u8>>,
    script: redis::Script,
}

fn hash(writer: &str) -> Vec<u8> {
    format!("millrace:outbox:{writer}").into_bytes()
}

impl RedisOutbox {
    pub fn new(client: Client) -> RedisOutbox {
        RedisOutbox { client, held: HashMap::new(), script: redis::Script::new(SCRIPT) }
    }

    /// The call of the script, packed.
    fn call(&self, writer: &str, fence: &[u8], marker: u64, rows: &[Encoded<'_>]) -> Result<Vec<u8>, Fault> {
        let (mut words, mut body) = (0, vec![]);
        for row in rows {
            unpack(row.packed, |n, command| {
                bulk(n.to_string().as_bytes(), &mut body);
                body.extend_from_slice(command);
                words += n + 1;
            })?;
        }
        let mut packed = vec![];
        head(b'*', 6 + words, &mut packed);
        for word in [b"EVALSHA", self.script.get_hash().as_bytes(), b"1", &hash(writer), fence, &digits(marker)] {
            bulk(word, &mut packed);
        }
        packed.append(&mut body);
        Ok(packed)
    }

    fn run(&self, packed: &[u8]) -> Result<Value, Fault> {
        let one = |mut answers: Vec<Value>| answers.pop().unwrap_or(Value::Nil);
        // Harmless to send again: the second time the marker is there.
        let mut answer = one(self.client.send(packed, 1, true)?);
        if matches!(&answer, Value::ServerError(e) if e.code() == "NOSCRIPT") {
            self.client.ask(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()])?;
            answer = one(self.client.send(packed, 1, true)?);
        }
        match answer {
            Value::ServerError(e) if e.code() == "FENCED" => {
                let fault = Fault::refused(format!("another process has taken over the outbox in Redis at `{}`", self.client.address()));
                Err(fault.hint("two instances of this job run, or a marker was deleted by hand"))
            }
            // What ends a script ended it at its first write: nothing was done.
            Value::ServerError(e) => Err(self.client.fault(judge_answer(&e))),
            answer => Ok(answer),
        }
    }
}

/// Comparable as text.
fn digits(marker: u64) -> Vec<u8> {
    format!("{marker:020}").into_bytes()
}

impl Outbox for RedisOutbox {
    fn fence(&mut self, writers: &[String]) -> Result<(), Fault> {
        let memory = self.client.info_of("memory");
        let of = |key: &str| memory.get(key).map(String::as_str).unwrap_or_default();
        if of("maxmemory_policy").starts_with("allkeys") && of("maxmemory") != "0" {
            tracing::warn!(
                "Redis at `{}` evicts any key when its memory is full ({}): a marker that is evicted stops the job",
                self.client.address(),
                of("maxmemory_policy")
            );
        }
        for writer in writers {
            match self.client.ask(&[b"HINCRBY", &hash(writer), b"fence", b"1"])? {
                Value::Int(n) => self.held.insert(writer.clone(), n.to_string().into_bytes()),
                other => return Err(Fault::bug(format!("Redis answered HINCRBY with {other:?}"))),
            };
            point::reach("fence-half");
        }
        Ok(())
    }

    fn applied(&mut self, writer: &str) -> Result<Option<u64>, Fault> {
        match self.client.ask(&[b"HGET", &hash(writer), b"marker"])? {
            Value::Nil => Ok(None),
            Value::BulkString(text) => {
                let marker = std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok());
                let what = || Fault::refused(format!("the marker of `{writer}` in Redis at `{}` is no number", self.client.address()));
                marker.map(Some).ok_or_else(what)
            }
            other => Err(Fault::bug(format!("Redis answered HGET with {other:?}"))),
        }
    }

    fn refused_again(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        self.apply(writer, chunk, marker, rejects)
    }

    /// Also says again what the server refused when the chunk was applied before.
    fn apply(&mut self, writer: &str, chunk: &[u8], marker: u64, rejects: &mut Vec<Reject>) -> Result<(), Fault> {
        let Some(fence) = self.held.get(writer) else {
            return Err(Fault::bug(format!("the writer `{writer}` of a Redis outbox was not fenced")));
        };
        let rows = decode(chunk)?;
        let call = self.call(writer, fence, marker, &rows)?;
        point::reach("txn-begun");
        let answer = self.run(&call)?;
        point::reach("txn-committed");
        let refused = match answer {
            Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
            Value::SimpleString(text) => text,
            Value::Nil | Value::Okay => String::new(),
            other => return Err(Fault::bug(format!("a script in Redis has answered {other:?}"))),
        };
        let mut refused = refused.lines().filter_map(|l| l.split_once(' ')).filter_map(|(n, why)| Some((n.parse::<usize>().ok()?, why)));
        let mut next = refused.next();
        let mut end = 0;
        for row in &rows {
            end += usize::from(row.commands);
            let mut first = None;
            while let Some((n, why)) = next
                && n < end
            {
                first = first.or(Some(why));
                next = refused.next();
            }
            if let Some(why) = first {
                let (code, text) = why.split_once(' ').unwrap_or((why, ""));
                if let verdict @ Verdict::Hopeless(_) = judge(code, text) {
                    tracing::error!("{}", self.client.fault(verdict).message);
                }
                rejects.push(Reject { is_row: true, ..Reject::new("refused-by-redis", why, row.meta, row.json) });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::client::pack;
    use millrace_sdk::{BatchBuilder, Schema};

    #[test]
    fn chunks() {
        let mut rows = BatchBuilder::new(Schema::new(vec![]));
        let meta = Meta { time: -5, offset: 6, partition: 7, source: 8, flags: 1, ..Meta::default() };
        rows.end_row(meta);
        let batch = rows.finish();
        let (mut packed, mut chunk) = (vec![], vec![]);
        pack(&[b"DEL", b"k"], &mut packed);
        begin(&mut chunk);
        assert_eq!(decode(&chunk).ok().map(|rows| rows.len()), Some(0));
        encode(&batch.row(0), b"{}", 1, &packed, &mut chunk);
        encode(&batch.row(0), b"", 1, &packed, &mut chunk);
        let rows = decode(&chunk).ok().unwrap();
        let shown: Vec<_> = rows.iter().map(|r| (r.meta, r.commands, r.json, r.packed)).collect();
        assert_eq!(shown, [(meta, 1, &b"{}"[..], &packed[..]), (meta, 1, b"", &packed)]);
        assert!(decode(&[]).ok().unwrap().is_empty());
        assert!(decode(&chunk[..chunk.len() - 1]).is_err());
    }
}
