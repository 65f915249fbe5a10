//! What a topology may reach when it is not its user's own: folders and addresses that somebody else has allowed.
//!
//! Paths and addresses are those that the schemas of parts and of `run_env` call so (`PathText`, `x-address`): there is no list of keys
//! here that a new part could be missing from. A test of the console holds that every text of every source, sink and store is either marked
//! or known to lead nowhere.

use crate::diagnostic::{Found, Report};
use crate::source::Span;
use crate::yaml::Node;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// What may stand in maps that are handed to a client library as they are, by name or, with a point at its end, by its beginning: the library (librdkafka) has others that name files,
/// programs, plug-ins and servers.
const HARMLESS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "api.version.",
    "auto.offset.reset",
    "batch.",
    "broker.address.",
    "check.crcs",
    "client.id",
    "client.rack",
    "compression.",
    "connections.max.idle.ms",
    "consume.",
    "coordinator.",
    "debug",
    "delivery.",
    "enable.",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.level",
    "linger.ms",
    "log_level",
    "max.",
    "message.",
    "metadata.max.",
    "partition.assignment.strategy",
    "partitioner",
    "queue.",
    "queued.",
    "queuing.",
    "receive.",
    "reconnect.",
    "request.",
    "retries",
    "retry.",
    "session.",
    "socket.",
    "statistics.",
    "sticky.",
    "topic.metadata.",
    "transaction.",
];

/// Folders and addresses that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Confine {
    /// With all that lies in them. A topology's own folder must be among them.
    pub folders: Vec<PathBuf>,
    /// `host`, `host:port`, `*.example.com`, `s3://bucket`, or `*` for all.
    pub addresses: Vec<String>,
}

impl Confine {
    /// Whether a path, relative to `base`, leads to an allowed folder, by symbolic links too.
    ///
    /// # Errors
    /// A sentence.
    pub fn path(&self, base: &Path, path: &str) -> Result<(), String> {
        let refused = || Err(format!("`{path}` lies in no folder that this topology may use"));
        let whole = base.join(path);
        // What does not exist yet has no links to follow, so it must not climb either.
        if path.contains('\0') || Path::new(path).components().any(|c| c == Component::ParentDir) {
            return refused();
        }
        let mut there = whole.as_path();
        let real = loop {
            match std::fs::canonicalize(there) {
                Ok(real) => break real,
                // A link that leads nowhere yet would be followed once it does.
                Err(_) if std::fs::symlink_metadata(there).is_ok() => return refused(),
                Err(_) => match there.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => there = parent,
                    _ => return refused(),
                },
            }
        };
        let within = |folder: &PathBuf| std::fs::canonicalize(folder).is_ok_and(|f| real.starts_with(f));
        if self.folders.iter().any(within) { Ok(()) } else { refused() }
    }

    /// Whether a server may be spoken to: `host`, `host:port`, or a URL.
    ///
    /// # Errors
    /// A sentence.
    pub fn address(&self, address: &str) -> Result<(), String> {
        let Some((host, port)) = parts(address) else { return Err(format!("`{address}` is no address that can be checked")) };
        let whole = port.as_ref().map_or(host.clone(), |p| format!("{host}:{p}"));
        let fits = |allowed: &String| {
            let allowed = allowed.to_ascii_lowercase();
            let of = |what: &str| match allowed.strip_prefix("*.") {
                Some(domain) => what.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
                None => allowed == what,
            };
            allowed == "*" || of(&host) || of(&whole)
        };
        match self.addresses.iter().any(fits) {
            true => Ok(()),
            false => Err(format!("`{whole}` is no address that this topology may use")),
        }
    }
}

/// Host and port in lower case; of `s3://bucket` the whole. User and path do not count.
fn parts(address: &str) -> Option<(String, Option<String>)> {
    let address = address.trim().to_ascii_lowercase();
    let (scheme, rest) = address.split_once("://").map_or(("", address.as_str()), |(s, r)| (s, r));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let server = authority.rsplit('@').next().unwrap_or_default();
    if scheme == "s3" {
        return Some((format!("s3://{server}"), None)).filter(|_| !server.is_empty());
    }
    let (host, port) = match server.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((v6, rest)) => (v6, rest.strip_prefix(':')),
        None => server.split_once(':').map_or((server, None), |(h, p)| (h, Some(p))),
    };
    let port = port.or(match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        "redis" | "rediss" => Some("6379"),
        _ => None,
    });
    let fine = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-_.:".contains(c));
    // Clients read what is odd in their own ways: a tab, for one, is nothing to some of them.
    let plain = port.is_none_or(|p| p.parse::<u16>().is_ok()) && !host.starts_with('.') && !address.contains(char::is_control);
    (fine(host) && plain).then(|| (host.trim_end_matches('.').to_string(), port.map(String::from)))
}

/// Tells what a topology names and may not reach.
pub(crate) fn check(report: &mut Report, limits: &Confine, root: &Node, base: &Path) {
    let mut ports = HashMap::new();
    beside(root, &mut ports);
    let mut found: Vec<(Span, String)> = lent(root).into_iter().collect();
    let fine = |key: &str| HARMLESS.iter().any(|h| if h.ends_with('.') { key.starts_with(h) } else { key == *h });
    for (span, key) in report.properties.iter().filter(|(_, key)| !fine(key)) {
        found.push((*span, format!("the property `{key}` may not be set here")));
    }
    for (span, path) in &report.paths {
        let done = if path.contains("://") { limits.address(path) } else { limits.path(base, path) };
        found.extend(done.err().map(|why| (*span, why)));
    }
    for (span, text) in &report.addresses {
        for one in text.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            // `listen: 9464` is a port of this machine alone.
            let one = if one.parse::<u16>().is_ok() { format!("127.0.0.1:{one}") } else { one.to_string() };
            let whole = match ports.get(span) {
                Some(port) if !one.contains(':') => format!("{one}:{port}"),
                _ => one,
            };
            found.extend(limits.address(&whole).err().map(|why| (*span, why)));
        }
    }
    for (span, why) in found {
        report.push(Found::error("not-allowed", span, why).hint("ask the administrator, who says what jobs may reach"));
    }
}

/// The `port` that stands beside a value, by the value's place.
fn beside(node: &Node, ports: &mut HashMap<Span, String>) {
    let port = node.get("port").and_then(Node::text);
    for entry in node.entries() {
        ports.extend(port.map(|p| (entry.value.span, p.to_string())));
        beside(&entry.value, ports);
    }
    node.items().iter().for_each(|n| beside(n, ports));
}

/// A storage without keys: its client would ask the machine for those that the console's host has.
fn lent(root: &Node) -> Option<(Span, String)> {
    let checkpoint = root.get("run_env")?.get("checkpoint")?;
    let dir = checkpoint.get("dir").filter(|d| d.text().is_some_and(|t| t.starts_with("s3://")))?;
    let own = checkpoint.get("s3").is_some_and(|s3| s3.get("access_key").is_some());
    (!own).then(|| (dir.span, "a storage needs `s3.access_key` and `s3.secret_key` here: those of the machine are not lent".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, load_text};

    #[test]
    fn addresses_are_compared_by_host_and_port() {
        let limits = |all: &[&str]| Confine { addresses: all.iter().map(ToString::to_string).collect(), ..Confine::default() };
        let cases: &[(&str, &[&str], bool)] = &[
            ("kafka:9092", &["kafka:9092"], true),
            ("kafka:9092", &["kafka"], true),
            ("KAFKA.:9092", &["Kafka"], true),
            ("kafka:9093", &["kafka:9092"], false),
            ("kafka", &[], false),
            ("http://a.example/x", &["a.example:80"], true),
            ("https://a.example/x", &["a.example:80"], false),
            ("http://allowed@169.254.169.254/", &["allowed"], false),
            ("http://169.254.169.254\\@allowed/", &["allowed"], false),
            ("http://169.254.169.254#@allowed/", &["allowed"], false),
            ("http://allowed.evil.example", &["allowed"], false),
            ("x.sub.example.com", &["*.example.com"], true),
            ("evilexample.com", &["*.example.com"], false),
            ("example.com", &["*.example.com"], false),
            ("redis://u:p@r", &["r:6379"], true),
            ("[::1]:80", &["::1"], true),
            ("s3://bucket/prefix", &["s3://bucket"], true),
            ("s3://bucket2", &["s3://bucket"], false),
            ("anything", &["*"], true),
            ("", &["*"], false),
            ("a b", &["*"], false),
            ("http://evil.example\t.example.com/", &["*.example.com"], false),
            ("http://evil.example:80\t.example.com/", &["*.example.com"], false),
            ("http://evil.example:80.example.com/", &["*.example.com"], false),
            ("http://a.example\r\nx: y", &["*"], false),
            ("http://.example.com/", &["*.example.com"], false),
            ("http://127.1/", &["127.0.0.1"], false),
            ("http://2130706433/", &["127.0.0.1"], false),
            ("http://[::ffff:127.0.0.1]/", &["127.0.0.1"], false),
        ];
        for (address, allowed, want) in cases {
            assert_eq!(limits(allowed).address(address).is_ok(), *want, "{address} with {allowed:?}");
        }
    }

    #[test]
    fn paths_do_not_leave_by_dots_or_links() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        std::fs::create_dir_all(mine.join("sub")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(&other, mine.join("link")).unwrap();
        std::os::unix::fs::symlink(other.join("not yet"), mine.join("dangling")).unwrap();
        std::os::unix::fs::symlink(mine.join("sub"), mine.join("inner")).unwrap();
        let limits = Confine { folders: vec![mine.clone()], ..Confine::default() };
        let secret = other.join("secret");
        for (path, want) in [
            ("out.jsonl", true),
            ("sub/new/deep.jsonl", true),
            ("inner/x", true),
            ("", true),
            ("../other/secret", false),
            ("sub/../../other/secret", false),
            ("link/secret", false),
            ("link/new", false),
            ("dangling", false),
            ("/etc/passwd", false),
            ("/proc/self/environ", false),
            (secret.to_str().unwrap(), false),
        ] {
            assert_eq!(limits.path(&mine, path).is_ok(), want, "{path}");
        }
    }

    #[test]
    fn a_topology_is_told_at_the_place() {
        let text = "name: a\nrun_env:\n  state_dir: /var/x\n  checkpoint: {dir: s3://b/p}\nstreams:\n  s:\n    config:\n      source: {type: Inline, \
                    config: {rows: [{id: \"${file:/etc/passwd}\"}, {id: \"${HOME:-gone}\"}]}}\nsink:\n  - {type: Stdout}\n";
        let folder = tempfile::tempdir().unwrap();
        let confine = Some(Confine { folders: vec![folder.path().into()], ..Confine::default() });
        let options = Options { confine, variables: Some(Default::default()), ..Options::default() };
        let found = load_text("job.yaml", text, folder.path(), &options).diagnostics;
        let told: Vec<_> = found.iter().filter(|d| d.id == "not-allowed").map(|d| (d.line, d.column)).collect();
        assert!(told.contains(&(3, 14)) && told.contains(&(4, 21)) && told.iter().any(|t| t.0 == 8), "{found:#?}");
        assert!(!found.iter().any(|d| d.id == "missing-variable"), "{found:#?}");
    }
}
