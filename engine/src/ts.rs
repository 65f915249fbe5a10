//! The dataflow's timestamp: (epoch, watermark) in product order.

use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;
use timely::progress::frontier::AntichainRef;
use timely::progress::timestamp::{PathSummary, Refines, Timestamp};

/// `epoch` drives flow control and acknowledgement, `wm` drives event time (microseconds).
///
/// Invariant: the order is the product order. The derived `Ord` is lexicographic, which is only a linear extension that timely needs
/// for sorting; comparing progress with it would let a low watermark hide behind a low epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ts {
    pub epoch: u64,
    pub wm: i64,
}

impl Ts {
    pub fn new(epoch: u64, wm: i64) -> Ts {
        Ts { epoch, wm }
    }

    /// The greatest timestamp that is below both.
    pub fn meet(self, other: Ts) -> Ts {
        Ts::new(self.epoch.min(other.epoch), self.wm.min(other.wm))
    }
}

impl PartialOrder for Ts {
    #[inline]
    fn less_equal(&self, other: &Self) -> bool {
        self.epoch <= other.epoch && self.wm <= other.wm
    }
}

/// The only path summary: dataflows have no cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Identity;

impl PartialOrder for Identity {
    fn less_equal(&self, _: &Self) -> bool {
        true
    }
}

impl PathSummary<Ts> for Identity {
    #[inline]
    fn results_in(&self, t: &Ts) -> Option<Ts> {
        Some(*t)
    }
    #[inline]
    fn followed_by(&self, _: &Self) -> Option<Self> {
        Some(Identity)
    }
}

impl Timestamp for Ts {
    type Summary = Identity;
    fn minimum() -> Self {
        Ts { epoch: 0, wm: i64::MIN }
    }
}

impl Refines<()> for Ts {
    fn to_inner(_: ()) -> Self {
        Ts::minimum()
    }
    fn to_outer(self) {}
    fn summarize(_: Identity) {}
}

/// The greatest lower bound of a frontier; None: it is empty, which is the end of input and nothing else.
pub fn meet(frontier: AntichainRef<'_, Ts>) -> Option<Ts> {
    frontier.iter().copied().reduce(Ts::meet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_product_order() {
        let cases =
            [((1, 5), (1, 5), true), ((1, 5), (2, 5), true), ((1, 6), (2, 5), false), ((3, 1), (2, 9), false), ((0, 0), (9, 9), true)];
        for ((a, b), (c, d), want) in cases {
            assert_eq!(Ts::new(a, b).less_equal(&Ts::new(c, d)), want, "({a},{b}) <= ({c},{d})");
        }
        assert_eq!(Ts::new(3, 1).meet(Ts::new(2, 9)), Ts::new(2, 1));
    }
}
