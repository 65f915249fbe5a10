//! Alarms: rules over a job's state and figures, who is told, and when not.
//!
//! A rule that holds for long enough fires once, and once more when it has ceased to hold. What fires within a moment is told in one message.
//! The states of alarms are in the database, so that a console that is started again neither forgets nor repeats.

use crate::measure::{Measure, Said};
use crate::notify::{Event, Message, channels};
use crate::store::{all, first};
use crate::tasks::Task;
use crate::view::{State, View};
use crate::{App, Refusal, audit};
use lettre::message::Mailbox;
use rusqlite::params;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What a rule looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The job is not well: failed, halted, dead, being restarted.
    #[default]
    Liveness,
    /// More restarts than the bound.
    Restarts,
    /// Records behind the end of the sources, above the bound.
    Lag,
    /// Seconds by which a watermark is behind, above the bound.
    WatermarkDelay,
    /// Share of a join's left rows that found a partner, below the bound.
    JoinRate,
    /// Share of the rows read that were rejected, above the bound.
    RejectRate,
    /// Failed checkpoints of this run, above the bound.
    CheckpointFailures,
    /// Rows read a second, below the bound.
    NoData,
    /// An expression over the job's metrics, above the bound or as its own comparison says.
    Metric,
}

impl What {
    pub const ALL: [What; 9] = [
        What::Liveness,
        What::Restarts,
        What::Lag,
        What::WatermarkDelay,
        What::JoinRate,
        What::RejectRate,
        What::CheckpointFailures,
        What::NoData,
        What::Metric,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            What::Liveness => "liveness",
            What::Restarts => "restarts",
            What::Lag => "lag",
            What::WatermarkDelay => "watermark_delay",
            What::JoinRate => "join_rate",
            What::RejectRate => "reject_rate",
            What::CheckpointFailures => "checkpoint_failures",
            What::NoData => "no_data",
            What::Metric => "metric",
        }
    }

    fn fires_below(self) -> bool {
        matches!(self, What::JoinRate | What::NoData)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    pub what: What,
    /// The bound; of no meaning for liveness.
    pub bound: f64,
    /// Seconds for which it must hold.
    pub seconds: u32,
    /// Of `metric`: an expression, as `rate(a_total{part="x"}) / b > 0.1`; a name alone is the sum of its samples.
    pub metric: String,
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Receivers {
    pub mails: Vec<String>,
    /// An address that the administrator allows, or empty.
    pub webhook: String,
}

impl Receivers {
    /// # Errors
    /// An address is none, or not allowed.
    pub fn check(&self, app: &App) -> Result<(), Refusal> {
        if let Some(wrong) = self.mails.iter().find(|m| m.parse::<Mailbox>().is_err() || m.contains(['\r', '\n'])) {
            return Err(Refusal::bad(format!("`{wrong}` is no e-mail address")));
        }
        if self.mails.len() > 20 {
            return Err(Refusal::bad("a task has at most 20 e-mail addresses"));
        }
        if self.webhook.is_empty() {
            return Ok(());
        }
        let http = self.webhook.starts_with("http://") || self.webhook.starts_with("https://");
        if !http {
            return Err(Refusal::bad("a webhook is an http:// or https:// address"));
        }
        app.options.allow.address(&self.webhook).map_err(Refusal::forbidden)
    }
}

impl Rule {
    /// What distinguishes it from the task's other rules.
    pub fn key(&self) -> String {
        match self.what {
            What::Liveness => "liveness".into(),
            What::Metric if Measure::parse(&self.metric).is_ok_and(|m| m.compares()) => format!("metric {}", self.metric),
            What::Metric => format!("metric {} > {}", self.metric, self.bound),
            what => format!("{} {} {}", what.name(), if what.fires_below() { "<" } else { ">" }, self.bound),
        }
    }

    /// # Errors
    /// It can never mean anything.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.what == What::Metric {
            Measure::parse(&self.metric).map_err(Refusal::bad)?;
        }
        if !self.bound.is_finite() || self.seconds > 86_400 {
            return Err(Refusal::bad("an alarm's bound is a number, and it holds for at most a day"));
        }
        Ok(())
    }

    /// Why it holds now; None: it does not, or nothing is known.
    fn holds(&self, view: &View) -> Option<String> {
        if self.what == What::Liveness {
            use State::{Failed, Halted, NeedsOperator, Restarting, Stalled};
            let ill = matches!(view.state, Failed | Halted | NeedsOperator | Restarting | Stalled);
            return ill.then(|| format!("the job is {}: {}", view.state.name(), view.reason));
        }
        let point = view.last()?;
        let f = &view.figures;
        let value = match self.what {
            What::Liveness => return None,
            What::Restarts => f64::from(view.restarts),
            What::Lag => point.lag,
            What::WatermarkDelay => point.delay,
            What::CheckpointFailures => f.sum("millrace_checkpoints_total", &[("result", "failed")]),
            What::NoData => point.records_in,
            What::RejectRate => share(point.rejected, point.records_in)?,
            What::JoinRate => {
                let event = |e: &str| view.rate("millrace_part_events_total", &[("event", e)]);
                let found = event("matched") + event("by_fallback");
                share(found, found + event("unmatched"))?
            }
            What::Metric => match Measure::parse(&self.metric).ok()?.of(view)? {
                Said::Value(value) => value,
                Said::Compared(value, holds) => return holds.then(|| format!("{} holds, the left side is {}", self.metric, shown(value))),
            },
        };
        let fires = if self.what.fires_below() { value < self.bound } else { value > self.bound };
        fires.then(|| {
            format!(
                "{} is {}, the bound is {}",
                if self.what == What::Metric { &self.metric } else { self.what.name() },
                shown(value),
                self.bound
            )
        })
    }
}

fn share(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}

fn shown(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What is known of rules between two looks.
#[derive(Default)]
pub struct Alarms {
    /// Held while the rules of a job are looked at: what fires together is told together.
    pub looks: Mutex<()>,
    since: Mutex<HashMap<(i64, String), i64>>,
    rules: Mutex<HashMap<i64, (i64, Arc<(Vec<Rule>, Receivers)>)>>,
}

/// An alarm that has fired and not ceased.
#[derive(Clone, Debug, Serialize)]
pub struct Firing {
    pub task: i64,
    pub rule: String,
    pub since: i64,
    pub message: String,
}

/// # Errors
/// The database.
pub fn firing(app: &App, task: i64) -> Result<Vec<Firing>, Refusal> {
    app.store.run(|db| {
        all(db, "SELECT task, rule, since, message FROM alarms WHERE task = ?1 ORDER BY since", [task], |r| {
            Ok(Firing { task: r.get(0)?, rule: r.get(1)?, since: r.get(2)?, message: r.get(3)? })
        })
    })
}

/// Nobody is told of a rule for a while; 0 seconds: they are again.
///
/// # Errors
/// The database.
pub fn silence(app: &App, task: i64, rule: &str, seconds: i64) -> Result<(), Refusal> {
    let until = app.clock.now().saturating_add(seconds.clamp(0, 30 * 86_400) * 1_000_000);
    let sql = "INSERT INTO silences (task, rule, until) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET until = excluded.until";
    app.store.run(|db| Ok(db.execute(sql, params![task, rule, until]).map(drop)?))
}

/// Compares a job with its rules.
pub fn look(app: &App, t: &Task, view: &View) {
    if let Err(e) = compare(app, t, view) {
        tracing::error!(task = t.name, "alarms: {}", e.message);
    }
}

fn compare(app: &App, t: &Task, view: &View) -> Result<(), Refusal> {
    if t.version == 0 {
        return Ok(());
    }
    let rules = rules(app, t)?;
    let now = app.clock.now();
    let _looks = app.alarms.looks.lock().unwrap_or_else(|e| e.into_inner());
    for rule in &rules.0 {
        let key = rule.key();
        let why = rule.holds(view);
        let place = (t.id, key.clone());
        let held = {
            let mut since = app.alarms.since.lock().unwrap_or_else(|e| e.into_inner());
            match &why {
                Some(_) => {
                    let since = since.entry(place).or_insert(now);
                    // A clock that was set back does not make it wait longer.
                    *since = (*since).min(now);
                    now - *since >= i64::from(rule.seconds) * 1_000_000
                }
                None => {
                    since.remove(&place);
                    false
                }
            }
        };
        // Without figures it is not known whether it has ceased, unless somebody wanted the job to end.
        let known = rule.what == What::Liveness || view.last().is_some() || matches!(view.state, State::Stopped | State::Finished);
        change(app, t, &key, why.filter(|_| held), known)?;
    }
    let keys: Vec<String> = rules.0.iter().map(Rule::key).collect();
    for old in firing(app, t.id)?.into_iter().filter(|f| !keys.contains(&f.rule)) {
        change(app, t, &old.rule, None, true)?;
    }
    Ok(())
}

fn change(app: &App, t: &Task, key: &str, why: Option<String>, known: bool) -> Result<(), Refusal> {
    let now = app.clock.now();
    let there = app
        .store
        .run(|db| first(db, "SELECT told FROM alarms WHERE task = ?1 AND rule = ?2", params![t.id, key], |r| r.get::<_, bool>(0)))?;
    let (text, resolved) = match (there, why) {
        (None | Some(false), Some(why)) => (format!("{key}: {why}"), false),
        (Some(_), None) if known => (format!("{key}: it has ceased"), true),
        _ => return Ok(()),
    };
    let noted = app.store.run(|db| {
        let silent = first(db, "SELECT 1 FROM silences WHERE task = ?1 AND rule = ?2 AND until > ?3", params![t.id, key, now], |_| Ok(()))?;
        if there.is_some() && !resolved && silent.is_some() {
            // It has fired in silence: somebody is told when that is over.
            return Ok(false);
        }
        match resolved {
            true => db.execute("DELETE FROM alarms WHERE task = ?1 AND rule = ?2", params![t.id, key])?,
            false => {
                let sql = "INSERT INTO alarms (task, rule, since, message, told) VALUES (?1, ?2, ?3, ?4, ?5)
                           ON CONFLICT DO UPDATE SET message = excluded.message, told = excluded.told";
                db.execute(sql, params![t.id, key, now, text, silent.is_none()])?
            }
        };
        // Whoever was told of it is told of its end.
        if (!resolved && silent.is_none()) || (resolved && there == Some(true)) {
            let sql = "INSERT INTO notices (task, time, text, resolved) VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![t.id, now, text, resolved])?;
        }
        Ok(true)
    })?;
    if !noted {
        return Ok(());
    }
    audit::note(app, "console", "", Some(t.id), if resolved { "alarm-resolved" } else { "alarm" }, &text);
    Ok(())
}

/// A task's rules and receivers, of its newest version.
///
/// # Errors
/// The database.
pub fn rules(app: &App, t: &Task) -> Result<Arc<(Vec<Rule>, Receivers)>, Refusal> {
    let mut known = app.alarms.rules.lock().unwrap_or_else(|e| e.into_inner());
    if let Some((version, rules)) = known.get(&t.id)
        && *version == t.version
    {
        return Ok(rules.clone());
    }
    let settings = app.store.run(|db| crate::tasks::settings(db, t.id, t.version))?;
    let rules = Arc::new((settings.alarms, settings.receivers));
    known.insert(t.id, (t.version, rules.clone()));
    Ok(rules)
}

/// Tells a task's receivers that this is a test; comes back when they were told.
///
/// # Errors
/// One could not be reached.
pub async fn test(app: Arc<App>, t: Task) -> Result<(), Refusal> {
    let receivers = rules(&app, &t)?.1.clone();
    if receivers == Receivers::default() {
        return Err(Refusal::conflict("the task has no receivers of alarms"));
    }
    let message = Message::of(&app, &t, receivers.clone(), &[Event { text: "this is a test".into(), ..Event::default() }]);
    for channel in channels(&receivers) {
        message.send(&app, channel).await.map_err(Refusal::conflict)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figures;
    use std::collections::VecDeque;

    fn view(state: State, old: &str, new: &str, point: crate::view::Point) -> View {
        let text = |t: &str, up: f64| Arc::new(Figures::parse(&format!("millrace_uptime_seconds {up}\n{t}")));
        View { state, before: text(old, 1.0), figures: text(new, 3.0), history: VecDeque::from([point]), ..View::default() }
    }

    #[test]
    fn rules_hold_above_or_below_their_bounds_and_never_without_figures() {
        use crate::view::Point;
        let point = Point { lag: 10.0, delay: f64::NAN, records_in: 4.0, rejected: 1.0, ..Point::default() };
        let old =
            "millrace_part_events_total{event=\"matched\"} 10\nmillrace_part_events_total{event=\"unmatched\"} 0\nx_total{a=\"1\"} 4\n";
        let new = "millrace_part_events_total{event=\"matched\"} 16\nmillrace_part_events_total{event=\"unmatched\"} 2\n\
                   x_total{a=\"1\"} 4\nx_total{a=\"2\"} 5\nmillrace_checkpoints_total{result=\"failed\"} 2\n";
        let running = view(State::Running, old, new, point);
        let cases = [
            (What::Lag, 9.0, true),
            (What::Lag, 10.0, false),
            (What::WatermarkDelay, 0.0, false),
            (What::RejectRate, 0.2, true),
            (What::RejectRate, 0.25, false),
            (What::NoData, 4.1, true),
            (What::NoData, 4.0, false),
            (What::JoinRate, 0.8, true),
            (What::JoinRate, 0.7, false),
            (What::CheckpointFailures, 1.0, true),
            (What::Restarts, 0.0, false),
            (What::Metric, 8.5, true),
            (What::Liveness, 0.0, false),
        ];
        for (what, bound, want) in cases {
            let rule = Rule { what, bound, metric: "x_total".into(), ..Rule::default() };
            assert_eq!(rule.holds(&running).is_some(), want, "{what:?} {bound}");
            let ended = View { state: State::Failed, ..running.clone() };
            assert_eq!(rule.holds(&ended).is_some(), what == What::Liveness, "{what:?} of a job that has ended");
        }
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for (rule, fine) in [
            (Rule::default(), true),
            (Rule { what: What::Metric, ..Rule::default() }, false),
            (Rule { what: What::Metric, metric: "a b".into(), ..Rule::default() }, false),
            (Rule { what: What::Metric, metric: "rate(a{p=\"x\"}) / b > 0.1".into(), ..Rule::default() }, true),
            (Rule { bound: f64::NAN, ..Rule::default() }, false),
            (Rule { seconds: 86_401, ..Rule::default() }, false),
        ] {
            assert_eq!(rule.check().is_ok(), fine, "{rule:?}");
        }
    }
}
