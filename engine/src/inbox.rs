//! What has arrived at an operator and waits for its turn.

use crate::checkpoint::Boundary;
use crate::control::Shared;
use crate::parcel::{Parcel, Route};
use crate::ts::{Ts, meet};
use millrace_sdk::point;
use std::collections::VecDeque;
use std::sync::Arc;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// A parcel, when it was sent, and the timely input that it came by.
pub struct Arrival {
    pub time: Ts,
    pub input: usize,
    pub parcel: Parcel,
}

type Pull = Box<dyn FnMut(&mut VecDeque<Arrival>)>;

/// The inputs of an operator and its stash, in arrival order per input.
///
/// Invariant: an operator's time is the least of its inputs' frontiers and of everything in its stash, so an operator that yields, or
/// waits for a store, holds back the frontier by what it has not done yet. While a boundary is open, only what lies before it is given
/// out: rows leave at the capability held, so a row from behind the boundary would count as one before it.
pub struct Inbox {
    pulls: Vec<Pull>,
    /// The part's input index of each timely input.
    index: Vec<usize>,
    pub stash: VecDeque<Arrival>,
    shared: Arc<Shared>,
    /// The attempt of the newest boundary that was closed.
    closed: u64,
    open: Option<Boundary>,
    /// Rows from behind an open boundary wait. Never false but in a test that shows what this is good for.
    aligned: bool,
}

impl Inbox {
    pub fn new(shared: Arc<Shared>) -> Inbox {
        Inbox { pulls: vec![], index: vec![], stash: VecDeque::new(), shared, closed: 0, open: None, aligned: !point::without("align") }
    }

    /// Adds a timely input for the part's input `index`. Call after all outputs are made, so that it is connected to them.
    pub fn add<'s>(&mut self, b: &mut OperatorBuilder<'s, Ts>, stream: Stream<'s, Ts, Parcel>, route: Route, index: usize, me: usize) {
        let input = self.pulls.len();
        let take = move |time: Ts, parcel: &mut Parcel, stash: &mut VecDeque<Arrival>| {
            let parcel = std::mem::take(parcel);
            if parcel.batch.is_some() {
                stash.push_back(Arrival { time, input, parcel });
            }
        };
        // for_each, as for_each_time sorts unstably and would change the order of one sender's batches.
        self.pulls.push(match route {
            Route::Local => {
                let mut handle = b.new_input(stream, Pipeline);
                Box::new(move |stash| handle.for_each(|cap, parcel| take(*cap.time(), parcel, stash)))
            }
            route => {
                let mut handle = b.new_input(stream, route.pact(me));
                Box::new(move |stash| handle.for_each(|cap, parcel| take(*cap.time(), parcel, stash)))
            }
        });
        self.index.push(index);
    }

    /// Takes what has arrived into the stash. Once a turn, and first: whatever the turn sees of frontiers and rows, it knows the
    /// boundaries before.
    pub fn pull(&mut self) {
        if self.open.is_none() {
            self.open = self.shared.bounds.next(self.closed);
        }
        for pull in &mut self.pulls {
            pull(&mut self.stash);
        }
    }

    /// The first arrival that may be processed and for whose part's input `of` holds.
    #[inline]
    pub fn next(&self, of: impl Fn(usize) -> bool) -> Option<usize> {
        let limit = self.open.filter(|_| self.aligned).map_or(u64::MAX, |b| b.epoch);
        self.stash.iter().position(|a| a.time.epoch < limit && of(self.index[a.input]))
    }

    /// Takes the first arrival that may be processed.
    #[inline]
    pub fn pop(&mut self) -> Option<Arrival> {
        match self.open {
            None => self.stash.pop_front(),
            Some(_) => self.next(|_| true).and_then(|i| self.stash.remove(i)),
        }
    }

    /// Whether a boundary is open, so that what lies before it should be processed in any case.
    pub fn is_closing(&self) -> bool {
        self.open.is_some()
    }

    /// The open boundary, once all that lies before it has come and is processed.
    pub fn boundary(&self, frontiers: &[MutableAntichain<Ts>]) -> Option<Boundary> {
        self.open.filter(|b| self.time(frontiers, |_| true).is_none_or(|t| t.epoch >= b.epoch))
    }

    /// The open boundary is answered. What lies behind it may be processed once the capabilities have moved.
    pub fn close(&mut self) {
        if let Some(b) = self.open.take() {
            self.closed = b.attempt;
        }
    }

    /// The part's input index of a timely input.
    #[inline]
    pub fn index(&self, input: usize) -> usize {
        self.index[input]
    }

    /// The least time that is still to be processed at the inputs for which `of` holds; None: these have ended.
    pub fn time(&self, frontiers: &[MutableAntichain<Ts>], of: impl Fn(usize) -> bool) -> Option<Ts> {
        let ahead = frontiers.iter().enumerate().filter(|(i, _)| of(self.index[*i])).filter_map(|(_, f)| meet(f.frontier()));
        let here = self.stash.iter().filter(|a| of(self.index[a.input])).map(|a| a.time);
        ahead.chain(here).reduce(Ts::meet)
    }
}
