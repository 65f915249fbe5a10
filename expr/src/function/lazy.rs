//! Forms that do not evaluate all their arguments: compiled on their own, registered for the reference.

use super::{FunctionDef, Param::*};
use crate::sql::value::V;
use millrace_sdk::Type;
use millrace_sdk::inventory::submit;

submit! { FunctionDef::new("coalesce", &[Any], Type::Any, "coalesce(a, b, …) -> the common type",
"the first argument that is not NULL", "coalesce(NULL, 2, 3) => 2", |a, _, _| Ok(a.iter().copied().find(|v| !v.is_null()).unwrap_or(V::Null))).variadic().takes_null() }
submit! { FunctionDef::new("ifnull", &[Any, Any], Type::Any, "ifnull(a, b) -> the common type",
"the first argument, the second if that is NULL", "ifnull(NULL, 'x') => 'x'", |a, _, _| Ok(if a[0].is_null() { a[1] } else { a[0] })).alias(&["nvl"]).takes_null() }
submit! { FunctionDef::new("nullif", &[Any, Any], Type::Any, "nullif(a, b) -> type of a",
"NULL if both are equal, else the first", "nullif('-', '-') => NULL",
|a, _, _| Ok(if crate::sql::value::compare(a[0], a[1])? == Some(std::cmp::Ordering::Equal) { V::Null } else { a[0] })).takes_null() }
submit! { FunctionDef::new("if", &[Boolean, Any, Any], Type::Any, "if(condition, then, else) -> the common type",
"the second argument where the condition is true, else the third", "if(1 < 2, 'a', 'b') => 'a'",
|a, _, _| Ok(if a[0].truth()? == Some(true) { a[1] } else { a[2] })).alias(&["iff"]).takes_null() }
