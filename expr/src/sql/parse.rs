//! Text to syntax tree, and places of the tree back to bytes of the text.

use crate::Issue;
use millrace_sdk::problem::did_you_mean;
use sqlparser::ast::Expr as Ast;
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use std::ops::Range;

/// Longest expression, bytes.
const MAX_TEXT: usize = 256 << 10;
/// Most operators, names and brackets: what comes after is recursive, literals and commas are not.
const MAX_TOKENS: usize = 2000;
/// Deepest nesting.
const MAX_DEPTH: usize = 60;
/// Most signs and NOTs in a row.
const MAX_SIGNS: usize = 8;
/// Most NOT (…) and CAST(…) inside one another.
const MAX_HARD: usize = 12;

/// Words of the language that may be misspelt.
const WORDS: &[&str] = &["and", "or", "not", "case", "when", "then", "else", "end", "between", "like", "null", "true", "false", "cast"];

/// Line starts, for places that the parser tells as line and column.
pub struct Text<'t> {
    pub text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Text<'t> {
    pub fn new(text: &'t str) -> Text<'t> {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, c)| *c == b'\n').map(|(i, _)| i + 1)).collect();
        Text { text, lines }
    }

    fn offset(&self, at: Location) -> usize {
        let Some(&start) = (at.line as usize).checked_sub(1).and_then(|l| self.lines.get(l)) else { return self.text.len() };
        let column = (at.column as usize).saturating_sub(1);
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(i, _)| start + i)
    }

    /// The whole text for a place that the parser does not know.
    pub fn range(&self, span: Span) -> Range<usize> {
        if span.start.line == 0 || span.end.line == 0 {
            return 0..self.text.len();
        }
        let (start, end) = (self.offset(span.start), self.offset(span.end));
        start..end.max(start)
    }

    fn issue(&self, id: &'static str, range: Range<usize>, message: impl Into<String>) -> Issue {
        Issue { id, range, message: message.into(), hint: None, suggestion: None }
    }

    /// # Errors
    /// `expression-syntax`, or `expression-too-long` for what is beyond the limits.
    pub fn parse(&self) -> Result<Ast, Issue> {
        let whole = 0..self.text.len();
        if self.text.trim().is_empty() {
            return Err(self.issue("expression-syntax", whole, "the expression is empty"));
        }
        if self.text.len() > MAX_TEXT {
            return Err(self.issue("expression-too-long", 0..1, format!("the expression is longer than {} KiB", MAX_TEXT >> 10)));
        }
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, self.text).tokenize_with_location().map_err(|e| {
            let at = self.offset(e.location);
            self.issue("expression-syntax", self.char_at(at), lower(&e.message))
        })?;
        let heavy = |t: &Token| !matches!(t, Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_));
        if tokens.iter().filter(|t| heavy(&t.token)).count() > MAX_TOKENS {
            return Err(self.issue("expression-too-long", whole, format!("the expression has more than {MAX_TOKENS} operators and names")));
        }
        self.check_nesting(&tokens)?;
        let parser =
            |tokens: &[TokenWithSpan]| Parser::new(&dialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens.to_vec());
        let parsed = self.parse_tokens(parser(&tokens));
        if parsed.is_err() {
            // A CASE that is wrong inside was tried as a name, and what follows it blamed: its own fault says more.
            let is_case = |t: &TokenWithSpan| matches!(&t.token, Token::Word(w) if w.quote_style.is_none() && w.keyword == Keyword::CASE);
            for i in (0..tokens.len()).rev().filter(|i| is_case(&tokens[*i])) {
                if let Err(e) = parser(&tokens[i + 1..]).parse_case_expr() {
                    return Err(self.syntax(e));
                }
            }
        }
        parsed
    }

    fn parse_tokens(&self, mut parser: Parser<'_>) -> Result<Ast, Issue> {
        let tree = parser.parse_expr().map_err(|e| self.syntax(e))?;
        let next = parser.peek_token();
        if next.token != Token::EOF {
            let message = format!("expected the end of the expression, found `{}`", next.token);
            return Err(self.issue("expression-syntax", self.range(next.span), message));
        }
        Ok(tree)
    }

    /// Brackets must match and not nest too deep. The parser tries several readings of some words, which multiplies its work at each
    /// level of them when the text turns out to be wrong: those have limits of their own.
    fn check_nesting(&self, tokens: &[TokenWithSpan]) -> Result<(), Issue> {
        let word = |t: &Token, all: &[Keyword]| matches!(t, Token::Word(w) if w.quote_style.is_none() && all.contains(&w.keyword));
        let (mut signs, mut open, mut before) = (0, vec![], &Token::EOF);
        for t in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
            let sign = matches!(t.token, Token::Minus | Token::Plus) || word(&t.token, &[Keyword::NOT]);
            signs = if sign { signs + 1 } else { 0 };
            match &t.token {
                Token::LParen | Token::LBracket => {
                    open.push((t, word(before, &[Keyword::NOT, Keyword::CAST, Keyword::TRY_CAST, Keyword::SAFE_CAST, Keyword::EXTRACT])));
                }
                Token::RParen | Token::RBracket => match open.pop() {
                    Some((o, _)) if (o.token == Token::LParen) == (t.token == Token::RParen) => {}
                    _ => {
                        return Err(self.issue(
                            "expression-syntax",
                            self.range(t.span),
                            format!("the bracket `{}` closes nothing", t.token),
                        ));
                    }
                },
                _ => {}
            }
            if signs > MAX_SIGNS || open.len() > MAX_DEPTH || open.iter().filter(|(_, hard)| *hard).count() > MAX_HARD {
                return Err(self.issue("expression-too-long", self.range(t.span), "the expression is nested too deep"));
            }
            before = &t.token;
        }
        match open.last() {
            Some((o, _)) => Err(self.issue("expression-syntax", self.range(o.span), format!("the bracket `{}` is not closed", o.token))),
            None => Ok(()),
        }
    }

    fn syntax(&self, e: ParserError) -> Issue {
        let message = match e {
            ParserError::TokenizerError(m) | ParserError::ParserError(m) => m,
            ParserError::RecursionLimitExceeded => {
                return self.issue("expression-too-long", 0..self.text.len(), format!("the expression is nested deeper than {MAX_DEPTH}"));
            }
        };
        // The parser ends its sentences with " at Line: 1, Column: 5".
        let placed = message.rsplit_once(" at Line: ").and_then(|(m, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            Some((m, Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? }))
        });
        let (message, range) = match placed {
            Some((m, at)) => (m, self.char_at(self.offset(at))),
            None => (message.as_str(), self.char_at(self.text.len())),
        };
        let message = lower(message).replace("expected: ", "expected ").replace("found: EOF", "found the end").replace("found: ", "found ");
        let word = self.text.get(range.clone()).unwrap_or("");
        let near = did_you_mean(&word.to_lowercase(), WORDS.iter().copied()).filter(|_| word.len() > 2);
        let curly = word.starts_with(['‘', '’', '“', '”']) || message.contains(['‘', '’', '“', '”']);
        let hint = curly.then(|| "texts stand in straight single quotes: 'like this'".to_string());
        Issue { hint, suggestion: near.filter(|n| !n.eq_ignore_ascii_case(word)), ..self.issue("expression-syntax", range, message) }
    }

    /// The word or character at a place; the last character at the end.
    fn char_at(&self, at: usize) -> Range<usize> {
        let rest = &self.text[at..];
        if rest.trim().is_empty() {
            let end = self.text.trim_end().len();
            let start = self.text[..end].char_indices().next_back().map_or(0, |(i, _)| i);
            return start..end;
        }
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        at..at + len
    }
}

fn lower(message: &str) -> String {
    let mut c = message.chars();
    c.next().map_or(String::new(), |first| first.to_lowercase().chain(c).collect())
}
