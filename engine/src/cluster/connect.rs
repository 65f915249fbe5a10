//! Finding the other processes: a listener, calls, and a limit of time for both.

use super::handshake::{Broken, Hello, Line, Reply, answer, call, check_secret};
use super::{Member, Seat};
use crate::control::Control;
use millrace_sdk::Fault;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::net::sockopt;
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two calls of a process that does not answer.
const AGAIN: Duration = Duration::from_millis(50);
/// For one call and its handshake.
const CALL: Duration = Duration::from_secs(5);
/// Callers whose handshake is under way; more are hung up on.
const CALLERS: usize = 64;

/// All connections of a process.
pub struct Mesh {
    /// By process: of process 0 with all others, of the others with process 0.
    pub control: Vec<Option<TcpStream>>,
    /// By process.
    pub data: Vec<Option<TcpStream>>,
    pub run: u64,
    /// When the run began, by process 0's clock as this process sees it.
    pub start: Instant,
}

/// What the listener knows.
struct Door {
    me: Hello,
    secret: Vec<u8>,
    /// None: process 0 has not told it yet.
    run: Mutex<Option<u64>>,
    start: Instant,
    /// Who is in: process and line.
    inside: Mutex<Vec<(usize, Line)>>,
    /// Why a process, or a stranger (None), was sent away last.
    refused: Mutex<BTreeMap<Option<usize>, String>>,
    guests: Sender<(Hello, TcpStream)>,
    callers: AtomicUsize,
    closed: AtomicBool,
}

fn locked<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

/// Joins the job's processes to each other. Returns when every connection stands.
///
/// # Errors
/// One of them did not appear in time, or does not fit; the address is taken; a stop was asked for.
pub fn connect(member: &Member, seat: Seat, hash: u64, control: &Control, start: Instant) -> Result<Mesh, Fault> {
    check_secret(&member.secret.0)?;
    let deadline = Instant::now() + member.connect_timeout;
    let me = Hello {
        line: Line::Control,
        process: seat.process,
        processes: seat.processes,
        workers: seat.workers,
        hash,
        release: env!("CARGO_PKG_VERSION").into(),
        run: (seat.process == 0).then(|| StdRng::from_os_rng().random()),
    };
    let (guests, came) = channel();
    let door = Arc::new(Door {
        run: Mutex::new(me.run),
        me,
        secret: member.secret.0.clone().into_bytes(),
        start,
        inside: Mutex::default(),
        refused: Mutex::default(),
        guests,
        callers: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
    });
    listen(member, &door, deadline)?;
    let joined = Joining { member, door: &door, control, deadline }.all(&came);
    door.closed.store(true, SeqCst);
    joined
}

/// Opens the door. The address's host may be a name that appears only when this very process is up.
fn listen(member: &Member, door: &Arc<Door>, deadline: Instant) -> Result<(), Fault> {
    let address = member.listen.as_deref().unwrap_or(&member.hosts[door.me.process]);
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) || Instant::now() >= deadline => {
                return Err(Fault::refused(format!("process {} cannot listen at {address}: {e}", door.me.process)).hint(
                    "another process may listen there; `--listen ADDR:PORT` says where to listen if that is not what the others call",
                ));
            }
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(Fault::config(format!(
                    "process {} cannot listen at {address}: it is not an address of this machine",
                    door.me.process
                ))
                .detail(e.to_string())
                .hint("`--process` says which line of the hosts file is this process; `--listen 0.0.0.0:PORT` listens at every address"));
            }
            Err(_) => std::thread::sleep(AGAIN),
        }
    };
    let failed = |e: io::Error| Fault::refused(format!("process {} cannot listen at {address}: {e}", door.me.process));
    listener.set_nonblocking(true).map_err(failed)?;
    let door = door.clone();
    let accept = move || {
        while !door.closed.load(SeqCst) {
            match listener.accept() {
                Ok((stream, _)) if door.callers.fetch_add(1, SeqCst) < CALLERS => {
                    let inside = door.clone();
                    let served = std::thread::Builder::new().name("handshake".into()).spawn(move || {
                        inside.receive(stream);
                        inside.callers.fetch_sub(1, SeqCst);
                    });
                    if served.is_err() {
                        door.callers.fetch_sub(1, SeqCst);
                    }
                }
                Ok(_) => _ = door.callers.fetch_sub(1, SeqCst),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    std::thread::Builder::new().name("door".into()).spawn(accept).map(|_| ()).map_err(failed)
}

impl Door {
    fn receive(&self, mut stream: TcpStream) {
        let from = stream.peer_addr().map_or_else(|_| "?".into(), |a| a.ip().to_string());
        if stream.set_nonblocking(false).and_then(|()| patience(&stream, Some(CALL))).is_err() {
            return;
        }
        let answered = answer(&mut stream, &self.secret, |hello| self.reply(hello));
        match answered {
            Ok((hello, Reply::Welcome { .. })) => {
                if !self.closed.load(SeqCst) {
                    // Who waits for guests is gone only when the door is closed.
                    let _ = self.guests.send((hello, stream));
                }
            }
            Ok((hello, Reply::No(why))) => {
                tracing::warn!(target: "cluster", "process {} at {from} was refused: {why}", hello.process);
                locked(&self.refused).insert(Some(hello.process), why);
            }
            Ok((_, Reply::Later(_))) => {}
            Err(Broken::Secret) => {
                tracing::warn!(target: "cluster", "somebody at {from} was refused: another secret");
                locked(&self.refused).insert(None, format!("a process that called from {from} has another secret"));
            }
            Err(Broken::Io(e)) => tracing::debug!(target: "cluster", "a call from {from} came to nothing: {e}"),
        }
    }

    fn reply(&self, hello: &Hello) -> Reply {
        if let Some(why) = self.me.differs(hello) {
            return Reply::No(why);
        }
        let Some(run) = *locked(&self.run) else { return Reply::Later("it has not yet found process 0".into()) };
        if hello.run.is_some_and(|r| r != run) {
            return Reply::Later("it belongs to another start of the job".into());
        }
        let mut inside = locked(&self.inside);
        if inside.contains(&(hello.process, hello.line)) || self.closed.load(SeqCst) {
            return Reply::Later(format!("a process {} is there already", hello.process));
        }
        inside.push((hello.process, hello.line));
        Reply::Welcome { run, micros: self.start.elapsed().as_micros() as u64 }
    }
}

/// Time-outs of a connection; None: there are none.
fn patience(stream: &TcpStream, time: Option<Duration>) -> io::Result<()> {
    stream.set_read_timeout(time)?;
    stream.set_write_timeout(time)
}

/// A connection that is used from now on: small messages go at once, and a peer that has vanished is noticed.
fn settle(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    patience(stream, None)?;
    stream.set_nodelay(true)?;
    let idle = silence.max(Duration::from_secs(3)) / 3;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, idle)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(sockopt::set_tcp_user_timeout(stream, silence.as_millis().min(u128::from(u32::MAX)) as u32)?)
}

struct Joining<'a> {
    member: &'a Member,
    door: &'a Door,
    control: &'a Control,
    deadline: Instant,
}

impl Joining<'_> {
    fn all(&self, came: &Receiver<(Hello, TcpStream)>) -> Result<Mesh, Fault> {
        let (me, n) = (self.door.me.process, self.member.hosts.len());
        let empty = || (0..n).map(|_| None).collect::<Vec<Option<TcpStream>>>();
        let mut mesh = Mesh { control: empty(), data: empty(), run: self.door.me.run.unwrap_or(0), start: self.door.start };
        if me > 0 {
            let (stream, run, age) = self.call(0, Line::Control, None)?;
            mesh.control[0] = Some(stream);
            mesh.run = run;
            mesh.start = Instant::now().checked_sub(age).unwrap_or(self.door.start);
            *locked(&self.door.run) = Some(run);
        }
        for other in 0..me {
            mesh.data[other] = Some(self.call(other, Line::Data, Some(mesh.run))?.0);
        }
        loop {
            let missing = (0..n).find(|&p| p != me && (mesh.data[p].is_none() || (me == 0 && mesh.control[p].is_none())));
            let Some(missing) = missing else { break };
            if let Ok((hello, stream)) = came.recv_timeout(AGAIN) {
                let lines = if hello.line == Line::Control { &mut mesh.control } else { &mut mesh.data };
                lines[hello.process] = Some(stream);
            }
            if let Some(gone) = (0..n).find(|&p| mesh.control[p].as_ref().is_some_and(is_gone)) {
                return Err(super::frame::lost(&self.member.name(gone), "it ended while others were still awaited"));
            }
            self.wait_for(missing, &self.door.refusal(missing))?;
        }
        for stream in mesh.control.iter().chain(&mesh.data).flatten() {
            settle(stream, self.member.peer_timeout)
                .map_err(|e| Fault::refused(format!("the connections of process {me} cannot be set up: {e}")))?;
        }
        Ok(mesh)
    }

    /// # Errors
    /// The time is over.
    fn wait_for(&self, process: usize, why: &str) -> Result<(), Fault> {
        if self.control.is_asked_to_end() {
            return Err(Fault::refused("stopped before all processes of the job were there"));
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let (name, time) = (self.member.name(process), self.member.connect_timeout.as_secs_f64());
        let mut fault = Fault::down(format!("{name} did not answer within {time}s"));
        if !why.is_empty() {
            fault = fault.detail(why);
        }
        Err(fault.hint(
            "every process of the job must run, with the same hosts file, and reach the others; `--connect-timeout` says how long to wait",
        ))
    }

    /// Calls a process until it takes the call: the connection, the run, and the run's age.
    fn call(&self, process: usize, line: Line, run: Option<u64>) -> Result<(TcpStream, u64, Duration), Fault> {
        let hello = Hello { line, run, ..self.door.me.clone() };
        let name = self.member.name(process);
        loop {
            let why = match self.once(process, &hello) {
                Ok((stream, Reply::Welcome { run, micros })) => return Ok((stream, run, Duration::from_micros(micros))),
                Ok((_, Reply::Later(why))) => why,
                Ok((_, Reply::No(why))) => {
                    let fault = Fault::config(format!("{name} refuses this process (process {}): {why}", hello.process));
                    return Err(fault.hint(
                        "all processes of a job run the same release, the same topology with the same values, and the same hosts file",
                    ));
                }
                Err(Broken::Secret) => {
                    return Err(Fault::config(format!("{name} has another secret"))
                        .hint("all processes of a job read the same secret: `--secret-file`, or MILLRACE_SECRET"));
                }
                Err(Broken::Io(e)) => e.to_string(),
            };
            self.wait_for(process, &why)?;
            std::thread::sleep(AGAIN);
        }
    }

    fn once(&self, process: usize, hello: &Hello) -> Result<(TcpStream, Reply), Broken> {
        let mut stream = None;
        let mut failed = io::Error::other("its name has no address");
        for address in self.member.hosts[process].to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CALL) {
                Ok(s) => stream = Some(s),
                Err(e) => failed = e,
            }
            if stream.is_some() {
                break;
            }
        }
        let mut stream = stream.ok_or(failed)?;
        patience(&stream, Some(CALL))?;
        let reply = call(&mut stream, &self.door.secret, hello)?;
        Ok((stream, reply))
    }
}

impl Door {
    /// Why a process is not inside, as far as is known.
    fn refusal(&self, process: usize) -> String {
        let refused = locked(&self.refused);
        refused.get(&Some(process)).or_else(|| refused.get(&None)).cloned().unwrap_or_default()
    }
}

/// Whether the other end of a silent connection has been closed.
fn is_gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let seen = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    match seen {
        Ok(n) => n == 0,
        Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}
