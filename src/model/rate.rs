//! How often something may happen, and how busy the machine may be: `20/s burst 40`, `7.5`.
//!
//! Knows no clock and no count: those are `service`'s.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most that a rate may count, and the largest burst.
pub const MAX_COUNT: u32 = 1_000_000;

/// So many in a time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    count: u32,
    per: Per,
    burst: u32,
}

/// The time that a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// `/s`
    Second,
    /// `/min`
    Minute,
    /// `/h`
    Hour,
}

impl Per {
    /// Every one, with its word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("s", Self::Second), ("min", Self::Minute), ("h", Self::Hour)];

    fn time(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
        }
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, per)| *per == self).map_or("", |(word, _)| word)
    }
}

impl Rate {
    /// `None` unless both numbers are from 1 to [`MAX_COUNT`]: then no time that is made of them overflows.
    pub fn new(count: u32, per: Per, burst: u32) -> Option<Self> {
        let fits = |number: u32| (1..=MAX_COUNT).contains(&number);
        (fits(count) && fits(burst)).then_some(Self { count, per, burst })
    }

    /// From one to the next, where they come evenly.
    pub fn interval(self) -> Duration {
        self.per.time() / self.count
    }

    /// How long it takes to earn a whole burst again.
    pub fn allowance(self) -> Duration {
        self.interval() * self.burst
    }
}

impl Rate {
    /// As one word, `20/s/40`: for messages between superd's processes.
    pub fn word(self) -> String {
        format!("{}/{}/{}", self.count, self.per.word(), self.burst)
    }

    /// Reads what [`Rate::word`] wrote.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut parts = word.split('/');
        let (count, per, burst) = (parts.next()?, parts.next()?, parts.next()?);
        let (_, per) = Per::WORDS.into_iter().find(|(word, _)| *word == per)?;
        let rate = Self::new(count.parse().ok()?, per, burst.parse().ok()?)?;
        // One text for each rate: no sign, no zero in front, nothing behind.
        (rate.word() == word).then_some(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per.word())?;
        if self.burst == self.count { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

/// A load average (getloadavg(3)), in hundredths, as the kernel writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LoadAverage(u32);

impl LoadAverage {
    /// Reads `7.5`: a number with at most two digits after the point.
    pub fn new(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return None;
        }
        let fraction: u32 = format!("{fraction:0<2}").parse().ok()?;
        whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(fraction).map(Self)
    }

    /// That of the last minute, from the text of /proc/loadavg.
    pub fn of_last_minute(proc_loadavg: &str) -> Option<Self> {
        Self::new(proc_loadavg.split_whitespace().next()?)
    }
}

impl fmt::Display for LoadAverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_times() {
        check(20, Per::Second, 40, "20/s burst 40", 50, 2000);
        check(6, Per::Minute, 6, "6/min", 10_000, 60_000);
        check(1, Per::Hour, 2, "1/h burst 2", 3_600_000, 7_200_000);
        for (count, burst) in [(0, 1), (1, 0), (MAX_COUNT + 1, 1), (1, MAX_COUNT + 1)] {
            assert_eq!(Rate::new(count, Per::Second, burst), None, "{count} burst {burst}");
        }
        let widest = Rate::new(1, Per::Hour, MAX_COUNT).unwrap();
        assert_eq!(widest.allowance(), Duration::from_hours(1_000_000));
    }

    #[track_caller]
    fn check(count: u32, per: Per, burst: u32, text: &str, interval: u128, allowance: u128) {
        let rate = Rate::new(count, per, burst).unwrap();
        assert_eq!(rate.to_string(), text);
        assert_eq!((rate.interval().as_millis(), rate.allowance().as_millis()), (interval, allowance));
    }

    #[test]
    fn loads_are_hundredths() {
        for (text, expected) in [
            ("0.52 0.40 0.33 2/512 4711\n", Some("0.52")),
            ("12.00 1.00 1.00 1/1 1", Some("12.00")),
            ("8", Some("8.00")),
            ("7.5", Some("7.50")),
            ("7.505", None),
            ("-1", None),
            ("1e3", None),
            ("nan", None),
            (".5", None),
            ("99999999999", None),
            ("", None),
        ] {
            let load = LoadAverage::of_last_minute(text).map(|load| load.to_string());
            assert_eq!(load.as_deref(), expected, "{text}");
        }
        assert!(LoadAverage::new("7.5") < LoadAverage::new("12.0"));
    }
}
