//! Expressions over a job's metrics, for alarms:
//!
//! ```text
//! millrace_source_lag_records                                       the sum of all samples
//! millrace_part_records_in_total{part="out"}                        of those with the label
//! rate(millrace_part_rejected_total{part="a"}) / rate(millrace_part_records_in_total{part="a"}) > 0.01
//! max(millrace_part_state_bytes) >= 2 * 1024 * 1024
//! ```
//!
//! Numbers, `+ - * /`, parentheses, `sum` (which a name alone is, too), `min`, `max`, and `rate`, what a counter gains a second. A comparison,
//! if there is one, stands at the end: without one the value is compared with the rule's bound.

use crate::view::View;

/// Longest expression, bytes.
const LONGEST: usize = 500;
/// Deepest nesting.
const DEEPEST: usize = 30;

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Number(f64),
    Samples(Function, String, Vec<(String, String)>),
    Negative(Box<Expr>),
    Pair(Box<Expr>, char, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Sum,
    Min,
    Max,
    Rate,
}

/// An expression that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    value: Expr,
    /// `>`, `<`, `>=` or `<=`, and with what is compared.
    compared: Option<(&'static str, Expr)>,
}

/// What an expression says of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said {
    Value(f64),
    /// The value on the left, and whether the comparison holds.
    Compared(f64, bool),
}

impl Measure {
    /// # Errors
    /// Where it is none, and why.
    pub fn parse(text: &str) -> Result<Measure, String> {
        if text.len() > LONGEST {
            return Err(format!("an expression has at most {LONGEST} bytes"));
        }
        if text.contains(char::is_control) {
            return Err("an expression is one line".into());
        }
        let mut p = Parser { text, at: 0, deep: 0 };
        let value = p.sum()?;
        let mut compared = None;
        if let Some(sign) = [">=", "<=", ">", "<"].into_iter().find(|s| p.takes(s)) {
            compared = Some((sign, p.sum()?));
        }
        p.blanks();
        if p.at < text.len() {
            return Err(p.expected("the end, an operator or a comparison"));
        }
        Ok(Measure { value, compared })
    }

    pub fn compares(&self) -> bool {
        self.compared.is_some()
    }

    /// None: a metric of it is not there, or it has no value.
    pub fn of(&self, view: &View) -> Option<Said> {
        let finite = |e: &Expr| e.of(view).filter(|v| v.is_finite());
        let value = finite(&self.value)?;
        let Some((sign, bound)) = &self.compared else { return Some(Said::Value(value)) };
        let bound = finite(bound)?;
        let holds = match *sign {
            ">=" => value >= bound,
            "<=" => value <= bound,
            ">" => value > bound,
            _ => value < bound,
        };
        Some(Said::Compared(value, holds))
    }
}

impl Expr {
    fn of(&self, view: &View) -> Option<f64> {
        match self {
            Expr::Number(n) => Some(*n),
            Expr::Negative(e) => Some(-e.of(view)?),
            Expr::Pair(a, sign, b) => {
                let (a, b) = (a.of(view)?, b.of(view)?);
                Some(match sign {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    _ => a / b,
                })
            }
            Expr::Samples(function, name, labels) => {
                let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                let mut samples = view.figures.all(name, &labels).map(|s| s.2).peekable();
                samples.peek()?;
                Some(match function {
                    Function::Sum => samples.sum(),
                    Function::Min => samples.fold(f64::INFINITY, f64::min),
                    Function::Max => samples.fold(f64::NEG_INFINITY, f64::max),
                    Function::Rate => view.rate(name, &labels),
                })
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    deep: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn takes(&mut self, what: &str) -> bool {
        self.blanks();
        let there = self.rest().starts_with(what);
        self.at += if there { what.len() } else { 0 };
        there
    }

    fn expected(&self, what: &str) -> String {
        let found = match self.rest().chars().next() {
            Some(c) => format!("`{c}` at character {}", self.text[..self.at].chars().count() + 1),
            None => "the end".into(),
        };
        format!("`{}` is no expression over metrics: expected {what}, found {found}", self.text)
    }

    fn sum(&mut self) -> Result<Expr, String> {
        self.deep += 1;
        if self.deep > DEEPEST {
            return Err(format!("an expression is nested at most {DEEPEST} deep"));
        }
        let mut left = self.product()?;
        while let Some(sign) = ['+', '-'].into_iter().find(|s| self.takes(s.encode_utf8(&mut [0; 4]))) {
            left = Expr::Pair(Box::new(left), sign, Box::new(self.product()?));
        }
        self.deep -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr, String> {
        let mut left = self.signed()?;
        while let Some(sign) = ['*', '/'].into_iter().find(|s| self.takes(s.encode_utf8(&mut [0; 4]))) {
            left = Expr::Pair(Box::new(left), sign, Box::new(self.signed()?));
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expr, String> {
        match self.takes("-") {
            true => Ok(Expr::Negative(Box::new(self.one()?))),
            false => self.one(),
        }
    }

    fn one(&mut self) -> Result<Expr, String> {
        if self.takes("(") {
            let inner = self.sum()?;
            return if self.takes(")") { Ok(inner) } else { Err(self.expected("`)`")) };
        }
        self.blanks();
        let rest = self.rest();
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            // `1e6`
            let exponent = rest[end..].strip_prefix(['e', 'E']).map_or(0, |e| {
                let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
                let n = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                if n > 0 { 1 + e.len() - digits.len() + n } else { 0 }
            });
            let number = rest[..end + exponent].parse().map_err(|_| self.expected("a number"))?;
            self.at += end + exponent;
            return Ok(Expr::Number(number));
        }
        let Some(name) = self.name() else { return Err(self.expected("a number, a metric or `(`")) };
        let function = match name.as_str() {
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "rate" => Function::Rate,
            _ => return Ok(Expr::Samples(Function::Sum, name, self.labels()?)),
        };
        if !self.takes("(") {
            return Err(self.expected("`(`"));
        }
        self.blanks();
        let name = self.name().ok_or_else(|| self.expected("a metric's name"))?;
        let labels = self.labels()?;
        if self.takes(")") { Ok(Expr::Samples(function, name, labels)) } else { Err(self.expected("`)`")) }
    }

    fn name(&mut self) -> Option<String> {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let rest = self.rest();
        let end = rest.find(|c: char| !fine(c)).unwrap_or(rest.len());
        let name = rest[..end].to_string();
        self.at += end;
        (!name.is_empty()).then_some(name)
    }

    /// `{name="value", …}`, if there are any.
    fn labels(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut all = vec![];
        if !self.takes("{") {
            return Ok(all);
        }
        while !self.takes("}") {
            if !all.is_empty() && !self.takes(",") {
                return Err(self.expected("`,` or `}`"));
            }
            self.blanks();
            let name = self.name().ok_or_else(|| self.expected("a label's name"))?;
            if !self.takes("=") {
                return Err(self.expected("`=`"));
            }
            if !self.takes("\"") {
                return Err(self.expected("a value in `\"`"));
            }
            let end = self.rest().find('"').ok_or_else(|| self.expected("a second `\"`"))?;
            all.push((name, self.rest()[..end].to_string()));
            self.at += end + 1;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figures;
    use std::sync::Arc;

    fn view() -> View {
        let text = |up: f64, a: f64| {
            let text = format!(
                "millrace_uptime_seconds {up}\nin_total{{part=\"a\",worker=\"0\"}} {a}\nin_total{{part=\"b\",worker=\"0\"}} 10\nheld 3\nzero 0\n"
            );
            Arc::new(Figures::parse(&text))
        };
        View { before: text(1.0, 4.0), figures: text(3.0, 10.0), ..View::default() }
    }

    #[test]
    fn expressions_have_the_value_that_their_words_say() {
        for (text, want) in [
            ("held", Some(Said::Value(3.0))),
            ("in_total", Some(Said::Value(20.0))),
            ("sum(in_total)", Some(Said::Value(20.0))),
            ("in_total{part=\"a\"}", Some(Said::Value(10.0))),
            ("in_total{part=\"a\", worker=\"0\"} * 2", Some(Said::Value(20.0))),
            ("in_total{part=\"none\"}", None),
            ("none_total", None),
            ("none_total + 1", None),
            ("rate(in_total)", Some(Said::Value(3.0))),
            ("rate(in_total{part=\"b\"})", Some(Said::Value(0.0))),
            ("max(in_total) - min(in_total{part=\"a\"})", Some(Said::Value(0.0))),
            ("1 + 2 * 3 - 4 / 2", Some(Said::Value(5.0))),
            ("(1 + 2) * -3", Some(Said::Value(-9.0))),
            ("10 - 4 - 3", Some(Said::Value(3.0))),
            ("1.5e2+1E-1", Some(Said::Value(150.1))),
            ("held / zero", None),
            ("zero / zero", None),
            ("held > 2", Some(Said::Compared(3.0, true))),
            ("held >= 3", Some(Said::Compared(3.0, true))),
            ("held < 3", Some(Said::Compared(3.0, false))),
            ("held <= zero + 3", Some(Said::Compared(3.0, true))),
            ("rate(in_total{part=\"a\"}) / rate(in_total) >= 0.5", Some(Said::Compared(1.0, true))),
            ("held > none_total", None),
        ] {
            assert_eq!(Measure::parse(text).unwrap().of(&view()), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        for (text, what) in [
            ("", "found the end"),
            ("a b", "found `b` at character 3"),
            ("a >", "found the end"),
            ("a > 1 > 2", "found `>` at character 7"),
            ("rate a", "expected `(`"),
            ("rate(1)", ""),
            ("a{b}", "expected `=`"),
            ("a{b=c}", "expected a value"),
            ("a{b=\"c}", "second"),
            ("a{b=\"c\" d=\"e\"}", "expected `,`"),
            ("(a", "expected `)`"),
            ("1.2.3", "a number"),
            ("a; drop table", "found `;`"),
            ("${A}", "found `$`"),
            ("a\nb", "one line"),
            ("中", "found `中` at character 1"),
        ] {
            let refused = Measure::parse(text);
            assert!(refused.as_ref().is_err_and(|e| e.contains(what)) || text == "rate(1)", "{text}: {refused:?}");
        }
        assert!(Measure::parse(&"(".repeat(400)).unwrap_err().contains("deep"));
        assert!(Measure::parse(&"1+".repeat(400)).unwrap_err().contains("bytes"));
    }
}
