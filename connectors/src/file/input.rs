//! The bytes of a file, plain or decompressed, and how a file is known again.

use super::Compression;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// How many of the first bytes of a file's content make its fingerprint.
pub const HEAD: usize = 1024;

/// An open file. Offsets count bytes of its content, after decompression.
pub struct Input {
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
    next: u64,
    bytes: Bytes,
}

/// What changes when somebody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub len: u64,
    changed: (i64, i64),
}

enum Bytes {
    Plain(File),
    /// Bytes that were read too far wait in `back`, the next of them at its end; `head` holds the first of the content.
    Packed {
        decoder: Box<dyn Read + Send>,
        back: Vec<u8>,
        head: Vec<u8>,
        /// What stopped the decoder: the content ends there.
        broken: Option<io::Error>,
    },
}

/// A file without bytes may become one.
fn begins_as_gzip(file: &File) -> io::Result<bool> {
    let mut begin = vec![];
    pread(file, &mut begin, 2, 0)?;
    Ok([0x1f, 0x8b].starts_with(&begin))
}

impl Input {
    pub fn open(path: &Path, compression: Compression) -> io::Result<Input> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let decoder: Option<Box<dyn Read + Send>> = match compression.of(path) {
            Compression::Gzip if !begins_as_gzip(&file)? => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin as a gzip file"));
            }
            Compression::Gzip => Some(Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, file.try_clone()?)))),
            Compression::Zstd => Some(Box::new(zstd::stream::read::Decoder::new(file.try_clone()?)?)),
            _ => None,
        };
        let bytes = match decoder {
            Some(decoder) => Bytes::Packed { decoder, back: vec![], head: vec![], broken: None },
            None => Bytes::Plain(file),
        };
        Ok(Input { path: path.into(), dev: about.dev(), ino: about.ino(), next: 0, bytes })
    }

    /// Where the next byte is read.
    pub fn offset(&self) -> u64 {
        self.next
    }

    /// Length and time of change of a plain file; None for a compressed one.
    pub fn stamp(&self) -> io::Result<Option<Stamp>> {
        match &self.bytes {
            Bytes::Plain(file) => file.metadata().map(|m| Some(Stamp { len: m.len(), changed: (m.mtime(), m.mtime_nsec()) })),
            Bytes::Packed { .. } => Ok(None),
        }
    }

    /// Appends at most `n` bytes to `out`; 0: the end, for now.
    pub fn fill(&mut self, out: &mut Vec<u8>, n: usize) -> io::Result<usize> {
        let got = match &mut self.bytes {
            Bytes::Plain(file) => pread(file, out, n, self.next)?,
            Bytes::Packed { decoder, back, head, broken } => {
                let begun = out.len();
                if back.is_empty() {
                    if broken.is_none()
                        && let Err(e) = decoder.take(n as u64).read_to_end(out)
                    {
                        // What the disk says is not the data's fault.
                        if e.raw_os_error().is_some() {
                            return Err(e);
                        }
                        *broken = Some(e);
                    }
                } else {
                    let keep = back.len() - n.min(back.len());
                    out.extend(back.drain(keep..).rev());
                }
                let got = &out[begun..];
                if head.len() < HEAD
                    && let Some(more) = got.get(head.len() - self.next as usize..)
                {
                    head.extend_from_slice(&more[..more.len().min(HEAD - head.len())]);
                }
                got.len()
            }
        };
        self.next += got as u64;
        Ok(got)
    }

    /// Why a compressed file cannot be read further, when it is damaged.
    pub fn damage(&self) -> Option<&io::Error> {
        match &self.bytes {
            Bytes::Packed { broken, .. } => broken.as_ref(),
            Bytes::Plain(_) => None,
        }
    }

    /// Gives back bytes that were read too far: the last that `fill` gave.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.next -= bytes.len() as u64;
        if let Bytes::Packed { back, .. } = &mut self.bytes {
            back.extend(bytes.iter().rev());
        }
    }

    /// Goes to an offset; a compressed file can only be read on to it.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        if let Bytes::Plain(_) = self.bytes {
            self.next = offset;
            return Ok(());
        }
        let mut block = Vec::new();
        while self.next < offset {
            block.clear();
            let want = (offset - self.next).min(1 << 20) as usize;
            if self.fill(&mut block, want)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than the saved position"));
            }
        }
        Ok(())
    }

    /// The first bytes of the content, at most [`HEAD`] and at most those before `offset`.
    pub fn head(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        let n = offset.min(HEAD as u64) as usize;
        match &mut self.bytes {
            Bytes::Plain(file) => {
                let mut head = vec![0; n];
                let mut got = 0;
                while got < n {
                    match file.read_at(&mut head[got..], got as u64)? {
                        0 => break,
                        k => got += k,
                    }
                }
                head.truncate(got);
                Ok(head)
            }
            Bytes::Packed { head, .. } => Ok(head[..n.min(head.len())].to_vec()),
        }
    }
}

/// Appends what `pread(2)` gives, without clearing the room first.
fn pread(file: &File, out: &mut Vec<u8>, n: usize, offset: u64) -> io::Result<usize> {
    out.reserve(n);
    let len = out.len();
    loop {
        // SAFETY: `reserve` made room for `n` bytes behind `len`, and pread writes at most `n` there.
        let got = unsafe { libc::pread(file.as_raw_fd(), out.as_mut_ptr().add(len).cast(), n, offset as libc::off_t) };
        match usize::try_from(got) {
            Ok(got) => {
                // SAFETY: pread has written `got` bytes behind `len`.
                unsafe { out.set_len(len + got) };
                return Ok(got);
            }
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
    }
}

/// A place in a file that can be found again after a restart, also when the file was renamed in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub dev: u64,
    pub ino: u64,
    /// Length and xxh3 of the first bytes of the content.
    pub head_len: u16,
    pub head: u64,
    /// Where the next record begins.
    pub offset: u64,
    /// The last path it was read by.
    pub path: PathBuf,
}

impl Mark {
    pub fn of(input: &mut Input, offset: u64) -> io::Result<Mark> {
        let head = input.head(offset)?;
        let (dev, ino, path) = (input.dev, input.ino, input.path.clone());
        Ok(Mark { dev, ino, head_len: head.len() as u16, head: xxh3_64(&head), offset, path })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1u8];
        out.extend_from_slice(&self.dev.to_le_bytes());
        out.extend_from_slice(&self.ino.to_le_bytes());
        out.extend_from_slice(&self.head_len.to_le_bytes());
        out.extend_from_slice(&self.head.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(self.path.as_os_str().as_encoded_bytes());
        out
    }

    /// None: these bytes are no mark of this version.
    pub fn decode(bytes: &[u8]) -> Option<Mark> {
        use std::os::unix::ffi::OsStrExt;
        let word = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
        if bytes.first() != Some(&1) {
            return None;
        }
        Some(Mark {
            dev: word(1)?,
            ino: word(9)?,
            head_len: u16::from_le_bytes(bytes.get(17..19)?.try_into().ok()?),
            head: word(19)?,
            offset: word(27)?,
            path: PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[35..])),
        })
    }

    /// Whether the file at `path` is the marked one: the same first bytes, and the same inode, or the same path, or first bytes
    /// enough to tell files apart (it was copied or compressed).
    pub fn is(&self, path: &Path, compression: Compression) -> bool {
        let Ok(mut input) = Input::open(path, compression) else { return false };
        let same = (input.dev, input.ino) == (self.dev, self.ino);
        if !(same || path == self.path || self.head_len as usize == HEAD) {
            return false;
        }
        self.holds(&mut input)
    }

    /// Whether the content still begins with the marked bytes.
    pub fn holds(&self, input: &mut Input) -> bool {
        let n = self.head_len as usize;
        if let Bytes::Packed { .. } = input.bytes {
            let mut first = Vec::new();
            let at = input.offset();
            while at == 0 && first.len() < n {
                match input.fill(&mut first, n) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            input.unread(&first);
        }
        input.head(n as u64).is_ok_and(|head| head.len() == n && xxh3_64(&head) == self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn unread_bytes_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..5000u32).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        let (plain, gz, zst) = (dir.path().join("a"), dir.path().join("a.gz"), dir.path().join("a.zst"));
        std::fs::write(&plain, &text).unwrap();
        let mut e = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        e.write_all(&text).unwrap();
        e.finish().unwrap();
        std::fs::write(&zst, zstd::encode_all(&text[..], 1).unwrap()).unwrap();
        let mut marks = vec![];
        for path in [&plain, &gz, &zst] {
            let mut input = Input::open(path, Compression::Auto).unwrap();
            let (mut all, mut block, mut step) = (vec![], vec![], 1);
            loop {
                block.clear();
                if input.fill(&mut block, 100 + step % 700).unwrap() == 0 {
                    break;
                }
                let keep = block.len() - (step * 7) % block.len();
                input.unread(&block[keep..]);
                all.extend_from_slice(&block[..keep]);
                assert_eq!(input.offset(), all.len() as u64);
                step += 1;
            }
            assert_eq!(all, text, "{path:?}");
            let mark = Mark::of(&mut input, 4000).unwrap();
            assert_eq!(Mark::decode(&mark.encode()), Some(mark.clone()));
            marks.push((mark.head_len, mark.head));
            assert!([&plain, &gz, &zst].iter().all(|p| mark.is(p, Compression::Auto)), "the content is what counts");
            let mut again = Input::open(path, Compression::Auto).unwrap();
            again.seek(4000).unwrap();
            block.clear();
            again.fill(&mut block, 50).unwrap();
            assert_eq!(block, &text[4000..4050]);
        }
        assert_eq!(marks[0], marks[1]);
        assert_eq!(marks[0], marks[2]);
        assert_eq!(Mark::decode(b"\x02"), None);
        assert_eq!(Mark::decode(b"\x01abc"), None);
    }
}
