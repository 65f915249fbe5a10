//! A ClickHouse server over HTTP: queries, inserts, errors judged and put into words.

use clickhouse::Compression;
use clickhouse::error::Error;
use millrace_sdk::Fault;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Bytes of a body that are compressed and sent as one block.
const BLOCK: usize = 1 << 20;

/// Where the server is and who asks.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub compress: bool,
    pub timeout: Duration,
}

/// A server. Calls block, at most for `timeout`.
pub struct Client {
    http: clickhouse::Client,
    url: String,
    timeout: Duration,
    runtime: Arc<Runtime>,
}

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// No answer, or one that says that the server has trouble: asking again helps. What failed may have happened all the same.
    Down(Fault),
    /// It fails until somebody changes something: table, user, settings.
    Hopeless(Fault),
    /// The server does not take these rows.
    Refused(String),
}

impl From<Failure> for Fault {
    fn from(f: Failure) -> Fault {
        match f {
            Failure::Down(fault) | Failure::Hopeless(fault) => fault,
            Failure::Refused(message) => Fault::refused("ClickHouse has refused a request").detail(message),
        }
    }
}

/// Codes of trouble that passes (`src/Common/ErrorCodes.cpp`): time-outs, too much at once, memory, disk, replicas, Keeper.
const AGAIN: &[u32] = &[
    3, 74, 75, 95, 96, 97, 159, 160, 173, 198, 201, 202, 203, 209, 210, 225, 232, 234, 236, 241, 242, 243, 244, 252, 254, 279, 285, 286,
    287, 289, 290, 303, 319, 335, 364, 369, 373, 394, 415, 416, 425, 439, 473, 499, 574, 589, 659, 669, 722, 999, 1000, 1001, 1002,
];
/// Codes of what no row can help: no such table, column, user, permission, setting, engine.
const HOPELESS: &[u32] =
    &[8, 10, 16, 20, 44, 46, 47, 48, 50, 53, 56, 57, 60, 62, 73, 80, 81, 82, 115, 164, 192, 193, 194, 195, 291, 392, 452, 497, 511, 516];

impl Client {
    pub fn new(server: &Server) -> Result<Client, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Fault::refused("cannot start a ClickHouse client").detail(e.to_string()))?;
        let compression = if server.compress { Compression::Lz4 } else { Compression::None };
        let mut http = clickhouse::Client::default()
            .with_url(&server.url)
            .with_product_info("millrace", env!("CARGO_PKG_VERSION"))
            .with_compression(compression);
        if let Some(user) = &server.user {
            http = http.with_user(user);
        }
        if let Some(password) = &server.password {
            http = http.with_password(password);
        }
        Ok(Client { http, url: server.url.clone(), timeout: server.timeout, runtime: Arc::new(runtime) })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let timed = async { tokio::time::timeout(self.timeout, work).await };
        match self.runtime.block_on(timed) {
            Ok(done) => done.map_err(|e| self.failure(e)),
            Err(_) => Err(Failure::Down(Fault::down(format!("ClickHouse at `{}` does not answer within {:?}", self.url, self.timeout)))),
        }
    }

    /// The answer to a query, in `format`.
    pub fn query(&self, sql: &str, format: &str) -> Result<Vec<u8>, Failure> {
        let query = self.http.query_raw(sql);
        self.run(async { Ok(query.fetch_bytes(format)?.collect().await?.to_vec()) })
    }

    /// The lines of the answer to a query, split into columns.
    pub fn lines(&self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        let text = String::from_utf8_lossy(&self.query(sql, "TabSeparated")?).into_owned();
        Ok(text.lines().map(|l| l.split('\t').map(String::from).collect()).collect())
    }

    /// One insert: all of its rows, or none.
    pub fn insert(&self, into: &str, settings: &[(String, String)], body: &[u8]) -> Result<(), Failure> {
        let mut insert = self.http.insert_formatted_with(format!("INSERT INTO {into} FORMAT JSONEachRow"));
        for (name, value) in settings {
            insert = insert.with_setting(name, value);
        }
        self.run(async {
            for block in body.chunks(BLOCK) {
                insert.send(block.to_vec().into()).await?;
            }
            insert.end().await
        })
    }

    fn failure(&self, e: Error) -> Failure {
        let text = match e {
            Error::BadResponse(text) => text,
            Error::TimedOut => format!("no answer within {:?}", self.timeout),
            e => {
                let why = causes(&e);
                if why.contains("certificate") {
                    return Failure::Hopeless(Fault::refused(format!("cannot trust ClickHouse at `{}`", self.url)).detail(why));
                }
                return Failure::Down(Fault::down(format!("ClickHouse at `{}` does not answer", self.url)).detail(why));
            }
        };
        let first: String = text.lines().next().unwrap_or_default().chars().take(600).collect();
        let busy = || Fault::down(format!("ClickHouse at `{}` cannot serve now", self.url)).detail(&first);
        let no = || Fault::refused(format!("ClickHouse at `{}` refuses", self.url)).detail(&first);
        match code(&text) {
            Some(code) if AGAIN.contains(&code) => Failure::Down(busy()),
            Some(code) if HOPELESS.contains(&code) => Failure::Hopeless(no()),
            Some(_) => Failure::Refused(first),
            // An answer that is not the server's own, but of something before it.
            None if first.starts_with('4') && !first.starts_with("408") && !first.starts_with("429") => Failure::Hopeless(no()),
            None => Failure::Down(busy()),
        }
    }
}

/// `Code: 27. DB::Exception: …`
fn code(text: &str) -> Option<u32> {
    let at = text.find("Code: ")? + 6;
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    text[at..at + digits].parse().ok()
}

/// An error with what it comes from; each says only its own part.
fn causes(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// A name as the server's SQL quotes it.
pub fn name(text: &str) -> String {
    format!("`{}`", text.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A string as the server's SQL quotes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Client {
        let timeout = Duration::from_millis(300);
        Client::new(&Server { url: url.into(), user: None, password: None, compress: false, timeout }).unwrap()
    }

    #[test]
    fn answers_are_judged() {
        let client = client("http://h:1");
        for (text, want) in [
            ("Code: 27. DB::Exception: Cannot parse input", "refused"),
            ("Code: 469. DB::Exception: Constraint `c` is violated", "refused"),
            ("Code: 252. DB::Exception: Too many parts", "down"),
            ("Code: 60. DB::Exception: Table default.x does not exist", "hopeless"),
            ("Code: 516. DB::Exception: u: Authentication failed", "hopeless"),
            ("502 Bad Gateway", "down"),
            ("404 Not Found", "hopeless"),
            ("429 Too Many Requests", "down"),
            ("Code: x", "down"),
        ] {
            let shown = match client.failure(Error::BadResponse(text.into())) {
                Failure::Down(f) if f.retry => "down",
                Failure::Hopeless(f) if !f.retry => "hopeless",
                Failure::Refused(_) => "refused",
                _ => "wrong",
            };
            assert_eq!(shown, want, "{text}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_or_is_silent() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", port.local_addr().unwrap());
        let silent = Fault::from(client(&url).query("SELECT 1", "TabSeparated").unwrap_err());
        assert!(silent.retry && silent.message.contains("does not answer within 300ms"), "{silent}");
        drop(port);
        let down = Fault::from(client(&url).insert("t", &[], b"{}").unwrap_err());
        assert!(down.retry && down.detail.as_ref().is_some_and(|d| d.contains("refused")), "{down}");
    }

    #[test]
    fn names_and_literals() {
        assert_eq!((name("a`b\\"), literal("it's")), ("`a\\`b\\\\`".into(), "'it\\'s'".into()));
    }
}
