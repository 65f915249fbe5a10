//! The bytes of an outbox's chunk: numbers, texts and what a rejected row is known by, one behind the other.

use millrace_sdk::{Fault, Meta};

pub fn put_number(n: u64, out: &mut Vec<u8>) {
    let mut n = n;
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub fn put_i64(n: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&n.to_le_bytes());
}

/// Time and place of the row; its original bytes are gone.
pub fn put_meta(meta: &Meta, out: &mut Vec<u8>) {
    put_i64(meta.time, out);
    for n in [meta.offset, meta.partition.into(), meta.source.into(), meta.flags.into()] {
        put_number(n, out);
    }
}

/// Begins a chunk that is new with the version of its layout; false: it was begun before.
pub fn begin(version: u8, chunk: &mut Vec<u8>) -> bool {
    let new = chunk.is_empty();
    if new {
        chunk.push(version);
    }
    new
}

/// Reads what the functions above wrote.
pub struct Chunk<'a> {
    rest: &'a [u8],
}

fn damaged() -> Fault {
    Fault::refused("a chunk of the outbox is damaged").hint("restore the checkpoint's files, or start from another checkpoint")
}

impl<'a> Chunk<'a> {
    /// # Errors
    /// A chunk of another version, written by another release.
    pub fn open(bytes: &'a [u8], version: u8) -> Result<Chunk<'a>, Fault> {
        let (first, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *first != version {
            let fault = Fault::refused(format!("a chunk of the outbox has layout {first}, this release reads {version}"));
            return Err(fault.hint("publish it with the release that wrote it: start that one, and stop it once its outbox is empty"));
        }
        Ok(Chunk { rest })
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.take(1).map(|b| b[0])
    }

    pub fn number(&mut self) -> Result<u64, Fault> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            n |= u64::from(b & 127) << shift;
            if b < 128 {
                return Ok(n);
            }
        }
        Err(damaged())
    }

    pub fn i64(&mut self) -> Result<i64, Fault> {
        self.take(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let n = self.number()?;
        self.take(usize::try_from(n).map_err(|_| damaged())?)
    }

    pub fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| damaged())
    }

    pub fn meta(&mut self) -> Result<Meta, Fault> {
        let time = self.i64()?;
        let offset = self.number()?;
        let partition = self.number()?.try_into().map_err(|_| damaged())?;
        let source = self.number()?.try_into().map_err(|_| damaged())?;
        let flags = self.number()?.try_into().map_err(|_| damaged())?;
        Ok(Meta { time, offset, partition, source, flags, raw: Meta::NO_RAW })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_and_never_beyond() {
        let meta = Meta { time: i64::MIN, offset: u64::MAX, partition: u32::MAX, source: 7, flags: 1, raw: Meta::NO_RAW };
        let mut bytes = vec![];
        assert!(begin(3, &mut bytes) && !begin(3, &mut bytes));
        for n in [0, 127, 128, u64::MAX] {
            put_number(n, &mut bytes);
        }
        put_bytes("ü".as_bytes(), &mut bytes);
        put_meta(&meta, &mut bytes);
        let read = |bytes: &[u8]| -> Result<(), Fault> {
            let mut c = Chunk::open(bytes, 3)?;
            for n in [0, 127, 128, u64::MAX] {
                assert_eq!(c.number()?, n);
            }
            assert_eq!(c.text()?, "ü");
            assert_eq!(c.meta()?, meta);
            assert!(c.is_empty());
            Ok(())
        };
        read(&bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Chunk::open(&bytes, 4).is_err());
        assert!(Chunk::open(&[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 3).unwrap().number().is_err());
        assert!(Chunk::open(&[3, 9, b'a'], 3).unwrap().bytes().is_err());
    }
}
