//! Frames: length (u32), xxh3 (u64) and bytes, little endian. What arrives damaged is an error before anybody looks at it.

use crate::control::Shared;
use millrace_sdk::{Fault, Key};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use timely::communication::allocator::zero_copy::stream::Stream;

/// Longest frame of the dataflow; more is cut into several.
const DATA: usize = 256 << 10;
/// Longest message of a control connection: the answers of sources with very many partitions.
const CONTROL: usize = 256 << 20;
const HEAD: usize = 12;

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame is damaged: {what}"))
}

pub fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&Key::hash(bytes).to_le_bytes());
    to.write_all(&head)?;
    to.write_all(bytes)
}

/// Reads a frame into `bytes`; false: the connection ended before it.
fn read_up_to(from: &mut impl Read, bytes: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut head = [0; HEAD];
    let mut got = 0;
    while got < HEAD {
        match from.read(&mut head[got..]) {
            Ok(0) if got == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let (length, sum) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
    if length > most {
        return Err(damaged(&format!("it says that it has {length} bytes")));
    }
    bytes.clear();
    // Room as bytes come: a length alone reserves nothing.
    if from.take(length as u64).read_to_end(bytes)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match Key::hash(bytes).to_le_bytes() == sum {
        true => Ok(true),
        false => Err(damaged("its checksum does not fit")),
    }
}

/// Reads a control connection's frame; false: the connection ended before it.
pub fn read(from: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    read_up_to(from, bytes, CONTROL)
}

/// A data connection as timely uses it. Timely panics at an error; so there is none: the run is failed, what is written goes nowhere,
/// and who reads waits until the process ends.
pub struct Wire {
    socket: TcpStream,
    peer: String,
    shared: Arc<Shared>,
    frame: Vec<u8>,
    at: usize,
}

impl Wire {
    pub fn new(socket: TcpStream, peer: String, shared: Arc<Shared>) -> Wire {
        Wire { socket, peer, shared, frame: vec![], at: 0 }
    }

    fn lost(&self, why: &str) {
        self.shared.fail(lost(&self.peer, why));
    }
}

/// A process is gone, or cannot be reached.
pub fn lost(peer: &str, why: &str) -> Fault {
    Fault::down(format!("{peer} was lost"))
        .detail(why.to_string())
        .hint("its own log says more; all processes of the job end and begin anew together")
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.frame.len() {
            self.at = 0;
            match read_up_to(&mut self.socket, &mut self.frame, DATA) {
                // The peer has said that this is the end.
                Ok(true) if self.frame.is_empty() => return Ok(0),
                Ok(true) => break,
                Ok(false) => self.lost("its connection has ended"),
                Err(e) => self.lost(&e.to_string()),
            }
            loop {
                std::thread::park();
            }
        }
        let n = to.len().min(self.frame.len() - self.at);
        to[..n].copy_from_slice(&self.frame[self.at..][..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(DATA);
        if n > 0
            && let Err(e) = write(&mut self.socket, &bytes[..n])
        {
            self.lost(&e.to_string());
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn try_clone(&self) -> io::Result<Wire> {
        Ok(Wire::new(self.socket.try_clone()?, self.peer.clone(), self.shared.clone()))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// An empty frame says that nothing more will come.
    fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        // Who is gone already needs not be told.
        let _ = write(&mut &self.socket, &[]).and_then(|()| self.socket.shutdown(Shutdown::Write));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_damage_is_noticed() {
        let said: [&[u8]; 4] = [b"abc", b"", &[7; 70_000], b"x"];
        let mut wire = vec![];
        said.iter().for_each(|s| write(&mut wire, s).unwrap());
        let all = |wire: &[u8]| {
            let (mut from, mut frame, mut heard) = (wire, vec![], vec![]);
            while read(&mut from, &mut frame)? {
                heard.push(frame.clone());
            }
            Ok::<_, io::Error>(heard)
        };
        assert_eq!(all(&wire).unwrap(), said);
        for at in (0..60).chain([5_000, wire.len() - 1]) {
            let mut bad = wire.clone();
            bad[at] ^= 1;
            assert!(all(&bad).is_err(), "byte {at}");
        }
        for cut in [1, 11, 12, 14, 40, wire.len() - 1] {
            assert!(all(&wire[..cut]).is_err(), "cut at {cut}");
        }
    }
}
