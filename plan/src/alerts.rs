//! `run_env.alerts`: who is told when a job needs somebody.

use crate::diagnostic::{Found, Report};
use crate::plan::{AlertsPlan, MailPlan, WebhookPlan};
use crate::source::Span;
use crate::yaml::Node;
use millrace_sdk::config::{Duration, OneOrMany, Ordered, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

/// Who is told when a job needs somebody: it has failed, is restarted, was halted by a guard; a checkpoint failed; output cannot be
/// published. What happens within `min_interval` of a message is told in one, counted by kind.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Alerts {
    /// A POST of JSON to this address.
    pub webhook: Option<Webhook>,
    /// A mail.
    pub mail: Option<Mail>,
    /// Of what to tell. Default: of everything.
    pub on: Vec<AlertOn>,
    /// Least time between two messages to one receiver. Default 1m.
    pub min_interval: Option<Duration>,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertOn {
    /// The job has failed, and is not restarted.
    JobFailed,
    /// The job has failed, and is restarted.
    Restarting,
    /// A guard was red, and the job has ended.
    HaltedByGuard,
    /// A checkpoint has failed; the job goes on.
    CheckpointFailed,
    /// A sink's server has not taken its output for half a minute.
    OutputBlocked,
    /// It takes the output again.
    OutputUnblocked,
}

impl AlertOn {
    fn name(self) -> &'static str {
        match self {
            AlertOn::JobFailed => "job_failed",
            AlertOn::Restarting => "restarting",
            AlertOn::HaltedByGuard => "halted_by_guard",
            AlertOn::CheckpointFailed => "checkpoint_failed",
            AlertOn::OutputBlocked => "output_blocked",
            AlertOn::OutputUnblocked => "output_unblocked",
        }
    }
}

/// Takes `{"job", "host", "text", "events": [{"event", "message", "count", "time"}]}`; any answer from 200 to 299 will do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// `http://…` or `https://…`; never shown, as such addresses carry tokens.
    #[schemars(extend("x-address" = true))]
    pub url: Secret,
    /// Headers by name. Default: none but the content's type.
    #[serde(default)]
    pub headers: Ordered<Secret>,
    /// For a call. Default 10s; it is made three times at most.
    pub timeout: Option<Duration>,
}

/// A server that takes mails.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mail {
    /// The server's name.
    #[schemars(extend("x-address" = true))]
    pub host: String,
    /// Default: 25 with `tls: none`, 587 with starttls, 465 with tls.
    pub port: Option<u16>,
    /// The sender, `Millrace <millrace@example.com>`.
    pub from: String,
    /// One receiver or several.
    pub to: OneOrMany<String>,
    /// Default: no login.
    pub username: Option<String>,
    /// Belongs to `username`.
    pub password: Option<Secret>,
    /// How the connection is protected. Default: starttls.
    #[serde(default)]
    pub tls: MailTls,
    /// For each step. Default 10s; it is tried three times at most.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MailTls {
    /// In plain text; passwords are refused then.
    None,
    /// Plain text at first, and protected before anything is said.
    #[default]
    Starttls,
    /// From the beginning.
    Tls,
}

pub(crate) fn plan(report: &mut Report, a: &Alerts, node: &Node, owner: Span) -> AlertsPlan {
    let at = |path: &[&str]| path.iter().try_fold(node, |n, key| n.get(key)).map_or(owner, |n| n.span);
    if a.webhook.is_none() && a.mail.is_none() {
        report.push(Found::error("missing-key", owner, "`alerts` has no receiver").hint("give it `webhook` or `mail`"));
    }
    let second = |d: Option<Duration>| d.unwrap_or(Duration::secs(10)).std();
    let webhook = a.webhook.as_ref().map(|w| {
        if !w.url.0.starts_with("http://") && !w.url.0.starts_with("https://") {
            report.push(Found::error("invalid-config", at(&["webhook", "url"]), "an address begins with `http://` or `https://`"));
        }
        let headers = w.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        WebhookPlan { url: w.url.clone(), headers, timeout: second(w.timeout) }
    });
    let mail = a.mail.as_ref().map(|m| {
        for (key, addresses) in [("from", vec![&m.from]), ("to", m.to.as_slice().iter().collect())] {
            for address in addresses {
                let bare = address.rsplit_once('<').map_or(address.as_str(), |(_, rest)| rest.trim_end_matches('>'));
                if !bare.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
                    let found = Found::error("invalid-address", at(&["mail", key]), format!("`{address}` is no mail address"));
                    report.push(found.hint("write `name@example.com` or `Name <name@example.com>`"));
                }
            }
        }
        match (&m.username, &m.password) {
            (Some(_), None) => report.push(Found::error("missing-key", at(&["mail", "username"]), "`username` without `password`")),
            (None, Some(_)) => report.push(Found::error("missing-key", at(&["mail", "password"]), "`password` without `username`")),
            (Some(_), Some(_)) if m.tls == MailTls::None => {
                let found = Found::error("invalid-config", at(&["mail", "tls"]), "a password would travel in plain text");
                report.push(found.hint("use `tls: starttls` or `tls: tls`"));
            }
            _ => {}
        }
        let port = m.port.unwrap_or(match m.tls {
            MailTls::None => 25,
            MailTls::Starttls => 587,
            MailTls::Tls => 465,
        });
        MailPlan {
            host: m.host.clone(),
            port,
            from: m.from.clone(),
            to: m.to.as_slice().to_vec(),
            login: m.username.clone().zip(m.password.clone()),
            protected: m.tls != MailTls::None,
            starttls: m.tls == MailTls::Starttls,
            timeout: second(m.timeout),
        }
    });
    AlertsPlan {
        webhook,
        mail,
        on: a.on.iter().map(|o| o.name()).collect(),
        min_interval: a.min_interval.unwrap_or(Duration::secs(60)).std(),
    }
}
