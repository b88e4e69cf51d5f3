//! Named times: is a moment inside of them, and when does that change next? The zone is a value; what its rules
//! are, and what time it is, others find out.
//!
//! The clock on the wall decides: an hour that is skipped when summer time begins never comes, one that is
//! repeated when it ends comes twice.

use std::time::SystemTime;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::model::window::{DAY, Window};

/// How far ahead a change is looked for: a weekly window can miss a week, where its hour is skipped.
const DAYS_AHEAD: i64 = 15;

/// Windows of the week, in a zone.
#[derive(Debug, Clone)]
pub struct Hours {
    windows: Vec<Window>,
    zone: TimeZone,
}

impl Hours {
    /// Inside of any window is inside.
    pub fn new(windows: Vec<Window>, zone: TimeZone) -> Self {
        Self { windows, zone }
    }

    /// Is the moment inside? `None` where the calendar does not reach.
    pub fn is_inside(&self, moment: SystemTime) -> Option<bool> {
        Timestamp::try_from(moment).ok().map(|moment| self.holds(moment))
    }

    /// When inside ends, or begins, after this moment; `None` where it does not, or only after more than two
    /// weeks.
    pub fn next_change(&self, after: SystemTime) -> Option<SystemTime> {
        let after = Timestamp::try_from(after).ok()?;
        let now = self.holds(after);
        let mut moments = self.moments(after);
        moments.retain(|moment| *moment > after);
        moments.sort_unstable();
        moments.into_iter().find(|moment| self.holds(*moment) != now).map(SystemTime::from)
    }

    fn holds(&self, moment: Timestamp) -> bool {
        let local = self.zone.to_datetime(moment);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = local.weekday().to_monday_zero_offset().unsigned_abs();
        let yesterday = (today + 6) % 7;
        self.windows.iter().any(|window| {
            if window.is_over_midnight() {
                let evening = window.is_on(today) && minute >= window.start();
                evening || (window.is_on(yesterday) && minute < window.end())
            } else {
                window.is_on(today) && (window.start()..window.end()).contains(&minute)
            }
        })
    }

    /// Every moment at which something may change: the clock shows a bound of a window, or it jumps.
    fn moments(&self, after: Timestamp) -> Vec<Timestamp> {
        let mut moments = Vec::new();
        let today = self.zone.to_datetime(after).date();
        for day in 0..=DAYS_AHEAD {
            let Ok(date) = today.checked_add(day.days()) else { break };
            for window in &self.windows {
                self.shows(date, window.start(), &mut moments);
                self.shows(date, window.end() % DAY, &mut moments);
            }
        }
        if let Some(last) = moments.iter().max().copied() {
            let jumps = self.zone.following(after).map(|jump| jump.timestamp());
            moments.extend(jumps.take_while(|jump| *jump <= last));
        }
        moments
    }

    /// The moments at which the clock shows this: one, two, or none.
    fn shows(&self, date: Date, minute: u16, moments: &mut Vec<Timestamp>) {
        let part = |number: u16| i8::try_from(number).unwrap_or(0);
        let Ok(time) = Time::new(part(minute / 60), part(minute % 60), 0, 0) else { return };
        let local = DateTime::from_parts(date, time);
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => moments.extend(offset.to_timestamp(local)),
            AmbiguousOffset::Fold { before, after } => {
                moments.extend(before.to_timestamp(local));
                moments.extend(after.to_timestamp(local));
            }
            AmbiguousOffset::Gap { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(windows: &[&str], zone: &str) -> Hours {
        let windows = windows.iter().map(|window| window.parse().unwrap()).collect();
        Hours::new(windows, TimeZone::get(zone).unwrap())
    }

    /// A moment of the past is told by its offset: `2026-03-29T01:30+01`.
    fn moment(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    /// 2026-11-20 is a Friday.
    #[test]
    fn moments_are_inside_or_not() {
        for (windows, moment, expected) in [
            (&["Mon-Fri 08:00-18:00"][..], "2026-11-20T07:59:59", false),
            (&["Mon-Fri 08:00-18:00"], "2026-11-20T08:00:00", true),
            (&["Mon-Fri 08:00-18:00"], "2026-11-20T17:59:59", true),
            (&["Mon-Fri 08:00-18:00"], "2026-11-20T18:00:00", false),
            (&["Mon-Fri 08:00-18:00"], "2026-11-21T12:00:00", false),
            (&["22:00-06:00"], "2026-11-20T23:59:59", true),
            (&["22:00-06:00"], "2026-11-21T00:00:00", true),
            (&["22:00-06:00"], "2026-11-21T06:00:00", false),
            (&["Fri 22:00-06:00"], "2026-11-20T05:00:00", false),
            (&["Fri 22:00-06:00"], "2026-11-21T05:59:59", true),
            (&["Fri 22:00-06:00"], "2026-11-21T22:00:00", false),
            (&["Sun 22:00-06:00"], "2026-11-23T05:00:00", true),
            (&["Sat,Sun"], "2026-11-20T23:59:59", false),
            (&["Sat,Sun"], "2026-11-21T00:00:00", true),
            (&["Sat,Sun"], "2026-11-22T23:59:59", true),
            (&["Fri-Mon"], "2026-11-23T12:00:00", true),
            (&["Fri-Mon"], "2026-11-24T00:00:00", false),
            (&["18:00-24:00"], "2026-11-20T23:59:59", true),
            (&["18:00-24:00"], "2026-11-21T00:00:00", false),
            (&["08:00-09:00", "10:00-11:00"], "2026-11-20T10:30:00", true),
            (&[], "2026-11-20T10:30:00", false),
        ] {
            let at = self::moment(&format!("{moment}+01:00"));
            assert_eq!(hours(windows, "Europe/Warsaw").is_inside(at), Some(expected), "{windows:?} {moment}");
        }
    }

    #[test]
    fn changes_are_foretold() {
        check(
            "Europe/Warsaw",
            &["Mon-Fri 08:00-18:00"],
            "2026-11-20T12:00:00+01:00",
            "2026-11-20T18:00+01:00",
        );
        check(
            "Europe/Warsaw",
            &["Mon-Fri 08:00-18:00"],
            "2026-11-20T18:00:00+01:00",
            "2026-11-23T08:00+01:00",
        );
        check("Europe/Warsaw", &["22:00-06:00"], "2026-11-20T23:00:00.5+01:00", "2026-11-21T06:00+01:00");
        check(
            "Europe/Warsaw",
            &["Fri 22:00-24:00", "Sat 00:00-06:00"],
            "2026-11-20T23:00+01:00",
            "2026-11-21T06:00+01:00",
        );
        check("Asia/Kolkata", &["09:00-17:00"], "2026-11-20T09:00:00+05:30", "2026-11-20T17:00+05:30");
        check("UTC", &["Mon"], "2026-11-23T00:00:00Z", "2026-11-24T00:00Z");
        check("UTC", &["Mon 08:00-09:00"], "2026-11-23T09:00:00Z", "2026-11-30T08:00Z");
        for never in [&["00:00-24:00"][..], &["Mon-Fri", "Sat,Sun"], &[]] {
            assert_eq!(hours(never, "Europe/Warsaw").next_change(moment("2026-11-20T12:00Z")), None);
        }
    }

    /// Clocks go from 02:00 to 03:00 on 2026-03-29, and from 03:00 back to 02:00 on 2026-10-25.
    #[test]
    fn both_nights_of_warsaw() {
        let zone = "Europe/Warsaw";
        check(zone, &["22:00-06:00"], "2026-03-28T23:00:00+01:00", "2026-03-29T06:00:00+02:00");
        check(zone, &["02:30-04:00"], "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00");
        check(zone, &["01:00-02:30"], "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00");
        // Half an hour that is skipped does not come on that day.
        check(zone, &["02:15-02:45"], "2026-03-29T00:00:00+01:00", "2026-03-30T02:15:00+02:00");
        check(zone, &["Sun 02:15-02:45"], "2026-03-23T00:00:00+01:00", "2026-04-05T02:15:00+02:00");
        // And one that is repeated comes twice.
        check(zone, &["02:15-02:45"], "2026-10-25T00:00:00+02:00", "2026-10-25T02:15:00+02:00");
        check(zone, &["02:15-02:45"], "2026-10-25T02:15:00+02:00", "2026-10-25T02:45:00+02:00");
        check(zone, &["02:15-02:45"], "2026-10-25T02:45:00+02:00", "2026-10-25T02:15:00+01:00");
        check(zone, &["02:15-02:45"], "2026-10-25T02:15:00+01:00", "2026-10-25T02:45:00+01:00");
        check(zone, &["02:30-06:00"], "2026-10-25T02:59:59+02:00", "2026-10-25T02:00:00+01:00");
        check(zone, &["02:30-06:00"], "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00");
    }

    /// Clocks go from 02:00 to 03:00 on 2026-03-08, and from 02:00 back to 01:00 on 2026-11-01.
    #[test]
    fn both_nights_of_new_york() {
        let zone = "America/New_York";
        check(zone, &["22:00-06:00"], "2026-03-07T23:00:00-05:00", "2026-03-08T06:00:00-04:00");
        check(zone, &["02:30-04:00"], "2026-03-08T01:00:00-05:00", "2026-03-08T03:00:00-04:00");
        check(zone, &["00:00-01:30"], "2026-11-01T00:30:00-04:00", "2026-11-01T01:30:00-04:00");
        check(zone, &["00:00-01:30"], "2026-11-01T01:30:00-04:00", "2026-11-01T01:00:00-05:00");
        check(zone, &["00:00-01:30"], "2026-11-01T01:00:00-05:00", "2026-11-01T01:30:00-05:00");
    }

    #[track_caller]
    fn check(zone: &str, windows: &[&str], after: &str, expected: &str) {
        let hours = hours(windows, zone);
        let expected = moment(expected);
        assert_eq!(
            hours.next_change(moment(after)).map(|at| Timestamp::try_from(at).unwrap()),
            Some(Timestamp::try_from(expected).unwrap())
        );
        let before = expected - std::time::Duration::from_nanos(1);
        assert_ne!(hours.is_inside(before), hours.is_inside(expected));
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let hours = hours(&["22:00-06:00"], "Europe/Warsaw");
        let far = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(400_000_000_000);
        assert_eq!((hours.is_inside(far), hours.next_change(far)), (None, None));
        let last: SystemTime = Timestamp::MAX.into();
        assert!(hours.is_inside(last).is_some());
        let _ = hours.next_change(last);
    }
}
