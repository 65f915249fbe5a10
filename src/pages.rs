//! `list`, `explain`, `schema`, `graph`: what the registry and the planner know, printed.

use crate::cli::{GraphFormat, Listed, Set};
use crate::exit::Exit;
use crate::lint::options;
use millrace_sdk::{Kind, Part, Severity};
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// Prints, and does not mind a reader that has gone (`| head`).
pub fn print(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Exit::Ok
}

/// The first sentence of a page, markdown taken away.
fn first_line(page: &str) -> String {
    page.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#')).unwrap_or_default().trim().replace('`', "")
}

struct Entry {
    kind: &'static str,
    name: String,
    aliases: Vec<String>,
    about: String,
}

fn entries(what: Option<Listed>) -> Vec<Entry> {
    let mut all = Vec::new();
    for part in Part::all() {
        let listed = match part.kind() {
            Kind::Source => Listed::Sources,
            Kind::Operator => Listed::Operators,
            Kind::Sink => Listed::Sinks,
            Kind::Store => Listed::Stores,
        };
        if what.is_none_or(|w| w == listed) {
            all.push(Entry {
                kind: part.kind().name(),
                name: part.name.into(),
                aliases: part.aliases.iter().map(|a| a.to_string()).collect(),
                about: first_line(&part.page()),
            });
        }
    }
    if what.is_none_or(|w| w == Listed::Functions) {
        for f in millrace_expr::functions() {
            all.push(Entry {
                kind: "function",
                name: f.name.into(),
                aliases: f.aliases.iter().map(|a| a.to_string()).collect(),
                about: f.doc.into(),
            });
        }
    }
    if what.is_none_or(|w| w == Listed::Helpers) {
        for h in millrace_expr::template::helpers() {
            all.push(Entry {
                kind: "helper",
                name: h.name.into(),
                aliases: h.aliases.iter().map(|a| a.to_string()).collect(),
                about: h.doc.into(),
            });
        }
    }
    all
}

pub fn list(what: Option<Listed>, as_json: bool) -> Exit {
    let all = entries(what);
    if as_json {
        let rows: Vec<_> = all.iter().map(|e| json!({"kind": e.kind, "name": e.name, "aliases": e.aliases, "about": e.about})).collect();
        return print(&(serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n"));
    }
    let width = all.iter().map(|e| e.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut kind = "";
    for e in &all {
        if e.kind != kind {
            kind = e.kind;
            text.push_str(&format!("{}{}s:\n", if text.is_empty() { "" } else { "\n" }, kind));
        }
        let also = if e.aliases.is_empty() { String::new() } else { format!(" (also {})", e.aliases.join(", ")) };
        text.push_str(&format!("  {:width$}  {}{}\n", e.name, e.about, also));
    }
    print(&text)
}

pub fn explain(name: &str) -> Exit {
    let parts: Vec<_> = Part::all().into_iter().filter(|p| p.name == name || p.aliases.contains(&name)).collect();
    let mut pages: Vec<String> = parts.into_iter().map(millrace_plan::explain).collect();
    if let Some(f) = millrace_expr::functions()
        .into_iter()
        .find(|f| f.name.eq_ignore_ascii_case(name) || f.aliases.iter().any(|a| a.eq_ignore_ascii_case(name)))
    {
        pages.push(format!("{} (function of expressions)\n\n    {}\n\n{}\n\n    {}\n", f.name, f.signature, f.doc, f.example));
    }
    if let Some(h) = millrace_expr::template::helpers().into_iter().find(|h| h.name == name || h.aliases.contains(&name)) {
        let examples: String = h.examples.iter().map(|e| format!("    {}  over  {}  gives  {}\n", e.0, e.1, e.2)).collect();
        pages.push(format!("{} (helper of templates)\n\n    {}\n\n{}\n\n{examples}", h.name, h.signature, h.doc));
    }
    pages.extend(millrace_plan::ids::page(name).map(|p| p.text()));
    if pages.is_empty() {
        pages.extend(millrace_plan::explain_section(name));
    }
    if pages.is_empty() {
        let names = entries(None);
        let pages = millrace_plan::ids::PAGES.iter().map(|p| p.id).chain(millrace_plan::sections());
        let mut known: Vec<&str> = names.iter().map(|e| e.name.as_str()).collect();
        pages.for_each(|id| known.push(id));
        let near = millrace_sdk::problem::did_you_mean(name, known);
        eprintln!("error: nothing is called `{name}`{}", near.map_or(String::new(), |n| format!(", did you mean `{n}`?")));
        eprintln!("  Hint: `millrace list` names everything");
        return Exit::Usage;
    }
    print(&pages.join("\n"))
}

/// One page for the executable and all its subcommands.
pub fn man(mut command: clap::Command) -> Exit {
    command.build();
    let mut out = Vec::new();
    let mut render = || -> std::io::Result<()> {
        clap_mangen::Man::new(command.clone()).render(&mut out)?;
        for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
            let page = clap_mangen::Man::new(sub.clone());
            writeln!(out, ".SH \"{}\"", format!("millrace {}", sub.get_name()).to_uppercase())?;
            writeln!(out, "{}", sub.get_about().map(ToString::to_string).unwrap_or_default())?;
            page.render_synopsis_section(&mut out)?;
            page.render_options_section(&mut out)?;
        }
        Ok(())
    };
    match render() {
        Ok(()) => print(&String::from_utf8_lossy(&out)),
        Err(_) => Exit::Bug,
    }
}

pub fn schema() -> Exit {
    print(&(serde_json::to_string_pretty(&millrace_plan::json_schema()).unwrap_or_default() + "\n"))
}

pub fn graph(file: &Path, format: GraphFormat, set: &Set) -> Exit {
    let planned = millrace_plan::load(file, &options(set));
    if planned.has_errors() {
        let errors: Vec<_> = planned.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
        eprint!("{}", millrace_plan::diagnostic::full(&errors, false));
        return Exit::Config;
    }
    let drawing = match format {
        GraphFormat::Terminal => planned.graph.terminal(),
        GraphFormat::Svg => planned.graph.svg(),
        GraphFormat::Mermaid => planned.graph.mermaid(),
        GraphFormat::Dot => planned.graph.dot(),
    };
    print(&format!("{}\n", drawing.trim_end()))
}
