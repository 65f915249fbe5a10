//! What is to be seen of a job: its state, which is true, and its figures.

use crate::Figures;
use crate::process::Told;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// Figures are kept for the charts this far back: half an hour, one a second at most.
pub const HISTORY: usize = 1800;
/// A source that waits for its readers for this share of the time is held back.
const HELD_BACK: f64 = 0.5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    #[default]
    NotStarted,
    Starting,
    Running,
    /// What comes behind the sources cannot keep up.
    Backpressured,
    /// A server is waited for.
    Blocked,
    /// It has failed, and its supervisor starts it again.
    Restarting,
    /// It lives and does nothing.
    Stalled,
    Stopping,
    Stopped,
    Finished,
    Failed,
    /// By a guard of its own.
    Halted,
    /// Nothing is tried any more.
    NeedsOperator,
}

impl State {
    pub const ALL: [State; 13] = [
        State::NotStarted,
        State::Starting,
        State::Running,
        State::Backpressured,
        State::Blocked,
        State::Restarting,
        State::Stalled,
        State::Stopping,
        State::Stopped,
        State::Finished,
        State::Failed,
        State::Halted,
        State::NeedsOperator,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::NotStarted => "not-started",
            State::Starting => "starting",
            State::Running => "running",
            State::Backpressured => "backpressured",
            State::Blocked => "blocked",
            State::Restarting => "restarting",
            State::Stalled => "stalled",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Finished => "finished",
            State::Failed => "failed",
            State::Halted => "halted",
            State::NeedsOperator => "needs-operator",
        }
    }

    /// Whether processes of the job live, or will in a moment.
    pub fn lives(self) -> bool {
        use State::{Backpressured, Blocked, Restarting, Running, Stalled, Starting, Stopping};
        matches!(self, Starting | Running | Backpressured | Blocked | Restarting | Stalled | Stopping)
    }
}

/// Rows that came into a part; into the dead letter, which is a sink of no topology.
const IN: &str = "millrace_part_records_in_total";
const DEAD_LETTER: &[(&str, &str)] = &[("part", "dead_letter"), ("kind", "sink")];

/// Rows since a run began, over its restarts by the supervisor those of its present process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    #[serde(rename = "in")]
    pub records_in: u64,
    #[serde(rename = "out")]
    pub records_out: u64,
    pub rejected: u64,
    pub lost: u64,
}

/// Figures of one moment; rates are per second since the moment before. What is not known is null.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Point {
    /// Microseconds since 1970 UTC.
    pub time: i64,
    #[schemars(with = "Option<f64>")]
    pub records_in: f64,
    #[schemars(with = "Option<f64>")]
    pub records_out: f64,
    #[schemars(with = "Option<f64>")]
    pub rejected: f64,
    /// Records; NaN: not known.
    #[schemars(with = "Option<f64>")]
    pub lag: f64,
    /// Seconds by which the watermark is behind; NaN: not known.
    #[schemars(with = "Option<f64>")]
    pub delay: f64,
    /// Seconds; NaN: nothing was written.
    #[schemars(with = "Option<f64>")]
    pub latency: f64,
    #[schemars(with = "Option<f64>")]
    pub state_bytes: f64,
    /// Seconds since the last checkpoint; NaN: none.
    #[schemars(with = "Option<f64>")]
    pub checkpoint_age: f64,
    #[schemars(with = "Option<f64>")]
    pub memory: f64,
    /// Processors.
    #[schemars(with = "Option<f64>")]
    pub cpu: f64,
}

impl Point {
    /// As it is kept.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As [`text`](Self::text) wrote it: what is not known is null there.
    pub fn read(text: &str) -> Option<Point> {
        let all: Value = serde_json::from_str(text).ok()?;
        let f = |name: &str| all[name].as_f64().unwrap_or(f64::NAN);
        Some(Point {
            time: all["time"].as_i64()?,
            records_in: f("records_in"),
            records_out: f("records_out"),
            rejected: f("rejected"),
            lag: f("lag"),
            delay: f("delay"),
            latency: f("latency"),
            state_bytes: f("state_bytes"),
            checkpoint_age: f("checkpoint_age"),
            memory: f("memory"),
            cpu: f("cpu"),
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct View {
    pub state: State,
    pub reason: String,
    /// Since when it is in this state, microseconds since 1970 UTC.
    pub since: i64,
    /// By its supervisor.
    pub restarts: u32,
    /// Most restarts; None: without end.
    pub of: Option<u32>,
    /// Seconds since the job began.
    pub uptime: f64,
    pub workers: u64,
    pub figures: Arc<Figures>,
    /// One look earlier, for rates.
    pub before: Arc<Figures>,
    pub history: VecDeque<Point>,
}

impl View {
    /// A new run begins.
    pub fn begin(&self, now: i64) -> View {
        View { state: State::Starting, since: now, history: self.history.clone(), ..View::default() }
    }

    pub fn say(&mut self, state: State, reason: &str, now: i64) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        self.reason = reason.into();
    }

    /// How its last run ended.
    pub fn settled(&mut self, outcome: &str, reason: &str, ended: i64) {
        let state = match outcome {
            "finished" => State::Finished,
            "stopped" => State::Stopped,
            "halted" => State::Halted,
            "failed" => State::Failed,
            _ => State::NeedsOperator,
        };
        self.say(state, reason, ended);
        self.since = ended;
    }

    /// It has answered.
    pub fn seen(&mut self, status: &Value, figures: Option<Figures>, wanted: bool, told: &Told, now: i64) {
        self.restarts = status["restarts"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(told.restarts);
        self.uptime = status["uptime_seconds"].as_f64().unwrap_or_default();
        self.workers = status["workers"].as_u64().unwrap_or_default();
        if let Some(figures) = figures {
            self.before = std::mem::replace(&mut self.figures, Arc::new(figures));
            let point = self.point(now);
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(point);
        }
        let state = match status["state"].as_str() {
            _ if !wanted => State::Stopping,
            Some("stopping") => State::Stopping,
            Some("running") if status["waiting"] == true => State::Blocked,
            Some("running") if self.held_back() >= HELD_BACK => State::Backpressured,
            Some("running") => State::Running,
            _ => State::Starting,
        };
        self.say(state, "", now);
    }

    /// Seconds between the last two looks, by the job's own clock; 0: there is one only.
    pub fn gap(&self) -> f64 {
        let uptime = |f: &Figures| f.one("millrace_uptime_seconds");
        let gap = uptime(&self.figures) - uptime(&self.before);
        if uptime(&self.before) > 0.0 && gap > 0.0 { gap } else { 0.0 }
    }

    /// What a counter gained a second. A run that began anew gained what it has.
    pub fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let gap = self.gap();
        let (new, old) = (self.figures.sum(name, labels), self.before.sum(name, labels));
        if gap > 0.0 { (if new < old { new } else { new - old }) / gap } else { 0.0 }
    }

    /// The largest share of the time in which a source was held back.
    fn held_back(&self) -> f64 {
        let sources = self.figures.all("millrace_part_backpressured_seconds_total", &[("kind", "source")]);
        let name = "millrace_part_backpressured_seconds_total";
        let share = |labels: &[(&str, &str)]| self.rate(name, labels);
        sources.filter_map(|s| Some(share(&[("part", s.1.get("part")?), ("worker", s.1.get("worker")?)]))).fold(0.0, f64::max)
    }

    fn point(&self, now: i64) -> Point {
        let f = &self.figures;
        let known = |name: &str| f.all(name, &[]).map(|s| s.2).fold(f64::NAN, f64::max);
        let lag = f.all("millrace_source_lag_records", &[]).next().map_or(f64::NAN, |_| f.one("millrace_source_lag_records"));
        Point {
            time: now,
            records_in: self.rate(IN, &[("kind", "source")]),
            records_out: self.rate(IN, &[("kind", "sink")]) - self.rate(IN, DEAD_LETTER),
            rejected: self.rate("millrace_part_rejected_total", &[]),
            lag,
            delay: known("millrace_part_watermark_delay_seconds"),
            latency: f.quantile("millrace_latency_seconds", &self.before, 0.99).unwrap_or(f64::NAN),
            state_bytes: f.one("millrace_part_state_bytes"),
            checkpoint_age: known("millrace_checkpoint_age_seconds"),
            memory: f.one("process_resident_memory_bytes"),
            cpu: self.rate("process_cpu_seconds_total", &[]),
        }
    }

    /// What its present run has counted.
    pub fn counts(&self) -> Counts {
        let f = &self.figures;
        Counts {
            records_in: f.sum(IN, &[("kind", "source")]) as u64,
            records_out: (f.sum(IN, &[("kind", "sink")]) - f.sum(IN, DEAD_LETTER)) as u64,
            rejected: f.one("millrace_part_rejected_total") as u64,
            lost: f.one("millrace_lost_records_total") as u64,
        }
    }

    /// The newest figures.
    pub fn last(&self) -> Option<Point> {
        self.history.back().copied().filter(|_| self.state.lives())
    }
}
