use super::*;
use millrace_sdk::operator::Reject;
use millrace_sdk::{Assignment, BatchBuilder, Clock, Val};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use tempfile::TempDir;

/// A source over a folder of its own, with a clock that the test moves.
struct Rig {
    dir: TempDir,
    config: serde_json::Value,
    demand: Demand,
    max_record: usize,
    clock: Clock,
    source: Option<Box<dyn Source>>,
    schema: Option<SchemaRef>,
    names: HashMap<u32, String>,
    rejects: Vec<Reject>,
    max_rows: usize,
}

impl Rig {
    fn new(config: serde_json::Value) -> Rig {
        Rig {
            dir: tempfile::tempdir().unwrap(),
            config,
            demand: Demand::of(["_value"]),
            max_record: 16 << 20,
            clock: Clock::fixed(0),
            source: None,
            schema: None,
            names: HashMap::new(),
            rejects: vec![],
            max_rows: 1024,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn bind(&mut self) -> Result<Arc<dyn SourceFactory>, Vec<Problem>> {
        let spec: FileSource = serde_json::from_value(self.config.clone()).unwrap();
        let env = Env { base_dir: self.dir.path().into(), max_record: self.max_record, ..Env::default() };
        let (schema, factory) = spec.bind(&Bind { inputs: &[], demands: &[], env: &env, stores: &[] }, &self.demand)?;
        self.schema = Some(schema);
        Ok(factory)
    }

    fn open(&mut self, index: usize, instances: usize) {
        let factory = self.bind().unwrap();
        factory.check().unwrap();
        let env = Arc::new(Env::default());
        let assignment = Assignment { index, instances, shift: 0 };
        let cx = SourceContext { assignment, clock: self.clock.clone(), waker: Arc::new(|| {}), source: 3, env, restored: false };
        self.source = Some(factory.open(cx).unwrap());
    }

    /// Goes on an hour later.
    fn later(&self) {
        self.clock.set(self.clock.now() + 3_600_000_000);
    }

    /// Everything that is there now: partition, offset, value.
    fn read(&mut self) -> Vec<(String, u64, String)> {
        if self.source.is_none() {
            self.open(0, 1);
        }
        let source = self.source.as_mut().unwrap();
        for p in source.discover().unwrap().new {
            self.names.insert(p.id, p.name);
        }
        let mut ids: Vec<u32> = self.names.keys().copied().collect();
        ids.sort_by_key(|i| &self.names[i]);
        let mut got = vec![];
        for id in ids {
            loop {
                let mut rows = BatchBuilder::new(self.schema.clone().unwrap());
                let mut pull = Pull { rows: &mut rows, rejects: &mut self.rejects, max_rows: self.max_rows, max_bytes: 1 << 20 };
                let poll = source.poll(id, &mut pull).unwrap();
                let mut batch = rows.finish();
                batch.pad();
                for row in batch.rows() {
                    assert_eq!((row.meta().partition, row.meta().source), (id, 3));
                    let mut shown = String::new();
                    for (slot, field) in batch.schema().fields().iter().enumerate() {
                        let slot = millrace_sdk::Slot(slot as u16);
                        if &*field.name == "_value" {
                            let (Val::Bytes(v), millrace_sdk::Value::Bytes(span)) = (row.get(slot), row.raw(slot)) else {
                                panic!("_value is bytes")
                            };
                            assert_eq!(batch.text()[(span.off + span.len) as usize], b'\n');
                            if self.config.get("charset").is_none() {
                                assert_eq!(row.original(), Some(v));
                            }
                            shown += &String::from_utf8_lossy(v);
                        } else {
                            shown += &format!("|{}={:?}", field.name, row.get(slot));
                        }
                    }
                    got.push((self.names[&id].clone(), row.meta().offset, shown));
                }
                if poll != Poll::Ready {
                    break;
                }
            }
        }
        got
    }

    fn values(&mut self) -> Vec<String> {
        self.read().into_iter().map(|(_, _, v)| v).collect()
    }

    fn positions(&mut self) -> Vec<(String, Position)> {
        let source = self.source.as_mut().unwrap();
        self.names.iter().map(|(id, name)| (name.clone(), source.position(*id))).collect()
    }

    /// Starts again from saved positions, as after a crash.
    fn restart(&mut self, saved: &[(String, Position)]) {
        self.names.clear();
        self.open(0, 1);
        let source = self.source.as_mut().unwrap();
        for p in source.discover().unwrap().new {
            if let Some((_, at)) = saved.iter().find(|(n, _)| *n == p.name) {
                source.seek(p.id, at).unwrap();
            }
            self.names.insert(p.id, p.name);
        }
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    e.write_all(text).unwrap();
    e.finish().unwrap()
}

#[test]
fn lines_as_they_are() {
    let cases: &[(&[u8], &[(u64, &str)])] = &[
        (b"", &[]),
        (b"a\nb\n", &[(0, "a"), (2, "b")]),
        (b"a\nhalf", &[(0, "a"), (2, "half")]),
        (b"a\r\n\r\nb\r\n", &[(0, "a"), (3, ""), (5, "b")]),
        (b"\n\n", &[(0, ""), (1, "")]),
        (b"\xef\xbb\xbfa\nb", &[(0, "a"), (5, "b")]),
        (b"a\xff\n", &[(0, "a\u{fffd}")]),
        (b"a\rb\n", &[(0, "a\rb")]),
        (b"\r", &[(0, "")]),
    ];
    for (text, want) in cases {
        for max_rows in [1, 2, 1024] {
            let mut rig = Rig::new(json!({"path": "a.txt"}));
            rig.max_rows = max_rows;
            rig.write("a.txt", text);
            let want: Vec<_> = want.iter().map(|(o, v)| ("a.txt".to_string(), *o, v.to_string())).collect();
            assert_eq!(rig.read(), want, "{:?}", String::from_utf8_lossy(text));
            assert_eq!(rig.source.as_mut().unwrap().discover().unwrap(), Discovery { new: vec![], complete: true });
        }
    }
}

#[test]
fn empty_lines_are_no_json() {
    let mut rig = Rig::new(json!({"path": "a.jsonl", "format": "json"}));
    rig.write("a.jsonl", "{}\n\n\r\n[]\n");
    assert_eq!(rig.values(), ["{}", "[]"]);
}

#[test]
fn lines_of_all_lengths_plain_and_compressed() {
    let lines: Vec<String> = (0..20_000usize).map(|i| "x".repeat(i * 7919 % if i % 500 == 0 { 300_000 } else { 90 })).collect();
    let text = lines.join("\n") + "\n";
    for (name, bytes) in
        [("a", text.clone().into_bytes()), ("a.gz", gzip(text.as_bytes())), ("a.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
    {
        let mut rig = Rig::new(json!({"path": name}));
        rig.write(name, bytes);
        let got = rig.read();
        assert!(got.iter().map(|(_, _, v)| v).eq(lines.iter()), "{name}");
        let mut offset = 0;
        for (_, at, v) in &got {
            assert_eq!(*at, offset);
            offset += v.len() as u64 + 1;
        }
    }
}

#[test]
fn gzip_members_are_one_file() {
    let mut rig = Rig::new(json!({"path": "a.gz"}));
    rig.write("a.gz", [gzip(b"a\nb"), gzip(b"c\nd\n")].concat());
    assert_eq!(rig.values(), ["a", "bc", "d"]);
}

#[test]
fn a_damaged_file_is_read_as_far_as_it_goes_and_becomes_a_dead_letter() {
    let text: String = (0..20_000).map(|i| format!("{},{}\n", i, i * 7919 % 10_007)).collect();
    let lines: Vec<&str> = text.lines().collect();
    let (gz, zst) = (gzip(text.as_bytes()), zstd::encode_all(text.as_bytes(), 1).unwrap());
    let cut = |b: &[u8], at: usize| b[..at].to_vec();
    let flip =
        |b: &[u8], at: usize| b.iter().enumerate().map(|(i, x)| if (at..at + 40).contains(&i) { !x } else { *x }).collect::<Vec<u8>>();
    let cases = [
        ("b.gz", cut(&gz, gz.len() / 2), true),
        ("b.gz", cut(&gz, gz.len() - 4), true),
        ("b.gz", flip(&gz, gz.len() / 2), false),
        ("b.gz", b"no gzip at all\n".to_vec(), false),
        ("b.zst", cut(&zst, zst.len() / 2), true),
        ("b.zst", [&zst[..], b"garbage"].concat(), false),
        ("b.zst", b"no zstd at all\n".to_vec(), false),
    ];
    for (name, bytes, is_cut) in cases {
        for (format, charset) in [("lines", None), ("lines", Some("gbk")), ("csv", None)] {
            let mut config = json!({"path": "*", "format": format});
            if let Some(charset) = charset {
                config["charset"] = charset.into();
            }
            if format == "csv" {
                config["header"] = false.into();
                config["fields"] = json!({"a": "string", "b": "string"});
            }
            let mut rig = Rig::new(config);
            rig.write("a", "first,1\n");
            rig.write(name, &bytes);
            rig.write("c", "last,2\n");
            let got = rig.values();
            let want = |line: &str| match line.split_once(',') {
                Some((a, b)) if format == "csv" => format!("|a=Str({a:?})|b=Str({b:?})"),
                _ => line.to_string(),
            };
            assert_eq!((&got[0], got.last().unwrap()), (&want("first,1"), &want("last,2")), "{name}");
            let read = &got[1..got.len() - 1];
            assert!(read.iter().zip(&lines).all(|(a, b)| *a == want(b)), "{name}");
            let [reject] = &rig.rejects[..] else { panic!("{:?}", rig.rejects) };
            assert_eq!(reject.reason, "damaged-file");
            assert_eq!(reject.message.contains("is cut off"), is_cut, "{}", reject.message);
            let offset: usize = lines[..read.len()].iter().map(|l| l.len() + 1).sum();
            assert_eq!(reject.meta.offset as usize, offset);
            let whole = bytes.starts_with(b"no ") && name == "b.gz";
            let rest = if whole { &bytes[..] } else { &text.as_bytes()[offset..][..reject.body.len()] };
            assert_eq!(reject.body, rest, "{name} {format}");
        }
    }
}

#[test]
fn overlong_records_are_rejected_whole() {
    for (name, charset) in [("a", None), ("a.gz", None), ("a", Some("gbk"))] {
        for len in [100, 101, 102, 5000, 300_000, 9_000_000] {
            let long: Vec<u8> = (0..len).map(|i| b'a' + (i % 23) as u8).collect();
            let text = [b"before\n", &long[..], b"\nafter\n", &long[..]].concat();
            let mut config = json!({"path": name});
            if let Some(c) = charset {
                config["charset"] = json!(c);
            }
            let mut rig = Rig::new(config);
            rig.max_record = 100;
            rig.write(name, if name == "a" { text } else { gzip(&text) });
            let got = rig.read();
            if len == 100 {
                assert_eq!(got.len(), 4);
                continue;
            }
            let offsets: Vec<_> = got.iter().map(|(_, o, v)| (*o, v.as_str())).collect();
            assert_eq!(offsets, [(0, "before"), (8 + len as u64, "after")], "{len}");
            assert_eq!(rig.rejects.len(), 2);
            for (r, offset) in rig.rejects.iter().zip([7, 14 + len as u64]) {
                assert_eq!((r.reason, r.meta.offset, r.length), ("record-too-long", offset, len as u64));
                assert_eq!(r.hash, xxh3_64(&long));
                assert_eq!(r.body, &long[..long.len().min(64 << 10)]);
            }
        }
    }
}

#[test]
fn many_files_each_a_partition_and_shared_out() {
    let mut rig = Rig::new(json!({"path": ["*.log", "b.*"]}));
    for (name, text) in [("a.log", "a\n"), ("b.log", "b"), ("c.log.1", "old\n"), ("c.log", "c\n"), ("b.txt", "t\n")] {
        rig.write(name, text);
    }
    let names = |got: Vec<(String, u64, String)>| got.into_iter().map(|(n, _, v)| format!("{n}:{v}")).collect::<Vec<_>>();
    assert_eq!(names(rig.read()), ["a.log:a", "b.log:b", "b.txt:t", "c.log:c"]);
    let mut shared = vec![];
    for index in 0..3 {
        rig.names.clear();
        rig.open(index, 3);
        shared.extend(names(rig.read()));
    }
    shared.sort();
    assert_eq!(shared, ["a.log:a", "b.log:b", "b.txt:t", "c.log:c"]);
    rig.config = json!({"path": "c.*"});
    rig.names.clear();
    rig.open(0, 1);
    assert_eq!(names(rig.read()), ["c.log:old", "c.log:c"]);
}

#[test]
fn bounded_positions_go_on_in_the_middle_of_a_lineage() {
    let mut rig = Rig::new(json!({"path": "a.log*"}));
    rig.write("a.log.2.gz", gzip(b"1\n2\n"));
    rig.write("a.log.1", "3\n4");
    rig.write("a.log", "5\n6\n");
    let all = ["1", "2", "3", "4", "5", "6"];
    rig.max_rows = 1;
    assert_eq!(rig.values(), all);
    for seen in 0..=6 {
        rig.names.clear();
        rig.open(0, 1);
        let source = rig.source.as_mut().unwrap();
        let id = source.discover().unwrap().new[0].id;
        let mut rows = BatchBuilder::new(rig.schema.clone().unwrap());
        while rows.len() < seen {
            source.poll(id, &mut Pull { rows: &mut rows, rejects: &mut vec![], max_rows: 1, max_bytes: 1 << 20 }).unwrap();
        }
        let at = source.position(id);
        rig.restart(&[("a.log".into(), at)]);
        assert_eq!(rig.values(), all[seen..], "after {seen}");
    }
    let saved = rig.positions();
    rig.write("a.log", "other content");
    rig.names.clear();
    rig.open(0, 1);
    let source = rig.source.as_mut().unwrap();
    let id = source.discover().unwrap().new[0].id;
    assert!(source.seek(id, &saved[0].1).unwrap_err().message.contains("it is gone or has changed"));
    assert!(source.seek(id, &Position(vec![9, 9])).is_err());
}

#[test]
fn csv_by_header_by_fields_and_whole() {
    let text = "id,name,note\n1,\"Doe, J\",\"a \"\"b\"\"\nc\"\r\n\n2,x\n3,,z\n\"4\"5,a,b\n6,a,b";
    let mut rig = Rig::new(json!({"path": "a.csv", "format": "csv"}));
    rig.demand = Demand::of(["note", "id", "_offset", "none"]);
    rig.write("a.csv", text);
    assert_eq!(
        rig.values(),
        [
            "|id=Str(\"1\")|none=Missing|note=Str(\"a \\\"b\\\"\\nc\")|_offset=Int(13)",
            "|id=Str(\"3\")|none=Missing|note=Str(\"z\")|_offset=Int(42)",
            "|id=Str(\"6\")|none=Missing|note=Str(\"b\")|_offset=Int(56)",
        ]
    );
    let rejects: Vec<_> = rig.rejects.iter().map(|r| (r.reason, r.meta.offset, String::from_utf8_lossy(&r.body).into_owned())).collect();
    assert_eq!(rejects, [("wrong-field-count", 38, "2,x".into()), ("invalid-csv", 47, "\"4\"5,a,b".into())]);

    let mut rig = Rig::new(json!({"path": "a.csv", "format": "csv"}));
    rig.demand = Demand::all();
    rig.write("a.csv", "b;c,a\n\"q\"\"\",é\n");
    assert_eq!(rig.values(), ["|_rest=Json(\"{\\\"b;c\\\":\\\"q\\\\\\\"\\\",\\\"a\\\":\\\"é\\\"}\")"]);

    let mut rig =
        Rig::new(json!({"path": "a.csv", "format": "csv", "header": false, "delimiter": ";", "fields": {"b": "string", "a": "string"}}));
    rig.write("a.csv", "1;2\n3;4");
    assert_eq!(rig.values(), ["|b=Str(\"1\")|a=Str(\"2\")", "|b=Str(\"3\")|a=Str(\"4\")"]);

    let mut rig = Rig::new(json!({"path": "a.csv", "format": "csv", "fields": {"x": "string"}}));
    rig.write("a.csv", "a\n1\n");
    assert_eq!(rig.values(), Vec::<String>::new());
    assert_eq!(rig.rejects[0].message, "the header has no column `x`");
}

#[test]
fn csv_goes_on_with_its_header() {
    let mut rig = Rig::new(json!({"path": "a.csv", "format": "csv"}));
    rig.demand = Demand::of(["b"]);
    rig.max_rows = 2;
    rig.write("a.csv", "a,b\n1,2\n3,4\n");
    rig.open(0, 1);
    let source = rig.source.as_mut().unwrap();
    let id = source.discover().unwrap().new[0].id;
    let mut rows = BatchBuilder::new(rig.schema.clone().unwrap());
    source.poll(id, &mut Pull { rows: &mut rows, rejects: &mut vec![], max_rows: 2, max_bytes: 1 << 20 }).unwrap();
    assert_eq!(rows.len(), 1);
    let at = source.position(id);
    rig.restart(&[("a.csv".into(), at)]);
    assert_eq!(rig.values(), ["|b=Str(\"4\")"]);
}

#[test]
fn other_charsets_line_by_line() {
    let mut rig = Rig::new(json!({"path": "a", "charset": "gb18030"}));
    let (gb, _, _) = encoding_rs::GB18030.encode("点击\n曝光\r\n");
    rig.write("a", [&gb[..], b"bad\xff\xff\nend"].concat());
    let got: Vec<_> = rig.read().into_iter().map(|(_, o, v)| (o, v)).collect();
    assert_eq!(got, [(0, "点击".into()), (5, "曝光".into()), (17, "end".into())]);
    assert_eq!(
        (rig.rejects[0].reason, &rig.rejects[0].body[..], rig.rejects[0].meta.offset),
        ("invalid-encoding", &b"bad\xff\xff"[..], 11)
    );
}

#[test]
fn following_takes_what_is_appended_and_new_files() {
    let mut rig = Rig::new(json!({"path": "*.log", "mode": "follow"}));
    rig.write("a.log", "1\nha");
    assert_eq!(rig.values(), ["1"]);
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.append("a.log", "lf\n2\n");
    assert_eq!(rig.values(), ["half", "2"]);
    rig.write("b.log", "b\n");
    assert_eq!(rig.values(), Vec::<String>::new(), "not yet scanned again");
    rig.later();
    assert_eq!(rig.values(), ["b"]);
    let saved = rig.positions();
    rig.append("a.log", "3\n");
    rig.append("b.log", "c\n");
    rig.restart(&saved);
    assert_eq!(rig.values(), ["3", "c"]);
}

#[test]
fn a_rotated_file_is_read_to_its_end() {
    let mut rig = Rig::new(json!({"path": "a.log*", "mode": "follow"}));
    rig.write("a.log", "1\n");
    assert_eq!(rig.values(), ["1"]);
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    assert_eq!(rig.values(), ["2"]);
    rig.later();
    rig.write("a.log", "4\n");
    rig.append("a.log.1", "3\nhalf");
    assert_eq!(rig.values(), ["3"], "its writer has not let go");
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.later();
    assert_eq!(rig.values(), ["half", "4"]);
    // Twice between two looks.
    rig.append("a.log", "5\n");
    rig.rename("a.log.1", "a.log.2");
    rig.rename("a.log", "a.log.1");
    rig.write("a.log", "6\n");
    rig.rename("a.log.2", "a.log.3");
    rig.rename("a.log.1", "a.log.2");
    rig.rename("a.log", "a.log.1");
    rig.write("a.log", "7\n");
    assert_eq!(rig.values(), ["5"]);
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.later();
    assert_eq!(rig.values(), ["6"]);
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.later();
    assert_eq!(rig.values(), ["7"]);
    // And while nobody looks.
    let saved = rig.positions();
    rig.append("a.log", "8\n");
    rig.rename("a.log", "a.log.0");
    rig.write("a.log", "9\n");
    rig.restart(&saved);
    let mut got = rig.values();
    rig.later();
    got.extend(rig.values());
    rig.later();
    got.extend(rig.values());
    assert_eq!(got, ["8", "9"]);
}

#[test]
fn copytruncate_is_noticed() {
    for (before, after) in [("1\n2\n", "3\n"), ("1\n", "longer than before\n"), ("1\n", "2\n")] {
        let mut rig = Rig::new(json!({"path": "a.log", "mode": "follow"}));
        rig.write("a.log", before);
        let mut got = rig.values();
        rig.append("a.log", "unread\nhalf");
        fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
        let file = OpenOptions::new().write(true).open(rig.path("a.log")).unwrap();
        file.set_len(0).unwrap();
        rig.append("a.log", after);
        for _ in 0..4 {
            got.extend(rig.values());
            rig.later();
        }
        let want: Vec<&str> = before.lines().chain(["unread", "half"]).chain(after.lines()).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn a_truncated_file_without_a_copy_starts_again() {
    let mut rig = Rig::new(json!({"path": "a.log", "mode": "follow"}));
    rig.write("a.log", "1\n2\n");
    assert_eq!(rig.values(), ["1", "2"]);
    File::create(rig.path("a.log")).unwrap();
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.append("a.log", "3\n");
    assert_eq!(rig.values(), ["3"]);
}

#[test]
fn following_from_the_end() {
    let mut rig = Rig::new(json!({"path": "*.log", "mode": "follow", "start": "end"}));
    rig.write("a.log", "old\n");
    assert_eq!(rig.values(), Vec::<String>::new());
    let saved = rig.positions();
    rig.append("a.log", "new\n");
    rig.write("b.log", "whole\n");
    rig.later();
    assert_eq!(rig.values(), ["new", "whole"]);
    rig.restart(&saved);
    assert_eq!(rig.values()[0], "new");
}

#[test]
fn a_followed_file_may_come_later_or_go() {
    let mut rig = Rig::new(json!({"path": "a.log", "mode": "follow"}));
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.write("a.log", "1\n");
    rig.later();
    assert_eq!(rig.values(), ["1"]);
    fs::remove_file(rig.path("a.log")).unwrap();
    assert_eq!(rig.values(), Vec::<String>::new());
    rig.later();
    rig.write("a.log", "2\n");
    assert_eq!(rig.values(), ["2"]);
}

#[test]
fn what_is_missing_is_said_at_the_start() {
    let cases: &[(serde_json::Value, &str)] = &[
        (json!({"path": "none.log"}), "file `DIR/none.log` does not exist"),
        (json!({"path": "*.log"}), "no file matches `DIR/*.log`"),
        (json!({"path": "sub/*.log"}), "folder `DIR/sub` does not exist"),
        (json!({"path": "sub/a.log", "mode": "follow"}), "folder `DIR/sub` does not exist"),
        (json!({"path": "here"}), "`DIR/here` is a folder"),
    ];
    for (config, want) in cases {
        let mut rig = Rig::new(config.clone());
        fs::create_dir(rig.path("here")).unwrap();
        let fault = rig.bind().unwrap().check().unwrap_err();
        assert_eq!(fault.message, want.replace("DIR", &rig.dir.path().to_string_lossy()));
    }
}

#[test]
fn wrong_configs() {
    let cases: &[(serde_json::Value, &str)] = &[
        (json!({"path": []}), "missing-path"),
        (json!({"path": "a["}), "invalid-pattern"),
        (json!({"path": "a", "charset": "utf-16le"}), "unknown-charset"),
        (json!({"path": "a", "charset": "gb1803"}), "unknown-charset"),
        (json!({"path": "a", "fields": {"a": "string"}}), "key-without-effect"),
        (json!({"path": "a", "format": "csv", "header": false}), "missing-fields"),
        (json!({"path": "a", "format": "csv", "fields": {"a": "strin"}}), "unknown-type"),
        (json!({"path": "a", "format": "csv", "delimiter": "ab"}), "invalid-character"),
    ];
    for (config, id) in cases {
        let problems = Rig::new(config.clone()).bind().err().unwrap();
        assert_eq!(problems.iter().map(|p| p.id).collect::<Vec<_>>(), [*id]);
    }
}

/// A long path does not fit into a value, so it stands in the batch's text behind the lines.
#[test]
fn rows_that_tell_their_path_are_all_of_the_file() {
    let lines: Vec<String> = (0..3000).map(|i| format!("{i}{}", "-".repeat(i % 37))).collect();
    let text = lines.join("\n");
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for max_rows in [1, 7, 1024] {
        let mut rig = Rig::new(json!({"path": "a-file-with-a-long-name.*"}));
        rig.write("a-file-with-a-long-name.log", &text);
        rig.write("a-file-with-a-long-name.txt.gz", &packed);
        rig.demand = Demand::of(["_value", "_path", "_offset"]);
        rig.max_rows = max_rows;
        let got = rig.values();
        assert_eq!(got.len(), 2 * lines.len());
        for (i, got) in got.iter().enumerate() {
            let (name, i) = (["log", "txt.gz"][i / lines.len()], i % lines.len());
            let offset: usize = lines[..i].iter().map(|l| l.len() + 1).sum();
            let path = rig.path(&format!("a-file-with-a-long-name.{name}"));
            assert_eq!(*got, format!("{}|_path=Str({path:?})|_offset=Int({offset})", lines[i]));
        }
    }
}
