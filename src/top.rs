//! `millrace top`: a running job's figures as a table that refreshes. It reads what the job serves: its metrics port or its control socket.

use crate::cli::{JobArgs, TopArgs};
use crate::control::Connection;
use crate::exit::Exit;
use crate::pages::print;
use crate::report::thousands;
use millrace_console::Figures;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a job may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 << 20;

pub fn top(args: TopArgs) -> Exit {
    let mut from = match millrace_plan::listen(&args.target) {
        Ok(address) if !std::path::Path::new(&args.target).exists() => Served::Port(address),
        _ => match Connection::open(&JobArgs { job: args.target.clone().into(), set: args.set }) {
            Ok(socket) => Served::Socket(socket),
            Err(exit) => return exit,
        },
    };
    let mut before: Option<(Instant, Figures)> = None;
    loop {
        let figures = match from.text() {
            Ok(text) => Figures::parse(&text),
            Err(_) if before.is_some() => {
                eprintln!("the job has ended, or is being restarted");
                return Exit::Ok;
            }
            Err(e) => {
                eprintln!("error: no job serves metrics at {}: {e}", args.target);
                eprintln!("  Hint: start it with `--metrics {}`, or name its topology", args.target);
                return Exit::Dependency;
            }
        };
        if args.once {
            let run = figures.one("millrace_uptime_seconds");
            return print(&table(&figures, &Figures::default(), run));
        }
        let now = Instant::now();
        let (since, old) =
            before.as_ref().map_or((figures.one("millrace_uptime_seconds"), None), |(t, f)| (t.elapsed().as_secs_f64(), Some(f)));
        let shown = table(&figures, old.unwrap_or(&Figures::default()), since);
        let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        print(&format!("{clear}{shown}{}", if clear.is_empty() { "\n" } else { "" }));
        before = Some((now, figures));
        std::thread::sleep(args.interval);
    }
}

enum Served {
    Port(SocketAddr),
    Socket(Connection),
}

impl Served {
    fn text(&mut self) -> Result<String, String> {
        match self {
            Served::Port(address) => get(*address).map_err(|e| e.to_string()),
            Served::Socket(job) => match job.ask(&json!({"command": "metrics"})) {
                Ok(serde_json::Value::String(text)) => Ok(text),
                _ => Err("it does not answer".into()),
            },
        }
    }
}

/// `GET /metrics`; HTTP/1.0, so that the answer ends with the connection.
fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_string()),
        _ => Err(std::io::Error::other("this is no metrics port")),
    }
}

fn count(n: f64) -> String {
    thousands(n.max(0.0) as u64)
}

fn bytes(n: f64) -> String {
    format!("{:.0} MiB", n / (1 << 20) as f64)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// The figures, and what changed in `since` seconds.
fn table(f: &Figures, old: &Figures, since: f64) -> String {
    let since = since.max(1e-3);
    let rate = |name: &str, labels: &[(&str, &str)]| (f.sum(name, labels) - old.sum(name, labels)) / since;
    let mut t = String::new();
    let job = f.values("millrace_info", "job").join("");
    let _ = writeln!(
        t,
        "{job}  up {}  {} restarts  {} workers  {} resident (most {})  {:.0} % cpu  {} threads  {} open files",
        span(f.one("millrace_uptime_seconds")),
        f.one("millrace_restarts_total"),
        f.one("millrace_workers"),
        bytes(f.one("process_resident_memory_bytes")),
        bytes(f.one("millrace_process_peak_memory_bytes")),
        100.0 * rate("process_cpu_seconds_total", &[]),
        f.one("process_threads"),
        f.one("process_open_fds"),
    );
    let latency = |part| f.quantile("millrace_latency_seconds", old, part).map_or("-".into(), span);
    let lag = f.all("millrace_source_lag_records", &[]).next().map(|_| format!("  lag {}", count(f.one("millrace_source_lag_records"))));
    let _ = writeln!(
        t,
        "latency p50 < {}  p99 < {}{}{}{}",
        latency(0.5),
        latency(0.99),
        lag.unwrap_or_default(),
        if f.one("millrace_waiting") > 0.0 { "  (waiting for a server)" } else { "" },
        if f.one("millrace_lost_records_total") > 0.0 { "  RECORDS WERE LOST" } else { "" },
    );
    let parts = f.values("millrace_part_records_in_total", "part");
    let width = parts.iter().map(|p| p.chars().count()).max().unwrap_or(4).max(4);
    let workers = f.one("millrace_workers").max(1.0);
    let _ = writeln!(
        t,
        "\n{:width$}  {:>11}  {:>11}  {:>15}  {:>15}  {:>10}  {:>6}  {:>7}  {:>8}",
        "part", "in/s", "out/s", "in", "out", "rejected", "busy %", "block %", "delay"
    );
    const OUT: &str = "millrace_part_records_out_total";
    for part in &parts {
        let of: &[(&str, &str)] = &[("part", part)];
        // What went to `errors` stands under `rejected`.
        let errors: &[(&str, &str)] = &[("part", part), ("port", "errors")];
        let share = |name| 100.0 * rate(name, of) / workers;
        let delay = f.all("millrace_part_watermark_delay_seconds", of).next().map_or(String::new(), |s| span(s.2));
        let _ = writeln!(
            t,
            "{part:width$}  {:>11}  {:>11}  {:>15}  {:>15}  {:>10}  {:>6.1}  {:>7.1}  {delay:>8}",
            count(rate("millrace_part_records_in_total", of)),
            count(rate(OUT, of) - rate(OUT, errors)),
            count(f.sum("millrace_part_records_in_total", of)),
            count(f.sum(OUT, of) - f.sum(OUT, errors)),
            count(f.sum("millrace_part_rejected_total", of)),
            share("millrace_part_busy_seconds_total"),
            share("millrace_part_backpressured_seconds_total"),
        );
    }
    for store in f.values("millrace_store_lookups_total", "store") {
        let of: &[(&str, &str)] = &[("store", &store)];
        let asked = f.sum("millrace_store_lookups_total", of);
        let saved = f.sum("millrace_store_cache_hits_total", of) + f.sum("millrace_store_shared_total", of);
        let _ = writeln!(
            t,
            "look-ups in {store}: {}/s  {} asked  {:.1} % saved  {} calls  {} errors",
            count(rate("millrace_store_lookups_total", of)),
            count(asked),
            if asked > 0.0 { 100.0 * saved / asked } else { 0.0 },
            count(f.sum("millrace_store_calls_total", of)),
            count(f.sum("millrace_store_errors_total", of)),
        );
    }
    if f.all("millrace_checkpoints_total", &[]).next().is_some() {
        let of = |result| count(f.sum("millrace_checkpoints_total", &[("result", result)]));
        let age = f.all("millrace_checkpoint_age_seconds", &[]).next().map_or("none yet".into(), |s| format!("last {} ago", span(s.2)));
        let _ = writeln!(
            t,
            "checkpoints: {} completed  {} failed  {} delayed  {age}  {}",
            of("completed"),
            of("failed"),
            of("delayed"),
            bytes(f.one("millrace_checkpoint_size_bytes"))
        );
    }
    t
}
