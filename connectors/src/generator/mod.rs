//! Made-up logs: the same seed gives the same records.

mod ads;
mod nexmark;
mod random;
mod web;

use crate::counted::{Counted, Records};
use jiff::Timestamp;
use millrace_sdk::config::Duration;
use millrace_sdk::{
    BatchBuilder, Bind, Demand, Fault, Field, Part, Place, Problem, Schema, SchemaRef, Source, SourceContext, SourceFactory, SourceSpec,
    Span, Type,
};
use random::Random;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Makes log records: ad exposures and clicks that belong together, web access lines, or the Nexmark auction events.
///
/// A record is a function of `seed`, `profile` and its number alone, so runs are repeatable and any position can be read again.
/// Record number i has the event time `start_time + i / event_rate`, less a random part of `disorder`; numbers are dealt to the
/// partitions in turn. Each record is one text in the field `_value`.
///
/// | profile | record |
/// | --- | --- |
/// | `ad_exposures` | JSON: `ts` (epoch ms), `uid`, `mid` (the ad), `pos`, `src`, `client` (`os`, `version`, `net`), `ext` (`key=value` pairs divided by a bar), `ip`, `price` |
/// | `ad_clicks` | text divided by tabs: uid, mid, os, ts (epoch ms), price |
/// | `web_access` | a line in the combined log format with the response time behind it |
/// | `nexmark` | JSON: `event_type` (0 person, 1 auction, 2 bid) and an object `person`, `auction` or `bid`, 1 : 3 : 46 |
///
/// Clicks and exposures of the same `seed`, `event_rate` and `disorder` belong together: about 62 % of the clicks come 0 to 8 s (give
/// or take the disorder) after an exposure of the same `uid` and `mid`; half of the others name an exposure with a number from -20000
/// to -1, which is before the stream (`first: -20000, count: 20000` makes those), and half were never exposed.
///
/// Of the records `malformed` is the share that is broken: cut, garbage, a time that is no number, or bytes that are not UTF-8.
///
/// Guarantee: every position can be read again.
///
/// # Example
/// ```yaml
/// name: some-clicks
/// streams:
///   clicks:
///     config:
///       source: {type: Generator, config: {profile: ad_clicks, seed: 7, count: 2}}
///       operates:
///         - type: StringToMap
///           config: {format: delimiter, delimiter: "\t", fields: {uid: string, mid: string, os: string, ts: bigint, price: "decimal(18,2)"}}
/// sink:
///   - {type: Stdout, config: {format: json}}
/// ```
/// ```json
/// {"uid":"u9044730","mid":"5012345678900021","os":"iOS","ts":1767225599236,"price":4.85}
/// {"uid":"u1055072","mid":"5012345678902037","os":"iOS","ts":1767225599912,"price":3.83}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// What the records look like.
    profile: Profile,
    /// Chooses the records. Default 1.
    #[serde(default = "one")]
    seed: u64,
    /// Number of the first record; may be negative. Default 0.
    #[serde(default)]
    first: i64,
    /// Records in all, over all partitions. Default: without end.
    count: Option<u64>,
    /// Ends when this much event time has passed: `duration * event_rate` records.
    duration: Option<Duration>,
    /// Records a second of running time, over all partitions. Default: as fast as they are taken.
    rate: Option<f64>,
    /// Records a second of event time. Default 1000.
    #[serde(default = "thousand")]
    event_rate: f64,
    /// Event time of record 0, ISO 8601 with an offset. Default 2026-01-01T00:00:00Z.
    #[serde(default = "new_year")]
    start_time: String,
    /// An event time is at most this much before that of an earlier record. Default 1s.
    #[serde(default = "second")]
    disorder: Duration,
    /// Share of broken records, 0 to 1. Default 0.
    #[serde(default)]
    malformed: f64,
    /// Partitions, 1 to 1024. Default 1.
    #[serde(default = "one_partition")]
    partitions: u32,
}

/// What a generator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Profile {
    /// Ads that were shown, JSON.
    AdExposures,
    /// Clicks on them, text divided by tabs.
    AdClicks,
    /// Lines of a web server's log.
    WebAccess,
    /// Persons, auctions and bids of the Nexmark benchmark, JSON.
    Nexmark,
}

fn one() -> u64 {
    1
}
fn one_partition() -> u32 {
    1
}
fn thousand() -> f64 {
    1000.0
}
fn new_year() -> String {
    "2026-01-01T00:00:00Z".into()
}
fn second() -> Duration {
    Duration::secs(1)
}

millrace_sdk::inventory::submit! { Part::source::<Generator>("Generator", &[]) }

impl Generator {
    fn plan(&self) -> Result<Plan, Vec<Problem>> {
        let mut problems = vec![];
        let mut wrong = |key: &str, what: &str| problems.push(Problem::error("out-of-range", Place::at([key]), format!("`{key}` {what}")));
        if self.rate.is_some_and(|r| !(r > 0.0 && r <= 1e9)) {
            wrong("rate", "is a number of records a second, above 0");
        }
        if !(self.event_rate > 0.0 && self.event_rate <= 1e6) {
            wrong("event_rate", "is a number of records a second, above 0 and at most 1000000");
        }
        if !(0.0..=1.0).contains(&self.malformed) {
            wrong("malformed", "is a share, 0 to 1");
        }
        if !(1..=1024).contains(&self.partitions) {
            wrong("partitions", "is a number from 1 to 1024");
        }
        if self.disorder.micros < 0 {
            wrong("disorder", "cannot be negative");
        }
        if self.duration.is_some_and(|d| d.micros <= 0) {
            wrong("duration", "must be above 0");
        }
        let start = match self.start_time.parse::<Timestamp>() {
            Ok(t) => t.as_microsecond(),
            Err(_) => {
                let what = format!("`{}` is no time with an offset", self.start_time);
                problems.push(Problem::error("invalid-time", Place::at(["start_time"]), what).hint("write it like 2026-01-01T00:00:00Z"));
                0
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let by_time = self.duration.map(|d| (d.micros as f64 / 1e6 * self.event_rate).ceil() as u64);
        let count = match (self.count, by_time) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let world = World { seed: self.seed, start, step: 1e6 / self.event_rate, disorder: self.disorder.micros };
        Ok(Plan {
            world,
            profile: self.profile,
            first: self.first,
            count,
            rate: self.rate,
            // A 64-bit random number below this breaks its record.
            malformed: (self.malformed * u64::MAX as f64) as u64,
            partitions: self.partitions,
        })
    }
}

impl SourceSpec for Generator {
    fn bounded(&self) -> bool {
        self.count.is_some() || self.duration.is_some()
    }

    fn replayable(&self) -> bool {
        true
    }

    fn bind(&self, _: &Bind<'_>, _: &Demand) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let plan = self.plan()?;
        Ok((Schema::new(vec![Field::new("_value", Type::Bytes)]), Arc::new(Factory(Arc::new(plan)))))
    }
}

struct Factory(Arc<Plan>);

impl SourceFactory for Factory {
    fn open(&self, cx: SourceContext) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Counted::open(self.0.clone(), cx)))
    }
}

/// What profiles of one seed share.
#[derive(Clone, Copy)]
struct World {
    seed: u64,
    /// Event time of record 0, microseconds.
    start: i64,
    /// Event time from a record to the next, microseconds.
    step: f64,
    disorder: i64,
}

impl World {
    /// Random numbers of record `i` for a purpose.
    fn random(&self, purpose: u64, i: i64) -> Random {
        Random::new(self.seed, purpose, i)
    }

    /// Event time of record `i`, microseconds; `random` decides its share of the disorder.
    fn time(&self, i: i64, random: &mut Random) -> i64 {
        let back = if self.disorder > 0 { random.below(self.disorder as u64 + 1) as i64 } else { 0 };
        self.start.saturating_add((i as f64 * self.step) as i64).saturating_sub(back)
    }
}

struct Plan {
    world: World,
    profile: Profile,
    first: i64,
    count: Option<u64>,
    rate: Option<f64>,
    malformed: u64,
    partitions: u32,
}

impl Records for Plan {
    fn name(&self) -> &str {
        "generator"
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn len(&self, partition: u32) -> Option<u64> {
        let n = u64::from(self.partitions);
        self.count.map(|all| (all.saturating_add(n - 1 - u64::from(partition))) / n)
    }

    fn rate(&self) -> Option<f64> {
        self.rate
    }

    fn push(&self, partition: u32, offset: u64, rows: &mut BatchBuilder) -> Span {
        let i = self.first.wrapping_add((offset * u64::from(self.partitions) + u64::from(partition)) as i64);
        let begun = rows.begin_text();
        self.write(i, rows.text_mut());
        rows.end_bytes(begun);
        let len = rows.begin_text() - begun;
        // As after any line: parsers find their terminator.
        rows.text_mut().push(b'\n');
        Span { off: begun as u32, len: len as u32 }
    }
}

const BREAK: u64 = 99;

impl Plan {
    /// Appends record `i`.
    fn write(&self, i: i64, out: &mut Vec<u8>) {
        let begun = out.len();
        match self.profile {
            Profile::AdExposures => ads::exposure(&self.world, i, out),
            Profile::AdClicks => ads::click(&self.world, i, out),
            Profile::WebAccess => web::access(&self.world, i, out),
            Profile::Nexmark => nexmark::event(&self.world, i, out),
        }
        let mut random = self.world.random(BREAK, i);
        if self.malformed > 0 && random.next() <= self.malformed {
            let record = out.split_off(begun);
            out.extend_from_slice(&broken(&record, i, &mut random));
        }
    }
}

/// The record, spoilt in one of four ways.
fn broken(record: &[u8], i: i64, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        // The first third of a record of any profile is not yet a record.
        0 => record[..1 + random.below(record.len() as u64 / 3) as usize].to_vec(),
        1 => format!("kernel: [{i}] out of memory").into_bytes(),
        2 => {
            let at = random.below(record.len() as u64 / 3) as usize;
            [&record[..at], &[0xff, 0xfe], &record[at..]].concat()
        }
        _ => {
            // The event time is the first run of just 13 digits, of which all profiles but web_access and nexmark have one.
            let digit = |at: usize| record.get(at).is_some_and(u8::is_ascii_digit);
            let run = |at: &usize| !digit(at.wrapping_sub(1)) && (*at..at + 13).all(digit) && !digit(at + 13);
            match (0..record.len()).find(run) {
                Some(at) => [&record[..at], b"\"n/a\"", &record[at + 13..]].concat(),
                None => record.iter().copied().filter(|c| *c != b'"').collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counted::testing::{context, drain, poll};
    use millrace_sdk::operator::Env;
    use millrace_sdk::{Clock, Poll};

    fn bound(config: &str) -> Result<(SchemaRef, Arc<dyn SourceFactory>), Vec<Problem>> {
        let spec: Generator = serde_json::from_str(config).unwrap();
        spec.bind(&Bind { inputs: &[], demands: &[], env: &Env::default(), stores: &[] }, &Demand::all())
    }

    fn all(config: &str, partitions: u32) -> Vec<Vec<String>> {
        let (schema, factory) = bound(config).unwrap();
        let mut source = factory.open(context(0, 1, Clock::fixed(0))).unwrap();
        (0..partitions).map(|p| drain(&mut *source, p, &schema)).collect()
    }

    #[test]
    fn partitions_share_out_the_same_records() {
        for profile in ["ad_exposures", "ad_clicks", "web_access", "nexmark"] {
            let one = all(&format!(r#"{{"profile": "{profile}", "seed": 5, "count": 301}}"#), 1).remove(0);
            let three = all(&format!(r#"{{"profile": "{profile}", "seed": 5, "count": 301, "partitions": 3}}"#), 3);
            assert_eq!(three.iter().map(Vec::len).collect::<Vec<_>>(), [101, 100, 100]);
            assert!((0..301).all(|i| three[i % 3][i / 3] == one[i]), "{profile}");
            let tail = all(&format!(r#"{{"profile": "{profile}", "seed": 5, "first": 100, "duration": "201ms"}}"#), 1).remove(0);
            assert_eq!(tail, one[100..]);
            assert_ne!(one, all(&format!(r#"{{"profile": "{profile}", "seed": 6, "count": 301}}"#), 1)[0]);
        }
    }

    /// Recorded runs and the reference page rely on them.
    #[test]
    fn the_first_records_never_change() {
        let clicks = all(r#"{"profile": "ad_clicks", "seed": 7, "count": 2}"#, 1);
        assert_eq!(
            clicks[0],
            ["u9044730\t5012345678900021\tiOS\t1767225599236\t4.85", "u1055072\t5012345678902037\tiOS\t1767225599912\t3.83"]
        );
    }

    #[test]
    fn json_profiles_are_json_and_lines_have_their_form() {
        let nexmark = &all(r#"{"profile": "nexmark", "count": 5000}"#, 1)[0];
        let mut kinds = [0; 3];
        for line in nexmark {
            let v: serde_json::Value = serde_json::from_str(line).unwrap();
            kinds[v["event_type"].as_u64().unwrap() as usize] += 1;
        }
        assert_eq!(kinds, [100, 300, 4600]);
        for line in &all(r#"{"profile": "web_access", "count": 500}"#, 1)[0] {
            let quotes: Vec<&str> = line.split('"').collect();
            assert_eq!(quotes.len(), 7, "{line}");
            assert!(quotes[0].contains(" - - [01/Jan/2026:00:00:0") || quotes[0].contains("[31/Dec/2025:23:59:5"), "{line}");
            assert!(quotes[1].contains("?uid=1") && quotes[1].ends_with(" HTTP/1.1"), "{line}");
        }
    }

    #[test]
    fn about_the_share_asked_for_is_broken() {
        for profile in ["ad_exposures", "ad_clicks", "web_access", "nexmark"] {
            let whole = &all(&format!(r#"{{"profile": "{profile}", "count": 20000}}"#), 1)[0];
            let spoilt = &all(&format!(r#"{{"profile": "{profile}", "count": 20000, "malformed": 0.03}}"#), 1)[0];
            let differ = whole.iter().zip(spoilt).filter(|(a, b)| a != b);
            let n = differ
                .inspect(|(_, b)| match profile {
                    "ad_exposures" => {
                        assert!(serde_json::from_str::<serde_json::Value>(b).is_err() || b.contains("n/a") || b.contains('\u{fffd}'), "{b}")
                    }
                    "ad_clicks" => {
                        assert!(b.split('\t').nth(3).is_none_or(|ts| ts.parse::<i64>().is_err()) || b.contains('\u{fffd}'), "{b}")
                    }
                    _ => {}
                })
                .count();
            assert!((500..700).contains(&n), "{profile}: {n}");
        }
    }

    #[test]
    fn the_rate_follows_the_clock_and_a_seek_starts_it_anew() {
        let (schema, factory) = bound(r#"{"profile": "ad_clicks", "rate": 100, "count": 1000, "partitions": 2}"#).unwrap();
        let clock = Clock::fixed(50);
        let mut source = factory.open(context(0, 1, clock.clone())).unwrap();
        let take = |source: &mut dyn Source| poll(source, 0, &schema, 1000);
        let (state, batch, _) = take(&mut *source);
        assert_eq!((state, batch.len()), (Poll::Pending, 1));
        clock.set(50 + 1_000_000);
        assert_eq!(take(&mut *source).1.len(), 50);
        assert_eq!(take(&mut *source).1.len(), 0);
        clock.set(50 + 60_000_000);
        let (state, batch, _) = take(&mut *source);
        assert_eq!((state, batch.len()), (Poll::Ended, 449));
    }

    #[test]
    fn impossible_configs_are_said() {
        let config = r#"{"profile": "nexmark", "rate": 0, "event_rate": -1, "malformed": 2, "partitions": 0, "start_time": "yesterday"}"#;
        let ids: Vec<_> = bound(config).map(|_| ()).unwrap_err().iter().map(|p| p.place.path[0].clone()).collect();
        assert_eq!(ids, ["rate", "event_rate", "malformed", "partitions", "start_time"].map(Into::into));
    }
}
