//! Asking stores: batches, concurrency, time-out, retries with backoff, cache. One client a store and process.

use crate::control::Shared;
use crate::progress::StoreMeter;
use lru::LruCache;
use millrace_plan::plan::StorePlan;
use millrace_sdk::operator::OnStoreError;
use millrace_sdk::store::Tuning;
use millrace_sdk::{Fault, Store};
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// How long a store may be away once a run is only waiting for it to end.
const PATIENCE: Duration = Duration::from_secs(600);
/// An outage is heard of by every call: one line in so many seconds will do.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(5);

/// A store's answer: an encoded row, or that it has no such key.
pub type Found = Option<Arc<[u8]>>;

struct Cached {
    found: Found,
    until: Instant,
}

/// Ends the run when it is dropped by a panic: nobody would ever answer the questions of that call.
struct OnPanic<'a>(&'a Client);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.shared.fail(Fault::bug(format!("the store `{}` panicked while it was asked", self.0.name)));
        }
    }
}

pub struct Client {
    name: String,
    store: Arc<dyn Store>,
    pub tuning: Tuning,
    permits: Semaphore,
    cache: Option<Mutex<LruCache<Box<[u8]>, Cached>>>,
    shared: Arc<Shared>,
    meter: usize,
    complained: Mutex<Option<Instant>>,
}

impl Client {
    pub fn new(plan: &StorePlan, shared: Arc<Shared>) -> Client {
        let t = plan.tuning.clone();
        Client {
            name: plan.name.clone(),
            store: plan.store.clone(),
            permits: Semaphore::new(t.concurrency.max(1)),
            cache: NonZeroUsize::new(t.cache_size).map(|n| Mutex::new(LruCache::new(n))),
            meter: shared.meters.store(&plan.name),
            shared,
            tuning: t,
            complained: Mutex::new(None),
        }
    }

    pub fn meter(&self) -> &StoreMeter {
        &self.shared.meters.stores[self.meter]
    }

    /// The answer, if it is cached; None: the store is to be asked.
    pub fn cached(&self, key: &[u8]) -> Option<Found> {
        self.meter().lookups.fetch_add(1, Relaxed);
        let mut cache = self.cache.as_ref()?.lock().unwrap_or_else(|e| e.into_inner());
        match cache.get(key) {
            Some(c) if c.until > Instant::now() => {
                self.meter().cache_hits.fetch_add(1, Relaxed);
                Some(c.found.clone())
            }
            Some(_) => {
                cache.pop(key);
                None
            }
            None => None,
        }
    }

    fn remember(&self, keys: &[Vec<u8>], answers: &[Found]) {
        let Some(cache) = &self.cache else { return };
        let mut cache = cache.lock().unwrap_or_else(|e| e.into_inner());
        let now = Instant::now();
        for (key, found) in keys.iter().zip(answers) {
            let ttl = if found.is_some() { self.tuning.cache_ttl } else { self.tuning.negative_ttl };
            if !ttl.is_zero() {
                cache.put(key[..].into(), Cached { found: found.clone(), until: now + ttl });
            }
        }
    }

    /// Asks for all keys in one call, until there is an answer: for `wait` as long as it takes, else within the time-out.
    ///
    /// The time-out counts what the store has to answer for: calls and the pauses between them, but not the wait for other calls to
    /// end. That one is short: everybody who asks has few calls at a time, and none of these is longer than the time-out.
    ///
    /// # Errors
    /// What the last call said. A store that answers nonsense, panics, or refuses while the job waits for it, ends the run.
    pub async fn fetch(&self, keys: &[Vec<u8>], on_error: OnStoreError) -> Result<Vec<Found>, Fault> {
        let _alarm = OnPanic(self);
        let wait = on_error == OnStoreError::Wait;
        let mut spent = Duration::ZERO;
        let mut backoff = FIRST_BACKOFF;
        let mut away: Option<Instant> = None;
        loop {
            let left = if wait { self.tuning.timeout } else { self.tuning.timeout.saturating_sub(spent) };
            let (result, took) = self.call(keys, left).await;
            spent += took;
            let fault = match result {
                Ok(answers) => {
                    self.shared.meters.waiting.store(false, Relaxed);
                    self.remember(keys, &answers);
                    return Ok(answers);
                }
                Err(fault) => fault,
            };
            self.meter().errors.fetch_add(1, Relaxed);
            let over = !wait && (!fault.retry || spent + backoff >= self.tuning.timeout);
            if over || self.shared.failed() {
                self.meter().failed.fetch_add(keys.len() as u64, Relaxed);
                return Err(fault);
            }
            if !fault.retry {
                self.shared.fail(fault.clone());
                return Err(fault);
            }
            let ending = self.shared.drained() || self.shared.inputs_ended();
            away = Some(away.filter(|_| ending).unwrap_or_else(Instant::now));
            if wait && ending && away.is_some_and(|t| t.elapsed() >= PATIENCE) {
                let what = format!("the store `{}` has been away for {} s at the end of the job", self.name, PATIENCE.as_secs());
                let hint = "rows still wait for it: a start from the last checkpoint asks again, sources whose positions were not confirmed give them again";
                self.shared.fail(Fault::down(what).detail(fault.to_string()).hint(hint));
                return Err(fault);
            }
            self.complain(&fault, keys.len());
            self.shared.meters.waiting.store(true, Relaxed);
            let pause = self.jittered(backoff);
            tokio::time::sleep(pause).await;
            spent += pause;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// One call as soon as it may be made, and how long it took.
    async fn call(&self, keys: &[Vec<u8>], timeout: Duration) -> (Result<Vec<Found>, Fault>, Duration) {
        let Ok(_permit) = self.permits.acquire().await else {
            return (Err(Fault::bug("the store's permits are closed")), Duration::ZERO);
        };
        let sent = Instant::now();
        self.meter().calls.fetch_add(1, Relaxed);
        self.meter().keys.fetch_add(keys.len() as u64, Relaxed);
        let late = || Fault::down(format!("store `{}` did not answer within {} ms", self.name, self.tuning.timeout.as_millis()));
        let result = tokio::time::timeout(timeout, self.store.get_many(keys.to_vec())).await.unwrap_or_else(|_| Err(late()));
        if result.is_ok() {
            self.meter().latency.add(sent.elapsed().as_micros() as u64, 1);
        }
        let result = result.and_then(|answers| {
            if answers.len() == keys.len() {
                return Ok(answers.into_iter().map(|a| a.map(Into::into)).collect());
            }
            let fault = Fault::bug(format!("store `{}` gave {} answers to {} keys", self.name, answers.len(), keys.len()));
            self.shared.fail(fault.clone());
            Err(fault)
        });
        (result, sent.elapsed())
    }

    fn complain(&self, fault: &Fault, keys: usize) {
        let mut last = self.complained.lock().unwrap_or_else(|e| e.into_inner());
        if last.is_none_or(|t| t.elapsed() >= COMPLAINT_PAUSE) {
            *last = Some(Instant::now());
            tracing::warn!(store = self.name, error = %fault, keys, "the store does not answer and is asked again");
        }
    }

    /// Half to all of the backoff, so that workers do not return in step.
    fn jittered(&self, backoff: Duration) -> Duration {
        let noise = (self.shared.micros().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % 1000;
        backoff.mul_f64(0.5 + noise as f64 / 2000.0)
    }
}
