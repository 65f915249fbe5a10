//! `millrace fmt`: the one way to write a topology.

use crate::cli::FmtArgs;
use crate::exit::Exit;
use crate::lint::{collect, replace};
use crate::pages::print;
use millrace_plan::{diagnostic, fix, fmt};
use std::io::{IsTerminal, Read};

/// Topologies, and what they include.
const KEYS: &[&str] = &["streams:", "fragments:", "defaults:"];

pub fn fmt(args: &FmtArgs) -> Exit {
    let mut files = Vec::new();
    for f in &args.files {
        if f.is_dir() { collect(f, KEYS, &mut files) } else { files.push(f.clone()) }
    }
    files.dedup();
    let (mut exit, mut changed, mut out) = (Exit::Ok, 0, String::new());
    for file in files {
        let stdin = file.as_os_str() == "-";
        let name = if stdin { "<stdin>".to_string() } else { file.display().to_string() };
        let mut old = String::new();
        let read = match stdin {
            true => std::io::stdin().read_to_string(&mut old).map(drop),
            false => std::fs::read_to_string(&file).map(|text| old = text),
        };
        if let Err(e) = read {
            eprintln!("error: cannot read `{name}`: {e}");
            exit = Exit::Dependency;
            continue;
        }
        let new = match fmt::format(&name, &old) {
            Ok(new) => new,
            Err(problems) => {
                eprint!("{}", diagnostic::full(&problems, std::io::stderr().is_terminal()));
                exit = Exit::Config;
                continue;
            }
        };
        let same = new == old;
        changed += usize::from(!same);
        if args.diff {
            out.push_str(&fix::diff(&name, &old, &new));
        } else if args.check {
            out.push_str(&if same { String::new() } else { format!("{name}\n") });
        } else if stdin {
            out.push_str(&new);
        } else if !same {
            if let Err(e) = replace(&file, &new) {
                eprintln!("error: cannot write `{name}`: {e}");
                exit = Exit::Dependency;
                continue;
            }
            eprintln!("{name}: formatted");
        }
    }
    print(&out);
    if exit == Exit::Ok && changed > 0 && (args.check || args.diff) { Exit::Config } else { exit }
}
