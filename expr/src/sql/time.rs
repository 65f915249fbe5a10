//! Intervals and calendar arithmetic in the job's time zone.

use super::value::{R, fail};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use millrace_sdk::convert::{MAX_TIME, MIN_TIME};

/// A length of time: months are as long as the calendar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i64,
    pub micros: i64,
}

/// Months and microseconds of one unit, by its name in SQL (`DAY`, also `DAYS`).
pub fn unit(name: &str) -> Option<Interval> {
    let name = name.to_ascii_lowercase();
    let (months, micros) = match name.strip_suffix('s').unwrap_or(&name) {
        "microsecond" => (0, 1),
        "millisecond" => (0, 1_000),
        "second" => (0, 1_000_000),
        "minute" => (0, 60_000_000),
        "hour" => (0, 3_600_000_000),
        "day" => (0, 86_400_000_000),
        "week" => (0, 7 * 86_400_000_000),
        "month" => (1, 0),
        "quarter" => (3, 0),
        "year" => (12, 0),
        _ => return None,
    };
    Some(Interval { months, micros })
}

impl Interval {
    /// `10` with a unit, or `1 day 2 hours`, or `1:30:00`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str, named: Option<&str>) -> Result<Interval, String> {
        let bad = || format!("`{text}` is no interval: write `INTERVAL '10' MINUTE` or `INTERVAL '1 day 2 hours'`");
        if let Some(name) = named {
            let u = unit(name).ok_or_else(|| format!("unknown unit `{name}`: year, quarter, month, week, day, hour, minute, second"))?;
            return u.times(text.trim()).ok_or_else(bad);
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.is_empty() || words.len() % 2 != 0 {
            return Err(bad());
        }
        let mut sum = Interval::default();
        for w in words.chunks(2) {
            let part = unit(w[1]).and_then(|u| u.times(w[0])).ok_or_else(bad)?;
            sum = Interval {
                months: sum.months.checked_add(part.months).ok_or_else(bad)?,
                micros: sum.micros.checked_add(part.micros).ok_or_else(bad)?,
            };
        }
        Ok(sum)
    }

    fn times(self, number: &str) -> Option<Interval> {
        if self.months > 0 {
            return Some(Interval { months: number.parse::<i64>().ok()?.checked_mul(self.months)?, micros: 0 });
        }
        let n = millrace_sdk::Decimal::parse(number)?.checked_mul(self.micros.into(), 0)?;
        Some(Interval { months: 0, micros: n.to_i64()? })
    }

    pub fn negated(self) -> Option<Interval> {
        Some(Interval { months: self.months.checked_neg()?, micros: self.micros.checked_neg()? })
    }
}

/// A time as date and time of day in a zone.
pub fn zoned(micros: i64, zone: &TimeZone) -> R<Zoned> {
    match Timestamp::from_microsecond(micros) {
        Ok(t) => Ok(t.to_zoned(zone.clone())),
        Err(_) => fail("overflow", "a time outside the years -9999 to 9999"),
    }
}

/// `time` plus an interval: microseconds are exact, months keep the day of the month where there is one.
pub fn shift(time: i64, months: i64, micros: i64, zone: &TimeZone) -> R<i64> {
    let moved = if months == 0 {
        Some(time)
    } else {
        Span::new()
            .try_months(months)
            .ok()
            .and_then(|s| zoned(time, zone).ok()?.checked_add(s).ok())
            .map(|z| z.timestamp().as_microsecond())
    };
    match moved.and_then(|t| t.checked_add(micros)).filter(|t| (MIN_TIME..MAX_TIME).contains(t)) {
        Some(t) => Ok(t),
        None => fail("overflow", "a time before year 1 or after year 9998"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let of = |t, u| Interval::parse(t, u).map(|i| (i.months, i.micros));
        assert_eq!(of("10", Some("MINUTE")), Ok((0, 600_000_000)));
        assert_eq!(of("-1.5", Some("second")), Ok((0, -1_500_000)));
        assert_eq!(of("2", Some("YEAR")), Ok((24, 0)));
        assert_eq!(of("1 day 2 hours", None), Ok((0, 26 * 3_600_000_000)));
        assert_eq!(of("1 month -1 day", None), Ok((1, -86_400_000_000)));
        for (t, u) in [
            ("", None),
            ("1", None),
            ("x", Some("day")),
            ("1", Some("fortnight")),
            ("9999999999999999999", Some("day")),
            ("1.5", Some("month")),
        ] {
            assert!(of(t, u).is_err(), "{t} {u:?}");
        }
    }

    #[test]
    fn shifts() {
        let utc = TimeZone::UTC;
        // 2024-01-31 plus a month is the last of February.
        assert_eq!(shift(1_706_659_200_000_000, 1, 0, &utc), Ok(1_709_164_800_000_000));
        assert_eq!(shift(0, 0, -5, &utc), Ok(-5));
        for (months, micros) in [(i64::MAX, 0), (120_000, 0), (0, i64::MAX), (-120_000, 0)] {
            assert!(shift(0, months, micros, &utc).is_err());
        }
    }
}
