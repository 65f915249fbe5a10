use crate::testing::{Harness, Job, Out, Setup, schema};
use millrace_sdk::Edge;
use millrace_sdk::operator::TimeCharacteristic;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const FIELDS: &[(&str, &str)] = &[("k", "string"), ("n", "bigint")];

fn setup(config: Json) -> Setup {
    Setup::new("CountWindowWithTimeOut", config, vec![Edge { schema: schema(FIELDS), key: Some(vec!["k".into()]) }])
}

/// Feeds (key, time in ms) with the row's number as `n`, then ends the input.
fn run(config: Json, rows: &[(&str, i64)]) -> Out {
    let mut h = Harness::new(&setup(config));
    for (n, (k, ms)) in rows.iter().enumerate() {
        h.row(0, json!({"k": k, "n": n, "@time": ms * 1000}));
    }
    h.end();
    assert_eq!((h.keys(), h.holds(), h.timers()), (0, 0, 0), "nothing is left behind");
    h.into_out()
}

impl Out {
    /// (start, last, why, numbers of the rows).
    fn windows(&self) -> Vec<(i64, i64, String, Vec<i64>)> {
        self.port("").into_iter().map(window).collect()
    }
}

fn window(row: &Json) -> (i64, i64, String, Vec<i64>) {
    let numbers = row["rows"].as_array().expect("rows").iter().map(|r| r["n"].as_i64().expect("n")).collect();
    let int = |f: &str| row[f].as_i64().expect("a number");
    (int("window_start"), int("window_last"), row["why"].as_str().expect("why").into(), numbers)
}

#[test]
fn the_state_says_what_its_bytes_depend_on() {
    for (config, want) in [
        (json!({"count": 3, "timeout": "5s"}), "k string, rows"),
        (json!({"count": 3, "timeout": "9s", "max_bytes": "1KB"}), "k string, rows"),
        (
            json!({"count": 3, "timeout": "5s", "aggregates": {"n": "COUNT(*)", "s": "SUM(n)"}}),
            "k string, n bigint = COUNT(*), s bigint = SUM(n)",
        ),
    ] {
        let (_, bound) = setup(config).bind().unwrap_or_else(|p| panic!("{p:?}"));
        let millrace_sdk::Exec::Keyed(keyed) = bound.exec else { panic!("not keyed") };
        assert_eq!(keyed.states[0].layout, want);
    }
}

#[test]
fn by_count_by_timeout_and_at_the_end() {
    let config = json!({"count": 3, "timeout": "5s"});
    for (rows, expect) in [
        (vec![("a", 0)], vec![(0, 0, "timeout", vec![0])]),
        (vec![("a", 0), ("a", 1), ("a", 2)], vec![(0, 2, "count", vec![0, 1, 2])]),
        // The end of the timeout belongs to the window, the next millisecond does not.
        (vec![("a", 0), ("a", 5000)], vec![(0, 5000, "timeout", vec![0, 1])]),
        (vec![("a", 0), ("a", 5001)], vec![(0, 0, "timeout", vec![0]), (5001, 5001, "timeout", vec![1])]),
        // An earlier row joins, and `window_last` is the time of the row that came last.
        (vec![("a", 100), ("a", 50)], vec![(100, 50, "timeout", vec![0, 1])]),
        // After the Nth row the next opens a window of its own.
        (vec![("a", 0), ("a", 1), ("a", 2), ("a", 3)], vec![(0, 2, "count", vec![0, 1, 2]), (3, 3, "timeout", vec![3])]),
        (vec![("a", -3), ("a", -1)], vec![(-3, -1, "timeout", vec![0, 1])]),
    ] {
        let expect: Vec<_> = expect.into_iter().map(|(s, l, w, n)| (s, l, w.to_string(), n)).collect();
        assert_eq!(run(config.clone(), &rows).windows(), expect, "{rows:?}");
    }
}

#[test]
fn keys_have_windows_of_their_own_and_one_row_fills_a_window_of_one() {
    let out = run(json!({"count": 1, "timeout": "1s"}), &[("a", 0), ("b", 0), ("a", 1)]);
    assert_eq!(out.column("", "k").to_string(), r#"["a","b","a"]"#);
    assert_eq!(out.count("closed_by_count"), 3);
}

#[test]
fn the_watermark_closes_and_holds() {
    let mut h = Harness::new(&setup(json!({"count": 9, "timeout": "5s"})));
    h.row(0, json!({"k": "a", "n": 0, "@time": 10_000_000}));
    h.watermark(0, 14_999_999);
    assert_eq!(h.out().rows.len(), 0);
    assert_eq!(h.output_watermark(), 9_999_999, "held below the open window");
    h.watermark(0, 15_000_000);
    assert_eq!(h.out().rows.len(), 1);
    assert_eq!(h.out().rows[0].2.time, 10_000_000);
    assert_eq!(h.output_watermark(), 15_000_000);
    assert!(h.out().emitted_late.is_empty());
}

#[test]
fn late_rows_leave_by_late_and_touch_nothing() {
    let mut h = Harness::new(&setup(json!({"count": 2, "timeout": "5s"})));
    h.row(0, json!({"k": "a", "n": 0, "@time": 0}));
    h.row(0, json!({"k": "a", "n": 1, "@time": 1, "@late": true}));
    h.end();
    assert_eq!(h.out().windows(), [(0, 0, "timeout".to_string(), vec![0])]);
    assert_eq!(h.out().column("late", "n").to_string(), "[1]");
}

#[test]
fn processing_time_goes_by_the_clock() {
    let mut s = setup(json!({"count": 9, "timeout": "5s"}));
    s.env.time = TimeCharacteristic::ProcessingTime;
    let mut h = Harness::new(&s);
    h.now(1_000_000);
    h.row(0, json!({"k": "a", "n": 0, "@late": true}));
    h.now(3_000_000);
    h.row(0, json!({"k": "a", "n": 1}));
    h.now(6_000_000);
    assert_eq!(h.out().windows(), [(1000, 3000, "timeout".to_string(), vec![0, 1])]);
    h.row(0, json!({"k": "a", "n": 2}));
    h.end();
    assert_eq!(h.out().windows().last(), Some(&(6000, 6000, "timeout".to_string(), vec![2])));
    assert_eq!((h.keys(), h.holds(), h.timers()), (0, 0, 0));
}

#[test]
fn a_list_that_grows_too_long_closes() {
    let out = run(json!({"count": 100, "timeout": "5s", "max_bytes": "30B"}), &[("a", 0), ("a", 1), ("a", 2)]);
    assert_eq!(out.windows().iter().map(|w| (w.2.as_str(), w.3.len())).collect::<Vec<_>>(), [("size", 2), ("timeout", 1)]);
}

#[test]
fn aggregates() {
    let config = json!({"count": 2, "timeout": "5s", "aggregates": {"n": "count(*)", "sum": "sum(n)", "mean": "sum(n) / count(*)"}});
    let out = run(config, &[("a", 0), ("a", 1), ("a", 2)]);
    let first = r#"{"k":"a","window_start":0,"window_last":1,"why":"count","n":2,"sum":1,"mean":"#;
    assert!(out.lines("")[0].starts_with(first), "{}", out.lines("")[0]);
    assert_eq!(out.column("", "n").to_string(), "[2,1]");
    assert_eq!(out.column("", "sum").to_string(), "[1,2]");
}

#[test]
fn problems() {
    let ids = |config| Job::problems("CountWindowWithTimeOut", config, FIELDS).iter().map(|p| p.id).collect::<Vec<_>>();
    assert_eq!(ids(json!({"count": 2, "timeout": "5s"})), ["window-without-key"]);
    assert_eq!(ids(json!({"count": 0, "timeout": "0s"})), ["out-of-range", "out-of-range", "window-without-key"]);
    assert_eq!(ids(json!({})), ["invalid-config"]);
    let clash = setup(json!({"count": 2, "timeout": "5s", "rows": "k"})).bind().err().expect("a problem");
    assert_eq!(clash[0].id, "field-clash");
}

/// The definition of language.md, key by key, on whole inputs.
fn by_definition(rows: &[i64], count: usize, timeout: i64) -> Vec<(i64, i64, String, Vec<i64>)> {
    let mut windows = vec![];
    let mut rest: Vec<(i64, i64)> = rows.iter().enumerate().map(|(n, t)| (n as i64, *t)).collect();
    while !rest.is_empty() {
        let start = rest[0].1;
        let len = rest.iter().take(count).take_while(|(_, t)| *t <= start + timeout).count();
        let members: Vec<(i64, i64)> = rest.drain(..len).collect();
        let why = if len == count { "count" } else { "timeout" };
        windows.push((start, members[len - 1].1, why.to_string(), members.iter().map(|m| m.0).collect()));
    }
    windows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// Whatever the watermark does below the bound of disorder, the windows are those of the definition.
    #[test]
    fn equals_the_definition(
        steps in prop::collection::vec((0..3usize, 0..40i64, 0..30i64, 0..4u8), 1..120),
        count in 1..6usize,
        timeout in 1..60i64,
    ) {
        let bound = 30;
        let mut h = Harness::new(&setup(json!({"count": count, "timeout": format!("{timeout}ms")})));
        let mut rows: Vec<Vec<i64>> = vec![vec![]; 3];
        let (mut clock, mut newest) = (0, i64::MIN);
        for (key, ahead, behind, push) in steps {
            clock += ahead;
            let time = clock - behind;
            newest = newest.max(time);
            h.row(0, json!({"k": key.to_string(), "n": rows[key].len(), "@time": time * 1000}));
            rows[key].push(time);
            // The disorder is `bound` at most below the newest clock: the watermark may come right up to that.
            if push == 0 {
                h.watermark(0, (clock - bound) * 1000 - 1);
            }
        }
        h.end();
        for (key, rows) in rows.iter().enumerate() {
            let got: Vec<_> = h.out().port("").into_iter().filter(|r| r["k"] == key.to_string()).map(window).collect();
            prop_assert_eq!(got, by_definition(rows, count, timeout));
        }
        prop_assert!(h.out().emitted_late.is_empty());
        prop_assert_eq!((h.keys(), h.holds(), h.timers()), (0, 0, 0));
    }
}
