//! How often clients come, where what is counted has to outlive those who count: buckets of stamps, as they lie in
//! superwrap's state file. Knows bytes, and no file.
//!
//! A stamp is the moment at which the next one would come if all had come evenly (GCRA, as [`super::rate`] has it),
//! in nanoseconds since 1970: one that lies behind says nothing, and its place is free. Each is written in one piece:
//! whoever dies in the middle loses no more than his own count. A clock that is set back makes nobody wait longer
//! than a whole burst takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::rate::Rate;

/// Bytes of an entry: a key and a stamp.
pub const ENTRY: usize = 16;

/// Entries of a bucket; the last is shared by those that find no place.
const ENTRIES: usize = 8;

/// Bytes of a bucket.
pub const BUCKET: usize = ENTRY * ENTRIES;

/// The key of the entry that is shared.
const SHARED: u64 = u64::MAX;

/// A bucket, read from a file that may hold anything.
#[derive(Debug, Clone)]
pub struct Bucket([u8; BUCKET]);

/// What to write, and where in its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The first byte.
    pub at: usize,
    /// Its bytes.
    pub bytes: [u8; ENTRY],
}

impl From<[u8; BUCKET]> for Bucket {
    fn from(bytes: [u8; BUCKET]) -> Self {
        Self(bytes)
    }
}

impl Bucket {
    /// One more of this key: what to write then. `None`: it comes too often.
    pub fn count(&self, key: u64, rate: Rate, now: SystemTime) -> Option<Entry> {
        let key = plain(key);
        let now = nanoseconds(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let (place, key, stamp) = self.place(key, now);
        let stamp = step(stamp, rate, now)?;
        let mut bytes = [0; ENTRY];
        let (first, second) = bytes.split_at_mut(ENTRY / 2);
        first.copy_from_slice(&key.to_le_bytes());
        second.copy_from_slice(&stamp.to_le_bytes());
        Some(Entry { at: place * ENTRY, bytes })
    }

    /// The key's own entry, else a free one, else that which is shared.
    fn place(&self, key: u64, now: u64) -> (usize, u64, u64) {
        let own = |(_, owner, _): &(usize, u64, u64)| *owner == key;
        let free = |(_, _, stamp): &(usize, u64, u64)| *stamp <= now;
        let entries = || self.entries().take(ENTRIES - 1);
        let last = self.entries().nth(ENTRIES - 1).map_or(0, |(_, _, stamp)| stamp);
        entries().find(own).or_else(|| entries().find(free).map(|(place, ..)| (place, key, 0))).unwrap_or((
            ENTRIES - 1,
            SHARED,
            last,
        ))
    }

    fn entries(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let (entries, _) = self.0.as_chunks::<ENTRY>();
        entries.iter().enumerate().map(|(place, entry)| {
            let (words, _) = entry.as_chunks::<8>();
            let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
            (place, word(0), word(1))
        })
    }
}

/// 0 is an entry that was never written, the last one is shared.
fn plain(key: u64) -> u64 {
    key.clamp(1, SHARED - 1)
}

/// The stamp after one more; `None`: there is no room for it yet.
fn step(stamp: u64, rate: Rate, now: u64) -> Option<u64> {
    let latest = now.saturating_add(nanoseconds(rate.allowance()));
    let after = stamp.min(latest).max(now).saturating_add(nanoseconds(rate.interval()));
    (after <= latest).then_some(after)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rate::Per;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    /// A bucket that is written as a file would be.
    struct Kept(Bucket);

    impl Kept {
        fn new() -> Self {
            Self(Bucket([0; BUCKET]))
        }

        fn allows(&mut self, key: u64, rate: Rate, now: SystemTime) -> bool {
            let Some(entry) = self.0.count(key, rate, now) else { return false };
            self.0.0[entry.at..entry.at + ENTRY].copy_from_slice(&entry.bytes);
            true
        }
    }

    #[test]
    fn a_burst_is_earned_again_with_time() {
        let rate = Rate::new(1, Per::Minute, 3).unwrap();
        let mut kept = Kept::new();
        for (second, allowed) in [
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (59, false),
            (60, true),
            (60, false),
            (120, true),
            (1000, true),
            (1000, true),
            (1000, true),
            (1000, false),
        ] {
            assert_eq!(kept.allows(7, rate, at(second)), allowed, "{second}");
        }
        assert!(kept.allows(8, rate, at(1000)), "another one has its own");
    }

    #[test]
    fn a_clock_that_goes_back_costs_no_more_than_a_burst() {
        let rate = Rate::new(1, Per::Second, 5).unwrap();
        let mut kept = Kept::new();
        assert!(kept.allows(7, rate, at(100_000)));
        assert!(!kept.allows(7, rate, at(0)));
        // What lies ahead by more than a burst counts as one burst from now on.
        assert!(!kept.allows(7, rate, at(10)));
        kept.0.0[8..16]
            .copy_from_slice(&nanoseconds(at(3).duration_since(UNIX_EPOCH).unwrap()).to_le_bytes());
        assert!(kept.allows(7, rate, at(0)));
    }

    #[test]
    fn who_finds_no_place_shares_one() {
        let rate = Rate::new(1, Per::Hour, 1).unwrap();
        let mut kept = Kept::new();
        let allowed = (1..=20).filter(|key| kept.allows(*key, rate, at(0))).count();
        assert_eq!(allowed, ENTRIES);
        assert!(kept.allows(30, rate, at(3600)), "places whose time is over are free");
    }

    #[test]
    fn no_bytes_lock_anybody_out_for_longer_than_a_burst_takes() {
        let rate = Rate::new(1, Per::Second, 2).unwrap();
        let mut kept = Kept(Bucket([0xff; BUCKET]));
        assert!(!kept.allows(u64::MAX, rate, at(0)));
        let mut kept = Kept(Bucket([0xfe; BUCKET]));
        for key in [0, 1, u64::MAX] {
            let _ = kept.allows(key, rate, at(0));
        }
    }
}
