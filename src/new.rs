//! `millrace new`: a folder with a job, from a template that the executable carries.

use crate::cli::NewArgs;
use crate::exit::Exit;
use crate::pages::print;
use millrace_sdk::problem::did_you_mean;
use std::io::Write;
use std::path::Path;

/// A template's files, by their path in the job's folder. `NAME` in its topology stands for the job's name.
struct Template {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! template {
    ($name:literal, $($file:literal),+) => {
        Template {
            name: $name,
            files: &[$(($file, include_str!(concat!("../templates/", $name, "/", $file)))),+],
        }
    };
}

const TEMPLATES: &[Template] = &[
    template!("wash", "topology.yaml", "input/events.jsonl"),
    template!("join", "topology.yaml", "input/clicks.jsonl", "input/impressions.jsonl"),
    template!("dedup", "topology.yaml", "input/orders.jsonl"),
    template!("count", "topology.yaml", "input/events.jsonl"),
    template!("enrich", "topology.yaml", "input/visits.jsonl", "input/users.csv"),
    template!("store-fill", "topology.yaml", "input/users.jsonl"),
    template!("file-to-kafka", "topology.yaml", "input/app.log"),
    template!("kafka-to-kafka", "topology.yaml", "input/orders.jsonl"),
];

pub fn new(args: &NewArgs) -> Exit {
    if args.list {
        let about = |t: &Template| t.files[0].1.lines().next().unwrap_or_default().trim_start_matches("# ").to_string();
        return print(&TEMPLATES.iter().map(|t| format!("{:16}{}\n", t.name, about(t))).collect::<String>());
    }
    let Some(template) = TEMPLATES.iter().find(|t| t.name == args.from) else {
        let near = did_you_mean(&args.from, TEMPLATES.iter().map(|t| t.name));
        eprintln!("error: no template is called `{}`{}", args.from, near.map_or(String::new(), |n| format!(", did you mean `{n}`?")));
        eprintln!("  Hint: `millrace new --list` names them");
        return Exit::Usage;
    };
    let folder = Path::new(args.name.as_deref().unwrap_or(template.name));
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if !good {
        eprintln!("error: `{name}` cannot be a job's name");
        eprintln!("  Hint: a name begins with a letter and has letters, digits, `_` and `-`");
        return Exit::Usage;
    }
    match make(template, folder, name) {
        Ok(()) => {
            let file = folder.join("topology.yaml");
            let file = file.display();
            print(&format!("made {file}\n\n    millrace test {file}\n    millrace run {file}\n"))
        }
        Err(e) => {
            eprintln!("error: `{}` cannot be made: {e}", folder.display());
            Exit::Dependency
        }
    }
}

/// Nothing that is there is written over.
fn make(template: &Template, folder: &Path, name: &str) -> std::io::Result<()> {
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(std::io::Error::other("the folder is there, and has files"));
    }
    for (file, text) in template.files {
        let path = folder.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let text = if *file == "topology.yaml" { text.replace("NAME", name) } else { text.to_string() };
        std::fs::File::create_new(&path)?.write_all(text.as_bytes())?;
    }
    Ok(())
}
