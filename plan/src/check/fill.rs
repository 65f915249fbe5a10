//! Values that stand for what does not fit.

use super::{Checker, types};
use serde_json::Value;

impl Checker<'_> {
    /// Stands for a value that does not fit or is missing, so that the part can be made and what hangs on its other keys is looked at:
    /// errors were told, and it never runs. None where it would name fields, of which nothing is known then.
    pub(super) fn filler(&mut self, schema: &Value, must: bool) -> Option<Value> {
        let resolved = self.resolve(schema);
        let filler = if self.fill { self.some_value(resolved) } else { None };
        self.lost |= filler.is_none();
        filler.filter(|_| must)
    }

    fn some_value(&self, schema: &Value) -> Option<Value> {
        let schema = self.resolve(schema);
        let rules = schema.as_object()?;
        if let Some(names) = self.names(schema) {
            return names.into_iter().next().map(Value::String);
        }
        if let Some(branches) = rules.get("oneOf").or_else(|| rules.get("anyOf")).and_then(Value::as_array) {
            return branches.iter().find_map(|b| self.some_value(b));
        }
        let types = types(rules);
        let least = rules.get("minimum").and_then(Value::as_i64).unwrap_or(1).max(1);
        match (types.iter().find(|t| **t != "null")?, rules.get("format").and_then(Value::as_str).unwrap_or("")) {
            (&"string", "duration") => Some("1s".into()),
            (&"string", "size") => Some("1MiB".into()),
            (&"string", "type") => Some("any".into()),
            (&"string", "expr") => Some("true".into()),
            (&"string", "template" | "secret" | "path") => Some("x".into()),
            (&"string", "") => Some("localhost:1".into()),
            (&"integer" | &"number", _) => Some(least.into()),
            (&"boolean", _) => Some(false.into()),
            _ => None,
        }
    }
}
