//! A row as names and texts, for output that people read.

use crate::format::cell;
use millrace_sdk::{Record, Schema, SchemaRef, Slot, Val, json};

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub name: String,
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Null,
    Other,
}

/// Reads rows of one schema.
#[derive(Clone)]
pub struct Cells {
    schema: SchemaRef,
}

impl Cells {
    pub fn new(schema: &SchemaRef) -> Cells {
        Cells { schema: schema.clone() }
    }

    /// The visible fields that are there, then the members of the open tail that no field names, or a hidden one that is there.
    pub fn of(&self, row: &Record<'_>) -> Vec<Cell> {
        let mut cells = Vec::with_capacity(self.schema.width());
        for (slot, field) in self.schema.visible() {
            let value = row.get(slot);
            if value == Val::Missing {
                continue;
            }
            cells.push(Cell { name: field.name.to_string(), text: text(row, slot), kind: kind(value) });
        }
        if let Some(Val::Json(object)) = self.schema.tail().map(|t| row.get(t)) {
            cells.extend(rest(object, &self.schema, row));
        }
        cells
    }
}

fn kind(value: Val<'_>) -> Kind {
    match value {
        Val::Int(_) | Val::Float(_) | Val::Num(_) => Kind::Number,
        Val::Null => Kind::Null,
        _ => Kind::Other,
    }
}

fn text(row: &Record<'_>, slot: Slot) -> String {
    let mut out = Vec::new();
    cell(row, slot, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn rest(object: &str, schema: &Schema, row: &Record<'_>) -> Vec<Cell> {
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(object) else { return vec![] };
    // A hidden field that is Missing was dropped; one that is there was only read by name.
    let own = |name: &str| schema.slot(name).is_none_or(|s| schema.fields()[s.0 as usize].hidden && row.get(s) != Val::Missing);
    members
        .into_iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| match value {
            serde_json::Value::Null => Cell { name, text: String::new(), kind: Kind::Null },
            serde_json::Value::String(text) => Cell { name, text, kind: Kind::Other },
            serde_json::Value::Number(n) => Cell { name, text: n.to_string(), kind: Kind::Number },
            other => Cell { name, text: other.to_string(), kind: Kind::Other },
        })
        .collect()
}

/// Appends a line of `key=value` pairs.
pub fn logfmt(cells: &[Cell], out: &mut Vec<u8>) {
    for (i, c) in cells.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        // A key has no way to be quoted.
        out.extend(c.name.bytes().map(|b| if b <= b' ' || b == b'=' || b == b'"' { b'_' } else { b }));
        out.push(b'=');
        let plain = !c.text.is_empty() && !c.text.bytes().any(|b| b <= b' ' || matches!(b, b'"' | b'=' | b'\\' | 0x7f));
        match c.kind {
            Kind::Null => out.extend_from_slice(b"null"),
            _ if plain => out.extend_from_slice(c.text.as_bytes()),
            _ => json::quote(c.text.as_bytes(), out),
        }
    }
    out.push(b'\n');
}
