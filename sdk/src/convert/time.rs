//! Time fields: formats, and readers made ready with a time zone.

use super::{ConvertError, refuse, strftime};
use crate::json::{self, Number};
use crate::value::Val;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// First plausible time, 0001-01-01T00:00:00Z, microseconds.
pub const MIN_TIME: i64 = -62_135_596_800_000_000;
/// First time that is none any more: 9999-01-01T00:00:00Z, microseconds. Year 9999 is what systems write for "never".
pub const MAX_TIME: i64 = 253_370_764_800_000_000;

/// How a time field is written. There is no default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    EpochMs,
    /// Seconds, fractions allowed.
    EpochS,
    Iso8601,
    /// A strftime pattern (`%d/%b/%Y:%H:%M:%S %z`), read in the job's time zone where it names no offset.
    Pattern(String),
}

impl TimeFormat {
    /// `epoch_ms | epoch_s | iso8601 |` a pattern, either with `%` or in Java's letters.
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        match text {
            "epoch_ms" => Ok(TimeFormat::EpochMs),
            "epoch_s" => Ok(TimeFormat::EpochS),
            "iso8601" => Ok(TimeFormat::Iso8601),
            p => strftime(p)
                .map(TimeFormat::Pattern)
                .map_err(|_| format!("unknown time format `{p}`: epoch_ms, epoch_s, iso8601, or a pattern like `%Y-%m-%d %H:%M:%S`")),
        }
    }
}

/// A time format made ready with a time zone.
#[derive(Clone, Debug)]
pub struct TimeReader {
    format: TimeFormat,
    zone: TimeZone,
}

impl TimeReader {
    /// `time_zone`: an IANA name.
    ///
    /// # Errors
    /// An unknown time zone, or a pattern that cannot give a time.
    pub fn new(format: &TimeFormat, time_zone: &str) -> Result<TimeReader, String> {
        let zone =
            TimeZone::get(time_zone).map_err(|_| format!("unknown time zone `{time_zone}`: use an IANA name like `Asia/Shanghai`"))?;
        TimeReader::with_zone(format, zone)
    }

    /// As [`new`](Self::new), with a zone that is known already.
    ///
    /// # Errors
    /// A pattern that cannot give a time.
    pub fn with_zone(format: &TimeFormat, zone: TimeZone) -> Result<TimeReader, String> {
        let reader = TimeReader { format: format.clone(), zone };
        if let TimeFormat::Pattern(p) = format {
            // A pattern is good if it can read what it wrote.
            let sample = DateTime::constant(2024, 2, 29, 13, 14, 15, 0).to_zoned(reader.zone.clone()).map_err(|e| e.to_string())?;
            let text = BrokenDownTime::from(&sample).to_string(p.as_str()).map_err(|e| format!("`{p}` is no time pattern: {e}"))?;
            reader
                .read(Val::Str(&text))
                .map_err(|e| format!("`{p}` cannot give a time: {} (a pattern needs at least year, month and day, or `%s`)", e.0))?;
        }
        Ok(reader)
    }

    /// Microseconds since 1970 UTC. Integers and numeric strings are taken for the epoch formats; a timestamp stays as it is.
    ///
    /// # Errors
    /// What is not written in the format, and times before year 1 or from year 9999 on.
    #[inline]
    pub fn read(&self, value: Val<'_>) -> Result<i64, ConvertError> {
        let micros = match (&self.format, value) {
            (_, Val::Time(t)) => t,
            (TimeFormat::EpochMs, v) => epoch(v, 1_000).ok_or_else(|| refuse(v, "time in epoch milliseconds"))?,
            (TimeFormat::EpochS, v) => epoch(v, 1_000_000).ok_or_else(|| refuse(v, "time in epoch seconds"))?,
            (TimeFormat::Iso8601, Val::Str(t)) => return iso8601(t, &self.zone),
            (TimeFormat::Iso8601, v) => return Err(refuse(v, "ISO 8601 time")),
            (TimeFormat::Pattern(p), Val::Str(t)) => self.pattern(p, t)?,
            (TimeFormat::Pattern(p), v @ (Val::Int(_) | Val::Num(_))) => {
                let mut text = vec![];
                super::write_scalar(v, &mut text);
                self.pattern(p, std::str::from_utf8(&text).unwrap_or_default())?
            }
            (TimeFormat::Pattern(p), v) => return Err(refuse(v, format_args!("time written `{p}`"))),
        };
        plausible(micros)
    }

    fn pattern(&self, pattern: &str, text: &str) -> Result<i64, ConvertError> {
        let fail = |e: jiff::Error| ConvertError(format!("{}: {e}", refuse(Val::Str(text), format_args!("time written `{pattern}`")).0));
        let broken = BrokenDownTime::parse(pattern, text.trim_ascii()).map_err(fail)?;
        if broken.timestamp().is_some() || broken.offset().is_some() {
            return broken.to_timestamp().map(Timestamp::as_microsecond).map_err(fail);
        }
        if broken.iana_time_zone().is_some() {
            return broken.to_zoned().map(|z| z.timestamp().as_microsecond()).map_err(fail);
        }
        broken.to_datetime().and_then(|d| in_zone(d, &self.zone)).map_err(fail)
    }
}

#[inline]
fn plausible(micros: i64) -> Result<i64, ConvertError> {
    if (MIN_TIME..MAX_TIME).contains(&micros) {
        return Ok(micros);
    }
    Err(ConvertError("a time before year 1 or after year 9998 is not plausible".into()))
}

/// A date and time in a zone; in the gap or the fold of a daylight-saving change as RFC 5545 has it.
fn in_zone(d: DateTime, zone: &TimeZone) -> Result<i64, jiff::Error> {
    zone.to_ambiguous_timestamp(d).compatible().map(Timestamp::as_microsecond)
}

#[inline]
fn epoch(value: Val<'_>, unit: i64) -> Option<i64> {
    match value {
        Val::Int(i) => i.checked_mul(unit),
        Val::Float(f) => fraction(f, unit),
        Val::Num(t) => match json::number(t.as_bytes()) {
            Number::Int(i) => i.checked_mul(unit),
            _ => epoch_text(t, unit),
        },
        Val::Str(t) => match super::bigint(t) {
            Some(i) => i.checked_mul(unit),
            None => epoch_text(t.trim_ascii(), unit),
        },
        _ => None,
    }
}

/// Exact where it can be: 1700000000.123456 seconds are 123456 microseconds after the second.
fn epoch_text(text: &str, unit: i64) -> Option<i64> {
    if let Some(d) = crate::Decimal::parse(text) {
        return i64::try_from(d.checked_mul(unit.into(), 0)?.mantissa).ok();
    }
    fraction(super::double(text)?, unit)
}

fn fraction(f: f64, unit: i64) -> Option<i64> {
    let micros = (f * unit as f64).round();
    (micros.abs() < 9e18).then_some(micros as i64)
}

/// Reads an ISO 8601 (RFC 3339) time: `2024-05-06T07:08:09.5Z`, `2024-05-06 07:08:09`, `2024-05-06`. Without offset it is in `zone`.
///
/// # Errors
/// What is not written so, and times before year 1 or from year 9999 on.
pub fn iso8601(text: &str, zone: &TimeZone) -> Result<i64, ConvertError> {
    if let Some(micros) = plain(text.as_bytes(), zone) {
        return plausible(micros);
    }
    static PARSER: DateTimeParser = DateTimeParser::new();
    let t = text.trim_ascii();
    let no = || refuse(Val::Str(text), "ISO 8601 time");
    if let Ok(ts) = PARSER.parse_timestamp(t) {
        return plausible(ts.as_microsecond());
    }
    if t.contains('[') {
        return PARSER.parse_zoned(t).map_err(|_| no()).and_then(|z: Zoned| plausible(z.timestamp().as_microsecond()));
    }
    let d = PARSER.parse_datetime(t).map_err(|_| no())?;
    plausible(in_zone(d, zone).map_err(|_| no())?)
}

/// The form that machines write, `2024-05-06T07:08:09[.123[456]]Z`, without going through the general parser. None: look closer.
fn plain(t: &[u8], zone: &TimeZone) -> Option<i64> {
    let two = |i: usize| -> Option<i64> {
        let (a, b) = (t[i].wrapping_sub(b'0'), t[i + 1].wrapping_sub(b'0'));
        (a < 10 && b < 10).then_some(a as i64 * 10 + b as i64)
    };
    if t.len() < 19 || t[4] != b'-' || t[7] != b'-' || !matches!(t[10], b'T' | b' ') || t[13] != b':' || t[16] != b':' {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut p = 19;
    let mut micros = 0;
    if t.get(p) == Some(&b'.') {
        let mut unit = 100_000;
        p += 1;
        while let Some(c) = t.get(p).filter(|c| c.is_ascii_digit()) {
            if unit == 0 {
                return None;
            }
            micros += (c - b'0') as i64 * unit;
            unit /= 10;
            p += 1;
        }
    }
    match &t[p..] {
        b"Z" => {}
        b"" if *zone == TimeZone::UTC => {}
        _ => return None,
    }
    // Days from civil: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(format: &str, zone: &str, value: Val<'_>) -> Result<i64, String> {
        TimeReader::new(&TimeFormat::parse(format).unwrap(), zone).unwrap().read(value).map_err(|e| e.0)
    }

    #[test]
    fn formats() {
        let sh = "Asia/Shanghai";
        for (format, zone, value, want) in [
            ("epoch_ms", "UTC", Val::Int(1500), 1_500_000),
            ("epoch_ms", "UTC", Val::Str("1500"), 1_500_000),
            ("epoch_ms", "UTC", Val::Num("1500"), 1_500_000),
            ("epoch_ms", "UTC", Val::Num("1500.25"), 1_500_250),
            ("epoch_ms", "UTC", Val::Num("1.5e3"), 1_500_000),
            ("epoch_ms", "UTC", Val::Int(-1), -1000),
            ("epoch_s", "UTC", Val::Num("1700000000.123456"), 1_700_000_000_123_456),
            ("epoch_s", "UTC", Val::Str("1.5"), 1_500_000),
            ("epoch_s", "UTC", Val::Float(1.5), 1_500_000),
            ("iso8601", "UTC", Val::Str("1970-01-01T00:00:01.000001Z"), 1_000_001),
            ("iso8601", sh, Val::Str("1970-01-01T08:00:01"), 1_000_000),
            ("iso8601", sh, Val::Str("1970-01-01T08:00:01+0800"), 1_000_000),
            ("iso8601", sh, Val::Str("1970-01-01"), -8 * 3_600_000_000),
            ("iso8601", "UTC", Val::Str("2024-02-29T00:00:00Z"), 1_709_164_800_000_000),
            ("%Y-%m-%d %H:%M:%S", sh, Val::Str("1970-01-01 08:00:05"), 5_000_000),
            ("%d/%b/%Y:%H:%M:%S %z", sh, Val::Str("01/Jan/1970:01:00:00 +0100"), 0),
            ("yyyy-MM-dd HH:mm:ss.SSS", sh, Val::Str("1970-01-01 08:00:05.250"), 5_250_000),
            ("dd/MMM/yyyy'T'HH:mm:ssXXX", sh, Val::Str("01/Jan/1970T01:00:00+01:00"), 0),
            ("yyyyMMdd", "UTC", Val::Int(19700102), 86_400_000_000),
            ("%Y%m%d", "UTC", Val::Int(19700102), 86_400_000_000),
            ("%Y-%m-%dT%H:%M:%S%.f", "UTC", Val::Str("1970-01-01T00:00:00.25"), 250_000),
            ("%s", "UTC", Val::Str("12"), 12_000_000),
            // Clocks went from 02:00 to 03:00: the gap counts with the offset before it.
            ("%Y-%m-%d %H:%M", "Europe/Berlin", Val::Str("2024-03-31 02:30"), 1_711_848_600_000_000),
            ("epoch_ms", "UTC", Val::Time(7), 7),
        ] {
            assert_eq!(read(format, zone, value), Ok(want), "{format} {value:?}");
        }
    }

    #[test]
    fn absurd_times_are_errors() {
        for (format, value) in [
            ("epoch_ms", Val::Int(i64::MAX)),
            ("epoch_ms", Val::Int(253_402_300_799_000)),
            ("epoch_s", Val::Int(i64::MIN)),
            ("epoch_s", Val::Float(1e300)),
            ("epoch_s", Val::Float(f64::NAN)),
            ("epoch_s", Val::Num("1e999")),
            ("epoch_s", Val::Str("99999999999999999999999999999")),
            ("epoch_ms", Val::Str("soon")),
            ("epoch_ms", Val::Null),
            ("epoch_ms", Val::Json("{}")),
            ("iso8601", Val::Str("9999-12-31T23:59:59Z")),
            ("iso8601", Val::Str("-009999-12-31T23:59:59Z")),
            ("iso8601", Val::Str("+999999-12-31T23:59:59Z")),
            ("iso8601", Val::Str("2023-02-29T00:00:00Z")),
            ("iso8601", Val::Str("2023-13-01T00:00:00Z")),
            ("iso8601", Val::Str("2023-01-01T24:00:00Z")),
            ("iso8601", Val::Str("")),
            ("iso8601", Val::Int(5)),
            ("%Y-%m-%d", Val::Str("9999-12-31")),
            ("%Y-%m-%d", Val::Str("yesterday")),
            ("%Y-%m-%d", Val::Bool(true)),
            ("%s", Val::Str("99999999999999999999")),
        ] {
            assert!(read(format, "UTC", value).is_err(), "{format} {value:?}");
        }
    }

    #[test]
    fn bad_patterns_and_zones() {
        let new = |f: &str, z: &str| TimeReader::new(&TimeFormat::parse(f).unwrap(), z).map(|_| ());
        assert!(new("epoch_ms", "Mars/Olympus").unwrap_err().starts_with("unknown time zone `Mars/Olympus`"));
        assert!(new("%H:%M:%S", "UTC").unwrap_err().contains("cannot give a time"));
        assert!(new("%b %d %H:%M:%S", "UTC").unwrap_err().contains("cannot give a time"));
        assert!(new("%Y-%m-%d %!", "UTC").is_err());
        assert!(TimeFormat::parse("millis").unwrap_err().contains("unknown time format"));
    }

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_general_parser(t in "(19|20|00)[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,7})?Z") {
            let general = DateTimeParser::new().parse_timestamp(&t).ok().map(Timestamp::as_microsecond);
            if let Some(short) = plain(t.as_bytes(), &TimeZone::UTC) {
                prop_assert_eq!(Some(short), general);
            }
        }

        #[test]
        fn nothing_panics(t in "\\PC{0,30}", i in any::<i64>(), f in any::<f64>()) {
            for format in ["epoch_ms", "epoch_s", "iso8601", "%Y-%m-%d", "%d/%b/%Y:%H:%M:%S %z"] {
                for v in [Val::Str(&t), Val::Int(i), Val::Float(f)] {
                    let _ = read(format, "Asia/Shanghai", v);
                }
            }
        }
    }
}
