//! Questions to a job by its socket: a line of JSON there, a line back.

use crate::Figures;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest answer that is read, bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// What is said when the job went away instead of answering.
pub const CUT: &str = "the job ended before it had answered";
/// Longest path of a socket (`sun_path`); longer ones go by their folder's descriptor.
const MAX_PATH: usize = 100;

/// # Errors
/// What the job says against it, or that it does not answer in time.
pub async fn ask(socket: &Path, request: &Value, patience: Duration) -> Result<Value, String> {
    match tokio::time::timeout(patience, answer(socket, request)).await {
        Ok(answered) => answered,
        Err(_) => Err("the job does not answer".into()),
    }
}

/// The figures of all processes of a job, process 0's first: each has a socket beside the job's.
///
/// # Errors
/// Process 0 does not answer. Another one that is gone will be missed by the job itself.
pub async fn figures(socket: &Path, patience: Duration) -> Result<Figures, String> {
    let request = serde_json::json!({"command": "metrics"});
    let text = |v: Value| v.as_str().unwrap_or_default().to_string();
    let mut all = vec![text(ask(socket, &request, patience).await?)];
    for process in 1.. {
        let other = socket.with_extension(format!("{process}.sock"));
        if !other.exists() {
            break;
        }
        all.extend(ask(&other, &request, patience).await.map(text));
    }
    Ok(Figures::of(&all))
}

async fn answer(socket: &Path, request: &Value) -> Result<Value, String> {
    let mut stream = BufReader::new(connect(socket).await.map_err(|e| format!("no job answers: {e}"))?);
    stream.get_mut().write_all(format!("{request}\n").as_bytes()).await.map_err(|e| e.to_string())?;
    let mut line = String::new();
    stream.take(MAX_ANSWER).read_line(&mut line).await.map_err(|e| e.to_string())?;
    let mut answer: Value = serde_json::from_str(&line).map_err(|_| CUT)?;
    if let Some(fault) = answer.get("error") {
        let text = |key: &str| fault[key].as_str().unwrap_or_default().to_string();
        let more = ["detail", "hint"].map(text).into_iter().filter(|t| !t.is_empty()).map(|t| format!("; {t}"));
        return Err(text("message") + &more.collect::<String>());
    }
    Ok(answer["ok"].take())
}

/// # Errors
/// No job listens there.
pub async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    if socket.as_os_str().len() <= MAX_PATH {
        return UnixStream::connect(socket).await;
    }
    let folder = std::fs::File::open(socket.parent().unwrap_or(Path::new(".")))?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder).to_string();
    UnixStream::connect(Path::new("/proc/self/fd").join(number).join(socket.file_name().unwrap_or_default())).await
}
