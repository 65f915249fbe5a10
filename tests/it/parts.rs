//! The registry: every part is linked, has a page, and its page's example does what the page shows.

use super::*;
use millrace_connectors as _;
use millrace_operators as _;
use millrace_sdk::{Kind, Part};

/// Names that must be there: `inventory` finds nothing of a crate that nobody links.
#[test]
fn all_parts_are_linked() {
    let names = |kind| Part::all().into_iter().filter(|p| p.kind() == kind).map(|p| p.name).collect::<Vec<_>>();
    assert_eq!(names(Kind::Source), ["File", "Generator", "Inline", "Kafka", "Stdin"]);
    assert_eq!(
        names(Kind::Operator),
        [
            "CountWindowWithTimeOut",
            "Dedup",
            "Filter",
            "IntervalLeftJoin",
            "KeyBy",
            "Lookup",
            "Map",
            "Requeue",
            "SelectElement",
            "SelectStream",
            "SplitElement",
            "SplitStream",
            "StringToMap",
            "TemplateExtract",
            "Union"
        ]
    );
    assert_eq!(names(Kind::Sink), ["ClickHouse", "Embedded", "File", "HBase", "Kafka", "Null", "Redis", "Stdout"]);
    assert_eq!(names(Kind::Store), ["Embedded", "HBase", "Redis"]);
    for (kind, alias, name) in
        [(Kind::Source, "Kafka011", "Kafka"), (Kind::Sink, "Kafka011", "Kafka"), (Kind::Operator, "Logwash", "TemplateExtract")]
    {
        assert_eq!(Part::find(kind, alias).map(|p| p.name), Some(name));
    }
}

#[test]
fn list_and_explain_know_every_part() {
    let list = millrace().arg("list").output().expect("runs");
    assert!(list.status.success(), "{}", said(&list));
    let list = text(&list.stdout);
    for part in Part::all() {
        assert!(list.contains(part.name), "list does not name {}", part.name);
        let page = millrace().args(["explain", part.name]).output().expect("runs");
        assert!(page.status.success(), "{}", said(&page));
        assert!(text(&page.stdout).contains(part.name), "{}: {}", part.name, said(&page));
        assert!(part.page().lines().count() >= 3, "{} has no page", part.name);
    }
}

/// The `n`-th fenced block of a language in a page.
fn block<'a>(page: &'a str, lang: &str) -> Option<&'a str> {
    let start = page.find(&format!("```{lang}\n"))? + lang.len() + 4;
    let end = page[start..].find("```")?;
    Some(&page[start..start + end])
}

/// Every part's example lints, runs, and prints the rows that its page shows. Examples that name servers run in tests/e2e.
#[test]
fn examples_do_what_they_show() {
    let mut failed = vec![];
    for part in Part::all() {
        let page = part.page();
        let Some(yaml) = block(&page, "yaml") else {
            failed.push(format!("{} {}: no example", part.kind().name(), part.name));
            continue;
        };
        let tmp = tempfile::tempdir().expect("tempdir");
        let file = write(tmp.path(), "topology.yaml", yaml);
        let env = [
            ("BROKERS", "127.0.0.1:9092"),
            ("HBASE", "127.0.0.1:9090"),
            ("REDIS", "redis://127.0.0.1:6379"),
            ("CLICKHOUSE", "http://127.0.0.1:8123"),
        ];
        let lint = millrace().arg("lint").arg(&file).envs(env).current_dir(tmp.path()).output().expect("runs");
        if !lint.status.success() {
            failed.push(format!("{}: {}", part.name, said(&lint)));
            continue;
        }
        let Some(json) = block(&page[page.find(yaml).expect("it is there") + yaml.len()..], "json") else {
            failed.push(format!("{}: the example shows no output", part.name));
            continue;
        };
        if env.iter().any(|(name, _)| yaml.contains(&format!("${{{name}"))) {
            continue;
        }
        let o = millrace()
            .arg("run")
            .arg(&file)
            .arg("--quiet")
            .current_dir(tmp.path())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("runs");
        if !o.status.success() || text(&o.stdout).trim_end() != json.trim_end() {
            failed.push(format!("{}: shown\n{json}\nbut {}", part.name, said(&o)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n----\n"));
}

/// The committed JSON Schema is what the registry says. `UPDATE_GOLDEN=1` writes it.
#[test]
fn schema_file_is_current() {
    let o = millrace().arg("schema").output().expect("runs");
    assert!(o.status.success(), "{}", said(&o));
    let file = root().join("schemas/topology.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(root().join("schemas")).expect("schemas");
        std::fs::write(&file, &o.stdout).expect("schema file");
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(want == text(&o.stdout), "{} is stale: run the tests once with UPDATE_GOLDEN=1", file.display());
}

/// The table of docs/src/operating/guarantees.md names every sink and what its page says.
#[test]
fn every_sink_says_what_it_promises() {
    let table = std::fs::read_to_string(root().join("docs/src/operating/guarantees.md")).expect("there");
    for sink in Part::all().into_iter().filter(|p| p.kind() == Kind::Sink) {
        let row = table.lines().find(|l| l.starts_with(&format!("| {} |", sink.name)));
        let row = row.unwrap_or_else(|| panic!("`{}` is not in docs/src/operating/guarantees.md", sink.name));
        let o = millrace().args(["explain", sink.name]).output().expect("runs");
        let page = text(&o.stdout).to_lowercase();
        assert_eq!(
            page.contains("exactly once in a job") || page.contains("exactly once for readers"),
            row.contains("exactly once"),
            "{row}\n{page}"
        );
    }
}
