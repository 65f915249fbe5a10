//! Texts near those of the corpus: lint always answers, and what it accepts can be planned. A fixed number of seeded mutations;
//! `MILLRACE_FUZZ=N` (`make fuzz`) makes it N times as many.

use super::corpus::{cases, pages};
use super::*;
use millrace_plan::Options;

/// Mutations a seed text.
const ROUNDS: usize = 60;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

const BITS: &[&str] = &[
    "\t",
    "\n",
    "  ",
    ": ",
    "- ",
    "{{",
    "}}",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "#",
    " # ",
    "&a",
    "*a",
    "|",
    ">",
    "!x",
    "${",
    "}",
    "é",
    "\u{0}",
    "\\",
    "? ",
    "---\n",
    "<<",
    "null",
    "1e9",
    "08",
    "no",
    "\r\n",
    "type",
    "config",
    "input",
    "99999999999999999999",
    "-1",
    "0s",
    "${X:-1}",
    "lint: allow(syntax)",
];

const KEYS: &[&str] = &[
    "type",
    "config",
    "name",
    "input",
    "left",
    "right",
    "retry",
    "fields",
    "keys",
    "where",
    "set",
    "drop",
    "keep",
    "format",
    "path",
    "topics",
    "ports",
    "count",
    "timeout",
    "aggregates",
    "store",
    "fallback",
    "within",
    "watermark",
    "source",
    "operates",
    "expect",
    "fragment",
    "with",
];
const TYPES: &[&str] = &[
    "File",
    "Inline",
    "Kafka",
    "Stdin",
    "Generator",
    "Stdout",
    "Null",
    "Redis",
    "HBase",
    "ClickHouse",
    "Embedded",
    "Filter",
    "Map",
    "KeyBy",
    "Dedup",
    "Lookup",
    "Union",
    "Requeue",
    "SplitStream",
    "SelectStream",
    "SelectElement",
    "SplitElement",
    "StringToMap",
    "TemplateExtract",
    "CountWindowWithTimeOut",
    "IntervalLeftJoin",
    "Fliter",
    "string",
    "bigint",
    "double",
    "boolean",
    "timestamp",
    "array",
    "map",
    "any",
    "\"decimal(10,2)\"",
    "decimal(99)",
    "strng",
];
const VALUES: &[&str] = &[
    "[]",
    "{}",
    "5",
    "\"5\"",
    "true",
    "yes",
    "~",
    "-1s",
    "10",
    "1e9",
    "[a, b]",
    "{a: b}",
    "[[a]]",
    "''",
    "\"{{a}}\"",
    "a + ",
    "${X}",
    "1 = 1",
    "64MiB",
    "epoch_ms",
    "a.b",
    "in.errors",
    "\"$.a[\"",
    "%{a}",
    "null",
];

/// Another word at the place of one that follows or precedes a colon.
fn replace_at_colon(line: &str, random: &mut Random, key: bool, with: &str) -> Option<String> {
    let colons: Vec<usize> = line.match_indices(": ").map(|(i, _)| i).collect();
    let at = *colons.get(random.below(colons.len()))?;
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let (start, end) = match key {
        true => (line[..at].rfind(|c| !word(c)).map_or(0, |i| i + line[i..].chars().next().map_or(1, char::len_utf8)), at),
        false => (at + 2, line[at + 2..].find([',', '}', ']']).map_or(line.len(), |i| at + 2 + i)),
    };
    Some(format!("{}{with}{}", &line[..start], &line[end..]))
}

/// One change: of characters, of lines, of keys, types and values.
fn mutate(text: &str, random: &mut Random) -> String {
    // The word of one place may stand at another; a text of which nothing is left has none.
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return text.to_string();
    }
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let line = random.below(lines.len());
    let other = random.below(lines.len());
    match random.below(13) {
        0 => drop(lines.remove(line)),
        1 => lines.insert(line, lines[other].clone()),
        2 => lines.swap(line, other),
        3 => lines[line].insert_str(0, BITS[random.below(3)]),
        4 => lines[line] = lines[line].strip_prefix(' ').unwrap_or(&lines[line]).to_string(),
        5 => {
            let (from, to) = (words[random.below(words.len())].to_string(), words[random.below(words.len())].to_string());
            let at = text.match_indices(&from).nth(random.below(4)).map(|(i, _)| i);
            return at.map_or_else(|| text.to_string(), |i| format!("{}{to}{}", &text[..i], &text[i + from.len()..]));
        }
        6 => lines.truncate(line + 1),
        n @ 8..=11 => {
            let (key, words) = [(true, KEYS), (false, TYPES), (false, VALUES), (true, TYPES)][n - 8];
            let with = words[random.below(words.len())];
            if let Some(new) = replace_at_colon(&lines[line], random, key, with) {
                lines[line] = new;
            }
        }
        7 => {
            let cut: Vec<char> = lines[line].chars().collect();
            let gone = random.below(cut.len());
            lines[line] = cut.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, c)| *c).collect();
        }
        _ => {
            let at = lines[line].char_indices().map(|(i, _)| i).nth(random.below(lines[line].chars().count())).unwrap_or(0);
            lines[line].insert_str(at, BITS[random.below(BITS.len())]);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn lint_always_answers() {
    let times = std::env::var("MILLRACE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
    let seeds: Vec<String> = pages().iter().flat_map(|p| cases(&std::fs::read_to_string(p).expect("page"))).map(|c| c.text).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |t: usize| {
        for (n, seed) in seeds.iter().enumerate().filter(|(n, _)| n % threads == t) {
            let mut random = Random(7 + n as u64);
            let options = Options { style: n % 3 == 0, ..Options::default() };
            for _ in 0..ROUNDS * times {
                let mut text = seed.clone();
                for _ in 0..1 + random.below(4) {
                    text = mutate(&text, &mut random);
                }
                let answer = std::panic::catch_unwind(|| millrace_plan::load_text("job.yaml", &text, Path::new("."), &options));
                let planned = answer.unwrap_or_else(|_| panic!("lint panicked at\n{text}"));
                assert!(planned.plan.is_some() != planned.has_errors(), "neither a plan nor an error:\n{text}");
                assert!(planned.diagnostics.iter().all(|d| d.id != "bug"), "a bug was told:\n{text}");
                millrace_plan::diagnostic::full(&planned.diagnostics, false);
            }
        }
    };
    std::thread::scope(|s| {
        (0..threads).map(|t| s.spawn(move || work(t))).collect::<Vec<_>>().into_iter().for_each(|t| t.join().expect("no panic"))
    });
}

/// What lint accepts, `run --dry-run` builds; what it refuses, `run` refuses.
#[test]
fn lint_and_run_agree() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let page = pages().into_iter().find(|p| p.ends_with("syntax.md")).expect("page");
    let all = cases(&std::fs::read_to_string(page).expect("page"));
    let mut random = Random(11);
    for n in 0..40 {
        let seed = &all[random.below(all.len())].text;
        let text = if n % 2 == 0 { seed.clone() } else { mutate(seed, &mut random) };
        let planned = millrace_plan::load_text("t.yaml", &text, tmp.path(), &Options::default());
        let refused = planned.has_errors();
        let o = run(&write(tmp.path(), "t.yaml", &text), tmp.path(), &["--dry-run"]);
        // 3: a file that a mutation names is not there.
        let fits = if refused { o.status.code() == Some(1) } else { matches!(o.status.code(), Some(0 | 3)) };
        assert!(fits, "refused: {refused}\n{text}\n{}", said(&o));
        for d in planned.diagnostics.iter().filter(|d| d.severity == millrace_sdk::Severity::Error) {
            assert!(said(&o).contains(&d.message), "run does not say: {}\n{text}\n{}", d.message, said(&o));
        }
    }
}
