//! The functions of expressions. Each registers itself with its signature, a sentence and an example that is a test.

use crate::sql::node::{Cx, Settings};
use crate::sql::value::{R, V, fail};
use millrace_sdk::Type;
use millrace_sdk::convert::TimeReader;
use millrace_sdk::inventory;
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

mod collection;
mod digest;
mod lazy;
mod math;
mod regexp;
pub use regexp::missing_group;
mod text;
mod time;

pub(crate) use text::{Part, characters};

/// What a function takes at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    Any,
    Text,
    Int,
    Number,
    Boolean,
    Time,
    /// A map, an array, json, or a string that holds JSON.
    Json,
    Container,
    Bytes,
}

impl Param {
    pub(crate) fn accepts(self, ty: Type) -> bool {
        if matches!(ty, Type::Any | Type::Json) {
            return true;
        }
        match self {
            Param::Any => true,
            Param::Text => ty == Type::String,
            Param::Int => matches!(ty, Type::Bigint | Type::Decimal(_, 0)),
            Param::Number => ty.is_number(),
            Param::Boolean => ty == Type::Boolean,
            Param::Time => ty == Type::Timestamp,
            Param::Json => matches!(ty, Type::Map | Type::Array | Type::String),
            Param::Container => matches!(ty, Type::Map | Type::Array),
            Param::Bytes => matches!(ty, Type::Bytes | Type::String),
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Param::Any => "any value",
            Param::Text => "a string",
            Param::Int => "an integer",
            Param::Number => "a number",
            Param::Boolean => "a boolean",
            Param::Time => "a timestamp",
            Param::Json => "json",
            Param::Container => "a map or an array",
            Param::Bytes => "bytes or a string",
        }
    }
}

/// What a constant argument is made into at plan time.
#[derive(Debug)]
pub enum Prepared {
    None,
    Regex(Regex),
    Path(Box<[Box<str>]>),
    /// A time pattern in strftime's letters.
    Pattern(String),
    Reader(Box<TimeReader>),
}

/// Makes a constant argument ready; the id and message otherwise.
pub type Prepare = fn(&str, &Settings) -> Result<Prepared, (&'static str, String)>;

/// A function's body: values of the arguments in, a value out that may borrow from them, from the pool or from what was prepared.
pub type Call = for<'a, 'b> fn(&'b [V<'a>], &'b Cx<'a>, &'a Prepared) -> R<V<'a>>;

#[derive(Clone, Copy)]
pub enum Returns {
    Is(Type),
    By(fn(&[Type]) -> Type),
}

/// A registered function.
pub struct FunctionDef {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// `lpad(text, length[, fill]) -> string`.
    pub signature: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// `upper('abc') => 'ABC'`: an expression and what it gives.
    pub example: &'static str,
    pub(crate) params: &'static [Param],
    pub(crate) required: usize,
    /// The last parameter repeats.
    pub(crate) variadic: bool,
    pub(crate) returns: Returns,
    /// NULL in, NULL out.
    pub(crate) strict: bool,
    pub(crate) prepare: Option<(usize, Prepare)>,
    pub(crate) call: Call,
}
inventory::collect!(FunctionDef);

impl FunctionDef {
    pub(crate) const fn new(
        name: &'static str,
        params: &'static [Param],
        returns: Type,
        signature: &'static str,
        doc: &'static str,
        example: &'static str,
        call: Call,
    ) -> FunctionDef {
        FunctionDef {
            name,
            aliases: &[],
            signature,
            doc,
            example,
            params,
            required: params.len(),
            variadic: false,
            returns: Returns::Is(returns),
            strict: true,
            prepare: None,
            call,
        }
    }

    pub(crate) const fn alias(mut self, aliases: &'static [&'static str]) -> FunctionDef {
        self.aliases = aliases;
        self
    }

    /// The last `n` parameters can be left out.
    pub(crate) const fn optional(mut self, n: usize) -> FunctionDef {
        self.required = self.params.len() - n;
        self
    }

    pub(crate) const fn variadic(mut self) -> FunctionDef {
        self.variadic = true;
        self
    }

    pub(crate) const fn takes_null(mut self) -> FunctionDef {
        self.strict = false;
        self
    }

    pub(crate) const fn returns(mut self, by: fn(&[Type]) -> Type) -> FunctionDef {
        self.returns = Returns::By(by);
        self
    }

    pub(crate) const fn prepare(mut self, at: usize, with: Prepare) -> FunctionDef {
        self.prepare = Some((at, with));
        self
    }

    pub(crate) fn param(&self, i: usize) -> Param {
        self.params.get(i).or(self.params.last()).copied().unwrap_or(Param::Any)
    }

    pub(crate) fn counts(&self) -> String {
        let arguments = |n: usize| if n == 1 { "argument" } else { "arguments" };
        match (self.required, self.params.len()) {
            (n, _) if self.variadic => format!("at least {n} {}", arguments(n)),
            (n, m) if n == m => format!("{n} {}", arguments(n)),
            (n, m) => format!("{n} to {m} arguments"),
        }
    }
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static FunctionDef>> = LazyLock::new(|| {
    let all = inventory::iter::<FunctionDef>();
    all.into_iter().flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()).map(move |n| (n, f))).collect()
});

/// All functions, sorted by name.
pub fn functions() -> Vec<&'static FunctionDef> {
    let mut all: Vec<&FunctionDef> = inventory::iter::<FunctionDef>().collect();
    all.sort_by_key(|f| f.name);
    all
}

/// A function by its name or an alias, lower case.
pub fn find(name: &str) -> Option<&'static FunctionDef> {
    BY_NAME.get(name).copied()
}

/// Reads a count or a position; what does not fit is a very large one.
pub(crate) fn count(v: V<'_>) -> R<usize> {
    Ok(usize::try_from(v.int()?.max(0)).unwrap_or(usize::MAX))
}

/// Longest text that a function makes, bytes.
pub(crate) const MAX_TEXT: usize = 16 << 20;

pub(crate) fn too_long<T>() -> R<T> {
    fail("overflow", format!("a text longer than {} MiB", MAX_TEXT >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Expr;
    use millrace_sdk::Schema;
    use millrace_sdk::operator::Env;
    use std::collections::HashSet;

    fn value(text: &str) -> String {
        let e = Expr::compile(text, &Schema::new(vec![]), &Env::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let mut scratch = crate::Scratch::default();
        let row = crate::sql::check::NO_ROW.row(0);
        match e.eval(&row, &mut scratch) {
            Ok(v) if v.is_null() => "NULL".into(),
            Ok(v) => {
                let mut out = String::new();
                V::from(v).write(&mut out).unwrap();
                out
            }
            Err(e) => panic!("{text}: {e:?}"),
        }
    }

    #[test]
    fn every_example_gives_what_it_says() {
        for f in functions() {
            let (left, right) = f.example.split_once(" => ").unwrap_or_else(|| panic!("the example of {} has no ` => `", f.name));
            assert_eq!(value(left), value(right), "{}", f.example);
            let called =
                std::iter::once(f.name).chain(f.aliases.iter().copied()).any(|n| left.to_lowercase().contains(n)) || f.name == "date_part";
            assert!(called, "the example of {} is about something else", f.name);
        }
    }

    #[test]
    fn every_function_is_described_once() {
        let mut names = HashSet::new();
        for f in functions() {
            for n in std::iter::once(f.name).chain(f.aliases.iter().copied()) {
                assert!(names.insert(n), "{n} is registered twice");
            }
            assert!(f.signature.starts_with(&format!("{}(", f.name)) && f.signature.contains("->"), "{}", f.signature);
            assert!(!f.doc.ends_with('.') && !f.doc.is_empty(), "{}", f.doc);
        }
        assert!(names.len() > 80, "{} functions are linked", names.len());
    }
}
