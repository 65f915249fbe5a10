//! `millrace serve`: the web console.

use crate::cli::ServeArgs;
use crate::exit::Exit;
use millrace_console::Options;
use millrace_plan::Confine;
use millrace_sdk::Fault;
use millrace_sdk::config::Secret;
use std::path::PathBuf;

/// The mail server, as it may have a password in it.
const SMTP: &str = "MILLRACE_SMTP";

pub fn serve(args: ServeArgs) -> Exit {
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).log_internal_errors(false).init();
    match options(args).and_then(millrace_console::serve) {
        Ok(()) => Exit::Ok,
        Err(fault) => {
            eprintln!("error: {fault}");
            Exit::of(&fault)
        }
    }
}

fn options(args: ServeArgs) -> Result<Options, Fault> {
    let here = |e: std::io::Error| Fault::refused(format!("the executable is not found: {e}"));
    let folders: Vec<PathBuf> = args
        .allow_folder
        .iter()
        .map(|f| std::fs::canonicalize(f).map_err(|e| Fault::refused(format!("`{}` cannot be allowed: {e}", f.display()))))
        .collect::<Result<_, _>>()?;
    if !args.listen.ip().is_loopback() && args.tls_cert.is_none() && args.public_url.is_none() {
        return Err(Fault::config(format!(
            "{} can be reached from other machines, and passwords would be sent in plain text",
            args.listen
        ))
        .hint("give --tls-cert and --tls-key, or --public-url if a proxy in front of it has the certificate"));
    }
    check(&args)?;
    Ok(Options {
        folder: args.data,
        listen: args.listen,
        public_url: args.public_url,
        key_file: args.key_file,
        cgroup: args.cgroup,
        tls: args.tls_cert.zip(args.tls_key),
        executable: std::env::current_exe().map_err(here)?,
        allow: Confine { folders, addresses: args.allow_address },
        smtp: std::env::var(SMTP).ok().filter(|s| !s.is_empty()).map(Secret),
        mail_from: args.mail_from,
    })
}

/// What would be of no use, and be noticed only when it is needed.
fn check(args: &ServeArgs) -> Result<(), Fault> {
    if let Some(url) = &args.public_url {
        let host = url.strip_prefix("https://").or(url.strip_prefix("http://")).map(|h| h.trim_end_matches('/'));
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
        if !host.is_some_and(|h| !h.is_empty() && h.chars().all(fine)) {
            return Err(Fault::config(format!("--public-url: `{url}` is no address of a console"))
                .hint("write `https://millrace.example.com`, without a path"));
        }
        if url.starts_with("http://") && !args.listen.ip().is_loopback() && args.tls_cert.is_none() {
            return Err(Fault::config(format!("--public-url: by `{url}` passwords would be sent in plain text"))
                .hint("give --tls-cert and --tls-key, or let a proxy speak https://"));
        }
    }
    for address in &args.allow_address {
        let name = address.strip_prefix("s3://").unwrap_or(address);
        if name.is_empty() || name.contains(['/', '@', ',']) || name.contains(char::is_whitespace) {
            return Err(Fault::config(format!("--allow-address: nothing is called `{address}`"))
                .hint("write `host`, `host:port`, `*.example.com`, `s3://bucket`, or `*`; several by several --allow-address"));
        }
    }
    Ok(())
}
