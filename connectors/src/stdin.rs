//! Lines from the standard input.

use crate::charset::Charset;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use millrace_sdk::operator::{MAX_REJECT_BYTES, Reject};
use millrace_sdk::source::{Discovery, Pull, Waker};
use millrace_sdk::{
    Bind, Demand, Fault, Field, Meta, Part, PartitionInfo, Place, Poll, Position, Problem, Schema, SchemaRef, Source, SourceContext,
    SourceFactory, SourceSpec, Type,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, Read};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Reads lines from the standard input until it is closed.
///
/// Each line, without its line feed, is a record whose text is the field `_value`; a last line without a line feed counts too.
/// A line longer than `run_env.max_record` goes to the dead letter with its full length and hash, and is never held whole.
/// The standard input is read by one worker, and by one stream of a job.
///
/// Guarantee: what was read cannot be read again, so a job that reads it may lose rows in a failure (`source-not-replayable`).
///
/// # Example
/// Run it with an input: `printf 'a=1\nb=2\n' | millrace run topology.yaml`. Without any line it prints nothing:
///
/// ```yaml
/// name: count-lines
/// streams:
///   lines: {config: {source: {type: Stdin, config: {}}}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdin {
    /// Encoding of the text, a label of the WHATWG encoding standard. Default utf-8.
    #[serde(default = "utf8")]
    charset: String,
}

fn utf8() -> String {
    "utf-8".into()
}

millrace_sdk::inventory::submit! { Part::source::<Stdin>("Stdin", &[]) }

impl SourceSpec for Stdin {
    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        false
    }

    fn bind(&self, _: &Bind<'_>, _: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let charset = Charset::parse(&self.charset).map_err(|p| vec![p])?;
        if !charset.has_lines() {
            let what = format!("lines cannot be told apart in {}", charset.name());
            return Err(vec![Problem::error("charset-without-lines", Place::at(["charset"]), what)]);
        }
        Ok((Schema::new(vec![Field::new("_value", Type::Bytes)]), Arc::new(Factory { charset })))
    }
}

struct Factory {
    charset: Charset,
}

impl SourceFactory for Factory {
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        if !cx.assignment.mine(0) {
            return Ok(Box::new(Lines {
                chunks: None,
                chunk: Chunk::default(),
                at: 0,
                next: 0,
                told: true,
                source: cx.source,
                charset: self.charset,
            }));
        }
        // Four reads of at most 64 KiB wait here; the pipe holds the writer back.
        let (send, chunks) = bounded(4);
        let (waker, max) = (cx.waker, cx.env.max_record);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || read(io::stdin().lock(), max, &send, &waker))
            .map_err(|e| Fault::refused(format!("no thread for the standard input: {e}")))?;
        Ok(Box::new(Lines {
            chunks: Some(chunks),
            chunk: Chunk::default(),
            at: 0,
            next: 0,
            told: false,
            source: cx.source,
            charset: self.charset,
        }))
    }
}

/// What one read completed.
#[derive(Default)]
struct Chunk {
    text: Vec<u8>,
    lines: Vec<Line>,
    error: Option<String>,
}

enum Line {
    /// It ends here in the chunk's text and begins where the one before it ended.
    Whole { end: usize },
    /// Too long: its first bytes end here in the text.
    Long { end: usize, length: u64, hash: u64 },
}

/// Cuts a stream of bytes into lines, holding no more than `max` bytes of one.
struct Cutter {
    max: usize,
    part: Vec<u8>,
    long: Option<(Xxh3, u64)>,
}

impl Cutter {
    fn new(max: usize) -> Cutter {
        Cutter { max, part: vec![], long: None }
    }

    fn take(&mut self, mut bytes: &[u8], chunk: &mut Chunk) {
        while let Some(i) = memchr::memchr(b'\n', bytes) {
            self.add(&bytes[..i]);
            self.end(chunk);
            bytes = &bytes[i + 1..];
        }
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some((hash, length)) = &mut self.long {
            hash.update(bytes);
            *length += bytes.len() as u64;
        } else if self.part.len() + bytes.len() > self.max {
            let mut hash = Xxh3::new();
            hash.update(&self.part);
            hash.update(bytes);
            self.long = Some((hash, (self.part.len() + bytes.len()) as u64));
            let room = MAX_REJECT_BYTES.saturating_sub(self.part.len());
            self.part.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.part.truncate(MAX_REJECT_BYTES);
        } else {
            self.part.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, chunk: &mut Chunk) {
        chunk.text.extend_from_slice(&self.part);
        let end = chunk.text.len();
        chunk.lines.push(match self.long.take() {
            Some((hash, length)) => Line::Long { end, length, hash: hash.digest() },
            None => Line::Whole { end },
        });
        self.part.clear();
        self.part.shrink_to(64 << 10);
    }

    /// The last line, if it lacks its line feed.
    fn finish(&mut self, chunk: &mut Chunk) {
        if !self.part.is_empty() || self.long.is_some() {
            self.end(chunk);
        }
    }
}

fn read(mut from: impl Read, max: usize, to: &Sender<Chunk>, waker: &Waker) {
    let mut cutter = Cutter::new(max);
    let mut block = vec![0; 64 << 10];
    loop {
        let mut chunk = Chunk::default();
        let over = match from.read(&mut block) {
            Ok(0) => {
                cutter.finish(&mut chunk);
                true
            }
            Ok(n) => {
                cutter.take(&block[..n], &mut chunk);
                false
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                chunk.error = Some(e.to_string());
                true
            }
        };
        if (!chunk.lines.is_empty() || chunk.error.is_some()) && to.send(chunk).is_err() {
            return;
        }
        if over {
            break;
        }
        waker();
    }
}

struct Lines {
    /// None: another instance reads it.
    chunks: Option<Receiver<Chunk>>,
    chunk: Chunk,
    /// Lines of the chunk that were delivered.
    at: usize,
    /// Number of the next line.
    next: u64,
    told: bool,
    source: u16,
    charset: Charset,
}

impl Source for Lines {
    fn discover(&mut self) -> Result<Discovery, Fault> {
        let new = if std::mem::replace(&mut self.told, true) { vec![] } else { vec![PartitionInfo { id: 0, name: "stdin".into() }] };
        Ok(Discovery { new, complete: true })
    }

    fn seek(&mut self, _: u32, _: &Position) -> Result<(), Fault> {
        Err(Fault::refused("the standard input cannot be read again from a saved position"))
    }

    fn poll(&mut self, partition: u32, pull: &mut Pull<'_>) -> Result<Poll, Fault> {
        let Some(chunks) = &self.chunks else { return Ok(Poll::Ended) };
        let first = pull.rows.len() + pull.rejects.len();
        loop {
            if self.at == self.chunk.lines.len() {
                self.chunk = match chunks.try_recv() {
                    Ok(chunk) => chunk,
                    Err(TryRecvError::Empty) => return Ok(Poll::Pending),
                    Err(TryRecvError::Disconnected) => return Ok(Poll::Ended),
                };
                self.at = 0;
                if let Some(e) = &self.chunk.error {
                    return Err(Fault::refused(format!("cannot read the standard input: {e}")));
                }
            }
            let mut begin = match self.at.checked_sub(1).map(|i| &self.chunk.lines[i]) {
                Some(Line::Whole { end } | Line::Long { end, .. }) => *end,
                None => 0,
            };
            while let Some(line) = self.chunk.lines.get(self.at) {
                if pull.rows.len() + pull.rejects.len() - first >= pull.max_rows || pull.rows.text_len() >= pull.max_bytes {
                    return Ok(Poll::Ready);
                }
                let mut meta = Meta { offset: self.next, partition, source: self.source, ..Meta::default() };
                let (Line::Whole { end } | Line::Long { end, .. }) = *line;
                let bytes = &self.chunk.text[begin..end];
                match line {
                    Line::Whole { .. } => match self.charset.push(bytes, pull.rows) {
                        Ok(raw) => {
                            meta.raw = raw;
                            pull.rows.end_source_row(meta);
                        }
                        Err(e) => pull.rejects.push(Reject::new("invalid-text", e, meta, bytes)),
                    },
                    &Line::Long { length, hash, .. } => {
                        let message = format!("the line has {length} bytes, more than max_record");
                        pull.rejects.push(Reject { length, hash, ..Reject::new("record-too-long", message, meta, bytes) });
                    }
                }
                begin = end;
                self.at += 1;
                self.next += 1;
            }
        }
    }

    fn position(&mut self, _: u32) -> Position {
        Position(self.next.to_le_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counted::testing::poll;

    /// Gives a few bytes a read.
    struct Drops<'a>(&'a [u8], usize);
    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let long = "x".repeat(200_000);
        for (text, max, want) in [
            ("", 10, vec![]),
            ("a\n\nb", 10, vec!["a", "", "b"]),
            ("a\r\nb\n", 10, vec!["a\r", "b"]),
            ("1234567890\n12345678901\nz\n", 10, vec!["1234567890", "!12345678901", "z"]),
            (&*format!("{long}\nb\n"), 100_000, vec![&*format!("!{}", &long[..MAX_REJECT_BYTES]), "b"]),
        ] {
            for step in [1, 3, 7, 70_000] {
                let (send, chunks) = bounded(1 << 20);
                read(Drops(text.as_bytes(), step), max, &send, &(Arc::new(|| {}) as Waker));
                drop(send);
                let schema = Schema::new(vec![Field::new("_value", Type::Bytes)]);
                let mut lines = Lines {
                    chunks: Some(chunks),
                    chunk: Chunk::default(),
                    at: 0,
                    next: 0,
                    told: false,
                    source: 1,
                    charset: Charset::default(),
                };
                let mut got: Vec<(u64, String)> = vec![];
                loop {
                    let (state, batch, rejects) = poll(&mut lines, 0, &schema, 2);
                    for r in batch.rows() {
                        got.push((
                            r.meta().offset,
                            String::from_utf8_lossy(&batch.text()[r.meta().raw.off as usize..][..r.meta().raw.len as usize]).into(),
                        ));
                    }
                    for r in rejects {
                        assert_eq!((r.reason, r.length), ("record-too-long", if max == 10 { 11 } else { 200_000 }));
                        assert_eq!(r.hash, xxhash_rust::xxh3::xxh3_64(if max == 10 { b"12345678901" } else { long.as_bytes() }));
                        got.push((r.meta.offset, format!("!{}", String::from_utf8(r.body).unwrap())));
                    }
                    if state == Poll::Ended {
                        break;
                    }
                }
                got.sort_unstable();
                assert_eq!(got.iter().map(|g| &*g.1).collect::<Vec<_>>(), want, "step {step}");
                assert!(got.iter().enumerate().all(|(i, g)| g.0 == i as u64));
            }
        }
    }
}
