//! How two processes make sure that they belong together: challenge and response by HMAC-SHA-256 (RFC 2104), on both sides.
//!
//! Caller: magic, nonce. Answerer: magic, nonce. Caller: hello, MAC of role, both nonces and hello. Answerer: reply, MAC likewise.
//! Hello and reply are JSON behind a length (u16, little endian). The role keeps either from sending the other's proof back.

use hmac::{Hmac, Mac};
use millrace_sdk::Fault;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Also the version of all that follows.
const MAGIC: &[u8; 10] = b"millrace/1";
const NONCE: usize = 32;
const MAC: usize = 32;
/// Longest hello or reply.
const MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    Control,
    Data,
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub line: Line,
    pub process: usize,
    pub processes: usize,
    pub workers: usize,
    /// Of the topology, as planned.
    pub hash: u64,
    pub release: String,
    /// The run that it has joined; None: it asks.
    pub run: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// `micros`: the age of the run.
    Welcome { run: u64, micros: u64 },
    /// It may be otherwise soon.
    Later(String),
    /// They do not fit together.
    No(String),
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub enum Broken {
    /// The other does not know the secret.
    Secret,
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Broken {
        Broken::Io(e)
    }
}

/// What both have said before they prove anything.
struct Challenge {
    secret: Vec<u8>,
    nonces: [u8; 2 * NONCE],
}

impl Challenge {
    fn exchange(stream: &mut TcpStream, secret: &[u8], caller: bool) -> Result<Challenge, Broken> {
        let mine: [u8; NONCE] = StdRng::from_os_rng().random();
        let mut theirs = [0; MAGIC.len() + NONCE];
        let said = [&MAGIC[..], &mine].concat();
        if caller {
            stream.write_all(&said)?;
        }
        stream.read_exact(&mut theirs)?;
        if !theirs.starts_with(MAGIC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak as Millrace does, or is another release").into());
        }
        if !caller {
            stream.write_all(&said)?;
        }
        let theirs = &theirs[MAGIC.len()..];
        let both = if caller { [&mine[..], theirs] } else { [theirs, &mine[..]] }.concat();
        Ok(Challenge { secret: secret.into(), nonces: both.try_into().expect("two nonces") })
    }

    fn mac(&self, role: &[u8], said: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(role);
        mac.update(&self.nonces);
        mac.update(said);
        mac
    }

    fn say(&self, stream: &mut TcpStream, role: &[u8], what: &impl Serialize) -> Result<(), Broken> {
        let json = serde_json::to_vec(what).map_err(io::Error::from)?;
        let length = u16::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes();
        let mac = self.mac(role, &json).finalize().into_bytes();
        Ok(stream.write_all(&[&length[..], &json, &mac].concat())?)
    }

    fn hear<T: DeserializeOwned>(&self, stream: &mut TcpStream, role: &[u8]) -> Result<T, Broken> {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let length = u16::from_le_bytes(length) as usize;
        if length > MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it says too much").into());
        }
        let mut said = vec![0; length + MAC];
        stream.read_exact(&mut said)?;
        let (json, mac) = said.split_at(length);
        self.mac(role, json).verify_slice(mac).map_err(|_| Broken::Secret)?;
        Ok(serde_json::from_slice(json).map_err(io::Error::from)?)
    }
}

/// The caller's side.
pub fn call(stream: &mut TcpStream, secret: &[u8], hello: &Hello) -> Result<Reply, Broken> {
    let c = Challenge::exchange(stream, secret, true)?;
    c.say(stream, b"hello", hello)?;
    match c.hear(stream, b"reply") {
        // Who does not believe a caller hangs up.
        Err(Broken::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::Secret),
        heard => heard,
    }
}

/// The answerer's side: what the caller is, and what it was told.
pub fn answer(stream: &mut TcpStream, secret: &[u8], reply: impl FnOnce(&Hello) -> Reply) -> Result<(Hello, Reply), Broken> {
    let c = Challenge::exchange(stream, secret, false)?;
    let hello: Hello = c.hear(stream, b"hello")?;
    let reply = reply(&hello);
    c.say(stream, b"reply", &reply)?;
    Ok((hello, reply))
}

impl Hello {
    /// Why a process that says `other` of itself cannot run with this one; None: it can.
    pub fn differs(&self, other: &Hello) -> Option<String> {
        match other {
            o if o.release != self.release => Some(format!("it is Millrace {}, here is {}", o.release, self.release)),
            o if o.hash != self.hash => Some(format!("it has another topology: hash {:016x}, here {:016x}", o.hash, self.hash)),
            o if o.processes != self.processes => Some(format!("it knows {} processes, here are {}", o.processes, self.processes)),
            o if o.workers != self.workers => Some(format!("it runs {} workers, here are {} a process", o.workers, self.workers)),
            o if o.process >= self.processes || o.process == self.process => Some(format!("it calls itself process {}", o.process)),
            _ => None,
        }
    }
}

/// A secret that can be guessed protects nothing.
pub fn check_secret(secret: &str) -> Result<(), Fault> {
    const LEAST: usize = 16;
    match secret.len() < LEAST {
        true => Err(Fault::config(format!("the secret of the job's processes has {} bytes, it needs at least {LEAST}", secret.len()))
            .hint("`openssl rand -hex 32` makes a good one; all processes read the same")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn hello() -> Hello {
        Hello { line: Line::Data, process: 1, processes: 3, workers: 2, hash: 9, release: "1".into(), run: Some(4) }
    }

    fn meet(caller: &'static [u8], answerer: &'static [u8]) -> (Result<Reply, Broken>, Result<(Hello, Reply), Broken>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let called = std::thread::spawn(move || call(&mut TcpStream::connect(address).unwrap(), caller, &hello()));
        let answered = answer(&mut listener.accept().unwrap().0, answerer, |_| Reply::Welcome { run: 4, micros: 5 });
        drop(listener);
        (called.join().unwrap(), answered)
    }

    #[test]
    fn both_must_know_the_secret() {
        let (called, answered) = meet(b"a secret that fits", b"a secret that fits");
        assert_eq!(called.unwrap(), Reply::Welcome { run: 4, micros: 5 });
        assert_eq!(answered.unwrap(), (hello(), Reply::Welcome { run: 4, micros: 5 }));
        let (called, answered) = meet(b"a secret that fits", b"a secret that does not");
        assert!(matches!(called, Err(Broken::Secret)) && matches!(answered, Err(Broken::Secret)));
    }

    #[test]
    fn an_answerer_cannot_send_the_callers_proof_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let called = std::thread::spawn(move || call(&mut TcpStream::connect(address).unwrap(), b"a secret that fits", &hello()));
        let mut stream = listener.accept().unwrap().0;
        let mut said = [0; MAGIC.len() + NONCE];
        stream.read_exact(&mut said).unwrap();
        stream.write_all(&said).unwrap();
        let mut proof = vec![0; 2];
        stream.read_exact(&mut proof).unwrap();
        proof.resize(2 + u16::from_le_bytes([proof[0], proof[1]]) as usize + MAC, 0);
        stream.read_exact(&mut proof[2..]).unwrap();
        stream.write_all(&proof).unwrap();
        assert!(matches!(called.join().unwrap(), Err(Broken::Secret)));
    }

    #[test]
    fn strangers_and_nonsense_are_turned_away() {
        for said in [&b"GET / HTTP/1.1\r\n\r\n                                          "[..], b"millrace/2", b""] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stranger.write_all(said).unwrap();
            stranger.shutdown(std::net::Shutdown::Write).unwrap();
            let answered = answer(&mut listener.accept().unwrap().0, b"secret", |_| panic!("nobody is to be welcomed"));
            assert!(matches!(answered, Err(Broken::Io(_))));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let me = Hello { process: 0, ..hello() };
        assert_eq!(me.differs(&hello()), None);
        let cases: [(fn(&mut Hello), &str); 5] = [
            (|h| h.release = "2".into(), "Millrace 2"),
            (|h| h.hash = 255, "hash 00000000000000ff, here 0000000000000009"),
            (|h| h.processes = 2, "2 processes, here are 3"),
            (|h| h.workers = 1, "1 workers, here are 2"),
            (|h| h.process = 0, "process 0"),
        ];
        for (change, want) in cases {
            let mut other = hello();
            change(&mut other);
            assert!(me.differs(&other).is_some_and(|why| why.contains(want)), "{want}");
        }
    }
}
