//! The binary protocol with a limit on every announced length: the library allocates whatever the wire says.

use std::io::Read;
use thrift::protocol::{
    TBinaryInputProtocol, TFieldIdentifier, TInputProtocol, TListIdentifier, TMapIdentifier, TMessageIdentifier, TMessageType,
    TSetIdentifier, TStructIdentifier,
};
use thrift::{ProtocolError, ProtocolErrorKind, Result};

/// Bytes of one value at most: HBase's own limit for a cell is 10 MB (`hbase.client.keyvalue.maxsize`).
const MAX_BYTES: i32 = 64 << 20;
/// Elements of one list or map at most.
const MAX_ITEMS: i32 = 1 << 20;

pub struct Capped<R: Read> {
    inner: TBinaryInputProtocol<R>,
}

impl<R: Read> Capped<R> {
    pub fn new(transport: R) -> Capped<R> {
        Capped { inner: TBinaryInputProtocol::new(transport, true) }
    }

    fn length(&mut self, max: i32, what: &str) -> Result<i32> {
        let n = self.inner.read_i32()?;
        checked(n, max, what)
    }
}

fn checked(n: i32, max: i32, what: &str) -> Result<i32> {
    if (0..=max).contains(&n) { Ok(n) } else { Err(broken(ProtocolErrorKind::SizeLimit, format!("{what} of length {n} announced"))) }
}

fn broken(kind: ProtocolErrorKind, message: String) -> thrift::Error {
    thrift::Error::Protocol(ProtocolError { kind, message })
}

impl<R: Read> TInputProtocol for Capped<R> {
    fn read_message_begin(&mut self) -> Result<TMessageIdentifier> {
        let head = self.inner.read_i32()? as u32;
        if head >> 16 != 0x8001 {
            return Err(broken(ProtocolErrorKind::BadVersion, "the answer is not of the Thrift binary protocol, buffered".into()));
        }
        let kind = TMessageType::try_from(head as u8)?;
        let name = self.read_string()?;
        Ok(TMessageIdentifier::new(name, kind, self.inner.read_i32()?))
    }
    fn read_bytes(&mut self) -> Result<Vec<u8>> {
        let n = self.length(MAX_BYTES, "a value")?;
        let mut bytes = Vec::new();
        let got = Read::by_ref(&mut self.inner.transport).take(n as u64).read_to_end(&mut bytes)?;
        if got < n as usize {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes)
    }
    fn read_string(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.read_bytes()?)?)
    }
    fn read_list_begin(&mut self) -> Result<TListIdentifier> {
        let list = self.inner.read_list_begin()?;
        checked(list.size, MAX_ITEMS, "a list")?;
        Ok(list)
    }
    fn read_set_begin(&mut self) -> Result<TSetIdentifier> {
        let set = self.inner.read_set_begin()?;
        checked(set.size, MAX_ITEMS, "a set")?;
        Ok(set)
    }
    fn read_map_begin(&mut self) -> Result<TMapIdentifier> {
        let map = self.inner.read_map_begin()?;
        checked(map.size, MAX_ITEMS, "a map")?;
        Ok(map)
    }

    fn read_message_end(&mut self) -> Result<()> {
        self.inner.read_message_end()
    }
    fn read_struct_begin(&mut self) -> Result<Option<TStructIdentifier>> {
        self.inner.read_struct_begin()
    }
    fn read_struct_end(&mut self) -> Result<()> {
        self.inner.read_struct_end()
    }
    fn read_field_begin(&mut self) -> Result<TFieldIdentifier> {
        self.inner.read_field_begin()
    }
    fn read_field_end(&mut self) -> Result<()> {
        self.inner.read_field_end()
    }
    fn read_bool(&mut self) -> Result<bool> {
        self.inner.read_bool()
    }
    fn read_i8(&mut self) -> Result<i8> {
        self.inner.read_i8()
    }
    fn read_i16(&mut self) -> Result<i16> {
        self.inner.read_i16()
    }
    fn read_i32(&mut self) -> Result<i32> {
        self.inner.read_i32()
    }
    fn read_i64(&mut self) -> Result<i64> {
        self.inner.read_i64()
    }
    fn read_double(&mut self) -> Result<f64> {
        self.inner.read_double()
    }
    fn read_list_end(&mut self) -> Result<()> {
        self.inner.read_list_end()
    }
    fn read_set_end(&mut self) -> Result<()> {
        self.inner.read_set_end()
    }
    fn read_map_end(&mut self) -> Result<()> {
        self.inner.read_map_end()
    }
    fn read_byte(&mut self) -> Result<u8> {
        self.inner.read_byte()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_lengths_are_refused_without_allocating() {
        for length in [-1i32, i32::MIN, MAX_BYTES + 1, i32::MAX] {
            assert!(Capped::new(&length.to_be_bytes()[..]).read_bytes().is_err());
            let list = [&[12u8][..], &length.to_be_bytes()].concat();
            assert!(Capped::new(&list[..]).read_list_begin().is_err());
            let map = [&[11u8, 12][..], &length.to_be_bytes()].concat();
            assert!(Capped::new(&map[..]).read_map_begin().is_err());
        }
        let cut = [&MAX_BYTES.to_be_bytes()[..], b"ab"].concat();
        assert!(Capped::new(&cut[..]).read_bytes().is_err());
        assert_eq!(Capped::new(&b"\0\0\0\x02abc"[..]).read_bytes().unwrap(), b"ab");
        let answer = Capped::new(&b"HTTP/1.1 400 Bad Request\r\n"[..]).read_message_begin();
        assert!(matches!(answer, Err(thrift::Error::Protocol(e)) if e.kind == ProtocolErrorKind::BadVersion));
    }
}
