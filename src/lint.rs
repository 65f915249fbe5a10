//! `millrace lint`: the planner's pass, and nothing else.

use crate::cli::{LintArgs, LintFormat, Set};
use crate::exit::Exit;
use crate::pages::print;
use millrace_plan::{Confine, Diagnostic, Options, diagnostic, fix};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rounds of fixes: one may bring another problem to light.
const ROUNDS: usize = 8;

/// Variables of a job that does not see the environment: JSON, names and values.
pub const VARIABLES: &str = "MILLRACE_VARIABLES";
/// Those of the older topology of `millrace diff`, where it has others.
const OLD_VARIABLES: &str = "MILLRACE_OLD_VARIABLES";
/// What such a job may reach: JSON, see [`Confine`].
pub const CONFINE: &str = "MILLRACE_CONFINE";

/// What the command line says, and a console by the environment. What cannot be read of that allows nothing.
pub fn options(set: &Set) -> Options {
    let include_from = set.include_from.clone();
    let confine = of::<Confine>(CONFINE);
    if let Some(confine) = &confine {
        millrace_connectors::reach::limit(&confine.folders);
    }
    Options { set: set.set.clone(), include_from, variables: of(VARIABLES), confine, ..Options::default() }
}

fn of<T: Default + serde::de::DeserializeOwned>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| serde_json::from_str(&text).unwrap_or_default())
}

/// As [`options`], for what a topology was before.
pub fn old_options(set: &Set) -> Options {
    let now = options(set);
    Options { variables: of(OLD_VARIABLES).or(now.variables.clone()), ..now }
}

/// A text to check.
enum Input {
    File(PathBuf),
    Stdin(Vec<u8>),
}

impl Input {
    fn check(&self, options: &Options) -> Vec<Diagnostic> {
        match self {
            Input::File(path) => millrace_plan::load(path, options).diagnostics,
            Input::Stdin(bytes) => stdin(bytes, options),
        }
    }
}

fn stdin(bytes: &[u8], options: &Options) -> Vec<Diagnostic> {
    millrace_plan::load_bytes("<stdin>", bytes, Path::new("."), options).diagnostics
}

pub fn lint(args: &LintArgs) -> Exit {
    let connect = args.connect.then_some(args.connect_timeout);
    let options = Options { style: args.style, ..options(&args.set) };
    let mut files = Vec::new();
    for f in args.files.iter().filter(|f| f.as_os_str() != "-") {
        let before = files.len();
        if f.is_dir() {
            collect(f, &["streams:", "transforms:", "sink:"], &mut files)
        } else {
            files.push(f.clone())
        }
        if files.len() == before {
            eprintln!("warning: there are no topologies in `{}`", f.display());
        }
    }
    files.sort();
    files.dedup();
    let mut inputs: Vec<Input> = files.into_iter().map(Input::File).collect();
    if args.files.iter().any(|f| f.as_os_str() == "-") {
        let mut text = Vec::new();
        if let Err(e) = std::io::stdin().read_to_end(&mut text) {
            eprintln!("error: cannot read standard input: {e}");
            return Exit::Dependency;
        }
        inputs.push(Input::Stdin(text));
    }
    if args.fix || args.diff {
        let mut failed = false;
        let diffs: String = inputs.iter().map(|input| mend(input, args, &options, &mut failed)).collect();
        if args.diff {
            print(&diffs);
        }
        if failed {
            return Exit::Dependency;
        }
    }
    let all = check(&inputs, &Options { connect, ..options });
    let errors = all.iter().any(|d| d.severity == millrace_sdk::Severity::Error);
    let told = render(&all, args.format);
    if args.diff || (args.fix && inputs.iter().any(|i| matches!(i, Input::Stdin(_)))) {
        // Standard output has the diff, or the text that was mended.
        eprint!("{told}");
    } else {
        print(&told);
    }
    if errors { Exit::Config } else { Exit::Ok }
}

fn render(all: &[Diagnostic], format: LintFormat) -> String {
    match format {
        LintFormat::Full if all.is_empty() => String::new(),
        LintFormat::Full => {
            let fixes = all.iter().filter(|d| !d.fix.is_empty()).count();
            let more = if fixes > 0 { format!(" ({fixes} can be mended by --fix)") } else { String::new() };
            format!("{}{}{more}\n", diagnostic::full(all, std::io::stdout().is_terminal()), diagnostic::tally(all))
        }
        LintFormat::Concise => diagnostic::concise(all),
        LintFormat::Json => diagnostic::json(all),
        LintFormat::Github => millrace_plan::github(all),
        LintFormat::Sarif => millrace_plan::sarif(all),
    }
}

/// All problems of all inputs, in their order, found by as many threads as there are processors.
fn check(inputs: &[Input], options: &Options) -> Vec<Diagnostic> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(inputs.len());
    if threads < 2 {
        return inputs.iter().flat_map(|i| i.check(options)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(input) = inputs.get(i) else { return done };
            done.push((i, input.check(options)));
        }
    };
    let mut all: Vec<(usize, Vec<Diagnostic>)> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().flat_map(|(_, d)| d).collect()
}

/// Puts the fixes into a text, again until there are none; writes it (`--fix`) or gives the diff (`--diff`).
fn mend(input: &Input, args: &LintArgs, options: &Options, failed: &mut bool) -> String {
    let (name, raw) = match input {
        Input::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => (path.display().to_string(), text),
            // Lint says why.
            Err(_) => return String::new(),
        },
        Input::Stdin(bytes) => match String::from_utf8(bytes.clone()) {
            Ok(text) => ("<stdin>".to_string(), text),
            Err(_) => return String::new(),
        },
    };
    let mark = if raw.starts_with('\u{feff}') { "\u{feff}" } else { "" };
    let old = raw.strip_prefix('\u{feff}').unwrap_or(&raw).to_string();
    let mut new = old.clone();
    let mut mended = 0;
    for _ in 0..ROUNDS {
        let found = match input {
            Input::File(path) => {
                let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                millrace_plan::load_text(&name, &new, dir, options).diagnostics
            }
            Input::Stdin(_) => stdin(new.as_bytes(), options),
        };
        let own: Vec<&Diagnostic> = found.iter().filter(|d| d.file == name).collect();
        let fixed = fix::apply(&new, &own);
        if fixed.text == new {
            break;
        }
        mended += fixed.mended.len();
        new = fixed.text;
    }
    if args.diff {
        return fix::diff(&name, &old, &new);
    }
    match input {
        Input::Stdin(_) => drop(print(&new)),
        Input::File(path) if mended > 0 => match replace(path, &format!("{mark}{new}")) {
            Ok(()) => eprintln!("{name}: {mended} problem{} mended", if mended == 1 { "" } else { "s" }),
            Err(e) => {
                eprintln!("error: cannot write `{name}`: {e}");
                *failed = true;
            }
        },
        Input::File(_) => {}
    }
    String::new()
}

/// Writes a file so that it is always whole: a new one beside it takes its place and its permissions.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create_new(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::metadata(&path)?.permissions())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

/// Topologies under a folder: YAML files with one of these keys at the top.
pub fn collect(dir: &Path, keys: &[&str], files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, keys, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml")
            && std::fs::read(&path).is_ok_and(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                text.trim_start_matches('\u{feff}').lines().any(|l| keys.iter().any(|k| l.starts_with(k)))
            })
        {
            files.push(path);
        }
    }
}
