//! A running job for those who watch it: figures, health and readiness; and the port on which they are served.
//!
//! `GET /metrics` (Prometheus), `/healthz` (200 while all workers take steps), `/readyz` (200 while the job reads). There is nothing that
//! changes the job: that goes by the control socket, which has the file system's permissions.

use crate::process;
use crate::record::Used;
use crate::tap::Outputs;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_engine::exposition::{self, About};
use millrace_engine::{Control, Progress};
use millrace_sdk::{Clock, Fault};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A worker that takes no step for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// Connections at a time; more wait.
const CONNECTIONS: usize = 32;
/// A client that has not sent its request by then is cut off.
const REQUEST: Duration = Duration::from_secs(10);

pub struct Watch {
    pub job: String,
    pub restarts: u32,
    /// How long the job had been running before this process began.
    pub before: Duration,
    pub clock: Clock,
    pub control: Control,
    pub began: Instant,
    /// What `millrace tap` can look at.
    pub outputs: Outputs,
    /// What its parts look things up in.
    pub stores: Vec<Used>,
    /// None: parts are being checked and opened.
    pub progress: Mutex<Option<Arc<Progress>>>,
}

impl Watch {
    fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn uptime(&self) -> f64 {
        (self.before + self.began.elapsed()).as_secs_f64()
    }

    /// All figures, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let progress = self.progress();
        let about = About {
            job: &self.job,
            version: env!("CARGO_PKG_VERSION"),
            restarts: self.restarts,
            uptime: self.uptime(),
            micros: progress.as_ref().map_or(0, |p| p.started.elapsed().as_micros() as u64),
            now: self.clock.now(),
            process: process::figures(),
        };
        exposition::text(progress.as_ref().map(|p| &*p.meters), &about)
    }

    /// Where the job stands, in a few figures.
    pub fn status(&self) -> Value {
        let mut all = json!({
            "job": self.job,
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.state(),
            "uptime_seconds": self.uptime(),
            "restarts": self.restarts,
        });
        if let Some(p) = self.progress() {
            let s = p.snapshot();
            all["workers"] = p.meters.steps.len().into();
            all["in"] = s.records_in.into();
            all["out"] = s.records_out.into();
            all["rejected"] = s.rejected.into();
            all["lost"] = p.meters.lost.load(Relaxed).into();
            all["lag"] = s.lag.into();
            all["watermark_delay_seconds"] = s.watermark.map(|w| self.clock.now().saturating_sub(w) as f64 / 1e6).into();
            all["waiting"] = s.waiting.into();
            let now = p.started.elapsed().as_micros() as u64;
            let oldest = p.meters.steps.iter().map(|s| s.load(Relaxed)).filter(|s| *s > 0).min();
            all["last_step_seconds"] = oldest.map(|s| now.saturating_sub(s) as f64 / 1e6).into();
        }
        all
    }

    fn state(&self) -> &'static str {
        match self.progress() {
            _ if self.control.draining() => "stopping",
            Some(p) if p.meters.steps.iter().all(|s| s.load(Relaxed) > 0) => "running",
            _ => "starting",
        }
    }

    /// Whether all workers take steps, and the last progress.
    fn health(&self) -> (bool, Value) {
        let Some(p) = self.progress() else {
            return (true, json!({"job": self.job, "alive": true, "state": self.state(), "uptime_seconds": self.uptime()}));
        };
        let now = p.started.elapsed().as_micros() as u64;
        let age = |at: u64| now.saturating_sub(at) as f64 / 1e6;
        let workers: Vec<f64> = p.meters.steps.iter().map(|s| s.load(Relaxed)).filter(|&s| s > 0).map(age).collect();
        let alive = workers.iter().all(|a| *a < STUCK.as_secs_f64());
        let about = json!({
            "job": self.job,
            "alive": alive,
            "state": self.state(),
            "uptime_seconds": self.uptime(),
            "last_progress_seconds": age(p.meters.acknowledged.1.load(Relaxed)),
            "last_step_seconds": workers,
        });
        (alive, about)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
        let good = |good: bool| if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, TEXT, self.metrics()),
            (&Method::GET | &Method::HEAD, "/healthz") => {
                let (alive, about) = self.health();
                (good(alive), "application/json", format!("{about}\n"))
            }
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let state = self.state();
                (good(state == "running"), "application/json", format!("{}\n", json!({"job": self.job, "state": state})))
            }
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".into()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET is all there is\n".into()),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        response
    }
}

/// Serves a job's figures until the process ends; the address that it listens on.
///
/// # Errors
/// The address is taken, or is not this machine's.
pub fn serve(address: SocketAddr, watch: Arc<Watch>) -> Result<SocketAddr, Fault> {
    let refused = |e: std::io::Error| {
        Fault::refused(format!("metrics cannot be served at {address}: {e}"))
            .hint("choose another address with `run_env.metrics.listen` or `--metrics`")
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let work = async move {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of files, mostly: others will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let watch = watch.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request: Request<Incoming>| {
                    let response = watch.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(REQUEST);
                // A client that has gone needs no answer.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    std::thread::Builder::new().name("metrics".into()).spawn(move || runtime.block_on(work)).map_err(refused)?;
    Ok(bound)
}
