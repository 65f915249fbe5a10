use crate::testing::{Harness, Job, Setup, schema};
use millrace_sdk::operator::{StoreInfo, TimeCharacteristic};
use millrace_sdk::{Edge, Fault, Problem};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

const LEFT: &[(&str, &str)] = &[("k", "string"), ("l", "bigint")];
const RIGHT: &[(&str, &str)] = &[("k", "string"), ("r", "bigint"), ("at", "bigint")];
const RETRY: &[(&str, &str)] = &[("k", "string"), ("l", "bigint"), ("_attempts", "bigint"), ("_first_seen", "timestamp")];

fn config(more: Json) -> Json {
    let mut config = json!({"keys": ["k"], "lower": "-10ms", "upper": "5ms", "right_fields": ["r"], "unmatched": "port"});
    config.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    config
}

fn setup(more: Json) -> Setup {
    let mut s = Setup::new("IntervalLeftJoin", config(more), vec![Edge::new(schema(LEFT)), Edge::new(schema(RIGHT))]);
    s.stores.push(StoreInfo { name: "old".into(), key: Some("{{k}}/{{l}}".into()) });
    s.stores.push(StoreInfo { name: "keyless".into(), key: None });
    s
}

fn left(h: &mut Harness, k: &str, id: i64, ms: i64, late: bool) {
    let mut row = json!({"k": k, "l": id, "@time": ms * 1000});
    if late {
        row["@late"] = true.into();
    }
    h.row(0, row);
}

fn right(h: &mut Harness, k: &str, id: i64, ms: i64, late: bool) {
    let mut row = json!({"k": k, "r": id, "at": ms, "@time": ms * 1000, "@offset": id});
    if late {
        row["@late"] = true.into();
    }
    h.row(1, row);
}

/// (l, r) of the joined rows, sorted.
fn pairs(h: &Harness) -> Vec<(i64, Option<i64>)> {
    let mut found: Vec<_> = h.out().port("").into_iter().map(|p| (p["l"].as_i64().expect("l"), p["r"].as_i64())).collect();
    found.sort();
    found
}

fn ids(h: &Harness, port: &str, field: &str) -> Vec<i64> {
    let mut found: Vec<_> = h.out().port(port).into_iter().map(|p| p[field].as_i64().expect("an id")).collect();
    found.sort();
    found
}

fn conserved(h: &Harness) {
    let c = |name| h.out().count(name);
    let rejected = h.out().reasons().iter().filter(|r| **r == "store-unavailable").count() as u64;
    assert_eq!(c("left"), c("matched") + c("by_fallback") + c("unmatched") + rejected, "{:?}", h.out().counts);
    assert_eq!(c("retried"), c("retried_by_fallback") + c("retried_unmatched"));
}

fn empty(h: &Harness) {
    assert_eq!((h.keys(), h.holds(), h.timers()), (0, 0, 0), "nothing is left behind");
}

#[test]
fn both_ends_of_the_interval_belong_to_it() {
    for matches in ["all", "first", "latest"] {
        for left_first in [true, false] {
            for (ms, joins) in [(89, false), (90, true), (100, true), (105, true), (106, false)] {
                let mut h = Harness::new(&setup(json!({ "matches": matches })));
                if left_first {
                    left(&mut h, "a", 1, 100, false);
                }
                right(&mut h, "a", 7, ms, false);
                right(&mut h, "b", 8, 100, false);
                if !left_first {
                    left(&mut h, "a", 1, 100, false);
                }
                h.end();
                assert_eq!(pairs(&h), if joins { vec![(1, Some(7))] } else { vec![] }, "{matches} {ms}");
                assert_eq!(ids(&h, "unmatched", "l"), if joins { vec![] } else { vec![1] }, "{matches} {ms}");
                conserved(&h);
                empty(&h);
            }
        }
    }
}

#[test]
fn null_equals_nothing() {
    for (matches, key) in ["all", "first", "latest"].into_iter().flat_map(|m| [(m, json!({"k": null})), (m, json!({}))]) {
        for left_first in [true, false] {
            let mut h = Harness::new(&setup(json!({ "matches": matches })));
            let row = |more: Json| {
                let mut row = key.clone();
                row.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
                row
            };
            let rows = [(0, row(json!({"l": 1, "@time": 100_000}))), (1, row(json!({"r": 7, "at": 100, "@time": 100_000})))];
            for (input, row) in if left_first { rows.to_vec() } else { rows.into_iter().rev().collect() } {
                h.row(input, row);
            }
            empty(&h);
            h.row(1, row(json!({"r": 8, "at": 100, "@time": 100_000, "@late": true})));
            h.end();
            assert_eq!((pairs(&h), ids(&h, "unmatched", "l"), ids(&h, "late", "r")), (vec![], vec![1], vec![8]), "{matches} {left_first}");
            conserved(&h);
        }
    }
}

#[test]
fn which_pairs_become_rows() {
    for (matches, expect) in
        [("all", vec![(1, Some(7)), (1, Some(8)), (1, Some(9))]), ("first", vec![(1, Some(7))]), ("latest", vec![(1, Some(8))])]
    {
        for left_at in 0..4 {
            let mut h = Harness::new(&setup(json!({ "matches": matches })));
            for (i, (id, ms)) in [(7, 95), (8, 104), (9, 92)].into_iter().enumerate() {
                if i == left_at {
                    left(&mut h, "a", 1, 100, false);
                }
                right(&mut h, "a", id, ms, false);
            }
            if left_at == 3 {
                left(&mut h, "a", 1, 100, false);
            }
            h.end();
            assert_eq!(pairs(&h), expect, "{matches}, left row after {left_at}");
            conserved(&h);
            empty(&h);
        }
    }
}

#[test]
fn equal_times_of_latest_go_by_partition_and_offset() {
    for order in [[7, 8], [8, 7]] {
        let mut h = Harness::new(&setup(json!({"matches": "latest"})));
        left(&mut h, "a", 1, 100, false);
        order.iter().for_each(|id| right(&mut h, "a", *id, 100, false));
        h.end();
        assert_eq!(pairs(&h), [(1, Some(8))]);
    }
}

#[test]
fn what_becomes_of_unmatched_rows() {
    for (mode, joined, unmatched, dropped) in [("emit", vec![(1, None)], 0, 0), ("port", vec![], 1, 0), ("drop", vec![], 0, 1)] {
        let mut h = Harness::new(&setup(json!({ "unmatched": mode })));
        left(&mut h, "a", 1, 100, false);
        h.end();
        assert_eq!(pairs(&h), joined);
        assert_eq!(h.out().port("unmatched").len(), unmatched);
        assert_eq!(h.out().dropped("unmatched"), dropped);
        conserved(&h);
    }
}

#[test]
fn a_left_row_waits_for_the_right_watermark_and_holds_its_own() {
    let mut h = Harness::new(&setup(json!({})));
    left(&mut h, "a", 1, 100, false);
    h.watermark(0, 500_000);
    h.watermark(1, 104_999);
    assert!(h.out().rows.is_empty());
    assert_eq!(h.output_watermark(), 99_999);
    h.watermark(1, 105_000);
    assert_eq!(ids(&h, "unmatched", "l"), [1]);
    assert_eq!(h.output_watermark(), 105_000);
    assert!(h.out().emitted_late.is_empty());
    // The right side alone decides: the left one may lie behind.
    left(&mut h, "b", 3, 600, false);
    h.watermark(1, 700_000);
    assert_eq!(ids(&h, "unmatched", "l"), [1, 3]);
    assert_eq!(h.output_watermark(), 500_000);
    // The right side has passed its interval: no waiting.
    left(&mut h, "a", 2, 90, true);
    assert_eq!(ids(&h, "unmatched", "l"), [1, 2, 3]);
    empty(&h);
}

#[test]
fn a_right_row_stays_until_the_left_watermark_and_is_late_only_when_it_is() {
    let mut h = Harness::new(&setup(json!({})));
    right(&mut h, "a", 7, 100, false);
    h.watermark(1, 1_000_000);
    h.watermark(0, 109_999);
    left(&mut h, "a", 1, 110, false);
    assert_eq!(pairs(&h), [(1, Some(7))]);
    h.watermark(0, 110_000);
    assert_eq!(h.keys(), 0, "the left side has passed it");
    // On time for its own partition, but nobody wants it any more.
    right(&mut h, "a", 8, 100, false);
    assert_eq!((h.out().dropped("right_unmatched"), h.out().port("late").len()), (1, 0));
    right(&mut h, "a", 9, 100, true);
    assert_eq!(ids(&h, "late", "r"), [9]);
    // Late, but kept: a left row may still come.
    right(&mut h, "a", 10, 200, true);
    left(&mut h, "a", 2, 200, false);
    assert_eq!(pairs(&h), [(1, Some(7)), (2, Some(10))]);
    h.end();
    conserved(&h);
    empty(&h);
}

#[test]
fn a_side_far_ahead_makes_nothing_late() {
    let mut h = Harness::new(&setup(json!({})));
    for i in 0..50 {
        left(&mut h, "a", i, i * 10, false);
        h.watermark(0, i * 10_000 - 1);
    }
    for i in 0..50 {
        right(&mut h, "a", i, i * 10 + 6, false);
        h.watermark(1, (i * 10 + 6) * 1000 - 1);
    }
    h.end();
    assert!(h.out().port("late").is_empty());
    assert_eq!(pairs(&h).len(), 49);
    assert_eq!(ids(&h, "unmatched", "l"), [0]);
    conserved(&h);
    empty(&h);
}

#[test]
fn the_clock_decides_in_processing_time() {
    let mut s = setup(json!({}));
    s.env.time = TimeCharacteristic::ProcessingTime;
    let mut h = Harness::new(&s);
    h.now(100_000);
    h.row(1, json!({"k": "a", "r": 7}));
    h.now(110_000);
    h.row(0, json!({"k": "a", "l": 1}));
    h.row(0, json!({"k": "b", "l": 2}));
    h.now(111_000);
    h.row(0, json!({"k": "a", "l": 3}));
    h.now(115_000);
    h.row(1, json!({"k": "b", "r": 8}));
    h.now(117_000);
    assert_eq!(pairs(&h), [(1, Some(7)), (2, Some(8))]);
    assert_eq!(ids(&h, "unmatched", "l"), [3]);
    h.row(0, json!({"k": "c", "l": 4}));
    h.end();
    assert_eq!(ids(&h, "unmatched", "l"), [3, 4]);
    conserved(&h);
    assert_eq!((h.keys(), h.holds()), (0, 0));
}

#[test]
fn the_store_answers_for_what_has_no_partner() {
    let mut h = Harness::new(&setup(json!({"fallback": "old"})));
    for id in 1..=3 {
        left(&mut h, "a", id, 100, false);
    }
    left(&mut h, "b", 4, 100, false);
    right(&mut h, "b", 7, 100, false);
    h.watermark(0, 200_000);
    h.watermark(1, 200_000);
    assert_eq!(h.asked().iter().map(|a| a.store_key.as_str()).collect::<Vec<_>>(), ["a/1", "a/2", "a/3"]);
    assert_eq!(h.output_watermark(), 99_999, "pending questions hold the watermark");
    h.answer(1, Ok(Some(json!({"r": 70}))));
    h.answer(0, Ok(None));
    // A late right row still finds the one that is being asked for, and the answer then changes nothing.
    right(&mut h, "a", 8, 100, true);
    assert!(h.out().port("late").is_empty());
    h.answer(0, Ok(Some(json!({"r": 71}))));
    assert_eq!(pairs(&h), [(2, Some(70)), (3, Some(8)), (4, Some(7))]);
    assert_eq!(ids(&h, "unmatched", "l"), [1]);
    assert_eq!(h.output_watermark(), 200_000);
    let c = |name| h.out().count(name);
    assert_eq!([c("matched"), c("by_fallback"), c("unmatched"), c("lookups"), c("lookups_saved")], [2, 1, 1, 3, 2]);
    assert!(h.out().emitted_late.is_empty());
    conserved(&h);
    empty(&h);
}

#[test]
fn pending_rows_match_late_right_rows_in_every_mode() {
    for matches in ["all", "first", "latest"] {
        let mut h = Harness::new(&setup(json!({"fallback": "old", "matches": matches})));
        left(&mut h, "a", 1, 100, false);
        h.watermark(0, 200_000);
        h.watermark(1, 200_000);
        right(&mut h, "a", 8, 100, true);
        right(&mut h, "a", 9, 99, true);
        h.answer(0, Ok(Some(json!({"r": 71}))));
        let expect: &[_] = if matches == "all" { &[(1, Some(8)), (1, Some(9))] } else { &[(1, Some(8))] };
        assert_eq!(pairs(&h), expect, "{matches}");
        assert_eq!(h.out().port("late").len(), usize::from(matches == "first"), "its left row has gone");
        conserved(&h);
        empty(&h);
    }
}

#[test]
fn a_store_that_is_down() {
    for (mode, rejected) in [("dead_letter", 1), ("unmatched", 0)] {
        let mut h = Harness::new(&setup(json!({"fallback": "old", "on_store_error": mode})));
        left(&mut h, "a", 1, 100, false);
        h.end();
        h.answer(0, Err(Fault::down("the store is down")));
        assert_eq!(h.out().reasons(), vec!["store-unavailable"; rejected]);
        assert_eq!(ids(&h, "unmatched", "l").len(), 1 - rejected);
        conserved(&h);
        empty(&h);
    }
}

#[test]
fn an_answer_must_lie_in_the_interval_where_that_is_demanded() {
    let demand = json!({"fallback": "old", "check_interval": true, "right_time": {"field": "at", "format": "epoch_ms"}});
    for (at, taken) in [(json!(89), false), (json!(90), true), (json!(105), true), (json!(106), false), (Json::Null, false)] {
        let mut h = Harness::new(&setup(demand.clone()));
        left(&mut h, "a", 1, 100, false);
        h.end();
        h.answer(0, Ok(Some(json!({"r": 7, "at": at.as_i64().map(|n| n.to_string())}))));
        assert_eq!(pairs(&h).len(), usize::from(taken), "{at}");
        conserved(&h);
    }
}

#[test]
fn retried_rows_ask_the_store_only_and_are_counted_apart() {
    let mut s = setup(json!({"fallback": "old"}));
    s.inputs.push(Edge::new(schema(RETRY)));
    let mut h = Harness::new(&s);
    h.now(5_000_000);
    right(&mut h, "a", 7, 100, false);
    h.row(2, json!({"k": "a", "l": 1, "_attempts": 2, "_first_seen": 1234000, "@time": 100_000}));
    h.row(2, json!({"l": 2, "k": "a"}));
    assert_eq!(h.holds(), 0);
    assert!(pairs(&h).is_empty(), "the right side is not for them");
    h.answer(0, Ok(None));
    h.answer(0, Ok(Some(json!({"r": 70}))));
    assert_eq!(pairs(&h), [(2, Some(70))]);
    assert_eq!(h.out().lines("unmatched"), [r#"{"k":"a","l":1,"_attempts":2,"_first_seen":1234000}"#]);
    left(&mut h, "a", 3, 500, false);
    h.end();
    h.answer(0, Ok(None));
    assert_eq!(h.out().lines("unmatched")[1], r#"{"k":"a","l":3,"_attempts":0,"_first_seen":5000000}"#);
    conserved(&h);
    empty(&h);
}

#[test]
fn retries_in_state() {
    let mut h = Harness::new(&setup(json!({"fallback": "old", "retry": {"delay": "1m", "max_attempts": 2}})));
    left(&mut h, "a", 1, 100, false);
    left(&mut h, "b", 2, 100, false);
    h.watermark(0, 200_000);
    h.watermark(1, 200_000);
    for _ in 0..2 {
        h.answer(0, Ok(None));
    }
    assert_eq!(h.output_watermark(), 200_000, "rows that are retried hold nothing");
    h.now(59_999_999);
    assert!(h.asked().is_empty());
    h.now(60_000_000);
    assert_eq!(h.asked().len(), 2);
    h.answer(0, Ok(Some(json!({"r": 70}))));
    h.answer(0, Ok(None));
    h.now(120_000_000);
    h.answer(0, Ok(None));
    assert_eq!(pairs(&h).len(), 1);
    assert_eq!(h.out().port("unmatched").len(), 1, "after two attempts");
    assert_eq!(h.out().port("unmatched")[0]["_attempts"], 2);
    // At the end nothing waits for its delay.
    left(&mut h, "c", 3, 300, false);
    h.watermark(0, 1_000_000);
    h.watermark(1, 1_000_000);
    h.answer(0, Ok(None));
    h.end();
    h.answer(0, Ok(Some(json!({"r": 71}))));
    assert_eq!(h.out().count("by_fallback"), 2);
    conserved(&h);
    assert_eq!((h.keys(), h.holds()), (0, 0));
}

#[test]
fn an_open_left_row_keeps_its_tail_last() {
    let mut s = setup(json!({}));
    s.inputs[0] = Edge::new(schema(&[("k", "string"), ("l", "bigint"), ("...", "json")]));
    let outputs = s.bind().expect("it binds").1.outputs;
    let names: Vec<_> = outputs[0].schema.names().collect();
    assert_eq!(names, ["k", "l", "r", "_rest"]);
    assert!(outputs[0].schema.tail().is_some());
}

#[test]
fn problems() {
    let ids = |more| setup(more).bind().err().unwrap_or_default().iter().map(|p: &Problem| p.id).collect::<Vec<_>>();
    assert_eq!(ids(json!({})), Vec::<&str>::new());
    assert_eq!(ids(json!({"lower": "10ms"})), ["empty-interval"]);
    assert_eq!(ids(json!({"keys": ["zz"]})), ["unknown-field"]);
    assert_eq!(ids(json!({"keys": {"left": ["k"], "right": ["k", "r"]}})), ["keys-differ"]);
    assert_eq!(ids(json!({"keys": {"left": ["l"], "right": ["k"]}})), ["keys-differ"]);
    assert_eq!(ids(json!({"right_fields": ["k"]})), ["field-clash"]);
    assert_eq!(ids(json!({"right_fields": {"x": "zz"}})), ["unknown-field"]);
    assert_eq!(ids(json!({"fallback": "odl"})), ["unknown-store"]);
    assert_eq!(ids(json!({"fallback": "keyless"})), ["store-without-key"]);
    assert_eq!(ids(json!({"check_interval": true})), ["without-fallback"]);
    assert_eq!(ids(json!({"retry": {"delay": "1m", "max_attempts": 1}})), ["without-fallback"]);
    assert_eq!(Job::problems("IntervalLeftJoin", json!({"keys": ["k"]}), LEFT)[0].id, "invalid-config");
}

/// A step of a random run: a row of either side with its time, or nothing but a watermark.
#[derive(Debug, Clone)]
struct Move {
    right: bool,
    key: u8,
    ahead: i64,
    behind: i64,
    mark: bool,
    answers: usize,
}

fn moves(disorder: i64) -> impl Strategy<Value = Vec<Move>> {
    let one = (any::<bool>(), 0..3u8, 0..6i64, 0..=disorder, any::<bool>(), 0..3usize)
        .prop_map(|(right, key, ahead, behind, mark, answers)| Move { right, key, ahead, behind, mark, answers });
    prop::collection::vec(one, 1..100)
}

/// All that came in, in order of arrival.
#[derive(Default, Debug)]
struct Seen {
    left: Vec<(u8, i64)>,
    right: Vec<(u8, i64)>,
    late_right: BTreeSet<usize>,
}

impl Seen {
    /// For each left row, the right rows of its interval: by definition, each with each.
    fn partners(&self, lower: i64, upper: i64) -> Vec<Vec<usize>> {
        let fits = |(k, t): (u8, i64), r: (u8, i64)| r.0 == k && t + lower <= r.1 && r.1 <= t + upper;
        self.left.iter().map(|l| (0..self.right.len()).filter(|r| fits(*l, self.right[*r])).collect()).collect()
    }
}

/// Plays the moves; the watermarks say that nothing is more than `bound` behind its side's greatest time. The store has every
/// third left row.
fn play(moves: &[Move], bound: i64, config: Json) -> (Harness, Seen) {
    let mut h = Harness::new(&setup(config));
    let mut seen = Seen::default();
    let (mut clocks, mut marks) = ([0i64; 2], [i64::MIN; 2]);
    let answer = |h: &mut Harness, at: usize| {
        let id: i64 = h.asked()[at].store_key.rsplit('/').next().and_then(|n| n.parse().ok()).expect("the left row's id");
        h.answer(at, Ok((id % 3 == 0).then(|| json!({"r": 1000 + id}))));
    };
    for m in moves {
        let side = usize::from(m.right);
        clocks[side] += m.ahead;
        let time = clocks[side] - m.behind;
        let late = time <= marks[side];
        let key = m.key.to_string();
        if m.right {
            if late {
                seen.late_right.insert(seen.right.len());
            }
            right(&mut h, &key, seen.right.len() as i64, time, late);
            seen.right.push((m.key, time));
        } else {
            left(&mut h, &key, seen.left.len() as i64, time, late);
            seen.left.push((m.key, time));
        }
        if m.mark {
            marks[side] = marks[side].max(clocks[side] - bound - 1);
            h.watermark(side, marks[side] * 1000);
        }
        for i in 0..m.answers.min(h.asked().len()) {
            let at = (i * 7 + m.key as usize) % h.asked().len();
            answer(&mut h, at);
        }
    }
    h.end();
    while !h.asked().is_empty() {
        answer(&mut h, 0);
    }
    (h, seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_definition_within_the_bound(
        moves in moves(8),
        lower in -12..6i64,
        length in 0..15i64,
        matches in prop::sample::select(vec!["all", "first", "latest"]),
        store in any::<bool>(),
    ) {
        let upper = lower + length;
        let mut more = json!({"lower": format!("{lower}ms"), "upper": format!("{upper}ms"), "matches": matches});
        if store {
            more["fallback"] = "old".into();
        }
        let (h, seen) = play(&moves, 8, more);
        let mut joined = vec![];
        let mut unmatched = vec![];
        for (l, partners) in seen.partners(lower, upper).iter().enumerate() {
            let l = l as i64;
            match matches {
                _ if partners.is_empty() && store && l % 3 == 0 => joined.push((l, Some(1000 + l))),
                _ if partners.is_empty() => unmatched.push(l),
                "all" => joined.extend(partners.iter().map(|r| (l, Some(*r as i64)))),
                // Rows are numbered as they arrive.
                "first" => joined.push((l, partners.iter().min().map(|r| *r as i64))),
                _ => joined.push((l, partners.iter().max_by_key(|r| (seen.right[**r].1, **r)).map(|r| *r as i64))),
            }
        }
        joined.sort();
        prop_assert_eq!(pairs(&h), joined);
        prop_assert_eq!(ids(&h, "unmatched", "l"), unmatched);
        prop_assert!(h.out().port("late").is_empty());
        prop_assert!(h.out().emitted_late.is_empty());
        for (_, row, meta) in h.out().rows.iter() {
            prop_assert_eq!(meta.time, seen.left[row["l"].as_u64().expect("l") as usize].1 * 1000, "the event time is the left row's");
        }
        conserved(&h);
        empty(&h);
    }

    #[test]
    fn loses_nothing_beyond_the_bound(
        moves in moves(60),
        matches in prop::sample::select(vec!["all", "first", "latest"]),
        store in any::<bool>(),
    ) {
        let more = if store { json!({"matches": matches, "fallback": "old"}) } else { json!({ "matches": matches }) };
        let (h, seen) = play(&moves, 5, more);
        let partners = seen.partners(-10, 5);
        let mut rows: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (l, r) in pairs(&h) {
            rows.entry(l).or_default().push(r.expect("a partner"));
        }
        let unmatched = ids(&h, "unmatched", "l");
        for l in 0..seen.left.len() as i64 {
            let times = unmatched.iter().filter(|u| **u == l).count();
            match rows.get(&l) {
                None => prop_assert_eq!(times, 1),
                Some(found) => {
                    prop_assert_eq!(times, 0);
                    let real = |r: &i64| *r == 1000 + l || partners[l as usize].contains(&(*r as usize));
                    prop_assert!(found.iter().all(real), "only pairs that are some");
                    prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "each pair once");
                    prop_assert!(matches == "all" || found.len() == 1);
                }
            }
        }
        let late = ids(&h, "late", "r");
        let joined: BTreeSet<i64> = rows.values().flatten().copied().collect();
        for r in late {
            prop_assert!(seen.late_right.contains(&(r as usize)), "only late right rows are late");
            prop_assert!(!joined.contains(&r), "what matched is not late");
        }
        conserved(&h);
        empty(&h);
    }
}

#[test]
fn a_row_with_null_in_its_store_key_is_unmatched_unasked() {
    let mut h = Harness::new(&setup(json!({"fallback": "old"})));
    h.row(0, json!({"k": "a", "l": null, "@time": 100_000}));
    h.row(0, json!({"k": "a", "@time": 100_000}));
    left(&mut h, "a", 3, 100, false);
    h.watermark(0, 200_000);
    h.watermark(1, 200_000);
    assert_eq!(h.asked().iter().map(|a| a.store_key.as_str()).collect::<Vec<_>>(), ["a/3"]);
    assert_eq!(h.out().port("unmatched").len(), 2);
    h.answer(0, Ok(Some(json!({"r": 70}))));
    let c = |name| h.out().count(name);
    assert_eq!([c("without_store_key"), c("unmatched"), c("by_fallback"), c("lookups")], [2, 2, 1, 1]);
    conserved(&h);
    empty(&h);
}
