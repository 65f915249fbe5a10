//! Names and types of a row's fields. Names exist only here: at run time a field is a slot.

use crate::problem::did_you_mean;
use std::fmt;
use std::sync::Arc;

pub type SchemaRef = Arc<Schema>;

/// A field's place in a row, resolved at plan time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

impl Slot {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The types of the topology language.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Type {
    /// Not known before run time: a field of undeclared JSON.
    Any,
    String,
    Bigint,
    Double,
    /// Exact: precision (digits in all, 1 to 38) and scale (digits after the point).
    Decimal(u8, u8),
    Boolean,
    Timestamp,
    Bytes,
    Array,
    Map,
    Json,
}

impl Type {
    /// Every way to write a type, for messages and schemas.
    pub const NAMES: &'static [&'static str] =
        &["string", "bigint", "double", "decimal(p,s)", "boolean", "timestamp", "bytes", "array", "map", "json", "any"];

    /// Reads a type as written in a topology: `string`, `decimal(18,2)`. Common other names are taken too.
    pub fn parse(text: &str) -> Option<Type> {
        let t = text.trim().to_ascii_lowercase();
        Some(match t.as_str() {
            "any" => Type::Any,
            "string" | "varchar" | "text" => Type::String,
            "bigint" | "int" | "integer" | "long" => Type::Bigint,
            "double" | "float" => Type::Double,
            "boolean" | "bool" => Type::Boolean,
            "timestamp" => Type::Timestamp,
            "bytes" => Type::Bytes,
            "array" => Type::Array,
            "map" => Type::Map,
            "json" => Type::Json,
            "decimal" => Type::Decimal(38, 0),
            _ => {
                let inner = t.strip_prefix("decimal(")?.strip_suffix(')')?;
                let (p, s) = inner.split_once(',').unwrap_or((inner, "0"));
                let (p, s) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
                if p == 0 || p > 38 || s > p {
                    return None;
                }
                Type::Decimal(p, s)
            }
        })
    }

    /// The name of the type that was likely meant by a word that is none.
    pub fn meant(word: &str) -> Option<String> {
        let lower = word.trim().to_ascii_lowercase();
        let base = lower.split('(').next().unwrap_or_default().trim();
        let elsewhere = match base {
            "str" | "char" | "utf8" | "keyword" => "string",
            "int8" | "int16" | "int32" | "int64" | "uint32" | "uint64" | "smallint" | "tinyint" => "bigint",
            "float32" | "float64" | "number" | "real" => "double",
            "numeric" => "decimal(18,2)",
            "datetime" | "date" | "time" | "timestamp_ltz" | "timestamptz" | "timestamp" => "timestamp",
            "binary" | "varbinary" | "blob" => "bytes",
            "list" => "array",
            "object" | "obj" | "dict" | "record" | "struct" | "row" => "map",
            _ => return did_you_mean(&lower, Type::NAMES.iter().copied()),
        };
        Some(elsewhere.into())
    }

    pub fn is_number(self) -> bool {
        matches!(self, Type::Bigint | Type::Double | Type::Decimal(..))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::String => f.write_str("string"),
            Type::Bigint => f.write_str("bigint"),
            Type::Double => f.write_str("double"),
            Type::Decimal(p, s) => write!(f, "decimal({p},{s})"),
            Type::Boolean => f.write_str("boolean"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Bytes => f.write_str("bytes"),
            Type::Array => f.write_str("array"),
            Type::Map => f.write_str("map"),
            Type::Json => f.write_str("json"),
        }
    }
}

/// A named, typed field.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Field {
    pub name: Box<str>,
    pub ty: Type,
    /// Readable by name, but not part of "all fields": what a source knows of a record (`_topic`), and paths
    /// below a field that the open tail still holds (`client.os`).
    pub hidden: bool,
}

impl Field {
    pub fn new(name: impl Into<Box<str>>, ty: Type) -> Field {
        Field { name: name.into(), ty, hidden: false }
    }

    pub fn hidden(name: impl Into<Box<str>>, ty: Type) -> Field {
        Field { name: name.into(), ty, hidden: true }
    }
}

/// The fields of all rows of an edge. Equal ids mean equal names, types and order, in every process and release.
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    id: u64,
    fields: Vec<Field>,
    tail: Option<Slot>,
}

/// Where a name or a path leads: a slot, and what is still to be looked up inside its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub slot: Slot,
    /// Keys (or array indexes) below the slot's value; empty for a plain field.
    pub rest: Box<[Box<str>]>,
    pub ty: Type,
}

impl Schema {
    /// A closed schema: the fields are all there are.
    pub fn new(fields: Vec<Field>) -> SchemaRef {
        Self::build(fields, None)
    }

    /// An open schema: a last, hidden slot holds the JSON object that the row was parsed from; fields that nobody named are
    /// still in it. A visible field's value takes the place of the tail's member of that name; a hidden field of that
    /// name that is Missing covers it.
    pub fn open(mut fields: Vec<Field>) -> SchemaRef {
        let tail = Slot(fields.len() as u16);
        fields.push(Field::hidden("_rest", Type::Json));
        Self::build(fields, Some(tail))
    }

    fn build(fields: Vec<Field>, tail: Option<Slot>) -> SchemaRef {
        assert!(fields.len() < u16::MAX as usize, "the planner bounds a row's width");
        let mut text = String::new();
        for f in &fields {
            use std::fmt::Write;
            let _ = write!(text, "{}\u{1f}{}\u{1f}{}\u{1e}", f.name, f.ty, f.hidden as u8);
        }
        if tail.is_some() {
            text.push('+');
        }
        Arc::new(Schema { id: xxhash_rust::xxh3::xxh3_64(text.as_bytes()), fields, tail })
    }

    /// Hash of names, types and order; state rows and the wire carry it.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    #[inline]
    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// The slot of the object that holds unnamed fields, in an open schema.
    pub fn tail(&self) -> Option<Slot> {
        self.tail
    }

    pub fn field(&self, slot: Slot) -> &Field {
        &self.fields[slot.index()]
    }

    /// The slot of an exact name.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.fields.iter().position(|f| &*f.name == name).map(|i| Slot(i as u16))
    }

    /// Fields that "all fields" means, in order.
    pub fn visible(&self) -> impl Iterator<Item = (Slot, &Field)> {
        self.fields.iter().enumerate().filter(|(_, f)| !f.hidden).map(|(i, f)| (Slot(i as u16), f))
    }

    /// Resolves `name`, `name.key` or `name.0.key`: the longest declared prefix wins, the rest is looked up in its value.
    /// In an open schema an unknown name leads into the tail. None: no such field.
    pub fn resolve(&self, path: &str) -> Option<Access> {
        if let Some(slot) = self.slot(path) {
            return Some(Access { slot, rest: Box::default(), ty: self.field(slot).ty });
        }
        let mut end = path.len();
        while let Some(dot) = path[..end].rfind('.') {
            if let Some(slot) = self.slot(&path[..dot]) {
                if !matches!(self.field(slot).ty, Type::Any | Type::Map | Type::Array | Type::Json) {
                    return None;
                }
                return Some(Access { slot, rest: split_path(&path[dot + 1..]), ty: Type::Any });
            }
            end = dot;
        }
        self.tail.filter(|_| !path.starts_with('_')).map(|slot| Access { slot, rest: split_path(path), ty: Type::Any })
    }

    /// What a name or a path that leads nowhere was likely meant to be: of a path the field is misspelt, most often.
    pub fn meant(&self, name: &str) -> Option<String> {
        let names = || self.names().filter(|n| *n != "_rest");
        did_you_mean(name, names()).or_else(|| {
            let (head, rest) = name.split_once(['.', '['])?;
            let near = did_you_mean(head, names())?;
            Some(format!("{near}{}{rest}", &name[head.len()..name.len() - rest.len()]))
        })
    }

    /// Names that a user can have meant, for "did you mean".
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| &*f.name)
    }
}

fn split_path(path: &str) -> Box<[Box<str>]> {
    path.split('.').map(Into::into).collect()
}
