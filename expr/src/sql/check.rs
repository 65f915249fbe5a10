//! Syntax tree to program: names become slots, types are checked, constants computed. Goes on after an issue, to report them all.

use super::condition::floated;
use super::node::{Bits, Cmp, Const, Cx, Kind, Node, Settings};
use super::parse::Text;
use super::pool::Pool;
use super::time::Interval;
use super::value::{Op, common, decimal_type};
use crate::aggregate::AggregateCall;
use crate::{EvalError, Issue};
use millrace_sdk::record::Meta;
use millrace_sdk::{Batch, BatchBuilder, Decimal, Schema, Type, Way};
use sqlparser::ast::{self, BinaryOperator, Expr as Ast, Ident, Spanned, UnaryOperator};
use std::ops::Range;
use std::sync::LazyLock;

/// Longest chain of operators other than AND and OR.
const MAX_CHAIN: usize = 200;

/// Texts up to this length, bytes, are parsed on the caller's stack.
const SHORT: usize = 64;
/// The stack for longer ones, bytes: reserved, not used up.
const STACK: usize = 64 << 20;

/// A part of the program with its type and place.
pub struct Typed {
    pub node: Node,
    pub ty: Type,
    pub range: Range<usize>,
    /// Only to be added to a timestamp.
    pub interval: Option<Interval>,
}

pub struct Compiler<'s> {
    pub text: Text<'s>,
    /// None: only to learn which names are read.
    pub schema: Option<&'s Schema>,
    pub settings: &'s Settings,
    pub issues: Vec<Issue>,
    /// Names and paths that were read.
    pub seen: Vec<String>,
    /// Aggregates found, where they are allowed.
    pub aggregates: Option<Vec<AggregateCall>>,
    /// Within the arguments of an aggregate.
    pub nested: bool,
}

/// A row without fields, for constants.
pub static NO_ROW: LazyLock<Batch> = LazyLock::new(|| {
    let mut b = BatchBuilder::new(Schema::new(vec![]));
    b.end_row(Meta::default());
    b.finish()
});

/// What is decided at run time.
pub fn loose(ty: Type) -> bool {
    matches!(ty, Type::Any | Type::Json)
}

pub fn describe(ty: Type) -> String {
    match ty {
        Type::Any => "a value of unknown type".into(),
        Type::Array => "an array".into(),
        Type::Bytes => "bytes".into(),
        Type::Json => "json".into(),
        ty => format!("a {ty}"),
    }
}

impl<'s> Compiler<'s> {
    pub fn new(text: &'s str, schema: Option<&'s Schema>, settings: &'s Settings) -> Compiler<'s> {
        Compiler { text: Text::new(text), schema, settings, issues: vec![], seen: vec![], aggregates: None, nested: false }
    }

    /// The program of the whole text; None where there are issues.
    pub fn run(&mut self) -> Option<Typed> {
        if self.text.text.len() <= SHORT {
            return self.compile();
        }
        // The parser recurses with large frames: long texts get a stack of their own.
        std::thread::scope(|scope| {
            let deep = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || self.compile());
            deep.ok()?.join().ok()?
        })
    }

    fn compile(&mut self) -> Option<Typed> {
        let tree = self.text.parse().map_err(|e| self.issues.push(e)).ok()?;
        let typed = self.expr(&tree)?;
        self.issues.is_empty().then_some(typed)
    }

    pub fn issue(&mut self, id: &'static str, range: Range<usize>, message: impl Into<String>) -> &mut Issue {
        self.issues.push(Issue { id, range, message: message.into(), hint: None, suggestion: None });
        self.issues.last_mut().expect("just pushed")
    }

    pub fn place(&self, e: &impl Spanned) -> Range<usize> {
        self.text.range(e.span())
    }

    pub fn typed(&self, node: Node, ty: Type, range: Range<usize>) -> Option<Typed> {
        Some(Typed { node, ty, range, interval: None })
    }

    /// Computes what is made of constants alone; what fails there is left to fail at run time.
    pub fn fold(&self, node: Node, constant: bool) -> Node {
        self.computed(node, constant).0
    }

    /// The same, and why it fails, if it does.
    fn computed(&self, node: Node, constant: bool) -> (Node, Option<EvalError>) {
        if !constant {
            return (node, None);
        }
        let pool = Pool::default();
        let settings = Settings { zone: self.settings.zone.clone(), null_on_error: false, reached: None };
        let folded = {
            let cx = Cx { row: NO_ROW.row(0), pool: &pool, accs: &[], settings: &settings };
            node.val(&cx).map(Const::of)
        };
        match folded {
            Ok(c) => (c.map_or(node, Node::Const), None),
            Err(e) => (node, Some(*e)),
        }
    }

    pub fn expr(&mut self, e: &Ast) -> Option<Typed> {
        let t = self.term(e)?;
        if t.interval.is_some() {
            self.issue("wrong-type", t.range, "an interval can only be added to or taken from a timestamp");
            return None;
        }
        Some(t)
    }

    pub fn exprs<'e>(&mut self, all: impl IntoIterator<Item = &'e Ast>) -> Option<Vec<Typed>> {
        let all: Vec<Option<Typed>> = all.into_iter().map(|e| self.expr(e)).collect();
        all.into_iter().collect()
    }

    fn term(&mut self, e: &Ast) -> Option<Typed> {
        match e {
            Ast::Nested(inner) => self.term(inner),
            Ast::Identifier(id) => self.name(std::slice::from_ref(id)),
            Ast::CompoundIdentifier(ids) => self.name(ids),
            Ast::CompoundFieldAccess { root, access_chain } => self.access(e, root, access_chain),
            Ast::Value(v) => self.literal(&v.value, self.text.range(v.span)),
            Ast::TypedString(t) => {
                let range = self.text.range(t.value.span);
                let text = self.literal(&t.value.value, range.clone())?;
                self.cast(text, &t.data_type, false, range, true)
            }
            Ast::Interval(i) => self.interval(i),
            Ast::BinaryOp { .. } => self.binary(e),
            Ast::UnaryOp { op, expr } => self.unary(op, expr),
            Ast::IsNull(x) => self.is_null(x, false),
            Ast::IsNotNull(x) => self.is_null(x, true),
            Ast::IsTrue(x) => self.is(x, Some(true), false),
            Ast::IsNotTrue(x) => self.is(x, Some(true), true),
            Ast::IsFalse(x) => self.is(x, Some(false), false),
            Ast::IsNotFalse(x) => self.is(x, Some(false), true),
            Ast::IsUnknown(x) => self.is(x, None, false),
            Ast::IsNotUnknown(x) => self.is(x, None, true),
            Ast::IsDistinctFrom(a, b) => self.same(a, b, true),
            Ast::IsNotDistinctFrom(a, b) => self.same(a, b, false),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Ast::Between { expr, negated, low, high } => self.between(expr, low, high, *negated),
            Ast::Like { negated, any: false, expr, pattern, escape_char } => self.like(expr, pattern, escape_char, *negated, false),
            Ast::ILike { negated, any: false, expr, pattern, escape_char } => self.like(expr, pattern, escape_char, *negated, true),
            Ast::RLike { negated, expr, pattern, .. } => {
                let args = self.exprs([&**expr, &**pattern])?;
                let t = self.call("regexp_like", args, self.place(&**expr), self.place(&**expr))?;
                Some(self.negate(t, *negated))
            }
            Ast::Case { operand, conditions, else_result, .. } => self.case(e, operand.as_deref(), conditions, else_result.as_deref()),
            Ast::Cast { kind, expr, data_type, format: None } => {
                let range = self.place(&**expr);
                let inner = self.expr(expr)?;
                let tried = matches!(kind, ast::CastKind::TryCast | ast::CastKind::SafeCast);
                self.cast(inner, data_type, tried, range, false)
            }
            Ast::Extract { field, expr, .. } => {
                let range = self.place(&**expr);
                let unit =
                    self.typed(Node::Const(Const::Str(field.to_string().to_ascii_lowercase().into())), Type::String, range.clone())?;
                let x = self.expr(expr)?;
                self.call("date_part", vec![unit, x], range.clone(), range)
            }
            Ast::Ceil { expr, field } => self.rounding("ceil", expr, field),
            Ast::Floor { expr, field } => self.rounding("floor", expr, field),
            Ast::Position { expr, r#in } => self.known("position", &[expr, r#in]),
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let all: Vec<&Ast> =
                    [Some(expr), substring_from.as_ref(), substring_for.as_ref()].into_iter().flatten().map(|b| &**b).collect();
                self.known("substring", &all)
            }
            Ast::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "trim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                let mut all: Vec<&Ast> = vec![expr];
                all.extend(trim_what.as_deref());
                all.extend(trim_characters.iter().flatten());
                self.known(name, &all)
            }
            Ast::Function(f) => self.function(f),
            Ast::InSubquery { .. } | Ast::Exists { .. } | Ast::Subquery(_) | Ast::InUnnest { .. } => {
                self.issue("unsupported-expression", self.place(e), "an expression cannot contain a query").hint =
                    Some("join with the other stream, or look it up in a store".into());
                None
            }
            _ => {
                let range = self.place(e);
                self.issue("unsupported-expression", range, "this form of SQL is not part of the expression language");
                None
            }
        }
    }

    fn known(&mut self, name: &str, args: &[&Ast]) -> Option<Typed> {
        let range = args.iter().map(|a| self.place(*a)).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let args = self.exprs(args.iter().copied())?;
        self.call(name, args, range.clone(), range)
    }

    fn rounding(&mut self, name: &str, e: &Ast, field: &ast::CeilFloorKind) -> Option<Typed> {
        if !matches!(field, ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime)) {
            let range = self.place(e);
            self.issue("unsupported-expression", range, format!("`{name}` takes one number")).hint =
                Some("times are cut by date_trunc('hour', t), digits by round(x, 2) and truncate(x, 2)".into());
            return None;
        }
        self.known(name, &[e])
    }

    /// A name or a dotted path.
    fn name(&mut self, ids: &[Ident]) -> Option<Typed> {
        let path = ids.iter().map(|i| i.value.as_str()).collect::<Vec<_>>().join(".");
        let range = ids.iter().map(|i| self.text.range(i.span)).reduce(|a, b| a.start..b.end).unwrap_or(0..0);
        if self.aggregates.is_some() {
            self.issue("not-aggregated", range, format!("`{path}` is a value of single rows")).hint =
                Some(format!("take one of the window's with first({path}), last({path}), min({path}) …"));
            return None;
        }
        self.field(&path, range, ids[0].quote_style == Some('"'))
    }

    pub fn field(&mut self, path: &str, range: Range<usize>, quoted: bool) -> Option<Typed> {
        self.seen.push(path.to_string());
        let Some(schema) = self.schema else { return self.typed(Node::Const(Const::Null), Type::Any, range) };
        let Some(access) = schema.resolve(path) else {
            let suggestion = schema.meant(path);
            let known: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
            let listed = match known.len() {
                1..=12 if suggestion.is_none() => Some(format!("the fields here are {}", known.join(", "))),
                _ => None,
            };
            let i = self.issue("unknown-field", range, format!("unknown field `{path}`"));
            (i.suggestion, i.hint) = (suggestion, listed);
            if quoted {
                i.hint = Some("double quotes hold a field's name; text stands in single quotes".into());
            }
            return None;
        };
        let ty = access.ty;
        let node = if access.rest.is_empty() { Node::Field(access.slot, ty) } else { Node::Path(access) };
        self.typed(node, ty, range)
    }

    /// `m['key']`, `a[1]`, `m['a'].b[2]`.
    fn access(&mut self, whole: &Ast, root: &Ast, chain: &[ast::AccessExpr]) -> Option<Typed> {
        let range = self.place(whole);
        let mut rest = chain;
        let mut path = match root {
            Ast::Identifier(id) => Some(id.value.clone()),
            Ast::CompoundIdentifier(ids) => Some(ids.iter().map(|i| i.value.as_str()).collect::<Vec<_>>().join(".")),
            _ => None,
        };
        // Constant keys are part of the path, so that a parser need not keep the whole map.
        if let Some(path) = &mut path {
            while let Some((first, more)) = rest.split_first() {
                let step = match first {
                    ast::AccessExpr::Dot(Ast::Identifier(id)) => &id.value,
                    ast::AccessExpr::Subscript(ast::Subscript::Index { index: Ast::Value(v) }) => match &v.value {
                        ast::Value::SingleQuotedString(s) if !s.is_empty() && !s.contains('.') => s,
                        _ => break,
                    },
                    _ => break,
                };
                path.push('.');
                path.push_str(step);
                rest = more;
            }
        }
        let mut at = match path {
            Some(path) if self.aggregates.is_none() => self.field(&path, range.clone(), false)?,
            _ => self.expr(root)?,
        };
        for step in rest {
            let key = match step {
                ast::AccessExpr::Dot(Ast::Identifier(id)) => {
                    self.typed(Node::Const(Const::Str(id.value.as_str().into())), Type::String, self.text.range(id.span))?
                }
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => self.expr(index)?,
                _ => {
                    self.issue("unsupported-expression", range, "expected `[number]` or `['key']`");
                    return None;
                }
            };
            if !loose(at.ty) && !matches!(at.ty, Type::Map | Type::Array) {
                self.issue("wrong-type", at.range, format!("expected a map or an array, found {}", describe(at.ty)));
                return None;
            }
            if at.ty == Type::Array && !loose(key.ty) && key.ty != Type::Bigint {
                self.issue("wrong-type", key.range, format!("an array's elements are numbered, found {}", describe(key.ty)));
                return None;
            }
            at = self.typed(Node::Index(Box::new([at.node, key.node])), Type::Any, range.clone())?;
        }
        Some(at)
    }

    fn literal(&mut self, v: &ast::Value, range: Range<usize>) -> Option<Typed> {
        use ast::Value as L;
        let (c, ty) = match v {
            L::Null => (Const::Null, Type::Any),
            L::Boolean(b) => (Const::Bool(*b), Type::Boolean),
            L::SingleQuotedString(s) | L::NationalStringLiteral(s) | L::EscapedStringLiteral(s) | L::UnicodeStringLiteral(s) => {
                (Const::Str(s.as_str().into()), Type::String)
            }
            L::HexStringLiteral(h) => match hex::decode(h) {
                Ok(b) => (Const::Bytes(b.into()), Type::Bytes),
                Err(_) => {
                    self.issue("expression-syntax", range, "a hexadecimal literal has pairs of the digits 0-9 and a-f");
                    return None;
                }
            },
            L::Number(n, _) => {
                let exact = if n.contains(['e', 'E']) { None } else { Decimal::parse(n) };
                match (n.parse::<i64>(), exact) {
                    (Ok(i), _) => (Const::Int(i), Type::Bigint),
                    (_, Some(d)) => (Const::Dec(d), Type::Decimal(d.digits().max(d.scale).max(1), d.scale)),
                    _ => match n.parse::<f64>() {
                        Ok(f) if f.is_finite() => (Const::Float(f), Type::Double),
                        _ => {
                            self.issue("expression-syntax", range, format!("`{n}` is out of range"));
                            return None;
                        }
                    },
                }
            }
            _ => {
                self.issue("unsupported-expression", range, "this kind of literal is not part of the expression language");
                return None;
            }
        };
        self.typed(Node::Const(c), ty, range)
    }

    fn interval(&mut self, i: &ast::Interval) -> Option<Typed> {
        let range = self.place(&*i.value);
        let unit = i.leading_field.as_ref().map(ToString::to_string);
        let text = match &*i.value {
            Ast::Value(v) => match &v.value {
                ast::Value::SingleQuotedString(s) => Some(s.clone()),
                ast::Value::Number(n, _) => Some(n.clone()),
                _ => None,
            },
            _ => None,
        };
        let parsed = match text {
            Some(t) if i.last_field.is_none() => Interval::parse(&t, unit.as_deref()),
            _ => Err("an interval is written `INTERVAL '10' MINUTE` or `INTERVAL '1 day 2 hours'`".to_string()),
        };
        match parsed {
            Ok(interval) => Some(Typed { node: Node::null(), ty: Type::Any, range, interval: Some(interval) }),
            Err(e) => {
                self.issue("invalid-interval", range, e);
                None
            }
        }
    }

    fn unary(&mut self, op: &UnaryOperator, e: &Ast) -> Option<Typed> {
        let t = self.term(e)?;
        match op {
            UnaryOperator::Not => {
                let t = self.boolean(t)?;
                Some(self.negate(t, true))
            }
            UnaryOperator::Minus => {
                if let Some(i) = t.interval {
                    return Some(Typed { interval: i.negated(), ..t });
                }
                if !loose(t.ty) && !t.ty.is_number() {
                    self.issue("wrong-type", t.range, format!("`-` takes a number, found {}", describe(t.ty)));
                    return None;
                }
                let constant = t.node.is_const();
                // -9223372036854775808 is read as minus a number beyond bigint.
                let node = match t.node {
                    Node::Const(Const::Dec(d)) if d.scale == 0 && d.mantissa == -(i64::MIN as i128) => Node::Const(Const::Int(i64::MIN)),
                    node => self.fold(Node::Neg(Box::new(node)), constant),
                };
                let ty = if matches!(node, Node::Const(Const::Int(_))) { Type::Bigint } else { t.ty };
                self.typed(node, ty, t.range)
            }
            UnaryOperator::Plus => Some(t),
            _ => {
                self.issue("unsupported-expression", t.range, format!("the operator `{op}` is not part of the expression language"));
                None
            }
        }
    }

    pub fn negate(&self, t: Typed, yes: bool) -> Typed {
        if !yes {
            return t;
        }
        let constant = t.node.is_const();
        Typed { node: self.fold(Node::Not(Box::new(t.node)), constant), ty: Type::Boolean, ..t }
    }

    /// A condition.
    pub fn boolean(&mut self, t: Typed) -> Option<Typed> {
        if t.interval.is_some() || (!loose(t.ty) && t.ty != Type::Boolean) {
            self.issue("wrong-type", t.range, format!("expected a condition, found {}", describe(t.ty)));
            return None;
        }
        Some(t)
    }

    /// Chains lean to the left and can be long: they are walked, not recursed into.
    fn binary(&mut self, e: &Ast) -> Option<Typed> {
        let mut chain = vec![];
        let mut at = e;
        while let Ast::BinaryOp { left, op, right } = at {
            chain.push((op, &**right));
            at = left;
        }
        let logic = |op: &BinaryOperator| matches!(op, BinaryOperator::And | BinaryOperator::Or);
        if chain.iter().filter(|(op, _)| !logic(op)).count() > MAX_CHAIN {
            self.issue("expression-too-long", 0..self.text.text.len(), format!("more than {MAX_CHAIN} operators in a row"));
            return None;
        }
        let mut left = self.term(at);
        for (op, right) in chain.into_iter().rev() {
            let right = self.term(right);
            left = match (left, right) {
                (Some(a), Some(b)) => self.combine(op, a, b),
                _ => None,
            };
        }
        left
    }

    fn combine(&mut self, op: &BinaryOperator, a: Typed, b: Typed) -> Option<Typed> {
        use BinaryOperator as B;
        let range = a.range.start.min(b.range.start)..a.range.end.max(b.range.end);
        if a.interval.is_some() || b.interval.is_some() {
            return self.shift(op, a, b, range);
        }
        let constant = a.node.is_const() && b.node.is_const();
        let null = |t: &Typed| matches!(t.node, Node::Const(Const::Null));
        if matches!(op, B::Eq | B::NotEq) && self.schema.is_some() && null(&a) != null(&b) && !constant {
            let i = self.issue("null-comparison", range, format!("`{op}` with NULL is never true"));
            i.hint = Some(format!("write `IS {}NULL`", if *op == B::NotEq { "NOT " } else { "" }));
            return None;
        }
        match op {
            B::And | B::Or => {
                let (a, b) = (self.boolean(a), self.boolean(b));
                let (a, b) = (a?, b?);
                let mut all = match (a.node, op) {
                    (Node::And(all), B::And) | (Node::Or(all), B::Or) => all.into_vec(),
                    (n, _) => vec![n],
                };
                all.push(b.node);
                let node = if *op == B::And { Node::And(all.into()) } else { Node::Or(all.into()) };
                self.typed(self.fold(node, constant), Type::Boolean, range)
            }
            B::Eq => self.compare(Cmp::Eq, a, b, range),
            B::NotEq => self.compare(Cmp::Ne, a, b, range),
            B::Lt => self.compare(Cmp::Lt, a, b, range),
            B::LtEq => self.compare(Cmp::Le, a, b, range),
            B::Gt => self.compare(Cmp::Gt, a, b, range),
            B::GtEq => self.compare(Cmp::Ge, a, b, range),
            B::Plus => self.arith(Op::Add, a, b, range),
            B::Minus => self.arith(Op::Sub, a, b, range),
            B::Multiply => self.arith(Op::Mul, a, b, range),
            B::Divide => self.arith(Op::Div, a, b, range),
            B::Modulo => self.arith(Op::Rem, a, b, range),
            B::StringConcat => {
                let mut all = match a.node {
                    Node::Concat(all) => all.into_vec(),
                    n => vec![n],
                };
                all.push(b.node);
                self.typed(self.fold(Node::Concat(all.into()), constant), Type::String, range)
            }
            B::BitwiseAnd => self.bits(Bits::And, a, b, range),
            B::BitwiseOr => self.bits(Bits::Or, a, b, range),
            B::BitwiseXor => self.bits(Bits::Xor, a, b, range),
            B::PGBitwiseShiftLeft => self.bits(Bits::Left, a, b, range),
            B::PGBitwiseShiftRight => self.bits(Bits::Right, a, b, range),
            _ => {
                let word = op.to_string();
                let between = a.range.end.min(b.range.start)..b.range.start;
                let at = self.text.text.get(between.clone()).and_then(|t| t.find(&word)).map(|i| between.start + i);
                let range = at.map_or(range, |at| at..at + word.len());
                let issue =
                    self.issue("unsupported-expression", range, format!("the operator `{word}` is not part of the expression language"));
                issue.suggestion = (word == "&&").then(|| "and".to_string());
                None
            }
        }
    }

    fn shift(&mut self, op: &BinaryOperator, a: Typed, b: Typed, range: Range<usize>) -> Option<Typed> {
        let (time, interval) = match (op, a.interval, b.interval) {
            (BinaryOperator::Plus, Some(i), None) => (b, Some(i)),
            (BinaryOperator::Plus, None, Some(i)) => (a, Some(i)),
            (BinaryOperator::Minus, None, Some(i)) => (a, i.negated()),
            _ => {
                self.issue("wrong-type", range, "an interval can only be added to or taken from a timestamp");
                return None;
            }
        };
        let time = self.as_time(time);
        if !loose(time.ty) && time.ty != Type::Timestamp {
            self.issue("wrong-type", time.range, format!("an interval is added to a timestamp, not to {}", describe(time.ty)));
            return None;
        }
        let Some(i) = interval else {
            self.issue("invalid-interval", range, "the interval is out of range");
            return None;
        };
        let constant = time.node.is_const();
        self.typed(self.fold(Node::Shift(Box::new(time.node), i.months, i.micros), constant), Type::Timestamp, range)
    }

    /// A string constant where a timestamp belongs is read as one.
    pub fn as_time(&self, t: Typed) -> Typed {
        if let Node::Const(Const::Str(s)) = &t.node
            && let Ok(micros) = millrace_sdk::convert::iso8601(s, &self.settings.zone)
        {
            return Typed { node: Node::Const(Const::Time(micros)), ty: Type::Timestamp, ..t };
        }
        t
    }

    fn bits(&mut self, op: Bits, a: Typed, b: Typed, range: Range<usize>) -> Option<Typed> {
        for t in [&a, &b] {
            if !loose(t.ty) && t.ty != Type::Bigint {
                let message = format!("bits are those of bigints, found {}", describe(t.ty));
                self.issue("wrong-type", t.range.clone(), message);
                return None;
            }
        }
        let constant = a.node.is_const() && b.node.is_const();
        self.typed(self.fold(Node::Bits(op, Box::new([a.node, b.node])), constant), Type::Bigint, range)
    }

    fn arith(&mut self, op: Op, a: Typed, b: Typed, range: Range<usize>) -> Option<Typed> {
        let mut bad = false;
        for t in [&a, &b] {
            if !loose(t.ty) && !t.ty.is_number() {
                let hint = match (op, a.ty, b.ty) {
                    (Op::Add, Type::String, _) | (Op::Add, _, Type::String) => {
                        Some("texts are joined by `||`; text becomes a number by CAST(x AS double)")
                    }
                    (Op::Sub, Type::Timestamp, Type::Timestamp) => Some("milliseconds between: unix_millis(a) - unix_millis(b)"),
                    (_, Type::String, _) | (_, _, Type::String) => Some("text becomes a number by CAST(x AS double)"),
                    _ => None,
                };
                let i = self.issue("wrong-type", t.range.clone(), format!("`{}` takes numbers, found {}", op.sign(), describe(t.ty)));
                i.hint = hint.map(Into::into);
                bad = true;
            }
        }
        if bad {
            return None;
        }
        let exact = |t: &Typed| match (&t.node, t.ty) {
            (Node::Const(Const::Int(i)), _) => Some((Decimal::from(*i).digits(), 0)),
            (_, Type::Bigint) => Some((19, 0)),
            (_, Type::Decimal(p, s)) => Some((p, s)),
            _ => None,
        };
        let (kind, ty) = match (a.ty, b.ty) {
            (Type::Double, _) | (_, Type::Double) => (Kind::Float, Type::Double),
            (Type::Bigint, Type::Bigint) => (Kind::Int, Type::Bigint),
            _ => match (exact(&a), exact(&b)) {
                (Some(x), Some(y)) => {
                    let (p, s) = decimal_type(op, x, y);
                    (Kind::Dec(s), Type::Decimal(p, s))
                }
                _ => (Kind::Any, Type::Any),
            },
        };
        let constant = a.node.is_const() && b.node.is_const();
        let operand = |n: Node| if kind == Kind::Float { floated(n) } else { n };
        let node = Node::Arith(op, kind, Box::new([operand(a.node), operand(b.node)]));
        self.typed(self.fold(node, constant), ty, range)
    }

    fn case(&mut self, whole: &Ast, operand: Option<&Ast>, arms: &[ast::CaseWhen], other: Option<&Ast>) -> Option<Typed> {
        let range = self.place(whole);
        let operand = operand.map(|o| self.expr(o));
        let conditions: Vec<Option<Typed>> = arms.iter().map(|a| self.expr(&a.condition)).collect();
        let results = self.exprs(arms.iter().map(|a| &a.result).chain(other));
        let conditions: Option<Vec<Typed>> = conditions.into_iter().collect();
        let (operand, conditions, results) = (operand.map_or(Some(None), |o| o.map(Some))?, conditions?, results?);
        let mut tests = vec![];
        for c in conditions {
            match &operand {
                None => tests.push(self.boolean(c)?.node),
                Some(o) => {
                    let c = if o.ty == Type::Timestamp { self.as_time(c) } else { c };
                    let place = c.range.clone();
                    if !self.comparable(o.ty, c.ty, &place) {
                        return None;
                    }
                    tests.push(c.node);
                }
            }
        }
        let (mut results, ty) = self.unify("CASE", results)?;
        let (end, written) = (range.end, other.is_some());
        let other = if written { results.pop()? } else { Node::null() };
        let results = results.into_iter().zip(arms).map(|(node, arm)| {
            let condition = self.place(&arm.condition);
            let words = format!("when {}", self.text.text.get(condition.clone()).unwrap_or_default());
            self.counted(node, condition.start, words)
        });
        let arms: Box<[(Node, Node)]> = tests.into_iter().zip(results).collect();
        let other = self.counted(other, end, if written { "else" } else { "no WHEN fits" }.into());
        let node = match operand {
            None => Node::Case(arms, Box::new(other)),
            Some(o) => Node::CaseOf(Box::new(o.node), arms, Box::new(other)),
        };
        self.typed(node, ty, range)
    }

    /// A result with the count of rows that take it, where these are counted.
    pub fn counted(&self, result: Node, at: usize, words: String) -> Node {
        let Some(reached) = self.settings.reached.as_ref().filter(|_| self.schema.is_some()) else { return result };
        let way = Way { text: self.text.text.to_string(), at, words };
        Node::Seen(reached.rows(way), Box::new(result))
    }

    /// Gives results of different types the type that holds them all.
    pub fn unify(&mut self, what: &str, all: Vec<Typed>) -> Option<(Vec<Node>, Type)> {
        let mut ty: Option<Type> = None;
        for t in &all {
            if matches!(t.node, Node::Const(Const::Null)) && self.schema.is_some() {
                continue;
            }
            ty = Some(match ty {
                None => t.ty,
                Some(have) => match common(have, t.ty) {
                    Some(c) => c,
                    None if loose(have) || loose(t.ty) => Type::Any,
                    None => {
                        let message = format!("the results of {what} have different types: {} and {}", describe(have), describe(t.ty));
                        self.issue("wrong-type", t.range.clone(), message).hint = Some("convert one of them by CAST".into());
                        return None;
                    }
                },
            });
        }
        let ty = ty.unwrap_or(Type::Any);
        let nodes = all
            .into_iter()
            .map(|t| {
                let constant = t.node.is_const();
                let widen = t.ty != ty && (ty == Type::Double || matches!(ty, Type::Decimal(..)));
                if widen { self.fold(Node::Cast(Box::new(t.node), ty), constant) } else { t.node }
            })
            .collect();
        Some((nodes, ty))
    }

    /// Where a type is written behind (`CAST(x AS t)`, `x::t`) or before (`t '…'`) the value at `range`.
    fn type_place(&self, name: &str, range: Range<usize>) -> Range<usize> {
        let lower = self.text.text.to_ascii_lowercase();
        let word = name.split(['(', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        let behind = lower.get(range.end..).and_then(|t| t.find(&word)).map(|i| range.end + i);
        match behind.or_else(|| lower.get(..range.start)?.rfind(&word)) {
            Some(at) if !word.is_empty() => at..at + word.len(),
            _ => range,
        }
    }

    /// `literal`: `DATE '…'`, where what is wrong is known now.
    fn cast(&mut self, t: Typed, to: &ast::DataType, tried: bool, range: Range<usize>, literal: bool) -> Option<Typed> {
        let Some(ty) = sql_type(to) else {
            let name = to.to_string();
            let range = self.type_place(&name, range);
            if let Some((word, _)) = name.split_once('(')
                && matches!(word.to_ascii_lowercase().as_str(), "decimal" | "numeric" | "dec" | "number")
            {
                let issue = self.issue("unknown-type", range, format!("there is no `{name}`"));
                issue.hint = Some("decimal(p,s) has 1 to 38 digits (p), of which at most p stand behind the point (s)".into());
                return None;
            }
            let suggestion = Type::meant(&name);
            let issue = self.issue("unknown-type", range, format!("unknown type `{name}`"));
            issue.suggestion = suggestion;
            issue.hint = Some(format!("types are {}", Type::NAMES.join(", ")));
            return None;
        };
        let hint = match (t.ty, ty) {
            (Type::Timestamp, Type::Bigint | Type::Double | Type::Decimal(..)) => Some("unix_millis(t), unix_seconds(t)"),
            (Type::Bigint | Type::Double | Type::Decimal(..), Type::Timestamp) => {
                Some("to_timestamp(x, 'epoch_ms'), from_unixtime(seconds)")
            }
            (Type::Map | Type::Array, Type::Bigint | Type::Double | Type::Decimal(..) | Type::Boolean | Type::Timestamp) => {
                Some("take one of its values: m['key'], a[1]")
            }
            _ => None,
        };
        if let Some(hint) = hint {
            self.issue("wrong-type", range, format!("{} cannot be cast to {ty}", describe(t.ty))).hint = Some(hint.into());
            return None;
        }
        if t.ty == ty {
            return Some(t);
        }
        let constant = t.node.is_const();
        let node = if tried { Node::TryCast(Box::new(t.node), ty) } else { Node::Cast(Box::new(t.node), ty) };
        let (node, failure) = self.computed(node, constant && self.schema.is_some());
        if let Some(e) = failure {
            if literal {
                self.issue("invalid-literal", range, format!("the text is no {ty}"));
            } else {
                self.issue("invalid-cast", range, e.message).hint = Some("it would fail for every row; TRY_CAST gives NULL".into());
            }
            return None;
        }
        self.typed(node, ty, range)
    }
}

/// A type as SQL writes it.
fn sql_type(to: &ast::DataType) -> Option<Type> {
    let text = to.to_string().to_ascii_lowercase();
    if let Some(ty) = Type::parse(&text) {
        return Some(ty);
    }
    let name = text.split(['(', ' ']).next().unwrap_or_default();
    Some(match name {
        "varchar" | "char" | "character" | "nvarchar" | "text" | "string" | "clob" => Type::String,
        "int" | "integer" | "bigint" | "smallint" | "tinyint" | "int2" | "int4" | "int8" | "int64" | "signed" => Type::Bigint,
        "double" | "real" | "float" | "float4" | "float8" | "float64" => Type::Double,
        "numeric" | "dec" | "decimal" | "number" => Type::parse(&format!("decimal{}", text[name.len()..].trim()))?,
        "timestamp" | "datetime" | "date" | "timestamptz" => Type::Timestamp,
        "bool" | "boolean" => Type::Boolean,
        "binary" | "varbinary" | "bytea" | "blob" => Type::Bytes,
        "json" | "jsonb" => Type::Json,
        _ => return None,
    })
}
