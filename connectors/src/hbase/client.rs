//! Connections to a Thrift gateway: time-outs on every step, a small pool, errors in words.

use super::protocol::Capped;
use hbase_thrift::hbase::{BatchMutation, HbaseSyncClient, IOError, IllegalArgument, Mutation, THbaseSyncClient, TRowResult};
use millrace_sdk::{Fault, Place, Problem};
use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use thrift::TransportErrorKind;
use thrift::protocol::TBinaryOutputProtocol;

type Connection = HbaseSyncClient<Capped<BufReader<TcpStream>>, TBinaryOutputProtocol<BufWriter<TcpStream>>>;

/// Connections kept for the next call.
const KEPT: usize = 16;

/// A gateway. Calls block, at most for about `timeout` at each step.
pub struct Client {
    address: String,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

/// Why a call failed.
pub enum Failure {
    /// No answer, or one that says that HBase itself has trouble: asking again helps.
    Down(Fault),
    /// The gateway says that what was sent can never be taken.
    Refused(String),
}

impl From<Failure> for Fault {
    fn from(f: Failure) -> Fault {
        match f {
            Failure::Down(fault) => fault,
            Failure::Refused(message) => Fault::refused("HBase has refused a request").detail(message),
        }
    }
}

/// Checks `host:port`.
pub fn check_address(address: &str, problems: &mut Vec<Problem>) {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    if !good {
        let p = Problem::error("invalid-address", Place::at(["thrift"]), format!("`{address}` is no address of a Thrift gateway"));
        problems.push(p.hint("write `host:port`; HBase's own default port is 9090"));
    }
}

/// A socket's time-out is EAGAIN, of which the library keeps only the text.
fn timed_out(e: &thrift::TransportError) -> bool {
    e.kind == TransportErrorKind::TimedOut || e.message.contains("os error 11")
}

impl Client {
    pub fn new(address: &str, timeout: Duration) -> Client {
        Client { address: address.into(), timeout, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let down = |e: io::Error| {
            let why = match e.kind() {
                io::ErrorKind::ConnectionRefused => "connection refused".into(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => format!("no answer within {:?}", self.timeout),
                _ => e.to_string(),
            };
            Failure::Down(Fault::down(format!("cannot connect to the HBase Thrift gateway at `{}`: {why}", self.address)))
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs().map_err(down)? {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(stream) => return self.ready(stream).map_err(down),
                Err(e) => last = e,
            }
        }
        Err(down(last))
    }

    fn ready(&self, stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let input = Capped::new(BufReader::with_capacity(64 << 10, stream.try_clone()?));
        let output = TBinaryOutputProtocol::new(BufWriter::with_capacity(64 << 10, stream), true);
        Ok(HbaseSyncClient::new(input, output))
    }

    /// Runs a call on a connection of the pool. One that has died meanwhile (the gateway was started again) is replaced once.
    fn call<T>(&self, call: &dyn Fn(&mut Connection) -> thrift::Result<T>) -> Result<T, Failure> {
        let pooled = self.idle().pop();
        let again = pooled.is_some();
        let mut connection = match pooled {
            Some(c) => c,
            None => self.connect()?,
        };
        let mut result = call(&mut connection);
        if again && matches!(&result, Err(thrift::Error::Transport(e)) if !timed_out(e)) {
            // The others of the pool are no better.
            self.idle().clear();
            connection = self.connect()?;
            result = call(&mut connection);
        }
        // After an exception of HBase's the connection is in order; after any other error nobody knows what comes next on it.
        if matches!(result, Ok(_) | Err(thrift::Error::User(_))) {
            let mut idle = self.idle();
            if idle.len() < KEPT {
                idle.push(connection);
            }
        }
        result.map_err(|e| self.failure(e))
    }

    fn failure(&self, e: thrift::Error) -> Failure {
        let at = &self.address;
        let message = match e {
            thrift::Error::User(e) => {
                if let Some(e) = e.downcast_ref::<IllegalArgument>() {
                    return Failure::Refused(e.message.clone().unwrap_or_default());
                }
                let text = e.downcast_ref::<IOError>().and_then(|e| e.message.clone()).unwrap_or_else(|| e.to_string());
                // The message is a stack trace whose first line says it all.
                let first: String = text.lines().next().unwrap_or_default().chars().take(500).collect();
                if first.contains("IllegalArgumentException") {
                    return Failure::Refused(first);
                }
                return Failure::Down(Fault::down(format!("HBase behind the Thrift gateway at `{at}` has failed")).detail(first));
            }
            thrift::Error::Transport(e) if timed_out(&e) => format!("no answer within {:?}", self.timeout),
            // What the library prints of it is its kind alone.
            thrift::Error::Protocol(e) => e.message,
            e => e.to_string(),
        };
        Failure::Down(Fault::down(format!("the HBase Thrift gateway at `{at}` does not answer")).detail(message))
    }

    /// One clear sentence when the gateway, the table or one of its families is missing.
    pub fn check(&self, table: &str, families: &[&str]) -> Result<(), Fault> {
        let names = self.call(&|c| c.get_table_names())?;
        if !names.iter().any(|n| n == table.as_bytes()) {
            let all: Vec<_> = names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
            let fault = Fault::refused(format!("table `{table}` does not exist in HBase behind `{}`", self.address));
            let near = millrace_sdk::problem::did_you_mean(table, all.iter().map(String::as_str));
            return Err(match near {
                Some(name) => fault.hint(format!("did you mean `{name}`?")),
                None => fault.hint("create it first: millrace makes no tables"),
            });
        }
        let found = self.call(&|c| c.get_column_descriptors(table.into()))?;
        let found: Vec<String> = found.keys().map(|k| String::from_utf8_lossy(k).trim_end_matches(':').to_string()).collect();
        match families.iter().find(|f| !found.iter().any(|k| k == *f)) {
            Some(f) => Err(Fault::refused(format!("table `{table}` has no column family `{f}`: it has {}", found.join(", ")))),
            None => Ok(()),
        }
    }

    /// The rows that are there, in no order that may be relied on. Without columns: all of them.
    pub fn get(&self, table: &str, rows: &[Vec<u8>], columns: &[Vec<u8>]) -> Result<Vec<TRowResult>, Failure> {
        self.call(&|c| match columns {
            [] => c.get_rows(table.into(), rows.to_vec(), BTreeMap::new()),
            columns => c.get_rows_with_columns(table.into(), rows.to_vec(), columns.to_vec(), BTreeMap::new()),
        })
    }

    /// Puts and deletes, all with this timestamp.
    pub fn mutate(&self, table: &str, rows: &[BatchMutation], timestamp: i64) -> Result<(), Failure> {
        self.call(&|c| c.mutate_rows_ts(table.into(), rows.to_vec(), timestamp, BTreeMap::new()))
    }
    /// Puts a cell, with the server's time, if it holds `expected` (empty: if it is not there); false: it does not.
    pub fn check_and_put(&self, table: &str, row: &[u8], column: &[u8], expected: &[u8], value: &[u8]) -> Result<bool, Failure> {
        let put = Mutation::new(false, column.to_vec(), value.to_vec(), true);
        self.call(&|c| c.check_and_put(table.into(), row.to_vec(), column.to_vec(), expected.to_vec(), put.clone(), BTreeMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn message(result: Result<Vec<TRowResult>, Failure>) -> String {
        let fault = Fault::from(result.err().unwrap());
        assert!(fault.retry);
        format!("{} / {}", fault.message, fault.detail.unwrap_or_default())
    }

    #[test]
    fn a_gateway_that_is_not_there_or_is_none() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let client = Client::new(&address, Duration::from_millis(200));
        assert!(message(client.get("t", &[b"a".to_vec()], &[])).contains("connection refused"));
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&server.local_addr().unwrap().to_string(), Duration::from_millis(50));
        assert!(message(client.get("t", &[b"a".to_vec()], &[])).contains("no answer within 50ms"));
        let client = Client::new(&server.local_addr().unwrap().to_string(), Duration::from_secs(20));
        let answer = std::thread::spawn(move || {
            // The first connection is that of the call before, which gave up.
            let _silent = server.accept().unwrap();
            let mut stream = server.accept().unwrap().0;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            stream
        });
        assert!(message(client.get("t", &[b"a".to_vec()], &[])).contains("not of the Thrift binary protocol"));
        answer.join().unwrap();
    }

    #[test]
    fn addresses() {
        for (address, good) in
            [("a:1", true), ("[::1]:9090", true), ("a", false), ("a:", false), (":1", false), ("a:99999", false), ("", false)]
        {
            let mut problems = vec![];
            check_address(address, &mut problems);
            assert_eq!(problems.is_empty(), good, "{address}");
        }
    }
}
