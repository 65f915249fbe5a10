//! The helpers: what templates can call.
//!
//! A helper is one function over values, used by the compiled program and by handlebars alike. To add one, write the function in the
//! file of its theme and register it beside it:
//!
//! ```ignore
//! inventory::submit!(HelperDef::new("lower", THEME, "lower TEXT", 1..=1, Type::String, "In lower case.",
//!     &[Example("{{lower os}}", r#"{"os":"IOS"}"#, "ios")], lower));
//! fn lower<'a>(args: &Args<'a, '_>, out: &'a mut String) -> Done<'a> { … }
//! ```
//!
//! Its examples are tests: each is rendered by the compiled program and by handlebars, and both must give the text shown.
//! Conventions: what is missing or null gives null, so that `default` and `coalesce` can take over; what cannot be read as the number,
//! date or code it should be is an [`EvalError`], which sends the row to the dead letter, except inside of `default` and `coalesce`:
//! there a helper that fails gives null.

use super::value::{self, Num};
use crate::EvalError;
use jiff::tz::TimeZone;
use millrace_sdk::operator::{Env, OnError};
use millrace_sdk::{Type, Val};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

mod cache;
mod codes;
mod condition;
mod dates;
mod hashes;
mod ip;
mod json;
mod math;
mod regex;
mod text;

/// What a helper gives: a value that borrows from its arguments or from the text that it wrote.
pub type Done<'a> = Result<Val<'a>, EvalError>;
/// A helper's function: arguments, and room to write text in.
pub type Call = for<'a, 'c> fn(&Args<'a, 'c>, &'a mut String) -> Done<'a>;
/// Looks at an argument that is a literal, when the template is compiled: the problem's id and message.
pub type Check = fn(index: usize, literal: &str) -> Result<(), (&'static str, String)>;

/// A template, a row as JSON, and the text that comes out.
pub struct Example(pub &'static str, pub &'static str, pub &'static str);

/// A registered helper.
pub struct HelperDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub theme: &'static str,
    /// As in a template: `replace TEXT FROM TO`.
    pub signature: &'static str,
    /// Fewest and most arguments.
    pub arity: (usize, usize),
    /// The type of the value; `Any` where it depends on the arguments.
    pub gives: Type,
    /// One line.
    pub doc: &'static str,
    pub examples: &'static [Example],
    pub call: Call,
    pub check: Option<Check>,
}
inventory::collect!(HelperDef);

/// No limit to the number of arguments.
pub const MANY: usize = usize::MAX;

impl HelperDef {
    #[expect(clippy::too_many_arguments, reason = "a table row")]
    pub const fn new(
        name: &'static str,
        theme: &'static str,
        signature: &'static str,
        arity: RangeInclusive<usize>,
        gives: Type,
        doc: &'static str,
        examples: &'static [Example],
        call: Call,
    ) -> HelperDef {
        HelperDef { name, aliases: &[], theme, signature, arity: (*arity.start(), *arity.end()), gives, doc, examples, call, check: None }
    }

    pub const fn alias(mut self, aliases: &'static [&'static str]) -> HelperDef {
        self.aliases = aliases;
        self
    }

    pub const fn check(mut self, check: Check) -> HelperDef {
        self.check = Some(check);
        self
    }

    /// A helper by its name or an alias.
    pub fn find(name: &str) -> Option<&'static HelperDef> {
        static BY_NAME: LazyLock<HashMap<&str, &HelperDef>> = LazyLock::new(|| {
            let all = inventory::iter::<HelperDef>();
            all.flat_map(|h| std::iter::once(&h.name).chain(h.aliases).map(move |n| (*n, h))).collect()
        });
        BY_NAME.get(name).copied()
    }

    /// Whether the argument is a number by its name in the signature.
    pub(super) fn counts(&self, index: usize) -> bool {
        let name = self.signature.split(' ').nth(index + 1).map(|n| n.trim_matches(['[', ']']));
        matches!(name, Some("N" | "BITS" | "WIDTH" | "START" | "END"))
    }

    /// Whether helpers that fail inside of its arguments give null.
    pub(super) fn catches(&self) -> bool {
        matches!(self.name, "default" | "coalesce")
    }

    /// Calls it. A failure is null if `lenient`; what overflows or divides by zero is null if the job says so.
    #[inline]
    pub(super) fn run<'a>(&self, args: &Args<'a, '_>, lenient: bool, out: &'a mut String) -> Done<'a> {
        match (self.call)(args, out) {
            Err(_) if lenient => Ok(Val::Null),
            Err(e) if args.cx.on_error == OnError::Null && matches!(e.reason, "overflow" | "division-by-zero") => Ok(Val::Null),
            done => done,
        }
    }
}

/// All helpers, by theme and name.
pub fn helpers() -> Vec<&'static HelperDef> {
    let mut all: Vec<_> = inventory::iter::<HelperDef>().collect();
    all.sort_by_key(|h| (h.theme, h.name));
    all
}

/// What helpers know of the job.
#[derive(Clone)]
pub struct Cx {
    pub zone: TimeZone,
    pub zone_name: String,
    pub on_error: OnError,
}

impl Cx {
    pub fn new(env: &Env) -> Cx {
        let (zone, zone_name) = match TimeZone::get(&env.time_zone) {
            Ok(zone) => (zone, env.time_zone.clone()),
            // The planner refuses unknown zones; here it only must not fail.
            Err(_) => (TimeZone::UTC, "UTC".into()),
        };
        Cx { zone, zone_name, on_error: env.on_error }
    }
}

/// A call's arguments.
pub struct Args<'a, 'c> {
    pub vals: &'c [Val<'a>],
    /// Bit i: argument i is a decimal, whose text keeps its scale.
    pub decimals: u32,
    pub cx: &'c Cx,
    pub name: &'static str,
}

impl<'a> Args<'a, '_> {
    /// Missing if there are fewer.
    #[inline]
    pub fn val(&self, i: usize) -> Val<'a> {
        self.vals.get(i).copied().unwrap_or(Val::Missing)
    }

    /// The argument as text; "" for missing and null.
    #[inline]
    pub fn text(&self, i: usize) -> Cow<'a, str> {
        match self.val(i) {
            Val::Num(t) if i < 32 && self.decimals >> i & 1 == 1 => Cow::Borrowed(t),
            v => value::text(v),
        }
    }

    /// The argument as text; None for missing and null.
    #[inline]
    pub fn some_text(&self, i: usize) -> Option<Cow<'a, str>> {
        (!self.val(i).is_null()).then(|| self.text(i))
    }

    /// The argument as a number; None for missing and null.
    ///
    /// # Errors
    /// `not-a-number`.
    #[inline]
    pub fn number(&self, i: usize) -> Result<Option<Num>, EvalError> {
        let v = self.val(i);
        if v.is_null() {
            return Ok(None);
        }
        value::number_or_text(v).map(Some).ok_or_else(|| self.fail("not-a-number", format!("{} is no number", shown(v))))
    }

    /// The argument as a whole number; None for missing and null.
    ///
    /// # Errors
    /// `not-a-number`.
    pub fn int(&self, i: usize) -> Result<Option<i64>, EvalError> {
        match self.number(i)? {
            None => Ok(None),
            Some(Num::Int(n)) => Ok(Some(n)),
            Some(Num::Float(f)) if f.fract() == 0.0 && f.abs() < 9e15 => Ok(Some(f as i64)),
            Some(_) => Err(self.fail("not-a-number", format!("{} is no whole number", shown(self.val(i))))),
        }
    }

    #[cold]
    pub fn fail(&self, reason: &'static str, message: impl std::fmt::Display) -> EvalError {
        EvalError { reason, message: format!("`{}`: {message}", self.name) }
    }
}

/// A value in a message: short, and on one line.
pub fn shown(v: Val<'_>) -> String {
    match v {
        Val::Str(_) | Val::Num(_) | Val::Int(_) | Val::Float(_) => {
            let t = value::text(v);
            let end = t.char_indices().nth(60).map_or(t.len(), |(i, _)| i);
            format!("`{}{}`", t[..end].escape_debug(), if end < t.len() { "…" } else { "" })
        }
        v => v.kind().into(),
    }
}

/// Borrowed text as it is, owned text moved to `out`.
#[inline]
pub fn give<'a>(text: Cow<'a, str>, out: &'a mut String) -> Val<'a> {
    match text {
        Cow::Borrowed(t) => Val::Str(t),
        Cow::Owned(t) => {
            *out = t;
            Val::Str(out)
        }
    }
}
