//! Answers of the system's databases, kept for a short while, in bounded memory.
//!
//! The system's resolver does not say for how long an answer is good: what it says is kept for one time that is
//! short for all. Knows no clock: the time comes with each call.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Answers that are kept.
const MAX_KEPT: usize = 4096;

/// What a database knows is good for so long.
const KNOWN: Duration = Duration::from_mins(1);

/// It is not asked again for so long when it failed: it may be back soon.
const FAILED: Duration = Duration::from_secs(5);

/// An answer.
pub(super) trait Outcome: Clone + PartialEq + Send + 'static {
    /// There is none: dead, too slow, too busy.
    const FAILED: Self;
}

/// Answers by what was asked about.
pub(super) struct Cache<Q, A> {
    kept: HashMap<Q, (A, Expiry)>,
    by_expiry: BTreeMap<Expiry, Q>,
    serial: u64,
}

impl<Q, A> Default for Cache<Q, A> {
    fn default() -> Self {
        Self { kept: HashMap::new(), by_expiry: BTreeMap::new(), serial: 0 }
    }
}

/// When, and a number that makes it the only one.
type Expiry = (Instant, u64);

impl<Q: Clone + Eq + Hash, A: Outcome> Cache<Q, A> {
    /// The answer, if it is still good.
    pub(super) fn find(&self, about: &Q, now: Instant) -> Option<&A> {
        let (answer, (expiry, _)) = self.kept.get(about)?;
        (now < *expiry).then_some(answer)
    }

    /// Keeps an answer; where there is no room, that which would expire first goes.
    pub(super) fn keep(&mut self, about: Q, answer: A, now: Instant) {
        let time = if answer == A::FAILED { FAILED } else { KNOWN };
        self.serial += 1;
        let expiry = (now + time, self.serial);
        if let Some((_, old)) = self.kept.insert(about.clone(), (answer, expiry)) {
            self.by_expiry.remove(&old);
        }
        self.by_expiry.insert(expiry, about);
        if self.kept.len() > MAX_KEPT
            && let Some((_, first)) = self.by_expiry.pop_first()
        {
            self.kept.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resolve::Named;
    use std::net::{IpAddr, Ipv4Addr};

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn answers_are_good_for_a_while() {
        let now = Instant::now();
        let confirmed = Named::Confirmed("host.example".parse().unwrap());
        for (named, time) in [
            (confirmed, KNOWN),
            (Named::NoName, KNOWN),
            (Named::Mismatch(None), KNOWN),
            (Named::Failed, FAILED),
        ] {
            let mut cache = Cache::default();
            cache.keep(address(1), named.clone(), now);
            assert_eq!(cache.find(&address(1), now), Some(&named));
            let nearly = time.mul_f64(0.99);
            assert_eq!(cache.find(&address(1), now + nearly), Some(&named));
            assert_eq!(cache.find(&address(1), now + time), None, "{named:?}");
            assert_eq!(cache.find(&address(2), now), None);
        }
    }

    #[test]
    fn a_newer_answer_stands_for_an_older() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.keep(address(1), Named::NoName, now);
        cache.keep(address(1), Named::Failed, now);
        assert_eq!(cache.find(&address(1), now), Some(&Named::Failed));
        assert_eq!((cache.kept.len(), cache.by_expiry.len()), (1, 1));
    }

    #[test]
    fn room_is_bounded_and_failures_go_first() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.keep(address(0), Named::NoName, now);
        cache.keep(address(1), Named::Failed, now);
        for number in 2..=MAX_KEPT {
            cache.keep(address(number), Named::NoName, now);
        }
        assert_eq!(cache.find(&address(0), now), Some(&Named::NoName));
        assert_eq!(cache.find(&address(1), now), None);
        for number in 0..3 * MAX_KEPT {
            cache.keep(address(number % 5000), Named::NoName, now);
        }
        assert_eq!((cache.kept.len(), cache.by_expiry.len()), (MAX_KEPT, MAX_KEPT));
    }
}
