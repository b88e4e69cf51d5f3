//! How often each source comes: a rate for every one of them, in a bounded table.
//!
//! While more sources come at once than there is room for, those without a place share a few allowances of their
//! service: they are served together as often as so many sources would be, and those with a place notice nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::model::address::Source;
use crate::model::rate::Rate;

use super::rate::{Meter, bounded, step};
use super::sources::SourceTable;

/// What the sources without a place share, for each service.
const SHARES: usize = 64;

/// The rates of the sources of all services.
#[derive(Debug)]
pub struct Frequency<S = RandomState> {
    table: SourceTable<(), S>,
    shared: HashMap<u32, Box<[Meter; SHARES]>>,
}

impl<S: BuildHasher> Frequency<S> {
    /// Nobody has come. The hash should be keyed: strangers choose what it is fed.
    pub fn new(hasher: S) -> Self {
        Self { table: SourceTable::new(hasher), shared: HashMap::new() }
    }

    /// Counts a source at a service, or says when there is room for it again.
    pub fn allow(&mut self, service: u32, source: Source, rate: Rate, now: Instant) -> Result<(), Instant> {
        if let Some(mut place) = self.table.place(service, source, now) {
            let before = bounded(place.end(), rate, now);
            let counted = step(before, rate, now);
            place.keep_until(counted.unwrap_or(before));
            return counted.map(drop);
        }
        let share = self.table.share(source, SHARES);
        let meters = self.shared.entry(service).or_insert_with(|| Box::new([Meter::default(); SHARES]));
        let Some(meter) = meters.get_mut(share) else { return Ok(()) };
        meter.change(rate, now);
        meter.allow(rate, now)
    }

    /// Would [`Frequency::allow`] find no room now? Nothing is counted.
    pub fn is_spent(&mut self, service: u32, source: Source, rate: Rate, now: Instant) -> bool {
        if let Some(place) = self.table.place(service, source, now) {
            return step(bounded(place.end(), rate, now), rate, now).is_err();
        }
        let share = self.table.share(source, SHARES);
        let meter = self.shared.get(&service).and_then(|meters| meters.get(share));
        meter.is_some_and(|meter| meter.retry_at(rate, now).is_some())
    }

    /// The service is gone.
    pub fn forget(&mut self, service: u32) {
        self.shared.remove(&service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::SourcePrefix;
    use crate::model::rate::Per;
    use crate::service::sources::CAPACITY;
    use std::collections::hash_map::DefaultHasher;
    use std::hash::BuildHasherDefault;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn frequency() -> Frequency<BuildHasherDefault<DefaultHasher>> {
        Frequency::new(BuildHasherDefault::default())
    }

    fn v4(number: u32) -> Source {
        Source::of_address(Ipv4Addr::from_bits(number).into(), SourcePrefix::default())
    }

    fn v6(number: u128) -> Source {
        Source::of_address(Ipv6Addr::from_bits(number).into(), SourcePrefix::default())
    }

    #[test]
    fn each_source_has_a_rate_of_its_own() {
        let (mut frequency, start) = (frequency(), Instant::now());
        let rate = Rate::new(2, Per::Second, 2).unwrap();
        let half = Duration::from_millis(500);
        let later = start + half;
        let steps = [
            (1, v4(7), start, Ok(())),
            (1, v4(7), start, Ok(())),
            (1, v4(7), start, Err(later)),
            (1, v4(8), start, Ok(())),
            (2, v4(7), start, Ok(())),
            (1, v4(7), later, Ok(())),
            (1, v4(7), later, Err(later + half)),
            (1, v6(1), start, Ok(())),
            (1, v6(2), start, Ok(())),
            // The same /64.
            (1, v6(3), start, Err(later)),
            (1, v6(3 << 64), start, Ok(())),
            (1, Source::User(7), start, Ok(())),
        ];
        for (number, (service, source, at, expected)) in steps.into_iter().enumerate() {
            assert_eq!(frequency.is_spent(service, source, rate, at), expected.is_err(), "step {number}");
            assert_eq!(frequency.allow(service, source, rate, at), expected, "step {number}");
        }
    }

    #[test]
    fn a_faster_rate_holds_at_once() {
        let (mut frequency, start) = (frequency(), Instant::now());
        let (slow, fast) = (Rate::new(1, Per::Hour, 1).unwrap(), Rate::new(1, Per::Second, 1).unwrap());
        assert_eq!(frequency.allow(1, v4(7), slow, start), Ok(()));
        let later = start + fast.interval();
        assert_eq!(frequency.allow(1, v4(7), fast, start), Err(later));
        assert_eq!(frequency.allow(1, v4(7), fast, later), Ok(()));
    }

    #[test]
    fn sources_without_a_place_share_what_a_few_sources_may() {
        let (mut frequency, start) = (frequency(), Instant::now());
        let rate = Rate::new(3, Per::Minute, 3).unwrap();
        let million: Vec<_> =
            (0..1_000_000).filter(|n| frequency.allow(1, v4(*n), rate, start).is_ok()).collect();
        assert_eq!(million.len(), CAPACITY + 3 * SHARES);
        // Who has a place has its own allowance, and another service shares its own.
        assert!(frequency.allow(1, v4(0), rate, start).is_ok());
        let others = (0..1000).filter(|n| frequency.allow(2, v4(*n), rate, start).is_ok()).count();
        assert_eq!(others, 3 * SHARES);
        assert!(frequency.table.memory() <= 32 * CAPACITY);
        // When their time is over all have room again.
        let later = start + Duration::from_mins(1);
        let served = (0..1000).filter(|n| frequency.allow(2, v4(*n), rate, later).is_ok()).count();
        assert_eq!(served, 1000);
    }
}
