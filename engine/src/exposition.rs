//! The meters of a run in Prometheus' text format 0.0.4: names with units, counters end with `_total`.

use crate::minutes::Minute;
use crate::progress::{Histogram, Meters, NodeMeter};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of histograms, powers of two of microseconds: 64 µs to 67 s.
const BOUNDS: std::ops::Range<u32> = 6..27;

/// What is known beside the meters.
#[derive(Clone, Debug, Default)]
pub struct About<'a> {
    pub job: &'a str,
    pub version: &'a str,
    pub restarts: u32,
    /// Since the job's first run began, seconds.
    pub uptime: f64,
    /// Since this run began, microseconds.
    pub micros: u64,
    /// Microseconds since 1970 UTC.
    pub now: i64,
    pub process: Process,
}

/// What the operating system says of this process; None: it does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_bytes: Option<u64>,
    /// The most that it ever had.
    pub peak_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
    pub max_files: Option<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (i, (key, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{key}=\"", if i == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family without labels.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A histogram of seconds; its family is begun.
    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], h: &Histogram) {
        let (below, count, sum) = h.below_powers(BOUNDS);
        let bucket = format!("{name}_bucket");
        let bounds: Vec<String> = BOUNDS.map(|p| seconds(1u64 << p).to_string()).chain(["+Inf".to_string()]).collect();
        for (bound, n) in bounds.iter().zip(below.into_iter().chain([count])) {
            self.sample(&bucket, &[labels, &[("le", bound)]].concat(), n);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(sum));
        self.sample(&format!("{name}_count"), labels, count);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// All figures of a run; `meters` is None until all parts are open.
pub fn text(meters: Option<&Meters>, about: &About) -> String {
    let mut t = Text(String::with_capacity(16 << 10));
    t.family("millrace_info", Kind::Gauge, "The job and the release that runs it; always 1.");
    t.sample("millrace_info", &[("job", about.job), ("version", about.version)], 1);
    t.one("millrace_uptime_seconds", Kind::Gauge, "Time since the job began, restarts included.", about.uptime);
    t.one("millrace_restarts_total", Kind::Counter, "Restarts of the job by its supervisor.", about.restarts);
    process(&mut t, &about.process);
    if let Some(m) = meters {
        job(&mut t, m);
        parts(&mut t, m);
        minutes(&mut t, m);
        time(&mut t, m, about);
        sources(&mut t, m);
        stores(&mut t, m);
        state(&mut t, m, about);
    }
    t.0
}

fn process(t: &mut Text, p: &Process) {
    let mut gauge = |name: &str, help: &str, value: Option<u64>| {
        if let Some(v) = value {
            t.one(name, Kind::Gauge, help, v);
        }
    };
    gauge("process_resident_memory_bytes", "Resident memory.", p.resident_bytes);
    gauge("millrace_process_peak_memory_bytes", "The most resident memory that the process has had (VmHWM).", p.peak_bytes);
    gauge("process_threads", "Threads.", p.threads);
    gauge("process_open_fds", "Open file descriptors.", p.open_files);
    gauge("process_max_fds", "File descriptors that may be open.", p.max_files);
    if let Some(v) = p.cpu_seconds {
        t.one("process_cpu_seconds_total", Kind::Counter, "Processor time, user and system.", v);
    }
}

fn job(t: &mut Text, m: &Meters) {
    t.one("millrace_workers", Kind::Gauge, "Worker threads of the job.", m.steps.len());
    t.one("millrace_lost_records_total", Kind::Counter, "Records that could be written nowhere.", m.lost.load(Relaxed));
    t.one("millrace_waiting", Kind::Gauge, "1 while a store or a sink is being waited for.", u8::from(m.waiting.load(Relaxed)));
    t.family("millrace_latency_seconds", Kind::Histogram, "From the arrival of a row to the batch that it caused reaching a sink.");
    t.histogram("millrace_latency_seconds", &[], &m.latency);
}

fn parts(t: &mut Text, m: &Meters) {
    let summaries = m.node_summaries();
    let label =
        |i: usize| [("part", summaries[i].name.as_str()), ("type", summaries[i].part.as_str()), ("kind", summaries[i].kind.as_str())];
    let all = 0..summaries.len();
    t.family(
        "millrace_part_records_in_total",
        Kind::Counter,
        "Rows that a part took, by its input (0, or of a join 0 left, 1 right, 2 retry).",
    );
    for i in all.clone() {
        for (input, n) in summaries[i].inputs.iter().enumerate() {
            let input = input.to_string();
            t.sample("millrace_part_records_in_total", &[&label(i)[..], &[("input", &input)]].concat(), n);
        }
    }
    t.family(
        "millrace_part_records_out_total",
        Kind::Counter,
        "Rows that a part gave, by its port; those of a port that nobody reads are dropped or rejected.",
    );
    for i in all.clone() {
        for port in &summaries[i].ports {
            let name = if port.name.is_empty() { "main" } else { &port.name };
            t.sample("millrace_part_records_out_total", &[&label(i)[..], &[("port", name)]].concat(), port.records);
        }
    }
    for (name, kind, help) in [
        ("millrace_part_bytes_in_total", "source", "Bytes of text that a source read."),
        ("millrace_part_bytes_out_total", "sink", "Bytes of the batches that a sink wrote, in memory."),
    ] {
        t.family(name, Kind::Counter, help);
        for i in all.clone().filter(|&i| summaries[i].kind == kind) {
            t.sample(name, &label(i), summaries[i].bytes);
        }
    }
    for (name, by, help) in [
        ("millrace_part_rejected_total", "reason", "Rows that a part rejected, by reason."),
        ("millrace_part_dropped_total", "reason", "Rows that a part dropped by intent, by reason."),
        ("millrace_part_events_total", "event", "What else a part counts."),
    ] {
        t.family(name, Kind::Counter, help);
        for i in all.clone() {
            let map = match name {
                "millrace_part_rejected_total" => &summaries[i].rejected,
                "millrace_part_dropped_total" => &summaries[i].dropped,
                _ => &summaries[i].counters,
            };
            for (reason, n) in map {
                t.sample(name, &[&label(i)[..], &[(by, reason)]].concat(), n);
            }
        }
    }
    type Share = fn(&NodeMeter) -> &[AtomicU64];
    let shares: [(&str, Share, &str); 2] = [
        ("millrace_part_busy_seconds_total", |n| &n.busy, "Time in which a part worked, by worker; a stream's own steps are its source's."),
        (
            "millrace_part_backpressured_seconds_total",
            |n| &n.backpressured,
            "Time in which a part waited for its readers or its server, by worker.",
        ),
    ];
    for (name, share, help) in shares {
        t.family(name, Kind::Counter, help);
        for i in all.clone() {
            for (worker, nanos) in share(&m.nodes[i]).iter().enumerate() {
                let worker = (m.first + worker).to_string();
                t.sample(name, &[&label(i)[..], &[("worker", &worker)]].concat(), nanos.load(Relaxed) as f64 / 1e9);
            }
        }
    }
}

/// Of sinks of a run that counts by minute.
fn minutes(t: &mut Text, m: &Meters) {
    let sinks: Vec<_> = m.nodes.iter().filter_map(|n| Some((n.name.as_str(), n.minutes.as_ref()?.get()))).collect();
    let help = |what: &str| {
        format!("{what} a sink was given by this process, by minute of event time (its beginning, seconds since 1970); the newest 60.")
    };
    type Value = fn(&Minute) -> u64;
    let families: [(&str, String, Value); 2] = [
        ("millrace_sink_minute_rows", help("Rows that"), |m| m.rows),
        ("millrace_sink_minute_checksum", help("Sum, modulo 2^48, of the xxh3 of the JSON of each row that"), |m| m.checksum),
    ];
    for (name, help, value) in families {
        if sinks.iter().all(|(_, minutes)| minutes.is_empty()) {
            return;
        }
        t.family(name, Kind::Gauge, &help);
        for (sink, minutes) in &sinks {
            minutes.iter().for_each(|(at, m)| t.sample(name, &[("part", sink), ("minute", &at.to_string())], value(m)));
        }
    }
}

fn time(t: &mut Text, m: &Meters, about: &About) {
    let known: Vec<(&str, i64)> =
        m.nodes.iter().map(|n| (n.name.as_str(), n.watermark.load(Relaxed))).filter(|(_, w)| *w != i64::MIN && *w != i64::MAX).collect();
    t.family("millrace_part_watermark_seconds", Kind::Gauge, "Event time that a part has reached, since 1970 UTC.");
    for (name, w) in &known {
        t.sample("millrace_part_watermark_seconds", &[("part", name)], *w as f64 / 1e6);
    }
    t.family("millrace_part_watermark_delay_seconds", Kind::Gauge, "How far a part's event time is behind the clock.");
    for (name, w) in &known {
        t.sample("millrace_part_watermark_delay_seconds", &[("part", name)], about.now.saturating_sub(*w) as f64 / 1e6);
    }
    let moved = about.micros.saturating_sub(m.acknowledged.1.load(Relaxed));
    t.one("millrace_progress_age_seconds", Kind::Gauge, "Time since the sinks last let an epoch pass.", seconds(moved));
}

fn sources(t: &mut Text, m: &Meters) {
    let all = m.source_summaries();
    t.family("millrace_source_partitions", Kind::Gauge, "Partitions that a source reads.");
    for s in &all {
        t.sample("millrace_source_partitions", &[("part", &s.name)], s.partitions);
    }
    t.family(
        "millrace_source_lag_records",
        Kind::Gauge,
        "Records that the outside still holds for a source (Kafka: behind the end of its partitions).",
    );
    for (s, lag) in all.iter().filter_map(|s| s.lag.map(|l| (s, l))) {
        t.sample("millrace_source_lag_records", &[("part", &s.name)], lag);
    }
}

fn stores(t: &mut Text, m: &Meters) {
    if m.stores.is_empty() {
        return;
    }
    let all = m.store_summaries();
    type Figure = fn(&crate::summary::StoreSummary) -> u64;
    let figures: [(&str, Figure, &str); 7] = [
        ("millrace_store_lookups_total", |s| s.lookups, "Questions to a store."),
        ("millrace_store_cache_hits_total", |s| s.cache_hits, "Questions that the cache answered."),
        ("millrace_store_shared_total", |s| s.shared, "Questions that another one of the same key answered."),
        ("millrace_store_calls_total", |s| s.calls, "Calls of a store."),
        ("millrace_store_keys_total", |s| s.keys, "Keys in the calls of a store."),
        ("millrace_store_errors_total", |s| s.errors, "Calls that failed and were tried again or given up."),
        ("millrace_store_failed_total", |s| s.failed, "Questions that were given up."),
    ];
    for (name, figure, help) in figures {
        t.family(name, Kind::Counter, help);
        for s in &all {
            t.sample(name, &[("store", &s.name)], figure(s));
        }
    }
    t.family("millrace_store_call_seconds", Kind::Histogram, "Time that a store took for a call that it answered.");
    for s in &m.stores {
        t.histogram("millrace_store_call_seconds", &[("store", &s.name)], &s.latency);
    }
}

/// State and checkpoints, of jobs that have them.
fn state(t: &mut Text, m: &Meters, about: &About) {
    let Some(c) = &m.checkpoints else { return };
    t.family("millrace_part_state_bytes", Kind::Gauge, "Keyed state of a part at the last checkpoint.");
    for n in m.nodes.iter().filter(|n| n.state_bytes.load(Relaxed) > 0) {
        t.sample("millrace_part_state_bytes", &[("part", &n.name)], n.state_bytes.load(Relaxed));
    }
    t.family("millrace_checkpoints_total", Kind::Counter, "Checkpoints of this run, by what became of them.");
    for (result, n) in [("completed", &c.completed), ("failed", &c.failed), ("delayed", &c.delayed)] {
        t.sample("millrace_checkpoints_total", &[("result", result)], n.load(Relaxed));
    }
    t.family("millrace_checkpoint_duration_seconds", Kind::Histogram, "From the beginning of a checkpoint to its published manifest.");
    t.histogram("millrace_checkpoint_duration_seconds", &[], &c.duration);
    t.one(
        "millrace_checkpoint_uploaded_bytes",
        Kind::Gauge,
        "Bytes that the last completed checkpoint uploaded.",
        c.uploaded_bytes.load(Relaxed),
    );
    t.one(
        "millrace_checkpoint_size_bytes",
        Kind::Gauge,
        "Bytes of all files of the last completed checkpoint.",
        c.total_bytes.load(Relaxed),
    );
    let at = c.completed_at.load(Relaxed);
    if at > 0 {
        t.one(
            "millrace_checkpoint_age_seconds",
            Kind::Gauge,
            "Time since the last completed checkpoint.",
            seconds(about.micros.saturating_sub(at)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_add_up() {
        let mut t = Text(String::new());
        t.sample("a_total", &[("x", "q\"b\\s\nn"), ("y", "ü")], 1);
        assert_eq!(t.0, "a_total{x=\"q\\\"b\\\\s\\nn\",y=\"ü\"} 1\n");
        let h = Histogram::default();
        h.add(100, 3);
        h.add(5_000_000, 1);
        h.add(500_000_000, 1);
        let mut t = Text(String::new());
        t.histogram("h", &[("s", "a")], &h);
        let lines: Vec<&str> = t.0.lines().collect();
        assert_eq!(lines.len(), BOUNDS.len() + 3);
        assert_eq!(lines[0], "h_bucket{s=\"a\",le=\"0.000064\"} 0");
        assert_eq!(lines[1], "h_bucket{s=\"a\",le=\"0.000128\"} 3");
        assert!(t.0.contains("h_bucket{s=\"a\",le=\"8.388608\"} 4\n"), "{}", t.0);
        assert_eq!(lines[BOUNDS.len()..], ["h_bucket{s=\"a\",le=\"+Inf\"} 5", "h_sum{s=\"a\"} 505.0003", "h_count{s=\"a\"} 5"]);
    }

    #[test]
    fn before_the_start_there_is_the_process() {
        let about = About { job: "j", version: "1", restarts: 2, uptime: 1.5, ..About::default() };
        let got = text(None, &about);
        assert!(got.contains("millrace_info{job=\"j\",version=\"1\"} 1\n") && got.contains("millrace_restarts_total 2\n"), "{got}");
    }
}
