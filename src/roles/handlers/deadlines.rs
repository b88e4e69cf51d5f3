//! The deadlines of one thread's connections: at most one entry each, in the order of time.
//!
//! An entry may come too early, never too late: what passes over a connection moves its deadline and leaves the
//! entry; when that is due, the connection tells when it really is.

use std::collections::BTreeSet;
use std::time::Instant;

/// When to look at which connection.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, u64)>);

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, id: u64) {
        self.0.insert((at, id));
    }

    pub(super) fn cancel(&mut self, at: Instant, id: u64) {
        self.0.remove(&(at, id));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    /// Takes one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        self.next().filter(|&at| at <= now)?;
        self.0.pop_first().map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn they_come_in_order_and_can_be_cancelled() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        for (seconds, id) in [(2, 7), (1, 8), (1, 9), (3, 5)] {
            deadlines.set(at(seconds), id);
        }
        deadlines.cancel(at(1), 9);
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.take_due(start), None);
        let due: Vec<_> = std::iter::from_fn(|| deadlines.take_due(at(2))).collect();
        assert_eq!((due, deadlines.next()), (vec![8, 7], Some(at(3))));
    }
}
