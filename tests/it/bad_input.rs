//! Bad input reaches the dead letter whole, and stops nothing.

use super::*;
use serde_json::Value;

const WASH: &str = r#"
name: wash
streams:
  in:
    config:
      source: {type: File, config: {path: input.txt}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {id: bigint, at: bigint, price: double}}}
      watermark: {field: at, format: epoch_ms, max_out_of_orderness: 1s}
run_env: {time_characteristic: EventTime, max_record: 1MiB, dead_letter: {type: File, config: {path: dead.jsonl}}}
sink:
  - {type: File, name: out, config: {path: out.jsonl}}
"#;

/// Every kind of malformed record, between good ones; the last line is cut off.
#[test]
fn every_bad_record_is_a_dead_letter_with_its_bytes() {
    let good = |i: usize| format!("{{\"id\":{i},\"at\":{},\"price\":1.5}}", 1_700_000_000_000u64 + i as u64);
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let bad: Vec<Vec<u8>> = vec![
        b"{\"id\":1,\"at\":1700000000000,\"price\":\xff}".to_vec(),
        format!("{{\"id\":1,\"at\":1700000000000,\"x\":{deep}}}").into_bytes(),
        b"{\"id\":1,\"at\":1700000000000,\"price\":NaN}".to_vec(),
        b"{\"id\":1,\"at\":1700000000000,\"price\":1e999}".to_vec(),
        b"{\"id\":99999999999999999999999,\"at\":1700000000000}".to_vec(),
        b"{\"id\":1,\"at\":253402300799000}".to_vec(),
        b"{\"id\":1,\"at\":\"yesterday\"}".to_vec(),
        b"{\"id\":1,\"price\":1}".to_vec(),
        b"{\"id\":[1],\"at\":1700000000000}".to_vec(),
        b"{}{}".to_vec(),
        b"plain text".to_vec(),
    ];
    let mut input = Vec::new();
    for i in 0..300 {
        input.extend_from_slice(good(i).as_bytes());
        input.push(b'\n');
        if i >= 150 && i - 150 < bad.len() {
            input.extend_from_slice(&bad[i - 150]);
            input.push(b'\n');
        }
    }
    let long = vec![b'x'; 5 << 20];
    input.extend_from_slice(&long);
    input.push(b'\n');
    input.extend_from_slice(b"{\"id\":7,\"at\":17000");
    let tmp = tempfile::tempdir().expect("tempdir");
    std::fs::write(tmp.path().join("input.txt"), &input).expect("input");
    let o = run(&write(tmp.path(), "t.yaml", WASH), tmp.path(), &["--summary", "s.json"]);
    assert!(o.status.success(), "{}", said(&o));
    let out = std::fs::read_to_string(tmp.path().join("out.jsonl")).expect("out");
    assert_eq!(lines(&out), (0..300).map(good).collect::<Vec<_>>());

    let dead = std::fs::read_to_string(tmp.path().join("dead.jsonl")).expect("dead letters");
    let dead: Vec<Value> = dead.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let bodies: Vec<Vec<u8>> = dead
        .iter()
        .map(|d| match d["encoding"].as_str() {
            Some("base64") => decode(d["body"].as_str().expect("body")),
            _ => d["body"].as_str().expect("body").as_bytes().to_vec(),
        })
        .collect();
    let mut want = bad.clone();
    want.push(long[..64 << 10].to_vec());
    want.push(b"{\"id\":7,\"at\":17000".to_vec());
    let sort = |mut v: Vec<Vec<u8>>| {
        v.sort();
        v
    };
    assert_eq!(sort(bodies), sort(want));
    let big = dead.iter().find(|d| d["length"] == long.len()).expect("the long line with its full length");
    assert_eq!(big["reason"], "record-too-long");
    for d in &dead {
        let at = d["offset"].as_u64().expect("offset") as usize;
        assert!(at == 0 || input[at - 1] == b'\n', "{d} does not say where its line starts");
        assert!(d["reason"].is_string() && d["message"].is_string() && d["part"].is_string() && d["hash"].is_string());
    }
}

fn decode(base64: &str) -> Vec<u8> {
    let digit = |c: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|x| *x == c).map(|i| i as u32);
    let mut out = vec![];
    for chunk in base64.as_bytes().chunks(4) {
        let digits: Vec<u32> = chunk.iter().filter_map(|c| digit(*c)).collect();
        let word = digits.iter().fold(0, |w, d| w << 6 | d) << (6 * (4 - digits.len()));
        out.extend_from_slice(&word.to_be_bytes()[1..digits.len()]);
    }
    out
}

/// What is missing is said in one sentence before anything is read, and nothing is written.
#[test]
fn missing_things_are_said_at_the_start() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let o = run(&write(tmp.path(), "t.yaml", WASH), tmp.path(), &[]);
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(text(&o.stderr).contains("input.txt"), "{}", said(&o));
    assert!(!tmp.path().join("out.jsonl").exists());

    let kafka = WASH.replace("{type: File, config: {path: input.txt}}", "{type: Kafka, config: {brokers: \"127.0.0.1:1\", topics: [t]}}");
    let o = run(&write(tmp.path(), "t.yaml", &kafka), tmp.path(), &[]);
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(text(&o.stderr).contains("127.0.0.1:1"), "{}", said(&o));
}
