//! The web console: one process with an embedded database, whose pages and HTTP API make tasks, run their jobs, and watch them.
//!
//! A job is no child that the console must keep: `millrace run --task` detaches itself, restarts by its own strategy, and leaves in its folder
//! what a console that is started later needs to find it again. See ARCHITECTURE.md, "The console".

mod accounts;
mod alarms;
mod audit;
mod checkpoints;
mod draw;
mod figures;
mod jobs;
mod lang;
mod limits;
mod look;
mod measure;
mod notify;
mod process;
mod refusal;
mod serve;
mod settings;
mod socket;
mod stars;
mod store;
mod streams;
mod tasks;
mod tls;
mod vault;
mod view;
mod web;

pub use figures::Figures;
pub use refusal::Refusal;
pub use serve::{Options, serve};
pub use web::{Peer, router};

use millrace_sdk::{Clock, Fault};
use std::sync::Arc;
use store::Store;
use tokio::sync::Semaphore;

/// Passwords that are checked at a time: each takes 19 MiB.
const LOGINS: usize = 2;
/// Calls of the executable, for previews, checkpoints and records: each takes some 40 MiB.
const CALLS: usize = 4;
/// Topologies that are planned for the editor.
const LINTS: usize = 4;

/// What every request can reach.
pub struct App {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) vault: vault::Vault,
    pub(crate) clock: Clock,
    pub(crate) limits: limits::Limits,
    pub(crate) logins: Arc<Semaphore>,
    pub(crate) taps: Arc<Semaphore>,
    pub(crate) streams: streams::Streams,
    /// Calls of the executable at a time.
    pub(crate) calls: Arc<Semaphore>,
    /// Lints at a time.
    pub(crate) lints: Arc<Semaphore>,
    pub(crate) jobs: jobs::Jobs,
    pub(crate) alarms: alarms::Alarms,
    pub(crate) pictures: draw::Pictures,
}

impl App {
    /// Opens the folder; the second value is the password of the administrator that a first start makes.
    ///
    /// # Errors
    /// The folder cannot be used, or another console uses it.
    pub fn open(options: Options, clock: Clock) -> Result<(Arc<App>, Option<String>), Fault> {
        let store = Store::open(&options.folder)?;
        let own = |f: &&std::path::PathBuf| store.folder().starts_with(f) || f.starts_with(store.folder());
        if let Some(f) = options.allow.folders.iter().find(own) {
            return Err(Fault::config(format!("--allow-folder: `{}` and the console's own folder lie within each other", f.display()))
                .hint("jobs would read and change what the console keeps: allow a folder beside it, or move it with --data"));
        }
        let vault = vault::Vault::open(&store, options.key_file.as_deref())?;
        let failed = |r: Refusal| Fault::refused(r.message);
        let password = accounts::first_admin(&store, clock.now()).map_err(failed)?;
        store.run(audit::settle).map_err(failed)?;
        let limits = limits::Limits::find(options.cgroup.as_deref())?;
        let app = App {
            limits,
            options,
            store,
            vault,
            clock,
            logins: Arc::new(Semaphore::new(LOGINS)),
            taps: Arc::new(Semaphore::new(web::TAPS)),
            streams: streams::Streams::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
            lints: Arc::new(Semaphore::new(LINTS)),
            jobs: jobs::Jobs::default(),
            alarms: alarms::Alarms::default(),
            pictures: draw::Pictures::default(),
        };
        jobs::recall(&app).map_err(failed)?;
        Ok((Arc::new(app), password))
    }
}
