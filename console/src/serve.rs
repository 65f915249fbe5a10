//! The server: one port, HTTP/1.1, with TLS if there is a certificate.

use crate::App;
use crate::tls::acceptor;
use crate::web::{Known, Peer, router};
use axum::body::Body;
use axum::extract::Request;
use axum::http::Request as HttpRequest;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_sdk::config::Secret;
use millrace_sdk::{Clock, Fault};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower_service::Service;

/// Connections at a time.
const CONNECTIONS: usize = 512;
/// Of one address, so that none takes all.
const OF_ADDRESS: usize = 256;
/// How long a client may take for a handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where database, tasks and logs lie.
    pub folder: PathBuf,
    pub listen: SocketAddr,
    /// How people reach the console when that is not `listen`: `https://millrace.example`.
    pub public_url: Option<String>,
    /// Certificate chain and PKCS #8 key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The key of secrets; None: `console.key` in the folder.
    pub key_file: Option<PathBuf>,
    /// A folder of control groups (cgroup v2) that is the console's to manage; None: one that the system has delegated, if it has.
    pub cgroup: Option<PathBuf>,
    /// The executable that runs jobs.
    pub executable: PathBuf,
    /// What jobs may reach beside their own folders, and alarms may speak to.
    pub allow: millrace_plan::Confine,
    /// The mail server, `smtp://user:password@host:25`; None: no mails.
    pub smtp: Option<Secret>,
    /// The sender of mails.
    pub mail_from: String,
}

impl Options {
    /// Whether people speak TLS, to the console or to a proxy in front of it.
    pub(crate) fn secure(&self) -> bool {
        self.tls.is_some() || self.public_url.as_ref().is_some_and(|u| u.starts_with("https://"))
    }

    /// Where people find the console.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let own = || format!("{scheme}://{}", self.listen);
        self.public_url.as_ref().map_or_else(own, |u| u.trim_end_matches('/').to_string())
    }

    /// Whether a `Host` header names this console.
    pub(crate) fn is_own_name(&self, host: &str) -> bool {
        let name = host.strip_suffix(&format!(":{}", self.listen.port())).unwrap_or(host);
        let public = self.public_url.as_ref().and_then(|u| u.split_once("://")).map(|(_, rest)| rest.trim_end_matches('/'));
        let own = name.trim_start_matches('[').trim_end_matches(']');
        let address = own.parse().is_ok_and(|ip: std::net::IpAddr| {
            self.listen.ip() == ip || self.listen.ip().is_unspecified() || (self.listen.ip().is_loopback() && ip.is_loopback())
        });
        own == "localhost" || address || public.is_some_and(|p| p.eq_ignore_ascii_case(host) || p.eq_ignore_ascii_case(name))
    }
}

/// Serves until SIGTERM or SIGINT. Jobs live on.
///
/// # Errors
/// The folder, the address or the certificate cannot be used.
pub fn serve(options: Options) -> Result<(), Fault> {
    let acceptor = options.tls.as_ref().map(acceptor).transpose()?;
    let listen = options.listen;
    let refused = |e: std::io::Error| {
        Fault::refused(format!("the console cannot listen at {listen}: {e}")).hint("choose another address with --listen")
    };
    let listener = std::net::TcpListener::bind(listen).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let (app, password) = App::open(Options { listen: bound, ..options }, Clock::System)?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    if let Some(password) = password {
        println!("first start: log in as `admin` with the password {password}, which is shown only now and must be changed");
    }
    println!("console: {scheme}://{bound}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(refused)?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(refused)?;
        tokio::spawn(crate::jobs::watch(app.clone()));
        tokio::spawn(crate::notify::teller(app.clone()));
        tokio::select! {
            () = accept(listener, acceptor, app) => {}
            () = asked_to_end() => {}
        }
        Ok(())
    })?;
    // What is under way has a moment; a stream of log lines would never end by itself.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// A connection that is open.
struct Guest {
    number: u64,
    address: IpAddr,
    /// Somebody with a session or a token has asked something by it.
    known: Arc<AtomicBool>,
    /// Told to close.
    close: Arc<Notify>,
}

/// Open connections, the oldest first. Where there are too many, that of a stranger which is open longest gives way to a new one: whoever
/// opens many and says nothing keeps nobody out, also of those who come from the same address, by the same proxy for instance.
#[derive(Default)]
struct Guests {
    next: u64,
    all: VecDeque<Guest>,
}

/// A connection's place, which goes with this value.
struct Place {
    guests: Arc<Mutex<Guests>>,
    number: u64,
    known: Arc<AtomicBool>,
    close: Arc<Notify>,
}

impl Place {
    /// None: all who are there are known.
    fn take(guests: &Arc<Mutex<Guests>>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut g = guests.lock().unwrap_or_else(|e| e.into_inner());
        let own = g.all.iter().filter(|x| x.address == address).count();
        if own >= OF_ADDRESS || g.all.len() >= CONNECTIONS {
            let stranger = |x: &Guest| !x.known.load(Relaxed) && (own < OF_ADDRESS || x.address == address);
            let at = g.all.iter().position(stranger)?;
            g.all.remove(at)?.close.notify_one();
        }
        let (number, known, close) = (g.next, Arc::default(), Arc::default());
        g.next += 1;
        g.all.push_back(Guest { number, address, known: Arc::clone(&known), close: Arc::clone(&close) });
        Some(Place { guests: guests.clone(), number, known, close })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut g = self.guests.lock().unwrap_or_else(|e| e.into_inner());
        if let Ok(at) = g.all.binary_search_by_key(&self.number, |x| x.number) {
            g.all.remove(at);
        }
    }
}

/// The address; of IPv6 its /64, of IPv4 within IPv6 that.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

async fn accept(listener: TcpListener, acceptor: Option<tokio_native_tls::TlsAcceptor>, app: Arc<App>) {
    let router = router(app);
    let guests: Arc<Mutex<Guests>> = Arc::default();
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            // Out of files, mostly: others will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(place) = Place::take(&guests, address.ip()) else { continue };
        let (router, acceptor) = (router.clone(), acceptor.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, address, router, acceptor, place.known.clone()) => {}
                () = place.close.notified() => {}
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: axum::Router,
    acceptor: Option<tokio_native_tls::TlsAcceptor>,
    known: Arc<AtomicBool>,
) {
    match acceptor {
        None => answer(stream, address, router, known).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, acceptor.accept(stream)).await {
                answer(stream, address, router, known).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    router: axum::Router,
    known: Arc<AtomicBool>,
) {
    let service = hyper::service::service_fn(move |request: HttpRequest<Incoming>| {
        let mut router = router.clone();
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(network(address.ip())));
        let (answer, known) = (router.call(request), known.clone());
        async move {
            let answer = answer.await;
            // By the last request: who has logged out is a stranger again.
            known.store(answer.as_ref().is_ok_and(|a| a.extensions().get::<Known>().is_some()), Relaxed);
            answer
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that has gone needs no answer.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn strangers_give_way_and_those_who_are_known_do_not() {
        let guests: Arc<Mutex<Guests>> = Arc::default();
        let take = |address: &str| Place::take(&guests, ip(address));
        let open = || guests.lock().unwrap().all.len();
        // A network is one address; the first of it is known.
        let known = take("2001:db8::1").unwrap();
        known.known.store(true, Relaxed);
        let strangers: Vec<_> = (0..600).map(|n| take(&format!("2001:db8::{n:x}")).unwrap()).collect();
        assert_eq!(open(), OF_ADDRESS);
        let there = |p: &Place| guests.lock().unwrap().all.iter().any(|g| g.number == p.number);
        assert!(there(&known) && !there(&strangers[0]) && there(&strangers[599]));
        // Another address loses none by that.
        let other = take("192.0.2.1").unwrap();
        assert!(there(&other) && open() == OF_ADDRESS + 1);
        strangers.iter().for_each(|s| s.known.store(true, Relaxed));
        assert!(take("2001:db8::1").is_none(), "all are known");
        // All places are taken: the oldest stranger of any address goes.
        let more: Vec<_> = (0..CONNECTIONS).map(|n| take(&format!("198.51.{}.{}", n / 200, n % 200)).unwrap()).collect();
        assert!(open() == CONNECTIONS && !there(&other) && there(&strangers[599]) && there(&more[CONNECTIONS - 1]));
        drop((known, strangers, other, more));
        assert_eq!(open(), 0);
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
