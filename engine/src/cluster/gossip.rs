//! How far sources are, and what else each process knows of itself and the others only need to know soon.

use serde::{Deserialize, Serialize};

/// What a process tells of itself, or process 0 of all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gossip {
    /// Numbers what the sender tells.
    pub number: u64,
    /// The newest number that the sender has heard of the receiver.
    pub echo: u64,
    /// The worker of the first entry of each source.
    pub first: usize,
    /// By source, then worker: watermark, head, reading.
    pub table: Vec<Vec<(i64, i64, u8)>>,
    /// Look-ups without an answer.
    pub asks: usize,
    /// An operator refuses rows.
    pub holding: bool,
    /// No retry stream has anything to read, and nothing is on its way to one.
    pub calm: bool,
    /// Rows that retry streams have delivered.
    pub retried: u64,
    /// From process 0: too many checkpoints wait to be published.
    pub clogged: bool,
    /// From process 0: retry streams will get nothing any more.
    pub settled: bool,
}

/// Finds out whether all processes are calm at once: all were, then all were asked again and still are, and none has moved in between.
#[derive(Default)]
pub struct Settled {
    /// The number that all must have heard, and the rows of each when they were first calm.
    since: Option<(u64, Vec<u64>)>,
}

impl Settled {
    /// `all`: the newest of every process; `number`: the last that was told to them.
    pub fn look(&mut self, all: &[Gossip], number: u64) -> bool {
        if !all.iter().all(|g| g.calm) {
            self.since = None;
            return false;
        }
        let retried: Vec<u64> = all.iter().map(|g| g.retried).collect();
        match &self.since {
            Some((asked, before)) if *before == retried => all.iter().all(|g| g.echo >= *asked),
            _ => {
                self.since = Some((number + 1, retried));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(calm: bool, retried: u64, echo: u64) -> Gossip {
        Gossip { calm, retried, echo, ..Gossip::default() }
    }

    #[test]
    fn calm_counts_only_when_it_lasted() {
        let mut s = Settled::default();
        assert!(!s.look(&[one(true, 1, 5), one(false, 1, 5)], 5));
        assert!(!s.look(&[one(true, 1, 5), one(true, 1, 5)], 5), "said before it was asked");
        assert!(!s.look(&[one(true, 1, 6), one(true, 1, 5)], 6));
        assert!(!s.look(&[one(true, 1, 6), one(true, 2, 6)], 6), "one has moved");
        assert!(!s.look(&[one(true, 1, 6), one(true, 2, 7)], 7));
        assert!(!s.look(&[one(false, 1, 7), one(true, 2, 7)], 7));
        assert!(!s.look(&[one(true, 1, 8), one(true, 2, 8)], 8));
        assert!(s.look(&[one(true, 1, 9), one(true, 2, 9)], 9));
    }
}
