//! The user's book: what it shows is what happens. Pages are read from top to bottom, each in a folder of its own:
//!
//! - a fenced block below a line that ends in `` `NAME`: `` is that file, written there;
//! - a `yaml` block with `streams:` is a whole topology. It lints without errors, and a warning's id must stand in the page; `yaml,broken` must
//!   have errors. If a `json` or `text` block comes right behind it, that is what it prints; if nothing runs it by name, it must end well;
//! - a `console` block has commands (`$ ...`) that must succeed, each followed by what it prints. `…` stands for any text within a line, and as
//!   a line of its own for any lines;
//! - other blocks (`sh`, `text`, ...) are for reading: what needs a server or has no end.
//!
//! `docs/src/reference` is made from the registry: `UPDATE_GOLDEN=1` writes it.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What topologies name when they need a server.
const SERVERS: &[(&str, &str)] = &[("BROKERS", "127.0.0.1:9092"), ("HBASE", "127.0.0.1:9090"), ("REDIS", "redis://127.0.0.1:6379")];

struct Block {
    /// The first word of the info string, and whether `broken` follows.
    language: String,
    broken: bool,
    /// The file that the line above names.
    file: Option<String>,
    text: String,
    line: usize,
    /// Whether nothing but prose of one paragraph lies between it and the block before.
    close: bool,
}

/// The file that a line names, if it says that the next block is one: `` Save it as `wash.yaml`: ``
fn named_file(line: &str) -> Option<String> {
    let name = line.trim().strip_suffix("`:")?.rsplit('`').next()?;
    let known = ["yaml", "log", "log.1", "jsonl", "csv"];
    known.iter().any(|e| name.ends_with(&format!(".{e}"))).then(|| name.to_string())
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut all, mut above, mut headings) = (Vec::new(), String::new(), 0);
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let mut words = info.split([',', ' ']);
                open = Some(Block {
                    language: words.next().unwrap_or_default().into(),
                    broken: words.any(|w| w == "broken"),
                    file: named_file(&above),
                    text: String::new(),
                    line: i + 1,
                    close: headings == 0,
                });
                headings = 0;
            }
            (Some(_), Some(_)) => {
                all.extend(open.take());
                above.clear();
            }
            (Some(b), None) => {
                b.text.push_str(line);
                b.text.push('\n');
            }
            (None, None) => {
                headings += usize::from(line.starts_with('#'));
                if !line.trim().is_empty() {
                    above = line.into();
                }
            }
        }
    }
    assert!(open.is_none(), "a block has no end");
    all
}

fn is_topology(b: &Block) -> bool {
    b.language == "yaml" && b.text.lines().any(|l| l.starts_with("streams:"))
}

/// Whether a text is what a pattern shows, in which `…` stands for any text within a line.
fn line_fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('…') else { return pattern.trim_end() == text.trim_end() };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len()).filter(|i| text.is_char_boundary(*i)).any(|i| line_fits(rest, &text[i..]))
}

fn fits(pattern: &[&str], text: &[&str]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((&"…", rest)) => (0..=text.len()).any(|i| fits(rest, &text[i..])),
        Some((first, rest)) => text.first().is_some_and(|t| line_fits(first, t)) && fits(rest, &text[1..]),
    }
}

fn shows(pattern: &str, text: &str) -> bool {
    fits(&lines(pattern.trim_end()), &lines(text.trim_end()))
}

/// Pages of the book that are written by hand, and the README, by their path in the repository.
fn pages() -> Vec<(String, String)> {
    let (mut all, mut folders) = (vec![root().join("README.md")], vec![root().join("docs/src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the book") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                all.push(path);
            }
        }
    }
    all.sort();
    let name = |p: &PathBuf| p.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    all.iter().map(|p| (name(p), std::fs::read_to_string(p).expect("a page"))).collect()
}

/// What is wrong with a topology as lint sees it.
fn lint_faults(dir: &Path, file: &Path, broken: bool, page: &str) -> Option<String> {
    let o =
        millrace().args(["lint", "--format", "concise"]).arg(file).envs(SERVERS.iter().copied()).current_dir(dir).output().expect("runs");
    if broken || !o.status.success() {
        return (o.status.success() == broken).then(|| format!("{} errors: {}", if broken { "has no" } else { "has" }, said(&o)));
    }
    let told = text(&o.stdout);
    let ids = told.lines().filter_map(|l| l.split_once("warning[")?.1.split_once(']')).map(|(id, _)| id);
    let unsaid: Vec<_> = ids.filter(|id| !page.contains(&format!("`{id}`"))).collect();
    (!unsaid.is_empty()).then(|| format!("the page does not speak of {unsaid:?}:\n{told}"))
}

/// Runs the commands of a console block.
fn console_faults(dir: &Path, block: &Block) -> Vec<String> {
    let exe = Path::new(env!("CARGO_BIN_EXE_millrace"));
    let path = std::env::join_paths(
        std::iter::once(exe.parent().expect("a folder").to_path_buf())
            .chain(std::env::var_os("PATH").iter().flat_map(std::env::split_paths)),
    );
    let path = path.expect("a path");
    let mut failed = vec![];
    for step in format!("\n{}", block.text).split("\n$ ").skip(1) {
        let (command, wanted) = step.split_once('\n').unwrap_or((step, ""));
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).env("PATH", &path).current_dir(dir).stdin(std::process::Stdio::null());
        for name in ["STATE", "OUT", "WORKERS", "MILLRACE_LOG", "MILLRACE_SUPERVISED", "XDG_CONFIG_HOME"] {
            sh.env_remove(name);
        }
        let o = sh.output().expect("runs");
        if !o.status.success() || !shows(wanted, &text(&o.stdout)) {
            failed.push(format!("`{command}` shows\n{wanted}\nbut {}", said(&o)));
        }
    }
    failed
}

/// What a page shows and does not hold.
fn page_faults(page: &str) -> Vec<String> {
    let tmp = tempfile::tempdir().expect("tempdir");
    let dir = tmp.path();
    let blocks = blocks(page);
    let mut failed = vec![];
    for (i, b) in blocks.iter().enumerate() {
        let mut fault = |f: String| failed.push(format!("line {}: {f}", b.line));
        if let Some(name) = &b.file {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder can be written");
            std::fs::write(&path, &b.text).expect("a temporary folder can be written");
        }
        if b.language == "console" {
            console_faults(dir, b).into_iter().for_each(&mut fault);
        }
        if !is_topology(b) {
            continue;
        }
        let file = write(dir, b.file.as_deref().unwrap_or("topology.yaml"), &b.text);
        let lint = lint_faults(dir, &file, b.broken, page);
        let fine = lint.is_none() && !b.broken;
        lint.into_iter().for_each(&mut fault);
        let server = SERVERS.iter().any(|(name, _)| b.text.contains(&format!("${{{name}")));
        let shown = blocks.get(i + 1).filter(|n| n.close && n.file.is_none() && ["json", "text"].contains(&n.language.as_str()));
        if !fine || server || (shown.is_none() && b.file.is_some()) {
            continue;
        }
        let o = millrace().args(["run", "--quiet"]).arg(&file).current_dir(dir).stdin(std::process::Stdio::null()).output().expect("runs");
        if !o.status.success() || shown.is_some_and(|s| !shows(&s.text, &text(&o.stdout))) {
            fault(format!("shown\n{}\nbut {}", shown.map_or("", |s| &s.text), said(&o)));
        }
    }
    failed
}

#[test]
fn pages_do_what_they_show() {
    let mut failed = vec![];
    let mut topologies = 0;
    for (name, page) in pages().iter().filter(|(n, _)| !n.starts_with("docs/src/reference/")) {
        topologies += blocks(page).iter().filter(|b| is_topology(b)).count();
        failed.extend(page_faults(page).iter().map(|f| format!("{name}, {f}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n----\n"));
    assert!(topologies >= 20, "only {topologies} topologies were found in the book");
}

/// Targets of a page's links to files, without their anchors.
fn links(page: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut inside = false;
    for line in page.lines() {
        inside ^= line.starts_with("```");
        if !inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let targets = prose.split("](").skip(1).filter_map(|t| t.split([')', '#']).next());
    targets.filter(|t| !t.is_empty() && !t.contains("://") && !t.contains(char::is_whitespace)).map(String::from).collect()
}

/// Every page stands in the table of contents, and no link leads nowhere.
#[test]
fn pages_are_found() {
    let book = root().join("docs/src");
    let mut listed = BTreeSet::from(["docs/src/SUMMARY.md".to_string(), "README.md".to_string()]);
    for (name, page) in pages() {
        let folder = root().join(&name).parent().expect("a folder").to_path_buf();
        for link in links(&page).iter().filter(|_| !name.starts_with("docs/src/reference/")) {
            let target = folder.join(link);
            assert!(target.exists(), "{name} links to {link}, which is not there");
            if name.ends_with("SUMMARY.md") {
                listed.insert(target.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    assert!(book.join("SUMMARY.md").exists());
    let missing: Vec<_> = pages().into_iter().map(|(n, _)| n).filter(|n| !listed.contains(n)).collect();
    assert!(missing.is_empty(), "docs/src/SUMMARY.md does not name {missing:?}");
}

/// Standard output of a command of the executable that must succeed.
fn told(args: &[&str]) -> String {
    let o = millrace().args(args).output().expect("runs");
    assert!(o.status.success(), "{args:?}: {}", said(&o));
    text(&o.stdout)
}

/// Values that a key takes, in words.
fn values(schema: &serde_json::Value, all: &serde_json::Value) -> String {
    let schema = resolved(schema, all);
    let one = |v: &serde_json::Value| v.as_str().map(|s| format!("`{s}`"));
    let list = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    if !list("enum").is_empty() {
        return list("enum").iter().filter_map(one).collect::<Vec<_>>().join(", ");
    }
    let branches: Vec<_> = list("anyOf").into_iter().chain(list("oneOf")).filter(|b| b["type"] != "null").collect();
    if !branches.is_empty() {
        return branches.iter().map(|b| one(&b["const"]).unwrap_or_else(|| values(b, all))).collect::<Vec<_>>().join(", ");
    }
    if let Some(c) = one(&schema["const"]) {
        return c;
    }
    let mut types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    types.retain(|t| t != "null");
    let text = types.iter().any(|t| t == "string");
    if text && schema["pattern"] == "\\$\\{" {
        // A variable, in the place of what is meant.
        types.retain(|t| t != "string");
    } else if text && types.iter().any(|t| t == "boolean") {
        // Any word is a text.
        types.retain(|t| t != "number" && t != "boolean");
    }
    let word = |t: &serde_json::Value| match t.as_str() {
        Some("object") => Some("map"),
        Some("array") => Some("list"),
        Some("integer" | "number") => Some("number"),
        Some("boolean") => Some("true or false"),
        Some("string") => Some("text"),
        _ => None,
    };
    match schema["format"].as_str() {
        Some(f @ ("duration" | "size" | "path" | "secret" | "field")) => f.to_string(),
        _ if types.len() > 2 || types == [serde_json::Value::Null] => "see the part".into(),
        _ => types.iter().filter_map(word).collect::<Vec<_>>().join(" or "),
    }
}

fn resolved<'a>(schema: &'a serde_json::Value, all: &'a serde_json::Value) -> &'a serde_json::Value {
    schema["$ref"].as_str().and_then(|r| all.pointer(r.trim_start_matches('#'))).unwrap_or(schema)
}

/// A block's keys as a list; blocks within it follow as sections of their own.
fn block_page(out: &mut String, name: &str, schema: &serde_json::Value, all: &serde_json::Value) {
    const ELSEWHERE: [&str; 11] = [
        "#/$defs/run_env",
        "#/$defs/store",
        "#/$defs/source",
        "#/$defs/operator",
        "#/$defs/sink",
        "#/$defs/guard",
        "#/$defs/test",
        "#/$defs/watermark",
        "#/$defs/fragment",
        "#/$defs/defaults",
        "#/$defs/use",
    ];
    let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let _ = writeln!(out, "\n## {name}\n{}", if about.is_empty() { String::new() } else { format!("\n{about}\n") });
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(|r| r.as_str()).collect();
    let mut below = vec![];
    for (key, value) in schema["properties"].as_object().into_iter().flatten().filter(|(k, _)| *k != "timeCharacteristic") {
        let target = value["anyOf"].as_array().and_then(|b| b.iter().find(|b| b["type"] != "null")).unwrap_or(value);
        let elsewhere = target["$ref"].as_str().is_some_and(|r| ELSEWHERE.contains(&r));
        let target = resolved(target, all);
        let about = value["description"].as_str().or(target["description"].as_str()).unwrap_or_default().replace('\n', " ");
        let need = if required.contains(&key.as_str()) { ", required" } else { "" };
        let text = format!("- `{key}` ({}{need}): {about}", values(value, all));
        let _ = writeln!(out, "{}", text.trim_end_matches([' ', ':']));
        for b in resolved(value, all)["oneOf"].as_array().into_iter().flatten().filter(|b| b["const"].is_string()) {
            let _ = writeln!(out, "  - `{}`: {}", b["const"].as_str().unwrap_or_default(), b["description"].as_str().unwrap_or_default());
        }
        if target["properties"].is_object() && !elsewhere {
            below.push((format!("{name}.{key}"), target));
        }
    }
    for (name, schema) in below {
        block_page(out, &name, schema, all);
    }
}

/// Pages of the reference by their path below `docs/src/reference`.
fn reference() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let list = told(&["list"]);
    let (mut kind, mut parts, mut rest) = ("", BTreeMap::<&str, Vec<&str>>::new(), BTreeMap::<&str, Vec<&str>>::new());
    for line in list.lines().filter(|l| !l.is_empty()) {
        let Some(entry) = line.strip_prefix("  ") else {
            kind = line.trim_end_matches(':');
            continue;
        };
        let name = entry.split_whitespace().next().expect("a name");
        if ["functions", "helpers"].contains(&kind) {
            rest.entry(kind).or_default().push(name);
        } else {
            parts.entry(name).or_default().push(kind);
        }
    }
    let mut index = String::from("# Parts\n\nWhat `millrace explain PART` prints, as pages.\n");
    for kind in ["sources", "operators", "sinks", "stores"] {
        let _ = writeln!(index, "\n## {}{}\n", kind[..1].to_uppercase(), &kind[1..]);
        for name in parts.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(n, _)| n) {
            let _ = writeln!(index, "- [{name}](parts/{name}.md)");
        }
    }
    all.insert("parts.md".into(), index);
    for name in parts.keys() {
        all.insert(format!("parts/{name}.md"), told(&["explain", name]));
    }
    for (kind, page, title, about) in [
        (
            "functions",
            "functions.md",
            "Functions",
            "Functions of expressions (`where:`, `set:`, `expr:`, `aggregates:`). `millrace explain NAME` prints one.",
        ),
        ("helpers", "helpers.md", "Helpers", "Helpers of templates (`{{helper field}}`). `millrace explain NAME` prints one."),
    ] {
        let word = if kind == "functions" { " (function of expressions)" } else { " (helper of templates)" };
        let mut out = format!("# {title}\n\n{about}\n");
        for name in &rest[kind] {
            let told = told(&["explain", name]);
            let start = told.find(&format!("{name}{word}")).expect("its page");
            let section =
                told[start..].lines().skip(1).take_while(|l| !l.ends_with("(helper of templates)") && !l.ends_with("(told by lint)"));
            let _ = write!(out, "\n## `{name}`\n{}\n", section.collect::<Vec<_>>().join("\n").trim_end());
        }
        all.insert(page.into(), out);
    }
    let mut out = String::from("# Problems\n\nWhat `millrace lint` can tell, by id. `millrace explain ID` prints one.\n");
    for p in millrace_plan::ids::PAGES {
        let _ = write!(out, "\n## `{}`\n\n{}\n\nWhy: {}\n\nFix: {}\n", p.id, p.what, p.why, p.fix);
        if let Some((bad, good)) = p.example() {
            let signed = |text: &str, sign: char| text.lines().map(|l| format!("{sign} {l}\n")).collect::<String>();
            let _ = write!(out, "\n```diff\n{}{}```\n", signed(&bad, '-'), signed(&good, '+'));
        }
    }
    all.insert("problems.md".into(), out);
    let schema: serde_json::Value = serde_json::from_str(&told(&["schema"])).expect("JSON");
    let mut out = String::from(
        "# Keys of a topology\n\nMade from `millrace schema`. The keys of `config` are on the pages of the [parts](parts.md).\n",
    );
    block_page(&mut out, "Topology", &schema, &schema);
    let stream = &schema["properties"]["streams"]["additionalProperties"]["else"];
    block_page(&mut out, "streams.NAME", stream, &schema);
    for (title, name) in [
        ("Source", "source"),
        ("watermark", "watermark"),
        ("Operator (`operates`, `transforms`)", "operator"),
        ("Sink", "sink"),
        ("stores.NAME", "store"),
        ("run_env", "run_env"),
        ("defaults", "defaults"),
        ("fragments.NAME", "fragment"),
        ("Use of a fragment", "use"),
        ("Guard", "guard"),
        ("Test", "test"),
    ] {
        block_page(&mut out, title, &schema["$defs"][name], &schema);
    }
    all.insert("topology.md".into(), out);
    all
}

/// The table of contents with the parts' pages below the line of their index.
fn summary(old: &str, pages: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for line in old.lines().filter(|l| !l.contains("(reference/parts/")) {
        let _ = writeln!(out, "{line}");
        if line.contains("(reference/parts.md)") {
            for name in pages.keys().filter_map(|p| p.strip_prefix("parts/")?.strip_suffix(".md")) {
                let _ = writeln!(out, "  - [{name}](reference/parts/{name}.md)");
            }
        }
    }
    out
}

/// The reference is what the registry says. `UPDATE_GOLDEN=1` writes it.
#[test]
fn reference_is_current() {
    let folder = root().join("docs/src/reference");
    let want = reference();
    let contents = root().join("docs/src/SUMMARY.md");
    let old = std::fs::read_to_string(&contents).expect("the table of contents");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&contents, summary(&old, &want)).expect("the table of contents");
        let _ = std::fs::remove_dir_all(&folder);
        for (name, page) in &want {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, page).expect("a page");
        }
    }
    let listed = std::fs::read_to_string(&contents).expect("the table of contents");
    assert!(listed == summary(&listed, &want), "docs/src/SUMMARY.md does not have all parts: run the tests once with UPDATE_GOLDEN=1");
    let below = "docs/src/reference/";
    let have: BTreeMap<String, String> = pages().into_iter().filter_map(|(n, p)| Some((n.strip_prefix(below)?.to_string(), p))).collect();
    let stale: Vec<_> = want.iter().filter(|(n, p)| have.get(*n) != Some(p)).map(|(n, _)| n).collect();
    let dead: Vec<_> = have.keys().filter(|n| !want.contains_key(*n)).collect();
    assert!(stale.is_empty() && dead.is_empty(), "run the tests once with UPDATE_GOLDEN=1: {stale:?} are stale, {dead:?} have no part");
}
