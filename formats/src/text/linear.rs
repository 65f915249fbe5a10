//! Regular expressions that can be matched in one go, on lines of ASCII.
//!
//! Most patterns of log lines are so: anchored, and at every place the next byte says how to go on (in `"([^"]*)" (\d+|-)$` a quote ends
//! the field, a digit begins a number). There is at most one way to match such a pattern, so no alternative is ever lost by not
//! trying it, and a class is passed over 16 bytes a step. What has no such form is left to the regex crate.

use super::line::{Class, Line};
use regex_syntax::hir::{Class as HirClass, Hir, HirKind, Look};

/// A pattern in that form.
#[derive(Clone, Debug)]
pub struct Linear {
    steps: Box<[Step]>,
    slots: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Text(Box<[u8]>),
    /// So many characters of a class.
    Run(Class, u32, u32),
    Save(usize),
    /// What begins with one of these bytes, so many times.
    Repeat(u128, Box<[Step]>, u32, u32),
    /// The branch that begins with the next byte; behind the last one what is to be done if there is none.
    Either(Box<[(u128, Box<[Step]>)]>, Option<Box<[Step]>>),
    /// One of these texts, none of which begins with another.
    Words(Box<[Box<[u8]>]>),
    End,
}

/// What can come next: bytes, or the end of the line.
#[derive(Clone, Copy)]
struct Next {
    bytes: u128,
    end: bool,
    /// Nothing is demanded of what comes: the pattern is over.
    over: bool,
}

impl Next {
    const ANY: Next = Next { bytes: !0, end: true, over: true };
    const END: Next = Next { bytes: 0, end: true, over: false };

    fn of(bytes: u128) -> Next {
        Next { bytes, end: false, over: false }
    }

    fn or(self, other: Next) -> Next {
        Next { bytes: self.bytes | other.bytes, end: self.end | other.end, over: false }
    }

    fn meets(self, other: Next) -> bool {
        self.bytes & other.bytes != 0 || (self.end && other.end)
    }
}

impl Linear {
    /// None: the pattern has no such form.
    pub fn new(pattern: &str) -> Option<Linear> {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern).ok()?;
        let mut parts: &[Hir] = match hir.kind() {
            HirKind::Concat(parts) => parts,
            _ => std::slice::from_ref(&hir),
        };
        parts = parts.strip_prefix(&[Hir::look(Look::Start)])?;
        let ends = parts.strip_suffix(&[Hir::look(Look::End)]);
        let mut steps = vec![];
        let next = if ends.is_some() { Next::END } else { Next::ANY };
        if ends.is_some() {
            steps.push(Step::End);
        }
        sequence(ends.unwrap_or(parts), next, &mut steps)?;
        steps.reverse();
        Some(Linear { steps: steps.into(), slots: 2 * (hir.properties().explicit_captures_len() + 1) })
    }

    /// Whether the line, of ASCII, matches; then `slots` holds where the groups begin and end, `u32::MAX` for those that took no part.
    /// Those of the whole match are not set.
    #[inline]
    pub fn matches(&self, line: Line<'_>, slots: &mut Vec<u32>) -> bool {
        slots.clear();
        slots.resize(self.slots, u32::MAX);
        run(&self.steps, line, 0, slots).is_some()
    }
}

/// Appends the steps of what stands one behind the other, last one first; what can come where they begin.
fn sequence(parts: &[Hir], next: Next, steps: &mut Vec<Step>) -> Option<Next> {
    parts.iter().rev().try_fold(next, |next, part| backwards(part, next, steps))
}

/// Steps in their order.
fn forwards(hir: &Hir, next: Next) -> Option<(Box<[Step]>, Next)> {
    let mut steps = vec![];
    let begins = backwards(hir, next, &mut steps)?;
    steps.reverse();
    Some((steps.into(), begins))
}

fn backwards(hir: &Hir, next: Next, steps: &mut Vec<Step>) -> Option<Next> {
    match hir.kind() {
        HirKind::Empty => Some(next),
        HirKind::Literal(text) => {
            steps.push(Step::Text(text.0.clone()));
            Some(Next::of(first(hir)))
        }
        HirKind::Class(_) => run_of(hir, 1, 1, true, next, steps),
        HirKind::Look(_) => None,
        HirKind::Capture(c) => {
            let slot = 2 * c.index as usize;
            steps.push(Step::Save(slot + 1));
            let begins = backwards(&c.sub, next, steps)?;
            steps.push(Step::Save(slot));
            Some(begins)
        }
        HirKind::Concat(parts) => sequence(parts, next, steps),
        HirKind::Repetition(r) => {
            let (min, max) = (r.min, r.max.unwrap_or(u32::MAX));
            if is_character(&r.sub) {
                return run_of(&r.sub, min, max, r.greedy, next, steps);
            }
            // A body that can be empty has no first byte to tell it by.
            if r.sub.properties().minimum_len()? == 0 || max == 0 {
                return None;
            }
            let begins = Next::of(first(&r.sub));
            let (body, _) = forwards(&r.sub, if max == 1 { next } else { next.or(begins) })?;
            if min != max && begins.meets(next) {
                return None;
            }
            steps.push(Step::Repeat(begins.bytes, body, min, max));
            Some(if min == 0 { begins.or(next) } else { begins })
        }
        HirKind::Alternation(branches) => {
            let words: Option<Vec<Box<[u8]>>> = branches
                .iter()
                .map(|b| match b.kind() {
                    HirKind::Literal(t) => Some(t.0.clone()),
                    _ => None,
                })
                .collect();
            if let Some(words) = words {
                let prefix = |(i, a): (usize, &Box<[u8]>)| words.iter().enumerate().any(|(j, b)| i != j && b.starts_with(a));
                if words.iter().enumerate().any(prefix) {
                    return None;
                }
                steps.push(Step::Words(words.into()));
                return Some(Next::of(first(hir)));
            }
            let (mut choices, mut nothing) = (vec![], None);
            let mut all = Next::of(0);
            for branch in branches {
                let (body, begins) = forwards(branch, next)?;
                // Two branches that begin alike, or one that begins like what follows an empty one.
                if all.meets(begins) {
                    return None;
                }
                all = all.or(begins);
                if branch.properties().minimum_len()? == 0 {
                    nothing = Some(body);
                } else {
                    choices.push((begins.bytes, body));
                }
            }
            steps.push(Step::Either(choices.into(), nothing));
            Some(all)
        }
    }
}

/// A class, or a literal that is a class of one.
fn is_character(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(t) => t.0.len() == 1,
        kind => matches!(kind, HirKind::Class(_)),
    }
}

/// The ASCII characters that a text of the expression can begin with.
fn first(hir: &Hir) -> u128 {
    let range = |low: u32, high: u32| (low..=high.min(127)).fold(0, |m, c| m | 1u128 << c);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(t) => t.0.first().map_or(0, |c| range((*c).into(), (*c).into())),
        HirKind::Class(HirClass::Bytes(c)) => c.ranges().iter().fold(0, |m, r| m | range(r.start().into(), r.end().into())),
        HirKind::Class(HirClass::Unicode(c)) => c.ranges().iter().fold(0, |m, r| m | range(r.start().into(), r.end().into())),
        HirKind::Repetition(r) => first(&r.sub),
        HirKind::Capture(c) => first(&c.sub),
        HirKind::Alternation(branches) => branches.iter().fold(0, |m, b| m | first(b)),
        HirKind::Concat(parts) => {
            let empty = parts.iter().take_while(|p| p.properties().minimum_len() == Some(0)).count();
            parts[..(empty + 1).min(parts.len())].iter().fold(0, |m, p| m | first(p))
        }
    }
}

fn run_of(hir: &Hir, min: u32, max: u32, greedy: bool, next: Next, steps: &mut Vec<Step>) -> Option<Next> {
    let set = first(hir);
    // As many as there are is right if nothing else could follow fewer of them, or if the pattern is over and takes what it can.
    let begins = Next::of(set);
    if min != max && begins.meets(next) && !(next.over && greedy) {
        return None;
    }
    steps.push(Step::Run(Class::new(set), min, max));
    Some(if min == 0 { begins.or(next) } else { begins })
}

/// Where the steps end that begin at `at`; None: they do not match.
fn run(steps: &[Step], line: Line<'_>, mut at: usize, slots: &mut [u32]) -> Option<usize> {
    let text = line.str().as_bytes();
    let begins = |at: usize, set: u128| text.get(at).is_some_and(|c| *c < 128 && set >> c & 1 != 0);
    for step in steps {
        match step {
            Step::Text(t) => match **t {
                [byte] if text.get(at) == Some(&byte) => at += 1,
                [_] => return None,
                _ if text[at..].starts_with(t) => at += t.len(),
                _ => return None,
            },
            Step::Run(class, min, max) => {
                let most = (*max as usize).min(text.len() - at);
                let end = if most < 8 {
                    (at..at + most).find(|i| !class.has(text[*i])).unwrap_or(at + most)
                } else {
                    class.end(line, at, at + most)
                };
                if end - at < *min as usize {
                    return None;
                }
                at = end;
            }
            Step::Save(slot) => slots[*slot] = at as u32,
            Step::Repeat(first, body, min, max) => {
                let mut count = 0;
                while count < *max && begins(at, *first) {
                    at = run(body, line, at, slots)?;
                    count += 1;
                }
                if count < *min {
                    return None;
                }
            }
            Step::Either(choices, nothing) => {
                at = match (choices.iter().find(|(first, _)| begins(at, *first)), nothing) {
                    (Some((_, body)), _) | (None, Some(body)) => run(body, line, at, slots)?,
                    (None, None) => return None,
                }
            }
            Step::Words(words) => at += words.iter().find(|w| text[at..].starts_with(w))?.len(),
            Step::End if at < text.len() => return None,
            Step::End => {}
        }
    }
    Some(at)
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
