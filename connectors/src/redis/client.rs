//! Connections to a Redis server: time-outs, a small pool, answers judged, errors in words.

use millrace_sdk::config::{Duration, Secret};
use millrace_sdk::{Fault, Place, Problem};
use redis::{Connection, ConnectionInfo, IntoConnectionInfo, RedisError, ServerError, Value};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections kept for the next call.
const KEPT: usize = 16;

/// The config keys that sink and store share.
pub struct Server<'a> {
    pub url: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a Secret>,
    pub timeout: Duration,
}

impl Server<'_> {
    /// # Errors
    /// A URL that is none, a time-out that is none.
    pub fn client(&self, problems: &mut Vec<Problem>) -> Option<Client> {
        if self.timeout.micros <= 0 {
            problems.push(Problem::error("out-of-range", Place::at(["timeout"]), "`timeout` must be more than 0"));
        }
        if self.username.is_some() && self.password.is_none() {
            problems.push(Problem::error("missing-password", Place::at(["username"]), "`username` needs a `password`"));
        }
        let info = match self.url.into_connection_info() {
            Ok(info) => info,
            Err(e) => {
                // The library's own words, never the URL: it may hold a password.
                let p = Problem::error("invalid-url", Place::at(["url"]), format!("this is no URL of a Redis server: {}", e.category()));
                problems.push(p.hint("write `redis://host:6379/0`, or `rediss://` for TLS"));
                return None;
            }
        };
        let mut settings = info.redis_settings().clone();
        if let Some(name) = self.username {
            settings = settings.set_username(name);
        }
        if let Some(password) = self.password {
            settings = settings.set_password(&password.0);
        }
        let address = match settings.db() {
            0 => info.addr().to_string(),
            db => format!("{}/{db}", info.addr()),
        };
        let info = info.set_redis_settings(settings.set_skip_set_lib_name());
        Some(Client { info, address, timeout: self.timeout.std(), idle: Mutex::default() })
    }
}

/// A server. Calls block, at most for about `timeout` at each step.
pub struct Client {
    info: ConnectionInfo,
    address: String,
    timeout: std::time::Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Clone for Client {
    /// The same server, with connections of its own.
    fn clone(&self) -> Self {
        Client { info: self.info.clone(), address: self.address.clone(), timeout: self.timeout, idle: Mutex::default() }
    }
}

/// What an error that a command was answered with means.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The server has trouble that passes: memory, disk, a failover.
    Again(String),
    /// This command, or its key, for good.
    Refused(String),
    /// Every command, until somebody changes something.
    Hopeless(String),
}

/// An error's code and its text.
pub fn judge(code: &str, text: &str) -> Verdict {
    let said = format!("{code} {text}").trim().to_string();
    match code {
        "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" | "UNBLOCKED" => {
            Verdict::Again(said)
        }
        "NOAUTH" | "WRONGPASS" | "MOVED" | "ASK" | "CROSSSLOT" | "FENCED" => Verdict::Hopeless(said),
        "NOPERM" if !text.contains("key") => Verdict::Hopeless(said),
        "ERR" if text.contains("max number of clients") => Verdict::Again(said),
        "ERR" if text.starts_with("unknown command") || text.starts_with("invalid password") || text.starts_with("AUTH ") => {
            Verdict::Hopeless(said)
        }
        _ => Verdict::Refused(said),
    }
}

pub fn judge_answer(e: &ServerError) -> Verdict {
    judge(e.code(), e.details().unwrap_or_default())
}

impl Client {
    pub fn address(&self) -> &str {
        &self.address
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> Result<Connection, Fault> {
        let connected = redis::Client::open(self.info.clone()).and_then(|c| c.get_connection_with_timeout(self.timeout));
        let connected = connected.and_then(|c| {
            c.set_read_timeout(Some(self.timeout))?;
            c.set_write_timeout(Some(self.timeout))?;
            Ok(c)
        });
        connected.map_err(|e| {
            let why = if e.is_connection_refusal() {
                "connection refused".to_string()
            } else if e.is_timeout() {
                format!("no answer within {:?}", self.timeout)
            } else {
                e.to_string()
            };
            let message = format!("cannot connect to Redis at `{}`: {why}", self.address);
            let hopeless = match (e.kind(), e.code()) {
                (redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig, _) => true,
                (_, Some(code)) => matches!(judge(code, e.detail().unwrap_or_default()), Verdict::Hopeless(_) | Verdict::Refused(_)),
                _ => false,
            };
            if hopeless { Fault::refused(message) } else { Fault::down(message) }
        })
    }

    /// Sends packed commands in one go; an answer each, errors of single commands among them. A connection of the pool that has
    /// died meanwhile (the server was started again) is replaced once if `again` says that sending twice is harmless.
    pub fn send(&self, packed: &[u8], commands: usize, again: bool) -> Result<Vec<Value>, Fault> {
        let pooled = self.idle().pop();
        let retry = again && pooled.is_some();
        let mut connection = match pooled {
            Some(c) => c,
            None => self.connect()?,
        };
        let mut result = exchange(&mut connection, packed, commands);
        if retry && matches!(&result, Err(e) if e.is_connection_dropped()) {
            // The others of the pool are no better.
            self.idle().clear();
            connection = self.connect()?;
            result = exchange(&mut connection, packed, commands);
        }
        let answers = result.map_err(|e| {
            let why = if e.is_timeout() { format!("no answer within {:?}", self.timeout) } else { e.to_string() };
            Fault::down(format!("Redis at `{}` does not answer: {why}", self.address))
        })?;
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(connection);
        }
        Ok(answers)
    }

    /// One command, whose error is a fault.
    pub fn ask(&self, words: &[&[u8]]) -> Result<Value, Fault> {
        let mut packed = vec![];
        pack(words, &mut packed);
        let answer = self.send(&packed, 1, true)?.pop().unwrap_or(Value::Nil);
        match answer {
            Value::ServerError(e) => Err(self.fault(judge_answer(&e))),
            answer => Ok(answer),
        }
    }

    pub fn fault(&self, verdict: Verdict) -> Fault {
        match verdict {
            Verdict::Again(why) => Fault::down(format!("Redis at `{}` cannot serve now", self.address)).detail(why),
            Verdict::Hopeless(why) | Verdict::Refused(why) => Fault::refused(format!("Redis at `{}` refuses: {why}", self.address)),
        }
    }

    /// One clear sentence when the server is not there, wants another password, or is a node of a cluster.
    pub fn check(&self) -> Result<(), Fault> {
        self.ask(&[b"PING"])?;
        if self.info_of("cluster").get("cluster_enabled").is_some_and(|v| v == "1") {
            let fault = Fault::refused(format!("Redis at `{}` is a node of a Redis Cluster", self.address));
            return Err(fault.hint("millrace writes to a single Redis server, or its replicated primary"));
        }
        Ok(())
    }

    /// A section of what the server says of itself; empty where it does not tell this user.
    pub fn info_of(&self, section: &str) -> HashMap<String, String> {
        let text = match self.ask(&[b"INFO", section.as_bytes()]) {
            Ok(Value::BulkString(b)) => String::from_utf8_lossy(&b).into_owned(),
            _ => return HashMap::new(),
        };
        text.lines().filter_map(|l| l.trim().split_once(':')).map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }
}

fn exchange(connection: &mut Connection, packed: &[u8], commands: usize) -> Result<Vec<Value>, RedisError> {
    connection.send_packed_command(packed)?;
    // The first error of the connection ends it: no later answer can be told from an earlier one's.
    (0..commands).map(|_| connection.recv_response()).collect()
}

/// Appends a command in the server's protocol (RESP2: an array of bulk strings).
pub fn pack(words: &[&[u8]], out: &mut Vec<u8>) {
    head(b'*', words.len(), out);
    for word in words {
        bulk(word, out);
    }
}

/// Appends a bulk string.
pub fn bulk(word: &[u8], out: &mut Vec<u8>) {
    head(b'$', word.len(), out);
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an array or bulk string.
pub fn head(kind: u8, n: usize, out: &mut Vec<u8>) {
    out.push(kind);
    millrace_sdk::convert::write_scalar(millrace_sdk::Val::Int(n as i64), out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, password: Option<&str>) -> Result<Client, String> {
        let password = password.map(|p| Secret(p.into()));
        let mut problems = vec![];
        let server = Server { url, username: None, password: password.as_ref(), timeout: Duration::millis(200) };
        server.client(&mut problems).ok_or_else(|| problems[0].message.clone())
    }

    #[test]
    fn urls() {
        for (url, address) in [
            ("redis://h", "h:6379"),
            ("redis://h:7000/3", "h:7000/3"),
            ("rediss://u:secret@h:7000", "h:7000"),
            ("redis://[::1]:7000/", "::1:7000"),
        ] {
            assert_eq!(client(url, Some("other")).map(|c| c.address).unwrap(), address);
        }
        for url in ["h:6379", "http://h", "redis://", "redis://u:secret@h/x", ""] {
            let message = client(url, None).err().unwrap();
            assert!(message.starts_with("this is no URL of a Redis server") && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn errors_are_judged() {
        for (code, text, want) in [
            ("OOM", "command not allowed", "again"),
            ("LOADING", "", "again"),
            ("ERR", "max number of clients reached", "again"),
            ("WRONGTYPE", "Operation against a key", "refused"),
            ("ERR", "value is not an integer or out of range", "refused"),
            ("NOPERM", "this user has no permissions to access one of the keys used as arguments", "refused"),
            ("NOPERM", "this user has no permissions to run the 'set' command", "hopeless"),
            ("NOAUTH", "Authentication required.", "hopeless"),
            ("MOVED", "3999 127.0.0.1:6381", "hopeless"),
        ] {
            let verdict = match judge(code, text) {
                Verdict::Again(_) => "again",
                Verdict::Refused(_) => "refused",
                Verdict::Hopeless(_) => "hopeless",
            };
            assert_eq!(verdict, want, "{code} {text}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_or_is_none() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", free.local_addr().unwrap());
        let silent = client(&url, None).unwrap().check().unwrap_err();
        assert!(silent.retry && silent.message.contains("no answer within 200ms"), "{silent}");
        drop(free);
        let down = client(&url, None).unwrap().check().unwrap_err();
        assert!(down.retry && down.message.contains("connection refused"), "{down}");
    }

    #[test]
    fn commands_are_packed() {
        let mut out = vec![];
        pack(&[b"SET", b"k\r\n", b""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
    }
}
