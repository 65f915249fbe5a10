//! From one type to another: what CAST, declared fields and time fields mean.

use crate::batch::BatchBuilder;
use crate::schema::Type;
use crate::value::Val;

/// A value that is not of the type it must have: "`abc` is no bigint".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError(pub String);

/// Pushes `value` as a value of type `ty`. Missing stays Missing and Null stays Null. Strings are parsed (bigint, double,
/// decimal rounded half up to its scale, boolean `true|false|1|0`, timestamp ISO 8601, json/map/array as JSON text), numbers and
/// booleans are rendered for `string`; `any` takes everything as it is.
///
/// # Errors
/// What does not fit: not a number, out of range, a map where a scalar is wanted.
pub fn push(value: Val<'_>, ty: Type, out: &mut BatchBuilder) -> Result<(), ConvertError> {
    let _ = (value, ty, out);
    todo!("expr helper")
}

/// How a time field is written. There is no default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    EpochMs,
    EpochS,
    Iso8601,
    /// A strftime pattern (`%d/%b/%Y:%H:%M:%S %z`), read in the job's time zone where it names no offset.
    Pattern(String),
}

impl TimeFormat {
    /// `epoch_ms | epoch_s | iso8601 |` a pattern with `%`.
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        match text {
            "epoch_ms" => Ok(TimeFormat::EpochMs),
            "epoch_s" => Ok(TimeFormat::EpochS),
            "iso8601" => Ok(TimeFormat::Iso8601),
            p if p.contains('%') => Ok(TimeFormat::Pattern(p.into())),
            p => Err(format!("unknown time format `{p}`: epoch_ms, epoch_s, iso8601, or a pattern like `%Y-%m-%d %H:%M:%S`")),
        }
    }
}

/// A time format made ready with a time zone.
pub struct TimeReader {}

impl TimeReader {
    /// # Errors
    /// An unknown time zone, or a pattern that cannot give a time.
    pub fn new(format: &TimeFormat, time_zone: &str) -> Result<TimeReader, String> {
        let _ = (format, time_zone);
        todo!("expr helper")
    }

    /// Microseconds since 1970 UTC. Integers and numeric strings are taken for the epoch formats.
    pub fn read(&self, value: Val<'_>) -> Result<i64, ConvertError> {
        let _ = value;
        todo!("expr helper")
    }
}
