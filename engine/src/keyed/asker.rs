//! Questions of a keyed operator on their way to a store and back.

use crate::stores::{Client, Found};
use millrace_sdk::Fault;
use millrace_sdk::operator::OnStoreError;
use millrace_sdk::source::Waker;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};

type Reply = (Vec<Vec<u8>>, Result<Vec<Found>, Fault>);

/// An answer for all questions (ids) that asked for its key.
pub struct Answered {
    pub ids: Vec<u64>,
    pub result: Result<Found, Fault>,
}

/// One store as one operator on one worker asks it.
///
/// Invariant: a key is in flight at most once; who asks for it meanwhile waits for the same answer. What is not in flight waits in a
/// queue and goes in full batches while the store is busy, at once while it is not.
pub struct Asker {
    client: Arc<Client>,
    on_error: OnStoreError,
    runtime: tokio::runtime::Handle,
    waker: Waker,
    waiting: HashMap<Vec<u8>, Vec<u64>>,
    queue: VecDeque<Vec<u8>>,
    in_flight: usize,
    replies: (Sender<Reply>, Receiver<Reply>),
}

impl Asker {
    pub fn new(client: Arc<Client>, on_error: OnStoreError, runtime: tokio::runtime::Handle, waker: Waker) -> Asker {
        Asker { client, on_error, runtime, waker, waiting: HashMap::new(), queue: VecDeque::new(), in_flight: 0, replies: channel() }
    }

    /// Asks; an answer that is cached comes at once.
    pub fn ask(&mut self, id: u64, key: &[u8]) -> Option<Answered> {
        if let Some(found) = self.client.cached(key) {
            return Some(Answered { ids: vec![id], result: Ok(found) });
        }
        match self.waiting.get_mut(key) {
            Some(ids) => {
                self.client.meter().shared.fetch_add(1, Relaxed);
                ids.push(id);
            }
            None => {
                self.waiting.insert(key.to_vec(), vec![id]);
                self.queue.push_back(key.to_vec());
            }
        }
        None
    }

    /// Sends what waits, as far as the store may be asked at a time.
    pub fn send(&mut self) {
        while !self.queue.is_empty() && self.in_flight < self.client.tuning.concurrency.max(1) {
            let n = self.queue.len().min(self.client.tuning.batch.max(1));
            let keys: Vec<Vec<u8>> = self.queue.drain(..n).collect();
            self.in_flight += 1;
            let (client, on_error, reply, waker) = (self.client.clone(), self.on_error, self.replies.0.clone(), self.waker.clone());
            self.runtime.spawn(async move {
                let result = client.fetch(&keys, on_error).await;
                // The operator may be gone; then nobody needs the answer.
                let _ = reply.send((keys, result));
                waker();
            });
        }
    }

    /// Answers that have come.
    ///
    /// # Errors
    /// The job waits for this store and the run is over: then no row may go on as if the store did not have its key.
    pub fn answers(&mut self, out: &mut Vec<Answered>) -> Result<(), Fault> {
        while let Ok((keys, result)) = self.replies.1.try_recv() {
            self.in_flight -= 1;
            if let (Err(fault), OnStoreError::Wait) = (&result, self.on_error) {
                return Err(fault.clone());
            }
            for (i, key) in keys.iter().enumerate() {
                let ids = self.waiting.remove(key).unwrap_or_default();
                let result = match &result {
                    Ok(found) => Ok(found[i].clone()),
                    Err(fault) => Err(fault.clone()),
                };
                out.push(Answered { ids, result });
            }
        }
        Ok(())
    }
}
