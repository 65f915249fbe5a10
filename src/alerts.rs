//! Alerts: a thread that tells the receivers of `run_env.alerts` what happens to a job, a few messages at most.
//!
//! The first event goes out at once; what follows within `min_interval` is gathered and told in one message, counted by kind. When the
//! process ends, what is left goes out without waiting for that. Addresses, headers and passwords appear in no log line.

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};
use millrace_engine::Event;
use millrace_plan::plan::{AlertsPlan, MailPlan, WebhookPlan};
use millrace_sdk::Clock;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Calls of one message at most, and the pause between two.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// Different events of one message; more are counted alone.
const MOST: usize = 50;

/// Where events go. Dropped, it waits until they are told.
pub struct Alerts {
    events: Mutex<Option<Sender<Event>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Alerts {
    /// None: nobody wants to be told.
    pub fn start(job: &str, plan: Option<&AlertsPlan>) -> Option<Arc<Alerts>> {
        let plan = plan?.clone();
        let job = job.to_string();
        let (events, heard) = channel();
        let work = move || Teller { job, plan, told: None, waiting: vec![], left_out: 0 }.run(&heard);
        match std::thread::Builder::new().name("alerts".into()).spawn(work) {
            Ok(thread) => Some(Arc::new(Alerts { events: Mutex::new(Some(events)), thread: Mutex::new(Some(thread)) })),
            Err(e) => {
                tracing::error!(target: "alerts", "nobody will be told of what happens to the job: {e}");
                None
            }
        }
    }

    pub fn tell(&self, event: Event) {
        if let Some(events) = &*self.events.lock().unwrap_or_else(|e| e.into_inner()) {
            let _ = events.send(event);
        }
    }

    /// Tells what is left, and ends.
    pub fn end(&self) {
        drop(self.events.lock().unwrap_or_else(|e| e.into_inner()).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.end();
    }
}

/// Events of one kind and message.
struct Group {
    event: Event,
    count: u64,
    /// Of the last one, microseconds since 1970.
    time: i64,
}

struct Teller {
    job: String,
    plan: AlertsPlan,
    /// When the last message went out.
    told: Option<Instant>,
    waiting: Vec<Group>,
    left_out: u64,
}

impl Teller {
    fn run(mut self, heard: &Receiver<Event>) {
        loop {
            let due = self.told.map_or(Duration::ZERO, |t| self.plan.min_interval.saturating_sub(t.elapsed()));
            let next = match self.waiting.is_empty() {
                true => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => heard.recv_timeout(due),
            };
            match next {
                Ok(event) => self.gather(event),
                Err(RecvTimeoutError::Timeout) => self.send(),
                Err(RecvTimeoutError::Disconnected) => return self.send(),
            }
        }
    }

    fn gather(&mut self, event: Event) {
        if !self.plan.on.is_empty() && !self.plan.on.contains(&event.kind) {
            return;
        }
        let (time, full) = (Clock::System.now(), self.waiting.len() == MOST);
        match self.waiting.iter_mut().find(|g| g.event.kind == event.kind && g.event.message == event.message) {
            Some(g) => (g.count, g.time) = (g.count + 1, time),
            None if full => self.left_out += 1,
            None => self.waiting.push(Group { event, count: 1, time }),
        }
    }

    fn send(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let groups = std::mem::take(&mut self.waiting);
        let left_out = std::mem::take(&mut self.left_out);
        self.told = Some(Instant::now());
        if let Some(webhook) = &self.plan.webhook {
            tried("the webhook", || post(webhook, &self.body(&groups, left_out)));
        }
        if let Some(mail) = &self.plan.mail {
            tried("the mail server", || send_mail(mail, &self.subject(&groups), &self.text(&groups, left_out)));
        }
    }

    fn subject(&self, groups: &[Group]) -> String {
        let kinds: Vec<&str> = groups.iter().map(|g| g.event.kind).collect();
        let more = if kinds.len() > 1 { format!(" and {} more", kinds.len() - 1) } else { String::new() };
        format!("millrace {}: {}{more}", self.job, kinds.first().unwrap_or(&"").replace('_', " "))
    }

    fn text(&self, groups: &[Group], left_out: u64) -> String {
        let mut text = format!("job {} on {}\n", self.job, host());
        for g in groups {
            let times = if g.count > 1 { format!(" ({} times)", g.count) } else { String::new() };
            text += &format!("{}{times}: {}\n", g.event.kind.replace('_', " "), g.event.message);
        }
        if left_out > 0 {
            text += &format!("and {left_out} other events\n");
        }
        text
    }

    fn body(&self, groups: &[Group], left_out: u64) -> Value {
        let event = |g: &Group| json!({"event": g.event.kind, "message": g.event.message, "count": g.count, "time": g.time / 1000});
        json!({
            "job": self.job,
            "host": host(),
            "text": self.text(groups, left_out),
            "events": groups.iter().map(event).collect::<Vec<_>>(),
            "left_out": left_out,
        })
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or("?".into(), |h| h.trim().to_string())
}

/// `Err` says what happened, without the address.
fn tried(whom: &str, mut call: impl FnMut() -> Result<(), String>) {
    for n in 1..=TRIES {
        match call() {
            Ok(()) => return,
            Err(e) if n == TRIES => tracing::error!(target: "alerts", "{whom} of `run_env.alerts` cannot be reached: {e}"),
            Err(_) => std::thread::sleep(PAUSE * n),
        }
    }
}

fn post(to: &WebhookPlan, body: &Value) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .timeout(to.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| e.without_url().to_string())?;
        let mut request = client.post(&to.url.0).header("content-type", "application/json").body(body.to_string());
        for (name, value) in &to.headers {
            request = request.header(name, &value.0);
        }
        let answer = request.send().await.map_err(|e| e.without_url().to_string())?;
        match answer.status() {
            s if s.is_success() => Ok(()),
            s => Err(format!("it answers {s}")),
        }
    })
}

fn send_mail(m: &MailPlan, subject: &str, text: &str) -> Result<(), String> {
    let mailbox = |a: &str| a.parse::<Mailbox>().map_err(|e| format!("`{a}`: {e}"));
    let mut message = Message::builder().from(mailbox(&m.from)?).subject(subject).header(ContentType::TEXT_PLAIN);
    for to in &m.to {
        message = message.to(mailbox(to)?);
    }
    let message = message.body(text.to_string()).map_err(|e| e.to_string())?;
    let tls = match m.protected {
        false => Tls::None,
        true => {
            let parameters = TlsParameters::new(m.host.clone()).map_err(|e| e.to_string())?;
            if m.starttls { Tls::Required(parameters) } else { Tls::Wrapper(parameters) }
        }
    };
    let mut transport = SmtpTransport::builder_dangerous(&m.host).port(m.port).tls(tls).timeout(Some(m.timeout));
    if let Some((user, password)) = &m.login {
        transport = transport.credentials(Credentials::new(user.clone(), password.0.clone()));
    }
    transport.build().send(&message).map(drop).map_err(|e| e.to_string())
}
