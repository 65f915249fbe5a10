//! `millrace diff`: what has changed between two topologies, and whether the state of the old one survives it.

use crate::cli::DiffArgs;
use crate::exit::Exit;
use crate::lint;
use crate::pages::print;
use millrace_engine::{Fate, fates};
use millrace_plan::graph::{Part, Picture};
use millrace_plan::plan::Plan;
use millrace_plan::{Options, Planned, diagnostic};
use millrace_sdk::Severity;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

/// A value that is not the same: where, what it was, what it is.
type Change = (String, Option<Value>, Option<Value>);

/// A part that is in both topologies and not the same.
struct Changed {
    name: String,
    config: Vec<Change>,
    /// What it reads: before, now.
    inputs: Option<(Vec<String>, Vec<String>)>,
}

#[derive(Default)]
struct Difference {
    /// Keys of `run_env`, `stores`, `guards` and the job's name.
    rest: Vec<Change>,
    added: Vec<(String, String)>,
    removed: Vec<(String, String)>,
    /// Old name, new name.
    renamed: Vec<(String, String)>,
    changed: Vec<Changed>,
    fates: Vec<(String, Fate)>,
}

pub fn diff(args: &DiffArgs) -> Exit {
    let options = Options { placeholders: true, ..lint::options(&args.set) };
    let before = Options { placeholders: true, ..lint::old_options(&args.set) };
    let loaded = read(&args.old, &before).and_then(|old| Ok((old, read(&args.new, &options)?)));
    let ((old, old_plan), (new, new_plan)) = match loaded {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    let d = compare(&old, &new, fates(&old_plan, &new_plan));
    let lost = d.fates.iter().any(|(_, f)| *f != Fate::Survives);
    match args.json {
        true => print(&(serde_json::to_string_pretty(&as_json(&d)).unwrap_or_default() + "\n")),
        false => print(&as_text(&d, std::io::stdout().is_terminal())),
    };
    if lost { Exit::StateLost } else { Exit::Ok }
}

fn read(file: &Path, options: &Options) -> Result<(Picture, Plan), Exit> {
    let Planned { plan, diagnostics, graph, .. } = millrace_plan::load(file, options);
    match plan {
        Some(plan) => Ok((graph, plan)),
        None => {
            let errors: Vec<_> = diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
            eprint!("{}", diagnostic::full(&errors, std::io::stderr().is_terminal()));
            Err(Exit::Config)
        }
    }
}

/// What a part reads, `joined.unmatched -> left` where it has several inputs of their own.
fn inputs(p: &Picture, part: usize) -> Vec<String> {
    let one = |a: &millrace_plan::graph::Arrow| {
        let from = &p.parts[a.from].name;
        match a.label.as_str() {
            "" => from.clone(),
            label if label.contains(" -> ") || !["left", "right", "retry"].contains(&label) => format!("{from}.{label}"),
            side => format!("{from} -> {side}"),
        }
    };
    p.arrows.iter().filter(|a| a.to == part).map(one).collect()
}

fn compare(old: &Picture, new: &Picture, fates: Vec<(String, Fate)>) -> Difference {
    let mut d = Difference { fates, ..Difference::default() };
    changes(&mut d.rest, String::new(), Some(&old.rest), Some(&new.rest));
    let place = |p: &Picture, name: &str| p.parts.iter().position(|x| x.name == name);
    let typed = |p: &Part| (p.name.clone(), p.types.join(" + "));
    let mut gone: Vec<usize> = (0..old.parts.len()).filter(|i| place(new, &old.parts[*i].name).is_none()).collect();
    let mut come: Vec<usize> = (0..new.parts.len()).filter(|i| place(old, &new.parts[*i].name).is_none()).collect();
    // The same words under another name are the same part.
    gone.retain(|&o| {
        let (part, reads) = (&old.parts[o], inputs(old, o));
        let same = |n: &&usize| new.parts[**n].config == part.config && new.parts[**n].shape == part.shape;
        let twin = come.iter().filter(same).max_by_key(|n| inputs(new, **n) == reads).copied();
        if let Some(n) = twin {
            come.retain(|c| *c != n);
            d.renamed.push((part.name.clone(), new.parts[n].name.clone()));
        }
        twin.is_none()
    });
    d.removed = gone.iter().map(|i| typed(&old.parts[*i])).collect();
    d.added = come.iter().map(|i| typed(&new.parts[*i])).collect();
    let names: BTreeMap<&str, &str> = d.renamed.iter().map(|(o, n)| (o.as_str(), n.as_str())).collect();
    for (o, part) in old.parts.iter().enumerate() {
        let name = names.get(part.name.as_str()).copied().unwrap_or(&part.name);
        let Some(n) = place(new, name) else { continue };
        let mut config = vec![];
        changes(&mut config, String::new(), Some(&part.config), Some(&new.parts[n].config));
        let renamed = |input: String| {
            let head = input.split(['.', ' ']).next().unwrap_or_default();
            names.get(head).map_or(input.clone(), |new| format!("{new}{}", &input[head.len()..]))
        };
        let (was, is) = (inputs(old, o).into_iter().map(renamed).collect::<Vec<_>>(), inputs(new, n));
        let rewired = (was != is).then_some((was, is));
        if !config.is_empty() || rewired.is_some() {
            d.changed.push(Changed { name: name.into(), config, inputs: rewired });
        }
    }
    d
}

/// Leaves in which two trees differ. Items of lists go by their number.
fn changes(out: &mut Vec<Change>, path: String, old: Option<&Value>, new: Option<&Value>) {
    let at = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match (old, new) {
        (o, n) if o.filter(|v| !v.is_null()) == n.filter(|v| !v.is_null()) => {}
        (Some(Value::Object(o)), Some(Value::Object(n))) => {
            let keys: BTreeSet<&String> = o.keys().chain(n.keys()).collect();
            keys.into_iter().for_each(|k| changes(out, at(k), o.get(k), n.get(k)));
        }
        (Some(Value::Array(o)), Some(Value::Array(n))) if o.iter().chain(n).any(|v| v.is_object()) => {
            (0..o.len().max(n.len())).for_each(|i| changes(out, at(&i.to_string()), o.get(i), n.get(i)));
        }
        (o, n) => out.push((path, o.cloned(), n.cloned())),
    }
}

fn as_json(d: &Difference) -> Value {
    let change = |c: &Change| json!({"at": c.0, "old": c.1, "new": c.2});
    let part = |p: &(String, String)| json!({"name": p.0, "type": p.1});
    let changed = |c: &Changed| {
        json!({
            "name": c.name,
            "config": c.config.iter().map(change).collect::<Vec<_>>(),
            "inputs": c.inputs.as_ref().map(|(old, new)| json!({"old": old, "new": new})),
        })
    };
    let state = |(name, fate): &(String, Fate)| match fate {
        Fate::Survives => json!({"name": name, "survives": true}),
        Fate::Differs(why) => json!({"name": name, "survives": false, "why": why}),
        Fate::Dropped => json!({"name": name, "survives": false, "why": "the topology no longer has it"}),
    };
    json!({
        "same": same(d),
        "added": d.added.iter().map(part).collect::<Vec<_>>(),
        "removed": d.removed.iter().map(part).collect::<Vec<_>>(),
        "renamed": d.renamed.iter().map(|(o, n)| json!({"old": o, "new": n})).collect::<Vec<_>>(),
        "changed": d.changed.iter().map(changed).collect::<Vec<_>>(),
        "job": d.rest.iter().map(change).collect::<Vec<_>>(),
        "state": d.fates.iter().map(state).collect::<Vec<_>>(),
        "state_survives": d.fates.iter().all(|(_, f)| *f == Fate::Survives),
    })
}

fn same(d: &Difference) -> bool {
    d.rest.is_empty() && d.added.is_empty() && d.removed.is_empty() && d.renamed.is_empty() && d.changed.is_empty()
}

fn as_text(d: &Difference, color: bool) -> String {
    let paint = |code: &str, text: String| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text };
    let mut out = String::new();
    if same(d) {
        out.push_str("nothing has changed\n");
    }
    for (name, types) in &d.removed {
        let _ = writeln!(out, "{}", paint("31", format!("- {name}  [{types}]")));
    }
    for (name, types) in &d.added {
        let _ = writeln!(out, "{}", paint("32", format!("+ {name}  [{types}]")));
    }
    for (old, new) in &d.renamed {
        let _ = writeln!(out, "{}", paint("33", format!("~ {old} is called {new} now")));
    }
    let lines = |out: &mut String, changes: &[Change]| {
        for (at, old, new) in changes {
            let shown = |v: &Option<Value>| v.as_ref().map_or("nothing".into(), Value::to_string);
            let _ = writeln!(out, "    {at}: {} -> {}", paint("31", shown(old)), paint("32", shown(new)));
        }
    };
    for c in &d.changed {
        let _ = writeln!(out, "{}", paint("33", format!("~ {}", c.name)));
        if let Some((old, new)) = &c.inputs {
            let list = |l: &[String]| if l.is_empty() { "nothing".into() } else { l.join(", ") };
            let _ = writeln!(out, "    reads: {} -> {}", paint("31", list(old)), paint("32", list(new)));
        }
        lines(&mut out, &c.config);
    }
    if !d.rest.is_empty() {
        let _ = writeln!(out, "{}", paint("33", "~ the job".into()));
        lines(&mut out, &d.rest);
    }
    let lost: Vec<_> = d.fates.iter().filter(|(_, f)| *f != Fate::Survives).collect();
    let renamed = |name: &str| d.renamed.iter().find(|(o, _)| o == name).map(|(_, n)| n);
    for (name, fate) in &lost {
        let why = match fate {
            Fate::Differs(why) => why.clone(),
            _ => match renamed(name) {
                Some(new) => format!("parts are matched by their names, and it is called `{new}` now"),
                None => "the topology no longer has it".into(),
            },
        };
        let _ = writeln!(out, "{}", paint("1;31", format!("state of `{name}` does not survive: {why}")));
    }
    match (lost.is_empty(), d.fates.len()) {
        (true, 0) => {}
        (true, 1) => out.push_str("the state of the one part that has any survives\n"),
        (true, n) => drop(writeln!(out, "the state of all {n} parts that have any survives")),
        (false, _) => out.push_str("a start from a checkpoint of the old one is refused\n"),
    }
    out
}
