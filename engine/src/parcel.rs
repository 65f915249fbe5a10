//! What travels along the dataflow's edges, and where it goes.

use crate::wire;
use millrace_sdk::{Batch, Key};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};

/// A batch on its way. Cloning (fan-out) shares the text.
#[derive(Clone, Default)]
pub struct Parcel {
    /// Empty only in the container that timely leaves behind.
    pub batch: Option<Batch>,
    /// When the rows that caused this batch arrived: microseconds on the run's own clock, for the latency figure.
    pub born: u64,
    /// Who sent it counts it until nobody has it to read any more.
    _unread: Option<Arc<Unread>>,
}

impl Parcel {
    pub fn new(batch: Batch, born: u64, sent: &Arc<AtomicUsize>) -> Parcel {
        let bytes = batch.bytes();
        sent.fetch_add(bytes, Relaxed);
        Parcel { batch: Some(batch), born, _unread: Some(Arc::new(Unread { bytes, sent: sent.clone() })) }
    }

    /// Of another process.
    pub fn arrived(batch: Batch, born: u64) -> Parcel {
        Parcel { batch: Some(batch), born, _unread: None }
    }

    /// Some of its rows.
    fn part(&self, batch: Batch) -> Parcel {
        Parcel { batch: Some(batch), ..self.clone() }
    }
}

struct Unread {
    bytes: usize,
    sent: Arc<AtomicUsize>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.sent.fetch_sub(self.bytes, Relaxed);
    }
}

impl Accountable for Parcel {
    #[inline]
    fn record_count(&self) -> i64 {
        self.batch.as_ref().map_or(0, |b| b.len() as i64)
    }
}

/// Workers of one process hand batches over by moving them; to other processes they are written.
impl ContainerBytes for Parcel {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        wire::read(&bytes)
    }
    fn length_in_bytes(&self) -> usize {
        wire::measure(self)
    }
    fn into_bytes<W: Write>(&self, writer: &mut W) {
        wire::write(self, |bytes| writer.write_all(bytes).expect("timely has made room for what was measured"));
    }
}

/// Where an input's rows are processed.
#[derive(Clone)]
pub enum Route {
    /// On the worker that made them.
    Local,
    /// On the worker that owns the key group, among the first `workers`.
    Keyed { key: Key, workers: usize },
    /// On the first `workers`: batches stay whole, and worker `i` sends to worker `i % workers`, so that what it sends stays in order.
    First { workers: usize },
}

impl Route {
    pub fn pact(self, me: usize) -> DistributorPact<Box<dyn FnOnce(usize) -> Router>> {
        DistributorPact(Box::new(move |peers| Router { route: self, me, key: Vec::new(), rows: vec![Vec::new(); peers] }))
    }
}

/// Splits batches by their rows' workers. Order within a pair of workers is kept.
pub struct Router {
    route: Route,
    me: usize,
    key: Vec<u8>,
    rows: Vec<Vec<u32>>,
}

impl Distributor<Parcel> for Router {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, parcel: &mut Parcel, time: &T, pushers: &mut [P]) {
        let Some(batch) = parcel.batch.take() else { return };
        let whole = std::mem::take(parcel);
        let mut send = |to: usize, batch: Batch| Message::push_at(&mut whole.part(batch), time.clone(), &mut pushers[to]);
        match &self.route {
            Route::Local => unreachable!("local edges are pipelines"),
            Route::First { workers } => send(self.me % (*workers).max(1), batch),
            Route::Keyed { key, workers } => {
                for (i, row) in batch.rows().enumerate() {
                    self.key.clear();
                    key.write(&row, &mut self.key);
                    self.rows[Key::worker(Key::group(&self.key), *workers)].push(i as u32);
                }
                let one = self.rows.iter().position(|r| r.len() == batch.len());
                if let Some(to) = one {
                    self.rows[to].clear();
                    return send(to, batch);
                }
                for (to, rows) in self.rows.iter_mut().enumerate() {
                    if !rows.is_empty() {
                        send(to, batch.select(rows).compact());
                        rows.clear();
                    }
                }
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _: &T, _: &mut [P]) {}
}
