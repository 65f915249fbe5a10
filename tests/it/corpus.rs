//! `plan/corpus`: broken topologies and what lint says of them, word by word; right ones, of which it says nothing. A case is a base
//! with lines replaced. `UPDATE_GOLDEN=1` writes what lint says; then every line of the change must be read with a critical eye.

use super::root;
use millrace_plan::{Diagnostic, Options, diagnostic, fix};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

pub struct Case {
    pub title: String,
    pub text: String,
    /// Lines that differ from the base, from 1.
    pub changed: BTreeSet<usize>,
}

impl Case {
    pub fn right(&self) -> bool {
        self.title.starts_with("right: ")
    }

    fn lint(&self, text: &str) -> Vec<Diagnostic> {
        let options = Options { style: self.title.contains("(style)"), ..Options::default() };
        millrace_plan::load_text("job.yaml", text, &root().join("plan/corpus"), &options).diagnostics
    }
}

/// The blocks of a page: headings, and fenced texts with their language.
enum Piece<'a> {
    Heading(&'a str),
    Block(&'a str, String),
}

fn pieces(page: &str) -> Vec<Piece<'_>> {
    let mut out = vec![];
    let mut lines = page.lines();
    while let Some(l) = lines.next() {
        if let Some(lang) = l.strip_prefix("```") {
            let body: String = lines.by_ref().take_while(|l| *l != "```").map(|l| format!("{l}\n")).collect();
            out.push(Piece::Block(lang, body));
        } else if l.starts_with('#') {
            out.push(Piece::Heading(l));
        }
    }
    out
}

/// The base with the change in it.
fn changed(base: &str, diff: &str, title: &str) -> (String, BTreeSet<usize>) {
    let old: Vec<&str> = base.lines().collect();
    let diff: Vec<&str> = diff.lines().collect();
    let (mut out, mut lines): (Vec<&str>, BTreeSet<usize>) = (vec![], BTreeSet::new());
    let (mut at, mut i) = (0, 0);
    while i < diff.len() {
        if diff[i] == "@@" {
            i += 1;
            continue;
        }
        let block = |sign: char, from: usize| diff[from..].iter().map_while(|l| l.strip_prefix(sign)).collect::<Vec<_>>();
        let gone = block('-', i);
        let new = block('+', i + gone.len());
        assert!(!gone.is_empty() || !new.is_empty(), "{title}: {} begins with no sign", diff[i]);
        let place = (at..=old.len() - gone.len()).find(|p| old[*p..*p + gone.len()] == gone[..]);
        let place = place.unwrap_or_else(|| panic!("{title}: the base does not have {gone:?}"));
        out.extend(&old[at..place]);
        lines.extend(out.len() + 1..=out.len() + new.len());
        // Where lines were taken out, the line behind is the place.
        if new.is_empty() {
            lines.extend([out.len(), out.len() + 1]);
        }
        out.extend(&new);
        at = place + gone.len();
        i += gone.len() + new.len();
    }
    out.extend(&old[at..]);
    (out.join("\n") + "\n", lines)
}

pub fn pages() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(root().join("plan/corpus")).expect("corpus").map(|e| e.expect("entry").path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "md"));
    all.sort();
    all
}

pub fn cases(page: &str) -> Vec<Case> {
    let (mut base, mut title, mut out) = (String::new(), "", vec![]);
    for piece in pieces(page) {
        match piece {
            Piece::Heading(h) => title = h.trim_start_matches('#').trim(),
            Piece::Block("yaml", body) => {
                out.push(Case { title: format!("right: {title}"), text: body.clone(), changed: BTreeSet::new() });
                base = body;
            }
            Piece::Block("diff", body) => {
                let (text, changed) = changed(&base, &body, title);
                out.push(Case { title: title.into(), text, changed });
            }
            Piece::Block(..) => {}
        }
    }
    out
}

/// The page with what lint says now.
fn renewed(page: &str, said: &[(String, String)]) -> String {
    let (mut out, mut title, mut said) = (String::new(), String::new(), said.iter());
    let mut lines = page.lines();
    while let Some(l) = lines.next() {
        if let Some(lang) = l.strip_prefix("```") {
            let body: String = lines.by_ref().take_while(|l| *l != "```").map(|l| format!("{l}\n")).collect();
            match lang {
                "text" => continue,
                "diff" => {
                    let (t, full) = said.next().expect("a case");
                    assert_eq!(*t, title);
                    out += &format!("\n```diff\n{body}```\n");
                    if !full.is_empty() {
                        out += &format!("\n```text\n{full}```\n");
                    }
                }
                _ => out += &format!("\n```{lang}\n{body}```\n"),
            }
        } else if l.starts_with('#') {
            title = l.trim_start_matches('#').trim().to_string();
            out += &format!("{}{l}\n", if out.is_empty() { "" } else { "\n" });
        } else if !l.is_empty() {
            out += &format!("\n{l}\n");
        }
    }
    out
}

fn trimmed(full: String) -> String {
    let lines: Vec<&str> = full.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

#[test]
pub fn lint_says_of_the_corpus_what_it_said() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut broken, mut right, mut failed) = (0, 0, vec![]);
    for path in pages() {
        let page = fs::read_to_string(&path).expect("page");
        let (mut full, mut json) = (vec![], serde_json::Map::new());
        for c in cases(&page) {
            let found = c.lint(&c.text);
            if c.right() {
                right += 1;
                if !found.is_empty() {
                    failed.push(format!("{}: {}\n{}", path.display(), c.title, diagnostic::full(&found, false)));
                }
            } else {
                broken += 1;
                if found.is_empty() {
                    failed.push(format!("{}: {}: lint finds nothing", path.display(), c.title));
                }
            }
            if !c.changed.is_empty() {
                let text = if found.is_empty() { String::new() } else { trimmed(diagnostic::full(&found, false)) };
                full.push((c.title.clone(), text));
            }
            if !found.is_empty() {
                json.insert(c.title.clone(), serde_json::to_value(&found).expect("JSON"));
            }
        }
        let (new, json) = (renewed(&page, &full), serde_json::to_string_pretty(&json).expect("JSON") + "\n");
        let beside = path.with_extension("json");
        if update {
            fs::write(&path, &new).expect("page");
            fs::write(&beside, &json).expect("json");
        }
        if page != new && !update {
            let line = page.lines().zip(new.lines()).position(|(a, b)| a != b).map_or(0, |i| i + 1);
            failed.push(format!("{}:{line}: lint says something else now (UPDATE_GOLDEN=1 writes it)", path.display()));
        }
        if fs::read_to_string(&beside).unwrap_or_default() != json {
            failed.push(format!("{} differs", beside.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(broken >= 150 && right >= 60, "{broken} broken, {right} right");
}

/// Each problem lies on a line that the case changed, or leads there.
#[test]
pub fn problems_lie_where_the_fault_is() {
    let mut odd = vec![];
    for path in pages() {
        for c in cases(&fs::read_to_string(&path).expect("page")).iter().filter(|c| !c.right()) {
            for d in c.lint(&c.text) {
                // What a part lacks is told at the part, and a fault may show at its readers: these name the place in words.
                let far = [
                    "bad-fragment",
                    "bad-include",
                    "columns-needed",
                    "dangling-input",
                    "field-clash",
                    "missing-key",
                    "missing-parameter",
                    "missing-watermark",
                    "not-repeatable",
                    "nothing-to-do",
                    "operates-on-retry",
                    "retry-without-fallback",
                    "retry-without-time",
                    "store-without-key",
                    "style-no-checkpoint",
                    "style-no-tests",
                    "style-section-order",
                    "unknown-field",
                    "unknown-parameter",
                    "unknown-port",
                    "unread-output",
                    "unused-fragment",
                    "unused-parameter",
                    "unused-store",
                    "useless-key",
                    "useless-keyby",
                    "window-without-key",
                ];
                let near = |line: usize| c.changed.iter().any(|l| l.abs_diff(line) <= 1);
                let here = d.file == "job.yaml";
                if !(here && near(d.line))
                    && !d.second.as_ref().is_some_and(|s| s.file == "job.yaml" && near(s.line))
                    && !far.contains(&d.id.as_str())
                    && d.suggestion.is_none()
                {
                    odd.push(format!("{}: {}: {}:{} {} {}", path.display(), c.title, d.line, d.column, d.id, d.message));
                }
                let lower = !d.message.starts_with(char::is_uppercase);
                assert!(lower || ["YAML", "LIKE"].iter().any(|w| d.message.starts_with(w)), "{}: {}", c.title, d.message);
                assert!(!d.message.ends_with('.'), "{}: {}", c.title, d.message);
                assert!(
                    !here || c.text.lines().nth(d.line - 1).unwrap_or("").chars().count() + 1 >= d.column,
                    "{}: {}",
                    c.title,
                    d.message
                );
                assert!(millrace_plan::ids::page(&d.id).is_some(), "{} has no page", d.id);
            }
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

/// After the fixes the problems that had one are gone, no new one is there, and no other line has changed.
#[test]
pub fn fixes_mend_the_corpus() {
    let mut fixed = 0;
    for path in pages() {
        for c in cases(&fs::read_to_string(&path).expect("page")) {
            let before = c.lint(&c.text);
            let result = fix::apply(&c.text, &before.iter().collect::<Vec<_>>());
            if result.mended.is_empty() {
                continue;
            }
            fixed += 1;
            let after = c.lint(&result.text);
            assert!(
                after.len() + result.mended.len() <= before.len() + 1,
                "{}\n{}\n{}",
                c.title,
                result.text,
                diagnostic::full(&after, false)
            );
            for i in &result.mended {
                let gone = &before[*i];
                let still = after.iter().any(|d| d.id == gone.id && d.message == gone.message && d.line == gone.line);
                assert!(!still, "{}: still {}\n{}", c.title, gone.message, result.text);
            }
            let lines: BTreeSet<usize> = result.mended.iter().flat_map(|i| before[*i].fix.iter().map(|e| e.line)).collect();
            for (n, (a, b)) in c.text.lines().zip(result.text.lines()).enumerate().filter(|(_, (a, b))| a != b) {
                assert!(lines.contains(&(n + 1)), "{}: line {} changed: {a} -> {b}", c.title, n + 1);
            }
        }
    }
    assert!(fixed >= 30, "{fixed} cases have a fix");
}

/// Every problem has a page with an example, and the example is one: a case of the corpus, a row that is refused, or a command.
#[test]
pub fn every_problem_is_shown() {
    use millrace_plan::ids::{PAGES, shown};
    let mut seen = BTreeSet::new();
    for path in pages() {
        for c in cases(&fs::read_to_string(&path).expect("page")) {
            seen.extend(c.lint(&c.text).into_iter().map(|d| d.id));
        }
    }
    let unshown = |id: &str| shown::UNSHOWN.iter().any(|(i, _)| *i == id);
    let elsewhere = |id: &str| shown::ROWS.iter().any(|r| r.id == id) || shown::COMMANDS.iter().any(|c| c.id == id) || unshown(id);
    let missing: Vec<&str> = PAGES.iter().map(|p| p.id).filter(|id| !seen.contains(*id) && !elsewhere(id)).collect();
    assert!(missing.is_empty(), "no case tells {missing:?}");
    let without: Vec<&str> = PAGES.iter().filter(|p| p.example().is_none() != unshown(p.id)).map(|p| p.id).collect();
    assert!(without.is_empty(), "pages without an example, or with one and an excuse: {without:?}");
    for (id, _) in shown::UNSHOWN {
        assert!(PAGES.iter().any(|p| p.id == *id), "{id} has no page");
        assert!(!seen.contains(*id), "a case of the corpus shows {id}");
    }
}

#[test]
pub fn commands_of_the_pages_are_told() {
    let text = "\
streams:
  orders: {config: {source: {type: Kafka, config: {brokers: \"${BROKERS:-kafka:9092}\", topics: [orders], group: g}}}}
sink:
  - {type: Null}
";
    for c in millrace_plan::ids::shown::COMMANDS {
        let told = |args: &str| {
            let (key, value) = args.strip_prefix("--set ").and_then(|a| a.split_once('=')).expect("a setting");
            let options = Options { set: vec![(key.into(), value.into())], ..Options::default() };
            millrace_plan::load_text("job.yaml", text, &root(), &options).diagnostics
        };
        let (bad, good) = (told(c.bad), told(c.good));
        assert!(bad.iter().any(|d| d.id == c.id), "{}: {}", c.bad, diagnostic::full(&bad, false));
        assert!(good.is_empty(), "{}: {}", c.good, diagnostic::full(&good, false));
    }
}

/// Rows of the pages are refused for the reason of the page, and are not by what the page calls good.
#[test]
pub fn rows_of_the_pages_are_refused() {
    use millrace_plan::ids::shown;
    let tmp = tempfile::tempdir().expect("tempdir");
    let mut files = vec![];
    for r in shown::ROWS {
        for (name, field) in [("bad", r.bad), ("good", r.good)] {
            let expect = match name {
                "bad" => format!("{{out: none, dead_letter: [{}]}}", r.id),
                _ => "{out: {count: 1}, dead_letter: none}".into(),
            };
            let text = format!(
                "streams:\n  in:\n    config:\n      source: {{type: Inline, config: {{lines: []}}}}\n      operates:\n        \
                 - {{type: StringToMap, config: {{format: json, fields: {{a: string, b: string, n: bigint}}}}}}\n        - type: TemplateExtract\n          \
                 config:\n            fields:\n              {field}\nsink:\n  - {{type: Null, name: out}}\ntests:\n  - name: {name}\n    \
                 input: {{in: ['{}']}}\n    expect: {expect}\n",
                r.row
            );
            let file = tmp.path().join(format!("{}-{name}.yaml", r.id));
            fs::write(&file, text).expect("written");
            files.push(file);
        }
    }
    let o = super::millrace().arg("test").args(&files).output().expect("runs");
    assert!(o.status.success(), "{}", super::said(&o));
}
