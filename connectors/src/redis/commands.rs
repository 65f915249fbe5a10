//! A row as commands of Redis.

use super::client::{bulk, head, pack};
use crate::format::{Layout, Projection, RowWriter, cell, columns_demand};
use millrace_expr::Template;
use millrace_sdk::operator::Env;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::schema::Access;
use millrace_sdk::{Batch, Demand, Edge, Fault, Place, Problem, Record, SchemaRef, Slot, Val, convert};
use schemars::JsonSchema;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;

/// Fields of a hash or of a stream's entry at most: a script cannot take many more words a command.
pub const MAX_FIELDS: usize = 1000;

/// What a row does to its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `SET`: the key holds the row's text.
    #[default]
    Set,
    /// `HSET`: the row's fields are fields of the hash; one that is null is deleted (`HDEL`), one that is missing stays as it is.
    Hset,
    /// `XADD`: the row's fields are an entry of the stream; null and missing ones are left out.
    Xadd,
    /// `LPUSH`: the row's text becomes the first element of the list.
    Lpush,
    /// `RPUSH`: the row's text becomes the last element of the list.
    Rpush,
    /// `SADD`: the row's text becomes a member of the set.
    Sadd,
    /// `ZADD`: the row's text becomes a member of the sorted set, with the score of the field `score`.
    Zadd,
    /// `INCRBY`: adds the field `by`, or 1.
    Incrby,
    /// `DEL`: the key goes.
    Del,
    /// `PUBLISH`: the row's text goes to those who are subscribed to the channel now.
    Publish,
}

impl Mode {
    /// The row is written as text.
    pub fn text(self) -> bool {
        !self.fields() && !matches!(self, Mode::Incrby | Mode::Del)
    }
    /// Doing it again changes nothing.
    pub fn overwrites(self) -> bool {
        matches!(self, Mode::Set | Mode::Hset | Mode::Sadd | Mode::Zadd | Mode::Del)
    }
    /// The row is written field by field.
    pub fn fields(self) -> bool {
        matches!(self, Mode::Hset | Mode::Xadd)
    }
    /// What it writes can be cut to a length.
    pub fn bounded(self) -> bool {
        matches!(self, Mode::Xadd | Mode::Lpush | Mode::Rpush)
    }
    pub fn expires(self) -> bool {
        !matches!(self, Mode::Del | Mode::Publish)
    }
}

/// The config keys that say what is written.
pub struct Shape<'a> {
    pub mode: Mode,
    pub key: &'a str,
    pub layout: Layout<'a>,
    /// Of `score` and of `by`.
    pub number: Option<&'a str>,
    pub ttl_millis: Option<i64>,
    pub max_len: Option<u64>,
}

impl Shape<'_> {
    pub fn demand(&self) -> Demand {
        let mut demand = match self.mode {
            m if m.text() => self.layout.demand(),
            m if m.fields() => columns_demand(self.layout.columns),
            _ => Demand::none(),
        };
        demand.join(&crate::format::template_demand(self.key));
        demand.add(self.number);
        demand
    }

    pub fn bind(&self, edge: &Edge, env: &Env) -> Result<Input, Vec<Problem>> {
        let (mut problems, schema) = (vec![], &edge.schema);
        let key = Template::compile(self.key, schema, env)
            .map_err(|issues| problems.extend(issues.into_iter().map(|i| i.at(&Place::at(["key"])))))
            .ok();
        let mut body = Body::None;
        if self.mode.text() {
            match self.layout.bind(edge, env) {
                Ok(rows) => body = Body::Text(rows),
                Err(p) => problems.extend(p),
            }
        } else if self.mode.fields() {
            match Projection::bind(self.layout.columns, schema) {
                Ok(None) if schema.tail().is_some() => {
                    let what = "these rows have fields that nobody declared: name the `columns`";
                    let p = Problem::error("columns-needed", Place::default(), what);
                    problems.push(p.hint("write `columns: [a, b]`, or declare the fields where the rows are parsed"));
                }
                Ok(projection) => {
                    let shown = projection.as_ref().map_or(schema, |p| &p.schema);
                    let fields: Vec<_> = shown.visible().map(|(slot, f)| (slot, f.name.as_bytes().to_vec())).collect();
                    if fields.len() > MAX_FIELDS {
                        let what = format!("a row is written with at most {MAX_FIELDS} fields, these have {}", fields.len());
                        problems.push(Problem::error("too-many-columns", Place::at(["columns"]), what));
                    }
                    body = Body::Fields(projection, fields);
                }
                Err(p) => problems.extend(p),
            }
        }
        let number = self.number.map(|name| {
            let key = if self.mode == Mode::Zadd { "score" } else { "by" };
            let access = schema.resolve(name);
            if access.is_none() {
                let p = Problem::error("unknown-field", Place::at([key]), format!("unknown field `{name}`"));
                problems.push(p.suggest(did_you_mean(name, schema.names())));
            }
            access
        });
        match key {
            Some(key) if problems.is_empty() => Ok(Input {
                mode: self.mode,
                key: Arc::new(key),
                schema: schema.clone(),
                body,
                number: number.flatten(),
                ttl: self.ttl_millis.map(digits),
                max_len: self.max_len.map(|n| (digits(n as i64), digits(n as i64 - 1), digits(-(n as i64)))),
            }),
            _ => Err(problems),
        }
    }
}

fn digits(n: i64) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// How rows of one input are written. Every writer has a clone of its own.
#[derive(Clone)]
pub struct Input {
    mode: Mode,
    key: Arc<Template>,
    pub schema: SchemaRef,
    body: Body,
    number: Option<Access>,
    ttl: Option<Vec<u8>>,
    /// n, n - 1, -n.
    max_len: Option<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
enum Body {
    None,
    Text(RowWriter),
    Fields(Option<Projection>, Vec<(Slot, Vec<u8>)>),
}

/// What became of a row.
#[derive(Debug, PartialEq)]
pub enum Written {
    /// So many commands were appended.
    Commands(u8),
    /// There is nothing to write.
    Nothing,
    /// Reason and message of its rejection.
    Wrong(&'static str, String),
}

impl Input {
    /// The rows with the columns that are to be written.
    pub fn rows<'b>(&self, batch: &'b Batch) -> Cow<'b, Batch> {
        match &self.body {
            Body::Text(rows) => rows.rows(batch),
            Body::Fields(Some(p), _) => Cow::Owned(p.apply(batch)),
            _ => Cow::Borrowed(batch),
        }
    }

    /// Appends the packed commands of one of [`rows`](Self::rows), which is `original` with some columns only. What was not written
    /// leaves `out` as it was.
    pub fn write(&mut self, row: &Record<'_>, original: &Record<'_>, out: &mut Vec<u8>) -> Written {
        let mut key = vec![];
        match self.key.render(original, &mut key) {
            Err(e) => return Written::Wrong(e.reason, e.message),
            Ok(()) if key.is_empty() => return Written::Wrong("invalid-key", "the key is empty".into()),
            Ok(()) => {}
        }
        let mut text = vec![];
        if let Body::Text(rows) = &mut self.body
            && let Err(e) = rows.write(row, &mut text)
        {
            return Written::Wrong(e.reason, e.message);
        }
        let mut commands = 1;
        match self.mode {
            Mode::Set => match &self.ttl {
                Some(ttl) => pack(&[b"SET", &key, &text, b"PX", ttl], out),
                None => pack(&[b"SET", &key, &text], out),
            },
            Mode::Lpush => pack(&[b"LPUSH", &key, &text], out),
            Mode::Rpush => pack(&[b"RPUSH", &key, &text], out),
            Mode::Sadd => pack(&[b"SADD", &key, &text], out),
            Mode::Publish => pack(&[b"PUBLISH", &key, &text], out),
            Mode::Del => pack(&[b"DEL", &key], out),
            Mode::Zadd => match self.number_of(original) {
                Ok(score) => pack(&[b"ZADD", &key, &score, &text], out),
                Err(wrong) => return wrong,
            },
            Mode::Incrby => match self.number_of(original) {
                Ok(by) => pack(&[b"INCRBY", &key, &by], out),
                Err(wrong) => return wrong,
            },
            Mode::Hset | Mode::Xadd => {
                commands = self.write_fields(row, &key, out);
                if commands == 0 {
                    return Written::Nothing;
                }
            }
        }
        let trim: Option<[&[u8]; 4]> = match (&self.max_len, self.mode) {
            (Some((_, last, _)), Mode::Lpush) => Some([b"LTRIM", &key, b"0", last]),
            (Some((_, _, from)), Mode::Rpush) => Some([b"LTRIM", &key, from, b"-1"]),
            _ => None,
        };
        if let Some(words) = trim {
            pack(&words, out);
            commands += 1;
        }
        if let Some(ttl) = self.ttl.as_ref().filter(|_| self.mode != Mode::Set) {
            pack(&[b"PEXPIRE", &key, ttl], out);
            commands += 1;
        }
        Written::Commands(commands)
    }

    fn number_of(&self, row: &Record<'_>) -> Result<Vec<u8>, Written> {
        let Some(access) = &self.number else { return Ok(b"1".to_vec()) };
        let mut scratch = String::new();
        let value = row.find(access, &mut scratch);
        let (key, text) = match self.mode {
            Mode::Zadd => ("score", value.as_float().filter(|f| !f.is_nan()).map(|_| value)),
            _ => ("by", value.as_int().map(Val::Int)),
        };
        match text {
            Some(value) => {
                let mut out = vec![];
                convert::write_scalar(value, &mut out);
                Ok(out)
            }
            None => Err(Written::Wrong("invalid-number", format!("`{key}` is {}, not a number that Redis takes", value.kind()))),
        }
    }

    fn write_fields(&self, row: &Record<'_>, key: &[u8], out: &mut Vec<u8>) -> u8 {
        let Body::Fields(_, fields) = &self.body else { return 0 };
        let (mut given, mut words, mut gone) = (0, vec![], vec![]);
        for (slot, name) in fields {
            match row.get(*slot) {
                Val::Missing => {}
                Val::Null => gone.push(name),
                value => {
                    bulk(name, &mut words);
                    let mut text = vec![];
                    match value {
                        Val::Bytes(b) => text.extend_from_slice(b),
                        _ => cell(row, *slot, &mut text),
                    }
                    bulk(&text, &mut words);
                    given += 2;
                }
            }
        }
        let mut commands = 0;
        if given > 0 {
            match (self.mode, &self.max_len) {
                (Mode::Hset, _) => {
                    head(b'*', 2 + given, out);
                    bulk(b"HSET", out);
                    bulk(key, out);
                }
                (_, Some((n, ..))) => {
                    head(b'*', 6 + given, out);
                    [b"XADD", key, b"MAXLEN", b"~", n, b"*"].iter().for_each(|word| bulk(word, out));
                }
                _ => {
                    head(b'*', 3 + given, out);
                    [b"XADD", key, b"*"].iter().for_each(|word| bulk(word, out));
                }
            }
            out.append(&mut words);
            commands += 1;
        }
        if self.mode == Mode::Hset && !gone.is_empty() {
            head(b'*', 2 + gone.len(), out);
            bulk(b"HDEL", out);
            bulk(key, out);
            gone.iter().for_each(|name| bulk(name, out));
            commands += 1;
        }
        commands
    }
}

/// The words of packed commands, command by command.
///
/// # Errors
/// Bytes that [`Input::write`] did not write.
pub fn unpack(mut packed: &[u8], mut command: impl FnMut(usize, &[u8])) -> Result<(), Fault> {
    let damaged = || Fault::bug("packed commands for Redis are damaged");
    fn number(kind: u8, packed: &mut &[u8]) -> Option<usize> {
        let end = packed.iter().position(|b| *b == b'\r')?;
        let n = std::str::from_utf8(packed.get(1..end)?).ok()?.parse().ok()?;
        let right = packed[0] == kind && packed.get(end + 1) == Some(&b'\n');
        *packed = packed.get(end + 2..)?;
        right.then_some(n)
    }
    while !packed.is_empty() {
        let words = number(b'*', &mut packed).ok_or_else(damaged)?;
        let begun = packed;
        for _ in 0..words {
            let len = number(b'$', &mut packed).ok_or_else(damaged)?;
            packed = packed.get(len + 2..).ok_or_else(damaged)?;
        }
        command(words, &begun[..begun.len() - packed.len()]);
    }
    Ok(())
}
