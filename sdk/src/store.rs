//! Look-up stores: batched asynchronous reads by key. Concurrency, time-out, retry and cache belong to the engine.

use crate::fault::Fault;
use crate::operator::Env;
use crate::problem::Problem;
use crate::schema::Field;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How the engine asks a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// For one question, from when it is sent, retries included; afterwards `on_store_error`.
    pub timeout: Duration,
    /// Keys a call at most.
    pub batch: usize,
    /// Calls in flight at most, per process.
    pub concurrency: usize,
    /// Cached answers at most, per process; 0: no cache.
    pub cache_size: usize,
    pub cache_ttl: Duration,
    /// How long "not found" is remembered; zero: not at all.
    pub negative_ttl: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            timeout: Duration::from_secs(2),
            batch: 256,
            concurrency: 8,
            cache_size: 0,
            cache_ttl: Duration::from_secs(60),
            negative_ttl: Duration::ZERO,
        }
    }
}

/// A store's config, read and checked. It opens nothing.
pub trait StoreSpec: Send + Sync {
    /// The template that makes a store key from the asking row, if the config has one.
    fn key(&self) -> Option<&str>;
    fn tuning(&self) -> Tuning;
    /// The store's columns as one part wants them: answers are rows of exactly these fields, encoded by [`crate::codec::RowWriter`].
    fn bind(&self, fields: &[Field], env: &Env) -> Result<Arc<dyn Store>, Vec<Problem>>;
}

pub trait Store: Send + Sync {
    /// One clear sentence if the server or the table is missing; called once, before anything is read.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// Answers in the order of the keys; None: not found. Polled on a tokio runtime.
    ///
    /// # Errors
    /// A fault with `retry` is asked again with backoff.
    fn get_many(&self, keys: Vec<Vec<u8>>) -> BoxFuture<Result<Vec<Option<Vec<u8>>>, Fault>>;
    /// The newest event time (microseconds) that is known to have arrived in the store, where it can tell.
    fn newest(&self) -> BoxFuture<Result<Option<i64>, Fault>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
