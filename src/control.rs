//! Control of a running job: a Unix socket `<state_dir>/<job>.sock`, and the commands that speak to it.
//!
//! A socket in the file system, as its permissions (0600, its owner alone) are all the authentication that is needed and no port or token can
//! leak. A request is a line of JSON `{"command": …}`, its answer a line `{"ok": …}` or `{"error": …}`; the connection ends with the job.

use crate::cli::{JobArgs, RescaleArgs, StopArgs};
use crate::exit::Exit;
use crate::lint::options;
use crate::pages::print;
use crate::record;
use crate::report;
use crate::tap::{self, Refused};
use crate::watch::Watch;
use millrace_engine::Request;
use millrace_engine::summary::FaultSummary;
use millrace_plan::diagnostic;
use millrace_sdk::operator::Env;
use millrace_sdk::{Fault, Severity};
use serde_json::{Value, json};
use std::fs::{File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longest line that a request may be.
const MAX_LINE: u64 = 4096;
/// Longest path of a socket (`sun_path`); longer ones go by their folder's descriptor.
const MAX_PATH: usize = 100;

/// Where a job's socket lies.
pub fn path(env: &Env) -> PathBuf {
    env.state_dir.join(format!("{}.sock", millrace_plan::file_name(&env.job)))
}

/// Where the socket of one of several processes lies: they may share the folder. Process 0's is the job's.
pub fn path_of(env: &Env, process: usize) -> PathBuf {
    match process {
        0 => path(env),
        i => path(env).with_extension(format!("{i}.sock")),
    }
}

/// Uses a path that is short enough for a socket.
fn at<T>(path: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_PATH {
        return use_it(path);
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    use_it(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// A socket that is served; dropped, its file goes, once those who asked have their answers.
pub struct Served {
    path: PathBuf,
    held: Arc<Mutex<Held>>,
    answering: Answering,
}

/// Whose the socket's file is.
enum Held {
    /// Not this process's: another run of the job still answers there, or it cannot be made.
    No,
    /// This process's, as long as the file there is this one: its device and inode.
    Yes((u64, u64)),
    /// The job has ended.
    Ended,
}

/// How often a run that has no socket, or lost it to another run, looks whether it can have it.
const AGAIN: Duration = Duration::from_millis(500);

fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// How many requests are being answered. A tap is not counted: it ends with the job.
type Answering = Arc<(Mutex<usize>, Condvar)>;

/// An answer that nobody reads keeps no job from its end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Drop for Served {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        // The run that took this one's place may have a socket there by now.
        if matches!(&*held, Held::Yes(file) if file_at(&self.path) == Some(*file)) {
            let _ = std::fs::remove_file(&self.path);
        }
        *held = Held::Ended;
        drop(held);
        let (count, changed) = &*self.answering;
        let count = count.lock().unwrap_or_else(|e| e.into_inner());
        drop(changed.wait_timeout_while(count, LAST_ANSWERS, |n| *n > 0));
    }
}

/// Counts a request from its reading until its answer is written.
struct Asked<'a>(&'a Answering);

impl Asked<'_> {
    fn new(answering: &Answering) -> Asked<'_> {
        *answering.0.lock().unwrap_or_else(|e| e.into_inner()) += 1;
        Asked(answering)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(|e| e.into_inner()) -= 1;
        self.0.1.notify_all();
    }
}

/// Serves a job's socket. While that is not possible the job runs without one, and the log says so: a run that takes another's place gets
/// it when that one has ended.
pub fn serve(path: PathBuf, watch: Arc<Watch>) -> Served {
    let served = Served { path: path.clone(), held: Arc::new(Mutex::new(Held::No)), answering: Answering::default() };
    let (held, answering) = (served.held.clone(), served.answering.clone());
    let mut told = false;
    let mut hold = move || {
        let holds = || held.lock().unwrap_or_else(|e| e.into_inner());
        match &*holds() {
            Held::Ended => return false,
            Held::Yes(file) if file_at(&path) == Some(*file) => return true,
            Held::Yes(_) | Held::No => {}
        }
        // Without the lock, for which the job's end waits: to ask whether another answers there may take long.
        match (listen(&path), &mut *holds()) {
            (Ok(_), Held::Ended) => drop(std::fs::remove_file(&path)),
            (Ok(listener), held) => {
                *held = file_at(&path).map_or(Held::No, Held::Yes);
                accept(listener, watch.clone(), answering.clone());
            }
            (Err(e), _) if !told => {
                told = true;
                tracing::warn!(socket = %path.display(), error = %e, "the job cannot be controlled by `millrace stop`, `savepoint`, `status` yet");
            }
            (Err(_), _) => {}
        }
        true
    };
    hold();
    let again = move || {
        while hold() {
            std::thread::sleep(AGAIN);
        }
    };
    // Without this thread the job keeps what it has.
    let _ = std::thread::Builder::new().name("control".into()).spawn(again);
    served
}

/// Answers all who call, each on a thread of its own.
fn accept(listener: UnixListener, watch: Arc<Watch>, answering: Answering) {
    let all = move || {
        for stream in listener.incoming().flatten() {
            let (watch, answering) = (watch.clone(), answering.clone());
            // Who cannot be answered now may ask again.
            let _ = std::thread::Builder::new().name("control".into()).spawn(move || answer_all(&stream, &watch, &answering));
        }
    };
    let _ = std::thread::Builder::new().name("control".into()).spawn(all);
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket {
        if at(path, |p| UnixStream::connect(p)).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "a job of this name runs already with this state folder"));
        }
        // Left by a run that was killed.
        std::fs::remove_file(path)?;
    }
    let listener = at(path, |p| UnixListener::bind(p))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer_all(stream: &UnixStream, watch: &Watch, answering: &Answering) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match reader.by_ref().take(MAX_LINE).read_line(&mut line) {
            Ok(n) if n > 0 && line.ends_with('\n') => {}
            _ => return,
        }
        // A tap answers row by row, for as long as somebody listens.
        let tapped = serde_json::from_str(&line).ok().filter(|r: &Value| r["command"] == "tap");
        let _asked = tapped.is_none().then(|| Asked::new(answering));
        let answer = match tapped.map(|r| tap::serve(stream, &r, watch)) {
            Some(Ok(())) => return,
            Some(Err(refused)) => Err(refused),
            None => answer(&line, watch).map_err(Refused::from),
        };
        let answer = match answer {
            Ok(value) => json!({"ok": value}),
            Err(Refused(fault, None)) => json!({"error": FaultSummary::from(fault)}),
            Err(Refused(fault, Some(at))) => json!({"error": FaultSummary::from(fault), "range": [at.start, at.end]}),
        };
        if writeln!(&mut &*stream, "{answer}").is_err() {
            return;
        }
    }
}

fn answer(line: &str, watch: &Watch) -> Result<Value, Fault> {
    let request: Value = serde_json::from_str(line).map_err(|e| Fault::config(format!("a request is a line of JSON: {e}")))?;
    let flag = |name: &str| request[name].as_bool().unwrap_or(false);
    let asked = match request["command"].as_str() {
        Some("status") => return Ok(watch.status()),
        Some("outputs") => return Ok(watch.outputs.listed()),
        Some("record") => return record::answer(&watch.stores, &request),
        Some("metrics") => return Ok(watch.metrics().into()),
        Some("savepoint") => Request::Savepoint,
        Some("rescale") => {
            let workers = request["workers"].as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
            Request::Rescale { workers: workers.ok_or_else(|| Fault::config("`workers` must be a number from 1"))? }
        }
        Some("stop") => Request::Stop { savepoint: flag("savepoint"), drain: flag("drain") },
        other => return Err(Fault::config(format!("unknown command `{}`", other.unwrap_or_default()))),
    };
    let ended = || Fault::refused("the job ended before it had answered");
    watch.control.request(asked).recv().unwrap_or_else(|_| Err(ended())).map(Value::from)
}

/// Whether a job listens there.
pub fn answers(socket: &Path) -> bool {
    at(socket, |p| UnixStream::connect(p)).is_ok()
}

/// Asks the job that listens there.
///
/// # Errors
/// What it has against the request, or that it is gone.
pub fn ask(socket: &Path, request: &Value) -> Result<Value, Fault> {
    let gone = |e: io::Error| Fault::down(format!("no job answers at {}: {e}", socket.display()));
    let mut stream = BufReader::new(at(socket, |p| UnixStream::connect(p)).map_err(gone)?);
    let mut line = String::new();
    writeln!(stream.get_mut(), "{request}").and_then(|()| stream.read_line(&mut line)).map_err(gone)?;
    let mut answer: Value = serde_json::from_str(&line).unwrap_or_default();
    match serde_json::from_value::<FaultSummary>(answer["error"].take()) {
        Ok(fault) => Err(fault.into()),
        Err(_) => Ok(answer["ok"].take()),
    }
}

/// A connection to a running job.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// `job`: the socket, or the topology.
    ///
    /// # Errors
    /// Nothing runs there, or the topology has errors; told.
    pub fn open(job: &JobArgs) -> Result<Connection, Exit> {
        match Self::find(job)? {
            Ok(connection) => Ok(connection),
            Err((socket, e)) => {
                eprintln!("error: no job answers at {}: {e}", socket.display());
                eprintln!("  Hint: it does not run, is being restarted, or runs with another `run_env.state_dir`");
                Err(Exit::Dependency)
            }
        }
    }

    /// As [`open`](Self::open); what is wrong with a socket that does not answer is not told.
    fn find(job: &JobArgs) -> Result<Result<Connection, (PathBuf, io::Error)>, Exit> {
        let is_socket = std::fs::metadata(&job.job).is_ok_and(|m| m.file_type().is_socket());
        let named = job.job.extension().is_some_and(|e| e == "sock");
        let socket = if is_socket || named { job.job.clone() } else { socket_of(job)? };
        let connected = at(&socket, |p| UnixStream::connect(p));
        Ok(connected.map(|s| Connection(BufReader::new(s))).map_err(|e| (socket, e)))
    }

    /// # Errors
    /// What the job says against it, or that it is gone.
    pub fn ask(&mut self, request: &Value) -> Result<Value, Exit> {
        let mut line = String::new();
        let asked = writeln!(self.0.get_mut(), "{request}").and_then(|()| self.0.read_line(&mut line));
        let mut answer: Value = asked.ok().and_then(|_| serde_json::from_str(&line).ok()).unwrap_or_default();
        let mut part = |name: &str| answer.get_mut(name).map(Value::take).unwrap_or_default();
        if let Ok(fault) = serde_json::from_value::<FaultSummary>(part("error")) {
            eprintln!("error: {}", report::fault(&fault));
            return Err(Exit::of_class(fault.kind));
        }
        match part("ok") {
            Value::Null => {
                eprintln!("error: the job ended before it had answered");
                Err(Exit::Dependency)
            }
            value => Ok(value),
        }
    }

    /// What the job goes on to say.
    pub fn reader(self) -> BufReader<UnixStream> {
        self.0
    }

    /// Waits until the job's process is gone.
    fn wait(mut self) {
        let _ = io::copy(&mut self.0, &mut io::sink());
    }
}

fn socket_of(job: &JobArgs) -> Result<PathBuf, Exit> {
    let planned = millrace_plan::load(&job.job, &options(&job.set));
    match planned.plan {
        Some(plan) => Ok(path(&plan.env)),
        None => {
            let errors: Vec<_> = planned.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
            eprint!("{}", diagnostic::full(&errors, false));
            Err(Exit::Config)
        }
    }
}

pub fn done(result: Result<Exit, Exit>) -> Exit {
    result.unwrap_or_else(|e| e)
}

pub fn savepoint(job: &JobArgs) -> Exit {
    done(Connection::open(job).and_then(|mut c| c.ask(&json!({"command": "savepoint"}))).map(|v| print(&format!("{}\n", plain(&v)))))
}

pub fn stop(args: &StopArgs) -> Exit {
    let run = || {
        let mut job = Connection::open(&args.job)?;
        let said = job.ask(&json!({"command": "stop", "savepoint": args.savepoint, "drain": args.drain}))?;
        print(&format!("{}\n", plain(&said)));
        job.wait();
        Ok(Exit::Ok)
    };
    done(run())
}

/// How long a job may take to be there again.
const REBORN: Duration = Duration::from_secs(120);

/// Has a job go on with other workers, and waits until it does.
pub fn rescale(args: &RescaleArgs) -> Exit {
    let run = || {
        let mut job = Connection::open(&args.job)?;
        let said = job.ask(&json!({"command": "rescale", "workers": args.workers}))?;
        job.wait();
        let begun = Instant::now();
        while begun.elapsed() < REBORN {
            std::thread::sleep(Duration::from_millis(50));
            let status = Connection::find(&args.job)?.ok().and_then(|mut c| c.ask(&json!({"command": "status"})).ok());
            if status.is_some_and(|s| s["state"] == "running" && s["workers"] == args.workers) {
                return Ok(print(&format!("{} workers go on from {}\n", args.workers, plain(&said))));
            }
        }
        eprintln!("error: the job has stopped at {} and is not running again", plain(&said));
        eprintln!("  Hint: its own log says why; it goes on from there when it is started again");
        Err(Exit::Dependency)
    };
    done(run())
}

pub fn status(job: &JobArgs, as_json: bool) -> Exit {
    let run = || {
        let status = Connection::open(job)?.ask(&json!({"command": "status"}))?;
        if as_json {
            return Ok(print(&format!("{status}\n")));
        }
        let lines = status.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
        Ok(print(&lines.map(|(k, v)| format!("{:24} {}\n", k.replace('_', " "), plain(v))).collect::<String>()))
    };
    done(run())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}
