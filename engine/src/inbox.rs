//! What has arrived at an operator and waits for its turn.

use crate::parcel::{Parcel, Route};
use crate::ts::{Ts, meet};
use std::collections::VecDeque;
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
/// waits for a store, holds back the frontier by what it has not done yet.
#[derive(Default)]
pub struct Inbox {
    pulls: Vec<Pull>,
    /// The part's input index of each timely input.
    index: Vec<usize>,
    pub stash: VecDeque<Arrival>,
}

impl Inbox {
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

    /// Takes what has arrived into the stash.
    pub fn pull(&mut self) {
        for pull in &mut self.pulls {
            pull(&mut self.stash);
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
