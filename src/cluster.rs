//! Several processes of one job: which one this is (`millrace run --process`), and all of them on this machine (`millrace cluster`).

use crate::alerts::Alerts;
use crate::cli::{ClusterArgs, MemberArgs};
use crate::exit::Exit;
use crate::supervise::{self, Call};
use crate::task::Journal;
use crate::{lint, run};
use millrace_engine::Member;
use millrace_plan::diagnostic;
use millrace_plan::plan::RestartPlan;
use millrace_sdk::config::Secret;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The secret, where no file has it.
const SECRET: &str = "MILLRACE_SECRET";
/// Ports of local processes: below those that the system gives to connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What the command line says of the job's processes; None: this is the only one.
///
/// # Errors
/// The exit code, and a sentence.
pub fn member(args: &MemberArgs) -> Result<Option<Member>, (Exit, String)> {
    let (Some(process), Some(file)) = (args.process, &args.hosts) else { return Ok(None) };
    let text =
        fs::read_to_string(file).map_err(|e| (Exit::Dependency, format!("the hosts file {} cannot be read: {e}", file.display())))?;
    let hosts = hosts(&text).map_err(|why| (Exit::Usage, format!("the hosts file {}: {why}", file.display())))?;
    if process >= hosts.len() {
        let why = format!("--process {process}: {} has {} lines, the first is process 0", file.display(), hosts.len());
        return Err((Exit::Usage, why));
    }
    let secret = match &args.peers.secret_file {
        Some(file) => {
            fs::read_to_string(file).map_err(|e| (Exit::Dependency, format!("the secret cannot be read from {}: {e}", file.display())))?
        }
        None => std::env::var(SECRET).map_err(|_| {
            (
                Exit::Usage,
                format!("the processes of a job need a secret that all of them know: --secret-file FILE, or the variable {SECRET}"),
            )
        })?,
    };
    Ok(Some(Member {
        process,
        hosts,
        listen: args.listen.clone(),
        secret: Secret(secret.trim().into()),
        connect_timeout: args.peers.connect_timeout,
        peer_timeout: args.peers.peer_timeout,
    }))
}

/// The lines of a hosts file; empty ones and those that begin with `#` are none.
fn hosts(text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let mut hosts: Vec<String> = vec![];
    for (i, line) in lines {
        let port = line.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|p| p == 0) {
            return Err(format!("line {}: `{line}` is not host:port", i + 1));
        }
        if hosts.iter().any(|h| h == line) {
            return Err(format!("line {}: `{line}` is there twice", i + 1));
        }
        hosts.push(line.into());
    }
    if hosts.is_empty() { Err("it names no process".into()) } else { Ok(hosts) }
}

/// Runs a job in several processes of this machine.
pub fn cluster(args: &ClusterArgs) -> ExitCode {
    if args.run.dry_run {
        return run::run(&args.run, &MemberArgs::default());
    }
    match run::journal(&args.run) {
        Err(exit) => exit.into(),
        Ok(journal) => {
            let code = together(args, journal.as_ref());
            journal.iter().for_each(|j| j.ended(code));
            code.into()
        }
    }
}

/// The exit code.
fn together(args: &ClusterArgs, journal: Option<&Arc<Journal>>) -> u8 {
    if let Err(e) = run::start_log(&args.run) {
        eprintln!("error: --log: {e}");
        return Exit::Usage as u8;
    }
    let options = millrace_plan::Options { workers: args.run.workers.map(usize::from), ..lint::options(&args.run.set) };
    let planned = millrace_plan::load(&args.run.file, &options);
    let Some(plan) = planned.plan else {
        eprint!("{}", diagnostic::full(&planned.diagnostics, io::stderr().is_terminal()));
        return Exit::Config as u8;
    };
    let strategy = match supervise::strategy(&args.run.file, plan.restart.as_ref()) {
        Ok(strategy) => strategy.unwrap_or(RestartPlan::None),
        Err(exit) => return exit as u8,
    };
    let given = args.peers.secret_file.is_some() || std::env::var_os(SECRET).is_some();
    let secret = match if given { Ok(None) } else { random().map(Some) } {
        Ok(secret) => secret,
        Err(e) => {
            eprintln!("error: a secret cannot be made: {e}");
            return Exit::Dependency as u8;
        }
    };
    let hosts = std::env::temp_dir().join(format!("millrace-hosts-{}", std::process::id()));
    let local = Local { processes: args.processes, metrics: args.run.metrics.or(plan.metrics), hosts, secret };
    let alerts = Alerts::start(&plan.env.job, plan.alerts.as_ref());
    drop(plan.nodes);
    let code = supervise::supervise(strategy, &|| local.calls(), alerts.as_deref(), journal);
    let _ = fs::remove_file(&local.hosts);
    code
}

/// A secret that nobody can guess.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The processes of this machine.
struct Local {
    processes: u16,
    metrics: Option<SocketAddr>,
    hosts: PathBuf,
    /// If nobody else has given one.
    secret: Option<String>,
}

impl Local {
    /// The command lines of one run, whose ports are free now.
    fn calls(&self) -> io::Result<Vec<Call>> {
        let hosts = free(self.processes)?;
        // Nobody else's file is followed or kept.
        let _ = fs::remove_file(&self.hosts);
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.hosts)?.write_all(hosts.as_bytes())?;
        let args: Vec<OsString> = std::env::args_os().skip(2).collect();
        let env = self.secret.clone().map(|secret| (SECRET, secret));
        Ok((0..self.processes).map(|i| Call { args: call(&args, i, self.metrics, &self.hosts), env: env.clone() }).collect())
    }
}

/// `millrace run` of process `i`, from the arguments of `millrace cluster`. Process 0 speaks for all: the others are quiet and write no
/// summary. Each serves its metrics, at a port of its own.
fn call(args: &[OsString], i: u16, metrics: Option<SocketAddr>, hosts: &Path) -> Vec<OsString> {
    const OWN: [&str; 3] = ["--processes", "--metrics", "--summary"];
    let mut call: Vec<OsString> = vec!["run".into()];
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        let (name, joined) = text.split_once('=').map_or((&*text, false), |(name, _)| (name, true));
        match OWN.contains(&name) && !(name == "--summary" && i == 0) {
            true if joined => {}
            true => drop(rest.next()),
            false => call.push(arg.clone()),
        }
    }
    let quiet = |a: &OsString| a == "--quiet" || a == "-q";
    if i > 0 && !call.iter().any(quiet) {
        call.push("--quiet".into());
    }
    if let Some(mut address) = metrics {
        address.set_port(if address.port() == 0 { 0 } else { address.port().saturating_add(i) });
        call.extend(["--metrics".into(), address.to_string().into()]);
    }
    let number = i.to_string();
    let member: [&OsStr; 4] = ["--process".as_ref(), number.as_ref(), "--hosts".as_ref(), hosts.as_os_str()];
    call.extend(member.map(OsString::from));
    call
}

/// A hosts file of so many free ports of this machine.
fn free(processes: u16) -> io::Result<String> {
    let mut held: Vec<TcpListener> = vec![];
    let begin = std::hash::RandomState::new().build_hasher().finish() as u16 % PORTS.len() as u16;
    for port in (PORTS.start + begin..PORTS.end).chain(PORTS.start..PORTS.start + begin) {
        if held.len() == usize::from(processes) {
            break;
        }
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    if held.len() < usize::from(processes) {
        return Err(io::Error::other("there are no free ports"));
    }
    held.iter().map(|l| Ok(format!("{}\n", l.local_addr()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files() {
        assert_eq!(hosts("# all\n a:1\n\n10.0.0.1:7000 \n[::1]:9\n").unwrap(), ["a:1", "10.0.0.1:7000", "[::1]:9"]);
        for (text, want) in [
            ("", "names no process"),
            ("a:1\nb\n", "line 2: `b` is not host:port"),
            ("a:0", "is not host:port"),
            (":7", "is not host:port"),
            ("a:99999", "is not host:port"),
            ("a:1\n\na:1", "line 3: `a:1` is there twice"),
        ] {
            assert!(hosts(text).unwrap_err().contains(want), "{text:?}");
        }
    }

    #[test]
    fn process_0_speaks_for_all() {
        let args = ["job.yaml", "--processes", "3", "--summary=s.json", "--metrics", "1.2.3.4:5", "--workers", "2"].map(OsString::from);
        let said = |i| call(&args, i, Some("127.0.0.1:9000".parse().unwrap()), Path::new("h")).join(" ".as_ref());
        let tail = |i: u16| format!("--metrics 127.0.0.1:{} --process {i} --hosts h", 9000 + i);
        assert_eq!(said(0).to_str().unwrap(), format!("run job.yaml --summary=s.json --workers 2 {}", tail(0)));
        assert_eq!(said(2).to_str().unwrap(), format!("run job.yaml --workers 2 --quiet {}", tail(2)));
    }

    #[test]
    fn free_ports_differ() {
        let text = free(5).unwrap();
        assert_eq!(hosts(&text).unwrap().len(), 5);
    }
}
