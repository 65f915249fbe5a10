//! The language server as an editor drives it: the executable, over its standard input and output.

use super::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    fn start() -> Client {
        let mut child = millrace()
            .args(["lsp", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starts");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("stdout")));
        Client { child, input, output, next: 0 }
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        let input = self.input.as_mut().expect("open");
        write!(input, "Content-Length: {}\r\n\r\n{body}", body.len()).and_then(|()| input.flush()).expect("written");
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("a line") > 0, "the server has ended");
            if line.trim().is_empty() {
                break;
            }
            if let Some(n) = line.strip_prefix("Content-Length: ") {
                length = n.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The answer to a request; what is told meanwhile is passed over.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let answer = self.receive();
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// The problems of a text, the next time that they are told.
    fn problems(&mut self) -> Vec<Value> {
        loop {
            let m = self.receive();
            if m["method"] == "textDocument/publishDiagnostics" {
                return m["params"]["diagnostics"].as_array().expect("a list").clone();
            }
        }
    }
}

const TEXT: &str = "name: edited
streams:
  in:
    config:
      source: {type: Inline, config: {lines: ['{\"a\":1,\"naïve𝄞\":\"x\"}']}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {a: bigint, b: string}}}
transforms:
  - {type: Filter, name: big, config: {where: \"b = '𝄞' AND aa > 1\"}}
sink:
  - {typ: Stdout, input: big, config: {format: json}}
";

#[test]
fn a_session() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let uri = format!("file://{}", tmp.path().join("a job.yaml").display().to_string().replace(' ', "%20"));
    let doc = || json!({"uri": uri});
    let mut c = Client::start();
    let early = c.ask("textDocument/hover", json!({}));
    assert_eq!(early["error"]["code"], -32002);
    let told = c.ask("initialize", json!({"processId": null, "rootUri": null, "capabilities": {}}));
    for key in ["completionProvider", "hoverProvider", "definitionProvider", "codeActionProvider", "documentFormattingProvider"] {
        assert!(!told["result"]["capabilities"][key].is_null(), "{told}");
    }
    c.notify("initialized", json!({}));
    c.notify("textDocument/didOpen", json!({"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": TEXT}}));

    // What lint says, in UTF-16 columns: the sign of the key takes two.
    let found = c.problems();
    let codes: Vec<&str> = found.iter().filter_map(|d| d["code"].as_str()).collect();
    assert_eq!(codes, ["unknown-field", "unknown-key"], "{found:?}");
    let line = TEXT.lines().nth(8).expect("the filter");
    let column = line[..line.find("aa").expect("aa")].encode_utf16().count();
    assert_eq!(found[0]["range"]["start"], json!({"line": 8, "character": column}));
    assert_eq!(found[0]["range"]["end"], json!({"line": 8, "character": column + 2}));

    // The fix of the misspelt key.
    let range = json!({"start": {"line": 10, "character": 6}, "end": {"line": 10, "character": 6}});
    let actions = c.ask("textDocument/codeAction", json!({"textDocument": doc(), "range": range, "context": {"diagnostics": []}}));
    let edit = &actions["result"][0]["edit"]["changes"][&uri][0];
    assert_eq!(edit["newText"], "type", "{actions}");
    assert_eq!(edit["range"], json!({"start": {"line": 10, "character": 5}, "end": {"line": 10, "character": 8}}));

    // Both are put right, as an editor sends it: the last first.
    let change = |range: &Value, text: &str| json!({"range": range, "text": text});
    let changes = json!([change(&edit["range"], "type"), change(&found[0]["range"], "a")]);
    c.notify("textDocument/didChange", json!({"textDocument": {"uri": uri, "version": 2}, "contentChanges": changes}));
    assert_eq!(c.problems(), Vec::<Value>::new());

    let position = |line: usize, character: usize| json!({"textDocument": doc(), "position": {"line": line, "character": character}});
    let page = c.ask("textDocument/hover", position(8, 12));
    assert!(page["result"]["contents"]["value"].as_str().is_some_and(|p| p.starts_with("# Filter (operator)")), "{page}");
    let target = c.ask("textDocument/definition", position(10, 26));
    assert_eq!(target["result"]["uri"], json!(uri), "{target}");
    assert_eq!(target["result"]["range"]["start"], json!({"line": 8, "character": 25}), "{target}");

    // A part is begun below.
    let end = json!({"start": {"line": 11, "character": 0}, "end": {"line": 11, "character": 0}});
    c.notify(
        "textDocument/didChange",
        json!({"textDocument": {"uri": uri, "version": 3}, "contentChanges": [change(&end, "  - {type: Stdout, input: b")]}),
    );
    let items = c.ask("textDocument/completion", position(11, 27));
    let labels: Vec<&str> = items["result"]["items"].as_array().expect("items").iter().filter_map(|i| i["label"].as_str()).collect();
    assert!(labels.contains(&"big") && labels.contains(&"in"), "{items}");
    let edit = &items["result"]["items"][0]["textEdit"]["range"];
    assert_eq!(edit, &json!({"start": {"line": 11, "character": 26}, "end": {"line": 11, "character": 27}}));
    assert!(
        c.ask("textDocument/formatting", json!({"textDocument": doc(), "options": {"tabSize": 2, "insertSpaces": true}}))["result"]
            .is_null()
    );

    // Formatting is fmt's.
    let text = "sink:\n- {type: Stdout}\nname: \"x\"\n";
    c.notify("textDocument/didChange", json!({"textDocument": {"uri": uri, "version": 4}, "contentChanges": [{"text": text}]}));
    let edits = c.ask("textDocument/formatting", json!({"textDocument": doc(), "options": {"tabSize": 2, "insertSpaces": true}}));
    assert_eq!(edits["result"][0]["newText"], "name: x\nsink:\n  - {type: Stdout}\n", "{edits}");

    c.notify("textDocument/didClose", json!({"textDocument": doc()}));
    assert_eq!(c.ask("no/such", json!({}))["error"]["code"], -32601);
    assert!(c.ask("shutdown", Value::Null)["result"].is_null());
    c.notify("exit", Value::Null);
    assert!(c.child.wait().expect("ends").success());
}

/// A file with fragments alone is not told that it is no job; what its fragments name is found in it.
#[test]
fn included_files() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let shared =
        "fragments:\n  wash:\n    description: JSON with a time\n    transforms:\n      - {type: StringToMap, config: {format: jsn}}\n";
    let library = write(tmp.path(), "shared.yaml", shared);
    let job = "include: shared.yaml\nstreams:\n  in:\n    config:\n      source: {type: Inline, config: {lines: ['{}']}}\n      operates:\n        - fragment: wash\nsink:\n  - {type: Stdout}\n";
    let (a, b) = (format!("file://{}", library.display()), format!("file://{}", tmp.path().join("job.yaml").display()));
    let mut c = Client::start();
    c.ask("initialize", json!({"capabilities": {}}));
    c.notify("textDocument/didOpen", json!({"textDocument": {"uri": a, "languageId": "yaml", "version": 1, "text": shared}}));
    assert_eq!(c.problems(), Vec::<Value>::new());
    c.notify("textDocument/didOpen", json!({"textDocument": {"uri": b, "languageId": "yaml", "version": 1, "text": job}}));
    let found = c.problems();
    assert_eq!(found[0]["code"], "unknown-value", "{found:?}");
    // At the use, with the place in the fragment beside it.
    assert_eq!(found[0]["range"]["start"]["line"], 6, "{found:?}");
    assert_eq!(found[0]["relatedInformation"][0]["location"]["uri"], json!(a), "{found:?}");
    let here = json!({"textDocument": {"uri": b}, "position": {"line": 6, "character": 21}});
    let target = c.ask("textDocument/definition", here.clone());
    assert_eq!((&target["result"]["uri"], &target["result"]["range"]["start"]["line"]), (&json!(a), &json!(1)), "{target}");
    assert!(c.ask("textDocument/hover", here)["result"]["contents"]["value"].as_str().is_some_and(|p| p.contains("JSON with a time")));
    // A client that goes without a word leaves no server behind.
    c.input = None;
    assert_eq!(c.child.wait().expect("ends").code(), Some(1));
}

/// At every place of every text that is cut off there, something is answered.
#[test]
fn nothing_panics_in_half_written_texts() {
    let options = millrace_plan::Options::default();
    let texts = super::corpus::pages().into_iter().flat_map(|p| super::corpus::cases(&std::fs::read_to_string(p).expect("page")));
    for text in texts.filter(|c| c.right()).map(|c| c.text) {
        let step = (text.len() / 12).max(1);
        for cut in (0..text.len()).step_by(step).filter(|i| text.is_char_boundary(*i)) {
            for t in [&text[..cut], &text] {
                let d = millrace_plan::ide::Document { name: "t.yaml", text: t, dir: Path::new("."), options: &options };
                millrace_plan::ide::complete(&d, cut);
                millrace_plan::ide::hover(&d, cut);
                millrace_plan::ide::definition(&d, cut);
            }
        }
    }
}
