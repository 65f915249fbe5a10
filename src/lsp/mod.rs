//! `millrace lsp`: the language server, over standard input and output. What it says of a text is what `lint`, `explain` and `fmt` say.

mod text;
mod wire;

use crate::cli::LspArgs;
use crate::exit::Exit;
use crate::lint::options;
use millrace_plan::diagnostic::{Diagnostic, Edit};
use millrace_plan::ide::{self, Document, Kind};
use millrace_plan::{Options, fmt, ids};
use millrace_sdk::Severity;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use text::Text;

/// JSON-RPC: a request came before `initialize`, the method is unknown, the parameters are wrong.
const NOT_INITIALIZED: i64 = -32002;
const UNKNOWN_METHOD: i64 = -32601;
const INVALID_REQUEST: i64 = -32600;

struct Server {
    options: Options,
    /// Open texts by their URI.
    open: BTreeMap<String, Text>,
    /// Texts that changed since their problems were told.
    changed: BTreeSet<String>,
    initialized: bool,
    stopped: bool,
}

pub fn lsp(args: &LspArgs) -> Exit {
    let mut server =
        Server { options: options(&args.set), open: BTreeMap::new(), changed: BTreeSet::new(), initialized: false, stopped: false };
    let (send, receive) = mpsc::channel();
    // A thread reads, so that texts that have changed again by now are not checked.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(message) = wire::read(&mut input) {
            if send.send(message).is_err() {
                break;
            }
        }
    });
    let mut out = std::io::stdout().lock();
    loop {
        let message = match receive.try_recv() {
            Ok(m) => m,
            Err(mpsc::TryRecvError::Empty) => {
                for uri in std::mem::take(&mut server.changed) {
                    wire::write(&mut out, &server.problems(&uri));
                }
                match receive.recv() {
                    Ok(m) => m,
                    Err(_) => break,
                }
            }
            Err(mpsc::TryRecvError::Disconnected) => break,
        };
        let message = match message {
            Ok(m) => m,
            Err(why) => {
                wire::write(&mut out, &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": why}}));
                continue;
            }
        };
        if message["method"] == "exit" {
            return if server.stopped { Exit::Ok } else { Exit::Config };
        }
        if let Some(answer) = server.take(&message) {
            wire::write(&mut out, &answer);
        }
    }
    if server.stopped { Exit::Ok } else { Exit::Config }
}

impl Server {
    /// Answers a request; does what a notification says.
    fn take(&mut self, message: &Value) -> Option<Value> {
        let method = message["method"].as_str()?;
        let p = &message["params"];
        let Some(id) = message.get("id") else {
            self.notice(method, p);
            return None;
        };
        let said = match method {
            _ if self.stopped => Err((INVALID_REQUEST, "the server was shut down".to_string())),
            "initialize" => {
                self.initialized = true;
                Ok(capabilities())
            }
            _ if !self.initialized => Err((NOT_INITIALIZED, "`initialize` comes first".to_string())),
            "shutdown" => {
                self.stopped = true;
                Ok(Value::Null)
            }
            "textDocument/completion" => Ok(self.at(p, |d, t, at| completions(d, t, at))),
            "textDocument/hover" => Ok(self.at(p, |d, t, at| {
                let (page, span) = ide::hover(d, at)?;
                Some(json!({"contents": {"kind": "markdown", "value": page}, "range": t.range(&span)}))
            })),
            "textDocument/definition" => Ok(self.at(p, |d, t, at| {
                let target = ide::definition(d, at)?;
                Some(match target.file {
                    None => json!({"uri": p["textDocument"]["uri"], "range": t.range(&target.span)}),
                    Some((path, text)) => json!({"uri": text::uri(&path), "range": Text::new(text).range(&target.span)}),
                })
            })),
            "textDocument/codeAction" => Ok(self.actions(p)),
            "textDocument/formatting" => Ok(self.format(p)),
            _ => Err((UNKNOWN_METHOD, format!("the method `{method}` is not known"))),
        };
        Some(match said {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, message)) => json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}),
        })
    }

    fn notice(&mut self, method: &str, p: &Value) {
        let Some(uri) = p["textDocument"]["uri"].as_str().map(String::from) else { return };
        match method {
            "textDocument/didOpen" => {
                if let Some(t) = p["textDocument"]["text"].as_str() {
                    self.open.insert(uri.clone(), Text::new(t.to_string()));
                    self.changed.insert(uri);
                }
            }
            "textDocument/didChange" => {
                let Some(text) = self.open.get_mut(&uri) else { return };
                for change in p["contentChanges"].as_array().into_iter().flatten() {
                    text.change(change);
                }
                self.changed.insert(uri);
            }
            // What it includes may have changed meanwhile.
            "textDocument/didSave" => self.changed.extend(self.open.keys().cloned()),
            "textDocument/didClose" => {
                self.open.remove(&uri);
                self.changed.insert(uri);
            }
            _ => {}
        }
    }

    /// Asks about a place of an open text.
    fn at(&self, p: &Value, ask: impl FnOnce(&Document, &Text, usize) -> Option<Value>) -> Value {
        let uri = p["textDocument"]["uri"].as_str().unwrap_or_default();
        let Some(text) = self.open.get(uri) else { return Value::Null };
        let path = text::path(uri);
        let (name, dir) = names(&path);
        let doc = Document { name: &name, text: text.as_str(), dir: &dir, options: &self.options };
        ask(&doc, text, text.offset(&p["position"])).unwrap_or(Value::Null)
    }

    /// What lint says of a text; nothing of one that was closed.
    fn found(&self, uri: &str) -> Vec<Diagnostic> {
        let Some(text) = self.open.get(uri) else { return vec![] };
        let path = text::path(uri);
        let (name, dir) = names(&path);
        let options = Options { library: true, ..self.options.clone() };
        millrace_plan::load_text(&name, text.as_str(), &dir, &options).diagnostics
    }

    fn problems(&self, uri: &str) -> Value {
        let nothing = Text::new(String::new());
        let text = self.open.get(uri).unwrap_or(&nothing);
        let (name, _) = names(&text::path(uri));
        let all: Vec<Value> = self.found(uri).iter().map(|d| problem(d, text, uri, &name)).collect();
        json!({"jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": {"uri": uri, "diagnostics": all}})
    }

    /// Lint's fixes of the problems in a range.
    fn actions(&self, p: &Value) -> Value {
        let uri = p["textDocument"]["uri"].as_str().unwrap_or_default();
        let Some(text) = self.open.get(uri) else { return json!([]) };
        let (from, to) = (text.offset(&p["range"]["start"]), text.offset(&p["range"]["end"]));
        let (name, _) = names(&text::path(uri));
        let edit = |e: &Edit| json!({"range": text.range(&text.span(e.line, e.column, e.end_line, e.end_column)), "newText": e.text});
        let found = self.found(uri);
        let mut all: Vec<Value> = vec![];
        for d in found.iter().filter(|d| d.file == name && !d.fix.is_empty()) {
            let span = text.span(d.line, d.column, d.end_line, d.end_column);
            if span.start <= to && from <= span.end {
                let title = match &d.suggestion {
                    Some(s) => format!("Write `{s}`"),
                    None => format!("Mend `{}`", d.id),
                };
                all.push(json!({
                    "title": title,
                    "kind": "quickfix",
                    "isPreferred": true,
                    "diagnostics": [problem(d, text, uri, &name)],
                    "edit": {"changes": {uri: d.fix.iter().map(edit).collect::<Vec<_>>()}},
                }));
            }
        }
        Value::Array(all)
    }

    fn format(&self, p: &Value) -> Value {
        let uri = p["textDocument"]["uri"].as_str().unwrap_or_default();
        let Some(text) = self.open.get(uri) else { return Value::Null };
        match fmt::format(uri, text.as_str()) {
            Ok(new) if new != text.as_str() => json!([{"range": text.range(&(0..text.as_str().len())), "newText": new}]),
            Ok(_) => json!([]),
            Err(_) => Value::Null,
        }
    }
}

fn capabilities() -> Value {
    json!({
        "capabilities": {
            "positionEncoding": "utf-16",
            "textDocumentSync": {"openClose": true, "change": 2, "save": true},
            "completionProvider": {"triggerCharacters": [" ", ":", "{", "[", ",", "."]},
            "hoverProvider": true,
            "definitionProvider": true,
            "codeActionProvider": {"codeActionKinds": ["quickfix"]},
            "documentFormattingProvider": true,
        },
        "serverInfo": {"name": "millrace", "version": env!("CARGO_PKG_VERSION")},
    })
}

/// The name that diagnostics have for a text, and the folder where relative paths begin.
fn names(path: &Path) -> (String, PathBuf) {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (path.display().to_string(), dir.to_path_buf())
}

/// A problem as the protocol writes it. One in another file stands at the place where that is used, or at the start.
fn problem(d: &Diagnostic, text: &Text, uri: &str, name: &str) -> Value {
    let severity = match d.severity {
        Severity::Error => 1,
        Severity::Warning => 2,
        Severity::Note => 3,
    };
    let mut message = d.message.clone();
    if let Some(s) = &d.suggestion {
        message.push_str(&format!("; did you mean `{s}`?"));
    }
    if let Some(h) = &d.hint {
        message.push_str(&format!("\n{h}"));
    }
    let there = |file: &str, line: usize, column: usize| {
        // Of another file only the line is known here, and characters stand for UTF-16 units.
        let (line, character) = (line.saturating_sub(1), column.saturating_sub(1));
        let at = json!({"line": line, "character": character});
        let uri = if file == name { uri.to_string() } else { text::uri(Path::new(file)) };
        json!({"uri": uri, "range": {"start": at, "end": at}})
    };
    let mut related = vec![];
    let span = if d.file == name {
        if let Some(s) = &d.second {
            let mut location = there(&s.file, s.line, s.column);
            if s.file == name {
                location["range"] = text.range(&text.span(s.line, s.column, s.line, s.column));
            }
            related.push(json!({"location": location, "message": s.message}));
        }
        text.span(d.line, d.column, d.end_line, d.end_column)
    } else {
        related.push(json!({"location": there(&d.file, d.line, d.column), "message": d.message}));
        let own = d.second.as_ref().filter(|s| s.file == name);
        own.map_or(0..0, |s| text.span(s.line, s.column, s.line, s.column))
    };
    let mut out = json!({"range": text.range(&span), "severity": severity, "code": d.id, "source": "millrace", "message": message});
    if !related.is_empty() {
        out["relatedInformation"] = Value::Array(related);
    }
    if ids::page(&d.id).is_none() {
        out["code"] = Value::Null;
    }
    out
}

fn completions(doc: &Document, text: &Text, at: usize) -> Option<Value> {
    let items: Vec<Value> = ide::complete(doc, at)
        .into_iter()
        .map(|c| {
            // Numbers of the protocol: property, class, enum member, field, variable, function, method.
            let kind = match c.kind {
                Kind::Key => 10,
                Kind::Part => 7,
                Kind::Value => 20,
                Kind::Field => 5,
                Kind::Name => 6,
                Kind::Function => 3,
                Kind::Helper => 2,
            };
            let mut item = json!({"label": c.label, "kind": kind, "textEdit": {"range": text.range(&c.replace), "newText": c.insert}});
            if !c.detail.is_empty() {
                item["detail"] = c.detail.into();
            }
            if !c.about.is_empty() {
                item["documentation"] = json!({"kind": "markdown", "value": c.about});
            }
            item
        })
        .collect();
    Some(json!({"isIncomplete": false, "items": items}))
}
