//! Types of config values that say what they take: durations, sizes, expressions, templates, secrets.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration as StdDuration;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Scalar::deserialize(d).map(|s| $name(s.0))
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format })
            }
        }
        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_type!(
    /// An SQL scalar expression over the row.
    ExprText,
    "expr"
);
text_type!(
    /// A handlebars template over the row.
    TemplateText,
    "template"
);
text_type!(
    /// A field's name, or a path into it.
    FieldName,
    "field"
);
text_type!(
    /// A path of the file system, relative to the topology file.
    PathText,
    "path"
);
text_type!(
    /// A type of the language, `decimal(18,2)`.
    TypeText,
    "type"
);
text_type!(
    /// A value that never shows in logs, pages, errors or `explain`.
    Secret,
    "secret"
);

macro_rules! debug_as_text {
    ($($name:ident),*) => { $(impl fmt::Debug for $name { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", self.0) } })* };
}
debug_as_text!(ExprText, TemplateText, FieldName, PathText, TypeText);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Any scalar, as its text: `where: 1` is an expression as good as `where: "1"`.
struct Scalar(String);
impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(s) => Ok(Scalar(s)),
            serde_json::Value::Number(n) => Ok(Scalar(n.to_string())),
            serde_json::Value::Bool(b) => Ok(Scalar(b.to_string())),
            _ => Err(serde::de::Error::custom("expected a scalar")),
        }
    }
}

/// A length of time with its unit: `10s`, `15m`, `1h30m`, `250ms`, `-10s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Duration {
    pub micros: i64,
}

impl Duration {
    pub const fn micros(micros: i64) -> Duration {
        Duration { micros }
    }
    pub const fn millis(ms: i64) -> Duration {
        Duration { micros: ms * 1000 }
    }
    pub const fn secs(s: i64) -> Duration {
        Duration { micros: s * 1_000_000 }
    }
    /// Negative lengths become zero.
    pub fn std(self) -> StdDuration {
        StdDuration::from_micros(self.micros.max(0) as u64)
    }

    /// # Errors
    /// A sentence that says what is wrong: no number, no unit, unknown unit, too long.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let t = text.trim();
        let (negative, mut rest) = match t.strip_prefix('-') {
            Some(r) => (true, r),
            None => (false, t),
        };
        if rest == "0" {
            return Ok(Duration::default());
        }
        if rest.is_empty() {
            return Err("a duration is a number and a unit, like `10s`".into());
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(|| format!("`{text}` has no unit: write `{rest}s`, `{rest}ms`, `{rest}m` …"))?;
            if digits == 0 {
                return Err(format!("`{text}` is no duration: expected a number at `{rest}`"));
            }
            let n: i64 = rest[..digits].parse().map_err(|_| format!("`{text}` is too long"))?;
            let tail = &rest[digits..];
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let unit = match tail[..end].trim() {
                "us" | "µs" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" | "min" => 60_000_000,
                "h" => 3_600_000_000,
                "d" => 86_400_000_000,
                u => return Err(format!("unknown unit `{u}`: units are us, ms, s, m, h, d")),
            };
            total = n.checked_mul(unit).and_then(|v| total.checked_add(v)).ok_or_else(|| format!("`{text}` is too long"))?;
            rest = &tail[end..];
        }
        Ok(Duration { micros: if negative { -total } else { total } })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.micros == 0 {
            return f.write_str("0s");
        }
        if self.micros < 0 {
            f.write_str("-")?;
        }
        let mut left = self.micros.unsigned_abs();
        for (unit, name) in [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")] {
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Duration::parse(&Scalar::deserialize(d)?.0).map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

/// A number of bytes with its unit: `64MiB`, `1GB`, `512`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Size {
    pub bytes: u64,
}

impl Size {
    pub const fn bytes(bytes: u64) -> Size {
        Size { bytes }
    }

    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Size, String> {
        let t = text.trim();
        let digits = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
        let n: u64 = t[..digits].parse().map_err(|_| format!("`{text}` is no size: write a number and a unit, like `64MiB`"))?;
        let unit: u64 = match t[digits..].trim() {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            u => return Err(format!("unknown unit `{u}`: units are B, kB, MB, GB, KiB, MiB, GiB, TiB")),
        };
        n.checked_mul(unit).map(|bytes| Size { bytes }).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Size::parse(&Scalar::deserialize(d)?.0).map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "size" })
    }
}

/// One or several: `topics: a` or `topics: [a, b]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany::Many(vec![])
    }
}

impl<T> OneOrMany<T> {
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(t) => std::slice::from_ref(t),
            OneOrMany::Many(v) => v,
        }
    }
}

/// A map whose entries keep the order in which they are written: output fields, ports, aggregates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Ordered(vec![])
    }
}

impl<T> std::ops::Deref for Ordered<T> {
    type Target = [(String, T)];
    fn deref(&self) -> &[(String, T)] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        d.deserialize_map(Entries(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Ordered_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}
