//! Compiled patterns, kept per thread: a pattern may come from the row, so it cannot be compiled with the template.

use std::cell::RefCell;
use std::rc::Rc;

/// Patterns that are kept.
const KEPT: usize = 64;

/// What was made of two texts.
pub struct Cache<T>(RefCell<Vec<(Box<str>, Box<str>, Rc<T>)>>);

impl<T> Cache<T> {
    pub const fn new() -> Cache<T> {
        Cache(RefCell::new(Vec::new()))
    }

    pub fn get<E>(&self, a: &str, b: &str, make: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
        let mut all = self.0.borrow_mut();
        if let Some(at) = all.iter().position(|(x, y, _)| **x == *a && **y == *b) {
            // A step forward each time it is used: what is used most is found first.
            let at = if at > 0 {
                all.swap(at, at - 1);
                at - 1
            } else {
                at
            };
            return Ok(all[at].2.clone());
        }
        let made = Rc::new(make()?);
        all.truncate(KEPT - 1);
        all.push((a.into(), b.into(), made.clone()));
        Ok(made)
    }
}
