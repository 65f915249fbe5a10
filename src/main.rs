//! The executable: wiring only, one file per subcommand.

/// As the standard library's, but nobody dies of it: what is told may go to a file of a disk that is full.
macro_rules! eprint {
    ($($arg:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($arg)*));
    }};
}
macro_rules! eprintln {
    ($($arg:tt)*) => { eprint!("{}\n", format_args!($($arg)*)) };
}

mod alerts;
mod checkpoints;
mod cli;
mod client;
mod cluster;
mod control;
mod diff;
mod exit;
mod fmt;
mod limits;
mod lint;
mod lsp;
mod new;
mod pages;
mod process;
mod record;
mod replay;
mod report;
mod run;
mod sample;
mod serve;
mod supervise;
mod tap;
mod task;
mod test;
mod top;
mod watch;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use std::process::ExitCode;

// Parts register themselves; a crate that nobody names would not be linked.
use millrace_connectors as _;
use millrace_operators as _;

// glibc's malloc is slow on frees from another thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::small_pages();
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Run { run, member } => return run::run(&run, &member),
        Command::Cluster(args) => return cluster::cluster(&args),
        Command::Lint(args) => lint::lint(&args),
        Command::Fmt(args) => fmt::fmt(&args),
        Command::Lsp(args) => lsp::lsp(&args),
        Command::Test(args) => test::test(&args),
        Command::Sample(args) => sample::sample(&args),
        Command::New(args) => new::new(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Tap(args) => tap::tap(&args),
        Command::List { what, json } => pages::list(what, json),
        Command::Explain { name } => pages::explain(&name),
        Command::Schema => pages::schema(),
        Command::Top(args) => top::top(args),
        Command::Status { job, json } => control::status(&job, json),
        Command::Savepoint(job) => control::savepoint(&job),
        Command::Record(args) => record::record(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Rescale(args) => control::rescale(&args),
        Command::Stop(args) => match &args.console {
            // A topology or a socket is no task.
            Some(url) if !args.job.job.exists() => {
                client::stop(&cli::ConsoleArgs { console: url.clone() }, &args.job.job.to_string_lossy(), args.savepoint, args.drain)
            }
            _ => control::stop(&args),
        },
        Command::Serve(args) => serve::serve(args),
        Command::Submit(args) => client::submit(&args),
        Command::Start(args) => client::start(&args),
        Command::Logs(args) => client::logs(&args),
        Command::Ps(args) => client::ps(&args),
        Command::Graph { file, format, set } => pages::graph(&file, format, &set),
        Command::Checkpoints { what } => checkpoints::checkpoints(&what),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "millrace", &mut out);
            pages::print(&String::from_utf8_lossy(&out))
        }
        Command::Man => pages::man(Cli::command()),
    };
    exit.into()
}
