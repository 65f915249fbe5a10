//! Telling people of alarms, by mail and by webhook: what fires within a moment goes into one message, and each receiver is tried by
//! itself, so that one that is away costs the other nothing. What a receiver has taken is noted before anything else is done; a console that
//! dies between the two leaves the next one to tell it again, with the same numbers: at least once, and never twice unnoticed.

use crate::alarms::{self, Receivers};
use crate::store::all;
use crate::tasks::{self, Task};
use crate::{App, Refusal, audit};
use lettre::message::{Mailbox, header::ContentType};
use lettre::{SmtpTransport, Transport};
use rusqlite::params;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What fires within this time goes into one message, microseconds.
const GROUP: i64 = 2_000_000;
/// How often it is looked for what is to be told.
const LOOK: Duration = Duration::from_millis(500);
/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls of a receiver that fails, and the pause after the first; later ones are longer.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// An alarm has fired, or ceased.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The number of its notice, which stays the same when it is told again; 0: it has none.
    pub id: i64,
    /// Who has it already, by the names of channels.
    pub told: String,
    pub text: String,
    pub resolved: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Channel {
    Webhook,
    Mail,
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Channel::Webhook => "webhook",
            Channel::Mail => "mail",
        }
    }
}

/// What the receivers of a task are told at once.
#[derive(Clone, Debug)]
pub struct Message {
    task: i64,
    receivers: Receivers,
    subject: String,
    text: String,
    body: Value,
    /// The same when it is told again; of no use for a test.
    mail_id: Option<String>,
}

/// Tells what fires, until the console ends. What is to be told lies in the database, so that another console tells what this one has not.
pub async fn teller(app: Arc<App>) {
    let mut every = tokio::time::interval(LOOK);
    // Tasks whose receivers are being told.
    let busy: Arc<Mutex<HashSet<i64>>> = Arc::default();
    loop {
        every.tick().await;
        // What is of a later time is of a clock that was ahead.
        let now = app.clock.now();
        let sql = "SELECT DISTINCT task FROM notices WHERE time <= ?1 OR time > ?2";
        let due = app.store.run(|db| all(db, sql, [now - GROUP, now], |r| r.get::<_, i64>(0)));
        for task in due.unwrap_or_default() {
            if busy.lock().unwrap_or_else(|e| e.into_inner()).insert(task) {
                let (app, busy) = (app.clone(), busy.clone());
                tokio::spawn(async move {
                    if let Err(e) = tell(&app, task).await {
                        tracing::error!(task, "alarms cannot be told: {}", e.message);
                    }
                    busy.lock().unwrap_or_else(|e| e.into_inner()).remove(&task);
                });
            }
        }
    }
}

/// Tells all that is to be told of a task.
async fn tell(app: &Arc<App>, task: i64) -> Result<(), Refusal> {
    let t = app.store.run(|db| tasks::by_id(db, task))?;
    // Not in the middle of what one look at a job has found.
    let looks = app.alarms.looks.lock().unwrap_or_else(|e| e.into_inner());
    let events = app.store.run(|db| {
        all(db, "SELECT id, text, resolved, told FROM notices WHERE task = ?1 ORDER BY id", [task], |r| {
            Ok(Event { id: r.get(0)?, text: r.get(1)?, resolved: r.get(2)?, told: r.get(3)? })
        })
    });
    drop(looks);
    let events = events?;
    let last = events.last().map_or(0, |e| e.id);
    let receivers = alarms::rules(app, &t)?.1.clone();
    let one = |channel: Channel| {
        let new: Vec<Event> = events.iter().filter(|e| !e.told.contains(channel.name())).cloned().collect();
        let message = Message::of(app, &t, receivers.clone(), &new);
        async move { if new.is_empty() { Ok(()) } else { deliver(app, &message, channel, last).await } }
    };
    let done = futures::future::join_all(channels(&receivers).into_iter().map(one)).await;
    done.into_iter().collect::<Result<(), Refusal>>()?;
    app.store.run(|db| Ok(db.execute("DELETE FROM notices WHERE task = ?1 AND id <= ?2", [task, last]).map(drop)?))
}

/// Comes back when the receiver has it or was given up, and that is noted.
async fn deliver(app: &Arc<App>, message: &Message, channel: Channel, last: i64) -> Result<(), Refusal> {
    let mut given_up = None;
    for n in 1..=TRIES {
        match message.send(app, channel).await {
            Ok(()) => break,
            Err(e) if n == TRIES => given_up = Some(e),
            Err(_) => tokio::time::sleep(PAUSE * n).await,
        }
    }
    let sql = "UPDATE notices SET told = told || ' ' || ?1 WHERE task = ?2 AND id <= ?3";
    app.store.run(|db| Ok(db.execute(sql, params![channel.name(), message.task, last]).map(drop)?))?;
    if let Some(e) = given_up {
        tracing::error!("an alarm reached nobody: {e}");
        audit::note_failed(app, "console", "", Some(message.task), "tell-alarm", &e);
    }
    Ok(())
}

pub fn channels(receivers: &Receivers) -> Vec<Channel> {
    let webhook = (!receivers.webhook.is_empty()).then_some(Channel::Webhook);
    webhook.into_iter().chain((!receivers.mails.is_empty()).then_some(Channel::Mail)).collect()
}

impl Message {
    /// `events`: at least one.
    pub fn of(app: &App, t: &Task, receivers: Receivers, events: &[Event]) -> Message {
        let link = format!("{}/tasks/{}", app.options.url(), t.id);
        let mark = |e: &Event| if e.resolved { "resolved" } else { "alarm" };
        let lines: String = events.iter().map(|e| format!("{}: {}\n", mark(e), e.text)).collect();
        let first = events.first().map_or(String::new(), |e| format!("{} {}", mark(e), e.text.split(':').next().unwrap_or_default()));
        let more = if events.len() > 1 { format!(" and {} more", events.len() - 1) } else { String::new() };
        let text = format!("task {}\n{lines}{link}\n", t.name);
        Message {
            task: t.id,
            receivers,
            subject: format!("millrace {}: {first}{more}", t.name),
            body: json!({
                "task": t.name, "link": link, "text": text,
                "events": events.iter().map(|e| json!({"id": e.id, "resolved": e.resolved, "text": e.text})).collect::<Vec<_>>(),
            }),
            text,
            mail_id: events.first().zip(events.last()).filter(|(first, _)| first.id > 0).map(|(first, last)| {
                let own = app.options.mail_from.rsplit('@').next().unwrap_or_default().trim_end_matches('>');
                format!("<alarm-{}-{}-{}@{own}>", t.id, first.id, last.id)
            }),
        }
    }

    /// # Errors
    /// What happened, without addresses.
    pub async fn send(&self, app: &Arc<App>, channel: Channel) -> Result<(), String> {
        match channel {
            Channel::Webhook => post(app, &self.receivers.webhook, &self.body).await,
            Channel::Mail => {
                let (app, message) = (app.clone(), self.clone());
                tokio::task::spawn_blocking(move || message.mail(&app)).await.map_err(|e| e.to_string())?
            }
        }
    }

    fn mail(&self, app: &App) -> Result<(), String> {
        let server = app.options.smtp.as_ref().ok_or("the console has no mail server: see MILLRACE_SMTP")?;
        let mailbox = |a: &str| a.parse::<Mailbox>().map_err(|e| e.to_string());
        let mut message =
            lettre::Message::builder().from(mailbox(&app.options.mail_from)?).subject(&self.subject).header(ContentType::TEXT_PLAIN);
        message = message.message_id(self.mail_id.clone());
        for to in &self.receivers.mails {
            message = message.to(mailbox(to)?);
        }
        let message = message.body(self.text.clone()).map_err(|e| e.to_string())?;
        let transport = SmtpTransport::from_url(&server.0).map_err(|e| e.to_string())?.timeout(Some(PATIENCE)).build();
        transport.send(&message).map(drop).map_err(|e| e.to_string())
    }
}

async fn post(app: &App, url: &str, body: &Value) -> Result<(), String> {
    // What was allowed once may be allowed no more.
    app.options.allow.address(url)?;
    // A redirect would lead past what is allowed.
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let client = client.map_err(|e| e.without_url().to_string())?;
    let sent = client.post(url).header("content-type", "application/json").body(body.to_string()).send().await;
    match sent.map_err(|e| e.without_url().to_string())?.status() {
        s if s.is_success() => Ok(()),
        s => Err(format!("the webhook answers {s}")),
    }
}
