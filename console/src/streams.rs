//! Answers without an end, logs and taps: so many at a time of each user, so that nobody takes all of the console's connections.

use crate::Refusal;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Of one user, over all of their sessions and tokens.
const EACH: usize = 32;
/// Of all users; less than there are connections.
const ALL: usize = 256;

/// Open streams by user.
#[derive(Default)]
pub struct Streams(Arc<Mutex<HashMap<i64, usize>>>);

/// A stream that is open; it counts until this value goes.
pub struct Place {
    user: i64,
    open: Arc<Mutex<HashMap<i64, usize>>>,
}

impl Streams {
    /// # Errors
    /// The user, or all users together, have as many as may be.
    pub fn take(&self, user: i64) -> Result<Arc<Place>, Refusal> {
        let mut open = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let all: usize = open.values().sum();
        let own = open.entry(user).or_default();
        if *own >= EACH || all >= ALL {
            let message = format!("too many logs and taps are open: a user has at most {EACH}, all users together {ALL}");
            return Err(Refusal { retry_after: Some(10), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", message) });
        }
        *own += 1;
        Ok(Arc::new(Place { user, open: self.0.clone() }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(own) = open.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_not_all_and_gives_back() {
        let streams = Streams::default();
        let mut held: Vec<_> = (0..EACH).map(|_| streams.take(1).unwrap()).collect();
        assert_eq!(streams.take(1).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
        held.pop();
        held.push(streams.take(1).unwrap());
        let others: Vec<_> = (2..100).map_while(|user| streams.take(user).ok()).collect();
        assert_eq!(others.len(), 98);
        drop((held, others));
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
