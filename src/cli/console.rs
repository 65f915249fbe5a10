//! What the console and its clients take.

use super::Set;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct ServeArgs {
    /// Where the database, the tasks and their logs lie; one console at a time
    #[arg(long, value_name = "FOLDER", default_value = "millrace-console")]
    pub data: PathBuf,
    /// Address and port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8800", value_parser = millrace_plan::listen)]
    pub listen: std::net::SocketAddr,
    /// How people reach the console, if not at that address: `https://millrace.example.com`
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// The certificate and its chain, PEM: the console then speaks HTTPS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM (PKCS #8)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The key with which secrets are sealed, 64 hexadecimal digits. Default: `console.key` in the folder, which the first start makes
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A folder of control groups (cgroup v2) that is the console's to manage, for limits of jobs. Default: the one that systemd delegates
    #[arg(long, value_name = "FOLDER")]
    pub cgroup: Option<PathBuf>,
    /// A folder that jobs may use beside their own; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub allow_folder: Vec<PathBuf>,
    /// What jobs and webhooks may speak to: `host`, `host:port`, `*.example.com`, `s3://bucket`, or `*`; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub allow_address: Vec<String>,
    /// The sender of mails; the server is in the variable MILLRACE_SMTP (`smtp://user:password@host:25`, `smtps://…`)
    #[arg(long, value_name = "ADDRESS", default_value = "millrace@localhost")]
    pub mail_from: String,
}

#[derive(Args, Default)]
pub struct ConsoleArgs {
    /// Where the console is; the token comes from the variable MILLRACE_TOKEN
    #[arg(long, value_name = "URL", env = "MILLRACE_CONSOLE", default_value = "http://127.0.0.1:8800")]
    pub console: String,
}

#[derive(Args)]
pub struct SubmitArgs {
    /// The topology
    pub file: PathBuf,
    /// The task's name. Default: the file's, without its end
    #[arg(long)]
    pub name: Option<String>,
    /// The team of a new task; needed by who has several
    #[arg(long)]
    pub team: Option<String>,
    /// What was changed
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
    /// Start its job, too
    #[arg(long)]
    pub start: bool,
    #[command(flatten)]
    pub set: Set,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct StartArgs {
    /// The task
    pub name: String,
    /// Which checkpoint it goes on from: `latest`, `scratch`, the number of one, or its path
    #[arg(long, value_name = "CHECKPOINT", default_value = "latest")]
    pub from: String,
    /// As for `millrace run`
    #[arg(long)]
    pub accept_duplicates: bool,
    /// As for `millrace run`
    #[arg(long)]
    pub allow_dropped_state: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct LogsArgs {
    /// The task
    pub name: String,
    /// Go on with what is written from now on
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
}

#[derive(Args)]
pub struct PsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub console: ConsoleArgs,
}
