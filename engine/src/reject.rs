//! Rejected records on their way to the dead letter, or to whoever reads `errors`.

use crate::control::Shared;
use base64::Engine as _;
use millrace_sdk::record::{Meta, NO_TIME};
use millrace_sdk::{BatchBuilder, Reject};
use std::sync::Arc;

/// What dead letters say of the job and its streams.
pub struct Origins {
    pub job: String,
    /// Stream names by [`Meta::source`].
    pub streams: Vec<(u16, String)>,
}

impl Origins {
    fn stream(&self, meta: &Meta) -> &str {
        self.streams.iter().find(|(n, _)| *n == meta.source).map_or("", |(_, name)| name)
    }
}

/// Appends a reject as a row of [`Reject::schema`].
pub fn push(out: &mut BatchBuilder, origins: &Origins, shared: &Shared, part: &str, port: &str, reject: &Reject) {
    let m = &reject.meta;
    let partition: Option<Arc<str>> = shared.partitions.lock().unwrap_or_else(|e| e.into_inner()).get(&(m.source, m.partition)).cloned();
    out.push_str(&origins.job);
    out.push_str(part);
    out.push_str(port);
    out.push_str(reject.reason);
    out.push_str(&reject.message);
    out.push_str(origins.stream(m));
    match partition {
        Some(name) => out.push_str(&name),
        None => out.push_str(&m.partition.to_string()),
    }
    out.push_int(m.offset as i64);
    match m.time {
        NO_TIME => out.push_null(),
        t => out.push_time(t),
    }
    out.push_int(reject.length as i64);
    out.push_str(&format!("{:016x}", reject.hash));
    let (encoding, body) = match std::str::from_utf8(&reject.body) {
        Ok(text) => (if reject.is_row { "json" } else { "text" }, text.to_string()),
        // Cutting may have split a character: that alone makes no text into bytes.
        Err(e) if e.error_len().is_none() && reject.body.len() == millrace_sdk::operator::MAX_REJECT_BYTES => {
            let text = String::from_utf8_lossy(&reject.body[..e.valid_up_to()]).into_owned();
            (if reject.is_row { "json" } else { "text" }, text)
        }
        Err(_) => ("base64", base64::engine::general_purpose::STANDARD.encode(&reject.body)),
    };
    out.push_str(encoding);
    out.push_str(&body);
    let mut meta = *m;
    meta.set_late(false);
    out.end_row(meta);
}
