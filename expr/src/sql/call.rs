//! Calls: functions by name, the forms that are no ordinary functions, aggregates.

use super::check::{Compiler, Typed, describe, loose};
use super::node::{Const, Node};
use crate::aggregate::{self, AggregateCall};
use crate::function::{self, FunctionDef, Param, Part, Prepared, Returns};
use millrace_sdk::Type;
use millrace_sdk::problem::did_you_mean;
use sqlparser::ast::{self, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments};
use std::ops::Range;

/// Functions that read the clock: a replay would give other results.
const CLOCKS: &[&str] = &[
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "proctime",
    "unix_timestamp",
    "sysdate",
    "rand",
    "random",
    "uuid",
];

/// What other dialects call these functions.
const ELSEWHERE: &[(&str, &str)] = &[
    ("array_length", "cardinality"),
    ("get_json_object", "json_value"),
    ("isnull", "coalesce"),
    ("json_extract", "json_value"),
    ("size", "cardinality"),
    ("strftime", "date_format"),
    ("strlen", "length"),
    ("to_char", "date_format"),
    ("to_date", "to_timestamp"),
    ("to_lower", "lower"),
    ("to_upper", "upper"),
];

impl Compiler<'_> {
    pub fn function(&mut self, f: &ast::Function) -> Option<Typed> {
        let range = self.place(f);
        let name = f.name.to_string().replace(['"', '`'], "").to_ascii_lowercase();
        let name_range = f.name.0.iter().map(|p| self.place(p)).reduce(|a, b| a.start..b.end).unwrap_or(range.clone());
        if f.over.is_some() || !f.within_group.is_empty() || f.null_treatment.is_some() || !matches!(f.parameters, FunctionArguments::None)
        {
            self.issue("unsupported-expression", range, "OVER, WITHIN GROUP and the like are not part of the expression language").hint =
                Some("windows are operators: CountWindowWithTimeOut, Aggregate".into());
            return None;
        }
        let list = match &f.args {
            // Words like `user` that the parser takes for functions without brackets are fields here.
            FunctionArguments::None if !CLOCKS.contains(&name.as_str()) => return self.field(&f.name.to_string(), range, false),
            FunctionArguments::None => &[],
            FunctionArguments::Subquery(_) => {
                self.issue("unsupported-expression", range, "an expression cannot contain a query");
                return None;
            }
            FunctionArguments::List(l) => &l.args[..],
        };
        let distinct = matches!(&f.args, FunctionArguments::List(l) if l.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct));
        if matches!(&f.args, FunctionArguments::List(l) if !l.clauses.is_empty()) {
            self.issue(
                "unsupported-expression",
                range,
                "ORDER BY, LIMIT and the like inside a call are not part of the expression language",
            );
            return None;
        }
        if CLOCKS.contains(&name.as_str()) {
            let i = self.issue("not-repeatable", name_range, format!("`{name}` gives another result at each run"));
            i.hint = Some("use the record's own time: an event-time field, or `_timestamp` of a Kafka source".into());
            return None;
        }
        let mut star = false;
        let mut args = vec![];
        for a in list {
            match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(e),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => star = true,
                _ => {
                    self.issue("unsupported-expression", range, "arguments have no names");
                    return None;
                }
            }
        }
        if aggregate::is_aggregate(&name) {
            return self.aggregate(&name, &args, star, distinct, f.filter.as_deref(), range, name_range);
        }
        if star || distinct || f.filter.is_some() {
            self.issue("unsupported-expression", range, format!("`{name}` is no aggregate: `*`, DISTINCT and FILTER do not go with it"));
            return None;
        }
        let told = self.issues.len();
        let args = self.exprs(args);
        if function::find(&name).is_none() && !special(&name) {
            // Whether it would have taken values of single rows, nobody knows.
            let own = self.issues.split_off(told).into_iter().filter(|i| i.id != "not-aggregated");
            self.issues.extend(own);
            self.unknown(&name, name_range);
            return None;
        }
        self.call(&name, args?, range, name_range)
    }

    fn unknown(&mut self, name: &str, range: Range<usize>) {
        let names = function::functions().into_iter().flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()));
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, own)| own.to_string());
        let suggestion = elsewhere.or_else(|| did_you_mean(name, names.chain(aggregate::NAMES.iter().copied())));
        let i = self.issue("unknown-function", range, format!("unknown function `{name}`"));
        i.hint = Some("`millrace list` names all functions".into());
        i.suggestion = suggestion;
    }

    #[allow(clippy::too_many_arguments)]
    fn aggregate(
        &mut self,
        name: &str,
        args: &[&Ast],
        star: bool,
        distinct: bool,
        filter: Option<&Ast>,
        range: Range<usize>,
        name_range: Range<usize>,
    ) -> Option<Typed> {
        let Some(mut found) = self.aggregates.take() else {
            if self.schema.is_none() {
                let _ = self.exprs(args.iter().copied().chain(filter));
                return self.typed(Node::null(), Type::Any, range);
            }
            let (message, hint) = match self.nested {
                true => (format!("`{name}` is an aggregate inside of another"), "a second window takes the aggregates of the first"),
                false => (format!("`{name}` is an aggregate: there is one row here"), "aggregates belong in the `aggregates` of a window"),
            };
            self.issue("aggregate-not-allowed", name_range, message).hint = Some(hint.into());
            return None;
        };
        // Inside, fields are those of a row, and aggregates are not allowed.
        self.nested = true;
        let inner = self.exprs(args.iter().copied());
        let filter = match filter {
            None => Some(None),
            Some(f) => self.expr(f).map(Some),
        };
        self.nested = false;
        let made = match (inner, filter) {
            (Some(inner), Some(filter)) => {
                if let Some(f) = &filter
                    && !loose(f.ty)
                    && f.ty != Type::Boolean
                {
                    let message = format!("FILTER takes a condition, found {}", describe(f.ty));
                    self.issue("wrong-type", f.range.clone(), message);
                    None
                } else {
                    let at = inner.first().map_or(range.clone(), |t| t.range.clone());
                    match AggregateCall::new(
                        name,
                        inner.into_iter().map(|t| (t.node, t.ty)).collect(),
                        star,
                        distinct,
                        filter.map(|t| t.node),
                    ) {
                        Ok(call) => Some(call),
                        Err((id, message)) => {
                            self.issue(id, if id == "wrong-type" { at } else { range.clone() }, message);
                            None
                        }
                    }
                }
            }
            _ => None,
        };
        let typed = made.map(|call| {
            let ty = call.ty();
            found.push(call);
            Typed { node: Node::Acc(found.len() - 1), ty, range, interval: None }
        });
        self.aggregates = Some(found);
        typed
    }

    /// A call with checked arguments.
    pub fn call(&mut self, name: &str, args: Vec<Typed>, range: Range<usize>, name_range: Range<usize>) -> Option<Typed> {
        if special(name) {
            return self.special(name, args, range);
        }
        let Some(def) = function::find(name) else {
            self.unknown(name, name_range);
            return None;
        };
        if args.len() < def.required || (args.len() > def.params.len() && !def.variadic) {
            let i = self.issue("wrong-argument-count", range, format!("`{name}` takes {}, found {}", def.counts(), args.len()));
            i.hint = Some(format!("{}: {}", def.signature, def.doc));
            return None;
        }
        let mut args = args;
        let mut fits = true;
        for (i, slot) in args.iter_mut().enumerate() {
            let param = def.param(i);
            if param == Param::Time {
                let t = std::mem::replace(slot, Typed { node: Node::null(), ty: Type::Any, range: 0..0, interval: None });
                *slot = self.as_time(t);
            }
            if !param.accepts(slot.ty) {
                let message = format!("`{name}` takes {} here, found {}", param.describe(), describe(slot.ty));
                self.issue("wrong-type", slot.range.clone(), message).hint = Some(def.signature.to_string());
                fits = false;
            }
        }
        let prepared = self.prepare(def, &args)?;
        if !fits || !self.groups(def.name, &prepared, &args) {
            return None;
        }
        let types: Vec<Type> = args.iter().map(|t| t.ty).collect();
        let ty = match def.returns {
            Returns::Is(ty) => ty,
            Returns::By(f) => f(&types),
        };
        let ty = match (def.name, ty, args.get(1).map(|t| &t.node)) {
            ("round" | "truncate", Type::Decimal(p, s), None) => Type::Decimal((p - s + 1).min(38), 0),
            ("round" | "truncate", Type::Decimal(p, s), Some(Node::Const(Const::Int(n)))) if *n < s.into() => {
                let places = (*n).max(0) as u8;
                Type::Decimal((p - s + 1 + places).min(38), places)
            }
            (_, ty, _) => ty,
        };
        let constant = args.iter().all(|t| t.node.is_const()) && self.schema.is_some();
        let mut args: Vec<Node> = args.into_iter().map(|t| t.node).collect();
        if matches!(def.name, "floor" | "ceil")
            && let Some(n) = args.pop()
        {
            return self.typed(self.fold(Node::Whole(def.name == "ceil", Box::new(n)), constant), ty, range);
        }
        let args: Box<[Node]> = args.into();
        let field = if let [Node::Field(slot, Type::String)] = *args { Some(slot) } else { None };
        let constants = args.iter().skip(1).map(|n| if let Node::Const(c) = n { Some(c) } else { None });
        let part = constants.collect::<Option<Vec<_>>>().and_then(|constants| Part::new(def.name, &constants));
        let call = Node::Call { call: def.call, args, prepared: Box::new(prepared), strict: def.strict };
        let node = match (def.name, field) {
            ("length", Some(slot)) => Node::Length(slot, Box::new(call)),
            _ => match part {
                Some(part) => Node::Part(part, Box::new(call)),
                None => call,
            },
        };
        self.typed(self.fold(node, constant), ty, range)
    }

    fn prepare(&mut self, def: &'static FunctionDef, args: &[Typed]) -> Option<Prepared> {
        let Some((at, prepare)) = def.prepare else { return Some(Prepared::None) };
        let Some(arg) = args.get(at) else { return Some(Prepared::None) };
        let Node::Const(Const::Str(text)) = &arg.node else { return Some(Prepared::None) };
        match prepare(text, self.settings) {
            Ok(p) => Some(p),
            Err((id, message)) => {
                // The fault's own place, where the literal is written as it is meant.
                let inner = arg.range.start + 1..arg.range.end.saturating_sub(1);
                let fault = millrace_sdk::pattern::regex_fault(text).filter(|_| id == "invalid-regex");
                let range = match fault.filter(|_| self.text.text.get(inner.clone()) == Some(&**text)) {
                    Some((at, _)) => inner.start + at.start..inner.start + at.end,
                    None => arg.range.clone(),
                };
                // `unknown unit …: year, month`: one of those that it lists.
                let listed = message.split_once("unknown unit").and_then(|(_, m)| m.split_once(": ")).map_or("", |(_, names)| names);
                let suggestion = did_you_mean(text, listed.split(", ")).map(|unit| format!("'{unit}'"));
                self.issue(id, range, message).suggestion = suggestion;
                None
            }
        }
    }

    /// Whether a constant pattern has the groups that the other arguments name.
    fn groups(&mut self, name: &str, prepared: &Prepared, args: &[Typed]) -> bool {
        let Prepared::Regex(regex) = prepared else { return true };
        let count = regex.captures_len() - 1;
        let has = match count {
            0 => "the pattern has no group".to_string(),
            1 => "the pattern has 1 group".to_string(),
            n => format!("the pattern has {n} groups"),
        };
        match (name, args.get(2).map(|t| (&t.node, t.range.clone()))) {
            ("regexp_extract", Some((Node::Const(Const::Int(n)), range))) if !(0..=count as i64).contains(n) => {
                self.issue("invalid-argument", range, format!("{has}, not {n}")).hint = Some("0 is the whole match".into());
                false
            }
            ("regexp_replace", Some((Node::Const(Const::Str(to)), range))) => {
                let Some((written, read)) = function::missing_group(regex, to) else { return true };
                // In a topology `${` begins a variable, and `$${` is the text itself.
                let number = read.chars().take_while(char::is_ascii_digit).count();
                let message = format!("`{written}` means the group `{read}`, which the pattern does not have");
                let i = self.issue("invalid-argument", range, message);
                i.hint = Some(match number {
                    n if n > 0 && n < read.len() => format!("write `$${{{}}}{}` for a group with text behind it", &read[..n], &read[n..]),
                    _ => "a `$` itself is written `$$`".into(),
                });
                false
            }
            _ => true,
        }
    }

    fn special(&mut self, name: &str, mut args: Vec<Typed>, range: Range<usize>) -> Option<Typed> {
        let wrong = |c: &mut Self, takes: &str, n: usize| {
            c.issue("wrong-argument-count", range.clone(), format!("`{name}` takes {takes}, found {n}"));
            None
        };
        let constant = args.iter().all(|t| t.node.is_const()) && self.schema.is_some();
        match name {
            "nullif" => {
                if args.len() != 2 {
                    return wrong(self, "2 arguments", args.len());
                }
                let (b, a) = (args.pop()?, args.pop()?);
                let (a, b) = self.matched(a, b);
                if !self.comparable(a.ty, b.ty, &range) {
                    return None;
                }
                let ty = a.ty;
                self.typed(self.fold(Node::NullIf(Box::new([a.node, b.node])), constant), ty, range)
            }
            "if" | "iff" => {
                if args.len() != 3 {
                    return wrong(self, "3 arguments", args.len());
                }
                let results = args.split_off(1);
                let condition = args.pop()?;
                if !loose(condition.ty) && condition.ty != Type::Boolean {
                    self.issue("wrong-type", condition.range, format!("expected a condition, found {}", describe(condition.ty)));
                    return None;
                }
                let (mut results, ty) = self.unify(name, results)?;
                let (other, then) = (results.pop()?, results.pop()?);
                let text = self.text.text.get(condition.range.clone()).unwrap_or_default();
                let (yes, no) = (format!("if {text}"), format!("if not {text}"));
                let then = self.counted(then, condition.range.start, yes);
                let other = self.counted(other, condition.range.end, no);
                let constant = constant && self.settings.reached.is_none();
                let node = Node::Case(Box::new([(condition.node, then)]), Box::new(other));
                self.typed(self.fold(node, constant), ty, range)
            }
            _ => {
                if args.is_empty() || (name != "coalesce" && args.len() != 2) {
                    return wrong(self, if name == "coalesce" { "at least 1 argument" } else { "2 arguments" }, args.len());
                }
                let (nodes, ty) = self.unify(name, args)?;
                self.typed(self.fold(Node::Coalesce(nodes.into()), constant), ty, range)
            }
        }
    }
}

/// Forms that do not evaluate all their arguments.
fn special(name: &str) -> bool {
    matches!(name, "coalesce" | "nullif" | "ifnull" | "nvl" | "if" | "iff")
}
