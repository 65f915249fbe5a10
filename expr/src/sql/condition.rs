//! Conditions: comparisons, IS, IN, BETWEEN, LIKE.

use super::check::{Compiler, Typed, describe, loose};
use super::like::Like;
use super::node::{Cmp, Const, Node, Texts};
use super::value::common;
use millrace_sdk::Type;
use sqlparser::ast::{self, Expr as Ast};
use std::ops::Range;

impl Compiler<'_> {
    /// Whether two types can be compared; says so if not.
    pub fn comparable(&mut self, a: Type, b: Type, range: &Range<usize>) -> bool {
        let fits =
            loose(a) || loose(b) || common(a, b).is_some() || matches!((a, b), (Type::Bytes, Type::String) | (Type::String, Type::Bytes));
        if !fits {
            let hint = if a == Type::String || b == Type::String {
                "convert one of them: CAST(x AS double), CAST(x AS string)"
            } else {
                "convert one of them by CAST"
            };
            self.issue("wrong-type", range.clone(), format!("{} cannot be compared with {}", describe(a), describe(b))).hint =
                Some(hint.into());
        }
        fits
    }

    /// Makes the constants of a comparison what the other side is.
    pub fn matched(&self, a: Typed, b: Typed) -> (Typed, Typed) {
        match (a.ty, b.ty) {
            (Type::Timestamp, Type::String) => (a, self.as_time(b)),
            (Type::String, Type::Timestamp) => (self.as_time(a), b),
            (Type::Double, _) => (a, Typed { node: floated(b.node), ..b }),
            (_, Type::Double) => (Typed { node: floated(a.node), ..a }, b),
            _ => (a, b),
        }
    }

    pub fn compare(&mut self, op: Cmp, a: Typed, b: Typed, range: Range<usize>) -> Option<Typed> {
        let (a, b) = self.matched(a, b);
        if !self.comparable(a.ty, b.ty, &range) {
            return None;
        }
        let constant = a.node.is_const() && b.node.is_const();
        let node = match (a.node, b.node) {
            (Node::Field(slot, ty), Node::Const(c)) if c != Const::Null => Node::FieldCompare(slot, ty, op, c),
            (Node::Const(c), Node::Field(slot, ty)) if c != Const::Null => Node::FieldCompare(slot, ty, op.flipped(), c),
            (a, b) => Node::Compare(op, Box::new([a, b])),
        };
        self.typed(self.fold(node, constant), Type::Boolean, range)
    }

    pub fn is_null(&mut self, e: &Ast, negated: bool) -> Option<Typed> {
        let t = self.expr(e)?;
        let constant = t.node.is_const();
        let node = self.fold(Node::IsNull(Box::new(t.node)), constant);
        let t = self.typed(node, Type::Boolean, t.range)?;
        Some(self.negate(t, negated))
    }

    pub fn is(&mut self, e: &Ast, want: Option<bool>, negated: bool) -> Option<Typed> {
        let t = self.expr(e)?;
        let t = self.boolean(t)?;
        let constant = t.node.is_const();
        let node = self.fold(Node::Is(want, Box::new(t.node)), constant);
        let t = self.typed(node, Type::Boolean, t.range)?;
        Some(self.negate(t, negated))
    }

    pub fn same(&mut self, a: &Ast, b: &Ast, negated: bool) -> Option<Typed> {
        let mut both = self.exprs([a, b])?;
        let (b, a) = (both.pop()?, both.pop()?);
        let range = a.range.start..b.range.end.max(a.range.start);
        let (a, b) = self.matched(a, b);
        if !self.comparable(a.ty, b.ty, &range) {
            return None;
        }
        let constant = a.node.is_const() && b.node.is_const();
        let node = self.fold(Node::Same(Box::new([a.node, b.node])), constant);
        let t = self.typed(node, Type::Boolean, range)?;
        Some(self.negate(t, negated))
    }

    pub fn in_list(&mut self, e: &Ast, list: &[Ast], negated: bool) -> Option<Typed> {
        let operand = self.expr(e);
        let list = self.exprs(list);
        let (operand, list) = (operand?, list?);
        let range = operand.range.start..list.last().map_or(operand.range.end, |t| t.range.end);
        let mut candidates = vec![];
        let mut fits = true;
        for c in list {
            let c = match operand.ty {
                Type::Timestamp => self.as_time(c),
                Type::Double => Typed { node: floated(c.node), ..c },
                _ => c,
            };
            let place = c.range.clone();
            fits &= self.comparable(operand.ty, c.ty, &place);
            candidates.push(c.node);
        }
        if !fits {
            return None;
        }
        let constant = operand.node.is_const() && candidates.iter().all(Node::is_const);
        let texts = candidates.iter().all(|c| matches!(c, Node::Const(Const::Str(_) | Const::Null)));
        let node = if texts {
            let null = candidates.iter().any(|c| matches!(c, Node::Const(Const::Null)));
            let set: Vec<_> =
                candidates.into_iter().filter_map(|c| if let Node::Const(Const::Str(s)) = c { Some(s) } else { None }).collect();
            Node::InTexts(Box::new(operand.node), Texts::new(set), null)
        } else {
            Node::In(Box::new(operand.node), candidates.into())
        };
        let t = self.typed(self.fold(node, constant), Type::Boolean, range)?;
        Some(self.negate(t, negated))
    }

    pub fn between(&mut self, e: &Ast, low: &Ast, high: &Ast, negated: bool) -> Option<Typed> {
        let mut all = self.exprs([e, low, high])?;
        let (high, low, x) = (all.pop()?, all.pop()?, all.pop()?);
        let range = x.range.start..high.range.end.max(x.range.start);
        let (x, low) = self.matched(x, low);
        let (x, high) = self.matched(x, high);
        if !self.comparable(x.ty, low.ty, &low.range) | !self.comparable(x.ty, high.ty, &high.range) {
            return None;
        }
        let constant = x.node.is_const() && low.node.is_const() && high.node.is_const();
        let node = self.fold(Node::Between(Box::new([x.node, low.node, high.node])), constant);
        let t = self.typed(node, Type::Boolean, range)?;
        Some(self.negate(t, negated))
    }

    pub fn like(&mut self, e: &Ast, pattern: &Ast, escape: &Option<ast::Value>, negated: bool, fold: bool) -> Option<Typed> {
        let mut both = self.exprs([e, pattern])?;
        let (pattern, x) = (both.pop()?, both.pop()?);
        for t in [&x, &pattern] {
            if !loose(t.ty) && t.ty != Type::String {
                let message = format!("LIKE takes strings, found {}", describe(t.ty));
                self.issue("wrong-type", t.range.clone(), message).hint = Some("convert it: CAST(x AS string)".into());
                return None;
            }
        }
        let escape = match escape {
            None => None,
            Some(ast::Value::SingleQuotedString(s)) if s.chars().count() == 1 => s.chars().next(),
            Some(_) => {
                self.issue("expression-syntax", pattern.range, "the escape of LIKE is one character in quotes");
                return None;
            }
        };
        let range = x.range.start..pattern.range.end.max(x.range.start);
        let constant = x.node.is_const();
        let node = match pattern.node {
            Node::Const(Const::Str(p)) => match Like::new(&p, escape, fold) {
                Ok(like) => self.fold(Node::Like(Box::new(x.node), Box::new(like)), constant),
                Err(message) => {
                    self.issue("invalid-pattern", pattern.range, message);
                    return None;
                }
            },
            p => Node::LikeBy(Box::new([x.node, p]), escape, fold),
        };
        let t = self.typed(node, Type::Boolean, range)?;
        Some(self.negate(t, negated))
    }
}

/// Numeric constants of arithmetic on doubles.
pub fn floated(node: Node) -> Node {
    match node {
        Node::Const(Const::Int(i)) if i.unsigned_abs() < 1 << 53 => Node::Const(Const::Float(i as f64)),
        Node::Const(Const::Dec(d)) => Node::Const(Const::Float(d.to_f64())),
        n => n,
    }
}
