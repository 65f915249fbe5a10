//! Files on the local disk.

use super::suite::{Maker, Place, conform, costs, measured};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;

struct Folder {
    dir: tempfile::TempDir,
    config: Value,
}

impl Place for Folder {
    fn sink(&self) -> (&'static str, Value) {
        ("File", self.config.clone())
    }

    fn base_dir(&self) -> PathBuf {
        self.dir.path().into()
    }

    fn read(&self) -> Vec<(String, i64)> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.dir.path().join("out"))
            .into_iter()
            .flatten()
            .map(|f| f.unwrap().path())
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        let mut rows = vec![];
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let mut text = String::new();
            match file.extension().unwrap().to_str().unwrap() {
                "gz" => _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap(),
                "zst" => text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
                _ => text = String::from_utf8(bytes).unwrap(),
            }
            let mut lines = text.lines();
            if self.config["format"] == "csv" {
                assert_eq!(lines.next(), Some("k,n"), "{}", file.display());
            }
            // Whole lines only: half a line in the middle is no row.
            rows.extend(lines.map(|line| match serde_json::from_str::<Value>(line) {
                Ok(row) => (row["k"].as_str().unwrap().to_string(), row["n"].as_i64().unwrap()),
                Err(_) => line.split_once(',').map(|(k, n)| (k.into(), n.parse().unwrap())).unwrap_or_else(|| panic!("no row: {line}")),
            }));
        }
        rows
    }

    fn points(&self) -> &'static [&'static str] {
        &["txn-begun", "rows-half", "txn-sent", "txn-committed"]
    }
}

fn folders(config: Value) -> impl Fn(&str) -> Box<dyn Place> {
    move |_| Box::new(Folder { dir: tempfile::tempdir().unwrap(), config: config.clone() })
}

#[test]
fn one_file() {
    conform(&folders(json!({"path": "out/{worker}.jsonl"})) as Maker<'_>);
}

#[test]
fn parts() {
    conform(&folders(json!({"path": "out/{part}.csv", "format": "csv", "roll": {"size": 300}})) as Maker<'_>);
}

#[test]
fn compressed() {
    conform(&folders(json!({"path": "out/a.jsonl.gz"})) as Maker<'_>);
    conform(&folders(json!({"path": "out/a.jsonl.zst", "roll": {"size": 1000}})) as Maker<'_>);
}

#[test]
#[ignore = "measures"]
fn cost() {
    if !measured() {
        return;
    }
    costs(&folders(json!({"path": "out/{worker}.jsonl"})) as Maker<'_>);
}
