//! What sinks share whose writes gather on a thread of their own: bounded waiting, acknowledgements, pauses between attempts.

use crossbeam_channel::{Receiver, Sender, unbounded};
use millrace_sdk::operator::Reject;
use millrace_sdk::sink::Acks;
use millrace_sdk::source::Waker;
use millrace_sdk::{Fault, Ticket};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows that may wait in one writer before it says that it is not ready …
const MAX_ROWS: usize = 200_000;
/// … and bytes.
const MAX_BYTES: usize = 32 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How soon a pause ends once nobody waits any more.
const STEP: Duration = Duration::from_millis(50);

/// State that sink and thread share.
#[derive(Default)]
pub struct Desk {
    acks: Mutex<Acks>,
    fault: Mutex<Option<Fault>>,
    rows: AtomicUsize,
    bytes: AtomicUsize,
    stop: AtomicBool,
}

impl Desk {
    /// Nobody waits any more.
    pub fn stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub fn reject(&self, rejects: impl IntoIterator<Item = Reject>) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).rejects.extend(rejects);
    }

    /// Writes are safe: so many rows and bytes wait no more.
    pub fn done(&self, tickets: impl IntoIterator<Item = Ticket>, rows: usize, bytes: usize, waker: &Waker) {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).done.extend(tickets);
        self.rows.fetch_sub(rows, SeqCst);
        self.bytes.fetch_sub(bytes, SeqCst);
        waker();
    }

    /// The thread gives up.
    pub fn fail(&self, fault: Fault, waker: &Waker) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        waker();
    }
}

/// The sink's end of the thread.
pub struct Gatherer<L> {
    what: &'static str,
    desk: Arc<Desk>,
    loads: Option<Sender<L>>,
    thread: Option<JoinHandle<()>>,
}

impl<L: Send + 'static> Gatherer<L> {
    /// Starts the thread; it ends when the channel does.
    pub fn start(what: &'static str, run: impl FnOnce(Receiver<L>, Arc<Desk>) + Send + 'static) -> Result<Gatherer<L>, Fault> {
        let desk = Arc::new(Desk::default());
        // Bounded by what waits, which `ready` looks at.
        let (loads, queue) = unbounded();
        let shared = desk.clone();
        let thread = std::thread::Builder::new()
            .name(what.into())
            .spawn(move || run(queue, shared))
            .map_err(|e| Fault::refused(format!("cannot start the thread of a {what}")).detail(e.to_string()))?;
        Ok(Gatherer { what, desk, loads: Some(loads), thread: Some(thread) })
    }

    pub fn ready(&self) -> bool {
        let failed = self.desk.fault.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        failed || (self.desk.rows.load(SeqCst) < MAX_ROWS && self.desk.bytes.load(SeqCst) < MAX_BYTES)
    }

    /// Hands over rows and bytes that the thread will call [`Desk::done`] with.
    pub fn send(&self, load: L, rows: usize, bytes: usize) -> Result<(), Fault> {
        self.desk.rows.fetch_add(rows, SeqCst);
        self.desk.bytes.fetch_add(bytes, SeqCst);
        let sent = self.loads.as_ref().is_some_and(|l| l.send(load).is_ok());
        if sent { Ok(()) } else { Err(self.fault().unwrap_or_else(|| Fault::bug(format!("the thread of a {} has ended", self.what)))) }
    }

    fn fault(&self) -> Option<Fault> {
        self.desk.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn poll(&self, acks: &mut Acks) -> Result<(), Fault> {
        let mut said = self.desk.acks.lock().unwrap_or_else(PoisonError::into_inner);
        acks.done.append(&mut said.done);
        acks.rejects.append(&mut said.rejects);
        drop(said);
        self.fault().map_or(Ok(()), Err)
    }

    /// Waits until all is written.
    pub fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.loads = None;
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        self.poll(acks)?;
        ended.map_err(|_| Fault::bug(format!("the thread of a {} has panicked", self.what)))
    }
}

impl<L> Drop for Gatherer<L> {
    fn drop(&mut self) {
        self.desk.stop.store(true, SeqCst);
    }
}

/// Growing pauses between attempts, half of each left to chance.
pub struct Backoff {
    pause: Duration,
    chance: SmallRng,
}

impl Backoff {
    pub fn new(seed: u64) -> Backoff {
        Backoff { pause: FIRST_PAUSE, chance: SmallRng::seed_from_u64(seed) }
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// Pauses; false: the sink is gone.
    pub fn wait(&mut self, desk: &Desk) -> bool {
        let mut left = self.pause.mul_f64(self.chance.random_range(0.5..1.5));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        while !left.is_zero() {
            if desk.stopped() {
                return false;
            }
            let step = left.min(STEP);
            std::thread::sleep(step);
            left -= step;
        }
        !desk.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_comes_back() {
        let waker: Waker = Arc::new(|| {});
        let mut gatherer = Gatherer::start("test", move |queue: Receiver<(u64, usize)>, desk| {
            for (n, rows) in queue {
                if n == 7 {
                    desk.fail(Fault::refused("no more"), &waker);
                    return;
                }
                desk.done([Ticket(n)], rows, 10, &waker);
            }
        })
        .unwrap();
        for n in 0..3 {
            gatherer.send((n, MAX_ROWS), MAX_ROWS, 10).unwrap();
        }
        let mut acks = Acks::default();
        while acks.done.len() < 3 {
            gatherer.poll(&mut acks).unwrap();
        }
        assert!(gatherer.ready());
        gatherer.send((7, 1), 1, MAX_BYTES).unwrap();
        assert_eq!(gatherer.close(&mut acks).unwrap_err().message, "no more");
        assert!(gatherer.ready(), "a fault is to be heard, not waited for");
    }

    #[test]
    fn nobody_waits_for_a_sink_that_is_gone() {
        let desk = Desk::default();
        desk.stop.store(true, SeqCst);
        assert!(!Backoff::new(1).wait(&desk));
    }
}
