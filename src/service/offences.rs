//! How often a source gave offence lately: what a ban is made of.
//!
//! Counted from its first offence on, for as long as the service looks back; then from the next one. A source that
//! comes just below the line for ever is none that the admin wanted banned. Bounded: of more sources than there is
//! room for the latest are not counted, and their limits refuse them all the same.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::model::address::Source;

use super::sources::SourceTable;

/// The counts of all services.
#[derive(Debug)]
pub struct Offences<S = RandomState> {
    table: SourceTable<u32, S>,
}

impl<S: BuildHasher> Offences<S> {
    /// Nobody gave any.
    pub fn new(hasher: S) -> Self {
        Self { table: SourceTable::new(hasher) }
    }

    /// Counts one. `true`: that makes `after` of them `within` this time, and they are counted afresh.
    pub fn note(&mut self, service: u32, source: Source, after: u32, within: Duration, now: Instant) -> bool {
        let Some(mut place) = self.table.place(service, source, now) else { return after <= 1 };
        if *place.value == 0 {
            place.keep_until(now + within);
        }
        *place.value += 1;
        let enough = *place.value >= after;
        if enough {
            place.keep_until(now);
        }
        enough
    }

    /// Its offences are forgiven.
    pub fn forgive(&mut self, service: u32, source: Source, now: Instant) {
        self.table.forget(service, source, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::hash_map::DefaultHasher;
    use std::hash::BuildHasherDefault;

    const MINUTE: Duration = Duration::from_mins(1);

    #[track_caller]
    fn check(after: u32, steps: &[(u64, u32, bool)]) {
        let mut offences: Offences<BuildHasherDefault<DefaultHasher>> =
            Offences::new(BuildHasherDefault::default());
        let start = Instant::now();
        for (number, (second, uid, enough)) in steps.iter().enumerate() {
            let now = start + Duration::from_secs(*second);
            assert_eq!(offences.note(1, Source::User(*uid), after, MINUTE, now), *enough, "step {number}");
        }
    }

    #[test]
    fn offences_are_counted_from_the_first_on() {
        check(3, &[(0, 7, false), (10, 7, false), (59, 7, true)]);
        check(3, &[(0, 7, false), (10, 7, false), (60, 7, false), (61, 7, false), (119, 7, true)]);
        check(1, &[(0, 7, true), (0, 7, true)]);
    }

    #[test]
    fn after_a_ban_they_are_counted_afresh() {
        check(2, &[(0, 7, false), (1, 7, true), (2, 7, false), (3, 7, true)]);
    }

    #[test]
    fn each_source_is_counted_for_itself() {
        check(2, &[(0, 7, false), (0, 8, false), (1, 7, true), (2, 8, true)]);
    }

    #[test]
    fn the_forgiven_begin_again() {
        let mut offences: Offences<BuildHasherDefault<DefaultHasher>> =
            Offences::new(BuildHasherDefault::default());
        let (now, source) = (Instant::now(), Source::User(7));
        assert!(!offences.note(1, source, 2, MINUTE, now));
        offences.forgive(1, source, now);
        assert!(!offences.note(1, source, 2, MINUTE, now));
        assert!(offences.note(1, source, 2, MINUTE, now));
    }
}
