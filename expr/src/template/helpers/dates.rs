//! Dates and times. A TIME is a timestamp, an integer of milliseconds since 1970 UTC, or ISO 8601 text. A ZONE is an IANA name like
//! `Asia/Shanghai`; without one it is the job's. Patterns are strftime's (`%Y-%m-%d %H:%M:%S`); `iso8601`, `epoch_ms` and `epoch_s`
//! are patterns too.

use super::cache::Cache;
use super::{Args, Done, Example, HelperDef, shown};
use crate::EvalError;
use jiff::civil::Weekday;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit, Zoned, ZonedRound};
use millrace_sdk::convert::{TimeFormat, TimeReader, iso8601, write_time};
use millrace_sdk::{Type, Val};
use std::rc::Rc;

const THEME: &str = "dates";

thread_local! {
    static READERS: Cache<TimeReader> = const { Cache::new() };
    static ZONES: Cache<TimeZone> = const { Cache::new() };
}

fn find_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("unknown time zone `{name}`: use an IANA name like `Asia/Shanghai`"))
}

/// The zone of argument `i`, or the job's.
fn zone(a: &Args<'_, '_>, i: usize) -> Result<Rc<TimeZone>, EvalError> {
    let given = a.some_text(i);
    let name = given.as_deref().unwrap_or(&a.cx.zone_name);
    ZONES.with(|z| z.get(name, "", || find_zone(name))).map_err(|e| a.fail("unknown-time-zone", e))
}

/// Microseconds since 1970 UTC; None for missing and null.
fn micros(a: &Args<'_, '_>, i: usize) -> Result<Option<i64>, EvalError> {
    let bad = |m: String| a.fail("not-a-time", m);
    let v = a.val(i);
    match v {
        Val::Missing | Val::Null => Ok(None),
        Val::Time(t) => Ok(Some(t)),
        Val::Str(t) if !t.trim_ascii().bytes().all(|c| c.is_ascii_digit() || c == b'-') || t.trim_ascii().is_empty() => {
            iso8601(t, &a.cx.zone).map(Some).map_err(|e| bad(e.0))
        }
        _ => match a.int(i) {
            Ok(Some(ms)) => ms.checked_mul(1000).map(Some).ok_or_else(|| bad(format!("{} is out of range", shown(v)))),
            _ => Err(bad(format!("{} is no time", shown(v)))),
        },
    }
}

fn zoned(a: &Args<'_, '_>, micros: i64, zone: &TimeZone) -> Result<Zoned, EvalError> {
    Timestamp::from_microsecond(micros).map(|t| t.to_zoned(zone.clone())).map_err(|_| a.fail("not-a-time", "the time is out of range"))
}

fn check_pattern(pattern: &str) -> Result<(), (&'static str, String)> {
    let bad = |e: String| ("invalid-pattern", e);
    TimeReader::new(&TimeFormat::parse(pattern).map_err(bad)?, "UTC").map(drop).map_err(bad)
}

fn check_zone(name: &str) -> Result<(), (&'static str, String)> {
    find_zone(name).map(drop).map_err(|e| ("unknown-time-zone", e))
}

/// Arguments 1 and 2: a pattern to read by, and a zone.
fn check_parse(index: usize, literal: &str) -> Result<(), (&'static str, String)> {
    match index {
        1 => check_pattern(literal),
        2 => check_zone(literal),
        _ => Ok(()),
    }
}

fn read(a: &Args<'_, '_>) -> Result<Option<i64>, EvalError> {
    if a.val(0).is_null() {
        return Ok(None);
    }
    let (pattern, given) = (a.text(1), a.some_text(2));
    let zone = given.as_deref().unwrap_or(&a.cx.zone_name);
    let reader = READERS
        .with(|r| r.get(&pattern, zone, || TimeReader::new(&TimeFormat::parse(&pattern)?, zone)))
        .map_err(|e| a.fail("invalid-pattern", e))?;
    reader.read(a.val(0)).map(Some).map_err(|e| a.fail("not-a-time", e.0))
}

inventory::submit!(
    HelperDef::new(
        "date_parse",
        THEME,
        "date_parse TEXT PATTERN [ZONE]",
        2..=3,
        Type::Timestamp,
        "The timestamp that TEXT, written by PATTERN, names; in ZONE where it has no offset of its own.",
        &[
            Example(r#"{{date_parse a "%d/%b/%Y:%H:%M:%S %z"}}"#, r#"{"a":"21/Nov/2026:08:00:00 +0800"}"#, "2026-11-21T00:00:00Z"),
            Example(r#"{{date_parse a "%Y-%m-%d %H:%M" "Asia/Shanghai"}}"#, r#"{"a":"2026-11-21 08:00"}"#, "2026-11-21T00:00:00Z"),
            Example(r#"{{default (date_parse a "%Y-%m-%d") "no date"}}"#, r#"{"a":"yesterday"}"#, "no date"),
        ],
        date_parse
    )
    .check(check_parse)
);
fn date_parse<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(read(a)?.map_or(Val::Null, Val::Time))
}

inventory::submit!(
    HelperDef::new(
        "to_epoch_ms",
        THEME,
        "to_epoch_ms TEXT PATTERN [ZONE]",
        2..=3,
        Type::Bigint,
        "As `date_parse`, in milliseconds since 1970 UTC.",
        &[Example(r#"{{to_epoch_ms a "%Y-%m-%d"}}"#, r#"{"a":"1970-01-02"}"#, "86400000")],
        to_epoch_ms
    )
    .check(check_parse)
);
fn to_epoch_ms<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(read(a)?.map_or(Val::Null, |t| Val::Int(t.div_euclid(1000))))
}

inventory::submit!(HelperDef::new(
    "epoch_ms",
    THEME,
    "epoch_ms TIME",
    1..=1,
    Type::Bigint,
    "Milliseconds since 1970 UTC.",
    &[Example("{{epoch_ms a}}", r#"{"a":"1970-01-01T00:00:01.5Z"}"#, "1500")],
    epoch_ms
));
fn epoch_ms<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(micros(a, 0)?.map_or(Val::Null, |t| Val::Int(t.div_euclid(1000))))
}

inventory::submit!(HelperDef::new(
    "epoch_s",
    THEME,
    "epoch_s TIME",
    1..=1,
    Type::Bigint,
    "Whole seconds since 1970 UTC.",
    &[Example("{{epoch_s a}}", r#"{"a":1763600000083}"#, "1763600000")],
    epoch_s
));
fn epoch_s<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(micros(a, 0)?.map_or(Val::Null, |t| Val::Int(t.div_euclid(1_000_000))))
}

fn from_epoch<'a>(a: &Args<'a, '_>, unit: i64) -> Done<'a> {
    let Some(n) = a.number(0)? else { return Ok(Val::Null) };
    let micros = match a.int(0) {
        Ok(Some(i)) => i.checked_mul(unit),
        _ => Some(n.float() * unit as f64).filter(|f| f.abs() < 9e18).map(|f| f.round() as i64),
    };
    match micros.filter(|m| Timestamp::from_microsecond(*m).is_ok()) {
        Some(m) => Ok(Val::Time(m)),
        None => Err(a.fail("not-a-time", format!("{} is out of range", shown(a.val(0))))),
    }
}

inventory::submit!(HelperDef::new(
    "from_epoch_ms",
    THEME,
    "from_epoch_ms N",
    1..=1,
    Type::Timestamp,
    "The timestamp N milliseconds after 1970 UTC.",
    &[Example("{{from_epoch_ms a}}", r#"{"a":1763600000083}"#, "2025-11-20T00:53:20.083Z")],
    from_epoch_ms
));
fn from_epoch_ms<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    from_epoch(a, 1000)
}

inventory::submit!(HelperDef::new(
    "from_epoch_s",
    THEME,
    "from_epoch_s N",
    1..=1,
    Type::Timestamp,
    "The timestamp N seconds after 1970 UTC; N may have a fraction.",
    &[Example("{{from_epoch_s a}}", r#"{"a":"1.5"}"#, "1970-01-01T00:00:01.500Z")],
    from_epoch_s
));
fn from_epoch_s<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    from_epoch(a, 1_000_000)
}

fn check_format(index: usize, literal: &str) -> Result<(), (&'static str, String)> {
    match index {
        1 if matches!(literal, "iso8601" | "epoch_ms" | "epoch_s") => Ok(()),
        1 => BrokenDownTime::from(&Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC))
            .to_string(literal)
            .map(drop)
            .map_err(|e| ("invalid-pattern", format!("`{literal}` is no time pattern: {e}"))),
        2 => check_zone(literal),
        _ => Ok(()),
    }
}

inventory::submit!(
    HelperDef::new(
        "date_format",
        THEME,
        "date_format TIME PATTERN [ZONE]",
        2..=3,
        Type::String,
        "TIME written by PATTERN, as the clocks in ZONE show it.",
        &[
            Example(r#"{{date_format ts "%Y-%m-%d %H:%M" "Asia/Shanghai"}}"#, r#"{"ts":1763600000083}"#, "2025-11-20 08:53"),
            Example(r#"{{date_format ts "%Y%m%d%H"}}"#, r#"{"ts":"2026-11-21T08:00:00+08:00"}"#, "2026112100"),
        ],
        date_format
    )
    .check(check_format)
);
fn date_format<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(t) = micros(a, 0)? else { return Ok(Val::Null) };
    let pattern = a.text(1);
    match &*pattern {
        "epoch_ms" => out.push_str(itoa::Buffer::new().format(t.div_euclid(1000))),
        "epoch_s" => out.push_str(itoa::Buffer::new().format(t.div_euclid(1_000_000))),
        "iso8601" => {
            let mut bytes = vec![];
            write_time(t, &mut bytes);
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
        pattern => {
            let time = zoned(a, t, &*zone(a, 2)?)?;
            let text = BrokenDownTime::from(&time).to_string(pattern).map_err(|e| a.fail("invalid-pattern", e))?;
            out.push_str(&text);
        }
    }
    Ok(Val::Str(out))
}

fn check_trunc(index: usize, literal: &str) -> Result<(), (&'static str, String)> {
    match index {
        1 if UNITS.contains(&literal) => Ok(()),
        1 => Err(("wrong-argument", format!("`{literal}` is no unit: {}", UNITS.join(", ")))),
        2 => check_zone(literal),
        _ => Ok(()),
    }
}
const UNITS: [&str; 7] = ["year", "month", "week", "day", "hour", "minute", "second"];

inventory::submit!(
    HelperDef::new(
        "date_trunc",
        THEME,
        "date_trunc TIME UNIT [ZONE]",
        2..=3,
        Type::Timestamp,
        "The timestamp at which the year, month, week (from Monday), day, hour, minute or second of TIME began in ZONE.",
        &[
            Example(r#"{{date_trunc ts "hour"}}"#, r#"{"ts":"2026-11-21T08:41:02Z"}"#, "2026-11-21T08:00:00Z"),
            Example(r#"{{date_trunc ts "day" "Asia/Shanghai"}}"#, r#"{"ts":"2026-11-21T18:00:00Z"}"#, "2026-11-21T16:00:00Z"),
        ],
        date_trunc
    )
    .check(check_trunc)
);
fn date_trunc<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let Some(t) = micros(a, 0)? else { return Ok(Val::Null) };
    let time = zoned(a, t, &*zone(a, 2)?)?;
    let unit = a.text(1);
    let out_of_range = |_| a.fail("not-a-time", "the time is out of range");
    let floor = |u: Unit| time.round(ZonedRound::new().smallest(u).mode(jiff::RoundMode::Floor));
    let began = match &*unit {
        "year" => time.first_of_year().and_then(|d| d.start_of_day()),
        "month" => time.first_of_month().and_then(|d| d.start_of_day()),
        "week" => {
            let back = i64::from(time.weekday().since(Weekday::Monday));
            time.checked_sub(jiff::Span::new().days(back)).and_then(|d| d.start_of_day())
        }
        "day" => time.start_of_day(),
        "hour" => floor(Unit::Hour),
        "minute" => floor(Unit::Minute),
        "second" => floor(Unit::Second),
        u => return Err(a.fail("wrong-argument", format!("`{u}` is no unit: {}", UNITS.join(", ")))),
    };
    Ok(Val::Time(began.map_err(out_of_range)?.timestamp().as_microsecond()))
}

inventory::submit!(HelperDef::new("date_add", THEME, "date_add TIME N UNIT [ZONE]", 3..=4, Type::Timestamp,
"TIME and N (may be negative) years, months, weeks, days, hours, minutes or seconds; days and longer as the calendar in ZONE has them.",
&[
    Example(r#"{{date_add ts -90 "minute"}}"#, r#"{"ts":"2026-11-21T01:00:00Z"}"#, "2026-11-20T23:30:00Z"),
    Example(r#"{{date_add ts 1 "month"}}"#, r#"{"ts":"2026-01-31T00:00:00Z"}"#, "2026-02-28T00:00:00Z"),
], date_add).check(|i, l| if i == 0 { Ok(()) } else { check_trunc(i - 1, l) }));
fn date_add<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let (Some(t), Some(n)) = (micros(a, 0)?, a.int(1)?) else { return Ok(Val::Null) };
    let time = zoned(a, t, &*zone(a, 3)?)?;
    let span = jiff::Span::new();
    let unit = a.text(2);
    let span = match &*unit {
        "year" => span.try_years(n),
        "month" => span.try_months(n),
        "week" => span.try_weeks(n),
        "day" => span.try_days(n),
        "hour" => span.try_hours(n),
        "minute" => span.try_minutes(n),
        "second" => span.try_seconds(n),
        u => return Err(a.fail("wrong-argument", format!("`{u}` is no unit: {}", UNITS.join(", ")))),
    };
    let sum = span.and_then(|s| time.checked_add(s)).map_err(|_| a.fail("not-a-time", "the time is out of range"))?;
    Ok(Val::Time(sum.timestamp().as_microsecond()))
}
