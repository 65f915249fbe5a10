//! Functions of time. Timestamps are instants; parts and patterns are those of the job's time zone, or of one that is named.

use super::{FunctionDef, Param::*, Prepared};
use crate::sql::node::{Cx, Settings};
use crate::sql::time::{shift, unit, zoned};
use crate::sql::value::{Num, R, V, fail, overflow};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{ToSpan, Unit, Zoned};
use millrace_sdk::convert::{self, MAX_TIME, MIN_TIME, TimeFormat, TimeReader, iso8601, strftime};
use millrace_sdk::inventory::submit;
use millrace_sdk::{Type, Val};

const T: Type = Type::Timestamp;
const S: Type = Type::String;
const I: Type = Type::Bigint;

/// A constant unit is looked at before the job starts.
fn known_unit(name: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    match unit(name) {
        Some(_) => Ok(Prepared::None),
        None => Err(("invalid-argument", format!("unknown unit `{name}`: year, month, week, day, hour, minute, second"))),
    }
}

fn known_part(name: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    let some = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    part(name, &some).map(|_| Prepared::None).map_err(|e| (e.reason, e.message.clone()))
}

fn known_cut(name: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    let word = name.to_ascii_lowercase();
    let known = ["millisecond", "second", "minute", "hour", "day"].contains(&word.as_str());
    match known || cut(name, &jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)).is_ok_and(|z| z.is_some()) {
        true => Ok(Prepared::None),
        false => {
            Err(("invalid-argument", format!("unknown unit `{name}`: year, quarter, month, week, day, hour, minute, second, millisecond")))
        }
    }
}

submit! { FunctionDef::new("to_timestamp", &[Any, Text], T, "to_timestamp(value[, format]) -> timestamp", "reads a time: ISO 8601, or a format: `epoch_ms`, `epoch_s`, a pattern like `%d/%b/%Y:%H:%M:%S %z` or `yyyy-MM-dd HH:mm:ss`",
"to_timestamp('29/Feb/2024:13:00:00 +0100', '%d/%b/%Y:%H:%M:%S %z') => TIMESTAMP '2024-02-29T12:00:00Z'",
|a, cx, p| {
    let value = a[0].to_val(cx.pool);
    Ok(V::Time(match (p, a.get(1)) {
        (Prepared::Reader(r), _) => r.read(value)?,
        (_, None) => match value {
            Val::Time(t) => t,
            v => iso8601(a[0].text()?, &cx.settings.zone).map_err(|_| convert::refuse(v, "ISO 8601 time"))?,
        },
        (_, Some(f)) => match reader(f.text()?, cx.settings) {
            Ok(r) => r.read(value)?,
            Err((_, e)) => return fail("invalid-argument", e),
        },
    }))
}).optional(1).prepare(1, |t, s| reader(t, s).map(|r| Prepared::Reader(Box::new(r)))) }
submit! { FunctionDef::new("date_format", &[Time, Text, Text], S, "date_format(t, pattern[, zone]) -> string", "a time as text, by a pattern like `%Y-%m-%d %H:%M` or `yyyy-MM-dd HH:mm`", "date_format(TIMESTAMP '2024-02-29T16:30:00Z', '%Y/%m/%d %H:%M', 'Asia/Shanghai') => '2024/03/01 00:30'",
|a, cx, p| {
    let z = in_zone(a[0], a.get(2), cx)?;
    let made;
    let pattern = match p {
        Prepared::Pattern(p) => p,
        _ => match strftime(a[1].text()?) { Ok(p) => { made = p; &made } Err(e) => return fail("invalid-argument", e) },
    };
    match strtime::format(pattern, &z) {
        Ok(s) => Ok(V::Str(cx.pool.keep(s))),
        Err(e) => fail("invalid-argument", format!("`{pattern}` is no time pattern: {e}")),
    }
}).optional(1).prepare(1, pattern) }
submit! { FunctionDef::new("date_part", &[Text, Time, Text], I, "date_part(part, t[, zone]) -> bigint", "year, quarter, month, week (ISO), day, doy, dow (Sunday is 0), hour, minute, second, millisecond, microsecond or epoch; also EXTRACT(part FROM t)", "EXTRACT(hour FROM TIMESTAMP '2024-02-29T13:14:15Z') => 13",
|a, cx, _| part(a[0].text()?, &in_zone(a[1], a.get(2), cx)?)).prepare(0, known_part).optional(1) }
submit! { FunctionDef::new("year", &[Time], I, "year(t) -> bigint", "the year", "year(TIMESTAMP '2024-02-29') => 2024", |a, cx, _| part("year", &in_zone(a[0], None, cx)?)) }
submit! { FunctionDef::new("month", &[Time], I, "month(t) -> bigint", "the month, 1 to 12", "month(TIMESTAMP '2024-02-29') => 2", |a, cx, _| part("month", &in_zone(a[0], None, cx)?)) }
submit! { FunctionDef::new("day", &[Time], I, "day(t) -> bigint", "the day of the month", "day(TIMESTAMP '2024-02-29') => 29", |a, cx, _| part("day", &in_zone(a[0], None, cx)?)).alias(&["dayofmonth"]) }
submit! { FunctionDef::new("hour", &[Time], I, "hour(t) -> bigint", "the hour, 0 to 23", "hour(TIMESTAMP '2024-02-29T13:14:15Z') => 13", |a, cx, _| part("hour", &in_zone(a[0], None, cx)?)) }
submit! { FunctionDef::new("minute", &[Time], I, "minute(t) -> bigint", "the minute", "minute(TIMESTAMP '2024-02-29T13:14:15Z') => 14", |a, cx, _| part("minute", &in_zone(a[0], None, cx)?)) }
submit! { FunctionDef::new("second", &[Time], I, "second(t) -> bigint", "the second", "second(TIMESTAMP '2024-02-29T13:14:15Z') => 15", |a, cx, _| part("second", &in_zone(a[0], None, cx)?)) }
submit! { FunctionDef::new("date_trunc", &[Text, Time, Text], T, "date_trunc(unit, t[, zone]) -> timestamp", "cut to the year, quarter, month, week (Monday), day, hour, minute, second or millisecond", "date_trunc('hour', TIMESTAMP '2024-02-29T13:14:15Z') => TIMESTAMP '2024-02-29T13:00:00Z'",
|a, cx, _| {
    let (name, t) = (a[0].text()?, a[1].time()?);
    let plain = |by: i64| Ok(V::Time(t - t.rem_euclid(by)));
    let z = match name.to_ascii_lowercase().as_str() {
        "millisecond" => return plain(1000),
        "second" => return plain(1_000_000),
        "minute" if cx.settings.zone == TimeZone::UTC && a.len() < 3 => return plain(60_000_000),
        "hour" if cx.settings.zone == TimeZone::UTC && a.len() < 3 => return plain(3_600_000_000),
        "day" if cx.settings.zone == TimeZone::UTC && a.len() < 3 => return plain(86_400_000_000),
        _ => in_zone(a[1], a.get(2), cx)?,
    };
    match cut(name, &z) {
        Ok(Some(z)) => Ok(V::Time(z.timestamp().as_microsecond())),
        Ok(None) => fail("invalid-argument", format!("unknown unit `{name}`: year, quarter, month, week, day, hour, minute, second, millisecond")),
        Err(_) => overflow("a time"),
    }
}).prepare(0, known_cut).optional(1) }
submit! { FunctionDef::new("from_unixtime", &[Number], T, "from_unixtime(seconds) -> timestamp", "the time so many seconds after 1970; fractions count", "from_unixtime(1.5) => TIMESTAMP '1970-01-01T00:00:01.5Z'",
|a, _, _| scaled(a[0], 1_000_000)) }
submit! { FunctionDef::new("from_unixmillis", &[Number], T, "from_unixmillis(milliseconds) -> timestamp", "the time so many milliseconds after 1970", "from_unixmillis(1500) => TIMESTAMP '1970-01-01T00:00:01.5Z'",
|a, _, _| scaled(a[0], 1_000)) }
submit! { FunctionDef::new("unix_seconds", &[Time], I, "unix_seconds(t) -> bigint", "whole seconds since 1970", "unix_seconds(TIMESTAMP '1970-01-01T00:01:00Z') => 60",
|a, _, _| Ok(V::Int(a[0].time()?.div_euclid(1_000_000)))) }
submit! { FunctionDef::new("unix_millis", &[Time], I, "unix_millis(t) -> bigint", "whole milliseconds since 1970", "unix_millis(TIMESTAMP '1970-01-01T00:00:01.5Z') => 1500",
|a, _, _| Ok(V::Int(a[0].time()?.div_euclid(1_000)))) }
submit! { FunctionDef::new("unix_micros", &[Time], I, "unix_micros(t) -> bigint", "microseconds since 1970", "unix_micros(TIMESTAMP '1970-01-01T00:00:01Z') => 1000000",
|a, _, _| Ok(V::Int(a[0].time()?))) }
submit! { FunctionDef::new("date_add", &[Text, Int, Time], T, "date_add(unit, n, t) -> timestamp", "n units later (earlier if negative); months keep the day where there is one", "date_add('month', 1, TIMESTAMP '2024-01-31') => TIMESTAMP '2024-02-29'",
|a, cx, _| {
    let (name, n, t) = (a[0].text()?, a[1].int()?, a[2].time()?);
    let Some(u) = unit(name) else { return fail("invalid-argument", format!("unknown unit `{name}`: year, month, week, day, hour, minute, second")) };
    match (u.months.checked_mul(n), u.micros.checked_mul(n)) {
        (Some(months), Some(micros)) => shift(t, months, micros, &cx.settings.zone).map(V::Time),
        _ => overflow(format_args!("{n} {name}s")),
    }
}).prepare(0, known_unit).alias(&["timestampadd"]) }
submit! { FunctionDef::new("date_diff", &[Text, Time, Time], I, "date_diff(unit, from, to) -> bigint", "whole units from one time to another; microsecond to week, month, quarter and year by the calendar", "date_diff('hour', TIMESTAMP '2024-02-28T23:00:00Z', TIMESTAMP '2024-02-29T13:30:00Z') => 14",
|a, cx, _| {
    let (name, from, to) = (a[0].text()?, a[1].time()?, a[2].time()?);
    match unit(name) {
        None => fail("invalid-argument", format!("unknown unit `{name}`: year, month, week, day, hour, minute, second")),
        Some(u) if u.months == 0 => match to.checked_sub(from) { Some(d) => Ok(V::Int(d / u.micros)), None => overflow("a time") },
        Some(u) => {
            let (a, b) = (zoned(from, &cx.settings.zone)?, zoned(to, &cx.settings.zone)?);
            match a.until((Unit::Month, &b)) { Ok(s) => Ok(V::Int(i64::from(s.get_months()) / u.months)), Err(_) => overflow("a time") }
        }
    }
}).prepare(0, known_unit).alias(&["timestampdiff"]) }

fn reader(text: &str, settings: &Settings) -> Result<TimeReader, (&'static str, String)> {
    let made = TimeFormat::parse(text).and_then(|f| TimeReader::with_zone(&f, settings.zone.clone()));
    made.map_err(|e| ("invalid-time-pattern", e))
}

/// Checks a pattern by writing a time with it.
fn pattern(text: &str, _: &Settings) -> Result<Prepared, (&'static str, String)> {
    let made = strftime(text).map_err(|e| ("invalid-time-pattern", e))?;
    if made.contains('%') {
        let sample = zoned(0, &TimeZone::UTC).map_err(|e| ("invalid-time-pattern", e.message))?;
        strtime::format(&made, &sample).map_err(|e| ("invalid-time-pattern", format!("`{text}` is no time pattern: {e}")))?;
    }
    Ok(Prepared::Pattern(made))
}

fn in_zone(t: V<'_>, zone: Option<&V<'_>>, cx: &Cx<'_>) -> R<Zoned> {
    let t = t.time()?;
    match zone {
        None => zoned(t, &cx.settings.zone),
        Some(name) => {
            let name = name.text()?;
            match TimeZone::get(name) {
                Ok(z) => zoned(t, &z),
                Err(_) => fail("invalid-argument", format!("unknown time zone `{name}`: use an IANA name like `Asia/Shanghai`")),
            }
        }
    }
}

fn part<'a>(name: &str, z: &Zoned) -> R<V<'a>> {
    let micros = z.timestamp().as_microsecond();
    Ok(V::Int(match name.to_ascii_lowercase().as_str() {
        "year" => z.year().into(),
        "quarter" => i64::from((z.month() - 1) / 3 + 1),
        "month" => z.month().into(),
        "week" => z.date().iso_week_date().week().into(),
        "day" => z.day().into(),
        "doy" | "dayofyear" => z.day_of_year().into(),
        "dow" | "dayofweek" => z.weekday().to_sunday_zero_offset().into(),
        "isodow" => z.weekday().to_monday_one_offset().into(),
        "hour" => z.hour().into(),
        "minute" => z.minute().into(),
        "second" => z.second().into(),
        "millisecond" | "milliseconds" => micros.rem_euclid(60_000_000) / 1000,
        "microsecond" | "microseconds" => micros.rem_euclid(60_000_000),
        "epoch" => micros.div_euclid(1_000_000),
        _ => {
            return fail(
                "invalid-argument",
                format!("unknown part `{name}` of a time: year, quarter, month, week, day, doy, dow, hour, minute, second, epoch"),
            );
        }
    }))
}

fn cut(name: &str, z: &Zoned) -> Result<Option<Zoned>, jiff::Error> {
    let day = z.start_of_day()?;
    Ok(Some(match name.to_ascii_lowercase().as_str() {
        "year" => day.first_of_year()?,
        "quarter" => {
            let back = (i64::from(z.month()) - 1) % 3;
            day.first_of_month()?.checked_sub(back.months())?
        }
        "month" => day.first_of_month()?,
        "week" => day.checked_sub(i64::from(z.weekday().to_monday_zero_offset()).days())?,
        "day" => day,
        "hour" => z.round(jiff::ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc))?,
        "minute" => z.round(jiff::ZonedRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc))?,
        _ => return Ok(None),
    }))
}

fn scaled<'a>(v: V<'a>, by: i64) -> R<V<'a>> {
    let micros = match v.number() {
        Some(Num::Int(i)) => i.checked_mul(by),
        Some(Num::Float(f)) => Some((f * by as f64).round()).filter(|f| f.abs() < 9e18).map(|f| f as i64),
        Some(Num::Dec(d)) => d.checked_mul(by.into(), 0).and_then(|d| d.to_i64()),
        None => return v.not_a("a number"),
    };
    match micros.filter(|m| (MIN_TIME..MAX_TIME).contains(m)) {
        Some(m) => Ok(V::Time(m)),
        None => fail("overflow", "a time before year 1 or after year 9998"),
    }
}
