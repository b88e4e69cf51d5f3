//! A bounded table of what is known of each source for a while.
//!
//! Strangers fill it, so it can't grow: an entry whose time is over is free, a source has its place in one of a
//! few entries beside each other, and where all of those are taken it gets none. Nothing is ever scanned, and no
//! timer empties it. The hash is keyed, so that nobody can choose sources that meet. Knows no limit and no clock.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::model::address::Source;

/// Entries in all.
pub const CAPACITY: usize = WAYS * GROUPS;

/// Entries that a source may have its place in.
const WAYS: usize = 16;

const GROUPS: usize = 4096;

/// The table; `V` is what is known of a source beside the end of its time.
#[derive(Debug)]
pub struct SourceTable<V, S = RandomState> {
    /// Each is made when it is first needed, and stays.
    groups: Vec<Option<Box<[Entry<V>; WAYS]>>>,
    hasher: S,
    /// What times are counted from, so that they take 8 bytes.
    origin: Option<Instant>,
}

/// A source at one service, by a number that means the service to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    service: u32,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
struct Entry<V> {
    key: Key,
    /// Nanoseconds from the origin; the entry is free from then on.
    end: u64,
    value: V,
}

/// A source's place in the table.
#[derive(Debug)]
pub struct Place<'t, V> {
    origin: Instant,
    end: &'t mut u64,
    /// What is known of it; as it was made, if nothing is.
    pub value: &'t mut V,
}

impl<V> Place<'_, V> {
    /// When its time is over; long ago for a source that was not known.
    pub fn end(&self) -> Instant {
        self.origin + Duration::from_nanos(*self.end)
    }

    /// It is known until then.
    pub fn keep_until(&mut self, end: Instant) {
        *self.end = nanoseconds(self.origin, end);
    }
}

impl<V: Copy + Default, S: BuildHasher> SourceTable<V, S> {
    /// Nothing is known.
    pub fn new(hasher: S) -> Self {
        Self { groups: Vec::new(), hasher, origin: None }
    }

    /// The place of a source: what is known of it, or a free entry; `None` if all that it could have are taken.
    pub fn place(&mut self, service: u32, source: Source, now: Instant) -> Option<Place<'_, V>> {
        let key = Key { service, source };
        let origin = *self.origin.get_or_insert(now);
        let time = nanoseconds(origin, now);
        if self.groups.is_empty() {
            self.groups.resize_with(GROUPS, || None);
        }
        let number = usize::try_from(self.hasher.hash_one(key) % GROUPS as u64).ok()?;
        let fresh = Entry { key, end: 0, value: V::default() };
        let group = self.groups.get_mut(number)?.get_or_insert_with(|| Box::new([fresh; WAYS]));
        let known = group.iter().position(|entry| entry.key == key && entry.end > time);
        let place = known.or_else(|| group.iter().position(|entry| entry.end <= time))?;
        let entry = group.get_mut(place)?;
        if known.is_none() {
            *entry = fresh;
        }
        Some(Place { origin, end: &mut entry.end, value: &mut entry.value })
    }

    /// Forgets what was counted of a source.
    pub fn forget(&mut self, service: u32, source: Source, now: Instant) {
        if let Some(place) = self.place(service, source, now) {
            *place.end = 0;
        }
    }

    /// One of so many, by a source's hash: for those that have no place.
    pub fn share(&self, source: Source, shares: usize) -> usize {
        // The upper half: the lower one has chosen the group.
        let hash = self.hasher.hash_one(source) >> 32;
        usize::try_from(hash).unwrap_or(0) % shares.max(1)
    }

    /// The memory of its entries, in bytes.
    pub fn memory(&self) -> usize {
        self.groups.iter().flatten().count() * size_of::<[Entry<V>; WAYS]>()
    }
}

fn nanoseconds(origin: Instant, moment: Instant) -> u64 {
    u64::try_from(moment.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::SourcePrefix;
    use std::collections::hash_map::DefaultHasher;
    use std::hash::BuildHasherDefault;
    use std::net::Ipv4Addr;

    type Table = SourceTable<u32, BuildHasherDefault<DefaultHasher>>;

    fn source(number: u32) -> Source {
        Source::of_address(Ipv4Addr::from_bits(number).into(), SourcePrefix::default())
    }

    #[test]
    fn a_source_is_known_for_its_time() {
        let (mut table, start) = (Table::new(BuildHasherDefault::default()), Instant::now());
        let second = Duration::from_secs(1);
        let mut place = table.place(1, source(7), start).unwrap();
        *place.value = 5;
        place.keep_until(start + second);
        assert_eq!(place.end(), start + second);
        let value = |table: &mut Table, service, number, at| {
            table.place(service, source(number), at).map(|place| *place.value)
        };
        assert_eq!(value(&mut table, 1, 7, start), Some(5));
        assert_eq!(value(&mut table, 2, 7, start), Some(0));
        assert_eq!(value(&mut table, 1, 8, start), Some(0));
        assert_eq!(value(&mut table, 1, 7, start + second), Some(0));
    }

    #[test]
    fn a_forgotten_source_is_not_known() {
        let (mut table, start) = (Table::new(BuildHasherDefault::default()), Instant::now());
        let mut place = table.place(1, source(7), start).unwrap();
        *place.value = 5;
        place.keep_until(start + Duration::from_secs(1));
        table.forget(1, source(7), start);
        assert_eq!(table.place(1, source(7), start).map(|place| *place.value), Some(0));
    }

    #[test]
    fn a_million_sources_take_no_more_memory_than_it_has() {
        let (mut table, start) = (Table::new(BuildHasherDefault::default()), Instant::now());
        let most = CAPACITY * size_of::<Entry<u32>>();
        let mut placed = 0_usize;
        for number in 0..1_000_000 {
            if let Some(mut place) = table.place(1, source(number), start) {
                place.keep_until(start + Duration::from_secs(1));
                placed += 1;
            }
        }
        assert_eq!((placed, table.memory()), (CAPACITY, most));
        for number in 0..1_000_000 {
            assert!(table.place(1, source(number), start + Duration::from_secs(1)).is_some());
        }
        assert_eq!(table.memory(), most);
    }

    #[test]
    fn an_entry_of_a_rate_is_small() {
        assert!(size_of::<Entry<()>>() <= 32, "{}", size_of::<Entry<()>>());
    }
}
